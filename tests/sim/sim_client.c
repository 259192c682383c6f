#include "tests/sim/sim_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_decay.h"
#include "tests/sim/sim_value.h"

#define NONE UINT32_MAX
#define DOUBTS_MAX 8u
#define PIECE_SIZE_LARGE 26000u /* of what is appended in runs with large values */
#define PIECES_MAX_LARGE 40u

/* Shapes of replies: 'o' +OK or nil (conditional), 'v' a value, 'i' a number, 'w' +OK for one or two keys,
 * 'm' an array of values, 'k' nil or an array of value, revision and time to live, 'p' something of the past,
 * 'f' +OK: everything is gone. */

/* ---- keys and their histories ----------------------------------------------------------------------- */

static uint32_t key_new(struct sim *sim, uint32_t slot)
{
    static const enum sim_key_kind kinds[SIM_KEYS_LIVE] = {
        SIM_KEY_REGISTER, SIM_KEY_REGISTER, SIM_KEY_REGISTER, SIM_KEY_COUNTER,
        SIM_KEY_TEXT,     SIM_KEY_EXPIRING, SIM_KEY_BIG,      SIM_KEY_BIG};
    static const char letters[] = {'r', 'c', 'a', 't', 'b'};
    struct sim_clients *clients = &sim->clients;
    if (clients->key_count == clients->key_capacity) {
        clients->key_capacity = clients->key_capacity * 2 + 64;
        clients->keys = mem_resize(clients->keys, clients->key_capacity * sizeof *clients->keys);
    }
    struct sim_key *key = &clients->keys[clients->key_count];
    memset(key, 0, sizeof *key);
    key->kind = kinds[slot];
    key->ops_max = 30 + (uint32_t)sim_below(sim, 50);
    if (clients->has_large && key->kind == SIM_KEY_TEXT) key->ops_max = PIECES_MAX_LARGE;
    (void)snprintf(key->name, sizeof key->name, "%c%u", letters[key->kind], clients->key_count);
    clients->live[slot] = clients->key_count;
    return clients->key_count++;
}

static uint32_t key_pick(struct sim *sim, uint32_t slot)
{
    const uint32_t at = sim->clients.live[slot];
    const struct sim_key *key = &sim->clients.keys[at];
    return key->op_count < key->ops_max && key->doubts < DOUBTS_MAX ? at : key_new(sim, slot);
}

/* Adds an operation that is being asked. */
static struct check_op *op_new(struct sim *sim, const struct sim_client *client,
                               struct sim_pending *pending, uint32_t at)
{
    struct sim_key *key = &sim->clients.keys[at];
    if (key->op_count == key->op_capacity) {
        key->op_capacity = key->op_capacity * 2 + 32;
        key->ops = mem_resize(key->ops, key->op_capacity * sizeof *key->ops);
    }
    struct check_op *op = &key->ops[key->op_count];
    *op = (struct check_op){.client = client->number, .before = NONE};
    op->asked = ++sim->clients.clock;
    op->answered = UINT64_MAX;
    /* The newest one of the same key in the same pipeline. */
    for (uint32_t i = client->pending_first; i < client->pending_count; i++) {
        for (uint32_t k = 0; k < client->pending[i].part_count; k++) {
            if (client->pending[i].keys[k] == at) op->before = client->pending[i].ops[k];
        }
    }
    pending->keys[pending->part_count] = at;
    pending->ops[pending->part_count++] = key->op_count++;
    return op;
}

static struct check_op *op_of(struct sim *sim, const struct sim_pending *pending, uint32_t part)
{
    return &sim->clients.keys[pending->keys[part]].ops[pending->ops[part]];
}

/* ---- commands --------------------------------------------------------------------------------------- */

static void put_argument(struct buf *out, struct slice text)
{
    buf_printf(out, "$%" PRIu64 "\r\n", text.size);
    buf_append(out, text.data, text.size);
    buf_text(out, "\r\n");
}

