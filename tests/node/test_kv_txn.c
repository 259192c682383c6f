/* Tests of KV.TXN: conditions, the branch that is carried out, and every way to write it wrongly. */
#include "tests/node/trio.h"

TEST(kv_txn, conditions_choose_the_branch)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "MSET k m n 10"), "+OK\r\n");
    static const struct {
        const char *condition;
        bool holds;
    } cases[] = {
        {"VALUE k = m", true},        {"VALUE k = n", false},      {"VALUE k != n", true},
        {"VALUE k != m", false},      {"VALUE k < n", true},       {"VALUE k < m", false},
        {"VALUE k > l", true},        {"VALUE k > m", false},      {"VALUE k > mm", false},
        {"value n < 9", true},        {"VALUE none = x", false},   {"VALUE none != x", false},
        {"EXISTS k", true},           {"EXISTS none", false},      {"ABSENT k", false},
        {"ABSENT none", true},        {"REVISION none = 0", true}, {"REVISION k = 0", false},
        {"REVISION k > 0", true},     {"REVISION k != 0", true},   {"REVISION none < 1", true},
        {"REVISION none > 0", false},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "KV.TXN IF 1 %s THEN 1 2 GET k ELSE 2 2 GET n 2 GET none",
                       cases[i].condition);
        EXPECT_TEXT(fixture_say(&f, line), cases[i].holds
                                               ? "*2\r\n:1\r\n*1\r\n$1\r\nm\r\n"
                                               : "*2\r\n:0\r\n*2\r\n$2\r\n10\r\n$-1\r\n");
    }
    EXPECT_TEXT(fixture_say(&f, "KV.TXN IF 2 EXISTS k EXISTS n THEN 1 3 SET both 1"),
                "*2\r\n:1\r\n*1\r\n+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.TXN IF 2 EXISTS k ABSENT n THEN 1 3 SET both 2"),
                "*2\r\n:0\r\n*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.TXN IF 2 ABSENT k EXISTS n ELSE 1 2 GET both"),
                "*2\r\n:0\r\n*1\r\n$1\r\n1\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.TXN THEN 0"), "*2\r\n:1\r\n*0\r\n");
    fixture_close(&f);
}

TEST(kv_txn, revisions_tell_changes_apart)
{
    struct fixture f;
    char line[128];
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k 1"), "+OK\r\n");
    const struct keydir_entry *entry = keydir_find(store_keys(core_store(f.core)), slice_text("k"));
    const unsigned long long revision = keydir_info(entry).revision;
    (void)snprintf(line, sizeof line, "KV.TXN IF 1 REVISION k = %llu THEN 1 2 INCR k", revision);
    EXPECT_TEXT(fixture_say(&f, line), "*2\r\n:1\r\n*1\r\n:2\r\n");
    EXPECT_TEXT(fixture_say(&f, line), "*2\r\n:0\r\n*0\r\n");
    /* While the change is on its way it is newer than anything that is known. */
    (void)snprintf(line, sizeof line,
                   "SET k 5\r\nKV.TXN IF 1 REVISION k > %llu THEN 1 2 INCR k\r\n", revision);
    EXPECT_TEXT(fixture_ask(&f, 0, line, strlen(line)), "+OK\r\n*2\r\n:1\r\n*1\r\n:6\r\n");
    fixture_close(&f);
}

TEST(kv_txn, all_is_one_entry_and_parts_see_each_other)
{
    struct fixture f;
    fixture_open(&f);
    const uint64_t batches = f.core->shard.batch_count;
    EXPECT_TEXT(fixture_say(&f, "KV.TXN THEN 5 3 SET a 1 2 INCR a 3 SET b x 2 INCR b 3 DEL a b"),
                "*2\r\n:1\r\n*5\r\n+OK\r\n:2\r\n+OK\r\n"
                "-ERR value is not an integer or out of range\r\n:2\r\n");
    EXPECT_EQ(f.core->shard.batch_count, batches + 1);
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    fixture_close(&f);
}

TEST(kv_txn, an_expired_key_is_absent_and_stays_so)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k 1 PX 20"), "+OK\r\n");
    f.core->shard.sweep_ms = UINT64_MAX;
    fixture_run(&f, 40);
    EXPECT_TEXT(fixture_say(&f, "KV.TXN IF 1 ABSENT k THEN 1 3 SET k new"),
                "*2\r\n:1\r\n*1\r\n+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "TTL k"), ":-1\r\n");
    fixture_close(&f);
}

