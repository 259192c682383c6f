/* shelf.h - every file of a replica that holds effects: what it is, how much of it lives, who needs it.
 *
 * The log has the segments, with their handles, until compaction takes them out of it; the shelf knows of
 * all files, by number, and has the handles of tables and of what was taken out. Of each file it counts
 * the bytes that still matter: puts that the keydir points at, and changes of an expiry that are in
 * force and lie in another file than their put. The count decides what is worth compacting and
 * is a little off at times; a start computes it anew. */
#ifndef KV_STORAGE_SHELF_H
#define KV_STORAGE_SHELF_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/disk.h"
#include "storage/keydir.h"
#include "storage/log.h"

enum shelf_state {
    SHELF_GROWING, /* A segment that is not sealed: first and last index are those applied so far. */
    SHELF_SEALED,  /* In the manifest. */
    SHELF_MAKING,  /* A table that is being written. */
    SHELF_RETIRED, /* No longer in the manifest; removed when nobody needs it. */
};

struct shelf_file {
    struct log_file file;
    enum shelf_state state;
    disk_file handle;       /* of a table or a retired file; -1: the log has it */
    uint64_t size;          /* allocated bytes, of files whose handle is here */
    uint64_t hint_size;     /* 0: not known */
    uint64_t items;         /* effects in it, as its hint says */
    uint64_t live;          /* bytes of effects that matter */
    uint64_t deletes;       /* bytes of deletes and flushes, which may matter to older files */
    bool deletes_are_exact; /* Each of them hides something in an older file, as those are now. */
    bool is_blocked;        /* Something in it could not be read or verified: not compacted. */
    uint32_t hint_failures; /* times that its hint could not be read for compaction */
    bool wants_trim;        /* More is allocated than used. */
    bool is_read_only;      /* So is its handle: another one is needed for that. */
    uint32_t readers;       /* submitted reads */
    bool was_sealed;        /* It is or was in a manifest. */
    uint64_t retired;       /* count of retirements when it was retired, */
    uint64_t retired_index; /* and the last entry applied then */
    bool
        is_held; /* What died lately may lie in it, and may be asked for as long as the log tells of it. */
};

struct shelf {
    struct shelf_file **files; /* all, ordered by number */
    uint32_t count;
    uint32_t capacity;
    struct shelf_file **order; /* growing and sealed ones, ordered by their entries */
    uint32_t order_count;
    uint32_t order_capacity;
    struct shelf_file *recent; /* found last; NULL: none */
};

/* All zero is an empty shelf. Closes no handles. */
void shelf_close(struct shelf *shelf);
/* A new file, behind all others in the order of entries. Its number is not there yet: CHECK. Files of no entries
 * are in no order. */
struct shelf_file *shelf_add(struct shelf *shelf, const struct log_file *file);
/* NULL: no such file. */
struct shelf_file *shelf_find(struct shelf *shelf, uint32_t number);
/* The file that stands for entry @index; NULL: none. */
struct shelf_file *shelf_of_index(const struct shelf *shelf, uint64_t index);
/* A file that replaces others: in no order yet. */
struct shelf_file *shelf_add_aside(struct shelf *shelf, const struct log_file *file);
/* In the order of entries @table, unless NULL, takes the place of the files of @numbers, which are neighbours.
 * (Those of no entries are in no order.) */
void shelf_replace(struct shelf *shelf, const uint32_t *numbers, uint32_t count,
                   struct shelf_file *table);
/* Frees a file that is in no order. */
void shelf_drop(struct shelf *shelf, struct shelf_file *file);

/* ---- what lives ---------------------------------------------------------------------------------- */

static inline void shelf_live_add(struct shelf_file *file, uint64_t size)
{
    file->live += size;
}
static inline void shelf_live_take(struct shelf_file *file, uint64_t size)
{
    file->live -= size < file->live ? size : file->live;
}
/* A key of @key_size bytes changed, and @dead is what it was. */
void shelf_dead(struct shelf *shelf, const struct keydir_dead *dead, uint64_t key_size);
/* The expiry of a key whose put lies in @put_file got revision @revision by an effect in @file. */
void shelf_expiry(struct shelf *shelf, struct shelf_file *file, const struct keydir_info *before);
/* Every key is gone. */
void shelf_flush(struct shelf *shelf);
/* Bytes that matter in all files that count. */
uint64_t shelf_live(const struct shelf *shelf);

void shelf_check(const struct shelf *shelf);

#endif
