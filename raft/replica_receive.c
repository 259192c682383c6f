/* Messages of peers: decoded, checked by the guard, and only then handed to the library. */
#include "raft/replica_state.h"
#include "storage/manifest.h"

static void receive_event(struct raft_event *event, struct raft_message *message, uint64_t from,
                          const char *address)
{
    memset(event, 0, sizeof *event);
    memset(message, 0, sizeof *message);
    event->type = RAFT_RECEIVE;
    event->receive.message = message;
    message->server_id = from;
    message->server_address = address;
}

/* The library frees this, or gives it back, in place of the entries' own memory, which is the
 * frame's. */
static void *token(void)
{
    void *batch = raft_malloc(1);
    CHECK(batch != NULL);
    return batch;
}

/* An error of the library that a message caused: the peer's link is closed. */
static enum err blame(int rv)
{
    return rv == 0 ? OK : ERR_CORRUPT;
}

/* ---- append -------------------------------------------------------------------------------------- */

/* What is committed here is committed everywhere. A leader of a current term that holds
 * something else means that a disk is damaged or forgot, and nobody knows whose: stop before
 * more is lost. */
static void check_committed(const struct replica *replica, uint64_t index, uint64_t term)
{
    const uint64_t local = index > 0 ? store_term_at(replica->store, index) : term;
    if (local == 0 || local == term) return;
    fatal(EXIT_BAD_DATA,
          "the leader contradicts what is committed here: entry %llu has term %llu, not %llu; this "
          "node's disk or another one's is damaged and it must not serve",
          (unsigned long long)index, (unsigned long long)local, (unsigned long long)term);
}

/* W2: moves the message's start up to what is committed here; returns how many entries that
 * skips. */
static uint32_t clip(const struct replica *replica, struct message *message)
{
    const uint64_t committed = replica->committed;
    const uint64_t below = committed - message->prev_index;
    const uint32_t skip = below < message->count ? (uint32_t)below : message->count;
    check_committed(replica, message->prev_index, message->prev_term);
    for (uint32_t i = 0; i < skip; i++) {
        check_committed(replica, message->prev_index + 1 + i, replica->parts[i].term);
    }
    message->prev_index = committed;
    message->prev_term = store_term_at(replica->store, committed);
    CHECK(message->prev_term != 0);
    message->count -= skip;
    return skip;
}

static int step_append(struct replica *replica, uint64_t from, const char *address,
                       const struct message *message, const struct message_entry *parts)
{
    struct raft_event event;
    struct raft_message received;
    receive_event(&event, &received, from, address);
    void *batch = message->count > 0 ? token() : NULL;
    for (uint32_t i = 0; i < message->count; i++) {
        memset(&replica->entries[i], 0, sizeof replica->entries[i]);
        replica->entries[i].term = parts[i].term;
        replica->entries[i].type = (enum raft_entry_type)parts[i].type;
        replica->entries[i].buf.base = (void *)(uintptr_t)parts[i].payload.data;
        replica->entries[i].buf.len = parts[i].payload.size;
        replica->entries[i].batch = batch;
    }
    received.type = RAFT_APPEND_ENTRIES;
    received.append_entries = (struct raft_append_entries){
        .version = message->version,
        .term = message->term,
        .prev_log_index = message->prev_index,
        .prev_log_term = message->prev_term,
        .leader_commit = message->commit,
        .entries = message->count > 0 ? replica->entries : NULL,
        .n_entries = message->count,
    };
    const struct replica_source source = {
        .message = message,
        .entries = replica->entries,
        .parts = parts,
        .owns_batch = true,
        .is_stale = message->term < raft_current_term(&replica->raft),
    };
    const int rv = replica_step(replica, &event, &source);
    if (rv == 0) replica_settle(replica);
    return rv;
}

/* W1: a new change at the head of a segment proves that the pending one is committed. */
static void prove_pending_change(struct replica *replica, const struct message *message,
                                 const struct message_entry *first)
{
    const struct guard_view view = replica_view(replica);
    const uint64_t pending = replica->raft.configuration_uncommitted_index;
    const struct store *store = replica->store;
    if (!guard_w01_proves(&view, message, first, pending, store_term_at(store, message->prev_index),
                          store_term_at(store, message->prev_index + 1))) {
        return;
    }
    replica_configure(replica, pending);
}

