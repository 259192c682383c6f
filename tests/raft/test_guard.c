/* Each workaround has a test that shows the failure with the guard off, where that is harmless to run, and
 * its absence with the guard on. Where it is not (undefined behaviour inside the library), the guard's
 * decision is tested. */
#include "tests/raft/lone.h"

#define BIT(n) (UINT64_C(1) << (n))

static const struct lone_entry commands1[] = {
    {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL},
    {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL},
    {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL},
    {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL},
    {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL},
    {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL}, {1, RECORD_COMMAND, NULL},
    {1, RECORD_COMMAND, NULL}};
#define COMMANDS1_COUNT 19u

/* A follower of 2 in @term with entries 1 .. 20 of term 1, the first @commit of them committed. */
static void follow(struct lone *lone, uint64_t bits_off, uint64_t term, uint64_t commit)
{
    lone_open(lone, bits_off);
    EXPECT_EQ(lone_append(lone, 2, term, 1, 1, commit, commands1, COMMANDS1_COUNT), OK);
    lone_sync(lone);
    /* Committed is what the leader says and we have stored. */
    EXPECT_EQ(lone_append(lone, 2, term, 20, 1, commit, NULL, 0), OK);
    EXPECT_EQ(replica_committed(lone->replica), commit);
    EXPECT_EQ(replica_leader(lone->replica), 2);
    lone_drop(lone);
}

static const enum guard_role all_voters[] = {GUARD_VOTER, GUARD_VOTER, GUARD_VOTER};
static const enum guard_role with_fourth[] = {GUARD_VOTER, GUARD_VOTER, GUARD_VOTER, GUARD_VOTER};
static const enum guard_role only_self[] = {GUARD_VOTER, GUARD_STANDBY, GUARD_STANDBY};

/* ---- W1 .. W20 ------------------------------------------------------------------------------------- */

static uint64_t w01_index_of_change(uint64_t bits_off)
{
    struct lone lone;
    struct guard_configuration four;
    lone_configuration(&four, with_fourth, 4);
    const struct lone_entry entries[] = {{2, RECORD_COMMAND, NULL},
                                         {2, RECORD_COMMAND, NULL},
                                         {2, RECORD_CHANGE, &four},
                                         {2, RECORD_COMMAND, NULL}};
    lone_open(&lone, bits_off);
    EXPECT_EQ(lone_append(&lone, 2, 2, 1, 1, 1, entries, 4), OK);
    EXPECT_EQ(store_last_index(lone.node->store), 5);
    const uint64_t index = lone.replica->raft.configuration_uncommitted_index;
    lone_close(&lone);
    return index;
}

TEST(guard, w01_a_change_in_the_middle_of_a_batch_keeps_its_index)
{
    EXPECT_EQ(w01_index_of_change(BIT(1)), 2); /* B2: that of the first entry */
    EXPECT_EQ(w01_index_of_change(0), 4);
}

TEST(guard, w01_a_newer_change_proves_the_older_one)
{
    struct lone lone;
    struct guard_configuration four;
    struct guard_configuration three;
    lone_configuration(&four, with_fourth, 4);
    lone_configuration(&three, all_voters, 3);
    const struct lone_entry both[] = {{2, RECORD_CHANGE, &four}, {2, RECORD_CHANGE, &three}};
    lone_open(&lone, 0);
    EXPECT_EQ(lone_append(&lone, 2, 2, 1, 1, 1, both, 2), OK);
    EXPECT_EQ(lone.replica->raft.configuration_committed_index, 2);
    EXPECT_EQ(lone.replica->raft.configuration_uncommitted_index, 3);
    /* Another leader overwrites the newer one: the older is in force again. */
    const struct lone_entry command[] = {{3, RECORD_COMMAND, NULL}};
    EXPECT_EQ(lone_append(&lone, 3, 3, 2, 2, 1, command, 1), OK);
    EXPECT_EQ(lone.replica->raft.configuration.n, 4);
    EXPECT_EQ(lone.replica->raft.configuration_uncommitted_index, 0);
    lone_close(&lone);
}

static uint64_t w02_library_commit(uint64_t bits_off)
{
    struct lone lone;
    follow(&lone, bits_off, 2, 20);
    EXPECT_EQ(lone_append(&lone, 2, 2, 10, 1, 30, commands1, 1), OK);
    const uint64_t commit = lone.replica->raft.commit_index;
    EXPECT_EQ(replica_committed(lone.replica), 20); /* ours never goes back */
    lone_close(&lone);
    return commit;
}

