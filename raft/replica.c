#include "raft/replica_state.h"
#include "storage/store_ship.h"
#include "storage/store_space.h"

#include <stdio.h>

#include "storage/base/mem.h"
#include "storage/store_disk.h"

enum err replica_create(const struct replica_config *config, struct store *store,
                        struct peers *peers, uint64_t now_ms, struct replica **replica,
                        char *message)
{
    CHECK(config->id != 0);
    CHECK(config->id == peers->self.node_id);
    CHECK(config->heartbeat_ms > 0);
    CHECK(config->election_timeout_ms >= 2 * config->heartbeat_ms);
    CHECK(config->election_timeout_ms <= UINT32_MAX / 32);
    struct replica *created = mem_zero(sizeof *created);
    created->config = *config;
    snprintf(created->address, sizeof created->address, "%s", config->address);
    created->config.address = created->address;
    created->store = store;
    created->peers = peers;
    created->now_ms = now_ms;
    created->fired_ms = now_ms;
    created->apply_left = REPLICA_APPLY_WORK;
    created->start_ms = now_ms;
    created->committed = store_applied_index(store);
    replica_drop_bigs(created); /* of the one before, which may have led */
    created->ship_out.rate = config->ship_rate;
    created->ship_out.allow_ms = now_ms;
    const enum err err = replica_start(created, message);
    if (err != OK) {
        replica_destroy(created);
        return err;
    }
    /* The library knows the configuration of the base, or that of entry 1, as committed. */
    created->configured = created->raft.configuration_committed_index;
    replica_settle(created);
    *replica = created;
    return OK;
}

void replica_destroy(struct replica *replica)
{
    ship_send_close(&replica->ship_out, replica->store);
    if (replica->raft.address != NULL) raft_close(&replica->raft, NULL);
    buf_close(&replica->scratch);
    buf_close(&replica->manifest);
    buf_close(&replica->piece);
    mem_free(replica);
}

/* ---- proposing ----------------------------------------------------------------------------------- */

static bool is_leader(const struct replica *replica)
{
    return replica->ended == OK && replica->raft.state == RAFT_LEADER;
}

enum err replica_submit(struct replica *replica, struct buf *record, bool is_given,
                        uint64_t stamp_ms, uint64_t now_ms, uint64_t *index)
{
    struct store *store = replica->store;
    CHECK(record->size >= RECORD_HEADER_SIZE);
    if (now_ms > replica->now_ms) replica->now_ms = now_ms;
    if (!is_leader(replica) || replica_transferring(replica)) return ERR_NOT_LEADER;
    const uint64_t last = store_last_index(store);
    if (last - replica->committed >= UNCOMMITTED_ENTRIES_MAX) return ERR_FULL;
    if (replica->uncommitted_size >= REPLICA_UNCOMMITTED_SIZE_MAX) return ERR_FULL;
    /* On a full disk what does not fit in the log waits, or it would stand before the deletes that make
     * space. */
    const bool fits = store_room(store) >= record->size + SEGMENT_BLOCK_SIZE;
    if (store_nospace(store) && !fits) return ERR_FULL;

    const uint64_t payload_size = record->size - RECORD_HEADER_SIZE;
    const uint64_t last_stamp = store_last_stamp(store);
    (void)buf_reserve(record, 8);
    record->size = record_seal(
        record->data, &(struct record){.index = last + 1,
                                       .term = raft_current_term(&replica->raft),
                                       .stamp_ms = stamp_ms > last_stamp ? stamp_ms : last_stamp,
                                       .type = RECORD_COMMAND,
                                       .shard = replica->config.shard,
                                       .payload = {.size = payload_size}});
    replica->owner = is_given ? record : NULL;
    const int rv = replica_propose(replica, RECORD_COMMAND, buf_slice(record));
    replica->owner = NULL;
    if (rv == RAFT_NOSPACE) return ERR_FULL;
    if (rv != 0) return ERR_NOT_LEADER;
    *index = last + 1;
    replica->stats.entries_submitted++;
    replica_settle(replica);
    return OK;
}

