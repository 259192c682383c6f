#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/store_inner.h"

#define PIECE_SIZE (256u * KIB)
#define PAUSE_MS 10000u /* between two passes */

static void store_scrub_done(struct disk_op *op)
{
    struct store_scrub *scrub = op->owner;
    CHECK(scrub->is_busy);
    scrub->is_done = true;
}

static void submit(struct store *store, struct disk_op op)
{
    struct store_scrub *scrub = &store->scrub;
    CHECK(!scrub->is_busy);
    scrub->is_busy = true;
    scrub->is_done = false;
    scrub->op = op;
    scrub->op.done = store_scrub_done;
    scrub->op.owner = scrub;
    store->config.disk->submit(store->config.disk->context, &scrub->op);
}

/* ---- one file ------------------------------------------------------------------------------------- */

static void file_begin(struct store *store, const struct log_file *file)
{
    struct store_scrub *scrub = &store->scrub;
    const struct hint_source source = {
        .cluster_id = store->config.cluster_id,
        .shard = store->config.shard,
        .file = file,
    };
    scrub->file = *file;
    scrub->offset = 0;
    scrub->state = SCRUB_FILE;
    hint_build_open(&scrub->build, &source);
    store_file_acquire(store, file->number);
}

static void file_end(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    hint_build_close(&scrub->build);
    buf_close(&scrub->piece);
    store_file_release(store, scrub->file.number);
    scrub->state = SCRUB_IDLE;
}

/* The next bytes of the file or of its hint, and when those behind them may be read. */
static void piece_read(struct store *store, disk_file handle, uint64_t end, uint64_t now_ms)
{
    struct store_scrub *scrub = &store->scrub;
    const uint64_t left = end - scrub->offset;
    const uint64_t size = left < PIECE_SIZE ? left : PIECE_SIZE;
    const uint64_t ms = size * 1000 / store->config.scrub_rate;
    scrub->piece.size = 0;
    scrub->next_ms = now_ms + (ms > 0 ? ms : 1);
    scrub->bytes += size;
    scrub->pass_bytes += size;
    submit(store, (struct disk_op){.kind = DISK_READ,
                                   .lane = DISK_LANE_BULK,
                                   .file = handle,
                                   .name = handle < 0 ? scrub->name : NULL,
                                   .offset = scrub->offset,
                                   .size = size,
                                   .into = buf_extend(&scrub->piece, size)});
}

static void file_damaged(struct store *store, uint64_t offset)
{
    const struct store_scrub *scrub = &store->scrub;
    store_note_damage(store, scrub->file.number, offset, SEGMENT_BLOCK_SIZE);
    file_end(store);
}

static void file_taken(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    if (scrub->op.result != OK) {
        file_damaged(store, scrub->offset);
        return;
    }
    scrub->offset += scrub->piece.size;
    enum err err = hint_build_feed(&scrub->build, buf_slice(&scrub->piece));
    if (err == OK && scrub->offset == scrub->file.used) {
        err = hint_build_finish(&scrub->build);
        scrub->state = SCRUB_HINT;
        scrub->offset = 0;
        hint_name(scrub->name, store->config.folder, scrub->file.number);
    }
    if (err != OK) file_damaged(store, scrub->build.offset);
}

static void hint_write(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    scrub->state = SCRUB_WRITE;
    scrub->hints++;
    submit(store, (struct disk_op){.kind = DISK_REPLACE,
                                   .lane = DISK_LANE_BACKGROUND,
                                   .file = -1,
                                   .name = scrub->name,
                                   .data = buf_slice(&scrub->build.hint.bytes)});
}

/* The hint must be what the file makes it, byte by byte. */
static void hint_taken(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    const struct buf *hint = &scrub->build.hint.bytes;
    const struct slice expected = slice_of(hint->data + scrub->offset, scrub->piece.size);
    if (scrub->op.result != OK || !slice_equal(buf_slice(&scrub->piece), expected)) {
        hint_write(store);
        return;
    }
    scrub->offset += scrub->piece.size;
    if (scrub->offset == hint->size) file_end(store);
}

