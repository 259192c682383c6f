/* U6, F08, F09, F10, F11, F12: every call of the disk fails once, or from then on, with every error that it can
 * give, at every place of a store's life. The store refuses, tries again, or ends the process with the code for
 * failed disks. Then the disk is sound again, and everything that was acknowledged is there. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/base/check.h"
#include "tests/storage/crash_world.h"
#include "tests/test.h"

enum call {
    CALL_OPEN,
    CALL_SIZE,
    CALL_READ,
    CALL_WRITE_SYNC,
    CALL_CREATE,
    CALL_REPLACE,
    CALL_RENAME,
    CALL_REMOVE,
    CALL_FOLDER,
    CALL_LIST,
    CALL_SPACE,
    CALL_OP_WRITE, /* of the log */
    CALL_OP_WRITE_OTHER,
    CALL_OP_CREATE,
    CALL_OP_REPLACE,
    CALL_OP_READ,
    CALL_OP_REMOVE,
    CALL_OP_TRIM,
    CALL_COUNT,
};
static const char *const call_names[] = {
    "open",
    "size",
    "read",
    "write_sync",
    "create",
    "replace",
    "rename",
    "remove",
    "make_folder",
    "list",
    "space",
    "write of the log",
    "write elsewhere",
    "create (submitted)",
    "replace (submitted)",
    "read (submitted)",
    "remove (submitted)",
    "trim",
};

/* How a call fails. */
enum way {
    WAY_NOT_DONE, /* once, and nothing happened */
    WAY_DONE,     /* once, although it happened: the sync behind it failed */
    WAY_EVER,     /* from then on, and nothing happens any more */
    WAY_COUNT,
};

struct order {
    enum call call;
    enum err error;
    enum way way;
    uint64_t number; /* of the call that fails; 0: none */
};

/* The disk between store and virtual disk. */
static struct disk faulty;
static struct disk *inner;
static struct order order;
static uint64_t seen;
static uint64_t hits;
static struct world world;
static struct world source; /* of a base */

/* ---- the end of the process ---------------------------------------------------------------------------- */

static jmp_buf end_of_process;
static bool is_caught;
static int exit_code;

/* Takes the place of the C library's: a store that ends the process ends its part of the test instead. */
_Noreturn void _exit(int code)
{
    exit_code = code;
    if (is_caught) longjmp(end_of_process, 1);
    (void)syscall(SYS_exit_group, code);
    abort();
}

/* ---- the failing disk ----------------------------------------------------------------------------------- */

static bool hit(enum call call)
{
    if (order.number == 0 || order.call != call) return false;
    seen++;
    const bool is_hit = order.way == WAY_EVER ? seen >= order.number : seen == order.number;
    hits += is_hit;
    return is_hit;
}

/* The calls that change nothing, or all or nothing: they fail before. */
#define FAILS(call)                                                                                \
    if (hit(call)) return order.error

static enum err do_open(void *context, const char *name, bool writable, disk_file *file)
{
    (void)context;
    *file = -1;
    FAILS(CALL_OPEN);
    return inner->open(inner->context, name, writable, file);
}

static void do_close(void *context, disk_file file)
{
    (void)context;
    inner->close(inner->context, file);
}

static enum err do_size(void *context, disk_file file, uint64_t *size)
{
    (void)context;
    FAILS(CALL_SIZE);
    return inner->size(inner->context, file, size);
}

static enum err do_read(void *context, disk_file file, uint64_t offset, void *data, uint64_t size)
{
    (void)context;
    FAILS(CALL_READ);
    return inner->read(inner->context, file, offset, data, size);
}

/* Calls that may have happened although they fail. */
#define DONE_OR_NOT(call, made)                                                                    \
    do {                                                                                           \
        const bool is_hit = hit(call);                                                             \
        if (is_hit && order.way != WAY_DONE) return order.error;                                   \
        const enum err err = (made);                                                               \
        return is_hit ? order.error : err;                                                         \
    } while (false)

