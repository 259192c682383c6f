#include "node/config.h"

#include <stddef.h>
#include <stdio.h>

#include "storage/base/check.h"

#define SUGGEST_SIZE_MAX 32u /* names longer than this get no suggestion */

enum kind {
    KIND_NAME,
    KIND_PATH,
    KIND_LISTENER,  /* struct config_address, or off */
    KIND_ADVERTISE, /* host:port as text, empty until config_finish */
    KIND_CLUSTER,
    KIND_JOIN,
    KIND_MS,
    KIND_COUNT,
    KIND_SIZE,
    KIND_FLAG,
    KIND_READS,
    KIND_EVENTS,
    KIND_LOG_LEVEL,
    KIND_LOG_FORMAT,
};

struct row {
    struct config_option option;
    enum kind kind;
    size_t offset; /* of the field in struct config */
    uint64_t min;
    uint64_t max;
};

#define NAME_VALUES "1 to 63 letters, digits, '.', '_' or '-'"
#define ADDRESS_VALUES "host:port, [v6]:port or :port"
#define ADVERTISE_VALUES "host:port that others can reach"
#define OPTION(field, kind, name, fallback, description, values, min, max, is_live)                \
    {                                                                                              \
        {name, fallback, description, values, is_live}, kind, offsetof(struct config, field), min, \
            max                                                                                    \
    }
#define ROW(field, kind, name, fallback, description, values, min, max)                            \
    OPTION(field, kind, name, fallback, description, values, min, max, false)
#define LIVE(field, kind, name, fallback, description, values, min, max)                           \
    OPTION(field, kind, name, fallback, description, values, min, max, true)

