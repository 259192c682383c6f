/* Entries that travel in fragments: what else goes on meanwhile, who is thought to be alive, what is repeated. */
#include "tests/raft/lone.h"

#include "storage/segment.h"

#define RATE (10u * KIB) /* a millisecond: a link of 10 MiB/s */

static struct replica *replica_of(const struct cluster *cluster, uint32_t place)
{
    return cluster->nodes[place].replica;
}

/* Keeps its log, so that who lags gets entries and not a base. */
static struct cluster *roomy_cluster(uint64_t seed)
{
    struct cluster *cluster = cluster_make(3, 3, seed);
    cluster->segment_size = 8u * MIB;
    cluster->retention_size = 64u * MIB;
    for (uint32_t i = 0; i < 3; i++) cluster_up(cluster, i);
    (void)cluster_elect(cluster);
    return cluster;
}

static struct cluster *slow_cluster(uint64_t seed)
{
    struct cluster *cluster = roomy_cluster(seed);
    cluster_run(cluster, 100);
    cluster->rate = RATE;
    cluster_run(cluster, 100);
    return cluster;
}

/* Milliseconds that a read takes from now on. */
static uint64_t read_time(struct cluster *cluster, uint32_t leader)
{
    struct replica *replica = replica_of(cluster, leader);
    const uint64_t number = replica_read_request(replica);
    const uint64_t begin = cluster->now;
    while (replica_read_confirmed(replica) < number && cluster->now < begin + 5000) {
        cluster_tick(cluster);
    }
    return cluster->now - begin;
}

/* The link needs more than five election timeouts for the entry. Nobody stands for election, the leader stays in
 * office, and reads are confirmed as if nothing was the matter. */
TEST(big, an_entry_that_travels_for_many_election_timeouts_deposes_nobody)
{
    struct cluster *cluster = slow_cluster(1);
    const uint32_t leader = cluster_leader(cluster);
    const uint64_t term = replica_term(replica_of(cluster, leader));
    uint64_t index = 0;
    uint64_t slowest = 0;
    EXPECT_EQ(cluster_submit(cluster, leader, 20u * MIB, &index), OK);
    const uint64_t begin = cluster->now;
    while (replica_committed(replica_of(cluster, leader)) < index) {
        const uint64_t time = read_time(cluster, leader);
        if (time > slowest) slowest = time;
        EXPECT_EQ(cluster_leader(cluster), leader);
        for (uint32_t i = 0; i < 3; i++) {
            EXPECT_EQ(replica_term(replica_of(cluster, i)), term);
            EXPECT_EQ(replica_leader(replica_of(cluster, i)), cluster_id(leader));
        }
    }
    EXPECT_LT(5 * CLUSTER_ELECTION_MS, cluster->now - begin);
    EXPECT_LT(slowest, 100);
    EXPECT_TRUE(cluster_converge(cluster, 5000));
    cluster_end(cluster);
}

static uint64_t appends_begun;
static bool count_begun(struct cluster *cluster, uint32_t from, uint32_t to,
                        const struct wire_frame *frame)
{
    (void)cluster;
    (void)from;
    (void)to;
    if (frame->type == WIRE_FRAGMENT && get_u32(frame->body.data + 8) == 0) appends_begun++;
    return true;
}

/* While the library probes a follower it gives out the same entry with every heartbeat, sixteen times in this test. */
TEST(big, an_entry_is_not_sent_twice_to_a_follower_that_is_slow_to_answer)
{
    struct cluster *cluster = roomy_cluster(2);
    const uint32_t leader = cluster_leader(cluster);
    const uint32_t other = (leader + 1) % 3;
    uint64_t index = 0;
    cluster_run(cluster, 100);
    cluster_down(cluster, other, false);
    cluster_write(cluster, leader, 1, 600u * KIB);
    index = store_last_index(cluster->nodes[leader].store);
    cluster->nodes[other].disk.latency_min = 800;
    cluster->nodes[other].disk.latency_max = 800;
    appends_begun = 0;
    cluster->filter = count_begun;
    cluster_up(cluster, other);
    while (replica_match(replica_of(cluster, leader), cluster_id(other)) < index) {
        cluster_tick(cluster);
    }
    EXPECT_EQ(cluster_leader(cluster), leader);
    EXPECT_EQ(appends_begun, 1);
    EXPECT_TRUE(cluster_converge(cluster, 10000));
    cluster_end(cluster);
}

