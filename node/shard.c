#include "node/shard.h"

#include <stdio.h>

#include "node/core_parts.h"
#include "node/stream.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/store_disk.h"

#define PACK_TURN_SIZE (4u * MIB) /* values packed in one turn, beside those that are prepared */
#define LARGE_BATCH_SIZE (8u * MIB)
#define VALUE_SPARE_SIZE                                                                           \
    (16u * MIB)          /* that one command may read of values beside what may be replied */
#define REREAD_MS 60000u /* between two starts of the state because its log cannot be read */
#define SWEEP_INTERVAL_MS 100u
/* How many expired keys are deleted at once, and how soon the next ones: 50,000 a second beside clients' commands,
 * which hardly feel that; four times as many when nobody asks for anything, or when it was not enough. */
#define SWEEP_EFFECTS_GENTLE 500u
#define SWEEP_REPEAT_GENTLE_MS 10u
#define SWEEP_EFFECTS_MAX 1000u
#define SWEEP_REPEAT_MS 5u
#define SWEEP_LAG_MS 30000u
#define SWEEP_IDLE_MS 100u /* after the last command */
#define NO_ROOM_REPEAT_MS 60000u
#define FULL_RETRY_MS 5000u      /* between attempts to hand over because of a full disk */
#define BATCH_EFFECTS_SOFT 4096u /* an entry is applied as a whole, on every node */

uint64_t shard_random(struct shard *shard)
{
    return shard->random = hash64_seeded("random", 6, shard->random);
}

static enum err replica_start(struct shard *shard, uint64_t now_ms, char *message)
{
    const struct config *config = shard->config;
    const struct replica_config replica_config = {
        .id = shard->peers->self.node_id,
        .address = shard->peers->self.peer_address,
        .election_timeout_ms = config->election_timeout_ms,
        .heartbeat_ms = config->heartbeat_ms,
        .ship_rate = config->ship_rate,
        .random_seed = (uint32_t)shard_random(shard),
        .guards = GUARD_ALL,
        .has_lost = recovery_quarantined(&shard->recovery),
        .is_pair = shard->member_count == 2,
        .shard = 0,
    };
    return replica_create(&replica_config, shard->store, shard->peers, now_ms, &shard->replica,
                          message);
}

/* Two files, or two of the largest values: what was just written is not read back to be applied. */
static uint64_t tail_size(const struct config *config)
{
    const uint64_t files = 2 * config->segment_size;
    const uint64_t values = 2 * (config->max_value_size + MIB);
    return files > values ? files : values;
}

enum err shard_open_store(struct shard *shard, struct damage_fault *fault, char *message)
{
    const struct config *config = shard->config;
    const struct store_config store_config = {
        .disk = shard->disk,
        .folder = "shard-0000",
        .shard = 0,
        .cluster_id = shard->storage_id,
        .node_id = shard->peers->self.node_id,
        .hash_seed = shard->storage_id,
        .random_seed = shard_random(shard),
        .segment_size = config->segment_size,
        .retention_size = config->retention_size,
        .compaction_rate = config->compaction_rate,
        .tail_size = tail_size(config),
        .reserve_size = config->segment_size * 2 + RESERVE_REST,
        .scrub_rate = config->scrub_rate,
        .fault = fault,
    };
    return store_open(&store_config, &shard->store, message, 512);
}

