/* U1: every file of a data directory cut off at every byte, and missing altogether. U3: every subset of the
 * sectors of the last group. U4: what a torn write left behind never joins the log. A start finds exactly what
 * was acknowledged, or refuses and says where: never less, never something else. */
#include "tests/storage/crash_world.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/segment.h"
#include "tests/test.h"

static struct world world; /* too big for the stack */
static struct sim_image image;
static struct world_history now;
static uint64_t durable;

/* What happened to the disk and what was adopted is undone. */
static void undo(void)
{
    if (world.store != NULL) world_crash(&world, false);
    sim_disk_restore(&world.disk, &image);
    world.now = now;
    world.old = now;
    world.durable = durable;
}

static void keep(void)
{
    sim_disk_save(&world.disk, &image);
    now = world.now;
    durable = world.durable;
}

static void finish(void)
{
    sim_image_close(&image);
    world_end(&world);
}

/* ---- U1 --------------------------------------------------------------------------------------------- */

struct outcome {
    uint64_t right;
    uint64_t noticed;
};

static bool ends_with(const char *name, const char *end)
{
    const uint64_t size = strlen(name);
    return size >= strlen(end) && strcmp(name + size - strlen(end), end) == 0;
}

/* Bytes up to the end of the last group of a file: what is cut off behind them was never written. */
static uint64_t used_size(const char *name)
{
    const struct slice bytes = sim_disk_file(&world.disk, name);
    uint64_t used = 0;
    for (uint64_t i = 0; i < bytes.size; i++) {
        if (bytes.data[i] != 0) used = i + 1;
    }
    return align_up(used, SEGMENT_BLOCK_SIZE);
}

static void judge_cut(const char *name, uint64_t size, struct outcome *outcome)
{
    const enum world_verdict verdict = world_judge(&world);
    if (verdict == WORLD_WRONG) {
        fail_msg("%s cut to %llu: %s", name, (unsigned long long)size, world.wrong);
    }
    if (verdict == WORLD_RIGHT) outcome->right++;
    if (verdict != WORLD_RIGHT) outcome->noticed++;
    /* The file that is named is the one that was cut. */
    if (verdict == WORLD_REFUSED && strstr(world.message, name) == NULL) {
        fail_msg("%s cut to %llu: says %s", name, (unsigned long long)size, world.message);
    }
}

/* Cuts one file everywhere. A byte of zeros more or less is seldom another case. */
static struct outcome cut_everywhere(const char *name)
{
    struct outcome outcome = {0};
    const struct slice bytes = sim_disk_file(&world.disk, name);
    const uint64_t size = bytes.size;
    const uint64_t used = used_size(name);
    for (uint64_t cut = 0; cut < size; cut++) {
        const struct slice whole = sim_disk_file(&world.disk, name);
        const bool plain = cut > 0 && whole.data[cut] == 0 && whole.data[cut - 1] == 0;
        if (cut % 512 != 0 && cut % world_stride(plain ? 19 : 1) != 0) continue;
        sim_disk_truncate(&world.disk, name, cut);
        struct outcome one = {0};
        judge_cut(name, cut, &one);
        const bool is_data = ends_with(name, ".log") || ends_with(name, ".tab");
        if (is_data && cut < used && one.right > 0) {
            fail_msg("%s cut to %llu: not noticed", name, (unsigned long long)cut);
        }
        outcome.right += one.right;
        outcome.noticed += one.noticed;
        undo();
    }
    return outcome;
}

static void expect_cuts(const char *name)
{
    const struct outcome cut = cut_everywhere(name);
    if (ends_with(name, ".idx")) EXPECT_EQ(cut.noticed, 0); /* A cache: made again. */
    if (ends_with(name, "MANIFEST")) EXPECT_EQ(cut.right, 0);
    if (ends_with(name, "expected")) EXPECT_EQ(cut.noticed, 0); /* Alone it is not missed. */
    if (ends_with(name, "vote")) EXPECT_TRUE(cut.right > 0);    /* One whole copy is left. */
    if (ends_with(name, "vote")) EXPECT_TRUE(cut.noticed > 0);
}

