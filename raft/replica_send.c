/* Messages of the library, and our own, to the queues of the peers. */
#include "raft/replica_state.h"
#include "storage/store_ship.h"
#include "storage/store_space.h"

static uint64_t place_of(const struct replica *replica, const struct peer *peer)
{
    return (uint64_t)(peer - replica->peers->list);
}

static void send_message(struct replica *replica, struct peer *peer, const struct message *message)
{
    uint64_t start = 0;
    struct buf *out = peer_frame_begin(replica->peers, peer, message->type, &start);
    if (out == NULL) return;
    message_encode(message, out);
    (void)peer_frame_end(peer, start); /* Raft's messages may be lost. */
}

/* With a full window the library sends an empty append with every further proposal and answer.
 * One that says nothing new is left out; the next heartbeat is due soon. */
static bool is_redundant(const struct replica *replica, const struct peer *peer,
                         const struct message *message)
{
    const struct replica_sent *sent = &replica->sent[place_of(replica, peer)];
    return message->count == 0 && sent->term == message->term && sent->end == message->prev_index &&
           sent->commit == message->commit &&
           replica->now_ms - sent->ms < replica->config.heartbeat_ms;
}

static void remember(struct replica *replica, const struct peer *peer,
                     const struct message *message, uint64_t end)
{
    replica->stats.append_sent++;
    replica->sent[place_of(replica, peer)] = (struct replica_sent){.term = message->term,
                                                                   .version = message->version,
                                                                   .end = end,
                                                                   .commit = message->commit,
                                                                   .ms = replica->now_ms};
}

/* One frame with as many entries from @first on as fit. Returns how many, 0 when nothing was
 * sent. */
static uint32_t send_some(struct replica *replica, struct peer *peer, struct message *message,
                          uint64_t last)
{
    uint64_t start = 0;
    uint32_t count = 0;
    const uint64_t first = message->prev_index + 1;
    struct buf *out = peer_frame_begin(replica->peers, peer, WIRE_APPEND, &start);
    if (out == NULL) return 0;
    const uint64_t body = out->size;
    message_encode(message, out);
    const enum err err = store_read(replica->store, first, last, APPEND_SIZE_MAX, out, &count);
    if (err != OK || count == 0) {
        peer_frame_cancel(peer, start);
        /* Retention went ahead of the library: the base will be sent instead. All else is
         * damage: of a sealed file, which the store has noted and another leader may not have; or of what this
         * start wrote itself. */
        const bool is_sealed = first + count <= store_base(replica->store).index;
        if ((err == ERR_CORRUPT || err == ERR_IO) && !is_sealed) replica->ended = err;
        return 0;
    }
    message_set_count(out, body, count);
    (void)peer_frame_end(peer, start); /* Small, or in a lane that takes more than one. */
    remember(replica, peer, message, first + count - 1);
    return count;
}

static void send_empty(struct replica *replica, struct peer *peer, const struct message *message)
{
    if (is_redundant(replica, peer, message)) return;
    send_message(replica, peer, message);
    remember(replica, peer, message, message->prev_index);
}

/* The library tells what is committed with the next append, at the latest the next heartbeat: too late for who waits
 * for it. This is a heartbeat ahead of time, behind the entries that are on their way. */
void replica_tell_committed(struct replica *replica, uint64_t id)
{
    struct peer *peer = peers_find(replica->peers, id);
    if (peer == NULL || replica->raft.state != RAFT_LEADER || replica->ended != OK) return;
    const struct replica_sent *sent = &replica->sent[place_of(replica, peer)];
    /* Big entries take another way, what follows one may overtake it. */
    const bool in_order = !fragment_lane_busy(peer_lane(peer, WIRE_APPEND));
    const struct message message = {
        .type = WIRE_APPEND,
        .version = sent->version,
        .term = raft_current_term(&replica->raft),
        .prev_index = sent->end,
        .prev_term = store_term_at(replica->store, sent->end),
        .commit = replica->committed,
    };
    if (sent->term != message.term || !in_order || message.prev_term == 0) return;
    send_empty(replica, peer, &message);
}

