/* eval.c - what a command's function may use: the view of keys, effects, replies. See command.h. */
#include "node/command.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/core_parts.h"
#include "node/eval_nested.h"
#include "node/eval_reserved.h"
#include "node/shard.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/compress.h"
#include "storage/reserved.h"
#include "storage/store_disk.h"
#include "storage/store_value.h"

#define FLUSH_WALK_KEYS 500u       /* A flush counts as a look at so many keys. */
#define EXPIRED_EFFECTS_MAX 32768u /* Expired keys that reads may still delete in one batch. */

static void saw(struct eval *eval, uint64_t batch)
{
    if (batch > eval->batch) eval->batch = batch;
}

/* Change feeds tell what a command did in one piece: its effects after the first are marked. */
static uint8_t joined(const struct eval *eval)
{
    for (const struct eval *at = eval; at != NULL; at = at->whole) {
        if (at->wrote) return EFFECT_FLAG_JOINED;
    }
    return 0;
}

/* The clock says that the key is gone. The delete goes into the log, so that no later leader, whose clock may be
 * behind, can show the key again: the reply waits for it. Any entry would do, its stamp is what counts. */
static void expire_now(struct eval *eval, struct slice key, uint64_t revision, uint64_t expiry_ms)
{
    struct batches *batches = &eval->shard->batches;
    if (eval->is_local) return;
    if (batches->open->effect_count < EXPIRED_EFFECTS_MAX &&
        batches_open_size(batches) < BATCH_SIZE_SOFT + MIB) {
        batches_add(batches,
                    &(struct effect){.kind = EFFECT_DELETE,
                                     .flags = (uint8_t)(EFFECT_FLAG_EXPIRED | joined(eval)),
                                     .expiry_ms = expiry_ms,
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
        expire_now(eval, info->key, info->revision, info->expiry_ms);
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
                         .previous = info.revision,
                         .value = info.inline_value,
                         .has_value = info.is_inline,
                         .is_packed = info.is_compressed,
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
            item.revision = 0; /* It has a newer one, see flight_revision. */
        } else {
            item = (struct item){.exists = true,
                                 .value = hit.value,
                                 .has_value = !hit.is_absent,
                                 .is_packed = hit.is_packed,
                                 .batch = hit.number};
        }
        item.expiry_ms = hit.expiry_ms;
        item.flight = hit.number;
        item.flight_ordinal = hit.ordinal;
        if (hit.index != 0) item.flight_revision = revision_of(hit.index, hit.ordinal);
        /* One that is not proposed yet is in the entry that the next effect will be in, too (effect.h). */
        item.previous = hit.index != 0 ? revision_of(hit.index, hit.ordinal)
                                       : (uint64_t)hit.ordinal + 1;
    }
    if (item.exists && item.expiry_ms != 0 && item.expiry_ms <= eval->gone_ms) {
        if (eval->is_applied) {
            const struct keydir_info info = keydir_info(item.entry);
            eval_note_expired(eval, &info);
        } else {
            expire_now(eval, key, item.previous, item.expiry_ms);
        }
        return (struct item){0};
    }
    return item;
}

/* ---- values ------------------------------------------------------------------------------------------ */

/* @size bytes were read or unpacked in this turn. A transaction may do that again and again, and reply next to nothing:
 * there is a bound. */
static void count_read(struct eval *eval, uint64_t size)
{
    uint64_t *left = &eval->shard->value_left;
    eval->core->turn_served += size / (4 * KIB);
    *left = size < *left ? *left - size : 0;
}

/* False in any case: what a command does that did not get a value. */
static bool no_value(struct eval *eval, enum err err)
{
    if (err == ERR_AGAIN) {
        eval->waits = true;
    } else if (err == ERR_TOO_BIG && eval->shard->value_left == 0) {
        eval_error(eval,
                   "TOOBIG more values would be read than output-limit allows for replies: do "
                   "less at once");
    } else if (err == ERR_TOO_BIG) {
        eval_error(eval,
                   "TOOBIG the reply would be longer than output-limit: ask for less at once");
    } else {
        eval->damaged = true;
        eval_error(eval, "ERR the value could not be read from the disk of this node: it is "
                         "damaged; see the node's log");
    }
    return false;
}

/* From the disk, or in slices, while the session waits. */
static enum err fetch(struct eval *eval, const struct keydir_entry *entry, struct slice *value)
{
    struct shard *shard = eval->shard;
    return fetch_value(&shard->fetches, &eval->session->fetch, shard->store, entry,
                       shard->config->output_limit_size, value);
}

/* The value of @entry; @stored is it as stored, if it is here. */
static enum err entry_value(struct eval *eval, const struct keydir_entry *entry, bool is_packed,
                            const struct slice *stored, struct slice *value)
{
    struct shard *shard = eval->shard;
    enum err err = OK;
    if (stored != NULL) {
        *value = *stored;
    } else if (fetch_has(&shard->fetches, eval->session->fetch, entry, value)) {
        return OK;
    } else if (shard->value_left == 0) {
        return ERR_TOO_BIG;
    } else {
        err = store_value_now(shard->store, entry, value);
        if (err == OK) count_read(eval, value->size);
        if (err == ERR_AGAIN) return fetch(eval, entry, value);
        /* In memory; but it is fetched into memory of its own, which becomes the reply. */
        if (err == OK && !is_packed && value->size > FETCH_COPY_NOW_MAX) {
            return fetch(eval, entry, value);
        }
    }
    if (err != OK || !is_packed) return err;
    if (compress_raw_size(*value) > FETCH_UNPACK_NOW_MAX) return fetch(eval, entry, value);
    if (shard->value_left == 0) return ERR_TOO_BIG;
    shard->unpacked.size = 0;
    err = compress_unpack(*value, &shard->unpacked);
    *value = buf_slice(&shard->unpacked);
    count_read(eval, value->size);
    return err;
}

enum err eval_entry_try(struct eval *eval, const struct keydir_entry *entry, struct slice *value)
{
    const struct keydir_info info = keydir_info(entry);
    return entry_value(eval, entry, info.is_compressed, info.is_inline ? &info.inline_value : NULL,
                       value);
}

bool eval_entry_value(struct eval *eval, const struct keydir_entry *entry, struct slice *value)
{
    const enum err err = eval_entry_try(eval, entry, value);
    return err == OK ? true : no_value(eval, err);
}

/* A value on its way of which only the log has the bytes, or that takes long to unpack. */
static bool is_far(const struct item *item)
{
    if (!item->has_value) return true;
    return item->is_packed && compress_raw_size(item->value) > FETCH_UNPACK_NOW_MAX;
}

bool eval_value(struct eval *eval, struct item *item, struct slice *value)
{
    CHECK(item->exists);
    if (item->batch != 0 && is_far(item)) {
        /* Once its entry is applied it can be fetched by its place. */
        eval->session->applied_batch = item->batch;
        return no_value(eval, ERR_AGAIN);
    }
    if (item->has_value && !item->is_packed) {
        *value = item->value;
        return true;
    }
    const enum err err = entry_value(eval, item->entry, item->is_packed,
                                     item->has_value ? &item->value : NULL, value);
    if (err != OK) return no_value(eval, err);
    item->value = *value;
    item->has_value = true;
    item->is_packed = false;
    return true;
}

bool eval_revision(struct eval *eval, const struct item *item, uint64_t *revision)
{
    const struct batches *batches = &eval->shard->batches;
    *revision = item->revision != 0 ? item->revision : item->flight_revision;
    if (!item->exists || *revision != 0) return true;
    CHECK(item->flight == batches->open->number);
    if (eval->root != NULL && item->flight_ordinal >= eval->root->batches.effect_count) {
        eval_error(eval, "ERR the revision is not known before the transaction is carried out, "
                         "which changes this key");
        return false;
    }
    /* It is when what gathers is proposed. */
    eval->session->wants_alone = true;
    eval->waits = true;
    return false;
}

void eval_reply(struct eval *eval, struct slice value)
{
    struct buf bytes = {0};
    uint64_t offset = 0;
    if (eval->whole != NULL || !fetch_take(eval->session->fetch, value, &bytes, &offset)) {
        resp_put_bulk(eval->out, value);
        return;
    }
    if (!session_take_bulk(eval->session, &bytes, offset, value.size)) {
        resp_put_bulk(eval->out, slice_of(bytes.data + offset, value.size));
        buf_close(&bytes);
    }
}

bool eval_wants_more(const struct eval *eval)
{
    return !eval->waits || !fetch_is_full(eval->session->fetch);
}

int64_t eval_ttl(const struct eval *eval, uint64_t expiry_ms)
{
    if (expiry_ms == 0) return -1;
    return expiry_ms > eval->now_ms ? (int64_t)(expiry_ms - eval->now_ms) : 0;
}

bool eval_value_size(struct eval *eval, struct item *item, uint64_t *size)
{
    struct slice value = item->value;
    CHECK(item->exists);
    enum err err = OK;
    if (item->batch != 0 && !item->has_value) return eval_value(eval, item, &value);
    if (!item->has_value && !item->is_packed) {
        *size = keydir_info(item->entry).value_size;
        return true;
    }
    if (!item->has_value) err = store_value_now(eval->shard->store, item->entry, &value);
    if (err == OK) {
        *size = item->is_packed ? compress_raw_size(value) : value.size;
        return true;
    }
    if (err != ERR_AGAIN) return no_value(eval, err);
    if (!eval_value(eval, item, &value)) return false;
    *size = value.size;
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

/* @built: NULL, or the value laid out (prepare.h). */
static void add(struct eval *eval, struct effect effect, struct buf *built)
{
    struct batches *batches = &eval->shard->batches;
    effect.flags |= joined(eval);
    CHECK(!eval->is_local);
    CHECK((eval->command->flags & CMD_WRITE) != 0);
    CHECK(!eval->waits);
    if (eval->root != NULL && !eval->overflows) {
        const struct batches_mark *root = &eval->root->batches;
        eval->overflows = batches->open->effect_count - root->effect_count >= COMMAND_EFFECTS_MAX ||
                          batches_open_size(batches) - root->size + effect_size(&effect) >
                              COMMAND_SIZE_MAX;
    }
    if (eval->overflows) return; /* It will be undone. */
    if (built != NULL && batches_open_empty(batches)) {
        batches_add_built(batches, &effect, built);
    } else {
        batches_add(batches, &effect);
    }
    saw(eval, batches->open->number);
    eval->wrote = true;
}

/* What is stored of @value: decided here, once for all nodes. */
static struct slice stored_form(struct eval *eval, struct slice value, bool *is_packed,
                                struct buf **built)
{
    struct shard *shard = eval->shard;
    const uint64_t above = shard->config->compress_above_size;
    struct prepare_value prepared;
    if (eval->whole == NULL && prepare_find(eval->session->prepare, eval->args, value, &prepared)) {
        *is_packed = prepared.is_packed;
        *built = prepared.built;
        return prepared.stored;
    }
    /* A large value that is not an argument was put together in this turn: that is enough work for it. */
    if (above == 0 || value.size <= above || value.size > PREPARE_ABOVE) return value;
    shard->packed.size = 0;
    shard->pack_left -= value.size < shard->pack_left ? value.size : shard->pack_left;
    *is_packed = compress_pack(value, &shard->packed);
    return *is_packed ? buf_slice(&shard->packed) : value;
}

void eval_put(struct eval *eval, struct slice key, struct slice value, uint64_t expiry_ms,
              const struct item *before)
{
    struct shard *shard = eval->shard;
    bool is_packed = false;
    struct buf *built = NULL;
    const struct slice stored = stored_form(eval, value, &is_packed, &built);
    const struct effect effect = {.kind = EFFECT_PUT,
                                  .flags = is_packed ? EFFECT_FLAG_LZ4 : 0,
                                  .expiry_ms = expiry_ms,
                                  .previous_revision = before->previous,
                                  .key = key,
                                  .value = stored};
    shard->value_raw_size += value.size;
    shard->value_stored_size += stored.size;
    shard->packed_count += is_packed;
    add(eval, effect, built);
}

bool eval_fits_disk(struct eval *eval, uint64_t size)
{
    const struct shard *shard = eval->shard;
    const uint64_t heads = (uint64_t)eval->count * (EFFECT_HEADER_SIZE + 8);
    if (store_fits(shard->store, batches_open_size(&shard->batches) + heads + size)) return true;
    eval_error(eval, "NOSPACE the disk has no room for so large a value: nothing was changed");
    return false;
}

static uint64_t size_of_parts(const struct slice *parts, uint32_t count)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) size += parts[i].size;
    return size;
}

