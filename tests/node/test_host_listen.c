/* F17: a listener in a process that may open no more files. */
#include "tests/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/host/host_listen.h"

#define HANDLES_MAX 64
#define CLIENTS 3

struct fixture {
    uv_loop_t loop;
    struct host_listener listener;
    int clients[CLIENTS];
    int taken[HANDLES_MAX];
    uint32_t taken_count;
    int victim; /* what give_way() closes; -1: nothing */
    struct rlimit before;
};

static void on_accept(struct host_listener *listener)
{
    (void)listener;
    EXPECT_TRUE(false); /* No handle is left. */
}

static void give_way(struct host_listener *listener)
{
    struct fixture *fixture = listener->owner;
    if (fixture->victim >= 0) EXPECT_EQ(close(fixture->victim), 0);
    fixture->victim = -1;
}

/* Everything that can be opened is. */
static void take_all(struct fixture *fixture)
{
    for (;;) {
        const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (file < 0) return;
        EXPECT_TRUE(fixture->taken_count < HANDLES_MAX);
        fixture->taken[fixture->taken_count++] = file;
    }
}

/* Clients wait, no handle is free, and another thread has taken libuv's spare one. */
static void begin(struct fixture *fixture)
{
    struct config_address address = {.host = "127.0.0.1"};
    struct sockaddr_in to = {.sin_family = AF_INET};
    char message[512] = "";
    *fixture = (struct fixture){.victim = -1};
    EXPECT_EQ(uv_loop_init(&fixture->loop), 0);
    fixture->listener = (struct host_listener){
        .accept = on_accept, .give_way = give_way, .owner = fixture};
    EXPECT_EQ(host_listener_open(&fixture->listener, &fixture->loop, "client", &address, message),
              OK);
    host_listener_turn(&fixture->listener);
    to.sin_port = htons(address.port);
    EXPECT_EQ(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        fixture->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT_EQ(connect(fixture->clients[i], (const struct sockaddr *)&to, sizeof to), 0);
    }
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &fixture->before), 0);
    const struct rlimit low = {.rlim_cur = HANDLES_MAX, .rlim_max = fixture->before.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    EXPECT_EQ(close(fixture->loop.emfile_fd), 0);
    fixture->loop.emfile_fd = -1;
    take_all(fixture);
}

/* Comes back, and everybody who waited was refused. */
static void expect_refused(struct fixture *fixture)
{
    (void)alarm(20); /* or never */
    (void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        char byte;
        EXPECT_TRUE(recv(fixture->clients[i], &byte, 1, 0) <= 0);
    }
    (void)alarm(0);
    EXPECT_EQ(fixture->listener.spare, -1);
    host_listener_turn(&fixture->listener);
    EXPECT_TRUE(fixture->listener.spare >= 0);
}

static void end(struct fixture *fixture)
{
    for (uint32_t i = 0; i < fixture->taken_count; i++) (void)close(fixture->taken[i]);
    for (uint32_t i = 0; i < CLIENTS; i++) (void)close(fixture->clients[i]);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &fixture->before), 0);
    host_listener_close(&fixture->listener);
    (void)uv_run(&fixture->loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&fixture->loop), 0);
}

TEST(host_listen, f17_nobody_asks_for_ever_when_libuvs_spare_handle_is_lost)
{
    struct fixture fixture;
    begin(&fixture);
    expect_refused(&fixture);
    end(&fixture);
}

TEST(host_listen, f17_a_connection_goes_when_the_own_spare_handle_is_lost_too)
{
    struct fixture fixture;
    begin(&fixture);
    fixture.victim = fixture.taken[0];
    fixture.taken[0] = fixture.listener.spare;
    fixture.listener.spare = -1;
    expect_refused(&fixture);
    EXPECT_EQ(fixture.victim, -1);
    end(&fixture);
}
