/* core_peer.c - connections between nodes: handshakes, frames to their owners. */
#include <inttypes.h>
#include <stdio.h>

#include "node/core_parts.h"
#include "node/router.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/store_disk.h"

#define LINKS_MAX (4u * PEERS_MAX)
#define SAY_AGAIN_MS 60000u
#define UNSAVED "who it is cannot be noted on the disk, so it has to come again: "
#define ADVICE_REFUSED                                                                             \
    "; this node neither votes nor leads: stop it and put back the directory that it used last "   \
    "(docs/operations.md, \"When a node is gone\")"

uint32_t core_peer_count(const struct core *core)
{
    return core->peers.count;
}

void core_peer_get(const struct core *core, uint32_t at, uint64_t *node_id, const char **address)
{
    CHECK(at < core->peers.count);
    *node_id = core->peers.list[at].identity.node_id;
    *address = core->peers.list[at].identity.peer_address;
}

/* ---- who is who ----------------------------------------------------------------------------------------- */

/* A number that changes when what we know of the others' directories does. */
static uint64_t known_of(const struct core *core)
{
    uint64_t known = 0;
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const struct peer_identity *identity = &core->peers.list[i].identity;
        known = known * 31 + identity->directory_id + 7 * identity->incarnation;
        known = known * 31 + identity->start_id;
    }
    return known;
}

/* What the others say of themselves is remembered on the disk, before they get an answer, so that a directory which
 * was wiped, restored or cloned is refused after our own restart too. */
static enum err remember(struct core *core, uint64_t before)
{
    if (known_of(core) != before) core->peers_unsaved = true;
    if (!core->peers_unsaved) return OK;
    enum err err = identity_save_peers(core->disk, &core->peers);
    const bool has_store = core->shard.store != NULL;
    if (err == ERR_NOSPACE && has_store && store_spend_reserve(core->shard.store)) {
        err = identity_save_peers(core->disk, &core->peers);
    }
    if (err == ERR_IO || err == ERR_READ_ONLY) {
        fatal(EXIT_DISK, "file peers: %s", err_name(err));
    }
    core->peers_unsaved = err != OK;
    return err;
}

/* A peer knows this start: the next one will be another. On the disk before anything is promised that a copy of the
 * directory, made before, would not know of. */
static enum err note_accepted(struct core *core)
{
    if (core->identity.is_accepted) return OK;
    core->identity.is_accepted = true;
    const enum err err = core_save_identity(core);
    if (err == ERR_IO || err == ERR_READ_ONLY) {
        fatal(EXIT_DISK, "file identity: %s", err_name(err));
    }
    core->identity.is_accepted = err == OK;
    return err;
}

void core_announce_start(struct core *core)
{
    struct peers *peers = &core->peers;
    const struct identity *identity = &core->identity;
    peers->self.incarnation = identity->incarnation;
    peers->self.start_id = identity->start_id;
    peers->self_past_count = identity->past_count;
    memcpy(peers->self_past, identity->past, sizeof peers->self_past);
}

/* Brings what a HELLO or WELCOME says of our promises up to date. */
static void announce_promise(struct core *core)
{
    struct store *store = core->shard.store;
    struct peer_promise *promise = &core->peers.self_promise;
    *promise = (struct peer_promise){0};
    if (store == NULL) return;
    promise->term = store_term(store);
    promise->vote = store_voted_for(store);
    promise->last_index = store_last_index(store);
}

/* What is refused is tried again every second; the log has a line when the reason is a new one, then one a minute. */
static bool may_say(const struct core *core, struct core_said *said, const char *text)
{
    const uint64_t hash = hash64(text, strlen(text)) | 1;
    if (said->text == hash && core->now_ms - said->ms < SAY_AGAIN_MS) return false;
    *said = (struct core_said){.text = hash, .ms = core->now_ms};
    return true;
}

static struct core_said *said_of(struct core *core, struct core_said *list, uint64_t node_id)
{
    const struct peer *peer = peers_find(&core->peers, node_id);
    return peer != NULL ? &list[peer - core->peers.list] : &core->stranger_said;
}

