/* Tests of transactions: MULTI, EXEC, DISCARD, WATCH and UNWATCH, on the node that leads and on another one. */
#include "tests/node/trio.h"

#include "node/txn.h"

TEST(txn, what_was_queued_is_carried_out_at_one_moment)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 5"), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say(&f, "INCR k"), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "GET k"), "$-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC"), "*3\r\n+OK\r\n:6\r\n$1\r\n6\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\n6\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nINCR k\r\nGET k\r\nEXEC\r\nGET k\r\n"),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:7\r\n$1\r\n7\r\n$1\r\n7\r\n");
    fixture_close(&f);
}

TEST(txn, one_transaction_is_one_entry)
{
    struct fixture f;
    fixture_open(&f);
    const uint64_t batches = f.core->shard.batch_count;
    (void)fixture_ask_lines(
        &f, "MULTI\r\nSET a 1\r\nSET b 2\r\nDEL a\r\nFLUSHALL\r\nSET c 3\r\nEXEC\r\n");
    EXPECT_EQ(f.core->shard.batch_count, batches + 1);
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":1\r\n");
    fixture_close(&f);
}

TEST(txn, words_and_order_of_errors_are_those_of_redis)
{
    struct fixture f;
    fixture_open(&f);
    const char *abort_text = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    EXPECT_TEXT(fixture_say(&f, "EXEC"), "-ERR EXEC without MULTI\r\n");
    EXPECT_TEXT(fixture_say(&f, "DISCARD"), "-ERR DISCARD without MULTI\r\n");
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "-ERR MULTI calls can not be nested\r\n");
    EXPECT_TEXT(fixture_say(&f, "WATCH k"), "-ERR WATCH inside MULTI is not allowed\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET a 1"), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC"), "*1\r\n+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "NOSUCH"),
                "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    EXPECT_TEXT(fixture_say(&f, "SET a 2"), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC"), abort_text);
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET"), "-ERR wrong number of arguments for 'get' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC"), abort_text);
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC now"),
                "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' "
                "command\r\n");
    EXPECT_TEXT(fixture_say(&f, "PING"), "+PONG\r\n");
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "DISCARD now"),
                "-ERR wrong number of arguments for 'discard' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC"), abort_text);
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXEC"), "*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET a"), "$1\r\n1\r\n");
    fixture_close(&f);
}

TEST(txn, an_error_of_one_command_does_not_stop_the_others)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(
        fixture_ask_lines(&f, "MULTI\r\nSET k word\r\nINCR k\r\nSET j 1\r\nEXEC\r\nGET j\r\n"),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
        "*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n+OK\r\n$1\r\n1\r\n");
    fixture_close(&f);
}

TEST(txn, discard_and_reset_and_a_closed_connection_forget_it)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET k 1\r\nDISCARD\r\nEXEC\r\nGET k\r\n"),
                "+OK\r\n+QUEUED\r\n+OK\r\n-ERR EXEC without MULTI\r\n$-1\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET k 1\r\nRESET\r\nEXEC\r\nGET k\r\n"),
                "+OK\r\n+QUEUED\r\n+RESET\r\n-ERR EXEC without MULTI\r\n$-1\r\n");
    EXPECT_EQ(f.core->txn_size, 0);
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET k 1\r\nQUIT\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n+OK\r\n");
    EXPECT_EQ(f.core->txn_size, 0);
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$-1\r\n");
    fixture_close(&f);
}

TEST(txn, commands_about_the_connection_are_answered_in_their_places)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_ask_lines(&f,
                                  "MULTI\r\nPING\r\nSET k 1\r\nECHO hi\r\nUNWATCH\r\nSELECT 7\r\n"
                                  "CLIENT SETNAME me\r\nCLIENT GETNAME\r\nGET k\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
                "+QUEUED\r\n+QUEUED\r\n*8\r\n+PONG\r\n+OK\r\n$2\r\nhi\r\n+OK\r\n"
                "-ERR DB index is out of range\r\n+OK\r\n$2\r\nme\r\n$1\r\n1\r\n");
    EXPECT_TRUE(strstr(fixture_say(&f, "CLIENT LIST"), " multi=-1 ") != NULL);
    EXPECT_TEXT(fixture_say(&f, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "PING"), "+QUEUED\r\n");
    EXPECT_TRUE(strstr(fixture_say_as(&f, 1, "CLIENT LIST"), " multi=1 ") != NULL);
    EXPECT_TEXT(fixture_say(&f, "KV.BACKUP BEGIN 1"),
                "-ERR 'kv.backup' is not allowed inside a transaction\r\n");
    fixture_close(&f);
}

