/* Tests of commands within commands: one view, one entry, and everything undone when one of them cannot go on. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#include "node/core_parts.h"
#include "node/eval_nested.h"

#define PARTS_MAX 8

struct world {
    struct fixture f;
    struct eval eval;
    struct eval_mark mark;
    struct buf out;
};

/* As shard_evaluate would begin. */
static void begin(struct world *w)
{
    struct shard *shard = &w->f.core->shard;
    const struct command *command = command_find(slice_text("mset"));
    w->out.size = 0;
    w->eval = (struct eval){.core = w->f.core,
                            .shard = shard,
                            .session = fixture_client(&w->f, 0)->session,
                            .command = command,
                            .out = &w->out,
                            .protocol = 2,
                            .now_ms = shard->clock_ms,
                            .gone_ms = shard->clock_ms};
    shard->value_left = UINT64_MAX;
    eval_mark(&w->eval, &w->mark);
}

static void world_open(struct world *w)
{
    *w = (struct world){0};
    fixture_open_sized(&w->f, 64 * KIB);
    (void)fixture_client(&w->f, 0);
    begin(w);
}

static void world_close(struct world *w)
{
    buf_close(&w->out);
    fixture_close(&w->f);
}

/* One part, words between spaces. */
static bool part(struct world *w, const char *line)
{
    struct slice args[PARTS_MAX];
    uint32_t count = 0;
    while (*line != 0) {
        const uint64_t size = strcspn(line, " ");
        CHECK(count < PARTS_MAX);
        args[count++] = slice_of(line, size);
        line += size;
        line += *line == ' ';
    }
    return eval_nested(&w->eval, args, count, &w->out);
}

static const char *text(struct world *w)
{
    buf_u8(&w->out, 0);
    w->out.size--;
    return (const char *)w->out.data;
}

TEST(nested, parts_see_each_other_and_share_one_entry)
{
    struct world w;
    world_open(&w);
    const uint64_t number = w.f.core->shard.batches.open->number;
    EXPECT_TRUE(part(&w, "SET k 1"));
    EXPECT_TRUE(part(&w, "INCR k"));
    EXPECT_TRUE(part(&w, "GET k"));
    EXPECT_TRUE(part(&w, "DEL k other"));
    EXPECT_TRUE(part(&w, "EXISTS k"));
    EXPECT_TRUE(part(&w, "SET k last"));
    EXPECT_TEXT(text(&w), "+OK\r\n:2\r\n$1\r\n2\r\n:1\r\n:0\r\n+OK\r\n");
    EXPECT_TRUE(w.eval.wrote);
    EXPECT_EQ(w.eval.batch, number);
    EXPECT_EQ(w.f.core->shard.batches.open->effect_count, 4);
    fixture_run(&w.f, 20);
    EXPECT_TEXT(fixture_say(&w.f, "GET k"), "$4\r\nlast\r\n");
    world_close(&w);
}

TEST(nested, rollback_leaves_nothing)
{
    struct world w;
    world_open(&w);
    EXPECT_TEXT(fixture_say(&w.f, "SET k before"), "+OK\r\n");
    begin(&w);
    EXPECT_TRUE(part(&w, "SET k after"));
    EXPECT_TRUE(part(&w, "FLUSHALL"));
    EXPECT_TRUE(part(&w, "EXISTS k"));
    EXPECT_TRUE(part(&w, "SET j after"));
    EXPECT_TEXT(text(&w), "+OK\r\n+OK\r\n:0\r\n+OK\r\n");
    eval_rollback(&w.eval, &w.mark);
    EXPECT_FALSE(w.eval.wrote);
    EXPECT_EQ(w.eval.batch, 0);
    EXPECT_TRUE(batches_open_empty(&w.f.core->shard.batches));
    fixture_run(&w.f, 20);
    EXPECT_TEXT(fixture_say(&w.f, "MGET k j"), "*2\r\n$6\r\nbefore\r\n$-1\r\n");
    world_close(&w);
}

