/* max-index-memory: what a node refuses, and when it takes writes again. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#include "storage/base/limits.h"
#include "storage/keydir.h"
#include "storage/store.h"

#define OOM "-OOM command not allowed when used memory > 'max-index-memory'.\r\n"

static struct keydir *keys_of(struct fixture *f)
{
    return store_keys(core_store(f->core));
}

/* Sets keys until one is refused; returns how many were set. */
static uint32_t fill(struct fixture *f, uint32_t first, uint32_t max)
{
    char line[64];
    for (uint32_t i = first; i < first + max; i++) {
        (void)snprintf(line, sizeof line, "SET key:%06u value", i);
        const char *reply = fixture_say(f, line);
        if (strcmp(reply, "+OK\r\n") == 0) continue;
        EXPECT_TEXT(reply, OOM);
        return i - first;
    }
    return max;
}

TEST(memory, a_full_index_refuses_what_adds_keys_and_nothing_else)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_EQ(fill(&f, 0, 200), 200);
    f.config.max_index_memory = keydir_used(keys_of(&f)) + 16 * KIB;
    const uint32_t more = fill(&f, 200, 4000);
    EXPECT_TRUE(more > 100 && more < 1000);
    EXPECT_LE(keydir_used(keys_of(&f)), f.config.max_index_memory + KIB);

    const char *const refused[] = {
        "SET new v",          "SET key:000001 v",    "SETNX new v",
        "MSET new v other w", "APPEND new v",        "INCR new",
        "DECRBY new 3",       "GETSET key:000001 v", "SETEX new 10 v",
    };
    for (uint32_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        EXPECT_TEXT(fixture_say(&f, refused[i]), OOM);
    }
    EXPECT_TEXT(fixture_say(&f, "GET new"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET key:000001"), "$5\r\nvalue\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXPIRE key:000001 100"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "PERSIST key:000001"), ":1\r\n");
    const char *info = fixture_say(&f, "INFO memory");
    EXPECT_TRUE(strstr(info, "\r\nindex_full:1\r\n") != NULL);
    EXPECT_TRUE(strstr(info, "\r\nindex_refusals:10\r\n") != NULL);
    EXPECT_TEXT(fixture_say(&f, "GETDEL key:000002"), "$5\r\nvalue\r\n");
    fixture_close(&f);
}

TEST(memory, room_comes_back_with_every_way_to_lose_keys)
{
    struct fixture f;
    char line[64];
    fixture_open(&f);
    f.config.max_index_memory = 64 * KIB;
    const uint32_t count = fill(&f, 0, 10000);
    EXPECT_LT(count, 2000);
    for (uint32_t i = 0; i < 100; i++) {
        (void)snprintf(line, sizeof line, "DEL key:%06u", i * 7);
        EXPECT_TEXT(fixture_say(&f, line), ":1\r\n");
    }
    const uint32_t again = fill(&f, 10000, 10000);
    EXPECT_TRUE(again > 30 && again < count / 2);

    for (uint32_t i = 0; i < 100; i++) {
        (void)snprintf(line, sizeof line, "PEXPIRE key:%06u 50", 1 + i * 7);
        EXPECT_TEXT(fixture_say(&f, line), ":1\r\n");
    }
    fixture_run(&f, 2000);
    const uint32_t expired = fill(&f, 20000, 10000);
    EXPECT_TRUE(expired > 30 && expired < count / 2);

    EXPECT_TEXT(fixture_say(&f, "FLUSHALL"), "+OK\r\n");
    EXPECT_TRUE(strstr(fixture_say(&f, "INFO memory"), "\r\nindex_full:0\r\n") != NULL);
    EXPECT_LT(count / 2, fill(&f, 30000, 10000));
    fixture_close(&f);
}

/* The limit is for what is let in, not for what is there: a node that is started with a lower one reads
 * everything. */
TEST(memory, a_lower_limit_at_a_start_loses_nothing)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_EQ(fill(&f, 0, 1500), 1500);
    fixture_stop(&f);
    f.config.max_index_memory = 32 * KIB;
    for (int i = 0; i < 8; i++) f.clients[i].session = NULL;
    fixture_start(&f);
    EXPECT_TEXT(fixture_say(&f, "GET key:001499"), "$5\r\nvalue\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":1500\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET new v"), OOM);
    f.config.max_index_memory = 0;
    EXPECT_TEXT(fixture_say(&f, "SET new v"), "+OK\r\n");
    fixture_close(&f);
}