static const struct row rows[] = {
    ROW(name, KIND_NAME, "name", "host name", "this node's name, unique in the cluster",
        NAME_VALUES, 0, 0),
    ROW(data, KIND_PATH, "data", "./data", "data directory, locked while in use",
        "a path of at most 1023 bytes", 0, 0),
    ROW(client, KIND_LISTENER, "client", "127.0.0.1:6379",
        "listener for ordinary clients: any node takes any command", ADDRESS_VALUES " or off", 0,
        0),
    ROW(cluster_client, KIND_LISTENER, "cluster-client", "off",
        "listener for Redis Cluster clients: answers MOVED", ADDRESS_VALUES " or off", 0, 0),
    ROW(peer, KIND_LISTENER, "peer", "127.0.0.1:7379", "listener for the other nodes",
        ADDRESS_VALUES, 0, 0),
    ROW(http, KIND_LISTENER, "http", "127.0.0.1:8379", "metrics, health, web page",
        ADDRESS_VALUES " or off", 0, 0),
    ROW(advertise_client, KIND_ADVERTISE, "advertise-client", "as the listener",
        "address that clients are told", ADVERTISE_VALUES, 0, 0),
    ROW(advertise_cluster_client, KIND_ADVERTISE, "advertise-cluster-client", "as the listener",
        "address that Redis Cluster clients are told", ADVERTISE_VALUES, 0, 0),
    ROW(advertise_peer, KIND_ADVERTISE, "advertise-peer", "as the listener",
        "address that other nodes are told", ADVERTISE_VALUES, 0, 0),
    ROW(members, KIND_CLUSTER, "cluster", "this node alone",
        "the first members, used once, at the first start of an empty data directory",
        "name=peer-address,... with at most 16 members, each name and address once", 0, 0),
    ROW(join, KIND_JOIN, "join", "none",
        "not in this version: the first members are named by cluster", "host:port,...", 0, 0),
    ROW(cluster_token, KIND_NAME, "cluster-token", "flashkv",
        "clusters with different tokens refuse each other's connections", NAME_VALUES, 0, 0),
    ROW(sentinel_master, KIND_NAME, "sentinel-master", "mymaster",
        "name by which Sentinel clients ask for the leader", NAME_VALUES, 0, 0),
    LIVE(reads, KIND_READS, "reads", "quorum",
         "quorum: linearizable; local: this node's state, may be old", "quorum or local", 0, 0),
    LIVE(park_ms, KIND_MS, "park", "2000",
         "milliseconds that commands wait for a leader before CLUSTERDOWN", "0 to 60000", 0, 60000),
    LIVE(drain_ms, KIND_MS, "drain", "1000",
         "milliseconds that a stopping node goes on finishing and forwarding", "0 to 60000", 0,
         60000),
    ROW(election_timeout_ms, KIND_MS, "election-timeout", "1000",
        "milliseconds without a leader until a node stands for election", "50 to 60000", 50, 60000),
    ROW(heartbeat_ms, KIND_MS, "heartbeat", "100", "milliseconds between a leader's signs of life",
        "5 to 10000", 5, 10000),
    LIVE(max_connections, KIND_COUNT, "max-connections", "10000", "client connections at a time",
         "1 to 1000000", 1, 1000000),
    ROW(max_value_size, KIND_SIZE, "max-value", "8mb", "size of the largest value", "1kb to 64mb",
        KIB, VALUE_SIZE_MAX),
    LIVE(compress_above_size, KIND_SIZE, "compress-above", "1kb",
         "larger values are stored compressed when that saves at least 12 %; 0: none are",
         "0 to 64mb", 0, VALUE_SIZE_MAX),
    LIVE(max_index_memory, KIND_SIZE, "max-index-memory", "0",
         "memory for the index of keys, beyond which writes are refused; 0: no limit", "0 to 24gb",
         0, 24ull * 1024 * MIB),
    LIVE(max_inflight_size, KIND_SIZE, "max-inflight", "64mb",
         "bytes of commands taken and not yet answered, of all clients together", "1mb to 64gb",
         MIB, 64ull * 1024 * MIB),
    LIVE(output_limit_size, KIND_SIZE, "output-limit", "64mb",
         "replies that one client may leave unread, beside one value, before it is closed",
         "1mb to 64gb", MIB, 64ull * 1024 * MIB),
    LIVE(once_retention_ms, KIND_MS, "once-retention", "600000",
         "milliseconds that KV.ONCE remembers a client after its last command",
         "1000 to 2592000000", 1000, 2592000000u),
    LIVE(retention_size, KIND_SIZE, "retention", "256mb",
         "sealed log kept readable for lagging nodes", "0 to 1024gb", 0, 1024ull * 1024 * MIB),
    LIVE(ship_rate, KIND_SIZE, "ship-rate", "64mb",
         "bytes a second of the files that nodes which lag too far are sent; 0: no limit",
         "0 or 256kb to 64gb", 0, 64ull * 1024 * MIB),
    LIVE(compaction_rate, KIND_SIZE, "compaction-rate", "16mb",
         "bytes a second for giving space back, besides what writes need; 0: never", "0 to 64gb", 0,
         64ull * 1024 * MIB),
    ROW(segment_size, KIND_SIZE, "segment-size", "32mb", "size of one file of the log",
        "64kb to 1gb, in steps of 4kb", 64ull * KIB, 1024ull * MIB),
    LIVE(scrub_rate, KIND_SIZE, "scrub-rate", "5mb",
         "bytes of sealed files that are read and verified each second; 0: none", "0 to 1gb", 0,
         1024ull * MIB),
    LIVE(check_interval_ms, KIND_MS, "check-interval", "60000",
         "milliseconds between comparisons of the nodes' states; 0: none", "0 to 86400000", 0,
         86400000),
    LIVE(keep_damaged, KIND_FLAG, "keep-damaged", "no",
         "keep what was set aside after the state was restored from the others", "yes or no", 0, 0),
    LIVE(notify_events, KIND_EVENTS, "notify-keyspace-events", "none",
         "which changes of keys are told on channels __keyspace@0__ and __keyevent@0__",
         "none, or letters of KEg$lshzxetdnmA as in Redis", 0, 0),
    LIVE(idle_timeout_ms, KIND_MS, "idle-timeout", "0",
         "milliseconds until a client that neither asks nor waits is closed; 0: never",
         "0 to 86400000", 0, 86400000),
    LIVE(handshake_timeout_ms, KIND_MS, "handshake-timeout", "10000",
         "milliseconds for a node's greeting, and for the rest of a command that has begun",
         "100 to 600000", 100, 600000),
    LIVE(log_level, KIND_LOG_LEVEL, "log-level", "info", "least grave lines that are logged",
         "debug, info, warn or error", 0, 0),
    ROW(log_json, KIND_LOG_FORMAT, "log-format", "text", "format of the log on standard error",
        "text or json", 0, 0),
};
#define ROW_COUNT ((uint32_t)(sizeof rows / sizeof rows[0]))
STATIC_CHECK(ROW_COUNT <= CONFIG_OPTIONS_MAX, "config_set_file counts them");

