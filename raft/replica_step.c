/* One raft_step() and everything its update asks for, in the order that makes it safe:
 * ballot durable, then log, then messages, then what became committed. */
#include "raft/replica_state.h"
#include "storage/store_ship.h"

struct guard_view replica_view(const struct replica *replica)
{
    const struct raft *raft = &replica->raft;
    return (struct guard_view){
        .bits = replica->config.guards,
        .self = replica->config.id,
        .term = raft->current_term,
        .leader = raft->state == RAFT_FOLLOWER ? replica_leader(replica) : 0,
        .committed = replica->committed,
        .last = store_last_index(replica->store),
        .is_leader = raft->state == RAFT_LEADER,
        .is_candidate = raft->state == RAFT_CANDIDATE,
        .is_installing = replica->is_installing,
        .is_sole_voter = replica->is_sole_voter,
        .has_lost = replica->config.has_lost,
        .is_pair = replica->config.is_pair,
        .is_refused = replica->peers->self_refused,
    };
}

void replica_newest_members(const struct replica *replica, struct guard_configuration *members)
{
    const struct raft_configuration *newest = &replica->raft.configuration;
    CHECK(newest->n <= GUARD_MEMBERS_MAX);
    members->count = newest->n;
    for (uint32_t i = 0; i < newest->n; i++) {
        members->members[i] = (struct guard_member){
            .id = newest->servers[i].id,
            .address = newest->servers[i].address,
            .role = (uint8_t)newest->servers[i].role,
        };
    }
}

bool replica_is_stalled(const struct replica *replica)
{
    return replica->is_writing &&
           replica->writing_ms > REPLICA_STALL_SILENT_MS + replica->write_grace_ms;
}

/* ---- the parts of an update, in order ------------------------------------------------------------ */

static void save_ballot(struct replica *replica)
{
    const uint64_t term = raft_current_term(&replica->raft);
    const uint64_t vote = raft_voted_for(&replica->raft);
    struct store *store = replica->store;
    if (term == store_term(store) && vote == store_voted_for(store)) return;
    /* Term and vote are one record: a term without its vote could vote twice after a restart. */
    CHECK(term >= store_term(store));
    store_save_ballot(store, term, vote);
}

/* The barrier that the library makes by itself when it becomes leader; its payload is ours to
 * free. */
static void append_library_barrier(struct replica *replica, const struct raft_update *update)
{
    CHECK(update->entries.n == 1);
    CHECK(update->entries.batch[0].type == RAFT_BARRIER);
    replica->scratch.size = 0;
    record_encode(&(struct record){.index = update->entries.index,
                                   .term = update->entries.batch[0].term,
                                   .stamp_ms = store_last_stamp(replica->store),
                                   .type = RECORD_BARRIER,
                                   .shard = replica->config.shard},
                  &replica->scratch);
    store_append(replica->store, buf_slice(&replica->scratch));
    raft_free(update->entries.batch[0].batch);
}

/* True when a change is among them. */
static bool append_entries(struct replica *replica, const struct raft_update *update,
                           const struct replica_source *source)
{
    struct store *store = replica->store;
    const struct raft_entry *batch = update->entries.batch;
    bool has_change = false;
    CHECK(!replica->is_installing);
    CHECK(update->entries.n > 0);
    CHECK(update->entries.index <= store_last_index(store) + 1);
    if (update->entries.index <= store_last_index(store)) {
        /* What is committed is never cut, whatever a peer says: the store's own check is the
         * last. */
        CHECK(update->entries.index > replica->committed);
        store_cut(store, update->entries.index);
    }
    if (source->entries == NULL) {
        append_library_barrier(replica, update);
        return false;
    }
    /* The library skips entries that it has; its batch points into the array that it was given. */
    CHECK(batch >= source->entries);
    const uint64_t skipped = (uint64_t)(batch - source->entries);
    for (uint32_t i = 0; i < update->entries.n; i++) {
        const struct message_entry *part = &source->parts[skipped + i];
        CHECK(part->term == batch[i].term);
        if (part->type == RECORD_CHANGE) has_change = true;
        if (replica->owner != NULL && update->entries.n == 1) {
            store_append_from(store, part->record, replica->owner);
        } else {
            store_append(store, part->record);
        }
        if (!source->owns_batch) {
            const uint64_t index = update->entries.index + i;
            replica->sizes[index % REPLICA_RING_COUNT] = (uint32_t)part->record.size;
            replica->uncommitted_size += part->record.size;
        }
    }
    if (source->owns_batch) raft_free(batch[0].batch);
    return has_change;
}

