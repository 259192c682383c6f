#include "storage/keyset.h"

#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define MARK UINT64_C(1)

static uint64_t hash_of(struct slice key)
{
    const uint64_t hash = hash64(key.data, key.size) & ~MARK;
    return hash != 0 ? hash : 2;
}

/* The slot of @hash, or the free one where it would be. */
static uint64_t *slot_of(const struct keyset *set, uint64_t hash)
{
    uint64_t at = (hash >> 1) & (set->capacity - 1);
    while (set->slots[at] != 0 && (set->slots[at] & ~MARK) != hash) {
        at = (at + 1) & (set->capacity - 1);
    }
    return &set->slots[at];
}

void keyset_close(struct keyset *set)
{
    mem_free(set->slots);
    *set = (struct keyset){0};
}

static void grow(struct keyset *set)
{
    const struct keyset before = *set;
    set->capacity = before.capacity > 0 ? before.capacity * 2 : 64;
    set->slots = mem_zero(set->capacity * sizeof *set->slots);
    for (uint64_t i = 0; i < before.capacity; i++) {
        if (before.slots[i] != 0) *slot_of(set, before.slots[i] & ~MARK) = before.slots[i];
    }
    mem_free(before.slots);
}

void keyset_add(struct keyset *set, struct slice key)
{
    if (set->count * 4 >= set->capacity * 3) grow(set);
    const uint64_t hash = hash_of(key);
    uint64_t *slot = slot_of(set, hash);
    if (*slot != 0) return;
    *slot = hash;
    set->count++;
}

bool keyset_has(const struct keyset *set, struct slice key)
{
    return set->count > 0 && *slot_of(set, hash_of(key)) != 0;
}

void keyset_mark(struct keyset *set, struct slice key)
{
    if (set->count == 0) return;
    uint64_t *slot = slot_of(set, hash_of(key));
    if (*slot != 0) *slot |= MARK;
}

bool keyset_marked(const struct keyset *set, struct slice key)
{
    return set->count > 0 && (*slot_of(set, hash_of(key)) & MARK) != 0;
}
