/* U2, F07: every bit of every file of a data directory inverted, one at a time. What a checksum covers is
 * noticed, at the start or when it is read; what none covers is listed here and harmless. Nothing is ever
 * silently something else. */
#include <stdio.h>

#include "storage/base/check.h"
#include "storage/segment.h"
#include "tests/storage/crash_world.h"
#include "tests/test.h"

static struct world world; /* too big for the stack */
static struct sim_image image;
static struct world_history now;

enum region {
    REGION_HINT,     /* a cache: made again from its segment */
    REGION_MANIFEST, /* all of it is covered, and nothing stands in for it */
    REGION_EXPECTED, /* the file that names others: two copies, and no need of them unless more is lost */
    REGION_VOTE,        /* two copies: one makes up for the other */
    REGION_HEADER,      /* of a segment */
    REGION_HEADER_REST, /* zeros behind it, which nothing reads */
    REGION_GROUP,       /* header, records and footer of a group */
    REGION_GROUP_REST,  /* zeros up to the end of its last block, which nothing reads */
    REGION_BEHIND,      /* blocks behind the last group: never written */
    REGION_COUNT,
};
static const char *const region_names[] = {
    "hint",  "manifest",       "expected",          "vote", "header", "behind the header",
    "group", "behind a group", "behind all groups",
};

static bool ends_with(const char *name, const char *end)
{
    const uint64_t size = strlen(name);
    return size >= strlen(end) && strcmp(name + size - strlen(end), end) == 0;
}

/* Regions of a segment, one byte each, from its groups. */
static void map_segment(struct slice file, uint8_t *map)
{
    memset(map, REGION_BEHIND, file.size);
    memset(map, REGION_HEADER_REST, SEGMENT_BLOCK_SIZE);
    memset(map, REGION_HEADER, GROUP_HEADER_SIZE);
    for (uint64_t at = SEGMENT_BLOCK_SIZE; at + SEGMENT_BLOCK_SIZE <= file.size;) {
        const uint64_t used = get_u32(file.data + at + 4);
        if (used == 0) break;
        const uint64_t end = at + align_up(used, SEGMENT_BLOCK_SIZE);
        memset(map + at, REGION_GROUP, used);
        memset(map + at + used, REGION_GROUP_REST, end - at - used);
        at = end;
    }
}

static void map_file(const char *name, struct slice file, struct buf *map)
{
    map->size = 0;
    uint8_t *at = buf_extend(map, file.size);
    if (ends_with(name, ".idx")) {
        memset(at, REGION_HINT, file.size);
    } else if (ends_with(name, ".log") || ends_with(name, ".tab")) {
        map_segment(file, at);
    } else if (ends_with(name, "expected")) {
        memset(at, REGION_EXPECTED, file.size);
    } else {
        memset(at, ends_with(name, "vote") ? REGION_VOTE : REGION_MANIFEST, file.size);
    }
}

struct count {
    uint64_t verdicts[4];
};
static struct count counts[REGION_COUNT];

static void back(void)
{
    if (world.store != NULL) world_crash(&world, false);
    sim_disk_restore(&world.disk, &image);
    world.now = now;
    world.old = now;
}

/* A bit that changed nothing visible although a checksum covers it: nobody has read it yet. It must lie in a
 * sealed file that a start need not read, and whoever reads that file as a whole notices. */
static void expect_found_by_reading(const char *name, uint64_t bit)
{
    char hint[64];
    back();
    (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)strlen(name) - 4, name);
    EXPECT_TRUE(sim_disk_drop(&world.disk, hint)); /* else it is no sealed file */
    sim_disk_flip(&world.disk, name, bit);
    const enum world_verdict verdict = world_judge(&world);
    if (verdict == WORLD_RIGHT || verdict == WORLD_WRONG) {
        fail_msg("%s, byte %llu: reading it as a whole finds nothing", name,
                 (unsigned long long)bit / 8);
    }
}

