#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/store_inner.h"

/* ---- sending -------------------------------------------------------------------------------------- */

void store_ship_manifest(struct store *store, struct buf *out)
{
    CHECK(store->manifest.base_index > 0);
    manifest_encode(&store->manifest, out);
}

enum err store_ship_read(struct store *store, uint64_t file_id, uint64_t offset, uint64_t size,
                         struct buf *out)
{
    const struct log_file *file = manifest_find(&store->manifest, file_id);
    if (file == NULL) return ERR_NOT_FOUND;
    if (offset >= file->used) return ERR_NOT_FOUND;
    if (size > file->used - offset) size = file->used - offset;
    uint8_t *at = buf_reserve(out, size);
    /* Not verified here: the receiver verifies the file as a whole and asks again. */
    const enum err err = store_file_read(store, file->number, offset, at, size);
    if (err == OK) out->size += size;
    return err;
}

/* ---- receiving ------------------------------------------------------------------------------------ */

enum err store_install_begin(struct store *store, struct slice manifest)
{
    CHECK(!store->is_replaced);
    return snapshot_begin(&store->incoming, manifest, store->applied_index);
}

bool store_install_want(const struct store *store, uint64_t *file_id, uint64_t *offset,
                        uint64_t *size)
{
    return snapshot_want(&store->incoming, file_id, offset, size);
}

enum err store_install_chunk(struct store *store, uint64_t file_id, uint64_t offset,
                             struct slice data)
{
    CHECK(!store->is_replaced);
    return snapshot_chunk(&store->incoming, file_id, offset, data);
}

enum err store_install_finish(struct store *store)
{
    CHECK(!store->is_replaced);
    struct snapshot *incoming = &store->incoming;
    if (!snapshot_complete(incoming)) return ERR_AGAIN;

    /* From here on this process makes no file: one with a number above those of the received files
     * would read as the continuation of their log. */
    store_seal_settle(store);
    log_stop(&store->log);
    const uint32_t count = incoming->manifest.file_count;
    uint32_t *numbers = mem_alloc(count * sizeof *numbers);
    for (uint32_t i = 0; i < count; i++) numbers[i] = log_take_number(&store->log);
    const enum err err = snapshot_commit(incoming, store->manifest.number + 1, numbers);
    mem_free(numbers);
    if (err == ERR_NOSPACE) return err;
    if (err != OK) {
        fatal(EXIT_DISK, "%s/" MANIFEST_NAME ": cannot be written: %s", store->config.folder,
              err_name(err));
    }
    store->is_replaced = true;
    return OK;
}

void store_install_abort(struct store *store)
{
    snapshot_abort(&store->incoming);
}
