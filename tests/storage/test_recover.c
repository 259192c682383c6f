#include "storage/recover.h"

#include "storage/base/mem.h"
#include "tests/storage/log_fixture.h"

static struct fixture f;

static void name_of(char name[SEGMENT_NAME_SIZE], uint32_t number)
{
    segment_name(name, FIXTURE_FOLDER, number);
}

/* A small log with everything in it: groups of several blocks, a cut, marks, several files. */
static void small_log(bool clean)
{
    fixture_init(&f, 5);
    f.config.segment_size = 5 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_idle(&f);
    fixture_group(&f, 1, 1, 4100);
    fixture_group(&f, 2, 1, 200);
    fixture_cut(&f, 3);
    fixture_group(&f, 3, 3, 60);
    fixture_idle(&f);
    fixture_group(&f, 3, 1, 0);
    fixture_group(&f, 3, 1, 300);
    fixture_group(&f, 3, 1, 20);
    EXPECT_EQ(f.log.segments_count, 3);
    if (clean) fixture_close(&f);
    fixture_kill(&f);
}

TEST(recover, log_is_there_after_a_clean_and_an_unclean_end)
{
    for (int clean = 0; clean < 2; clean++) {
        small_log(clean == 1);
        fixture_reopen(&f);
        EXPECT_EQ(f.log.last_index, 8);
        EXPECT_TEXT(fixture_message(&f), "");
        /* After a mark the segment goes on, else a new one is begun. */
        EXPECT_EQ(f.log.segments_count, clean == 1 ? 3 : 4);
        fixture_group(&f, 4, 2, 100);
        fixture_verify(&f);
        fixture_kill(&f);
        fixture_reopen(&f);
        EXPECT_EQ(f.log.last_index, 10);
        fixture_end(&f);
    }
}

/* ---- power cuts ------------------------------------------------------------------------------ */

/* Everything a log does, with a power cut at the @stop-th change of the disk. False: it was not
 * reached. */
static bool script(uint64_t seed, uint64_t stop)
{
    fixture_init(&f, seed);
    f.config.segment_size = (4 + seed % 3) * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    if (stop > 0) sim_disk_stop_after(&f.disk, stop);
    for (uint32_t i = 0; i < 14 && !sim_disk_stopped(&f.disk); i++) {
        fixture_append(&f, i + 1, 100 + (uint32_t)(seed + i) % 5 * 900);
        if (i % 2 == 0) fixture_append(&f, i + 1, 10);
        fixture_flush(&f);
        if (i % 4 == 3) fixture_cut(&f, f.now.last - 2); /* with that write under way */
        if (i % 4 == 3) fixture_append(&f, i + 1, 77);
        if (i % 7 == 6) fixture_turn(&f, LOG_MARK_DELAY_MS);
        if (i % 3 != 2) {
            while (!sim_disk_stopped(&f.disk) && fixture_step(&f)) continue;
        }
        if (sim_disk_stopped(&f.disk)) break;
        if (i % 5 == 4) fixture_idle(&f);
    }
    const bool stopped = sim_disk_stopped(&f.disk);
    fixture_crash(&f);
    return stopped;
}

TEST(recover, power_cut_at_every_change_keeps_what_was_persisted)
{
    uint32_t torn = 0;
    for (uint64_t seed = 0; seed < 12; seed++) {
        for (uint64_t stop = 1; script(seed, stop); stop++) {
            fixture_reopen(&f);
            torn += strstr(fixture_message(&f), "torn tail") != NULL;
            fixture_group(&f, 20, 1, 100);
            fixture_verify(&f);
            fixture_crash(&f);
            fixture_reopen(&f);
            fixture_end(&f);
        }
        fixture_end(&f);
    }
    EXPECT_TRUE(torn > 10);
}

TEST(recover, power_cut_during_recovery_and_again)
{
    for (uint64_t seed = 20; seed < 24; seed++) {
        for (uint64_t stop = 1; script(seed, stop); stop++) {
            struct sim_image image;
            sim_disk_save(&f.disk, &image);
            const struct model durable = f.durable;
            const struct model under_way = f.under_way;
            for (uint64_t again = 1;; again++) {
                f.durable = durable;
                f.under_way = under_way;
                sim_disk_stop_after(&f.disk, again);
                fixture_open(&f);
                const bool stopped = sim_disk_stopped(&f.disk);
                fixture_crash(&f);
                sim_disk_stop_after(&f.disk, again % 3 + 1);
                fixture_open(&f);
                fixture_crash(&f);
                fixture_reopen(&f);
                fixture_group(&f, 30, 1, 50);
                fixture_crash(&f);
                fixture_reopen(&f);
                fixture_crash(&f);
                sim_disk_restore(&f.disk, &image);
                if (!stopped) break;
            }
            sim_image_close(&image);
            fixture_end(&f);
        }
        fixture_end(&f);
    }
}

