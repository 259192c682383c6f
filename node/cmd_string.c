/* cmd_string.c - commands on string values. Semantics and texts are those of Redis 7. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/shard.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

static const char overflow_text[] = "ERR increment or decrement would overflow";

static bool reply_value(struct eval *eval, struct item *item)
{
    struct slice value;
    if (!item->exists) {
        resp_put_null(eval->out, eval->protocol);
        return true;
    }
    if (!eval_value(eval, item, &value)) return false;
    eval_reply(eval, value);
    return true;
}

/* The same for one of many. */
static bool add_value(struct eval *eval, struct item *item)
{
    struct slice value;
    if (!item->exists) {
        resp_put_null(eval->out, eval->protocol);
        return true;
    }
    if (!eval_value(eval, item, &value)) return false;
    if (!eval->waits) resp_put_bulk(eval->out, value);
    return true;
}

void cmd_get(struct eval *eval)
{
    struct item item = eval_find(eval, eval->args[1]);
    (void)reply_value(eval, &item);
}

/* ---- SET ---------------------------------------------------------------------------------------------- */

struct set_options {
    bool if_absent, if_present, get, keep_ttl, has_expiry, if_revision;
    uint64_t expiry_ms;
    uint64_t revision;
};

/* A time argument of SET and EXPIRE: relative or absolute, in seconds or milliseconds, as absolute milliseconds. */
static bool set_expiry(struct eval *eval, uint32_t at, bool is_seconds, bool is_relative,
                       struct set_options *options)
{
    int64_t value = 0;
    if (!eval_int(eval, at, &value)) return false;
    const bool bad = value <= 0 || (is_seconds && __builtin_mul_overflow(value, 1000, &value)) ||
                     (is_relative && __builtin_add_overflow(value, (int64_t)eval->now_ms, &value));
    if (bad) {
        char text[64];
        (void)snprintf(text, sizeof text, "ERR invalid expire time in '%s' command",
                       eval->command->name);
        eval_error(eval, text);
        return false;
    }
    options->has_expiry = true;
    options->expiry_ms = (uint64_t)value;
    return true;
}

/* One option of SET at @at; @used receives how many arguments it took, 0 when it is none. */
static bool set_option(struct eval *eval, uint32_t at, struct set_options *options, uint32_t *used)
{
    const struct slice arg = eval->args[at];
    const bool has_next = at + 1 < eval->count;
    const bool is_ex = slice_equal_fold(arg, "ex");
    const bool is_px = slice_equal_fold(arg, "px");
    const bool is_exat = slice_equal_fold(arg, "exat");
    const bool is_pxat = slice_equal_fold(arg, "pxat");
    *used = 1;
    if (slice_equal_fold(arg, "nx") && !options->if_present) return options->if_absent = true;
    if (slice_equal_fold(arg, "xx") && !options->if_absent) return options->if_present = true;
    if (slice_equal_fold(arg, "get")) return options->get = true;
    if (slice_equal_fold(arg, "keepttl") && !options->has_expiry) return options->keep_ttl = true;
    *used = 2;
    if (slice_equal_fold(arg, "ifrev") && has_next) {
        int64_t revision = 0;
        if (!eval_int(eval, at + 1, &revision)) return false;
        options->if_revision = true;
        options->revision = (uint64_t)revision;
        return true;
    }
    if ((is_ex || is_px || is_exat || is_pxat) && has_next && !options->has_expiry &&
        !options->keep_ttl) {
        return set_expiry(eval, at + 1, is_ex || is_exat, is_ex || is_px, options);
    }
    *used = 0;
    eval_syntax_error(eval);
    return false;
}

void cmd_set(struct eval *eval)
{
    struct set_options options = {0};
    uint32_t used = 0;
    for (uint32_t at = 3; at < eval->count; at += used) {
        if (!set_option(eval, at, &options, &used)) return;
    }
    if (!eval_value_fits(eval, eval->args[2].size)) return;
    struct item item = eval_find(eval, eval->args[1]);
    bool holds = !(options.if_absent && item.exists) && !(options.if_present && !item.exists);
    if (options.if_revision) {
        /* A key that is changed in flight has no revision yet: the condition, which names an older one, fails. */
        holds = holds && (options.revision == 0 ? !item.exists
                                                : item.exists && item.revision == options.revision);
    }
    if (options.get) {
        if (!reply_value(eval, &item))
            return; /* Before the put: the old value may live in the batch. */
    } else if (!holds) {
        resp_put_null(eval->out, eval->protocol);
    } else {
        eval_ok(eval);
    }
    if (!holds) return;
    if (options.has_expiry && options.expiry_ms <= eval->now_ms) {
        /* As in Redis 7 a time that is past already leaves no key behind. */
        if (item.exists) eval_delete(eval, eval->args[1], &item);
        return;
    }
    eval_put(eval, eval->args[1], eval->args[2],
             options.keep_ttl ? item.expiry_ms : options.expiry_ms, &item);
}

