/* Tests of storage/table.c: what was put into a table is read from it, by everything that reads segments. */
#include "tests/test.h"

#include <stdio.h>

#include "storage/base/limits.h"
#include "storage/hint_build.h"
#include "storage/table.h"
#include "tests/sim/sim_disk.h"

#define FOLDER "shard-0000"

static struct sim_disk disk;

static const struct log_file described = {
    .number = 12, .file_id = 0xabcdef, .first_index = 100, .last_index = 199};

static void effect_make(uint32_t i, struct buf *bytes)
{
    char key[32];
    static uint8_t value[2 * MIB];
    (void)snprintf(key, sizeof key, "key %u", i);
    memset(value, (int)i, sizeof value);
    struct effect effect = {
        .kind = i % 10 == 3 ? EFFECT_DELETE : EFFECT_PUT,
        .key = slice_text(key),
        .expiry_ms = i % 4 == 0 && i % 10 != 3 ? 5000 + i : 0,
        .previous_revision = i,
    };
    /* One is larger than a whole group. */
    if (effect.kind == EFFECT_PUT)
        effect.value = slice_of(value, i == 50 ? sizeof value : i * 397 % 30000);
    effect_encode(&effect, bytes);
}

/* Writes a table of 100 effects; returns what a manifest would say of it, and its hint. */
static struct log_file write_table(struct buf *hint)
{
    struct table table;
    struct buf file = {0};
    struct buf bytes = {0};
    struct effect effect;
    uint64_t size = 0;
    uint64_t offset = 0;
    table_init(&table, 0xc1, 0x101, 3, &described);
    table_header(&table, 12345, buf_extend(&file, SEGMENT_BLOCK_SIZE));
    for (uint32_t i = 0; i < 100; i++) {
        bytes.size = 0;
        effect_make(i, &bytes);
        EXPECT_EQ(effect_decode(buf_slice(&bytes), &effect, &size), OK);
        if (!table_has_room(&table, size)) {
            const struct slice group = table_seal(&table, &offset);
            EXPECT_EQ(offset, file.size);
            buf_append(&file, group.data, group.size);
            table_next(&table);
        }
        table_add(&table, revision_of(100 + i, i), &effect, buf_slice(&bytes));
    }
    const struct slice group = table_seal(&table, &offset);
    buf_append(&file, group.data, group.size);
    EXPECT_EQ(table.file.used, file.size);
    char name[SEGMENT_NAME_SIZE];
    table_file_name(name, FOLDER, &table.file);
    EXPECT_TEXT(name, FOLDER "/00000012.tab");
    sim_disk_put(&disk, name, buf_slice(&file));
    const struct log_file written = table.file;
    const struct hint_segment segment = hint_build_segment(0xc1, &written);
    const struct slice finished = hint_finish(&table.hint, &segment);
    buf_append(hint, finished.data, finished.size);
    table_close(&table);
    buf_close(&file);
    buf_close(&bytes);
    return written;
}

static enum err build(const struct log_file *file, struct hint *hint, const char **wrong)
{
    uint64_t offset = 0;
    struct hint_source source = {.disk = &disk.disk, .cluster_id = 0xc1, .shard = 3, .file = file};
    EXPECT_EQ(disk.disk.open(disk.disk.context, FOLDER "/00000012.tab", false, &source.handle), OK);
    const enum err err = hint_build(hint, &source, wrong, &offset);
    disk.disk.close(disk.disk.context, source.handle);
    return err;
}

TEST(table, is_read_as_it_was_written)
{
    struct buf grown = {0};
    struct hint hint = {0};
    const char *wrong = "";
    sim_disk_init(&disk, 1);
    EXPECT_EQ(disk.disk.make_folder(disk.disk.context, FOLDER), OK);
    const struct log_file file = write_table(&grown);
    EXPECT_TRUE(file.is_table);
    EXPECT_LT(4 * TABLE_GROUP_SIZE / 2, file.used);
    const enum err err = build(&file, &hint, &wrong);
    if (err != OK) print_error("%s\n", wrong);
    EXPECT_EQ(err, OK);
    /* The hint that is made from the file is the one that grew with it. */
    EXPECT_TRUE(slice_equal(buf_slice(&hint.bytes), buf_slice(&grown)));

    struct hint_reader reader;
    struct hint_entry entry;
    struct buf bytes = {0};
    const struct slice content = sim_disk_file(&disk, FOLDER "/00000012.tab");
    hint_reader_memory(&reader, &hint);
    for (uint32_t i = 0; i < 100; i++) {
        EXPECT_EQ(hint_reader_next(&reader, &entry), OK);
        EXPECT_EQ(entry.revision, revision_of(100 + i, i));
        EXPECT_EQ(entry.offset % 8, 0);
        bytes.size = 0;
        effect_make(i, &bytes);
        EXPECT_BYTES(content.data + entry.offset, bytes.data, bytes.size);
    }
    EXPECT_EQ(hint_reader_next(&reader, &entry), ERR_NOT_FOUND);
    hint_reader_close(&reader);
    hint_close(&hint);
    buf_close(&bytes);
    buf_close(&grown);
    sim_disk_close(&disk);
}

