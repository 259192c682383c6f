/* witness.h - what a replica can say about its own state at an index, and what the log says about it.
 *
 * After each applied entry the state hash of the keys (keydir_hash()) is remembered for a while, so that nodes can be
 * compared at the same index although none of them stands still. Two effects that change no key end here: PRESENT (the
 * leader knew of that start of that node) and CHECK (the hash that most nodes had at an index). */
#ifndef KV_STORAGE_WITNESS_H
#define KV_STORAGE_WITNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/effect.h"

#define WITNESS_COUNT 32768u /* applied indexes whose hashes are remembered */
#define WITNESS_NODES_MAX 32u

/* The newest CHECK that was applied. */
struct witness_check {
    uint64_t entry_index; /* 0: none since the start */
    uint64_t index;
    uint64_t hash;
    uint64_t own_hash; /* valid when is_known */
    bool is_known;     /* what we had at that index is remembered */
};

struct witness {
    uint64_t *hashes; /* of index i at i % WITNESS_COUNT */
    uint64_t first;   /* oldest index remembered; last + 1: none */
    uint64_t last;
    struct {
        uint64_t node_id;
        uint64_t incarnation;
    } present[WITNESS_NODES_MAX];
    uint32_t present_count;
    struct witness_check check;
};

/* The state is that at @index. */
void witness_init(struct witness *witness, uint64_t index, uint64_t hash);
void witness_close(struct witness *witness);
/* Entry @index, one above the last, was applied. */
void witness_applied(struct witness *witness, uint64_t index, uint64_t hash);
/* A PRESENT or CHECK in the entry @index, which is being applied. */
void witness_effect(struct witness *witness, uint64_t index, const struct effect *effect);
/* False: @index is not remembered, or not reached yet. */
bool witness_hash(const struct witness *witness, uint64_t index, uint64_t *hash);
/* The newest start of @node_id that the log knows of, since this replica was opened; 0: none. */
uint64_t witness_present(const struct witness *witness, uint64_t node_id);

#endif
