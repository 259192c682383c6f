/* Tests of KV.ONCE and of the server's own keys: answers are remembered, and nobody sees where. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#include "node/core_parts.h"
#include "storage/reserved.h"

static uint64_t reserved(const struct fixture *f)
{
    return keydir_reserved(store_keys(core_store(f->core))).count;
}

TEST(once, the_same_sequence_is_carried_out_once)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 INCR n"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 INCR n"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 INCR n"), ":2\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 INCR n"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE d 1 INCR n"), ":3\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET n"), "$1\r\n3\r\n");
    /* In one turn: the first is still on its way when the second comes. */
    static const char twice[] =
        "KV.ONCE e 7 INCR n\r\nKV.ONCE e 7 INCR n\r\nKV.ONCE e 8 INCR n\r\n";
    EXPECT_TEXT(fixture_ask(&f, 0, twice, strlen(twice)), ":4\r\n:4\r\n:5\r\n");
    EXPECT_EQ(reserved(&f), 3);
    fixture_close(&f);
}

TEST(once, what_changed_nothing_and_errors_are_answers_as_well)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k x"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 SET k y NX"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 INCR k"),
                "-ERR value is not an integer or out of range\r\n");
    EXPECT_TEXT(fixture_say(&f, "DEL k"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 SET k y NX"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 INCR k"),
                "-ERR value is not an integer or out of range\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXISTS k"), ":0\r\n");
    fixture_close(&f);
}

TEST(once, replies_are_those_of_the_protocol_of_who_asks)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "MSET a $-1 b *-1"), "+OK\r\n");
    static const char *const want[] = {
        "*2\r\n:1\r\n*4\r\n$3\r\n$-1\r\n$-1\r\n$3\r\n*-1\r\n+OK\r\n",
        "*2\r\n:1\r\n*4\r\n$3\r\n$-1\r\n_\r\n$3\r\n*-1\r\n+OK\r\n",
    };
    static const char ask[] = "KV.ONCE c 1 KV.TXN THEN 4 2 GET a 2 GET none 2 GET b 3 SET d 1";
    EXPECT_TEXT(fixture_say(&f, ask), want[0]);
    (void)fixture_say(&f, "HELLO 3");
    EXPECT_TEXT(fixture_say(&f, ask), want[1]);
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 SET a 1 NX"), "_\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 SET a 1 NX"), "_\r\n");
    fixture_close(&f);
}

TEST(once, the_window_is_bounded_and_what_is_older_is_not_carried_out)
{
    struct fixture f;
    char line[64];
    fixture_open(&f);
    for (int i = 3; i <= 12; i++) {
        (void)snprintf(line, sizeof line, "KV.ONCE c %d INCR n", 10 * i);
        char want[16];
        (void)snprintf(want, sizeof want, ":%d\r\n", i - 2);
        EXPECT_TEXT(fixture_say(&f, line), want);
    }
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 50 INCR n"), ":3\r\n");
    EXPECT_TRUE(strncmp(fixture_say(&f, "KV.ONCE c 40 INCR n"), "-ONCE sequence 40 is older", 26) ==
                0);
    EXPECT_TRUE(strncmp(fixture_say(&f, "KV.ONCE c 10 INCR n"), "-ONCE sequence 10 is older", 26) ==
                0);
    /* One that was overtaken on its way. */
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 115 INCR n"), ":11\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 115 INCR n"), ":11\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 120 INCR n"), ":10\r\n");
    EXPECT_TRUE(strncmp(fixture_say(&f, "KV.ONCE c 50 INCR n"), "-ONCE ", 6) == 0);
    EXPECT_TEXT(fixture_say(&f, "GET n"), "$2\r\n11\r\n");
    fixture_close(&f);
}

TEST(once, bad_input_is_refused)
{
    struct fixture f;
    fixture_open(&f);
    static const struct {
        const char *ask;
        const char *want;
    } cases[] = {
        {"KV.ONCE c 1", "-ERR wrong number of arguments for 'kv.once' command\r\n"},
        {"KV.ONCE c 0 INCR n", "-ERR a sequence is an integer above 0\r\n"},
        {"KV.ONCE c -1 INCR n", "-ERR a sequence is an integer above 0\r\n"},
        {"KV.ONCE c x INCR n", "-ERR a sequence is an integer above 0\r\n"},
        {"KV.ONCE c 1 NOSUCH n", "-ERR unknown command 'NOSUCH'\r\n"},
        {"KV.ONCE c 1 INCR", "-ERR wrong number of arguments for 'incr' command\r\n"},
        {"KV.ONCE c 1 PING", "-ERR 'ping' is not allowed inside a transaction\r\n"},
        {"KV.ONCE c 1 KEYS *", "-ERR 'keys' is not allowed inside of KV.ONCE\r\n"},
        {"KV.ONCE c 1 KV.ONCE c 2 INCR n", "-ERR 'kv.once' is not allowed inside of KV.ONCE\r\n"},
        {"KV.ONCE c 1 INCR n", ":1\r\n"},
        {"KV.ONCE c 1 INCR m",
         "-ONCE this sequence was used for another command: nothing was carried out\r\n"},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        EXPECT_TEXT(fixture_say(&f, cases[i].ask), cases[i].want);
    }
    fixture_close(&f);
}