/* ---- the last group, sector by sector -------------------------------------------------------- */

/* Leaves every subset of the sectors of the last group on the disk. @sectors: that it takes. */
static void sector_subsets(uint32_t payload, uint32_t sectors, bool marked)
{
    fixture_init(&f, 1);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 500);
    if (marked) fixture_idle(&f);
    char name[SEGMENT_NAME_SIZE];
    name_of(name, f.log.active->file.number);
    const uint64_t offset = f.log.active->file.used;
    struct buf before = {0};
    struct buf after = {0};
    buf_append(&before, sim_disk_file(&f.disk, name).data, 64 * KIB);
    fixture_group(&f, 1, 1, payload);
    EXPECT_EQ(align_up(f.log.active->file.used, SECTOR_SIZE), f.log.active->file.used);
    buf_append(&after, sim_disk_file(&f.disk, name).data, 64 * KIB);
    fixture_kill(&f);
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    const struct model model = f.now;
    uint32_t whole = 0;
    for (uint32_t subset = 0; subset < 1u << sectors; subset++) {
        struct buf bytes = {0};
        buf_append(&bytes, before.data, before.size);
        for (uint32_t i = 0; i < sectors; i++) {
            const uint64_t at = offset + i * SECTOR_SIZE;
            if (subset >> i & 1) memcpy(bytes.data + at, after.data + at, SECTOR_SIZE);
        }
        const bool is_whole = memcmp(bytes.data, after.data, after.size) == 0;
        const bool is_clean = memcmp(bytes.data, before.data, before.size) == 0;
        sim_disk_put(&f.disk, name, buf_slice(&bytes));
        buf_close(&bytes);
        f.now = model;
        f.now.last = is_whole ? 3 : 2;
        whole += is_whole;
        fixture_open(&f);
        fixture_verify(&f);
        const bool reported = strstr(fixture_message(&f), "torn tail: ") != NULL;
        EXPECT_EQ(reported, !is_whole && !is_clean);
        fixture_append(&f, 2, 10); /* and it goes on from there */
        fixture_sync(&f);
        fixture_crash(&f);
        fixture_open(&f);
        fixture_verify(&f);
        fixture_crash(&f);
        sim_disk_restore(&f.disk, &image);
    }
    EXPECT_TRUE(whole >= 1);
    sim_image_close(&image);
    buf_close(&before);
    buf_close(&after);
    fixture_end(&f);
}

TEST(recover, every_subset_of_sectors_of_the_last_group_is_torn_or_whole)
{
    sector_subsets(3900, 8, false);
    sector_subsets(3900, 8, true);
    sector_subsets(700, 2, false);
    sector_subsets(4700, 10, true);
}

