#include "storage/log.h"

#include <sys/wait.h>
#include <unistd.h>

#include "tests/storage/log_fixture.h"

static struct fixture f;
static uint32_t torn_count;

TEST(log, appended_entries_are_read_back_from_image_tail_and_disk)
{
    fixture_init(&f, 1);
    fixture_open(&f);
    EXPECT_EQ(f.log.last_index, 0);
    for (uint32_t i = 0; i < 300; i++) {
        fixture_append(&f, 1 + i / 100, i * 7 % 900);
        if (i % 3 == 0) fixture_flush(&f);
        if (i % 3 == 2) fixture_step(&f);
        if (i % 20 == 0) fixture_verify(&f);
    }
    fixture_verify(&f);
    fixture_sync(&f);
    fixture_verify(&f);
    EXPECT_EQ(f.log.persisted_index, 300);
    EXPECT_TRUE(f.log.segments_count > 2);
    EXPECT_EQ(log_term_at(&f.log, 100), 1);
    EXPECT_EQ(log_term_at(&f.log, 101), 2);
    EXPECT_EQ(log_term_at(&f.log, 301), 0);
    fixture_close(&f);
    fixture_open(&f);
    fixture_verify(&f);
    EXPECT_TEXT(fixture_message(&f), "");
    fixture_end(&f);
}

TEST(log, one_write_is_under_way_and_the_next_gathers)
{
    fixture_init(&f, 2);
    fixture_open(&f);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.persisted_index, 1);
    fixture_append(&f, 1, 10);
    fixture_flush(&f);
    EXPECT_TRUE(log_flushing(&f.log));
    fixture_append(&f, 1, 10);
    fixture_append(&f, 1, 10);
    log_flush(&f.log);
    EXPECT_EQ(f.log.persisted_index, 1);
    EXPECT_TRUE(log_pending_size(&f.log) > 0);
    while (log_flushing(&f.log)) EXPECT_TRUE(fixture_step(&f));
    EXPECT_EQ(f.log.persisted_index, 2);
    EXPECT_EQ(f.log.groups_written, 2);
    fixture_sync(&f);
    EXPECT_EQ(f.log.persisted_index, 4);
    EXPECT_EQ(f.log.groups_written, 3);
    EXPECT_EQ(f.log.bytes_written, 3 * 4096);
    fixture_end(&f);
}

TEST(log, cut_of_pending_entries_leaves_no_trace)
{
    fixture_init(&f, 3);
    fixture_open(&f);
    fixture_append(&f, 1, 100);
    fixture_sync(&f);
    for (int i = 0; i < 5; i++) fixture_append(&f, 1, 100);
    fixture_cut(&f, 3);
    EXPECT_EQ(f.log.cut_index, 0);
    fixture_append(&f, 2, 50);
    fixture_verify(&f);
    fixture_sync(&f);
    fixture_verify(&f);
    fixture_close(&f);
    fixture_open(&f);
    fixture_verify(&f);
    EXPECT_EQ(f.log.last_index, 3);
    fixture_end(&f);
}

TEST(log, cut_lowers_persisted_and_a_write_under_way_does_not_raise_it)
{
    fixture_init(&f, 4);
    fixture_open(&f);
    for (int i = 0; i < 5; i++) fixture_append(&f, 1, 100);
    fixture_sync(&f);
    for (int i = 0; i < 5; i++) fixture_append(&f, 1, 100);
    fixture_flush(&f);
    EXPECT_EQ(f.log.persisted_index, 5);
    fixture_cut(&f, 8); /* 8 .. 10 are on their way to the disk */
    fixture_append(&f, 2, 10);
    fixture_append(&f, 2, 10);
    fixture_append(&f, 2, 10);
    EXPECT_EQ(f.log.last_index, 10);
    fixture_step(&f);
    EXPECT_EQ(f.log.persisted_index, 7);
    fixture_verify(&f);
    fixture_cut(&f, 4); /* durable ones, too */
    EXPECT_EQ(f.log.persisted_index, 3);
    fixture_append(&f, 3, 10);
    fixture_flush(&f);
    EXPECT_EQ(f.log.persisted_index, 3);
    fixture_cut(&f, 2);
    EXPECT_EQ(f.log.persisted_index, 1);
    fixture_step(&f);
    EXPECT_EQ(f.log.persisted_index, 1);
    fixture_append(&f, 4, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.persisted_index, 2);
    fixture_verify(&f);
    fixture_crash(&f);
    fixture_reopen(&f);
    EXPECT_EQ(f.log.last_index, 2);
    EXPECT_EQ(log_term_at(&f.log, 2), 4);
    fixture_end(&f);
}

