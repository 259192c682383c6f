#include "node/recovery.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/core_parts.h"
#include "raft/replica.h"
#include "storage/ballot.h"
#include "storage/base/check.h"

#define FOLDER "shard-0000"
#define PRESENT_RETRY_MS 5000u
#define LOST_TURN_MS 10000u /* in which a node that gives its state up has said so to everybody */
#define LOST_ASK_MS 2000u
#define TIDY_MS 10u /* between two files that are removed */

static void announce(struct shard *shard)
{
    shard->peers->self_recovering = recovery_quarantined(&shard->recovery);
}

enum err recovery_load(struct shard *shard, char *message)
{
    struct recovery *recovery = &shard->recovery;
    const enum err err = quarantine_load(&recovery->quarantine, shard->disk, FOLDER,
                                         shard->storage_id, shard->peers->self.node_id,
                                         shard->peers->self.incarnation, message);
    announce(shard);
    if (err == OK && recovery_quarantined(recovery)) {
        const struct damage_fault *fault = &recovery->quarantine.fault;
        core_log(shard->core, CONFIG_WARN,
                 "QUARANTINE goes on: %s: offset %" PRIu64
                 ": %s; this node neither votes nor serves until it has the state of the others",
                 fault->file, fault->offset, fault->what);
    }
    return err;
}

/* Without its vote a node could vote twice in one term, whatever else is restored. */
static bool vote_is_sound(struct shard *shard)
{
    struct ballot_file ballot;
    struct buf unheard = {0};
    const enum err err = ballot_open(&ballot, shard->disk, FOLDER, shard->storage_id,
                                     shard->peers->self.node_id, &unheard);
    const bool is_sound = err == OK && ballot.ballot.term > 0;
    if (err == OK) ballot_close(&ballot);
    buf_close(&unheard);
    return is_sound;
}

static enum err save(struct shard *shard)
{
    return quarantine_save(&shard->recovery.quarantine, shard->disk, FOLDER, shard->storage_id,
                           shard->peers->self.node_id);
}

/* Sets everything but the vote aside; goes on where a crash interrupted it. */
static enum err make_empty(struct shard *shard)
{
    struct quarantine *quarantine = &shard->recovery.quarantine;
    enum err err = quarantine_empty(quarantine, shard->disk, FOLDER);
    if (err != OK) return err;
    quarantine->stage = QUARANTINE_RECOVERING;
    return save(shard);
}

/* Notes the loss on the disk: from here on no crash can make this node forget it. */
static enum err note(struct shard *shard, const struct damage_fault *fault)
{
    struct recovery *recovery = &shard->recovery;
    struct quarantine *quarantine = &recovery->quarantine;
    const uint32_t earlier = quarantine->stage != QUARANTINE_NONE ? quarantine->aside : 0;
    *quarantine = (struct quarantine){.stage = QUARANTINE_EMPTYING,
                                      .incarnation = shard->peers->self.incarnation,
                                      .since_ms = shard->core->wall_ms,
                                      .fault = *fault};
    recovery->is_lifted = false;
    recovery->entered_count++;
    /* A loss in the middle of a quarantine: one folder, or nobody would remove that of the earlier one. */
    const bool is_shared = earlier > 0 && !shard->config->keep_damaged;
    enum err err = OK;
    if (is_shared) quarantine->aside = earlier;
    if (!is_shared) err = quarantine_choose(quarantine, shard->disk, FOLDER);
    if (err == OK) err = save(shard);
    announce(shard);
    if (err != OK) return err;
    core_log(shard->core, CONFIG_ERROR,
             "QUARANTINE: %s: offset %" PRIu64
             ": %s; this node neither votes nor serves until it has the state of the others; its "
             "files are set aside in " FOLDER "/aside-%u",
             fault->file, fault->offset, fault->what, quarantine->aside);
    return OK;
}

void recovery_enter(struct shard *shard, const struct damage_fault *fault, uint64_t now_ms)
{
    if (recovery_quarantined(&shard->recovery)) return;
    if (shard->member_count < 2) {
        fatal(EXIT_BAD_DATA, "%s: %s; there is no other member to take it from", fault->file,
              fault->what);
    }
    enum err err = core_renew(shard->core);
    if (err == OK) err = note(shard, fault);
    if (err != OK) fatal(EXIT_DISK, FOLDER "/QUARANTINE: cannot be written: %s", err_name(err));
    shard->recovery.handover_ms = now_ms;
    replica_restart(shard->replica);
}

