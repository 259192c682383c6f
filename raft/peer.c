#include "raft/peer.h"

#include <stdio.h>

#include "raft/handshake.h"

#define MESSAGE_SIZE 256u
/* Bytes that were taken are dropped from the front of the queue in big steps, not at each frame. */
#define QUEUE_SHIFT_SIZE MIB
#define QUEUE_KEEP_SIZE (256u * KIB)

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

struct buf *peer_frame_begin(struct peers *peers, struct peer *peer, uint8_t type, uint64_t *start)
{
    if (!peer->is_connected || peer_queued(peer) > PEER_QUEUE_SIZE_MAX) {
        peer->dropped_count++;
        return NULL;
    }
    queue_shift(peer);
    const struct wire_frame frame = handshake_frame(peers, peer->identity.node_id, type);
    *start = wire_begin(&peer->out, &frame);
    return &peer->out;
}

void peer_frame_end(struct peer *peer, uint64_t start)
{
    wire_end(&peer->out, start);
    peer->sent_count++;
}

void peer_frame_cancel(struct peer *peer, uint64_t start)
{
    CHECK(start >= peer->out_start);
    CHECK(start <= peer->out.size);
    peer->out.size = start;
}

bool peer_send(struct peers *peers, struct peer *peer, uint8_t type, struct slice body)
{
    uint64_t start = 0;
    struct buf *out = peer_frame_begin(peers, peer, type, &start);
    if (out == NULL) return false;
    buf_append(out, body.data, body.size);
    peer_frame_end(peer, start);
    return true;
}

void peer_up(struct peers *peers, struct peer *peer)
{
    peer_down(peer);
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
}

/* The one frame that an acceptor sends: WELCOME or REFUSE. */
static enum err answer_read(struct peers *peers, struct peer *peer, const struct wire_frame *frame,
                            char *message)
{
    if (frame->type == WIRE_REFUSE) {
        handshake_refusal(frame, message);
        return ERR_FOREIGN;
    }
    if (frame->type != WIRE_WELCOME || peer->is_connected) {
        snprintf(message, MESSAGE_SIZE, "node %s sent a frame of type %u where only a welcome fits",
                 peer->identity.name, frame->type);
        return ERR_CORRUPT;
    }
    if (frame->from != peer->identity.node_id) {
        snprintf(message, MESSAGE_SIZE, "the node at %.100s has the id %016llx, not %016llx of %s",
                 peer->identity.peer_address, (unsigned long long)frame->from,
                 (unsigned long long)peer->identity.node_id, peer->identity.name);
        return ERR_FOREIGN;
    }
    const enum err err = handshake_read(peers, frame, message);
    if (err == OK) peer->is_connected = true;
    return err;
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
