/* cmd_command.c - COMMAND: what the command table and manual.h say of the commands, in the shapes of Redis 7.2. */
#include <stdio.h>

#include "node/command.h"
#include "node/getkeys.h"
#include "node/glob.h"
#include "node/manual.h"
#include "node/subcommand.h"
#include "node/syntax.h"
#include "storage/base/check.h"

#define WORDS_MAX 9u
#define NAME_SIZE 64u /* of a command and a subcommand together */

struct words {
    const char *list[WORDS_MAX];
    uint32_t count;
};

static void word_if(struct words *words, bool is_so, const char *word)
{
    if (!is_so) return;
    CHECK(words->count < WORDS_MAX);
    words->list[words->count++] = word;
}

static void put_words(struct eval *eval, const struct words *words)
{
    resp_put_set(eval->out, words->count, eval->protocol);
    for (uint32_t i = 0; i < words->count; i++) resp_put_simple(eval->out, words->list[i]);
}

static bool is_any(const struct command *command, const char *const *names)
{
    for (uint32_t i = 0; names[i] != NULL; i++) {
        if (slice_equal(slice_text(command->name), slice_text(names[i]))) return true;
    }
    return false;
}

static bool is_in_group(const struct command *command, const char *group)
{
    return slice_equal(slice_text(command->group), slice_text(group));
}

/* Words with a space between each. */
static void put_list(struct eval *eval, const char *text)
{
    uint64_t count = text[0] != 0;
    for (const char *at = text; *at != 0; at++) count += *at == ' ';
    resp_put_set(eval->out, count, eval->protocol);
    while (*text != 0) {
        uint64_t size = 0;
        while (text[size] != 0 && text[size] != ' ') size++;
        resp_put_bulk(eval->out, slice_of(text, size));
        text += size + (text[size] == ' ');
    }
}

/* ---- INFO ------------------------------------------------------------------------------------------------- */

static void put_flags(struct eval *eval, const struct command *command)
{
    static const char *const before_auth[] = {"auth", "hello", "quit", "reset", NULL};
    const uint32_t flags = command->flags;
    struct words words = {.count = 0};
    if (subcommand_has(command) && command->arity < -1) { /* Its parts differ in them. */
        put_words(eval, &words);
        return;
    }
    word_if(&words, (flags & CMD_WRITE) != 0, "write");
    word_if(&words, (flags & CMD_WRITE) != 0 && (flags & (CMD_FREES | CMD_EXPIRY)) == 0, "denyoom");
    word_if(&words, (flags & CMD_READ) != 0, "readonly");
    word_if(&words, is_in_group(command, "pubsub"), "pubsub");
    word_if(&words, (flags & CMD_BLOCKS) != 0, "blocking");
    word_if(&words, (flags & CMD_LOCAL) != 0, "loading");
    word_if(&words, (flags & CMD_LOCAL) != 0, "stale");
    word_if(&words, (flags & CMD_FAST) != 0, "fast");
    word_if(&words, is_any(command, before_auth), "no_auth");
    word_if(&words, getkeys_moves(command), "movablekeys");
    put_words(eval, &words);
}

