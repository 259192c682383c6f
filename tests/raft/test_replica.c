#include "tests/raft/cluster.h"

static struct replica *replica_of(const struct cluster *cluster, uint32_t place)
{
    return cluster->nodes[place].replica;
}

static struct store *store_of(const struct cluster *cluster, uint32_t place)
{
    return cluster->nodes[place].store;
}

/* ---- election and replication ---------------------------------------------------------------------- */

TEST(replica, three_nodes_elect_one_leader_and_replicate)
{
    struct cluster *cluster = cluster_start(3, 3, 1);
    const uint32_t leader = cluster_elect(cluster);
    cluster_write(cluster, leader, 200, 100);
    EXPECT_TRUE(cluster_converge(cluster, 1000));
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_EQ(replica_leader(replica_of(cluster, i)), cluster_id(leader));
        EXPECT_LE(202, store_applied_index(store_of(cluster, i))); /* change, barrier, writes */
        EXPECT_LE(202, replica_match(replica_of(cluster, leader), cluster_id(i)));
    }
    struct replica_member members[4];
    EXPECT_EQ(replica_members(replica_of(cluster, 0), members, 4), 3);
    EXPECT_EQ(members[2].id, 3);
    EXPECT_TEXT(members[2].address, "host2:7000");
    EXPECT_TRUE(members[2].is_voter);
    cluster_end(cluster);
}

TEST(replica, a_lone_node_serves_and_remembers)
{
    struct cluster *cluster = cluster_start(1, 1, 2);
    EXPECT_EQ(cluster_elect(cluster), 0);
    cluster_write(cluster, 0, 50, 100);
    const uint64_t applied = store_applied_index(store_of(cluster, 0));
    const uint64_t term = replica_term(replica_of(cluster, 0));
    cluster_down(cluster, 0, true);
    cluster_up(cluster, 0);
    EXPECT_EQ(cluster_elect(cluster), 0);
    EXPECT_LT(term, replica_term(replica_of(cluster, 0)));
    EXPECT_LE(applied, store_applied_index(store_of(cluster, 0)));
    cluster_end(cluster);
}

TEST(replica, a_new_leader_is_ready_only_with_an_applied_entry_of_its_term)
{
    struct cluster *cluster = cluster_start(3, 3, 3);
    bool was_unready = false;
    for (uint32_t i = 0; i < 5000 && !cluster_has_ready(cluster); i++) {
        cluster_tick(cluster);
        const uint32_t leader = cluster_leader(cluster);
        if (leader < 3 && !replica_ready(replica_of(cluster, leader))) was_unready = true;
    }
    EXPECT_TRUE(was_unready);
    const uint32_t leader = cluster_leader(cluster);
    const struct store *store = store_of(cluster, leader);
    EXPECT_EQ(store_term_at(store, store_applied_index(store)),
              replica_term(replica_of(cluster, leader)));
    uint64_t index = 0;
    EXPECT_EQ(cluster_submit(cluster, (leader + 1) % 3, 10, &index), ERR_NOT_LEADER);
    cluster_end(cluster);
}

TEST(replica, the_leader_refuses_more_than_it_may_have_uncommitted)
{
    struct cluster *cluster = cluster_start(3, 3, 4);
    const uint32_t leader = cluster_elect(cluster);
    uint64_t index = 0;
    uint32_t taken = 0;
    while (taken < 10000 && cluster_submit(cluster, leader, 8, &index) == OK) taken++;
    EXPECT_EQ(taken, UNCOMMITTED_ENTRIES_MAX);
    EXPECT_EQ(cluster_submit(cluster, leader, 8, &index), ERR_FULL);
    EXPECT_TRUE(cluster_converge(cluster, 5000));
    EXPECT_EQ(replica_of(cluster, leader)->uncommitted_size, 0);
    EXPECT_EQ(cluster_submit(cluster, leader, 8, &index), OK);
    cluster_end(cluster);
}

TEST(replica, the_leader_bounds_uncommitted_bytes)
{
    struct cluster *cluster = cluster_make(3, 3, 5);
    cluster->segment_size = 32u * MIB;
    for (uint32_t i = 0; i < 3; i++) cluster_up(cluster, i);
    const uint32_t leader = cluster_elect(cluster);
    uint64_t index = 0;
    uint32_t taken = 0;
    while (taken < 100 && cluster_submit(cluster, leader, 4u * MIB, &index) == OK) taken++;
    EXPECT_EQ(taken, 16); /* 64 MiB and a few headers */
    EXPECT_EQ(cluster_submit(cluster, leader, 8, &index), ERR_FULL);
    EXPECT_TRUE(cluster_converge(cluster, 20000));
    cluster_end(cluster);
}

