/* sim.h - a cluster in one process and in virtual time: nodes, disks, network, clients, checks, faults.
 *
 * Everything happens in events, taken from a heap in the order of their time and then of their making. Every choice
 * comes from one seed, so a run can be repeated bit by bit; `trace` is a hash of all that happened. The
 * code under test is the node itself (node/core.h): the same objects that kvnode is linked from.
 *
 * The first violation of anything that is checked ends the run: sim_fail() keeps its text. */
#ifndef KV_TESTS_SIM_SIM_H
#define KV_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "node/core.h"
#include "storage/base/prng.h"
#include "tests/sim/check_durable.h"
#include "tests/sim/check_log.h"
#include "tests/sim/check_past.h"
#include "tests/sim/sim_bank.h"
#include "tests/sim/sim_feed.h"
#include "tests/sim/sim_once.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_net.h"

#define SIM_MS 1000u /* microseconds: the unit of all times here */
#define SIM_SECOND 1000000u

enum sim_event_kind {
    SIM_EVENT_TURN,   /* target: node, argument: its life */
    SIM_EVENT_DISK,   /* target: node, argument: its life */
    SIM_EVENT_START,  /* target: node, argument: its life */
    SIM_EVENT_THAW,   /* target: node */
    SIM_EVENT_ARRIVE, /* target: connection and end, argument: generation */
    SIM_EVENT_LOST,   /* likewise */
    SIM_EVENT_DIAL,   /* target: from and to, argument: life of from */
    SIM_EVENT_CLIENT, /* target: client, argument: its step */
    SIM_EVENT_FAULT,
};

struct sim_event {
    uint64_t time;
    uint64_t order;
    enum sim_event_kind kind;
    uint32_t target;
    uint64_t argument;
};

struct sim_node {
    struct sim *sim;
    uint32_t number;
    struct sim_disk disk;
    struct config config;
    struct net net;
    struct core *core; /* NULL: down */
    uint64_t life;     /* grows with each start and end */
    uint64_t frozen_until;
    uint64_t turn_at; /* of the newest turn event; UINT64_MAX: none */
    uint64_t disk_at;
    uint64_t mono_offset_ms; /* each process has its own monotonic clock, */
    int64_t mono_drift_ppm;  /* and each machine its own idea of a second */
    int64_t wall_offset_ms;
    int64_t wall_drift_ppm;
    bool is_dying;      /* calls of the network are void */
    bool is_outdated;   /* its disk is not the one that it used last: the others are to refuse it */
    bool may_refuse;    /* its disk was damaged on purpose: a refusal to start is right */
    bool was_repairing; /* the checks of a start are still to come */
    bool is_flipped; /* its memory was changed on purpose: its own checks would end the process */
    uint32_t spin_count; /* turns in a row that wanted another one at once */
    char message[512];   /* of the last start */
    struct check_durable durable;
    bool is_decayed;   /* its files were changed for good: it may be unable to read something */
    bool has_stranger; /* another disk is in it, and its own one waits: */
    uint32_t stranger_starts; /* left for that one; then its own one comes back */
    struct sim_image own_disk;
    struct check_durable own_durable;
    bool has_copy;
    struct sim_image copy;     /* of its disk, as it was some time ago */
    uint64_t copy_incarnation; /* of it */
    uint64_t quiet_life; /* the life in which it knew that it had lost entries, as last seen, */
    uint64_t quiet_term; /* and its ballot then */
    uint64_t quiet_vote;
    uint64_t seals;       /* in this life, as counted */
    uint64_t compactions; /* likewise */
    uint64_t base;        /* index of the base, as last seen */
    uint64_t checked_at;  /* of the last core_check() */
};

struct sim_options {
    uint64_t seed;
    uint64_t time_ms; /* of the part with faults */
    uint32_t nodes;   /* 0: by seed */
    uint32_t clients; /* 0: by seed */
    uint32_t verbose;
};

