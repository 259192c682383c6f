/* The client library against nodes that do what the test says: what is refused, failed and unknown is told apart,
 * and what may have happened is never repeated. */
#include "client/kv.h"

#include <time.h>

#include "tests/client/fake_server.h"
#include "tests/test.h"

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct kv *connect_to(const char *nodes, int64_t timeout_ms)
{
    struct kv_options options;
    struct kv *kv = NULL;
    kv_options_init(&options);
    options.nodes = nodes;
    options.timeout_ms = timeout_ms;
    options.connect_timeout_ms = 300;
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    return kv;
}

static void expect_log(struct fake *fake, const char *want)
{
    static char log[1 << 20];
    fake_log(fake, log, sizeof log);
    EXPECT_TEXT(log, want);
}

static enum kv_err set(struct kv *kv, const char *key, const char *value)
{
    return kv_set(kv, kv_text(key), kv_text(value), NULL, NULL);
}

static enum kv_err get(struct kv *kv, const char *key, struct kv_value *value)
{
    return kv_get(kv, kv_text(key), value);
}

#define FOUND "*3\r\n$1\r\nv\r\n:7\r\n:-1\r\n"

/* ---- answers of every call -------------------------------------------------------------------------- */

TEST(kv, get_gives_value_revision_and_expiry)
{
    struct fake fake = {0};
    struct kv_value value;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_TEXT(kv_address(kv), fake.address);
    fake_step(&fake, FAKE_REPLY, "*3\r\n$3\r\na\nb\r\n:65537\r\n:1500\r\n");
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    fake_step(&fake, FAKE_REPLY, "*-1\r\n");
    fake_step(&fake, FAKE_REPLY, "*3\r\n$0\r\n\r\n$20\r\n18446744073709551615\r\n:-1\r\n");
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_EQ(value.size, 3);
    EXPECT_TEXT(value.data, "a\nb");
    EXPECT_EQ(value.revision, 65537);
    EXPECT_EQ(value.ttl_ms, 1500);
    EXPECT_EQ(get(kv, "k", &value), KV_ERR_NOT_FOUND);
    EXPECT_TRUE(value.data == NULL);
    EXPECT_EQ(get(kv, "k", &value), KV_ERR_NOT_FOUND);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_EQ(value.size, 0);
    EXPECT_TEXT(value.data, "");
    EXPECT_TRUE(value.revision == UINT64_MAX);
    expect_log(&fake, "KV.GET k\nKV.GET k\nKV.GET k\nKV.GET k\n");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, set_sends_its_options)
{
    struct fake fake = {0};
    struct kv_value previous;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    struct kv_set_options options = {.flags = KV_SET_IF_ABSENT, .ttl_ms = 1500};
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &options, NULL), KV_OK);
    options = (struct kv_set_options){.flags = KV_SET_IF_PRESENT | KV_SET_KEEP_TTL};
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text(""), &options, NULL), KV_OK);
    options = (struct kv_set_options){.flags = KV_SET_IF_REVISION, .if_revision = 42};
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &options, NULL), KV_OK);
    fake_step(&fake, FAKE_REPLY, "$3\r\nold\r\n");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), NULL, &previous), KV_OK);
    EXPECT_TEXT(previous.data, "old");
    expect_log(&fake, "SET k v\nSET k v NX PX 1500\nSET k  XX KEEPTTL\nSET k v IFREV 42\n"
                      "SET k v GET\n");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, set_whose_condition_fails_is_told)
{
    struct fake fake = {0};
    struct kv_value previous;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    struct kv_set_options absent = {.flags = KV_SET_IF_ABSENT};
    struct kv_set_options present = {.flags = KV_SET_IF_PRESENT};
    struct kv_set_options revision = {.flags = KV_SET_IF_REVISION};
    for (int i = 0; i < 3; i++) fake_step(&fake, FAKE_REPLY, "_\r\n");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &absent, NULL), KV_ERR_CONDITION);
    EXPECT_TEXT(kv_message(kv), "the key exists");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &present, NULL), KV_ERR_CONDITION);
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &revision, NULL), KV_ERR_CONDITION);
    /* With the value before, its absence means the opposite for the two conditions. */
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &absent, &previous), KV_OK);
    EXPECT_TRUE(previous.data == NULL);
    fake_step(&fake, FAKE_REPLY, "$1\r\no\r\n");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &absent, &previous), KV_ERR_CONDITION);
    EXPECT_TEXT(previous.data, "o");
    fake_step(&fake, FAKE_REPLY, "_\r\n");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &present, &previous), KV_ERR_CONDITION);
    fake_step(&fake, FAKE_REPLY, "$1\r\no\r\n");
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &present, &previous), KV_OK);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, set_options_that_exclude_each_other_are_not_sent)
{
    struct fake fake = {0};
    struct kv_value previous;
    const struct kv_set_options wrong[] = {
        {.flags = KV_SET_IF_ABSENT | KV_SET_IF_PRESENT},
        {.flags = KV_SET_IF_ABSENT | KV_SET_IF_REVISION},
        {.flags = KV_SET_KEEP_TTL, .ttl_ms = 1},
        {.ttl_ms = -1},
        {.flags = 64},
    };
    const struct kv_set_options revision = {.flags = KV_SET_IF_REVISION};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &wrong[i], NULL), KV_ERR_INVALID);
    }
    EXPECT_EQ(kv_set(kv, kv_text("k"), kv_text("v"), &revision, &previous), KV_ERR_INVALID);
    expect_log(&fake, "");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, del_incr_ttl)
{
    struct fake fake = {0};
    const struct kv_bytes keys[] = {kv_text("a"), kv_bytes_of("b\0c", 3)};
    uint64_t deleted = 0;
    int64_t number = 0;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    EXPECT_EQ(kv_del(kv, keys, 2, &deleted), KV_OK);
    EXPECT_EQ(deleted, 1);
    EXPECT_EQ(kv_del(kv, keys, 0, &deleted), KV_ERR_INVALID);
    fake_step(&fake, FAKE_REPLY, ":-5\r\n");
    EXPECT_EQ(kv_incr(kv, kv_text("n"), INT64_MIN, &number), KV_OK);
    EXPECT_EQ(number, -5);
    fake_step(&fake, FAKE_REPLY, ":900\r\n");
    EXPECT_EQ(kv_ttl(kv, kv_text("n"), &number), KV_OK);
    EXPECT_EQ(number, 900);
    fake_step(&fake, FAKE_REPLY, ":-1\r\n");
    EXPECT_EQ(kv_ttl(kv, kv_text("n"), &number), KV_OK);
    EXPECT_EQ(number, -1);
    fake_step(&fake, FAKE_REPLY, ":-2\r\n");
    EXPECT_EQ(kv_ttl(kv, kv_text("n"), &number), KV_ERR_NOT_FOUND);
    char log[256];
    fake_log(&fake, log, sizeof log);
    EXPECT_BYTES(log, "DEL a b\0c\nINCRBY n -9223372036854775808\nPTTL n\n", 46);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, command_gives_every_type)
{
    struct fake fake = {0};
    const struct kv_bytes args[] = {kv_text("ANY")};
    const struct kv_reply *reply = NULL;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY,
              "|1\r\n+a\r\n+b\r\n*6\r\n%1\r\n$1\r\nk\r\n*2\r\n:1\r\n:2\r\n~1\r\n#t\r\n,1.5\r\n_\r\n"
              "-ERR x\r\n=5\r\ntxt:t\r\n");
    EXPECT_EQ(kv_command(kv, KV_READ, args, 1, &reply), KV_OK);
    EXPECT_EQ(reply->type, KV_ARRAY);
    EXPECT_EQ(reply->count, 6);
    EXPECT_EQ(reply->items[0].type, KV_MAP);
    EXPECT_EQ(reply->items[0].count, 2);
    EXPECT_TEXT(reply->items[0].items[0].data, "k");
    EXPECT_EQ(reply->items[0].items[1].items[1].integer, 2);
    EXPECT_EQ(reply->items[1].type, KV_SET);
    EXPECT_EQ(reply->items[1].items[0].type, KV_BOOL);
    EXPECT_EQ(reply->items[1].items[0].integer, 1);
    EXPECT_TRUE(reply->items[2].number == 1.5);
    EXPECT_EQ(reply->items[3].type, KV_NIL);
    EXPECT_EQ(reply->items[4].type, KV_ERROR);
    EXPECT_TEXT(reply->items[4].data, "ERR x");
    EXPECT_EQ(reply->items[5].type, KV_STRING);
    EXPECT_TEXT(reply->items[5].data, "t");
    fake_step(&fake, FAKE_REPLY, "-WRONGTYPE no\r\n");
    EXPECT_EQ(kv_command(kv, KV_WRITE, args, 1, &reply), KV_ERR_FAILED);
    EXPECT_EQ(reply->type, KV_ERROR);
    EXPECT_TEXT(reply->data, "WRONGTYPE no");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, commands_that_change_the_connection_are_not_sent)
{
    struct fake fake = {0};
    const char *words[] = {"multi", "Subscribe", "MONITOR", "hello", "quit", "auth"};
    const struct kv_bytes client[] = {kv_text("client"), kv_text("reply"), kv_text("off")};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const struct kv_bytes word = kv_text(words[i]);
        EXPECT_EQ(kv_command(kv, KV_READ, &word, 1, NULL), KV_ERR_INVALID);
    }
    EXPECT_EQ(kv_command(kv, KV_READ, client, 3, NULL), KV_ERR_INVALID);
    EXPECT_EQ(kv_command(kv, KV_READ, client, 0, NULL), KV_ERR_INVALID);
    expect_log(&fake, "");
    kv_close(kv);
    fake_stop(&fake);
}

