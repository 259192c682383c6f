/* Change feeds: KV.WATCH on a connection of its own, and again on another node when that one fails, behind the last
 * change that was told. */
#include "client/kv_engine_parts.h"

#include <stdio.h>

#define PROGRESS_DEFAULT_MS 2000
#define SILENCE_ROUNDS 3 /* so many missing progress marks: the node is gone */
#define NUMBER_SIZE 24u

enum feed_state {
    FEED_IDLE,   /* waits until it may dial */
    FEED_DIALED, /* up to the answer to KV.WATCH */
    FEED_SERVED,
    FEED_ENDED, /* the last news is to be told */
};

struct kv_feed {
    struct kv_async *async;
    struct kv_feed *next;
    enum feed_state state;
    kv_heard *heard;
    void *context;
    const char *range; /* "PREFIX", "KEY" or "RANGE" */
    struct kv_buffer first;
    struct kv_buffer last; /* of a range */
    int64_t progress_ms;
    int64_t silence_ms;
    bool previous;
    bool has_position;
    uint64_t position; /* everything up to it was told */
    struct kv_conn *conn;
    struct kv_op watch;
    struct kv_batch message; /* the one at hand */
    struct kv_event *events;
    size_t event_capacity;
    uint32_t node; /* to ask next, modulo the number of nodes */
    uint32_t try;
    int64_t ready_ms; /* when to dial */
    int64_t heard_ms; /* when a node served it last */
    bool paused;
    enum kv_err err; /* of the end */
    uint64_t oldest;
    char why[KV_MESSAGE_SIZE];
};

/* ---- life ------------------------------------------------------------------------------------ */

static bool keep(struct kv_feed *feed, struct kv_buffer *buffer, struct kv_bytes bytes)
{
    if (!kv_buffer_reserve(&feed->async->allocator, buffer, bytes.size + 1)) return false;
    if (bytes.size > 0) memcpy(buffer->data, bytes.data, bytes.size);
    buffer->size = bytes.size;
    return true;
}

/* One of prefix, key and range; false: more than one. */
static bool choose(struct kv_feed *feed, const struct kv_feed_options *options, bool *memory)
{
    const bool has_range = options->from.size > 0 || options->to.size > 0;
    if ((options->key.size > 0) + (options->prefix.size > 0) + has_range > 1) return false;
    const struct kv_bytes first = options->key.size > 0 ? options->key
                                  : has_range           ? options->from
                                                        : options->prefix;
    feed->range = options->key.size > 0 ? "KEY" : has_range ? "RANGE" : "PREFIX";
    *memory = keep(feed, &feed->first, first) && keep(feed, &feed->last, options->to);
    return true;
}

static void feed_free(struct kv_feed *feed)
{
    const struct kv_allocator *allocator = &feed->async->allocator;
    kv_buffer_close(allocator, &feed->first);
    kv_buffer_close(allocator, &feed->last);
    kv_op_clear(&feed->watch);
    kv_batch_close(&feed->message);
    if (feed->events != NULL) (void)allocator->resize(allocator->context, feed->events, 0);
    (void)allocator->resize(allocator->context, feed, 0);
}

