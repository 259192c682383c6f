/* The calls of the asynchronous client: commands from arguments, results from answers. */
#include "client/kv_engine_parts.h"

#include <stdio.h>

/* ---- client ---------------------------------------------------------------------------------- */

struct kv_async *kv_engine_create(const struct kv_options *options)
{
    struct kv_async *made = options->allocator.resize(options->allocator.context, NULL,
                                                      sizeof *made);
    if (made == NULL) return NULL;
    *made = (struct kv_async){
        .allocator = options->allocator, .options = *options, .timer_ms = KV_NEVER};
    made->options.nodes = NULL; /* borrowed */
    made->random = ((uint64_t)(uintptr_t)made ^ (uint64_t)kv_now_ms()) | 1;
    for (uint32_t i = 0; i < KV_ONCE_SLOTS; i++) made->once_free[made->once_free_count++] = i;
    kv_op_init_ours(&made->question, made, KV_OP_GREETING);
    return made;
}

enum kv_err kv_async_create(const struct kv_options *options, struct uv_loop_s *loop,
                            struct kv_async **async)
{
    struct kv_options taken;
    *async = NULL;
    if (!kv_options_take(options, &taken) || !kv_uv_is_linked() || loop == NULL) {
        return KV_ERR_INVALID;
    }
    struct kv_async *made = kv_engine_create(&taken);
    if (made == NULL) return KV_ERR_NOMEM;
    enum kv_err err = kv_nodes_parse(&made->nodes, taken.nodes, made->why);
    if (err == KV_OK && !kv_once_init(&made->once, taken.once != 0)) err = KV_ERR_INVALID;
    if (err == KV_OK) err = kv_uv_open(made, loop);
    if (err != KV_OK) {
        (void)taken.allocator.resize(taken.allocator.context, made, 0);
        return err;
    }
    *async = made;
    return KV_OK;
}

void kv_async_close(struct kv_async *async, void (*closed)(void *context), void *context)
{
    if (async->closing) return;
    async->closed = closed;
    async->closed_context = context;
    async->closing = true;
    kv_engine_abandon_all(async);
}

const char *kv_async_address(const struct kv_async *async)
{
    return async->main != NULL ? async->main->address : "";
}

void kv_async_cancel(struct kv_async *async, uint64_t id)
{
    const size_t place = (size_t)(id & UINT32_MAX) - 1;
    if ((id & UINT32_MAX) == 0 || place >= async->table_count) return;
    struct kv_op *op = async->table[place];
    if (op == NULL || op->id != id) return;
    kv_op_abandon(op, KV_ERR_CANCELLED, "it was cancelled");
}

/* ---- starting -------------------------------------------------------------------------------- */

static enum kv_err add(struct kv_op *op, unsigned flags, const struct kv_bytes *args, size_t count)
{
    const bool once = op->async->once.on && (flags & (KV_READ | KV_NOT_ONCE)) == 0;
    if (once) return kv_batch_add_once(&op->batch, args, count);
    return kv_batch_add(&op->batch, (flags & KV_READ) != 0, args, count);
}

static enum kv_err start(struct kv_op *op, unsigned flags, const struct kv_bytes *args,
                         size_t count, const struct kv_callback *then)
{
    if (op == NULL) return KV_ERR_NOMEM;
    const enum kv_err err = add(op, flags, args, count);
    if (err == KV_OK) return kv_op_start(op, then);
    kv_op_discard(op);
    return err;
}

enum kv_err kv_async_get(struct kv_async *async, struct kv_bytes key,
                         const struct kv_callback *then)
{
    const struct kv_bytes args[] = {KV_TEXT("KV.GET"), key};
    return start(kv_op_create(async, KV_OP_GET), KV_READ, args, 2, then);
}