/* ---- refused, failed, unknown ---------------------------------------------------------------------------- */

TEST(kv, a_write_that_was_turned_down_is_repeated)
{
    const char *refusals[] = {"-CLUSTERDOWN no leader\r\n", "-TRYAGAIN busy\r\n",
                              "-LOADING starting\r\n", "-READONLY a replica\r\n"};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct fake fake = {0};
        fake_start(&fake);
        struct kv *kv = connect_to(fake.address, 2000);
        fake_step(&fake, FAKE_REPLY, refusals[i]);
        fake_step(&fake, FAKE_REPLY, refusals[i]);
        EXPECT_EQ(set(kv, "k", "v"), KV_OK);
        expect_log(&fake, "SET k v\nSET k v\nSET k v\n");
        kv_close(kv);
        fake_stop(&fake);
    }
}

TEST(kv, a_write_that_nobody_took_is_refused_at_the_deadline)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 300);
    for (int i = 0; i < FAKE_STEPS_MAX; i++)
        fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
    const int64_t begun = now_ms();
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_REFUSED);
    EXPECT_TEXT(kv_message(kv), "CLUSTERDOWN no leader");
    EXPECT_TRUE(now_ms() - begun >= 290);
    EXPECT_TRUE(now_ms() - begun < 1500);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, an_error_of_the_server_is_not_repeated)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY, "-ERR value is not an integer or out of range\r\n");
    EXPECT_EQ(kv_incr(kv, kv_text("k"), 1, NULL), KV_ERR_FAILED);
    EXPECT_TEXT(kv_message(kv), "ERR value is not an integer or out of range");
    /* A longer word that begins like a refusal is none. */
    fake_step(&fake, FAKE_REPLY, "-TRYAGAINLATER no\r\n");
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_FAILED);
    fake_step(&fake, FAKE_REPLY, "!10\r\nNOSPACE no\r\n");
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_FAILED);
    EXPECT_TEXT(kv_message(kv), "NOSPACE no");
    expect_log(&fake, "INCRBY k 1\nSET k v\nSET k v\n");
    kv_close(kv);
    fake_stop(&fake);
}

