/* Tests of node/readindex.c: tickets, rounds, questions that are lost, leaders that go, frames that are wrong. */
#include "node/core_parts.h"
#include "tests/node/trio.h"

static struct core *core_at(struct trio *trio, int at)
{
    return trio->members[at].core;
}

static uint64_t applied(struct trio *trio, int at)
{
    return store_applied_index(core_at(trio, at)->shard.store);
}

/* Lets time pass until the ticket is no more WAITS; at most @ms. */
static enum readindex_state settle(struct trio *trio, int at, uint64_t ticket, uint64_t ms)
{
    uint64_t index = 0;
    enum readindex_state state = READINDEX_WAITS;
    for (uint64_t i = 0; i < ms && state == READINDEX_WAITS; i++) {
        trio_run(trio, 1);
        state = readindex_get(core_at(trio, at), ticket, &index);
    }
    return state;
}

TEST(readindex, tickets_that_come_together_share_a_round)
{
    struct trio trio;
    uint64_t index = 0;
    trio_open(&trio);
    struct core *core = core_at(&trio, 1);
    const uint64_t before = core->readindex.round_count;
    EXPECT_EQ(readindex_deadline(core), UINT64_MAX);
    const uint64_t first = readindex_want(core);
    EXPECT_EQ(readindex_want(core), first);
    EXPECT_EQ(readindex_deadline(core), core->now_ms);
    EXPECT_EQ(readindex_get(core, first, &index), READINDEX_WAITS);
    readindex_turn(core);
    EXPECT_TRUE(readindex_deadline(core) > core->now_ms);
    /* That round began before these came: they need another one, which they share. */
    const uint64_t second = readindex_want(core);
    EXPECT_EQ(second, first + 1);
    EXPECT_EQ(readindex_want(core), second);
    EXPECT_EQ(settle(&trio, 1, second, 1000), READINDEX_OK);
    EXPECT_EQ(readindex_get(core, first, &index), READINDEX_OK);
    EXPECT_EQ(core->readindex.round_count, before + 2);
    EXPECT_EQ(readindex_deadline(core), UINT64_MAX);
    trio_close(&trio);
}

TEST(readindex, the_index_covers_what_was_acknowledged)
{
    struct trio trio;
    trio_open(&trio);
    for (int at = 0; at < NODES; at++) {
        for (int i = 0; i < 5; i++) {
            uint64_t index = 0;
            EXPECT_TEXT(trio_ask(&trio, 0, "SET k v\r\n", 20), "+OK\r\n");
            const uint64_t acknowledged = applied(&trio, 0);
            const uint64_t ticket = readindex_want(core_at(&trio, at));
            EXPECT_EQ(settle(&trio, at, ticket, 1000), READINDEX_OK);
            EXPECT_EQ(readindex_get(core_at(&trio, at), ticket, &index), READINDEX_OK);
            EXPECT_TRUE(index >= acknowledged);
        }
    }
    trio_close(&trio);
}

TEST(readindex, without_a_majority_nobody_gives_it)
{
    struct trio trio;
    trio_open(&trio);
    trio.members[1].is_frozen = true;
    trio.members[2].is_frozen = true;
    /* The leader itself does not know whether it still leads. */
    const uint64_t park_ms = trio.members[0].config.park_ms;
    const uint64_t ticket = readindex_want(core_at(&trio, 0));
    EXPECT_EQ(settle(&trio, 0, ticket, park_ms - 10), READINDEX_WAITS);
    EXPECT_EQ(settle(&trio, 0, ticket, 50), READINDEX_FAILED);
    const uint64_t later = readindex_want(core_at(&trio, 0));
    EXPECT_TRUE(later > ticket);
    trio.members[1].is_frozen = false;
    trio.members[2].is_frozen = false;
    uint64_t again = later;
    for (int i = 0; i < 20 && settle(&trio, 0, again, 3000) != READINDEX_OK; i++) {
        again = readindex_want(core_at(&trio, 0));
    }
    uint64_t index = 0;
    EXPECT_EQ(readindex_get(core_at(&trio, 0), again, &index), READINDEX_OK);
    EXPECT_EQ(readindex_get(core_at(&trio, 0), ticket, &index), READINDEX_OK); /* An older one. */
    trio_close(&trio);
}

