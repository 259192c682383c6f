/* core.c - life of the node, the turn, time, and the stop. Clients are in core_client.c, peers in core_peer.c. */
#include "node/core.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "node/cmd_face.h"
#include "node/core_parts.h"
#include "node/push.h"
#include "node/router.h"
#include "node/txn.h"
#include "node/status.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/store_disk.h"
#include "storage/store_ship.h"

#define TICK_MS 50u
#define CLOSING_MS 2000u
#define FLUSHES_MAX 8u /* offers to the socket of one peer in one turn, so that none holds it up */

void core_log(struct core *core, int level, const char *format, ...)
{
    char line[1024];
    va_list args;
    if (level < (int)core->config->log_level) return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    core->net->log(core->net->context, level, line);
}

struct core *core_create(struct config *config, struct disk *disk, struct net *net, uint64_t seed)
{
    struct core *core = mem_zero(sizeof *core);
    core->config = config;
    core->connection_room = UINT64_MAX;
    core->disk = disk;
    core->net = net;
    core->seed = seed;
    core->next_session_id = 1;
    list_init(&core->sessions);
    locks_init(&core->locks);
    list_init(&core->proxies);
    list_init(&core->ready);
    list_init(&core->dirty);
    list_init(&core->waiting);
    list_init(&core->forwarding);
    list_init(&core->hogs);
    list_init(&core->links);
    list_init(&core->holding);
    feeds_init(&core->feeds);
    pubsub_init(&core->pubsub, config->notify_events);
    return core;
}

static int exit_code_of(enum err err)
{
    switch (err) {
    case ERR_INVALID:
    case ERR_HANDLES: return EXIT_BAD_CONFIG;
    case ERR_IO: return EXIT_DISK;
    default: return EXIT_BAD_DATA;
    }
}

static void introduce(struct core *core)
{
    const struct config *config = core->config;
    struct peer_identity self = {.node_id = core->identity.node_id,
                                 .directory_id = core->identity.directory_id};
    (void)snprintf(self.name, sizeof self.name, "%s", config->name);
    (void)snprintf(self.peer_address, sizeof self.peer_address, "%s", config->advertise_peer);
    (void)snprintf(self.client_address, sizeof self.client_address, "%s", config->advertise_client);
    (void)snprintf(self.cluster_client_address, sizeof self.cluster_client_address, "%s",
                   config->advertise_cluster_client);
    if (config->http.host[0] != 0) {
        (void)snprintf(self.http_address, sizeof self.http_address, "%.240s:%u", config->http.host,
                       config->http.port);
    }
    peers_init(&core->peers, &self, core->identity.cluster_id,
               hash64(config->cluster_token, strlen(config->cluster_token)));
    core_announce_start(core);
    core->peers.self_refused = core->identity.is_outdated;
    if (core->identity.is_outdated) {
        core_log(core, CONFIG_WARN,
                 "another node knew a newer copy of this data directory: this node neither votes "
                 "nor leads; stop it and put back the directory that it used last");
    }
    for (uint32_t i = 0; i < core->identity.member_count; i++) {
        const struct identity_member *member = &core->identity.members[i];
        if (member->id == core->identity.node_id) {
            /* The address of the membership is the one that the log's configuration knows. */
            (void)snprintf(core->peers.self.peer_address, sizeof core->peers.self.peer_address,
                           "%s", member->address);
            continue;
        }
        CHECK(peers_add(&core->peers, member->id, member->name, member->address) == OK);
    }
}

/* A full disk is no reason not to start: the log keeps a reserve for this. */
enum err core_save_identity(struct core *core)
{
    enum err err = identity_save(core->disk, &core->identity);
    const bool has_store = core->shard.store != NULL;
    if (err == ERR_NOSPACE && has_store && store_spend_reserve(core->shard.store)) {
        err = identity_save(core->disk, &core->identity);
    }
    return err;
}

/* Opens what the node holds. While its log is being repaired from the others that is not yet possible, but they may
 * hear of this start: its incarnation is saved in either case. */
