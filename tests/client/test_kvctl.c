/* kvctl as a program, against nodes that do what the test says: arguments, exit codes, text and JSON. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "tests/client/kv_tools.h"

#define OUTPUT_SIZE 16384

struct result {
    int code;
    char out[OUTPUT_SIZE];
    char err[OUTPUT_SIZE];
};

static void drain(int fd, char *out)
{
    size_t size = 0;
    while (size < OUTPUT_SIZE - 1) {
        const ssize_t got = read(fd, out + size, OUTPUT_SIZE - 1 - size);
        if (got <= 0) break;
        size += (size_t)got;
    }
    out[size] = 0;
    (void)close(fd);
}

/* Runs kvctl; @words ends with NULL, @input is its standard input, @nodes goes to its environment. */
static struct result run(const char *nodes, const char *input, const char **words)
{
    static struct result result;
    int out[2];
    int err[2];
    int in[2];
    int status = 0;
    char *argv[64] = {(char *)(uintptr_t) "kvctl"};
    for (size_t i = 0; words[i] != NULL; i++) argv[i + 1] = (char *)(uintptr_t)words[i];
    EXPECT_EQ(pipe(out), 0);
    EXPECT_EQ(pipe(err), 0);
    EXPECT_EQ(pipe(in), 0);
    const pid_t child = fork();
    EXPECT_TRUE(child >= 0);
    if (child == 0) {
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        (void)dup2(err[1], 2);
        for (int fd = 3; fd < 64; fd++) (void)close(fd);
        if (nodes != NULL) {
            (void)setenv("KVCTL_NODES", nodes, 1);
        } else {
            (void)unsetenv("KVCTL_NODES");
        }
        (void)execv(KV_BIN_DIR "/kvctl", argv);
        _exit(99);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    (void)close(err[1]);
    if (input != NULL) {
        EXPECT_EQ(write(in[1], input, strlen(input)), (ssize_t)strlen(input));
    }
    (void)close(in[1]);
    drain(out[0], result.out);
    drain(err[0], result.err);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    result.code = WEXITSTATUS(status);
    return result;
}

#define RUN(fake, ...) run((fake)->address, NULL, (const char *[]){__VA_ARGS__, NULL})

static void expect(const struct result *result, int code, const char *out, const char *err)
{
    EXPECT_TEXT(result->err, err);
    EXPECT_TEXT(result->out, out);
    EXPECT_EQ(result->code, code);
}

/* ---- without a cluster ---- */

TEST(kvctl, help_and_version_need_no_cluster)
{
    struct result result = run(NULL, NULL, (const char *[]){"--version", NULL});
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(strncmp(result.out, "kvctl ", 6), 0);
    result = run(NULL, NULL, (const char *[]){"--help", NULL});
    EXPECT_EQ(result.code, 0);
    const char *words[] = {"status",        "get",     "set",      "del",    "incr",
                           "ttl",           "scan",    "leader",   "member", "shell",
                           "--if-revision", "--nodes", "4 outcome"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        EXPECT_TRUE(strstr(result.out, words[i]) != NULL);
    }
    result = run(NULL, NULL, (const char *[]){"set", "--help", NULL});
    EXPECT_EQ(result.code, 0);
    EXPECT_TRUE(strstr(result.out, "--ttl") != NULL);
    EXPECT_TRUE(strstr(result.out, "scan") == NULL);
}

TEST(kvctl, command_lines_that_make_no_sense_are_usage_errors)
{
    const char *wrong[][8] = {
        {NULL},
        {"-o", "json"},
        {"nonsense"},
        {"member"},
        {"member", "nonsense"},
        {"get"},
        {"get", "a", "b"},
        {"set", "a"},
        {"del"},
        {"incr", "k", "x"},
        {"incr", "k", "9223372036854775808"},
        {"set", "k", "v", "--ttl", "0"},
        {"set", "k", "v", "--ttl", "-1"},
        {"set", "k", "v", "--ttl", "1s"},
        {"set", "k", "v", "--ttl"},
        {"set", "k", "v", "--if-revision", "x"},
        {"set", "k", "v", "--if-absent", "--if-revision", "1"},
        {"set", "k", "v", "--if-absent=yes"},
        {"get", "k", "--ttl", "5"},
        {"scan", "--limit", "0"},
        {"scan", "word"},
        {"-o", "yaml", "status"},
        {"--timeout", "0", "status"},
        {"--nonsense", "status"},
        {"--nodes", "host:99999", "status"},
        {"status", "--nodes"},
    };
    struct fake fake = {0};
    fake_start(&fake);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const struct result result = run(fake.address, NULL, wrong[i]);
        if (result.code != 2) print_message("case %zu: %s\n", i, result.err);
        EXPECT_EQ(result.code, 2);
        EXPECT_TEXT(result.out, "");
        EXPECT_TRUE(result.err[0] != 0);
    }
    expect_log(&fake, "");
    fake_stop(&fake);
}