/* @words are separated by one space; @value (if any) takes the place of "?". */
static void put_command(struct buf *out, const char *words, struct slice value)
{
    uint32_t count = 1;
    for (const char *at = words; *at != 0; at++) count += *at == ' ';
    buf_printf(out, "*%u\r\n", count);
    for (const char *at = words; count > 0; count--) {
        const char *end = strchr(at, ' ');
        const uint64_t size = end == NULL ? strlen(at) : (uint64_t)(end - at);
        put_argument(out, size == 1 && *at == '?' ? value : slice_of(at, size));
        at += size + 1;
    }
}

/* A new value for @key: its text, and what the checker is to expect. */
static struct check_value value_new(struct sim *sim, const struct sim_key *key, struct buf *text)
{
    const uint64_t id = sim->clients.next_value++;
    struct check_value value = {.exists = true, .content = id};
    if (key->kind == SIM_KEY_COUNTER) {
        value.content = sim_below(sim, 1000) * 1000;
        buf_printf(text, "%" PRIu64, value.content);
    } else if (key->kind == SIM_KEY_TEXT) {
        buf_printf(text, "%" PRIu64 ",", id);
        if (sim->clients.has_large) {
            sim_value_noise(id, PIECE_SIZE_LARGE / 2 + sim_below(sim, PIECE_SIZE_LARGE / 2), text);
        } else if (sim_chance(sim, 300)) {
            sim_value_text(id, false, text);
        }
        value.content = check_linear_hash(0, buf_slice(text));
        value.size = text->size;
    } else {
        sim_value_text(id, key->kind == SIM_KEY_BIG, text);
    }
    return value;
}

static void ask_get(struct sim *sim, const struct sim_client *client, struct sim_pending *pending,
                    uint32_t at, struct buf *out)
{
    char words[64];
    op_new(sim, client, pending, at)->kind = CHECK_KIND_GET;
    /* The leader answers the one, the node that is asked the other, once it has applied enough. */
    const bool is_here = sim_chance(sim, 400);
    (void)snprintf(words, sizeof words, is_here ? "KV.GET %s" : "GET %s",
                   sim->clients.keys[at].name);
    pending->shape = is_here ? 'k' : 'v';
    put_command(out, words, (struct slice){0});
}

static void ask_set(struct sim *sim, const struct sim_client *client, struct sim_pending *pending,
                    uint32_t at, struct buf *out)
{
    static const struct form {
        const char *words;
        enum check_kind kind;
        char shape;
    } forms[] = {
        {"SET %s ?", CHECK_KIND_SET, 'w'},         {"SET %s ?", CHECK_KIND_SET, 'w'},
        {"SET %s ? NX", CHECK_KIND_SET_NEW, 'o'},  {"SET %s ? XX", CHECK_KIND_SET_EXISTING, 'o'},
        {"SET %s ? GET", CHECK_KIND_SET_GET, 'v'}, {"SETNX %s ?", CHECK_KIND_SET_NEW, 'i'},
    };
    const struct form *form = &forms[sim_below(sim, sizeof forms / sizeof forms[0])];
    const struct sim_key *key = &sim->clients.keys[at];
    struct buf text = {0};
    char words[96];
    struct check_op *op = op_new(sim, client, pending, at);
    op->kind = form->kind;
    op->argument = value_new(sim, key, &text);
    op->id = sim_value_id(key->kind, buf_slice(&text));
    pending->shape = form->shape;
    int size = snprintf(words, sizeof words, form->words, key->name);
    if (key->kind == SIM_KEY_EXPIRING && form->shape != 'i' && sim_chance(sim, 700)) {
        op->argument.expires = true;
        (void)snprintf(words + size, sizeof words - (size_t)size, " PX %u",
                       (unsigned)(5 + sim_below(sim, 800)));
    }
    put_command(out, words, buf_slice(&text));
    buf_close(&text);
}

