#include "node/audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/core_parts.h"
#include "raft/replica.h"

#define ASK_SIZE 24u
#define TELL_SIZE 32u
#define ANSWER_MS 5000u       /* for an answer; */
#define ANSWER_FULL_MS 60000u /* for one that needs a recount */
#define ENTRIES_MAX 10000u    /* entries after which the next round begins early */
#define SLICE_MS 20u          /* between two slices of a recount that nobody waits for */
#define SLICE_MAX 4000u       /* entries in one slice */
#define SLICE_MIN 200u

void audit_void(struct audit *audit)
{
    audit->round.is_running = false;
    audit->is_counting = false;
    audit->counted = AUDIT_UNCOUNTED;
    audit->check_seen = 0;
    for (uint32_t i = 0; i < PEERS_MAX; i++) audit->asked[i].is_open = false;
}

/* ---- recount ------------------------------------------------------------------------------------------ */

static void count_begin(struct shard *shard, bool is_urgent, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    /* What somebody asks for is counted from now on, not from some time before. */
    if (audit->is_counting && !is_urgent) return;
    if (is_urgent) audit->is_urgent = true;
    keydir_rehash_begin(store_keys(shard->store));
    audit->is_counting = true;
    audit->count_ms = now_ms;
}

/* So many keys at once that all of them are looked at within one interval, as far as that costs little. */
static uint64_t slice_of_keys(const struct shard *shard)
{
    const uint64_t slices = shard->config->check_interval_ms / SLICE_MS + 1;
    const uint64_t count = keydir_count(store_keys(shard->store)) / slices;
    if (shard->audit.is_urgent || count > SLICE_MAX) return SLICE_MAX;
    return count < SLICE_MIN ? SLICE_MIN : count;
}

static void count_on(struct shard *shard, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    uint64_t hash = 0;
    if (!audit->is_counting || now_ms < audit->count_ms) return;
    audit->count_ms = now_ms + (audit->is_urgent ? 1 : SLICE_MS);
    struct keydir *keys = store_keys(shard->store);
    if (!keydir_rehash(keys, slice_of_keys(shard), &hash)) return;
    audit->is_counting = false;
    audit->is_urgent = false;
    audit->counted = hash == keydir_hash(keys) ? AUDIT_RIGHT : AUDIT_WRONG;
    audit->counted_ms = now_ms;
    audit->counts++;
}

/* ---- what is asked of us ------------------------------------------------------------------------------- */

static void tell(struct shard *shard, struct peer *peer, uint64_t round, uint64_t index,
                 uint8_t recount)
{
    uint8_t body[TELL_SIZE] = {0};
    uint64_t hash = 0;
    const bool is_known = store_hash_at(shard->store, index, &hash);
    put_u64(body, round);
    put_u64(body + 8, index);
    put_u64(body + 16, hash);
    body[24] = is_known ? 1 : 0;
    body[25] = recount;
    (void)peer_send(shard->peers, peer, WIRE_CHECK_TELL, slice_of(body, sizeof body));
}

static void answer(struct shard *shard, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        if (!audit->asked[i].is_open) continue;
        if (now_ms - audit->asked[i].ms > ANSWER_FULL_MS) {
            audit->asked[i].is_open = false;
            continue;
        }
        if (store_applied_index(shard->store) < audit->asked[i].index) continue;
        if (audit->asked[i].is_full && audit->counts == audit->asked[i].counts) continue;
        audit->asked[i].is_open = false;
        tell(shard, &shard->peers->list[i], audit->asked[i].round, audit->asked[i].index,
             audit->counted);
    }
}

/* ---- the leader's round -------------------------------------------------------------------------------- */

bool audit_begin(struct shard *shard, bool is_full, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    struct audit_round *round = &audit->round;
    uint8_t body[ASK_SIZE] = {0};
    if (round->is_running) return false;
    *round = (struct audit_round){.number = round->number + 1,
                                  .index = store_applied_index(shard->store),
                                  .started_ms = now_ms,
                                  .counts = audit->counts,
                                  .is_running = true,
                                  .is_full = is_full,
                                  .count = shard->peers->count + 1};
    put_u64(body, round->number);
    put_u64(body + 8, round->index);
    body[16] = is_full ? 1 : 0;
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        struct peer *peer = &shard->peers->list[i];
        round->answers[i].node_id = peer->identity.node_id;
        round->answers[i].is_asked = !peer->recovering &&
                                     peer_send(shard->peers, peer, WIRE_CHECK_ASK,
                                               slice_of(body, sizeof body));
    }
    round->answers[shard->peers->count] = (struct audit_answer){
        .node_id = shard->peers->self.node_id, .is_asked = true};
    if (is_full) count_begin(shard, true, now_ms);
    audit->rounds_total++;
    return true;
}