TEST(nested, parts_see_that_keys_expired)
{
    struct world w;
    world_open(&w);
    EXPECT_TEXT(fixture_say(&w.f, "SET k v PX 30"), "+OK\r\n");
    w.f.core->shard.sweep_ms = UINT64_MAX; /* Nobody else notices. */
    fixture_run(&w.f, 50);
    begin(&w);
    EXPECT_TRUE(part(&w, "EXISTS k"));
    EXPECT_TRUE(part(&w, "APPEND k new"));
    EXPECT_TRUE(part(&w, "TTL k"));
    EXPECT_TEXT(text(&w), ":0\r\n:3\r\n:-1\r\n");
    fixture_run(&w.f, 20);
    EXPECT_TEXT(fixture_say(&w.f, "GET k"), "$3\r\nnew\r\n");
    world_close(&w);
}

TEST(nested, errors_of_parts_are_replies)
{
    struct world w;
    world_open(&w);
    EXPECT_TRUE(part(&w, "SET k word"));
    EXPECT_TRUE(part(&w, "INCR k"));
    EXPECT_TRUE(part(&w, "NOSUCH k"));
    EXPECT_TRUE(part(&w, "GET"));
    EXPECT_TRUE(part(&w, "PING"));
    EXPECT_TRUE(part(&w, "KV.CHECK"));
    EXPECT_TRUE(part(&w, "DBSIZE"));
    EXPECT_TEXT(text(&w),
                "+OK\r\n"
                "-ERR value is not an integer or out of range\r\n"
                "-ERR unknown command 'NOSUCH'\r\n"
                "-ERR wrong number of arguments for 'get' command\r\n"
                "-ERR 'ping' is not allowed inside a transaction\r\n"
                "-ERR 'kv.check' is not allowed inside a transaction\r\n"
                "-ERR 'dbsize' looks at all keys: it is not allowed in a transaction that may "
                "write\r\n");
    eval_rollback(&w.eval, &w.mark);
    world_close(&w);
}

TEST(nested, too_many_changes_are_refused_and_undone)
{
    struct world w;
    bool ok = true;
    uint32_t count = 0;
    world_open(&w);
    while (ok && count < 2 * COMMAND_EFFECTS_MAX) {
        char line[32];
        (void)snprintf(line, sizeof line, "SET k%u v", count);
        ok = part(&w, line);
        count += ok;
    }
    EXPECT_EQ(count, COMMAND_EFFECTS_MAX);
    EXPECT_TRUE(w.eval.overflows);
    EXPECT_FALSE(part(&w, "SET another v")); /* It stays so until it is undone. */
    eval_rollback(&w.eval, &w.mark);
    w.out.size = 0;
    eval_error_overflow(&w.eval);
    EXPECT_TRUE(strncmp(text(&w), "-TOOBIG a transaction may change at most", 40) == 0);
    EXPECT_TRUE(batches_open_empty(&w.f.core->shard.batches));
    world_close(&w);
}

TEST(nested, too_many_bytes_are_refused_also_by_a_growing_value)
{
    struct world w;
    struct buf value = {0};
    world_open(&w);
    memset(buf_extend(&value, 5 * MIB), 'x', 5 * MIB);
    const struct slice set[] = {slice_text("SET"), slice_text("k"), buf_slice(&value)};
    const struct slice append[] = {slice_text("APPEND"), slice_text("k"),
                                   slice_of(value.data, MIB)};
    EXPECT_TRUE(eval_nested(&w.eval, set, 3, &w.out));
    EXPECT_TRUE(eval_nested(&w.eval, append, 3, &w.out));
    EXPECT_FALSE(eval_nested(&w.eval, append, 3, &w.out));
    EXPECT_TRUE(w.eval.overflows);
    eval_rollback(&w.eval, &w.mark);
    EXPECT_TRUE(batches_open_empty(&w.f.core->shard.batches));
    w.eval.overflows = false;
    eval_mark(&w.eval, &w.mark);
    w.out.size = 0;
    EXPECT_TRUE(eval_nested(&w.eval, set, 3, &w.out));
    EXPECT_TRUE(part(&w, "APPEND k tail"));
    EXPECT_TRUE(part(&w, "STRLEN k"));
    EXPECT_TEXT(text(&w), "+OK\r\n:5242884\r\n:5242884\r\n");
    fixture_run(&w.f, 50);
    EXPECT_TEXT(fixture_say(&w.f, "STRLEN k"), ":5242884\r\n");
    buf_close(&value);
    world_close(&w);
}

