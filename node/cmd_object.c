/* cmd_object.c - how a value is kept. */
#include <stdio.h>

#include "node/cmd_key.h"
#include "node/command.h"
#include "node/shard.h"

#define INT_SIZE_MAX 20u      /* the longest text of an integer */
#define EMBEDDED_SIZE_MAX 44u /* what Redis keeps beside the key */

static void unknown(struct eval *eval, const char *name)
{
    char text[256];
    (void)snprintf(text, sizeof text, "ERR unknown subcommand '%.*s'. Try %s HELP.",
                   eval->args[1].size < 128 ? (int)eval->args[1].size : 128,
                   (const char *)eval->args[1].data, name);
    eval_error(eval, text);
}

static void help(struct eval *eval, const char *const *lines, uint32_t count)
{
    resp_put_array(eval->out, count);
    for (uint32_t i = 0; i < count; i++) resp_put_simple(eval->out, lines[i]);
}

/* The name that Redis would give: clients decide by it what they can do with a value. */
static void encoding(struct eval *eval, struct item *item)
{
    int64_t number = 0;
    uint64_t size = 0;
    struct slice value;
    if (!eval_value_size(eval, item, &size)) return;
    if (size <= INT_SIZE_MAX) {
        if (!eval_value(eval, item, &value)) return;
        if (slice_int64(value, &number)) {
            resp_put_text(eval->out, "int");
            return;
        }
    }
    resp_put_text(eval->out, size <= EMBEDDED_SIZE_MAX ? "embstr" : "raw");
}

static bool is_subcommand(struct eval *eval, const char *name, const char *full, uint32_t count)
{
    char text[96];
    if (!slice_equal_fold(eval->args[1], name)) return false;
    if (eval->count == count) return true;
    (void)snprintf(text, sizeof text, "ERR wrong number of arguments for '%s' command", full);
    eval_error(eval, text);
    return false;
}

void cmd_object(struct eval *eval)
{
    static const char *const lines[] = {
        "OBJECT <subcommand> <key>. Subcommands are:",
        "ENCODING: int, embstr or raw, as Redis would keep the value.",
        "REFCOUNT: 1.",
        "FREQ, IDLETIME: not tracked.",
    };
    static const struct {
        const char *name, *full;
    } names[] = {{"encoding", "object|encoding"},
                 {"refcount", "object|refcount"},
                 {"freq", "object|freq"},
                 {"idletime", "object|idletime"}};
    const uint64_t begin = eval->out->size;
    uint32_t at = 0;
    if (is_subcommand(eval, "help", "object|help", 2)) {
        help(eval, lines, sizeof lines / sizeof lines[0]);
        return;
    }
    while (at < 4 && eval->out->size == begin &&
           !is_subcommand(eval, names[at].name, names[at].full, 3))
        at++;
    if (eval->out->size != begin) return; /* Too many arguments, or too few. */
    if (at == 4) {
        unknown(eval, "OBJECT");
        return;
    }
    struct item item = eval_find(eval, eval->args[2]);
    if (!item.exists) {
        resp_put_null(eval->out, eval->protocol);
    } else if (at == 0) {
        encoding(eval, &item);
    } else if (at == 1) {
        resp_put_int(eval->out, 1);
    } else if (at == 2) {
        eval_error(eval, "ERR An LFU maxmemory policy is not selected, access frequency not "
                         "tracked. Please note that when switching between policies at runtime LRU "
                         "and LFU data will take some time to adjust.");
    } else {
        eval_error(eval, "ERR idle times of keys are not tracked: reads change nothing here");
    }
}

static void memory_usage(struct eval *eval)
{
    uint64_t size = 0;
    int64_t samples = 0;
    for (uint32_t at = 3; at < eval->count; at += 2) {
        if (!slice_equal_fold(eval->args[at], "samples") || at + 1 >= eval->count) {
            eval_syntax_error(eval);
            return;
        }
        if (!eval_int(eval, at + 1, &samples)) return;
        if (samples < 0) {
            eval_syntax_error(eval);
            return;
        }
    }
    struct item item = eval_find(eval, eval->args[2]);
    if (!item.exists) {
        resp_put_null(eval->out, eval->protocol);
        return;
    }
    if (!eval_value_size(eval, &item, &size)) return;
    const struct keydir *keys = store_keys(eval->shard->store);
    resp_put_int(eval->out,
                 (int64_t)keydir_cost(keys, eval->args[2].size, size, item.expiry_ms != 0));
}

void cmd_memory(struct eval *eval)
{
    static const char *const lines[] = {
        "MEMORY <subcommand>. Subcommands are:",
        "USAGE <key> [SAMPLES <count>]: bytes of memory that the key takes in the index.",
    };
    const uint64_t begin = eval->out->size;
    if (is_subcommand(eval, "help", "memory|help", 2)) {
        help(eval, lines, sizeof lines / sizeof lines[0]);
    } else if (eval->out->size != begin) {
        return;
    } else if (!slice_equal_fold(eval->args[1], "usage")) {
        unknown(eval, "MEMORY");
    } else if (eval->count < 3) {
        eval_error(eval, "ERR wrong number of arguments for 'memory|usage' command");
    } else {
        memory_usage(eval);
    }
}
