#include "tests/sim/sim_once.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/resp.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/reserved.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_decay.h"

#define FIRST_NUMBER (SIM_CLIENT_LIMIT + SIM_BANK_CLIENTS + SIM_FEED_CLIENTS + 1)
#define PATIENCE_MS 1500u

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return prng_below(&sim->once.prng, bound);
}

static struct sim_once_client *client_of(struct sim *sim, uint32_t number)
{
    CHECK(number >= FIRST_NUMBER && number - FIRST_NUMBER < SIM_ONCE_CLIENTS);
    return &sim->once.clients[number - FIRST_NUMBER];
}

static uint32_t at_of(const struct sim *sim, const struct sim_once_client *client)
{
    return (uint32_t)(client - sim->once.clients);
}

static bool counts(const struct sim *sim, const struct sim_once_client *client)
{
    return at_of(sim, client) % 2 == 0;
}

static void step_in(struct sim *sim, struct sim_once_client *client, uint64_t ms)
{
    sim_schedule(sim, sim->now + ms * SIM_MS, SIM_EVENT_CLIENT, FIRST_NUMBER + at_of(sim, client),
                 ++client->step);
}

/* ---- asking ------------------------------------------------------------------------------------------- */

static void ask_count(struct sim *sim, struct sim_once_client *client, char *line, size_t size)
{
    if (client->is_open) {
        sim->once.repeats++;
    } else {
        client->sequence++;
        client->is_open = true;
    }
    (void)snprintf(line, size, "KV.ONCE c%u %" PRIu64 " INCR oc\r\n", at_of(sim, client),
                   client->sequence);
}

static void ask_lock(struct sim *sim, struct sim_once_client *client, char *line, size_t size)
{
    const uint32_t at = at_of(sim, client);
    client->is_open = !client->holds;
    if (!client->holds) {
        (void)snprintf(line, size, "KV.LOCK ol %" PRIu64 " w%u WAIT %" PRIu64 "\r\n",
                       50 + below(sim, 500), at, below(sim, 3) * 300);
        return;
    }
    const bool renews = below(sim, 2) == 0;
    client->holds = renews;
    if (renews) {
        (void)snprintf(line, size, "KV.RENEW ol %" PRIu64 " w%u\r\n", 50 + below(sim, 500), at);
    } else {
        (void)snprintf(line, size, "KV.UNLOCK ol w%u\r\n", at);
    }
}

