/* pubsub_notify.c - keyspace notifications: what applied entries did, as messages on channels with Redis' names. */
#include "node/config.h"
#include "node/core_parts.h"
#include "node/pubsub.h"
#include "storage/effect.h"

#define TURN_EFFECTS_MAX 2000 /* looked at in one turn */

static void publish(struct core *core, const char *prefix, struct slice name, struct slice message)
{
    struct buf channel = {0};
    buf_text(&channel, prefix);
    buf_append(&channel, name.data, name.size);
    pubsub_tell(core, buf_slice(&channel), message);
    buf_close(&channel);
}

static void tell(struct core *core, uint32_t class, const char *event, struct slice key)
{
    const uint32_t events = core->pubsub.events;
    if ((events & class) == 0) return;
    if ((events & CONFIG_EVENT_KEYSPACE) != 0) {
        publish(core, "__keyspace@0__:", key, slice_text(event));
    }
    if ((events & CONFIG_EVENT_KEYEVENT) != 0) {
        publish(core, "__keyevent@0__:", slice_text(event), key);
    }
}

static void tell_effect(struct core *core, const struct effect *effect)
{
    const struct slice key = effect->key;
    if (effect_is_internal(effect)) return;
    switch (effect->kind) {
    case EFFECT_PUT:
        if (effect->previous_revision == 0) tell(core, CONFIG_EVENT_NEW, "new", key);
        tell(core, CONFIG_EVENT_STRING, "set", key);
        break;
    case EFFECT_EXPIRE_AT:
        tell(core, CONFIG_EVENT_GENERIC, effect->expiry_ms == 0 ? "persist" : "expire", key);
        break;
    case EFFECT_DELETE:
        if ((effect->flags & EFFECT_FLAG_EXPIRED) != 0) {
            tell(core, CONFIG_EVENT_EXPIRED, "expired", key);
        } else {
            tell(core, CONFIG_EVENT_GENERIC, "del", key);
        }
        break;
    default: break; /* Redis has no event for FLUSHALL either. */
    }
}

static bool is_wanted(const struct pubsub *pubsub)
{
    const uint32_t ways = CONFIG_EVENT_KEYSPACE | CONFIG_EVENT_KEYEVENT;
    return (pubsub->events & ways) != 0 && (pubsub->events & ~ways) != 0 &&
           pubsub->subscription_count > 0;
}

/* One entry. False: the turn has done enough. */
static bool tell_entry(struct core *core, const struct record *record, int64_t *budget)
{
    struct pubsub *pubsub = &core->pubsub;
    struct effect_walk walk;
    struct effect effect;
    if (record->type != RECORD_COMMAND) return true;
    effect_walk_open(&walk, record->payload);
    if (pubsub->ordinal > 0) {
        walk.position = pubsub->position;
        walk.ordinal = pubsub->ordinal - 1;
    }
    while (effect_walk_next(&walk, &effect) == OK) {
        tell_effect(core, &effect);
        if (--*budget > 0 && list_empty(&pubsub->queue)) continue;
        pubsub->position = walk.position;
        pubsub->ordinal = walk.ordinal + 1;
        return false;
    }
    return true;
}

void pubsub_turn(struct core *core)
{
    struct pubsub *pubsub = &core->pubsub;
    struct store *store = core->shard.store;
    const uint64_t applied = store_applied_index(store);
    int64_t budget = TURN_EFFECTS_MAX;
    pubsub_work(core);
    if (!is_wanted(pubsub) || pubsub->next == 0 || pubsub->next > applied + 1) {
        pubsub->next = applied + 1; /* From now on; also after a start from an older state. */
        pubsub->ordinal = 0;
        return;
    }
    if (!list_empty(&pubsub->queue)) return; /* The next turn comes at once. */
    for (; pubsub->next <= applied; pubsub->next++, pubsub->ordinal = 0) {
        struct record record;
        struct place place;
        if (!store_records_near(store, pubsub->next)) {
            pubsub->missed++; /* Nobody waits for the disk for this. */
            continue;
        }
        const enum err err = store_records_read(store, &pubsub->records, pubsub->next, pubsub->next,
                                                &record, &place);
        if (err != OK) {
            pubsub->missed++;
            continue;
        }
        if (!tell_entry(core, &record, &budget)) {
            core->more = true;
            return;
        }
    }
}
