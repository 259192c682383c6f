#include "node/session.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/fetch.h"
#include "node/locks.h"
#include "node/prepare.h"
#include "node/stream.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define UNCERTAIN_TEXT "UNCERTAIN leadership was lost, the write may or may not have happened"
#define LOST_TEXT                                                                                  \
    "CLUSTERDOWN leadership was lost before the command was carried out, nothing happened"

struct session *session_create(uint64_t id, void *connection, uint64_t now_ms)
{
    struct session *session = mem_zero(sizeof *session);
    session->id = id;
    session->connection = connection;
    session->protocol = 2;
    session->out_base = SESSION_STREAM_START;
    session->sent = SESSION_STREAM_START;
    session->released = SESSION_STREAM_START;
    session->opened_ms = now_ms;
    session->active_ms = now_ms;
    list_init(&session->all);
    list_init(&session->ready);
    list_init(&session->dirty);
    list_init(&session->waiting);
    list_init(&session->hog);
    resp_parser_init(&session->parser);
    return session;
}

void session_destroy(struct session *session)
{
    list_remove(&session->all);
    list_remove(&session->ready);
    list_remove(&session->dirty);
    list_remove(&session->waiting);
    list_remove(&session->hog);
    resp_parser_close(&session->parser);
    fetch_end(session->fetch);
    stream_end(session->stream);
    locks_leave(session->lock);
    prepare_end(session->prepare);
    buf_close(&session->in);
    buf_close(&session->out);
    buf_close(&session->forwarded);
    CHECK(session->txn == NULL);
    CHECK(session->push == NULL);
    mem_free(session->waits);
    mem_free(session->forwards);
    mem_free(session);
}

bool session_take_bulk(struct session *session, struct buf *bytes, uint64_t offset, uint64_t size)
{
    char head[32];
    struct buf *out = &session->out;
    const int head_size = snprintf(head, sizeof head, "$%" PRIu64 "\r\n", size);
    CHECK(head_size > 0);
    CHECK(offset + size <= bytes->size);
    const uint64_t front = (uint64_t)head_size + out->size;
    if (front > offset || offset > session->out_base) return false;
    const uint64_t pad = offset - front;
    if (out->size > 0) memcpy(bytes->data + pad, out->data, out->size);
    memcpy(bytes->data + pad + out->size, head, (uint64_t)head_size);
    bytes->size = offset + size;
    buf_append(bytes, "\r\n", 2);
    buf_close(out);
    *out = *bytes;
    *bytes = (struct buf){0};
    session->out_base -= pad;
    return true;
}

void session_note_exec(struct session *session, struct slice reply, const struct session_wait *wait)
{
    const bool is_array = reply.size > 1 && reply.data[0] == '*' && reply.data[1] != '-';
    session->exec = (struct pubsub_exec){.is_done = is_array};
    if (wait == NULL) return;
    session->exec.batch = wait->batch;
    session->exec.read = wait->read;
}

const struct session_wait *session_last_wait(const struct session *session)
{
    if (session->wait_count == 0) return NULL;
    const uint32_t at = session->wait_first + session->wait_count - 1;
    return &session->waits[at & (session->wait_capacity - 1)];
}

void session_add_wait(struct session *session, struct session_wait wait)
{
    const uint64_t end = session_end(session);
    if (session->wait_count == 0 && wait.batch == 0 && wait.read == 0 &&
        !session_is_proxy(session)) {
        session->released = end; /* Nothing to wait for, and nothing waits before it. */
        return;
    }
    if (session->wait_count == session->wait_capacity) {
        const uint32_t capacity = session->wait_capacity > 0 ? session->wait_capacity * 2 : 8;
        struct session_wait *waits = mem_alloc(capacity * sizeof *waits);
        for (uint32_t i = 0; i < session->wait_count; i++) {
            waits[i] = session->waits[(session->wait_first + i) & (session->wait_capacity - 1)];
        }
        mem_free(session->waits);
        session->waits = waits;
        session->wait_capacity = capacity;
        session->wait_first = 0;
    }
    wait.end = end;
    const uint32_t at = session->wait_first + session->wait_count;
    session->waits[at & (session->wait_capacity - 1)] = wait;
    session->wait_count++;
}

