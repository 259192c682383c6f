#include "storage/keysort.h"

#include <stdbool.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/keydir_entry.h"

#define SMALL_COUNT 24u /* Fewer are sorted by insertion. */
#define AHEAD 16u       /* Entries that are on their way from memory at a time. */
#define HEAD_SIZE 8u
#define STACK_MIN 1024u

struct item {
    uint64_t
        head; /* The bytes of its string from the depth of its range on, zeros behind the end. */
    uint32_t ref;
    uint32_t size; /* Of its string. */
};

/* Items that agree in all bytes before @depth, and in the first @byte of their heads. */
struct range {
    uint64_t first;
    uint64_t count;
    uint32_t depth;
    uint32_t byte;
    bool is_read; /* Their heads are those at @depth. */
};

struct sort {
    const struct slab *slab;
    enum btree_order order;
    struct item *items;
    struct range *stack;
    uint64_t stack_count;
    uint64_t stack_capacity;
};

/* ---- strings --------------------------------------------------------------------------------- */

static const struct keydir_entry *entry_of(const struct sort *sort, const struct item *item)
{
    return slab_at(sort->slab, item->ref);
}

static uint32_t string_size(enum btree_order order, const struct keydir_entry *entry)
{
    return entry->key_last + 1u + (order == BTREE_BY_EXPIRY ? 8 : 0);
}

/* Eight bytes of @key from @at on, big-endian, zeros behind its end. */
static uint64_t key_head(struct slice key, uint64_t at)
{
    uint64_t head = 0;
    if (at + HEAD_SIZE <= key.size) return __builtin_bswap64(get_u64(key.data + at));
    for (uint64_t i = at; i < key.size; i++) head |= (uint64_t)key.data[i] << 8 * (7 - (i - at));
    return head;
}

/* The same of the string that orders @entry: see btree.h. */
static uint64_t string_head(enum btree_order order, const struct keydir_entry *entry, uint32_t at)
{
    const struct slice key = keydir_entry_key(entry);
    if (order == BTREE_BY_KEY) return key_head(key, at);
    if (at >= 8) return key_head(key, at - 8);
    const uint64_t expiry = keydir_entry_expiry(entry) << 8 * at;
    return at == 0 ? expiry : expiry | key_head(key, 0) >> 8 * (8 - at);
}

/* How many bytes, from @at on, the strings of @a and @b share; at most @limit. */
static uint32_t string_common(enum btree_order order, const struct keydir_entry *a,
                              const struct keydir_entry *b, uint32_t at, uint32_t limit)
{
    uint32_t common = 0;
    while (common < limit) {
        const uint64_t differs = string_head(order, a, at + common) ^
                                 string_head(order, b, at + common);
        if (differs != 0) {
            common += (uint32_t)__builtin_clzll(differs) / 8;
            break;
        }
        common += HEAD_SIZE;
    }
    return common < limit ? common : limit;
}

static int string_compare(const struct sort *sort, const struct item *a, const struct item *b)
{
    const struct keydir_entry *left = entry_of(sort, a);
    const struct keydir_entry *right = entry_of(sort, b);
    if (sort->order == BTREE_BY_EXPIRY) {
        const uint64_t one = keydir_entry_expiry(left);
        const uint64_t other = keydir_entry_expiry(right);
        if (one != other) return one < other ? -1 : 1;
    }
    return slice_compare(keydir_entry_key(left), keydir_entry_key(right));
}

/* ---- ranges ---------------------------------------------------------------------------------- */

static void push(struct sort *sort, struct range range)
{
    if (range.count < 2) return;
    if (sort->stack_count == sort->stack_capacity) {
        sort->stack_capacity = sort->stack_capacity == 0 ? STACK_MIN : 2 * sort->stack_capacity;
        sort->stack = mem_resize(sort->stack, sort->stack_capacity * sizeof *sort->stack);
    }
    sort->stack[sort->stack_count++] = range;
}

