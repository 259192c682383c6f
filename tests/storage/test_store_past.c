/* Tests of storage/store_past.c: the keys at any revision that is kept against a model, whatever was sealed, compacted
 * or started again since; entries in both directions; and what it says when what it needs is gone or cannot be read. */
#include "storage/store_past.h"

#include "storage/base/limits.h"
#include "tests/storage/store_model.h"

#define SHOTS_MAX 64u
#define KEYS_USED 20u

/* The keys at one revision. */
struct shot {
    uint64_t revision;
    uint64_t stamp_ms;
    struct model_key keys[MODEL_KEYS]; /* without values */
};

static struct model model; /* too big for the stack */
static struct shot shots[SHOTS_MAX];
static uint32_t shot_count;

static void start(uint64_t seed, uint64_t retention)
{
    model_init(&model, seed);
    model.config.segment_size = 16 * 1024;
    model.config.retention_size = retention;
    model.config.tail_size = 16 * 1024;
    model.config.compaction_rate = 1ull << 30;
    model_bootstrap(&model);
    model_settle(&model);
    shot_count = 0;
}

static void stop(void)
{
    store_close(model.store);
    model_close(&model);
}

/* One entry that changes one key, and says what it was before. */
static void change(uint8_t kind)
{
    static uint8_t bytes[3000];
    char name[400];
    struct buf payload = {0};
    const uint32_t at = (uint32_t)prng_below(&model.prng, KEYS_USED);
    const struct model_key *key = &model.keys[at];
    if (kind != EFFECT_PUT && !key->exists) return;
    model_key_name(at, name);
    struct effect effect = {.kind = kind,
                            .previous_revision = key->exists ? key->revision : 0,
                            .key = slice_text(name)};
    if (kind != EFFECT_DELETE && prng_below(&model.prng, 3) == 0) {
        effect.expiry_ms = 1000000 + prng_below(&model.prng, 2000);
    }
    if (kind == EFFECT_DELETE) effect.expiry_ms = key->expiry_ms;
    if (kind == EFFECT_PUT) {
        memset(bytes, (int)at, sizeof bytes);
        effect.value = slice_of(bytes, 1 + prng_below(&model.prng, sizeof bytes - 1));
    }
    buf_u32(&payload, 1);
    buf_u32(&payload, 0);
    effect_encode(&effect, &payload);
    model_add(&model, RECORD_COMMAND, buf_slice(&payload));
    store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    buf_close(&payload);
    model_settle(&model);
}

static void change_some(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t dice = prng_below(&model.prng, 10);
        change(dice < 7 ? EFFECT_PUT : dice < 9 ? EFFECT_DELETE : EFFECT_EXPIRE_AT);
    }
}

static void shoot(void)
{
    CHECK(shot_count < SHOTS_MAX);
    struct shot *shot = &shots[shot_count++];
    shot->revision = store_newest_revision(model.store);
    shot->stamp_ms = get_u64(model.entries[model.applied_index]->record.data + 32);
    memcpy(shot->keys, model.keys, sizeof shot->keys);
}

/* Until the view is complete, a few units at a time. */
static enum err finish(struct store_past *view, int64_t units)
{
    for (uint32_t i = 0; i < 100000; i++) {
        int64_t budget = units;
        const enum err err = store_past_step(view, &budget);
        if (err != ERR_AGAIN) return err;
        if (store_past_waits(view)) {
            CHECK(sim_disk_step(&model.disk));
        } else {
            EXPECT_TRUE(budget <= 0);
        }
        store_turn(model.store, model.now_ms);
    }
    fail_msg("the view is never complete");
    return ERR_AGAIN;
}

static uint32_t visible(const struct shot *shot)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < KEYS_USED; i++) {
        const struct model_key *key = &shot->keys[i];
        count += key->exists && (key->expiry_ms == 0 || key->expiry_ms > shot->stamp_ms);
    }
    return count;
}

