/* KV.WATCH: what is told, in which messages, where it goes on; slow readers, retention, limits. */
#include <inttypes.h>

#include "node/core_parts.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/store_inner.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define FEED 1 /* client that watches; 0 writes */

static void send_line(struct fixture *fixture, int at, const char *line)
{
    fixture_put(fixture, at, line);
    fixture_put(fixture, at, "\r\n");
}

static const char *say_at(struct fixture *fixture, int at, const char *line)
{
    (void)fixture_got_flat(fixture, at);
    send_line(fixture, at, line);
    fixture_run(fixture, 20);
    return fixture_got_flat(fixture, at);
}

static uint64_t newest(struct fixture *fixture)
{
    return store_newest_revision(core_store(fixture->core));
}

/* Begins a feed; its id. */
static uint64_t watch(struct fixture *fixture, int at, const char *words)
{
    char line[256];
    (void)snprintf(line, sizeof line, "KV.WATCH %s", words);
    const char *answer = say_at(fixture, at, line);
    if (strncmp(answer, "*2 :", 4) != 0) EXPECT_TEXT(answer, "*2 :");
    return strtoull(answer + 4, NULL, 10);
}

static const char *watch_error(struct fixture *fixture, const char *words)
{
    char line[256];
    (void)snprintf(line, sizeof line, "KV.WATCH %s", words);
    return say_at(fixture, FEED, line);
}

/* The events of all messages: "kind key value previous;", transactions in brackets. */
struct told {
    struct buf text;
    uint64_t revision; /* of the last message */
    uint64_t messages;
    uint64_t marks;
    uint64_t oldest; /* of kv.closed; 0: it was not */
};

static void add_item(struct buf *out, const struct resp_node *node)
{
    buf_text(out, " ");
    if (node->kind == RESP_NULL) {
        buf_text(out, "-");
    } else {
        buf_append(out, node->text.data, node->text.size < 12 ? node->text.size : 12);
    }
}

static void take(struct told *told, const struct resp_node *nodes)
{
    if (slice_equal(nodes[1].text, slice_text("kv.progress"))) {
        told->marks++;
        EXPECT_TRUE((uint64_t)nodes[3].integer >= told->revision);
        told->revision = (uint64_t)nodes[3].integer;
        return;
    }
    if (slice_equal(nodes[1].text, slice_text("kv.closed"))) {
        EXPECT_EQ(nodes->count, 5);
        told->oldest = (uint64_t)nodes[5].integer;
        return;
    }
    EXPECT_TRUE(slice_equal(nodes[1].text, slice_text("kv.watch")));
    EXPECT_EQ(nodes->count, 4);
    EXPECT_TRUE((uint64_t)nodes[3].integer > told->revision);
    told->messages++;
    const struct resp_node *row = &nodes[5];
    uint64_t revision = told->revision;
    buf_text(&told->text, "[");
    for (uint64_t i = 0; i < nodes[4].count; i++, row += row->span) {
        EXPECT_EQ(row->count, 6);
        EXPECT_TRUE((uint64_t)row[4].integer > revision);
        revision = (uint64_t)row[4].integer;
        buf_append(&told->text, row[1].text.data, row[1].text.size);
        add_item(&told->text, &row[2]);
        add_item(&told->text, &row[3]);
        add_item(&told->text, &row[5]);
        buf_text(&told->text, ";");
    }
    buf_text(&told->text, "]");
    EXPECT_EQ(revision, (uint64_t)nodes[3].integer);
    told->revision = revision;
}

static const char *hear(struct fixture *fixture, int at, struct told *told)
{
    struct buf *out = &fixture_client(fixture, at)->out;
    struct resp_reply reply = {0};
    uint64_t position = 0;
    told->text.size = 0;
    while (position < out->size &&
           resp_read(&reply, slice_of(out->data + position, out->size - position)) == RESP_OK) {
        const bool is_message = reply.nodes->count > 1 && reply.nodes[1].kind == RESP_BULK;
        if (is_message) take(told, reply.nodes);
        position += reply.size;
    }
    EXPECT_EQ(position, out->size); /* Whole messages. */
    out->size = 0;
    resp_reply_close(&reply);
    buf_u8(&told->text, 0);
    return (const char *)told->text.data;
}

