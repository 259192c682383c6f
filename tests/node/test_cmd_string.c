/* test_cmd_string.c - commands on string values, where Redis 7.0 cannot be asked or an edge is worth a name. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define SAYS(line, reply) EXPECT_TEXT(fixture_say(&fixture, line), reply)

TEST(cmd_string, set_ifeq_compares_with_the_value)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SET k v IFEQ x", "$-1\r\n");
    SAYS("GET k", "$-1\r\n");
    SAYS("SET k one", "+OK\r\n");
    SAYS("SET k two IFEQ one", "+OK\r\n");
    SAYS("SET k three IFEQ one", "$-1\r\n");
    SAYS("SET k three IFEQ one GET", "$3\r\ntwo\r\n");
    SAYS("SET k three IFEQ two GET", "$3\r\ntwo\r\n");
    SAYS("GET k", "$5\r\nthree\r\n");
    SAYS("SET k four IFNE three", "$-1\r\n");
    SAYS("SET k four IFNE x EX 100", "+OK\r\n");
    SAYS("TTL k", ":100\r\n");
    SAYS("SET new v IFNE x", "+OK\r\n");
    SAYS("SET k v NX IFEQ four", "-ERR syntax error\r\n");
    SAYS("SET k v IFEQ four XX", "-ERR syntax error\r\n");
    SAYS("SET k v IFEQ four IFNE five", "-ERR syntax error\r\n");
    SAYS("SET k v IFEQ", "-ERR syntax error\r\n");
    SAYS("SET k v IFEQ a IFREV 3", "-ERR syntax error\r\n");
    SAYS("GET k", "$4\r\nfour\r\n");
    fixture_close(&fixture);
}

TEST(cmd_string, digests_are_those_of_redis)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("DIGEST k", "$-1\r\n");
    SAYS("SET k \"Hello world\"", "+OK\r\n");
    SAYS("DIGEST k", "$16\r\nb6acb9d84a38ff74\r\n");
    SAYS("SET k v IFDEQ b6acb9d84a38ff75", "$-1\r\n");
    SAYS("SET k v IFDNE B6ACB9D84A38FF74", "$-1\r\n");
    SAYS("SET k v IFDEQ b6acb9d84a38ff7",
         "-ERR a digest has exactly 16 hexadecimal characters\r\n");
    SAYS("SET k v IFDEQ b6acb9d84a38ff7x",
         "-ERR a digest has exactly 16 hexadecimal characters\r\n");
    SAYS("SET k v IFDEQ B6ACB9D84A38FF74", "+OK\r\n");
    SAYS("DELEX k IFDEQ b6acb9d84a38ff74", ":0\r\n");
    SAYS("DELEX k IFDNE b6acb9d84a38ff74", ":1\r\n");
    fixture_close(&fixture);
}

TEST(cmd_string, deletes_compare_with_the_value)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("DELIFEQ k v", ":0\r\n");
    SAYS("SET k v", "+OK\r\n");
    SAYS("DELIFEQ k w", ":0\r\n");
    SAYS("DELEX k IFEQ w", ":0\r\n");
    SAYS("DELEX k IFNE v", ":0\r\n");
    SAYS("DELEX k IFXX v", "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n");
    SAYS("DELEX k IFEQ", "-ERR wrong number of arguments for 'delex' command\r\n");
    SAYS("DELIFEQ k v", ":1\r\n");
    SAYS("SET k v", "+OK\r\n");
    SAYS("DELEX k IFNE w", ":1\r\n");
    SAYS("DELEX k IFNE w", ":0\r\n");
    SAYS("SET k v", "+OK\r\n");
    SAYS("DELEX k", ":1\r\n");
    SAYS("EXISTS k", ":0\r\n");
    fixture_close(&fixture);
}

TEST(cmd_string, a_part_may_lie_anywhere)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SETRANGE k 3 abc", ":6\r\n");
    SAYS("STRLEN k", ":6\r\n");
    SAYS("GETRANGE k 3 -1", "$3\r\nabc\r\n");
    SAYS("GETRANGE k -2 -1", "$2\r\nbc\r\n");
    SAYS("GETRANGE k -9223372036854775808 9223372036854775807", "$6\r\n");
    SAYS("GETRANGE k 5 4", "$0\r\n\r\n");
    SAYS("SETRANGE k 4 X", ":6\r\n");
    SAYS("GETRANGE k 3 -1", "$3\r\naXc\r\n");
    SAYS("SETRANGE none 7 \"\"", ":0\r\n");
    SAYS("EXISTS none", ":0\r\n");
    SAYS("SETRANGE k 9223372036854775807 xx",
         "-TOOBIG a value has at most 8388608 bytes (max-value), this one has "
         "9223372036854775809\r\n");
    fixture_close(&fixture);
}

/* Through the path of values that are laid out where they are logged. */
TEST(cmd_string, large_values_are_cut_copied_and_renamed)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("SETRANGE big 6000000 end", ":6000003\r\n");
    SAYS("COPY big other", ":1\r\n");
    SAYS("SETRANGE other 5999999 start", ":6000004\r\n");
    SAYS("RENAME other third", "+OK\r\n");
    SAYS("EXISTS other", ":0\r\n");
    SAYS("GETRANGE third 5999999 -1", "$5\r\nstart\r\n");
    SAYS("GETRANGE big 5999999 -1", "$4\r\n");
    SAYS("STRLEN big", ":6000003\r\n");
    fixture_close(&fixture);
}

TEST(cmd_string, pipelined_commands_see_each_other)
{
    static const char asked[] =
        "SET a 1\r\nCOPY a b\r\nAPPEND b 2\r\nRENAME b c\r\nSETRANGE c 0 9\r\n"
        "INCRBYFLOAT c 0.5\r\nCOPY c a REPLACE\r\nGETEX a PX 100000\r\n"
        "MSETNX x 1 a 2\r\nEXISTS a b c x\r\n";
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_TEXT(fixture_ask(&fixture, 0, asked, sizeof asked - 1),
                "+OK\r\n:1\r\n:2\r\n+OK\r\n:2\r\n$4\r\n92.5\r\n:1\r\n$4\r\n92.5\r\n:0\r\n:2\r\n");
    fixture_close(&fixture);
}
