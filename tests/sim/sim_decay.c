#include "tests/sim/sim_decay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "raft/replica.h"
#include "storage/segment.h"
#include "storage/store.h"
#include "tests/sim/sim.h"

#define NOTE "shard-0000/QUARANTINE"
#define GROUP_MAGIC 0x5247564bu /* the first bytes of a group, docs/data-file.md */

/* The node that may lose something; NULL when there is none, or when it is not the time for more. */
static struct sim_node *patient_of(struct sim *sim)
{
    if (sim->node_count < 3) return NULL;
    struct sim_node *node = &sim->nodes[sim->patient];
    return node->has_stranger ? NULL : node;
}

/* Some sealed file of @disk, which a hint stands beside; false: there is none. */
static bool choose_sealed(struct sim *sim, const struct sim_disk *disk, char *name)
{
    struct buf names = {0};
    uint64_t count = 0;
    sim_disk_names(disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const char *path = (const char *)at;
        const uint64_t size = strlen(path);
        char hint[SIM_DISK_NAME_MAX + 1];
        if (size < 14 || memcmp(path, "shard-0000/0", 12) != 0) continue;
        if (strcmp(path + size - 4, ".log") != 0 && strcmp(path + size - 4, ".tab") != 0) continue;
        (void)snprintf(hint, sizeof hint, "%.*s.idx", (int)size - 4, path);
        if (!sim_disk_exists(disk, hint)) continue;
        /* Each one with the same chance, in one pass. */
        if (sim_below(sim, ++count) != 0) continue;
        memcpy(name, path, size + 1);
        if (sim->has_bad_hints) memcpy(name, hint, size + 1);
    }
    buf_close(&names);
    return count > 0;
}

void sim_decay_rot(struct sim *sim)
{
    struct sim_node *node = patient_of(sim);
    char name[SIM_DISK_NAME_MAX + 1];
    if (node == NULL || !choose_sealed(sim, &node->disk, name)) return;
    const uint64_t size = sim_disk_file(&node->disk, name).size;
    for (uint64_t i = 1 + sim_below(sim, 3); i > 0 && size > 0; i--) {
        const uint64_t bit = sim_below(sim, size * 8);
        sim_note(sim, "n%u: bit %" PRIu64 " of %s rots for good", node->number + 1, bit, name);
        sim_disk_flip(&node->disk, name, bit);
    }
    node->is_decayed = true;
    sim->counts.decays++;
}

void sim_decay_misdirect(struct sim *sim)
{
    struct sim_node *node = patient_of(sim);
    char from[SIM_DISK_NAME_MAX + 1];
    char to[SIM_DISK_NAME_MAX + 1];
    if (node == NULL || !choose_sealed(sim, &node->disk, from)) return;
    if (!choose_sealed(sim, &node->disk, to)) return;
    const struct slice source = sim_disk_file(&node->disk, from);
    const uint64_t from_blocks = source.size / SEGMENT_BLOCK_SIZE;
    const uint64_t to_blocks = sim_disk_file(&node->disk, to).size / SEGMENT_BLOCK_SIZE;
    if (from_blocks == 0 || to_blocks == 0) return;
    const uint64_t at = sim_below(sim, from_blocks) * SEGMENT_BLOCK_SIZE;
    const uint64_t where = sim_below(sim, to_blocks) * SEGMENT_BLOCK_SIZE;
    sim_note(sim, "n%u: block %" PRIu64 " of %s lands at %" PRIu64 " of %s", node->number + 1, at,
             from, where, to);
    sim_disk_spoil(&node->disk, to, where, slice_of(source.data + at, SEGMENT_BLOCK_SIZE));
    node->is_decayed = true;
    sim->counts.decays++;
}

void sim_decay_refuse(struct sim *sim)
{
    struct sim_node *node = patient_of(sim);
    if (node == NULL) return;
    struct sim_disk *disk = &node->disk;
    if (disk->read_error[0] != 0) {
        disk->read_error[0] = 0;
        return;
    }
    if (!choose_sealed(sim, disk, disk->read_error)) return;
    sim_note(sim, "n%u cannot read %s", node->number + 1, disk->read_error);
    node->is_decayed = true;
    sim->counts.decays++;
}

/* Where some group of the newest file with more than one begins, but the last one, which nothing
 * proves: 0 when there is none. */
static uint64_t choose_group(struct sim *sim, const struct sim_disk *disk, char *name)
{
    struct buf names = {0};
    uint64_t found = 0;
    sim_disk_names(disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const char *path = (const char *)at;
        const uint64_t size = strlen(path);
        if (size < 14 || memcmp(path, "shard-0000/0", 12) != 0) continue;
        if (strcmp(path + size - 4, ".log") != 0) continue;
        const struct slice file = sim_disk_file(disk, path);
        uint64_t last = 0;
        uint64_t count = 0;
        uint64_t choice = 0;
        for (uint64_t place = SEGMENT_BLOCK_SIZE; place + GROUP_HEADER_SIZE <= file.size;
             place += SEGMENT_BLOCK_SIZE) {
            if (get_u32(file.data + place) != GROUP_MAGIC) continue;
            if (last != 0 && sim_below(sim, ++count) == 0) choice = last;
            last = place;
        }
        if (choice == 0) continue;
        found = choice;
        memcpy(name, path, size + 1);
    }
    buf_close(&names);
    return found;
}