static void ask_change(struct sim *sim, const struct sim_client *client,
                       struct sim_pending *pending, uint32_t at, struct buf *out)
{
    struct sim_key *key = &sim->clients.keys[at];
    char words[64];
    struct buf text = {0};
    if (key->kind == SIM_KEY_TEXT && sim_chance(sim, 800)) {
        struct check_op *op = op_new(sim, client, pending, at);
        op->kind = CHECK_KIND_APPEND;
        op->argument = value_new(sim, key, &text);
        op->id = sim_value_id(key->kind, buf_slice(&text));
        pending->shape = 'i';
        (void)snprintf(words, sizeof words, "APPEND %s ?", key->name);
    } else if (key->kind == SIM_KEY_COUNTER && sim_chance(sim, 800)) {
        op_new(sim, client, pending, at)->kind = CHECK_KIND_INCREMENT;
        pending->shape = 'i';
        (void)snprintf(words, sizeof words, "INCR %s", key->name);
    } else {
        static const struct form {
            const char *words;
            enum check_kind kind;
            char shape;
        } forms[] = {
            {"DEL %s", CHECK_KIND_DELETE, 'i'},
            {"GETDEL %s", CHECK_KIND_GET_DELETE, 'v'},
            {"PERSIST %s", CHECK_KIND_PERSIST, 'i'},
            {"PEXPIRE %s 200", CHECK_KIND_EXPIRE, 'i'},
        };
        const uint64_t kinds = key->kind == SIM_KEY_EXPIRING ? 4 : 2;
        const struct form *form = &forms[sim_below(sim, kinds)];
        op_new(sim, client, pending, at)->kind = form->kind;
        pending->shape = form->shape;
        (void)snprintf(words, sizeof words, form->words, key->name);
    }
    put_command(out, words, buf_slice(&text));
    buf_close(&text);
}

/* MSET or MGET of two registers: for each key an operation of its own. */
static void ask_two(struct sim *sim, const struct sim_client *client, struct sim_pending *pending,
                    struct buf *out)
{
    const uint32_t first = key_pick(sim, 0);
    const uint32_t keys[2] = {first, key_pick(sim, 1)};
    const bool is_set = sim_chance(sim, 500);
    pending->shape = is_set ? 'w' : 'm';
    buf_printf(out, "*%u\r\n", is_set ? 5u : 3u);
    put_argument(out, slice_text(is_set ? "MSET" : "MGET"));
    for (uint32_t i = 0; i < 2; i++) {
        struct check_op *op = op_new(sim, client, pending, keys[i]);
        op->kind = is_set ? CHECK_KIND_SET : CHECK_KIND_GET;
        put_argument(out, slice_text(sim->clients.keys[keys[i]].name));
        if (!is_set) continue;
        struct buf text = {0};
        op->argument = value_new(sim, &sim->clients.keys[keys[i]], &text);
        op->id = sim_value_id(SIM_KEY_REGISTER, buf_slice(&text));
        put_argument(out, buf_slice(&text));
        buf_close(&text);
    }
}

/* What was, of all keys or of one, which may have retired. */
static void ask_past(struct sim *sim, const struct sim_client *client, struct sim_pending *pending,
                     struct buf *out)
{
    char words[128];
    const struct sim_clients *clients = &sim->clients;
    const uint32_t at = sim_chance(sim, 700) ? clients->live[sim_below(sim, SIM_KEYS_LIVE)]
                                             : (uint32_t)sim_below(sim, clients->key_count);
    pending->shape = 'p';
    check_past_ask(sim, client->node, clients->keys[at].name, &pending->past, words);
    put_command(out, words, slice_of("", 0));
}

/* Every key is deleted, at one moment. */
static void ask_flush(struct sim *sim, struct sim_pending *pending, struct buf *out)
{
    struct sim_clients *clients = &sim->clients;
    struct check_op *op = &clients->flushes[clients->flush_count];
    *op = (struct check_op){.kind = CHECK_KIND_FLUSH, .before = NONE, .answered = UINT64_MAX};
    op->asked = ++clients->clock;
    pending->shape = 'f';
    pending->flush = clients->flush_count++;
    put_command(out, sim_chance(sim, 500) ? "FLUSHALL" : "FLUSHDB ASYNC", (struct slice){0});
}