TEST(big, a_follower_that_lags_gets_big_entries_from_the_disk)
{
    struct cluster *cluster = roomy_cluster(3);
    const uint32_t leader = cluster_leader(cluster);
    const uint32_t other = (leader + 1) % 3;
    cluster_isolate(cluster, other, true);
    for (uint32_t i = 0; i < 6; i++) {
        cluster_write(cluster, leader, 1, 700u * KIB);
        cluster_write(cluster, leader, 3, 100); /* Groups that push the big one out of memory. */
    }
    cluster_isolate(cluster, other, false);
    EXPECT_TRUE(cluster_converge(cluster, 20000));
    EXPECT_EQ(cluster->installs, 0);
    cluster_end(cluster);
}

/* What a damaged disk gives is found out before it has left as a whole: the peer never takes it for the entry. */
TEST(big, a_damaged_entry_is_not_sent)
{
    struct cluster *cluster = roomy_cluster(4);
    struct buf names = {0};
    const uint32_t leader = cluster_leader(cluster);
    const uint32_t other = (leader + 1) % 3;
    struct node *node = &cluster->nodes[leader];
    cluster_isolate(cluster, other, true);
    cluster_write(cluster, leader, 1, 700u * KIB);
    const uint64_t index = store_last_index(node->store);
    cluster_write(cluster, leader, 3, 100);
    sim_disk_names(&node->disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const char *name = (const char *)at;
        if (strstr(name, ".log") == NULL) continue;
        const uint64_t size = sim_disk_file(&node->disk, name).size;
        if (size > 600u * KIB) sim_disk_flip(&node->disk, name, 500u * KIB * 8);
    }
    struct peer *peer = peers_find(&node->peers, cluster_id(other));
    struct fragment_piece piece;
    struct replica *replica = node->replica;
    peer->out_start = peer->out.size;
    EXPECT_TRUE(peer_send_asked(&node->peers, peer, WIRE_APPEND, slice_of(node->peers.list, 40),
                                store_entry_size(node->store, index), index));
    while (replica->ended == OK && peer_lanes_busy(peer)) {
        while (peer_pump(&node->peers, peer, &piece)) replica_give(replica, peer, &piece);
        peer->out_start = peer->out.size;
    }
    EXPECT_EQ(replica->ended, ERR_CORRUPT);
    buf_close(&names);
    replica->ended = OK;
    cluster_end(cluster);
}

/* ---- one follower -------------------------------------------------------------------------------------- */

/* A piece of a big append of @term from node 2, with the first @here bytes of its body. */
static enum err give_part(struct lone *lone, uint8_t part, uint64_t term, uint64_t here)
{
    struct buf body = {0};
    message_encode(&(struct message){.type = WIRE_APPEND,
                                     .term = term,
                                     .prev_index = 1000, /* It is not looked at yet. */
                                     .prev_term = term,
                                     .count = 1},
                   &body);
    (void)buf_extend(&body, 100);
    const struct wire_frame frame = {
        .type = WIRE_FRAGMENT, .part = part, .from = 2, .to = 1, .body = slice_of(body.data, here)};
    const enum err err = replica_receive(lone->replica, &frame, lone->cluster->now);
    buf_close(&body);
    return err;
}

TEST(big, pieces_of_an_append_keep_a_follower_from_standing_for_election)
{
    struct lone lone;
    struct message answer;
    lone_open(&lone, 0);
    EXPECT_EQ(lone_append(&lone, 2, 2, 1, 1, 1, NULL, 0), OK);
    lone_drop(&lone);
    for (uint32_t i = 0; i < 20; i++) {
        lone_run(&lone, CLUSTER_ELECTION_MS / 2);
        EXPECT_EQ(give_part(&lone, WIRE_APPEND, 2, 40 + i), OK);
        EXPECT_EQ(replica_role(lone.replica), REPLICA_FOLLOWER);
        EXPECT_EQ(replica_leader(lone.replica), 2);
        /* The leader is told that it is heard; nothing is acknowledged that is not here. */
        EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &answer));
        EXPECT_EQ(answer.rejected, 0);
        EXPECT_EQ(answer.last_index, 1);
    }
    EXPECT_EQ(replica_term(lone.replica), 2);
    EXPECT_EQ(store_last_index(lone.node->store), 1);
    lone_run(&lone, 3 * CLUSTER_ELECTION_MS); /* When they end it does stand. */
    EXPECT_EQ(replica_role(lone.replica), REPLICA_CANDIDATE);
    lone_close(&lone);
}

