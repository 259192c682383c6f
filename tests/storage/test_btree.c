/* The tree alone, with keys made to hurt its heads and shared beginnings. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/btree.h"
#include "storage/keydir_entry.h"

enum { ENTRIES_MAX = 6000 };

static struct keydir_entry *entry_of(struct slice key, uint64_t expiry_ms)
{
    struct keydir_entry *entry = mem_zero(sizeof *entry + 8 + key.size);
    entry->has_expiry = expiry_ms > 0;
    entry->key_last = (uint16_t)(key.size - 1);
    if (expiry_ms > 0) put_u64(entry->bytes, expiry_ms);
    memcpy(entry->bytes + 8u * entry->has_expiry, key.data, key.size);
    return entry;
}

static int compare_keys(const void *a, const void *b)
{
    return slice_compare(keydir_entry_key(*(struct keydir_entry *const *)a),
                         keydir_entry_key(*(struct keydir_entry *const *)b));
}

static int compare_expiries(const void *a, const void *b)
{
    const uint64_t left = keydir_entry_expiry(*(struct keydir_entry *const *)a);
    const uint64_t right = keydir_entry_expiry(*(struct keydir_entry *const *)b);
    return left != right ? (left < right ? -1 : 1) : compare_keys(a, b);
}

/* What the tree holds must be those of @all that are @in, in both directions. */
static void expect_same(const struct btree *tree, struct keydir_entry *const *all, const bool *in,
                        uint32_t count)
{
    struct keydir_entry **sorted = mem_alloc(count * sizeof *sorted);
    struct keydir_cursor cursor;
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (in[i]) sorted[size++] = all[i];
    }
    qsort(sorted, size, sizeof *sorted,
          tree->order == BTREE_BY_KEY ? compare_keys : compare_expiries);
    EXPECT_EQ(tree->count, size);
    const struct keydir_entry *entry = btree_first(tree, &cursor);
    for (uint32_t i = 0; i < size; i++) {
        EXPECT_TRUE(entry == sorted[i]);
        entry = btree_next(&cursor);
    }
    EXPECT_TRUE(entry == NULL);
    entry = btree_last(tree, &cursor);
    for (uint32_t i = size; i > 0; i--) {
        EXPECT_TRUE(entry == sorted[i - 1]);
        entry = btree_previous(&cursor);
    }
    EXPECT_TRUE(entry == NULL);
    for (uint32_t i = 0; i < size && tree->order == BTREE_BY_KEY; i++) {
        const struct slice key = keydir_entry_key(sorted[i]);
        EXPECT_TRUE(btree_seek(tree, key, &cursor) == sorted[i]);
        EXPECT_TRUE(btree_next(&cursor) == (i + 1 < size ? sorted[i + 1] : NULL));
        EXPECT_TRUE(btree_seek_before(tree, key, &cursor) == (i > 0 ? sorted[i - 1] : NULL));
    }
    mem_free(sorted);
}

/* Inserts, removes and replaces in waves: mostly in, mostly out, and out to the last one. */
static void run(enum btree_order order, struct keydir_entry **all, uint32_t count, uint64_t seed)
{
    struct prng prng = prng_seed(seed);
    struct btree tree;
    bool *in = mem_zero(count * sizeof *in);
    btree_init(&tree, order);
    for (uint32_t step = 0; step < count * 12; step++) {
        const uint32_t at = (uint32_t)prng_below(&prng, count);
        const uint64_t wanted = step / count % 2 == 0 ? 85 : 12;
        if (!in[at] && prng_below(&prng, 100) < wanted) {
            btree_insert(&tree, all[at]);
            in[at] = true;
        } else if (in[at] && prng_below(&prng, 100) >= wanted) {
            btree_remove(&tree, all[at]);
            in[at] = false;
        } else if (in[at]) {
            struct keydir_entry *copy = entry_of(keydir_entry_key(all[at]),
                                                 keydir_entry_expiry(all[at]));
            btree_replace(&tree, all[at], copy);
            mem_free(all[at]);
            all[at] = copy;
        }
        if (step % (count / 3 + 1) == 0) {
            btree_check(&tree);
            expect_same(&tree, all, in, count);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (in[i]) btree_remove(&tree, all[i]);
        if (i % 512 == 0) btree_check(&tree);
    }
    EXPECT_EQ(tree.count, 0);
    EXPECT_EQ(tree.memory, 0);
    EXPECT_EQ(tree.height, 0);
    for (uint32_t i = 0; i < count; i++) mem_free(all[i]);
    mem_free(in);
}

TEST(btree, numbered_keys)
{
    static struct keydir_entry *all[ENTRIES_MAX];
    char text[64];
    for (uint32_t i = 0; i < ENTRIES_MAX; i++) {
        (void)snprintf(text, sizeof text, "user:%u:name", i);
        all[i] = entry_of(slice_text(text), 0);
    }
    run(BTREE_BY_KEY, all, ENTRIES_MAX, 1);
}

TEST(btree, keys_told_apart_by_trailing_zeros_only)
{
    static struct keydir_entry *all[3 * 700];
    uint8_t bytes[704] = {0};
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
    static struct keydir_entry *all[2000];
    uint8_t bytes[400];
    memset(bytes, 'p', sizeof bytes);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint64_t at = i * 37 % 390;
        put_u32(bytes + at, __builtin_bswap32(i * 0x9E3779B9u));
        all[i] = entry_of(slice_of(bytes, at + 4), 0);
        memset(bytes, 'p', sizeof bytes);
    }
    run(BTREE_BY_KEY, all, 2000, 3);
}

TEST(btree, keys_of_two_or_three_bytes)
{
    static struct keydir_entry *all[3000];
    for (uint32_t i = 0; i < 3000; i++) {
        const uint8_t bytes[3] = {(uint8_t)(i * 31 >> 8), (uint8_t)(i * 31), (uint8_t)(i % 3)};
        all[i] = entry_of(slice_of(bytes, 2 + i % 2), 0);
    }
    run(BTREE_BY_KEY, all, 3000, 4);
}

TEST(btree, expiries_of_all_sizes)
{
    static struct keydir_entry *all[4000];
    struct prng prng = prng_seed(5);
    char text[64];
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
    static struct keydir_entry *all[2000];
    char text[64];
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
    struct keydir_entry **all = mem_zero(count * sizeof *all);
    char text[32];
    uint64_t kept = 0;
    btree_init(&tree, BTREE_BY_KEY);
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
    for (uint32_t i = 0; i < count; i++) mem_free(all[i]);
    mem_free(all);
    return memory;
}

TEST(btree, memory_is_bounded_after_any_order_and_after_removals)
{
    EXPECT_LE(memory_per_key(20000, 1, 1), 13);     /* Rising keys fill their leaves. */
    EXPECT_LE(memory_per_key(20000, 7919, 1), 24);  /* Scattered ones half of them at least. */
    EXPECT_LE(memory_per_key(20000, 19999, 1), 26); /* So do falling ones. */
    EXPECT_LE(memory_per_key(20000, 7919, 10), 30); /* Sparse leaves were merged. */
    EXPECT_LE(memory_per_key(20000, 1, 1000), 60);
}
