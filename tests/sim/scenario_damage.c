/* Disks that change or lose what was acknowledged: the node recovers from the others, and nothing is undone. */
#include "tests/sim/scenario.h"

#include "node/core_parts.h"
#include "raft/replica.h"
#include "storage/store.h"
#include "storage/store_space.h"
#include "tests/sim/check_state.h"

#define NOTE "shard-0000/QUARANTINE"

static uint32_t patient;

static bool is_whole(struct sim *sim)
{
    const struct sim_node *node = &sim->nodes[patient];
    return node->core != NULL && !core_quarantined(node->core) &&
           !sim_disk_exists(&node->disk, NOTE) && core_serving(node->core, NULL);
}

/* The newest segment with more than a header; the text is valid until the next call. */
static const char *newest_log(struct sim_disk *disk)
{
    static char name[64];
    struct buf names = {0};
    sim_disk_names(disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const uint64_t size = strlen((const char *)at);
        if (size < 4 || memcmp(at + size - 4, ".log", 4) != 0) continue;
        const struct slice file = sim_disk_file(disk, (const char *)at);
        if (file.size > 4200 && file.data[4096] != 0) memcpy(name, at, size + 1);
    }
    buf_close(&names);
    return name;
}

/* Takes a follower down, lets @spoil loose on its disk, and expects it back, whole, with the others' state. */
static void spoil_follower(uint64_t seed, uint32_t nodes, void (*spoil)(struct sim_disk *disk))
{
    struct sim *sim = scenario_begin(nodes, nodes, seed);
    scenario_fill(sim, 40);
    scenario_set(sim, NOBODY, "k", seed);
    patient = (sim_leader(sim) + 1) % nodes;
    struct sim_node *node = &sim->nodes[patient];
    sim_crash(sim, patient, false);
    spoil(&node->disk);
    EXPECT_TRUE(sim_start(sim, patient));
    EXPECT_TRUE(core_quarantined(node->core));
    EXPECT_TRUE(sim_disk_exists(&node->disk, NOTE));
    EXPECT_FALSE(core_serving(node->core, NULL));
    EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
    EXPECT_EQ(scenario_get(sim, NOBODY, "k"), seed);
    sim_run_converge(sim);
    /* It counts again: the cluster lives without one of the others. */
    if (nodes > 2) {
        const uint32_t other = (patient + 1) % nodes;
        sim_crash(sim, other, true);
        EXPECT_TRUE(sim_wait_leader(sim, 5000));
        EXPECT_EQ(scenario_get(sim, other, "k"), seed);
    }
    scenario_end(sim);
}

static void spoil_manifest(struct sim_disk *disk)
{
    sim_disk_flip(disk, "shard-0000/MANIFEST", 333);
}
/* The header of the file: what is in its groups can be repaired (scenario_repair.c), this cannot. */
static void spoil_log(struct sim_disk *disk)
{
    sim_disk_flip(disk, newest_log(disk), 333);
}
static void lose_log(struct sim_disk *disk)
{
    EXPECT_TRUE(sim_disk_drop(disk, newest_log(disk)));
}

TEST(damage, f07_a_rotten_manifest_is_restored_from_the_others)
{
    for (uint64_t seed = 1; seed <= 5; seed++) spoil_follower(seed, 3, spoil_manifest);
    spoil_follower(6, 5, spoil_manifest);
}

TEST(damage, f07_a_rotten_log_is_restored_from_the_others)
{
    for (uint64_t seed = 21; seed <= 25; seed++) spoil_follower(seed, 3, spoil_log);
}

/* Of two nodes the other one holds everything that was ever committed, so the lost one may elect it. */
TEST(damage, a_pair_recovers_as_well)
{
    for (uint64_t seed = 31; seed <= 33; seed++) spoil_follower(seed, 2, spoil_manifest);
}

/* F06: a group that was synced is gone from a minority: what it acknowledged must not be undone by an election that
 * this node helps to win. The only other node that has it is down meanwhile. */
