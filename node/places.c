#include "node/places.h"

/* Where it is remembered, instead of what was not used for longest. */
static struct places_entry *entry_of(struct places *places, uint64_t index)
{
    struct places_entry *found = &places->entries[0];
    for (uint32_t i = 0; i < PLACES_ENTRIES; i++) {
        struct places_entry *entry = &places->entries[i];
        if (entry->index == index) {
            found = entry;
            break;
        }
        if (entry->used < found->used) found = entry;
    }
    if (found->index != index) {
        found->index = index;
        found->count = 0;
    }
    found->used = ++places->uses;
    return found;
}

enum err places_effect(struct places *places, uint64_t index, struct slice payload,
                       uint32_t ordinal, struct effect *effect, uint64_t *steps)
{
    struct effect_walk walk;
    struct places_entry *entry = NULL;
    uint32_t next = 0;
    effect_walk_open(&walk, payload);
    if (ordinal >= PLACES_STEP && ordinal < BATCH_EFFECTS_MAX) {
        entry = entry_of(places, index);
        const uint32_t known = ordinal / PLACES_STEP < entry->count ? ordinal / PLACES_STEP + 1
                                                                    : entry->count;
        if (known > 0) {
            next = (known - 1) * PLACES_STEP;
            walk.position = entry->at[known - 1];
            walk.ordinal = next - 1; /* That of the one before the next, as it ought to be. */
        }
    }
    for (; next <= ordinal; next++) {
        if (entry != NULL && next % PLACES_STEP == 0 && next / PLACES_STEP == entry->count) {
            entry->at[entry->count++] = (uint32_t)walk.position;
        }
        const enum err err = effect_walk_next(&walk, effect);
        *steps += 1;
        if (err != OK) return err;
    }
    return OK;
}
