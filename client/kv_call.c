/* The calls for one key, and any command, alone or in a pipeline. */
#include "client/kv_internal.h"

#include <stdio.h>

enum kv_err kv_strange(struct kv *kv, bool read)
{
    return kv_say(kv, read ? KV_ERR_FAILED : KV_ERR_UNKNOWN,
                  "the server's answer is not one that this library knows");
}

bool kv_reply_uint(const struct kv_reply *reply, uint64_t *value)
{
    uint64_t number = 0;
    if (reply->type == KV_INTEGER) {
        *value = (uint64_t)reply->integer;
        return reply->integer >= 0;
    }
    if (reply->type != KV_STRING || reply->size == 0 || reply->size > 20) return false;
    for (size_t i = 0; i < reply->size; i++) {
        const uint8_t digit = (uint8_t)(reply->data[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, digit, &number)) {
            return false;
        }
    }
    *value = number;
    return true;
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
    if (reply->type == KV_NIL) return not_found(kv);
    if (reply->type != KV_ARRAY || reply->count < 3 || reply->items[0].type != KV_STRING ||
        reply->items[2].type != KV_INTEGER || !kv_reply_uint(&reply->items[1], &value->revision)) {
        return kv_strange(kv, true);
    }
    value->data = reply->items[0].data;
    value->size = reply->items[0].size;
    value->ttl_ms = reply->items[2].integer;
    return KV_OK;
}

#define SET_ARGS_MAX 10u
#define CONDITIONS (KV_SET_IF_ABSENT | KV_SET_IF_PRESENT | KV_SET_IF_REVISION)

struct set_words {
    struct kv_bytes args[SET_ARGS_MAX];
    size_t count;
    char ttl[24];
    char revision[24];
};

static void add_number(struct set_words *words, const char *name, char *text, uint64_t number)
{
    (void)snprintf(text, 24, "%llu", (unsigned long long)number);
    words->args[words->count++] = kv_text(name);
    words->args[words->count++] = kv_text(text);
}

static bool set_options_valid(const struct kv_set_options *options, bool previous)
{
    const unsigned condition = options->flags & CONDITIONS;
    if ((options->flags & ~(CONDITIONS | (unsigned)KV_SET_KEEP_TTL)) != 0) return false;
    if ((condition & (condition - 1)) != 0) return false; /* more than one */
    if (options->ttl_ms < 0) return false;
    if ((options->flags & KV_SET_KEEP_TTL) != 0 && options->ttl_ms > 0) return false;
    return !previous || condition != KV_SET_IF_REVISION;
}

static void set_words(struct set_words *words, const struct kv_set_options *options, bool previous)
{
    struct kv_bytes *args = words->args;
    if (options->flags & KV_SET_IF_ABSENT) args[words->count++] = KV_TEXT("NX");
    if (options->flags & KV_SET_IF_PRESENT) args[words->count++] = KV_TEXT("XX");
    if (options->flags & KV_SET_IF_REVISION) {
        add_number(words, "IFREV", words->revision, options->if_revision);
    }
    if (options->flags & KV_SET_KEEP_TTL) args[words->count++] = KV_TEXT("KEEPTTL");
    if (options->ttl_ms > 0) add_number(words, "PX", words->ttl, (uint64_t)options->ttl_ms);
    if (previous) args[words->count++] = KV_TEXT("GET");
}

static enum kv_err condition_failed(struct kv *kv, const struct kv_set_options *options)
{
    const char *what = "the key exists";
    if (options->flags & KV_SET_IF_PRESENT) what = "there is no such key";
    if ((options->flags & KV_SET_IF_REVISION) && options->if_revision > 0) {
        what = "the key's revision is another";
    }
    return kv_say(kv, KV_ERR_CONDITION, "%s", what);
}

enum kv_err kv_set(struct kv *kv, struct kv_bytes key, struct kv_bytes value,
                   const struct kv_set_options *options, struct kv_value *previous)
{
    const struct kv_set_options plain = {0};
    struct set_words words = {.args = {KV_TEXT("SET"), key, value}, .count = 3};
    const struct kv_reply *reply = NULL;
    if (previous != NULL) *previous = (struct kv_value){.ttl_ms = -1};
    if (options == NULL) options = &plain;
    if (!set_options_valid(options, previous != NULL)) {
        return kv_say(kv, KV_ERR_INVALID, "these options of a set exclude each other");
    }
    set_words(&words, options, previous != NULL);
    const enum kv_err err = kv_write(kv, words.args, words.count, &reply);
    if (err != KV_OK) return err;
    if (reply->type != KV_NIL && reply->type != KV_STRING) return kv_strange(kv, false);
    const bool nil = reply->type == KV_NIL;
    if (previous == NULL) return nil ? condition_failed(kv, options) : KV_OK;
    if (!nil) {
        previous->data = reply->data;
        previous->size = reply->size;
    }
    /* With GET the reply is the value before, whether it was replaced or not. */
    const bool failed = (options->flags & KV_SET_IF_ABSENT) != 0    ? !nil
                        : (options->flags & KV_SET_IF_PRESENT) != 0 ? nil
                                                                    : false;
    return failed ? condition_failed(kv, options) : KV_OK;
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

/* ---- any command ----------------------------------------------------------------------------- */

static bool is_word(struct kv_bytes arg, const char *word)
{
    const char *text = arg.data;
    if (arg.size != strlen(word)) return false;
    for (size_t i = 0; i < arg.size; i++) {
        const char upper = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i]);
        if (upper != word[i]) return false;
    }
    return true;
}

/* Commands after which a connection is no longer what the library takes it for. */
static bool changes_connection(const struct kv_bytes *args, size_t count)
{
    static const char *const names[] = {
        "HELLO",      "RESET",        "QUIT",       "MULTI",        "EXEC",
        "DISCARD",    "WATCH",        "UNWATCH",    "SUBSCRIBE",    "UNSUBSCRIBE",
        "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR",
        "SYNC",       "PSYNC",        "ASKING",     "AUTH",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (is_word(args[0], names[i])) return true;
    }
    return count > 1 && is_word(args[0], "CLIENT") &&
           (is_word(args[1], "REPLY") || is_word(args[1], "TRACKING"));
}

static enum kv_err check_command(struct kv *kv, const struct kv_bytes *args, size_t count)
{
    if (count == 0) return kv_say(kv, KV_ERR_INVALID, "a command has at least one word");
    if (changes_connection(args, count)) {
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