TEST(guard, w02_an_old_append_does_not_take_the_commit_index_back)
{
    EXPECT_EQ(w02_library_commit(BIT(2)), 11); /* B3 */
    EXPECT_EQ(w02_library_commit(0), 20);
}

TEST(guard, w02_an_append_from_before_the_base_is_answered_as_success)
{
    struct lone lone;
    struct message result;
    follow(&lone, 0, 2, 20);
    /* B4 would read beyond the array here once 1 is compacted; clipped, it is a heartbeat at 20. */
    struct guard_configuration three;
    lone_configuration(&three, all_voters, 3);
    const struct lone_entry first[] = {{1, RECORD_CHANGE, &three}, {1, RECORD_COMMAND, NULL}};
    EXPECT_EQ(lone_append(&lone, 2, 2, 0, 0, 20, first, 2), OK);
    EXPECT_EQ(store_last_index(lone.node->store), 20);
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &result));
    EXPECT_EQ(result.rejected, 0);
    EXPECT_EQ(result.last_index, 20);
    lone_close(&lone);
}

TEST(guard, w03_an_answer_to_an_older_term_acknowledges_nothing)
{
    struct lone lone;
    struct message result;
    follow(&lone, 0, 5, 3);
    EXPECT_EQ(lone_append(&lone, 3, 4, 0, 0, 0, commands1, 0), OK);
    EXPECT_TRUE(lone_take(&lone, 3, WIRE_APPEND_RESULT, &result));
    EXPECT_EQ(result.term, 5);
    EXPECT_EQ(result.last_index, 0);
    lone_close(&lone);
    /* B6: what the library leaves there is whatever was on its stack. */
    const struct guard_view on = {.bits = GUARD_ALL};
    const struct guard_view off = {.bits = (uint32_t)~BIT(3)};
    EXPECT_EQ(guard_w03_last_index(&on, true, 12345), 0);
    EXPECT_EQ(guard_w03_last_index(&off, true, 12345), 12345);
    EXPECT_EQ(guard_w03_last_index(&on, false, 12345), 12345);
}

static uint64_t w04_term_in_refusal(uint64_t bits_off)
{
    struct lone lone;
    struct message result;
    follow(&lone, bits_off, 10, 3);
    EXPECT_EQ(lone_give(&lone, 3,
                        &(struct message){.type = WIRE_VOTE,
                                          .version = 2,
                                          .term = 6,
                                          .candidate = 3,
                                          .last_index = 30,
                                          .last_term = 1,
                                          .pre_vote = true}),
              OK);
    EXPECT_TRUE(lone_take(&lone, 3, WIRE_VOTE_RESULT, &result));
    EXPECT_FALSE(result.granted);
    lone_close(&lone);
    return result.term;
}

TEST(guard, w04_a_refused_pre_vote_tells_our_term)
{
    EXPECT_LT(w04_term_in_refusal(BIT(4)), 10); /* B7 */
    EXPECT_EQ(w04_term_in_refusal(0), 10);
}

/* The terms in which a lone node leads before and after a restart. */
static void w05_terms(uint64_t bits_off, uint64_t *before, uint64_t *after)
{
    struct cluster *cluster = cluster_make(1, 1, 5);
    cluster->nodes[0].guards = (uint32_t)(GUARD_ALL & ~bits_off);
    cluster_up(cluster, 0);
    EXPECT_EQ(replica_role(cluster->nodes[0].replica), REPLICA_LEADER);
    *before = replica_term(cluster->nodes[0].replica);
    cluster_down(cluster, 0, true);
    cluster_up(cluster, 0);
    EXPECT_EQ(replica_role(cluster->nodes[0].replica), REPLICA_LEADER);
    *after = replica_term(cluster->nodes[0].replica);
    memset(cluster->leader_of, 0, sizeof cluster->leader_of);
    cluster_end(cluster);
}

TEST(guard, w05_sole_voter_starts_in_a_new_term)
{
    uint64_t before = 0;
    uint64_t after = 0;
    w05_terms(BIT(5), &before, &after);
    EXPECT_EQ(before, after); /* B1: leader again in the term of its former self */
    w05_terms(0, &before, &after);
    EXPECT_LT(before, after);
}