TEST(recover, zeros_from_any_byte_on_give_a_prefix_or_a_refusal)
{
    small_log(false);
    fixture_reopen(&f);
    fixture_group(&f, 5, 2, 900); /* behind the one that the start wrote again */
    fixture_group(&f, 5, 1, 700);
    char name[SEGMENT_NAME_SIZE];
    name_of(name, f.log.active->file.number);
    const uint64_t used = f.log.active->file.used;
    uint64_t ends[4]; /* of the groups in this file */
    ends[0] = SEGMENT_BLOCK_SIZE;
    EXPECT_EQ(used, 4 * SEGMENT_BLOCK_SIZE);
    for (uint32_t i = 1; i < 4; i++) ends[i] = (i + 1) * SEGMENT_BLOCK_SIZE;
    const uint64_t lasts[4] = {7, 8, 10, 11};
    fixture_kill(&f);
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    const struct slice whole = sim_disk_file(&f.disk, name);
    struct buf full = {0};
    buf_append(&full, whole.data, whole.size);
    uint32_t accepted = 0;
    for (uint64_t n = 0; n < used; n += n % SECTOR_SIZE < 8 || n % SECTOR_SIZE > 500 ? 1 : 7) {
        struct buf bytes = {0};
        buf_append(&bytes, full.data, n);
        memset(buf_extend(&bytes, full.size - n), 0, full.size - n);
        sim_disk_put(&f.disk, name, buf_slice(&bytes));
        buf_close(&bytes);
        const enum err err = fixture_try_open(&f);
        if (err == OK) {
            accepted++;
            uint32_t groups = 0;
            while (groups < 3 && f.log.last_index > lasts[groups]) groups++;
            EXPECT_EQ(f.log.last_index, lasts[groups]);
            f.now.last = f.log.last_index;
            fixture_verify(&f);
            /* Not more than there is, and of what was there before the cut only the last group may
             * go. */
            EXPECT_TRUE(ends[groups] - SEGMENT_BLOCK_SIZE < n || groups <= 1);
            EXPECT_TRUE(groups == 3 || ends[groups + 1] > n);
        } else {
            EXPECT_EQ(err, ERR_CORRUPT);
        }
        if (n >= 64 && n % SECTOR_SIZE == 0) EXPECT_EQ(err, OK);
        fixture_crash(&f);
        sim_disk_restore(&f.disk, &image);
    }
    EXPECT_TRUE(accepted > 1000);
    buf_close(&full);
    sim_image_close(&image);
    fixture_end(&f);
}

TEST(recover, a_file_that_was_cut_off_is_refused)
{
    small_log(true);
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    for (uint32_t number = 1; number <= 3; number++) {
        char name[SEGMENT_NAME_SIZE];
        name_of(name, number);
        for (uint64_t size = 0; size < f.config.segment_size; size += size < 300 ? 1 : 61) {
            sim_disk_truncate(&f.disk, name, size);
            fixture_refused(&f, ERR_CORRUPT, name);
            sim_disk_crash(&f.disk);
            sim_disk_restore(&f.disk, &image);
        }
    }
    sim_image_close(&image);
    fixture_end(&f);
}

/* ---- damage ---------------------------------------------------------------------------------- */

struct flips {
    uint32_t refused;
    uint32_t harmless;
    uint32_t shorter;
};

/* Inverts bits of every file, one at a time. */
static struct flips flip_everything(bool clean)
{
    struct flips flips = {0};
    small_log(clean);
    const struct model model = f.now;
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    for (uint32_t number = 1; number <= 3; number++) {
        char name[SEGMENT_NAME_SIZE];
        name_of(name, number);
        const uint64_t bits = sim_disk_file(&f.disk, name).size * 8;
        for (uint64_t bit = 0; bit < bits; bit++) {
            const struct slice bytes = sim_disk_file(&f.disk, name);
            const uint64_t step = bytes.data[bit / 8] == 0 ? 23 : clean ? 1 : 3;
            if (bit % step != 0) continue;
            sim_disk_flip(&f.disk, name, bit);
            const uint64_t changes = f.disk.change_count;
            const enum err err = fixture_try_open(&f);
            if (err != OK) {
                EXPECT_TRUE(err == ERR_CORRUPT);
                EXPECT_EQ(f.disk.change_count, changes);
                EXPECT_TRUE(strstr(fixture_message(&f), FIXTURE_FOLDER) != NULL);
                flips.refused++;
                sim_disk_flip(&f.disk, name, bit);
                continue;
            }
            if (f.log.last_index == model.last) flips.harmless++;
            if (f.log.last_index != model.last) flips.shorter++;
            /* Without a mark the last group may be taken for torn; nothing before it ever. */
            if (f.log.last_index != model.last) EXPECT_EQ(f.log.last_index, model.last - 1);
            if (f.log.last_index != model.last) EXPECT_FALSE(clean);
            f.now.last = f.log.last_index;
            fixture_verify(&f);
            fixture_crash(&f);
            sim_disk_restore(&f.disk, &image);
            f.now = model;
        }
    }
    sim_image_close(&image);
    fixture_end(&f);
    return flips;
}

TEST(recover, no_single_flip_is_accepted_as_data)
{
    const struct flips closed = flip_everything(true);
    EXPECT_TRUE(closed.refused > 10000);
    EXPECT_TRUE(closed.harmless > 1000); /* padding, blocks never written */
    EXPECT_EQ(closed.shorter, 0);
    const struct flips killed = flip_everything(false);
    EXPECT_TRUE(killed.refused > 5000);
    EXPECT_TRUE(killed.harmless > 1000);
}

