/* F11: what a log does with the space that it keeps for a full disk. */
#include "tests/storage/log_fixture.h"

static struct fixture f;
#define RESERVE (FIXTURE_FOLDER "/" RESERVE_NAME)
#define SEGMENT (64 * KIB)
#define WHOLE (2 * SEGMENT + RESERVE_REST)

static void begin(uint64_t seed)
{
    fixture_init(&f, seed);
    f.config.reserve_size = WHOLE;
    fixture_open(&f);
}

/* Time for everything that the log wants to do with files. */
static void settle(void)
{
    for (int i = 0; i < 6; i++) {
        fixture_turn(&f, RESERVE_RETRY_MS);
        while (fixture_step(&f)) continue;
    }
}

static void fill_disk(void)
{
    f.disk.capacity = sim_disk_used(&f.disk);
}

/* Appends and writes one entry; false: there is no room for it. */
static bool write_one(void)
{
    fixture_append(&f, 1, 3000);
    for (int i = 0; i < 8; i++) {
        fixture_turn(&f, 1);
        fixture_flush(&f);
        while (fixture_step(&f)) continue;
        if (f.log.images_count == 0 && !f.log.write_pending) return true;
    }
    return false;
}

TEST(reserve, is_made_behind_the_spare_and_found_again)
{
    begin(1);
    EXPECT_FALSE(log_nospace(&f.log));
    settle();
    EXPECT_EQ(sim_disk_file(&f.disk, RESERVE).size, WHOLE);
    EXPECT_FALSE(log_nospace(&f.log));
    EXPECT_EQ(log_deadline(&f.log), UINT64_MAX);
    fixture_close(&f);
    const uint64_t changes = f.disk.change_count;
    fixture_open(&f);
    EXPECT_EQ(f.log.reserve.held, WHOLE);
    settle();
    EXPECT_EQ(f.disk.change_count, changes);
    fixture_close(&f);
    f.config.reserve_size = 9 * SEGMENT; /* Another option: the old file is of no use. */
    fixture_open(&f);
    EXPECT_FALSE(sim_disk_exists(&f.disk, RESERVE));
    settle();
    EXPECT_EQ(sim_disk_file(&f.disk, RESERVE).size, 9 * SEGMENT);
    fixture_close(&f);
    f.config.reserve_size = 0;
    fixture_open(&f);
    settle();
    EXPECT_FALSE(sim_disk_exists(&f.disk, RESERVE));
    fixture_end(&f);
}

TEST(reserve, without_it_the_disk_counts_as_full_although_there_is_a_spare)
{
    begin(2);
    f.disk.capacity = sim_disk_used(&f.disk) + SEGMENT + WHOLE - 1;
    settle();
    EXPECT_TRUE(f.log.spare != NULL && f.log.spare->handle >= 0);
    EXPECT_FALSE(f.log.nospace);
    EXPECT_TRUE(log_nospace(&f.log));
    EXPECT_EQ(log_room(&f.log), SEGMENT - SEGMENT_BLOCK_SIZE);
    f.disk.capacity = UINT64_MAX;
    settle();
    EXPECT_FALSE(log_nospace(&f.log));
    fixture_end(&f);
}

