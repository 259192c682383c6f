/* Tests of storage/compress.c: what is packed comes back, nothing that is not packed is believed. */
#include "tests/test.h"

#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/compress.h"

#define BLOCK COMPRESS_BLOCK_SIZE
#define RAW_BIT 0x80000000u

/* @size bytes of which about @percent in 100 are random, the others repeat. */
static uint8_t *sample(uint64_t size, uint32_t percent, uint64_t seed)
{
    struct prng prng = prng_seed(seed);
    uint8_t *bytes = mem_alloc(size);
    for (uint64_t i = 0; i < size; i++) {
        const bool is_random = (i / 64) % 100 < percent;
        bytes[i] = is_random ? (uint8_t)prng_next(&prng) : (uint8_t) "a common word "[i % 14];
    }
    return bytes;
}

static void expect_round_trip(const uint8_t *raw, uint64_t size, bool is_packed)
{
    struct buf packed = {0};
    struct buf again = {0};
    struct slice value = slice_of(raw, size);
    buf_text(&packed, "before");
    EXPECT_EQ(compress_pack(value, &packed), is_packed);
    if (!is_packed) {
        EXPECT_EQ(packed.size, 6);
        buf_close(&packed);
        return;
    }
    const struct slice bytes = slice_of(packed.data + 6, packed.size - 6);
    EXPECT_LE(bytes.size, size * 88 / 100);
    EXPECT_TRUE(compress_valid(bytes));
    EXPECT_EQ(compress_raw_size(bytes), size);
    buf_text(&again, "before");
    EXPECT_EQ(compress_unpack(bytes, &again), OK);
    EXPECT_EQ(again.size, size + 6);
    EXPECT_BYTES(again.data + 6, raw, size);
    buf_close(&again);
    buf_close(&packed);
}

TEST(compress, values_of_every_size_around_a_block_come_back)
{
    const uint64_t around[] = {1,
                               8,
                               9,
                               63,
                               64,
                               65,
                               100,
                               1023,
                               1024,
                               1025,
                               65535,
                               65536,
                               BLOCK - 1,
                               BLOCK,
                               BLOCK + 1,
                               2 * BLOCK - 1,
                               2 * BLOCK,
                               2 * BLOCK + 7,
                               5 * BLOCK + 1000};
    for (uint32_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        uint8_t *raw = sample(around[i], 0, i);
        expect_round_trip(raw, around[i], around[i] > 9);
        mem_free(raw);
    }
}

TEST(compress, all_small_sizes_come_back_or_are_left_alone)
{
    uint8_t *raw = sample(3000, 0, 5);
    struct buf packed = {0};
    struct buf again = {0};
    for (uint64_t size = 1; size <= 3000; size++) {
        packed.size = 0;
        again.size = 0;
        if (!compress_pack(slice_of(raw, size), &packed)) {
            EXPECT_LT(size, 64);
            continue;
        }
        EXPECT_TRUE(compress_valid(buf_slice(&packed)));
        EXPECT_EQ(compress_unpack(buf_slice(&packed), &again), OK);
        EXPECT_TRUE(slice_equal(buf_slice(&again), slice_of(raw, size)));
    }
    buf_close(&again);
    buf_close(&packed);
    mem_free(raw);
}

TEST(compress, random_bytes_are_left_alone)
{
    const uint64_t sizes[] = {64, 1000, 4096, 65536, BLOCK, 3 * BLOCK + 5};
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *raw = sample(sizes[i], 100, i);
        expect_round_trip(raw, sizes[i], false);
        mem_free(raw);
    }
}

TEST(compress, twelve_in_a_hundred_is_what_counts)
{
    /* With this part of random bytes LZ4 saves a little less, and a little more. */
    const uint64_t size = 100000;
    uint8_t *little = sample(size, 95, 1);
    uint8_t *enough = sample(size, 80, 1);
    expect_round_trip(little, size, false);
    expect_round_trip(enough, size, true);
    mem_free(little);
    mem_free(enough);
}

TEST(compress, random_blocks_among_others_are_stored_as_they_are)
{
    const uint64_t size = 6 * BLOCK + 100;
    struct buf packed = {0};
    uint8_t *raw = sample(size, 0, 3);
    uint8_t *noise = sample(BLOCK, 100, 4);
    memcpy(raw + 2 * BLOCK, noise, BLOCK);
    expect_round_trip(raw, size, true);
    EXPECT_TRUE(compress_pack(slice_of(raw, size), &packed));
    uint64_t at = 4;
    for (uint32_t i = 0; i < 7; i++) {
        const uint32_t head = get_u32(packed.data + at);
        EXPECT_EQ((head & RAW_BIT) != 0, i == 2);
        at += 4 + (head & ~RAW_BIT);
    }
    EXPECT_EQ(at, packed.size);
    buf_close(&packed);
    mem_free(noise);
    mem_free(raw);
}

