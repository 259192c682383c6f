#include "tests/sim/sim_decay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "node/core_parts.h"
#include "raft/replica.h"
#include "storage/segment.h"
#include "storage/store.h"
#include "tests/sim/sim.h"

#define NOTE "shard-0000/QUARANTINE"
#define GROUP_MAGIC 0x5247564bu /* the first bytes of a group, docs/data-file.md, */
#define GROUP_USED_AT 4u        /* and where it says how long it is */

/* Starts of a wrong disk in a row. */
#define EMPTY_STARTS_MAX 5u
#define COPY_STARTS_MAX 6u

/* The node that may lose something; NULL when there is none, or when it is not the time for more. */
static struct sim_node *patient_of(struct sim *sim)
{
    if (sim->node_count < 3 || sim->is_taken) return NULL;
    struct sim_node *node = &sim->nodes[sim->patient];
    return node->has_stranger ? NULL : node;
}

/* Is @path a segment or table of the replica? */
static bool is_data(const char *path)
{
    const uint64_t size = strlen(path);
    if (size < 14 || memcmp(path, "shard-0000/0", 12) != 0) return false;
    return strcmp(path + size - 4, ".log") == 0 || strcmp(path + size - 4, ".tab") == 0;
}

/* The name of the hint of @path; true: it is there, so @path is sealed. */
static bool hint_of(const struct sim_disk *disk, const char *path, char *hint)
{
    (void)snprintf(hint, SIM_DISK_NAME_MAX + 1, "%.*s.idx", (int)strlen(path) - 4, path);
    return sim_disk_exists(disk, hint);
}