static struct words categories_of(const struct command *command, const struct subcommand *part)
{
    static const char *const dangerous[] = {"flushall", "flushdb", "info", "keys",
                                            "role",     "swapdb",  NULL};
    static const char *const admin[] = {"kv.compact", "kv.transfer", "role", NULL};
    static const char *const keyspace[] = {"dbsize", "flushall", "flushdb", "swapdb", NULL};
    static const char *const connection[] = {"asking", "command", "readonly", "readwrite",
                                             "wait",   "waitaof", NULL};
    static const struct {
        const char *group;
        const char *category;
    } groups[] = {{"string", "@string"},
                  {"generic", "@keyspace"},
                  {"pubsub", "@pubsub"},
                  {"connection", "@connection"},
                  {"kv", "@kv"},
                  {"scripting", "@scripting"},
                  {"transactions", "@transaction"}};
    const uint32_t flags = command->flags;
    const bool is_container = part == NULL && subcommand_has(command);
    const bool is_connection = is_any(command, connection);
    const bool is_help = part != NULL && strcmp(part->name, "help") == 0;
    const bool is_mine = !is_container || is_connection;
    struct words words = {.count = 0};
    if (is_connection) word_if(&words, true, "@connection");
    for (uint32_t i = 0; i < sizeof groups / sizeof groups[0] && is_mine && !is_connection; i++) {
        if (is_help && is_in_group(command, "pubsub")) continue;
        word_if(&words, is_in_group(command, groups[i].group), groups[i].category);
    }
    word_if(&words, is_any(command, keyspace), "@keyspace");
    if (part == NULL && !is_container) {
        word_if(&words, (flags & CMD_WRITE) != 0, "@write");
        word_if(&words, (flags & CMD_READ) != 0 && (flags & CMD_BLOCKS) == 0, "@read");
        word_if(&words, (flags & CMD_BLOCKS) != 0, "@blocking");
    }
    const bool is_admin = part != NULL ? (part->flags & SUBCOMMAND_ADMIN) != 0
                                       : is_any(command, admin);
    word_if(&words, part != NULL && (part->flags & SUBCOMMAND_KEY) != 0, "@read");
    word_if(&words, is_admin, "@admin");
    word_if(&words, (part != NULL && is_admin) || is_any(command, dangerous), "@dangerous");
    const bool is_fast = part == NULL && !is_container && (flags & CMD_FAST) != 0;
    word_if(&words, true, is_fast ? "@fast" : "@slow");
    return words;
}

/* What becomes of the keys: of the first one, or of the others if @is_other. */
static struct words key_flags(const struct command *command, bool is_other)
{
    static const char *const removes[] = {"del", "unlink", "delifeq", "delex", "kv.unlock", NULL};
    static const char *const replaces[] = {"mset", "setex", "psetex", NULL};
    static const char *const inserts[] = {"setnx", "msetnx", NULL};
    static const char *const takes[] = {"rename", "renamenx", "getdel", NULL};
    static const char *const asks[] = {"exists", "memory", "object", "strlen",
                                       "touch",  "type",   "watch",  NULL};
    const bool is_append = is_any(command, (const char *const[]){"append", NULL});
    const bool is_copy = is_any(command, (const char *const[]){"copy", NULL});
    const bool is_new = is_any(command, (const char *const[]){"renamenx", NULL});
    const bool tells = is_any(command, (const char *const[]){"getex", NULL}) ||
                       getkeys_counts(command) || command->key_first == 0;
    const bool is_blind = is_any(command, (const char *const[]){"setrange", NULL}) ||
                          ((command->flags & CMD_EXPIRY) != 0 && !tells);
    const bool is_remove = is_any(command, removes);
    const bool is_replace = is_any(command, replaces);
    const bool is_insert = is_any(command, inserts);
    const bool is_take = is_any(command, takes);
    struct words words = {.count = 0};
    if (is_other) {
        word_if(&words, true, "OW");
        word_if(&words, true, is_new ? "insert" : "update");
    } else if ((command->flags & CMD_WRITE) == 0 || is_copy) {
        word_if(&words, true, "RO");
        word_if(&words, !is_any(command, asks), "access");
    } else {
        word_if(&words, true, is_remove ? "RM" : is_replace || is_insert ? "OW" : "RW");
        word_if(&words, !is_remove && !is_replace && !is_insert && !is_append && !is_blind,
                "access");
        word_if(&words, is_remove || is_take, "delete");
        word_if(&words, is_insert || is_append, "insert");
        word_if(&words, !is_remove && !is_take && !is_insert && !is_append, "update");
    }
    word_if(&words, is_any(command, (const char *const[]){"set", NULL}), "variable_flags");
    return words;
}

static void put_pair(struct eval *eval, const char *name, int64_t value)
{
    resp_put_text(eval->out, name);
    resp_put_int(eval->out, value);
}

enum spec { SPEC_RANGE, SPEC_COUNTED, SPEC_UNKNOWN };

/* How a part of a specification of keys begins: its type, and how many pairs follow. */
static void put_spec_type(struct eval *eval, const char *name, const char *type, uint64_t pairs)
{
    resp_put_text(eval->out, name);
    resp_put_map(eval->out, 2, eval->protocol);
    resp_put_text(eval->out, "type");
    resp_put_text(eval->out, type);
    resp_put_text(eval->out, "spec");
    resp_put_map(eval->out, pairs, eval->protocol);
}

