#include "raft/peer.h"

#include <stdio.h>

#include "raft/handshake.h"
#include "tests/test.h"

#define CLUSTER UINT64_C(77)
#define TOKEN UINT64_C(88)

static char message[256];

static void node_init(struct peers *peers, uint64_t id)
{
    struct peer_identity self = {.node_id = id, .directory_id = 100 + id, .incarnation = 1};
    snprintf(self.name, sizeof self.name, "node%u", (unsigned)id);
    snprintf(self.peer_address, sizeof self.peer_address, "host%u:7000", (unsigned)id);
    snprintf(self.client_address, sizeof self.client_address, "host%u:6000", (unsigned)id);
    peers_init(peers, &self, CLUSTER, TOKEN);
}

/* Two nodes that know each other, and the connection that @a dials. */
struct pair {
    struct peers a;
    struct peers b;
    struct peer *peer; /* what @a knows of @b */
    struct link link;  /* @b's end */
};

static void pair_open(struct pair *pair)
{
    node_init(&pair->a, 1);
    node_init(&pair->b, 2);
    EXPECT_EQ(peers_add(&pair->a, 2, "node2", "host2:7000"), OK);
    EXPECT_EQ(peers_add(&pair->b, 1, "node1", "host1:7000"), OK);
    pair->peer = &pair->a.list[0];
    link_init(&pair->link);
}

static void pair_close(struct pair *pair)
{
    link_close(&pair->link);
    peers_close(&pair->a);
    peers_close(&pair->b);
}

/* The connection broke: the next one. */
static void pair_reconnect(struct pair *pair)
{
    link_close(&pair->link);
    link_init(&pair->link);
}

/* Everything in the queue of @peer goes into @link. */
static void carry(struct peer *peer, struct link *link)
{
    link_feed(link, slice_of(peer->out.data + peer->out_start, peer_queued(peer)));
    peer->out_start = peer->out.size;
}

/* @a dials @b; the error of the acceptor, and in @back what @a makes of the answer. */
static enum err dial(struct peers *a, struct peers *b, struct link *link, enum err *back)
{
    struct wire_frame frame;
    struct peer *peer = &a->list[0];
    char ignored[256];
    peer_up(a, peer);
    carry(peer, link);
    const enum err err = link_next(b, link, 5, &frame, message);
    *back = peer_feed(a, peer, buf_slice(&link->out), ignored);
    link->out.size = 0;
    return err;
}

static void expect_dial(struct pair *pair, enum err there, enum err here)
{
    enum err back = OK;
    EXPECT_EQ(dial(&pair->a, &pair->b, &pair->link, &back), there);
    EXPECT_EQ(back, here);
}

/* What @bytes over the link make of it. */
static enum err take_bytes(struct pair *pair, struct slice bytes, struct wire_frame *frame)
{
    link_feed(&pair->link, bytes);
    return link_next(&pair->b, &pair->link, 5, frame, message);
}

TEST(peer, handshake_introduces_both_sides_and_frames_follow)
{
    struct pair pair;
    struct wire_frame frame;
    pair_open(&pair);
    EXPECT_FALSE(peer_send(&pair.a, pair.peer, WIRE_PROBE, slice_text("early")));
    EXPECT_EQ(pair.peer->dropped_count, 1);
    expect_dial(&pair, ERR_MORE, OK);
    EXPECT_TRUE(pair.peer->is_connected);
    EXPECT_FALSE(pair.b.list[0].is_connected); /* each direction has its own connection */
    EXPECT_TRUE(pair.peer->is_known && pair.b.list[0].is_known);
    EXPECT_TEXT(pair.peer->identity.client_address, "host2:6000");
    EXPECT_TEXT(pair.b.list[0].identity.client_address, "host1:6000");

    pair.a.self_nospace = true;
    EXPECT_TRUE(peer_send(&pair.a, pair.peer, WIRE_PROBE, slice_text("one")));
    EXPECT_TRUE(peer_send(&pair.a, pair.peer, WIRE_APPEND, slice_text("two")));
    carry(pair.peer, &pair.link);
    EXPECT_EQ(link_next(&pair.b, &pair.link, 6, &frame, message), OK);
    EXPECT_EQ(frame.type, WIRE_PROBE);
    EXPECT_TRUE(slice_equal(frame.body, slice_text("one")));
    EXPECT_EQ(link_next(&pair.b, &pair.link, 7, &frame, message), OK);
    EXPECT_TRUE(slice_equal(frame.body, slice_text("two")));
    EXPECT_EQ(link_next(&pair.b, &pair.link, 8, &frame, message), ERR_MORE);
    EXPECT_TRUE(pair.b.list[0].nospace);
    EXPECT_EQ(pair.b.list[0].heard_ms, 7);
    EXPECT_EQ(pair.b.list[0].received_count, 2);
    pair_close(&pair);
}

