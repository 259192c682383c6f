/* The asynchronous client against nodes that do what the test says: results, deadlines, cancelling, repeating. */
#include "tests/client/async_tools.h"

static void async_set(struct world *world, const char *key, const char *value, struct seen *seen)
{
    const struct kv_callback then = into(seen);
    CALL(kv_async_set(world->async, kv_text(key), kv_text(value), NULL, 0, &then));
}

static void async_get(struct world *world, const char *key, struct seen *seen)
{
    const struct kv_callback then = into(seen);
    CALL(kv_async_get(world->async, kv_text(key), &then));
}

/* ---- results --------------------------------------------------------------------------------- */

TEST(kv_async, every_call_gives_its_result_once_and_later)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen[6];
    const struct kv_bytes keys[] = {kv_text("a"), kv_text("b")};
    const struct kv_set_options absent = {.flags = KV_SET_IF_ABSENT};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, "*3\r\n$5\r\nhello\r\n:7\r\n:-1\r\n");
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    fake_step(&fake, FAKE_REPLY, "$3\r\nold\r\n");
    fake_step(&fake, FAKE_REPLY, ":2\r\n");
    fake_step(&fake, FAKE_REPLY, ":-5\r\n");
    fake_step(&fake, FAKE_REPLY, ":-2\r\n");
    world_open(&world, fake.address, 1000);
    struct kv_callback then = into(&seen[0]);
    CALL(kv_async_get(world.async, kv_text("k"), &then));
    then = into(&seen[1]);
    CALL(kv_async_set(world.async, kv_text("k"), kv_text("v"), &absent, 0, &then));
    then = into(&seen[2]);
    CALL(kv_async_set(world.async, kv_text("k"), kv_text("v"), NULL, 1, &then));
    then = into(&seen[3]);
    CALL(kv_async_del(world.async, keys, 2, &then));
    then = into(&seen[4]);
    CALL(kv_async_incr(world.async, kv_text("n"), -5, &then));
    then = into(&seen[5]);
    CALL(kv_async_ttl(world.async, kv_text("n"), &then));
    world_wait(&world, &seen[5]);
    world_idle(&world, 20);
    for (size_t i = 0; i < 6; i++) EXPECT_EQ(seen[i].count, 1);
    EXPECT_EQ(seen[0].err, KV_OK);
    EXPECT_TEXT(seen[0].data, "hello");
    EXPECT_EQ(seen[0].revision, 7);
    EXPECT_EQ(seen[1].err, KV_ERR_CONDITION);
    EXPECT_TEXT(seen[1].message, "the key exists");
    EXPECT_EQ(seen[2].err, KV_OK);
    EXPECT_TEXT(seen[2].data, "old");
    EXPECT_EQ(seen[3].integer, 2);
    EXPECT_EQ(seen[4].integer, -5);
    EXPECT_EQ(seen[5].err, KV_ERR_NOT_FOUND);
    EXPECT_TEXT(kv_async_address(world.async), fake.address);
    EXPECT_EQ(fake_accepted(&fake), 1);
    expect_log(&fake, "KV.GET k\nSET k v NX\nSET k v GET\nDEL a b\nINCRBY n -5\nPTTL n\n");
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, wrong_arguments_start_nothing)
{
    struct fake fake = {0};
    struct world world;
    struct kv_async *other = NULL;
    struct kv_options options;
    const struct kv_bytes multi = kv_text("multi");
    const struct kv_words words = {.args = &multi, .count = 1};
    const struct kv_set_options wrong = {.flags = KV_SET_KEEP_TTL, .ttl_ms = 1};
    struct seen seen;
    fake_start(&fake);
    world_open(&world, fake.address, 1000);
    const struct kv_callback then = into(&seen);
    EXPECT_EQ(kv_async_command(world.async, 0, &multi, 1, &then), KV_ERR_INVALID);
    EXPECT_EQ(kv_async_command(world.async, 0, &multi, 0, &then), KV_ERR_INVALID);
    EXPECT_EQ(kv_async_batch(world.async, &words, 1, &then), KV_ERR_INVALID);
    EXPECT_EQ(kv_async_batch(world.async, &words, 0, &then), KV_ERR_INVALID);
    EXPECT_EQ(kv_async_del(world.async, NULL, 0, &then), KV_ERR_INVALID);
    EXPECT_EQ(kv_async_set(world.async, multi, multi, &wrong, 0, &then), KV_ERR_INVALID);
    world_idle(&world, 20);
    EXPECT_EQ(seen.count, 0);
    kv_options_init(&options);
    options.nodes = "host:";
    EXPECT_EQ(kv_async_create(&options, &world.loop, &other), KV_ERR_INVALID);
    options.struct_size = 0;
    EXPECT_EQ(kv_async_create(&options, &world.loop, &other), KV_ERR_INVALID);
    EXPECT_TRUE(other == NULL);
    expect_log(&fake, "");
    world_close(&world);
    fake_stop(&fake);
}