TEST(kv_txn, within_multi_it_is_a_command_like_any_other)
{
    struct fixture f;
    fixture_open(&f);
    const char *lines = "MULTI\r\nSET k 1\r\nKV.TXN IF 1 VALUE k = 1 THEN 1 2 INCR k\r\nGET k\r\n"
                        "KV.GET k\r\nEXEC\r\n";
    EXPECT_TEXT(fixture_ask(&f, 0, lines, strlen(lines)),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n"
                "*2\r\n:1\r\n*1\r\n:2\r\n$1\r\n2\r\n-ERR the revision is not known before the "
                "transaction is carried out, which changes this key\r\n");
    lines = "SET k 5\r\nMULTI\r\nSET j 1\r\nKV.GET k\r\nEXEC\r\n";
    const char *reply = fixture_ask(&f, 0, lines, strlen(lines));
    EXPECT_TRUE(strstr(reply, "*2\r\n+OK\r\n*3\r\n$1\r\n5\r\n:") != NULL);
    fixture_close(&f);
}

TEST(kv_txn, mistakes_are_named_with_their_place)
{
    struct fixture f;
    fixture_open(&f);
    static const struct {
        const char *line;
        const char *error;
    } cases[] = {
        {"KV.TXN SET k", "-ERR syntax error at argument 1 of KV.TXN: IF, THEN and ELSE"},
        {"KV.TXN IF x", "-ERR syntax error at argument 2 of KV.TXN: a count"},
        {"KV.TXN IF -1", "-ERR syntax error at argument 2 of KV.TXN: a count"},
        {"KV.TXN IF 1", "-ERR syntax error at argument 3 of KV.TXN: VALUE, REVISION"},
        {"KV.TXN IF 1 KEY k", "-ERR syntax error at argument 3 of KV.TXN: VALUE, REVISION"},
        {"KV.TXN IF 1 VALUE k =",
         "-ERR syntax error at argument 3 of KV.TXN: the condition is not"},
        {"KV.TXN IF 1 VALUE k == 1", "-ERR syntax error at argument 5 of KV.TXN: =, !=, < or >"},
        {"KV.TXN IF 1 REVISION k = x", "-ERR syntax error at argument 6 of KV.TXN: a revision"},
        {"KV.TXN IF 1 REVISION k = -1", "-ERR syntax error at argument 6 of KV.TXN: a revision"},
        {"KV.TXN THEN 1", "-ERR syntax error at argument 3 of KV.TXN: the count of an operation's"},
        {"KV.TXN THEN 1 GET k", "-ERR syntax error at argument 3 of KV.TXN: the count of an"},
        {"KV.TXN THEN 1 3 GET k", "-ERR syntax error at argument 3 of KV.TXN: the count of an"},
        {"KV.TXN THEN 1 0 GET", "-ERR syntax error at argument 3 of KV.TXN: the count of an"},
        {"KV.TXN THEN 1 2 GET k 2", "-ERR syntax error at argument 6 of KV.TXN: IF, THEN and"},
        {"KV.TXN ELSE 0 THEN 0", "-ERR syntax error at argument 3 of KV.TXN: IF, THEN and ELSE"},
        {"KV.TXN THEN 1 2 NOSUCH k", "-ERR unknown command 'NOSUCH'"},
        {"KV.TXN THEN 1 1 GET", "-ERR wrong number of arguments for 'get' command"},
        {"KV.TXN THEN 1 1 PING", "-ERR 'ping' is not allowed inside a transaction"},
        {"KV.TXN THEN 1 2 WATCH k", "-ERR 'watch' is not allowed inside a transaction"},
        {"KV.TXN THEN 1 1 DBSIZE", "-ERR 'dbsize' is not allowed inside of KV.TXN"},
        {"KV.TXN THEN 1 3 KV.TXN THEN 0", "-ERR 'kv.txn' is not allowed inside of KV.TXN"},
        {"KV.TXN IF 99999 EXISTS k", "-TOOBIG "},
        {"KV.TXN", "-ERR wrong number of arguments for 'kv.txn' command"},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *reply = fixture_say(&f, cases[i].line);
        if (strncmp(reply, cases[i].error, strlen(cases[i].error)) != 0) {
            EXPECT_TEXT(reply, cases[i].error);
        }
        /* Exactly one reply. */
        EXPECT_TEXT(fixture_say(&f, "PING"), "+PONG\r\n");
    }
    /* A mistake in the other branch is one, too: nothing is carried out. */
    EXPECT_TRUE(fixture_say(&f, "KV.TXN THEN 1 3 SET k 1 ELSE 1 1 GET")[0] == '-');
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    fixture_close(&f);
}

