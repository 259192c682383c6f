/* One connection: dialling without waiting, the queue of commands, sending, and giving answers to those who asked. */
#include "client/kv_engine_parts.h"

#include <errno.h>
#include <stdio.h>

#define LOAD_AHEAD (64u * 1024u) /* bytes in out that the system did not take yet */
#define READ_SIZE (64u * 1024u)
#define READS_MAX 4u /* of one event: others have their turn too */
#define SIZE_KEPT (1024u * 1024u)

static void complain(struct kv_conn *conn, const char *what)
{
    (void)snprintf(conn->why, sizeof conn->why, "%s: %s", conn->address, what);
}

/* ---- dialling -------------------------------------------------------------------------------- */

static void greet(struct kv_conn *conn)
{
    conn->state = KV_CONN_GREETING;
    conn->greeting.state = KV_OP_SENT;
    if (!kv_greeting_add(&conn->greeting.batch) || !kv_questions_add(&conn->greeting.batch) ||
        !kv_batch_prepare_size(&conn->greeting.batch, READ_SIZE / 16) ||
        !kv_conn_put(conn, &conn->greeting)) {
        complain(conn, "no memory");
        kv_conn_close(conn, KV_LINK_NOMEM);
    }
}

/* Tries the addresses from target on. */
static void dial(struct kv_conn *conn)
{
    enum kv_link_status status = KV_LINK_NOBODY;
    int error = 0;
    for (; conn->target != NULL; conn->target = conn->target->ai_next) {
        char text[128];
        kv_loop_unwatch(conn);
        kv_link_close(&conn->link);
        status = kv_link_dial(&conn->link, conn->target->ai_addr, conn->target->ai_addrlen, &error);
        if (status == KV_LINK_OK || status == KV_LINK_TIMEOUT) break;
        complain(conn, strerror_r(error, text, sizeof text));
    }
    if (conn->target == NULL) {
        kv_conn_close(conn, status);
        return;
    }
    conn->target = conn->target->ai_next; /* where to go on */
    conn->state = KV_CONN_DIALING;
    if (status == KV_LINK_OK) greet(conn);
    kv_conn_watch(conn);
}

void kv_conn_resolved(struct kv_conn *conn, struct addrinfo *found, const char *why)
{
    conn->found = found;
    conn->found_is_loops = true;
    conn->target = found;
    if (conn->state != KV_CONN_RESOLVING) return;
    if (why != NULL) {
        complain(conn, why);
        kv_conn_close(conn, KV_LINK_NOBODY);
        return;
    }
    dial(conn);
}

struct kv_conn *kv_conn_create(struct kv_async *async, const char *address, int64_t until_ms,
                               struct kv_feed *feed)
{
    struct kv_conn *conn = async->allocator.resize(async->allocator.context, NULL, sizeof *conn);
    if (conn == NULL) return NULL;
    *conn = (struct kv_conn){.async = async,
                             .next = async->conns,
                             .link = {.fd = -1},
                             .state = KV_CONN_RESOLVING,
                             .feed = feed,
                             .until_ms = until_ms};
    async->conns = conn;
    (void)snprintf(conn->address, sizeof conn->address, "%s", address);
    kv_op_init_ours(&conn->greeting, async, KV_OP_GREETING);
    return conn;
}

void kv_conn_begin(struct kv_conn *conn)
{
    char host[KV_ADDRESS_SIZE];
    char port[8];
    kv_loop_wake(conn->async);
    if (!kv_address_parse(conn->address, host, port)) {
        complain(conn, "not host:port");
        kv_conn_close(conn, KV_LINK_NOBODY);
    } else if (kv_link_numeric(host, port, &conn->found)) {
        conn->target = conn->found;
        dial(conn);
    } else if (!kv_loop_resolve(conn, host, port)) {
        complain(conn, "the name cannot be looked up");
        kv_conn_close(conn, KV_LINK_NOBODY);
    }
}

static void dialled(struct kv_conn *conn)
{
    char text[128];
    int error = 0;
    const enum kv_link_status status = kv_link_dialled(&conn->link, &error);
    if (status == KV_LINK_TIMEOUT) return;
    if (status == KV_LINK_OK) {
        greet(conn);
        return;
    }
    complain(conn, strerror_r(error, text, sizeof text));
    if (conn->target != NULL) {
        dial(conn);
    } else {
        kv_conn_close(conn, status);
    }
}

/* ---- the queue ------------------------------------------------------------------------------- */

