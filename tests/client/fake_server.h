/* fake_server.h - a node that does what a test tells it, on a loopback port of its own and in a thread.
 *
 * It answers greetings and the questions of the library (HELLO, CLIENT, KV.LEADER, KV.MEMBERS) by itself. Every other
 * command takes the next step of the script; without one it gets +OK. All those commands are noted, one a line. */
#ifndef KV_TESTS_CLIENT_FAKE_SERVER_H
#define KV_TESTS_CLIENT_FAKE_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/resp.h"
#include "storage/base/check.h"

#define FAKE_STEPS_MAX 64
#define FAKE_CONNECTIONS_MAX 32

enum fake_action {
    FAKE_REPLY,  /* sends the text */
    FAKE_BYTES,  /* sends it byte by byte */
    FAKE_CLOSE,  /* sends the text, then closes */
    FAKE_RESET,  /* sends the text, then resets the connection */
    FAKE_SILENT, /* says nothing */
};

struct fake_step {
    enum fake_action action;
    const char *text;
};

struct fake_connection {
    int fd;       /* -1: free */
    bool is_mute; /* takes nothing and says nothing any more */
    struct resp_parser parser;
    struct buf in;
};

struct fake {
    char address[64];
    /* What it says; may be changed through fake_say_leader() while it runs. */
    char leader[256];
    char members[1024];
    const char *refusal; /* not NULL: what it answers to HELLO */
    bool greets;         /* false: takes connections and says nothing, as a stopped process does */
    /* Answers a command by itself instead of the script; false: it does not know the command. */
    bool (*handler)(const struct slice *args, uint32_t count, struct buf *out);
    /* Chooses a step for each command, instead of the script. */
    struct fake_step (*chooser)(const struct slice *args, uint32_t count);

    struct fake_step steps[FAKE_STEPS_MAX];
    uint32_t step_count;
    uint32_t step_next;
    struct buf log;
    uint32_t accepted; /* connections so far */

    int listener;
    int wake[2];
    struct fake_connection connections[FAKE_CONNECTIONS_MAX];
    pthread_t thread;
    pthread_mutex_t mutex;
};

static inline void fake_send(int fd, const void *data, uint64_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        const ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += sent;
        size -= (uint64_t)sent;
    }
}

static inline void fake_drop(struct fake_connection *connection, bool reset)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (reset) (void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    (void)close(connection->fd);
    resp_parser_close(&connection->parser);
    buf_close(&connection->in);
    connection->fd = -1;
}

static inline void fake_play(struct fake_connection *connection, const struct fake_step *step)
{
    const uint64_t size = step->text != NULL ? strlen(step->text) : 0;
    if (step->action == FAKE_BYTES) {
        for (uint64_t i = 0; i < size; i++) {
            fake_send(connection->fd, step->text + i, 1);
            (void)usleep(500);
        }
        return;
    }
    if (size > 0) fake_send(connection->fd, step->text, size);
    if (step->action == FAKE_CLOSE) fake_drop(connection, false);
    if (step->action == FAKE_RESET) fake_drop(connection, true);
}

static inline bool fake_small_talk(struct fake *fake, struct fake_connection *connection)
{
    const struct slice *args = connection->parser.args;
    const char *text = NULL;
    if (slice_equal_fold(args[0], "hello")) {
        text = fake->refusal != NULL ? fake->refusal : "%1\r\n+proto\r\n:3\r\n";
    }
    if (slice_equal_fold(args[0], "client")) text = "+OK\r\n";
    if (slice_equal_fold(args[0], "kv.leader")) text = fake->leader;
    if (slice_equal_fold(args[0], "kv.members")) text = fake->members;
    if (text != NULL) fake_send(connection->fd, text, strlen(text));
    return text != NULL;
}

static inline void fake_command(struct fake *fake, struct fake_connection *connection)
{
    static const struct fake_step fine = {.action = FAKE_REPLY, .text = "+OK\r\n"};
    const struct resp_parser *parser = &connection->parser;
    struct buf out = {0};
    if (fake_small_talk(fake, connection)) return;
    for (uint32_t i = 0; i < parser->arg_count; i++) {
        if (i > 0) buf_text(&fake->log, " ");
        buf_append(&fake->log, parser->args[i].data, parser->args[i].size);
    }
    buf_text(&fake->log, "\n");
    if (fake->handler != NULL && fake->handler(parser->args, parser->arg_count, &out)) {
        fake_send(connection->fd, out.data, out.size);
        buf_close(&out);
        return;
    }
    if (fake->chooser != NULL) {
        const struct fake_step chosen = fake->chooser(parser->args, parser->arg_count);
        /* Answers come in order: after one that does not come there is none. */
        connection->is_mute = chosen.action == FAKE_SILENT;
        fake_play(connection, &chosen);
        return;
    }
    fake_play(connection,
              fake->step_next < fake->step_count ? &fake->steps[fake->step_next++] : &fine);
}

static inline void fake_read(struct fake *fake, struct fake_connection *connection)
{
    static const struct resp_limits limits = {
        .args_max = 131072, .bulk_max = 64u * 1024 * 1024, .inline_max = 65536};
    const ssize_t size = recv(connection->fd, buf_reserve(&connection->in, 65536), 65536,
                              MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
        fake_drop(connection, false);
        return;
    }
    if (connection->is_mute) return;
    connection->in.size += (uint64_t)size;
    while (connection->fd >= 0 && fake->greets && !connection->is_mute) {
        const enum resp_status status = resp_parse(&connection->parser, &limits,
                                                   buf_slice(&connection->in));
        if (status == RESP_MORE) return;
        CHECK(status == RESP_OK);
        const uint64_t taken = connection->parser.position;
        fake_command(fake, connection);
        if (connection->fd < 0) return;
        resp_parser_next(&connection->parser);
        buf_shift(&connection->in, taken);
    }
}

