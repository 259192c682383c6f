#include "raft/readgate.h"

#define PATIENCE_DOUBLINGS_MS_MAX 10000u

uint64_t readgate_request(struct readgate *gate)
{
    CHECK(gate->confirmed <= gate->launched);
    gate->requested = gate->launched + 1;
    return gate->requested;
}

bool readgate_wants(const struct readgate *gate)
{
    return gate->requested > gate->launched && !gate->is_flying;
}

static void record(struct readgate *gate, const struct readgate_ground *ground, uint64_t committed,
                   uint64_t now_ms)
{
    gate->round++;
    gate->ground = *ground;
    gate->committed = committed;
    gate->sent_ms = now_ms;
    gate->answered_count = 0;
    gate->round_count++;
}

void readgate_launch(struct readgate *gate, const struct readgate_ground *ground,
                     uint64_t committed, uint64_t heartbeat_ms, uint64_t now_ms)
{
    CHECK(readgate_wants(gate));
    gate->launched = gate->requested;
    gate->is_flying = true;
    gate->patience_ms = heartbeat_ms;
    record(gate, ground, committed, now_ms);
}

static bool same_ground(const struct readgate_ground *a, const struct readgate_ground *b)
{
    return a->term == b->term && a->change_committed == b->change_committed &&
           a->change_uncommitted == b->change_uncommitted;
}

bool readgate_is_stale(const struct readgate *gate, const struct readgate_ground *ground,
                       uint64_t now_ms)
{
    if (!gate->is_flying) return false;
    return !same_ground(&gate->ground, ground) || now_ms >= readgate_deadline(gate);
}

/* Answers to the old name do not count any more, so a link slower than the patience must not be
 * asked again and again: it doubles. */
void readgate_relaunch(struct readgate *gate, const struct readgate_ground *ground,
                       uint64_t committed, uint64_t now_ms)
{
    CHECK(gate->is_flying);
    if (gate->patience_ms < PATIENCE_DOUBLINGS_MS_MAX) gate->patience_ms *= 2;
    record(gate, ground, committed, now_ms);
}

static bool has_answered(const struct readgate *gate, uint64_t id)
{
    for (uint32_t i = 0; i < gate->answered_count; i++) {
        if (gate->answered[i] == id) return true;
    }
    return false;
}

void readgate_answer(struct readgate *gate, uint64_t from, uint64_t term, uint64_t round)
{
    if (!gate->is_flying || round != gate->round || term != gate->ground.term) return;
    if (has_answered(gate, from) || gate->answered_count == GUARD_MEMBERS_MAX) return;
    gate->answered[gate->answered_count++] = from;
}

void readgate_settle(struct readgate *gate, const struct guard_configuration *members,
                     uint64_t self, const struct readgate_ground *ground, uint64_t applied)
{
    uint32_t voters = 0;
    uint32_t agreed = 0;
    if (!gate->is_flying || !same_ground(&gate->ground, ground)) return;
    for (uint32_t i = 0; i < members->count; i++) {
        if (members->members[i].role != GUARD_VOTER) continue;
        voters++;
        const uint64_t id = members->members[i].id;
        if (id == self || has_answered(gate, id)) agreed++;
    }
    if (agreed <= voters / 2 || applied < gate->committed) return;
    gate->is_flying = false;
    gate->confirmed = gate->launched;
}

void readgate_void(struct readgate *gate)
{
    gate->is_flying = false;
    gate->launched = gate->requested;
}

uint64_t readgate_deadline(const struct readgate *gate)
{
    return gate->is_flying ? gate->sent_ms + gate->patience_ms : UINT64_MAX;
}

void readgate_encode(uint64_t term, uint64_t round, struct buf *out)
{
    buf_u64(out, term);
    buf_u64(out, round);
}

void readgate_encode_result(uint64_t term, uint64_t round, bool is_ok, struct buf *out)
{
    buf_u64(out, term);
    buf_u64(out, round);
    buf_u64(out, is_ok ? 1 : 0);
}

enum err readgate_decode(struct slice body, uint64_t *term, uint64_t *round)
{
    struct reader reader = reader_of(body);
    *term = reader_u64(&reader);
    *round = reader_u64(&reader);
    return reader.bad || reader.at != reader.end ? ERR_CORRUPT : OK;
}

enum err readgate_decode_result(struct slice body, uint64_t *term, uint64_t *round, bool *is_ok)
{
    struct reader reader = reader_of(body);
    *term = reader_u64(&reader);
    *round = reader_u64(&reader);
    const uint64_t ok = reader_u64(&reader);
    *is_ok = ok == 1;
    return reader.bad || reader.at != reader.end || ok > 1 ? ERR_CORRUPT : OK;
}