static void txn_done(void *context, const struct kv_result *result)
{
    struct seen *seen = context;
    seen_done(context, result);
    if (result->err == KV_OK) EXPECT_TEXT(result->reply->items[0].data, "old");
    EXPECT_TRUE(seen->count == 1);
}

TEST(kv_async, a_transaction_tells_whether_its_conditions_held)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    const struct kv_condition absent = {.kind = KV_IF_ABSENT, .key = kv_text("k")};
    const struct kv_bytes take[] = {kv_text("GET"), kv_text("k")};
    const struct kv_words words = {.args = take, .count = 2};
    struct kv_txn txn = {
        .conditions = &absent, .condition_count = 1, .otherwise = &words, .otherwise_count = 1};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, "*2\r\n:0\r\n*1\r\n$3\r\nold\r\n");
    fake_step(&fake, FAKE_REPLY, "+OK\r\n");
    world_open(&world, fake.address, 1000);
    struct kv_callback then = into(&seen);
    then.done = txn_done;
    CALL(kv_async_txn(world.async, &txn, &then));
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    EXPECT_EQ(seen.integer, 0);
    then = into(&seen);
    CALL(kv_async_txn(world.async, &txn, &then));
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_UNKNOWN); /* An answer, but not one to this question. */
    expect_log(&fake, "KV.TXN IF 1 ABSENT k ELSE 1 2 GET k\nKV.TXN IF 1 ABSENT k ELSE 1 2 GET k\n");
    const struct kv_words empty = {.args = take};
    txn.otherwise = &empty;
    EXPECT_EQ(kv_async_txn(world.async, &txn, &then), KV_ERR_INVALID);
    world_close(&world);
    fake_stop(&fake);
}

static void batch_done(void *context, const struct kv_result *result)
{
    const struct kv_reply *reply = NULL;
    struct seen *seen = context;
    seen->count++;
    seen->err = result->err;
    EXPECT_EQ(result->count, 3);
    for (int round = 0; round < 2; round++) {
        EXPECT_EQ(kv_result_at(result, 2, &reply), KV_OK);
        EXPECT_TEXT(reply->items[1].data, "y");
        EXPECT_EQ(kv_result_at(result, 0, &reply), KV_OK);
        EXPECT_EQ(reply->integer, 1);
        EXPECT_EQ(kv_result_at(result, 1, &reply), KV_ERR_FAILED);
        EXPECT_TEXT(reply->data, "ERR two");
    }
    EXPECT_EQ(kv_result_at(result, 3, &reply), KV_ERR_INVALID);
}

