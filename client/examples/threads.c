/* A counter that many threads increase, each with a handle from a pool.
 *
 *     cc threads.c $(pkg-config --cflags --libs kvclient) -pthread -o threads
 *     ./threads 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 hits */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "client/kv.h"

#define THREADS 8
#define ROUNDS 50

static struct kv_pool *pool;
static const char *key;

static void *work(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct kv *kv = NULL;
        enum kv_err err = kv_pool_take(pool, 5000, &kv);
        if (err == KV_OK) err = kv_incr(kv, kv_text(key), 1, NULL);
        if (err != KV_OK) fprintf(stderr, "%s: %s\n", kv_err_name(err), kv_message(kv));
        kv_pool_give(pool, kv);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    struct kv_options options;
    struct kv *kv = NULL;
    int64_t sum = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: threads NODES KEY\n");
        return 2;
    }
    kv_options_init(&options);
    options.nodes = argv[1];
    key = argv[2];
    enum kv_err err = kv_pool_create(&options, 3, &pool); /* fewer handles than threads */
    if (err != KV_OK) {
        fprintf(stderr, "%s\n", kv_err_name(err));
        return 1;
    }
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 1;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    err = kv_pool_take(pool, 5000, &kv);
    if (err == KV_OK) err = kv_incr(kv, kv_text(key), 0, &sum);
    printf("%s is %" PRId64 "\n", key, sum);
    kv_pool_give(pool, kv);
    kv_pool_destroy(pool);
    return err == KV_OK && sum >= (int64_t)THREADS * ROUNDS ? 0 : 1;
}
