/* sim_decay.h - disks that lose or change what they had acknowledged, and nobody puts it back.
 *
 * In most runs all of it strikes one node, the patient: then nothing that was acknowledged loses its last good copy,
 * and the cluster owes everything to its clients. The patient must never serve, vote or stand for election while it
 * knows that it lost entries, and in the end it must be whole.
 *
 * In a few runs the last good copy goes, once, on all nodes: then the cluster owes nothing but the truth. It may refuse
 * to start, to lead, to answer, and must say why; what it does answer must be right. */
#ifndef KV_TESTS_SIM_SIM_DECAY_H
#define KV_TESTS_SIM_SIM_DECAY_H

#include <stdbool.h>

struct sim;
struct sim_node;

/* Faults; nothing in a cluster without a spare copy. */
void sim_decay_rot(struct sim *sim); /* bits of sealed files, while the node runs */
void sim_decay_rot_log(
    struct sim *sim); /* bits of a group of the log that is not sealed yet, likewise */
void sim_decay_misdirect(struct sim *sim); /* a block of a sealed file lands on another one */
void sim_decay_refuse(
    struct sim *sim); /* a sealed file, or a part of it, cannot be read for a while */
void sim_decay_lose(struct sim *sim);    /* a group of the log that was synced is not there */
void sim_decay_replace(struct sim *sim); /* an empty or older disk, until the right one is back */
/* Before each start: the wrong disk is not tried for ever. */
void sim_decay_start(struct sim *sim, struct sim_node *node);
/* Ends what ends by itself. */
void sim_decay_end(struct sim *sim);

/* Now: sealed files rot all over, or what can be proven of the logs is gone, or both, on every node. */
void sim_decay_take_all(struct sim *sim);
/* Does any node say that something is wrong with what it holds? */
bool sim_decay_is_said(struct sim *sim);

/* After each turn: does a node that lost entries keep still? */
void sim_decay_turn(struct sim *sim, struct sim_node *node);
/* May a node be unable to read something? */
bool sim_decay_any(const struct sim *sim);
/* Nobody has anything damaged that is known to be so. */
bool sim_decay_all_whole(struct sim *sim);

#endif
