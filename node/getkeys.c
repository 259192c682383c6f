#include "node/getkeys.h"

#include <string.h>

#include "node/cmd_lock.h"
#include "node/cmd_txn.h"
#include "node/subcommand.h"

#define ONCE_COMMAND_AT 3u /* behind KV.ONCE, the client's id and the sequence */

/* A command among the arguments. */
struct range {
    const struct slice *args;
    uint32_t count;
};

bool getkeys_counts(const struct command *command)
{
    return cmd_is_script(command);
}

bool getkeys_moves(const struct command *command)
{
    return getkeys_counts(command) || command->function == cmd_kv_txn ||
           command->function == cmd_kv_once;
}

static void add(struct buf *keys, struct slice key, const struct command *command, bool is_other)
{
    const struct getkeys_key found = {.key = key, .command = command, .is_other = is_other};
    buf_append(keys, &found, sizeof found);
}

static bool take_count(const struct range *range, uint32_t at, uint32_t *count)
{
    int64_t number = 0;
    if (at >= range->count || !slice_int64(range->args[at], &number)) return false;
    if (number < 0 || number > (int64_t)range->count) return false;
    *count = (uint32_t)number;
    return true;
}

/* The keys of a script whose count is wrong are none, as in Redis. */
static void counted(const struct range *range, const struct command *command, struct buf *keys)
{
    uint32_t count = 0;
    if (!take_count(range, 2, &count) || count > range->count - 3) return;
    for (uint32_t i = 0; i < count; i++) add(keys, range->args[3 + i], command, false);
}

/* The conditions of KV.TXN, at @at. False: they are malformed. */
static bool conditions(const struct range *range, uint32_t *at, struct buf *keys)
{
    uint32_t count = 0;
    if (!take_count(range, ++*at, &count)) return false;
    for (++*at; count > 0; count--) {
        const uint32_t left = range->count - *at;
        if (left < 2) return false;
        const struct slice target = range->args[*at];
        const bool compares = slice_equal_fold(target, "value") ||
                              slice_equal_fold(target, "revision");
        if (!compares && !slice_equal_fold(target, "exists") &&
            !slice_equal_fold(target, "absent")) {
            return false;
        }
        if (compares && left < 4) return false;
        add(keys, range->args[*at + 1], NULL, false);
        *at += compares ? 4 : 2;
    }
    return true;
}

/* The operations of KV.TXN, at @at: they are commands to be looked at later. */
static bool operations(const struct range *range, uint32_t *at, struct buf *ranges)
{
    uint32_t count = 0;
    if (!take_count(range, ++*at, &count)) return false;
    for (++*at; count > 0; count--) {
        uint32_t size = 0;
        if (!take_count(range, *at, &size)) return false;
        if (size == 0 || size > range->count - *at - 1) return false;
        const struct range operation = {.args = range->args + *at + 1, .count = size};
        buf_append(ranges, &operation, sizeof operation);
        *at += 1 + size;
    }
    return true;
}

static bool transaction(const struct range *range, struct buf *keys, struct buf *ranges)
{
    uint32_t at = 1;
    if (at < range->count && slice_equal_fold(range->args[at], "if")) {
        if (!conditions(range, &at, keys)) return false;
    }
    if (at < range->count && slice_equal_fold(range->args[at], "then")) {
        if (!operations(range, &at, ranges)) return false;
    }
    if (at < range->count && slice_equal_fold(range->args[at], "else")) {
        if (!operations(range, &at, ranges)) return false;
    }
    return at == range->count;
}

/* Keys at fixed places. False: the arguments end before them. */
static bool placed(const struct range *range, const struct command *command, struct buf *keys)
{
    const int64_t count = range->count;
    const bool is_pair = command->key_first == 1 && command->key_last == 2;
    const int64_t last = command->key_last < 0 ? command->key_last + count : command->key_last;
    if (last >= count) return false;
    for (int64_t at = command->key_first; at <= last; at += command->key_step) {
        add(keys, range->args[at], command, is_pair && at == 2);
    }
    return true;
}

static bool has_keys(const struct command *command, const struct range *range)
{
    const struct subcommand *part = NULL;
    if (subcommand_has(command)) {
        if (range->count < 2) return false;
        part = subcommand_find(command, range->args[1]);
        return part != NULL && (part->flags & SUBCOMMAND_KEY) != 0;
    }
    return command->key_first != 0 || getkeys_moves(command);
}

static const char *known(const struct range *range, const struct command **found)
{
    char text[192];
    const struct command *command = command_find(range->args[0]);
    *found = command;
    if (command == NULL || command->syntax[0] == 0) return "ERR Invalid command specified";
    if (subcommand_has(command) &&
        (range->count < 2 || subcommand_find(command, range->args[1]) == NULL)) {
        return "ERR Invalid command specified";
    }
    if (!has_keys(command, range)) return "ERR The command has no key arguments";
    if (!command_arity_fits(command, range->count) ||
        subcommand_refusal(command, range->args, range->count, text, sizeof text) != NULL) {
        return "ERR Invalid number of arguments specified for command";
    }
    return NULL;
}

/* One command; those within it go to @ranges. */
static bool look(const struct range *range, const struct command *command, struct buf *keys,
                 struct buf *ranges)
{
    if (getkeys_counts(command)) {
        counted(range, command, keys);
        return true;
    }
    if (command->function == cmd_kv_txn) return transaction(range, keys, ranges);
    if (command->function != cmd_kv_once) return placed(range, command, keys);
    const struct range rest = {.args = range->args + ONCE_COMMAND_AT,
                               .count = range->count - ONCE_COMMAND_AT};
    buf_append(ranges, &rest, sizeof rest);
    return true;
}

const char *getkeys_find(const struct slice *args, uint32_t count, struct buf *keys)
{
    struct buf ranges = {0};
    const struct command *command = NULL;
    const struct range whole = {.args = args, .count = count};
    const char *error = known(&whole, &command);
    bool is_fine = error != NULL || look(&whole, command, keys, &ranges);
    /* Each lies within the one that it was found in, so this ends. */
    for (uint64_t at = 0; is_fine && at < ranges.size; at += sizeof whole) {
        struct range range;
        memcpy(&range, ranges.data + at, sizeof range);
        command = command_find(range.args[0]);
        if (command == NULL || command->syntax[0] == 0) {
            is_fine = false;
        } else if (known(&range, &command) == NULL) {
            is_fine = look(&range, command, keys, &ranges);
        } else {
            /* One without keys is right, too. */
            is_fine = !has_keys(command, &range) && command_arity_fits(command, range.count);
        }
    }
    buf_close(&ranges);
    return is_fine ? error : "ERR Invalid arguments specified for command";
}