/* How often in 200 ms the timer of a leader fires once a stand-by has become a spare. */
static uint64_t w06_firings(uint64_t bits_off)
{
    struct cluster *cluster = cluster_make(3, 3, 6);
    for (uint32_t i = 0; i < 3; i++) {
        cluster->nodes[i].guards = (uint32_t)(GUARD_ALL & ~bits_off);
        cluster_up(cluster, i);
    }
    const uint32_t leader = cluster_elect(cluster);
    const uint32_t other = (leader + 1) % 3;
    struct replica *replica = cluster->nodes[leader].replica;
    EXPECT_EQ(cluster_change(cluster, leader, other, GUARD_STANDBY), OK);
    EXPECT_TRUE(cluster_converge(cluster, 1000));
    EXPECT_EQ(cluster_change(cluster, leader, other, GUARD_SPARE), OK);
    cluster_run(cluster, 500);
    EXPECT_EQ(replica_role(replica), REPLICA_LEADER);
    uint64_t firings = 0;
    uint64_t fired_ms = replica->fired_ms;
    for (uint32_t i = 0; i < 200; i++) {
        cluster_tick(cluster);
        if (replica->fired_ms != fired_ms) firings++;
        fired_ms = replica->fired_ms;
    }
    cluster_end(cluster);
    return firings;
}

TEST(guard, w06_a_timeout_in_the_past_is_no_busy_loop)
{
    EXPECT_LE(150, w06_firings(BIT(6))); /* B12: every turn */
    EXPECT_LE(w06_firings(0), 200 / (CLUSTER_HEARTBEAT_MS / 2));
}

static uint64_t w07_last_index_of_a_new_leader(uint64_t bits_off, enum err *change)
{
    struct lone lone;
    struct guard_configuration next;
    static const enum guard_role roles[] = {GUARD_VOTER, GUARD_VOTER, GUARD_STANDBY};
    lone_configuration(&next, roles, 3);
    lone_open(&lone, bits_off);
    lone_lead(&lone);
    const uint64_t last = store_last_index(lone.node->store);
    *change = replica_submit_change(lone.replica, &next, lone.cluster->now);
    EXPECT_FALSE(replica_ready(lone.replica));
    lone_close(&lone);
    return last;
}

TEST(guard, w07_a_new_leader_writes_a_barrier_before_anything_else)
{
    enum err change = OK;
    /* Rule A: no entry of the new term, and a change of membership is accepted at once. */
    EXPECT_EQ(w07_last_index_of_a_new_leader(BIT(7), &change), 1);
    EXPECT_EQ(change, OK);
    EXPECT_EQ(w07_last_index_of_a_new_leader(0, &change), 2);
    EXPECT_EQ(change, ERR_AGAIN);
}