static uint64_t biggest_append;
static bool measure_appends(struct cluster *cluster, uint32_t from, uint32_t to,
                            const struct wire_frame *frame)
{
    (void)cluster;
    (void)from;
    (void)to;
    if (frame->type == WIRE_APPEND && frame->body.size > biggest_append) {
        biggest_append = frame->body.size;
    }
    return true;
}

TEST(replica, a_lagging_follower_catches_up_in_bounded_messages)
{
    struct cluster *cluster = cluster_make(3, 3, 6);
    cluster->segment_size = 8u * MIB;
    cluster->retention_size = 64u * MIB;
    for (uint32_t i = 0; i < 3; i++) cluster_up(cluster, i);
    const uint32_t leader = cluster_elect(cluster);
    const uint32_t other = (leader + 1) % 3;
    cluster_isolate(cluster, other, true);
    cluster_write(cluster, leader, 150, 40000);
    cluster_isolate(cluster, other, false);
    biggest_append = 0;
    cluster->filter = measure_appends;
    EXPECT_TRUE(cluster_converge(cluster, 10000));
    EXPECT_LT(biggest_append, APPEND_SIZE_MAX + 4096u);
    EXPECT_LT(APPEND_SIZE_MAX / 2, biggest_append);
    EXPECT_EQ(cluster->installs, 0);
    cluster_end(cluster);
}

TEST(replica, a_lagging_follower_applies_a_little_in_each_turn)
{
    struct cluster *cluster = cluster_make(3, 3, 6);
    cluster->segment_size = 8u * MIB;
    cluster->retention_size = 64u * MIB;
    for (uint32_t i = 0; i < 3; i++) cluster_up(cluster, i);
    const uint32_t leader = cluster_elect(cluster);
    const uint32_t other = (leader + 1) % 3;
    struct node *node = &cluster->nodes[other];
    cluster_isolate(cluster, other, true);
    cluster_write(cluster, leader, 4000, 10);
    const uint64_t last = store_applied_index(cluster->nodes[leader].store);
    cluster_isolate(cluster, other, false);
    uint64_t most = 0;
    for (uint32_t i = 0; i < 10000 && store_applied_index(node->store) < last; i++) {
        const uint64_t before = store_applied_index(node->store);
        cluster_tick(cluster);
        const uint64_t after = store_applied_index(node->store);
        const uint64_t persisted = store_persisted_index(node->store);
        const uint64_t committed = replica_committed(node->replica);
        if (after - before > most) most = after - before;
        /* It does not wait for anything to go on. */
        if (after < persisted && after < committed) {
            EXPECT_LE(replica_deadline(node->replica), cluster->now);
        }
    }
    EXPECT_EQ(store_applied_index(node->store), last);
    /* Each has one effect, and counts as two. */
    EXPECT_LE(most, REPLICA_APPLY_WORK / 2);
    EXPECT_LT(REPLICA_APPLY_WORK / 4, most);
    EXPECT_EQ(cluster->installs, 0);
    cluster_end(cluster);
}

TEST(replica, entries_of_an_isolated_leader_give_way)
{
    struct cluster *cluster = cluster_start(3, 3, 7);
    const uint32_t old = cluster_elect(cluster);
    cluster_write(cluster, old, 20, 100);
    cluster_isolate(cluster, old, true);
    uint64_t index = 0;
    for (uint32_t i = 0; i < 300; i++) EXPECT_EQ(cluster_submit(cluster, old, 50, &index), OK);
    cluster_run(cluster, 2000);
    EXPECT_NE(replica_role(replica_of(cluster, old)), REPLICA_LEADER); /* no majority heard */
    const uint32_t new = cluster_elect(cluster);
    EXPECT_NE(new, old);
    cluster_write(cluster, new, 500, 60);
    cluster_isolate(cluster, old, false);
    EXPECT_TRUE(cluster_converge(cluster, 5000));
    cluster_end(cluster);
}

