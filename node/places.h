/* places.h - where the effects of long entries are, for who looks for one by its number.
 *
 * An entry has to be read from its beginning to find the n-th effect. For entries that were looked into lately the
 * place of every 64th one is remembered, as far as somebody came, so that the values before a transaction of n changes
 * are found in some n steps and not in their square. An index that is applied never gets other bytes. */
#ifndef KV_NODE_PLACES_H
#define KV_NODE_PLACES_H

#include <stdint.h>

#include "storage/base/limits.h"
#include "storage/effect.h"

#define PLACES_ENTRIES 8u
#define PLACES_STEP 64u

struct places {
    struct places_entry {
        uint64_t index; /* 0: none */
        uint64_t used;  /* greater: later */
        uint32_t count; /* of known ones */
        uint32_t at[BATCH_EFFECTS_MAX / PLACES_STEP + 1];
    } entries[PLACES_ENTRIES];
    uint64_t uses;
};

/* Effect @ordinal of the entry @index, whose payload is @payload. @steps: those that it took, added. */
enum err places_effect(struct places *places, uint64_t index, struct slice payload,
                       uint32_t ordinal, struct effect *effect, uint64_t *steps);

#endif