static const char *const flag_words[] = {"no", "yes", NULL};
static const char *const reads_words[] = {"quorum", "local", NULL};
static const char *const level_words[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_words[] = {"text", "json", NULL};

/* ---- values --------------------------------------------------------------------------------------------- */

static bool copy_text(char *to, uint64_t capacity, struct slice text)
{
    if (text.size >= capacity) return false;
    if (text.size > 0) memcpy(to, text.data, text.size);
    to[text.size] = 0;
    return true;
}

static bool name_valid(struct slice text)
{
    if (text.size == 0 || text.size > NAME_SIZE_MAX) return false;
    for (uint64_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-') return false;
    }
    return true;
}

bool config_size(struct slice text, uint64_t *size)
{
    static const struct {
        const char *name;
        uint32_t shift;
    } units[] = {{"kb", 10}, {"mb", 20}, {"gb", 30}};
    struct slice digits = text;
    uint32_t shift = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (text.size < 3) break;
        if (!slice_equal_fold(slice_of(text.data + text.size - 2, 2), units[i].name)) continue;
        digits.size = text.size - 2;
        shift = units[i].shift;
    }
    int64_t number;
    if (!slice_int64(digits, &number) || number < 0) return false;
    if ((uint64_t)number > UINT64_MAX >> shift) return false;
    *size = (uint64_t)number << shift;
    return true;
}

/* Letters, digits, '.', '_' and '-' for names and IPv4; ':' and '%' too for IPv6, in brackets. */
static bool host_valid(struct slice host, bool bracketed)
{
    if (bracketed && (host.size == 0 || memchr(host.data, ':', host.size) == NULL)) return false;
    for (uint64_t i = 0; i < host.size; i++) {
        const uint8_t c = host.data[i];
        if (bracketed && (c == ':' || c == '%')) continue;
        if (!name_valid(slice_of(&c, 1))) return false;
    }
    return host.size > 0 && host.size <= ADDRESS_SIZE_MAX - sizeof "[]:65535";
}

static bool parse_address(struct slice text, struct config_address *address)
{
    uint64_t colon = text.size;
    while (colon > 0 && text.data[colon - 1] != ':') colon--;
    if (colon == 0) return false;
    struct slice host = slice_of(text.data, colon - 1);
    const struct slice digits = slice_of(text.data + colon, text.size - colon);
    int64_t port;
    if (!slice_int64(digits, &port) || port < 0 || port > 65535) return false;
    if (host.size == 0) {
        host = slice_text("::");
    } else if (host.size >= 2 && host.data[0] == '[' && host.data[host.size - 1] == ']') {
        host = slice_of(host.data + 1, host.size - 2);
        if (!host_valid(host, true)) return false;
    } else if (!host_valid(host, false)) {
        return false;
    }
    address->port = (uint16_t)port;
    return copy_text(address->host, sizeof address->host, host);
}

bool config_parse_address(const char *text, struct config_address *address)
{
    return parse_address(slice_text(text), address);
}

static void print_address(struct buf *out, const struct config_address *address)
{
    const bool v6 = strchr(address->host, ':') != NULL;
    buf_printf(out, v6 ? "[%s]:%u" : "%s:%u", address->host, (unsigned)address->port);
}

/* All addresses of this machine, in any of its spellings: "0.0.0.0", "::", "::0", "0". */
static bool host_any(const char *host)
{
    return host[0] != 0 && host[strspn(host, "0:.")] == 0;
}

/* An address that others can dial: with a host and a port. */
static bool dialable(struct slice text, struct config_address *address)
{
    return parse_address(text, address) && address->port != 0 && !host_any(address->host);
}

bool config_address_public(const struct config_address *address)
{
    if (address->host[0] == 0) return false;
    return strncmp(address->host, "127.", 4) != 0 && strcmp(address->host, "::1") != 0 &&
           strcmp(address->host, "localhost") != 0;
}

