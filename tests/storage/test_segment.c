#include "storage/segment.h"

#include "storage/base/prng.h"
#include "tests/sim/sim_disk.h"
#include "tests/test.h"

static const struct segment_header header = {.number = 12,
                                             .cluster_id = 1,
                                             .node_id = 2,
                                             .file_id = 0x1234567890u,
                                             .size = 65536,
                                             .shard = 4};

TEST(segment, names_and_numbers)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, "shard-0000", 7);
    EXPECT_TEXT(name, "shard-0000/00000007.log");
    segment_name(name, "s", 4294967295u);
    EXPECT_TEXT(name, "s/4294967295.log");
    EXPECT_EQ(segment_number("00000007.log"), 7);
    EXPECT_EQ(segment_number("4294967295.log"), 4294967295u);
    EXPECT_EQ(segment_number("4294967296.log"), 0);
    EXPECT_EQ(segment_number("99999999999.log"), 0);
    EXPECT_EQ(segment_number("0000007.log"), 0);
    EXPECT_EQ(segment_number("000000007.log"), 0);
    EXPECT_EQ(segment_number("00000007.log.tmp"), 0);
    EXPECT_EQ(segment_number("00000007.idx"), 0);
    EXPECT_EQ(segment_number("vote"), 0);
    EXPECT_EQ(segment_number(""), 0);
}

TEST(segment, header_round_trip_and_every_flip_of_it)
{
    uint8_t block[SEGMENT_BLOCK_SIZE];
    segment_header_encode(&header, block);
    struct segment_header got;
    EXPECT_EQ(segment_header_decode(slice_of(block, sizeof block), &got), OK);
    EXPECT_EQ(got.number, 12);
    EXPECT_EQ(got.cluster_id, 1);
    EXPECT_EQ(got.node_id, 2);
    EXPECT_EQ(got.file_id, header.file_id);
    EXPECT_EQ(got.size, 65536);
    EXPECT_EQ(got.shard, 4);
    EXPECT_EQ(segment_header_decode(slice_of(block, 4095), &got), ERR_CORRUPT);
    for (uint32_t bit = 0; bit < 64 * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(segment_header_decode(slice_of(block, sizeof block), &got), ERR_CORRUPT);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    put_u32(block + 8, SEGMENT_VERSION + 1);
    put_u64(block + 56, hash64(block, 56));
    EXPECT_EQ(segment_header_decode(slice_of(block, sizeof block), &got), ERR_NEWER);
}

/* A group with @count records from @index on, at @offset. */
static struct hash128 make_group(struct buf *image, uint64_t index, uint32_t count, uint32_t offset,
                                 uint64_t link)
{
    (void)buf_extend(image, GROUP_HEADER_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        const struct record record = {.index = index + i,
                                      .term = 1,
                                      .type = RECORD_COMMAND,
                                      .shard = 4,
                                      .payload = slice_text("some payload of odd size")};
        record_encode(&record, image);
    }
    struct segment_group group = {
        .count = count, .offset = offset, .first_index = index, .last_index = index + count - 1};
    group.link = link;
    return segment_group_seal(image, &group, header.file_id);
}

TEST(segment, group_round_trip_and_every_flip_of_it)
{
    struct buf image = {0};
    const struct hash128 chain = make_group(&image, 5, 3, 8192, 99);
    EXPECT_EQ(image.size, 4096);
    struct segment_group group;
    EXPECT_EQ(segment_group_decode(buf_slice(&image), header.file_id, 65536, 8192, &group), OK);
    EXPECT_EQ(group.count, 3);
    EXPECT_EQ(group.first_index, 5);
    EXPECT_EQ(group.last_index, 7);
    EXPECT_EQ(group.link, 99);
    struct hash128 got;
    EXPECT_EQ(segment_group_verify(buf_slice(&image), &group, &got), OK);
    EXPECT_TRUE(hash128_equal(got, chain));
    for (uint64_t bit = 0; bit < UINT64_C(8) * group.used; bit++) {
        image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct segment_group bad;
        enum err err = segment_group_decode(buf_slice(&image), header.file_id, 65536, 8192, &bad);
        if (bit < GROUP_HEADER_SIZE * 8) EXPECT_EQ(err, ERR_CORRUPT);
        if (err == OK) err = segment_group_verify(buf_slice(&image), &bad, &got);
        EXPECT_EQ(err, ERR_CORRUPT);
        image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_close(&image);
}

TEST(segment, group_of_another_file_or_place_does_not_count)
{
    struct buf image = {0};
    (void)make_group(&image, 5, 3, 8192, 99);
    struct segment_group group;
    const struct slice bytes = buf_slice(&image);
    EXPECT_EQ(segment_group_decode(bytes, header.file_id + 1, 65536, 8192, &group), ERR_CORRUPT);
    EXPECT_EQ(segment_group_decode(bytes, header.file_id, 65536, 4096, &group), ERR_CORRUPT);
    EXPECT_EQ(segment_group_decode(bytes, header.file_id, 8192, 8192, &group), ERR_CORRUPT);
    EXPECT_EQ(segment_group_decode(slice_of(image.data, 63), header.file_id, 65536, 8192, &group),
              ERR_CORRUPT);
    buf_close(&image);
}

TEST(segment, scan_reads_all_records_and_stops_at_damage)
{
    struct sim_disk sim;
    sim_disk_init(&sim, 1);
    struct buf file = {0};
    segment_header_encode(&header, buf_extend(&file, SEGMENT_BLOCK_SIZE));
    const struct hash128 seed = {.low = 5, .high = 6};
    struct hash128 chain = seed;
    uint64_t index = 1;
    for (uint32_t i = 0; i < 4; i++) {
        struct buf image = {0};
        const uint32_t count = i == 2 ? 0 : i * 100 + 1; /* the third is a mark */
        chain = make_group(&image, index, count, (uint32_t)file.size, chain.low);
        index += count;
        buf_append(&file, image.data, image.size);
        buf_close(&image);
    }
    sim_disk_put(&sim, "a", buf_slice(&file));
    for (uint32_t damage = 0; damage < 3; damage++) {
        disk_file handle = -1;
        if (damage == 1) sim_disk_flip(&sim, "a", (file.size - 3000) * 8);
        EXPECT_EQ(sim.disk.open(sim.disk.context, "a", false, &handle), OK);
        struct segment_scan scan;
        const struct hash128 wrong = {.low = 9};
        segment_scan_open(&scan, &sim.disk, handle, header.file_id, file.size, file.size,
                          damage == 2 ? wrong : seed);
        uint64_t seen = 0;
        struct record record;
        struct slice bytes;
        uint32_t offset = 0;
        enum err err;
        while ((err = segment_scan_next(&scan, &record, &bytes, &offset)) == OK) {
            EXPECT_EQ(record.index, ++seen);
            EXPECT_BYTES(bytes.data, file.data + offset, bytes.size);
        }
        EXPECT_EQ(err, damage == 0 ? ERR_NOT_FOUND : ERR_CORRUPT);
        if (damage == 0) EXPECT_EQ(seen, index - 1);
        if (damage == 0) EXPECT_TRUE(hash128_equal(scan.chain, chain));
        if (damage == 1) EXPECT_EQ(seen, 102);
        if (damage == 2) EXPECT_EQ(seen, 0);
        segment_scan_close(&scan);
        sim.disk.close(sim.disk.context, handle);
    }
    buf_close(&file);
    sim_disk_crash(&sim);
    sim_disk_close(&sim);
}
