/* eval_nested.c - see eval_nested.h. */
#include "node/eval_nested.h"

#include <stdio.h>

#include "node/core_parts.h"
#include "node/manual.h"
#include "node/subcommand.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

#define DIGEST_SIZE_MAX (256u * MIB) /* likewise: some 40 ms */
#define DEPTH_MAX 2u                 /* KV.ONCE of KV.TXN of commands */

void eval_mark(struct eval *eval, struct eval_mark *mark)
{
    const struct shard *shard = eval->shard;
    *mark = (struct eval_mark){.batches = batches_mark(&shard->batches),
                               .batch = eval->batch,
                               .wrote = eval->wrote,
                               .expired_count = shard->expired_count,
                               .value_raw_size = shard->value_raw_size,
                               .value_stored_size = shard->value_stored_size,
                               .packed_count = shard->packed_count};
    if (eval->root != NULL) return;
    eval->root = mark;
    eval->shard->walk_left = EVAL_WALK_KEYS_MAX;
    eval->shard->digest_left = DIGEST_SIZE_MAX;
}

bool eval_may_walk(struct eval *eval, uint64_t keys)
{
    char text[128];
    uint64_t *left = &eval->shard->walk_left;
    if (eval->whole == NULL) return true;
    if (keys <= *left) {
        *left -= keys;
        return true;
    }
    (void)snprintf(text, sizeof text,
                   "TOOBIG the commands of a transaction look at at most %u keys: do this outside",
                   EVAL_WALK_KEYS_MAX);
    eval_error(eval, text);
    return false;
}

bool eval_may_digest(struct eval *eval, uint64_t size)
{
    uint64_t *left = &eval->shard->digest_left;
    eval->core->turn_served += size / (4 * KIB);
    if (eval->whole == NULL) return true;
    if (size <= *left) {
        *left -= size;
        return true;
    }
    eval_error(eval, "TOOBIG the commands of a transaction make digests of at most 256 MiB: do "
                     "this outside");
    return false;
}

void eval_rollback(struct eval *eval, const struct eval_mark *mark)
{
    struct shard *shard = eval->shard;
    batches_rollback(&shard->batches, &mark->batches);
    eval->batch = mark->batch;
    eval->wrote = mark->wrote;
    shard->expired_count = mark->expired_count;
    shard->value_raw_size = mark->value_raw_size;
    shard->value_stored_size = mark->value_stored_size;
    shard->packed_count = mark->packed_count;
    if (eval->root == mark) eval->root = NULL;
}

static uint32_t depth_of(const struct eval *eval)
{
    uint32_t depth = 0;
    for (const struct eval *at = eval->whole; at != NULL; at = at->whole) depth++;
    return depth;
}

const char *eval_unfit(const struct command *command, const struct slice *args, uint32_t count,
                       char *text, uint64_t size)
{
    const struct slice name = args[0];
    const int name_size = name.size < 64 ? (int)name.size : 64;
    if (command == NULL) {
        const char *reason = manual_missing(name);
        (void)snprintf(text, size, "ERR unknown command '%.*s'%s%s%s", name_size,
                       (const char *)name.data, reason == NULL ? "" : " (",
                       reason == NULL ? "" : reason, reason == NULL ? "" : ")");
    } else if (!command_arity_fits(command, count)) {
        (void)snprintf(text, size, "ERR wrong number of arguments for '%s' command", command->name);
    } else if ((command->flags & (CMD_ALONE | CMD_LOCAL)) != 0) {
        (void)snprintf(text, size, "ERR '%s' is not allowed inside a transaction", command->name);
    } else {
        return subcommand_refusal(command, args, count, text, size);
    }
    return text;
}

bool eval_walks(const struct command *command)
{
    return (command->flags & CMD_APPLIED) != 0 && command->function != cmd_kv_get;
}

/* A walk looks at the applied keys alone: the whole must do so too, or it would show two moments. */
static bool is_at_one_moment(struct eval *part)
{
    char text[160];
    if (!eval_walks(part->command) || part->is_applied || part->is_local) return true;
    (void)snprintf(text, sizeof text,
                   "ERR '%s' looks at all keys: it is not allowed in a transaction that may write",
                   part->command->name);
    eval_error(part, text);
    return false;
}

bool eval_nested(struct eval *eval, const struct slice *args, uint32_t count, struct buf *out)
{
    char text[192];
    CHECK(eval->root != NULL);
    CHECK(count > 0);
    const struct command *command = command_find_again(args[0], eval->part);
    eval->part = command;
    struct eval part = {.core = eval->core,
                        .shard = eval->shard,
                        .session = eval->session,
                        .command = command,
                        .args = args,
                        .count = count,
                        .out = out,
                        .protocol = eval->protocol,
                        .now_ms = eval->now_ms,
                        .gone_ms = eval->gone_ms,
                        .is_local = eval->is_local,
                        .is_applied = eval->is_applied,
                        .whole = eval,
                        .root = eval->root,
                        .overflows = eval->overflows};
    const char *unfit = eval_unfit(command, args, count, text, sizeof text);
    if (unfit == NULL && depth_of(&part) > DEPTH_MAX) {
        unfit = "ERR transactions within transactions are not allowed";
    }
    if (unfit != NULL) {
        eval_error(&part, unfit);
        return true;
    }
    if (is_at_one_moment(&part) && shard_admits(&part)) command->function(&part);
    if (part.batch > eval->batch) eval->batch = part.batch;
    eval->wrote = eval->wrote || part.wrote;
    eval->damaged = eval->damaged || part.damaged;
    eval->waits = eval->waits || part.waits;
    eval->overflows = part.overflows;
    return !part.waits && !part.overflows;
}

void eval_error_overflow(struct eval *eval)
{
    char text[160];
    (void)snprintf(
        text, sizeof text,
        "TOOBIG a transaction may change at most %u keys and %u bytes: nothing of it was "
        "carried out",
        COMMAND_EFFECTS_MAX, COMMAND_SIZE_MAX);
    eval->overflows = false;
    eval_error(eval, text);
}