/* Was the segment taken, so that the next one may follow? */
static bool is_taken(const struct replica *replica, const struct message *message,
                     const struct message_entry *parts)
{
    const uint64_t end = message->prev_index + message->count;
    return replica->ended == OK && !replica->is_installing &&
           replica->raft.state == RAFT_FOLLOWER && replica->raft.current_term == message->term &&
           store_last_index(replica->store) >= end &&
           store_term_at(replica->store, end) == parts[message->count - 1].term;
}

static enum err receive_append(struct replica *replica, uint64_t from, const char *address,
                               struct message *message)
{
    const struct guard_view view = replica_view(replica);
    const struct message_entry *parts = replica->parts;
    if (message_entries(message, replica->config.shard, replica->parts) != OK) return ERR_CORRUPT;
    if (guard_entries(parts, message->count) != OK) return ERR_CORRUPT;
    replica->stats.append_received++;
    if (message->term >= view.term) {
        replica->contact_ms = replica->now_ms;
        replica->has_contact = true;
        replica->leader = from;
        replica->leader_term = message->term;
    }
    if (guard_w02_clips(&view, message)) parts += clip(replica, message);

    uint32_t left = message->count;
    for (;;) {
        message->count = guard_w01_segment(&view, parts, left);
        if (message->count > 0) prove_pending_change(replica, message, parts);
        const int rv = step_append(replica, from, address, message, parts);
        if (rv != 0) return blame(rv);
        left -= message->count;
        if (left == 0 || !is_taken(replica, message, parts)) return OK;
        message->prev_index += message->count;
        message->prev_term = parts[message->count - 1].term;
        parts += message->count;
    }
}

static enum err step_append_result(struct replica *replica, uint64_t from, const char *address,
                                   const struct message *message)
{
    struct raft_event event;
    struct raft_message received;
    receive_event(&event, &received, from, address);
    received.type = RAFT_APPEND_ENTRIES_RESULT;
    received.append_entries_result = (struct raft_append_entries_result){
        .version = message->version,
        .term = message->term,
        .rejected = message->rejected,
        .last_log_index = message->last_index,
        .features = message->features,
        .capacity = message->capacity,
    };
    return blame(replica_step(replica, &event, &(struct replica_source){.message = message}));
}

/* What was on its way did not fit there: it may be sent again. */
static void forget_big(struct replica *replica, uint64_t from)
{
    const struct peer *peer = peers_find(replica->peers, from);
    if (peer != NULL) replica->bigs[peer - replica->peers->list].term = 0;
}

/* The library believes that a base is on its way to this peer, which is idle. It listens only to a refusal of just that
 * base, but its heartbeats ask for the newest one: under load nothing would be offered until the install times out. */
static enum err refuse_awaited(struct replica *replica, const struct peer *peer,
                               const char *address, const struct message *message)
{
    const uint64_t from = peer->identity.node_id;
    const uint64_t awaited = replica->holds[peer - replica->peers->list].awaited;
    raft_index match = 0;
    if (replica->ended != OK || replica->raft.state != RAFT_LEADER) return OK;
    if (raft_match_index(&replica->raft, from, &match) != 0 || awaited <= match) return OK;
    struct message refusal = *message;
    refusal.rejected = awaited;
    if (refusal.last_index < match) refusal.last_index = match;
    return step_append_result(replica, from, address, &refusal);
}

static enum err receive_append_result(struct replica *replica, uint64_t from, const char *address,
                                      struct message *message)
{
    raft_index match = 0;
    const struct guard_view view = replica_view(replica);
    const bool is_ours = view.is_leader && message->term == view.term;
    if (is_ours && message->rejected > 0) forget_big(replica, from);
    if (!is_ours || message->rejected == 0 || raft_match_index(&replica->raft, from, &match) != 0) {
        return step_append_result(replica, from, address, message);
    }
    const struct peer *peer = peers_find(replica->peers, from);
    if (peer != NULL && peer->recovering && message->last_index < match) {
        replica->regressed_term = view.term;
    }
    if (guard_held_counts(&view, match, message)) {
        struct message held = *message;
        held.rejected = 0;
        held.last_index = message->held_index;
        const enum err err = step_append_result(replica, from, address, &held);
        if (err != OK) return err;
        replica_settle(replica);
        /* It may have committed a change that ends our leadership. */
        if (replica->ended != OK || replica->raft.state != RAFT_LEADER) return OK;
        match = message->held_index;
    }
    const bool is_idle = peer != NULL && replica_hold_rejected(replica, peer, message);
    const struct message original = *message;
    message->last_index = guard_w19_hint(&view, replica->store, message->last_index, match,
                                         message->conflict_term);
    (void)guard_w15_settles(&view, match, message);
    const enum err err = step_append_result(replica, from, address, message);
    if (err != OK || !is_idle) return err;
    return refuse_awaited(replica, peer, address, &original);
}