TEST(replica, power_loss_of_all_nodes_loses_nothing_acknowledged)
{
    struct cluster *cluster = cluster_start(3, 3, 8);
    for (uint32_t round = 0; round < 8; round++) {
        const uint32_t leader = cluster_elect(cluster);
        cluster_write(cluster, leader, 30, 3000);
        const uint64_t applied = store_applied_index(store_of(cluster, leader));
        uint64_t index = 0;
        for (uint32_t i = 0; i < 20; i++) (void)cluster_submit(cluster, leader, 900, &index);
        cluster_run(cluster, prng_below(&cluster->prng, 4));
        for (uint32_t i = 0; i < 3; i++) cluster_down(cluster, i, true);
        for (uint32_t i = 0; i < 3; i++) cluster_up(cluster, i);
        (void)cluster_elect(cluster);
        EXPECT_TRUE(cluster_converge(cluster, 5000));
        EXPECT_LE(applied, store_applied_index(store_of(cluster, 0)));
    }
    cluster_end(cluster);
}

TEST(replica, empty_appends_that_say_nothing_are_left_out)
{
    struct cluster *cluster = cluster_start(3, 3, 9);
    const uint32_t leader = cluster_elect(cluster);
    cluster_run(cluster, 500);
    const uint64_t before = cluster->seen[WIRE_APPEND];
    cluster_run(cluster, 1000);
    const uint64_t beats = cluster->seen[WIRE_APPEND] - before;
    EXPECT_LE(2 * 1000 / CLUSTER_HEARTBEAT_MS / 2, beats);
    EXPECT_LE(beats, 2 * (1000 / CLUSTER_HEARTBEAT_MS) + 4);
    /* The library's window is the configured one; force empties through a tiny one. */
    raft_set_max_inflight_entries(&replica_of(cluster, leader)->raft, 4);
    uint64_t index = 0;
    const uint64_t sent = cluster->seen[WIRE_APPEND];
    for (uint32_t i = 0; i < 200; i++) EXPECT_EQ(cluster_submit(cluster, leader, 8, &index), OK);
    cluster_collect(cluster, leader);
    EXPECT_LE(cluster->seen[WIRE_APPEND] - sent, 2 * 4 + 2);
    EXPECT_TRUE(cluster_converge(cluster, 5000));
    cluster_end(cluster);
}

/* ---- installing a base ----------------------------------------------------------------------------- */

/* A cluster whose leader has dropped the first part of its log while node 2 was away. */
static struct cluster *cluster_with_base(uint32_t *leader, uint64_t seed)
{
    struct cluster *cluster = cluster_make(3, 3, seed);
    cluster_up(cluster, 0);
    cluster_up(cluster, 1);
    *leader = cluster_elect(cluster);
    cluster_write(cluster, *leader, 300, 3000);
    cluster_run(cluster, 100);
    EXPECT_LT(2, store_first_index(store_of(cluster, *leader)));
    return cluster;
}

TEST(replica, a_node_that_is_too_far_behind_gets_a_base_and_the_leader_moves_on)
{
    uint32_t leader = 0;
    struct cluster *cluster = cluster_with_base(&leader, 10);
    cluster_up(cluster, 2);
    EXPECT_TRUE(cluster_converge(cluster, 10000));
    EXPECT_LE(1, cluster->installs);
    EXPECT_LT(1, store_base(store_of(cluster, 2)).index);
    const struct replica_stats stats = replica_stats(replica_of(cluster, leader));
    EXPECT_LE(1, stats.snapshots_sent);
    /* The leader replicates by log again. */
    const uint64_t installs = cluster->seen[WIRE_INSTALL];
    cluster_write(cluster, leader, 50, 100);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    EXPECT_EQ(cluster->seen[WIRE_INSTALL], installs);
    EXPECT_EQ(replica_match(replica_of(cluster, leader), 3),
              store_last_index(store_of(cluster, 2)));
    /* And what was installed survives a loss of power. */
    cluster_down(cluster, 2, true);
    cluster_up(cluster, 2);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    cluster_end(cluster);
}

static uint32_t chunks_to_lose;
static bool lose_chunks(struct cluster *cluster, uint32_t from, uint32_t to,
                        const struct wire_frame *frame)
{
    (void)cluster;
    (void)from;
    (void)to;
    if (frame->type != WIRE_SHIP_CHUNK || chunks_to_lose == 0) return true;
    chunks_to_lose--;
    return false;
}

