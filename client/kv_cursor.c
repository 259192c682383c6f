/* Where an ordered scan is, and how its pages are asked for and read. A page is asked for as "from the key behind the
 * last one" (or, in reverse, "below the last one"), so it does not matter which node answers, nor what happened in
 * between. Both clients stand on this. */
#include "client/kv_internal.h"

#include <stddef.h>
#include <stdio.h>

#define PAGE_FIRST 32u
#define PAGE_MAX 4096u
/* Pages grow while their replies are small and shrink when they are big: values may have 64 MiB. */
#define PAGE_SIZE_SMALL (256u * 1024u)
#define PAGE_SIZE_BIG (2u * 1024u * 1024u)

static bool set_bytes(const struct kv_cursor *cursor, struct kv_buffer *buffer, const void *data,
                      size_t size)
{
    buffer->size = 0;
    if (!kv_buffer_reserve(cursor->allocator, buffer, size + 1)) return false;
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
static bool set_bounds(struct kv_cursor *cursor, const struct kv_scan_options *options)
{
    const size_t end_size = prefix_end_size(options->prefix);
    const struct kv_bytes from = compare(options->prefix, options->from) > 0 ? options->prefix
                                                                             : options->from;
    if (!set_bytes(cursor, &cursor->from, from.data, from.size)) return false;
    if (!set_bytes(cursor, &cursor->to, options->prefix.data, end_size)) return false;
    if (end_size > 0) cursor->to.data[end_size - 1]++;
    const struct kv_bytes end = kv_bytes_of(cursor->to.data, cursor->to.size);
    if (options->to.size > 0 && (end.size == 0 || compare(options->to, end) < 0)) {
        if (!set_bytes(cursor, &cursor->to, options->to.data, options->to.size)) return false;
    }
    return true;
}

bool kv_cursor_init(struct kv_cursor *cursor, const struct kv_allocator *allocator,
                    const struct kv_scan_options *options)
{
    const struct kv_scan_options everything = {.limit = 0};
    if (options == NULL) options = &everything;
    *cursor = (struct kv_cursor){.allocator = allocator,
                                 .left = options->limit > 0 ? options->limit : UINT64_MAX,
                                 .page_count = PAGE_FIRST,
                                 .reverse = options->reverse != 0,
                                 .keys_only = options->keys_only != 0};
    if (options->struct_size >= offsetof(struct kv_scan_options, revision) + sizeof(uint64_t)) {
        cursor->revision = options->revision;
    }
    if (!set_bounds(cursor, options)) return false;
    const struct kv_bytes from = kv_bytes_of(cursor->from.data, cursor->from.size);
    const struct kv_bytes to = kv_bytes_of(cursor->to.data, cursor->to.size);
    cursor->ended = to.size > 0 && compare(from, to) >= 0;
    return true;
}

void kv_cursor_close(struct kv_cursor *cursor)
{
    kv_buffer_close(cursor->allocator, &cursor->from);
    kv_buffer_close(cursor->allocator, &cursor->to);
}

enum kv_err kv_cursor_ask(struct kv_cursor *cursor, struct kv_batch *batch)
{
    char limit[24];
    char revision[24];
    struct kv_bytes args[9] = {KV_TEXT("KV.RANGE"),
                               kv_bytes_of(cursor->from.data, cursor->from.size),
                               kv_bytes_of(cursor->to.data, cursor->to.size), KV_TEXT("LIMIT")};
    size_t size = 5;
    cursor->asked = cursor->page_count < cursor->left ? cursor->page_count : cursor->left;
    (void)snprintf(limit, sizeof limit, "%llu", (unsigned long long)cursor->asked);
    args[4] = kv_text(limit);
    if (cursor->reverse) args[size++] = KV_TEXT("REVERSE");
    if (cursor->keys_only) args[size++] = KV_TEXT("KEYS");
    if (cursor->revision == 0) {
        args[size++] = KV_TEXT("REVISION");
    } else {
        (void)snprintf(revision, sizeof revision, "%llu", (unsigned long long)cursor->revision);
        args[size++] = KV_TEXT("AT");
        args[size++] = kv_text(revision);
    }
    return kv_batch_add(batch, true, args, size);
}

/* A range that the server could not tell to its end closes with an error and, behind that, nulls: the error, then. */
static const struct kv_reply *unbroken(const struct kv_reply *page)
{
    if (page->type != KV_ARRAY || page->count == 0) return page;
    const enum kv_type last = page->items[page->count - 1].type;
    if (last != KV_NIL && last != KV_ERROR) return page;
    for (size_t i = 0; i < page->count; i++) {
        if (page->items[i].type == KV_ERROR) return &page->items[i];
    }
    return page;
}

const struct kv_reply *kv_cursor_page(struct kv_cursor *cursor, const struct kv_reply *reply)
{
    const bool is_told = cursor->revision == 0 && reply->type == KV_ARRAY && reply->count == 2 &&
                         reply->items[0].type == KV_INTEGER;
    if (!is_told) return unbroken(reply);
    cursor->revision = (uint64_t)reply->items[0].integer;
    return unbroken(&reply->items[1]);
}

bool kv_cursor_entry(const struct kv_cursor *cursor, const struct kv_reply *item,
                     struct kv_entry *entry)
{
    *entry = (struct kv_entry){.value = {.ttl_ms = -1}};
    const struct kv_reply *key = item;
    if (item->type == KV_ARRAY) {
        if (item->count == 0 || (!cursor->keys_only && item->count < 3)) return false;
        key = &item->items[0];
    } else if (!cursor->keys_only) {
        return false;
    }
    if (key->type != KV_STRING) return false;
    entry->key = key->data;
    entry->key_size = key->size;
    if (cursor->keys_only) return true;
    entry->value.data = item->items[1].data;
    entry->value.size = item->items[1].size;
    return item->items[1].type == KV_STRING &&
           kv_reply_uint(&item->items[2], &entry->value.revision);
}

/* The next page begins behind the last entry of this one. */
static enum kv_err move_bounds(struct kv_cursor *cursor, const struct kv_reply *page)
{
    struct kv_entry last;
    if (!kv_cursor_entry(cursor, &page->items[page->count - 1], &last)) return KV_ERR_FAILED;
    struct kv_buffer *bound = cursor->reverse ? &cursor->to : &cursor->from;
    const struct kv_bytes key = kv_bytes_of(last.key, last.key_size);
    const int order = compare(key, kv_bytes_of(bound->data, bound->size));
    /* A server that gives keys outside what was asked could keep us asking for ever. */
    if (cursor->reverse ? bound->size > 0 && order >= 0 : order < 0) return KV_ERR_FAILED;
    /* Both what is needed now and the byte behind it are reserved before the bound is touched. */
    struct kv_buffer room = {.data = bound->data, .capacity = bound->capacity};
    const bool done = kv_buffer_reserve(cursor->allocator, &room, key.size + 1);
    bound->data = room.data;
    bound->capacity = room.capacity;
    if (!done) return KV_ERR_NOMEM;
    if (key.size > 0) memcpy(bound->data, key.data, key.size);
    bound->size = key.size;
    if (!cursor->reverse) bound->data[bound->size++] = 0; /* the smallest key behind it */
    return KV_OK;
}

enum kv_err kv_cursor_take(struct kv_cursor *cursor, const struct kv_reply *page, size_t size)
{
    const size_t got = page->count;
    if (page->type != KV_ARRAY || got > cursor->asked) return KV_ERR_FAILED;
    if (got > 0) {
        const enum kv_err err = move_bounds(cursor, page);
        if (err != KV_OK) return err;
    }
    cursor->left -= got;
    cursor->ended = got == 0 || cursor->left == 0;
    if (size < PAGE_SIZE_SMALL && cursor->page_count < PAGE_MAX) cursor->page_count *= 2;
    while (got > 0 && size > PAGE_SIZE_BIG && cursor->page_count > 1 &&
           size / got * cursor->page_count > PAGE_SIZE_BIG) {
        cursor->page_count /= 2;
    }
    return KV_OK;
}