static void put_key_spec(struct eval *eval, const struct command *command, enum spec spec,
                         int64_t first, int64_t last, bool is_other)
{
    const struct words flags = key_flags(command, is_other);
    resp_put_map(eval->out, 3, eval->protocol);
    resp_put_text(eval->out, "flags");
    put_words(eval, &flags);
    if (spec == SPEC_UNKNOWN) {
        put_spec_type(eval, "begin_search", "unknown", 0);
        put_spec_type(eval, "find_keys", "unknown", 0);
        return;
    }
    put_spec_type(eval, "begin_search", "index", 1);
    put_pair(eval, "index", first);
    put_spec_type(eval, "find_keys", spec == SPEC_COUNTED ? "keynum" : "range", 3);
    if (spec == SPEC_COUNTED) {
        put_pair(eval, "keynumidx", 0);
        put_pair(eval, "firstkey", 1);
        put_pair(eval, "keystep", 1);
    } else {
        put_pair(eval, "lastkey", last < 0 ? last : last - first);
        put_pair(eval, "keystep", command->key_step);
        put_pair(eval, "limit", 0);
    }
}

static void put_key_specs(struct eval *eval, const struct command *command)
{
    const bool is_pair = command->key_first == 1 && command->key_last == 2;
    const bool is_counted = getkeys_counts(command);
    if (getkeys_moves(command)) {
        resp_put_array(eval->out, 1);
        put_key_spec(eval, command, is_counted ? SPEC_COUNTED : SPEC_UNKNOWN, 2, 2, false);
    } else if (command->key_first == 0) {
        resp_put_array(eval->out, 0);
    } else if (is_pair) {
        resp_put_array(eval->out, 2);
        put_key_spec(eval, command, SPEC_RANGE, 1, 1, false);
        put_key_spec(eval, command, SPEC_RANGE, 2, 2, true);
    } else {
        resp_put_array(eval->out, 1);
        put_key_spec(eval, command, SPEC_RANGE, command->key_first, command->key_last, false);
    }
}

/* What clients and proxies that know several shards do with it, in Redis' words. */
static const char *tips_of(const struct command *command)
{
    static const struct {
        const char *tips;
        const char *names[6];
    } rows[] = {
        {"nondeterministic_output", {"pttl", "time", "ttl", NULL}},
        {"nondeterministic_output_order", {"command", NULL}},
        {"nondeterministic_output request_policy:all_shards response_policy:special",
         {"info", NULL}},
        {"nondeterministic_output request_policy:special response_policy:special", {"scan", NULL}},
        {"request_policy:all_shards nondeterministic_output_order", {"keys", NULL}},
        {"request_policy:all_shards response_policy:agg_min", {"wait", "waitaof", NULL}},
        {"request_policy:all_shards response_policy:agg_sum", {"dbsize", NULL}},
        {"request_policy:all_shards response_policy:all_succeeded",
         {"flushall", "flushdb", "ping", NULL}},
        {"request_policy:all_shards response_policy:special nondeterministic_output",
         {"randomkey", NULL}},
        {"request_policy:multi_shard", {"mget", NULL}},
        {"request_policy:multi_shard response_policy:agg_sum",
         {"del", "exists", "touch", "unlink", NULL}},
        {"request_policy:multi_shard response_policy:all_succeeded", {"mset", NULL}},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (is_any(command, rows[i].names)) return rows[i].tips;
    }
    return "";
}

static const char *full_name(const struct subcommand *part, char name[NAME_SIZE])
{
    const int size = snprintf(name, NAME_SIZE, "%s|%s", part->container, part->name);
    CHECK(size > 0 && size < (int)NAME_SIZE);
    return name;
}

