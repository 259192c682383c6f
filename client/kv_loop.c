/* The loop under the engine: that of the program (libuv's), or none. A feed of the synchronous client has none: it runs
 * inside kv_watch_next(), with poll(). */
#include "client/kv_engine_parts.h"

#include <poll.h>

#define WATCHED_MAX 16u

void kv_loop_wake(struct kv_async *async)
{
    async->turn_is_due = true;
    if (async->loop != NULL) kv_uv_wake(async);
}

void kv_loop_timer(struct kv_async *async, int64_t at_ms)
{
    async->timer_ms = at_ms;
    if (async->loop != NULL) kv_uv_timer(async, at_ms);
}

bool kv_loop_watch(struct kv_conn *conn, bool readable, bool writable)
{
    if (conn->async->loop != NULL) return kv_uv_watch(conn, readable, writable);
    conn->events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
    return true;
}

void kv_loop_unwatch(struct kv_conn *conn)
{
    if (conn->async->loop != NULL) kv_uv_unwatch(conn);
    conn->events = 0;
}

bool kv_loop_resolve(struct kv_conn *conn, const char *host, const char *port)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (conn->async->loop != NULL) return kv_uv_resolve(conn, host, port);
    const int missed = getaddrinfo(host, port, &hints, &found);
    kv_conn_resolved(conn, found, missed != 0 ? gai_strerror(missed) : NULL);
    return true;
}

void kv_loop_unresolve(struct kv_conn *conn)
{
    if (conn->async->loop != NULL) kv_uv_unresolve(conn);
}

void kv_loop_resolved_free(struct kv_async *async, struct addrinfo *found)
{
    if (async->loop != NULL) {
        kv_uv_resolved_free(found);
    } else {
        freeaddrinfo(found);
    }
}

void kv_loop_close(struct kv_async *async)
{
    async->is_over = true; /* Without a loop its owner frees it. */
    if (async->loop != NULL) kv_uv_close(async);
}

/* Waits for one of the connections, or the time. */
static void wait_once(struct kv_async *async, int64_t until_ms)
{
    struct pollfd slots[WATCHED_MAX];
    struct kv_conn *conns[WATCHED_MAX];
    nfds_t count = 0;
    int64_t left = until_ms - kv_now_ms();
    for (struct kv_conn *conn = async->conns; conn != NULL; conn = conn->next) {
        if (conn->link.fd < 0 || conn->events == 0 || count == WATCHED_MAX) continue;
        slots[count] = (struct pollfd){.fd = conn->link.fd, .events = conn->events};
        conns[count++] = conn;
    }
    if (async->turn_is_due || left < 0) left = 0;
    if (poll(slots, count, left > 1000000 ? 1000000 : (int)left) <= 0) return;
    /* They are freed in the next turn at the earliest. */
    for (nfds_t i = 0; i < count; i++) {
        const short got = slots[i].revents;
        if (got == 0) continue;
        kv_conn_event(conns[i], (got & POLLIN) != 0, (got & POLLOUT) != 0,
                      (got & (POLLERR | POLLHUP | POLLNVAL)) != 0);
    }
}

void kv_loop_run(struct kv_async *async, int64_t until_ms, const bool *stop)
{
    while (!*stop && !async->is_over) {
        const int64_t at = async->timer_ms < until_ms ? async->timer_ms : until_ms;
        wait_once(async, at);
        async->turn_is_due = false;
        if (!*stop) kv_turn(async);
        if (!async->turn_is_due && kv_now_ms() >= until_ms) return;
    }
}
