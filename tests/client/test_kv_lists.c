/* The client library: pipelines, scans, and memory that runs out anywhere. */
#include "tests/client/kv_tools.h"

/* ---- transactions ---------------------------------------------------------------------------- */

TEST(kv, a_transaction_is_one_command)
{
    struct fake fake = {0};
    const struct kv_reply *replies = NULL;
    int held = 0;
    const struct kv_condition conditions[] = {
        {.kind = KV_IF_VALUE, .key = kv_text("a"), .value = kv_text("1")},
        {.kind = KV_IF_REVISION, .comparison = KV_LESS, .key = kv_text("b"), .revision = 42},
        {.kind = KV_IF_VALUE,
         .comparison = KV_NOT_EQUAL,
         .key = kv_text("c"),
         .value = kv_text("")},
        {.kind = KV_IF_REVISION, .comparison = KV_GREATER, .key = kv_text("d")},
        {.kind = KV_IF_EXISTS, .key = kv_text("e")},
        {.kind = KV_IF_ABSENT, .key = kv_text("f")},
    };
    const struct kv_bytes put[] = {kv_text("SET"), kv_text("k"), kv_text("v")};
    const struct kv_bytes take[] = {kv_text("GET"), kv_text("k")};
    const struct kv_words then[] = {{.args = put, .count = 3}, {.args = take, .count = 2}};
    const struct kv_words otherwise[] = {{.args = take, .count = 2}};
    struct kv_txn txn = {.conditions = conditions,
                         .condition_count = 6,
                         .then = then,
                         .then_count = 2,
                         .otherwise = otherwise,
                         .otherwise_count = 1};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY, "*2\r\n:1\r\n*2\r\n+OK\r\n$1\r\nv\r\n");
    EXPECT_EQ(kv_txn(kv, &txn, &held, &replies), KV_OK);
    EXPECT_EQ(held, 1);
    EXPECT_EQ(replies->count, 2);
    EXPECT_TEXT(replies->items[1].data, "v");
    expect_log(&fake, "KV.TXN IF 6 VALUE a = 1 REVISION b < 42 VALUE c !=  REVISION d > 0 EXISTS e "
                      "ABSENT f THEN 2 3 SET k v 2 GET k ELSE 1 2 GET k\n");
    txn = (struct kv_txn){.then = otherwise, .then_count = 1};
    fake_step(&fake, FAKE_REPLY, "*2\r\n:0\r\n*0\r\n");
    EXPECT_EQ(kv_txn(kv, &txn, &held, NULL), KV_OK);
    EXPECT_EQ(held, 0);
    fake_step(&fake, FAKE_CLOSE, NULL); /* It may have happened, and is not repeated. */
    EXPECT_EQ(kv_txn(kv, &txn, NULL, NULL), KV_ERR_UNKNOWN);
    expect_log(&fake, "KV.TXN THEN 1 2 GET k\nKV.TXN THEN 1 2 GET k\n");
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    EXPECT_EQ(kv_txn(kv, &txn, NULL, NULL), KV_ERR_UNKNOWN);
    const struct kv_words empty = {.args = take};
    txn.then = &empty;
    EXPECT_EQ(kv_txn(kv, &txn, NULL, NULL), KV_ERR_INVALID);
    struct kv_condition wrong = {.kind = (enum kv_condition_kind)9};
    txn = (struct kv_txn){.conditions = &wrong, .condition_count = 1};
    EXPECT_EQ(kv_txn(kv, &txn, NULL, NULL), KV_ERR_INVALID);
    kv_close(kv);
    fake_stop(&fake);
}

/* ---- pipelines ------------------------------------------------------------------------------- */

/* A client of one node, and a pipeline of it. */
struct piped {
    struct fake fake;
    struct kv *kv;
    struct kv_pipeline *pipeline;
};

static void piped_open(struct piped *piped, int64_t timeout_ms)
{
    *piped = (struct piped){.kv = NULL};
    fake_start(&piped->fake);
    piped->kv = connect_to(piped->fake.address, timeout_ms);
    EXPECT_EQ(kv_pipeline_create(piped->kv, &piped->pipeline), KV_OK);
}

