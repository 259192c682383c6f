/* kv_pool.h - libkvclient for a program with many threads: handles of kv.h to take and to give back. client/kv.h
 * includes it.
 *
 *     kv_pool_create(&options, 8, &pool);                   once
 *     …
 *     struct kv *kv = NULL;                                 in any thread
 *     enum kv_err err = kv_pool_take(pool, 1000, &kv);
 *     if (err == KV_OK) err = kv_incr(kv, kv_text("visits"), 1, NULL);
 *     kv_pool_give(pool, kv);
 *
 * Threads. Every function here may be called by any number of threads at the same time. A handle belongs to the thread
 * that took it until that one gives it back. An allocator in the options is called by all these threads. */
#ifndef KV_CLIENT_KV_POOL_H
#define KV_CLIENT_KV_POOL_H

#ifndef KV_CLIENT_KV_H
#error "include client/kv.h, which includes this"
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct kv_pool;

/* A pool of at most @handles_max handles, which are made when they are needed. Connects to nobody yet.
 *   KV_ERR_INVALID  options.nodes is malformed, the options were not initialised, or handles_max is 0.
 *   KV_ERR_NOMEM */
KV_API enum kv_err kv_pool_create(const struct kv_options *options, size_t handles_max,
                                  struct kv_pool **pool);
/* Closes all handles. Every one must have been given back, and nobody may wait. NULL is allowed. */
KV_API void kv_pool_destroy(struct kv_pool *pool);

/* A handle; its first call connects if it has to. When all are taken, waits up to @timeout_ms for one (0: not at all);
 * who came first gets the first one. KV_ERR_TIMEOUT, KV_ERR_NOMEM: *@kv is NULL. */
KV_API enum kv_err kv_pool_take(struct kv_pool *pool, int64_t timeout_ms, struct kv **kv);
/* Gives a handle back, NULL is allowed. Its pipelines and scans must be ended. kv_set_timeout() is undone, and a handle
 * that stays with one node (kv_stay()) is closed. */
KV_API void kv_pool_give(struct kv_pool *pool, struct kv *kv);

#ifdef __cplusplus
}
#endif

#endif