TEST(feed, kinds_are_told_apart_and_transactions_come_whole)
{
    struct fixture fixture;
    struct told told = {0};
    fixture_open(&fixture);
    (void)say_at(&fixture, FEED, "HELLO 3");
    EXPECT_EQ(watch(&fixture, FEED, "PREFIX a PREV"), 1);
    (void)fixture_say(&fixture, "SET a1 x\r\nSET b no\r\nINCR an\r\nSET a2 y PX 30");
    fixture_run(&fixture, 300);
    EXPECT_TEXT(hear(&fixture, FEED, &told),
                "[put a1 x -;][put an 1 -;][put a2 y -;][expired a2 - y;]");
    (void)fixture_say(&fixture, "MSET a1 1 b 2 a3 3\r\nMULTI\r\nSET a4 4\r\nGET a1\r\nDEL a1\r\n"
                                "APPEND a4 5\r\nEXEC\r\nPEXPIRE an 100000\r\nINCR an");
    EXPECT_TEXT(hear(&fixture, FEED, &told),
                "[put a1 1 x;put a3 3 -;][put a4 4 -;delete a1 - 1;put a4 45 4;]"
                "[expire-change an - 1;][put an 2 1;]");
    (void)fixture_say(&fixture, "KV.TXN THEN 2 3 SET a5 5 2 DEL a3\r\nFLUSHALL\r\nDEL a5");
    EXPECT_TEXT(hear(&fixture, FEED, &told), "[put a5 5 -;delete a3 - 3;][flush - - -;]");
    EXPECT_TEXT(say_at(&fixture, FEED, "GET b"), "_ ");
    EXPECT_TEXT(say_at(&fixture, FEED, "KV.UNWATCH 1"), "+OK ");
    (void)fixture_say(&fixture, "SET a1 x");
    EXPECT_TEXT(hear(&fixture, FEED, &told), "");
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, expired_keys_met_by_a_transaction_do_not_cut_it_in_two)
{
    struct fixture fixture;
    struct told told = {0};
    fixture_open(&fixture);
    (void)watch(&fixture, FEED, "RANGE \"\" \"\"");
    (void)fixture_say(&fixture, "SET old 1 PX 5");
    (void)hear(&fixture, FEED, &told);
    fixture.now_ms += 50; /* No turn, so no sweep in between. */
    fixture.wall_ms += 50;
    (void)fixture_say(&fixture, "MULTI\r\nSET a 1\r\nGET old\r\nSET b 2\r\nEXEC");
    const char *text = hear(&fixture, FEED, &told);
    const bool is_inside = strcmp(text, "[put a 1 -;expired old - -;put b 2 -;]") == 0;
    if (!is_inside) EXPECT_TEXT(text, "[expired old - -;][put a 1 -;put b 2 -;]");
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, goes_on_behind_any_message_and_within_a_transaction)
{
    struct fixture fixture;
    struct told told = {0};
    uint64_t transaction = 0;
    char words[64];
    fixture_open(&fixture);
    (void)fixture_say(&fixture, "SET k1 1\r\nMSET k1 2 k2 2 k3 2\r\nDEL k2\r\nSET other 1");
    /* The revisions of the messages, one after the other. */
    static const char *const rest[] = {
        "[put k1 1 -;][put k1 2 -;put k2 2 -;put k3 2 -;][delete k2 - -;]",
        "[put k1 2 -;put k2 2 -;put k3 2 -;][delete k2 - -;]", "[delete k2 - -;]", ""};
    uint64_t from = 0;
    for (int i = 0; i < 4; i++) {
        told.revision = from;
        (void)snprintf(words, sizeof words, "KV.WATCH PREFIX k FROM %" PRIu64, from);
        (void)fixture_got_flat(&fixture, FEED);
        send_line(&fixture, FEED, words);
        fixture_run(&fixture, 20);
        struct buf *out = &fixture_client(&fixture, FEED)->out;
        struct resp_reply reply = {0};
        uint64_t skip = 0;
        EXPECT_EQ(resp_skip(buf_slice(out), &skip), RESP_OK);
        const struct slice first = slice_of(out->data + skip, out->size - skip);
        uint64_t next = from;
        if (first.size > 0) {
            EXPECT_EQ(resp_read(&reply, first), RESP_OK);
            next = (uint64_t)reply.nodes[3].integer;
        }
        resp_reply_close(&reply);
        EXPECT_TEXT(hear(&fixture, FEED, &told), rest[i]);
        if (i == 1) transaction = next;
        from = next;
        (void)say_at(&fixture, FEED, "RESET");
    }
    told.revision = transaction - 1; /* Its last change but one. */
    (void)snprintf(words, sizeof words, "KV.WATCH PREFIX k FROM %" PRIu64, transaction - 1);
    send_line(&fixture, FEED, words);
    fixture_run(&fixture, 20);
    EXPECT_TEXT(hear(&fixture, FEED, &told), "[put k3 2 -;][delete k2 - -;]");
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, resp2_gets_arrays_and_takes_only_what_is_about_it)
{
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_EQ(watch(&fixture, FEED, "KEY k"), 1);
    EXPECT_TEXT(say_at(&fixture, FEED, "GET k"),
                "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
                "RESET are allowed in this context ");
    EXPECT_TEXT(say_at(&fixture, FEED, "PING"), "*2 $4 pong $0  ");
    EXPECT_TEXT(say_at(&fixture, FEED, "HELLO 3"),
                "-ERR Can't execute 'hello': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT "
                "/ RESET are allowed in this context ");
    (void)fixture_say(&fixture, "SET kk 1\r\nSET k v");
    const char *text = fixture_got_flat(&fixture, FEED);
    if (strstr(text, "*4 $8 kv.watch :1 :") != text || strstr(text, "$1 k $1 v :") == NULL ||
        strstr(text, " $-1 :-1 ") == NULL || strstr(text, "kk") != NULL) {
        EXPECT_TEXT(text, "*4 $8 kv.watch :1 ... $1 k $1 v ... $-1 :-1");
    }
    EXPECT_TEXT(say_at(&fixture, FEED, "KV.UNWATCH 1"), "+OK ");
    EXPECT_TEXT(say_at(&fixture, FEED, "GET k"), "$1 v ");
    fixture_close(&fixture);
}