static void ask_one(struct sim *sim, struct sim_client *client, struct buf *out)
{
    struct sim_pending pending = {0};
    struct sim_clients *clients = &sim->clients;
    if (clients->is_quiet) return;
    if (clients->is_final) {
        const uint32_t total = clients->key_count * sim->node_count;
        if (clients->final_next >= total) return;
        ask_get(sim, client, &pending, clients->final_next++ / sim->node_count, out);
    } else if (clients->flush_count < clients->flush_max && sim_chance(sim, 2)) {
        ask_flush(sim, &pending, out);
    } else if (sim_chance(sim, 50)) {
        ask_past(sim, client, &pending, out);
    } else if (sim_chance(sim, 60)) {
        ask_two(sim, client, &pending, out);
    } else {
        uint32_t slot = (uint32_t)sim_below(sim, SIM_KEYS_LIVE - 2);
        if (sim_chance(sim, clients->big_share)) {
            slot = SIM_KEYS_LIVE - 2 + (uint32_t)sim_below(sim, 2);
        }
        const uint32_t at = key_pick(sim, slot);
        const enum sim_key_kind kind = clients->keys[at].kind;
        const uint64_t choice = sim_below(sim, 100);
        const uint64_t sets = kind == SIM_KEY_COUNTER || kind == SIM_KEY_TEXT ? 5 : 45;
        if (choice < 40) {
            ask_get(sim, client, &pending, at, out);
        } else if (choice < 40 + sets) {
            ask_set(sim, client, &pending, at, out);
        } else {
            ask_change(sim, client, &pending, at, out);
        }
    }
    client->pending[client->pending_count++] = pending;
}

/* ---- replies ---------------------------------------------------------------------------------------- */

/* The number behind the type of a reply, and where the line ends. False: the line is not complete. */
static bool line_of(struct slice bytes, int64_t *number, uint64_t *size)
{
    const uint8_t *end = bytes.size > 1 ? memchr(bytes.data, '\n', bytes.size) : NULL;
    if (end == NULL) return false;
    *size = (uint64_t)(end - bytes.data) + 1;
    *number = 0;
    if (*size > 3) (void)slice_int64(slice_of(bytes.data + 1, *size - 3), number);
    return true;
}

uint64_t sim_client_reply_size(struct slice bytes)
{
    uint64_t at = 0;
    if (bytes.size == 0) return 0;
    for (uint64_t left = 1; left > 0; left--) {
        int64_t number = 0;
        uint64_t size = 0;
        const struct slice rest = slice_of(bytes.data + at, bytes.size - at);
        if (!line_of(rest, &number, &size)) return 0;
        const uint8_t type = rest.data[0];
        if (memchr("+-:$*_", type, 6) == NULL) return UINT64_MAX;
        at += size;
        if (type == '*' && number > 0) left += (uint64_t)number;
        if (type == '$' && number >= 0) at += (uint64_t)number + 2;
        if (at > bytes.size) return 0;
    }
    return at;
}

static void op_done(struct sim *sim, struct check_op *op)
{
    op->is_known = true;
    op->answered = ++sim->clients.clock;
    sim->clients.ok_count++;
}

/* Nobody knows what became of it. */
static void op_unknown(struct sim *sim, const struct sim_pending *pending, uint32_t part)
{
    const struct check_op *op = op_of(sim, pending, part);
    sim->clients.unknown_count++;
    if (op->kind != CHECK_KIND_GET && op->id == 0) sim->clients.keys[pending->keys[part]].doubts++;
}

/* It is certain that nothing happened: the operation leaves the history as a read that nobody looked at. */
static void op_refused(struct sim *sim, struct check_op *op)
{
    op->kind = CHECK_KIND_GET;
    op->is_known = false;
    sim->clients.failed_count++;
}

