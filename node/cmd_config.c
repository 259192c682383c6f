/* cmd_config.c - CONFIG: the options of this node and what else bounds its clients. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"
#include "node/glob.h"
#include "node/subcommand.h"
#include "node/txn.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"

#define OPTIONS_MAX 64u
#define VALUE_SIZE 32u

/* ---- Redis' own names --------------------------------------------------------------------------------------- */

/* Options of Redis that clients and tools ask for, with what is true here. Each may be set to what it is. */
static const struct {
    const char *name;
    const char *value;
} redis_options[] = {{"appendfsync", "always"},
                     {"appendonly", "yes"},
                     {"databases", "1"},
                     {"maxmemory", "0"},
                     {"maxmemory-policy", "noeviction"},
                     {"replica-read-only", "yes"},
                     {"save", ""},
                     {"slave-read-only", "yes"}};
#define REDIS_OPTIONS ((uint32_t)(sizeof redis_options / sizeof redis_options[0]))

/* Options that have another name, or another unit, in Redis. */
enum alias { ALIAS_MAXCLIENTS, ALIAS_TIMEOUT, ALIAS_COUNT };
static const struct {
    const char *name;
    const char *option;
    uint64_t unit;
} aliases[ALIAS_COUNT] = {
    [ALIAS_MAXCLIENTS] = {"maxclients", "max-connections", 1},
    [ALIAS_TIMEOUT] = {"timeout", "idle-timeout", 1000},
};

/* What is no option but bounds clients: shown beside the options, so that errors are no surprise. */
static const struct {
    const char *name;
    uint64_t value;
} limits[] = {
    {"limit-arguments", COMMAND_ARGS_MAX},     {"limit-channel-bytes", PUBSUB_CHANNEL_SIZE_MAX},
    {"limit-changes", COMMAND_EFFECTS_MAX},    {"limit-changes-bytes", COMMAND_SIZE_MAX},
    {"limit-command-bytes", REQUEST_SIZE_MAX}, {"limit-key-bytes", KEY_SIZE_MAX},
    {"limit-message-bytes", PUBLISH_SIZE_MAX}, {"limit-pattern-bytes", PATTERN_SIZE_MAX},
    {"limit-pipeline", SESSION_PIPELINE_MAX},  {"limit-subscriptions", PUBSUB_SESSION_MAX},
    {"limit-transaction-bytes", TXN_SIZE_MAX}, {"limit-transaction-commands", TXN_COMMANDS_MAX},
    {"limit-value-bytes", VALUE_SIZE_MAX},     {"limit-watched-keys", TXN_WATCHES_MAX}};
#define LIMITS ((uint32_t)(sizeof limits / sizeof limits[0]))

/* ---- GET ---------------------------------------------------------------------------------------------------- */

static bool is_wanted(const struct eval *eval, const char *name)
{
    for (uint32_t i = 2; i < eval->count; i++) {
        if (glob_match(eval->args[i], slice_text(name))) return true;
    }
    return false;
}

static uint32_t get_text(const struct eval *eval, struct buf *pairs, const char *name,
                         struct slice value)
{
    if (!is_wanted(eval, name)) return 0;
    resp_put_text(pairs, name);
    resp_put_bulk(pairs, value);
    return 1;
}

static uint32_t get_number(const struct eval *eval, struct buf *pairs, const char *name,
                           uint64_t value)
{
    char text[VALUE_SIZE];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    return get_text(eval, pairs, name, slice_text(text));
}

static void config_get_options(struct eval *eval)
{
    const struct core *core = eval->core;
    struct buf pairs = {0};
    uint64_t count = 0;
    for (uint32_t i = 0; i < REDIS_OPTIONS; i++) {
        count += get_text(eval, &pairs, redis_options[i].name, slice_text(redis_options[i].value));
    }
    count += get_number(eval, &pairs, "maxclients", core_connections_max(core));
    count += get_number(eval, &pairs, "timeout", core->config->idle_timeout_ms / 1000);
    for (uint32_t i = 0; i < LIMITS; i++) {
        count += get_number(eval, &pairs, limits[i].name, limits[i].value);
    }
    for (uint32_t i = 0; config_option(i) != NULL; i++) {
        struct buf value = {0};
        config_get(core->config, config_option(i)->name, &value);
        count += get_text(eval, &pairs, config_option(i)->name, buf_slice(&value));
        buf_close(&value);
    }
    resp_put_map(eval->out, count, eval->protocol);
    buf_append(eval->out, pairs.data, pairs.size);
    buf_close(&pairs);
}

/* ---- SET ---------------------------------------------------------------------------------------------------- */

/* What CONFIG SET was asked for, until all of it is known to be right. */
struct settings {
    struct config config;
    bool is_set[OPTIONS_MAX];
};

static void refuse(struct eval *eval, struct slice name, const char *why)
{
    char text[CONFIG_MESSAGE_SIZE + 160];
    (void)snprintf(text, sizeof text,
                   "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s",
                   name.size < 64 ? (int)name.size : 64, (const char *)name.data, why);
    eval_error(eval, text);
}

