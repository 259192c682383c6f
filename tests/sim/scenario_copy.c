/* F47: an older copy of a data directory is put back. What it forgot must count for nothing, however often it is
 * started, and whoever else has not met it. */
#include "tests/sim/scenario.h"

#include "raft/replica.h"
#include "storage/store.h"

static uint32_t patient;

static bool is_refused(struct sim *sim)
{
    const struct sim_node *node = &sim->nodes[patient];
    return node->core != NULL && core_refused(node->core);
}

static bool serves(struct sim *sim)
{
    const struct sim_node *node = &sim->nodes[patient];
    return node->core != NULL && core_serving(node->core, NULL);
}

/* Three nodes with something in their logs; the one behind the leader is the patient. */
static struct sim *begin(uint64_t seed, uint32_t fills)
{
    struct sim *sim = scenario_begin(3, 3, seed);
    scenario_fill(sim, fills);
    patient = (sim_leader(sim) + 1) % 3;
    return sim;
}

/* The patient, which is down, goes on from @image. */
static void put_back(struct sim *sim, const struct sim_image *image, bool is_outdated)
{
    struct sim_node *node = &sim->nodes[patient];
    sim_disk_restore(&node->disk, image);
    node->durable.has_promises = false;
    node->is_outdated = is_outdated;
}

static void start_patient(struct sim *sim)
{
    EXPECT_TRUE(sim_start(sim, patient));
}

static void crash_patient(struct sim *sim)
{
    sim_crash(sim, patient, false);
    sim->nodes[patient].durable.has_promises = false;
}

/* A start that everybody has met. */
static void start_and_serve(struct sim *sim)
{
    start_patient(sim);
    EXPECT_TRUE(sim_run_until_true(sim, 5000, serves));
    sim_run_for(sim, 1000);
}

/* With @leader the others can elect again, and nothing is lost. */
static void start_leader(struct sim *sim, uint32_t leader, uint64_t value)
{
    EXPECT_TRUE(sim_start(sim, leader));
    EXPECT_TRUE(sim_wait_leader(sim, 5000));
    EXPECT_EQ(scenario_get(sim, patient, "k"), value);
}

/* Started @count times it is refused each time, and is still up at the end. */
static void expect_refused(struct sim *sim, uint32_t count, uint64_t ms)
{
    for (uint32_t i = 0; i < count; i++) {
        start_patient(sim);
        EXPECT_TRUE(sim_run_until_true(sim, 3000, is_refused));
        sim_run_for(sim, ms);
        EXPECT_TRUE(is_refused(sim));
        if (i + 1 < count) crash_patient(sim);
    }
}

/* The copy stays refused: the nodes do not come to the same state. */
static void end_unwell(struct sim *sim, struct sim_image *copy)
{
    scenario_healthy(sim);
    sim_image_close(copy);
    sim_destroy(sim);
}

static const char *ask_patient(struct sim *sim, const char *line)
{
    return sim_ask(sim, patient, 1000, line);
}

TEST(copy, f47_an_older_copy_is_refused_however_often_it_is_started)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct sim *sim = begin(seed, 5);
        struct sim_image copy = {0};
        struct sim_image own = {0};
        const uint32_t leader = sim_leader(sim);
        crash_patient(sim);
        sim_disk_save(&sim->nodes[patient].disk, &copy);
        start_and_serve(sim);
        scenario_set(sim, NOBODY, "k", seed);
        crash_patient(sim);
        sim_disk_save(&sim->nodes[patient].disk, &own);
        put_back(sim, &copy, true);
        expect_refused(sim, 12, 300);
        EXPECT_TRUE(strstr(ask_patient(sim, "INFO raft"), "raft_refused_by:2\r\n") != NULL);
        EXPECT_TRUE(strstr(ask_patient(sim, "INFO raft"), "older copy") != NULL);
        /* Without the leader the third node would need its vote. */
        sim_crash(sim, leader, false);
        EXPECT_FALSE(sim_wait_leader(sim, 5000));
        start_leader(sim, leader, seed);
        /* The right directory is as good as ever. */
        crash_patient(sim);
        put_back(sim, &own, false);
        start_and_serve(sim);
        sim_image_close(&copy);
        sim_image_close(&own);
        scenario_end(sim);
    }
}

/* The third node was down while the directory was used, and takes the copy for the right one. Who knows better is
 * enough to keep the copy from electing anybody; and when its starts have been accepted by the one they are still
 * none that follow those that the other knows. */
