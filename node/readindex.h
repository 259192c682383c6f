/* readindex.h - linearizable reads of a node's own applied state, whoever leads.
 *
 * A read that arrives on any node may be answered from what that node has applied once it has applied everything that
 * was acknowledged when the read arrived. Only the leader knows how far that is: it gives the index, after one round
 * of probes (raft/readgate.h) that began when it was asked and proves that it still leads.
 *
 * Tickets are batched: all that were given while one round is under way share the next one, of the whole node. What
 * was lost, a leader that went, a link that broke: the round is asked again, for up to `park`.
 *
 *   READ_ASK    0 u64 number
 *   READ_TELL   0 u64 number (of the question)   8 u64 index   16 u8 1: that is it, 0: not leading, 7 zeros
 *
 * The number names a question for ever: its upper half is the incarnation of who asks, so an answer to a process of
 * before is never taken for one to this process. Of one node only the newest question is answered.
 *
 * Time. On the leader a key is gone when its clock says so; here it is gone when the log says so: once it is deleted,
 * or an entry that is applied carries a stamp at or above its expiry. So that both agree, the leader answers only when
 * what its clock says is gone is gone by the log, too: an entry is proposed for that if need be. */
#ifndef KV_NODE_READINDEX_H
#define KV_NODE_READINDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/wire.h"
#include "storage/base/limits.h"

struct core;

enum readindex_state {
    READINDEX_WAITS,
    READINDEX_OK,
    READINDEX_FAILED, /* Nobody gave it for as long as `park`. */
};

/* What another node asks of us. */
struct readindex_ask {
    uint64_t number; /* 0: nothing */
    uint64_t read;   /* Read round that must be confirmed, */
    uint64_t batch;  /* and batch that must be applied; 0: none. */
};

/* All zero to begin with. */
struct readindex {
    uint64_t wanted;    /* Highest ticket given. */
    uint64_t launched;  /* Tickets up to it belong to the round under way, or to an older one. */
    uint64_t confirmed; /* Tickets up to it have their index, */
    uint64_t index;     /* which is this, or an older one. */
    uint64_t failed;    /* Tickets up to it and above confirmed have none. */
    uint64_t wanted_ms; /* Since when the first ticket of the next round waits, */
    uint64_t began_ms;  /* and that of the round under way. */
    bool is_flying;
    uint64_t node;     /* Whom it asked: ourselves, another; 0: nobody yet. */
    uint64_t number;   /* Of the newest question to another node. */
    uint64_t asked_ms; /* When it was sent. */
    uint64_t retry_ms; /* That node does not lead: not before; 0: it has not said so. */
    uint64_t read;     /* Ourselves: as in readindex_ask, */
    uint64_t batch;
    uint64_t term;                        /* in this term. */
    struct readindex_ask asks[PEERS_MAX]; /* Of each peer, in the order of struct peers. */
    uint64_t asks_term;                   /* In which they were taken. */
    uint64_t round_count;                 /* Rounds asked for, repetitions included. */
};

/* A ticket, never 0, for a read that arrives now. */
uint64_t readindex_want(struct core *core);
/* OK: *@index is what must be applied here before the read may be evaluated. Keep it: a later call may give a later
 * one, and who lags would never reach it. */
enum readindex_state readindex_get(const struct core *core, uint64_t ticket, uint64_t *index);

/* All of it for one read: begins all zero; call it until it says no more WAITS. OK: what is applied here is new enough
 * now. FAILED, or OK: it is all zero again. FAILED also when this node does not catch up for as long as `park`. */
struct readindex_wait {
    uint64_t ticket;
    uint64_t index;
    uint64_t since_ms;
};
enum readindex_state readindex_ready(struct core *core, struct readindex_wait *wait);

/* Once before and once after sessions run in a turn. */
void readindex_turn(struct core *core);
uint64_t readindex_deadline(const struct core *core); /* UINT64_MAX: none */
/* Frames 84, 85. ERR_CORRUPT: malformed. */
enum err readindex_receive(struct core *core, const struct wire_frame *frame);
/* A connection to or from @node broke. */
void readindex_lost(struct core *core, uint64_t node);

#endif