static void begin_install(struct replica *replica, struct raft_update *update,
                          const struct replica_source *source)
{
    CHECK(source->message != NULL);
    CHECK(source->message->type == WIRE_INSTALL);
    CHECK(update->snapshot.metadata.index == source->message->last_index);
    raft_free(update->snapshot.chunk.base);
    raft_configuration_close(&update->snapshot.metadata.configuration);
    /* The old log and base stay on disk until the new base is complete: what this replica has
     * acknowledged lives there. There is no way out of an install but a new start from the disk. */
    replica->is_installing = true;
    readgate_void(&replica->gate);
    if (store_install_begin(replica->store, source->message->manifest) != OK) {
        replica->stats.snapshots_abandoned++;
        replica->ended = ERR_AGAIN;
    }
}

/* Must the log be durable before the messages of this update leave? */
static bool must_wait(struct replica *replica, const struct raft_update *update, bool has_change)
{
    const struct guard_view view = replica_view(replica);
    if (guard_w18_waits(&view, has_change)) return true;
    if (!(update->flags & (RAFT_UPDATE_MESSAGES))) return false;
    for (uint32_t i = 0; i < update->messages.n; i++) {
        const struct raft_message *message = &update->messages.batch[i];
        if (message->type != RAFT_APPEND_ENTRIES) continue;
        const struct raft_append_entries *append = &message->append_entries;
        const uint64_t end = append->prev_log_index + append->n_entries;
        if (guard_rule_b_waits(&view, end, store_persisted_index(replica->store))) return true;
    }
    return false;
}

static void advance_commit(struct replica *replica)
{
    const uint64_t committed = raft_commit_index(&replica->raft);
    /* B3: the library's commit index can go back; what is committed stays so. While a base is being
     * installed it speaks of a log that is not here yet. */
    if (replica->is_installing || committed <= replica->committed) return;
    CHECK(committed <= store_last_index(replica->store));
    if (replica->raft.state == RAFT_LEADER) {
        uint64_t index = replica->committed + 1;
        if (index < replica->lead_from) index = replica->lead_from;
        for (; index <= committed; index++) {
            const uint32_t size = replica->sizes[index % REPLICA_RING_COUNT];
            CHECK(size <= replica->uncommitted_size);
            replica->uncommitted_size -= size;
        }
    }
    replica->committed = committed;
}

static void lead(struct replica *replica)
{
    replica->stats.elections_won++;
    replica->barrier_wanted = true;
    replica->lead_from = store_last_index(replica->store) + 1;
    replica->uncommitted_size = 0;
    memset(replica->sent, 0, sizeof replica->sent);
}

static void change_state(struct replica *replica, unsigned short before)
{
    const unsigned short after = replica->raft.state;
    if (after == before) return;
    if (before == RAFT_LEADER) {
        replica->stats.steps_down++;
        replica->barrier_wanted = false;
        replica->transfer_to = 0;
        readgate_void(&replica->gate);
    }
    if (after == RAFT_LEADER) lead(replica);
}

static bool is_benign(const struct raft_event *event, int rv)
{
    if (event->type == RAFT_TRANSFER)
        return rv == RAFT_NOTLEADER || rv == RAFT_BADID || rv == RAFT_NOTFOUND;
    if (event->type != RAFT_SUBMIT) return false;
    return rv == RAFT_NOTLEADER || rv == RAFT_NOSPACE || rv == RAFT_CANTCHANGE;
}

static void fail(struct replica *replica, const struct raft_event *event, int rv)
{
    /* While a base is being installed, what is contradicted is that base and not what we hold. */
    if (rv == RAFT_SHUTDOWN && !replica->is_installing) {
        fatal(EXIT_BAD_DATA,
              "a peer contradicts what is committed here: this node's disk or another one's is "
              "damaged; it must not serve (term %llu, committed %llu)",
              raft_current_term(&replica->raft), (unsigned long long)replica->committed);
    }
    if (rv == RAFT_NOMEM) fatal(EXIT_BUG, "out of memory in the consensus library");
    CHECK(event->type == RAFT_RECEIVE || event->type == RAFT_START);
    /* The library may be half changed: on with a new one, from the disk. A term or vote that it
     * took must not be forgotten. */
    if (event->type == RAFT_RECEIVE) save_ballot(replica);
    if (replica->ended == OK) replica->ended = ERR_AGAIN;
}

static void refresh_sole_voter(struct replica *replica)
{
    struct guard_configuration members;
    replica_newest_members(replica, &members);
    replica->is_sole_voter = guard_sole_voter(&members, replica->config.id);
}