static void put_subcommand(struct eval *eval, const struct command *command,
                           const struct subcommand *part)
{
    char name[NAME_SIZE];
    const bool has_key = (part->flags & SUBCOMMAND_KEY) != 0;
    const bool is_local = (command->flags & CMD_LOCAL) != 0 || strcmp(part->name, "help") == 0;
    const struct words categories = categories_of(command, part);
    struct words flags = {.count = 0};
    word_if(&flags, has_key, "readonly");
    word_if(&flags, (part->flags & SUBCOMMAND_ADMIN) != 0, "admin");
    word_if(&flags, is_in_group(command, "pubsub") && strcmp(part->name, "help") != 0, "pubsub");
    word_if(&flags, is_local, "loading");
    word_if(&flags, is_local, "stale");
    resp_put_array(eval->out, 10);
    resp_put_text(eval->out, full_name(part, name));
    resp_put_int(eval->out, part->arity);
    put_words(eval, &flags);
    resp_put_int(eval->out, has_key ? 2 : 0);
    resp_put_int(eval->out, has_key ? 2 : 0);
    resp_put_int(eval->out, has_key ? 1 : 0);
    put_words(eval, &categories);
    put_list(eval, part->tips);
    resp_put_array(eval->out, has_key ? 1 : 0);
    if (has_key) put_key_spec(eval, command, SPEC_RANGE, 2, 2, false);
    resp_put_array(eval->out, 0);
}

/* The next one that is listed, from *@at on; NULL: there is none. */
static const struct subcommand *next_listed(const struct command *command, uint32_t *at)
{
    const struct subcommand *part = NULL;
    while ((part = subcommand_at(command, *at)) != NULL) {
        *at += 1;
        if ((part->flags & SUBCOMMAND_REFUSED) == 0) return part;
    }
    return NULL;
}

static uint32_t count_listed(const struct command *command)
{
    uint32_t count = 0;
    for (uint32_t at = 0; next_listed(command, &at) != NULL;) count++;
    return count;
}

static void put_command(struct eval *eval, const struct command *command)
{
    const struct subcommand *part = NULL;
    const bool is_container = subcommand_has(command);
    const struct words categories = categories_of(command, NULL);
    resp_put_array(eval->out, 10);
    resp_put_text(eval->out, command->name);
    resp_put_int(eval->out, command->arity);
    put_flags(eval, command);
    resp_put_int(eval->out, is_container ? 0 : command->key_first);
    resp_put_int(eval->out, is_container ? 0 : command->key_last);
    resp_put_int(eval->out, is_container ? 0 : command->key_step);
    put_words(eval, &categories);
    put_list(eval, tips_of(command));
    if (is_container) {
        resp_put_array(eval->out, 0);
    } else {
        put_key_specs(eval, command);
    }
    resp_put_array(eval->out, count_listed(command));
    for (uint32_t at = 0; (part = next_listed(command, &at)) != NULL;) {
        put_subcommand(eval, command, part);
    }
}

/* A command, or a subcommand as in config|get: then *@part is set. NULL: nobody can send such a one. */
static const struct command *find_listed(struct slice name, const struct subcommand **part)
{
    const uint8_t *bar = name.size > 0 ? memchr(name.data, '|', name.size) : NULL;
    const uint64_t size = bar == NULL ? name.size : (uint64_t)(bar - name.data);
    const struct command *command = command_find(slice_of(name.data, size));
    *part = NULL;
    if (command == NULL || command->syntax[0] == 0) return NULL;
    if (bar == NULL) return command;
    *part = subcommand_find(command, slice_of(bar + 1, name.size - size - 1));
    return *part == NULL || ((*part)->flags & SUBCOMMAND_REFUSED) != 0 ? NULL : command;
}

static void command_info(struct eval *eval)
{
    const uint32_t all = eval->count <= 2 ? command_count() : eval->count - 2;
    resp_put_array(eval->out, all);
    for (uint32_t i = 0; i < all; i++) {
        const struct subcommand *part = NULL;
        const struct command *command = eval->count <= 2 ? command_at(i)
                                                         : find_listed(eval->args[i + 2], &part);
        if (command == NULL) {
            resp_put_null(eval->out, eval->protocol);
        } else if (part != NULL) {
            put_subcommand(eval, command, part);
        } else {
            put_command(eval, command);
        }
    }
}

/* ---- DOCS ------------------------------------------------------------------------------------------------- */