/* Overwrites @size bytes of a file with zeros. */
static void wipe(uint32_t number, uint64_t offset, uint64_t size)
{
    char name[SEGMENT_NAME_SIZE];
    name_of(name, number);
    const struct slice bytes = sim_disk_file(&f.disk, name);
    struct buf copy = {0};
    buf_append(&copy, bytes.data, bytes.size);
    memset(copy.data + offset, 0, size);
    sim_disk_put(&f.disk, name, buf_slice(&copy));
    buf_close(&copy);
}

TEST(recover, lost_synced_groups_are_refused_not_cut)
{
    /* File 1: group of 1, 2; mark; group of 3 (two blocks). */
    small_log(false);
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    static const struct {
        uint32_t number;
        uint64_t block;
        uint64_t count;
        bool
            is_all; /* nothing but zeros is left there: only the next file tells that something was */
    } lost[] = {{1, 1, 1, false}, {1, 2, 1, false}, {1, 3, 1, false}, {1, 3, 2, true},
                {1, 4, 1, false}, {1, 1, 4, true},  {2, 1, 1, false}, {2, 2, 1, false}};
    for (uint32_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        wipe(lost[i].number, lost[i].block * SEGMENT_BLOCK_SIZE,
             lost[i].count * SEGMENT_BLOCK_SIZE);
        char name[SEGMENT_NAME_SIZE];
        name_of(name, lost[i].number); /* the damaged file, not one behind it */
        fixture_refused(&f, ERR_CORRUPT, lost[i].is_all ? "does not go on" : name);
        sim_disk_crash(&f.disk);
        sim_disk_restore(&f.disk, &image);
    }
    for (uint32_t number = 1; number <= 2; number++) {
        char name[SEGMENT_NAME_SIZE];
        name_of(name, number);
        EXPECT_TRUE(sim_disk_drop(&f.disk, name));
        /* Of the newest one the name is known; the loss of an older one shows in the links. */
        fixture_refused(&f, ERR_CORRUPT, number == 2 ? "is missing, and" : "does not go on");
        sim_disk_crash(&f.disk);
        sim_disk_restore(&f.disk, &image);
    }
    sim_image_close(&image);
    fixture_end(&f);
}

TEST(recover, lost_last_group_is_refused_when_a_mark_follows)
{
    fixture_init(&f, 3);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_group(&f, 1, 2, 40);
    fixture_idle(&f);
    const uint32_t number = f.log.active->file.number;
    const uint64_t used = f.log.active->file.used;
    fixture_kill(&f);
    wipe(number, used - 2 * SEGMENT_BLOCK_SIZE, SEGMENT_BLOCK_SIZE);
    fixture_refused(&f, ERR_CORRUPT, "durable up to index 4");
    /* Without the mark nobody can tell that it was ever there. */
    wipe(number, used - SEGMENT_BLOCK_SIZE, SEGMENT_BLOCK_SIZE);
    f.now.last = 2;
    fixture_open(&f);
    fixture_verify(&f);
    fixture_end(&f);
}

/* Puts @bytes into a file. */
static void spoil(uint32_t number, uint64_t offset, struct slice bytes)
{
    char name[SEGMENT_NAME_SIZE];
    name_of(name, number);
    sim_disk_spoil(&f.disk, name, offset, bytes);
}

