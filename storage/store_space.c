#include "storage/store_space.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/store_inner.h"

/* ---- compaction ----------------------------------------------------------------------------------- */

struct store_compaction store_compaction(struct store *store)
{
    const struct store_compact *job = &store->compact;
    const struct store_compaction figures = {
        .is_running = job->state != COMPACT_IDLE,
        .is_forced = job->is_forced,
        .jobs = job->jobs,
        .given_up = job->given_up,
        .bytes_read = job->bytes_read,
        .bytes_written = job->bytes_written,
        .bytes_freed = job->bytes_freed,
        .total_written = store->log.bytes_written + job->bytes_written + store->seal.bytes_written,
        .user_written = store->user_written,
        .live = shelf_live(&store->shelf),
        .garbage = store_compact_garbage(store),
    };
    return figures;
}

void store_amplification(const struct store_compaction *figures, char text[24])
{
    const uint64_t user = figures->user_written > 0 ? figures->user_written : 1;
    const uint64_t hundredths = figures->user_written > 0 ? figures->total_written * 100 / user : 0;
    (void)snprintf(text, 24, "%llu.%02llu", (unsigned long long)hundredths / 100,
                   (unsigned long long)hundredths % 100);
}

/* ---- files ---------------------------------------------------------------------------------------- */

static enum store_file_state state_of(const struct shelf_file *file)
{
    switch (file->state) {
    case SHELF_GROWING: return STORE_FILE_ACTIVE;
    case SHELF_SEALED: return STORE_FILE_SEALED;
    case SHELF_MAKING: return STORE_FILE_MAKING;
    case SHELF_RETIRED: return STORE_FILE_RETIRED;
    }
    UNREACHABLE();
}

static void visit_shelved(struct store *store, const struct shelf_file *file,
                          void (*visit)(void *context, const struct store_file *file),
                          void *context)
{
    const struct log_segment *segment = log_segment_find(&store->log, file->file.number);
    const struct log_file *known = segment != NULL ? &segment->file : &file->file;
    const struct store_file shown = {
        .number = known->number,
        .file_id = known->file_id,
        .is_table = known->is_table,
        .state = state_of(file),
        .size = segment != NULL ? segment->size : file->size,
        .used = known->used,
        .hint_size = file->hint_size,
        .live = file->live,
        .first_index = known->first_index,
        .last_index = known->last_index,
        .is_in_window = segment != NULL && known->last_index >= store->log.first_index,
        .is_damaged = file->is_blocked || damage_has(&store->damage, known->number),
    };
    visit(context, &shown);
}

/* A file that has no part in the order of entries. */
static bool is_aside(const struct shelf *shelf, const struct shelf_file *file)
{
    for (uint32_t i = 0; i < shelf->order_count; i++) {
        if (shelf->order[i] == file) return false;
    }
    return true;
}

void store_files(struct store *store, void (*visit)(void *context, const struct store_file *file),
                 void *context)
{
    const struct shelf *shelf = &store->shelf;
    const struct log *log = &store->log;
    for (uint32_t i = 0; i < shelf->order_count; i++) {
        visit_shelved(store, shelf->order[i], visit, context);
    }
    for (uint32_t i = 0; i < shelf->count; i++) {
        if (is_aside(shelf, shelf->files[i])) visit_shelved(store, shelf->files[i], visit, context);
    }
    for (uint32_t i = 0; i < log->segments_count; i++) {
        const struct log_segment *segment = log->segments[i];
        if (shelf_find(&store->shelf, segment->file.number) != NULL) continue;
        const struct shelf_file unknown = {.file = segment->file, .state = SHELF_GROWING};
        visit_shelved(store, &unknown, visit, context);
    }
    if (log->spare == NULL || log->spare->handle < 0) return;
    const struct store_file spare = {
        .number = log->spare->file.number,
        .file_id = log->spare->file.file_id,
        .state = STORE_FILE_SPARE,
        .size = log->spare->size,
        .used = log->spare->file.used,
        .first_index = log->last_index + 1,
        .last_index = log->last_index,
    };
    visit(context, &spare);
}

/* ---- pins ----------------------------------------------------------------------------------------- */

uint64_t store_pin(struct store *store)
{
    struct store_pins *pins = &store->pins;
    if (pins->count == STORE_PINS_MAX) return 0;
    const struct store_pin pin = {.id = ++pins->last_id, .retired = store->tidy.retired};
    pins->list[pins->count++] = pin;
    return pin.id;
}

static void pin_drop(struct store_pins *pins, uint32_t at)
{
    pins->count--;
    memmove(&pins->list[at], &pins->list[at + 1], (pins->count - at) * sizeof pins->list[0]);
}

void store_unpin(struct store *store, uint64_t pin)
{
    for (uint32_t i = 0; i < store->pins.count; i++) {
        if (store->pins.list[i].id != pin) continue;
        pin_drop(&store->pins, i);
        return;
    }
}

bool store_pinned(const struct store *store, uint64_t pin)
{
    for (uint32_t i = 0; i < store->pins.count; i++) {
        if (store->pins.list[i].id == pin) return true;
    }
    return false;
}

bool store_file_pinned(const struct store *store, const struct shelf_file *file)
{
    /* Files that were retired before the pin was made are not among its manifest's. A table that never was in a
     * manifest has no state to be kept for either, but that is told from its handle only by its maker. */
    return store->pins.count > 0 && store->pins.list[0].retired < file->retired && file->was_sealed;
}

void store_pins_limit(struct store *store)
{
    struct store_pins *pins = &store->pins;
    while (pins->count > 0) {
        uint64_t kept = 0;
        for (uint32_t i = 0; i < store->shelf.count; i++) {
            const struct shelf_file *file = store->shelf.files[i];
            if (file->state != SHELF_RETIRED || file->retired == 0) continue;
            if (store_file_pinned(store, file)) kept += file->size;
        }
        const uint64_t quarter = shelf_live(&store->shelf) / 4;
        const uint64_t limit = quarter > store->config.retention_size
                                   ? quarter
                                   : store->config.retention_size;
        if (kept <= limit) return;
        pin_drop(pins, 0);
    }
}

/* ---- rates ---------------------------------------------------------------------------------------- */

void store_set_rates(struct store *store, const struct store_rates *rates)
{
    store->config.retention_size = rates->retention_size;
    store->config.compaction_rate = rates->compaction_rate;
    if (store->config.scrub_rate == rates->scrub_rate) return;
    store->config.scrub_rate = rates->scrub_rate;
    store->scrub.next_ms = 0; /* What was waited for at the old rate may be long. */
}
