/* Tests of storage/record.c: what is written is read, everything else is refused. */
#include "tests/test.h"

#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/record.h"

static struct record sample(const char *payload)
{
    return (struct record){
        .index = 7,
        .term = 3,
        .stamp_ms = 1700000000123,
        .type = RECORD_COMMAND,
        .shard = 5,
        .payload = slice_text(payload),
    };
}

TEST(record, what_was_encoded_is_decoded)
{
    const char *payloads[] = {"", "a", "1234567", "12345678", "a payload of some words"};
    const uint8_t types[] = {RECORD_COMMAND, RECORD_BARRIER, RECORD_CHANGE, RECORD_CUT};
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        for (size_t j = 0; j < sizeof types; j++) {
            struct buf out = {0};
            struct record record = sample(payloads[i]);
            record.type = types[j];
            record_encode(&record, &out);
            EXPECT_EQ(out.size, record_size(record.payload.size));
            EXPECT_EQ(out.size % 8, 0);
            buf_text(&out, "what follows");
            struct record read = {0};
            uint64_t size = 0;
            EXPECT_EQ(record_decode(buf_slice(&out), &read, &size), OK);
            EXPECT_EQ(size, out.size - 12);
            EXPECT_EQ(read.index, 7);
            EXPECT_EQ(read.term, 3);
            EXPECT_EQ(read.stamp_ms, 1700000000123);
            EXPECT_EQ(read.type, types[j]);
            EXPECT_EQ(read.shard, 5);
            EXPECT_TRUE(slice_equal(read.payload, record.payload));
            EXPECT_EQ(record_decode_trusted(buf_slice(&out), &read, &size), OK);
            EXPECT_TRUE(slice_equal(read.payload, record.payload));
            buf_close(&out);
        }
    }
}

TEST(record, sealing_in_place_gives_the_same_bytes)
{
    struct buf out = {0};
    const struct record record = sample("payload in place");
    record_encode(&record, &out);
    uint8_t at[128];
    memset(at, 0xee, sizeof at);
    memcpy(at + RECORD_HEADER_SIZE, record.payload.data, record.payload.size);
    EXPECT_EQ(record_seal(at, &record), out.size);
    EXPECT_BYTES(at, out.data, out.size);
    EXPECT_EQ(at[out.size], 0xee);
    buf_close(&out);
}

TEST(record, layout_is_the_documented_one)
{
    struct buf out = {0};
    const struct record record = sample("abc");
    record_encode(&record, &out);
    EXPECT_EQ(out.size, 56);
    EXPECT_EQ(get_u32(out.data + 8), 56);
    EXPECT_EQ(get_u32(out.data + 12), 3);
    EXPECT_EQ(get_u64(out.data + 16), 7);
    EXPECT_EQ(get_u64(out.data + 24), 3);
    EXPECT_EQ(get_u64(out.data + 32), 1700000000123);
    EXPECT_EQ(out.data[40], 1);
    EXPECT_EQ(out.data[41], 1);
    EXPECT_EQ(get_u16(out.data + 42), 5);
    EXPECT_BYTES(out.data + 48, "abc\0\0\0\0\0", 8);
    /* A golden checksum: if this changes, old data can no longer be read. */
    EXPECT_EQ(get_u64(out.data), UINT64_C(0xc03a0f21d2a934ee));
    buf_close(&out);
}

TEST(record, every_truncation_asks_for_more)
{
    struct buf out = {0};
    const struct record record = sample("a payload that is cut");
    record_encode(&record, &out);
    for (uint64_t size = 0; size < out.size; size++) {
        uint8_t *copy = mem_copy(out.data, size); /* its own allocation, so that overruns show */
        struct record read;
        uint64_t taken;
        EXPECT_EQ(record_decode(slice_of(copy, size), &read, &taken), ERR_MORE);
        EXPECT_EQ(record_decode_trusted(slice_of(copy, size), &read, &taken), ERR_MORE);
        mem_free(copy);
    }
    buf_close(&out);
}

TEST(record, every_flipped_bit_is_found)
{
    struct buf out = {0};
    const struct record record = sample("a payload with a flipped bit");
    record_encode(&record, &out);
    for (uint64_t bit = 0; bit < out.size * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct record read;
        uint64_t size;
        /* A changed size can also make the record end beyond the bytes at hand. */
        const enum err err = record_decode(buf_slice(&out), &read, &size);
        EXPECT_TRUE(err == ERR_CORRUPT || (err == ERR_MORE && bit / 8 >= 8 && bit / 8 < 16));
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_close(&out);
}

/* Changes one byte and makes the checksum right again: a writer that is newer, or wrong. */
static enum err decode_changed(uint64_t offset, uint8_t value)
{
    struct buf out = {0};
    const struct record record = sample("abc");
    record_encode(&record, &out);
    out.data[offset] = value;
    put_u64(out.data, hash64(out.data + 8, out.size - 8));
    struct record read;
    uint64_t size;
    const enum err err = record_decode(buf_slice(&out), &read, &size);
    buf_close(&out);
    return err;
}

TEST(record, newer_formats_and_types_are_named)
{
    EXPECT_EQ(decode_changed(41, 2), ERR_NEWER);
    EXPECT_EQ(decode_changed(41, 0), ERR_NEWER);
    EXPECT_EQ(decode_changed(40, 0), ERR_NEWER);
    EXPECT_EQ(decode_changed(40, 4), ERR_NEWER);
    EXPECT_EQ(decode_changed(44, 1), ERR_CORRUPT); /* the zero field */
    EXPECT_EQ(decode_changed(53, 1), ERR_CORRUPT); /* the padding */
    EXPECT_EQ(decode_changed(16, 0), ERR_CORRUPT); /* index 0 */
    EXPECT_EQ(decode_changed(22, 1), ERR_CORRUPT); /* an index beyond 48 bits */
    EXPECT_EQ(decode_changed(48, 'x'), OK);
}

TEST(record, random_bytes_are_never_a_record)
{
    struct prng prng = prng_seed(1);
    uint8_t bytes[256];
    for (int i = 0; i < 20000; i++) {
        for (size_t j = 0; j < sizeof bytes; j += 8) put_u64(bytes + j, prng_next(&prng));
        const uint64_t payload = prng_below(&prng, 208);
        put_u32(bytes + 12, (uint32_t)payload);
        put_u32(bytes + 8, (uint32_t)record_size(payload));
        struct record read;
        uint64_t size;
        EXPECT_EQ(record_decode(slice_of(bytes, sizeof bytes), &read, &size), ERR_CORRUPT);
    }
}

TEST(record, too_big_a_size_is_damage_not_a_wait)
{
    uint8_t bytes[64] = {0};
    put_u32(bytes + 8, RECORD_SIZE_MAX + 8);
    put_u32(bytes + 12, RECORD_SIZE_MAX + 8 - RECORD_HEADER_SIZE);
    struct record read;
    uint64_t size;
    EXPECT_EQ(record_decode(slice_of(bytes, sizeof bytes), &read, &size), ERR_CORRUPT);
}
