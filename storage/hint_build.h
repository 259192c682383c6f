/* hint_build.h - the hint of a sealed segment or table from the file itself, which verifies all of it.
 *
 * Used when a hint is missing or damaged, and for every file that a peer sent. */
#ifndef KV_STORAGE_HINT_BUILD_H
#define KV_STORAGE_HINT_BUILD_H

#include "storage/effect.h"
#include "storage/hint.h"
#include "storage/log.h"

struct hint_source {
    struct disk *disk;
    disk_file handle;
    uint64_t cluster_id;
    uint16_t shard;
    const struct log_file *file; /* What the manifest says about it. */
};

/* What identifies the bytes that a hint was made for. */
struct hint_segment hint_build_segment(uint64_t cluster_id, const struct log_file *file);

/* Only whose file it is, and whether it is long enough. @size: its size. Errors as below. */
enum err hint_build_check(const struct hint_source *source, uint64_t *size, const char **wrong);
/* Reads the whole segment: its header, the chain of its groups up to the one that the manifest names,
 * its records and effects. On OK @hint is finished and the caller closes it. Else nothing is kept,
 * @wrong says what is wrong and @offset where.
 *   ERR_CORRUPT ERR_FOREIGN ERR_NEWER ERR_IO */
enum err hint_build(struct hint *hint, const struct hint_source *source, const char **wrong,
                    uint64_t *offset);

/* The same for bytes that come one after the other, from wherever: a file that is being received is verified on
 * its way. Needs the memory of one group and of the hint. */
struct hint_build {
    uint64_t cluster_id;
    uint16_t shard;
    struct log_file file;
    struct hint hint;
    uint64_t offset;      /* Up to here the file was read and is sound. */
    struct hash128 chain; /* Of the last group read. */
    struct buf bytes;     /* From @offset on: the beginning of a group. */
    const char *wrong;    /* What the error is about that feed or finish returned. */
    /* Entries of a segment may be void: cut by a later record of the same file, or by one in a later file. So the
     * hint's state before each entry is kept, to go back to. */
    uint64_t first_index; /* Of the entry that the first mark belongs to. */
    uint64_t count;       /* Entries that stand now. */
    struct buf marks;     /* struct hint_mark before each of them. */
};
void hint_build_open(struct hint_build *build,
                     const struct hint_source *source); /* no disk needed */
/* The next bytes of the file, from 0 to its used size. ERR_CORRUPT ERR_FOREIGN ERR_NEWER: close it. */
enum err hint_build_feed(struct hint_build *build, struct slice data);
/* All bytes were fed. OK: it is the file that the manifest names, and build->hint is finished. */
enum err hint_build_finish(struct hint_build *build);
void hint_build_close(struct hint_build *build);

/* Adds one effect at @offset of the file. */
void hint_build_effect(struct hint *hint, uint64_t revision, uint32_t offset,
                       const struct effect *effect);

#endif
