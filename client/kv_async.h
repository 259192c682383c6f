/* kv_async.h - libkvclient for a program with an event loop of libuv. client/kv.h includes it.
 *
 *     static void got(void *context, const struct kv_result *result)
 *     {
 *         if (result->err == KV_OK) printf("%s\n", result->value.data);
 *     }
 *     …
 *     struct kv_callback then = {.done = got};
 *     kv_async_create(&options, uv_default_loop(), &async);
 *     kv_async_get(async, kv_text("greeting"), &then);
 *     uv_run(uv_default_loop(), UV_RUN_DEFAULT);
 *
 * Link with libuv too (pkg-config --libs kvclient libuv). A program that calls nothing of this header needs no libuv.
 *
 * Start. A function that starts an operation copies its arguments and returns at once, without input or output. After
 * KV_OK the callback comes exactly once, later, from the loop; never from inside a function of this library that the
 * program called. After KV_ERR_INVALID or KV_ERR_NOMEM nothing was started and no callback comes.
 *
 * Result. What a callback is given is valid until it returns. A callback may call every function of this header.
 *
 * Order. Operations under way share one connection, are sent together and have no order among each other: start the
 * next one in the callback of the one before, or put both into a batch, where order matters.
 *
 * Deadline and repetition are those of kv.h: every operation ends in time, a write is never sent twice unless it
 * carries an id (options.once).
 *
 * Threads. A client belongs to the thread that runs its loop: every function here is called on that thread, and so are
 * the callbacks. Clients on different loops are independent. */
#ifndef KV_CLIENT_KV_ASYNC_H
#define KV_CLIENT_KV_ASYNC_H

#ifndef KV_CLIENT_KV_H
#error "include client/kv.h, which includes this"
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s; /* libuv's uv_loop_t */

/* ---- client ---------------------------------------------------------------------------------- */

struct kv_async;

/* A client on @loop, which the caller runs. Does not wait: the first operation connects. Until it is closed the client
 * keeps the loop alive.
 *   KV_ERR_INVALID  options.nodes is malformed, the options were not initialised, or libuv is not linked.
 *   KV_ERR_NOMEM
 * Gives *@async only with KV_OK. */
KV_API enum kv_err kv_async_create(const struct kv_options *options, struct uv_loop_s *loop,
                                   struct kv_async **async);

/* Ends everything: callbacks of operations and feeds under way come with KV_ERR_CANCELLED or KV_ERR_UNKNOWN, and then
 * @closed (may be NULL), when the loop holds nothing of the client any more. Nothing may be started from here on. */
KV_API void kv_async_close(struct kv_async *async, void (*closed)(void *context), void *context);

/* The address of the node that operations go to at the moment, "host:port"; empty when there is none. */
KV_API const char *kv_async_address(const struct kv_async *async);

/* ---- operations ------------------------------------------------------------------------------ */

struct kv_result {
    enum kv_err err;
    const char *message;   /* what went wrong, one line for people; "" with KV_OK */
    struct kv_value value; /* get: the value; set with want_previous: the value before */
    int64_t
        integer; /* del: how many existed; incr: the sum; ttl: milliseconds, -1 for ever; txn: 1 or 0 */
    const struct kv_reply
        *reply; /* command, txn: the reply, also a KV_ERROR; NULL: there is none */
    const struct kv_entry *entries; /* scan: the page */
    size_t count;                   /* of entries; of the commands of a batch */
    struct kv_op *op;               /* private */
};

typedef void kv_done(void *context, const struct kv_result *result);

/* What happens when an operation ends. Copied by the function that starts it. */
struct kv_callback {
    size_t struct_size; /* of this struct; 0: up to id */
    kv_done *done;      /* NULL: nobody wants to know */
    void *context;
    int64_t timeout_ms; /* of this operation; 0: options.timeout_ms */
    uint64_t *id;       /* not NULL: gets a number for kv_async_cancel() */
};

/* Ends the operation @id: its callback comes with KV_ERR_CANCELLED, or with KV_ERR_UNKNOWN when it is a write that was
 * already being sent; with its result when that is there. A number that is no longer under way is ignored. */
KV_API void kv_async_cancel(struct kv_async *async, uint64_t id);

/* As the functions of kv.h with these names. @then NULL: nobody wants to know. */
KV_API enum kv_err kv_async_get(struct kv_async *async, struct kv_bytes key,
                                const struct kv_callback *then);
KV_API enum kv_err kv_async_set(struct kv_async *async, struct kv_bytes key, struct kv_bytes value,
                                const struct kv_set_options *options, int want_previous,
                                const struct kv_callback *then);
KV_API enum kv_err kv_async_del(struct kv_async *async, const struct kv_bytes *keys, size_t count,
                                const struct kv_callback *then);
KV_API enum kv_err kv_async_incr(struct kv_async *async, struct kv_bytes key, int64_t by,
                                 const struct kv_callback *then);
KV_API enum kv_err kv_async_ttl(struct kv_async *async, struct kv_bytes key,
                                const struct kv_callback *then);
/* @flags of enum kv_command_flags. */
KV_API enum kv_err kv_async_command(struct kv_async *async, unsigned flags,
                                    const struct kv_bytes *args, size_t count,
                                    const struct kv_callback *then);

/* The result's integer is 1 when the conditions held, else 0; its reply has the replies of the commands. */
KV_API enum kv_err kv_async_txn(struct kv_async *async, const struct kv_txn *txn,
                                const struct kv_callback *then);

/* Several commands that are sent together, taken in order and answered by one callback. Not a transaction. The
 * result's err is that of the first command that failed; what is repeated is as with kv_pipeline_execute(). With
 * options.once at most 256 of them may be writes. */