TEST(nested, parts_that_wait_for_values_ask_for_all_of_them)
{
    struct world w;
    struct buf value = {0};
    world_open(&w);
    memset(buf_extend(&value, 20000), 'x', 20000);
    for (uint32_t i = 0; i < 20000; i++) value.data[i] = (uint8_t)(i * 2654435761u >> 24);
    const char *keys[] = {"a", "b", "fill"};
    for (uint32_t i = 0; i < 3; i++) {
        const struct slice set[] = {slice_text("SET"), slice_text(keys[i]), buf_slice(&value)};
        struct buf command = {0};
        resp_put_command(&command, set, 3);
        for (uint32_t j = 0; j < (i == 2 ? 30 : 1); j++) {
            EXPECT_TEXT(fixture_ask(&w.f, 0, command.data, command.size), "+OK\r\n");
        }
        buf_close(&command);
    }
    fixture_restart(&w.f);
    w.f.disk.cold_percent = 100;
    (void)fixture_client(&w.f, 0);
    const uint64_t before = w.f.core->shard.fetches.count;
    begin(&w);
    EXPECT_TRUE(part(&w, "SET j 1"));
    EXPECT_FALSE(part(&w, "STRLEN a") && part(&w, "GET a"));
    EXPECT_TRUE(w.eval.waits);
    EXPECT_FALSE(part(&w, "APPEND b tail"));
    EXPECT_TRUE(part(&w, "SET b new")); /* Undone with the rest. */
    eval_rollback(&w.eval, &w.mark);
    EXPECT_TRUE(batches_open_empty(&w.f.core->shard.batches));
    struct session *session = w.eval.session;
    for (uint32_t i = 0; i < 100 && fetch_waits(session->fetch); i++) fixture_run(&w.f, 1);
    EXPECT_EQ(w.f.core->shard.fetches.count - before, 2);
    begin(&w);
    EXPECT_TRUE(part(&w, "SET j 1"));
    EXPECT_TRUE(part(&w, "GET a"));
    EXPECT_TRUE(part(&w, "APPEND b tail"));
    EXPECT_TRUE(w.out.size > 20000);
    fetch_end(session->fetch);
    session->fetch = NULL;
    fixture_run(&w.f, 20);
    EXPECT_TEXT(fixture_say(&w.f, "STRLEN b"), ":20004\r\n");
    buf_close(&value);
    world_close(&w);
}

TEST(nested, revisions_of_changes_on_their_way)
{
    struct world w;
    world_open(&w);
    EXPECT_TEXT(fixture_say(&w.f, "SET k v"), "+OK\r\n");
    begin(&w);
    EXPECT_TRUE(part(&w, "KV.GET k"));
    EXPECT_TRUE(part(&w, "SET k w"));
    EXPECT_TRUE(part(&w, "KV.GET k")); /* Nobody can know it yet: an error. */
    EXPECT_TRUE(strstr(text(&w), "-ERR the revision is not known before") != NULL);
    eval_rollback(&w.eval, &w.mark);
    fixture_run(&w.f, 20);
    world_close(&w);
}