TEST(compress, slices_make_the_same_as_one_go)
{
    const uint64_t size = 9 * BLOCK + 12345;
    uint8_t *raw = sample(size, 30, 9);
    const struct slice value = slice_of(raw, size);
    struct buf whole = {0};
    struct compress slices = {.raw_size = size};
    struct compress_undo undo = {0};
    uint32_t steps = 0;
    enum err err;
    EXPECT_TRUE(compress_pack(value, &whole));
    while ((err = compress_step(&slices, value, 2 * BLOCK)) == ERR_MORE) steps++;
    EXPECT_EQ(err, OK);
    EXPECT_EQ(steps, 4);
    EXPECT_TRUE(slice_equal(buf_slice(&whole), buf_slice(&slices.out)));
    steps = 0;
    while ((err = compress_undo_step(&undo, buf_slice(&whole), 1)) == ERR_MORE) steps++;
    EXPECT_EQ(err, OK);
    EXPECT_EQ(steps, 9);
    EXPECT_TRUE(slice_equal(buf_slice(&undo.out), value));
    buf_close(&undo.out);
    compress_close(&slices);
    buf_close(&whole);
    mem_free(raw);
}

TEST(compress, a_large_random_value_is_given_up_without_looking_at_all_of_it)
{
    const uint64_t size = 16 * BLOCK;
    uint8_t *raw = sample(size, 100, 2);
    struct compress slices = {.raw_size = size};
    uint32_t steps = 0;
    enum err err;
    while ((err = compress_step(&slices, slice_of(raw, size), BLOCK)) == ERR_MORE) steps++;
    EXPECT_EQ(err, ERR_INVALID);
    EXPECT_LT(steps, 15);
    EXPECT_EQ(slices.out.size, 0);
    compress_close(&slices);
    mem_free(raw);
}

/* ---- bytes from elsewhere ---------------------------------------------------------------------------- */

TEST(compress, a_few_bytes_that_claim_to_be_many_are_refused)
{
    uint8_t bomb[64] = {0};
    put_u32(bomb, VALUE_SIZE_MAX);
    for (uint64_t size = 0; size <= sizeof bomb; size++) {
        for (uint32_t block = 0; block < 64; block++) {
            put_u32(bomb + 4, block);
            EXPECT_FALSE(compress_valid(slice_of(bomb, size)));
            put_u32(bomb + 4, block | RAW_BIT);
            EXPECT_FALSE(compress_valid(slice_of(bomb, size)));
        }
    }
}

TEST(compress, sizes_that_do_not_fit_are_refused)
{
    uint8_t bytes[32] = {0};
    put_u32(bytes, 10);
    put_u32(bytes + 4, 10 | RAW_BIT);
    EXPECT_TRUE(compress_valid(slice_of(bytes, 18)));
    EXPECT_FALSE(compress_valid(slice_of(bytes, 17)));
    EXPECT_FALSE(compress_valid(slice_of(bytes, 19)));
    EXPECT_FALSE(compress_valid(slice_of(bytes, 7)));
    put_u32(bytes, 0);
    EXPECT_FALSE(compress_valid(slice_of(bytes, 4)));
    put_u32(bytes, VALUE_SIZE_MAX + 1);
    EXPECT_FALSE(compress_valid(slice_of(bytes, 18)));
    put_u32(bytes, 9); /* A raw block of another size than what is left. */
    EXPECT_FALSE(compress_valid(slice_of(bytes, 18)));
    put_u32(bytes, 3000); /* One byte stands for at most 255. */
    put_u32(bytes + 4, 10);
    EXPECT_FALSE(compress_valid(slice_of(bytes, 18)));
    put_u32(bytes, 2550);
    EXPECT_TRUE(compress_valid(slice_of(bytes, 18)));
    put_u32(bytes + 4, 0);
    EXPECT_FALSE(compress_valid(slice_of(bytes, 8)));
    put_u32(bytes + 4, UINT32_MAX);
    EXPECT_FALSE(compress_valid(slice_of(bytes, 18)));
}

TEST(compress, changed_bytes_never_reach_beyond_the_value)
{
    const uint64_t size = BLOCK + 5000;
    struct prng prng = prng_seed(11);
    struct buf packed = {0};
    uint8_t *raw = sample(size, 20, 11);
    uint32_t refused = 0;
    EXPECT_TRUE(compress_pack(slice_of(raw, size), &packed));
    uint8_t *copy = mem_alloc(packed.size);
    for (uint32_t i = 0; i < 2000; i++) {
        memcpy(copy, packed.data, packed.size);
        /* Mostly where a size or a token is. */
        const uint64_t at = i % 2 == 0 ? prng_below(&prng, 64) : prng_below(&prng, packed.size);
        copy[at] = (uint8_t)(copy[at] ^ (1u << prng_below(&prng, 8)));
        const struct slice bytes = slice_of(copy, packed.size);
        struct compress_undo undo = {0};
        struct buf again = {0};
        if (!compress_valid(bytes)) {
            refused++;
            continue;
        }
        const uint64_t claimed = compress_raw_size(bytes);
        const enum err err = compress_unpack(bytes, &again);
        EXPECT_EQ(compress_undo_step(&undo, bytes, UINT64_MAX), err);
        EXPECT_TRUE(err == OK || err == ERR_CORRUPT);
        EXPECT_EQ(again.size, err == OK ? claimed : 0);
        if (err != OK) refused++;
        buf_close(&again);
        buf_close(&undo.out);
    }
    EXPECT_LT(100, refused);
    mem_free(copy);
    buf_close(&packed);
    mem_free(raw);
}