TEST(replica, an_install_survives_lost_chunks)
{
    uint32_t leader = 0;
    struct cluster *cluster = cluster_with_base(&leader, 11);
    chunks_to_lose = 5;
    cluster->filter = lose_chunks;
    cluster_up(cluster, 2);
    EXPECT_TRUE(cluster_converge(cluster, 20000));
    EXPECT_EQ(chunks_to_lose, 0);
    EXPECT_EQ(cluster->installs, 1);
    cluster_end(cluster);
}

TEST(replica, an_install_without_a_source_is_given_up_and_tried_again)
{
    uint32_t leader = 0;
    struct cluster *cluster = cluster_with_base(&leader, 12);
    chunks_to_lose = UINT32_MAX;
    cluster->filter = lose_chunks;
    cluster_up(cluster, 2);
    for (uint32_t i = 0; i < 30000 && cluster->nodes[2].restarts == 0; i++) {
        cluster_tick(cluster);
        if (replica_installing(replica_of(cluster, 2))) {
            EXPECT_EQ(store_last_index(store_of(cluster, 2)), 1); /* the old state stays */
        }
    }
    EXPECT_EQ(cluster->nodes[2].restarts, 1);
    EXPECT_EQ(cluster->installs, 0);
    chunks_to_lose = 0;
    EXPECT_TRUE(cluster_converge(cluster, 20000));
    EXPECT_EQ(cluster->installs, 1);
    cluster_end(cluster);
}

TEST(replica, a_base_without_room_is_not_begun_until_there_is_room)
{
    uint32_t leader = 0;
    struct cluster *cluster = cluster_with_base(&leader, 61);
    struct node *node = &cluster->nodes[2];
    cluster_up(cluster, 2);
    node->disk.capacity = sim_disk_used(&node->disk) + 4 * 65536;
    cluster_run(cluster, 3000);
    const struct replica_stats stats = replica_stats(node->replica);
    EXPECT_LE(2, stats.snapshots_refused);
    EXPECT_EQ(stats.snapshots_abandoned, 0);
    /* An offer names all files: it is not made again with every heartbeat. */
    const struct replica_stats sent = replica_stats(cluster->nodes[leader].replica);
    EXPECT_LE(sent.snapshots_sent, 3 + 3000 / CLUSTER_ELECTION_MS);
    EXPECT_EQ(node->restarts, 0); /* Beginning in vain would mean a new start each time. */
    EXPECT_FALSE(replica_installing(node->replica));
    EXPECT_TRUE(cluster_has_ready(cluster));
    node->disk.capacity = UINT64_MAX;
    EXPECT_TRUE(cluster_converge(cluster, 20000));
    EXPECT_EQ(cluster->installs, 1);
    cluster_end(cluster);
}

TEST(replica, an_install_survives_the_fall_of_its_source_and_of_itself)
{
    uint32_t leader = 0;
    struct cluster *cluster = cluster_with_base(&leader, 13);
    cluster_up(cluster, 2);
    for (uint32_t i = 0; i < 5000 && !replica_installing(replica_of(cluster, 2)); i++) {
        cluster_tick(cluster);
    }
    EXPECT_TRUE(replica_installing(replica_of(cluster, 2)));
    cluster_run(cluster, 3);
    cluster_down(cluster, 2, true);
    cluster_up(cluster, 2);
    for (uint32_t i = 0; i < 5000 && !replica_installing(replica_of(cluster, 2)); i++) {
        cluster_tick(cluster);
    }
    cluster_down(cluster, leader, true);
    cluster_run(cluster, 1000);
    cluster_up(cluster, leader);
    EXPECT_TRUE(cluster_converge(cluster, 40000));
    EXPECT_LE(1, cluster->installs);
    cluster_end(cluster);
}

