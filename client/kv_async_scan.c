/* Ordered scans of the asynchronous client: a page when the program asks for one. */
#include "client/kv_engine_parts.h"

#include <stdio.h>

struct kv_async_scan {
    struct kv_async *async;
    struct kv_async_scan *next;
    struct kv_cursor cursor;
    uint64_t id; /* of the operation that fetches a page; 0: none */
};

enum kv_err kv_async_scan_open(struct kv_async *async, const struct kv_scan_options *options,
                               struct kv_async_scan **scan)
{
    const struct kv_allocator *allocator = &async->allocator;
    struct kv_async_scan *made = NULL;
    *scan = NULL;
    if (async->closing) return KV_ERR_INVALID;
    made = allocator->resize(allocator->context, NULL, sizeof *made);
    if (made == NULL) return KV_ERR_NOMEM;
    *made = (struct kv_async_scan){.async = async, .next = async->scans};
    async->scans = made;
    if (!kv_cursor_init(&made->cursor, allocator, options)) {
        kv_async_scan_close(made);
        return KV_ERR_NOMEM;
    }
    *scan = made;
    return KV_OK;
}

void kv_async_scan_close(struct kv_async_scan *scan)
{
    struct kv_async *async = scan->async;
    struct kv_async_scan **at = &async->scans;
    if (scan->id != 0) {
        struct kv_op *op = async->table[(scan->id & UINT32_MAX) - 1];
        op->scan = NULL;
        kv_async_cancel(async, scan->id);
    }
    while (*at != scan) at = &(*at)->next;
    *at = scan->next;
    kv_cursor_close(&scan->cursor);
    (void)async->allocator.resize(async->allocator.context, scan, 0);
}

enum kv_err kv_async_scan_next(struct kv_async_scan *scan, const struct kv_callback *then)
{
    if (scan->id != 0) return KV_ERR_INVALID;
    struct kv_op *op = kv_op_create(scan->async, KV_OP_PAGE);
    if (op == NULL) return KV_ERR_NOMEM;
    enum kv_err err = KV_OK;
    /* At the end there is nothing to ask, but the answer comes as any other: later. */
    if (!scan->cursor.ended) err = kv_cursor_ask(&scan->cursor, &op->batch);
    if (err != KV_OK) {
        kv_op_discard(op);
        return err;
    }
    const uint64_t id = op->id;
    op->scan = scan;
    err = kv_op_start(op, then);
    if (err == KV_OK) scan->id = id;
    return err;
}

static enum kv_err fail(struct kv_op *op, enum kv_err err, const char *message)
{
    (void)snprintf(op->message, sizeof op->message, "%s", message);
    return err;
}

enum kv_err kv_scan_page(struct kv_op *op, struct kv_result *result)
{
    static const char strange[] = "the server's answer is not one that this library knows";
    struct kv_async *async = op->async;
    struct kv_cursor *cursor = &op->scan->cursor;
    const struct kv_reply *page = kv_cursor_page(cursor, result->reply);
    void *entries = async->entries;
    if (page->type == KV_ERROR) {
        (void)snprintf(op->message, sizeof op->message, "%.*s", (int)page->size, page->data);
        return KV_ERR_COMPACTED;
    }
    if (page->type != KV_ARRAY) return fail(op, KV_ERR_FAILED, strange);
    const bool done = kv_list_reserve(&async->allocator, &entries, &async->entry_capacity,
                                      page->count + 1, sizeof *async->entries);
    async->entries = entries;
    if (!done) return fail(op, KV_ERR_NOMEM, "no memory for a page of the scan");
    for (size_t i = 0; i < page->count; i++) {
        if (!kv_cursor_entry(cursor, &page->items[i], &async->entries[i])) {
            return fail(op, KV_ERR_FAILED, strange);
        }
    }
    const enum kv_err err = kv_cursor_take(cursor, page, op->batch.items[0].reply_size);
    if (err == KV_ERR_NOMEM) return fail(op, err, "no memory for a page of the scan");
    if (err != KV_OK) return fail(op, err, strange);
    if (page->count == 0) return fail(op, KV_ERR_NOT_FOUND, "the scan is at its end");
    result->entries = async->entries;
    result->count = page->count;
    return KV_OK;
}

void kv_scan_told(struct kv_async_scan *scan)
{
    scan->id = 0;
}
