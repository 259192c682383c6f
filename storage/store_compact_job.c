#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/hint_build.h"
#include "storage/store_inner.h"

/* ---- operations ----------------------------------------------------------------------------------- */

static void store_compact_done(struct disk_op *op)
{
    struct store_compact *job = op->owner;
    CHECK(job->op_kind != COMPACT_OP_NONE);
    job->op_is_done = true;
}

static void submit(struct store *store, enum compact_op kind, struct disk_op op)
{
    struct store_compact *job = &store->compact;
    CHECK(job->op_kind == COMPACT_OP_NONE);
    job->op_kind = kind;
    job->op_is_done = false;
    job->op = op;
    job->op.lane = DISK_LANE_BULK;
    job->op.done = store_compact_done;
    job->op.owner = job;
    const uint64_t size = op.kind == DISK_READ ? op.size : op.data.size;
    job->credit -= (int64_t)size;
    if (op.kind == DISK_READ) {
        job->bytes_read += size;
    } else {
        job->bytes_written += size;
    }
    store->config.disk->submit(store->config.disk->context, &job->op);
}

/* ---- hints ---------------------------------------------------------------------------------------- */

static void piece_read(struct store *store, const struct log_file *file, uint64_t offset)
{
    struct store_compact *job = &store->compact;
    const uint64_t rest = shelf_find(&store->shelf, file->number)->hint_size - offset;
    const uint64_t size = rest < HINT_PIECE_SIZE ? rest : HINT_PIECE_SIZE;
    hint_name(job->name, store->config.folder, file->number);
    job->piece.size = 0;
    const struct disk_op op = {
        .kind = DISK_READ,
        .file = -1,
        .name = job->name,
        .offset = offset,
        .size = size,
        .into = buf_extend(&job->piece, size),
    };
    submit(store, COMPACT_OP_PIECE, op);
}

/* The next effect of @file. ERR_NOT_FOUND: that was all; the next call begins another file. ERR_AGAIN: it is being
 * read. */
static enum err effect_next(struct store *store, const struct log_file *file,
                            struct hint_entry *entry)
{
    struct store_compact *job = &store->compact;
    if (!job->is_open) {
        job->is_open = true;
        job->reader = (struct hint_reader){.file = -1};
        piece_read(store, file, 0);
        return ERR_AGAIN;
    }
    const enum err err = hint_reader_next(&job->reader, entry);
    if (err == ERR_AGAIN) piece_read(store, file, job->reader.offset);
    if (err == ERR_NOT_FOUND) {
        hint_reader_close(&job->reader);
        job->is_open = false;
    }
    return err;
}

static enum err piece_taken(struct store *store)
{
    struct store_compact *job = &store->compact;
    const struct slice piece = buf_slice(&job->piece);
    if (job->op.result != OK) return job->op.result == ERR_NOT_FOUND ? ERR_CORRUPT : job->op.result;
    if (job->op.offset > 0) {
        hint_reader_feed(&job->reader, piece);
        return OK;
    }
    const bool of_older = job->state == COMPACT_OLDER;
    const struct log_file *file = of_older ? &job->older[job->at] : &job->inputs[job->at];
    const struct hint_segment segment = hint_build_segment(store->config.cluster_id, file);
    const uint64_t size = shelf_find(&store->shelf, file->number)->hint_size;
    const enum err err = hint_reader_begin(&job->reader, &segment, size, piece);
    return err == OK ? OK : ERR_CORRUPT;
}

/* ---- which deletes matter ------------------------------------------------------------------------- */

/* One slice over the hints of @files. True: all of them were read. */
static enum err deletes_collect(struct store *store, bool *is_done)
{
    struct store_compact *job = &store->compact;
    struct hint_entry entry;
    for (uint32_t i = 0; i < COMPACT_STEP_ENTRIES; i++) {
        if (job->at == job->input_count) {
            *is_done = true;
            return OK;
        }
        const enum err err = effect_next(store, &job->inputs[job->at], &entry);
        if (err == ERR_AGAIN) return OK;
        if (err == ERR_NOT_FOUND) {
            job->at++;
            continue;
        }
        if (err != OK) return err;
        if (entry.kind == EFFECT_DELETE) keyset_add(&job->deletes, entry.key);
    }
    return OK;
}