static void expect_unknown(enum fake_action action, const char *text)
{
    struct fake fake = {0};
    struct fake other = {0};
    char nodes[160];
    fake_start(&fake);
    fake_start(&other);
    (void)snprintf(nodes, sizeof nodes, "%s,%s", fake.address, other.address);
    struct kv *kv = connect_to(nodes, 400);
    fake_step(&fake, action, text);
    const int64_t begun = now_ms();
    EXPECT_EQ(kv_incr(kv, kv_text("k"), 1, NULL), KV_ERR_UNKNOWN);
    EXPECT_TRUE(now_ms() - begun < 1500);
    EXPECT_TRUE(kv_message(kv)[0] != 0);
    expect_log(&fake, "INCRBY k 1\n");
    expect_log(&other, "");
    /* The handle goes on. */
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    kv_close(kv);
    fake_stop(&other);
    fake_stop(&fake);
}

TEST(kv, a_write_without_an_answer_is_unknown_and_sent_once)
{
    expect_unknown(FAKE_RESET, NULL);
    expect_unknown(FAKE_CLOSE, NULL);
    expect_unknown(FAKE_SILENT, NULL);
    expect_unknown(FAKE_CLOSE, ":1");
    expect_unknown(FAKE_CLOSE, "$100\r\nabc");
    expect_unknown(FAKE_REPLY, ":1\r");
    expect_unknown(FAKE_REPLY, "garbage\r\n");
    expect_unknown(FAKE_REPLY, ":x\r\n");
    expect_unknown(FAKE_REPLY, "-UNCERTAIN leadership lost, outcome unknown\r\n");
    expect_unknown(FAKE_REPLY, "*0\r\n"); /* An answer, but not one to this question. */
}

static void expect_read_elsewhere(enum fake_action action, const char *text)
{
    struct fake fake = {0};
    struct fake other = {0};
    struct kv_value value;
    char nodes[160];
    fake_start(&fake);
    fake_start(&other);
    (void)snprintf(nodes, sizeof nodes, "%s,%s", fake.address, other.address);
    struct kv *kv = connect_to(nodes, 1000);
    fake_step(&fake, action, text);
    fake_step(&other, FAKE_REPLY, FOUND);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_TEXT(value.data, "v");
    expect_log(&fake, "KV.GET k\n");
    expect_log(&other, "KV.GET k\n");
    EXPECT_TEXT(kv_address(kv), other.address);
    kv_close(kv);
    fake_stop(&other);
    fake_stop(&fake);
}

TEST(kv, a_read_without_an_answer_is_asked_elsewhere)
{
    expect_read_elsewhere(FAKE_RESET, NULL);
    expect_read_elsewhere(FAKE_CLOSE, NULL);
    expect_read_elsewhere(FAKE_SILENT, NULL);
    expect_read_elsewhere(FAKE_CLOSE, "*3\r\n$1\r\nv\r\n:7\r\n");
    expect_read_elsewhere(FAKE_REPLY, "?\r\n");
    expect_read_elsewhere(FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
    expect_read_elsewhere(FAKE_REPLY, "-LOADING\r\n");
}

TEST(kv, a_read_that_nobody_answers_ends_at_the_deadline)
{
    struct fake fake = {0};
    struct kv_value value;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 300);
    for (int i = 0; i < 8; i++) fake_step(&fake, FAKE_SILENT, NULL);
    const int64_t begun = now_ms();
    EXPECT_EQ(get(kv, "k", &value), KV_ERR_TIMEOUT);
    EXPECT_TRUE(now_ms() - begun >= 290);
    EXPECT_TRUE(now_ms() - begun < 1500);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, a_reply_that_comes_byte_by_byte_is_taken)
{
    struct fake fake = {0};
    struct kv_value value;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 2000);
    fake_step(&fake, FAKE_BYTES, ">2\r\n+invalidate\r\n+x\r\n*3\r\n$5\r\nhello\r\n:7\r\n:-1\r\n");
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_TEXT(value.data, "hello");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, an_answer_too_many_ends_the_connection)
{
    struct fake fake = {0};
    struct kv_value value;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    /* If the second one were kept it would be taken for the answer to the next question. */
    fake_step(&fake, FAKE_REPLY, "+OK\r\n*3\r\n$5\r\nwrong\r\n:1\r\n:-1\r\n");
    fake_step(&fake, FAKE_REPLY, FOUND);
    (void)set(kv, "k", "v");
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_TEXT(value.data, "v");
    kv_close(kv);
    fake_stop(&fake);
}

/* ---- nodes ---------------------------------------------------------------------------------------------------- */

