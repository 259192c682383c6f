/* Sorting entries for the trees against qsort. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/keydir_entry.h"
#include "storage/keysort.h"

enum { ENTRIES_MAX = 20000 };

static struct slab slab; /* Of the test that runs. */
static uint32_t all[ENTRIES_MAX];

static uint32_t entry_of(struct slice key, uint64_t expiry_ms)
{
    const uint64_t size = align_up(sizeof(struct keydir_entry) + 8 + key.size, SLAB_UNIT);
    const uint32_t ref = slab_alloc(&slab, size);
    struct keydir_entry *entry = slab_at(&slab, ref);
    memset(entry, 0, size);
    entry->has_expiry = expiry_ms > 0;
    entry->key_last = (uint16_t)(key.size - 1);
    if (expiry_ms > 0) put_u64(entry->bytes, expiry_ms);
    memcpy(entry->bytes + 8u * entry->has_expiry, key.data, key.size);
    return ref;
}

static int compare_keys(const void *a, const void *b)
{
    return slice_compare(keydir_entry_key(slab_at(&slab, *(const uint32_t *)a)),
                         keydir_entry_key(slab_at(&slab, *(const uint32_t *)b)));
}

static int compare_expiries(const void *a, const void *b)
{
    const uint64_t left = keydir_entry_expiry(slab_at(&slab, *(const uint32_t *)a));
    const uint64_t right = keydir_entry_expiry(slab_at(&slab, *(const uint32_t *)b));
    return left != right ? (left < right ? -1 : 1) : compare_keys(a, b);
}

/* Sorts the first @count of @all in a random order and ends the test. */
static void run(enum btree_order order, uint32_t count, uint64_t seed)
{
    struct prng prng = prng_seed(seed);
    uint32_t *sorted = mem_alloc((count + 1) * sizeof *sorted);
    memcpy(sorted, all, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, order == BTREE_BY_KEY ? compare_keys : compare_expiries);
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t other = (uint32_t)prng_below(&prng, i);
        const uint32_t ref = all[i - 1];
        all[i - 1] = all[other];
        all[other] = ref;
    }
    keysort_run(&slab, order, all, count);
    EXPECT_BYTES(all, sorted, count * sizeof *sorted);
    mem_free(sorted);
    slab_close(&slab);
}

TEST(keysort, few_entries)
{
    for (uint32_t count = 0; count < 60; count++) {
        slab_init(&slab);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t byte = (uint8_t)(i * 37);
            all[i] = entry_of(slice_of(&byte, 1), 0);
        }
        run(BTREE_BY_KEY, count, count);
    }
}

TEST(keysort, numbers_in_text)
{
    char text[64];
    slab_init(&slab);
    for (uint32_t i = 0; i < ENTRIES_MAX; i++) {
        (void)snprintf(text, sizeof text, "user:%u:name", i);
        all[i] = entry_of(slice_text(text), 0);
    }
    run(BTREE_BY_KEY, ENTRIES_MAX, 1);
}

TEST(keysort, random_bytes_of_many_lengths)
{
    struct prng prng = prng_seed(3);
    slab_init(&slab);
    for (uint32_t i = 0; i < ENTRIES_MAX; i++) {
        uint8_t bytes[64];
        const uint64_t size = 3 + prng_below(&prng, 40);
        put_u32(bytes, __builtin_bswap32(i << 8)); /* No two are the same. */
        for (uint64_t k = 3; k < size; k++) bytes[k] = (uint8_t)prng_next(&prng);
        all[i] = entry_of(slice_of(bytes, size), 0);
    }
    run(BTREE_BY_KEY, ENTRIES_MAX, 2);
}

/* The heads of these agree all the way: only their sizes tell them apart. */
TEST(keysort, keys_told_apart_by_trailing_zeros_only)
{
    uint8_t bytes[704] = {0};
    uint32_t count = 0;
    slab_init(&slab);
    for (uint32_t i = 0; i < 700; i++) {
        bytes[0] = 0;
        all[count++] = entry_of(slice_of(bytes, i + 1), 0);
        bytes[0] = 'a';
        all[count++] = entry_of(slice_of(bytes, i + 1), 0);
        bytes[i] = 1;
        all[count++] = entry_of(slice_of(bytes, i + 2), 0);
        bytes[i] = 0;
    }
    run(BTREE_BY_KEY, count, 4);
}

TEST(keysort, long_shared_beginnings_of_many_lengths)
{
    uint8_t bytes[400];
    memset(bytes, 'p', sizeof bytes);
    slab_init(&slab);
    for (uint32_t i = 0; i < 5000; i++) {
        const uint64_t start = i * 37 % 390;
        put_u32(bytes + start, __builtin_bswap32(i * 0x9E3779B9u));
        all[i] = entry_of(slice_of(bytes, start + 4), 0);
        memset(bytes, 'p', sizeof bytes);
    }
    run(BTREE_BY_KEY, 5000, 5);
}

TEST(keysort, expiries_of_all_sizes)
{
    struct prng prng = prng_seed(5);
    char text[64];
    slab_init(&slab);
    for (uint32_t i = 0; i < ENTRIES_MAX; i++) {
        const uint64_t near = 1700000000000u + prng_below(&prng, 300);
        const uint64_t any = prng_next(&prng) >> prng_below(&prng, 64);
        (void)snprintf(text, sizeof text, "%x", i);
        all[i] = entry_of(slice_text(text), i % 2 == 0 ? near : any | 1);
    }
    run(BTREE_BY_EXPIRY, ENTRIES_MAX, 6);
}