static struct kv_sent *place(struct kv_conn *conn, uint64_t at)
{
    return &conn->queue[at & (conn->queue_capacity - 1)];
}

static bool queue_reserve(struct kv_conn *conn, size_t more)
{
    const struct kv_allocator *allocator = &conn->async->allocator;
    const size_t used = (size_t)(conn->put_count - conn->taken_count);
    size_t capacity = conn->queue_capacity > 0 ? conn->queue_capacity : 64;
    while (capacity < used + more) capacity *= 2;
    if (capacity == conn->queue_capacity) return true;
    struct kv_sent *queue = allocator->resize(allocator->context, NULL, capacity * sizeof *queue);
    if (queue == NULL) return false;
    for (uint64_t at = conn->taken_count; at < conn->put_count; at++) {
        queue[at & (capacity - 1)] = *place(conn, at);
    }
    if (conn->queue != NULL) (void)allocator->resize(allocator->context, conn->queue, 0);
    conn->queue = queue;
    conn->queue_capacity = capacity;
    return true;
}

bool kv_conn_put(struct kv_conn *conn, struct kv_op *op)
{
    const size_t count = op->batch.count - op->first;
    if (!queue_reserve(conn, count)) return false;
    op->conn = conn;
    op->state = KV_OP_SENT;
    op->entry = conn->put_count;
    op->entry_end = conn->put_count + count;
    op->unanswered = count;
    for (size_t i = op->first; i < op->batch.count; i++) {
        *place(conn, conn->put_count++) = (struct kv_sent){.op = op, .item = (uint32_t)i};
    }
    conn->live_count += count;
    return true;
}

