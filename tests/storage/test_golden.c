/* U8: directories that the programs of the past wrote, one set for each version of the formats. Every program must open
 * them, find what was in them, and go on. tests/storage/golden/golden_make.c made them. */
#include <dirent.h>
#include <stdio.h>

#include "storage/effect.h"
#include "tests/storage/crash_world.h"
#include "tests/storage/golden_pack.h"
#include "tests/test.h"

static struct world world; /* too big for the stack */

static void load(const char *path)
{
    struct buf pack = {0};
    world_init(&world, 77);
    EXPECT_EQ(world.disk.disk.make_folder(world.config.disk->context, WORLD_FOLDER), OK);
    EXPECT_TRUE(golden_read(path, &pack));
    EXPECT_TRUE(golden_unpack(buf_slice(&pack), &world.disk));
    buf_close(&pack);
}

static void expect_text(const char *path, const struct buf *text)
{
    struct buf want = {0};
    EXPECT_TRUE(golden_read(path, &want));
    EXPECT_TRUE(want.size > 200);
    if (!slice_equal(buf_slice(&want), buf_slice(text))) {
        fail_msg("%s: the start found\n%.*s\nand it ought to be\n%.*s", path, (int)text->size,
                 (const char *)text->data, (int)want.size, (const char *)want.data);
    }
    buf_close(&want);
}

/* The store goes on: one more entry, a restart. */
static void write_on(void)
{
    const uint64_t index = store_last_index(world.store) + 1;
    struct buf payload = {0};
    struct buf bytes = {0};
    buf_u64(&payload, 1);
    const struct effect effect = {
        .kind = EFFECT_PUT, .key = slice_text("key-00"), .value = slice_text("written on")};
    effect_encode(&effect, &payload);
    const struct record record = {
        .index = index,
        .term = store_term(world.store),
        .stamp_ms = store_last_stamp(world.store),
        .type = RECORD_COMMAND,
        .payload = buf_slice(&payload),
    };
    record_encode(&record, &bytes);
    store_append(world.store, buf_slice(&bytes));
    EXPECT_EQ(store_flush_wait(world.store), OK);
    EXPECT_EQ(store_apply(world.store, index), OK);
    buf_close(&payload);
    buf_close(&bytes);
    world_close(&world);
    EXPECT_EQ(world_open(&world), OK);
    EXPECT_EQ(store_last_index(world.store), index);
    EXPECT_EQ(store_apply(world.store, index), OK);
    struct slice value;
    const struct keydir_entry *entry = keydir_find(store_keys(world.store), slice_text("key-00"));
    EXPECT_TRUE(entry != NULL);
    EXPECT_EQ(store_value(world.store, entry, &value), OK);
    EXPECT_TRUE(slice_equal(value, slice_text("written on")));
}

static void expect_opens(const char *folder, const char *name)
{
    char path[700];
    struct buf text = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    load(path);
    const enum err err = world_open(&world);
    if (err != OK) fail_msg("%s: %s: %s", path, err_name(err), world.message);
    const bool is_torn = strstr(name, "torn") != NULL;
    EXPECT_EQ(strstr(world.message, "torn tail") != NULL, is_torn);
    EXPECT_EQ(store_apply(world.store, store_last_index(world.store)), OK);
    store_check(world.store);
    world_dump(&world, &text);
    (void)snprintf(path + strlen(path) - 5, 5, ".txt");
    expect_text(path, &text);
    buf_close(&text);
    write_on();
    world_end(&world);
}

static uint32_t expect_version(const char *folder)
{
    uint32_t count = 0;
    DIR *listing = opendir(folder);
    EXPECT_TRUE(listing != NULL);
    const struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) {
        const size_t size = strlen(entry->d_name);
        if (size < 6 || strcmp(entry->d_name + size - 5, ".pack") != 0) continue;
        expect_opens(folder, entry->d_name);
        count++;
    }
    closedir(listing);
    return count;
}

TEST(golden, u8_directories_of_version_1_open_with_what_was_in_them)
{
    EXPECT_EQ(expect_version(KV_GOLDEN_DIR "/v1"), 3);
}

TEST(golden, u8_directories_of_version_2_open_with_what_was_in_them)
{
    EXPECT_EQ(expect_version(KV_GOLDEN_DIR "/v2"), 3);
}

/* Their segments are named in the file `expected`. */
TEST(golden, u8_directories_of_version_3_open_with_what_was_in_them)
{
    EXPECT_EQ(expect_version(KV_GOLDEN_DIR "/v3"), 3);
}
