#include "node/subcommand.h"

#include "node/getkeys.h"
#include "node/syntax.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

/* A whole request of @count words, each of which goes out as it is. */
static const char *ask_words(struct fixture *fixture, int at, const char *const *words,
                             uint32_t count)
{
    struct slice args[16];
    CHECK(count <= 16);
    for (uint32_t i = 0; i < count; i++) args[i] = slice_text(words[i]);
    return fixture_ask_args(fixture, at, count, args);
}

TEST(subcommand, rows_are_in_order_and_belong_to_commands)
{
    uint32_t containers = 0;
    uint32_t rows = 0;
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        const struct subcommand *row = NULL;
        const struct subcommand *before = NULL;
        containers += subcommand_has(command);
        EXPECT_EQ(subcommand_has(command), (command->flags & CMD_PARTS) != 0);
        for (uint32_t at = 0; (row = subcommand_at(command, at)) != NULL; at++) {
            struct syntax syntax;
            rows++;
            EXPECT_TRUE(strcmp(row->container, command->name) == 0);
            if (before != NULL) EXPECT_LT(strcmp(before->name, row->name), 0);
            before = row;
            EXPECT_TRUE(subcommand_find(command, slice_text(row->name)) == row);
            EXPECT_TRUE(row->arity != 0 && row->since[0] != 0);
            if ((row->flags & SUBCOMMAND_REFUSED) != 0) continue;
            EXPECT_TRUE(row->summary[0] != 0 && syntax_parse(row->syntax, &syntax));
            EXPECT_TRUE(slice_equal_fold(slice_of(row->syntax, strlen(row->name)), row->name));
        }
        if (before != NULL) EXPECT_TRUE(subcommand_find(command, slice_text("help")) != NULL);
        EXPECT_TRUE(subcommand_find(command, slice_text("")) == NULL);
    }
    EXPECT_EQ(containers, 9);
    EXPECT_TRUE(rows > 80);
}

/* Each row is known to the function of its command, with the fewest arguments and with one more. */
TEST(subcommand, every_row_is_answered)
{
    struct fixture fixture;
    fixture_open(&fixture);
    fixture.clients[1].session = core_client_open(fixture.core, &fixture.clients[1],
                                                  CORE_FACE_CLUSTER, "127.0.0.1:1");
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        const struct subcommand *row = NULL;
        for (uint32_t at = 0; (row = subcommand_at(command, at)) != NULL; at++) {
            const char *const words[] = {command->name, row->name, "1", "1", "1", "1", "1", "1"};
            const uint32_t least = (uint32_t)(row->arity < 0 ? -row->arity : row->arity);
            if (strcmp(command->name, "client") == 0 && strcmp(row->name, "kill") == 0) continue;
            for (uint32_t extra = 0; extra < (row->arity < 0 ? 2u : 1u); extra++) {
                const char *answer = ask_words(&fixture, 1, words, least + extra);
                EXPECT_TRUE(answer[0] != 0);
                EXPECT_TRUE(strstr(answer, "unknown subcommand '") == NULL);
            }
            if (least > 2) {
                const char *answer = ask_words(&fixture, 1, words, least - 1);
                char text[128];
                (void)snprintf(text, sizeof text,
                               "-ERR wrong number of arguments for '%s|%s' command\r\n",
                               command->name, row->name);
                EXPECT_TEXT(answer, text);
            }
        }
    }
    EXPECT_TEXT(fixture_ask(&fixture, 1, "PING\r\n", 6), "+PONG\r\n");
    fixture_close(&fixture);
}

TEST(subcommand, what_is_not_there_is_refused_also_while_it_is_queued)
{
    struct fixture fixture;
    fixture_open(&fixture);
    const char *unknown = "-ERR unknown subcommand 'NOSUCH'. Try OBJECT HELP.\r\n";
    EXPECT_TEXT(fixture_say(&fixture, "OBJECT NOSUCH a"), unknown);
    EXPECT_TEXT(fixture_say(&fixture, "KV.TXN THEN 1 3 OBJECT NOSUCH a"), unknown);
    EXPECT_TEXT(fixture_say(&fixture, "KV.ONCE c 1 OBJECT NOSUCH a"), unknown);
    EXPECT_TEXT(fixture_say(&fixture, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "OBJECT NOSUCH a"), unknown);
    EXPECT_TEXT(fixture_say(&fixture, "EXEC"),
                "-EXECABORT Transaction discarded because of previous errors.\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "OBJECT ENCODING a b"),
                "-ERR wrong number of arguments for 'object|encoding' command\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "EXEC"),
                "-EXECABORT Transaction discarded because of previous errors.\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "MULTI"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "OBJECT ENCODING a"), "+QUEUED\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "EXEC"), "*1\r\n$-1\r\n");
    fixture_close(&fixture);
}

TEST(subcommand, help_lists_what_is_not_refused)
{
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_TEXT(fixture_say(&fixture, "MEMORY HELP"),
                "*5\r\n+MEMORY <subcommand> [<argument> ...]. Subcommands are:\r\n+HELP\r\n"
                "+    This text.\r\n+USAGE key [SAMPLES count]\r\n"
                "+    Bytes of memory that a key takes in the index.\r\n");
    EXPECT_TRUE(strstr(fixture_say(&fixture, "SENTINEL HELP"), "FAILOVER") == NULL);
    fixture_close(&fixture);
}

