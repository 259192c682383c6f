/* What the cluster says about itself. Each node is asked over a connection of its own, because a node answers
 * KV.STATUS about itself. */
#include "client/kv_internal.h"

#include <stdio.h>

#define NAME_SIZE 64u
#define SETTLE_MS 150 /* more than a heartbeat, by default */
#define ASK_MIN_MS 50 /* each node gets at least so long, if the deadline has it */

struct node_texts {
    char name[NAME_SIZE];
    char id[20];
    char peer[KV_ADDRESS_SIZE];
    char client[KV_ADDRESS_SIZE];
    char role[16];
    char version[40];
    char health[512];
};

struct kv_overview {
    struct kv_node nodes[KV_NODES_MAX];
    struct node_texts texts[KV_NODES_MAX];
    char cluster[NAME_SIZE];
    char leader[NAME_SIZE];
    char leader_address[KV_ADDRESS_SIZE];
    size_t count;
};

static struct kv_overview *overview_of(struct kv *kv)
{
    if (kv->overview == NULL) {
        kv->overview = kv->allocator.resize(kv->allocator.context, NULL, sizeof *kv->overview);
    }
    if (kv->overview == NULL) {
        (void)kv_say(kv, KV_ERR_NOMEM, "no memory for the status");
        return NULL;
    }
    memset(kv->overview, 0, sizeof *kv->overview);
    return kv->overview;
}

/* Longer texts than we have room for are cut: they are for people. */
static void copy_text(char *out, size_t room, const struct kv_reply *reply)
{
    size_t size = 0;
    if (reply->type == KV_STRING) size = reply->size < room ? reply->size : room - 1;
    if (size > 0) memcpy(out, reply->data, size);
    out[size] = 0;
}

static void point(struct kv_overview *overview, size_t at)
{
    const struct node_texts *texts = &overview->texts[at];
    struct kv_node *node = &overview->nodes[at];
    node->name = texts->name;
    node->id = texts->id;
    node->peer = texts->peer;
    node->client = texts->client;
    node->role = texts->role;
    node->version = texts->version;
    node->health = texts->health;
}

static enum kv_err ask_members(struct kv *kv, struct kv_overview *overview)
{
    const struct kv_bytes args[] = {KV_TEXT("KV.MEMBERS")};
    const struct kv_reply *reply = NULL;
    const enum kv_err err = kv_call(kv, true, args, 1, &reply);
    if (err != KV_OK) return err;
    if (reply->type != KV_ARRAY) return kv_strange(kv, true);
    for (size_t i = 0; i < reply->count && overview->count < KV_NODES_MAX; i++) {
        const struct kv_reply *member = &reply->items[i];
        if (member->type != KV_ARRAY || member->count < 5) return kv_strange(kv, true);
        struct node_texts *texts = &overview->texts[overview->count];
        copy_text(texts->name, sizeof texts->name, &member->items[0]);
        copy_text(texts->id, sizeof texts->id, &member->items[1]);
        copy_text(texts->peer, sizeof texts->peer, &member->items[2]);
        copy_text(texts->client, sizeof texts->client, &member->items[3]);
        copy_text(texts->role, sizeof texts->role, &member->items[4]);
        point(overview, overview->count++);
    }
    return KV_OK;
}

/* The value of @field in KV.STATUS' reply, a map or the same as a flat array; a nil when it is missing. */
static const struct kv_reply *field_of(const struct kv_reply *reply, const char *field)
{
    static const struct kv_reply nil = {.type = KV_NIL};
    for (size_t i = 0; i + 1 < reply->count; i += 2) {
        const struct kv_reply *name = &reply->items[i];
        if (name->type == KV_STRING && strcmp(name->data, field) == 0) return name + 1;
    }
    return &nil;
}

static uint64_t number_of(const struct kv_reply *reply, const char *field)
{
    uint64_t value = 0;
    return kv_reply_uint(field_of(reply, field), &value) ? value : 0;
}