enum err shard_open(struct shard *shard, const struct replica_member *members, uint32_t count,
                    bool is_begun, uint64_t now_ms, char *message)
{
    shard->member_count = count;
    enum err err = recovery_load(shard, message);
    if (err == OK) err = recovery_open_store(shard, is_begun && count > 1, message);
    if (err != OK) return err;
    const bool is_quarantined = recovery_quarantined(&shard->recovery);
    if (is_begun && (is_quarantined ? store_term(shard->store) == 0 : store_blank(shard->store))) {
        (void)snprintf(message, 512,
                       "folder shard-0000: the log and the vote of this node are gone; nothing was "
                       "changed: put the "
                       "folder back from where it went, or replace this node");
        return ERR_CORRUPT;
    }
    if (message[0] != 0) core_log(shard->core, CONFIG_WARN, "%s", message);
    message[0] = 0;
    if (store_blank(shard->store) && count > 0 && !is_quarantined) {
        struct buf record = {0};
        replica_encode_bootstrap(members, count, 0, &record);
        err = store_bootstrap(shard->store, buf_slice(&record));
        buf_close(&record);
        if (err != OK) {
            (void)snprintf(message, 512, "the first log entry could not be written: %s",
                           err_name(err));
            return err;
        }
    }
    batches_init(&shard->batches);
    fetches_init(&shard->fetches);
    regain_clean(shard);
    shard->leaderless_ms = now_ms;
    shard->audit.counted_ms = now_ms;
    shard->recovery.is_running = true;
    return replica_start(shard, now_ms, message);
}

void shard_close(struct shard *shard)
{
    if (shard->replica != NULL) replica_destroy(shard->replica);
    if (shard->store != NULL) store_close(shard->store);
    if (shard->batches.open != NULL) {
        batches_close(&shard->batches);
        fetches_close(&shard->fetches);
    }
    mender_close(&shard->mender);
    regain_close(&shard->regain);
    buf_close(&shard->packed);
    buf_close(&shard->unpacked);
    shard->replica = NULL;
    shard->store = NULL;
}

struct replica_stats shard_stats(const struct shard *shard)
{
    const struct replica_stats stats = replica_stats(shard->replica);
    return replica_stats_sum(&shard->past, &stats);
}

/* A received snapshot is the state on disk now (or its source is gone): start again from the disk. */
static enum err reopen(struct shard *shard, uint64_t now_ms, char *message)
{
    /* Their files are about to go. */
    saver_close(&shard->core->saver, shard->store);
    shard->past = shard_stats(shard);
    shard->no_room_count = 0;
    replica_destroy(shard->replica);
    shard->replica = NULL;
    store_close(shard->store);
    shard->store = NULL;
    fetches_void(&shard->fetches);
    audit_void(&shard->audit);
    mender_void(&shard->mender);
    enum err err = recovery_open_store(shard, shard->member_count > 1, message);
    if (err != OK) return err;
    message[0] = 0;
    err = replica_start(shard, now_ms, message);
    if (err != OK) return err;
    core_log(shard->core, CONFIG_INFO, "state reopened from the disk at index %llu",
             (unsigned long long)store_applied_index(shard->store));
    return OK;
}

/* Says who leads, whenever that is another node or in another term than it was. */
static void say_leader(struct shard *shard, bool is_ready, uint64_t term)
{
    const uint64_t leader = replica_leader(shard->replica);
    const bool is_own = leader == shard->core->identity.node_id;
    if (leader == 0 || (is_own && !is_ready)) return;
    if (leader == shard->said_leader && term == shard->said_term) return;
    shard->said_leader = leader;
    shard->said_term = term;
    core_log(shard->core, CONFIG_INFO, "%s%s leads (term %llu)", is_own ? "this node" : "",
             is_own ? "" : core_node_name(shard->core, leader), (unsigned long long)term);
}

/* Notices gain and loss of leadership. */
static void follow_role(struct shard *shard, uint64_t now_ms, uint64_t wall_ms)
{
    const struct replica *replica = shard->replica;
    const bool ready = replica_ready(replica);
    const uint64_t term = replica_term(replica);
    clock_saw(&shard->clock, store_last_stamp(shard->store), now_ms);
    if (shard->was_ready && (!ready || term != shard->term)) {
        shard->lost = true; /* The core resolves the replies that wait, then drops the batches. */
        shard->was_ready = false;
        shard->transfer_wanted = false;
    }
    if (ready && !shard->was_ready && !shard->lost) {
        shard->was_ready = true;
        clock_lead(&shard->clock, now_ms, wall_ms);
        shard->sweep_ms = now_ms;
    } else if (!ready) {
        clock_follow(&shard->clock, now_ms, wall_ms); /* For reads = local on a follower. */
    }
    shard->term = term;
    say_leader(shard, shard->was_ready, term);
    if (replica_leader(replica) != 0) {
        shard->leaderless_ms = 0;
    } else if (shard->leaderless_ms == 0) {
        shard->leaderless_ms = now_ms;
    }
    shard->clock_ms = clock_now(&shard->clock, now_ms, wall_ms);
}

