/* Operations by the time at which they want to be looked at: a binary heap. */
#include "client/kv_engine_parts.h"

#define NOWHERE SIZE_MAX

bool kv_heap_reserve(struct kv_async *async, size_t count)
{
    void *heap = async->heap;
    const bool done = kv_list_reserve(&async->allocator, &heap, &async->heap_capacity, count,
                                      sizeof *async->heap);
    async->heap = heap;
    return done;
}

static void put(struct kv_async *async, size_t at, struct kv_op *op)
{
    async->heap[at] = op;
    op->heap_at = at;
}

static void move_up(struct kv_async *async, size_t at)
{
    struct kv_op *op = async->heap[at];
    while (at > 0) {
        const size_t parent = (at - 1) / 2;
        if (async->heap[parent]->wake_ms <= op->wake_ms) break;
        put(async, at, async->heap[parent]);
        at = parent;
    }
    put(async, at, op);
}

static void move_down(struct kv_async *async, size_t at)
{
    struct kv_op *op = async->heap[at];
    while (2 * at + 1 < async->heap_count) {
        size_t child = 2 * at + 1;
        if (child + 1 < async->heap_count &&
            async->heap[child + 1]->wake_ms < async->heap[child]->wake_ms) {
            child++;
        }
        if (op->wake_ms <= async->heap[child]->wake_ms) break;
        put(async, at, async->heap[child]);
        at = child;
    }
    put(async, at, op);
}

void kv_heap_set(struct kv_async *async, struct kv_op *op, int64_t wake_ms)
{
    if (op->is_ours) return; /* its owner watches the time */
    op->wake_ms = wake_ms;
    /* Room was made when the operation was created. */
    if (op->heap_at == NOWHERE) put(async, async->heap_count++, op);
    move_up(async, op->heap_at);
    move_down(async, op->heap_at);
}

void kv_heap_remove(struct kv_async *async, struct kv_op *op)
{
    const size_t at = op->heap_at;
    if (at == NOWHERE) return;
    op->heap_at = NOWHERE;
    struct kv_op *last = async->heap[--async->heap_count];
    if (last == op) return;
    put(async, at, last);
    move_up(async, last->heap_at);
    move_down(async, last->heap_at);
}