enum err recovery_open_store(struct shard *shard, bool may_recover, char *message)
{
    struct recovery *recovery = &shard->recovery;
    struct damage_fault fault = {0};
    enum err err = OK;
    if (recovery->quarantine.stage == QUARANTINE_EMPTYING) err = make_empty(shard);
    if (err == OK) err = shard_open_store(shard, &fault, message);
    const bool is_loss = (err == ERR_CORRUPT || err == ERR_IO) &&
                         (fault.kind == DAMAGE_STATE || fault.kind == DAMAGE_LOG);
    if (!is_loss || !may_recover || !vote_is_sound(shard)) return err;
    const bool is_start = !recovery->is_running && recovery->quarantine.stage == QUARANTINE_NONE;
    if (is_start && fault.kind == DAMAGE_LOG && regain_begin(shard, &fault, shard->core->now_ms)) {
        message[0] = 0;
        return ERR_AGAIN;
    }
    /* A PRESENT that was meant for an earlier quarantine of this incarnation must not end this one. */
    err = recovery->is_running ? core_renew(shard->core) : OK;
    if (err == OK) err = note(shard, &fault);
    if (err == OK) err = make_empty(shard);
    if (err == OK) err = shard_open_store(shard, &fault, message);
    return err;
}

/* ---- the end of a quarantine ------------------------------------------------------------------------- */

static void lift(struct shard *shard)
{
    struct recovery *recovery = &shard->recovery;
    recovery->is_lifted = true;
    announce(shard);
    replica_recovered(shard->replica);
    core_log(shard->core, CONFIG_INFO,
             "the quarantine is over: the state of the others is here up to index %" PRIu64,
             store_applied_index(shard->store));
}

/* What was set aside is removed file by file, and the note about the loss last: a crash before repeats the end. */
static void tidy(struct shard *shard, uint64_t now_ms)
{
    struct quarantine *quarantine = &shard->recovery.quarantine;
    const uint32_t at_once = 1;
    if (now_ms < shard->recovery.tidy_ms) return;
    shard->recovery.tidy_ms = now_ms + TIDY_MS;
    if (!shard->config->keep_damaged &&
        !quarantine_discard(quarantine, shard->disk, FOLDER, at_once)) {
        return;
    }
    const enum err err = quarantine_lift(quarantine, shard->disk, FOLDER);
    if (err != OK) fatal(EXIT_DISK, FOLDER "/QUARANTINE: cannot be removed: %s", err_name(err));
    shard->recovery.is_lifted = false;
}

static void advance_own(struct shard *shard, uint64_t now_ms)
{
    struct recovery *recovery = &shard->recovery;
    if (recovery->is_lifted) {
        tidy(shard, now_ms);
        return;
    }
    if (!recovery_quarantined(recovery) || replica_installing(shard->replica)) return;
    const uint64_t known = store_present(shard->store, shard->peers->self.node_id);
    if (known >= recovery->quarantine.incarnation) lift(shard);
}

/* ---- a loss that a running node finds ---------------------------------------------------------------- */

/* Would the others do without this node? One of them leads, and a majority of all is sound. */
static bool is_dispensable(const struct shard *shard)
{
    const uint64_t leader = replica_leader(shard->replica);
    uint32_t sound = 0;
    if (leader == 0 || leader == shard->peers->self.node_id) return false;
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        const struct peer *peer = &shard->peers->list[i];
        sound += peer->is_connected && !peer->recovering;
    }
    const uint32_t members = shard->peers->count + 1;
    return members == 2 ? sound == 1 : 2 * sound > members;
}

/* Nodes that may think the same at this moment, and go first. */
static uint64_t damaged_before(const struct shard *shard)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        const struct peer *peer = &shard->peers->list[i];
        count += peer->damaged && peer->identity.node_id < shard->peers->self.node_id;
    }
    return count;
}

/* Every frame says whether its sender is sound, but two followers have little to say to each other: the question for a
 * record is answered by everybody. */
static void ask_how_they_are(struct shard *shard, uint64_t now_ms)
{
    struct buf body = {0};
    if (now_ms < shard->recovery.lost_ask_ms) return;
    shard->recovery.lost_ask_ms = now_ms + LOST_ASK_MS;
    buf_u64(&body, 1);
    buf_u64(&body, 1);
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        struct peer *peer = &shard->peers->list[i];
        if (!peer->is_connected) continue;
        (void)peer_send(shard->peers, peer, WIRE_RECORDS_WANT, buf_slice(&body));
    }
    buf_close(&body);
}

/* What a start would begin a quarantine for. While the node runs it still serves what it can, so it waits until that
 * costs the cluster nothing. */
static void give_up_lost(struct shard *shard, uint64_t now_ms)
{
    struct recovery *recovery = &shard->recovery;
    struct damage_fault fault = {0};
    const bool is_away = recovery_quarantined(recovery) || replica_installing(shard->replica);
    const bool is_lost = !is_away && shard->peers->count > 0 && shard->peers->self_damaged &&
                         store_lost(shard->store, &fault);
    if (is_lost) ask_how_they_are(shard, now_ms);
    if (!is_lost || !is_dispensable(shard)) {
        recovery->lost_ms = 0;
        return;
    }
    if (recovery->lost_ms == 0) recovery->lost_ms = now_ms;
    if (now_ms - recovery->lost_ms < (1 + damaged_before(shard)) * LOST_TURN_MS) return;
    recovery->lost_ms = 0;
    recovery_enter(shard, &fault, now_ms);
}

/* ---- what a leader does for others ------------------------------------------------------------------- */

