/* core_config.c - options that change while the node runs. Most are looked at where they are needed; these are kept
 * elsewhere, too. */
#include "node/core_parts.h"
#include "storage/store_space.h"

uint64_t core_connections_max(const struct core *core)
{
    const uint64_t wanted = core->config->max_connections;
    return core->connection_room < wanted ? core->connection_room : wanted;
}

void core_set_room(struct core *core, uint64_t connections)
{
    core->connection_room = connections;
}

void core_reconfigured(struct core *core)
{
    const struct config *config = core->config;
    struct shard *shard = &core->shard;
    const struct store_rates rates = {.retention_size = config->retention_size,
                                      .compaction_rate = config->compaction_rate,
                                      .scrub_rate = config->scrub_rate};
    core->pubsub.events = config->notify_events;
    /* A store or replica that is opened later takes what is in force then. */
    if (shard->store != NULL) store_set_rates(shard->store, &rates);
    if (shard->replica != NULL) replica_set_ship_rate(shard->replica, config->ship_rate);
    const uint64_t next_ms = core->now_ms + config->check_interval_ms;
    if (shard->audit.next_ms > next_ms) shard->audit.next_ms = next_ms;
    if (core->net->log_level != NULL) {
        core->net->log_level(core->net->context, (int)config->log_level);
    }
}

void core_reload(struct core *core, const struct config *fresh)
{
    config_take_live(core->config, fresh);
    core_reconfigured(core);
}
