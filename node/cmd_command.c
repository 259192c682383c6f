/* cmd_command.c - COMMAND: what the command table and manual.h say of the commands, in the shapes of Redis 7.2. */
#include <stdio.h>

#include "node/command.h"
#include "node/glob.h"
#include "node/manual.h"
#include "node/syntax.h"
#include "storage/base/check.h"

#define WORDS_MAX 8u

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

/* Scripts name their keys behind a count of them. */
static bool counts_its_keys(const struct command *command)
{
    static const char *const names[] = {"eval", "eval_ro", "evalsha", "evalsha_ro", NULL};
    return is_any(command, names);
}

/* ---- INFO ------------------------------------------------------------------------------------------------- */

static void put_flags(struct eval *eval, const struct command *command)
{
    static const char *const before_auth[] = {"auth", "hello", "quit", "reset", NULL};
    const uint32_t flags = command->flags;
    struct words words = {.count = 0};
    word_if(&words, (flags & CMD_WRITE) != 0, "write");
    word_if(&words, (flags & CMD_WRITE) != 0 && (flags & (CMD_FREES | CMD_EXPIRY)) == 0, "denyoom");
    word_if(&words, (flags & CMD_READ) != 0, "readonly");
    word_if(&words, is_in_group(command, "pubsub"), "pubsub");
    word_if(&words, (flags & CMD_BLOCKS) != 0, "blocking");
    word_if(&words, (flags & CMD_LOCAL) != 0, "loading");
    word_if(&words, (flags & CMD_LOCAL) != 0, "stale");
    word_if(&words, (flags & CMD_FAST) != 0, "fast");
    if (words.count < WORDS_MAX) word_if(&words, is_any(command, before_auth), "no_auth");
    if (words.count < WORDS_MAX) word_if(&words, counts_its_keys(command), "movablekeys");
    put_words(eval, &words);
}

static struct words categories_of(const struct command *command)
{
    static const char *const dangerous[] = {"config", "flushall", "flushdb", "info",
                                            "keys",   "role",     "swapdb",  NULL};
    static const char *const admin[] = {"config", "kv.compact", "kv.transfer", NULL};
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
    struct words words = {.count = 0};
    for (uint32_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        word_if(&words, is_in_group(command, groups[i].group), groups[i].category);
    }
    word_if(&words, (flags & CMD_WRITE) != 0, "@write");
    word_if(&words, (flags & CMD_READ) != 0, "@read");
    word_if(&words, (flags & CMD_BLOCKS) != 0, "@blocking");
    word_if(&words, is_any(command, admin), "@admin");
    word_if(&words, is_any(command, dangerous), "@dangerous");
    word_if(&words, true, (flags & CMD_FAST) != 0 ? "@fast" : "@slow");
    return words;
}

/* What becomes of the keys: of the first one, or of the others if @is_other. */
static struct words key_flags(const struct command *command, bool is_other)
{
    static const char *const removes[] = {"del", "unlink", "delifeq", "delex", "kv.unlock", NULL};
    static const char *const replaces[] = {"mset", "setex", "psetex", NULL};
    static const char *const inserts[] = {"setnx", "msetnx", NULL};
    static const char *const renames[] = {"rename", "renamenx", "getdel", NULL};
    static const char *const grows[] = {"append", NULL};
    static const char *const copies[] = {"copy", NULL};
    static const char *const asks[] = {"exists", "touch",      "type",        "ttl",
                                       "pttl",   "expiretime", "pexpiretime", "object",
                                       "memory", "strlen",     "watch",       NULL};
    const uint32_t flags = command->flags;
    struct words words = {.count = 0};
    const bool is_remove = is_any(command, removes);
    const bool is_replace = is_any(command, replaces);
    const bool is_insert = is_any(command, inserts);
    const bool is_rename = is_any(command, renames);
    const bool is_copy = is_any(command, copies);
    const bool is_update = (flags & CMD_EXPIRY) != 0 || is_any(command, grows);
    if (is_other && (is_rename || is_copy)) {
        word_if(&words, true, "OW");
        word_if(&words, true, is_rename ? "insert" : "update");
    } else if ((flags & CMD_WRITE) == 0 || is_copy) {
        word_if(&words, true, "RO");
        word_if(&words, !is_any(command, asks), "access");
    } else {
        word_if(&words, true, is_remove ? "RM" : is_replace || is_insert ? "OW" : "RW");
        word_if(&words, !is_remove && !is_replace && !is_insert && !is_update, "access");
        word_if(&words, is_remove || is_rename, "delete");
        word_if(&words, is_insert, "insert");
        word_if(&words, !is_remove && !is_rename && !is_insert, "update");
    }
    return words;
}

