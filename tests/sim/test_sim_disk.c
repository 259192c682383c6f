/* The virtual disk must lose exactly what a real one may lose, or all tests that rest on it are void. */
#include "tests/sim/sim_disk.h"

#include "storage/base/mem.h"
#include "tests/test.h"

static struct sim_disk sim;
static const struct disk *disk;

static void begin(uint64_t seed)
{
    sim_disk_init(&sim, seed);
    disk = &sim.disk;
    EXPECT_EQ(disk->make_folder(disk->context, "d"), OK);
}

static void end(void)
{
    sim_disk_crash(&sim);
    sim_disk_close(&sim);
}

static disk_file create(const char *name, uint64_t size, const char *text)
{
    disk_file file = -1;
    EXPECT_EQ(disk->create(disk->context, name, size, slice_text(text), &file), OK);
    return file;
}

TEST(sim_disk, synced_bytes_survive_every_crash)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        begin(seed);
        const disk_file file = create("d/a", 8192, "head");
        EXPECT_EQ(disk->write_sync(disk->context, file, 4096, slice_text("tail")), OK);
        EXPECT_EQ(disk->replace(disk->context, "d/b", slice_text("whole")), OK);
        sim_disk_crash(&sim);
        const struct slice a = sim_disk_file(&sim, "d/a");
        EXPECT_EQ(a.size, 8192);
        EXPECT_BYTES(a.data, "head", 5);
        EXPECT_BYTES(a.data + 4096, "tail", 5);
        EXPECT_TRUE(slice_equal(sim_disk_file(&sim, "d/b"), slice_text("whole")));
        end();
    }
}

TEST(sim_disk, a_write_under_way_is_torn_by_sectors_only)
{
    uint32_t none = 0;
    uint32_t all = 0;
    uint32_t some = 0;
    uint8_t bytes[8 * SIM_DISK_SECTOR_SIZE];
    memset(bytes, 'x', sizeof bytes);
    for (uint64_t seed = 0; seed < 200; seed++) {
        begin(seed);
        const disk_file file = create("d/a", 65536, "");
        struct disk_op op = {.kind = DISK_WRITE, .file = file, .offset = 4096, .sync = true};
        op.data = slice_of(bytes, sizeof bytes);
        disk->submit(disk->context, &op);
        sim_disk_crash(&sim);
        uint32_t kept = 0;
        const struct slice a = sim_disk_file(&sim, "d/a");
        for (uint32_t i = 0; i < 8; i++) {
            const uint8_t *sector = a.data + 4096 + i * SIM_DISK_SECTOR_SIZE;
            for (uint32_t k = 1; k < SIM_DISK_SECTOR_SIZE; k++) EXPECT_EQ(sector[k], sector[0]);
            kept += sector[0] == 'x';
        }
        none += kept == 0;
        all += kept == 8;
        some += kept > 0 && kept < 8;
        end();
    }
    EXPECT_TRUE(none > 10);
    EXPECT_TRUE(all > 10);
    EXPECT_TRUE(some > 10);
}

TEST(sim_disk, unsynced_writes_can_be_lost_by_power_but_not_by_a_kill)
{
    uint32_t lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        begin(seed);
        const disk_file file = create("d/a", 4096, "old");
        struct disk_op op = {.kind = DISK_WRITE, .file = file, .data = slice_text("new")};
        disk->submit(disk->context, &op);
        disk->wait(disk->context, &op);
        EXPECT_EQ(op.result, OK);
        sim_disk_stop(&sim, seed % 2 == 0);
        sim_disk_crash(&sim);
        const bool is_new = memcmp(sim_disk_file(&sim, "d/a").data, "new", 4) == 0;
        if (seed % 2 == 1) EXPECT_TRUE(is_new);
        lost += !is_new;
        end();
    }
    EXPECT_TRUE(lost > 10 && lost < 40);
}

static uint32_t done_order[4];
static uint32_t done_count;
static void note(struct disk_op *op)
{
    done_order[done_count++] = (uint32_t)op->offset;
}

TEST(sim_disk, lanes_complete_in_order_and_at_their_time)
{
    begin(1);
    done_count = 0;
    sim.latency_min = 5;
    sim.latency_max = 5;
    const disk_file file = create("d/a", 4096, "");
    struct disk_op ops[4];
    for (uint32_t i = 0; i < 4; i++) {
        ops[i] = (struct disk_op){.kind = DISK_WRITE, .file = file, .offset = i, .done = note};
        ops[i].data = slice_of("z", 1);
        ops[i].lane = i == 3 ? DISK_LANE_BACKGROUND : DISK_LANE_LOG;
        disk->submit(disk->context, &ops[i]);
    }
    EXPECT_EQ(sim_disk_deadline(&sim), 5);
    EXPECT_FALSE(sim_disk_turn(&sim, 4));
    EXPECT_TRUE(sim_disk_turn(&sim, 5));
    EXPECT_EQ(done_count, 2);
    EXPECT_EQ(done_order[0], 0);
    EXPECT_EQ(done_order[1], 3);
    EXPECT_EQ(sim_disk_file(&sim, "d/a").data[1], 0); /* Not before it completes. */
    disk->wait(disk->context, &ops[2]);
    EXPECT_EQ(done_count, 4);
    EXPECT_EQ(done_order[2], 1);
    EXPECT_EQ(done_order[3], 2);
    disk->wait(disk->context, &ops[2]); /* Of a completed one: returns. */
    EXPECT_EQ(sim_disk_deadline(&sim), UINT64_MAX);
    end();
}

