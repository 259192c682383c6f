/* Messages and configurations that no honest peer makes: refused, and nothing changes. */
#include <sys/wait.h>
#include <unistd.h>

#include "storage/manifest.h"
#include "tests/raft/lone.h"

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
static void follow(struct lone *lone, uint64_t term, uint64_t commit)
{
    lone_open(lone, 0);
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

/* ---- malformed messages ---------------------------------------------------------------------------- */

TEST(guard, appends_with_impossible_entries_are_refused)
{
    struct lone lone;
    follow(&lone, 3, 3);
    const struct lone_entry falling[] = {{3, RECORD_COMMAND, NULL}, {2, RECORD_COMMAND, NULL}};
    const struct lone_entry future[] = {{4, RECORD_COMMAND, NULL}};
    const struct lone_entry zero[] = {{0, RECORD_COMMAND, NULL}};
    const struct lone_entry cut[] = {{3, RECORD_CUT, NULL}};
    const struct lone_entry empty_change[] = {{3, RECORD_CHANGE, NULL}};
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 1, 3, falling, 2), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 1, 3, future, 1), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 1, 3, zero, 1), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 1, 3, cut, 1), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 1, 3, empty_change, 1), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 0, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 0, 1, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 4, 3, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(lone_append(&lone, 2, 3, 20, 1, UINT64_C(1) << 62, NULL, 0), ERR_CORRUPT);
    EXPECT_EQ(store_last_index(lone.node->store), 20);
    EXPECT_EQ(replica_stats(lone.replica).rejected_frames, 9);
    replica_check(lone.replica);
    lone_close(&lone);
}

TEST(guard, damaged_bodies_change_nothing)
{
    struct lone lone;
    struct buf body = {0};
    struct buf records = {0};
    follow(&lone, 2, 3);
    record_encode(&(struct record){.index = 21, .term = 2, .type = RECORD_BARRIER}, &records);
    message_encode(&(struct message){.type = WIRE_APPEND,
                                     .term = 2,
                                     .prev_index = 20,
                                     .prev_term = 1,
                                     .commit = 3,
                                     .count = 1,
                                     .records = buf_slice(&records)},
                   &body);
    struct wire_frame frame = {.type = WIRE_APPEND, .from = 2, .to = 1};
    for (uint64_t size = 0; size < body.size; size++) {
        frame.body = slice_of(body.data, size);
        EXPECT_EQ(replica_receive(lone.replica, &frame, lone.cluster->now), ERR_CORRUPT);
    }
    /* Every bit of the entry is covered by its checksum, whatever the frame's own says. */
    for (uint64_t bit = 8 * MESSAGE_APPEND_SIZE; bit < 8 * body.size; bit++) {
        body.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        frame.body = buf_slice(&body);
        EXPECT_EQ(replica_receive(lone.replica, &frame, lone.cluster->now), ERR_CORRUPT);
        body.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT_EQ(store_last_index(lone.node->store), 20);
    frame.type = WIRE_FORWARD;
    EXPECT_EQ(replica_receive(lone.replica, &frame, lone.cluster->now), ERR_CORRUPT);
    frame.type = WIRE_APPEND;
    frame.shard = 1;
    EXPECT_EQ(replica_receive(lone.replica, &frame, lone.cluster->now), ERR_CORRUPT);
    frame.shard = 0;
    EXPECT_EQ(replica_receive(lone.replica, &frame, lone.cluster->now), OK);
    EXPECT_EQ(store_last_index(lone.node->store), 21);
    buf_close(&body);
    buf_close(&records);
    lone_close(&lone);
}

TEST(guard, an_install_must_agree_with_its_manifest)
{
    struct lone lone;
    struct guard_configuration three;
    struct manifest manifest = {.cluster_id = CLUSTER_ID,
                                .number = 1,
                                .base_index = 40,
                                .base_term = 2,
                                .change_index = 1,
                                .has_state_hash = true};
    struct buf bytes = {0};
    lone_configuration(&three, all_voters, 3);
    guard_encode_configuration(&three, &manifest.change);
    const struct log_file file = {
        .number = 1, .file_id = 9, .first_index = 1, .last_index = 40, .used = 8192};
    manifest_add(&manifest, &file);
    manifest_encode(&manifest, &bytes);
    struct message install = {.type = WIRE_INSTALL,
                              .term = 2,
                              .last_index = 41,
                              .last_term = 2,
                              .change_index = 1,
                              .change = buf_slice(&manifest.change),
                              .manifest = buf_slice(&bytes)};
    follow(&lone, 2, 3);
    EXPECT_EQ(lone_give(&lone, 2, &install), ERR_CORRUPT); /* index */
    install.last_index = 40;
    install.last_term = 1;
    EXPECT_EQ(lone_give(&lone, 2, &install), ERR_CORRUPT); /* term */
    install.last_term = 2;
    install.change = slice_of(manifest.change.data, manifest.change.size - 8);
    EXPECT_EQ(lone_give(&lone, 2, &install), ERR_CORRUPT); /* configuration */
    install.change = buf_slice(&manifest.change);
    install.change_index = 41;
    EXPECT_EQ(lone_give(&lone, 2, &install), ERR_CORRUPT); /* behind the base */
    install.change_index = 1;
    bytes.data[8] ^= 1;
    EXPECT_EQ(lone_give(&lone, 2, &install), ERR_CORRUPT); /* damaged */
    bytes.data[8] ^= 1;
    /* The leader is told first what is here: it may be able to go on from that. */
    struct message result;
    EXPECT_EQ(lone_give(&lone, 2, &install), OK);
    EXPECT_FALSE(replica_installing(lone.replica));
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &result));
    EXPECT_EQ(result.rejected, 40);
    EXPECT_EQ(result.held_index, 3);
    EXPECT_EQ(lone_give(&lone, 2, &install), OK);
    EXPECT_TRUE(replica_installing(lone.replica));
    EXPECT_TRUE(lone_take(&lone, 2, WIRE_APPEND_RESULT, &result));
    EXPECT_EQ(result.rejected, 0); /* keeps the contact, acknowledges nothing */
    EXPECT_EQ(result.last_index, 0);
    EXPECT_EQ(lone_give(&lone, 2, &install), OK); /* W9: dropped */
    EXPECT_EQ(store_last_index(lone.node->store), 20);
    /* It votes for nobody and takes no entries, but goes on hearing its leader. */
    EXPECT_EQ(lone_append(&lone, 2, 2, 40, 2, 40, NULL, 0), OK);
    EXPECT_EQ(replica_committed(lone.replica), 3);
    manifest_close(&manifest);
    buf_close(&bytes);
    lone_close(&lone);
}

