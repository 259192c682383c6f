/* kvctl's commands about the cluster. */
#include "client/ctl.h"

#include <inttypes.h>
#include <stdio.h>

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void put_size(struct ctl_table *table, size_t column, uint64_t bytes)
{
    char text[CTL_SIZE_TEXT];
    ctl_table_cell(table, column, CTL_PLAIN, "%s", ctl_size_text(bytes, text));
}

static void put_status_json(const struct kv_cluster *cluster)
{
    ctl_json_begin();
    ctl_json_text("cluster", cluster->cluster);
    ctl_json_text("leader", cluster->leader);
    ctl_json_list_begin("nodes");
    for (size_t i = 0; i < cluster->node_count; i++) {
        const struct kv_node *node = &cluster->nodes[i];
        ctl_json_begin();
        ctl_json_text("name", node->name);
        ctl_json_text("id", node->id);
        ctl_json_text("client", node->client);
        ctl_json_text("peer", node->peer);
        ctl_json_text("role", node->role);
        ctl_json_uint("term", node->term);
        ctl_json_uint("committed", node->committed);
        ctl_json_uint("applied", node->applied);
        ctl_json_uint("lag", node->lag);
        ctl_json_uint("keys", node->keys);
        ctl_json_uint("disk_bytes", node->disk_bytes);
        ctl_json_text("version", node->version);
        ctl_json_text("health", node->health);
        ctl_json_end();
    }
    ctl_json_list_end();
    ctl_json_end();
    (void)fputc('\n', stdout);
}

static void put_status_row(struct ctl_table *table, const struct kv_node *node)
{
    enum ctl_colour role = CTL_PLAIN;
    const bool down = is(node->role, "down");
    if (is(node->role, "leader")) role = CTL_GREEN;
    if (down) role = CTL_RED;
    ctl_table_row(table);
    ctl_table_cell(table, 0, CTL_PLAIN, "%s", node->name);
    ctl_table_cell(table, 1, role, "%s", node->role);
    ctl_table_cell(table, 2, CTL_PLAIN, "%s", node->client);
    ctl_table_cell(table, 10,
                   is(node->health, "ok") ? CTL_GREEN
                   : down                 ? CTL_RED
                                          : CTL_YELLOW,
                   "%s", node->health);
    if (down) return;
    ctl_table_cell(table, 3, CTL_PLAIN, "%" PRIu64, node->term);
    ctl_table_cell(table, 4, CTL_PLAIN, "%" PRIu64, node->committed);
    ctl_table_cell(table, 5, CTL_PLAIN, "%" PRIu64, node->applied);
    ctl_table_cell(table, 6, CTL_PLAIN, "%" PRIu64, node->lag);
    ctl_table_cell(table, 7, CTL_PLAIN, "%" PRIu64, node->keys);
    put_size(table, 8, node->disk_bytes);
    ctl_table_cell(table, 9, CTL_PLAIN, "%s", node->version);
}

static void put_status_text(const struct ctl *ctl, const struct kv_cluster *cluster)
{
    static const char *const names[] = {"NAME", "ROLE", "CLIENT", "TERM",    "COMMITTED", "APPLIED",
                                        "LAG",  "KEYS", "DISK",   "VERSION", "HEALTH"};
    static struct ctl_table table;
    ctl_table_head(&table, names, sizeof names / sizeof names[0]);
    table.right = 0x1f8; /* the numbers */
    for (size_t i = 0; i < cluster->node_count; i++) put_status_row(&table, &cluster->nodes[i]);
    (void)printf("cluster %s, leader %s\n", cluster->cluster,
                 cluster->leader[0] != 0 ? cluster->leader : "none");
    ctl_table_print(&table, ctl->colour);
}

enum ctl_exit ctl_status(struct ctl *ctl, const struct ctl_args *args)
{
    struct kv_cluster cluster;
    (void)args;
    const enum kv_err err = kv_status(ctl->kv, &cluster);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        put_status_json(&cluster);
    } else {
        put_status_text(ctl, &cluster);
    }
    return cluster.leader[0] != 0 ? CTL_DONE : CTL_NO_ANSWER;
}

static enum ctl_exit no_leader(const struct ctl *ctl)
{
    return ctl_complain(ctl, CTL_NO_ANSWER, "no_leader", "there is no leader");
}

enum ctl_exit ctl_leader(struct ctl *ctl, const struct ctl_args *args)
{
    const char *name = NULL;
    const char *client = NULL;
    if (args->count > 0 && !is(args->words[0].data, "0")) {
        return ctl_complain(ctl, CTL_REFUSED, "not_found", "there is only shard 0");
    }
    const enum kv_err err = kv_leader(ctl->kv, &name, &client);
    if (err == KV_ERR_NOT_FOUND) return no_leader(ctl);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_text("leader", name);
        ctl_json_text("client", client);
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        (void)printf("%s %s\n", name, client);
    }
    return CTL_DONE;
}

enum ctl_exit ctl_leader_transfer(struct ctl *ctl, const struct ctl_args *args)
{
    const char *name = args->words[0].data;
    const enum kv_err err = kv_leader_transfer(ctl->kv, name);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_true("ok");
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        (void)printf("the leadership goes to %s\n", name);
    }
    return CTL_DONE;
}

static void put_members_json(const struct kv_cluster *cluster)
{
    ctl_json_begin();
    ctl_json_list_begin("members");
    for (size_t i = 0; i < cluster->node_count; i++) {
        const struct kv_node *node = &cluster->nodes[i];
        ctl_json_begin();
        ctl_json_text("name", node->name);
        ctl_json_text("id", node->id);
        ctl_json_text("peer", node->peer);
        ctl_json_text("client", node->client);
        ctl_json_text("role", node->role);
        ctl_json_end();
    }
    ctl_json_list_end();
    ctl_json_end();
    (void)fputc('\n', stdout);
}

enum ctl_exit ctl_member_list(struct ctl *ctl, const struct ctl_args *args)
{
    static const char *const names[] = {"NAME", "ID", "ROLE", "CLIENT", "PEER"};
    static struct ctl_table table;
    struct kv_cluster cluster;
    (void)args;
    const enum kv_err err = kv_members(ctl->kv, &cluster);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        put_members_json(&cluster);
        return CTL_DONE;
    }
    ctl_table_head(&table, names, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < cluster.node_count; i++) {
        const struct kv_node *node = &cluster.nodes[i];
        const bool leads = cluster.leader[0] != 0 && is(cluster.leader, node->name);
        ctl_table_row(&table);
        ctl_table_cell(&table, 0, leads ? CTL_GREEN : CTL_PLAIN, "%s", node->name);
        ctl_table_cell(&table, 1, CTL_PLAIN, "%s", node->id);
        ctl_table_cell(&table, 2, CTL_PLAIN, "%s", node->role);
        ctl_table_cell(&table, 3, CTL_PLAIN, "%s", node->client);
        ctl_table_cell(&table, 4, CTL_PLAIN, "%s", node->peer);
    }
    ctl_table_print(&table, ctl->colour);
    return CTL_DONE;
}
