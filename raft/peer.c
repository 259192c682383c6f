#include "raft/peer.h"

#include <stdio.h>

#include "raft/handshake.h"

#define MESSAGE_SIZE 256u
/* Bytes that were taken are dropped from the front of the queue in big steps, not at each frame. */
#define QUEUE_SHIFT_SIZE MIB
#define QUEUE_KEEP_SIZE (256u * KIB)
/* What waits behind a big frame of Raft's: small frames of a few seconds, and bodies that are to be cut. */
#define BEHIND_SIZE_MAX (24u * MIB)
/* Lanes move on while less than this waits for the socket: what comes then waits for little more than a fragment. */
#define PUMP_SIZE FRAGMENT_SIZE

void peers_init(struct peers *peers, const struct peer_identity *self, uint64_t cluster_id,
                uint64_t token_hash)
{
    CHECK(self->node_id != 0);
    memset(peers, 0, sizeof *peers);
    peers->self = *self;
    peers->cluster_id = cluster_id;
    peers->token_hash = token_hash;
}

void peers_close(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        buf_close(&peers->list[i].in);
        buf_close(&peers->list[i].out);
        for (uint32_t lane = 0; lane < FRAGMENT_CLASS_COUNT; lane++) {
            fragment_lane_close(&peers->list[i].lanes[lane]);
        }
    }
    memset(peers, 0, sizeof *peers);
}

enum err peers_add(struct peers *peers, uint64_t node_id, const char *name,
                   const char *peer_address)
{
    CHECK(node_id != 0);
    if (node_id == peers->self.node_id) return ERR_EXISTS;
    if (peers_find(peers, node_id) != NULL) return ERR_EXISTS;
    if (peers->count == PEERS_MAX) return ERR_FULL;
    struct peer *peer = &peers->list[peers->count++];
    memset(peer, 0, sizeof *peer);
    peer->identity.node_id = node_id;
    snprintf(peer->identity.name, sizeof peer->identity.name, "%s", name);
    snprintf(peer->identity.peer_address, sizeof peer->identity.peer_address, "%s", peer_address);
    return OK;
}

struct peer *peers_find(struct peers *peers, uint64_t node_id)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        if (peers->list[i].identity.node_id == node_id) return &peers->list[i];
    }
    return NULL;
}

uint64_t peer_queued(const struct peer *peer)
{
    CHECK(peer->out_start <= peer->out.size);
    return peer->out.size - peer->out_start;
}

static void queue_shift(struct peer *peer)
{
    const bool is_empty = peer->out_start == peer->out.size;
    if (!is_empty && peer->out_start < QUEUE_SHIFT_SIZE) return;
    buf_shift(&peer->out, peer->out_start);
    peer->out_start = 0;
    buf_trim(&peer->out, QUEUE_KEEP_SIZE);
}

struct fragment_lane *peer_lane(struct peer *peer, uint8_t type)
{
    const enum fragment_class class = fragment_class(type);
    CHECK(class != FRAGMENT_CLASS_COUNT);
    return &peer->lanes[class];
}

static bool may_queue(struct peer *peer)
{
    if (peer->is_connected && peer_queued(peer) <= PEER_QUEUE_SIZE_MAX) return true;
    peer->dropped_count++;
    return false;
}

struct buf *peer_frame_begin(struct peers *peers, struct peer *peer, uint8_t type, uint64_t *start)
{
    if (!may_queue(peer)) return NULL;
    const struct wire_frame frame = handshake_frame(peers, peer->identity.node_id, type);
    peer->open_lane = NULL;
    if (fragment_class(type) == FRAGMENT_RAFT) {
        struct fragment_lane *lane = peer_lane(peer, type);
        if (fragment_lane_busy(lane)) { /* Nothing may overtake what is there. */
            if (lane->queue.size - lane->start > BEHIND_SIZE_MAX) {
                peer->dropped_count++;
                return NULL;
            }
            peer->open_lane = lane;
            *start = fragment_item_begin(lane, 0);
            (void)wire_begin(&lane->queue, &frame);
            return &lane->queue;
        }
    }
    queue_shift(peer);
    *start = wire_begin(&peer->out, &frame);
    return &peer->out;
}

