/* cmd_txn.c - MULTI, WATCH and what EXEC becomes. See txn.h. */
#include "node/cmd_txn.h"

#include <stdio.h>

#include "node/core_parts.h"
#include "node/eval_nested.h"
#include "node/txn.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

#define REVISION_UNKNOWN 1u /* No real one: the first entry has a higher one. */

void cmd_multi(struct eval *eval)
{
    if (txn_is_open(eval->session)) {
        eval_error(eval, "ERR MULTI calls can not be nested");
        return;
    }
    if (session_is_proxy(eval->session)) { /* Its node keeps what is queued. */
        eval_error(eval, "ERR this is no transaction");
        return;
    }
    txn_open(eval->session);
    eval_ok(eval);
}

void cmd_discard(struct eval *eval)
{
    if (!txn_is_open(eval->session)) {
        eval_error(eval, "ERR DISCARD without MULTI");
        return;
    }
    txn_drop(eval->core, eval->session);
    eval_ok(eval);
}

void cmd_unwatch(struct eval *eval)
{
    /* In a transaction it means nothing: EXEC looks at the keys, and then none is watched. */
    if (!txn_is_open(eval->session)) txn_drop(eval->core, eval->session);
    eval_ok(eval);
}

void cmd_exec(struct eval *eval)
{
    eval_error(eval, "ERR EXEC without MULTI");
}

/* ---- WATCH -------------------------------------------------------------------------------------------- */

void cmd_watch(struct eval *eval)
{
    struct buf revisions = {0};
    struct txn_token token = {.term = eval->is_local ? 0 : eval->shard->term};
    const uint32_t count = eval->count - 1;
    for (uint32_t i = 0; i < count; i++) {
        const struct item item = eval_find(eval, eval->args[i + 1]);
        buf_u64(&revisions, !item.exists         ? 0
                            : item.revision != 0 ? item.revision
                                                 : REVISION_UNKNOWN);
    }
    /* A key that was found expired counts as changed before. */
    token.count = eval->shard->batches.change_count;
    if (session_is_proxy(eval->session)) {
        resp_put_array(eval->out, count + 2);
        resp_put_int(eval->out, (int64_t)token.term);
        resp_put_int(eval->out, (int64_t)token.count);
    }
    for (uint32_t i = 0; i < count; i++) {
        token.revision = get_u64(revisions.data + 8 * i);
        if (session_is_proxy(eval->session)) {
            resp_put_int(eval->out, (int64_t)token.revision);
        } else {
            txn_watch(eval->core, eval->session, eval->args[i + 1], &token);
        }
    }
    if (!session_is_proxy(eval->session)) eval_ok(eval);
    buf_close(&revisions);
}

/* Is the key what it was when it was watched? What cannot be known counts as changed. */
static bool is_unchanged(struct eval *eval, struct slice key, const struct txn_token *token)
{
    const struct shard *shard = eval->shard;
    const bool existed = token->revision != 0;
    const struct item item = eval_find(eval,
                                       key); /* One that expired meanwhile is touched by this. */
    if (token->term == shard->term &&
        !batches_touched(&shard->batches, key, token->count, existed)) {
        return true;
    }
    if (token->revision <= REVISION_UNKNOWN) return false;
    return item.exists && item.flight == 0 && item.revision == token->revision;
}

/* ---- EXEC --------------------------------------------------------------------------------------------- */

bool cmd_parts_next(const struct eval *eval, const struct cmd_parts *parts, uint32_t *at,
                    struct cmd_part *part)
{
    int64_t count = 0;
    if (!slice_int64(eval->args[*at], &count) || count < 0) return false;
    const int64_t takes = count > 0 ? count : 1;
    if (takes > (int64_t)parts->end - *at - 1) return false;
    *part = (struct cmd_part){.args = eval->args + *at + 1, .count = (uint32_t)count};
    *at += 1 + (uint32_t)takes;
    return true;
}

