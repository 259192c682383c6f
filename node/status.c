#include "node/status.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/version.h"
#include "storage/base/mem.h"
#include "storage/store_disk.h"
#include "storage/store_space.h"
#include "storage/store_ship.h"

void status_of(struct core *core, struct status *status)
{
    const struct replica *replica = core->shard.replica;
    struct store *store = core->shard.store;
    char reason[64];
    *status = (struct status){
        .name = core->identity.name,
        .role = replica_role(replica) == REPLICA_LEADER ? "leader" : "follower",
        .leader = core_node_name(core, replica_leader(replica)),
        .term = replica_term(replica),
        .committed = replica_committed(replica),
        .applied = store_applied_index(store),
        .last = store_last_index(store),
        .keys = keydir_visible(store_keys(store)),
        .disk_size = store_stats(store).disk_size,
        .version = KV_VERSION,
        .client = core->peers.self.client_address,
        .peer = core->peers.self.peer_address,
        .cluster = core->config->cluster_token,
    };
    (void)snprintf(status->id, sizeof status->id, "%016" PRIx64, core->identity.node_id);
    const bool serving = core_serving(core, reason);
    recovery_describe(&core->shard, status->health, sizeof status->health);
    if (recovery_quarantined(&core->shard.recovery)) return;
    char refusal[sizeof status->health];
    (void)core_describe_refusal(core, refusal, sizeof refusal);
    if (refusal[0] != 0) {
        (void)snprintf(status->health, sizeof status->health, "%s", refusal);
    } else if (!serving) {
        (void)snprintf(status->health, sizeof status->health, "%s", reason);
    } else if (status->health[0] == 0) {
        const char *health = core->shard.stalled_ms > 0 ? "the disk hangs" : "ok";
        if (shard_index_full(&core->shard)) health = "max-index-memory reached";
        if (store_nospace(store)) health = "nospace";
        (void)snprintf(status->health, sizeof status->health, "%s", health);
    }
}

/* ---- HTTP ---------------------------------------------------------------------------------------------------- */

static void metric(struct buf *body, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    buf_printf(body, "# HELP flashkv_%s %s\n# TYPE flashkv_%s %s\nflashkv_%s %" PRIu64 "\n", name,
               help, name, type, name, value);
}

static void metric_latency(struct buf *body, const char *name, const char *help,
                           const struct latency *latency)
{
    uint64_t below = 0;
    buf_printf(body, "# HELP flashkv_%s %s\n# TYPE flashkv_%s histogram\n", name, help, name);
    for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
        const uint64_t bound = latency_bound_us(i);
        below += latency->counts[i];
        buf_printf(body, "flashkv_%s_bucket{le=\"%" PRIu64 ".%06" PRIu64 "\"} %" PRIu64 "\n", name,
                   bound / 1000000, bound % 1000000, below);
    }
    buf_printf(body,
               "flashkv_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nflashkv_%s_sum %" PRIu64 ".%06" PRIu64
               "\nflashkv_%s_count %" PRIu64 "\n",
               name, latency->count, name, latency->sum_us / 1000000, latency->sum_us % 1000000,
               name, latency->count);
}

static void metrics_disk(struct core *core, struct buf *body)
{
    struct store *store = core->shard.store;
    const struct latency *writes = store_write_latency(store);
    uint64_t available = 0;
    if (core->disk->space(core->disk->context, &available) == OK) {
        metric(body, "disk_free_bytes", "gauge", "Bytes that can still be written.", available);
    }
    metric(body, "disk_room_bytes", "gauge", "Bytes of log that fit without new space.",
           store_room(store));
    metric(body, "disk_full", "gauge", "1 while writes are refused for want of space.",
           replica_nospace(core->shard.replica));
    metric(body, "disk_full_here", "gauge", "1 while the disk of this node is full.",
           store_nospace(store));
    metric(body, "disk_hangs", "gauge", "1 while a write of the log takes longer than a second.",
           core->shard.stalled_ms > 0);
    metric(body, "disk_hangs_total", "counter", "Times the disk began to hang.",
           core->shard.stall_count);
    metric(body, "log_write_pending_ms", "gauge", "Age of the log write under way.",
           replica_stalled_ms(core->shard.replica));
    metric(body, "log_write_max_us", "gauge", "Longest log write, with its sync, since the start.",
           writes->max_us);
    metric_latency(body, "log_write_seconds", "Log writes, each with its sync.", writes);
}

