/* sim_image.h - what a virtual disk holds: files of sectors, some of them written and not yet synced.
 *
 * Used by sim_disk.c only; everybody else talks to the disk. */
#ifndef KV_TESTS_SIM_IMAGE_H
#define KV_TESTS_SIM_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

#define SIM_DISK_SECTOR_SIZE 512u
#define SIM_DISK_NAME_MAX 127u

/* The old content of a sector that was written and not yet synced. */
struct sim_sector {
    uint64_t number;
    uint8_t old[SIM_DISK_SECTOR_SIZE];
};

struct sim_file {
    char name[SIM_DISK_NAME_MAX + 1];
    bool is_linked;      /* false: removed or replaced, but still open, or not yet surely removed */
    bool is_removing;    /* removed, but the folder was not synced since: a power cut may undo it */
    uint32_t open_count; /* handles */
    uint8_t *data;       /* as the process sees it */
    uint64_t size;
    uint64_t size_durable;
    uint64_t used;     /* no byte at or behind it was ever written: all zeros */
    uint64_t capacity; /* of data */
    struct sim_sector *dirty;
    uint32_t dirty_count;
    uint32_t dirty_capacity;
    struct sim_file *twin; /* its copy, while survivors are chosen */
    struct sim_file *next; /* in the order of making */
};

struct sim_folder {
    char name[SIM_DISK_NAME_MAX + 1];
    struct sim_folder *next;
};

/* Everything that a disk holds. */
struct sim_image {
    struct sim_file *files;
    struct sim_folder *folders;
};

/* The file with this name, or NULL. */
struct sim_file *sim_image_find(const struct sim_image *image, const char *name);
struct sim_file *sim_image_add(struct sim_image *image, const char *name);
/* Gives @file the name @name in place of whatever had it. */
void sim_image_link(struct sim_image *image, struct sim_file *file, const char *name);
/* Frees files that no name and no handle leads to any more. */
void sim_image_sweep(struct sim_image *image);
void sim_image_copy(const struct sim_image *from, struct sim_image *to); /* fills @to */
void sim_image_close(struct sim_image *image);

/* Makes room for @size bytes; what is new is zeros. The size stays. */
void sim_image_grow(struct sim_file *file, uint64_t size);
/* Shortens a file; whether that lasts is the caller's to say. */
void sim_image_cut(struct sim_file *file, uint64_t size);
/* Writes within the sectors that @keep has marked; NULL: all of them. */
void sim_image_write(struct sim_file *file, uint64_t offset, struct slice data,
                     const uint8_t *keep);
void sim_image_synced(struct sim_file *file);

/* Bytes of @name that name its folder; 0: the root. */
uint64_t sim_image_folder_size(const char *name);
bool sim_image_has_folder(const struct sim_image *image, const char *name, uint64_t size);
/* The sync of the folder of @name makes what was removed from it before surely gone. */
void sim_image_folder_synced(struct sim_image *image, const char *name);

uint64_t sim_image_used(const struct sim_image *image); /* bytes, in whole blocks */
/* Appends the names of the files in @folder (NULL: of all, with their folders), in byte order. */
void sim_image_names(const struct sim_image *image, const char *folder, struct buf *names);

#endif