/* Says once that the disk hangs, and once that it works again. */
static void watch_disk(struct shard *shard)
{
    const uint64_t stalled_ms = replica_stalled_ms(shard->replica);
    if (stalled_ms > REPLICA_STALL_SILENT_MS) {
        if (shard->stalled_ms == 0) {
            core_log(shard->core, CONFIG_WARN,
                     "the disk has not completed a write of the log for %u ms: this node neither "
                     "leads nor votes until it does, and ends after %u seconds; look at the disk",
                     REPLICA_STALL_SILENT_MS, REPLICA_STALL_FATAL_MS / 1000);
            shard->stall_count++;
        }
        shard->stalled_ms = stalled_ms;
    } else if (shard->stalled_ms > 0) {
        core_log(shard->core, CONFIG_WARN, "the disk works again after %llu ms",
                 (unsigned long long)shard->stalled_ms);
        shard->stalled_ms = 0;
    }
}

/* Says at most once a minute that what the leader offers does not fit. */
static void watch_room(struct shard *shard, uint64_t now_ms)
{
    const uint64_t count = replica_stats(shard->replica).snapshots_refused;
    if (count == shard->no_room_count) return;
    shard->no_room_count = count;
    if (shard->no_room_ms != 0 && now_ms < shard->no_room_ms + NO_ROOM_REPEAT_MS) return;
    shard->no_room_ms = now_ms;
    if (replica_stats(shard->replica).snapshot_refusal == ERR_EXISTS) {
        core_log(shard->core, CONFIG_ERROR,
                 "shard-0000/incoming is a file, and ought to be a folder: this node lags so far "
                 "behind that it needs the leader's whole state, and that has no place until the "
                 "file is moved away; it goes on by itself");
        return;
    }
    core_log(
        shard->core, CONFIG_WARN,
        "this node lags so far behind that it needs the leader's whole state, and its disk has no "
        "room for that beside its own: free space or give it a larger disk; it goes on by itself");
}

/* Says once that writes are refused for want of space or memory, and once that they are taken again. */
static void watch_limits(struct shard *shard)
{
    const bool is_full = store_nospace(shard->store);
    const bool is_index_full = shard_index_full(shard);
    if (is_full != shard->said_full) {
        core_log(shard->core, is_full ? CONFIG_WARN : CONFIG_INFO, "%s",
                 is_full
                     ? "the disk is full: writes other than deletes are refused with NOSPACE until "
                       "there is space again; reads and elections go on"
                     : "the disk has space again: writes are taken");
    }
    if (is_index_full != shard->said_index) {
        core_log(shard->core, is_index_full ? CONFIG_WARN : CONFIG_INFO, "%s",
                 is_index_full
                     ? "the index has reached max-index-memory: writes that may add keys are "
                       "refused with OOM until keys are deleted or the option is raised"
                     : "the index is below max-index-memory again: writes are taken");
    }
    shard->said_full = is_full;
    shard->said_index = is_index_full;
}