void session_drop_replies(struct session *session, uint64_t end, uint32_t wait_count)
{
    CHECK(end >= session->sent);
    CHECK(end <= session_end(session));
    session->out.size = end - session->out_base;
    if (session->wait_count > wait_count) session->wait_count = wait_count;
    if (session->released > end) session->released = end;
}

static struct session_wait *wait_at(const struct session *session, uint32_t at)
{
    return &session->waits[(session->wait_first + at) & (session->wait_capacity - 1)];
}

const struct session_wait *session_first_wait(const struct session *session)
{
    return session->wait_count > 0 ? wait_at(session, 0) : NULL;
}

static bool wait_holds(const struct session_wait *wait, uint64_t retired_batch,
                       uint64_t confirmed_read)
{
    return wait->batch <= retired_batch && wait->read <= confirmed_read;
}

bool session_release(struct session *session, uint64_t retired_batch, uint64_t confirmed_read)
{
    CHECK(!session_is_proxy(session)); /* The router takes a proxy's waits one by one. */
    bool any = false;
    while (session->wait_count > 0) {
        const struct session_wait *wait = wait_at(session, 0);
        if (!wait_holds(wait, retired_batch, confirmed_read)) break;
        session->released = wait->end;
        session->wait_first = (session->wait_first + 1) & (session->wait_capacity - 1);
        session->wait_count--;
        any = true;
    }
    return any;
}

/* How many of the first waits may not be moved: the last of them stands for a write that was proposed. */
static uint32_t waits_to_keep(struct session *session, uint64_t open_batch)
{
    uint32_t count = session->wait_count;
    while (count > 0) {
        const struct session_wait *wait = wait_at(session, count - 1);
        if (wait->wrote && wait->batch < open_batch) break;
        count--;
    }
    return count;
}

void session_fail_waits(struct session *session, uint64_t retired_batch, uint64_t confirmed_read,
                        uint64_t open_batch)
{
    if (session->wait_count == 0) return;
    struct buf tail = {0};
    uint64_t begin = session->released;
    const uint32_t kept = waits_to_keep(session, open_batch);
    for (uint32_t i = 0; i < session->wait_count; i++) {
        struct session_wait *wait = wait_at(session, i);
        const uint64_t old_end = wait->end;
        if (wait->moved || wait_holds(wait, retired_batch, confirmed_read)) {
            if (old_end > begin) {
                buf_append(&tail, session->out.data + (begin - session->out_base), old_end - begin);
            }
        } else if (wait->wrote && wait->batch < open_batch) {
            resp_put_error(&tail, UNCERTAIN_TEXT);
        } else if (session_is_proxy(session) && i >= kept) {
            /* Never proposed, and nothing behind it was, so that its origin may give all that to the next leader. */
            wait->moved = true;
            session->moved = true;
        } else {
            resp_put_error(&tail, LOST_TEXT);
        }
        begin = old_end;
        wait->end = session->released + tail.size;
        wait->batch = 0;
        wait->read = 0;
    }
    session->out.size = session->released - session->out_base;
    buf_append(&session->out, tail.data, tail.size);
    buf_close(&tail);
}

struct session_forward *session_add_forward(struct session *session, struct slice request,
                                            bool is_write, enum session_answer answer)
{
    if (session->forward_count == session->forward_capacity) {
        const uint32_t capacity = session->forward_capacity > 0 ? session->forward_capacity * 2 : 8;
        struct session_forward *forwards = mem_alloc(capacity * sizeof *forwards);
        for (uint32_t i = 0; i < session->forward_count; i++) {
            const uint32_t at = (session->forward_first + i) & (session->forward_capacity - 1);
            forwards[i] = session->forwards[at];
        }
        mem_free(session->forwards);
        session->forwards = forwards;
        session->forward_capacity = capacity;
        session->forward_first = 0;
    }
    buf_append(&session->forwarded, request.data, request.size);
    const uint32_t at = session->forward_first + session->forward_count;
    struct session_forward *forward = &session->forwards[at & (session->forward_capacity - 1)];
    *forward = (struct session_forward){
        .size = request.size, .is_write = is_write, .answer = (uint8_t)answer};
    session->forward_count++;
    session->indexed_size = 0; /* What follows it must see what it does. */
    session->forward_unsent++;
    return forward;
}

