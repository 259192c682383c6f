/* F07: groups of the unsealed log that rotted after they were durable. Their records come from any node that has them,
 * leader or not, and nothing is lost, even when every node is damaged at once, each in another place. */
#include "tests/sim/scenario.h"

#include "raft/replica.h"
#include "storage/segment.h"
#include "storage/store.h"

#define NOTE "shard-0000/QUARANTINE"

static uint32_t patient;

/* A group of a file that is not sealed yet. */
struct spot {
    char file[64];
    uint64_t offset;
    uint32_t used;
    uint32_t count;
    uint64_t first_index;
    uint64_t last_index;
};

/* The groups of the unsealed segments, oldest first; the last one is left out. Returns how many. */
static uint32_t find_spots(struct sim_disk *disk, struct spot *spots, uint32_t max)
{
    struct buf names = {0};
    uint32_t count = 0;
    sim_disk_names(disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        char hint[80];
        const char *name = (const char *)at;
        const uint64_t size = strlen(name);
        if (size < 14 || size > 60 || memcmp(at, "shard-0000/0", 12) != 0) continue;
        if (strcmp(name + size - 4, ".log") != 0) continue;
        (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)size - 4, name);
        if (sim_disk_exists(disk, hint)) continue;
        const struct slice file = sim_disk_file(disk, name);
        struct segment_header header;
        if (segment_header_decode(file, &header) != OK) continue;
        for (uint64_t offset = 4096; offset < file.size && count < max;) {
            struct segment_group group;
            const struct slice rest = slice_of(file.data + offset, file.size - offset);
            if (segment_group_decode(rest, header.file_id, file.size, offset, &group) != OK) break;
            spots[count] = (struct spot){.offset = offset,
                                         .used = group.used,
                                         .count = group.count,
                                         .first_index = group.first_index,
                                         .last_index = group.last_index};
            memcpy(spots[count++].file, name, size + 1);
            offset += align_up(group.used, SEGMENT_BLOCK_SIZE);
        }
    }
    buf_close(&names);
    return count > 0 ? count - 1 : 0;
}

static struct spot spots[256];

/* Writes until every node has so many groups with entries that are not sealed. Returns what "k" holds then. */
static uint64_t write_some(struct sim *sim, uint32_t wanted)
{
    uint64_t value = 1;
    for (bool is_enough = false; !is_enough && value < 200 && !sim->has_failed; value++) {
        scenario_set(sim, NOBODY, "k", value);
        sim_run_for(sim, 100);
        is_enough = true;
        for (uint32_t i = 0; i < sim->node_count; i++) {
            const uint32_t count = find_spots(&sim->nodes[i].disk, spots, 256);
            uint32_t full = 0;
            for (uint32_t at = 0; at < count; at++) full += spots[at].count > 0;
            is_enough = is_enough && full >= wanted;
        }
    }
    return value - 1;
}

/* The @skip-th group with entries, from the end. */
static struct spot choose(struct sim_disk *disk, uint32_t skip)
{
    const uint32_t count = find_spots(disk, spots, 256);
    for (uint32_t i = count; i > 0; i--) {
        if (spots[i - 1].count == 0) continue;
        if (skip-- == 0) return spots[i - 1];
    }
    fail_msg("there is no such group");
    return spots[0];
}

/* Its first block becomes noise: header and records. */
static void ruin(struct sim_disk *disk, const struct spot *spot)
{
    for (uint64_t at = 0; at < 512 && at < spot->used; at += 3) {
        sim_disk_flip(disk, spot->file, (spot->offset + at) * 8 + at % 8);
    }
}

static bool is_whole_one(const struct sim_node *node)
{
    return node->core != NULL && !core_repairing(node->core) && !core_quarantined(node->core) &&
           !sim_disk_exists(&node->disk, NOTE);
}

static bool is_whole(struct sim *sim)
{
    const struct sim_node *node = &sim->nodes[patient];
    return is_whole_one(node) && core_serving(node->core, NULL);
}

static bool all_whole(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (!is_whole_one(&sim->nodes[i])) return false;
    }
    return true;
}

/* Does the HTTP port answer @path with @word? */
static bool says(const struct sim_node *node, const char *path, const char *word)
{
    struct buf body = {0};
    const char *type = NULL;
    (void)core_http(node->core, path, &body, &type);
    buf_u8(&body, 0);
    const bool found = strstr((const char *)body.data, word) != NULL;
    if (!found) print_error("%s: %s\n", path, (const char *)body.data);
    buf_close(&body);
    return found;
}

