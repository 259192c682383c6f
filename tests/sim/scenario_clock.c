/* Wall clocks that jump and disagree, and what that does to keys with an expiry. */
#include "tests/sim/scenario.h"

#define HOUR_MS 3600000

static void transfer(struct sim *sim)
{
    const uint32_t old = sim_leader(sim);
    sim_crash(sim, old, false);
    EXPECT_TRUE(sim_wait_leader(sim, 5000));
    EXPECT_TRUE(sim_start(sim, old));
}

static void set_expiring(struct sim *sim, uint64_t ms)
{
    char line[64];
    (void)snprintf(line, sizeof line, "SET k 1 PX %llu", (unsigned long long)ms);
    EXPECT_TEXT(scenario_ask(sim, NOBODY, line), "+OK\r\n");
}

TEST(clock, a_jump_of_the_leaders_clock_expires_nothing_early_or_late)
{
    static const int64_t jumps[] = {HOUR_MS, -HOUR_MS};
    for (uint32_t i = 0; i < 2; i++) {
        struct sim *sim = scenario_begin(3, 3, 51 + i);
        set_expiring(sim, 2000);
        sim->nodes[sim_leader(sim)].wall_offset_ms = jumps[i];
        sim_run_for(sim, 1500);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 1);
        sim_run_for(sim, 1000);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), UINT64_MAX);
        scenario_end(sim);
    }
}

TEST(clock, a_new_leader_whose_clock_is_behind_still_expires_in_time)
{
    struct sim *sim = scenario_begin(3, 3, 53);
    const uint32_t first = sim_leader(sim);
    for (uint32_t i = 0; i < 3; i++) {
        if (i != first) sim->nodes[i].wall_offset_ms = -HOUR_MS;
    }
    set_expiring(sim, 4000);
    transfer(sim);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 1);
    sim_run_for(sim, 6000);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), UINT64_MAX);
    /* Also what is written from now on. */
    set_expiring(sim, 500);
    sim_run_for(sim, 1000);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), UINT64_MAX);
    scenario_end(sim);
}

TEST(clock, what_expired_does_not_come_back_under_a_leader_whose_clock_is_behind)
{
    struct sim *sim = scenario_begin(3, 3, 54);
    const uint32_t first = sim_leader(sim);
    for (uint32_t i = 0; i < 3; i++) {
        if (i != first) sim->nodes[i].wall_offset_ms = -HOUR_MS;
    }
    set_expiring(sim, 300);
    sim_run_for(sim, 305);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), UINT64_MAX);
    transfer(sim);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), UINT64_MAX);
    scenario_end(sim);
}

TEST(clock, keys_without_expiry_do_not_care)
{
    struct sim *sim = scenario_begin(3, 3, 55);
    for (uint64_t i = 1; i <= 10; i++) {
        for (uint32_t k = 0; k < 3; k++) {
            sim->nodes[k].wall_offset_ms = (int64_t)sim_below(sim, 20ull * HOUR_MS * 24 * 365) -
                                           10ll * HOUR_MS * 24 * 365;
        }
        scenario_set(sim, NOBODY, "k", i);
        transfer(sim);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), i);
    }
    scenario_end(sim);
}

TEST(clock, f31_a_new_leader_whose_clock_is_ahead_expires_nothing_early)
{
    struct sim *sim = scenario_begin(3, 3, 56);
    const uint32_t first = sim_leader(sim);
    for (uint64_t i = 1; i <= 20; i++) {
        scenario_set(sim, NOBODY, "other", i); /* By their stamps the others know the time. */
        sim_run_for(sim, 20);
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (i != first) sim->nodes[i].wall_offset_ms = HOUR_MS;
    }
    set_expiring(sim, 9000);
    transfer(sim);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 1);
    sim_run_for(sim, 11000);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), UINT64_MAX);
    scenario_end(sim);
}
