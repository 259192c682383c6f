/* compress.h - values as LZ4 blocks, made and undone in slices, so that a large one holds up nobody.
 *
 * A put whose effect has EFFECT_FLAG_LZ4 holds this instead of the value (little-endian):
 *
 *   0  u32 raw size: that of the value, 1 .. VALUE_SIZE_MAX
 *   4  blocks, each of COMPRESS_BLOCK_SIZE raw bytes, the last one of what is left:
 *      0  u32 size of the stored bytes; bit 31: they are the raw bytes themselves
 *      4  the stored bytes: one LZ4 block
 *
 * Blocks are independent of each other. What is made here saves at least 12 in 100,
 * so a packed value is never larger than a raw one may be. Bytes from a disk or a peer are checked
 * by compress_valid() before anything in them is believed: LZ4 makes at most 255 bytes of one, so
 * the memory that a value asks for is bounded by the bytes that came. */
#ifndef KV_STORAGE_COMPRESS_H
#define KV_STORAGE_COMPRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

#define COMPRESS_BLOCK_SIZE (256u * 1024u)

/* ---- packing ------------------------------------------------------------------------------------- */

/* A value that is being packed. All zero but for raw_size to begin with; out may hold something already. */
struct compress {
    uint64_t raw_size;
    uint64_t position; /* Raw bytes packed so far. */
    uint64_t base;     /* Where the packed value begins in out. */
    struct buf out;
};

/* Packs the next blocks of @raw, the whole value, about @budget bytes of it, at least one block.
 *   OK         it is complete: out holds the packed value
 *   ERR_MORE   go on with another call
 *   ERR_INVALID  it does not save enough: the value stays as it is, out is as it was before */
enum err compress_step(struct compress *compress, struct slice raw, uint64_t budget);
void compress_close(struct compress *compress);

/* The same at once: appends the packed value to @out. False: it does not save enough, nothing is appended. */
bool compress_pack(struct slice raw, struct buf *out);

/* ---- unpacking ----------------------------------------------------------------------------------- */

/* True when @packed has the form above: every size in it fits. It can still hold damaged LZ4 data. */
bool compress_valid(struct slice packed);
/* The size of the value. @packed is valid. */
uint64_t compress_raw_size(struct slice packed);

/* A value that is being unpacked. All zero to begin with; out may hold something already. */
struct compress_undo {
    uint64_t position; /* Of the next block in the packed bytes; 0: at the beginning. */
    uint64_t base;     /* Where the value begins in out. */
    struct buf out;
};

/* Unpacks the next blocks of @packed, which is valid and the same in every call, about @budget raw bytes.
 *   OK           out holds the value from base on
 *   ERR_MORE     go on with another call
 *   ERR_CORRUPT  these are no LZ4 blocks */
enum err compress_undo_step(struct compress_undo *undo, struct slice packed, uint64_t budget);

/* The same at once: appends the value to @out. OK or ERR_CORRUPT (nothing is appended). */
enum err compress_unpack(struct slice packed, struct buf *out);

#endif