TEST(log, cut_reaches_back_over_segments)
{
    fixture_init(&f, 5);
    fixture_open(&f);
    for (int i = 0; i < 200; i++) {
        fixture_append(&f, 1, 2000);
        if (i % 4 == 3) fixture_sync(&f);
    }
    const uint32_t segments = f.log.segments_count;
    EXPECT_TRUE(segments > 5);
    fixture_cut(&f, 21);
    fixture_append(&f, 2, 30);
    fixture_verify(&f);
    fixture_sync(&f);
    fixture_verify(&f);
    for (uint32_t i = 1; i < segments; i++) {
        const struct log_file *file = &f.log.segments[i]->file;
        EXPECT_LE(file->last_index, 21);
        EXPECT_LE(file->first_index, file->last_index + 1);
    }
    fixture_crash(&f);
    fixture_reopen(&f);
    EXPECT_EQ(f.log.last_index, 21);
    fixture_close(&f);
    fixture_open(&f);
    fixture_verify(&f);
    fixture_end(&f);
}

/* Payload size with which one entry's group takes @blocks blocks exactly. */
static uint32_t payload_for(uint32_t blocks)
{
    return blocks * SEGMENT_BLOCK_SIZE - GROUP_HEADER_SIZE - GROUP_FOOTER_SIZE - RECORD_HEADER_SIZE;
}

TEST(log, a_group_fills_a_segment_exactly)
{
    fixture_init(&f, 6);
    f.config.segment_size = 8 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    fixture_append(&f, 1, payload_for(7));
    fixture_sync(&f);
    EXPECT_EQ(f.log.segments_count, 1);
    EXPECT_EQ(f.log.active->file.used, f.log.active->size);
    fixture_append(&f, 1, payload_for(3));
    fixture_sync(&f);
    fixture_append(&f, 1, payload_for(4));
    fixture_sync(&f);
    EXPECT_EQ(f.log.segments_count, 2);
    EXPECT_EQ(f.log.segments[0]->state, LOG_SEGMENT_FULL);
    EXPECT_EQ(f.log.segments[1]->file.used, f.log.segments[1]->size);
    fixture_crash(&f);
    fixture_reopen(&f);
    EXPECT_EQ(f.log.last_index, 3);
    fixture_close(&f); /* the mark goes to a segment of its own */
    fixture_open(&f);
    EXPECT_EQ(f.log.last_index, 3);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(log, more_than_a_group_may_hold_takes_several)
{
    fixture_init(&f, 7);
    f.config.segment_size = 8 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    for (int i = 0; i < 40; i++) fixture_append(&f, 1, 3000);
    EXPECT_TRUE(f.log.images_count >= 4);
    fixture_verify(&f);
    fixture_flush(&f);
    fixture_verify(&f);
    fixture_cut(&f, 25);
    fixture_verify(&f);
    fixture_sync(&f);
    EXPECT_EQ(f.log.persisted_index, 24);
    fixture_verify(&f);
    fixture_close(&f);
    fixture_open(&f);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(log, a_record_larger_than_a_segment_gets_a_larger_one)
{
    fixture_init(&f, 8);
    f.config.segment_size = 8 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    fixture_turn(&f, 1);
    fixture_step(&f); /* a spare of the usual size */
    fixture_append(&f, 1, 200000);
    fixture_sync(&f);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.persisted_index, 3);
    fixture_verify(&f);
    fixture_crash(&f);
    fixture_reopen(&f);
    fixture_end(&f);
}

TEST(log, mark_is_written_when_idle_and_once)
{
    fixture_init(&f, 9);
    fixture_open(&f);
    fixture_turn(&f, 1);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.groups_written, 1);
    EXPECT_EQ(log_deadline(&f.log), 0);
    fixture_turn(&f, 1);
    EXPECT_EQ(log_deadline(&f.log), f.now_ms + LOG_MARK_DELAY_MS);
    fixture_turn(&f, LOG_MARK_DELAY_MS - 1);
    EXPECT_FALSE(log_flushing(&f.log));
    fixture_turn(&f, 1);
    EXPECT_TRUE(log_flushing(&f.log));
    fixture_step(&f);
    EXPECT_EQ(f.log.groups_written, 2);
    EXPECT_EQ(log_deadline(&f.log), UINT64_MAX);
    fixture_turn(&f, 1000);
    EXPECT_FALSE(log_flushing(&f.log));
    EXPECT_EQ(f.log.persisted_index, 1);
    fixture_end(&f);
}