TEST(feed, bad_requests_are_refused_with_reasons)
{
    struct fixture fixture;
    char words[64];
    fixture_open(&fixture);
    (void)say_at(&fixture, FEED, "HELLO 3");
    EXPECT_TEXT(watch_error(&fixture, "PREFIX"),
                "-ERR wrong number of arguments for 'kv.watch' command ");
    EXPECT_TEXT(watch_error(&fixture, "ALL x"), "-ERR syntax error ");
    EXPECT_TEXT(watch_error(&fixture, "RANGE a"), "-ERR syntax error ");
    EXPECT_TEXT(watch_error(&fixture, "KEY a FROM"), "-ERR syntax error ");
    EXPECT_TEXT(watch_error(&fixture, "KEY a FROM x"),
                "-ERR value is not an integer or out of range ");
    EXPECT_TEXT(watch_error(&fixture, "KEY a FROM -1"),
                "-ERR value is out of range, must be positive ");
    EXPECT_TEXT(watch_error(&fixture, "KEY a PROGRESS 5"),
                "-ERR PROGRESS takes 10 to 86400000 milliseconds ");
    EXPECT_TEXT(watch_error(&fixture, "KEY \"\""), "-TOOBIG a key has 1 to 65536 bytes, this one "
                                                   "has 0 ");
    (void)snprintf(words, sizeof words, "KEY a FROM %" PRIu64, newest(&fixture) + 1);
    const char *ahead = watch_error(&fixture, words);
    if (strstr(ahead, "lies ahead: the newest is ") == NULL) EXPECT_TEXT(ahead, "lies ahead");
    EXPECT_TEXT(say_at(&fixture, FEED, "KV.UNWATCH 1"),
                "-ERR there is no such watch on this connection ");
    EXPECT_TEXT(say_at(&fixture, FEED, "MULTI"), "+OK ");
    EXPECT_TEXT(watch_error(&fixture, "KEY a"),
                "-ERR 'kv.watch' is not allowed inside a transaction ");
    EXPECT_TEXT(say_at(&fixture, FEED, "DISCARD"), "+OK ");
    for (uint32_t i = 0; i < FEED_SESSION_MAX; i++) {
        EXPECT_EQ(watch(&fixture, FEED, "KEY a"), i + 1);
    }
    EXPECT_TEXT(watch_error(&fixture, "KEY a"), "-TOOBIG a connection has at most 100 watches ");
    EXPECT_TEXT(say_at(&fixture, FEED, "HELLO 2"),
                "-ERR the protocol stays as it is while the connection has watches ");
    EXPECT_EQ(fixture.core->feeds.count, FEED_SESSION_MAX);
    EXPECT_TEXT(say_at(&fixture, FEED, "RESET"), "+RESET ");
    EXPECT_EQ(fixture.core->feeds.count, 0);
    /* Reserved keys are told to nobody, and what a client leaves behind goes with it. */
    EXPECT_EQ(watch(&fixture, FEED, "KEY a"), 1);
    core_client_closed(fixture.core, fixture.clients[FEED].session);
    fixture.clients[FEED].session = NULL;
    EXPECT_EQ(fixture.core->feeds.count, 0);
    fixture_close(&fixture);
}

