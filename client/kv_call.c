/* The calls for one key, and any command, alone or in a pipeline. */
#include "client/kv_internal.h"

#include <stdio.h>

enum kv_err kv_strange(struct kv *kv, bool read)
{
    return kv_say(kv, read ? KV_ERR_FAILED : KV_ERR_UNKNOWN,
                  "the server's answer is not one that this library knows");
}

/* The answer to command @at of a batch that was executed. */
static enum kv_err take_reply(struct kv *kv, struct kv_batch *batch, size_t at,
                              const struct kv_reply **reply)
{
    const struct kv_item *item = &batch->items[at];
    if (!item->answered) return item->err != KV_OK ? item->err : KV_ERR_UNKNOWN;
    if (reply == NULL) return item->err;
    *reply = kv_batch_reply(batch, at);
    if (*reply != NULL || item->err != KV_OK) return item->err;
    if (item->read) {
        (void)kv_say(kv, KV_ERR_NOMEM, "no memory for the reply");
        return KV_ERR_NOMEM;
    }
    (void)kv_say(kv, KV_ERR_UNKNOWN, "no memory for the reply; the write happened");
    return KV_ERR_UNKNOWN;
}

static enum kv_err call(struct kv *kv, bool read, bool once, const struct kv_bytes *args,
                        size_t count, const struct kv_reply **reply)
{
    kv_batch_clear(&kv->call);
    if (reply != NULL) *reply = NULL;
    const enum kv_err err = once ? kv_batch_add_once(&kv->call, args, count)
                                 : kv_batch_add(&kv->call, read, args, count);
    if (err != KV_OK) {
        (void)kv_say(kv, err,
                     err == KV_ERR_NOMEM
                         ? "no memory for the command"
                         : "a command needs 1 to 131072 arguments of up to 512 MiB");
        return err;
    }
    (void)kv_execute(kv, &kv->call);
    return take_reply(kv, &kv->call, 0, reply);
}

enum kv_err kv_call(struct kv *kv, bool read, const struct kv_bytes *args, size_t count,
                    const struct kv_reply **reply)
{
    return call(kv, read, false, args, count, reply);
}

enum kv_err kv_write(struct kv *kv, const struct kv_bytes *args, size_t count,
                     const struct kv_reply **reply)
{
    return call(kv, false, kv->once.on, args, count, reply);
}

/* ---- one key --------------------------------------------------------------------------------- */

static enum kv_err not_found(struct kv *kv)
{
    return kv_say(kv, KV_ERR_NOT_FOUND, "there is no such key");
}

enum kv_err kv_get(struct kv *kv, struct kv_bytes key, struct kv_value *value)
{
    const struct kv_bytes args[] = {KV_TEXT("KV.GET"), key};
    const struct kv_reply *reply = NULL;
    *value = (struct kv_value){.ttl_ms = -1};
    const enum kv_err err = kv_call(kv, true, args, 2, &reply);
    if (err != KV_OK) return err;
    const enum kv_err read = kv_value_read(reply, value);
    if (read == KV_ERR_NOT_FOUND) return not_found(kv);
    return read == KV_ERR_INVALID ? kv_strange(kv, true) : KV_OK;
}

enum kv_err kv_set(struct kv *kv, struct kv_bytes key, struct kv_bytes value,
                   const struct kv_set_options *options, struct kv_value *previous)
{
    const struct kv_set_options plain = {.flags = 0};
    struct kv_set_words words;
    const struct kv_reply *reply = NULL;
    const char *why = "";
    if (previous != NULL) *previous = (struct kv_value){.ttl_ms = -1};
    if (options == NULL) options = &plain;
    if (!kv_set_words(&words, key, value, options, previous != NULL)) {
        return kv_say(kv, KV_ERR_INVALID, "these options of a set exclude each other");
    }
    enum kv_err err = kv_write(kv, words.args, words.count, &reply);
    if (err != KV_OK) return err;
    err = kv_set_read(reply, options, previous, &why);
    if (err == KV_ERR_INVALID) return kv_strange(kv, false);
    return err == KV_OK ? err : kv_say(kv, err, "%s", why);
}

enum kv_err kv_del(struct kv *kv, const struct kv_bytes *keys, size_t count, uint64_t *deleted)
{
    struct kv_bytes *args = NULL;
    const struct kv_reply *reply = NULL;
    const size_t size = (count + 1) * sizeof *args;
    if (deleted != NULL) *deleted = 0;
    if (count == 0 || count > SIZE_MAX / sizeof *args - 1) {
        return kv_say(kv, KV_ERR_INVALID, "no key is given");
    }
    args = kv->allocator.resize(kv->allocator.context, NULL, size);
    if (args == NULL) return kv_say(kv, KV_ERR_NOMEM, "no memory for the command");
    args[0] = KV_TEXT("DEL");
    memcpy(args + 1, keys, count * sizeof *args);
    const enum kv_err err = kv_write(kv, args, count + 1, &reply);
    (void)kv->allocator.resize(kv->allocator.context, args, 0);
    if (err != KV_OK) return err;
    if (reply->type != KV_INTEGER || reply->integer < 0) return kv_strange(kv, false);
    if (deleted != NULL) *deleted = (uint64_t)reply->integer;
    return KV_OK;
}

enum kv_err kv_incr(struct kv *kv, struct kv_bytes key, int64_t by, int64_t *value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)by);
    const struct kv_bytes args[] = {KV_TEXT("INCRBY"), key, kv_text(text)};
    const struct kv_reply *reply = NULL;
    const enum kv_err err = kv_write(kv, args, 3, &reply);
    if (err != KV_OK) return err;
    if (reply->type != KV_INTEGER) return kv_strange(kv, false);
    if (value != NULL) *value = reply->integer;
    return KV_OK;
}

