/* Frames in fragments: from the lanes of one node to the parts of another one's link. */
#include "tests/test.h"

#include <stdio.h>

#include "raft/peer.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"

struct pair {
    struct peers a;
    struct peers b;
    struct peer *to_b;
    struct link link;
    struct buf wire; /* what left a */
};

static void node_init(struct peers *peers, uint64_t id, uint64_t other)
{
    struct peer_identity self = {.node_id = id, .directory_id = id, .incarnation = 1};
    (void)snprintf(self.name, sizeof self.name, "node%u", (unsigned)id);
    peers_init(peers, &self, 7, 9);
    EXPECT_EQ(peers_add(peers, other, "other", "host:1"), OK);
}

static void pair_open(struct pair *pair)
{
    struct wire_frame frame;
    char message[256];
    memset(pair, 0, sizeof *pair);
    node_init(&pair->a, 1, 2);
    node_init(&pair->b, 2, 1);
    link_init(&pair->link);
    pair->to_b = &pair->a.list[0];
    peer_up(&pair->a, pair->to_b);
    link_feed(&pair->link, buf_slice(&pair->to_b->out));
    pair->to_b->out_start = pair->to_b->out.size;
    EXPECT_EQ(link_next(&pair->b, &pair->link, 1, &frame, message), ERR_MORE);
    EXPECT_EQ(peer_feed(&pair->a, pair->to_b, buf_slice(&pair->link.out), message), OK);
    EXPECT_TRUE(pair->to_b->is_connected);
}

static void pair_close(struct pair *pair)
{
    link_close(&pair->link);
    peers_close(&pair->a);
    peers_close(&pair->b);
    buf_close(&pair->wire);
}

/* A socket takes all that is queued, once. */
static void drain(struct pair *pair)
{
    struct peer *peer = pair->to_b;
    buf_append(&pair->wire, peer->out.data + peer->out_start, peer_queued(peer));
    peer->out_start = peer->out.size;
}

/* The next thing that b hears: a whole frame, or its being a part of one. */
static enum err hear(struct pair *pair, struct wire_frame *frame)
{
    char message[256];
    if (pair->wire.size > 0) link_feed(&pair->link, buf_slice(&pair->wire));
    pair->wire.size = 0;
    return link_next(&pair->b, &pair->link, 1, frame, message);
}

static struct buf bytes_of(uint64_t size, uint64_t seed)
{
    struct buf bytes = {0};
    struct prng prng = prng_seed(seed);
    uint8_t *at = buf_extend(&bytes, size);
    for (uint64_t i = 0; i < size; i++) at[i] = (uint8_t)prng_next(&prng);
    return bytes;
}

TEST(fragment, small_frames_travel_whole_and_big_ones_in_pieces_that_let_others_pass)
{
    struct pair pair;
    struct fragment_piece piece;
    struct wire_frame frame;
    uint32_t parts = 0;
    bool passed = false;
    pair_open(&pair);
    struct buf big = bytes_of(3 * MIB + 12345, 1);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, slice_text("first")));
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, buf_slice(&big)));
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, slice_text("behind")));
    EXPECT_TRUE(peer_queued(pair.to_b) < KIB); /* All but the first wait in the lane. */
    EXPECT_FALSE(peer_pump(&pair.a, pair.to_b, &piece));
    EXPECT_TRUE(peer_queued(pair.to_b) < PEER_WHOLE_SIZE_MAX);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_PROBE, slice_text("probe")));
    drain(&pair);
    EXPECT_EQ(hear(&pair, &frame), OK);
    EXPECT_EQ(frame.type, WIRE_APPEND);
    EXPECT_TRUE(slice_equal(frame.body, slice_text("first")));
    for (;;) {
        const enum err err = hear(&pair, &frame);
        if (err == ERR_MORE) {
            EXPECT_FALSE(peer_pump(&pair.a, pair.to_b, &piece));
            drain(&pair);
            if (pair.wire.size == 0) break;
            continue;
        }
        EXPECT_EQ(err, OK);
        if (frame.type == WIRE_FRAGMENT) {
            EXPECT_EQ(frame.part, WIRE_APPEND);
            EXPECT_TRUE(memcmp(frame.body.data, big.data, frame.body.size) == 0);
            parts++;
        } else if (frame.type == WIRE_PROBE) {
            EXPECT_TRUE(parts > 0);
            EXPECT_TRUE(parts < 5);
            passed = true;
        } else if (frame.body.size == big.size) {
            EXPECT_EQ(frame.type, WIRE_APPEND);
            EXPECT_TRUE(slice_equal(frame.body, buf_slice(&big)));
            EXPECT_TRUE(passed);
            parts = 1000;
        } else {
            EXPECT_EQ(parts, 1000); /* Nothing of Raft's overtakes. */
            EXPECT_TRUE(slice_equal(frame.body, slice_text("behind")));
            parts++;
        }
    }
    EXPECT_EQ(parts, 1001);
    EXPECT_FALSE(peer_lanes_busy(pair.to_b));
    EXPECT_TRUE(pair.link.parts[FRAGMENT_RAFT].body.capacity <= MIB); /* Given back. */
    EXPECT_TRUE(pair.to_b->lanes[FRAGMENT_RAFT].queue.capacity <= MIB);
    buf_close(&big);
    pair_close(&pair);
}

