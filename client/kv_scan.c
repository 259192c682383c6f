/* Ordered scans in pages. A page is asked for as "from the key behind the last one" (or, in reverse, "below the
 * last one"), so it does not matter which node answers, nor what happened in between. */
#include "client/kv_internal.h"

#include <stdio.h>

#define PAGE_FIRST 32u
#define PAGE_MAX 4096u
/* Pages grow while their replies are small and shrink when they are big: values may have 64 MiB. */
#define PAGE_SIZE_SMALL (256u * 1024u)
#define PAGE_SIZE_BIG (2u * 1024u * 1024u)

struct kv_scan {
    struct kv *kv;
    struct kv_batch batch;       /* the page at hand */
    const struct kv_reply *page; /* NULL: ask for the next one */
    size_t at;                   /* the entry of the page that is next */
    struct kv_buffer from;
    struct kv_buffer to; /* empty: to the end */
    uint64_t left;       /* entries still wanted */
    uint64_t page_count; /* entries to ask for */
    bool reverse;
    bool keys_only;
    bool ended;
};

static bool set_bytes(const struct kv_scan *scan, struct kv_buffer *buffer, const void *data,
                      size_t size)
{
    buffer->size = 0;
    if (!kv_buffer_reserve(&scan->kv->allocator, buffer, size + 1)) return false;
    if (data != NULL && size > 0) memcpy(buffer->data, data, size);
    buffer->size = size;
    return true;
}