TEST(damage, f06_who_has_lost_entries_elects_nobody_without_them)
{
    for (uint64_t seed = 41; seed <= 45; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 10);
        const uint32_t leader = sim_leader(sim);
        const uint32_t behind = (leader + 1) % 3;
        patient = (leader + 2) % 3;
        sim_crash(sim, behind, false);
        scenario_set(sim, behind, "k", seed); /* on the leader and on the patient only */
        sim_crash(sim, leader, false);
        sim_crash(sim, patient, false);
        spoil_log(&sim->nodes[patient].disk);
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_TRUE(core_quarantined(sim->nodes[patient].core));
        EXPECT_TRUE(sim_start(sim, behind));
        EXPECT_FALSE(sim_wait_leader(sim, 8000));
        EXPECT_TRUE(core_quarantined(sim->nodes[patient].core));
        EXPECT_TRUE(sim_start(sim, leader));
        EXPECT_TRUE(sim_wait_leader(sim, 8000));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), seed);
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        scenario_end(sim);
    }
}

/* The leader that the lost one had acknowledged to stays in office: its library would not hear it. */
TEST(damage, a_leader_that_remembers_void_acknowledgements_gives_way)
{
    for (uint64_t seed = 51; seed <= 55; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 20);
        const uint32_t leader = sim_leader(sim);
        const uint64_t term = replica_term(core_replica(sim->nodes[leader].core));
        patient = (leader + 1) % 3;
        sim_crash(sim, patient, false);
        lose_log(&sim->nodes[patient].disk);
        spoil_manifest(&sim->nodes[patient].disk);
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        EXPECT_TRUE(replica_term(core_replica(sim->nodes[patient].core)) > term);
        scenario_end(sim);
    }
}

/* Power goes at each change of the disk while the node recovers; it goes on from where it was, and never forgets. */
TEST(damage, f53_a_crash_during_recovery_is_recovered_from)
{
    uint32_t interrupted = 0;
    for (uint64_t change = 1; change < 200; change += 1 + change / 8) {
        struct sim *sim = scenario_begin(3, 3, 61);
        scenario_fill(sim, 40);
        scenario_set(sim, NOBODY, "k", change);
        patient = (sim_leader(sim) + 1) % 3;
        struct sim_node *node = &sim->nodes[patient];
        sim_crash(sim, patient, false);
        spoil_manifest(&node->disk);
        sim_disk_stop_after(&node->disk, change);
        node->may_refuse = true;
        (void)sim_start(sim, patient);
        for (uint32_t i = 0; i < 5000 && !sim_disk_stopped(&node->disk) && !is_whole(sim); i++) {
            sim_run_for(sim, 1);
        }
        const bool was_stopped = sim_disk_stopped(&node->disk);
        interrupted += was_stopped;
        sim_crash(sim, patient, true);
        node->durable.has_promises =
            false; /* What it promised after the stop it promised upon a ghost. */
        node->may_refuse = false;
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), change);
        scenario_end(sim);
        if (!was_stopped) break;
    }
    EXPECT_TRUE(interrupted > 10);
}

/* F05: a block of one place lies in another. */
TEST(damage, f05_a_misdirected_block_is_found_and_the_node_recovers)
{
    for (uint64_t seed = 71; seed <= 73; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 25);
        patient = (sim_leader(sim) + 1) % 3;
        struct sim_node *node = &sim->nodes[patient];
        sim_crash(sim, patient, false);
        const char *name = newest_log(&node->disk);
        struct buf copy = {0};
        const struct slice file = sim_disk_file(&node->disk, name);
        buf_append(&copy, file.data, file.size);
        memmove(copy.data + 8192, copy.data + 4096, 4096);
        sim_disk_put(&node->disk, name, buf_slice(&copy));
        buf_close(&copy);
        node->may_refuse = true;
        EXPECT_TRUE(sim_start(sim, patient));
        node->may_refuse = false;
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        scenario_end(sim);
    }
}

