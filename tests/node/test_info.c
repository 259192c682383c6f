/* Tests of INFO: figures that are more than a counter. */
#include "node/core_parts.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

static bool has(struct fixture *fixture, const char *section, const char *line)
{
    char text[128];
    (void)snprintf(text, sizeof text, "INFO %s\r\n", section);
    const char *answer = fixture_ask(fixture, 7, text, strlen(text));
    (void)snprintf(text, sizeof text, "\r\n%s\r\n", line);
    return strstr(answer, text) != NULL;
}

static void say_at(struct fixture *fixture, int at, const char *line)
{
    (void)fixture_ask(fixture, at, line, strlen(line));
}

TEST(info, clients_that_wait_listen_or_watch_are_counted)
{
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_TRUE(has(&fixture, "clients", "blocked_clients:0"));
    EXPECT_TRUE(has(&fixture, "clients", "pubsub_clients:0"));
    say_at(&fixture, 1, "KV.LOCK l 5000 a\r\n");
    say_at(&fixture, 2, "KV.LOCK l 5000 b WAIT 60000\r\n");
    say_at(&fixture, 3, "WAIT 1 60000\r\n");
    say_at(&fixture, 4, "SUBSCRIBE a b\r\n");
    say_at(&fixture, 5, "WATCH x y z\r\n");
    EXPECT_TRUE(has(&fixture, "clients", "blocked_clients:2"));
    EXPECT_TRUE(has(&fixture, "clients", "pubsub_clients:1"));
    EXPECT_TRUE(has(&fixture, "clients", "watching_clients:1"));
    EXPECT_TRUE(has(&fixture, "clients", "total_watched_keys:3"));
    say_at(&fixture, 1, "KV.UNLOCK l a\r\n");
    say_at(&fixture, 4, "UNSUBSCRIBE\r\n");
    say_at(&fixture, 5, "UNWATCH\r\n");
    EXPECT_TRUE(has(&fixture, "clients", "blocked_clients:1"));
    EXPECT_TRUE(has(&fixture, "clients", "pubsub_clients:0"));
    EXPECT_TRUE(has(&fixture, "clients", "watching_clients:0"));
    fixture_close(&fixture);
}

TEST(info, rates_are_of_the_last_second)
{
    struct fixture fixture;
    fixture_open(&fixture);
    (void)fixture_client(&fixture, 0);
    fixture_run(&fixture, 3000);
    EXPECT_TRUE(has(&fixture, "stats", "instantaneous_ops_per_sec:0"));
    for (int i = 0; i < 100; i++) say_at(&fixture, 0, "SET a 1\r\n"); /* 20 ms each. */
    const uint64_t rate = fixture.core->rates.commands_s;
    EXPECT_TRUE(rate >= 40 && rate <= 51);
    EXPECT_TRUE(fixture.core->rates.bytes_in_s >= 9 * 40);
    fixture_run(&fixture, 3000);
    EXPECT_EQ(fixture.core->rates.commands_s, 0);
    fixture_close(&fixture);
}

static void tell_process(void *context, struct net_process *process)
{
    (void)context;
    *process = (struct net_process){
        .id = 4711, .resident_size = 123456, .user_us = 1500000, .system_us = 2000007};
}

TEST(info, what_the_system_says_is_told_only_if_it_says_it)
{
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_TRUE(strstr(fixture_say(&fixture, "INFO"), "process_id") == NULL);
    EXPECT_TRUE(strstr(fixture_say(&fixture, "INFO"), "used_cpu") == NULL);
    EXPECT_TRUE(strstr(fixture_say(&fixture, "INFO"), "used_memory_rss") == NULL);
    fixture.net.process = tell_process;
    EXPECT_TRUE(has(&fixture, "server", "process_id:4711"));
    EXPECT_TRUE(has(&fixture, "memory", "used_memory_rss:123456"));
    EXPECT_TRUE(has(&fixture, "cpu", "used_cpu_sys:2.000007"));
    EXPECT_TRUE(has(&fixture, "cpu", "used_cpu_user:1.500000"));
    fixture_close(&fixture);
}