static enum err turn(struct shard *shard, uint64_t now_ms, char *message)
{
    enum err err = replica_turn(shard->replica, now_ms);
    const bool is_unreadable = (err == ERR_CORRUPT || err == ERR_IO) &&
                               replica_stalled_ms(shard->replica) <= REPLICA_STALL_FATAL_MS;
    if (is_unreadable && shard->member_count > 1 && now_ms >= shard->recovery.reread_ms) {
        /* A start from the disk finds out what is lost, and what can be done about it. */
        shard->recovery.reread_ms = now_ms + REREAD_MS;
        core_log(shard->core, CONFIG_ERROR,
                 "the log cannot be read back from the disk (%s): the state is opened anew",
                 err_name(err));
        err = ERR_AGAIN;
    }
    if (err == ERR_AGAIN) err = reopen(shard, now_ms, message);
    if (err == OK) watch_disk(shard);
    if (err == OK) watch_room(shard, now_ms);
    if (err == OK) watch_limits(shard);
    if (err != OK && message[0] == 0) {
        const uint64_t stalled_ms = replica_stalled_ms(shard->replica);
        if (stalled_ms > REPLICA_STALL_FATAL_MS) {
            (void)snprintf(message, 512,
                           "the disk has not completed a write of the log for %u seconds: it "
                           "counts as lost; look at the disk, then start this node again",
                           REPLICA_STALL_FATAL_MS / 1000);
        } else {
            (void)snprintf(message, 512, "the log cannot be read back from the disk: %s",
                           err_name(err));
        }
    }
    return err;
}

enum err shard_begin(struct shard *shard, uint64_t now_ms, uint64_t wall_ms, char *message)
{
    const enum err err = turn(shard, now_ms, message);
    if (err != OK) return err;
    follow_role(shard, now_ms, wall_ms);
    if (!shard->lost) (void)batches_retire(&shard->batches, store_applied_index(shard->store));
    shard->pack_left = PACK_TURN_SIZE;
    shard->prepare_left = PREPARE_SLICE_SIZE;
    shard->stream_left = STREAM_TURN_UNITS;
    fetches_turn(&shard->fetches);
    return OK;
}

bool shard_ready(const struct shard *shard)
{
    return shard->was_ready && !shard->lost && !shard->transfer_wanted &&
           !replica_transferring(shard->replica);
}

bool shard_is_full(const struct shard *shard)
{
    const struct batches *batches = &shard->batches;
    if (batches_open_size(batches) >= BATCH_SIZE_SOFT || shard->pack_left == 0) return true;
    if (batches->open->effect_count >= BATCH_EFFECTS_SOFT) return true;
    return batches->flying_size + batches_open_size(batches) >= shard->config->max_inflight_size;
}

static bool keys_fit(struct eval *eval)
{
    const struct command *command = eval->command;
    if (command->key_first == 0) return true;
    const int64_t count = eval->count;
    const int64_t last = command->key_last < 0 ? count + command->key_last : command->key_last;
    for (int64_t at = command->key_first; at <= last && at < count; at += command->key_step) {
        if (!eval_key_fits(eval, eval->args[at])) return false;
    }
    return true;
}

/* The end of what is kept for a full disk is not for deletes: elections need it, and a start after a crash, which
 * may have to write the last group again in a segment of its own. */
static bool may_delete(const struct shard *shard)
{
    return !store_nospace(shard->store) ||
           store_room(shard->store) >= shard->config->segment_size / 4 * 5;
}

bool shard_index_full(const struct shard *shard)
{
    return keydir_full(store_keys(shard->store), shard->config->max_index_memory);
}

const char *shard_refusal(struct shard *shard, uint32_t flags)
{
    if ((flags & CMD_WRITE) == 0) return NULL;
    if (replica_nospace(shard->replica) && ((flags & CMD_FREES) == 0 || !may_delete(shard))) {
        return "NOSPACE the disk is full: writes are refused, reads and deletes go on";
    }
    /* Before the log: what is in it must be applied by every node. */
    if ((flags & (CMD_FREES | CMD_EXPIRY)) == 0 && shard_index_full(shard)) {
        shard->oom_count++;
        return "OOM command not allowed when used memory > 'max-index-memory'.";
    }
    return NULL;
}

bool shard_admits(struct eval *eval)
{
    if (!keys_fit(eval)) return false;
    const uint32_t flags = eval->command->flags;
    const char *refusal = shard_refusal(eval->shard, flags);
    if (refusal != NULL) {
        eval_error(eval, refusal);
        return false;
    }
    if ((flags & CMD_WRITE) == 0 || replica_nospace(eval->shard->replica)) return true;
    uint64_t size = 0;
    for (uint32_t i = 1; i < eval->count; i++) size += eval->args[i].size;
    return eval_fits_disk(eval, size);
}

