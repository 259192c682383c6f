#include "tests/sim/sim_run.h"

#include <stdio.h>

#include "raft/replica.h"
#include "storage/base/limits.h"
#include "storage/store.h"
#include "tests/sim/check_space.h"
#include "tests/sim/check_state.h"
#include "tests/sim/sim_decay.h"
#include "tests/sim/sim_fault.h"

#define HEAL_MS 10000u /* until all nodes must serve */
#define REPAIR_MS 30000u
#define FINAL_MS 60000u
#define SPACE_MS 10000u /* until garbage must be gone */
#define INSTALLS_MAX 2u /* of one node, that come to nothing although all is well */
#define LARGE_VALUE_MAX (4u * MIB)
#define OPS_MIN 100u /* a run in which nothing happens proves nothing */

static bool all_serve(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->core == NULL || !core_serving(node->core, NULL)) return false;
    }
    return true;
}

static bool all_equal(struct sim *sim)
{
    uint64_t applied = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->core == NULL || core_store(node->core) == NULL) return false;
        const struct store *store = core_store(node->core);
        if (replica_committed(core_replica(node->core)) != store_last_index(store)) return false;
        if (i > 0 && store_applied_index(store) != applied) return false;
        applied = store_applied_index(store);
    }
    return true;
}

static void fail_with_states(struct sim *sim, const char *what)
{
    char text[400] = "";
    int size = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        char reason[64] = "";
        if (node->core == NULL || core_store(node->core) == NULL) {
            size += snprintf(text + size, sizeof text - (size_t)size, " n%u is down", i + 1);
            continue;
        }
        const struct store *store = core_store(node->core);
        const struct replica *replica = core_replica(node->core);
        (void)core_serving(node->core, reason);
        size += snprintf(
            text + size, sizeof text - (size_t)size,
            " n%u %s term %llu committed %llu applied %llu persisted %llu last %llu %s;", i + 1,
            replica_role(replica) == REPLICA_LEADER ? "leads" : "follows",
            (unsigned long long)replica_term(replica),
            (unsigned long long)replica_committed(replica),
            (unsigned long long)store_applied_index(store),
            (unsigned long long)store_persisted_index(store),
            (unsigned long long)store_last_index(store), reason);
        if (size > 300) break;
    }
    sim_fail(sim, "%s:%s", what, text);
}

static void serve(struct sim *sim)
{
    sim_fault_end(sim);
    const uint64_t ms = sim_decay_any(sim) ? REPAIR_MS : HEAL_MS;
    if (!sim_run_until_true(sim, ms, all_serve) && !sim->has_failed) {
        fail_with_states(sim, "not everybody serves after the heal");
    }
    /* A connection may still be half dead: give it the time to be noticed. */
    sim_run_for(sim, 3000);
}

/* Reading everything finds what is damaged; what is found is repaired, since the others have it. Clients go on
 * writing: a file in the window of the log is repaired when it leaves that. */
static void repair(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[sim->patient];
    const uint64_t end = sim->now + REPAIR_MS * SIM_MS;
    if (!node->is_decayed) return;
    while (!sim->has_failed) {
        if (sim_run_until_true(sim, REPAIR_MS, sim_decay_all_whole)) {
            if (check_state_hash(sim, node) != 0 ||
                keydir_count(store_keys(core_store(node->core))) == 0)
                break;
        }
        if (sim->now < end) {
            sim_run_for(sim, 50);
            continue;
        }
        for (uint32_t i = 0; i < sim->node_count; i++) {
            const struct damage *damage = store_damage(core_store(sim->nodes[i].core));
            for (uint32_t k = 0; k < damage->count; k++) {
                sim_note(sim, "n%u: file %u is damaged at %llu", i + 1, damage->spots[k].file,
                         (unsigned long long)damage->spots[k].offset);
            }
        }
        fail_with_states(sim, "what is damaged is not repaired from the others");
    }
    node->is_decayed = false;
    sim->counts.mended++;
}

static void agree(struct sim *sim)
{
    if (!sim_run_until_true(sim, HEAL_MS, all_equal) && !sim->has_failed) {
        fail_with_states(sim, "nodes do not come to the same state");
    }
    for (uint32_t i = 0; i < sim->node_count && !sim->has_failed; i++) {
        core_check(sim->nodes[i].core);
    }
    if (!sim->has_failed && check_state_compare(sim) != sim->node_count) {
        fail_with_states(sim, "nodes have different states");
    }
}

void sim_run_converge(struct sim *sim)
{
    serve(sim);
    agree(sim);
}

static void check_space(struct sim *sim)
{
    if (sim->has_failed) return;
    /* What was kept for a node that lagged goes with the next base, for which there must be an entry. */
    for (uint32_t i = 0; i < sim->node_count; i++) (void)sim_ask(sim, i, 1000, "SET space 1");
    if (!sim_run_until_true(sim, SPACE_MS, check_space_bounded)) check_space_fail(sim);
}

static uint64_t given_up(const struct sim *sim)
{
    return sim->counts.reopens - sim->counts.installs;
}

static bool all_quiet(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->clients.count; i++) {
        if (sim->clients.list[i].pending_count > 0) return false;
    }
    return sim_bank_finished(sim) && sim_once_finished(sim) && all_equal(sim);
}

static bool all_done(struct sim *sim)
{
    return sim_client_done(sim) && sim_bank_finished(sim);
}

