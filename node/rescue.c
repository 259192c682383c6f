#include "node/rescue.h"

#include <stdio.h>

#include "node/restore.h"
#include "raft/guard.h"
#include "storage/base/hash.h"
#include "storage/quarantine.h"

#define FOLDER "shard-0000"

#define SAY(...) (void)snprintf(message, RESCUE_MESSAGE_SIZE, __VA_ARGS__)

/* The newest configuration, and in it our address. */
static enum err look_at_members(struct rescue *rescue, struct identity_member *self, char *message)
{
    struct guard_configuration configuration;
    struct slice payload;
    uint64_t index = 0;
    const uint64_t id = rescue->identity.node_id;
    if (!store_change_at(rescue->store, rescue->last_index, &index, &payload) ||
        guard_decode_configuration(payload, &configuration) != OK) {
        SAY("the members of the cluster cannot be read from the log");
        return ERR_CORRUPT;
    }
    rescue->members = configuration.count;
    self->id = id;
    (void)snprintf(self->name, sizeof self->name, "%s", rescue->identity.name);
    for (uint32_t i = 0; i < configuration.count; i++) {
        const struct guard_member *member = &configuration.members[i];
        if (member->role == GUARD_VOTER) rescue->voters++;
        if (member->id != id) continue;
        (void)snprintf(self->address, sizeof self->address, "%s", member->address);
    }
    if (self->address[0] != 0) return OK;
    SAY("this node was removed from its cluster: it cannot go on with what it has");
    return ERR_INVALID;
}

/* A node in quarantine holds what it received since, which may be next to nothing. */
static enum err look_at_quarantine(const struct rescue *rescue, char *message)
{
    const struct identity *identity = &rescue->identity;
    struct quarantine quarantine = {0};
    const enum err err = quarantine_load(&quarantine, rescue->disk, FOLDER, identity->storage_id,
                                         identity->node_id, identity->incarnation, message);
    if (err != OK || quarantine.stage == QUARANTINE_NONE) return err;
    SAY("this node is in quarantine: %s was damaged (%s), its old files are in " FOLDER
        "/aside-%u; recover another node, or restore a backup",
        quarantine.fault.file, quarantine.fault.what, quarantine.aside);
    return ERR_INVALID;
}

enum err rescue_open(struct rescue *rescue, struct disk *disk, uint64_t random, char *message)
{
    struct identity_member self = {0};
    *rescue = (struct rescue){.disk = disk};
    enum err err = identity_read(disk, &rescue->identity, message);
    if (err == ERR_NOT_FOUND) SAY("there is no node in this directory");
    if (err != OK) return err;
    const struct identity *identity = &rescue->identity;
    err = look_at_quarantine(rescue, message);
    if (err != OK) return err;
    const struct store_config config = {
        .disk = disk,
        .folder = FOLDER,
        .cluster_id = identity->storage_id,
        .node_id = identity->node_id,
        .hash_seed = identity->storage_id,
        .random_seed = random,
        .segment_size = SEGMENT_SIZE_DEFAULT,
        .retention_size = SEGMENT_SIZE_DEFAULT,
        .tail_size = MIB,
    };
    err = store_open(&config, &rescue->store, message, RESCUE_MESSAGE_SIZE);
    if (err != OK) return err;
    (void)snprintf(rescue->notice, sizeof rescue->notice, "%s", message);
    message[0] = 0;
    rescue->last_index = store_last_index(rescue->store);
    rescue->last_term = store_term_at(rescue->store, rescue->last_index);
    rescue->base_index = store_base(rescue->store).index;
    rescue->stamp_ms = store_last_stamp(rescue->store);
    rescue->is_repeated = identity->is_unfinished;
    if (store_blank(rescue->store) || rescue->last_index == 0) {
        SAY("this node never held anything: there is nothing to recover");
        return ERR_NOT_FOUND;
    }
    return look_at_members(rescue, &self, message);
}

enum err rescue_run(struct rescue *rescue, uint64_t random, char *message)
{
    struct identity *identity = &rescue->identity;
    struct identity_member self = {0};
    rescue->voters = 0;
    enum err err = look_at_members(rescue, &self, message);
    if (err != OK) return err;
    if (!identity->is_unfinished) {
        const uint64_t id = hash64_seeded("recovered", 9, random ^ identity->cluster_id) &
                            INT64_MAX;
        identity->cluster_id = id != 0 ? id : 1;
    }
    identity->is_unfinished = true;
    identity->is_begun = true;
    identity->is_outdated = false; /* There is nobody any more to whom it promised anything. */
    identity->members[0] = self;
    identity->member_count = 1;
    err = identity_save(rescue->disk, identity);
    if (err == OK) err = restore_members(rescue->store, identity->members, 1);
    if (err == OK) {
        store_close(rescue->store);
        rescue->store = NULL;
        identity->is_unfinished = false;
        err = identity_save(rescue->disk, identity);
    }
    if (err != OK) SAY("the directory cannot be written: %s; run it again", err_name(err));
    return err;
}

void rescue_close(struct rescue *rescue)
{
    if (rescue->store != NULL) store_close(rescue->store);
    rescue->store = NULL;
}
