/* sim_once.h - clients that repeat commands until they are answered (KV.ONCE), and clients that take a lock (KV.LOCK).
 *
 * The first count together: each of their sequences adds one to a counter, is sent again after every error, lost
 * connection and impatience, to any node, and sometimes twice at once. In the end as many were counted as there were
 * sequences, and every answer was another number, unless a flush let the counter begin anew. The others take one lock,
 * keep it, renew it, give it back or let it run out. The committed log must show one owner at a time, and tokens that
 * grow with each change of hands; who was told that it has the lock, or had it until now, must have had it then. */
#ifndef KV_TESTS_SIM_SIM_ONCE_H
#define KV_TESTS_SIM_SIM_ONCE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/prng.h"
#include "storage/effect.h"

struct sim;
struct sim_conn;

#define SIM_ONCE_CLIENTS 4u /* the even ones count, the odd ones take the lock */

struct sim_once_client {
    struct sim_conn *conn;
    uint64_t step;
    uint32_t replies_left;
    uint64_t sequence; /* asked until it is answered; of locks: how many were asked */
    bool is_open;      /* the sequence has no answer yet; of locks: the answer is a token */
    bool holds;
    int64_t answer; /* the last one */
    uint64_t asked; /* index that was committed then */
    struct buf in;
};

enum sim_once_kind {
    SIM_ONCE_COUNT,
    SIM_ONCE_TOKEN,
    SIM_ONCE_OWNER,
    SIM_ONCE_FREE,
    SIM_ONCE_FLUSH
};

/* A change of the counter, of the tokens, of the lock in the committed log. */
struct sim_once_change {
    uint64_t index;
    uint64_t order; /* in which they were seen */
    enum sim_once_kind kind;
    int64_t number; /* or the owner's */
};

/* Between two indexes somebody was told that the lock was its own. */
struct sim_once_claim {
    uint64_t from;
    uint64_t to;
    int64_t owner;
    int64_t token; /* 0: none was told */
};

struct sim_once {
    struct sim_once_client clients[SIM_ONCE_CLIENTS];
    struct prng prng; /* its own */
    bool is_final;
    int64_t *answers; /* what the sequences were answered */
    uint64_t answer_count;
    uint64_t answer_capacity;
    struct sim_once_change *changes;
    uint64_t change_count;
    uint64_t change_capacity;
    struct sim_once_claim *claims;
    uint64_t claim_count;
    uint64_t claim_capacity;
    uint64_t repeats, locks;
    bool checked; /* the log was whole */
};

void sim_once_init(struct sim *sim);
void sim_once_close(struct sim *sim);
void sim_once_start(struct sim *sim);
void sim_once_step(struct sim *sim, uint32_t client, uint64_t step);
void sim_once_bytes(struct sim *sim, uint32_t client, struct slice bytes);
void sim_once_lost(struct sim *sim, uint32_t client);
void sim_once_finish(struct sim *sim);
bool sim_once_finished(const struct sim *sim);
/* An effect of an entry that is committed, each one once. */
void sim_once_effect(struct sim *sim, uint64_t index, const struct effect *effect);
void sim_once_check(struct sim *sim);

#endif
