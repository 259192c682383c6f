/* The asynchronous client and a node that does not read: what is sent, half sent and not sent is told apart. */
#include <fcntl.h>

#include "tests/client/async_tools.h"

/* A node in the test's own thread, so that it reads when the test wants it to. */
struct jam {
    char address[64];
    int listener;
    int fd;
    struct buf in;
};

static void jam_start(struct jam *jam)
{
    const int size = 65536;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof name;
    *jam = (struct jam){.fd = -1};
    jam->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(jam->listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    CHECK(bind(jam->listener, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(listen(jam->listener, 4) == 0);
    CHECK(getsockname(jam->listener, (struct sockaddr *)&name, &length) == 0);
    (void)snprintf(jam->address, sizeof jam->address, "127.0.0.1:%u", ntohs(name.sin_port));
}

static void jam_stop(struct jam *jam)
{
    (void)close(jam->fd);
    (void)close(jam->listener);
    buf_close(&jam->in);
}

/* Takes the connection and answers the greeting. */
static void jam_greet(struct jam *jam, struct world *world)
{
    static const char greeting[] = "%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n_\r\n*0\r\n";
    while (jam->fd < 0) {
        (void)uv_run(&world->loop, UV_RUN_NOWAIT);
        jam->fd = accept4(jam->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    world_idle(world, 10);
    while (recv(jam->fd, buf_reserve(&jam->in, 65536), 65536, 0) > 0) continue;
    fake_send(jam->fd, greeting, sizeof greeting - 1);
}

/* Reads until @text came, or for a while. */
static bool jam_read(struct jam *jam, struct world *world, const char *text)
{
    const int64_t until = now_ms() + 5000;
    while (now_ms() < until) {
        (void)uv_run(&world->loop, UV_RUN_NOWAIT);
        const ssize_t size = recv(jam->fd, buf_reserve(&jam->in, 65536), 65536, 0);
        if (size > 0) jam->in.size += (uint64_t)size;
        const size_t tail = jam->in.size < 256 ? jam->in.size : 256;
        if (size <= 0 && memmem(jam->in.data + jam->in.size - tail, tail, text, strlen(text))) {
            return true;
        }
    }
    return false;
}

#define BIG 16000000u

TEST(kv_async, what_is_half_sent_and_not_sent_is_told_apart)
{
    struct jam jam;
    struct world world;
    struct seen big_seen;
    struct seen small_seen;
    struct seen last_seen;
    uint64_t ids[2] = {0};
    char *value = calloc(1, BIG);
    jam_start(&jam);
    world_open(&world, jam.address, 20000);
    struct kv_callback then = into(&big_seen);
    then.id = &ids[0];
    CALL(kv_async_set(world.async, kv_text("big"), kv_bytes_of(value, BIG), NULL, 0, &then));
    then = into(&small_seen);
    then.id = &ids[1];
    CALL(kv_async_set(world.async, kv_text("small"), kv_text("1"), NULL, 0, &then));
    jam_greet(&jam, &world);
    world_idle(&world, 100); /* The big one is under way, and stuck. */
    kv_async_cancel(world.async, ids[0]);
    kv_async_cancel(world.async, ids[1]);
    world_wait(&world, &big_seen);
    world_wait(&world, &small_seen);
    EXPECT_EQ(big_seen.err, KV_ERR_UNKNOWN);
    EXPECT_EQ(small_seen.err, KV_ERR_CANCELLED);
    then = into(&last_seen);
    CALL(kv_async_incr(world.async, kv_text("last"), 1, &then));
    EXPECT_TRUE(jam_read(&jam, &world, "last\r\n$1\r\n1\r\n"));
    /* The half command was completed, or nothing behind it would make sense; the other one never left. */
    static const char head[] = "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$16000000\r\n";
    static const char tail[] = "\r\n*3\r\n$6\r\nINCRBY\r\n$4\r\nlast\r\n$1\r\n1\r\n";
    const uint64_t size = sizeof head - 1 + BIG + sizeof tail - 1;
    EXPECT_EQ(jam.in.size, size);
    EXPECT_BYTES(jam.in.data, head, sizeof head - 1);
    EXPECT_BYTES(jam.in.data + size - (sizeof tail - 1), tail, sizeof tail - 1);
    /* The first answer is for the cancelled one. */
    fake_send(jam.fd, "+OK\r\n:5\r\n", 9);
    world_wait(&world, &last_seen);
    EXPECT_EQ(last_seen.err, KV_OK);
    EXPECT_EQ(last_seen.integer, 5);
    world_close(&world);
    jam_stop(&jam);
    free(value);
}

TEST(kv_async, a_connection_that_breaks_in_the_middle_of_a_command_did_not_run_it)
{
    struct jam jam;
    struct world world;
    struct seen seen;
    char *value = calloc(1, BIG);
    jam_start(&jam);
    world_open(&world, jam.address, 600);
    const struct kv_callback then = into(&seen);
    CALL(kv_async_set(world.async, kv_text("big"), kv_bytes_of(value, BIG), NULL, 0, &then));
    jam_greet(&jam, &world);
    world_idle(&world, 50);
    (void)close(jam.fd);
    (void)close(jam.listener);
    jam.fd = -1;
    jam.listener = -1;
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_TIMEOUT); /* Nobody was there to send it to again. */
    world_close(&world);
    jam_stop(&jam);
    free(value);
}
