/* Handles for many threads. The lock is held for a few instructions only: making and closing handles, and all that
 * talks to nodes, is done without it. */
#include "client/kv_internal.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

/* A thread that waits, on its own stack. */
struct waiter {
    struct waiter *next;
    pthread_cond_t given;
    struct kv *kv;   /* the handle that it was given */
    bool may_create; /* one was closed: it may make a new one */
};

struct kv_pool {
    struct kv_options options;
    char *nodes; /* options.nodes, our own copy */
    pthread_mutex_t mutex;
    size_t handles_max;
    size_t handle_count; /* taken, idle and being made */
    struct kv **idle;    /* the one used last is at the end */
    size_t idle_count;
    struct waiter *first;
    struct waiter *last;
};

static void *resize(const struct kv_pool *pool, void *pointer, size_t size)
{
    return pool->options.allocator.resize(pool->options.allocator.context, pointer, size);
}

enum kv_err kv_pool_create(const struct kv_options *options, size_t handles_max,
                           struct kv_pool **pool)
{
    struct kv_options taken;
    *pool = NULL;
    if (handles_max == 0 || handles_max > SIZE_MAX / sizeof(struct kv *)) return KV_ERR_INVALID;
    if (!kv_options_take(options, &taken) || taken.nodes == NULL) return KV_ERR_INVALID;
    const size_t size = strlen(taken.nodes) + 1;
    struct kv_pool *made = taken.allocator.resize(taken.allocator.context, NULL, sizeof *made);
    if (made == NULL) return KV_ERR_NOMEM;
    *made = (struct kv_pool){.options = taken, .handles_max = handles_max};
    (void)pthread_mutex_init(&made->mutex, NULL); /* Cannot fail without attributes. */
    made->nodes = resize(made, NULL, size);
    made->idle = resize(made, NULL, handles_max * sizeof(struct kv *));
    if (made->nodes == NULL || made->idle == NULL) {
        kv_pool_destroy(made);
        return KV_ERR_NOMEM;
    }
    memcpy(made->nodes, taken.nodes, size);
    made->options.nodes = made->nodes;
    /* The first handle tells whether the options are any good. */
    struct kv *first = NULL;
    const enum kv_err err = kv_handle_create(&made->options, &first);
    if (first != NULL) made->idle[made->idle_count++] = first;
    made->handle_count = made->idle_count;
    if (err != KV_OK) {
        kv_pool_destroy(made);
        return err;
    }
    *pool = made;
    return KV_OK;
}

void kv_pool_destroy(struct kv_pool *pool)
{
    if (pool == NULL) return;
    const struct kv_allocator allocator = pool->options.allocator;
    while (pool->idle != NULL && pool->idle_count > 0) kv_close(pool->idle[--pool->idle_count]);
    if (pool->nodes != NULL) (void)resize(pool, pool->nodes, 0);
    if (pool->idle != NULL) (void)resize(pool, pool->idle, 0);
    (void)pthread_mutex_destroy(&pool->mutex);
    (void)allocator.resize(allocator.context, pool, 0);
}

/* ---- waiting in order ------------------------------------------------------------------------ */

static void leave_queue(struct kv_pool *pool, const struct waiter *waiter)
{
    struct waiter **at = &pool->first;
    struct waiter *before = NULL;
    while (*at != waiter) {
        before = *at;
        at = &(*at)->next;
    }
    *at = waiter->next;
    if (pool->last == waiter) pool->last = before;
}

/* With the lock. Waits until it was given a handle, or may make one; false: the time is over. */
static bool wait_for_one(struct kv_pool *pool, struct waiter *waiter, int64_t timeout_ms)
{
    pthread_condattr_t clock;
    struct timespec until;
    const int64_t at = kv_now_ms() + timeout_ms;
    until = (struct timespec){.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};
    if (timeout_ms <= 0 || pthread_condattr_init(&clock) != 0) return false;
    (void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&waiter->given, &clock);
    if (pool->last != NULL) pool->last->next = waiter;
    if (pool->first == NULL) pool->first = waiter;
    pool->last = waiter;
    while (waiter->kv == NULL && !waiter->may_create) {
        if (pthread_cond_timedwait(&waiter->given, &pool->mutex, &until) == ETIMEDOUT) break;
    }
    const bool given = waiter->kv != NULL || waiter->may_create;
    if (!given) leave_queue(pool, waiter);
    (void)pthread_cond_destroy(&waiter->given);
    (void)pthread_condattr_destroy(&clock);
    return given;
}

/* With the lock: who waits longest gets @kv, or with NULL the right to make one. False: nobody waits. */
static bool pass_on(struct kv_pool *pool, struct kv *kv)
{
    struct waiter *waiter = pool->first;
    if (waiter == NULL) return false;
    leave_queue(pool, waiter);
    waiter->kv = kv;
    waiter->may_create = kv == NULL;
    (void)pthread_cond_signal(&waiter->given);
    return true;
}

/* ---- taking and giving ----------------------------------------------------------------------- */

/* A handle less: somebody else may make one. */
static void count_down(struct kv_pool *pool)
{
    (void)pthread_mutex_lock(&pool->mutex);
    if (!pass_on(pool, NULL)) pool->handle_count--;
    (void)pthread_mutex_unlock(&pool->mutex);
}

enum kv_err kv_pool_take(struct kv_pool *pool, int64_t timeout_ms, struct kv **kv)
{
    struct waiter waiter = {.kv = NULL};
    bool found = true;
    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->idle_count > 0) {
        waiter.kv = pool->idle[--pool->idle_count];
    } else if (pool->handle_count < pool->handles_max) {
        pool->handle_count++;
    } else {
        found = wait_for_one(pool, &waiter, timeout_ms);
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    *kv = waiter.kv;
    if (waiter.kv != NULL) return KV_OK;
    if (!found) return KV_ERR_TIMEOUT;
    const enum kv_err err = kv_handle_create(&pool->options, kv);
    if (err == KV_OK) return KV_OK;
    kv_close(*kv);
    *kv = NULL;
    count_down(pool);
    return err;
}

void kv_pool_give(struct kv_pool *pool, struct kv *kv)
{
    if (kv == NULL) return;
    if (kv->stays) {
        kv_close(kv);
        count_down(pool);
        return;
    }
    kv_set_timeout(kv, pool->options.timeout_ms);
    (void)pthread_mutex_lock(&pool->mutex);
    if (!pass_on(pool, kv)) pool->idle[pool->idle_count++] = kv;
    (void)pthread_mutex_unlock(&pool->mutex);
}
