/* Tests of storage/store*.c: whatever happens to process and disk, the store is what the model says. */
#include "tests/storage/store_model.h"

static struct model model; /* too big for the stack */

TEST(store, a_new_folder_is_blank_until_bootstrap)
{
    model_init(&model, 1);
    model_open(&model);
    EXPECT_TEXT(model.message, "");
    EXPECT_TRUE(store_blank(model.store));
    EXPECT_EQ(store_first_index(model.store), 1);
    EXPECT_EQ(store_last_index(model.store), 0);
    EXPECT_EQ(store_term(model.store), 0);
    EXPECT_EQ(store_base(model.store).index, 0);
    store_close(model.store);
    model_bootstrap(&model);
    EXPECT_EQ(store_term(model.store), 1);
    EXPECT_EQ(store_voted_for(model.store), 0);
    EXPECT_EQ(store_last_index(model.store), 1);
    model_restart(&model);
    EXPECT_FALSE(store_blank(model.store));
    model_compare_log(&model);
    store_close(model.store);
    model_close(&model);
}

TEST(store, an_interrupted_bootstrap_is_all_or_can_be_done_again)
{
    uint32_t again = 0;
    bool stopped = true;
    for (uint64_t n = 1; stopped; n++) {
        model_init(&model, n);
        model_open(&model);
        model.term = 1;
        model_add(&model, RECORD_CHANGE, slice_text("the first configuration"));
        const struct slice record = buf_slice(&model.entries[1]->record);
        sim_disk_stop_after(&model.disk, n);
        EXPECT_EQ(store_bootstrap(model.store, record), OK);
        stopped = sim_disk_stopped(&model.disk);
        store_close(model.store);
        sim_disk_crash(&model.disk);
        model_open(&model);
        if (store_blank(model.store)) {
            again++;
            EXPECT_EQ(store_bootstrap(model.store, record), OK);
        }
        EXPECT_EQ(store_term(model.store), 1);
        EXPECT_EQ(store_last_index(model.store), 1);
        EXPECT_EQ(store_persisted_index(model.store), 1);
        store_close(model.store);
        model_close(&model);
    }
    EXPECT_LT(1, again);
}

TEST(store, votes_survive)
{
    model_init(&model, 1);
    model_bootstrap(&model);
    for (uint64_t term = 2; term < 12; term++) {
        store_save_ballot(model.store, term, term % 3);
        model.term = term;
        if (term % 2 == 0) model_restart(&model);
        if (term % 2 == 1) model_crash(&model, true);
        EXPECT_EQ(store_term(model.store), term);
        EXPECT_EQ(store_voted_for(model.store), term % 3);
    }
    store_close(model.store);
    model_close(&model);
}

static void append_many(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        model_append(&model);
        if (i % 3 == 0) store_flush(model.store);
        if (i % 7 == 0) model_settle(&model);
        if (i % 7 == 0) store_turn(model.store, ++model.now_ms);
    }
    model_settle(&model);
    model_idle(&model);
}

TEST(store, an_entry_of_any_number_of_effects_is_applied_whole)
{
    /* The store looks up KEYDIR_WARM_MAX keys in one go: fewer, exactly as many, more, several times as many. */
    model_init(&model, 6);
    model_bootstrap(&model);
    for (uint32_t count = 0; count <= 3 * KEYDIR_WARM_MAX + 1; count++) {
        struct buf payload = {0};
        buf_u32(&payload, count);
        buf_u32(&payload, 0);
        for (uint32_t i = 0; i < count; i++) model_random_effect(&model, &payload);
        model_add(&model, RECORD_COMMAND, buf_slice(&payload));
        buf_close(&payload);
        store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
        store_flush(model.store);
        model_settle(&model);
        EXPECT_EQ(store_applied_index(model.store), model.last_index);
        model_compare(&model);
    }
    store_close(model.store);
    model_close(&model);
}

static void append_effects(uint32_t count)
{
    struct buf payload = {0};
    buf_u32(&payload, count);
    buf_u32(&payload, 0);
    for (uint32_t i = 0; i < count; i++) model_random_effect(&model, &payload);
    model_add(&model, RECORD_COMMAND, buf_slice(&payload));
    buf_close(&payload);
    store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    EXPECT_EQ(store_flush_wait(model.store), OK);
}