TEST(kvctl, nobody_listens)
{
    struct fake fake = {0};
    fake_start(&fake);
    fake_stop(&fake);
    struct result result = RUN(&fake, "get", "k");
    EXPECT_EQ(result.code, 3);
    EXPECT_TRUE(strstr(result.err, fake.address) != NULL);
    result = RUN(&fake, "-o", "json", "status");
    EXPECT_EQ(result.code, 3);
    EXPECT_EQ(strncmp(result.err, "{\"error\":{\"code\":\"refused\",\"message\":\"", 38), 0);
    EXPECT_TEXT(result.out, "");
}

/* ---- keys ---- */

TEST(kvctl, get)
{
    struct fake fake = {0};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, "*3\r\n$5\r\nhello\r\n:65537\r\n:-1\r\n");
    struct result result = RUN(&fake, "get", "k");
    expect(&result, 0, "hello\n", "");
    fake_step(&fake, FAKE_REPLY, "*3\r\n$5\r\nhello\r\n:65537\r\n:900\r\n");
    result = RUN(&fake, "-o", "json", "get", "k\"\\\n");
    expect(&result, 0,
           "{\"key\":\"k\\\"\\\\\\n\",\"value\":\"hello\",\"revision\":65537,\"ttl_ms\":900}\n",
           "");
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    result = RUN(&fake, "get", "k");
    expect(&result, 1, "", "kvctl: there is no such key\n");
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    result = RUN(&fake, "get", "k", "-o", "json");
    expect(&result, 1, "",
           "{\"error\":{\"code\":\"not_found\",\"message\":\"there is no such key\"}}\n");
    fake_stop(&fake);
}

TEST(kvctl, values_that_are_no_text_are_escaped)
{
    const char *reply = "*3\r\n$8\r\n\xff\\\n\xc3\xa4\x1b[0\r\n:1\r\n:-1\r\n";
    struct fake fake = {0};
    fake_start(&fake);
    for (int i = 0; i < 3; i++) fake_step(&fake, FAKE_REPLY, reply);
    struct result result = RUN(&fake, "get", "k");
    expect(&result, 0, "\\xff\\\\\\n\xc3\xa4\\x1b[0\n", "");
    result = RUN(&fake, "-o", "json", "get", "k");
    expect(&result, 0,
           "{\"key\":\"k\",\"value_base64\":\"/1wKw6QbWzA=\",\"revision\":1,\"ttl_ms\":-1}\n", "");
    result = RUN(&fake, "get", "k", "--raw");
    expect(&result, 0, "\xff\\\n\xc3\xa4\x1b[0", "");
    /* Text with lines stays text; so does a backslash in it. */
    fake_step(&fake, FAKE_REPLY, "*3\r\n$7\r\na\\b\n\xe2\x82\xac\r\n:1\r\n:-1\r\n");
    result = RUN(&fake, "get", "k");
    expect(&result, 0, "a\\b\n\xe2\x82\xac\n", "");
    /* Overlong and surrogate forms are not UTF-8; in JSON control characters are escaped. */
    fake_step(&fake, FAKE_REPLY, "*3\r\n$5\r\n\xc0\xaf\xed\xa0\x80\r\n:1\r\n:-1\r\n");
    result = RUN(&fake, "get", "k");
    expect(&result, 0, "\\xc0\\xaf\\xed\\xa0\\x80\n", "");
    fake_step(&fake, FAKE_REPLY, "*3\r\n$3\r\n\x01\x7f\t\r\n:1\r\n:-1\r\n");
    result = RUN(&fake, "get", "-o", "json", "k");
    expect(&result, 0,
           "{\"key\":\"k\",\"value\":\"\\u0001\\u007f\\t\",\"revision\":1,\"ttl_ms\":-1}\n", "");
    fake_stop(&fake);
}