static void expect_missing(const char *name)
{
    EXPECT_TRUE(sim_disk_drop(&world.disk, name));
    const enum world_verdict verdict = world_judge(&world);
    if (verdict == WORLD_REFUSED) EXPECT_TRUE(strstr(world.message, WORLD_FOLDER) != NULL);
    if (ends_with(name, ".idx") || ends_with(name, "expected")) {
        EXPECT_EQ(verdict, WORLD_RIGHT);
    } else if (ends_with(name, "MANIFEST")) {
        EXPECT_TRUE(verdict == WORLD_RIGHT || verdict == WORLD_REFUSED);
    } else {
        EXPECT_TRUE(verdict == WORLD_REFUSED || verdict == WORLD_DAMAGED);
    }
    undo();
}

static bool is_there(const char *name, const char *end)
{
    return ends_with(name, end) && sim_disk_file(&world.disk, name).size > 0;
}

static void cut_all(bool marked, bool compacts)
{
    uint32_t tables = 0;
    world_init(&world, 1);
    world.compacts = compacts;
    world.packs = compacts;
    EXPECT_TRUE(world_small(&world));
    EXPECT_TRUE(store_base(world.store).index > 10);
    if (marked) {
        EXPECT_TRUE(world_idle(&world));
        world_close(&world);
    } else {
        world_crash(&world, false);
    }
    keep();
    struct buf names = {0};
    sim_disk_names(&world.disk, &names);
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        tables += is_there(name, ".tab");
        expect_cuts(name);
        expect_missing(name);
    }
    EXPECT_EQ(tables > 0, compacts);
    buf_close(&names);
    finish();
}

TEST(every_cut, u1_a_file_cut_at_any_byte_after_a_kill_is_noticed_or_harmless)
{
    cut_all(false, false);
    cut_all(false, true);
}

TEST(every_cut, u1_a_file_cut_at_any_byte_after_a_clean_stop_is_noticed_or_harmless)
{
    cut_all(true, false);
    cut_all(true, true);
}

/* ---- U3 --------------------------------------------------------------------------------------------- */

/* What the last group is written behind. */
enum shape { SHAPE_GROUP, SHAPE_MARK, SHAPE_NEW_FILE, SHAPE_CUT, SHAPE_COUNT };

static void before_last(enum shape shape)
{
    EXPECT_EQ(world_open(&world), OK);
    EXPECT_TRUE(world_bootstrap(&world));
    EXPECT_TRUE(world_vote(&world, 3, 0));
    EXPECT_TRUE(world_group(&world, 2));
    if (shape == SHAPE_NEW_FILE) EXPECT_TRUE(world_group(&world, 2)); /* the third block: full */
    if (shape == SHAPE_CUT) EXPECT_TRUE(world_vote(&world, 4, 0));
    if (shape == SHAPE_MARK || shape == SHAPE_NEW_FILE) EXPECT_TRUE(world_idle(&world));
}

/* The last group, of @count entries; returns the file that it went to. */
static void last_group(enum shape shape, uint32_t count, char name[SEGMENT_NAME_SIZE])
{
    struct buf before = {0};
    uint32_t number = 0;
    for (uint32_t i = 1; i < 9; i++) {
        segment_name(name, WORLD_FOLDER, i);
        const struct slice file = sim_disk_file(&world.disk, name);
        buf_u64(&before, hash64(file.data, file.size));
    }
    if (shape == SHAPE_CUT) {
        EXPECT_TRUE(world_cut(&world, world.now.last));
    } else {
        EXPECT_TRUE(world_group(&world, count));
    }
    for (uint32_t i = 1; i < 9; i++) {
        segment_name(name, WORLD_FOLDER, i);
        const struct slice file = sim_disk_file(&world.disk, name);
        const uint64_t was = get_u64(before.data + 8 * (uint64_t)(i - 1));
        if (was != hash64(file.data, file.size)) number = i;
    }
    EXPECT_TRUE(number > 0);
    segment_name(name, WORLD_FOLDER, number);
    buf_close(&before);
}

