#include "raft/handshake.h"

#include <stdio.h>

#define MESSAGE_SIZE 256u

struct wire_frame handshake_frame(const struct peers *peers, uint64_t to, uint8_t type)
{
    return (struct wire_frame){
        .type = type,
        .flags = (uint8_t)((peers->self_nospace ? WIRE_FLAG_NOSPACE : 0) |
                           (peers->self_recovering ? WIRE_FLAG_RECOVERING : 0) |
                           (peers->self_damaged ? WIRE_FLAG_DAMAGED : 0)),
        .shard = 0,
        .cluster_id = peers->cluster_id,
        .from = peers->self.node_id,
        .to = to,
        .incarnation = peers->self.incarnation,
    };
}

void handshake_flags(struct peer *peer, uint8_t flags)
{
    peer->nospace = (flags & WIRE_FLAG_NOSPACE) != 0;
    peer->recovering = (flags & WIRE_FLAG_RECOVERING) != 0;
    peer->damaged = (flags & WIRE_FLAG_DAMAGED) != 0;
}

void handshake_write(const struct peers *peers, uint64_t to, uint8_t type, struct buf *out)
{
    const struct peer_identity *self = &peers->self;
    const struct wire_frame frame = handshake_frame(peers, to, type);
    const uint64_t start = wire_begin(out, &frame);
    buf_u64(out, peers->token_hash);
    buf_u64(out, self->directory_id);
    buf_sized(out, slice_text(self->name));
    buf_sized(out, slice_text(self->peer_address));
    buf_sized(out, slice_text(self->client_address));
    buf_sized(out, slice_text(self->cluster_client_address));
    buf_sized(out, slice_text(self->http_address));
    wire_end(out, start);
}

/* A text of another node ends in our log and in replies to clients: only printable ASCII. */
static bool text_copy(struct slice text, char *to, uint64_t to_size)
{
    if (text.size >= to_size) return false;
    for (uint64_t i = 0; i < text.size; i++) {
        if (text.data[i] < 0x20 || text.data[i] > 0x7e) return false;
    }
    if (text.size > 0) memcpy(to, text.data, text.size);
    to[text.size] = 0;
    return true;
}

static bool identity_decode(const struct wire_frame *frame, uint64_t *token_hash,
                            struct peer_identity *identity)
{
    struct reader reader = reader_of(frame->body);
    memset(identity, 0, sizeof *identity);
    identity->node_id = frame->from;
    identity->incarnation = frame->incarnation;
    *token_hash = reader_u64(&reader);
    identity->directory_id = reader_u64(&reader);
    const struct slice name = reader_sized(&reader);
    const struct slice peer = reader_sized(&reader);
    const struct slice client = reader_sized(&reader);
    const struct slice cluster_client = reader_sized(&reader);
    const struct slice http = reader_sized(&reader);
    if (reader.bad || reader.at != reader.end) return false;
    if (name.size == 0) return false;
    return text_copy(name, identity->name, sizeof identity->name) &&
           text_copy(peer, identity->peer_address, sizeof identity->peer_address) &&
           text_copy(client, identity->client_address, sizeof identity->client_address) &&
           text_copy(cluster_client, identity->cluster_client_address,
                     sizeof identity->cluster_client_address) &&
           text_copy(http, identity->http_address, sizeof identity->http_address);
}

/* Why we must not talk to this node, or NULL. */
static const char *objection(const struct peers *peers, const struct wire_frame *frame,
                             uint64_t token_hash, const struct peer_identity *identity,
                             const struct peer *peer)
{
    if (frame->cluster_id != peers->cluster_id) return "it belongs to another cluster";
    if (token_hash != peers->token_hash) return "its cluster-token is another one";
    if (frame->from == peers->self.node_id) return "it has our own node id";
    if (frame->to != peers->self.node_id) return "it takes us for another node";
    if (peer == NULL) return "it is no member that we know";
    if (peer->identity.directory_id == 0) return NULL; /* nobody ever met it, see identity.h */
    /* Two data directories under one id mean a wiped disk or a second copy of the node: votes and
     * acknowledgements that were given under this id may be forgotten. */
    if (identity->directory_id != peer->identity.directory_id) {
        return "its data directory is not the one seen before under its id";
    }
    if (identity->incarnation < peer->identity.incarnation) {
        return "its data directory is an older copy than the one seen before";
    }
    return NULL;
}

enum err handshake_read(struct peers *peers, const struct wire_frame *frame, char *message)
{
    struct peer_identity identity;
    uint64_t token_hash = 0;
    struct peer *peer = peers_find(peers, frame->from);
    if (!identity_decode(frame, &token_hash, &identity)) {
        snprintf(message, MESSAGE_SIZE, "the handshake of node %016llx is malformed",
                 (unsigned long long)frame->from);
        return ERR_CORRUPT;
    }
    const char *why = objection(peers, frame, token_hash, &identity, peer);
    if (why != NULL) {
        snprintf(message, MESSAGE_SIZE, "%s refuses node %s (%016llx): %s", peers->self.name,
                 identity.name, (unsigned long long)frame->from, why);
        return ERR_FOREIGN;
    }
    peer->identity = identity;
    peer->is_known = true;
    handshake_flags(peer, frame->flags);
    return OK;
}

void handshake_refuse(const struct peers *peers, uint64_t to, const char *text, struct buf *out)
{
    const struct wire_frame frame = handshake_frame(peers, to, WIRE_REFUSE);
    const uint64_t start = wire_begin(out, &frame);
    buf_sized(out, slice_text(text));
    wire_end(out, start);
}

void handshake_refusal(const struct wire_frame *frame, char *message)
{
    struct reader reader = reader_of(frame->body);
    const struct slice text = reader_sized(&reader);
    if (reader.bad || !text_copy(text, message, MESSAGE_SIZE)) {
        snprintf(message, MESSAGE_SIZE, "node %016llx refused us without a readable reason",
                 (unsigned long long)frame->from);
    }
}