TEST(kvctl, set_and_its_conditions)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct result result = RUN(&fake, "set", "k", "v");
    expect(&result, 0, "OK\n", "");
    result = RUN(&fake, "-o", "json", "set", "k", "v", "--ttl", "1500", "--if-absent");
    expect(&result, 0, "{\"ok\":true}\n", "");
    result = RUN(&fake, "set", "--if-revision=0", "--", "-k", "--ttl");
    expect(&result, 0, "OK\n", "");
    expect_log(&fake, "SET k v\nSET k v NX PX 1500\nSET -k --ttl IFREV 0\n");
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    result = RUN(&fake, "set", "k", "v", "--if-absent");
    expect(&result, 1, "", "kvctl: the key exists\n");
    fake_step(&fake, FAKE_REPLY, "-NOSPACE the disk is full\r\n");
    result = RUN(&fake, "-o", "json", "set", "k", "v");
    expect(&result, 1, "",
           "{\"error\":{\"code\":\"failed\",\"message\":\"NOSPACE the disk is full\"}}\n");
    fake_stop(&fake);
}

TEST(kvctl, set_takes_its_value_from_a_file_or_the_standard_input)
{
    struct fake fake = {0};
    char path[] = "/tmp/kvctl-value-XXXXXX";
    fake_start(&fake);
    struct result result = run(fake.address, "two\nlines",
                               (const char *[]){"set", "k", "--file", "-", NULL});
    expect(&result, 0, "OK\n", "");
    const int fd = mkstemp(path);
    EXPECT_TRUE(fd >= 0);
    EXPECT_EQ(write(fd, "from-a-file", 11), 11);
    (void)close(fd);
    result = RUN(&fake, "set", "k", "--file", path, "--ttl", "1500");
    expect(&result, 0, "OK\n", "");
    expect_log(&fake, "SET k two\nlines\nSET k from-a-file PX 1500\n");
    /* More than any value may have is not even sent. */
    EXPECT_EQ(truncate(path, (64 << 20) + 1), 0);
    result = RUN(&fake, "set", "k", "--file", path);
    EXPECT_EQ(result.code, 2);
    EXPECT_TRUE(strstr(result.err, "longer than a value may be, 64 MiB") != NULL);
    EXPECT_EQ(unlink(path), 0);
    result = RUN(&fake, "set", "k", "--file", path);
    EXPECT_EQ(result.code, 2);
    EXPECT_TRUE(strstr(result.err, path) != NULL);
    result = RUN(&fake, "set", "k", "v", "--file", "-");
    EXPECT_EQ(result.code, 2);
    result = RUN(&fake, "set", "k");
    EXPECT_EQ(result.code, 2);
    fake_stop(&fake);
}

TEST(kvctl, del_incr_ttl)
{
    struct fake fake = {0};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, ":2\r\n");
    struct result result = RUN(&fake, "del", "a", "b", "c");
    expect(&result, 0, "2 deleted\n", "");
    fake_step(&fake, FAKE_REPLY, ":0\r\n");
    result = RUN(&fake, "-o", "json", "del", "a");
    expect(&result, 1, "{\"deleted\":0}\n", "");
    fake_step(&fake, FAKE_REPLY, ":-4\r\n");
    result = RUN(&fake, "incr", "n", "-5");
    expect(&result, 0, "-4\n", "");
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    result = RUN(&fake, "incr", "n", "-o", "json");
    expect(&result, 0, "{\"key\":\"n\",\"value\":1}\n", "");
    fake_step(&fake, FAKE_REPLY, ":1500\r\n");
    result = RUN(&fake, "ttl", "n");
    expect(&result, 0, "1500 ms\n", "");
    fake_step(&fake, FAKE_REPLY, ":-1\r\n");
    result = RUN(&fake, "ttl", "n");
    expect(&result, 0, "never expires\n", "");
    fake_step(&fake, FAKE_REPLY, ":-1\r\n");
    result = RUN(&fake, "-o", "json", "ttl", "n");
    expect(&result, 0, "{\"key\":\"n\",\"ttl_ms\":-1}\n", "");
    fake_step(&fake, FAKE_REPLY, ":-2\r\n");
    result = RUN(&fake, "ttl", "n");
    expect(&result, 1, "", "kvctl: there is no such key\n");
    expect_log(&fake,
               "DEL a b c\nDEL a\nINCRBY n -5\nINCRBY n 1\nPTTL n\nPTTL n\nPTTL n\nPTTL n\n");
    fake_stop(&fake);
}