uint32_t core_describe_refusal(const struct core *core, char *text, uint64_t size)
{
    uint32_t count = 0;
    const char *why = "";
    struct buf names = {0};
    text[0] = 0;
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const struct peer *peer = &core->peers.list[i];
        if (peer->refusal[0] == 0) continue;
        buf_printf(&names, "%s%s", count > 0 ? ", " : "", peer->identity.name);
        const char *reason = strstr(peer->refusal, "): ");
        why = reason != NULL ? reason + 3 : peer->refusal;
        count++;
    }
    if (count > 0) {
        (void)snprintf(text, size, "refused by %.*s: %s", (int)names.size, (const char *)names.data,
                       why);
    } else if (core->peers.self_refused) {
        (void)snprintf(text, size,
                       "refused before: its data directory is an older copy, so it elects nobody");
    }
    buf_close(&names);
    /* Another node's words end in JSON and HTML. */
    for (char *at = text; *at != 0; at++) {
        if (strchr("\"\\<>&", *at) != NULL) *at = '\'';
    }
    return count;
}

/* ---- outgoing ------------------------------------------------------------------------------------------- */

void core_peer_up(struct core *core, uint64_t node_id)
{
    struct peer *peer = peers_find(&core->peers, node_id);
    announce_promise(core);
    if (peer != NULL) peer_up(&core->peers, peer);
}

void core_peer_down(struct core *core, uint64_t node_id)
{
    struct peer *peer = peers_find(&core->peers, node_id);
    if (peer == NULL) return;
    if (peer->is_connected) {
        core_log(core, CONFIG_INFO, "connection to %s lost", peer->identity.name);
    }
    peer_down(peer);
    router_lost(core, node_id);
    readindex_lost(core, node_id);
}

enum err core_renew(struct core *core)
{
    identity_renew(&core->identity, hash64_seeded("renew", 5, core->seed));
    const enum err err = core_save_identity(core);
    if (err != OK) return err;
    core_announce_start(core);
    core_greet_again(core);
    return OK;
}

void core_greet_again(struct core *core)
{
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const uint64_t node_id = core->peers.list[i].identity.node_id;
        core_peer_down(core, node_id);
        core->net->peer_close(core->net->context, node_id);
    }
}

/* That this directory is an older copy stays true when those who remember are gone. */
static void note_outdated(struct core *core)
{
    if (!core->peers.self_refused || core->identity.is_outdated) return;
    core->identity.is_outdated = true;
    const enum err err = core_save_identity(core);
    if (err == ERR_IO || err == ERR_READ_ONLY) {
        fatal(EXIT_DISK, "file identity: %s", err_name(err));
    }
    core->identity.is_outdated = err == OK;
}

static void give_up_peer(struct core *core, struct peer *peer, const char *why)
{
    const uint64_t node_id = peer->identity.node_id;
    note_outdated(core);
    if (may_say(core, said_of(core, core->dial_said, node_id), why)) {
        core_log(core, CONFIG_WARN, "%s (%s): %s%s", peer->identity.name,
                 peer->identity.peer_address, why, peer->refuses ? ADVICE_REFUSED : "");
    }
    core_peer_down(core, node_id);
    core->net->peer_close(core->net->context, node_id);
}

void core_peer_bytes(struct core *core, uint64_t node_id, const uint8_t *data, uint64_t size)
{
    char message[256] = "";
    struct peer *peer = peers_find(&core->peers, node_id);
    if (peer == NULL) return;
    const uint64_t before = known_of(core);
    const bool was_connected = peer->is_connected;
    enum err err = peer_feed(&core->peers, peer, slice_of(data, size), message);
    if (err == OK && peer->is_connected && !was_connected) {
        err = remember(core, before);
        if (err == OK) err = note_accepted(core);
        if (err != OK) (void)snprintf(message, sizeof message, UNSAVED "%s", err_name(err));
    }
    if (err != OK) {
        give_up_peer(core, peer, message[0] != 0 ? message : err_name(err));
        return;
    }
    if (peer->is_connected && !was_connected) {
        core->dial_said[peer - core->peers.list].text = 0;
        core_log(core, CONFIG_INFO, "connected to %s", peer->identity.name);
    }
}