/* Moves the depth of @range behind everything that all of its strings share, and reads their heads there. */
static void range_read(struct sort *sort, struct range *range)
{
    struct item *items = sort->items + range->first;
    const struct keydir_entry *first = entry_of(sort, items);
    uint32_t common = items[0].size - range->depth;
    for (uint64_t i = 1; i < range->count && common > 0; i++) {
        if (i + AHEAD < range->count) __builtin_prefetch(entry_of(sort, &items[i + AHEAD]));
        const uint32_t rest = items[i].size - range->depth;
        common = string_common(sort->order, first, entry_of(sort, &items[i]), range->depth,
                               common < rest ? common : rest);
    }
    range->depth += common;
    for (uint64_t i = 0; i < range->count; i++) {
        if (i + AHEAD < range->count) __builtin_prefetch(entry_of(sort, &items[i + AHEAD]));
        items[i].head = string_head(sort->order, entry_of(sort, &items[i]), range->depth);
    }
    range->byte = 0;
    range->is_read = true;
}

static void range_insertion(const struct sort *sort, const struct range *range)
{
    struct item *items = sort->items + range->first;
    for (uint64_t i = 1; i < range->count; i++) {
        const struct item item = items[i];
        uint64_t at = i;
        for (; at > 0; at--) {
            const struct item *before = &items[at - 1];
            if (before->head < item.head) break;
            if (before->head == item.head && string_compare(sort, before, &item) < 0) break;
            items[at] = *before;
        }
        items[at] = item;
    }
}

/* All heads of @range agree. Strings that end within them come first, by their size: there are at most nine,
 * since no two are the same. The others differ further on. */
static void range_descend(struct sort *sort, const struct range *range)
{
    struct item *items = sort->items + range->first;
    uint64_t ended = 0;
    for (uint64_t i = 0; i < range->count; i++) {
        if (items[i].size > range->depth + HEAD_SIZE) continue;
        const struct item item = items[i];
        items[i] = items[ended];
        uint64_t at = ended++;
        for (; at > 0 && items[at - 1].size > item.size; at--) items[at] = items[at - 1];
        items[at] = item;
    }
    push(sort, (struct range){.first = range->first + ended,
                              .count = range->count - ended,
                              .depth = range->depth + HEAD_SIZE});
}

static uint32_t byte_of(const struct item *item, uint32_t byte)
{
    return (uint32_t)(item->head >> 8 * (7 - byte)) & 0xFF;
}

/* Puts the items of @range into the order of one byte of their heads, each where it belongs in turn. */
static void range_scatter(struct sort *sort, const struct range *range)
{
    struct item *items = sort->items + range->first;
    uint64_t end[256] = {0};
    uint64_t next[256];
    uint64_t sum = 0;
    for (uint64_t i = 0; i < range->count; i++) end[byte_of(&items[i], range->byte)]++;
    for (uint32_t value = 0; value < 256; value++) {
        const uint64_t count = end[value];
        struct range part = *range;
        part.first += sum;
        part.count = count;
        part.byte++;
        push(sort, part);
        next[value] = sum;
        sum += count;
        end[value] = sum;
        if (count == range->count) return;
    }
    for (uint32_t value = 0; value < 256; value++) {
        while (next[value] < end[value]) {
            struct item item = items[next[value]];
            uint32_t home = byte_of(&item, range->byte);
            while (home != value) {
                const struct item other = items[next[home]];
                items[next[home]++] = item;
                item = other;
                home = byte_of(&item, range->byte);
            }
            items[next[value]++] = item;
        }
    }
}

void keysort_run(const struct slab *slab, enum btree_order order, uint32_t *refs, uint64_t count)
{
    struct sort sort = {.slab = slab, .order = order};
    if (count < 2) return;
    sort.items = mem_alloc(count * sizeof *sort.items);
    for (uint64_t i = 0; i < count; i++) {
        if (i + AHEAD < count) __builtin_prefetch(slab_at(slab, refs[i + AHEAD]));
        sort.items[i] = (struct item){.ref = refs[i],
                                      .size = string_size(order, slab_at(slab, refs[i]))};
    }
    push(&sort, (struct range){.count = count});
    while (sort.stack_count > 0) {
        struct range range = sort.stack[--sort.stack_count];
        if (!range.is_read) range_read(&sort, &range);
        if (range.byte == HEAD_SIZE) {
            range_descend(&sort, &range);
        } else if (range.count <= SMALL_COUNT) {
            range_insertion(&sort, &range);
        } else {
            range_scatter(&sort, &range);
        }
    }
    for (uint64_t i = 0; i < count; i++) refs[i] = sort.items[i].ref;
    mem_free(sort.stack);
    mem_free(sort.items);
}
