/* The life of operations: pending, sent, turned down and tried again, ended, told. */
#include "client/kv_engine_parts.h"

#include <stdio.h>

#define NOWHERE SIZE_MAX
#define SPARE_MAX 256u
#define MARGIN_MAX_MS 50
#define READ_TRY_MIN_MS 100
/* Room for the usual answers, so that memory rarely runs out between sending a write and knowing its result. */
#define ANSWER_SIZE 128u
#define ANSWER_USUAL 64u

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void list_append(struct kv_op_list *list, struct kv_op *op)
{
    op->next = NULL;
    op->previous = list->last;
    if (list->last != NULL) list->last->next = op;
    if (list->first == NULL) list->first = op;
    list->last = op;
}

static void list_remove(struct kv_op_list *list, struct kv_op *op)
{
    if (op->previous != NULL) op->previous->next = op->next;
    if (op->next != NULL) op->next->previous = op->previous;
    if (list->first == op) list->first = op->next;
    if (list->last == op) list->last = op->previous;
    op->next = NULL;
    op->previous = NULL;
}

static struct kv_op_list *list_of(struct kv_op *op)
{
    switch (op->state) {
    case KV_OP_PENDING: return &op->async->pending;
    case KV_OP_WAITING: return &op->async->waiting;
    case KV_OP_DONE: return &op->async->done;
    default: return NULL;
    }
}

static void enter(struct kv_op *op, enum kv_op_state state)
{
    op->state = state;
    if (list_of(op) != NULL) list_append(list_of(op), op);
}

static void leave(struct kv_op *op)
{
    if (list_of(op) != NULL) list_remove(list_of(op), op);
}

/* ---- creation -------------------------------------------------------------------------------- */

void kv_op_init_ours(struct kv_op *op, struct kv_async *async, enum kv_op_kind kind)
{
    *op = (struct kv_op){.async = async, .kind = kind, .is_ours = true, .heap_at = NOWHERE};
    kv_batch_init(&op->batch, &async->allocator);
}

void kv_op_clear(struct kv_op *op)
{
    if (op->batch.allocator != NULL) kv_batch_close(&op->batch);
}

/* A place in the table of ids, and one in the heap. */
static bool reserve_places(struct kv_async *async)
{
    const size_t count = async->table_count + 1;
    void *table = async->table;
    void *generations = async->generations;
    void *places = async->places;
    const struct kv_allocator *allocator = &async->allocator;
    if (async->place_count > 0) return true;
    const bool done = kv_list_reserve(allocator, &table, &async->table_capacity, count,
                                      sizeof *async->table);
    async->table = table;
    const bool done_too = kv_list_reserve(allocator, &generations, &async->generation_capacity,
                                          count, sizeof *async->generations);
    async->generations = generations;
    const bool done_all = kv_list_reserve(allocator, &places, &async->place_capacity, count,
                                          sizeof *async->places);
    async->places = places;
    if (!done || !done_too || !done_all || !kv_heap_reserve(async, count)) return false;
    async->generations[async->table_count] = 0;
    async->places[async->place_count++] = (uint32_t)async->table_count++;
    return true;
}

struct kv_op *kv_op_create(struct kv_async *async, enum kv_op_kind kind)
{
    struct kv_op *op = async->spare;
    if (!reserve_places(async)) return NULL;
    if (op != NULL) {
        async->spare = op->next;
        async->spare_count--;
    } else {
        op = async->allocator.resize(async->allocator.context, NULL, sizeof *op);
        if (op == NULL) return NULL;
        kv_batch_init(&op->batch, &async->allocator);
    }
    const struct kv_batch batch = op->batch;
    *op = (struct kv_op){.async = async, .kind = kind, .batch = batch, .heap_at = NOWHERE};
    kv_batch_clear(&op->batch);
    const uint32_t place = async->places[--async->place_count];
    async->table[place] = op;
    op->id = ((uint64_t)++async->generations[place] << 32) | (place + 1);
    return op;
}

void kv_op_discard(struct kv_op *op)
{
    struct kv_async *async = op->async;
    const uint32_t place = (uint32_t)op->id - 1;
    async->table[place] = NULL;
    async->places[async->place_count++] = place;
    if (async->spare_count == SPARE_MAX) {
        kv_op_clear(op);
        (void)async->allocator.resize(async->allocator.context, op, 0);
        return;
    }
    kv_batch_clear(&op->batch);
    op->next = async->spare;
    async->spare = op;
    async->spare_count++;
}

