#include "tests/sim/sim_fault.h"

#include <inttypes.h>
#include <string.h>

#include "tests/sim/sim.h"
#include "tests/sim/sim_decay.h"

#define FAULT_COUNT 26u
#define DECAY_COUNT 6u /* the last ones of them */

#define LOG_DATA_START 4096u /* behind the header of a segment */

struct fault {
    const char *name;
    void (*strike)(struct sim *sim);
    uint32_t weight;
};

static uint32_t any_node(struct sim *sim)
{
    return (uint32_t)sim_below(sim, sim->node_count);
}

/* Mostly the leader: that is where it hurts. */
static uint32_t some_node(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    return leader != UINT32_MAX && sim_chance(sim, 500) ? leader : any_node(sim);
}

static void crash_and_restart(struct sim *sim, uint32_t node, bool power, uint64_t within_ms)
{
    sim_crash(sim, node, power);
    sim_restart_later(sim, node, 1 + sim_below(sim, within_ms));
}

static void kill_one(struct sim *sim)
{
    crash_and_restart(sim, some_node(sim), false, sim_chance(sim, 300) ? 2500 : 300);
}

static void cut_power_of_one(struct sim *sim)
{
    crash_and_restart(sim, some_node(sim), true, sim_chance(sim, 300) ? 2500 : 300);
}

static void cut_power_of_all(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) crash_and_restart(sim, i, true, 600);
}

static void kill_many(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim_chance(sim, 600)) crash_and_restart(sim, i, false, 800);
    }
}

static void keep_one_away(struct sim *sim)
{
    /* Long enough for the others to drop the log that it would need. */
    crash_and_restart(sim, any_node(sim), sim_chance(sim, 500), 6000);
}

static void stop_one(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[some_node(sim)];
    if (node->core == NULL || sim_node_frozen(node)) return;
    sim_note(sim, "n%u is asked to stop", node->number + 1);
    sim->counts.stops++;
    core_stop(node->core, sim_node_now_ms(node));
    sim_wake(sim, node->number);
}

static void freeze_one(struct sim *sim)
{
    sim_freeze(sim, some_node(sim), 20 + sim_below(sim, sim_chance(sim, 300) ? 2500 : 500));
}

/* The leader sleeps until there is another one, wakes up alone, and believes that it still leads. */
static void maroon_leader(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    if (leader == UINT32_MAX) return;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (i == leader) continue;
        sim_net_block(sim, leader, i);
        if (sim_chance(sim, 500)) sim_net_block(sim, i, leader);
    }
    sim_freeze(sim, leader, 100 + sim_below(sim, 1000));
}

/* The leader goes on taking writes that nobody else gets, until it notices: entries to be cut later. */
static void strand_leader(struct sim *sim)
{
    const uint32_t leader = sim_leader(sim);
    if (leader == UINT32_MAX) return;
    sim->counts.partitions++;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (i == leader) continue;
        sim_net_block(sim, leader, i);
        if (sim_chance(sim, 700)) sim_net_block(sim, i, leader);
    }
}

static void part(struct sim *sim)
{
    const uint64_t side = sim_below(sim, 1u << sim->node_count);
    sim->counts.partitions++;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t k = 0; k < sim->node_count; k++) {
            if ((side >> i & 1) != (side >> k & 1)) sim_net_block(sim, i, k);
        }
    }
}

static void part_one(struct sim *sim)
{
    const uint32_t node = some_node(sim);
    const uint64_t way = sim_below(sim, 3); /* out, in, both */
    sim->counts.partitions++;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (i == node) continue;
        if (way != 1) sim_net_block(sim, node, i);
        if (way != 0) sim_net_block(sim, i, node);
    }
}

static void part_pair(struct sim *sim)
{
    const uint32_t a = any_node(sim);
    const uint32_t b = any_node(sim);
    if (a == b) return;
    sim->counts.partitions++;
    sim_net_block(sim, a, b);
    if (sim_chance(sim, 500)) sim_net_block(sim, b, a);
}

static void heal_net(struct sim *sim)
{
    sim_net_heal(sim);
}

static void reset_some(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
        struct sim_conn *conn = &sim->net.conns[i];
        if (conn->kind != SIM_CONN_FREE && sim_chance(sim, 250)) sim_net_reset(sim, conn);
    }
}

static void trouble_frames(struct sim *sim)
{
    struct sim_net *net = &sim->net;
    const bool is_calm = sim_chance(sim, 300);
    net->drop_share = is_calm ? 0 : (uint32_t)sim_below(sim, 300);
    net->repeat_share = is_calm ? 0 : (uint32_t)sim_below(sim, 250);
    net->swap_share = is_calm ? 0 : (uint32_t)sim_below(sim, 250);
}

