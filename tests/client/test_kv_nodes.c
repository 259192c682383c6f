/* The client library against nodes that come and go, and what a cluster says about itself. */
#include "tests/client/kv_tools.h"

/* ---- nodes ----------------------------------------------------------------------------------- */

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

TEST(kv, a_handle_that_stays_asks_one_node_whoever_leads)
{
    struct fake fake = {0};
    struct fake leader = {0};
    char moved[128];
    fake_start(&fake);
    fake_start(&leader);
    fake_say_leader(&fake, "leader", leader.address);
    struct kv *kv = connect_to(fake.address, 500);
    EXPECT_TEXT(kv_address(kv), leader.address);
    EXPECT_EQ(kv_stay(kv, "no address:"), KV_ERR_INVALID);
    EXPECT_EQ(set(kv, "k", "0"), KV_OK);
    EXPECT_EQ(kv_stay(kv, fake.address), KV_OK);
    EXPECT_EQ(set(kv, "k", "1"), KV_OK);
    EXPECT_TEXT(kv_address(kv), fake.address);
    fake_hang_up(&fake);
    EXPECT_EQ(set(kv, "k", "2"), KV_OK);
    expect_log(&fake, "SET k 1\nSET k 2\n");
    /* Not even when it says who knows better. */
    (void)snprintf(moved, sizeof moved, "-MOVED 1234 %s\r\n", leader.address);
    for (int i = 0; i < FAKE_STEPS_MAX; i++) fake_step(&fake, FAKE_REPLY, moved);
    EXPECT_EQ(set(kv, "k", "3"), KV_ERR_REFUSED);
    /* The address may be the one that the handle gave. */
    EXPECT_EQ(kv_stay(kv, leader.address), KV_OK);
    EXPECT_EQ(set(kv, "k", "4"), KV_OK);
    EXPECT_EQ(kv_stay(kv, kv_address(kv)), KV_OK);
    EXPECT_EQ(set(kv, "k", "5"), KV_OK);
    expect_log(&leader, "SET k 0\nSET k 4\nSET k 5\n");
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
    /* It is not tried again and again: each try would cost its time. */
    (void)usleep(600 * 1000);
    EXPECT_EQ(set(kv, "k", "v"), KV_OK);
    EXPECT_EQ(fake_accepted(&stopped), 1);
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
    (void)snprintf(fake.members, sizeof fake.members,
                   "*1\r\n*6\r\n+node2\r\n+0000000000000002\r\n+p:1\r\n"
                   "$%zu\r\n%s\r\n+voter\r\n:1\r\n",
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

/* ---- the cluster ----------------------------------------------------------------------------- */

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
    /* Both seem to lag and are asked again: behind the 100 that were committed before. */
    fake_step(&fake, FAKE_REPLY, STATUS("follower", "5", "105", "95"));
    fake_step(&other, FAKE_REPLY, STATUS("leader", "5", "105", "102"));
    EXPECT_EQ(kv_status(kv, &cluster), KV_OK);
    EXPECT_TEXT(cluster.cluster, "token");
    EXPECT_TEXT(cluster.leader, "node2"); /* Of the higher term. */
    EXPECT_EQ(cluster.node_count, 3);
    EXPECT_TEXT(cluster.nodes[0].name, "node1");
    EXPECT_EQ(cluster.nodes[0].lag, 5);
    EXPECT_EQ(cluster.nodes[1].lag, 0);
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