/* ---- start and end --------------------------------------------------------------------------- */

static void give_slots(struct kv_op *op)
{
    struct kv_async *async = op->async;
    for (size_t i = 0; i < op->batch.count; i++) {
        if (op->batch.items[i].stamp == 0) continue;
        kv_once_stamp(&async->once, &op->batch, i, async->once_free[--async->once_free_count]);
    }
    op->has_slots = true;
}

static void take_slots(struct kv_op *op)
{
    struct kv_async *async = op->async;
    if (!op->has_slots) return;
    for (size_t i = 0; i < op->batch.count; i++) {
        const struct kv_item *item = &op->batch.items[i];
        if (item->stamp == 0) continue;
        async->once_free[async->once_free_count++] = kv_once_slot(&op->batch, i);
    }
    op->has_slots = false;
}

static void finish(struct kv_op *op)
{
    op->conn = NULL;
    if (op->is_ours) {
        op->state = KV_OP_DONE;
        return;
    }
    kv_heap_remove(op->async, op);
    take_slots(op);
    enter(op, KV_OP_DONE);
    kv_loop_wake(op->async);
}

static uint32_t once_count(const struct kv_batch *batch)
{
    uint32_t count = 0;
    for (size_t i = 0; i < batch->count; i++) count += batch->items[i].stamp > 0;
    return count;
}

enum kv_err kv_op_start(struct kv_op *op, const struct kv_callback *then)
{
    struct kv_async *async = op->async;
    op->timeout_ms = async->options.timeout_ms;
    if (then != NULL) {
        op->done = then->done;
        op->context = then->context;
        if (then->timeout_ms > 0) op->timeout_ms = then->timeout_ms;
    }
    op->once_count = once_count(&op->batch);
    enum kv_err err = KV_OK;
    if (async->closing || op->once_count > KV_ONCE_SLOTS) err = KV_ERR_INVALID;
    if (err == KV_OK &&
        !kv_batch_prepare_size(&op->batch, ANSWER_SIZE + ANSWER_USUAL * op->batch.count)) {
        err = KV_ERR_NOMEM;
    }
    if (err != KV_OK) {
        kv_op_discard(op);
        return err;
    }
    const int64_t now = kv_now_ms();
    op->deadline_ms = op->timeout_ms < KV_NEVER - now ? now + op->timeout_ms : KV_NEVER;
    if (then != NULL && then->id != NULL) *then->id = op->id;
    async->op_count++;
    if (op->batch.count == 0) { /* There is nothing to ask: the end of a scan. */
        finish(op);
        return KV_OK;
    }
    enter(op, KV_OP_PENDING);
    kv_heap_set(async, op, op->deadline_ms);
    kv_loop_wake(async);
    return KV_OK;
}

/* What is not known of it better ends with @err. */
static void end_with(struct kv_op *op, enum kv_err err)
{
    for (size_t i = op->first; i < op->batch.count; i++) {
        struct kv_item *item = &op->batch.items[i];
        const bool is_open = item->err == KV_ERR_TIMEOUT ||
                             (item->err == KV_OK && !item->answered) ||
                             (item->err == KV_ERR_REFUSED && err != KV_ERR_TIMEOUT);
        if (is_open) kv_item_give_up(item, err);
    }
    op->first = op->batch.count;
}

void kv_op_abandon(struct kv_op *op, enum kv_err err, const char *message)
{
    if (op->state == KV_OP_DONE) return;
    leave(op);
    if (op->state == KV_OP_SENT) {
        struct kv_attempt attempt = {.batch = &op->batch,
                                     .first = op->first,
                                     .end = op->batch.count,
                                     .status = KV_LINK_TIMEOUT,
                                     .address = op->conn->address,
                                     .message = op->message};
        kv_conn_forget(op);
        (void)kv_attempt_settle(&attempt);
    }
    if (op->message[0] == 0 || err != KV_ERR_TIMEOUT) {
        (void)snprintf(op->message, sizeof op->message, "%s", message);
    }
    end_with(op, err);
    finish(op);
}

/* ---- tries ----------------------------------------------------------------------------------- */

static bool repeats(const struct kv_op *op)
{
    for (size_t i = op->first; i < op->batch.count; i++) {
        if (!kv_item_repeats(&op->batch.items[i])) return false;
    }
    return true;
}

