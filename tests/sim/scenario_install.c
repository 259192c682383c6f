/* Nodes that come so late that the others have dropped the log that they need. */
#include "tests/sim/scenario.h"

#include "raft/replica.h"
#include "storage/store.h"
#include "tests/sim/check_space.h"

/* Three nodes, of which the last was never started, and more log than anybody keeps. */
static struct sim *begin_late(uint64_t seed)
{
    struct sim *sim = scenario_begin(3, 2, seed);
    scenario_set(sim, 2, "k", 42);
    scenario_fill(sim, 80);
    const uint32_t leader = sim_leader(sim);
    EXPECT_TRUE(store_first_index(core_store(sim->nodes[leader].core)) > 2);
    return sim;
}

static bool has_installed(struct sim *sim)
{
    return sim->counts.installs > 0;
}

TEST(install, a_blank_node_gets_the_state_of_the_others)
{
    struct sim *sim = begin_late(31);
    EXPECT_TRUE(sim_start(sim, 2));
    EXPECT_TRUE(sim_run_until_true(sim, 10000, has_installed));
    sim_run_converge(sim);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 42);
    /* It is worth as much as any other: the two of the beginning may go. */
    sim_crash(sim, 0, true);
    EXPECT_TRUE(sim_wait_leader(sim, 5000));
    EXPECT_EQ(scenario_get(sim, 0, "k"), 42);
    scenario_end(sim);
}

/* The receiver loses power at each change of its disk, one run for each. */
TEST(install, a_crash_of_the_receiver_at_any_point_leaves_old_or_new)
{
    uint32_t interrupted = 0;
    for (uint64_t change = 1; change < 400; change += 1 + change / 12) {
        struct sim *sim = begin_late(32);
        sim_disk_stop_after(&sim->nodes[2].disk, change);
        (void)sim_start(sim, 2);
        for (uint32_t i = 0; i < 3000 && !sim_disk_stopped(&sim->nodes[2].disk); i++) {
            if (has_installed(sim) && i > 1000) break;
            sim_run_for(sim, 1);
        }
        const bool was_stopped = sim_disk_stopped(&sim->nodes[2].disk);
        interrupted += was_stopped && sim->counts.installs == 0;
        /* What it promised after the stop, it promised upon a ghost: nobody may have heard of it. */
        sim_crash(sim, 2, true);
        sim->nodes[2].durable.has_promises = false;
        EXPECT_TRUE(sim_start(sim, 2));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 42);
        sim_run_converge(sim);
        scenario_end(sim);
        if (!was_stopped) break;
    }
    EXPECT_TRUE(interrupted > 5);
}

TEST(install, a_sender_that_dies_is_replaced_by_another)
{
    for (uint64_t seed = 41; seed <= 46; seed++) {
        struct sim *sim = begin_late(seed);
        EXPECT_TRUE(sim_start(sim, 2));
        sim_run_for(sim, 200 + 30 * (seed - 41));
        const uint32_t leader = sim_leader(sim);
        EXPECT_NE(leader, NOBODY);
        sim_crash(sim, leader, true);
        sim_run_for(sim, 2000);
        EXPECT_TRUE(sim_start(sim, leader));
        sim_run_converge(sim);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 42);
        scenario_end(sim);
    }
}

/* F07: the leader sends a base of which a file rotted unnoticed. The receiver refuses it; that it begins anew makes the
 * leader look, so that there is an end to it: somebody else leads, and sends what is sound. */
