/* Disks that lose power, tear, fill up, stall and rot. */
#include "tests/sim/scenario.h"

#include "raft/replica.h"
#include "storage/store.h"

static void cut_power_of_all(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim_crash(sim, i, true);
        EXPECT_TRUE(sim_start(sim, i));
    }
    EXPECT_TRUE(sim_wait_leader(sim, 5000));
}

TEST(disk, power_loss_of_all_nodes_loses_nothing_acknowledged)
{
    static const uint32_t sizes[] = {1, 3, 5};
    for (uint32_t i = 0; i < 3; i++) {
        struct sim *sim = scenario_begin(sizes[i], sizes[i], 10 + i);
        for (uint64_t round = 1; round <= 20; round++) {
            scenario_set(sim, NOBODY, "k", round);
            cut_power_of_all(sim);
            EXPECT_EQ(scenario_get(sim, NOBODY, "k"), round);
        }
        scenario_end(sim);
    }
}

TEST(disk, torn_tails_on_all_nodes_at_once_are_cut_and_nothing_is_lost)
{
    uint64_t torn = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        for (uint32_t i = 0; i < 3; i++) {
            sim->nodes[i].disk.latency_min = 3 * SIM_MS;
            sim->nodes[i].disk.latency_max = 6 * SIM_MS;
        }
        scenario_set(sim, NOBODY, "k", seed);
        static char line[6000] = "SET torn ";
        scenario_noise(line + 9, sizeof line - 10, seed);
        (void)sim_ask(sim, sim_leader(sim), 3 + seed % 5, line); /* Its write is under way. */
        cut_power_of_all(sim);
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), seed);
        torn += sim->counts.torn_tails;
        scenario_end(sim);
    }
    EXPECT_TRUE(torn > 0);
}

TEST(disk, a_full_disk_of_one_follower_stops_nobody)
{
    struct sim *sim = scenario_begin(3, 3, 21);
    const uint32_t follower = (sim_leader(sim) + 1) % 3;
    sim->nodes[follower].disk.capacity = sim_disk_used(&sim->nodes[follower].disk);
    scenario_fill(sim, 40);
    EXPECT_TRUE(sim->nodes[follower].disk.full_count > 0);
    scenario_set(sim, NOBODY, "k", 1);
    sim->nodes[follower].disk.capacity = UINT64_MAX;
    scenario_end(sim);
}

TEST(disk, full_disks_refuse_writes_serve_reads_and_deletes_and_recover)
{
    struct sim *sim = scenario_begin(3, 3, 22);
    const char *answer = "";
    scenario_set(sim, NOBODY, "k", 5);
    for (uint32_t i = 0; i < 3; i++) {
        sim->nodes[i].disk.capacity = sim_disk_used(&sim->nodes[i].disk);
    }
    static char line[6000] = "SET big ";
    scenario_noise(line + 8, sizeof line - 9, 1);
    for (uint32_t i = 0; i < 60 && strncmp(answer, "-NOSPACE", 8) != 0; i++) {
        answer = sim_ask(sim, i % 3, 1000, line);
        sim_run_for(sim, 100);
    }
    EXPECT_EQ(strncmp(answer, "-NOSPACE", 8), 0);
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), 5);
    EXPECT_TEXT(scenario_ask(sim, NOBODY, "DEL k"), ":1\r\n");
    for (uint32_t i = 0; i < 3; i++) sim->nodes[i].disk.capacity = UINT64_MAX;
    sim_run_for(sim, 5000);
    scenario_set(sim, NOBODY, "k", 6);
    scenario_end(sim);
}

static uint32_t stalled;
static bool another_leads(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    return leader != NOBODY && leader != stalled && core_serving(sim->nodes[leader].core, NULL);
}

