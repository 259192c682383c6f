/* Tests of storage/manifest.c: a manifest is read exactly as written or refused. */
#include "tests/test.h"

#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/manifest.h"

static struct manifest sample(void)
{
    struct manifest manifest = {
        .cluster_id = 0x1122334455667788,
        .shard = 3,
        .number = 12,
        .base_index = 40,
        .base_term = 6,
        .stamp_ms = 1700000000123,
        .change_index = 31,
        .has_state_hash = true,
        .state_hash = 0x5151515152525252,
    };
    buf_text(&manifest.change, "a configuration");
    const struct log_file files[] = {
        {12, 0xa1, 1, 19, 8192, {1, 2}, {3, 4}, true},
        {5, 0xa2, 21, 20, 4096, {3, 4}, {5, 6}, false}, /* all its entries were cut */
        {9, 0xa3, 21, 40, 65536, {7, 8}, {9, 10}, false},
    };
    for (size_t i = 0; i < 3; i++) manifest_add(&manifest, &files[i]);
    return manifest;
}

static enum err decode(struct slice bytes)
{
    struct manifest manifest = {0};
    const char *wrong = NULL;
    const enum err err = manifest_decode(bytes, &manifest, &wrong);
    if (err != OK) EXPECT_TRUE(wrong != NULL);
    if (err != OK) EXPECT_TRUE(manifest.files == NULL);
    manifest_close(&manifest);
    return err;
}

TEST(manifest, what_was_encoded_is_decoded)
{
    struct manifest manifest = sample();
    struct buf out = {0};
    manifest_encode(&manifest, &out);
    EXPECT_EQ(out.size, MANIFEST_HEADER_SIZE + 3 * MANIFEST_FILE_SIZE + 16 + 8);
    struct manifest read = {0};
    const char *wrong = NULL;
    EXPECT_EQ(manifest_decode(buf_slice(&out), &read, &wrong), OK);
    EXPECT_EQ(read.cluster_id, manifest.cluster_id);
    EXPECT_EQ(read.shard, 3);
    EXPECT_EQ(read.number, 12);
    EXPECT_EQ(read.base_index, 40);
    EXPECT_EQ(read.base_term, 6);
    EXPECT_EQ(read.stamp_ms, 1700000000123);
    EXPECT_EQ(read.change_index, 31);
    EXPECT_TRUE(slice_equal(buf_slice(&read.change), slice_text("a configuration")));
    EXPECT_EQ(read.file_count, 3);
    EXPECT_TRUE(read.has_state_hash);
    EXPECT_EQ(read.state_hash, 0x5151515152525252);
    EXPECT_TRUE(read.files[0].is_table);
    EXPECT_FALSE(read.files[2].is_table);
    EXPECT_EQ(read.files[2].number, 9);
    EXPECT_EQ(read.files[2].first_index, 21);
    EXPECT_EQ(read.files[2].last_index, 40);
    EXPECT_EQ(read.files[1].last_index, 20);
    EXPECT_TRUE(hash128_equal(read.files[2].seed, manifest.files[2].seed));
    EXPECT_TRUE(hash128_equal(read.files[2].chain, manifest.files[2].chain));
    EXPECT_EQ(manifest_files_size(&read), 8192 + 4096 + 65536);
    EXPECT_TRUE(manifest_find(&read, 0xa2) == &read.files[1]);
    EXPECT_TRUE(manifest_find(&read, 0xa4) == NULL);

    struct manifest copy = {0};
    manifest_copy(&copy, &read);
    manifest_close(&read);
    struct buf again = {0};
    manifest_encode(&copy, &again);
    EXPECT_TRUE(slice_equal(buf_slice(&out), buf_slice(&again)));
    buf_close(&again);
    buf_close(&out);
    manifest_close(&copy);
    manifest_close(&manifest);
}