TEST(kv, a_closed_idle_connection_is_noticed_before_a_write)
{
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    for (int i = 0; i < 5; i++) {
        fake_hang_up(&fake);
        EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    }
    expect_log(&fake, "SET k v\nSET k v\nSET k v\nSET k v\nSET k v\n");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, moved_is_followed)
{
    struct fake fake = {0};
    struct fake leader = {0};
    char moved[128];
    fake_start(&fake);
    fake_start(&leader);
    struct kv *kv = connect_to(fake.address, 1000);
    (void)snprintf(moved, sizeof moved, "-MOVED 1234 %s\r\n", leader.address);
    fake_step(&fake, FAKE_REPLY, moved);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_EQ(set(kv, "k", "w"), KV_OK);
    EXPECT_TEXT(kv_address(kv), leader.address);
    expect_log(&fake, "SET k v\n");
    expect_log(&leader, "SET k v\nSET k w\n");
    kv_close(kv);
    fake_stop(&leader);
    fake_stop(&fake);
}

TEST(kv, moved_in_circles_ends_at_the_deadline)
{
    struct fake fake = {0};
    char moved[128];
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 300);
    (void)snprintf(moved, sizeof moved, "-MOVED 1 %s\r\n", fake.address);
    for (int i = 0; i < FAKE_STEPS_MAX; i++) fake_step(&fake, FAKE_REPLY, moved);
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_REFUSED);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, the_leader_is_found_at_connect_and_followed_when_it_moves)
{
    struct fake fake = {0};
    struct fake leader = {0};
    fake_start(&fake);
    fake_start(&leader);
    fake_say_leader(&fake, "node2", leader.address);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_TEXT(kv_address(kv), leader.address);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    expect_log(&fake, "");
    expect_log(&leader, "SET k v\n");
    kv_close(kv);
    /* While nobody leads the node at hand is asked again soon. */
    fake_say_leader(&fake, NULL, NULL);
    kv = connect_to(fake.address, 1000);
    EXPECT_TEXT(kv_address(kv), fake.address);
    fake_say_leader(&fake, "node2", leader.address);
    (void)usleep(600 * 1000);
    EXPECT_EQ(set(kv, "k", "w"), KV_OK);
    EXPECT_TEXT(kv_address(kv), leader.address);
    kv_close(kv);
    fake_stop(&leader);
    fake_stop(&fake);
}

TEST(kv, a_leader_that_cannot_be_reached_is_no_obstacle)
{
    struct fake fake = {0};
    struct fake stopped = {0};
    fake_start(&fake);
    fake_start(&stopped);
    stopped.greets = false;
    fake_say_leader(&fake, "node2", stopped.address);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_TEXT(kv_address(kv), fake.address);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    /* It is not tried again and again. */
    (void)usleep(600 * 1000);
    const int64_t begun = now_ms();
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_TRUE(now_ms() - begun < 150);
    kv_close(kv);
    fake_stop(&stopped);
    fake_say_leader(&fake, "node2", stopped.address);
    kv = connect_to(fake.address, 1000);
    EXPECT_TEXT(kv_address(kv), fake.address);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, one_node_names_the_others)
{
    struct fake fake = {0};
    struct fake other = {0};
    fake_start(&fake);
    fake_start(&other);
    (void)snprintf(
        fake.members, sizeof fake.members,
        "*1\r\n*6\r\n+node2\r\n+0000000000000002\r\n+p:1\r\n$%zu\r\n%s\r\n+voter\r\n:1\r\n",
        strlen(other.address), other.address);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_stop(&fake);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_TEXT(kv_address(kv), other.address);
    kv_close(kv);
    fake_stop(&other);
}

TEST(kv, a_node_that_is_not_of_ours_is_used_all_the_same)
{
    struct fake fake = {0};
    fake_start(&fake);
    (void)snprintf(fake.leader, sizeof fake.leader, "-ERR unknown command 'KV.LEADER'\r\n");
    (void)snprintf(fake.members, sizeof fake.members, "-ERR unknown command 'KV.MEMBERS'\r\n");
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, nobody_listens_is_known_at_once)
{
    struct fake fake = {0};
    struct kv_options options;
    struct kv *kv = NULL;
    fake_start(&fake);
    fake_stop(&fake);
    kv_options_init(&options);
    options.nodes = fake.address;
    const int64_t begun = now_ms();
    EXPECT_EQ(kv_connect(&options, &kv), KV_ERR_REFUSED);
    EXPECT_TRUE(now_ms() - begun < 1000);
    EXPECT_TRUE(strstr(kv_message(kv), fake.address) != NULL);
    EXPECT_TEXT(kv_address(kv), "");
    /* Later calls wait for a node until their deadline; nothing was sent. */
    kv_set_timeout(kv, 100);
    EXPECT_EQ(set(kv, "k", "v"), KV_ERR_TIMEOUT);
    kv_close(kv);
}

TEST(kv, a_stopped_node_is_passed_over)
{
    struct fake stopped = {0};
    struct fake fake = {0};
    struct kv_options options;
    struct kv *kv = NULL;
    char nodes[160];
    fake_start(&stopped);
    fake_start(&fake);
    stopped.greets = false;
    (void)snprintf(nodes, sizeof nodes, "%s, %s", stopped.address, fake.address);
    kv = connect_to(nodes, 1000);
    EXPECT_TEXT(kv_address(kv), fake.address);
    kv_close(kv);
    kv_options_init(&options);
    options.nodes = stopped.address;
    options.timeout_ms = 200;
    EXPECT_EQ(kv_connect(&options, &kv), KV_ERR_TIMEOUT);
    kv_close(kv);
    fake_stop(&fake);
    fake_stop(&stopped);
}