/* ---- WATCH -------------------------------------------------------------------------------------------- */

TEST(txn, a_watched_key_that_changed_stops_it)
{
    struct fixture f;
    fixture_open(&f);
    static const struct {
        const char *before;
        const char *change; /* by another client */
        bool is_changed;
    } cases[] = {
        {"DEL k", "SET k 1", true},
        {"DEL k", "GET k", false},
        {"DEL k", "DEL k", false},
        {"DEL k", "SET other 1", false},
        {"DEL k", "FLUSHALL", false},
        {"DEL k", "MSET a 1 k 2", true},
        {"SET k 1", "SET k 1", true},
        {"SET k 1", "GETDEL k", true},
        {"SET k 1", "INCR k", true},
        {"SET k 1", "EXPIRE k 100", true},
        {"SET k 1 EX 100", "PERSIST k", true},
        {"SET k 1", "PERSIST k", false},
        {"SET k 1", "SET k 2 NX", false},
        {"SET k 1", "FLUSHDB", true},
        {"SET k 1", "STRLEN k", false},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)fixture_say(&f, cases[i].before);
        EXPECT_TEXT(fixture_say(&f, "WATCH w k v"), "+OK\r\n");
        (void)fixture_say_as(&f, 1, cases[i].change);
        EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET done 1\r\nEXEC\r\n"),
                    cases[i].is_changed ? "+OK\r\n+QUEUED\r\n*-1\r\n"
                                        : "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
        EXPECT_TEXT(fixture_say(&f, "DEL done"), cases[i].is_changed ? ":0\r\n" : ":1\r\n");
    }
    EXPECT_EQ(f.core->txn_size, 0);
    fixture_close(&f);
}

/* Equal states are not enough: who read what was between them decided on that. */
TEST(txn, a_key_that_came_and_went_has_changed)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "WATCH k"), "+OK\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "SET k 1"), "+OK\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "DEL k"), ":1\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET k 2\r\nEXEC\r\n"), "+OK\r\n+QUEUED\r\n*-1\r\n");
    /* The same within one turn, in one batch that is still open. */
    EXPECT_TEXT(fixture_ask_lines(
                    &f, "WATCH k\r\nSET k 1\r\nDEL k\r\nMULTI\r\nSET k 2\r\nEXEC\r\nEXISTS k\r\n"),
                "+OK\r\n+OK\r\n:1\r\n+OK\r\n+QUEUED\r\n*-1\r\n:0\r\n");
    fixture_close(&f);
}

TEST(txn, what_is_in_flight_when_it_is_watched_did_not_change)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_ask_lines(&f, "SET k 1\r\nWATCH k\r\nMULTI\r\nINCR k\r\nEXEC\r\n"
                                      "DEL k\r\nWATCH k\r\nMULTI\r\nINCR k\r\nEXEC\r\n"
                                      "WATCH k\r\nINCR k\r\nMULTI\r\nINCR k\r\nEXEC\r\nGET k\r\n"),
                "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n"
                ":1\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n"
                "+OK\r\n:2\r\n+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n2\r\n");
    fixture_close(&f);
}

TEST(txn, a_key_that_expires_has_changed_unless_it_was_gone_before)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET k 1 PX 30"), "+OK\r\n");
    f.core->shard.sweep_ms = UINT64_MAX;
    EXPECT_TEXT(fixture_say(&f, "WATCH k"), "+OK\r\n");
    fixture_run(&f, 50);
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nPING\r\nEXEC\r\n"), "+OK\r\n+QUEUED\r\n*-1\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET k 1 PX 30"), "+OK\r\n");
    f.core->shard.sweep_ms = UINT64_MAX;
    fixture_run(&f, 50);
    EXPECT_TEXT(fixture_say(&f, "WATCH k"), "+OK\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nPING\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n");
    fixture_close(&f);
}