TEST(manifest, every_truncation_flipped_bit_and_extra_byte_is_refused)
{
    struct manifest manifest = sample();
    struct buf out = {0};
    manifest_encode(&manifest, &out);
    for (uint64_t size = 0; size < out.size; size++) {
        uint8_t *copy = mem_copy(out.data, size); /* its own allocation, so that overruns show */
        EXPECT_EQ(decode(slice_of(copy, size)), ERR_CORRUPT);
        mem_free(copy);
    }
    for (uint64_t bit = 0; bit < out.size * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(decode(buf_slice(&out)), ERR_CORRUPT);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_u8(&out, 0);
    EXPECT_EQ(decode(buf_slice(&out)), ERR_CORRUPT);
    buf_close(&out);
    manifest_close(&manifest);
}

/* Changes a field and makes the checksum right again: a writer that is newer, or wrong. */
static enum err decode_changed(uint64_t offset, uint64_t value, uint64_t size)
{
    struct manifest manifest = sample();
    struct buf out = {0};
    manifest_encode(&manifest, &out);
    memcpy(out.data + offset, &value, size);
    put_u64(out.data + out.size - 8, hash64(out.data, out.size - 8));
    const enum err err = decode(buf_slice(&out));
    buf_close(&out);
    manifest_close(&manifest);
    return err;
}

TEST(manifest, newer_formats_and_contradictions_are_refused)
{
    const uint64_t file = MANIFEST_HEADER_SIZE;
    EXPECT_EQ(decode_changed(16, 1, 8), OK);
    EXPECT_EQ(decode_changed(8, 3, 4), ERR_NEWER);
    EXPECT_EQ(decode_changed(8, 0, 4), ERR_NEWER);
    EXPECT_EQ(decode_changed(0, 1, 8), ERR_CORRUPT);
    EXPECT_EQ(decode_changed(12, 8, 4), ERR_CORRUPT);          /* size */
    EXPECT_EQ(decode_changed(28, 2, 4), ERR_CORRUPT);          /* files */
    EXPECT_EQ(decode_changed(28, UINT32_MAX, 4), ERR_CORRUPT); /* far too many files */
    EXPECT_EQ(decode_changed(40, 41, 8), ERR_CORRUPT);         /* base beyond the files */
    EXPECT_EQ(decode_changed(40, 39, 8), ERR_CORRUPT);         /* base inside a file */
    EXPECT_EQ(decode_changed(40, UINT64_MAX, 8), ERR_CORRUPT); /* base that overflows */
    EXPECT_EQ(decode_changed(48, 0, 8), ERR_CORRUPT);          /* no term */
    EXPECT_EQ(decode_changed(64, 0, 8), ERR_CORRUPT);          /* no configuration */
    EXPECT_EQ(decode_changed(64, 41, 8), ERR_CORRUPT);         /* a later configuration */
    EXPECT_EQ(decode_changed(72, 17, 4), ERR_CORRUPT);         /* a longer configuration */
    EXPECT_EQ(decode_changed(file, 5, 4), ERR_CORRUPT);        /* a number twice */
    EXPECT_EQ(decode_changed(file, 0, 4), ERR_CORRUPT);        /* no number */
    EXPECT_EQ(decode_changed(file + 4, 3, 4), ERR_CORRUPT);    /* neither segment nor table */
    EXPECT_EQ(decode_changed(file + 16, 0, 8), ERR_CORRUPT);   /* there is no entry 0 */
    EXPECT_EQ(decode_changed(file + 16, 3, 8), OK);            /* nothing of 1 and 2 is left */
    EXPECT_EQ(decode_changed(file + 24, 22, 8), ERR_CORRUPT);  /* two files of one entry */
    EXPECT_EQ(decode_changed(file + 24, 0, 8), ERR_CORRUPT);   /* a table of nothing */
    EXPECT_EQ(decode_changed(file + 16, 20, 8), ERR_CORRUPT);  /* the same */
    EXPECT_EQ(decode_changed(file + 72, 10, 4), ERR_CORRUPT);  /* segments out of order */
    EXPECT_EQ(decode_changed(file + 2 * 72 + 4, 2, 4), ERR_CORRUPT);  /* a table at the end */
    EXPECT_EQ(decode_changed(file + 32, 0, 8), ERR_CORRUPT);          /* not even a header */
    EXPECT_EQ(decode_changed(file + 32, 8193, 8), ERR_CORRUPT);       /* inside a block */
    EXPECT_EQ(decode_changed(file + 32, 1ull << 32, 8), ERR_CORRUPT); /* beyond a place */
}

TEST(manifest, version_1_is_still_read)
{
    struct manifest manifest = sample();
    struct buf now = {0};
    struct buf before = {0};
    manifest.files[0] = (struct log_file){4, 0xa1, 1, 20, 8192, {1, 2}, {3, 4}, false};
    manifest_encode(&manifest, &now);
    /* What the version before wrote: no state hash, and zeros where the kinds are. */
    buf_append(&before, now.data, 80);
    buf_append(&before, now.data + MANIFEST_HEADER_SIZE, now.size - MANIFEST_HEADER_SIZE);
    put_u32(before.data + 8, 1);
    put_u32(before.data + 12, (uint32_t)before.size);
    for (uint32_t i = 0; i < 3; i++) put_u32(before.data + 80 + i * MANIFEST_FILE_SIZE + 4, 0);
    put_u64(before.data + before.size - 8, hash64(before.data, before.size - 8));
    struct manifest read = {0};
    const char *wrong = NULL;
    EXPECT_EQ(manifest_decode(buf_slice(&before), &read, &wrong), OK);
    EXPECT_FALSE(read.has_state_hash);
    EXPECT_EQ(read.file_count, 3);
    EXPECT_EQ(read.base_index, 40);
    EXPECT_EQ(read.files[2].last_index, 40);
    manifest_close(&read);
    /* A kind in a file of version 1 is damage. */
    put_u32(before.data + 84, 2);
    put_u64(before.data + before.size - 8, hash64(before.data, before.size - 8));
    EXPECT_EQ(decode(buf_slice(&before)), ERR_CORRUPT);
    buf_close(&before);
    buf_close(&now);
    manifest_close(&manifest);
}

TEST(manifest, files_are_replaced_where_they_stood)
{
    struct manifest manifest = sample();
    const struct log_file table = {13, 0xa9, 1, 20, 8192, {1, 2}, {3, 4}, true};
    manifest_replace(&manifest, 0, 2, &table);
    EXPECT_EQ(manifest.file_count, 2);
    EXPECT_EQ(manifest.files[0].number, 13);
    EXPECT_EQ(manifest.files[1].number, 9);
    manifest_replace(&manifest, 0, 1, NULL);
    EXPECT_EQ(manifest.file_count, 1);
    EXPECT_EQ(manifest_last(&manifest)->number, 9);
    manifest_close(&manifest);
}
