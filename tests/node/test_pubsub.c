/* Channels, patterns, messages across nodes, keyspace notifications, with Redis' shapes and words. */
#include "node/pubsub.h"
#include "tests/node/trio.h"

/* What an inline command is answered, flat. */
static const char *ask(struct fixture *fixture, int at, const char *line)
{
    (void)fixture_say_as(fixture, at, line);
    return fixture_got_flat(fixture, at);
}

TEST(pubsub, resp2_shapes_and_words_are_those_of_redis)
{
    struct fixture fixture;
    fixture_open(&fixture);
    EXPECT_TEXT(ask(&fixture, 1, "UNSUBSCRIBE"), "*3 $11 unsubscribe $-1 :0 ");
    EXPECT_TEXT(ask(&fixture, 1, "PUNSUBSCRIBE x"), "*3 $12 punsubscribe $1 x :0 ");
    EXPECT_TEXT(ask(&fixture, 1, "SUBSCRIBE a b a"),
                "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2 *3 $9 subscribe $1 a :2 ");
    EXPECT_TEXT(ask(&fixture, 1, "PSUBSCRIBE ?"), "*3 $10 psubscribe $1 ? :3 ");
    EXPECT_TEXT(ask(&fixture, 1, "SET k v"),
                "-ERR Can't execute 'set': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
                "RESET are allowed in this context ");
    EXPECT_TEXT(ask(&fixture, 1, "PING"), "*2 $4 pong $0  ");
    EXPECT_TEXT(ask(&fixture, 1, "PING x"), "*2 $4 pong $1 x ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBLISH a hello"), ":2 ");
    EXPECT_TEXT(fixture_got_flat(&fixture, 1),
                "*3 $7 message $1 a $5 hello *4 $8 pmessage $1 ? $1 a $5 hello ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBLISH other x"), ":0 ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB NUMSUB a b c"), "*6 $1 a :1 $1 b :1 $1 c :0 ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB NUMPAT"), ":1 ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB CHANNELS b*"), "*1 $1 b ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB SHARDCHANNELS"), "*0 ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB WHAT"),
                "-ERR unknown subcommand 'WHAT'. Try PUBSUB HELP. ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB CHANNELS a b"),
                "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB "
                "HELP. ");
    EXPECT_TEXT(ask(&fixture, 1, "UNSUBSCRIBE"),
                "*3 $11 unsubscribe $1 a :2 *3 $11 unsubscribe $1 b :1 ");
    EXPECT_TEXT(ask(&fixture, 1, "RESET"), "+RESET ");
    EXPECT_TEXT(ask(&fixture, 1, "GET k"), "$-1 ");
    EXPECT_TEXT(ask(&fixture, 0, "PUBSUB NUMPAT"), ":0 ");
    EXPECT_EQ(fixture.core->pubsub.subscription_count, 0);
    fixture_close(&fixture);
}

TEST(pubsub, resp3_connections_go_on_with_other_commands)
{
    struct fixture fixture;
    fixture_open(&fixture);
    (void)ask(&fixture, 1, "HELLO 3");
    EXPECT_TEXT(ask(&fixture, 1, "SUBSCRIBE a"), ">3 $9 subscribe $1 a :1 ");
    EXPECT_TEXT(ask(&fixture, 1, "SET k v"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 1, "PING"), "+PONG ");
    EXPECT_TEXT(ask(&fixture, 1, "PUBLISH a \"\""), ">3 $7 message $1 a $0  :1 ");
    EXPECT_TEXT(ask(&fixture, 1, "MULTI"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 1, "UNSUBSCRIBE a"),
                "-ERR 'unsubscribe' is not allowed inside a transaction ");
    EXPECT_TEXT(ask(&fixture, 1, "DISCARD"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 1, "SUBSCRIBE \"\""), ">3 $9 subscribe $0  :2 ");
    EXPECT_TEXT(ask(&fixture, 1, "UNSUBSCRIBE"),
                ">3 $11 unsubscribe $1 a :1 >3 $11 unsubscribe $0  :0 ");
    EXPECT_TEXT(ask(&fixture, 1, "UNSUBSCRIBE"), ">3 $11 unsubscribe _ :0 ");
    fixture_close(&fixture);
}

