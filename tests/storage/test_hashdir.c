/* The table alone: crowded buckets. What a keydir shows is tested in test_keydir.c. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/hashdir.h"
#include "storage/keydir_entry.h"

enum { CROWD = 60 }; /* Less than what lets the smallest table grow. */

static uint64_t entry_size(struct slice key)
{
    return align_up(sizeof(struct keydir_entry) + key.size, SLAB_UNIT);
}

static uint32_t entry_of(struct slab *slab, struct slice key)
{
    const uint32_t ref = slab_alloc(slab, entry_size(key));
    struct keydir_entry *entry = slab_at(slab, ref);
    memset(entry, 0, entry_size(key));
    entry->key_last = (uint16_t)(key.size - 1);
    memcpy(entry->bytes, key.data, key.size);
    return ref;
}

static int compare_refs(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a;
    const uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void count_visit(void *context, const struct keydir_entry *entry)
{
    uint64_t *sum = context;
    *sum += entry->key_last + 1u;
}

/* Keys that all belong into the first bucket: it needs several further buckets. */
TEST(hashdir, crowded_bucket_keeps_all_its_entries)
{
    struct hashdir dir;
    struct slab slab;
    uint32_t crowd[CROWD];
    uint32_t sorted[CROWD];
    uint32_t listed[CROWD];
    char text[32];
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct prng prng = prng_seed(seed);
        uint32_t count = 0;
        slab_init(&slab);
        hashdir_init(&dir, &slab, seed);
        const uint64_t memory = dir.memory;
        for (uint32_t i = 0; count < CROWD && i < 100000; i++) {
            (void)snprintf(text, sizeof text, "%06u", i);
            const uint64_t hash = hashdir_hash(&dir, slice_text(text));
            if (hash >> 61 != 0) continue;
            EXPECT_TRUE(hashdir_find(&dir, hash, slice_text(text)) == NULL);
            crowd[count] = entry_of(&slab, slice_text(text));
            hashdir_insert(&dir, hash, crowd[count++]);
            hashdir_check(&dir);
        }
        EXPECT_EQ(count, CROWD);
        EXPECT_EQ(dir.further_count, (CROWD - HASHDIR_SLOTS + 3) / HASHDIR_FURTHER_SLOTS);
        EXPECT_EQ(dir.memory, memory);
        memcpy(sorted, crowd, sizeof sorted);
        hashdir_list(&dir, listed);
        qsort(sorted, CROWD, sizeof sorted[0], compare_refs);
        EXPECT_BYTES(sorted, listed, sizeof listed);
        uint64_t bytes = 0;
        EXPECT_NE(hashdir_scan(&dir, 0, 1, count_visit, &bytes), 0);
        EXPECT_EQ(bytes, CROWD * 6);
        while (count > 0) {
            const uint64_t at = prng_below(&prng, count);
            const struct slice key = keydir_entry_key(slab_at(&slab, crowd[at]));
            const uint64_t hash = hashdir_hash(&dir, key);
            const uint32_t *slot = hashdir_find(&dir, hash, key);
            EXPECT_TRUE(slot != NULL);
            EXPECT_TRUE(*slot == crowd[at]);
            hashdir_remove(&dir, hash, slot);
            EXPECT_TRUE(hashdir_find(&dir, hash, key) == NULL);
            hashdir_check(&dir);
            slab_free(&slab, crowd[at], entry_size(key));
            crowd[at] = crowd[--count];
        }
        EXPECT_EQ(dir.further_count, 0);
        EXPECT_EQ(slab.used, 0);
        hashdir_close(&dir);
        slab_close(&slab);
        EXPECT_EQ(dir.memory, 0);
    }
}

/* Closing in every state of growth gives everything back. */
TEST(hashdir, closes_in_the_middle_of_growth)
{
    const uint64_t used = mem_used();
    uint32_t growing = 0;
    char text[32];
    for (uint32_t count = 1; count < 400; count += 3) {
        struct hashdir dir;
        struct slab slab;
        slab_init(&slab);
        hashdir_init(&dir, &slab, count);
        for (uint32_t i = 0; i < count; i++) {
            (void)snprintf(text, sizeof text, "%u", i);
            hashdir_insert(&dir, hashdir_hash(&dir, slice_text(text)),
                           entry_of(&slab, slice_text(text)));
        }
        hashdir_check(&dir);
        growing += dir.old.segments != NULL;
        hashdir_close(&dir);
        slab_close(&slab);
    }
    EXPECT_LT(10, growing);
    EXPECT_EQ(mem_used(), used);
}