struct session_forward *session_first_forward(struct session *session)
{
    if (session->forward_count == 0) return NULL;
    return &session->forwards[session->forward_first];
}

struct session_forward *session_last_forward(struct session *session)
{
    CHECK(session->forward_count > 0);
    const uint32_t at = session->forward_first + session->forward_count - 1;
    return &session->forwards[at & (session->forward_capacity - 1)];
}

void session_drop_forward(struct session *session)
{
    CHECK(session->forward_count > 0);
    session->forwarded_start += session->forwards[session->forward_first].size;
    if (session->forwarded_start * 2 > session->forwarded.size) {
        buf_shift(&session->forwarded, session->forwarded_start);
        session->forwarded_start = 0;
        buf_trim(&session->forwarded, 64 * KIB);
    }
    session->forward_first = (session->forward_first + 1) & (session->forward_capacity - 1);
    session->forward_count--;
    if (session->forward_unsent > session->forward_count) {
        session->forward_unsent = session->forward_count;
    }
}

void session_consume(struct session *session, uint64_t size)
{
    fetch_end(session->fetch);
    prepare_end(session->prepare);
    session->fetch = NULL;
    stream_end(session->stream);
    session->stream = NULL;
    locks_leave(session->lock);
    session->lock = NULL;
    session->wants_alone = false;
    session->reads = (struct readindex_wait){0};
    session->acks = (struct session_acks){0};
    session->publish = (struct pubsub_wait){0};
    session->prepare = NULL;
    session->indexed_size -= size < session->indexed_size ? size : session->indexed_size;
    session->in_start += size;
    CHECK(session->in_start <= session->in.size);
    if (session->in_start == session->in.size) {
        session->in_start = 0;
        session->in.size = 0;
        buf_trim(&session->in, 64 * KIB);
    } else if (session->in_start > 64 * KIB && session->in_start > session->in.size / 2) {
        buf_shift(&session->in, session->in_start);
        session->in_start = 0;
    }
}

void session_unread(struct session *session, struct buf *requests)
{
    const struct slice left = session_input_bytes(session);
    buf_append(requests, left.data, left.size);
    buf_close(&session->in);
    session->in = *requests;
    session->indexed_size = 0;
    session->in_start = 0;
    *requests = (struct buf){0};
    resp_parser_next(&session->parser);
}

void session_sent(struct session *session, uint64_t size)
{
    session->sent += size;
    CHECK(session->sent <= session->released);
    const uint64_t done = session->sent - session->out_base;
    if (done * 2 <= session->out.size) return;
    buf_shift(&session->out, done);
    session->out_base = session->sent;
    buf_trim(&session->out, 64 * KIB);
}

void session_check(const struct session *session)
{
    uint64_t end = session->released;
    uint64_t forwarded = 0;
    CHECK(session->out_base <= session->sent);
    CHECK(session->sent <= session->released);
    for (uint32_t i = 0; i < session->wait_count; i++) {
        CHECK(wait_at(session, i)->end >= end);
        end = wait_at(session, i)->end;
    }
    CHECK(end == session_end(session));
    for (uint32_t i = 0; i < session->forward_count; i++) {
        const uint32_t at = (session->forward_first + i) & (session->forward_capacity - 1);
        forwarded += session->forwards[at].size;
    }
    CHECK(forwarded == session->forwarded.size - session->forwarded_start);
    CHECK(session->forward_unsent <= session->forward_count);
    CHECK(session->in_start <= session->in.size);
    if (session->forward_count > 0) CHECK(session->wait_count == 0);
}