TEST(log, full_disk_is_no_space_until_there_is_some_and_loses_nothing)
{
    fixture_init(&f, 10);
    fixture_open(&f);
    fixture_append(&f, 1, 100);
    fixture_sync(&f);
    f.disk.capacity = sim_disk_used(&f.disk);
    fixture_turn(&f, 1);
    fixture_step(&f);
    EXPECT_TRUE(f.log.nospace);
    fixture_turn(&f, 1);
    EXPECT_EQ(log_deadline(&f.log) >= f.now_ms, 1);
    for (int i = 0; i < 60; i++) fixture_append(&f, 1, 2000);
    for (int i = 0; i < 20; i++) {
        fixture_flush(&f);
        fixture_step(&f);
        fixture_turn(&f, 1);
    }
    EXPECT_TRUE(f.log.nospace);
    EXPECT_LT(f.log.persisted_index, 61);
    EXPECT_EQ(log_flush_wait(&f.log), ERR_NOSPACE);
    fixture_verify(&f);
    const uint64_t full_before = f.disk.full_count;
    fixture_turn(&f, 1);
    fixture_turn(&f, LOG_NOSPACE_RETRY_MS);
    fixture_step(&f);
    EXPECT_EQ(f.disk.full_count, full_before + 1);
    EXPECT_TRUE(f.log.nospace);
    f.disk.capacity = UINT64_MAX;
    fixture_turn(&f, 1);
    fixture_turn(&f, LOG_NOSPACE_RETRY_MS);
    fixture_step(&f);
    EXPECT_FALSE(f.log.nospace);
    fixture_sync(&f);
    EXPECT_EQ(f.log.persisted_index, 61);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(log, a_foreign_file_under_the_next_name_is_left_alone)
{
    fixture_init(&f, 11);
    fixture_open(&f);
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, FIXTURE_FOLDER, f.log.number_next);
    sim_disk_put(&f.disk, name, slice_text("mine"));
    fixture_append(&f, 1, 100);
    fixture_flush(&f);
    EXPECT_EQ(log_flush_wait(&f.log), OK);
    EXPECT_EQ(f.log.persisted_index, 1);
    EXPECT_TRUE(slice_equal(sim_disk_file(&f.disk, name), slice_text("mine")));
    fixture_end(&f);
}

TEST(log, damage_on_the_disk_is_reported_by_reads)
{
    fixture_init(&f, 12);
    f.config.tail_size = 1;
    fixture_open(&f);
    for (int i = 0; i < 9; i++) {
        fixture_append(&f, 1, 600);
        fixture_sync(&f);
    }
    struct place place;
    struct slice bytes;
    EXPECT_EQ(log_entry(&f.log, 4, &place, &bytes), OK);
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, FIXTURE_FOLDER, place.file);
    sim_disk_flip(&f.disk, name, (place.offset + 300) * 8 + 2);
    EXPECT_EQ(log_entry(&f.log, 1, &place, &bytes), OK); /* reads ahead, the damage included */
    EXPECT_EQ(log_entry(&f.log, 4, &place, &bytes), ERR_CORRUPT);
    struct buf out = {0};
    uint32_t count = 0;
    EXPECT_EQ(log_read(&f.log, 3, 9, 100000, &out, &count), ERR_CORRUPT);
    EXPECT_EQ(count, 1);
    EXPECT_EQ(log_read(&f.log, 10, 10, 100, &out, &count), ERR_NOT_FOUND);
    EXPECT_EQ(log_read(&f.log, 0, 10, 100, &out, &count), ERR_NOT_FOUND);
    EXPECT_EQ(log_entry(&f.log, 10, &place, &bytes), ERR_NOT_FOUND);
    memcpy(f.disk.read_error, name, strlen(name) + 1);
    EXPECT_EQ(log_read(&f.log, 5, 9, 100000, &out, &count), ERR_IO);
    f.disk.read_error[0] = 0;
    buf_close(&out);
    fixture_end(&f);
}

