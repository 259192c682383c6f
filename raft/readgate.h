/* readgate.h - linearizable reads without the disk: one round of term probes admits all that
 * wait.
 *
 * A read may be answered when a majority of voters, asked after the read arrived, was still in
 * our term: whoever leads a later term needs a vote of that majority, so it was elected after
 * the read began. The leader must have committed an entry of its term, and must have applied
 * what was committed when the probes left. All reads that arrive while a round is under way wait
 * for the next one.
 *
 *   PROBE         0 u64 term    8 u64 round
 *   PROBE_RESULT  0 u64 term    8 u64 round   16 u8 ok, 7 zeros: the term and round of the probe
 *
 * Term and round name a probe for ever: a term has one leader and one process of it (W5), a
 * round is never used twice in a process. No clock is part of the proof; time only repeats what
 * was lost. */
#ifndef KV_RAFT_READGATE_H
#define KV_RAFT_READGATE_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/guard.h"

/* What must not change while a round is under way. */
struct readgate_ground {
    uint64_t term;
    uint64_t change_committed; /* indexes of the configurations */
    uint64_t change_uncommitted;
};

struct readgate {
    uint64_t requested; /* highest number given to a read */
    uint64_t launched;  /* number that the round under way, or the last one, answers */
    uint64_t confirmed;
    uint64_t round;
    bool is_flying;
    struct readgate_ground ground;
    uint64_t committed; /* what must be applied, as of the launch */
    uint64_t sent_ms;
    uint64_t
        patience_ms; /* until the probes are sent again; doubles, for links slower than a heartbeat */
    uint64_t answered[GUARD_MEMBERS_MAX]; /* ids that said ok */
    uint32_t answered_count;
    uint64_t round_count;
};

/* The number that a read which arrives now waits for. */
uint64_t readgate_request(struct readgate *gate);
/* Reads wait and no round is under way. */
bool readgate_wants(const struct readgate *gate);
/* Records everything, and only then may the caller send PROBE{term, gate->round} to all voters. */
void readgate_launch(struct readgate *gate, const struct readgate_ground *ground,
                     uint64_t committed, uint64_t heartbeat_ms, uint64_t now_ms);
/* The round under way must be started again, under a new name: probes were lost or the ground
 * moved. */
bool readgate_is_stale(const struct readgate *gate, const struct readgate_ground *ground,
                       uint64_t now_ms);
void readgate_relaunch(struct readgate *gate, const struct readgate_ground *ground,
                       uint64_t committed, uint64_t now_ms);
/* @from said that it was in @term when it answered @round. */
void readgate_answer(struct readgate *gate, uint64_t from, uint64_t term, uint64_t round);
/* Ends the round when a majority of the voters of @members (ourselves included when we vote)
 * answered and @applied has reached what was committed. The caller leads the term of the ground. */
void readgate_settle(struct readgate *gate, const struct guard_configuration *members,
                     uint64_t self, const struct readgate_ground *ground, uint64_t applied);
/* Leadership is lost: no number given so far is confirmed by it. */
void readgate_void(struct readgate *gate);
uint64_t readgate_deadline(const struct readgate *gate); /* UINT64_MAX: none */

void readgate_encode(uint64_t term, uint64_t round, struct buf *out);
void readgate_encode_result(uint64_t term, uint64_t round, bool is_ok, struct buf *out);
/* ERR_CORRUPT: malformed. */
enum err readgate_decode(struct slice body, uint64_t *term, uint64_t *round);
enum err readgate_decode_result(struct slice body, uint64_t *term, uint64_t *round, bool *is_ok);

#endif