TEST(guard, w08_rule_c_nobody_else_leads_in_our_term)
{
    struct lone lone;
    lone_open(&lone, 0);
    lone_lead(&lone);
    const uint64_t term = replica_term(lone.replica);
    EXPECT_EQ(lone_append(&lone, 2, term, 1, 1, 1, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(replica_role(lone.replica), REPLICA_LEADER);
    EXPECT_EQ(replica_stats(lone.replica).rejected_frames, 1);
    lone_close(&lone);
    /* A follower of 2 does not listen to 3 in the same term. */
    follow(&lone, 0, 4, 3);
    EXPECT_EQ(lone_append(&lone, 3, 4, 20, 1, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(replica_leader(lone.replica), 2);
    lone_close(&lone);
    /* Without the guard the library overwrites the leader's state: not run here. */
    const struct message append = {.type = WIRE_APPEND, .term = 4};
    struct guard_view view = {.bits = GUARD_ALL, .self = 1, .term = 4, .is_leader = true};
    EXPECT_EQ(guard_message(&view, 2, &append), ERR_CORRUPT);
    EXPECT_EQ(guard_message(&view, 1, &append), ERR_CORRUPT); /* from ourselves */
    view.bits &= (uint32_t)~BIT(8);
    EXPECT_EQ(guard_message(&view, 2, &append), OK);
    EXPECT_EQ(guard_message(&view, 1, &append), OK);
}

TEST(guard, w09_a_second_install_is_dropped)
{
    const struct message install = {
        .type = WIRE_INSTALL, .term = 4, .last_index = 9, .last_term = 3, .change_index = 1};
    struct guard_view view = {.bits = GUARD_ALL, .self = 1, .term = 4};
    EXPECT_EQ(guard_message(&view, 2, &install), OK);
    view.is_installing = true;
    EXPECT_EQ(guard_message(&view, 2, &install), ERR_AGAIN);
    view.bits &= (uint32_t)~BIT(9);
    EXPECT_EQ(guard_message(&view, 2, &install), OK); /* B17: would leak */
}

TEST(guard, w10_only_what_is_stored_now_is_reported)
{
    struct guard_view view = {.bits = GUARD_ALL, .last = 10};
    EXPECT_TRUE(guard_w10_reports(&view, 7, 5));
    EXPECT_FALSE(guard_w10_reports(&view, 5, 5));
    EXPECT_FALSE(guard_w10_reports(&view, 4, 5)); /* never back */
    EXPECT_FALSE(guard_w10_reports(&view, 11, 5));
    view.is_installing = true;
    EXPECT_FALSE(guard_w10_reports(&view, 7, 5));
    view.bits &= (uint32_t)~BIT(10);
    EXPECT_TRUE(guard_w10_reports(&view, 4, 5));
}

TEST(guard, w10_entries_that_were_cut_under_way_are_not_acknowledged)
{
    struct lone lone;
    struct message result;
    const struct lone_entry others[] = {{3, RECORD_COMMAND, NULL}, {3, RECORD_COMMAND, NULL}};
    lone_open(&lone, 0);
    lone.node->disk.latency_min = 50;
    lone.node->disk.latency_max = 50;
    EXPECT_EQ(lone_append(&lone, 2, 2, 1, 1, 1, commands1, 10), OK);
    lone_run(&lone, 10); /* the write is under way */
    EXPECT_EQ(lone_append(&lone, 3, 3, 4, 1, 1, others, 2), OK);
    lone_drop(&lone);
    lone_run(&lone, 45); /* the first write is complete, the second is not */
    EXPECT_LE(lone.replica->raft.last_stored, 4);
    if (lone_take(&lone, 3, WIRE_APPEND_RESULT, &result)) EXPECT_LE(result.last_index, 4);
    lone_run(&lone, 110);
    EXPECT_EQ(lone.replica->raft.last_stored, 6);
    lone_close(&lone);
}

TEST(guard, w11_w17_snapshots_are_durable_new_and_not_of_one_entry)
{
    struct guard_view view = {.bits = GUARD_ALL, .last = 30};
    EXPECT_TRUE(guard_w11_snapshot(&view, 20, 10, 20, 20));
    EXPECT_FALSE(guard_w11_snapshot(&view, 20, 20, 20, 20)); /* the same again */
    EXPECT_FALSE(guard_w11_snapshot(&view, 20, 10, 20, 19)); /* not durable */
    EXPECT_FALSE(guard_w11_snapshot(&view, 20, 10, 19, 20)); /* not applied */
    EXPECT_FALSE(guard_w11_snapshot(&view, 1, 0, 20, 20));   /* B11 */
    view.is_installing = true;
    EXPECT_FALSE(guard_w11_snapshot(&view, 20, 10, 20, 20));
    view.bits = (uint32_t)~BIT(11);
    EXPECT_TRUE(guard_w11_snapshot(&view, 20, 10, 20, 19));
    view.bits = (uint32_t)~BIT(17);
    view.is_installing = false;
    EXPECT_TRUE(guard_w11_snapshot(&view, 1, 0, 20, 20));
}

/* A follower of 2 in term 7 is told that it is the only voter; its timer makes it leader. */
static uint64_t w12_term_of_leadership(uint64_t bits_off)
{
    struct lone lone;
    struct guard_configuration sole;
    lone_configuration(&sole, only_self, 3);
    const struct lone_entry change[] = {{7, RECORD_CHANGE, &sole}};
    lone_open(&lone, bits_off);
    EXPECT_EQ(lone_append(&lone, 2, 7, 1, 1, 1, change, 1), OK);
    lone_sync(&lone);
    EXPECT_EQ(replica_role(lone.replica), REPLICA_FOLLOWER);
    lone_run(&lone, 3 * CLUSTER_ELECTION_MS);
    EXPECT_EQ(replica_role(lone.replica), REPLICA_LEADER);
    const uint64_t term = replica_term(lone.replica);
    EXPECT_EQ(store_term(lone.node->store), term);
    lone_close(&lone);
    return term;
}

TEST(guard, w12_a_follower_that_became_the_sole_voter_leads_in_a_new_term)
{
    EXPECT_EQ(w12_term_of_leadership(BIT(12)), 7); /* B1: the term of leader 2 */
    EXPECT_EQ(w12_term_of_leadership(0), 8);
}

static enum replica_role w12_role_after_timeout_now(uint64_t bits_off)
{
    struct lone lone;
    struct guard_configuration sole;
    lone_configuration(&sole, only_self, 3);
    const struct lone_entry change[] = {{7, RECORD_CHANGE, &sole}};
    lone_open(&lone, bits_off);
    EXPECT_EQ(lone_append(&lone, 2, 7, 1, 1, 1, change, 1), OK);
    lone_sync(&lone);
    EXPECT_EQ(lone_give(&lone, 2,
                        &(struct message){
                            .type = WIRE_TIMEOUT_NOW, .term = 7, .last_index = 2, .last_term = 7}),
              OK);
    const enum replica_role role = replica_role(lone.replica);
    lone_close(&lone);
    return role;
}

TEST(guard, w12_a_sole_voter_ignores_timeout_now)
{
    EXPECT_EQ(w12_role_after_timeout_now(BIT(12)), REPLICA_LEADER); /* in term 7 */
    EXPECT_EQ(w12_role_after_timeout_now(0), REPLICA_FOLLOWER);
}

/* Does a server that is a stand-by by all that it knows vote? */
static bool w13_vote(uint64_t bits_off)
{
    struct lone lone;
    struct guard_configuration standby;
    struct message result;
    static const enum guard_role roles[] = {GUARD_STANDBY, GUARD_VOTER, GUARD_VOTER};
    lone_configuration(&standby, roles, 3);
    const struct lone_entry change[] = {{2, RECORD_CHANGE, &standby}};
    lone_open(&lone, bits_off);
    EXPECT_EQ(lone_append(&lone, 2, 2, 1, 1, 1, change, 1), OK);
    lone_sync(&lone);
    lone_restart(&lone); /* forgets its leader */
    EXPECT_EQ(lone_give(&lone, 3,
                        &(struct message){.type = WIRE_VOTE,
                                          .version = 2,
                                          .term = 4,
                                          .candidate = 3,
                                          .last_index = 9,
                                          .last_term = 3}),
              OK);
    EXPECT_TRUE(lone_take(&lone, 3, WIRE_VOTE_RESULT, &result));
    EXPECT_EQ(lone.replica->raft.configuration.n, 3);
    lone_close(&lone);
    return result.granted;
}

TEST(guard, w13_a_voter_that_does_not_know_it_yet_votes)
{
    EXPECT_FALSE(w13_vote(BIT(13))); /* B8 */
    EXPECT_TRUE(w13_vote(0));
}

static enum err w14_demote_self(uint64_t bits_off)
{
    struct cluster *cluster = cluster_make(3, 3, 14);
    for (uint32_t i = 0; i < 3; i++) {
        cluster->nodes[i].guards = (uint32_t)(GUARD_ALL & ~bits_off);
        cluster_up(cluster, i);
    }
    const uint32_t leader = cluster_elect(cluster);
    const enum err err = cluster_change(cluster, leader, leader, GUARD_STANDBY);
    cluster_end(cluster);
    return err;
}

TEST(guard, w14_a_leader_does_not_demote_itself)
{
    EXPECT_EQ(w14_demote_self(BIT(14)), OK); /* B10 */
    EXPECT_EQ(w14_demote_self(0), ERR_INVALID);
}

/* Where the leader's next append to 2 begins after old refusals have come behind newer answers. */
static uint64_t w15_next_previous(uint64_t bits_off)
{
    struct lone lone;
    struct message append;
    uint64_t index = 0;
    lone_open(&lone, bits_off);
    lone_lead(&lone);
    EXPECT_EQ(lone_answer(&lone, 2, 0, 2), OK);
    lone_sync(&lone);
    for (uint32_t i = 0; i < 20; i++) EXPECT_EQ(cluster_submit(lone.cluster, 0, 8, &index), OK);
    EXPECT_EQ(index, 22);
    EXPECT_EQ(lone_answer(&lone, 2, 0, 16), OK);
    EXPECT_EQ(replica_match(lone.replica, 2), 16);
    lone_drop(&lone);
    for (uint64_t rejected = 22; rejected >= 10; rejected--) {
        EXPECT_EQ(lone_answer(&lone, 2, rejected, 5), OK);
    }
    lone_run(&lone, 2 * CLUSTER_HEARTBEAT_MS);
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND, &append));
    lone_close(&lone);
    return append.prev_index;
}

TEST(guard, w15_old_refusals_do_not_take_back_what_was_acknowledged)
{
    EXPECT_LT(w15_next_previous(BIT(15)), 16); /* B5 */
    EXPECT_LE(16, w15_next_previous(0));
}

static bool w16_vote(uint64_t bits_off, uint64_t silence)
{
    struct lone lone;
    struct message result;
    follow(&lone, bits_off, 2, 3);
    lone.cluster->now += silence;
    EXPECT_EQ(lone_give(&lone, 3,
                        &(struct message){.type = WIRE_VOTE,
                                          .version = 2,
                                          .term = 3,
                                          .candidate = 3,
                                          .last_index = 30,
                                          .last_term = 2}),
              OK);
    EXPECT_TRUE(lone_take(&lone, 3, WIRE_VOTE_RESULT, &result));
    lone_close(&lone);
    return result.granted;
}

TEST(guard, w16_a_silent_leader_is_forgotten)
{
    EXPECT_FALSE(w16_vote(BIT(16), 2 * CLUSTER_ELECTION_MS)); /* B9 */
    EXPECT_TRUE(w16_vote(0, 2 * CLUSTER_ELECTION_MS));
    EXPECT_FALSE(w16_vote(0, CLUSTER_ELECTION_MS / 2));
}

/* Is a change of membership on the leader's disk when the first message with it leaves? */
static bool w18_is_durable(uint64_t bits_off)
{
    struct lone lone;
    struct guard_configuration next;
    struct message append;
    static const enum guard_role roles[] = {GUARD_VOTER, GUARD_VOTER, GUARD_STANDBY};
    lone_configuration(&next, roles, 3);
    lone_open(&lone, bits_off);
    lone_lead(&lone);
    EXPECT_EQ(lone_answer(&lone, 2, 0, 2), OK);
    lone_sync(&lone);
    EXPECT_TRUE(replica_ready(lone.replica));
    lone_drop(&lone);
    EXPECT_EQ(replica_submit_change(lone.replica, &next, lone.cluster->now), OK);
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND, &append));
    EXPECT_EQ(append.count, 1);
    const bool is_durable = store_persisted_index(lone.node->store) == 3;
    lone_close(&lone);
    return is_durable;
}

