#include "storage/store_past.h"

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/hint_build.h"
#include "storage/log_index.h"
#include "storage/store_inner.h"

#define EFFECTS_MIN 64u
#define UNIT_SIZE (16u * KIB) /* bytes that cost as much to verify as one effect to look at */

struct store_chunk {
    struct list link; /* In store.pieces. */
    struct disk_op op;
    uint32_t number; /* of the file */
    char name[HINT_NAME_SIZE];
    struct buf bytes;
    bool is_done;
    bool is_orphan;                /* Nobody wants it any more. */
    struct store_records *records; /* Whose it is; NULL: a view's, or nobody's. */
};

struct store_past_file {
    uint32_t number;
    bool is_log; /* Its entries are read one by one. */
    uint64_t first_index;
    uint64_t last_index;
};

/* ---- what is kept ---------------------------------------------------------------------------------- */

uint64_t store_oldest_revision(const struct store *store)
{
    uint64_t oldest = revision_of(store->log.first_index, 0);
    const uint64_t compacted = store->removed_index;
    if (compacted > 0 && revision_of(compacted, BATCH_EFFECTS_MAX) > oldest) {
        oldest = revision_of(compacted, BATCH_EFFECTS_MAX);
    }
    if (store->flush_revision > oldest) oldest = store->flush_revision;
    /* With a log of no entries there is still the present. */
    const uint64_t newest = store_newest_revision(store);
    return oldest < newest ? oldest : newest;
}

uint64_t store_newest_revision(const struct store *store)
{
    return revision_of(store->applied_index, BATCH_EFFECTS_MAX);
}

/* ---- pieces of files --------------------------------------------------------------------------------- */

static void store_chunk_done(struct disk_op *op)
{
    struct store_chunk *chunk = op->owner;
    chunk->is_done = true;
}

/* @handle -1: of the hint of that file. */
static struct store_chunk *chunk_begin(struct store *store, uint32_t number, disk_file handle,
                                       uint64_t offset, uint64_t size)
{
    struct store_chunk *chunk = mem_zero(sizeof *chunk);
    chunk->number = number;
    if (handle < 0) hint_name(chunk->name, store->config.folder, number);
    chunk->op = (struct disk_op){.kind = DISK_READ,
                                 .lane = DISK_LANE_READ,
                                 .file = handle,
                                 .name = chunk->name,
                                 .offset = offset,
                                 .size = size,
                                 .done = store_chunk_done,
                                 .owner = chunk};
    (void)buf_reserve_exact(&chunk->bytes, size);
    chunk->op.into = buf_extend(&chunk->bytes, size);
    list_init(&chunk->link);
    list_append(&store->chunks, &chunk->link);
    store->config.disk->submit(store->config.disk->context, &chunk->op);
    return chunk;
}

static void chunk_free(struct store_chunk *chunk)
{
    CHECK(chunk->is_done);
    list_remove(&chunk->link);
    buf_close(&chunk->bytes);
    mem_free(chunk);
}

static void chunk_end(struct store_chunk *chunk)
{
    if (chunk == NULL) return;
    chunk->is_orphan = true;
    chunk->records = NULL;
    if (chunk->is_done) chunk_free(chunk);
}

bool store_chunks_has(const struct store *store, uint32_t number)
{
    for (const struct list *at = store->chunks.next; at != &store->chunks; at = at->next) {
        if (LIST_ITEM(at, const struct store_chunk, link)->number == number) return true;
    }
    return false;
}

void store_pasts_turn(struct store *store)
{
    for (struct list *at = store->chunks.next, *next; at != &store->chunks; at = next) {
        next = at->next;
        struct store_chunk *chunk = LIST_ITEM(at, struct store_chunk, link);
        if (chunk->is_orphan && chunk->is_done) chunk_free(chunk);
    }
}

/* ---- entries ------------------------------------------------------------------------------------------ */