/* The one place where the library runs. */
static int step_library(struct replica *replica, struct raft_event *event,
                        struct raft_update *update, bool votes_anyway)
{
    struct raft *raft = &replica->raft;
    if (!votes_anyway) return raft_step(raft, event, update);
    struct raft_server self = {replica->config.id, replica->address, RAFT_VOTER};
    const struct raft_configuration saved = raft->configuration;
    raft->configuration = (struct raft_configuration){&self, 1};
    const int rv = raft_step(raft, event, update);
    CHECK(raft->configuration.servers == &self);
    raft->configuration = saved;
    return rv;
}

int replica_step(struct replica *replica, struct raft_event *event,
                 const struct replica_source *source)
{
    struct raft *raft = &replica->raft;
    struct raft_update update;
    const unsigned short before = raft->state;
    bool has_change = false;
    CHECK(replica->ended == OK);
    memset(&update, 0, sizeof update);
    event->time = replica->now_ms;
    const int rv = step_library(replica, event, &update, source->votes_anyway);
    if (rv != 0) {
        if (!is_benign(event, rv)) fail(replica, event, rv);
        return rv;
    }

    save_ballot(replica);
    if (update.flags & (RAFT_UPDATE_ENTRIES)) has_change = append_entries(replica, &update, source);
    if (update.flags & (RAFT_UPDATE_SNAPSHOT)) begin_install(replica, &update, source);
    refresh_sole_voter(replica);
    /* When the disk has no room for it, appends are held back: the library repeats them. */
    const bool is_held = must_wait(replica, &update, has_change) &&
                         store_flush_wait(replica->store) != OK;
    /* Before the messages: what is said from here on must not wait behind entries that nobody needs any more. */
    if (before == RAFT_LEADER && raft->state != RAFT_LEADER) replica_drop_bigs(replica);
    if (update.flags & (RAFT_UPDATE_MESSAGES)) {
        for (uint32_t i = 0; i < update.messages.n; i++) {
            const struct raft_message *message = &update.messages.batch[i];
            if (is_held && message->type == RAFT_APPEND_ENTRIES) continue;
            replica_send(replica, message, source);
        }
    }
    change_state(replica, before);
    if (update.flags & (RAFT_UPDATE_COMMIT_INDEX)) advance_commit(replica);
    const struct guard_view view = replica_view(replica);
    replica->timer_ms = guard_w06_timer(&view, raft_timeout(raft), replica->fired_ms,
                                        replica->config.heartbeat_ms);
    return 0;
}

/* ---- what follows from a step -------------------------------------------------------------------- */

void replica_configure(struct replica *replica, uint64_t index)
{
    struct raft_event event;
    struct guard_configuration configuration;
    struct slice payload;
    uint64_t found = 0;
    CHECK(store_change_at(replica->store, index, &found, &payload));
    CHECK(found == index);
    CHECK(guard_decode_configuration(payload, &configuration) == OK);
    memset(&event, 0, sizeof event);
    event.type = RAFT_CONFIGURATION;
    event.configuration.index = index;
    replica_configuration(&configuration, &event.configuration.conf);
    CHECK(replica_step(replica, &event, &(struct replica_source){0}) == 0);
}

/* The oldest committed change that the library does not know to be committed, 0 when there is
 * none. */
static uint64_t next_change(const struct replica *replica)
{
    uint64_t oldest = 0;
    uint64_t index = 0;
    uint64_t below = replica->committed;
    struct slice payload;
    while (below > replica->configured &&
           store_change_at(replica->store, below, &index, &payload) &&
           index > replica->configured) {
        oldest = index;
        below = index - 1;
    }
    return oldest;
}

static void propose_barrier(struct replica *replica)
{
    struct store *store = replica->store;
    const struct guard_view view = replica_view(replica);
    replica->barrier_wanted = false;
    if (!guard_w07_barrier(&view, store_term_at(store, view.last))) return;
    if (raft_transferee(&replica->raft) != 0) return;
    replica->scratch.size = 0;
    record_encode(&(struct record){.index = view.last + 1,
                                   .term = view.term,
                                   .stamp_ms = store_last_stamp(store),
                                   .type = RECORD_BARRIER,
                                   .shard = replica->config.shard},
                  &replica->scratch);
    CHECK(replica_propose(replica, RECORD_BARRIER, buf_slice(&replica->scratch)) == 0);
}

void replica_settle(struct replica *replica)
{
    while (replica->ended == OK && !replica->is_installing) {
        const uint64_t change = next_change(replica);
        if (change != 0) {
            replica->configured = change;
            replica_configure(replica, change);
        } else if (replica->barrier_wanted) {
            replica->configured = replica->committed;
            propose_barrier(replica);
        } else {
            replica->configured = replica->committed;
            return;
        }
    }
}

