#include "node/core_parts.h"
#include "storage/base/hash.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

TEST(core, a_node_alone_serves)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "PING"), "+PONG\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k v"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\nv\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET none"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "DEL k none"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$-1\r\n");
    fixture_close(&f);
}

TEST(core, state_survives_stop_and_power_cut)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k v PX 100000"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "INCR n"), ":1\r\n");
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            fixture_power_cut(&f);
        } else {
            fixture_restart(&f);
        }
        EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\nv\r\n");
        char expected[16];
        (void)snprintf(expected, sizeof expected, ":%d\r\n", round + 2);
        EXPECT_TEXT(fixture_say(&f, "INCR n"), expected);
    }
    fixture_close(&f);
}

TEST(core, set_options)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k 1 XX"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 1 NX"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 2 NX"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 2 NX GET"), "$1\r\n1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 3 GET"), "$1\r\n1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 4 XX GET EX 100"), "$1\r\n3\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":100\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 5 KEEPTTL"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":100\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 6"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 EX 0"), "-ERR invalid expire time in 'set' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 EX -1"), "-ERR invalid expire time in 'set' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 EX 9223372036854775807"),
                "-ERR invalid expire time in 'set' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 EX x"),
                "-ERR value is not an integer or out of range\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 EX 1 PX 1"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 NX XX"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 EX"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 7 BOGUS"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\n6\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET past 1 PXAT 1000"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET past"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 8 EXAT 1"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    fixture_close(&f);
}

TEST(core, revisions_guard_a_set)
{
    struct fixture f;
    char line[64];
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k 1 IFREV 0"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 2 IFREV 0"), "$-1\r\n");
    const char *reply = fixture_say(&f, "KV.GET k");
    const char *revision = strchr(reply, ':');
    EXPECT_TRUE(revision != NULL);
    (void)snprintf(line, sizeof line, "SET k 3 IFREV %lld", strtoll(revision + 1, NULL, 10));
    EXPECT_TEXT(fixture_say(&f, line), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, line), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\n3\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.GET none"), "*-1\r\n");
    fixture_close(&f);
}

TEST(core, strings_and_counters)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SETNX a 1"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SETNX a 2"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "GETSET a 5"), "$1\r\n1\r\n");
    EXPECT_TEXT(fixture_say(&f, "INCRBY a 10"), ":15\r\n");
    EXPECT_TEXT(fixture_say(&f, "DECR a"), ":14\r\n");
    EXPECT_TEXT(fixture_say(&f, "DECRBY a 20"), ":-6\r\n");
    EXPECT_TEXT(fixture_say(&f, "DECRBY a -9223372036854775808"),
                "-ERR decrement would overflow\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET big 9223372036854775807"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "INCR big"), "-ERR increment or decrement would overflow\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET text abc"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "INCR text"), "-ERR value is not an integer or out of range\r\n");
    EXPECT_TEXT(fixture_say(&f, "APPEND text def"), ":6\r\n");
    EXPECT_TEXT(fixture_say(&f, "STRLEN text"), ":6\r\n");
    EXPECT_TEXT(fixture_say(&f, "STRLEN none"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "GETDEL text"), "$6\r\nabcdef\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXISTS text a a"), ":2\r\n");
    EXPECT_TEXT(fixture_say(&f, "MSET x 1 y 2 x 3"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "MGET x y z"), "*3\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "MSET x"), "-ERR wrong number of arguments for 'mset' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "MSET x 1 y"),
                "-ERR wrong number of arguments for 'mset' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "TYPE x"), "+string\r\n");
    EXPECT_TEXT(fixture_say(&f, "TYPE none"), "+none\r\n");
    EXPECT_TEXT(fixture_say(&f, "nonsense a b"),
                "-ERR unknown command 'nonsense', with args beginning with: 'a' 'b' \r\n");
    EXPECT_TEXT(fixture_say(&f, "GET"), "-ERR wrong number of arguments for 'get' command\r\n");
    fixture_close(&f);
}

