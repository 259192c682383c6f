/* cmd_object.c - how a value is kept. */
#include "node/cmd_key.h"
#include "node/command.h"
#include "node/shard.h"
#include "node/subcommand.h"

#define INT_SIZE_MAX 20u      /* the longest text of an integer */
#define EMBEDDED_SIZE_MAX 44u /* what Redis keeps beside the key */

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

void cmd_object(struct eval *eval)
{
    const struct slice sub = eval->args[1];
    if (slice_equal_fold(sub, "help")) {
        subcommand_help(eval);
        return;
    }
    struct item item = eval_find(eval, eval->args[2]);
    if (!item.exists) {
        resp_put_null(eval->out, eval->protocol);
    } else if (slice_equal_fold(sub, "encoding")) {
        encoding(eval, &item);
    } else if (slice_equal_fold(sub, "refcount")) {
        resp_put_int(eval->out, 1);
    } else if (slice_equal_fold(sub, "freq")) {
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
    if (slice_equal_fold(eval->args[1], "help")) {
        subcommand_help(eval);
    } else {
        memory_usage(eval);
    }
}