static void answer_self(struct shard *shard)
{
    struct audit_round *round = &shard->audit.round;
    struct audit_answer *own = &round->answers[round->count - 1];
    const bool is_counted = shard->audit.counts > round->counts;
    if (own->is_here || (round->is_full && !is_counted)) return;
    own->is_here = true;
    own->is_known = store_hash_at(shard->store, round->index, &own->hash);
    own->recount = shard->audit.counted;
}

/* The hash that more than half of all nodes gave. */
static void find_majority(struct audit_round *round)
{
    for (uint32_t i = 0; i < round->count; i++) {
        uint32_t same = 0;
        for (uint32_t k = 0; k < round->count; k++) {
            const struct audit_answer *other = &round->answers[k];
            if (other->is_known && other->hash == round->answers[i].hash) same++;
        }
        if (!round->answers[i].is_known || same <= round->count / 2) continue;
        round->has_majority = true;
        round->hash = round->answers[i].hash;
    }
}

static void propose_check(struct shard *shard, uint64_t now_ms)
{
    struct buf record = {0};
    uint64_t index = 0;
    (void)buf_extend(&record, RECORD_HEADER_SIZE);
    effect_encode_numbers(EFFECT_CHECK, shard->audit.round.index, shard->audit.round.hash, &record);
    const enum err err = replica_submit(shard->replica, &record, false, shard->clock_ms, now_ms,
                                        &index);
    buf_close(&record);
    if (err != OK) shard->audit.next_ms = now_ms; /* The next round says it again. */
}

static void judge(struct shard *shard, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    struct audit_round *round = &audit->round;
    const struct audit_answer *own = &round->answers[round->count - 1];
    round->is_running = false;
    find_majority(round);
    const uint64_t expected = round->has_majority ? round->hash : own->hash;
    bool is_hash = false;
    for (uint32_t i = 0; i < round->count; i++) {
        const struct audit_answer *one = &round->answers[i];
        const bool differs = one->is_known && one->hash != expected;
        if (!one->is_known) round->unanswered++;
        if (differs || one->recount == AUDIT_WRONG) round->different++;
        if (!differs) continue;
        is_hash = true;
        core_log(shard->core, CONFIG_ERROR,
                 "STATES DIFFER: %s has state hash %016" PRIx64 " at index %" PRIu64
                 ", %s %016" PRIx64,
                 core_node_name(shard->core, one->node_id), one->hash, round->index,
                 round->has_majority ? "the majority" : "this node, without a majority,", expected);
    }
    if (!is_hash) return;
    if (round->has_majority) propose_check(shard, now_ms);
}

static void advance_round(struct shard *shard, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    struct audit_round *round = &audit->round;
    const uint64_t applied = store_applied_index(shard->store);
    if (!shard_ready(shard)) {
        round->is_running = false;
        audit->next_ms = now_ms + shard->config->check_interval_ms;
        return;
    }
    if (round->is_running) {
        bool is_complete = true;
        answer_self(shard);
        for (uint32_t i = 0; i < round->count; i++) {
            if (round->answers[i].is_asked && !round->answers[i].is_here) is_complete = false;
        }
        const uint64_t patience = round->is_full ? ANSWER_FULL_MS : ANSWER_MS;
        if (is_complete || now_ms - round->started_ms >= patience) judge(shard, now_ms);
        return;
    }
    if (shard->config->check_interval_ms == 0 || shard->peers->count == 0) return;
    const bool is_due = now_ms >= audit->next_ms || applied - audit->last_index >= ENTRIES_MAX;
    if (!is_due) return;
    audit->next_ms = now_ms + shard->config->check_interval_ms;
    if (applied == audit->last_index) return; /* Nothing happened since: nobody is troubled. */
    audit->last_index = applied;
    (void)audit_begin(shard, false, now_ms);
}

/* ---- what follows --------------------------------------------------------------------------------------- */

/* A CHECK was applied: is what we had at that index what most nodes had? */
static void look_at_check(struct shard *shard, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    struct damage_fault fault;
    char what[DAMAGE_WHAT_SIZE];
    const struct witness_check check = store_checked(shard->store);
    if (check.entry_index == 0 || check.entry_index == audit->check_seen) return;
    audit->check_seen = check.entry_index;
    audit->differences_total++;
    const bool is_other = check.is_known && check.own_hash != check.hash;
    core_log(shard->core, CONFIG_ERROR,
             "STATES DIFFER: at index %" PRIu64 " not all nodes had the same keys; this node is %s",
             check.index,
             is_other ? "one that differs"
                      : (check.is_known ? "not one of them" : "too new to tell"));
    if (!is_other) return;
    (void)snprintf(what, sizeof what,
                   "the keys differ from those of the majority at index %" PRIu64 ": state hash "
                   "%016" PRIx64 ", not %016" PRIx64,
                   check.index, check.own_hash, check.hash);
    damage_fault_set(&fault, DAMAGE_STATE, "memory", 0, what);
    recovery_enter(shard, &fault, now_ms);
}

