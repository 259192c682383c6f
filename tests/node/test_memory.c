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

/* What the node answers to a command on key @number, which is a long one; @more are further arguments. */
static const char *say(struct fixture *f, const char *command, uint32_t number, const char *more)
{
    char line[320];
    (void)snprintf(line, sizeof line, "%s key:%0200u %s", command, number, more);
    return fixture_say(f, line);
}

/* Sets keys until one is refused; returns how many were set. */
static uint32_t fill(struct fixture *f, uint32_t first, uint32_t max)
{
    for (uint32_t i = first; i < first + max; i++) {
        const char *reply = say(f, "SET", i, "value");
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
    EXPECT_EQ(fill(&f, 0, 40), 40);
    f.config.max_index_memory = keydir_used(keys_of(&f)) + 16 * KIB;
    const uint32_t more = fill(&f, 40, 500);
    EXPECT_TRUE(more > 30 && more < 80);
    EXPECT_LE(keydir_used(keys_of(&f)), f.config.max_index_memory + KIB);

    static const char *const refused[] = {"SET new v",    "SETNX new v",  "MSET new v other w",
                                          "APPEND new v", "INCR new",     "DECRBY new 3",
                                          "GETSET new v", "SETEX new 9 v"};
    for (uint32_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        EXPECT_TEXT(fixture_say(&f, refused[i]), OOM);
    }
    EXPECT_TEXT(say(&f, "SET", 1, "v"), OOM); /* As in Redis, although the key is there. */
    EXPECT_TEXT(fixture_say(&f, "GET new"), "$-1\r\n");
    EXPECT_TEXT(say(&f, "GET", 1, ""), "$5\r\nvalue\r\n");
    EXPECT_TEXT(say(&f, "EXPIRE", 1, "100"), ":1\r\n");
    EXPECT_TEXT(say(&f, "PERSIST", 1, ""), ":1\r\n");
    const char *info = fixture_say(&f, "INFO memory");
    EXPECT_TRUE(strstr(info, "\r\nindex_full:1\r\n") != NULL);
    EXPECT_TRUE(strstr(info, "\r\nindex_refusals:10\r\n") != NULL);
    EXPECT_TEXT(say(&f, "GETDEL", 2, ""), "$5\r\nvalue\r\n");
    fixture_close(&f);
}

TEST(memory, room_comes_back_with_every_way_to_lose_keys)
{
    struct fixture f;
    fixture_open(&f);
    f.config.max_index_memory = 64 * KIB;
    const uint32_t count = fill(&f, 0, 1000);
    EXPECT_LT(count, 300);
    for (uint32_t i = 0; i < 40; i++) EXPECT_TEXT(say(&f, "DEL", i * 3, ""), ":1\r\n");
    const uint32_t again = fill(&f, 1000, 1000);
    EXPECT_TRUE(again >= 35 && again < 80);

    for (uint32_t i = 0; i < 40; i++) EXPECT_TEXT(say(&f, "PEXPIRE", 1 + i * 3, "50"), ":1\r\n");
    fixture_run(&f, 500);
    const uint32_t expired = fill(&f, 2000, 1000);
    EXPECT_TRUE(expired >= 35 && expired < 80);

    EXPECT_TEXT(fixture_say(&f, "FLUSHALL"), "+OK\r\n");
    EXPECT_TRUE(strstr(fixture_say(&f, "INFO memory"), "\r\nindex_full:0\r\n") != NULL);
    EXPECT_LT(count / 2, fill(&f, 3000, 1000));
    fixture_close(&f);
}

/* The limit is for what is let in, not for what is there: a node that is started with a lower one reads
 * everything. */
TEST(memory, a_lower_limit_at_a_start_loses_nothing)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_EQ(fill(&f, 0, 200), 200);
    fixture_stop(&f);
    f.config.max_index_memory = 32 * KIB;
    fixture_start(&f);
    EXPECT_TEXT(say(&f, "GET", 199, ""), "$5\r\nvalue\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":200\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET new v"), OOM);
    f.config.max_index_memory = 0;
    EXPECT_TEXT(fixture_say(&f, "SET new v"), "+OK\r\n");
    fixture_close(&f);
}
