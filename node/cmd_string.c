#include "node/cmd_string.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/eval_nested.h"
#include "node/shard.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"

#define DIGEST_SIZE 16u

bool cmd_reply_value(struct eval *eval, struct item *item)
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
    (void)cmd_reply_value(eval, &item);
}

void cmd_getdel(struct eval *eval)
{
    struct item item = eval_find(eval, eval->args[1]);
    if (!cmd_reply_value(eval, &item)) return;
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

void cmd_strlen(struct eval *eval)
{
    uint64_t size = 0;
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists && !eval_value_size(eval, &item, &size)) return;
    resp_put_int(eval->out, (int64_t)size);
}

/* ---- parts of a value --------------------------------------------------------------------------------- */

/* The part of @value from @start to @end, both of which count from its end when they are negative. */
static struct slice part_of(struct slice value, int64_t start, int64_t end)
{
    const int64_t size = (int64_t)value.size;
    if (start < 0 && end < 0 && start > end) return (struct slice){0};
    if (start < 0) start = start < -size ? 0 : start + size;
    if (end < 0) end = end < -size ? 0 : end + size;
    if (end >= size) end = size - 1;
    if (start > end || size == 0) return (struct slice){0};
    return slice_of(value.data + start, (uint64_t)(end - start) + 1);
}

void cmd_getrange(struct eval *eval)
{
    int64_t start = 0;
    int64_t end = 0;
    struct slice value = {0};
    if (!eval_int(eval, 2, &start) || !eval_int(eval, 3, &end)) return;
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists && !eval_value(eval, &item, &value)) return;
    resp_put_bulk(eval->out, part_of(value, start, end));
}

void cmd_setrange(struct eval *eval)
{
    int64_t start = 0;
    struct slice old = {0};
    const struct slice more = eval->args[3];
    if (!eval_int(eval, 2, &start)) return;
    if (start < 0) {
        eval_error(eval, "ERR offset is out of range");
        return;
    }
    struct item item = eval_find(eval, eval->args[1]);
    if (more.size == 0) {
        cmd_strlen(eval);
        return;
    }
    /* Neither is above 2^63, so the sum does not wrap. */
    const uint64_t end = (uint64_t)start + more.size;
    if (!eval_value_fits(eval, end)) return;
    if (item.exists && !eval_value(eval, &item, &old)) return;
    const uint64_t kept = (uint64_t)start < old.size ? (uint64_t)start : old.size;
    const uint64_t behind = old.size > end ? old.size - end : 0;
    const struct slice parts[] = {
        slice_of(old.data, kept),
        slice_of(NULL, (uint64_t)start - kept),
        more,
        behind > 0 ? slice_of(old.data + end, behind) : (struct slice){0},
    };
    if (!eval_put_parts(eval, eval->args[1], parts, 4, item.expiry_ms, &item)) return;
    resp_put_int(eval->out, (int64_t)(end + behind));
}

void cmd_append(struct eval *eval)
{
    struct slice old = {0};
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists && !eval_value(eval, &item, &old)) return;
    const uint64_t size = old.size + eval->args[2].size;
    if (!eval_value_fits(eval, size)) return;
    const struct slice parts[] = {old, eval->args[2]};
    if (!eval_put_parts(eval, eval->args[1], parts, 2, item.expiry_ms, &item)) return;
    resp_put_int(eval->out, (int64_t)size);
}

/* ---- conditions --------------------------------------------------------------------------------------- */

static void digest_of(struct slice value, char text[DIGEST_SIZE + 1])
{
    (void)snprintf(text, DIGEST_SIZE + 1, "%016" PRIx64, hash64(value.data, value.size));
}

void cmd_digest(struct eval *eval)
{
    char text[DIGEST_SIZE + 1];
    struct slice value;
    struct item item = eval_find(eval, eval->args[1]);
    if (!item.exists) {
        resp_put_null(eval->out, eval->protocol);
        return;
    }
    if (!eval_value(eval, &item, &value) || !eval_may_digest(eval, value.size)) return;
    digest_of(value, text);
    resp_put_text(eval->out, text);
}

bool cmd_condition_named(struct cmd_condition *condition, struct slice word)
{
    if (slice_equal_fold(word, "ifeq")) {
        condition->kind = CMD_IF_EQ;
    } else if (slice_equal_fold(word, "ifne")) {
        condition->kind = CMD_IF_NE;
    } else if (slice_equal_fold(word, "ifdeq")) {
        condition->kind = CMD_IF_DIGEST_EQ;
    } else if (slice_equal_fold(word, "ifdne")) {
        condition->kind = CMD_IF_DIGEST_NE;
    } else {
        return false;
    }
    return true;
}

bool cmd_condition_valid(struct eval *eval, const struct cmd_condition *condition)
{
    const bool is_digest = condition->kind == CMD_IF_DIGEST_EQ ||
                           condition->kind == CMD_IF_DIGEST_NE;
    bool is_hex = condition->wanted.size == DIGEST_SIZE;
    if (!is_digest) return true;
    for (uint64_t i = 0; i < DIGEST_SIZE && is_hex; i++) {
        const uint8_t byte = condition->wanted.data[i];
        is_hex = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') ||
                 (byte >= 'A' && byte <= 'F');
    }
    if (!is_hex) eval_error(eval, "ERR a digest has exactly 16 hexadecimal characters");
    return is_hex;
}

bool cmd_condition_check(struct eval *eval, struct item *item,
                         const struct cmd_condition *condition, bool *holds)
{
    char text[DIGEST_SIZE + 1];
    struct slice value;
    const bool is_equal_wanted = condition->kind == CMD_IF_EQ ||
                                 condition->kind == CMD_IF_DIGEST_EQ;
    if (condition->kind == CMD_IF_NONE) {
        *holds = true;
        return true;
    }
    *holds = !is_equal_wanted;
    if (!item->exists) return true;
    if (!eval_value(eval, item, &value)) return false;
    bool is_equal = false;
    if (condition->kind == CMD_IF_EQ || condition->kind == CMD_IF_NE) {
        is_equal = slice_equal(value, condition->wanted);
    } else {
        if (!eval_may_digest(eval, value.size)) return false;
        digest_of(value, text);
        is_equal = slice_equal_fold(condition->wanted, text);
    }
    *holds = is_equal == is_equal_wanted;
    return true;
}