TEST(guard, w18_a_change_is_durable_before_it_is_sent)
{
    EXPECT_FALSE(w18_is_durable(BIT(18))); /* B10 */
    EXPECT_TRUE(w18_is_durable(0));
}

/* The hint with which a follower with a long tail of term 3 answers a leader of term 4 that has it not. */
static uint64_t w19_hint(uint64_t bits_off)
{
    struct lone lone;
    struct message result;
    struct lone_entry tail[300];
    for (uint32_t i = 0; i < 300; i++) tail[i] = (struct lone_entry){3, RECORD_COMMAND, NULL};
    follow(&lone, bits_off, 2, 3);
    EXPECT_EQ(lone_append(&lone, 3, 3, 20, 1, 3, tail, 300), OK);
    lone_sync(&lone);
    lone_drop(&lone);
    EXPECT_EQ(lone_append(&lone, 2, 4, 310, 2, 3, NULL, 0), OK);
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &result));
    EXPECT_EQ(result.rejected, 310);
    EXPECT_EQ(result.conflict_term, store_term_at(lone.node->store, result.last_index));
    EXPECT_EQ(result.held_index, 3);
    lone_close(&lone);
    return result.last_index;
}

TEST(guard, w19_a_conflict_skips_whole_terms)
{
    EXPECT_EQ(w19_hint(BIT(19)), 309); /* B16: one entry with each round trip */
    EXPECT_EQ(w19_hint(0), 20);
}

