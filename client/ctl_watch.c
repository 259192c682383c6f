/* kvctl watch: what changes, one line for each change, until it is stopped. */
#include "client/ctl.h"

#include <inttypes.h>
#include <stdio.h>

#include <uv.h>

#define NODES_SIZE 8192u
#define SILENCE_FACTOR 6 /* times --timeout without any node: it gives up */

struct watch {
    struct ctl *ctl;
    struct kv_async *async;
    struct kv_feed *feed;
    uint64_t left; /* changes to show; 0: all */
    bool with_previous;
    enum ctl_exit exit;
};

static const char *name_of(enum kv_event_kind kind)
{
    static const char *const names[] = {"put", "delete", "expired", "flush", "expire-change"};
    return names[kind];
}

static void put_json(const struct watch *watch, const struct kv_event *event, uint64_t transaction)
{
    ctl_json_begin();
    ctl_json_uint("revision", event->value.revision);
    ctl_json_uint("transaction", transaction);
    ctl_json_text("event", name_of(event->kind));
    if (event->key != NULL) ctl_json_bytes("key", kv_bytes_of(event->key, event->key_size));
    if (event->value.data != NULL) {
        ctl_json_bytes("value", kv_bytes_of(event->value.data, event->value.size));
    }
    if (watch->with_previous && event->previous.data != NULL) {
        ctl_json_bytes("previous", kv_bytes_of(event->previous.data, event->previous.size));
    }
    ctl_json_end();
    (void)fputc('\n', stdout);
}

static void put_text(const struct watch *watch, const struct kv_event *event)
{
    (void)printf("%" PRIu64 "\t%s", event->value.revision, name_of(event->kind));
    if (event->key != NULL) {
        (void)fputc('\t', stdout);
        ctl_put_text(kv_bytes_of(event->key, event->key_size), true);
    }
    if (event->value.data != NULL) {
        (void)fputc('\t', stdout);
        ctl_put_text(kv_bytes_of(event->value.data, event->value.size), true);
    }
    if (watch->with_previous && event->previous.data != NULL) {
        (void)fputs("\tbefore: ", stdout);
        ctl_put_text(kv_bytes_of(event->previous.data, event->previous.size), true);
    }
    (void)fputc('\n', stdout);
}

static void show(struct watch *watch, const struct kv_feed_news *news)
{
    for (size_t i = 0; i < news->count; i++) {
        if (watch->ctl->json) {
            put_json(watch, &news->events[i], news->revision);
        } else {
            put_text(watch, &news->events[i]);
        }
        if (watch->left > 0 && --watch->left == 0) {
            kv_feed_close(watch->feed);
            break;
        }
    }
    if (fflush(stdout) != 0) kv_feed_close(watch->feed); /* Nobody reads any more. */
}

static enum ctl_exit exit_of(const struct watch *watch, const struct kv_feed_news *news)
{
    if (news->err == KV_ERR_CANCELLED) return CTL_DONE;
    return ctl_complain(watch->ctl, ctl_exit_of(news->err), kv_err_name(news->err), "%s",
                        news->message);
}

static void heard(void *context, const struct kv_feed_news *news)
{
    struct watch *watch = context;
    switch (news->state) {
    case KV_FEED_STARTED:
        if (watch->ctl->json) break;
        (void)fprintf(stderr, "changes behind revision %" PRIu64 "\n", news->revision);
        break;
    case KV_FEED_EVENTS: show(watch, news); break;
    case KV_FEED_PROGRESS: break;
    case KV_FEED_ENDED:
        watch->feed = NULL;
        watch->exit = exit_of(watch, news);
        kv_async_close(watch->async, NULL, NULL);
        break;
    }
}

/* The node that answered and all that it knows, so that any of them may go. */
static void list_nodes(struct ctl *ctl, char *nodes)
{
    struct kv_cluster cluster;
    size_t size = (size_t)snprintf(nodes, NODES_SIZE, "%s", kv_address(ctl->kv));
    if (kv_members(ctl->kv, &cluster) != KV_OK) return;
    for (size_t i = 0; i < cluster.node_count && size + 300 < NODES_SIZE; i++) {
        if (cluster.nodes[i].client[0] == 0) continue;
        size += (size_t)snprintf(nodes + size, NODES_SIZE - size, ",%s", cluster.nodes[i].client);
    }
}

static enum ctl_exit run(struct watch *watch, const struct kv_feed_options *range,
                         const char *nodes)
{
    struct kv_options options;
    uv_loop_t loop;
    if (uv_loop_init(&loop) != 0) {
        return ctl_complain(watch->ctl, CTL_REFUSED, "no_memory", "no event loop can be made");
    }
    kv_options_init(&options);
    options.nodes = nodes;
    options.timeout_ms = watch->ctl->timeout_ms;
    enum kv_err err = kv_async_create(&options, &loop, &watch->async);
    if (err == KV_OK) {
        err = kv_feed_open(watch->async, range, heard, watch, &watch->feed);
        if (err != KV_OK) kv_async_close(watch->async, NULL, NULL);
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* It ends when nothing is left. */
    (void)uv_loop_close(&loop);
    if (err == KV_OK) return watch->exit;
    return ctl_complain(watch->ctl, ctl_exit_of(err), kv_err_name(err),
                        "the feed could not be begun");
}

enum ctl_exit ctl_watch(struct ctl *ctl, const struct ctl_args *args)
{
    char nodes[NODES_SIZE];
    int64_t from = 0;
    int64_t limit = 0;
    struct watch watch = {.ctl = ctl, .exit = CTL_NO_ANSWER};
    struct kv_feed_options range = {.struct_size = sizeof range,
                                    .silence_ms = SILENCE_FACTOR * ctl->timeout_ms};
    const struct kv_bytes from_text = args->options[CTL_FROM];
    const struct kv_bytes limit_text = args->options[CTL_LIMIT];
    if (from_text.data != NULL && !ctl_number(from_text, 1, INT64_MAX, &from)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--from takes a revision, 1 or more");
    }
    if (limit_text.data != NULL && !ctl_number(limit_text, 1, INT64_MAX, &limit)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--limit takes a number, 1 or more");
    }
    if (args->count > 0) range.prefix = args->words[0];
    range.from_revision = (uint64_t)from;
    watch.with_previous = args->options[CTL_PREV].data != NULL;
    range.previous = watch.with_previous;
    watch.left = (uint64_t)limit;
    list_nodes(ctl, nodes);
    return run(&watch, &range, nodes);
}
