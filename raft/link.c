/* The incoming half of peer.h: what another node sends over the connection that it dialled. */
#include <stdio.h>

#include "raft/handshake.h"
#include "raft/peer.h"

#define MESSAGE_SIZE 256u
#define INPUT_KEEP_SIZE (256u * KIB)

void link_init(struct link *link)
{
    memset(link, 0, sizeof *link);
}

void link_close(struct link *link)
{
    buf_close(&link->in);
    buf_close(&link->out);
    for (uint32_t i = 0; i < FRAGMENT_CLASS_COUNT; i++) fragment_part_close(&link->parts[i]);
    memset(link, 0, sizeof *link);
}

void link_feed(struct link *link, struct slice bytes)
{
    CHECK(link->in_start <= link->in.size);
    if (link->in_start > 0) {
        buf_shift(&link->in, link->in_start);
        link->in_start = 0;
        buf_trim(&link->in, INPUT_KEEP_SIZE);
    }
    buf_append(&link->in, bytes.data, bytes.size);
}

static enum err refuse(struct peers *peers, struct link *link, uint64_t to, enum err err,
                       const char *message)
{
    handshake_refuse(peers, to, message, false, &link->out);
    link->refused = true;
    return err;
}

/* The first frame must be a HELLO of somebody whom we know. */
static enum err greet(struct peers *peers, struct link *link, const struct wire_frame *frame,
                      char *message)
{
    if (frame->type != WIRE_HELLO) {
        snprintf(message, MESSAGE_SIZE, "the first frame has the type %u and is no handshake",
                 frame->type);
        return refuse(peers, link, frame->from, ERR_CORRUPT, message);
    }
    bool is_outdated = false;
    const enum err err = handshake_read(peers, frame, message, &is_outdated);
    if (err != OK) {
        handshake_refuse(peers, frame->from, message, is_outdated, &link->out);
        link->refused = true;
        return err;
    }
    link->from = frame->from;
    handshake_write(peers, link->from, WIRE_WELCOME, &link->out);
    return OK;
}

/* Why a frame after the handshake does not fit its link, or NULL. */
static const char *misfit(const struct peers *peers, const struct link *link,
                          const struct peer *peer, const struct wire_frame *frame)
{
    if (frame->type < WIRE_APPEND) return "a second handshake";
    if (frame->cluster_id != peers->cluster_id) return "a frame of another cluster";
    if (frame->from != link->from) return "a frame of another node";
    if (frame->to != peers->self.node_id) return "a frame for another node";
    if (frame->shard != 0) return "a frame of an unknown shard";
    if (peer == NULL) return "a frame of a node that is no member any more";
    /* A process that was started again has a new incarnation and a new connection: what the one
     * before it still had in flight is not taken any more. */
    if (frame->incarnation != peer->identity.incarnation) return "a frame of an earlier process";
    return NULL;
}

enum err link_next(struct peers *peers, struct link *link, uint64_t now_ms,
                   struct wire_frame *frame, char *message)
{
    message[0] = 0;
    if (link->refused) return ERR_FOREIGN;
    fragment_release(link->parts);
    for (;;) {
        uint64_t size = 0;
        if (link->in_start == link->in.size) return ERR_MORE;
        const struct slice input = slice_of(link->in.data + link->in_start,
                                            link->in.size - link->in_start);
        enum err err = wire_decode(input, frame, &size);
        /* A stranger may not make us collect a big frame. */
        if (err == ERR_MORE && link->from == 0 && input.size > HANDSHAKE_FRAME_SIZE_MAX) {
            err = ERR_CORRUPT;
        }
        if (err == ERR_MORE) return ERR_MORE;
        if (err != OK) {
            if (link->from == 0) {
                snprintf(message, MESSAGE_SIZE,
                         "what it sent is no greeting of a node (is it a client, at the wrong "
                         "port?)");
            } else {
                snprintf(message, MESSAGE_SIZE, "a frame of node %016llx cannot be read: %s",
                         (unsigned long long)link->from, err_name(err));
            }
            return refuse(peers, link, link->from, err, message);
        }
        link->in_start += size;
        if (link->from == 0) {
            err = greet(peers, link, frame, message);
            if (err != OK) return err;
            continue;
        }
        struct peer *peer = peers_find(peers, link->from);
        const char *why = misfit(peers, link, peer, frame);
        if (why != NULL) {
            snprintf(message, MESSAGE_SIZE, "node %016llx sent %s", (unsigned long long)link->from,
                     why);
            return refuse(peers, link, link->from, ERR_FOREIGN, message);
        }
        peer->heard_ms = now_ms;
        handshake_flags(peer, frame->flags);
        peer->received_count++;
        if (frame->type != WIRE_FRAGMENT) return OK;
        err = fragment_take(link->parts, frame);
        if (err == OK || err == ERR_MORE) return OK;
        snprintf(message, MESSAGE_SIZE, "node %016llx sent a fragment that does not follow",
                 (unsigned long long)link->from);
        return refuse(peers, link, link->from, err, message);
    }
}
