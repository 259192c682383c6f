/* cmd_sentinel.c - SENTINEL: where the leader is, for clients that ask Redis Sentinel.
 *
 * There is one master, the leader, named by the option sentinel-master; the other nodes are its replicas, and every
 * node's listener for clients is a Sentinel. Questions that need a leader wait while there is none. */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_face.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/pubsub.h"
#include "node/subcommand.h"
#include "storage/base/check.h"

struct seen {
    const struct peer_identity *identity;
    char host[ADDRESS_SIZE_MAX + 1];
    char port[8];
    char id[CORE_NODE_ID_SIZE];
    bool is_up;
};

static bool place_of(const struct core *core, const struct peer_identity *identity, bool is_up,
                     struct seen *place)
{
    struct config_address address;
    if (!config_parse_address(identity->client_address, &address)) return false;
    *place = (struct seen){.identity = identity, .is_up = is_up};
    (void)snprintf(place->host, sizeof place->host, "%s", address.host);
    (void)snprintf(place->port, sizeof place->port, "%u", address.port);
    core_node_id(core, identity->node_id, place->id);
    return true;
}

/* Node @at of all: 0 is this one. False: it has not introduced itself yet. */
static bool place_at(const struct core *core, uint32_t at, struct seen *place)
{
    if (at == 0) return place_of(core, &core->peers.self, true, place);
    const struct peer *peer = &core->peers.list[at - 1];
    return peer->is_known && place_of(core, &peer->identity, peer->is_connected, place);
}

static bool place_of_leader(struct core *core, struct seen *place)
{
    for (uint32_t i = 0; i <= core->peers.count; i++) {
        if (!place_at(core, i, place)) continue;
        if (place->identity->node_id == core_leader_id(core)) return true;
    }
    return false;
}

static uint32_t count_others(const struct core *core)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->peers.count; i++) count += core->peers.list[i].is_known;
    return count;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

static void put_field(struct eval *eval, const char *name, const char *value)
{
    resp_put_text(eval->out, name);
    resp_put_text(eval->out, value);
}

static void put_count(struct eval *eval, const char *name, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    put_field(eval, name, text);
}

/* The fields that all kinds begin with: 15. */
static void put_place(struct eval *eval, const char *name, const struct seen *place,
                      const char *flags)
{
    put_field(eval, "name", name);
    put_field(eval, "ip", place->host);
    put_field(eval, "port", place->port);
    put_field(eval, "runid", place->id);
    put_field(eval, "flags", flags);
    put_field(eval, "link-pending-commands", "0");
    put_field(eval, "link-refcount", "1");
    put_field(eval, "last-ping-sent", "0");
    put_field(eval, "last-ok-ping-reply", "0");
    put_field(eval, "last-ping-reply", "0");
    put_count(eval, "down-after-milliseconds", eval->core->config->election_timeout_ms);
    put_field(eval, "info-refresh", "0");
    put_field(eval, "role-reported", flags);
    put_field(eval, "role-reported-time", "0");
    put_field(eval, "failover-timeout", "60000");
}
#define PLACE_FIELDS 15u

static uint32_t quorum_of(const struct core *core)
{
    return (core->peers.count + 1) / 2 + 1;
}

static void put_master(struct eval *eval)
{
    struct core *core = eval->core;
    struct seen leader;
    if (!place_of_leader(core, &leader)) { /* Asked for within a transaction, which cannot wait. */
        resp_put_map(eval->out, 0, eval->protocol);
        return;
    }
    resp_put_map(eval->out, PLACE_FIELDS + 5, eval->protocol);
    put_place(eval, core->config->sentinel_master, &leader, "master");
    put_count(eval, "config-epoch", replica_term(core->shard.replica));
    put_count(eval, "num-slaves", count_others(core));
    put_count(eval, "num-other-sentinels", count_others(core));
    put_count(eval, "quorum", quorum_of(core));
    put_field(eval, "parallel-syncs", "1");
}

static void sentinel_master(struct eval *eval)
{
    put_master(eval);
}

static void sentinel_masters(struct eval *eval)
{
    resp_put_array(eval->out, 1);
    put_master(eval);
}

static void sentinel_address(struct eval *eval)
{
    struct seen leader;
    if (!place_of_leader(eval->core, &leader)) {
        resp_put_null_array(eval->out, eval->protocol);
        return;
    }
    resp_put_array(eval->out, 2);
    resp_put_text(eval->out, leader.host);
    resp_put_text(eval->out, leader.port);
}