static enum err open_shard(struct core *core, uint64_t now_ms, char *message)
{
    struct replica_member members[PEERS_MAX + 1];
    for (uint32_t i = 0; i < core->identity.member_count; i++) {
        members[i] = (struct replica_member){.id = core->identity.members[i].id,
                                             .address = core->identity.members[i].address,
                                             .is_voter = true};
    }
    enum err err = shard_open(&core->shard, members, core->identity.member_count,
                              core->identity.is_begun, now_ms, message);
    if (err == ERR_AGAIN) return core_save_identity(core);
    if (err == OK && !core->identity.is_begun) err = identity_begin(core->disk, &core->identity);
    if (err == OK && !core->identity.is_new) err = core_save_identity(core);
    if (err != OK) return err;
    core_log(core, CONFIG_INFO,
             "%s, id %016" PRIx64 ", cluster %016" PRIx64 ", start %" PRIu64 ": log %" PRIu64
             "..%" PRIu64 ", %" PRIu64 " keys",
             core->config->name, core->identity.node_id, core->identity.cluster_id,
             core->identity.incarnation, store_first_index(core->shard.store),
             store_last_index(core->shard.store), keydir_visible(store_keys(core->shard.store)));
    return OK;
}

enum err core_start(struct core *core, uint64_t now_ms, uint64_t wall_ms, char *message,
                    int *exit_code)
{
    message[0] = 0;
    core->now_ms = now_ms;
    core->wall_ms = wall_ms;
    core->started_ms = now_ms;
    const uint64_t random = hash64_seeded("directory", 9, core->seed);
    enum err err = replica_self_test();
    if (err != OK) {
        (void)snprintf(message, 512,
                       "the installed libraft does not manage memory as version 0.22 does: install "
                       "libraft 0.22");
        *exit_code = EXIT_BAD_CONFIG;
        return err;
    }
    err = identity_open(core->config, core->disk, random, &core->identity, message);
    if (err == OK) {
        introduce(core);
        err = identity_load_peers(core->disk, &core->peers, message);
        core->started = true; /* peers must be closed from here on */
    }
    if (err == OK) err = core->disk->make_folder(core->disk->context, "shard-0000");
    if (err == OK) {
        saver_init(&core->saver, core->seed);
        core->shard = (struct shard){.core = core,
                                     .config = core->config,
                                     .disk = core->disk,
                                     .peers = &core->peers,
                                     .storage_id = core->identity.storage_id,
                                     .random = core->seed};
        err = open_shard(core, now_ms, message);
    }
    if (err != OK) {
        if (message[0] == 0) (void)snprintf(message, 512, "data directory: %s", err_name(err));
        *exit_code = exit_code_of(err);
        return err;
    }
    (void)snprintf(core->run_id, sizeof core->run_id, "%016" PRIx64 "%016" PRIx64 "%08x",
                   hash64_seeded("run", 3, core->seed ^ core->identity.incarnation),
                   core->identity.node_id, (unsigned)core->identity.incarnation);
    return OK;
}

void core_destroy(struct core *core)
{
    while (!list_empty(&core->sessions)) {
        struct session *session = LIST_ITEM(core->sessions.next, struct session, all);
        txn_drop(core, session);
        push_drop(core, session);
        session_destroy(session);
    }
    while (!list_empty(&core->proxies)) {
        session_destroy(LIST_ITEM(core->proxies.next, struct session, all));
    }
    while (!list_empty(&core->links)) {
        core_link_free(core, LIST_ITEM(core->links.next, struct core_link, all));
    }
    stream_tick(core, true);
    if (core->shard.store != NULL) saver_close(&core->saver, core->shard.store);
    pubsub_close(core);
    if (core->shard.core != NULL) shard_close(&core->shard);
    if (core->started) peers_close(&core->peers);
    mem_free(core);
}

/* ---- who leads ------------------------------------------------------------------------------------ */

uint64_t core_leader_id(const struct core *core)
{
    return replica_leader(core->shard.replica);
}

const struct peer *core_leader_peer(struct core *core)
{
    const uint64_t leader = core_leader_id(core);
    if (leader == 0 || leader == core->identity.node_id) return NULL;
    const struct peer *peer = peers_find(&core->peers, leader);
    if (peer == NULL || !peer->is_connected) return NULL;
    /* Its answers come over its own connection to us: nothing is asked that could not be answered. */
    return core_has_link(core, leader) ? peer : NULL;
}

const char *core_node_name(const struct core *core, uint64_t node_id)
{
    if (node_id == core->identity.node_id) return core->identity.name;
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const struct peer_identity *identity = &core->peers.list[i].identity;
        if (identity->node_id == node_id) return identity->name;
    }
    return "";
}