int replica_propose(struct replica *replica, uint8_t type, struct slice record)
{
    struct raft_event event;
    struct raft_entry entry;
    struct record sealed;
    uint64_t size = 0;
    CHECK(record_decode_trusted(record, &sealed, &size) == OK);
    CHECK(sealed.index == store_last_index(replica->store) + 1);
    CHECK(sealed.term == raft_current_term(&replica->raft));
    const struct message_entry part = {
        .term = sealed.term,
        .type = type,
        .record = slice_of(record.data, size),
        .payload = sealed.payload,
    };
    memset(&entry, 0, sizeof entry);
    entry.term = sealed.term;
    entry.type = (enum raft_entry_type)type;
    entry.buf.base = (void *)(uintptr_t)sealed.payload.data;
    entry.buf.len = sealed.payload.size;
    entry.batch = entry.buf.base; /* must not be NULL; stays ours */
    memset(&event, 0, sizeof event);
    event.type = RAFT_SUBMIT;
    event.submit.entries = &entry;
    event.submit.n = 1;
    const struct replica_source source = {.entries = &entry, .parts = &part};
    return replica_step(replica, &event, &source);
}

void replica_report_persisted(struct replica *replica)
{
    struct raft_event event;
    const struct guard_view view = replica_view(replica);
    const uint64_t persisted = store_persisted_index(replica->store);
    if (!guard_w10_reports(&view, persisted, replica->raft.last_stored)) return;
    memset(&event, 0, sizeof event);
    event.type = RAFT_PERSISTED_ENTRIES;
    event.persisted_entries.index = persisted;
    CHECK(replica_step(replica, &event, &(struct replica_source){0}) == 0);
    replica_settle(replica);
}

/* A node that cannot read all of its values leaves it to the others to stand for election, for a while. */
static bool is_reluctant(const struct replica *replica)
{
    const uint64_t wait_ms = REPLICA_RELUCTANT_FACTOR * replica->config.election_timeout_ms;
    const uint64_t since_ms = replica->has_contact ? replica->contact_ms : replica->start_ms;
    return replica->peers->self_damaged && replica->raft.state == RAFT_FOLLOWER &&
           !replica->is_sole_voter && replica->now_ms - since_ms < wait_ms;
}

void replica_fire_timer(struct replica *replica)
{
    struct raft *raft = &replica->raft;
    struct raft_event event;
    const struct guard_view view = replica_view(replica);
    const bool is_due = replica->now_ms >= raft_timeout(raft);
    replica->fired_ms = replica->now_ms;
    if (replica_is_stalled(replica) && !view.is_leader) {
        /* P7: who cannot write would win an election and then serve nobody. */
        replica->timer_ms = replica->now_ms + replica->config.heartbeat_ms;
        return;
    }
    if (!view.is_leader && (!guard_loss_elects(&view) || is_reluctant(replica))) {
        replica->timer_ms = replica->now_ms + replica->config.heartbeat_ms;
        return;
    }
    if (guard_w12_new_term(&view, is_due, raft->last_stored)) {
        raft->current_term++;
        raft->voted_for = replica->config.id;
        save_ballot(replica);
    }
    memset(&event, 0, sizeof event);
    event.type = RAFT_TIMEOUT;
    CHECK(replica_step(replica, &event, &(struct replica_source){0}) == 0);
    replica_settle(replica);
}

/* The store sealed files: the library may forget what is before them. */
void replica_report_base(struct replica *replica)
{
    struct raft_event event;
    struct guard_configuration configuration;
    const struct guard_view view = replica_view(replica);
    const struct store_base base = store_base(replica->store);
    const uint64_t first = store_first_index(replica->store);
    if (!guard_w11_snapshot(&view, base.index, replica->raft.trail.snapshot.index,
                            store_applied_index(replica->store), replica->raft.last_stored)) {
        return;
    }
    CHECK(guard_decode_configuration(base.change, &configuration) == OK);
    const uint64_t trailing = first <= base.index ? base.index + 1 - first : 0;
    memset(&event, 0, sizeof event);
    event.type = RAFT_SNAPSHOT;
    event.snapshot.metadata.index = base.index;
    event.snapshot.metadata.term = base.term;
    event.snapshot.metadata.configuration_index = base.change_index;
    replica_configuration(&configuration, &event.snapshot.metadata.configuration);
    event.snapshot.trailing = trailing > UINT32_MAX ? UINT32_MAX : (unsigned)trailing;
    CHECK(replica_step(replica, &event, &(struct replica_source){0}) == 0);
    replica_settle(replica);
}
