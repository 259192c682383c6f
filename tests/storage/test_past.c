/* Tests of storage/past.c against a model: keys that change at random while they are walked are shown as they were at
 * one revision, in either direction, with any bound on the memory of changes. */
#include "storage/past.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "tests/test.h"

#define KEYS 60u
#define CHANGES_MAX 4000u
#define FILE_CHANGES 25u /* changes that one file holds */

struct state {
    uint64_t revision; /* 0: it does not exist */
    uint64_t expiry_ms;
    struct place place; /* of its value */
};

struct change {
    uint32_t key;
    uint8_t kind;
    uint8_t flags;
    uint64_t revision, previous, expiry_ms;
};

struct world {
    struct prng prng;
    struct keydir *keys;
    struct state now[KEYS];
    struct state then[KEYS]; /* at the revision of the view */
    struct change changes[CHANGES_MAX];
    uint32_t count;
    uint64_t newest;
    struct past past;
    bool has_past;
    uint32_t restarts;
};

static struct world world; /* too big for the stack */

static struct slice name_of(uint32_t key, char name[16])
{
    (void)snprintf(name, 16, "k%02u", key);
    return slice_text(name);
}

static struct place place_of(const struct change *change)
{
    const uint32_t at = (uint32_t)(change - world.changes);
    return (struct place){.file = 1 + at / FILE_CHANGES, .offset = 8 * (at % FILE_CHANGES + 1)};
}

static uint64_t below(uint64_t bound)
{
    return prng_below(&world.prng, bound);
}

/* One more change of one key. Without a value that is inline: its place tells which it is. */
static void change(uint32_t key, uint8_t kind, uint8_t flags, uint64_t expiry_ms)
{
    char room[16];
    struct state *state = &world.now[key];
    const struct slice name = name_of(key, room);
    const struct slice value = slice_of(NULL, VALUE_INLINE_MAX + 10);
    CHECK(world.count < CHANGES_MAX);
    if (kind != EFFECT_PUT && state->revision == 0) return;
    if (world.has_past) past_note(&world.past, name, keydir_find(world.keys, name));
    struct change *change = &world.changes[world.count++];
    *change = (struct change){.key = key,
                              .kind = kind,
                              .flags = flags,
                              .revision = revision_of(1 + world.count, 0),
                              .previous = state->revision,
                              .expiry_ms = expiry_ms};
    world.newest = change->revision;
    if (kind == EFFECT_DELETE) {
        change->expiry_ms = state->expiry_ms;
        *state = (struct state){0};
        EXPECT_TRUE(keydir_remove(world.keys, name, NULL));
        return;
    }
    if (kind == EFFECT_PUT) state->place = place_of(change);
    state->revision = change->revision;
    state->expiry_ms = expiry_ms;
    if (kind == EFFECT_PUT) {
        keydir_put(world.keys, name, value, 0, change->revision, expiry_ms, state->place, NULL);
    } else {
        EXPECT_TRUE(keydir_expire(world.keys, name, change->revision, expiry_ms));
    }
}

static void change_some(uint64_t count)
{
    for (; count > 0; count--) {
        const uint64_t dice = below(10);
        const uint64_t expiry_ms = below(3) == 0 ? 1 + below(1000) : 0;
        const uint8_t kind = dice < 6 ? EFFECT_PUT : dice < 8 ? EFFECT_DELETE : EFFECT_EXPIRE_AT;
        const uint32_t key = (uint32_t)below(KEYS);
        const bool is_expired = kind == EFFECT_DELETE && world.now[key].expiry_ms != 0;
        change(key, kind, is_expired ? EFFECT_FLAG_EXPIRED : 0, expiry_ms);
    }
}

static void world_open(uint64_t seed)
{
    world = (struct world){.prng = prng_seed(seed), .keys = keydir_create(seed)};
}

static void world_close(void)
{
    if (world.has_past) past_close(&world.past);
    keydir_destroy(world.keys);
}

static void look_from_now(struct slice from, struct slice to, bool is_reverse, uint64_t size_max)
{
    past_open(&world.past, world.newest, from, to, is_reverse);
    world.past.stamp_ms = 500;
    world.past.size_max = size_max;
    world.has_past = true;
    memcpy(world.then, world.now, sizeof world.then);
}

