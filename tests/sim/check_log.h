/* check_log.h - one log, one leader per term: what Raft promises, compared over all nodes and all time.
 *
 * The first node that shows an entry as committed fixes what everybody must have at that index for ever. */
#ifndef KV_TESTS_SIM_CHECK_LOG_H
#define KV_TESTS_SIM_CHECK_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

struct sim;
struct sim_node;

struct check_log_entry {
    uint64_t checksum; /* of the whole record; 0: not seen, because everybody had it in a base */
    uint64_t term;
};

struct check_log {
    struct check_log_entry *entries; /* by index */
    uint64_t capacity;
    uint64_t last;     /* highest index that anybody showed as committed */
    uint64_t *leaders; /* by term: life of the node that led, times SIM_NODES_MAX, and its number */
    uint64_t leaders_capacity;
    uint64_t leader_count; /* terms that had a leader */
    uint64_t term_last;    /* highest term with a leader */
};

void check_log_close(struct check_log *log);
/* After each turn of @node: its role, its committed entries. Fails the run on a contradiction. */
void check_log_turn(struct sim *sim, struct sim_node *node);
/* At the start of a life: what the node has applied or in its base must fit what was committed. */
void check_log_started(struct sim *sim, struct sim_node *node);

#endif