TEST(kv_txn, values_that_are_not_in_memory_are_waited_for)
{
    struct fixture f;
    struct buf command = {0};
    uint8_t noise[3000];
    fixture_open_sized(&f, 64 * KIB);
    for (uint32_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)(i * 2654435761u >> 24);
    for (uint32_t i = 0; i < 60; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%u", i);
        const struct slice set[] = {slice_text("SET"), slice_text(key),
                                    slice_of(noise, sizeof noise)};
        command.size = 0;
        resp_put_command(&command, set, 3);
        EXPECT_TEXT(fixture_ask(&f, 0, command.data, command.size), "+OK\r\n");
    }
    fixture_restart(&f);
    f.disk.cold_percent = 100;
    const uint64_t before = f.core->shard.fetches.count;
    const struct slice args[] = {
        slice_text("KV.TXN"), slice_text("IF"),     slice_text("2"),       slice_text("VALUE"),
        slice_text("k1"),     slice_text("="),      slice_of(noise, 3000), slice_text("VALUE"),
        slice_text("k2"),     slice_text("!="),     slice_text("x"),       slice_text("THEN"),
        slice_text("3"),      slice_text("3"),      slice_text("SET"),     slice_text("k1"),
        slice_text("new"),    slice_text("2"),      slice_text("STRLEN"),  slice_text("k3"),
        slice_text("3"),      slice_text("APPEND"), slice_text("k4"),      slice_text("tail")};
    command.size = 0;
    resp_put_command(&command, args, sizeof args / sizeof args[0]);
    EXPECT_TEXT(fixture_ask(&f, 0, command.data, command.size),
                "*2\r\n:1\r\n*3\r\n+OK\r\n:3000\r\n:3004\r\n");
    EXPECT_EQ(f.core->shard.fetches.count - before, 4); /* k1 to k4, each once */
    EXPECT_TEXT(fixture_say(&f, "GET k1"), "$3\r\nnew\r\n");
    buf_close(&command);
    fixture_close(&f);
}

TEST(kv_txn, travels_to_the_leader)
{
    struct trio trio;
    trio_open(&trio);
    say(&trio, 1, "KV.TXN IF 1 ABSENT k THEN 1 3 SET k 1 ELSE 1 2 GET k\r\n");
    say(&trio, 2, "KV.TXN IF 1 ABSENT k THEN 1 3 SET k 2 ELSE 1 2 GET k\r\n");
    trio_run(&trio, 50);
    const bool first = strstr(heard(&trio, 1), ":1\r\n*1\r\n+OK") != NULL;
    EXPECT_TEXT(heard(&trio, 1), "");
    EXPECT_TRUE((strstr(heard(&trio, 2), ":1\r\n*1\r\n+OK") != NULL) != first);
    trio_close(&trio);
}

/* One that changes nothing whatever its conditions say is asked again, any other is UNCERTAIN. */
TEST(kv_txn, what_only_reads_is_no_write_when_the_leader_is_lost)
{
    static const struct {
        const char *said, *heard;
    } cases[] = {
        {"KV.TXN IF 1 EXISTS k THEN 1 2 GET k ELSE 2 2 TTL k 2 GET l\r\n",
         "*2\r\n:1\r\n*1\r\n$1\r\n1\r\n"},
        {"KV.TXN IF 1 EXISTS k\r\n", "*2\r\n:1\r\n*0\r\n"},
        {"MULTI\r\nKV.TXN IF 1 EXISTS k THEN 1 2 GET k\r\nGET k\r\nEXEC\r\n",
         "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*2\r\n:1\r\n*1\r\n$1\r\n1\r\n$1\r\n1\r\n"},
        {"MULTI\r\nKV.TXN ELSE 1 2 DEL l\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n-UNCERTAIN "},
        {"KV.TXN IF 1 EXISTS k ELSE 2 2 GET k 2 DEL k\r\n", "-UNCERTAIN "},
        {"KV.TXN THEN 2 2 GET k 2 INCR k\r\n", "-UNCERTAIN "},
        {"KV.TXN THEN 2 2 GET k 3 NOSUCH k\r\n", "-ERR "},
    };
    struct trio trio;
    trio_open(&trio);
    (void)trio_ask(&trio, 1, "SET k 1\r\n", 50);
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trio.members[1].to[0].is_swallowed = true;
        say(&trio, 1, cases[i].said);
        trio_run(&trio, 6500);
        const char *text = heard(&trio, 1);
        if (strncmp(text, cases[i].heard, strlen(cases[i].heard)) != 0) {
            EXPECT_TEXT(text, cases[i].heard);
        }
    }
    trio_close(&trio);
}
