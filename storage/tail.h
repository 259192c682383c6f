/* tail.h - the newest groups in memory, as they were written: for peers, apply and young values.
 *
 * Groups come in the order in which they are in the files and leave oldest first when together they
 * take more than the limit. The newest one always stays: it may still be on its way to the disk. */
#ifndef KV_STORAGE_TAIL_H
#define KV_STORAGE_TAIL_H

#include <stdint.h>

#include "storage/base/bytes.h"

struct tail_image {
    uint32_t file; /* Number of the segment. */
    uint32_t offset;
    struct buf bytes; /* Owned. */
};

struct tail {
    uint64_t size_max;
    uint64_t size;             /* Allocated by all images. */
    struct tail_image *images; /* Ring of @capacity, a power of two or zero. */
    uint32_t capacity;
    uint32_t start;
    uint32_t count;
};

void tail_init(struct tail *tail, uint64_t size_max);
void tail_close(struct tail *tail);
/* Takes the contents of @bytes (which is empty afterwards); behind everything that is there
 * already. Returns the bytes at their final address: valid until evicted, not before the
 * next add. */
struct slice tail_add(struct tail *tail, uint32_t file, uint32_t offset, struct buf *bytes);
/* The @size bytes at @offset of @file; data is NULL when they are not in memory. Valid until the
 * next tail_add. */
struct slice tail_find(const struct tail *tail, uint32_t file, uint32_t offset, uint64_t size);
void tail_check(const struct tail *tail);

#endif
