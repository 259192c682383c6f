/* cmd_cluster.c - the topology as Redis Cluster clients want it: one shard that owns every slot, the leader its
 * master. Only on the listener cluster-client; shapes are those of Redis 7. */
#include <inttypes.h>
#include <stdio.h>

#include "client/slot.h"
#include "node/cmd_face.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/subcommand.h"
#include "storage/base/check.h"

struct seen_node {
    const struct peer_identity *identity;
    bool leads;
    bool is_self;
    bool is_connected;
    char host[ADDRESS_SIZE_MAX + 1];
    uint16_t port;
    char id[CORE_NODE_ID_SIZE];
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
    core_node_id(core, id, node->id);
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

static void describe_node(struct eval *eval, const struct topology *topology, uint32_t at,
                          struct buf *text)
{
    const struct seen_node *node = &topology->nodes[at];
    buf_printf(text, "%s %s:%u@%u %s%s %s 0 0 %" PRIu64 " %s%s", node->id, node->host, node->port,
               node->port, node->is_self ? "myself," : "", node->leads ? "master" : "slave",
               node->leads ? "-" : topology->nodes[0].id, replica_term(eval->shard->replica),
               node->is_connected ? "connected" : "disconnected", node->leads ? " 0-16383" : "");
}

static void cluster_nodes(struct eval *eval, const struct topology *topology)
{
    struct buf text = {0};
    for (uint32_t i = 0; i < topology->count; i++) {
        describe_node(eval, topology, i, &text);
        buf_text(&text, "\n");
    }
    resp_put_verbatim(eval->out, buf_slice(&text), eval->protocol);
    buf_close(&text);
}

static void cluster_replicas(struct eval *eval, const struct topology *topology)
{
    const struct slice id = eval->args[2];
    uint32_t found = topology->count;
    for (uint32_t i = 0; i < topology->count; i++) {
        if (slice_equal(id, slice_text(topology->nodes[i].id))) found = i;
    }
    if (found == topology->count) {
        char text[96];
        (void)snprintf(text, sizeof text, "ERR Unknown node %.*s", id.size < 40 ? (int)id.size : 40,
                       (const char *)id.data);
        eval_error(eval, text);
        return;
    }
    if (!topology->nodes[found].leads) {
        eval_error(eval, "ERR The specified node is not a master");
        return;
    }
    resp_put_array(eval->out, topology->count - 1);
    for (uint32_t i = 0; i < topology->count; i++) {
        struct buf text = {0};
        if (i == found) continue;
        describe_node(eval, topology, i, &text);
        resp_put_bulk(eval->out, buf_slice(&text));
        buf_close(&text);
    }
}

static void cluster_info(struct eval *eval, const struct topology *topology)
{
    struct buf text = {0};
    const uint64_t term = replica_term(eval->shard->replica);
    const bool ok = core_has_leader(eval->core);
    buf_printf(&text,
               "cluster_enabled:1\r\ncluster_state:%s\r\ncluster_slots_assigned:16384\r\n"
               "cluster_slots_ok:%u\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n"
               "cluster_known_nodes:%u\r\ncluster_size:1\r\ncluster_current_epoch:%" PRIu64
               "\r\ncluster_my_epoch:%" PRIu64 "\r\n",
               ok ? "ok" : "fail", ok ? SLOT_COUNT : 0u, topology->count, term, term);
    resp_put_verbatim(eval->out, buf_slice(&text), eval->protocol);
    buf_close(&text);
}

static void cluster_keyslot(struct eval *eval, const struct topology *topology)
{
    (void)topology;
    resp_put_int(eval->out, slot_of_key(eval->args[2]));
}

static void cluster_myid(struct eval *eval, const struct topology *topology)
{
    char id[CORE_NODE_ID_SIZE];
    (void)topology;
    core_node_id(eval->core, eval->core->identity.node_id, id);
    resp_put_text(eval->out, id);
}

static void cluster_myshardid(struct eval *eval, const struct topology *topology)
{
    char id[CORE_NODE_ID_SIZE];
    (void)topology;
    (void)snprintf(id, sizeof id, "%016" PRIx64 "%024x", eval->core->identity.cluster_id, 0u);
    resp_put_text(eval->out, id);
}

static void cluster_links(struct eval *eval, const struct topology *topology)
{
    (void)topology;
    resp_put_array(eval->out, 0); /* Nodes talk over connections of another kind: KV.MEMBERS. */
}

static void cluster_no_failures(struct eval *eval, const struct topology *topology)
{
    (void)topology;
    resp_put_int(eval->out, 0);
}

/* Carried out by stream.c, but for who cannot wait: a transaction. */
static void cluster_walk(struct eval *eval, const struct topology *topology)
{
    (void)topology;
    eval_error(eval, "ERR commands that look at all keys of a slot are not for transactions");
}

static void cluster_refused(struct eval *eval)
{
    char text[160];
    (void)snprintf(text, sizeof text,
                   "ERR CLUSTER %.*s is not supported: use kvctl member and kvctl leader",
                   (int)eval->args[1].size, (const char *)eval->args[1].data);
    eval_error(eval, text);
}

static const struct {
    const char *name;
    void (*function)(struct eval *eval, const struct topology *topology);
} subcommands[] = {
    {"count-failure-reports", cluster_no_failures},
    {"countkeysinslot", cluster_walk},
    {"getkeysinslot", cluster_walk},
    {"info", cluster_info},
    {"keyslot", cluster_keyslot},
    {"links", cluster_links},
    {"myid", cluster_myid},
    {"myshardid", cluster_myshardid},
    {"nodes", cluster_nodes},
    {"replicas", cluster_replicas},
    {"shards", cluster_shards},
    {"slaves", cluster_replicas},
    {"slots", cluster_slots},
};

bool cmd_cluster_walks(const struct session *session, const struct command *command,
                       const struct slice *args, uint32_t count)
{
    if (command->function != cmd_cluster || count < 3) return false;
    if (session->face != CORE_FACE_CLUSTER || session_is_proxy(session)) return false;
    return (count == 3 && slice_equal_fold(args[1], "countkeysinslot")) ||
           (count == 4 && slice_equal_fold(args[1], "getkeysinslot"));
}

void cmd_cluster(struct eval *eval)
{
    const struct slice sub = eval->args[1];
    uint32_t at = 0;
    if (eval->session->face != CORE_FACE_CLUSTER) {
        eval_error(eval, "ERR This instance has cluster support disabled");
        return;
    }
    if ((subcommand_find(eval->command, sub)->flags & SUBCOMMAND_REFUSED) != 0) {
        cluster_refused(eval);
        return;
    }
    if (slice_equal_fold(sub, "help")) {
        subcommand_help(eval);
        return;
    }
    const struct topology topology = look(eval->core);
    while (!slice_equal_fold(sub, subcommands[at].name)) {
        at++;
        CHECK(at < sizeof subcommands / sizeof subcommands[0]);
    }
    subcommands[at].function(eval, &topology);
}

/* Without READONLY a node that does not lead sends cluster clients to the leader, reads too. */
void cmd_readonly(struct eval *eval)
{
    eval->session->is_readonly = true;
    eval_ok(eval);
}

void cmd_readwrite(struct eval *eval)
{
    eval->session->is_readonly = false;
    eval_ok(eval);
}

/* Slots do not move here. */
void cmd_asking(struct eval *eval)
{
    eval_ok(eval);
}