static void piped_close(struct piped *piped)
{
    kv_pipeline_destroy(piped->pipeline);
    kv_close(piped->kv);
    fake_stop(&piped->fake);
}

TEST(kv, a_pipeline_gives_each_reply)
{
    struct piped piped;
    const struct kv_reply *reply = NULL;
    piped_open(&piped, 1000);
    EXPECT_EQ(kv_pipeline_execute(piped.pipeline), KV_OK); /* An empty one. */
    add(piped.pipeline, KV_WRITE, "A", "1");
    add(piped.pipeline, KV_WRITE, "B", "2");
    add(piped.pipeline, KV_READ, "C", "3");
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 0, &reply), KV_ERR_INVALID); /* Not run yet. */
    fake_step(&piped.fake, FAKE_REPLY, "$3\r\none\r\n");
    fake_step(&piped.fake, FAKE_REPLY, "-ERR two\r\n");
    fake_step(&piped.fake, FAKE_REPLY, "*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
    EXPECT_EQ(kv_pipeline_execute(piped.pipeline), KV_ERR_FAILED);
    EXPECT_TEXT(kv_message(piped.kv), "ERR two");
    EXPECT_EQ(kv_pipeline_count(piped.pipeline), 3);
    for (int round = 0; round < 2; round++) { /* In any order, and again. */
        EXPECT_EQ(kv_pipeline_result(piped.pipeline, 2, &reply), KV_OK);
        EXPECT_TEXT(reply->items[1].data, "y");
        EXPECT_EQ(kv_pipeline_result(piped.pipeline, 0, &reply), KV_OK);
        EXPECT_TEXT(reply->data, "one");
        EXPECT_EQ(kv_pipeline_result(piped.pipeline, 1, &reply), KV_ERR_FAILED);
        EXPECT_TEXT(reply->data, "ERR two");
    }
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 3, &reply), KV_ERR_INVALID);
    add(piped.pipeline, KV_WRITE, "D", "4"); /* Begins a new list. */
    EXPECT_EQ(kv_pipeline_count(piped.pipeline), 1);
    EXPECT_EQ(kv_pipeline_execute(piped.pipeline), KV_OK);
    expect_log(&piped.fake, "A 1\nB 2\nC 3\nD 4\n");
    piped_close(&piped);
}

TEST(kv, a_pipeline_repeats_only_a_tail_that_was_turned_down)
{
    struct piped piped;
    const struct kv_reply *reply = NULL;
    piped_open(&piped, 1000);
    add(piped.pipeline, KV_WRITE, "A", "1");
    add(piped.pipeline, KV_WRITE, "B", "2");
    add(piped.pipeline, KV_WRITE, "C", "3");
    add(piped.pipeline, KV_WRITE, "D", "4");
    fake_step(&piped.fake, FAKE_REPLY, "-TRYAGAIN a\r\n");
    fake_step(&piped.fake, FAKE_REPLY, ":2\r\n");
    fake_step(&piped.fake, FAKE_REPLY, "-TRYAGAIN c\r\n");
    fake_step(&piped.fake, FAKE_REPLY, "-TRYAGAIN d\r\n");
    fake_step(&piped.fake, FAKE_REPLY, ":3\r\n");
    fake_step(&piped.fake, FAKE_REPLY, ":4\r\n");
    EXPECT_EQ(kv_pipeline_execute(piped.pipeline), KV_ERR_REFUSED);
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 0, &reply),
              KV_ERR_REFUSED); /* B took effect behind it. */
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 1, &reply), KV_OK);
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 2, &reply), KV_OK);
    EXPECT_EQ(reply->integer, 3);
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 3, &reply), KV_OK);
    EXPECT_EQ(reply->integer, 4);
    expect_log(&piped.fake, "A 1\nB 2\nC 3\nD 4\nC 3\nD 4\n");
    piped_close(&piped);
}

