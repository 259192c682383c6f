/* Going through the keydir by its hash table, also while that grows: SCAN, RANDOMKEY, warming. */
#include "tests/test.h"

#include <stdio.h>

#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/keydir.h"

static struct slice numbered(char *text, uint64_t number)
{
    (void)snprintf(text, 32, "key:%012llu", (unsigned long long)number);
    return slice_text(text);
}

struct census {
    uint8_t *times; /* By number of the key. */
    uint64_t visited;
};

static void census_visit(void *context, const struct keydir_entry *entry)
{
    struct census *census = context;
    const struct slice key = keydir_info(entry).key;
    int64_t number = 0;
    uint64_t zeros = 4;
    while (zeros + 1 < key.size && key.data[zeros] == '0') zeros++;
    EXPECT_TRUE(slice_int64(slice_of(key.data + zeros, key.size - zeros), &number));
    census->times[number]++;
    census->visited++;
}

/* Keys [0, stay) are there all the time; others come and go between the steps of the scan. */
static void run_census(uint64_t seed, uint64_t stay, uint64_t churn, uint64_t step)
{
    struct keydir *keydir = keydir_create(seed);
    struct prng prng = prng_seed(seed);
    char text[32];
    const uint64_t all = stay + churn;
    struct census census = {.times = mem_zero(all)};
    uint64_t cursor = 0;
    uint64_t grown = 0;
    uint64_t rounds = 0;
    const struct place place = {0};
    for (uint64_t i = 0; i < stay; i++) {
        keydir_put(keydir, numbered(text, i), slice_text(""), 0, 1, 0, place, NULL);
    }
    do {
        cursor = keydir_scan(keydir, cursor, step, census_visit, &census);
        for (uint64_t i = 0; i < churn * step / stay && grown < churn; i++, grown++) {
            keydir_put(keydir, numbered(text, stay + grown), slice_text("x"), 0, 1, 0, place, NULL);
        }
        for (uint64_t i = 0; i < step; i++) {
            const uint64_t number = stay + prng_below(&prng, grown + 1);
            if (number < all) (void)keydir_remove(keydir, numbered(text, number), NULL);
            keydir_put(keydir, numbered(text, prng_below(&prng, stay)),
                       slice_text("new and longer"), 0, 2, prng_below(&prng, 2), place, NULL);
        }
        rounds++;
    } while (cursor != 0 && rounds < all);
    EXPECT_EQ(cursor, 0);
    for (uint64_t i = 0; i < stay; i++) EXPECT_EQ(census.times[i], 1);
    for (uint64_t i = stay; i < all; i++) EXPECT_LE(census.times[i], 1);
    keydir_check(keydir);
    mem_free(census.times);
    keydir_destroy(keydir);
}

TEST(keydir, scan_sees_every_key_once_while_the_table_grows)
{
    run_census(1, 2000, 40000, 10);
    run_census(2, 500, 60000, 3);
    run_census(3, 5000, 5000, 100);
    run_census(4, 60, 1000, 1);
}

TEST(keydir, scan_in_single_steps_is_whole_in_every_state_of_growth)
{
    const uint64_t count = 1200;
    struct keydir *keydir = keydir_create(6);
    struct census census = {.times = mem_zero(count)};
    char text[32];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t cursor = 0;
        keydir_put(keydir, numbered(text, i), slice_text(""), 0, 1, 0, (struct place){0}, NULL);
        census.visited = 0;
        do {
            cursor = keydir_scan(keydir, cursor, 1, census_visit, &census);
        } while (cursor != 0 && census.visited <= i);
        EXPECT_EQ(cursor, 0);
        EXPECT_EQ(census.visited, i + 1);
        for (uint64_t k = 0; k <= i; k++) EXPECT_EQ(census.times[k], 1);
        memset(census.times, 0, count);
    }
    mem_free(census.times);
    keydir_destroy(keydir);
}

TEST(keydir, warming_any_keys_changes_nothing_in_every_state_of_growth)
{
    struct keydir *keydir = keydir_create(8);
    char text[KEYDIR_WARM_MAX][32];
    struct slice keys[KEYDIR_WARM_MAX] = {{0}};
    keydir_warm(keydir, keys, 0);
    keydir_warm(keydir, keys, 1);
    for (uint64_t i = 0; i < 3000; i++) {
        keydir_put(keydir, numbered(text[0], i), slice_text("value"), 0, 1, 0, (struct place){0},
                   NULL);
        /* Some are there, some are not, one is empty. */
        for (uint32_t k = 0; k + 1 < KEYDIR_WARM_MAX; k++) keys[k] = numbered(text[k], i - 8 + k);
        keydir_warm(keydir, keys, KEYDIR_WARM_MAX);
        EXPECT_EQ(keydir_count(keydir), i + 1);
        EXPECT_TRUE(keydir_find(keydir, numbered(text[0], i + 1)) == NULL);
    }
    keydir_check(keydir);
    keydir_destroy(keydir);
}