static void read_status(struct kv_overview *overview, size_t at, const struct kv_reply *reply)
{
    struct kv_node *node = &overview->nodes[at];
    struct node_texts *texts = &overview->texts[at];
    copy_text(texts->role, sizeof texts->role, field_of(reply, "role"));
    copy_text(texts->version, sizeof texts->version, field_of(reply, "version"));
    copy_text(texts->health, sizeof texts->health, field_of(reply, "health"));
    if (texts->name[0] == 0) copy_text(texts->name, sizeof texts->name, field_of(reply, "name"));
    if (texts->peer[0] == 0) copy_text(texts->peer, sizeof texts->peer, field_of(reply, "peer"));
    node->term = number_of(reply, "term");
    node->committed = number_of(reply, "committed");
    node->applied = number_of(reply, "applied");
    node->keys = number_of(reply, "keys");
    node->disk_bytes = number_of(reply, "disk_bytes");
    copy_text(overview->cluster, sizeof overview->cluster, field_of(reply, "cluster"));
}

static void set_down(struct kv_overview *overview, size_t at, const char *why)
{
    struct node_texts *texts = &overview->texts[at];
    (void)snprintf(texts->role, sizeof texts->role, "down");
    (void)snprintf(texts->health, sizeof texts->health, "%s", why);
}

/* Asks the node @at over a connection of its own. */
static enum kv_err ask_node(struct kv *kv, struct kv_overview *overview, size_t at,
                            int64_t deadline_ms)
{
    const struct kv_bytes args[] = {KV_TEXT("KV.STATUS")};
    char why[KV_MESSAGE_SIZE] = "no client address is known";
    struct kv_link link = {.fd = -1};
    struct slice text = {0};
    enum kv_link_status status = KV_LINK_NOBODY;
    const char *address = overview->texts[at].client;
    if (address[0] != 0) status = kv_link_open(&link, address, deadline_ms, why);
    if (status == KV_LINK_OK) status = kv_greet(kv, &link, deadline_ms, why);
    kv_batch_clear(&kv->probe);
    if (status == KV_LINK_OK &&
        (kv_batch_add(&kv->probe, true, args, 1) != KV_OK || !kv_batch_prepare(&kv->probe))) {
        status = KV_LINK_NOMEM;
    }
    if (status == KV_LINK_OK) {
        status = kv_batch_run(&kv->probe, &link, 0, 1, kv->reply_size_max, deadline_ms);
        if (status != KV_LINK_OK) (void)snprintf(why, sizeof why, "no answer");
    }
    kv_link_close(&link);
    if (status == KV_LINK_NOMEM) return kv_say(kv, KV_ERR_NOMEM, "no memory for the status");
    if (status != KV_LINK_OK) {
        set_down(overview, at, why);
        return KV_OK;
    }
    if (kv_batch_error(&kv->probe, 0, &text)) {
        (void)snprintf(why, sizeof why, "%.*s", (int)(text.size < 100 ? text.size : 100),
                       (const char *)text.data);
        set_down(overview, at, why);
        return KV_OK;
    }
    const struct kv_reply *reply = kv_batch_reply(&kv->probe, 0);
    if (reply == NULL) return kv_say(kv, KV_ERR_NOMEM, "no memory for the status");
    if (reply->type != KV_MAP && reply->type != KV_ARRAY) return kv_strange(kv, true);
    read_status(overview, at, reply);
    return KV_OK;
}

/* Two nodes may both take themselves for the leader for a moment: the one with the higher term is. */
static void find_leader(struct kv_overview *overview)
{
    const struct kv_node *leader = NULL;
    uint64_t committed = 0;
    for (size_t i = 0; i < overview->count; i++) {
        const struct kv_node *node = &overview->nodes[i];
        if (node->committed > committed) committed = node->committed;
        if (strcmp(node->role, "leader") != 0) continue;
        if (leader == NULL || node->term > leader->term) leader = node;
    }
    if (leader != NULL) {
        committed = leader->committed;
        (void)snprintf(overview->leader, sizeof overview->leader, "%s", leader->name);
    }
    for (size_t i = 0; i < overview->count; i++) {
        struct kv_node *node = &overview->nodes[i];
        if (strcmp(node->role, "down") == 0) continue;
        node->lag = committed > node->applied ? committed - node->applied : 0;
    }
}

static bool is_behind(const struct kv_node *node)
{
    return node->lag > 0 && strcmp(node->role, "down") != 0;
}

/* Followers hear what is committed with the next heartbeat, and were asked at other moments than the leader. So those
 * that seem to lag are asked once more, a little later, about what the leader had committed. */
