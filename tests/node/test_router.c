/* Tests of commands on their way to the leader and of what happens when the way breaks. */
#include "node/router.h"
#include "tests/node/trio.h"

TEST(router, commands_travel_to_the_leader)
{
    struct trio trio;
    trio_open(&trio);
    EXPECT_TEXT(trio_ask(&trio, 1, "SET k v\r\nGET k\r\nINCR n\r\n", 50),
                "+OK\r\n$1\r\nv\r\n:1\r\n");
    trio_close(&trio);
}

static char said[4096];

static void note(void *context, int level, const char *line)
{
    const struct member *member = context;
    const size_t size = strlen(said);
    (void)level;
    (void)snprintf(said + size, sizeof said - size, "%s: %s\n", member->config.name, line);
}

/* Whoever reads the logs after a fault has to see who led, and since when. */
TEST(router, every_log_tells_who_leads)
{
    struct trio trio;
    trio_open(&trio);
    said[0] = 0;
    for (int at = 0; at < NODES; at++) trio.members[at].net.log = note;
    say(&trio, 0, "KV.TRANSFER b\r\n");
    for (int i = 0; i < 100 && !shard_ready(&trio.members[1].core->shard); i++) trio_run(&trio, 50);
    trio_run(&trio, 500);
    EXPECT_TRUE(strstr(said, "a: no longer leading (term ") != NULL);
    EXPECT_TRUE(strstr(said, "a: b leads (term ") != NULL);
    EXPECT_TRUE(strstr(said, "b: this node leads (term ") != NULL);
    EXPECT_TRUE(strstr(said, "c: b leads (term ") != NULL);
    const size_t size = strlen(said);
    say(&trio, 1, "SET k v\r\n");
    trio_run(&trio, 2000);
    EXPECT_EQ(strlen(said), size); /* Once, not every turn. */
    trio_close(&trio);
}

TEST(router, nothing_is_asked_while_the_answer_has_no_way_back)
{
    struct trio trio;
    trio_open(&trio);
    trio.members[0].to[1].is_held = true;
    cut_near(&trio, 0, 1);
    cut_far(&trio, 0, 1);
    EXPECT_TEXT(trio_ask(&trio, 1, "INCR n\r\n", 150), "");
    trio.members[0].to[1].is_held = false;
    trio_run(&trio, 300);
    EXPECT_TEXT(heard(&trio, 1), ":1\r\n");
    trio_close(&trio);
}

TEST(router, an_answer_lost_in_a_half_dead_connection_is_noticed)
{
    struct trio trio;
    trio_open(&trio);
    say(&trio, 1, "INCR n\r\nGET n\r\n");
    trio_lose_answers(&trio, 2);
    const char *text = heard(&trio, 1);
    EXPECT_TRUE(strncmp(text, "-UNCERTAIN ", 11) == 0);
    EXPECT_TRUE(strstr(text, "\r\n$1\r\n1\r\n") != NULL);
    EXPECT_EQ(trio.members[1].core->link_count, 2);
    EXPECT_TRUE(trio.members[0].core->proxy_count <= 1);
    trio_close(&trio);
}

TEST(router, a_leader_that_does_not_hear_us_is_dialled_again)
{
    struct trio trio;
    trio_open(&trio);
    trio.members[1].to[0].is_swallowed = true;
    EXPECT_TEXT(trio_ask(&trio, 1, "GET k\r\nINCR n\r\n", 4000), "");
    trio_run(&trio, 1500);
    EXPECT_EQ(trio.closes, 1);
    const char *text = heard(&trio, 1);
    EXPECT_TRUE(strncmp(text, "-TRYAGAIN ", 10) == 0);
    EXPECT_TRUE(strstr(text, "-UNCERTAIN ") != NULL);
    EXPECT_TEXT(trio_ask(&trio, 1, "INCR n\r\n", 100), ":1\r\n");
    trio_close(&trio);
}