TEST(kv, a_pipeline_that_breaks_knows_what_each_command_is)
{
    struct piped piped;
    piped_open(&piped, 500);
    add(piped.pipeline, KV_WRITE, "A", "1");
    add(piped.pipeline, KV_WRITE, "B", "2");
    add(piped.pipeline, KV_READ, "C", "3");
    fake_step(&piped.fake, FAKE_REPLY, ":1\r\n");
    fake_step(&piped.fake, FAKE_CLOSE, NULL);
    EXPECT_EQ(kv_pipeline_execute(piped.pipeline), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 0, NULL), KV_OK);
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 1, NULL), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(piped.pipeline, 2, NULL), KV_ERR_TIMEOUT);
    expect_log(&piped.fake, "A 1\nB 2\n"); /* Nothing is repeated behind an unknown write. */
    add(piped.pipeline, KV_WRITE, "A", "1");
    add(piped.pipeline, KV_READ, "B", "2");
    add(piped.pipeline, KV_READ, "C", "3");
    fake_step(&piped.fake, FAKE_REPLY, ":1\r\n");
    fake_step(&piped.fake, FAKE_CLOSE, NULL);
    EXPECT_EQ(kv_pipeline_execute(piped.pipeline), KV_OK);
    expect_log(&piped.fake, "A 1\nB 2\nB 2\nC 3\n"); /* Reads are. */
    piped_close(&piped);
}

static bool echo_bytes(const struct slice *args, uint32_t count, struct buf *out)
{
    if (count != 2) return false;
    resp_put_bulk(out, args[1]);
    return true;
}

TEST(kv, a_pipeline_larger_than_all_buffers_does_not_jam)
{
    struct fake fake = {.handler = echo_bytes};
    struct kv_pipeline *pipeline = NULL;
    static char value[1000];
    memset(value, 'x', sizeof value);
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 20000);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    for (int i = 0; i < 20000; i++) {
        const struct kv_bytes args[] = {kv_text("ECHO"), kv_bytes_of(value, sizeof value)};
        EXPECT_EQ(kv_pipeline_add(pipeline, KV_WRITE, args, 2), KV_OK);
    }
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
    for (size_t i = 0; i < 20000; i += 999) {
        const struct kv_reply *reply = NULL;
        EXPECT_EQ(kv_pipeline_result(pipeline, i, &reply), KV_OK);
        EXPECT_EQ(reply->size, sizeof value);
    }
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, commands_that_were_not_wholly_sent_did_not_happen)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    const size_t size = 24u * 1024 * 1024;
    char *value = calloc(1, size);
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 400);
    const struct kv_bytes big[] = {kv_text("SET"), kv_text("big"), kv_bytes_of(value, size)};
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    add(pipeline, KV_WRITE, "A", "1");
    EXPECT_EQ(kv_pipeline_add(pipeline, KV_WRITE, big, 3), KV_OK);
    fake_step(&fake, FAKE_RESET, NULL);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(pipeline, 0, NULL), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(pipeline, 1, NULL), KV_ERR_TIMEOUT);
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
    free(value);
}

TEST(kv, an_answer_before_its_question_is_not_believed)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    const size_t size = 24u * 1024 * 1024;
    char *value = calloc(1, size);
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 10000);
    const struct kv_bytes big[] = {kv_text("SET"), kv_text("big"), kv_bytes_of(value, size)};
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    add(pipeline, KV_WRITE, "A", "1");
    EXPECT_EQ(kv_pipeline_add(pipeline, KV_WRITE, big, 3), KV_OK);
    fake_step(&fake, FAKE_REPLY,
              "+OK\r\n+OK\r\n"); /* The second one while "SET big" is on its way. */
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
    (void)pthread_mutex_lock(&fake.mutex);
    EXPECT_TRUE(fake.log.size > size); /* It was repeated, and arrived. */
    (void)pthread_mutex_unlock(&fake.mutex);
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
    free(value);
}

/* ---- scans ----------------------------------------------------------------------------------- */

