#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#include "node/host/host_disk.h"
#include "node/host/host_folder.h"
#include "storage/base/limits.h"

struct fixture {
    char path[128];
    uv_loop_t loop;
    struct host_disk host;
    struct disk *disk;
};

static char message[HOST_FOLDER_MESSAGE_SIZE];

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static void make_path(char *path)
{
    memcpy(path, "/tmp/kv_disk_XXXXXX", sizeof "/tmp/kv_disk_XXXXXX");
    EXPECT_TRUE(mkdtemp(path) != NULL);
}

static void wipe(const char *path)
{
    EXPECT_EQ(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void start_at(struct fixture *fixture)
{
    if (host_disk_open(&fixture->host, fixture->path, message) != OK) EXPECT_TEXT(message, "");
    EXPECT_EQ(uv_loop_init(&fixture->loop), 0);
    EXPECT_EQ(host_disk_start(&fixture->host, &fixture->loop), OK);
    fixture->disk = &fixture->host.disk;
}

static void start(struct fixture *fixture)
{
    make_path(fixture->path);
    start_at(fixture);
}

static void stop(struct fixture *fixture)
{
    host_disk_close(&fixture->host);
    (void)uv_run(&fixture->loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&fixture->loop), 0);
}

static struct slice text(const char *value)
{
    return slice_text(value);
}

static void expect_content(struct fixture *fixture, const char *name, struct slice expected)
{
    struct disk *disk = fixture->disk;
    disk_file file;
    uint64_t size = 0;
    uint8_t *data = malloc(expected.size + 1);
    EXPECT_TRUE(data != NULL);
    EXPECT_EQ(disk->open(disk->context, name, false, &file), OK);
    EXPECT_EQ(disk->size(disk->context, file, &size), OK);
    EXPECT_EQ(size, expected.size);
    EXPECT_EQ(disk->read(disk->context, file, 0, data, size), OK);
    EXPECT_BYTES(data, expected.data, expected.size);
    EXPECT_EQ(disk->read(disk->context, file, 0, data, size + 1), ERR_CORRUPT);
    disk->close(disk->context, file);
    free(data);
}

static uint32_t done_count;
static struct disk_op *done_order[256];

static void note_done(struct disk_op *op)
{
    done_order[done_count++] = op;
}

static void run_until(struct fixture *fixture, uint32_t count)
{
    for (uint32_t i = 0; i < 10000 && done_count < count; i++) {
        (void)uv_run(&fixture->loop, UV_RUN_ONCE);
    }
    EXPECT_EQ(done_count, count);
}

static void expect_names(struct fixture *fixture, const char *folder, const char *joined)
{
    struct buf names = {0};
    EXPECT_EQ(fixture->disk->list(fixture->disk->context, folder, &names), OK);
    for (uint64_t i = 0; i < names.size; i++) {
        if (names.data[i] == 0) names.data[i] = ' ';
    }
    buf_u8(&names, 0);
    EXPECT_TEXT((const char *)names.data, joined);
    buf_close(&names);
}

/* ---- the directory ---------------------------------------------------------------------------------------- */

TEST(host_disk, directory_is_made_for_us_alone_and_locked)
{
    struct fixture first;
    struct host_disk second;
    struct stat status;
    char above[64];
    make_path(above);
    (void)snprintf(first.path, sizeof first.path, "%s/data", above);
    start_at(&first);
    EXPECT_EQ(stat(first.path, &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700);
    EXPECT_EQ(host_disk_open(&second, first.path, message), ERR_LOCKED);
    EXPECT_TRUE(strstr(message, "in use by another process") != NULL);
    EXPECT_EQ(second.folder, -1);
    stop(&first);
    EXPECT_EQ(host_disk_open(&second, first.path, message), OK);
    host_disk_close(&second);
    wipe(above);
}

TEST(host_disk, directory_others_may_enter_is_refused_unless_it_is_empty)
{
    struct fixture fixture;
    struct host_disk disk;
    struct stat status;
    make_path(fixture.path);
    EXPECT_EQ(chmod(fixture.path, 0755), 0);
    start_at(&fixture);
    EXPECT_EQ(stat(fixture.path, &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700);
    stop(&fixture);
    EXPECT_EQ(chmod(fixture.path, 0750), 0);
    EXPECT_EQ(host_disk_open(&disk, fixture.path, message), ERR_PERMISSION);
    EXPECT_TRUE(strstr(message, "chmod 700") != NULL);
    EXPECT_EQ(stat(fixture.path, &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0750);
    wipe(fixture.path);
}

TEST(host_disk, foreign_directory_is_refused_and_left_alone)
{
    struct host_disk disk;
    char path[64];
    char file[80];
    make_path(path);
    (void)snprintf(file, sizeof file, "%s/letter.txt", path);
    FILE *letter = fopen(file, "w");
    EXPECT_TRUE(letter != NULL);
    fclose(letter);
    EXPECT_EQ(host_disk_open(&disk, path, message), ERR_FOREIGN);
    EXPECT_EQ(remove(file), 0);
    EXPECT_EQ(rmdir(path), 0); /* no LOCK was left behind */
}

TEST(host_disk, missing_parent_and_plain_file_are_refused)
{
    struct host_disk disk;
    char path[64];
    char name[80];
    make_path(path);
    (void)snprintf(name, sizeof name, "%s/a/b", path);
    EXPECT_EQ(host_disk_open(&disk, name, message), ERR_NOT_FOUND);
    EXPECT_TRUE(strstr(message, name) != NULL);
    (void)snprintf(name, sizeof name, "%s/file", path);
    FILE *file = fopen(name, "w");
    EXPECT_TRUE(file != NULL);
    fclose(file);
    EXPECT_EQ(host_disk_open(&disk, name, message), ERR_NOT_FOUND);
    wipe(path);
}

TEST(host_disk, directory_of_another_user_is_refused)
{
    struct host_disk disk;
    char path[64];
    if (geteuid() != 0) return; /* Only root can give a directory away. */
    make_path(path);
    EXPECT_EQ(chown(path, 12345, 12345), 0);
    EXPECT_EQ(host_disk_open(&disk, path, message), ERR_PERMISSION);
    EXPECT_TRUE(strstr(message, "belongs to user 12345") != NULL);
    wipe(path);
}

/* ---- synchronous calls -------------------------------------------------------------------------------------- */

TEST(host_disk, created_file_is_preallocated_private_and_reads_as_zeros)
{
    struct fixture fixture;
    struct stat status;
    char path[256];
    disk_file file = -1;
    start(&fixture);
    struct disk *disk = fixture.disk;
    EXPECT_EQ(disk->make_folder(disk->context, "shard-0000"), OK);
    EXPECT_EQ(disk->make_folder(disk->context, "shard-0000"), OK);
    EXPECT_EQ(disk->create(disk->context, "shard-0000/1.log", 65536, text("head"), &file), OK);
    EXPECT_TRUE(file >= 0);
    (void)snprintf(path, sizeof path, "%s/shard-0000/1.log", fixture.path);
    EXPECT_EQ(stat(path, &status), 0);
    EXPECT_EQ(status.st_size, 65536);
    EXPECT_EQ(status.st_mode & 07777, 0600);
    EXPECT_TRUE(status.st_blocks * 512 >= 65536);
    static uint8_t expected[65536];
    memcpy(expected, "head", 4);
    EXPECT_EQ(disk->write_sync(disk->context, file, 65535, text("x")), OK);
    expected[65535] = 'x';
    expect_content(&fixture, "shard-0000/1.log", slice_of(expected, sizeof expected));

    disk_file again = 7;
    EXPECT_EQ(disk->create(disk->context, "shard-0000/1.log", 10, text("new"), &again), ERR_EXISTS);
    EXPECT_EQ(again, -1);
    expect_content(&fixture, "shard-0000/1.log", slice_of(expected, sizeof expected));
    expect_names(&fixture, "shard-0000", "1.log ");
    disk->close(disk->context, file);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, what_a_crash_left_half_made_is_swept_at_the_next_start)
{
    struct fixture fixture;
    char path[256];
    start(&fixture);
    EXPECT_EQ(fixture.disk->make_folder(fixture.disk->context, "shard-0000"), OK);
    EXPECT_EQ(fixture.disk->make_folder(fixture.disk->context, "shard-0000/incoming"), OK);
    stop(&fixture);
    static const char *const names[] = {"identity.tmp", "shard-0000/00000009.log.tmp",
                                        "shard-0000/incoming/7.tmp", "shard-0000/kept"};
    for (int i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", fixture.path, names[i]);
        const int file = open(path, O_CREAT | O_WRONLY, 0600);
        EXPECT_TRUE(file >= 0);
        close(file);
    }
    start_at(&fixture);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", fixture.path, names[i]);
        EXPECT_EQ(access(path, F_OK) == 0, i == 3);
    }
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, replace_rename_remove_and_list)
{
    struct fixture fixture;
    char path[256];
    start(&fixture);
    struct disk *disk = fixture.disk;
    void *context = disk->context;
    EXPECT_EQ(disk->replace(context, "b", text("one")), OK);
    EXPECT_EQ(disk->replace(context, "b", text("longer")), OK);
    EXPECT_EQ(disk->replace(context, "b", text("")), OK);
    expect_content(&fixture, "b", text(""));
    EXPECT_EQ(disk->replace(context, "b", text("two")), OK);
    EXPECT_EQ(disk->replace(context, "a", text("three")), OK);
    EXPECT_EQ(disk->replace(context, "c", text("four")), OK);
    EXPECT_EQ(disk->make_folder(context, "f"), OK);
    EXPECT_EQ(disk->make_folder(context, "a"), ERR_EXISTS);
    /* What a crash left behind is hidden, and in nobody's way. */
    (void)snprintf(path, sizeof path, "%s/c.tmp", fixture.path);
    FILE *left = fopen(path, "w");
    EXPECT_TRUE(left != NULL);
    fclose(left);
    expect_names(&fixture, "", "LOCK a b c ");
    EXPECT_EQ(disk->replace(context, "c", text("five")), OK);
    EXPECT_NE(access(path, F_OK), 0);
    EXPECT_EQ(disk->rename(context, "c", "f/d"), OK);
    expect_names(&fixture, "f", "d ");
    EXPECT_EQ(disk->rename(context, "a", "b"), OK);
    expect_content(&fixture, "b", text("three"));
    expect_names(&fixture, "", "LOCK b ");
    EXPECT_EQ(disk->remove(context, "b"), OK);
    EXPECT_EQ(disk->remove(context, "b"), ERR_NOT_FOUND);
    EXPECT_EQ(disk->rename(context, "b", "c"), ERR_NOT_FOUND);
    disk_file file = 9;
    EXPECT_EQ(disk->open(context, "b", true, &file), ERR_NOT_FOUND);
    EXPECT_EQ(file, -1);
    EXPECT_EQ(disk->create(context, "none/x", 1, text(""), &file), ERR_NOT_FOUND);
    uint64_t space = 0;
    EXPECT_EQ(disk->space(context, &space), OK);
    EXPECT_TRUE(space > 0);
    struct buf names = {0};
    EXPECT_EQ(disk->list(context, "none", &names), ERR_NOT_FOUND);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, symbolic_links_and_pipes_in_the_place_of_files_are_not_followed)
{
    struct fixture fixture;
    char path[256];
    disk_file file;
    start(&fixture);
    (void)snprintf(path, sizeof path, "%s/link", fixture.path);
    EXPECT_EQ(symlink("/etc/hostname", path), 0);
    EXPECT_EQ(fixture.disk->open(fixture.disk->context, "link", false, &file), ERR_IO);
    (void)snprintf(path, sizeof path, "%s/pipe", fixture.path);
    EXPECT_EQ(mkfifo(path, 0600), 0);
    EXPECT_EQ(fixture.disk->open(fixture.disk->context, "pipe", false, &file), ERR_IO);
    expect_names(&fixture, "", "LOCK ");
    stop(&fixture);
    wipe(fixture.path);
}

/* ---- lanes -------------------------------------------------------------------------------------------------- */

TEST(host_disk, operations_of_a_lane_complete_in_order)
{
    struct fixture fixture;
    static struct disk_op ops[200];
    static uint8_t data[200];
    disk_file file;
    start(&fixture);
    EXPECT_EQ(fixture.disk->create(fixture.disk->context, "log", 4096, text(""), &file), OK);
    done_count = 0;
    for (uint32_t i = 0; i < 200; i++) {
        data[i] = (uint8_t)i;
        ops[i] = (struct disk_op){.kind = DISK_WRITE,
                                  .lane = DISK_LANE_LOG,
                                  .file = file,
                                  .sync = i % 50 == 0,
                                  .offset = 7, /* all the same place: the last one must win */
                                  .data = slice_of(&data[i], 1),
                                  .result = ERR_CLOSED,
                                  .done = note_done};
        fixture.disk->submit(fixture.disk->context, &ops[i]);
    }
    run_until(&fixture, 200);
    for (uint32_t i = 0; i < 200; i++) {
        EXPECT_TRUE(done_order[i] == &ops[i]);
        EXPECT_EQ(ops[i].result, OK);
    }
    uint8_t byte = 0;
    EXPECT_EQ(fixture.disk->read(fixture.disk->context, file, 7, &byte, 1), OK);
    EXPECT_EQ(byte, 199);
    fixture.disk->close(fixture.disk->context, file);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, wait_reports_the_operation_and_all_before_it)
{
    struct fixture fixture;
    struct disk_op ops[3];
    start(&fixture);
    const char *const names[] = {"one", "two", "two"};
    done_count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        ops[i] = (struct disk_op){.kind = i == 0 ? DISK_REPLACE : DISK_CREATE,
                                  .lane = DISK_LANE_BACKGROUND,
                                  .name = names[i],
                                  .size = 8192,
                                  .data = text("abc"),
                                  .done = note_done};
        fixture.disk->submit(fixture.disk->context, &ops[i]);
    }
    fixture.disk->wait(fixture.disk->context, &ops[1]);
    EXPECT_TRUE(done_count >= 2);
    EXPECT_TRUE(done_order[0] == &ops[0] && done_order[1] == &ops[1]);
    expect_content(&fixture, "one", text("abc"));
    run_until(&fixture, 3);
    EXPECT_EQ(ops[1].result, OK);
    EXPECT_EQ(ops[2].result, ERR_EXISTS);
    EXPECT_EQ(ops[2].file, -1);
    fixture.disk->close(fixture.disk->context, ops[1].file);
    stop(&fixture);
    wipe(fixture.path);
}

/* Unaligned offsets and sizes, over the size of one piece, and over the end. */
static void expect_medium(struct fixture *fixture)
{
    const uint64_t size = (2u << 20) + 5000;
    struct disk *disk = fixture->disk;
    disk_file file;
    uint8_t *written = malloc(size);
    uint8_t *found = malloc(size + 1);
    EXPECT_TRUE(written != NULL && found != NULL);
    for (uint64_t i = 0; i < size; i++) written[i] = (uint8_t)(i * 2654435761u >> 13);
    const struct slice data = slice_of(written, size);
    EXPECT_EQ(disk->create(disk->context, "medium", 0, data, &file), OK);
    const uint64_t ranges[][2] = {{0, size},    {1, size - 1},   {4096, 4096}, {4095, 2},
                                  {1 << 20, 1}, {size - 7, 7},   {100, 0},     {4097, 1 << 20},
                                  {0, 4096},    {3 << 19, 70000}};
    for (uint32_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        const uint64_t offset = ranges[i][0];
        memset(found, 0, size + 1);
        EXPECT_EQ(disk->read_medium(disk->context, file, offset, found, ranges[i][1]), OK);
        EXPECT_BYTES(found, written + offset, ranges[i][1]);
        EXPECT_EQ(found[ranges[i][1]], 0);
    }
    EXPECT_EQ(disk->read_medium(disk->context, file, 0, found, size + 1), ERR_CORRUPT);
    EXPECT_EQ(disk->read_medium(disk->context, file, size + 4096, found, 1), ERR_CORRUPT);
    /* What was written and not synced is there too: it goes to the disk first. */
    EXPECT_EQ(pwrite(file, "fresh", 5, 4000), 5);
    EXPECT_EQ(disk->read_medium(disk->context, file, 4000, found, 5), OK);
    EXPECT_BYTES(found, "fresh", 5);
    /* And the file is an ordinary one again: a direct write of a byte would be refused. */
    EXPECT_EQ(disk->write_sync(disk->context, file, 17, slice_of("x", 1)), OK);
    disk->close(disk->context, file);
    free(written);
    free(found);
}

TEST(host_disk, reads_past_the_cache_give_any_range)
{
    struct fixture fixture;
    start(&fixture);
    expect_medium(&fixture);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, operations_say_how_long_they_took)
{
    struct fixture fixture;
    start(&fixture);
    struct disk_op op = {.kind = DISK_REPLACE,
                         .lane = DISK_LANE_BACKGROUND,
                         .name = "timed",
                         .data = text("x"),
                         .elapsed_us = UINT64_MAX,
                         .done = note_done};
    done_count = 0;
    fixture.disk->submit(fixture.disk->context, &op);
    run_until(&fixture, 1);
    EXPECT_TRUE(op.elapsed_us > 0 && op.elapsed_us < 60000000);
    stop(&fixture);
    wipe(fixture.path);
}

static struct host_disk *resubmit_disk;

static void submit_again(struct disk_op *op)
{
    if (++done_count < 20) resubmit_disk->disk.submit(resubmit_disk->disk.context, op);
}

TEST(host_disk, done_may_submit_the_operation_again)
{
    struct fixture fixture;
    start(&fixture);
    resubmit_disk = &fixture.host;
    done_count = 0;
    struct disk_op op = {.kind = DISK_REPLACE,
                         .lane = DISK_LANE_LOG,
                         .name = "again",
                         .data = text("x"),
                         .done = submit_again};
    fixture.disk->submit(fixture.disk->context, &op);
    run_until(&fixture, 20);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, close_finishes_what_was_submitted)
{
    struct fixture fixture;
    struct disk_op op = {.kind = DISK_REPLACE,
                         .lane = DISK_LANE_BACKGROUND,
                         .name = "late",
                         .data = text("kept"),
                         .done = note_done};
    start(&fixture);
    done_count = 0;
    fixture.disk->submit(fixture.disk->context, &op);
    stop(&fixture);
    EXPECT_EQ(done_count, 1);
    start_at(&fixture);
    expect_content(&fixture, "late", text("kept"));
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, submitted_read_fills_or_says_that_the_file_ends_before)
{
    struct fixture fixture;
    struct disk_op ops[3];
    uint8_t got[3][8] = {{0}};
    disk_file file;
    start(&fixture);
    const struct slice data = slice_of("0123456789", 10);
    EXPECT_EQ(fixture.disk->create(fixture.disk->context, "file", 0, data, &file), OK);
    done_count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        ops[i] = (struct disk_op){.kind = DISK_READ,
                                  .lane = i == 1 ? DISK_LANE_BULK : DISK_LANE_READ,
                                  .file = i == 2 ? fixture.host.folder : file,
                                  .offset = i == 1 ? 3 : 2,
                                  .size = 8,
                                  .into = got[i],
                                  .done = note_done};
        fixture.disk->submit(fixture.disk->context, &ops[i]);
    }
    run_until(&fixture, 3);
    EXPECT_EQ(ops[0].result, OK);
    EXPECT_BYTES(got[0], "23456789", 8);
    EXPECT_EQ(ops[1].result, ERR_CORRUPT);
    EXPECT_EQ(ops[2].result, ERR_IO); /* A folder cannot be read: stands for a disk that cannot. */
    fixture.disk->close(fixture.disk->context, file);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, submitted_remove_takes_the_name_and_leaves_open_files_alone)
{
    struct fixture fixture;
    struct disk_op ops[2];
    disk_file file;
    uint8_t byte = 0;
    start(&fixture);
    EXPECT_EQ(fixture.disk->create(fixture.disk->context, "old", 0, text("abc"), &file), OK);
    done_count = 0;
    for (uint32_t i = 0; i < 2; i++) {
        ops[i] = (struct disk_op){
            .kind = DISK_REMOVE, .lane = DISK_LANE_BULK, .name = "old", .done = note_done};
        fixture.disk->submit(fixture.disk->context, &ops[i]);
    }
    run_until(&fixture, 2);
    EXPECT_EQ(ops[0].result, OK);
    EXPECT_EQ(ops[1].result, ERR_NOT_FOUND);
    expect_names(&fixture, "", "LOCK ");
    EXPECT_EQ(fixture.disk->read(fixture.disk->context, file, 1, &byte, 1), OK);
    EXPECT_EQ(byte, 'b');
    fixture.disk->close(fixture.disk->context, file);
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, trim_gives_back_what_was_reserved_and_never_extends)
{
    struct fixture fixture;
    struct stat status;
    disk_file file;
    uint64_t size = 0;
    const uint64_t sizes[] = {5000, 8192};
    start(&fixture);
    EXPECT_EQ(fixture.disk->create(fixture.disk->context, "file", 1 << 20, text("abc"), &file), OK);
    EXPECT_EQ(fstat(file, &status), 0);
    const int64_t blocks = status.st_blocks;
    done_count = 0;
    for (uint32_t i = 0; i < 2; i++) {
        struct disk_op op = {.kind = DISK_TRIM,
                             .lane = DISK_LANE_BACKGROUND,
                             .file = file,
                             .size = sizes[i],
                             .done = note_done};
        fixture.disk->submit(fixture.disk->context, &op);
        run_until(&fixture, i + 1);
        EXPECT_EQ(op.result, OK);
        EXPECT_EQ(fixture.disk->size(fixture.disk->context, file, &size), OK);
        EXPECT_EQ(size, 5000);
    }
    EXPECT_EQ(fstat(file, &status), 0);
    EXPECT_TRUE(status.st_blocks <= 16 && (blocks <= 16 || status.st_blocks < blocks));
    char bytes[4];
    EXPECT_EQ(fixture.disk->read(fixture.disk->context, file, 0, bytes, 4), OK);
    EXPECT_BYTES(bytes, "abc", 4);
    fixture.disk->close(fixture.disk->context, file);
    stop(&fixture);
    wipe(fixture.path);
}

/* ---- trouble ------------------------------------------------------------------------------------------------ */

TEST(host_disk, short_write_goes_on_and_its_error_is_reported)
{
    struct fixture fixture;
    struct rlimit before;
    static uint8_t data[12288];
    uint8_t first[8192];
    disk_file file;
    start(&fixture);
    memset(data, 'd', sizeof data);
    EXPECT_EQ(fixture.disk->create(fixture.disk->context, "file", 100, text(""), &file), OK);
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit small = {.rlim_cur = 8192, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const enum err err = fixture.disk->write_sync(fixture.disk->context, file, 0,
                                                  slice_of(data, sizeof data));
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    EXPECT_EQ(err, ERR_IO);
    EXPECT_EQ(fixture.disk->read(fixture.disk->context, file, 0, first, sizeof first), OK);
    EXPECT_BYTES(first, data, sizeof first);
    fixture.disk->close(fixture.disk->context, file);
    stop(&fixture);
    wipe(fixture.path);
}

/* It must not look like a disk that fails, for which a node gives up what it has. */
TEST(host_disk, too_many_open_files_are_not_taken_for_a_failing_disk)
{
    struct fixture fixture;
    start(&fixture);
    struct disk *disk = fixture.disk;
    disk_file file = -1;
    struct rlimit before;
    struct buf names = {0};
    EXPECT_EQ(disk->replace(disk->context, "a", text("x")), OK);
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = before;
    none.rlim_cur = 0;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    const enum err opened = disk->open(disk->context, "a", false, &file);
    const enum err created = disk->create(disk->context, "b", 4096, text("x"), &file);
    const enum err replaced = disk->replace(disk->context, "a", text("y"));
    const enum err listed = disk->list(disk->context, "", &names);
    /* F17: what is submitted is refused as on a full disk, and tried again by its submitter. */
    struct disk_op ops[2];
    done_count = 0;
    for (uint32_t i = 0; i < 2; i++) {
        ops[i] = (struct disk_op){.kind = i == 0 ? DISK_CREATE : DISK_REPLACE,
                                  .lane = DISK_LANE_BACKGROUND,
                                  .name = "a",
                                  .data = text("z"),
                                  .done = note_done};
        disk->submit(disk->context, &ops[i]);
    }
    run_until(&fixture, 2);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(ops[0].result, ERR_NOSPACE);
    EXPECT_EQ(ops[1].result, ERR_NOSPACE);
    EXPECT_EQ(opened, ERR_HANDLES);
    EXPECT_EQ(created, ERR_HANDLES);
    EXPECT_EQ(replaced, ERR_HANDLES);
    EXPECT_EQ(listed, ERR_HANDLES);
    expect_content(&fixture, "a", text("x"));
    stop(&fixture);
    wipe(fixture.path);
}

TEST(host_disk, write_to_a_read_only_handle_fails)
{
    struct fixture fixture;
    disk_file file;
    start(&fixture);
    EXPECT_EQ(fixture.disk->replace(fixture.disk->context, "file", text("abc")), OK);
    EXPECT_EQ(fixture.disk->open(fixture.disk->context, "file", false, &file), OK);
    EXPECT_EQ(fixture.disk->write_sync(fixture.disk->context, file, 0, text("x")), ERR_IO);
    fixture.disk->close(fixture.disk->context, file);
    expect_content(&fixture, "file", text("abc"));
    stop(&fixture);
    wipe(fixture.path);
}

/* Mounts a file system of this size in memory; false where that is not possible (not root, or a closed container). */
static bool mount_small(char *path, const char *options)
{
    make_path(path);
    if (geteuid() == 0 && mount("none", path, "tmpfs", 0, options) == 0) return true;
    print_message("not done: mounting a file system needs root\n");
    wipe(path);
    return false;
}

TEST(host_disk, full_disk_is_reported_and_nothing_of_the_file_remains)
{
    struct fixture fixture;
    disk_file file;
    static uint8_t data[320 * 1024];
    if (!mount_small(fixture.path, "size=1m,mode=700")) return;
    start_at(&fixture);
    struct disk *disk = fixture.disk;
    EXPECT_EQ(disk->create(disk->context, "big", 4 * MIB, text(""), &file), ERR_NOSPACE);
    EXPECT_EQ(file, -1);
    EXPECT_EQ(disk->create(disk->context, "half", 512 * 1024, text(""), &file), OK);
    disk->close(disk->context, file);
    EXPECT_EQ(disk->create(disk->context, "other", 768 * 1024, text(""), &file), ERR_NOSPACE);
    EXPECT_EQ(disk->replace(disk->context, "a", slice_of(data, sizeof data)), OK);
    EXPECT_EQ(disk->replace(disk->context, "b", slice_of(data, sizeof data)), ERR_NOSPACE);
    expect_names(&fixture, "", "LOCK a half ");
    EXPECT_EQ(disk->remove(disk->context, "half"), OK);
    EXPECT_EQ(disk->create(disk->context, "other", 512 * 1024, text(""), &file), OK);
    disk->close(disk->context, file);
    stop(&fixture);
    EXPECT_EQ(umount(fixture.path), 0);
    wipe(fixture.path);
}

TEST(host_disk, reads_past_the_cache_work_where_there_is_only_a_cache)
{
    struct fixture fixture;
    if (!mount_small(fixture.path, "size=8m,mode=700")) return;
    start_at(&fixture);
    expect_medium(&fixture);
    stop(&fixture);
    EXPECT_EQ(umount(fixture.path), 0);
    wipe(fixture.path);
}

TEST(host_disk, read_only_file_system_is_named_as_such)
{
    struct fixture fixture;
    struct host_disk again;
    if (!mount_small(fixture.path, "size=1m,mode=700")) return;
    start_at(&fixture);
    EXPECT_EQ(fixture.disk->replace(fixture.disk->context, "a", text("x")), OK);
    stop(&fixture);
    EXPECT_EQ(mount("none", fixture.path, NULL, MS_REMOUNT | MS_RDONLY, "size=1m"), 0);
    EXPECT_EQ(host_disk_open(&again, fixture.path, message), ERR_READ_ONLY);
    EXPECT_TRUE(strstr(message, "Read-only file system") != NULL);
    EXPECT_EQ(umount(fixture.path), 0);
    wipe(fixture.path);
}
