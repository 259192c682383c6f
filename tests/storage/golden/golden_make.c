/* golden_make.c - makes the golden directories of the format versions that this program writes.
 *
 *   build/release/bin/golden_make tests/storage/golden/vN
 *
 * Run it once, when a format version is new, and never over an existing directory: what lies there was written by the
 * program of its time, and every later program must read it. Each state of a store becomes a pack of its files and a
 * text that says what is in it; tests/storage/test_golden.c compares. */
#include <stdio.h>
#include <unistd.h>

#include "tests/storage/crash_world.h"
#include "tests/storage/golden_pack.h"

static struct world world;

static bool fail(const char *what)
{
    fprintf(stderr, "golden_make: %s %s\n", what, world.wrong);
    return false;
}

/* With all that the formats of today can hold. */
static void begin(uint64_t seed)
{
    world_init(&world, seed);
    world.compacts = true;
    world.packs = true;
}

/* Keeps the disk as it is, with what a start finds in it. */
static bool keep(const char *folder, const char *name)
{
    struct buf pack = {0};
    struct buf text = {0};
    char path[512];
    golden_pack(&world.disk, &pack);
    if (world_judge(&world) != WORLD_RIGHT) return fail("is not right:");
    world_dump(&world, &text);
    (void)snprintf(path, sizeof path, "%s/%s.pack", folder, name);
    if (access(path, F_OK) == 0) return fail("exists already");
    bool good = golden_write(path, buf_slice(&pack));
    (void)snprintf(path, sizeof path, "%s/%s.txt", folder, name);
    good = good && golden_write(path, buf_slice(&text));
    buf_close(&pack);
    buf_close(&text);
    world_end(&world);
    return good ? true : fail("cannot write");
}

static bool make_stopped(const char *folder)
{
    begin(1);
    if (!world_small(&world) || !world_idle(&world)) return fail("no life");
    world_close(&world);
    return keep(folder, "stopped");
}

static bool make_killed(const char *folder)
{
    begin(2);
    if (!world_small(&world)) return fail("no life");
    world_crash(&world, false);
    return keep(folder, "killed");
}

/* The power went in the middle of a group; a hint is missing too. */
static bool make_torn(const char *folder)
{
    for (uint64_t seed = 3; seed < 100; seed++) {
        begin(seed);
        if (!world_small(&world)) return fail("no life");
        sim_disk_stop_after(&world.disk, 1);
        (void)world_group(&world, 3);
        world_crash(&world, true);
        struct sim_image image;
        sim_disk_save(&world.disk, &image);
        const bool good = world_judge(&world) == WORLD_RIGHT;
        const bool torn = strstr(world.message, "torn tail") != NULL;
        if (world.store != NULL) world_crash(&world, false);
        sim_disk_restore(&world.disk, &image);
        sim_image_close(&image);
        if (good && torn) break;
        world_end(&world);
    }
    (void)sim_disk_drop(&world.disk, WORLD_FOLDER "/00000002.idx");
    return keep(folder, "torn");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "Usage: golden_make DIR\n");
        return 1;
    }
    return make_stopped(argv[1]) && make_killed(argv[1]) && make_torn(argv[1]) ? 0 : 1;
}