TEST(kv_async, a_batch_has_one_callback_and_each_result)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen = {0};
    const struct kv_bytes a[] = {kv_text("A"), kv_text("1")};
    const struct kv_bytes b[] = {kv_text("B")};
    const struct kv_words words[] = {{KV_WRITE, a, 2}, {KV_WRITE, b, 1}, {KV_READ, b, 1}};
    const struct kv_callback then = {.done = batch_done, .context = &seen};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    fake_step(&fake, FAKE_REPLY, "-ERR two\r\n");
    fake_step(&fake, FAKE_BYTES, "*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
    world_open(&world, fake.address, 1000);
    CALL(kv_async_batch(world.async, words, 3, &then));
    world_run(&world, &seen.count, 1);
    EXPECT_EQ(seen.err, KV_ERR_FAILED);
    expect_log(&fake, "A 1\nB\nB\n");
    world_close(&world);
    fake_stop(&fake);
}

static bool echo_bytes(const struct slice *args, uint32_t count, struct buf *out)
{
    if (!slice_equal_fold(args[0], "echo") || count != 2) return false;
    resp_put_bulk(out, args[1]);
    return true;
}

struct echo {
    uint32_t left;
    uint32_t done;
    struct world *world;
};

static void echo_done(void *context, const struct kv_result *result)
{
    struct echo *echo = context;
    EXPECT_FALSE(world_now->calling);
    EXPECT_EQ(result->err, KV_OK);
    EXPECT_EQ(result->reply->size, 1000);
    echo->done++;
    if (echo->left == 0) return;
    echo->left--;
    static char value[1000];
    const struct kv_bytes args[] = {kv_text("ECHO"), kv_bytes_of(value, sizeof value)};
    const struct kv_callback then = {.done = echo_done, .context = echo};
    CALL(kv_async_command(echo->world->async, KV_READ, args, 2, &then));
}

TEST(kv_async, thousands_under_way_and_new_ones_from_callbacks)
{
    struct fake fake = {.handler = echo_bytes};
    struct world world;
    static char value[1000];
    const struct kv_bytes args[] = {kv_text("ECHO"), kv_bytes_of(value, sizeof value)};
    fake_start(&fake);
    world_open(&world, fake.address, 20000);
    struct echo echo = {.left = 5000, .world = &world};
    const struct kv_callback then = {.done = echo_done, .context = &echo};
    for (int i = 0; i < 5000; i++) CALL(kv_async_command(world.async, KV_READ, args, 2, &then));
    world_run(&world, &echo.done, 10000);
    EXPECT_EQ(fake_accepted(&fake), 1);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, a_megabyte_goes_and_comes)
{
    struct fake fake = {.handler = echo_bytes};
    struct world world;
    static char value[4000000];
    struct seen seen;
    fake_start(&fake);
    world_open(&world, fake.address, 20000);
    const struct kv_callback then = into(&seen);
    const struct kv_bytes args[] = {kv_text("ECHO"), kv_bytes_of(value, sizeof value)};
    CALL(kv_async_command(world.async, KV_READ, args, 2, &then));
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    world_close(&world);
    fake_stop(&fake);
}

/* ---- refused, failed, unknown ---------------------------------------------------------------- */

TEST(kv_async, a_write_that_was_turned_down_is_repeated)
{
    const char *refusals[] = {"-CLUSTERDOWN no leader\r\n", "-TRYAGAIN busy\r\n",
                              "-LOADING starting\r\n"};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct fake fake = {0};
        struct world world;
        struct seen seen;
        fake_start(&fake);
        fake_step(&fake, FAKE_REPLY, refusals[i]);
        fake_step(&fake, FAKE_REPLY, refusals[i]);
        world_open(&world, fake.address, 2000);
        async_set(&world, "k", "v", &seen);
        world_wait(&world, &seen);
        EXPECT_EQ(seen.err, KV_OK);
        expect_log(&fake, "SET k v\nSET k v\nSET k v\n");
        world_close(&world);
        fake_stop(&fake);
    }
}

TEST(kv_async, a_write_that_nobody_took_is_refused_at_the_deadline)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    fake_start(&fake);
    for (int i = 0; i < FAKE_STEPS_MAX; i++)
        fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
    world_open(&world, fake.address, 300);
    const int64_t begun = now_ms();
    async_set(&world, "k", "v", &seen);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_REFUSED);
    EXPECT_TEXT(seen.message, "CLUSTERDOWN no leader");
    EXPECT_TRUE(now_ms() - begun >= 200);
    EXPECT_TRUE(now_ms() - begun < 1500);
    world_close(&world);
    fake_stop(&fake);
}