/* The record at @located in what was read, if it is there. */
static enum err from_chunk(const struct store_chunk *chunk, const struct log_located *located,
                           uint64_t index, struct record *record)
{
    uint64_t size = 0;
    if (chunk == NULL || chunk->number != located->place.file) return ERR_MORE;
    const uint64_t begin = chunk->op.offset;
    const uint64_t offset = located->place.offset;
    if (offset < begin || offset + located->size > begin + chunk->op.size) return ERR_MORE;
    if (!chunk->is_done) return ERR_AGAIN;
    if (chunk->op.result != OK) return chunk->op.result == ERR_IO ? ERR_IO : ERR_CORRUPT;
    const struct slice bytes = slice_of(chunk->bytes.data + (offset - begin), located->size);
    if (record_decode(bytes, record, &size) != OK || size != located->size) return ERR_CORRUPT;
    return record->index == index ? OK : ERR_CORRUPT;
}

enum err store_records_read(struct store *store, struct store_records *records, uint64_t index,
                            uint64_t other, struct record *record, struct place *place)
{
    struct log_located located;
    uint64_t size = 0;
    if (index > store->applied_index) return ERR_NOT_FOUND;
    if (other > store->applied_index) other = store->applied_index;
    enum err err = log_locate(&store->log, index, other, &located);
    if (err != OK) return err;
    *place = located.place;
    if (located.memory.data != NULL) {
        err = record_decode_trusted(located.memory, record, &size);
        return err == OK ? OK : ERR_CORRUPT;
    }
    err = from_chunk(records->chunk, &located, index, record);
    if (err == ERR_CORRUPT || err == ERR_IO) store_note_entry(store, index);
    if (err != ERR_MORE) return err;
    chunk_end(records->chunk);
    records->chunk = chunk_begin(store, located.place.file, located.handle, located.span_offset,
                                 located.span_size);
    records->chunk->records = records;
    return ERR_AGAIN;
}

bool store_records_near(const struct store *store, uint64_t index)
{
    struct log_located located;
    return log_locate(&store->log, index, index, &located) == OK && located.memory.data != NULL;
}

bool store_records_waits(const struct store_records *records)
{
    return records->chunk != NULL && !records->chunk->is_done;
}

void store_records_close(struct store *store, struct store_records *records)
{
    if (store != NULL) chunk_end(records->chunk);
    records->chunk = NULL;
}

/* ---- a view ------------------------------------------------------------------------------------------- */

static struct store_past *view_at(struct list *at)
{
    return (struct store_past *)(void *)LIST_ITEM(at, struct past, link);
}

/* The memory of all is shared out anew. */
static void share(struct store *store)
{
    const uint64_t each = STORE_PASTS_SIZE / (store->past_count > 4 ? store->past_count : 4);
    for (struct list *at = store->pasts.next; at != &store->pasts; at = at->next) {
        view_at(at)->past.size_max = store->past_size_max > 0 ? store->past_size_max : each;
    }
}

static void lose(struct store_past *view, enum err why)
{
    view->state = STORE_PAST_LOST;
    view->why = why;
}

static void begin(struct store_past *view)
{
    struct store *store = view->store;
    struct past *past = &view->past;
    view->next = revision_index(past->revision);
    view->effect_at = 0;
    if (past->revision >= store_newest_revision(store)) {
        past->stamp_ms = store->stamp_ms;
        view->state = STORE_PAST_READY;
        return;
    }
    view->state = STORE_PAST_SCAN;
    store->past_passes++;
}

struct store_past *store_past_open(struct store *store, uint64_t revision, struct slice from,
                                   struct slice to, bool is_reverse, bool wants_values)
{
    if (store->past_count >= STORE_PASTS_MAX) return NULL;
    struct store_past *view = mem_zero(sizeof *view);
    past_open(&view->past, revision, from, to, is_reverse);
    view->store = store;
    view->wants_values = wants_values;
    view->pin = store_pin(store);
    list_append(&store->pasts, &view->past.link);
    store->past_count++;
    share(store);
    if (revision < store_oldest_revision(store)) {
        lose(view, ERR_NOT_FOUND);
    } else {
        begin(view);
    }
    return view;
}

static void hint_end(struct store_past *view)
{
    if (view->is_open) hint_reader_close(&view->reader);
    view->is_open = false;
    chunk_end(view->chunk);
    view->chunk = NULL;
}

static void files_close(struct store_past *view)
{
    hint_end(view);
    buf_close(&view->files);
}

static void detach(struct store_past *view)
{
    files_close(view);
    store_records_close(view->store, &view->records);
    store_unpin(view->store, view->pin);
    view->store->past_count--;
    list_remove(&view->past.link);
    view->store = NULL;
}