/* Without its vote a node could vote twice; alone it has nobody to ask. Both refuse, as they always did. */
TEST(damage, f07_a_lost_vote_and_a_single_node_refuse)
{
    struct sim *sim = scenario_begin(3, 3, 81);
    scenario_fill(sim, 30);
    struct sim_node *node = &sim->nodes[(sim_leader(sim) + 1) % 3];
    sim_crash(sim, node->number, false);
    struct sim_image image;
    sim_disk_save(&node->disk, &image);
    spoil_manifest(&node->disk);
    sim_disk_flip(&node->disk, "shard-0000/vote", 200);
    sim_disk_flip(&node->disk, "shard-0000/vote", 4096 * 8 + 200);
    node->may_refuse = true;
    EXPECT_FALSE(sim_start(sim, node->number));
    EXPECT_FALSE(sim_disk_exists(&node->disk, NOTE));
    sim_disk_restore(&node->disk, &image);
    sim_image_close(&image);
    EXPECT_TRUE(sim_start(sim, node->number));
    scenario_end(sim);

    sim = scenario_begin(1, 1, 82);
    scenario_fill(sim, 30);
    sim_crash(sim, 0, false);
    spoil_manifest(&sim->nodes[0].disk);
    sim->nodes[0].may_refuse = true;
    EXPECT_FALSE(sim_start(sim, 0));
    EXPECT_FALSE(sim_disk_exists(&sim->nodes[0].disk, NOTE));
    spoil_manifest(&sim->nodes[0].disk);
    EXPECT_TRUE(sim_start(sim, 0));
    scenario_end(sim);
}

/* ---- states that differ ------------------------------------------------------------------------------ */

static bool is_recovering(struct sim *sim)
{
    return core_quarantined(sim->nodes[patient].core);
}

/* F52: a node whose keys differ from the majority's takes itself out within one comparison, leader or not. */
TEST(damage, f52_a_node_that_differs_takes_itself_out_and_recovers)
{
    for (uint64_t seed = 91; seed <= 98; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 30);
        scenario_set(sim, NOBODY, "k", seed);
        sim_run_for(sim, 300);
        patient = (sim_leader(sim) + (uint32_t)seed) % 3;
        struct keydir *keys = store_keys(core_store(sim->nodes[patient].core));
        EXPECT_TRUE(keydir_remove(keys, slice_text("k"), NULL)); /* a bug of ours */
        scenario_set(sim, patient, "other", 1);
        EXPECT_TRUE(sim_run_until_true(sim, 2000, is_recovering));
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), seed);
        scenario_end(sim);
    }
}

/* F52: a bit of memory flips: the sum that is kept does not know, counting anew does. */
TEST(damage, f52_memory_that_changed_by_itself_is_found_by_counting_anew)
{
    for (uint64_t seed = 101; seed <= 104; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        scenario_fill(sim, 20);
        scenario_set(sim, NOBODY, "k", seed);
        sim_run_for(sim, 300);
        patient = (sim_leader(sim) + (uint32_t)seed) % 3;
        struct keydir *keys = store_keys(core_store(sim->nodes[patient].core));
        const struct keydir_entry *entry = keydir_find(keys, slice_text("k"));
        uint8_t *memory = (uint8_t *)(uintptr_t)entry;
        sim->nodes[patient].is_flipped = true;
        memory[0] ^= 4; /* in its revision */
        EXPECT_TRUE(sim_run_until_true(sim, 2000, is_recovering));
        sim->nodes[patient].is_flipped = false;
        EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
        EXPECT_EQ(scenario_get(sim, NOBODY, "k"), seed);
        scenario_end(sim);
    }
}

static bool has_answer(struct sim *sim)
{
    const char *answer = sim_ask(sim, sim_leader(sim), 1000, "KV.CHECK");
    return strstr(answer, "running") == NULL && strstr(answer, "result") != NULL;
}