static void metrics_loop(const struct core *core, struct buf *body)
{
    metric(body, "turn_max_us", "gauge", "Longest turn since the start, as processor time.",
           core->rounds.max_us);
    metric_latency(body, "turn_seconds",
                   "Processor time of turns of the loop; short ones are taken together.",
                   &core->rounds);
}

static void metrics_repair(const struct shard *shard, struct buf *body)
{
    metric(body, "repairing", "gauge", "1 while the log is rebuilt from the records of others.",
           regain_active(&shard->regain));
    metric(body, "log_groups_repaired_total", "counter",
           "Damaged groups of the log that were rebuilt since the start.",
           shard->regain.repaired_total);
}

static void metrics_state(struct core *core, struct buf *body)
{
    struct store *store = core->shard.store;
    const struct replica *replica = core->shard.replica;
    const struct store_stats stats = store_stats(store);
    metric(body, "leader", "gauge", "1 when this node leads.",
           replica_role(replica) == REPLICA_LEADER);
    metric(body, "ready", "gauge", "1 when commands are served.", core_serving(core, NULL));
    char refusal[256];
    metric(body, "refused_by", "gauge", "Other nodes that do not let this one in: see /status.",
           core_describe_refusal(core, refusal, sizeof refusal));
    metric(body, "term", "gauge", "Raft term.", replica_term(replica));
    metric(body, "committed_index", "gauge", "Highest committed log index known.",
           replica_committed(replica));
    metric(body, "applied_index", "gauge", "Highest applied log index.",
           store_applied_index(store));
    metric(body, "persisted_index", "gauge", "Highest log index durable here.",
           store_persisted_index(store));
    metric(body, "keys", "gauge", "Keys in the store.", keydir_visible(store_keys(store)));
    metric(body, "index_memory_bytes", "gauge", "Memory of the key index.",
           keydir_memory(store_keys(store)));
    metric(body, "index_memory_max_bytes", "gauge", "What it may take: max-index-memory, 0: any.",
           core->config->max_index_memory);
    metric(body, "index_full", "gauge", "1 while writes are refused for want of index memory.",
           shard_index_full(&core->shard));
    metric(body, "index_refusals_total", "counter", "Commands refused for want of index memory.",
           core->shard.oom_count);
    metric(body, "memory_bytes", "gauge", "Memory allocated by the node.", mem_used());
    metric(body, "disk_bytes", "gauge", "Bytes of the data files.", stats.disk_size);
    const struct damage *damage = store_damage(store);
    metrics_repair(&core->shard, body);
    metric(body, "quarantined", "gauge", "1 while this node recovers what it had acknowledged.",
           recovery_quarantined(&core->shard.recovery));
    metric(body, "damaged_ranges", "gauge", "Ranges of files that cannot be read or verified.",
           damage->count);
    metric(body, "damage_found_total", "counter", "Damaged ranges found.", damage->found_count);
    metric(body, "scrub_bytes_total", "counter", "Bytes of sealed files read to be verified.",
           stats.scrub_bytes);
    metric(body, "scrub_passes_total", "counter", "Times that all sealed files were verified.",
           stats.scrub_passes);
    metric(body, "scrub_hints_total", "counter", "Hint files that were wrong and made again.",
           stats.scrub_hints);
    metric(body, "damage_repaired_total", "counter", "Damaged ranges repaired.",
           damage->repaired_count);
    metric(body, "log_bytes_written_total", "counter", "Bytes written to segments.",
           stats.bytes_written);
    metric(body, "log_syncs_total", "counter", "Completed log syncs.", stats.syncs);
    metric(body, "request_bytes", "gauge", "Bytes of clients' commands, taken and not answered.",
           core->held_size);
    metric(body, "inflight_bytes", "gauge", "Bytes of entries proposed and not applied.",
           core->shard.batches.flying_size);
}

