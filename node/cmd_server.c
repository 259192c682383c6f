/* cmd_server.c - INFO and what else describes this node to Redis clients. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"
#include "node/push.h"
#include "node/txn.h"
#include "node/version.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/store_disk.h"
#include "storage/store_space.h"

/* ---- INFO ------------------------------------------------------------------------------------------------- */

/* All zero when the host does not tell. */
static struct net_process process_of(const struct core *core)
{
    struct net_process process = {0};
    if (core->net->process != NULL) core->net->process(core->net->context, &process);
    return process;
}

static void info_server(struct core *core, const struct session *session, struct buf *out)
{
    const bool is_cluster = session != NULL && session->face == CORE_FACE_CLUSTER;
    const struct config_address *listener = is_cluster ? &core->config->cluster_client
                                                       : &core->config->client;
    buf_printf(out, "# Server\r\nredis_version:%s\r\nflashkv_version:%s\r\nredis_mode:%s\r\n",
               KV_REDIS_VERSION, KV_VERSION, is_cluster ? "cluster" : "standalone");
    const struct net_process process = process_of(core);
    const uint64_t up_s = (core->now_ms - core->started_ms) / 1000;
    if (process.id != 0) buf_printf(out, "process_id:%" PRIu64 "\r\n", process.id);
    buf_printf(out,
               "arch_bits:%u\r\nrun_id:%s\r\ntcp_port:%u\r\nserver_time_usec:%" PRIu64
               "\r\nuptime_in_seconds:%" PRIu64 "\r\nuptime_in_days:%" PRIu64 "\r\n",
               (unsigned)(8 * sizeof(void *)), core->run_id, listener->port, core->wall_ms * 1000,
               up_s, up_s / 86400);
}

static void info_clients(struct core *core, struct buf *out)
{
    uint32_t blocked = 0;
    uint32_t listening = 0;
    uint32_t watching = 0;
    uint64_t watched = 0;
    for (const struct list *at = core->sessions.next; at != &core->sessions; at = at->next) {
        struct session *session = LIST_ITEM(at, struct session, all);
        const struct session_forward *forward = session_first_forward(session);
        if (session_is_proxy(session)) continue;
        blocked += session->acks.is_begun || session->lock != NULL ||
                   (forward != NULL && forward->is_patient);
        listening += push_is_used(session);
        watching += txn_watches(session) > 0;
        watched += txn_watches(session);
    }
    buf_printf(out,
               "# Clients\r\nconnected_clients:%" PRIu64
               "\r\ncluster_connections:%u\r\nmaxclients:%" PRIu64
               "\r\nblocked_clients:%u\r\ntracking_clients:0\r\npubsub_clients:%u\r\n"
               "watching_clients:%u\r\ntotal_watched_keys:%" PRIu64 "\r\nproxied_clients:%" PRIu64
               "\r\n",
               core->session_count, core->link_count, core_connections_max(core), blocked,
               listening, watching, watched, core->proxy_count);
}

static void info_memory(struct core *core, struct buf *out)
{
    const struct keydir *keys = store_keys(core->shard.store);
    const struct net_process process = process_of(core);
    buf_printf(out, "# Memory\r\nused_memory:%" PRIu64 "\r\n", mem_used());
    if (process.resident_size != 0) {
        buf_printf(out, "used_memory_rss:%" PRIu64 "\r\n", process.resident_size);
    }
    buf_printf(out,
               "used_memory_index:%" PRIu64 "\r\nmax_memory_index:%" PRIu64
               "\r\nindex_full:%d\r\nindex_refusals:%" PRIu64
               "\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
               keydir_memory(keys), core->config->max_index_memory,
               shard_index_full(&core->shard) ? 1 : 0, core->shard.oom_count);
}

