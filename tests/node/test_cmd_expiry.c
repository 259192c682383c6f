/* test_cmd_expiry.c - expired keys are deleted at a pace, and gone at once. */
#include "node/core_parts.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define SAYS(line, reply) EXPECT_TEXT(fixture_say(&fixture, line), reply)
#define COUNT 12000

static void load(struct fixture *fixture, const char *when)
{
    char line[96];
    struct fixture_client *client = fixture_client(fixture, 0);
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(line, sizeof line, "SET k%d v PXAT %s\r\n", i, when);
        core_client_bytes(fixture->core, client->session, (const uint8_t *)line, strlen(line));
        if (i % 500 == 0) fixture_run(fixture, 2);
    }
    fixture_run(fixture, 100);
}

static uint64_t keys_of(const struct fixture *fixture)
{
    return keydir_count(store_keys(fixture->core->shard.store));
}

TEST(cmd_expiry, clients_hardly_feel_the_sweeper)
{
    struct fixture fixture;
    fixture_open(&fixture);
    load(&fixture, "1700000100000");
    EXPECT_EQ(keys_of(&fixture), COUNT);
    fixture.wall_ms += 100000;
    fixture.now_ms += 100000;
    SAYS("GET k1", "$-1\r\n");
    uint64_t before = keys_of(&fixture);
    for (int i = 0; i < 6; i++) {
        SAYS("GET k11999", "$-1\r\n"); /* 20 ms, and gone though nobody swept it. */
        EXPECT_LT(before - keys_of(&fixture), 1501);
        before = keys_of(&fixture);
    }
    EXPECT_TRUE(before > 0);
    EXPECT_TRUE(shard_expiry_lag(&fixture.core->shard) > 0);
    fixture_run(&fixture, 300); /* Nobody asks: it goes faster. */
    EXPECT_EQ(keys_of(&fixture), 0);
    EXPECT_EQ(shard_expiry_lag(&fixture.core->shard), 0);
    EXPECT_TRUE(strstr(fixture_say(&fixture, "INFO stats"), "expired_keys:12000\r") != NULL);
    EXPECT_TRUE(strstr((const char *)fixture.clients[0].out.data, "expired_lag_ms:0\r") != NULL);
    fixture_close(&fixture);
}

TEST(cmd_expiry, a_time_that_is_past_leaves_no_key)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SET a v PXAT 1", "+OK\r\n");
    SAYS("DBSIZE", ":0\r\n");
    SAYS("SET a v", "+OK\r\n");
    SAYS("SET a w EXAT 5 GET", "$1\r\nv\r\n");
    SAYS("EXISTS a", ":0\r\n");
    SAYS("SET a v", "+OK\r\n");
    SAYS("GETEX a PXAT 1", "$1\r\nv\r\n");
    SAYS("GETEX a EX nonsense", "$-1\r\n");
    SAYS("SET a v", "+OK\r\n");
    SAYS("EXPIRE a -1 GT", ":0\r\n");
    SAYS("EXPIRE a -1 LT", ":1\r\n");
    SAYS("EXPIRE a nonsense ZZ", "-ERR Unsupported option ZZ\r\n");
    SAYS("PTTL a", ":-2\r\n");
    fixture_close(&fixture);
}

TEST(cmd_expiry, a_flush_gives_memory_back_little_by_little)
{
    struct fixture fixture;
    fixture_open(&fixture);
    load(&fixture, "1800000000000");
    const struct keydir *keys = store_keys(fixture.core->shard.store);
    const uint64_t full = keydir_memory(keys);
    core_client_bytes(fixture.core, fixture_client(&fixture, 0)->session,
                      (const uint8_t *)"FLUSHALL\r\nSET new v\r\n", 21);
    uint32_t turns = 0;
    while (keydir_count(keys) > 1 && turns++ < 100) fixture_run(&fixture, 1);
    EXPECT_EQ(keydir_count(keys), 1);
    fixture_run(&fixture, 500);
    EXPECT_TRUE(keydir_memory(keys) < full / 4);
    SAYS("DBSIZE", ":1\r\n");
    fixture_restart(&fixture);
    SAYS("DBSIZE", ":1\r\n");
    fixture_close(&fixture);
}