static void propose_present(struct shard *shard, const struct peer *peer, uint64_t now_ms)
{
    struct buf record = {0};
    uint64_t index = 0;
    (void)buf_extend(&record, RECORD_HEADER_SIZE);
    effect_encode_numbers(EFFECT_PRESENT, peer->identity.node_id, peer->identity.incarnation,
                          &record);
    const enum err err = replica_submit(shard->replica, &record, false, shard->clock_ms, now_ms,
                                        &index);
    buf_close(&record);
    if (err != OK) return; /* Again in a later turn. */
    const uint64_t place = (uint64_t)(peer - shard->peers->list);
    shard->recovery.present[place].term = replica_term(shard->replica);
    shard->recovery.present[place].incarnation = peer->identity.incarnation;
    shard->recovery.present[place].ms = now_ms;
    core_log(shard->core, CONFIG_WARN,
             "%s has lost part of its state and recovers: entry %" PRIu64 " will end that",
             peer->identity.name, index);
}

static void advance_others(struct shard *shard, uint64_t now_ms)
{
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        const struct peer *peer = &shard->peers->list[i];
        if (!peer->recovering || !peer->is_connected) continue;
        const bool is_said = shard->recovery.present[i].term == replica_term(shard->replica) &&
                             shard->recovery.present[i].incarnation == peer->identity.incarnation &&
                             now_ms - shard->recovery.present[i].ms < PRESENT_RETRY_MS;
        if (!is_said) propose_present(shard, peer, now_ms);
    }
}

/* Is there somebody to hand leadership to? @sound: who has nothing to repair. */
static bool has_heir(const struct shard *shard, bool sound)
{
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        const struct peer *peer = &shard->peers->list[i];
        if (peer->is_connected && !peer->recovering && !(sound && peer->damaged)) return true;
    }
    return false;
}

static bool any_recovers(const struct shard *shard)
{
    for (uint32_t i = 0; i < shard->peers->count; i++) {
        if (shard->peers->list[i].recovering && shard->peers->list[i].is_connected) return true;
    }
    return false;
}

/* A leader that should not lead lets another one do it. */
static void give_way(struct shard *shard, uint64_t now_ms)
{
    struct recovery *recovery = &shard->recovery;
    const bool is_deaf = replica_has_regressed(shard->replica) && any_recovers(shard);
    const bool is_damaged = shard->peers->self_damaged;
    if (now_ms < recovery->handover_ms || (!is_deaf && !is_damaged)) return;
    recovery->handover_ms = now_ms + 5 * shard->config->election_timeout_ms;
    if (is_deaf && has_heir(shard, false)) {
        core_log(shard->core, CONFIG_INFO,
                 "leadership is handed over, so that a node that lost its state is heard again");
        shard_want_transfer(shard, 0, now_ms);
    } else if (is_deaf && shard->peers->count == 1) {
        /* Of two voters the other one may be voted for, so there will be a leader: this node, in a new term. */
        replica_restart(shard->replica);
    } else if (is_damaged && has_heir(shard, true)) {
        shard_want_transfer(shard, 0, now_ms);
    }
}

/* ---- the turn ---------------------------------------------------------------------------------------- */

void recovery_turn(struct shard *shard, uint64_t now_ms)
{
    const struct damage *damage = store_damage(shard->store);
    if (shard->peers->self_damaged && damage->count == 0 && damage->repaired_count > 0) {
        core_log(shard->core, CONFIG_INFO, "all damaged files are repaired");
    }
    shard->peers->self_damaged = damage->count > 0;
    advance_own(shard, now_ms);
    give_up_lost(shard, now_ms);
    if (!shard_ready(shard)) return;
    advance_others(shard, now_ms);
    give_way(shard, now_ms);
}

uint64_t recovery_deadline(const struct shard *shard)
{
    if (shard->recovery.is_lifted) return shard->recovery.tidy_ms;
    return shard->recovery.lost_ms > 0 ? shard->recovery.lost_ask_ms : UINT64_MAX;
}

void recovery_describe(const struct shard *shard, char *text, uint64_t size)
{
    const struct quarantine *quarantine = &shard->recovery.quarantine;
    const struct damage *damage = store_damage(shard->store);
    const uint64_t since_ms = quarantine->since_ms;
    const uint64_t wall_ms = shard->core->wall_ms;
    text[0] = 0;
    if (recovery_quarantined(&shard->recovery)) {
        (void)snprintf(text, size,
                       "quarantined: %s: offset %" PRIu64 ": %s; for %" PRIu64
                       " s; recovered up to index %" PRIu64 "; its files are in " FOLDER
                       "/aside-%u",
                       quarantine->fault.file, quarantine->fault.offset, quarantine->fault.what,
                       wall_ms > since_ms ? (wall_ms - since_ms) / 1000 : 0,
                       store_applied_index(shard->store), quarantine->aside);
    } else if (damage->count > 0) {
        const struct damage_spot *first = &damage->spots[0];
        (void)snprintf(text, size,
                       "damaged: file %08u: offset %" PRIu64 ": %" PRIu64 " bytes; ranges: %u",
                       first->file, first->offset, first->size, damage->count);
    }
}