TEST(pubsub, what_is_too_much_is_refused)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    buf_printf(&line, "*%u\r\n$9\r\nSUBSCRIBE\r\n", PUBSUB_SESSION_MAX + 2);
    for (uint32_t i = 0; i <= PUBSUB_SESSION_MAX; i++) buf_printf(&line, "$6\r\n%06u\r\n", i);
    (void)fixture_got_flat(&fixture, 1);
    (void)fixture_ask(&fixture, 1, line.data, line.size);
    const char *text = fixture_got_flat(&fixture, 1);
    if (strstr(text, "-TOOBIG a connection has at most 10000 subscriptions ") == NULL) {
        EXPECT_TEXT(text + strlen(text) - 100, "-TOOBIG");
    }
    EXPECT_EQ(fixture.core->pubsub.subscription_count, PUBSUB_SESSION_MAX);
    core_client_closed(fixture.core, fixture.clients[1].session);
    fixture.clients[1].session = NULL;
    EXPECT_EQ(fixture.core->pubsub.subscription_count, 0);
    EXPECT_EQ(fixture.core->pubsub.channel_count, 0);
    line.size = 0;
    buf_printf(&line, "*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$%u\r\n", PUBLISH_SIZE_MAX);
    memset(buf_extend(&line, PUBLISH_SIZE_MAX), 'x', PUBLISH_SIZE_MAX);
    buf_text(&line, "\r\n");
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    EXPECT_TEXT(fixture_got_flat(&fixture, 0),
                "-TOOBIG the name of a channel has at most 4096 bytes, and a "
                "message with it 262144 ");
    buf_close(&line);
    fixture_close(&fixture);
}

TEST(pubsub, who_does_not_read_is_closed_at_the_output_limit)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    fixture.config.output_limit_size = MIB;
    fixture.config.max_value_size = MIB;
    (void)ask(&fixture, 1, "SUBSCRIBE a");
    fixture.clients[1].take_max = 0;
    buf_text(&line, "*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$100000\r\n");
    memset(buf_extend(&line, 100000), 'x', 100000);
    buf_text(&line, "\r\n");
    for (int i = 0; i < 40 && !fixture.clients[1].is_closed; i++) {
        (void)fixture_ask(&fixture, 0, line.data, line.size);
    }
    EXPECT_TRUE(fixture.clients[1].is_closed);
    EXPECT_EQ(fixture.core->pubsub.subscription_count, 0);
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    EXPECT_TEXT(fixture_got_flat(&fixture, 0), ":0 ");
    buf_close(&line);
    fixture_close(&fixture);
}

TEST(pubsub, notifications_tell_what_effects_did)
{
    struct fixture fixture;
    fixture_open(&fixture);
    (void)ask(&fixture, 1, "PSUBSCRIBE __key*");
    (void)ask(&fixture, 0, "SET quiet 1");
    EXPECT_TEXT(fixture_got_flat(&fixture, 1), "");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG SET notify-keyspace-events KEQ"),
                "-ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - "
                "Invalid event class character. Use 'Ag$lshzxeKEtmdn'. ");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG SET nosuch 1"),
                "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch' ");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG SET notify-keyspace-events KEA"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG GET notify-keyspace-events"),
                "*2 $22 notify-keyspace-events $3 AKE ");
    (void)ask(&fixture, 0, "SET k v");
    EXPECT_TEXT(fixture_got_flat(&fixture, 1),
                "*4 $8 pmessage $6 __key* $16 __keyspace@0__:k $3 set "
                "*4 $8 pmessage $6 __key* $18 __keyevent@0__:set $1 k ");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG SET notify-keyspace-events Egxn"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG GET notify-keyspace-events"),
                "*2 $22 notify-keyspace-events $4 gxnE ");
    (void)ask(&fixture, 0, "SET k v\r\nPEXPIRE k 100000\r\nPERSIST k\r\nDEL k\r\nSET l 1 PX 5");
    fixture_run(&fixture, 300);
    EXPECT_TEXT(fixture_got_flat(&fixture, 1),
                "*4 $8 pmessage $6 __key* $21 __keyevent@0__:expire $1 k "
                "*4 $8 pmessage $6 __key* $22 __keyevent@0__:persist $1 k "
                "*4 $8 pmessage $6 __key* $18 __keyevent@0__:del $1 k "
                "*4 $8 pmessage $6 __key* $18 __keyevent@0__:new $1 l "
                "*4 $8 pmessage $6 __key* $22 __keyevent@0__:expired $1 l ");
    EXPECT_TEXT(ask(&fixture, 0, "CONFIG SET notify-keyspace-events \"\""), "+OK ");
    (void)ask(&fixture, 0, "SET k v");
    EXPECT_TEXT(fixture_got_flat(&fixture, 1), "");
    fixture_close(&fixture);
}

