/* cmd_kv_txn.c - KV.TXN: if all conditions hold these commands, else those, all at one moment.
 *
 *   KV.TXN [IF count condition...] [THEN count operation...] [ELSE count operation...]
 *   condition    VALUE key = | != | < | > value      REVISION key = | != | < | > revision     EXISTS key     ABSENT key
 *   operation    count of its arguments, the arguments: 3 SET key value
 *
 * The counts leave no doubt where anything ends, whatever keys and values hold. The reply is an array of two: 1 or 0,
 * whether the conditions held, and the array of the replies. */
#include <stdio.h>

#include "node/cmd_txn.h"
#include "node/command.h"
#include "node/eval_nested.h"
#include "node/txn.h"
#include "storage/base/check.h"

enum target { TARGET_VALUE, TARGET_REVISION, TARGET_EXISTS, TARGET_ABSENT, TARGET_COUNT };

static const struct {
    const char *name;
    uint32_t arg_count; /* the name included */
} targets[TARGET_COUNT] = {
    [TARGET_VALUE] = {"value", 4},
    [TARGET_REVISION] = {"revision", 4},
    [TARGET_EXISTS] = {"exists", 2},
    [TARGET_ABSENT] = {"absent", 2},
};

struct kv_txn {
    struct cmd_parts conditions; /* Places only: they have another form. */
    struct cmd_parts then;
    struct cmd_parts otherwise;
};

static bool wrong_at(struct eval *eval, uint32_t at, const char *what)
{
    char text[160];
    (void)snprintf(text, sizeof text, "ERR syntax error at argument %u of KV.TXN: %s", at, what);
    eval_error(eval, text);
    return false;
}

static enum target target_of(struct slice name)
{
    enum target target = 0;
    while (target < TARGET_COUNT && !slice_equal_fold(name, targets[target].name)) target++;
    return target;
}

/* One of = != < >, as the sign that the comparison must have: '=', '!', '<', '>'. 0: none. */
static char operator_of(struct slice text)
{
    if (slice_equal(text, slice_text("!="))) return '!';
    if (text.size != 1) return 0;
    const char sign = (char)text.data[0];
    return sign == '=' || sign == '<' || sign == '>' ? sign : 0;
}