TEST(nested, digests_of_a_transaction_are_bounded)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    buf_text(&line, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$8000000\r\n");
    memset(buf_extend(&line, 8000000), 'v', 8000000);
    buf_text(&line, "\r\n");
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    fixture_run(&fixture, 200);
    line.size = 0;
    buf_text(&line, "MULTI\r\n");
    for (uint32_t i = 0; i < 40; i++) buf_text(&line, "DIGEST big\r\n");
    buf_text(&line, "SET after 1\r\n");
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    (void)fixture_ask(&fixture, 0, "EXEC\r\n", 6);
    fixture_run(&fixture, 500);
    const struct buf *out = &fixture_client(&fixture, 0)->out;
    struct resp_reply reply = {0};
    EXPECT_EQ(resp_read(&reply, buf_slice(out)), RESP_OK);
    EXPECT_EQ(reply.nodes[0].count, 41);
    EXPECT_EQ(reply.nodes[33].kind, RESP_BULK);
    EXPECT_EQ(reply.nodes[34].kind, RESP_ERROR);                    /* 272 million bytes */
    EXPECT_TEXT(fixture_say(&fixture, "GET after"), "$1\r\n1\r\n"); /* as in Redis */
    resp_reply_close(&reply);
    buf_close(&line);
    fixture_close(&fixture);
}

/* A value that is packed in the log is unpacked by each command that looks at it, however little that replies. */
TEST(nested, values_read_by_a_transaction_are_bounded)
{
    struct fixture fixture;
    struct buf line = {0};
    struct resp_reply reply = {0};
    fixture_open(&fixture);
    fixture.config.output_limit_size = MIB;
    buf_text(&line, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$1000000\r\n");
    memset(buf_extend(&line, 1000000), 'v', 1000000);
    buf_text(&line, "\r\n");
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    line.size = 0;
    buf_text(&line, "KV.TXN IF 19");
    for (uint32_t i = 0; i < 19; i++) buf_text(&line, " VALUE big = v");
    buf_text(&line, "\r\n");
    EXPECT_TRUE(
        strncmp(fixture_ask(&fixture, 0, line.data, line.size), "-TOOBIG more values", 19) == 0);
    line.size = 0;
    buf_text(&line, "MULTI\r\n");
    for (uint32_t i = 0; i < 20; i++) buf_text(&line, "GETRANGE big 1 1\r\n");
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    (void)fixture_ask(&fixture, 0, "EXEC\r\n", 6);
    const struct buf *out = &fixture_client(&fixture, 0)->out;
    EXPECT_EQ(resp_read(&reply, buf_slice(out)), RESP_OK);
    EXPECT_EQ(reply.nodes[0].count, 20);
    EXPECT_EQ(reply.nodes[17].kind, RESP_BULK);
    EXPECT_EQ(reply.nodes[20].kind, RESP_ERROR);
    EXPECT_TEXT(fixture_say(&fixture, "GETRANGE big 1 2"), "$2\r\nvv\r\n");
    resp_reply_close(&reply);
    buf_close(&line);
    fixture_close(&fixture);
}

/* Each of them looks at all keys that a flush keeps. */
TEST(nested, flushes_of_a_transaction_are_bounded)
{
    struct fixture fixture;
    struct buf line = {0};
    struct resp_reply reply = {0};
    fixture_open(&fixture);
    (void)fixture_say(&fixture, "KV.ONCE id 1 SET a 1");
    buf_text(&line, "MULTI\r\n");
    for (uint32_t i = 0; i < 30; i++) buf_text(&line, "SET k v\r\nFLUSHALL\r\n");
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    (void)fixture_ask(&fixture, 0, "EXEC\r\n", 6);
    const struct buf *out = &fixture_client(&fixture, 0)->out;
    EXPECT_EQ(resp_read(&reply, buf_slice(out)), RESP_OK);
    EXPECT_EQ(reply.nodes[0].count, 60);
    EXPECT_EQ(reply.nodes[2].kind, RESP_SIMPLE);
    EXPECT_EQ(reply.nodes[60].kind, RESP_ERROR);
    EXPECT_TRUE(strstr((const char *)out->data, "-TOOBIG the commands of a transaction look") !=
                NULL);
    EXPECT_TEXT(fixture_say(&fixture, "FLUSHALL\r\nDBSIZE"), "+OK\r\n:0\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "KV.ONCE id 1 SET a 1\r\nDBSIZE"), "+OK\r\n:0\r\n");
    resp_reply_close(&reply);
    buf_close(&line);
    fixture_close(&fixture);
}