enum err replica_submit_change(struct replica *replica,
                               const struct guard_configuration *configuration, uint64_t now_ms)
{
    struct guard_configuration newest;
    struct store *store = replica->store;
    const struct guard_view view = replica_view(replica);
    if (now_ms > replica->now_ms) replica->now_ms = now_ms;
    if (!is_leader(replica) || replica_transferring(replica)) return ERR_NOT_LEADER;
    if (replica->raft.configuration_uncommitted_index != 0) return ERR_AGAIN;
    if (!guard_w07_may_change(&view, store_term_at(store, replica->committed))) return ERR_AGAIN;
    replica_newest_members(replica, &newest);
    if (!guard_one_change(&newest, configuration)) return ERR_INVALID;
    if (!guard_w14_may_propose(&view, configuration)) return ERR_INVALID;

    struct buf payload = {0};
    guard_encode_configuration(configuration, &payload);
    replica->scratch.size = 0;
    record_encode(&(struct record){.index = view.last + 1,
                                   .term = view.term,
                                   .stamp_ms = store_last_stamp(store),
                                   .type = RECORD_CHANGE,
                                   .shard = replica->config.shard,
                                   .payload = buf_slice(&payload)},
                  &replica->scratch);
    buf_close(&payload);
    const int rv = replica_propose(replica, RECORD_CHANGE, buf_slice(&replica->scratch));
    if (rv != 0) return rv == RAFT_CANTCHANGE ? ERR_AGAIN : ERR_NOT_LEADER;
    replica_settle(replica);
    return OK;
}

/* ---- leadership transfer ------------------------------------------------------------------------- */

/* Is there a voter beside us that could lead and reads all its files? */
static bool has_sound_voter(const struct replica *replica,
                            const struct guard_configuration *members)
{
    for (uint32_t i = 0; i < members->count; i++) {
        const struct guard_member *member = &members->members[i];
        if (member->role != GUARD_VOTER || member->id == replica->config.id) continue;
        const struct peer *peer = peers_find(replica->peers, member->id);
        if (peer != NULL && peer->is_connected && !peer->recovering && !peer->damaged) return true;
    }
    return false;
}

enum err replica_transfer(struct replica *replica, uint64_t id, uint64_t now_ms)
{
    struct guard_configuration members;
    uint64_t target = 0;
    uint64_t best = 0;
    if (now_ms > replica->now_ms) replica->now_ms = now_ms;
    if (!is_leader(replica)) return ERR_NOT_LEADER;
    if (!replica_ready(replica)) return ERR_AGAIN;
    replica_newest_members(replica, &members);
    for (uint32_t i = 0; i < members.count; i++) {
        const struct guard_member *member = &members.members[i];
        if (member->role != GUARD_VOTER || member->id == replica->config.id) continue;
        if (id != 0 && member->id != id) continue;
        const struct peer *peer = peers_find(replica->peers, member->id);
        if (peer != NULL && peer->recovering) continue;
        if (peer != NULL && peer->damaged && id == 0 && has_sound_voter(replica, &members))
            continue;
        const uint64_t match = replica_match(replica, member->id);
        if (target != 0 && match <= best) continue;
        target = member->id;
        best = match;
    }
    if (target == 0) return ERR_NOT_FOUND;
    replica->transfer_to = target;
    replica->transfer_ms = replica->now_ms;
    replica->transfer_begun = false;
    return OK;
}

/* B14: the library sends its one TIMEOUT_NOW with the first answer, even when the target lags,
 * and never again. So proposals stop first, and the library is told once the target has
 * everything. */
static void advance_transfer(struct replica *replica)
{
    struct raft_event event;
    if (replica->transfer_to == 0) return;
    const uint64_t end_ms = replica->transfer_ms + replica->config.election_timeout_ms;
    const bool is_over = replica->transfer_begun && raft_transferee(&replica->raft) == 0;
    if (is_over || replica->now_ms >= end_ms) {
        /* Once TIMEOUT_NOW has left the library itself waits for its end. */
        if (raft_transferee(&replica->raft) == 0) replica->transfer_to = 0;
        return;
    }
    if (replica->transfer_begun) return;
    if (replica_match(replica, replica->transfer_to) != store_last_index(replica->store)) return;
    memset(&event, 0, sizeof event);
    event.type = RAFT_TRANSFER;
    event.transfer.server_id = replica->transfer_to;
    replica->transfer_begun = true;
    if (replica_step(replica, &event, &(struct replica_source){0}) != 0) replica->transfer_to = 0;
    replica_settle(replica);
}

bool replica_transferring(const struct replica *replica)
{
    return is_leader(replica) && replica->transfer_to != 0;
}

/* ---- the turn ------------------------------------------------------------------------------------ */