TEST(keydir, scan_begins_exactly_at_its_cursor)
{
    const uint64_t count = 500;
    const uint64_t seed = 8;
    struct keydir *keydir = keydir_create(seed);
    struct census census = {.times = mem_zero(count)};
    char text[32];
    for (uint64_t i = 0; i < count; i++) {
        keydir_put(keydir, numbered(text, i), slice_text(""), 0, 1, 0, (struct place){0}, NULL);
    }
    for (uint64_t i = 0; i < count; i++) {
        const struct slice key = numbered(text, i);
        const uint64_t position = hash64_seeded(key.data, key.size, seed) >> 16;
        (void)keydir_scan(keydir, position, 1, census_visit, &census);
        EXPECT_EQ(census.times[i], 1);
        (void)keydir_scan(keydir, position + 1, 1, census_visit, &census);
        EXPECT_EQ(census.times[i], 1);
        memset(census.times, 0, count);
    }
    mem_free(census.times);
    keydir_destroy(keydir);
}

TEST(keydir, scan_goes_on_in_another_keydir_with_the_same_seed)
{
    const uint64_t count = 3000;
    struct keydir *keydir[2] = {keydir_create(5), keydir_create(5)};
    struct census census = {.times = mem_zero(count * 10)};
    char text[32];
    uint64_t cursor = 0;
    uint64_t turn = 0;
    /* The second one was far bigger once: its table has other buckets. */
    for (uint64_t i = 0; i < count * 10; i++) {
        keydir_put(keydir[1], numbered(text, i), slice_text(""), 0, 1, 0, (struct place){0}, NULL);
        if (i < count) {
            keydir_put(keydir[0], numbered(text, i), slice_text(""), 0, 1, 0, (struct place){0},
                       NULL);
        }
    }
    for (uint64_t i = count; i < count * 10; i++) {
        EXPECT_TRUE(keydir_remove(keydir[1], numbered(text, i), NULL));
    }
    do {
        cursor = keydir_scan(keydir[turn++ % 2], cursor, 11, census_visit, &census);
    } while (cursor != 0 && turn < count);
    for (uint64_t i = 0; i < count; i++) EXPECT_EQ(census.times[i], 1);
    EXPECT_EQ(census.visited, count);
    mem_free(census.times);
    keydir_destroy(keydir[0]);
    keydir_destroy(keydir[1]);
}

TEST(keydir, foreign_scan_cursor_is_harmless)
{
    struct keydir *keydir = keydir_create(5);
    struct census census = {.times = mem_zero(100)};
    char text[32];
    for (uint64_t i = 0; i < 100; i++) {
        keydir_put(keydir, numbered(text, i), slice_text(""), 0, 1, 0, (struct place){0}, NULL);
    }
    EXPECT_EQ(keydir_scan(keydir, UINT64_MAX, 10, census_visit, &census), 0);
    EXPECT_EQ(keydir_scan(keydir, 1ull << 48, 10, census_visit, &census), 0);
    EXPECT_EQ(census.visited, 0);
    EXPECT_EQ(keydir_scan(keydir, (1ull << 48) - 1, 10, census_visit, &census), 0);
    EXPECT_EQ(keydir_scan(keydir, 0, UINT64_MAX, census_visit, &census), 0);
    EXPECT_EQ(census.visited, 100);
    mem_free(census.times);
    keydir_destroy(keydir);
}

TEST(keydir, random_entries_are_spread)
{
    struct keydir *keydir = keydir_create(5);
    const uint64_t count = 300;
    const uint64_t draws = 60000;
    uint32_t drawn[300] = {0};
    char text[32];
    for (uint64_t i = 0; i < count; i++) {
        keydir_put(keydir, numbered(text, i), slice_of(&i, sizeof i), 0, 1, 0, (struct place){0},
                   NULL);
    }
    struct prng prng = prng_seed(1);
    for (uint64_t i = 0; i < draws; i++) {
        const struct keydir_entry *entry = keydir_random(keydir, prng_next(&prng));
        EXPECT_TRUE(entry != NULL);
        drawn[get_u64(keydir_info(entry).inline_value.data)]++;
    }
    for (uint64_t i = 0; i < count; i++) {
        EXPECT_LT(draws / count / 3, drawn[i]);
        EXPECT_LT(drawn[i], draws / count * 3);
    }
    /* Two keys in a table made for many are still found. */
    for (uint64_t i = 2; i < count; i++)
        EXPECT_TRUE(keydir_remove(keydir, numbered(text, i), NULL));
    for (uint64_t i = 0; i < 100; i++) EXPECT_TRUE(keydir_random(keydir, i) != NULL);
    keydir_destroy(keydir);
}

/* From 65536 buckets on the table moves its entries by their tags alone. */
TEST(keydir, large_table_is_whole)
{
    const uint64_t count = 620000;
    struct keydir *keydir = keydir_create(11);
    struct census census = {.times = mem_zero(count)};
    char text[32];
    for (uint64_t i = 0; i < count; i++) {
        keydir_put(keydir, numbered(text, i), slice_text(""), 0, i, 0, (struct place){0}, NULL);
    }
    keydir_check(keydir);
    EXPECT_EQ(keydir_scan(keydir, 0, UINT64_MAX, census_visit, &census), 0);
    EXPECT_EQ(census.visited, count);
    for (uint64_t i = 0; i < count; i++) EXPECT_EQ(census.times[i], 1);
    mem_free(census.times);
    keydir_destroy(keydir);
}
