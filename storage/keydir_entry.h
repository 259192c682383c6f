/* keydir_entry.h - one key in memory, as keydir.c, hashdir.c and btree.c see it. Nobody else
 * includes it.
 *
 * An entry is a single allocation without padding: 22 fixed bytes, then
 *   expiry   8 bytes, only when has_expiry
 *   key      key_last + 1 bytes
 *   value    value_size bytes, only when it is inline: at most VALUE_INLINE_MAX and not compressed
 * It is handed out in units of 8 bytes; @slack counts the units that an update in place left
 * unused, so that the size of the allocation always follows from the entry itself. */
#ifndef KV_STORAGE_KEYDIR_ENTRY_H
#define KV_STORAGE_KEYDIR_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "storage/keydir.h"

#define KEYDIR_ENTRY_UNIT 8u /* That of slab.h. */

struct keydir_entry {
    uint64_t revision;
    uint32_t file;        /* Of the place. */
    uint32_t offset : 29; /* Of the place, in units of 8. */
    uint32_t has_expiry : 1;
    uint32_t is_compressed : 1;
    uint32_t value_size : 28;
    uint32_t slack : 4; /* Units of the allocation behind the last one in use. */
    uint16_t key_last;  /* Size of the key less one: keys have 1 to 65536 bytes. */
    uint8_t bytes[];
};

STATIC_CHECK(VALUE_SIZE_MAX < 1u << 28, "the size of a value fits in its bits");
STATIC_CHECK(KEY_SIZE_MAX <= 1u << 16, "the size of a key less one fits in its bits");
STATIC_CHECK(offsetof(struct keydir_entry, bytes) == 22, "the fixed part has no padding");

static inline uint64_t keydir_entry_expiry(const struct keydir_entry *entry)
{
    return entry->has_expiry ? get_u64(entry->bytes) : 0;
}
static inline struct slice keydir_entry_key(const struct keydir_entry *entry)
{
    return slice_of(entry->bytes + 8u * entry->has_expiry, (uint64_t)entry->key_last + 1);
}
static inline bool keydir_entry_inline(const struct keydir_entry *entry)
{
    return entry->value_size <= VALUE_INLINE_MAX && !entry->is_compressed;
}
/* Bytes in use, without rounding, of an entry with these parts. */
static inline uint64_t keydir_entry_size(uint64_t key_size, uint64_t inline_size, bool has_expiry)
{
    return offsetof(struct keydir_entry, bytes) + (has_expiry ? 8 : 0) + key_size + inline_size;
}
/* Bytes of the allocation that holds @entry. */
static inline uint64_t keydir_entry_capacity(const struct keydir_entry *entry)
{
    const uint64_t inline_size = keydir_entry_inline(entry) ? entry->value_size : 0;
    const uint64_t size = keydir_entry_size((uint64_t)entry->key_last + 1, inline_size,
                                            entry->has_expiry);
    return align_up(size, KEYDIR_ENTRY_UNIT) + (uint64_t)entry->slack * KEYDIR_ENTRY_UNIT;
}

#endif
