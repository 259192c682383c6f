/* Commands made of arguments and answers read, as the synchronous and the asynchronous client share them. */
#include "client/kv_internal.h"

#include <stdio.h>

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

enum kv_err kv_value_read(const struct kv_reply *reply, struct kv_value *value)
{
    if (reply->type == KV_NIL) return KV_ERR_NOT_FOUND;
    if (reply->type != KV_ARRAY || reply->count < 3 || reply->items[0].type != KV_STRING ||
        reply->items[2].type != KV_INTEGER || !kv_reply_uint(&reply->items[1], &value->revision)) {
        return KV_ERR_INVALID;
    }
    value->data = reply->items[0].data;
    value->size = reply->items[0].size;
    value->ttl_ms = reply->items[2].integer;
    return KV_OK;
}

#define CONDITIONS (KV_SET_IF_ABSENT | KV_SET_IF_PRESENT | KV_SET_IF_REVISION)

static void add_number(struct kv_set_words *words, const char *name, char *text, uint64_t number)
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

bool kv_set_words(struct kv_set_words *words, struct kv_bytes key, struct kv_bytes value,
                  const struct kv_set_options *options, bool previous)
{
    struct kv_bytes *args = words->args;
    if (!set_options_valid(options, previous)) return false;
    words->count = 0;
    args[words->count++] = KV_TEXT("SET");
    args[words->count++] = key;
    args[words->count++] = value;
    if (options->flags & KV_SET_IF_ABSENT) args[words->count++] = KV_TEXT("NX");
    if (options->flags & KV_SET_IF_PRESENT) args[words->count++] = KV_TEXT("XX");
    if (options->flags & KV_SET_IF_REVISION) {
        add_number(words, "IFREV", words->revision, options->if_revision);
    }
    if (options->flags & KV_SET_KEEP_TTL) args[words->count++] = KV_TEXT("KEEPTTL");
    if (options->ttl_ms > 0) add_number(words, "PX", words->ttl, (uint64_t)options->ttl_ms);
    if (previous) args[words->count++] = KV_TEXT("GET");
    return true;
}

static const char *condition_words(const struct kv_set_options *options)
{
    if (options->flags & KV_SET_IF_PRESENT) return "there is no such key";
    if ((options->flags & KV_SET_IF_REVISION) && options->if_revision > 0) {
        return "the key's revision is another";
    }
    return "the key exists";
}

enum kv_err kv_set_read(const struct kv_reply *reply, const struct kv_set_options *options,
                        struct kv_value *previous, const char **why)
{
    if (reply->type != KV_NIL && reply->type != KV_STRING) return KV_ERR_INVALID;
    const bool nil = reply->type == KV_NIL;
    bool failed = nil;
    if (previous != NULL) {
        if (!nil) {
            previous->data = reply->data;
            previous->size = reply->size;
        }
        /* With GET the reply is the value before, whether it was replaced or not. */
        failed = (options->flags & KV_SET_IF_ABSENT) != 0    ? !nil
                 : (options->flags & KV_SET_IF_PRESENT) != 0 ? nil
                                                             : false;
    }
    if (!failed) return KV_OK;
    *why = condition_words(options);
    return KV_ERR_CONDITION;
}

/* ---- transactions ---------------------------------------------------------------------------- */

#define NUMBER_SIZE 24u

/* Words under construction: each number has its place behind the words. */
struct txn_words {
    struct kv_bytes *args;
    size_t count;
    char *numbers;
};

static void add_word(struct txn_words *words, struct kv_bytes word)
{
    words->args[words->count++] = word;
}

static void add_digits(struct txn_words *words, uint64_t number)
{
    (void)snprintf(words->numbers, NUMBER_SIZE, "%llu", (unsigned long long)number);
    add_word(words, kv_text(words->numbers));
    words->numbers += NUMBER_SIZE;
}

static void add_condition(struct txn_words *words, const struct kv_condition *condition)
{
    static const char *const kinds[] = {"VALUE", "REVISION", "EXISTS", "ABSENT"};
    static const char *const comparisons[] = {"=", "!=", "<", ">"};
    add_word(words, kv_text(kinds[condition->kind]));
    add_word(words, condition->key);
    if (condition->kind > KV_IF_REVISION) return;
    add_word(words, kv_text(comparisons[condition->comparison]));
    if (condition->kind == KV_IF_VALUE) add_word(words, condition->value);
    if (condition->kind == KV_IF_REVISION) add_digits(words, condition->revision);
}

static void add_commands(struct txn_words *words, const char *name, const struct kv_words *commands,
                         size_t count)
{
    if (count == 0) return;
    add_word(words, kv_text(name));
    add_digits(words, count);
    for (size_t i = 0; i < count; i++) {
        add_digits(words, commands[i].count);
        for (size_t j = 0; j < commands[i].count; j++) add_word(words, commands[i].args[j]);
    }
}

/* False: there is a command without words, or too much of them. */
static bool count_commands(const struct kv_words *commands, size_t count, size_t *sum)
{
    for (size_t i = 0; i < count; i++) {
        if (commands[i].count == 0 || commands[i].count > UINT32_MAX) return false;
        if (__builtin_add_overflow(*sum, commands[i].count + 1, sum)) return false;
    }
    return true;
}

static bool conditions_valid(const struct kv_txn *txn)
{
    for (size_t i = 0; i < txn->condition_count; i++) {
        const struct kv_condition *condition = &txn->conditions[i];
        if ((unsigned)condition->kind > KV_IF_ABSENT) return false;
        if ((unsigned)condition->comparison > KV_GREATER) return false;
    }
    return true;
}

enum kv_err kv_txn_words(const struct kv_allocator *allocator, const struct kv_txn *txn,
                         struct kv_bytes **args, size_t *count)
{
    size_t size = 7;
    *args = NULL;
    if (!conditions_valid(txn) || txn->condition_count > UINT32_MAX) return KV_ERR_INVALID;
    if (!count_commands(txn->then, txn->then_count, &size)) return KV_ERR_INVALID;
    if (!count_commands(txn->otherwise, txn->otherwise_count, &size)) return KV_ERR_INVALID;
    size += 4 * txn->condition_count;
    if (size > SIZE_MAX / (sizeof **args + NUMBER_SIZE)) return KV_ERR_INVALID;
    *args = allocator->resize(allocator->context, NULL, size * (sizeof **args + NUMBER_SIZE));
    if (*args == NULL) return KV_ERR_NOMEM;
    struct txn_words words = {.args = *args, .numbers = (char *)(*args + size)};
    add_word(&words, KV_TEXT("KV.TXN"));
    if (txn->condition_count > 0) {
        add_word(&words, KV_TEXT("IF"));
        add_digits(&words, txn->condition_count);
    }
    for (size_t i = 0; i < txn->condition_count; i++) add_condition(&words, &txn->conditions[i]);
    add_commands(&words, "THEN", txn->then, txn->then_count);
    add_commands(&words, "ELSE", txn->otherwise, txn->otherwise_count);
    *count = words.count;
    return KV_OK;
}

bool kv_txn_read(const struct kv_reply *reply, int64_t *held, const struct kv_reply **replies)
{
    if (reply->type != KV_ARRAY || reply->count != 2) return false;
    if (reply->items[0].type != KV_INTEGER || reply->items[1].type != KV_ARRAY) return false;
    *held = reply->items[0].integer != 0;
    *replies = &reply->items[1];
    return true;
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

bool kv_changes_connection(const struct kv_bytes *args, size_t count)
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