static void expect_unknown(enum fake_action action, const char *text)
{
    struct fake fake = {0};
    struct fake other = {0};
    struct world world;
    struct seen seen;
    char nodes[160];
    fake_start(&fake);
    fake_start(&other);
    fake_step(&fake, action, text);
    (void)snprintf(nodes, sizeof nodes, "%s,%s", fake.address, other.address);
    world_open(&world, nodes, 400);
    const struct kv_callback then = into(&seen);
    CALL(kv_async_incr(world.async, kv_text("k"), 1, &then));
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_UNKNOWN);
    EXPECT_TRUE(seen.message[0] != 0);
    expect_log(&fake, "INCRBY k 1\n");
    expect_log(&other, "");
    /* The client goes on. */
    async_set(&world, "k", "v", &seen);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    world_close(&world);
    fake_stop(&other);
    fake_stop(&fake);
}

TEST(kv_async, a_write_without_an_answer_is_unknown_and_sent_once)
{
    expect_unknown(FAKE_RESET, NULL);
    expect_unknown(FAKE_CLOSE, NULL);
    expect_unknown(FAKE_SILENT, NULL);
    expect_unknown(FAKE_CLOSE, ":1");
    expect_unknown(FAKE_CLOSE, "$100\r\nabc");
    expect_unknown(FAKE_REPLY, "garbage\r\n");
    expect_unknown(FAKE_REPLY, ":x\r\n");
    expect_unknown(FAKE_REPLY, "-UNCERTAIN leadership lost, outcome unknown\r\n");
    expect_unknown(FAKE_REPLY, "*0\r\n"); /* An answer, but not one to this question. */
}

static void expect_read_elsewhere(enum fake_action action, const char *text)
{
    struct fake fake = {0};
    struct fake other = {0};
    struct world world;
    struct seen seen;
    char nodes[160];
    fake_start(&fake);
    fake_start(&other);
    fake_step(&fake, action, text);
    fake_step(&other, FAKE_REPLY, FOUND);
    (void)snprintf(nodes, sizeof nodes, "%s,%s", fake.address, other.address);
    world_open(&world, nodes, 1000);
    async_get(&world, "k", &seen);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    EXPECT_TEXT(seen.data, "v");
    expect_log(&fake, "KV.GET k\n");
    expect_log(&other, "KV.GET k\n");
    EXPECT_TEXT(kv_async_address(world.async), other.address);
    world_close(&world);
    fake_stop(&other);
    fake_stop(&fake);
}

TEST(kv_async, a_read_without_an_answer_is_asked_elsewhere)
{
    expect_read_elsewhere(FAKE_RESET, NULL);
    expect_read_elsewhere(FAKE_CLOSE, NULL);
    expect_read_elsewhere(FAKE_SILENT, NULL);
    expect_read_elsewhere(FAKE_CLOSE, "*3\r\n$1\r\nv\r\n:7\r\n");
    expect_read_elsewhere(FAKE_REPLY, "?\r\n");
    expect_read_elsewhere(FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
    expect_read_elsewhere(FAKE_REPLY, "-LOADING\r\n");
}

TEST(kv_async, an_answer_too_many_ends_the_connection)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, "+OK\r\n*3\r\n$5\r\nwrong\r\n:1\r\n:-1\r\n");
    fake_step(&fake, FAKE_REPLY, FOUND);
    world_open(&world, fake.address, 1000);
    async_set(&world, "k", "v", &seen);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    async_get(&world, "k", &seen);
    world_wait(&world, &seen);
    EXPECT_TEXT(seen.data, "v");
    EXPECT_EQ(fake_accepted(&fake), 2);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, a_reply_above_the_limit_fails_that_read)
{
    struct fake fake = {.handler = echo_bytes};
    struct world world;
    struct seen seen;
    static char value[200000];
    struct kv_options options;
    fake_start(&fake);
    kv_options_init(&options);
    options.nodes = fake.address;
    options.reply_size_max = 100000;
    world_open_with(&world, &options);
    const struct kv_bytes args[] = {kv_text("ECHO"), kv_bytes_of(value, sizeof value)};
    const struct kv_callback then = into(&seen);
    CALL(kv_async_command(world.async, KV_READ, args, 2, &then));
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_FAILED);
    EXPECT_TRUE(strstr(seen.message, "too big") != NULL);
    async_set(&world, "k", "v", &seen);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    world_close(&world);
    fake_stop(&fake);
}