TEST(kvctl, scan_gives_one_key_a_line)
{
    const char *page =
        "*2\r\n*3\r\n$3\r\na\nb\r\n$1\r\n1\r\n:5\r\n*3\r\n$1\r\nc\r\n$1\r\n\xff\r\n:6\r\n";
    struct fake fake = {0};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, page);
    fake_step(&fake, FAKE_REPLY, "*0\r\n");
    struct result result = RUN(&fake, "scan");
    expect(&result, 0, "a\\nb\t1\nc\t\\xff\n", "");
    fake_step(&fake, FAKE_REPLY, page);
    result = RUN(&fake, "-o", "json", "scan", "--prefix", "", "--limit", "2");
    expect(&result, 0,
           "{\"key\":\"a\\nb\",\"value\":\"1\",\"revision\":5}\n"
           "{\"key\":\"c\",\"value_base64\":\"/w==\",\"revision\":6}\n",
           "");
    fake_step(&fake, FAKE_REPLY, "*1\r\n$2\r\nx1\r\n");
    result = RUN(&fake, "scan", "--prefix", "x", "--keys", "--reverse", "--limit", "1");
    expect(&result, 0, "x1\n", "");
    fake_step(&fake, FAKE_REPLY, "*0\r\n");
    result = RUN(&fake, "scan", "--from", "m", "--to", "n");
    expect(&result, 0, "", "");
    char log[1024];
    fake_log(&fake, log, sizeof log);
    EXPECT_TRUE(strstr(log, "KV.RANGE   LIMIT 32 REVISION\n") == log);
    fake_stop(&fake);
}

TEST(kvctl, exit_codes_tell_refused_and_unknown_apart)
{
    struct fake fake = {0};
    fake_start(&fake);
    fake_step(&fake, FAKE_RESET, NULL);
    struct result result = RUN(&fake, "--timeout", "500", "incr", "n");
    EXPECT_EQ(result.code, 4);
    EXPECT_TRUE(strstr(result.err, "may have happened") != NULL);
    fake_step(&fake, FAKE_REPLY, "-UNCERTAIN leadership lost\r\n");
    result = RUN(&fake, "-o", "json", "set", "k", "v");
    expect(&result, 4, "",
           "{\"error\":{\"code\":\"unknown\",\"message\":\"UNCERTAIN leadership lost\"}}\n");
    for (int i = 0; i < 40; i++) fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
    result = RUN(&fake, "--timeout", "300", "set", "k", "v");
    expect(&result, 3, "", "kvctl: CLUSTERDOWN no leader\n");
    fake_stop(&fake);
}

/* ---- the cluster ---- */

