#include "storage/damage.h"

#include "tests/test.h"

TEST(damage, spots_that_touch_become_one)
{
    struct damage damage = {0};
    EXPECT_TRUE(damage_note(&damage, 3, 4096, 4096));
    EXPECT_TRUE(damage_note(&damage, 3, 16384, 4096));
    EXPECT_FALSE(damage_note(&damage, 3, 4096, 100));
    EXPECT_EQ(damage.count, 2);
    EXPECT_TRUE(damage_note(&damage, 3, 8192, 8192));
    EXPECT_EQ(damage.count, 1);
    EXPECT_EQ(damage.spots[0].offset, 4096);
    EXPECT_EQ(damage.spots[0].size, 16384);
    EXPECT_EQ(damage.found_count, 2); /* The third joined the others. */
    damage_close(&damage);
}

TEST(damage, a_range_is_covered_when_any_of_it_is_damaged)
{
    struct damage damage = {0};
    (void)damage_note(&damage, 2, 8192, UINT64_MAX);
    (void)damage_note(&damage, 1, 100, 1);
    EXPECT_FALSE(damage_covers(&damage, 2, 0, 8192));
    EXPECT_TRUE(damage_covers(&damage, 2, 0, 8193));
    EXPECT_TRUE(damage_covers(&damage, 2, 1u << 30, 1));
    EXPECT_FALSE(damage_covers(&damage, 1, 101, 50));
    EXPECT_FALSE(damage_covers(&damage, 3, 0, UINT64_MAX / 2));
    damage_close(&damage);
}

TEST(damage, a_repaired_file_is_forgotten)
{
    struct damage damage = {0};
    for (uint32_t file = 1; file <= 3; file++) {
        (void)damage_note(&damage, file, 0, 10);
        (void)damage_note(&damage, file, 100, 10);
    }
    damage_repaired(&damage, 2);
    EXPECT_TRUE(damage_has(&damage, 1));
    EXPECT_FALSE(damage_has(&damage, 2));
    EXPECT_TRUE(damage_has(&damage, 3));
    EXPECT_EQ(damage.repaired_count, 2);
    EXPECT_EQ(damage.count, 4);
    damage_close(&damage);
}

TEST(damage, too_many_spots_of_a_file_are_joined)
{
    struct damage damage = {0};
    for (uint64_t i = 0; i <= DAMAGE_SPOTS_MAX; i++) (void)damage_note(&damage, 7, i * 100, 10);
    EXPECT_EQ(damage.count, 1);
    EXPECT_EQ(damage.spots[0].size, UINT64_MAX);
    EXPECT_FALSE(damage_note(&damage, 7, 5000, 10));
    damage_close(&damage);
}
