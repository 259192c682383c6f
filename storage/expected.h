/* expected.h - which unsealed segments a start must find.
 *
 * Groups vouch for all groups before them, and the manifest for sealed files; nothing vouches for the newest segment:
 * if it vanished as a whole, the log would seem to end where the file before it ends. So the file `<folder>/expected`
 * names the segment that is made ahead and the newest one before it, and no group goes to a segment that is not named
 * there. It is written when a segment was made, long before that is needed: no group waits for it. Two copies, written
 * in turn, 4,096 bytes each (little-endian), in a file that has its full size from the start, so that it never meets a
 * full disk:
 *
 *    0  u64 magic             8  u32 format version (1), u32 zero    16  u64 number of the save, from 1
 *   24  u64 cluster id       32  u64 node id
 *   40  2 x { u32 number of a segment, 0: none   u32 zero   u64 file id }
 *   72  u64 checksum: XXH3-64 over bytes 0 .. 72      zeros to 4096
 *
 * The sound copy with the larger number counts. Without any, nothing is expected: directories of older programs have no
 * such file, and its loss alone loses nothing. A name is taken out, durably, before its file is removed. */
#ifndef KV_STORAGE_EXPECTED_H
#define KV_STORAGE_EXPECTED_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/disk.h"

#define EXPECTED_NAME "expected"
#define EXPECTED_NAME_SIZE 160u
#define EXPECTED_COPY_SIZE 4096u
#define EXPECTED_COPIES 2u
#define EXPECTED_MAGIC UINT64_C(0x544345505845564b) /* "KVEXPECT" */
#define EXPECTED_CHECKED_SIZE 72u                   /* bytes of a copy before the checksum */
#define EXPECTED_FILES 2u

struct expected_file {
    uint32_t number; /* 0: none */
    uint64_t file_id;
};

struct expected_note {
    uint64_t version; /* of the save; 0: nothing was saved yet */
    struct expected_file files[EXPECTED_FILES];
};

struct expected {
    struct disk *disk;
    disk_file file; /* -1: there is none yet */
    uint64_t cluster_id;
    uint64_t node_id;
    struct expected_note note; /* as on the disk, or being written there */
    bool is_pending;
    struct disk_op op;
    uint8_t copy[EXPECTED_COPY_SIZE]; /* of the write under way */
    char name[EXPECTED_NAME_SIZE];
};

/* Writes EXPECTED_COPY_SIZE bytes. */
void expected_encode(const struct expected_note *note, uint64_t cluster_id, uint64_t node_id,
                     uint8_t *copy);
/* The newest sound copy in the bytes of a file. ERR_NOT_FOUND: there is none. ERR_FOREIGN, ERR_NEWER: a sound one says
 * so. */
enum err expected_pick(struct slice file, uint64_t cluster_id, uint64_t node_id,
                       struct expected_note *note);

/* Keeps @disk. Nothing is read yet. */
void expected_init(struct expected *expected, struct disk *disk, const char *folder,
                   uint64_t cluster_id, uint64_t node_id);
void expected_close(struct expected *expected);
/* Reads what a start must find; changes nothing. ERR_FOREIGN, ERR_NEWER, errors of the disk. */
enum err expected_open(struct expected *expected);
/* Does it say just that? */
bool expected_is(const struct expected *expected, const struct expected_file *files);
/* Writes both copies, and makes the file if there is none; returns when they are durable. Errors of the disk. */
enum err expected_save(struct expected *expected, const struct expected_file *files);
/* Writes one copy in the background; then @done(@owner) is called. */
void expected_submit(struct expected *expected, const struct expected_file *files,
                     void (*done)(struct disk_op *op), void *owner);
/* For @done. OK, or ERR_NOSPACE: nothing counts on what was written. Any other error ends the process. */
enum err expected_written(struct expected *expected);

#endif