TEST(pubsub, messages_reach_clients_of_all_nodes_and_changes_those_of_each)
{
    struct trio trio;
    trio_open(&trio);
    for (int at = 0; at < NODES; at++)
        say(&trio, at, "HELLO 3\r\nSUBSCRIBE news\r\nKV.WATCH KEY k\r\n");
    trio_run(&trio, 200);
    for (int at = 0; at < NODES; at++) (void)heard(&trio, at);
    say(&trio, 2, "PUBLISH news hello\r\n");
    trio_run(&trio, 50);
    EXPECT_TEXT(heard(&trio, 0), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
    EXPECT_TEXT(heard(&trio, 1), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
    EXPECT_TEXT(heard(&trio, 2), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n:1\r\n");
    say(&trio, 1, "SET k v\r\n");
    trio_run(&trio, 200);
    for (int at = 0; at < NODES; at++) {
        const char *text = heard(&trio, at);
        EXPECT_TRUE(strstr(text, "$3\r\nput\r\n$1\r\nk\r\n$1\r\nv\r\n") != NULL);
    }
    /* To a node that cannot be reached a message is lost, and nothing else. */
    trio.members[2].to[0].is_held = true;
    cut_near(&trio, 2, 0);
    say(&trio, 2, "PUBLISH news lost\r\n");
    trio_run(&trio, 50);
    EXPECT_TEXT(heard(&trio, 0), "");
    EXPECT_TRUE(strstr(heard(&trio, 1), "lost") != NULL);
    EXPECT_EQ(trio.members[2].core->pubsub.dropped, 1);
    trio_close(&trio);
}

static enum err receive(struct fixture *fixture, const void *body, uint64_t size)
{
    const struct wire_frame frame = {.type = WIRE_PUBLISH, .body = slice_of(body, size)};
    return pubsub_receive(fixture->core, &frame);
}

TEST(pubsub, malformed_messages_of_nodes_are_refused)
{
    struct fixture fixture;
    uint8_t body[16] = {2, 0, 0, 0, 3, 0, 0, 0, 'c', 'h', 'm', 's', 'g', 0, 0, 0};
    fixture_open(&fixture);
    (void)ask(&fixture, 1, "SUBSCRIBE ch");
    EXPECT_EQ(receive(&fixture, body, 13), OK);
    fixture_run(&fixture, 5);
    EXPECT_TEXT(fixture_got_flat(&fixture, 1), "*3 $7 message $2 ch $3 msg ");
    for (uint64_t size = 0; size < 13; size++)
        EXPECT_EQ(receive(&fixture, body, size), ERR_CORRUPT);
    EXPECT_EQ(receive(&fixture, body, 14), ERR_CORRUPT);
    memset(body, 0xff, 8);
    EXPECT_EQ(receive(&fixture, body, 13), ERR_CORRUPT);
    fixture_close(&fixture);
}

TEST(pubsub, messages_to_many_do_not_make_a_turn_long)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    for (int i = 1; i < 8; i++) (void)ask(&fixture, i, "SUBSCRIBE ch");
    for (uint32_t i = 0; i < 400; i++) {
        buf_text(&line, "*3\r\n$7\r\nPUBLISH\r\n$2\r\nch\r\n$8192\r\n");
        memset(buf_extend(&line, 8192), 'm', 8192);
        buf_text(&line, "\r\n");
    }
    fixture_client(&fixture, 0)->out.size = 0;
    core_client_bytes(fixture.core, fixture_client(&fixture, 0)->session, line.data, line.size);
    fixture_run(&fixture, 1);
    EXPECT_TRUE(fixture.core->pubsub.published > 10);
    EXPECT_TRUE(fixture.core->pubsub.published < 100);
    fixture_run(&fixture, 40); /* Without anything else that happens the rest follows. */
    EXPECT_EQ(fixture.core->pubsub.published, 400);
    EXPECT_EQ(fixture.core->pubsub.delivered, 2800);
    buf_close(&line);
    fixture_close(&fixture);
}

/* One that is slow to compare with "zzz...": each takes some 50 us. */
static void listen_slowly(struct fixture *fixture, int at, uint32_t count)
{
    struct buf line = {0};
    for (uint32_t i = 0; i < count; i++) {
        line.size = 0;
        buf_text(&line, "PSUBSCRIBE *");
        for (uint32_t k = 0; k < 150; k++) buf_text(&line, "[x-z]");
        buf_printf(&line, "%u*\r\n", i);
        core_client_bytes(fixture->core, fixture_client(fixture, at)->session, line.data,
                          line.size);
    }
    buf_close(&line);
    fixture_run(fixture, 20);
}

static void publish_slowly(struct fixture *fixture, int at, const char *text)
{
    struct buf line = {0};
    buf_text(&line, "*3\r\n$7\r\nPUBLISH\r\n$4000\r\n");
    memset(buf_extend(&line, 4000), 'z', 4000);
    buf_printf(&line, "\r\n$%zu\r\n%s\r\n", strlen(text), text);
    core_client_bytes(fixture->core, fixture_client(fixture, at)->session, line.data, line.size);
    buf_close(&line);
}

static uint32_t count_of(const char *text, const char *what)
{
    uint32_t count = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) count++;
    return count;
}

TEST(pubsub, hostile_patterns_do_not_make_a_turn_long)
{
    struct fixture fixture;
    fixture_open(&fixture);
    for (int at = 0; at < 5; at++) (void)ask(&fixture, at, "HELLO 3");
    listen_slowly(&fixture, 1, 400);
    (void)ask(&fixture, 2, "PSUBSCRIBE zz*");
    (void)ask(&fixture, 3, "PSUBSCRIBE zz*");
    for (int at = 0; at < 5; at++) (void)fixture_got_flat(&fixture, at);
    publish_slowly(&fixture, 0, "first");
    publish_slowly(&fixture, 4, "other");
    publish_slowly(&fixture, 0, "second");
    fixture_run(&fixture, 1);
    EXPECT_TEXT(fixture_got_flat(&fixture, 0),
                ""); /* It waits for the number of those who got it. */
    EXPECT_TEXT(fixture_got_flat(&fixture, 2), "");
    uint32_t turns = 1;
    for (; fixture.core->pubsub.queue_size > 0 && turns < 1000; turns++) {
        fixture_put(&fixture, 5, "PING\r\n");
        fixture_run(&fixture, 1);
        EXPECT_TEXT(fixture_got_flat(&fixture, 5), "+PONG ");
        const int at = turns == 1 ? 3
                                  : 6; /* Nothing more for the one, nothing yet for the other. */
        const char *line = at == 3 ? "PUNSUBSCRIBE\r\n" : "PSUBSCRIBE z*\r\n";
        if (turns > 2) continue;
        fixture_put(&fixture, at, line);
    }
    EXPECT_TRUE(turns > 10);
    fixture_run(&fixture, 5);
    EXPECT_TEXT(fixture_got_flat(&fixture, 0),
                ":1 :2 "); /* The second one was published behind that. */
    EXPECT_TEXT(fixture_got_flat(&fixture, 4), ":1 ");
    const char *text = fixture_got_flat(&fixture, 2);
    const char *first = strstr(text, "$5 first ");
    const char *other = strstr(text, "$5 other ");
    const char *second = strstr(text, "$6 second ");
    EXPECT_TRUE(first != NULL && other > first && second > other);
    EXPECT_EQ(count_of(fixture_got_flat(&fixture, 3), "pmessage"), 0);
    text = fixture_got_flat(&fixture, 6);
    EXPECT_EQ(count_of(text, "pmessage"), 1);
    EXPECT_EQ(count_of(text, "$6 second "), 1);
    EXPECT_EQ(fixture.core->pubsub.delivered, 4);
    publish_slowly(&fixture, 0, "third");
    fixture_run(&fixture, 100);
    EXPECT_EQ(count_of(fixture_got_flat(&fixture, 6), "$5 third "), 1);
    fixture_close(&fixture);
}

/* Who goes away, with the pattern that is just told or is next, or having published, is passed over. */
TEST(pubsub, clients_that_go_while_a_message_is_told_are_passed_over)
{
    struct fixture fixture;
    fixture_open(&fixture);
    for (uint32_t round = 0; round < 40; round++) {
        listen_slowly(&fixture, 1, 30);
        listen_slowly(&fixture, 2, 60);
        (void)ask(&fixture, 3, "PSUBSCRIBE z*");
        publish_slowly(&fixture, 0, "text");
        publish_slowly(&fixture, 4, "more");
        fixture_run(&fixture, 1 + round % 5);
        for (int i = 0; i < 4; i++) {
            const int at = (int)(round + (uint32_t)i * 3) % 4;
            if (round % 4 == 3 && at == 3) continue;
            core_client_closed(fixture.core, fixture.clients[at].session);
            fixture.clients[at].session = NULL;
            if (i % 2 == 1) fixture_run(&fixture, 1);
        }
        fixture_run(&fixture, 100);
        EXPECT_EQ(fixture.core->pubsub.queue_size, 0);
        EXPECT_EQ(count_of(fixture_got_flat(&fixture, 4), ":"), 1);
        if (fixture.clients[3].session != NULL) {
            EXPECT_EQ(count_of(fixture_got_flat(&fixture, 3), "pmessage"), 2);
            core_client_closed(fixture.core, fixture.clients[3].session);
            fixture.clients[3].session = NULL;
        }
        EXPECT_EQ(fixture.core->pubsub.subscription_count, 0);
    }
    publish_slowly(&fixture, 0, "nobody");
    listen_slowly(&fixture, 1, 400);
    publish_slowly(&fixture, 0, "waits when the node ends");
    fixture_run(&fixture, 1);
    EXPECT_TRUE(fixture.core->pubsub.queue_size > 0);
    fixture_close(&fixture);
}

/* What other nodes publish counts as well, and what would not fit into the queue is dropped and counted. */
TEST(pubsub, messages_of_other_nodes_do_not_make_a_turn_long)
{
    struct fixture fixture;
    struct buf body = {0};
    fixture_open(&fixture);
    for (int at = 1; at < 8; at++) (void)ask(&fixture, at, "SUBSCRIBE ch");
    const struct pubsub *pubsub = &fixture.core->pubsub;
    buf_u32(&body, 2);
    buf_u32(&body, 60000);
    buf_text(&body, "ch");
    memset(buf_extend(&body, 60000), 'x', 60000);
    for (uint32_t i = 0; i < 100; i++) EXPECT_EQ(receive(&fixture, body.data, body.size), OK);
    EXPECT_TRUE(pubsub->delivered > 0);
    EXPECT_TRUE(pubsub->delivered < 100); /* of 700 */
    EXPECT_TRUE(pubsub->dropped > 0);
    EXPECT_EQ(pubsub->taken + pubsub->dropped, 100);
    EXPECT_TRUE(pubsub->queue_size < PUBLISH_QUEUE_SIZE + 100000);
    uint64_t before = pubsub->delivered;
    for (uint32_t i = 0; i < 50 && pubsub->queue_size > 0; i++) {
        fixture_run(&fixture, 1);
        EXPECT_TRUE(pubsub->delivered - before < 150);
        before = pubsub->delivered;
    }
    EXPECT_EQ(pubsub->delivered, 7 * pubsub->taken);
    buf_close(&body);
    fixture_close(&fixture);
}

TEST(pubsub, notifications_do_not_make_a_turn_long)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    (void)ask(&fixture, 0, "CONFIG SET notify-keyspace-events KEAn");
    listen_slowly(&fixture, 1, 100);
    (void)ask(&fixture, 2, "PSUBSCRIBE __keyevent@0__:*");
    (void)fixture_got_flat(&fixture, 2);
    for (uint32_t i = 0; i < 20; i++) {
        buf_text(&line, "*3\r\n$3\r\nSET\r\n$4000\r\n");
        memset(buf_extend(&line, 4000), 'z', 4000);
        line.data[line.size - 1] = (uint8_t)('a' + i);
        buf_text(&line, "\r\n$1\r\nv\r\n");
    }
    core_client_bytes(fixture.core, fixture_client(&fixture, 0)->session, line.data, line.size);
    uint32_t turns = 0;
    uint64_t before = 0;
    for (; turns < 1000 && fixture.core->pubsub.delivered < 40; turns++) {
        fixture_run(&fixture, 1);
        EXPECT_TRUE(fixture.core->pubsub.delivered - before < 10);
        before = fixture.core->pubsub.delivered;
    }
    EXPECT_EQ(fixture.core->pubsub.delivered, 40); /* "set" and "new" of each key, in order. */
    const char *text = fixture_got_flat(&fixture, 2);
    for (uint32_t i = 0; i < 20; i++) {
        const char end[] = {'z', (char)('a' + i), ' ', 0};
        for (uint32_t k = 0; k < 2; k++) {
            text = text != NULL ? strstr(text + 1, end) : NULL;
        }
    }
    EXPECT_TRUE(text != NULL);
    EXPECT_EQ(fixture.core->pubsub.missed, 0);
    buf_close(&line);
    fixture_close(&fixture);
}

