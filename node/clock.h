/* clock.h - the replicated clock: what the leader's stamps and the expiry of keys go by.
 *
 * Every entry carries the clock of the leader that made it. A node that follows learns from the stamps how far
 * that clock is from its own monotonic one, and goes on from there when it leads itself: the wall clocks of
 * machines may differ by anything without a key expiring early or late when leadership moves. Only a node that
 * has seen no entry as it was made, as after a start of all nodes, begins at its wall clock, never below the
 * highest stamp. While it leads the clock follows the monotonic one and is drawn towards the wall clock by a
 * thousandth at most, so that a wall clock that jumps expires nothing, and one that is right wins in the end.
 *
 * An entry that took long says too little, so the best of the last 10 to 20 seconds counts; one that is received
 * late, by a node that catches up, says nothing: there the stamps run faster than time does.
 *
 * Times are milliseconds: @now_ms monotonic, all others since the epoch. Not thread-safe; no errors. */
#ifndef KV_NODE_CLOCK_H
#define KV_NODE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct clock {
    uint64_t stamp_ms;    /* The highest stamp, */
    uint64_t stamp_at_ms; /* and when it was seen; 0: none was. */
    int64_t offset_ms[2]; /* Best of stamp - now in this window and in the one before: */
    bool has_offset[2];   /* whether there is one. */
    uint64_t window_ms;   /* When this window began. */
    uint64_t base_ms;     /* The clock was this */
    uint64_t at_ms;       /* at this moment. */
    uint64_t last_ms;     /* Given out last. */
    bool leads;
};

/* The highest stamp of the log, each turn. */
void clock_saw(struct clock *clock, uint64_t stamp_ms, uint64_t now_ms);
/* This node begins to lead. */
void clock_lead(struct clock *clock, uint64_t now_ms, uint64_t wall_ms);
/* It does not lead in this turn. */
void clock_follow(struct clock *clock, uint64_t now_ms, uint64_t wall_ms);
/* The clock: while the node leads it never goes back, nor below a stamp that was seen. */
uint64_t clock_now(struct clock *clock, uint64_t now_ms, uint64_t wall_ms);

#endif