TEST(core, long_values_come_back_from_memory_and_disk)
{
    struct fixture f;
    fixture_open(&f);
    struct buf command = {0};
    const uint64_t size = 100000;
    buf_printf(&command, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%llu\r\n", (unsigned long long)size);
    for (uint64_t i = 0; i < size; i++) buf_u8(&command, (uint8_t)('a' + i % 26));
    buf_text(&command, "\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    for (int round = 0; round < 2; round++) {
        const char *reply = round == 0 ? fixture_ask(&f, 0, command.data, command.size)
                                       : fixture_say(&f, "GET k");
        const char *body = strchr(reply, '$');
        EXPECT_TRUE(body != NULL);
        EXPECT_BYTES(body, "$100000\r\nabc", 12);
        EXPECT_EQ(body[9 + size - 1], 'a' + (size - 1) % 26);
        fixture_restart(&f); /* The tail in memory is gone afterwards. */
    }
    buf_close(&command);
    fixture_close(&f);
}

TEST(core, pipelined_commands_see_each_other)
{
    static const char text[] = "SET k 1\r\nGET k\r\nINCR k\r\nGET k\r\nDEL k\r\nGET k\r\nSET k "
                               "a\r\nAPPEND k b\r\nGET k\r\n"
                               "DBSIZE\r\nFLUSHALL\r\nGET k\r\nDBSIZE\r\nPING\r\nSET k 9\r\nEXPIRE "
                               "k 100\r\nGET k\r\nTTL k\r\n";
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_ask(&f, 0, text, sizeof text - 1),
                "+OK\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n:1\r\n$-1\r\n+OK\r\n:2\r\n$2\r\nab\r\n:1\r\n+"
                "OK\r\n$-1\r\n:0\r\n+PONG\r\n"
                "+OK\r\n:1\r\n$1\r\n9\r\n:100\r\n");
    fixture_close(&f);
}

TEST(core, every_split_of_the_input_gives_the_same)
{
    static const char text[] =
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\nGET k\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n";
    struct fixture f;
    fixture_open(&f);
    for (uint64_t split = 1; split < sizeof text - 1; split++) {
        struct buf all = {0};
        const char *first = fixture_ask(&f, 0, text, split);
        buf_text(&all, first);
        buf_text(&all, fixture_ask(&f, 0, text + split, sizeof text - 1 - split));
        buf_u8(&all, 0);
        EXPECT_TEXT((const char *)all.data, "+OK\r\n$5\r\nhello\r\n:1\r\n");
        buf_close(&all);
    }
    fixture_close(&f);
}

TEST(core, keys_expire_by_the_clock_and_are_swept)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k v PX 1000"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "PEXPIRE none 5"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 100 XX"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 50 GT"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 50 LT"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 50 NX"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 50 NX XX"),
                "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 50 GT LT"),
                "-ERR GT and LT options at the same time are not compatible\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k 50 foo"), "-ERR Unsupported option foo\r\n");
    EXPECT_TEXT(fixture_say(&f, "PERSIST k"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "PERSIST k"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "PTTL k"), ":-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "PTTL none"), ":-2\r\n");
    EXPECT_TEXT(fixture_say(&f, "PEXPIRE k 300"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET j v PX 300"), "+OK\r\n");
    fixture_run(&f, 200);
    EXPECT_TEXT(fixture_say(&f, "EXISTS k j"), ":2\r\n");
    fixture_run(&f, 200);
    EXPECT_TEXT(fixture_say(&f, "EXISTS k j"), ":0\r\n");
    fixture_run(&f, 500);
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k v"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE k -1"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$-1\r\n");
    fixture_close(&f);
}

TEST(core, a_wall_clock_that_jumps_expires_nothing_early)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k v EX 10"), "+OK\r\n");
    f.wall_ms += 1000ull * 3600 * 24 * 365;
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":10\r\n");
    f.wall_ms -= 1000ull * 3600 * 24 * 365 * 20;
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\nv\r\n");
    fixture_run(&f, 10000);
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$-1\r\n");
    fixture_close(&f);
}