static void info_values(const struct shard *shard, struct buf *out)
{
    /* In thousandths, as there are no fractions here: 1000 when nothing is saved. */
    const uint64_t stored = shard->value_stored_size > 0 ? shard->value_stored_size : 1;
    const uint64_t ratio = shard->value_raw_size > 0 ? shard->value_raw_size * 1000 / stored : 1000;
    buf_printf(out,
               "values_bytes_raw:%" PRIu64 "\r\nvalues_bytes_stored:%" PRIu64
               "\r\nvalues_compressed:%" PRIu64 "\r\nvalues_compression_ratio:%" PRIu64
               ".%02u\r\nvalue_reads_background:%" PRIu64 "\r\n",
               shard->value_raw_size, shard->value_stored_size, shard->packed_count, ratio / 1000,
               (unsigned)(ratio % 1000 / 10), shard->fetches.count);
}

static void info_compaction(struct store *store, struct buf *out)
{
    const struct store_compaction figures = store_compaction(store);
    char amplification[24];
    store_amplification(&figures, amplification);
    buf_printf(out,
               "compaction_running:%d\r\ncompaction_jobs:%" PRIu64
               "\r\ncompaction_given_up:%" PRIu64 "\r\ncompaction_bytes_read:%" PRIu64
               "\r\ncompaction_bytes_written:%" PRIu64 "\r\ncompaction_bytes_freed:%" PRIu64
               "\r\nlive_bytes:%" PRIu64 "\r\ngarbage_bytes:%" PRIu64
               "\r\nwritten_bytes_total:%" PRIu64 "\r\nwritten_bytes_user:%" PRIu64
               "\r\nwrite_amplification:%s\r\n",
               figures.is_running ? 1 : 0, figures.jobs, figures.given_up, figures.bytes_read,
               figures.bytes_written, figures.bytes_freed, figures.live, figures.garbage,
               figures.total_written, figures.user_written, amplification);
}

static void info_persistence(struct core *core, struct buf *out)
{
    struct store *store = core->shard.store;
    const struct store_stats stats = store_stats(store);
    const bool loading = replica_installing(core->shard.replica);
    buf_printf(out,
               "# Persistence\r\nloading:%d\r\naof_enabled:1\r\naof_last_write_status:%s\r\n"
               "log_first_index:%" PRIu64 "\r\nlog_last_index:%" PRIu64
               "\r\nlog_persisted_index:%" PRIu64 "\r\nlog_applied_index:%" PRIu64
               "\r\nbase_index:%" PRIu64 "\r\n",
               loading ? 1 : 0, store_nospace(store) ? "err" : "ok", store_first_index(store),
               store_last_index(store), store_persisted_index(store), store_applied_index(store),
               store_base(store).index);
    buf_printf(
        out,
        "segments:%" PRIu64 "\r\ndisk_bytes:%" PRIu64 "\r\nbytes_written:%" PRIu64
        "\r\ngroups_written:%" PRIu64 "\r\nsyncs:%" PRIu64 "\r\nseals:%" PRIu64
        "\r\nvalue_reads_memory:%" PRIu64 "\r\nvalue_reads_disk:%" PRIu64 "\r\nnospace:%d\r\n",
        stats.segments, stats.disk_size, stats.bytes_written, stats.groups_written, stats.syncs,
        stats.seals, stats.tail_hits, stats.tail_misses, store_nospace(store) ? 1 : 0);
    info_compaction(store, out);
    info_values(&core->shard, out);
    buf_printf(out,
               "disk_room_bytes:%" PRIu64 "\r\ndisk_hangs:%d\r\nlog_write_max_us:%" PRIu64 "\r\n",
               store_room(store), core->shard.stalled_ms > 0, store_write_latency(store)->max_us);
}