TEST(reserve, f11_a_log_on_a_full_disk_goes_on_for_as_long_as_it_said)
{
    begin(3);
    EXPECT_TRUE(write_one());
    settle();
    fill_disk();
    const uint64_t room = log_room(&f.log);
    EXPECT_TRUE(room > 3 * (SEGMENT - SEGMENT_BLOCK_SIZE));
    uint64_t written = 0;
    while (write_one()) {
        written++;
        /* It never says less than there is. Ends of segments stay unused. */
        EXPECT_TRUE(log_room(&f.log) + written * SEGMENT_BLOCK_SIZE <= room);
        if (f.log.segments_count > 2) EXPECT_TRUE(log_nospace(&f.log));
    }
    EXPECT_TRUE(written * SEGMENT_BLOCK_SIZE >= room - 9 * SEGMENT_BLOCK_SIZE);
    EXPECT_EQ(sim_disk_file(&f.disk, RESERVE).size, RESERVE_REST);
    EXPECT_FALSE(log_starved(&f.log));
    EXPECT_EQ(log_flush_wait(&f.log), ERR_NOSPACE);
    f.disk.capacity = UINT64_MAX;
    settle();
    fixture_sync(&f);
    settle();
    EXPECT_FALSE(log_nospace(&f.log));
    EXPECT_EQ(f.log.persisted_index, written + 2);
    EXPECT_EQ(f.log.reserve.held, WHOLE);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(reserve, f11_a_mark_is_no_reason_to_give_it_up)
{
    begin(4);
    settle();
    fill_disk();
    /* A group that leaves no room for a mark. */
    while (f.log.active == NULL || f.log.active->size > f.log.active->file.used ||
           f.log.active->file.number == 1) {
        if (!write_one() || f.log.nospace) break;
    }
    settle();
    EXPECT_TRUE(f.log.nospace);
    EXPECT_EQ(f.log.reserve.held, WHOLE);
    fixture_end(&f);
}

TEST(reserve, f11_a_start_on_a_full_disk_writes_the_end_of_the_log_again_with_it)
{
    begin(5);
    EXPECT_TRUE(write_one());
    settle();
    fixture_append(&f, 1, 100);
    fixture_sync(&f); /* Not followed by a mark: the next start moves this group to a new file. */
    fixture_append(&f, 1, 100);
    fixture_sync(&f);
    sim_disk_stop(&f.disk, false);
    fixture_close(&f);
    sim_disk_crash(&f.disk);
    fill_disk();
    fixture_open(&f);
    EXPECT_EQ(f.log.last_index, 3);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(reserve, f11_a_small_file_can_be_saved_with_a_piece_of_it)
{
    begin(6);
    struct disk *disk = &f.disk.disk;
    EXPECT_FALSE(reserve_spend(&f.log.reserve));
    settle();
    fill_disk();
    const struct slice small = slice_text("small");
    EXPECT_EQ(disk->replace(disk->context, "identity", small), ERR_NOSPACE);
    EXPECT_TRUE(reserve_spend(&f.log.reserve));
    EXPECT_EQ(disk->replace(disk->context, "identity", small), OK);
    EXPECT_EQ(f.log.reserve.held, WHOLE - RESERVE_PIECE);
    fixture_close(&f);
    fixture_open(&f); /* What is left is enough. */
    EXPECT_FALSE(log_nospace(&f.log));
    EXPECT_EQ(f.log.reserve.held, WHOLE - RESERVE_PIECE);
    fixture_end(&f);
}

TEST(reserve, f11_its_rest_lets_a_node_start_when_the_log_has_used_it_up)
{
    begin(7);
    struct disk *disk = &f.disk.disk;
    settle();
    fill_disk();
    while (log_room(&f.log) > SEGMENT + SEGMENT / 4) EXPECT_TRUE(write_one());
    EXPECT_FALSE(reserve_whole(&f.log.reserve));
    fixture_kill(&f); /* The newest group has no mark: it moves to the spare. */
    fixture_open(&f);
    for (uint32_t i = 1; i < RESERVE_REST / RESERVE_PIECE; i++) {
        fill_disk(); /* Somebody else takes what became free. */
        EXPECT_EQ(disk->replace(disk->context, "identity", slice_text("start")), ERR_NOSPACE);
        EXPECT_TRUE(reserve_spend(&f.log.reserve));
        EXPECT_EQ(disk->replace(disk->context, "identity", slice_text("start")), OK);
        sim_disk_drop(&f.disk, "identity");
        fixture_close(&f);
        fixture_open(&f);
        settle();
        EXPECT_TRUE(log_nospace(&f.log));
    }
    EXPECT_FALSE(reserve_spend(&f.log.reserve));
    f.disk.capacity = UINT64_MAX;
    settle();
    EXPECT_EQ(sim_disk_file(&f.disk, RESERVE).size, WHOLE);
    EXPECT_FALSE(log_nospace(&f.log));
    fixture_end(&f);
}

TEST(reserve, one_that_somebody_removed_is_made_again)
{
    begin(8);
    settle();
    fill_disk();
    sim_disk_drop(&f.disk, RESERVE);
    while (write_one()) continue;
    EXPECT_TRUE(log_nospace(&f.log));
    f.disk.capacity = UINT64_MAX;
    settle();
    EXPECT_EQ(sim_disk_file(&f.disk, RESERVE).size, WHOLE);
    fixture_end(&f);
}

TEST(reserve, a_power_cut_at_any_change_leaves_a_log_that_starts)
{
    uint64_t n = 1;
    for (bool stopped = true; stopped; n++) {
        begin(100 + n);
        sim_disk_stop_after(&f.disk, n);
        settle();
        fill_disk();
        while (!sim_disk_stopped(&f.disk) && write_one()) continue;
        f.disk.capacity = UINT64_MAX;
        settle();
        stopped = sim_disk_stopped(&f.disk);
        fixture_close(&f);
        sim_disk_crash(&f.disk);
        fixture_open(&f);
        settle();
        EXPECT_EQ(sim_disk_file(&f.disk, RESERVE).size, WHOLE);
        fixture_end(&f);
    }
    EXPECT_TRUE(n > 50);
}