/* ---- deadlines and cancelling ---------------------------------------------------------------- */

TEST(kv_async, without_a_node_everything_ends_at_its_own_deadline)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen[2];
    fake_start(&fake);
    fake_stop(&fake);
    world_open(&world, fake.address, 5000);
    struct kv_callback then = into(&seen[0]);
    then.timeout_ms = 300;
    const int64_t begun = now_ms();
    CALL(kv_async_get(world.async, kv_text("k"), &then));
    then = into(&seen[1]);
    then.timeout_ms = 100;
    CALL(kv_async_set(world.async, kv_text("k"), kv_text("v"), NULL, 0, &then));
    world_wait(&world, &seen[1]);
    EXPECT_EQ(seen[0].count, 0);
    EXPECT_EQ(seen[1].err, KV_ERR_TIMEOUT);
    EXPECT_TRUE(strstr(seen[1].message, fake.address) != NULL);
    world_wait(&world, &seen[0]);
    EXPECT_EQ(seen[0].err, KV_ERR_TIMEOUT);
    EXPECT_TRUE(now_ms() - begun >= 300);
    EXPECT_TRUE(now_ms() - begun < 1500);
    EXPECT_TEXT(kv_async_address(world.async), "");
    world_close(&world);
}

TEST(kv_async, cancelled_before_it_is_sent_did_not_happen)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen;
    uint64_t id = 0;
    fake_start(&fake);
    world_open(&world, fake.address, 1000);
    struct kv_callback then = into(&seen);
    then.id = &id;
    CALL(kv_async_set(world.async, kv_text("k"), kv_text("v"), NULL, 0, &then));
    EXPECT_TRUE(id != 0);
    world.calling = true;
    kv_async_cancel(world.async, id);
    kv_async_cancel(world.async, id); /* Twice is once. */
    kv_async_cancel(world.async, 0);
    kv_async_cancel(world.async, id + 77);
    world.calling = false;
    EXPECT_EQ(seen.count, 0);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_ERR_CANCELLED);
    kv_async_cancel(world.async, id);
    async_set(&world, "other", "v", &seen);
    world_wait(&world, &seen);
    EXPECT_EQ(seen.err, KV_OK);
    expect_log(&fake, "SET other v\n");
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, cancelled_on_its_way_a_write_is_unknown_and_a_read_is_not)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen[3];
    uint64_t ids[2] = {0};
    fake_start(&fake);
    world_open(&world, fake.address, 5000);
    async_set(&world, "a", "1", &seen[0]);
    world_wait(&world, &seen[0]);
    fake_step(&fake, FAKE_SILENT, NULL);
    fake_step(&fake, FAKE_SILENT, NULL);
    struct kv_callback then = into(&seen[0]);
    then.id = &ids[0];
    CALL(kv_async_set(world.async, kv_text("b"), kv_text("2"), NULL, 0, &then));
    then = into(&seen[1]);
    then.id = &ids[1];
    CALL(kv_async_get(world.async, kv_text("c"), &then));
    world_idle(&world, 50);
    kv_async_cancel(world.async, ids[0]);
    kv_async_cancel(world.async, ids[1]);
    world_wait(&world, &seen[0]);
    world_wait(&world, &seen[1]);
    EXPECT_EQ(seen[0].err, KV_ERR_UNKNOWN);
    EXPECT_EQ(seen[1].err, KV_ERR_CANCELLED);
    expect_log(&fake, "SET a 1\nSET b 2\nKV.GET c\n");
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, a_late_answer_is_not_taken_for_the_next_one)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen[2];
    uint64_t id = 0;
    fake_start(&fake);
    world_open(&world, fake.address, 5000);
    async_set(&world, "a", "1", &seen[0]);
    world_wait(&world, &seen[0]);
    fake_step(&fake, FAKE_SILENT, NULL);
    /* Both answers come with the second question. */
    fake_step(&fake, FAKE_REPLY,
              "*3\r\n$5\r\nfirst\r\n:1\r\n:-1\r\n*3\r\n$6\r\nsecond\r\n:1\r\n:-1\r\n");
    struct kv_callback then = into(&seen[0]);
    then.id = &id;
    CALL(kv_async_get(world.async, kv_text("a"), &then));
    world_idle(&world, 30);
    kv_async_cancel(world.async, id);
    async_get(&world, "b", &seen[1]);
    world_wait(&world, &seen[1]);
    EXPECT_EQ(seen[0].err, KV_ERR_CANCELLED);
    EXPECT_TEXT(seen[1].data, "second");
    EXPECT_EQ(fake_accepted(&fake), 1);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_async, closing_ends_everything_under_way)
{
    struct fake fake = {0};
    struct world world;
    struct seen seen[4];
    fake_start(&fake);
    world_open(&world, fake.address, 5000);
    async_set(&world, "a", "1", &seen[0]);
    world_wait(&world, &seen[0]);
    fake_step(&fake, FAKE_SILENT, NULL);
    fake_step(&fake, FAKE_SILENT, NULL);
    async_set(&world, "a", "2", &seen[0]);
    async_get(&world, "a", &seen[1]);
    world_idle(&world, 50);
    async_set(&world, "a", "3", &seen[2]); /* Not sent yet. */
    world_close(&world);
    EXPECT_EQ(seen[0].count + seen[1].count + seen[2].count, 3);
    EXPECT_EQ(seen[0].err, KV_ERR_UNKNOWN);
    EXPECT_EQ(seen[1].err, KV_ERR_CANCELLED);
    EXPECT_EQ(seen[2].err, KV_ERR_CANCELLED);
    /* One that never did anything. */
    world_open(&world, fake.address, 5000);
    world_close(&world);
    fake_stop(&fake);
}

