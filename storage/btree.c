#include "storage/btree.h"

#include <stdbool.h>
#include <stddef.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/keydir_entry.h"

struct btree_node {
    uint16_t count;
    uint16_t level; /* 0: leaf. */
    uint32_t skip;  /* Bytes that all entries of the node begin with. */
    struct btree_node *next;
    struct btree_node *previous;
    uint32_t head[BTREE_SLOTS]; /* The bytes after those, big-endian, zeros at the end. */
    uint32_t ref[BTREE_SLOTS];  /* Entries; in an inner node the first one below each child. */
    struct btree_node *child[]; /* In an inner node only: BTREE_SLOTS of them. */
};

/* The way from the root (at height - 1) to a leaf (at 0), with the slot taken in each node. */
struct path {
    struct btree_node *node[BTREE_HEIGHT_MAX];
    uint32_t slot[BTREE_HEIGHT_MAX];
    bool found;  /* The slot in the leaf is the one that was looked for. */
    bool inside; /* What was looked for begins like all entries of the leaf. */
};

/* ---- points: what entries are ordered by ----------------------------------------------------- */

struct point {
    uint64_t expiry_ms; /* 0 in the order of keys. */
    struct slice key;
};

static inline struct point point_of(const struct btree *tree, uint32_t ref)
{
    const struct keydir_entry *entry = slab_at(tree->slab, ref);
    const bool by_expiry = tree->order == BTREE_BY_EXPIRY;
    return (struct point){.expiry_ms = by_expiry ? keydir_entry_expiry(entry) : 0,
                          .key = keydir_entry_key(entry)};
}

static int point_compare(struct point a, struct point b)
{
    if (a.expiry_ms != b.expiry_ms) return a.expiry_ms < b.expiry_ms ? -1 : 1;
    return slice_compare(a.key, b.key);
}

/* Bytes of the string that stands for @point. */
static uint64_t point_size(enum btree_order order, struct point point)
{
    return point.key.size + (order == BTREE_BY_EXPIRY ? 8 : 0);
}

/* How many first bytes of their strings two points share. */
static uint64_t point_common(enum btree_order order, struct point a, struct point b)
{
    const uint64_t before = order == BTREE_BY_EXPIRY ? 8 : 0;
    const uint64_t size = a.key.size < b.key.size ? a.key.size : b.key.size;
    uint64_t common = 0;
    if (a.expiry_ms != b.expiry_ms) {
        return (uint64_t)__builtin_clzll(a.expiry_ms ^ b.expiry_ms) / 8;
    }
    while (common + 8 <= size) {
        const uint64_t differs = get_u64(a.key.data + common) ^ get_u64(b.key.data + common);
        if (differs != 0) return before + common + (uint64_t)__builtin_ctzll(differs) / 8;
        common += 8;
    }
    while (common < size && a.key.data[common] == b.key.data[common]) common++;
    return before + common;
}

/* Four bytes of @key from @at on, big-endian, zeros behind its end. */
static uint32_t key_head(struct slice key, uint64_t at)
{
    uint32_t head = 0;
    if (at + 4 <= key.size) return __builtin_bswap32(get_u32(key.data + at));
    for (uint64_t i = at; i < key.size; i++) head |= (uint32_t)key.data[i] << 8 * (3 - (i - at));
    return head;
}

/* The same of the string that stands for @point. */
static uint32_t point_head(enum btree_order order, struct point point, uint64_t skip)
{
    if (order == BTREE_BY_KEY) return key_head(point.key, skip);
    if (skip >= 8) return key_head(point.key, skip - 8);
    const uint32_t head = (uint32_t)(point.expiry_ms << 8 * skip >> 32);
    return skip <= 4 ? head : head | key_head(point.key, 0) >> 8 * (8 - skip);
}

