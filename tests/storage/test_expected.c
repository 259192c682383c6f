/* Which segments a start must find: the file of that name, and a log whose newest segment vanishes (F07). */
#include "storage/expected.h"

#include "storage/base/hash.h"
#include "tests/storage/log_fixture.h"

#define NAME FIXTURE_FOLDER "/" EXPECTED_NAME

static struct fixture f;

static const struct expected_note one = {.version = 6, .files = {{3, 0x33}, {4, 0x44}}};
static const struct expected_note two = {.version = 7, .files = {{4, 0x44}, {5, 0x55}}};

static void encode(const struct expected_note *even, const struct expected_note *odd, uint8_t *file)
{
    expected_encode(even, 77, 5, file);
    expected_encode(odd, 77, 5, file + EXPECTED_COPY_SIZE);
}

TEST(expected, the_newer_sound_copy_counts)
{
    uint8_t file[2 * EXPECTED_COPY_SIZE];
    struct expected_note note;
    const struct slice bytes = slice_of(file, sizeof file);
    encode(&one, &two, file);
    EXPECT_EQ(expected_pick(bytes, 77, 5, &note), OK);
    EXPECT_EQ(note.version, 7);
    EXPECT_EQ(note.files[0].number, 4);
    EXPECT_EQ(note.files[1].number, 5);
    EXPECT_EQ(note.files[1].file_id, 0x55);
    for (uint32_t bit = 0; bit < 80 * 8; bit++) {
        file[EXPECTED_COPY_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(expected_pick(bytes, 77, 5, &note), OK);
        EXPECT_EQ(note.version, 6);
        file[EXPECTED_COPY_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(file, 0, sizeof file);
    EXPECT_EQ(expected_pick(bytes, 77, 5, &note), ERR_NOT_FOUND);
    EXPECT_EQ(note.files[0].number, 0);
    EXPECT_EQ(expected_pick(slice_of(file, 100), 77, 5, &note), ERR_NOT_FOUND);
}

TEST(expected, a_sound_copy_of_somebody_else_or_a_newer_program_is_refused)
{
    uint8_t file[2 * EXPECTED_COPY_SIZE];
    struct expected_note note;
    const struct slice bytes = slice_of(file, sizeof file);
    encode(&one, &two, file);
    EXPECT_EQ(expected_pick(bytes, 78, 5, &note), ERR_FOREIGN);
    EXPECT_EQ(expected_pick(bytes, 77, 6, &note), ERR_FOREIGN);
    put_u32(file + 8, 2);
    EXPECT_EQ(expected_pick(bytes, 77, 5, &note), OK); /* Its checksum is wrong: damage. */
    EXPECT_EQ(note.version, 7);
    put_u64(file + 72, hash64(file, 72));
    EXPECT_EQ(expected_pick(bytes, 77, 5, &note), ERR_NEWER);
}

/* A log of several segments, the newest of them begun. Returns its number. */
static uint32_t make_log(uint64_t seed)
{
    fixture_init(&f, seed);
    f.config.segment_size = 5 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    for (uint32_t i = 0; i < 6; i++) {
        fixture_group(&f, 1, 1, 3000);
        fixture_idle(&f);
    }
    EXPECT_TRUE(f.log.segments_count > 2);
    return f.log.segments[f.log.segments_count - 1]->file.number;
}

static void drop(uint32_t number)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, FIXTURE_FOLDER, number);
    EXPECT_TRUE(sim_disk_drop(&f.disk, name));
}

TEST(expected, f07_a_newest_segment_that_vanished_is_noticed_in_every_state)
{
    for (uint32_t state = 0; state < 5; state++) {
        uint32_t number = make_log(3 + state);
        if (state == 1) fixture_close(&f); /* a clean stop, with a mark */
        if (state == 2) log_roll(&f.log);  /* full, and nothing behind it */
        if (state == 3) {
            fixture_kill(&f); /* its last group moved on to another one */
            fixture_reopen(&f);
            number = f.log.segments[f.log.segments_count - 1]->file.number;
        }
        if (state == 4) {
            /* The spare was given up for a larger record, which got a segment of its own. */
            fixture_append(&f, 1, 6 * SEGMENT_BLOCK_SIZE);
            fixture_sync(&f);
            number = f.log.active->file.number;
        }
        if (f.is_open) fixture_kill(&f);
        drop(number);
        fixture_refused(&f, ERR_CORRUPT, "is missing, and the log may have gone on in it");
        fixture_end(&f);
    }
}

TEST(expected, a_spare_that_is_given_up_is_not_missed)
{
    (void)make_log(9);
    const uint32_t spare = f.log.spare->file.number;
    fixture_append(&f, 1, 6 * SEGMENT_BLOCK_SIZE);
    fixture_sync(&f);
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, FIXTURE_FOLDER, spare);
    EXPECT_FALSE(sim_disk_exists(&f.disk, name));
    fixture_kill(&f);
    fixture_reopen(&f);
    fixture_end(&f);
}

