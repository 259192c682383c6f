#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "raft/replica.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/store_inner.h"
#include "tests/sim/sim_decay.h"
#include "tests/sim/sim_fault.h"

#define WALL_START_MS 1700000000000u
#define SPINS_MAX 5000u
#define PAST_SIZE_SMALL (6u * KIB)

/* ---- time ------------------------------------------------------------------------------------------- */

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

void sim_schedule(struct sim *sim, uint64_t time, enum sim_event_kind kind, uint32_t target,
                  uint64_t argument)
{
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity * 2 + 256;
        sim->heap = mem_resize(sim->heap, sim->heap_capacity * sizeof *sim->heap);
    }
    const struct sim_event event = {time, sim->order++, kind, target, argument};
    uint64_t at = sim->heap_count++;
    CHECK(time >= sim->now);
    while (at > 0 && earlier(&event, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = event;
}

static struct sim_event pop_event(struct sim *sim)
{
    const struct sim_event top = sim->heap[0];
    const struct sim_event last = sim->heap[--sim->heap_count];
    uint64_t at = 0;
    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= sim->heap_count) break;
        if (child + 1 < sim->heap_count && earlier(&sim->heap[child + 1], &sim->heap[child])) {
            child++;
        }
        if (!earlier(&sim->heap[child], &last)) break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return top;
}

void sim_trace(struct sim *sim, uint64_t value)
{
    sim->trace = (sim->trace ^ value) * 0x9E3779B97F4A7C15u;
    sim->trace ^= sim->trace >> 29;
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list args;
    if (sim->has_failed) return;
    sim->has_failed = true;
    va_start(args, format);
    (void)vsnprintf(sim->failure, sizeof sim->failure, format, args);
    va_end(args);
    sim_note(sim, "FAILED: %s", sim->failure);
}

void sim_note(struct sim *sim, const char *format, ...)
{
    char line[1200];
    va_list args;
    if (sim->options.verbose == 0) return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "[%8" PRIu64 ".%03" PRIu64 "] %s\n", sim->now / SIM_MS, sim->now % SIM_MS,
            line);
}

/* ---- nodes ------------------------------------------------------------------------------------------ */

uint64_t sim_node_now_ms(const struct sim_node *node)
{
    const uint64_t rate = (uint64_t)(1000000 + node->mono_drift_ppm);
    return node->mono_offset_ms + node->sim->now * rate / 1000000 / SIM_MS;
}

/* The time at which the monotonic clock of @node shows @ms, or a little later. */
static uint64_t time_of(const struct sim_node *node, uint64_t ms)
{
    const uint64_t rate = (uint64_t)(1000000 + node->mono_drift_ppm);
    return (ms - node->mono_offset_ms) * SIM_MS * 1000000 / rate + 2;
}

uint64_t sim_node_wall_ms(const struct sim_node *node)
{
    const int64_t now = (int64_t)(node->sim->now / SIM_MS);
    const int64_t drift = now * node->wall_drift_ppm / 1000000;
    return (uint64_t)((int64_t)WALL_START_MS + now + drift + node->wall_offset_ms);
}

bool sim_node_frozen(const struct sim_node *node)
{
    return node->frozen_until > node->sim->now;
}

static void turn_at(struct sim_node *node, uint64_t time)
{
    if (time < node->sim->now) time = node->sim->now;
    if (time >= node->turn_at) return;
    node->turn_at = time;
    sim_schedule(node->sim, time, SIM_EVENT_TURN, node->number, node->life);
}

void sim_wake(struct sim *sim, uint32_t number)
{
    /* The loop takes a moment, so that what arrives together is handled together. */
    turn_at(&sim->nodes[number], sim->now + sim_below(sim, 60));
}

static void follow_disk(struct sim_node *node)
{
    const uint64_t due = sim_disk_deadline(&node->disk);
    if (due == UINT64_MAX || due >= node->disk_at) return;
    node->disk_at = due > node->sim->now ? due : node->sim->now;
    sim_schedule(node->sim, node->disk_at, SIM_EVENT_DISK, node->number, node->life);
}

static void configure(struct sim *sim, struct sim_node *node)
{
    char message[256] = "";
    char name[16];
    struct config *config = &node->config;
    (void)snprintf(name, sizeof name, "n%u", node->number + 1);
    config_defaults(config, name);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct config_member *member = &config->members[i];
        (void)snprintf(member->name, sizeof member->name, "n%u", i + 1);
        (void)snprintf(member->address, sizeof member->address, "n%u:1", i + 1);
    }
    config->member_count = sim->node_count;
    (void)snprintf(config->advertise_peer, sizeof config->advertise_peer, "n%u:1",
                   node->number + 1);
    config->election_timeout_ms = 300;
    config->heartbeat_ms = 60;
    config->park_ms = 800;
    config->once_retention_ms = 30ull * 24 * 3600 * 1000;
    config->drain_ms = 200;
    config->max_value_size = 16 * 1024;
    config->compress_above_size = 100;
    config->segment_size = 64 * 1024;
    config->retention_size = 64 * 1024;
    config->compaction_rate = 64 * MIB;
    config->check_interval_ms = 500;
    config->log_level = CONFIG_INFO;
    if (config_finish(config, message) != OK) sim_fail(sim, "configuration: %s", message);
}

