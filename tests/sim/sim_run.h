/* sim_run.h - one whole random run: a storm, then calm, then the demand that all is well. */
#ifndef KV_TESTS_SIM_SIM_RUN_H
#define KV_TESTS_SIM_SIM_RUN_H

#include <stdbool.h>

#include "tests/sim/sim.h"

/* False: it failed; sim->failure says what. */
bool sim_run(struct sim *sim);
/* Ends all faults, then demands that every node serves and that all come to the same state. */
void sim_run_converge(struct sim *sim);
/* Ends all faults, then demands that every node serves, that all clients get answers, that all nodes come to the
 * same state, and that all histories are linearizable. */
void sim_run_settle(struct sim *sim);

#endif
