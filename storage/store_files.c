#include "storage/base/check.h"
#include "storage/store_inner.h"

const struct log_file *store_file_of_id(const struct store *store, uint64_t file_id)
{
    const struct log_file *listed = manifest_find(&store->manifest, file_id);
    for (uint32_t i = 0; i < store->shelf.count && listed == NULL; i++) {
        const struct shelf_file *file = store->shelf.files[i];
        const bool is_kept = file->state == SHELF_RETIRED && file->was_sealed && file->handle >= 0;
        if (is_kept && file->file.file_id == file_id) listed = &file->file;
    }
    return listed;
}

enum err store_file_handle(struct store *store, uint32_t number, disk_file *handle, uint64_t *used)
{
    const struct log_segment *segment = log_segment_find(&store->log, number);
    if (segment != NULL) {
        *handle = segment->handle;
        *used = segment->file.used;
        return segment->handle >= 0 ? OK : ERR_IO; /* It was gone when this start looked. */
    }
    const struct shelf_file *file = shelf_find(&store->shelf, number);
    if (file == NULL || file->handle < 0) return ERR_NOT_FOUND;
    *handle = file->handle;
    *used = file->file.used;
    return OK;
}

void store_file_acquire(struct store *store, uint32_t number)
{
    struct shelf_file *file = shelf_find(&store->shelf, number);
    CHECK(file != NULL);
    file->readers++;
}

void store_file_release(struct store *store, uint32_t number)
{
    struct shelf_file *file = shelf_find(&store->shelf, number);
    CHECK(file != NULL);
    CHECK(file->readers > 0);
    file->readers--;
}

struct shelf_file *store_file_growing(struct store *store, uint32_t number, uint64_t index)
{
    struct shelf_file *file = shelf_find(&store->shelf, number);
    if (file == NULL) {
        const struct log_segment *segment = log_segment_find(&store->log, number);
        CHECK(segment != NULL);
        struct log_file growing = segment->file;
        growing.first_index = index;
        growing.last_index = index;
        file = shelf_add(&store->shelf, &growing);
    }
    CHECK(file->state == SHELF_GROWING);
    file->file.last_index = index;
    return file;
}

void store_file_sealed(struct store *store, const struct log_segment *segment)
{
    struct shelf_file *file = shelf_find(&store->shelf, segment->file.number);
    /* A segment without an entry that counts holds no effects, and so was not put here so far. */
    if (file == NULL) file = shelf_add(&store->shelf, &segment->file);
    CHECK(file->state == SHELF_GROWING);
    file->file = segment->file;
    file->state = SHELF_SEALED;
    const struct store_growth *growth = store_growth(store, segment);
    file->hint_size = growth->hint_size;
    file->items = growth->items;
    file->wants_trim = segment->size > segment->file.used;
    if (file->wants_trim) store->tidy.chores++;
}

void store_files_close(struct store *store)
{
    struct disk *disk = store->config.disk;
    for (uint32_t i = 0; i < store->shelf.count; i++) {
        const struct shelf_file *file = store->shelf.files[i];
        if (file->handle >= 0) disk->close(disk->context, file->handle);
    }
    shelf_close(&store->shelf);
}