TEST(guard, w20_vote_results_reach_candidates_only)
{
    const struct message result = {.type = WIRE_VOTE_RESULT, .term = 4, .granted = true};
    struct guard_view view = {.bits = GUARD_ALL, .self = 1, .term = 4};
    EXPECT_EQ(guard_message(&view, 2, &result), ERR_AGAIN);
    view.is_candidate = true;
    EXPECT_EQ(guard_message(&view, 2, &result), OK);
    view.is_candidate = false;
    view.bits &= (uint32_t)~BIT(20);
    EXPECT_EQ(guard_message(&view, 2, &result), OK); /* B15: reads a union's other member */
    struct lone lone;
    follow(&lone, 0, 4, 3);
    EXPECT_EQ(lone_give(&lone, 3, &result), OK);
    EXPECT_EQ(replica_role(lone.replica), REPLICA_FOLLOWER);
    lone_close(&lone);
}

/* ---- rules B and D, overtaken bases ---------------------------------------------------------------- */

static uint64_t rule_b_exposed;
static uint64_t rule_b_persisted_before(const struct cluster *cluster)
{
    return store_persisted_index(cluster->nodes[0].store);
}
static bool rule_b_watch(struct cluster *cluster, uint32_t from, uint32_t to,
                         const struct wire_frame *frame)
{
    struct message message;
    (void)to;
    if (from != 0 || frame->type != WIRE_APPEND) return true;
    EXPECT_EQ(message_decode(frame->type, frame->body, &message), OK);
    const uint64_t end = message.prev_index + message.count;
    if (end > rule_b_persisted_before(cluster)) rule_b_exposed++;
    return true;
}