TEST(table, what_contradicts_the_manifest_is_refused)
{
    struct buf grown = {0};
    struct hint hint;
    const char *wrong = "";
    sim_disk_init(&disk, 1);
    EXPECT_EQ(disk.disk.make_folder(disk.disk.context, FOLDER), OK);
    const struct log_file file = write_table(&grown);
    struct log_file other = file;
    other.is_table = false;
    EXPECT_EQ(build(&other, &hint, &wrong), ERR_CORRUPT);
    other = file;
    other.file_id++;
    EXPECT_EQ(build(&other, &hint, &wrong), ERR_CORRUPT);
    other = file;
    other.first_index++; /* An item of entry 100 does not belong there. */
    EXPECT_EQ(build(&other, &hint, &wrong), ERR_CORRUPT);
    other = file;
    other.last_index--;
    EXPECT_EQ(build(&other, &hint, &wrong), ERR_CORRUPT);
    other = file;
    other.chain.low++;
    EXPECT_EQ(build(&other, &hint, &wrong), ERR_CORRUPT);
    other = file;
    other.seed.low++;
    EXPECT_EQ(build(&other, &hint, &wrong), ERR_CORRUPT);
    /* Every bit of the used bytes counts, but for the zeros behind groups. */
    for (uint64_t bit = 8 * SEGMENT_BLOCK_SIZE; bit < 8 * file.used; bit += 1000003) {
        sim_disk_flip(&disk, FOLDER "/00000012.tab", bit);
        const enum err err = build(&file, &hint, &wrong);
        if (err == OK) hint_close(&hint);
        if (err == OK) EXPECT_EQ(bit / 8 % SEGMENT_BLOCK_SIZE > 64, 1);
        sim_disk_flip(&disk, FOLDER "/00000012.tab", bit);
    }
    buf_close(&grown);
    sim_disk_close(&disk);
}

TEST(table, names_and_numbers)
{
    char name[SEGMENT_NAME_SIZE];
    table_name(name, "s", 7);
    EXPECT_TEXT(name, "s/00000007.tab");
    EXPECT_EQ(table_number("00000007.tab"), 7);
    EXPECT_EQ(table_number("4294967295.tab"), UINT32_MAX);
    EXPECT_EQ(table_number("00000007.log"), 0);
    EXPECT_EQ(table_number("7.tab"), 0);
    EXPECT_EQ(table_number(".tab"), 0);
    EXPECT_EQ(table_number("00000007.tab.tmp"), 0);
}

TEST(table, malformed_payloads_are_refused)
{
    struct buf payload = {0};
    struct buf bytes = {0};
    struct table_walk walk;
    struct table_item item;
    effect_make(1, &bytes);
    buf_u32(&payload, 1);
    buf_u32(&payload, 0);
    buf_u64(&payload, revision_of(5, 1));
    buf_append(&payload, bytes.data, bytes.size);
    table_walk_open(&walk, buf_slice(&payload));
    EXPECT_EQ(table_walk_next(&walk, &item), OK);
    EXPECT_EQ(item.revision, revision_of(5, 1));
    EXPECT_EQ(item.offset, 16);
    EXPECT_EQ(table_walk_next(&walk, &item), ERR_NOT_FOUND);
    for (uint64_t size = 0; size < payload.size; size++) {
        table_walk_open(&walk, slice_of(payload.data, size));
        EXPECT_EQ(table_walk_next(&walk, &item), ERR_CORRUPT);
    }
    put_u32(payload.data, 2); /* more than there is */
    table_walk_open(&walk, buf_slice(&payload));
    EXPECT_EQ(table_walk_next(&walk, &item), OK);
    EXPECT_EQ(table_walk_next(&walk, &item), ERR_CORRUPT);
    put_u32(payload.data, 0); /* less than there is */
    table_walk_open(&walk, buf_slice(&payload));
    EXPECT_EQ(table_walk_next(&walk, &item), ERR_CORRUPT);
    put_u32(payload.data, 1);
    put_u32(payload.data + 4, 1);
    table_walk_open(&walk, buf_slice(&payload));
    EXPECT_EQ(table_walk_next(&walk, &item), ERR_CORRUPT);
    buf_close(&payload);
    buf_close(&bytes);
}