/* P7: how long the log's disk has been busy with one group, or owes it the next segment. */
static void watch_disk(struct replica *replica)
{
    const uint64_t persisted = store_persisted_index(replica->store);
    const uint64_t passed_ms = replica->now_ms - replica->write_watch_ms;
    /* That the segment has come is progress, too. */
    const bool is_starved = store_starved(replica->store);
    const bool is_same = replica->is_writing && persisted == replica->write_from &&
                         is_starved == replica->is_starved;
    replica->write_watch_ms = replica->now_ms;
    const uint64_t size = store_flushing(replica->store);
    replica->is_writing = size > 0 || is_starved;
    replica->is_starved = is_starved;
    replica->write_grace_ms = size / REPLICA_STALL_SIZE_PER_MS;
    replica->write_from = persisted;
    if (!replica->is_writing || !is_same) {
        replica->writing_ms = 0;
        return;
    }
    replica->writing_ms += passed_ms < REPLICA_STALL_STEP_MS ? passed_ms : REPLICA_STALL_STEP_MS;
    if (replica->writing_ms > REPLICA_STALL_FATAL_MS) replica->ended = ERR_IO;
}

/* The last entry that may be applied. */
static uint64_t applicable(const struct replica *replica)
{
    const uint64_t persisted = store_persisted_index(replica->store);
    return replica->committed < persisted ? replica->committed : persisted;
}

static bool has_to_apply(const struct replica *replica)
{
    return !replica->is_installing && applicable(replica) > store_applied_index(replica->store);
}

/* A little in each turn: a node that has to catch up hears the others and its clients meanwhile. */
static void apply(struct replica *replica)
{
    struct store *store = replica->store;
    /* The core calls this twice in a turn: the second time gets what the first one left. */
    uint64_t work = replica->apply_left;
    const bool is_first = work == REPLICA_APPLY_WORK;
    replica->apply_left = REPLICA_APPLY_WORK;
    if (!has_to_apply(replica)) return;
    const enum err err = store_apply_some(store, applicable(replica), is_first, &work);
    if (is_first) replica->apply_left = work;
    if (err != OK) replica->ended = err;
}

static struct readgate_ground ground_now(const struct replica *replica)
{
    return (struct readgate_ground){
        .term = replica->raft.current_term,
        .change_committed = replica->raft.configuration_committed_index,
        .change_uncommitted = replica->raft.configuration_uncommitted_index,
    };
}

/* A leader may ask for its reads: something of its term is committed, and its disk works. */
static bool may_probe(const struct replica *replica)
{
    return is_leader(replica) && !replica_is_stalled(replica) &&
           store_term_at(replica->store, replica->committed) == replica->raft.current_term;
}

static void admit_reads(struct replica *replica)
{
    struct readgate *gate = &replica->gate;
    struct guard_configuration members;
    if (!may_probe(replica)) return;
    const struct readgate_ground ground = ground_now(replica);
    const uint64_t applied = store_applied_index(replica->store);
    replica_newest_members(replica, &members);
    readgate_settle(gate, &members, replica->config.id, &ground, applied);
    if (readgate_wants(gate)) {
        readgate_launch(gate, &ground, replica->committed, replica->config.heartbeat_ms,
                        replica->now_ms);
        replica_send_probes(replica);
    } else if (readgate_is_stale(gate, &ground, replica->now_ms)) {
        readgate_relaunch(gate, &ground, replica->committed, replica->now_ms);
        replica_send_probes(replica);
    }
    /* A sole voter needs nobody's answer. */
    readgate_settle(gate, &members, replica->config.id, &ground, applied);
}

static void advance_install(struct replica *replica)
{
    const enum ship_state state = ship_turn(&replica->ship_in, replica->store, replica->peers,
                                            replica_leader(replica), replica->now_ms);
    if (state == SHIP_COMPLETE && store_install_finish(replica->store) == OK) {
        replica->stats.snapshots_installed++;
        replica->ended = ERR_AGAIN;
    } else if (state == SHIP_COMPLETE || state == SHIP_LOST) {
        store_install_abort(replica->store);
        replica->stats.snapshots_abandoned++;
        replica->ended = ERR_AGAIN;
    }
}

/* What a leader counts on: a peer that comes back with less runs on an older copy of its disk (handshake.h). Entries
 * may be cut, but only under another term, or give way to a base that ends before them. */
static void note_acknowledged(struct replica *replica)
{
    const uint64_t term = raft_current_term(&replica->raft);
    if (!is_leader(replica)) return;
    for (uint32_t i = 0; i < replica->peers->count; i++) {
        struct peer *peer = &replica->peers->list[i];
        struct peer_memory *memory = &peer->memory;
        raft_index match = 0;
        if (raft_match_index(&replica->raft, peer->identity.node_id, &match) != 0) continue;
        if (memory->ack_term != term || memory->base_term == term) memory->ack_index = 0;
        memory->ack_term = term;
        if (memory->base_term != term && match > memory->ack_index) memory->ack_index = match;
    }
}