static enum err do_write_sync(void *context, disk_file file, uint64_t offset, struct slice data)
{
    (void)context;
    DONE_OR_NOT(CALL_WRITE_SYNC, inner->write_sync(inner->context, file, offset, data));
}

static enum err do_create(void *context, const char *name, uint64_t size, struct slice data,
                          disk_file *file)
{
    (void)context;
    FAILS(CALL_CREATE);
    return inner->create(inner->context, name, size, data, file);
}

static enum err do_replace(void *context, const char *name, struct slice data)
{
    (void)context;
    DONE_OR_NOT(CALL_REPLACE, inner->replace(inner->context, name, data));
}

static enum err do_rename(void *context, const char *from, const char *to)
{
    (void)context;
    DONE_OR_NOT(CALL_RENAME, inner->rename(inner->context, from, to));
}

static enum err do_remove(void *context, const char *name)
{
    (void)context;
    DONE_OR_NOT(CALL_REMOVE, inner->remove(inner->context, name));
}

static enum err do_make_folder(void *context, const char *name)
{
    (void)context;
    FAILS(CALL_FOLDER);
    return inner->make_folder(inner->context, name);
}

static enum err do_list(void *context, const char *folder, struct buf *names)
{
    (void)context;
    FAILS(CALL_LIST);
    return inner->list(inner->context, folder, names);
}

static enum err do_space(void *context, uint64_t *available)
{
    (void)context;
    FAILS(CALL_SPACE);
    return inner->space(inner->context, available);
}

static enum call call_of(const struct disk_op *op)
{
    switch (op->kind) {
    case DISK_WRITE: return op->lane == DISK_LANE_LOG ? CALL_OP_WRITE : CALL_OP_WRITE_OTHER;
    case DISK_CREATE: return CALL_OP_CREATE;
    case DISK_REPLACE: return CALL_OP_REPLACE;
    case DISK_READ: return CALL_OP_READ;
    case DISK_REMOVE: return CALL_OP_REMOVE;
    case DISK_TRIM: return CALL_OP_TRIM;
    }
    UNREACHABLE();
}

/* An operation that fails is kept here while it waits in its lane. */
#define FAILING_MAX 16u
static struct failing {
    struct disk_op *op;
    struct disk_op asked;
} failing[FAILING_MAX];

static void failing_done(struct disk_op *op)
{
    for (uint32_t i = 0; i < FAILING_MAX; i++) {
        if (failing[i].op != op) continue;
        const struct disk_op *next = op->next;
        *op = failing[i].asked;
        op->next = (struct disk_op *)next;
        op->result = order.error;
        failing[i].op = NULL;
        op->done(op);
        return;
    }
    fail_msg("an operation that was never submitted");
}

static void do_submit(void *context, struct disk_op *op)
{
    (void)context;
    if (hit(call_of(op))) {
        uint32_t i = 0;
        while (failing[i].op != NULL) EXPECT_LT(++i, FAILING_MAX);
        failing[i] = (struct failing){.op = op, .asked = *op};
        op->done = failing_done;
        /* A file that could not be made is not there: that is the disk's promise. */
        if (order.way != WAY_DONE || op->kind == DISK_CREATE) {
            disk_file nowhere;
            EXPECT_EQ(inner->open(inner->context, "nowhere", true, &nowhere), OK);
            op->kind = DISK_WRITE;
            op->file = nowhere;
            op->data = slice_of("", 0);
        }
    }
    inner->submit(inner->context, op);
}

static void do_wait(void *context, struct disk_op *op)
{
    (void)context;
    inner->wait(inner->context, op);
}

static void faulty_init(void)
{
    inner = &world.disk.disk;
    seen = hits = 0;
    memset(failing, 0, sizeof failing);
    sim_disk_put(&world.disk, "nowhere", slice_of("", 0)); /* a file that nobody reads */
    faulty = (struct disk){
        .open = do_open,
        .close = do_close,
        .size = do_size,
        .read = do_read,
        .read_medium = do_read,
        .write_sync = do_write_sync,
        .create = do_create,
        .replace = do_replace,
        .rename = do_rename,
        .remove = do_remove,
        .make_folder = do_make_folder,
        .list = do_list,
        .space = do_space,
        .submit = do_submit,
        .wait = do_wait,
    };
    world.config.disk = &faulty;
}

