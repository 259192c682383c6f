/* eval.c - what a command's function may use: the view of keys, effects, replies. See command.h. */
#include "node/command.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/shard.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

#define COMMAND_EFFECTS_MAX 32768u
#define EXPIRED_EFFECTS_MAX 32768u /* Expired keys that reads may still delete in one batch. */

static void saw(struct eval *eval, uint64_t batch)
{
    if (batch > eval->batch) eval->batch = batch;
}

/* The clock says that the key is gone. The delete goes into the log, so that no later leader, whose clock may be
 * behind, can show the key again: the reply waits for it. Any entry would do, its stamp is what counts. */
static void expire_now(struct eval *eval, struct slice key, uint64_t revision)
{
    struct batches *batches = &eval->shard->batches;
    if (eval->is_local) return;
    if (batches->open->effect_count < EXPIRED_EFFECTS_MAX &&
        batches_open_size(batches) < BATCH_SIZE_SOFT + MIB) {
        batches_add(batches, &(struct effect){.kind = EFFECT_DELETE,
                                              .flags = EFFECT_FLAG_EXPIRED,
                                              .previous_revision = revision,
                                              .key = key});
        eval->shard->expired_count++;
    }
    saw(eval, batches->open->number);
}

void eval_note_expired(struct eval *eval, const struct keydir_info *info)
{
    if (eval->is_local) return;
    const struct batch_hit hit = batches_find(&eval->shard->batches, info->key);
    if (hit.is_flying || hit.is_hidden) {
        saw(eval, hit.number); /* Whatever is in flight carries a stamp that is late enough. */
    } else {
        expire_now(eval, info->key, info->revision);
    }
}

static struct item from_keydir(struct eval *eval, struct slice key)
{
    const struct keydir_entry *entry = keydir_find(store_keys(eval->shard->store), key);
    if (entry == NULL) return (struct item){0};
    const struct keydir_info info = keydir_info(entry);
    return (struct item){.exists = true,
                         .expiry_ms = info.expiry_ms,
                         .revision = info.revision,
                         .value = info.inline_value,
                         .has_value = info.is_inline,
                         .entry = entry};
}

struct item eval_find(struct eval *eval, struct slice key)
{
    struct item item = {0};
    struct batch_hit hit = {0};
    if (!eval->is_local && !eval->is_applied) hit = batches_find(&eval->shard->batches, key);
    if (hit.is_hidden || (hit.is_flying && !hit.exists)) {
        saw(eval, hit.number);
        return item;
    }
    if (!hit.is_flying) {
        item = from_keydir(eval, key);
    } else {
        saw(eval, hit.number);
        if (hit.is_expiry_only) {
            item = from_keydir(eval, key);
            CHECK(item.exists);
            item.revision = 0; /* It has a newer one, not known before the entry has its index. */
        } else {
            item = (struct item){.exists = true, .value = hit.value, .has_value = true};
        }
        item.expiry_ms = hit.expiry_ms;
    }
    if (item.exists && item.expiry_ms != 0 && item.expiry_ms <= eval->now_ms) {
        if (eval->is_applied) {
            const struct keydir_info info = keydir_info(item.entry);
            eval_note_expired(eval, &info);
        } else {
            expire_now(eval, key, item.revision);
        }
        return (struct item){0};
    }
    return item;
}

bool eval_value(struct eval *eval, struct item *item, struct slice *value)
{
    CHECK(item->exists);
    if (!item->has_value) {
        const enum err err = store_value(eval->shard->store, item->entry, &item->value);
        if (err != OK) {
            eval->damaged = true;
            eval_error(eval, "ERR the value could not be read from the disk of this node: it is "
                             "damaged; see the "
                             "node's log");
            return false;
        }
        item->has_value = true;
    }
    *value = item->value;
    return true;
}

bool eval_room(struct eval *eval, uint64_t effects, uint64_t bytes)
{
    char text[160];
    /* A single value is bounded by max-value; many changes at once would hold up everybody else. */
    if (effects <= 1) return true;
    if (effects <= COMMAND_EFFECTS_MAX && bytes <= COMMAND_SIZE_MAX) return true;
    (void)snprintf(text, sizeof text,
                   "TOOBIG one command may change at most %u keys and %u bytes, this one %" PRIu64
                   " and %" PRIu64,
                   COMMAND_EFFECTS_MAX, COMMAND_SIZE_MAX, effects, bytes);
    eval_error(eval, text);
    return false;
}

static void add(struct eval *eval, const struct effect *effect)
{
    CHECK(!eval->is_local);
    CHECK((eval->command->flags & CMD_WRITE) != 0);
    batches_add(&eval->shard->batches, effect);
    saw(eval, eval->shard->batches.open->number);
    eval->wrote = true;
}

void eval_put(struct eval *eval, struct slice key, struct slice value, uint64_t expiry_ms,
              const struct item *before)
{
    add(eval, &(struct effect){.kind = EFFECT_PUT,
                               .expiry_ms = expiry_ms,
                               .previous_revision = before->revision,
                               .key = key,
                               .value = value});
}

void eval_delete(struct eval *eval, struct slice key, const struct item *before)
{
    add(eval,
        &(struct effect){.kind = EFFECT_DELETE, .previous_revision = before->revision, .key = key});
}

void eval_expire(struct eval *eval, struct slice key, uint64_t expiry_ms, const struct item *before)
{
    add(eval, &(struct effect){.kind = EFFECT_EXPIRE_AT,
                               .expiry_ms = expiry_ms,
                               .previous_revision = before->revision,
                               .key = key});
}

void eval_flush(struct eval *eval)
{
    add(eval, &(struct effect){.kind = EFFECT_FLUSH});
}

bool eval_key_fits(struct eval *eval, struct slice key)
{
    char text[96];
    if (key.size > 0 && key.size <= KEY_SIZE_MAX) return true;
    (void)snprintf(text, sizeof text, "TOOBIG a key has 1 to %u bytes, this one has %" PRIu64,
                   KEY_SIZE_MAX, key.size);
    eval_error(eval, text);
    return false;
}

bool eval_value_fits(struct eval *eval, uint64_t size)
{
    char text[112];
    const uint64_t max = eval->shard->config->max_value_size;
    if (size <= max) return true;
    (void)snprintf(text, sizeof text,
                   "TOOBIG a value has at most %" PRIu64
                   " bytes (max-value), this one has %" PRIu64,
                   max, size);
    eval_error(eval, text);
    return false;
}

void eval_ok(struct eval *eval)
{
    resp_put_simple(eval->out, "OK");
}

void eval_error(struct eval *eval, const char *text)
{
    resp_put_error(eval->out, text);
}

void eval_syntax_error(struct eval *eval)
{
    eval_error(eval, "ERR syntax error");
}

bool eval_int(struct eval *eval, uint32_t at, int64_t *value)
{
    if (slice_int64(eval->args[at], value)) return true;
    eval_error(eval, "ERR value is not an integer or out of range");
    return false;
}
