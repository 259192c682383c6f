/* test_cmd_key.c - commands on keys as such: what a comparison with Redis does not reach. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define SAYS(line, reply) EXPECT_TEXT(fixture_say(&fixture, line), reply)

TEST(cmd_key, a_copy_keeps_the_expiry_and_the_source)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SET a v PX 5000", "+OK\r\n");
    SAYS("COPY a b", ":1\r\n");
    fixture_run(&fixture, 3000);
    SAYS("EXISTS a b", ":2\r\n");
    SAYS("PERSIST a", ":1\r\n");
    fixture_run(&fixture, 3000);
    SAYS("EXISTS a b", ":1\r\n");
    SAYS("GET a", "$1\r\nv\r\n");
    SAYS("COPY b c", ":0\r\n");
    SAYS("RENAME b c", "-ERR no such key\r\n");
    fixture_close(&fixture);
}

TEST(cmd_key, expired_keys_are_gone_for_every_command)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SET a v PX 100", "+OK\r\n");
    SAYS("SET b v", "+OK\r\n");
    fixture_run(&fixture, 200);
    SAYS("RENAMENX b a", ":1\r\n");
    SAYS("TTL a", ":-1\r\n");
    SAYS("PEXPIRETIME b", ":-2\r\n");
    SAYS("RANDOMKEY", "$1\r\na\r\n");
    fixture_close(&fixture);
}

TEST(cmd_key, a_random_key_is_found_among_expired_ones)
{
    struct fixture fixture;
    char line[64];
    fixture_open(&fixture);
    SAYS("RANDOMKEY", "$-1\r\n");
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(line, sizeof line, "SET k%d v PXAT 1700000400000\r\n", i);
        core_client_bytes(fixture.core, fixture_client(&fixture, 0)->session, (const uint8_t *)line,
                          strlen(line));
    }
    fixture_run(&fixture, 500);
    SAYS("SET left v", "+OK\r\n");
    SAYS("DBSIZE", ":1001\r\n");
    fixture.now_ms += 1000000; /* They are all gone in this moment, and nothing is swept yet. */
    fixture.wall_ms += 1000000;
    SAYS("RANDOMKEY", "$4\r\nleft\r\n");
    fixture_close(&fixture);
}

/* A thousand keys in each of @rounds commands, which is @name key [@value] ... */
static void for_many(struct fixture *fixture, const char *name, const char *value, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        struct buf text = {0};
        buf_printf(&text, "%s", name);
        for (int i = 0; i < 1000; i++) buf_printf(&text, " k%d%s", round * 1000 + i, value);
        buf_printf(&text, "\r\n");
        (void)fixture_ask(fixture, 1, text.data, text.size);
        buf_close(&text);
    }
}

TEST(cmd_key, a_scan_ends_though_most_of_the_table_is_empty)
{
    struct fixture fixture;
    char line[64];
    uint64_t cursor = 0;
    uint32_t calls = 0;
    fixture_open(&fixture);
    for_many(&fixture, "MSET", " v", 40);
    SAYS("DBSIZE", ":40000\r\n");
    for_many(&fixture, "DEL", "", 40);
    SAYS("DBSIZE", ":0\r\n");
    do {
        (void)snprintf(line, sizeof line, "SCAN %llu COUNT 10", (unsigned long long)cursor);
        const char *reply = fixture_say(&fixture, line);
        cursor = strtoull(strchr(reply, '\n') + 1 + strcspn(strchr(reply, '\n') + 1, "\n"), NULL,
                          10);
        EXPECT_TRUE(strstr(reply, "*0\r\n") != NULL);
        calls++;
    } while (cursor != 0 && calls < 100);
    EXPECT_EQ(cursor, 0);
    EXPECT_TRUE(calls > 1);
    fixture_close(&fixture);
}

TEST(cmd_key, wait_counts_synced_followers)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SET a v", "+OK\r\n");
    SAYS("WAIT 0 0", ":0\r\n");
    SAYS("WAIT 1 50", "");
    fixture_run(&fixture, 100);
    EXPECT_TEXT((const char *)fixture.clients[0].out.data, ":0\r\n");
    SAYS("WAITAOF 1 0 0", "*2\r\n:1\r\n:0\r\n");
    SAYS("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1\r\n");
    SAYS("WAITAOF 1 -1 0", "-ERR value is out of range, must be positive\r\n");
    SAYS("WAIT 1 -1", "-ERR timeout is negative\r\n");
    fixture_close(&fixture);
}

TEST(cmd_key, insight_speaks_of_values_as_redis_does)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SET a 12", "+OK\r\n");
    SAYS("OBJECT ENCODING a", "$3\r\nint\r\n");
    SAYS("SET a 12.5", "+OK\r\n");
    SAYS("OBJECT encoding a", "$6\r\nembstr\r\n");
    SAYS("SETRANGE a 50 x", ":51\r\n");
    SAYS("OBJECT ENCODING a", "$3\r\nraw\r\n");
    SAYS("OBJECT REFCOUNT a", ":1\r\n");
    SAYS("OBJECT ENCODING none", "$-1\r\n");
    SAYS("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command\r\n");
    SAYS("OBJECT FOO a", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.\r\n");
    SAYS("MEMORY USAGE none", "$-1\r\n");
    EXPECT_TRUE(strtol(fixture_say(&fixture, "MEMORY USAGE a") + 1, NULL, 10) > 60);
    SAYS("MEMORY USAGE a SAMPLES -1", "-ERR syntax error\r\n");
    fixture_close(&fixture);
}
