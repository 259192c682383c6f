/* Handles for many threads, and clients on many loops: run under the thread sanitizer, too. */
#include "tests/client/async_tools.h"

#define THREADS 6
#define ROUNDS 200

static int64_t total;
static pthread_mutex_t total_mutex = PTHREAD_MUTEX_INITIALIZER;

/* INCRBY key n adds to one number, so that the sum tells whether every call came through once. */
static bool count_up(const struct slice *args, uint32_t count, struct buf *out)
{
    if (!slice_equal_fold(args[0], "incrby") || count != 3) return false;
    (void)pthread_mutex_lock(&total_mutex);
    total += 1;
    resp_put_int(out, total);
    (void)pthread_mutex_unlock(&total_mutex);
    return true;
}

static void options_for(struct kv_options *options, const char *nodes)
{
    kv_options_init(options);
    options->nodes = nodes;
    options->timeout_ms = 10000;
}

static void *use_pool(void *argument)
{
    struct kv_pool *pool = argument;
    for (int i = 0; i < ROUNDS; i++) {
        struct kv *kv = NULL;
        CHECK(kv_pool_take(pool, 10000, &kv) == KV_OK);
        CHECK(kv_incr(kv, kv_text("n"), 1, NULL) == KV_OK);
        kv_pool_give(pool, kv);
    }
    return NULL;
}

TEST(kv_pool, many_threads_share_few_handles)
{
    struct fake fake = {.handler = count_up};
    struct kv_options options;
    struct kv_pool *pool = NULL;
    pthread_t threads[THREADS];
    fake_start(&fake);
    options_for(&options, fake.address);
    total = 0;
    EXPECT_EQ(kv_pool_create(&options, 3, &pool), KV_OK);
    EXPECT_EQ(fake_accepted(&fake), 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, use_pool, pool) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    EXPECT_EQ(total, THREADS * ROUNDS);
    EXPECT_TRUE(fake_accepted(&fake) <= 3);
    kv_pool_destroy(pool);
    fake_stop(&fake);
}

TEST(kv_pool, a_handle_is_waited_for_no_longer_than_asked)
{
    struct fake fake = {0};
    struct kv_options options;
    struct kv_pool *pool = NULL;
    struct kv *first = NULL;
    struct kv *second = NULL;
    fake_start(&fake);
    options_for(&options, fake.address);
    EXPECT_EQ(kv_pool_create(&options, 1, &pool), KV_OK);
    EXPECT_EQ(kv_pool_take(pool, 0, &first), KV_OK);
    EXPECT_EQ(kv_pool_take(pool, 0, &second), KV_ERR_TIMEOUT);
    EXPECT_TRUE(second == NULL);
    const int64_t begun = now_ms();
    EXPECT_EQ(kv_pool_take(pool, 100, &second), KV_ERR_TIMEOUT);
    EXPECT_TRUE(now_ms() - begun >= 99);
    EXPECT_TRUE(now_ms() - begun < 1500);
    /* What was changed of it is not what the next one gets. */
    EXPECT_EQ(kv_stay(first, fake.address), KV_OK);
    kv_pool_give(pool, first);
    kv_pool_give(pool, NULL);
    EXPECT_EQ(kv_pool_take(pool, 0, &first), KV_OK);
    EXPECT_EQ(set(first, "k", "v"), KV_OK);
    kv_pool_give(pool, first);
    kv_pool_destroy(pool);
    fake_stop(&fake);
}

struct waiting {
    struct kv_pool *pool;
    bool closes; /* its handle does not come back as it is */
    enum kv_err err;
};

static void *wait_for_handle(void *argument)
{
    struct waiting *waiting = argument;
    struct kv *kv = NULL;
    waiting->err = kv_pool_take(waiting->pool, 10000, &kv);
    if (kv != NULL && waiting->closes) CHECK(kv_stay(kv, "127.0.0.1:1") == KV_OK);
    kv_pool_give(waiting->pool, kv);
    return NULL;
}