const char *cmd_parts_refusal(struct eval *eval, const struct cmd_parts *parts)
{
    const char *text = NULL;
    const struct command *before = NULL;
    for (uint32_t at = parts->first; at < parts->end && text == NULL;) {
        struct cmd_part part;
        CHECK(cmd_parts_next(eval, parts, &at, &part));
        if (part.count == 0) continue;
        const struct command *command = command_find_again(part.args[0], before);
        if (command == NULL || command == before) continue; /* The same answer as before. */
        text = shard_refusal(eval->shard, command->flags);
        before = command;
    }
    return text;
}

static uint64_t reply_max(const struct eval *eval)
{
    const uint64_t limit = eval->shard->config->output_limit_size;
    return limit < FORWARD_REPLY_SIZE_MAX ? limit : FORWARD_REPLY_SIZE_MAX;
}

void cmd_parts_run(struct eval *eval, const struct cmd_parts *parts, uint64_t begin)
{
    struct eval_mark mark;
    bool is_long = false;
    eval_mark(eval, &mark);
    resp_put_array(eval->out, parts->count);
    for (uint32_t at = parts->first; at < parts->end && !is_long;) {
        struct cmd_part part;
        CHECK(cmd_parts_next(eval, parts, &at, &part));
        if (part.count == 0) {
            buf_append(eval->out, part.args[0].data, part.args[0].size);
        } else if (!eval_nested(eval, part.args, part.count, eval->out)) {
            if (eval->overflows || !eval_wants_more(eval)) break;
        }
        is_long = eval->out->size - begin > reply_max(eval);
    }
    if (!eval->waits && !eval->overflows && !is_long) return;
    eval_rollback(eval, &mark);
    if (eval->waits) return;
    if (eval->overflows && eval->whole != NULL) return; /* That is undone, too. */
    eval->out->size = begin;
    if (eval->overflows) {
        eval_error_overflow(eval);
    } else {
        eval_error(eval, "TOOBIG the replies of the transaction would be longer than output-limit: "
                         "nothing of it was carried out");
    }
}

/* Looks at the whole command before anything of it is carried out: another node sent it. */
static bool read_outline(const struct eval *eval, uint32_t *watches, struct cmd_parts *parts)
{
    int64_t count = 0;
    if (!slice_int64(eval->args[2], &count) || count < 0) return false;
    if (count > ((int64_t)eval->count - 3) / 2) return false;
    *watches = (uint32_t)count;
    *parts = (struct cmd_parts){.first = 3 + 2 * *watches, .end = eval->count};
    const struct command *command = NULL;
    for (uint32_t i = 0; i < *watches; i++) {
        const struct slice key = eval->args[3 + 2 * i];
        if (key.size == 0 || key.size > KEY_SIZE_MAX) return false;
        if (eval->args[4 + 2 * i].size != TXN_TOKEN_SIZE) return false;
    }
    for (uint32_t at = parts->first; at < parts->end; parts->count++) {
        struct cmd_part part;
        if (!cmd_parts_next(eval, parts, &at, &part)) return false;
        if (part.count == 0) continue;
        command = command_find_again(part.args[0], command);
        if (command == NULL || !cmd_kv_txn_may_write(command, part.args, part.count)) continue;
        if ((eval->command->flags & CMD_WRITE) == 0) return false;
    }
    return true;
}

void cmd_exec_parts(struct eval *eval)
{
    char text[256];
    struct cmd_parts parts;
    uint32_t watches = 0;
    bool holds = true;
    const uint64_t begin = eval->out->size;
    if (!read_outline(eval, &watches, &parts)) {
        eval_error(eval, "ERR this is no transaction");
        return;
    }
    for (uint32_t i = 0; i < watches && holds; i++) {
        const struct txn_token token = txn_token_get(eval->args[4 + 2 * i].data);
        holds = is_unchanged(eval, eval->args[3 + 2 * i], &token);
    }
    if (!holds) {
        resp_put_null_array(eval->out, eval->protocol);
        return;
    }
    const char *refusal = cmd_parts_refusal(eval, &parts);
    if (refusal != NULL) {
        (void)snprintf(text, sizeof text, "EXECABORT Transaction discarded because of: %s",
                       refusal);
        eval_error(eval, text);
        return;
    }
    cmd_parts_run(eval, &parts, begin);
}
