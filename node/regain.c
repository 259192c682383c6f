#include "node/regain.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/core_parts.h"
#include "storage/base/check.h"

#define RETRY_MS 1000u    /* before the same node is asked for the same again */
#define ROUND_MS 5000u    /* before everybody is asked for everything again */
#define GIVE_UP_MS 10000u /* without progress, while somebody leads */
#define TRIES_MAX 2u      /* in one process */
#define GIVE_SIZE (192u * KIB)
#define GIVE_QUEUE_MAX (4u * MIB) /* in a peer's queue, before more is given to it */
#define GIVE_HEAD_SIZE 32u
#define INDEX_END (UINT64_C(1) << 48)

static struct repair_config repair_config_of(const struct shard *shard)
{
    return (struct repair_config){.disk = shard->disk,
                                  .folder = "shard-0000",
                                  .cluster_id = shard->storage_id,
                                  .node_id = shard->peers->self.node_id,
                                  .shard = 0};
}

bool regain_begin(struct shard *shard, const struct damage_fault *fault, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    const struct repair_config config = repair_config_of(shard);
    struct repair_spot spot;
    if (regain->tries == TRIES_MAX || shard->peers->count == 0) return false;
    regain->tries++;
    if (repair_open(&regain->repair, &config) != OK) return false;
    regain->fault = *fault;
    regain->rounds = 0;
    regain->unwritten = 0;
    regain->write_ms = 0;
    regain->since_ms = now_ms;
    regain->round_ms = now_ms;
    regain->progress_ms = now_ms;
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        regain->peers[i] = (struct regain_peer){.state = REGAIN_UNKNOWN};
    }
    CHECK(repair_spot(regain->repair, &spot));
    core_log(shard->core, CONFIG_ERROR,
             "REPAIRING: %s: offset %" PRIu64
             ": %s; groups to rebuild: %u; the other members are asked for their records, nothing "
             "is served until then",
             fault->file, fault->offset, fault->what, spot.groups_left);
    return true;
}

void regain_close(struct regain *regain)
{
    repair_close(regain->repair);
    regain->repair = NULL;
}

/* ---- giving ------------------------------------------------------------------------------------------ */

static enum regain_state state_of(const struct shard *shard)
{
    if (regain_active(&shard->regain)) return REGAIN_REPAIRING;
    if (recovery_quarantined(&shard->recovery)) return REGAIN_QUARANTINED;
    if (shard->replica == NULL || replica_leader(shard->replica) == 0) return REGAIN_ALONE;
    return REGAIN_LED;
}

/* Appends what is here between @first and @last; returns where to go on. */
static uint64_t collect(struct shard *shard, uint64_t first, uint64_t last, struct buf *out)
{
    uint32_t count = 0;
    if (regain_active(&shard->regain)) {
        return repair_read(shard->regain.repair, first, last, GIVE_SIZE, out);
    }
    if (shard->store == NULL) return last + 1;
    const uint64_t oldest = store_first_index(shard->store);
    if (first < oldest) return oldest <= last ? oldest : last + 1;
    if (first > store_last_index(shard->store)) return last + 1;
    const uint64_t start = out->size;
    if (store_read(shard->store, first, last, GIVE_SIZE, out, &count) != OK && count == 0) {
        out->size = start;
        return first + 1; /* Damaged here, too. */
    }
    return count > 0 ? first + count : first + 1;
}

static enum err give(struct shard *shard, const struct wire_frame *frame)
{
    struct reader reader = reader_of(frame->body);
    const uint64_t first = reader_u64(&reader);
    const uint64_t last = reader_u64(&reader);
    if (reader.bad || reader.at != reader.end) return ERR_CORRUPT;
    if (first == 0 || last < first || last >= INDEX_END) return ERR_CORRUPT;
    struct peer *peer = peers_find(shard->peers, frame->from);
    if (peer == NULL || peer_queued(peer) > GIVE_QUEUE_MAX) return OK; /* It asks again. */
    if (peer_is_sending_big(peer, WIRE_RECORDS_GIVE)) return OK;       /* Likewise. */
    struct buf body = {0};
    (void)buf_extend(&body, GIVE_HEAD_SIZE);
    const uint64_t next = collect(shard, first, last, &body);
    memset(body.data, 0, GIVE_HEAD_SIZE);
    put_u64(body.data, first);
    put_u64(body.data + 8, last);
    put_u64(body.data + 16, next);
    body.data[24] = (uint8_t)state_of(shard);
    if (body.size > GIVE_HEAD_SIZE) shard->regain.given_total++;
    (void)peer_send(shard->peers, peer, WIRE_RECORDS_GIVE, buf_slice(&body));
    buf_close(&body);
    return OK;
}