static void trouble_streams(struct sim *sim)
{
    struct sim_net *net = &sim->net;
    static const uint32_t windows[] = {32 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024};
    const uint32_t first = sim->clients.has_large ? 2 : 0; /* A client's pipeline fits. */
    net->delay_max = net->delay_min + sim_below(sim, sim_chance(sim, 300) ? 60 : 5) * SIM_MS;
    net->delay_rare = sim_below(sim, 400) * SIM_MS;
    net->cut_share = (uint32_t)sim_below(sim, 500);
    net->window = windows[first + sim_below(sim, sizeof windows / sizeof windows[0] - first)];
}

static void slow_disk(struct sim *sim)
{
    struct sim_disk *disk = &sim->nodes[some_node(sim)].disk;
    disk->latency_max = disk->latency_min + sim_below(sim, sim_chance(sim, 400) ? 80 : 4) * SIM_MS;
}

static void stall_disk(struct sim *sim)
{
    sim->nodes[some_node(sim)].disk.stalled_until = sim->now + sim_below(sim, 1200) * SIM_MS;
}

static void fill_disk(struct sim *sim)
{
    struct sim_disk *disk = &sim->nodes[some_node(sim)].disk;
    if (disk->capacity != UINT64_MAX) {
        disk->capacity = UINT64_MAX;
        return;
    }
    sim->counts.disk_full++;
    disk->capacity = sim_disk_used(disk) + sim_below(sim, 100 * 1024);
}

/* The end of what is not zero. */
static uint64_t data_end(struct slice file)
{
    while (file.size > 0 && file.data[file.size - 1] == 0) file.size--;
    return file.size;
}

/* Some file of @disk, mostly the newest one with anything in it; appended to @name with its final zero. */
static void choose_file(struct sim *sim, const struct sim_disk *disk, bool newest, struct buf *name)
{
    struct buf names = {0};
    uint64_t count = 0;
    sim_disk_names(disk, &names);
    for (uint64_t i = 0; i < names.size; i++) count += names.data[i] == 0;
    uint64_t at = sim_below(sim, count);
    const uint8_t *start = names.data;
    for (; count > 0; count--) {
        const uint64_t size = strlen((const char *)start) + 1;
        const bool is_log = size > 4 && memcmp(start + size - 5, ".log", 4) == 0;
        if (newest ? is_log && data_end(sim_disk_file(disk, (const char *)start)) > LOG_DATA_START
                   : at-- == 0) {
            name->size = 0;
            buf_append(name, start, size);
        }
        start += size;
    }
    buf_close(&names);
}

/* Does this run have faults that nobody undoes? */
static bool can_decay(const struct sim *sim)
{
    const uint64_t kinds = sim->fault_set >> (FAULT_COUNT - DECAY_COUNT);
    return sim->node_count >= 3 && (kinds & ((1u << DECAY_COUNT) - 1)) != 0;
}

/* One bit of one file changes while the node is down. It must notice or be unharmed; a node that refuses to start
 * leaves the disk alone. Then the file is repaired, as from a backup, so that the cluster lives on. */
static void rot_one(struct sim *sim)
{
    /* Who loses something for good, and who here, must be the same one. */
    const uint32_t number = can_decay(sim) ? sim->patient : any_node(sim);
    struct sim_node *node = &sim->nodes[number];
    if (node->has_stranger || sim->is_taken) return;
    /* What was acknowledged is only ever on a majority: one node at a time may lose it. */
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim_disk_exists(&sim->nodes[i].disk, "shard-0000/QUARANTINE")) return;
    }
    struct buf name = {0};
    struct buf rotten = {0};
    sim_crash(sim, node->number, sim_chance(sim, 500));
    const bool newest = sim_chance(sim, 500);
    choose_file(sim, &node->disk, newest, &name);
    const char *path = (const char *)name.data;
    struct slice file = name.size > 0 ? sim_disk_file(&node->disk, path) : (struct slice){0};
    if (file.size > 0) {
        /* Near the end of the newest data lies what no durable mark proves yet, near the start the headers. */
        const uint64_t end = newest ? data_end(file) : file.size;
        const uint64_t reach = end > 8192 && sim_chance(sim, 700) ? 8192 : end;
        const uint64_t at = newest ? end - reach + sim_below(sim, reach) : sim_below(sim, reach);
        const uint64_t bit = at * 8 + sim_below(sim, 8);
        sim_note(sim, "n%u: bit %" PRIu64 " of %s rots", node->number + 1, bit, path);
        sim->counts.rots++;
        sim_disk_flip(&node->disk, path, bit);
        file = sim_disk_file(&node->disk, path);
        buf_append(&rotten, file.data, file.size);
        const uint64_t changes = node->disk.change_count;
        node->may_refuse = true;
        node->disk.capacity = UINT64_MAX; /* A refusal must be about the bit. */
        if (sim_start(sim, node->number)) {
            sim->counts.quarantines += core_quarantined(node->core) ? 1 : 0;
        } else {
            sim->counts.refusals++;
            if (node->disk.change_count != changes) {
                sim_fail(sim, "n%u refused to start and yet changed its disk", node->number + 1);
            }
        }
        node->may_refuse = false;
        if (slice_equal(sim_disk_file(&node->disk, path), buf_slice(&rotten))) {
            sim_disk_flip(&node->disk, path, bit);
        }
    }
    buf_close(&name);
    buf_close(&rotten);
    if (node->core == NULL) sim_restart_later(sim, node->number, 1 + sim_below(sim, 300));
}