TEST(log, sealed_prefix_is_dropped_and_the_term_before_it_known)
{
    fixture_init(&f, 13);
    fixture_open(&f);
    for (int i = 0; i < 200; i++) {
        fixture_append(&f, (uint32_t)(1 + i / 10), 2000);
        if (i % 4 == 3) fixture_sync(&f);
    }
    EXPECT_TRUE(f.log.segments_count > 4);
    log_seal(&f.log, f.log.segments[0]->file.number);
    log_seal(&f.log, f.log.segments[1]->file.number);
    const uint64_t first = f.log.segments[1]->file.last_index + 1;
    const uint64_t term = log_term_at(&f.log, first - 1);
    log_drop_prefix(&f.log, first);
    EXPECT_EQ(f.log.first_index, first);
    EXPECT_EQ(log_term_at(&f.log, first - 1), term);
    EXPECT_EQ(log_term_at(&f.log, first - 2), 0);
    struct place place;
    struct slice bytes;
    EXPECT_EQ(log_entry(&f.log, first - 1, &place, &bytes), ERR_NOT_FOUND);
    fixture_verify(&f);
    log_drop_prefix(&f.log, f.log.segments[1]->file.first_index); /* never back */
    EXPECT_EQ(f.log.first_index, first);
    fixture_end(&f);
}

TEST(log, roll_starts_a_new_segment_and_stop_writes_nothing_more)
{
    fixture_init(&f, 14);
    fixture_open(&f);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    log_roll(&f.log);
    EXPECT_EQ(f.log.segments[0]->state, LOG_SEGMENT_FULL);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.segments_count, 2);
    fixture_append(&f, 1, 10);
    log_stop(&f.log);
    const uint64_t changes = f.disk.change_count;
    fixture_turn(&f, 1000);
    fixture_turn(&f, 1000);
    log_flush(&f.log);
    fixture_step(&f);
    fixture_close(&f);
    EXPECT_EQ(f.disk.change_count, changes);
    fixture_open(&f);
    EXPECT_EQ(f.log.last_index, 2);
    fixture_end(&f);
}

TEST(log, a_roll_while_a_write_is_under_way_comes_before_the_next_group)
{
    fixture_init(&f, 15);
    fixture_open(&f);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    fixture_append(&f, 1, 10);
    fixture_flush(&f);
    EXPECT_TRUE(f.log.write_pending);
    log_roll(&f.log);
    EXPECT_EQ(f.log.segments[0]->state, LOG_SEGMENT_ACTIVE);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.segments[0]->state, LOG_SEGMENT_FULL);
    EXPECT_EQ(f.log.segments[0]->file.last_index, 2);
    EXPECT_EQ(f.log.segments_count, 2);
    /* Once: the segment after it is filled as usual. */
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    EXPECT_EQ(f.log.segments_count, 2);
    fixture_verify(&f);
    fixture_end(&f);
}

static enum disk_op_kind failing_kind;
static enum disk_lane failing_lane;

static void failing_submit(void *context, struct disk_op *op)
{
    if (op->kind != failing_kind || op->lane != failing_lane) {
        f.disk.disk.submit(context, op);
        return;
    }
    op->result = ERR_IO;
    op->done(op);
}

TEST(log, a_failed_write_ends_the_process_and_names_file_and_offset)
{
    /* A group, a segment, the names of the segments. */
    const enum disk_op_kind kinds[] = {DISK_WRITE, DISK_CREATE, DISK_WRITE};
    for (int i = 0; i < 3; i++) {
        int ends[2];
        EXPECT_EQ(pipe(ends), 0);
        const pid_t child = fork();
        EXPECT_TRUE(child >= 0);
        if (child == 0) {
            (void)dup2(ends[1], STDERR_FILENO);
            fixture_init(&f, 1);
            struct disk failing = f.disk.disk;
            failing.submit = failing_submit;
            failing_kind = kinds[i];
            failing_lane = i == 0 ? DISK_LANE_LOG : DISK_LANE_BACKGROUND;
            f.config.disk = &failing;
            fixture_open(&f);
            fixture_append(&f, 1, 10);
            (void)log_flush_wait(&f.log);
            _exit(0);
        }
        close(ends[1]);
        char said[500] = {0};
        EXPECT_TRUE(read(ends[0], said, sizeof said - 1) > 0);
        close(ends[0]);
        int status = 0;
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFEXITED(status));
        EXPECT_EQ(WEXITSTATUS(status), EXIT_DISK);
        const char *name = i == 2 ? FIXTURE_FOLDER "/expected" : FIXTURE_FOLDER "/00000001.log";
        EXPECT_TRUE(strstr(said, name) != NULL);
        if (i == 0) EXPECT_TRUE(strstr(said, "offset 4096") != NULL);
    }
}

