#include "client/kv_internal.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define ARGS_MAX 131072u
#define NODES_PREPARED 16u
#define IN_PREPARED (16u * 1024u)
#define ANSWER_SIZE_USUAL 64u /* bytes of the usual answer to a write */
#define SIZE_KEPT (1024u * 1024u)
#define READ_SIZE_MIN (16u * 1024u)

static void *resize_nodes(void *context, void *pointer, uint64_t size)
{
    const struct kv_allocator *allocator = context;
    return allocator->resize(allocator->context, pointer, (size_t)size);
}

void kv_batch_init(struct kv_batch *batch, const struct kv_allocator *allocator)
{
    *batch = (struct kv_batch){
        .allocator = allocator,
        .flat = {.resize = resize_nodes, .resize_context = (void *)(uintptr_t)allocator}};
}

static void release(const struct kv_batch *batch, void *pointer)
{
    if (pointer != NULL) (void)batch->allocator->resize(batch->allocator->context, pointer, 0);
}

void kv_batch_close(struct kv_batch *batch)
{
    kv_buffer_close(batch->allocator, &batch->out);
    kv_buffer_close(batch->allocator, &batch->in);
    release(batch, batch->items);
    release(batch, batch->replies);
    resp_reply_close(&batch->flat);
    kv_batch_init(batch, batch->allocator);
}

void kv_batch_clear(struct kv_batch *batch)
{
    /* What one huge call needed is given back, or every handle would keep its greatest size for ever. */
    if (batch->in.capacity > SIZE_KEPT || batch->out.capacity > SIZE_KEPT ||
        batch->reply_capacity * sizeof *batch->replies > SIZE_KEPT ||
        batch->capacity * sizeof *batch->items > SIZE_KEPT) {
        kv_batch_close(batch);
    }
    batch->out.size = 0;
    batch->in.size = 0;
    batch->count = 0;
    batch->flat.count = 0;
    batch->cut = false;
}

/* ---- commands -------------------------------------------------------------------------------- */

/* Writes "*3" or "$3" and CR LF; gives the size. */
static size_t put_head(uint8_t *out, char kind, size_t number)
{
    uint8_t digits[20];
    size_t count = 0;
    size_t size = 0;
    out[size++] = (uint8_t)kind;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) out[size++] = digits[--count];
    out[size++] = '\r';
    out[size++] = '\n';
    return size;
}

#define HEAD_SIZE_MAX 23u

