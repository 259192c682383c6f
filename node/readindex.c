#include "node/readindex.h"

#include "node/core_parts.h"
#include "storage/base/check.h"

#define ASK_SIZE 8u
#define TELL_SIZE 24u
#define RETRY_MS 10u          /* after a node said that it does not lead */
#define EXPIRED_LOOK_MAX 100u /* keys looked at for one whose delete can be proposed */

/* ---- tickets ------------------------------------------------------------------------------------------- */

uint64_t readindex_want(struct core *core)
{
    struct readindex *reads = &core->readindex;
    if (reads->wanted == reads->launched) {
        reads->wanted++;
        reads->wanted_ms = core->now_ms;
    }
    return reads->wanted;
}

enum readindex_state readindex_get(const struct core *core, uint64_t ticket, uint64_t *index)
{
    const struct readindex *reads = &core->readindex;
    CHECK(ticket > 0);
    CHECK(ticket <= reads->wanted);
    *index = reads->index;
    if (ticket <= reads->confirmed) return READINDEX_OK;
    return ticket <= reads->failed ? READINDEX_FAILED : READINDEX_WAITS;
}

enum readindex_state readindex_ready(struct core *core, struct readindex_wait *wait)
{
    enum readindex_state state = READINDEX_WAITS;
    if (wait->ticket == 0) {
        wait->ticket = readindex_want(core);
        wait->since_ms = core->now_ms;
        return READINDEX_WAITS;
    }
    if (wait->index == 0) {
        uint64_t index = 0;
        state = readindex_get(core, wait->ticket, &index);
        if (state == READINDEX_OK) wait->index = index;
    }
    if (wait->index != 0) {
        const bool is_here = store_applied_index(core->shard.store) >= wait->index;
        state = is_here ? READINDEX_OK : READINDEX_WAITS;
    }
    const bool is_late = core->now_ms - wait->since_ms >= 2 * core->config->park_ms;
    if (state == READINDEX_WAITS && is_late) state = READINDEX_FAILED;
    if (state != READINDEX_WAITS) *wait = (struct readindex_wait){0};
    return state;
}

/* ---- the leader --------------------------------------------------------------------------------------- */

static bool is_leading(const struct core *core)
{
    const struct shard *shard = &core->shard;
    return shard->was_ready && !shard->lost && replica_ready(shard->replica) &&
           replica_term(shard->replica) == shard->term;
}

/* What a node that asks now waits for. */
static void begin(struct core *core, uint64_t *read, uint64_t *batch)
{
    struct shard *shard = &core->shard;
    *read = replica_read_request(shard->replica);
    *batch = shard_log_expiry(shard, EXPIRED_LOOK_MAX);
}

static bool is_settled(const struct core *core, uint64_t read, uint64_t batch)
{
    const struct shard *shard = &core->shard;
    return replica_read_confirmed(shard->replica) >= read && shard->batches.retired_number >= batch;
}

static bool tell(struct core *core, struct peer *peer, uint64_t number, uint64_t index, bool is_ok)
{
    uint8_t body[TELL_SIZE] = {0};
    put_u64(body, number);
    put_u64(body + 8, index);
    body[16] = is_ok ? 1 : 0;
    return peer_send(&core->peers, peer, WIRE_READ_TELL, slice_of(body, sizeof body));
}

/* Everything that was acknowledged when the question came was applied here before. */
static void answer(struct core *core)
{
    struct readindex *reads = &core->readindex;
    const bool is_valid = is_leading(core) && core->shard.term == reads->asks_term;
    for (uint32_t i = 0; i < core->peers.count; i++) {
        struct readindex_ask *ask = &reads->asks[i];
        if (ask->number == 0) continue;
        if (is_valid && !is_settled(core, ask->read, ask->batch)) continue;
        const uint64_t index = is_valid ? store_applied_index(core->shard.store) : 0;
        /* It waits until it has applied that much. */
        const uint64_t id = core->peers.list[i].identity.node_id;
        if (is_valid) replica_tell_committed(core->shard.replica, id);
        (void)tell(core, &core->peers.list[i], ask->number, index, is_valid);
        *ask = (struct readindex_ask){0};
    }
}

static enum err take_ask(struct core *core, const struct wire_frame *frame)
{
    struct readindex *reads = &core->readindex;
    if (frame->body.size != ASK_SIZE) return ERR_CORRUPT;
    const uint64_t number = get_u64(frame->body.data);
    struct peer *peer = peers_find(&core->peers, frame->from);
    if (number == 0) return ERR_CORRUPT;
    if (peer == NULL) return OK;
    if (!is_leading(core)) {
        (void)tell(core, peer, number, 0, false);
        return OK;
    }
    if (reads->asks_term != core->shard.term) answer(core); /* Those of another term: no. */
    reads->asks_term = core->shard.term;
    struct readindex_ask *ask = &reads->asks[peer - core->peers.list];
    ask->number = number;
    begin(core, &ask->read, &ask->batch);
    return OK;
}