/* An option under Redis' name for it: @name and @value become ours. False: an error was replied. */
static bool translate(struct eval *eval, struct slice *name, struct slice *value,
                      char room[VALUE_SIZE])
{
    int64_t number = 0;
    const struct slice given = *name;
    uint32_t at = 0;
    while (at < ALIAS_COUNT && !slice_equal_fold(given, aliases[at].name)) at++;
    if (at == ALIAS_COUNT) return true;
    if (!slice_int64(*value, &number) || number < 0 || number > INT32_MAX) {
        refuse(eval, given, "argument must be a number that is not negative");
        return false;
    }
    (void)snprintf(room, VALUE_SIZE, "%" PRIu64, (uint64_t)number * aliases[at].unit);
    *name = slice_text(aliases[at].option);
    *value = slice_text(room);
    return true;
}

/* What is no option of ours, or none that changes. */
static void refuse_fixed(struct eval *eval, struct slice name, bool is_limit)
{
    refuse(eval, name,
           is_limit ? "can't set immutable config: it is the same on every node"
                    : "can't set immutable config: set it in the options of the node, which are "
                      "read when it starts");
}

/* True: it is one of Redis' names, or a limit, and was dealt with; an error sets *@ok to false. */
static bool is_constant(struct eval *eval, struct slice name, struct slice value, bool *ok)
{
    for (uint32_t i = 0; i < REDIS_OPTIONS; i++) {
        if (!slice_equal_fold(name, redis_options[i].name)) continue;
        *ok = slice_equal_fold(value, redis_options[i].value);
        if (!*ok) refuse(eval, name, "can't set immutable config: it cannot be otherwise here");
        return true;
    }
    for (uint32_t i = 0; i < LIMITS; i++) {
        if (!slice_equal_fold(name, limits[i].name)) continue;
        refuse_fixed(eval, name, true);
        *ok = false;
        return true;
    }
    return false;
}

static bool set_option(struct eval *eval, struct slice name, struct slice value,
                       struct settings *settings)
{
    char text[CONFIG_MESSAGE_SIZE];
    const uint32_t at = config_find(name);
    CHECK(at < OPTIONS_MAX);
    if (!config_option(at)->is_live) {
        refuse_fixed(eval, name, false);
        return false;
    }
    if (settings->is_set[at]) {
        refuse(eval, name, "duplicate parameter");
        return false;
    }
    settings->is_set[at] = true;
    if (config_change(&settings->config, at, value, text) != OK) {
        const bool is_events = slice_equal(slice_text(config_option(at)->name),
                                           slice_text("notify-keyspace-events"));
        refuse(eval, name,
               is_events ? "Invalid event class character. Use 'Ag$lshzxeKEtmdn'." : text);
        return false;
    }
    return true;
}

/* One pair; false: an error was replied. */
static bool set_one(struct eval *eval, struct slice name, struct slice value,
                    struct settings *settings)
{
    char room[VALUE_SIZE];
    char text[160];
    bool ok = true;
    if (is_constant(eval, name, value, &ok)) return ok;
    if (!translate(eval, &name, &value, room)) return false;
    if (config_option(config_find(name)) != NULL) return set_option(eval, name, value, settings);
    (void)snprintf(text, sizeof text,
                   "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                   name.size < 64 ? (int)name.size : 64, (const char *)name.data);
    eval_error(eval, text);
    return false;
}

/* Whether the machine lets us have so many connections; false: an error was replied. */
static bool has_room(struct eval *eval, const struct config *config)
{
    char text[160];
    const struct core *core = eval->core;
    if (config->max_connections <= core->connection_room) return true;
    if (config->max_connections <= core->config->max_connections) return true;
    (void)snprintf(text, sizeof text,
                   "the limit of open files lets this node take %" PRIu64 " connections",
                   core->connection_room);
    refuse(eval, slice_text("max-connections"), text);
    return false;
}

/* All of the pairs or none. The change is this node's own and ends with it. */
static void config_set_options(struct eval *eval)
{
    struct core *core = eval->core;
    struct settings *settings = mem_zero(sizeof *settings);
    char text[CONFIG_MESSAGE_SIZE];
    bool ok = true;
    settings->config = *core->config;
    for (uint32_t i = 2; ok && i < eval->count; i += 2) {
        ok = set_one(eval, eval->args[i], eval->args[i + 1], settings);
    }
    ok = ok && has_room(eval, &settings->config);
    if (ok && config_related(&settings->config, text) != OK) {
        refuse(eval, eval->args[2], text);
        ok = false;
    }
    if (ok) {
        config_take_live(core->config, &settings->config);
        core_reconfigured(core);
        core_log(core, 1, "options changed by a client: %u", (eval->count - 2) / 2);
        eval_ok(eval);
    }
    mem_free(settings);
}

void cmd_config(struct eval *eval)
{
    const struct slice sub = eval->args[1];
    if (slice_equal_fold(sub, "help")) {
        subcommand_help(eval);
    } else if (slice_equal_fold(sub, "get")) {
        config_get_options(eval);
    } else if (eval->count % 2 == 0) {
        config_set_options(eval);
    } else {
        eval_error(eval, "ERR wrong number of arguments for 'config|set' command");
    }
}