static void note_counts(struct sim_node *node)
{
    struct sim_counts *counts = &node->sim->counts;
    const struct store *store = core_store(node->core);
    if (store == NULL) return;
    const uint64_t seals = store_stats(store).seals;
    const uint64_t base = store_base(store).index;
    if (node->durable.is_reopened) {
        /* A base that moved came from another node; else the install was given up. */
        if (base > node->base) counts->installs++;
        node->seals = 0;
    }
    node->base = base;
    if (seals > node->seals) counts->seals += seals - node->seals;
    node->seals = seals;
    const uint64_t compactions = store_stats(store).compactions;
    if (compactions > node->compactions) counts->compactions += compactions - node->compactions;
    node->compactions = compactions;
}

static void end_life(struct sim_node *node)
{
    node->is_dying = true;
    core_destroy(node->core);
    node->is_dying = false;
    node->core = NULL;
    node->life++;
    node->turn_at = UINT64_MAX;
    node->disk_at = UINT64_MAX;
    node->frozen_until = 0;
}

static void check_started(struct sim *sim, struct sim_node *node)
{
    if (core_store(node->core) == NULL) return; /* When its log is repaired. */
    /* Ranges of the past with little memory need several passes. */
    if (sim->options.seed % 2 == 0) core_store(node->core)->past_size_max = PAST_SIZE_SMALL;
    if (!node->has_stranger) check_durable_started(sim, node);
    check_log_started(sim, node);
}

bool sim_start(struct sim *sim, uint32_t number)
{
    struct sim_node *node = &sim->nodes[number];
    int code = 0;
    CHECK(node->core == NULL);
    sim_decay_start(sim, node);
    node->life++;
    node->mono_offset_ms = 1000 + sim_below(sim, 1000000);
    node->seals = 0;
    node->compactions = 0;
    sim->counts.starts++;
    (void)sim_disk_turn(&node->disk, sim->now);
    node->core = core_create(&node->config, &node->disk.disk, &node->net, sim_below(sim, ~0ull));
    const enum err err = core_start(node->core, sim_node_now_ms(node), sim_node_wall_ms(node),
                                    node->message, &code);
    sim_note(sim, "n%u starts: %s %s", number + 1, err_name(err), node->message);
    if (err != OK) {
        /* A full disk may refuse; the operator makes room and starts again. */
        if (!node->may_refuse && err != ERR_NOSPACE) {
            sim_fail(sim, "n%u refuses to start: %s", number + 1, node->message);
        }
        if (err == ERR_NOSPACE) node->disk.capacity = UINT64_MAX;
        end_life(node);
        sim_disk_stop(&node->disk, false);
        sim_disk_crash(&node->disk);
        if (err == ERR_NOSPACE) sim_restart_later(sim, number, 100);
        return false;
    }
    node->was_repairing = core_repairing(node->core);
    check_started(sim, node);
    sim_net_dial_peers(sim, number);
    sim_wake(sim, number);
    follow_disk(node);
    return true;
}

void sim_crash(struct sim *sim, uint32_t number, bool power)
{
    struct sim_node *node = &sim->nodes[number];
    if (node->core == NULL) return;
    sim_note(sim, "n%u dies%s", number + 1, power ? " without power" : "");
    sim->counts.crashes++;
    if (power) sim->counts.power_cuts++;
    check_durable_note(node);
    sim_disk_stop(&node->disk, power);
    end_life(node);
    sim_disk_crash(&node->disk);
    sim_net_node_down(sim, number, power);
}

void sim_restart_later(struct sim *sim, uint32_t number, uint64_t ms)
{
    sim_schedule(sim, sim->now + ms * SIM_MS, SIM_EVENT_START, number, sim->nodes[number].life);
}

void sim_freeze(struct sim *sim, uint32_t number, uint64_t ms)
{
    struct sim_node *node = &sim->nodes[number];
    const uint64_t until = sim->now + ms * SIM_MS;
    if (node->core == NULL || node->frozen_until >= until) return;
    sim_note(sim, "n%u freezes for %" PRIu64 " ms", number + 1, ms);
    sim->counts.freezes++;
    node->frozen_until = until;
    sim_schedule(sim, until, SIM_EVENT_THAW, number, 0);
}

