/* cmd_once.c - KV.ONCE: a command that may be sent again and again and is carried out once.
 *
 *   KV.ONCE client-id sequence command [argument ...]
 *
 * What the command answered is remembered under the client's id in a key of the server's own, in the same entry as what
 * it changed, hence on every node and through every change of leader. The same sequence again gets the same answer.
 * The newest ONCE_WINDOW answers of a client are kept, until nothing was heard of it for `once-retention`.
 *
 *   value   u8 form (1)   u64 highest sequence that is forgotten, 0: none   entries, the lowest sequence first
 *   entry   u64 sequence   u32 hash of the command   u32 size, the reply as RESP2 */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_lock.h"
#include "node/eval_nested.h"
#include "node/eval_reserved.h"
#include "node/shard.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"

#define ONCE_FORM 1u
#define ONCE_WINDOW 8u
#define ONCE_ID_SIZE_MAX 128u
#define ONCE_REPLY_SIZE_MAX (16u * KIB)
#define ONCE_VALUE_SIZE_USUAL (4u * KIB) /* of more than that only the newest answer stays */

struct once_entry {
    uint64_t sequence;
    uint32_t hash;
    struct slice reply;
};

/* What is known of a client. */
struct once {
    uint64_t forgotten;
    uint32_t count;
    struct once_entry entries[ONCE_WINDOW];
    struct buf bytes; /* of the replies */
};

/* One whole reply as RESP2 writes it, and nothing else: it goes out to clients as it is. */
static bool is_reply(struct slice reply)
{
    uint64_t size = 0;
    if (resp_skip(reply, &size) != RESP_OK || size != reply.size) return false;
    for (uint64_t at = 0; at < reply.size;) {
        int64_t bulk = 0;
        const uint8_t kind = reply.data[at];
        const uint8_t *end = memchr(reply.data + at, '\n', reply.size - at);
        if (memchr("+-:$*", kind, 5) == NULL) return false;
        const uint64_t line = (uint64_t)(end - reply.data) + 1 - at;
        const struct slice text = slice_of(reply.data + at + 1, line - 3);
        at += line;
        if (kind == '$' && slice_int64(text, &bulk) && bulk >= 0) at += (uint64_t)bulk + 2;
    }
    return true;
}

static bool read_record(struct once *once, struct slice value)
{
    buf_append(&once->bytes, value.data, value.size);
    struct reader reader = reader_of(buf_slice(&once->bytes));
    if (reader_u8(&reader) != ONCE_FORM) return false;
    once->forgotten = reader_u64(&reader);
    while (reader.at != reader.end && !reader.bad && once->count < ONCE_WINDOW) {
        struct once_entry *entry = &once->entries[once->count++];
        entry->sequence = reader_u64(&reader);
        entry->hash = reader_u32(&reader);
        entry->reply = reader_sized(&reader);
        const uint64_t before = once->count == 1 ? once->forgotten : entry[-1].sequence;
        if (reader.bad || entry->sequence <= before || !is_reply(entry->reply)) return false;
    }
    return !reader.bad && reader.at == reader.end;
}

static void write_record(const struct once *once, struct buf *value)
{
    buf_u8(value, ONCE_FORM);
    buf_u64(value, once->forgotten);
    for (uint32_t i = 0; i < once->count; i++) {
        buf_u64(value, once->entries[i].sequence);
        buf_u32(value, once->entries[i].hash);
        buf_sized(value, once->entries[i].reply);
    }
}

static void forget_first(struct once *once)
{
    once->forgotten = once->entries[0].sequence;
    once->count--;
    memmove(once->entries, once->entries + 1, once->count * sizeof once->entries[0]);
}

/* Puts @entry in its place; the lowest give way. */
static void remember(struct once *once, struct once_entry entry)
{
    uint64_t size = entry.reply.size;
    if (once->count == ONCE_WINDOW) forget_first(once);
    uint32_t at = once->count++;
    for (; at > 0 && once->entries[at - 1].sequence > entry.sequence; at--) {
        once->entries[at] = once->entries[at - 1];
    }
    once->entries[at] = entry;
    for (uint32_t i = 0; i < once->count; i++) size += once->entries[i].reply.size;
    while (once->count > 1 && size - entry.reply.size > ONCE_VALUE_SIZE_USUAL &&
           once->entries[0].sequence != entry.sequence) {
        size -= once->entries[0].reply.size;
        forget_first(once);
    }
}

static uint32_t hash_of(const struct slice *args, uint32_t count)
{
    uint64_t hash = count;
    for (uint32_t i = 0; i < count; i++) hash = hash64_seeded(args[i].data, args[i].size, hash);
    return (uint32_t)hash;
}

/* As RESP2 it was kept; RESP3 has another way to say nothing. */
static void put_reply(struct eval *eval, struct slice reply)
{
    uint64_t at = 0;
    while (at < reply.size) {
        const uint8_t *end = memchr(reply.data + at, '\n', reply.size - at);
        const uint64_t line = end == NULL ? reply.size - at : (uint64_t)(end - reply.data) + 1 - at;
        const struct slice text = slice_of(reply.data + at + 1, line > 2 ? line - 3 : 0);
        const uint8_t kind = reply.data[at];
        int64_t size = 0;
        uint64_t takes = line;
        if (kind == '$' && slice_int64(text, &size) && size >= 0) takes += (uint64_t)size + 2;
        if (takes > reply.size - at) takes = reply.size - at;
        if (kind == '$' && size < 0) {
            resp_put_null(eval->out, eval->protocol);
        } else if (kind == '*' && slice_int64(text, &size) && size < 0) {
            resp_put_null_array(eval->out, eval->protocol);
        } else {
            buf_append(eval->out, reply.data + at, takes);
        }
        at += takes;
    }
}