TEST(peer, bytes_may_arrive_one_by_one)
{
    struct pair pair;
    struct wire_frame frame;
    pair_open(&pair);
    peer_up(&pair.a, pair.peer);
    const struct buf *out = &pair.peer->out;
    for (uint64_t i = 0; i < out->size; i++) {
        link_feed(&pair.link, slice_of(out->data + i, 1));
        EXPECT_EQ(link_next(&pair.b, &pair.link, 1, &frame, message), ERR_MORE);
    }
    EXPECT_EQ(pair.link.from, 1);
    for (uint64_t i = 0; i < pair.link.out.size; i++) {
        EXPECT_EQ(peer_feed(&pair.a, pair.peer, slice_of(pair.link.out.data + i, 1), message), OK);
    }
    EXPECT_TRUE(pair.peer->is_connected);
    pair_close(&pair);
}

/* Dials with what @change made of the two nodes and expects a refusal whose text holds @text. */
static void expect_refusal(void (*change)(struct peers *a, struct peers *b), const char *text)
{
    struct pair pair;
    pair_open(&pair);
    change(&pair.a, &pair.b);
    expect_dial(&pair, ERR_FOREIGN, ERR_FOREIGN);
    EXPECT_TRUE(pair.link.refused);
    EXPECT_EQ(pair.link.from, 0);
    EXPECT_FALSE(pair.peer->is_connected);
    if (strstr(message, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", message, text);
    pair_close(&pair);
}

static void other_cluster(struct peers *a, struct peers *b)
{
    (void)b;
    a->cluster_id++;
}
static void other_token(struct peers *a, struct peers *b)
{
    (void)b;
    a->token_hash++;
}
static void own_id(struct peers *a, struct peers *b)
{
    (void)b;
    a->self.node_id = 2;
}
static void wrong_target(struct peers *a, struct peers *b)
{
    (void)b;
    a->list[0].identity.node_id = 3;
}
static void stranger(struct peers *a, struct peers *b)
{
    (void)b;
    a->self.node_id = 9;
}
static void meet(struct peers *a, struct peers *b)
{
    struct link link;
    enum err back = OK;
    link_init(&link);
    a->self.incarnation = 5;
    EXPECT_EQ(dial(a, b, &link, &back), ERR_MORE);
    EXPECT_EQ(back, OK);
    link_close(&link);
}
static void wiped_disk(struct peers *a, struct peers *b)
{
    meet(a, b);
    a->self.directory_id++;
}
static void restored_disk(struct peers *a, struct peers *b)
{
    meet(a, b);
    a->self.incarnation = 4;
}

/* What was read from the disk counts although they did not meet since our start. */
static void forget_meeting(struct peers *a, struct peers *b)
{
    meet(a, b);
    peers_find(b, a->self.node_id)->is_known = false;
}

static void wiped_disk_after_restart(struct peers *a, struct peers *b)
{
    forget_meeting(a, b);
    a->self.directory_id++;
}

static void restored_disk_after_restart(struct peers *a, struct peers *b)
{
    forget_meeting(a, b);
    a->self.incarnation = 4;
}

/* Two starts of two copies of one directory have the same number. */
static void cloned_disk(struct peers *a, struct peers *b)
{
    a->self.start_id = 50;
    meet(a, b);
    a->self.start_id = 51;
}

/* The copy has been started again since, and somebody took it in. */
static void cloned_disk_later(struct peers *a, struct peers *b)
{
    cloned_disk(a, b);
    a->self.incarnation += 2;
    a->self_past_count = 3;
    a->self_past[0] = 52;
    a->self_past[1] = 51; /* number 5; what was seen then is 50 */
    a->self_past[2] = 49;
}

/* Of the start before the one that was seen by an earlier version nobody knows an id. */
static void unnamed_start(struct peers *a, struct peers *b)
{
    meet(a, b);
    a->self.start_id = 51;
}

static void forgotten_term(struct peers *a, struct peers *b)
{
    meet(a, b);
    b->list[0].memory.term = 8;
    a->self_promise = (struct peer_promise){.term = 7, .last_index = 99};
}

static void forgotten_vote(struct peers *a, struct peers *b)
{
    meet(a, b);
    b->list[0].memory = (struct peer_memory){.term = 7, .vote_term = 7, .vote = 2};
    a->self_promise = (struct peer_promise){.term = 7, .last_index = 99};
}

static void forgotten_entries(struct peers *a, struct peers *b)
{
    meet(a, b);
    b->list[0].memory = (struct peer_memory){.term = 7, .ack_term = 7, .ack_index = 99};
    a->self_promise = (struct peer_promise){.term = 7, .last_index = 98};
}

TEST(peer, f47_an_older_copy_of_a_directory_is_refused)
{
    expect_refusal(cloned_disk, "another copy was started");
    expect_refusal(cloned_disk_later, "another copy was started");
    expect_refusal(unnamed_start, "another copy was started");
    expect_refusal(forgotten_term, "older copy than the one seen before: it forgot its term");
    expect_refusal(forgotten_vote, "older copy than the one seen before: it forgot whom");
    expect_refusal(forgotten_entries, "acknowledged entries are gone");
}

/* @a dials with what @change made of the two nodes and is let in. */
static void expect_welcome(void (*change)(struct peers *a, struct peers *b))
{
    struct pair pair;
    pair_open(&pair);
    change(&pair.a, &pair.b);
    expect_dial(&pair, ERR_MORE, OK);
    EXPECT_FALSE(pair.a.self_refused);
    pair_close(&pair);
}

static void same_start(struct peers *a, struct peers *b)
{
    a->self.start_id = 50;
    meet(a, b);
}
static void next_start(struct peers *a, struct peers *b)
{
    same_start(a, b);
    a->self.start_id = 52;
    a->self.incarnation += 2;
    a->self_past_count = 2;
    a->self_past[0] = 51;
    a->self_past[1] = 50;
}
static void start_after_long(struct peers *a, struct peers *b)
{
    same_start(a, b);
    a->self.start_id = 99;
    a->self.incarnation += PEER_STARTS_MAX + 1;
    a->self_past_count = PEER_STARTS_MAX;
}
static void first_named_start(struct peers *a, struct peers *b)
{
    meet(a, b);
    a->self.start_id = 51;
    a->self.incarnation++;
}
static void unknown_promise(struct peers *a, struct peers *b)
{
    forgotten_term(a, b);
    a->self_promise = (struct peer_promise){0}; /* Its log is being repaired. */
}
static void announced_loss(struct peers *a, struct peers *b)
{
    forgotten_entries(a, b);
    a->self_recovering = true;
}
/* A leader of a later term may have cut what was not committed. */
static void cut_entries(struct peers *a, struct peers *b)
{
    forgotten_entries(a, b);
    a->self_promise.term = 8;
}
static void later_vote(struct peers *a, struct peers *b)
{
    forgotten_vote(a, b);
    a->self_promise.term = 8;
}
static void kept_promises(struct peers *a, struct peers *b)
{
    meet(a, b);
    b->list[0].memory = (struct peer_memory){
        .term = 7, .vote_term = 7, .vote = 2, .ack_term = 7, .ack_index = 99};
    a->self_promise = (struct peer_promise){.term = 7, .vote = 2, .last_index = 99};
}

TEST(peer, who_has_forgotten_nothing_is_let_in)
{
    expect_welcome(same_start);
    expect_welcome(next_start);
    expect_welcome(start_after_long);
    expect_welcome(first_named_start);
    expect_welcome(unknown_promise);
    expect_welcome(announced_loss);
    expect_welcome(cut_entries);
    expect_welcome(later_vote);
    expect_welcome(kept_promises);
}

/* A WELCOME may have been overtaken by frames over the other connection: only the start counts in it. */
TEST(peer, a_late_welcome_is_no_lapse)
{
    struct pair pair;
    pair_open(&pair);
    pair.peer->memory = (struct peer_memory){.term = 9, .vote_term = 9, .vote = 1};
    pair.b.self_promise = (struct peer_promise){.term = 8, .vote = 2, .last_index = 4};
    expect_dial(&pair, ERR_MORE, OK);
    EXPECT_EQ(pair.peer->memory.vote, 1);
    pair_close(&pair);
}

/* Who was told once that its directory is old stays careful; other refusals are nothing of that kind. */
TEST(peer, a_refusal_is_remembered_with_its_reason)
{
    struct pair pair;
    pair_open(&pair);
    pair.a.token_hash++;
    expect_dial(&pair, ERR_FOREIGN, ERR_FOREIGN);
    EXPECT_TRUE(strstr(pair.peer->refusal, "cluster-token") != NULL);
    EXPECT_FALSE(pair.a.self_refused);
    pair_reconnect(&pair);
    pair.a.token_hash--;
    restored_disk(&pair.a, &pair.b);
    EXPECT_TEXT(pair.peer->refusal, "");
    expect_dial(&pair, ERR_FOREIGN, ERR_FOREIGN);
    EXPECT_TRUE(strstr(pair.peer->refusal, "older copy") != NULL);
    EXPECT_TRUE(pair.a.self_refused);
    pair_reconnect(&pair);
    pair.a.self.incarnation = 6;
    expect_dial(&pair, ERR_MORE, OK);
    EXPECT_TEXT(pair.peer->refusal, "");
    EXPECT_TRUE(pair.a.self_refused);
    pair_close(&pair);
}

TEST(peer, handshake_refuses_whoever_does_not_belong)
{
    expect_refusal(wiped_disk_after_restart, "data directory is not the one");
    expect_refusal(restored_disk_after_restart, "an older copy");
    expect_refusal(other_cluster, "another cluster");
    expect_refusal(other_token, "cluster-token");
    expect_refusal(own_id, "our own node id");
    expect_refusal(wrong_target, "another node");
    expect_refusal(stranger, "no member");
    expect_refusal(wiped_disk, "data directory is not the one");
    expect_refusal(restored_disk, "older copy");
}

TEST(peer, a_new_process_of_a_node_ends_the_links_of_the_old_one)
{
    struct pair pair;
    struct link old;
    struct link new;
    struct wire_frame frame;
    enum err back = OK;
    pair_open(&pair);
    link_init(&old);
    link_init(&new);
    EXPECT_EQ(dial(&pair.a, &pair.b, &old, &back), ERR_MORE);
    EXPECT_TRUE(peer_send(&pair.a, pair.peer, WIRE_VOTE, slice_text("late")));
    struct buf late = {0};
    buf_append(&late, pair.peer->out.data + pair.peer->out_start, peer_queued(pair.peer));
    pair.a.self.incarnation++;
    EXPECT_EQ(dial(&pair.a, &pair.b, &new, &back), ERR_MORE);
    link_feed(&old, buf_slice(&late));
    EXPECT_EQ(link_next(&pair.b, &old, 9, &frame, message), ERR_FOREIGN);
    EXPECT_TRUE(strstr(message, "earlier process") != NULL);
    buf_close(&late);
    link_close(&old);
    link_close(&new);
    pair_close(&pair);
}

/* One frame of @change's making over a greeted link. */
static enum err after_handshake(void (*change)(struct wire_frame *frame))
{
    struct pair pair;
    struct wire_frame frame;
    struct buf bytes = {0};
    pair_open(&pair);
    expect_dial(&pair, ERR_MORE, OK);
    frame = handshake_frame(&pair.a, 2, WIRE_VOTE);
    change(&frame);
    wire_encode(&bytes, &frame);
    const enum err err = take_bytes(&pair, buf_slice(&bytes), &frame);
    if (err != OK) EXPECT_TRUE(pair.link.refused);
    buf_close(&bytes);
    pair_close(&pair);
    return err;
}

static void fitting(struct wire_frame *frame)
{
    (void)frame;
}
static void misfit_cluster(struct wire_frame *frame)
{
    frame->cluster_id++;
}
static void misfit_from(struct wire_frame *frame)
{
    frame->from = 3;
}
static void misfit_to(struct wire_frame *frame)
{
    frame->to = 1;
}
static void misfit_shard(struct wire_frame *frame)
{
    frame->shard = 1;
}
static void misfit_incarnation(struct wire_frame *frame)
{
    frame->incarnation--;
}
static void misfit_type(struct wire_frame *frame)
{
    frame->type = WIRE_HELLO;
}

TEST(peer, frames_that_do_not_fit_their_link_close_it)
{
    EXPECT_EQ(after_handshake(fitting), OK);
    EXPECT_EQ(after_handshake(misfit_cluster), ERR_FOREIGN);
    EXPECT_EQ(after_handshake(misfit_from), ERR_FOREIGN);
    EXPECT_EQ(after_handshake(misfit_to), ERR_FOREIGN);
    EXPECT_EQ(after_handshake(misfit_shard), ERR_FOREIGN);
    EXPECT_EQ(after_handshake(misfit_incarnation), ERR_FOREIGN);
    EXPECT_EQ(after_handshake(misfit_type), ERR_FOREIGN);
}

TEST(peer, strangers_cannot_make_us_collect_or_skip_the_handshake)
{
    struct pair pair;
    struct wire_frame frame;
    struct buf bytes = {0};
    pair_open(&pair);

    frame = handshake_frame(&pair.a, 2, WIRE_VOTE);
    wire_encode(&bytes, &frame);
    EXPECT_EQ(take_bytes(&pair, buf_slice(&bytes), &frame), ERR_CORRUPT);
    EXPECT_TRUE(pair.link.refused);
    pair_reconnect(&pair);

    bytes.size = 0;
    frame = handshake_frame(&pair.a, 2, WIRE_HELLO);
    wire_encode(&bytes, &frame);
    put_u32(bytes.data + 8, 1u << 20); /* says that a megabyte follows */
    memset(buf_extend(&bytes, 8192), 0, 8192);
    EXPECT_EQ(take_bytes(&pair, buf_slice(&bytes), &frame), ERR_CORRUPT);
    pair_reconnect(&pair);
    buf_close(&bytes);
    pair_close(&pair);
}

TEST(peer, malformed_introductions_are_refused)
{
    struct pair pair;
    struct wire_frame frame;
    pair_open(&pair);
    peer_up(&pair.a, pair.peer);
    const uint64_t body = pair.peer->out.size - WIRE_HEADER_SIZE;
    /* Every shorter body, with a valid checksum. */
    for (uint64_t size = 0; size < body; size++) {
        struct buf bytes = {0};
        frame = handshake_frame(&pair.a, 2, WIRE_HELLO);
        frame.body = slice_of(pair.peer->out.data + WIRE_HEADER_SIZE, size);
        wire_encode(&bytes, &frame);
        EXPECT_EQ(take_bytes(&pair, buf_slice(&bytes), &frame), ERR_CORRUPT);
        EXPECT_FALSE(pair.b.list[0].is_known);
        pair_reconnect(&pair);
        buf_close(&bytes);
    }
    pair_close(&pair);
}

TEST(peer, the_queue_has_an_end_and_a_lost_connection_empties_it)
{
    struct pair pair;
    pair_open(&pair);
    expect_dial(&pair, ERR_MORE, OK);
    struct peer *peer = pair.peer;
    const uint64_t size = 256u * KIB;
    uint8_t *big = test_calloc(1, size);
    uint32_t sent = 0;
    while (sent < 1000 && peer_send(&pair.a, peer, WIRE_APPEND, slice_of(big, size))) sent++;
    EXPECT_EQ(sent, 256); /* with their headers they are just over the limit */
    EXPECT_TRUE(peer_queued(peer) < PEER_QUEUE_SIZE_MAX + PEER_WHOLE_SIZE_MAX);
    /* What the socket takes makes room again, and the front is given back. */
    peer->out_start = peer->out.size;
    EXPECT_TRUE(peer_send(&pair.a, peer, WIRE_PROBE, slice_text("x")));
    EXPECT_EQ(peer_queued(peer), WIRE_HEADER_SIZE + 1);
    EXPECT_TRUE(peer->out.capacity < MIB);
    uint64_t start = 0;
    struct buf *out = peer_frame_begin(&pair.a, peer, WIRE_PROBE, &start);
    buf_text(out, "changed my mind");
    peer_frame_cancel(peer, start);
    EXPECT_EQ(peer_queued(peer), WIRE_HEADER_SIZE + 1);
    peer_down(peer);
    EXPECT_EQ(peer_queued(peer), 0);
    EXPECT_FALSE(peer_send(&pair.a, peer, WIRE_PROBE, slice_text("x")));
    test_free(big);
    pair_close(&pair);
}

TEST(peer, members_are_unique_and_bounded)
{
    struct peers a;
    node_init(&a, 1);
    EXPECT_EQ(peers_add(&a, 1, "me", "x"), ERR_EXISTS);
    for (uint32_t i = 0; i < PEERS_MAX; i++) EXPECT_EQ(peers_add(&a, 10 + i, "n", "x"), OK);
    EXPECT_EQ(peers_add(&a, 10, "n", "x"), ERR_EXISTS);
    EXPECT_EQ(peers_add(&a, 99, "n", "x"), ERR_FULL);
    EXPECT_TRUE(peers_find(&a, 99) == NULL);
    EXPECT_TRUE(peers_find(&a, 11) == &a.list[1]);
    peers_close(&a);
}
