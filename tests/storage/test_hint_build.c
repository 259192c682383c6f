/* Tests of storage/hint_build.c: a segment is what the manifest says, or it has no hint. */
#include "tests/storage/store_model.h"
#include "storage/store_ship.h"

#include "storage/hint_build.h"
#include "storage/manifest.h"
#include "storage/segment.h"

static struct model model; /* too big for the stack */
static struct manifest manifest;

/* A store with sealed segments; it is closed again. */
static void begin(void)
{
    model_init(&model, 5);
    model_bootstrap(&model);
    for (uint32_t i = 0; i < 300; i++) {
        model_append(&model);
        if (i % 9 == 0) model_settle(&model);
    }
    model_settle(&model);
    model_idle(&model);
    struct buf bytes = {0};
    const char *wrong = NULL;
    store_ship_manifest(model.store, &bytes);
    EXPECT_EQ(manifest_decode(buf_slice(&bytes), &manifest, &wrong), OK);
    buf_close(&bytes);
    store_close(model.store);
}

static void end(void)
{
    manifest_close(&manifest);
    model_close(&model);
}

/* Builds the hint of segment 1 as @file describes it. OK: @out receives its bytes. */
static enum err build(const struct log_file *file, uint64_t cluster_id, uint16_t shard,
                      struct buf *out)
{
    struct disk *disk = &model.disk.disk;
    struct hint_source source = {
        .disk = disk, .cluster_id = cluster_id, .shard = shard, .file = file};
    EXPECT_EQ(disk->open(disk->context, "shard-0000/00000001.log", false, &source.handle), OK);
    struct hint hint;
    const char *wrong = NULL;
    uint64_t offset = 0;
    const enum err err = hint_build(&hint, &source, &wrong, &offset);
    disk->close(disk->context, source.handle);
    if (err != OK) {
        EXPECT_TRUE(wrong != NULL);
        EXPECT_LE(offset, file->used);
        return err;
    }
    out->size = 0;
    buf_append(out, hint.bytes.data, hint.bytes.size);
    hint_close(&hint);
    return OK;
}

TEST(hint_build, gives_the_hint_that_grew_while_applying)
{
    begin();
    struct buf out = {0};
    EXPECT_EQ(build(&manifest.files[0], model.config.cluster_id, 0, &out), OK);
    EXPECT_TRUE(
        slice_equal(buf_slice(&out), sim_disk_file(&model.disk, "shard-0000/00000001.idx")));
    buf_close(&out);
    end();
}

TEST(hint_build, a_segment_that_is_not_the_described_one_is_refused)
{
    begin();
    struct buf out = {0};
    const uint64_t cluster_id = model.config.cluster_id;
    EXPECT_EQ(build(&manifest.files[0], cluster_id + 1, 0, &out), ERR_FOREIGN);
    EXPECT_EQ(build(&manifest.files[0], cluster_id, 1, &out), ERR_FOREIGN);
    struct log_file file = manifest.files[0];
    file.file_id++;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    file = manifest.files[0];
    file.last_index++;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    file = manifest.files[0];
    file.first_index++;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    file = manifest.files[0];
    file.used -= SEGMENT_BLOCK_SIZE;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    file = manifest.files[0];
    file.used += 16 * SEGMENT_BLOCK_SIZE;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    file = manifest.files[0];
    file.seed.low++;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    file = manifest.files[0];
    file.chain.high++;
    EXPECT_EQ(build(&file, cluster_id, 0, &out), ERR_CORRUPT);
    EXPECT_EQ(build(&manifest.files[0], cluster_id, 0, &out), OK);
    buf_close(&out);
    end();
}

TEST(hint_build, void_entries_at_the_end_are_left_out)
{
    begin();
    struct buf all = {0};
    struct buf less = {0};
    const uint64_t cluster_id = model.config.cluster_id;
    EXPECT_EQ(build(&manifest.files[0], cluster_id, 0, &all), OK);
    struct log_file file = manifest.files[0];
    for (uint32_t i = 0; i < 20; i++) {
        file.last_index--;
        EXPECT_EQ(build(&file, cluster_id, 0, &less), OK);
        EXPECT_LE(less.size, all.size);
    }
    EXPECT_LT(less.size, all.size);
    file.last_index = file.first_index - 1; /* every one of them was cut */
    EXPECT_EQ(build(&file, cluster_id, 0, &less), OK);
    EXPECT_EQ(less.size, HINT_HEADER_SIZE);
    buf_close(&all);
    buf_close(&less);
    end();
}

TEST(hint_build, a_flipped_bit_is_found_or_changes_nothing)
{
    begin();
    struct buf wanted = {0};
    struct buf out = {0};
    const uint64_t cluster_id = model.config.cluster_id;
    EXPECT_EQ(build(&manifest.files[0], cluster_id, 0, &wanted), OK);
    struct prng prng = prng_seed(1);
    uint32_t found = 0;
    for (uint32_t i = 0; i < 500; i++) {
        const uint64_t bit = prng_below(&prng, 8 * manifest.files[0].used);
        sim_disk_flip(&model.disk, "shard-0000/00000001.log", bit);
        const enum err err = build(&manifest.files[0], cluster_id, 0, &out);
        sim_disk_flip(&model.disk, "shard-0000/00000001.log", bit);
        if (err == OK) EXPECT_TRUE(slice_equal(buf_slice(&out), buf_slice(&wanted)));
        found += err != OK;
    }
    EXPECT_LT(250, found); /* the rest is padding */
    buf_close(&wanted);
    buf_close(&out);
    end();
}