/* ---- taking ------------------------------------------------------------------------------------------ */

static enum err take(struct shard *shard, const struct wire_frame *frame, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    struct reader reader = reader_of(frame->body);
    const uint64_t first = reader_u64(&reader);
    const uint64_t last = reader_u64(&reader);
    const uint64_t next = reader_u64(&reader);
    const uint64_t state = reader_u64(&reader);
    if (reader.bad || state > REGAIN_QUARANTINED) return ERR_CORRUPT;
    const struct slice records = slice_of(reader.at, (uint64_t)(reader.end - reader.at));
    const struct peer *peer = peers_find(shard->peers, frame->from);
    if (peer == NULL || !regain_active(regain)) return OK;
    const uint32_t place = (uint32_t)(peer - shard->peers->list);
    struct regain_peer *one = &regain->peers[place];
    one->state = (enum regain_state)state;
    one->state_ms = now_ms;
    uint64_t wanted_first = 0;
    uint64_t wanted_last = 0;
    if (!repair_wants(regain->repair, place, &wanted_first, &wanted_last)) return OK;
    if (first != wanted_first || last != wanted_last) return OK; /* It is for an older question. */
    one->is_waiting = false;
    if (records.size > 0 && regain->rounds == 0) regain->progress_ms = now_ms;
    return repair_give(regain->repair, place, next, records);
}

void regain_note_piece(struct shard *shard, uint64_t from, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    const struct peer *peer = peers_find(shard->peers, from);
    if (peer == NULL || !regain_active(regain)) return;
    struct regain_peer *one = &regain->peers[peer - shard->peers->list];
    if (!one->is_waiting) return;
    one->asked_ms = now_ms;
    if (regain->rounds == 0) regain->progress_ms = now_ms;
}

enum err regain_receive(struct shard *shard, const struct wire_frame *frame, uint64_t now_ms)
{
    if (frame->type == WIRE_RECORDS_WANT) return give(shard, frame);
    return take(shard, frame, now_ms);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

static bool is_fresh(const struct shard *shard, uint32_t place, uint64_t now_ms)
{
    return shard->peers->list[place].is_connected &&
           shard->regain.peers[place].state != REGAIN_UNKNOWN &&
           now_ms - shard->regain.peers[place].state_ms <= 2 * ROUND_MS;
}

static void ask(struct shard *shard, uint32_t place, uint64_t now_ms)
{
    struct regain_peer *one = &shard->regain.peers[place];
    struct peer *peer = &shard->peers->list[place];
    uint64_t first = 0;
    uint64_t last = 0;
    if (!peer->is_connected) {
        one->is_waiting = false;
        return;
    }
    if (one->is_waiting && now_ms - one->asked_ms < RETRY_MS) return;
    if (!repair_wants(shard->regain.repair, place, &first, &last)) {
        /* There may be nothing to ask for from the start. That somebody leads says only an answer. */
        if (is_fresh(shard, place, now_ms)) return;
        first = 1;
        last = 1;
    }
    struct buf body = {0};
    buf_u64(&body, first);
    buf_u64(&body, last);
    one->is_waiting = peer_send(shard->peers, peer, WIRE_RECORDS_WANT, buf_slice(&body));
    one->asked_ms = now_ms;
    buf_close(&body);
}

/* ---- the turn ---------------------------------------------------------------------------------------- */

/* Everybody is there and has been asked for everything. */
static bool is_exhausted(const struct shard *shard)
{
    uint64_t first = 0;
    uint64_t last = 0;
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        if (!shard->peers->list[i].is_connected) return false;
        if (repair_wants(shard->regain.repair, i, &first, &last)) return false;
    }
    return true;
}

/* Somebody would take us back in: a quarantine has an end. Of two nodes the sound one leads once it is elected,
 * which takes our vote (raft/guard.h). */
static bool is_led(const struct shard *shard, uint64_t now_ms)
{
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        const enum regain_state state = shard->regain.peers[i].state;
        const bool would_lead = state == REGAIN_ALONE && shard->peers->count == 1;
        if (is_fresh(shard, i, now_ms) && (state == REGAIN_LED || would_lead)) return true;
    }
    return false;
}