TEST(damage, f52_a_check_on_demand_compares_all_nodes)
{
    struct sim *sim = scenario_begin(3, 3, 111);
    for (uint32_t i = 0; i < 3; i++) sim->nodes[i].config.check_interval_ms = 0;
    scenario_fill(sim, 20);
    EXPECT_TRUE(strstr(scenario_ask(sim, NOBODY, "KV.CHECK"), "none") != NULL);
    EXPECT_TRUE(strstr(scenario_ask(sim, NOBODY, "KV.CHECK START"), "running") != NULL);
    EXPECT_TRUE(sim_run_until_true(sim, 5000, has_answer));
    const char *answer = sim_ask(sim, sim_leader(sim), 1000, "KV.CHECK");
    EXPECT_TRUE(strstr(answer, "equal") != NULL);
    EXPECT_TRUE(strstr(answer, "right") != NULL);
    EXPECT_TRUE(strstr(answer, "different") == NULL);
    EXPECT_TRUE(strstr(answer, "silent") == NULL);

    patient = (sim_leader(sim) + 1) % 3;
    scenario_set(sim, NOBODY, "k", 5);
    sim_run_for(sim, 500);
    (void)keydir_remove(store_keys(core_store(sim->nodes[patient].core)), slice_text("k"), NULL);
    scenario_set(sim, NOBODY, "other", 5);
    (void)scenario_ask(sim, NOBODY, "KV.CHECK START");
    EXPECT_TRUE(sim_run_until_true(sim, 5000, has_answer));
    EXPECT_TRUE(strstr(sim_ask(sim, sim_leader(sim), 1000, "KV.CHECK"), "different") != NULL);
    EXPECT_TRUE(sim_run_until_true(sim, 10000, is_whole));
    scenario_end(sim);
}

/* ---- sealed files ------------------------------------------------------------------------------------ */

/* The text of the @skip-th sealed file of @disk that begins with @prefix, of @kind; "" when there is none. Valid
 * until the next call. */
static const char *sealed_file(struct sim_disk *disk, uint32_t skip, const char *kind)
{
    static char name[64];
    struct buf names = {0};
    name[0] = 0;
    sim_disk_names(disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const uint64_t size = strlen((const char *)at);
        if (size < 14 || memcmp(at, "shard-0000/0", 12) != 0) continue;
        if (strcmp((const char *)at + size - 4, kind) != 0) continue;
        char hint[64];
        (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)size - 4, (const char *)at);
        if (!sim_disk_exists(disk, hint)) continue;
        if (skip-- > 0) continue;
        memcpy(name, at, size + 1);
        break;
    }
    buf_close(&names);
    return name;
}

/* Values that stay, between values that go: files with something in force in each. */
static void fill_for_long(struct sim *sim, uint32_t count)
{
    static char line[3100];
    for (uint32_t i = 0; i < count; i++) {
        const int size = snprintf(line, sizeof line, "SET stays%u ", i);
        scenario_noise(line + size, 3000, i);
        line[size + 3000] = 0;
        EXPECT_TEXT(scenario_ask(sim, NOBODY, line), "+OK\r\n");
    }
}

static bool nobody_is_damaged(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim->nodes[i].core == NULL) return false;
        if (store_damage(core_store(sim->nodes[i].core))->count > 0) return false;
    }
    return true;
}

/* F07: rot in a sealed file of which the hint is sound: it starts, serves, and gets from others what it lacks. */
TEST(damage, f07_a_rotten_sealed_file_is_repaired_from_the_others)
{
    for (uint64_t seed = 121; seed <= 126; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        fill_for_long(sim, 120);
        sim_run_for(sim, 500);
        patient = (sim_leader(sim) + 1) % 3;
        struct sim_node *node = &sim->nodes[patient];
        sim_crash(sim, patient, false);
        const char *name = sealed_file(&node->disk, (uint32_t)(seed % 2), ".log");
        EXPECT_NE(name[0], 0);
        const uint64_t size = sim_disk_file(&node->disk, name).size;
        for (uint64_t at = 4096 + 500; at + 9000 < size; at += 9000) {
            sim_disk_flip(&node->disk, name, at * 8);
        }
        if (seed == 125) sim_disk_flip(&node->disk, name, 333); /* its header as well */
        if (seed == 126) EXPECT_TRUE(sim_disk_drop(&node->disk, name));
        EXPECT_TRUE(sim_start(sim, patient));
        EXPECT_FALSE(core_quarantined(node->core));
        /* Reading is what finds rot inside a file that is outside the log's window. */
        sim_run_for(sim, 3000);
        (void)check_state_hash(sim, node);
        sim->has_failed = false;
        fill_for_long(sim, 40);
        EXPECT_TRUE(sim_run_until_true(sim, 20000, nobody_is_damaged));
        EXPECT_TRUE(store_damage(core_store(node->core))->repaired_count > 0);
        EXPECT_TRUE(store_mend(core_store(node->core))->given_total > 0);
        scenario_end(sim);
    }
}