TEST(copy, f47_one_node_that_knows_better_is_enough)
{
    for (uint64_t seed = 11; seed <= 14; seed++) {
        struct sim *sim = begin(seed, 5);
        struct sim_image copy = {0};
        const uint32_t leader = sim_leader(sim);
        const uint32_t other = (leader + 2) % 3;
        crash_patient(sim);
        sim_disk_save(&sim->nodes[patient].disk, &copy);
        sim_crash(sim, other, false);
        start_and_serve(sim);
        scenario_set(sim, other, "k", seed); /* on the leader and the patient only */
        crash_patient(sim);
        put_back(sim, &copy, true);
        EXPECT_TRUE(sim_start(sim, other));
        expect_refused(sim, 4, 1000);
        EXPECT_TRUE(strstr(ask_patient(sim, "INFO raft"), "raft_refused_by:1\r\n") != NULL);
        sim_crash(sim, leader, false);
        EXPECT_FALSE(sim_wait_leader(sim, 5000));
        start_leader(sim, leader, seed);
        end_unwell(sim, &copy);
    }
}

/* A copy of a running node: no start lies between it and what it lacks, but the leader knows what was acknowledged. */
TEST(copy, f47_a_copy_of_the_same_start_lacks_what_was_acknowledged)
{
    for (uint64_t seed = 21; seed <= 24; seed++) {
        struct sim *sim = begin(seed, 5);
        struct sim_image copy = {0};
        const uint32_t leader = sim_leader(sim);
        const uint32_t other = (leader + 2) % 3;
        sim_run_for(sim, 500);
        sim_disk_save(&sim->nodes[patient].disk, &copy);
        sim_crash(sim, other, false);
        scenario_set(sim, other, "k", seed);
        crash_patient(sim);
        put_back(sim, &copy, true);
        EXPECT_TRUE(sim_start(sim, other));
        start_patient(sim);
        EXPECT_TRUE(sim_run_until_true(sim, 3000, is_refused));
        EXPECT_TRUE(strstr(ask_patient(sim, "INFO raft"), "entries are gone") != NULL);
        sim_crash(sim, leader, false);
        EXPECT_FALSE(sim_wait_leader(sim, 5000));
        /* The leader's memory ends with it, the copy's knowledge of what it is does not. */
        crash_patient(sim);
        start_patient(sim);
        EXPECT_FALSE(sim_wait_leader(sim, 5000));
        start_leader(sim, leader, seed);
        end_unwell(sim, &copy);
    }
}

/* The same, and what it lacks is an election. */
TEST(copy, f47_a_copy_of_the_same_start_has_forgotten_an_election)
{
    for (uint64_t seed = 31; seed <= 34; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        struct sim_image copy = {0};
        const uint32_t leader = sim_leader(sim);
        patient = (leader + 1) % 3;
        sim_run_for(sim, 500);
        sim_disk_save(&sim->nodes[patient].disk, &copy);
        /* One of the two that are left gets the other's vote. */
        sim_crash(sim, leader, false);
        EXPECT_TRUE(sim_wait_leader(sim, 5000));
        crash_patient(sim);
        put_back(sim, &copy, true);
        start_patient(sim);
        EXPECT_TRUE(sim_run_until_true(sim, 3000, is_refused));
        EXPECT_TRUE(strstr(ask_patient(sim, "INFO raft"), "it forgot") !=
                    NULL); /* its term, or its vote */
        /* Two of three are up, and yet nothing is taken. */
        sim_run_for(sim, 2000);
        EXPECT_TRUE(ask_patient(sim, "SET k 1")[0] != '+');
        EXPECT_TRUE(sim_start(sim, leader));
        EXPECT_TRUE(sim_wait_leader(sim, 5000));
        end_unwell(sim, &copy);
    }
}

/* A start that nobody has met is announced again: it is no copy, whatever the crash left of the files. */
TEST(copy, a_start_that_nobody_met_is_the_same_one_again)
{
    for (uint64_t seed = 41; seed <= 43; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        patient = (sim_leader(sim) + 1) % 3;
        crash_patient(sim);
        scenario_isolate(sim, patient, true, true);
        for (uint32_t i = 0; i < 5; i++) {
            start_patient(sim);
            sim_run_for(sim, 100);
            sim_crash(sim, patient, (i & 1) != 0);
        }
        sim_net_heal(sim);
        /* It dies again and again just while it is met. */
        for (uint32_t i = 0; i < 20; i++) {
            start_patient(sim);
            sim_run_for(sim, 1 + i);
            sim_crash(sim, patient, (i & 1) != 0);
        }
        start_and_serve(sim);
        scenario_set(sim, NOBODY, "k", seed);
        scenario_end(sim);
    }
}
