#include "storage/witness.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"

void witness_init(struct witness *witness, uint64_t index, uint64_t hash)
{
    *witness = (struct witness){.first = index, .last = index};
    witness->hashes = mem_alloc(WITNESS_COUNT * sizeof *witness->hashes);
    witness->hashes[index % WITNESS_COUNT] = hash;
}

void witness_close(struct witness *witness)
{
    mem_free(witness->hashes);
    *witness = (struct witness){0};
}

void witness_applied(struct witness *witness, uint64_t index, uint64_t hash)
{
    CHECK(index == witness->last + 1);
    witness->last = index;
    witness->hashes[index % WITNESS_COUNT] = hash;
    if (index - witness->first >= WITNESS_COUNT) witness->first = index - WITNESS_COUNT + 1;
}

bool witness_hash(const struct witness *witness, uint64_t index, uint64_t *hash)
{
    if (index < witness->first || index > witness->last) return false;
    *hash = witness->hashes[index % WITNESS_COUNT];
    return true;
}

static void note_present(struct witness *witness, uint64_t node_id, uint64_t incarnation)
{
    uint32_t at = 0;
    while (at < witness->present_count && witness->present[at].node_id != node_id) at++;
    if (at == WITNESS_NODES_MAX) return; /* More nodes than a cluster can have. */
    if (at == witness->present_count) {
        witness->present_count++;
        witness->present[at].node_id = node_id;
        witness->present[at].incarnation = 0;
    }
    if (incarnation > witness->present[at].incarnation) {
        witness->present[at].incarnation = incarnation;
    }
}

void witness_effect(struct witness *witness, uint64_t index, const struct effect *effect)
{
    CHECK(effect->value.size == EFFECT_NUMBERS_SIZE);
    const uint64_t first = get_u64(effect->value.data);
    const uint64_t second = get_u64(effect->value.data + 8);
    if (effect->kind == EFFECT_PRESENT) {
        note_present(witness, first, second);
        return;
    }
    CHECK(effect->kind == EFFECT_CHECK);
    struct witness_check check = {.entry_index = index, .index = first, .hash = second};
    check.is_known = witness_hash(witness, first, &check.own_hash);
    witness->check = check;
}

uint64_t witness_present(const struct witness *witness, uint64_t node_id)
{
    for (uint32_t i = 0; i < witness->present_count; i++) {
        if (witness->present[i].node_id == node_id) return witness->present[i].incarnation;
    }
    return 0;
}
