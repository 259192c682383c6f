/* config.h - the options of a node: names, defaults, validation. docs/operations.md lists them.
 *
 * An option is given as --name value, as a line `name = value` of the file of --config, or as the
 * environment variable KVNODE_NAME ('-' becomes '_'); flag beats environment beats file. This module knows nothing
 * of the environment: the host hands in every source, weakest first. */
#ifndef KV_NODE_CONFIG_H
#define KV_NODE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/limits.h"

#define CONFIG_PATH_MAX 1024u
#define CONFIG_OPTIONS_MAX 64u   /* in the table, at the most */
#define CONFIG_MESSAGE_SIZE 256u /* room that every @message below has */

struct config_address {
    char host[ADDRESS_SIZE_MAX + 1]; /* empty: the listener is off */
    uint16_t port;
};

struct config_member {
    char name[NAME_SIZE_MAX + 1];
    char address[ADDRESS_SIZE_MAX + 1]; /* host:port of its peer listener, as given */
};

enum config_reads { CONFIG_READS_QUORUM, CONFIG_READS_LOCAL };
enum config_log_level { CONFIG_DEBUG, CONFIG_INFO, CONFIG_WARN, CONFIG_ERROR };

/* Classes of notify-keyspace-events, with Redis' letters. */
enum config_event {
    CONFIG_EVENT_KEYSPACE = 1,  /* K */
    CONFIG_EVENT_KEYEVENT = 2,  /* E */
    CONFIG_EVENT_GENERIC = 4,   /* g */
    CONFIG_EVENT_STRING = 8,    /* $ */
    CONFIG_EVENT_EXPIRED = 256, /* x */
    CONFIG_EVENT_NEW = 16384,   /* n */
    CONFIG_EVENT_MISS = 2048,   /* m: never happens here, as those of l s h z e t d */
};

struct config {
    char name[NAME_SIZE_MAX + 1];
    char data[CONFIG_PATH_MAX];
    struct config_address client;
    struct config_address cluster_client; /* default off */
    struct config_address peer;
    struct config_address http;
    char advertise_client[ADDRESS_SIZE_MAX +
                          1]; /* host:port; filled from the listener when not given */
    char advertise_cluster_client[ADDRESS_SIZE_MAX + 1];
    char advertise_peer[ADDRESS_SIZE_MAX + 1];
    struct config_member members[PEERS_MAX + 1]; /* of `cluster`; sorted by name */
    uint32_t member_count;                       /* 0: this node alone */
    char join[CONFIG_PATH_MAX]; /* host:port,...; empty: none. Refused by config_finish so far. */
    char cluster_token[NAME_SIZE_MAX + 1];
    char sentinel_master[NAME_SIZE_MAX + 1];
    enum config_reads reads;
    uint32_t notify_events; /* enum config_event, and those that never happen here */
    uint64_t park_ms;
    uint64_t drain_ms;
    uint64_t election_timeout_ms;
    uint64_t heartbeat_ms;
    uint64_t max_connections;
    uint64_t max_value_size;
    uint64_t compress_above_size; /* compress-above: values larger than this are packed; 0: none */
    uint64_t max_index_memory;    /* Bytes; 0: no limit but the one of keydir_full. */
    uint64_t max_inflight_size;
    uint64_t output_limit_size;
    uint64_t once_retention_ms;
    uint64_t retention_size;
    uint64_t ship_rate;
    uint64_t compaction_rate;
    uint64_t segment_size; /* segment-size, default 32mb */
    uint64_t
        idle_timeout_ms; /* idle-timeout, 0: never; a client that neither asks nor waits is closed */
    uint64_t
        handshake_timeout_ms; /* handshake-timeout: for a peer's HELLO, and the rest of a begun command */
    enum config_log_level log_level;
    uint64_t scrub_rate;
    uint64_t check_interval_ms;
    bool keep_damaged;
    bool log_json;
};

void config_defaults(struct config *config, const char *host_name);

/* Sets one option. ERR_INVALID: @message says what is wrong and what is allowed; @config is unchanged. */
enum err config_set(struct config *config, const char *option, const char *value, char *message);
enum err config_set_slice(struct config *config, struct slice name, struct slice value,
                          char *message);
/* The lines of a file: `name = value`; '#' at the start of a line or behind a space begins a comment. An
 * option that occurs twice is refused. ERR_INVALID: @message names the line; earlier lines are taken. */
enum err config_set_file(struct config *config, struct slice text, char *message);
/* Relations between options; fills what was left open (advertised addresses). Call once, last. */
enum err config_finish(struct config *config, char *message);

/* Whether connections from other machines can reach this listener; false when it is off. A name other
 * than localhost counts as reachable. */
bool config_address_public(const struct config_address *address);

/* The options as a table, for --help, CONFIG GET and docs: NULL past the end. */
struct config_option {
    const char *name;
    const char *fallback;    /* default, as text */
    const char *description; /* one line */
    const char *values;      /* what is allowed, for messages: "host:port or off", "1kb to 64mb" */
    bool is_live;            /* It may change while the node runs. */
};
const struct config_option *config_option(uint32_t at);
/* The value of an option as text, as config_set would take it. */
void config_get(const struct config *config, const char *option, struct buf *out);

/* CONFIG SET and SIGHUP. Place in the table of an option in any case, or a place past its end. */
uint32_t config_find(struct slice name);
/* Sets the option at @at, which is live, as config_set does. */
enum err config_change(struct config *config, uint32_t at, struct slice value, char *message);
/* Do the options fit each other? ERR_INVALID: @message says which do not. */
enum err config_related(const struct config *config, char *message);
/* Every live option becomes that of @fresh. */
void config_take_live(struct config *config, const struct config *fresh);

/* notify-keyspace-events: false for a letter that is none; as Redis would write it. */
bool config_events(struct slice text, uint32_t *events);
void config_events_put(uint32_t events, struct buf *out);
/* "16mb" and the like; also plain digits. */
bool config_size(struct slice text, uint64_t *size);
/* "host:port", "[v6]:port", ":port" (all addresses: host becomes "::"); the port may be 0 to 65535. */
bool config_parse_address(const char *text, struct config_address *address);

#endif
