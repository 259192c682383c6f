#include "tests/sim/check_linear.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define WORDS (CHECK_LINEAR_OPS_MAX / 64u)
#define VISITS_MAX (1u << 20)
#define NONE UINT32_MAX

/* A point of the search: which operations are done, and what that made of the value. */
struct point {
    uint64_t done[WORDS];
    uint64_t content;
    uint64_t size;
    uint64_t flags; /* bit 0 exists, bit 1 expires, bit 2: the slot is used */
};

struct event {
    uint64_t time;
    uint32_t op;
    uint32_t prev;
    uint32_t next;
    uint32_t pair; /* the answer of a call; NONE: this is an answer */
};

/* One step taken, to be taken back. */
struct taken {
    uint32_t event;
    bool expired; /* the value vanished right before */
    struct check_value before;
};

struct search {
    const struct check_op *ops;
    uint32_t count;
    struct event *events; /* [0] is the head of the list */
    struct taken *stack;
    uint32_t depth;
    uint64_t done[WORDS];
    struct check_value value;
    struct point *visited;
    uint64_t visited_capacity; /* a power of two */
    uint64_t visited_count;
};

uint64_t check_linear_hash(uint64_t hash, struct slice text)
{
    for (uint64_t i = 0; i < text.size; i++) {
        hash = hash * 0x9E3779B97F4A7C15u + text.data[i] + 1u;
    }
    return hash;
}

/* Combines the hash of what is there with the hash of @size more bytes. */
static uint64_t hash_join(uint64_t first, uint64_t second, uint64_t size)
{
    uint64_t factor = 1;
    for (uint64_t i = 0; i < size; i++) factor *= 0x9E3779B97F4A7C15u;
    return first * factor + second;
}

static bool same(const struct check_value *a, const struct check_value *b)
{
    if (a->exists != b->exists) return false;
    return !a->exists || (a->content == b->content && a->size == b->size);
}

/* Does @op fit the state @value? Then @value becomes the state after it. */
static bool apply(const struct check_op *op, struct check_value *value)
{
    const bool is_free = !op->is_known; /* Nobody saw what it answered. */
    const struct check_value old = *value;
    switch (op->kind) {
    case CHECK_KIND_GET: return is_free || same(&old, &op->reply);
    case CHECK_KIND_SET: *value = op->argument; return true;
    case CHECK_KIND_SET_NEW:
        if (!old.exists) *value = op->argument;
        return is_free || op->number == !old.exists;
    case CHECK_KIND_SET_EXISTING:
        if (old.exists) *value = op->argument;
        return is_free || op->number == old.exists;
    case CHECK_KIND_SET_GET: *value = op->argument; return is_free || same(&old, &op->reply);
    case CHECK_KIND_DELETE:
        *value = (struct check_value){0};
        return is_free || op->number == old.exists;
    case CHECK_KIND_INCREMENT:
        value->content = old.exists ? old.content + 1 : 1;
        value->exists = true;
        return is_free || op->number == (int64_t)value->content;
    case CHECK_KIND_APPEND:
        value->content = hash_join(old.exists ? old.content : 0, op->argument.content,
                                   op->argument.size);
        value->size = (old.exists ? old.size : 0) + op->argument.size;
        value->exists = true;
        return is_free || op->number == (int64_t)value->size;
    case CHECK_KIND_GET_DELETE:
        *value = (struct check_value){0};
        return is_free || same(&old, &op->reply);
    case CHECK_KIND_EXPIRE: value->expires = old.exists; return is_free || op->number == old.exists;
    case CHECK_KIND_PERSIST:
        value->expires = false;
        return is_free || op->number == (old.exists && old.expires);
    case CHECK_KIND_FLUSH: *value = (struct check_value){0}; return true;
    }
    UNREACHABLE();
}

/* ---- where the search has been ---------------------------------------------------------------------- */

static uint64_t slot_of(const struct search *search, const struct point *point)
{
    return hash64(point, sizeof *point) & (search->visited_capacity - 1);
}

static bool visited_put(struct search *search, const struct point *point)
{
    uint64_t slot = slot_of(search, point);
    while (search->visited[slot].flags != 0) {
        if (memcmp(&search->visited[slot], point, sizeof *point) == 0) return false;
        slot = (slot + 1) & (search->visited_capacity - 1);
    }
    search->visited[slot] = *point;
    search->visited_count++;
    return true;
}

/* True when this point is new. */
static bool visit(struct search *search)
{
    struct point point = {.flags = 4};
    memcpy(point.done, search->done, sizeof point.done);
    if (search->value.exists) {
        point.content = search->value.content;
        point.size = search->value.size;
        point.flags |= 1u | (search->value.expires ? 2u : 0u);
    }
    if (search->visited_count * 2 >= search->visited_capacity) {
        struct point *old = search->visited;
        const uint64_t capacity = search->visited_capacity;
        search->visited_capacity = capacity * 2;
        search->visited = mem_zero(search->visited_capacity * sizeof *old);
        search->visited_count = 0;
        for (uint64_t i = 0; i < capacity; i++) {
            if (old[i].flags != 0) (void)visited_put(search, &old[i]);
        }
        mem_free(old);
    }
    return visited_put(search, &point);
}

/* ---- the list of calls and answers ------------------------------------------------------------------ */

static int by_time(const void *a, const void *b)
{
    const struct event *x = a;
    const struct event *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    /* Only answers that never came share a time. */
    return x->op < y->op ? -1 : x->op > y->op;
}

/* A read that nobody saw the answer of says nothing. */
static bool is_void(const struct check_op *op)
{
    return op->kind == CHECK_KIND_GET && !op->is_known;
}