TEST(kv, malformed_nodes_are_refused)
{
    const char *wrong[] = {"",     ",",         "host:", "host:0", "host:65536", ":7001", "host:1x",
                           "[::1", "[::1]7001", "::1",   "[]:1",   "host:-1",    NULL};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct kv_options options;
        struct kv *kv = NULL;
        kv_options_init(&options);
        options.nodes = wrong[i];
        EXPECT_EQ(kv_connect(&options, &kv), KV_ERR_INVALID);
        EXPECT_TRUE(kv_message(kv)[0] != 0);
        kv_close(kv);
    }
}

/* ---- pipelines --------------------------------------------------------------------------------------------------- */

static void add(struct kv_pipeline *pipeline, unsigned flags, const char *name, const char *key)
{
    const struct kv_bytes args[] = {kv_text(name), kv_text(key)};
    EXPECT_EQ(kv_pipeline_add(pipeline, flags, args, 2), KV_OK);
}

TEST(kv, a_pipeline_gives_each_reply)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    const struct kv_reply *reply = NULL;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK); /* An empty one. */
    add(pipeline, KV_WRITE, "A", "1");
    add(pipeline, KV_WRITE, "B", "2");
    add(pipeline, KV_READ, "C", "3");
    EXPECT_EQ(kv_pipeline_result(pipeline, 0, &reply), KV_ERR_INVALID); /* Not run yet. */
    fake_step(&fake, FAKE_REPLY, "$3\r\none\r\n");
    fake_step(&fake, FAKE_REPLY, "-ERR two\r\n");
    fake_step(&fake, FAKE_REPLY, "*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_ERR_FAILED);
    EXPECT_TEXT(kv_message(kv), "ERR two");
    EXPECT_EQ(kv_pipeline_count(pipeline), 3);
    for (int round = 0; round < 2; round++) { /* In any order, and again. */
        EXPECT_EQ(kv_pipeline_result(pipeline, 2, &reply), KV_OK);
        EXPECT_TEXT(reply->items[1].data, "y");
        EXPECT_EQ(kv_pipeline_result(pipeline, 0, &reply), KV_OK);
        EXPECT_TEXT(reply->data, "one");
        EXPECT_EQ(kv_pipeline_result(pipeline, 1, &reply), KV_ERR_FAILED);
        EXPECT_TEXT(reply->data, "ERR two");
    }
    EXPECT_EQ(kv_pipeline_result(pipeline, 3, &reply), KV_ERR_INVALID);
    add(pipeline, KV_WRITE, "D", "4"); /* Begins a new list. */
    EXPECT_EQ(kv_pipeline_count(pipeline), 1);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
    expect_log(&fake, "A 1\nB 2\nC 3\nD 4\n");
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, a_pipeline_repeats_only_a_tail_that_was_turned_down)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    const struct kv_reply *reply = NULL;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    add(pipeline, KV_WRITE, "A", "1");
    add(pipeline, KV_WRITE, "B", "2");
    add(pipeline, KV_WRITE, "C", "3");
    add(pipeline, KV_WRITE, "D", "4");
    fake_step(&fake, FAKE_REPLY, "-TRYAGAIN a\r\n");
    fake_step(&fake, FAKE_REPLY, ":2\r\n");
    fake_step(&fake, FAKE_REPLY, "-TRYAGAIN c\r\n");
    fake_step(&fake, FAKE_REPLY, "-TRYAGAIN d\r\n");
    fake_step(&fake, FAKE_REPLY, ":3\r\n");
    fake_step(&fake, FAKE_REPLY, ":4\r\n");
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_ERR_REFUSED);
    EXPECT_EQ(kv_pipeline_result(pipeline, 0, &reply),
              KV_ERR_REFUSED); /* B took effect behind it. */
    EXPECT_EQ(kv_pipeline_result(pipeline, 1, &reply), KV_OK);
    EXPECT_EQ(kv_pipeline_result(pipeline, 2, &reply), KV_OK);
    EXPECT_EQ(reply->integer, 3);
    EXPECT_EQ(kv_pipeline_result(pipeline, 3, &reply), KV_OK);
    EXPECT_EQ(reply->integer, 4);
    expect_log(&fake, "A 1\nB 2\nC 3\nD 4\nC 3\nD 4\n");
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, a_pipeline_that_breaks_knows_what_each_command_is)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 500);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    add(pipeline, KV_WRITE, "A", "1");
    add(pipeline, KV_WRITE, "B", "2");
    add(pipeline, KV_READ, "C", "3");
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    fake_step(&fake, FAKE_CLOSE, NULL);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(pipeline, 0, NULL), KV_OK);
    EXPECT_EQ(kv_pipeline_result(pipeline, 1, NULL), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(pipeline, 2, NULL), KV_ERR_TIMEOUT);
    expect_log(&fake, "A 1\nB 2\n"); /* Nothing is repeated behind an unknown write. */
    add(pipeline, KV_WRITE, "A", "1");
    add(pipeline, KV_READ, "B", "2");
    add(pipeline, KV_READ, "C", "3");
    fake_step(&fake, FAKE_REPLY, ":1\r\n");
    fake_step(&fake, FAKE_CLOSE, NULL);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
    expect_log(&fake, "A 1\nB 2\nB 2\nC 3\n"); /* Reads are. */
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}

static bool echo_bytes(const struct slice *args, uint32_t count, struct buf *out)
{
    if (count != 2) return false;
    resp_put_bulk(out, args[1]);
    return true;
}