/* ---- who asks ----------------------------------------------------------------------------------------- */

static void ask(struct core *core)
{
    struct readindex *reads = &core->readindex;
    uint8_t body[ASK_SIZE];
    reads->node = 0;
    reads->retry_ms = 0;
    if (is_leading(core)) {
        reads->node = core->identity.node_id;
        reads->term = core->shard.term;
        reads->round_count++;
        begin(core, &reads->read, &reads->batch);
        return;
    }
    const struct peer *leader = core_leader_peer(core);
    if (leader == NULL) return;
    const uint64_t first = core->identity.incarnation << 32;
    reads->number = reads->number < first ? first + 1 : reads->number + 1;
    put_u64(body, reads->number);
    struct peer *peer = peers_find(&core->peers, leader->identity.node_id);
    if (!peer_send(&core->peers, peer, WIRE_READ_ASK, slice_of(body, sizeof body))) return;
    reads->node = leader->identity.node_id;
    reads->asked_ms = core->now_ms;
    reads->round_count++;
}

static void settle(struct core *core, uint64_t index)
{
    struct readindex *reads = &core->readindex;
    reads->confirmed = reads->launched;
    if (index > reads->index) reads->index = index;
    reads->is_flying = false;
}

static enum err take_tell(struct core *core, const struct wire_frame *frame)
{
    struct readindex *reads = &core->readindex;
    const uint8_t *at = frame->body.data;
    if (frame->body.size != TELL_SIZE || at[16] > 1) return ERR_CORRUPT;
    for (uint32_t i = 17; i < TELL_SIZE; i++) {
        if (at[i] != 0) return ERR_CORRUPT;
    }
    if (at[16] == 1 && get_u64(at + 8) == 0) return ERR_CORRUPT;
    if (!reads->is_flying || reads->node != frame->from) return OK;
    if (get_u64(at) != reads->number || reads->retry_ms != 0) return OK;
    if (at[16] == 1) {
        settle(core, get_u64(at + 8));
    } else {
        reads->retry_ms = core->now_ms + RETRY_MS;
    }
    return OK;
}

/* The round under way has to be asked for again. */
static bool is_stale(const struct core *core)
{
    const struct readindex *reads = &core->readindex;
    if (reads->node == 0) return true;
    if (reads->node == core->identity.node_id) {
        return !is_leading(core) || core->shard.term != reads->term;
    }
    if (reads->retry_ms != 0) return core->now_ms >= reads->retry_ms;
    /* A frame that found its queue full is lost; the leader may be another one by now. */
    return core_leader_id(core) != reads->node ||
           core->now_ms - reads->asked_ms >= core->config->election_timeout_ms;
}

void readindex_turn(struct core *core)
{
    struct readindex *reads = &core->readindex;
    answer(core);
    if (reads->is_flying && is_stale(core)) {
        ask(core);
    } else if (reads->is_flying && reads->node == core->identity.node_id &&
               is_settled(core, reads->read, reads->batch)) {
        settle(core, store_applied_index(core->shard.store));
    }
    if (reads->is_flying && core->now_ms - reads->began_ms >= core->config->park_ms) {
        reads->failed = reads->launched;
        reads->is_flying = false;
    }
    if (reads->is_flying || reads->wanted == reads->launched) return;
    reads->launched = reads->wanted;
    reads->began_ms = reads->wanted_ms;
    reads->is_flying = true;
    ask(core);
}

uint64_t readindex_deadline(const struct core *core)
{
    const struct readindex *reads = &core->readindex;
    if (!reads->is_flying) return reads->wanted > reads->launched ? core->now_ms : UINT64_MAX;
    uint64_t deadline = reads->began_ms + core->config->park_ms;
    if (reads->node == 0 || reads->node == core->identity.node_id) return deadline;
    const uint64_t again = reads->retry_ms != 0
                               ? reads->retry_ms
                               : reads->asked_ms + core->config->election_timeout_ms;
    return again < deadline ? again : deadline;
}

enum err readindex_receive(struct core *core, const struct wire_frame *frame)
{
    return frame->type == WIRE_READ_ASK ? take_ask(core, frame) : take_tell(core, frame);
}

void readindex_lost(struct core *core, uint64_t node)
{
    struct readindex *reads = &core->readindex;
    if (reads->is_flying && reads->node == node) reads->node = 0;
    const struct peer *peer = peers_find(&core->peers, node);
    if (peer != NULL) reads->asks[peer - core->peers.list] = (struct readindex_ask){0};
}
