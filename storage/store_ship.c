#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/store_inner.h"
#include "storage/store_ship.h"

/* ---- sending -------------------------------------------------------------------------------------- */

void store_ship_manifest(struct store *store, struct buf *out)
{
    CHECK(store->manifest.base_index > 0);
    manifest_encode(&store->manifest, out);
}

void store_ship_doubt(struct store *store, uint64_t file_id)
{
    const struct log_file *file = manifest_find(&store->manifest, file_id);
    if (file != NULL && !damage_has(&store->damage, file->number)) {
        store->scrub.doubtful = file->number;
    }
}

static void store_piece_done(struct disk_op *op)
{
    struct store_piece *piece = op->owner;
    piece->is_done = true;
}

enum err store_piece_begin(struct store *store, struct store_piece *piece, uint64_t file_id,
                           uint64_t offset, uint64_t size)
{
    CHECK(piece->number == 0);
    disk_file handle = -1;
    uint64_t used = 0;
    const struct log_file *file = store_file_of_id(store, file_id);
    if (file == NULL) return ERR_NOT_FOUND;
    const enum err err = store_file_handle(store, file->number, &handle, &used);
    if (err != OK) return err;
    if (offset >= file->used) return ERR_NOT_FOUND;
    if (size > file->used - offset) size = file->used - offset;
    piece->number = file->number;
    piece->is_done = false;
    piece->bytes.size = 0;
    piece->op = (struct disk_op){
        .kind = DISK_READ,
        .lane = DISK_LANE_BULK,
        .file = handle,
        .offset = offset,
        .size = size,
        .into = buf_extend(&piece->bytes, size),
        .done = store_piece_done,
        .owner = piece,
    };
    store_file_acquire(store, piece->number);
    store->config.disk->submit(store->config.disk->context, &piece->op);
    return OK;
}

enum err store_piece_take(struct store *store, struct store_piece *piece, struct slice *bytes)
{
    CHECK(piece->number > 0);
    CHECK(piece->is_done);
    const enum err err = piece->op.result;
    if (err != OK) store_note_damage(store, piece->number, piece->op.offset, piece->op.size);
    store_file_release(store, piece->number);
    piece->number = 0;
    *bytes = buf_slice(&piece->bytes);
    return err;
}

void store_piece_close(struct store *store, struct store_piece *piece)
{
    struct slice bytes;
    if (piece->number > 0) {
        if (!piece->is_done) store->config.disk->wait(store->config.disk->context, &piece->op);
        (void)store_piece_take(store, piece, &bytes);
    }
    buf_close(&piece->bytes);
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

enum err store_install_fits(struct store *store, struct slice manifest)
{
    return snapshot_fits(&store->incoming, manifest);
}

void store_install_progress(const struct store *store, uint64_t *here, uint64_t *all)
{
    snapshot_progress(&store->incoming, here, all);
}

enum err store_install_turn(struct store *store)
{
    return snapshot_turn(&store->incoming);
}

bool store_install_busy(const struct store *store)
{
    return snapshot_busy(&store->incoming);
}

bool store_install_full(const struct store *store)
{
    return snapshot_full(&store->incoming);
}

enum err store_install_wait(struct store *store)
{
    return snapshot_wait(&store->incoming);
}

enum err store_install_finish(struct store *store)
{
    CHECK(!store->is_replaced);
    struct snapshot *incoming = &store->incoming;
    if (!snapshot_complete(incoming)) return ERR_AGAIN;

    /* From here on this process makes no file: one with a number above those of the received files
     * would read as the continuation of their log. */
    store_seal_settle(store);
    store_compact_abandon(store);
    store_scrub_close(store);
    store_tidy_settle(store);
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