TEST(kv, a_pipeline_larger_than_all_buffers_does_not_jam)
{
    struct fake fake = {.handler = echo_bytes};
    struct kv_pipeline *pipeline = NULL;
    static char value[1000];
    memset(value, 'x', sizeof value);
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 20000);
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    for (int i = 0; i < 20000; i++) {
        const struct kv_bytes args[] = {kv_text("ECHO"), kv_bytes_of(value, sizeof value)};
        EXPECT_EQ(kv_pipeline_add(pipeline, KV_WRITE, args, 2), KV_OK);
    }
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_OK);
    for (size_t i = 0; i < 20000; i += 999) {
        const struct kv_reply *reply = NULL;
        EXPECT_EQ(kv_pipeline_result(pipeline, i, &reply), KV_OK);
        EXPECT_EQ(reply->size, sizeof value);
    }
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, commands_that_were_not_wholly_sent_did_not_happen)
{
    struct fake fake = {0};
    struct kv_pipeline *pipeline = NULL;
    const size_t size = 24u * 1024 * 1024;
    char *value = calloc(1, size);
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 400);
    const struct kv_bytes big[] = {kv_text("SET"), kv_text("big"), kv_bytes_of(value, size)};
    EXPECT_EQ(kv_pipeline_create(kv, &pipeline), KV_OK);
    add(pipeline, KV_WRITE, "A", "1");
    EXPECT_EQ(kv_pipeline_add(pipeline, KV_WRITE, big, 3), KV_OK);
    fake_step(&fake, FAKE_RESET, NULL);
    EXPECT_EQ(kv_pipeline_execute(pipeline), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(pipeline, 0, NULL), KV_ERR_UNKNOWN);
    EXPECT_EQ(kv_pipeline_result(pipeline, 1, NULL), KV_ERR_TIMEOUT);
    kv_pipeline_destroy(pipeline);
    kv_close(kv);
    fake_stop(&fake);
    free(value);
}

/* ---- scans --------------------------------------------------------------------------------------------------------- */

/* A store of the keys k000 to k299, with "\xff" and "\xff\xff" at the end; pages as the command gives them. */
static bool range_of_300(const struct slice *args, uint32_t count, struct buf *out)
{
    static char names[302][8];
    struct slice chosen[302];
    uint32_t chosen_count = 0;
    int64_t limit = INT64_MAX;
    bool reverse = false;
    bool keys = false;
    if (!slice_equal_fold(args[0], "kv.range")) return false;
    for (uint32_t i = 3; i < count; i++) {
        if (slice_equal_fold(args[i], "limit")) CHECK(slice_int64(args[++i], &limit));
        if (slice_equal_fold(args[i], "reverse")) reverse = true;
        if (slice_equal_fold(args[i], "keys")) keys = true;
    }
    for (uint32_t i = 0; i < 302; i++) {
        const uint32_t at = reverse ? 301 - i : i;
        (void)snprintf(names[at], sizeof names[at], "k%03u", at);
        if (at >= 300) (void)snprintf(names[at], sizeof names[at], at == 300 ? "\xff" : "\xff\xff");
        const struct slice name = slice_text(names[at]);
        if (slice_compare(name, args[1]) < 0) continue;
        if (args[2].size > 0 && slice_compare(name, args[2]) >= 0) continue;
        if (chosen_count < (uint64_t)limit) chosen[chosen_count++] = name;
    }
    resp_put_array(out, chosen_count);
    for (uint32_t i = 0; i < chosen_count; i++) {
        if (!keys) resp_put_array(out, 3);
        resp_put_bulk(out, chosen[i]);
        if (keys) continue;
        resp_put_bulk(out, chosen[i]);
        resp_put_int(out, i + 1);
    }
    return true;
}

/* First key, last key and how many there were: "k000 k299 300". */
static void expect_scan(struct kv *kv, const struct kv_scan_options *options, const char *want)
{
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    char first[16] = "-";
    char last[16] = "-";
    char got[64];
    uint32_t count = 0;
    EXPECT_EQ(kv_scan_open(kv, options, &scan), KV_OK);
    enum kv_err err = kv_scan_next(scan, &entry);
    for (; err == KV_OK; err = kv_scan_next(scan, &entry)) {
        if (count == 0) (void)snprintf(first, sizeof first, "%s", entry.key);
        if (options != NULL && options->keys_only) {
            EXPECT_TRUE(entry.value.data == NULL);
        } else {
            EXPECT_TEXT(entry.key, entry.value.data);
            EXPECT_TRUE(entry.value.revision > 0);
        }
        if (count > 0) {
            const int order = strcmp(entry.key, last);
            EXPECT_TRUE(options != NULL && options->reverse ? order < 0 : order > 0);
        }
        (void)snprintf(last, sizeof last, "%s", entry.key);
        count++;
    }
    EXPECT_EQ(err, KV_ERR_NOT_FOUND);
    EXPECT_EQ(kv_scan_next(scan, &entry), KV_ERR_NOT_FOUND);
    (void)snprintf(got, sizeof got, "%s %s %u", first, last, count);
    EXPECT_TEXT(got, want);
    kv_scan_close(scan);
}