static void join(struct buf *out, const struct slice *parts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].data != NULL) {
            buf_append(out, parts[i].data, parts[i].size);
        } else if (parts[i].size > 0) {
            memset(buf_extend(out, parts[i].size), 0, parts[i].size);
        }
    }
}

/* Joined where it will be logged, and not packed: one copy is work enough for a turn. */
static bool put_parts_large(struct eval *eval, struct slice key, const struct slice *parts,
                            uint32_t count, uint64_t expiry_ms, const struct item *before)
{
    struct shard *shard = eval->shard;
    struct buf built = {0};
    const uint64_t front = BATCH_BUILT_SIZE + key.size;
    if (!eval_fits_disk(eval, front + size_of_parts(parts, count))) return false;
    if (!batches_open_empty(&shard->batches)) {
        eval->session->wants_alone = true;
        eval->waits = true;
        return false;
    }
    (void)buf_reserve_exact(&built, front + size_of_parts(parts, count) + 8);
    (void)buf_extend(&built, BATCH_BUILT_SIZE);
    buf_append(&built, key.data, key.size);
    join(&built, parts, count);
    const struct effect effect = {.kind = EFFECT_PUT,
                                  .expiry_ms = expiry_ms,
                                  .previous_revision = before->revision,
                                  .key = key,
                                  .value = slice_of(built.data + front, built.size - front)};
    shard->value_raw_size += effect.value.size;
    shard->value_stored_size += effect.value.size;
    add(eval, effect, &built);
    buf_close(&built);
    return true;
}