/* The frame in the queue from @start on is too big for it. */
static bool move_to_lane(struct peer *peer, uint64_t start)
{
    struct fragment_lane *lane = peer_lane(peer, wire_type(peer->out.data + start));
    if (fragment_lane_busy(lane)) {
        peer_frame_cancel(peer, start);
        peer->dropped_count++;
        return false;
    }
    const uint64_t place = fragment_item_begin(lane, 0);
    buf_append(&lane->queue, peer->out.data + start, peer->out.size - start);
    fragment_item_end(lane, place, false, 0);
    peer->out.size = start;
    return true;
}

bool peer_frame_end(struct peer *peer, uint64_t start)
{
    struct fragment_lane *lane = peer->open_lane;
    struct buf *out = lane != NULL ? &lane->queue : &peer->out;
    const bool is_whole = out->size - start <= PEER_WHOLE_SIZE_MAX;
    CHECK(out->size - start <= PEER_FRAME_SIZE_MAX);
    peer->open_lane = NULL;
    if (is_whole) wire_end(out, start);
    if (lane != NULL) {
        fragment_item_end(lane, start, is_whole, 0);
    } else if (!is_whole && !move_to_lane(peer, start)) {
        return false;
    }
    peer->sent_count++;
    return true;
}

void peer_frame_cancel(struct peer *peer, uint64_t start)
{
    if (peer->open_lane != NULL) {
        fragment_item_cancel(peer->open_lane, start);
        peer->open_lane = NULL;
        return;
    }
    CHECK(start >= peer->out_start);
    CHECK(start <= peer->out.size);
    peer->out.size = start;
}

/* ---- big frames ----------------------------------------------------------------------------------------- */

struct buf *peer_big_begin(struct peers *peers, struct peer *peer, uint8_t type, uint64_t token,
                           uint64_t *start)
{
    struct fragment_lane *lane = peer_lane(peer, type);
    const struct wire_frame frame = handshake_frame(peers, peer->identity.node_id, type);
    CHECK(!fragment_lane_busy(lane));
    if (!may_queue(peer)) return NULL;
    peer->open_lane = lane;
    *start = fragment_item_begin(lane, token);
    (void)wire_begin(&lane->queue, &frame);
    return &lane->queue;
}

bool peer_send_asked(struct peers *peers, struct peer *peer, uint8_t type, struct slice head,
                     uint64_t rest, uint64_t token)
{
    struct fragment_lane *lane = peer_lane(peer, type);
    const struct wire_frame frame = handshake_frame(peers, peer->identity.node_id, type);
    if (!may_queue(peer)) return false;
    const uint64_t start = fragment_item_begin(lane, token);
    (void)wire_begin(&lane->queue, &frame);
    buf_append(&lane->queue, head.data, head.size);
    fragment_item_end(lane, start, false, rest);
    peer->sent_count++;
    return true;
}

void peer_lane_drop(struct peers *peers, struct peer *peer, uint8_t type)
{
    struct fragment_lane *lane = peer_lane(peer, type);
    const struct wire_frame frame = handshake_frame(peers, peer->identity.node_id, WIRE_FRAGMENT);
    const uint64_t start = wire_begin(&peer->out, &frame);
    if (fragment_lane_drop(lane, &peer->out)) {
        wire_end(&peer->out, start);
    } else {
        peer->out.size = start;
    }
}

void peer_give(struct peers *peers, struct peer *peer, const struct fragment_piece *piece,
               struct slice data)
{
    struct fragment_lane *lane = peer_lane(peer, piece->type);
    const struct wire_frame frame = handshake_frame(peers, peer->identity.node_id, WIRE_FRAGMENT);
    queue_shift(peer);
    const uint64_t start = wire_begin(&peer->out, &frame);
    fragment_write(lane, piece, data, &peer->out);
    wire_end(&peer->out, start);
    fragment_taken(lane, piece);
}

bool peer_pump(struct peers *peers, struct peer *peer, struct fragment_piece *piece)
{
    uint32_t idle = 0;
    while (idle < FRAGMENT_CLASS_COUNT && peer_queued(peer) < PUMP_SIZE) {
        struct fragment_lane *lane = &peer->lanes[peer->lane_next];
        peer->lane_next = (peer->lane_next + 1) % FRAGMENT_CLASS_COUNT;
        if (!fragment_next(lane, piece)) {
            idle++;
            continue;
        }
        idle = 0;
        if (piece->is_asked) return true;
        if (piece->is_whole) {
            queue_shift(peer);
            buf_append(&peer->out, piece->data.data, piece->data.size);
            fragment_taken(lane, piece);
        } else {
            peer_give(peers, peer, piece, piece->data);
        }
    }
    return false;
}