void core_peer_writable(struct core *core, uint64_t node_id)
{
    (void)core;
    (void)node_id; /* The end of the turn offers the queue again. */
}

/* ---- incoming ------------------------------------------------------------------------------------------- */

static void close_link(struct core *core, struct core_link *link);

/* Strangers may not keep the members out: the oldest of them makes room. */
static void evict_stranger(struct core *core)
{
    for (struct list *at = core->links.next; at != &core->links; at = at->next) {
        struct core_link *link = LIST_ITEM(at, struct core_link, all);
        if (link->link.from != 0) continue;
        close_link(core, link);
        return;
    }
}

struct link *core_link_open(struct core *core, void *connection)
{
    if (core->link_count >= LINKS_MAX) {
        core->stats.links_refused++;
        evict_stranger(core);
        if (core->link_count >= LINKS_MAX) return NULL;
    }
    struct core_link *link = mem_zero(sizeof *link);
    link_init(&link->link);
    link->connection = connection;
    link->opened_ms = core->now_ms;
    list_append(&core->links, &link->all);
    core->link_count++;
    return &link->link;
}

static struct core_link *outer(struct link *link)
{
    return (struct core_link *)(void *)link;
}

void core_link_free(struct core *core, struct core_link *link)
{
    list_remove(&link->all);
    core->link_count--;
    link_close(&link->link);
    mem_free(link);
}

bool core_has_link(const struct core *core, uint64_t node_id)
{
    for (const struct list *at = core->links.next; at != &core->links; at = at->next) {
        if (LIST_ITEM(at, const struct core_link, all)->link.from == node_id) return true;
    }
    return false;
}

static void link_gone(struct core *core, struct core_link *link)
{
    const uint64_t from = link->link.from;
    core_link_free(core, link);
    if (from == 0) return;
    router_lost(core, from);
    readindex_lost(core, from);
    /* Another one is there only for as long as supersede() takes, which drops them itself. */
    if (!core_has_link(core, from)) router_drop_proxies(core, from);
}

void core_link_closed(struct core *core, struct link *link)
{
    link_gone(core, outer(link));
}

static void close_link(struct core *core, struct core_link *link)
{
    core->net->link_close(core->net->context, link->connection);
    link_gone(core, link);
}

/* A node has one connection to us. When it dials again the one before is dead, even if its end never reached us, and
 * what was lost with it, or while there was none, is not sent again: the answers that we wait for, and the requests
 * that its proxies would go on from. */
static void supersede(struct core *core, const struct core_link *link)
{
    const uint64_t from = link->link.from;
    for (struct list *at = core->links.next, *next; at != &core->links; at = next) {
        next = at->next;
        struct core_link *other = LIST_ITEM(at, struct core_link, all);
        if (other != link && other->link.from == from) close_link(core, other);
    }
    router_lost(core, from);
    readindex_lost(core, from);
    router_drop_proxies(core, from);
}

static void send_answer(struct core *core, struct core_link *link)
{
    struct buf *out = &link->link.out;
    if (out->size == 0) return;
    (void)core->net->link_send(core->net->context, link->connection, out->data, out->size);
    out->size =
        0; /* A handshake's answer fits any socket buffer; if not, the dialler dials again. */
}