static uint8_t *put_bulk(uint8_t *at, struct kv_bytes bytes)
{
    at += put_head(at, '$', bytes.size);
    if (bytes.size > 0) memcpy(at, bytes.data, bytes.size);
    at += bytes.size;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

/* "KV.ONCE" and room for id and sequence; gives where the id is. */
static size_t put_once(struct kv_batch *batch, uint8_t **at)
{
    static const char zeros[KV_ONCE_ID_SIZE] = {0};
    *at = put_bulk(*at, KV_TEXT("KV.ONCE"));
    *at = put_bulk(*at, kv_bytes_of(zeros, KV_ONCE_ID_SIZE));
    const size_t stamp = (size_t)(*at - batch->out.data) - 2 - KV_ONCE_ID_SIZE;
    *at = put_bulk(*at, kv_bytes_of(zeros, KV_ONCE_SEQUENCE_SIZE));
    return stamp;
}

static enum kv_err add(struct kv_batch *batch, bool read, bool once, const struct kv_bytes *args,
                       size_t count)
{
    size_t size = 4 * HEAD_SIZE_MAX + KV_ONCE_ID_SIZE + KV_ONCE_SEQUENCE_SIZE + 16;
    void *items = batch->items;
    if (count == 0 || count > ARGS_MAX) return KV_ERR_INVALID;
    for (size_t i = 0; i < count; i++) {
        if (args[i].size > RESP_BULK_MAX) return KV_ERR_INVALID;
        size += args[i].size + HEAD_SIZE_MAX + 2;
    }
    if (!kv_buffer_reserve(batch->allocator, &batch->out, size)) return KV_ERR_NOMEM;
    if (!kv_list_reserve(batch->allocator, &items, &batch->capacity, batch->count + 1,
                         sizeof *batch->items)) {
        return KV_ERR_NOMEM;
    }
    batch->items = items;
    struct kv_item *item = &batch->items[batch->count++];
    uint8_t *at = batch->out.data + batch->out.size;
    *item = (struct kv_item){.begin = batch->out.size, .read = read};
    at += put_head(at, '*', count + (once ? 3 : 0));
    if (once) item->stamp = put_once(batch, &at);
    for (size_t i = 0; i < count; i++) at = put_bulk(at, args[i]);
    batch->out.size = (size_t)(at - batch->out.data);
    item->end = batch->out.size;
    return KV_OK;
}

enum kv_err kv_batch_add(struct kv_batch *batch, bool read, const struct kv_bytes *args,
                         size_t count)
{
    return add(batch, read, false, args, count);
}

enum kv_err kv_batch_add_once(struct kv_batch *batch, const struct kv_bytes *args, size_t count)
{
    return add(batch, false, true, args, count);
}

static bool nodes_prepare(struct kv_batch *batch)
{
    void *replies = batch->replies;
    if (batch->flat.capacity == 0) {
        batch->flat.nodes = batch->allocator->resize(batch->allocator->context, NULL,
                                                     NODES_PREPARED * sizeof *batch->flat.nodes);
        if (batch->flat.nodes == NULL) return false;
        batch->flat.capacity = NODES_PREPARED;
    }
    const bool done = kv_list_reserve(batch->allocator, &replies, &batch->reply_capacity,
                                      NODES_PREPARED, sizeof *batch->replies);
    batch->replies = replies;
    return done;
}

bool kv_batch_prepare_size(struct kv_batch *batch, size_t size)
{
    return nodes_prepare(batch) && kv_buffer_reserve(batch->allocator, &batch->in, size);
}

bool kv_batch_prepare(struct kv_batch *batch)
{
    return kv_batch_prepare_size(batch, IN_PREPARED + ANSWER_SIZE_USUAL * batch->count);
}

bool kv_batch_hold(struct kv_batch *batch, struct slice reply)
{
    static const struct kv_bytes nothing = {.size = 0};
    kv_batch_clear(batch);
    if (kv_batch_add(batch, true, &nothing, 1) != KV_OK) return false;
    if (!kv_buffer_reserve(batch->allocator, &batch->in, (size_t)reply.size)) return false;
    memcpy(batch->in.data, reply.data, (size_t)reply.size);
    batch->in.size = (size_t)reply.size;
    batch->items[0].answered = true;
    batch->items[0].reply_begin = 0;
    batch->items[0].reply_size = (size_t)reply.size;
    return true;
}

/* ---- one run over a connection --------------------------------------------------------------- */

/* Where a run is. */
struct run {
    struct kv_batch *batch;
    struct kv_link *link;
    size_t end;    /* of the items that are run */
    size_t next;   /* the item that waits for its answer */
    size_t unsent; /* the first item that was not wholly given to the system */
    size_t sent;   /* bytes of out that were */
    bool deaf;     /* the peer takes no more, but what it said before may still be there */
    size_t parsed; /* bytes of in that belong to complete replies */
    struct resp_scan scan;
};

static void note_sent(struct run *run)
{
    struct kv_batch *batch = run->batch;
    while (run->unsent < run->end && batch->items[run->unsent].end <= run->sent) {
        batch->items[run->unsent++].sent = true;
    }
}

/* A command is "sent" from the moment its last byte is with the system: nobody can run a part of one. */
static void send_some(struct run *run)
{
    const uint8_t *out = run->batch->out.data;
    const size_t end = run->batch->items[run->end - 1].end;
    while (!run->deaf && run->sent < end) {
        const size_t from = run->sent;
        const ssize_t size = send(run->link->fd, out + from, end - from,
                                  MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size > 0) {
            run->sent += (size_t)size;
            note_sent(run);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            run->deaf = true;
        }
    }
}

static enum kv_link_status receive_some(struct run *run, size_t size_max)
{
    struct kv_buffer *in = &run->batch->in;
    if (in->size >= size_max) return KV_LINK_TOO_BIG;
    /* Only what is missing: the room for the answers to writes was made before. */
    if (in->size == in->capacity && !kv_buffer_reserve(run->batch->allocator, in, READ_SIZE_MIN)) {
        return KV_LINK_NOMEM;
    }
    const ssize_t size = recv(run->link->fd, in->data + in->size, in->capacity - in->size,
                              MSG_DONTWAIT);
    if (size > 0) {
        in->size += (size_t)size;
        return KV_LINK_OK;
    }
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return KV_LINK_OK;
    return KV_LINK_LOST;
}

/* Gives the replies that are whole to their items. */
static enum kv_link_status take_replies(struct run *run)
{
    struct kv_batch *batch = run->batch;
    const struct kv_buffer *in = &batch->in;
    while (run->parsed < in->size) {
        const uint8_t *start = in->data + run->parsed;
        const enum resp_status status = resp_scan(&run->scan,
                                                  slice_of(start, in->size - run->parsed));
        if (status == RESP_MORE) return KV_LINK_OK;
        if (status != RESP_OK) return KV_LINK_LOST;
        const size_t size = (size_t)run->scan.position;
        if (*start != RESP_PUSH) { /* A push answers nothing. */
            if (run->next == run->end) return KV_LINK_LOST;
            struct kv_item *item = &batch->items[run->next];
            if (!item->sent) return KV_LINK_LOST; /* An answer before the question. */
            item->answered = true;
            item->reply_begin = run->parsed;
            item->reply_size = size;
            run->next++;
        }
        run->parsed += size;
        run->scan = (struct resp_scan){0};
    }
    return KV_LINK_OK;
}

enum kv_link_status kv_batch_run(struct kv_batch *batch, struct kv_link *link, size_t first,
                                 size_t end, size_t size_max, int64_t deadline_ms)
{
    struct run run = {.batch = batch,
                      .link = link,
                      .end = end,
                      .next = first,
                      .unsent = first,
                      .parsed = batch->in.size};
    enum kv_link_status status = KV_LINK_OK;
    run.sent = batch->items[first].begin;
    for (size_t i = first; i < end; i++) {
        batch->items[i].answered = false;
        batch->items[i].sent = false;
    }
    while (run.next < end) {
        send_some(&run);
        const bool more = !run.deaf && run.sent < batch->items[end - 1].end;
        const short events = (short)(POLLIN | (more ? POLLOUT : 0));
        status = kv_link_wait(link, events, deadline_ms);
        if (status == KV_LINK_OK) status = receive_some(&run, size_max);
        if (status == KV_LINK_OK) status = take_replies(&run);
        if (status != KV_LINK_OK) break;
    }
    /* Bytes behind the last reply belong to no command: with them every later answer would be wrong. */
    if (status == KV_LINK_OK && run.parsed < batch->in.size) kv_link_close(link);
    if (status != KV_LINK_OK) kv_link_close(link);
    batch->in.size = run.parsed;
    return status;
}

/* ---- replies --------------------------------------------------------------------------------- */

/* Reads the answer to @at into flat. The zero bytes behind the texts of the one read before become CR again. */
static bool read_flat(struct kv_batch *batch, size_t at)
{
    const struct kv_item *item = &batch->items[at];
    if (batch->cut) {
        for (uint32_t i = 0; i < batch->flat.count; i++) {
            const struct slice text = batch->flat.nodes[i].text;
            if (text.data != NULL)
                batch->in.data[text.data - batch->in.data + (ptrdiff_t)text.size] = '\r';
        }
        batch->cut = false;
    }
    const struct slice bytes = slice_of(batch->in.data + item->reply_begin, item->reply_size);
    return resp_read(&batch->flat, bytes) == RESP_OK;
}

bool kv_batch_error(struct kv_batch *batch, size_t at, struct slice *text)
{
    const struct kv_item *item = &batch->items[at];
    const uint8_t kind = batch->in.data[item->reply_begin];
    /* An attribute may stand before an error; everything else shows in its first byte. */
    if (kind != RESP_ERROR && kind != RESP_BULK_ERROR && kind != RESP_ATTRIBUTE) return false;
    if (!read_flat(batch, at)) return false;
    const struct resp_node *node = &batch->flat.nodes[0];
    if (node->kind != RESP_ERROR && node->kind != RESP_BULK_ERROR) return false;
    *text = node->text;
    return true;
}

static enum kv_type type_of(enum resp_kind kind)
{
    switch (kind) {
    case RESP_ERROR:
    case RESP_BULK_ERROR: return KV_ERROR;
    case RESP_INT: return KV_INTEGER;
    case RESP_NULL: return KV_NIL;
    case RESP_BOOL: return KV_BOOL;
    case RESP_DOUBLE: return KV_DOUBLE;
    case RESP_ARRAY:
    case RESP_PUSH: return KV_ARRAY;
    case RESP_MAP: return KV_MAP;
    case RESP_SET: return KV_SET;
    default: return KV_STRING;
    }
}

/* The flat nodes stand in the order in which they came; here each aggregate's elements lie side by side. Level by
 * level: `size` of a reply that is not filled yet is the place of its node. */
static void spread(struct kv_batch *batch)
{
    struct kv_reply *replies = batch->replies;
    size_t filled = 1;
    replies[0] = (struct kv_reply){.size = 0};
    for (size_t i = 0; i < filled; i++) {
        const size_t place = replies[i].size;
        const struct resp_node *node = &batch->flat.nodes[place];
        replies[i] = (struct kv_reply){.type = type_of(node->kind),
                                       .integer = node->integer,
                                       .number = node->number,
                                       .data = (const char *)node->text.data,
                                       .size = (size_t)node->text.size};
        if (node->text.data != NULL) {
            batch->in.data[node->text.data - batch->in.data + (ptrdiff_t)node->text.size] = 0;
        }
        if (node->span == 1) continue;
        replies[i].items = &replies[filled];
        replies[i].count = (size_t)(node->kind == RESP_MAP ? 2 * node->count : node->count);
        size_t from = place + 1;
        for (size_t j = 0; j < replies[i].count; j++) {
            replies[filled++] = (struct kv_reply){.size = from};
            from += batch->flat.nodes[from].span;
        }
    }
}

const struct kv_reply *kv_batch_reply(struct kv_batch *batch, size_t at)
{
    void *replies = batch->replies;
    if (!read_flat(batch, at)) return NULL;
    const bool done = kv_list_reserve(batch->allocator, &replies, &batch->reply_capacity,
                                      batch->flat.count, sizeof *batch->replies);
    batch->replies = replies;
    if (!done) return NULL;
    spread(batch);
    batch->cut = true;
    return batch->replies;
}