uint32_t sim_leader(struct sim *sim)
{
    uint32_t best = UINT32_MAX;
    uint64_t best_term = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (node->core == NULL || core_replica(node->core) == NULL) continue;
        const struct replica *replica = core_replica(node->core);
        if (replica_role(replica) != REPLICA_LEADER || replica_term(replica) < best_term) continue;
        best = i;
        best_term = replica_term(replica);
    }
    return best;
}

/* ---- the turn of a node ----------------------------------------------------------------------------- */

/* What is cheap after each turn, everything once in a while. */
static void check_node(struct sim *sim, struct sim_node *node)
{
    if (core_store(node->core) == NULL) return;
    if (node->was_repairing) {
        node->was_repairing = false;
        sim->counts.repairs++;
        check_started(sim, node);
    }
    if (sim->now - node->checked_at >= 2 * SIM_MS && !node->is_flipped) {
        node->checked_at = sim->now;
        core_check(node->core);
    }
    note_counts(node);
    sim_decay_turn(sim, node);
    check_log_turn(sim, node);
    if (core_refused(node->core) && !node->is_outdated && !node->has_stranger) {
        sim_fail(sim, "n%u is refused by others, although it has its own disk", node->number + 1);
    }
}

static void turn(struct sim *sim, struct sim_node *node)
{
    node->turn_at = UINT64_MAX;
    if (node->core == NULL || sim_node_frozen(node)) return; /* The thaw wakes it. */
    const uint64_t now_ms = sim_node_now_ms(node);
    sim->counts.turns++;
    (void)sim_disk_turn(&node->disk, sim->now);
    core_turn(node->core, now_ms, sim_node_wall_ms(node));
    if (core_failed(node->core) == EXIT_DISK && node->disk.stalled_until > sim->now) {
        sim_crash(sim, node->number, false); /* As it must on a disk that does nothing any more. */
        return;
    }
    if (core_failed(node->core) == EXIT_DISK && node->disk.capacity != UINT64_MAX) {
        /* It begins anew in the middle of its life, which needs space, as any start does. */
        sim_crash(sim, node->number, false);
        node->disk.capacity = UINT64_MAX;
        sim_restart_later(sim, node->number, 100);
        return;
    }
    if (core_failed(node->core) != 0) {
        sim_fail(sim, "n%u gave up with code %d", node->number + 1, core_failed(node->core));
        return;
    }
    check_node(sim, node);
    if (core_stopped(node->core)) {
        sim_note(sim, "n%u has stopped", node->number + 1);
        check_durable_note(node);
        end_life(node);
        sim_disk_crash(&node->disk);
        sim_net_node_down(sim, node->number, false);
        sim_restart_later(sim, node->number, 1 + sim_below(sim, 500));
        return;
    }
    follow_disk(node);
    const uint64_t deadline = core_deadline(node->core);
    if (deadline <= now_ms) {
        turn_at(node, sim->now + 20);
        if (++node->spin_count > SPINS_MAX) {
            sim_fail(sim, "n%u turns without end", node->number + 1);
        }
        return;
    }
    node->spin_count = 0;
    if (deadline != UINT64_MAX) turn_at(node, time_of(node, deadline));
}

static void disk_event(struct sim *sim, struct sim_node *node)
{
    node->disk_at = UINT64_MAX;
    /* What completes is told to the loop: a frozen process hears of it later. */
    if (!sim_node_frozen(node) && sim_disk_turn(&node->disk, sim->now)) sim_wake(sim, node->number);
    if (!sim_node_frozen(node)) follow_disk(node);
}

static struct sim_conn *conn_of(struct sim *sim, const struct sim_event *event)
{
    struct sim_conn *conn = &sim->net.conns[event->target >> 1];
    const bool is_it = conn->kind != SIM_CONN_FREE && conn->generation == event->argument;
    return is_it ? conn : NULL;
}

static void thaw(struct sim *sim, struct sim_node *node)
{
    if (node->core == NULL || sim_node_frozen(node)) return;
    node->turn_at = UINT64_MAX;
    sim_wake(sim, node->number);
    follow_disk(node);
    sim_net_kick(sim);
}

static void dispatch(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = event->target < SIM_NODES_MAX ? &sim->nodes[event->target] : NULL;
    switch (event->kind) {
    case SIM_EVENT_TURN:
        /* A wish that an earlier one took the place of is void. */
        if (event->argument == node->life && event->time == node->turn_at) turn(sim, node);
        break;
    case SIM_EVENT_DISK:
        if (event->argument == node->life && node->core != NULL) disk_event(sim, node);
        break;
    case SIM_EVENT_START:
        if (event->argument == node->life && node->core == NULL) {
            (void)sim_start(sim, event->target);
        }
        break;
    case SIM_EVENT_THAW: thaw(sim, node); break;
    case SIM_EVENT_ARRIVE:
    case SIM_EVENT_LOST: {
        struct sim_conn *conn = conn_of(sim, event);
        if (conn == NULL) break;
        if (event->kind == SIM_EVENT_ARRIVE) {
            sim_net_arrive(sim, conn, event->target & 1);
        } else {
            sim_net_lost(sim, conn, event->target & 1);
        }
        break;
    }
    case SIM_EVENT_DIAL: {
        const uint32_t from = event->target / SIM_NODES_MAX;
        if (sim->nodes[from].life == event->argument) {
            sim_net_dial(sim, from, event->target % SIM_NODES_MAX);
        }
        break;
    }
    case SIM_EVENT_CLIENT: sim_client_step(sim, event->target, event->argument); break;
    case SIM_EVENT_FAULT: sim_fault_step(sim); break;
    }
}