TEST(feed, marks_tell_how_far_it_is)
{
    struct fixture fixture;
    struct told told = {0};
    fixture_open(&fixture);
    (void)watch(&fixture, FEED, "KEY k PROGRESS 100");
    fixture_run(&fixture, 1000);
    (void)hear(&fixture, FEED, &told);
    EXPECT_TRUE(told.marks >= 6);
    EXPECT_TRUE(told.marks <= 10);
    EXPECT_EQ(told.revision, newest(&fixture));
    (void)fixture_say(&fixture, "SET other 1");
    fixture_run(&fixture, 200);
    (void)hear(&fixture, FEED, &told);
    EXPECT_EQ(told.revision, newest(&fixture)); /* Nothing for it, but it has passed. */
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, a_long_transaction_is_one_message_made_over_many_turns)
{
    struct fixture fixture;
    struct told told = {0};
    struct buf line = {0};
    fixture_open(&fixture);
    (void)watch(&fixture, FEED, "PREFIX k");
    buf_printf(&line, "*%u\r\n$4\r\nMSET\r\n", 1 + 2 * 20000);
    for (uint32_t i = 0; i < 20000; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%06u", i);
        buf_printf(&line, "$7\r\n%s\r\n$1\r\nv\r\n", key);
    }
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    fixture_run(&fixture, 200);
    (void)hear(&fixture, FEED, &told);
    EXPECT_EQ(told.messages, 1);
    EXPECT_EQ(told.revision & 0xffff, 19999);
    buf_close(&line);
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, long_transactions_are_made_whole_for_a_few_feeds_at_a_time)
{
    struct fixture fixture;
    struct told told = {0};
    struct buf line = {0};
    uint64_t peak = 0;
    fixture_open(&fixture);
    struct fixture_client *client = fixture_client(&fixture, FEED);
    for (uint32_t i = 0; i < 40; i++) (void)watch(&fixture, FEED, "PREFIX k");
    buf_printf(&line, "*%u\r\n$4\r\nMSET\r\n", 1 + 2 * 200);
    for (uint32_t i = 0; i < 200; i++) {
        buf_printf(&line, "$7\r\nk%06u\r\n$40000\r\n", i);
        memset(buf_extend(&line, 40000), 'v', 40000);
        buf_text(&line, "\r\n");
    }
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    const uint64_t size = line.size; /* a message is about as long */
    buf_close(&line);
    client->take_max = 0;
    const uint64_t before = mem_used();
    for (uint32_t i = 0; i < 400; i++) {
        fixture_run(&fixture, 1);
        if (mem_used() > before && mem_used() - before > peak) peak = mem_used() - before;
        EXPECT_TRUE(fixture.core->feeds.makers <= FEED_MAKERS_MAX);
    }
    EXPECT_TRUE(peak < 8 * size); /* Not 40 of them, though the client reads nothing. */
    EXPECT_EQ(fixture.core->feeds.makers, 0);
    for (uint32_t i = 0; i < 1000 && told.messages < 40; i++) {
        client->take_max = UINT64_MAX;
        core_client_writable(fixture.core, client->session);
        fixture_run(&fixture, 10);
        told.revision = 0;
        while (client->out.size > 0) {
            struct resp_reply reply = {0};
            EXPECT_EQ(resp_read(&reply, buf_slice(&client->out)), RESP_OK);
            if (reply.nodes[1].kind == RESP_BULK) {
                EXPECT_EQ(reply.nodes[4].count, 200);
                told.messages++;
            }
            memmove(client->out.data, client->out.data + reply.size, client->out.size - reply.size);
            client->out.size -= reply.size;
            resp_reply_close(&reply);
        }
    }
    EXPECT_EQ(told.messages, 40);
    EXPECT_EQ(fixture.core->feeds.makers, 0);
    buf_close(&told.text);
    fixture_close(&fixture);
}