TEST(txn, unwatch_exec_and_discard_end_watching)
{
    struct fixture f;
    fixture_open(&f);
    static const char *const ends[] = {"UNWATCH\r\n", "MULTI\r\nDISCARD\r\n",
                                       "MULTI\r\nPING\r\nEXEC\r\n", "MULTI\r\nGET\r\nEXEC\r\n",
                                       "RESET\r\n"};
    for (uint32_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        EXPECT_TEXT(fixture_say(&f, "WATCH k"), "+OK\r\n");
        (void)fixture_ask_lines(&f, ends[i]);
        EXPECT_TEXT(fixture_say(&f, "SET k 1"), "+OK\r\n");
        EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nEXEC\r\n"), "+OK\r\n*0\r\n");
    }
    EXPECT_TEXT(fixture_ask_lines(&f, "WATCH k\r\nSET k 2\r\nDISCARD\r\nMULTI\r\nEXEC\r\n"),
                "+OK\r\n+OK\r\n-ERR DISCARD without MULTI\r\n+OK\r\n*-1\r\n");
    EXPECT_TRUE(strstr(fixture_ask_lines(&f, "HELLO 3\r\nWATCH k\r\nSET k 2\r\nMULTI\r\nEXEC\r\n"),
                       "+OK\r\n+OK\r\n+OK\r\n_\r\n") != NULL);
    fixture_close(&f);
}

TEST(txn, watching_the_same_keys_again_and_again_takes_no_room)
{
    struct fixture f;
    fixture_open(&f);
    for (uint32_t i = 0; i < 100; i++) EXPECT_TEXT(fixture_say(&f, "WATCH a b c"), "+OK\r\n");
    EXPECT_EQ(txn_watches(f.clients[0].session), 3);
    fixture_close(&f);
}

/* ---- bounds ------------------------------------------------------------------------------------------- */

TEST(txn, what_it_may_hold_is_bounded)
{
    struct fixture f;
    struct buf text = {0};
    fixture_open(&f);
    buf_text(&text, "MULTI\r\n");
    for (uint32_t i = 0; i <= TXN_COMMANDS_MAX; i++) buf_text(&text, "INCR n\r\n");
    buf_text(&text, "EXEC\r\n");
    (void)fixture_ask(&f, 0, text.data, text.size);
    fixture_run(&f, 500);
    buf_u8(&f.clients[0].out, 0);
    EXPECT_TRUE(strstr((const char *)f.clients[0].out.data,
                       "-TOOBIG a transaction has at most 16384 commands\r\n-EXECABORT ") != NULL);
    EXPECT_TEXT(fixture_say(&f, "EXISTS n"), ":0\r\n");
    text.size = 0;
    buf_printf(&text, "*%u\r\n$5\r\nWATCH\r\n", TXN_WATCHES_MAX + 2);
    for (uint32_t i = 0; i <= TXN_WATCHES_MAX; i++) buf_printf(&text, "$5\r\n%05u\r\n", i);
    EXPECT_TEXT(fixture_ask(&f, 0, text.data, text.size),
                "-TOOBIG a connection watches at most 10000 keys\r\n");
    EXPECT_EQ(f.core->txn_size, 0);
    buf_close(&text);
    fixture_close(&f);
}

/* Commands without arguments take the place that is noted for them, beside their bytes. */
TEST(txn, what_is_noted_of_queued_commands_counts)
{
    struct fixture f;
    struct buf text = {0};
    fixture_open(&f);
    buf_text(&text, "MULTI\r\n");
    for (uint32_t i = 0; i < 10000; i++) buf_text(&text, "PING\r\n");
    (void)fixture_ask(&f, 0, text.data, text.size);
    fixture_run(&f, 100);
    EXPECT_EQ(txn_count(f.clients[0].session), 10000);
    EXPECT_TRUE(f.core->txn_size >= 10000 * (strlen("$4\r\nPING\r\n") + 24));
    EXPECT_TEXT(fixture_say(&f, "DISCARD"), "+OK\r\n");
    EXPECT_EQ(f.core->txn_size, 0);
    buf_close(&text);
    fixture_close(&f);
}

