/* Prints every change below a prefix, and goes on where it was when it is started again with the last revision.
 *
 *     cc watch.c $(pkg-config --cflags --libs kvclient libuv) -o watch
 *     ./watch 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 config/ [COUNT [FROM]]
 *
 * With COUNT it ends after so many changes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <uv.h>

#include "client/kv.h"

static struct kv_async *async;
static unsigned long left;
static int failed;

static void print_event(const struct kv_event *event)
{
    static const char *const names[] = {"put", "deleted", "expired", "flushed", "expiry"};
    printf("%" PRIu64 " %s %s", event->value.revision, names[event->kind],
           event->key != NULL ? event->key : "");
    if (event->value.data != NULL) printf(" = %s", event->value.data);
    printf("\n");
}

static void heard(void *context, const struct kv_feed_news *news)
{
    struct kv_feed **feed = context;
    switch (news->state) {
    case KV_FEED_STARTED:
        printf("from revision %" PRIu64 "\n", news->revision);
        fflush(stdout);
        break;
    case KV_FEED_EVENTS: /* a whole transaction */
        for (size_t i = 0; i < news->count; i++) print_event(&news->events[i]);
        fflush(stdout);
        if (left > 0 && news->count >= left) {
            kv_feed_close(*feed);
        } else if (left > 0) {
            left -= news->count;
        }
        break;
    case KV_FEED_PROGRESS: break; /* A program that keeps its place would note it here. */
    case KV_FEED_ENDED:
        if (news->err != KV_ERR_CANCELLED) {
            fprintf(stderr, "%s: %s\n", kv_err_name(news->err), news->message);
            failed = 1;
        }
        kv_async_close(async, NULL, NULL);
        break;
    }
}

int main(int argc, char **argv)
{
    struct kv_options options;
    struct kv_feed_options range = {.silence_ms = 30000};
    struct kv_feed *feed = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: watch NODES PREFIX [COUNT [FROM]]\n");
        return 2;
    }
    kv_options_init(&options);
    options.nodes = argv[1];
    range.prefix = kv_text(argv[2]);
    if (argc > 3) left = strtoul(argv[3], NULL, 10);
    if (argc > 4) range.from_revision = strtoull(argv[4], NULL, 10);
    enum kv_err err = kv_async_create(&options, uv_default_loop(), &async);
    if (err == KV_OK) err = kv_feed_open(async, &range, heard, &feed, &feed);
    if (err != KV_OK) {
        fprintf(stderr, "%s\n", kv_err_name(err));
        return 1;
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    uv_loop_close(uv_default_loop());
    return failed;
}
