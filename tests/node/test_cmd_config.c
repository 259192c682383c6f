/* Tests of CONFIG: what can be seen, what can be changed while the node runs, and what becomes of that. */
#include "node/core_parts.h"
#include "storage/store_inner.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define SAYS(line, reply) EXPECT_TEXT(fixture_say(&fixture, line), reply)
#define FAILED(name) "-ERR CONFIG SET failed (possibly related to argument '" name "') - "

/* The value of one option, or NULL. */
static const char *value_of(struct fixture *fixture, const char *name)
{
    static char value[256];
    char line[128];
    (void)snprintf(line, sizeof line, "CONFIG GET %s", name);
    const char *at = fixture_say(fixture, line);
    for (int lines = 0; lines < 4 && at != NULL; lines++) { /* *2, $n, the name, $n */
        at = strstr(at, "\r\n");
        if (at != NULL) at += 2;
    }
    if (at == NULL) return NULL;
    (void)snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

TEST(cmd_config, every_live_option_is_set_and_shown)
{
    static const char *const values[][2] = {{"reads", "local"},
                                            {"park", "500"},
                                            {"drain", "0"},
                                            {"max-connections", "77"},
                                            {"compress-above", "4kb"},
                                            {"max-index-memory", "1gb"},
                                            {"max-inflight", "128mb"},
                                            {"output-limit", "16mb"},
                                            {"once-retention", "5000"},
                                            {"retention", "64mb"},
                                            {"ship-rate", "1mb"},
                                            {"compaction-rate", "3mb"},
                                            {"scrub-rate", "2mb"},
                                            {"check-interval", "900"},
                                            {"keep-damaged", "yes"},
                                            {"idle-timeout", "250"},
                                            {"handshake-timeout", "300"},
                                            {"notify-keyspace-events", "gK"},
                                            {"log-level", "warn"}};
    const uint32_t count = sizeof values / sizeof values[0];
    struct fixture fixture;
    uint32_t live = 0;
    fixture_open(&fixture);
    for (uint32_t i = 0; config_option(i) != NULL; i++) live += config_option(i)->is_live;
    EXPECT_EQ(live, count);
    for (uint32_t i = 0; i < count; i++) {
        char line[128];
        EXPECT_TRUE(strcmp(value_of(&fixture, values[i][0]), values[i][1]) != 0);
        (void)snprintf(line, sizeof line, "CONFIG SET %s %s", values[i][0], values[i][1]);
        SAYS(line, "+OK\r\n");
        EXPECT_TEXT(value_of(&fixture, values[i][0]), values[i][1]);
    }
    /* Those of which others keep a copy. */
    const struct store_config *store = &fixture.core->shard.store->config;
    EXPECT_EQ(store->retention_size, 64 * MIB);
    EXPECT_EQ(store->compaction_rate, 3 * MIB);
    EXPECT_EQ(store->scrub_rate, 2 * MIB);
    EXPECT_TRUE(fixture.core->shard.audit.next_ms <= fixture.now_ms + 900);
    SAYS("CONFIG SET NOTIFY-KEYSPACE-EVENTS KEA log-level ERROR", "+OK\r\n");
    EXPECT_TEXT(value_of(&fixture, "notify-keyspace-events"), "AKE");
    EXPECT_TEXT(value_of(&fixture, "log-level"), "error");
    fixture_close(&fixture);
}

TEST(cmd_config, what_is_set_is_in_force)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("CONFIG SET max-index-memory 1", "+OK\r\n");
    EXPECT_TRUE(strncmp(fixture_say(&fixture, "SET a 1"), "-OOM", 4) == 0);
    SAYS("CONFIG SET max-index-memory 0", "+OK\r\n");
    SAYS("SET a 1", "+OK\r\n");
    SAYS("CONFIG SET idle-timeout 500", "+OK\r\n");
    fixture_run(&fixture, 2000);
    EXPECT_TRUE(fixture.clients[0].is_closed);
    SAYS("CONFIG SET maxclients 1 timeout 0", "+OK\r\n");
    EXPECT_EQ(fixture.core->config->idle_timeout_ms, 0);
    EXPECT_TRUE(core_client_open(fixture.core, &fixture.clients[1], CORE_FACE_CLIENT,
                                 "127.0.0.1:2") == NULL);
    SAYS("CONFIG SET maxclients 2", "+OK\r\n");
    EXPECT_TEXT(fixture_ask(&fixture, 1, "PING\r\n", 6), "+PONG\r\n");
    fixture_close(&fixture);
}

