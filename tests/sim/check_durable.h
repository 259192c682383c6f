/* check_durable.h - what a node has told others must be there after any crash.
 *
 * At each crash the node's promises are written down: its ballot, and the entries that it reported as durable.
 * At the next start they are held against what the disk gave back. */
#ifndef KV_TESTS_SIM_CHECK_DURABLE_H
#define KV_TESTS_SIM_CHECK_DURABLE_H

#include <stdbool.h>
#include <stdint.h>

struct sim;
struct sim_node;

struct check_durable {
    uint64_t compared;  /* entries up to it were compared with everybody's, in this life */
    uint64_t committed; /* as last seen, in this life */
    bool is_reopened;   /* the state was opened again since */
    uint64_t last;      /* last index, as last seen in this life, */
    uint64_t last_term; /* and its term */

    bool has_promises; /* the rest is valid */
    uint64_t term;
    uint64_t voted_for;
    uint64_t persisted;
    uint64_t persisted_term;
};

/* The node is about to die with what it now has. */
void check_durable_note(struct sim_node *node);
/* It came back. */
void check_durable_started(struct sim *sim, struct sim_node *node);

#endif