TEST(txn, open_transactions_of_all_connections_are_bounded_together)
{
    struct fixture f;
    struct buf text = {0};
    fixture_open(&f);
    f.config.max_inflight_size = 4 * MIB;
    buf_text(&text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n");
    memset(buf_extend(&text, MIB), 'x', MIB);
    buf_text(&text, "\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_ask(&f, 1, text.data, text.size), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 2, "MULTI"), "+OK\r\n");
    EXPECT_TRUE(strncmp(fixture_ask(&f, 2, text.data, text.size), "-TRYAGAIN ", 10) == 0);
    EXPECT_TRUE(strncmp(fixture_say_as(&f, 2, "EXEC"), "-EXECABORT ", 11) == 0);
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nINCR n\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    EXPECT_TEXT(fixture_say_as(&f, 1, "EXEC"), "*1\r\n+OK\r\n");
    EXPECT_EQ(f.core->txn_size, 0);
    buf_close(&text);
    fixture_close(&f);
}

TEST(txn, too_much_change_is_refused_as_a_whole)
{
    struct fixture f;
    struct buf text = {0};
    fixture_open(&f);
    buf_text(&text, "MULTI\r\nSET k before\r\n");
    buf_text(&text, "*3\r\n$3\r\nSET\r\n$1\r\nj\r\n$6291456\r\n");
    memset(buf_extend(&text, 6 * MIB), 'x', 6 * MIB);
    buf_text(&text, "\r\nAPPEND j 1\r\nAPPEND j 2\r\nEXEC\r\n");
    (void)fixture_ask(&f, 0, text.data, text.size);
    fixture_run(&f, 200);
    buf_u8(&f.clients[0].out, 0);
    EXPECT_TRUE(strstr((const char *)f.clients[0].out.data,
                       "+QUEUED\r\n-TOOBIG a transaction may change at most 32768 keys and "
                       "15728640 bytes: nothing of it was carried out\r\n") != NULL);
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    buf_close(&text);
    fixture_close(&f);
}

TEST(txn, one_that_a_full_index_refuses_is_refused_as_a_whole)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "SET old 1"), "+OK\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nDEL old\r\nSET new 1\r\n"),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    f.config.max_index_memory = 1;
    EXPECT_TEXT(fixture_say(&f, "EXEC"), "-EXECABORT Transaction discarded because of: OOM command "
                                         "not allowed when used memory > 'max-index-memory'.\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET new 1\r\nEXEC\r\n"),
                "+OK\r\n-OOM command not allowed when used memory > 'max-index-memory'.\r\n"
                "-EXECABORT Transaction discarded because of previous errors.\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.TXN THEN 1 3 SET new 1"),
                "-OOM command not allowed when used memory > 'max-index-memory'.\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXISTS old"), ":1\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nDEL old\r\nGET old\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n$-1\r\n");
    fixture_close(&f);
}

/* ---- walks -------------------------------------------------------------------------------------------- */

TEST(txn, walks_show_the_same_moment_as_everything_else)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(
        fixture_ask_lines(&f, "MSET a 1 b 2\r\nMULTI\r\nDBSIZE\r\nGET b\r\nKEYS *\r\nEXEC\r\n"),
        "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:2\r\n$1\r\n2\r\n"
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nDBSIZE\r\nSET c 3\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n-ERR a transaction that looks at all keys cannot write\r\n"
                "-EXECABORT Transaction discarded because of previous errors.\r\n");
    EXPECT_TEXT(fixture_ask_lines(&f, "MULTI\r\nSET c 3\r\nSCAN 0\r\nEXEC\r\n"),
                "+OK\r\n+QUEUED\r\n-ERR a transaction that looks at all keys cannot write\r\n"
                "-EXECABORT Transaction discarded because of previous errors.\r\n");
    fixture_close(&f);
}

