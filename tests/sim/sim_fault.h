/* sim_fault.h - what goes wrong in a random run, and when.
 *
 * Each run has a random half of the kinds of faults: some bugs only show when the rest is calm. */
#ifndef KV_TESTS_SIM_SIM_FAULT_H
#define KV_TESTS_SIM_SIM_FAULT_H

#include <stdint.h>

struct sim;

void sim_fault_start(struct sim *sim);
/* One fault, and the wish for the next one. */
void sim_fault_step(struct sim *sim);
/* Ends all of them: everybody runs, reaches everybody, has room and time. */
void sim_fault_end(struct sim *sim);

#endif