static enum err older_look(struct store *store, bool *is_done)
{
    struct store_compact *job = &store->compact;
    struct hint_entry entry;
    for (uint32_t i = 0; i < 4 * COMPACT_STEP_ENTRIES; i++) {
        if (job->at == job->older_count) {
            *is_done = true;
            return OK;
        }
        const enum err err = effect_next(store, &job->older[job->at], &entry);
        if (err == ERR_AGAIN) return OK;
        if (err == ERR_NOT_FOUND) {
            job->at++;
            continue;
        }
        if (err != OK) return err;
        if (entry.kind == EFFECT_PUT) keyset_mark(&job->deletes, entry.key);
    }
    return OK;
}

/* ---- what lives ----------------------------------------------------------------------------------- */

static bool in_run(const struct store_compact *job, uint32_t number)
{
    for (uint32_t i = 0; i < job->input_count; i++) {
        if (job->inputs[i].number == number) return true;
    }
    return false;
}

static uint64_t run_last(const struct store_compact *job)
{
    return job->inputs[job->input_count - 1].last_index;
}

static bool put_lives(const struct store *store, const struct hint_entry *entry,
                      const struct keydir_entry *found, struct compact_item *item)
{
    const struct store_compact *job = &store->compact;
    if (found == NULL) return false;
    const struct keydir_info info = keydir_info(found);
    if (info.place.file != job->inputs[job->at].number) return false;
    if (info.place.offset != entry->offset) return false;
    /* A change of the expiry that is in the run as well becomes part of the put. One in a later file stays there. */
    if (info.revision != entry->revision && revision_index(info.revision) <= run_last(job)) {
        item->is_merged = true;
        item->revision = info.revision;
        item->expiry_ms = info.expiry_ms;
    }
    return true;
}

static bool delete_lives(const struct store *store, const struct hint_entry *entry,
                         const struct keydir_entry *found)
{
    const struct store_compact *job = &store->compact;
    /* What comes later, a put or a flush, hides older puts as well. */
    if (job->is_oldest || found != NULL || entry->revision < store->flush_revision) return false;
    if (!job->checks_deletes || !keyset_has(&job->deletes, entry->key)) return true;
    return keyset_marked(&job->deletes, entry->key);
}

/* Is the effect of @entry needed? Fills @item then. */
static bool lives(const struct store *store, const struct hint_entry *entry,
                  struct compact_item *item)
{
    const struct store_compact *job = &store->compact;
    *item = (struct compact_item){
        .offset = entry->offset,
        .size = (uint32_t)align_up(EFFECT_HEADER_SIZE + entry->key.size + entry->value_size, 8),
        .kind = entry->kind,
        .flags = entry->flags,
        .key_size = (uint32_t)entry->key.size,
        .value_size = (uint32_t)entry->value.size,
        .revision = entry->revision,
        .expiry_ms = entry->expiry_ms,
        .own_revision = entry->revision,
        .own_expiry_ms = entry->expiry_ms,
    };
    if (entry->kind == EFFECT_FLUSH) {
        return !job->is_oldest && entry->revision == store->flush_revision;
    }
    const struct keydir_entry *found = keydir_find(store->keys, entry->key);
    if (entry->kind == EFFECT_PUT) return put_lives(store, entry, found, item);
    if (entry->kind == EFFECT_DELETE) return delete_lives(store, entry, found);
    if (found == NULL) return false;
    const struct keydir_info info = keydir_info(found);
    return info.revision == entry->revision && !in_run(job, info.place.file);
}

struct compact_item store_compact_item(const struct store_compact *job, uint64_t at)
{
    struct compact_item item;
    memcpy(&item, job->items.data + at * sizeof item, sizeof item);
    return item;
}

static uint64_t item_count(const struct store_compact *job)
{
    return job->items.size / sizeof(struct compact_item);
}

/* Does @item belong to the bytes that are read together with those before it? */
static bool span_takes(const struct store_compact *job, const struct compact_item *item)
{
    const uint64_t count = item_count(job);
    if (count == 0) return true;
    const struct compact_item first = store_compact_item(job, 0);
    const struct compact_item last = store_compact_item(job, count - 1);
    if (item->offset < last.offset + last.size)
        return false; /* Of a file that goes backwards: corrupt. */
    if (item->offset - (last.offset + last.size) > COMPACT_GAP_SIZE) return false;
    return item->offset + (uint64_t)item->size - first.offset <= COMPACT_SPAN_SIZE;
}

/* Where the span begins in its file. */
static uint64_t span_start(const struct store_compact *job)
{
    return store_compact_item(job, 0).offset - TABLE_ITEM_HEADER_SIZE;
}

