/* Tests of KV.LOCK, KV.RENEW and KV.UNLOCK, and of those who wait for a lock. */
#include "tests/node/trio.h"

#include "node/locks.h"

static uint32_t waiting(const struct fixture *f)
{
    return f->core->locks.count;
}

TEST(lock, a_lock_has_one_owner_and_tokens_grow)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK l 10000 ann"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK l 10000 bob"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET l"), "$3\r\nann\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK m 10000 bob"), ":2\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK l 10000 ann"),
                ":3\r\n"); /* The answer may have been lost. */
    EXPECT_TEXT(fixture_say(&f, "KV.RENEW l 20000 ann"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL l"), ":20\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.RENEW l 20000 bob"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.UNLOCK l bob"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.UNLOCK l ann"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.UNLOCK l ann"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.RENEW l 20000 ann"), ":0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK l 50 bob"), ":4\r\n");
    fixture_run(&f, 100);
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK l 50 ann"), ":5\r\n");
    EXPECT_TEXT(fixture_say(&f, "FLUSHALL"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.LOCK l 50 ann"), ":6\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":1\r\n");
    fixture_close(&f);
}

TEST(lock, bad_arguments_are_refused)
{
    struct fixture f;
    fixture_open(&f);
    static const struct {
        const char *ask;
        const char *want;
    } cases[] = {
        {"KV.LOCK l 0 a", "-ERR the time to live of a lock is 1 to 31536000000 milliseconds\r\n"},
        {"KV.LOCK l x a", "-ERR value is not an integer or out of range\r\n"},
        {"KV.LOCK l 1 a WAIT", "-ERR syntax error\r\n"},
        {"KV.LOCK l 1 a FOR 5", "-ERR syntax error\r\n"},
        {"KV.LOCK l 1 a WAIT -1", "-ERR WAIT takes 0 to 86400000 milliseconds\r\n"},
        {"KV.LOCK l 1 a WAIT 86400001", "-ERR WAIT takes 0 to 86400000 milliseconds\r\n"},
        {"KV.LOCK l 1", "-ERR wrong number of arguments for 'kv.lock' command\r\n"},
        {"KV.RENEW l -5 a", "-ERR the time to live of a lock is 1 to 31536000000 milliseconds\r\n"},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        EXPECT_TEXT(fixture_say(&f, cases[i].ask), cases[i].want);
    }
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    fixture_close(&f);
}

TEST(lock, who_waits_gets_it_in_the_order_of_arrival)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say_as(&f, 0, "KV.LOCK l 10000 a"), ":1\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "KV.LOCK l 10000 b WAIT 5000"), "");
    EXPECT_TEXT(fixture_say_as(&f, 2, "KV.LOCK l 10000 c WAIT 5000\r\nPING"), "");
    EXPECT_TEXT(fixture_say_as(&f, 3, "KV.LOCK m 10000 d WAIT 5000"), ":2\r\n");
    EXPECT_EQ(waiting(&f), 2);
    EXPECT_TEXT(fixture_say_as(&f, 0, "KV.UNLOCK l a"), ":1\r\n");
    EXPECT_TEXT(fixture_got(&f, 1), ":3\r\n");
    EXPECT_TEXT(fixture_got(&f, 2), "");
    /* Nobody overtakes: the lock is free for a moment, and yet it is not for who comes now. */
    EXPECT_TEXT(fixture_say_as(&f, 1, "KV.UNLOCK l b\r\nKV.LOCK l 10000 b"), ":1\r\n$-1\r\n");
    EXPECT_TEXT(fixture_got(&f, 2), ":4\r\n+PONG\r\n");
    EXPECT_EQ(waiting(&f), 0);
    /* However the key goes. */
    EXPECT_TEXT(fixture_say_as(&f, 1, "KV.LOCK l 10000 b WAIT 5000"), "");
    EXPECT_TEXT(fixture_say_as(&f, 0, "FLUSHALL"), "+OK\r\n");
    EXPECT_TEXT(fixture_got(&f, 1), ":5\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 2, "KV.LOCK l 10000 c WAIT 5000"), "");
    EXPECT_TEXT(fixture_say_as(&f, 0, "PEXPIRE l 60"), ":1\r\n");
    fixture_run(&f, 300);
    EXPECT_TEXT(fixture_got(&f, 2), ":6\r\n");
    fixture_close(&f);
}

TEST(lock, waiting_ends_with_its_time_and_with_its_client)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say_as(&f, 0, "KV.LOCK l 100000 a"), ":1\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "KV.LOCK l 10000 b WAIT 100"), "");
    EXPECT_TEXT(fixture_say_as(&f, 2, "KV.LOCK l 10000 c WAIT 60000"), "");
    EXPECT_TEXT(fixture_say_as(&f, 3, "KV.LOCK l 10000 d WAIT 60000"), "");
    fixture_run(&f, 150);
    EXPECT_TEXT(fixture_got(&f, 1), "$-1\r\n");
    EXPECT_EQ(waiting(&f), 2);
    core_client_eof(f.core, f.clients[2].session);
    fixture_run(&f, 20);
    EXPECT_TRUE(f.clients[2].is_closed);
    EXPECT_EQ(waiting(&f), 1);
    EXPECT_TEXT(fixture_say_as(&f, 0, "KV.UNLOCK l a"), ":1\r\n");
    EXPECT_TEXT(fixture_got(&f, 3), ":2\r\n");
    /* In a transaction nobody waits. */
    EXPECT_TEXT(fixture_say_as(&f, 0, "MULTI\r\nKV.LOCK l 1000 a WAIT 5000\r\nEXEC"),
                "+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 0, "KV.ONCE c 1 KV.LOCK l 1000 a WAIT 5000"), "$-1\r\n");
    core_client_closed(f.core, f.clients[3].session);
    f.clients[3].session = NULL;
    fixture_close(&f);
}

static struct core *core_of(struct trio *trio, int at)
{
    return trio->members[at].core;
}

TEST(lock, who_waits_through_another_node_is_asked_again_after_a_change_of_leader)
{
    struct trio trio;
    trio_open(&trio);
    for (int at = 1; at < NODES; at++) trio.members[at].config.park_ms = 30000;
    say(&trio, 1, "KV.LOCK l 30000 a\r\nKV.LOCK l 60000 b WAIT 60000\r\nPING\r\n");
    trio_run(&trio, 100);
    say(&trio, 2, "KV.LOCK l 30000 c WAIT 60000\r\n");
    trio_run(&trio, 100);
    EXPECT_TEXT(heard(&trio, 1), ":1\r\n");
    EXPECT_EQ(core_of(&trio, 0)->locks.count, 2);
    /* Longer than a leader may take for any other answer. */
    trio_run(&trio, 8000);
    EXPECT_EQ(core_of(&trio, 0)->locks.count, 2);
    EXPECT_EQ(trio.closes, 0);
    trio_stop_first(&trio);
    for (int i = 0; i < 15000 && core_of(&trio, 1)->locks.count < 2; i++) trio_run(&trio, 1);
    EXPECT_EQ(core_of(&trio, 1)->locks.count, 2);
    EXPECT_TEXT(heard(&trio, 1), "");
    EXPECT_TEXT(heard(&trio, 2), "");
    /* The lock of the first ends by itself; whoever of the two came first now has it. */
    trio_run(&trio, 25000);
    EXPECT_EQ(core_of(&trio, 1)->locks.count, 1);
    char all[64];
    (void)snprintf(all, sizeof all, "%s", heard(&trio, 1));
    (void)snprintf(all + strlen(all), sizeof all - strlen(all), "%s", heard(&trio, 2));
    EXPECT_TRUE(strcmp(all, ":2\r\n+PONG\r\n") == 0 || strcmp(all, ":2\r\n") == 0);
    trio_close(&trio);
}

TEST(lock, a_lost_answer_is_asked_again)
{
    struct trio trio;
    trio_open(&trio);
    say(&trio, 1, "KV.LOCK l 30000 a\r\n");
    trio_lose_answers(&trio, 1);
    EXPECT_TEXT(heard(&trio, 1), ":2\r\n"); /* It had it already, and it may have it again. */
    trio_close(&trio);
}

TEST(lock, a_client_that_goes_waits_no_more_through_another_node)
{
    struct trio trio;
    trio_open(&trio);
    say(&trio, 1, "KV.LOCK l 30000 a\r\n");
    say(&trio, 2, "KV.LOCK l 30000 b WAIT 60000\r\n");
    trio_run(&trio, 100);
    EXPECT_EQ(core_of(&trio, 0)->locks.count, 1);
    core_client_eof(core_of(&trio, 2), trio.members[2].client.session);
    trio_run(&trio, 2000);
    EXPECT_EQ(core_of(&trio, 0)->locks.count, 0);
    EXPECT_TEXT(trio_ask(&trio, 1, "KV.UNLOCK l a\r\nEXISTS l\r\n", 100), ":1\r\n:1\r\n:0\r\n");
    trio_close(&trio);
}