/* Everything at random, with clean and unclean ends; the model follows. */
static void random_run(uint64_t seed, bool power)
{
    fixture_init(&f, seed);
    f.config.segment_size = (4 + seed % 5 * 3) * SEGMENT_BLOCK_SIZE;
    f.config.tail_size = seed % 3 * 8 * KIB + 1;
    struct prng prng = prng_seed(seed);
    uint32_t term = 1;
    fixture_open(&f);
    for (uint32_t step = 0; step < 400; step++) {
        const uint64_t choice = prng_below(&prng, 100);
        if (choice < 40) {
            const uint64_t size_max = prng_below(&prng, 10) == 0 ? 9000 : 700;
            fixture_append(&f, term, (uint32_t)prng_below(&prng, size_max));
        } else if (choice < 50 && f.now.last > 0) {
            const uint64_t back = prng_below(&prng, prng_below(&prng, 4) == 0 ? 60 : 5);
            fixture_cut(&f, back < f.now.last ? f.now.last - back : 1);
            term++;
        } else if (choice < 70) {
            fixture_flush(&f);
        } else if (choice < 88) {
            fixture_step(&f);
        } else if (choice < 95) {
            fixture_turn(&f, prng_below(&prng, 12));
        } else if (choice < 97) {
            fixture_verify(&f);
        } else if (choice < 98) {
            fixture_close(&f);
            fixture_open(&f);
            fixture_verify(&f);
            f.durable = f.now;
            f.under_way = f.now;
        } else {
            sim_disk_stop(&f.disk, power);
            fixture_crash(&f);
            fixture_reopen(&f);
            torn_count += strstr(fixture_message(&f), "torn tail") != NULL;
            term++;
        }
        log_check(&f.log);
    }
    fixture_end(&f);
}

TEST(log, random_operations_and_power_cuts)
{
    torn_count = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) random_run(seed, true);
    EXPECT_TRUE(torn_count > 50); /* else the runs show nothing */
}

TEST(log, random_operations_and_killed_processes)
{
    for (uint64_t seed = 1001; seed <= 1075; seed++) random_run(seed, false);
}

/* A large record whose memory is taken is written as one that is copied, wherever it lies in that memory. */
TEST(log, memory_of_a_large_record_is_taken)
{
    const uint64_t fronts[] = {0, GROUP_HEADER_SIZE, 100, 5000};
    struct buf record = {0};
    fixture_init(&f, 21);
    fixture_open(&f);
    fixture_append(&f, 1, 10);
    fixture_sync(&f);
    for (uint32_t i = 0; i < 4; i++) {
        struct buf owner = {0};
        record.size = 0;
        fixture_record(f.log.last_index + 1, 1, LOG_TAKE_SIZE + 1000 * i, &record);
        (void)buf_extend(&owner, fronts[i]);
        buf_append(&owner, record.data, record.size);
        if (i % 2 == 0) buf_text(&owner, "behind it");
        log_append_from(&f.log, slice_of(owner.data + fronts[i], record.size), &owner);
        EXPECT_TRUE(owner.data == NULL);
        struct place place;
        struct slice bytes;
        EXPECT_EQ(log_entry(&f.log, f.log.last_index, &place, &bytes), OK);
        EXPECT_TRUE(slice_equal(bytes, buf_slice(&record)));
        EXPECT_EQ(log_flush_wait(&f.log), OK);
        EXPECT_EQ(log_entry(&f.log, f.log.last_index, &place, &bytes), OK);
        EXPECT_TRUE(slice_equal(bytes, buf_slice(&record)));
        log_check(&f.log);
    }
    /* A small one, and one that lies elsewhere, are copied. */
    struct buf owner = {0};
    fixture_record(f.log.last_index + 1, 1, 100, &owner);
    log_append_from(&f.log, buf_slice(&owner), &owner);
    EXPECT_TRUE(owner.data != NULL);
    record.size = 0;
    fixture_record(f.log.last_index + 1, 1, LOG_TAKE_SIZE, &record);
    log_append_from(&f.log, buf_slice(&record), &owner);
    EXPECT_TRUE(owner.data != NULL);
    EXPECT_EQ(log_flush_wait(&f.log), OK);
    buf_close(&owner);
    const uint64_t last = f.log.last_index;
    fixture_close(&f);
    fixture_open(&f);
    EXPECT_EQ(f.log.last_index, last);
    struct place place;
    struct slice bytes;
    EXPECT_EQ(log_entry(&f.log, last, &place, &bytes), OK);
    EXPECT_TRUE(slice_equal(bytes, buf_slice(&record)));
    buf_close(&record);
    fixture_end(&f);
}