/* Appends of a sole voter to its stand-by with entries that are not on its own disk. */
static uint64_t rule_b_exposures(uint64_t bits_off)
{
    struct cluster *cluster = cluster_make(2, 1, 22);
    cluster->nodes[0].guards = (uint32_t)(GUARD_ALL & ~bits_off);
    cluster->nodes[0].disk.latency_min = 20;
    cluster->nodes[0].disk.latency_max = 20;
    cluster_up(cluster, 0);
    cluster_up(cluster, 1);
    EXPECT_EQ(cluster_elect(cluster), 0);
    EXPECT_EQ(cluster_change(cluster, 0, 1, GUARD_STANDBY), OK);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    rule_b_exposed = 0;
    cluster->filter = rule_b_watch;
    for (uint32_t i = 0; i < 50; i++) {
        uint64_t index = 0;
        EXPECT_EQ(cluster_submit(cluster, 0, 50, &index), OK);
        cluster_collect(cluster, 0);
        cluster_tick(cluster);
    }
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    cluster_end(cluster);
    return rule_b_exposed;
}

TEST(guard, rule_b_a_sole_voter_shows_nothing_before_its_own_sync)
{
    EXPECT_LT(10, rule_b_exposures(BIT(GUARD_SELF_SYNC)));
    EXPECT_EQ(rule_b_exposures(0), 0);
}

static uint64_t rule_d_term(uint64_t bits_off, enum err *err)
{
    struct lone lone;
    follow(&lone, bits_off, 2, 3);
    lone.cluster->now += 2 * CLUSTER_ELECTION_MS;
    *err = lone_give(&lone, 3,
                     &(struct message){.type = WIRE_VOTE,
                                       .version = 2,
                                       .term = UINT64_C(1) << 40,
                                       .candidate = 3,
                                       .last_index = 30,
                                       .last_term = 2});
    const uint64_t term = replica_term(lone.replica);
    lone_close(&lone);
    return term;
}

TEST(guard, rule_d_absurd_terms_move_nobody)
{
    enum err err = OK;
    EXPECT_EQ(rule_d_term(BIT(GUARD_ENVELOPE), &err), UINT64_C(1) << 40);
    EXPECT_EQ(rule_d_term(0, &err), 2);
    EXPECT_EQ(err, ERR_CORRUPT);
}

