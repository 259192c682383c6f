/* core_fixture.h - one node alone, over a virtual disk and recorded connections, for tests of commands. */
#ifndef KV_TESTS_NODE_CORE_FIXTURE_H
#define KV_TESTS_NODE_CORE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/resp.h"
#include "node/core.h"
#include "storage/base/check.h"
#include "tests/sim/sim_disk.h"

struct fixture_client {
    struct session *session;
    struct buf out;
    uint64_t take_max; /* bytes the socket takes at once */
    bool is_closed;
    bool is_paused;
};

struct fixture {
    struct config config;
    struct sim_disk disk;
    struct net net;
    struct core *core;
    struct fixture_client clients[8];
    uint64_t now_ms;
    uint64_t wall_ms;
};

static inline uint64_t fixture_send(void *context, void *connection, const uint8_t *data,
                                    uint64_t size)
{
    (void)context;
    struct fixture_client *client = connection;
    if (size > client->take_max) size = client->take_max;
    buf_append(&client->out, data, size);
    return size;
}
static inline void fixture_pause(void *context, void *connection, bool paused)
{
    (void)context;
    ((struct fixture_client *)connection)->is_paused = paused;
}
static inline void fixture_close_client(void *context, void *connection)
{
    (void)context;
    ((struct fixture_client *)connection)->is_closed = true;
    ((struct fixture_client *)connection)->session = NULL;
}
static inline uint64_t fixture_no_peer(void *context, uint64_t id, const uint8_t *data,
                                       uint64_t size)
{
    (void)context;
    (void)id;
    (void)data;
    return size;
}
static inline void fixture_no_peer_close(void *context, uint64_t id)
{
    (void)context;
    (void)id;
}
static inline uint64_t fixture_no_link(void *context, void *connection, const uint8_t *data,
                                       uint64_t size)
{
    (void)context;
    (void)connection;
    (void)data;
    return size;
}
static inline void fixture_no_link_close(void *context, void *connection)
{
    (void)context;
    (void)connection;
}
static inline void fixture_log(void *context, int level, const char *line)
{
    (void)context;
    if (level >= CONFIG_ERROR || getenv("VERBOSE") != NULL) fprintf(stderr, "log: %s\n", line);
}

/* Lets time pass until nothing more happens at once, at most @ms. */
static inline void fixture_run(struct fixture *fixture, uint64_t ms)
{
    const uint64_t end = fixture->now_ms + ms;
    do {
        fixture->now_ms++;
        fixture->wall_ms++;
        (void)sim_disk_turn(&fixture->disk, fixture->now_ms);
        core_turn(fixture->core, fixture->now_ms, fixture->wall_ms);
        core_check(fixture->core);
    } while (fixture->now_ms < end);
}

static inline void fixture_start(struct fixture *fixture)
{
    char message[512] = "";
    int code = 0;
    fixture->core = core_create(&fixture->config, &fixture->disk.disk, &fixture->net, 42);
    const enum err err = core_start(fixture->core, fixture->now_ms, fixture->wall_ms, message,
                                    &code);
    if (err != OK) fprintf(stderr, "start: %s\n", message);
    CHECK(err == OK);
    for (int i = 0; i < 5000 && !core_serving(fixture->core, NULL); i++) fixture_run(fixture, 1);
    CHECK(core_serving(fixture->core, NULL));
}

static inline void fixture_open_sized(struct fixture *fixture, uint64_t segment_size)
{
    char message[256] = "";
    *fixture = (struct fixture){.now_ms = 1000, .wall_ms = 1700000000000};
    sim_disk_init(&fixture->disk, 7);
    config_defaults(&fixture->config, "alone");
    CHECK(config_finish(&fixture->config, message) == OK);
    fixture->net = (struct net){.context = fixture,
                                .client_send = fixture_send,
                                .client_pause = fixture_pause,
                                .client_close = fixture_close_client,
                                .peer_send = fixture_no_peer,
                                .peer_close = fixture_no_peer_close,
                                .link_send = fixture_no_link,
                                .link_close = fixture_no_link_close,
                                .log = fixture_log};
    for (int i = 0; i < 8; i++) fixture->clients[i].take_max = UINT64_MAX;
    fixture->config.segment_size = segment_size;
    fixture_start(fixture);
}

