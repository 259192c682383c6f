/* What a leader keeps for peers that were offered a base: the log behind it, which they need when they have it, or they
 * are offered base after base; and its files. It grows with every write, so nothing is kept for a peer that does not
 * work at it: one without room would never find the room for what grew meanwhile. */
#include "raft/replica_state.h"
#include "storage/store_space.h"

#define HOLD_MS 60000u
#define HOLD_ENTRIES_MAX (16u * 1024u * 1024u)

static struct replica_hold *hold_of(struct replica *replica, const struct peer *peer)
{
    return &replica->holds[peer - replica->peers->list];
}

static void hold_begin(struct replica *replica, struct replica_hold *hold)
{
    hold->index = hold->offered;
    hold->ms = replica->now_ms;
    hold->pin = store_pin(replica->store);
}

static void hold_end(struct replica *replica, struct replica_hold *hold)
{
    store_unpin(replica->store, hold->pin);
    hold->index = 0;
    hold->pin = 0;
    hold->is_vain = true;
}

bool replica_hold_may_offer(struct replica *replica, const struct peer *peer)
{
    const struct replica_hold *hold = hold_of(replica, peer);
    return !hold->is_vain ||
           replica->now_ms - hold->offer_ms >= replica->config.election_timeout_ms;
}

void replica_hold_offered(struct replica *replica, const struct peer *peer, uint64_t base)
{
    struct replica_hold *hold = hold_of(replica, peer);
    hold->offered = base;
    hold->offer_ms = replica->now_ms;
    /* A peer that is at work on an older base drops this offer: what it will need follows the older one. */
    if (hold->index == 0 && !hold->is_vain && peer->is_connected) hold_begin(replica, hold);
}

void replica_hold_asked(struct replica *replica, const struct peer *peer)
{
    struct replica_hold *hold = hold_of(replica, peer);
    const uint64_t last = store_last_index(replica->store);
    hold->ms = replica->now_ms;
    if (hold->index != 0 || hold->offered == 0) return;
    /* Too late: it will need another base. */
    if (hold->offered + 1 < store_first_index(replica->store)) return;
    if (last - hold->offered > HOLD_ENTRIES_MAX) return;
    hold->is_vain = false;
    hold_begin(replica, hold);
}

bool replica_hold_rejected(struct replica *replica, const struct peer *peer,
                           const struct message *message)
{
    struct replica_hold *hold = hold_of(replica, peer);
    const uint64_t base = hold->index != 0 ? hold->index : hold->offered;
    /* While it receives a base it holds nothing, and its log begins behind that base; when it has it, it holds it. */
    const bool is_idle = message->held_index > 0 || message->last_index < base;
    if (base == 0 || message->held_index >= base || !is_idle) return false;
    if (hold->index != 0) hold_end(replica, hold);
    return true;
}

void replica_hold_turn(struct replica *replica)
{
    uint64_t lowest = UINT64_MAX;
    const bool is_leader = replica_role(replica) == REPLICA_LEADER;
    const uint64_t base = store_base(replica->store).index;
    const uint64_t last = store_last_index(replica->store);
    for (uint32_t i = 0; i < replica->peers->count; i++) {
        struct replica_hold *hold = &replica->holds[i];
        if (hold->offered == 0) continue;
        const uint64_t match = replica_match(replica, replica->peers->list[i].identity.node_id);
        if (hold->index != 0 && match > hold->index) {
            hold->index = match;
            hold->ms = replica->now_ms;
        }
        const bool is_over = replica->now_ms - hold->ms >= HOLD_MS ||
                             last - hold->index > HOLD_ENTRIES_MAX;
        if (hold->index != 0 && is_over) hold_end(replica, hold);
        if (!is_leader || match >= base) {
            store_unpin(replica->store, hold->pin);
            *hold = (struct replica_hold){0};
        }
        if (hold->index != 0 && hold->index < lowest) lowest = hold->index;
    }
    store_hold(replica->store, lowest);
}