/* A store of the keys k000 to k299, with "\xff" and "\xff\xff" at the end; pages as the command gives them. */
static bool range_of_300(const struct slice *args, uint32_t count, struct buf *out)
{
    static char names[302][8];
    struct slice chosen[302];
    uint32_t chosen_count = 0;
    int64_t limit = INT64_MAX;
    bool reverse = false;
    bool keys = false;
    bool tells = false;
    if (!slice_equal_fold(args[0], "kv.range")) return false;
    for (uint32_t i = 3; i < count; i++) {
        if (slice_equal_fold(args[i], "limit")) CHECK(slice_int64(args[++i], &limit));
        if (slice_equal_fold(args[i], "reverse")) reverse = true;
        if (slice_equal_fold(args[i], "keys")) keys = true;
        if (slice_equal_fold(args[i], "revision")) tells = true;
        if (slice_equal_fold(args[i], "at")) CHECK(slice_equal_fold(args[++i], "77"));
    }
    for (uint32_t i = 0; i < 302; i++) {
        const uint32_t at = reverse ? 301 - i : i;
        (void)snprintf(names[at], sizeof names[at], "k%03u", at);
        if (at >= 300) (void)snprintf(names[at], sizeof names[at], at == 300 ? "\xff" : "\xff\xff");
        const struct slice name = slice_text(names[at]);
        if (slice_compare(name, args[1]) < 0) continue;
        if (args[2].size > 0 && slice_compare(name, args[2]) >= 0) continue;
        if (chosen_count < (uint64_t)limit) chosen[chosen_count++] = name;
    }
    if (tells) resp_put_array(out, 2);
    if (tells) resp_put_int(out, 77); /* Every page behind the first one has to say so. */
    resp_put_array(out, chosen_count);
    for (uint32_t i = 0; i < chosen_count; i++) {
        if (!keys) resp_put_array(out, 3);
        resp_put_bulk(out, chosen[i]);
        if (keys) continue;
        resp_put_bulk(out, chosen[i]);
        resp_put_int(out, i + 1);
    }
    return true;
}

/* First key, last key and how many there were: "k000 k299 300". */
static void expect_scan(struct kv *kv, const struct kv_scan_options *options, const char *want)
{
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    char first[16] = "-";
    char last[16] = "-";
    char got[64];
    uint32_t count = 0;
    EXPECT_EQ(kv_scan_open(kv, options, &scan), KV_OK);
    enum kv_err err = kv_scan_next(scan, &entry);
    for (; err == KV_OK; err = kv_scan_next(scan, &entry)) {
        if (count == 0) (void)snprintf(first, sizeof first, "%s", entry.key);
        if (options != NULL && options->keys_only) {
            EXPECT_TRUE(entry.value.data == NULL);
        } else {
            EXPECT_TEXT(entry.key, entry.value.data);
            EXPECT_TRUE(entry.value.revision > 0);
        }
        if (count > 0) {
            const int order = strcmp(entry.key, last);
            EXPECT_TRUE(options != NULL && options->reverse ? order < 0 : order > 0);
        }
        (void)snprintf(last, sizeof last, "%s", entry.key);
        count++;
    }
    EXPECT_EQ(err, KV_ERR_NOT_FOUND);
    EXPECT_EQ(kv_scan_next(scan, &entry), KV_ERR_NOT_FOUND);
    (void)snprintf(got, sizeof got, "%s %s %u", first, last, count);
    EXPECT_TEXT(got, want);
    kv_scan_close(scan);
}

TEST(kv, scan_goes_through_all_pages)
{
    struct fake fake = {.handler = range_of_300};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    struct kv_scan_options options = {.limit = 0};
    expect_scan(kv, NULL, "k000 \xff\xff 302");
    expect_log(&fake, "KV.RANGE   LIMIT 32 REVISION\nKV.RANGE k031"); /* cut at the zero byte */
    options.reverse = 1;
    expect_scan(kv, &options, "\xff\xff k000 302");
    options.prefix = kv_text("k1");
    expect_scan(kv, &options, "k199 k100 100");
    options.reverse = 0;
    options.keys_only = 1;
    expect_scan(kv, &options, "k100 k199 100");
    options.limit = 40;
    expect_scan(kv, &options, "k100 k139 40");
    options.from = kv_text("k150");
    options.to = kv_text("k160");
    expect_scan(kv, &options, "k150 k159 10");
    options.to = kv_text("k9");
    options.limit = 0;
    expect_scan(kv, &options, "k150 k199 50");
    options.prefix = kv_text("\xff");
    options.from = kv_text("");
    options.to = kv_text("");
    expect_scan(kv, &options, "\xff \xff\xff 2");
    options.prefix = kv_text("zz");
    options.to = kv_text("a");
    expect_scan(kv, &options, "- - 0");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, other_calls_may_come_between_the_steps_of_a_scan)
{
    struct fake fake = {.handler = range_of_300};
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_EQ(kv_scan_open(kv, NULL, &scan), KV_OK);
    for (int i = 0; i < 100; i++) {
        char want[8];
        (void)snprintf(want, sizeof want, "k%03d", i);
        EXPECT_EQ(kv_scan_next(scan, &entry), KV_OK);
        if (i == 40) fake_hang_up(&fake);
        EXPECT_EQ(set(kv, "other", "v"), KV_OK);
        EXPECT_TEXT(entry.key, want);
    }
    kv_scan_close(scan);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, a_scan_that_gets_nonsense_ends)
{
    const char *replies[] = {"+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*1\r\n+k\r\n",
                             "*1\r\n*3\r\n+a\r\n+v\r\n:1\r\n", "*1\r\n*3\r\n+n\r\n:1\r\n:1\r\n"};
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 500);
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        const struct kv_scan_options options = {.from = kv_text("m")};
        struct kv_scan *scan = NULL;
        struct kv_entry entry;
        fake_step(&fake, FAKE_REPLY, replies[i]);
        EXPECT_EQ(kv_scan_open(kv, &options, &scan), KV_OK);
        EXPECT_EQ(kv_scan_next(scan, &entry), KV_ERR_FAILED);
        kv_scan_close(scan);
    }
    kv_close(kv);
    fake_stop(&fake);
}