static void info_stats(struct core *core, struct buf *out)
{
    const struct core_stats *stats = &core->stats;
    const struct core_rates *rates = &core->rates;
    const struct shard *shard = &core->shard;
    core_tick_rates(core);
    buf_printf(out,
               "# Stats\r\ntotal_connections_received:%" PRIu64
               "\r\ntotal_commands_processed:%" PRIu64 "\r\ninstantaneous_ops_per_sec:%" PRIu64
               "\r\ninstantaneous_input_kbps:%" PRIu64 ".%02u\r\ninstantaneous_output_kbps:%" PRIu64
               ".%02u\r\nrejected_connections:%" PRIu64 "\r\ntotal_net_input_bytes:%" PRIu64
               "\r\ntotal_net_output_bytes:%" PRIu64 "\r\nexpired_keys:%" PRIu64
               "\r\nexpired_lag_ms:%" PRIu64 "\r\nevicted_keys:0\r\ntotal_error_replies:%" PRIu64
               "\r\n",
               stats->connections_total, stats->commands_total, rates->commands_s,
               rates->bytes_in_s / 1024, (unsigned)(rates->bytes_in_s % 1024 * 100 / 1024),
               rates->bytes_out_s / 1024, (unsigned)(rates->bytes_out_s % 1024 * 100 / 1024),
               stats->connections_refused, stats->bytes_in_total, stats->bytes_out_total,
               shard->expired_count, shard_expiry_lag(shard), stats->errors_total);
    const struct pubsub *pubsub = &core->pubsub;
    const struct feeds *feeds = &core->feeds;
    buf_printf(out,
               "pubsub_channels:%u\r\npubsub_patterns:%u\r\npubsub_published:%" PRIu64
               "\r\npubsub_delivered:%" PRIu64 "\r\npubsub_dropped:%" PRIu64
               "\r\nnotifications_missed:%" PRIu64 "\r\nwatches:%u\r\nwatch_messages:%" PRIu64
               "\r\nwatch_changes:%" PRIu64 "\r\nwatch_disk_reads:%" PRIu64
               "\r\nwatches_compacted:%" PRIu64 "\r\n",
               pubsub->channel_count, pubsub->pattern_count, pubsub->published, pubsub->delivered,
               pubsub->dropped, pubsub->missed, feeds->count, feeds->messages, feeds->effects,
               feeds->disk_reads, feeds->compacted);
    buf_printf(out,
               "commands_forwarded:%" PRIu64 "\r\ncommands_served_for_others:%" PRIu64
               "\r\ncommands_parked:%" PRIu64 "\r\nuncertain_replies:%" PRIu64
               "\r\nprotocol_errors:%" PRIu64 "\r\nreads_paused:%" PRIu64
               "\r\noutput_limit_closed:%" PRIu64 "\r\nidle_closed:%" PRIu64
               "\r\npeer_links_refused:%" PRIu64 "\r\nwrites:%" PRIu64 "\r\nreads:%" PRIu64
               "\r\nentries_proposed:%" PRIu64 "\r\neffects_proposed:%" PRIu64 "\r\nturns:%" PRIu64
               "\r\nturns_over_5ms:%" PRIu64 "\r\nturns_over_10ms:%" PRIu64
               "\r\nturn_longest_us:%" PRIu64 "\r\n",
               stats->forwarded_total, stats->forwarded_in_total, stats->parked_total,
               stats->uncertain_total, stats->protocol_errors_total, stats->paused_total,
               stats->output_limit_closed, stats->idle_closed, stats->links_refused,
               shard->write_count, shard->read_count, shard->batch_count, shard->effect_count,
               stats->turns_total, latency_above(&core->rounds, 5000),
               latency_above(&core->rounds, 10000), core->rounds.max_us);
}

static void put_host_port(const char *address, struct buf *host, uint16_t *port)
{
    struct config_address parsed = {0};
    if (!config_parse_address(address, &parsed)) parsed = (struct config_address){0};
    buf_text(host, parsed.host);
    *port = parsed.port;
}

/* Those that are connected, each with the index up to which it is known to have the log. */
static void info_followers(struct core *core, bool leads, struct buf *out)
{
    struct buf lines = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; leads && i < core->peers.count; i++) {
        const struct peer *peer = &core->peers.list[i];
        struct buf host = {0};
        uint16_t port = 0;
        if (!peer->is_known || !peer->is_connected) continue;
        put_host_port(peer->identity.client_address, &host, &port);
        buf_printf(&lines, "slave%u:ip=%.*s,port=%u,state=online,offset=%" PRIu64 "\r\n", count,
                   (int)host.size, (const char *)host.data, port,
                   replica_match(core->shard.replica, peer->identity.node_id));
        buf_close(&host);
        count++;
    }
    buf_printf(out, "connected_slaves:%u\r\n", count);
    buf_append(out, lines.data, lines.size);
    buf_close(&lines);
}

