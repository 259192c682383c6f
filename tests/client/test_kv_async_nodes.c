/* The asynchronous client against nodes that come and go; exactly once; memory that runs out anywhere; scans. */
#include "tests/client/async_tools.h"

static void async_set(struct world *world, const char *key, const char *value, struct seen *seen)
{
    const struct kv_callback then = into(seen);
    CALL(kv_async_set(world->async, kv_text(key), kv_text(value), NULL, 0, &then));
    world_wait(world, seen);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

TEST(kv_async, moved_is_followed)
{
    struct fake fake = {0};
    struct fake leader = {0};
    struct world world;
    struct seen seen;
    char moved[128];
    fake_start(&fake);
    fake_start(&leader);
    (void)snprintf(moved, sizeof moved, "-MOVED 1234 %s\r\n", leader.address);
    fake_step(&fake, FAKE_REPLY, moved);
    world_open(&world, fake.address, 1000);
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    async_set(&world, "k", "w", &seen);
    EXPECT_TEXT(kv_async_address(world.async), leader.address);
    expect_log(&fake, "SET k v\n");
    expect_log(&leader, "SET k v\nSET k w\n");
    world_close(&world);
    fake_stop(&leader);
    fake_stop(&fake);
}

TEST(kv_async, the_leader_is_followed_without_making_anybody_wait)
{
    struct fake fake = {0};
    struct fake leader = {0};
    struct world world;
    struct seen seen;
    fake_start(&fake);
    fake_start(&leader);
    fake_say_leader(&fake, "node2", leader.address);
    fake_say_leader(&leader, "node2", leader.address);
    world_open(&world, fake.address, 1000);
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    while (strcmp(kv_async_address(world.async), leader.address) != 0) world_idle(&world, 5);
    async_set(&world, "k", "w", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    expect_log(&fake, "SET k v\n");
    expect_log(&leader, "SET k w\n");
    /* It moves: the question comes with an operation, not before its time. */
    fake_say_leader(&leader, "node1", fake.address);
    fake_say_leader(&fake, "node1", fake.address);
    fake_hang_up(&leader);
    async_set(&world, "k", "x", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    while (strcmp(kv_async_address(world.async), fake.address) != 0) world_idle(&world, 5);
    world_close(&world);
    fake_stop(&leader);
    fake_stop(&fake);
}

TEST(kv_async, a_leader_that_cannot_be_reached_is_no_obstacle)
{
    struct fake fake = {0};
    struct fake stopped = {0};
    struct world world;
    struct seen seen;
    fake_start(&fake);
    fake_start(&stopped);
    stopped.greets = false;
    fake_say_leader(&fake, "node2", stopped.address);
    world_open(&world, fake.address, 1000);
    for (int i = 0; i < 5; i++) {
        async_set(&world, "k", "v", &seen);
        EXPECT_EQ(seen.err, KV_OK);
        world_idle(&world, 200);
    }
    EXPECT_EQ(fake_accepted(&stopped), 1);
    EXPECT_TEXT(kv_async_address(world.async), fake.address);
    world_close(&world);
    fake_stop(&stopped);
    fake_stop(&fake);
}

TEST(kv_async, one_node_names_the_others)
{
    struct fake fake = {0};
    struct fake other = {0};
    struct world world;
    struct seen seen;
    fake_start(&fake);
    fake_start(&other);
    (void)snprintf(fake.members, sizeof fake.members,
                   "*1\r\n*6\r\n+node2\r\n+0000000000000002\r\n+p:1\r\n"
                   "$%zu\r\n%s\r\n+voter\r\n:1\r\n",
                   strlen(other.address), other.address);
    world_open(&world, fake.address, 1000);
    async_set(&world, "k", "v", &seen);
    fake_stop(&fake);
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    EXPECT_TEXT(kv_async_address(world.async), other.address);
    world_close(&world);
    fake_stop(&other);
}

TEST(kv_async, a_stopped_node_is_passed_over)
{
    struct fake stopped = {0};
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    char nodes[160];
    fake_start(&stopped);
    fake_start(&fake);
    stopped.greets = false;
    (void)snprintf(nodes, sizeof nodes, "%s, %s", stopped.address, fake.address);
    world_open(&world, nodes, 2000);
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    world_close(&world);
    fake_stop(&fake);
    fake_stop(&stopped);
}

TEST(kv_async, a_node_that_wants_a_password_fails_what_waits)
{
    struct fake fake = {.refusal = "-NOAUTH Authentication required.\r\n"};
    struct world world;
    struct seen seen;
    fake_start(&fake);
    world_open(&world, fake.address, 5000);
    const int64_t begun = now_ms();
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_ERR_FAILED);
    EXPECT_TRUE(strstr(seen.message, "NOAUTH") != NULL);
    EXPECT_TRUE(now_ms() - begun < 2000);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, a_name_is_looked_up_without_holding_the_loop)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    char nodes[160];
    fake_start(&fake);
    (void)snprintf(nodes, sizeof nodes, "localhost:%s", strchr(fake.address, ':') + 1);
    world_open(&world, nodes, 5000);
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_OK);
    world_close(&world);
    /* Closed while the answer is still to come. */
    world_open(&world, "no-such-host.invalid:1", 5000);
    const struct kv_callback then = into(&seen);
    CALL(kv_async_get(world.async, kv_text("k"), &then));
    (void)uv_run(&world.loop, UV_RUN_NOWAIT);
    world_close(&world);
    EXPECT_EQ(seen.count, 1);
    fake_stop(&fake);
}