void kv_conn_forget(struct kv_op *op)
{
    struct kv_conn *conn = op->conn;
    uint64_t at = op->entry > conn->taken_count ? op->entry : conn->taken_count;
    for (; at < op->entry_end; at++) {
        struct kv_sent *sent = place(conn, at);
        if (sent->op != op) continue;
        /* What lies in out cannot be taken back: it counts as sent. */
        if (sent->loaded) op->batch.items[sent->item].sent = true;
        sent->op = NULL;
        conn->live_count--;
    }
    op->conn = NULL;
    if (conn->leaving && conn->live_count == 0) kv_conn_close(conn, KV_LINK_LOST);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Takes the next commands into out, as far as the system is likely to take them soon: what is not in there can still be
 * cancelled without a trace. */
static void load(struct kv_conn *conn)
{
    struct kv_buffer *out = &conn->out;
    if (conn->out_done > 0 && out->size - conn->out_done < LOAD_AHEAD) {
        out->size -= conn->out_done;
        if (out->size > 0) memmove(out->data, out->data + conn->out_done, out->size);
        conn->out_done = 0;
    }
    while (conn->load_count < conn->put_count && out->size - conn->out_done < LOAD_AHEAD) {
        struct kv_sent *sent = place(conn, conn->load_count);
        struct kv_op *op = sent->op;
        if (op != NULL) {
            const struct kv_item *item = &op->batch.items[sent->item];
            const size_t size = item->end - item->begin;
            if (!kv_buffer_reserve(&conn->async->allocator, out, size)) {
                kv_op_abandon(op, KV_ERR_NOMEM, "no memory to send the command");
                if (conn->state == KV_CONN_CLOSED) return;
                continue; /* It is void now. */
            }
            memcpy(out->data + out->size, op->batch.out.data + item->begin, size);
            out->size += size;
            conn->out_total += size;
            sent->loaded = true;
        }
        sent->end = conn->out_total;
        conn->load_count++;
    }
}

static void note_sent(struct kv_conn *conn)
{
    const uint64_t gone = conn->out_total - (conn->out.size - conn->out_done);
    while (conn->sent_count < conn->load_count) {
        const struct kv_sent *sent = place(conn, conn->sent_count);
        if (sent->end > gone) break;
        if (sent->op != NULL) sent->op->batch.items[sent->item].sent = true;
        conn->sent_count++;
    }
}

void kv_conn_flush(struct kv_conn *conn)
{
    if (conn->state != KV_CONN_GREETING && conn->state != KV_CONN_READY) return;
    load(conn);
    while (!conn->deaf && conn->state != KV_CONN_CLOSED && conn->out_done < conn->out.size) {
        const ssize_t size = send(conn->link.fd, conn->out.data + conn->out_done,
                                  conn->out.size - conn->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size > 0) {
            conn->out_done += (size_t)size;
            load(conn);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            conn->deaf = true;
        }
    }
    if (conn->state == KV_CONN_CLOSED) return;
    note_sent(conn);
    if (conn->out_done == conn->out.size && conn->out.capacity > SIZE_KEPT) {
        kv_buffer_close(&conn->async->allocator, &conn->out);
        conn->out_done = 0;
    }
    kv_conn_watch(conn);
}

void kv_conn_watch(struct kv_conn *conn)
{
    if (conn->state == KV_CONN_CLOSED || conn->link.fd < 0) return;
    const bool is_dialing = conn->state == KV_CONN_DIALING;
    const bool readable = !is_dialing && (conn->feed == NULL || !kv_feed_is_paused(conn->feed));
    const bool writable = is_dialing || (!conn->deaf && conn->out_done < conn->out.size);
    if (kv_loop_watch(conn, readable, writable)) return;
    complain(conn, "the loop cannot watch the connection");
    kv_conn_close(conn, KV_LINK_LOST);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* A copy of the answer goes to the operation. */
static void give(struct kv_conn *conn, const struct kv_sent *sent, const uint8_t *start,
                 size_t size)
{
    struct kv_op *op = sent->op;
    struct kv_async *async = conn->async;
    struct kv_item *item = &op->batch.items[sent->item];
    struct kv_buffer *in = &op->batch.in;
    if (in->size + size > async->options.reply_size_max) {
        op->status = KV_LINK_TOO_BIG;
    } else if (!kv_buffer_reserve(&async->allocator, in, size)) {
        op->status = KV_LINK_NOMEM;
    } else {
        memcpy(in->data + in->size, start, size);
        item->answered = true;
        item->reply_begin = in->size;
        item->reply_size = size;
        in->size += size;
    }
    conn->live_count--;
    if (--op->unanswered > 0) return;
    kv_op_settle(op, KV_LINK_OK);
    if (op == &conn->greeting) kv_route_greeted(conn);
    if (op == &async->question) kv_route_answered(async);
    if (op->kind == KV_OP_WATCH) kv_feed_watched(conn->feed, op);
}

/* One whole reply. False: nobody asked for it. */
static bool take(struct kv_conn *conn, const uint8_t *start, size_t size)
{
    while (conn->taken_count < conn->load_count && !place(conn, conn->taken_count)->loaded) {
        conn->taken_count++; /* It was cancelled before it was sent. */
    }
    if (conn->taken_count >= conn->sent_count) {
        if (conn->feed == NULL || conn->state != KV_CONN_READY) return false;
        kv_feed_message(conn->feed, slice_of(start, size)); /* RESP2 has no pushes. */
        return true;
    }
    const struct kv_sent sent = *place(conn, conn->taken_count++);
    if (sent.op != NULL) give(conn, &sent, start, size);
    return true;
}

static bool is_paused(const struct kv_conn *conn)
{
    return conn->feed != NULL && kv_feed_is_paused(conn->feed);
}

static void take_replies(struct kv_conn *conn)
{
    size_t parsed = 0;
    while (parsed < conn->in.size && conn->state != KV_CONN_CLOSED && !is_paused(conn)) {
        const uint8_t *start = conn->in.data + parsed;
        const enum resp_status status = resp_scan(&conn->scan,
                                                  slice_of(start, conn->in.size - parsed));
        if (status == RESP_MORE) break;
        if (status != RESP_OK) {
            complain(conn, "what came is not the protocol");
            kv_conn_close(conn, KV_LINK_LOST);
            return;
        }
        const size_t size = (size_t)conn->scan.position;
        conn->scan = (struct resp_scan){0};
        parsed += size;
        if (*start == RESP_PUSH) {
            if (conn->feed != NULL) kv_feed_message(conn->feed, slice_of(start, size));
        } else if (!take(conn, start, size)) {
            complain(conn, "an answer came that nobody asked for");
            kv_conn_close(conn, KV_LINK_LOST);
            return;
        }
    }
    if (conn->state == KV_CONN_CLOSED) return;
    conn->in.size -= parsed;
    if (conn->in.size > 0 && parsed > 0) {
        memmove(conn->in.data, conn->in.data + parsed, conn->in.size);
    }
    if (conn->in.size == 0 && conn->in.capacity > SIZE_KEPT) {
        kv_buffer_close(&conn->async->allocator, &conn->in);
    }
    if (conn->leaving && conn->live_count == 0) kv_conn_close(conn, KV_LINK_LOST);
}

void kv_conn_go_on(struct kv_conn *conn)
{
    if (conn->feed == NULL || is_paused(conn) || conn->in.size == 0) return;
    if (conn->state == KV_CONN_READY) take_replies(conn);
}

/* False: there is nothing more at the moment. */
static bool receive(struct kv_conn *conn)
{
    struct kv_buffer *in = &conn->in;
    if (in->size > conn->async->options.reply_size_max) {
        complain(conn, "the reply is too big");
        kv_conn_close(conn, KV_LINK_TOO_BIG);
        return false;
    }
    if (!kv_buffer_reserve(&conn->async->allocator, in, READ_SIZE)) {
        complain(conn, "no memory for the reply");
        kv_conn_close(conn, KV_LINK_NOMEM);
        return false;
    }
    const size_t room = in->capacity - in->size;
    const ssize_t size = recv(conn->link.fd, in->data + in->size, room, MSG_DONTWAIT);
    if (size > 0) {
        in->size += (size_t)size;
        conn->heard_ms = kv_now_ms();
        take_replies(conn);
        return conn->state != KV_CONN_CLOSED && (size_t)size == room;
    }
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return false;
    complain(conn, "the connection broke");
    kv_conn_close(conn, KV_LINK_LOST);
    return false;
}

void kv_conn_event(struct kv_conn *conn, bool readable, bool writable, bool failed)
{
    if (conn->state == KV_CONN_DIALING) {
        if (writable || failed) dialled(conn);
        if (conn->state != KV_CONN_CLOSED) kv_conn_watch(conn);
        return;
    }
    if (conn->state == KV_CONN_CLOSED) return;
    bool more = readable || failed;
    for (uint32_t i = 0; more && i < READS_MAX && !is_paused(conn); i++) more = receive(conn);
}

/* ---- the end --------------------------------------------------------------------------------- */

void kv_conn_leave(struct kv_conn *conn)
{
    struct kv_async *async = conn->async;
    conn->leaving = true;
    if (async->main == conn) async->main = NULL;
    if (async->asked == conn) { /* Where the leader is, another one will say. */
        async->asked = NULL;
        kv_conn_forget(&async->question);
    }
    if (conn->live_count == 0) kv_conn_close(conn, KV_LINK_LOST);
}

/* A node that does not want us says so in its first reply, and closes. */
static void note_refusal(struct kv_conn *conn)
{
    struct slice text = {0};
    const struct kv_batch *batch = &conn->greeting.batch;
    if (conn->state != KV_CONN_GREETING || batch->count == 0 || !batch->items[0].answered) return;
    if (!kv_batch_error(&conn->greeting.batch, 0, &text)) return;
    (void)snprintf(conn->why, sizeof conn->why, "%s: %.*s", conn->address,
                   (int)(text.size < 200 ? text.size : 200), (const char *)text.data);
    conn->is_unwelcome = kv_unwelcome(text);
}

void kv_conn_close(struct kv_conn *conn, enum kv_link_status status)
{
    const enum kv_link_status reason = status;
    if (conn->state == KV_CONN_CLOSED) return;
    note_refusal(conn);
    conn->state = KV_CONN_CLOSED;
    if (conn->lookup != NULL) kv_loop_unresolve(conn);
    if (conn->link.fd >= 0) {
        note_sent(conn);
        kv_loop_unwatch(conn);
        kv_link_close(&conn->link);
    }
    /* Who leads them now must be settled before they look for another connection. */
    kv_route_lost(conn, status);
    for (uint64_t at = conn->taken_count; at < conn->put_count; at++) {
        struct kv_op *op = place(conn, at)->op;
        if (op == NULL || op->conn != conn) continue;
        kv_op_settle(op, status);
        /* Only the first one is to blame for an answer that is too big. */
        if (status != KV_LINK_TIMEOUT) status = KV_LINK_LOST;
    }
    conn->taken_count = conn->put_count;
    conn->live_count = 0;
    if (conn->feed != NULL) kv_feed_lost(conn->feed, reason);
    kv_loop_wake(conn->async);
}

void kv_conn_free(struct kv_conn *conn)
{
    const struct kv_allocator *allocator = &conn->async->allocator;
    if (conn->found != NULL && conn->found_is_loops)
        kv_loop_resolved_free(conn->async, conn->found);
    if (conn->found != NULL && !conn->found_is_loops) freeaddrinfo(conn->found);
    kv_buffer_close(allocator, &conn->out);
    kv_buffer_close(allocator, &conn->in);
    if (conn->queue != NULL) (void)allocator->resize(allocator->context, conn->queue, 0);
    kv_op_clear(&conn->greeting);
    (void)allocator->resize(allocator->context, conn, 0);
}