static const char *about(const struct sim *sim, const struct sim_pending *pending)
{
    return pending->part_count > 0 ? sim->clients.keys[pending->keys[0]].name : "everything";
}

static void take_error(struct sim *sim, const struct sim_client *client,
                       const struct sim_pending *pending, struct slice text)
{
    static const char *const refusals[] = {"CLUSTERDOWN", "TRYAGAIN", "NOSPACE", "LOADING"};
    bool is_refusal = false;
    for (uint32_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const uint64_t size = strlen(refusals[i]);
        if (text.size > size && memcmp(text.data + 1, refusals[i], size) == 0) is_refusal = true;
    }
    if (pending->shape == 'p' && text.size > 10 && memcmp(text.data + 1, "COMPACTED", 9) == 0) {
        check_past_gone(sim, &pending->past, text);
        return;
    }
    /* Of a disk that was changed on purpose: nothing happened, and nothing wrong was shown. */
    if (sim_decay_any(sim) && text.size > 40 &&
        (memcmp(text.data + 1, "ERR the value could not be read", 31) == 0 ||
         memcmp(text.data + 1, "ERR the history could not be read", 33) == 0)) {
        is_refusal = true;
        sim->counts.unreadable++;
        /* Those of its parts that are counted below do not count; a range has none. */
        if (!sim->is_taken) sim->clients.failed_count -= pending->part_count;
    }
    if (!is_refusal && !(text.size > 10 && memcmp(text.data + 1, "UNCERTAIN", 9) == 0)) {
        sim_fail(sim, "client %u: unexpected reply %.*s about %s", client->number,
                 (int)(text.size > 200 ? 200 : text.size), (const char *)text.data,
                 about(sim, pending));
    }
    if (pending->shape == 'f' && is_refusal) {
        sim->clients.flushes[pending->flush].kind = CHECK_KIND_GET;
    }
    for (uint32_t i = 0; i < pending->part_count; i++) {
        if (is_refusal) op_refused(sim, op_of(sim, pending, i));
        if (!is_refusal) op_unknown(sim, pending, i);
    }
}

/* A bulk string or nil at @bytes as the value of @key; returns what it takes, 0: something else. */
static uint64_t take_value(struct sim *sim, const struct sim_key *key, struct slice bytes,
                           struct check_value *value)
{
    int64_t number = 0;
    uint64_t size = 0;
    *value = (struct check_value){0};
    if (!line_of(bytes, &number, &size) || bytes.data[0] != '$') return 0;
    if (number < 0) return size;
    const struct slice text = slice_of(bytes.data + size, (uint64_t)number);
    if (!sim_value_read(sim, key->kind, text, value)) {
        sim_fail(sim, "key %s holds what nobody wrote: %.*s", key->name,
                 (int)(text.size > 100 ? 100 : text.size), (const char *)text.data);
    }
    return size + (uint64_t)number + 2;
}

static bool take_known(struct sim *sim, const struct sim_pending *pending, struct slice bytes)
{
    if (pending->shape == 'p') return check_past_reply(sim, &pending->past, bytes);
    if (pending->shape == 'f') {
        if (bytes.data[0] != '+') return false;
        op_done(sim, &sim->clients.flushes[pending->flush]);
        sim->counts.flushes++;
        return true;
    }
    struct check_op *op = op_of(sim, pending, 0);
    const struct sim_key *key = &sim->clients.keys[pending->keys[0]];
    int64_t number = 0;
    uint64_t size = 0;
    const uint8_t type = bytes.data[0];
    (void)line_of(bytes, &number, &size);
    switch (pending->shape) {
    case 'w':
        if (type != '+') return false;
        break;
    case 'o':
        op->number = type == '+';
        if (type != '+' && !(type == '$' && number == -1)) return false;
        break;
    case 'i':
        op->number = number;
        if (type != ':') return false;
        break;
    case 'v':
        if (take_value(sim, key, bytes, &op->reply) == 0) return false;
        break;
    case 'k':
        if (type != '*' || (number != 3 && number != -1)) return false;
        bytes = slice_of(bytes.data + size, bytes.size - size);
        if (number == 3 && take_value(sim, key, bytes, &op->reply) == 0) return false;
        break;
    case 'm': {
        struct check_op *other = op_of(sim, pending, 1);
        if (type != '*' || number != 2) return false;
        bytes = slice_of(bytes.data + size, bytes.size - size);
        const uint64_t first = take_value(sim, key, bytes, &op->reply);
        if (first == 0) return false;
        bytes = slice_of(bytes.data + first, bytes.size - first);
        key = &sim->clients.keys[pending->keys[1]];
        if (take_value(sim, key, bytes, &other->reply) == 0) return false;
        break;
    }
    default: UNREACHABLE();
    }
    for (uint32_t i = 0; i < pending->part_count; i++) op_done(sim, op_of(sim, pending, i));
    return true;
}