enum kv_err kv_async_set(struct kv_async *async, struct kv_bytes key, struct kv_bytes value,
                         const struct kv_set_options *options, int want_previous,
                         const struct kv_callback *then)
{
    struct kv_set_words words;
    const struct kv_set_options plain = {.flags = 0};
    if (options == NULL) options = &plain;
    if (!kv_set_words(&words, key, value, options, want_previous != 0)) return KV_ERR_INVALID;
    struct kv_op *op = kv_op_create(async, KV_OP_SET);
    if (op == NULL) return KV_ERR_NOMEM;
    op->set = *options;
    op->want_previous = want_previous != 0;
    return start(op, KV_WRITE, words.args, words.count, then);
}

enum kv_err kv_async_del(struct kv_async *async, const struct kv_bytes *keys, size_t count,
                         const struct kv_callback *then)
{
    struct kv_bytes *args = NULL;
    const struct kv_allocator *allocator = &async->allocator;
    if (count == 0 || count > SIZE_MAX / sizeof *args - 1) return KV_ERR_INVALID;
    args = allocator->resize(allocator->context, NULL, (count + 1) * sizeof *args);
    if (args == NULL) return KV_ERR_NOMEM;
    args[0] = KV_TEXT("DEL");
    memcpy(args + 1, keys, count * sizeof *args);
    const enum kv_err err = start(kv_op_create(async, KV_OP_DEL), KV_WRITE, args, count + 1, then);
    (void)allocator->resize(allocator->context, args, 0);
    return err;
}

enum kv_err kv_async_incr(struct kv_async *async, struct kv_bytes key, int64_t by,
                          const struct kv_callback *then)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)by);
    const struct kv_bytes args[] = {KV_TEXT("INCRBY"), key, kv_text(text)};
    return start(kv_op_create(async, KV_OP_INCR), KV_WRITE, args, 3, then);
}

enum kv_err kv_async_ttl(struct kv_async *async, struct kv_bytes key,
                         const struct kv_callback *then)
{
    const struct kv_bytes args[] = {KV_TEXT("PTTL"), key};
    return start(kv_op_create(async, KV_OP_TTL), KV_READ, args, 2, then);
}

enum kv_err kv_async_command(struct kv_async *async, unsigned flags, const struct kv_bytes *args,
                             size_t count, const struct kv_callback *then)
{
    if (count == 0 || kv_changes_connection(args, count)) return KV_ERR_INVALID;
    return start(kv_op_create(async, KV_OP_COMMAND), flags, args, count, then);
}

enum kv_err kv_async_txn(struct kv_async *async, const struct kv_txn *txn,
                         const struct kv_callback *then)
{
    const struct kv_allocator *allocator = &async->allocator;
    struct kv_bytes *args = NULL;
    size_t count = 0;
    enum kv_err err = kv_txn_words(allocator, txn, &args, &count);
    if (err != KV_OK) return err;
    err = start(kv_op_create(async, KV_OP_TXN), KV_WRITE, args, count, then);
    (void)allocator->resize(allocator->context, args, 0);
    return err;
}

enum kv_err kv_async_batch(struct kv_async *async, const struct kv_words *commands, size_t count,
                           const struct kv_callback *then)
{
    if (count == 0 || count > UINT32_MAX) return KV_ERR_INVALID;
    struct kv_op *op = kv_op_create(async, KV_OP_BATCH);
    enum kv_err err = op != NULL ? KV_OK : KV_ERR_NOMEM;
    for (size_t i = 0; err == KV_OK && i < count; i++) {
        const struct kv_words *words = &commands[i];
        if (words->count == 0 || kv_changes_connection(words->args, words->count)) {
            err = KV_ERR_INVALID;
        } else {
            err = add(op, words->flags, words->args, words->count);
        }
    }
    if (err == KV_OK) return kv_op_start(op, then);
    if (op != NULL) kv_op_discard(op);
    return err;
}

/* ---- results --------------------------------------------------------------------------------- */

