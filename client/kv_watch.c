/* A change feed for a program without an event loop: the asynchronous one, run inside of kv_watch_next(). */
#include "client/kv_engine_parts.h"

#include <stdio.h>

struct kv_watch {
    struct kv_async *async;
    struct kv_feed *feed; /* NULL: it has ended */
    struct kv_feed_news news;
    bool has_news;
    enum kv_err end;
    char message[KV_MESSAGE_SIZE];
};

/* Nothing more until this was taken: the memory of a piece of news is used again for the next one. */
static void heard(void *context, const struct kv_feed_news *news)
{
    struct kv_watch *watch = context;
    watch->news = *news;
    watch->has_news = true;
    if (news->state != KV_FEED_ENDED) {
        kv_feed_pause(watch->feed);
        return;
    }
    watch->feed = NULL;
    watch->end = news->err;
    (void)snprintf(watch->message, sizeof watch->message, "%s", news->message);
    watch->news.message = watch->message;
}

enum kv_err kv_watch_open(struct kv *kv, const struct kv_feed_options *options,
                          struct kv_watch **watch)
{
    const struct kv_options settings = {.struct_size = sizeof settings,
                                        .timeout_ms = kv->timeout_ms,
                                        .connect_timeout_ms = kv->connect_timeout_ms,
                                        .reply_size_max = kv->reply_size_max,
                                        .allocator = kv->allocator};
    struct kv_watch *made = kv->allocator.resize(kv->allocator.context, NULL, sizeof *made);
    enum kv_err err = KV_ERR_NOMEM;
    *watch = NULL;
    if (made == NULL) return kv_say(kv, err, "no memory for a feed");
    *made = (struct kv_watch){.async = kv_engine_create(&settings)};
    if (made->async == NULL) {
        (void)kv->allocator.resize(kv->allocator.context, made, 0);
        return kv_say(kv, err, "no memory for a feed");
    }
    made->async->nodes = kv->nodes;
    err = kv->nodes.count > 0 ? KV_OK : KV_ERR_INVALID;
    if (err == KV_OK) err = kv_feed_open(made->async, options, heard, made, &made->feed);
    if (err != KV_OK) {
        kv_watch_close(made);
        return kv_say(kv, err,
                      err == KV_ERR_NOMEM ? "no memory for a feed"
                                          : "the options of a feed make no sense");
    }
    *watch = made;
    return KV_OK;
}

enum kv_err kv_watch_next(struct kv_watch *watch, int64_t timeout_ms,
                          const struct kv_feed_news **news)
{
    const int64_t now = kv_now_ms();
    *news = NULL;
    watch->has_news = false;
    if (watch->feed == NULL) {
        *news = &watch->news;
        return watch->end;
    }
    if (timeout_ms < 0) timeout_ms = 0;
    kv_feed_resume(watch->feed);
    kv_loop_run(watch->async, timeout_ms < KV_NEVER - now ? now + timeout_ms : KV_NEVER,
                &watch->has_news);
    if (!watch->has_news) return KV_ERR_TIMEOUT;
    *news = &watch->news;
    return watch->news.state == KV_FEED_ENDED ? watch->end : KV_OK;
}

void kv_watch_close(struct kv_watch *watch)
{
    if (watch == NULL) return;
    struct kv_async *async = watch->async;
    const bool never = false;
    const struct kv_allocator allocator = async->allocator;
    kv_async_close(async, NULL, NULL);
    kv_loop_run(async, KV_NEVER, &never); /* Ends at once: nothing has to be waited for. */
    kv_engine_free(async);
    (void)allocator.resize(allocator.context, watch, 0);
}