static void metrics_compaction(struct store *store, struct buf *body)
{
    const struct store_compaction figures = store_compaction(store);
    char amplification[24];
    store_amplification(&figures, amplification);
    metric(body, "live_bytes", "gauge", "Bytes of effects in force.", figures.live);
    metric(body, "garbage_bytes", "gauge", "Bytes that compaction could give back now, about.",
           figures.garbage);
    metric(body, "compaction_running", "gauge", "1 while files are being compacted.",
           figures.is_running);
    metric(body, "compaction_jobs_total", "counter", "Runs of files that were compacted.",
           figures.jobs);
    metric(body, "compaction_given_up_total", "counter", "Compactions that could not be finished.",
           figures.given_up);
    metric(body, "compaction_bytes_read_total", "counter", "Bytes read by compaction.",
           figures.bytes_read);
    metric(body, "compaction_bytes_written_total", "counter", "Bytes written by compaction.",
           figures.bytes_written);
    metric(body, "compaction_bytes_freed_total", "counter", "Bytes given back by compaction.",
           figures.bytes_freed);
    metric(body, "bytes_written_total", "counter", "Bytes written to all data files.",
           figures.total_written);
    metric(body, "user_bytes_total", "counter", "Bytes of keys and values in applied effects.",
           figures.user_written);
    buf_printf(body,
               "# HELP flashkv_write_amplification Bytes written for each byte of the user's.\n"
               "# TYPE flashkv_write_amplification gauge\nflashkv_write_amplification %s\n",
               amplification);
}

static void metrics_values(const struct shard *shard, struct buf *body)
{
    metric(body, "value_bytes_raw_total", "counter", "Bytes of the values set through this node.",
           shard->value_raw_size);
    metric(body, "value_bytes_stored_total", "counter",
           "What of them is stored: less when they are compressed.", shard->value_stored_size);
    metric(body, "values_compressed_total", "counter", "Values that were compressed.",
           shard->packed_count);
    metric(body, "value_reads_background_total", "counter",
           "Values read from the disk while their client waited.", shard->fetches.count);
    metric(body, "value_fetch_bytes", "gauge", "Bytes of values that clients wait for.",
           shard->fetches.size);
}

static void metrics_counters(struct core *core, struct buf *body)
{
    const struct core_stats *stats = &core->stats;
    const struct replica_stats raft = shard_stats(&core->shard);
    metric(body, "watches", "gauge", "Change feeds of clients.", core->feeds.count);
    metric(body, "watch_changes_total", "counter", "Changes told to change feeds.",
           core->feeds.effects);
    metric(body, "watches_compacted_total", "counter", "Change feeds that retention overtook.",
           core->feeds.compacted);
    metric(body, "pubsub_subscriptions", "gauge", "Subscriptions to channels and patterns.",
           core->pubsub.subscription_count);
    metric(body, "pubsub_delivered_total", "counter", "Messages given to subscribers.",
           core->pubsub.delivered);
    metric(body, "pubsub_dropped_total", "counter", "Messages that another node was not sent.",
           core->pubsub.dropped);
    metric(body, "connections", "gauge", "Client connections.", core->session_count);
    metric(body, "connections_total", "counter", "Client connections accepted.",
           stats->connections_total);
    metric(body, "connections_refused_total", "counter", "Client connections refused.",
           stats->connections_refused);
    metric(body, "commands_total", "counter", "Commands handled.", stats->commands_total);
    metric(body, "errors_total", "counter", "Error replies.", stats->errors_total);
    metric(body, "uncertain_total", "counter", "Writes whose outcome was unknown.",
           stats->uncertain_total);
    metric(body, "forwarded_total", "counter", "Commands sent on to the leader.",
           stats->forwarded_total);
    metric(body, "parked_total", "counter", "Times a client waited for a leader.",
           stats->parked_total);
    metric(body, "expired_lag_ms", "gauge", "How long the key that waits longest has been expired.",
           shard_expiry_lag(&core->shard));
    metric(body, "expired_total", "counter", "Keys deleted since they expired.",
           core->shard.expired_count);
    metric(body, "paused_total", "counter", "Times reading from a client was stopped.",
           stats->paused_total);
    metric(body, "elections_won_total", "counter", "Elections won by this node.",
           raft.elections_won);
    metric(body, "snapshots_sent_total", "counter", "Snapshots sent.", raft.snapshots_sent);
    metric(body, "snapshots_installed_total", "counter", "Snapshots installed.",
           raft.snapshots_installed);
    metric(body, "snapshots_abandoned_total", "counter", "Snapshots whose transfer was given up.",
           raft.snapshots_abandoned);
    metric(body, "snapshots_refused_total", "counter", "Snapshots for which there was no room.",
           raft.snapshots_refused);
    metric(body, "snapshot_sent_bytes_total", "counter", "Bytes of files sent to nodes that lag.",
           raft.shipped_size);
    uint64_t here = 0;
    uint64_t all = 0;
    store_install_progress(core->shard.store, &here, &all);
    metric(body, "snapshot_receiving_bytes", "gauge", "Bytes here of the snapshot being received.",
           here);
    metric(body, "snapshot_receiving_total_bytes", "gauge", "Size of the snapshot being received.",
           all);
    metric(body, "peer_frames_rejected_total", "counter", "Invalid frames of peers.",
           raft.rejected_frames);
}

