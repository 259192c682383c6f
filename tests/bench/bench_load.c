/* Connections, the phases of a run, the loop. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define EVENTS_MAX 256
#define READ_SIZE (256u * 1024u)
#define CONNECT_SECONDS 5
#define STALL_NS (15u * 1000000000ull) /* no reply for so long ends the run */
#define DRAIN_NS (5u * 1000000000ull)  /* what replies may still take once measuring is over */

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- what the protocols share ------------------------------------------------------------------------------ */

uint64_t bench_random(struct bench *bench)
{
    /* xorshift64*: the state is never 0. */
    uint64_t x = bench->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    bench->random = x;
    return x * 0x2545f4914f6cdd1dull;
}

enum bench_operation bench_pick(struct bench *bench, uint32_t *key)
{
    const struct bench_options *options = &bench->options;
    if (options->operation == BENCH_FILL) {
        *key = bench->fill_next++;
        return BENCH_SET;
    }
    const uint64_t random = bench_random(bench);
    *key = (uint32_t)(((random >> 32) * options->keys) >> 32);
    if (options->operation != BENCH_MIX) return options->operation;
    return ((random & 0xffff) * 100) >> 16 < options->read_percent ? BENCH_GET : BENCH_SET;
}

const uint8_t *bench_value(struct bench *bench)
{
    return bench->pool + (bench_random(bench) >> 48) % BENCH_POOL_SIZE;
}

void bench_digits(uint8_t *digits, uint32_t key)
{
    for (uint32_t i = BENCH_DIGITS; i > 0; i--) {
        digits[i - 1] = (uint8_t)('0' + key % 10);
        key /= 10;
    }
}

void bench_complete(struct bench *bench, struct bench_conn *conn, uint64_t sent_ns,
                    enum bench_outcome outcome, const char *error, size_t error_size)
{
    conn->inflight--;
    bench->inflight--;
    bench->last_reply_ns = bench->now_ns;
    /* An error is told whenever it comes: a warm-up that fails says what the rest of the run will be. */
    if (outcome == BENCH_ERROR && bench->first_error[0] == '\0') {
        while (error_size > 0 && (uint8_t)error[error_size - 1] <= ' ') error_size--;
        if (error_size >= BENCH_ERROR_SIZE) error_size = BENCH_ERROR_SIZE - 1;
        memcpy(bench->first_error, error, error_size);
        bench->first_error[error_size] = '\0';
    }
    if (bench->phase != BENCH_MEASURE) return;
    bench->completed++;
    if (outcome == BENCH_ERROR) {
        bench->errors++;
    } else if (outcome == BENCH_MISS) {
        bench->misses++;
    } else {
        bench->successes++;
        bench_histogram_add(&bench->latencies, bench->now_ns - sent_ns);
    }
}

uint8_t *bench_bytes_reserve(struct bench_bytes *bytes, size_t size)
{
    if (bytes->capacity - bytes->size >= size) return bytes->data + bytes->size;
    const size_t used = bytes->size - bytes->start;
    if (used > 0) memmove(bytes->data, bytes->data + bytes->start, used);
    bytes->start = 0;
    bytes->size = used;
    if (bytes->capacity - used < size) {
        size_t capacity = bytes->capacity == 0 ? 1024 : bytes->capacity;
        while (capacity - used < size) capacity *= 2;
        bytes->data = realloc(bytes->data, capacity);
        if (bytes->data == NULL) bench_die("out of memory");
        bytes->capacity = capacity;
    }
    return bytes->data + bytes->size;
}

void bench_bytes_put(struct bench_bytes *bytes, const void *data, size_t size)
{
    if (size == 0) return;
    memcpy(bench_bytes_reserve(bytes, size), data, size);
    bytes->size += size;
}

/* ---- opening and closing ------------------------------------------------------------------------------------ */

static int connect_to(const struct bench_target *target)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const int status = getaddrinfo(target->host, target->port, &hints, &found);
    if (status != 0) bench_die("%s: %s", target->host, gai_strerror(status));
    int fd = -1;
    int error = 0;
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0) bench_die("socket: %s", strerror(errno));
        /* Bounds connect() as well: a server that is stopped accepts nothing. */
        const struct timeval limit = {.tv_sec = CONNECT_SECONDS};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, at->ai_addr, at->ai_addrlen) == 0) break;
        error = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd < 0)
        bench_die("cannot connect to %s:%s: %s", target->host, target->port, strerror(error));
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) bench_die("fcntl: %s", strerror(errno));
    return fd;
}