TEST(core, scan_keys_and_ranges)
{
    struct fixture f;
    char line[64];
    int seen = 0;
    fixture_open(&f);
    for (int i = 0; i < 50; i++) {
        (void)snprintf(line, sizeof line, "SET key%02d %d", i, i);
        EXPECT_TEXT(fixture_say(&f, line), "+OK\r\n");
    }
    char cursor[32] = "0";
    do {
        (void)snprintf(line, sizeof line, "SCAN %s COUNT 7 MATCH key*", cursor);
        const char *reply = fixture_say(&f, line);
        const char *at = strstr(reply, "\r\n") + 2; /* *2 */
        at = strstr(at, "\r\n") + 2;                /* $n of the cursor */
        (void)snprintf(cursor, sizeof cursor, "%.*s", (int)strcspn(at, "\r"), at);
        for (at = strstr(at, "$5"); at != NULL; at = strstr(at + 1, "$5")) seen++;
    } while (strcmp(cursor, "0") != 0);
    EXPECT_EQ(seen, 50);
    EXPECT_TEXT(fixture_say(&f, "SCAN x"), "-ERR invalid cursor\r\n");
    EXPECT_TEXT(fixture_say(&f, "SCAN 0 COUNT 0"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "SCAN 0 TYPE list COUNT 1000"), "*2\r\n$1\r\n0\r\n*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KEYS key4[12]"), strstr(fixture_say(&f, "KEYS key4[12]"), "*2"));
    char pattern[1100];
    for (int i = 0; i < 2; i++) {
        memset(pattern, '*', sizeof pattern);
        const int size = snprintf(pattern, sizeof pattern, i == 0 ? "KEYS " : "SCAN 0 MATCH ");
        pattern[size] = '*';
        memcpy(pattern + size + 1025, "\r\n", 2);
        EXPECT_TEXT(fixture_ask(&f, 0, pattern, (uint64_t)size + 1027),
                    "-TOOBIG a pattern has at most 1024 bytes, this one has 1025\r\n");
    }
    EXPECT_TEXT(fixture_say(&f, "KV.RANGE key03 key05 KEYS"),
                "*2\r\n$5\r\nkey03\r\n$5\r\nkey04\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.RANGE key03 key06 KEYS REVERSE LIMIT 2"),
                "*2\r\n$5\r\nkey05\r\n$5\r\nkey04\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.RANGE key48 \"\" KEYS"),
                "*2\r\n$5\r\nkey48\r\n$5\r\nkey49\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":50\r\n");
    EXPECT_TEXT(fixture_say(&f, "FLUSHALL BOGUS"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "FLUSHALL ASYNC"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    fixture_close(&f);
}

/* Patterns that are slow to compare: SCAN answers fewer keys, KEYS in a transaction is refused. */
TEST(core, hostile_patterns_do_not_make_a_turn_long)
{
    struct fixture f;
    struct buf line = {0};
    struct buf hostile = {0};
    fixture_open(&f);
    for (uint32_t i = 0; i < 300; i++) {
        line.size = 0;
        buf_printf(&line, "*3\r\n$3\r\nSET\r\n$4003\r\n%03u", i);
        for (uint32_t k = 0; k < 4000; k++) buf_u8(&line, (uint8_t)('a' + (k * k + i) % 26));
        buf_text(&line, "\r\n$1\r\nv\r\n");
        EXPECT_TEXT(fixture_ask(&f, 0, line.data, line.size), "+OK\r\n");
    }
    buf_u8(&hostile, '*');
    for (uint32_t i = 0; i < 200; i++) buf_text(&hostile, "[a-z]");
    buf_text(&hostile, "1*");
    line.size = 0;
    buf_printf(&line, "SCAN 0 COUNT 1000 MATCH %.*s\r\n", (int)hostile.size,
               (const char *)hostile.data);
    const char *text = fixture_ask(&f, 0, line.data, line.size);
    if (strncmp(text, "*2\r\n$", 5) != 0) EXPECT_TEXT(text, "*2");
    EXPECT_TRUE(strncmp(text, "*2\r\n$1\r\n0\r\n", 11) != 0); /* There is more. */
    line.size = 0;
    buf_printf(&line, "MULTI\r\nKEYS %.*s\r\nEXEC\r\n", (int)hostile.size,
               (const char *)hostile.data);
    EXPECT_TEXT(fixture_ask(&f, 0, line.data, line.size),
                "+OK\r\n+QUEUED\r\n*1\r\n-TOOBIG to compare all keys with this pattern takes too "
                "long for a transaction: do this outside\r\n");
    line.size = 0;
    buf_printf(&line, "KEYS %.*s\r\n", (int)hostile.size, (const char *)hostile.data);
    EXPECT_TEXT(fixture_ask(&f, 0, line.data, line.size), "*0\r\n");
    buf_close(&line);
    buf_close(&hostile);
    fixture_close(&f);
}

TEST(core, too_long_keys_and_values_are_refused_and_the_connection_goes_on)
{
    struct fixture f;
    struct buf command = {0};
    fixture_open(&f);
    f.config.max_value_size = 1000;
    buf_text(&command, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1001\r\n");
    memset(buf_extend(&command, 1001), 'x', 1001);
    buf_text(&command, "\r\nPING\r\n");
    const char *reply = fixture_ask(&f, 0, command.data, command.size);
    EXPECT_TRUE(strncmp(reply, "-TOOBIG ", 8) == 0);
    EXPECT_TRUE(strstr(reply, "+PONG\r\n") != NULL);
    command.size = 0;
    buf_text(&command, "*2\r\n$3\r\nGET\r\n$65537\r\n");
    memset(buf_extend(&command, 65537), 'k', 65537);
    buf_text(&command, "\r\nPING\r\n");
    reply = fixture_ask(&f, 0, command.data, command.size);
    EXPECT_TRUE(strncmp(reply, "-TOOBIG ", 8) == 0);
    EXPECT_TRUE(strstr(reply, "+PONG\r\n") != NULL);
    command.size = 0;
    buf_text(
        &command,
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n"); /* longer than any argument may be: dropped */
    for (int i = 0; i < 10; i++) {
        memset(buf_extend(&command, 100000), 'x', 100000);
        (void)fixture_ask(&f, 0, command.data, command.size);
        command.size = 0;
    }
    reply = fixture_ask(&f, 0, "\r\nPING\r\n", 8);
    EXPECT_TRUE(strncmp(reply, "-TOOBIG ", 8) == 0);
    EXPECT_TRUE(strstr(reply, "+PONG\r\n") != NULL);
    EXPECT_TEXT(fixture_say(&f, "SET \"\" v"),
                "-TOOBIG a key has 1 to 65536 bytes, this one has 0\r\n");
    buf_close(&command);
    fixture_close(&f);
}

TEST(core, lost_framing_closes_after_the_error)
{
    struct fixture f;
    fixture_open(&f);
    const char *reply = fixture_ask(&f, 1, "SET k v\r\n*1\r\n:5\r\nPING\r\n", 22);
    EXPECT_TEXT(reply, "+OK\r\n-ERR Protocol error: expected '$', got ':'\r\n");
    EXPECT_TRUE(f.clients[1].is_closed);
    EXPECT_TEXT(fixture_ask(&f, 2, "QUIT\r\nPING\r\n", 12), "+OK\r\n");
    EXPECT_TRUE(f.clients[2].is_closed);
    fixture_close(&f);
}

TEST(core, a_reader_that_stops_is_paused_and_then_closed)
{
    struct fixture f;
    struct buf command = {0};
    fixture_open(&f);
    struct fixture_client *client = fixture_client(&f, 3);
    buf_text(&command, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n");
    memset(buf_extend(&command, 200000), 'x', 200000);
    buf_text(&command, "\r\n");
    EXPECT_TEXT(fixture_ask(&f, 3, command.data, command.size), "+OK\r\n");
    client->take_max = 0;
    command.size = 0;
    for (int i = 0; i < 40000; i++) buf_text(&command, "GET k\r\n");
    (void)fixture_ask(&f, 3, command.data, command.size);
    EXPECT_TRUE(client->is_paused);
    EXPECT_FALSE(client->is_closed);
    EXPECT_TEXT(fixture_say(&f, "GET none"), "$-1\r\n"); /* others go on */
    client->take_max = UINT64_MAX;
    core_client_writable(f.core, client->session);
    client->out.size = 0;
    for (int i = 0; i < 4000 && client->is_paused; i++) {
        fixture_run(&f, 20);
        client->out.size = 0;
    }
    EXPECT_FALSE(client->is_paused);
    f.config.output_limit_size = 100000;
    f.config.max_value_size = 1000; /* One value may always be under way. */
    client->take_max = 0;
    (void)fixture_ask(&f, 3, "GET k\r\nGET k\r\n", 14);
    EXPECT_TRUE(client->is_closed);
    buf_close(&command);
    fixture_close(&f);
}

/* A page in a browser on the same machine can send such a request to any port, with commands as its body. */
TEST(core, a_web_request_is_not_obeyed)
{
    static const char *const requests[] = {
        "POST / HTTP/1.1\r\nSET k web\r\n",
        "GET / HTTP/1.1\r\nhost: 127.0.0.1:6379\r\n\r\nSET k web\r\n",
        "MULTI\r\nHost: x\r\nSET k web\r\nEXEC\r\n",
    };
    struct fixture f;
    fixture_open(&f);
    for (int i = 0; i < 3; i++) {
        const char *reply = fixture_ask(&f, i + 1, requests[i], strlen(requests[i]));
        EXPECT_TRUE(strstr(reply, "-ERR this port takes the Redis protocol, not HTTP\r\n") != NULL);
        EXPECT_TRUE(f.clients[i + 1].is_closed);
    }
    EXPECT_TEXT(fixture_say(&f, "EXISTS k"), ":0\r\n");
    fixture_close(&f);
}

TEST(core, protocol_three)
{
    struct fixture f;
    fixture_open(&f);
    const char *reply = fixture_say(&f, "HELLO 3 SETNAME me");
    EXPECT_TRUE(strncmp(reply, "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n", 27) == 0);
    EXPECT_TEXT(fixture_say(&f, "GET none"), "_\r\n");
    EXPECT_TEXT(fixture_say(&f, "CLIENT GETNAME"), "$2\r\nme\r\n");
    EXPECT_TEXT(fixture_say(&f, "HELLO 4"), "-NOPROTO unsupported protocol version\r\n");
    EXPECT_TEXT(fixture_say(&f, "HELLO x"),
                "-ERR Protocol version is not an integer or out of range\r\n");
    EXPECT_TEXT(fixture_say(&f, "RESET"), "+RESET\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET none"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "CLIENT SETINFO LIB-NAME x"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "CLIENT SETINFO UNKNOWN x"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "CLIENT FOO"),
                "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n");
    EXPECT_TEXT(fixture_say(&f, "SELECT 0"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "SELECT 1"), "-ERR DB index is out of range\r\n");
    EXPECT_TRUE(strstr(fixture_say(&f, "INFO"), "redis_version:7.2.4") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&f, "INFO replication"), "role:master") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&f, "CONFIG GET save"), "$4\r\nsave\r\n$0\r\n") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&f, "COMMAND INFO get"), "get") != NULL);
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS MSET a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    EXPECT_TRUE(strstr(fixture_say(&f, "ROLE"), "master") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&f, "KV.STATUS"), "leader") != NULL);
    EXPECT_TEXT(fixture_say(&f, "KV.TRANSFER"), "-ERR there is no other member\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.TRANSFER nobody"), "-ERR no member has this name\r\n");
    fixture_close(&f);
}