TEST(store, entries_are_applied_in_slices_of_bounded_work_and_each_as_a_whole)
{
    static const uint32_t counts[] = {1, 5, 0, 9, 30, 300, 2, 2, 40, 1};
    model_init(&model, 6);
    model_bootstrap(&model);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) append_effects(counts[i]);
    const uint64_t first = store_applied_index(model.store);
    const uint64_t last = model.last_index;
    CHECK(last - first >= sizeof counts / sizeof *counts);
    bool was_alone = false;
    for (uint32_t slices = 0; store_applied_index(model.store) < last; slices++) {
        const uint64_t before = store_applied_index(model.store);
        uint64_t work = 100;
        EXPECT_LT(slices, last - first);
        EXPECT_EQ(store_apply_some(model.store, last, true, &work), OK);
        const uint64_t after = store_applied_index(model.store);
        EXPECT_LT(before, after);
        uint64_t effects = 0;
        for (uint64_t index = before + 1; index <= after; index++) {
            const uint64_t at = index - (last + 1 - sizeof counts / sizeof *counts);
            if (at < sizeof counts / sizeof *counts) effects += counts[at];
        }
        if (effects >= 100) {
            EXPECT_EQ(after, before + 1);
            EXPECT_EQ(work, 0);
            was_alone = true;
        } else {
            EXPECT_LE(effects, 100 - work);
        }
        /* What is left does not do for the next one, or nothing is left. */
        work = 0;
        EXPECT_EQ(store_apply_some(model.store, last, false, &work), OK);
        EXPECT_EQ(store_applied_index(model.store), after);
    }
    EXPECT_TRUE(was_alone);
    model_apply(&model, last);
    model_compare(&model);
    store_close(model.store);
    model_close(&model);
}

TEST(store, warming_changes_nothing)
{
    static const char *const names[] = {"", "absent", "key-00", "key-11", "key-22", "key-33"};
    struct slice keys[KEYDIR_WARM_MAX];
    bool values[KEYDIR_WARM_MAX];
    model_init(&model, 7);
    model_bootstrap(&model);
    for (uint32_t round = 0; round < 40; round++) {
        append_many(30);
        for (uint32_t i = 0; i < KEYDIR_WARM_MAX; i++) {
            keys[i] = slice_text(names[(i + round) % 6]);
            values[i] = (i + round) % 4 != 0;
        }
        store_warm(model.store, keys, values, round % (KEYDIR_WARM_MAX + 1));
        model_compare(&model);
        if (round % 10 == 9) model_restart(&model); /* Now values are in no memory. */
    }
    store_close(model.store);
    model_close(&model);
}

TEST(store, full_segments_become_the_base)
{
    model_init(&model, 3);
    model_bootstrap(&model);
    append_many(1500);
    const struct store_base base = store_base(model.store);
    EXPECT_LT(1000, base.index);
    EXPECT_LT(4, store_stats(model.store).seals);
    model_compare(&model);
    model_compare_log(&model);
    /* Retention: three segments of sealed log stay readable, older entries do not. */
    EXPECT_LT(2, store_first_index(model.store));
    EXPECT_LT(store_first_index(model.store), base.index);
    const uint64_t first = store_first_index(model.store);
    model_restart(&model);
    EXPECT_EQ(store_first_index(model.store), first);
    EXPECT_EQ(store_base(model.store).index, base.index);
    EXPECT_EQ(store_last_stamp(model.store), 1000000 + model.last_index);
    model_compare_log(&model);
    model_settle(&model);
    model_compare(&model);
    /* A smaller window takes effect at the next start, a larger one too: the files are all there. */
    model.config.retention_size = 0;
    model_restart(&model);
    /* The newest sealed file stays readable in any case. */
    EXPECT_LT(first, store_first_index(model.store));
    EXPECT_LE(store_first_index(model.store), base.index);
    model_compare_log(&model);
    model.config.retention_size = UINT64_MAX;
    model_restart(&model);
    EXPECT_EQ(store_first_index(model.store), 1);
    model_compare_log(&model);
    store_close(model.store);
    model_close(&model);
}

TEST(store, what_a_peer_needs_is_held_beyond_retention)
{
    model_init(&model, 11);
    model.config.retention_size = 0;
    model_bootstrap(&model);
    append_many(600);
    const uint64_t base = store_base(model.store).index;
    EXPECT_LT(0, base);
    store_hold(model.store, base);
    append_many(900);
    EXPECT_LT(base + 100, store_base(model.store).index);
    EXPECT_LE(store_first_index(model.store), base);
    EXPECT_NE(store_term_at(model.store, base), 0);
    model_compare_log(&model);
    store_hold(model.store, UINT64_MAX);
    append_many(300);
    EXPECT_LT(base, store_first_index(model.store));
    model_compare_log(&model);
    store_close(model.store);
    model_close(&model);
}

/* Nobody writes any more when the peer is done: the log that was kept for it goes all the same. */
TEST(store, what_was_held_goes_without_further_writes)
{
    model_init(&model, 12);
    model.config.retention_size = 0;
    model_bootstrap(&model);
    append_many(600);
    const uint64_t base = store_base(model.store).index;
    store_hold(model.store, base);
    append_many(900);
    EXPECT_LE(store_first_index(model.store), base);
    const uint64_t newer = store_base(model.store).index;
    store_hold(model.store, UINT64_MAX);
    model_idle(&model);
    EXPECT_LE(newer, store_first_index(model.store));
    model_compare_log(&model);
    store_close(model.store);
    model_close(&model);
}

TEST(store, nothing_that_is_not_applied_is_sealed)
{
    model_init(&model, 4);
    model_bootstrap(&model);
    for (uint32_t i = 0; i < 800; i++) {
        model_append(&model);
        EXPECT_EQ(store_flush_wait(model.store), OK);
    }
    model_idle(&model);
    EXPECT_LT(4, store_stats(model.store).segments);
    EXPECT_EQ(store_base(model.store).index, 0);
    for (uint64_t index = 1; index <= model.last_index; index += 50) {
        EXPECT_EQ(store_apply(model.store, index), OK);
        model_idle(&model);
        EXPECT_LE(store_base(model.store).index, index);
    }
    EXPECT_LT(500, store_base(model.store).index);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    model_apply(&model, model.last_index);
    model_compare(&model);
    model_restart(&model);
    store_close(model.store);
    model_close(&model);
}