bool core_serving(const struct core *core, char *reason)
{
    const struct shard *shard = &core->shard;
    const char *text = "";
    if (regain_active(&shard->regain)) {
        text = "repairing: the log is rebuilt from the others";
    } else if (core->failed != 0 || shard->replica == NULL) {
        text = "not started";
    } else if (recovery_quarantined(&shard->recovery)) {
        text = "quarantined: it recovers what it lost";
    } else if (replica_installing(shard->replica)) {
        uint64_t here = 0;
        uint64_t all = 0;
        store_install_progress(shard->store, &here, &all);
        if (reason != NULL) {
            (void)snprintf(reason, 64, "installing a snapshot: %" PRIu64 " of %" PRIu64 " MiB",
                           here / MIB, all / MIB);
        }
        return false;
    } else if (core->stage != CORE_RUNNING) {
        text = "stopping";
    } else if (shard->stalled_ms > 0 && replica_role(shard->replica) == REPLICA_LEADER) {
        text = "the disk hangs";
    } else if (!shard_ready(shard)) {
        const uint64_t leader = core_leader_id(core);
        const struct peer *peer = NULL;
        for (uint32_t i = 0; i < core->peers.count; i++) {
            if (core->peers.list[i].identity.node_id == leader) peer = &core->peers.list[i];
        }
        char refusal[8];
        (void)core_describe_refusal(core, refusal, sizeof refusal);
        if (leader == 0) text = "no leader is known";
        if (leader == 0 && refusal[0] != 0) text = "the other nodes refuse this one, see /status";
        if (leader != 0 && (peer == NULL || !peer->is_connected))
            text = "the leader is not ready or not reachable";
    }
    if (reason != NULL) (void)snprintf(reason, 64, "%s", text);
    return text[0] == 0;
}

/* ---- the turn --------------------------------------------------------------------------------------- */

/* Leadership is gone: every reply that still waits gets its answer now, then what was in flight is forgotten. */
static void lose_leadership(struct core *core)
{
    struct shard *shard = &core->shard;
    const uint64_t retired = shard->batches.retired_number;
    const uint64_t confirmed = shard->confirmed_seen;
    const uint64_t open = shard->batches.open->number;
    for (struct list *at = core->waiting.next, *next; at != &core->waiting; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, waiting);
        session_fail_waits(session, retired, confirmed, open);
        if (session_is_proxy(session)) {
            router_release(core, session, UINT64_MAX, UINT64_MAX);
        } else {
            (void)session_release(session, UINT64_MAX, UINT64_MAX);
            core_mark_dirty(core, session);
        }
        if (session->wait_count == 0) list_remove(&session->waiting);
        core_mark_ready(core, session);
    }
    for (struct list *at = core->sessions.next; at != &core->sessions; at = at->next) {
        struct session *session = LIST_ITEM(at, struct session, all);
        session->applied_batch = 0;
        if (session->exec.batch > retired || session->exec.read > confirmed) {
            session->exec = (struct pubsub_exec){0}; /* Nobody knows whether it happened. */
        }
    }
    for (struct list *at = core->proxies.next; at != &core->proxies; at = at->next) {
        LIST_ITEM(at, struct session, all)->applied_batch = 0;
    }
    batches_drop(&shard->batches);
    shard->lost = false;
    shard->retired_seen = shard->batches.retired_number;
    shard->confirmed_seen = replica_read_confirmed(shard->replica);
    core_log(core, CONFIG_INFO, "no longer leading (term %" PRIu64 ")", shard->term);
}

/* Replies whose entries are applied and whose rounds are confirmed may leave. */
static void release_replies(struct core *core)
{
    struct shard *shard = &core->shard;
    const uint64_t retired = shard->batches.retired_number;
    const uint64_t confirmed = replica_read_confirmed(shard->replica);
    if (shard->lost || !shard->was_ready) return;
    if (!replica_ready(shard->replica) || replica_term(shard->replica) != shard->term) return;
    if (retired == shard->retired_seen && confirmed == shard->confirmed_seen) return;
    shard->retired_seen = retired;
    shard->confirmed_seen = confirmed;
    for (struct list *at = core->waiting.next, *next; at != &core->waiting; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, waiting);
        if (session_is_proxy(session)) {
            router_release(core, session, retired, confirmed);
        } else if (session_release(session, retired, confirmed)) {
            core_mark_dirty(core, session);
        }
        if (session->wait_count == 0) list_remove(&session->waiting);
    }
}