TEST(fragment, classes_take_turns)
{
    struct pair pair;
    struct fragment_piece piece;
    struct wire_frame frame;
    uint32_t order[3] = {0};
    uint32_t done = 0;
    uint64_t start = 0;
    pair_open(&pair);
    struct buf big = bytes_of(2 * MIB, 2);
    struct buf small = bytes_of(400 * KIB, 3);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, buf_slice(&big)));
    struct buf *out = peer_big_begin(&pair.a, pair.to_b, WIRE_FORWARD_REPLY, 77, &start);
    buf_append(out, small.data, small.size);
    EXPECT_TRUE(peer_frame_end(pair.to_b, start));
    EXPECT_EQ(fragment_token(peer_lane(pair.to_b, WIRE_FORWARD_REPLY)), 77);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_FORWARD, buf_slice(&big)));
    /* A second big one of a class has to wait for the first; a small one passes. */
    EXPECT_FALSE(peer_send(&pair.a, pair.to_b, WIRE_FORWARD, buf_slice(&small)));
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_FORWARD, slice_text("small")));
    while (done < 3) {
        EXPECT_FALSE(peer_pump(&pair.a, pair.to_b, &piece));
        drain(&pair);
        while (hear(&pair, &frame) == OK) {
            if (frame.type == WIRE_FRAGMENT || frame.body.size < KIB) continue;
            order[done++] = frame.type;
        }
    }
    EXPECT_EQ(order[0], WIRE_FORWARD_REPLY); /* The shortest, although it was not the first. */
    buf_close(&big);
    buf_close(&small);
    pair_close(&pair);
}

TEST(fragment, a_body_is_fetched_piece_by_piece)
{
    struct pair pair;
    struct fragment_piece piece;
    struct wire_frame frame;
    uint64_t largest = 0;
    bool is_here = false;
    pair_open(&pair);
    struct buf big = bytes_of(5 * MIB + 1, 4);
    EXPECT_TRUE(peer_send_asked(&pair.a, pair.to_b, WIRE_APPEND, slice_of(big.data, 40),
                                big.size - 40, 11));
    EXPECT_EQ(peer_lane(pair.to_b, WIRE_APPEND)->waiting, big.size);
    while (!is_here) {
        while (peer_pump(&pair.a, pair.to_b, &piece)) {
            EXPECT_EQ(piece.token, 11);
            EXPECT_EQ(piece.offset, 40 + piece.rest_offset);
            if (piece.size > largest) largest = piece.size;
            peer_give(&pair.a, pair.to_b, &piece, slice_of(big.data + piece.offset, piece.size));
        }
        drain(&pair);
        while (hear(&pair, &frame) == OK) {
            if (frame.type != WIRE_APPEND) continue;
            EXPECT_TRUE(slice_equal(frame.body, buf_slice(&big)));
            is_here = true;
        }
    }
    EXPECT_EQ(largest, FRAGMENT_SIZE);
    EXPECT_EQ(peer_lane(pair.to_b, WIRE_APPEND)->waiting, 0);
    buf_close(&big);
    pair_close(&pair);
}

TEST(fragment, what_is_given_up_is_dropped_on_both_sides_and_the_next_one_passes)
{
    struct pair pair;
    struct fragment_piece piece;
    struct wire_frame frame;
    uint32_t given = 0;
    pair_open(&pair);
    struct buf big = bytes_of(MIB, 5);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, buf_slice(&big)));
    peer_lane_drop(&pair.a, pair.to_b,
                   WIRE_APPEND); /* Nothing of it has left: b never hears of it. */
    EXPECT_EQ(peer_queued(pair.to_b), 0);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, buf_slice(&big)));
    EXPECT_FALSE(peer_pump(&pair.a, pair.to_b, &piece));
    peer_lane_drop(&pair.a, pair.to_b, WIRE_APPEND);
    EXPECT_FALSE(peer_lanes_busy(pair.to_b));
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_APPEND, slice_of(big.data, 300 * KIB)));
    do {
        EXPECT_FALSE(peer_pump(&pair.a, pair.to_b, &piece));
        drain(&pair);
        while (hear(&pair, &frame) == OK) {
            if (frame.type == WIRE_FRAGMENT) continue;
            EXPECT_TRUE(slice_equal(frame.body, slice_of(big.data, 300 * KIB)));
            given++;
        }
    } while (given == 0);
    EXPECT_EQ(given, 1);
    buf_close(&big);
    pair_close(&pair);
}

TEST(fragment, a_lost_connection_forgets_what_was_on_its_way)
{
    struct pair pair;
    pair_open(&pair);
    struct buf big = bytes_of(MIB, 6);
    EXPECT_TRUE(peer_send(&pair.a, pair.to_b, WIRE_FORWARD, buf_slice(&big)));
    peer_down(pair.to_b);
    EXPECT_FALSE(peer_lanes_busy(pair.to_b));
    EXPECT_FALSE(peer_send_asked(&pair.a, pair.to_b, WIRE_APPEND, slice_text("x"), 5, 1));
    EXPECT_EQ(pair.to_b->lanes[FRAGMENT_REQUEST].queue.capacity, 0);
    buf_close(&big);
    pair_close(&pair);
}