TEST(readindex, a_leader_that_goes_is_replaced_in_the_question)
{
    struct trio trio;
    uint64_t index = 0;
    trio_open(&trio);
    EXPECT_TEXT(trio_ask(&trio, 0, "SET k v\r\n", 100), "+OK\r\n");
    const uint64_t acknowledged = applied(&trio, 0);
    struct core *core = core_at(&trio, 2);
    core_at(&trio, 2)->config->park_ms = 20000;
    trio.members[0].is_frozen = true;
    const uint64_t ticket = readindex_want(core);
    trio_run(&trio, 5);
    EXPECT_EQ(core->readindex.node, core_at(&trio, 0)->identity.node_id);
    trio_stop_first(&trio);
    EXPECT_EQ(core->readindex.node, 0); /* The link broke: nobody is asked. */
    EXPECT_TRUE(trio_second_leads(&trio));
    EXPECT_EQ(settle(&trio, 2, ticket, 5000), READINDEX_OK);
    EXPECT_EQ(core->readindex.node, core_at(&trio, 1)->identity.node_id);
    EXPECT_EQ(readindex_get(core, ticket, &index), READINDEX_OK);
    EXPECT_TRUE(index >= acknowledged);
    trio_close(&trio);
}

TEST(readindex, a_lost_question_is_asked_again)
{
    struct trio trio;
    trio_open(&trio);
    struct core *core = core_at(&trio, 1);
    core->config->election_timeout_ms = 300; /* So long it waits for an answer. */
    const uint64_t rounds = core->readindex.round_count;
    trio.members[1].to[0].is_swallowed = true;
    const uint64_t ticket = readindex_want(core);
    trio_run(&trio, 100);
    EXPECT_EQ(core->readindex.round_count, rounds + 1);
    EXPECT_TRUE(readindex_deadline(core) <= core->now_ms + 300);
    trio.members[1].to[0].is_swallowed = false;
    EXPECT_EQ(settle(&trio, 1, ticket, 500), READINDEX_OK);
    EXPECT_EQ(core->readindex.round_count, rounds + 2);
    trio_close(&trio);
}

TEST(readindex, who_does_not_catch_up_gives_up)
{
    struct trio trio;
    trio_open(&trio);
    struct core *core = core_at(&trio, 1);
    struct readindex_wait wait = {0};
    EXPECT_EQ(readindex_ready(core, &wait), READINDEX_WAITS); /* It has got its ticket. */
    EXPECT_TRUE(wait.ticket > 0);
    trio_run(&trio, 200);
    EXPECT_EQ(readindex_ready(core, &wait), READINDEX_OK);
    EXPECT_EQ(wait.ticket, 0);
    /* One that has its index, far beyond what is here. */
    EXPECT_EQ(readindex_ready(core, &wait), READINDEX_WAITS);
    wait.index = applied(&trio, 1) + 1000;
    const uint64_t park_ms = core->config->park_ms;
    trio_run(&trio, 2 * park_ms - 1);
    EXPECT_EQ(readindex_ready(core, &wait), READINDEX_WAITS);
    trio_run(&trio, 1);
    EXPECT_EQ(readindex_ready(core, &wait), READINDEX_FAILED);
    EXPECT_EQ(wait.ticket + wait.index + wait.since_ms, 0);
    trio_close(&trio);
}

/* ---- frames ----------------------------------------------------------------------------------------------- */

static enum err receive(struct core *core, uint8_t type, uint64_t from, const void *body,
                        uint64_t size)
{
    const struct wire_frame frame = {.type = type, .from = from, .body = slice_of(body, size)};
    return readindex_receive(core, &frame);
}

static enum err tell(struct core *core, uint64_t from, uint64_t number, uint64_t index,
                     uint8_t is_ok)
{
    uint8_t body[24] = {0};
    put_u64(body, number);
    put_u64(body + 8, index);
    body[16] = is_ok;
    return receive(core, WIRE_READ_TELL, from, body, sizeof body);
}

