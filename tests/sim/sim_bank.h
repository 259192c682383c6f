/* sim_bank.h - clients that move money between accounts in transactions, and what must hold of that.
 *
 * An account's value is "m<number of the transaction>:<balance>"; one that does not exist has nothing. Transfers are
 * WATCH, read, MULTI .. EXEC or a KV.TXN whose conditions are the values that were read; some leave the
 * first account empty and delete it. Others read all accounts at one moment: MGET, MULTI of GETs, KV.TXN of GETs.
 *
 * In the end the committed log is held against all that:
 *   - the two changes of a transfer are one behind the other in one entry, once;
 *   - a transfer that was answered done is there, one that was answered not done is not;
 *   - what it changed was what it had read, and after a WATCH nobody who began later changed it in between;
 *   - every read shows the accounts as they were between two transfers, and no operation is older than what was
 *     answered before it was asked (strict serializability). So the total never changes. */
#ifndef KV_TESTS_SIM_SIM_BANK_H
#define KV_TESTS_SIM_SIM_BANK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/prng.h"
#include "storage/effect.h"

struct sim;
struct sim_conn;

#define SIM_BANK_CLIENTS 3u
#define SIM_BANK_ACCOUNTS 5u

/* What an account holds, or held. */
struct sim_bank_value {
    uint64_t txn; /* 0: it does not exist */
    int64_t balance;
};

enum sim_bank_kind { SIM_BANK_READ, SIM_BANK_WATCH, SIM_BANK_CONDITION };
enum sim_bank_outcome { SIM_BANK_UNKNOWN, SIM_BANK_DONE, SIM_BANK_NOT_DONE };

struct sim_bank_op {
    enum sim_bank_kind kind;
    enum sim_bank_outcome outcome;
    uint64_t asked;    /* the transaction itself, or the read */
    uint64_t answered; /* UINT64_MAX: never */
    uint64_t watched;  /* when the answer of the read behind WATCH was here */
    uint32_t accounts[2];
    struct sim_bank_value values[SIM_BANK_ACCOUNTS]; /* read: all; else those of the two accounts */
};

/* A change of an account in the committed log. */
struct sim_bank_change {
    uint64_t index;
    uint64_t order;   /* in which they were seen */
    uint32_t account; /* SIM_BANK_ACCOUNTS: all of them are gone */
    struct sim_bank_value value;
};

struct sim_bank_client {
    struct sim_conn *conn;
    uint32_t node;
    uint64_t step;
    uint32_t stage; /* 0: nothing asked, 1: reads, 2: the transaction */
    uint32_t replies_left;
    struct sim_bank_op op;
    uint64_t txn;
    struct buf in;
};

struct sim_bank {
    struct sim_bank_client clients[SIM_BANK_CLIENTS];
    struct prng prng; /* its own */
    bool is_final;    /* nothing more is begun */
    uint64_t clock;
    struct sim_bank_op *ops; /* by number; transfers have theirs as number of the transaction */
    uint64_t op_count;
    uint64_t op_capacity;
    struct sim_bank_change *changes;
    uint64_t change_count;
    uint64_t change_capacity;
    uint64_t done, aborted, reads;
    bool checked; /* the log was whole */
};

void sim_bank_init(struct sim *sim);
void sim_bank_close(struct sim *sim);
void sim_bank_start(struct sim *sim);
void sim_bank_step(struct sim *sim, uint32_t client, uint64_t step);
void sim_bank_bytes(struct sim *sim, uint32_t client, struct slice bytes);
void sim_bank_lost(struct sim *sim, uint32_t client);
void sim_bank_finish(struct sim *sim);
bool sim_bank_finished(const struct sim *sim);
/* An effect of an entry that is committed, each one once. */
void sim_bank_effect(struct sim *sim, uint64_t index, const struct effect *effect);
void sim_bank_check(struct sim *sim); /* check_bank.c */

#endif