static int compare(struct kv_bytes a, struct kv_bytes b)
{
    const size_t common = a.size < b.size ? a.size : b.size;
    const int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* The bytes of @prefix up to and with the last one that can be increased: that one plus one ends the prefix. */
static size_t prefix_end_size(struct kv_bytes prefix)
{
    const uint8_t *bytes = prefix.data;
    size_t size = prefix.size;
    while (size > 0 && bytes[size - 1] == 0xff) size--;
    return size;
}

/* Both bounds: the narrower of the range and of the prefix. */
static bool set_bounds(struct kv_scan *scan, const struct kv_scan_options *options)
{
    const size_t end_size = prefix_end_size(options->prefix);
    const struct kv_bytes from = compare(options->prefix, options->from) > 0 ? options->prefix
                                                                             : options->from;
    if (!set_bytes(scan, &scan->from, from.data, from.size)) return false;
    if (!set_bytes(scan, &scan->to, options->prefix.data, end_size)) return false;
    if (end_size > 0) scan->to.data[end_size - 1]++;
    const struct kv_bytes end = kv_bytes_of(scan->to.data, scan->to.size);
    if (options->to.size > 0 && (end.size == 0 || compare(options->to, end) < 0)) {
        if (!set_bytes(scan, &scan->to, options->to.data, options->to.size)) return false;
    }
    return true;
}

enum kv_err kv_scan_open(struct kv *kv, const struct kv_scan_options *options,
                         struct kv_scan **scan)
{
    const struct kv_scan_options everything = {.limit = 0};
    struct kv_scan *made = kv->allocator.resize(kv->allocator.context, NULL, sizeof *made);
    *scan = made;
    if (made == NULL) return kv_say(kv, KV_ERR_NOMEM, "no memory for a scan");
    if (options == NULL) options = &everything;
    *made = (struct kv_scan){.kv = kv,
                             .left = options->limit > 0 ? options->limit : UINT64_MAX,
                             .page_count = PAGE_FIRST,
                             .reverse = options->reverse != 0,
                             .keys_only = options->keys_only != 0};
    kv_batch_init(&made->batch, &kv->allocator);
    if (!set_bounds(made, options)) {
        kv_scan_close(made);
        *scan = NULL;
        return kv_say(kv, KV_ERR_NOMEM, "no memory for a scan");
    }
    const struct kv_bytes from = kv_bytes_of(made->from.data, made->from.size);
    const struct kv_bytes to = kv_bytes_of(made->to.data, made->to.size);
    made->ended = to.size > 0 && compare(from, to) >= 0;
    return KV_OK;
}

void kv_scan_close(struct kv_scan *scan)
{
    if (scan == NULL) return;
    const struct kv_allocator *allocator = &scan->kv->allocator;
    kv_batch_close(&scan->batch);
    kv_buffer_close(allocator, &scan->from);
    kv_buffer_close(allocator, &scan->to);
    (void)allocator->resize(allocator->context, scan, 0);
}

static enum kv_err ask(struct kv_scan *scan, uint64_t count)
{
    char limit[24];
    struct kv_bytes args[7] = {KV_TEXT("KV.RANGE"), kv_bytes_of(scan->from.data, scan->from.size),
                               kv_bytes_of(scan->to.data, scan->to.size), KV_TEXT("LIMIT")};
    size_t size = 5;
    (void)snprintf(limit, sizeof limit, "%llu", (unsigned long long)count);
    args[4] = kv_text(limit);
    if (scan->reverse) args[size++] = KV_TEXT("REVERSE");
    if (scan->keys_only) args[size++] = KV_TEXT("KEYS");
    kv_batch_clear(&scan->batch);
    enum kv_err err = kv_batch_add(&scan->batch, true, args, size);
    if (err == KV_OK) err = kv_execute(scan->kv, &scan->batch);
    if (err == KV_ERR_NOMEM) return kv_say(scan->kv, err, "no memory for a page of the scan");
    return err;
}

static bool entry_of(const struct kv_scan *scan, const struct kv_reply *item,
                     struct kv_entry *entry)
{
    *entry = (struct kv_entry){.value = {.ttl_ms = -1}};
    const struct kv_reply *key = item;
    if (item->type == KV_ARRAY) {
        if (item->count == 0 || (!scan->keys_only && item->count < 3)) return false;
        key = &item->items[0];
    } else if (!scan->keys_only) {
        return false;
    }
    if (key->type != KV_STRING) return false;
    entry->key = key->data;
    entry->key_size = key->size;
    if (scan->keys_only) return true;
    entry->value.data = item->items[1].data;
    entry->value.size = item->items[1].size;
    return item->items[1].type == KV_STRING &&
           kv_reply_uint(&item->items[2], &entry->value.revision);
}

/* The next page begins behind the last entry of this one. */
static enum kv_err move_bounds(struct kv_scan *scan)
{
    struct kv_entry last;
    const size_t count = scan->page->count;
    const struct kv_allocator *allocator = &scan->kv->allocator;
    if (!entry_of(scan, &scan->page->items[count - 1], &last)) return kv_strange(scan->kv, true);
    struct kv_buffer *bound = scan->reverse ? &scan->to : &scan->from;
    const struct kv_bytes key = kv_bytes_of(last.key, last.key_size);
    const int order = compare(key, kv_bytes_of(bound->data, bound->size));
    /* A server that gives keys outside what was asked could keep us asking for ever. */
    if (scan->reverse ? bound->size > 0 && order >= 0 : order < 0) {
        return kv_strange(scan->kv, true);
    }
    /* Both what is needed now and the byte behind it are reserved before the bound is touched. */
    struct kv_buffer room = {.data = bound->data, .capacity = bound->capacity};
    const bool done = kv_buffer_reserve(allocator, &room, key.size + 1);
    bound->data = room.data;
    bound->capacity = room.capacity;
    if (!done) return kv_say(scan->kv, KV_ERR_NOMEM, "no memory for a scan");
    if (key.size > 0) memcpy(bound->data, key.data, key.size);
    bound->size = key.size;
    if (!scan->reverse) bound->data[bound->size++] = 0; /* the smallest key behind it */
    return KV_OK;
}

static enum kv_err next_page(struct kv_scan *scan)
{
    const uint64_t count = scan->page_count < scan->left ? scan->page_count : scan->left;
    enum kv_err err = ask(scan, count);
    if (err != KV_OK) return err;
    scan->page = kv_batch_reply(&scan->batch, 0);
    if (scan->page == NULL) {
        return kv_say(scan->kv, KV_ERR_NOMEM, "no memory for a page of the scan");
    }
    const size_t got = scan->page->count;
    if (scan->page->type != KV_ARRAY || got > count) {
        err = kv_strange(scan->kv, true);
    } else if (got > 0) {
        err = move_bounds(scan);
    }
    if (err != KV_OK) {
        scan->page = NULL;
        return err;
    }
    const size_t size = scan->batch.items[0].reply_size;
    scan->at = 0;
    scan->left -= got;
    scan->ended = got == 0 || scan->left == 0;
    if (size < PAGE_SIZE_SMALL && scan->page_count < PAGE_MAX) scan->page_count *= 2;
    while (got > 0 && size > PAGE_SIZE_BIG && scan->page_count > 1 &&
           size / got * scan->page_count > PAGE_SIZE_BIG) {
        scan->page_count /= 2;
    }
    return KV_OK;
}

enum kv_err kv_scan_next(struct kv_scan *scan, struct kv_entry *entry)
{
    *entry = (struct kv_entry){.value = {.ttl_ms = -1}};
    if (scan->page != NULL && scan->at == scan->page->count) scan->page = NULL;
    if (scan->page == NULL) {
        if (scan->ended) return kv_say(scan->kv, KV_ERR_NOT_FOUND, "the scan is at its end");
        const enum kv_err err = next_page(scan);
        if (err != KV_OK) return err;
        if (scan->page->count == 0) {
            scan->page = NULL;
            return kv_say(scan->kv, KV_ERR_NOT_FOUND, "the scan is at its end");
        }
    }
    if (!entry_of(scan, &scan->page->items[scan->at++], entry)) return kv_strange(scan->kv, true);
    return KV_OK;
}
