/* async_load.c - load by the asynchronous client, for tests that break the cluster meanwhile.
 *
 *     async_load NODES SECONDS KEY [once]
 *
 * Keeps 32 increments of one counter and some reads under way, then reads the counter and prints one line of JSON: how
 * many ended how, what the counter is, the longest time without a success, and whether a read ever went back. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "client/kv.h"

#define WRITES 32u
#define READS 8u

static struct kv_async *async;
static const char *key;
static uv_timer_t limit;
static uint64_t counts[KV_ERR_COMPACTED + 1];
static uint64_t read_count;
static uint32_t under_way;
static int stopping;
static int64_t greatest; /* that an increment gave */
static int64_t final_value = -1;
static int backwards;
static uint64_t last_ok_ms;
static uint64_t gap_ms;

struct slot {
    int is_read;
    int64_t floor; /* what was known when it began: a read may not give less */
    int under_way;
};
static struct slot slots[WRITES + READS];

static void ended(void *context, const struct kv_result *result);

static void check(enum kv_err err)
{
    if (err == KV_OK) return;
    fprintf(stderr, "cannot start: %s\n", kv_err_name(err));
    exit(3);
}

static void begin(struct slot *slot)
{
    const struct kv_callback then = {.done = ended, .context = slot};
    if (slot->under_way) {
        fprintf(stderr, "one operation is under way twice\n");
        exit(4);
    }
    slot->under_way = 1;
    slot->floor = greatest;
    under_way++;
    check(slot->is_read ? kv_async_get(async, kv_text(key), &then)
                        : kv_async_incr(async, kv_text(key), 1, &then));
}

static void final_came(void *context, const struct kv_result *result)
{
    (void)context;
    if (result->err == KV_OK) final_value = strtoll(result->value.data, NULL, 10);
    if (result->err != KV_OK) fprintf(stderr, "the last read: %s\n", result->message);
    kv_async_close(async, NULL, NULL);
}

static void note_success(void)
{
    const uint64_t now = uv_now(uv_default_loop());
    if (now - last_ok_ms > gap_ms) gap_ms = now - last_ok_ms;
    last_ok_ms = now;
}

static void ended(void *context, const struct kv_result *result)
{
    struct slot *slot = context;
    const struct kv_callback then = {.done = final_came, .timeout_ms = 20000};
    if (!slot->under_way) {
        fprintf(stderr, "a callback came twice\n");
        exit(4);
    }
    slot->under_way = 0;
    under_way--;
    if (result->err == KV_OK) note_success();
    if (slot->is_read) {
        const int64_t value = result->err == KV_OK ? strtoll(result->value.data, NULL, 10) : 0;
        read_count += result->err == KV_OK;
        if (result->err == KV_OK && value < slot->floor) backwards++;
    } else {
        counts[result->err]++;
        if (result->err == KV_OK && result->integer > greatest) greatest = result->integer;
    }
    if (!stopping) {
        begin(slot);
    } else if (under_way == 0) {
        check(kv_async_get(async, kv_text(key), &then));
    }
}

static void time_is_over(uv_timer_t *timer)
{
    stopping = 1;
    uv_close((uv_handle_t *)timer, NULL);
}

int main(int argc, char **argv)
{
    struct kv_options options;
    if (argc < 4) return 2;
    kv_options_init(&options);
    options.nodes = argv[1];
    options.timeout_ms = 8000;
    options.once = argc > 4;
    key = argv[3];
    uv_timer_init(uv_default_loop(), &limit);
    uv_timer_start(&limit, time_is_over, (uint64_t)(atof(argv[2]) * 1000), 0);
    check(kv_async_create(&options, uv_default_loop(), &async));
    last_ok_ms = uv_now(uv_default_loop());
    for (uint32_t i = 0; i < WRITES + READS; i++) {
        slots[i].is_read = i >= WRITES;
        begin(&slots[i]);
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    uv_loop_close(uv_default_loop());
    printf("{\"ok\": %" PRIu64 ", \"unknown\": %" PRIu64 ", \"refused\": %" PRIu64
           ", \"timeout\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"reads\": %" PRIu64
           ", \"final\": %" PRId64 ", \"backwards\": %d, \"gap_ms\": %" PRIu64 "}\n",
           counts[KV_OK], counts[KV_ERR_UNKNOWN], counts[KV_ERR_REFUSED], counts[KV_ERR_TIMEOUT],
           counts[KV_ERR_FAILED], read_count, final_value, backwards, gap_ms);
    return 0;
}