/* Where the last group begins in its file, and how many sectors of it hold something. */
static uint64_t last_place(const char *name, uint32_t *sectors)
{
    const struct slice file = sim_disk_file(&world.disk, name);
    uint64_t offset = 0;
    uint64_t used = 0;
    for (uint64_t at = SEGMENT_BLOCK_SIZE; at + SEGMENT_BLOCK_SIZE <= file.size;) {
        if (get_u64(file.data + at) == 0) break;
        offset = at;
        used = get_u32(file.data + at + 4);
        at += align_up(used, SEGMENT_BLOCK_SIZE);
    }
    EXPECT_TRUE(offset > 0);
    *sectors = (uint32_t)(align_up(used, SECTOR_SIZE) / SECTOR_SIZE);
    return offset;
}

/* Leaves every subset of the sectors of the last group. Nothing of it was acknowledged unless all of it is there. */
static uint32_t subsets(enum shape shape, uint32_t count, uint64_t scale)
{
    world_init(&world, 9);
    world.value_scale = scale;
    before_last(shape);
    const struct world_history older = world.now;
    const uint64_t acknowledged = shape == SHAPE_CUT ? world.now.last - 1 : world.now.last;
    char name[SEGMENT_NAME_SIZE];
    last_group(shape, count, name);
    uint32_t sectors;
    const uint64_t offset = last_place(name, &sectors);
    world_crash(&world, false);
    keep();
    if (sectors > 8) sectors = 8; /* The others stay: a group of which a part is there. */
    for (uint32_t subset = 0; subset < 1u << sectors; subset++) {
        struct buf bytes = {0};
        const struct slice file = sim_disk_file(&world.disk, name);
        buf_append(&bytes, file.data, file.size);
        for (uint32_t i = 0; i < sectors; i++) {
            if ((subset >> i & 1) == 0)
                memset(bytes.data + offset + i * SECTOR_SIZE, 0, SECTOR_SIZE);
        }
        sim_disk_put(&world.disk, name, buf_slice(&bytes));
        buf_close(&bytes);
        const bool is_whole = subset + 1 == 1u << sectors;
        world.old = older;
        world.durable = is_whole ? now.last : acknowledged;
        if (is_whole) world.old = now;
        if (!is_whole) world.now = older; /* Nothing of a torn group may be there. */
        world_expect_right(&world, name);
        undo();
    }
    finish();
    return sectors;
}

TEST(every_cut, u3_every_subset_of_sectors_of_the_last_group_is_torn_or_whole)
{
    uint32_t widest = 0;
    for (uint32_t shape = 0; shape < SHAPE_COUNT; shape++) {
        for (uint32_t count = 1; count <= 4; count++) {
            const uint32_t sectors = subsets((enum shape)shape, count, 1);
            if (sectors > widest) widest = sectors;
            if (shape == SHAPE_CUT) break;
        }
    }
    (void)subsets(SHAPE_GROUP, 4, 3); /* more than a block */
    EXPECT_TRUE(widest >= 4);
}

/* ---- U4 --------------------------------------------------------------------------------------------- */

/* Groups are written and their power cut leaves anything of the last one. Then as many groups follow as there
 * were, of the same sizes, so that whatever is left would stand exactly where the log goes on. */
TEST(every_cut, u4_residue_of_a_torn_group_never_joins_the_log)
{
    uint32_t torn = 0;
    for (uint64_t seed = 1; seed <= (world_long() ? 4000 : 300); seed++) {
        world_init(&world, seed);
        EXPECT_EQ(world_open(&world), OK);
        EXPECT_TRUE(world_bootstrap(&world));
        for (uint32_t round = 0; round < 4; round++) {
            EXPECT_TRUE(world_vote(&world, world.ballot.term + 1, 0));
            EXPECT_TRUE(world_group(&world, 1));
            /* The change after this one, a group of three, is under way when the power goes. */
            sim_disk_stop_after(&world.disk, 1);
            (void)world_group(&world, 3);
            world_crash(&world, true);
            const enum world_verdict verdict = world_judge(&world);
            if (verdict != WORLD_RIGHT) fail_msg("seed %d: %s", (int)seed, world.wrong);
            torn += strstr(world.message, "torn tail") != NULL;
            world_adopt(&world);
        }
        world_close(&world);
        world_expect_right(&world, "after four torn groups");
        finish();
    }
    EXPECT_TRUE(torn > 100);
}