bool eval_put_parts(struct eval *eval, struct slice key, const struct slice *parts, uint32_t count,
                    uint64_t expiry_ms, const struct item *before)
{
    struct buf value = {0};
    const uint64_t size = size_of_parts(parts, count);
    if (eval->root != NULL && size > COMMAND_SIZE_MAX) {
        eval->overflows = true;
        return true;
    }
    if (size > PREPARE_BUILD_SIZE && eval->root == NULL) {
        return put_parts_large(eval, key, parts, count, expiry_ms, before);
    }
    join(&value, parts, count);
    eval_put(eval, key, buf_slice(&value), expiry_ms, before);
    buf_close(&value);
    return true;
}

void eval_delete(struct eval *eval, struct slice key, const struct item *before)
{
    add(eval,
        (struct effect){.kind = EFFECT_DELETE, .previous_revision = before->previous, .key = key},
        NULL);
}

void eval_expire(struct eval *eval, struct slice key, uint64_t expiry_ms, const struct item *before)
{
    add(eval,
        (struct effect){.kind = EFFECT_EXPIRE_AT,
                        .expiry_ms = expiry_ms,
                        .previous_revision = before->previous,
                        .key = key},
        NULL);
}

bool eval_flush(struct eval *eval)
{
    struct buf kept = {0};
    const uint64_t keys = eval_reserved_count(eval);
    /* In a transaction the first one may always; each looks at all keys that stay. */
    const uint64_t walk = FLUSH_WALK_KEYS + keys;
    if (!eval_may_walk(eval, walk < EVAL_WALK_KEYS_MAX ? walk : EVAL_WALK_KEYS_MAX)) return false;
    eval->core->turn_served += walk / 2;
    const bool ok = eval_reserved_gather(eval, &kept);
    if (ok) {
        add(eval, (struct effect){.kind = EFFECT_FLUSH}, NULL);
        eval_reserved_restore(eval, buf_slice(&kept));
    }
    buf_close(&kept);
    return ok;
}

