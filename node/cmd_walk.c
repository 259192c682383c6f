/* cmd_walk.c - commands that look at all keys: evaluated on the applied state alone (CMD_APPLIED). */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_key.h"
#include "node/command.h"
#include "node/eval_nested.h"
#include "node/glob.h"
#include "node/shard.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/reserved.h"

#define SCAN_VISITS_MAX 1000u      /* keys that one SCAN looks at, whatever its COUNT */
#define SCAN_SIZE_MAX (256u * KIB) /* bytes of keys after which it ends */
#define SCAN_STEP 16u
#define SCAN_STEPS_MAX (512u * KIB) /* of comparing keys with its pattern, likewise */
#define KEYS_STEP 100000u
#define KEYS_STEPS_MAX (4u * MIB) /* in a transaction, which has one turn for all of it */
#define RANDOM_TRIES 100u

void cmd_dbsize(struct eval *eval)
{
    resp_put_int(eval->out, (int64_t)keydir_visible(store_keys(eval->shard->store)));
}

/* Most of the keys that chance met are gone: once the log says so, it meets others. False: not that either. */
static bool wait_for_sweep(struct eval *eval)
{
    if (eval->is_local || eval->whole != NULL) return false;
    const struct batches *batches = &eval->shard->batches;
    eval->session->applied_batch = batches->open->number - (batches_open_empty(batches) ? 1 : 0);
    eval->waits = true;
    return true;
}

/* Chance met the server's own keys only: the first other one, in a place that chance gives. */
static const struct keydir_entry *other_key(const struct keydir *keys, uint64_t random)
{
    struct keydir_cursor cursor;
    const struct slice end = slice_of("\0kv\1", RESERVED_PREFIX_SIZE);
    const uint8_t first = (uint8_t)random;
    const struct keydir_entry *entry = keydir_seek(keys, slice_of(&first, 1), &cursor);
    if (entry == NULL || reserved_key(keydir_info(entry).key)) {
        entry = keydir_seek(keys, end, &cursor);
    }
    if (entry == NULL) entry = keydir_seek(keys, (struct slice){0}, &cursor);
    return entry == NULL || reserved_key(keydir_info(entry).key) ? NULL : entry;
}

void cmd_randomkey(struct eval *eval)
{
    const struct keydir *keys = store_keys(eval->shard->store);
    const struct keydir_entry *entry = NULL;
    for (uint32_t i = 0; i < RANDOM_TRIES; i++) {
        entry = keydir_random(keys, shard_random(eval->shard));
        if (entry != NULL && reserved_key(keydir_info(entry).key)) {
            entry = other_key(keys, shard_random(eval->shard));
        }
        if (entry == NULL) break;
        const struct keydir_info info = keydir_info(entry);
        if (info.expiry_ms == 0 || info.expiry_ms > eval->gone_ms) {
            resp_put_bulk(eval->out, info.key);
            return;
        }
        eval_note_expired(eval, &info);
    }
    if (entry != NULL && wait_for_sweep(eval)) return;
    resp_put_null(eval->out, eval->protocol);
}

void cmd_flushall(struct eval *eval)
{
    if (eval->count > 2 || (eval->count == 2 && !slice_equal_fold(eval->args[1], "async") &&
                            !slice_equal_fold(eval->args[1], "sync"))) {
        eval_syntax_error(eval);
        return;
    }
    if (eval_flush(eval)) eval_ok(eval);
}

/* Keys that a walk found, as bulk strings. */
struct found {
    struct eval *eval;
    struct slice pattern; /* empty: every key */
    bool no_pattern;      /* it is empty: no key */
    bool no_type;         /* the type asked for is one that we do not have */
    struct buf keys;
    uint64_t count;
    uint64_t visited; /* keys, */
    uint64_t size;    /* and bytes of them */
    uint64_t steps;   /* of comparing them with the pattern, */
    uint64_t steps_max;
};