TEST(cmd_config, all_of_the_pairs_or_none)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("CONFIG SET park 1 drain none",
         FAILED("drain") "drain: 'none' is not allowed; it takes 0 to 60000\r\n");
    SAYS("CONFIG SET park 1 PARK 2", FAILED("PARK") "duplicate parameter\r\n");
    SAYS("CONFIG SET maxclients 5 max-connections 6",
         FAILED("max-connections") "duplicate parameter\r\n");
    SAYS("CONFIG SET park 1 nosuch 2",
         "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n");
    SAYS("CONFIG SET park 1 segment-size 64mb",
         FAILED("segment-size") "can't set immutable config: set it in the options of the node, "
                                "which are read when it starts\r\n");
    SAYS("CONFIG SET park 1 max-inflight 1mb",
         FAILED("park") "max-inflight: it must be at least max-value\r\n");
    SAYS("CONFIG SET park 1 limit-key-bytes 7",
         FAILED("limit-key-bytes") "can't set immutable config: it is the same on every node\r\n");
    SAYS("CONFIG SET park", "-ERR wrong number of arguments for 'config|set' command\r\n");
    SAYS("CONFIG SET park 1 drain", "-ERR wrong number of arguments for 'config|set' command\r\n");
    EXPECT_TEXT(value_of(&fixture, "park"), "2000");
    fixture_close(&fixture);
}

TEST(cmd_config, names_of_redis)
{
    struct fixture fixture;
    fixture_open(&fixture);
    SAYS("CONFIG SET appendonly YES save \"\" maxmemory-policy noeviction maxmemory 0", "+OK\r\n");
    SAYS("CONFIG SET appendonly no",
         FAILED("appendonly") "can't set immutable config: it cannot be otherwise here\r\n");
    SAYS("CONFIG SET timeout -1",
         FAILED("timeout") "argument must be a number that is not negative\r\n");
    SAYS("CONFIG SET timeout 99999999",
         FAILED("idle-timeout") "idle-timeout: '99999999000' is not allowed; it takes 0 to "
                                "86400000\r\n");
    SAYS("CONFIG SET timeout 300", "+OK\r\n");
    EXPECT_TEXT(value_of(&fixture, "idle-timeout"), "300000");
    EXPECT_TEXT(value_of(&fixture, "timeout"), "300");
    fixture_close(&fixture);
}

TEST(cmd_config, connections_are_bounded_by_the_machine_too)
{
    struct fixture fixture;
    fixture_open(&fixture);
    core_set_room(fixture.core, 3);
    EXPECT_TEXT(value_of(&fixture, "maxclients"), "3");
    EXPECT_TEXT(value_of(&fixture, "max-connections"), "10000");
    SAYS("CONFIG SET max-connections 20000",
         FAILED("max-connections") "the limit of open files lets this node take 3 connections\r\n");
    SAYS("CONFIG SET park 7", "+OK\r\n"); /* It is not about that. */
    SAYS("CONFIG SET max-connections 2", "+OK\r\n");
    EXPECT_TEXT(value_of(&fixture, "maxclients"), "2");
    EXPECT_TRUE(strstr(fixture_say(&fixture, "INFO clients"), "maxclients:2\r\n") != NULL);
    fixture_close(&fixture);
}

TEST(cmd_config, reading_the_options_again_changes_those_that_are_live)
{
    struct fixture fixture;
    char message[CONFIG_MESSAGE_SIZE];
    fixture_open(&fixture);
    struct config fresh = fixture.config;
    EXPECT_EQ(config_set(&fresh, "park", "123", message), OK);
    EXPECT_EQ(config_set(&fresh, "scrub-rate", "1mb", message), OK);
    EXPECT_EQ(config_set(&fresh, "heartbeat", "77", message), OK);
    core_reload(fixture.core, &fresh);
    EXPECT_TEXT(value_of(&fixture, "park"), "123");
    EXPECT_EQ(fixture.core->shard.store->config.scrub_rate, MIB);
    EXPECT_TEXT(value_of(&fixture, "heartbeat"), "100");
    fixture_close(&fixture);
}
