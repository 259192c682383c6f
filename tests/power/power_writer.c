/* power_writer.c - the real store on the real disk, for tests that cut the power under it.
 *
 *   power_writer DIR HISTORY SEED
 *
 * HISTORY is what was acknowledged so far: u64 last index, u64 term, u64 vote, then a u32 term per entry. The
 * program opens DIR and judges it (tests/storage/crash_world.h): everything acknowledged must be there, nothing else
 * than was written, and all keys and values must follow from it. Then it writes on until it is killed, or until it
 * is full. With an even SEED somebody else syncs files on the same disk meanwhile. Each line of its output is
 * something that it vouches for:
 *
 *   open LAST MESSAGE     the start found entries up to LAST, all of them durable
 *   term INDEX TERM       one of those that were not acknowledged before
 *   vote TERM VOTE        the vote is durable
 *   ack LAST TERM         all entries up to LAST are durable; the new ones have this term
 *
 * Exit code 1: what it found is wrong; the last line says why. */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/host/host_disk.h"
#include "node/host/host_folder.h"
#include "storage/base/limits.h"
#include "storage/segment.h"
#include "tests/storage/crash_world.h"
#include "tests/storage/golden_pack.h"

#define SEGMENT_SIZE (2048u * KIB)

static struct world world;
static struct host_disk disk;
static uv_loop_t loop;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    char line[1400];
    va_list args;
    va_start(args, format);
    const int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (write(STDOUT_FILENO, line, (size_t)size) != size) exit(0); /* Nobody listens any more. */
}

static int wrong(const char *what)
{
    say("wrong %s: %s\n", what, world.wrong[0] != 0 ? world.wrong : world.message);
    return 1;
}

static bool read_history(const char *path)
{
    struct buf bytes = {0};
    if (!golden_read(path, &bytes)) return false;
    struct reader reader = reader_of(buf_slice(&bytes));
    world.now.last = reader_u64(&reader);
    world.durable = world.now.last;
    world.ballot.term = reader_u64(&reader);
    world.ballot.vote = reader_u64(&reader);
    if (world.now.last > WORLD_ENTRIES_MAX) return false;
    for (uint64_t i = 1; i <= world.now.last; i++) world.now.term[i] = reader_u32(&reader);
    const bool good = !reader.bad && reader.at == reader.end;
    buf_close(&bytes);
    return good;
}

/* Nobody knows what became of a vote and of entries that were not acknowledged: they are taken from the store, which
 * can hold only what this program once wrote. */
static bool take_unacknowledged(void)
{
    if (world_open(&world) != OK) return false;
    const uint64_t last = store_last_index(world.store);
    if (last > WORLD_ENTRIES_MAX) return false;
    for (uint64_t i = world.now.last + 1; i <= last; i++) {
        world.now.term[i] = (uint32_t)store_term_at(world.store, i);
        if (world.now.term[i] > world.ballot.term + 1) return false;
    }
    if (last > world.now.last) world.now.last = last;
    /* The vote that was under way is the next term's, for the same node. */
    world.voting = (struct world_ballot){.term = world.ballot.term + 1, .vote = WORLD_NODE};
    /* The first life made two: that of the first entry, and one more. */
    if (world.ballot.term == 0 && store_term(world.store) == 1) world.voting.vote = 0;
    if (world.ballot.term == 0 && store_term(world.store) == 2) world.voting.term = 2;
    return true;
}

static bool open_world(const char *folder, const char *history, uint64_t seed)
{
    char message[HOST_FOLDER_MESSAGE_SIZE] = "";
    world_init(&world, seed);
    if (host_disk_open(&disk, folder, message) != OK || uv_loop_init(&loop) != 0 ||
        host_disk_start(&disk, &loop) != OK) {
        (void)snprintf(world.wrong, sizeof world.wrong, "%s", message);
        return false;
    }
    world.config.disk = &disk.disk;
    world.config.random_seed = seed;
    /* Now and then all that was ever written stays readable entry by entry, mostly it is compacted. */
    world.config.retention_size = seed % 4 == 0 ? UINT64_MAX : 0;
    world.config.segment_size = SEGMENT_SIZE;
    world.config.tail_size = 256 * KIB;
    world.value_scale = 30;
    return read_history(history);
}