static enum kv_err look_again(struct kv *kv, struct kv_overview *overview, int64_t deadline_ms)
{
    const struct kv_link nowhere = {.fd = -1};
    enum kv_err err = KV_OK;
    bool any = false;
    for (size_t i = 0; i < overview->count; i++) any = any || is_behind(&overview->nodes[i]);
    if (!any || deadline_ms - kv_now_ms() < 2 * SETTLE_MS) return KV_OK;
    (void)kv_link_wait(&nowhere, 0, kv_now_ms() + SETTLE_MS);
    for (size_t i = 0; err == KV_OK && i < overview->count; i++) {
        struct kv_node *node = &overview->nodes[i];
        const uint64_t goal = node->applied + node->lag;
        if (!is_behind(node)) continue;
        const int64_t now = kv_now_ms();
        const int64_t limit = now + kv->connect_timeout_ms;
        err = ask_node(kv, overview, i, limit < deadline_ms ? limit : deadline_ms);
        const bool is_down = strcmp(node->role, "down") == 0;
        node->lag = !is_down && goal > node->applied ? goal - node->applied : 0;
    }
    return err;
}

static void give(const struct kv_overview *overview, struct kv_cluster *cluster)
{
    *cluster = (struct kv_cluster){.cluster = overview->cluster,
                                   .leader = overview->leader,
                                   .nodes = overview->nodes,
                                   .node_count = overview->count};
}

enum kv_err kv_status(struct kv *kv, struct kv_cluster *cluster)
{
    *cluster = (struct kv_cluster){.cluster = "", .leader = ""};
    struct kv_overview *overview = overview_of(kv);
    if (overview == NULL) return KV_ERR_NOMEM;
    const int64_t deadline_ms = kv_now_ms() + kv->timeout_ms;
    enum kv_err err = ask_members(kv, overview);
    for (size_t i = 0; err == KV_OK && i < overview->count; i++) {
        /* One silent node must not take the time of those behind it. */
        const int64_t now = kv_now_ms();
        int64_t share = (deadline_ms - now) / (int64_t)(overview->count - i);
        if (share > kv->connect_timeout_ms) share = kv->connect_timeout_ms;
        if (share < ASK_MIN_MS) share = ASK_MIN_MS;
        err = ask_node(kv, overview, i, now + share);
    }
    if (err != KV_OK) return err;
    find_leader(overview);
    err = look_again(kv, overview, deadline_ms);
    if (err != KV_OK) return err;
    give(overview, cluster);
    return KV_OK;
}

static enum kv_err ask_leader(struct kv *kv, struct kv_overview *overview)
{
    const struct kv_bytes args[] = {KV_TEXT("KV.LEADER")};
    const struct kv_reply *reply = NULL;
    const enum kv_err err = kv_call(kv, true, args, 1, &reply);
    if (err != KV_OK) return err;
    if (reply->type == KV_NIL) return kv_say(kv, KV_ERR_NOT_FOUND, "there is no leader");
    if (reply->type != KV_ARRAY || reply->count < 2) return kv_strange(kv, true);
    copy_text(overview->leader, sizeof overview->leader, &reply->items[0]);
    copy_text(overview->leader_address, sizeof overview->leader_address, &reply->items[1]);
    return KV_OK;
}

enum kv_err kv_members(struct kv *kv, struct kv_cluster *cluster)
{
    *cluster = (struct kv_cluster){.cluster = "", .leader = ""};
    struct kv_overview *overview = overview_of(kv);
    if (overview == NULL) return KV_ERR_NOMEM;
    enum kv_err err = ask_members(kv, overview);
    if (err == KV_OK) err = ask_leader(kv, overview);
    if (err != KV_OK && err != KV_ERR_NOT_FOUND) return err;
    give(overview, cluster);
    return KV_OK;
}

enum kv_err kv_leader(struct kv *kv, const char **name, const char **client)
{
    *name = "";
    *client = "";
    struct kv_overview *overview = overview_of(kv);
    if (overview == NULL) return KV_ERR_NOMEM;
    const enum kv_err err = ask_leader(kv, overview);
    if (err != KV_OK) return err;
    *name = overview->leader;
    *client = overview->leader_address;
    return KV_OK;
}

enum kv_err kv_leader_transfer(struct kv *kv, const char *name)
{
    const struct kv_bytes args[] = {KV_TEXT("KV.TRANSFER"), kv_text(name)};
    const enum kv_err err = kv_call(kv, false, args, 2, NULL);
    kv->leader_check_ms = 0; /* It moved, or is about to. */
    return err;
}