static void write_much(struct fixture *fixture, uint32_t first, uint32_t count)
{
    struct prng prng = prng_seed(first);
    struct buf line = {0};
    for (uint32_t i = first; i < first + count; i++) {
        line.size = 0;
        buf_printf(&line, "*3\r\n$3\r\nSET\r\n$7\r\nk%06u\r\n$20000\r\n", i);
        uint8_t *at = buf_extend(&line, 20000);
        for (uint32_t k = 0; k < 20000; k++) at[k] = (uint8_t)('a' + prng_below(&prng, 26));
        buf_text(&line, "\r\n");
        (void)fixture_ask(fixture, 0, line.data, line.size);
    }
    buf_close(&line);
}

/* Reads on until nothing comes. */
static void drain(struct fixture *fixture, struct told *told, struct buf *keys)
{
    struct fixture_client *client = fixture_client(fixture, FEED);
    for (int idle = 0; idle < 5;) {
        client->take_max = UINT64_MAX;
        core_client_writable(fixture->core, client->session);
        fixture_run(fixture, 10);
        const char *text = hear(fixture, FEED, told);
        idle = text[0] == 0 ? idle + 1 : 0;
        for (; (text = strstr(text, "put k")) != NULL; text += 5) buf_append(keys, text + 4, 7);
    }
}