void store_past_close(struct store_past *view)
{
    if (view == NULL) return;
    if (view->store != NULL) {
        struct store *store = view->store;
        detach(view);
        share(store);
    }
    past_close(&view->past);
    mem_free(view);
}

void store_pasts_close(struct store *store)
{
    while (!list_empty(&store->pasts)) {
        struct store_past *view = view_at(store->pasts.next);
        lose(view, ERR_NOT_FOUND);
        detach(view);
    }
    while (!list_empty(&store->chunks)) {
        struct store_chunk *chunk = LIST_ITEM(store->chunks.next, struct store_chunk, link);
        if (!chunk->is_done) store->config.disk->wait(store->config.disk->context, &chunk->op);
        if (chunk->records != NULL) chunk->records->chunk = NULL;
        chunk_free(chunk);
    }
}

/* ---- what is about to change ---------------------------------------------------------------------------- */

void store_pasts_note(struct store *store, const struct hint_entry *entry)
{
    const struct keydir_entry *before = NULL;
    bool is_found = false;
    for (struct list *at = store->pasts.next; at != &store->pasts; at = at->next) {
        struct store_past *view = view_at(at);
        if (view->state != STORE_PAST_RESOLVE && view->state != STORE_PAST_READY) continue;
        if (entry->kind == EFFECT_FLUSH) {
            lose(view, ERR_NOT_FOUND); /* What was there is told by nothing any more. */
            continue;
        }
        if (!is_found) before = keydir_find(store->keys, entry->key);
        is_found = true;
        /* Neither makes anything out of nothing. */
        if (before == NULL && entry->kind != EFFECT_PUT) continue;
        past_note(&view->past, entry->key, before);
    }
}

/* ---- from the log --------------------------------------------------------------------------------------- */

/* Effects of one entry, as many as the budget allows, and some whatever it is: to read a large entry may cost more than
 * all that a turn gives. */
static enum err scan_entry(struct store_past *view, const struct record *record, int64_t *budget)
{
    struct effect_walk walk;
    struct effect effect;
    enum err err = OK;
    effect_walk_open(&walk, record->payload);
    for (uint32_t done = 0; (err = effect_walk_next(&walk, &effect)) == OK; done++) {
        if (done < view->effect_at) continue;
        if (--*budget < 0 && done >= view->effect_at + EFFECTS_MIN) {
            view->effect_at = done;
            return ERR_AGAIN;
        }
        const uint64_t revision = revision_of(record->index, walk.ordinal);
        if (effect.kind == EFFECT_FLUSH && revision > view->past.revision) return ERR_NOT_FOUND;
        past_note_effect(&view->past, &effect, revision);
    }
    view->effect_at = 0;
    return err == ERR_NOT_FOUND ? OK : ERR_CORRUPT;
}

static enum err scan(struct store_past *view, int64_t *budget)
{
    struct store *store = view->store;
    struct past *past = &view->past;
    while (view->next <= store->applied_index) {
        struct record record;
        struct place place;
        if (*budget <= 0) return ERR_AGAIN;
        enum err err = store_records_read(store, &view->records, view->next, UINT64_MAX, &record,
                                          &place);
        if (err != OK) return err;
        *budget -= 1 + (int64_t)(record.payload.size / UNIT_SIZE);
        if (view->next == revision_index(past->revision)) past->stamp_ms = record.stamp_ms;
        if (record.type == RECORD_COMMAND) err = scan_entry(view, &record, budget);
        if (err != OK) return err;
        view->next++;
    }
    return OK;
}

/* ---- from the files ------------------------------------------------------------------------------------- */

static void add_file(struct store_past *view, const struct log_file *file, bool is_log)
{
    const struct store_past_file added = {.number = file->number,
                                          .is_log = is_log,
                                          .first_index = file->first_index,
                                          .last_index = file->last_index};
    if (file->first_index > file->last_index) return;
    if (file->first_index > revision_index(view->past.wanted_max)) return;
    buf_append(&view->files, &added, sizeof added);
    /* By their last entries, the newest last: there are few that are not in order. */
    struct store_past_file *files = (struct store_past_file *)(void *)view->files.data;
    uint64_t at = view->files.size / sizeof added - 1;
    while (at > 0 && files[at - 1].last_index > added.last_index) {
        files[at] = files[at - 1];
        at--;
    }
    files[at] = added;
}