/* ---- exactly once ---------------------------------------------------------------------------- */

/* The id and the sequence of the first command in @log; gives what follows it. */
static const char *once_of(const char *log, char *id, char *sequence)
{
    int size = 0;
    EXPECT_EQ(sscanf(log, "KV.ONCE %63s %31s %n", id, sequence, &size), 2);
    return log + size;
}

TEST(kv_async, once_repeats_a_write_under_its_id_through_faults)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    struct kv_options options;
    char log[4096];
    char first[2][64];
    char next[2][64];
    fake_start(&fake);
    fake_step(&fake, FAKE_CLOSE, NULL);
    fake_step(&fake, FAKE_REPLY, "-UNCERTAIN leadership lost, outcome unknown\r\n");
    fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
    fake_step(&fake, FAKE_REPLY, ":5\r\n");
    kv_options_init(&options);
    options.nodes = fake.address;
    options.once = 1;
    world_open_with(&world, &options);
    const struct kv_callback then = into(&seen);
    CALL(kv_async_incr(world.async, kv_text("k"), 5, &then));
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    EXPECT_EQ(seen.integer, 5);
    fake_log(&fake, log, sizeof log);
    const char *at = log;
    for (int i = 0; i < 4; i++) {
        at = once_of(at, i == 0 ? first[0] : next[0], i == 0 ? first[1] : next[1]);
        if (i > 0) EXPECT_TEXT(next[0], first[0]);
        if (i > 0) EXPECT_TEXT(next[1], first[1]);
        EXPECT_TRUE(strncmp(at, "INCRBY k 5\n", 11) == 0);
        at += 11;
    }
    EXPECT_TEXT(at, "");
    async_set(&world, "k", "v", &seen);
    fake_log(&fake, log, sizeof log);
    EXPECT_TEXT(once_of(log, next[0], next[1]), "SET k v\n");
    EXPECT_TRUE(strcmp(next[1], first[1]) > 0);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, once_at_the_deadline_is_unknown_if_it_was_ever_sent)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    struct kv_options options;
    fake_start(&fake);
    fake_step(&fake, FAKE_CLOSE, NULL);
    for (int i = 1; i < FAKE_STEPS_MAX; i++) fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN none\r\n");
    kv_options_init(&options);
    options.nodes = fake.address;
    options.once = 1;
    options.timeout_ms = 300;
    world_open_with(&world, &options);
    async_set(&world, "k", "v", &seen);
    EXPECT_EQ(seen.err, KV_ERR_UNKNOWN);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, once_takes_more_writes_than_it_has_slots)
{
    struct fake fake = {0};
    struct world world;
    static struct seen seen[1000];
    struct kv_options options;
    const struct kv_bytes word = kv_text("A");
    static struct kv_words words[300];
    fake_start(&fake);
    kv_options_init(&options);
    options.nodes = fake.address;
    options.once = 1;
    world_open_with(&world, &options);
    for (size_t i = 0; i < 1000; i++) {
        const struct kv_callback then = into(&seen[i]);
        CALL(kv_async_set(world.async, kv_text("k"), kv_text("v"), NULL, 0, &then));
    }
    for (size_t i = 0; i < 1000; i++) {
        world_wait(&world, &seen[i]);
        EXPECT_EQ(seen[i].err, KV_OK);
    }
    for (size_t i = 0; i < 300; i++) words[i] = (struct kv_words){KV_WRITE, &word, 1};
    const struct kv_callback then = into(&seen[0]);
    EXPECT_EQ(kv_async_batch(world.async, words, 300, &then), KV_ERR_INVALID);
    CALL(kv_async_batch(world.async, words, 256, &then));
    world_wait(&world, &seen[0]);
    EXPECT_EQ(seen[0].err, KV_OK);
    world_close(&world);
    fake_stop(&fake);
}

/* ---- scans ----------------------------------------------------------------------------------- */

struct pages {
    struct kv_async_scan *scan;
    uint32_t done;
    uint32_t entries;
    enum kv_err err;
    char keys[4096];
};

static void page_done(void *context, const struct kv_result *result)
{
    struct pages *pages = context;
    const struct kv_callback then = {.done = page_done, .context = pages};
    pages->err = result->err;
    for (size_t i = 0; i < result->count; i++) {
        if (pages->entries++ < 8) (void)strcat(pages->keys, result->entries[i].key);
    }
    if (result->err == KV_OK) {
        CALL(kv_async_scan_next(pages->scan, &then));
        EXPECT_EQ(kv_async_scan_next(pages->scan, &then), KV_ERR_INVALID);
    } else {
        pages->done++;
    }
}