static void step_in(struct sim *sim, struct sim_client *client, uint64_t delay)
{
    sim_schedule(sim, sim->now + delay, SIM_EVENT_CLIENT, client->number, ++client->step);
}

static void give_up(struct sim *sim, struct sim_client *client)
{
    for (uint32_t i = client->pending_first; i < client->pending_count; i++) {
        const struct sim_pending *pending = &client->pending[i];
        for (uint32_t k = 0; k < pending->part_count; k++) op_unknown(sim, pending, k);
    }
    client->pending_first = 0;
    client->pending_count = 0;
    client->in.size = 0;
    client->conn = NULL;
}

void sim_client_bytes(struct sim *sim, uint32_t number, struct slice bytes)
{
    if (number > SIM_CLIENT_LIMIT) {
        if (number > SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS + SIM_FEED_CLIENTS) {
            sim_once_bytes(sim, number, bytes);
        } else if (number > SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS) {
            sim_feed_bytes(sim, number, bytes);
        } else {
            sim_bank_bytes(sim, number, bytes);
        }
        return;
    }
    struct sim_client *client = &sim->clients.list[number];
    buf_append(&client->in, bytes.data, bytes.size);
    if (number == SIM_CLIENT_LIMIT) return; /* sim_ask() looks at it itself. */
    while (client->in.size > 0 && !sim->has_failed) {
        const uint64_t size = sim_client_reply_size(buf_slice(&client->in));
        if (size == 0) return;
        if (size == UINT64_MAX || client->pending_first == client->pending_count) {
            sim_fail(sim, "client %u: a reply to nothing", number);
            return;
        }
        const struct slice reply = slice_of(client->in.data, size);
        const struct sim_pending *pending = &client->pending[client->pending_first];
        if (reply.data[0] == '-') {
            take_error(sim, client, pending, reply);
        } else if (!take_known(sim, pending, reply)) {
            sim_fail(sim, "client %u: a reply of the wrong kind about %s: %.*s", number,
                     about(sim, pending), (int)(size > 100 ? 100 : size), (const char *)reply.data);
        }
        client->pending_first++;
        buf_shift(&client->in, size);
    }
    if (client->pending_first < client->pending_count) return;
    client->pending_first = 0;
    client->pending_count = 0;
    step_in(sim, client, 1 + sim_below(sim, client->think_max));
}

void sim_client_lost(struct sim *sim, uint32_t number)
{
    if (number > SIM_CLIENT_LIMIT) {
        if (number > SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS + SIM_FEED_CLIENTS) {
            sim_once_lost(sim, number);
        } else if (number > SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS) {
            sim_feed_lost(sim, number);
        } else {
            sim_bank_lost(sim, number);
        }
        return;
    }
    struct sim_client *client = &sim->clients.list[number];
    give_up(sim, client);
    if (number < SIM_CLIENT_LIMIT) step_in(sim, client, 1 + sim_below(sim, 50 * SIM_MS));
}