/* ---- votes --------------------------------------------------------------------------------------- */

static enum err receive_vote(struct replica *replica, uint64_t from, const char *address,
                             const struct message *message)
{
    struct raft_event event;
    struct raft_message received;
    struct guard_configuration members;
    const struct guard_view view = replica_view(replica);
    const uint64_t silent_ms = replica->has_contact ? replica->now_ms - replica->contact_ms
                                                    : UINT64_MAX;
    replica_newest_members(replica, &members);
    receive_event(&event, &received, from, address);
    received.type = RAFT_REQUEST_VOTE;
    received.request_vote = (struct raft_request_vote){
        .version = message->version,
        .term = message->term,
        .candidate_id = message->candidate,
        .last_log_index = message->last_index,
        .last_log_term = message->last_term,
        .disrupt_leader = message->disrupt_leader ||
                          guard_w16_disrupts(&view, silent_ms, replica->config.election_timeout_ms),
        .pre_vote = message->pre_vote,
    };
    const struct replica_source source = {
        .message = message,
        .votes_anyway = guard_w13_votes(&view, guard_role(&members, replica->config.id)),
    };
    return blame(replica_step(replica, &event, &source));
}

static enum err receive_vote_result(struct replica *replica, uint64_t from, const char *address,
                                    const struct message *message)
{
    struct raft_event event;
    struct raft_message received;
    receive_event(&event, &received, from, address);
    received.type = RAFT_REQUEST_VOTE_RESULT;
    received.request_vote_result = (struct raft_request_vote_result){
        .version = message->version,
        .term = message->term,
        .vote_granted = message->granted,
        .pre_vote = message->pre_vote,
        .features = message->features,
        .capacity = message->capacity,
    };
    return blame(replica_step(replica, &event, &(struct replica_source){.message = message}));
}

static enum err receive_timeout_now(struct replica *replica, uint64_t from, const char *address,
                                    const struct message *message)
{
    struct raft_event event;
    struct raft_message received;
    receive_event(&event, &received, from, address);
    received.type = RAFT_TIMEOUT_NOW;
    received.timeout_now = (struct raft_timeout_now){
        .version = message->version,
        .term = message->term,
        .last_log_index = message->last_index,
        .last_log_term = message->last_term,
    };
    /* P7: who cannot write must not become leader. */
    if (replica_is_stalled(replica)) return OK;
    return blame(replica_step(replica, &event, &(struct replica_source){.message = message}));
}

/* ---- install ------------------------------------------------------------------------------------- */

/* Once the library begins an install there is no way back but a new start, so everything that
 * can be refused is refused before. */
static enum err check_manifest(const struct replica *replica, const struct message *message)
{
    struct manifest manifest = {0};
    const char *wrong = NULL;
    enum err err = manifest_decode(message->manifest, &manifest, &wrong);
    if (err != OK) return err;
    if (manifest.cluster_id != store_cluster_id(replica->store) ||
        manifest.shard != replica->config.shard || manifest.base_index != message->last_index ||
        manifest.base_term != message->last_term ||
        manifest.change_index != message->change_index ||
        !slice_equal(buf_slice(&manifest.change), message->change)) {
        err = ERR_CORRUPT;
    }
    manifest_close(&manifest);
    return err;
}