/* A group of several blocks loses a sector, and what was written behind it rots as well. */
static void rotten_proof(bool is_mark)
{
    static uint8_t garbage[SEGMENT_BLOCK_SIZE];
    memset(garbage, 0xa5, sizeof garbage);
    fixture_init(&f, 3);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    const uint64_t offset = f.log.active->file.used;
    fixture_group(&f, 1, 2, 2300);
    const uint64_t behind = f.log.active->file.used;
    EXPECT_EQ(behind, offset + 2 * SEGMENT_BLOCK_SIZE);
    if (is_mark) {
        fixture_idle(&f);
    } else {
        fixture_group(&f, 1, 1, 40);
    }
    const uint32_t number = f.log.active->file.number;
    char name[SEGMENT_NAME_SIZE];
    name_of(name, number);
    fixture_kill(&f);
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    for (uint64_t at = offset; at < offset + 9 * SECTOR_SIZE; at += SECTOR_SIZE) {
        wipe(number, at, SECTOR_SIZE);
        for (uint64_t bit = behind * 8; bit < (behind + GROUP_HEADER_SIZE) * 8; bit += 5) {
            sim_disk_flip(&f.disk, name, bit);
            sim_disk_flip(&f.disk, name, bit + 3);
            fixture_refused(&f, ERR_CORRUPT, "although the log went on behind it");
            sim_disk_flip(&f.disk, name, bit);
            sim_disk_flip(&f.disk, name, bit + 3);
        }
        /* Without its header the damaged group ends nowhere: nothing but a header behind it would tell. */
        spoil(number, behind, slice_of(garbage, sizeof garbage));
        if (at > offset) {
            fixture_refused(&f, ERR_CORRUPT, "although the log went on behind it");
        } else {
            fixture_open(&f);
            EXPECT_TRUE(strstr(fixture_message(&f), "torn tail") != NULL);
            EXPECT_EQ(f.log.last_index, 2);
            fixture_kill(&f);
        }
        sim_disk_crash(&f.disk);
        sim_disk_restore(&f.disk, &image);
    }
    sim_image_close(&image);
    fixture_end(&f);
}

TEST(recover, f07_a_damaged_group_is_not_cut_when_its_proof_rots_too)
{
    rotten_proof(true);
    rotten_proof(false);
}

/* F03: a group is torn whatever values it holds, also those that look like a group of another file. */
TEST(recover, f03_a_value_that_resembles_a_group_does_not_prove_anything)
{
    fixture_init(&f, 3);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    const uint64_t offset = f.log.active->file.used;
    const uint32_t number = f.log.active->file.number;
    const uint32_t other_id = ~(uint32_t)f.log.active->file.file_id;
    fixture_group(&f, 1, 1, 9000);
    fixture_kill(&f);
    wipe(number, offset, SECTOR_SIZE);
    for (uint64_t at = offset + SEGMENT_BLOCK_SIZE; at < offset + 3 * SEGMENT_BLOCK_SIZE;
         at += SEGMENT_BLOCK_SIZE) {
        uint8_t value[GROUP_HEADER_SIZE] = {'K', 'V', 'G', 'R'};
        put_u32(value + 12, (uint32_t)at);
        put_u32(value + 40, other_id);
        spoil(number, at, slice_of(value, sizeof value));
    }
    f.now.last = 2;
    fixture_open(&f);
    EXPECT_TRUE(strstr(fixture_message(&f), "torn tail") != NULL);
    fixture_verify(&f);
    fixture_end(&f);
}

/* The process that died may have seen an error of its sync; the page cache shows the mark anyway. */
TEST(recover, last_mark_is_written_again_before_anything_follows_it)
{
    fixture_init(&f, 3);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_idle(&f);
    const uint64_t used = f.log.active->file.used;
    fixture_kill(&f);
    const uint64_t changes = f.disk.change_count;
    fixture_open(&f);
    EXPECT_EQ(f.disk.change_count, changes + 1);
    EXPECT_EQ(f.log.active->file.used, used);
    EXPECT_EQ(f.log.groups_written, 0);
    fixture_group(&f, 1, 1, 40);
    EXPECT_EQ(f.log.active->file.used, used + SEGMENT_BLOCK_SIZE);
    fixture_crash(&f);
    fixture_reopen(&f);
    fixture_end(&f);
}

TEST(recover, group_torn_in_a_new_file_proves_what_came_before_it)
{
    fixture_init(&f, 3);
    f.config.segment_size = 4 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    for (uint32_t i = 0; i < 4; i++) fixture_group(&f, 1, 1, 2000);
    EXPECT_EQ(f.log.segments_count, 2);
    fixture_kill(&f);
    wipe(2, SEGMENT_BLOCK_SIZE + SECTOR_SIZE, SECTOR_SIZE);
    struct sim_image image;
    sim_disk_save(&f.disk, &image);
    f.now.last = 3;
    fixture_open(&f);
    fixture_verify(&f);
    EXPECT_TRUE(strstr(fixture_message(&f), "00000002.log") != NULL);
    fixture_crash(&f);
    sim_disk_restore(&f.disk, &image);
    wipe(1, 3 * SEGMENT_BLOCK_SIZE, SEGMENT_BLOCK_SIZE);
    fixture_refused(&f, ERR_CORRUPT, "does not go on");
    sim_image_close(&image);
    fixture_end(&f);
}