/* A turn of the loop: completions, seals, spares, marks. */
static void turn(void)
{
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    uv_update_time(&loop);
    store_turn(world.store, uv_now(&loop));
}

/* ---- somebody else on the same disk ------------------------------------------------------------------ */

struct disturber {
    uv_thread_t thread;
    struct prng prng;
};
static struct disturber disturber;

/* Lets blocks in the middle of the newest files reach the device before those in front of them. */
static void write_back(struct prng *prng, uint32_t newest)
{
    for (uint32_t number = newest; number + 2 > newest && number > 0; number--) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(name, WORLD_FOLDER, number);
        const int file = openat(disk.folder, name, O_RDWR | O_CLOEXEC);
        if (file < 0) continue;
        for (uint32_t i = 0; i < 6; i++) {
            const off_t offset = (off_t)prng_below(prng, SEGMENT_SIZE / KIB / 4) * 4096;
            (void)sync_file_range(file, offset, 16384, SYNC_FILE_RANGE_WRITE);
        }
        (void)close(file);
    }
}

static uint32_t newest_segment(void)
{
    uint32_t newest = 0;
    DIR *listing = fdopendir(openat(disk.folder, WORLD_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (listing == NULL) return 0;
    const struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) {
        const uint32_t number = segment_number(entry->d_name);
        if (number > newest) newest = number;
    }
    closedir(listing);
    return newest;
}

/* The journal of the file system is written out again and again because somebody else syncs a file. */
static void disturb(void *context)
{
    struct disturber *self = context;
    const int other = openat(disk.folder, "other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (uint64_t round = 0; other >= 0; round++) {
        const uint32_t newest = newest_segment();
        for (uint32_t i = 0; i < 10; i++) write_back(&self->prng, newest);
        if (pwrite(other, &round, sizeof round, 0) < 0 || fsync(other) != 0) return;
    }
}

/* ---- writing ---------------------------------------------------------------------------------------- */

static int write_on(uint64_t seed)
{
    struct prng prng = prng_seed(seed);
    if (!world_vote(&world, world.ballot.term + 1, WORLD_NODE)) return wrong("vote");
    const uint64_t term = world.ballot.term;
    say("vote %llu %llu\n", (unsigned long long)term, (unsigned long long)WORLD_NODE);
    while (world.now.last + 16 < WORLD_ENTRIES_MAX) {
        /* Now and then a large group, of which a cut tears a part; now and then a pause, and so a mark. */
        const uint32_t count = prng_below(&prng, 3) == 0 ? 24 : 2;
        if (!world_group(&world, count)) return wrong("group");
        say("ack %llu %llu\n", (unsigned long long)world.durable, (unsigned long long)term);
        if (!world_apply(&world)) return wrong("apply");
        turn();
        if (prng_below(&prng, 12) > 0) continue;
        (void)usleep(11000);
        turn();
        turn();
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "Usage: power_writer DIR HISTORY SEED\n");
        return 2;
    }
    const uint64_t seed = strtoull(argv[3], NULL, 10);
    if (!open_world(argv[1], argv[2], seed)) return wrong("start");
    const uint64_t known = world.now.last;
    if (!take_unacknowledged()) return wrong("refused");
    if (world_judge_store(&world) != WORLD_RIGHT) return wrong("found");
    world_adopt(&world);
    if (world.now.last == 0 && !world_bootstrap(&world)) return wrong("bootstrap");
    say("vote %llu %llu\n", (unsigned long long)world.ballot.term,
        (unsigned long long)world.ballot.vote);
    for (uint64_t i = known + 1; i <= world.now.last; i++) {
        say("term %llu %u\n", (unsigned long long)i, world.now.term[i]);
    }
    say("open %llu %s\n", (unsigned long long)world.now.last, world.message);
    disturber.prng = prng_seed(seed);
    if (seed % 2 == 0 && uv_thread_create(&disturber.thread, disturb, &disturber) != 0) return 2;
    const int code = write_on(seed);
    if (code != 0) return code;
    say("full\n");
    (void)pause();
    return 0;
}