static enum err receive_install(struct replica *replica, uint64_t from, const char *address,
                                const struct message *message)
{
    struct raft_event event;
    struct raft_message received;
    struct guard_configuration configuration;
    if (guard_decode_configuration(message->change, &configuration) != OK) return ERR_CORRUPT;
    if (check_manifest(replica, message) != OK) return ERR_CORRUPT;
    if (message->term >= raft_current_term(&replica->raft)) {
        replica->contact_ms = replica->now_ms;
        replica->has_contact = true;
        replica->leader = from;
        replica->leader_term = message->term;
    }
    /* The leader offers it again with the next rejected heartbeat; until then there may be room. */
    if (store_nospace(replica->store)) return OK;
    const enum err room = replica->is_installing
                              ? OK
                              : store_install_fits(replica->store, message->manifest);
    if (room == ERR_NOSPACE || room == ERR_EXISTS) {
        replica->stats.snapshots_refused++;
        replica->stats.snapshot_refusal = room;
        return OK;
    }
    const struct guard_view view = replica_view(replica);
    const bool was_told = replica->told_to == from && replica->told_term == message->term;
    if (guard_held_first(&view, message, replica_held(replica),
                         was_told ? replica->told_held : 0)) {
        replica_send_refusal(replica, from, message->last_index);
        return OK;
    }

    receive_event(&event, &received, from, address);
    received.type = RAFT_INSTALL_SNAPSHOT;
    received.install_snapshot.version = message->version;
    received.install_snapshot.term = message->term;
    received.install_snapshot.last_index = message->last_index;
    received.install_snapshot.last_term = message->last_term;
    received.install_snapshot.conf_index = message->change_index;
    received.install_snapshot.data = (struct raft_buffer){token(), 1};
    replica_configuration(&configuration, &received.install_snapshot.conf);
    const struct replica_source source = {
        .message = message,
        .is_stale = message->term < raft_current_term(&replica->raft),
    };
    const bool was_installing = replica->is_installing;
    const int rv = replica_step(replica, &event, &source);
    if (rv != 0) return blame(rv);
    if (replica->is_installing && !was_installing) {
        const uint64_t election_ms = replica->config.election_timeout_ms;
        /* While a base is being received this node neither votes nor campaigns: when its source falls silent the
         * cluster may need it. Whole files that are here already are kept for the next offer. */
        ship_begin(&replica->ship_in, from, election_ms / 2, 3 * election_ms, replica->now_ms);
        /* The library answers an install when it is complete. A leader that hears nothing for a
         * heartbeat would take us for unreachable and offer its base with every further one. */
        replica_send_refusal(replica, from, 0);
    }
    return OK;
}

/* ---- everything ---------------------------------------------------------------------------------- */

/* P7: a vote or a new term must be saved before it counts, and that would wait for the disk that hangs, with
 * everything else that this process does. Such a message is lost instead: whoever sent it goes on without us. */
static bool needs_ballot(const struct replica *replica, const struct message *message)
{
    if (!replica_is_stalled(replica)) return false;
    return message->term > raft_current_term(&replica->raft) ||
           (message->type == WIRE_VOTE && !message->pre_vote);
}

/* What its sender must know of itself from now on: its term and votes were durable before it spoke of them. */
static void remember(struct peer_memory *memory, uint64_t self, uint64_t from,
                     const struct message *message)
{
    const bool is_vote = message->type == WIRE_VOTE || message->type == WIRE_VOTE_RESULT;
    if (is_vote && message->pre_vote) return; /* That would be the term; nothing was saved. */
    if (message->term > memory->term) memory->term = message->term;
    if (!is_vote || message->term < memory->vote_term) return;
    if (message->type == WIRE_VOTE_RESULT && !message->granted) return;
    memory->vote_term = message->term;
    memory->vote = message->type == WIRE_VOTE ? from : self;
}

static enum err receive_raft(struct replica *replica, const struct wire_frame *frame,
                             struct peer *peer)
{
    struct message message;
    const char *address = peer->identity.peer_address;
    enum err err = message_decode(frame->type, frame->body, &message);
    const struct guard_view view = replica_view(replica);
    if (err == OK) err = guard_message(&view, frame->from, &message);
    if (err == OK || err == ERR_AGAIN) {
        remember(&peer->memory, replica->config.id, frame->from, &message);
    }
    if (err == ERR_AGAIN) {
        if (frame->type == WIRE_INSTALL) replica_send_refusal(replica, frame->from, 0);
        return OK;
    }
    if (err != OK) return ERR_CORRUPT;
    if (needs_ballot(replica, &message)) return OK;
    switch (frame->type) {
    case WIRE_APPEND: return receive_append(replica, frame->from, address, &message);
    case WIRE_APPEND_RESULT:
        err = receive_append_result(replica, frame->from, address, &message);
        break;
    case WIRE_VOTE: err = receive_vote(replica, frame->from, address, &message); break;
    case WIRE_VOTE_RESULT:
        err = receive_vote_result(replica, frame->from, address, &message);
        break;
    case WIRE_INSTALL: err = receive_install(replica, frame->from, address, &message); break;
    case WIRE_TIMEOUT_NOW:
        err = receive_timeout_now(replica, frame->from, address, &message);
        break;
    default: return ERR_CORRUPT;
    }
    replica_settle(replica);
    return err;
}