/* ---- big entries ---------------------------------------------------------------------------------- */

/* Is the entry at @index already with the peer, or on its way to it? It has four election timeouts to say so. */
static bool is_on_its_way(const struct replica *replica, const struct peer *peer, uint64_t term,
                          uint64_t index)
{
    const struct replica_big *big = &replica->bigs[place_of(replica, peer)];
    if (big->term != term || big->link != peer->link_count) return false;
    if (index < big->first || index > big->last) return false;
    return replica->now_ms - big->ms < 4 * replica->config.election_timeout_ms;
}

/* The entry behind @message->prev_index, which is @size bytes long, in a frame of its own whose bytes are fetched
 * when they leave. */
static bool send_big(struct replica *replica, struct peer *peer, struct message *message,
                     uint64_t size)
{
    struct replica_big *big = &replica->bigs[place_of(replica, peer)];
    const uint64_t index = message->prev_index + 1;
    replica->scratch.size = 0;
    message->count = 1;
    message_encode(message, &replica->scratch);
    message->count = 0;
    if (!peer_send_asked(replica->peers, peer, WIRE_APPEND, buf_slice(&replica->scratch), size,
                         index)) {
        return false;
    }
    const bool follows = big->term == message->term && big->link == peer->link_count &&
                         index > big->last;
    if (!follows) big->first = index;
    big->term = message->term;
    big->last = index;
    big->link = peer->link_count;
    big->ms = replica->now_ms;
    remember(replica, peer, message, index);
    return true;
}

void replica_drop_bigs(struct replica *replica)
{
    for (uint32_t i = 0; i < replica->peers->count; i++) {
        replica->bigs[i].term = 0;
        peer_lane_drop(replica->peers, &replica->peers->list[i], WIRE_APPEND);
    }
}

/* Reads @piece of a big entry, and verifies the whole with its last one. */
static enum err read_piece(struct replica *replica, struct replica_big *big,
                           const struct fragment_piece *piece)
{
    bool in_memory = false;
    const uint64_t end = piece->rest_offset + piece->size;
    const uint64_t size = store_entry_size(replica->store, piece->token);
    if (size != piece->body_size - MESSAGE_APPEND_SIZE) return ERR_NOT_FOUND;
    replica->piece.size = 0;
    const enum err err = store_piece(replica->store, piece->token, piece->rest_offset, piece->size,
                                     &replica->piece, &in_memory);
    if (err != OK) return err;
    uint64_t skip = 0;
    if (piece->rest_offset == 0) {
        big->is_hashed = !in_memory;
        big->checksum = get_u64(replica->piece.data);
        hash_stream_init(&big->hash);
        skip = sizeof big->checksum;
    }
    if (!big->is_hashed) return OK; /* What this process wrote and still has in memory. */
    hash_stream_add(&big->hash, replica->piece.data + skip, piece->size - skip);
    return end == size && hash_stream_end(&big->hash) != big->checksum ? ERR_CORRUPT : OK;
}

void replica_give(struct replica *replica, struct peer *peer, const struct fragment_piece *piece)
{
    struct replica_big *big = &replica->bigs[place_of(replica, peer)];
    const bool leads = replica->raft.state == RAFT_LEADER && replica->ended == OK;
    const enum err err = leads ? read_piece(replica, big, piece) : ERR_AGAIN;
    if (err == OK) {
        big->ms = replica->now_ms;
        peer_give(replica->peers, peer, piece, buf_slice(&replica->piece));
        return;
    }
    if (err == ERR_CORRUPT || err == ERR_IO) {
        /* As in send_some. */
        const bool is_sealed = piece->token <= store_base(replica->store).index;
        store_note_entry(replica->store, piece->token);
        if (!is_sealed) replica->ended = err;
    }
    big->term = 0;
    peer_lane_drop(replica->peers, peer, WIRE_APPEND);
}