static void resolve_begin(struct store_past *view)
{
    struct store *store = view->store;
    view->files.size = 0;
    for (uint32_t i = 0; i < store->shelf.count; i++) {
        const struct shelf_file *file = store->shelf.files[i];
        const struct log_segment *segment = log_segment_find(&store->log, file->file.number);
        switch (file->state) {
        case SHELF_GROWING:
            CHECK(segment != NULL);
            add_file(view, &file->file, true);
            break;
        case SHELF_SEALED:
            /* Its hint may be missing, for want of space or because it was damaged, until it is made again. */
            add_file(view, &file->file, file->hint_size == 0 && segment != NULL);
            break;
        case SHELF_RETIRED:
            if (file->was_sealed && file->handle >= 0) add_file(view, &file->file, false);
            break;
        case SHELF_MAKING: break;
        }
    }
    view->next = 0;
    store->past_lookups++;
    view->state = STORE_PAST_RESOLVE;
}

/* Entries of a segment of which there is no hint. */
static enum err resolve_log(struct store_past *view, const struct store_past_file *file,
                            int64_t *budget)
{
    const uint64_t wanted = revision_index(view->past.wanted_max);
    const uint64_t last = file->last_index < wanted ? file->last_index : wanted;
    if (view->next < file->first_index) view->next = file->first_index;
    while (view->next <= last) {
        struct record record;
        struct place place;
        struct effect_walk walk;
        struct effect effect;
        if (*budget <= 0) return ERR_AGAIN;
        enum err err = store_records_read(view->store, &view->records, view->next, last, &record,
                                          &place);
        if (err != OK) return err;
        *budget -= 1 + (int64_t)(record.payload.size / UNIT_SIZE);
        if (record.type == RECORD_COMMAND) effect_walk_open(&walk, record.payload);
        while (record.type == RECORD_COMMAND && (err = effect_walk_next(&walk, &effect)) == OK) {
            const struct hint_entry entry = {.kind = effect.kind,
                                             .flags = effect.flags,
                                             .value_size = (uint32_t)effect.value.size,
                                             .revision = revision_of(record.index, walk.ordinal),
                                             .expiry_ms = effect.expiry_ms,
                                             .key = effect.key,
                                             .value = effect.value};
            const struct place at = {.file = place.file,
                                     .offset = place.offset + RECORD_HEADER_SIZE + walk.offset};
            --*budget;
            past_offer(&view->past, &entry, at);
        }
        if (err != OK && err != ERR_NOT_FOUND) return ERR_CORRUPT;
        view->next++;
    }
    view->next = 0;
    return OK;
}

static void hint_read(struct store_past *view, uint32_t number, uint64_t hint_size, uint64_t offset)
{
    const uint64_t rest = hint_size - offset;
    const uint64_t size = rest < HINT_PIECE_SIZE ? rest : HINT_PIECE_SIZE;
    struct store_chunk *former = view->chunk;
    view->chunk = chunk_begin(view->store, number, -1, offset, size);
    /* What the reader looked at goes with the former one; it has nothing until the next one is there. */
    if (view->is_open) hint_reader_feed(&view->reader, slice_of("", 0));
    chunk_end(former);
}

/* The reader gets what was read. */
static enum err hint_taken(struct store_past *view, const struct shelf_file *file)
{
    const struct store_chunk *chunk = view->chunk;
    if (chunk->op.result != OK) return chunk->op.result == ERR_IO ? ERR_IO : ERR_CORRUPT;
    if (view->is_open) {
        hint_reader_feed(&view->reader, buf_slice(&chunk->bytes));
        return OK;
    }
    const struct hint_segment segment = hint_build_segment(view->store->config.cluster_id,
                                                           &file->file);
    const enum err err = hint_reader_begin(&view->reader, &segment, file->hint_size,
                                           buf_slice(&chunk->bytes));
    view->is_open = err == OK;
    return err == OK ? OK : ERR_CORRUPT;
}

