#include "node/host/host_loop.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "node/core.h"
#include "node/host/host_disk.h"
#include "node/host/host_folder.h"
#include "node/host/host_http.h"
#include "node/host/host_log.h"
#include "node/host/host_net.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define FLUSH_MS 1000u /* for the last replies, after the core has ended */
#define TRIM_MS 10000u
#define TRIM_SIZE                                                                                  \
    (64u * MIB) /* what a burst left behind, from which giving it back is worth the while */
#define FILES_RESERVED_MIN 64u /* handles for files, peers and listeners, beside those of clients */
#define FILES_RESERVED_MAX (256u * 1024u) /* each data file has one, and there may be 233,000 */
#define FILES_MAX (4u * MIB)
#define MEASURE_NS 500000u

struct host {
    struct host_options *options;
    struct config *config;
    uv_loop_t loop;
    struct host_disk disk;
    struct host_net net;
    struct host_http http;
    struct core *core;
    uv_check_t check;
    uv_timer_t timer;
    uv_idle_t idle; /* Runs while the next turn is due at once. */
    uv_signal_t signals[3];
    uint64_t armed_ms; /* what the timer is set to; UINT64_MAX: not set */
    uint64_t
        finish_ms;    /* not 0: the core has ended, the last bytes leave until then at the latest */
    bool is_stopping; /* by a signal */
    bool is_ready_logged; /* "ready" was said */
    uint64_t file_limit;  /* file handles that this process may have */
    uint32_t reserved;    /* of them not for clients, at least */
    int exit_code;
    uint64_t trim_ms;     /* next look at the memory */
    uint64_t used_peak;   /* most bytes in use since the last look, */
    uint64_t used_before; /* and before it */
    uint64_t measured_ns; /* When was looked at how busy the loop had been, */
    uint64_t busy_us;     /* and what it was since the start. */
};

static uint64_t wall_ms(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || now.tv_sec < 0) return 0;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int fail_start(int code, const char *message)
{
    fprintf(stderr, "kvnode: %s\n", message);
    return code;
}

/* ---- the turn ------------------------------------------------------------------------------------------- */

static void say_ready(struct host *host)
{
    char reason[64];
    struct buf client = {0};
    struct buf peer = {0};
    if (host->is_ready_logged || !core_serving(host->core, reason)) return;
    host->is_ready_logged = true;
    config_get(host->config, "client", &client);
    config_get(host->config, "peer", &peer);
    host_log_always("ready: %s, clients on %.*s, peers on %.*s", host->config->name,
                    (int)client.size, (const char *)client.data, (int)peer.size,
                    (const char *)peer.data);
    buf_close(&client);
    buf_close(&peer);
}

static void turn(struct host *host);

static void on_timer(uv_timer_t *timer)
{
    struct host *host = timer->data;
    host->armed_ms = UINT64_MAX;
    /* Here and not in on_check: without a timer the loop would sleep before it gets there. */
    turn(host);
}

/* While it runs the loop looks at its sockets without sleeping, and then the next turn comes. */
static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void arm(struct host *host, uint64_t deadline_ms)
{
    if (deadline_ms <= uv_now(&host->loop)) {
        /* Not by a timer of 0 ms: libuv would run it, and thereby turn after turn, before it looks at any socket. */
        (void)uv_idle_start(&host->idle, on_idle);
        deadline_ms = UINT64_MAX;
    } else {
        (void)uv_idle_stop(&host->idle);
    }
    if (deadline_ms == host->armed_ms) return;
    host->armed_ms = deadline_ms;
    if (deadline_ms == UINT64_MAX) {
        (void)uv_timer_stop(&host->timer);
        return;
    }
    const uint64_t now = uv_now(&host->loop);
    const uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
    (void)uv_timer_start(&host->timer, on_timer, left, 0);
}

/* The core has ended; only what sockets have not taken yet keeps us. */
static void finish(struct host *host)
{
    const uint64_t now = uv_now(&host->loop);
    if (host->finish_ms == 0) host->finish_ms = now + FLUSH_MS;
    if (host_net_flushed(&host->net) || now >= host->finish_ms) {
        uv_stop(&host->loop);
        return;
    }
    arm(host, host->finish_ms);
}