/* Starts reading what the head of the entry @ref behind @skip needs. */
static inline void entry_prefetch(const struct btree *tree, uint32_t ref, uint32_t skip)
{
    const struct keydir_entry *entry = slab_at(tree->slab, ref);
    __builtin_prefetch(&entry->key_last);
    __builtin_prefetch(entry->bytes + skip + 4);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static uint64_t node_size(uint32_t level)
{
    const uint64_t children = level > 0 ? BTREE_SLOTS * sizeof(struct btree_node *) : 0;
    return sizeof(struct btree_node) + children;
}

/* A node linked behind @left, which may be NULL. */
static struct btree_node *node_create(struct btree *tree, uint32_t level, struct btree_node *left)
{
    struct btree_node *node = mem_zero(node_size(level));
    tree->memory += node_size(level);
    node->level = (uint16_t)level;
    if (left != NULL) {
        node->previous = left;
        node->next = left->next;
        left->next = node;
        if (node->next != NULL) node->next->previous = node;
    }
    return node;
}

static void node_free(struct btree *tree, struct btree_node *node)
{
    if (node->previous != NULL) node->previous->next = node->next;
    if (node->next != NULL) node->next->previous = node->previous;
    tree->memory -= node_size(node->level);
    mem_free(node);
}

/* Computes the shared bytes and all heads anew from the entries. */
static void node_measure(const struct btree *tree, struct btree_node *node)
{
    const struct point first = point_of(tree, node->ref[0]);
    const struct point last = point_of(tree, node->ref[node->count - 1]);
    node->skip = (uint32_t)point_common(tree->order, first, last);
    for (uint32_t i = 0; i < node->count; i++) entry_prefetch(tree, node->ref[i], node->skip);
    for (uint32_t i = 0; i < node->count; i++) {
        node->head[i] = point_head(tree->order, point_of(tree, node->ref[i]), node->skip);
    }
}

/* Lets heads of a node that skipped @before bytes begin at @skip, earlier. What they lack in front is the same
 * for all of them: @front is the head of any of them there. */
static void heads_lower(uint32_t *head, uint32_t count, uint32_t before, uint32_t skip,
                        uint32_t front)
{
    const uint32_t bits = before - skip < 4 ? 8 * (before - skip) : 32;
    for (uint32_t i = 0; i < count; i++) {
        head[i] = bits == 32 ? front : (front & ~(UINT32_MAX >> bits)) | head[i] >> bits;
    }
}

/* The node skips at most @skip bytes from now on. @any is one of its entries. */
static void node_lower(const struct btree *tree, struct btree_node *node, uint64_t skip,
                       struct point any)
{
    if (skip >= node->skip) return;
    heads_lower(node->head, node->count, node->skip, (uint32_t)skip,
                point_head(tree->order, any, skip));
    node->skip = (uint32_t)skip;
}

/* After an entry was put into slot @at, whose head nobody computed so far: gives it its head. The others
 * keep theirs, unless this entry shares less with them than they do with each other. */
static void node_measure_one(const struct btree *tree, struct btree_node *node, uint32_t at)
{
    const struct point point = point_of(tree, node->ref[at]);
    const struct point other = point_of(tree, node->ref[at == 0 ? node->count - 1 : 0]);
    if (node->count == 1) {
        node->skip = (uint32_t)point_size(tree->order, point);
    } else {
        node_lower(tree, node, point_common(tree->order, point, other), other);
    }
    node->head[at] = point_head(tree->order, point, node->skip);
}

/* @inside: it is known already that the entry @ref begins like all others of the node. */
static void node_add(const struct btree *tree, struct btree_node *node, uint32_t at, uint32_t ref,
                     struct btree_node *child, bool inside)
{
    CHECK(node->count < BTREE_SLOTS);
    CHECK(at <= node->count);
    const size_t behind = node->count - at;
    memmove(node->head + at + 1, node->head + at, behind * sizeof node->head[0]);
    memmove(node->ref + at + 1, node->ref + at, behind * sizeof node->ref[0]);
    node->ref[at] = ref;
    if (node->level > 0) {
        memmove(node->child + at + 1, node->child + at, behind * sizeof(struct btree_node *));
        node->child[at] = child;
    }
    node->count++;
    if (inside) {
        node->head[at] = point_head(tree->order, point_of(tree, ref), node->skip);
    } else {
        node_measure_one(tree, node, at);
    }
}

static void node_drop(struct btree_node *node, uint32_t at, uint32_t count)
{
    CHECK(at + count <= node->count);
    node->count = (uint16_t)(node->count - count);
    const size_t behind = node->count - at;
    memmove(node->head + at, node->head + at + count, behind * sizeof node->head[0]);
    memmove(node->ref + at, node->ref + at + count, behind * sizeof node->ref[0]);
    if (node->level > 0) {
        memmove(node->child + at, node->child + at + count, behind * sizeof(struct btree_node *));
    }
}

/* Gives the @count slots of @to from @at on the heads that they had in @from, from slot @first on. */
static void heads_move(const struct btree *tree, struct btree_node *to, uint32_t at,
                       const struct btree_node *from, uint32_t first, uint32_t count)
{
    if (from->skip >= to->skip) {
        memcpy(to->head + at, from->head + first, count * sizeof to->head[0]);
        if (from->skip == to->skip) return;
        heads_lower(to->head + at, count, from->skip, to->skip,
                    point_head(tree->order, point_of(tree, to->ref[at]), to->skip));
        return;
    }
    /* Their heads there do not reach far enough. */
    for (uint32_t i = at; i < at + count; i++) entry_prefetch(tree, to->ref[i], to->skip);
    for (uint32_t i = at; i < at + count; i++) {
        to->head[i] = point_head(tree->order, point_of(tree, to->ref[i]), to->skip);
    }
}

/* Moves @count slots of @from, from @first on, to the beginning (@at 0) or the end of its neighbour @to. */
static void node_move(const struct btree *tree, struct btree_node *to, uint32_t at,
                      struct btree_node *from, uint32_t first, uint32_t count)
{
    CHECK(to->count + count <= BTREE_SLOTS);
    if (to->count == 0) {
        to->skip = from->skip;
    } else {
        const struct point moved = point_of(tree, from->ref[at == 0 ? first : first + count - 1]);
        const struct point other = point_of(tree, to->ref[at == 0 ? to->count - 1 : 0]);
        node_lower(tree, to, point_common(tree->order, moved, other), other);
    }
    const size_t behind = to->count - at;
    memmove(to->head + at + count, to->head + at, behind * sizeof to->head[0]);
    memmove(to->ref + at + count, to->ref + at, behind * sizeof to->ref[0]);
    memcpy(to->ref + at, from->ref + first, count * sizeof to->ref[0]);
    if (to->level > 0) {
        memmove(to->child + at + count, to->child + at, behind * sizeof(struct btree_node *));
        memcpy(to->child + at, from->child + first, count * sizeof(struct btree_node *));
    }
    heads_move(tree, to, at, from, first, count);
    to->count = (uint16_t)(to->count + count);
    node_drop(from, first, count);
}

/* After slots went: skips more bytes if the heads do not tell the entries apart well enough. Measuring
 * reads every entry, so heads that do are left alone even if more could be skipped. */
static void node_tighten(const struct btree *tree, struct btree_node *node)
{
    uint32_t alike = 0;
    for (uint32_t i = 1; i < node->count; i++) alike += node->head[i] == node->head[i - 1];
    if (alike > node->count / 8u) node_measure(tree, node);
}

/* ---- search ---------------------------------------------------------------------------------- */

/* Compares @point with what all entries of @node begin with: zero when it begins so too. */
static int prefix_compare(const struct btree *tree, struct point point,
                          const struct btree_node *node)
{
    const enum btree_order order = tree->order;
    const struct point first = point_of(tree, node->ref[0]);
    uint64_t skip = node->skip;
    if (order == BTREE_BY_EXPIRY) {
        const uint64_t taken = skip < 8 ? skip : 8;
        const uint64_t differs = point.expiry_ms ^ first.expiry_ms;
        if (taken > 0 && differs >> (64 - 8 * taken) != 0) {
            return point.expiry_ms < first.expiry_ms ? -1 : 1;
        }
        skip -= taken;
    }
    const uint64_t size = point.key.size < skip ? point.key.size : skip;
    const int result = size > 0 ? memcmp(point.key.data, first.key.data, size) : 0;
    return result != 0 || size == skip ? result : -1;
}

/* The first of entries [@low, @high) of @node that is not before @point; @equal: it is at the
 * point. */
static uint32_t search_entries(const struct btree *tree, const struct btree_node *node,
                               struct point point, uint32_t low, uint32_t high, bool *equal)
{
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        const int side = point_compare(point_of(tree, node->ref[middle]), point);
        if (side == 0) {
            *equal = true;
            return middle;
        }
        if (side < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The number of entries in @node, which all begin like @point and whose next bytes are @head,
 * that are before it. */
static uint32_t search_heads(const struct btree *tree, const struct btree_node *node,
                             struct point point, uint32_t head, bool *equal)
{
    uint32_t low = 0;
    uint32_t high = node->count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (node->head[middle] < head) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while (high < node->count && node->head[high] == head && high - low < 4) high++;
    if (high - low == 4) high = node->count; /* Many are alike: only the entries can tell. */
    return search_entries(tree, node, point, low, high, equal);
}

/* Starts reading the header and the heads of @node. */
static inline void node_prefetch(const struct btree_node *node)
{
    const uint8_t *bytes = (const uint8_t *)node;
    for (uint32_t at = 0; at < offsetof(struct btree_node, ref); at += 64) {
        __builtin_prefetch(bytes + at);
    }
}

/* Walks to the leaf where @point is or belongs. The tree must not be empty. */
static void path_find(const struct btree *tree, struct point point, struct path *path)
{
    struct btree_node *node = tree->root;
    /* The first bytes that @point is known to share with the first entry of @node. What the
     * parent's head shows need not be compared again with an entry, which would be a cache miss. */
    uint64_t shared = 0;
    path->found = false;
    for (uint32_t level = tree->height; level-- > 0;) {
        const int side = node->skip > shared ? prefix_compare(tree, point, node) : 0;
        const uint32_t head = point_head(tree->order, point, node->skip);
        bool equal = false;
        uint32_t at = side < 0 ? 0 : node->count;
        if (side == 0) at = search_heads(tree, node, point, head, &equal);
        path->node[level] = node;
        path->inside = side == 0;
        path->found = equal;
        /* An inner slot begins at its entry; what is before the first slot belongs there too. */
        path->slot[level] = level == 0 || equal || at == 0 ? at : at - 1;
        if (level == 0) return;
        const uint32_t differs = head ^ node->head[path->slot[level]];
        shared = node->skip + (differs == 0 ? 4 : (uint64_t)__builtin_clz(differs) / 8);
        /* Zeros behind the end of a short key are no bytes of it. */
        const uint64_t size = point_size(tree->order, point);
        shared = side != 0 ? 0 : shared < size ? shared : size;
        node = node->child[path->slot[level]];
        node_prefetch(node);
    }
}

/* After the first entry of the node at @level changed: tells the nodes above. */
static void path_first_changed(const struct btree *tree, const struct path *path, uint32_t level)
{
    for (; level + 1 < tree->height; level++) {
        struct btree_node *parent = path->node[level + 1];
        const uint32_t slot = path->slot[level + 1];
        parent->ref[slot] = path->node[level]->ref[0];
        node_measure_one(tree, parent, slot);
        if (slot > 0) return;
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

void btree_init(struct btree *tree, const struct slab *slab, enum btree_order order)
{
    *tree = (struct btree){.slab = slab, .order = order};
}

bool btree_close_some(struct btree *tree, struct btree_node **below, uint32_t count)
{
    for (uint32_t i = 0; i < count && tree->root != NULL; i++) {
        struct btree_node *node = tree->root;
        /* Each level from the left; its first node knows where the next one begins. */
        if (*below == NULL && node->level > 0) *below = node->child[0];
        tree->root = node->next;
        node_free(tree, node);
        if (tree->root != NULL) continue;
        tree->root = *below;
        *below = NULL;
    }
    return tree->root != NULL;
}

void btree_close(struct btree *tree)
{
    struct btree_node *below = NULL;
    while (btree_close_some(tree, &below, UINT32_MAX)) {}
    CHECK(tree->memory == 0);
    btree_init(tree, tree->slab, tree->order);
}

/* ---- change ---------------------------------------------------------------------------------- */

/* Makes room at @at in the full @node: the upper part goes to a new node behind it, which is
 * returned. At the very end of a level nothing moves, so that keys inserted in rising order
 * leave full nodes. */
static struct btree_node *node_split(struct btree *tree, struct btree_node *node, uint32_t at)
{
    const bool rising = at == BTREE_SLOTS && node->next == NULL;
    struct btree_node *right = node_create(tree, node->level, node);
    if (!rising) {
        node_move(tree, right, 0, node, BTREE_SLOTS / 2, BTREE_SLOTS / 2);
        node_tighten(tree, node);
        node_tighten(tree, right);
    }
    return right;
}

static void grow_root(struct btree *tree, struct path *path)
{
    struct btree_node *root = node_create(tree, tree->height, NULL);
    CHECK(tree->height < BTREE_HEIGHT_MAX);
    if (tree->root != NULL) node_add(tree, root, 0, tree->root->ref[0], tree->root, false);
    path->node[tree->height] = root;
    path->slot[tree->height] = 0;
    tree->root = root;
    tree->height++;
}

/* Makes room in the full leaf of @path by moving entries to a neighbour of the same parent. False: both are
 * nearly full, too. True: @path tells where what is to be inserted belongs now. */
static bool shift(struct btree *tree, struct path *path)
{
    if (tree->height < 2) return false;
    struct btree_node *node = path->node[0];
    struct btree_node *parent = path->node[1];
    const uint32_t slot = path->slot[1];
    struct btree_node *left = slot > 0 ? parent->child[slot - 1] : NULL;
    struct btree_node *right = slot + 1u < parent->count ? parent->child[slot + 1] : NULL;
    const uint32_t left_count = left != NULL ? left->count : BTREE_SLOTS;
    const uint32_t right_count = right != NULL ? right->count : BTREE_SLOTS;
    const uint32_t count = (BTREE_SLOTS - (left_count < right_count ? left_count : right_count)) /
                           2;
    if (count < BTREE_SHIFT_MIN) return false;
    if (left_count < right_count) {
        node_move(tree, left, left_count, node, 0, count);
        parent->ref[slot] = node->ref[0];
        node_measure_one(tree, parent, slot);
        if (path->slot[0] > count) {
            path->slot[0] -= count;
        } else { /* It may belong at the very end of the left one. */
            path->slot[0] += left_count;
            path->slot[1]--;
            path->node[0] = left;
        }
    } else {
        node_move(tree, right, 0, node, BTREE_SLOTS - count, count);
        parent->ref[slot + 1] = right->ref[0];
        node_measure_one(tree, parent, slot + 1);
        if (path->slot[0] > node->count) {
            path->slot[0] -= node->count;
            path->slot[1]++;
            path->node[0] = right;
        }
    }
    path->inside = false;
    return true;
}

void btree_insert(struct btree *tree, uint32_t ref)
{
    struct path path;
    uint32_t added = ref;
    struct btree_node *child = NULL;
    tree->count++;
    if (tree->height == 0) {
        grow_root(tree, &path);
        path.inside = false;
    } else {
        path_find(tree, point_of(tree, ref), &path);
        CHECK(!path.found);
    }
    for (uint32_t level = 0;; level++) {
        if (level == tree->height) grow_root(tree, &path);
        struct btree_node *node = path.node[level];
        /* A new child stands behind the one that was split, a new entry where the search ended. */
        uint32_t at = path.slot[level] + (level > 0 ? 1 : 0);
        struct btree_node *right = NULL;
        if (node->count == BTREE_SLOTS) {
            const bool rising = at == BTREE_SLOTS && node->next == NULL;
            if (level == 0 && !rising && shift(tree, &path)) {
                node = path.node[0];
                at = path.slot[0];
            } else {
                right = node_split(tree, node, at);
            }
        }
        if (right != NULL && (at > node->count || node->count == BTREE_SLOTS)) {
            node_add(tree, right, at - node->count, added, child, false);
        } else {
            node_add(tree, node, at, added, child, level == 0 && right == NULL && path.inside);
        }
        if (level == 0 && at == 0) path_first_changed(tree, &path, 0);
        if (right == NULL) return;
        added = right->ref[0];
        child = right;
    }
}

/* ---- building -------------------------------------------------------------------------------- */

/* The nodes of one level over what @below links, or over @refs when that is NULL. */
static struct btree_node *build_level(struct btree *tree, const uint32_t *refs, uint64_t count,
                                      struct btree_node *below)
{
    struct btree_node *first = NULL;
    struct btree_node *last = NULL;
    const uint64_t nodes = (count + BTREE_BUILD_SLOTS - 1) / BTREE_BUILD_SLOTS;
    for (uint64_t i = 0; i < nodes; i++) {
        last = node_create(tree, tree->height, last);
        if (first == NULL) first = last;
        /* All the same size but for one, so that the last one is not sparse. */
        last->count = (uint16_t)(count * (i + 1) / nodes - count * i / nodes);
        for (uint32_t k = 0; k < last->count; k++) {
            if (below == NULL) {
                last->ref[k] = *refs++;
            } else {
                last->ref[k] = below->ref[0];
                last->child[k] = below;
                below = below->next;
            }
        }
        node_measure(tree, last);
    }
    return first;
}

void btree_build(struct btree *tree, const uint32_t *refs, uint64_t count)
{
    CHECK(tree->count == 0);
    tree->count = count;
    struct btree_node *first = NULL;
    for (uint64_t left = count; left > 0;) {
        CHECK(tree->height < BTREE_HEIGHT_MAX);
        first = build_level(tree, refs, left, first);
        tree->height++;
        left = (left + BTREE_BUILD_SLOTS - 1) / BTREE_BUILD_SLOTS;
        if (left == 1) break;
    }
    tree->root = first;
}

/* ---- removal --------------------------------------------------------------------------------- */

/* Merges the node at @level with a neighbour if it is sparse and both fit. Returns the slot of the
 * parent that thereby lost its child, or 0. */
static uint32_t merge(struct btree *tree, const struct path *path, uint32_t level)
{
    struct btree_node *node = path->node[level];
    const struct btree_node *parent = path->node[level + 1];
    const uint32_t slot = path->slot[level + 1];
    if (node->count >= BTREE_MERGE_BELOW) return 0;
    struct btree_node *left = slot > 0 ? parent->child[slot - 1] : NULL;
    struct btree_node *right = slot + 1u < parent->count ? parent->child[slot + 1] : NULL;
    uint32_t lost = 0;
    if (left != NULL && left->count + node->count <= BTREE_MERGE_MAX) {
        right = node;
        lost = slot;
    } else if (right != NULL && right->count + node->count <= BTREE_MERGE_MAX) {
        left = node;
        lost = slot + 1;
    }
    if (lost == 0) return 0;
    node_move(tree, left, left->count, right, 0, right->count);
    node_tighten(tree, left);
    node_free(tree, right);
    return lost;
}

static void shrink_root(struct btree *tree)
{
    while (tree->height > 0 &&
           (tree->root->count == 0 || (tree->root->level > 0 && tree->root->count == 1))) {
        struct btree_node *root = tree->root;
        tree->root = root->count > 0 ? root->child[0] : NULL;
        tree->height = root->count > 0 ? tree->height - 1 : 0;
        node_free(tree, root);
    }
}

void btree_remove(struct btree *tree, uint32_t ref)
{
    struct path path;
    CHECK(tree->count > 0);
    path_find(tree, point_of(tree, ref), &path);
    CHECK(path.found);
    CHECK(path.node[0]->ref[path.slot[0]] == ref);
    tree->count--;
    uint32_t at = path.slot[0];
    for (uint32_t level = 0;; level++) {
        struct btree_node *node = path.node[level];
        node_drop(node, at, 1);
        if (level + 1 == tree->height) break;
        if (node->count == 0) {
            node_free(tree, node);
            at = path.slot[level + 1];
            continue;
        }
        if (at == 0) path_first_changed(tree, &path, level);
        at = merge(tree, &path, level);
        if (at == 0) return;
    }
    shrink_root(tree);
}

void btree_replace(struct btree *tree, uint32_t before, uint32_t after)
{
    struct path path;
    CHECK(tree->count > 0);
    path_find(tree, point_of(tree, before), &path);
    CHECK(path.found);
    CHECK(path.node[0]->ref[path.slot[0]] == before);
    for (uint32_t level = 0; level < tree->height; level++) {
        uint32_t *ref = &path.node[level]->ref[path.slot[level]];
        if (*ref == before) *ref = after;
    }
}

/* ---- cursors --------------------------------------------------------------------------------- */

/* Lets @cursor stand on @slot of @leaf, which may be one behind its last, or -1 for the one
 * before. */
static struct keydir_entry *stand(const struct slab *slab, struct keydir_cursor *cursor,
                                  const struct btree_node *leaf, int64_t slot)
{
    if (leaf != NULL && slot < 0) {
        leaf = leaf->previous;
        slot = leaf != NULL ? leaf->count - 1 : 0;
    } else if (leaf != NULL && slot == leaf->count) {
        leaf = leaf->next;
        slot = 0;
    }
    *cursor = (struct keydir_cursor){.slab = slab, .leaf = leaf, .slot = (uint32_t)slot};
    return leaf != NULL ? slab_at(slab, leaf->ref[slot]) : NULL;
}

struct keydir_entry *btree_first(const struct btree *tree, struct keydir_cursor *cursor)
{
    const struct btree_node *node = tree->root;
    while (node != NULL && node->level > 0) node = node->child[0];
    return stand(tree->slab, cursor, node, 0);
}

struct keydir_entry *btree_last(const struct btree *tree, struct keydir_cursor *cursor)
{
    const struct btree_node *node = tree->root;
    while (node != NULL && node->level > 0) node = node->child[node->count - 1];
    return stand(tree->slab, cursor, node, node != NULL ? node->count - 1 : 0);
}

struct keydir_entry *btree_seek(const struct btree *tree, struct slice key,
                                struct keydir_cursor *cursor)
{
    struct path path;
    CHECK(tree->order == BTREE_BY_KEY);
    if (tree->height == 0) return stand(tree->slab, cursor, NULL, 0);
    path_find(tree, (struct point){.key = key}, &path);
    return stand(tree->slab, cursor, path.node[0], path.slot[0]);
}

struct keydir_entry *btree_seek_before(const struct btree *tree, struct slice key,
                                       struct keydir_cursor *cursor)
{
    struct path path;
    CHECK(tree->order == BTREE_BY_KEY);
    if (tree->height == 0) return stand(tree->slab, cursor, NULL, 0);
    path_find(tree, (struct point){.key = key}, &path);
    return stand(tree->slab, cursor, path.node[0], (int64_t)path.slot[0] - 1);
}

struct keydir_entry *btree_next(struct keydir_cursor *cursor)
{
    return stand(cursor->slab, cursor, cursor->leaf, (int64_t)cursor->slot + 1);
}

struct keydir_entry *btree_previous(struct keydir_cursor *cursor)
{
    return stand(cursor->slab, cursor, cursor->leaf, (int64_t)cursor->slot - 1);
}

struct keydir_entry *btree_random(const struct btree *tree, uint64_t random)
{
    struct prng prng = prng_seed(random);
    const struct btree_node *node = tree->root;
    if (node == NULL) return NULL;
    while (node->level > 0) node = node->child[prng_below(&prng, node->count)];
    return slab_at(tree->slab, node->ref[prng_below(&prng, node->count)]);
}

/* ---- check ----------------------------------------------------------------------------------- */

static void check_node(const struct btree *tree, const struct btree_node *node,
                       const struct btree_node *previous)
{
    uint32_t before = previous != NULL ? previous->ref[previous->count - 1] : 0;
    CHECK(node->count > 0);
    CHECK(node->count <= BTREE_SLOTS);
    const struct point first = point_of(tree, node->ref[0]);
    for (uint32_t i = 0; i < node->count; i++) {
        const struct point point = point_of(tree, node->ref[i]);
        if (before != 0) CHECK(point_compare(point_of(tree, before), point) < 0);
        if (tree->order == BTREE_BY_EXPIRY) CHECK(point.expiry_ms > 0);
        CHECK(node->skip <= point_size(tree->order, point));
        CHECK(point_common(tree->order, first, point) >= node->skip);
        CHECK(node->head[i] == point_head(tree->order, point, node->skip));
        if (node->level > 0) CHECK(node->child[i]->ref[0] == node->ref[i]);
        before = node->ref[i];
    }
}

void btree_check(const struct btree *tree)
{
    uint64_t count = 0;
    uint64_t memory = 0;
    const struct btree_node *first = tree->root;
    if (first != NULL) CHECK(tree->height == first->level + 1u);
    if (first == NULL) CHECK(tree->height == 0);
    while (first != NULL) {
        /* The children of a level, read from left to right, are the level below it in its links. */
        const struct btree_node *below = first->level > 0 ? first->child[0] : NULL;
        const struct btree_node *child = below;
        const struct btree_node *previous = NULL;
        for (const struct btree_node *node = first; node != NULL; node = node->next) {
            CHECK(node->previous == previous);
            CHECK(node->level == first->level);
            check_node(tree, node, previous);
            for (uint32_t i = 0; node->level > 0 && i < node->count; i++) {
                CHECK(child == node->child[i]);
                child = child->next;
            }
            if (node->level == 0) count += node->count;
            memory += node_size(node->level);
            previous = node;
        }
        CHECK(child == NULL);
        first = below;
    }
    CHECK(count == tree->count);
    CHECK(memory == tree->memory);
}