static void open_conn(struct bench *bench, uint32_t at)
{
    struct bench_conn *conn = &bench->conns[at];
    const struct bench_options *options = &bench->options;
    conn->fd = connect_to(&options->targets[at % options->target_count]);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(bench->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        bench_die("epoll_ctl: %s", strerror(errno));
    }
    if (options->protocol == BENCH_RESP) {
        bench_resp_open_conn(bench, conn);
        return;
    }
    /* All clients share the channels as evenly as their number allows. */
    const uint32_t clients = options->connections / bench->conn_count +
                             (at < options->connections % bench->conn_count ? 1 : 0);
    conn->inflight_max = clients * options->pipeline;
    bench_etcd_open_conn(bench, conn);
}

void bench_load_open(struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    bench->random = options->seed * 0x9e3779b97f4a7c15ull + 0x1234567;
    if (bench->random == 0) bench->random = 1;

    /* Values differ from each other. How well they compress is in the part of each 64 bytes that is random: all of it
     * unless --random-percent says otherwise. */
    bench->pool = malloc(BENCH_POOL_SIZE + options->value_size);
    bench->input_size = READ_SIZE + options->value_size;
    bench->input = malloc(bench->input_size);
    bench->conn_count = options->connections;
    if (options->protocol == BENCH_ETCD && options->channels < bench->conn_count) {
        bench->conn_count = options->channels;
    }
    bench->conns = calloc(bench->conn_count, sizeof *bench->conns);
    bench->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (bench->pool == NULL || bench->input == NULL || bench->conns == NULL) {
        bench_die("out of memory");
    }
    if (bench->epoll_fd < 0) bench_die("epoll_create1: %s", strerror(errno));
    for (uint32_t i = 0; i < BENCH_POOL_SIZE + options->value_size; i++) {
        const bool is_random = i % 64 * 100 < options->random_percent * 64;
        const uint32_t letter = is_random ? (uint32_t)(bench_random(bench) >> 58) : i % 64;
        bench->pool[i] =
            (uint8_t) "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[letter];
    }
    if (options->protocol == BENCH_RESP) bench_resp_open(bench);
    for (uint32_t i = 0; i < bench->conn_count; i++) open_conn(bench, i);
}

void bench_load_close(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->conn_count; i++) {
        struct bench_conn *conn = &bench->conns[i];
        if (conn->etcd != NULL) bench_etcd_close_conn(conn);
        close(conn->fd);
        free(conn->out.data);
        free(conn->rest.data);
        free(conn->queue);
    }
    close(bench->epoll_fd);
    free(bench->conns);
    free(bench->input);
    free(bench->pool);
}

/* ---- the loop ------------------------------------------------------------------------------------------------- */

static bool may_issue(const struct bench *bench)
{
    if (bench->phase == BENCH_WARMUP) return true;
    if (bench->phase != BENCH_MEASURE) return false;
    return bench->options.requests == 0 || bench->issued < bench->options.requests;
}

static void issue(struct bench *bench, struct bench_conn *conn)
{
    const bool etcd = bench->options.protocol == BENCH_ETCD;
    while (conn->inflight < conn->inflight_max && may_issue(bench)) {
        if (etcd) {
            bench_etcd_issue(bench, conn);
        } else {
            bench_resp_issue(bench, conn);
        }
        conn->inflight++;
        bench->inflight++;
        bench->issued++;
    }
}

static void flush(struct bench *bench, struct bench_conn *conn)
{
    struct bench_bytes *out = &conn->out;
    if (conn->etcd != NULL) bench_etcd_flush(conn);
    while (out->start < out->size) {
        const ssize_t sent = send(conn->fd, out->data + out->start, out->size - out->start, 0);
        if (sent >= 0) {
            out->start += (size_t)sent;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            bench_die("cannot send: %s", strerror(errno));
        }
    }
    if (out->start == out->size) out->start = out->size = 0;
    const bool waits_for_room = out->size > 0;
    if (waits_for_room == conn->waits_for_room) return;
    struct epoll_event event = {.events = EPOLLIN | (waits_for_room ? EPOLLOUT : 0u),
                                .data.ptr = conn};
    if (epoll_ctl(bench->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) != 0) {
        bench_die("epoll_ctl: %s", strerror(errno));
    }
    conn->waits_for_room = waits_for_room;
}