TEST(replica, a_blank_node_joins_as_stand_by_and_becomes_a_voter)
{
    struct cluster *cluster = cluster_make(4, 3, 14);
    for (uint32_t i = 0; i < 3; i++) cluster_up(cluster, i);
    uint32_t leader = cluster_elect(cluster);
    cluster_write(cluster, leader, 300, 3000);
    cluster_run(cluster,
                200); /* until everything is sealed: the base stays the same from here on */
    cluster_up(cluster, 3);
    EXPECT_EQ(cluster_change(cluster, leader, 3, GUARD_STANDBY), OK);
    EXPECT_EQ(cluster_change(cluster, leader, 3, GUARD_VOTER), ERR_AGAIN); /* one at a time */
    EXPECT_TRUE(cluster_converge(cluster, 10000));
    EXPECT_EQ(cluster->installs, 1);
    EXPECT_EQ(cluster_change(cluster, leader, 3, GUARD_VOTER), OK);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    for (uint32_t i = 0; i < 4; i++) {
        struct guard_configuration members;
        replica_newest_members(replica_of(cluster, i), &members);
        EXPECT_EQ(members.count, 4);
        EXPECT_EQ(guard_role(&members, 4), GUARD_VOTER);
        EXPECT_EQ(replica_of(cluster, i)->raft.configuration_uncommitted_index, 0);
    }
    /* Its vote counts: two of four are no majority. */
    cluster_down(cluster, (leader + 1) % 3, false);
    cluster_write(cluster, leader, 10, 10);
    cluster_down(cluster, leader, false);
    cluster_run(cluster, 3000);
    EXPECT_FALSE(cluster_has_ready(cluster));
    cluster_up(cluster, leader);
    leader = cluster_elect(cluster);
    EXPECT_EQ(cluster_change(cluster, leader, (leader + 1) % 4, GUARD_NO_MEMBER), OK);
    cluster_end(cluster);
}

/* ---- reads ----------------------------------------------------------------------------------------- */

static bool read_within(struct cluster *cluster, uint32_t leader, uint64_t number, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        if (replica_read_confirmed(replica_of(cluster, leader)) >= number) return true;
        cluster_tick(cluster);
    }
    return false;
}

TEST(replica, one_round_answers_all_reads_that_came_before_it)
{
    struct cluster *cluster = cluster_start(3, 3, 20);
    const uint32_t leader = cluster_elect(cluster);
    struct replica *replica = replica_of(cluster, leader);
    EXPECT_EQ(replica_read_request(replica_of(cluster, (leader + 1) % 3)), 0);
    const uint64_t first = replica_read_request(replica);
    EXPECT_EQ(replica_read_request(replica), first);
    EXPECT_LE(replica_deadline(replica), cluster->now);
    cluster_tick(cluster);
    const uint64_t second = replica_read_request(replica); /* the probes have left */
    EXPECT_LT(first, second);
    EXPECT_TRUE(read_within(cluster, leader, first, 50));
    EXPECT_LT(replica_read_confirmed(replica), second);
    EXPECT_TRUE(read_within(cluster, leader, second, 50));
    EXPECT_EQ(replica_stats(replica).read_rounds, 2);
    cluster_end(cluster);
}

static bool lose_probe_results(struct cluster *cluster, uint32_t from, uint32_t to,
                               const struct wire_frame *frame)
{
    (void)cluster;
    (void)from;
    (void)to;
    return frame->type != WIRE_PROBE_RESULT;
}

TEST(replica, lost_probes_are_sent_again_under_a_new_name)
{
    struct cluster *cluster = cluster_start(3, 3, 21);
    const uint32_t leader = cluster_elect(cluster);
    struct replica *replica = replica_of(cluster, leader);
    cluster->filter = lose_probe_results;
    const uint64_t number = replica_read_request(replica);
    cluster_tick(cluster);
    const uint64_t round = replica->gate.round;
    EXPECT_FALSE(read_within(cluster, leader, number, 2 * CLUSTER_HEARTBEAT_MS));
    EXPECT_LT(round, replica->gate.round);
    /* A late answer to the lost round is nobody's. */
    readgate_answer(&replica->gate, cluster_id((leader + 1) % 3), replica_term(replica), round);
    EXPECT_EQ(replica->gate.answered_count, 0);
    cluster->filter = NULL;
    EXPECT_TRUE(read_within(cluster, leader, number, 1000));
    cluster_end(cluster);
}

TEST(replica, an_isolated_leader_confirms_no_read)
{
    struct cluster *cluster = cluster_start(3, 3, 22);
    const uint32_t old = cluster_elect(cluster);
    cluster_isolate(cluster, old, true);
    const uint64_t number = replica_read_request(replica_of(cluster, old));
    EXPECT_FALSE(read_within(cluster, old, number, 3000));
    const uint32_t new = cluster_elect(cluster);
    EXPECT_NE(old, new);
    cluster_isolate(cluster, old, false);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    EXPECT_LT(replica_read_confirmed(replica_of(cluster, old)), number);
    cluster_end(cluster);
}