static void look_at_count(struct shard *shard, uint64_t now_ms)
{
    struct damage_fault fault;
    if (shard->audit.counted != AUDIT_WRONG) return;
    shard->audit.differences_total++;
    damage_fault_set(&fault, DAMAGE_STATE, "memory", 0,
                     "the keys in memory are not what was put there: look at the machine's memory");
    recovery_enter(shard, &fault, now_ms);
}

void audit_turn(struct shard *shard, uint64_t now_ms)
{
    struct audit *audit = &shard->audit;
    if (recovery_quarantined(&shard->recovery) || replica_installing(shard->replica)) return;
    if (!audit->is_counting && shard->config->check_interval_ms > 0 &&
        now_ms - audit->counted_ms >= shard->config->check_interval_ms) {
        count_begin(shard, false, now_ms);
    }
    count_on(shard, now_ms);
    answer(shard, now_ms);
    advance_round(shard, now_ms);
    look_at_check(shard, now_ms);
    look_at_count(shard, now_ms);
}

uint64_t audit_deadline(const struct shard *shard)
{
    const struct audit *audit = &shard->audit;
    uint64_t deadline = UINT64_MAX;
    if (recovery_quarantined(&shard->recovery) || replica_installing(shard->replica)) {
        return deadline;
    }
    const uint64_t interval = shard->config->check_interval_ms;
    if (audit->is_counting) {
        deadline = audit->count_ms;
    } else if (interval > 0) {
        deadline = audit->counted_ms + interval;
    }
    const uint64_t patience = audit->round.is_full ? ANSWER_FULL_MS : ANSWER_MS;
    const uint64_t round = audit->round.is_running ? audit->round.started_ms + patience
                           : shard_ready(shard) && interval > 0 && shard->peers->count > 0
                               ? audit->next_ms
                               : UINT64_MAX;
    return round < deadline ? round : deadline;
}

/* ---- frames --------------------------------------------------------------------------------------------- */

static enum err receive_ask(struct shard *shard, const struct peer *peer, struct slice body,
                            uint64_t now_ms)
{
    const uint64_t place = (uint64_t)(peer - shard->peers->list);
    if (body.size != ASK_SIZE || body.data[16] > 1) return ERR_CORRUPT;
    for (uint32_t i = 17; i < ASK_SIZE; i++) {
        if (body.data[i] != 0) return ERR_CORRUPT;
    }
    shard->audit.asked[place].is_open = true;
    shard->audit.asked[place].round = get_u64(body.data);
    shard->audit.asked[place].index = get_u64(body.data + 8);
    shard->audit.asked[place].is_full = body.data[16] == 1;
    shard->audit.asked[place].counts = shard->audit.counts;
    shard->audit.asked[place].ms = now_ms;
    if (shard->audit.asked[place].is_full) count_begin(shard, true, now_ms);
    return OK;
}

static enum err receive_tell(struct shard *shard, uint64_t from, struct slice body)
{
    struct audit_round *round = &shard->audit.round;
    if (body.size != TELL_SIZE || body.data[24] > 1 || body.data[25] > AUDIT_WRONG) {
        return ERR_CORRUPT;
    }
    for (uint32_t i = 26; i < TELL_SIZE; i++) {
        if (body.data[i] != 0) return ERR_CORRUPT;
    }
    if (!round->is_running || get_u64(body.data) != round->number) return OK;
    if (get_u64(body.data + 8) != round->index) return OK;
    for (uint32_t i = 0; i < round->count; i++) {
        struct audit_answer *one = &round->answers[i];
        if (one->node_id != from || one->is_here) continue;
        one->is_here = true;
        one->hash = get_u64(body.data + 16);
        one->is_known = body.data[24] == 1;
        one->recount = body.data[25];
    }
    return OK;
}

enum err audit_receive(struct shard *shard, const struct wire_frame *frame, uint64_t now_ms)
{
    const struct peer *peer = peers_find(shard->peers, frame->from);
    if (peer == NULL) return ERR_CORRUPT;
    if (frame->type == WIRE_CHECK_ASK) return receive_ask(shard, peer, frame->body, now_ms);
    return receive_tell(shard, frame->from, frame->body);
}