/* The C library keeps what was freed, since buffers of a megabyte come and go. When a burst of clients has been gone
 * for a while the system gets it back: that takes milliseconds, so never in the middle of the burst. */
static void give_back(struct host *host, uint64_t now)
{
    const uint64_t used = mem_used();
    if (used > host->used_peak) host->used_peak = used;
    if (now < host->trim_ms) return;
    const bool is_over = host->used_peak + TRIM_SIZE < host->used_before;
#ifdef __GLIBC__
    if (is_over) (void)malloc_trim(TRIM_SIZE / 4);
#endif
    if (is_over || host->used_peak > host->used_before) host->used_before = host->used_peak;
    host->used_peak = used;
    host->trim_ms = now + TRIM_MS;
}

/* The files of the data grow in number, and stay open: when they have used up what was kept for them, clients make
 * way for them. */
static void share_files(struct host *host)
{
    const uint64_t data = atomic_load(&host->disk.open_files) + FILES_RESERVED_MIN;
    const uint64_t kept = data > host->reserved ? data : host->reserved;
    const uint64_t room = host->file_limit > kept ? host->file_limit - kept : 1;
    core_set_room(host->core, room);
}

/* How long the loop kept its thread busy, as others who wait for it feel it; what the system gave to other processes
 * meanwhile does not count. Asking for that costs half a microsecond, so short rounds are taken together. */
static void measure(struct host *host)
{
    struct timespec busy;
    const uint64_t now_ns = uv_hrtime();
    if (now_ns - host->measured_ns < MEASURE_NS) return;
    host->measured_ns = now_ns;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &busy) != 0) return;
    const uint64_t busy_us = (uint64_t)busy.tv_sec * 1000000 + (uint64_t)busy.tv_nsec / 1000;
    if (host->busy_us != 0) core_note_busy(host->core, busy_us - host->busy_us);
    host->busy_us = busy_us;
}

static void turn_once(struct host *host)
{
    uv_update_time(&host->loop);
    const uint64_t now = uv_now(&host->loop);
    if (host->finish_ms != 0) {
        finish(host);
        return;
    }
    share_files(host);
    core_turn(host->core, now, wall_ms());
    give_back(host, now);
    const bool reported = host_net_turn(&host->net);
    host_http_turn(&host->http);
    host->exit_code = core_failed(host->core);
    if (host->exit_code != 0) {
        uv_stop(&host->loop);
        return;
    }
    if (core_stopped(host->core)) {
        finish(host);
        return;
    }
    say_ready(host);
    arm(host, reported ? now : core_deadline(host->core));
}

static void turn(struct host *host)
{
    turn_once(host);
    measure(host);
}

static void on_check(uv_check_t *check)
{
    turn(check->data);
}

static int answer_http(void *context, const char *path, struct buf *body, const char **type)
{
    struct host *host = context;
    return core_http(host->core, path, body, type);
}

/* ---- signals -------------------------------------------------------------------------------------------- */

static void on_stop(uv_signal_t *handle, int number)
{
    struct host *host = handle->data;
    if (host->is_stopping) {
        /* Whoever asks twice does not want to wait; the log on disk is as safe as after a crash. */
        (void)signal(number, SIG_DFL);
        (void)raise(number);
        return;
    }
    host->is_stopping = true;
    core_stop(host->core, uv_now(&host->loop));
}

static void on_reload(uv_signal_t *handle, int number)
{
    struct host *host = handle->data;
    char message[HOST_OPTIONS_MESSAGE_SIZE];
    struct config *fresh = mem_alloc(sizeof *fresh);
    (void)number;
    if (host_options_load(host->options, fresh, message) == OK) {
        core_reload(host->core, fresh);
        host_log_line(1, "options read again: those that need no restart are in force");
    } else {
        host_log_printf(2, "options not read again: %s", message);
    }
    mem_free(fresh);
}