/* Every node has another damaged place, and there is no leader when they are found. */
TEST(damage, f07_damage_in_another_place_of_every_node_is_repaired)
{
    for (uint64_t seed = 131; seed <= 133; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        fill_for_long(sim, 200);
        sim_run_for(sim, 500);
        for (uint32_t i = 0; i < 3; i++) {
            sim_crash(sim, i, false);
            const char *name = sealed_file(&sim->nodes[i].disk, i, ".log");
            EXPECT_NE(name[0], 0);
            sim_disk_flip(&sim->nodes[i].disk, name, (4096 * (3 + i) + 500) * 8);
        }
        for (uint32_t i = 0; i < 3; i++) EXPECT_TRUE(sim_start(sim, i));
        EXPECT_TRUE(sim_wait_leader(sim, 10000));
        for (uint32_t i = 0; i < 3; i++) {
            EXPECT_FALSE(core_quarantined(sim->nodes[i].core));
            (void)check_state_hash(sim, &sim->nodes[i]);
            sim->has_failed = false;
        }
        fill_for_long(sim, 60);
        EXPECT_TRUE(sim_run_until_true(sim, 20000, nobody_is_damaged));
        scenario_end(sim);
    }
}

/* ---- scrub ------------------------------------------------------------------------------------------- */

static bool patient_is_damaged(struct sim *sim)
{
    return store_damage(core_store(sim->nodes[patient].core))->found_count > 0;
}
static bool patient_is_repaired(struct sim *sim)
{
    const struct damage *damage = store_damage(core_store(sim->nodes[patient].core));
    return damage->count == 0 && damage->repaired_count > 0;
}
static bool patient_is_quarantined(struct sim *sim)
{
    return core_quarantined(sim->nodes[patient].core);
}
static bool hint_is_new(struct sim *sim)
{
    return store_stats(core_store(sim->nodes[patient].core)).scrub_hints > 0;
}

/* A large value takes longer than a node waits before it asks again. It is not sent twice, and what cannot leave is not
 * even read. */
TEST(damage, f07_a_large_value_for_a_damaged_file_travels_once_over_slow_links)
{
    static char line[30000];
    uint64_t given = 0;
    struct sim *sim = scenario_begin(3, 3, 141);
    for (uint32_t i = 0; i < 3; i++) {
        sim->nodes[i].config.max_value_size = 4u * MIB;
        sim->nodes[i].config.compress_above_size = 0;
        sim->nodes[i].config.compaction_rate = 64u * MIB;
    }
    const int size = snprintf(line, sizeof line, "APPEND large ");
    memset(line + size, 'x', 25000);
    line[size + 25000] = 0;
    for (uint32_t i = 0; i < 48; i++) EXPECT_EQ(scenario_ask(sim, NOBODY, line)[0], ':');
    fill_for_long(sim, 80);
    sim_run_for(sim, 2000);
    patient = (sim_leader(sim) + 1) % 3;
    struct sim_node *node = &sim->nodes[patient];
    sim_crash(sim, patient, false);
    const char *name = "";
    for (uint32_t skip = 0; skip < 200; skip++) {
        name = sealed_file(&node->disk, skip, ".log");
        if (name[0] == 0) name = sealed_file(&node->disk, skip, ".tab");
        if (name[0] == 0 || sim_disk_file(&node->disk, name).size > MIB) break;
    }
    EXPECT_NE(name[0], 0);
    sim_disk_flip(&node->disk, name, (uint64_t)600000 * 8);
    sim->net.window = 4u * KIB; /* 200 KB a second */
    sim->net.delay_min = 20 * SIM_MS;
    sim->net.delay_max = 20 * SIM_MS;
    sim->net.delay_rare = 0;
    EXPECT_TRUE(sim_start(sim, patient));
    sim_run_for(sim, 1000);
    (void)sim_ask(sim, patient, 1000, "KV.COMPACT");
    (void)check_state_hash(sim, node);
    sim->has_failed = false;
    EXPECT_TRUE(sim_run_until_true(sim, 60000, patient_is_repaired));
    for (uint32_t i = 0; i < 3; i++) given += sim->nodes[i].core->shard.mender.given_total;
    EXPECT_EQ(given, store_mend(core_store(node->core))->given_total);
    sim->net.window = 256u * KIB;
    sim->net.delay_min = 100;
    sim->net.delay_max = 1000;
    scenario_end(sim);
}