TEST(replica, a_frozen_leader_that_wakes_up_confirms_no_read)
{
    struct cluster *cluster = cluster_start(3, 3, 23);
    const uint32_t old = cluster_elect(cluster);
    const uint64_t number = replica_read_request(replica_of(cluster, old));
    cluster->nodes[old].is_frozen = true;
    cluster_run(cluster, 3000);
    const uint32_t new = (uint32_t)replica_leader(replica_of(cluster, (old + 1) % 3)) - 1;
    EXPECT_NE(old, new);
    cluster_write(cluster, new, 5, 10);
    /* It still believes that it leads, and asks. */
    cluster->nodes[old].is_frozen = false;
    EXPECT_EQ(replica_role(replica_of(cluster, old)), REPLICA_LEADER);
    EXPECT_FALSE(read_within(cluster, old, number, 1000));
    EXPECT_NE(replica_role(replica_of(cluster, old)), REPLICA_LEADER);
    cluster_end(cluster);
}

TEST(replica, a_sole_voter_confirms_reads_by_itself)
{
    struct cluster *cluster = cluster_start(1, 1, 24);
    const uint32_t leader = cluster_elect(cluster);
    const uint64_t number = replica_read_request(replica_of(cluster, leader));
    cluster_tick(cluster);
    EXPECT_LE(number, replica_read_confirmed(replica_of(cluster, leader)));
    cluster_end(cluster);
}

TEST(replica, probes_that_come_twice_and_late_are_harmless)
{
    struct cluster *cluster = cluster_start(5, 5, 25);
    const uint32_t leader = cluster_elect(cluster);
    cluster->repeat_percent = 100;
    cluster->delay_max = 40;
    for (uint32_t i = 0; i < 50; i++) {
        const uint64_t number = replica_read_request(replica_of(cluster, leader));
        EXPECT_TRUE(read_within(cluster, leader, number, 1000));
    }
    cluster_end(cluster);
}

/* ---- handing leadership over ----------------------------------------------------------------------- */

TEST(replica, leadership_is_handed_over_under_load)
{
    struct cluster *cluster = cluster_start(3, 3, 30);
    const uint32_t old = cluster_elect(cluster);
    const uint32_t new = (old + 1) % 3;
    uint64_t index = 0;
    EXPECT_EQ(replica_transfer(replica_of(cluster, new), 0, cluster->now), ERR_NOT_LEADER);
    EXPECT_EQ(replica_transfer(replica_of(cluster, old), 99, cluster->now), ERR_NOT_FOUND);
    EXPECT_EQ(replica_transfer(replica_of(cluster, old), cluster_id(old), cluster->now),
              ERR_NOT_FOUND);
    for (uint32_t i = 0; i < 100; i++) EXPECT_EQ(cluster_submit(cluster, old, 50, &index), OK);
    EXPECT_EQ(replica_transfer(replica_of(cluster, old), cluster_id(new), cluster->now), OK);
    EXPECT_TRUE(replica_transferring(replica_of(cluster, old)));
    EXPECT_EQ(cluster_submit(cluster, old, 50, &index), ERR_NOT_LEADER);
    const uint64_t start = cluster->now;
    while (cluster->now < start + CLUSTER_ELECTION_MS &&
           replica_role(replica_of(cluster, new)) != REPLICA_LEADER) {
        cluster_tick(cluster);
    }
    EXPECT_LT(cluster->now,
              start + CLUSTER_ELECTION_MS / 2); /* no election timeout was waited for */
    EXPECT_EQ(cluster_elect(cluster), new);
    EXPECT_FALSE(replica_transferring(replica_of(cluster, old)));
    EXPECT_TRUE(cluster_converge(cluster, 1000));
    cluster_end(cluster);
}

TEST(replica, a_transfer_to_nobody_ends_and_the_leader_goes_on)
{
    struct cluster *cluster = cluster_start(3, 3, 31);
    const uint32_t leader = cluster_elect(cluster);
    const uint32_t other = (leader + 1) % 3;
    uint64_t index = 0;
    cluster_isolate(cluster, other, true);
    EXPECT_EQ(cluster_submit(cluster, leader, 50, &index), OK);
    EXPECT_EQ(replica_transfer(replica_of(cluster, leader), cluster_id(other), cluster->now), OK);
    cluster_run(cluster, CLUSTER_ELECTION_MS + 10);
    EXPECT_FALSE(replica_transferring(replica_of(cluster, leader)));
    EXPECT_EQ(replica_role(replica_of(cluster, leader)), REPLICA_LEADER);
    cluster_write(cluster, leader, 10, 10);
    cluster_end(cluster);
}