void sim_client_step(struct sim *sim, uint32_t number, uint64_t step)
{
    if (number > SIM_CLIENT_LIMIT) {
        if (number > SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS + SIM_FEED_CLIENTS) {
            sim_once_step(sim, number, step);
        } else if (number > SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS) {
            sim_feed_step(sim, number, step);
        } else {
            sim_bank_step(sim, number, step);
        }
        return;
    }
    struct sim_client *client = &sim->clients.list[number];
    if (step != client->step) return;
    if (client->pending_count > 0 || (client->conn != NULL && sim_chance(sim, 15))) {
        /* Patience is over, or it just goes elsewhere. */
        sim_net_end(sim, client->conn, 0);
        give_up(sim, client);
    }
    if (client->conn == NULL) {
        client->node = (uint32_t)sim_below(sim, sim->node_count);
        client->conn = sim_net_dial_client(sim, number, client->node);
        if (client->conn == NULL) {
            step_in(sim, client, (5 + sim_below(sim, 40)) * SIM_MS);
            return;
        }
    }
    struct buf out = {0};
    const uint64_t count = 1 + (sim_chance(sim, 400) ? sim_below(sim, SIM_PIPELINE_MAX) : 0);
    for (uint64_t i = 0; i < count; i++) ask_one(sim, client, &out);
    const uint64_t sent = sim_net_send(sim, client->conn, 0, out.data, out.size);
    CHECK(sent == out.size); /* The window is larger than any pipeline. */
    const bool is_idle = out.size == 0;
    buf_close(&out);
    step_in(sim, client, is_idle ? 20 * SIM_MS : client->patience);
}

/* ---- life ------------------------------------------------------------------------------------------- */

void sim_client_init(struct sim *sim)
{
    struct sim_clients *clients = &sim->clients;
    clients->count = sim->options.clients;
    if (clients->count == 0) clients->count = 4 + (uint32_t)sim_below(sim, 4);
    clients->next_value = 1;
    clients->flush_max = sim_chance(sim, 250) ? SIM_FLUSHES_MAX : 0;
    clients->big_share = 100 + sim_below(sim, 200);
    for (uint32_t i = 0; i <= SIM_CLIENT_LIMIT; i++) {
        clients->list[i].number = i;
        clients->list[i].think_max = (2 + sim_below(sim, 30)) * SIM_MS;
        clients->list[i].patience = (300 + sim_below(sim, 2500)) * SIM_MS;
    }
    for (uint32_t slot = 0; slot < SIM_KEYS_LIVE; slot++) (void)key_new(sim, slot);
}

void sim_client_close(struct sim *sim)
{
    struct sim_clients *clients = &sim->clients;
    for (uint32_t i = 0; i < clients->key_count; i++) mem_free(clients->keys[i].ops);
    mem_free(clients->keys);
    mem_free(clients->written);
    for (uint32_t i = 0; i <= SIM_CLIENT_LIMIT; i++) buf_close(&clients->list[i].in);
}

void sim_client_start(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->clients.count; i++) {
        step_in(sim, &sim->clients.list[i], sim_below(sim, 100 * SIM_MS));
    }
}

void sim_client_finish(struct sim *sim)
{
    sim->clients.is_final = true;
    for (uint32_t i = 0; i < sim->clients.count; i++) {
        sim->clients.list[i].think_max = SIM_MS;
        sim->clients.list[i].patience = 2 * SIM_SECOND;
    }
}

bool sim_client_done(struct sim *sim)
{
    const struct sim_clients *clients = &sim->clients;
    if (!clients->is_final || clients->final_next < clients->key_count * sim->node_count) {
        return false;
    }
    for (uint32_t i = 0; i < clients->count; i++) {
        if (clients->list[i].pending_count > 0) return false;
    }
    return true;
}