/* A piece of a leader's append or install arrived. The rest may take longer than an election timeout, and yet it leads
 * and we hear it. What is committed here it holds too, or it could not lead: so a heartbeat that says only that is
 * true, and it is stepped in the place of those that wait behind the big message. Its answer tells the leader that we
 * hear it. */
static enum err receive_part(struct replica *replica, const struct wire_frame *frame,
                             const char *address)
{
    const bool is_leaders = frame->part == WIRE_APPEND || frame->part == WIRE_INSTALL;
    if (!is_leaders || frame->body.size < MESSAGE_APPEND_SIZE) return OK;
    if (replica->now_ms - replica->part_ms < replica->config.heartbeat_ms) return OK;
    if (replica->is_installing) return OK; /* The log that it would speak of is not here. */
    replica->part_ms = replica->now_ms;
    struct message message = {
        .type = WIRE_APPEND,
        .term = get_u64(frame->body.data),
        .prev_index = replica->committed,
        .prev_term = store_term_at(replica->store, replica->committed),
        .commit = replica->committed,
    };
    const struct guard_view view = replica_view(replica);
    if (message.prev_index > 0 && message.prev_term == 0) return OK;
    const enum err err = guard_message(&view, frame->from, &message);
    if (err == ERR_AGAIN) return OK;
    if (err != OK) return ERR_CORRUPT;
    return receive_append(replica, frame->from, address, &message);
}

/* A peer asks whether we have heard of a later term. The term in memory is the right one: a vote
 * and its term are saved before they are answered. */
static enum err receive_probe(struct replica *replica, const struct wire_frame *frame)
{
    uint64_t term = 0;
    uint64_t round = 0;
    if (readgate_decode(frame->body, &term, &round) != OK) return ERR_CORRUPT;
    const bool is_ok = raft_current_term(&replica->raft) == term;
    struct peer *peer = peers_find(replica->peers, frame->from);
    replica->scratch.size = 0;
    readgate_encode_result(term, round, is_ok, &replica->scratch);
    (void)peer_send(replica->peers, peer, WIRE_PROBE_RESULT, buf_slice(&replica->scratch));
    return OK;
}

static enum err receive_probe_result(struct replica *replica, const struct wire_frame *frame)
{
    uint64_t term = 0;
    uint64_t round = 0;
    bool is_ok = false;
    if (readgate_decode_result(frame->body, &term, &round, &is_ok) != OK) return ERR_CORRUPT;
    if (is_ok) readgate_answer(&replica->gate, frame->from, term, round);
    return OK;
}

static enum err receive_ship(struct replica *replica, const struct wire_frame *frame)
{
    const struct peer *peer = peers_find(replica->peers, frame->from);
    enum err err = OK;
    switch (frame->type) {
    case WIRE_SHIP_WANT:
        err = ship_ask(&replica->ship_out, replica->peers, frame->from, frame->body);
        if (err == OK) replica_hold_asked(replica, peer);
        break;
    case WIRE_SHIP_CHUNK:
        err = ship_chunk(&replica->ship_in, replica->store, frame->body, replica->now_ms);
        break;
    case WIRE_SHIP_NONE: err = ship_none(&replica->ship_in, frame->from, frame->body); break;
    default: err = ERR_CORRUPT; break;
    }
    return err == ERR_AGAIN ? OK : err;
}

enum err replica_receive(struct replica *replica, const struct wire_frame *frame, uint64_t now_ms)
{
    struct peer *peer = peers_find(replica->peers, frame->from);
    enum err err = OK;
    if (replica->ended != OK) return OK;
    if (now_ms > replica->now_ms) replica->now_ms = now_ms;
    if (peer == NULL || frame->shard != replica->config.shard) {
        err = ERR_CORRUPT;
    } else if (frame->type == WIRE_FRAGMENT) {
        err = receive_part(replica, frame, peer->identity.peer_address);
    } else if (frame->type == WIRE_PROBE) {
        err = receive_probe(replica, frame);
    } else if (frame->type == WIRE_PROBE_RESULT) {
        err = receive_probe_result(replica, frame);
    } else if (frame->type >= WIRE_SHIP_WANT) {
        err = receive_ship(replica, frame);
    } else {
        replica->owner = frame->owner;
        err = receive_raft(replica, frame, peer);
        replica->owner = NULL;
    }
    if (err != OK) replica->stats.rejected_frames++;
    return err;
}