/* The library bounds appends by count only. They are split by bytes, never shortened: it
 * believes that all of it is on its way. */
static void send_append(struct replica *replica, struct peer *peer,
                        const struct raft_append_entries *append)
{
    struct message message = {
        .type = WIRE_APPEND,
        .version = append->version,
        .term = append->term,
        .prev_index = append->prev_log_index,
        .prev_term = append->prev_log_term,
        .commit = append->leader_commit,
    };
    const uint64_t last = append->prev_log_index + append->n_entries;
    if (append->n_entries == 0) {
        send_empty(replica, peer, &message);
        return;
    }
    while (message.prev_index < last) {
        uint32_t count = 1;
        const uint64_t size = store_entry_size(replica->store, message.prev_index + 1);
        const bool is_big = size > APPEND_SIZE_MAX;
        if (is_big && is_on_its_way(replica, peer, message.term, message.prev_index + 1)) {
            send_empty(replica, peer, &message);
            return;
        }
        const uint64_t waiting = peer_lane(peer, WIRE_APPEND)->waiting;
        if (peer_queued(peer) + waiting > REPLICA_APPEND_QUEUE_SIZE_MAX) return;
        if (is_big) {
            if (!send_big(replica, peer, &message, size)) return;
        } else {
            count = send_some(replica, peer, &message, last);
        }
        if (count == 0) return;
        message.prev_index += count;
        message.prev_term = store_term_at(replica->store, message.prev_index);
        CHECK(message.prev_term != 0);
    }
}

uint64_t replica_held(const struct replica *replica)
{
    const uint64_t persisted = store_persisted_index(replica->store);
    if (replica->is_installing) return 0;
    return replica->committed < persisted ? replica->committed : persisted;
}

void replica_send_refusal(struct replica *replica, uint64_t to, uint64_t rejected)
{
    struct peer *peer = peers_find(replica->peers, to);
    struct message message = {
        .type = WIRE_APPEND_RESULT,
        .version = 2,
        .term = raft_current_term(&replica->raft),
        .rejected = rejected,
    };
    if (peer == NULL) return;
    if (rejected > 0) {
        message.last_index = store_last_index(replica->store);
        message.conflict_term = store_term_at(replica->store, message.last_index);
        message.held_index = replica_held(replica);
        replica->told_to = to;
        replica->told_term = message.term;
        replica->told_held = message.held_index;
    }
    send_message(replica, peer, &message);
}

static void send_append_result(struct replica *replica, struct peer *peer,
                               const struct raft_append_entries_result *result,
                               const struct replica_source *source)
{
    const struct guard_view view = replica_view(replica);
    struct message message = {
        .type = WIRE_APPEND_RESULT,
        .version = result->version,
        .term = result->term,
        .rejected = result->rejected,
        .last_index = result->last_log_index,
        .features = result->features,
        .capacity = result->capacity,
    };
    if (message.rejected > 0 && !source->is_stale && !replica->is_installing) {
        /* A conflict and not a gap: we hold another entry at the rejected index. */
        const struct message *append = source->message;
        if (append != NULL && append->type == WIRE_APPEND &&
            store_term_at(replica->store, message.rejected) != 0) {
            message.last_index = guard_w19_hint(&view, replica->store, message.last_index,
                                                replica->committed, append->prev_term);
        }
        message.conflict_term = store_term_at(replica->store, message.last_index);
        message.held_index = replica_held(replica);
        replica->told_to = peer->identity.node_id;
        replica->told_term = message.term;
        replica->told_held = message.held_index;
    }
    message.last_index = guard_w03_last_index(&view, source->is_stale, message.last_index);
    send_message(replica, peer, &message);
}

static void send_vote(struct replica *replica, struct peer *peer,
                      const struct raft_request_vote *vote)
{
    send_message(replica, peer,
                 &(struct message){.type = WIRE_VOTE,
                                   .version = vote->version,
                                   .term = vote->term,
                                   .candidate = vote->candidate_id,
                                   .last_index = vote->last_log_index,
                                   .last_term = vote->last_log_term,
                                   .disrupt_leader = vote->disrupt_leader,
                                   .pre_vote = vote->pre_vote});
}