enum kv_err kv_feed_open(struct kv_async *async, const struct kv_feed_options *options,
                         kv_heard *heard, void *context, struct kv_feed **feed)
{
    const struct kv_feed_options everything = {.progress_ms = 0};
    const struct kv_allocator *allocator = &async->allocator;
    bool memory = true;
    *feed = NULL;
    if (options == NULL) options = &everything;
    if (async->closing || heard == NULL || options->progress_ms < 0 || options->silence_ms < 0) {
        return KV_ERR_INVALID;
    }
    struct kv_feed *made = allocator->resize(allocator->context, NULL, sizeof *made);
    if (made == NULL) return KV_ERR_NOMEM;
    *made = (struct kv_feed){.async = async,
                             .heard = heard,
                             .context = context,
                             .progress_ms = options->progress_ms > 0 ? options->progress_ms
                                                                     : PROGRESS_DEFAULT_MS,
                             .silence_ms = options->silence_ms,
                             .previous = options->previous != 0,
                             .has_position = options->from_revision > 0,
                             .position = options->from_revision,
                             .node = (uint32_t)(kv_random_next(&async->random) % KV_NODES_MAX),
                             .heard_ms = kv_now_ms()};
    kv_op_init_ours(&made->watch, async, KV_OP_WATCH);
    kv_batch_init(&made->message, allocator);
    const bool valid = choose(made, options, &memory);
    if (!valid || !memory) {
        feed_free(made);
        return valid ? KV_ERR_NOMEM : KV_ERR_INVALID;
    }
    made->next = async->feeds;
    async->feeds = made;
    *feed = made;
    kv_loop_wake(async);
    return KV_OK;
}

struct kv_feed *kv_feed_next(const struct kv_feed *feed)
{
    return feed->next;
}

static void drop_connection(struct kv_feed *feed)
{
    struct kv_conn *conn = feed->conn;
    feed->conn = NULL;
    if (conn == NULL) return;
    conn->feed = NULL;
    kv_conn_close(conn, KV_LINK_LOST);
}

static void end(struct kv_feed *feed, enum kv_err err, const char *why)
{
    if (feed->state == FEED_ENDED) return;
    feed->state = FEED_ENDED;
    feed->err = err;
    if (why != feed->why) (void)snprintf(feed->why, sizeof feed->why, "%s", why);
    drop_connection(feed);
    kv_loop_wake(feed->async);
}

void kv_feed_close(struct kv_feed *feed)
{
    end(feed, KV_ERR_CANCELLED, "the feed was closed");
}

void kv_feeds_end(struct kv_async *async)
{
    for (struct kv_feed *feed = async->feeds; feed != NULL; feed = feed->next) {
        end(feed, KV_ERR_CANCELLED, "the client was closed");
    }
}

void kv_feed_pause(struct kv_feed *feed)
{
    feed->paused = true;
    if (feed->conn != NULL) kv_conn_watch(feed->conn);
}

void kv_feed_resume(struct kv_feed *feed)
{
    const int64_t now = kv_now_ms();
    if (!feed->paused) return;
    feed->paused = false;
    feed->heard_ms = now; /* It was not the node that was silent. */
    if (feed->conn == NULL) return;
    feed->conn->heard_ms = now;
    kv_loop_wake(feed->async); /* What came before the pause is told in the next turn. */
}