static void hint_written(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    struct shelf_file *file = shelf_find(&store->shelf, scrub->file.number);
    /* A full disk: the next pass tries again. Any other failure is the disk's end. */
    if (scrub->op.result != OK && scrub->op.result != ERR_NOSPACE) {
        fatal(EXIT_DISK, "%s: cannot be written: %s", scrub->name, err_name(scrub->op.result));
    }
    if (scrub->op.result == OK) {
        file->hint_size = scrub->build.hint.bytes.size;
        file->items = scrub->build.hint.entry_count;
        file->hint_failures = 0;
    }
    file_end(store);
}

/* ---- all of them ---------------------------------------------------------------------------------- */

/* The file that somebody has doubts about; NULL: none, or it is gone, or known to be damaged. */
static const struct log_file *take_doubtful(struct store *store)
{
    const uint32_t number = store->scrub.doubtful;
    store->scrub.doubtful = 0;
    if (number == 0 || damage_has(&store->damage, number)) return NULL;
    for (uint32_t i = 0; i < store->manifest.file_count; i++) {
        if (store->manifest.files[i].number == number) return &store->manifest.files[i];
    }
    return NULL;
}

/* The sealed file with the lowest number above those that were looked at; NULL: the pass is complete. */
static const struct log_file *next_file(const struct store *store)
{
    const struct log_file *best = NULL;
    for (uint32_t i = 0; i < store->manifest.file_count; i++) {
        const struct log_file *file = &store->manifest.files[i];
        if (file->number <= store->scrub.number) continue;
        if (damage_has(&store->damage, file->number)) continue; /* It is to be repaired. */
        if (best == NULL || file->number < best->number) best = file;
    }
    return best;
}

static void result(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    scrub->is_busy = false;
    scrub->is_done = false;
    switch (scrub->state) {
    case SCRUB_FILE: file_taken(store); return;
    case SCRUB_HINT: hint_taken(store); return;
    case SCRUB_WRITE: hint_written(store); return;
    case SCRUB_IDLE: break;
    }
    UNREACHABLE();
}

static bool is_doubting(const struct store_scrub *scrub)
{
    return scrub->state == SCRUB_IDLE && scrub->doubtful != 0;
}

/* True: there is a file to look at. */
static bool choose(struct store *store, uint64_t now_ms)
{
    struct store_scrub *scrub = &store->scrub;
    const struct log_file *file = take_doubtful(store);
    if (file != NULL) {
        file_begin(store, file);
        return true;
    }
    file = next_file(store);
    if (file == NULL) {
        if (scrub->pass_bytes > 0) scrub->passes++;
        scrub->pass_bytes = 0;
        scrub->number = 0;
        scrub->next_ms = now_ms + PAUSE_MS;
        return false;
    }
    scrub->number = file->number;
    file_begin(store, file);
    return true;
}

void store_scrub_turn(struct store *store, uint64_t now_ms)
{
    struct store_scrub *scrub = &store->scrub;
    if (scrub->is_busy && !scrub->is_done) return;
    if (scrub->is_busy) result(store);
    if (scrub->is_busy || store->config.scrub_rate == 0) return;
    if (now_ms < scrub->next_ms && !is_doubting(scrub)) return;
    if (scrub->state == SCRUB_IDLE && !choose(store, now_ms)) return;
    if (scrub->state == SCRUB_HINT) {
        piece_read(store, -1, scrub->build.hint.bytes.size, now_ms);
        return;
    }
    disk_file handle = -1;
    uint64_t used = 0;
    const enum err err = store_file_handle(store, scrub->file.number, &handle, &used);
    if (err != OK || handle < 0) {
        file_damaged(store, scrub->offset);
        return;
    }
    piece_read(store, handle, scrub->file.used, now_ms);
}

uint64_t store_scrub_deadline(const struct store *store)
{
    const struct store_scrub *scrub = &store->scrub;
    if (scrub->is_busy) return scrub->is_done ? 0 : UINT64_MAX;
    if (store->config.scrub_rate == 0 || store->manifest.file_count == 0) return UINT64_MAX;
    if (is_doubting(scrub)) return 0;
    return scrub->next_ms;
}

void store_scrub_close(struct store *store)
{
    struct store_scrub *scrub = &store->scrub;
    struct disk *disk = store->config.disk;
    if (scrub->is_busy && !scrub->is_done) disk->wait(disk->context, &scrub->op);
    scrub->is_busy = false;
    scrub->is_done = false;
    if (scrub->state != SCRUB_IDLE) file_end(store);
}