static void put_lower(struct eval *eval, struct slice text)
{
    char lower[64];
    const uint64_t size = text.size < sizeof lower ? text.size : sizeof lower;
    for (uint64_t i = 0; i < size; i++) {
        const uint8_t byte = text.data[i];
        lower[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
    }
    resp_put_bulk(eval->out, slice_of(lower, size));
}

static void put_argument(struct eval *eval, const struct syntax *syntax, uint32_t at)
{
    const struct syntax_node *node = &syntax->nodes[at];
    const bool has_flags = node->is_optional || node->is_multiple;
    struct words flags = {.count = 0};
    resp_put_map(eval->out,
                 2u + (node->kind == SYNTAX_VALUE) + (node->token.size > 0) + has_flags +
                     (node->first != 0),
                 eval->protocol);
    resp_put_text(eval->out, "name");
    if (node->kind == SYNTAX_VALUE) {
        resp_put_bulk(eval->out, node->name);
    } else if (node->kind == SYNTAX_TOKEN) {
        put_lower(eval, node->token);
    } else {
        resp_put_text(eval->out, node->kind == SYNTAX_ONEOF ? "choice" : "block");
    }
    resp_put_text(eval->out, "type");
    resp_put_text(eval->out, syntax_type(node));
    if (node->kind == SYNTAX_VALUE) {
        resp_put_text(eval->out, "display_text");
        resp_put_bulk(eval->out, node->name);
    }
    if (node->token.size > 0) {
        resp_put_text(eval->out, "token");
        resp_put_bulk(eval->out, node->token);
    }
    if (has_flags) {
        resp_put_text(eval->out, "flags");
        word_if(&flags, node->is_optional, "optional");
        word_if(&flags, node->is_multiple, "multiple");
        put_words(eval, &flags);
    }
    if (node->first != 0) {
        resp_put_text(eval->out, "arguments");
        resp_put_array(eval->out, syntax_children(syntax, at));
    }
}

static void put_arguments(struct eval *eval, const struct syntax *syntax)
{
    resp_put_text(eval->out, "arguments");
    resp_put_array(eval->out, syntax_children(syntax, 0));
    for (uint32_t at = syntax_next(syntax, 0); at != 0; at = syntax_next(syntax, at)) {
        put_argument(eval, syntax, at);
    }
}

static void put_fields(struct eval *eval, const char *const (*fields)[2], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        resp_put_text(eval->out, fields[i][0]);
        resp_put_text(eval->out, fields[i][1]);
    }
}

static void put_subcommand_docs(struct eval *eval, const struct command *command,
                                const struct subcommand *part)
{
    struct syntax syntax;
    char name[NAME_SIZE];
    CHECK(syntax_parse(part->syntax, &syntax));
    const bool has_arguments = syntax_children(&syntax, 0) > 0;
    const char *const fields[][2] = {
        {"summary", part->summary},
        {"since", part->since},
        {"group", command->group},
        {"complexity", command->complexity},
    };
    const uint32_t count = sizeof fields / sizeof fields[0];
    resp_put_text(eval->out, full_name(part, name));
    resp_put_map(eval->out, count + has_arguments, eval->protocol);
    put_fields(eval, fields, count);
    if (has_arguments) put_arguments(eval, &syntax);
}

static void put_docs(struct eval *eval, const struct command *command)
{
    struct syntax syntax;
    const struct subcommand *part = NULL;
    CHECK(syntax_parse(command->syntax, &syntax));
    const uint32_t parts = count_listed(command);
    const bool has_arguments = parts == 0 && syntax_children(&syntax, 0) > 0;
    const char *differs = manual_differs(command);
    const char *const fields[][2] = {
        {"summary", command->summary},      {"since", command->since},
        {"group", command->group},          {"complexity", command->complexity},
        {"syntax", command->syntax},        {"guarantee", manual_guarantee(command)},
        {"errors", manual_errors(command)}, {"differs", differs},
    };
    const uint32_t count = sizeof fields / sizeof fields[0] - (differs == NULL);
    resp_put_text(eval->out, command->name);
    resp_put_map(eval->out, count + has_arguments + (parts > 0), eval->protocol);
    put_fields(eval, fields, count);
    if (has_arguments) put_arguments(eval, &syntax);
    if (parts == 0) return;
    resp_put_text(eval->out, "subcommands");
    resp_put_map(eval->out, parts, eval->protocol);
    for (uint32_t at = 0; (part = next_listed(command, &at)) != NULL;) {
        put_subcommand_docs(eval, command, part);
    }
}