/* Runs @scenario in a child and returns its exit status. */
static int exit_of(void (*scenario)(void))
{
    const pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(99);
        scenario();
        _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void contradict_entry(void)
{
    struct lone lone;
    const struct lone_entry other[] = {{2, RECORD_COMMAND, NULL}};
    follow(&lone, 2, 20);
    (void)lone_append(&lone, 3, 3, 10, 1, 20, other, 1);
}
static void contradict_previous(void)
{
    struct lone lone;
    follow(&lone, 2, 20);
    (void)lone_append(&lone, 3, 3, 10, 2, 20, NULL, 0);
}
static void agree(void)
{
    struct lone lone;
    follow(&lone, 2, 20);
    (void)lone_append(&lone, 3, 3, 10, 1, 20, commands1, 1);
}

TEST(guard, a_contradiction_of_what_is_committed_stops_the_process)
{
    EXPECT_EQ(exit_of(agree), 0);
    EXPECT_EQ(exit_of(contradict_entry), EXIT_BAD_DATA);
    EXPECT_EQ(exit_of(contradict_previous), EXIT_BAD_DATA);
}

/* ---- a disk that hangs ------------------------------------------------------------------------------ */

static void hang(uint64_t turns, uint64_t step_ms)
{
    struct lone lone;
    follow(&lone, 2, 3);
    EXPECT_EQ(lone_append(&lone, 2, 2, 20, 1, 3, commands1, 5), OK);
    lone.node->disk.stalled_until = UINT64_MAX;
    for (uint64_t i = 0; i < turns; i++) {
        lone.cluster->now += step_ms;
        const enum err err = replica_turn(lone.replica, lone.cluster->now);
        if (err == ERR_IO) _exit(EXIT_DISK); /* As its owner does. */
        EXPECT_EQ(err, OK);
    }
}
static void hang_for_19_seconds(void)
{
    hang(19000, 1);
}
static void hang_for_21_seconds(void)
{
    hang(21000, 1);
}
static void sleep_for_a_day(void)
{
    hang(3, 86400000);
}

TEST(replica, f13_a_disk_that_hangs_for_20_seconds_ends_the_process)
{
    EXPECT_EQ(exit_of(hang_for_19_seconds), 0);
    EXPECT_EQ(exit_of(hang_for_21_seconds), EXIT_DISK);
    EXPECT_EQ(exit_of(sleep_for_a_day), 0); /* the process was stopped, not the disk */
}

/* ---- configurations -------------------------------------------------------------------------------- */

TEST(guard, our_configurations_are_the_librarys)
{
    struct guard_configuration ours;
    struct raft_configuration theirs;
    struct raft_buffer encoded;
    struct buf bytes = {0};
    lone_configuration(&ours, only_self, 3);
    guard_encode_configuration(&ours, &bytes);
    replica_configuration(&ours, &theirs);
    EXPECT_EQ(raft_configuration_encode(&theirs, &encoded), 0);
    EXPECT_EQ(bytes.size, encoded.len);
    EXPECT_BYTES(bytes.data, encoded.base, bytes.size);
    raft_free(encoded.base);
    raft_configuration_close(&theirs);
    struct guard_configuration back;
    EXPECT_EQ(guard_decode_configuration(buf_slice(&bytes), &back), OK);
    EXPECT_EQ(back.count, 3);
    EXPECT_TEXT(back.members[1].address, "host1:7000");
    EXPECT_TRUE(guard_sole_voter(&back, 1));
    EXPECT_FALSE(guard_sole_voter(&back, 2));
    buf_close(&bytes);
}

TEST(guard, damaged_configurations_are_refused)
{
    struct guard_configuration ours;
    struct guard_configuration back;
    struct buf bytes = {0};
    lone_configuration(&ours, all_voters, 3);
    guard_encode_configuration(&ours, &bytes);
    for (uint64_t size = 0; size < bytes.size; size++) {
        uint8_t *copy = test_malloc(size + 1); /* exact, so that a sanitizer sees a step too far */
        memcpy(copy, bytes.data, size);
        EXPECT_EQ(guard_decode_configuration(slice_of(copy, size), &back), ERR_CORRUPT);
        test_free(copy);
    }
    buf_u64(&bytes, 0);
    EXPECT_EQ(guard_decode_configuration(buf_slice(&bytes), &back), ERR_CORRUPT);
    bytes.size -= 8;
    put_u64(bytes.data + 1, UINT64_MAX);
    EXPECT_EQ(guard_decode_configuration(buf_slice(&bytes), &back), ERR_CORRUPT);
    bytes.size = 0;
    ours.members[1].id = 1; /* twice */
    guard_encode_configuration(&ours, &bytes);
    EXPECT_EQ(guard_decode_configuration(buf_slice(&bytes), &back), ERR_CORRUPT);
    bytes.size = 0;
    static const enum guard_role nobody[] = {GUARD_STANDBY, GUARD_SPARE};
    lone_configuration(&ours, nobody, 2);
    guard_encode_configuration(&ours, &bytes);
    EXPECT_EQ(guard_decode_configuration(buf_slice(&bytes), &back), ERR_CORRUPT);
    buf_close(&bytes);
}

static bool one_change(const enum guard_role *from, uint32_t from_count, const enum guard_role *to,
                       uint32_t to_count)
{
    struct guard_configuration a;
    struct guard_configuration b;
    lone_configuration(&a, from, from_count);
    lone_configuration(&b, to, to_count);
    return guard_one_change(&a, &b);
}

TEST(guard, a_change_is_one_member_at_a_time)
{
    static const enum guard_role without_third[] = {GUARD_VOTER, GUARD_VOTER};
    static const enum guard_role replaced[] = {GUARD_VOTER, GUARD_VOTER, GUARD_NO_MEMBER,
                                               GUARD_VOTER};
    static const enum guard_role demoted[] = {GUARD_VOTER, GUARD_VOTER, GUARD_STANDBY};
    static const enum guard_role two[] = {GUARD_VOTER, GUARD_STANDBY, GUARD_STANDBY};
    EXPECT_TRUE(one_change(all_voters, 3, with_fourth, 4));
    EXPECT_TRUE(one_change(with_fourth, 4, all_voters, 3));
    EXPECT_TRUE(one_change(all_voters, 3, without_third, 2));
    EXPECT_TRUE(one_change(all_voters, 3, demoted, 3));
    EXPECT_FALSE(one_change(all_voters, 3, all_voters, 3));
    EXPECT_FALSE(one_change(all_voters, 3, replaced, 4)); /* B19 */
    EXPECT_FALSE(one_change(all_voters, 3, two, 3));
    struct guard_configuration a;
    struct guard_configuration b;
    lone_configuration(&a, all_voters, 3);
    b = a;
    b.members[0] = a.members[1];
    b.members[1] = a.members[0];
    EXPECT_FALSE(guard_one_change(&a, &b));
}