TEST(router, what_waits_for_a_leader_does_not_overtake_what_was_sent)
{
    struct trio trio;
    trio_open(&trio);
    EXPECT_TEXT(trio_ask(&trio, 1, "SET k v\r\n", 50), "+OK\r\n");
    say(&trio, 1, "GET k\r\n");
    trio.now_ms++;
    core_turn(trio.members[1].core, trio.now_ms, 1700000000000 + trio.now_ms);
    struct session *session = trio.members[1].client.session;
    EXPECT_EQ(session->forward_count, 1);
    trio.members[0].is_frozen = true;
    trio.members[2].is_frozen = true;
    for (int i = 0; i < 3000 && core_leader_id(trio.members[1].core) != 0; i++) trio_run(&trio, 1);
    say(&trio, 1, "SET k w\r\n");
    for (int i = 0; i < 6000; i++) {
        trio_run(&trio, 1);
        if (trio.members[1].client.out.size > 0) break;
    }
    EXPECT_EQ(session->forward_count, 0);
    trio_run(&trio, 4000);
    const char *text = heard(&trio, 1);
    EXPECT_TRUE(strncmp(text, "-CLUSTERDOWN ", 13) == 0);
    EXPECT_TRUE(strstr(text + 1, "-CLUSTERDOWN ") != NULL);
    trio_close(&trio);
}

TEST(router, a_dropped_argument_stays_one_when_leadership_comes_home)
{
    struct trio trio;
    struct buf big = {0};
    trio_open(&trio);
    trio.members[1].config.park_ms = 30000;
    (void)trio_ask(&trio, 1, "SET k v\r\n", 50);
    say(&trio, 1, "GET k\r\n");
    trio.now_ms++;
    core_turn(trio.members[1].core, trio.now_ms, 1700000000000 + trio.now_ms);
    trio_stop_first(&trio);
    /* Half of an argument that nobody keeps; the other half looks like a command. */
    say(&trio, 1, "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$400000\r\n");
    memset(buf_extend(&big, 200000), 'x', 200000);
    say_bytes(&trio, 1, big.data, big.size);
    EXPECT_TRUE(trio_second_leads(&trio));
    trio_run(&trio, 200);
    big.size = 0;
    while (big.size < 200000) buf_text(&big, "\r\nSET k injected\r\n");
    big.size = 200000;
    buf_text(&big, "\r\nGET k\r\n");
    say_bytes(&trio, 1, big.data, big.size);
    trio_run(&trio, 300);
    const char *text = heard(&trio, 1);
    EXPECT_TRUE(strncmp(text, "$1\r\nv\r\n-TOOBIG ", 15) == 0);
    EXPECT_TRUE(strstr(text, "\r\n$1\r\nv\r\n") != NULL);
    EXPECT_TRUE(strstr(text, "injected") == NULL);
    buf_close(&big);
    trio_close(&trio);
}