TEST(core, stops_when_asked)
{
    struct fixture f;
    fixture_open(&f);
    struct fixture_client *client = fixture_client(&f, 0);
    core_client_bytes(f.core, client->session, (const uint8_t *)"SET k v\r\n", 9);
    core_turn(f.core, ++f.now_ms, ++f.wall_ms);
    core_stop(f.core, f.now_ms);
    fixture_run(&f, 1); /* There is nobody to hand over to. */
    EXPECT_TRUE(core_client_open(f.core, &f.clients[1], CORE_FACE_CLIENT, "x") == NULL);
    for (int i = 0; i < 5000 && !core_stopped(f.core); i++) fixture_run(&f, 1);
    EXPECT_TRUE(core_stopped(f.core));
    EXPECT_TRUE(client->is_closed);
    EXPECT_BYTES(client->out.data, "+OK\r\n", 5);
    fixture_close(&f);
}

TEST(core, wrong_directory_is_refused)
{
    struct fixture f;
    char message[512];
    int code = 0;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k v"), "+OK\r\n");
    fixture_stop(&f);
    config_defaults(&f.config, "another");
    EXPECT_EQ(config_finish(&f.config, message), OK);
    f.core = core_create(&f.config, &f.disk.disk, &f.net, 1);
    EXPECT_EQ(core_start(f.core, 1, 1, message, &code), ERR_FOREIGN);
    EXPECT_EQ(code, EXIT_BAD_DATA);
    EXPECT_TRUE(strstr(message, "alone") != NULL);
    core_destroy(f.core);
    sim_disk_flip(&f.disk, "identity", 200);
    f.core = core_create(&f.config, &f.disk.disk, &f.net, 1);
    EXPECT_EQ(core_start(f.core, 1, 1, message, &code), ERR_CORRUPT);
    core_destroy(f.core);
    EXPECT_TRUE(sim_disk_drop(&f.disk, "identity"));
    f.core = core_create(&f.config, &f.disk.disk, &f.net, 1);
    EXPECT_EQ(core_start(f.core, 1, 1, message, &code), ERR_CORRUPT);
    EXPECT_TRUE(strstr(message, "identity is missing") != NULL);
    fixture_close(&f);
}

