/* lone.h - one replica of three whose peers are played by the test: messages are given to it one by one,
 * and what it sends is taken from the queues. Ids are 1 (the replica), 2 and 3. */
#ifndef KV_TESTS_RAFT_LONE_H
#define KV_TESTS_RAFT_LONE_H

#include "tests/raft/cluster.h"

/* An entry of an append that the test makes. */
struct lone_entry {
    uint64_t term;
    uint8_t type;
    const struct guard_configuration *change;
};

struct lone {
    struct cluster *cluster;
    struct node *node;
    struct replica *replica;
};

/* @bits_off: guards that are switched off. */
void lone_open(struct lone *lone, uint64_t bits_off);
/* Without the checks at the end: what a switched-off guard breaks stays broken. */
void lone_close(struct lone *lone);
/* Stops with a loss of power and starts again. */
void lone_restart(struct lone *lone);
/* Turns of one millisecond each. */
void lone_run(struct lone *lone, uint64_t ms);
/* Lets the disk finish and reports it. */
void lone_sync(struct lone *lone);
/* Becomes leader with the votes of 2 and 3; 0 entries of its own are acknowledged by them. */
void lone_lead(struct lone *lone);

enum err lone_give(struct lone *lone, uint64_t from, const struct message *message);
/* An append with entries; @count 0: a heartbeat. */
enum err lone_append(struct lone *lone, uint64_t from, uint64_t term, uint64_t prev_index,
                     uint64_t prev_term, uint64_t commit, const struct lone_entry *entries,
                     uint32_t count);
/* An acknowledgement, or a refusal of @rejected. */
enum err lone_answer(struct lone *lone, uint64_t from, uint64_t rejected, uint64_t last_index);

/* The newest message of @type to @to, its body borrowed until the next call. False: none. Empties the queue. */
bool lone_take(struct lone *lone, uint64_t to, uint8_t type, struct message *message);
void lone_drop(struct lone *lone); /* empties all queues */
/* A configuration of 1, 2, 3 (and 4) in these roles; GUARD_NO_MEMBER leaves one out. */
void lone_configuration(struct guard_configuration *configuration, const enum guard_role *roles,
                        uint32_t count);

#endif