static inline void fake_accept(struct fake *fake)
{
    const int one = 1;
    const int fd = accept(fake->listener, NULL, NULL);
    if (fd < 0) return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fake->accepted++;
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        if (fake->connections[i].fd >= 0) continue;
        fake->connections[i].fd = fd;
        fake->connections[i].is_mute = false;
        resp_parser_init(&fake->connections[i].parser);
        return;
    }
    (void)close(fd);
}

static inline void *fake_main(void *argument)
{
    struct fake *fake = argument;
    while (true) {
        struct pollfd slots[FAKE_CONNECTIONS_MAX + 2];
        (void)pthread_mutex_lock(&fake->mutex); /* fake_hang_up() */
        slots[0] = (struct pollfd){.fd = fake->wake[0], .events = POLLIN};
        slots[1] = (struct pollfd){.fd = fake->listener, .events = POLLIN};
        for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
            slots[i + 2] = (struct pollfd){.fd = fake->connections[i].fd, .events = POLLIN};
        }
        (void)pthread_mutex_unlock(&fake->mutex);
        if (poll(slots, FAKE_CONNECTIONS_MAX + 2, -1) < 0) continue;
        if (slots[0].revents != 0) return NULL;
        (void)pthread_mutex_lock(&fake->mutex);
        for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
            if (fake->connections[i].fd != slots[i + 2].fd) continue; /* fake_hang_up() */
            if (slots[i + 2].revents != 0) fake_read(fake, &fake->connections[i]);
        }
        if (slots[1].revents != 0) fake_accept(fake);
        (void)pthread_mutex_unlock(&fake->mutex);
    }
}

static inline void fake_start(struct fake *fake)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof name;
    fake->greets = true;
    (void)snprintf(fake->leader, sizeof fake->leader, "_\r\n");
    (void)snprintf(fake->members, sizeof fake->members, "*0\r\n");
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) fake->connections[i].fd = -1;
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fake->listener >= 0);
    CHECK(bind(fake->listener, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(listen(fake->listener, 64) == 0);
    CHECK(getsockname(fake->listener, (struct sockaddr *)&name, &size) == 0);
    (void)snprintf(fake->address, sizeof fake->address, "127.0.0.1:%u", ntohs(name.sin_port));
    CHECK(pipe(fake->wake) == 0);
    CHECK(pthread_mutex_init(&fake->mutex, NULL) == 0);
    CHECK(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
}

/* Ends the node; its address refuses connections from now on. */
static inline void fake_stop(struct fake *fake)
{
    CHECK(write(fake->wake[1], "x", 1) == 1);
    CHECK(pthread_join(fake->thread, NULL) == 0);
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        if (fake->connections[i].fd >= 0) fake_drop(&fake->connections[i], true);
    }
    (void)close(fake->listener);
    (void)close(fake->wake[0]);
    (void)close(fake->wake[1]);
    (void)pthread_mutex_destroy(&fake->mutex);
    buf_close(&fake->log);
}

static inline void fake_step(struct fake *fake, enum fake_action action, const char *text)
{
    (void)pthread_mutex_lock(&fake->mutex);
    CHECK(fake->step_count < FAKE_STEPS_MAX);
    fake->steps[fake->step_count++] = (struct fake_step){.action = action, .text = text};
    (void)pthread_mutex_unlock(&fake->mutex);
}

/* From now on @leader leads; NULL: nobody. */
static inline void fake_say_leader(struct fake *fake, const char *name, const char *leader)
{
    (void)pthread_mutex_lock(&fake->mutex);
    if (leader == NULL) {
        (void)snprintf(fake->leader, sizeof fake->leader, "_\r\n");
    } else {
        (void)snprintf(fake->leader, sizeof fake->leader, "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
                       strlen(name), name, strlen(leader), leader);
    }
    (void)pthread_mutex_unlock(&fake->mutex);
}

/* Says @text on all connections, without being asked. */
static inline void fake_tell(struct fake *fake, const char *text)
{
    (void)pthread_mutex_lock(&fake->mutex);
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        if (fake->connections[i].fd >= 0) fake_send(fake->connections[i].fd, text, strlen(text));
    }
    (void)pthread_mutex_unlock(&fake->mutex);
}

/* Closes all connections, as a node does that is restarted between two calls. */
static inline void fake_hang_up(struct fake *fake)
{
    (void)pthread_mutex_lock(&fake->mutex);
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        if (fake->connections[i].fd < 0) continue;
        /* The thread's poll() holds the socket: closing alone would tell the client nothing yet. */
        (void)shutdown(fake->connections[i].fd, SHUT_RDWR);
        fake_drop(&fake->connections[i], false);
    }
    (void)pthread_mutex_unlock(&fake->mutex);
}

/* Connections so far. */
static inline uint32_t fake_accepted(struct fake *fake)
{
    (void)pthread_mutex_lock(&fake->mutex);
    const uint32_t accepted = fake->accepted;
    (void)pthread_mutex_unlock(&fake->mutex);
    return accepted;
}

/* What was asked so far, in @out (of @size), and forgets it. */
static inline void fake_log(struct fake *fake, char *out, size_t size)
{
    (void)pthread_mutex_lock(&fake->mutex);
    const uint64_t room = fake->log.size < size - 1 ? fake->log.size : size - 1;
    if (room > 0) memcpy(out, fake->log.data, room);
    out[room] = 0;
    fake->log.size = 0;
    (void)pthread_mutex_unlock(&fake->mutex);
}

#endif