/* The part of *@rest up to the next comma; *@rest becomes what follows it. */
static struct slice next_item(struct slice *rest)
{
    uint64_t size = 0;
    while (size < rest->size && rest->data[size] != ',') size++;
    const struct slice item = slice_of(rest->data, size);
    const uint64_t skip = size < rest->size ? size + 1 : size;
    *rest = slice_of(rest->data + skip, rest->size - skip);
    return item;
}

static bool ends_with_comma(struct slice text)
{
    return text.size > 0 && text.data[text.size - 1] == ',';
}

static bool set_cluster(struct config *config, struct slice text)
{
    struct config_member members[PEERS_MAX + 1];
    uint32_t count = 0;
    if (ends_with_comma(text)) return false;
    while (text.size > 0) {
        struct config_address address;
        const struct slice item = next_item(&text);
        const uint8_t *equals = item.size > 0 ? memchr(item.data, '=', item.size) : NULL;
        if (equals == NULL || count == PEERS_MAX + 1) return false;
        const struct slice name = slice_of(item.data, (uint64_t)(equals - item.data));
        const struct slice place = slice_of(equals + 1, item.size - name.size - 1);
        if (!name_valid(name) || !dialable(place, &address)) return false;
        uint32_t at = count;
        for (uint32_t i = 0; i < count; i++) {
            const int order = slice_compare(name, slice_text(members[i].name));
            if (order == 0 || slice_equal(place, slice_text(members[i].address))) return false;
            if (order < 0 && at == count) at = i;
        }
        memmove(&members[at + 1], &members[at], (count - at) * sizeof members[0]);
        if (!copy_text(members[at].name, sizeof members[at].name, name)) return false;
        if (!copy_text(members[at].address, sizeof members[at].address, place)) return false;
        count++;
    }
    memcpy(config->members, members, count * sizeof members[0]);
    config->member_count = count;
    return true;
}

static bool join_valid(struct slice text)
{
    if (ends_with_comma(text)) return false;
    while (text.size > 0) {
        struct config_address address;
        if (!dialable(next_item(&text), &address)) return false;
    }
    return true;
}

static bool find_word(const char *const *words, struct slice text, int *at)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (!slice_equal(text, slice_text(words[i]))) continue;
        *at = i;
        return true;
    }
    return false;
}

static bool set_listener(struct config_address *address, struct slice text, bool optional)
{
    struct config_address parsed = {.host = ""};
    const bool off = slice_equal(text, slice_text("off"));
    if (off ? !optional : !parse_address(text, &parsed)) return false;
    *address = parsed;
    return true;
}

static bool set_number(const struct row *row, uint64_t *field, struct slice text)
{
    uint64_t number;
    int64_t plain;
    if (row->kind == KIND_SIZE) {
        if (!config_size(text, &number)) return false;
    } else {
        if (!slice_int64(text, &plain) || plain < 0) return false;
        number = (uint64_t)plain;
    }
    if (number < row->min || number > row->max) return false;
    if (row->offset == offsetof(struct config, segment_size) && number % SEGMENT_BLOCK_SIZE != 0) {
        return false;
    }
    *field = number;
    return true;
}

static bool set_value(struct config *config, const struct row *row, struct slice text)
{
    void *field = (uint8_t *)config + row->offset;
    struct config_address address;
    int at = 0;
    switch (row->kind) {
    case KIND_NAME: return name_valid(text) && copy_text(field, NAME_SIZE_MAX + 1, text);
    case KIND_PATH: return text.size > 0 && copy_text(field, CONFIG_PATH_MAX, text);
    case KIND_LISTENER:
        return set_listener(field, text, row->offset != offsetof(struct config, peer));
    case KIND_ADVERTISE:
        if (text.size > 0 && !dialable(text, &address)) return false;
        return copy_text(field, ADDRESS_SIZE_MAX + 1, text);
    case KIND_CLUSTER: return set_cluster(config, text);
    case KIND_JOIN: return join_valid(text) && copy_text(field, CONFIG_PATH_MAX, text);
    case KIND_MS:
    case KIND_COUNT:
    case KIND_SIZE: return set_number(row, field, text);
    case KIND_FLAG:
        if (!find_word(flag_words, text, &at)) return false;
        *(bool *)field = at == 1;
        return true;
    case KIND_READS:
        if (!find_word(reads_words, text, &at)) return false;
        config->reads = (enum config_reads)at;
        return true;
    case KIND_EVENTS:
        if (slice_equal(text, slice_text("none"))) text.size = 0;
        return config_events(text, &config->notify_events);
    case KIND_LOG_LEVEL:
        if (!find_word(level_words, text, &at)) return false;
        config->log_level = (enum config_log_level)at;
        return true;
    case KIND_LOG_FORMAT:
        if (!find_word(format_words, text, &at)) return false;
        config->log_json = at == 1;
        return true;
    }
    UNREACHABLE();
}

