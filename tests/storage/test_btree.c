/* The tree alone, with keys made to hurt its heads and shared beginnings. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/btree.h"
#include "storage/keydir_entry.h"

enum { ENTRIES_MAX = 6000 };

static struct slab slab; /* Of the test that runs. */

static const struct keydir_entry *at(uint32_t ref)
{
    return slab_at(&slab, ref);
}

static uint64_t entry_size(struct slice key)
{
    return align_up(sizeof(struct keydir_entry) + 8 + key.size, SLAB_UNIT);
}

static uint32_t entry_of(struct slice key, uint64_t expiry_ms)
{
    const uint32_t ref = slab_alloc(&slab, entry_size(key));
    struct keydir_entry *entry = slab_at(&slab, ref);
    memset(entry, 0, entry_size(key));
    entry->has_expiry = expiry_ms > 0;
    entry->key_last = (uint16_t)(key.size - 1);
    if (expiry_ms > 0) put_u64(entry->bytes, expiry_ms);
    memcpy(entry->bytes + 8u * entry->has_expiry, key.data, key.size);
    return ref;
}

static void entry_end(uint32_t ref)
{
    slab_free(&slab, ref, entry_size(keydir_entry_key(at(ref))));
}

static int compare_keys(const void *a, const void *b)
{
    return slice_compare(keydir_entry_key(at(*(const uint32_t *)a)),
                         keydir_entry_key(at(*(const uint32_t *)b)));
}

static int compare_expiries(const void *a, const void *b)
{
    const uint64_t left = keydir_entry_expiry(at(*(const uint32_t *)a));
    const uint64_t right = keydir_entry_expiry(at(*(const uint32_t *)b));
    return left != right ? (left < right ? -1 : 1) : compare_keys(a, b);
}

/* Those of @all that are @in, in the order of the tree. Gives. */
static uint32_t *sorted_of(enum btree_order order, const uint32_t *all, const bool *in,
                           uint32_t count, uint32_t *size)
{
    uint32_t *sorted = mem_alloc(count * sizeof *sorted);
    *size = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (in[i]) sorted[(*size)++] = all[i];
    }
    qsort(sorted, *size, sizeof *sorted, order == BTREE_BY_KEY ? compare_keys : compare_expiries);
    return sorted;
}

/* What the tree holds must be those of @all that are @in, in both directions. */
static void expect_same(const struct btree *tree, const uint32_t *all, const bool *in,
                        uint32_t count)
{
    struct keydir_cursor cursor;
    uint32_t size = 0;
    uint32_t *sorted = sorted_of(tree->order, all, in, count, &size);
    EXPECT_EQ(tree->count, size);
    const struct keydir_entry *entry = btree_first(tree, &cursor);
    for (uint32_t i = 0; i < size; i++) {
        EXPECT_TRUE(entry == at(sorted[i]));
        entry = btree_next(&cursor);
    }
    EXPECT_TRUE(entry == NULL);
    entry = btree_last(tree, &cursor);
    for (uint32_t i = size; i > 0; i--) {
        EXPECT_TRUE(entry == at(sorted[i - 1]));
        entry = btree_previous(&cursor);
    }
    EXPECT_TRUE(entry == NULL);
    for (uint32_t i = 0; i < size && tree->order == BTREE_BY_KEY; i++) {
        const struct slice key = keydir_entry_key(at(sorted[i]));
        EXPECT_TRUE(btree_seek(tree, key, &cursor) == at(sorted[i]));
        EXPECT_TRUE(btree_next(&cursor) == (i + 1 < size ? at(sorted[i + 1]) : NULL));
        EXPECT_TRUE(btree_seek_before(tree, key, &cursor) == (i > 0 ? at(sorted[i - 1]) : NULL));
    }
    mem_free(sorted);
}

/* Starts the test over: a tree of those that are @in, built at once, equals the one that grew. */
static void rebuild(struct btree *tree, const uint32_t *all, const bool *in, uint32_t count)
{
    uint32_t size = 0;
    uint32_t *sorted = sorted_of(tree->order, all, in, count, &size);
    btree_close(tree);
    btree_build(tree, sorted, size);
    mem_free(sorted);
    btree_check(tree);
    expect_same(tree, all, in, count);
}