TEST(txn, walks_are_bounded)
{
    struct fixture f;
    char line[64];
    fixture_open(&f);
    for (uint32_t i = 0; i < 11; i++) {
        struct buf text = {0};
        buf_printf(&text, "*%u\r\n$4\r\nMSET\r\n", 2001);
        for (uint32_t k = 0; k < 1000; k++) {
            buf_printf(&text, "$5\r\n%05u\r\n$1\r\nv\r\n", i * 1000 + k);
        }
        EXPECT_TEXT(fixture_ask(&f, 0, text.data, text.size), "+OK\r\n");
        buf_close(&text);
    }
    static const char *const walks[] = {"KEYS *", "KV.RANGE \"\" \"\" KEYS"};
    for (uint32_t i = 0; i < sizeof walks / sizeof walks[0]; i++) {
        (void)snprintf(line, sizeof line, "MULTI\r\n%s\r\nEXEC\r\n", walks[i]);
        EXPECT_TEXT(fixture_ask_lines(&f, line),
                    "+OK\r\n+QUEUED\r\n*1\r\n-TOOBIG the commands of a transaction look at at most "
                    "10000 keys: do this outside\r\n");
    }
    EXPECT_TRUE(strncmp(fixture_ask_lines(&f, "KEYS *\r\n"), "*11000\r\n", 8) == 0);
    fixture_close(&f);
}

/* Nobody but a node sends these: whatever they hold, the answer is an error. */
TEST(txn, the_internal_command_is_checked)
{
    struct fixture f;
    fixture_open(&f);
    static const char *const bad[][8] = {
        {TXN_EXEC_WRITE, "", "-1", NULL},
        {TXN_EXEC_WRITE, "", "x", NULL},
        {TXN_EXEC_WRITE, "", "1", NULL},
        {TXN_EXEC_WRITE, "", "1", "k", "short", NULL},
        {TXN_EXEC_WRITE, "", "0", "2", "GET", NULL},
        {TXN_EXEC_WRITE, "", "0", "-1", "GET", NULL},
        {TXN_EXEC_WRITE, "", "0", "9999999999", "GET", NULL},
        {TXN_EXEC_WRITE, "", "0", "0", NULL},
        {TXN_EXEC_READ, "", "0", "3", "SET", "k", "v", NULL},
    };
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct slice args[8];
        struct buf text = {0};
        uint32_t count = 0;
        while (bad[i][count] != NULL) {
            args[count] = slice_text(bad[i][count]);
            count++;
        }
        resp_put_command(&text, args, count);
        EXPECT_TEXT(fixture_ask(&f, 0, text.data, text.size), "-ERR this is no transaction\r\n");
        buf_close(&text);
    }
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":0\r\n");
    fixture_close(&f);
}

/* ---- on another node, and when the leader changes ------------------------------------------------------- */