/* The hint of a file from its beginning to its end. */
static enum err resolve_hint(struct store_past *view, uint32_t number, int64_t *budget)
{
    struct shelf_file *file = shelf_find(&view->store->shelf, number);
    /* It was retired before the view was opened, and is gone by now, its hint first: if anything of it was needed,
     * is_gone() knows. */
    if (file == NULL || (file->state == SHELF_RETIRED && file->handle < 0)) {
        hint_end(view);
        return OK;
    }
    if (file->hint_size == 0) return ERR_NOT_FOUND;
    if (view->chunk == NULL) hint_read(view, number, file->hint_size, 0);
    for (;;) {
        struct hint_entry entry;
        if (!view->chunk->is_done || *budget <= 0) return ERR_AGAIN;
        enum err err = OK;
        if (!view->is_open) err = hint_taken(view, file);
        if (err == OK) err = hint_reader_next(&view->reader, &entry);
        if (err == ERR_AGAIN) {
            if (view->chunk->op.offset != view->reader.offset) {
                hint_read(view, number, file->hint_size, view->reader.offset);
                if (!view->chunk->is_done) return ERR_AGAIN;
            }
            err = hint_taken(view, file);
            if (err == OK) continue;
        }
        if (err == ERR_NOT_FOUND) break;
        if (err != OK) return err;
        --*budget;
        past_offer(&view->past, &entry, (struct place){.file = number, .offset = entry.offset});
    }
    hint_end(view);
    return OK;
}

static enum err resolve(struct store_past *view, int64_t *budget)
{
    while (view->past.wanting > 0 && view->files.size > 0) {
        struct store_past_file file;
        const uint64_t at = view->files.size - sizeof file;
        memcpy(&file, view->files.data + at, sizeof file);
        const enum err err = file.is_log ? resolve_log(view, &file, budget)
                                         : resolve_hint(view, file.number, budget);
        if (err != OK) return err;
        view->files.size = at;
    }
    files_close(view);
    past_settle(&view->past);
    return view->past.wanting == 0 ? OK : ERR_NOT_FOUND;
}

/* ---- steps ------------------------------------------------------------------------------------------------ */

/* A file that had been retired before the view was opened was removed meanwhile: what died since the revision may have
 * been in it. */
static bool is_gone(const struct store_past *view)
{
    const uint64_t removed = view->store->removed_index;
    const uint64_t revision = view->past.revision;
    if (removed > 0 && revision < revision_of(removed, BATCH_EFFECTS_MAX)) return true;
    return revision < view->store->flush_revision;
}

static enum err go_on(struct store_past *view, int64_t *budget)
{
    enum err err = OK;
    if (view->state == STORE_PAST_READY && past_is_outside(&view->past)) {
        past_restart(&view->past);
        begin(view);
    }
    if (view->state == STORE_PAST_SCAN || view->state == STORE_PAST_RESOLVE) {
        if (is_gone(view)) return ERR_NOT_FOUND;
    }
    if (view->state == STORE_PAST_SCAN) {
        err = scan(view, budget);
        if (err != OK) return err;
        view->state = STORE_PAST_READY;
        if (view->wants_values && view->past.wanting > 0) resolve_begin(view);
    }
    if (view->state == STORE_PAST_RESOLVE) {
        err = resolve(view, budget);
        if (err == OK && is_gone(view)) err = ERR_NOT_FOUND;
        if (err == OK) view->state = STORE_PAST_READY;
    }
    return err;
}

enum err store_past_step(struct store_past *view, int64_t *budget)
{
    if (view->store == NULL) return ERR_NOT_FOUND;
    if (view->state == STORE_PAST_LOST) return view->why;
    const enum err err = go_on(view, budget);
    if (err != OK && err != ERR_AGAIN) lose(view, err);
    return err;
}

bool store_past_keeps(const struct store_past *view, const struct keydir_entry *entry)
{
    const struct keydir_info info = keydir_info(entry);
    disk_file handle = -1;
    uint64_t used = 0;
    return info.is_inline ||
           store_file_handle(view->store, info.place.file, &handle, &used) != ERR_NOT_FOUND;
}

bool store_past_waits(const struct store_past *view)
{
    return store_records_waits(&view->records) || (view->chunk != NULL && !view->chunk->is_done);
}

void store_pasts_check(const struct store *store)
{
    for (const struct list *at = store->pasts.next; at != &store->pasts; at = at->next) {
        past_check(LIST_ITEM(at, const struct past, link));
    }
}