/* ---- options by name ------------------------------------------------------------------------------------ */

static const struct row *find_row(struct slice name)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        if (slice_equal(name, slice_text(rows[i].option.name))) return &rows[i];
    }
    return NULL;
}

/* How many letters must be inserted, removed or replaced to make @a of @b. */
static uint32_t distance(struct slice a, struct slice b)
{
    uint32_t line[SUGGEST_SIZE_MAX + 1];
    CHECK(b.size <= SUGGEST_SIZE_MAX);
    for (uint32_t j = 0; j <= b.size; j++) line[j] = j;
    for (uint32_t i = 1; i <= a.size; i++) {
        uint32_t diagonal = line[0];
        line[0] = i;
        for (uint32_t j = 1; j <= b.size; j++) {
            uint32_t best = diagonal + (a.data[i - 1] != b.data[j - 1] ? 1 : 0);
            if (line[j] + 1 < best) best = line[j] + 1;
            if (line[j - 1] + 1 < best) best = line[j - 1] + 1;
            diagonal = line[j];
            line[j] = best;
        }
    }
    return line[b.size];
}

static const char *nearest(struct slice name)
{
    const char *found = NULL;
    uint32_t found_distance = name.size < 4 ? 2 : 4; /* farther is not a slip of the fingers */
    if (name.size > SUGGEST_SIZE_MAX) return NULL;
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        const uint32_t apart = distance(name, slice_text(rows[i].option.name));
        if (apart >= found_distance) continue;
        found = rows[i].option.name;
        found_distance = apart;
    }
    return found;
}

