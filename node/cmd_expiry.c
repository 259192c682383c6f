/* cmd_expiry.c - commands on when keys expire. */
#include <stdio.h>

#include "node/cmd_key.h"
#include "node/command.h"

#define OPTION_SHOWN_MAX 4096u

struct expire_options {
    bool nx, xx, gt, lt;
};

static void unsupported(struct eval *eval, struct slice option)
{
    struct buf text = {0};
    buf_printf(&text, "ERR Unsupported option %.*s",
               option.size < OPTION_SHOWN_MAX ? (int)option.size : (int)OPTION_SHOWN_MAX,
               (const char *)option.data);
    buf_u8(&text, 0);
    eval_error(eval, (const char *)text.data);
    buf_close(&text);
}

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
            unsupported(eval, arg);
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
    if (!expire_options(eval, &options) || !eval_int(eval, 2, &when)) return;
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

/* When it expires; -1: never, -2: no such key. */
static int64_t expiry_of(struct eval *eval)
{
    const struct item item = eval_find(eval, eval->args[1]);
    if (!item.exists) return -2;
    return item.expiry_ms == 0 ? -1 : (int64_t)item.expiry_ms;
}

void cmd_expiretime(struct eval *eval)
{
    const int64_t expiry_ms = expiry_of(eval);
    resp_put_int(eval->out,
                 expiry_ms < 0 ? expiry_ms : (int64_t)(((uint64_t)expiry_ms + 500) / 1000));
}

void cmd_pexpiretime(struct eval *eval)
{
    resp_put_int(eval->out, expiry_of(eval));
}

void cmd_persist(struct eval *eval)
{
    const struct item item = eval_find(eval, eval->args[1]);
    const bool has = item.exists && item.expiry_ms != 0;
    if (has) eval_expire(eval, eval->args[1], 0, &item);
    resp_put_int(eval->out, has ? 1 : 0);
}
