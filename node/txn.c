#include "node/txn.h"

#include "node/cmd_push.h"
#include "node/cmd_txn.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/eval_nested.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"

#define ANSWER_SIZE_MAX (64u * KIB)  /* of a command that is answered here, */
#define ANSWERS_SIZE_MAX (32u * MIB) /* and of the whole request */
#define COUNT_STEPS_MAX (1u * MIB)   /* of comparing channels with patterns, in one transaction */
#define RECENT_COUNT 64u             /* watched keys among which a new one is looked for */

STATIC_CHECK(3 + 2 * TXN_WATCHES_MAX + TXN_ARGS_MAX <= COMMAND_ARGS_MAX,
             "what EXEC becomes is a command like any other");
STATIC_CHECK(TXN_SIZE_MAX + ANSWERS_SIZE_MAX + MIB <= FORWARD_SIZE_MAX, "it can travel");
STATIC_CHECK(ANSWER_SIZE_MAX <= KEY_SIZE_MAX, "every node takes such an argument");

/* A queued command: its arguments as bulk strings. */
struct queued {
    uint64_t offset;
    uint64_t size;
    uint32_t arg_count;
    bool is_local; /* Answered by this node, at EXEC. */
};

struct txn {
    bool is_open;
    bool is_broken;
    bool writes;
    bool walks;
    uint32_t count;
    uint32_t capacity;
    uint32_t arg_count;
    struct queued *list;
    struct buf queue;
    struct buf slot_key; /* The first key of any command. */
    uint32_t watch_count;
    struct buf watched;            /* Key and token of each, as bulk strings. */
    uint64_t recent[RECENT_COUNT]; /* Their hashes, the last ones. */
    uint64_t counted;              /* What it has in core.txn_size. */
};

void txn_token_put(const struct txn_token *token, uint8_t *bytes)
{
    put_u64(bytes, token->revision);
    put_u64(bytes + 8, token->term);
    put_u64(bytes + 16, token->count);
}

struct txn_token txn_token_get(const uint8_t *bytes)
{
    return (struct txn_token){
        .revision = get_u64(bytes), .term = get_u64(bytes + 8), .count = get_u64(bytes + 16)};
}

bool txn_is_open(const struct session *session)
{
    return session->txn != NULL && session->txn->is_open;
}

bool txn_is_broken(const struct session *session)
{
    return session->txn != NULL && session->txn->is_broken;
}

uint32_t txn_count(const struct session *session)
{
    return session->txn != NULL ? session->txn->count : 0;
}

uint32_t txn_watches(const struct session *session)
{
    return session->txn != NULL ? session->txn->watch_count : 0;
}

static struct txn *txn_of(struct session *session)
{
    if (session->txn == NULL) session->txn = mem_zero(sizeof *session->txn);
    return session->txn;
}

static uint64_t size_of(const struct txn *txn)
{
    return txn->queue.size + txn->watched.size + txn->capacity * sizeof *txn->list;
}

/* Memory that transactions hold has a bound of its own: who has one open may be idle for long. */
static void count_size(struct core *core, struct txn *txn)
{
    core->txn_size += size_of(txn) - txn->counted;
    txn->counted = size_of(txn);
}

static const char *no_room(const struct core *core, const struct txn *txn, uint64_t size)
{
    const uint64_t now = txn != NULL ? size_of(txn) : 0;
    if (now + size > TXN_SIZE_MAX) {
        return "TOOBIG the commands and watched keys of a transaction have at most 16 MiB";
    }
    if (now + size > TXN_SMALL_SIZE &&
        core->txn_size + size > core->config->max_inflight_size / 2) {
        return "TRYAGAIN the open transactions of all connections hold too much, see max-inflight";
    }
    return NULL;
}

void txn_open(struct session *session)
{
    txn_of(session)->is_open = true;
}

void txn_break(struct session *session)
{
    if (txn_is_open(session)) session->txn->is_broken = true;
}

void txn_drop(struct core *core, struct session *session)
{
    struct txn *txn = session->txn;
    if (txn == NULL) return;
    core->txn_size -= txn->counted;
    buf_close(&txn->queue);
    buf_close(&txn->watched);
    buf_close(&txn->slot_key);
    mem_free(txn->list);
    mem_free(txn);
    session->txn = NULL;
}

/* ---- MULTI -------------------------------------------------------------------------------------------- */

static uint64_t size_of_args(const struct slice *args, uint32_t count)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) size += args[i].size + 16;
    return size;
}

