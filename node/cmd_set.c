/* cmd_set.c - commands that set whole values. */
#include <stdio.h>

#include "node/cmd_string.h"
#include "node/command.h"
#include "node/shard.h"
#include "storage/base/limits.h"

enum expiry_kind { EXPIRY_NONE, EXPIRY_EX, EXPIRY_PX, EXPIRY_EXAT, EXPIRY_PXAT };

struct set_options {
    bool if_absent, if_present, get, keep_ttl, persist, if_revision;
    enum expiry_kind expiry_kind;
    uint32_t expiry_at; /* the argument that says when */
    uint64_t expiry_ms;
    uint64_t revision;
    struct cmd_condition condition;
};

/* A time argument, relative or absolute, in seconds or milliseconds, as absolute milliseconds. */
static bool set_expiry(struct eval *eval, struct set_options *options)
{
    int64_t value = 0;
    const enum expiry_kind kind = options->expiry_kind;
    const bool is_seconds = kind == EXPIRY_EX || kind == EXPIRY_EXAT;
    const bool is_relative = kind == EXPIRY_EX || kind == EXPIRY_PX;
    if (kind == EXPIRY_NONE) return true;
    if (!eval_int(eval, options->expiry_at, &value)) return false;
    const bool bad = value <= 0 || (is_seconds && __builtin_mul_overflow(value, 1000, &value)) ||
                     (is_relative && __builtin_add_overflow(value, (int64_t)eval->now_ms, &value));
    if (bad) {
        char text[64];
        (void)snprintf(text, sizeof text, "ERR invalid expire time in '%s' command",
                       eval->command->name);
        eval_error(eval, text);
        return false;
    }
    options->expiry_ms = (uint64_t)value;
    return true;
}

static enum expiry_kind expiry_named(struct slice word)
{
    if (slice_equal_fold(word, "ex")) return EXPIRY_EX;
    if (slice_equal_fold(word, "px")) return EXPIRY_PX;
    if (slice_equal_fold(word, "exat")) return EXPIRY_EXAT;
    if (slice_equal_fold(word, "pxat")) return EXPIRY_PXAT;
    return EXPIRY_NONE;
}

/* EX and its like at @at. As in Redis the same one may come again: the last one counts. */
static bool expiry_option(struct eval *eval, uint32_t at, struct set_options *options)
{
    const enum expiry_kind kind = expiry_named(eval->args[at]);
    if (kind == EXPIRY_NONE || at + 1 >= eval->count) return false;
    if (options->keep_ttl || options->persist) return false;
    if (options->expiry_kind != EXPIRY_NONE && options->expiry_kind != kind) return false;
    options->expiry_kind = kind;
    options->expiry_at = at + 1;
    return true;
}

/* Whether SET has a condition other than NX (or XX). */
static bool has_other(const struct set_options *options, bool beside_nx)
{
    return (beside_nx ? options->if_present : options->if_absent) || options->if_revision ||
           options->condition.kind != CMD_IF_NONE;
}

/* One option of SET at @at; @used receives how many arguments it took. False: an error was replied. */
static bool set_option(struct eval *eval, uint32_t at, struct set_options *options, uint32_t *used)
{
    const struct slice arg = eval->args[at];
    const bool has_next = at + 1 < eval->count;
    struct cmd_condition condition = {0};
    *used = 1;
    if (slice_equal_fold(arg, "nx") && !has_other(options, true)) return options->if_absent = true;
    if (slice_equal_fold(arg, "xx") && !has_other(options, false)) {
        return options->if_present = true;
    }
    if (slice_equal_fold(arg, "get")) return options->get = true;
    if (slice_equal_fold(arg, "keepttl") && options->expiry_kind == EXPIRY_NONE) {
        return options->keep_ttl = true;
    }
    *used = 2;
    const bool is_free = !options->if_absent && !options->if_present &&
                         options->condition.kind == CMD_IF_NONE;
    if (slice_equal_fold(arg, "ifrev") && has_next && is_free) {
        int64_t revision = 0;
        if (!eval_int(eval, at + 1, &revision)) return false;
        options->if_revision = true;
        options->revision = (uint64_t)revision;
        return true;
    }
    if (cmd_condition_named(&condition, arg) && has_next && is_free && !options->if_revision) {
        condition.wanted = eval->args[at + 1];
        options->condition = condition;
        return true;
    }
    if (expiry_option(eval, at, options)) return true;
    eval_syntax_error(eval);
    return false;
}

static bool set_options(struct eval *eval, struct set_options *options)
{
    uint32_t used = 0;
    for (uint32_t at = 3; at < eval->count; at += used) {
        if (!set_option(eval, at, options, &used)) return false;
    }
    return set_expiry(eval, options) && cmd_condition_valid(eval, &options->condition);
}

static bool set_holds(const struct set_options *options, const struct item *item)
{
    if (options->if_absent && item->exists) return false;
    if (options->if_present && !item->exists) return false;
    if (!options->if_revision) return true;
    /* A key that is changed in flight has no revision yet: the condition, which names an older one, fails. */
    if (options->revision == 0) return !item->exists;
    return item->exists && item->revision == options->revision;
}