/* ---- memory ---------------------------------------------------------------------------------- */

struct meter {
    int64_t left;  /* allocations that are still granted; below 0: all */
    int64_t alive; /* blocks */
};

static void *meter_resize(void *context, void *pointer, size_t size)
{
    struct meter *meter = context;
    if (size == 0) {
        if (pointer != NULL) meter->alive--;
        free(pointer);
        return NULL;
    }
    if (meter->left == 0) return NULL;
    if (meter->left > 0) meter->left--;
    if (pointer == NULL) meter->alive++;
    return realloc(pointer, size);
}

static void expect_ok_or_no_memory(enum kv_err err, bool *done)
{
    EXPECT_TRUE(err == KV_OK || err == KV_ERR_NOMEM);
    if (err != KV_OK) *done = false;
}

/* Every kind of call once; false when memory ran out somewhere. */
static bool use_everything(struct fake *fake, struct kv *kv)
{
    struct kv_scan *scan = NULL;
    struct kv_pipeline *pipeline = NULL;
    struct kv_value value;
    struct kv_entry entry;
    struct kv_cluster cluster;
    const struct kv_bytes key = kv_text("k");
    char log[4096];
    bool done = true;
    fake_log(fake, log, sizeof log);
    enum kv_err err = set(kv, "k", "v");
    fake_log(fake, log, sizeof log);
    EXPECT_TEXT(log, err == KV_OK ? "SET k v\n" : ""); /* Without memory it did not happen. */
    expect_ok_or_no_memory(err, &done);
    err = kv_del(kv, &key, 1, NULL);
    fake_log(fake, log, sizeof log);
    EXPECT_TEXT(log, err == KV_OK ? "DEL k\n" : "");
    expect_ok_or_no_memory(err, &done);
    expect_ok_or_no_memory(get(kv, "k", &value), &done);
    err = kv_scan_open(kv, NULL, &scan);
    if (err == KV_OK) err = kv_scan_next(scan, &entry);
    expect_ok_or_no_memory(err, &done);
    kv_scan_close(scan);
    err = kv_pipeline_create(kv, &pipeline);
    if (err == KV_OK) err = kv_pipeline_add(pipeline, KV_WRITE, &key, 1);
    if (err == KV_OK) err = kv_pipeline_execute(pipeline);
    expect_ok_or_no_memory(err, &done);
    kv_pipeline_destroy(pipeline);
    expect_ok_or_no_memory(kv_status(kv, &cluster), &done);
    return done;
}

static bool answers(const struct slice *args, uint32_t count, struct buf *out)
{
    if (range_of_300(args, count, out)) return true;
    if (slice_equal_fold(args[0], "kv.get")) {
        buf_text(out, FOUND);
        return true;
    }
    if (slice_equal_fold(args[0], "kv.status")) {
        buf_text(out, STATUS("leader", "1", "2", "2"));
        return true;
    }
    if (!slice_equal_fold(args[0], "del")) return false;
    resp_put_int(out, 1);
    return true;
}