bool peer_is_sending_big(struct peer *peer, uint8_t type)
{
    return fragment_lane_busy(peer_lane(peer, type));
}

bool peer_lanes_busy(const struct peer *peer)
{
    for (uint32_t i = 0; i < FRAGMENT_CLASS_COUNT; i++) {
        if (fragment_lane_busy(&peer->lanes[i])) return true;
    }
    return false;
}

bool peer_send(struct peers *peers, struct peer *peer, uint8_t type, struct slice body)
{
    uint64_t start = 0;
    const bool is_big = WIRE_HEADER_SIZE + body.size > PEER_WHOLE_SIZE_MAX;
    if (is_big && peer_is_sending_big(peer, type)) {
        peer->dropped_count++;
        return false;
    }
    struct buf *out = is_big ? peer_big_begin(peers, peer, type, 0, &start)
                             : peer_frame_begin(peers, peer, type, &start);
    if (out == NULL) return false;
    buf_append(out, body.data, body.size);
    return peer_frame_end(peer, start);
}

void peer_up(struct peers *peers, struct peer *peer)
{
    peer_down(peer);
    peer->link_count++;
    handshake_write(peers, peer->identity.node_id, WIRE_HELLO, &peer->out);
}

void peer_down(struct peer *peer)
{
    peer->is_connected = false;
    peer->in.size = 0;
    peer->out.size = 0;
    peer->out_start = 0;
    buf_trim(&peer->in, 0);
    buf_trim(&peer->out, QUEUE_KEEP_SIZE);
    for (uint32_t i = 0; i < FRAGMENT_CLASS_COUNT; i++) fragment_lane_close(&peer->lanes[i]);
}

static void note_refusal(struct peers *peers, struct peer *peer, const char *text, bool is_outdated)
{
    (void)snprintf(peer->refusal, sizeof peer->refusal, "%s", text);
    peer->refuses = is_outdated;
    /* For good: who takes us back later has forgotten, which makes the directory no better. */
    if (is_outdated) peers->self_refused = true;
}

/* The one frame that an acceptor sends: WELCOME or REFUSE. */
static enum err answer_read(struct peers *peers, struct peer *peer, const struct wire_frame *frame,
                            char *message)
{
    if (frame->type == WIRE_REFUSE) {
        /* What another cluster's node at this address says of our directory means nothing. */
        const bool is_member = frame->from == peer->identity.node_id &&
                               frame->cluster_id == peers->cluster_id;
        const bool is_outdated = handshake_refusal(frame, message);
        note_refusal(peers, peer, message, is_outdated && is_member);
        return ERR_FOREIGN;
    }
    if (frame->type != WIRE_WELCOME || peer->is_connected) {
        snprintf(message, MESSAGE_SIZE, "%s sent a frame of type %u where only a welcome fits",
                 peer->identity.name, frame->type);
        return ERR_CORRUPT;
    }
    if (frame->from != peer->identity.node_id) {
        snprintf(message, MESSAGE_SIZE, "the node at %.100s has the id %016llx, not %016llx of %s",
                 peer->identity.peer_address, (unsigned long long)frame->from,
                 (unsigned long long)peer->identity.node_id, peer->identity.name);
        return ERR_FOREIGN;
    }
    bool is_outdated = false; /* We do not talk to it then; it hears why when it dials us. */
    const enum err err = handshake_read(peers, frame, message, &is_outdated);
    if (err != OK) return err;
    peer->is_connected = true;
    note_refusal(peers, peer, "", false);
    return OK;
}

enum err peer_feed(struct peers *peers, struct peer *peer, struct slice bytes, char *message)
{
    message[0] = 0;
    buf_append(&peer->in, bytes.data, bytes.size);
    for (;;) {
        struct wire_frame frame = {0};
        uint64_t size = 0;
        enum err err = wire_decode(buf_slice(&peer->in), &frame, &size);
        if (err == ERR_MORE && peer->in.size > HANDSHAKE_FRAME_SIZE_MAX) err = ERR_CORRUPT;
        if (err == ERR_MORE) return OK;
        if (err != OK) {
            snprintf(message, MESSAGE_SIZE, "the answer of %s at %.100s is not of our protocol: %s",
                     peer->identity.name, peer->identity.peer_address, err_name(err));
            return err;
        }
        err = answer_read(peers, peer, &frame, message);
        if (err != OK) return err;
        buf_shift(&peer->in, size);
    }
}