TEST(feed, a_slow_reader_costs_no_memory_and_misses_nothing)
{
    struct fixture fixture;
    struct told told = {0};
    struct buf keys = {0};
    fixture_open_sized(&fixture, 256 * KIB);
    struct fixture_client *client = fixture_client(&fixture, FEED);
    (void)watch(&fixture, FEED, "PREFIX k");
    client->take_max = 0;
    write_much(&fixture, 0, 600); /* 12 MB, more than stays in memory */
    const uint64_t held = session_end(client->session) - client->session->sent;
    EXPECT_TRUE(held < FEED_PAUSE_SIZE + 64 * KIB);
    EXPECT_TRUE(client->session->out.capacity < 2 * FEED_PAUSE_SIZE + MIB);
    EXPECT_EQ(fixture.core->feeds.readers, 0); /* Its bytes from the disk are given back. */
    drain(&fixture, &told, &keys);
    EXPECT_EQ(told.messages, 600);
    EXPECT_EQ(keys.size, 600 * 7);
    for (uint32_t i = 0; i < 600; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%06u", i);
        EXPECT_BYTES(keys.data + 7 * i, key, 7);
    }
    EXPECT_TRUE(fixture.core->feeds.disk_reads > 0);
    EXPECT_EQ(told.oldest, 0);
    buf_close(&keys);
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, values_before_are_found_although_the_log_does_not_have_them_any_more)
{
    struct fixture fixture;
    struct told told = {0};
    fixture_open_sized(&fixture, 256 * KIB);
    fixture.config.retention_size = 0;
    fixture_stop(&fixture);
    fixture_start(&fixture);
    (void)fixture_say(&fixture,
                      "SET a1 small\r\nSET a3 3\r\nPEXPIRE a3 10000000\r\nSETEX a4 100 x");
    char line[512] = "SET a2 ";
    memset(line + 7, 'v', 400); /* Not in the index. */
    (void)fixture_say(&fixture, line);
    const uint64_t index = store_applied_index(core_store(fixture.core));
    write_much(&fixture, 0, 200);
    fixture_run(&fixture, 500);
    EXPECT_TRUE(store_first_index(core_store(fixture.core)) > index);
    (void)watch(&fixture, FEED, "PREFIX a PREV");
    (void)fixture_say(&fixture, "MSET a1 1 a2 2 a5 5\r\nDEL a1\r\nDEL a3 a4");
    fixture_run(&fixture, 200);
    EXPECT_TEXT(hear(&fixture, FEED, &told),
                "[put a1 1 small;put a2 2 vvvvvvvvvvvv;put a5 5 -;][delete a1 - 1;]"
                "[delete a3 - 3;delete a4 - x;]");
    EXPECT_EQ(core_store(fixture.core)->past_count, 0);
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, values_before_several_entries_of_which_none_is_in_memory)
{
    struct fixture fixture;
    struct told told = {0};
    fixture_open_sized(&fixture, 256 * KIB);
    (void)fixture_say(&fixture, "SET a1 first\r\nSET a2 second");
    write_much(&fixture, 0, 100);
    (void)fixture_say(&fixture, "PEXPIRE a1 10000000");
    write_much(&fixture, 100, 200);
    (void)fixture_say(&fixture, "PERSIST a1");
    /* More than are looked at one by one. */
    for (int i = 0; i < 50; i++) {
        (void)fixture_say(&fixture, "PEXPIRE a2 10000000\r\nPERSIST a2");
        if (i % 10 == 0) write_much(&fixture, 100, 110);
    }
    write_much(&fixture, 200, 300);
    EXPECT_FALSE(store_records_near(core_store(fixture.core), 3));
    (void)watch(&fixture, FEED, "PREFIX a PREV");
    (void)fixture_say(&fixture, "DEL a1\r\nDEL a2");
    fixture_run(&fixture, 300);
    EXPECT_TEXT(hear(&fixture, FEED, &told), "[delete a1 - first;][delete a2 - second;]");
    EXPECT_EQ(core_store(fixture.core)->past_count, 0);
    EXPECT_EQ(fixture.core->feeds.readers, 0);
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, who_is_overtaken_by_retention_is_told_and_can_go_on)
{
    struct fixture fixture;
    struct told told = {0};
    struct buf keys = {0};
    char words[64];
    fixture_open_sized(&fixture, 256 * KIB);
    fixture.config.retention_size = 0;
    fixture_stop(&fixture);
    fixture_start(&fixture);
    struct fixture_client *client = fixture_client(&fixture, FEED);
    (void)watch(&fixture, FEED, "PREFIX k");
    client->take_max = 0;
    write_much(&fixture, 0, 400);
    fixture_run(&fixture, 500);
    drain(&fixture, &told, &keys);
    EXPECT_TRUE(told.oldest > told.revision);
    EXPECT_TRUE(told.messages < 400);
    EXPECT_EQ(fixture.core->feeds.count, 0);
    /* An earlier revision is refused at once, the one that was named is not. */
    (void)snprintf(words, sizeof words, "PREFIX k FROM %" PRIu64, told.oldest - 1);
    const char *error = watch_error(&fixture, words);
    if (strncmp(error, "-COMPACTED revision ", 20) != 0) EXPECT_TEXT(error, "-COMPACTED");
    (void)snprintf(words, sizeof words, "KV.WATCH PREFIX k FROM %" PRIu64, told.oldest);
    told.revision = told.oldest;
    told.messages = 0;
    keys.size = 0;
    send_line(&fixture, FEED, words);
    drain(&fixture, &told, &keys);
    EXPECT_TRUE(told.messages > 0);
    EXPECT_BYTES(keys.data + keys.size - 7, "k000399", 7);
    buf_close(&keys);
    buf_close(&told.text);
    fixture_close(&fixture);
}

