#include "node/restore.h"

#include <stdio.h>

#include "raft/guard.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define FOLDER "shard-0000"
#define PIECE_SIZE (1u * MIB)

#define SAY(...) (void)snprintf(message, RESTORE_MESSAGE_SIZE, __VA_ARGS__)

enum err restore_members(struct store *store, const struct identity_member *members, uint32_t count)
{
    struct guard_configuration configuration = {.count = count};
    struct buf payload = {0};
    struct buf bytes = {0};
    CHECK(count > 0);
    CHECK(count <= GUARD_MEMBERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        configuration.members[i] = (struct guard_member){
            .id = members[i].id, .address = members[i].address, .role = GUARD_VOTER};
    }
    guard_encode_configuration(&configuration, &payload);
    enum err err = guard_decode_configuration(buf_slice(&payload), &configuration);
    if (err == OK) {
        const uint64_t last = store_last_index(store);
        const uint64_t last_term = store_term_at(store, last);
        const uint64_t term = (store_term(store) > last_term ? store_term(store) : last_term) + 1;
        const struct record record = {
            .index = last + 1,
            .term = term,
            .stamp_ms = store_last_stamp(store),
            .type = RECORD_CHANGE,
            .payload = buf_slice(&payload),
        };
        record_encode(&record, &bytes);
        /* The term first: a log that is ahead of it would be refused by the next start. */
        store_save_ballot(store, term, 0);
        store_append(store, buf_slice(&bytes));
        err = store_flush_wait(store);
    } else {
        err = ERR_INVALID;
    }
    buf_close(&payload);
    buf_close(&bytes);
    return err;
}

/* ---- begin ----------------------------------------------------------------------------------------- */

static bool exists(struct disk *disk, const char *name)
{
    disk_file file = -1;
    if (disk->open(disk->context, name, false, &file) != OK) return false;
    disk->close(disk->context, file);
    return true;
}

