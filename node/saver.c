#include "node/saver.h"
#include "storage/store_ship.h"
#include "storage/store_space.h"

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/table.h"

#define STALE_MS                                                                                   \
    1000u /* A piece that was read and not fetched for so long makes way for another one. */

void saver_init(struct saver *saver, struct disk *disk, const char *folder, uint64_t seed)
{
    *saver = (struct saver){.disk = disk, .folder = folder};
    saver->next_id = (hash64_seeded("saver", 5, seed) & INT64_MAX) | 1;
}

static void backup_free(struct saver *saver, struct store *store, struct saver_backup *backup)
{
    if (backup->state == SAVER_FREE) return;
    store_unpin(store, backup->pin);
    if (backup->is_reading && !backup->is_read)
        saver->disk->wait(saver->disk->context, &backup->op);
    if (backup->file >= 0) saver->disk->close(saver->disk->context, backup->file);
    manifest_close(&backup->manifest);
    buf_close(&backup->bytes);
    mem_free(backup->data);
    *backup = (struct saver_backup){.file = -1};
}

void saver_close(struct saver *saver, struct store *store)
{
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) backup_free(saver, store, &saver->backups[i]);
}

/* ---- begin ----------------------------------------------------------------------------------------- */

static struct saver_backup *backup_of(struct saver *saver, uint64_t owner, uint64_t now_ms)
{
    struct saver_backup *unused = NULL;
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) {
        struct saver_backup *backup = &saver->backups[i];
        if (backup->state == SAVER_SEALING && backup->owner == owner) return backup;
        if (backup->state == SAVER_FREE) unused = backup;
    }
    if (unused == NULL) return NULL;
    *unused = (struct saver_backup){
        .state = SAVER_SEALING, .owner = owner, .begun_ms = now_ms, .used_ms = now_ms, .file = -1};
    return unused;
}

/* The base as it is now becomes what this backup is. */
static enum err backup_open(struct saver *saver, struct store *store, struct saver_backup *backup)
{
    const char *wrong = NULL;
    store_ship_manifest(store, &backup->bytes);
    const enum err err = manifest_decode(buf_slice(&backup->bytes), &backup->manifest, &wrong);
    if (err != OK) return err;
    backup->state = SAVER_OPEN;
    backup->pin = store_pin(store);
    backup->id = saver->next_id;
    saver->next_id = (saver->next_id + 1) & INT64_MAX;
    saver->begun_count++;
    return OK;
}

enum err saver_begin(struct saver *saver, struct store *store, uint64_t owner, uint64_t index,
                     uint64_t now_ms, const struct saver_backup **out)
{
    struct saver_backup *backup = backup_of(saver, owner, now_ms);
    if (backup == NULL) return ERR_FULL;
    backup->index = index;
    backup->used_ms = now_ms;
    if (index <= store_applied_index(store) && store_seal_upto(store, index) &&
        store_base(store).index > 0) {
        const enum err err = backup_open(saver, store, backup);
        if (err != OK) backup_free(saver, store, backup);
        *out = backup;
        return err;
    }
    if (now_ms - backup->begun_ms < SAVER_SEAL_MS) return ERR_AGAIN;
    backup_free(saver, store, backup);
    return ERR_INVALID;
}

/* ---- read ------------------------------------------------------------------------------------------ */

static struct saver_backup *backup_find(struct saver *saver, uint64_t id)
{
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) {
        struct saver_backup *backup = &saver->backups[i];
        if (backup->state == SAVER_OPEN && backup->id == id) return backup;
    }
    return NULL;
}

static void saver_read_done(struct disk_op *op)
{
    struct saver_backup *backup = op->owner;
    CHECK(backup->is_reading);
    backup->is_read = true;
}

static enum err file_open(struct saver *saver, struct saver_backup *backup,
                          const struct log_file *file)
{
    char name[SEGMENT_NAME_SIZE];
    struct disk *disk = saver->disk;
    if (backup->file >= 0 && backup->file_id == file->file_id) return OK;
    if (backup->file >= 0) disk->close(disk->context, backup->file);
    backup->file = -1;
    backup->file_id = file->file_id;
    table_file_name(name, saver->folder, file);
    return disk->open(disk->context, name, false, &backup->file);
}

static enum err read_submit(struct saver *saver, struct saver_backup *backup,
                            const struct log_file *file, uint64_t offset, uint64_t size)
{
    if (offset >= file->used) return ERR_NOT_FOUND;
    if (size > file->used - offset) size = file->used - offset;
    const enum err err = file_open(saver, backup, file);
    if (err != OK) return err;
    if (backup->data == NULL) backup->data = mem_alloc(SAVER_READ_SIZE_MAX);
    backup->is_reading = true;
    backup->is_read = false;
    backup->op = (struct disk_op){
        .kind = DISK_READ,
        .lane = DISK_LANE_BULK,
        .file = backup->file,
        .offset = offset,
        .size = size,
        .into = backup->data,
        .done = saver_read_done,
        .owner = backup,
    };
    saver->disk->submit(saver->disk->context, &backup->op);
    return ERR_AGAIN;
}

enum err saver_read(struct saver *saver, struct store *store, uint64_t id, uint64_t file_id,
                    uint64_t offset, uint64_t size, uint64_t now_ms, struct slice *data)
{
    (void)store;
    struct saver_backup *backup = backup_find(saver, id);
    CHECK(size > 0);
    CHECK(size <= SAVER_READ_SIZE_MAX);
    if (backup == NULL) return ERR_NOT_FOUND;
    const struct log_file *file = manifest_find(&backup->manifest, file_id);
    if (file == NULL) return ERR_NOT_FOUND;
    backup->used_ms = now_ms;
    if (!backup->is_reading) return read_submit(saver, backup, file, offset, size);
    if (!backup->is_read) return ERR_AGAIN;
    if (backup->read_ms == 0) backup->read_ms = now_ms;
    const bool is_ours = backup->file_id == file_id && backup->op.offset == offset &&
                         backup->op.size <= size;
    if (!is_ours && now_ms - backup->read_ms < STALE_MS) return ERR_AGAIN;
    backup->is_reading = false;
    backup->read_ms = 0;
    if (!is_ours) return read_submit(saver, backup, file, offset, size);
    *data = slice_of(backup->data, backup->op.size);
    saver->read_size += backup->op.size;
    return backup->op.result;
}

/* ---- end ------------------------------------------------------------------------------------------- */

enum err saver_end(struct saver *saver, struct store *store, uint64_t id)
{
    struct saver_backup *backup = backup_find(saver, id);
    if (backup == NULL) return ERR_NOT_FOUND;
    backup_free(saver, store, backup);
    return OK;
}

bool saver_active(const struct saver *saver)
{
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) {
        if (saver->backups[i].state != SAVER_FREE) return true;
    }
    return false;
}

void saver_tick(struct saver *saver, struct store *store, uint64_t now_ms)
{
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) {
        struct saver_backup *backup = &saver->backups[i];
        /* A wait for the disk here would be one of the whole node. */
        if (backup->is_reading && !backup->is_read) continue;
        if (backup->state != SAVER_FREE && now_ms - backup->used_ms >= SAVER_IDLE_MS) {
            backup_free(saver, store, backup);
        }
    }
}
