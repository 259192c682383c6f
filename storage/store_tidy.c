#include <stdio.h>

#include "storage/base/check.h"
#include "storage/store_inner.h"
#include "storage/table.h"

#define HELD_SHARE 4u /* One part in so many of the retention. */

static void store_tidy_done(struct disk_op *op)
{
    struct store_tidy *tidy = op->owner;
    CHECK(tidy->is_busy);
    tidy->is_done = true;
}

static void submit(struct store *store, struct disk_op op)
{
    struct store_tidy *tidy = &store->tidy;
    CHECK(!tidy->is_busy);
    tidy->is_busy = true;
    tidy->is_done = false;
    tidy->op = op;
    tidy->op.lane = DISK_LANE_BULK;
    tidy->op.done = store_tidy_done;
    tidy->op.owner = tidy;
    store->config.disk->submit(store->config.disk->context, &tidy->op);
}

void store_file_retire(struct store *store, struct shelf_file *file)
{
    CHECK(file->retired == 0);
    if (file->wants_trim) store->tidy.chores--;
    file->wants_trim = false;
    file->state = SHELF_RETIRED;
    file->retired = ++store->tidy.retired;
    file->retired_index = store->applied_index;
    /* Who asks for everything to be compacted wants the space now. */
    file->is_held = file->was_sealed && !store->compact.is_forced;
    if (file->is_held) {
        store->tidy.held++;
        store->tidy.held_size += file->size;
        store->tidy.looked_index = 0;
        store->tidy.has_held = true;
    } else {
        store->tidy.chores++;
    }
    store_pins_limit(store);
}

/* The held file that was retired first. */
static struct shelf_file *held_first(const struct store *store)
{
    struct shelf_file *first = NULL;
    for (uint32_t i = 0; i < store->shelf.count; i++) {
        struct shelf_file *file = store->shelf.files[i];
        if (file->state != SHELF_RETIRED || !file->is_held) continue;
        if (first == NULL || file->retired < first->retired) first = file;
    }
    return first;
}

uint64_t store_held_max(const struct store *store)
{
    return store->tidy.has_held ? store->config.retention_size / HELD_SHARE : 0;
}

/* Old values stay readable (store_past.h) as long as the log tells of their end, but only in what its window leaves
 * of the retention, and not on a full disk. */
static void release_held(struct store *store)
{
    struct store_tidy *tidy = &store->tidy;
    const bool is_full = log_nospace(&store->log);
    if (tidy->held == 0 || (tidy->looked_index == store->log.first_index && !is_full)) return;
    uint64_t window_size = 0;
    uint64_t held_max = store_held_max(store);
    (void)store_seal_window(store, store->config.retention_size, &window_size);
    const uint64_t left = store->config.retention_size > window_size
                              ? store->config.retention_size - window_size
                              : 0;
    if (left < held_max) held_max = left;
    tidy->looked_index = store->log.first_index;
    while (tidy->held > 0) {
        struct shelf_file *file = held_first(store);
        const bool is_over = tidy->held_size > held_max;
        /* Behind a flush nobody can ask for what was before it. */
        const bool is_void = file->retired_index < store->log.first_index ||
                             file->file.last_index < revision_index(store->flush_revision);
        if (!is_void && !is_over && !is_full) return;
        file->is_held = false;
        tidy->held--;
        tidy->held_size -= file->size;
        tidy->chores++;
    }
}

static bool is_removable(const struct store *store, const struct shelf_file *file)
{
    if (file->state != SHELF_RETIRED || file->retired == 0 || file->is_held) return false;
    if (store_file_pinned(store, file)) return false;
    return file->readers == 0 && !store_is_read(store, file->file.number);
}