static void receive(struct bench *bench, struct bench_conn *conn)
{
    /* The common buffer stays in the caches; only the beginning of an unfinished reply is copied. */
    const size_t kept = conn->rest.size;
    if (kept > 0) memcpy(bench->input, conn->rest.data, kept);
    const ssize_t got = recv(conn->fd, bench->input + kept, bench->input_size - kept, 0);
    if (got == 0) {
        bench_die("the server closed a connection%s%s", bench->first_error[0] ? " after: " : "",
                  bench->first_error);
    }
    if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        bench_die("cannot receive: %s", strerror(errno));
    }
    bench->now_ns = clock_ns();
    const size_t size = kept + (size_t)got;
    conn->rest.size = 0;
    if (conn->etcd != NULL) {
        bench_etcd_take(bench, conn, bench->input, size);
        return;
    }
    const size_t used = bench_resp_take(bench, conn, bench->input, size);
    if (used == size) return;
    if (size - used + 1024 > bench->input_size) {
        bench_die("a reply is longer than --value-size %u explains", bench->options.value_size);
    }
    bench_bytes_put(&conn->rest, bench->input + used, size - used);
}

static void start_measuring(struct bench *bench)
{
    bench->phase = BENCH_MEASURE;
    bench->measure_ns = bench->now_ns;
    bench->issued = 0;
    bench->client_cpu_us = cpu_us();
}

/* Moves on to the next phase when the present one is over. */
static void advance(struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    const uint64_t now = bench->now_ns;
    const bool timed_out = (double)(now - bench->begin_ns) >= options->timeout_s * 1e9;
    if (bench->inflight > 0 && now > bench->last_reply_ns + STALL_NS) {
        bench_die("no reply for 15 s after %llu replies%s%s", (unsigned long long)bench->completed,
                  bench->first_error[0] ? "; first error: " : "", bench->first_error);
    }
    if (bench->phase == BENCH_WARMUP) {
        if ((double)(now - bench->begin_ns) >= options->warmup_s * 1e9) start_measuring(bench);
    } else if (bench->phase == BENCH_MEASURE) {
        const bool enough = options->requests > 0 && bench->completed >= options->requests;
        const bool late = options->seconds > 0 &&
                          (double)(now - bench->measure_ns) >= options->seconds * 1e9;
        if (!enough && !late && !timed_out) return;
        bench->phase = BENCH_DRAIN;
        bench->end_ns = now;
        bench->client_cpu_us = cpu_us() - bench->client_cpu_us;
    } else if (bench->inflight == 0 || now > bench->end_ns + DRAIN_NS) {
        bench->phase = BENCH_DONE;
    }
}

void bench_load_run(struct bench *bench)
{
    struct epoll_event events[EVENTS_MAX];
    const bool window = bench->options.window || bench->options.protocol == BENCH_ETCD;
    bench->now_ns = bench->begin_ns = bench->last_reply_ns = clock_ns();
    if (bench->options.warmup_s > 0) {
        bench->phase = BENCH_WARMUP;
    } else {
        start_measuring(bench);
    }
    for (uint32_t i = 0; i < bench->conn_count; i++) {
        bench->now_ns = clock_ns();
        issue(bench, &bench->conns[i]);
        flush(bench, &bench->conns[i]);
    }
    while (bench->phase != BENCH_DONE) {
        const int count = epoll_wait(bench->epoll_fd, events, EVENTS_MAX, 50);
        if (count < 0 && errno != EINTR) bench_die("epoll_wait: %s", strerror(errno));
        bench->now_ns = clock_ns();
        for (int i = 0; i < count; i++) {
            struct bench_conn *conn = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(bench, conn);
            if (window || conn->inflight == 0) issue(bench, conn);
            flush(bench, conn);
        }
        advance(bench);
    }
}