void cmd_set(struct eval *eval)
{
    struct set_options options = {0};
    bool holds = false;
    if (!set_options(eval, &options)) return;
    if (!eval_value_fits(eval, eval->args[2].size)) return;
    struct item item = eval_find(eval, eval->args[1]);
    if (!cmd_condition_check(eval, &item, &options.condition, &holds)) return;
    holds = holds && set_holds(&options, &item);
    if (options.get) {
        /* Before the put: the old value may live in the batch. */
        if (!cmd_reply_value(eval, &item)) return;
    } else if (!holds) {
        resp_put_null(eval->out, eval->protocol);
    } else {
        eval_ok(eval);
    }
    if (!holds) return;
    if (options.expiry_kind != EXPIRY_NONE && options.expiry_ms <= eval->now_ms) {
        /* As in Redis a time that is past already leaves no key behind. */
        if (item.exists) eval_delete(eval, eval->args[1], &item);
        return;
    }
    eval_put(eval, eval->args[1], eval->args[2],
             options.keep_ttl ? item.expiry_ms : options.expiry_ms, &item);
}

static void set_for(struct eval *eval, enum expiry_kind kind)
{
    struct set_options options = {.expiry_kind = kind, .expiry_at = 2};
    if (!set_expiry(eval, &options)) return;
    if (!eval_value_fits(eval, eval->args[3].size)) return;
    const struct item item = eval_find(eval, eval->args[1]);
    eval_put(eval, eval->args[1], eval->args[3], options.expiry_ms, &item);
    eval_ok(eval);
}

void cmd_setex(struct eval *eval)
{
    set_for(eval, EXPIRY_EX);
}

void cmd_psetex(struct eval *eval)
{
    set_for(eval, EXPIRY_PX);
}

void cmd_setnx(struct eval *eval)
{
    if (!eval_value_fits(eval, eval->args[2].size)) return;
    const struct item item = eval_find(eval, eval->args[1]);
    resp_put_int(eval->out, item.exists ? 0 : 1);
    if (!item.exists) eval_put(eval, eval->args[1], eval->args[2], 0, &item);
}

void cmd_getset(struct eval *eval)
{
    if (!eval_value_fits(eval, eval->args[2].size)) return;
    struct item item = eval_find(eval, eval->args[1]);
    if (!cmd_reply_value(eval, &item)) return;
    eval_put(eval, eval->args[1], eval->args[2], 0, &item);
}

void cmd_getex(struct eval *eval)
{
    struct set_options options = {0};
    for (uint32_t at = 2; at < eval->count; at++) {
        if (slice_equal_fold(eval->args[at], "persist") && options.expiry_kind == EXPIRY_NONE) {
            options.persist = true;
        } else if (expiry_option(eval, at, &options)) {
            at++;
        } else {
            eval_syntax_error(eval);
            return;
        }
    }
    struct item item = eval_find(eval, eval->args[1]);
    /* As in Redis nobody looks at the time when there is no key. */
    if (item.exists && !set_expiry(eval, &options)) return;
    if (!cmd_reply_value(eval, &item) || !item.exists) return;
    if (options.expiry_kind != EXPIRY_NONE && options.expiry_ms <= eval->now_ms) {
        eval_delete(eval, eval->args[1], &item);
    } else if (options.expiry_kind != EXPIRY_NONE || (options.persist && item.expiry_ms != 0)) {
        eval_expire(eval, eval->args[1], options.expiry_ms, &item);
    }
}

/* ---- several at once ------------------------------------------------------------------------------------ */

/* Whether the pairs of MSET or MSETNX can be taken; if not, an error was replied. */
static bool pairs_fit(struct eval *eval)
{
    uint64_t bytes = 0;
    if (eval->count % 2 == 0) {
        char text[64];
        (void)snprintf(text, sizeof text, "ERR wrong number of arguments for '%s' command",
                       eval->command->name);
        eval_error(eval, text);
        return false;
    }
    for (uint32_t i = 1; i < eval->count; i += 2) {
        if (!eval_value_fits(eval, eval->args[i + 1].size)) return false;
        bytes += EFFECT_HEADER_SIZE + 8 + eval->args[i].size + eval->args[i + 1].size;
    }
    return eval_room(eval, (eval->count - 1) / 2, bytes);
}

static void put_pairs(struct eval *eval)
{
    for (uint32_t i = 1; i < eval->count; i += 2) {
        const struct item item = eval_find(eval, eval->args[i]);
        eval_put(eval, eval->args[i], eval->args[i + 1], 0, &item);
    }
}

void cmd_mset(struct eval *eval)
{
    if (!pairs_fit(eval)) return;
    put_pairs(eval);
    eval_ok(eval);
}

void cmd_msetnx(struct eval *eval)
{
    bool any = false;
    if (!pairs_fit(eval)) return;
    for (uint32_t i = 1; i < eval->count && !any; i += 2) {
        any = eval_find(eval, eval->args[i]).exists;
    }
    if (!any) put_pairs(eval);
    resp_put_int(eval->out, any ? 0 : 1);
}