static bool no_damaged_left(struct sim *sim)
{
    struct buf names = {0};
    bool is_left = false;
    for (uint32_t i = 0; i < sim->node_count; i++) sim_disk_names(&sim->nodes[i].disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        is_left |= strstr((const char *)at, ".damaged") != NULL;
    }
    buf_close(&names);
    return !is_left;
}

/* Each node is damaged in another place, and all come up at once: there is no leader, and nobody would vote. */
TEST(repair, f07_every_node_is_damaged_in_another_place)
{
    for (uint64_t seed = 201; seed <= 212; seed++) {
        const uint32_t nodes = seed % 4 == 0 ? 5 : 3;
        struct sim *sim = scenario_begin(nodes, nodes, seed);
        scenario_fill(sim, 10 + (uint32_t)seed % 7);
        const uint64_t value = write_some(sim, nodes);
        for (uint32_t i = 0; i < nodes; i++) sim_crash(sim, i, seed % 2 == 0);
        for (uint32_t i = 0; i < nodes; i++) {
            const struct spot spot = choose(&sim->nodes[i].disk, i);
            ruin(&sim->nodes[i].disk, &spot);
        }
        for (uint32_t i = 0; i < nodes; i++) {
            EXPECT_TRUE(sim_start(sim, i));
            EXPECT_TRUE(core_repairing(sim->nodes[i].core));
            EXPECT_FALSE(core_serving(sim->nodes[i].core, NULL));
            EXPECT_TRUE(core_store(sim->nodes[i].core) == NULL);
        }
        EXPECT_TRUE(sim_run_until_true(sim, 8000, all_whole));
        EXPECT_TRUE(sim_wait_leader(sim, 8000));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), value);
        EXPECT_EQ(sim->counts.repairs, nodes);
        EXPECT_TRUE(no_damaged_left(sim));
        scenario_end(sim);
    }
}

/* The log of one of three was damaged while it was down; it has just started. */
static struct sim *begin_ruined(uint64_t seed)
{
    struct sim *sim = scenario_begin(3, 3, seed);
    scenario_fill(sim, 12);
    (void)write_some(sim, 3);
    patient = (sim_leader(sim) + (uint32_t)seed) % 3;
    struct sim_node *node = &sim->nodes[patient];
    sim_crash(sim, patient, false);
    const struct spot spot = choose(&node->disk, (uint32_t)seed % 3);
    ruin(&node->disk, &spot);
    scenario_set(sim, patient, "other", 1);
    EXPECT_TRUE(sim_start(sim, patient));
    return sim;
}

/* One is damaged while the others lead: it comes back with all its rights, and no quarantine. */
TEST(repair, f07_one_node_is_repaired_while_the_others_lead)
{
    for (uint64_t seed = 221; seed <= 226; seed++) {
        struct sim *sim = begin_ruined(seed);
        struct sim_node *node = &sim->nodes[patient];
        EXPECT_TRUE(core_repairing(node->core));
        EXPECT_TRUE(says(node, "/status", "repairing: shard-0000/0"));
        EXPECT_TRUE(sim_run_until_true(sim, 8000, is_whole));
        EXPECT_EQ(sim->counts.repairs, 1);
        scenario_end(sim);
    }
}

/* F11: there is no room for the repaired log. It waits until there is, and gives nothing up. */
TEST(repair, f11_a_full_disk_holds_the_repair_up_and_no_more)
{
    for (uint64_t seed = 227; seed <= 230; seed++) {
        struct sim *sim = begin_ruined(seed);
        struct sim_node *node = &sim->nodes[patient];
        node->disk.capacity = 0;
        EXPECT_FALSE(sim_run_until_true(sim, 4000, is_whole));
        EXPECT_TRUE(node->core != NULL && core_repairing(node->core));
        node->disk.capacity = UINT64_MAX;
        EXPECT_TRUE(sim_run_until_true(sim, 8000, is_whole));
        EXPECT_EQ(sim->counts.repairs, 1);
        scenario_end(sim);
    }
}

/* The only other copy is on a node that is down: nobody votes in its place, and when it comes all is well. */
TEST(repair, f06_without_a_copy_a_node_waits_and_votes_for_nobody)
{
    for (uint64_t seed = 231; seed <= 234; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 3);
        const uint32_t leader = sim_leader(sim);
        const uint32_t behind = (leader + 1) % 3;
        patient = (leader + 2) % 3;
        sim_crash(sim, behind, false);
        for (uint32_t i = 0; i < 4; i++) scenario_set(sim, behind, "k", seed + i);
        sim_run_for(sim, 300);
        sim_crash(sim, leader, false);
        sim_crash(sim, patient, false);
        const struct spot spot = choose(&sim->nodes[patient].disk, 0);
        ruin(&sim->nodes[patient].disk, &spot);
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_TRUE(sim_start(sim, behind));
        EXPECT_FALSE(sim_wait_leader(sim, 15000));
        EXPECT_TRUE(core_repairing(sim->nodes[patient].core));
        EXPECT_TRUE(sim_start(sim, leader));
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), seed + 3);
        scenario_end(sim);
    }
}

