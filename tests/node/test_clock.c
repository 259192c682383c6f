/* Tests of node/clock.h: F31, the replicated clock goes on when leadership moves, whatever the wall clocks say. */
#include "node/clock.h"

#include "tests/test.h"

#define WALL 1700000000000u
#define HOUR 3600000u

/* A follower sees an entry every @step_ms of its own time from @now_ms on; the stamps advance likewise. */
static uint64_t watch(struct clock *clock, uint64_t now_ms, uint64_t stamp_ms, uint64_t step_ms,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        clock_saw(clock, stamp_ms + i * step_ms, now_ms + i * step_ms);
    }
    return now_ms + (count - 1) * step_ms;
}

TEST(clock, f31_a_new_leader_goes_on_from_the_stamps_and_not_from_its_wall_clock)
{
    struct clock clock = {0};
    const uint64_t now = watch(&clock, 5000, WALL, 50, 10);
    clock_lead(&clock, now + 2000, WALL + HOUR);
    EXPECT_EQ(clock_now(&clock, now + 2000, WALL + HOUR), WALL + 450 + 2000);
}

TEST(clock, f31_the_first_leader_begins_at_its_wall_clock)
{
    struct clock clock = {0};
    clock_lead(&clock, 5000, WALL);
    EXPECT_EQ(clock_now(&clock, 5010, WALL + HOUR), WALL + 10);
}

TEST(clock, f31_after_a_start_the_wall_clock_counts_but_never_below_the_log)
{
    struct clock ahead = {0};
    struct clock behind = {0};
    clock_saw(&ahead, WALL, 5000);
    clock_lead(&ahead, 5100, WALL + HOUR);
    EXPECT_EQ(clock_now(&ahead, 5100, WALL + HOUR), WALL + HOUR);
    clock_saw(&behind, WALL, 5000);
    clock_lead(&behind, 5100, WALL - HOUR);
    EXPECT_EQ(clock_now(&behind, 5150, WALL - HOUR), WALL + 50);
}

TEST(clock, f31_entries_that_a_node_catches_up_with_say_nothing)
{
    struct clock clock = {0};
    /* An hour of entries in three seconds, then nothing more. */
    for (uint64_t i = 0; i < 60; i++) clock_saw(&clock, WALL + i * 60000, 5000 + i * 50);
    clock_lead(&clock, 9000, WALL + 2 * HOUR);
    EXPECT_EQ(clock_now(&clock, 9000, WALL + 2 * HOUR), WALL + 2 * HOUR);
}

TEST(clock, f31_an_entry_that_came_late_does_not_hold_the_clock_back)
{
    struct clock clock = {0};
    const uint64_t now = watch(&clock, 5000, WALL, 50, 10);
    clock_saw(&clock, WALL + 451, now + 900); /* 899 ms on its way. */
    clock_lead(&clock, now + 1000, WALL);
    EXPECT_EQ(clock_now(&clock, now + 1000, WALL), WALL + 1450);
}

TEST(clock, f32_a_fast_clock_does_not_run_away_from_the_stamps)
{
    struct clock clock = {0};
    /* It counts two milliseconds for each one of the leader. */
    uint64_t now = 5000;
    uint64_t stamp = WALL;
    for (uint32_t i = 0; i < 100000; i++) {
        now += 20;
        stamp += 10;
        clock_saw(&clock, stamp, now);
    }
    clock_lead(&clock, now, WALL);
    const uint64_t ahead = clock_now(&clock, now, WALL) - stamp;
    EXPECT_TRUE(ahead <= 10000); /* What it is wrong by in the 20 seconds that count. */
}

TEST(clock, f31_a_leader_is_drawn_to_its_wall_clock_by_a_thousandth)
{
    struct clock clock = {0};
    clock_lead(&clock, 5000, WALL);
    uint64_t last = 0;
    for (uint64_t ms = 0; ms <= 100000; ms += 250) {
        const uint64_t value = clock_now(&clock, 5000 + ms, WALL - HOUR + ms);
        EXPECT_TRUE(value >= last);
        last = value;
    }
    EXPECT_EQ(last, WALL + 100000 - 100);
    /* Once it is there it stays. */
    clock_lead(&clock, 5000, WALL);
    for (uint64_t ms = 0; ms <= 100000; ms += 250) {
        last = clock_now(&clock, 5000 + ms, WALL + 7 + ms);
    }
    EXPECT_EQ(last, WALL + 7 + 100000);
}