static void send_vote_result(struct replica *replica, struct peer *peer,
                             const struct raft_request_vote_result *result)
{
    const struct guard_view view = replica_view(replica);
    struct message message = {
        .type = WIRE_VOTE_RESULT,
        .version = result->version,
        .term = result->term,
        .granted = result->vote_granted,
        .pre_vote = result->pre_vote,
        .features = result->features,
        .capacity = result->capacity,
    };
    message.term = guard_w04_term(&view, &message);
    send_message(replica, peer, &message);
}

static void send_install(struct replica *replica, struct peer *peer,
                         const struct raft_install_snapshot *install)
{
    const struct store_base base = store_base(replica->store);
    replica->holds[place_of(replica, peer)].awaited = install->last_index;
    /* A newer base exists and the library is told of it at the end of this turn. */
    if (base.index != install->last_index || base.term != install->last_term) return;
    if (!replica_hold_may_offer(replica, peer)) return; /* The library repeats. */
    struct message message = {
        .type = WIRE_INSTALL,
        .version = install->version,
        .term = install->term,
        .last_index = base.index,
        .last_term = base.term,
        .change_index = base.change_index,
        .change = base.change,
    };
    replica->manifest.size = 0;
    store_ship_manifest(replica->store, &replica->manifest);
    message.manifest = buf_slice(&replica->manifest);
    peer->memory.base_term = message.term;
    peer->memory.ack_index = 0;
    send_message(replica, peer, &message);
    replica_hold_offered(replica, peer, base.index);
    replica->stats.snapshots_sent++;
}

static void send_timeout_now(struct replica *replica, struct peer *peer,
                             const struct raft_timeout_now *now)
{
    send_message(replica, peer,
                 &(struct message){.type = WIRE_TIMEOUT_NOW,
                                   .version = now->version,
                                   .term = now->term,
                                   .last_index = now->last_log_index,
                                   .last_term = now->last_log_term});
}

void replica_send(struct replica *replica, const struct raft_message *message,
                  const struct replica_source *source)
{
    struct peer *peer = peers_find(replica->peers, message->server_id);
    CHECK(message->server_id != replica->config.id);
    if (peer == NULL) return; /* a member that the owner does not know yet: the library repeats */
    /* P7: a leader whose disk hangs goes silent, so that another one can take over. */
    if (replica->raft.state == RAFT_LEADER && replica_is_stalled(replica)) return;
    switch (message->type) {
    case RAFT_APPEND_ENTRIES: send_append(replica, peer, &message->append_entries); return;
    case RAFT_APPEND_ENTRIES_RESULT:
        send_append_result(replica, peer, &message->append_entries_result, source);
        return;
    case RAFT_REQUEST_VOTE: send_vote(replica, peer, &message->request_vote); return;
    case RAFT_REQUEST_VOTE_RESULT:
        send_vote_result(replica, peer, &message->request_vote_result);
        return;
    case RAFT_INSTALL_SNAPSHOT: send_install(replica, peer, &message->install_snapshot); return;
    case RAFT_TIMEOUT_NOW: send_timeout_now(replica, peer, &message->timeout_now); return;
    }
    UNREACHABLE();
}

void replica_send_probes(struct replica *replica)
{
    struct guard_configuration members;
    replica_newest_members(replica, &members);
    replica->scratch.size = 0;
    readgate_encode(replica->gate.ground.term, replica->gate.round, &replica->scratch);
    for (uint32_t i = 0; i < members.count; i++) {
        struct peer *peer = peers_find(replica->peers, members.members[i].id);
        if (peer == NULL || members.members[i].role != GUARD_VOTER) continue;
        (void)peer_send(replica->peers, peer, WIRE_PROBE, buf_slice(&replica->scratch));
    }
    replica->stats.read_rounds++;
}