static enum kv_err take_answer(struct kv_op *op, size_t at, const struct kv_reply **reply)
{
    const struct kv_item *item = &op->batch.items[at];
    *reply = NULL;
    if (!item->answered) return item->err != KV_OK ? item->err : KV_ERR_UNKNOWN;
    *reply = kv_batch_reply(&op->batch, at);
    if (*reply != NULL || item->err != KV_OK) return item->err;
    (void)snprintf(op->message, sizeof op->message, "no memory for the reply%s",
                   item->read ? "" : "; the write happened");
    return item->read ? KV_ERR_NOMEM : KV_ERR_UNKNOWN;
}

/* The answer to the one command of @op, by its kind. KV_ERR_INVALID: it makes no sense. */
static enum kv_err read_answer(struct kv_op *op, struct kv_result *result)
{
    const struct kv_reply *reply = result->reply;
    const char *why = "";
    enum kv_err err = KV_OK;
    switch (op->kind) {
    case KV_OP_GET: err = kv_value_read(reply, &result->value); break;
    case KV_OP_SET:
        err = kv_set_read(reply, &op->set, op->want_previous ? &result->value : NULL, &why);
        break;
    case KV_OP_TTL:
    case KV_OP_DEL:
    case KV_OP_INCR:
        result->integer = reply->integer;
        if (reply->type != KV_INTEGER) err = KV_ERR_INVALID;
        if (op->kind == KV_OP_TTL && reply->integer == -2) err = KV_ERR_NOT_FOUND;
        break;
    case KV_OP_TXN:
        if (!kv_txn_read(reply, &result->integer, &result->reply)) err = KV_ERR_INVALID;
        break;
    default: return KV_OK;
    }
    if (err == KV_ERR_NOT_FOUND) why = "there is no such key";
    if (err == KV_ERR_NOT_FOUND || err == KV_ERR_CONDITION) {
        (void)snprintf(op->message, sizeof op->message, "%s", why);
    }
    if (err != KV_ERR_INVALID) return err;
    (void)snprintf(op->message, sizeof op->message,
                   "the server's answer is not one that this library knows");
    return op->batch.items[0].read ? KV_ERR_FAILED : KV_ERR_UNKNOWN;
}

void kv_op_tell(struct kv_op *op)
{
    struct kv_result result = {.message = "", .value = {.ttl_ms = -1}, .op = op};
    struct kv_async_scan *scan = op->scan;
    if (op->kind == KV_OP_BATCH) {
        result.count = op->batch.count;
        result.err = kv_batch_first_failure(&op->batch);
    } else if (op->batch.count == 0) {
        result.err = KV_ERR_NOT_FOUND;
        (void)snprintf(op->message, sizeof op->message, "the scan is at its end");
    } else {
        result.err = take_answer(op, 0, &result.reply);
        if (result.err == KV_OK) result.err = read_answer(op, &result);
        if (result.err == KV_OK && scan != NULL) result.err = kv_scan_page(op, &result);
        if (op->kind != KV_OP_COMMAND && op->kind != KV_OP_TXN) result.reply = NULL;
    }
    if (op->kind == KV_OP_PAGE && scan == NULL) { /* It was closed after the answer came. */
        result.err = KV_ERR_CANCELLED;
        (void)snprintf(op->message, sizeof op->message, "the scan was closed");
    }
    if (result.err != KV_OK) result.message = op->message;
    if (scan != NULL) kv_scan_told(scan); /* The callback may ask for the next page. */
    if (op->done != NULL) op->done(op->context, &result);
}

enum kv_err kv_result_at(const struct kv_result *result, size_t at, const struct kv_reply **reply)
{
    const struct kv_reply *none = NULL;
    if (reply == NULL) reply = &none;
    *reply = NULL;
    if (result->op == NULL || result->op->kind != KV_OP_BATCH || at >= result->count) {
        return KV_ERR_INVALID;
    }
    return take_answer(result->op, at, reply);
}