bool kv_feed_is_paused(const struct kv_feed *feed)
{
    return feed->paused && feed->state == FEED_SERVED;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void dial(struct kv_feed *feed, int64_t now)
{
    struct kv_async *async = feed->async;
    const char *address = async->nodes.list[feed->node++ % async->nodes.count];
    feed->state = FEED_DIALED;
    feed->conn = kv_conn_create(async, address, now + async->options.connect_timeout_ms, feed);
    if (feed->conn != NULL) {
        kv_conn_begin(feed->conn);
    } else {
        end(feed, KV_ERR_NOMEM, "no memory for a connection");
    }
}

static bool add_watch(struct kv_feed *feed)
{
    char from[NUMBER_SIZE];
    char progress[NUMBER_SIZE];
    struct kv_bytes args[9] = {KV_TEXT("KV.WATCH"), kv_text(feed->range),
                               kv_bytes_of(feed->first.data, feed->first.size)};
    size_t count = 3;
    if (strcmp(feed->range, "RANGE") == 0) {
        args[count++] = kv_bytes_of(feed->last.data, feed->last.size);
    }
    if (feed->has_position) {
        (void)snprintf(from, sizeof from, "%llu", (unsigned long long)feed->position);
        args[count++] = KV_TEXT("FROM");
        args[count++] = kv_text(from);
    }
    if (feed->previous) args[count++] = KV_TEXT("PREV");
    (void)snprintf(progress, sizeof progress, "%lld", (long long)feed->progress_ms);
    args[count++] = KV_TEXT("PROGRESS");
    args[count++] = kv_text(progress);
    kv_batch_clear(&feed->watch.batch);
    feed->watch.first = 0;
    return kv_batch_add(&feed->watch.batch, true, args, count) == KV_OK &&
           kv_batch_prepare_size(&feed->watch.batch, 1024) && kv_conn_put(feed->conn, &feed->watch);
}

void kv_feed_greeted(struct kv_feed *feed)
{
    feed->watch.status = KV_LINK_OK;
    /* The answer to KV.WATCH may take as long as a read. */
    feed->heard_ms = feed->heard_ms > 0 ? feed->heard_ms : kv_now_ms();
    if (!add_watch(feed)) end(feed, KV_ERR_NOMEM, "no memory for the feed");
}

static void tell(struct kv_feed *feed, const struct kv_feed_news *news)
{
    feed->heard(feed->context, news);
}

/* The last number in the words of a server: "… the oldest is 42". */
static uint64_t last_number(const char *text)
{
    uint64_t number = 0;
    bool inside = false;
    for (; *text != 0; text++) {
        const bool digit = *text >= '0' && *text <= '9';
        if (digit && !inside) number = 0;
        if (digit && (__builtin_mul_overflow(number, 10, &number) ||
                      __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))) {
            return 0;
        }
        inside = digit;
    }
    return number;
}

/* Serves no more: goes on at another node. */
static void retry(struct kv_feed *feed, const char *why)
{
    (void)snprintf(feed->why, sizeof feed->why, "%s", why);
    feed->state = FEED_IDLE;
    drop_connection(feed);
    feed->ready_ms = kv_now_ms();
    if (feed->try > 0) {
        feed->ready_ms += kv_backoff_ms(&feed->async->random, feed->try - 1);
    }
    feed->try++;
    kv_loop_wake(feed->async);
}

void kv_feed_watched(struct kv_feed *feed, struct kv_op *op)
{
    const struct kv_item *item = &op->batch.items[0];
    const struct kv_reply *reply = item->answered ? kv_batch_reply(&op->batch, 0) : NULL;
    uint64_t revision = 0;
    if (feed == NULL) return;
    if (item->err == KV_ERR_COMPACTED) {
        feed->oldest = last_number(op->message);
        end(feed, item->err, op->message);
        return;
    }
    if (item->err == KV_ERR_REFUSED || item->err == KV_ERR_TIMEOUT) {
        retry(feed, op->message);
        return;
    }
    if (item->err != KV_OK) {
        end(feed, item->err, op->message);
        return;
    }
    if (reply == NULL || reply->type != KV_ARRAY || reply->count < 2 ||
        !kv_reply_uint(&reply->items[1], &revision)) {
        end(feed, KV_ERR_FAILED, "the answer to KV.WATCH makes no sense");
        return;
    }
    if (!feed->has_position) feed->position = revision;
    feed->has_position = true;
    feed->state = FEED_SERVED;
    feed->heard_ms = kv_now_ms();
    const struct kv_feed_news news = {
        .state = KV_FEED_STARTED, .revision = feed->position, .message = ""};
    tell(feed, &news);
}

