/* U7: a power cut at every change of the disk in the life of a store: making the first files, groups, marks,
 * spares, votes, cuts, hints, manifests, tables, removals. U5, F53: another one at every change of the start that
 * follows, and one more in the start after that. Each time everything acknowledged is there, and the start is never
 * refused. */
#include <stdio.h>

#include "storage/base/check.h"
#include "tests/storage/crash_world.h"
#include "tests/test.h"

static struct world world; /* too big for the stack */

static uint64_t times(uint64_t usual, uint64_t at_night)
{
    return world_long() ? at_night : 1 + usual / world_stride(1);
}

/* A life up to change @stop. False: it has fewer. The world is as the crash left it. */
static bool live_until(uint64_t seed, uint64_t stop)
{
    world_init(&world, seed);
    world.compacts = seed % 2 == 0;
    world.packs = seed % 2 == 0;
    sim_disk_stop_after(&world.disk, stop);
    (void)world_small(&world);
    const bool stopped = sim_disk_stopped(&world.disk);
    world_crash(&world, true);
    return stopped;
}

TEST(every_crash, u7_a_power_cut_at_any_change_of_the_disk_loses_nothing_acknowledged)
{
    uint64_t changes = 0;
    uint64_t torn = 0;
    for (uint64_t seed = 1; seed <= times(25, 2000); seed++) {
        char why[64];
        for (uint64_t stop = 1; live_until(seed, stop); stop++) {
            (void)snprintf(why, sizeof why, "seed %d, change %d", (int)seed, (int)stop);
            world_expect_right(&world, why);
            changes++;
            torn += world.disk.torn_count;
            world_end(&world);
        }
        world_expect_right(&world, "after a life without a crash");
        world_end(&world);
    }
    EXPECT_TRUE(changes > 100);
    EXPECT_TRUE(torn > 20);
}

/* A start that crashes at change @stop. True: it did. */
static bool start_until(uint64_t stop)
{
    sim_disk_stop_after(&world.disk, stop);
    const enum err err = world_open(&world);
    const bool stopped = sim_disk_stopped(&world.disk);
    if (err != OK && !stopped) fail_msg("refused: %s", world.message);
    world_crash(&world, true);
    sim_disk_stop_after(&world.disk, 0);
    return stopped;
}

/* All second crashes after one first crash. */
static uint64_t crash_again(uint64_t seed, uint64_t stop)
{
    struct sim_image image;
    uint64_t count = 0;
    char why[64];
    sim_disk_save(&world.disk, &image);
    const struct world_history now = world.now;
    const struct world_history old = world.old;
    const struct world_ballot ballot = world.ballot;
    const struct world_ballot voting = world.voting;
    const uint64_t durable = world.durable;
    for (uint64_t again = 1;; again++) {
        const bool stopped = start_until(again);
        (void)start_until(1 + again % 3);
        (void)snprintf(why, sizeof why, "seed %d, changes %d and %d", (int)seed, (int)stop,
                       (int)again);
        world_expect_right(&world, why);
        count++;
        world_crash(&world, false);
        sim_disk_restore(&world.disk, &image);
        world.now = now;
        world.old = old;
        world.ballot = ballot;
        world.voting = voting;
        world.durable = durable;
        if (!stopped) break;
    }
    sim_image_close(&image);
    return count;
}

TEST(every_crash, u5_f53_a_crash_in_the_start_after_a_crash_and_one_more_lose_nothing)
{
    uint64_t count = 0;
    for (uint64_t seed = 1; seed <= times(8, 500); seed++) {
        for (uint64_t stop = 1; live_until(seed, stop); stop++) {
            count += crash_again(seed, stop);
            world_end(&world);
        }
        world_end(&world);
    }
    EXPECT_TRUE(count > 100);
}

/* ---- receiving a base ------------------------------------------------------------------------------------- */

static struct world source;
static uint64_t own_last; /* of the receiver, before */

static void make_source(void)
{
    world_init(&source, 500);
    source.compacts = true;
    source.packs = true;
    EXPECT_TRUE(world_small(&source));
    EXPECT_TRUE(store_base(source.store).index > 10);
}

/* A node that lags, or has nothing but a vote, receives a base and crashes at change @stop of that. */
static bool install_until(uint64_t seed, uint64_t stop)
{
    const uint64_t pieces[] = {1 << 20, 5000, 16384};
    world_init(&world, seed);
    world.packs = true;
    if (seed % 2 == 0) EXPECT_TRUE(world_lagging(&world));
    if (seed % 2 == 1) EXPECT_EQ(world_open(&world), OK);
    if (seed % 2 == 1) EXPECT_TRUE(world_vote(&world, 2, 0));
    own_last = world.now.last;
    sim_disk_stop_after(&world.disk, stop);
    const bool done = world_install(&world, &source, pieces[seed % 3]);
    if (done) (void)world_open(&world);
    const bool stopped = sim_disk_stopped(&world.disk);
    if (!stopped) EXPECT_TRUE(done);
    world_crash(&world, true);
    return stopped;
}

/* The old state or the new one, nothing in between. */
static void expect_old_or_new(const char *why)
{
    const enum world_verdict verdict = world_judge(&world);
    if (verdict != WORLD_RIGHT) {
        fail_msg("%s: %s: %s", why, world_verdict_name(verdict), world.wrong);
    }
    const uint64_t last = store_last_index(world.store);
    EXPECT_TRUE(last == own_last || last == store_base(source.store).index);
    EXPECT_TRUE(last == 0 || store_base(world.store).index <= last);
    world_adopt(&world);
    world_close(&world);
}

TEST(every_crash, u7_u5_a_power_cut_at_any_change_of_an_installation_leaves_old_or_new)
{
    uint64_t count = 0;
    make_source();
    for (uint64_t seed = 1; seed <= times(12, 600); seed++) {
        char why[64];
        for (uint64_t stop = 1; install_until(seed, stop); stop++) {
            (void)snprintf(why, sizeof why, "seed %d, change %d", (int)seed, (int)stop);
            (void)start_until(1 + stop % 5);
            expect_old_or_new(why);
            if (world.now.last > 0) world_expect_right(&world, why);
            count++;
            world_end(&world);
        }
        expect_old_or_new("after a whole installation");
        EXPECT_EQ(world.now.last, store_base(source.store).index);
        world_end(&world);
    }
    world_end(&source);
    EXPECT_TRUE(count > 20);
}
