/* Tests of storage/effect.c: what is written is read, everything else is refused. */
#include "tests/test.h"

#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/compress.h"
#include "storage/effect.h"

static struct effect put_of(const char *key, const char *value)
{
    return (struct effect){
        .kind = EFFECT_PUT,
        .expiry_ms = 1700000000123,
        .previous_revision = revision_of(9, 4),
        .key = slice_text(key),
        .value = slice_text(value),
    };
}

static void expect_same(const struct effect *a, const struct effect *b)
{
    EXPECT_EQ(a->kind, b->kind);
    EXPECT_EQ(a->flags, b->flags);
    EXPECT_EQ(a->expiry_ms, b->expiry_ms);
    EXPECT_EQ(a->previous_revision, b->previous_revision);
    EXPECT_TRUE(slice_equal(a->key, b->key));
    EXPECT_TRUE(slice_equal(a->value, b->value));
}

static void expect_round_trip(const struct effect *effect)
{
    struct buf out = {0};
    effect_encode(effect, &out);
    EXPECT_EQ(out.size, effect_size(effect));
    EXPECT_EQ(out.size % 8, 0);
    buf_text(&out, "what follows");
    struct effect read;
    uint64_t size;
    EXPECT_EQ(effect_decode(buf_slice(&out), &read, &size), OK);
    EXPECT_EQ(size, out.size - 12);
    expect_same(effect, &read);
    EXPECT_EQ(effect_decode_trusted(buf_slice(&out), &read, &size), OK);
    expect_same(effect, &read);
    buf_close(&out);
}

TEST(effect, what_was_encoded_is_decoded)
{
    struct effect effect = put_of("key", "value");
    expect_round_trip(&effect);
    effect = put_of("k", "");
    expect_round_trip(&effect);
    effect = (struct effect){
        .kind = EFFECT_DELETE, .flags = EFFECT_FLAG_EXPIRED, .key = slice_text("key")};
    expect_round_trip(&effect);
    effect = (struct effect){.kind = EFFECT_EXPIRE_AT, .expiry_ms = 5, .key = slice_text("key")};
    expect_round_trip(&effect);
    effect = (struct effect){.kind = EFFECT_FLUSH};
    expect_round_trip(&effect);

    uint8_t *big = mem_zero(VALUE_SIZE_MAX);
    effect = put_of("", "");
    effect.key = slice_of(big, KEY_SIZE_MAX);
    effect.value = slice_of(big, VALUE_SIZE_MAX);
    expect_round_trip(&effect);
    mem_free(big);
}

TEST(effect, layout_is_the_documented_one)
{
    struct buf out = {0};
    const struct effect effect = put_of("key", "value!");
    effect_encode(&effect, &out);
    EXPECT_EQ(out.size, 48);
    EXPECT_EQ(out.data[4], 1);
    EXPECT_EQ(out.data[5], 0);
    EXPECT_EQ(get_u32(out.data + 8), 3);
    EXPECT_EQ(get_u32(out.data + 12), 6);
    EXPECT_EQ(get_u64(out.data + 16), 1700000000123);
    EXPECT_EQ(get_u64(out.data + 24), 9u << 16 | 4);
    EXPECT_BYTES(out.data + 32, "keyvalue!\0\0\0\0\0\0\0", 16);
    /* A golden checksum: if this changes, old data can no longer be read. */
    EXPECT_EQ(get_u32(out.data), 0x7df5170f);
    buf_close(&out);
}