static struct eval eval_for(struct shard *shard, struct session *session,
                            const struct command *command, const struct slice *args, uint32_t count)
{
    return (struct eval){.core = shard->core,
                         .shard = shard,
                         .session = session,
                         .command = command,
                         .args = args,
                         .count = count,
                         .out = &session->out,
                         .protocol = session->protocol,
                         .now_ms = shard->clock_ms,
                         .gone_ms = shard->clock_ms};
}

static void propose(struct shard *shard, bool at_once, uint64_t now_ms)
{
    struct batches *batches = &shard->batches;
    uint64_t index = 0;
    if (batches_open_empty(batches)) return;
    /* While one log write is under way the batch gathers, unless it is big enough to go on its own. */
    if (!at_once && store_flushing(shard->store) > 0 &&
        batches_open_size(batches) < BATCH_SIZE_SOFT &&
        batches->open->effect_count < BATCH_EFFECTS_SOFT) {
        return;
    }
    /* Large values were made part of the batch in this turn; to seal it and give it to the log is as much again. */
    if (!at_once && batches_open_size(batches) >= LARGE_BATCH_SIZE &&
        shard->large_number != batches->open->number) {
        shard->large_number = batches->open->number;
        shard->core->more = true;
        return;
    }
    const uint32_t effects = batches->open->effect_count;
    bool is_given = false;
    struct buf *record = batches_seal(batches, &is_given);
    const enum err err = replica_submit(shard->replica, record, is_given, shard->clock_ms, now_ms,
                                        &index);
    if (err != OK)
        return; /* Too much uncommitted, or not the leader any more: shard_begin sees to that. */
    batches_launch(batches, index);
    shard->batch_count++;
    shard->effect_count += effects;
}

bool shard_evaluate(struct shard *shard, struct session *session, const struct command *command,
                    const struct slice *args, uint32_t count)
{
    struct batches *batches = &shard->batches;
    /* A command that comes back with its values has waited for this already. */
    if ((command->flags & CMD_APPLIED) != 0 && session->applied_batch == 0 &&
        session->fetch == NULL) {
        session->applied_batch = batches->open->number - (batches_open_empty(batches) ? 1 : 0);
    }
    if (batches->retired_number < session->applied_batch) return false;
    session->applied_batch = 0;
    /* A large value that is laid out becomes an entry of its own, without a copy. */
    const bool is_large = session->wants_alone || prepare_is_built(session->prepare);
    if (is_large && !batches_open_empty(batches)) {
        propose(shard, true, shard->core->now_ms);
        if (!batches_open_empty(batches)) return false;
    }
    struct eval eval = eval_for(shard, session, command, args, count);
    eval.is_applied = (command->flags & CMD_APPLIED) != 0;
    const uint64_t begin = session->out.size;
    shard->value_left = shard->config->output_limit_size + VALUE_SPARE_SIZE;
    if (shard_admits(&eval)) command->function(&eval);
    if (eval.waits) {
        CHECK(!eval.wrote);
        session->out.size = begin;
        return false;
    }
    if (session_is_proxy(session) && session->out.size - begin > FORWARD_REPLY_SIZE_MAX) {
        CHECK(!eval.wrote); /* What a write answers is at most one value. */
        session->out.size = begin;
        eval_error(&eval,
                   "TOOBIG the reply is too long to travel between nodes: ask for less at once");
    }
    struct session_wait wait = {.wrote = eval.wrote};
    if (eval.batch > batches->retired_number) wait.batch = eval.batch;
    /* An entry that is proposed after the command came proves that we still lead; anything else needs a round. */
    const bool needs_round = eval.batch != batches->open->number && !eval.is_free;
    if (needs_round) wait.read = replica_read_request(shard->replica);
    if (eval.wrote) shard->write_count++;
    if (!eval.wrote) shard->read_count++;
    session_add_wait(session, wait);
    return true;
}