TEST(install, f07_a_rotten_base_is_not_sent_for_ever)
{
    for (uint64_t seed = 51; seed <= 54; seed++) {
        struct sim *sim = begin_late(seed);
        struct sim_disk *disk = &sim->nodes[sim_leader(sim)].disk;
        struct buf names = {0};
        uint32_t spoilt = 0;
        sim_run_for(sim, 500);
        sim_disk_names(disk, &names);
        for (const uint8_t *at = names.data; at < names.data + names.size;
             at += strlen((const char *)at) + 1) {
            const char *name = (const char *)at;
            const uint64_t size = strlen(name);
            if (size < 4 || strcmp(name + size - 4, ".tab") != 0) continue;
            sim_disk_flip(disk, name, 8 * 4300);
            spoilt++;
        }
        buf_close(&names);
        EXPECT_TRUE(spoilt > 0);
        EXPECT_TRUE(sim_start(sim, 2));
        EXPECT_TRUE(sim_run_until_true(sim, 9000, has_installed));
        EXPECT_TRUE(sim->counts.reopens - sim->counts.installs < 10);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 42);
        scenario_end(sim);
    }
}

static uint64_t first_of(const struct sim *sim, uint32_t node)
{
    return store_first_index(core_store(sim->nodes[node].core));
}

static uint64_t refused_by(const struct sim *sim, uint32_t node)
{
    return replica_stats(core_replica(sim->nodes[node].core)).snapshots_refused;
}

static bool is_bounded(struct sim *sim)
{
    return check_space_bounded(sim);
}

/* Writes ten times what a node may keep, and looks at what the leader keeps all the time. */
static void expect_no_hoard(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    uint64_t first = first_of(sim, leader);
    for (uint32_t i = 0; i < 10; i++) {
        scenario_fill(sim, 100);
        EXPECT_EQ(sim_leader(sim), leader);
        EXPECT_TRUE(first_of(sim, leader) > first);
        first = first_of(sim, leader);
        /* Compaction is at most a job behind. */
        EXPECT_TRUE(sim_run_until_true(sim, 300, is_bounded));
        if (sim->has_failed) check_space_fail(sim);
    }
    EXPECT_EQ(sim->counts.installs, 0);
    EXPECT_TRUE(refused_by(sim, 2) > 0);
}

/* There is room again, and the load goes on. */
static void expect_install(struct sim *sim)
{
    sim->nodes[2].disk.capacity = UINT64_MAX;
    const uint64_t begin = sim->now;
    /* A third of the time after which the library gives up an offer. */
    while (sim->counts.installs == 0 && sim->now < begin + SIM_SECOND) scenario_fill(sim, 5);
    EXPECT_EQ(sim->counts.installs, 1);
    /* What it needs beside the base was kept for it. */
    scenario_fill(sim, 200);
    sim_run_converge(sim);
    EXPECT_EQ(sim->counts.installs, 1);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 42);
}

/* F11: nothing is kept for a node that does not take what it is offered: that would grow with every write, and so would
 * the base, until it fits nowhere. */
TEST(install, f11_nothing_is_kept_for_a_node_without_room)
{
    for (uint64_t seed = 61; seed <= 63; seed++) {
        struct sim *sim = begin_late(seed);
        struct sim_disk *disk = &sim->nodes[2].disk;
        EXPECT_TRUE(sim_start(sim, 2));
        disk->capacity = sim_disk_used(disk) + MIB; /* A base wants that beside its files. */
        sim_run_for(sim, 1000);
        expect_no_hoard(sim);
        expect_install(sim);
        scenario_end(sim);
    }
}

static bool is_installing(struct sim *sim)
{
    return replica_installing(core_replica(sim->nodes[2].core));
}

/* F11: the same when it had begun, and found that there is no room. */
TEST(install, f11_nothing_is_kept_for_a_node_that_gave_up)
{
    for (uint64_t seed = 64; seed <= 66; seed++) {
        struct sim *sim = begin_late(seed);
        struct sim_disk *disk = &sim->nodes[2].disk;
        EXPECT_TRUE(sim_start(sim, 2));
        EXPECT_TRUE(sim_run_until_true(sim, 5000, is_installing));
        disk->capacity = sim_disk_used(disk);
        sim_run_for(sim, 1000);
        EXPECT_FALSE(is_installing(sim));
        expect_no_hoard(sim);
        expect_install(sim);
        scenario_end(sim);
    }
}