TEST(core, a_log_that_vanished_is_not_begun_again)
{
    struct fixture f;
    struct buf names = {0};
    char message[512];
    int code = 0;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k v"), "+OK\r\n");
    fixture_stop(&f);
    sim_disk_names(&f.disk, &names);
    for (uint64_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;
        if (strncmp(name, "shard-0000/", 11) == 0) EXPECT_TRUE(sim_disk_drop(&f.disk, name));
    }
    buf_close(&names);
    f.core = core_create(&f.config, &f.disk.disk, &f.net, 1);
    EXPECT_EQ(core_start(f.core, 1, 1, message, &code), ERR_CORRUPT);
    EXPECT_EQ(code, EXIT_BAD_DATA);
    EXPECT_TRUE(strstr(message, "gone") != NULL);
    fixture_close(&f);
}

TEST(core, a_client_that_closed_its_sending_half_is_answered)
{
    struct fixture f;
    fixture_open(&f);
    struct fixture_client *client = fixture_client(&f, 4);
    core_client_bytes(f.core, client->session, (const uint8_t *)"SET k v\r\nGET k\r\nGE", 19);
    core_client_eof(f.core, client->session);
    fixture_run(&f, 20);
    EXPECT_TRUE(client->is_closed);
    buf_u8(&client->out, 0);
    EXPECT_TEXT((const char *)client->out.data, "+OK\r\n$1\r\nv\r\n");
    fixture_close(&f);
}