TEST(feed, a_message_too_long_for_the_output_limit_ends_it_with_a_reason)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    fixture.config.output_limit_size = MIB;
    fixture.config.max_value_size = MIB;
    fixture_stop(&fixture);
    fixture_start(&fixture);
    (void)watch(&fixture, FEED, "PREFIX k");
    buf_printf(&line, "*7\r\n$4\r\nMSET\r\n");
    for (uint32_t i = 0; i < 3; i++) {
        buf_printf(&line, "$2\r\nk%u\r\n$900000\r\n", i);
        memset(buf_extend(&line, 900000), 'x', 900000);
        buf_text(&line, "\r\n");
    }
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    fixture_run(&fixture, 100);
    const char *text = fixture_got_flat(&fixture, FEED);
    if (strstr(text, "$9 kv.closed :1 $6 TOOBIG ") == NULL) EXPECT_TEXT(text, "kv.closed TOOBIG");
    EXPECT_EQ(fixture.clients[FEED].is_closed, false);
    buf_close(&line);
    fixture_close(&fixture);
}

TEST(feed, large_packed_values_are_unpacked_over_many_turns)
{
    struct fixture fixture;
    struct buf line = {0};
    struct resp_reply reply = {0};
    const uint32_t size = 7 * MIB;
    fixture_open(&fixture);
    (void)watch(&fixture, FEED, "KEY big PREV");
    for (uint32_t i = 0; i < 2; i++) {
        line.size = 0;
        buf_printf(&line, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%u\r\n", size);
        memset(buf_extend(&line, size), 'a' + (int)i, size);
        buf_text(&line, "\r\n");
        (void)fixture_ask(&fixture, 0, line.data, line.size);
        fixture_run(&fixture, 100);
    }
    struct buf *out = &fixture_client(&fixture, FEED)->out;
    EXPECT_EQ(resp_read(&reply, buf_slice(out)), RESP_OK);
    EXPECT_EQ(reply.nodes[8].text.size, size);
    EXPECT_EQ(reply.nodes[10].kind, RESP_NULL);
    EXPECT_EQ(resp_read(&reply, slice_of(out->data + reply.size, out->size - reply.size)), RESP_OK);
    EXPECT_EQ(reply.nodes[8].text.size, size);
    EXPECT_EQ(reply.nodes[8].text.data[size - 1], 'b');
    EXPECT_EQ(reply.nodes[10].text.size, size);
    EXPECT_EQ(reply.nodes[10].text.data[0], 'a');
    EXPECT_EQ(reply.nodes[10].text.data[size - 1], 'a');
    resp_reply_close(&reply);
    buf_close(&line);
    fixture_close(&fixture);
}

TEST(feed, messages_come_between_replies_not_within_them)
{
    struct fixture fixture;
    struct buf rest = {0};
    fixture_open(&fixture);
    write_much(&fixture, 0, 100);
    struct fixture_client *client = fixture_client(&fixture, FEED);
    (void)say_at(&fixture, FEED, "HELLO 3");
    (void)watch(&fixture, FEED, "PREFIX x");
    (void)say_at(&fixture, FEED, "SUBSCRIBE news");
    client->take_max = 1000; /* The range leaves in slices. */
    send_line(&fixture, FEED, "KV.RANGE k l");
    fixture_run(&fixture, 5);
    (void)fixture_say(&fixture, "SET x1 1\r\nPUBLISH news hello\r\nPUBLISH news again");
    EXPECT_TRUE(client->session->stream != NULL);
    client->take_max = UINT64_MAX;
    for (int i = 0; i < 50; i++) {
        core_client_writable(fixture.core, client->session);
        fixture_run(&fixture, 5);
    }
    uint64_t size = 0;
    EXPECT_EQ(resp_skip(buf_slice(&client->out), &size), RESP_OK);
    buf_append(&rest, client->out.data + size, client->out.size - size);
    buf_u8(&rest, 0);
    const char *text = (const char *)rest.data;
    EXPECT_EQ(client->out.data[0], '*');
    const char *hello = strstr(text, "hello");
    EXPECT_TRUE(hello != NULL);
    EXPECT_TRUE(strstr(hello, "again") != NULL);
    EXPECT_TRUE(strstr(text, "kv.watch") != NULL);
    buf_close(&rest);
    fixture_close(&fixture);
}

TEST(feed, many_feeds_share_a_turn_and_all_are_told)
{
    struct fixture fixture;
    struct told told[4] = {{.revision = 0}};
    uint64_t told_count = 0;
    fixture_open(&fixture);
    for (int at = 1; at < 5; at++) {
        (void)say_at(&fixture, at, "HELLO 3");
        for (int i = 0; i < 60; i++) (void)watch(&fixture, at, i == 0 ? "PREFIX k" : "PREFIX n");
    }
    for (int i = 0; i < 40; i++) {
        (void)fixture_say(&fixture, "MSET k1 1 k2 2 k3 3 k4 4\r\nSET other 1\r\nINCR k5\r\nDEL k2");
    }
    for (int at = 1; at < 5; at++) {
        (void)hear(&fixture, at, &told[at - 1]);
        told_count += told[at - 1].messages;
        buf_close(&told[at - 1].text);
    }
    EXPECT_EQ(told_count, 4 * 40 * 3);
    EXPECT_EQ(fixture.core->feeds.count, 240);
    fixture_close(&fixture);
}

/* The values before n changes of one transaction, which another one of as many made, take some n steps. */
TEST(feed, values_before_large_transactions_are_found_at_once)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    for (uint32_t round = 0; round < 2; round++) {
        line.size = 0;
        buf_printf(&line, "*24001\r\n$4\r\nMSET\r\n");
        for (uint32_t i = 0; i < 12000; i++) {
            /* Other places in the one entry than in the other. */
            const uint32_t key = round == 0 ? i : i * 7919 % 12000;
            buf_printf(&line, "$5\r\n%05u\r\n$6\r\n%u%05u\r\n", key, round, key);
        }
        EXPECT_TEXT(fixture_ask(&fixture, 0, line.data, line.size), "+OK\r\n");
    }
    fixture_put(&fixture, 1, "HELLO 3\r\nKV.WATCH PREFIX \"\" FROM 0 PREV\r\n");
    fixture_run(&fixture, 10);
    uint32_t turns = 0;
    while (fixture.core->feeds.effects < 24000 && turns < 30000) {
        fixture_run(&fixture, 1);
        turns++;
    }
    EXPECT_EQ(fixture.core->feeds.effects, 24000);
    EXPECT_TRUE(turns < 100); /* 3000 units in each */
    const char *text = fixture_got_flat(&fixture, 1);
    EXPECT_TRUE(strstr(text, "$3 put $5 07919 $6 107919 ") != NULL);
    EXPECT_TRUE(strstr(text, " $6 007919 :-1 ") != NULL);
    buf_close(&line);
    fixture_close(&fixture);
}