TEST(guard, rule_d_strangers_are_not_heard)
{
    struct lone lone;
    follow(&lone, 0, 2, 3);
    EXPECT_EQ(lone_append(&lone, 9, 3, 20, 1, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 0, 3, 20, 1, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 1, 3, 20, 1, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(replica_term(lone.replica), 2);
    EXPECT_EQ(replica_stats(lone.replica).rejected_frames, 3);
    lone_close(&lone);
}

/* Installs that a blank follower needs while the leader goes on writing and sealing. */
static uint64_t held_installs(uint64_t bits_off)
{
    struct cluster *cluster = cluster_make(3, 3, 23);
    cluster->retention_size = 500u * KIB;
    for (uint32_t i = 0; i < 2; i++) {
        cluster->nodes[i].guards = (uint32_t)(GUARD_ALL & ~bits_off);
        cluster_up(cluster, i);
    }
    const uint32_t leader = cluster_elect(cluster);
    cluster_write(cluster, leader, 400, 3000);
    cluster_run(cluster, 200);
    EXPECT_LT(2, store_first_index(cluster->nodes[leader].store));
    cluster_up(cluster, 2);
    for (uint32_t i = 0; i < 5000 && !replica_installing(cluster->nodes[2].replica); i++) {
        cluster_tick(cluster);
    }
    const uint64_t base = store_base(cluster->nodes[leader].store).index;
    cluster_write(cluster, leader, 60, 3000);
    EXPECT_LT(base, store_base(cluster->nodes[leader].store).index);
    EXPECT_TRUE(cluster_converge(cluster, 30000));
    const uint64_t installs = cluster->installs;
    cluster_end(cluster);
    return installs;
}

TEST(guard, a_follower_whose_base_was_overtaken_goes_on_from_the_log)
{
    EXPECT_LT(1, held_installs(BIT(GUARD_HELD)));
    EXPECT_EQ(held_installs(0), 1);
}

/* ---- who has lost something ---------------------------------------------------------------------------- */

/* Everything but the vote. */
static void lose_all(struct sim_disk *disk)
{
    struct buf names = {0};
    sim_disk_names(disk, &names);
    for (uint64_t at = 0; at < names.size; at += strlen((const char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;
        if (strstr(name, "/vote") == NULL) EXPECT_TRUE(sim_disk_drop(disk, name));
    }
    buf_close(&names);
}

/* An entry is committed by two of three; one of the two loses it, and the other is away. Who leads then? */
static void elect_after_loss(bool guarded)
{
    struct cluster *cluster = cluster_start(3, 3, 77);
    const uint32_t leader = cluster_elect(cluster);
    const uint32_t behind = (leader + 1) % 3;
    const uint32_t patient = (leader + 2) % 3;
    cluster_write(cluster, leader, 5, 100);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    cluster_down(cluster, behind, false);
    cluster_write(cluster, leader, 5, 100);
    const uint64_t committed = replica_committed(cluster->nodes[leader].replica);
    cluster_down(cluster, leader, false);
    cluster_down(cluster, patient, false);
    lose_all(&cluster->nodes[patient].disk);
    cluster->nodes[patient].has_lost = true;
    if (!guarded) cluster->nodes[patient].guards = GUARD_ALL & ~(1u << GUARD_LOSS);
    if (!guarded)
        memset(cluster->hashes, 0, sizeof cluster->hashes); /* it will contradict itself */
    cluster_up(cluster, patient);
    cluster_up(cluster, behind);
    cluster_run(cluster, 5000);
    if (guarded) {
        EXPECT_EQ(cluster_leader(cluster), 3);
        cluster_up(cluster, leader);
        cluster_elect(cluster);
        EXPECT_TRUE(cluster_converge(cluster, 5000));
        EXPECT_TRUE(store_last_index(cluster->nodes[patient].store) >= committed);
    } else {
        /* What was committed is gone. */
        EXPECT_EQ(cluster_leader(cluster), behind);
        EXPECT_NE(store_term_at(cluster->nodes[behind].store, committed), 2);
    }
    cluster_end(cluster);
}

TEST(guard, f06_who_has_lost_entries_elects_nobody)
{
    elect_after_loss(true);
    elect_after_loss(false);
}

/* The library goes on from what a follower once acknowledged, and ignores that it holds less. */
TEST(guard, a_leader_knows_of_a_follower_that_holds_less_than_it_acknowledged)
{
    struct cluster *cluster = cluster_start(3, 3, 78);
    const uint32_t leader = cluster_elect(cluster);
    const uint32_t patient = (leader + 1) % 3;
    cluster_write(cluster, leader, 5, 100);
    EXPECT_TRUE(cluster_converge(cluster, 2000));
    EXPECT_FALSE(replica_has_regressed(cluster->nodes[leader].replica));
    cluster_down(cluster, patient, false);
    lose_all(&cluster->nodes[patient].disk);
    cluster->nodes[patient].has_lost = true;
    cluster_up(cluster, patient);
    cluster_run(cluster, 3000);
    EXPECT_EQ(cluster_leader(cluster), leader);
    EXPECT_EQ(store_last_index(cluster->nodes[patient].store), 0);
    EXPECT_TRUE(replica_has_regressed(cluster->nodes[leader].replica));
    /* Never to the one that cannot take it. */
    EXPECT_EQ(replica_transfer(cluster->nodes[leader].replica, cluster_id(patient), cluster->now),
              ERR_NOT_FOUND);
    EXPECT_EQ(replica_transfer(cluster->nodes[leader].replica, 0, cluster->now), OK);
    cluster_run(cluster, 3000);
    EXPECT_NE(cluster_leader(cluster), leader);
    EXPECT_TRUE(cluster_converge(cluster, 5000));
    EXPECT_TRUE(store_last_index(cluster->nodes[patient].store) > 5);
    cluster_end(cluster);
}
