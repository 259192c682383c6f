#include "storage/compress.h"

#include <lz4.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"

#define HEADER_SIZE 4u
#define BLOCK_HEADER_SIZE 4u
#define BLOCK_IS_RAW 0x80000000u
#define END_SIZE 8u    /* room behind an unpacked value, which becomes a reply */
#define RATIO_MAX 255u /* raw bytes that one byte of an LZ4 block can stand for */

/* The largest size that is worth unpacking at every read: it saves 12 in 100. */
static uint64_t worth_size(uint64_t raw_size)
{
    return raw_size * 88 / 100;
}

static uint64_t block_size(uint64_t raw_size, uint64_t position)
{
    const uint64_t left = raw_size - position;
    return left < COMPRESS_BLOCK_SIZE ? left : COMPRESS_BLOCK_SIZE;
}

void compress_close(struct compress *compress)
{
    buf_close(&compress->out);
    *compress = (struct compress){0};
}

/* One block to @out; as it is when LZ4 does not make it @room bytes or less. */
static void pack_block(struct slice raw, uint64_t room, struct buf *out)
{
    uint8_t *at = buf_reserve(out, BLOCK_HEADER_SIZE + raw.size);
    int size = 0;
    if (room > 0) {
        size = LZ4_compress_default((const char *)raw.data, (char *)at + BLOCK_HEADER_SIZE,
                                    (int)raw.size, (int)room);
    }
    if (size > 0) {
        put_u32(at, (uint32_t)size);
    } else {
        size = (int)raw.size;
        put_u32(at, (uint32_t)size | BLOCK_IS_RAW);
        memcpy(at + BLOCK_HEADER_SIZE, raw.data, raw.size);
    }
    out->size += BLOCK_HEADER_SIZE + (uint64_t)size;
}

enum err compress_step(struct compress *compress, struct slice raw, uint64_t budget)
{
    struct buf *out = &compress->out;
    const uint64_t enough = worth_size(compress->raw_size);
    uint64_t done = 0;
    CHECK(raw.size == compress->raw_size);
    CHECK(raw.size > 0);
    CHECK(raw.size <= VALUE_SIZE_MAX);
    if (compress->position == 0) {
        compress->base = out->size;
        buf_u32(out, (uint32_t)raw.size);
    }
    while (compress->position < raw.size) {
        if (done > 0 && done >= budget) return ERR_MORE;
        const uint64_t size = block_size(raw.size, compress->position);
        pack_block(slice_of(raw.data + compress->position, size), worth_size(size), out);
        compress->position += size;
        done += size;
        if (out->size - compress->base > enough) { /* The rest cannot make up for it. */
            out->size = compress->base;
            return ERR_INVALID;
        }
    }
    return OK;
}

bool compress_pack(struct slice raw, struct buf *out)
{
    const uint64_t enough = worth_size(raw.size);
    if (raw.size > COMPRESS_BLOCK_SIZE) {
        struct compress whole = {.raw_size = raw.size};
        const enum err err = compress_step(&whole, raw, UINT64_MAX);
        if (err == OK) buf_append(out, whole.out.data, whole.out.size);
        compress_close(&whole);
        return err == OK;
    }
    if (enough <= HEADER_SIZE + BLOCK_HEADER_SIZE) return false;
    uint8_t *at = buf_reserve(out, enough);
    const int size = LZ4_compress_default(
        (const char *)raw.data, (char *)at + HEADER_SIZE + BLOCK_HEADER_SIZE, (int)raw.size,
        (int)(enough - HEADER_SIZE - BLOCK_HEADER_SIZE));
    if (size <= 0) return false;
    put_u32(at, (uint32_t)raw.size);
    put_u32(at + HEADER_SIZE, (uint32_t)size);
    out->size += HEADER_SIZE + BLOCK_HEADER_SIZE + (uint64_t)size;
    return true;
}

bool compress_valid(struct slice packed)
{
    if (packed.size < HEADER_SIZE) return false;
    const uint64_t raw_size = get_u32(packed.data);
    if (raw_size == 0 || raw_size > VALUE_SIZE_MAX) return false;
    uint64_t at = HEADER_SIZE;
    for (uint64_t position = 0; position < raw_size; position += COMPRESS_BLOCK_SIZE) {
        if (packed.size - at < BLOCK_HEADER_SIZE) return false;
        const uint32_t head = get_u32(packed.data + at);
        const uint64_t size = head & ~BLOCK_IS_RAW;
        const uint64_t raw = block_size(raw_size, position);
        at += BLOCK_HEADER_SIZE;
        if (size == 0 || size > raw || size > packed.size - at) return false;
        if ((head & BLOCK_IS_RAW) != 0 && size != raw) return false;
        if (size * RATIO_MAX < raw) return false;
        at += size;
    }
    return at == packed.size;
}

uint64_t compress_raw_size(struct slice packed)
{
    return get_u32(packed.data);
}

/* The block at *@position of @packed to @to; its raw size is @raw. False: this is no LZ4 block. */
static bool unpack_block(struct slice packed, uint64_t *position, uint8_t *to, uint64_t raw)
{
    const uint32_t head = get_u32(packed.data + *position);
    const uint8_t *from = packed.data + *position + BLOCK_HEADER_SIZE;
    const uint32_t size = head & ~BLOCK_IS_RAW;
    *position += BLOCK_HEADER_SIZE + size;
    if ((head & BLOCK_IS_RAW) != 0) {
        CHECK(size == raw);
        memcpy(to, from, size);
        return true;
    }
    return LZ4_decompress_safe((const char *)from, (char *)to, (int)size, (int)raw) == (int)raw;
}

enum err compress_undo_step(struct compress_undo *undo, struct slice packed, uint64_t budget)
{
    const uint64_t raw_size = compress_raw_size(packed);
    uint64_t done = 0;
    if (undo->position == 0) {
        undo->position = HEADER_SIZE;
        undo->base = undo->out.size;
        (void)buf_reserve_exact(&undo->out, raw_size + END_SIZE);
    }
    while (undo->position < packed.size) {
        if (done > 0 && done >= budget) return ERR_MORE;
        const uint64_t raw = block_size(raw_size, undo->out.size - undo->base);
        uint8_t *to = buf_reserve(&undo->out, raw);
        if (!unpack_block(packed, &undo->position, to, raw)) return ERR_CORRUPT;
        undo->out.size += raw;
        done += raw;
    }
    CHECK(undo->out.size - undo->base == raw_size);
    return OK;
}

enum err compress_unpack(struct slice packed, struct buf *out)
{
    uint64_t position = HEADER_SIZE;
    uint64_t done = 0;
    const uint64_t raw_size = compress_raw_size(packed);
    uint8_t *to = buf_reserve(out, raw_size);
    while (position < packed.size) {
        const uint64_t raw = block_size(raw_size, done);
        if (!unpack_block(packed, &position, to + done, raw)) return ERR_CORRUPT;
        done += raw;
    }
    CHECK(done == raw_size);
    out->size += raw_size;
    return OK;
}
