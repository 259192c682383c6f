#include "tests/sim/sim_bank.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/resp.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/compress.h"
#include "tests/sim/sim.h"

#define FIRST_NUMBER (SIM_CLIENT_LIMIT + 1) /* clients of sim_client.c come before */
#define PATIENCE_MS 2500u

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return prng_below(&sim->bank.prng, bound);
}

static struct sim_bank_client *client_of(struct sim *sim, uint32_t number)
{
    CHECK(number >= FIRST_NUMBER && number - FIRST_NUMBER < SIM_BANK_CLIENTS);
    return &sim->bank.clients[number - FIRST_NUMBER];
}

static uint32_t number_of(const struct sim *sim, const struct sim_bank_client *client)
{
    return FIRST_NUMBER + (uint32_t)(client - sim->bank.clients);
}

static void step_in(struct sim *sim, struct sim_bank_client *client, uint64_t ms)
{
    sim_schedule(sim, sim->now + ms * SIM_MS, SIM_EVENT_CLIENT, number_of(sim, client),
                 ++client->step);
}

/* ---- asking ------------------------------------------------------------------------------------------- */

/* Words between spaces. */
static void put_line(struct buf *out, const char *line)
{
    struct slice args[64];
    uint32_t count = 0;
    while (*line != 0) {
        const uint64_t size = strcspn(line, " ");
        CHECK(count < 64);
        args[count++] = slice_of(line, size);
        line += size;
        line += *line == ' ';
    }
    resp_put_command(out, args, count);
}

