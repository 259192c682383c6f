#include "tests/test.h"

#include "node/config.h"
#include "storage/base/bytes.h"

static char message[CONFIG_MESSAGE_SIZE];

static struct config defaults(void)
{
    struct config config;
    config_defaults(&config, "host1");
    return config;
}

static void expect_shown(const struct config *config, const char *option, const char *expected)
{
    struct buf out = {0};
    config_get(config, option, &out);
    buf_u8(&out, 0);
    EXPECT_TEXT((const char *)out.data, expected);
    buf_close(&out);
}

static void expect_refused(const char *option, const char *value, const char *part)
{
    struct config config = defaults();
    const struct config before = config;
    EXPECT_EQ(config_set(&config, option, value, message), ERR_INVALID);
    if (strstr(message, part) == NULL) EXPECT_TEXT(message, part);
    EXPECT_TRUE(strlen(message) < CONFIG_MESSAGE_SIZE);
    EXPECT_BYTES(&config, &before, sizeof config);
}

static void expect_taken(const char *option, const char *value, const char *shown)
{
    struct config config = defaults();
    if (config_set(&config, option, value, message) != OK) EXPECT_TEXT(message, "");
    expect_shown(&config, option, shown);
}

TEST(config, defaults_are_those_of_the_table)
{
    struct config config = defaults();
    EXPECT_TEXT(config.name, "host1");
    EXPECT_TEXT(config.client.host, "127.0.0.1");
    EXPECT_EQ(config.client.port, 6379);
    EXPECT_EQ(config.cluster_client.host[0], 0);
    EXPECT_EQ(config.max_value_size, 8u * MIB);
    EXPECT_EQ(config.compress_above_size, 1u * KIB);
    EXPECT_EQ(config.max_connections, 10000);
    EXPECT_EQ(config.reads, CONFIG_READS_QUORUM);
    EXPECT_EQ(config.log_level, CONFIG_INFO);
    EXPECT_FALSE(config.log_json);
    EXPECT_EQ(config.handshake_timeout_ms, 10000);
    EXPECT_EQ(config_finish(&config, message), OK);
    EXPECT_TEXT(config.advertise_client, "127.0.0.1:6379");
    EXPECT_TEXT(config.advertise_peer, "127.0.0.1:7379");
    EXPECT_TEXT(config.advertise_cluster_client, "");
}

TEST(config, every_option_reads_back_what_it_was_set_to)
{
    struct config config = defaults();
    uint32_t count = 0;
    for (; config_option(count) != NULL; count++) {
        const struct config_option *option = config_option(count);
        struct buf text = {0};
        config_get(&config, option->name, &text);
        buf_u8(&text, 0);
        EXPECT_TRUE(option->description[0] != 0 && option->values[0] != 0);
        struct config again = config;
        EXPECT_EQ(config_set(&again, option->name, (const char *)text.data, message), OK);
        EXPECT_BYTES(&again, &config, sizeof config);
        buf_close(&text);
    }
    EXPECT_LE(28, count);
    expect_shown(&config, "retention", "256mb");
    expect_shown(&config, "ship-rate", "64mb");
    expect_shown(&config, "client", "127.0.0.1:6379");
    expect_shown(&config, "cluster-client", "off");
}

TEST(config, host_name_that_is_no_node_name_is_made_one)
{
    struct config config;
    config_defaults(&config, "my host/1");
    EXPECT_TEXT(config.name, "my-host-1");
    config_defaults(&config, "");
    EXPECT_TEXT(config.name, "node");
    char name[200];
    memset(name, 'x', sizeof name);
    name[199] = 0;
    config_defaults(&config, name);
    EXPECT_EQ(strlen(config.name), NAME_SIZE_MAX);
}