/* ---- COMMAND ---------------------------------------------------------------------------------------------- */

TEST(subcommand, command_tells_of_them)
{
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_TEXT(fixture_say(&fixture, "COMMAND INFO config|set"),
                "*1\r\n*10\r\n$10\r\nconfig|set\r\n:-4\r\n*3\r\n+admin\r\n+loading\r\n+stale\r\n"
                ":0\r\n:0\r\n:0\r\n*3\r\n+@admin\r\n+@dangerous\r\n+@slow\r\n"
                "*2\r\n$24\r\nrequest_policy:all_nodes\r\n$29\r\nresponse_policy:all_succeeded\r\n"
                "*0\r\n*0\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "COMMAND INFO cluster|meet get|x config|"),
                "*3\r\n$-1\r\n$-1\r\n$-1\r\n");
    EXPECT_TRUE(strstr(fixture_say(&fixture, "COMMAND INFO memory"), "memory|usage") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&fixture, "COMMAND DOCS memory"), "subcommands") != NULL);
    EXPECT_TRUE(strstr(fixture_say(&fixture, "COMMAND DOCS memory|usage"), "SAMPLES") != NULL);
    EXPECT_TEXT(fixture_say(&fixture, "COMMAND LIST FILTERBY PATTERN memory*"),
                "*3\r\n$6\r\nmemory\r\n$11\r\nmemory|help\r\n$12\r\nmemory|usage\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "COMMAND LIST FILTERBY MODULE any"), "*0\r\n");
    EXPECT_TRUE(strstr(fixture_say(&fixture, "COMMAND LIST FILTERBY ACLCAT admin"), "config|set") !=
                NULL);
    EXPECT_TEXT(fixture_say(&fixture, "COMMAND LIST FILTERBY OTHER x"), "-ERR syntax error\r\n");
    fixture_close(&fixture);
}

/* ---- keys at other than fixed places ---------------------------------------------------------------------- */

static void expect_keys(struct fixture *fixture, const char *command, const char *answer)
{
    char line[512];
    (void)snprintf(line, sizeof line, "COMMAND GETKEYS %s", command);
    EXPECT_TEXT(fixture_say(fixture, line), answer);
}

TEST(getkeys, finds_them_within_transactions_and_scripts)
{
    struct fixture fixture;
    fixture_open(&fixture);
    expect_keys(&fixture, "MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    expect_keys(&fixture, "EVAL x 2 a b c", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    expect_keys(&fixture, "OBJECT ENCODING a", "*1\r\n$1\r\na\r\n");
    expect_keys(&fixture, "KV.TXN IF 2 VALUE a = 1 ABSENT b THEN 1 3 SET c 1 ELSE 1 2 GET d",
                "*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n");
    expect_keys(&fixture, "KV.TXN THEN 2 4 EVAL x 0 1 2 OBJECT HELP", "*0\r\n");
    expect_keys(&fixture, "KV.ONCE id 7 KV.TXN THEN 1 2 DEL e", "*1\r\n$1\r\ne\r\n");
    expect_keys(&fixture, "KV.ONCE id 7 FLUSHALL", "*0\r\n");
    EXPECT_TEXT(
        fixture_say(&fixture, "COMMAND GETKEYSANDFLAGS KV.TXN IF 1 EXISTS a THEN 1 2 DEL b"),
        "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n"
        "*2\r\n$1\r\nb\r\n*2\r\n+RM\r\n+delete\r\n");
    fixture_close(&fixture);
}

TEST(getkeys, refuses_what_has_none_or_is_not_whole)
{
    struct fixture fixture;
    fixture_open(&fixture);
    static const char *const broken[] = {
        "KV.TXN IF 1 VALUE a = THEN 0",   "KV.TXN IF 1 OTHER a",       "KV.TXN IF -1 EXISTS a",
        "KV.TXN THEN 1 9 GET a",          "KV.TXN THEN 1 0 GET",       "KV.TXN THEN 2 2 GET a",
        "KV.TXN THEN 1 2 GET a MORE",     "KV.TXN THEN 1 2 NOSUCH a",  "KV.TXN THEN 1 1 OBJECT",
        "KV.TXN THEN 1 3 GET a b",        "KV.ONCE id 7 NOSUCH",       "KV.ONCE id 7 KV.TXN x y",
        "KV.ONCE id 7 KV.ONCE id 8 MGET", "KV.TXN ELSE 1 2 GET a IF 0"};
    expect_keys(&fixture, "PING", "-ERR The command has no key arguments\r\n");
    expect_keys(&fixture, "OBJECT HELP", "-ERR The command has no key arguments\r\n");
    expect_keys(&fixture, "CLUSTER MEET a b", "-ERR The command has no key arguments\r\n");
    expect_keys(&fixture, "NOSUCH a", "-ERR Invalid command specified\r\n");
    expect_keys(&fixture, "OBJECT NOSUCH a", "-ERR Invalid command specified\r\n");
    expect_keys(&fixture, "OBJECT", "-ERR Invalid command specified\r\n");
    expect_keys(&fixture, "GET a b", "-ERR Invalid number of arguments specified for command\r\n");
    expect_keys(&fixture, "OBJECT ENCODING",
                "-ERR Invalid number of arguments specified for command\r\n");
    for (uint32_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        expect_keys(&fixture, broken[i], "-ERR Invalid arguments specified for command\r\n");
    }
    fixture_close(&fixture);
}
