/* Tests of what is told of the commands: syntaxes, COMMAND, reasons for what is not here. */
#include "node/manual.h"
#include "node/syntax.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

/* As redis-cli writes arguments, but with every group in brackets of its own. */
static const char *drawn(const char *text)
{
    static char out[1024];
    struct syntax syntax;
    out[0] = 0;
    if (!syntax_parse(text, &syntax)) return "no syntax";
    for (uint32_t at = syntax_next(&syntax, 0); at != 0; at = syntax_next(&syntax, at)) {
        const struct syntax_node *node = &syntax.nodes[at];
        const size_t used = strlen(out);
        (void)snprintf(out + used, sizeof out - used, "%s%d:%s%s%.*s%s%.*s", used > 0 ? " " : "",
                       node->parent, node->is_optional ? "?" : "", node->is_multiple ? "*" : "",
                       (int)node->token.size, (const char *)node->token.data,
                       node->kind == SYNTAX_ONEOF   ? "|"
                       : node->kind == SYNTAX_BLOCK ? "+"
                       : node->token.size > 0       ? "="
                                                    : "",
                       (int)node->name.size, (const char *)node->name.data);
    }
    return out;
}

TEST(syntax, becomes_a_tree)
{
    EXPECT_TEXT(drawn("PING"), "");
    EXPECT_TEXT(drawn("GET key"), "0:key");
    EXPECT_TEXT(drawn("PING [message]"), "0:?message");
    EXPECT_TEXT(drawn("DEL key [key ...]"), "0:*key");
    EXPECT_TEXT(drawn("X [key [key ...]]"), "0:?*key");
    EXPECT_TEXT(drawn("X a [b ...]"), "0:a 0:?*b");
    EXPECT_TEXT(drawn("CONFIG GET pattern [pattern ...]"), "0:*GET=pattern");
    EXPECT_TEXT(drawn("X key [FLAG] [EX seconds | KEEP]"),
                "0:key 0:?FLAG= 0:?| 7:EX=seconds 7:KEEP=");
}

TEST(syntax, groups_repeat_as_a_whole)
{
    struct syntax syntax;
    EXPECT_TRUE(syntax_parse("MSET key value [key value ...]", &syntax));
    EXPECT_EQ(syntax_children(&syntax, 0), 1);
    const uint32_t block = syntax_next(&syntax, 0);
    EXPECT_TRUE(syntax.nodes[block].kind == SYNTAX_BLOCK && syntax.nodes[block].is_multiple);
    EXPECT_FALSE(syntax.nodes[block].is_optional);
    EXPECT_EQ(syntax_children(&syntax, block), 2);
}

TEST(syntax, mistakes_are_found)
{
    static const char *const wrong[] = {"X [a",        "X a]",    "X []",        "X [a | ]",
                                        "X ...",       "X [...]", "X [a ... b]", "X a ...",
                                        "X (a [b)] (", "X |a] b"};
    struct syntax syntax;
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (syntax_parse(wrong[i], &syntax)) EXPECT_TEXT(wrong[i], "refused");
    }
}

TEST(manual, every_row_has_a_syntax_that_begins_with_its_name)
{
    struct syntax syntax;
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        const size_t size = strlen(command->name);
        EXPECT_TRUE(syntax_parse(command->syntax, &syntax));
        EXPECT_TRUE(slice_equal_fold(slice_of(command->syntax, size), command->name));
        EXPECT_TRUE(command->syntax[size] == 0 || command->syntax[size] == ' ');
        EXPECT_TRUE(manual_guarantee(command)[0] != 0);
        if (command->arity == 1) EXPECT_EQ(syntax_children(&syntax, 0), 0);
        if (command->arity > 1) EXPECT_TRUE(syntax_children(&syntax, 0) > 0);
    }
}

TEST(manual, the_page_names_every_command)
{
    struct buf page = {0};
    manual_page(&page);
    buf_u8(&page, 0);
    for (uint32_t i = 0; i < command_count(); i++) {
        EXPECT_TRUE(strstr((const char *)page.data, command_at(i)->syntax) != NULL);
        EXPECT_TRUE(strstr((const char *)page.data, command_at(i)->summary) != NULL);
    }
    EXPECT_TRUE(strstr((const char *)page.data, "## Others") == NULL);
    EXPECT_TRUE(strstr((const char *)page.data, "LPUSH") != NULL);
    buf_close(&page);
}

TEST(manual, unknown_commands_of_redis_name_the_reason)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "LPUSH a b"),
                "-ERR unknown command 'LPUSH', with args beginning with: 'a' 'b' (lists are not "
                "supported, values are strings only)\r\n");
    EXPECT_TEXT(
        fixture_say(&f, "KV.TXN THEN 1 3 sadd a b"),
        "-ERR unknown command 'sadd' (sets are not supported, values are strings only)\r\n");
    EXPECT_TEXT(fixture_say(&f, "lpushy"),
                "-ERR unknown command 'lpushy', with args beginning with: \r\n");
    EXPECT_TRUE(manual_missing(slice_text("")) == NULL);
    EXPECT_TRUE(manual_missing(slice_text("lpus")) == NULL);
    EXPECT_TRUE(manual_missing(slice_text("lpush lpushx")) == NULL);
    EXPECT_TRUE(manual_missing(slice_text("SORT_ro")) != NULL);
    fixture_close(&f);
}

TEST(manual, keys_of_a_command)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS MSET a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS EVAL s 2 a b c"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS EVAL s 0"), "*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS EVAL s 9 a"), "*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS EVAL s x a"), "*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS ECHO a"),
                "-ERR The command has no key arguments\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS NOSUCH a"), "-ERR Invalid command specified\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS GET a b"),
                "-ERR Invalid number of arguments specified for command\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYS GET"),
                "-ERR Invalid number of arguments specified for command\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND GETKEYSANDFLAGS RENAME a b"),
                "*2\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n"
                "*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+update\r\n");
    fixture_close(&f);
}

TEST(manual, lists_and_shapes)
{
    struct fixture f;
    fixture_open(&f);
    EXPECT_TEXT(fixture_say(&f, "COMMAND LIST FILTERBY PATTERN mset*"),
                "*2\r\n$4\r\nmset\r\n$6\r\nmsetnx\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND LIST FILTERBY MODULE any"), "*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND LIST FILTERBY ACLCAT transaction"),
                "*5\r\n$7\r\ndiscard\r\n$4\r\nexec\r\n$5\r\nmulti\r\n$7\r\nunwatch\r\n"
                "$5\r\nwatch\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND LIST FILTERBY x y"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND COUNT x"),
                "-ERR wrong number of arguments for 'command|count' command\r\n");
    EXPECT_TEXT(fixture_say(&f, "COMMAND INFO get"),
                "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
                "*3\r\n+@string\r\n+@read\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n"
                "*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n"
                "$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n"
                "$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n"
                "$5\r\nlimit\r\n:0\r\n*0\r\n");
    EXPECT_TEXT(fixture_say(&f, "CONFIG GET limit-key*"),
                "*2\r\n$15\r\nlimit-key-bytes\r\n$5\r\n65536\r\n");
    fixture_close(&f);
}
