/* kvctl watch: what changes, one line for each change, until it is stopped. */
#include "client/ctl.h"

#include <inttypes.h>
#include <stdio.h>

#define WAIT_MS 60000
#define SILENCE_FACTOR 6 /* times --timeout without any node: it gives up */

struct watch {
    struct ctl *ctl;
    uint64_t left; /* changes to show; 0: all */
    bool with_previous;
    bool from_oldest; /* --from 0, and nothing was told yet */
    bool is_over;     /* All of them were shown, or nobody reads any more. */
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
            watch->is_over = true;
            break;
        }
    }
    watch->is_over = watch->is_over || fflush(stdout) != 0;
}

/* --from 0, and the first changes are not kept any more: goes on where those begin that are. */
static bool is_before_oldest(struct watch *watch, const struct kv_feed_news *news)
{
    const bool is = watch->from_oldest && news->state == KV_FEED_ENDED &&
                    news->err == KV_ERR_COMPACTED && news->oldest_revision > 0;
    if (news->state == KV_FEED_EVENTS) watch->from_oldest = false;
    return is;
}

/* *@oldest: not 0 afterwards when the feed is to be opened again, from there. */
static enum ctl_exit run(struct watch *watch, struct kv_watch *feed, uint64_t *oldest)
{
    *oldest = 0;
    while (!watch->is_over) {
        const struct kv_feed_news *news = NULL;
        const enum kv_err err = kv_watch_next(feed, WAIT_MS, &news);
        if (news == NULL) {
            if (err == KV_ERR_TIMEOUT) continue;
            return ctl_complain(watch->ctl, ctl_exit_of(err), kv_err_name(err),
                                "the feed cannot go on");
        }
        if (is_before_oldest(watch, news)) {
            *oldest = news->oldest_revision;
            return CTL_DONE;
        }
        if (news->state == KV_FEED_ENDED) {
            return ctl_complain(watch->ctl, ctl_exit_of(news->err), kv_err_name(news->err), "%s",
                                news->message);
        }
        if (news->state == KV_FEED_STARTED && !watch->ctl->json) {
            (void)fprintf(stderr, "watching: changes after revision %" PRIu64 "\n", news->revision);
        }
        if (news->state == KV_FEED_EVENTS) show(watch, news);
    }
    return CTL_DONE;
}

enum ctl_exit ctl_watch(struct ctl *ctl, const struct ctl_args *args)
{
    int64_t from = 0;
    int64_t limit = 0;
    struct watch watch = {.ctl = ctl};
    struct kv_feed_options range = {.struct_size = sizeof range,
                                    .silence_ms = SILENCE_FACTOR * ctl->timeout_ms};
    const struct kv_bytes from_text = args->options[CTL_FROM];
    const struct kv_bytes limit_text = args->options[CTL_LIMIT];
    if (from_text.data != NULL && !ctl_number(from_text, 0, INT64_MAX, &from)) {
        return ctl_complain(ctl, CTL_USAGE, "usage",
                            "--from takes a revision, or 0: from the oldest change that is kept");
    }
    if (limit_text.data != NULL && !ctl_number(limit_text, 1, INT64_MAX, &limit)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--limit takes a number, 1 or more");
    }
    if (args->count > 0) range.prefix = args->words[0];
    watch.from_oldest = from_text.data != NULL && from == 0;
    /* 0 means "from now on" to the library; no change has the revision 1. */
    range.from_revision = watch.from_oldest ? 1 : (uint64_t)from;
    watch.with_previous = args->options[CTL_PREV].data != NULL;
    range.previous = watch.with_previous;
    watch.left = (uint64_t)limit;
    enum ctl_exit exit = CTL_DONE;
    do {
        struct kv_watch *feed = NULL;
        const enum kv_err err = kv_watch_open(ctl->kv, &range, &feed);
        if (err != KV_OK) return ctl_failed(ctl, err);
        exit = run(&watch, feed, &range.from_revision);
        kv_watch_close(feed);
    } while (range.from_revision > 0);
    return exit;
}
