/* keydir.h - the index in memory: key to the place of its applied value, ordered.
 *
 * Two structures over the same entries: a hash table ordered by the upper bits of a seeded hash of the
 * key (point look-ups in one or two cache misses; SCAN walks it), and a B+-tree in key order
 * (ranges). A third, a B+-tree in the order (expiry, key), holds only the keys that expire.
 * The table grows step by step: no operation ever rehashes everything at once.
 * Values up to VALUE_INLINE_MAX bytes live in the entry; of longer ones it holds the place on disk.
 *
 * Not thread-safe. Pointers to entries are valid until the next put, expire, remove or clear. */
#ifndef KV_STORAGE_KEYDIR_H
#define KV_STORAGE_KEYDIR_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

/* Where on disk an effect (see effect.h) begins. */
struct place {
    uint32_t file;   /* Local number of the segment. */
    uint32_t offset; /* Bytes from its start. */
};

/* One key. Read it through the functions below: its layout is keydir.c's. */
struct keydir_entry;

struct keydir_info {
    struct slice key;   /* Borrows from the entry. */
    uint64_t revision;  /* Of the last change, expiry changes included. */
    uint64_t expiry_ms; /* 0: never. */
    uint32_t value_size;
    struct place place; /* Of the PUT that holds the value. */
    bool is_inline;
    struct slice inline_value; /* Borrows from the entry; empty when not inline. */
};

struct keydir; /* Opaque by size only: allocate with keydir_create. */

struct keydir *keydir_create(uint64_t hash_seed);
void keydir_destroy(struct keydir *keydir);

uint64_t keydir_count(const struct keydir *keydir);
uint64_t keydir_memory(const struct keydir *keydir);   /* bytes of all entries and structures */
uint64_t keydir_expiring(const struct keydir *keydir); /* keys that have an expiry */

const struct keydir_entry *keydir_find(const struct keydir *keydir, struct slice key);
struct keydir_info keydir_info(const struct keydir_entry *entry);
/* Begins to load what looking up each of @keys will read, at most KEYDIR_WARM_MAX of them: worth it before as
 * many look-ups or changes, whose cache misses then overlap. Changes nothing. */
#define KEYDIR_WARM_MAX 16u
void keydir_warm(const struct keydir *keydir, const struct slice *keys, uint32_t count);

/* Sets or replaces. @value is copied when it is inline; else only its size counts. */
void keydir_put(struct keydir *keydir, struct slice key, struct slice value, uint64_t revision,
                uint64_t expiry_ms, struct place place);
/* False when the key is not there. */
bool keydir_expire(struct keydir *keydir, struct slice key, uint64_t revision, uint64_t expiry_ms);
bool keydir_remove(struct keydir *keydir, struct slice key);
void keydir_clear(struct keydir *keydir);

/* In key order. @from is inclusive; an empty @from is the first key. NULL at the end. The cursor is a
 * plain value, void after any change to the keydir. */
struct keydir_cursor {
    const void *leaf;
    uint32_t slot;
};
const struct keydir_entry *keydir_seek(const struct keydir *keydir, struct slice from,
                                       struct keydir_cursor *cursor);
const struct keydir_entry *keydir_next(struct keydir_cursor *cursor);
/* The last entry before @before (exclusive; empty: the very last), and backwards from there. */
const struct keydir_entry *keydir_seek_last(const struct keydir *keydir, struct slice before,
                                            struct keydir_cursor *cursor);
const struct keydir_entry *keydir_previous(struct keydir_cursor *cursor);

/* In hash order, for SCAN: calls @visit for every entry whose hash position is at or above @cursor until
 * at least @count were visited or the end is reached. Returns the cursor to go on with; 0 at the end.
 * The cursor is a position in the space of hashes (at most 48 bits), not in memory: it stays valid
 * through any changes, growth, restarts, and on every node with the same seed. A key that is there
 * during a whole iteration is visited exactly once. */
uint64_t keydir_scan(const struct keydir *keydir, uint64_t cursor, uint64_t count,
                     void (*visit)(void *context, const struct keydir_entry *entry), void *context);

/* The entry with the smallest expiry if that is at or before @now_ms; then the following ones through
 * the cursor: NULL at the first that is later. */
const struct keydir_entry *keydir_expired(const struct keydir *keydir, uint64_t now_ms,
                                          struct keydir_cursor *cursor);
const struct keydir_entry *keydir_expired_next(struct keydir_cursor *cursor, uint64_t now_ms);
/* The smallest expiry of all keys; 0 when none expires. */
uint64_t keydir_expiry_first(const struct keydir *keydir);

/* A random entry, evenly enough for RANDOMKEY; NULL when empty. @random: any number. */
const struct keydir_entry *keydir_random(const struct keydir *keydir, uint64_t random);

/* Verifies the whole structure: order, counts, table against trees. For tests. */
void keydir_check(const struct keydir *keydir);

#endif
