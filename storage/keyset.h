/* keyset.h - a set of keys by their hashes, each with a mark. For deletes of which compaction must know whether an
 * older file still holds what they deleted: two keys of one hash are taken for one, which errs on the safe
 * side. */
#ifndef KV_STORAGE_KEYSET_H
#define KV_STORAGE_KEYSET_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

/* All zero is a valid empty one. */
struct keyset {
    uint64_t *slots; /* hash with the lowest bit for the mark; 0: free */
    uint64_t capacity;
    uint64_t count;
};

void keyset_close(struct keyset *set);
void keyset_add(struct keyset *set, struct slice key);
bool keyset_has(const struct keyset *set, struct slice key);
/* Marks the key if it is in the set. */
void keyset_mark(struct keyset *set, struct slice key);
bool keyset_marked(const struct keyset *set, struct slice key);

#endif