const char *txn_queue(struct core *core, struct session *session, const struct command *command,
                      const struct slice *args, uint32_t count)
{
    struct txn *txn = session->txn;
    const bool writes = cmd_kv_txn_may_write(command, args, count);
    const bool walks = eval_walks(command);
    if ((walks && txn->writes) || (writes && txn->walks)) {
        return "ERR a transaction that looks at all keys cannot write";
    }
    if (txn->count >= TXN_COMMANDS_MAX) return "TOOBIG a transaction has at most 16384 commands";
    if (txn->arg_count + count + 1 > TXN_ARGS_MAX) {
        return "TOOBIG the commands of a transaction have at most 100000 arguments";
    }
    const char *refusal = no_room(core, txn, size_of_args(args, count));
    if (refusal != NULL) return refusal;
    if (txn->count == txn->capacity) {
        txn->capacity = txn->capacity > 0 ? txn->capacity * 2 : 8;
        txn->list = mem_resize(txn->list, txn->capacity * sizeof *txn->list);
    }
    struct queued *queued = &txn->list[txn->count++];
    *queued = (struct queued){.offset = txn->queue.size,
                              .arg_count = count,
                              .is_local = (command->flags & CMD_LOCAL) != 0};
    for (uint32_t i = 0; i < count; i++) resp_put_bulk(&txn->queue, args[i]);
    queued->size = txn->queue.size - queued->offset;
    txn->arg_count += count + 1;
    txn->writes = txn->writes || writes;
    txn->walks = txn->walks || walks;
    if (txn->slot_key.size == 0 && command->key_first > 0 && (uint32_t)command->key_first < count) {
        const struct slice key = args[command->key_first];
        buf_append(&txn->slot_key, key.data, key.size);
    }
    count_size(core, txn);
    return NULL;
}

/* ---- WATCH -------------------------------------------------------------------------------------------- */

const char *txn_watch_refusal(const struct core *core, const struct session *session,
                              const struct slice *args, uint32_t count)
{
    if (txn_is_open(session)) return "ERR WATCH inside MULTI is not allowed";
    if (txn_watches(session) + count - 1 > TXN_WATCHES_MAX) {
        return "TOOBIG a connection watches at most 10000 keys";
    }
    const uint64_t size = size_of_args(args, count) + (count - 1) * (TXN_TOKEN_SIZE + 16);
    return no_room(core, session->txn, size);
}

void txn_watch(struct core *core, struct session *session, struct slice key,
               const struct txn_token *token)
{
    uint8_t bytes[TXN_TOKEN_SIZE];
    struct txn *txn = txn_of(session);
    const uint64_t hash = hash64(key.data, key.size);
    /* Watched again: what was noted first is what counts. */
    for (uint32_t i = 0; i < RECENT_COUNT && i < txn->watch_count; i++) {
        if (txn->recent[i] == hash) return;
    }
    txn->recent[txn->watch_count % RECENT_COUNT] = hash;
    txn_token_put(token, bytes);
    resp_put_bulk(&txn->watched, key);
    resp_put_bulk(&txn->watched, slice_of(bytes, sizeof bytes));
    txn->watch_count++;
    count_size(core, txn);
}

/* The reply to a node: term, count, then a revision for each key. */
static bool take_revisions(struct core *core, struct session *session, const struct slice *keys,
                           uint32_t count, const struct resp_reply *reply)
{
    const struct resp_node *nodes = reply->nodes;
    if (nodes[0].kind != RESP_ARRAY || nodes[0].count != count + 2) return false;
    if (reply->count != count + 3) return false;
    for (uint32_t i = 1; i < reply->count; i++) {
        if (nodes[i].kind != RESP_INT || nodes[i].integer < 0) return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct txn_token token = {.revision = (uint64_t)nodes[i + 3].integer,
                                        .term = (uint64_t)nodes[1].integer,
                                        .count = (uint64_t)nodes[2].integer};
        txn_watch(core, session, keys[i], &token);
    }
    return true;
}

bool txn_watched(struct core *core, struct session *session, struct slice request,
                 struct slice reply, struct buf *out)
{
    struct resp_parser parser;
    struct resp_reply parsed = {0};
    const struct resp_limits limits = {.args_max = COMMAND_ARGS_MAX,
                                       .bulk_max = REQUEST_SIZE_MAX,
                                       .inline_max = COMMAND_INLINE_SIZE_MAX};
    bool ok = resp_read(&parsed, reply) == RESP_OK && parsed.count > 0;
    if (ok && parsed.nodes[0].kind == RESP_ERROR) {
        buf_append(out, reply.data, reply.size);
    } else if (ok) {
        resp_parser_init(&parser);
        ok = resp_parse(&parser, &limits, request) == RESP_OK && parser.arg_count > 1 &&
             take_revisions(core, session, parser.args + 1, parser.arg_count - 1, &parsed);
        resp_parser_close(&parser);
        if (ok) resp_put_simple(out, "OK");
    }
    resp_reply_close(&parsed);
    return ok;
}