bool shard_evaluate_local(struct shard *shard, struct session *session,
                          const struct command *command, const struct slice *args, uint32_t count,
                          bool is_indexed)
{
    struct eval eval = eval_for(shard, session, command, args, count);
    eval.is_local = true;
    if (is_indexed) eval.gone_ms = store_applied_stamp(shard->store);
    shard->value_left = shard->config->output_limit_size + VALUE_SPARE_SIZE;
    const uint64_t begin = session->out.size;
    if (keys_fit(&eval)) command->function(&eval);
    if (eval.waits) {
        session->out.size = begin;
        return false;
    }
    shard->read_count++;
    session_add_wait(session, (struct session_wait){0});
    return true;
}

void shard_want_transfer(struct shard *shard, uint64_t target, uint64_t now_ms)
{
    shard->transfer_wanted = true;
    shard->transfer_target = target;
    shard->transfer_until_ms = now_ms + 2 * shard->config->election_timeout_ms;
}

/* Only this node's disk is full: one that has room leads on, and writes are taken there. */
static void hand_over_when_full(struct shard *shard, uint64_t now_ms)
{
    if (!store_nospace(shard->store) || now_ms < shard->full_ms) return;
    const uint64_t target = replica_roomier(shard->replica);
    if (target == 0) return;
    shard->full_ms = now_ms + FULL_RETRY_MS;
    core_log(shard->core, CONFIG_WARN, "the disk is full: leadership goes to a node that has room");
    shard_want_transfer(shard, target, now_ms);
}

static void delete_expired(struct shard *shard, const struct keydir_info *info)
{
    batches_add(&shard->batches, &(struct effect){.kind = EFFECT_DELETE,
                                                  .flags = EFFECT_FLAG_EXPIRED,
                                                  .expiry_ms = info->expiry_ms,
                                                  .previous_revision = info->revision,
                                                  .key = info->key});
    shard->expired_count++;
}

uint64_t shard_expiry_lag(const struct shard *shard)
{
    const uint64_t first_ms = keydir_expiry_first(store_keys(shard->store));
    return first_ms != 0 && first_ms < shard->clock_ms ? shard->clock_ms - first_ms : 0;
}

static bool sweeps_gently(struct shard *shard, uint64_t now_ms)
{
    const uint64_t asked = shard->read_count + shard->write_count;
    if (asked != shard->swept_asked) shard->asked_ms = now_ms;
    shard->swept_asked = asked;
    return now_ms < shard->asked_ms + SWEEP_IDLE_MS && shard_expiry_lag(shard) < SWEEP_LAG_MS;
}

/* The leader deletes what its clock says is gone, in bounded batches. */
static void sweep(struct shard *shard, uint64_t now_ms)
{
    struct keydir_cursor cursor;
    uint32_t count = 0;
    if (now_ms < shard->sweep_ms) return;
    shard->sweep_ms = now_ms + SWEEP_INTERVAL_MS;
    if (!may_delete(shard)) return;
    const struct keydir_entry *entry = keydir_expired(store_keys(shard->store), shard->clock_ms,
                                                      &cursor);
    const bool is_gentle = sweeps_gently(shard, now_ms);
    const uint32_t max = is_gentle ? SWEEP_EFFECTS_GENTLE : SWEEP_EFFECTS_MAX;
    while (entry != NULL && count < max && !shard_is_full(shard)) {
        const struct keydir_info info = keydir_info(entry);
        const struct batch_hit hit = batches_find(&shard->batches, info.key);
        if (!hit.is_flying && !hit.is_hidden) delete_expired(shard, &info);
        count++;
        entry = keydir_expired_next(&cursor, shard->clock_ms);
    }
    if (entry == NULL) return;
    shard->sweep_ms = now_ms + (is_gentle ? SWEEP_REPEAT_GENTLE_MS : SWEEP_REPEAT_MS);
}

