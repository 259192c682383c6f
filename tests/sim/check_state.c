#include "tests/sim/check_state.h"

#include "storage/base/hash.h"
#include "storage/store.h"
#include "tests/sim/sim.h"

uint64_t check_state_hash(struct sim *sim, struct sim_node *node)
{
    struct store *store = core_store(node->core);
    const struct keydir *keys = store_keys(store);
    struct keydir_cursor cursor;
    uint64_t hash = 0;
    const struct keydir_entry *entry = keydir_seek(keys, (struct slice){0}, &cursor);
    for (; entry != NULL; entry = keydir_next(&cursor)) {
        const struct keydir_info info = keydir_info(entry);
        struct slice value = {0};
        const enum err err = store_value(store, entry, &value);
        if (err != OK && node->is_decayed) return 0;
        if (err != OK) {
            sim_fail(sim, "n%u cannot read the value of %.*s: %s", node->number + 1,
                     (int)info.key.size, (const char *)info.key.data, err_name(err));
            return 0;
        }
        const uint64_t fields[] = {hash, info.revision, info.expiry_ms, info.value_size};
        hash = hash64(fields, sizeof fields);
        hash = hash64_seeded(info.key.data, info.key.size, hash);
        hash = hash64_seeded(value.data, value.size, hash);
    }
    return hash;
}

uint32_t check_state_compare(struct sim *sim)
{
    const struct sim_node *first = NULL;
    uint64_t first_hash = 0;
    uint32_t agreed = 0;
    for (uint32_t i = 0; i < sim->node_count && !sim->has_failed; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->core == NULL || core_store(node->core) == NULL || node->has_stranger) continue;
        const uint64_t applied = store_applied_index(core_store(node->core));
        if (first != NULL && applied != store_applied_index(core_store(first->core))) continue;
        const uint64_t hash = check_state_hash(sim, node);
        if (hash == 0 && node->is_decayed)
            continue; /* Something cannot be read: not yet repaired. */
        if (first == NULL) {
            first = node;
            first_hash = hash;
        } else if (hash != first_hash) {
            sim_fail(sim, "n%u and n%u differ in their keys at index %llu", first->number + 1,
                     node->number + 1, (unsigned long long)applied);
        }
        agreed++;
    }
    return agreed;
}
