/* fuzz_record.c - any bytes as a record, as an effect, and as the body of a command. */
#include <stddef.h>
#include <stdint.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
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