TEST(kvctl, status_and_members)
{
    struct fake fake = {0};
    struct fake gone = {0};
    char want[2048];
    fake_start(&fake);
    fake_start(&gone);
    fake_stop(&gone);
    (void)snprintf(fake.members, sizeof fake.members,
                   "*2\r\n*6\r\n+node1\r\n+0000000000000001\r\n+p:1\r\n+%s\r\n+voter\r\n:1\r\n"
                   "*6\r\n+node2\r\n+0000000000000002\r\n+p:2\r\n+%s\r\n+learner\r\n:0\r\n",
                   fake.address, gone.address);
    fake_step(&fake, FAKE_REPLY, STATUS("leader", "3", "90", "88"));
    fake_step(&fake, FAKE_REPLY, STATUS("leader", "3", "90", "88")); /* Does it lag still? */
    struct result result = RUN(&fake, "-o", "json", "status");
    (void)snprintf(
        want, sizeof want,
        "{\"cluster\":\"token\",\"leader\":\"node1\",\"nodes\":["
        "{\"name\":\"node1\",\"id\":\"0000000000000001\",\"client\":\"%s\",\"peer\":\"p:1\","
        "\"role\":\"leader\",\"term\":3,\"committed\":90,\"applied\":88,\"lag\":2,"
        "\"keys\":12,\"disk_bytes\":0,\"version\":\"0.1.0\",\"health\":\"ok\"},"
        "{\"name\":\"node2\",\"id\":\"0000000000000002\",\"client\":\"%s\",\"peer\":\"p:2\","
        "\"role\":\"down\",\"term\":0,\"committed\":0,\"applied\":0,\"lag\":0,"
        "\"keys\":0,\"disk_bytes\":0,\"version\":\"\",\"health\":\"%s: Connection refused\"}"
        "]}\n",
        fake.address, gone.address, gone.address);
    expect(&result, 0, want, "");
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    result = RUN(&fake, "status");
    EXPECT_EQ(result.code, 3); /* Nobody leads. */
    EXPECT_TRUE(strstr(result.out, "cluster token, leader none\nNAME ") == result.out);
    EXPECT_TRUE(strstr(result.out, "\033") == NULL); /* No colours: this is no terminal. */
    result = RUN(&fake, "member", "list", "-o", "json");
    (void)snprintf(
        want, sizeof want,
        "{\"members\":[{\"name\":\"node1\",\"id\":\"0000000000000001\",\"peer\":\"p:1\","
        "\"client\":\"%s\",\"role\":\"voter\"},{\"name\":\"node2\",\"id\":"
        "\"0000000000000002\",\"peer\":\"p:2\",\"client\":\"%s\",\"role\":\"learner\"}]}\n",
        fake.address, gone.address);
    expect(&result, 0, want, "");
    result = RUN(&fake, "member", "list");
    EXPECT_TRUE(strstr(result.out, "node2  0000000000000002  learner") != NULL);
    fake_stop(&fake);
}

TEST(kvctl, leader)
{
    struct fake fake = {0};
    char want[256];
    fake_start(&fake);
    struct result result = RUN(&fake, "leader");
    expect(&result, 3, "", "kvctl: there is no leader\n");
    fake_say_leader(&fake, "node1", fake.address);
    result = RUN(&fake, "leader");
    (void)snprintf(want, sizeof want, "node1 %s\n", fake.address);
    expect(&result, 0, want, "");
    result = RUN(&fake, "-o", "json", "leader", "0");
    (void)snprintf(want, sizeof want, "{\"leader\":\"node1\",\"client\":\"%s\"}\n", fake.address);
    expect(&result, 0, want, "");
    result = RUN(&fake, "leader", "7");
    expect(&result, 1, "", "kvctl: there is only shard 0\n");
    result = RUN(&fake, "leader", "transfer", "node2");
    expect(&result, 0, "the leadership goes to node2\n", "");
    fake_step(&fake, FAKE_REPLY, "-ERR no such member\r\n");
    result = RUN(&fake, "leader", "transfer", "node9");
    expect(&result, 1, "", "kvctl: ERR no such member\n");
    expect_log(&fake, "KV.TRANSFER node2\nKV.TRANSFER node9\n");
    fake_stop(&fake);
}

/* Members of which the one that leads is not the one that is asked. */
static void say_two(struct fake *fake, const struct fake *other)
{
    (void)snprintf(fake->members, sizeof fake->members,
                   "*2\r\n*6\r\n+node1\r\n+0000000000000001\r\n+p:1\r\n+%s\r\n+voter\r\n:1\r\n"
                   "*6\r\n+node2\r\n+0000000000000002\r\n+p:2\r\n+%s\r\n+voter\r\n:1\r\n",
                   fake->address, other->address);
}

#define DISK(forced, freed)                                                                        \
    "%7\r\n+node\r\n+node1\r\n+disk_bytes\r\n:4096\r\n+free_bytes\r\n:1048576\r\n+"                \
    "forced\r\n:" forced "\r\n+bytes_freed\r\n:" freed                                             \
    "\r\n+write_amplification\r\n+1.50\r\n+files\r\n*2\r\n"                                        \
    "%6\r\n+number\r\n:3\r\n+kind\r\n+segment\r\n+state\r\n+sealed\r\n+used\r\n:2000\r\n+"         \
    "live\r\n:500\r\n"                                                                             \
    "+dead\r\n:1500\r\n%4\r\n+number\r\n:4\r\n+kind\r\n+table\r\n+state\r\n+\x1b[31m\r\n+"         \
    "damaged\r\n:1\r\n"

