/* Leaders that are cut off, asleep, or only half heard. */
#include "raft/replica.h"
#include "tests/sim/scenario.h"

static uint32_t other_leader;
static bool another_leads(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    return leader != NOBODY && leader != other_leader &&
           core_serving(sim->nodes[leader].core, NULL);
}

/* Some node other than @old serves within @ms. */
static uint32_t wait_for_another(struct sim *sim, uint32_t old, uint64_t ms)
{
    other_leader = old;
    EXPECT_TRUE(sim_run_until_true(sim, ms, another_leads));
    return sim_leader(sim);
}

TEST(leader, isolated_leader_acknowledges_nothing_and_another_takes_over)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        const uint32_t old = sim_leader(sim);
        scenario_set(sim, NOBODY, "k", 1);
        scenario_isolate(sim, old, true, true);
        const char *answer = sim_ask(sim, old, 4000, "SET k 2");
        EXPECT_NE(answer[0], '+');
        (void)wait_for_another(sim, old, 3000);
        scenario_set(sim, old, "k", 3);
        sim_net_heal(sim);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 3);
        scenario_end(sim);
    }
}

TEST(leader, one_that_slept_serves_nothing_before_a_majority_confirms_it)
{
    uint32_t believers = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        const uint32_t old = sim_leader(sim);
        scenario_set(sim, NOBODY, "k", 1);
        scenario_isolate(sim, old, true, true);
        sim_freeze(sim, old, 2500);
        (void)wait_for_another(sim, old, 2400);
        scenario_set(sim, old, "k", 2);
        while (sim_node_frozen(&sim->nodes[old])) sim_run_for(sim, 1);
        const struct replica *replica = core_replica(sim->nodes[old].core);
        believers += replica_role(replica) == REPLICA_LEADER;
        const char *answer = sim_ask(sim, old, 300, "GET k");
        EXPECT_TRUE(answer[0] == 0 || answer[0] == '-');
        sim_net_heal(sim);
        answer = sim_ask(sim, old, 3000, "GET k");
        EXPECT_TEXT(answer, "$1\r\n2\r\n");
        scenario_end(sim);
    }
    EXPECT_TRUE(believers > 0); /* Else nothing was tried. */
}

TEST(leader, one_that_is_not_heard_gives_way)
{
    struct sim *sim = scenario_begin(3, 3, 3);
    const uint32_t old = sim_leader(sim);
    scenario_isolate(sim, old, true, false);
    (void)wait_for_another(sim, old, 5000);
    scenario_set(sim, old, "k", 7);
    scenario_end(sim);
}

TEST(leader, one_that_does_not_hear_gives_way)
{
    struct sim *sim = scenario_begin(3, 3, 4);
    const uint32_t old = sim_leader(sim);
    scenario_isolate(sim, old, false, true);
    (void)wait_for_another(sim, old, 5000);
    scenario_set(sim, old, "k", 7);
    scenario_end(sim);
}

TEST(leader, a_follower_out_of_its_reach_does_not_disturb_the_others)
{
    struct sim *sim = scenario_begin(3, 3, 5);
    const uint32_t leader = sim_leader(sim);
    const uint32_t follower = (leader + 1) % 3;
    const uint64_t term = replica_term(core_replica(sim->nodes[leader].core));
    sim_net_block(sim, leader, follower);
    sim_net_block(sim, follower, leader);
    for (uint64_t i = 0; i < 100; i++) {
        scenario_set(sim, follower, "k", i);
        sim_run_for(sim, 100);
    }
    /* Pre-vote and sticky leaders: ten seconds of this cost a few elections at most. */
    const uint32_t now = sim_leader(sim);
    EXPECT_NE(now, NOBODY);
    EXPECT_LE(replica_term(core_replica(sim->nodes[now].core)), term + 3);
    scenario_end(sim);
}

TEST(leader, one_that_is_stopped_hands_over_at_once)
{
    struct sim *sim = scenario_begin(3, 3, 6);
    const uint32_t old = sim_leader(sim);
    core_stop(sim->nodes[old].core, sim_node_now_ms(&sim->nodes[old]));
    sim_wake(sim, old);
    const uint64_t before = sim->now;
    (void)wait_for_another(sim, old, 1000);
    EXPECT_LT(sim->now - before, 250 * SIM_MS); /* An election by timeout takes 300 ms and more. */
    scenario_set(sim, old, "k", 1);
    scenario_end(sim);
}
