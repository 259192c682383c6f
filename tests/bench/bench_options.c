/* The command line of kvbench, and what is said when it makes no sense. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"

#ifndef KV_VERSION
#define KV_VERSION "0.1.0"
#endif

static const char usage[] =
    "Usage: kvbench [OPTION...]\n"
    "Loads a server with one kind of request and prints throughput and latencies. Each connection "
    "sends\n"
    "the next requests when the ones before are answered; only successful requests count.\n"
    "\n"
    "What is loaded\n"
    "  --protocol resp|etcd       Redis protocol (default), or etcd's v3 API\n"
    "  --address HOST:PORT[,...]  servers that the connections take in turn (default "
    "127.0.0.1:6379)\n"
    "  --allow-remote             servers on other machines too; without it only this machine's "
    "loopback\n"
    "With what\n"
    "  --operation NAME           set (default), get (linearizable where the server offers it), "
    "mix, ping\n"
    "                             (Redis only), or fill: sets every key once\n"
    "  --read-percent N           gets among the requests of mix (default 90)\n"
    "  --connections N            clients (default 50, at most 10000)\n"
    "  --pipeline N               requests that a client has outstanding (default 1, at most "
    "4096);\n"
    "                             it sends so many, waits for all replies, sends again\n"
    "  --window                   send a next request for every reply instead\n"
    "  --channels N               etcd: HTTP/2 connections that the clients share at most (default "
    "8);\n"
    "                             their requests are independent of each other, as with --window\n"
    "  --value-size BYTES         of the values set (default 256, at most 8388608)\n"
    "  --random-percent N         of the bytes of a value, the others repeat: how well they "
    "compress\n"
    "                             (default 100)\n"
    "  --keys N                   keys are key:000000000000 and so on, chosen at random (default "
    "100000)\n"
    "  --seed N                   for the choice of keys and values (default 1)\n"
    "For how long\n"
    "  --requests N               so many (default 100000; for fill, as many as keys)\n"
    "  --seconds S                so long, instead of --requests or whichever ends first (at most "
    "600)\n"
    "  --warmup S                 load the server so long before measuring (default 0)\n"
    "  --timeout S                end the whole run after this time (default 120, at most 3600)\n"
    "Output\n"
    "  --format text|csv|json     (default text)\n"
    "  --no-header                CSV without the names of the columns\n"
    "  --label TEXT               given back in the output\n"
    "  --help, --version\n"
    "\n"
    "Exit codes: 0 every request succeeded, 1 some failed, 2 nothing could be measured.\n";

static const char *const operations[] = {"set", "get", "mix", "fill", "ping"};

void bench_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("kvbench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

const char *bench_operation_name(enum bench_operation operation)
{
    return operations[operation];
}

static _Noreturn void bad(const char *option, const char *value, const char *allowed)
{
    bench_die("--%s %s: must be %s", option, value, allowed);
}

static double number(const char *option, const char *text, double min, double max,
                     const char *allowed)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    /* Written so that "nan" is refused too. */
    if (end == text || *end != '\0' || errno != 0 || !(value >= min && value <= max)) {
        bad(option, text, allowed);
    }
    return value;
}

static uint32_t whole(const char *option, const char *text, uint32_t min, uint32_t max)
{
    char allowed[64];
    snprintf(allowed, sizeof allowed, "a whole number, %u to %u", min, max);
    const double value = number(option, text, min, max, allowed);
    if (value != (double)(uint32_t)value) bad(option, text, allowed);
    return (uint32_t)value;
}

static uint32_t choice(const char *option, const char *text, const char *const *names,
                       uint32_t count, const char *allowed)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) return i;
    }
    bad(option, text, allowed);
}

static void parse_target(struct bench_options *options, const char *text, size_t size)
{
    char copy[300];
    static const char allowed[] = "HOST:PORT, or up to 16 of them with commas between";
    if (size == 0 || size >= sizeof copy) bad("address", text, allowed);
    memcpy(copy, text, size);
    copy[size] = '\0';
    char *colon = strrchr(copy, ':');
    if (colon == NULL || options->target_count == BENCH_TARGETS_MAX) bad("address", text, allowed);
    *colon = '\0';
    char *host = copy;
    if (host[0] == '[' && colon > copy && colon[-1] == ']') {
        colon[-1] = '\0';
        host++;
    }
    struct bench_target *target = &options->targets[options->target_count++];
    if (host[0] == '\0' || strlen(host) >= sizeof target->host) bad("address", text, allowed);
    const uint32_t port = whole("address", colon + 1, 1, 65535);
    memcpy(target->host, host, strlen(host) + 1);
    snprintf(target->port, sizeof target->port, "%u", port);
}

