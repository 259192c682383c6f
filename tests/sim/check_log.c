#include "tests/sim/check_log.h"

#include <string.h>

#include "raft/replica.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/effect.h"
#include "storage/record.h"
#include "storage/store.h"
#include "tests/sim/sim.h"

#define READ_SIZE (256u * 1024u)

void check_log_close(struct check_log *log)
{
    mem_free(log->entries);
    mem_free(log->leaders);
    *log = (struct check_log){0};
}

static struct check_log_entry *entry_at(struct check_log *log, uint64_t index)
{
    if (index >= log->capacity) {
        const uint64_t capacity = index * 2 + 1024;
        log->entries = mem_resize(log->entries, capacity * sizeof *log->entries);
        memset(log->entries + log->capacity, 0, (capacity - log->capacity) * sizeof *log->entries);
        log->capacity = capacity;
    }
    return &log->entries[index];
}

/* Tells the clients what an entry writes. Its own checksum was verified. */
static void check_effects(struct sim *sim, const struct record *record)
{
    if (record->type != RECORD_COMMAND) return;
    struct slice rest = record->payload;
    const uint32_t count = rest.size >= EFFECT_BODY_HEADER_SIZE ? get_u32(rest.data) : 0;
    if (count == 0) sim_fail(sim, "entry %llu has no effects", (unsigned long long)record->index);
    rest = slice_of(rest.data + EFFECT_BODY_HEADER_SIZE, rest.size - EFFECT_BODY_HEADER_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        struct effect effect;
        uint64_t size = 0;
        if (effect_decode(rest, &effect, &size) != OK) {
            sim_fail(sim, "entry %llu has a damaged effect", (unsigned long long)record->index);
            return;
        }
        sim_client_effect(sim, &effect);
        sim_bank_effect(sim, record->index, &effect);
        sim_once_effect(sim, record->index, &effect);
        rest = slice_of(rest.data + size, rest.size - size);
    }
}

static void check_record(struct sim *sim, const struct sim_node *node, const struct record *record,
                         struct slice bytes)
{
    struct check_log *log = &sim->log;
    const uint64_t checksum = hash64(bytes.data, bytes.size) | 1;
    struct check_log_entry *entry = entry_at(log, record->index);
    if (record->index > log->last) log->last = record->index;
    if (entry->checksum == 0) {
        *entry = (struct check_log_entry){checksum, record->term};
        sim->counts.entries++;
        check_effects(sim, record);
        check_past_entry(&sim->past, record);
        return;
    }
    if (entry->checksum == checksum && entry->term == record->term) return;
    sim_fail(sim, "n%u has another committed entry %llu: term %llu instead of %llu",
             node->number + 1, (unsigned long long)record->index, (unsigned long long)record->term,
             (unsigned long long)entry->term);
}

/* Compares what became committed since the last look. */
static void check_committed(struct sim *sim, struct sim_node *node, uint64_t committed)
{
    struct store *store = core_store(node->core);
    struct check_durable *seen = &node->durable;
    const uint64_t last = store_last_index(store);
    if (committed > last) committed = last; /* The leader is ahead of what we have received. */
    while (seen->compared < committed && !sim->has_failed) {
        const uint64_t first = store_first_index(store);
        if (seen->compared + 1 < first) seen->compared = first - 1;
        if (seen->compared >= committed) return;
        struct buf bytes = {0};
        uint32_t count = 0;
        const enum err err = store_read(store, seen->compared + 1, committed, READ_SIZE, &bytes,
                                        &count);
        if (node->is_decayed && (err == ERR_CORRUPT || err == ERR_IO)) {
            buf_close(&bytes);
            seen->compared = committed;
            return;
        }
        if (err != OK || count == 0) {
            sim_fail(sim, "n%u cannot read its own entry %llu: %s", node->number + 1,
                     (unsigned long long)seen->compared + 1, err_name(err));
        }
        struct slice rest = buf_slice(&bytes);
        for (uint32_t i = 0; i < count && !sim->has_failed; i++) {
            struct record record;
            uint64_t size = 0;
            if (record_decode(rest, &record, &size) != OK || record.index != seen->compared + 1) {
                sim_fail(sim, "n%u reads back a damaged entry %llu", node->number + 1,
                         (unsigned long long)seen->compared + 1);
                break;
            }
            check_record(sim, node, &record, slice_of(rest.data, size));
            rest = slice_of(rest.data + size, rest.size - size);
            seen->compared++;
        }
        buf_close(&bytes);
    }
}

static void check_leader(struct sim *sim, const struct sim_node *node, uint64_t term)
{
    struct check_log *log = &sim->log;
    if (term >= log->leaders_capacity) {
        const uint64_t capacity = term * 2 + 64;
        log->leaders = mem_resize(log->leaders, capacity * sizeof *log->leaders);
        memset(log->leaders + log->leaders_capacity, 0,
               (capacity - log->leaders_capacity) * sizeof *log->leaders);
        log->leaders_capacity = capacity;
    }
    /* A node that starts again must not lead in a term of its former life: it may have other entries. */
    const uint64_t self = node->life * SIM_NODES_MAX + node->number;
    uint64_t *leader = &log->leaders[term];
    if (*leader == 0) {
        *leader = self;
        log->leader_count++;
        if (term > log->term_last) log->term_last = term;
        sim_note(sim, "n%u leads term %llu", node->number + 1, (unsigned long long)term);
    } else if (*leader != self) {
        sim_fail(sim, "two leaders of term %llu: n%u and n%u", (unsigned long long)term,
                 (unsigned)(*leader % SIM_NODES_MAX) + 1, node->number + 1);
    }
}

void check_log_started(struct sim *sim, struct sim_node *node)
{
    const struct store_base base = store_base(core_store(node->core));
    node->durable.compared = 0;
    node->durable.committed = 0;
    node->durable.last = 0;
    node->durable.is_reopened = false;
    if (base.index == 0 || base.index >= sim->log.capacity) return;
    const struct check_log_entry *entry = &sim->log.entries[base.index];
    if (entry->checksum != 0 && entry->term != base.term) {
        sim_fail(sim, "n%u starts from a base of another history: %llu has term %llu, not %llu",
                 node->number + 1, (unsigned long long)base.index, (unsigned long long)entry->term,
                 (unsigned long long)base.term);
    }
}

void check_log_turn(struct sim *sim, struct sim_node *node)
{
    struct replica *replica = core_replica(node->core);
    struct store *store = core_store(node->core);
    if (replica == NULL || store == NULL) return;
    if (node->durable.is_reopened) check_log_started(sim, node);
    const uint64_t committed = replica_committed(replica);
    const uint64_t applied = store_applied_index(store);
    if (replica_role(replica) == REPLICA_LEADER) check_leader(sim, node, replica_term(replica));
    if (applied > committed && applied > store_base(store).index) {
        sim_fail(sim, "n%u applied %llu, but only %llu is committed", node->number + 1,
                 (unsigned long long)applied, (unsigned long long)committed);
    }
    if (committed < node->durable.committed) {
        sim_fail(sim, "n%u: committed went back from %llu to %llu", node->number + 1,
                 (unsigned long long)node->durable.committed, (unsigned long long)committed);
    }
    node->durable.committed = committed;
    const uint64_t last = store_last_index(store);
    const uint64_t seen_term = store_term_at(store, node->durable.last);
    const bool is_replaced = seen_term != 0 && seen_term != node->durable.last_term;
    if (last < node->durable.last || is_replaced) sim->counts.cuts++;
    node->durable.last = last;
    node->durable.last_term = store_term_at(store, last);
    check_committed(sim, node, committed);
}