enum kv_err kv_ttl(struct kv *kv, struct kv_bytes key, int64_t *ttl_ms)
{
    const struct kv_bytes args[] = {KV_TEXT("PTTL"), key};
    const struct kv_reply *reply = NULL;
    *ttl_ms = -1;
    const enum kv_err err = kv_call(kv, true, args, 2, &reply);
    if (err != KV_OK) return err;
    if (reply->type != KV_INTEGER) return kv_strange(kv, true);
    if (reply->integer == -2) return not_found(kv);
    *ttl_ms = reply->integer;
    return KV_OK;
}

/* ---- transaction ----------------------------------------------------------------------------- */

enum kv_err kv_txn(struct kv *kv, const struct kv_txn *txn, int *held,
                   const struct kv_reply **replies)
{
    const struct kv_reply *reply = NULL;
    const struct kv_reply *all = NULL;
    struct kv_bytes *args = NULL;
    size_t count = 0;
    int64_t truth = 0;
    if (held != NULL) *held = 0;
    if (replies != NULL) *replies = NULL;
    enum kv_err err = kv_txn_words(&kv->allocator, txn, &args, &count);
    if (err == KV_ERR_NOMEM) return kv_say(kv, err, "no memory for the command");
    if (err != KV_OK) {
        return kv_say(kv, err, "the transaction has a condition or a command that makes no sense");
    }
    err = kv_write(kv, args, count, &reply);
    (void)kv->allocator.resize(kv->allocator.context, args, 0);
    if (err != KV_OK) return err;
    if (!kv_txn_read(reply, &truth, &all)) return kv_strange(kv, false);
    if (held != NULL) *held = (int)truth;
    if (replies != NULL) *replies = all;
    return KV_OK;
}

/* ---- any command ----------------------------------------------------------------------------- */

static enum kv_err check_command(struct kv *kv, const struct kv_bytes *args, size_t count)
{
    if (count == 0) return kv_say(kv, KV_ERR_INVALID, "a command has at least one word");
    if (kv_changes_connection(args, count)) {
        return kv_say(kv, KV_ERR_INVALID, "%.*s would change the state of the connection",
                      (int)args[0].size, (const char *)args[0].data);
    }
    return KV_OK;
}

static bool is_once(const struct kv *kv, unsigned flags)
{
    return kv->once.on && (flags & (KV_READ | KV_NOT_ONCE)) == 0;
}

enum kv_err kv_command(struct kv *kv, unsigned flags, const struct kv_bytes *args, size_t count,
                       const struct kv_reply **reply)
{
    if (reply != NULL) *reply = NULL;
    const enum kv_err err = check_command(kv, args, count);
    if (err != KV_OK) return err;
    return call(kv, (flags & KV_READ) != 0, is_once(kv, flags), args, count, reply);
}

struct kv_pipeline {
    struct kv *kv;
    struct kv_batch batch;
    bool done; /* the list was run: the next command begins a new one */
};

enum kv_err kv_pipeline_create(struct kv *kv, struct kv_pipeline **pipeline)
{
    struct kv_pipeline *made = kv->allocator.resize(kv->allocator.context, NULL, sizeof *made);
    *pipeline = made;
    if (made == NULL) return kv_say(kv, KV_ERR_NOMEM, "no memory for a pipeline");
    *made = (struct kv_pipeline){.kv = kv};
    kv_batch_init(&made->batch, &kv->allocator);
    return KV_OK;
}

void kv_pipeline_destroy(struct kv_pipeline *pipeline)
{
    if (pipeline == NULL) return;
    const struct kv_allocator *allocator = &pipeline->kv->allocator;
    kv_batch_close(&pipeline->batch);
    (void)allocator->resize(allocator->context, pipeline, 0);
}

enum kv_err kv_pipeline_add(struct kv_pipeline *pipeline, unsigned flags,
                            const struct kv_bytes *args, size_t count)
{
    struct kv *kv = pipeline->kv;
    const enum kv_err refused = check_command(kv, args, count);
    if (refused != KV_OK) return refused;
    if (pipeline->done) kv_batch_clear(&pipeline->batch);
    pipeline->done = false;
    const enum kv_err err = is_once(kv, flags) ? kv_batch_add_once(&pipeline->batch, args, count)
                                               : kv_batch_add(&pipeline->batch,
                                                              (flags & KV_READ) != 0, args, count);
    if (err == KV_ERR_NOMEM) return kv_say(kv, err, "no memory for the command");
    if (err != KV_OK) return kv_say(kv, err, "a command has too many or too long arguments");
    return KV_OK;
}

enum kv_err kv_pipeline_execute(struct kv_pipeline *pipeline)
{
    pipeline->done = true;
    pipeline->batch.cut = false; /* the replies of a run before are void */
    return kv_execute(pipeline->kv, &pipeline->batch);
}

size_t kv_pipeline_count(const struct kv_pipeline *pipeline)
{
    return pipeline->batch.count;
}

enum kv_err kv_pipeline_result(struct kv_pipeline *pipeline, size_t at,
                               const struct kv_reply **reply)
{
    if (reply != NULL) *reply = NULL;
    if (!pipeline->done || at >= pipeline->batch.count) {
        return kv_say(pipeline->kv, KV_ERR_INVALID, "there is no such command in the pipeline");
    }
    return take_reply(pipeline->kv, &pipeline->batch, at, reply);
}
