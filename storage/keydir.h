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
    uint32_t file;   /* Local number of the segment or table. */
    uint32_t offset; /* Bytes from its start; a multiple of 8. */
};

enum keydir_flag {
    KEYDIR_COMPRESSED = 1, /* The stored bytes are not the value itself: never inline. */
};
#define KEYDIR_FLAGS 1u /* All of them. */

/* What a change made garbage: a put, as large as it lies on disk. */
struct keydir_dead {
    uint32_t file;
    uint32_t size;     /* 0: nothing. */
    uint64_t revision; /* The key's until then. */
};

/* One key. Read it through the functions below: its layout is keydir.c's. */
struct keydir_entry;

struct keydir_info {
    struct slice key;    /* Borrows from the entry. */
    uint64_t revision;   /* Of the last change, expiry changes included. */
    uint64_t expiry_ms;  /* 0: never. */
    uint32_t value_size; /* As stored. */
    struct place place;  /* Of the PUT that holds the value. */
    bool is_compressed;
    bool is_inline;
    struct slice inline_value; /* Borrows from the entry; empty when not inline. */
};

struct slab;
struct keydir; /* Opaque by size only: allocate with keydir_create. */

struct keydir *keydir_create(uint64_t hash_seed);
void keydir_destroy(struct keydir *keydir);

uint64_t keydir_count(const struct keydir *keydir);
/* Without the server's own (reserved.h). */
uint64_t keydir_visible(const struct keydir *keydir);
/* Those, and the bytes of their values as stored. */
struct keydir_reserved {
    uint64_t count;
    uint64_t size;
};
struct keydir_reserved keydir_reserved(const struct keydir *keydir);
uint64_t keydir_memory(const struct keydir *keydir); /* bytes of all entries and structures */
/* The same without what removed entries left behind, which others take again. */
uint64_t keydir_used(const struct keydir *keydir);
/* No key should be added: it takes @max bytes (0: any number), or half as much again with what removed entries
 * left behind, or it is near the most that it can ever take (slab.h). */
bool keydir_full(const struct keydir *keydir, uint64_t max);
/* Bytes of memory that a key and a value of these sizes take. */
uint64_t keydir_cost(const struct keydir *keydir, uint64_t key_size, uint64_t value_size,
                     bool has_expiry);
uint64_t keydir_expiring(const struct keydir *keydir); /* keys that have an expiry */

const struct keydir_entry *keydir_find(const struct keydir *keydir, struct slice key);
struct keydir_info keydir_info(const struct keydir_entry *entry);
/* Begins to load what looking up each of @keys will read, at most KEYDIR_WARM_MAX of them: worth it before as
 * many look-ups or changes, whose cache misses then overlap. Changes nothing. */
#define KEYDIR_WARM_MAX 16u
void keydir_warm(const struct keydir *keydir, const struct slice *keys, uint32_t count);

/* Sets or replaces. @value is as stored; it is copied when it is inline, else only its size counts. @flags:
 * enum keydir_flag. @dead, unless NULL, receives what thereby became garbage. */
void keydir_put(struct keydir *keydir, struct slice key, struct slice value, uint32_t flags,
                uint64_t revision, uint64_t expiry_ms, struct place place,
                struct keydir_dead *dead);
/* False when the key is not there. The put that holds the value stays where it is. */
bool keydir_expire(struct keydir *keydir, struct slice key, uint64_t revision, uint64_t expiry_ms);
/* False when the key is not there. */
bool keydir_remove(struct keydir *keydir, struct slice key, struct keydir_dead *dead);
/* In constant time: what the keys took is given back by keydir_bury(), or by destroying. */
void keydir_clear(struct keydir *keydir);
/* Gives back some of it, @steps of at most about 0.1 ms each. True: there is more. */
bool keydir_bury(struct keydir *keydir, uint32_t steps);
/* The put of @key now lies at @to as well: lets the entry say so if it still says @from. */
bool keydir_move(struct keydir *keydir, struct slice key, struct place from, struct place to);
/* Bytes that the put of an entry takes on disk. */
uint64_t keydir_size_on_disk(const struct keydir_info *info);

/* Between begin and end the ordered structures are not kept, so that loading many keys is fast; the end builds
 * them. Until then only keydir_find, keydir_warm, changes and the counts may be used. */
void keydir_bulk_begin(struct keydir *keydir);
void keydir_bulk_end(struct keydir *keydir);

/* The state hash: the sum, modulo 2^64, of a hash of each entry: key, revision, expiry, stored size, flags and
 * inline value, but not the place. Kept up to date by every change, so reading it costs nothing. The same
 * keys have the same sum on every node, in every version. */
uint64_t keydir_hash(const struct keydir *keydir);
/* Computes it anew in slices: begin, then steps of about @count entries until one returns true, with the sum
 * in @hash. Changes in between are counted in, so it must equal keydir_hash() at that moment. One at a time:
 * another begin starts over. */
void keydir_rehash_begin(struct keydir *keydir);
bool keydir_rehash(struct keydir *keydir, uint64_t count, uint64_t *hash);

/* In key order. @from is inclusive; an empty @from is the first key. NULL at the end. The cursor is a
 * plain value, void after any change to the keydir. */
struct keydir_cursor {
    const struct slab *slab;
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
 * at least @count were visited, a long empty part was passed, or the end is reached. Returns the cursor to go on
 * with; 0 at the end. The cursor is a position in the space of hashes (at most 48 bits), not in memory: it stays
 * valid through any changes, growth, restarts, and on every node with the same seed. A key that is there
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
