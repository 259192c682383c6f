/* fuzz_record.c - any bytes as a record, as an effect, and as the body of a command. */
#include <stddef.h>
#include <stdint.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/compress.h"
#include "storage/effect.h"
#include "storage/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted must be exactly what its own encoder writes. */
static void check_record(struct slice bytes)
{
    struct record record;
    uint64_t size = 0;
    if (record_decode(bytes, &record, &size) != OK) return;
    CHECK(size <= bytes.size);
    struct buf again = {0};
    record_encode(&record, &again);
    CHECK(slice_equal(buf_slice(&again), slice_of(bytes.data, size)));
    buf_close(&again);
}

/* What has the form of a packed value either is one, in one go as in slices, or is found to be none. */
static void check_packed(struct slice packed)
{
    struct buf whole = {0};
    struct compress_undo undo = {0};
    CHECK(compress_valid(packed));
    const uint64_t raw_size = compress_raw_size(packed);
    CHECK(raw_size <= VALUE_SIZE_MAX);
    CHECK(raw_size <= packed.size * 255);
    const enum err err = compress_unpack(packed, &whole);
    enum err step = ERR_MORE;
    while (step == ERR_MORE) step = compress_undo_step(&undo, packed, 1);
    CHECK(step == err);
    CHECK(whole.size == (err == OK ? raw_size : 0));
    if (err == OK) CHECK(slice_equal(buf_slice(&whole), buf_slice(&undo.out)));
    buf_close(&undo.out);
    buf_close(&whole);
}

static void check_effect(struct slice bytes)
{
    struct effect effect;
    uint64_t size = 0;
    if (effect_decode_trusted(bytes, &effect, &size) != OK) return;
    CHECK(size <= bytes.size);
    CHECK(size == effect_size(&effect));
    struct buf again = {0};
    effect_encode(&effect, &again);
    /* All but the checksum, which trusted bytes need not have. */
    CHECK(slice_equal(slice_of(again.data + 4, size - 4), slice_of(bytes.data + 4, size - 4)));
    CHECK(effect_decode(buf_slice(&again), &effect, &size) == OK);
    if ((effect.flags & EFFECT_FLAG_LZ4) != 0) check_packed(effect.value);
    buf_close(&again);
}

static void check_body(struct slice bytes)
{
    struct effect_walk walk;
    struct effect effect;
    uint32_t count = 0;
    effect_walk_open(&walk, bytes);
    enum err err;
    while ((err = effect_walk_next(&walk, &effect)) == OK) {
        CHECK(walk.ordinal == count);
        CHECK(effect.key.data >= bytes.data);
        CHECK(effect.value.data + effect.value.size <= bytes.data + bytes.size);
        count++;
    }
    if (err == ERR_NOT_FOUND) CHECK(count == get_u32(bytes.data));
}

/* The same with a right checksum, so that what is behind it is reached. */
static void check_sealed_record(struct slice bytes)
{
    if (bytes.size < RECORD_HEADER_SIZE) return;
    struct buf copy = {0};
    buf_append(&copy, bytes.data, bytes.size);
    const uint64_t size = get_u32(copy.data + 8);
    if (size >= RECORD_HEADER_SIZE && size <= copy.size) {
        put_u64(copy.data, hash64(copy.data + 8, size - 8));
        check_record(buf_slice(&copy));
    }
    buf_close(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice bytes = slice_of(data, size);
    check_record(bytes);
    check_sealed_record(bytes);
    check_effect(bytes);
    check_body(bytes);
    return 0;
}
