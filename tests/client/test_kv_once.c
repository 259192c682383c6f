/* Exactly once in the synchronous client: which bytes are sent, what is repeated under which id, and what is not. */
#include "tests/client/kv_tools.h"

static struct kv *connect_once(const char *nodes, int64_t timeout_ms)
{
    struct kv_options options;
    struct kv *kv = NULL;
    kv_options_init(&options);
    options.nodes = nodes;
    options.timeout_ms = timeout_ms;
    options.once = 1;
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    return kv;
}

/* One command "KV.ONCE id sequence rest" of the log; gives where the next one begins. */
static const char *take(const char *log, char *id, uint64_t *sequence, const char *rest)
{
    unsigned long long number = 0;
    int size = 0;
    EXPECT_EQ(sscanf(log, "KV.ONCE %63s %llu %n", id, &number, &size), 2);
    EXPECT_EQ(strlen(id), 36);
    *sequence = number;
    log += size;
    EXPECT_EQ(strncmp(log, rest, strlen(rest)), 0);
    log += strlen(rest);
    EXPECT_EQ(*log, '\n');
    return log + 1;
}

TEST(kv_once, writes_carry_an_id_and_reads_do_not)
{
    struct fake fake = {0};
    char log[2048];
    char ids[4][64];
    uint64_t numbers[4];
    struct kv_value value;
    const struct kv_bytes keys[] = {kv_text("a")};
    const struct kv_bytes command[] = {kv_text("APPEND"), kv_text("k"), kv_text("x")};
    fake_start(&fake);
    struct kv *kv = connect_once(fake.address, 1000);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    EXPECT_EQ(kv_del(kv, keys, 1, NULL), KV_OK);
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    EXPECT_EQ(kv_incr(kv, kv_text("n"), 2, NULL), KV_OK);
    EXPECT_EQ(kv_command(kv, KV_WRITE, command, 3, NULL), KV_OK);
    fake_log(&fake, log, sizeof log);
    const char *at = take(log, ids[0], &numbers[0], "SET k v");
    at = take(at, ids[1], &numbers[1], "DEL a");
    at = take(at, ids[2], &numbers[2], "INCRBY n 2");
    at = take(at, ids[3], &numbers[3], "APPEND k x");
    EXPECT_TEXT(at, "");
    for (int i = 1; i < 4; i++) {
        EXPECT_TEXT(ids[i], ids[0]);
        EXPECT_TRUE(numbers[i] > numbers[i - 1]);
    }
    fake_step(&fake, FAKE_REPLY, FOUND);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_EQ(kv_command(kv, KV_READ, command, 3, NULL), KV_OK);
    EXPECT_EQ(kv_command(kv, KV_WRITE | KV_NOT_ONCE, command, 3, NULL), KV_OK);
    EXPECT_EQ(kv_leader_transfer(kv, "node2"), KV_OK);
    expect_log(&fake, "KV.GET k\nAPPEND k x\nAPPEND k x\nKV.TRANSFER node2\n");
    kv_close(kv);
    /* Another handle is another client. */
    kv = connect_once(fake.address, 1000);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    fake_log(&fake, log, sizeof log);
    (void)take(log, ids[1], &numbers[1], "SET k v");
    EXPECT_TRUE(strcmp(ids[0], ids[1]) != 0);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv_once, a_write_is_repeated_under_its_id_through_any_fault)
{
    struct fake fake = {0};
    struct fake other = {0};
    char nodes[160];
    char log[2048];
    char ids[2][64];
    uint64_t numbers[2];
    int64_t number = 0;
    const struct {
        enum fake_action action;
        const char *text;
    } faults[] = {
        {FAKE_RESET, NULL},
        {FAKE_CLOSE, ":1"},
        {FAKE_SILENT, NULL},
        {FAKE_REPLY, "garbage\r\n"},
        {FAKE_REPLY, "-UNCERTAIN leadership lost, outcome unknown\r\n"},
        {FAKE_REPLY, "-CLUSTERDOWN no leader\r\n"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        fake = (struct fake){0};
        other = (struct fake){0};
        fake_start(&fake);
        fake_start(&other);
        (void)snprintf(nodes, sizeof nodes, "%s,%s", fake.address, other.address);
        struct kv *kv = connect_once(nodes, 2000);
        fake_step(&fake, faults[i].action, faults[i].text);
        fake_step(&fake, FAKE_REPLY, ":7\r\n");
        fake_step(&other, FAKE_REPLY, ":7\r\n");
        EXPECT_EQ(kv_incr(kv, kv_text("n"), 1, &number), KV_OK);
        EXPECT_EQ(number, 7);
        fake_log(&fake, log, sizeof log);
        const char *at = take(log, ids[0], &numbers[0], "INCRBY n 1");
        char second[2048];
        fake_log(&other, second, sizeof second);
        (void)take(*at != 0 ? at : second, ids[1], &numbers[1], "INCRBY n 1");
        EXPECT_TEXT(ids[0], ids[1]);
        EXPECT_EQ(numbers[0], numbers[1]);
        kv_close(kv);
        fake_stop(&other);
        fake_stop(&fake);
    }
}

TEST(kv_once, at_the_deadline_it_is_unknown_if_it_was_ever_sent)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_once(fake.address, 300);
    fake_step(&fake, FAKE_CLOSE, NULL);
    for (int i = 1; i < FAKE_STEPS_MAX; i++) fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN none\r\n");
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_UNKNOWN);
    kv_close(kv);
    fake_stop(&fake);
    /* Never taken by anybody: it did not happen. */
    fake = (struct fake){0};
    fake_start(&fake);
    kv = connect_once(fake.address, 300);
    for (int i = 0; i < FAKE_STEPS_MAX; i++) fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN none\r\n");
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_REFUSED);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv_once, an_error_is_an_answer)
{
    struct fake fake = {0};
    char log[2048];
    char id[64];
    uint64_t number = 0;
    fake_start(&fake);
    struct kv *kv = connect_once(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY, "-WRONGTYPE no\r\n");
    EXPECT_EQ(kv_incr(kv, kv_text("n"), 1, NULL), KV_ERR_FAILED);
    fake_log(&fake, log, sizeof log);
    EXPECT_TEXT(take(log, id, &number, "INCRBY n 1"), "");
    kv_close(kv);
    fake_stop(&fake);
}

