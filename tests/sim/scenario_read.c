/* Reads that a node answers from its own applied keys (node/readindex.h). */
#include "raft/replica.h"
#include "tests/sim/scenario.h"

static uint32_t follower_of(struct sim *sim, uint32_t at)
{
    return (sim_leader(sim) + 1 + at) % sim->node_count;
}

/* "*3\r\n$1\r\n7\r\n:R\r\n:-1\r\n": the value. UINT64_MAX: there is none. */
static uint64_t here(struct sim *sim, uint32_t node, uint64_t ms)
{
    const char *answer = sim_ask(sim, node, ms, "KV.GET k");
    if (strncmp(answer, "*3\r\n$", 5) != 0) return UINT64_MAX;
    const char *text = strchr(answer + 4, '\n');
    return text == NULL ? UINT64_MAX : strtoull(text, NULL, 10);
}

TEST(read, any_node_shows_what_was_acknowledged_before_it_was_asked)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        for (uint64_t i = 0; i < 30; i++) {
            scenario_set(sim, NOBODY, "k", i);
            EXPECT_EQ(here(sim, (uint32_t)(i % 3), 2000), i);
        }
        scenario_end(sim);
    }
}

TEST(read, a_node_that_is_cut_off_answers_nothing_old)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_set(sim, NOBODY, "k", 1);
        const uint32_t alone = follower_of(sim, (uint32_t)(seed % 2));
        EXPECT_EQ(here(sim, alone, 1000), 1);
        scenario_isolate(sim, alone, true, true);
        scenario_set(sim, alone, "k", 2);
        const char *answer = sim_ask(sim, alone, 3000, "KV.GET k");
        EXPECT_EQ(strncmp(answer, "-CLUSTERDOWN", 12), 0);
        sim_net_heal(sim);
        sim_run_for(sim, 1000);
        EXPECT_EQ(here(sim, alone, 3000), 2);
        scenario_end(sim);
    }
}

/* A leader that slept believes that it leads, and so do those who ask it. */
TEST(read, a_leader_of_before_gives_no_index)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim *sim = scenario_begin(5, 5, seed);
        const uint32_t old = sim_leader(sim);
        const uint32_t friend = (old + 1) % 5;
        scenario_set(sim, NOBODY, "k", 1);
        /* The old leader and one follower on one side, the majority on the other. */
        for (uint32_t i = 0; i < 5; i++) {
            if (i == old || i == friend) continue;
            sim_net_block(sim, old, i);
            sim_net_block(sim, i, old);
            sim_net_block(sim, friend, i);
            sim_net_block(sim, i, friend);
        }
        const uint32_t other = (old + 2) % 5;
        bool is_set = false;
        for (uint32_t i = 0; i < 100 && !is_set && !sim->has_failed; i++) {
            is_set = sim_ask(sim, other, 500, "SET k 2")[0] == '+';
        }
        EXPECT_TRUE(is_set);
        EXPECT_EQ(here(sim, friend, 400), UINT64_MAX);
        sim_net_heal(sim);
        sim_run_for(sim, 1000);
        EXPECT_EQ(here(sim, friend, 3000), 2);
        scenario_end(sim);
    }
}

/* Time: what the leader's clock says is gone is gone on every node that is asked afterwards. */
TEST(read, a_key_that_expired_is_gone_everywhere_at_once)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        EXPECT_TEXT(scenario_ask(sim, NOBODY, "SET k 1 PX 40"), "+OK\r\n");
        const uint32_t node = follower_of(sim, (uint32_t)(seed % 2));
        sim_run_for(sim, seed * 3);
        if (scenario_ask(sim, NOBODY, "GET k")[1] == '-') {
            EXPECT_EQ(here(sim, node, 1000), UINT64_MAX);
        }
        sim_run_for(sim, 60);
        EXPECT_EQ(here(sim, node, 1000), UINT64_MAX);
        EXPECT_EQ(scenario_ask(sim, NOBODY, "GET k")[1], '-');
        scenario_end(sim);
    }
}