/* What of @text can be shown in a message: at most 64 printable bytes. */
static const char *shown(struct slice text, char *room)
{
    uint64_t size = text.size < 64 ? text.size : 64;
    for (uint64_t i = 0; i < size; i++) {
        const uint8_t c = text.data[i];
        room[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    if (text.size > size) memcpy(room + size - 3, "...", 3);
    room[size] = 0;
    return room;
}

enum err config_set_slice(struct config *config, struct slice name, struct slice value,
                          char *message)
{
    char room[65];
    const struct row *row = find_row(name);
    if (row == NULL) {
        const char *near = nearest(name);
        (void)snprintf(message, CONFIG_MESSAGE_SIZE,
                       "unknown option '%s'; %s%s%skvnode --help lists all", shown(name, room),
                       near != NULL ? "did you mean '" : "", near != NULL ? near : "",
                       near != NULL ? "'? " : "");
        return ERR_INVALID;
    }
    if (value.size > 0 && memchr(value.data, 0, value.size) != NULL) value.size = 0;
    if (!set_value(config, row, value)) {
        (void)snprintf(message, CONFIG_MESSAGE_SIZE, "%s: '%s' is not allowed; it takes %s",
                       row->option.name, shown(value, room), row->option.values);
        return ERR_INVALID;
    }
    return OK;
}

enum err config_set(struct config *config, const char *option, const char *value, char *message)
{
    return config_set_slice(config, slice_text(option), slice_text(value), message);
}

void config_defaults(struct config *config, const char *host_name)
{
    char message[CONFIG_MESSAGE_SIZE];
    *config = (struct config){.member_count = 0};
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &rows[i];
        if (row->kind == KIND_ADVERTISE || row->kind == KIND_CLUSTER || row->kind == KIND_JOIN) {
            continue; /* empty; the fallback only describes it */
        }
        if (row->offset == offsetof(struct config, name)) continue;
        const enum err err = config_set(config, row->option.name, row->option.fallback, message);
        CHECK(err == OK);
    }
    /* A host name may hold anything; what is no name of ours must not stop a node without options. */
    uint32_t size = 0;
    for (; size < NAME_SIZE_MAX && host_name[size] != 0; size++) {
        const bool valid = name_valid(slice_of(&host_name[size], 1));
        config->name[size] = valid ? host_name[size] : '-';
    }
    if (size == 0) (void)copy_text(config->name, sizeof config->name, slice_text("node"));
}

/* ---- relations ------------------------------------------------------------------------------------------ */

static const struct config_member *find_self(const struct config *config)
{
    for (uint32_t i = 0; i < config->member_count; i++) {
        if (strcmp(config->members[i].name, config->name) == 0) return &config->members[i];
    }
    return NULL;
}

/* Fills @advertise from its listener. False: the listener takes every address and none was named. */
static bool fill_advertise(char *advertise, const struct config_address *listener, bool alone)
{
    if (advertise[0] != 0 || listener->host[0] == 0) return true;
    struct config_address told = *listener;
    if (host_any(listener->host)) {
        if (!alone) return false;
        (void)copy_text(told.host, sizeof told.host, slice_text("127.0.0.1"));
    }
    struct buf text = {0};
    print_address(&text, &told);
    const bool fits = copy_text(advertise, ADDRESS_SIZE_MAX + 1, buf_slice(&text));
    buf_close(&text);
    CHECK(fits);
    return true;
}

static bool collide(const struct config_address *a, const struct config_address *b)
{
    const bool any = strcmp(a->host, "::") == 0 || strcmp(b->host, "::") == 0 ||
                     strcmp(a->host, "0.0.0.0") == 0 || strcmp(b->host, "0.0.0.0") == 0;
    if (a->host[0] == 0 || b->host[0] == 0 || a->port == 0 || a->port != b->port) return false;
    return any || strcmp(a->host, b->host) == 0;
}

static const char *bad_relation(const struct config *config)
{
    const struct config_address *listeners[] = {&config->client, &config->cluster_client,
                                                &config->peer, &config->http};
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t j = i + 1; j < 4; j++) {
            if (!collide(listeners[i], listeners[j])) continue;
            return "client, cluster-client, peer and http: two of them have the same address; each "
                   "takes a port of its own";
        }
    }
    if (config->join[0] != 0) {
        return "join: this version cannot add a node to a running cluster; list all first members "
               "in cluster instead";
    }
    if (config->election_timeout_ms < 3 * config->heartbeat_ms) {
        return "election-timeout: it must be at least 3 times heartbeat";
    }
    if (config->max_inflight_size < config->max_value_size) {
        return "max-inflight: it must be at least max-value";
    }
    return NULL;
}

enum err config_finish(struct config *config, char *message)
{
    if (config_related(config, message) != OK) return ERR_INVALID;
    const struct config_member *self = find_self(config);
    const bool alone = config->member_count <= 1;
    if (config->member_count > 0 && self == NULL) {
        (void)snprintf(message, CONFIG_MESSAGE_SIZE,
                       "cluster: it does not list this node, whose name is '%s'", config->name);
        return ERR_INVALID;
    }
    /* What the others were given is what they dial. */
    if (self != NULL && config->advertise_peer[0] == 0) {
        (void)copy_text(config->advertise_peer, sizeof config->advertise_peer,
                        slice_text(self->address));
    }
    const struct {
        const char *name;
        char *advertise;
        const struct config_address *listener;
    } told[] = {
        {"client", config->advertise_client, &config->client},
        {"cluster-client", config->advertise_cluster_client, &config->cluster_client},
        {"peer", config->advertise_peer, &config->peer},
    };
    for (uint32_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        if (fill_advertise(told[i].advertise, told[i].listener, alone)) continue;
        (void)snprintf(
            message, CONFIG_MESSAGE_SIZE,
            "advertise-%s: it is needed because %s listens on all addresses; it takes %s",
            told[i].name, told[i].name, ADVERTISE_VALUES);
        return ERR_INVALID;
    }
    return OK;
}