TEST(config, unknown_option_suggests_the_nearest)
{
    expect_refused("hearbeat", "5", "did you mean 'heartbeat'?");
    expect_refused("max-conections", "5", "did you mean 'max-connections'?");
    expect_refused("qqqqqqqqqqqqqqqqq", "5", "unknown option 'qqqqqqqqqqqqqqqqq'; kvnode --help");
    expect_refused("", "5", "unknown option");
    char name[4000];
    memset(name, '\x01', sizeof name);
    name[3999] = 0;
    expect_refused(name, name, "unknown option");
}

TEST(config, names_and_paths)
{
    expect_taken("name", "node-1.a_b", "node-1.a_b");
    expect_refused("name", "", "1 to 63 letters");
    expect_refused("name", "a b", "name: 'a b' is not allowed; it takes 1 to 63 letters");
    expect_refused("cluster-token", "a\nb", "'a?b' is not allowed");
    expect_refused("data", "", "a path");
    char path[2000];
    memset(path, 'p', sizeof path);
    path[1999] = 0;
    expect_refused("data", path, "at most 1023 bytes");
    path[1023] = 0;
    expect_taken("data", path, path);
}

TEST(config, addresses)
{
    expect_taken("client", "0.0.0.0:1", "0.0.0.0:1");
    expect_taken("client", ":7001", "[::]:7001");
    expect_taken("client", "[::1]:7001", "[::1]:7001");
    expect_taken("client", "localhost:0", "localhost:0");
    expect_taken("http", "off", "off");
    expect_refused("peer", "off", "host:port");
    expect_refused("client", "127.0.0.1", "host:port");
    expect_refused("client", "127.0.0.1:", "host:port");
    expect_refused("client", "127.0.0.1:65536", "host:port");
    expect_refused("client", "127.0.0.1:-1", "host:port");
    expect_refused("client", "127.0.0.1:+1", "host:port");
    expect_refused("client", "127.0.0.1: 1", "host:port");
    expect_refused("client", "::1:7001", "host:port");
    expect_refused("client", "[]:7001", "host:port");
    expect_refused("client", "[h1]:7001", "host:port");
    expect_refused("client", "a b:7001", "host:port");
    expect_refused("client", "", "host:port");
    expect_taken("advertise-client", "db.example:6379", "db.example:6379");
    expect_taken("advertise-client", "", "");
    expect_refused("advertise-client", "0.0.0.0:6379", "others can reach");
    expect_refused("advertise-peer", ":6379", "others can reach");
    expect_refused("advertise-peer", "[::0]:6379", "others can reach");
    expect_refused("advertise-peer", "0:6379", "others can reach");
    expect_refused("advertise-peer", "a:0", "others can reach");
    char host[400];
    memset(host, 'h', sizeof host);
    memcpy(host + 390, ":1", 3);
    expect_refused("client", host, "host:port");
}

TEST(config, which_listeners_are_public)
{
    struct config_address address;
    const char *const hidden[] = {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"};
    const char *const open[] = {":1", "0.0.0.0:1", "10.0.0.1:1", "example:1", "[fe80::1]:1"};
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT_TRUE(config_parse_address(hidden[i], &address));
        EXPECT_FALSE(config_address_public(&address));
    }
    for (uint32_t i = 0; i < 5; i++) {
        EXPECT_TRUE(config_parse_address(open[i], &address));
        EXPECT_TRUE(config_address_public(&address));
    }
    address.host[0] = 0;
    EXPECT_FALSE(config_address_public(&address));
}