TEST(effect, every_truncation_and_flipped_bit_is_found)
{
    struct buf out = {0};
    const struct effect effect = put_of("some key", "some value of a few words");
    effect_encode(&effect, &out);
    struct effect read;
    uint64_t taken;
    for (uint64_t size = 0; size < out.size; size++) {
        uint8_t *copy = mem_copy(out.data, size); /* its own allocation, so that overruns show */
        EXPECT_EQ(effect_decode(slice_of(copy, size), &read, &taken), ERR_CORRUPT);
        EXPECT_EQ(effect_decode_trusted(slice_of(copy, size), &read, &taken), ERR_CORRUPT);
        mem_free(copy);
    }
    for (uint64_t bit = 0; bit < out.size * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(effect_decode(buf_slice(&out), &read, &taken), ERR_CORRUPT);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_close(&out);
}

/* Changes one byte and makes the checksum right again: a writer that is newer, or wrong. */
static enum err decode_changed(const struct effect *effect, uint64_t offset, uint8_t value)
{
    struct buf out = {0};
    effect_encode(effect, &out);
    out.data[offset] = value;
    const uint64_t used = EFFECT_HEADER_SIZE + effect->key.size + effect->value.size;
    put_u32(out.data, (uint32_t)hash64(out.data + 4, used - 4));
    struct effect read;
    uint64_t size;
    const enum err err = effect_decode(buf_slice(&out), &read, &size);
    buf_close(&out);
    return err;
}

TEST(effect, unknown_kinds_are_newer_and_wrong_shapes_are_damage)
{
    const struct effect put = put_of("key", "value");
    EXPECT_EQ(decode_changed(&put, 32, 'x'), OK);
    EXPECT_EQ(decode_changed(&put, 4, 0), ERR_NEWER);
    EXPECT_EQ(decode_changed(&put, 4, 7), ERR_NEWER);
    EXPECT_EQ(decode_changed(&put, 4, EFFECT_PRESENT), ERR_CORRUPT); /* with a key */
    EXPECT_EQ(decode_changed(&put, 5, 8), ERR_NEWER);
    EXPECT_EQ(decode_changed(&put, 5, EFFECT_FLAG_LZ4), ERR_CORRUPT); /* the value is not packed */
    EXPECT_EQ(decode_changed(&put, 6, 1), ERR_CORRUPT);
    EXPECT_EQ(decode_changed(&put, 4, EFFECT_DELETE), ERR_CORRUPT); /* a delete with a value */
    EXPECT_EQ(decode_changed(&put, 4, EFFECT_FLUSH), ERR_CORRUPT);  /* a flush with a key */
    const struct effect flush = {.kind = EFFECT_FLUSH};
    EXPECT_EQ(decode_changed(&flush, 4, EFFECT_FLUSH), OK);
    EXPECT_EQ(decode_changed(&flush, 4, EFFECT_PUT), ERR_CORRUPT); /* a put without a key */
}

TEST(effect, numbers_make_a_whole_body_that_changes_no_key)
{
    struct buf body = {0};
    struct effect_walk walk;
    struct effect read;
    effect_encode_numbers(EFFECT_CHECK, 77, 88, &body);
    effect_walk_open(&walk, buf_slice(&body));
    EXPECT_EQ(effect_walk_next(&walk, &read), OK);
    EXPECT_EQ(read.kind, EFFECT_CHECK);
    EXPECT_FALSE(effect_is_change(read.kind));
    EXPECT_EQ(get_u64(read.value.data), 77);
    EXPECT_EQ(get_u64(read.value.data + 8), 88);
    EXPECT_EQ(effect_walk_next(&walk, &read), ERR_NOT_FOUND);
    buf_close(&body);
}

TEST(effect, sizes_beyond_the_limits_are_damage)
{
    uint8_t bytes[EFFECT_HEADER_SIZE] = {0};
    struct effect read;
    uint64_t size;
    bytes[4] = EFFECT_PUT;
    put_u32(bytes + 8, KEY_SIZE_MAX + 1);
    EXPECT_EQ(effect_decode_trusted(slice_of(bytes, UINT64_MAX), &read, &size), ERR_CORRUPT);
    put_u32(bytes + 8, 1);
    put_u32(bytes + 12, VALUE_SIZE_MAX + 1);
    EXPECT_EQ(effect_decode_trusted(slice_of(bytes, UINT64_MAX), &read, &size), ERR_CORRUPT);
}

TEST(effect, random_bytes_are_never_an_effect)
{
    struct prng prng = prng_seed(1);
    uint8_t bytes[256];
    for (int i = 0; i < 20000; i++) {
        for (size_t j = 0; j < sizeof bytes; j += 8) put_u64(bytes + j, prng_next(&prng));
        bytes[4] = (uint8_t)(1 + prng_below(&prng, 4));
        bytes[5] = 0;
        put_u32(bytes + 8, (uint32_t)prng_below(&prng, 100));
        put_u32(bytes + 12, (uint32_t)prng_below(&prng, 100));
        struct effect read;
        uint64_t size;
        EXPECT_EQ(effect_decode(slice_of(bytes, sizeof bytes), &read, &size), ERR_CORRUPT);
    }
}

TEST(effect, revisions_order_by_index_then_place)
{
    EXPECT_LT(revision_of(1, BATCH_EFFECTS_MAX), revision_of(2, 0));
    EXPECT_LT(revision_of(2, 0), revision_of(2, 1));
    EXPECT_EQ(revision_index(revision_of(77, 12)), 77);
}

static struct buf body_of(uint32_t count)
{
    struct buf body = {0};
    buf_u32(&body, count);
    buf_u32(&body, 0);
    for (uint32_t i = 0; i < count; i++) {
        struct effect effect = put_of("key", "value");
        effect.expiry_ms = i;
        effect.value.size = i % 6;
        effect_encode(&effect, &body);
    }
    return body;
}

static enum err walk_all(struct slice body, uint32_t *count)
{
    struct effect_walk walk;
    effect_walk_open(&walk, body);
    struct effect effect;
    enum err err;
    *count = 0;
    while ((err = effect_walk_next(&walk, &effect)) == OK) {
        EXPECT_EQ(walk.ordinal, *count);
        EXPECT_EQ(effect.expiry_ms, *count);
        EXPECT_TRUE(effect.key.data == body.data + walk.offset + EFFECT_HEADER_SIZE);
        ++*count;
    }
    return err;
}

TEST(effect, a_walk_gives_every_effect_of_a_body)
{
    const uint32_t counts[] = {0, 1, 2, 1000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct buf body = body_of(counts[i]);
        uint32_t count;
        EXPECT_EQ(walk_all(buf_slice(&body), &count), ERR_NOT_FOUND);
        EXPECT_EQ(count, counts[i]);
        buf_close(&body);
    }
}

TEST(effect, a_walk_refuses_a_body_of_another_shape)
{
    struct buf body = body_of(3);
    uint32_t count;
    EXPECT_EQ(walk_all(slice_of(body.data, 0), &count), ERR_CORRUPT);
    EXPECT_EQ(walk_all(slice_of(body.data, 7), &count), ERR_CORRUPT);
    EXPECT_EQ(walk_all(slice_of(body.data, body.size - 8), &count), ERR_CORRUPT);
    put_u32(body.data, 2);
    EXPECT_EQ(walk_all(buf_slice(&body), &count), ERR_CORRUPT);
    put_u32(body.data, 4);
    EXPECT_EQ(walk_all(buf_slice(&body), &count), ERR_CORRUPT);
    put_u32(body.data, UINT32_MAX);
    EXPECT_EQ(walk_all(buf_slice(&body), &count), ERR_CORRUPT);
    EXPECT_EQ(count, 0);
    put_u32(body.data, 3);
    put_u32(body.data + 4, 1);
    EXPECT_EQ(walk_all(buf_slice(&body), &count), ERR_CORRUPT);
    put_u32(body.data + 4, 0);
    EXPECT_EQ(walk_all(buf_slice(&body), &count), ERR_NOT_FOUND);
    buf_close(&body);
}

/* ---- packed values ------------------------------------------------------------------------------------ */

static struct effect packed_put(struct buf *packed)
{
    uint8_t raw[2000];
    memset(raw, 'x', sizeof raw);
    EXPECT_TRUE(compress_pack(slice_of(raw, sizeof raw), packed));
    struct effect effect = put_of("key", "");
    effect.flags = EFFECT_FLAG_LZ4;
    effect.value = buf_slice(packed);
    return effect;
}

TEST(effect, packed_put_is_decoded_as_it_is)
{
    struct buf packed = {0};
    const struct effect effect = packed_put(&packed);
    expect_round_trip(&effect);
    buf_close(&packed);
}

TEST(effect, put_that_is_packed_wrongly_is_refused)
{
    struct buf packed = {0};
    struct buf out = {0};
    struct effect read;
    uint64_t size;
    const struct effect effect = packed_put(&packed);
    effect_encode(&effect, &out);
    /* A few bytes that claim to be the largest value there may be, with a right checksum. */
    const uint64_t used = EFFECT_HEADER_SIZE + effect.key.size + effect.value.size;
    put_u32(out.data + EFFECT_HEADER_SIZE + effect.key.size, VALUE_SIZE_MAX);
    put_u32(out.data, (uint32_t)hash64(out.data + 4, used - 4));
    EXPECT_EQ(effect_decode(buf_slice(&out), &read, &size), ERR_CORRUPT);
    EXPECT_EQ(effect_decode_trusted(buf_slice(&out), &read, &size), ERR_CORRUPT);
    buf_close(&out);
    buf_close(&packed);
}

TEST(effect, only_a_put_can_be_packed)
{
    struct buf out = {0};
    struct effect read;
    uint64_t size;
    const struct effect effect = {.kind = EFFECT_DELETE, .key = slice_text("key")};
    effect_encode(&effect, &out);
    out.data[5] = EFFECT_FLAG_LZ4;
    put_u32(out.data, (uint32_t)hash64(out.data + 4, EFFECT_HEADER_SIZE + 3 - 4));
    EXPECT_EQ(effect_decode(buf_slice(&out), &read, &size), ERR_CORRUPT);
    buf_close(&out);
}