static void judge_flip(const char *name, uint64_t bit, enum region region)
{
    sim_disk_flip(&world.disk, name, bit);
    const uint64_t changes = world.disk.change_count;
    const enum world_verdict verdict = world_judge(&world);
    if (verdict == WORLD_REFUSED) EXPECT_EQ(world.disk.change_count, changes);
    counts[region].verdicts[verdict]++;
    if (verdict == WORLD_WRONG) {
        fail_msg("%s, byte %llu, bit %llu, %s: %s", name, (unsigned long long)bit / 8,
                 (unsigned long long)bit % 8, region_names[region], world.wrong);
    }
    if (verdict == WORLD_REFUSED && strstr(world.message, name) == NULL) {
        fail_msg("%s, byte %llu: says %s", name, (unsigned long long)bit / 8, world.message);
    }
    /* A start that refuses leaves all as it is. */
    if (world.store == NULL) {
        sim_disk_flip(&world.disk, name, bit);
        return;
    }
    if (verdict == WORLD_RIGHT && region == REGION_GROUP) expect_found_by_reading(name, bit);
    back();
}

static uint64_t noticed(enum region region)
{
    return counts[region].verdicts[WORLD_REFUSED] + counts[region].verdicts[WORLD_DAMAGED];
}

/* What is harmless, and what is not. */
static void expect_counts(void)
{
    const enum region harmless[] = {REGION_HINT, REGION_EXPECTED, REGION_VOTE, REGION_HEADER_REST,
                                    REGION_GROUP_REST};
    for (uint32_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        EXPECT_EQ(noticed(harmless[i]), 0);
        EXPECT_TRUE(counts[harmless[i]].verdicts[WORLD_RIGHT] > 40);
    }
    EXPECT_EQ(counts[REGION_MANIFEST].verdicts[WORLD_RIGHT], 0);
    EXPECT_EQ(counts[REGION_HEADER].verdicts[WORLD_RIGHT], 0);
    EXPECT_TRUE(noticed(REGION_MANIFEST) > 20);
    EXPECT_TRUE(noticed(REGION_HEADER) > 20);
    EXPECT_TRUE(noticed(REGION_GROUP) > 200);
    /* Where the log goes on it is noticed; behind a file that is full nothing is ever read. */
    EXPECT_TRUE(noticed(REGION_BEHIND) > 0);
}

/* One bit in so many: all of them in a long run. Of zeros fewer: there are many, and one is as another. */
static uint64_t stride(uint8_t byte)
{
    return world_stride(byte != 0 ? 7 : 101);
}

static void flip_file(const char *name, uint64_t *turn)
{
    struct buf map = {0};
    struct buf bytes = {0};
    const struct slice file = sim_disk_file(&world.disk, name);
    buf_append(&bytes, file.data, file.size);
    map_file(name, file, &map);
    for (uint64_t bit = 0; bit < 8 * bytes.size; bit++) {
        if ((*turn)++ % stride(bytes.data[bit / 8]) != 0) continue;
        judge_flip(name, bit, (enum region)map.data[bit / 8]);
    }
    buf_close(&bytes);
    buf_close(&map);
}

static void flip_all(bool marked, bool compacts)
{
    memset(counts, 0, sizeof counts);
    world_init(&world, 1);
    world.compacts = compacts;
    world.packs = compacts;
    EXPECT_TRUE(world_small(&world));
    if (marked) {
        EXPECT_TRUE(world_idle(&world));
        world_close(&world);
    } else {
        world_crash(&world, false);
    }
    sim_disk_save(&world.disk, &image);
    now = world.now;
    struct buf names = {0};
    uint64_t turn = 0;
    sim_disk_names(&world.disk, &names);
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        flip_file(name, &turn);
    }
    buf_close(&names);
    sim_image_close(&image);
    world_end(&world);
    expect_counts();
}

TEST(every_flip, u2_f07_any_bit_after_a_kill)
{
    flip_all(false, false);
    flip_all(false, true);
}

TEST(every_flip, u2_f07_any_bit_after_a_clean_stop)
{
    flip_all(true, false);
    flip_all(true, true);
}
