/* Ordered scans of the synchronous client: page by page, one entry at a time. */
#include "client/kv_internal.h"

struct kv_scan {
    struct kv *kv;
    struct kv_cursor cursor;
    struct kv_batch batch;       /* the page at hand */
    const struct kv_reply *page; /* NULL: ask for the next one */
    size_t at;                   /* the entry of the page that is next */
};

enum kv_err kv_scan_open(struct kv *kv, const struct kv_scan_options *options,
                         struct kv_scan **scan)
{
    struct kv_scan *made = kv->allocator.resize(kv->allocator.context, NULL, sizeof *made);
    *scan = made;
    if (made == NULL) return kv_say(kv, KV_ERR_NOMEM, "no memory for a scan");
    *made = (struct kv_scan){.kv = kv};
    kv_batch_init(&made->batch, &kv->allocator);
    if (!kv_cursor_init(&made->cursor, &kv->allocator, options)) {
        kv_scan_close(made);
        *scan = NULL;
        return kv_say(kv, KV_ERR_NOMEM, "no memory for a scan");
    }
    return KV_OK;
}

void kv_scan_close(struct kv_scan *scan)
{
    if (scan == NULL) return;
    const struct kv_allocator *allocator = &scan->kv->allocator;
    kv_batch_close(&scan->batch);
    kv_cursor_close(&scan->cursor);
    (void)allocator->resize(allocator->context, scan, 0);
}

static enum kv_err ask(struct kv_scan *scan)
{
    kv_batch_clear(&scan->batch);
    enum kv_err err = kv_cursor_ask(&scan->cursor, &scan->batch);
    if (err == KV_OK) err = kv_execute(scan->kv, &scan->batch);
    if (err == KV_ERR_NOMEM) return kv_say(scan->kv, err, "no memory for a page of the scan");
    return err;
}

static enum kv_err next_page(struct kv_scan *scan)
{
    enum kv_err err = ask(scan);
    if (err != KV_OK) return err;
    const struct kv_reply *page = kv_batch_reply(&scan->batch, 0);
    if (page == NULL) {
        return kv_say(scan->kv, KV_ERR_NOMEM, "no memory for a page of the scan");
    }
    page = kv_cursor_page(&scan->cursor, page);
    if (page->type == KV_ERROR) {
        return kv_say(scan->kv, KV_ERR_COMPACTED, "%.*s", (int)page->size, page->data);
    }
    err = kv_cursor_take(&scan->cursor, page, scan->batch.items[0].reply_size);
    if (err == KV_ERR_NOMEM) return kv_say(scan->kv, err, "no memory for a scan");
    if (err != KV_OK) return kv_strange(scan->kv, true);
    scan->page = page;
    scan->at = 0;
    return KV_OK;
}

enum kv_err kv_scan_next(struct kv_scan *scan, struct kv_entry *entry)
{
    *entry = (struct kv_entry){.value = {.ttl_ms = -1}};
    if (scan->page != NULL && scan->at == scan->page->count) scan->page = NULL;
    if (scan->page == NULL) {
        if (scan->cursor.ended) {
            return kv_say(scan->kv, KV_ERR_NOT_FOUND, "the scan is at its end");
        }
        const enum kv_err err = next_page(scan);
        if (err != KV_OK) return err;
        if (scan->page->count == 0) {
            scan->page = NULL;
            return kv_say(scan->kv, KV_ERR_NOT_FOUND, "the scan is at its end");
        }
    }
    if (!kv_cursor_entry(&scan->cursor, &scan->page->items[scan->at++], entry)) {
        return kv_strange(scan->kv, true);
    }
    return KV_OK;
}