TEST(core, cluster_clients_find_one_shard_that_owns_all_slots)
{
    struct fixture f;
    char id[41];
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "CLUSTER SLOTS"),
                "-ERR This instance has cluster support disabled\r\n");
    fixture_stop(&f);
    (void)snprintf(f.config.advertise_cluster_client, sizeof f.config.advertise_cluster_client,
                   "127.0.0.1:7301");
    fixture_start(&f);
    f.clients[0].session = core_client_open(f.core, &f.clients[0], CORE_FACE_CLUSTER, "x");
    const char *reply = fixture_say(&f, "CLUSTER MYID");
    EXPECT_TRUE(strncmp(reply, "$40\r\n", 5) == 0);
    (void)snprintf(id, sizeof id, "%.40s", reply + 5);
    reply = fixture_say(&f, "CLUSTER SLOTS");
    EXPECT_TRUE(
        strncmp(reply, "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$9\r\n127.0.0.1\r\n:7301\r\n", 46) == 0);
    EXPECT_TRUE(strstr(reply, id) != NULL);
    reply = fixture_say(&f, "CLUSTER NODES");
    EXPECT_TRUE(strstr(reply, "127.0.0.1:7301@7301 myself,master - 0 0 ") != NULL);
    EXPECT_TRUE(strstr(reply, " connected 0-16383\n") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&f, "CLUSTER INFO"), "cluster_state:ok") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&f, "CLUSTER SHARDS"), "master") != NULL);
    EXPECT_TEXT(fixture_say(&f, "CLUSTER KEYSLOT {user}1"), ":5474\r\n");
    EXPECT_TEXT(fixture_say(&f, "CLUSTER MEET a 1"),
                "-ERR CLUSTER MEET is not supported: use kvctl member and kvctl leader\r\n");
    EXPECT_TEXT(fixture_say(&f, "READONLY"), "+OK\r\n");
    EXPECT_TRUE(strstr(fixture_say(&f, "HELLO"), "cluster") != NULL);
    EXPECT_TEXT(fixture_say(&f, "SET k v"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "SELECT 1"), "-ERR SELECT is not allowed in cluster mode\r\n");
    fixture_close(&f);
}

