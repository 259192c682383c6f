#include "storage/hashdir.h"

#include <stddef.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/keydir_entry.h"

#define SLOT_LAST (HASHDIR_SLOTS - 1)
#define SLOT_POINTER ((1ull << 48) - 1)
#define SLOT_LINK 1ull
#define POSITIONS (1ull << 32)
#define TAGS (1u << 16)
#define CACHE_LINE 64u
#define SCAN_SHIFT (HASHDIR_CURSOR_BITS - 32) /* from our positions to those of cursors */

/* ---- slots ----------------------------------------------------------------------------------- */

static inline uint64_t slot_make(uint64_t position, const struct keydir_entry *entry)
{
    const uint64_t address = (uint64_t)(uintptr_t)entry;
    CHECK((address & (SLOT_LINK | ~SLOT_POINTER)) == 0);
    return position << 48 | address;
}
static inline struct keydir_entry *slot_entry(uint64_t slot)
{
    return (struct keydir_entry *)(uintptr_t)(slot & SLOT_POINTER);
}
static inline struct hashdir_bucket *slot_link(uint64_t slot) /* NULL: not a link */
{
    if ((slot & SLOT_LINK) == 0) return NULL;
    return (struct hashdir_bucket *)(uintptr_t)(slot & ~SLOT_LINK);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static inline uint64_t bucket_of(const struct hashdir_table *table, uint64_t position)
{
    return position * table->bucket_count >> 32;
}
/* The first position of bucket @index; POSITIONS for the one behind the last. */
static inline uint64_t bucket_start(const struct hashdir_table *table, uint64_t index)
{
    return ((index << 32) + table->bucket_count - 1) / table->bucket_count;
}
static inline struct hashdir_bucket *bucket_at(const struct hashdir_table *table, uint64_t index)
{
    return table->segments[index / HASHDIR_SEGMENT_BUCKETS].buckets +
           index % HASHDIR_SEGMENT_BUCKETS;
}

/* The table and bucket where @position belongs now. */
static inline struct hashdir_bucket *locate(const struct hashdir *dir, uint64_t position)
{
    if (dir->old.segments != NULL) {
        const uint64_t index = bucket_of(&dir->old, position);
        if (index >= dir->old_moved) return bucket_at(&dir->old, index);
    }
    return bucket_at(&dir->table, bucket_of(&dir->table, position));
}

static uint64_t table_segments(const struct hashdir_table *table)
{
    return (table->bucket_count + HASHDIR_SEGMENT_BUCKETS - 1) / HASHDIR_SEGMENT_BUCKETS;
}
static uint64_t segment_size(const struct hashdir_table *table, uint64_t index)
{
    const uint64_t rest = table->bucket_count - index * HASHDIR_SEGMENT_BUCKETS;
    const uint64_t count = rest < HASHDIR_SEGMENT_BUCKETS ? rest : HASHDIR_SEGMENT_BUCKETS;
    return count * sizeof(struct hashdir_bucket) + CACHE_LINE;
}

/* Allocates segments until bucket @index is there. */
static void table_reach(struct hashdir *dir, struct hashdir_table *table, uint64_t index)
{
    CHECK(index < table->bucket_count);
    for (; table->segments_ready <= index / HASHDIR_SEGMENT_BUCKETS; table->segments_ready++) {
        struct hashdir_segment *segment = &table->segments[table->segments_ready];
        const uint64_t size = segment_size(table, table->segments_ready);
        segment->memory = mem_zero(size);
        segment->buckets = (struct hashdir_bucket *)align_up((uintptr_t)segment->memory,
                                                             CACHE_LINE);
        dir->memory += size;
    }
}

/* Frees the segments that lie wholly before bucket @index. */
static void table_leave(struct hashdir *dir, struct hashdir_table *table, uint64_t index)
{
    const uint64_t end = index == table->bucket_count ? table_segments(table)
                                                      : index / HASHDIR_SEGMENT_BUCKETS;
    for (; table->segments_freed < end; table->segments_freed++) {
        if (table->segments_freed >= table->segments_ready) continue;
        mem_free(table->segments[table->segments_freed].memory);
        dir->memory -= segment_size(table, table->segments_freed);
    }
}

static struct hashdir_table table_open(struct hashdir *dir, uint64_t bucket_count)
{
    struct hashdir_table table = {.bucket_count = bucket_count};
    const uint64_t size = table_segments(&table) * sizeof(struct hashdir_segment);
    CHECK(bucket_count < POSITIONS);
    table.segments = mem_zero(size);
    dir->memory += size;
    return table;
}

static void table_close(struct hashdir *dir, struct hashdir_table *table)
{
    if (table->segments == NULL) return;
    table_leave(dir, table, table->bucket_count);
    dir->memory -= table_segments(table) * sizeof(struct hashdir_segment);
    mem_free(table->segments);
    *table = (struct hashdir_table){0};
}

/* ---- buckets --------------------------------------------------------------------------------- */

static void bucket_add(struct hashdir *dir, struct hashdir_bucket *bucket, uint64_t slot)
{
    struct hashdir_bucket *further = slot_link(bucket->slot[SLOT_LAST]);
    while (further != NULL) {
        bucket = further;
        further = slot_link(bucket->slot[SLOT_LAST]);
    }
    if (bucket->slot[SLOT_LAST] != 0) {
        further = mem_zero(sizeof *further);
        dir->memory += sizeof *further;
        further->slot[0] = bucket->slot[SLOT_LAST];
        bucket->slot[SLOT_LAST] = (uint64_t)(uintptr_t)further | SLOT_LINK;
        bucket = further;
    }
    for (uint32_t i = 0; i < HASHDIR_SLOTS; i++) {
        if (bucket->slot[i] != 0) continue;
        bucket->slot[i] = slot;
        return;
    }
    UNREACHABLE();
}

/* Fills the hole at @slot with the last slot in use, and frees a further bucket left with only
 * one. */
static void bucket_drop(struct hashdir *dir, struct hashdir_bucket *bucket, uint64_t *slot)
{
    struct hashdir_bucket *before = NULL;
    struct hashdir_bucket *further = slot_link(bucket->slot[SLOT_LAST]);
    while (further != NULL) {
        before = bucket;
        bucket = further;
        further = slot_link(bucket->slot[SLOT_LAST]);
    }
    uint32_t last = SLOT_LAST;
    while (last > 0 && bucket->slot[last] == 0) last--;
    *slot = bucket->slot[last];
    bucket->slot[last] = 0;
    if (before != NULL && last == 1) {
        before->slot[SLOT_LAST] = bucket->slot[0];
        dir->memory -= sizeof *bucket;
        mem_free(bucket);
    }
}

/* A walk over the entries of a bucket: @at receives each slot in use; links are followed. */
struct walk {
    struct hashdir_bucket *bucket;
    uint32_t next;
};
static uint64_t walk_next(struct walk *walk) /* 0 at the end */
{
    if (walk->next == HASHDIR_SLOTS) return 0;
    uint64_t slot = walk->bucket->slot[walk->next];
    struct hashdir_bucket *further = slot_link(slot);
    if (further != NULL) {
        *walk = (struct walk){.bucket = further};
        slot = further->slot[0];
    }
    walk->next++;
    return slot;
}

/* ---- growth ---------------------------------------------------------------------------------- */

uint64_t hashdir_hash(const struct hashdir *dir, struct slice key)
{
    return hash64_seeded(key.data, key.size, dir->seed);
}

/* The position of the entry in @slot, found in the bucket of @table that begins at @start. */
static uint64_t slot_position(const struct hashdir *dir, const struct hashdir_table *table,
                              uint64_t start, uint64_t slot)
{
    /* No bucket of so large a table spans more positions than there are tags. */
    if (table->bucket_count >= POSITIONS / TAGS) {
        return start + (((slot >> 48) - start) & (TAGS - 1));
    }
    return hashdir_hash(dir, keydir_entry_key(slot_entry(slot))) >> 32;
}

static void move_bucket(struct hashdir *dir)
{
    const uint64_t start = bucket_start(&dir->old, dir->old_moved);
    const uint64_t end = bucket_start(&dir->old, dir->old_moved + 1);
    struct hashdir_bucket *bucket = bucket_at(&dir->old, dir->old_moved);
    if (end > start) table_reach(dir, &dir->table, bucket_of(&dir->table, end - 1));
    struct walk walk = {.bucket = bucket};
    for (uint64_t slot = walk_next(&walk); slot != 0; slot = walk_next(&walk)) {
        const uint64_t position = slot_position(dir, &dir->old, start, slot);
        CHECK(position >= start);
        CHECK(position < end);
        bucket_add(dir, bucket_at(&dir->table, bucket_of(&dir->table, position)), slot);
    }
    struct hashdir_bucket *further = slot_link(bucket->slot[SLOT_LAST]);
    while (further != NULL) {
        struct hashdir_bucket *next = slot_link(further->slot[SLOT_LAST]);
        dir->memory -= sizeof *further;
        mem_free(further);
        further = next;
    }
    dir->old_moved++;
    table_leave(dir, &dir->old, dir->old_moved);
}

static void grow(struct hashdir *dir)
{
    if (dir->old.segments == NULL) {
        if (dir->count < dir->table.bucket_count * HASHDIR_LOAD_MAX) return;
        dir->old = dir->table;
        dir->old_moved = 0;
        dir->table = table_open(dir, dir->old.bucket_count + dir->old.bucket_count / 2);
    }
    /* The old table is moved long before the new one can be full: it has room for three more
     * entries for each bucket of the old one. */
    STATIC_CHECK(HASHDIR_MOVE_BUCKETS * HASHDIR_LOAD_MAX / 2 > 1,
                 "moving ends before the next growth");
    for (uint32_t i = 0; i < HASHDIR_MOVE_BUCKETS; i++) {
        if (dir->old_moved < dir->old.bucket_count) move_bucket(dir);
    }
    if (dir->old_moved == dir->old.bucket_count) table_close(dir, &dir->old);
}

/* ---- use ------------------------------------------------------------------------------------- */

void hashdir_init(struct hashdir *dir, uint64_t seed)
{
    *dir = (struct hashdir){.seed = seed};
    dir->table = table_open(dir, HASHDIR_BUCKETS_MIN);
    table_reach(dir, &dir->table, HASHDIR_BUCKETS_MIN - 1);
}

static void free_further(struct hashdir *dir, const struct hashdir_table *table, uint64_t first)
{
    for (uint64_t i = first; i < table->bucket_count; i++) {
        if (i / HASHDIR_SEGMENT_BUCKETS >= table->segments_ready) return;
        struct hashdir_bucket *further = slot_link(bucket_at(table, i)->slot[SLOT_LAST]);
        while (further != NULL) {
            struct hashdir_bucket *next = slot_link(further->slot[SLOT_LAST]);
            dir->memory -= sizeof *further;
            mem_free(further);
            further = next;
        }
    }
}

void hashdir_close(struct hashdir *dir)
{
    if (dir->old.segments != NULL) free_further(dir, &dir->old, dir->old_moved);
    free_further(dir, &dir->table, 0);
    table_close(dir, &dir->old);
    table_close(dir, &dir->table);
    CHECK(dir->memory == 0);
    *dir = (struct hashdir){.seed = dir->seed};
}

uint64_t *hashdir_find(const struct hashdir *dir, uint64_t hash, struct slice key)
{
    struct hashdir_bucket *bucket = locate(dir, hash >> 32);
    const uint64_t tag = (hash >> 32) & (TAGS - 1);
    while (bucket != NULL) {
        for (uint32_t i = 0; i < HASHDIR_SLOTS; i++) {
            const uint64_t slot = bucket->slot[i];
            if (slot >> 48 != tag || slot == 0 || (slot & SLOT_LINK) != 0) continue;
            if (slice_equal(keydir_entry_key(slot_entry(slot)), key)) return &bucket->slot[i];
        }
        bucket = slot_link(bucket->slot[SLOT_LAST]);
    }
    return NULL;
}

void hashdir_warm(const struct hashdir *dir, const uint64_t *hashes, uint32_t count)
{
    /* All buckets first, so that they are on their way together; then the entries they point at. */
    for (uint32_t i = 0; i < count; i++) __builtin_prefetch(locate(dir, hashes[i] >> 32));
    for (uint32_t i = 0; i < count; i++) {
        const struct hashdir_bucket *bucket = locate(dir, hashes[i] >> 32);
        const uint64_t tag = (hashes[i] >> 32) & (TAGS - 1);
        for (uint32_t k = 0; k < HASHDIR_SLOTS; k++) {
            if (bucket->slot[k] >> 48 != tag) continue;
            __builtin_prefetch(slot_entry(bucket->slot[k]));
            break; /* Two keys with one tag in a bucket are rare: the second loads when it is needed. */
        }
    }
}

struct keydir_entry *hashdir_entry(const uint64_t *slot)
{
    return slot_entry(*slot);
}

void hashdir_replace(uint64_t *slot, struct keydir_entry *entry)
{
    *slot = slot_make(*slot >> 48, entry);
}

void hashdir_insert(struct hashdir *dir, uint64_t hash, struct keydir_entry *entry)
{
    grow(dir);
    dir->count++;
    bucket_add(dir, locate(dir, hash >> 32), slot_make(hash >> 32, entry));
}

void hashdir_remove(struct hashdir *dir, uint64_t hash, uint64_t *slot)
{
    CHECK(dir->count > 0);
    CHECK(*slot != 0);
    dir->count--;
    bucket_drop(dir, locate(dir, hash >> 32), slot);
}

uint64_t hashdir_scan(const struct hashdir *dir, uint64_t cursor, uint64_t count,
                      void (*visit)(void *context, const struct keydir_entry *entry), void *context)
{
    uint64_t position = cursor >> SCAN_SHIFT;
    uint64_t visited = 0;
    if (cursor >> HASHDIR_CURSOR_BITS != 0) return 0; /* Not one of ours: behind every position. */
    /* Always whole buckets, so that a cursor given out is where a bucket of now begins or where
     * the moved part ends. In another table it may lie within a bucket: what is before it was
     * visited. */
    const uint64_t boundary = dir->old.segments != NULL ? bucket_start(&dir->old, dir->old_moved)
                                                        : 0;
    while (position < POSITIONS && (visited < count || visited == 0)) {
        const bool moved = dir->old.segments == NULL || position < boundary;
        const struct hashdir_table *table = moved ? &dir->table : &dir->old;
        const uint64_t index = bucket_of(table, position);
        const bool whole = bucket_start(table, index) << SCAN_SHIFT >= cursor;
        struct walk walk = {.bucket = bucket_at(table, index)};
        for (uint64_t slot = walk_next(&walk); slot != 0; slot = walk_next(&walk)) {
            const struct keydir_entry *entry = slot_entry(slot);
            const uint64_t shift = 64 - HASHDIR_CURSOR_BITS;
            if (!whole && hashdir_hash(dir, keydir_entry_key(entry)) >> shift < cursor) continue;
            visit(context, entry);
            visited++;
        }
        position = bucket_start(table, index + 1);
        if (moved && dir->old.segments != NULL && position > boundary) position = boundary;
    }
    return position < POSITIONS ? position << SCAN_SHIFT : 0;
}

struct keydir_entry *hashdir_sample(const struct hashdir *dir, uint64_t random)
{
    struct prng prng = prng_seed(random);
    const struct hashdir_bucket *bucket = locate(dir, prng_next(&prng) >> 32);
    /* Twice the slots, so that entries behind a link are as likely as the others. */
    uint64_t at = prng_below(&prng, 2ull * HASHDIR_SLOTS);
    while (at >= SLOT_LAST && slot_link(bucket->slot[SLOT_LAST]) != NULL) {
        bucket = slot_link(bucket->slot[SLOT_LAST]);
        at -= SLOT_LAST;
    }
    if (at >= HASHDIR_SLOTS || bucket->slot[at] == 0) return NULL;
    return slot_entry(bucket->slot[at]);
}

/* ---- check ----------------------------------------------------------------------------------- */

/* Verifies the buckets of @table from @first on up to position @end, which is where its part
 * ends. */
static uint64_t check_table(const struct hashdir *dir, const struct hashdir_table *table,
                            uint64_t first, uint64_t end)
{
    uint64_t count = 0;
    for (uint64_t i = first; i < table->bucket_count; i++) {
        if (i / HASHDIR_SEGMENT_BUCKETS >= table->segments_ready) break;
        struct walk walk = {.bucket = bucket_at(table, i)};
        for (uint64_t slot = walk_next(&walk); slot != 0; slot = walk_next(&walk)) {
            const struct slice key = keydir_entry_key(slot_entry(slot));
            const uint64_t hash = hashdir_hash(dir, key);
            CHECK(bucket_of(table, hash >> 32) == i);
            CHECK(hash >> 32 < end);
            CHECK(slot_position(dir, table, bucket_start(table, i), slot) == hash >> 32);
            CHECK(slot >> 48 == ((hash >> 32) & (TAGS - 1)));
            CHECK(hashdir_find(dir, hash, key) == &walk.bucket->slot[walk.next - 1]);
            count++;
        }
        /* What is behind the last slot in use must be empty. */
        for (uint32_t k = walk.next; k < HASHDIR_SLOTS; k++) CHECK(walk.bucket->slot[k] == 0);
    }
    return count;
}

void hashdir_check(const struct hashdir *dir)
{
    uint64_t count = 0;
    uint64_t end = POSITIONS;
    CHECK(dir->table.segments_freed == 0);
    if (dir->old.segments != NULL) {
        CHECK(dir->old_moved < dir->old.bucket_count);
        count += check_table(dir, &dir->old, dir->old_moved, POSITIONS);
        end = bucket_start(&dir->old, dir->old_moved);
    }
    count += check_table(dir, &dir->table, 0, end);
    CHECK(count == dir->count);
}