TEST(sim_disk, create_and_replace_are_all_or_nothing)
{
    uint32_t made = 0;
    uint32_t left = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        begin(seed);
        EXPECT_EQ(disk->replace(disk->context, "d/b", slice_text("old")), OK);
        struct disk_op one = {.kind = DISK_CREATE, .name = "d/a", .size = 4096};
        struct disk_op two = {.kind = DISK_REPLACE, .name = "d/b", .lane = DISK_LANE_BACKGROUND};
        one.data = slice_text("data");
        two.data = slice_text("new");
        disk->submit(disk->context, &one);
        disk->submit(disk->context, &two);
        sim_disk_crash(&sim);
        const struct slice a = sim_disk_file(&sim, "d/a");
        const struct slice b = sim_disk_file(&sim, "d/b");
        EXPECT_TRUE(a.size == 0 || (a.size == 4096 && memcmp(a.data, "data", 5) == 0));
        EXPECT_TRUE(slice_equal(b, slice_text("old")) || slice_equal(b, slice_text("new")));
        made += a.size > 0;
        left += sim_disk_exists(&sim, "d/a.tmp");
        end();
    }
    EXPECT_TRUE(made > 10 && made < 90);
    EXPECT_TRUE(left > 5);
}

TEST(sim_disk, a_removal_is_sure_only_after_the_next_create_or_replace)
{
    uint32_t back = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        begin(seed);
        EXPECT_EQ(disk->replace(disk->context, "d/b", slice_text("old")), OK);
        EXPECT_EQ(disk->remove(disk->context, "d/b"), OK);
        EXPECT_EQ(disk->remove(disk->context, "d/b"), ERR_NOT_FOUND);
        if (seed % 2 == 0) EXPECT_EQ(disk->replace(disk->context, "d/c", slice_text("c")), OK);
        sim_disk_crash(&sim);
        const bool is_back = sim_disk_exists(&sim, "d/b");
        if (seed % 2 == 0) EXPECT_FALSE(is_back);
        back += is_back;
        end();
    }
    EXPECT_TRUE(back > 10);
}

TEST(sim_disk, full_disk_refuses_new_files_and_not_writes_within)
{
    begin(1);
    sim.capacity = 3 * 4096;
    const disk_file file = create("d/a", 8192, "x");
    disk_file other = -1;
    EXPECT_EQ(disk->create(disk->context, "d/b", 8192, slice_text(""), &other), ERR_NOSPACE);
    EXPECT_EQ(disk->create(disk->context, "d/a", 1, slice_text(""), &other), ERR_EXISTS);
    EXPECT_EQ(disk->create(disk->context, "e/a", 1, slice_text(""), &other), ERR_NOT_FOUND);
    EXPECT_EQ(disk->write_sync(disk->context, file, 8000, slice_text("within")), OK);
    uint64_t space = 0;
    EXPECT_EQ(disk->space(disk->context, &space), OK);
    EXPECT_EQ(space, 4096);
    EXPECT_EQ(disk->replace(disk->context, "d/c", slice_text("c")), OK);
    EXPECT_EQ(disk->replace(disk->context, "d/e", slice_text("e")), ERR_NOSPACE);
    EXPECT_EQ(sim.full_count, 2);
    end();
}

TEST(sim_disk, submitted_reads_see_what_completed_before_and_no_crash_counts_them)
{
    begin(1);
    const disk_file file = create("d/a", 4096, "old");
    char bytes[4] = "";
    struct disk_op write = {.kind = DISK_WRITE, .file = file, .data = slice_text("new")};
    struct disk_op read = {.kind = DISK_READ, .file = file, .size = 4, .into = bytes};
    disk->submit(disk->context, &write);
    disk->submit(disk->context, &read);
    EXPECT_TRUE(sim_disk_step(&sim));
    EXPECT_BYTES(bytes, "\0\0\0", 4); /* Not before it completes. */
    EXPECT_TRUE(sim_disk_step(&sim));
    EXPECT_EQ(read.result, OK);
    EXPECT_BYTES(bytes, "new", 4);
    const uint64_t changes = sim.change_count;
    const uint64_t offsets[] = {4095, 0};
    const enum err expected[] = {ERR_CORRUPT, ERR_IO};
    for (uint32_t i = 0; i < 2; i++) {
        read.offset = offsets[i];
        if (i == 1) memcpy(sim.read_error, "d/a", 4);
        disk->submit(disk->context, &read);
        sim_disk_settle(&sim);
        EXPECT_EQ(read.result, expected[i]);
    }
    EXPECT_EQ(sim.change_count, changes);
    disk->submit(disk->context, &read);
    end(); /* With the read under way. */
}