static void expect_shot(struct store_past *view, const struct shot *shot)
{
    struct past_walk walk;
    const struct keydir_entry *item = NULL;
    uint32_t seen = 0;
    enum past_step step;
    past_check(&view->past);
    past_begin(&view->past, store_keys(model.store), &walk);
    while ((step = past_next(&view->past, &walk, &item)) != PAST_END) {
        EXPECT_TRUE(step == PAST_KEY || step == PAST_SKIP);
        if (step == PAST_SKIP) continue;
        const struct keydir_info info = keydir_info(item);
        const struct model_key *key =
            &shot->keys[10 * (info.key.data[4] - '0') + info.key.data[5] - '0'];
        EXPECT_TRUE(key->exists);
        EXPECT_EQ(info.revision, key->revision);
        EXPECT_EQ(info.expiry_ms, key->expiry_ms);
        if (view->wants_values) EXPECT_TRUE(info.is_inline || info.place.file != 0);
        seen++;
    }
    EXPECT_EQ(view->past.stamp_ms, shot->stamp_ms);
    EXPECT_EQ(seen, visible(shot));
}

static struct store_past *open_at(uint64_t revision)
{
    struct store_past *view = store_past_open(model.store, revision, slice_of("", 0),
                                              slice_of("", 0), false, true);
    EXPECT_TRUE(view != NULL);
    return view;
}

/* Looks at every shot that is still kept, and counts them. */
static uint32_t look_back(void)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < shot_count; i++) {
        struct store_past *view = open_at(shots[i].revision);
        const bool is_kept = shots[i].revision >= store_oldest_revision(model.store);
        const enum err err = finish(view, i % 2 == 0 ? 1 : 1000);
        EXPECT_EQ(err, is_kept ? OK : ERR_NOT_FOUND);
        if (err == OK) expect_shot(view, &shots[i]);
        kept += is_kept;
        store_past_close(view);
    }
    return kept;
}

TEST(store_past, every_revision_that_is_kept_is_told_as_it_was)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        start(seed, seed % 2 == 0 ? 64 * MIB : 64 * KIB);
        for (uint32_t i = 0; i < 12; i++) {
            change_some(10 + (uint32_t)prng_below(&model.prng, 20));
            shoot();
            if (i % 3 == 2) model_idle(&model); /* Files are sealed, and compacted. */
        }
        const uint32_t kept = look_back();
        EXPECT_TRUE(kept > 0);
        if (seed % 2 == 0) EXPECT_EQ(kept, shot_count);
        if (seed % 2 == 1) EXPECT_TRUE(kept < shot_count);
        stop();
    }
}

TEST(store_past, a_start_knows_what_the_log_tells)
{
    start(21, 64 * MIB);
    for (uint32_t i = 0; i < 6; i++) {
        change_some(20);
        shoot();
    }
    model_restart(&model);
    model_settle(&model);
    EXPECT_TRUE(look_back() > 0);
    stop();
}

TEST(store_past, a_view_stays_what_it_is_while_keys_change)
{
    start(22, 64 * MIB);
    change_some(60);
    shoot();
    struct store_past *view = open_at(shots[0].revision);
    change_some(30);
    EXPECT_EQ(finish(view, 3), OK);
    expect_shot(view, &shots[0]);
    for (uint32_t i = 0; i < 5; i++) {
        change_some(20);
        EXPECT_EQ(finish(view, 3), OK);
        expect_shot(view, &shots[0]);
    }
    store_past_close(view);
    stop();
}

TEST(store_past, there_is_a_bound_on_views)
{
    struct store_past *views[STORE_PASTS_MAX];
    start(23, 64 * MIB);
    change_some(5);
    const uint64_t newest = store_newest_revision(model.store);
    for (uint32_t i = 0; i < STORE_PASTS_MAX; i++) views[i] = open_at(newest);
    EXPECT_TRUE(store_past_open(model.store, newest, slice_of("", 0), slice_of("", 0), true,
                                false) == NULL);
    store_past_close(views[7]);
    views[7] = open_at(newest);
    for (uint32_t i = 0; i < STORE_PASTS_MAX; i++) {
        EXPECT_EQ(finish(views[i], 10), OK);
        store_past_close(views[i]);
    }
    store_past_close(NULL);
    stop();
}

TEST(store_past, what_is_not_kept_is_said_at_once_and_stays_so)
{
    start(24, 64 * MIB);
    change_some(10);
    int64_t budget = 10;
    struct store_past *view = open_at(0); /* before the first entry */
    EXPECT_EQ(store_past_step(view, &budget), ERR_NOT_FOUND);
    EXPECT_EQ(budget, 10);
    change_some(3);
    EXPECT_EQ(store_past_step(view, &budget), ERR_NOT_FOUND);
    store_past_close(view);
    stop();
}