/* One FRAGMENT with these fields reaches b. */
static enum err say(struct pair *pair, uint32_t type, uint32_t size, uint32_t offset,
                    uint32_t number, uint64_t data)
{
    struct wire_frame frame;
    struct buf body = {0};
    buf_u32(&body, type);
    buf_u32(&body, size);
    buf_u32(&body, offset);
    buf_u32(&body, number);
    memset(buf_extend(&body, data), 'x', data);
    EXPECT_TRUE(peer_send(&pair->a, pair->to_b, WIRE_FRAGMENT, buf_slice(&body)));
    buf_close(&body);
    drain(pair);
    return hear(pair, &frame);
}

TEST(fragment, one_that_does_not_follow_closes_the_link)
{
    static const struct {
        uint32_t type, size, offset, number;
        uint64_t data;
    } wrong[] = {
        {WIRE_APPEND, 1000, 100, 1, 101},             /* repeated or overlapping */
        {WIRE_APPEND, 1000, 300, 1, 100},             /* a gap */
        {WIRE_APPEND, 1000, 200, 2, 100},             /* of another frame */
        {WIRE_APPEND, 1001, 200, 1, 100},             /* of another size */
        {WIRE_INSTALL, 1000, 200, 1, 100},            /* of another type */
        {WIRE_APPEND, 1000, 200, 1, 801},             /* more than there is to come */
        {WIRE_APPEND, 2000, 0, 2, 100},               /* a second one at once */
        {WIRE_FORWARD, PEER_FRAME_SIZE_MAX, 0, 1, 1}, /* bigger than any frame */
        {WIRE_FORWARD, 10, 0, 1, 11},                 /* its own size does not hold it */
        {WIRE_FORWARD, 0, 0, 1, 0},                   /* gives up what never began */
        {WIRE_APPEND, 1000, 0, 1, 0},                 /* neither gives up nor goes on */
        {WIRE_PROBE, 1000, 0, 1, 10},                 /* a frame that is always small */
        {WIRE_FRAGMENT, 1000, 0, 1, 10},              /* fragments of fragments */
        {WIRE_HELLO, 1000, 0, 1, 10},                 /* a handshake */
        {WIRE_FORWARD | 256, 1000, 0, 1, 10},         /* a zero that is none */
    };
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct pair pair;
        pair_open(&pair);
        EXPECT_EQ(say(&pair, WIRE_APPEND, 1000, 0, 1, 200), OK);
        const enum err err = say(&pair, wrong[i].type, wrong[i].size, wrong[i].offset,
                                 wrong[i].number, wrong[i].data);
        EXPECT_EQ(err, ERR_CORRUPT);
        EXPECT_TRUE(pair.link.refused);
        pair_close(&pair);
    }
}

TEST(fragment, random_frames_arrive_whole_and_in_the_order_of_their_class)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct pair pair;
        struct fragment_piece piece;
        struct wire_frame frame;
        struct prng prng = prng_seed(seed);
        uint64_t sent[2] = {0};
        uint64_t heard[2] = {0};
        struct buf body = bytes_of(MIB, seed);
        pair_open(&pair);
        for (uint32_t round = 0; round < 300 || peer_lanes_busy(pair.to_b); round++) {
            const uint32_t way = (uint32_t)prng_below(&prng, 2);
            const uint8_t type = way == 0 ? WIRE_APPEND : WIRE_PROBE;
            const uint64_t size = way == 0 && prng_below(&prng, 20) == 0
                                      ? 9 + prng_below(&prng, MIB - 9)
                                      : 9 + prng_below(&prng, 3000);
            put_u64(body.data, sent[way]);
            body.data[8] = (uint8_t)size;
            if (round < 300 && peer_send(&pair.a, pair.to_b, type, slice_of(body.data, size))) {
                sent[way]++;
            }
            EXPECT_FALSE(peer_pump(&pair.a, pair.to_b, &piece));
            if (prng_below(&prng, 2) == 0) drain(&pair);
            while (hear(&pair, &frame) == OK) {
                if (frame.type == WIRE_FRAGMENT) continue;
                const uint32_t from = frame.type == WIRE_APPEND ? 0 : 1;
                EXPECT_EQ(get_u64(frame.body.data), heard[from]);
                EXPECT_EQ(frame.body.data[8], (uint8_t)frame.body.size);
                heard[from]++;
            }
        }
        drain(&pair);
        while (hear(&pair, &frame) == OK) heard[frame.type == WIRE_APPEND ? 0 : 1]++;
        EXPECT_EQ(heard[0], sent[0]);
        EXPECT_EQ(heard[1], sent[1]);
        EXPECT_TRUE(sent[0] > 100);
        buf_close(&body);
        pair_close(&pair);
    }
}