struct sim_counts {
    uint64_t events, turns, elections, crashes, power_cuts, starts, torn_tails, installs, reopens,
        cuts, seals, compactions;
    uint64_t faults, freezes, partitions, disk_full, jumps, stops, rots, refusals;
    uint64_t transfers, transfers_not, bank_reads;
    uint64_t feed_messages, feed_changes, feed_resumes, feeds_gone, feed_previous;
    uint64_t once_sequences, once_repeats, locks;
    uint64_t ranges, past_keys, histories, ranges_gone, flushes;
    uint64_t ops_ok, ops_failed, ops_unknown, keys_checked, entries, resets, dials, frames_changed;
    uint64_t quarantines, repairs; /* repairs of a log */
    uint64_t decays, losses, strangers, mended, last_copies, unreadable, fragments;
    uint64_t torn_writes, lost_sectors, turned_away, expired;
};

struct sim {
    struct sim_options options;
    struct prng prng;
    uint64_t now;
    struct sim_event *heap;
    uint64_t heap_count;
    uint64_t heap_capacity;
    uint64_t order;
    uint64_t trace;
    uint32_t node_count;
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_net net;
    struct sim_clients clients;
    struct sim_bank bank;
    struct sim_feeds feeds;
    struct sim_once once;
    struct check_log log;
    struct check_past past;
    bool has_faults; /* the storm is on */
    bool has_failed;
    char failure[512];
    uint32_t patient;   /* the node whose disk may lose something for good */
    bool takes_all;     /* in this run the last good copies go as well, */
    bool is_taken;      /* and now they are gone */
    uint64_t take_at;   /* when they go */
    uint64_t fault_set; /* which kinds of faults this run has */
    struct sim_counts counts;
};

struct sim *sim_create(const struct sim_options *options); /* gives */
void sim_destroy(struct sim *sim);

/* ---- time ---------------------------------------------------------------------------------------------- */

void sim_schedule(struct sim *sim, uint64_t time, enum sim_event_kind kind, uint32_t target,
                  uint64_t argument);
/* Runs until @time or a failure. */
void sim_run_until(struct sim *sim, uint64_t time);
static inline void sim_run_for(struct sim *sim, uint64_t ms)
{
    sim_run_until(sim, sim->now + ms * SIM_MS);
}
/* Runs until @done says so; false: it did not within @ms, or the run failed. */
bool sim_run_until_true(struct sim *sim, uint64_t ms, bool (*done)(struct sim *sim));
static inline uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return prng_below(&sim->prng, bound);
}
static inline bool sim_chance(struct sim *sim, uint64_t of_1000)
{
    return prng_below(&sim->prng, 1000) < of_1000;
}
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *sim, uint64_t value);

/* ---- nodes --------------------------------------------------------------------------------------------- */

uint64_t sim_node_now_ms(const struct sim_node *node);
uint64_t sim_node_wall_ms(const struct sim_node *node);
/* False: it refuses; node->message says why. A failure of the run unless may_refuse. */
bool sim_start(struct sim *sim, uint32_t node);
/* @power: unsynced bytes may be lost; else only the process is killed. */
void sim_crash(struct sim *sim, uint32_t node, bool power);
void sim_restart_later(struct sim *sim, uint32_t node, uint64_t ms);
void sim_freeze(struct sim *sim, uint32_t node, uint64_t ms);
/* Wants a turn of @node soon. */
void sim_wake(struct sim *sim, uint32_t node);
bool sim_node_frozen(const struct sim_node *node);
/* The newest leader that is up, or UINT32_MAX. */
uint32_t sim_leader(struct sim *sim);

/* ---- what scenarios ask ------------------------------------------------------------------------------- */

/* Sends one inline command to @node as a client and waits at most @ms; "" when nothing came. The text is valid
 * until the next call. */
const char *sim_ask(struct sim *sim, uint32_t node, uint64_t ms, const char *line);
/* True once somebody leads and answers. */
bool sim_wait_leader(struct sim *sim, uint64_t ms);

#endif