TEST(sim_disk, a_submitted_removal_is_undone_by_some_crashes)
{
    uint32_t back = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        begin(seed);
        EXPECT_EQ(disk->replace(disk->context, "d/b", slice_text("old")), OK);
        struct disk_op one = {.kind = DISK_REMOVE, .lane = DISK_LANE_BULK, .name = "d/b"};
        struct disk_op two = one;
        two.lane = DISK_LANE_BACKGROUND;
        disk->submit(disk->context, &one);
        disk->submit(disk->context, &two);
        if (seed % 2 == 0) {
            sim_disk_settle(&sim);
            EXPECT_EQ(one.result == OK ? two.result : one.result, ERR_NOT_FOUND);
            EXPECT_FALSE(sim_disk_exists(&sim, "d/b"));
        }
        sim_disk_crash(&sim);
        back += sim_disk_exists(&sim, "d/b");
        end();
    }
    EXPECT_TRUE(back > 10 && back < 90);
}

TEST(sim_disk, a_trim_under_way_is_done_or_not_and_lasts_when_complete)
{
    uint32_t done = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        begin(seed);
        sim.capacity = 4 * 4096;
        const disk_file file = create("d/a", 3 * 4096, "data");
        struct disk_op trim = {.kind = DISK_TRIM, .file = file, .size = 600};
        disk->submit(disk->context, &trim);
        if (seed % 2 == 0) {
            sim_disk_settle(&sim);
            EXPECT_EQ(trim.result, OK);
            uint64_t space = 0;
            EXPECT_EQ(disk->space(disk->context, &space), OK);
            EXPECT_EQ(space, 3 * 4096);
            trim.size = 700; /* Longer than the file: it stays. */
            disk->submit(disk->context, &trim);
            sim_disk_settle(&sim);
        }
        sim_disk_crash(&sim);
        const struct slice a = sim_disk_file(&sim, "d/a");
        EXPECT_TRUE(a.size == 600 || (seed % 2 == 1 && a.size == 3 * 4096));
        EXPECT_BYTES(a.data, "data", 5);
        done += a.size == 600;
        end();
    }
    EXPECT_TRUE(done > 60 && done < 95);
}

TEST(sim_disk, stop_after_keeps_what_was_before_and_nothing_after)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        for (uint64_t n = 1; n <= 4; n++) {
            begin(seed);
            const disk_file file = create("d/a", 4096, "");
            sim_disk_stop_after(&sim, n);
            for (uint64_t i = 0; i < 3; i++) {
                const uint8_t byte = (uint8_t)('a' + i);
                EXPECT_EQ(disk->write_sync(disk->context, file, i * 512, slice_of(&byte, 1)), OK);
                EXPECT_EQ(sim_disk_stopped(&sim), i + 1 >= n);
            }
            sim_disk_crash(&sim);
            const uint8_t *data = sim_disk_file(&sim, "d/a").data;
            for (uint64_t i = 0; i < 3; i++) {
                if (i + 1 < n) EXPECT_EQ(data[i * 512], 'a' + i);
                if (i + 1 > n) EXPECT_EQ(data[i * 512], 0);
            }
            end();
        }
    }
}

TEST(sim_disk, names_are_listed_by_folder_in_order)
{
    begin(1);
    create("d/b", 1, "");
    create("d/a", 1, "");
    create("c", 1, "");
    EXPECT_EQ(disk->rename(disk->context, "d/b", "d/0"), OK);
    struct buf names = {0};
    EXPECT_EQ(disk->list(disk->context, "d", &names), OK);
    EXPECT_EQ(names.size, 4);
    EXPECT_BYTES(names.data, "0\0a", 4);
    EXPECT_EQ(disk->list(disk->context, "e", &names), ERR_NOT_FOUND);
    names.size = 0;
    sim_disk_names(&sim, &names);
    EXPECT_BYTES(names.data, "c\0d/0\0d/a", 10);
    buf_close(&names);
    end();
}

TEST(sim_disk, saved_images_come_back_and_open_files_outlive_their_name)
{
    begin(1);
    const disk_file file = create("d/a", 100, "first");
    struct sim_image image;
    sim_disk_save(&sim, &image);
    EXPECT_EQ(disk->replace(disk->context, "d/a", slice_text("second")), OK);
    uint8_t bytes[6];
    EXPECT_EQ(disk->read(disk->context, file, 0, bytes, 6), OK);
    EXPECT_BYTES(bytes, "first", 6);
    EXPECT_EQ(disk->read(disk->context, file, 96, bytes, 6), ERR_CORRUPT);
    disk->close(disk->context, file);
    EXPECT_TRUE(slice_equal(sim_disk_file(&sim, "d/a"), slice_text("second")));
    sim_disk_restore(&sim, &image);
    EXPECT_BYTES(sim_disk_file(&sim, "d/a").data, "first", 6);
    sim_disk_flip(&sim, "d/a", 1);
    EXPECT_EQ(sim_disk_file(&sim, "d/a").data[0], 'f' ^ 2);
    sim_disk_truncate(&sim, "d/a", 3);
    EXPECT_EQ(sim_disk_file(&sim, "d/a").size, 3);
    sim_image_close(&image);
    end();
}