TEST(kvctl, disk_is_asked_of_the_node_that_is_named)
{
    struct fake fake = {0};
    struct fake other = {0};
    fake_start(&fake);
    fake_start(&other);
    say_two(&fake, &other);
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(&other, FAKE_REPLY, STATUS("leader", "3", "90", "90"));
    fake_say_leader(&fake, "node2", other.address);
    fake_say_leader(&other, "node2", other.address);
    (void)snprintf(other.members, sizeof other.members, "%s", fake.members);
    fake_step(&fake, FAKE_REPLY, DISK("0", "7"));
    struct result result = RUN(&fake, "disk", "node1");
    EXPECT_TEXT(result.err, "");
    EXPECT_EQ(result.code, 0);
    EXPECT_TRUE(strstr(result.out, "node1\n") == result.out);
    EXPECT_TRUE(strstr(result.out, " 3  segment   sealed ") != NULL);
    EXPECT_TRUE(strstr(result.out, " 75%") != NULL);
    EXPECT_TRUE(strstr(result.out, "DAMAGED") != NULL);
    EXPECT_TRUE(strchr(result.out, '\x1b') ==
                NULL); /* A server's words do not reach the terminal. */
    EXPECT_TRUE(strstr(result.out, "on disk 4.0 KiB, free 1.0 MiB") != NULL);
    expect_log(&fake, "KV.STATUS\nKV.DISK\n");
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(&other, FAKE_REPLY, STATUS("leader", "3", "90", "90"));
    fake_step(&fake, FAKE_REPLY, DISK("0", "7"));
    result = RUN(&fake, "-o", "json", "disk", "node1");
    EXPECT_TRUE(strstr(result.out, "\"write_amplification\":1.50,") != NULL);
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(&other, FAKE_REPLY, STATUS("leader", "3", "90", "90"));
    result = RUN(&fake, "disk", "node7");
    expect(&result, 1, "", "kvctl: no member has this name\n");
    fake_stop(&other);
    fake_stop(&fake);
}

TEST(kvctl, compact_waits_and_says_what_came_back)
{
    struct fake fake = {0};
    struct fake other = {0};
    fake_start(&fake);
    fake_start(&other);
    say_two(&fake, &other);
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(&fake, FAKE_REPLY, DISK("0", "1000"));
    fake_step(&fake, FAKE_REPLY, "+OK\r\n");
    fake_step(&fake, FAKE_REPLY, DISK("1", "1000"));
    fake_step(&fake, FAKE_REPLY, DISK("1", "2000"));
    fake_step(&fake, FAKE_REPLY, DISK("0", "5096"));
    fake_stop(&other);
    struct result result = RUN(&fake, "compact", "node1");
    expect(&result, 0, "node1: 4.0 KiB given back\n", "");
    expect_log(&fake, "KV.STATUS\nKV.DISK\nKV.COMPACT\nKV.DISK\nKV.DISK\nKV.DISK\n");
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(&fake, FAKE_REPLY, "-ERR no\r\n");
    result = RUN(&fake, "compact", "node1");
    expect(&result, 1, "", "kvctl: node1: ERR no\n");
    /* Where nothing came back it says why. */
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(&fake, FAKE_REPLY, DISK("0", "1000"));
    fake_step(&fake, FAKE_REPLY, "+OK\r\n");
    fake_step(&fake, FAKE_REPLY,
              "%3\r\n+forced\r\n:0\r\n+bytes_freed\r\n:1000\r\n+files\r\n*2\r\n"
              "%2\r\n+window\r\n:1\r\n+dead\r\n:2048\r\n"
              "%2\r\n+window\r\n:0\r\n+dead\r\n:4096\r\n");
    result = RUN(&fake, "compact", "node1");
    EXPECT_TRUE(strstr(result.out, "node1: 0 B given back; 2.0 KiB of garbage stays") != NULL);
    EXPECT_TRUE(strstr(result.out, "retention") != NULL);
    fake_stop(&fake);
}