static bool patient_asks(struct sim *sim)
{
    return store_mend(core_store(sim->nodes[patient].core))->count > 0;
}

/* A value that says it is packed, and is not, is no answer of an honest node: it is not taken, and does no harm. */
TEST(damage, what_a_peer_gives_for_a_damaged_file_is_no_value)
{
    static char line[3100];
    struct sim *sim = scenario_begin(3, 3, 142);
    for (uint32_t i = 0; i < 120; i++) {
        const int size = snprintf(line, sizeof line, "SET stays%u ", i);
        scenario_noise(line + size, 1500, i);
        memset(line + size + 1500, 'x', 1500);
        line[size + 3000] = 0;
        EXPECT_TEXT(scenario_ask(sim, NOBODY, line), "+OK\r\n");
    }
    sim_run_for(sim, 500);
    patient = (sim_leader(sim) + 1) % 3;
    struct sim_node *node = &sim->nodes[patient];
    sim_crash(sim, patient, false);
    const char *name = sealed_file(&node->disk, 1, ".log");
    EXPECT_NE(name[0], 0);
    sim_disk_flip(&node->disk, name, (4096 * 4 + 500) * 8);
    EXPECT_TRUE(sim_start(sim, patient));
    (void)check_state_hash(sim, node);
    sim->has_failed = false;
    for (uint32_t i = 0; i < 3; i++) {
        if (i != patient) sim_net_block(sim, i, patient); /* It hears nobody. */
    }
    store_compact(core_store(node->core));
    EXPECT_TRUE(sim_run_until_true(sim, 20000, patient_asks));
    struct store *store = core_store(node->core);
    const struct mend_want *want = &store_mend(store)->wants[0];
    const struct keydir_entry *entry = keydir_find(store_keys(store), buf_slice(&want->key));
    const struct keydir_info info = keydir_info(entry);
    EXPECT_TRUE(info.is_compressed);
    struct buf body = {0};
    buf_u64(&body, want->revision);
    buf_u64(&body, 0x0101); /* Here, and packed. */
    buf_sized(&body, buf_slice(&want->key));
    buf_u32(&body, info.value_size);
    memset(buf_extend(&body, info.value_size), 0xa5, info.value_size);
    const struct wire_frame frame = {.type = WIRE_VALUE_GIVE,
                                     .from = node->core->peers.list[0].identity.node_id,
                                     .body = buf_slice(&body)};
    EXPECT_EQ(mender_receive(&node->core->shard, &frame), ERR_CORRUPT);
    EXPECT_EQ(want->state, MEND_OPEN);
    buf_close(&body);
    sim_run_for(sim, 1000);
    sim_net_heal(sim);
    fill_for_long(sim, 40);
    EXPECT_TRUE(sim_run_until_true(sim, 20000, nobody_is_damaged));
    scenario_end(sim);
}

/* F07: nobody reads it, nobody restarts: the scrub finds the rot while the node serves, and it is repaired. */
TEST(damage, f07_the_scrub_finds_rot_where_nobody_looks)
{
    for (uint64_t seed = 141; seed <= 144; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        fill_for_long(sim, 120);
        sim_run_for(sim, 500);
        for (uint32_t i = 0; i < 3; i++) {
            EXPECT_EQ(store_damage(core_store(sim->nodes[i].core))->found_count, 0);
            EXPECT_EQ(store_stats(core_store(sim->nodes[i].core)).scrub_hints, 0);
        }
        patient = (sim_leader(sim) + (uint32_t)seed) % 3; /* the leader as well */
        struct sim_disk *disk = &sim->nodes[patient].disk;
        sim_disk_flip(disk, sealed_file(disk, 0, ".log"), (4096 * 4 + 500) * 8);
        EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_damaged));
        fill_for_long(sim, 60);
        EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_repaired));
        scenario_end(sim);
    }
}