/* All of the view from the log, and the places from the files, the newest first. */
static void from_the_log(void)
{
    const uint32_t files = (world.count + FILE_CHANGES - 1) / FILE_CHANGES;
    for (uint32_t i = 0; i < world.count; i++) {
        char room[16];
        const struct change *change = &world.changes[i];
        const struct effect effect = {.kind = change->kind,
                                      .flags = change->flags,
                                      .expiry_ms = change->expiry_ms,
                                      .previous_revision = change->previous,
                                      .key = name_of(change->key, room)};
        past_note_effect(&world.past, &effect, change->revision);
    }
    past_check(&world.past);
    for (uint32_t file = files; file > 0; file--) {
        for (uint32_t i = (file - 1) * FILE_CHANGES; i < world.count && i < file * FILE_CHANGES;
             i++) {
            char room[16];
            const struct change *change = &world.changes[i];
            const struct hint_entry entry = {.kind = change->kind,
                                             .flags = change->flags,
                                             .value_size = VALUE_INLINE_MAX + 10,
                                             .revision = change->revision,
                                             .expiry_ms = change->expiry_ms,
                                             .key = name_of(change->key, room)};
            past_offer(&world.past, &entry, place_of(change));
            past_check(&world.past);
        }
    }
    past_settle(&world.past);
    EXPECT_EQ(world.past.wanting, 0);
}

static bool is_seen(uint32_t key)
{
    const struct state *state = &world.then[key];
    return state->revision != 0 && (state->expiry_ms == 0 || state->expiry_ms > 500);
}

/* Walks on by at most @count keys. @next is the key that was to come, in the direction of the walk; KEYS or UINT32_MAX:
 * none. False: the end. */
static bool walk(uint32_t count, int64_t *next, int64_t last, int step)
{
    char room[16];
    struct past_walk walk;
    const struct keydir_entry *item = NULL;
    if (past_is_outside(&world.past)) {
        world.restarts++;
        past_restart(&world.past);
        from_the_log();
    }
    past_begin(&world.past, world.keys, &walk);
    for (;;) {
        const enum past_step found = past_next(&world.past, &walk, &item);
        if (found == PAST_END) {
            while (*next != last && !is_seen((uint32_t)*next)) *next += step;
            EXPECT_EQ(*next, last);
            return false;
        }
        if (found == PAST_EDGE) {
            past_pass_window(&world.past);
            return true;
        }
        const struct keydir_info info = keydir_info(item);
        if (found == PAST_KEY) {
            while (*next != last && !is_seen((uint32_t)*next)) *next += step;
            EXPECT_TRUE(*next != last);
            const struct state *state = &world.then[*next];
            EXPECT_TRUE(slice_equal(info.key, name_of((uint32_t)*next, room)));
            EXPECT_EQ(info.revision, state->revision);
            EXPECT_EQ(info.expiry_ms, state->expiry_ms);
            EXPECT_EQ(info.place.file, state->place.file);
            EXPECT_EQ(info.place.offset, state->place.offset);
            *next += step;
        }
        past_pass(&world.past, info.key);
        if (--count == 0) return true;
    }
}

static void walk_while_it_changes(uint64_t seed, bool is_reverse, uint64_t size_max, bool is_late)
{
    char from_room[16];
    char to_room[16];
    world_open(seed);
    change_some(200 + below(200));
    const uint32_t first = (uint32_t)below(KEYS / 2);
    const uint32_t end = (uint32_t)(first + 1 + below(KEYS - first - 1));
    const bool is_open = below(3) == 0;
    look_from_now(is_open ? slice_of("", 0) : name_of(first, from_room),
                  is_open ? slice_of("", 0) : name_of(end, to_room), is_reverse, size_max);
    world.past.is_last = below(2) == 0;
    if (is_late) { /* Opened at a revision that is past already. */
        world.has_past = false;
        change_some(1 + below(300));
        world.has_past = true;
        past_restart(&world.past);
        from_the_log();
    }
    const int64_t low = is_open ? 0 : first;
    const int64_t high = is_open ? KEYS : end;
    int64_t next = is_reverse ? high - 1 : low;
    const int64_t last = is_reverse ? low - 1 : high;
    while (walk(1 + (uint32_t)below(8), &next, last, is_reverse ? -1 : 1)) {
        change_some(below(30));
        past_check(&world.past);
    }
    /* Whoever may come back sees the same again, from the beginning or from a place. */
    if (!world.past.is_last) {
        past_rewind(&world.past);
        next = is_reverse ? high - 1 : low;
        while (walk(KEYS, &next, last, is_reverse ? -1 : 1)) change_some(below(5));
    }
    world_close();
}

TEST(past, keys_are_as_they_were_while_they_change)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        walk_while_it_changes(seed, seed % 2 == 0, UINT64_MAX, false);
        EXPECT_EQ(world.restarts, 0);
        walk_while_it_changes(seed, seed % 2 == 1, UINT64_MAX, true);
    }
}

TEST(past, with_little_memory_the_log_is_read_again)
{
    uint64_t restarts = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        walk_while_it_changes(seed, seed % 2 == 0, 600 + seed * 40, seed % 3 == 0);
        restarts += world.restarts;
    }
    EXPECT_TRUE(restarts > 60);
}

/* ---- one thing at a time ---------------------------------------------------------------------------------- */