/* Reads the next part of the span. */
static enum err span_read(struct store *store)
{
    struct store_compact *job = &store->compact;
    const uint64_t rest = job->span_size - job->span.size;
    const uint64_t size = rest < COMPACT_SPAN_SIZE ? rest : COMPACT_SPAN_SIZE;
    const uint64_t offset = span_start(job) + job->span.size;
    disk_file handle = -1;
    uint64_t used = 0;
    const enum err err = store_file_handle(store, job->inputs[job->at].number, &handle, &used);
    if (err == OK && offset + rest > used) return ERR_CORRUPT;
    if (err != OK || handle < 0) {
        /* The file is not there: nothing of it can be read. */
        memset(buf_extend(&job->span, rest), 0, rest);
        return OK;
    }
    const struct disk_op op = {
        .kind = DISK_READ,
        .file = handle,
        .offset = offset,
        .size = size,
        .into = buf_extend(&job->span, size),
    };
    submit(store, COMPACT_OP_SPAN, op);
    return OK;
}

/* The bytes of the items so far, but for one that begins the next span. */
static enum err span_begin(struct store *store)
{
    struct store_compact *job = &store->compact;
    const uint64_t count = item_count(job) - (job->is_closed ? 1 : 0);
    const struct compact_item last = store_compact_item(job, count - 1);
    CHECK(count > 0);
    job->span_size = last.offset + (uint64_t)last.size - span_start(job);
    job->span.size = 0;
    buf_trim(&job->span, 2 * COMPACT_SPAN_SIZE);
    job->item_at = 0;
    job->state = COMPACT_COPY;
    return span_read(store);
}

static enum err decide(struct store *store)
{
    struct store_compact *job = &store->compact;
    struct hint_entry entry;
    for (uint32_t i = 0; i < COMPACT_STEP_ENTRIES; i++) {
        if (job->at == job->input_count) {
            job->decided_index = store->applied_index;
            job->state = COMPACT_FINISH;
            return OK;
        }
        const enum err err = effect_next(store, &job->inputs[job->at], &entry);
        if (err == ERR_AGAIN) return OK;
        if (err == ERR_NOT_FOUND && item_count(job) > 0) {
            job->ends_file = true;
            return span_begin(store);
        }
        if (err == ERR_NOT_FOUND) {
            job->at++;
            continue;
        }
        if (err != OK) return err;
        if (entry.offset < SEGMENT_BLOCK_SIZE) return ERR_CORRUPT;
        struct compact_item item;
        if (!lives(store, &entry, &item)) continue;
        job->is_closed = !span_takes(job, &item);
        item.key_at = (uint32_t)job->keys.size;
        buf_append(&job->keys, entry.key.data, entry.key.size);
        buf_append(&job->keys, entry.value.data, entry.value.size);
        buf_append(&job->items, &item, sizeof item);
        if (job->is_closed) return span_begin(store);
    }
    return OK;
}

/* ---- copying -------------------------------------------------------------------------------------- */

/* About as many bytes as the table will have: the rest is given back when it is complete. */
static uint64_t output_size(struct store *store)
{
    const struct store_compact *job = &store->compact;
    uint64_t size = 0;
    uint64_t used = 0;
    for (uint32_t i = 0; i < job->input_count; i++) {
        const struct shelf_file *file = shelf_find(&store->shelf, job->inputs[i].number);
        size += file->live + file->deletes + 8 * file->items;
        used += file->file.used;
    }
    if (size > used) size = used;
    size += size / 64 + 16 * SEGMENT_BLOCK_SIZE;
    return align_up(size, SEGMENT_BLOCK_SIZE);
}

static void output_create(struct store *store)
{
    struct store_compact *job = &store->compact;
    const struct log_file file = {
        .number = log_take_number(&store->log),
        .file_id = log_take_id(&store->log),
        .first_index = job->inputs[0].first_index,
        .last_index = run_last(job),
    };
    table_init(&job->table, store->config.cluster_id, store->config.node_id, store->config.shard,
               &file);
    job->has_table = true;
    const uint64_t size = output_size(store);
    hint_expect(&job->table.hint, size);
    table_header(&job->table, size, job->block);
    table_name(job->name, store->config.folder, file.number);
    const struct disk_op op = {
        .kind = DISK_CREATE,
        .file = -1,
        .name = job->name,
        .size = size,
        .data = slice_of(job->block, sizeof job->block),
    };
    submit(store, COMPACT_OP_CREATE, op);
}