TEST(config, sizes_and_numbers)
{
    uint64_t size = 0;
    EXPECT_TRUE(config_size(slice_text("12"), &size) && size == 12);
    EXPECT_TRUE(config_size(slice_text("3kb"), &size) && size == 3072);
    EXPECT_TRUE(config_size(slice_text("3MB"), &size) && size == 3u * MIB);
    EXPECT_TRUE(config_size(slice_text("2Gb"), &size) && size == 2048ull * MIB);
    const char *const bad[] = {"",
                               "kb",
                               "1k",
                               "1 kb",
                               "-1kb",
                               "+1",
                               "1.5mb",
                               "0x10",
                               "01kb",
                               "1tb",
                               "99999999999999999999",
                               "9223372036854775807kb"};
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        EXPECT_FALSE(config_size(slice_text(bad[i]), &size));
    }
    expect_taken("max-value", "1048576", "1mb");
    expect_taken("max-value", "1536kb", "1536kb");
    expect_taken("max-inflight", "2gb", "2gb");
    expect_taken("max-index-memory", "24gb", "24gb");
    expect_refused("max-index-memory", "25gb", "0 to 24gb");
    expect_taken("retention", "0", "0");
    expect_refused("max-value", "65mb", "max-value: '65mb' is not allowed; it takes 1kb to 64mb");
    expect_refused("max-value", "1023", "1kb to 64mb");
    expect_refused("segment-size", "100001", "steps of 4kb");
    expect_refused("park", "abc", "park: 'abc' is not allowed; it takes 0 to 60000");
    expect_refused("park", "5kb", "0 to 60000");
    expect_refused("park", "-1", "0 to 60000");
    expect_refused("max-connections", "0", "1 to 1000000");
}

TEST(config, words)
{
    expect_taken("reads", "local", "local");
    expect_taken("log-level", "debug", "debug");
    expect_taken("log-format", "json", "json");
    expect_refused("reads", "Local", "quorum or local");
    expect_refused("log-level", "trace", "debug, info, warn or error");
    expect_refused("log-format", "", "text or json");
}

TEST(config, cluster_is_sorted_and_its_names_and_addresses_differ)
{
    expect_taken("cluster", "b=h2:2,a=h1:1,c=[::1]:3", "a=h1:1,b=h2:2,c=[::1]:3");
    expect_taken("cluster", "", "");
    expect_refused("cluster", "a=h1:1,a=h2:2", "name=peer-address");
    expect_refused("cluster", "a=h1:1,b=h1:1", "name=peer-address");
    expect_refused("cluster", "a=h1:1,", "name=peer-address");
    expect_refused("cluster", ",a=h1:1", "name=peer-address");
    expect_refused("cluster", "a=h1", "name=peer-address");
    expect_refused("cluster", "a=0.0.0.0:1", "name=peer-address");
    expect_refused("cluster", "=h1:1", "name=peer-address");
    expect_refused("cluster", "h1:1", "name=peer-address");
    struct buf text = {0};
    for (uint32_t i = 0; i < PEERS_MAX + 2; i++) {
        buf_printf(&text, "%sn%u=h:%u", i > 0 ? "," : "", i, i + 1);
        struct config config = defaults();
        struct buf copy = {0};
        buf_append(&copy, text.data, text.size);
        buf_u8(&copy, 0);
        const enum err err = config_set(&config, "cluster", (const char *)copy.data, message);
        EXPECT_EQ(err, i <= PEERS_MAX ? OK : ERR_INVALID);
        buf_close(&copy);
    }
    buf_close(&text);
}

TEST(config, file_lines_comments_and_errors)
{
    struct config config = defaults();
    EXPECT_EQ(config_set_file(&config,
                              slice_text("# a comment\n\n  name =  n1  # behind\r\n"
                                         "\tcluster-token=a-b\npark = 7"),
                              message),
              OK);
    EXPECT_TEXT(config.name, "n1");
    EXPECT_TEXT(config.cluster_token, "a-b");
    EXPECT_EQ(config.park_ms, 7);
    const struct {
        const char *text;
        const char *message;
    } bad[] = {
        {"name = a\nname = b\n", "line 2: name was set on line 1 already"},
        {"\n\nhello\n", "line 3: this is not 'name = value'"},
        {"parc = 5", "line 1: unknown option 'parc'; did you mean 'park'? kvnode --help lists all"},
        {"park = x", "line 1: park: 'x' is not allowed; it takes 0 to 60000"},
        {"park =", "line 1: park: '' is not allowed; it takes 0 to 60000"},
        {"= 5", "line 1: unknown option ''; kvnode --help lists all"},
    };
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        config = defaults();
        EXPECT_EQ(config_set_file(&config, slice_text(bad[i].text), message), ERR_INVALID);
        EXPECT_TEXT(message, bad[i].message);
    }
}