/* Time enough to send it? See kv_execute(). */
static bool is_late(const struct kv_op *op, int64_t now)
{
    const int64_t margin = earlier(op->timeout_ms / 10, MARGIN_MAX_MS);
    return op->deadline_ms - now < op->refused_ms || now > op->deadline_ms - margin;
}

static void begin_try(struct kv_op *op, struct kv_conn *conn, int64_t now)
{
    struct kv_async *async = op->async;
    list_remove(&async->pending, op);
    op->status = KV_LINK_OK;
    op->begin_ms = now;
    op->try_until_ms = KV_NEVER;
    if (async->nodes.count > 1 && repeats(op)) {
        const int64_t half = (op->deadline_ms - now) / 2;
        op->try_until_ms = now + (half > READ_TRY_MIN_MS ? half : READ_TRY_MIN_MS);
    }
    for (size_t i = op->first; i < op->batch.count; i++) {
        op->batch.items[i].answered = false;
        op->batch.items[i].sent = false;
    }
    op->state = KV_OP_SENT;
    if (!kv_conn_put(conn, op)) {
        op->state = KV_OP_PENDING;
        list_append(&async->pending, op);
        kv_op_abandon(op, KV_ERR_NOMEM, "no memory for the command");
        return;
    }
    kv_heap_set(async, op, earlier(op->deadline_ms, op->try_until_ms));
}

static void dispatch(struct kv_async *async, int64_t now)
{
    if (async->pending.first == NULL) return;
    /* A connection that was closed while nobody looked must be noticed before a write goes into it. */
    struct kv_conn *idle = async->main;
    if (idle != NULL && idle->live_count == 0 && !kv_link_alive(&idle->link)) {
        kv_conn_event(idle, true, false, false);
    }
    kv_route_ensure(async);
    if (async->main == NULL) return;
    kv_route_ask(async);
    while (async->pending.first != NULL && async->main != NULL) {
        struct kv_op *op = async->pending.first;
        if (!op->has_slots && op->once_count > async->once_free_count) break;
        if (is_late(op, now)) {
            kv_op_abandon(op, KV_ERR_TIMEOUT, "too little time was left to send it");
            continue;
        }
        if (!op->has_slots && op->once_count > 0) give_slots(op);
        begin_try(op, async->main, now);
    }
}