TEST(core, values_and_moments_of_expiry)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SETEX k 100 v"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":100\r\n");
    EXPECT_TEXT(fixture_say(&f, "PSETEX k 5000 w"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":5\r\n");
    EXPECT_TEXT(fixture_say(&f, "SETEX k 0 v"), "-ERR invalid expire time in 'setex' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIREAT k 99999999999"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "PEXPIREAT k 1"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$-1\r\n");
    fixture_close(&f);
}

/* Lines that were answered. */
static uint64_t answers_of(const struct fixture_client *client)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < client->out.size; i++) count += client->out.data[i] == '\n';
    return count;
}

TEST(core, one_turn_runs_a_bounded_number_of_commands_and_everybody_has_a_share)
{
    struct fixture f;
    fixture_open(&f);
    struct buf many = {0};
    for (int i = 0; i < 4000; i++) buf_text(&many, "PING\r\n");
    for (int i = 0; i < 7; i++) {
        struct fixture_client *client = fixture_client(&f, i);
        core_client_bytes(f.core, client->session, many.data, many.size);
    }
    struct fixture_client *last = fixture_client(&f, 7);
    core_client_bytes(f.core, last->session, (const uint8_t *)"PING\r\n", 6);
    uint64_t before = 0;
    uint32_t turns = 0;
    while (before < 7 * 4000 + 1) {
        fixture_run(&f, 1);
        uint64_t after = 0;
        for (int i = 0; i < 8; i++) after += answers_of(&f.clients[i]);
        turns++;
        EXPECT_LT(before, after);
        EXPECT_LE(after - before, 2048 + 8);
        if (turns == 1) EXPECT_EQ(answers_of(last), 1); /* Whoever came first sent thousands. */
        EXPECT_TRUE(after == 7 * 4000 + 1 || core_deadline(f.core) <= f.now_ms);
        before = after;
    }
    EXPECT_LT(7 * 4000 / 2048, turns + 1);
    buf_close(&many);
    fixture_close(&f);
}

TEST(core, commands_with_many_arguments_count_as_many)
{
    struct fixture f;
    fixture_open(&f);
    struct buf mget = {0};
    buf_text(&mget, "*3001\r\n$4\r\nMGET\r\n");
    for (int i = 0; i < 3000; i++) buf_text(&mget, "$1\r\nk\r\n");
    struct buf twice = {0};
    for (int i = 0; i < 2; i++) buf_append(&twice, mget.data, mget.size);
    for (int i = 0; i < 4; i++) {
        struct fixture_client *client = fixture_client(&f, i);
        core_client_bytes(f.core, client->session, twice.data, twice.size);
    }
    /* Two of them are more than a turn's work: four clients that sent two each need four turns. */
    uint64_t before = 0;
    for (uint32_t turns = 0; turns < 4; turns++) {
        uint64_t after = 0;
        fixture_run(&f, 1);
        for (int i = 0; i < 4; i++) after += answers_of(&f.clients[i]);
        EXPECT_LE(after - before, 2 * 3001);
        before = after;
    }
    EXPECT_EQ(before, 8 * 3001);
    buf_close(&mget);
    buf_close(&twice);
    fixture_close(&f);
}