TEST(pubsub, what_a_transaction_publishes_goes_out_once_it_is_committed)
{
    struct fixture fixture;
    fixture_open(&fixture);
    (void)ask(&fixture, 1, "PSUBSCRIBE c*");
    (void)ask(&fixture, 2, "SUBSCRIBE ch");
    for (int at = 1; at < 3; at++) (void)fixture_got_flat(&fixture, at);
    EXPECT_TEXT(ask(&fixture, 0, "MULTI\r\nPUBLISH ch 1\r\nSET k v\r\nPUBLISH cx 2\r\nEXEC"),
                "+OK +QUEUED +QUEUED +QUEUED *3 :2 +OK :1 ");
    EXPECT_TEXT(fixture_got_flat(&fixture, 1),
                "*4 $8 pmessage $2 c* $2 ch $1 1 *4 $8 pmessage $2 c* $2 cx $1 2 ");
    EXPECT_TEXT(fixture_got_flat(&fixture, 2), "*3 $7 message $2 ch $1 1 ");
    /* One that only publishes or reads, several one behind the other, and in silence. */
    EXPECT_TEXT(ask(&fixture, 0,
                    "MULTI\r\nPUBLISH ch 3\r\nEXEC\r\nMULTI\r\nGET k\r\nPUBLISH ch 4\r\n"
                    "EXEC\r\nPUBLISH ch 5\r\nGET k"),
                "+OK +QUEUED *1 :2 +OK +QUEUED +QUEUED *2 $1 v :2 :2 $1 v ");
    EXPECT_TEXT(fixture_got_flat(&fixture, 2), "*3 $7 message $2 ch $1 3 *3 $7 message $2 ch $1 4 "
                                               "*3 $7 message $2 ch $1 5 ");
    EXPECT_TEXT(ask(&fixture, 0,
                    "CLIENT REPLY OFF\r\nMULTI\r\nSET k w\r\nPUBLISH ch 6\r\nEXEC\r\n"
                    "CLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nPUBLISH ch 7\r\nPING"),
                "+OK +PONG ");
    EXPECT_TEXT(fixture_got_flat(&fixture, 2),
                "*3 $7 message $2 ch $1 6 *3 $7 message $2 ch $1 7 ");
    /* Those of which nothing happens. */
    EXPECT_TEXT(ask(&fixture, 0, "WATCH k"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 3, "SET k changed"), "+OK ");
    EXPECT_TEXT(ask(&fixture, 0, "MULTI\r\nPUBLISH ch no\r\nEXEC"), "+OK +QUEUED *-1 ");
    (void)ask(&fixture, 0, "HELLO 3");
    EXPECT_TEXT(ask(&fixture, 0, "WATCH k\r\nSET k mine\r\nMULTI\r\nPUBLISH ch no\r\nEXEC"),
                "+OK +OK +OK +QUEUED _ ");
    EXPECT_TEXT(ask(&fixture, 0, "MULTI\r\nPUBLISH ch no\r\nDISCARD"), "+OK +QUEUED +OK ");
    EXPECT_TEXT(ask(&fixture, 0, "MULTI\r\nPUBLISH ch no\r\nSET\r\nEXEC"),
                "+OK +QUEUED -ERR wrong number of arguments for 'set' command "
                "-EXECABORT Transaction discarded because of previous errors. ");
    EXPECT_TEXT(fixture_got_flat(&fixture, 2), "");
    EXPECT_TEXT(ask(&fixture, 0, "KV.TXN THEN 1 3 PUBLISH ch no"),
                "-ERR 'publish' is not allowed inside a transaction ");
    EXPECT_TEXT(ask(&fixture, 0, "MULTI\r\nPUBLISH ch\r\nEXEC"),
                "+OK -ERR wrong number of arguments for 'publish' command "
                "-EXECABORT Transaction discarded because of previous errors. ");
    EXPECT_EQ(fixture.core->pubsub.published, 7);
    EXPECT_EQ(fixture.core->txn_size, 0);
    fixture_close(&fixture);
}