static void group_write(struct store *store)
{
    struct store_compact *job = &store->compact;
    uint64_t offset = 0;
    const struct slice data = table_seal(&job->table, &offset);
    const struct disk_op op = {
        .kind = DISK_WRITE,
        .file = job->output->handle,
        .sync = true,
        .offset = offset,
        .data = data,
    };
    submit(store, COMPACT_OP_GROUP, op);
}

struct slice store_compact_key(const struct store_compact *job, const struct compact_item *item)
{
    return slice_of(job->keys.data + item->key_at, item->key_size);
}

/* Is @effect, found at @at in inputs[at], the one that the hint speaks of? A block that landed in the wrong place holds
 * effects that are sound in themselves. */
static bool is_the_item(const struct store_compact *job, const struct compact_item *item,
                        const uint8_t *at, const struct effect *effect)
{
    if (effect->kind != item->kind || effect->flags != item->flags) return false;
    if (effect->expiry_ms != item->own_expiry_ms) return false;
    if (!slice_equal(effect->key, store_compact_key(job, item))) return false;
    const struct slice value = slice_of(job->keys.data + item->key_at + item->key_size,
                                        item->value_size);
    if (value.size > 0 && !slice_equal(effect->value, value)) return false;
    if (!job->inputs[job->at].is_table) return true;
    return get_u64(at - TABLE_ITEM_HEADER_SIZE) == item->own_revision;
}

enum err store_compact_bytes(struct store_compact *job, const struct compact_item *item,
                             struct slice *bytes, struct effect *effect)
{
    const uint8_t *at = job->span.data + (item->offset - span_start(job));
    *bytes = slice_of(at, item->size);
    uint64_t size = 0;
    const enum err err = effect_decode(*bytes, effect, &size);
    if (err != OK || size != item->size) return ERR_CORRUPT;
    if (!is_the_item(job, item, at, effect)) return ERR_CORRUPT;
    if (!item->is_merged) return OK;
    effect->expiry_ms = item->expiry_ms;
    job->patched.size = 0;
    buf_trim(&job->patched, COMPACT_SPAN_SIZE);
    effect_encode(effect, &job->patched);
    *bytes = buf_slice(&job->patched);
    return OK;
}

/* Of the keys only those of the items that are left are kept: of one at most. */
static void keys_keep(struct store_compact *job)
{
    if (item_count(job) == 0) {
        job->keys.size = 0;
        return;
    }
    struct compact_item item = store_compact_item(job, 0);
    buf_shift(&job->keys, item.key_at);
    item.key_at = 0;
    memcpy(job->items.data, &item, sizeof item);
}

static void span_end(struct store_compact *job)
{
    /* The item that belongs to the next span is the first one of it. */
    const uint64_t done = item_count(job) - (job->is_closed ? 1 : 0);
    buf_shift(&job->items, done * sizeof(struct compact_item));
    keys_keep(job);
    job->is_closed = false;
    if (job->ends_file) job->at++;
    job->ends_file = false;
    job->item_at = 0;
    job->state = COMPACT_DECIDE;
}

static enum err copy(struct store *store)
{
    struct store_compact *job = &store->compact;
    const uint64_t count = item_count(job) - (job->is_closed ? 1 : 0);
    uint64_t copied = 0;
    if (!job->has_table) {
        output_create(store);
        return OK;
    }
    while (job->item_at < count && copied < COMPACT_STEP_SIZE) {
        const struct compact_item item = store_compact_item(job, job->item_at);
        if (!table_has_room(&job->table, item.size)) {
            group_write(store);
            return OK;
        }
        struct slice bytes;
        struct effect effect;
        enum err err = store_compact_bytes(job, &item, &bytes, &effect);
        if (err != OK) {
            store_note_damage(store, job->inputs[job->at].number, item.offset, item.size);
            err = store_mend_item(store, &item, count, &bytes, &effect);
        }
        if (err == ERR_AGAIN) return OK;
        if (err == ERR_NOT_FOUND) {
            job->item_at++;
            continue;
        }
        if (err != OK) return err;
        table_add(&job->table, item.revision, &effect, bytes);
        if (item.kind == EFFECT_DELETE || item.kind == EFFECT_FLUSH) {
            job->output_deletes += item.size;
        } else {
            shelf_live_add(job->output, item.size);
        }
        copied += item.size;
        job->item_at++;
    }
    if (job->item_at == count) span_end(job);
    return OK;
}