TEST(kv_async, a_scan_goes_page_by_page)
{
    struct fake fake = {0};
    struct world world;
    struct pages pages = {0};
    const struct kv_scan_options options = {.prefix = kv_text("k"), .keys_only = 1};
    const struct kv_callback then = {.done = page_done, .context = &pages};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, "*2\r\n$2\r\nka\r\n$2\r\nkb\r\n");
    fake_step(&fake, FAKE_CLOSE, NULL); /* A read is repeated. */
    fake_step(&fake, FAKE_REPLY, "*1\r\n$2\r\nkc\r\n");
    fake_step(&fake, FAKE_REPLY, "*0\r\n");
    world_open(&world, fake.address, 1000);
    EXPECT_EQ(kv_async_scan_open(world.async, &options, &pages.scan), KV_OK);
    CALL(kv_async_scan_next(pages.scan, &then));
    world_run(&world, &pages.done, 1);
    EXPECT_EQ(pages.err, KV_ERR_NOT_FOUND);
    EXPECT_TEXT(pages.keys, "kakbkc");
    CALL(kv_async_scan_next(pages.scan, &then)); /* Still the end. */
    world_run(&world, &pages.done, 2);
    EXPECT_EQ(pages.err, KV_ERR_NOT_FOUND);
    kv_async_scan_close(pages.scan);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, a_scan_may_be_closed_at_any_time)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    struct kv_async_scan *scan = NULL;
    const char *wrong[] = {":1\r\n", "*1\r\n:1\r\n", "*1\r\n*1\r\n$1\r\na\r\n"};
    fake_start(&fake);
    world_open(&world, fake.address, 1000);
    EXPECT_EQ(kv_async_scan_open(world.async, NULL, &scan), KV_OK);
    for (size_t i = 0; i < 3; i++) {
        fake_step(&fake, FAKE_REPLY, wrong[i]);
        const struct kv_callback then = into(&seen);
        CALL(kv_async_scan_next(scan, &then));
        world_wait(&world, &seen);
        EXPECT_EQ(seen.err, KV_ERR_FAILED);
    }
    const struct kv_callback then = into(&seen);
    CALL(kv_async_scan_next(scan, &then));
    kv_async_scan_close(scan);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_CANCELLED);
    /* One that is open when the client is closed ends with it. */
    EXPECT_EQ(kv_async_scan_open(world.async, NULL, &scan), KV_OK);
    world_close(&world);
    fake_stop(&fake);
}

/* ---- memory ---------------------------------------------------------------------------------- */

struct budget {
    int64_t left; /* requests that are still granted */
    bool was_short;
};

static void *resize_within(void *context, void *pointer, size_t size)
{
    struct budget *budget = context;
    if (size == 0) {
        free(pointer);
        return NULL;
    }
    if (budget->left-- <= 0) {
        budget->was_short = true;
        return NULL;
    }
    return realloc(pointer, size);
}

/* A round with @budget; every operation that was started ends once. */
static void run_short_of_memory(struct fake *fake, struct budget *budget)
{
    struct world world;
    struct seen seen[3] = {{0}};
    struct kv_options options;
    uint32_t started = 0;
    kv_options_init(&options);
    options.nodes = fake->address;
    options.timeout_ms = 200;
    options.allocator = (struct kv_allocator){.resize = resize_within, .context = budget};
    world = (struct world){.closed = false};
    world_now = &world;
    CHECK(uv_loop_init(&world.loop) == 0);
    const enum kv_err err = kv_async_create(&options, &world.loop, &world.async);
    if (err != KV_OK) {
        EXPECT_EQ(err, KV_ERR_NOMEM);
        EXPECT_EQ(uv_loop_close(&world.loop), 0);
        return;
    }
    for (size_t i = 0; i < 3; i++) {
        const struct kv_callback then = into(&seen[i]);
        const enum kv_err began = i == 1 ? kv_async_incr(world.async, kv_text("k"), 1, &then)
                                         : kv_async_get(world.async, kv_text("k"), &then);
        if (began == KV_OK) started++;
        if (began != KV_OK) EXPECT_EQ(began, KV_ERR_NOMEM);
    }
    while (seen[0].count + seen[1].count + seen[2].count < started) {
        (void)uv_run(&world.loop, UV_RUN_ONCE);
    }
    kv_async_close(world.async, world_was_closed, &world);
    (void)uv_run(&world.loop, UV_RUN_DEFAULT);
    EXPECT_TRUE(world.closed);
    EXPECT_EQ(uv_loop_close(&world.loop), 0);
    for (size_t i = 0; i < 3; i++) EXPECT_TRUE(seen[i].count <= 1);
}

TEST(kv_async, without_memory_at_any_place_every_callback_still_comes)
{
    bool was_short = true;
    for (int64_t left = 0; was_short; left++) {
        struct fake fake = {0};
        struct budget budget = {.left = left};
        EXPECT_TRUE(left < 500);
        fake_start(&fake);
        run_short_of_memory(&fake, &budget);
        was_short = budget.was_short;
        fake_stop(&fake);
    }
}