TEST(damage, f07_the_scrub_makes_a_rotten_hint_again)
{
    struct sim *sim = scenario_begin(3, 3, 151);
    fill_for_long(sim, 120);
    sim_run_for(sim, 500);
    patient = 1;
    struct sim_disk *disk = &sim->nodes[patient].disk;
    const char *name = sealed_file(disk, 0, ".log");
    char hint[64];
    (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)strlen(name) - 4, name);
    struct buf sound = {0};
    const struct slice file = sim_disk_file(disk, hint);
    buf_append(&sound, file.data, file.size);
    sim_disk_flip(disk, hint, 8 * (file.size / 2));
    EXPECT_TRUE(sim_run_until_true(sim, 30000, hint_is_new));
    sim_run_for(sim, 100);
    EXPECT_TRUE(slice_equal(sim_disk_file(disk, hint), buf_slice(&sound)));
    EXPECT_EQ(store_damage(core_store(sim->nodes[patient].core))->found_count, 0);
    buf_close(&sound);
    scenario_end(sim);
}

/* F10: a file that the disk refuses to read, while the node serves. */
TEST(damage, f10_errors_of_the_disk_while_reading_are_repaired)
{
    struct sim *sim = scenario_begin(3, 3, 161);
    fill_for_long(sim, 120);
    sim_run_for(sim, 500);
    patient = (sim_leader(sim) + 1) % 3;
    struct sim_disk *disk = &sim->nodes[patient].disk;
    (void)snprintf(disk->read_error, sizeof disk->read_error, "%s", sealed_file(disk, 1, ".log"));
    EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_damaged));
    fill_for_long(sim, 60);
    EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_repaired));
    disk->read_error[0] = 0;
    scenario_end(sim);
}

/* F07: a sealed file and its hint: nothing says any more what was in it. The node takes the state of the others while
 * it runs; one that leads hands over before. */
TEST(damage, f07_a_sealed_file_lost_with_its_hint_heals_without_a_restart)
{
    for (uint64_t seed = 171; seed <= 173; seed++) {
        struct sim *sim = scenario_begin(3, 3, seed);
        fill_for_long(sim, 120);
        sim_run_for(sim, 500);
        patient = (sim_leader(sim) + (uint32_t)seed) % 3;
        struct sim_disk *disk = &sim->nodes[patient].disk;
        char hint[64];
        const char *name = sealed_file(disk, 0, ".log");
        (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)strlen(name) - 4, name);
        sim_disk_flip(disk, name, (4096 * 4 + 500) * 8);
        sim_disk_flip(disk, hint, 8 * (sim_disk_file(disk, hint).size / 2));
        EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_damaged));
        fill_for_long(sim, 60);
        EXPECT_TRUE(sim_run_until_true(sim, 60000, patient_is_quarantined));
        EXPECT_TRUE(sim_run_until_true(sim, 30000, is_whole));
        EXPECT_TRUE(nobody_is_damaged(sim));
        scenario_end(sim);
    }
}

/* The same of two nodes of three at once: they do not both go, and in the end all are whole. */
static bool both_were_quarantined(struct sim *sim)
{
    uint32_t away = 0;
    for (uint32_t i = 0; i < 3; i++) away += core_quarantined(sim->nodes[i].core);
    if (away > 1) sim->has_failed = true;
    return is_whole(sim) && nobody_is_damaged(sim);
}

TEST(damage, f07_two_that_lost_the_same_heal_one_after_the_other)
{
    struct sim *sim = scenario_begin(3, 3, 181);
    fill_for_long(sim, 120);
    sim_run_for(sim, 500);
    for (uint32_t i = 0; i < 2; i++) {
        struct sim_disk *disk = &sim->nodes[i].disk;
        char hint[64];
        const char *name = sealed_file(disk, 0, ".log");
        (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)strlen(name) - 4, name);
        sim_disk_flip(disk, name, (4096 * 4 + 500) * 8);
        sim_disk_flip(disk, hint, 8 * (sim_disk_file(disk, hint).size / 2));
    }
    patient = 1;
    EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_damaged));
    patient = 0;
    EXPECT_TRUE(sim_run_until_true(sim, 30000, patient_is_damaged));
    fill_for_long(sim, 60);
    EXPECT_TRUE(sim_run_until_true(sim, 120000, both_were_quarantined));
    patient = 1;
    EXPECT_TRUE(sim_run_until_true(sim, 60000, both_were_quarantined));
    scenario_end(sim);
}
