#include "raft/readgate.h"

#include "tests/test.h"

static const struct guard_configuration three = {
    .count = 3, .members = {{1, "a", GUARD_VOTER}, {2, "b", GUARD_VOTER}, {3, "c", GUARD_VOTER}}};
static const struct readgate_ground ground = {.term = 5, .change_committed = 1};

static void launch(struct readgate *gate)
{
    (void)readgate_request(gate);
    readgate_launch(gate, &ground, 10, 100, 1000);
}

TEST(readgate, numbers_of_a_round_are_confirmed_by_a_majority)
{
    struct readgate gate = {0};
    EXPECT_FALSE(readgate_wants(&gate));
    const uint64_t number = readgate_request(&gate);
    EXPECT_TRUE(readgate_wants(&gate));
    readgate_launch(&gate, &ground, 10, 100, 1000);
    EXPECT_LT(number, readgate_request(&gate)); /* too late for this round */
    EXPECT_FALSE(readgate_wants(&gate));
    readgate_settle(&gate, &three, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 0); /* ourselves alone */
    readgate_answer(&gate, 2, 5, gate.round);
    readgate_settle(&gate, &three, 1, &ground, 9);
    EXPECT_EQ(gate.confirmed, 0); /* what was committed is not applied */
    readgate_settle(&gate, &three, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, number);
    EXPECT_TRUE(readgate_wants(&gate)); /* the one that came too late */
}

TEST(readgate, only_answers_of_voters_to_this_round_count)
{
    struct readgate gate = {0};
    struct guard_configuration members = three;
    launch(&gate);
    readgate_answer(&gate, 2, 4, gate.round);     /* another term */
    readgate_answer(&gate, 2, 5, gate.round + 1); /* another round */
    readgate_answer(&gate, 9, 5, gate.round);     /* no member */
    readgate_answer(&gate, 9, 5, gate.round);
    readgate_settle(&gate, &three, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 0);
    members.members[1].role = GUARD_STANDBY;
    members.members[0].role = GUARD_STANDBY; /* we lead but do not vote */
    readgate_answer(&gate, 2, 5, gate.round);
    readgate_settle(&gate, &members, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 0);
    readgate_answer(&gate, 3, 5, gate.round);
    readgate_settle(&gate, &members, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 1);
}

TEST(readgate, the_same_voter_twice_is_one)
{
    struct readgate gate = {0};
    struct guard_configuration five = three;
    five.count = 5;
    five.members[3] = (struct guard_member){4, "d", GUARD_VOTER};
    five.members[4] = (struct guard_member){5, "e", GUARD_VOTER};
    launch(&gate);
    for (uint32_t i = 0; i < 20; i++) readgate_answer(&gate, 2, 5, gate.round);
    readgate_settle(&gate, &five, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 0);
    readgate_answer(&gate, 4, 5, gate.round);
    readgate_settle(&gate, &five, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 1);
}

TEST(readgate, a_round_over_moving_ground_begins_again)
{
    struct readgate gate = {0};
    struct readgate_ground moved = ground;
    launch(&gate);
    const uint64_t round = gate.round;
    readgate_answer(&gate, 2, 5, round);
    moved.change_uncommitted = 11;
    readgate_settle(&gate, &three, 1, &moved, 10);
    EXPECT_EQ(gate.confirmed, 0);
    EXPECT_TRUE(readgate_is_stale(&gate, &moved, 1000));
    readgate_relaunch(&gate, &moved, 11, 1000);
    EXPECT_LT(round, gate.round);
    readgate_answer(&gate, 2, 5, round); /* late */
    readgate_settle(&gate, &three, 1, &moved, 11);
    EXPECT_EQ(gate.confirmed, 0);
    readgate_answer(&gate, 2, 5, gate.round);
    readgate_settle(&gate, &three, 1, &moved, 10);
    EXPECT_EQ(gate.confirmed, 0); /* 11 must be applied now */
    readgate_settle(&gate, &three, 1, &moved, 11);
    EXPECT_EQ(gate.confirmed, 1);
}

TEST(readgate, patience_grows_so_that_slow_links_are_waited_for)
{
    struct readgate gate = {0};
    uint64_t now = 1000;
    launch(&gate);
    EXPECT_EQ(readgate_deadline(&gate), 1100);
    for (uint32_t i = 0; i < 4; i++) {
        const uint64_t deadline = readgate_deadline(&gate);
        EXPECT_EQ(deadline - now, UINT64_C(100) << i);
        EXPECT_FALSE(readgate_is_stale(&gate, &ground, deadline - 1));
        EXPECT_TRUE(readgate_is_stale(&gate, &ground, deadline));
        now = deadline;
        readgate_relaunch(&gate, &ground, 10, now);
    }
}

TEST(readgate, lost_leadership_confirms_nothing)
{
    struct readgate gate = {0};
    launch(&gate);
    const uint64_t waiting = readgate_request(&gate);
    readgate_answer(&gate, 2, 5, gate.round);
    readgate_void(&gate);
    EXPECT_FALSE(readgate_wants(&gate));
    EXPECT_EQ(readgate_deadline(&gate), UINT64_MAX);
    readgate_settle(&gate, &three, 1, &ground, 10);
    EXPECT_EQ(gate.confirmed, 0);
    EXPECT_LT(waiting, readgate_request(&gate));
}

TEST(readgate, bodies_are_exact)
{
    struct buf body = {0};
    uint64_t term = 0;
    uint64_t round = 0;
    bool is_ok = false;
    readgate_encode(7, 8, &body);
    EXPECT_EQ(readgate_decode(buf_slice(&body), &term, &round), OK);
    EXPECT_EQ(term, 7);
    EXPECT_EQ(round, 8);
    for (uint64_t size = 0; size < body.size; size++) {
        EXPECT_EQ(readgate_decode(slice_of(body.data, size), &term, &round), ERR_CORRUPT);
    }
    body.size = 0;
    readgate_encode_result(7, 8, true, &body);
    EXPECT_EQ(readgate_decode_result(buf_slice(&body), &term, &round, &is_ok), OK);
    EXPECT_TRUE(is_ok);
    body.data[16] = 2;
    EXPECT_EQ(readgate_decode_result(buf_slice(&body), &term, &round, &is_ok), ERR_CORRUPT);
    body.data[16] = 0;
    EXPECT_EQ(readgate_decode_result(buf_slice(&body), &term, &round, &is_ok), OK);
    EXPECT_FALSE(is_ok);
    buf_u8(&body, 0);
    EXPECT_EQ(readgate_decode_result(buf_slice(&body), &term, &round, &is_ok), ERR_CORRUPT);
    buf_close(&body);
}