TEST(core, one_turn_gives_a_bounded_size_of_replies)
{
    struct fixture f;
    fixture_open(&f);
    const uint64_t size = 500000;
    struct buf text = {0};
    buf_text(&text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\n");
    for (uint64_t i = 0; i < size; i++) buf_u8(&text, (uint8_t)(hash64(&i, sizeof i)));
    buf_text(&text, "\r\n");
    EXPECT_TEXT(fixture_ask(&f, 0, text.data, text.size), "+OK\r\n");
    f.clients[0].out.size = 0;
    text.size = 0;
    for (int i = 0; i < 6; i++) buf_text(&text, "GET k\r\n");
    for (int i = 0; i < 8; i++) {
        struct fixture_client *client = fixture_client(&f, i);
        core_client_bytes(f.core, client->session, text.data, text.size);
    }
    const uint64_t all = 8 * 6 * (size + strlen("$500000\r\n\r\n"));
    uint64_t before = 0;
    for (uint32_t turns = 0; before < all; turns++) {
        uint64_t after = 0;
        CHECK(turns < 1000);
        fixture_run(&f, 1);
        for (int i = 0; i < 8; i++) after += f.clients[i].out.size;
        EXPECT_LE(after - before, 2 * MIB + MIB);
        EXPECT_TRUE(after == all || core_deadline(f.core) <= f.now_ms);
        before = after;
    }
    EXPECT_EQ(before, all);
    buf_close(&text);
    fixture_close(&f);
}

TEST(core, busy_rounds_of_the_loop_are_told)
{
    struct fixture f;
    fixture_open(&f);
    core_note_busy(f.core, 700);
    core_note_busy(f.core, 6000);
    core_note_busy(f.core, 12345);
    const char *info = fixture_say(&f, "INFO stats");
    EXPECT_TRUE(
        strstr(info, "turns_over_5ms:2\r\nturns_over_10ms:1\r\nturn_longest_us:12345\r\n") != NULL);
    struct buf body = {0};
    const char *type = NULL;
    EXPECT_EQ(core_http(f.core, "/metrics", &body, &type), 200);
    buf_u8(&body, 0);
    const char *text = (const char *)body.data;
    EXPECT_TRUE(strstr(text, "\nflashkv_turn_max_us 12345\n") != NULL);
    EXPECT_TRUE(strstr(text, "flashkv_turn_seconds_bucket{le=\"0.010000\"} 2\n") != NULL);
    EXPECT_TRUE(strstr(text, "\nflashkv_turn_seconds_count 3\n") != NULL);
    buf_close(&body);
    fixture_close(&f);
}

/* What many clients ask at once is divided among turns, between which the host looks at its sockets. */
TEST(core, costly_commands_of_many_clients_share_a_turn)
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
    for (uint32_t i = 0; i < 10; i++) buf_text(&line, "DIGEST big\r\n");
    const uint64_t begin = fixture.core->stats.commands_total;
    for (int at = 0; at < 8; at++) {
        struct fixture_client *client = fixture_client(&fixture, at);
        client->out.size = 0;
        core_client_bytes(fixture.core, client->session, line.data, line.size);
    }
    uint64_t done = begin;
    uint64_t most = 0;
    for (uint32_t i = 0; i < 1000 && done < begin + 80; i++) {
        fixture_run(&fixture, 1);
        const uint64_t now = fixture.core->stats.commands_total;
        if (now - done > most) most = now - done;
        done = now;
    }
    fixture_run(&fixture, 10);
    EXPECT_EQ(done, begin + 80);
    EXPECT_LE(most, 3); /* 8 million bytes take a millisecond. */
    for (int at = 0; at < 8; at++) EXPECT_EQ(fixture_client(&fixture, at)->out.size, 10 * 23);
    buf_close(&line);
    fixture_close(&fixture);
}