/* ---- EXEC --------------------------------------------------------------------------------------------- */

static void put_number(struct buf *out, uint64_t number)
{
    struct buf text = {0};
    buf_printf(&text, "%llu", (unsigned long long)number);
    resp_put_bulk(out, buf_slice(&text));
    buf_close(&text);
}

/* What the transaction will publish. */
struct messages {
    struct buf bulks; /* channel and message of each */
    uint32_t count;
    uint64_t steps; /* of comparing them with patterns so far */
};

/* PUBLISH in a transaction: remembers the message, and answers how many clients would get it now. */
static void note_message(struct eval *eval, struct messages *messages)
{
    const struct slice channel = eval->args[1];
    if (!cmd_publish_fits(eval)) return;
    resp_put_bulk(&messages->bulks, channel);
    resp_put_bulk(&messages->bulks, eval->args[2]);
    messages->count++;
    const uint64_t count = pubsub_receivers(eval->core, channel, COUNT_STEPS_MAX, &messages->steps);
    resp_put_int(eval->out, (int64_t)count);
}

/* Carries out a queued command about the connection or this node, and appends what it answers as a bulk string. */
static void answer_here(struct core *core, struct session *session, const struct queued *queued,
                        struct buf *out, struct messages *messages)
{
    struct resp_parser parser;
    struct buf request = {0};
    struct buf reply = {0};
    const struct txn *txn = session->txn;
    const struct resp_limits limits = {.args_max = COMMAND_ARGS_MAX,
                                       .bulk_max = REQUEST_SIZE_MAX,
                                       .inline_max = COMMAND_INLINE_SIZE_MAX};
    resp_put_array(&request, queued->arg_count);
    buf_append(&request, txn->queue.data + queued->offset, queued->size);
    resp_parser_init(&parser);
    CHECK(resp_parse(&parser, &limits, buf_slice(&request)) == RESP_OK);
    const struct command *command = command_find(parser.args[0]);
    CHECK(command != NULL);
    struct eval eval = {.core = core,
                        .shard = &core->shard,
                        .session = session,
                        .command = command,
                        .args = parser.args,
                        .count = parser.arg_count,
                        .out = &reply,
                        .protocol = session->protocol,
                        .now_ms = core->shard.clock_ms,
                        .gone_ms = core->shard.clock_ms};
    const uint8_t mute = session->mute;
    if (command->function == cmd_publish) {
        note_message(&eval, messages);
    } else if (out->size <= ANSWERS_SIZE_MAX) {
        command->function(&eval);
    }
    if (session->mute != mute && reply.size == 0) {
        /* The array of replies has a place for each command. */
        session->mute = mute;
        resp_put_error(&reply, "ERR a transaction answers each of its commands: do this outside");
    }
    if (reply.size == 0 || reply.size > ANSWER_SIZE_MAX) {
        reply.size = 0;
        resp_put_error(&reply, "TOOBIG the reply is too long inside a transaction");
    }
    resp_put_bulk(out, buf_slice(&reply));
    resp_parser_close(&parser);
    buf_close(&request);
    buf_close(&reply);
}

void txn_request(struct core *core, struct session *session, struct buf *out)
{
    const struct txn *txn = session->txn;
    struct buf body = {0};
    struct messages messages = {0};
    uint32_t args = 3 + 2 * txn->watch_count;
    for (uint32_t i = 0; i < txn->count; i++) {
        const struct queued *queued = &txn->list[i];
        put_number(&body, queued->is_local ? 0 : queued->arg_count);
        if (queued->is_local) {
            answer_here(core, session, queued, &body, &messages);
            args += 2;
        } else {
            buf_append(&body, txn->queue.data + queued->offset, queued->size);
            args += 1 + queued->arg_count;
        }
    }
    const char *reads = txn->walks ? TXN_EXEC_WALK : TXN_EXEC_READ;
    resp_put_array(out, args);
    resp_put_text(out, txn->writes ? TXN_EXEC_WRITE : reads);
    resp_put_bulk(out, buf_slice(&txn->slot_key));
    put_number(out, txn->watch_count);
    buf_append(out, txn->watched.data, txn->watched.size);
    buf_append(out, body.data, body.size);
    if (messages.count > 0) {
        resp_put_array(out, 1 + 2 * messages.count);
        resp_put_text(out, TXN_PUBLISH);
        buf_append(out, messages.bulks.data, messages.bulks.size);
    }
    buf_close(&messages.bulks);
    buf_close(&body);
}