void sim_run_settle(struct sim *sim)
{
    sim_bank_finish(sim);
    sim_once_finish(sim);
    serve(sim);
    /* A node that lags may wait for longer than a client does: first everybody has everything. */
    sim->clients.is_quiet = true;
    if (!sim_run_until_true(sim, HEAL_MS, all_quiet) && !sim->has_failed) {
        fail_with_states(sim, "nodes do not catch up after the heal");
    }
    sim->clients.is_quiet = false;
    const uint64_t in_vain = given_up(sim);
    repair(sim);
    const uint64_t unknown = sim->clients.unknown_count;
    const uint64_t failed = sim->clients.failed_count;
    sim_client_finish(sim);
    if (!sim_run_until_true(sim, FINAL_MS, all_done) && !sim->has_failed) {
        fail_with_states(sim, "clients get no answers after the heal");
    }
    /* A range that meets a spoilt block in the middle can only break off, and what else the client asked is unknown. */
    const bool is_spoilt = sim->counts.decays > 0 || sim->counts.rots > 0;
    const bool is_broken_off = sim->clients.unknown_count != unknown && !is_spoilt;
    if (is_broken_off || sim->clients.failed_count != failed) {
        fail_with_states(sim, "commands are refused in a healthy cluster");
    }
    agree(sim);
    if (given_up(sim) - in_vain > INSTALLS_MAX * sim->node_count) {
        fail_with_states(sim, "installs come to nothing again and again");
    }
    sim_feed_finish(sim);
    if (!sim->has_failed && !sim_run_until_true(sim, HEAL_MS, sim_feed_finished) &&
        !sim->has_failed) {
        fail_with_states(sim, "feeds do not catch up after the heal");
    }
    check_space(sim);
    if (!sim->has_failed) sim_client_check(sim);
    if (!sim->has_failed) sim_bank_check(sim);
    if (!sim->has_failed) sim_once_check(sim);
}

/* The end of a run in which the last good copies went. Nothing is owed but the truth: what is answered is right, and
 * what is refused is refused by a cluster that says that something is wrong. */
static void settle_lost(struct sim *sim)
{
    sim_fault_end(sim);
    sim_bank_finish(sim);
    sim_once_finish(sim);
    sim_run_for(sim, 2 * HEAL_MS);
    const uint64_t before = sim->clients.failed_count + sim->clients.unknown_count;
    sim_client_finish(sim);
    const bool is_done = sim_run_until_true(sim, FINAL_MS, sim_client_done);
    const bool is_all = is_done && sim->clients.failed_count + sim->clients.unknown_count == before;
    if (!sim->has_failed && !is_all && !sim_decay_is_said(sim)) {
        fail_with_states(sim, "something is gone, and nobody says so");
    }
    if (!sim->has_failed) (void)check_state_compare(sim);
    if (!sim->has_failed) sim_client_check(sim);
}

static void count(struct sim *sim)
{
    struct sim_counts *counts = &sim->counts;
    counts->elections = sim->log.leader_count;
    counts->ops_ok = sim->clients.ok_count;
    if (sim->bank.checked) {
        counts->transfers = sim->bank.done;
        counts->transfers_not = sim->bank.aborted;
        counts->bank_reads = sim->bank.reads;
    }
    if (sim->once.checked) {
        counts->once_sequences = sim->once.answer_count;
        counts->once_repeats = sim->once.repeats;
        counts->locks = sim->once.locks;
    }
    counts->feed_messages = sim->feeds.messages;
    counts->feed_changes = sim->feeds.changes;
    counts->feed_resumes = sim->feeds.resumes;
    counts->feeds_gone = sim->feeds.gone;
    counts->feed_previous = sim->feeds.previous;
    counts->ops_failed = sim->clients.failed_count;
    counts->ops_unknown = sim->clients.unknown_count;
    counts->resets = sim->net.resets;
    counts->dials = sim->net.dials;
    counts->frames_changed = sim->net.frames_changed;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_disk *disk = &sim->nodes[i].disk;
        counts->torn_writes += disk->torn_count;
        counts->lost_sectors += disk->lost_count;
        sim_trace(sim, disk->hash);
    }
}

/* What few runs have, decided by the seed alone: so some of any fifty seeds in a row have it. */
static void choose_kind(struct sim *sim)
{
    sim->takes_all = sim->options.seed % 12 == 5 && sim->node_count >= 3;
    sim->take_at = sim->now + sim->options.time_ms * (450 + sim_below(sim, 400));
    sim->clients.has_large = sim->options.seed % 25 == 7;
    if (!sim->clients.has_large) return;
    sim->net.window = 256u * KIB;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim->nodes[i].config.max_value_size = LARGE_VALUE_MAX;
    }
}

bool sim_run(struct sim *sim)
{
    const uint64_t end = sim->now + sim->options.time_ms * SIM_MS;
    choose_kind(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        /* Now and then somebody is late for the first start. */
        sim_restart_later(sim, i, sim_chance(sim, 100) ? 3000 : sim_below(sim, 50));
    }
    sim_client_start(sim);
    sim_bank_start(sim);
    sim_feed_start(sim);
    sim_once_start(sim);
    sim_fault_start(sim);
    while (sim->now < end && !sim->has_failed) {
        sim_run_for(sim, 250);
        if (sim->takes_all && !sim->is_taken && sim->now >= sim->take_at) sim_decay_take_all(sim);
        if (!sim->has_failed) (void)check_state_compare(sim);
    }
    if (!sim->has_failed && sim->is_taken) settle_lost(sim);
    if (!sim->has_failed && !sim->is_taken) sim_run_settle(sim);
    count(sim);
    if (!sim->has_failed && !sim->is_taken && sim->counts.ops_ok < OPS_MIN) {
        sim_fail(sim, "only %llu operations succeeded: the run proves nothing",
                 (unsigned long long)sim->counts.ops_ok);
    }
    return !sim->has_failed;
}