static void visit(void *context, const struct keydir_entry *entry)
{
    struct found *found = context;
    const struct keydir_info info = keydir_info(entry);
    found->visited++;
    found->size += info.key.size;
    if (found->no_type || found->no_pattern || reserved_key(info.key)) return;
    if (info.expiry_ms != 0 && info.expiry_ms <= found->eval->gone_ms) {
        eval_note_expired(found->eval, &info);
        return;
    }
    if (found->steps > found->steps_max) return; /* Whoever walks ends or refuses it. */
    if (found->pattern.size > 0 && !glob_match_counting(found->pattern, info.key, &found->steps)) {
        return;
    }
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
        } else if (slice_equal_fold(arg, "match")) {
            if (!eval_pattern_fits(eval, eval->args[i + 1])) return false;
            found->pattern = is_every(eval->args[i + 1]) ? (struct slice){0} : eval->args[i + 1];
            found->no_pattern = eval->args[i + 1].size == 0;
        } else if (slice_equal_fold(arg, "type")) {
            found->no_type = !slice_equal_fold(eval->args[i + 1], "string");
        } else {
            eval_syntax_error(eval);
            return false;
        }
    }
    return true;
}

void cmd_scan(struct eval *eval)
{
    struct found found = {.eval = eval, .steps_max = UINT64_MAX};
    char cursor_text[24];
    int64_t cursor = 0;
    int64_t count = 10;
    if (!slice_int64(eval->args[1], &cursor) || cursor < 0) {
        eval_error(eval, "ERR invalid cursor");
        return;
    }
    if (!scan_options(eval, &found, &count)) return;
    const uint64_t wanted = (uint64_t)count < SCAN_VISITS_MAX ? (uint64_t)count : SCAN_VISITS_MAX;
    uint64_t next = (uint64_t)cursor;
    uint64_t before = 0;
    if (!eval_may_walk(eval, wanted)) return;
    do {
        const uint64_t step = wanted - found.visited < SCAN_STEP ? wanted - found.visited
                                                                 : SCAN_STEP;
        before = found.visited;
        next = keydir_scan(store_keys(eval->shard->store), next, step, visit, &found);
        /* A part of the table that is empty ends it too: many keys were removed. */
    } while (next != 0 && found.visited > before && found.visited < wanted &&
             found.size < SCAN_SIZE_MAX && found.steps < SCAN_STEPS_MAX);
    (void)snprintf(cursor_text, sizeof cursor_text, "%" PRIu64, next);
    resp_put_array(eval->out, 2);
    resp_put_text(eval->out, cursor_text);
    resp_put_array(eval->out, found.count);
    buf_append(eval->out, found.keys.data, found.keys.size);
    buf_close(&found.keys);
}

void cmd_keys(struct eval *eval)
{
    struct found found = {.eval = eval, .pattern = eval->args[1], .steps_max = KEYS_STEPS_MAX};
    const uint64_t limit = eval->shard->config->output_limit_size;
    uint64_t cursor = 0;
    if (!eval_pattern_fits(eval, eval->args[1])) return;
    if (!eval_may_walk(eval, keydir_count(store_keys(eval->shard->store)))) return;
    if (is_every(found.pattern)) found.pattern = (struct slice){0};
    found.no_pattern = eval->args[1].size == 0;
    do {
        cursor = keydir_scan(store_keys(eval->shard->store), cursor, KEYS_STEP, visit, &found);
    } while (cursor != 0 && found.keys.size <= limit && found.steps <= found.steps_max);
    if (found.steps > found.steps_max) {
        eval_error(eval, "TOOBIG to compare all keys with this pattern takes too long for a "
                         "transaction: do this outside");
    } else if (found.keys.size > limit) {
        eval_error(eval, "TOOBIG the reply would be longer than output-limit: use SCAN");
    } else {
        resp_put_array(eval->out, found.count);
        buf_append(eval->out, found.keys.data, found.keys.size);
    }
    buf_close(&found.keys);
}