TEST(router, a_new_process_does_not_get_the_answers_of_the_one_before)
{
    struct trio trio;
    struct buf body = {0};
    trio_open(&trio);
    struct core *leader = trio.members[0].core;
    struct core *origin = trio.members[1].core;
    struct peer *peer = peers_find(&leader->peers, origin->identity.node_id);
    buf_u64(&body, 1); /* session */
    buf_u32(&body, 1); /* epoch */
    buf_u64(&body, 0); /* number */
    buf_u32(&body, 1); /* count */
    buf_u8(&body, 2);  /* protocol */
    buf_text(&body, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n");
    for (int round = 0; round < 2; round++) {
        const struct wire_frame frame = {.type = WIRE_FORWARD,
                                         .from = origin->identity.node_id,
                                         .incarnation = peer->identity.incarnation - 1 +
                                                        (uint64_t)round,
                                         .body = buf_slice(&body)};
        EXPECT_EQ(router_receive(leader, &frame), OK);
        core_turn(leader, trio.now_ms, 1700000000000 + trio.now_ms);
        const struct session *proxy = LIST_ITEM(leader->proxies.next, struct session, all);
        for (int i = 0; i < 200 && proxy->answered == 0; i++) trio_run(&trio, 1);
        EXPECT_EQ(proxy->answered, 1);
        EXPECT_EQ(trio.members[0].replies, round);
    }
    buf_close(&body);
    trio_close(&trio);
}

TEST(router, members_get_in_however_many_strangers_knock)
{
    struct trio trio;
    trio_open(&trio);
    static struct far_end strangers[100];
    for (int i = 0; i < 100; i++) {
        strangers[i].link = core_link_open(trio.members[0].core, &strangers[i]);
        EXPECT_TRUE(strangers[i].link != NULL);
    }
    EXPECT_TRUE(trio.members[0].core->link_count <= 60);
    EXPECT_TRUE(core_has_link(trio.members[0].core, trio.members[1].core->identity.node_id));
    cut_near(&trio, 1, 0);
    cut_far(&trio, 1, 0);
    EXPECT_TEXT(trio_ask(&trio, 1, "INCR n\r\n", 200), ":1\r\n");
    trio_close(&trio);
}

TEST(router, who_asks_for_a_transfer_is_not_told_that_it_failed_because_it_happened)
{
    for (int asked = 0; asked < 2; asked++) {
        struct trio trio;
        trio_open(&trio);
        trio.members[2].is_frozen = true; /* The only one who could still confirm the old leader. */
        EXPECT_TEXT(trio_ask(&trio, asked, "KV.TRANSFER b\r\n", 500), "+OK\r\n");
        EXPECT_TRUE(shard_ready(&trio.members[1].core->shard));
        trio_close(&trio);
    }
}

TEST(router, many_modest_clients_of_one_follower_do_not_overfill_the_connection)
{
    struct trio trio;
    struct buf big = {0};
    static struct fixture_client clients[150];
    trio_open(&trio);
    buf_text(&big, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000\r\n");
    memset(buf_extend(&big, 60000), 'x', 60000);
    buf_text(&big, "\r\n");
    say_bytes(&trio, 1, big.data, big.size);
    trio_run(&trio, 50);
    EXPECT_TEXT(heard(&trio, 1), "+OK\r\n");
    big.size = 0;
    for (int i = 0; i < 20; i++) buf_text(&big, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    for (int i = 0; i < 150; i++) {
        clients[i] = (struct fixture_client){.take_max = UINT64_MAX};
        clients[i].session = core_client_open(trio.members[1].core, &clients[i], CORE_FACE_CLIENT,
                                              "127.0.0.1:2");
        core_client_bytes(trio.members[1].core, clients[i].session, big.data, big.size);
    }
    trio.members[0].to[1].rate = 64 * KIB; /* Slower than the leader makes answers. */
    uint64_t most = 0;
    trio.members[0].to[1].rate = MIB; /* Less than the leader answers in a turn. */
    for (int i = 0; i < 3000; i++) {
        trio_run(&trio, 1);
        struct core *leader = trio.members[0].core;
        uint64_t held = peer_queued(
            peers_find(&leader->peers, trio.members[1].core->identity.node_id));
        for (const struct list *at = leader->proxies.next; at != &leader->proxies; at = at->next) {
            const struct session *proxy = LIST_ITEM(at, const struct session, all);
            held += session_end(proxy) - proxy->sent;
        }
        if (held > most) most = held;
        if (clients[149].out.size == 20 * 60010) break;
    }
    trio_run(&trio, 200);
    EXPECT_TRUE(most > CORE_FORWARD_SHARE_SIZE / 2);
    EXPECT_TRUE(most < CORE_FORWARD_SHARE_SIZE + 2 * MIB);
    EXPECT_EQ(trio.closes, 0);
    for (int i = 0; i < 150; i++) {
        EXPECT_EQ(clients[i].out.size, 20 * 60010);
        buf_close(&clients[i].out);
    }
    buf_close(&big);
    trio_close(&trio);
}

/* Those that the sweeper has not come to are gone by what the log says of the time. */
TEST(router, what_has_expired_for_the_leader_is_gone_for_who_asks_another_node)
{
    struct trio trio;
    trio_open(&trio);
    for (char key = 'a'; key <= 'f'; key++) {
        char line[32];
        (void)snprintf(line, sizeof line, "SET %c 1 PX 500\r\n", key);
        say(&trio, 0, line);
    }
    EXPECT_TRUE(strncmp(trio_ask(&trio, 1, "KV.GET f\r\n", 100), "*3\r\n$1\r\n1\r\n:", 12) == 0);
    trio.members[0].core->shard.sweep_ms = UINT64_MAX;
    trio_run(&trio, 600);
    EXPECT_TEXT(trio_ask(&trio, 1, "KV.GET f\r\nKV.GET e\r\n", 400), "*-1\r\n*-1\r\n");
    EXPECT_TRUE(keydir_count(store_keys(core_store(trio.members[1].core))) > 0);
    trio_close(&trio);
}

/* ---- big requests and replies --------------------------------------------------------------------------- */

#define BIG_SIZE (2u * MIB)
#define SLOW_RATE (10u * KIB) /* a big one takes 200 ms */

static void open_slow(struct trio *trio)
{
    trio_open(trio);
    for (int from = 0; from < NODES; from++) {
        trio->members[from].config.max_value_size = 4 * MIB;
        trio->members[from].config.compress_above_size = 0;
        for (int to = 0; to < NODES; to++) trio->members[from].to[to].rate = SLOW_RATE;
    }
    say(trio, 1, "SET small s\r\n");
    trio_run(trio, 100);
    EXPECT_TEXT(heard(trio, 1), "+OK\r\n");
}

static void say_big(struct trio *trio, int at)
{
    struct buf command = {0};
    buf_printf(&command, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%u\r\n", BIG_SIZE);
    uint8_t *value = buf_extend(&command, BIG_SIZE);
    for (uint32_t i = 0; i < BIG_SIZE; i++) value[i] = (uint8_t)(i % 251);
    buf_text(&command, "\r\n");
    say_bytes(trio, at, command.data, command.size);
    buf_close(&command);
}

static bool is_big_value(const struct buf *out)
{
    const uint64_t head = strlen("$2097152\r\n");
    if (out->size != head + BIG_SIZE + 2) return false;
    for (uint32_t i = 0; i < BIG_SIZE; i++) {
        if (out->data[head + i] != (uint8_t)(i % 251)) return false;
    }
    return true;
}

/* Another client of node 1 asks for a small value until the first one was answered; the longest it waited. */
static uint64_t small_reads(struct trio *trio, uint64_t until)
{
    struct member *member = &trio->members[1];
    struct fixture_client other = {.take_max = UINT64_MAX};
    uint64_t slowest = 0;
    other.session = core_client_open(member->core, &other, CORE_FACE_CLIENT, "127.0.0.1:3");
    const uint64_t end = trio->now_ms + 5000;
    while (member->client.out.size < until && trio->now_ms < end) {
        const uint64_t begin = trio->now_ms;
        other.out.size = 0;
        core_client_bytes(member->core, other.session, (const uint8_t *)"GET small\r\n", 11);
        while (other.out.size == 0 && trio->now_ms < end) trio_run(trio, 1);
        if (trio->now_ms - begin > slowest) slowest = trio->now_ms - begin;
    }
    core_client_closed(member->core, other.session);
    buf_close(&other.out);
    return slowest;
}

TEST(router, small_commands_of_others_pass_big_requests_and_replies)
{
    struct trio trio;
    open_slow(&trio);
    struct buf *out = &trio.members[1].client.out;
    const uint64_t begin = trio.now_ms;
    say_big(&trio, 1);
    EXPECT_LT(small_reads(&trio, 5), 100);
    EXPECT_LT(2 * BIG_SIZE / SLOW_RATE,
              trio.now_ms - begin); /* To the leader, and to a majority. */
    EXPECT_TEXT(heard(&trio, 1), "+OK\r\n");
    say(&trio, 1, "GET big\r\n");
    EXPECT_LT(small_reads(&trio, BIG_SIZE), 100);
    EXPECT_TRUE(is_big_value(out));
    trio_run(&trio, 60);
    EXPECT_EQ(trio.members[0].core->proxy_count, 1);
    EXPECT_EQ(trio.closes, 0);
    trio_close(&trio);
}

TEST(router, a_connection_keeps_its_order_around_a_big_command)
{
    struct trio trio;
    open_slow(&trio);
    say(&trio, 1, "INCR n\r\n");
    say_big(&trio, 1);
    say(&trio, 1, "INCR n\r\nSTRLEN big\r\nGET big\r\nINCR n\r\n");
    trio_run(&trio, 3000);
    struct buf *out = &trio.members[1].client.out;
    static const char head[] = ":1\r\n+OK\r\n:2\r\n:2097152\r\n";
    EXPECT_EQ(out->size, sizeof head - 1 + 10 + BIG_SIZE + 2 + 4);
    EXPECT_TRUE(memcmp(out->data, head, sizeof head - 1) == 0);
    EXPECT_TRUE(memcmp(out->data + out->size - 4, ":3\r\n", 4) == 0);
    trio_close(&trio);
}

TEST(router, who_goes_away_takes_its_big_request_and_its_big_reply_along)
{
    for (int is_reply = 0; is_reply < 2; is_reply++) {
        struct trio trio;
        open_slow(&trio);
        struct member *leader = &trio.members[0];
        struct member *origin = &trio.members[1];
        say_big(&trio, is_reply ? 0 : 1);
        trio_run(&trio, is_reply ? 1000 : 60);
        if (is_reply) say(&trio, 1, "GET big\r\n");
        if (is_reply) trio_run(&trio, 60);
        struct peer *peer = is_reply
                                ? peers_find(&leader->core->peers, origin->core->identity.node_id)
                                : peers_find(&origin->core->peers, leader->core->identity.node_id);
        const uint8_t type = is_reply ? WIRE_FORWARD_REPLY : WIRE_FORWARD;
        EXPECT_TRUE(fragment_lane_busy(peer_lane(peer, type)));
        core_client_closed(origin->core, origin->client.session);
        origin->client.session = NULL;
        trio_run(&trio, 60);
        EXPECT_FALSE(fragment_lane_busy(peer_lane(peer, type)));
        EXPECT_EQ(leader->core->proxy_count, 0);
        EXPECT_TEXT(trio_ask(&trio, 1, "GET small\r\n", 100), "$1\r\ns\r\n");
        EXPECT_EQ(trio.closes, 0);
        trio_close(&trio);
    }
}

/* What did not reach the old leader as a whole was certainly not carried out, so it is carried out now. */
TEST(router, a_big_request_that_was_leaving_for_a_leader_that_fell_is_carried_out_once)
{
    struct trio trio;
    open_slow(&trio);
    trio.members[1].config.park_ms = 30000;
    say_big(&trio, 1);
    trio_run(&trio, 60);
    trio.members[0].is_frozen = true;
    trio.members[1].to[0].rate = 1; /* Its socket buffer is full. */
    EXPECT_TRUE(trio_second_leads(&trio));
    trio_run(&trio, 3000);
    EXPECT_TEXT(heard(&trio, 1), "+OK\r\n");
    say(&trio, 1, "GET big\r\n");
    trio_run(&trio, 300);
    EXPECT_TRUE(is_big_value(&trio.members[1].client.out));
    trio_close(&trio);
}

TEST(router, an_answer_to_what_was_not_asked_yet_closes_the_link)
{
    struct trio trio;
    struct buf body = {0};
    open_slow(&trio);
    say_big(&trio, 1);
    trio_run(&trio, 60);
    struct core *origin = trio.members[1].core;
    const struct session *session = trio.members[1].client.session;
    EXPECT_EQ(session->forward_count, 1);
    for (uint8_t status = 0; status < 2; status++) {
        body.size = 0;
        buf_u64(&body, session->id);
        buf_u32(&body, session->forward_epoch);
        buf_u64(&body, session->forward_answered);
        buf_u32(&body, 1);
        buf_u8(&body, status);
        buf_sized(&body, slice_text("+OK\r\n"));
        const struct wire_frame frame = {
            .type = WIRE_FORWARD_REPLY, .from = session->forward_node, .body = buf_slice(&body)};
        EXPECT_EQ(router_receive(origin, &frame), ERR_CORRUPT);
    }
    trio_run(&trio, 2000);
    EXPECT_TEXT(heard(&trio, 1), "+OK\r\n");
    buf_close(&body);
    trio_close(&trio);
}

/* CLIENT REPLY concerns what the client is told, on whichever node its commands are carried out. */
TEST(router, what_a_client_does_not_want_to_hear_is_carried_out_in_silence)
{
    static const struct {
        const char *said, *heard;
    } cases[] = {
        {"SET n 0\r\nCLIENT REPLY SKIP\r\nINCR n\r\nGET n\r\n", "+OK\r\n$1\r\n1\r\n"},
        {"CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nINCR n\r\nGET n\r\n", "$1\r\n2\r\n"},
        {"CLIENT REPLY SKIP\r\nINCR n\r\nCLIENT REPLY SKIP\r\nINCR n\r\nPING\r\nGET n\r\n",
         "+PONG\r\n$1\r\n4\r\n"},
        {"CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nGET n\r\n", "+OK\r\n$1\r\n4\r\n"},
        {"CLIENT REPLY SKIP\r\nCLIENT REPLY OFF\r\nINCR n\r\nNOSUCH\r\nGET\r\nGET n\r\nCLIENT "
         "REPLY SKIP\r\nINCR n\r\nPING\r\nCLIENT REPLY ON\r\nGET n\r\n",
         "+OK\r\n$1\r\n6\r\n"},
        {"CLIENT REPLY OFF\r\nMULTI\r\nINCR n\r\nEXEC\r\nWATCH n\r\nMULTI\r\nINCR n\r\nEXEC\r\n"
         "CLIENT REPLY ON\r\nGET n\r\n",
         "+OK\r\n$1\r\n8\r\n"},
        {"MULTI\r\nINCR n\r\nCLIENT REPLY SKIP\r\nEXEC\r\nGET n\r\n",
         "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:9\r\n-ERR a transaction answers each of its "
         "commands: "
         "do this outside\r\n$1\r\n9\r\n"},
        {"CLIENT REPLY SKIP\r\nKV.RANGE a z\r\nGET n\r\n", "$1\r\n9\r\n"},
        {"CLIENT REPLY OFF\r\nSUBSCRIBE x\r\nUNSUBSCRIBE x\r\nCLIENT REPLY ON\r\n",
         "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nx\r\n:0\r\n"
         "+OK\r\n"},
    };
    struct trio trio;
    trio_open(&trio);
    for (int at = 0; at < 2; at++) {
        for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            say(&trio, at, cases[i].said);
            trio_run(&trio, 400);
            EXPECT_TEXT(heard(&trio, at), cases[i].heard);
        }
    }
    trio_close(&trio);
}

/* Also when they come from this node and not from the leader. */
TEST(router, errors_of_commands_that_are_not_to_be_answered_are_not_told)
{
    struct trio trio;
    struct buf big = {0};
    trio_open(&trio);
    buf_text(&big,
             "CLIENT REPLY OFF\r\nINCR n\r\nINCR n\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n");
    memset(buf_extend(&big, 200000), 'x', 200000);
    buf_text(&big, "\r\nINCR n\r\nCLIENT REPLY ON\r\nGET n\r\n");
    say_bytes(&trio, 1, big.data, big.size);
    trio_run(&trio, 400);
    EXPECT_TEXT(heard(&trio, 1), "+OK\r\n$1\r\n3\r\n");
    buf_close(&big);
    /* On their way, and nobody answers: UNCERTAIN for the writes, later CLUSTERDOWN for what is still to be asked. */
    say(&trio, 1, "CLIENT REPLY OFF\r\nGET n\r\nINCR n\r\nGET n\r\n");
    trio.now_ms++;
    core_turn(trio.members[1].core, trio.now_ms, 1700000000000 + trio.now_ms);
    EXPECT_EQ(trio.members[1].client.session->forward_count, 3);
    trio.members[0].is_frozen = true;
    trio.members[2].is_frozen = true;
    trio_run(&trio, 12000);
    EXPECT_EQ(trio.members[1].client.session->forward_count, 0);
    EXPECT_TEXT(heard(&trio, 1), "");
    EXPECT_TEXT(trio_ask(&trio, 1, "CLIENT REPLY ON\r\n", 20), "+OK\r\n");
    trio_close(&trio);
}
