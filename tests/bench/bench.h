/* bench.h - a closed-loop load generator for Redis and etcd servers, as one epoll loop on one thread.
 *
 * Each connection keeps at most `pipeline` requests outstanding and sends the next ones when replies came. What
 * it costs matters as much as what it measures, because generator and servers share the machine: requests are
 * copied from a template, and the clock is read once for all that one read() brought.
 *
 * A reply counts as a success only when it is the one the request asks for; everything else is an error and is
 * in neither the rate nor the latencies. */
#ifndef KV_TESTS_BENCH_H
#define KV_TESTS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/bench/bench_histogram.h"

#define BENCH_TARGETS_MAX 16u
#define BENCH_CONNECTIONS_MAX 10000u
#define BENCH_PIPELINE_MAX 4096u
#define BENCH_VALUE_SIZE_MAX (8u * 1024u * 1024u)
#define BENCH_KEYS_MAX 1000000000u /* their numbers have nine digits at most */
#define BENCH_INFLIGHT_SIZE_MAX (1024u * 1024u * 1024u)
#define BENCH_POOL_SIZE (64u * 1024u) /* values begin at any of so many places of a random text */
#define BENCH_ERROR_SIZE 160u
#define BENCH_DIGITS 12u
#define BENCH_KEY_SIZE (4u + BENCH_DIGITS) /* "key:" and the digits */

enum bench_protocol { BENCH_RESP, BENCH_ETCD };
enum bench_operation { BENCH_SET, BENCH_GET, BENCH_MIX, BENCH_FILL, BENCH_PING };
enum bench_format { BENCH_TEXT, BENCH_CSV, BENCH_JSON };

struct bench_target {
    char host[256];
    char port[6];
};

struct bench_options {
    enum bench_protocol protocol;
    enum bench_operation operation;
    enum bench_format format;
    struct bench_target targets[BENCH_TARGETS_MAX]; /* connections take them in turn */
    uint32_t target_count;
    uint32_t connections;
    uint32_t pipeline;
    uint32_t channels; /* etcd: HTTP/2 connections that all clients share at most */
    uint32_t value_size;
    uint32_t random_percent; /* of the bytes of a value; the others repeat */
    uint32_t keys;
    uint64_t requests; /* 0: as many as `seconds` allows */
    double seconds;    /* 0: until `requests` are done */
    double warmup_s;
    double timeout_s; /* bounds the whole run, whatever else is asked */
    uint32_t read_percent;
    uint64_t seed;
    bool window; /* refill the pipeline after each reply instead of when all of them came */
    bool allow_remote;
    bool header; /* CSV: names of the columns first */
    char label[64];
};

/* Owned bytes that are appended at the end and consumed from the start. */
struct bench_bytes {
    uint8_t *data;
    size_t start;
    size_t size; /* end of what is there; start <= size <= capacity */
    size_t capacity;
};

/* One request on its way. */
struct bench_request {
    uint64_t sent_ns;
    enum bench_operation kind; /* SET, GET or PING */
};

struct bench_etcd; /* the HTTP/2 side of a connection, see bench_etcd.c */

struct bench_conn {
    int fd;
    bool waits_for_room;   /* epoll watches for writing too */
    uint32_t inflight_max; /* requests that may be outstanding */
    uint32_t inflight;
    struct bench_bytes out;
    struct bench_bytes rest;     /* the beginning of a reply whose end is still to come */
    struct bench_request *queue; /* RESP: a ring of queue_size requests, oldest at queue_head */
    uint32_t queue_size;         /* a power of two */
    uint32_t queue_head;
    struct bench_etcd *etcd;
};

enum bench_phase { BENCH_WARMUP, BENCH_MEASURE, BENCH_DRAIN, BENCH_DONE };
enum bench_outcome { BENCH_SUCCESS, BENCH_MISS, BENCH_ERROR };

struct bench {
    struct bench_options options;
    struct bench_conn *conns;
    uint32_t conn_count;
    int epoll_fd;
    enum bench_phase phase;
    uint64_t random; /* state of the generator of keys */
    uint64_t now_ns; /* as of the last return of epoll_wait or the last read */
    uint64_t begin_ns, measure_ns, end_ns, last_reply_ns;
    uint64_t issued;    /* of the phases so far that count towards `requests` */
    uint64_t completed; /* while measuring, with errors */
    uint64_t successes, misses, errors;
    uint64_t inflight;
    uint32_t fill_next; /* next key of BENCH_FILL */
    char first_error[BENCH_ERROR_SIZE];
    struct bench_histogram latencies;
    uint64_t client_cpu_us; /* at measure_ns, then what measuring took */
    uint8_t *pool;          /* BENCH_POOL_SIZE + value_size bytes to take values from */
    uint8_t *input;         /* where every read() goes */
    size_t input_size;
    uint8_t set_head[128], get_head[64]; /* requests up to the value, see bench_resp.c */
    uint32_t set_head_size, get_head_size, set_digits_offset, get_digits_offset;
};

/* ---- bench_options.c ---------------------------------------------------------------------------------------- */

/* Prints "kvbench: ..." to standard error and exits with code 2: nothing sensible can be measured. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Reads the command line; ends the process on --help, --version and mistakes. */
void bench_options_parse(struct bench_options *options, int argc, char **argv);
const char *bench_operation_name(enum bench_operation operation);

/* ---- bench_load.c: connections, phases, the loop ---------------------------------------------------------- */

void bench_load_open(struct bench *bench);
void bench_load_run(struct bench *bench);
void bench_load_close(struct bench *bench);
uint64_t bench_random(struct bench *bench);
/* The operation and key of the next request. */
enum bench_operation bench_pick(struct bench *bench, uint32_t *key);
/* A value of options.value_size bytes, borrowed. */
const uint8_t *bench_value(struct bench *bench);
void bench_digits(uint8_t *digits, uint32_t key); /* BENCH_DIGITS of them */
/* A reply came: counts it. @error (borrows) is the text when @outcome is BENCH_ERROR. */
void bench_complete(struct bench *bench, struct bench_conn *conn, uint64_t sent_ns,
                    enum bench_outcome outcome, const char *error, size_t error_size);
void bench_bytes_put(struct bench_bytes *bytes, const void *data, size_t size);
uint8_t *bench_bytes_reserve(struct bench_bytes *bytes, size_t size); /* the caller adds to size */

/* ---- the protocols: the same three calls ------------------------------------------------------------------ */

void bench_resp_open(struct bench *bench);
void bench_resp_open_conn(struct bench *bench, struct bench_conn *conn);
void bench_resp_issue(struct bench *bench, struct bench_conn *conn);
/* Takes the replies of @data and returns the bytes used; the rest is given again with what follows it. */
size_t bench_resp_take(struct bench *bench, struct bench_conn *conn, const uint8_t *data,
                       size_t size);

bool bench_etcd_available(void); /* compiled with libnghttp2 */
void bench_etcd_open_conn(struct bench *bench, struct bench_conn *conn);
void bench_etcd_issue(struct bench *bench, struct bench_conn *conn);
void bench_etcd_take(struct bench *bench, struct bench_conn *conn, const uint8_t *data,
                     size_t size);
/* Moves what HTTP/2 wants to send into conn->out. */
void bench_etcd_flush(struct bench_conn *conn);
void bench_etcd_close_conn(struct bench_conn *conn);

/* ---- bench_report.c ----------------------------------------------------------------------------------------- */

void bench_report(const struct bench *bench);

#endif