static void set_for(struct eval *eval, bool is_seconds)
{
    struct set_options options = {0};
    if (!set_expiry(eval, 2, is_seconds, true, &options)) return;
    if (!eval_value_fits(eval, eval->args[3].size)) return;
    const struct item item = eval_find(eval, eval->args[1]);
    eval_put(eval, eval->args[1], eval->args[3], options.expiry_ms, &item);
    eval_ok(eval);
}

void cmd_setex(struct eval *eval)
{
    set_for(eval, true);
}

void cmd_psetex(struct eval *eval)
{
    set_for(eval, false);
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
    if (!reply_value(eval, &item)) return;
    eval_put(eval, eval->args[1], eval->args[2], 0, &item);
}

void cmd_getdel(struct eval *eval)
{
    struct item item = eval_find(eval, eval->args[1]);
    if (!reply_value(eval, &item)) return;
    if (item.exists) eval_delete(eval, eval->args[1], &item);
}

void cmd_mget(struct eval *eval)
{
    const uint64_t begin = eval->out->size;
    resp_put_array(eval->out, eval->count - 1);
    for (uint32_t i = 1; i < eval->count; i++) {
        const uint64_t before = eval->out->size;
        struct item item = eval_find(eval, eval->args[i]);
        const bool ok = add_value(eval, &item) || eval->waits;
        if (!eval_wants_more(eval)) return;
        if (ok && eval->out->size - begin <= eval->shard->config->output_limit_size) continue;
        if (ok) {
            eval->out->size = begin;
            eval_error(
                eval,
                "TOOBIG the reply would be longer than output-limit: ask for fewer keys at once");
        } else { /* Only the error stays. */
            memmove(eval->out->data + begin, eval->out->data + before, eval->out->size - before);
            eval->out->size -= before - begin;
        }
        return;
    }
}

void cmd_mset(struct eval *eval)
{
    uint64_t bytes = 0;
    if (eval->count % 2 == 0) {
        eval_error(eval, "ERR wrong number of arguments for 'mset' command");
        return;
    }
    for (uint32_t i = 1; i < eval->count; i += 2) {
        if (!eval_value_fits(eval, eval->args[i + 1].size)) return;
        bytes += EFFECT_HEADER_SIZE + 8 + eval->args[i].size + eval->args[i + 1].size;
    }
    if (!eval_room(eval, (eval->count - 1) / 2, bytes)) return;
    for (uint32_t i = 1; i < eval->count; i += 2) {
        const struct item item = eval_find(eval, eval->args[i]);
        eval_put(eval, eval->args[i], eval->args[i + 1], 0, &item);
    }
    eval_ok(eval);
}

void cmd_append(struct eval *eval)
{
    struct slice old = {0};
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists && !eval_value(eval, &item, &old)) return;
    const uint64_t size = old.size + eval->args[2].size;
    if (!eval_value_fits(eval, size)) return;
    if (!eval_put_joined(eval, eval->args[1], old, eval->args[2], item.expiry_ms, &item)) return;
    resp_put_int(eval->out, (int64_t)size);
}

void cmd_strlen(struct eval *eval)
{
    uint64_t size = 0;
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists && !eval_value_size(eval, &item, &size)) return;
    resp_put_int(eval->out, (int64_t)size);
}

/* ---- counters ----------------------------------------------------------------------------------------- */

static void add_to(struct eval *eval, int64_t delta)
{
    char text[24];
    int64_t value = 0;
    struct slice old;
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists) {
        if (!eval_value(eval, &item, &old)) return;
        if (!slice_int64(old, &value)) {
            eval_error(eval, "ERR value is not an integer or out of range");
            return;
        }
    }
    if (__builtin_add_overflow(value, delta, &value)) {
        eval_error(eval, overflow_text);
        return;
    }
    const int size = snprintf(text, sizeof text, "%" PRId64, value);
    CHECK(size > 0);
    eval_put(eval, eval->args[1], slice_of(text, (uint64_t)size), item.expiry_ms, &item);
    resp_put_int(eval->out, value);
}

void cmd_incr(struct eval *eval)
{
    add_to(eval, 1);
}

void cmd_decr(struct eval *eval)
{
    add_to(eval, -1);
}

void cmd_incrby(struct eval *eval)
{
    int64_t delta = 0;
    if (eval_int(eval, 2, &delta)) add_to(eval, delta);
}

void cmd_decrby(struct eval *eval)
{
    int64_t delta = 0;
    if (!eval_int(eval, 2, &delta)) return;
    if (delta == INT64_MIN) {
        eval_error(eval, "ERR decrement would overflow");
        return;
    }
    add_to(eval, -delta);
}