/* ---- one life --------------------------------------------------------------------------------------------- */

static void stop_or_kill(uint64_t number)
{
    if (number % 2 == 0) {
        world_close(&world);
        return;
    }
    sim_disk_stop(&world.disk, false);
    world_close(&world);
    sim_disk_crash(&world.disk);
}

/* A life, an end, a start, more life. Ends early where an error ends it. */
static void live(uint64_t number)
{
    if (!world_small(&world)) return;
    /* The last group may be the first of its file: then the next start makes that file useless. */
    for (uint64_t i = 0; i < number % 5; i++) {
        if (!world_group(&world, 1)) return;
    }
    stop_or_kill(number);
    const enum world_verdict verdict = world_judge(&world);
    if (verdict == WORLD_WRONG) fail_msg("with a failing disk: %s", world.wrong);
    if (verdict != WORLD_RIGHT) return;
    world_adopt(&world);
    if (!world_vote(&world, world.ballot.term + 1, 7) || !world_group(&world, 2)) return;
    if (!world_apply(&world) || !world_idle(&world)) return;
    for (uint32_t i = 0; i < 3; i++) {
        if (!world_group(&world, 1) || !world_apply(&world) || !world_idle(&world)) return;
    }
    world_close(&world);
}

/* Lives in which a call of each kind failed, over all processes of this test. */
static uint64_t *lives;

/* Of the lives without an installation in this process. */
static struct {
    uint64_t reached;
    uint64_t ended;
} totals;

/* A node that lags receives a base. */
static void install(void)
{
    if (!world_lagging(&world)) return;
    if (!world_install(&world, &source, 7000)) return;
    const enum world_verdict verdict = world_judge(&world);
    if (verdict == WORLD_WRONG) fail_msg("with a failing disk: %s", world.wrong);
}

enum life { LIFE_PLAIN, LIFE_COMPACTS, LIFE_INSTALLS, LIFE_COUNT };

/* Lives with the order, then judges on a sound disk. True: the call was reached. */
static bool live_once(enum life life)
{
    const bool installs = life == LIFE_INSTALLS;
    const uint64_t number = order.number;
    world_init(&world, 1 + order.number);
    world.compacts = life == LIFE_COMPACTS;
    world.packs = life != LIFE_PLAIN;
    world.patience = 300;
    world.config.tail_size = order.number % 2 * WORLD_SEGMENT_SIZE; /* 0: reads go to the disk */
    faulty_init();
    exit_code = -1;
    is_caught = true;
    if (setjmp(end_of_process) == 0) {
        if (installs) install();
        if (!installs) live(number);
    }
    is_caught = false;
    const uint64_t reached = hits;
    order.number = 0;
    if (exit_code >= 0) {
        world.store = NULL; /* Its memory went with the process. */
        EXPECT_EQ(exit_code, EXIT_DISK);
    }
    world_crash(&world, world.now.last % 2 == 0);
    world.config.disk = inner;
    world_expect_right(&world, "after the disk failed");
    world_end(&world);
    if (!installs) totals.reached += reached > 0;
    if (!installs) totals.ended += exit_code >= 0;
    return reached > 0;
}

/* All numbers of one call, error and way. */
static void live_through(enum call call, enum err error, enum way way)
{
    for (uint64_t number = 1;; number += world_stride(1)) {
        order = (struct order){.call = call, .error = error, .way = way, .number = number};
        uint32_t reached = 0;
        for (uint32_t life = 0; life < LIFE_COUNT; life++) {
            order.number = number;
            reached += live_once((enum life)life);
        }
        if (reached == 0) break;
        lives[call]++;
    }
}