TEST(config, file_with_zero_bytes_or_an_endless_line_is_refused)
{
    struct config config = defaults();
    EXPECT_EQ(config_set_file(&config, slice_of("name = a\0b\n", 11), message), ERR_INVALID);
    EXPECT_EQ(config_set_file(&config, slice_of("na\0me = a\n", 10), message), ERR_INVALID);
    static char line[8192];
    memset(line, 'a', sizeof line);
    memcpy(line, "data = ", 7);
    EXPECT_EQ(config_set_file(&config, slice_of(line, sizeof line), message), ERR_INVALID);
    EXPECT_TEXT(message, "line 1: the line is too long");
}

static void set(struct config *config, const char *option, const char *value)
{
    EXPECT_EQ(config_set(config, option, value, message), OK);
}

static void expect_unfit(struct config config, const char *part)
{
    EXPECT_EQ(config_finish(&config, message), ERR_INVALID);
    if (strstr(message, part) == NULL) EXPECT_TEXT(message, part);
}

TEST(config, relations_between_options)
{
    struct config config = defaults();
    set(&config, "heartbeat", "400");
    expect_unfit(config, "election-timeout: it must be at least 3 times heartbeat");
    config = defaults();
    set(&config, "max-inflight", "1mb");
    expect_unfit(config, "max-inflight:");
    config = defaults();
    set(&config, "max-value", "64mb");
    set(&config, "segment-size", "64kb"); /* An entry that does not fit gets a file of its own. */
    set(&config, "output-limit", "1mb");
    EXPECT_EQ(config_finish(&config, message), OK);
    config = defaults();
    set(&config, "join", "h:1,h:2");
    expect_unfit(config, "join:");
    config = defaults();
    set(&config, "http", "0.0.0.0:7379"); /* where peer listens */
    set(&config, "advertise-client", "h:1");
    expect_unfit(config,
                 "client, cluster-client, peer and http: two of them have the same address");
    config = defaults();
    set(&config, "http", "127.0.0.2:7379");
    EXPECT_EQ(config_finish(&config, message), OK);
    config = defaults();
    set(&config, "http", "127.0.0.1:0"); /* Any port is another one each time. */
    set(&config, "peer", "127.0.0.1:0");
    EXPECT_EQ(config_finish(&config, message), OK);
    config = defaults();
    set(&config, "cluster", "a=h1:1,b=h2:2");
    expect_unfit(config, "cluster: it does not list this node, whose name is 'host1'");
}

TEST(config, advertised_addresses_come_from_the_listener_or_the_member_list)
{
    struct config config = defaults();
    set(&config, "client", ":7000");
    EXPECT_EQ(config_finish(&config, message), OK); /* alone: only this machine asks */
    EXPECT_TEXT(config.advertise_client, "127.0.0.1:7000");

    config = defaults();
    set(&config, "cluster", "host1=h1:1,b=h2:2");
    set(&config, "peer", "0.0.0.0:1");
    EXPECT_EQ(config_finish(&config, message), OK);
    EXPECT_TEXT(config.advertise_peer, "h1:1");
    config = defaults();
    set(&config, "cluster", "host1=h1:1,b=h2:2");
    set(&config, "client", ":7000");
    expect_unfit(config, "advertise-client: it is needed because client listens on all addresses");
    set(&config, "advertise-client", "h1:7000");
    EXPECT_EQ(config_finish(&config, message), OK);
    EXPECT_TEXT(config.advertise_client, "h1:7000");
}