/* One step of a random life. */
static void random_step(void)
{
    struct prng *prng = &model.prng;
    struct store *store = model.store;
    const uint64_t dice = prng_below(prng, 100);
    if (dice < 50) {
        for (uint64_t i = prng_below(prng, 6); i > 0; i--) model_append(&model);
    } else if (dice < 65) {
        store_flush(store);
    } else if (dice < 75) {
        (void)sim_disk_step(&model.disk);
    } else if (dice < 85) {
        const uint64_t room = store_persisted_index(store) - model.applied_index;
        const uint64_t index = model.applied_index + prng_below(prng, room + 1);
        EXPECT_EQ(store_apply(store, index), OK);
        model_apply(&model, index);
    } else if (dice < 95) {
        model.now_ms += prng_below(prng, 30);
        store_turn(store, model.now_ms);
    } else if (dice < 97) {
        /* Entry 1 is committed from the start. */
        const uint64_t first = model.applied_index > 1 ? model.applied_index + 1 : 2;
        if (first > model.last_index) return;
        model_cut(&model, first + prng_below(prng, model.last_index - first + 1));
    } else if (dice == 98) {
        model_compare(&model);
    }
    store_check(store);
}

static void random_hint_damage(void)
{
    struct buf names = {0};
    sim_disk_names(&model.disk, &names);
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        if (strstr(name, ".idx") == NULL || prng_below(&model.prng, 6) > 0) continue;
        const uint64_t size = sim_disk_file(&model.disk, name).size;
        if (prng_below(&model.prng, 2) == 0) {
            EXPECT_TRUE(sim_disk_drop(&model.disk, name));
        } else {
            sim_disk_flip(&model.disk, name, prng_below(&model.prng, size * 8));
        }
    }
    buf_close(&names);
}

TEST(store, a_random_life_with_restarts_and_crashes_loses_nothing)
{
    uint64_t seals = 0;
    uint64_t restarts = 0;
    uint64_t torn = 0;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        model_init(&model, seed);
        model.config.retention_size = seed % 4 * MODEL_SEGMENT_SIZE;
        model.config.tail_size = seed % 3 * MODEL_SEGMENT_SIZE;
        model_bootstrap(&model);
        for (uint32_t i = 0; i < 1500; i++) {
            random_step();
            if (prng_below(&model.prng, 150) > 0) continue;
            restarts++;
            seals += store_stats(model.store).seals;
            if (prng_below(&model.prng, 3) == 0) {
                random_hint_damage();
                model_restart(&model);
            } else {
                model_crash(&model, prng_below(&model.prng, 4) > 0);
                if (model.message[0] != 0) torn++;
            }
            model_compare_log(&model);
        }
        model_settle(&model);
        model_idle(&model);
        model_compare(&model);
        model_compare_log(&model);
        model_restart(&model);
        seals += store_stats(model.store).seals;
        store_close(model.store);
        model_close(&model);
    }
    EXPECT_LT(100, seals);
    EXPECT_LT(100, restarts);
    EXPECT_LT(5, torn);
}

/* A script that seals several segments; then every change of the disk is the last one. */
static void seal_script(void)
{
    model_bootstrap(&model);
    for (uint32_t i = 0; i < 90 && !sim_disk_stopped(&model.disk); i++) {
        for (uint32_t j = 0; j < 8; j++) model_append(&model);
        model_settle(&model);
        model_idle(&model);
    }
}

TEST(store, a_crash_at_any_change_of_the_disk_loses_nothing_durable)
{
    /* Changes of the whole script, then a sample of them one by one. */
    model_init(&model, 7);
    seal_script();
    const uint64_t changes = model.disk.change_count;
    EXPECT_LT(3, store_stats(model.store).seals);
    store_close(model.store);
    model_close(&model);
    for (uint64_t n = 20; n <= changes; n += 3) {
        model_init(&model, 7);
        model_open(&model);
        store_close(model.store);
        model_bootstrap(&model);
        const uint64_t stop = n;
        sim_disk_stop_after(&model.disk, stop);
        uint64_t durable = 1;
        for (uint32_t i = 0; i < 90; i++) {
            for (uint32_t j = 0; j < 8; j++) model_append(&model);
            model_settle(&model);
            if (sim_disk_stopped(&model.disk)) break;
            durable = store_persisted_index(model.store);
            model_idle(&model);
            if (sim_disk_stopped(&model.disk)) break;
        }
        store_close(model.store);
        sim_disk_crash(&model.disk);
        model_open(&model);
        model_adopt(&model, durable);
        model_compare(&model);
        model_compare_log(&model);
        model_settle(&model);
        model_idle(&model);
        model_compare(&model);
        store_close(model.store);
        model_close(&model);
    }
}