static void put_format(struct buf *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void put_format(struct buf *out, const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    const int size = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    CHECK(size > 0 && (size_t)size < sizeof line);
    put_line(out, line);
}

static void send_all(struct sim *sim, struct sim_bank_client *client, struct buf *out,
                     uint32_t stage, uint32_t replies)
{
    client->stage = stage;
    client->replies_left = replies;
    const uint64_t sent = sim_net_send(sim, client->conn, 0, out->data, out->size);
    CHECK(sent == out->size);
    buf_close(out);
    step_in(sim, client, PATIENCE_MS);
}

static void ask_read(struct sim *sim, struct sim_bank_client *client)
{
    struct buf out = {0};
    uint32_t replies = 1;
    client->op.kind = SIM_BANK_READ;
    client->op.asked = ++sim->bank.clock;
    switch (below(sim, 3)) {
    case 0: put_line(&out, "MGET m0 m1 m2 m3 m4"); break;
    case 1: put_line(&out, "KV.TXN THEN 5 2 GET m0 2 GET m1 2 GET m2 2 GET m3 2 GET m4"); break;
    default:
        put_line(&out, "MULTI");
        for (uint32_t i = 0; i < SIM_BANK_ACCOUNTS; i++) put_format(&out, "GET m%u", i);
        put_line(&out, "EXEC");
        replies = SIM_BANK_ACCOUNTS + 2;
        break;
    }
    send_all(sim, client, &out, 2, replies);
}

static void ask_transfer(struct sim *sim, struct sim_bank_client *client)
{
    struct buf out = {0};
    struct sim_bank_op *op = &client->op;
    op->kind = below(sim, 2) == 0 ? SIM_BANK_WATCH : SIM_BANK_CONDITION;
    op->accounts[0] = (uint32_t)below(sim, SIM_BANK_ACCOUNTS);
    op->accounts[1] = (op->accounts[0] + 1 + (uint32_t)below(sim, SIM_BANK_ACCOUNTS - 1)) %
                      SIM_BANK_ACCOUNTS;
    if (op->kind == SIM_BANK_WATCH) {
        put_format(&out, "WATCH m%u m%u", op->accounts[0], op->accounts[1]);
    }
    put_format(&out, "MGET m%u m%u", op->accounts[0], op->accounts[1]);
    send_all(sim, client, &out, 1, op->kind == SIM_BANK_WATCH ? 2 : 1);
}

static void put_condition(char *text, size_t size, uint32_t account,
                          const struct sim_bank_value *value)
{
    if (value->txn == 0) {
        (void)snprintf(text, size, "ABSENT m%u", account);
    } else {
        (void)snprintf(text, size, "VALUE m%u = m%" PRIu64 ":%" PRId64, account, value->txn,
                       value->balance);
    }
}

/* The reads are here: the transfer itself. */
static void ask_change(struct sim *sim, struct sim_bank_client *client)
{
    char first[64];
    char second[64];
    char conditions[2][64];
    struct buf out = {0};
    struct sim_bank *bank = &sim->bank;
    struct sim_bank_op *op = &client->op;
    const struct sim_bank_value *from = &op->values[0];
    const struct sim_bank_value *to = &op->values[1];
    const bool is_last = from->balance != 0 && below(sim, 3) == 0;
    const int64_t amount = is_last ? from->balance : 1 + (int64_t)below(sim, 100);
    client->txn = bank->op_count + 1;
    op->asked = ++bank->clock;
    op->answered = UINT64_MAX;
    /* Remembered before it is asked: the log may show it before the answer comes. */
    if (bank->op_count == bank->op_capacity) {
        bank->op_capacity = bank->op_capacity * 2 + 256;
        bank->ops = mem_resize(bank->ops, bank->op_capacity * sizeof *bank->ops);
    }
    bank->ops[bank->op_count++] = *op;
    if (from->balance == amount) {
        (void)snprintf(first, sizeof first, "DEL m%u", op->accounts[0]);
    } else {
        (void)snprintf(first, sizeof first, "SET m%u m%" PRIu64 ":%" PRId64, op->accounts[0],
                       client->txn, from->balance - amount);
    }
    (void)snprintf(second, sizeof second, "SET m%u m%" PRIu64 ":%" PRId64, op->accounts[1],
                   client->txn, to->balance + amount);
    if (op->kind == SIM_BANK_WATCH) {
        put_line(&out, "MULTI");
        put_line(&out, first);
        put_line(&out, second);
        put_line(&out, "EXEC");
        send_all(sim, client, &out, 2, 4);
        return;
    }
    put_condition(conditions[0], sizeof conditions[0], op->accounts[0], from);
    put_condition(conditions[1], sizeof conditions[1], op->accounts[1], to);
    put_format(&out, "KV.TXN IF 2 %s %s THEN 2 %u %s 3 %s", conditions[0], conditions[1],
               first[0] == 'D' ? 2u : 3u, first, second);
    send_all(sim, client, &out, 2, 1);
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static void op_end(struct sim *sim, struct sim_bank_client *client, enum sim_bank_outcome outcome)
{
    struct sim_bank *bank = &sim->bank;
    client->op.outcome = outcome;
    client->op.answered = outcome == SIM_BANK_UNKNOWN ? UINT64_MAX : ++bank->clock;
    if (client->op.kind != SIM_BANK_READ) {
        bank->ops[client->txn - 1] = client->op;
        bank->done += outcome == SIM_BANK_DONE;
        bank->aborted += outcome == SIM_BANK_NOT_DONE;
    } else if (outcome == SIM_BANK_DONE) {
        if (bank->op_count == bank->op_capacity) {
            bank->op_capacity = bank->op_capacity * 2 + 256;
            bank->ops = mem_resize(bank->ops, bank->op_capacity * sizeof *bank->ops);
        }
        bank->ops[bank->op_count++] = client->op;
        bank->reads++;
    }
    client->stage = 0;
}

static void hang_up(struct sim *sim, struct sim_bank_client *client)
{
    if (client->stage == 2) op_end(sim, client, SIM_BANK_UNKNOWN);
    client->stage = 0;
    client->conn = NULL;
    client->in.size = 0;
}

/* "m17:-5". */
static bool read_value(struct sim *sim, struct slice text, struct sim_bank_value *value)
{
    const uint8_t *colon = text.size > 3 ? memchr(text.data, ':', text.size) : NULL;
    int64_t number = 0;
    if (colon == NULL || text.data[0] != 'm') return false;
    const uint64_t digits = (uint64_t)(colon - text.data) - 1;
    if (!slice_int64(slice_of(text.data + 1, digits), &number)) return false;
    value->txn = (uint64_t)number;
    return number > 0 && value->txn <= sim->bank.op_count &&
           slice_int64(slice_of(colon + 1, text.size - digits - 2), &value->balance);
}

/* The array of @count values at @node of the reply. */
static bool take_values(struct sim *sim, const struct resp_reply *reply, uint32_t node,
                        uint32_t count, struct sim_bank_value *values)
{
    if (node >= reply->count || reply->nodes[node].kind != RESP_ARRAY) return false;
    if (reply->nodes[node].count != count) return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct resp_node *element = &reply->nodes[node + 1 + i];
        values[i] = (struct sim_bank_value){0};
        if (element->kind == RESP_NULL) continue;
        if (element->kind != RESP_BULK || !read_value(sim, element->text, &values[i])) return false;
    }
    return true;
}

/* An error: what it says of the transaction. */
static void take_error(struct sim *sim, struct sim_bank_client *client, struct slice text)
{
    static const char *const refusals[] = {"CLUSTERDOWN", "TRYAGAIN", "NOSPACE", "LOADING",
                                           "EXECABORT"};
    enum sim_bank_outcome outcome = SIM_BANK_UNKNOWN;
    for (uint32_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const uint64_t size = strlen(refusals[i]);
        if (text.size > size && memcmp(text.data, refusals[i], size) == 0) {
            outcome = SIM_BANK_NOT_DONE;
        }
    }
    if (outcome == SIM_BANK_UNKNOWN && !(text.size > 9 && memcmp(text.data, "UNCERTAIN", 9) == 0)) {
        sim_fail(sim, "bank client: unexpected error %.*s", (int)text.size,
                 (const char *)text.data);
    }
    if (client->stage == 2) op_end(sim, client, outcome);
    client->stage = 0;
}

static void take_last(struct sim *sim, struct sim_bank_client *client,
                      const struct resp_reply *reply)
{
    struct sim_bank_op *op = &client->op;
    const struct resp_node *first = &reply->nodes[0];
    if (client->stage == 1) {
        if (!take_values(sim, reply, 0, 2, op->values)) {
            sim_fail(sim, "bank client: what was read is no account");
        }
        op->watched = ++sim->bank.clock;
        client->stage = 3;
        return;
    }
    if (op->kind == SIM_BANK_READ) {
        /* Nothing, when a WATCH of before is still in force; KV.TXN: [1, [values]]. */
        if (first->kind == RESP_NULL) {
            op_end(sim, client, SIM_BANK_NOT_DONE);
            return;
        }
        const uint32_t node = first->count == 2 ? 2 : 0;
        if (!take_values(sim, reply, node, SIM_BANK_ACCOUNTS, op->values)) {
            sim_fail(sim, "bank client: what was read is no list of accounts");
        }
        op_end(sim, client, SIM_BANK_DONE);
    } else if (op->kind == SIM_BANK_WATCH) {
        const bool is_done = first->kind == RESP_ARRAY && first->count == 2;
        if (!is_done && first->kind != RESP_NULL) sim_fail(sim, "bank client: odd reply to EXEC");
        op_end(sim, client, is_done ? SIM_BANK_DONE : SIM_BANK_NOT_DONE);
    } else {
        const bool is_pair = first->kind == RESP_ARRAY && first->count == 2 && reply->count > 2;
        if (!is_pair) sim_fail(sim, "bank client: odd reply to KV.TXN");
        const bool is_done = is_pair && reply->nodes[1].integer == 1;
        op_end(sim, client, is_done ? SIM_BANK_DONE : SIM_BANK_NOT_DONE);
    }
}

void sim_bank_bytes(struct sim *sim, uint32_t number, struct slice bytes)
{
    struct sim_bank_client *client = client_of(sim, number);
    struct resp_reply reply = {0};
    buf_append(&client->in, bytes.data, bytes.size);
    while (client->in.size > 0 && !sim->has_failed &&
           resp_read(&reply, buf_slice(&client->in)) == RESP_OK) {
        if (client->replies_left == 0) {
            sim_fail(sim, "bank client: a reply to nothing");
            break;
        }
        client->replies_left--;
        const bool is_error = reply.nodes[0].kind == RESP_ERROR;
        /* Commands that were refused when they were queued are told of again by EXEC. */
        const bool is_last = client->replies_left == 0;
        if (is_error && (is_last || client->stage == 1)) {
            take_error(sim, client, reply.nodes[0].text);
        } else if (is_last && client->stage != 0) {
            take_last(sim, client, &reply);
        }
        buf_shift(&client->in, reply.size);
    }
    resp_reply_close(&reply);
    if (client->replies_left > 0 || sim->has_failed) return;
    /* Before a transfer long enough, now and then, for another leader. */
    const bool is_slow = client->stage == 3 && below(sim, 8) == 0;
    step_in(sim, client, 1 + below(sim, is_slow ? 2000 : 20));
}

void sim_bank_lost(struct sim *sim, uint32_t number)
{
    struct sim_bank_client *client = client_of(sim, number);
    hang_up(sim, client);
    step_in(sim, client, 1 + below(sim, 50));
}

void sim_bank_step(struct sim *sim, uint32_t number, uint64_t step)
{
    struct sim_bank_client *client = client_of(sim, number);
    if (step != client->step) return;
    const bool is_waiting = client->replies_left > 0;
    if (client->conn != NULL && (is_waiting || (client->stage == 0 && below(sim, 30) == 0))) {
        sim_net_end(sim, client->conn, 0);
        hang_up(sim, client);
        client->replies_left = 0;
    }
    if (client->conn == NULL) {
        client->stage = 0;
        client->replies_left = 0;
        if (sim->bank.is_final) return;
        client->node = (uint32_t)below(sim, sim->node_count);
        client->conn = sim_net_dial_client(sim, number, client->node);
        if (client->conn == NULL) {
            step_in(sim, client, 5 + below(sim, 40));
            return;
        }
    }
    if (client->stage == 3) {
        ask_change(sim, client);
    } else if (!sim->bank.is_final) {
        client->op = (struct sim_bank_op){0};
        if (below(sim, 3) == 0) {
            ask_read(sim, client);
        } else {
            ask_transfer(sim, client);
        }
    }
}

/* ---- life ----------------------------------------------------------------------------------------------- */

void sim_bank_init(struct sim *sim)
{
    sim->bank.prng = prng_seed(hash64_seeded("bank", 4, sim->options.seed));
}

void sim_bank_close(struct sim *sim)
{
    struct sim_bank *bank = &sim->bank;
    for (uint32_t i = 0; i < SIM_BANK_CLIENTS; i++) buf_close(&bank->clients[i].in);
    mem_free(bank->ops);
    mem_free(bank->changes);
}

void sim_bank_start(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_BANK_CLIENTS; i++) {
        step_in(sim, &sim->bank.clients[i], below(sim, 100));
    }
}