/* The same entries are gone everywhere: all stay, serve nothing, change nothing, and say so. */
TEST(repair, f07_what_nobody_has_is_not_made_up)
{
    struct sim *sim = scenario_begin(3, 3, 241);
    uint64_t changes[3];
    scenario_fill(sim, 3);
    (void)write_some(sim, 4);
    for (uint32_t i = 0; i < 3; i++) sim_crash(sim, i, false);
    const struct spot lost = choose(&sim->nodes[0].disk, 0);
    EXPECT_TRUE(lost.count > 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct sim_disk *disk = &sim->nodes[i].disk;
        const uint32_t count = find_spots(disk, spots, 256);
        uint32_t ruined = 0;
        for (uint32_t at = 0; at < count; at++) {
            if (spots[at].count == 0 || spots[at].first_index > lost.last_index) continue;
            if (spots[at].last_index < lost.first_index) continue;
            ruin(disk, &spots[at]);
            ruined++;
        }
        EXPECT_TRUE(ruined > 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_TRUE(sim_start(sim, i));
        EXPECT_TRUE(core_repairing(sim->nodes[i].core));
        changes[i] = sim->nodes[i].disk.change_count;
    }
    EXPECT_FALSE(sim_wait_leader(sim, 30000));
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_TRUE(core_repairing(sim->nodes[i].core));
        EXPECT_TRUE(says(&sim->nodes[i], "/status", "a majority of the members is damaged"));
        EXPECT_TRUE(says(&sim->nodes[i], "/readyz", "repairing"));
        EXPECT_TRUE(says(&sim->nodes[i], "/metrics", "flashkv_repairing 1"));
        EXPECT_TEXT(sim_ask(sim, i, 1000, "GET k"), "");
        /* The others introduce themselves, which is remembered; the log is as it was. */
        EXPECT_TRUE(sim->nodes[i].disk.change_count - changes[i] < 20);
    }
    scenario_healthy(sim);
    sim_destroy(sim);
}

/* What only this node had, and nobody has now, while the others lead: the state comes from them. */
TEST(repair, f07_what_cannot_be_repaired_while_others_lead_ends_in_a_quarantine)
{
    for (uint64_t seed = 251; seed <= 253; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 6);
        const uint64_t value = write_some(sim, 4);
        patient = (sim_leader(sim) + 1) % 3;
        struct sim_node *node = &sim->nodes[patient];
        sim_crash(sim, patient, false);
        /* Its own copy of a record is sound, but its header says another chain: two headers that rotted as one. */
        struct spot spot = choose(&node->disk, 1);
        struct buf copy = {0};
        const struct slice file = sim_disk_file(&node->disk, spot.file);
        buf_append(&copy, file.data, file.size);
        put_u64(copy.data + spot.offset + 32, 0); /* its durable index */
        put_u64(copy.data + spot.offset + 56, hash64(copy.data + spot.offset, 56));
        sim_disk_put(&node->disk, spot.file, buf_slice(&copy));
        buf_close(&copy);
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_TRUE(core_repairing(node->core));
        EXPECT_TRUE(sim_run_until_true(sim, 20000, is_whole));
        EXPECT_EQ(sim->counts.repairs, 1); /* as counted: its start went on */
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), value);
        scenario_end(sim);
    }
}

/* Power goes at each change of the disk while it repairs: it begins again, and never loses anything. */
TEST(repair, f53_a_crash_during_the_repair_is_survived)
{
    uint32_t interrupted = 0;
    for (uint64_t change = 1; change < 100; change++) {
        struct sim *sim = scenario_begin(3, 3, 261);
        scenario_fill(sim, 4);
        const uint64_t value = write_some(sim, 4);
        patient = (sim_leader(sim) + 1) % 3;
        struct sim_node *node = &sim->nodes[patient];
        for (uint32_t i = 0; i < 3; i++) sim_crash(sim, i, false);
        const struct spot spot = choose(&node->disk, 1);
        ruin(&node->disk, &spot);
        sim_disk_stop_after(&node->disk, change);
        node->may_refuse = true;
        (void)sim_start(sim, patient);
        for (uint32_t i = 0; i < 3; i++) {
            if (i != patient) EXPECT_TRUE(sim_start(sim, i));
        }
        for (uint32_t i = 0; i < 3000 && !sim_disk_stopped(&node->disk) && !is_whole(sim); i++) {
            sim_run_for(sim, 1);
        }
        const bool was_stopped = sim_disk_stopped(&node->disk);
        interrupted += was_stopped;
        sim_crash(sim, patient, true);
        if (was_stopped) node->durable.has_promises = false; /* Of a ghost. */
        node->may_refuse = false;
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), value);
        EXPECT_TRUE(no_damaged_left(sim));
        EXPECT_FALSE(sim_disk_exists(&node->disk, "shard-0000/aside-1"));
        scenario_end(sim);
        if (!was_stopped) break;
    }
    EXPECT_TRUE(interrupted >= 5);
}