TEST(kv, scan_goes_through_all_pages)
{
    struct fake fake = {.handler = range_of_300};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    struct kv_scan_options options = {.limit = 0};
    expect_scan(kv, NULL, "k000 \xff\xff 302");
    expect_log(&fake, "KV.RANGE   LIMIT 32\nKV.RANGE k031"); /* cut at the zero byte */
    options.reverse = 1;
    expect_scan(kv, &options, "\xff\xff k000 302");
    options.prefix = kv_text("k1");
    expect_scan(kv, &options, "k199 k100 100");
    options.reverse = 0;
    options.keys_only = 1;
    expect_scan(kv, &options, "k100 k199 100");
    options.limit = 40;
    expect_scan(kv, &options, "k100 k139 40");
    options.from = kv_text("k150");
    options.to = kv_text("k160");
    expect_scan(kv, &options, "k150 k159 10");
    options.to = kv_text("k9");
    options.limit = 0;
    expect_scan(kv, &options, "k150 k199 50");
    options.prefix = kv_text("\xff");
    options.from = kv_text("");
    options.to = kv_text("");
    expect_scan(kv, &options, "\xff \xff\xff 2");
    options.prefix = kv_text("zz");
    options.to = kv_text("a");
    expect_scan(kv, &options, "- - 0");
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, other_calls_may_come_between_the_steps_of_a_scan)
{
    struct fake fake = {.handler = range_of_300};
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_EQ(kv_scan_open(kv, NULL, &scan), KV_OK);
    for (int i = 0; i < 100; i++) {
        char want[8];
        (void)snprintf(want, sizeof want, "k%03d", i);
        EXPECT_EQ(kv_scan_next(scan, &entry), KV_OK);
        if (i == 40) fake_hang_up(&fake);
        EXPECT_EQ(set(kv, "other", "v"), KV_OK);
        EXPECT_TEXT(entry.key, want);
    }
    kv_scan_close(scan);
    kv_close(kv);
    fake_stop(&fake);
}

TEST(kv, a_scan_that_gets_nonsense_ends)
{
    const char *replies[] = {"+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*1\r\n+k\r\n",
                             "*1\r\n*3\r\n+a\r\n+v\r\n:1\r\n", "*1\r\n*3\r\n+n\r\n:1\r\n:1\r\n"};
    struct fake fake = {0};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 500);
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        const struct kv_scan_options options = {.from = kv_text("m")};
        struct kv_scan *scan = NULL;
        struct kv_entry entry;
        fake_step(&fake, FAKE_REPLY, replies[i]);
        EXPECT_EQ(kv_scan_open(kv, &options, &scan), KV_OK);
        EXPECT_EQ(kv_scan_next(scan, &entry), KV_ERR_FAILED);
        kv_scan_close(scan);
    }
    kv_close(kv);
    fake_stop(&fake);
}

/* ---- the cluster ----------------------------------------------------------------------------------------------------- */

#define STATUS(role, term, committed, applied)                                                     \
    "%9\r\n+name\r\n+x\r\n+role\r\n+" role "\r\n+term\r\n:" term "\r\n+committed\r\n:" committed   \
    "\r\n+applied\r\n:" applied "\r\n+keys\r\n:12\r\n+version\r\n+0.1.0\r\n+health\r\n+ok\r\n"     \
    "+cluster\r\n+token\r\n"

static void name_members(struct fake *fake, const struct fake *other, const char *gone)
{
    (void)snprintf(fake->members, sizeof fake->members,
                   "*3\r\n*6\r\n+node1\r\n+0000000000000001\r\n+p:1\r\n+%s\r\n+voter\r\n:1\r\n"
                   "*6\r\n+node2\r\n+0000000000000002\r\n+p:2\r\n+%s\r\n+voter\r\n:1\r\n"
                   "*6\r\n+node3\r\n+0000000000000003\r\n+p:3\r\n+%s\r\n+learner\r\n:0\r\n",
                   fake->address, other->address, gone);
}

TEST(kv, status_asks_every_node)
{
    struct fake fake = {0};
    struct fake other = {0};
    struct fake gone = {0};
    struct kv_cluster cluster;
    const char *name = NULL;
    const char *client = NULL;
    fake_start(&fake);
    fake_start(&other);
    fake_start(&gone);
    fake_stop(&gone);
    name_members(&fake, &other, gone.address);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY, STATUS("leader", "3", "90", "90"));
    fake_step(&other, FAKE_REPLY, STATUS("leader", "5", "100", "97"));
    EXPECT_EQ(kv_status(kv, &cluster), KV_OK);
    EXPECT_TEXT(cluster.cluster, "token");
    EXPECT_TEXT(cluster.leader, "node2"); /* Of the higher term. */
    EXPECT_EQ(cluster.node_count, 3);
    EXPECT_TEXT(cluster.nodes[0].name, "node1");
    EXPECT_EQ(cluster.nodes[0].lag, 10);
    EXPECT_EQ(cluster.nodes[1].lag, 3);
    EXPECT_EQ(cluster.nodes[1].term, 5);
    EXPECT_EQ(cluster.nodes[1].keys, 12);
    EXPECT_TEXT(cluster.nodes[1].version, "0.1.0");
    EXPECT_TEXT(cluster.nodes[1].health, "ok");
    EXPECT_TEXT(cluster.nodes[2].role, "down");
    EXPECT_EQ(cluster.nodes[2].lag, 0);
    EXPECT_EQ(kv_leader(kv, &name, &client), KV_ERR_NOT_FOUND);
    fake_say_leader(&fake, "node2", other.address);
    EXPECT_EQ(kv_leader(kv, &name, &client), KV_OK);
    EXPECT_TEXT(name, "node2");
    EXPECT_TEXT(client, other.address);
    EXPECT_EQ(kv_members(kv, &cluster), KV_OK);
    EXPECT_TEXT(cluster.nodes[2].role, "learner");
    EXPECT_TEXT(cluster.nodes[2].id, "0000000000000003");
    fake_step(&other, FAKE_REPLY, "+OK\r\n");
    EXPECT_EQ(kv_leader_transfer(kv, "node1"), KV_OK);
    kv_close(kv);
    fake_stop(&other);
    fake_stop(&fake);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

struct meter {
    int64_t left;  /* allocations that are still granted; below 0: all */
    int64_t alive; /* blocks */
};

