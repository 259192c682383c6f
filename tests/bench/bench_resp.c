/* Requests and replies of the Redis protocol. The requests are the ones of redis-benchmark: SET key value, GET key. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"

static const char ping[] = "*1\r\n$4\r\nPING\r\n";

void bench_resp_open(struct bench *bench)
{
    const int set_size = snprintf((char *)bench->set_head, sizeof bench->set_head,
                                  "*3\r\n$3\r\nSET\r\n$%u\r\nkey:000000000000\r\n$%u\r\n",
                                  BENCH_KEY_SIZE, bench->options.value_size);
    const int get_size = snprintf((char *)bench->get_head, sizeof bench->get_head,
                                  "*2\r\n$3\r\nGET\r\n$%u\r\nkey:000000000000\r\n", BENCH_KEY_SIZE);
    bench->set_head_size = (uint32_t)set_size;
    bench->get_head_size = (uint32_t)get_size;
    const char *set_key = strstr((const char *)bench->set_head, "key:");
    const char *get_key = strstr((const char *)bench->get_head, "key:");
    bench->set_digits_offset = (uint32_t)(set_key - (const char *)bench->set_head) + 4;
    bench->get_digits_offset = (uint32_t)(get_key - (const char *)bench->get_head) + 4;
}

void bench_resp_open_conn(struct bench *bench, struct bench_conn *conn)
{
    conn->inflight_max = bench->options.pipeline;
    conn->queue_size = 1;
    while (conn->queue_size < conn->inflight_max) conn->queue_size *= 2;
    conn->queue = calloc(conn->queue_size, sizeof *conn->queue);
    if (conn->queue == NULL) bench_die("out of memory");
}

void bench_resp_issue(struct bench *bench, struct bench_conn *conn)
{
    uint32_t key;
    const enum bench_operation kind = bench_pick(bench, &key);
    struct bench_request *request =
        &conn->queue[(conn->queue_head + conn->inflight) & (conn->queue_size - 1)];
    request->sent_ns = bench->now_ns;
    request->kind = kind;
    if (kind == BENCH_PING) {
        bench_bytes_put(&conn->out, ping, sizeof ping - 1);
        return;
    }
    if (kind == BENCH_GET) {
        uint8_t *at = bench_bytes_reserve(&conn->out, bench->get_head_size);
        memcpy(at, bench->get_head, bench->get_head_size);
        bench_digits(at + bench->get_digits_offset, key);
        conn->out.size += bench->get_head_size;
        return;
    }
    const size_t size = (size_t)bench->set_head_size + bench->options.value_size + 2;
    uint8_t *at = bench_bytes_reserve(&conn->out, size);
    memcpy(at, bench->set_head, bench->set_head_size);
    bench_digits(at + bench->set_digits_offset, key);
    memcpy(at + bench->set_head_size, bench_value(bench), bench->options.value_size);
    memcpy(at + size - 2, "\r\n", 2);
    conn->out.size += size;
}

/* One whole reply at the start of @data. */
struct reply {
    size_t size;  /* of all of it; 0: its end is still to come */
    int64_t bulk; /* length of a string; -1 for null, -2 when it is another type */
};

static struct reply read_reply(const uint8_t *data, size_t size)
{
    const uint8_t *newline = memchr(data, '\n', size < 65536 ? size : 65536);
    if (newline == NULL) {
        if (size >= 65536) bench_die("the server sent a line without an end");
        return (struct reply){0};
    }
    const size_t line_size = (size_t)(newline - data) + 1;
    switch (data[0]) {
    case '+':
    case '-':
    case ':': return (struct reply){.size = line_size, .bulk = -2};
    case '_': return (struct reply){.size = line_size, .bulk = -1};
    case '$': break;
    default: bench_die("the server sent a reply that no request asks for, of type 0x%02x", data[0]);
    }
    if (data[1] == '-') return (struct reply){.size = line_size, .bulk = -1};
    int64_t bulk = 0;
    for (size_t at = 1; at + 2 < line_size; at++) {
        if (data[at] < '0' || data[at] > '9') bench_die("the server sent a bad length");
        bulk = bulk * 10 + (data[at] - '0');
        if (bulk > BENCH_VALUE_SIZE_MAX) bench_die("the server sent a value of over 8 MiB");
    }
    const size_t whole = line_size + (size_t)bulk + 2;
    return (struct reply){.size = whole <= size ? whole : 0, .bulk = bulk};
}

static void judge(struct bench *bench, struct bench_conn *conn, const uint8_t *data,
                  struct reply reply, const struct bench_request *request)
{
    enum bench_outcome outcome = BENCH_ERROR;
    char text[64];
    const char *error = (const char *)data;
    size_t error_size = reply.size;
    if (request->kind == BENCH_SET) {
        if (reply.size == 5 && memcmp(data, "+OK\r\n", 5) == 0) outcome = BENCH_SUCCESS;
    } else if (request->kind == BENCH_PING) {
        if (reply.size == 7 && memcmp(data, "+PONG\r\n", 7) == 0) outcome = BENCH_SUCCESS;
    } else if (reply.bulk == -1) {
        outcome = BENCH_MISS;
    } else if (reply.bulk == (int64_t)bench->options.value_size) {
        outcome = BENCH_SUCCESS;
    } else if (reply.bulk >= 0) {
        const int size = snprintf(text, sizeof text, "a value of %lld bytes instead of %u",
                                  (long long)reply.bulk, bench->options.value_size);
        error = text;
        error_size = (size_t)size;
    }
    bench_complete(bench, conn, request->sent_ns, outcome, error, error_size);
}

size_t bench_resp_take(struct bench *bench, struct bench_conn *conn, const uint8_t *data,
                       size_t size)
{
    size_t used = 0;
    while (used < size) {
        const struct reply reply = read_reply(data + used, size - used);
        if (reply.size == 0) break;
        if (conn->inflight == 0) bench_die("the server sent a reply to no request");
        const struct bench_request request = conn->queue[conn->queue_head];
        conn->queue_head = (conn->queue_head + 1) & (conn->queue_size - 1);
        judge(bench, conn, data + used, reply, &request);
        used += reply.size;
    }
    return used;
}