static void put_pair(struct eval *eval, const char *name, int64_t value)
{
    resp_put_text(eval->out, name);
    resp_put_int(eval->out, value);
}

static void put_key_spec(struct eval *eval, const struct command *command, int64_t first,
                         int64_t last, bool is_other)
{
    const bool is_counted = counts_its_keys(command);
    const struct words flags = key_flags(command, is_other);
    resp_put_map(eval->out, 3, eval->protocol);
    resp_put_text(eval->out, "flags");
    put_words(eval, &flags);
    resp_put_text(eval->out, "begin_search");
    resp_put_map(eval->out, 2, eval->protocol);
    resp_put_text(eval->out, "type");
    resp_put_text(eval->out, "index");
    resp_put_text(eval->out, "spec");
    resp_put_map(eval->out, 1, eval->protocol);
    put_pair(eval, "index", first);
    resp_put_text(eval->out, "find_keys");
    resp_put_map(eval->out, 2, eval->protocol);
    resp_put_text(eval->out, "type");
    resp_put_text(eval->out, is_counted ? "keynum" : "range");
    resp_put_text(eval->out, "spec");
    resp_put_map(eval->out, 3, eval->protocol);
    if (is_counted) {
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
    if (counts_its_keys(command)) {
        resp_put_array(eval->out, 1);
        put_key_spec(eval, command, 2, 2, false);
    } else if (command->key_first == 0) {
        resp_put_array(eval->out, 0);
    } else if (is_pair) {
        resp_put_array(eval->out, 2);
        put_key_spec(eval, command, 1, 1, false);
        put_key_spec(eval, command, 2, 2, true);
    } else {
        resp_put_array(eval->out, 1);
        put_key_spec(eval, command, command->key_first, command->key_last, false);
    }
}

static void put_command(struct eval *eval, const struct command *command)
{
    if (command == NULL) {
        resp_put_null_array(eval->out, eval->protocol);
        return;
    }
    const struct words categories = categories_of(command);
    resp_put_array(eval->out, 10);
    resp_put_text(eval->out, command->name);
    resp_put_int(eval->out, command->arity);
    put_flags(eval, command);
    resp_put_int(eval->out, command->key_first);
    resp_put_int(eval->out, command->key_last);
    resp_put_int(eval->out, command->key_step);
    put_words(eval, &categories);
    resp_put_array(eval->out, 0); /* tips: there are no other shards to ask */
    put_key_specs(eval, command);
    resp_put_array(eval->out, 0); /* subcommands */
}

/* A name that nobody can send is none. */
static const struct command *find_listed(struct slice name)
{
    const struct command *command = command_find(name);
    return command != NULL && command->syntax[0] != 0 ? command : NULL;
}

static void command_info(struct eval *eval)
{
    const uint32_t all = eval->count <= 2 ? command_count() : eval->count - 2;
    resp_put_array(eval->out, all);
    for (uint32_t i = 0; i < all; i++) {
        put_command(eval, eval->count <= 2 ? command_at(i) : find_listed(eval->args[i + 2]));
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

static void put_docs(struct eval *eval, const struct command *command)
{
    struct syntax syntax;
    CHECK(syntax_parse(command->syntax, &syntax));
    const uint32_t arguments = syntax_children(&syntax, 0);
    const char *differs = manual_differs(command);
    const char *const fields[][2] = {
        {"summary", command->summary},      {"since", command->since},
        {"group", command->group},          {"complexity", command->complexity},
        {"syntax", command->syntax},        {"guarantee", manual_guarantee(command)},
        {"errors", manual_errors(command)},
    };
    const uint32_t count = sizeof fields / sizeof fields[0];
    resp_put_text(eval->out, command->name);
    resp_put_map(eval->out, count + (differs != NULL) + (arguments > 0), eval->protocol);
    for (uint32_t i = 0; i < count; i++) {
        resp_put_text(eval->out, fields[i][0]);
        resp_put_text(eval->out, fields[i][1]);
    }
    if (differs != NULL) {
        resp_put_text(eval->out, "differs");
        resp_put_text(eval->out, differs);
    }
    if (arguments == 0) return;
    resp_put_text(eval->out, "arguments");
    resp_put_array(eval->out, arguments);
    for (uint32_t at = syntax_next(&syntax, 0); at != 0; at = syntax_next(&syntax, at)) {
        put_argument(eval, &syntax, at);
    }
}

static void command_docs(struct eval *eval)
{
    uint32_t found = 0;
    if (eval->count == 2) {
        resp_put_map(eval->out, command_count(), eval->protocol);
        for (uint32_t i = 0; i < command_count(); i++) put_docs(eval, command_at(i));
        return;
    }
    for (uint32_t i = 2; i < eval->count; i++) found += find_listed(eval->args[i]) != NULL;
    resp_put_map(eval->out, found, eval->protocol);
    for (uint32_t i = 2; i < eval->count; i++) {
        const struct command *command = find_listed(eval->args[i]);
        if (command != NULL) put_docs(eval, command);
    }
}

/* ---- GETKEYS ---------------------------------------------------------------------------------------------- */

struct places {
    int64_t first;
    int64_t last;
    int64_t step;
};

/* Where the keys are in the command that begins at args[2]; false: an error was replied. */
static bool find_keys(struct eval *eval, const struct command *command, struct places *places)
{
    const int64_t count = (int64_t)eval->count - 2;
    int64_t keys = 0;
    *places = (struct places){command->key_first, command->key_last, command->key_step};
    if (counts_its_keys(command)) {
        if (!slice_int64(eval->args[4], &keys) || keys < 0 || keys > count - 3) {
            eval_error(eval, "ERR Invalid arguments specified for command");
            return false;
        }
        *places = (struct places){3, 2 + keys, 1};
    } else if (command->key_first == 0) {
        eval_error(eval, "ERR The command has no key arguments");
        return false;
    }
    if (places->last < 0) places->last += count;
    if (places->last >= count) {
        eval_error(eval, "ERR Invalid arguments specified for command");
        return false;
    }
    return true;
}

static void command_getkeys(struct eval *eval, bool with_flags)
{
    const struct command *command = find_listed(eval->args[2]);
    struct places places;
    if (command == NULL) {
        eval_error(eval, "ERR Invalid command specified");
        return;
    }
    if (!command_arity_fits(command, eval->count - 2)) {
        eval_error(eval, "ERR Invalid number of arguments specified for command");
        return;
    }
    if (!find_keys(eval, command, &places)) return;
    const bool is_pair = command->key_first == 1 && command->key_last == 2;
    resp_put_array(eval->out, places.last < places.first
                                  ? 0
                                  : (uint64_t)((places.last - places.first) / places.step + 1));
    for (int64_t at = places.first; at <= places.last; at += places.step) {
        const struct words flags = key_flags(command, is_pair && at == 2);
        if (with_flags) resp_put_array(eval->out, 2);
        resp_put_bulk(eval->out, eval->args[at + 2]);
        if (with_flags) put_words(eval, &flags);
    }
}

/* ---- LIST, HELP --------------------------------------------------------------------------------------------- */

static bool is_in_category(const struct command *command, struct slice category)
{
    const struct words words = categories_of(command);
    for (uint32_t i = 0; i < words.count; i++) {
        if (slice_equal_fold(category, words.list[i] + 1)) return true;
    }
    return false;
}

/* COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern] */
static void command_list(struct eval *eval)
{
    const bool is_filtered = eval->count == 5 && slice_equal_fold(eval->args[2], "filterby");
    const bool by_module = is_filtered && slice_equal_fold(eval->args[3], "module");
    const bool by_category = is_filtered && slice_equal_fold(eval->args[3], "aclcat");
    const bool by_pattern = is_filtered && slice_equal_fold(eval->args[3], "pattern");
    struct buf names = {0};
    uint64_t count = 0;
    if (eval->count != 2 && !by_module && !by_category && !by_pattern) {
        eval_syntax_error(eval);
        return;
    }
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        if (by_module) continue; /* There are no modules. */
        if (by_category && !is_in_category(command, eval->args[4])) continue;
        if (by_pattern && !glob_match(eval->args[4], slice_text(command->name))) continue;
        resp_put_text(&names, command->name);
        count++;
    }
    resp_put_array(eval->out, count);
    buf_append(eval->out, names.data, names.size);
    buf_close(&names);
}

static void command_help(struct eval *eval)
{
    static const char *const lines[] = {
        "COMMAND [<subcommand> [<argument> ...]]. Subcommands are:",
        "(no subcommand)",
        "    Details of all commands.",
        "COUNT",
        "    How many commands there are.",
        "DOCS [<command> ...]",
        "    What commands do, guarantee and take, and where they are not as in Redis.",
        "GETKEYS <command> [<argument> ...]",
        "    The keys among the arguments of a command.",
        "GETKEYSANDFLAGS <command> [<argument> ...]",
        "    The same, and what becomes of them.",
        "INFO [<command> ...]",
        "    Details of commands.",
        "LIST [FILTERBY (MODULE <name> | ACLCAT <category> | PATTERN <pattern>)]",
        "    Names of commands.",
        "HELP",
        "    This text."};
    const uint32_t count = sizeof lines / sizeof lines[0];
    resp_put_array(eval->out, count);
    for (uint32_t i = 0; i < count; i++) resp_put_simple(eval->out, lines[i]);
}

void cmd_command(struct eval *eval)
{
    static const struct {
        const char *name;
        int8_t arity;
    } subs[] = {{"count", 2}, {"docs", -2}, {"getkeys", -4}, {"getkeysandflags", -4},
                {"help", 2},  {"info", -2}, {"list", -2}};
    const uint32_t subs_count = sizeof subs / sizeof subs[0];
    char text[128];
    uint32_t at = 0;
    if (eval->count == 1) {
        command_info(eval);
        return;
    }
    const struct slice sub = eval->args[1];
    while (at < subs_count && !slice_equal_fold(sub, subs[at].name)) at++;
    if (at == subs_count) {
        (void)snprintf(text, sizeof text, "ERR unknown subcommand '%.*s'. Try COMMAND HELP.",
                       sub.size < 64 ? (int)sub.size : 64, (const char *)sub.data);
        eval_error(eval, text);
        return;
    }
    if (subs[at].arity > 0 ? eval->count != (uint32_t)subs[at].arity
                           : eval->count < (uint32_t)-subs[at].arity) {
        (void)snprintf(text, sizeof text, "ERR wrong number of arguments for 'command|%s' command",
                       subs[at].name);
        eval_error(eval, text);
        return;
    }
    switch (at) {
    case 0: resp_put_int(eval->out, command_count()); break;
    case 1: command_docs(eval); break;
    case 2: command_getkeys(eval, false); break;
    case 3: command_getkeys(eval, true); break;
    case 4: command_help(eval); break;
    case 5: command_info(eval); break;
    default: command_list(eval);
    }
}