static void start_signals(struct host *host)
{
    const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};
    for (uint32_t i = 0; i < 3; i++) {
        uv_signal_t *handle = &host->signals[i];
        CHECK(uv_signal_init(&host->loop, handle) == 0);
        handle->data = host;
        CHECK(uv_signal_start(handle, i < 2 ? on_stop : on_reload, numbers[i]) == 0);
    }
}

/* ---- start ---------------------------------------------------------------------------------------------- */

/* Raises the limit of open files as far as the system lets us: every file of the data stays open, and there may be
 * tens of thousands. Returns the limit. */
static uint64_t raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
    /* Without a hard limit the kernel has one all the same: half as much may do. */
    while (limit.rlim_cur > before && setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur /= 2;
    return limit.rlim_cur > before ? limit.rlim_cur : before;
}

/* Says so when a limit of @files allows fewer clients than max-connections. Returns how many files are kept for what is
 * no client. */
static uint32_t divide_files(const struct config *config, uint64_t files)
{
    uint64_t reserved = files / 4;
    if (reserved > FILES_RESERVED_MAX) reserved = FILES_RESERVED_MAX;
    if (reserved < FILES_RESERVED_MIN) reserved = FILES_RESERVED_MIN;
    if (config->max_connections + reserved <= files) return (uint32_t)reserved;
    const uint64_t room = files > reserved ? files - reserved : 1;
    host_log_printf(
        2,
        "max-connections is %llu instead of %llu: this process may open only %llu files, of which "
        "%llu are kept for data and peers (raise it with ulimit -n, or LimitNOFILE of systemd)",
        (unsigned long long)room, (unsigned long long)config->max_connections,
        (unsigned long long)files, (unsigned long long)reserved);
    return (uint32_t)reserved;
}

static void warn_of_open_doors(const struct config *config)
{
    const struct {
        const char *name;
        const struct config_address *address;
    } listeners[] = {{"client", &config->client},
                     {"cluster-client", &config->cluster_client},
                     {"peer", &config->peer},
                     {"http", &config->http}};
    for (uint32_t i = 0; i < sizeof listeners / sizeof listeners[0]; i++) {
        if (!config_address_public(listeners[i].address)) continue;
        host_log_printf(2,
                        "%s: listens on %s:%u, which other machines can reach, and there is no "
                        "authentication in this version: only a firewall keeps strangers out",
                        listeners[i].name, listeners[i].address->host,
                        (unsigned)listeners[i].address->port);
    }
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    while (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        CHECK(errno == EINTR);
    }
    return seed;
}

/* A port of 0 is known only now; advertised addresses that came from the listener follow. */
static void tell_ports(struct config *config, const struct config *before)
{
    const struct {
        const struct config_address *was;
        const struct config_address *is;
        const char *option;
        const char *listener;
        char *advertise;
    } told[] = {
        {&before->client, &config->client, "advertise-client", "client", config->advertise_client},
        {&before->cluster_client, &config->cluster_client, "advertise-cluster-client",
         "cluster-client", config->advertise_cluster_client},
        {&before->peer, &config->peer, "advertise-peer", "peer", config->advertise_peer},
    };
    for (uint32_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        const char *advertise = told[i].advertise;
        const size_t size = strlen(advertise);
        if (told[i].was->host[0] == 0 || told[i].was->port != 0) continue;
        if (size < 2 || strcmp(advertise + size - 2, ":0") != 0) continue;
        (void)snprintf(told[i].advertise + size - 1, 6, "%u", (unsigned)told[i].is->port);
    }
}

static int exit_code_of_folder(enum err err)
{
    return err == ERR_NOT_FOUND ? EXIT_BAD_CONFIG : EXIT_BAD_DATA;
}

/* Opens ports, directory and core. Gives the exit code and one line in @message, or 0. */
static int start(struct host *host, uint64_t seed, char *message)
{
    struct config *config = host->config;
    int code = EXIT_BAD_DATA;
    struct config *given = mem_copy(config, sizeof *config);
    enum err err = host_net_listen(&host->net, config, message);
    if (err == OK) err = host_http_listen(&host->http, &config->http, message);
    tell_ports(config, given);
    mem_free(given);
    if (err != OK) return EXIT_BAD_CONFIG;
    err = host_disk_open(&host->disk, config->data, message);
    if (err != OK) return exit_code_of_folder(err);
    if (host_disk_start(&host->disk, &host->loop) != OK) {
        (void)snprintf(message, 512, "cannot start the disk's threads: %s", strerror(errno));
        return EXIT_BAD_CONFIG;
    }
    host->core = core_create(config, &host->disk.disk, &host->net.net, seed);
    uv_update_time(&host->loop);
    err = core_start(host->core, uv_now(&host->loop), wall_ms(), message, &code);
    return err == OK ? 0 : code;
}