/* ---- full and hanging disks ------------------------------------------------------------------------ */

TEST(replica, a_majority_of_full_disks_is_reported)
{
    struct cluster *cluster = cluster_start(3, 3, 40);
    const uint32_t leader = cluster_elect(cluster);
    struct peers *peers = &cluster->nodes[leader].peers;
    EXPECT_FALSE(replica_nospace(replica_of(cluster, leader)));
    peers->list[0].nospace = true;
    EXPECT_FALSE(replica_nospace(replica_of(cluster, leader)));
    peers->list[1].nospace = true;
    EXPECT_TRUE(replica_nospace(replica_of(cluster, leader)));
    cluster_end(cluster);
}

TEST(replica, a_leader_whose_disk_hangs_goes_silent_and_is_replaced)
{
    struct cluster *cluster = cluster_start(3, 3, 41);
    const uint32_t old = cluster_elect(cluster);
    uint64_t index = 0;
    cluster->nodes[old].disk.stalled_until = cluster->now + 8000;
    EXPECT_EQ(cluster_submit(cluster, old, 10, &index), OK);
    cluster_run(cluster, 900);
    EXPECT_EQ(cluster_leader(cluster), old);
    cluster_run(cluster, 2500);
    const uint32_t new = cluster_leader(cluster);
    EXPECT_TRUE(new < 3 && new != old);
    EXPECT_NE(replica_role(replica_of(cluster, old)), REPLICA_LEADER);
    cluster_write(cluster, new, 10, 10);
    /* Nor does it campaign while its disk hangs, even when it hears of nobody. */
    const uint64_t term = replica_term(replica_of(cluster, old));
    cluster_isolate(cluster, old, true);
    cluster_run(cluster, 2000);
    EXPECT_EQ(replica_role(replica_of(cluster, old)), REPLICA_FOLLOWER);
    EXPECT_EQ(replica_term(replica_of(cluster, old)), term);
    cluster_isolate(cluster, old, false);
    EXPECT_TRUE(cluster_converge(cluster, 10000));
    cluster_end(cluster);
}

/* ---- everything at once ---------------------------------------------------------------------------- */

struct reads {
    uint64_t number[CLUSTER_NODES_MAX]; /* 0: none waits */
    uint64_t term[CLUSTER_NODES_MAX];
    uint64_t floor[CLUSTER_NODES_MAX]; /* highest index that anybody had committed at the request */
    uint64_t confirmed;
};

static void random_reads(struct cluster *cluster, struct reads *reads)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct node *node = &cluster->nodes[i];
        if (!node->is_up || node->is_frozen) {
            reads->number[i] = 0;
            continue;
        }
        const bool is_void = replica_role(node->replica) != REPLICA_LEADER ||
                             replica_term(node->replica) != reads->term[i];
        if (is_void) reads->number[i] = 0;
        if (reads->number[i] != 0 && replica_read_confirmed(node->replica) >= reads->number[i]) {
            /* Linearizability: whatever was committed when the read came is applied here. */
            EXPECT_LE(reads->floor[i], store_applied_index(node->store));
            reads->number[i] = 0;
            reads->confirmed++;
        }
        if (reads->number[i] == 0) {
            reads->number[i] = replica_read_request(node->replica);
            reads->term[i] = replica_term(node->replica);
            reads->floor[i] = cluster->committed;
        }
    }
}

static void random_fault(struct cluster *cluster)
{
    struct prng *prng = &cluster->prng;
    const uint32_t place = (uint32_t)prng_below(prng, cluster->count);
    struct node *node = &cluster->nodes[place];
    switch (prng_below(prng, 12)) {
    case 0:
        if (node->is_up) cluster_down(cluster, place, prng_below(prng, 3) > 0);
        break;
    case 1:
    case 2:
        for (uint32_t i = 0; i < cluster->count; i++) {
            if (!cluster->nodes[i].is_up) cluster_up(cluster, i);
        }
        break;
    case 3: cluster_isolate(cluster, place, true); break;
    case 4:
    case 5:
    case 6:
        memset(cluster->cut, 0, sizeof cluster->cut);
        for (uint32_t i = 0; i < cluster->count; i++) cluster->nodes[i].is_frozen = false;
        break;
    case 7: cluster->cut[place][prng_below(prng, cluster->count)] = true; break;
    case 8: node->is_frozen = node->is_up; break;
    case 9: node->disk.stalled_until = cluster->now + prng_below(prng, 1500); break;
    case 10: {
        const uint32_t leader = cluster_leader(cluster);
        if (leader < cluster->count) cluster_down(cluster, leader, true);
        break;
    }
    default: {
        const uint32_t leader = cluster_leader(cluster);
        if (leader < cluster->count) cluster_isolate(cluster, leader, true);
        break;
    }
    }
}

