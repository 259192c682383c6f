#include "storage/quarantine.h"

#include "tests/sim/sim_disk.h"
#include "tests/test.h"

#define FOLDER "shard-0000"

static struct quarantine example(void)
{
    struct quarantine quarantine = {
        .stage = QUARANTINE_EMPTYING, .incarnation = 9, .since_ms = 123456, .aside = 3};
    damage_fault_set(&quarantine.fault, DAMAGE_LOG, FOLDER "/00000007.log", 8192, "it is rotten");
    return quarantine;
}

static void put(struct sim_disk *disk, const char *name)
{
    sim_disk_put(disk, name, slice_text(name));
}

TEST(quarantine, what_is_saved_is_loaded)
{
    struct sim_disk disk;
    char message[512] = "";
    struct quarantine read;
    sim_disk_init(&disk, 1);
    EXPECT_EQ(disk.disk.make_folder(disk.disk.context, FOLDER), OK);
    EXPECT_EQ(quarantine_load(&read, &disk.disk, FOLDER, 5, 6, 9, message), OK);
    EXPECT_EQ(read.stage, QUARANTINE_NONE);
    const struct quarantine written = example();
    EXPECT_EQ(quarantine_save(&written, &disk.disk, FOLDER, 5, 6), OK);
    EXPECT_EQ(quarantine_load(&read, &disk.disk, FOLDER, 5, 6, 10, message), OK);
    EXPECT_EQ(read.stage, QUARANTINE_EMPTYING);
    EXPECT_EQ(read.incarnation, 9);
    EXPECT_EQ(read.since_ms, 123456);
    EXPECT_EQ(read.aside, 3);
    EXPECT_EQ(read.fault.offset, 8192);
    EXPECT_TEXT(read.fault.file, FOLDER "/00000007.log");
    EXPECT_TEXT(read.fault.what, "it is rotten");
    EXPECT_EQ(quarantine_load(&read, &disk.disk, FOLDER, 5, 7, 10, message), ERR_FOREIGN);
    EXPECT_NE(message[0], 0);
    EXPECT_EQ(quarantine_lift(&read, &disk.disk, FOLDER), OK);
    EXPECT_FALSE(sim_disk_exists(&disk, FOLDER "/QUARANTINE"));
    sim_disk_close(&disk);
}

/* F07: the file that says that a loss was noticed may itself be lost; the loss may not be forgotten. */
TEST(quarantine, f07_any_damage_of_the_file_is_a_quarantine)
{
    struct sim_disk disk;
    char message[512] = "";
    struct buf bytes = {0};
    const struct quarantine written = example();
    sim_disk_init(&disk, 1);
    EXPECT_EQ(disk.disk.make_folder(disk.disk.context, FOLDER), OK);
    quarantine_encode(&written, 5, 6, &bytes);
    for (uint64_t bit = 0; bit < bytes.size * 8; bit++) {
        struct quarantine read = {0};
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(quarantine_decode(buf_slice(&bytes), 5, 6, &read), ERR_CORRUPT);
        if (bit % 97 == 0) {
            sim_disk_put(&disk, FOLDER "/QUARANTINE", buf_slice(&bytes));
            EXPECT_EQ(quarantine_load(&read, &disk.disk, FOLDER, 5, 6, 12, message), OK);
            EXPECT_EQ(read.stage, QUARANTINE_RECOVERING);
            EXPECT_EQ(read.incarnation, 12);
        }
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint64_t size = 0; size < bytes.size; size++) {
        struct quarantine read = {0};
        EXPECT_EQ(quarantine_decode(slice_of(bytes.data, size), 5, 6, &read), ERR_CORRUPT);
    }
    buf_close(&bytes);
    sim_disk_close(&disk);
}

TEST(quarantine, setting_aside_leaves_only_the_vote_and_goes_on_after_a_crash)
{
    for (uint64_t change = 1;; change++) {
        struct sim_disk disk;
        struct quarantine quarantine = example();
        sim_disk_init(&disk, change);
        EXPECT_EQ(disk.disk.make_folder(disk.disk.context, FOLDER), OK);
        put(&disk, FOLDER "/00000001.log");
        put(&disk, FOLDER "/00000001.idx");
        put(&disk, FOLDER "/MANIFEST");
        put(&disk, FOLDER "/vote");
        EXPECT_EQ(disk.disk.make_folder(disk.disk.context, FOLDER "/aside-1"), OK);
        put(&disk, FOLDER "/aside-1/old");
        EXPECT_EQ(quarantine_choose(&quarantine, &disk.disk, FOLDER), OK);
        EXPECT_EQ(quarantine.aside, 2);
        EXPECT_EQ(quarantine_save(&quarantine, &disk.disk, FOLDER, 5, 6), OK);
        sim_disk_stop_after(&disk, change);
        (void)quarantine_empty(&quarantine, &disk.disk, FOLDER);
        const bool was_stopped = sim_disk_stopped(&disk);
        sim_disk_crash(&disk);

        EXPECT_EQ(quarantine_empty(&quarantine, &disk.disk, FOLDER), OK);
        EXPECT_TRUE(sim_disk_exists(&disk, FOLDER "/vote"));
        EXPECT_TRUE(sim_disk_exists(&disk, FOLDER "/QUARANTINE"));
        EXPECT_FALSE(sim_disk_exists(&disk, FOLDER "/MANIFEST"));
        EXPECT_FALSE(sim_disk_exists(&disk, FOLDER "/00000001.log"));
        EXPECT_TRUE(sim_disk_exists(&disk, FOLDER "/aside-2/MANIFEST"));
        EXPECT_TRUE(sim_disk_exists(&disk, FOLDER "/aside-2/00000001.log"));
        EXPECT_TRUE(sim_disk_exists(&disk, FOLDER "/aside-2/00000001.idx"));

        EXPECT_FALSE(quarantine_discard(&quarantine, &disk.disk, FOLDER, 2));
        EXPECT_TRUE(quarantine_discard(&quarantine, &disk.disk, FOLDER, 2));
        EXPECT_FALSE(sim_disk_exists(&disk, FOLDER "/aside-2/MANIFEST"));
        EXPECT_TRUE(sim_disk_exists(&disk, FOLDER "/aside-1/old"));
        sim_disk_close(&disk);
        if (!was_stopped) break;
        EXPECT_LT(change, 50);
    }
}