/* Without the file, as an older program left it, nothing is missed; from then on it is there. */
TEST(expected, a_directory_without_it_or_with_a_damaged_one_opens_and_gets_one)
{
    for (uint32_t way = 0; way < 3; way++) {
        (void)make_log(20 + way);
        fixture_kill(&f);
        if (way == 0) EXPECT_TRUE(sim_disk_drop(&f.disk, NAME));
        if (way == 1) sim_disk_truncate(&f.disk, NAME, 5000);
        if (way == 2) sim_disk_flip(&f.disk, NAME, 100);
        if (way == 2) sim_disk_flip(&f.disk, NAME, EXPECTED_COPY_SIZE * 8 + 100);
        fixture_reopen(&f);
        EXPECT_EQ(sim_disk_file(&f.disk, NAME).size, 2 * EXPECTED_COPY_SIZE);
        const uint32_t number = f.log.segments[f.log.segments_count - 1]->file.number;
        fixture_kill(&f);
        drop(number);
        fixture_refused(&f, ERR_CORRUPT, "is missing");
        fixture_end(&f);
    }
}

TEST(expected, another_file_under_the_name_is_refused)
{
    const uint32_t number = make_log(30);
    char name[SEGMENT_NAME_SIZE];
    char other[SEGMENT_NAME_SIZE];
    struct buf bytes = {0};
    struct segment_header header;
    fixture_kill(&f);
    segment_name(name, FIXTURE_FOLDER, number);
    segment_name(other, FIXTURE_FOLDER, number - 1);
    const struct slice file = sim_disk_file(&f.disk, name);
    buf_append(&bytes, file.data, file.size);
    EXPECT_EQ(segment_header_decode(buf_slice(&bytes), &header), OK);
    header.file_id++;
    segment_header_encode(&header, bytes.data);
    memset(bytes.data + SEGMENT_BLOCK_SIZE, 0, bytes.size - SEGMENT_BLOCK_SIZE);
    sim_disk_put(&f.disk, name, buf_slice(&bytes));
    buf_close(&bytes);
    fixture_refused(&f, ERR_CORRUPT, "is another file under this name");
    fixture_end(&f);
}

/* A full disk may refuse even blocks that are there: the log waits, and goes on when there is space. */
static bool is_full;
static void full_submit(void *context, struct disk_op *op)
{
    if (!is_full || op->kind != DISK_WRITE || op->lane != DISK_LANE_BACKGROUND) {
        f.disk.disk.submit(context, op);
        return;
    }
    op->result = ERR_NOSPACE;
    op->done(op);
}

TEST(expected, f11_no_segment_is_used_before_it_is_expected)
{
    fixture_init(&f, 40);
    struct disk full = f.disk.disk;
    full.submit = full_submit;
    f.config.disk = &full;
    is_full = false;
    fixture_open(&f);
    is_full = true;
    fixture_append(&f, 1, 10);
    EXPECT_EQ(log_flush_wait(&f.log), ERR_NOSPACE);
    EXPECT_EQ(f.log.persisted_index, 0);
    EXPECT_TRUE(log_nospace(&f.log));
    is_full = false;
    EXPECT_EQ(log_flush_wait(&f.log), OK);
    EXPECT_EQ(f.log.persisted_index, 1);
    EXPECT_FALSE(f.log.nospace);
    fixture_end(&f);
}