static void random_change(struct cluster *cluster)
{
    const uint32_t leader = cluster_leader(cluster);
    const uint32_t other = (uint32_t)prng_below(&cluster->prng, cluster->count);
    if (leader == cluster->count || cluster->nodes[leader].is_frozen) return;
    if (prng_below(&cluster->prng, 4) == 0) {
        (void)replica_transfer(replica_of(cluster, leader), 0, cluster->now);
        return;
    }
    struct guard_configuration now;
    replica_newest_members(replica_of(cluster, leader), &now);
    const enum guard_role role = guard_role(&now, cluster_id(other));
    const enum guard_role next = role == GUARD_VOTER     ? GUARD_STANDBY
                                 : role == GUARD_STANDBY ? GUARD_VOTER
                                                         : GUARD_STANDBY;
    uint32_t voters = 0;
    for (uint32_t i = 0; i < now.count; i++) voters += now.members[i].role == GUARD_VOTER;
    if (role == GUARD_VOTER && voters <= 2) return;
    (void)cluster_change(cluster, leader, other, next);
}

static void random_heal(struct cluster *cluster)
{
    memset(cluster->cut, 0, sizeof cluster->cut);
    cluster->drop_percent = 0;
    cluster->repeat_percent = 0;
    cluster->delay_max = 2;
    for (uint32_t i = 0; i < cluster->count; i++) {
        cluster->nodes[i].is_frozen = false;
        cluster->nodes[i].disk.stalled_until = 0;
        if (!cluster->nodes[i].is_up) cluster_up(cluster, i);
    }
}

/* All that are members have applied what the leader has. */
static bool members_converge(struct cluster *cluster, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++, cluster_tick(cluster)) {
        struct guard_configuration members;
        if (!cluster_has_ready(cluster)) continue;
        const uint32_t leader = cluster_leader(cluster);
        replica_newest_members(replica_of(cluster, leader), &members);
        bool is_same = true;
        for (uint32_t k = 0; k < members.count; k++) {
            const struct store *store = store_of(cluster, (uint32_t)members.members[k].id - 1);
            if (store_applied_index(store) != store_last_index(store_of(cluster, leader))) {
                is_same = false;
            }
        }
        if (is_same) return true;
    }
    return false;
}

static void random_run(uint64_t seed, uint64_t ms)
{
    const uint32_t voters = 1 + (uint32_t)(seed % 4);
    struct cluster *cluster = cluster_start(4, voters, seed);
    struct reads reads = {0};
    cluster->drop_percent = (uint32_t)prng_below(&cluster->prng, 20);
    cluster->repeat_percent = (uint32_t)prng_below(&cluster->prng, 15);
    cluster->delay_max = 2 + prng_below(&cluster->prng, 60);
    cluster->retention_size = 128u * KIB;
    for (uint64_t i = 0; i < ms; i++) {
        uint64_t index = 0;
        cluster_tick(cluster);
        if (prng_below(&cluster->prng, 250) == 0) random_fault(cluster);
        if (prng_below(&cluster->prng, 300) == 0) random_change(cluster);
        for (uint32_t n = 0; n < cluster->count; n++) {
            if (!cluster->nodes[n].is_up || cluster->nodes[n].is_frozen) continue;
            if (prng_below(&cluster->prng, 5) > 0) continue;
            (void)cluster_submit(cluster, n, prng_below(&cluster->prng, 3000), &index);
        }
        random_reads(cluster, &reads);
    }
    random_heal(cluster);
    if (!members_converge(cluster, 30000)) fail_msg("seed %u: no progress", (unsigned)seed);
    const uint32_t leader = cluster_elect(cluster);
    cluster_write(cluster, leader, 5, 10);
    /* Whatever anybody applied is in the log of the leader now. */
    EXPECT_LE(cluster->committed, store_applied_index(store_of(cluster, leader)));
    cluster_end(cluster);
}

TEST(replica, random_faults_lose_and_split_nothing)
{
    for (uint64_t seed = 1; seed <= 12; seed++) random_run(seed, 10000);
}