/* The rest of a range was not kept while it was told. */
TEST(kv, a_scan_whose_range_breaks_off_is_compacted)
{
    const char *replies[] = {
        "*2\r\n:9\r\n*3\r\n*3\r\n$1\r\nn\r\n$1\r\nv\r\n:1\r\n-COMPACTED revision 9 is "
        "gone\r\n$-1\r\n",
        "*2\r\n:9\r\n*2\r\n*3\r\n$1\r\nn\r\n$1\r\nv\r\n:1\r\n-COMPACTED revision 9 is gone\r\n"};
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 500);
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        const struct kv_scan_options options = {.from = kv_text("m")};
        struct kv_scan *scan = NULL;
        struct kv_entry entry;
        fake_step(&fake, FAKE_REPLY, replies[i]);
        EXPECT_EQ(kv_scan_open(kv, &options, &scan), KV_OK);
        EXPECT_EQ(kv_scan_next(scan, &entry), KV_ERR_COMPACTED);
        EXPECT_TEXT(kv_message(kv), "COMPACTED revision 9 is gone");
        kv_scan_close(scan);
    }
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, memory_that_runs_out_anywhere_is_reported_and_nothing_leaks)
{
    struct fake fake = {.handler = answers};
    bool done = false;
    int64_t granted = 0;
    fake_start(&fake);
    (void)snprintf(fake.members, sizeof fake.members,
                   "*1\r\n*6\r\n+n\r\n+1\r\n+p:1\r\n$%zu\r\n%s\r\n+voter\r\n:1\r\n",
                   strlen(fake.address), fake.address);
    for (; !done && granted < 500; granted++) {
        struct meter meter = {.left = granted};
        struct kv_options options;
        struct kv *kv = NULL;
        kv_options_init(&options);
        options.nodes = fake.address;
        options.allocator = (struct kv_allocator){.resize = meter_resize, .context = &meter};
        const enum kv_err err = kv_connect(&options, &kv);
        EXPECT_TRUE(err == KV_OK || err == KV_ERR_NOMEM);
        EXPECT_TRUE((kv == NULL) == (err == KV_ERR_NOMEM));
        if (kv != NULL) done = use_everything(&fake, kv);
        kv_close(kv);
        EXPECT_EQ(meter.alive, 0);
    }
    EXPECT_TRUE(done);
    EXPECT_TRUE(granted > 10);
    fake_stop(&fake);
}

TEST(kv, a_reply_over_the_limit_fails_and_the_handle_goes_on)
{
    struct fake fake = {0};
    struct kv_options options;
    struct kv_value value;
    struct kv *kv = NULL;
    const uint64_t size = 300000;
    struct buf big = {0};
    buf_text(&big, "*3\r\n$300000\r\n");
    memset(buf_extend(&big, size), 'x', size);
    buf_text(&big, "\r\n:1\r\n:-1\r\n");
    buf_u8(&big, 0);
    fake_start(&fake);
    kv_options_init(&options);
    options.nodes = fake.address;
    options.reply_size_max = 65536;
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    fake_step(&fake, FAKE_REPLY, (const char *)big.data);
    EXPECT_EQ(get(kv, "k", &value), KV_ERR_FAILED);
    fake_step(&fake, FAKE_REPLY, FOUND);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    kv_close(kv);
    options.reply_size_max = 0; /* the default, which is larger */
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    fake_step(&fake, FAKE_REPLY, (const char *)big.data);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_EQ(value.size, size);
    kv_close(kv);
    fake_stop(&fake);
    buf_close(&big);
}

TEST(kv, names_of_errors)
{
    EXPECT_TEXT(kv_err_name(KV_OK), "ok");
    EXPECT_TEXT(kv_err_name(KV_ERR_NOMEM), "no_memory");
    EXPECT_TEXT(kv_err_name((enum kv_err)99), "no_such_error");
    EXPECT_TRUE(kv_version()[0] != 0);
    EXPECT_TRUE(kv_message(NULL)[0] != 0);
    kv_close(NULL);
    kv_scan_close(NULL);
    kv_pipeline_destroy(NULL);
}
