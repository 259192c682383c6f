/* cmd_cluster.c - the topology as Redis Cluster clients want it: one shard that owns every slot, the leader its
 * master. Only on the listener cluster-client; shapes are those of Redis 7. */
#include <inttypes.h>
#include <stdio.h>

#include "client/slot.h"
#include "node/command.h"
#include "node/core_parts.h"

#define ID_SIZE 41u

struct seen_node {
    const struct peer_identity *identity;
    bool leads;
    bool is_self;
    bool is_connected;
    char host[ADDRESS_SIZE_MAX + 1];
    uint16_t port;
    char id
        [ID_SIZE]; /* 40 hexadecimal digits, the same on every node and for the member's whole life */
};

struct topology {
    struct seen_node nodes[PEERS_MAX + 1]; /* the leader first */
    uint32_t count;
};

static void add_node(struct core *core, struct topology *topology,
                     const struct peer_identity *identity, bool is_connected)
{
    struct config_address address;
    const uint64_t id = identity->node_id;
    if (!config_parse_address(identity->cluster_client_address, &address)) return;
    struct seen_node *node = &topology->nodes[topology->count++];
    *node = (struct seen_node){.identity = identity,
                               .leads = id == core_leader_id(core),
                               .is_self = id == core->identity.node_id,
                               .is_connected = is_connected,
                               .port = address.port};
    (void)snprintf(node->host, sizeof node->host, "%s", address.host);
    (void)snprintf(node->id, sizeof node->id, "%016" PRIx64 "%016" PRIx64 "%08x",
                   core->identity.cluster_id, id, 0u);
}

/* The members that have a listener for cluster clients and that we can see. */
static struct topology look(struct core *core)
{
    struct topology topology = {0};
    add_node(core, &topology, &core->peers.self, true);
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const struct peer *peer = &core->peers.list[i];
        if (peer->is_known) add_node(core, &topology, &peer->identity, peer->is_connected);
    }
    for (uint32_t i = 1; i < topology.count; i++) {
        if (!topology.nodes[i].leads) continue;
        const struct seen_node leader = topology.nodes[i];
        topology.nodes[i] = topology.nodes[0];
        topology.nodes[0] = leader;
    }
    return topology;
}

static void cluster_slots(struct eval *eval, const struct topology *topology)
{
    uint32_t shown = 0;
    for (uint32_t i = 0; i < topology->count; i++) shown += topology->nodes[i].is_connected;
    resp_put_array(eval->out, 1);
    resp_put_array(eval->out, 2 + shown);
    resp_put_int(eval->out, 0);
    resp_put_int(eval->out, SLOT_COUNT - 1);
    for (uint32_t i = 0; i < topology->count; i++) {
        const struct seen_node *node = &topology->nodes[i];
        if (!node->is_connected) continue; /* A client must not be sent to a node that is away. */
        resp_put_array(eval->out, 4);
        resp_put_text(eval->out, node->host);
        resp_put_int(eval->out, node->port);
        resp_put_text(eval->out, node->id);
        resp_put_array(eval->out, 0);
    }
}

static void put_field(struct eval *eval, const char *name, const char *value)
{
    resp_put_text(eval->out, name);
    resp_put_text(eval->out, value);
}

static void cluster_shards(struct eval *eval, const struct topology *topology)
{
    const uint64_t applied = store_applied_index(eval->shard->store);
    resp_put_array(eval->out, 1);
    resp_put_map(eval->out, 2, eval->protocol);
    resp_put_text(eval->out, "slots");
    resp_put_array(eval->out, 2);
    resp_put_int(eval->out, 0);
    resp_put_int(eval->out, SLOT_COUNT - 1);
    resp_put_text(eval->out, "nodes");
    resp_put_array(eval->out, topology->count);
    for (uint32_t i = 0; i < topology->count; i++) {
        const struct seen_node *node = &topology->nodes[i];
        resp_put_map(eval->out, 7, eval->protocol);
        put_field(eval, "id", node->id);
        resp_put_text(eval->out, "port");
        resp_put_int(eval->out, node->port);
        put_field(eval, "ip", node->host);
        put_field(eval, "endpoint", node->host);
        put_field(eval, "role", node->leads ? "master" : "replica");
        resp_put_text(eval->out, "replication-offset");
        resp_put_int(eval->out, (int64_t)applied);
        put_field(eval, "health", node->is_connected ? "online" : "failed");
    }
}

