/* The table alone: crowded buckets. What a keydir shows is tested in test_keydir.c. */
#include "tests/test.h"

#include <stdio.h>

#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/hashdir.h"
#include "storage/keydir_entry.h"

enum { CROWD = 45 }; /* Less than what lets the smallest table grow. */

static struct keydir_entry *entry_of(struct slice key)
{
    struct keydir_entry *entry = mem_zero(sizeof *entry + key.size);
    entry->key_last = (uint16_t)(key.size - 1);
    memcpy(entry->bytes, key.data, key.size);
    return entry;
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
    struct keydir_entry *crowd[CROWD];
    char text[32];
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct prng prng = prng_seed(seed);
        uint32_t count = 0;
        hashdir_init(&dir, seed);
        const uint64_t memory = dir.memory;
        for (uint32_t i = 0; count < CROWD && i < 100000; i++) {
            (void)snprintf(text, sizeof text, "%06u", i);
            const uint64_t hash = hashdir_hash(&dir, slice_text(text));
            if (hash >> 61 != 0) continue;
            EXPECT_TRUE(hashdir_find(&dir, hash, slice_text(text)) == NULL);
            crowd[count] = entry_of(slice_text(text));
            hashdir_insert(&dir, hash, crowd[count++]);
            hashdir_check(&dir);
        }
        EXPECT_EQ(count, CROWD);
        EXPECT_LT(memory + 5 * sizeof(struct hashdir_bucket), dir.memory);
        uint64_t bytes = 0;
        EXPECT_NE(hashdir_scan(&dir, 0, 1, count_visit, &bytes), 0);
        EXPECT_EQ(bytes, CROWD * 6);
        while (count > 0) {
            const uint64_t at = prng_below(&prng, count);
            const struct slice key = keydir_entry_key(crowd[at]);
            const uint64_t hash = hashdir_hash(&dir, key);
            uint64_t *slot = hashdir_find(&dir, hash, key);
            EXPECT_TRUE(slot != NULL);
            EXPECT_TRUE(hashdir_entry(slot) == crowd[at]);
            hashdir_remove(&dir, hash, slot);
            EXPECT_TRUE(hashdir_find(&dir, hash, key) == NULL);
            hashdir_check(&dir);
            mem_free(crowd[at]);
            crowd[at] = crowd[--count];
        }
        EXPECT_EQ(dir.memory, memory); /* The further buckets are gone. */
        hashdir_close(&dir);
        EXPECT_EQ(dir.memory, 0);
    }
}

/* Closing in every state of growth gives everything back. */
TEST(hashdir, closes_in_the_middle_of_growth)
{
    const uint64_t used = mem_used();
    uint32_t growing = 0;
    struct keydir_entry *all[400];
    char text[32];
    for (uint32_t count = 1; count < 400; count += 3) {
        struct hashdir dir;
        hashdir_init(&dir, count);
        for (uint32_t i = 0; i < count; i++) {
            (void)snprintf(text, sizeof text, "%u", i);
            all[i] = entry_of(slice_text(text));
            hashdir_insert(&dir, hashdir_hash(&dir, slice_text(text)), all[i]);
        }
        hashdir_check(&dir);
        growing += dir.old.segments != NULL;
        hashdir_close(&dir);
        for (uint32_t i = 0; i < count; i++) mem_free(all[i]);
    }
    EXPECT_LT(10, growing);
    EXPECT_EQ(mem_used(), used);
}
