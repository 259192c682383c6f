/* The asynchronous client against two nodes that fail in every way, at random from a seed: each operation ends once,
 * and what it says is true. A node applies an increment or not, and answers, refuses, is silent, breaks off. */
#include "storage/base/prng.h"
#include "tests/client/async_tools.h"

#define OPERATIONS 600u
#define TOGETHER 24u
#define REMEMBERED 4096u

/* What the nodes share: they are one cluster. */
static struct {
    pthread_mutex_t mutex;
    struct prng prng;
    uint32_t applied[OPERATIONS];
    char remembered[REMEMBERED][64]; /* "id sequence" of KV.ONCE */
    uint32_t remembered_count;
} cluster = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The server keeps the last answer of each id only. */
static bool is_old(const struct slice *args)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s ", (int)args[1].size, (const char *)args[1].data);
    for (uint32_t i = 0; i < cluster.remembered_count; i++) {
        const char *kept = cluster.remembered[i];
        if (strncmp(kept, name, strlen(name)) != 0) continue;
        if (memcmp(kept + strlen(name), args[2].data, args[2].size) > 0) return true;
    }
    return false;
}

static bool is_new(const struct slice *args)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s %.*s", (int)args[1].size, (const char *)args[1].data,
                   (int)args[2].size, (const char *)args[2].data);
    for (uint32_t i = 0; i < cluster.remembered_count; i++) {
        if (strcmp(cluster.remembered[i], name) == 0) return false;
    }
    CHECK(cluster.remembered_count < REMEMBERED);
    memcpy(cluster.remembered[cluster.remembered_count++], name, sizeof name);
    return true;
}

static void apply(const struct slice *args, uint32_t count)
{
    const bool once = slice_equal_fold(args[0], "kv.once");
    const struct slice key = args[count - 2];
    int64_t number = 0;
    CHECK(slice_int64(key, &number) && number >= 0 && number < OPERATIONS);
    if (once && !is_new(args)) return;
    cluster.applied[number]++;
}

static struct fake_step fail_somehow(const struct slice *args, uint32_t count)
{
    static const struct {
        uint32_t weight;
        bool applies;
        struct fake_step step;
    } ways[] = {
        {70, true, {FAKE_REPLY, ":1\r\n"}},
        {4, true, {FAKE_CLOSE, NULL}},
        {2, true, {FAKE_RESET, NULL}},
        {2, true, {FAKE_SILENT, NULL}},
        {2, true, {FAKE_CLOSE, ":1\r"}},
        {2, true, {FAKE_REPLY, "-UNCERTAIN leadership lost, outcome unknown\r\n"}},
        {2, false, {FAKE_REPLY, "-UNCERTAIN leadership lost, outcome unknown\r\n"}},
        {2, false, {FAKE_CLOSE, NULL}},
        {1, false, {FAKE_SILENT, NULL}},
        {5, false, {FAKE_REPLY, "-CLUSTERDOWN no leader\r\n"}},
        {5, false, {FAKE_REPLY, "-TRYAGAIN busy\r\n"}},
        {3, false, {FAKE_REPLY, "-ERR no\r\n"}},
    };
    (void)pthread_mutex_lock(&cluster.mutex);
    uint64_t dice = prng_below(&cluster.prng, 100);
    uint32_t way = 0;
    while (dice >= ways[way].weight) dice -= ways[way++].weight;
    /* What was done is answered the same again: an error is an answer, too. */
    const bool once = slice_equal_fold(args[0], "kv.once");
    if (once && strncmp(ways[way].step.text != NULL ? ways[way].step.text : "", "-ERR", 4) == 0) {
        way = 0;
    }
    const bool old = once && is_old(args);
    if (ways[way].applies && !old) apply(args, count);
    (void)pthread_mutex_unlock(&cluster.mutex);
    return old ? (struct fake_step){FAKE_REPLY, "-ERR an older sequence\r\n"} : ways[way].step;
}

struct chaos {
    struct world *world;
    struct prng prng;
    uint32_t begun;
    uint32_t ended;
    uint32_t results[KV_ERR_COMPACTED + 1];
    uint64_t ids[OPERATIONS];
    bool once;
};
static struct chaos chaos;

struct number {
    uint32_t at;
    uint32_t count;
};
static struct number numbers[OPERATIONS];

static void begin_one(void);

static void one_ended(void *context, const struct kv_result *result)
{
    struct number *number = context;
    EXPECT_FALSE(world_now->calling);
    EXPECT_EQ(number->count++, 0);
    chaos.ended++;
    chaos.results[result->err]++;
    (void)pthread_mutex_lock(&cluster.mutex);
    const uint32_t applied = cluster.applied[number->at];
    (void)pthread_mutex_unlock(&cluster.mutex);
    if (result->err == KV_OK) {
        EXPECT_EQ(applied, 1);
    } else if (result->err == KV_ERR_UNKNOWN) {
        EXPECT_TRUE(applied <= 1);
    } else {
        EXPECT_EQ(applied, 0); /* It says that it did not happen. */
    }
    begin_one();
    if (prng_below(&chaos.prng, 10) > 0) return;
    kv_async_cancel(chaos.world->async, chaos.ids[prng_below(&chaos.prng, chaos.begun)]);
}

static void begin_one(void)
{
    char key[16];
    if (chaos.begun == OPERATIONS) return;
    struct number *number = &numbers[chaos.begun];
    *number = (struct number){.at = chaos.begun};
    const struct kv_callback then = {
        .done = one_ended,
        .context = number,
        .timeout_ms = chaos.once ? 800 : 50 + (int64_t)prng_below(&chaos.prng, 200),
        .id = &chaos.ids[chaos.begun++]};
    (void)snprintf(key, sizeof key, "%u", number->at);
    CALL(kv_async_incr(chaos.world->async, kv_text(key), 1, &then));
}

static void run_chaos(uint64_t seed, bool once)
{
    struct fake fake = {.chooser = fail_somehow};
    struct fake other = {.chooser = fail_somehow};
    struct world world;
    struct kv_options options;
    char nodes[160];
    cluster.prng = prng_seed(seed);
    cluster.remembered_count = 0;
    memset(cluster.applied, 0, sizeof cluster.applied);
    chaos = (struct chaos){.world = &world, .prng = prng_seed(seed + 1), .once = once};
    fake_start(&fake);
    fake_start(&other);
    (void)snprintf(nodes, sizeof nodes, "%s,%s", fake.address, other.address);
    kv_options_init(&options);
    options.nodes = nodes;
    options.once = once;
    world_open_with(&world, &options);
    for (uint32_t i = 0; i < TOGETHER; i++) begin_one();
    world_run(&world, &chaos.ended, OPERATIONS);
    world_close(&world);
    /* What was under way in a node when it was given up may be applied later, but never twice. */
    fake_stop(&fake);
    fake_stop(&other);
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        EXPECT_EQ(numbers[i].count, 1);
        EXPECT_TRUE(cluster.applied[i] <= 1);
    }
    EXPECT_TRUE(chaos.results[KV_OK] > OPERATIONS / 4);
    EXPECT_TRUE(chaos.results[KV_ERR_UNKNOWN] > 0);
}

TEST(kv_chaos, nothing_happens_twice_and_every_result_is_true)
{
    for (uint64_t seed = 1; seed <= 2; seed++) run_chaos(seed, false);
}

TEST(kv_chaos, with_ids_as_well_and_more_of_it_succeeds)
{
    run_chaos(3, true);
    EXPECT_TRUE(chaos.results[KV_OK] > OPERATIONS * 3 / 4);
    EXPECT_EQ(chaos.results[KV_ERR_FAILED], 0);
}