static void say_hopeless(struct shard *shard, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    uint32_t damaged = 1;
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        const enum regain_state state = regain->peers[i].state;
        damaged += is_fresh(shard, i, now_ms) &&
                   (state == REGAIN_REPAIRING || state == REGAIN_QUARANTINED);
    }
    if (regain->is_hopeless_said || 2 * damaged <= shard->peers->count + 1) return;
    regain->is_hopeless_said = true;
    core_log(shard->core, CONFIG_ERROR,
             "REPAIRING: %u of %u members are damaged, and nobody has the records that are missing "
             "here: nothing is served until a member comes back that has them",
             damaged, shard->peers->count + 1);
}

/* A full disk is no reason to give up what is already here. */
static enum err wait_for_space(struct shard *shard, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    if (regain->write_ms == 0) {
        core_log(shard->core, CONFIG_ERROR,
                 "REPAIRING: the disk has no space for the repaired log: free some; it is tried "
                 "again every second");
    }
    regain->write_ms = now_ms + RETRY_MS;
    return ERR_AGAIN;
}

static enum err finish(struct shard *shard, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    if (now_ms < regain->write_ms) return ERR_AGAIN;
    const enum err err = repair_write(regain->repair);
    if (err == ERR_NOSPACE) return wait_for_space(shard, now_ms);
    if (err == OK) {
        regain->repaired_total += regain->unwritten;
        core_log(shard->core, CONFIG_WARN,
                 "the damaged groups of the log are rebuilt from the records of other members: "
                 "nothing is lost, the start begins anew");
    } else {
        core_log(shard->core, CONFIG_ERROR, "the repaired log cannot be written: %s",
                 err_name(err));
        regain->tries = TRIES_MAX;
    }
    if (err == ERR_IO || err == ERR_READ_ONLY) {
        fatal(EXIT_DISK, "%s: cannot be written: %s", regain->fault.file, err_name(err));
    }
    regain_close(regain);
    return OK;
}

static enum err give_up(struct shard *shard)
{
    core_log(shard->core, CONFIG_WARN,
             "the damaged groups of the log cannot be rebuilt: the state of the others is taken");
    shard->regain.tries = TRIES_MAX;
    regain_close(&shard->regain);
    return OK;
}

enum err regain_turn(struct shard *shard, uint64_t now_ms)
{
    struct regain *regain = &shard->regain;
    struct repair_spot before = {0};
    struct repair_spot after = {0};
    (void)repair_spot(regain->repair, &before);
    if (repair_try(regain->repair) == OK) {
        regain->unwritten += before.groups_left;
        return finish(shard, now_ms);
    }
    (void)repair_spot(regain->repair, &after);
    if (after.groups_left < before.groups_left) {
        regain->repaired_total += before.groups_left - after.groups_left;
        regain->progress_ms = now_ms;
        regain->round_ms = now_ms;
        regain->rounds = 0;
    }
    const bool is_late = now_ms - regain->progress_ms >= GIVE_UP_MS;
    const bool is_over = is_exhausted(shard);
    if ((is_late || is_over) && is_led(shard, now_ms)) return give_up(shard);
    if (is_late || is_over) say_hopeless(shard, now_ms);
    if (now_ms - regain->round_ms >= ROUND_MS) {
        regain->round_ms = now_ms;
        if (now_ms - regain->progress_ms >= ROUND_MS) {
            regain->rounds++;
            repair_again(regain->repair);
        }
    }
    for (uint32_t i = 0; i < shard->peers->count; i++) ask(shard, i, now_ms);
    return ERR_AGAIN;
}

void regain_clean(struct shard *shard)
{
    const struct repair_config config = repair_config_of(shard);
    if (!shard->config->keep_damaged) repair_clean(&config);
}

void regain_describe(const struct shard *shard, char *text, uint64_t size)
{
    const struct regain *regain = &shard->regain;
    struct repair_spot spot = {0};
    text[0] = 0;
    if (!regain_active(regain) || !repair_spot(regain->repair, &spot)) return;
    (void)snprintf(text, size,
                   "repairing: %s: offset %" PRIu64 ": %s; for %" PRIu64
                   " s; groups left: %u; the records %" PRIu64 " to %" PRIu64 " are asked for%s",
                   regain->fault.file, regain->fault.offset, regain->fault.what,
                   (shard->core->now_ms - regain->since_ms) / 1000, spot.groups_left,
                   spot.first_index, spot.last_index,
                   regain->is_hopeless_said
                       ? "; nobody has them, and a majority of the members is damaged"
                       : "");
}