static void info_replication(struct core *core, const struct session *session, struct buf *out)
{
    const struct replica *replica = core->shard.replica;
    const bool is_cluster = session != NULL && session->face == CORE_FACE_CLUSTER;
    const bool leads = replica_role(replica) == REPLICA_LEADER;
    const uint64_t leader = replica_leader(replica);
    const uint64_t applied = store_applied_index(core->shard.store);
    /* A standalone client may write to any node: each one is a master to it. */
    if (leads || !is_cluster) {
        buf_text(out, "# Replication\r\nrole:master\r\n");
        info_followers(core, leads, out);
    } else {
        const struct peer *peer = peers_find(&core->peers, leader);
        struct buf host = {0};
        uint16_t port = 0;
        if (peer != NULL) put_host_port(peer->identity.client_address, &host, &port);
        buf_printf(out,
                   "# Replication\r\nrole:slave\r\nmaster_host:%.*s\r\nmaster_port:%u\r\n"
                   "master_link_status:%s\r\nslave_read_only:1\r\nslave_repl_offset:%" PRIu64
                   "\r\n",
                   (int)host.size, (const char *)host.data, port,
                   peer != NULL && peer->is_connected ? "up" : "down", applied);
        buf_close(&host);
    }
    buf_printf(out, "master_replid:%s\r\nmaster_repl_offset:%" PRIu64 "\r\n", core->run_id,
               applied);
}

static void info_raft(struct core *core, struct buf *out)
{
    const struct replica *replica = core->shard.replica;
    const struct replica_stats stats = shard_stats(&core->shard);
    static const char *const roles[] = {"follower", "candidate", "leader"};
    buf_printf(out,
               "# Raft\r\nraft_role:%s\r\nraft_term:%" PRIu64
               "\r\nraft_leader:%s\r\nraft_committed:%" PRIu64
               "\r\nraft_ready:%d\r\nraft_installing:%d\r\n",
               roles[replica_role(replica)], replica_term(replica),
               core_node_name(core, replica_leader(replica)), replica_committed(replica),
               replica_ready(replica) ? 1 : 0, replica_installing(replica) ? 1 : 0);
    char refusal[400];
    const uint32_t refused_by = core_describe_refusal(core, refusal, sizeof refusal);
    buf_printf(out, "raft_refused_by:%u\r\nraft_refusal:%s\r\n", refused_by, refusal);
    buf_printf(out,
               "raft_elections_won:%" PRIu64 "\r\nraft_steps_down:%" PRIu64
               "\r\nraft_appends_sent:%" PRIu64 "\r\nraft_appends_received:%" PRIu64
               "\r\nraft_rejected_frames:%" PRIu64 "\r\nraft_read_rounds:%" PRIu64
               "\r\nraft_snapshots_sent:%" PRIu64 "\r\nraft_snapshots_installed:%" PRIu64
               "\r\nraft_snapshots_abandoned:%" PRIu64 "\r\n",
               stats.elections_won, stats.steps_down, stats.append_sent, stats.append_received,
               stats.rejected_frames, stats.read_rounds, stats.snapshots_sent,
               stats.snapshots_installed, stats.snapshots_abandoned);
}

static void info_cpu(struct core *core, struct buf *out)
{
    const struct net_process process = process_of(core);
    buf_text(out, "# CPU\r\n");
    if (process.id == 0) return;
    buf_printf(out, "used_cpu_sys:%" PRIu64 ".%06u\r\nused_cpu_user:%" PRIu64 ".%06u\r\n",
               process.system_us / 1000000, (unsigned)(process.system_us % 1000000),
               process.user_us / 1000000, (unsigned)(process.user_us % 1000000));
}

static void info_keyspace(struct core *core, struct buf *out)
{
    const struct keydir *keys = store_keys(core->shard.store);
    buf_text(out, "# Keyspace\r\n");
    if (keydir_visible(keys) == 0) return;
    buf_printf(out, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0\r\n", keydir_visible(keys),
               keydir_expiring(keys));
}