void kv_feed_lost(struct kv_feed *feed, enum kv_link_status status)
{
    struct kv_conn *conn = feed->conn;
    feed->conn = NULL;
    if (conn == NULL || feed->state == FEED_ENDED) return;
    conn->feed = NULL;
    if (status == KV_LINK_TOO_BIG || conn->is_unwelcome) {
        end(feed, KV_ERR_FAILED, conn->why);
    } else if (status == KV_LINK_NOMEM) {
        end(feed, KV_ERR_NOMEM, conn->why);
    } else {
        retry(feed, conn->why);
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool is_text(const struct kv_reply *reply, const char *text)
{
    return reply->type == KV_STRING && reply->size == strlen(text) &&
           memcmp(reply->data, text, reply->size) == 0;
}

static bool kind_of(const struct kv_reply *reply, enum kv_event_kind *kind)
{
    static const struct {
        const char *name;
        enum kv_event_kind kind;
    } names[] = {
        {"put", KV_EVENT_PUT},         {"set", KV_EVENT_PUT},
        {"delete", KV_EVENT_DELETED},  {"del", KV_EVENT_DELETED},
        {"expired", KV_EVENT_EXPIRED}, {"flush", KV_EVENT_FLUSHED},
        {"expiry", KV_EVENT_EXPIRY},   {"expire-change", KV_EVENT_EXPIRY},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!is_text(reply, names[i].name)) continue;
        *kind = names[i].kind;
        return true;
    }
    return false;
}

/* [kind, key, value or null, revision, previous or null, expiry or -1] */
static bool read_event(const struct kv_reply *row, struct kv_event *event)
{
    *event = (struct kv_event){
        .value = {.ttl_ms = -1}, .previous = {.ttl_ms = -1}, .expiry_ms = -1};
    if (row->type != KV_ARRAY || row->count < 4) return false;
    if (!kind_of(&row->items[0], &event->kind)) return false;
    if (row->items[1].type == KV_STRING) {
        event->key = row->items[1].data;
        event->key_size = row->items[1].size;
    } else if (event->kind != KV_EVENT_FLUSHED) {
        return false;
    }
    if (row->items[2].type == KV_STRING) {
        event->value.data = row->items[2].data;
        event->value.size = row->items[2].size;
    }
    if (row->count > 4 && row->items[4].type == KV_STRING) {
        event->previous.data = row->items[4].data;
        event->previous.size = row->items[4].size;
    }
    if (row->count > 5 && row->items[5].type == KV_INTEGER) {
        event->expiry_ms = row->items[5].integer;
    }
    return kv_reply_uint(&row->items[3], &event->value.revision);
}

/* ["kv.watch", id, revision, [event …]] */
static bool take_events(struct kv_feed *feed, const struct kv_reply *message, uint64_t revision)
{
    void *events = feed->events;
    const struct kv_reply *rows = message->count > 3 ? &message->items[3] : message;
    if (message->count < 4 || rows->type != KV_ARRAY) return false;
    if (revision <= feed->position) return true; /* It was told. */
    const bool done = kv_list_reserve(&feed->async->allocator, &events, &feed->event_capacity,
                                      rows->count + 1, sizeof *feed->events);
    feed->events = events;
    if (!done) {
        end(feed, KV_ERR_NOMEM, "no memory for the changes");
        return true;
    }
    for (size_t i = 0; i < rows->count; i++) {
        if (!read_event(&rows->items[i], &feed->events[i])) return false;
    }
    feed->position = revision;
    const struct kv_feed_news news = {.state = KV_FEED_EVENTS,
                                      .revision = revision,
                                      .events = feed->events,
                                      .count = rows->count,
                                      .message = ""};
    tell(feed, &news);
    return true;
}

static bool take_progress(struct kv_feed *feed, uint64_t revision)
{
    if (revision > feed->position) feed->position = revision;
    const struct kv_feed_news news = {
        .state = KV_FEED_PROGRESS, .revision = feed->position, .message = ""};
    tell(feed, &news);
    return true;
}

/* ["kv.closed", id, code, text, oldest-revision]: this node serves it no more. */
static bool take_closed(struct kv_feed *feed, const struct kv_reply *message)
{
    const struct kv_reply *items = message->items;
    char why[KV_MESSAGE_SIZE];
    if (message->count < 4 || items[2].type != KV_STRING || items[3].type != KV_STRING) {
        return false;
    }
    (void)snprintf(why, sizeof why, "%s %s", items[2].data, items[3].data);
    if (is_text(&items[2], "COMPACTED")) {
        if (message->count < 5 || !kv_reply_uint(&items[4], &feed->oldest)) {
            feed->oldest = last_number(why);
        }
        end(feed, KV_ERR_COMPACTED, why);
    } else if (is_text(&items[2], "NOPERM") || is_text(&items[2], "NOAUTH") ||
               is_text(&items[2], "TOOBIG")) { /* Another node would say the same. */
        end(feed, KV_ERR_FAILED, why);
    } else {
        retry(feed, why);
    }
    return true;
}

static bool take_message(struct kv_feed *feed, const struct kv_reply *message)
{
    uint64_t revision = 0;
    if (message->type != KV_ARRAY || message->count == 0) return false;
    const struct kv_reply *name = &message->items[0];
    const bool is_closed = is_text(name, "kv.closed");
    const bool is_watch = is_text(name, "kv.watch");
    if (name->type != KV_STRING) return false;
    /* A push of another kind is not about us. */
    if (!is_closed && !is_watch && !is_text(name, "kv.progress")) return true;
    if (is_closed) return take_closed(feed, message);
    if (message->count < 3 || !kv_reply_uint(&message->items[2], &revision)) return false;
    return is_watch ? take_events(feed, message, revision) : take_progress(feed, revision);
}

void kv_feed_message(struct kv_feed *feed, struct slice bytes)
{
    if (feed->state != FEED_SERVED) return;
    if (!kv_batch_hold(&feed->message, bytes)) {
        end(feed, KV_ERR_NOMEM, "no memory for the changes");
        return;
    }
    feed->heard_ms = kv_now_ms();
    feed->try = 0;
    const struct kv_reply *message = kv_batch_reply(&feed->message, 0);
    if (message == NULL) {
        end(feed, KV_ERR_NOMEM, "no memory for the changes");
    } else if (!take_message(feed, message)) {
        end(feed, KV_ERR_FAILED, "what the node told makes no sense");
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

/* When the connection counts as dead, if nothing comes. */
static int64_t dead_ms(const struct kv_feed *feed)
{
    const bool waits = feed->conn != NULL && feed->conn->state == KV_CONN_READY;
    if (!waits || kv_feed_is_paused(feed)) return KV_NEVER;
    return feed->conn->heard_ms + SILENCE_ROUNDS * feed->progress_ms;
}

static int64_t silent_ms(const struct kv_feed *feed)
{
    if (feed->silence_ms == 0 || feed->paused) return KV_NEVER;
    return feed->heard_ms + feed->silence_ms;
}

int64_t kv_feed_wake_ms(const struct kv_feed *feed)
{
    int64_t at = dead_ms(feed);
    if (feed->state == FEED_ENDED) return KV_NEVER;
    if (silent_ms(feed) < at) at = silent_ms(feed);
    if (feed->state == FEED_IDLE && feed->ready_ms < at) at = feed->ready_ms;
    return at;
}

void kv_feed_time(struct kv_feed *feed, int64_t now)
{
    if (feed->state == FEED_ENDED) return;
    if (now >= silent_ms(feed)) {
        end(feed, KV_ERR_TIMEOUT, feed->why[0] != 0 ? feed->why : "no node serves the feed");
    } else if (now >= dead_ms(feed)) {
        retry(feed, "the node is silent");
    } else if (feed->state == FEED_IDLE && now >= feed->ready_ms) {
        dial(feed, now);
    }
}

void kv_feeds_tell(struct kv_async *async)
{
    struct kv_feed **at = &async->feeds;
    while (*at != NULL) {
        struct kv_feed *feed = *at;
        if (feed->state != FEED_ENDED) {
            at = &feed->next;
            continue;
        }
        const struct kv_feed_news news = {.state = KV_FEED_ENDED,
                                          .revision = feed->position,
                                          .err = feed->err,
                                          .message = feed->why,
                                          .oldest_revision = feed->oldest};
        *at = feed->next;
        feed->heard(feed->context, &news);
        feed_free(feed);
        at = &async->feeds; /* The program may have opened or closed others. */
    }
}