/* Some sealed file of @disk, now and then its hint; false: there is none. */
static bool choose_sealed(struct sim *sim, const struct sim_disk *disk, char *name)
{
    const bool is_hint = sim_chance(sim, 250);
    struct buf names = {0};
    uint64_t count = 0;
    sim_disk_names(disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const char *path = (const char *)at;
        char hint[SIM_DISK_NAME_MAX + 1];
        if (!is_data(path) || !hint_of(disk, path, hint)) continue;
        /* Each one with the same chance, in one pass. */
        if (sim_below(sim, ++count) != 0) continue;
        memcpy(name, path, strlen(path) + 1);
        if (is_hint) memcpy(name, hint, strlen(hint) + 1);
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
    const uint64_t size = sim_disk_file(disk, disk->read_error).size;
    disk->read_error_start = 0;
    disk->read_error_end = 0;
    if (size > 0 && sim_chance(sim, 600)) {
        disk->read_error_start = sim_below(sim, size);
        disk->read_error_end = disk->read_error_start + 1 + sim_below(sim, 8192);
    }
    sim_note(sim, "n%u cannot read %s from %" PRIu64 " to %" PRIu64, node->number + 1,
             disk->read_error, disk->read_error_start, disk->read_error_end);
    node->is_decayed = true;
    sim->counts.decays++;
}

/* Calls @visit for each group of @name but the last one, which nothing proves. */
static void each_group(struct sim_node *node, const char *name,
                       void (*visit)(struct sim_node *node, const char *name, uint64_t offset,
                                     void *context),
                       void *context)
{
    const struct slice file = sim_disk_file(&node->disk, name);
    uint64_t last = 0;
    for (uint64_t at = SEGMENT_BLOCK_SIZE; at + GROUP_HEADER_SIZE <= file.size;
         at += SEGMENT_BLOCK_SIZE) {
        if (get_u32(file.data + at) != GROUP_MAGIC) continue;
        if (last != 0) visit(node, name, last, context);
        last = at;
    }
}

/* A group of the log that is not sealed. */
struct choice {
    uint64_t count;
    uint64_t offset; /* 0: none */
    char name[SIM_DISK_NAME_MAX + 1];
};

static void choose(struct sim_node *node, const char *name, uint64_t offset, void *context)
{
    struct choice *choice = context;
    if (sim_below(node->sim, ++choice->count) != 0) return;
    choice->offset = offset;
    memcpy(choice->name, name, strlen(name) + 1);
}

/* Calls @visit for each group of the unsealed segments, but for the last one of each. */
static void each_unsealed(struct sim_node *node,
                          void (*visit)(struct sim_node *node, const char *name, uint64_t offset,
                                        void *context),
                          void *context)
{
    struct buf names = {0};
    sim_disk_names(&node->disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const char *path = (const char *)at;
        char hint[SIM_DISK_NAME_MAX + 1];
        if (!is_data(path) || path[strlen(path) - 1] != 'g') continue;
        if (!hint_of(&node->disk, path, hint)) each_group(node, path, visit, context);
    }
    buf_close(&names);
}

/* Some bits of the group at @offset change. */
static void rot_group(struct sim_node *node, const char *name, uint64_t offset)
{
    struct sim *sim = node->sim;
    const struct slice file = sim_disk_file(&node->disk, name);
    uint64_t size = get_u32(file.data + offset + GROUP_USED_AT);
    if (size < GROUP_HEADER_SIZE || size > file.size - offset) size = GROUP_HEADER_SIZE;
    for (uint64_t i = 1 + sim_below(sim, 3); i > 0; i--) {
        sim_disk_flip(&node->disk, name, (offset + sim_below(sim, size)) * 8 + sim_below(sim, 8));
    }
}

void sim_decay_rot_log(struct sim *sim)
{
    struct sim_node *node = patient_of(sim);
    struct choice choice = {0};
    if (node == NULL) return;
    each_unsealed(node, choose, &choice);
    if (choice.offset == 0) return;
    sim_note(sim, "n%u: the group at %" PRIu64 " of %s rots for good", node->number + 1,
             choice.offset, choice.name);
    rot_group(node, choice.name, choice.offset);
    node->is_decayed = true;
    sim->counts.decays++;
}

/* The group at @offset never reached the disk, or one sector of it did not. */
static void lose_group(struct sim_node *node, const char *name, uint64_t offset)
{
    static const uint8_t zeros[SEGMENT_BLOCK_SIZE];
    const bool is_whole = sim_chance(node->sim, 500);
    sim_note(node->sim, "n%u: the group at %" PRIu64 " of %s was never written", node->number + 1,
             offset, name);
    sim_disk_spoil(&node->disk, name, offset,
                   slice_of(zeros, is_whole ? SEGMENT_BLOCK_SIZE : SIM_DISK_SECTOR_SIZE));
    node->is_decayed = true;
    node->sim->counts.losses++;
}

void sim_decay_lose(struct sim *sim)
{
    struct sim_node *node = patient_of(sim);
    struct choice choice = {0};
    if (node == NULL || node->core == NULL) return;
    sim_crash(sim, node->number, sim_chance(sim, 500));
    sim_restart_later(sim, node->number, 1 + sim_below(sim, 300));
    each_unsealed(node, choose, &choice);
    if (choice.offset == 0) return;
    if (sim_chance(sim, 300)) {
        sim_note(sim, "n%u: the group at %" PRIu64 " of %s rotted", node->number + 1, choice.offset,
                 choice.name);
        rot_group(node, choice.name, choice.offset);
        node->is_decayed = true;
        sim->counts.losses++;
    } else {
        lose_group(node, choice.name, choice.offset);
    }
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

/* Who never met a node, or not since it was started, cannot tell that another disk is in it. */
static bool all_know(const struct sim *sim, const struct sim_node *node)
{
    const uint64_t id = node->core->identity.node_id;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_node *other = &sim->nodes[i];
        if (other == node) continue;
        if (other->core == NULL) return false;
        const struct peers *peers = &other->core->peers;
        for (uint32_t k = 0; k < peers->count; k++) {
            const struct peer_identity *known = &peers->list[k].identity;
            if (known->node_id == id && known->start_id != node->core->identity.start_id) {
                return false;
            }
        }
    }
    return true;
}

void sim_decay_start(struct sim *sim, struct sim_node *node)
{
    if (!node->has_stranger) return;
    if (node->stranger_starts == 0) {
        bring_back(sim, node);
    } else {
        node->stranger_starts--;
    }
}

void sim_decay_replace(struct sim *sim)
{
    if (sim->node_count < 3 || sim->is_taken) return;
    struct sim_node *node = &sim->nodes[sim->patient];
    if (node->has_stranger) {
        bring_back(sim, node);
        sim_restart_later(sim, node->number, 1 + sim_below(sim, 100));
        return;
    }
    if (node->core == NULL || sim_disk_exists(&node->disk, NOTE)) return;
    /* A start that others have seen lies between the copy and its return: else it is no older one. */
    if (!core_serving(node->core, NULL) || !all_know(sim, node)) return;
    const uint64_t incarnation = node->core->identity.incarnation;
    sim_crash(sim, node->number, false);
    /* From a copy of this very start nothing but the others' memory, which may be gone, tells the right one. */
    const bool is_empty = !node->has_copy || node->copy_incarnation >= incarnation ||
                          sim_chance(sim, 300);
    sim_note(sim, "n%u gets %s disk", node->number + 1, is_empty ? "an empty" : "an older");
    sim_disk_save(&node->disk, &node->own_disk);
    node->own_durable = node->durable;
    node->durable.has_promises = false;
    sim_disk_wipe(&node->disk);
    if (!is_empty) sim_disk_restore(&node->disk, &node->copy);
    sim_image_close(&node->copy);
    sim_image_copy(&node->own_disk, &node->copy);
    node->has_copy = true;
    node->copy_incarnation = incarnation;
    node->has_stranger = true;
    node->stranger_starts = is_empty ? EMPTY_STARTS_MAX : COPY_STARTS_MAX;
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

/* ---- the last copy ---------------------------------------------------------------------------------- */

static void lose_visited(struct sim_node *node, const char *name, uint64_t offset, void *context)
{
    (void)context;
    lose_group(node, name, offset);
}

/* One bit in each block of each sealed file; the hints stay, so that it is known what is gone. */
static void rot_all(struct sim *sim, struct sim_node *node)
{
    struct buf names = {0};
    sim_disk_names(&node->disk, &names);
    for (const uint8_t *at = names.data; at < names.data + names.size;
         at += strlen((const char *)at) + 1) {
        const char *path = (const char *)at;
        char hint[SIM_DISK_NAME_MAX + 1];
        if (!is_data(path) || !hint_of(&node->disk, path, hint)) continue;
        const uint64_t size = sim_disk_file(&node->disk, path).size;
        for (uint64_t block = 0; block + SEGMENT_BLOCK_SIZE <= size; block += SEGMENT_BLOCK_SIZE) {
            sim_disk_flip(&node->disk, path, block * 8 + sim_below(sim, SEGMENT_BLOCK_SIZE * 8));
        }
    }
    buf_close(&names);
}

void sim_decay_take_all(struct sim *sim)
{
    const uint64_t way = sim_below(sim, 4);
    sim_note(sim, "the last good copies go: %s",
             way == 0 ? "logs" : (way == 1 ? "all" : "sealed files"));
    sim->is_taken = true;
    sim->counts.last_copies++;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->has_stranger) bring_back(sim, node);
        if (way <= 1) {
            sim_crash(sim, i, false);
            each_unsealed(node, lose_visited, NULL);
        }
        if (way >= 1) rot_all(sim, node);
        node->is_decayed = true;
        node->may_refuse = true;
        if (node->core == NULL) sim_restart_later(sim, i, 1 + sim_below(sim, 300));
    }
}

bool sim_decay_is_said(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (node->core == NULL && node->message[0] != 0) return true;
        if (node->core == NULL) continue;
        if (core_repairing(node->core) || core_quarantined(node->core)) return true;
        if (store_damage(core_store(node->core))->count > 0) return true;
    }
    return false;
}

/* ---- checks ----------------------------------------------------------------------------------------- */

bool sim_decay_any(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim->nodes[i].is_decayed) return true;
    }
    return false;
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