void sim_run_until(struct sim *sim, uint64_t time)
{
    while (!sim->has_failed && sim->heap_count > 0 && sim->heap[0].time <= time) {
        const struct sim_event event = pop_event(sim);
        sim->now = event.time;
        sim->counts.events++;
        sim_trace(sim, event.time * 64 + (uint64_t)event.kind);
        sim_trace(sim, event.target + event.argument * 4096);
        dispatch(sim, &event);
    }
    if (!sim->has_failed) sim->now = time;
}

bool sim_run_until_true(struct sim *sim, uint64_t ms, bool (*done)(struct sim *sim))
{
    const uint64_t end = sim->now + ms * SIM_MS;
    while (!sim->has_failed && !done(sim)) {
        if (sim->now >= end) return false;
        sim_run_for(sim, 5);
    }
    return !sim->has_failed;
}

/* ---- what scenarios ask ----------------------------------------------------------------------------- */

const char *sim_ask(struct sim *sim, uint32_t node, uint64_t ms, const char *line)
{
    struct sim_client *client = &sim->clients.list[SIM_CLIENT_LIMIT];
    const uint64_t end = sim->now + ms * SIM_MS;
    client->in.size = 0;
    client->conn = sim_net_dial_client(sim, SIM_CLIENT_LIMIT, node);
    if (client->conn != NULL) {
        struct buf text = {0};
        buf_printf(&text, "%s\r\n", line);
        (void)sim_net_send(sim, client->conn, 0, text.data, text.size);
        buf_close(&text);
    }
    while (client->conn != NULL && sim->now < end && !sim->has_failed &&
           sim_client_reply_size(buf_slice(&client->in)) == 0) {
        sim_run_for(sim, 1);
    }
    if (client->conn != NULL) sim_net_end(sim, client->conn, 0);
    client->conn = NULL;
    buf_u8(&client->in, 0);
    client->in.size--;
    return (const char *)client->in.data;
}

static bool serves(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    return leader != UINT32_MAX && core_serving(sim->nodes[leader].core, NULL);
}

bool sim_wait_leader(struct sim *sim, uint64_t ms)
{
    return sim_run_until_true(sim, ms, serves);
}

/* ---- life ------------------------------------------------------------------------------------------- */

struct sim *sim_create(const struct sim_options *options)
{
    struct sim *sim = mem_zero(sizeof *sim);
    sim->options = *options;
    sim->prng = prng_seed(hash64(&options->seed, sizeof options->seed));
    sim->now = SIM_SECOND;
    sim->node_count = options->nodes;
    if (sim->node_count == 0) {
        static const uint8_t counts[] = {3, 3, 3, 3, 3, 3, 3, 5, 5, 1};
        sim->node_count = counts[sim_below(sim, sizeof counts)];
    }
    CHECK(sim->node_count <= SIM_NODES_MAX);
    sim_net_init(sim);
    sim_client_init(sim);
    sim_bank_init(sim);
    sim_feed_init(sim);
    sim_once_init(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sim = sim;
        node->number = i;
        node->turn_at = UINT64_MAX;
        node->disk_at = UINT64_MAX;
        node->net = sim_net_of(node);
        sim_disk_init(&node->disk, sim_below(sim, ~0ull));
        node->disk.latency_min = 50;
        node->disk.latency_max = 1500;
        node->disk.cold_percent = 30;
        configure(sim, node);
        /* No promise may rest on clocks that run alike. */
        if (sim_chance(sim, 500)) node->mono_drift_ppm = (int64_t)sim_below(sim, 500001) - 250000;
    }
    return sim;
}

void sim_destroy(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->core != NULL) end_life(node);
        sim_disk_crash(&node->disk);
        sim_disk_close(&node->disk);
        sim_image_close(&node->own_disk);
        sim_image_close(&node->copy);
    }
    sim_net_close(sim);
    sim_client_close(sim);
    sim_bank_close(sim);
    sim_feed_close(sim);
    sim_once_close(sim);
    check_log_close(&sim->log);
    check_past_close(&sim->past);
    mem_free(sim->heap);
    mem_free(sim);
}
