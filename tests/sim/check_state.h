/* check_state.h - equal logs must make equal keys: the state of all nodes that applied the same index. */
#ifndef KV_TESTS_SIM_CHECK_STATE_H
#define KV_TESTS_SIM_CHECK_STATE_H

#include <stdbool.h>
#include <stdint.h>

struct sim;
struct sim_node;

/* A hash over all keys, revisions, expiries and values of @node. Fails the run when a value cannot be read. */
uint64_t check_state_hash(struct sim *sim, struct sim_node *node);
/* Compares all nodes that are up and have applied the same index as the first of them. Returns how many agree. */
uint32_t check_state_compare(struct sim *sim);

#endif