TEST(recover, sound_group_in_the_wrong_chain_is_refused)
{
    fixture_init(&f, 3);
    fixture_open(&f);
    for (uint32_t i = 0; i < 3; i++) fixture_group(&f, 1, 1, 40);
    const uint64_t link = f.log.active->file.seed.low;
    const uint64_t file_id = f.log.active->file.file_id;
    char name[SEGMENT_NAME_SIZE];
    name_of(name, f.log.active->file.number);
    fixture_kill(&f);
    /* Another history of the same file, as an old copy of it may have: its first group is sound. */
    struct buf image = {0};
    (void)buf_extend(&image, GROUP_HEADER_SIZE);
    fixture_record(1, 1, 99, &image);
    struct segment_group other = {
        .count = 1, .offset = SEGMENT_BLOCK_SIZE, .first_index = 1, .last_index = 1, .link = link};
    (void)segment_group_seal(&image, &other, file_id);
    struct buf bytes = {0};
    buf_append(&bytes, sim_disk_file(&f.disk, name).data, sim_disk_file(&f.disk, name).size);
    memcpy(bytes.data + SEGMENT_BLOCK_SIZE, image.data, image.size);
    sim_disk_put(&f.disk, name, buf_slice(&bytes));
    fixture_refused(&f, ERR_CORRUPT, "damaged");
    buf_close(&image);
    buf_close(&bytes);
    fixture_end(&f);
}

TEST(recover, complete_but_wrong_last_group_is_refused)
{
    fixture_init(&f, 3);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_group(&f, 1, 1, 700);
    const uint64_t used = f.log.active->file.used;
    char name[SEGMENT_NAME_SIZE];
    name_of(name, f.log.active->file.number);
    fixture_kill(&f);
    sim_disk_flip(&f.disk, name, (used - 4096 + 300) * 8);
    fixture_refused(&f, ERR_CORRUPT, "complete and wrong");
    sim_disk_flip(&f.disk, name, (used - 4096 + 300) * 8);
    sim_disk_flip(&f.disk, name, (used - 4096 + 20) * 8); /* its header */
    fixture_refused(&f, ERR_CORRUPT, "complete and wrong");
    fixture_end(&f);
}

TEST(recover, residue_of_a_torn_group_never_joins_the_log)
{
    fixture_init(&f, 4);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_idle(&f);
    const uint32_t number = f.log.active->file.number;
    const uint64_t offset = f.log.active->file.used;
    char name[SEGMENT_NAME_SIZE];
    name_of(name, number);
    for (int i = 0; i < 3; i++) fixture_append(&f, 1, 3000);
    fixture_sync(&f);
    struct buf whole = {0};
    buf_append(&whole, sim_disk_file(&f.disk, name).data, 64 * KIB);
    fixture_kill(&f);
    wipe(number, offset + 1024, 512);
    f.now.last = 2;
    fixture_open(&f);
    EXPECT_TRUE(strstr(fixture_message(&f), "after index 2 in " FIXTURE_FOLDER) != NULL);
    fixture_verify(&f);
    EXPECT_TRUE(f.log.active == NULL || f.log.active->file.number != number);
    fixture_group(&f, 2, 1, 3000); /* index 3 of another term */
    fixture_kill(&f);
    /* Even if the missing sector came back, the group is not the log's any more. */
    sim_disk_put(&f.disk, name, buf_slice(&whole));
    fixture_open(&f);
    EXPECT_EQ(f.log.last_index, 3);
    EXPECT_EQ(log_term_at(&f.log, 3), 2);
    EXPECT_TEXT(fixture_message(&f), "");
    fixture_verify(&f);
    buf_close(&whole);
    fixture_end(&f);
}

