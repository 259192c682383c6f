/* The client library against nodes that do what the test says: the answers of each call; what is refused, failed and
 * unknown is told apart, and what may have happened is never repeated. */
#include "tests/client/kv_tools.h"

/* ---- answers of every call ------------------------------------------------------------------- */

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

/* ---- refused, failed, unknown ---------------------------------------------------------------- */

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
    EXPECT_TRUE(now_ms() - begun >= 250);
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
    EXPECT_TRUE(now_ms() - begun >= 250);
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
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_TEXT(value.data, "v");
    EXPECT_EQ(fake_accepted(&fake), 2);
    /* The beginning of one is as bad: its end would come later. */
    fake_step(&fake, FAKE_REPLY, "+OK\r\n*3\r\n$5\r\nwr");
    fake_step(&fake, FAKE_REPLY, FOUND);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_EQ(get(kv, "k", &value), KV_OK);
    EXPECT_EQ(fake_accepted(&fake), 3);
    kv_close(kv);
    fake_stop(&fake);
}