bool eval_key_fits(struct eval *eval, struct slice key)
{
    char text[96];
    if (reserved_key(key)) {
        eval_error(eval,
                   "KEYS_RESERVED keys that begin with the bytes 00 6b 76 00 are the server's own");
        return false;
    }
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

bool eval_pattern_fits(struct eval *eval, struct slice pattern)
{
    char text[96];
    if (pattern.size <= PATTERN_SIZE_MAX) return true;
    (void)snprintf(text, sizeof text,
                   "TOOBIG a pattern has at most %u bytes, this one has %" PRIu64, PATTERN_SIZE_MAX,
                   pattern.size);
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

bool eval_uint(struct eval *eval, uint32_t at, uint64_t *value)
{
    int64_t number = 0;
    if (!eval_int(eval, at, &number)) return false;
    if (number < 0) {
        eval_error(eval, "ERR value is out of range, must be positive");
        return false;
    }
    *value = (uint64_t)number;
    return true;
}

void eval_field(struct eval *eval, const char *name, const char *value)
{
    resp_put_text(eval->out, name);
    resp_put_text(eval->out, value);
}

void eval_field_int(struct eval *eval, const char *name, uint64_t value)
{
    resp_put_text(eval->out, name);
    resp_put_int(eval->out, (int64_t)value);
}