KV_API enum kv_err kv_async_batch(struct kv_async *async, const struct kv_words *commands,
                                  size_t count, const struct kv_callback *then);
/* The result of command @at (from 0) of the batch that ended with @result, in its callback. *@reply (may be NULL) is
 * valid until the next call. */
KV_API enum kv_err kv_result_at(const struct kv_result *result, size_t at,
                                const struct kv_reply **reply);

/* ---- ordered scan ---------------------------------------------------------------------------- */

struct kv_async_scan;

/* As kv_scan_open(). Holds at most one page, whatever the range has. */
KV_API enum kv_err kv_async_scan_open(struct kv_async *async, const struct kv_scan_options *options,
                                      struct kv_async_scan **scan);
/* Asks for the next page; one at a time. The result has its entries; KV_ERR_NOT_FOUND: the scan is at its end. After
 * another error it may be called again and goes on where it was. KV_ERR_INVALID: a page is under way. */
KV_API enum kv_err kv_async_scan_next(struct kv_async_scan *scan, const struct kv_callback *then);
/* Also while a page is under way: its callback comes with KV_ERR_CANCELLED. It ends with its client at the latest. */
KV_API void kv_async_scan_close(struct kv_async_scan *scan);

/* ---- change feed ----------------------------------------------------------------------------- */

/* A feed tells every change of the keys it watches, in order, none twice, none left out, a whole transaction at a
 * time. When its node fails it goes on at another one, behind the last change that was told. It has a connection of
 * its own. Each call of kv_heard() is one transaction, or tells how far the feed is. */
struct kv_feed;

struct kv_feed_options {
    size_t struct_size; /* of this struct; 0: up to silence_ms */
    struct kv_bytes
        prefix;           /* keys that begin with it; empty, with key, from and to empty too: all */
    struct kv_bytes key;  /* or this one key */
    struct kv_bytes from; /* or the keys from here, included, */
    struct kv_bytes to;   /* to there, not included; empty: to the end */
    uint64_t from_revision; /* changes with a greater revision; 0: from now on */
    int previous;           /* not 0: with the value before each change */
    int64_t
        progress_ms; /* how often a quiet feed tells how far it is; 0: 2000. Three times that is silence */
    int64_t silence_ms; /* ends with KV_ERR_TIMEOUT when no node was heard for so long; 0: never */
};

enum kv_event_kind {
    KV_EVENT_PUT,
    KV_EVENT_DELETED,
    KV_EVENT_EXPIRED,
    KV_EVENT_FLUSHED, /* every key is gone; no key is named */
    KV_EVENT_EXPIRY,  /* only the time when it expires changed */
};

struct kv_event {
    enum kv_event_kind kind;
    const char *key;
    size_t key_size;
    struct kv_value
        value; /* after a put: data, size, revision. Else data NULL, and the change's revision */
    int64_t
        expiry_ms; /* after a put or a change of the expiry: when it expires, Unix time; -1: never */
    struct kv_value
        previous; /* with options.previous: the value before; data NULL: none, or not asked */
};

enum kv_feed_state {
    KV_FEED_STARTED, /* a node serves it (the first one, or the next after a fault), from revision on */
    KV_FEED_EVENTS,
    KV_FEED_PROGRESS, /* nothing happened up to revision */
    KV_FEED_ENDED,    /* the last call for this feed; err says why */
};

struct kv_feed_news {
    enum kv_feed_state state;
    uint64_t
        revision; /* a feed that begins from_revision here misses nothing and repeats nothing */
    const struct kv_event *events;
    size_t count;
    enum kv_err
        err; /* of KV_FEED_ENDED: CANCELLED by the program, COMPACTED, FAILED, TIMEOUT, NOMEM */
    const char *message;
    uint64_t oldest_revision; /* of KV_ERR_COMPACTED: what can still be asked for; 0: not known */
};

typedef void kv_heard(void *context, const struct kv_feed_news *news);

/* Begins a feed. KV_ERR_INVALID, KV_ERR_NOMEM: it did not. *@feed is valid until the call with KV_FEED_ENDED. */
KV_API enum kv_err kv_feed_open(struct kv_async *async, const struct kv_feed_options *options,
                                kv_heard *heard, void *context, struct kv_feed **feed);
/* No news until kv_feed_resume(), for a program that cannot keep up: the node waits then, and memory stays bounded. */
KV_API void kv_feed_pause(struct kv_feed *feed);
KV_API void kv_feed_resume(struct kv_feed *feed);
/* The feed ends: no more changes, then one call with KV_FEED_ENDED and KV_ERR_CANCELLED. */
KV_API void kv_feed_close(struct kv_feed *feed);

/* ---- change feed without a loop -------------------------------------------------------------- */

/* The same feed for a program that waits for each change, with the nodes and limits of a handle of kv.h. It belongs to
 * one thread at a time, is independent of the handle from then on, and needs no libuv. */
struct kv_watch;

/* KV_ERR_INVALID, KV_ERR_NOMEM: kv_message(kv) has more. */
KV_API enum kv_err kv_watch_open(struct kv *kv, const struct kv_feed_options *options,
                                 struct kv_watch **watch);
/* Waits for the next news, at most @timeout_ms. *@news is valid until the next call. KV_ERR_TIMEOUT with *@news NULL:
 * there was none. When the feed has ended: its error, and *@news with state KV_FEED_ENDED, again and again. */
KV_API enum kv_err kv_watch_next(struct kv_watch *watch, int64_t timeout_ms,
                                 const struct kv_feed_news **news);
KV_API void kv_watch_close(struct kv_watch *watch); /* NULL is allowed */

#ifdef __cplusplus
}
#endif

#endif