TEST(store_past, a_store_that_is_closed_leaves_views_that_mean_nothing)
{
    start(25, 64 * MIB);
    change_some(40);
    const uint64_t revision = store_newest_revision(model.store);
    change_some(40);
    int64_t budget = 1;
    struct store_past *view = open_at(revision);
    EXPECT_EQ(store_past_step(view, &budget), ERR_AGAIN);
    store_close(model.store);
    budget = 1000;
    EXPECT_EQ(store_past_step(view, &budget), ERR_NOT_FOUND);
    store_past_close(view);
    model_close(&model);
}

/* ---- entries of the log ---------------------------------------------------------------------------------- */

static enum err read_entry(struct store_records *records, uint64_t index, uint64_t other,
                           struct record *record)
{
    struct place place;
    for (uint32_t i = 0; i < 1000; i++) {
        const enum err err = store_records_read(model.store, records, index, other, record, &place);
        if (err != ERR_AGAIN) return err;
        EXPECT_TRUE(store_records_waits(records));
        CHECK(sim_disk_step(&model.disk));
    }
    fail_msg("the entry never comes");
    return ERR_AGAIN;
}

TEST(store_past, entries_are_read_in_both_directions)
{
    struct record record;
    struct store_records records = {0};
    start(26, 64 * MIB);
    change_some(120);
    model_restart(&model); /* So that not all of it is in memory. */
    model_settle(&model);
    const uint64_t first = store_first_index(model.store);
    const uint64_t last = model.applied_index;
    EXPECT_TRUE(last > first + 50);
    for (uint64_t index = first; index <= last; index++) {
        EXPECT_EQ(read_entry(&records, index, last, &record), OK);
        EXPECT_EQ(record.index, index);
    }
    for (uint64_t index = last; index >= first; index--) {
        const struct buf *wanted = &model.entries[index]->record;
        EXPECT_EQ(read_entry(&records, index, first, &record), OK);
        EXPECT_EQ(record.index, index);
        EXPECT_TRUE(slice_equal(record.payload,
                                slice_of(wanted->data + RECORD_HEADER_SIZE, record.payload.size)));
    }
    EXPECT_EQ(read_entry(&records, first - 1, last, &record), ERR_NOT_FOUND);
    EXPECT_EQ(read_entry(&records, last + 1, last + 1, &record), ERR_NOT_FOUND);
    store_records_close(model.store, &records);
    stop();
}

/* The name of the file that holds the oldest entry. */
static void oldest_file(char name[SIM_DISK_NAME_MAX + 1])
{
    struct buf names = {0};
    name[0] = 0;
    sim_disk_names(&model.disk, &names);
    for (uint64_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
        const char *found = (const char *)names.data + at;
        const size_t size = strlen(found);
        if (size < 5 || strcmp(found + size - 4, ".log") != 0) continue;
        if (name[0] == 0 || strcmp(found, name) < 0) {
            (void)snprintf(name, SIM_DISK_NAME_MAX + 1, "%s", found);
        }
    }
    buf_close(&names);
}

TEST(store_past, f09_what_the_disk_does_not_give_ends_the_view)
{
    struct record record;
    struct store_records records = {0};
    start(27, 64 * MIB);
    const uint64_t revision = store_newest_revision(model.store);
    change_some(120);
    model_restart(&model);
    model_settle(&model);
    oldest_file(model.disk.read_error);
    EXPECT_TRUE(model.disk.read_error[0] != 0);
    EXPECT_EQ(read_entry(&records, 2, model.applied_index, &record), ERR_IO);
    store_records_close(model.store, &records);
    struct store_past *view = open_at(revision);
    EXPECT_EQ(finish(view, 1000), ERR_IO);
    model.disk.read_error[0] = 0;
    int64_t budget = 1000;
    EXPECT_EQ(store_past_step(view, &budget), ERR_IO); /* It stays lost; another one is not. */
    store_past_close(view);
    view = open_at(revision);
    EXPECT_EQ(finish(view, 1000), OK);
    store_past_close(view);
    stop();
}
