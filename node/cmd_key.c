/* cmd_key.c - commands on keys as such: existence, expiry, iteration. Semantics and texts are those of Redis 7. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/eval_nested.h"
#include "node/glob.h"
#include "node/shard.h"
#include "storage/base/limits.h"

#define SCAN_COUNT_MAX 100000

void cmd_del(struct eval *eval)
{
    int64_t count = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 1; i < eval->count; i++) bytes += EFFECT_HEADER_SIZE + 8 + eval->args[i].size;
    if (!eval_room(eval, eval->count - 1, bytes)) return;
    for (uint32_t i = 1; i < eval->count; i++) {
        const struct item item = eval_find(eval, eval->args[i]);
        if (!item.exists) continue;
        eval_delete(eval, eval->args[i], &item);
        count++;
    }
    resp_put_int(eval->out, count);
}

void cmd_exists(struct eval *eval)
{
    int64_t count = 0;
    for (uint32_t i = 1; i < eval->count; i++) count += eval_find(eval, eval->args[i]).exists;
    resp_put_int(eval->out, count);
}

void cmd_type(struct eval *eval)
{
    resp_put_simple(eval->out, eval_find(eval, eval->args[1]).exists ? "string" : "none");
}

/* ---- expiry --------------------------------------------------------------------------------------------- */

struct expire_options {
    bool nx, xx, gt, lt;
};

