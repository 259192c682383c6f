#include "node/cmd_key.h"

#include <limits.h>
#include <stdio.h>

#include "node/cmd_string.h"
#include "node/command.h"
#include "storage/base/limits.h"

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

static void delete_if(struct eval *eval, const struct cmd_condition *condition)
{
    bool holds = false;
    struct item item = eval_find(eval, eval->args[1]);
    if (!cmd_condition_check(eval, &item, condition, &holds)) return;
    holds = holds && item.exists;
    if (holds) eval_delete(eval, eval->args[1], &item);
    resp_put_int(eval->out, holds ? 1 : 0);
}

void cmd_delex(struct eval *eval)
{
    struct cmd_condition condition = {0};
    if (eval->count != 2 && eval->count != 4) {
        eval_error(eval, "ERR wrong number of arguments for 'delex' command");
        return;
    }
    if (eval->count == 4) {
        condition.wanted = eval->args[3];
        if (!cmd_condition_named(&condition, eval->args[2])) {
            eval_error(eval, "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE");
            return;
        }
        if (!cmd_condition_valid(eval, &condition)) return;
    }
    delete_if(eval, &condition);
}

void cmd_delifeq(struct eval *eval)
{
    delete_if(eval, &(struct cmd_condition){.kind = CMD_IF_EQ, .wanted = eval->args[2]});
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

/* ---- under another name --------------------------------------------------------------------------------- */

/* Puts the value of args[1], and its expiry, under args[2]. False: not now. */
static bool put_again(struct eval *eval, struct item *from, const struct item *to)
{
    struct slice value;
    if (!eval_value(eval, from, &value)) return false;
    return eval_put_parts(eval, eval->args[2], &value, 1, from->expiry_ms, to);
}

/* @is_new: only if no key has the new name. */
static void rename_key(struct eval *eval, bool is_new)
{
    /* The source last: looking up a key may add the delete of an expired one, and what a value borrows from moves. */
    const struct item to = eval_find(eval, eval->args[2]);
    struct item from = eval_find(eval, eval->args[1]);
    const bool is_same = slice_equal(eval->args[1], eval->args[2]);
    if (!from.exists) {
        eval_error(eval, "ERR no such key");
        return;
    }
    if (is_new && to.exists) {
        resp_put_int(eval->out, 0);
        return;
    }
    if (!is_same) {
        if (!put_again(eval, &from, &to)) return;
        eval_delete(eval, eval->args[1], &from);
    }
    if (is_new) {
        resp_put_int(eval->out, 1);
    } else {
        eval_ok(eval);
    }
}

void cmd_rename(struct eval *eval)
{
    rename_key(eval, false);
}

void cmd_renamenx(struct eval *eval)
{
    rename_key(eval, true);
}

/* The number of a database, of which there is one. */
static bool database(struct eval *eval, uint32_t at)
{
    char text[96];
    int64_t index = 0;
    if (!eval_int(eval, at, &index)) return false;
    if (index < INT_MIN || index > INT_MAX) {
        (void)snprintf(text, sizeof text, "ERR value is out of range, value must between %d and %d",
                       INT_MIN, INT_MAX);
        eval_error(eval, text);
    } else if (index != 0) {
        eval_error(eval, "ERR DB index is out of range");
    }
    return index == 0;
}

void cmd_copy(struct eval *eval)
{
    bool replaces = false;
    for (uint32_t at = 3; at < eval->count; at++) {
        if (slice_equal_fold(eval->args[at], "replace")) {
            replaces = true;
        } else if (slice_equal_fold(eval->args[at], "db") && at + 1 < eval->count) {
            if (!database(eval, ++at)) return;
        } else {
            eval_syntax_error(eval);
            return;
        }
    }
    if (slice_equal(eval->args[1], eval->args[2])) {
        eval_error(eval, "ERR source and destination objects are the same");
        return;
    }
    const struct item to = eval_find(eval, eval->args[2]);
    struct item from = eval_find(eval, eval->args[1]);
    const bool copies = from.exists && (!to.exists || replaces);
    if (copies && !put_again(eval, &from, &to)) return;
    resp_put_int(eval->out, copies ? 1 : 0);
}

void cmd_move(struct eval *eval)
{
    if (!database(eval, 2)) return;
    eval_error(eval, "ERR source and destination objects are the same");
}

void cmd_swapdb(struct eval *eval)
{
    int64_t first = 0;
    int64_t second = 0;
    if (!slice_int64(eval->args[1], &first) || first < INT_MIN || first > INT_MAX) {
        eval_error(eval, "ERR invalid first DB index");
    } else if (!slice_int64(eval->args[2], &second) || second < INT_MIN || second > INT_MAX) {
        eval_error(eval, "ERR invalid second DB index");
    } else if (first != 0 || second != 0) {
        eval_error(eval, "ERR DB index is out of range");
    } else {
        eval_ok(eval);
    }
}
