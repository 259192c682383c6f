#include "tests/sim/sim_feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/effect.h"
#include "tests/sim/sim.h"

#define FIRST_NUMBER (SIM_CLIENT_LIMIT + 1 + SIM_BANK_CLIENTS)
#define PATIENCE_MS 3000u /* without an answer or a mark */

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return prng_below(&sim->feeds.prng, bound);
}

static struct sim_feed_client *client_of(struct sim *sim, uint32_t number)
{
    CHECK(number >= FIRST_NUMBER && number - FIRST_NUMBER < SIM_FEED_CLIENTS);
    return &sim->feeds.clients[number - FIRST_NUMBER];
}

static uint32_t number_of(const struct sim *sim, const struct sim_feed_client *client)
{
    return FIRST_NUMBER + (uint32_t)(client - sim->feeds.clients);
}

static void step_in(struct sim *sim, struct sim_feed_client *client, uint64_t ms)
{
    sim_schedule(sim, sim->now + ms * SIM_MS, SIM_EVENT_CLIENT, number_of(sim, client),
                 ++client->step);
}

static void hang_up(struct sim *sim, struct sim_feed_client *client)
{
    if (client->conn != NULL) sim_net_end(sim, client->conn, 0);
    client->conn = NULL;
    client->is_watching = false;
    client->in.size = 0;
}

/* ---- what comes --------------------------------------------------------------------------------------- */

static void take_gone(struct sim *sim, struct sim_feed_client *client, uint64_t oldest)
{
    if (oldest <= client->position) {
        sim_fail(sim, "a feed at %" PRIu64 " was told that only %" PRIu64 " is kept",
                 client->position, oldest);
    }
    client->position = oldest;
    sim->feeds.gone++;
    hang_up(sim, client);
    step_in(sim, client, 1);
}

static void take_error(struct sim *sim, struct sim_feed_client *client, struct slice text)
{
    char line[256];
    (void)snprintf(line, sizeof line, "%.*s", (int)text.size, (const char *)text.data);
    if (strncmp(line, "COMPACTED ", 10) == 0) {
        take_gone(sim, client, strtoull(strrchr(line, ' ') + 1, NULL, 10));
    } else if (strncmp(line, "CLUSTERDOWN ", 12) == 0 || strncmp(line, "LOADING ", 8) == 0 ||
               strstr(line, "lies ahead") != NULL) {
        /* Ahead: the node has lost what it had, and there was no leader to ask. */
        hang_up(sim, client);
        step_in(sim, client, 20 + below(sim, 100));
    } else {
        sim_fail(sim, "a feed was refused: %s", line);
    }
}

static void take_started(struct sim *sim, struct sim_feed_client *client, uint64_t revision)
{
    if (client->has_position && revision != client->position) {
        sim_fail(sim, "a feed asked for %" PRIu64 " and begins at %" PRIu64, client->position,
                 revision);
    }
    client->has_position = true;
    client->position = revision;
    client->is_watching = true;
    sim->feeds.resumes++;
}

static void take_message(struct sim *sim, struct sim_feed_client *client,
                         const struct resp_node *nodes)
{
    const struct slice name = nodes[1].text;
    const uint64_t revision = (uint64_t)nodes[3].integer;
    if (slice_equal(name, slice_text("kv.watch")) && nodes->count == 4) {
        sim->feeds.messages++;
        sim->feeds.changes += nodes[4].count;
        check_feed_events(sim, client, revision, &nodes[4]);
    } else if (slice_equal(name, slice_text("kv.progress")) && nodes->count == 3) {
        check_feed_mark(sim, client, revision);
    } else if (slice_equal(name, slice_text("kv.closed")) && nodes->count == 5) {
        if (slice_equal(nodes[3].text, slice_text("COMPACTED"))) {
            take_gone(sim, client, (uint64_t)nodes[5].integer);
            return;
        }
        hang_up(sim, client); /* Its disk is damaged: another node will do. */
        step_in(sim, client, 50);
        return;
    } else {
        sim_fail(sim, "a feed is told something strange");
    }
    step_in(sim, client, client->position % 5 == 0 ? 1 + below(sim, 400) : PATIENCE_MS);
}

