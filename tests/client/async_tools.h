/* async_tools.h - what the tests of the asynchronous client share: a loop, a client on it, what its callbacks saw. */
#ifndef KV_TESTS_CLIENT_ASYNC_TOOLS_H
#define KV_TESTS_CLIENT_ASYNC_TOOLS_H

#include <uv.h>

#include "tests/client/kv_tools.h"

/* What a callback saw. */
struct seen {
    uint32_t count; /* how often it came */
    enum kv_err err;
    char message[256];
    char data[256];
    uint64_t revision;
    int64_t integer;
    bool inside; /* the program was inside a call of the library: must stay false */
};

struct world {
    uv_loop_t loop;
    struct kv_async *async;
    bool calling; /* the program is inside a call of the library */
    bool closed;
    uv_timer_t limit;
};

static struct world *world_now;

static inline void seen_done(void *context, const struct kv_result *result)
{
    struct seen *seen = context;
    seen->count++;
    seen->inside = seen->inside || world_now->calling;
    seen->err = result->err;
    seen->integer = result->integer;
    seen->revision = result->value.revision;
    (void)snprintf(seen->message, sizeof seen->message, "%s", result->message);
    (void)snprintf(seen->data, sizeof seen->data, "%s",
                   result->value.data != NULL ? result->value.data : "");
}

#define CALL(expression)                                                                           \
    do {                                                                                           \
        world_now->calling = true;                                                                 \
        EXPECT_EQ((expression), KV_OK);                                                            \
        world_now->calling = false;                                                                \
    } while (0)

static inline struct kv_callback into(struct seen *seen)
{
    *seen = (struct seen){.count = 0};
    return (struct kv_callback){.done = seen_done, .context = seen};
}

static inline void world_fail(uv_timer_t *timer)
{
    (void)timer;
    fprintf(stderr, "the test does not come to its end\n");
    abort();
}

static inline void world_open_with(struct world *world, const struct kv_options *options)
{
    *world = (struct world){.closed = false};
    world_now = world;
    CHECK(uv_loop_init(&world->loop) == 0);
    CHECK(uv_timer_init(&world->loop, &world->limit) == 0);
    CHECK(uv_timer_start(&world->limit, world_fail, 60000, 0) == 0);
    uv_unref((uv_handle_t *)&world->limit);
    EXPECT_EQ(kv_async_create(options, &world->loop, &world->async), KV_OK);
}

static inline void world_open(struct world *world, const char *nodes, int64_t timeout_ms)
{
    struct kv_options options;
    kv_options_init(&options);
    options.nodes = nodes;
    options.timeout_ms = timeout_ms;
    options.connect_timeout_ms = 300;
    world_open_with(world, &options);
}

static inline void world_run(struct world *world, const uint32_t *counter, uint32_t until)
{
    while (*counter < until) (void)uv_run(&world->loop, UV_RUN_ONCE);
}

static inline void world_wait(struct world *world, struct seen *seen)
{
    world_run(world, &seen->count, 1);
    EXPECT_FALSE(seen->inside);
}

/* Lets the loop run for a while: nothing more may come. */
static inline void world_idle(struct world *world, int64_t ms)
{
    const int64_t until = now_ms() + ms;
    while (now_ms() < until) {
        (void)uv_run(&world->loop, UV_RUN_NOWAIT);
        (void)usleep(1000);
    }
}

static inline void world_was_closed(void *context)
{
    struct world *world = context;
    EXPECT_FALSE(world->closed);
    EXPECT_FALSE(world->calling);
    world->closed = true;
}

static inline void world_close(struct world *world)
{
    world->calling = true;
    kv_async_close(world->async, world_was_closed, world);
    world->calling = false;
    while (!world->closed) (void)uv_run(&world->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&world->limit, NULL);
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&world->loop), 0);
}

#endif
