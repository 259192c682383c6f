/* F05, F06, F07: groups that rotted after they were durable are rebuilt from records that others hold, byte for byte:
 * header, records, footer, padding. What cannot be proved to be what stood there changes nothing. */
#include "storage/repair.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "tests/storage/log_fixture.h"

#define GROUPS_MAX 64u

static struct fixture f;

struct spot {
    char file[64];
    uint64_t offset;
    uint32_t used;
    uint32_t count;
    bool is_last; /* nothing is behind it, in no file */
};
static struct spot spots[GROUPS_MAX];
static uint32_t spot_count;

enum kind { KIND_HEADER, KIND_RECORD, KIND_FOOTER, KIND_ALL, KIND_BLOCK, KIND_COUNT };

/* Groups of several sizes, marks, several files; with @has_cut an overwritten entry as well. */
static void make_log(bool has_cut)
{
    fixture_init(&f, 5);
    f.config.segment_size = 6 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    fixture_group(&f, 1, 2, 40);
    fixture_idle(&f);
    fixture_group(&f, 1, 1, 4100);
    fixture_group(&f, 2, 1, 200);
    if (has_cut) fixture_cut(&f, 4);
    fixture_group(&f, 3, 3, 60);
    fixture_group(&f, 3, 2, 900);
    fixture_idle(&f);
    fixture_group(&f, 3, 5, 2000);
    fixture_group(&f, 3, 1, 0);
    fixture_group(&f, 4, 1, 300);
    fixture_group(&f, 4, 3, 20);
    fixture_kill(&f);
}

static void find_groups(void)
{
    struct buf names = {0};
    spot_count = 0;
    sim_disk_names(&f.disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const struct slice file = sim_disk_file(&f.disk, (const char *)at);
        const uint64_t size = strlen((const char *)at);
        if (strcmp((const char *)at + size - 4, ".log") != 0) continue;
        for (uint64_t offset = SEGMENT_BLOCK_SIZE; offset + 64 < file.size;) {
            const uint32_t used = get_u32(file.data + offset + 4);
            if (used == 0) break;
            struct spot *spot = &spots[spot_count++];
            CHECK(spot_count < GROUPS_MAX);
            *spot = (struct spot){
                .offset = offset, .used = used, .count = get_u32(file.data + offset + 8)};
            memcpy(spot->file, at, size + 1);
            offset += align_up(used, SEGMENT_BLOCK_SIZE);
        }
    }
    CHECK(spot_count > 0);
    spots[spot_count - 1].is_last = true;
    buf_close(&names);
}

static void spoil(const struct spot *spot, enum kind kind)
{
    uint64_t from = spot->offset;
    uint64_t to = from + 1;
    if (kind == KIND_HEADER) from += 20, to = from + 1;
    if (kind == KIND_RECORD) from += 64 + 50, to = from + 1;
    if (kind == KIND_FOOTER) from += spot->used - 20, to = from + 1;
    if (kind == KIND_ALL) to = from + align_up(spot->used, SEGMENT_BLOCK_SIZE);
    if (kind == KIND_BLOCK) to = from + SEGMENT_BLOCK_SIZE;
    for (; from < to; from++) sim_disk_flip(&f.disk, spot->file, from * 8 + from % 8);
}

static const struct repair_config *config_of(void)
{
    static struct repair_config config;
    config = (struct repair_config){
        .disk = &f.disk.disk, .folder = FIXTURE_FOLDER, .cluster_id = 77, .node_id = 5, .shard = 3};
    return &config;
}

/* Source @source has the entries that this log had; of @wrong one of another term; with @only, only every other one. */
static void give(struct repair *repair, uint32_t source, uint64_t only, uint64_t wrong)
{
    uint64_t first = 0;
    uint64_t last = 0;
    while (repair_wants(repair, source, &first, &last)) {
        struct buf records = {0};
        if (only == 0 || first % 2 == only % 2) {
            const uint32_t term = f.now.term[first] + (first == wrong ? 1 : 0);
            fixture_record(first, term, f.now.size[first], &records);
        }
        EXPECT_EQ(repair_give(repair, source, first + 1, buf_slice(&records)), OK);
        buf_close(&records);
    }
}

/* Rebuilds everything; false: it cannot be. */
static bool run(void)
{
    struct repair *repair = NULL;
    if (repair_open(&repair, config_of()) != OK) return false;
    enum err err = ERR_AGAIN;
    struct repair_spot spot;
    for (uint32_t i = 0; i < GROUPS_MAX && err == ERR_AGAIN; i++) {
        err = repair_try(repair);
        if (err == OK || !repair_spot(repair, &spot)) break;
        give(repair, i % 3, 0, 0);
    }
    if (err == OK) EXPECT_EQ(repair_write(repair), OK);
    repair_close(repair);
    return err == OK;
}