TEST(once, what_is_remembered_expires)
{
    struct fixture f;
    fixture_open(&f);
    f.config.once_retention_ms = 1000;
    f.core->shard.sweep_ms = 0;
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 INCR n"), ":1\r\n");
    EXPECT_EQ(reserved(&f), 1);
    fixture_run(&f, 1500);
    EXPECT_EQ(reserved(&f), 0);
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 INCR n"), ":2\r\n");
    fixture_close(&f);
}

TEST(once, a_long_reply_and_too_many_clients_change_nothing)
{
    struct fixture f;
    struct buf ask = {0};
    fixture_open(&f);
    const uint64_t size = 20000;
    buf_printf(&ask, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%llu\r\n", (unsigned long long)size);
    memset(buf_extend(&ask, size), 'x', size);
    buf_text(&ask, "\r\n");
    EXPECT_TEXT(fixture_ask(&f, 0, (const char *)ask.data, ask.size), "+OK\r\n");
    EXPECT_TRUE(strncmp(fixture_say(&f, "KV.ONCE c 1 GETDEL k"), "-TOOBIG ", 8) == 0);
    EXPECT_TEXT(fixture_say(&f, "STRLEN k"), ":20000\r\n");
    EXPECT_EQ(reserved(&f), 0);
    for (uint32_t i = 0; i < RESERVED_COUNT_MAX;) {
        ask.size = 0;
        for (uint32_t end = i + 500; i < end; i++) {
            buf_printf(&ask, "KV.ONCE c%u 1 DEL none\r\n", i);
        }
        (void)fixture_ask(&f, 0, (const char *)ask.data, ask.size);
    }
    EXPECT_EQ(reserved(&f), RESERVED_COUNT_MAX);
    EXPECT_TRUE(strncmp(fixture_say(&f, "KV.ONCE another 1 INCR n"), "-OOM ", 5) == 0);
    EXPECT_TEXT(fixture_say(&f, "EXISTS n"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c7 2 INCR n"), ":1\r\n");
    /* A flush keeps all of them. */
    EXPECT_TEXT(fixture_say(&f, "FLUSHALL"), "+OK\r\n");
    EXPECT_EQ(reserved(&f), RESERVED_COUNT_MAX);
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c7 2 INCR n"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    buf_close(&ask);
    fixture_close(&f);
}

/* ---- the server's own keys ------------------------------------------------------------------------------ */

TEST(reserved, nobody_sees_or_names_them)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 SET a 1"), "+OK\r\n");
    EXPECT_EQ(reserved(&f), 1);
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KEYS *"), "*1\r\n$1\r\na\r\n");
    EXPECT_TEXT(fixture_say(&f, "SCAN 0 COUNT 100"), "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n");
    static const char range[] = "*4\r\n$8\r\nKV.RANGE\r\n$0\r\n\r\n$0\r\n\r\n$4\r\nKEYS\r\n";
    EXPECT_TEXT(fixture_ask(&f, 0, range, strlen(range)), "*1\r\n$1\r\na\r\n");
    static const char count[] = "*4\r\n$8\r\nKV.RANGE\r\n$0\r\n\r\n$0\r\n\r\n$5\r\nCOUNT\r\n";
    EXPECT_TEXT(fixture_ask(&f, 0, count, strlen(count)), ":1\r\n");
    static const char *const names[] = {"GET", "DEL", "INCR", "EXISTS", "TTL", "KV.GET", "WATCH"};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct buf ask = {0};
        buf_printf(&ask, "*2\r\n$%zu\r\n%s\r\n$10\r\n", strlen(names[i]), names[i]);
        buf_append(&ask, "\0kv\0once:c\r\n", 12);
        EXPECT_TRUE(strncmp(fixture_ask(&f, 0, (const char *)ask.data, ask.size), "-KEYS_RESERVED ",
                            15) == 0);
        buf_close(&ask);
    }
    fixture_close(&f);
}

TEST(reserved, a_flush_keeps_them_also_those_in_flight)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 1 INCR n"), ":1\r\n");
    static const char all[] = "KV.ONCE d 1 INCR n\r\nFLUSHALL\r\nKV.ONCE c 1 INCR n\r\n"
                              "KV.ONCE d 1 INCR n\r\nKV.ONCE d 2 INCR n\r\nDBSIZE\r\n";
    EXPECT_TEXT(fixture_ask(&f, 0, all, strlen(all)), ":2\r\n+OK\r\n:1\r\n:2\r\n:1\r\n:1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 FLUSHALL"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 1"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.ONCE c 2 FLUSHALL"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":1\r\n");
    EXPECT_EQ(reserved(&f), 2);
    keydir_check(store_keys(core_store(f.core)));
    fixture_close(&f);
}