/* Links break and nodes die while they repair each other: in the end all are whole. */
TEST(repair, f07_nodes_that_repair_each_other_may_die_meanwhile)
{
    for (uint64_t seed = 271; seed <= 276; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 9);
        const uint64_t value = write_some(sim, 4);
        for (uint32_t i = 0; i < 3; i++) sim_crash(sim, i, false);
        for (uint32_t i = 0; i < 3; i++) {
            const struct spot spot = choose(&sim->nodes[i].disk, i);
            ruin(&sim->nodes[i].disk, &spot);
        }
        for (uint32_t i = 0; i < 3; i++) EXPECT_TRUE(sim_start(sim, i));
        for (uint32_t i = 0; i < 3; i++) {
            sim_run_for(sim, 1 + seed % 5);
            sim_crash(sim, i, true);
            sim_run_for(sim, seed % 7);
            EXPECT_TRUE(sim_start(sim, i));
        }
        EXPECT_TRUE(sim_run_until_true(sim, 10000, all_whole));
        EXPECT_TRUE(sim_wait_leader(sim, 8000));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), value);
        scenario_end(sim);
    }
}

/* The newest group, if it has a large record and is durable, and its file is not sealed; none: its size is 0. */
static struct spot large_spot(struct sim_node *node)
{
    struct spot large = {0};
    const struct store *store = core_store(node->core);
    memset(spots, 0, sizeof spots);
    (void)find_spots(&node->disk, spots, 256);
    for (uint32_t i = 0; i < 256; i++) {
        if (spots[i].used > MIB && spots[i].last_index == store_last_index(store)) large = spots[i];
    }
    const bool is_durable = store_persisted_index(store) == store_last_index(store);
    return is_durable ? large : (struct spot){0};
}

/* A large record takes longer than the patience with those who do not answer: while pieces of it come, it is waited
 * for, and neither asked for again nor given up. */
TEST(repair, f07_a_large_record_over_slow_links_is_waited_for)
{
    static char line[30000];
    struct sim *sim = scenario_begin(3, 3, 251);
    for (uint32_t i = 0; i < 3; i++) {
        sim->nodes[i].config.max_value_size = 4u * MIB;
        sim->nodes[i].config.compress_above_size = 0;
    }
    const int size = snprintf(line, sizeof line, "APPEND large ");
    memset(line + size, 'x', 25000);
    line[size + 25000] = 0;
    patient = (sim_leader(sim) + 1) % 3;
    struct sim_node *node = &sim->nodes[patient];
    struct spot spot = {0};
    for (uint32_t i = 0; i < 100 && spot.used == 0; i++) {
        EXPECT_EQ(scenario_ask(sim, patient, line)[0], ':');
        for (uint32_t k = 0; k < 20 && spot.used == 0 && i > 45; k++) {
            sim_run_for(sim, 1);
            spot = large_spot(node);
        }
    }
    EXPECT_TRUE(spot.used > 0);
    sim_crash(sim, patient, false);
    sim_disk_flip(&node->disk, spot.file, (spot.offset + 5000) * 8);
    sim->net.window = 2u * KIB; /* 100 KB a second */
    sim->net.delay_min = 20 * SIM_MS;
    sim->net.delay_max = 20 * SIM_MS;
    sim->net.delay_rare = 0;
    EXPECT_TRUE(sim_start(sim, patient));
    EXPECT_TRUE(core_repairing(node->core));
    sim_run_for(sim, 9000);
    EXPECT_TRUE(core_repairing(node->core)); /* As slow as the test wants it. */
    EXPECT_TRUE(sim_run_until_true(sim, 15000, is_whole));
    EXPECT_EQ(sim->counts.repairs, 1);
    sim->net.window = 256u * KIB;
    sim->net.delay_min = 100;
    sim->net.delay_max = 1000;
    scenario_end(sim);
}