static const char *expected(enum call call, enum err error)
{
    /* A group that is not on the disk is the end, whatever the reason. */
    if (call == CALL_OP_WRITE) return totals.ended == totals.reached ? NULL : "did not end";
    const bool is_full = error == ERR_NOSPACE;
    if ((call == CALL_OP_CREATE || call == CALL_OP_REPLACE || call == CALL_OP_WRITE_OTHER) &&
        is_full)
        return totals.ended == 0 ? NULL : "a full disk ended the process";
    if (call == CALL_OP_REPLACE || call == CALL_OP_WRITE_OTHER)
        return totals.ended == totals.reached ? NULL : "did not end";
    if (call == CALL_READ || call == CALL_LIST || call == CALL_OPEN || call == CALL_SIZE)
        return totals.ended == 0 ? NULL : "an error of a read ended the process";
    return NULL;
}

/* In a process of its own: what a store that ended the process left in memory goes with it. */
static void expect_survives(enum call call, enum err error, enum way way)
{
    const pid_t child = fork();
    EXPECT_TRUE(child >= 0);
    if (child == 0) {
        (void)alarm(300);
        /* The last words of some hundred processes. */
        if (getenv("KV_TEST_VERBOSE") == NULL)
            (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        live_through(call, error, way);
        const char *wrong = expected(call, error);
        if (wrong != NULL) print_message("%s\n", wrong);
        (void)syscall(SYS_exit_group, wrong != NULL);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("%s, %s, way %d: status %x", call_names[call], err_name(error), (int)way,
                 (unsigned)status);
    }
}

/* What a call can answer, as storage/disk.h has it. */
static bool possible(enum call call, enum err error)
{
    const bool reads = call == CALL_READ || call == CALL_OP_READ;
    if (error == ERR_IO) return true;
    if (error == ERR_CORRUPT) return reads; /* The file ended early. */
    if (call == CALL_OPEN) return error == ERR_PERMISSION;
    return !reads && call != CALL_SIZE && call != CALL_SPACE && call != CALL_LIST;
}

TEST(every_error, u6_no_failing_call_of_the_disk_loses_or_invents_anything)
{
    const enum err errors[] = {ERR_IO, ERR_NOSPACE, ERR_READ_ONLY, ERR_PERMISSION, ERR_CORRUPT};
    const enum call used[] = {CALL_OPEN,     CALL_SIZE,          CALL_READ,       CALL_WRITE_SYNC,
                              CALL_CREATE,   CALL_FOLDER,        CALL_LIST,       CALL_REMOVE,
                              CALL_OP_WRITE, CALL_OP_CREATE,     CALL_OP_REPLACE, CALL_REPLACE,
                              CALL_RENAME,   CALL_SPACE,         CALL_OP_READ,    CALL_OP_REMOVE,
                              CALL_OP_TRIM,  CALL_OP_WRITE_OTHER};
    world_init(&source, 500);
    source.compacts = true;
    source.packs = true;
    EXPECT_TRUE(world_small(&source));
    lives = mmap(NULL, CALL_COUNT * sizeof *lives, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_TRUE(lives != MAP_FAILED);
    for (uint32_t call = 0; call < CALL_COUNT; call++) {
        for (uint32_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
            if (!possible((enum call)call, errors[i])) continue;
            /* To the store these two are as an error of the disk, which is tried in every way. */
            const bool is_alike = errors[i] == ERR_READ_ONLY || errors[i] == ERR_PERMISSION;
            for (uint32_t way = 0; way < (is_alike ? 1 : WAY_COUNT); way++) {
                expect_survives((enum call)call, errors[i], (enum way)way);
            }
        }
    }
    for (uint32_t i = 0; i < sizeof used / sizeof used[0]; i++) {
        if (lives[used[i]] == 0) fail_msg("%s was never called", call_names[used[i]]);
    }
    world_end(&source);
    (void)munmap(lives, CALL_COUNT * sizeof *lives);
}