/* ---- finishing ------------------------------------------------------------------------------------ */

static void hint_write(struct store *store)
{
    struct store_compact *job = &store->compact;
    const struct hint_segment segment = hint_build_segment(store->config.cluster_id,
                                                           &job->table.file);
    hint_name(job->name, store->config.folder, job->table.file.number);
    job->output->items = job->table.hint.entry_count;
    const struct disk_op op = {
        .kind = DISK_REPLACE,
        .name = job->name,
        .data = hint_finish(&job->table.hint, &segment),
    };
    job->output->hint_size = op.data.size;
    submit(store, COMPACT_OP_HINT, op);
}

/* Nothing is left to be copied. */
static enum err finish(struct store *store)
{
    struct store_compact *job = &store->compact;
    if (!job->has_table) {
        job->state = COMPACT_READY;
    } else if (job->table.item_count > 0) {
        group_write(store);
    } else {
        hint_write(store);
    }
    return OK;
}

static void trim(struct store *store)
{
    struct store_compact *job = &store->compact;
    const struct disk_op op = {
        .kind = DISK_TRIM,
        .file = job->output->handle,
        .size = job->table.file.used,
    };
    submit(store, COMPACT_OP_TRIM, op);
}

/* ---- all together --------------------------------------------------------------------------------- */

enum err store_compact_work(struct store *store)
{
    struct store_compact *job = &store->compact;
    bool is_done = false;
    enum err err = OK;
    CHECK(job->op_kind == COMPACT_OP_NONE);
    switch (job->state) {
    case COMPACT_DELETES:
        err = deletes_collect(store, &is_done);
        if (is_done) job->state = job->deletes.count > 0 ? COMPACT_OLDER : COMPACT_DECIDE;
        break;
    case COMPACT_OLDER:
        err = older_look(store, &is_done);
        if (is_done) job->state = COMPACT_DECIDE;
        break;
    case COMPACT_DECIDE: return decide(store);
    case COMPACT_COPY: return copy(store);
    case COMPACT_FINISH: return finish(store);
    case COMPACT_IDLE:
    case COMPACT_READY:
    case COMPACT_SWITCH: UNREACHABLE();
    }
    if (is_done) job->at = 0;
    return err;
}

static enum err span_taken(struct store *store)
{
    struct store_compact *job = &store->compact;
    if (job->op.result != OK) {
        /* What cannot be read comes from elsewhere, effect by effect: zeros are none. */
        store_note_damage(store, job->inputs[job->at].number, job->op.offset, job->op.size);
        memset(job->op.into, 0, job->op.size);
    }
    return job->span.size < job->span_size ? span_read(store) : OK;
}

static enum err created(struct store *store)
{
    struct store_compact *job = &store->compact;
    if (job->op.result != OK)
        return job->op.result; /* A number that is taken: the next job has another. */
    job->output = shelf_add_aside(&store->shelf, &job->table.file);
    job->output->state = SHELF_MAKING;
    job->output->handle = job->op.file;
    job->output->size = job->op.size;
    return OK;
}

/* A disk that fails to write what it should keep is not to be trusted with anything. */
static enum err written(struct store *store)
{
    const struct disk_op *op = &store->compact.op;
    if (op->result == OK || op->result == ERR_NOSPACE) return op->result;
    fatal(EXIT_DISK, "%s/%08u.tab: cannot be written: %s", store->config.folder,
          store->compact.table.file.number, err_name(op->result));
}

enum err store_compact_result(struct store *store)
{
    struct store_compact *job = &store->compact;
    const enum compact_op kind = job->op_kind;
    CHECK(job->op_is_done);
    job->op_kind = COMPACT_OP_NONE;
    job->op_is_done = false;
    enum err err = OK;
    switch (kind) {
    case COMPACT_OP_PIECE: return piece_taken(store);
    case COMPACT_OP_SPAN: return span_taken(store);
    case COMPACT_OP_CREATE: return created(store);
    case COMPACT_OP_GROUP:
        err = written(store);
        job->output->file = job->table.file;
        table_next(&job->table);
        return err;
    case COMPACT_OP_HINT:
        err = written(store);
        if (err == OK) trim(store);
        return err;
    case COMPACT_OP_TRIM:
        err = written(store);
        if (err != OK) return err;
        job->output->size = job->table.file.used;
        job->output->deletes = job->output_deletes;
        job->state = COMPACT_READY;
        return OK;
    case COMPACT_OP_NONE: break;
    }
    UNREACHABLE();
}