enum err replica_turn(struct replica *replica, uint64_t now_ms)
{
    struct store *store = replica->store;
    if (now_ms > replica->now_ms) replica->now_ms = now_ms;
    if (replica->ended != OK) return replica->ended;
    replica->peers->self_nospace = store_nospace(store);
    watch_disk(replica);
    if (replica->ended == OK) replica_report_persisted(replica);
    if (replica->ended == OK && replica->now_ms >= replica->timer_ms) replica_fire_timer(replica);
    if (replica->ended == OK) advance_transfer(replica);
    /* A step above may have waited for the disk: the library must know what is applied as stored. */
    if (replica->ended == OK) replica_report_persisted(replica);
    if (replica->ended == OK) apply(replica);
    note_acknowledged(replica);
    if (replica->ended == OK) {
        replica_hold_turn(replica);
        store_turn(store, replica->now_ms);
        if (!replica->is_installing) replica_report_base(replica);
    }
    if (replica->ended == OK) admit_reads(replica);
    ship_send(&replica->ship_out, store, replica->peers, replica->now_ms);
    if (replica->ended == OK && replica->is_installing) advance_install(replica);
    if (replica->ended == OK) store_flush(store);
    return replica->ended;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t replica_deadline(const struct replica *replica)
{
    if (replica->ended != OK) return replica->now_ms;
    if (readgate_wants(&replica->gate) && may_probe(replica)) return replica->now_ms;
    if (has_to_apply(replica)) return replica->now_ms;
    uint64_t deadline = earlier(replica->timer_ms, store_deadline(replica->store));
    deadline = earlier(deadline, ship_deadline(&replica->ship_in));
    deadline = earlier(deadline, ship_send_deadline(&replica->ship_out));
    if (may_probe(replica)) deadline = earlier(deadline, readgate_deadline(&replica->gate));
    const uint64_t transfer_end_ms = replica->transfer_ms + replica->config.election_timeout_ms;
    /* Behind that it is the library that ends it, with its own timer. */
    if (replica->transfer_to != 0 && replica->now_ms < transfer_end_ms) {
        deadline = earlier(deadline, transfer_end_ms);
    }
    if (replica->is_writing) {
        deadline = earlier(deadline, replica->write_watch_ms + REPLICA_STALL_STEP_MS);
    }
    return deadline;
}

/* ---- numbers ------------------------------------------------------------------------------------- */

enum replica_role replica_role(const struct replica *replica)
{
    if (is_leader(replica)) return REPLICA_LEADER;
    return replica->raft.state == RAFT_CANDIDATE ? REPLICA_CANDIDATE : REPLICA_FOLLOWER;
}

uint64_t replica_term(const struct replica *replica)
{
    return raft_current_term(&replica->raft);
}

uint64_t replica_leader(const struct replica *replica)
{
    if (is_leader(replica)) return replica->config.id;
    if (replica->raft.state != RAFT_FOLLOWER) return 0;
    return replica->leader_term == replica->raft.current_term ? replica->leader : 0;
}

uint64_t replica_committed(const struct replica *replica)
{
    return replica->committed;
}

bool replica_ready(const struct replica *replica)
{
    const uint64_t applied = store_applied_index(replica->store);
    return is_leader(replica) &&
           store_term_at(replica->store, applied) == replica->raft.current_term;
}

bool replica_installing(const struct replica *replica)
{
    return replica->is_installing;
}

uint64_t replica_stalled_ms(const struct replica *replica)
{
    return replica->is_writing ? replica->writing_ms : 0;
}

bool replica_nospace(const struct replica *replica)
{
    struct guard_configuration members;
    uint32_t voters = 0;
    uint32_t full = 0;
    bool any = false;
    if (store_nospace(replica->store)) return true;
    /* Asked for each write, and nearly always no. */
    for (uint32_t i = 0; i < replica->peers->count; i++) any |= replica->peers->list[i].nospace;
    if (!any) return false;
    replica_newest_members(replica, &members);
    for (uint32_t i = 0; i < members.count; i++) {
        if (members.members[i].role != GUARD_VOTER) continue;
        const struct peer *peer = peers_find(replica->peers, members.members[i].id);
        voters++;
        if (peer != NULL && peer->nospace) full++;
    }
    return full > voters / 2;
}

uint64_t replica_roomier(const struct replica *replica)
{
    struct guard_configuration members;
    uint32_t voters = 0;
    uint32_t roomy = 0;
    uint64_t target = 0;
    replica_newest_members(replica, &members);
    for (uint32_t i = 0; i < members.count; i++) {
        const uint64_t id = members.members[i].id;
        if (members.members[i].role != GUARD_VOTER) continue;
        voters++;
        const struct peer *peer = peers_find(replica->peers, id);
        if (peer == NULL || !peer->is_connected || peer->nospace) continue;
        roomy++;
        if (target == 0 || replica_match(replica, id) > replica_match(replica, target)) target = id;
    }
    return roomy > voters / 2 ? target : 0;
}

uint32_t replica_members(const struct replica *replica, struct replica_member *members,
                         uint32_t max)
{
    struct guard_configuration newest;
    replica_newest_members(replica, &newest);
    const uint32_t count = newest.count < max ? newest.count : max;
    for (uint32_t i = 0; i < count; i++) {
        members[i] = (struct replica_member){
            .id = newest.members[i].id,
            .address = newest.members[i].address,
            .is_voter = newest.members[i].role == GUARD_VOTER,
        };
    }
    return count;
}

uint64_t replica_match(const struct replica *replica, uint64_t id)
{
    raft_index match = 0;
    if (!is_leader(replica)) return 0;
    if (id == replica->config.id) return store_persisted_index(replica->store);
    if (raft_match_index(&replica->raft, id, &match) != 0) return 0;
    return match;
}

void replica_recovered(struct replica *replica)
{
    replica->config.has_lost = false;
}

bool replica_has_regressed(const struct replica *replica)
{
    return is_leader(replica) && replica->regressed_term == raft_current_term(&replica->raft);
}

void replica_restart(struct replica *replica)
{
    if (replica->ended == OK) replica->ended = ERR_AGAIN;
}

uint64_t replica_read_request(struct replica *replica)
{
    return is_leader(replica) ? readgate_request(&replica->gate) : 0;
}

uint64_t replica_read_confirmed(const struct replica *replica)
{
    return replica->gate.confirmed;
}

struct replica_stats replica_stats(const struct replica *replica)
{
    struct replica_stats stats = replica->stats;
    stats.shipped_size = replica->ship_out.sent;
    return stats;
}

struct replica_stats replica_stats_sum(const struct replica_stats *past,
                                       const struct replica_stats *stats)
{
    return (struct replica_stats){
        .elections_won = past->elections_won + stats->elections_won,
        .steps_down = past->steps_down + stats->steps_down,
        .entries_submitted = past->entries_submitted + stats->entries_submitted,
        .append_sent = past->append_sent + stats->append_sent,
        .append_received = past->append_received + stats->append_received,
        .rejected_frames = past->rejected_frames + stats->rejected_frames,
        .read_rounds = past->read_rounds + stats->read_rounds,
        .snapshots_sent = past->snapshots_sent + stats->snapshots_sent,
        .snapshots_installed = past->snapshots_installed + stats->snapshots_installed,
        .snapshots_abandoned = past->snapshots_abandoned + stats->snapshots_abandoned,
        .snapshot_refusal = stats->snapshot_refusal,
        .snapshots_refused = past->snapshots_refused + stats->snapshots_refused,
        .shipped_size = past->shipped_size + stats->shipped_size,
    };
}

void replica_check(const struct replica *replica)
{
    const struct raft *raft = &replica->raft;
    const struct store *store = replica->store;
    const uint64_t applied = store_applied_index(store);
    if (replica->ended != OK) return;
    CHECK(raft->current_term == store_term(store));
    CHECK(raft->voted_for == store_voted_for(store));
    CHECK(applied <= replica->committed);
    CHECK(applied <= store_persisted_index(store));
    CHECK(replica->gate.confirmed <= replica->gate.launched);
    CHECK(replica->gate.launched <= replica->gate.requested);
    if (replica->is_installing) return;
    CHECK(replica->committed <= store_last_index(store));
    CHECK(raft->commit_index <= replica->committed);
    CHECK(raft->last_stored <= store_persisted_index(store));
    CHECK(raft->trail.offset + 1 >= store_first_index(store));
    if (raft->state == RAFT_LEADER)
        CHECK(replica->uncommitted_size <= REPLICA_UNCOMMITTED_SIZE_MAX + 2 * RECORD_SIZE_MAX);
}

void replica_set_ship_rate(struct replica *replica, uint64_t rate)
{
    replica->ship_out.rate = rate;
}
