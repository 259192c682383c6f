/* Tests of storage/store_compact*.c: whatever is compacted whenever, the keys are what the model says, after any
 * crash too; space comes back and little is written for it. (F08, F11: what a full disk does to it; U7: a crash
 * between any two operations.) */
#include "tests/storage/store_model.h"

#include "storage/store_space.h"

static struct model model; /* too big for the stack */

static void start(uint64_t seed)
{
    model_init(&model, seed);
    model.config.segment_size = 16 * 1024;
    model.config.retention_size = seed % 3 * 16 * 1024;
    model.config.tail_size = seed % 4 * 16 * 1024;
    model.config.compaction_rate = 1ull << 30;
    model_bootstrap(&model);
}

static struct store_compaction figures(void)
{
    return store_compaction(model.store);
}

/* One step of a random life, of which most is the disk's and compaction's. */
static void step(void)
{
    struct prng *prng = &model.prng;
    struct store *store = model.store;
    const uint64_t dice = prng_below(prng, 100);
    if (dice < 15) {
        for (uint64_t i = prng_below(prng, 6); i > 0; i--) model_append(&model);
    } else if (dice < 25) {
        store_flush(store);
    } else if (dice < 60) {
        (void)sim_disk_step(&model.disk);
    } else if (dice < 68) {
        const uint64_t room = store_persisted_index(store) - model.applied_index;
        const uint64_t index = model.applied_index + prng_below(prng, room + 1);
        EXPECT_EQ(store_apply(store, index), OK);
        model_apply(&model, index);
    } else if (dice < 98) {
        model.now_ms += prng_below(prng, 30);
        store_turn(store, model.now_ms);
    } else if (dice < 99) {
        const uint64_t first = model.applied_index > 1 ? model.applied_index + 1 : 2;
        if (first > model.last_index) return;
        model_cut(&model, first + prng_below(prng, model.last_index - first + 1));
    } else {
        model_compare(&model);
    }
    store_check(store);
}

TEST(store_compact, a_random_life_with_restarts_and_crashes_loses_nothing)
{
    uint64_t jobs = 0;
    uint64_t restarts = 0;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        start(seed);
        for (uint32_t i = 0; i < 6000; i++) {
            step();
            if (prng_below(&model.prng, 600) > 0) continue;
            restarts++;
            jobs += figures().jobs;
            if (prng_below(&model.prng, 4) == 0) {
                model_restart(&model);
            } else {
                model_crash(&model, prng_below(&model.prng, 4) > 0);
            }
            model_compare_log(&model);
        }
        model_settle(&model);
        model_idle(&model);
        model_compare(&model);
        model_compare_log(&model);
        jobs += figures().jobs;
        model_restart(&model);
        store_close(model.store);
        model_close(&model);
    }
    print_message("%llu jobs, %llu restarts\n", (unsigned long long)jobs,
                  (unsigned long long)restarts);
    EXPECT_LT(300, jobs);
    EXPECT_LT(100, restarts);
}

static uint64_t durable;

/* A script in which several tables are written, some of them from tables. The power may go during it. */
static void script(uint64_t stop_after)
{
    start(7);
    if (stop_after > 0) sim_disk_stop_after(&model.disk, stop_after);
    durable = 1;
    for (uint32_t i = 0; i < 60 && !sim_disk_stopped(&model.disk); i++) {
        for (uint32_t j = 0; j < 6; j++) model_append(&model);
        model_settle(&model);
        if (!sim_disk_stopped(&model.disk)) durable = model.last_index;
        model_idle(&model);
    }
}

TEST(store_compact, u7_a_crash_at_any_change_of_the_disk_loses_nothing)
{
    script(0);
    const uint64_t changes = model.disk.change_count;
    EXPECT_LT(3, figures().jobs);
    store_close(model.store);
    model_close(&model);
    for (uint64_t n = 1; n < changes; n += 1 + n % 7) {
        script(n);
        store_close(model.store);
        sim_disk_crash(&model.disk);
        model_open(&model);
        model_adopt(&model, durable);
        model_compare(&model);
        for (uint32_t j = 0; j < 20; j++) model_append(&model);
        model_settle(&model);
        model_idle(&model);
        model_compare(&model);
        store_close(model.store);
        model_close(&model);
    }
}

TEST(store_compact, what_was_asked_for_ends_where_there_is_nothing_to_do)
{
    start(3);
    store_compact(model.store); /* nothing is sealed at all */
    model_idle(&model);
    EXPECT_FALSE(figures().is_forced);
    /* One sealed file is the newest, which is left alone; more become one, and then it is over too. */
    for (uint32_t i = 0; i < 30; i++) {
        for (uint32_t j = 0; j < 3; j++) model_append(&model);
        model_settle(&model);
        store_compact(model.store);
        model_idle(&model);
        EXPECT_FALSE(figures().is_forced);
        EXPECT_FALSE(figures().is_running);
    }
    EXPECT_LT(0, figures().jobs);
    model_compare(&model);
    store_close(model.store);
    model_close(&model);
}

/* ---- what makes a table durable ------------------------------------------------------------------- */

static void (*submit_sound)(void *context, struct disk_op *op);

/* A file that is not longer than what it is cut to stays as it is, and is not synced for it either. */
static void submit_without_trims(void *context, struct disk_op *op)
{
    if (op->kind != DISK_TRIM) {
        submit_sound(context, op);
        return;
    }
    op->result = OK;
    op->done(op);
}

TEST(store_compact, f02_every_group_of_a_table_is_synced_by_itself)
{
    uint64_t jobs = 0;
    for (uint64_t seed = 301; seed <= 316; seed++) {
        start(seed);
        submit_sound = model.disk.disk.submit;
        model.disk.disk.submit = submit_without_trims;
        for (uint32_t i = 0; i < 400; i++) {
            model_append(&model);
            if (i % 9 == 0) model_settle(&model);
        }
        model_settle(&model);
        model_idle(&model);
        jobs += figures().jobs;
        model_crash(&model, true);
        model_compare(&model);
        store_close(model.store);
        model_close(&model);
    }
    EXPECT_TRUE(jobs > 16);
}