static void expect_same(struct sim_image *image, const struct spot *spot)
{
    struct buf now = {0};
    const struct slice file = sim_disk_file(&f.disk, spot->file);
    buf_append(&now, file.data, file.size);
    sim_disk_restore(&f.disk, image);
    const struct slice before = sim_disk_file(&f.disk, spot->file);
    EXPECT_EQ(now.size, before.size);
    EXPECT_BYTES(now.data, before.data, now.size);
    buf_close(&now);
}

TEST(repair, f07_every_group_is_rebuilt_to_the_byte)
{
    struct sim_image image;
    uint32_t repaired = 0;
    make_log(false);
    find_groups();
    sim_disk_save(&f.disk, &image);
    for (uint32_t i = 0; i < spot_count; i++) {
        for (uint32_t kind = 0; kind < KIND_COUNT; kind++) {
            const struct spot *spot = &spots[i];
            if (kind == KIND_RECORD && spot->count == 0) continue;
            spoil(spot, (enum kind)kind);
            const bool is_done = run();
            /* Nothing but its own header and footer says what the last one was. */
            if (!is_done && spot->is_last) {
                EXPECT_TRUE(kind != KIND_RECORD);
                sim_disk_restore(&f.disk, &image);
                continue;
            }
            if (!is_done) print_error("group %u, kind %u\n", i, kind);
            EXPECT_TRUE(is_done);
            repaired++;
            expect_same(&image, spot);
        }
    }
    EXPECT_TRUE(repaired > 4 * (spot_count - 1));
    sim_image_close(&image);
    fixture_end(&f);
}

TEST(repair, f07_a_repaired_log_opens_with_everything_in_it)
{
    make_log(false);
    find_groups();
    spoil(&spots[3], KIND_ALL);
    EXPECT_EQ(fixture_try_open(&f), ERR_CORRUPT);
    EXPECT_TRUE(run());
    EXPECT_EQ(repair_open(&(struct repair *){NULL}, config_of()), ERR_NOT_FOUND);
    fixture_reopen(&f);
    fixture_verify(&f);
    fixture_kill(&f);
    /* What was damaged is kept until the start has succeeded. */
    char name[80];
    (void)snprintf(name, sizeof name, "%s.damaged", spots[3].file);
    EXPECT_TRUE(sim_disk_exists(&f.disk, name));
    repair_clean(config_of());
    EXPECT_FALSE(sim_disk_exists(&f.disk, name));
    fixture_end(&f);
}

TEST(repair, f07_several_groups_in_a_row_and_in_several_files)
{
    struct sim_image image;
    make_log(false);
    find_groups();
    sim_disk_save(&f.disk, &image);
    for (uint32_t i = 0; i + 2 < spot_count; i++) {
        if (spots[i].count > 0) spoil(&spots[i], KIND_RECORD);
        if (spots[i + 1].count > 0) spoil(&spots[i + 1], KIND_RECORD);
        spoil(&spots[spot_count - 2], KIND_FOOTER);
        EXPECT_TRUE(run());
        expect_same(&image, &spots[i]);
    }
    /* A sound header, and behind it a group without: its own footer vouches for the first one. */
    spoil(&spots[0], KIND_RECORD);
    spoil(&spots[1], KIND_HEADER);
    EXPECT_TRUE(run());
    expect_same(&image, &spots[0]);
    /* Two headers: nobody knows where the first group ends. */
    spoil(&spots[0], KIND_HEADER);
    spoil(&spots[1], KIND_HEADER);
    EXPECT_FALSE(run());
    sim_image_close(&image);
    fixture_end(&f);
}

TEST(repair, f07_records_of_other_terms_are_not_taken_for_ours)
{
    make_log(false);
    find_groups();
    const struct spot *spot = &spots[0];
    spoil(spot, KIND_ALL);
    struct repair *repair = NULL;
    EXPECT_EQ(repair_open(&repair, config_of()), OK);
    const uint64_t changes = f.disk.change_count;
    EXPECT_EQ(repair_try(repair), ERR_AGAIN);
    give(repair, 0, 0, 2);
    EXPECT_EQ(repair_try(repair), ERR_AGAIN);
    /* Two more, each with every other one: the first is right about those that it shares with neither. */
    give(repair, 1, 1, 0);
    EXPECT_EQ(repair_try(repair), ERR_AGAIN);
    give(repair, 2, 2, 0);
    EXPECT_EQ(repair_try(repair), OK);
    EXPECT_EQ(f.disk.change_count, changes);
    repair_close(repair);
    fixture_end(&f);
}