/* ---- the command ---------------------------------------------------------------------------------------- */

static bool arguments_fit(struct eval *eval, uint64_t *sequence)
{
    char text[192];
    int64_t number = 0;
    const struct slice id = eval->args[1];
    if (id.size == 0 || id.size > ONCE_ID_SIZE_MAX) {
        eval_error(eval, "ERR a client id has 1 to 128 bytes");
        return false;
    }
    if (!slice_int64(eval->args[2], &number) || number < 1) {
        eval_error(eval, "ERR a sequence is an integer above 0");
        return false;
    }
    *sequence = (uint64_t)number;
    const struct command *command = command_find(eval->args[3]);
    const char *unfit = eval_unfit(command, eval->args + 3, eval->count - 3, text, sizeof text);
    if (unfit == NULL && (eval_walks(command) || command->function == cmd_kv_once)) {
        (void)snprintf(text, sizeof text, "ERR '%s' is not allowed inside of KV.ONCE",
                       command->name);
        unfit = text;
    }
    if (unfit != NULL) eval_error(eval, unfit);
    return unfit == NULL;
}

/* True: it is answered, nothing is to be carried out. */
static bool is_answered(struct eval *eval, const struct once *once, uint64_t sequence,
                        uint32_t hash)
{
    char text[160];
    uint32_t at = 0;
    while (at < once->count && once->entries[at].sequence != sequence) at++;
    if (at < once->count) {
        if (once->entries[at].hash == hash) {
            put_reply(eval, once->entries[at].reply);
        } else {
            eval_error(eval, "ONCE this sequence was used for another command: nothing was "
                             "carried out");
        }
        return true;
    }
    const bool is_old = sequence <= once->forgotten ||
                        (once->count == ONCE_WINDOW && sequence < once->entries[0].sequence);
    if (!is_old) return false;
    (void)snprintf(text, sizeof text,
                   "ONCE sequence %" PRIu64 " is older than the %u that are remembered of this "
                   "client: nothing was carried out now",
                   sequence, ONCE_WINDOW);
    eval_error(eval, text);
    return true;
}

/* What a client's record could not be made of; nothing was changed. */
static void refuse(struct eval *eval, bool is_long)
{
    eval_error(eval, is_long ? "TOOBIG the reply is too long to be remembered by KV.ONCE (16384 "
                               "bytes): nothing was carried out"
                             : "OOM too much is remembered for KV.ONCE on behalf of other clients: "
                               "nothing was carried out, see once-retention");
}

/* The command, and what is remembered of it. */
static void carry_out(struct eval *eval, struct slice key, struct once *once,
                      struct once_entry *entry, struct buf *reply)
{
    struct eval_mark mark;
    struct buf value = {0};
    const int protocol = eval->protocol;
    struct item item = eval_find(eval, key);
    const bool is_new = !item.exists;
    eval_mark(eval, &mark);
    eval->protocol = 2;
    const bool ok = eval_nested(eval, eval->args + 3, eval->count - 3, reply);
    eval->protocol = protocol;
    const bool is_long = reply->size > ONCE_REPLY_SIZE_MAX;
    bool has_room = false;
    if (ok && !is_long) {
        entry->reply = buf_slice(reply);
        remember(once, *entry);
        write_record(once, &value);
        has_room = eval_reserved_room(eval, is_new, value.size);
        item = eval_find(eval, key); /* The command may have been a flush. */
        if (has_room) {
            eval_put(eval, key, buf_slice(&value),
                     eval->now_ms + eval->shard->config->once_retention_ms, &item);
        }
    }
    if (has_room && !eval->overflows) {
        put_reply(eval, entry->reply);
    } else {
        const bool overflows = eval->overflows;
        eval_rollback(eval, &mark);
        if (overflows) eval_error_overflow(eval);
        if (!overflows && !eval->waits) refuse(eval, is_long);
    }
    buf_close(&value);
}

static void run(struct eval *eval, struct slice key, struct once *once, uint64_t sequence)
{
    struct buf reply = {0};
    struct slice stored;
    struct item item = eval_find(eval, key);
    if (item.exists) {
        if (!eval_value(eval, &item, &stored)) return;
        if (!read_record(once, stored)) {
            eval_error(eval, "ERR what is remembered of this client has another form: nothing was "
                             "carried out");
            return;
        }
    }
    struct once_entry entry = {.sequence = sequence,
                               .hash = hash_of(eval->args + 3, eval->count - 3)};
    if (is_answered(eval, once, sequence, entry.hash)) return;
    const char *refusal = shard_refusal(eval->shard, command_find(eval->args[3])->flags);
    if (refusal != NULL) {
        eval_error(eval, refusal);
        return;
    }
    carry_out(eval, key, once, &entry, &reply);
    buf_close(&reply);
}

void cmd_kv_once(struct eval *eval)
{
    struct once once = {0};
    struct buf key = {0};
    uint64_t sequence = 0;
    if (!arguments_fit(eval, &sequence)) return;
    eval_reserved_key(&key, "once:", eval->args[1]);
    run(eval, buf_slice(&key), &once, sequence);
    buf_close(&once.bytes);
    buf_close(&key);
}