/* Inserts, removes and replaces in waves: mostly in, mostly out, and out to the last one. */
static void run(enum btree_order order, uint32_t *all, uint32_t count, uint64_t seed)
{
    struct prng prng = prng_seed(seed);
    struct btree tree;
    bool *in = mem_zero(count * sizeof *in);
    btree_init(&tree, &slab, order);
    for (uint32_t step = 0; step < count * 12; step++) {
        const uint32_t i = (uint32_t)prng_below(&prng, count);
        const uint64_t wanted = step / count % 2 == 0 ? 85 : 12;
        if (!in[i] && prng_below(&prng, 100) < wanted) {
            btree_insert(&tree, all[i]);
            in[i] = true;
        } else if (in[i] && prng_below(&prng, 100) >= wanted) {
            btree_remove(&tree, all[i]);
            in[i] = false;
        } else if (in[i]) {
            const uint32_t copy = entry_of(keydir_entry_key(at(all[i])),
                                           keydir_entry_expiry(at(all[i])));
            btree_replace(&tree, all[i], copy);
            entry_end(all[i]);
            all[i] = copy;
        }
        if (step % (count / 3 + 1) == 0) {
            btree_check(&tree);
            expect_same(&tree, all, in, count);
        }
        if (step % (count * 5) == count * 4) rebuild(&tree, all, in, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (in[i]) btree_remove(&tree, all[i]);
        if (i % 512 == 0) btree_check(&tree);
        in[i] = false;
    }
    rebuild(&tree, all, in, count);
    EXPECT_EQ(tree.count, 0);
    EXPECT_EQ(tree.memory, 0);
    EXPECT_EQ(tree.height, 0);
    slab_close(&slab);
    mem_free(in);
}

TEST(btree, numbered_keys)
{
    static uint32_t all[ENTRIES_MAX];
    char text[64];
    slab_init(&slab);
    for (uint32_t i = 0; i < ENTRIES_MAX; i++) {
        (void)snprintf(text, sizeof text, "user:%u:name", i);
        all[i] = entry_of(slice_text(text), 0);
    }
    run(BTREE_BY_KEY, all, ENTRIES_MAX, 1);
}

TEST(btree, keys_told_apart_by_trailing_zeros_only)
{
    static uint32_t all[3 * 700];
    uint8_t bytes[704] = {0};
    slab_init(&slab);
    for (uint32_t i = 0; i < 700; i++) {
        bytes[0] = 0;
        all[3 * i] = entry_of(slice_of(bytes, i + 1), 0);
        bytes[0] = 'a';
        all[3 * i + 1] = entry_of(slice_of(bytes, i + 1), 0);
        bytes[i] = 1;
        all[3 * i + 2] = entry_of(slice_of(bytes, i + 2), 0);
        bytes[i] = 0;
    }
    run(BTREE_BY_KEY, all, 3 * 700, 2);
}

TEST(btree, long_shared_beginnings_of_many_lengths)
{
    static uint32_t all[2000];
    uint8_t bytes[400];
    slab_init(&slab);
    memset(bytes, 'p', sizeof bytes);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint64_t start = i * 37 % 390;
        put_u32(bytes + start, __builtin_bswap32(i * 0x9E3779B9u));
        all[i] = entry_of(slice_of(bytes, start + 4), 0);
        memset(bytes, 'p', sizeof bytes);
    }
    run(BTREE_BY_KEY, all, 2000, 3);
}

TEST(btree, keys_of_two_or_three_bytes)
{
    static uint32_t all[3000];
    slab_init(&slab);
    for (uint32_t i = 0; i < 3000; i++) {
        const uint8_t bytes[3] = {(uint8_t)(i * 31 >> 8), (uint8_t)(i * 31), (uint8_t)(i % 3)};
        all[i] = entry_of(slice_of(bytes, 2 + i % 2), 0);
    }
    run(BTREE_BY_KEY, all, 3000, 4);
}

TEST(btree, expiries_of_all_sizes)
{
    static uint32_t all[4000];
    struct prng prng = prng_seed(5);
    char text[64];
    slab_init(&slab);
    for (uint32_t i = 0; i < 4000; i++) {
        const uint64_t near = 1700000000000u + prng_below(&prng, 3000);
        const uint64_t any = prng_next(&prng) >> prng_below(&prng, 64);
        (void)snprintf(text, sizeof text, "%x", i);
        all[i] = entry_of(slice_text(text), i % 2 == 0 ? near : any | 1);
    }
    run(BTREE_BY_EXPIRY, all, 4000, 6);
}

TEST(btree, expiries_that_are_all_the_same)
{
    static uint32_t all[2000];
    char text[64];
    slab_init(&slab);
    for (uint32_t i = 0; i < 2000; i++) {
        (void)snprintf(text, sizeof text, "session/%08x", i * 0x9E3779B9u);
        all[i] = entry_of(slice_text(text), 1700000000000u);
    }
    run(BTREE_BY_EXPIRY, all, 2000, 7);
}

/* Bytes a key for @count keys inserted in steps of @stride. */
static uint64_t memory_per_key(uint32_t count, uint32_t stride, uint32_t keep_every)
{
    struct btree tree;
    uint32_t *all = mem_zero(count * sizeof *all);
    char text[32];
    uint64_t kept = 0;
    slab_init(&slab);
    btree_init(&tree, &slab, BTREE_BY_KEY);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t number = i * stride % count;
        (void)snprintf(text, sizeof text, "key:%012u", (unsigned)number);
        all[number] = entry_of(slice_text(text), 0);
        btree_insert(&tree, all[number]);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i % keep_every == 0) {
            kept++;
        } else {
            btree_remove(&tree, all[i]);
        }
    }
    btree_check(&tree);
    const uint64_t memory = tree.memory / kept;
    btree_close(&tree);
    slab_close(&slab);
    mem_free(all);
    return memory;
}

TEST(btree, memory_is_bounded_after_any_order_and_after_removals)
{
    EXPECT_LE(memory_per_key(20000, 1, 1), 8);      /* Rising keys fill their leaves. */
    EXPECT_LE(memory_per_key(20000, 7919, 1), 10);  /* Scattered ones nearly do. */
    EXPECT_LE(memory_per_key(20000, 19999, 1), 10); /* So do falling ones. */
    EXPECT_LE(memory_per_key(20000, 7919, 10), 20); /* Sparse leaves were merged. */
    EXPECT_LE(memory_per_key(20000, 1, 1000), 60);
}
