#include "raft/message.h"

#include "storage/base/limits.h"
#include "storage/record.h"
#include "tests/test.h"

static const struct message examples[] = {
    {.type = WIRE_APPEND, .version = 3, .term = 9, .prev_index = 4, .prev_term = 2, .commit = 3},
    {.type = WIRE_APPEND_RESULT,
     .version = 2,
     .term = 9,
     .rejected = 4,
     .last_index = 3,
     .conflict_term = 2,
     .held_index = 1,
     .features = 5,
     .capacity = 6},
    {.type = WIRE_VOTE,
     .version = 2,
     .term = 9,
     .candidate = 7,
     .last_index = 4,
     .last_term = 2,
     .disrupt_leader = true,
     .pre_vote = true},
    {.type = WIRE_VOTE_RESULT,
     .version = 2,
     .term = 9,
     .granted = true,
     .pre_vote = true,
     .features = 5,
     .capacity = 6},
    {.type = WIRE_INSTALL,
     .version = 1,
     .term = 9,
     .last_index = 40,
     .last_term = 8,
     .change_index = 3,
     .change = {(const uint8_t *)"change", 6},
     .manifest = {(const uint8_t *)"manifest", 8}},
    {.type = WIRE_TIMEOUT_NOW, .version = 1, .term = 9, .last_index = 4, .last_term = 2},
};

static void expect_same(const struct message *a, const struct message *b)
{
    EXPECT_EQ(a->type, b->type);
    EXPECT_EQ(a->version, b->version);
    EXPECT_EQ(a->term, b->term);
    EXPECT_EQ(a->prev_index, b->prev_index);
    EXPECT_EQ(a->prev_term, b->prev_term);
    EXPECT_EQ(a->commit, b->commit);
    EXPECT_EQ(a->count, b->count);
    EXPECT_EQ(a->rejected, b->rejected);
    EXPECT_EQ(a->conflict_term, b->conflict_term);
    EXPECT_EQ(a->held_index, b->held_index);
    EXPECT_EQ(a->last_index, b->last_index);
    EXPECT_EQ(a->last_term, b->last_term);
    EXPECT_EQ(a->features, b->features);
    EXPECT_EQ(a->capacity, b->capacity);
    EXPECT_EQ(a->candidate, b->candidate);
    EXPECT_EQ(a->disrupt_leader, b->disrupt_leader);
    EXPECT_EQ(a->pre_vote, b->pre_vote);
    EXPECT_EQ(a->granted, b->granted);
    EXPECT_EQ(a->change_index, b->change_index);
    EXPECT_TRUE(slice_equal(a->change, b->change));
    EXPECT_TRUE(slice_equal(a->manifest, b->manifest));
}

TEST(message, all_bodies_survive_the_way_and_no_part_of_them_does)
{
    for (uint32_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        struct buf body = {0};
        struct message message;
        message_encode(&examples[i], &body);
        EXPECT_EQ(message_decode(examples[i].type, buf_slice(&body), &message), OK);
        expect_same(&examples[i], &message);
        for (uint64_t size = 0; size < body.size; size++) {
            uint8_t *copy = test_malloc(size + 1);
            memcpy(copy, body.data, size);
            EXPECT_EQ(message_decode(examples[i].type, slice_of(copy, size), &message),
                      ERR_CORRUPT);
            test_free(copy);
        }
        if (examples[i].type != WIRE_APPEND) {
            buf_u8(&body, 0);
            EXPECT_EQ(message_decode(examples[i].type, buf_slice(&body), &message), ERR_CORRUPT);
        }
        buf_close(&body);
    }
    struct message message;
    EXPECT_EQ(message_decode(WIRE_PROBE, slice_text("12345678"), &message), ERR_NEWER);
}

TEST(message, bytes_that_mean_nothing_yet_must_be_zero)
{
    struct buf body = {0};
    struct message message;
    message_encode(&examples[2], &body);
    body.data[33] = 2; /* neither true nor false */
    EXPECT_EQ(message_decode(WIRE_VOTE, buf_slice(&body), &message), ERR_CORRUPT);
    body.data[33] = 1;
    body.data[39] = 1;
    EXPECT_EQ(message_decode(WIRE_VOTE, buf_slice(&body), &message), ERR_CORRUPT);
    buf_close(&body);
}

static void add(struct buf *records, uint64_t index, uint64_t term, uint8_t type, uint16_t shard)
{
    record_encode(
        &(struct record){
            .index = index, .term = term, .type = type, .shard = shard, .payload = slice_text("x")},
        records);
}

static enum err decode(struct buf *records, uint32_t count)
{
    static struct message_entry entries[APPEND_ENTRIES_MAX];
    const struct message message = {.type = WIRE_APPEND,
                                    .term = 9,
                                    .prev_index = 4,
                                    .prev_term = 2,
                                    .count = count,
                                    .records = buf_slice(records)};
    const enum err err = message_entries(&message, 3, entries);
    if (err == OK && count == 2) {
        EXPECT_EQ(entries[1].term, 9);
        EXPECT_EQ(entries[1].type, RECORD_BARRIER);
        EXPECT_EQ(entries[0].record.size + entries[1].record.size, records->size);
    }
    records->size = 0;
    return err;
}

TEST(message, entries_must_be_whole_in_order_and_of_this_shard)
{
    struct buf records = {0};
    add(&records, 5, 2, RECORD_COMMAND, 3);
    add(&records, 6, 9, RECORD_BARRIER, 3);
    EXPECT_EQ(decode(&records, 2), OK);
    add(&records, 5, 2, RECORD_COMMAND, 3);
    EXPECT_EQ(decode(&records, 2), ERR_CORRUPT); /* fewer than said */
    add(&records, 5, 2, RECORD_COMMAND, 3);
    add(&records, 6, 2, RECORD_COMMAND, 3);
    EXPECT_EQ(decode(&records, 1), ERR_CORRUPT); /* more than said */
    add(&records, 6, 2, RECORD_COMMAND, 3);
    EXPECT_EQ(decode(&records, 1), ERR_CORRUPT); /* a gap */
    add(&records, 5, 1, RECORD_COMMAND, 3);
    EXPECT_EQ(decode(&records, 1), ERR_CORRUPT); /* older than what is before it */
    add(&records, 5, 10, RECORD_COMMAND, 3);
    EXPECT_EQ(decode(&records, 1), ERR_CORRUPT); /* newer than the leader */
    add(&records, 5, 2, RECORD_CUT, 3);
    EXPECT_EQ(decode(&records, 1), ERR_CORRUPT);
    add(&records, 5, 2, RECORD_COMMAND, 4);
    EXPECT_EQ(decode(&records, 1), ERR_CORRUPT);
    EXPECT_EQ(decode(&records, UINT32_MAX), ERR_CORRUPT);
    buf_close(&records);
}