TEST(recover, unmarked_last_group_is_written_again_to_fresh_blocks)
{
    fixture_init(&f, 4);
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_group(&f, 1, 2, 40);
    const uint32_t number = f.log.active->file.number;
    const uint64_t used = f.log.active->file.used;
    struct model model = f.now;
    fixture_kill(&f);
    fixture_open(&f);
    fixture_verify(&f);
    EXPECT_EQ(f.log.groups_written, 1);
    EXPECT_TRUE(f.log.active->file.number > number);
    fixture_kill(&f);
    /* The old copy was never on the disk: the page cache lied. */
    wipe(number, used - SEGMENT_BLOCK_SIZE, SEGMENT_BLOCK_SIZE);
    fixture_open(&f);
    f.now = model;
    fixture_verify(&f);
    EXPECT_TEXT(fixture_message(&f), "");
    /* Again and again: each start replaces the copy of the one before. */
    for (int i = 0; i < 4; i++) {
        fixture_kill(&f);
        fixture_open(&f);
        fixture_verify(&f);
    }
    struct buf names = {0};
    sim_disk_names(&f.disk, &names);
    uint32_t files = 0;
    for (uint64_t i = 0; i < names.size; i++) files += names.data[i] == 0;
    buf_close(&names);
    EXPECT_LE(files, 4);
    fixture_end(&f);
}

TEST(recover, foreign_newer_and_misplaced_files_are_refused)
{
    small_log(true);
    f.config.cluster_id++;
    fixture_refused(&f, ERR_FOREIGN, "another cluster");
    f.config.cluster_id--;
    f.config.node_id++;
    /* The vote knows whose directory it is; without a manifest this is a received file. */
    fixture_refused(&f, ERR_CORRUPT, "was received from another node");
    f.config.node_id--;
    f.config.shard++;
    fixture_refused(&f, ERR_FOREIGN, "another shard");
    f.config.shard--;
    char name[SEGMENT_NAME_SIZE];
    char copy[SEGMENT_NAME_SIZE];
    name_of(name, 2);
    name_of(copy, 9);
    struct buf bytes = {0};
    buf_append(&bytes, sim_disk_file(&f.disk, name).data, sim_disk_file(&f.disk, name).size);
    sim_disk_put(&f.disk, copy, buf_slice(&bytes));
    fixture_refused(&f, ERR_CORRUPT, "under this name");
    sim_disk_drop(&f.disk, copy);
    put_u32(bytes.data + 8, SEGMENT_VERSION + 1);
    put_u64(bytes.data + 56, hash64(bytes.data, 56));
    sim_disk_put(&f.disk, name, buf_slice(&bytes));
    fixture_refused(&f, ERR_NEWER, "newer");
    buf_close(&bytes);
    fixture_end(&f);
}

TEST(recover, spares_are_used_again_and_useless_files_removed)
{
    fixture_init(&f, 6);
    fixture_open(&f);
    fixture_group(&f, 1, 1, 10);
    fixture_idle(&f);
    EXPECT_TRUE(f.log.spare != NULL);
    const uint32_t spare = f.log.spare->file.number;
    fixture_close(&f);
    fixture_open(&f);
    EXPECT_TRUE(f.log.spare != NULL);
    EXPECT_EQ(f.log.spare->file.number, spare);
    /* One that was made for smaller segments is not. */
    fixture_close(&f);
    f.config.segment_size *= 2;
    fixture_open(&f);
    EXPECT_TRUE(f.log.spare == NULL);
    char name[SEGMENT_NAME_SIZE];
    name_of(name, spare);
    EXPECT_FALSE(sim_disk_exists(&f.disk, name));
    fixture_group(&f, 1, 1, 10);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(recover, no_space_for_the_last_group_is_said_and_nothing_lost)
{
    fixture_init(&f, 7);
    fixture_open(&f);
    fixture_group(&f, 1, 3, 10);
    fixture_kill(&f);
    char name[SEGMENT_NAME_SIZE];
    name_of(name, 2);
    (void)sim_disk_drop(&f.disk, name);
    f.disk.capacity = sim_disk_used(&f.disk);
    EXPECT_EQ(fixture_try_open(&f), ERR_NOSPACE);
    EXPECT_TRUE(strstr(fixture_message(&f), "no space") != NULL);
    EXPECT_TRUE(strstr(fixture_message(&f), "65536") != NULL);
    f.disk.capacity = UINT64_MAX;
    fixture_open(&f);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(recover, read_errors_are_reported_with_the_file)
{
    small_log(true);
    char name[SEGMENT_NAME_SIZE];
    name_of(name, 2);
    memcpy(f.disk.read_error, name, strlen(name) + 1);
    EXPECT_EQ(fixture_try_open(&f), ERR_IO);
    EXPECT_TRUE(strstr(fixture_message(&f), name) != NULL);
    f.disk.read_error[0] = 0;
    fixture_reopen(&f);
    fixture_end(&f);
}
