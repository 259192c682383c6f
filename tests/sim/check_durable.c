#include "tests/sim/check_durable.h"

#include "raft/replica.h"
#include "storage/store.h"
#include "tests/sim/sim.h"

void check_durable_note(struct sim_node *node)
{
    struct check_durable *durable = &node->durable;
    struct store *store = core_store(node->core);
    const struct replica *replica = core_replica(node->core);
    if (core_repairing(node->core)) return; /* What it promised before still stands. */
    durable->has_promises = false;
    if (store == NULL || replica == NULL) return;
    durable->has_promises = true;
    durable->term = replica_term(replica);
    durable->voted_for = store_term(store) == durable->term ? store_voted_for(store) : 0;
    durable->persisted = store_persisted_index(store);
    durable->persisted_term = store_term_at(store, durable->persisted);
}

void check_durable_started(struct sim *sim, struct sim_node *node)
{
    struct check_durable *durable = &node->durable;
    struct store *store = core_store(node->core);
    if (!durable->has_promises || store == NULL) return;
    durable->has_promises = false;
    const uint64_t term = store_term(store);
    if (term < durable->term) {
        sim_fail(sim, "n%u forgot its term: %llu after %llu", node->number + 1,
                 (unsigned long long)term, (unsigned long long)durable->term);
    }
    if (term == durable->term && durable->voted_for != 0 &&
        store_voted_for(store) != durable->voted_for) {
        sim_fail(sim, "n%u forgot its vote in term %llu", node->number + 1,
                 (unsigned long long)term);
    }
    /* It has lost entries, knows it, and says so: nobody counts on it. Its votes stand. */
    if (core_quarantined(node->core)) return;
    const uint64_t last = store_last_index(store);
    if (last < durable->persisted) {
        sim_fail(sim, "n%u lost durable entries: %llu of %llu are left", node->number + 1,
                 (unsigned long long)last, (unsigned long long)durable->persisted);
        return;
    }
    const uint64_t found = store_term_at(store, durable->persisted);
    if (found != 0 && durable->persisted_term != 0 && found != durable->persisted_term) {
        sim_fail(sim, "n%u: its durable entry %llu has term %llu, it had %llu", node->number + 1,
                 (unsigned long long)durable->persisted, (unsigned long long)found,
                 (unsigned long long)durable->persisted_term);
    }
}