void kv_op_settle(struct kv_op *op, enum kv_link_status status)
{
    struct kv_async *async = op->async;
    struct kv_conn *conn = op->conn;
    struct kv_attempt attempt = {.batch = &op->batch,
                                 .first = op->first,
                                 .end = op->batch.count,
                                 .status = status != KV_LINK_OK ? status : op->status,
                                 .address = conn->address,
                                 .nodes = &async->nodes,
                                 .message = op->message};
    const int64_t now = kv_now_ms();
    op->first = kv_attempt_settle(&attempt);
    op->conn = NULL;
    if (op->is_ours) {
        finish(op);
        return;
    }
    if (attempt.leave && !attempt.moved) op->refused_ms = now - op->begin_ms;
    if (attempt.leave && conn == async->main) {
        if (!attempt.moved) async->nodes.next++;
        kv_conn_leave(conn);
    }
    if (op->first == op->batch.count) {
        finish(op);
        return;
    }
    const bool at_once = op->try == 0 && (attempt.moved || attempt.status != KV_LINK_OK);
    op->ready_ms = at_once ? now : now + kv_backoff_ms(&async->random, op->try);
    op->try++;
    enter(op, at_once ? KV_OP_PENDING : KV_OP_WAITING);
    kv_heap_set(async, op, at_once ? op->deadline_ms : earlier(op->deadline_ms, op->ready_ms));
    kv_loop_wake(async);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* The node is silent. When it said nothing since this was sent it is not asked again. */
static void suspect(struct kv_op *op)
{
    struct kv_conn *conn = op->conn;
    struct kv_async *async = op->async;
    if (conn != async->main || conn->heard_ms > op->begin_ms) return;
    async->nodes.next++;
    kv_conn_leave(conn);
}

static void wake(struct kv_op *op, int64_t now)
{
    struct kv_async *async = op->async;
    if (now >= op->deadline_ms) {
        if (op->state == KV_OP_SENT) suspect(op);
        kv_op_abandon(op, KV_ERR_TIMEOUT,
                      async->why[0] != 0 ? async->why : "no node could be reached in time");
        return;
    }
    if (op->state == KV_OP_SENT) { /* Another node may answer what this one does not. */
        struct kv_conn *conn = op->conn;
        suspect(op);
        kv_conn_forget(op);
        op->conn = conn;
        kv_op_settle(op, KV_LINK_TIMEOUT);
        return;
    }
    leave(op);
    enter(op, KV_OP_PENDING);
    kv_heap_set(async, op, op->deadline_ms);
}

static void let_time_pass(struct kv_async *async, int64_t now)
{
    while (async->heap_count > 0 && async->heap[0]->wake_ms <= now) wake(async->heap[0], now);
    for (struct kv_conn *conn = async->conns; conn != NULL; conn = conn->next) {
        const bool is_new = conn->state < KV_CONN_READY;
        if (!is_new || now < conn->until_ms) continue;
        (void)snprintf(conn->why, sizeof conn->why, "%s: no answer in time", conn->address);
        kv_conn_close(conn, KV_LINK_TIMEOUT);
    }
    for (struct kv_feed *feed = async->feeds; feed != NULL; feed = kv_feed_next(feed)) {
        kv_feed_time(feed, now);
    }
}

static int64_t next_wake(const struct kv_async *async)
{
    int64_t at = async->heap_count > 0 ? async->heap[0]->wake_ms : KV_NEVER;
    for (const struct kv_conn *conn = async->conns; conn != NULL; conn = conn->next) {
        if (conn->state < KV_CONN_READY) at = earlier(at, conn->until_ms);
    }
    for (const struct kv_feed *feed = async->feeds; feed != NULL; feed = kv_feed_next(feed)) {
        at = earlier(at, kv_feed_wake_ms(feed));
    }
    if (async->pending.first != NULL && async->main == NULL && async->dialed == NULL) {
        at = earlier(at, async->dial_ready_ms);
    }
    return at;
}

/* ---- the turn -------------------------------------------------------------------------------- */

static void tell(struct kv_async *async)
{
    while (async->done.first != NULL) {
        struct kv_op *op = async->done.first;
        list_remove(&async->done, op);
        async->op_count--;
        kv_op_tell(op);
        kv_op_discard(op);
    }
    kv_feeds_tell(async);
}

static void sweep(struct kv_async *async)
{
    struct kv_conn **at = &async->conns;
    while (*at != NULL) {
        struct kv_conn *conn = *at;
        if (conn->state == KV_CONN_CLOSED && conn->lookup == NULL) {
            *at = conn->next;
            kv_conn_free(conn);
        } else {
            at = &conn->next;
        }
    }
}

void kv_turn(struct kv_async *async)
{
    const int64_t now = kv_now_ms();
    let_time_pass(async, now);
    if (!async->closing) dispatch(async, now);
    for (struct kv_conn *conn = async->conns; conn != NULL; conn = conn->next) {
        kv_conn_go_on(conn);
        kv_conn_flush(conn);
    }
    tell(async);
    sweep(async);
    if (async->closing && async->op_count == 0 && async->feeds == NULL && async->conns == NULL) {
        kv_loop_close(async);
        return;
    }
    kv_loop_timer(async, next_wake(async));
}

void kv_engine_abandon_all(struct kv_async *async)
{
    while (async->heap_count > 0) {
        kv_op_abandon(async->heap[0], KV_ERR_CANCELLED, "the client was closed");
    }
    kv_feeds_end(async);
    for (struct kv_conn *conn = async->conns; conn != NULL; conn = conn->next) {
        kv_conn_close(conn, KV_LINK_LOST);
    }
    kv_loop_wake(async);
}

void kv_engine_free(struct kv_async *async)
{
    const struct kv_allocator allocator = async->allocator;
    void (*closed)(void *context) = async->closed;
    void *context = async->closed_context;
    void *lists[] = {async->heap, async->table, async->generations, async->places, async->entries};
    while (async->spare != NULL) {
        struct kv_op *op = async->spare;
        async->spare = op->next;
        kv_op_clear(op);
        (void)allocator.resize(allocator.context, op, 0);
    }
    while (async->scans != NULL) kv_async_scan_close(async->scans);
    kv_op_clear(&async->question);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (lists[i] != NULL) (void)allocator.resize(allocator.context, lists[i], 0);
    }
    (void)allocator.resize(allocator.context, async, 0);
    if (closed != NULL) closed(context);
}