TEST(disk, f13_a_leader_whose_disk_hangs_loses_its_office)
{
    struct sim *sim = scenario_begin(3, 3, 23);
    stalled = sim_leader(sim);
    const uint64_t term = replica_term(core_replica(sim->nodes[stalled].core));
    sim->nodes[stalled].disk.stalled_until = sim->now + 10 * SIM_SECOND;
    (void)sim_ask(sim, stalled, 500, "SET k 1");
    EXPECT_TRUE(sim_run_until_true(sim, 4000, another_leads));
    /* To learn of the new term it would have to save it, on the disk that hangs. */
    sim_run_for(sim, 1000);
    EXPECT_EQ(replica_term(core_replica(sim->nodes[stalled].core)), term);
    EXPECT_TRUE(replica_stalled_ms(core_replica(sim->nodes[stalled].core)) > 2000);
    EXPECT_FALSE(core_serving(sim->nodes[stalled].core, NULL));
    EXPECT_EQ(strncmp(sim_ask(sim, stalled, 3000, "GET k"), "-CLUSTERDOWN", 12), 0);
    scenario_set(sim, stalled, "k", 2);
    EXPECT_EQ(scenario_get(sim, stalled, "k"), 2);
    sim_run_for(sim, 8000);
    EXPECT_EQ(replica_stalled_ms(core_replica(sim->nodes[stalled].core)), 0);
    scenario_end(sim);
}

TEST(disk, f13_a_disk_that_never_comes_back_ends_the_node)
{
    struct sim *sim = scenario_begin(3, 3, 27);
    stalled = sim_leader(sim);
    struct sim_node *node = &sim->nodes[stalled];
    node->disk.stalled_until = UINT64_MAX - 1;
    (void)sim_ask(sim, stalled, 500, "SET k 1");
    sim_run_for(sim, 19000);
    EXPECT_TRUE(node->core != NULL);
    sim_run_for(sim, 2500);
    EXPECT_TRUE(node->core == NULL);
    node->disk.stalled_until = 0;
    EXPECT_TRUE(sim_start(sim, stalled));
    scenario_set(sim, NOBODY, "k", 2);
    scenario_end(sim);
}

TEST(disk, f13_a_leader_whose_next_segment_never_comes_loses_its_office)
{
    struct sim *sim = scenario_begin(3, 3, 28);
    stalled = sim_leader(sim);
    struct sim_disk *disk = &sim->nodes[stalled].disk;
    disk->log_goes_on = true;
    disk->stalled_until = sim->now + 10 * SIM_SECOND;
    static char line[6000] = "SET big ";
    memset(line + 8, 'x', sizeof line - 9);
    for (uint32_t i = 0; i < 100 && !another_leads(sim); i++) {
        (void)sim_ask(sim, stalled, 300, line);
    }
    EXPECT_TRUE(another_leads(sim));
    EXPECT_EQ(disk->full_count, 0);
    scenario_set(sim, stalled, "k", 2);
    scenario_end(sim);
}

/* Flips every @step-th bit of every file of a node that is down. Each start must refuse and leave the disk alone,
 * or go well with everything that was promised. */
TEST(disk, a_rotten_bit_anywhere_is_refused_or_harmless)
{
    struct sim *sim = scenario_begin(3, 3, 24);
    uint32_t refused = 0;
    uint32_t harmless = 0;
    scenario_fill(sim, 30);
    scenario_set(sim, NOBODY, "k", 9);
    struct sim_node *node = &sim->nodes[(sim_leader(sim) + 1) % 3];
    check_durable_note(node);
    sim_crash(sim, node->number, false);
    const struct check_durable promises = node->durable;
    struct sim_image image;
    sim_disk_save(&node->disk, &image);
    struct buf names = {0};
    sim_disk_names(&node->disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size && !sim->has_failed;
         at += strlen((const char *)at) + 1) {
        const char *name = (const char *)at;
        const uint64_t bits = sim_disk_file(&node->disk, name).size * 8;
        for (uint64_t bit = sim_below(sim, 97); bit < bits && !sim->has_failed;
             bit += 1 + bits / 60 + sim_below(sim, 97)) {
            sim_disk_flip(&node->disk, name, bit);
            node->may_refuse = true;
            node->durable = promises;
            const uint64_t changes = node->disk.change_count;
            if (sim_start(sim, node->number)) {
                harmless++;
                sim_crash(sim, node->number, false);
            } else {
                refused++;
                EXPECT_EQ(node->disk.change_count, changes);
                EXPECT_TRUE(strlen(node->message) > 20);
            }
            sim_disk_restore(&node->disk, &image);
        }
    }
    EXPECT_TRUE(refused > 20);
    EXPECT_TRUE(harmless > 20);
    buf_close(&names);
    sim_image_close(&image);
    node->may_refuse = false;
    node->durable = promises;
    EXPECT_TRUE(sim_start(sim, node->number));
    scenario_healthy(sim);
    scenario_end(sim);
}