static void cluster_nodes(struct eval *eval, const struct topology *topology)
{
    struct buf text = {0};
    const uint64_t term = replica_term(eval->shard->replica);
    for (uint32_t i = 0; i < topology->count; i++) {
        const struct seen_node *node = &topology->nodes[i];
        buf_printf(&text, "%s %s:%u@%u %s%s %s 0 0 %" PRIu64 " %s%s\n", node->id, node->host,
                   node->port, node->port, node->is_self ? "myself," : "",
                   node->leads ? "master" : "slave", node->leads ? "-" : topology->nodes[0].id,
                   term, node->is_connected ? "connected" : "disconnected",
                   node->leads ? " 0-16383" : "");
    }
    resp_put_verbatim(eval->out, buf_slice(&text), eval->protocol);
    buf_close(&text);
}

static void cluster_info(struct eval *eval, const struct topology *topology)
{
    struct buf text = {0};
    const uint64_t term = replica_term(eval->shard->replica);
    const bool ok = core_leader_id(eval->core) != 0;
    buf_printf(&text,
               "cluster_enabled:1\r\ncluster_state:%s\r\ncluster_slots_assigned:16384\r\n"
               "cluster_slots_ok:%u\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n"
               "cluster_known_nodes:%u\r\ncluster_size:1\r\ncluster_current_epoch:%" PRIu64
               "\r\ncluster_my_epoch:%" PRIu64 "\r\n",
               ok ? "ok" : "fail", ok ? SLOT_COUNT : 0u, topology->count, term, term);
    resp_put_verbatim(eval->out, buf_slice(&text), eval->protocol);
    buf_close(&text);
}

static void cluster_id(struct eval *eval, const struct topology *topology, bool of_shard)
{
    for (uint32_t i = 0; i < topology->count; i++) {
        const struct seen_node *node = &topology->nodes[i];
        if (of_shard && i == 0) {
            char id[ID_SIZE];
            (void)snprintf(id, sizeof id, "%016" PRIx64 "%024x", eval->core->identity.cluster_id,
                           0u);
            resp_put_text(eval->out, id);
            return;
        }
        if (!of_shard && node->is_self) resp_put_text(eval->out, node->id);
    }
}

void cmd_cluster(struct eval *eval)
{
    const struct slice sub = eval->args[1];
    if (eval->session->face != CORE_FACE_CLUSTER) {
        eval_error(eval, "ERR This instance has cluster support disabled");
        return;
    }
    const struct topology topology = look(eval->core);
    if (slice_equal_fold(sub, "slots")) {
        cluster_slots(eval, &topology);
    } else if (slice_equal_fold(sub, "shards")) {
        cluster_shards(eval, &topology);
    } else if (slice_equal_fold(sub, "nodes")) {
        cluster_nodes(eval, &topology);
    } else if (slice_equal_fold(sub, "info")) {
        cluster_info(eval, &topology);
    } else if (slice_equal_fold(sub, "myid")) {
        cluster_id(eval, &topology, false);
    } else if (slice_equal_fold(sub, "myshardid")) {
        cluster_id(eval, &topology, true);
    } else if (slice_equal_fold(sub, "keyslot") && eval->count == 3) {
        resp_put_int(eval->out, slot_of_key(eval->args[2]));
    } else {
        char text[160];
        (void)snprintf(
            text, sizeof text,
            "ERR unknown subcommand '%.*s': members are managed with kvctl, not with CLUSTER",
            sub.size < 64 ? (int)sub.size : 64, (const char *)sub.data);
        eval_error(eval, text);
    }
}

/* READONLY, READWRITE, ASKING: every read is linearizable wherever it is asked, so there is nothing to switch. */
void cmd_readonly(struct eval *eval)
{
    eval_ok(eval);
}
