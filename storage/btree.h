/* btree.h - a B+-tree of keydir entries, in the order of their keys or of (expiry, key).
 *
 * The order of an entry is that of a string of bytes: its key, or its expiry as 8 big-endian
 * bytes and then its key. All entries of a node share their first @skip bytes, and the node
 * holds the next four (the head) beside each reference (slab.h). A search thus reads the node and seldom
 * an entry, which matters because every entry is a cache miss of its own.
 *
 * Inner nodes hold, for each child, the first entry below it: exactly that reference, kept up to
 * date when the entry moves or goes. Nodes of one level are linked in both directions.
 *
 * A leaf that is full first moves entries to a neighbour of the same parent; only when both neighbours are
 * nearly full, too, it is split. So keys in any order fill their leaves to about 80 %.
 *
 * Memory stays bounded without borrowing: a node that a removal leaves with less than
 * BTREE_MERGE_BELOW slots is merged with a neighbour of the same parent when both fit into
 * BTREE_MERGE_MAX slots. So of two neighbours that stay apart at least one was well filled when
 * the other was last looked at, and an empty node is always freed. */
#ifndef KV_STORAGE_BTREE_H
#define KV_STORAGE_BTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/keydir.h"
#include "storage/slab.h"

#define BTREE_SLOTS 64u
#define BTREE_SHIFT_MIN 4u /* A leaf moves to its neighbour at least as many entries. */
#define BTREE_BUILD_SLOTS 58u
#define BTREE_MERGE_BELOW 24u
#define BTREE_MERGE_MAX 48u
#define BTREE_HEIGHT_MAX 16u /* Each level holds far more than tenfold: never reached. */

enum btree_order {
    BTREE_BY_KEY,
    BTREE_BY_EXPIRY, /* By (expiry, key): every entry must have an expiry. */
};

struct btree_node;

struct btree {
    const struct slab *slab; /* Of the entries. */
    enum btree_order order;
    uint32_t height; /* Levels; 0 when empty. */
    struct btree_node *root;
    uint64_t count;  /* Entries. */
    uint64_t memory; /* Bytes of all nodes. */
};

void btree_init(struct btree *tree, const struct slab *slab, enum btree_order order);
void btree_close(struct btree *tree); /* frees the nodes, not the entries; leaves an empty tree */
/* The same in slices of @count nodes, for a tree that is not used any more: false at the end. *@below is NULL at
 * first. */
bool btree_close_some(struct btree *tree, struct btree_node **below, uint32_t count);

/* The entry @ref must not be in the tree; it is kept until it is removed. */
void btree_insert(struct btree *tree, uint32_t ref);
/* The entry @ref must be in the tree, and may be freed afterwards. */
void btree_remove(struct btree *tree, uint32_t ref);
/* Puts @after in the place of @before. Both have the same key (and expiry, in that order). */
void btree_replace(struct btree *tree, uint32_t before, uint32_t after);
/* Fills the empty @tree with @count entries that are in its order already: leaves of BTREE_BUILD_SLOTS. */
void btree_build(struct btree *tree, const uint32_t *refs, uint64_t count);

/* Cursors as in keydir.h. The first entry; the first at or after @key; the last before @key; the
 * last. */
struct keydir_entry *btree_first(const struct btree *tree, struct keydir_cursor *cursor);
struct keydir_entry *btree_seek(const struct btree *tree, struct slice key,
                                struct keydir_cursor *cursor);
struct keydir_entry *btree_seek_before(const struct btree *tree, struct slice key,
                                       struct keydir_cursor *cursor);
struct keydir_entry *btree_last(const struct btree *tree, struct keydir_cursor *cursor);
struct keydir_entry *btree_next(struct keydir_cursor *cursor);
struct keydir_entry *btree_previous(struct keydir_cursor *cursor);

/* An entry reached by random turns; NULL when empty. Entries of sparse nodes are somewhat
 * likelier. */
struct keydir_entry *btree_random(const struct btree *tree, uint64_t random);

/* Verifies order, heads, links, separators and the count. For tests. */
void btree_check(const struct btree *tree);

#endif