static void *meter_resize(void *context, void *pointer, size_t size)
{
    struct meter *meter = context;
    if (size == 0) {
        if (pointer != NULL) meter->alive--;
        free(pointer);
        return NULL;
    }
    if (meter->left == 0) return NULL;
    if (meter->left > 0) meter->left--;
    if (pointer == NULL) meter->alive++;
    return realloc(pointer, size);
}

static void expect_ok_or_no_memory(enum kv_err err, bool *done)
{
    EXPECT_TRUE(err == KV_OK || err == KV_ERR_NOMEM);
    if (err != KV_OK) *done = false;
}

/* Every kind of call once; false when memory ran out somewhere. */
static bool use_everything(struct fake *fake, struct kv *kv)
{
    struct kv_scan *scan = NULL;
    struct kv_pipeline *pipeline = NULL;
    struct kv_value value;
    struct kv_entry entry;
    struct kv_cluster cluster;
    const struct kv_bytes key = kv_text("k");
    char log[4096];
    bool done = true;
    fake_log(fake, log, sizeof log);
    enum kv_err err = set(kv, "k", "v");
    fake_log(fake, log, sizeof log);
    EXPECT_TEXT(log, err == KV_OK ? "SET k v\n" : ""); /* Without memory it did not happen. */
    expect_ok_or_no_memory(err, &done);
    err = kv_del(kv, &key, 1, NULL);
    fake_log(fake, log, sizeof log);
    EXPECT_TEXT(log, err == KV_OK ? "DEL k\n" : "");
    expect_ok_or_no_memory(err, &done);
    expect_ok_or_no_memory(get(kv, "k", &value), &done);
    err = kv_scan_open(kv, NULL, &scan);
    if (err == KV_OK) err = kv_scan_next(scan, &entry);
    expect_ok_or_no_memory(err, &done);
    kv_scan_close(scan);
    err = kv_pipeline_create(kv, &pipeline);
    if (err == KV_OK) err = kv_pipeline_add(pipeline, KV_WRITE, &key, 1);
    if (err == KV_OK) err = kv_pipeline_execute(pipeline);
    expect_ok_or_no_memory(err, &done);
    kv_pipeline_destroy(pipeline);
    expect_ok_or_no_memory(kv_status(kv, &cluster), &done);
    return done;
}

static bool answers(const struct slice *args, uint32_t count, struct buf *out)
{
    if (range_of_300(args, count, out)) return true;
    if (slice_equal_fold(args[0], "kv.get")) {
        buf_text(out, FOUND);
        return true;
    }
    if (slice_equal_fold(args[0], "kv.status")) {
        buf_text(out, STATUS("leader", "1", "2", "2"));
        return true;
    }
    if (!slice_equal_fold(args[0], "del")) return false;
    resp_put_int(out, 1);
    return true;
}

TEST(kv, memory_that_runs_out_anywhere_is_reported_and_nothing_leaks)
{
    struct fake fake = {.handler = answers};
    bool done = false;
    int64_t granted = 0;
    fake_start(&fake);
    (void)snprintf(fake.members, sizeof fake.members,
                   "*1\r\n*6\r\n+n\r\n+1\r\n+p:1\r\n$%zu\r\n%s\r\n+voter\r\n:1\r\n",
                   strlen(fake.address), fake.address);
    for (; !done && granted < 500; granted++) {
        struct meter meter = {.left = granted};
        struct kv_options options;
        struct kv *kv = NULL;
        kv_options_init(&options);
        options.nodes = fake.address;
        options.allocator = (struct kv_allocator){.resize = meter_resize, .context = &meter};
        const enum kv_err err = kv_connect(&options, &kv);
        EXPECT_TRUE(err == KV_OK || err == KV_ERR_NOMEM);
        EXPECT_TRUE((kv == NULL) == (err == KV_ERR_NOMEM));
        if (kv != NULL) done = use_everything(&fake, kv);
        kv_close(kv);
        EXPECT_EQ(meter.alive, 0);
    }
    EXPECT_TRUE(done);
    EXPECT_TRUE(granted > 10);
    fake_stop(&fake);
}

TEST(kv, a_reply_over_the_limit_fails_and_the_handle_goes_on)
{
    struct fake fake = {0};
    struct kv_options options;
    struct kv_value value;
    struct kv *kv = NULL;
    const uint64_t size = 300000;
    struct buf big = {0};
    buf_text(&big, "*3\r\n$300000\r\n");
    memset(buf_extend(&big, size), 'x', size);
    buf_text(&big, "\r\n:1\r\n:-1\r\n");
    buf_u8(&big, 0);
    fake_start(&fake);
    kv_options_init(&options);
    options.nodes = fake.address;
    options.reply_size_max = 65536;
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    fake_step(&fake, FAKE_REPLY, (const char *)big.data);
    EXPECT_EQ(get(kv, "k", &value), KV_ERR_FAILED);
    fake_step(&fake, FAKE_REPLY, FOUND);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    kv_close(kv);
    options.reply_size_max = 0; /* the default, which is larger */
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    fake_step(&fake, FAKE_REPLY, (const char *)big.data);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_EQ(value.size, size);
    kv_close(kv);
    fake_stop(&fake);
    buf_close(&big);
}

TEST(kv, names_of_errors)
{
    EXPECT_TEXT(kv_err_name(KV_OK), "ok");
    EXPECT_TEXT(kv_err_name(KV_ERR_NOMEM), "no_memory");
    EXPECT_TEXT(kv_err_name((enum kv_err)99), "no_such_error");
    EXPECT_TRUE(kv_version()[0] != 0);
    EXPECT_TRUE(kv_message(NULL)[0] != 0);
    kv_close(NULL);
    kv_scan_close(NULL);
    kv_pipeline_destroy(NULL);
}
