#include "storage/hashdir.h"

#include <stddef.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/keydir_entry.h"

#define POSITIONS (1ull << 32)
#define TAGS (1u << 16)
#define CACHE_LINE 64u
#define SCAN_SHIFT (HASHDIR_CURSOR_BITS - 32) /* from our positions to those of cursors */
#define SAMPLE_SLOTS (2ull * HASHDIR_SLOTS)

STATIC_CHECK(sizeof(struct hashdir_bucket) == CACHE_LINE, "a bucket is a cache line");
STATIC_CHECK(sizeof(struct hashdir_further) == CACHE_LINE / 2, "a further one is half of it");

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

/* The slots of a bucket or of a further one. */
struct node {
    uint32_t *ref;
    uint16_t *tag;
    uint32_t *further;
    uint32_t count;
};

static inline struct node node_of(struct hashdir_bucket *bucket)
{
    return (struct node){.ref = bucket->ref,
                         .tag = bucket->tag,
                         .further = &bucket->further,
                         .count = HASHDIR_SLOTS};
}
/* False: there is none. */
static inline bool node_next(const struct hashdir *dir, struct node *node)
{
    if (*node->further == 0) return false;
    struct hashdir_further *further = slab_at(dir->slab, *node->further);
    *node = (struct node){.ref = further->ref,
                          .tag = further->tag,
                          .further = &further->further,
                          .count = HASHDIR_FURTHER_SLOTS};
    return true;
}

static void further_free(struct hashdir *dir, uint32_t ref)
{
    slab_free(dir->slab, ref, sizeof(struct hashdir_further));
    dir->further_count--;
}

static void bucket_add(struct hashdir *dir, struct hashdir_bucket *bucket, uint32_t ref,
                       uint16_t tag)
{
    struct node node = node_of(bucket);
    while (node_next(dir, &node)) continue;
    if (node.ref[node.count - 1] != 0) {
        const uint32_t further = slab_alloc(dir->slab, sizeof(struct hashdir_further));
        memset(slab_at(dir->slab, further), 0, sizeof(struct hashdir_further));
        dir->further_count++;
        *node.further = further;
        (void)node_next(dir, &node);
    }
    uint32_t at = 0;
    while (node.ref[at] != 0) at++;
    node.ref[at] = ref;
    node.tag[at] = tag;
}

/* Fills the hole at @slot with the last slot in use, and frees a further bucket left empty. */
static void bucket_drop(struct hashdir *dir, struct hashdir_bucket *bucket, const uint32_t *slot)
{
    uint32_t *hole_ref = NULL;
    uint16_t *hole_tag = NULL;
    uint32_t *link = NULL; /* To the last node. */
    struct node node = node_of(bucket);
    for (;;) {
        for (uint32_t i = 0; i < node.count; i++) {
            if (&node.ref[i] != slot) continue;
            hole_ref = &node.ref[i];
            hole_tag = &node.tag[i];
        }
        uint32_t *next = node.further;
        if (!node_next(dir, &node)) break;
        link = next;
    }
    CHECK(hole_ref != NULL);
    CHECK(node.ref[0] != 0);
    uint32_t last = node.count - 1;
    while (node.ref[last] == 0) last--;
    *hole_ref = node.ref[last];
    *hole_tag = node.tag[last];
    node.ref[last] = 0;
    node.tag[last] = 0;
    if (last > 0 || link == NULL) return;
    further_free(dir, *link);
    *link = 0;
}

/* A walk over the slots in use of a bucket and those behind it. */
struct walk {
    struct node node;
    uint32_t at;
};
static struct walk walk_of(struct hashdir_bucket *bucket) /* Before the first slot. */
{
    return (struct walk){.node = node_of(bucket), .at = UINT32_MAX};
}
static bool walk_next(const struct hashdir *dir, struct walk *walk)
{
    walk->at++;
    if (walk->at == walk->node.count) {
        if (!node_next(dir, &walk->node)) return false;
        walk->at = 0;
    }
    return walk->node.ref[walk->at] != 0;
}
static const struct keydir_entry *walk_entry(const struct hashdir *dir, const struct walk *walk)
{
    return slab_at(dir->slab, walk->node.ref[walk->at]);
}

/* ---- growth ---------------------------------------------------------------------------------- */

uint64_t hashdir_hash(const struct hashdir *dir, struct slice key)
{
    return hash64_seeded(key.data, key.size, dir->seed);
}

