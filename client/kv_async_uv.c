/* The loop of the program, libuv's: the one source of the library that knows it.
 *
 * libuv's functions are weak here: the library does not name libuv among what it needs, so a program that only waits
 * for its results runs without it. One that has a uv_loop_t has libuv, and then they are there. */
#include "client/kv_engine_parts.h"

#include <poll.h>

#include <uv.h>

#pragma weak uv_timer_init
#pragma weak uv_timer_start
#pragma weak uv_timer_stop
#pragma weak uv_idle_init
#pragma weak uv_idle_start
#pragma weak uv_idle_stop
#pragma weak uv_poll_init
#pragma weak uv_poll_start
#pragma weak uv_poll_stop
#pragma weak uv_close
#pragma weak uv_getaddrinfo
#pragma weak uv_freeaddrinfo
#pragma weak uv_cancel
#pragma weak uv_strerror

struct loop {
    uv_timer_t timer;
    uv_idle_t idle; /* active: a turn is due */
    uv_loop_t *uv;
    uint32_t open_count; /* handles that are not closed yet */
    int64_t timer_ms;
    bool is_closing;
};

struct watch {
    uv_poll_t poll;
    struct kv_conn *conn; /* NULL: it has gone */
    struct kv_async *async;
    int events;
};

struct lookup {
    uv_getaddrinfo_t request;
    struct kv_conn *conn;
};

static void *resize(struct kv_async *async, void *pointer, size_t size)
{
    return async->allocator.resize(async->allocator.context, pointer, size);
}

bool kv_uv_is_linked(void)
{
    return uv_timer_init != NULL && uv_timer_start != NULL && uv_timer_stop != NULL &&
           uv_idle_init != NULL && uv_idle_start != NULL && uv_idle_stop != NULL &&
           uv_poll_init != NULL && uv_poll_start != NULL && uv_poll_stop != NULL &&
           uv_close != NULL && uv_getaddrinfo != NULL && uv_freeaddrinfo != NULL &&
           uv_cancel != NULL && uv_strerror != NULL;
}

/* ---- turns ----------------------------------------------------------------------------------- */

static void on_idle(uv_idle_t *idle)
{
    (void)uv_idle_stop(idle);
    kv_turn(idle->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct kv_async *async = timer->data;
    ((struct loop *)async->loop)->timer_ms = 0; /* It is not armed. */
    kv_turn(async);
}

enum kv_err kv_uv_open(struct kv_async *async, struct uv_loop_s *uv)
{
    struct loop *loop = resize(async, NULL, sizeof *loop);
    if (loop == NULL) return KV_ERR_NOMEM;
    *loop = (struct loop){.uv = uv, .open_count = 2};
    (void)uv_timer_init(uv, &loop->timer); /* These two cannot fail. */
    (void)uv_idle_init(uv, &loop->idle);
    loop->timer.data = async;
    loop->idle.data = async;
    async->loop = loop;
    kv_uv_timer(async, KV_NEVER); /* Far away, but it keeps the loop alive. */
    return KV_OK;
}

void kv_uv_wake(struct kv_async *async)
{
    struct loop *loop = async->loop;
    if (!loop->is_closing) (void)uv_idle_start(&loop->idle, on_idle);
}

void kv_uv_timer(struct kv_async *async, int64_t at_ms)
{
    struct loop *loop = async->loop;
    const int64_t wait = at_ms - kv_now_ms();
    if (loop->is_closing || at_ms == loop->timer_ms) return;
    loop->timer_ms = at_ms;
    (void)uv_timer_start(&loop->timer, on_timer, wait > 0 ? (uint64_t)wait : 0, 0);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void closed(struct kv_async *async)
{
    struct loop *loop = async->loop;
    if (--loop->open_count > 0) return;
    (void)resize(async, loop, 0);
    kv_engine_free(async);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    struct kv_async *async = watch->async;
    (void)resize(async, watch, 0);
    closed(async);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    if (watch->conn == NULL) return;
    kv_conn_event(watch->conn, (events & UV_READABLE) != 0, (events & UV_WRITABLE) != 0,
                  status < 0);
    kv_turn(watch->async);
}

static struct watch *watch_open(struct kv_conn *conn)
{
    struct loop *loop = conn->async->loop;
    struct watch *watch = resize(conn->async, NULL, sizeof *watch);
    if (watch == NULL) return NULL;
    *watch = (struct watch){.conn = conn, .async = conn->async};
    if (uv_poll_init(loop->uv, &watch->poll, conn->link.fd) != 0) {
        (void)resize(conn->async, watch, 0);
        return NULL;
    }
    watch->poll.data = watch;
    loop->open_count++;
    conn->watch = watch;
    return watch;
}

bool kv_uv_watch(struct kv_conn *conn, bool readable, bool writable)
{
    const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    struct watch *watch = conn->watch != NULL ? conn->watch : watch_open(conn);
    if (watch == NULL) return false;
    if (watch->events == events) return true;
    watch->events = events;
    if (events == 0) return uv_poll_stop(&watch->poll) == 0;
    return uv_poll_start(&watch->poll, events, on_event) == 0;
}

void kv_uv_unwatch(struct kv_conn *conn)
{
    struct watch *watch = conn->watch;
    if (watch == NULL) return;
    watch->conn = NULL;
    conn->watch = NULL;
    /* From here on the loop does not look at the descriptor any more, which may be closed now. */
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void on_found(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct lookup *lookup = request->data;
    struct kv_conn *conn = lookup->conn;
    struct kv_async *async = conn->async;
    conn->lookup = NULL;
    (void)resize(async, lookup, 0);
    kv_conn_resolved(conn, found, status != 0 ? uv_strerror(status) : NULL);
    kv_turn(async);
}

bool kv_uv_resolve(struct kv_conn *conn, const char *host, const char *port)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct loop *loop = conn->async->loop;
    struct lookup *lookup = resize(conn->async, NULL, sizeof *lookup);
    if (lookup == NULL) return false;
    lookup->conn = conn;
    lookup->request.data = lookup;
    if (uv_getaddrinfo(loop->uv, &lookup->request, on_found, host, port, &hints) != 0) {
        (void)resize(conn->async, lookup, 0);
        return false;
    }
    conn->lookup = lookup; /* The connection stays until the answer is here. */
    return true;
}

void kv_uv_unresolve(struct kv_conn *conn)
{
    struct lookup *lookup = conn->lookup;
    /* When it has begun already its answer comes in any case. */
    (void)uv_cancel((uv_req_t *)&lookup->request);
}

void kv_uv_resolved_free(struct addrinfo *found)
{
    uv_freeaddrinfo(found);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    closed(handle->data);
}

void kv_uv_close(struct kv_async *async)
{
    struct loop *loop = async->loop;
    if (loop->is_closing) return;
    loop->is_closing = true;
    uv_close((uv_handle_t *)&loop->timer, on_closed);
    uv_close((uv_handle_t *)&loop->idle, on_closed);
}
