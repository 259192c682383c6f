/* keysort.h - sorts the entries of a keydir, all at once, for building its trees.
 *
 * A radix sort by 8 bytes at a time, which are kept beside each reference: entries lie anywhere in memory, so
 * they are read seldom, and then with their cache misses side by side. Bytes that all of a group
 * begin with are passed over. It takes 16 bytes an entry while it runs. */
#ifndef KV_STORAGE_KEYSORT_H
#define KV_STORAGE_KEYSORT_H

#include <stdint.h>

#include "storage/btree.h"
#include "storage/slab.h"

/* Puts @refs into the order of a tree with @order. All keys differ. */
void keysort_run(const struct slab *slab, enum btree_order order, uint32_t *refs, uint64_t count);

#endif