void sim_decay_lose(struct sim *sim)
{
    struct sim_node *node = patient_of(sim);
    char name[SIM_DISK_NAME_MAX + 1];
    if (node == NULL || node->core == NULL) return;
    sim_crash(sim, node->number, sim_chance(sim, 500));
    sim_restart_later(sim, node->number, 1 + sim_below(sim, 300));
    const uint64_t at = choose_group(sim, &node->disk, name);
    if (at == 0) return;
    static const uint8_t zeros[SEGMENT_BLOCK_SIZE];
    const bool is_whole = sim_chance(sim, 500); /* or one sector of it */
    sim_note(sim, "n%u: the group at %" PRIu64 " of %s was never written", node->number + 1, at,
             name);
    sim_disk_spoil(&node->disk, name, at,
                   slice_of(zeros, is_whole ? SEGMENT_BLOCK_SIZE : SIM_DISK_SECTOR_SIZE));
    node->is_decayed = true;
    sim->counts.losses++;
}

/* ---- the wrong disk --------------------------------------------------------------------------------- */

static void bring_back(struct sim *sim, struct sim_node *node)
{
    sim_note(sim, "n%u has its own disk again", node->number + 1);
    sim_crash(sim, node->number, false);
    sim_disk_restore(&node->disk, &node->own_disk);
    sim_image_close(&node->own_disk);
    node->own_disk = (struct sim_image){0};
    node->has_stranger = false;
    node->may_refuse = false;
    node->durable = node->own_durable;
}

void sim_decay_replace(struct sim *sim)
{
    if (sim->node_count < 3) return;
    struct sim_node *node = &sim->nodes[sim->patient];
    if (node->has_stranger) {
        bring_back(sim, node);
        sim_restart_later(sim, node->number, 1 + sim_below(sim, 100));
        return;
    }
    if (node->core == NULL || sim_disk_exists(&node->disk, NOTE)) return;
    /* A start that others have seen lies between the copy and its return: else it is no older one. */
    if (!core_serving(node->core, NULL)) return;
    sim_crash(sim, node->number, false);
    /* The copy's next start would be the first or second since it was made: nobody could tell it from the right one. */
    const bool is_empty = !node->has_copy || node->copy_starts < 3 || sim_chance(sim, 300);
    sim_note(sim, "n%u gets %s disk", node->number + 1, is_empty ? "an empty" : "an older");
    sim_disk_save(&node->disk, &node->own_disk);
    node->own_durable = node->durable;
    node->durable.has_promises = false;
    sim_disk_wipe(&node->disk);
    if (!is_empty) sim_disk_restore(&node->disk, &node->copy);
    sim_image_close(&node->copy);
    sim_image_copy(&node->own_disk, &node->copy);
    node->has_copy = true;
    node->copy_starts = 0;
    node->has_stranger = true;
    node->may_refuse = true;
    sim->counts.strangers++;
    sim_restart_later(sim, node->number, 1 + sim_below(sim, 300));
}

void sim_decay_end(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->disk.read_error[0] = 0;
        if (node->has_stranger) bring_back(sim, node);
    }
}

/* ---- checks ----------------------------------------------------------------------------------------- */

bool sim_decay_is_stranger(const struct sim_node *node)
{
    return node->has_stranger;
}

/* A vote for somebody in a term in which there was none before. */
static bool has_voted(const struct sim_node *node, uint64_t term, uint64_t voted_for)
{
    if (voted_for == 0) return false;
    return term != node->quiet_term || voted_for != node->quiet_vote;
}

void sim_decay_turn(struct sim *sim, struct sim_node *node)
{
    const struct replica *replica = core_replica(node->core);
    struct store *store = core_store(node->core);
    if (replica == NULL || store == NULL) return;
    const bool is_quiet = core_quarantined(node->core) || node->has_stranger;
    const uint64_t term = store_term(store);
    const uint64_t voted_for = store_voted_for(store);
    const char *what = NULL;
    if (is_quiet && core_serving(node->core, NULL)) what = "serves";
    if (is_quiet && replica_role(replica) != REPLICA_FOLLOWER) {
        what = replica_role(replica) == REPLICA_LEADER ? "leads" : "stands for election";
    }
    /* Of two nodes the other one holds everything that was ever committed: it may be elected. */
    if (!node->has_stranger && is_quiet && sim->node_count > 2 && node->quiet_life == node->life &&
        has_voted(node, term, voted_for)) {
        what = "votes";
    }
    if (what != NULL && !(node->has_stranger && replica_role(replica) == REPLICA_CANDIDATE)) {
        sim_fail(sim, "n%u %s in term %" PRIu64 ", although it %s", node->number + 1, what, term,
                 node->has_stranger ? "has another disk" : "lost entries");
    }
    node->quiet_life = is_quiet ? node->life : 0;
    node->quiet_term = term;
    node->quiet_vote = voted_for;
}

bool sim_decay_all_whole(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (node->core == NULL || core_store(node->core) == NULL) return false;
        if (core_quarantined(node->core) || sim_disk_exists(&node->disk, NOTE)) return false;
        if (store_damage(core_store(node->core))->count > 0) return false;
    }
    return true;
}