static void parse_targets(struct bench_options *options, const char *text)
{
    options->target_count = 0;
    for (const char *at = text;;) {
        const size_t size = strcspn(at, ",");
        parse_target(options, at, size);
        at += size;
        if (*at == '\0') return;
        at++;
    }
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static void finish(struct bench_options *options)
{
    const bool fill = options->operation == BENCH_FILL;
    if (options->protocol == BENCH_ETCD && !bench_etcd_available()) {
        bench_die("built without libnghttp2: --protocol etcd is not available");
    }
    if (options->protocol == BENCH_ETCD && options->operation == BENCH_PING) {
        bench_die("etcd has no ping");
    }
    if (fill && (options->requests > 0 || options->seconds > 0 || options->warmup_s > 0)) {
        bench_die("fill sets every key once: --requests, --seconds and --warmup do not go with it");
    }
    if (fill) options->requests = options->keys;
    if (options->requests == 0 && options->seconds <= 0) options->requests = 100000;
    if (options->warmup_s >= options->timeout_s) bench_die("--warmup leaves no time of --timeout");
    for (uint32_t i = 0; i < options->target_count; i++) {
        if (!options->allow_remote && !is_loopback(options->targets[i].host)) {
            bench_die("%s is not this machine's loopback: --allow-remote permits it",
                      options->targets[i].host);
        }
    }
    const uint64_t inflight = (uint64_t)options->connections * options->pipeline *
                              (options->value_size + 64);
    if (inflight > BENCH_INFLIGHT_SIZE_MAX) {
        bench_die("--connections times --pipeline times --value-size must be at most 1 GiB");
    }
}

enum flag {
    PROTOCOL,
    ADDRESS,
    ALLOW_REMOTE,
    OPERATION,
    READ_PERCENT,
    CONNECTIONS,
    PIPELINE,
    WINDOW,
    CHANNELS,
    VALUE_SIZE,
    RANDOM_PERCENT,
    KEYS,
    SEED,
    REQUESTS,
    SECONDS,
    WARMUP,
    TIMEOUT,
    FORMAT,
    NO_HEADER,
    LABEL,
    HELP,
    VERSION,
};

/* In the order of enum flag. */
static const struct flag_row {
    const char *name;
    bool has_value;
} flag_rows[] = {
    {"protocol", true},     {"address", true},     {"allow-remote", false},  {"operation", true},
    {"read-percent", true}, {"connections", true}, {"pipeline", true},       {"window", false},
    {"channels", true},     {"value-size", true},  {"random-percent", true}, {"keys", true},
    {"seed", true},         {"requests", true},    {"seconds", true},        {"warmup", true},
    {"timeout", true},      {"format", true},      {"no-header", false},     {"label", true},
    {"help", false},        {"version", false},
};
#define FLAG_COUNT (sizeof flag_rows / sizeof flag_rows[0])
_Static_assert(FLAG_COUNT == VERSION + 1, "a row for each flag");

static void set_load(struct bench_options *options, enum flag flag, const char *value)
{
    static const char *const protocols[] = {"resp", "etcd"};
    const char *name = flag_rows[flag].name;
    switch (flag) {
    case PROTOCOL:
        options->protocol = (enum bench_protocol)choice(name, value, protocols, 2, "resp or etcd");
        break;
    case ADDRESS: parse_targets(options, value); break;
    case ALLOW_REMOTE: options->allow_remote = true; break;
    case OPERATION:
        options->operation = (enum bench_operation)choice(name, value, operations, 5,
                                                          "set, get, mix, fill or ping");
        break;
    case READ_PERCENT: options->read_percent = whole(name, value, 0, 100); break;
    case CONNECTIONS: options->connections = whole(name, value, 1, BENCH_CONNECTIONS_MAX); break;
    case PIPELINE: options->pipeline = whole(name, value, 1, BENCH_PIPELINE_MAX); break;
    case WINDOW: options->window = true; break;
    case CHANNELS: options->channels = whole(name, value, 1, BENCH_CONNECTIONS_MAX); break;
    case RANDOM_PERCENT: options->random_percent = whole(name, value, 0, 100); break;
    case VALUE_SIZE: options->value_size = whole(name, value, 0, BENCH_VALUE_SIZE_MAX); break;
    case KEYS: options->keys = whole(name, value, 1, BENCH_KEYS_MAX); break;
    default: options->seed = whole(name, value, 0, UINT32_MAX); break;
    }
}

static void set_rest(struct bench_options *options, enum flag flag, const char *value)
{
    static const char *const formats[] = {"text", "csv", "json"};
    const char *name = flag_rows[flag].name;
    switch (flag) {
    case REQUESTS: options->requests = whole(name, value, 1, BENCH_KEYS_MAX); break;
    case SECONDS: options->seconds = number(name, value, 0.01, 600, "0.01 to 600"); break;
    case WARMUP: options->warmup_s = number(name, value, 0, 600, "0 to 600"); break;
    case TIMEOUT: options->timeout_s = number(name, value, 0.1, 3600, "0.1 to 3600"); break;
    case FORMAT:
        options->format = (enum bench_format)choice(name, value, formats, 3, "text, csv or json");
        break;
    case NO_HEADER: options->header = false; break;
    case LABEL: snprintf(options->label, sizeof options->label, "%s", value); break;
    case HELP: fputs(usage, stdout); exit(0);
    default: puts("kvbench " KV_VERSION); exit(0);
    }
}

void bench_options_parse(struct bench_options *options, int argc, char **argv)
{
    *options = (struct bench_options){
        .connections = 50,
        .pipeline = 1,
        .channels = 8,
        .value_size = 256,
        .random_percent = 100,
        .keys = 100000,
        .timeout_s = 120,
        .read_percent = 90,
        .seed = 1,
        .header = true,
    };
    parse_targets(options, "127.0.0.1:6379");

    struct option known[FLAG_COUNT + 1] = {0};
    for (uint32_t i = 0; i < FLAG_COUNT; i++) {
        known[i] = (struct option){
            .name = flag_rows[i].name,
            .has_arg = flag_rows[i].has_value ? required_argument : no_argument,
            .val = (int)i,
        };
    }
    for (;;) {
        const int found = getopt_long(argc, argv, "", known, NULL);
        if (found == -1) break;
        if (found == '?') bench_die("kvbench --help lists the options");
        if (found <= SEED) {
            set_load(options, (enum flag)found, optarg);
        } else {
            set_rest(options, (enum flag)found, optarg);
        }
    }
    if (optind < argc) bench_die("unexpected '%s'; kvbench --help lists the options", argv[optind]);
    finish(options);
}