TEST(kv_pool, who_waits_gets_a_handle_that_is_given_back_or_closed)
{
    struct fake fake = {0};
    struct kv_options options;
    struct kv_pool *pool = NULL;
    struct kv *kv = NULL;
    struct waiting waiting[4] = {{0}};
    pthread_t threads[4];
    fake_start(&fake);
    options_for(&options, fake.address);
    EXPECT_EQ(kv_pool_create(&options, 1, &pool), KV_OK);
    EXPECT_EQ(kv_pool_take(pool, 0, &kv), KV_OK);
    for (int i = 0; i < 4; i++) {
        waiting[i] = (struct waiting){.pool = pool, .closes = i % 2 == 1};
        CHECK(pthread_create(&threads[i], NULL, wait_for_handle, &waiting[i]) == 0);
    }
    (void)usleep(20000);
    kv_pool_give(pool, kv);
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < 4; i++) EXPECT_EQ(waiting[i].err, KV_OK);
    EXPECT_EQ(kv_pool_take(pool, 0, &kv), KV_OK); /* None was lost. */
    kv_pool_give(pool, kv);
    kv_pool_destroy(pool);
    fake_stop(&fake);
}

TEST(kv_pool, wrong_options_make_no_pool)
{
    struct kv_options options;
    struct kv_pool *pool = NULL;
    options_for(&options, "host:");
    EXPECT_EQ(kv_pool_create(&options, 1, &pool), KV_ERR_INVALID);
    options_for(&options, NULL);
    EXPECT_EQ(kv_pool_create(&options, 1, &pool), KV_ERR_INVALID);
    options_for(&options, "127.0.0.1:1");
    EXPECT_EQ(kv_pool_create(&options, 0, &pool), KV_ERR_INVALID);
    options.struct_size = 3;
    EXPECT_EQ(kv_pool_create(&options, 1, &pool), KV_ERR_INVALID);
    EXPECT_TRUE(pool == NULL);
    kv_pool_destroy(NULL);
}

/* ---- loops in threads ------------------------------------------------------------------------ */

struct looper {
    const char *nodes;
    uv_loop_t loop;
    struct kv_async *async;
    uint32_t left;
    uint32_t under_way;
    bool closed;
};

static void looper_closed(void *context)
{
    ((struct looper *)context)->closed = true;
}

static void looper_done(void *context, const struct kv_result *result)
{
    struct looper *looper = context;
    const struct kv_callback then = {.done = looper_done, .context = looper};
    CHECK(result->err == KV_OK);
    looper->under_way--;
    if (looper->left > 0) {
        looper->left--;
        looper->under_way++;
        CHECK(kv_async_incr(looper->async, kv_text("n"), 1, &then) == KV_OK);
    } else if (looper->under_way == 0) {
        kv_async_close(looper->async, looper_closed, looper);
    }
}

static void *run_loop(void *argument)
{
    struct looper *looper = argument;
    struct kv_options options;
    const struct kv_callback then = {.done = looper_done, .context = looper};
    options_for(&options, looper->nodes);
    CHECK(kv_async_create(&options, &looper->loop, &looper->async) == KV_OK);
    looper->under_way = 8;
    looper->left = ROUNDS - 8;
    for (int i = 0; i < 8; i++) {
        CHECK(kv_async_incr(looper->async, kv_text("n"), 1, &then) == KV_OK);
    }
    CHECK(uv_run(&looper->loop, UV_RUN_DEFAULT) == 0);
    CHECK(looper->closed);
    return NULL;
}

TEST(kv_pool, clients_on_different_loops_are_independent)
{
    struct fake fake = {.handler = count_up};
    static struct looper loopers[THREADS];
    pthread_t threads[THREADS];
    fake_start(&fake);
    total = 0;
    for (int i = 0; i < THREADS; i++) {
        loopers[i] = (struct looper){.nodes = fake.address};
        /* All loops live at the same time: libuv closes descriptors behind the sanitizer's back, and one that is used
         * again would be taken for a race. */
        CHECK(uv_loop_init(&loopers[i].loop) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, run_loop, &loopers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(uv_loop_close(&loopers[i].loop) == 0);
    EXPECT_EQ(total, THREADS * ROUNDS);
    fake_stop(&fake);
}