TEST(pubsub, transactions_that_publish_much_do_so_in_slices)
{
    struct fixture fixture;
    struct buf line = {0};
    fixture_open(&fixture);
    for (int at = 1; at < 8; at++) (void)ask(&fixture, at, "SUBSCRIBE ch");
    buf_text(&line, "MULTI\r\n");
    for (uint32_t i = 0; i < 200; i++) {
        buf_text(&line, "*3\r\n$7\r\nPUBLISH\r\n$2\r\nch\r\n$60000\r\n");
        memset(buf_extend(&line, 60000), 'x', 60000);
        buf_text(&line, "\r\n");
    }
    buf_text(&line, "EXEC\r\nGET k\r\n");
    core_client_bytes(fixture.core, fixture_client(&fixture, 0)->session, line.data, line.size);
    const struct pubsub *pubsub = &fixture.core->pubsub;
    uint64_t before = 0;
    uint32_t turns = 0;
    for (; turns < 1000 && pubsub->delivered < 1400; turns++) {
        fixture_run(&fixture, 1);
        EXPECT_TRUE(pubsub->delivered - before < 150);
        EXPECT_TRUE(pubsub->queue_size < PUBLISH_QUEUE_SIZE + 100000);
        before = pubsub->delivered;
    }
    fixture_run(&fixture, 5);
    EXPECT_EQ(pubsub->delivered, 1400);
    const char *text = fixture_got_flat(&fixture, 0);
    EXPECT_EQ(count_of(text, "+QUEUED "), 200);
    EXPECT_EQ(count_of(text, ":7 "), 200);
    EXPECT_TEXT(text + strlen(text) - 4, "$-1 ");
    buf_close(&line);
    fixture_close(&fixture);
}