/* Moves what waits for @peer in lanes to its queue, as far as that is short. */
static void fill(struct core *core, struct peer *peer)
{
    struct fragment_piece piece;
    while (peer_pump(&core->peers, peer, &piece)) {
        if (piece.type == WIRE_APPEND) {
            replica_give(core->shard.replica, peer, &piece);
        } else {
            router_give(core, peer, &piece);
        }
    }
}

/* Offers what is queued for @peer to the socket, and with it what waits in lanes, until the socket has enough. */
static void flush_peer(struct core *core, struct peer *peer)
{
    for (uint32_t i = 0; i < FLUSHES_MAX; i++) {
        fill(core, peer);
        const uint64_t size = peer_queued(peer);
        if (size == 0) return;
        const uint64_t sent = core->net->peer_send(core->net->context, peer->identity.node_id,
                                                   peer->out.data + peer->out_start, size);
        peer->out_start += sent;
        if (peer->out_start == peer->out.size) {
            peer->out.size = 0;
            peer->out_start = 0;
            buf_trim(&peer->out, MIB);
        } else if (peer->out_start > 4 * MIB) {
            buf_shift(&peer->out, peer->out_start);
            peer->out_start = 0;
        }
        if (sent < size) return; /* The host tells when there is room. */
        if (!peer_lanes_busy(peer)) return;
    }
    core->more = true;
}

static void flush_peers(struct core *core)
{
    for (uint32_t i = 0; i < core->peers.count; i++) {
        struct peer *peer = &core->peers.list[i];
        const struct fragment_lane *requests = peer_lane(peer, WIRE_FORWARD);
        const struct fragment_lane *replies = peer_lane(peer, WIRE_FORWARD_REPLY);
        const uint32_t before = requests->count + replies->count;
        flush_peer(core, peer);
        /* The next big one may begin. */
        if (requests->count + replies->count < before) core->more = true;
    }
}

static bool all_answered(const struct core *core)
{
    return list_empty(&core->waiting) && list_empty(&core->forwarding) && list_empty(&core->dirty);
}

/* Hand leadership over, go on forwarding for `drain`, finish what was accepted, close. */
static void advance_stop(struct core *core)
{
    struct shard *shard = &core->shard;
    const bool others = core->peers.count > 0;
    if (core->stage == CORE_HANDING_OVER) {
        const bool leads = replica_role(shard->replica) == REPLICA_LEADER;
        if (!leads || !others || core->now_ms >= core->stage_ms) {
            core->stage = CORE_DRAINING;
            core->stage_ms = core->now_ms + (others ? core->config->drain_ms : 0);
        } else if (!shard->transfer_wanted && !replica_transferring(shard->replica)) {
            shard_want_transfer(shard, 0, core->now_ms);
        }
    }
    if (core->stage == CORE_DRAINING &&
        (core->now_ms >= core->stage_ms || core->session_count == 0)) {
        core->stage = CORE_CLOSING;
        core->stage_ms = core->now_ms + CLOSING_MS;
    }
    if (core->stage == CORE_CLOSING && (all_answered(core) || core->now_ms >= core->stage_ms)) {
        for (struct list *at = core->sessions.next, *next; at != &core->sessions; at = next) {
            next = at->next;
            core_close_session(core, LIST_ITEM(at, struct session, all));
        }
        core->stage = CORE_STOPPED;
    }
}

static void fail(struct core *core, enum err err, const char *message)
{
    core_log(core, CONFIG_ERROR, "%s", message[0] != 0 ? message : err_name(err));
    /* What a running node lacked space for is done by a start that finds some: it may be tried again. */
    core->failed = err == ERR_IO || err == ERR_NOSPACE ? EXIT_DISK : EXIT_BAD_DATA;
}

/* A turn while the log is being repaired: there are only the other nodes. */
static void turn_repairing(struct core *core, char *message)
{
    if (core->stage != CORE_RUNNING) {
        core->stage = CORE_STOPPED;
        return;
    }
    enum err err = regain_turn(&core->shard, core->now_ms);
    if (err == OK) {
        core->more = true;
        err = open_shard(core, core->now_ms, message);
        if (err != OK) fail(core, err, message);
        /* They have not heard yet what this node has promised. */
        if (err == OK && !regain_active(&core->shard.regain)) core_greet_again(core);
    }
    flush_peers(core);
    if (core->now_ms < core->tick_ms) return;
    core->tick_ms = core->now_ms + TICK_MS;
    core_tick_links(core);
}

