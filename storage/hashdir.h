/* hashdir.h - the table of the keydir: hash to entry, in the order of the hash.
 *
 * The position of a key is the upper 32 bits of its hash, and bucket i of n holds the positions
 * whose product with n lies in [i, i + 1) * 2^32: buckets are in the order of the hash for any
 * n, not only for powers of two. Growing therefore is one walk from the lowest position to the
 * highest: below a boundary everything is in the new table, from there on in the old one. Each
 * insertion moves a few buckets; segments of the old table are freed as the boundary passes
 * them, and those of the new table are allocated as it reaches them, so that no step costs more
 * than one segment, and at any time there is only as much table as the entries need.
 *
 * A bucket is one cache line of 10 slots. A slot is a reference (slab.h) and the lower 16 bits of the
 * position (the tag). From 65536 buckets on, bucket and tag together give back the whole position, so
 * moving a bucket reads no entry. What does not fit into a bucket is in further buckets of half a
 * line, of which each is linked to the next. Slots in use come first, then zeros.
 *
 * The table grows by a third whenever a bucket has 8 entries on average. So it takes 8.7 to 10.9 bytes
 * an entry. */
#ifndef KV_STORAGE_HASHDIR_H
#define KV_STORAGE_HASHDIR_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/keydir.h"
#include "storage/slab.h"

#define HASHDIR_SLOTS 10u
#define HASHDIR_FURTHER_SLOTS 4u
#define HASHDIR_SEGMENT_BUCKETS 512u /* 32 KiB */
#define HASHDIR_BUCKETS_MIN 8u
#define HASHDIR_LOAD_MAX 8u     /* entries per bucket, on average, before the table grows */
#define HASHDIR_MOVE_BUCKETS 2u /* moved by each insertion while the table grows */
#define HASHDIR_CURSOR_BITS 48u /* of a position in a scan; the lower 16 of ours are zero */

struct hashdir_bucket {
    uint32_t ref[HASHDIR_SLOTS]; /* 0: empty. */
    uint16_t tag[HASHDIR_SLOTS];
    uint32_t further; /* Reference of the first further bucket; 0: none. */
};

struct hashdir_further {
    uint32_t ref[HASHDIR_FURTHER_SLOTS];
    uint16_t tag[HASHDIR_FURTHER_SLOTS];
    uint32_t further;
    uint32_t unused;
};

struct hashdir_segment {
    struct hashdir_bucket *buckets; /* Aligned to a cache line within @memory. */
    void *memory;
};

struct hashdir_table {
    struct hashdir_segment *segments; /* NULL: there is no such table. */
    uint64_t bucket_count;
    uint64_t segments_ready; /* Allocated ones are [segments_freed, segments_ready). */
    uint64_t segments_freed;
};

struct hashdir {
    struct slab *slab; /* Of the entries; further buckets are in it, too. */
    uint64_t seed;
    uint64_t count;         /* Entries. */
    uint64_t memory;        /* Bytes of tables, without further buckets. */
    uint64_t further_count; /* Further buckets. */
    struct hashdir_table table;
    struct hashdir_table old; /* While growing only: what the boundary has not passed. */
    uint64_t old_moved;       /* Buckets of @old that were moved: the boundary. */
};

void hashdir_init(struct hashdir *dir, struct slab *slab, uint64_t seed);
/* Frees the tables. Entries and further buckets stay in the slab, which is to be closed as well. */
void hashdir_close(struct hashdir *dir);

/* The same in slices of @count segments, for one that is not used any more: false at the end. */
bool hashdir_close_some(struct hashdir *dir, uint32_t count);

uint64_t hashdir_hash(const struct hashdir *dir, struct slice key);

/* The slot that holds @key, or NULL: it holds the entry's reference. Valid until the next insertion or removal. */
uint32_t *hashdir_find(const struct hashdir *dir, uint64_t hash, struct slice key);
/* Begins to load what hashdir_find will read for each of @hashes. Changes nothing. */
void hashdir_warm(const struct hashdir *dir, const uint64_t *hashes, uint32_t count);
/* The key of the entry @ref must not be there. */
void hashdir_insert(struct hashdir *dir, uint64_t hash, uint32_t ref);
/* @slot comes from hashdir_find with the same @hash. */
void hashdir_remove(struct hashdir *dir, uint64_t hash, const uint32_t *slot);

/* As keydir_scan; ends early when it has passed so many buckets, most of which must be empty then. */
#define HASHDIR_SCAN_BUCKETS 2048u
uint64_t hashdir_scan(const struct hashdir *dir, uint64_t cursor, uint64_t count,
                      void (*visit)(void *context, const struct keydir_entry *entry),
                      void *context);
/* Writes the references of all entries to @refs, which has room for @count of them, in rising order: the one in
 * which reading the entries is fastest. */
void hashdir_list(const struct hashdir *dir, uint32_t *refs);
/* Picks a slot by chance: NULL when it is empty. */
struct keydir_entry *hashdir_sample(const struct hashdir *dir, uint64_t random);

/* Verifies buckets, tags, the boundary and the counts. For tests. */
void hashdir_check(const struct hashdir *dir);

#endif