static bool info_wanted(const struct eval *eval, const char *section)
{
    if (eval->count == 1) return true;
    for (uint32_t i = 1; i < eval->count; i++) {
        if (slice_equal_fold(eval->args[i], section)) return true;
        if (slice_equal_fold(eval->args[i], "all")) return true;
        if (slice_equal_fold(eval->args[i], "everything")) return true;
        if (slice_equal_fold(eval->args[i], "default")) return true;
    }
    return false;
}

void cmd_info(struct eval *eval)
{
    static const char *const sections[] = {"server",   "clients",     "memory", "persistence",
                                           "stats",    "replication", "raft",   "cpu",
                                           "keyspace", "cluster"};
    struct buf out = {0};
    for (uint32_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (!info_wanted(eval, sections[i])) continue;
        if (out.size > 0) buf_text(&out, "\r\n");
        switch (i) {
        case 0: info_server(eval->core, eval->session, &out); break;
        case 1: info_clients(eval->core, &out); break;
        case 2: info_memory(eval->core, &out); break;
        case 3: info_persistence(eval->core, &out); break;
        case 4: info_stats(eval->core, &out); break;
        case 5: info_replication(eval->core, eval->session, &out); break;
        case 6: info_raft(eval->core, &out); break;
        case 7: info_cpu(eval->core, &out); break;
        case 8: info_keyspace(eval->core, &out); break;
        default:
            buf_printf(&out, "# Cluster\r\ncluster_enabled:%d\r\n",
                       eval->session->face == CORE_FACE_CLUSTER ? 1 : 0);
        }
    }
    resp_put_verbatim(eval->out, buf_slice(&out), eval->protocol);
    buf_close(&out);
}

/* ---- TIME, ROLE ------------------------------------------------------------------------------------------------ */

void cmd_time(struct eval *eval)
{
    char text[24];
    resp_put_array(eval->out, 2);
    (void)snprintf(text, sizeof text, "%" PRIu64, eval->core->wall_ms / 1000);
    resp_put_text(eval->out, text);
    (void)snprintf(text, sizeof text, "%" PRIu64, eval->core->wall_ms % 1000 * 1000);
    resp_put_text(eval->out, text);
}

static void put_member(struct eval *eval, const struct peer *peer, uint64_t offset)
{
    char text[24];
    struct buf host = {0};
    uint16_t port = 0;
    put_host_port(peer->identity.client_address, &host, &port);
    resp_put_array(eval->out, 3);
    resp_put_bulk(eval->out, buf_slice(&host));
    (void)snprintf(text, sizeof text, "%u", port);
    resp_put_text(eval->out, text);
    (void)snprintf(text, sizeof text, "%" PRIu64, offset);
    resp_put_text(eval->out, text);
    buf_close(&host);
}

void cmd_role(struct eval *eval)
{
    struct core *core = eval->core;
    const struct replica *replica = core->shard.replica;
    const struct peer *leader = peers_find(&core->peers, replica_leader(replica));
    const uint64_t applied = store_applied_index(core->shard.store);
    if (replica_role(replica) != REPLICA_LEADER && leader != NULL) {
        struct buf host = {0};
        uint16_t port = 0;
        put_host_port(leader->identity.client_address, &host, &port);
        resp_put_array(eval->out, 5);
        resp_put_text(eval->out, "slave");
        resp_put_bulk(eval->out, buf_slice(&host));
        resp_put_int(eval->out, port);
        resp_put_text(eval->out, leader->is_connected ? "connected" : "connect");
        resp_put_int(eval->out, (int64_t)applied);
        buf_close(&host);
        return;
    }
    const bool leads = replica_role(replica) == REPLICA_LEADER;
    uint32_t known = 0;
    for (uint32_t i = 0; leads && i < core->peers.count; i++) known += core->peers.list[i].is_known;
    resp_put_array(eval->out, 3);
    resp_put_text(eval->out, "master");
    resp_put_int(eval->out, (int64_t)applied);
    resp_put_array(eval->out, known);
    for (uint32_t i = 0; known > 0 && i < core->peers.count; i++) {
        const struct peer *peer = &core->peers.list[i];
        if (peer->is_known) put_member(eval, peer, replica_match(replica, peer->identity.node_id));
    }
}