static void shift_clock(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[any_node(sim)];
    sim->counts.jumps++;
    node->wall_offset_ms = (int64_t)sim_below(sim, 20000) - 10000;
    node->wall_drift_ppm = (int64_t)sim_below(sim, 200000) - 100000;
    if (sim_chance(sim, 100)) node->wall_offset_ms *= 1000;
}

static const struct fault faults[] = {
    {"kill one", kill_one, 8},
    {"cut power of one", cut_power_of_one, 8},
    {"cut power of all", cut_power_of_all, 3},
    {"kill many", kill_many, 3},
    {"keep one away", keep_one_away, 4},
    {"stop one", stop_one, 4},
    {"freeze one", freeze_one, 8},
    {"maroon leader", maroon_leader, 6},
    {"strand leader", strand_leader, 10},
    {"part", part, 5},
    {"part one", part_one, 8},
    {"part a pair", part_pair, 5},
    {"reset some", reset_some, 5},
    {"trouble frames", trouble_frames, 6},
    {"trouble streams", trouble_streams, 6},
    {"slow disk", slow_disk, 5},
    {"stall disk", stall_disk, 4},
    {"fill disk", fill_disk, 4},
    {"shift clock", shift_clock, 4},
    {"rot one", rot_one, 5},
    {"rot for good", sim_decay_rot, 5},
    {"rot in the log", sim_decay_rot_log, 4},
    {"misdirect a block", sim_decay_misdirect, 3},
    {"refuse to read", sim_decay_refuse, 4},
    {"lose a group", sim_decay_lose, 3},
    {"replace the disk", sim_decay_replace, 2},
};
_Static_assert(sizeof faults / sizeof faults[0] == FAULT_COUNT, "all kinds are counted");

void sim_fault_start(struct sim *sim)
{
    sim->fault_set = sim_below(sim, ~0ull);
    sim->patient = any_node(sim);
    sim->has_faults = true;
    sim_schedule(sim, sim->now + (400 + sim_below(sim, 400)) * SIM_MS, SIM_EVENT_FAULT, 0, 0);
}

void sim_fault_step(struct sim *sim)
{
    if (!sim->has_faults) return;
    sim_schedule(sim, sim->now + (5 + sim_below(sim, 235)) * SIM_MS, SIM_EVENT_FAULT, 0, 0);
    /* Partitions do not heal by themselves, so that happens more often than any of them. */
    if (sim_chance(sim, 220)) {
        heal_net(sim);
        return;
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FAULT_COUNT; i++) {
        if ((sim->fault_set >> i & 1) != 0) sum += faults[i].weight;
    }
    uint64_t choice = sim_below(sim, sum);
    for (uint32_t i = 0; i < FAULT_COUNT && sum > 0; i++) {
        if ((sim->fault_set >> i & 1) == 0) continue;
        if (choice >= faults[i].weight) {
            choice -= faults[i].weight;
            continue;
        }
        sim->counts.faults++;
        sim_note(sim, "fault: %s", faults[i].name);
        faults[i].strike(sim);
        return;
    }
}

void sim_fault_end(struct sim *sim)
{
    struct sim_net *net = &sim->net;
    sim_note(sim, "all faults end");
    sim->has_faults = false;
    sim_decay_end(sim);
    net->drop_share = 0;
    net->repeat_share = 0;
    net->swap_share = 0;
    net->delay_max = SIM_MS;
    net->delay_rare = 0;
    net->window = 256 * 1024;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->disk.capacity = UINT64_MAX;
        node->disk.latency_min = 50;
        node->disk.latency_max = 1500;
        node->disk.stalled_until = 0;
        node->wall_drift_ppm = 0;
        if (node->core == NULL) {
            (void)sim_start(sim, i);
        } else if (sim_node_frozen(node)) {
            node->frozen_until = sim->now;
            sim_schedule(sim, sim->now, SIM_EVENT_THAW, i, 0);
        }
    }
    sim_net_heal(sim);
}