/* The client ids in flight together are all different, and no write of a list goes before all of an earlier part. */
TEST(kv_once, a_pipeline_goes_in_parts_that_fit_its_slots)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    static char log[1 << 20];
    static char ids[600][64];
    uint64_t last = 0;
    fake_start(&fake);
    struct kv *kv = connect_once(fake.address, 10000);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    for (int round = 0; round < 2; round++) { /* The same list again is other writes. */
        if (round == 0) {
            for (int i = 0; i < 600; i++) add(pipeline, KV_WRITE, "A", "1");
        }
        EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
        fake_log(&fake, log, sizeof log);
        const char *at = log;
        for (int i = 0; i < 600; i++) {
            uint64_t number = 0;
            at = take(at, ids[i], &number, "A 1");
            EXPECT_TRUE(number > last);
            last = number;
            if (i % 256 != 0) EXPECT_TRUE(strcmp(ids[i], ids[i - 1]) != 0);
            if (i >= 256) EXPECT_TEXT(ids[i], ids[i - 256]);
        }
        EXPECT_TEXT(at, "");
    }
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv_once, a_pipeline_that_breaks_goes_on_where_it_was)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    char log[4096];
    char ids[5][64];
    uint64_t numbers[5];
    fake_start(&fake);
    struct kv *kv = connect_once(fake.address, 2000);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    add(pipeline, KV_WRITE, "A", "1");
    add(pipeline, KV_WRITE, "B", "2");
    add(pipeline, KV_WRITE, "C", "3");
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    fake_step(&fake, FAKE_CLOSE, NULL);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
    fake_log(&fake, log, sizeof log);
    const char *at = take(log, ids[0], &numbers[0], "A 1");
    at = take(at, ids[1], &numbers[1], "B 2");
    at = take(at, ids[2], &numbers[2], "B 2");
    at = take(at, ids[3], &numbers[3], "C 3");
    EXPECT_TEXT(at, "");
    EXPECT_TEXT(ids[1], ids[2]);
    EXPECT_EQ(numbers[1], numbers[2]);
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}
