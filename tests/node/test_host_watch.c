/* F13: a call of the disk that never returns ends the process, and its connections before it. */
#include "tests/test.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/host/host_watch.h"
#include "storage/base/check.h"

#define LIMIT_MS 1000u

static void sleep_ms(uint32_t ms)
{
    (void)usleep(ms * 1000);
}

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* What the child does in the test; it ends with 0 unless the watch ends it. */
typedef void (*life)(struct host_watch *watch);

struct ending {
    int code;
    uint64_t ms;    /* how long the child lived, */
    char said[512]; /* and what it wrote to its standard error */
    pid_t pid;
};

static pid_t spawn(life what, int *connection, int *errors)
{
    int pair[2];
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    EXPECT_TRUE(child >= 0);
    if (child == 0) {
        static struct host_watch watch = {.limit_ms = LIMIT_MS};
        (void)dup2(ends[1], STDERR_FILENO);
        if (!host_watch_start(&watch, "/the/directory")) _exit(99);
        what(&watch);
        host_watch_stop(&watch);
        _exit(0);
    }
    (void)close(pair[1]);
    (void)close(ends[1]);
    *connection = pair[0];
    *errors = ends[0];
    return child;
}

static struct ending run(life what)
{
    struct ending ending = {0};
    int connection;
    int errors;
    int status = 0;
    char byte;
    const uint64_t begin = now_ms();
    ending.pid = spawn(what, &connection, &errors);
    EXPECT_EQ(read(connection, &byte, 1), 0);
    EXPECT_EQ(waitpid(ending.pid, &status, 0), ending.pid);
    ending.ms = now_ms() - begin;
    EXPECT_TRUE(read(errors, ending.said, sizeof ending.said - 1) >= 0);
    (void)close(connection);
    (void)close(errors);
    EXPECT_TRUE(WIFEXITED(status));
    ending.code = WEXITSTATUS(status);
    return ending;
}

static void hang_on_the_loop(struct host_watch *watch)
{
    host_watch_begin(watch, HOST_WATCH_LOOP, "a vote");
    sleep_ms(60000);
}

static void hang_in_the_log(struct host_watch *watch)
{
    for (uint32_t i = 0; i < 500; i++) {
        host_watch_begin(watch, HOST_WATCH_LOG, "a short one");
        host_watch_end(watch, HOST_WATCH_LOG);
    }
    host_watch_begin(watch, HOST_WATCH_LOG, "a write of the log");
    for (;;) {
        /* That the loop works is no excuse. */
        host_watch_begin(watch, HOST_WATCH_LOOP, "a read");
        host_watch_end(watch, HOST_WATCH_LOOP);
        sleep_ms(10);
    }
}

static void be_slow(struct host_watch *watch)
{
    for (uint32_t i = 0; i < 3; i++) {
        host_watch_begin(watch, HOST_WATCH_LOG, "a slow write");
        sleep_ms(LIMIT_MS * 6 / 10);
        host_watch_end(watch, HOST_WATCH_LOG);
    }
}

TEST(host_watch, f13_a_call_that_hangs_ends_the_process_and_its_connections)
{
    struct ending ending = run(hang_on_the_loop);
    EXPECT_EQ(ending.code, EXIT_DISK);
    EXPECT_TRUE(ending.ms >= LIMIT_MS && ending.ms < LIMIT_MS + 10000);
    EXPECT_TRUE(strstr(ending.said, "a vote") != NULL);
    EXPECT_TRUE(strstr(ending.said, "/the/directory") != NULL);
    ending = run(hang_in_the_log);
    EXPECT_EQ(ending.code, EXIT_DISK);
    EXPECT_TRUE(ending.ms >= LIMIT_MS && ending.ms < LIMIT_MS + 10000);
    EXPECT_TRUE(strstr(ending.said, "a write of the log") != NULL);
}

TEST(host_watch, f13_slow_calls_that_end_are_none)
{
    const struct ending ending = run(be_slow);
    EXPECT_EQ(ending.code, 0);
    EXPECT_TRUE(ending.ms >= LIMIT_MS * 18 / 10);
}

static void hang_for_a_while(struct host_watch *watch)
{
    host_watch_begin(watch, HOST_WATCH_LOG, "a write");
    sleep_ms(LIMIT_MS / 2);
    host_watch_end(watch, HOST_WATCH_LOG);
    (void)watch;
}

/* F15: while a process is stopped nothing of it can make progress, its disk is not to blame. */
TEST(host_watch, f15_a_process_that_was_stopped_does_not_blame_the_disk)
{
    int connection;
    int errors;
    int status = 0;
    const pid_t child = spawn(hang_for_a_while, &connection, &errors);
    sleep_ms(100);
    EXPECT_EQ(kill(child, SIGSTOP), 0);
    sleep_ms(LIMIT_MS * 2);
    EXPECT_EQ(kill(child, SIGCONT), 0);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    (void)close(connection);
    (void)close(errors);
}