static void remove_next(struct store *store, struct shelf_file *file)
{
    struct store_tidy *tidy = &store->tidy;
    struct disk *disk = store->config.disk;
    tidy->number = file->file.number;
    if (file->was_sealed && file->retired_index > store->removed_index) {
        store->removed_index = file->retired_index;
    }
    /* Closed first: then it is the removal that frees the blocks, and that is not done by this thread. */
    if (file->handle >= 0) disk->close(disk->context, file->handle);
    file->handle = -1;
    if (tidy->is_hint_gone) {
        table_file_name(tidy->name, store->config.folder, &file->file);
    } else {
        hint_name(tidy->name, store->config.folder, file->file.number);
    }
    submit(store, (struct disk_op){.kind = DISK_REMOVE, .file = -1, .name = tidy->name});
}

static void trim_next(struct store *store, struct shelf_file *file)
{
    struct store_tidy *tidy = &store->tidy;
    struct disk *disk = store->config.disk;
    const struct log_segment *segment = log_segment_find(&store->log, file->file.number);
    file->wants_trim = false;
    tidy->chores--;
    tidy->opened = -1;
    if (segment == NULL) return;
    disk_file handle = segment->handle;
    if (file->is_read_only) {
        segment_name(tidy->name, store->config.folder, file->file.number);
        if (disk->open(disk->context, tidy->name, true, &handle) != OK) return;
        tidy->opened = handle;
    }
    file->readers++;
    tidy->number = file->file.number;
    submit(store, (struct disk_op){.kind = DISK_TRIM, .file = handle, .size = file->file.used});
}

static void removed(struct store *store, struct shelf_file *file)
{
    struct store_tidy *tidy = &store->tidy;
    /* What cannot be removed now is removed by the next start. */
    tidy->is_hint_gone = !tidy->is_hint_gone;
    if (tidy->is_hint_gone) return;
    tidy->chores--;
    shelf_drop(&store->shelf, file);
}

static void result(struct store *store)
{
    struct store_tidy *tidy = &store->tidy;
    struct shelf_file *file = shelf_find(&store->shelf, tidy->number);
    CHECK(file != NULL);
    tidy->is_busy = false;
    tidy->is_done = false;
    if (tidy->op.kind == DISK_REMOVE) {
        removed(store, file);
        return;
    }
    if (tidy->op.result == ERR_IO) {
        fatal(EXIT_DISK, "%s/%08u.log: cannot be cut to its used size", store->config.folder,
              tidy->number);
    }
    file->readers--;
    if (tidy->opened >= 0) store->config.disk->close(store->config.disk->context, tidy->opened);
    struct log_segment *segment = log_segment_find(&store->log, tidy->number);
    if (segment != NULL && tidy->op.result == OK) segment->size = file->file.used;
}

/* The file to look after next; NULL: none. One of which the hint is gone comes first. */
static struct shelf_file *next_file(struct store *store)
{
    const struct shelf *shelf = &store->shelf;
    if (store->tidy.is_hint_gone) return shelf_find(&store->shelf, store->tidy.number);
    if (store->tidy.chores == 0) return NULL;
    for (uint32_t i = 0; i < shelf->count; i++) {
        struct shelf_file *file = shelf->files[i];
        if (file->wants_trim || is_removable(store, file)) return file;
    }
    return NULL;
}

void store_tidy_turn(struct store *store)
{
    struct store_tidy *tidy = &store->tidy;
    release_held(store);
    if (tidy->is_busy && !tidy->is_done) return;
    if (tidy->is_busy) result(store);
    struct shelf_file *file = next_file(store);
    if (file == NULL) return;
    if (file->wants_trim) {
        trim_next(store, file);
    } else {
        remove_next(store, file);
    }
}

uint64_t store_tidy_deadline(struct store *store)
{
    const struct store_tidy *tidy = &store->tidy;
    if (tidy->is_busy) return tidy->is_done ? 0 : UINT64_MAX;
    /* A file that is being read waits for the read, whose completion makes a turn. */
    return next_file(store) != NULL ? 0 : UINT64_MAX;
}

void store_tidy_settle(struct store *store)
{
    struct store_tidy *tidy = &store->tidy;
    if (!tidy->is_busy) return;
    if (!tidy->is_done) store->config.disk->wait(store->config.disk->context, &tidy->op);
    result(store);
}
