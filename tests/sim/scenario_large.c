/* Entries, requests and replies that travel in fragments, over links that need many election timeouts for them. */
#include "tests/sim/scenario.h"

#include "raft/replica.h"

#define STEP_SIZE 25000u
#define STEP_COUNT 48u /* 1.2 MB in the end */

static void allow_large(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim->nodes[i].config.max_value_size = 4u * MIB;
        sim->nodes[i].config.compress_above_size = 0;
        sim->nodes[i].config.output_limit_size = 64u * MIB;
    }
}

/* About 1.6 MB a second: 32 KiB under way, 20 ms long. */
static void slow_down(struct sim *sim)
{
    sim->net.window = 32u * KIB;
    sim->net.delay_min = 20 * SIM_MS;
    sim->net.delay_max = 20 * SIM_MS;
    sim->net.delay_rare = 0;
}

static void end(struct sim *sim)
{
    sim->net.delay_min = 100;
    sim->net.delay_max = 1000;
    scenario_end(sim);
}

static const char *grow(struct sim *sim, uint32_t node, const char *command, uint64_t ms)
{
    static char line[STEP_SIZE + 64];
    const int size = snprintf(line, sizeof line, "%s big ", command);
    memset(line + size, 'x', STEP_SIZE);
    line[(uint32_t)size + STEP_SIZE] = 0;
    return sim_ask(sim, node, ms, line);
}

static uint64_t term_of(struct sim *sim, uint32_t node)
{
    return replica_term(core_replica(sim->nodes[node].core));
}

TEST(large, slow_links_carry_values_and_depose_nobody)
{
    struct sim *sim = scenario_begin(3, 3, 61);
    char expected[32];
    allow_large(sim);
    const uint32_t leader = sim_leader(sim);
    const uint64_t term = term_of(sim, leader);
    const uint32_t follower = (leader + 1) % 3;
    (void)grow(sim, leader, "SET", 20000);
    for (uint32_t i = 1; i < STEP_COUNT; i++) {
        if (i == STEP_COUNT / 2) slow_down(sim);
        const uint32_t node = i % 2 == 0 ? leader : follower;
        (void)snprintf(expected, sizeof expected, ":%u\r\n", (i + 1) * STEP_SIZE);
        EXPECT_TEXT(grow(sim, node, "APPEND", 20000), expected);
    }
    const uint64_t begin = sim->now;
    const char *answer = sim_ask(sim, follower, 20000, "GET big");
    EXPECT_EQ(strncmp(answer, "$1200000\r\nxxx", 13), 0);
    EXPECT_TRUE(sim->now - begin > 600 * SIM_MS); /* The reply alone took two election timeouts. */
    EXPECT_EQ(sim_leader(sim), leader);
    for (uint32_t i = 0; i < 3; i++) EXPECT_EQ(term_of(sim, i), term);
    end(sim);
}

TEST(large, nodes_that_fall_in_the_middle_of_a_value_lose_nothing_and_keep_half_of_none)
{
    uint32_t interrupted = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct sim *sim = scenario_begin(3, 3, 70 + seed);
        uint64_t certain = 0;
        allow_large(sim);
        (void)grow(sim, sim_leader(sim), "SET", 5000);
        for (uint32_t i = 1; i < STEP_COUNT; i++) (void)grow(sim, i % 3, "APPEND", 5000);
        slow_down(sim);
        for (uint32_t round = 0; round < 3; round++) {
            const uint32_t asked = (uint32_t)sim_below(sim, 3);
            const uint32_t victim = (uint32_t)sim_below(sim, 3);
            const char *answer = grow(sim, asked, "APPEND", 100 + sim_below(sim, 1500));
            if (answer[0] == ':') {
                certain = strtoull(answer + 1, NULL, 10);
            } else {
                interrupted++;
            }
            sim_crash(sim, victim, sim_chance(sim, 500));
            sim_run_for(sim, sim_below(sim, 800));
            EXPECT_TRUE(sim_start(sim, victim));
            allow_large(sim);
            EXPECT_TRUE(sim_wait_leader(sim, 10000));
        }
        const char *answer = "";
        for (uint32_t i = 0; i < 20 && answer[0] != ':'; i++) {
            answer = sim_ask(sim, i % 3, 5000, "STRLEN big");
        }
        const uint64_t size = strtoull(answer + 1, NULL, 10);
        EXPECT_EQ(answer[0], ':');
        EXPECT_TRUE(size >= certain);
        EXPECT_EQ(size % STEP_SIZE, 0);
        end(sim);
    }
    EXPECT_TRUE(interrupted > 3);
}