static void sentinel_replicas(struct eval *eval)
{
    struct core *core = eval->core;
    struct seen leader;
    struct seen place;
    uint32_t count = 0;
    const bool has_leader = place_of_leader(core, &leader);
    for (uint32_t i = 0; i <= core->peers.count && has_leader; i++) {
        count += place_at(core, i, &place) && place.identity != leader.identity;
    }
    resp_put_array(eval->out, count);
    for (uint32_t i = 0; i <= core->peers.count && has_leader; i++) {
        char name[ADDRESS_SIZE_MAX + 16];
        if (!place_at(core, i, &place) || place.identity == leader.identity) continue;
        (void)snprintf(name, sizeof name, "%s:%s", place.host, place.port);
        resp_put_map(eval->out, PLACE_FIELDS + 6, eval->protocol);
        put_place(eval, name, &place, place.is_up ? "slave" : "s_down,slave,disconnected");
        put_field(eval, "master-link-status", place.is_up ? "ok" : "err");
        put_field(eval, "master-link-down-time", "0");
        put_field(eval, "master-host", leader.host);
        put_field(eval, "master-port", leader.port);
        put_field(eval, "slave-priority", "100");
        put_count(eval, "slave-repl-offset", store_applied_index(core->shard.store));
    }
}

/* The other nodes. */
static void sentinel_sentinels(struct eval *eval)
{
    struct core *core = eval->core;
    struct seen place;
    uint32_t count = 0;
    for (uint32_t i = 1; i <= core->peers.count; i++) count += place_at(core, i, &place);
    resp_put_array(eval->out, count);
    for (uint32_t i = 1; i <= core->peers.count; i++) {
        if (!place_at(core, i, &place)) continue;
        resp_put_map(eval->out, PLACE_FIELDS, eval->protocol);
        put_place(eval, place.id, &place,
                  place.is_up ? "sentinel" : "s_down,sentinel,disconnected");
    }
}

static void sentinel_ckquorum(struct eval *eval)
{
    struct core *core = eval->core;
    char text[160];
    uint32_t up = 1;
    for (uint32_t i = 0; i < core->peers.count; i++) up += core->peers.list[i].is_connected;
    if (up >= quorum_of(core)) {
        (void)snprintf(text, sizeof text,
                       "OK %u usable Sentinels. Quorum and failover authorization can be reached",
                       up);
        resp_put_simple(eval->out, text);
        return;
    }
    (void)snprintf(text, sizeof text,
                   "NOQUORUM %u usable Sentinels. Not enough available Sentinels to reach the "
                   "majority and authorize a failover",
                   up);
    eval_error(eval, text);
}

static void sentinel_myid(struct eval *eval)
{
    char id[CORE_NODE_ID_SIZE];
    core_node_id(eval->core, eval->core->identity.node_id, id);
    resp_put_text(eval->out, id);
}

static void sentinel_refused(struct eval *eval)
{
    char text[160];
    (void)snprintf(text, sizeof text,
                   "ERR SENTINEL %.*s is not supported: use kvctl member and kvctl leader",
                   (int)eval->args[1].size, (const char *)eval->args[1].data);
    eval_error(eval, text);
}

/* ---- the command -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    bool names_master;
    void (*function)(struct eval *eval);
} subcommands[] = {
    {"ckquorum", true, sentinel_ckquorum}, {"get-master-addr-by-name", true, sentinel_address},
    {"help", false, subcommand_help},      {"master", true, sentinel_master},
    {"masters", false, sentinel_masters},  {"myid", false, sentinel_myid},
    {"replicas", true, sentinel_replicas}, {"sentinels", true, sentinel_sentinels},
    {"slaves", true, sentinel_replicas},
};

static void carry_out(struct eval *eval, uint32_t at)
{
    if (!subcommands[at].names_master ||
        slice_equal(eval->args[2], slice_text(eval->core->config->sentinel_master))) {
        subcommands[at].function(eval);
    } else if (subcommands[at].function == sentinel_address) {
        resp_put_null_array(eval->out, eval->protocol);
    } else {
        eval_error(eval, "ERR No such master with that name");
    }
}

void cmd_sentinel(struct eval *eval)
{
    uint32_t at = 0;
    if ((subcommand_find(eval->command, eval->args[1])->flags & SUBCOMMAND_REFUSED) != 0) {
        sentinel_refused(eval);
        return;
    }
    while (!slice_equal_fold(eval->args[1], subcommands[at].name)) {
        at++;
        CHECK(at < sizeof subcommands / sizeof subcommands[0]);
    }
    carry_out(eval, at);
}

/* ---- +switch-master -------------------------------------------------------------------------------------- */

void cmd_sentinel_turn(struct core *core)
{
    struct seen old = {.identity = NULL};
    struct seen new;
    char text[NAME_SIZE_MAX + 2 * ADDRESS_SIZE_MAX + 32];
    const uint64_t leader = core_leader_id(core);
    if (leader == 0 || leader == core->leader_told) return;
    if (!core_has_leader(core) || !place_of_leader(core, &new)) return;
    for (uint32_t i = 0; i <= core->peers.count; i++) {
        if (place_at(core, i, &old) && old.identity->node_id == core->leader_told) break;
        old.identity = NULL;
    }
    core->leader_told = leader;
    if (old.identity == NULL) return;
    (void)snprintf(text, sizeof text, "%s %s %s %s %s", core->config->sentinel_master, old.host,
                   old.port, new.host, new.port);
    pubsub_tell(core, slice_text("+switch-master"), slice_text(text));
}