struct closer {
    struct world *world;
    struct seen last;
    bool done;
};

static void closes(void *context, const struct kv_result *result)
{
    struct closer *closer = context;
    const struct kv_callback then = into(&closer->last);
    EXPECT_EQ(result->err, KV_OK);
    CALL(kv_async_get(closer->world->async, kv_text("x"), &then));
    kv_async_close(closer->world->async, world_was_closed, closer->world);
    EXPECT_EQ(kv_async_get(closer->world->async, kv_text("y"), &then), KV_ERR_INVALID);
    closer->done = true;
}

TEST(kv_async, a_callback_may_close_the_client)
{
    struct fake fake = {0};
    struct world world;
    struct closer closer = {.world = &world};
    const struct kv_callback then = {.done = closes, .context = &closer};
    fake_start(&fake);
    world_open(&world, fake.address, 5000);
    CALL(kv_async_set(world.async, kv_text("a"), kv_text("1"), NULL, 0, &then));
    while (!world.closed) (void)uv_run(&world.loop, UV_RUN_ONCE);
    EXPECT_TRUE(closer.done);
    EXPECT_EQ(closer.last.count, 1);
    EXPECT_EQ(closer.last.err, KV_ERR_CANCELLED);
    uv_close((uv_handle_t *)&world.limit, NULL);
    (void)uv_run(&world.loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&world.loop), 0);
    fake_stop(&fake);
}
