/* The nodes that a client knows, and what it says to one that it meets. */
#include "client/kv_internal.h"

#include <stdio.h>

#ifndef KV_VERSION
#define KV_VERSION "0.1.0"
#endif

static bool is_at(const struct kv_nodes *nodes, uint32_t at, const char *address, size_t size)
{
    return strlen(nodes->list[at]) == size && memcmp(nodes->list[at], address, size) == 0;
}

void kv_nodes_add(struct kv_nodes *nodes, const char *address, size_t size)
{
    if (size == 0 || size >= KV_ADDRESS_SIZE || nodes->count == KV_NODES_MAX) return;
    for (uint32_t i = 0; i < nodes->count; i++) {
        if (is_at(nodes, i, address, size)) return;
    }
    char *slot = nodes->list[nodes->count++];
    memcpy(slot, address, size);
    slot[size] = 0;
}

void kv_nodes_prefer(struct kv_nodes *nodes, const char *address, size_t size)
{
    kv_nodes_add(nodes, address, size);
    for (uint32_t i = 0; i < nodes->count; i++) {
        if (is_at(nodes, i, address, size)) nodes->next = i;
    }
}

enum kv_err kv_nodes_parse(struct kv_nodes *nodes, const char *list, char *message)
{
    char host[KV_ADDRESS_SIZE];
    char port[8];
    const char *at = list != NULL ? list : "";
    while (*at != 0) {
        const size_t size = strcspn(at, ", ");
        const uint32_t before = nodes->count;
        if (size >= KV_ADDRESS_SIZE) {
            (void)snprintf(message, KV_MESSAGE_SIZE, "a node's address is too long");
            return KV_ERR_INVALID;
        }
        kv_nodes_add(nodes, at, size);
        if (nodes->count > before && !kv_address_parse(nodes->list[before], host, port)) {
            (void)snprintf(message, KV_MESSAGE_SIZE, "%s is not host:port", nodes->list[before]);
            return KV_ERR_INVALID;
        }
        at += size;
        at += strspn(at, ", ");
    }
    if (nodes->count > 0) return KV_OK;
    (void)snprintf(message, KV_MESSAGE_SIZE, "no node is given");
    return KV_ERR_INVALID;
}

void kv_nodes_members(struct kv_nodes *nodes, const struct kv_reply *reply)
{
    if (reply == NULL || reply->type != KV_ARRAY) return;
    for (size_t i = 0; i < reply->count; i++) {
        const struct kv_reply *member = &reply->items[i];
        if (member->type != KV_ARRAY || member->count < 4) continue;
        const struct kv_reply *client = &member->items[3];
        if (client->type == KV_STRING) kv_nodes_add(nodes, client->data, client->size);
    }
}

bool kv_leader_address(const struct kv_reply *reply, char *address)
{
    address[0] = 0;
    if (reply == NULL || reply->type == KV_NIL) return true;
    if (reply->type != KV_ARRAY || reply->count < 2) return false;
    const struct kv_reply *client = &reply->items[1];
    if (client->type == KV_STRING && client->size < KV_ADDRESS_SIZE) {
        memcpy(address, client->data, client->size + 1);
    }
    return true;
}

static bool add_words(struct kv_batch *batch, const char *const *words, size_t count)
{
    struct kv_bytes args[4];
    for (size_t i = 0; i < count; i++) args[i] = kv_text(words[i]);
    return kv_batch_add(batch, true, args, count) == KV_OK;
}

bool kv_greeting_add(struct kv_batch *batch)
{
    static const char *const hello[] = {"HELLO", "3"};
    static const char *const name[] = {"CLIENT", "SETINFO", "LIB-NAME", "kvclient"};
    static const char *const version[] = {"CLIENT", "SETINFO", "LIB-VER", KV_VERSION};
    return add_words(batch, hello, 2) && add_words(batch, name, 4) && add_words(batch, version, 4);
}

bool kv_questions_add(struct kv_batch *batch)
{
    static const char *const leader[] = {"KV.LEADER"};
    static const char *const members[] = {"KV.MEMBERS"};
    return add_words(batch, leader, 1) && add_words(batch, members, 1);
}