static void log_listeners(const struct config *config)
{
    static const char *const names[] = {"client", "cluster-client", "peer", "http"};
    struct buf text = {0};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        buf_printf(&text, "%s%s ", i > 0 ? ", " : "", names[i]);
        config_get(config, names[i], &text);
    }
    host_log_printf(1, "listening: %.*s", (int)text.size, (const char *)text.data);
    buf_close(&text);
}

static void serve(struct host *host)
{
    const uint32_t reserved = divide_files(host->config, host->file_limit);
    host->reserved = reserved;
    warn_of_open_doors(host->config);
    host_folder_warn(host->disk.folder, host->config->data);
    host_net_start(&host->net, host->core, reserved / 4);
    if (reserved / 4 < host->http.count_max) host->http.count_max = reserved / 4;
    host->http.answer = answer_http;
    host->http.context = host;
    start_signals(host);
    log_listeners(host->config);
    CHECK(uv_timer_init(&host->loop, &host->timer) == 0);
    CHECK(uv_check_init(&host->loop, &host->check) == 0);
    CHECK(uv_idle_init(&host->loop, &host->idle) == 0);
    host->timer.data = host;
    host->check.data = host;
    host->armed_ms = UINT64_MAX;
    CHECK(uv_check_start(&host->check, on_check) == 0);
    arm(host, uv_now(&host->loop));
    (void)uv_run(&host->loop, UV_RUN_DEFAULT);
}

/* ---- end ------------------------------------------------------------------------------------------------ */

/* The orderly end. Everything durable is done already: this is for memory checkers and good manners. */
static void stop(struct host *host)
{
    core_destroy(host->core);
    host_net_close(&host->net);
    host_http_close(&host->http);
    host_disk_close(&host->disk);
    uv_close((uv_handle_t *)&host->check, NULL);
    uv_close((uv_handle_t *)&host->timer, NULL);
    uv_close((uv_handle_t *)&host->idle, NULL);
    for (uint32_t i = 0; i < 3; i++) uv_close((uv_handle_t *)&host->signals[i], NULL);
    if (host->net.peers.lookup_count > 0) {
        /* libuv would wait for the look-up of a name at exit, and that can take long. */
        host_log_line(1, "stopped");
        _exit(0);
    }
    while (uv_run(&host->loop, UV_RUN_DEFAULT) != 0) continue;
    CHECK(uv_loop_close(&host->loop) == 0);
    host_net_free(&host->net);
    host_log_line(1, "stopped");
}

int host_loop_run(struct host_options *options, struct config *config)
{
    char message[HOST_FOLDER_MESSAGE_SIZE] = "";
    struct host *host = mem_zero(sizeof *host);
    const uint64_t seed = random_seed();
    host_log_setup((int)config->log_level, config->log_json);
    (void)umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setenv("UV_USE_IO_URING", "0", 0); /* Our own threads do what the disk needs. */
    host->options = options;
    host->config = config;
    CHECK(uv_loop_init(&host->loop) == 0);
    host_net_init(&host->net, &host->loop, seed ^ 1);
    host_http_init(&host->http, &host->loop);
    host->file_limit = raise_file_limit();
    host->exit_code = start(host, seed, message);
    /* The process ends here: what is open goes with it, without a chance to touch anything. */
    if (host->exit_code != 0) return fail_start(host->exit_code, message);
    serve(host);
    if (host->exit_code != 0) {
        host_watch_shut_connections(); /* A hung disk may keep the process for longer. */
        return host->exit_code;
    }
    stop(host);
    mem_free(host);
    return 0;
}