/* ---- while the node runs -------------------------------------------------------------------------------- */

uint32_t config_find(struct slice name)
{
    uint32_t at = 0;
    while (at < ROW_COUNT && !slice_equal_fold(name, rows[at].option.name)) at++;
    return at;
}

enum err config_change(struct config *config, uint32_t at, struct slice value, char *message)
{
    CHECK(at < ROW_COUNT);
    CHECK(rows[at].option.is_live);
    /* Words in any case, as Redis takes them here; letters of events mean different things. */
    char word[16] = {0};
    if (rows[at].kind != KIND_EVENTS && value.size < sizeof word) {
        for (uint64_t i = 0; i < value.size; i++) {
            const uint8_t byte = value.data[i];
            word[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
        }
        value.data = (const uint8_t *)word;
    }
    return config_set_slice(config, slice_text(rows[at].option.name), value, message);
}

enum err config_related(const struct config *config, char *message)
{
    const char *relation = bad_relation(config);
    if (relation == NULL) return OK;
    (void)snprintf(message, CONFIG_MESSAGE_SIZE, "%s", relation);
    return ERR_INVALID;
}

static uint64_t field_size(enum kind kind)
{
    switch (kind) {
    case KIND_MS:
    case KIND_COUNT:
    case KIND_SIZE: return sizeof(uint64_t);
    case KIND_FLAG: return sizeof(bool);
    case KIND_READS: return sizeof(enum config_reads);
    case KIND_EVENTS: return sizeof(uint32_t);
    case KIND_LOG_LEVEL: return sizeof(enum config_log_level);
    default: return 0;
    }
}

void config_take_live(struct config *config, const struct config *fresh)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        const uint64_t size = field_size(rows[i].kind);
        if (!rows[i].option.is_live) continue;
        CHECK(size > 0);
        memcpy((uint8_t *)config + rows[i].offset, (const uint8_t *)fresh + rows[i].offset, size);
    }
}

/* ---- the table ------------------------------------------------------------------------------------------ */

const struct config_option *config_option(uint32_t at)
{
    return at < ROW_COUNT ? &rows[at].option : NULL;
}

static void get_size(struct buf *out, uint64_t size)
{
    const uint64_t kib = size >> 10;
    if (size == 0 || size % KIB != 0) {
        buf_printf(out, "%llu", (unsigned long long)size);
    } else if (kib % KIB != 0) {
        buf_printf(out, "%llukb", (unsigned long long)kib);
    } else if ((kib >> 10) % KIB != 0) {
        buf_printf(out, "%llumb", (unsigned long long)(kib >> 10));
    } else {
        buf_printf(out, "%llugb", (unsigned long long)(kib >> 20));
    }
}

void config_get(const struct config *config, const char *option, struct buf *out)
{
    const struct row *row = find_row(slice_text(option));
    if (row == NULL) return;
    const void *field = (const uint8_t *)config + row->offset;
    const struct config_address *address = field;
    switch (row->kind) {
    case KIND_NAME:
    case KIND_PATH:
    case KIND_ADVERTISE:
    case KIND_JOIN: buf_text(out, field); return;
    case KIND_LISTENER:
        if (address->host[0] == 0) {
            buf_text(out, "off");
        } else {
            print_address(out, address);
        }
        return;
    case KIND_CLUSTER:
        for (uint32_t i = 0; i < config->member_count; i++) {
            const struct config_member *member = &config->members[i];
            buf_printf(out, "%s%s=%s", i > 0 ? "," : "", member->name, member->address);
        }
        return;
    case KIND_MS:
    case KIND_COUNT: buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)field); return;
    case KIND_SIZE: get_size(out, *(const uint64_t *)field); return;
    case KIND_FLAG: buf_text(out, flag_words[*(const bool *)field ? 1 : 0]); return;
    case KIND_READS: buf_text(out, reads_words[config->reads]); return;
    case KIND_EVENTS: config_events_put(config->notify_events, out); return;
    case KIND_LOG_LEVEL: buf_text(out, level_words[config->log_level]); return;
    case KIND_LOG_FORMAT: buf_text(out, format_words[config->log_json ? 1 : 0]); return;
    }
    UNREACHABLE();
}