static enum err take_frame(struct core *core, const struct wire_frame *frame)
{
    if (frame->type == WIRE_RECORDS_WANT || frame->type == WIRE_RECORDS_GIVE) {
        return regain_receive(&core->shard, frame, core->now_ms);
    }
    if (frame->type == WIRE_FRAGMENT && fragment_class(frame->part) == FRAGMENT_FILES) {
        regain_note_piece(&core->shard, frame->from, core->now_ms);
        mender_note_piece(&core->shard.mender, core->now_ms);
        return OK;
    }
    /* There is no state yet that anything else could be for. */
    if (regain_active(&core->shard.regain)) return OK;
    if (frame->type == WIRE_FRAGMENT) {
        const enum fragment_class class = fragment_class(frame->part);
        if (class == FRAGMENT_REPLY) core->forward_heard_ms = core->now_ms;
        if (class != FRAGMENT_RAFT) return OK;
        return replica_receive(core->shard.replica, frame, core->now_ms);
    }
    if (frame->type == WIRE_CHECK_ASK || frame->type == WIRE_CHECK_TELL) {
        return audit_receive(&core->shard, frame, core->now_ms);
    }
    if (frame->type == WIRE_VALUE_WANT || frame->type == WIRE_VALUE_GIVE) {
        return mender_receive(&core->shard, frame);
    }
    if (frame->type == WIRE_READ_ASK || frame->type == WIRE_READ_TELL) {
        return readindex_receive(core, frame);
    }
    if (frame->type == WIRE_PUBLISH) return pubsub_receive(core, frame);
    if (frame->type >= WIRE_FORWARD) return router_receive(core, frame);
    return replica_receive(core->shard.replica, frame, core->now_ms);
}

/* The first answer to a node that dialled us. What it said of itself is on the disk before that leaves. */
static enum err greet_link(struct core *core, struct core_link *link, uint64_t before)
{
    const enum err err = remember(core, before);
    if (err != OK) {
        link->link.out.size = 0;
        return err;
    }
    link->welcomed = core->identity.start_id;
    core->link_said[peers_find(&core->peers, link->link.from) - core->peers.list].text = 0;
    supersede(core, link);
    return OK;
}

/* @from: the node behind the link, 0: it was not let in, and says that it is @claimed. */
static void say_closed(struct core *core, uint64_t from, uint64_t claimed, const char *why)
{
    if (from == 0 && !may_say(core, said_of(core, core->link_said, claimed), why)) return;
    /* Strangers may come as often as they like, each with another reason; the log has a line a second for them. */
    if (from == 0 && peers_find(&core->peers, claimed) == NULL) {
        if (core->now_ms < core->stranger_log_ms + 1000) return;
        core->stranger_log_ms = core->now_ms;
    }
    core_log(core, CONFIG_WARN, "peer connection from %s closed: %s",
             from != 0 ? core_node_name(core, from) : "an unknown node", why);
}

void core_link_bytes(struct core *core, struct link *inner, const uint8_t *data, uint64_t size)
{
    char message[256] = "";
    struct wire_frame frame = {0};
    struct core_link *link = outer(inner);
    enum err err = OK;
    if (core->failed != 0) return;
    link_feed(inner, slice_of(data, size));
    for (;;) {
        const bool is_handshake = inner->from == 0;
        const uint64_t before = is_handshake ? known_of(core) : 0;
        if (is_handshake) announce_promise(core);
        err = link_next(&core->peers, inner, core->now_ms, &frame, message);
        if (is_handshake && inner->from != 0) {
            const enum err saved = greet_link(core, link, before);
            if (saved != OK) {
                err = saved;
                (void)snprintf(message, sizeof message, UNSAVED "%s", err_name(err));
            }
        }
        if (err != OK) break;
        /* It has our answer, or it would send nothing. */
        if (link->welcomed == core->identity.start_id) err = note_accepted(core);
        if (err != OK) break;
        err = take_frame(core, &frame);
        if (err != OK) {
            (void)snprintf(message, sizeof message, "frame of type %u: %s", frame.type,
                           err_name(err));
            break;
        }
    }
    send_answer(core, link);
    if (err == ERR_MORE) return;
    core->stats.links_refused++;
    say_closed(core, inner->from, frame.from, message[0] != 0 ? message : err_name(err));
    close_link(core, link);
}

void core_tick_links(struct core *core)
{
    for (struct list *at = core->links.next, *next; at != &core->links; at = next) {
        next = at->next;
        struct core_link *link = LIST_ITEM(at, struct core_link, all);
        if (link->link.from == 0 &&
            core->now_ms - link->opened_ms >= core->config->handshake_timeout_ms) {
            core->stats.links_refused++;
            close_link(core, link);
        }
    }
}