TEST(txn, on_a_node_that_does_not_lead_it_is_the_same)
{
    struct trio trio;
    trio_open(&trio);
    EXPECT_TEXT(trio_ask(&trio, 1, "MULTI\r\nSET k 5\r\nPING\r\nINCR k\r\nEXEC\r\n", 50),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+PONG\r\n:6\r\n");
    EXPECT_TEXT(
        trio_ask(&trio, 1, "WATCH k none\r\nGET k\r\nMULTI\r\nINCR k\r\nEXEC\r\nGET k\r\n", 50),
        "+OK\r\n$1\r\n6\r\n+OK\r\n+QUEUED\r\n*1\r\n:7\r\n$1\r\n7\r\n");
    EXPECT_EQ(trio.members[1].core->txn_size, 0);
    EXPECT_TEXT(trio_ask(&trio, 1, "WATCH k none\r\n", 50), "+OK\r\n");
    EXPECT_EQ(txn_watches(trio.members[1].client.session), 2);
    say(&trio, 2, "SET none 1\r\n");
    trio_run(&trio, 50);
    EXPECT_TEXT(trio_ask(&trio, 1, "MULTI\r\nINCR k\r\nEXEC\r\nGET k\r\n", 50),
                "+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n7\r\n");
    trio_close(&trio);
}

static int leader_of(struct trio *trio)
{
    for (int i = 0; i < NODES; i++) {
        if (!trio->members[i].is_frozen && shard_ready(&trio->members[i].core->shard)) return i;
    }
    return -1;
}

/* Another node leads; the connections are whole again. */
static void change_leader(struct trio *trio)
{
    const int before = leader_of(trio);
    trio->members[before].is_frozen = true;
    for (int i = 0; i < 6000 && leader_of(trio) < 0; i++) trio_run(trio, 1);
    trio->members[before].is_frozen = false;
    for (int i = 0; i < 1000; i++) trio_run(trio, 1);
    EXPECT_TRUE(leader_of(trio) >= 0);
    EXPECT_TRUE(leader_of(trio) != before);
}

TEST(txn, watched_keys_that_exist_survive_a_change_of_leader)
{
    struct trio trio;
    trio_open(&trio);
    say(&trio, 2, "MSET k 1 j 1\r\n");
    trio_run(&trio, 50);
    (void)trio_ask(&trio, 2, "WATCH k j\r\nMULTI\r\n", 50);
    change_leader(&trio);
    EXPECT_TEXT(trio_ask(&trio, 2, "INCR k\r\nEXEC\r\n", 100), "+QUEUED\r\n*1\r\n:2\r\n");
    (void)trio_ask(&trio, 2, "WATCH k j\r\nMULTI\r\n", 50);
    change_leader(&trio);
    say(&trio, leader_of(&trio) == 0 ? 1 : 0, "SET j 2\r\n");
    trio_run(&trio, 100);
    EXPECT_TEXT(trio_ask(&trio, 2, "INCR k\r\nEXEC\r\n", 100), "+QUEUED\r\n*-1\r\n");
    trio_close(&trio);
}

/* It may have come and gone meanwhile: only the leader that was asked could know. */
TEST(txn, a_watched_key_that_did_not_exist_counts_as_changed_by_a_change_of_leader)
{
    struct trio trio;
    trio_open(&trio);
    (void)trio_ask(&trio, 2, "WATCH none\r\nMULTI\r\nINCR none\r\n", 50);
    change_leader(&trio);
    EXPECT_TEXT(trio_ask(&trio, 2, "EXEC\r\nEXISTS none\r\n", 100), "*-1\r\n:0\r\n");
    trio_close(&trio);
}

TEST(txn, a_transaction_that_was_sent_to_a_leader_that_is_lost_is_uncertain)
{
    struct trio trio;
    trio_open(&trio);
    (void)trio_ask(&trio, 1, "SET k 1\r\nWATCH k\r\nMULTI\r\nINCR k\r\nINCR k\r\n", 50);
    trio.members[1].to[0].is_swallowed = true;
    say(&trio, 1, "EXEC\r\n");
    trio_run(&trio, 6500);
    EXPECT_TRUE(strncmp(heard(&trio, 1), "-UNCERTAIN ", 11) == 0);
    /* One that only reads is asked again. */
    trio.members[1].to[0].is_swallowed = true;
    EXPECT_TEXT(trio_ask(&trio, 1, "MULTI\r\nGET k\r\nEXEC\r\n", 6500),
                "+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n");
    trio_close(&trio);
}

TEST(txn, on_the_cluster_face_a_node_that_does_not_lead_says_moved_when_queueing)
{
    struct trio trio;
    trio_open(&trio);
    struct member *member = &trio.members[1];
    struct peer *leader = peers_find(&member->core->peers, trio.members[0].core->identity.node_id);
    (void)snprintf(leader->identity.cluster_client_address,
                   sizeof leader->identity.cluster_client_address, "127.0.0.1:7301");
    EXPECT_TEXT(trio_ask(&trio, 1, "PING\r\n", 5), "+PONG\r\n");
    member->client.session->face = CORE_FACE_CLUSTER;
    EXPECT_TEXT(
        trio_ask(&trio, 1, "WATCH k\r\nMULTI\r\nPING\r\nSET k 1\r\nEXEC\r\nMULTI\r\nEXEC\r\n", 50),
        "-MOVED 7629 127.0.0.1:7301\r\n+OK\r\n+QUEUED\r\n-MOVED 7629 127.0.0.1:7301\r\n"
        "-EXECABORT Transaction discarded because of previous errors.\r\n+OK\r\n*0\r\n");
    trio_close(&trio);
}
