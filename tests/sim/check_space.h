/* check_space.h - garbage must not stay: what the files of a node take, held against what lives in them. */
#ifndef KV_TESTS_SIM_CHECK_SPACE_H
#define KV_TESTS_SIM_CHECK_SPACE_H

#include <stdbool.h>

struct sim;

/* Is every node, all of them up, within the bound of docs/data-file.md? Counted from the keys, not by the figures that
 * compaction keeps for itself. */
bool check_space_bounded(struct sim *sim);
/* Fails the run with the figures of who is not. */
void check_space_fail(struct sim *sim);

#endif
