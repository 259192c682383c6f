#include "node/saver.h"

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/store_space.h"

/* A piece that was read and not fetched for so long makes way for another one. */
#define STALE_MS 1000u

void saver_init(struct saver *saver, uint64_t seed)
{
    *saver = (struct saver){.next_id = (hash64_seeded("saver", 5, seed) & INT64_MAX) | 1};
}

static void backup_free(struct store *store, struct saver_backup *backup)
{
    if (backup->state == SAVER_FREE) return;
    store_piece_close(store, &backup->piece);
    store_unpin(store, backup->pin);
    manifest_close(&backup->manifest);
    buf_close(&backup->bytes);
    *backup = (struct saver_backup){0};
}

void saver_close(struct saver *saver, struct store *store)
{
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) backup_free(store, &saver->backups[i]);
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
        .state = SAVER_SEALING, .owner = owner, .begun_ms = now_ms, .used_ms = now_ms};
    return unused;
}

/* The base as it is now becomes what this backup is. */
static enum err backup_open(struct saver *saver, struct store *store, struct saver_backup *backup)
{
    const char *wrong = NULL;
    store_ship_manifest(store, &backup->bytes);
    const enum err err = manifest_decode(buf_slice(&backup->bytes), &backup->manifest, &wrong);
    if (err != OK) return err;
    /* 0, when too many are out: then a file may go, and the client begins anew. */
    backup->pin = store_pin(store);
    backup->state = SAVER_OPEN;
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
        if (err != OK) backup_free(store, backup);
        *out = backup;
        return err;
    }
    if (now_ms - backup->begun_ms < SAVER_SEAL_MS) return ERR_AGAIN;
    backup_free(store, backup);
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

static enum err read_begin(struct store *store, struct saver_backup *backup, uint64_t file_id,
                           uint64_t offset, uint64_t size)
{
    const enum err err = store_piece_begin(store, &backup->piece, file_id, offset, size);
    if (err != OK) return err;
    backup->file_id = file_id;
    backup->offset = offset;
    backup->size = size;
    backup->read_ms = 0;
    return ERR_AGAIN;
}

enum err saver_read(struct saver *saver, struct store *store, uint64_t id, uint64_t file_id,
                    uint64_t offset, uint64_t size, uint64_t now_ms, struct slice *data)
{
    struct saver_backup *backup = backup_find(saver, id);
    CHECK(size > 0);
    CHECK(size <= SAVER_READ_SIZE_MAX);
    if (backup == NULL) return ERR_NOT_FOUND;
    if (manifest_find(&backup->manifest, file_id) == NULL) return ERR_NOT_FOUND;
    backup->used_ms = now_ms;
    if (backup->piece.number == 0) return read_begin(store, backup, file_id, offset, size);
    if (!backup->piece.is_done) return ERR_AGAIN;
    if (backup->read_ms == 0) backup->read_ms = now_ms;
    const bool is_ours = backup->file_id == file_id && backup->offset == offset &&
                         backup->size == size;
    if (!is_ours && now_ms - backup->read_ms < STALE_MS) return ERR_AGAIN;
    const enum err err = store_piece_take(store, &backup->piece, data);
    if (!is_ours) return read_begin(store, backup, file_id, offset, size);
    saver->read_size += data->size;
    return err;
}

/* ---- end ------------------------------------------------------------------------------------------- */

enum err saver_end(struct saver *saver, struct store *store, uint64_t id)
{
    struct saver_backup *backup = backup_find(saver, id);
    if (backup == NULL) return ERR_NOT_FOUND;
    backup_free(store, backup);
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
        if (backup->piece.number != 0 && !backup->piece.is_done) continue;
        if (backup->state != SAVER_FREE && now_ms - backup->used_ms >= SAVER_IDLE_MS) {
            backup_free(store, backup);
        }
    }
}