TEST(repair, an_answer_that_is_none_is_refused)
{
    make_log(false);
    find_groups();
    spoil(&spots[0], KIND_ALL);
    struct repair *repair = NULL;
    struct buf records = {0};
    uint64_t first = 0;
    uint64_t last = 0;
    EXPECT_EQ(repair_open(&repair, config_of()), OK);
    EXPECT_TRUE(repair_wants(repair, 0, &first, &last));
    EXPECT_EQ(repair_give(repair, 0, first, slice_of("", 0)), ERR_CORRUPT);
    EXPECT_EQ(repair_give(repair, 0, last + 2, slice_of("", 0)), ERR_CORRUPT);
    EXPECT_EQ(repair_give(repair, 0, last + 1, slice_text("no record")), ERR_CORRUPT);
    fixture_record(last + 1, 1, 10, &records);
    EXPECT_EQ(repair_give(repair, 0, last + 1, buf_slice(&records)), ERR_CORRUPT);
    records.size = 0;
    fixture_record(first, 1, 10, &records);
    fixture_record(first, 1, 10, &records);
    EXPECT_EQ(repair_give(repair, 0, last + 1, buf_slice(&records)), ERR_CORRUPT);
    /* Having nothing is an answer; everybody can be asked again. */
    EXPECT_EQ(repair_give(repair, 1, last + 1, slice_of("", 0)), OK);
    EXPECT_FALSE(repair_wants(repair, 1, &first, &last));
    repair_again(repair);
    EXPECT_TRUE(repair_wants(repair, 1, &first, &last));
    buf_close(&records);
    repair_close(repair);
    fixture_end(&f);
}

/* The group that begins with a cut can be rebuilt as long as the cut itself is sound. */
TEST(repair, f07_a_group_with_a_cut)
{
    struct sim_image image;
    make_log(true);
    find_groups();
    sim_disk_save(&f.disk, &image);
    uint32_t repaired = 0;
    for (uint32_t i = 0; i + 1 < spot_count; i++) {
        const struct slice file = sim_disk_file(&f.disk, spots[i].file);
        const uint8_t *at = file.data + spots[i].offset;
        const bool has_cut = spots[i].count > 0 && at[64 + 40] == RECORD_CUT;
        if (!has_cut) continue;
        sim_disk_flip(&f.disk, spots[i].file, (spots[i].offset + 64 + 48 + 60) * 8);
        EXPECT_TRUE(run());
        repaired++;
        expect_same(&image, &spots[i]);
        sim_disk_flip(&f.disk, spots[i].file, (spots[i].offset + 64 + 20) * 8);
        EXPECT_FALSE(run());
        sim_disk_restore(&f.disk, &image);
    }
    EXPECT_EQ(repaired, 1);
    sim_image_close(&image);
    fixture_end(&f);
}

/* A torn end is no damage; neither is a file without a header one that this could help with. */
TEST(repair, f01_what_is_torn_is_none_of_its_business)
{
    make_log(false);
    find_groups();
    const struct spot *last = &spots[spot_count - 1];
    struct repair *repair = NULL;
    EXPECT_EQ(repair_open(&repair, config_of()), ERR_NOT_FOUND);
    struct buf copy = {0};
    const struct slice file = sim_disk_file(&f.disk, last->file);
    buf_append(&copy, file.data, file.size);
    memset(copy.data + last->offset, 0, SECTOR_SIZE);
    sim_disk_put(&f.disk, last->file, buf_slice(&copy));
    EXPECT_EQ(repair_open(&repair, config_of()), ERR_NOT_FOUND);
    buf_close(&copy);
    spoil(&spots[0], KIND_ALL);
    sim_disk_flip(&f.disk, spots[0].file, 99);
    EXPECT_EQ(repair_open(&repair, config_of()), ERR_NOT_FOUND);
    fixture_end(&f);
}

/* What a node that repairs itself can give to others: everything but the records that are damaged. */
TEST(repair, f07_sound_records_are_given_to_others)
{
    make_log(false);
    find_groups();
    spoil(&spots[2], KIND_ALL); /* entry 3, alone in its group */
    struct repair *repair = NULL;
    struct buf got = {0};
    struct buf want = {0};
    EXPECT_EQ(repair_open(&repair, config_of()), OK);
    const uint64_t end = f.now.last;
    uint64_t index = 1;
    for (uint32_t i = 0; index <= end && i < 100; i++) {
        const uint64_t before = got.size;
        index = repair_read(repair, index, end, 3000, &got);
        EXPECT_TRUE(got.size - before < 3000 + 4200);
    }
    EXPECT_EQ(index, end + 1);
    for (uint64_t i = 1; i <= end; i++) {
        if (i != 3) fixture_record(i, f.now.term[i], f.now.size[i], &want);
    }
    EXPECT_EQ(got.size, want.size);
    EXPECT_BYTES(got.data, want.data, want.size);
    EXPECT_EQ(repair_read(repair, end + 5, end + 9, 3000, &got), end + 10);
    repair_close(repair);
    /* In a damaged group single records may be sound: entry 2 is, entry 1 is not. */
    spoil(&spots[0], KIND_RECORD);
    EXPECT_EQ(repair_open(&repair, config_of()), OK);
    got.size = 0;
    want.size = 0;
    EXPECT_EQ(repair_read(repair, 1, 3, 3000, &got), 4);
    fixture_record(2, f.now.term[2], f.now.size[2], &want);
    EXPECT_EQ(got.size, want.size);
    EXPECT_BYTES(got.data, want.data, want.size);
    buf_close(&got);
    buf_close(&want);
    repair_close(repair);
    fixture_end(&f);
}