/* Before the entry is committed nobody hears of it, and never when the leader is lost before. */
TEST(pubsub, what_a_transaction_publishes_waits_for_a_majority)
{
    for (int at = 0; at < 2; at++) {
        struct trio trio;
        trio_open(&trio);
        struct member *member = &trio.members[at];
        say(&trio, at, "HELLO 3\r\nSUBSCRIBE ch\r\nSET k v\r\n");
        trio_run(&trio, 200);
        (void)heard(&trio, at);
        say(&trio, at, "MULTI\r\nSET k w\r\nPUBLISH ch yes\r\nEXEC\r\n");
        trio_run(&trio, 200);
        const char *text = heard(&trio, at);
        const char *reply = strstr(text, "*2\r\n+OK\r\n:1\r\n");
        EXPECT_TRUE(reply != NULL && strstr(reply, ">3\r\n$7\r\nmessage\r\n") != NULL);
        for (int i = 0; i < NODES; i++) trio.members[i].is_frozen = at == 0 ? i != 0 : i == 0;
        say(&trio, at, "MULTI\r\nSET k x\r\nPUBLISH ch no\r\nEXEC\r\n");
        trio_run(&trio, 100);
        EXPECT_TEXT(heard(&trio, at), "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        trio_run(&trio, 12000);
        EXPECT_TRUE(strncmp(heard(&trio, at), "-UNCERTAIN ", 11) == 0);
        EXPECT_EQ(member->core->pubsub.published, 1);
        for (int i = 0; i < NODES; i++) trio.members[i].is_frozen = false;
        trio_run(&trio, 3000);
        EXPECT_EQ(member->core->pubsub.published, 1);
        say(&trio, at, "MULTI\r\nSET k y\r\nPUBLISH ch again\r\nEXEC\r\n");
        trio_run(&trio, 1000);
        EXPECT_TRUE(strstr(heard(&trio, at), "again") != NULL);
        trio_close(&trio);
    }
}
