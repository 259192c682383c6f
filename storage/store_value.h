/* store_value.h - values of keys, at once from memory, else from the disk without holding up the loop.
 *
 * The keydir says where a value lies: in the entry itself, or in the put at (file, offset), whose bytes never
 * change. Young ones are still in memory. For the others store_value_now() asks the operating system for what it
 * has in its cache; when that would wait for the disk, or the value is large, a store_read fetches it in the
 * background. Values are stored as their put holds them: packed when info.is_compressed (compress.h).
 *
 * ERR_CORRUPT and ERR_IO mean that the disk does not give back what was written: the caller answers an error and
 * never invents a value. */
#ifndef KV_STORAGE_STORE_VALUE_H
#define KV_STORAGE_STORE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/list.h"
#include "storage/store.h"

#define STORE_READ_NOW_MAX                                                                         \
    (128u * 1024u) /* a larger value is never copied from the cache in a turn */

/* The stored bytes of @entry's value, if they can be had at once. Borrowed until the next call of any function of
 * this store. ERR_AGAIN: read it in the background. */
enum err store_value_now(struct store *store, const struct keydir_entry *entry,
                         struct slice *stored);

/* One value on its way from the disk. The caller embeds it, all zero, and keeps it until it is done; the file stays
 * open as long. */
struct store_read {
    struct list link; /* In the store's list while under way. Closing the store waits for it. */
    struct disk_op op;
    struct place place;
    struct buf key;
    uint32_t value_size;
    bool is_compressed;
    bool is_done;
    bool is_verified;
    struct buf bytes; /* The whole effect. */
};
/* Begins to read the value of @entry, for which store_value_now() said ERR_AGAIN. */
void store_read_begin(struct store *store, const struct keydir_entry *entry,
                      struct store_read *read);
/* The stored bytes that were read and verified; borrowed from @read. It is done. ERR_CORRUPT, ERR_IO. */
enum err store_read_value(struct store_read *read, struct slice *stored);
/* Frees what it holds. It is done, or never began. */
void store_read_close(struct store_read *read);

#endif