/* Removes what an interrupted restore left: the directory was made by it, so everything in the folder is. */
static enum err empty(struct disk *disk, const char *folder)
{
    struct buf names = {0};
    enum err err = disk->list(disk->context, folder, &names);
    for (uint64_t at = 0; err == OK && at < names.size;) {
        const char *file = (const char *)names.data + at;
        char name[256];
        at += strlen(file) + 1;
        (void)snprintf(name, sizeof name, "%s/%s", folder, file);
        err = disk->remove(disk->context, name);
        if (err == ERR_NOT_FOUND) err = OK;
    }
    buf_close(&names);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err prepare_folder(struct restore *restore, char *message)
{
    struct disk *disk = restore->disk;
    struct buf note = {0};
    if (exists(disk, IDENTITY_FILE)) {
        SAY("this directory holds a node already: nothing was changed, choose an empty one");
        return ERR_EXISTS;
    }
    buf_printf(&note, "backup %016llx\n", (unsigned long long)restore->backup->header.backup_id);
    enum err err = disk->replace(disk->context, IDENTITY_RESTORING_FILE, buf_slice(&note));
    buf_close(&note);
    if (err == OK) err = empty(disk, FOLDER "/incoming");
    if (err == OK) err = empty(disk, FOLDER);
    if (err == OK) err = disk->make_folder(disk->context, FOLDER);
    if (err != OK) SAY("the directory cannot be prepared: %s", err_name(err));
    return err;
}

static enum err begin_install(struct restore *restore, char *message)
{
    struct buf bytes = {0};
    enum err err = store_open(&restore->store_config, &restore->store, message,
                              RESTORE_MESSAGE_SIZE);
    if (err != OK) return err;
    /* A log whose term is above that of the vote, or that has none beside it, would be refused. */
    store_save_ballot(restore->store, restore->manifest.base_term, 0);
    manifest_encode(&restore->manifest, &bytes);
    err = store_install_begin(restore->store, buf_slice(&bytes));
    buf_close(&bytes);
    if (err == ERR_NOSPACE) {
        SAY("there is not enough space: %llu bytes of files have to fit",
            (unsigned long long)restore->file_size);
    } else if (err != OK) {
        SAY("the backup's manifest is refused: %s", err_name(err));
    }
    return err;
}

enum err restore_begin(struct restore *restore, struct disk *disk, struct backup *backup,
                       const struct config *config, uint64_t random, char *message)
{
    const char *wrong = NULL;
    uint64_t offset = 0;
    *restore = (struct restore){.disk = disk, .backup = backup};
    enum err err = backup_manifest(backup, &restore->manifest, &wrong, &offset);
    if (err != OK) {
        SAY("the backup is damaged: offset %llu: %s", (unsigned long long)offset, wrong);
        return err;
    }
    restore->file_size = manifest_files_size(&restore->manifest);
    if (restore->manifest.shard != 0) {
        SAY("the backup is of shard %u, there is only shard 0", restore->manifest.shard);
        return ERR_INVALID;
    }
    const uint64_t origin = hash64_seeded("restored", 8, backup->header.backup_id);
    err = identity_make(config, origin, random, &restore->identity, message);
    if (err != OK) return err;
    restore->identity.storage_id = restore->manifest.cluster_id;
    restore->identity.is_begun = true;
    restore->store_config = (struct store_config){
        .disk = disk,
        .folder = FOLDER,
        .cluster_id = restore->identity.storage_id,
        .node_id = restore->identity.node_id,
        .hash_seed = restore->identity.storage_id,
        .random_seed = hash64_seeded("store", 5, random),
        .segment_size = config->segment_size,
        .tail_size = MIB,
    };
    err = prepare_folder(restore, message);
    return err == OK ? begin_install(restore, message) : err;
}

/* ---- pieces ---------------------------------------------------------------------------------------- */

enum err restore_step(struct restore *restore, char *message)
{
    uint64_t file_id = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    uint64_t at = 0;
    enum err err = store_install_wait(restore->store);
    if (err != OK) {
        SAY("a file of the backup cannot be written: %s", err_name(err));
        return err == ERR_NOT_FOUND ? ERR_IO : err;
    }
    if (!store_install_want(restore->store, &file_id, &offset, &size)) return ERR_NOT_FOUND;
    if (size > PIECE_SIZE) size = PIECE_SIZE;
    const disk_file handle = backup_handle(restore->backup, file_id);
    restore->piece.size = 0;
    uint8_t *data = buf_extend(&restore->piece, size);
    err = ERR_CORRUPT;
    if (handle >= 0) err = backup_read(restore->backup, handle, offset, data, size, &at);
    if (err != OK) {
        SAY("the backup is damaged: offset %llu: file %016llx is not as the manifest says: %s",
            (unsigned long long)at, (unsigned long long)file_id, err_name(err));
        return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    }
    err = store_install_chunk(restore->store, file_id, offset, buf_slice(&restore->piece));
    if (err != OK) {
        SAY("file %016llx of the backup: %s", (unsigned long long)file_id, err_name(err));
        return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    }
    restore->done_size += size;
    return OK;
}

/* ---- finish ---------------------------------------------------------------------------------------- */

static void store_release(struct restore *restore)
{
    if (restore->store != NULL) store_close(restore->store);
    restore->store = NULL;
}

enum err restore_finish(struct restore *restore, char *message)
{
    struct identity *identity = &restore->identity;
    enum err err = store_install_finish(restore->store);
    if (err != OK) {
        SAY("the manifest cannot be written: %s", err_name(err));
        return err;
    }
    /* As a receiver of a base: the next start finds it, and verifies that its files make the keys they ought to. */
    store_release(restore);
    restore->store_config.random_seed++;
    err = store_open(&restore->store_config, &restore->store, message, RESTORE_MESSAGE_SIZE);
    if (err != OK) return err;
    if (store_last_index(restore->store) != restore->manifest.base_index) {
        SAY("the restored log does not end where the backup does");
        return ERR_CORRUPT;
    }
    err = restore_members(restore->store, identity->members, identity->member_count);
    if (err != OK) {
        SAY(err == ERR_INVALID ? "two members have the same peer address"
                               : "the first entry of the new cluster cannot be written: %s",
            err_name(err));
        return err;
    }
    store_release(restore);
    err = identity_save(restore->disk, identity);
    if (err == OK) err = restore->disk->remove(restore->disk->context, IDENTITY_RESTORING_FILE);
    if (err != OK) SAY("the directory cannot be completed: %s", err_name(err));
    return err;
}

void restore_close(struct restore *restore)
{
    store_release(restore);
    manifest_close(&restore->manifest);
    buf_close(&restore->piece);
}
