/* What the index may take: at most 48 bytes a key beside the key, at any number of keys. */
#include "tests/test.h"

#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/keydir.h"

enum {
    KEY_SIZE = 32,
    BESIDE_MAX = 48,
    COUNT = 420000, /* The table grows four times from COUNT_MIN on. */
    COUNT_STEP = 43000,
    COUNT_MIN = 120000,
};

/* A key of 32 bytes for each number, in no order; @common of them are the same for all. */
static struct slice key_of(uint8_t bytes[KEY_SIZE], uint64_t number, uint32_t common)
{
    struct prng prng = prng_seed(number);
    memset(bytes, 'k', KEY_SIZE);
    for (uint32_t i = common; i < KEY_SIZE; i += 4) put_u32(bytes + i, (uint32_t)prng_next(&prng));
    return slice_of(bytes, KEY_SIZE);
}

static void put(struct keydir *keydir, uint64_t number, uint32_t common)
{
    uint8_t bytes[KEY_SIZE];
    const struct place place = {.file = 1, .offset = (uint32_t)number * 8};
    keydir_put(keydir, key_of(bytes, number, common), slice_of(NULL, 256), 0, number + 1, 0, place,
               NULL);
}

static void expect_small(const struct keydir *keydir)
{
    const uint64_t count = keydir_count(keydir);
    /* Entries come out of regions of up to 1 MiB, the last of which is not used up yet. */
    EXPECT_LE(keydir_memory(keydir), count * (KEY_SIZE + BESIDE_MAX) + MIB);
    EXPECT_LE(keydir_used(keydir), keydir_memory(keydir));
}

TEST(keydir_memory, is_at_most_48_bytes_beside_a_key_in_random_order)
{
    for (uint32_t common = 0; common <= 20; common += 20) {
        struct keydir *keydir = keydir_create(1);
        for (uint64_t i = 0; i < COUNT; i++) {
            put(keydir, i, common);
            if (i >= COUNT_MIN && i % 2000 == 0) expect_small(keydir);
        }
        expect_small(keydir);
        keydir_destroy(keydir);
    }
}

TEST(keydir_memory, is_at_most_48_bytes_beside_a_key_after_a_start)
{
    for (uint64_t count = COUNT_MIN; count <= COUNT; count += COUNT_STEP) {
        struct keydir *keydir = keydir_create(2);
        keydir_bulk_begin(keydir);
        for (uint64_t i = 0; i < count; i++) put(keydir, i, 4);
        keydir_bulk_end(keydir);
        expect_small(keydir);
        if (count + COUNT_STEP > COUNT) keydir_check(keydir);
        keydir_destroy(keydir);
    }
}

/* A full index that lost keys has room for as many others, and says so. */
TEST(keydir_memory, what_removed_keys_leave_behind_counts_as_room)
{
    struct keydir *keydir = keydir_create(3);
    uint8_t bytes[KEY_SIZE];
    for (uint64_t i = 0; i < COUNT_MIN; i++) put(keydir, i, 0);
    const uint64_t max = keydir_used(keydir);
    EXPECT_TRUE(keydir_full(keydir, max));
    EXPECT_FALSE(keydir_full(keydir, max + 1));
    EXPECT_FALSE(keydir_full(keydir, 0));
    for (uint64_t i = 0; i < COUNT_MIN / 2; i++) {
        EXPECT_TRUE(keydir_remove(keydir, key_of(bytes, i, 0), NULL));
    }
    EXPECT_FALSE(keydir_full(keydir, max));
    EXPECT_LT(keydir_used(keydir), max * 3 / 4);
    for (uint64_t i = 0; i < COUNT_MIN / 4; i++) put(keydir, i, 0);
    EXPECT_FALSE(keydir_full(keydir, max));
    /* Gaps of one size are no room for others for ever: the limit holds for what they take together, too. */
    const uint64_t gaps = keydir_memory(keydir) - keydir_used(keydir);
    EXPECT_LT(0, gaps);
    EXPECT_TRUE(keydir_full(keydir, keydir_used(keydir)));
    keydir_destroy(keydir);
}