/* The position of the entry where @walk stands, in the bucket of @table that begins at @start. */
static uint64_t walk_position(const struct hashdir *dir, const struct hashdir_table *table,
                              uint64_t start, const struct walk *walk)
{
    /* No bucket of so large a table spans more positions than there are tags. */
    if (table->bucket_count >= POSITIONS / TAGS) {
        return start + ((walk->node.tag[walk->at] - start) & (TAGS - 1));
    }
    return hashdir_hash(dir, keydir_entry_key(walk_entry(dir, walk))) >> 32;
}

static void move_bucket(struct hashdir *dir)
{
    const uint64_t start = bucket_start(&dir->old, dir->old_moved);
    const uint64_t end = bucket_start(&dir->old, dir->old_moved + 1);
    struct hashdir_bucket *bucket = bucket_at(&dir->old, dir->old_moved);
    if (end > start) table_reach(dir, &dir->table, bucket_of(&dir->table, end - 1));
    struct walk walk = walk_of(bucket);
    while (walk_next(dir, &walk)) {
        const uint64_t position = walk_position(dir, &dir->old, start, &walk);
        CHECK(position >= start);
        CHECK(position < end);
        bucket_add(dir, bucket_at(&dir->table, bucket_of(&dir->table, position)),
                   walk.node.ref[walk.at], walk.node.tag[walk.at]);
    }
    for (uint32_t ref = bucket->further; ref != 0;) {
        const struct hashdir_further *further = slab_at(dir->slab, ref);
        const uint32_t next = further->further;
        further_free(dir, ref);
        ref = next;
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
        dir->table = table_open(dir, dir->old.bucket_count + dir->old.bucket_count / 3);
    }
    /* The old table is moved long before the new one can be full: it has room for more than one
     * more entry for each bucket of the old one. */
    STATIC_CHECK(HASHDIR_MOVE_BUCKETS * HASHDIR_LOAD_MAX / 4 > 1,
                 "moving ends before the next growth");
    for (uint32_t i = 0; i < HASHDIR_MOVE_BUCKETS; i++) {
        if (dir->old_moved < dir->old.bucket_count) move_bucket(dir);
    }
    if (dir->old_moved == dir->old.bucket_count) table_close(dir, &dir->old);
}

/* ---- use ------------------------------------------------------------------------------------- */

void hashdir_init(struct hashdir *dir, struct slab *slab, uint64_t seed)
{
    *dir = (struct hashdir){.slab = slab, .seed = seed};
    dir->table = table_open(dir, HASHDIR_BUCKETS_MIN);
    table_reach(dir, &dir->table, HASHDIR_BUCKETS_MIN - 1);
}

/* False: there was nothing to do. */
static bool table_close_some(struct hashdir *dir, struct hashdir_table *table, uint32_t count)
{
    if (table->segments == NULL) return false;
    const uint64_t next = (table->segments_freed + count) * HASHDIR_SEGMENT_BUCKETS;
    if (next < table->bucket_count && table->segments_freed + count < table->segments_ready) {
        table_leave(dir, table, next);
    } else {
        table_close(dir, table);
    }
    return true;
}

bool hashdir_close_some(struct hashdir *dir, uint32_t count)
{
    return table_close_some(dir, &dir->old, count) || table_close_some(dir, &dir->table, count);
}

void hashdir_close(struct hashdir *dir)
{
    table_close(dir, &dir->old);
    table_close(dir, &dir->table);
    CHECK(dir->memory == 0);
    *dir = (struct hashdir){.slab = dir->slab, .seed = dir->seed};
}

uint32_t *hashdir_find(const struct hashdir *dir, uint64_t hash, struct slice key)
{
    const uint16_t tag = (uint16_t)(hash >> 32);
    struct node node = node_of(locate(dir, hash >> 32));
    do {
        for (uint32_t i = 0; i < node.count; i++) {
            if (node.tag[i] != tag || node.ref[i] == 0) continue;
            const struct keydir_entry *entry = slab_at(dir->slab, node.ref[i]);
            if (slice_equal(keydir_entry_key(entry), key)) return &node.ref[i];
        }
    } while (node_next(dir, &node));
    return NULL;
}

void hashdir_warm(const struct hashdir *dir, const uint64_t *hashes, uint32_t count)
{
    /* All buckets first, so that they are on their way together; then the entries they point at. */
    for (uint32_t i = 0; i < count; i++) __builtin_prefetch(locate(dir, hashes[i] >> 32));
    for (uint32_t i = 0; i < count; i++) {
        const struct hashdir_bucket *bucket = locate(dir, hashes[i] >> 32);
        const uint16_t tag = (uint16_t)(hashes[i] >> 32);
        for (uint32_t k = 0; k < HASHDIR_SLOTS; k++) {
            if (bucket->tag[k] != tag || bucket->ref[k] == 0) continue;
            __builtin_prefetch(slab_at(dir->slab, bucket->ref[k]));
            break; /* Two keys with one tag in a bucket are rare: the second loads when it is needed. */
        }
    }
}