static void list_events(struct search *search)
{
    const uint32_t count = search->count;
    struct event *events = mem_zero((2 * (uint64_t)count + 1) * sizeof *events);
    uint32_t *answer_of = mem_zero((count + 1) * sizeof *answer_of);
    uint32_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct check_op *op = &search->ops[i];
        if (is_void(op)) continue;
        events[++last] = (struct event){.time = op->asked, .op = i, .pair = 0};
        events[++last] = (struct event){.time = op->answered, .op = i, .pair = NONE};
    }
    qsort(events + 1, last, sizeof *events, by_time);
    for (uint32_t i = 0; i <= last; i++) {
        events[i].prev = i > 0 ? i - 1 : NONE;
        events[i].next = i < last ? i + 1 : NONE;
        if (i > 0 && events[i].pair == NONE) answer_of[events[i].op] = i;
    }
    for (uint32_t i = 1; i <= last; i++) {
        if (events[i].pair != NONE) events[i].pair = answer_of[events[i].op];
    }
    mem_free(answer_of);
    search->events = events;
}

static void unlink_event(struct event *events, uint32_t at)
{
    if (events[at].prev != NONE) events[events[at].prev].next = events[at].next;
    if (events[at].next != NONE) events[events[at].next].prev = events[at].prev;
}

static void relink_event(struct event *events, uint32_t at)
{
    if (events[at].prev != NONE) events[events[at].prev].next = at;
    if (events[at].next != NONE) events[events[at].next].prev = at;
}

static bool is_done(const struct search *search, uint32_t op)
{
    return (search->done[op / 64] >> (op % 64) & 1) != 0;
}

/* ---- the search ------------------------------------------------------------------------------------- */

static bool is_held_back(const struct search *search, const struct check_op *op)
{
    /* Commands of one connection take effect in their order. */
    return op->before != NONE && search->ops[op->before].is_known && !is_done(search, op->before);
}

/* Unknown operations that do the same to any value can change places: of those only the one that was asked first is
 * tried, or k of them would be tried in 2^k ways. */
static bool has_double(const struct search *search, const struct check_op *op)
{
    if (op->is_known) return false;
    if (op->kind != CHECK_KIND_INCREMENT && op->kind != CHECK_KIND_DELETE &&
        op->kind != CHECK_KIND_GET_DELETE && op->kind != CHECK_KIND_EXPIRE &&
        op->kind != CHECK_KIND_PERSIST && op->kind != CHECK_KIND_FLUSH) {
        return false;
    }
    for (uint32_t i = 0; i < search->count; i++) {
        const struct check_op *other = &search->ops[i];
        if (!other->is_known && other->kind == op->kind && other->asked < op->asked &&
            !is_done(search, i) && !is_held_back(search, other)) {
            return true;
        }
    }
    return false;
}

/* Takes the operation called at event @at next, if it fits and leads somewhere new. */
static bool take(struct search *search, uint32_t at, bool expired)
{
    const uint32_t number = search->events[at].op;
    const struct check_op *op = &search->ops[number];
    const struct check_value before = search->value;
    if (expired && !(before.exists && before.expires)) return false;
    if (is_held_back(search, op) || has_double(search, op)) return false;
    if (expired) search->value = (struct check_value){0};
    bool fits = apply(op, &search->value);
    search->done[number / 64] |= 1ull << (number % 64);
    if (fits) fits = visit(search);
    if (!fits) {
        search->done[number / 64] &= ~(1ull << (number % 64));
        search->value = before;
        return false;
    }
    search->stack[search->depth++] = (struct taken){at, expired, before};
    unlink_event(search->events, at);
    unlink_event(search->events, search->events[at].pair);
    return true;
}

/* Takes the last step back and says where to go on. False: there is none. */
static bool take_back(struct search *search, uint32_t *at, bool *expired)
{
    if (search->depth == 0) return false;
    const struct taken *last = &search->stack[--search->depth];
    const uint32_t op = search->events[last->event].op;
    relink_event(search->events, search->events[last->event].pair);
    relink_event(search->events, last->event);
    search->done[op / 64] &= ~(1ull << (op % 64));
    search->value = last->before;
    /* The same operation upon a vanished value is another possibility; then comes the next one. */
    *expired = !last->expired;
    *at = last->expired ? search->events[last->event].next : last->event;
    return true;
}

static enum check_verdict run(struct search *search)
{
    uint32_t at = search->events[0].next;
    bool expired = false;
    for (;;) {
        const struct event *event = at == NONE ? NULL : &search->events[at];
        if (event == NULL) return CHECK_LINEAR;
        if (search->visited_count > VISITS_MAX) return CHECK_UNDECIDED;
        if (event->pair == NONE) {
            /* Answers that never came are at the end: all that was answered is in order. */
            if (event->time == UINT64_MAX) return CHECK_LINEAR;
            if (!take_back(search, &at, &expired)) return CHECK_NOT_LINEAR;
            continue;
        }
        if (take(search, at, expired)) {
            at = search->events[0].next;
            expired = false;
        } else if (!expired) {
            expired = true;
        } else {
            expired = false;
            at = event->next;
        }
    }
}

enum check_verdict check_linear(const struct check_op *ops, uint32_t count)
{
    if (count > CHECK_LINEAR_OPS_MAX) return CHECK_UNDECIDED;
    struct search search = {.ops = ops, .count = count, .visited_capacity = 1024};
    search.visited = mem_zero(search.visited_capacity * sizeof *search.visited);
    search.stack = mem_zero((count + 1) * sizeof *search.stack);
    list_events(&search);
    const enum check_verdict verdict = run(&search);
    mem_free(search.visited);
    mem_free(search.stack);
    mem_free(search.events);
    return verdict;
}