TEST(big, pieces_are_answered_once_a_heartbeat)
{
    struct lone lone;
    struct message answer;
    uint32_t answers = 0;
    lone_open(&lone, 0);
    for (uint32_t i = 0; i < 4 * CLUSTER_HEARTBEAT_MS; i++) {
        EXPECT_EQ(give_part(&lone, WIRE_APPEND, 2, 60), OK);
        if (lone_take(&lone, 2, WIRE_APPEND_RESULT, &answer)) answers++;
        lone_run(&lone, 1);
    }
    EXPECT_EQ(answers, 4);
    lone_close(&lone);
}

TEST(big, a_piece_of_an_older_term_is_told_of_the_later_one)
{
    struct lone lone;
    struct message answer;
    lone_open(&lone, 0);
    EXPECT_EQ(lone_append(&lone, 3, 5, 1, 1, 1, NULL, 0), OK);
    lone_drop(&lone);
    EXPECT_EQ(give_part(&lone, WIRE_APPEND, 3, 60), OK);
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &answer));
    EXPECT_EQ(answer.term, 5);
    EXPECT_EQ(answer.last_index, 0); /* W3 */
    EXPECT_EQ(replica_leader(lone.replica), 3);
    lone_close(&lone);
}

TEST(big, pieces_that_say_nothing_or_nonsense)
{
    struct lone lone;
    struct message answer;
    lone_open(&lone, 0);
    EXPECT_EQ(give_part(&lone, WIRE_APPEND, 2, 39), OK); /* Its term is not known yet. */
    EXPECT_EQ(give_part(&lone, WIRE_VOTE, 2, 60), OK);
    EXPECT_FALSE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &answer));
    lone_run(&lone, CLUSTER_HEARTBEAT_MS);
    EXPECT_EQ(give_part(&lone, WIRE_APPEND, UINT64_MAX, 60), ERR_CORRUPT);
    lone_run(&lone, CLUSTER_HEARTBEAT_MS);
    EXPECT_EQ(give_part(&lone, WIRE_APPEND, 0, 60), ERR_CORRUPT);
    EXPECT_EQ(replica_term(lone.replica), 1);
    lone_lead(&lone);
    lone_run(&lone, CLUSTER_HEARTBEAT_MS);
    EXPECT_EQ(give_part(&lone, WIRE_APPEND, replica_term(lone.replica), 60), ERR_CORRUPT);
    EXPECT_EQ(replica_role(lone.replica), REPLICA_LEADER);
    lone_close(&lone);
}

TEST(big, a_leader_that_steps_down_gives_up_what_it_was_sending)
{
    struct lone lone;
    struct fragment_piece piece;
    struct message vote;
    uint64_t index = 0;
    lone_open(&lone, 0);
    lone_lead(&lone);
    EXPECT_EQ(lone_answer(&lone, 2, 0, store_last_index(lone.node->store)), OK);
    EXPECT_EQ(cluster_submit(lone.cluster, 0, 4u * MIB, &index), OK);
    struct peer *peer = peers_find(&lone.node->peers, 2);
    lone_drop(&lone);
    EXPECT_TRUE(fragment_lane_busy(peer_lane(peer, WIRE_APPEND)));
    while (peer_pump(&lone.node->peers, peer, &piece)) replica_give(lone.replica, peer, &piece);
    EXPECT_TRUE(peer_lane(peer, WIRE_APPEND)->sent > 0);
    lone_drop(&lone);
    /* Node 3 leads a later term: its answer does not wait behind megabytes. */
    EXPECT_EQ(lone_append(&lone, 3, replica_term(lone.replica) + 1, 1, 1, 1, NULL, 0), OK);
    EXPECT_EQ(replica_role(lone.replica), REPLICA_FOLLOWER);
    EXPECT_FALSE(peer_lanes_busy(peer));
    EXPECT_FALSE(peer_lanes_busy(peers_find(&lone.node->peers, 3)));
    EXPECT_TRUE(lone_take(&lone, 3, WIRE_APPEND_RESULT, &vote));
    lone_close(&lone);
}