TEST(readindex, malformed_frames_are_corrupt)
{
    struct trio trio;
    uint8_t body[32] = {0};
    trio_open(&trio);
    struct core *core = core_at(&trio, 1);
    const uint64_t from = core_at(&trio, 0)->identity.node_id;
    EXPECT_EQ(receive(core, WIRE_READ_ASK, from, body, 8), ERR_CORRUPT); /* number 0 */
    body[0] = 1;
    EXPECT_EQ(receive(core, WIRE_READ_ASK, from, body, 7), ERR_CORRUPT);
    EXPECT_EQ(receive(core, WIRE_READ_ASK, from, body, 9), ERR_CORRUPT);
    EXPECT_EQ(receive(core, WIRE_READ_ASK, 12345, body, 8), OK); /* of nobody we know */
    EXPECT_EQ(receive(core, WIRE_READ_TELL, from, body, 23), ERR_CORRUPT);
    EXPECT_EQ(receive(core, WIRE_READ_TELL, from, body, 25), ERR_CORRUPT);
    EXPECT_EQ(tell(core, from, 1, 5, 2), ERR_CORRUPT);
    EXPECT_EQ(tell(core, from, 1, 0, 1), ERR_CORRUPT); /* an index of nothing */
    EXPECT_EQ(tell(core, from, 1, 0, 0), OK);
    for (uint32_t i = 17; i < 24; i++) {
        uint8_t padded[24] = {1};
        padded[i] = 1;
        EXPECT_EQ(receive(core, WIRE_READ_TELL, from, padded, sizeof padded), ERR_CORRUPT);
    }
    trio_close(&trio);
}

TEST(readindex, only_the_answer_to_the_newest_question_counts)
{
    struct trio trio;
    uint64_t index = 0;
    trio_open(&trio);
    struct core *core = core_at(&trio, 1);
    const uint64_t leader = core_at(&trio, 0)->identity.node_id;
    const uint64_t other = core_at(&trio, 2)->identity.node_id;
    EXPECT_EQ(tell(core, leader, 1, 999, 1), OK); /* Nothing was asked. */
    EXPECT_TRUE(core->readindex.index < 999);
    trio.members[1].to[0].is_swallowed = true;
    const uint64_t ticket = readindex_want(core);
    trio_run(&trio, 5);
    const uint64_t number = core->readindex.number;
    EXPECT_TRUE(number >> 32 == core->identity.incarnation);
    EXPECT_EQ(tell(core, other, number, 999, 1), OK);
    EXPECT_EQ(tell(core, leader, number - 1, 999, 1), OK);
    EXPECT_EQ(tell(core, leader, number + 1, 999, 1), OK);
    EXPECT_EQ(readindex_get(core, ticket, &index), READINDEX_WAITS);
    /* It says that it does not lead: a little later somebody is asked again, and this one's answer is void. */
    EXPECT_EQ(tell(core, leader, number, 0, 0), OK);
    EXPECT_EQ(tell(core, leader, number, 999, 1), OK);
    EXPECT_EQ(readindex_get(core, ticket, &index), READINDEX_WAITS);
    EXPECT_TRUE(readindex_deadline(core) <= core->now_ms + 20);
    trio_run(&trio, 30);
    EXPECT_TRUE(core->readindex.number > number);
    EXPECT_EQ(tell(core, leader, core->readindex.number, 999, 1), OK);
    EXPECT_EQ(readindex_get(core, ticket, &index), READINDEX_OK);
    EXPECT_EQ(index, 999);
    /* A later answer with a smaller index takes nothing back. */
    const uint64_t next = readindex_want(core);
    trio_run(&trio, 5);
    EXPECT_EQ(tell(core, leader, core->readindex.number, 7, 1), OK);
    EXPECT_EQ(readindex_get(core, next, &index), READINDEX_OK);
    EXPECT_EQ(index, 999);
    trio_close(&trio);
}

TEST(readindex, who_does_not_lead_says_so_at_once)
{
    struct trio trio;
    uint8_t body[8];
    struct wire_frame frame;
    uint64_t size = 0;
    uint64_t told = 0;
    trio_open(&trio);
    put_u64(body, 77);
    const struct buf *there = &trio.members[2].to[1].there;
    const uint64_t begin = there->size;
    const uint64_t asker = core_at(&trio, 1)->identity.node_id;
    EXPECT_EQ(receive(core_at(&trio, 2), WIRE_READ_ASK, asker, body, sizeof body), OK);
    trio.members[2].is_frozen = true; /* What it sends now stays where a test can see it. */
    core_turn(core_at(&trio, 2), trio.now_ms, 1700000000000 + trio.now_ms);
    for (uint64_t at = begin; at < there->size; at += size) {
        EXPECT_EQ(wire_decode(slice_of(there->data + at, there->size - at), &frame, &size), OK);
        if (frame.type != WIRE_READ_TELL) continue;
        EXPECT_EQ(get_u64(frame.body.data), 77);
        EXPECT_EQ(frame.body.data[16], 0);
        told++;
    }
    EXPECT_EQ(told, 1);
    trio_close(&trio);
}