static void command_docs(struct eval *eval)
{
    uint32_t found = 0;
    const struct subcommand *part = NULL;
    if (eval->count == 2) {
        resp_put_map(eval->out, command_count(), eval->protocol);
        for (uint32_t i = 0; i < command_count(); i++) put_docs(eval, command_at(i));
        return;
    }
    for (uint32_t i = 2; i < eval->count; i++) found += find_listed(eval->args[i], &part) != NULL;
    resp_put_map(eval->out, found, eval->protocol);
    for (uint32_t i = 2; i < eval->count; i++) {
        const struct command *command = find_listed(eval->args[i], &part);
        if (command != NULL && part == NULL) put_docs(eval, command);
        if (command != NULL && part != NULL) put_subcommand_docs(eval, command, part);
    }
}

/* ---- GETKEYS ---------------------------------------------------------------------------------------------- */

static void command_getkeys(struct eval *eval, bool with_flags)
{
    static const struct words looked_at = {.list = {"RO", "access"}, .count = 2};
    struct buf keys = {0};
    const char *error = getkeys_find(eval->args + 2, eval->count - 2, &keys);
    if (error != NULL) {
        eval_error(eval, error);
        buf_close(&keys);
        return;
    }
    resp_put_array(eval->out, keys.size / sizeof(struct getkeys_key));
    for (uint64_t at = 0; at < keys.size; at += sizeof(struct getkeys_key)) {
        struct getkeys_key found;
        memcpy(&found, keys.data + at, sizeof found);
        const struct words flags = found.command == NULL ? looked_at
                                                         : key_flags(found.command, found.is_other);
        if (with_flags) resp_put_array(eval->out, 2);
        resp_put_bulk(eval->out, found.key);
        if (with_flags) put_words(eval, &flags);
    }
    buf_close(&keys);
}

/* ---- LIST --------------------------------------------------------------------------------------------------- */

struct filter {
    bool by_module, by_category, by_pattern;
    struct slice value;
};

static bool passes(const struct filter *filter, const struct command *command,
                   const struct subcommand *part, const char *name)
{
    if (filter->by_module) return false; /* There are no modules. */
    if (filter->by_pattern) return glob_match(filter->value, slice_text(name));
    if (!filter->by_category) return true;
    const struct words words = categories_of(command, part);
    for (uint32_t i = 0; i < words.count; i++) {
        if (slice_equal_fold(filter->value, words.list[i] + 1)) return true;
    }
    return false;
}

/* COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern] */
static void command_list(struct eval *eval)
{
    const bool is_filtered = eval->count == 5 && slice_equal_fold(eval->args[2], "filterby");
    const struct filter filter = {
        .by_module = is_filtered && slice_equal_fold(eval->args[3], "module"),
        .by_category = is_filtered && slice_equal_fold(eval->args[3], "aclcat"),
        .by_pattern = is_filtered && slice_equal_fold(eval->args[3], "pattern"),
        .value = is_filtered ? eval->args[4] : slice_of("", 0),
    };
    struct buf names = {0};
    uint64_t count = 0;
    if (eval->count != 2 && !filter.by_module && !filter.by_category && !filter.by_pattern) {
        eval_syntax_error(eval);
        return;
    }
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        const struct subcommand *part = NULL;
        char name[NAME_SIZE];
        if (passes(&filter, command, NULL, command->name)) {
            resp_put_text(&names, command->name);
            count++;
        }
        for (uint32_t at = 0; (part = next_listed(command, &at)) != NULL;) {
            if (!passes(&filter, command, part, full_name(part, name))) continue;
            resp_put_text(&names, name);
            count++;
        }
    }
    resp_put_array(eval->out, count);
    buf_append(eval->out, names.data, names.size);
    buf_close(&names);
}

void cmd_command(struct eval *eval)
{
    const struct slice sub = eval->count > 1 ? eval->args[1] : slice_text("info");
    if (slice_equal_fold(sub, "count")) {
        resp_put_int(eval->out, command_count());
    } else if (slice_equal_fold(sub, "docs")) {
        command_docs(eval);
    } else if (slice_equal_fold(sub, "getkeys")) {
        command_getkeys(eval, false);
    } else if (slice_equal_fold(sub, "getkeysandflags")) {
        command_getkeys(eval, true);
    } else if (slice_equal_fold(sub, "help")) {
        subcommand_help(eval);
    } else if (slice_equal_fold(sub, "info")) {
        command_info(eval);
    } else {
        command_list(eval);
    }
}