void sim_feed_bytes(struct sim *sim, uint32_t number, struct slice bytes)
{
    struct sim_feed_client *client = client_of(sim, number);
    struct resp_reply reply = {0};
    buf_append(&client->in, bytes.data, bytes.size);
    while (client->in.size > 0 && !sim->has_failed &&
           resp_read(&reply, buf_slice(&client->in)) == RESP_OK) {
        const struct resp_node *nodes = reply.nodes;
        const uint64_t size = reply.size;
        const uint64_t step = client->step;
        const bool is_list = nodes->kind == RESP_ARRAY || nodes->kind == RESP_PUSH;
        if (nodes->kind == RESP_ERROR) {
            take_error(sim, client, nodes->text);
        } else if (is_list && nodes->count == 2 && nodes[1].kind == RESP_INT) {
            take_started(sim, client, (uint64_t)nodes[2].integer);
        } else if (is_list) {
            take_message(sim, client, nodes);
        } /* else the answer to HELLO */
        if (client->conn == NULL) break;
        buf_shift(&client->in, size);
        if (client->step == step) step_in(sim, client, PATIENCE_MS);
    }
    resp_reply_close(&reply);
}

void sim_feed_lost(struct sim *sim, uint32_t number)
{
    struct sim_feed_client *client = client_of(sim, number);
    client->conn = NULL;
    hang_up(sim, client);
    step_in(sim, client, 1 + below(sim, 50));
}

/* ---- what it does ------------------------------------------------------------------------------------- */

void sim_feed_step(struct sim *sim, uint32_t number, uint64_t step)
{
    struct sim_feed_client *client = client_of(sim, number);
    struct buf out = {0};
    if (step != client->step) return;
    if (client->conn != NULL) {
        /* Nothing came for too long, or it goes elsewhere, now and then after a long time. */
        hang_up(sim, client);
        const bool is_away = !sim->feeds.is_final && below(sim, 10) == 0;
        step_in(sim, client, is_away ? 1000 + below(sim, 5000) : 1);
        return;
    }
    client->node = (uint32_t)below(sim, sim->node_count);
    client->conn = sim_net_dial_client(sim, number, client->node);
    if (client->conn == NULL) {
        step_in(sim, client, 5 + below(sim, 40));
        return;
    }
    if (client->protocol == 3) buf_text(&out, "HELLO 3\r\n");
    buf_printf(&out, "KV.WATCH %s PROGRESS 200", client->words);
    if (client->has_position) buf_printf(&out, " FROM %" PRIu64, client->position);
    buf_text(&out, "\r\n");
    const uint64_t sent = sim_net_send(sim, client->conn, 0, out.data, out.size);
    CHECK(sent == out.size);
    buf_close(&out);
    step_in(sim, client, PATIENCE_MS);
}

void sim_feed_finish(struct sim *sim)
{
    sim->feeds.is_final = true;
    sim->feeds.target = sim->log.last;
}

bool sim_feed_finished(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_FEED_CLIENTS; i++) {
        const struct sim_feed_client *client = &sim->feeds.clients[i];
        if (client->position < revision_of(sim->feeds.target, 0)) return false;
    }
    return true;
}

void sim_feed_init(struct sim *sim)
{
    struct sim_feed_client *clients = sim->feeds.clients;
    sim->feeds.prng = prng_seed(hash64_seeded("feed", 4, sim->options.seed));
    clients[0] = (struct sim_feed_client){
        .from = "", .to = "", .words = "PREFIX \"\"", .protocol = 3, .has_position = true};
    clients[1] = (struct sim_feed_client){
        .from = "b", .to = "d", .words = "RANGE b d PREV", .protocol = 2};
    clients[2] = (struct sim_feed_client){
        .from = "a", .to = "b", .words = "PREFIX a PREV", .protocol = 3};
}

void sim_feed_close(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_FEED_CLIENTS; i++) buf_close(&sim->feeds.clients[i].in);
}

void sim_feed_start(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_FEED_CLIENTS; i++) {
        step_in(sim, &sim->feeds.clients[i], below(sim, 100));
    }
}