void sim_client_effect(struct sim *sim, const struct effect *effect)
{
    static const char letters[] = "rcatb";
    struct sim_clients *clients = &sim->clients;
    if (effect->kind != EFFECT_PUT) return;
    const char *letter = strchr(letters, (char)effect->key.data[0]);
    if (letter == NULL || *letter == 0) return;
    struct buf raw = {0};
    struct slice value = effect->value;
    if ((effect->flags & EFFECT_FLAG_LZ4) != 0) {
        CHECK(compress_unpack(value, &raw) == OK);
        value = buf_slice(&raw);
    }
    const uint64_t id = sim_value_id((enum sim_key_kind)(letter - letters), value);
    buf_close(&raw);
    if (id == 0 || id >= clients->next_value) return;
    if (id >= clients->written_capacity) {
        const uint64_t capacity = id * 2 + 256;
        clients->written = mem_resize(clients->written, capacity);
        memset(clients->written + clients->written_capacity, 0,
               capacity - clients->written_capacity);
        clients->written_capacity = capacity;
    }
    if (clients->written[id]++ == 0) return;
    sim_fail(sim, "the log holds write %" PRIu64 " of key %.*s twice", id, (int)effect->key.size,
             (const char *)effect->key.data);
}

/* Holds an operation against the log: what was answered must be there, what is not there never happened. */
static void check_written(struct sim *sim, const struct sim_key *key, struct check_op *op)
{
    const struct sim_clients *clients = &sim->clients;
    if (op->id == 0 || op->kind == CHECK_KIND_GET) return;
    const bool is_there = op->id < clients->written_capacity && clients->written[op->id] > 0;
    const bool is_conditional = op->kind == CHECK_KIND_SET_NEW ||
                                op->kind == CHECK_KIND_SET_EXISTING;
    if (!op->is_known) {
        if (!is_there) op->kind = CHECK_KIND_GET; /* One that nobody saw the answer of. */
    } else if (is_there != (!is_conditional || op->number != 0)) {
        sim_fail(sim, "write %" PRIu64 " of key %s was answered %s, the log says otherwise", op->id,
                 key->name, is_there ? "not done" : "done");
    }
}

static void describe(struct sim *sim, const struct sim_key *key)
{
    static const char *const kinds[] = {"get",  "set",    "setnx",  "setxx",  "getset",  "del",
                                        "incr", "append", "getdel", "expire", "persist", "flush"};
    if (sim->options.verbose == 0) return;
    for (uint32_t i = 0; i < key->op_count; i++) {
        const struct check_op *op = &key->ops[i];
        fprintf(stderr, "  %s %6llu..%-8lld c%u %s%s arg %lld reply %s%llu/%llu number %lld\n",
                key->name, (unsigned long long)op->asked, (long long)op->answered, op->client,
                op->is_known ? "" : "? ", kinds[op->kind], (long long)op->argument.content,
                op->reply.exists ? "" : "nil ", (unsigned long long)op->reply.content,
                (unsigned long long)op->reply.size, (long long)op->number);
    }
}

/* What deleted every key is part of the history of each. */
static void add_flushes(struct sim *sim, struct sim_key *key)
{
    const struct sim_clients *clients = &sim->clients;
    if (clients->flush_count == 0) return;
    key->op_capacity = key->op_count + clients->flush_count;
    key->ops = mem_resize(key->ops, key->op_capacity * sizeof *key->ops);
    for (uint32_t i = 0; i < clients->flush_count; i++) {
        key->ops[key->op_count++] = clients->flushes[i];
    }
}

void sim_client_check(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->clients.key_count && !sim->has_failed; i++) {
        struct sim_key *key = &sim->clients.keys[i];
        add_flushes(sim, key);
        for (uint32_t k = 0; k < key->op_count; k++) check_written(sim, key, &key->ops[k]);
        const enum check_verdict verdict = check_linear(key->ops, key->op_count);
        sim->counts.keys_checked++;
        if (verdict == CHECK_LINEAR) continue;
        describe(sim, key);
        sim_fail(sim, "the history of key %s %s", key->name,
                 verdict == CHECK_UNDECIDED ? "could not be decided" : "is not linearizable");
    }
}