void sim_bank_finish(struct sim *sim)
{
    sim->bank.is_final = true;
}

bool sim_bank_finished(const struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_BANK_CLIENTS; i++) {
        const struct sim_bank_client *client = &sim->bank.clients[i];
        if (client->replies_left > 0 || client->stage == 3) return false;
    }
    return true;
}

void sim_bank_effect(struct sim *sim, uint64_t index, const struct effect *effect)
{
    struct sim_bank *bank = &sim->bank;
    const bool is_account = effect->key.size == 2 && effect->key.data[0] == 'm';
    const bool is_flush = effect->kind == EFFECT_FLUSH;
    if (!is_flush && !(is_account && effect->kind <= EFFECT_DELETE)) return;
    if (bank->change_count == bank->change_capacity) {
        bank->change_capacity = bank->change_capacity * 2 + 256;
        bank->changes = mem_resize(bank->changes, bank->change_capacity * sizeof *bank->changes);
    }
    struct sim_bank_change *change = &bank->changes[bank->change_count++];
    *change = (struct sim_bank_change){
        .index = index, .order = bank->change_count, .account = SIM_BANK_ACCOUNTS};
    if (!is_flush) change->account = (uint32_t)(effect->key.data[1] - '0');
    if (effect->kind == EFFECT_PUT && !read_value(sim, effect->value, &change->value)) {
        sim_fail(sim, "the log holds an account that nobody wrote");
    }
}