static void status_json(const struct status *status, struct buf *body)
{
    buf_printf(body,
               "{\"name\":\"%s\",\"id\":\"%s\",\"role\":\"%s\",\"leader\":\"%s\",\"term\":%" PRIu64
               ",\"committed\":%" PRIu64 ",\"applied\":%" PRIu64 ",\"last\":%" PRIu64
               ",\"keys\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
               ",\"version\":\"%s\",\"health\":\"%s\",\"client\":\"%s\",\"peer\":\"%s\","
               "\"cluster\":\"%s\"}\n",
               status->name, status->id, status->role, status->leader, status->term,
               status->committed, status->applied, status->last, status->keys, status->disk_size,
               status->version, status->health, status->client, status->peer, status->cluster);
}

static void status_page(const struct core *core, const struct status *status, struct buf *body)
{
    buf_printf(
        body,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" "
        "content=\"2\">"
        "<title>FlashKV %s</title><style>body{font:16px sans-serif;margin:2em}td,th{padding:.2em "
        "1em;"
        "text-align:left}</style><h1>FlashKV, %s</h1><p>%s, leader %s, health: %s</p><table>",
        status->name, status->name, status->role, status->leader, status->health);
    buf_printf(body,
               "<tr><th>term<td>%" PRIu64 "<tr><th>committed<td>%" PRIu64
               "<tr><th>applied<td>%" PRIu64 "<tr><th>keys<td>%" PRIu64
               "<tr><th>disk bytes<td>%" PRIu64 "<tr><th>client connections<td>%" PRIu64
               "<tr><th>version<td>%s</table><h2>Members</h2><table>",
               status->term, status->committed, status->applied, status->keys, status->disk_size,
               core->session_count, status->version);
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const struct peer *peer = &core->peers.list[i];
        buf_printf(body, "<tr><th>%s<td>%s<td>%s", peer->identity.name, peer->identity.peer_address,
                   peer->is_connected ? "connected" : "not connected");
    }
    buf_text(
        body,
        "</table><p><a href=\"/metrics\">metrics</a> <a href=\"/status\">status</a></p></html>\n");
}

/* What can be said without a state. */
static int http_repairing(struct core *core, const char *path, struct buf *body, const char **type)
{
    char text[400];
    regain_describe(&core->shard, text, sizeof text);
    if (strcmp(path, "/metrics") != 0) {
        buf_printf(body, "%s\n", text);
        return 503;
    }
    *type = "text/plain; version=0.0.4; charset=utf-8";
    metric(body, "ready", "gauge", "1 when commands are served.", 0);
    metrics_repair(&core->shard, body);
    return 200;
}

int status_http(struct core *core, const char *path, struct buf *body, const char **type)
{
    struct status status;
    char reason[64];
    *type = "text/plain; charset=utf-8";
    if (strcmp(path, "/healthz") == 0) {
        buf_text(body, "ok\n");
        return core->failed == 0 ? 200 : 503;
    }
    if (core_repairing(core)) return http_repairing(core, path, body, type);
    if (core->shard.store == NULL || core->shard.replica == NULL) {
        buf_text(body, "not started\n");
        return 503;
    }
    if (strcmp(path, "/readyz") == 0) {
        const bool serving = core_serving(core, reason);
        buf_printf(body, "%s\n", serving ? "ok" : reason);
        return serving ? 200 : 503;
    }
    if (strcmp(path, "/metrics") == 0) {
        *type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_state(core, body);
        metrics_disk(core, body);
        metrics_loop(core, body);
        metrics_counters(core, body);
        metrics_values(&core->shard, body);
        metrics_compaction(core->shard.store, body);
        return 200;
    }
    status_of(core, &status);
    if (strcmp(path, "/status") == 0) {
        *type = "application/json";
        status_json(&status, body);
        return 200;
    }
    if (strcmp(path, "/") == 0) {
        *type = "text/html; charset=utf-8";
        status_page(core, &status, body);
        return 200;
    }
    buf_text(body, "there is / /healthz /readyz /metrics /status\n");
    return 404;
}
