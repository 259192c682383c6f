#include "raft/handshake.h"

#include <stdio.h>

#define MESSAGE_SIZE 256u
#define OLDER_COPY "its data directory is an older copy than the one seen before"

enum refusal_kind { KIND_OTHER = 0, KIND_OUTDATED = 1 };

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
    buf_u64(out, self->start_id);
    buf_u64(out, peers->self_promise.term);
    buf_u64(out, peers->self_promise.vote);
    buf_u64(out, peers->self_promise.last_index);
    buf_u32(out, peers->self_past_count);
    buf_u32(out, 0);
    for (uint32_t i = 0; i < peers->self_past_count; i++) buf_u64(out, peers->self_past[i]);
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

/* What a HELLO or WELCOME says. */
struct introduction {
    uint64_t token_hash;
    struct peer_identity identity;
    struct peer_promise promise;
    uint64_t past[PEER_STARTS_MAX];
    uint32_t past_count;
};

static bool decode(const struct wire_frame *frame, struct introduction *from)
{
    struct reader reader = reader_of(frame->body);
    struct peer_identity *identity = &from->identity;
    memset(from, 0, sizeof *from);
    identity->node_id = frame->from;
    identity->incarnation = frame->incarnation;
    from->token_hash = reader_u64(&reader);
    identity->directory_id = reader_u64(&reader);
    identity->start_id = reader_u64(&reader);
    from->promise.term = reader_u64(&reader);
    from->promise.vote = reader_u64(&reader);
    from->promise.last_index = reader_u64(&reader);
    from->past_count = reader_u32(&reader);
    if (reader_u32(&reader) != 0 || from->past_count > PEER_STARTS_MAX) return false;
    for (uint32_t i = 0; i < from->past_count; i++) from->past[i] = reader_u64(&reader);
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

/* Does the start that we saw last belong to the past of the one that is announced? Two copies of a directory that were
 * both started do not have the same. */
static bool is_descendant(const struct introduction *from, const struct peer_identity *seen)
{
    const uint64_t steps = from->identity.incarnation - seen->incarnation;
    if (steps == 0) return from->identity.start_id == seen->start_id;
    /* Seen by an earlier version, or so long ago that it cannot be told. */
    if (seen->start_id == 0 || steps > from->past_count) return true;
    return from->past[steps - 1] == seen->start_id;
}

/* What this node has forgotten of what it said to us, or NULL. Nodes in quarantine have lost entries and say so. */
static const char *lapse(const struct wire_frame *frame, const struct peer_promise *promise,
                         const struct peer_memory *memory)
{
    if (frame->type != WIRE_HELLO || promise->term == 0) return NULL;
    if (promise->term < memory->term) return OLDER_COPY ": it forgot its term";
    if (memory->vote != 0 && promise->term == memory->vote_term && promise->vote != memory->vote) {
        return OLDER_COPY ": it forgot whom it voted for";
    }
    if ((frame->flags & WIRE_FLAG_RECOVERING) != 0) return NULL;
    if (promise->term == memory->ack_term && promise->last_index < memory->ack_index) {
        return OLDER_COPY ": acknowledged entries are gone";
    }
    return NULL;
}

static void note_promise(struct peer_memory *memory, const struct peer_promise *promise)
{
    if (promise->term > memory->term) memory->term = promise->term;
    if (promise->vote == 0 || promise->term < memory->vote_term) return;
    memory->vote_term = promise->term;
    memory->vote = promise->vote;
}

/* Why its data directory is not the one that we know, or NULL. */
static const char *outdated(const struct wire_frame *frame, const struct introduction *from,
                            const struct peer *peer)
{
    const struct peer_identity *seen = &peer->identity;
    if (seen->directory_id == 0) return NULL; /* nobody ever met it, see identity.h */
    /* Two data directories under one id mean a wiped disk or a second copy of the node: votes and
     * acknowledgements that were given under this id may be forgotten. */
    if (from->identity.directory_id != seen->directory_id) {
        return "its data directory is not the one seen before under its id";
    }
    if (from->identity.incarnation < seen->incarnation) return OLDER_COPY;
    if (!is_descendant(from, seen)) return OLDER_COPY ": another copy was started";
    return lapse(frame, &from->promise, &peer->memory);
}

/* Why we must not talk to this node whatever its directory is, or NULL. */
static const char *objection(const struct peers *peers, const struct wire_frame *frame,
                             uint64_t token_hash, const struct peer *peer)
{
    if (frame->cluster_id != peers->cluster_id) {
        return "it belongs to another cluster, of other members or another cluster-token";
    }
    if (token_hash != peers->token_hash) return "its cluster-token is another one";
    if (frame->from == peers->self.node_id) return "it has our own node id";
    if (frame->to != peers->self.node_id) return "it takes us for another node";
    if (peer == NULL) return "it is no member that we know";
    return NULL;
}

enum err handshake_read(struct peers *peers, const struct wire_frame *frame, char *message,
                        bool *is_outdated)
{
    struct introduction from;
    struct peer *peer = peers_find(peers, frame->from);
    *is_outdated = false;
    if (!decode(frame, &from)) {
        snprintf(message, MESSAGE_SIZE, "the handshake of node %016llx is malformed",
                 (unsigned long long)frame->from);
        return ERR_CORRUPT;
    }
    const char *why = objection(peers, frame, from.token_hash, peer);
    if (why == NULL) {
        why = outdated(frame, &from, peer);
        *is_outdated = why != NULL;
    }
    if (why != NULL) {
        snprintf(message, MESSAGE_SIZE, "%s refuses %s (%016llx): %s", peers->self.name,
                 from.identity.name, (unsigned long long)frame->from, why);
        return ERR_FOREIGN;
    }
    peer->identity = from.identity;
    if (frame->type == WIRE_HELLO) note_promise(&peer->memory, &from.promise);
    peer->is_known = true;
    handshake_flags(peer, frame->flags);
    return OK;
}

void handshake_refuse(const struct peers *peers, uint64_t to, const char *text, bool is_outdated,
                      struct buf *out)
{
    const struct wire_frame frame = handshake_frame(peers, to, WIRE_REFUSE);
    const uint64_t start = wire_begin(out, &frame);
    buf_sized(out, slice_text(text));
    buf_u32(out, is_outdated ? KIND_OUTDATED : KIND_OTHER);
    wire_end(out, start);
}

bool handshake_refusal(const struct wire_frame *frame, char *message)
{
    struct reader reader = reader_of(frame->body);
    const struct slice text = reader_sized(&reader);
    const uint32_t kind = reader_u32(&reader);
    if (!reader.bad && reader.at == reader.end && text_copy(text, message, MESSAGE_SIZE)) {
        return kind == KIND_OUTDATED;
    }
    snprintf(message, MESSAGE_SIZE, "node %016llx refused us without a readable reason",
             (unsigned long long)frame->from);
    return false;
}
