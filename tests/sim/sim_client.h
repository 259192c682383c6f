/* sim_client.h - clients that ask at random and remember what they were told.
 *
 * Each client keeps one connection to some node, sends pipelines of one to five commands, and waits. What is
 * answered, refused or never answered is recorded per key; check_linear.h judges it in the end. Keys are few, so
 * that clients meet, and retire after some tens of operations, so that histories stay short.
 *
 * A value says which write made it ("v17:" and filling that depends on the number only), so that a read shows
 * at once whether anybody ever wrote what it got. */
#ifndef KV_TESTS_SIM_SIM_CLIENT_H
#define KV_TESTS_SIM_SIM_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/effect.h"
#include "tests/sim/check_linear.h"
#include "tests/sim/check_past.h"
#include "tests/sim/sim_value.h"

struct sim;
struct sim_conn;

#define SIM_CLIENT_LIMIT 8u /* clients at most */
#define SIM_PIPELINE_MAX 5u /* commands on their way */
#define SIM_FLUSHES_MAX 6u

#define SIM_KEYS_LIVE 8u /* keys in use at a time */

struct sim_key {
    char name[24];
    enum sim_key_kind kind;
    uint32_t ops_max; /* it retires then, */
    uint32_t doubts;  /* or with too many unknown writes that the log does not name */
    struct check_op *ops;
    uint32_t op_count;
    uint32_t op_capacity;
};

/* A command on its way. */
struct sim_pending {
    char shape;                      /* of the reply: see sim_client.c */
    struct check_past_question past; /* of shape 'p' */
    uint32_t flush;                  /* of shape 'f' */
    uint32_t part_count;
    uint32_t keys[2];
    uint32_t ops[2];
};

struct sim_client {
    uint32_t number;
    uint32_t node; /* of the connection */
    struct sim_conn *conn;
    uint64_t step; /* only the newest scheduled step counts */
    struct sim_pending pending[SIM_PIPELINE_MAX];
    uint32_t pending_first;
    uint32_t pending_count; /* end of the used ones */
    struct buf in;
    uint64_t think_max;
    uint64_t patience;
};

struct sim_clients {
    struct sim_client list[SIM_CLIENT_LIMIT + 1]; /* the last one asks for sim_ask() */
    uint32_t count;
    struct sim_key *keys;
    uint32_t key_count;
    uint32_t key_capacity;
    uint32_t live[SIM_KEYS_LIVE];
    struct check_op flushes[SIM_FLUSHES_MAX];
    uint32_t flush_count;
    uint32_t flush_max;  /* of this run: of most none, for it leaves little to go wrong */
    uint64_t clock;      /* asked and answered: grows with each */
    uint64_t next_value; /* id */
    uint8_t *written;    /* by id: how often the committed log writes this value; saturates */
    uint64_t written_capacity;
    bool is_quiet; /* nothing is asked */
    bool is_final; /* only reads, each key once through each node */
    uint32_t final_next;
    uint64_t ok_count;
    uint64_t failed_count;
    uint64_t unknown_count;
    uint64_t big_share; /* of 1000 commands on the big key */
    bool has_large;     /* texts grow beyond what travels in one frame */
};

void sim_client_init(struct sim *sim);
void sim_client_close(struct sim *sim);
/* Lets all clients begin. */
void sim_client_start(struct sim *sim);
void sim_client_step(struct sim *sim, uint32_t client, uint64_t step);
void sim_client_bytes(struct sim *sim, uint32_t client, struct slice bytes);
void sim_client_lost(struct sim *sim, uint32_t client);
/* From now on every key is read once through every node, until sim_client_done(). */
void sim_client_finish(struct sim *sim);
bool sim_client_done(struct sim *sim);
/* An effect of an entry that is committed, each one once. */
void sim_client_effect(struct sim *sim, const struct effect *effect);
/* All histories. What the committed log says decides operations of unknown outcome: etcd's robustness tests showed how
 * much shorter that makes the search. Fails the run on a contradiction. */
void sim_client_check(struct sim *sim);

/* One whole reply at the start of @bytes: its size, or 0 when more is needed, or UINT64_MAX when it is none. */
uint64_t sim_client_reply_size(struct slice bytes);

#endif