static enum past_step step_at(struct past_walk *walk, const char *name)
{
    const struct keydir_entry *item = NULL;
    const enum past_step step = past_next(&world.past, walk, &item);
    if (step == PAST_KEY || step == PAST_SKIP) {
        EXPECT_TRUE(slice_equal(keydir_info(item).key, slice_text(name)));
    }
    return step;
}

TEST(past, only_the_first_change_counts)
{
    struct past_walk walk;
    world_open(1);
    change(1, EFFECT_PUT, 0, 0);
    look_from_now(slice_of("", 0), slice_of("", 0), false, UINT64_MAX);
    change(0, EFFECT_PUT, 0, 0);
    change(0, EFFECT_DELETE, 0, 0);
    change(0, EFFECT_PUT, 0, 0);
    change(1, EFFECT_EXPIRE_AT, 0, 7);
    change(1, EFFECT_DELETE, EFFECT_FLAG_EXPIRED, 0);
    past_begin(&world.past, world.keys, &walk);
    EXPECT_EQ(step_at(&walk, "k00"), PAST_SKIP);
    EXPECT_EQ(step_at(&walk, "k01"), PAST_KEY);
    EXPECT_EQ(step_at(&walk, ""), PAST_END);
    EXPECT_EQ(keydir_count(world.past.undo), 2);
    world_close();
}

TEST(past, what_is_outside_of_the_range_or_was_passed_costs_nothing)
{
    struct past_walk walk;
    world_open(2);
    for (uint32_t key = 0; key < 10; key++) change(key, EFFECT_PUT, 0, 0);
    look_from_now(slice_text("k03"), slice_text("k07"), false, UINT64_MAX);
    world.past.is_last = true;
    past_begin(&world.past, world.keys, &walk);
    EXPECT_EQ(step_at(&walk, "k03"), PAST_KEY);
    past_pass(&world.past, slice_text("k03"));
    change(2, EFFECT_DELETE, 0, 0);
    change(3, EFFECT_DELETE, 0, 0);
    change(7, EFFECT_DELETE, 0, 0);
    EXPECT_EQ(keydir_count(world.past.undo), 0);
    change(6, EFFECT_DELETE, 0, 0);
    EXPECT_EQ(keydir_count(world.past.undo), 1);
    past_narrow(&world.past, slice_text("k04"), slice_text("k06"));
    past_begin(&world.past, world.keys, &walk);
    EXPECT_EQ(step_at(&walk, "k04"), PAST_KEY);
    EXPECT_EQ(step_at(&walk, "k05"), PAST_KEY);
    EXPECT_EQ(step_at(&walk, ""), PAST_END);
    world_close();
}

TEST(past, an_effect_of_the_same_entry_is_before_it)
{
    const struct effect effect = {
        .kind = EFFECT_DELETE, .previous_revision = 1, .key = slice_text("k00")};
    world_open(3);
    past_open(&world.past, revision_of(9, 0), slice_of("", 0), slice_of("", 0), false);
    world.has_past = true;
    /* Its place 0 in entry 9 is within the view, that in entry 10 is not. */
    past_note_effect(&world.past, &effect, revision_of(10, 1));
    EXPECT_FALSE(past_wants(&world.past, slice_text("k00")));
    EXPECT_EQ(keydir_info(keydir_find(world.past.undo, slice_text("k00"))).revision, 0);
    past_restart(&world.past);
    const struct effect within = {
        .kind = EFFECT_PUT, .previous_revision = 1, .key = slice_text("k01")};
    past_note_effect(&world.past, &within, revision_of(9, 1));
    EXPECT_TRUE(past_wants(&world.past, slice_text("k01")));
    EXPECT_EQ(world.past.wanted_max, revision_of(9, 0));
    EXPECT_FALSE(past_wants(&world.past, slice_text("k02")));
    past_check(&world.past);
    world_close();
}

TEST(past, what_expired_before_the_view_is_not_looked_for)
{
    const struct effect effect = {.kind = EFFECT_DELETE,
                                  .flags = EFFECT_FLAG_EXPIRED,
                                  .expiry_ms = 500,
                                  .previous_revision = revision_of(2, 0),
                                  .key = slice_text("k00")};
    world_open(4);
    past_open(&world.past, revision_of(9, 0), slice_of("", 0), slice_of("", 0), false);
    world.has_past = true;
    world.past.stamp_ms = 499;
    past_note_effect(&world.past, &effect, revision_of(10, 0));
    EXPECT_TRUE(past_wants(&world.past, slice_text("k00")));
    past_restart(&world.past);
    world.past.stamp_ms = 500;
    past_note_effect(&world.past, &effect, revision_of(10, 0));
    EXPECT_FALSE(past_wants(&world.past, slice_text("k00")));
    EXPECT_EQ(world.past.wanting, 0);
    world_close();
}
