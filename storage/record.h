/* record.h - one Raft entry in the bytes in which it is stored and sent.
 *
 * The leader encodes an entry once; peers write what they received. Layout (little-endian):
 *
 *    0  u64 checksum: XXH3-64 over bytes 8 .. size
 *    8  u32 size: all of the record, a multiple of 8
 *   12  u32 payload size: size - 48 - padding (zeros, fewer than 8)
 *   16  u64 index       24  u64 term
 *   32  u64 stamp: milliseconds since the epoch, never less than the record before (the leader sees to it)
 *   40  u8 type         41  u8 format version (1)      42  u16 shard      44  u32 zero
 *   48  payload: effects of a command, the configuration of a change, nothing for a barrier
 */
#ifndef KV_STORAGE_RECORD_H
#define KV_STORAGE_RECORD_H

#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

#define RECORD_HEADER_SIZE 48u
#define RECORD_VERSION 1u

enum record_type {
    RECORD_COMMAND = 1, /* The same numbers as the library's entry types. */
    RECORD_BARRIER = 2,
    RECORD_CHANGE = 3,
    RECORD_CUT = 16,   /* On disk only: entries from index on are void. */
    RECORD_TABLE = 17, /* In tables only: effects with their revisions (table.h). */
};

struct record {
    uint64_t index;
    uint64_t term;
    uint64_t stamp_ms;
    uint8_t type;
    uint16_t shard;
    struct slice payload; /* Borrows. */
};

static inline uint64_t record_size(uint64_t payload_size)
{
    return align_up(RECORD_HEADER_SIZE + payload_size, 8);
}
/* Completes a record in place: @at holds RECORD_HEADER_SIZE free bytes, then the payload, then room for
 * the padding. @record->payload.size counts, its data is ignored. Returns the record's size. */
uint64_t record_seal(uint8_t *at, const struct record *record);
/* Appends the whole record, payload copied, to @out. */
void record_encode(const struct record *record, struct buf *out);
/* Reads and verifies the record at the start of @bytes; @size receives what it takes.
 *   ERR_CORRUPT   checksum, size, padding or type is wrong (types of the disk only included: pass them on)
 *   ERR_NEWER     a format version or type that this program does not know
 *   ERR_MORE      @bytes end before the record does. */
enum err record_decode(struct slice bytes, struct record *record, uint64_t *size);
/* The same without the checksum, for bytes verified before in this process. */
enum err record_decode_trusted(struct slice bytes, struct record *record, uint64_t *size);

#endif