#define CHECK_NODE(name, result, hash, recount)                                                    \
    "*4\r\n+" name "\r\n+" result "\r\n+" hash "\r\n+" recount "\r\n"
#define CHECK_ROUND(round, result, nodes)                                                          \
    "%4\r\n+round\r\n:" round "\r\n+index\r\n:70\r\n+result\r\n+" result                           \
    "\r\n+nodes\r\n*2\r\n" nodes

TEST(kvctl, check_waits_and_fails_when_nodes_differ)
{
    struct fake fake = {0};
    fake_start(&fake);
    const char *running = CHECK_ROUND("5", "running",
                                      CHECK_NODE("node1", "answered", "aa", "right")
                                          CHECK_NODE("node2", "running", "", "none"));
    fake_step(&fake, FAKE_REPLY, running);
    fake_step(&fake, FAKE_REPLY, running);
    fake_step(&fake, FAKE_REPLY,
              CHECK_ROUND("5", "equal",
                          CHECK_NODE("node1", "equal", "aa", "right")
                              CHECK_NODE("node2", "equal", "aa", "right")));
    struct result result = RUN(&fake, "check");
    expect(
        &result, 0,
        "equal at index 70\nNAME   RESULT  STATE HASH  RECOUNT\nnode1  equal   aa          right\n"
        "node2  equal   aa          right\n",
        "");
    expect_log(&fake, "KV.CHECK START\nKV.CHECK\nKV.CHECK\n");
    /* One that counted nothing anew was under way already: another one is begun. */
    fake_step(&fake, FAKE_REPLY,
              CHECK_ROUND("6", "equal",
                          CHECK_NODE("node1", "equal", "aa", "none")
                              CHECK_NODE("node2", "equal", "aa", "none")));
    fake_step(&fake, FAKE_REPLY,
              CHECK_ROUND("7", "different",
                          CHECK_NODE("node1", "equal", "aa", "right")
                              CHECK_NODE("node2", "different", "bb", "right")));
    result = RUN(&fake, "-o", "json", "check");
    expect(
        &result, 1,
        "{\"result\":\"different\",\"index\":70,\"nodes\":[{\"name\":\"node1\",\"result\":"
        "\"equal\","
        "\"state_hash\":\"aa\",\"recount\":\"right\"},{\"name\":\"node2\",\"result\":\"different\","
        "\"state_hash\":\"bb\",\"recount\":\"right\"}]}\n",
        "");
    fake_step(&fake, FAKE_REPLY, running);
    fake_step(
        &fake, FAKE_REPLY,
        CHECK_ROUND("1", "none", CHECK_NODE("a", "b", "c", "d") CHECK_NODE("a", "b", "", "d")));
    result = RUN(&fake, "check");
    EXPECT_EQ(result.code, 3);
    EXPECT_TRUE(strstr(result.err, "the leader changed") != NULL);
    fake_stop(&fake);
}

/* ---- backups ---- */

TEST(kvctl, backup_commands_check_their_arguments_before_anything_else)
{
    const char *wrong[][10] = {
        {"backup"},
        {"backup", "save"},
        {"backup", "save", "a", "b"},
        {"backup", "nonsense", "a"},
        {"backup", "verify"},
        {"backup", "verify", "a", "--node", "n"},
        {"backup", "restore", "a"},
        {"backup", "restore", "a", "--data", "d"},
        {"backup", "restore", "a", "--name", "n"},
        {"backup", "restore", "a", "--data", "d", "--name", "no/name"},
        {"backup", "restore", "a", "--data", "d", "--name", "n", "--cluster", "n"},
        {"dump"},
        {"disk", "a", "b"},
        {"check", "now"},
        {"compact", "--force"},
    };
    struct fake fake = {0};
    fake_start(&fake);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const struct result result = run(fake.address, NULL, wrong[i]);
        if (result.code != 2) print_message("case %zu: %s\n", i, result.err);
        EXPECT_EQ(result.code, 2);
        EXPECT_TEXT(result.out, "");
    }
    expect_log(&fake, "");
    struct result result = run("127.0.0.1:1", NULL,
                               (const char *[]){"backup", "verify", "/nowhere/at/all", NULL});
    expect(&result, 1, "", "kvctl: /nowhere/at/all: cannot be read: not found\n");
    result = run("127.0.0.1:1", NULL, (const char *[]){"dump", "/nowhere/at/all", NULL});
    expect(&result, 1, "", "kvctl: /nowhere/at/all: cannot be read: not found\n");
    fake_stop(&fake);
}