void core_turn(struct core *core, uint64_t now_ms, uint64_t wall_ms)
{
    char message[512] = "";
    struct shard *shard = &core->shard;
    if (core->failed != 0 || core->stage == CORE_STOPPED) return;
    core->now_ms = now_ms;
    core->wall_ms = wall_ms;
    core->more = false;
    core->stats.turns_total++;
    if (regain_active(&shard->regain)) {
        turn_repairing(core, message);
        return;
    }
    enum err err = shard_begin(shard, now_ms, wall_ms, message);
    if (err != OK) {
        fail(core, err, message);
        return;
    }
    if (shard->lost) lose_leadership(core);
    release_replies(core);
    readindex_turn(core);
    locks_turn(core);
    core_serve_clients(core);
    router_flush(core);
    readindex_turn(core);
    err = shard_end(shard, now_ms, message);
    if (err != OK) {
        fail(core, err, message);
        return;
    }
    release_replies(core);
    push_turn(core);
    cmd_sentinel_turn(core);
    feeds_turn(core);
    pubsub_turn(core);
    core->turn_work = 0; /* What other nodes publish from now on counts for the next one. */
    core_flush_clients(core);
    flush_peers(core);
    if (now_ms >= core->tick_ms) {
        core->tick_ms = now_ms + TICK_MS;
        core_tick_clients(core);
        core_tick_links(core);
        core_tick_rates(core);
        saver_tick(&core->saver, shard->store, now_ms);
        router_tick(core);
        stream_tick(core, false);
        feeds_tick(core);
    }
    if (core->stage != CORE_RUNNING) advance_stop(core);
}

uint64_t core_deadline(const struct core *core)
{
    if (core->failed != 0 || core->stage == CORE_STOPPED) return UINT64_MAX;
    if (core->more || core->shard.fetches.more) return core->now_ms;
    if (regain_active(&core->shard.regain)) return core->tick_ms;
    uint64_t deadline = shard_deadline(&core->shard, core->now_ms);
    const uint64_t locks = locks_deadline(core);
    if (locks < deadline) deadline = locks;
    const uint64_t reads = readindex_deadline(core);
    if (reads < deadline) deadline = reads;
    const bool ticking = core->session_count > 0 || core->proxy_count > 0 || core->link_count > 0 ||
                         core->stage != CORE_RUNNING || saver_active(&core->saver);
    if (ticking && core->tick_ms < deadline) deadline = core->tick_ms;
    return deadline;
}

/* ---- stop, insight ------------------------------------------------------------------------------------ */

void core_stop(struct core *core, uint64_t now_ms)
{
    if (core->stage != CORE_RUNNING) return;
    core->stage = CORE_HANDING_OVER;
    core->stage_ms = now_ms + 3 * core->config->election_timeout_ms;
    core->now_ms = now_ms;
    core->tick_ms = now_ms;
    core_log(core, CONFIG_INFO, "stopping");
}

bool core_stopped(const struct core *core)
{
    return core->stage == CORE_STOPPED;
}

int core_http(struct core *core, const char *path, struct buf *body, const char **type)
{
    return status_http(core, path, body, type);
}

int core_failed(const struct core *core)
{
    return core->failed;
}

bool core_quarantined(const struct core *core)
{
    return recovery_quarantined(&core->shard.recovery);
}

bool core_refused(const struct core *core)
{
    return core->peers.self_refused;
}

bool core_repairing(const struct core *core)
{
    return regain_active(&core->shard.regain);
}

void core_note_busy(struct core *core, uint64_t us)
{
    latency_add(&core->rounds, us);
}

struct store *core_store(struct core *core)
{
    return core->shard.store;
}

struct replica *core_replica(struct core *core)
{
    return core->shard.replica;
}

void core_check(const struct core *core)
{
    uint64_t count = 0;
    uint64_t held = 0;
    if (core->failed != 0 || core->shard.store == NULL) return;
    shard_check(&core->shard);
    for (const struct list *at = core->sessions.next; at != &core->sessions; at = at->next) {
        const struct session *session = LIST_ITEM(at, const struct session, all);
        session_check(session);
        held += session->held_counted;
        count++;
    }
    CHECK(count == core->session_count);
    CHECK(held == core->held_size);
    count = 0;
    for (const struct list *at = core->proxies.next; at != &core->proxies; at = at->next) {
        session_check(LIST_ITEM(at, const struct session, all));
        count++;
    }
    CHECK(count == core->proxy_count);
}