static bool expire_options(struct eval *eval, struct expire_options *options)
{
    for (uint32_t i = 3; i < eval->count; i++) {
        const struct slice arg = eval->args[i];
        if (slice_equal_fold(arg, "nx")) {
            options->nx = true;
        } else if (slice_equal_fold(arg, "xx")) {
            options->xx = true;
        } else if (slice_equal_fold(arg, "gt")) {
            options->gt = true;
        } else if (slice_equal_fold(arg, "lt")) {
            options->lt = true;
        } else {
            char text[96];
            (void)snprintf(text, sizeof text, "ERR Unsupported option %.*s",
                           arg.size < 64 ? (int)arg.size : 64, (const char *)arg.data);
            eval_error(eval, text);
            return false;
        }
    }
    if (options->nx && (options->xx || options->gt || options->lt)) {
        eval_error(eval, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if (options->gt && options->lt) {
        eval_error(eval, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* A key without expiry counts as one that never expires: GT never holds for it, LT always does. */
static bool expire_holds(const struct expire_options *options, uint64_t current, uint64_t wanted)
{
    if (options->nx && current != 0) return false;
    if (options->xx && current == 0) return false;
    if (options->gt && (current == 0 || wanted <= current)) return false;
    if (options->lt && current != 0 && wanted >= current) return false;
    return true;
}

static void expire_at(struct eval *eval, int64_t unit_ms, int64_t from_ms)
{
    struct expire_options options = {0};
    int64_t when = 0;
    if (!eval_int(eval, 2, &when)) return;
    if (!expire_options(eval, &options)) return;
    if (__builtin_mul_overflow(when, unit_ms, &when) ||
        __builtin_add_overflow(when, from_ms, &when)) {
        char text[64];
        (void)snprintf(text, sizeof text, "ERR invalid expire time in '%s' command",
                       eval->command->name);
        eval_error(eval, text);
        return;
    }
    const struct item item = eval_find(eval, eval->args[1]);
    const uint64_t wanted = when > 0 ? (uint64_t)when : 1;
    if (!item.exists || !expire_holds(&options, item.expiry_ms, wanted)) {
        resp_put_int(eval->out, 0);
        return;
    }
    if (wanted <= eval->now_ms) {
        eval_delete(eval, eval->args[1], &item);
    } else {
        eval_expire(eval, eval->args[1], wanted, &item);
    }
    resp_put_int(eval->out, 1);
}

void cmd_expire(struct eval *eval)
{
    expire_at(eval, 1000, (int64_t)eval->now_ms);
}

void cmd_pexpire(struct eval *eval)
{
    expire_at(eval, 1, (int64_t)eval->now_ms);
}

void cmd_expireat(struct eval *eval)
{
    expire_at(eval, 1000, 0);
}

void cmd_pexpireat(struct eval *eval)
{
    expire_at(eval, 1, 0);
}

static int64_t ttl_of(struct eval *eval)
{
    const struct item item = eval_find(eval, eval->args[1]);
    if (!item.exists) return -2;
    return eval_ttl(eval, item.expiry_ms);
}

void cmd_ttl(struct eval *eval)
{
    const int64_t ttl = ttl_of(eval);
    resp_put_int(eval->out, ttl < 0 ? ttl : (ttl + 500) / 1000);
}

void cmd_pttl(struct eval *eval)
{
    resp_put_int(eval->out, ttl_of(eval));
}

void cmd_persist(struct eval *eval)
{
    const struct item item = eval_find(eval, eval->args[1]);
    const bool has = item.exists && item.expiry_ms != 0;
    if (has) eval_expire(eval, eval->args[1], 0, &item);
    resp_put_int(eval->out, has ? 1 : 0);
}

/* ---- all keys: evaluated on the applied state alone (CMD_APPLIED) ---------------------------------------- */

void cmd_dbsize(struct eval *eval)
{
    resp_put_int(eval->out, (int64_t)keydir_count(store_keys(eval->shard->store)));
}

void cmd_flushall(struct eval *eval)
{
    if (eval->count > 2 || (eval->count == 2 && !slice_equal_fold(eval->args[1], "async") &&
                            !slice_equal_fold(eval->args[1], "sync"))) {
        eval_syntax_error(eval);
        return;
    }
    eval_flush(eval);
    eval_ok(eval);
}

/* Keys that a walk found, as bulk strings. */
struct found {
    struct eval *eval;
    struct slice pattern; /* empty: every key */
    bool none;            /* the type asked for is one that we do not have */
    struct buf keys;
    uint64_t count;
};

static void visit(void *context, const struct keydir_entry *entry)
{
    struct found *found = context;
    const struct keydir_info info = keydir_info(entry);
    if (found->none) return;
    if (info.expiry_ms != 0 && info.expiry_ms <= found->eval->gone_ms) {
        eval_note_expired(found->eval, &info);
        return;
    }
    if (found->pattern.size > 0 && !glob_match(found->pattern, info.key)) return;
    resp_put_bulk(&found->keys, info.key);
    found->count++;
}

static bool is_every(struct slice pattern)
{
    return pattern.size == 1 && pattern.data[0] == '*';
}

static bool scan_options(struct eval *eval, struct found *found, int64_t *count)
{
    for (uint32_t i = 2; i < eval->count; i += 2) {
        const struct slice arg = eval->args[i];
        if (i + 1 >= eval->count) {
            eval_syntax_error(eval);
            return false;
        }
        if (slice_equal_fold(arg, "count")) {
            if (!eval_int(eval, i + 1, count)) return false;
            if (*count < 1) {
                eval_syntax_error(eval);
                return false;
            }
            if (*count > SCAN_COUNT_MAX) *count = SCAN_COUNT_MAX;
        } else if (slice_equal_fold(arg, "match")) {
            found->pattern = is_every(eval->args[i + 1]) ? (struct slice){0} : eval->args[i + 1];
            if (eval->args[i + 1].size == 0) found->none = true;
        } else if (slice_equal_fold(arg, "type")) {
            found->none = !slice_equal_fold(eval->args[i + 1], "string");
        } else {
            eval_syntax_error(eval);
            return false;
        }
    }
    return true;
}

void cmd_scan(struct eval *eval)
{
    struct found found = {.eval = eval};
    char cursor_text[24];
    int64_t cursor = 0;
    int64_t count = 10;
    if (!slice_int64(eval->args[1], &cursor) || cursor < 0) {
        eval_error(eval, "ERR invalid cursor");
        return;
    }
    if (!scan_options(eval, &found, &count)) return;
    if (!eval_may_walk(eval, (uint64_t)count)) return;
    const uint64_t next = keydir_scan(store_keys(eval->shard->store), (uint64_t)cursor,
                                      (uint64_t)count, visit, &found);
    (void)snprintf(cursor_text, sizeof cursor_text, "%" PRIu64, next);
    resp_put_array(eval->out, 2);
    resp_put_text(eval->out, cursor_text);
    resp_put_array(eval->out, found.count);
    buf_append(eval->out, found.keys.data, found.keys.size);
    buf_close(&found.keys);
}

void cmd_keys(struct eval *eval)
{
    struct found found = {.eval = eval, .pattern = eval->args[1]};
    const uint64_t limit = eval->shard->config->output_limit_size;
    uint64_t cursor = 0;
    if (!eval_may_walk(eval, keydir_count(store_keys(eval->shard->store)))) return;
    if (is_every(found.pattern)) found.pattern = (struct slice){0};
    if (eval->args[1].size == 0) found.none = true;
    do {
        cursor = keydir_scan(store_keys(eval->shard->store), cursor, SCAN_COUNT_MAX, visit, &found);
    } while (cursor != 0 && found.keys.size <= limit);
    if (found.keys.size > limit) {
        eval_error(eval, "TOOBIG the reply would be longer than output-limit: use SCAN");
    } else {
        resp_put_array(eval->out, found.count);
        buf_append(eval->out, found.keys.data, found.keys.size);
    }
    buf_close(&found.keys);
}