static void say_status_and_index(struct fake *fake)
{
    fake_step(fake, FAKE_REPLY, STATUS("follower", "3", "90", "90"));
    fake_step(fake, FAKE_REPLY, ":70\r\n");
}

TEST(kvctl, a_save_that_gets_nonsense_leaves_no_file)
{
    const char *answers[] = {
        "-ERR this node is receiving a snapshot: ask another one\r\n",
        "+OK\r\n",
        "%1\r\n+id\r\n:1\r\n",
        ("%4\r\n+id\r\n:1\r\n+node_id\r\n+0000000000000001\r\n+cluster_id\r\n+0000000000000001\r\n"
         "+manifest\r\n$4\r\nnone\r\n"),
        "%4\r\n+id\r\n:1\r\n+node_id\r\n+zz\r\n+cluster_id\r\n+1\r\n+manifest\r\n$4\r\nnone\r\n",
    };
    char folder[] = "/tmp/kvctl-test-XXXXXX";
    char path[64];
    char partial[80];
    EXPECT_TRUE(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/backup", folder);
    (void)snprintf(partial, sizeof partial, "%s.partial", path);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct fake fake = {0};
        fake_start(&fake);
        (void)snprintf(fake.members, sizeof fake.members,
                       "*1\r\n*6\r\n+node1\r\n+0000000000000001\r\n+p:1\r\n+%s\r\n+voter\r\n:1\r\n",
                       fake.address);
        say_status_and_index(&fake);
        fake_step(&fake, FAKE_REPLY, answers[i]);
        const struct result result = RUN(&fake, "backup", "save", path);
        if (result.code != 1) print_message("case %zu: %d %s\n", i, result.code, result.err);
        EXPECT_EQ(result.code, 1);
        EXPECT_TEXT(result.out, "");
        EXPECT_TRUE(strstr(result.err, "node1: ") != NULL);
        EXPECT_TRUE(access(path, F_OK) != 0);
        EXPECT_TRUE(access(partial, F_OK) != 0);
        fake_stop(&fake);
    }
    EXPECT_EQ(rmdir(folder), 0);
}

TEST(kvctl, nodes_come_from_the_option_before_the_environment)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct result result = run("127.0.0.1:1", NULL,
                               (const char *[]){"--nodes", fake.address, "set", "k", "v", NULL});
    expect(&result, 0, "OK\n", "");
    fake_stop(&fake);
}

/* ---- shell ---- */

static struct result shell(struct fake *fake, const char *input)
{
    return run(fake->address, input, (const char *[]){"shell", NULL});
}

TEST(kvctl, shell_reads_plain_lines)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct result result = shell(&fake, "set k 'a b'\n\n# a comment\nset \"\\x6b\\n\" \"q\\\"\"\n"
                                        "set x y -o json\nset last line\nexit\nset never sent\n");
    expect(&result, 0, "OK\nOK\n{\"ok\":true}\nOK\n", "");
    expect_log(&fake, "SET k a b\nSET k\n q\"\nSET x y\nSET last line\n");
    fake_stop(&fake);
}

TEST(kvctl, shell_goes_on_after_an_error_and_remembers_it)
{
    struct fake fake = {0};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    struct result result = shell(&fake, "get nothing\nset k v\nnonsense\nset 'open\nhelp set\n");
    EXPECT_EQ(result.code, 1); /* Of the first that failed. */
    EXPECT_TRUE(strstr(result.out, "OK\n  set KEY {VALUE") == result.out);
    EXPECT_TEXT(result.err, "kvctl: there is no such key\n"
                            "kvctl: there is no command 'nonsense'; try --help\n"
                            "kvctl: a quote is not closed\n");
    expect_log(&fake, "KV.GET nothing\nSET k v\n");
    fake_stop(&fake);
}