static bool holds_for(char sign, int order)
{
    if (sign == '=') return order == 0;
    if (sign == '!') return order != 0;
    return sign == '<' ? order < 0 : order > 0;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static bool read_condition(struct eval *eval, uint32_t *at)
{
    int64_t revision = 0;
    const enum target target = *at < eval->count ? target_of(eval->args[*at]) : TARGET_COUNT;
    if (target == TARGET_COUNT) {
        return wrong_at(eval, *at, "VALUE, REVISION, EXISTS or ABSENT is expected");
    }
    if (eval->count - *at < targets[target].arg_count) {
        return wrong_at(eval, *at, "the condition is not whole");
    }
    if (!eval_key_fits(eval, eval->args[*at + 1])) return false;
    if (targets[target].arg_count == 4 && operator_of(eval->args[*at + 2]) == 0) {
        return wrong_at(eval, *at + 2, "=, !=, < or > is expected");
    }
    if (target == TARGET_REVISION &&
        (!slice_int64(eval->args[*at + 3], &revision) || revision < 0)) {
        return wrong_at(eval, *at + 3, "a revision is expected");
    }
    *at += targets[target].arg_count;
    return true;
}

static bool read_operation(struct eval *eval, uint32_t *at)
{
    char text[192];
    struct cmd_part part;
    const uint32_t begin = *at;
    const struct cmd_parts rest = {.first = *at, .end = eval->count};
    if (*at >= eval->count || !cmd_parts_next(eval, &rest, at, &part) || part.count == 0) {
        return wrong_at(eval, begin,
                        "the count of an operation's arguments, then these, are "
                        "expected");
    }
    const struct command *command = command_find(part.args[0]);
    const char *unfit = eval_unfit(command, part.args, part.count, text, sizeof text);
    if (unfit == NULL && (eval_walks(command) || command->function == cmd_kv_txn)) {
        (void)snprintf(text, sizeof text, "ERR '%s' is not allowed inside of KV.TXN",
                       command->name);
        unfit = text;
    }
    if (unfit != NULL) eval_error(eval, unfit);
    return unfit == NULL;
}

/* A section of the command, if it is there: its name, a count, so many things. */
static bool read_section(struct eval *eval, const char *name, uint32_t *at,
                         bool (*read)(struct eval *eval, uint32_t *at), struct cmd_parts *parts)
{
    int64_t count = 0;
    *parts = (struct cmd_parts){.first = *at, .end = *at};
    if (*at >= eval->count || !slice_equal_fold(eval->args[*at], name)) return true;
    *at += 1;
    if (*at >= eval->count || !slice_int64(eval->args[*at], &count) || count < 0) {
        return wrong_at(eval, *at, "a count is expected");
    }
    if (count > TXN_COMMANDS_MAX) {
        eval_error(eval, "TOOBIG a transaction has at most 16384 conditions and as many commands");
        return false;
    }
    *at += 1;
    parts->first = *at;
    for (; parts->count < count; parts->count++) {
        if (!read(eval, at)) return false;
    }
    parts->end = *at;
    return true;
}

static bool read_all(struct eval *eval, struct kv_txn *txn)
{
    uint32_t at = 1;
    if (!read_section(eval, "if", &at, read_condition, &txn->conditions)) return false;
    if (!read_section(eval, "then", &at, read_operation, &txn->then)) return false;
    if (!read_section(eval, "else", &at, read_operation, &txn->otherwise)) return false;
    if (at == eval->count) return true;
    return wrong_at(eval, at,
                    "IF, THEN and ELSE, each with its count, in this order, are expected");
}

/* Any of @parts may change something. */
static bool may_write(const struct eval *eval, const struct cmd_parts *parts)
{
    bool found = false;
    for (uint32_t at = parts->first; at < parts->end && !found;) {
        struct cmd_part part;
        CHECK(cmd_parts_next(eval, parts, &at, &part));
        found = (command_find(part.args[0])->flags & CMD_WRITE) != 0;
    }
    return found;
}

bool cmd_kv_txn_may_write(const struct command *command, const struct slice *args, uint32_t count)
{
    if ((command->flags & CMD_WRITE) == 0) return false;
    if (command->function != cmd_kv_txn) return true;
    struct buf errors = {0};
    struct kv_txn txn;
    struct eval eval = {.args = args, .count = count, .out = &errors};
    /* What is written wrongly is refused by whoever leads. */
    const bool writes = read_all(&eval, &txn) &&
                        (may_write(&eval, &txn.then) || may_write(&eval, &txn.otherwise));
    buf_close(&errors);
    return writes;
}

/* ---- conditions --------------------------------------------------------------------------------------- */

/* A change whose entry has no index yet is newer than any revision that somebody can know. */
static uint64_t revision_of_item(const struct item *item)
{
    if (!item->exists) return 0;
    if (item->revision != 0) return item->revision;
    return item->flight_revision != 0 ? item->flight_revision : UINT64_MAX;
}

/* The condition at @at. *@ok: false when its value could not be had (eval->waits, or an error was replied). */
static bool condition_holds(struct eval *eval, uint32_t at, bool *ok)
{
    struct slice value;
    int64_t number = 0;
    const enum target target = target_of(eval->args[at]);
    struct item item = eval_find(eval, eval->args[at + 1]);
    if (target == TARGET_EXISTS) return item.exists;
    if (target == TARGET_ABSENT) return !item.exists;
    const char sign = operator_of(eval->args[at + 2]);
    if (target == TARGET_REVISION) {
        const uint64_t revision = revision_of_item(&item);
        const uint64_t wanted = slice_int64(eval->args[at + 3], &number) ? (uint64_t)number : 0;
        return holds_for(sign, (revision > wanted) - (revision < wanted));
    }
    if (!item.exists) return false; /* It has no value that anything could be said of. */
    *ok = eval_value(eval, &item, &value);
    return *ok && holds_for(sign, slice_compare(value, eval->args[at + 3]));
}

/* All are looked at, so that all values are asked for together. */
static bool conditions_hold(struct eval *eval, const struct cmd_parts *conditions, bool *ok)
{
    bool hold = true;
    for (uint32_t at = conditions->first; at < conditions->end;) {
        hold = condition_holds(eval, at, ok) && hold;
        if (!*ok && !(eval->waits && eval_wants_more(eval))) return false;
        at += targets[target_of(eval->args[at])].arg_count;
    }
    return hold;
}

void cmd_kv_txn(struct eval *eval)
{
    struct kv_txn txn;
    bool ok = true;
    const uint64_t begin = eval->out->size;
    if (!read_all(eval, &txn)) return;
    const bool hold = conditions_hold(eval, &txn.conditions, &ok);
    if (!ok || eval->waits) return;
    const struct cmd_parts *parts = hold ? &txn.then : &txn.otherwise;
    const char *refusal = cmd_parts_refusal(eval, parts);
    if (refusal != NULL) {
        eval_error(eval, refusal);
        return;
    }
    resp_put_array(eval->out, 2);
    resp_put_int(eval->out, hold ? 1 : 0);
    cmd_parts_run(eval, parts, begin);
}
