#include "raft/wire.h"

#include "storage/base/limits.h"
#include "tests/test.h"

static const struct wire_frame example = {
    .type = WIRE_APPEND,
    .flags = WIRE_FLAG_NOSPACE,
    .shard = 7,
    .cluster_id = 0x1122334455667788u,
    .from = 1,
    .to = 2,
    .incarnation = 9,
    .body = {(const uint8_t *)"hello, peer", 11},
};

TEST(wire, frame_survives_the_way)
{
    struct buf out = {0};
    struct wire_frame frame = {0};
    uint64_t size = 0;
    buf_text(&out, "before");
    const uint64_t start = out.size;
    wire_encode(&out, &example);
    buf_text(&out, "behind");
    EXPECT_EQ(wire_decode(slice_of(out.data + start, out.size - start), &frame, &size), OK);
    EXPECT_EQ(size, WIRE_HEADER_SIZE + 11);
    EXPECT_EQ(frame.type, WIRE_APPEND);
    EXPECT_EQ(frame.flags, WIRE_FLAG_NOSPACE);
    EXPECT_EQ(frame.shard, 7);
    EXPECT_EQ(frame.cluster_id, example.cluster_id);
    EXPECT_EQ(frame.from, 1);
    EXPECT_EQ(frame.to, 2);
    EXPECT_EQ(frame.incarnation, 9);
    EXPECT_TRUE(slice_equal(frame.body, example.body));
    buf_close(&out);
}

TEST(wire, every_beginning_of_a_frame_asks_for_more)
{
    struct buf out = {0};
    struct wire_frame frame = {0};
    uint64_t size = 0;
    wire_encode(&out, &example);
    for (uint64_t part = 0; part < out.size; part++) {
        uint8_t *copy = test_malloc(part + 1);
        memcpy(copy, out.data, part);
        EXPECT_EQ(wire_decode(slice_of(copy, part), &frame, &size), ERR_MORE);
        test_free(copy);
    }
    buf_close(&out);
}

TEST(wire, every_flipped_bit_is_noticed)
{
    struct buf out = {0};
    struct wire_frame frame = {0};
    uint64_t size = 0;
    wire_encode(&out, &example);
    for (uint64_t bit = 0; bit < 8 * out.size; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const enum err err = wire_decode(buf_slice(&out), &frame, &size);
        /* A bigger size is only noticed when the bytes are there. */
        EXPECT_TRUE(err == ERR_CORRUPT || err == ERR_NEWER || (err == ERR_MORE && bit / 32 == 2));
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT_EQ(wire_decode(buf_slice(&out), &frame, &size), OK);
    buf_close(&out);
}

TEST(wire, another_version_and_an_endless_body_are_told_apart)
{
    struct buf out = {0};
    struct wire_frame frame = {0};
    uint64_t size = 0;
    wire_encode(&out, &example);
    put_u16(out.data + 4, WIRE_VERSION + 1);
    EXPECT_EQ(wire_decode(slice_of(out.data, 6), &frame, &size), ERR_NEWER);
    put_u16(out.data + 4, WIRE_VERSION);
    put_u32(out.data + 8, PEER_FRAME_SIZE_MAX);
    EXPECT_EQ(wire_decode(buf_slice(&out), &frame, &size), ERR_CORRUPT);
    put_u32(out.data + 8, UINT32_MAX);
    EXPECT_EQ(wire_decode(buf_slice(&out), &frame, &size), ERR_CORRUPT);
    EXPECT_EQ(wire_decode(slice_text("GET / HTTP"), &frame, &size), ERR_CORRUPT);
    buf_close(&out);
}