static inline void fixture_open(struct fixture *fixture)
{
    fixture_open_sized(fixture, SEGMENT_SIZE_DEFAULT);
}

static inline void fixture_stop(struct fixture *fixture)
{
    core_destroy(fixture->core);
    fixture->core = NULL;
    for (int i = 0; i < 8; i++) {
        buf_close(&fixture->clients[i].out);
        fixture->clients[i].session = NULL;
    }
}

/* A new process over the same disk; what was in memory is gone, also what the tail of the log held. */
static inline void fixture_restart(struct fixture *fixture)
{
    fixture_stop(fixture);
    fixture_start(fixture);
}

/* The same after a power cut. */
static inline void fixture_power_cut(struct fixture *fixture)
{
    sim_disk_stop(&fixture->disk, true);
    fixture_stop(fixture);
    sim_disk_crash(&fixture->disk);
    fixture_start(fixture);
}

static inline void fixture_close(struct fixture *fixture)
{
    fixture_stop(fixture);
    sim_disk_close(&fixture->disk);
}

static inline struct fixture_client *fixture_client(struct fixture *fixture, int at)
{
    struct fixture_client *client = &fixture->clients[at];
    if (client->session == NULL) {
        client->is_closed = false;
        client->session = core_client_open(fixture->core, client, CORE_FACE_CLIENT, "127.0.0.1:1");
    }
    return client;
}

/* Bytes come from a client; nothing is done yet. */
static inline void fixture_put(struct fixture *fixture, int at, const char *text)
{
    core_client_bytes(fixture->core, fixture_client(fixture, at)->session, (const uint8_t *)text,
                      strlen(text));
}

/* Everything that client @at got since it was last asked or looked at, as text. */
static inline const char *fixture_got(struct fixture *fixture, int at)
{
    struct buf *out = &fixture_client(fixture, at)->out;
    buf_u8(out, 0);
    out->size = 0;
    return (const char *)out->data;
}

/* The same with a space for each end of a line. */
static inline const char *fixture_got_flat(struct fixture *fixture, int at)
{
    struct buf *out = &fixture_client(fixture, at)->out;
    uint64_t size = 0;
    for (uint64_t i = 0; i < out->size; i++) {
        if (out->data[i] == '\n') continue;
        out->data[size++] = out->data[i] == '\r' ? ' ' : out->data[i];
    }
    out->size = size;
    return fixture_got(fixture, at);
}

/* Sends raw bytes and gives back everything that was answered, as text; it stays in the client's buffer. */
static inline const char *fixture_ask(struct fixture *fixture, int at, const void *data,
                                      uint64_t size)
{
    struct fixture_client *client = fixture_client(fixture, at);
    client->out.size = 0;
    core_client_bytes(fixture->core, client->session, data, size);
    fixture_run(fixture, 20);
    buf_u8(&client->out, 0);
    client->out.size--;
    return (const char *)client->out.data;
}

static inline const char *fixture_ask_args(struct fixture *fixture, int at, uint32_t count,
                                           const struct slice *args)
{
    struct buf text = {0};
    resp_put_command(&text, args, count);
    const char *answer = fixture_ask(fixture, at, text.data, text.size);
    buf_close(&text);
    return answer;
}

/* Inline commands, with the ends of their lines. */
static inline const char *fixture_ask_lines(struct fixture *fixture, const char *lines)
{
    return fixture_ask(fixture, 0, lines, strlen(lines));
}

/* An inline command. */
static inline const char *fixture_say_as(struct fixture *fixture, int at, const char *line)
{
    char text[1024];
    const int size = snprintf(text, sizeof text, "%s\r\n", line);
    return fixture_ask(fixture, at, text, (uint64_t)size);
}

static inline const char *fixture_say(struct fixture *fixture, const char *line)
{
    return fixture_say_as(fixture, 0, line);
}

#endif
