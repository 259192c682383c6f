/* sim_decay.h - disks that lose or change what they had acknowledged, and nobody puts it back.
 *
 * All of it strikes one node of a run, the patient: then nothing that was acknowledged loses its last good copy, and
 * the cluster owes everything to its clients. The patient must never serve, vote or stand for election while it knows
 * that it lost entries, and in the end it must be whole. */
#ifndef KV_TESTS_SIM_SIM_DECAY_H
#define KV_TESTS_SIM_SIM_DECAY_H

#include <stdbool.h>

struct sim;
struct sim_node;

/* Faults; nothing in a cluster without a spare copy. */
void sim_decay_rot(struct sim *sim);       /* bits of sealed files, while the node runs */
void sim_decay_misdirect(struct sim *sim); /* a block of a sealed file lands on another one */
void sim_decay_refuse(struct sim *sim);    /* a sealed file cannot be read for a while */
void sim_decay_lose(struct sim *sim);      /* a group of the log that was synced is not there */
void sim_decay_replace(struct sim *sim);   /* an empty or older disk, until the right one is back */
/* Ends what ends by itself. */
void sim_decay_end(struct sim *sim);

/* After each turn: does a node that lost entries keep still? */
void sim_decay_turn(struct sim *sim, struct sim_node *node);
/* The right disk is not in this node: what it says counts for nothing. */
bool sim_decay_is_stranger(const struct sim_node *node);
/* Nobody has anything damaged that is known to be so. */
bool sim_decay_all_whole(struct sim *sim);

#endif