void hashdir_insert(struct hashdir *dir, uint64_t hash, uint32_t ref)
{
    grow(dir);
    dir->count++;
    bucket_add(dir, locate(dir, hash >> 32), ref, (uint16_t)(hash >> 32));
}

void hashdir_remove(struct hashdir *dir, uint64_t hash, const uint32_t *slot)
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
    uint64_t passed = 0;
    if (cursor >> HASHDIR_CURSOR_BITS != 0) return 0; /* Not one of ours: behind every position. */
    /* Always whole buckets, so that a cursor given out is where a bucket of now begins or where
     * the moved part ends. In another table it may lie within a bucket: what is before it was
     * visited. */
    const uint64_t boundary = dir->old.segments != NULL ? bucket_start(&dir->old, dir->old_moved)
                                                        : 0;
    while (position < POSITIONS && (visited < count || visited == 0)) {
        if (passed >= HASHDIR_SCAN_BUCKETS && passed - HASHDIR_SCAN_BUCKETS >= count) break;
        passed++;
        const bool moved = dir->old.segments == NULL || position < boundary;
        const struct hashdir_table *table = moved ? &dir->table : &dir->old;
        const uint64_t index = bucket_of(table, position);
        const bool whole = bucket_start(table, index) << SCAN_SHIFT >= cursor;
        struct walk walk = walk_of(bucket_at(table, index));
        while (walk_next(dir, &walk)) {
            const struct keydir_entry *entry = walk_entry(dir, &walk);
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

static void mark_table(const struct hashdir *dir, const struct hashdir_table *table, uint64_t first,
                       uint64_t *marks)
{
    for (uint64_t i = first; i < table->bucket_count; i++) {
        if (i / HASHDIR_SEGMENT_BUCKETS >= table->segments_ready) break;
        struct walk walk = walk_of(bucket_at(table, i));
        while (walk_next(dir, &walk)) {
            const uint32_t rank = slab_rank(dir->slab, walk.node.ref[walk.at]);
            marks[rank / 64] |= 1ull << rank % 64;
        }
    }
}

void hashdir_list(const struct hashdir *dir, uint32_t *refs)
{
    /* A bit for each reference that there may be sorts them faster than comparing does. */
    const uint64_t words = slab_ranks(dir->slab) / 64 + 1;
    uint64_t *marks = mem_zero(words * sizeof *marks);
    if (dir->old.segments != NULL) mark_table(dir, &dir->old, dir->old_moved, marks);
    mark_table(dir, &dir->table, 0, marks);
    uint64_t count = 0;
    for (uint64_t i = 0; i < words; i++) {
        for (uint64_t rest = marks[i]; rest != 0; rest &= rest - 1) {
            const uint64_t rank = i * 64 + (uint64_t)__builtin_ctzll(rest);
            refs[count++] = slab_ref(dir->slab, (uint32_t)rank);
        }
    }
    CHECK(count == dir->count);
    mem_free(marks);
}

struct keydir_entry *hashdir_sample(const struct hashdir *dir, uint64_t random)
{
    struct prng prng = prng_seed(random);
    struct node node = node_of(locate(dir, prng_next(&prng) >> 32));
    /* More than there are in a bucket, so that entries of further ones are as likely as the others. */
    uint64_t at = prng_below(&prng, SAMPLE_SLOTS);
    while (at >= node.count) {
        at -= node.count;
        if (!node_next(dir, &node)) return NULL;
    }
    return node.ref[at] != 0 ? slab_at(dir->slab, node.ref[at]) : NULL;
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
        struct walk walk = walk_of(bucket_at(table, i));
        while (walk_next(dir, &walk)) {
            const struct slice key = keydir_entry_key(walk_entry(dir, &walk));
            const uint64_t hash = hashdir_hash(dir, key);
            CHECK(bucket_of(table, hash >> 32) == i);
            CHECK(hash >> 32 < end);
            CHECK(walk_position(dir, table, bucket_start(table, i), &walk) == hash >> 32);
            CHECK(walk.node.tag[walk.at] == ((hash >> 32) & (TAGS - 1)));
            CHECK(hashdir_find(dir, hash, key) == &walk.node.ref[walk.at]);
            count++;
        }
        /* What is behind the last slot in use must be empty, and a further bucket is not. */
        if (*node_of(bucket_at(table, i)).further != 0) CHECK(walk.at > 0);
        for (uint32_t k = walk.at; k < walk.node.count; k++) CHECK(walk.node.ref[k] == 0);
        if (walk.at < walk.node.count) CHECK(*walk.node.further == 0);
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