uint64_t shard_log_expiry(struct shard *shard, uint32_t keys_max)
{
    struct keydir_cursor cursor;
    struct batches *batches = &shard->batches;
    const uint64_t clock_ms = shard->clock_ms;
    const uint64_t first_ms = keydir_expiry_first(store_keys(shard->store));
    if (first_ms == 0 || first_ms > clock_ms) return 0;
    /* What is on its way may be what says so. */
    const uint64_t newest = batches->open->number - 1;
    if (clock_ms <= store_last_stamp(shard->store) || !may_delete(shard)) return newest;
    const struct keydir_entry *entry = keydir_expired(store_keys(shard->store), clock_ms, &cursor);
    for (uint32_t i = 0; batches_open_empty(batches) && entry != NULL && i < keys_max; i++) {
        const struct keydir_info info = keydir_info(entry);
        const struct batch_hit hit = batches_find(batches, info.key);
        if (!hit.is_flying && !hit.is_hidden) delete_expired(shard, &info);
        entry = keydir_expired_next(&cursor, clock_ms);
    }
    return newest + (batches_open_empty(batches) ? 0 : 1);
}

static void transfer(struct shard *shard, uint64_t now_ms)
{
    if (!shard->transfer_wanted) return;
    if (now_ms >= shard->transfer_until_ms) {
        shard->transfer_wanted = false;
        core_log(shard->core, CONFIG_WARN, "leadership was not handed over in time");
        return;
    }
    if (replica_transferring(shard->replica)) return;
    if (!batches_open_empty(&shard->batches) || shard->batches.flying_count > 0) return;
    const enum err err = replica_transfer(shard->replica, shard->transfer_target, now_ms);
    if (err == OK || err == ERR_AGAIN) return;
    shard->transfer_wanted = false;
    core_log(shard->core, CONFIG_WARN, "leadership cannot be handed over: %s", err_name(err));
}

enum err shard_end(struct shard *shard, uint64_t now_ms, char *message)
{
    if (shard->was_ready && !shard->lost) {
        if (shard_ready(shard)) sweep(shard, now_ms);
        if (shard_ready(shard)) hand_over_when_full(shard, now_ms);
        propose(shard, false, now_ms);
        transfer(shard, now_ms);
    }
    const enum err err = turn(shard, now_ms, message);
    if (err != OK) return err;
    recovery_turn(shard, now_ms);
    audit_turn(shard, now_ms);
    mender_turn(shard, now_ms);
    if (shard->was_ready && !shard->lost && replica_ready(shard->replica) &&
        replica_term(shard->replica) == shard->term) {
        (void)batches_retire(&shard->batches, store_applied_index(shard->store));
    }
    return OK;
}

uint64_t shard_deadline(const struct shard *shard, uint64_t now_ms)
{
    uint64_t deadline = replica_deadline(shard->replica);
    const uint64_t store = store_deadline(shard->store);
    if (store < deadline) deadline = store;
    const uint64_t recovery = recovery_deadline(shard);
    if (recovery < deadline) deadline = recovery;
    const uint64_t audit = audit_deadline(shard);
    if (audit < deadline) deadline = audit;
    const uint64_t mender = mender_deadline(shard);
    if (mender < deadline) deadline = mender;
    /* As in shard_end(): while leadership is being handed over nothing is swept. */
    if (shard_ready(shard) && keydir_expiring(store_keys(shard->store)) > 0) {
        const uint64_t first = keydir_expiry_first(store_keys(shard->store));
        uint64_t due = shard->sweep_ms;
        if (first > shard->clock_ms && now_ms + (first - shard->clock_ms) > due) {
            due = now_ms + (first - shard->clock_ms);
        }
        if (due < deadline) deadline = due;
    }
    return deadline;
}

void shard_check(const struct shard *shard)
{
    store_check(shard->store);
    replica_check(shard->replica);
    batches_check(&shard->batches);
    if (shard->was_ready && !shard->lost) {
        CHECK(shard->batches.flying_count == 0 ||
              store_applied_index(shard->store) < store_last_index(shard->store));
    }
}