static void ask(struct sim *sim, struct sim_once_client *client)
{
    char line[128];
    struct buf out = {0};
    const bool is_count = counts(sim, client);
    client->asked = sim->log.last;
    if (is_count) {
        ask_count(sim, client, line, sizeof line);
    } else {
        ask_lock(sim, client, line, sizeof line);
    }
    client->replies_left = is_count && below(sim, 8) == 0 ? 2 : 1;
    for (uint32_t i = 0; i < client->replies_left; i++) buf_text(&out, line);
    const uint64_t sent = sim_net_send(sim, client->conn, 0, out.data, out.size);
    CHECK(sent == out.size);
    buf_close(&out);
    step_in(sim, client, PATIENCE_MS);
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static void take_count(struct sim *sim, struct sim_once_client *client, int64_t number)
{
    struct sim_once *once = &sim->once;
    if (!client->is_open) {
        if (number == client->answer) return;
        sim_fail(sim, "sequence %" PRIu64 " was answered %" PRId64 " and %" PRId64,
                 client->sequence, client->answer, number);
        return;
    }
    client->is_open = false;
    client->answer = number;
    if (once->answer_count == once->answer_capacity) {
        once->answer_capacity = once->answer_capacity * 2 + 256;
        once->answers = mem_resize(once->answers, once->answer_capacity * sizeof *once->answers);
    }
    once->answers[once->answer_count++] = number;
}

static void add_claim(struct sim *sim, const struct sim_once_client *client, int64_t token)
{
    struct sim_once *once = &sim->once;
    if (once->claim_count == once->claim_capacity) {
        once->claim_capacity = once->claim_capacity * 2 + 64;
        once->claims = mem_resize(once->claims, once->claim_capacity * sizeof *once->claims);
    }
    once->claims[once->claim_count++] = (struct sim_once_claim){
        .from = client->asked, .to = sim->log.last, .owner = at_of(sim, client), .token = token};
}

static void take_lock(struct sim *sim, struct sim_once_client *client, int64_t number)
{
    if (number != 0) add_claim(sim, client, client->is_open ? number : 0);
    if (!client->is_open) {
        if (number == 0) client->holds = false;
        return;
    }
    if (number <= client->answer) {
        sim_fail(sim, "token %" PRId64 " came after %" PRId64, number, client->answer);
    }
    client->answer = number;
    client->holds = true;
    sim->once.locks++;
}

static void take_reply(struct sim *sim, struct sim_once_client *client,
                       const struct resp_node *node)
{
    static const char *const expected[] = {"CLUSTERDOWN", "TRYAGAIN",  "NOSPACE",
                                           "LOADING",     "UNCERTAIN", "OOM"};
    if (node->kind == RESP_INT) {
        if (counts(sim, client)) {
            take_count(sim, client, node->integer);
        } else {
            take_lock(sim, client, node->integer);
        }
        return;
    }
    if (node->kind == RESP_NULL && !counts(sim, client)) return;
    for (uint32_t i = 0; node->kind == RESP_ERROR && i < sizeof expected / sizeof expected[0];
         i++) {
        const uint64_t size = strlen(expected[i]);
        if (node->text.size > size && memcmp(node->text.data, expected[i], size) == 0) return;
    }
    /* Of a disk that was changed on purpose: nothing happened, and nothing wrong was shown. */
    static const char unreadable[] = "ERR the value could not be read";
    const uint64_t size = strlen(unreadable);
    if (node->kind == RESP_ERROR && sim_decay_any(sim) && node->text.size > size &&
        memcmp(node->text.data, unreadable, size) == 0) {
        sim->counts.unreadable++;
        return;
    }
    sim_fail(sim, "client of KV.ONCE or KV.LOCK: unexpected reply %.*s", (int)node->text.size,
             (const char *)node->text.data);
}

static void hang_up(struct sim_once_client *client)
{
    client->conn = NULL;
    client->in.size = 0;
    client->replies_left = 0;
}

void sim_once_bytes(struct sim *sim, uint32_t number, struct slice bytes)
{
    struct sim_once_client *client = client_of(sim, number);
    struct resp_reply reply = {0};
    buf_append(&client->in, bytes.data, bytes.size);
    while (client->in.size > 0 && !sim->has_failed &&
           resp_read(&reply, buf_slice(&client->in)) == RESP_OK) {
        if (client->replies_left == 0) {
            sim_fail(sim, "client of KV.ONCE or KV.LOCK: a reply to nothing");
            break;
        }
        client->replies_left--;
        take_reply(sim, client, &reply.nodes[0]);
        buf_shift(&client->in, reply.size);
    }
    resp_reply_close(&reply);
    if (client->replies_left > 0 || sim->has_failed) return;
    step_in(sim, client, 1 + below(sim, client->holds ? 600 : 30));
}

void sim_once_lost(struct sim *sim, uint32_t number)
{
    struct sim_once_client *client = client_of(sim, number);
    hang_up(client);
    step_in(sim, client, 1 + below(sim, 50));
}

void sim_once_step(struct sim *sim, uint32_t number, uint64_t step)
{
    struct sim_once_client *client = client_of(sim, number);
    if (step != client->step) return;
    if (client->conn != NULL && (client->replies_left > 0 || below(sim, 20) == 0)) {
        sim_net_end(sim, client->conn, 0);
        hang_up(client);
    }
    const bool is_needed = counts(sim, client) && client->is_open;
    if (sim->once.is_final && !is_needed) return;
    if (client->conn == NULL) {
        client->conn = sim_net_dial_client(sim, number, (uint32_t)below(sim, sim->node_count));
        if (client->conn == NULL) {
            step_in(sim, client, 5 + below(sim, 40));
            return;
        }
    }
    ask(sim, client);
}

/* ---- the committed log ---------------------------------------------------------------------------------- */

static void add_change(struct sim *sim, uint64_t index, enum sim_once_kind kind, struct slice text)
{
    struct sim_once *once = &sim->once;
    int64_t number = 0;
    if (kind < SIM_ONCE_FREE && !slice_int64(text, &number)) {
        sim_fail(sim, "the log holds a count, a token or an owner that nobody wrote");
        return;
    }
    if (once->change_count == once->change_capacity) {
        once->change_capacity = once->change_capacity * 2 + 256;
        once->changes = mem_resize(once->changes, once->change_capacity * sizeof *once->changes);
    }
    struct sim_once_change *change = &once->changes[once->change_count++];
    *change = (struct sim_once_change){index, once->change_count, kind, number};
}

void sim_once_effect(struct sim *sim, uint64_t index, const struct effect *effect)
{
    const struct slice key = effect->key;
    if (effect->kind == EFFECT_FLUSH) {
        add_change(sim, index, SIM_ONCE_FLUSH, (struct slice){0});
    } else if (effect->kind == EFFECT_PUT && slice_equal(key, slice_text("oc"))) {
        add_change(sim, index, SIM_ONCE_COUNT, effect->value);
    } else if (effect->kind == EFFECT_PUT && reserved_key(key) && key.size == 9 &&
               memcmp(key.data + RESERVED_PREFIX_SIZE, "token", 5) == 0) {
        add_change(sim, index, SIM_ONCE_TOKEN, effect->value);
    } else if (slice_equal(key, slice_text("ol")) && effect->kind == EFFECT_PUT) {
        const struct slice owner = effect->value;
        add_change(sim, index, SIM_ONCE_OWNER,
                   slice_of(owner.data + 1, owner.size > 0 ? owner.size - 1 : 0));
    } else if (slice_equal(key, slice_text("ol")) && effect->kind == EFFECT_DELETE) {
        add_change(sim, index, SIM_ONCE_FREE, (struct slice){0});
    }
}

static int by_index(const void *left, const void *right)
{
    const struct sim_once_change *a = left;
    const struct sim_once_change *b = right;
    if (a->index != b->index) return a->index < b->index ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static int by_number(const void *left, const void *right)
{
    const int64_t a = *(const int64_t *)left;
    const int64_t b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Was every entry seen? One that no node showed leaves nothing to check. */
static bool is_whole(const struct sim *sim)
{
    const struct sim_once *once = &sim->once;
    const uint64_t last = once->changes[once->change_count - 1].index;
    for (uint64_t at = once->changes[0].index; at <= last; at++) {
        if (sim->log.entries[at].checksum == 0) return false;
    }
    return true;
}

/* What the log has made of the counter and the lock. */
struct replay {
    int64_t count;
    uint64_t counted; /* with what flushes took */
    int64_t token;
    int64_t owner;    /* 0: nobody */
    uint64_t taken;   /* entry of the newest token */
    uint64_t flushed; /* entry of the newest flush, which puts the token back */
};

static void replay_token(struct sim *sim, struct replay *replay,
                         const struct sim_once_change *change)
{
    if (change->index == replay->flushed && change->number == replay->token) return;
    replay->taken = change->index;
    if (change->number == ++replay->token) return;
    sim_fail(sim, "entry %" PRIu64 " has token %" PRId64 " instead of %" PRId64, change->index,
             change->number, replay->token);
}

static void replay_owner(struct sim *sim, struct replay *replay,
                         const struct sim_once_change *change)
{
    if (replay->owner != 0 && replay->owner != change->number) {
        sim_fail(sim, "entry %" PRIu64 " gives the lock of w%" PRId64 " to w%" PRId64,
                 change->index, replay->owner, change->number);
    }
    if (replay->taken != change->index) {
        sim_fail(sim, "entry %" PRIu64 " gives the lock without a token", change->index);
    }
    replay->owner = change->number;
}

static void replay_change(struct sim *sim, struct replay *replay,
                          const struct sim_once_change *change)
{
    switch (change->kind) {
    case SIM_ONCE_COUNT:
        replay->counted++;
        if (change->number == ++replay->count) return;
        sim_fail(sim, "entry %" PRIu64 " counts %" PRId64 " instead of %" PRId64, change->index,
                 change->number, replay->count);
        return;
    case SIM_ONCE_TOKEN: replay_token(sim, replay, change); return;
    case SIM_ONCE_OWNER: replay_owner(sim, replay, change); return;
    case SIM_ONCE_FREE: replay->owner = 0; return;
    case SIM_ONCE_FLUSH:
        replay->owner = 0;
        replay->count = 0;
        replay->flushed = change->index;
        return;
    }
    UNREACHABLE();
}

static bool is_claimed(const struct sim_once_claim *claim, int64_t owner, int64_t token)
{
    return owner == claim->owner && (claim->token == 0 || token == claim->token);
}

/* Had the owner the lock at some moment between the two, and with that token? */
static void check_claim(struct sim *sim, const struct sim_once_claim *claim)
{
    const struct sim_once *once = &sim->once;
    int64_t owner = 0;
    int64_t token = 0;
    if (claim->to > once->changes[once->change_count - 1].index) return;
    for (uint64_t i = 0; i < once->change_count; i++) {
        const struct sim_once_change *change = &once->changes[i];
        if (is_claimed(claim, owner, token) && change->index > claim->from) return;
        if (change->index > claim->to) break;
        if (change->kind == SIM_ONCE_TOKEN) token = change->number;
        if (change->kind == SIM_ONCE_OWNER) owner = change->number;
        if (change->kind >= SIM_ONCE_FREE) owner = 0;
    }
    if (is_claimed(claim, owner, token)) return;
    sim_fail(sim,
             "w%" PRId64 " was told between %" PRIu64 " and %" PRIu64
             " that it has the lock (token %" PRId64 "), and never had it then",
             claim->owner, claim->from, claim->to, claim->token);
}

static void check_changes(struct sim *sim)
{
    const struct sim_once *once = &sim->once;
    struct replay replay = {0};
    for (uint64_t i = 0; i < once->change_count && !sim->has_failed; i++) {
        replay_change(sim, &replay, &once->changes[i]);
    }
    if (replay.counted != once->answer_count) {
        sim_fail(sim, "%" PRIu64 " sequences were answered, and %" PRIu64 " were counted",
                 once->answer_count, replay.counted);
    }
    for (uint64_t i = 0; i < once->claim_count && !sim->has_failed; i++) {
        check_claim(sim, &once->claims[i]);
    }
}

void sim_once_check(struct sim *sim)
{
    struct sim_once *once = &sim->once;
    qsort(once->answers, once->answer_count, sizeof *once->answers, by_number);
    for (uint64_t i = 1; i < once->answer_count && sim->clients.flush_count == 0; i++) {
        if (once->answers[i - 1] != once->answers[i]) continue;
        sim_fail(sim, "two sequences were answered %" PRId64, once->answers[i]);
        return;
    }
    if (once->change_count == 0) return;
    qsort(once->changes, once->change_count, sizeof *once->changes, by_index);
    if (!is_whole(sim)) return;
    once->checked = true;
    check_changes(sim);
}

/* ---- life ----------------------------------------------------------------------------------------------- */

void sim_once_init(struct sim *sim)
{
    sim->once.prng = prng_seed(hash64_seeded("once", 4, sim->options.seed));
}

void sim_once_close(struct sim *sim)
{
    struct sim_once *once = &sim->once;
    for (uint32_t i = 0; i < SIM_ONCE_CLIENTS; i++) buf_close(&once->clients[i].in);
    mem_free(once->answers);
    mem_free(once->changes);
    mem_free(once->claims);
}

void sim_once_start(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_ONCE_CLIENTS; i++) {
        step_in(sim, &sim->once.clients[i], below(sim, 100));
    }
}

void sim_once_finish(struct sim *sim)
{
    sim->once.is_final = true;
}

bool sim_once_finished(const struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_ONCE_CLIENTS; i++) {
        const struct sim_once_client *client = &sim->once.clients[i];
        if (client->replies_left > 0) return false;
        if (counts(sim, client) && client->is_open) return false;
    }
    return true;
}
