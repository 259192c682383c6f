#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/store_inner.h"

/* ---- a job's life --------------------------------------------------------------------------------- */

static void job_reset(struct store_compact *job)
{
    CHECK(job->op_kind == COMPACT_OP_NONE);
    if (job->is_open) hint_reader_close(&job->reader);
    job->is_open = false;
    if (job->has_table) table_close(&job->table);
    job->has_table = false;
    mem_free(job->older);
    job->older = NULL;
    job->older_count = 0;
    keyset_close(&job->deletes);
    buf_close(&job->piece);
    buf_close(&job->items);
    buf_close(&job->span);
    buf_close(&job->patched);
    buf_close(&job->keys);
    job->mend_ms = 0;
    job->output = NULL;
    job->output_deletes = 0;
    job->is_closed = false;
    job->ends_file = false;
    job->input_count = 0;
    job->at = 0;
    job->item_at = 0;
    job->wait_ms = UINT64_MAX;
    job->state = COMPACT_IDLE;
}

/* The hint of an older file cannot be read. Until it is made again, all deletes of the run are kept: one bad hint must
 * not hold up all space that could come back. */
static void keep_deletes(struct store_compact *job)
{
    if (job->is_open) hint_reader_close(&job->reader);
    job->is_open = false;
    keyset_close(&job->deletes);
    job->checks_deletes = false;
    job->keeps_deletes = true;
    job->state = COMPACT_DECIDE;
    job->at = 0;
}

static void job_fail(struct store *store, enum err err)
{
    struct store_compact *job = &store->compact;
    if (job->state == COMPACT_OLDER && (err == ERR_CORRUPT || err == ERR_IO)) {
        keep_deletes(job);
        return;
    }
    const bool is_reading = job->state != COMPACT_OLDER && job->at < job->input_count;
    if (is_reading && (err == ERR_CORRUPT || err == ERR_IO)) {
        struct shelf_file *file = shelf_find(&store->shelf, job->inputs[job->at].number);
        file->is_blocked = true;
        /* Only while what its hint says is looked at, before the values. */
        file->hint_failures += job->state != COMPACT_COPY;
    }
    store_mend_failed(store);
    if (job->output != NULL) store_file_retire(store, job->output);
    job->given_up++;
    job->retry_ms = job->now_ms + COMPACT_RETRY_MS;
    job_reset(job);
}

void store_compact_abandon(struct store *store)
{
    struct store_compact *job = &store->compact;
    struct disk *disk = store->config.disk;
    if (job->op_kind != COMPACT_OP_NONE) {
        if (!job->op_is_done) disk->wait(disk->context, &job->op);
        if (job->op_kind == COMPACT_OP_CREATE && job->op.result == OK) {
            disk->close(disk->context, job->op.file); /* The next start removes it. */
        }
        job->op_kind = COMPACT_OP_NONE;
        job->op_is_done = false;
    }
    job_reset(job);
    mend_forget(&store->mend);
}

/* ---- choosing ------------------------------------------------------------------------------------- */

/* How many files from the oldest on may be compacted: none whose entries somebody may still ask for, and never
 * the newest. */
static uint32_t eligible_count(const struct store *store)
{
    const struct manifest *manifest = &store->manifest;
    uint32_t count = 0;
    while (count + 1 < manifest->file_count &&
           manifest->files[count].last_index < store->log.first_index) {
        count++;
    }
    return count;
}

static struct compact_file *figures_of(struct store *store, uint32_t count)
{
    struct compact_file *files = mem_alloc((uint64_t)(count + 1) * sizeof *files);
    for (uint32_t i = 0; i < count; i++) {
        const struct shelf_file *file = shelf_find(&store->shelf, store->manifest.files[i].number);
        CHECK(file != NULL);
        files[i] = (struct compact_file){
            .used = file->file.used,
            .hint_size = file->hint_size,
            .items = file->items,
            .live = file->live,
            .deletes = file->deletes,
            .deletes_are_exact = file->deletes_are_exact,
            .is_table = file->file.is_table,
            .is_wanted = damage_has(&store->damage, file->file.number),
            .is_blocked = file->is_blocked || file->hint_size == 0,
        };
    }
    return files;
}

static void job_begin(struct store *store, const struct compact_run *run)
{
    struct store_compact *job = &store->compact;
    const struct log_file *files = store->manifest.files;
    job->input_count = run->count;
    memcpy(job->inputs, files + run->begin, run->count * sizeof *files);
    job->is_oldest = run->begin == 0;
    job->checks_deletes = run->checks_deletes;
    job->keeps_deletes = false;
    job->state = COMPACT_DECIDE;
    job->at = 0;
    if (!run->checks_deletes) return;
    job->older_count = run->begin;
    job->older = mem_copy(files, run->begin * sizeof *files);
    job->state = COMPACT_DELETES;
}

static bool seals_pending(const struct store *store)
{
    const struct log *log = &store->log;
    if (store->seal.state != STORE_SEAL_IDLE) return true;
    if (store->seal.is_refused) return false; /* Who knows when there will be space. */
    for (uint32_t i = log->segments_count; i > 0; i--) {
        const struct log_segment *segment = log->segments[i - 1];
        if (segment->state == LOG_SEGMENT_SEALED) return false;
        const bool is_full = segment->state == LOG_SEGMENT_FULL;
        if (is_full && segment->file.last_index <= store->applied_index) return true;
    }
    return false;
}

static void look(struct store *store)
{
    struct store_compact *job = &store->compact;
    job->looked_ms = job->now_ms;
    job->looked_count = store->seal.count;
    job->looked_index = store->applied_index;
    job->retry_ms = 0;
    if (job->is_forced && seals_pending(store)) return;
    if (store->manifest.file_count < 2) {
        job->is_forced = false; /* The newest one stays as it is. */
        return;
    }
    const uint32_t count = eligible_count(store);
    const struct compact_limits limits = {
        .target_size = store->config.segment_size,
        .is_forced = job->is_forced,
    };
    struct compact_file *files = figures_of(store, count);
    struct compact_run run;
    const bool found = count > 0 && compact_choose(files, count, &limits, &run);
    const struct compact_figures figures = compact_figures(files, count);
    job->is_urgent = figures.garbage * 5 > figures.used * 2; /* nearing twice what is needed */
    mem_free(files);
    if (found) {
        job_begin(store, &run);
    } else {
        job->is_forced = false;
    }
}

uint64_t store_compact_garbage(struct store *store)
{
    const uint32_t count = eligible_count(store);
    struct compact_file *files = figures_of(store, count);
    const struct compact_figures figures = compact_figures(files, count);
    mem_free(files);
    return figures.garbage;
}

/* now_ms at which look() is due. */
static uint64_t look_due(const struct store *store)
{
    const struct store_compact *job = &store->compact;
    if (store->manifest.file_count < 2 && !job->is_forced) return UINT64_MAX;
    const bool is_off = store->config.compaction_rate == 0 && !job->is_forced;
    if (is_off && store->damage.count == 0) return UINT64_MAX;
    if (job->retry_ms > 0) return job->retry_ms;
    if (job->is_forced) return seals_pending(store) ? UINT64_MAX : 0;
    if (job->looked_count != store->seal.count) return 0;
    if (job->looked_index != store->applied_index) return job->looked_ms + COMPACT_LOOK_MS;
    return UINT64_MAX;
}

void store_compact(struct store *store)
{
    store->compact.is_forced = true;
    log_roll(&store->log);
}

/* ---- the end of a job ----------------------------------------------------------------------------- */

bool store_compact_ready(const struct store *store, uint64_t index)
{
    const struct store_compact *job = &store->compact;
    return job->state == COMPACT_READY && index >= job->decided_index;
}

void store_compact_edit(const struct store *store, struct manifest *next)
{
    const struct store_compact *job = &store->compact;
    uint32_t begin = 0;
    while (next->files[begin].number != job->inputs[0].number) begin++;
    for (uint32_t i = 0; i < job->input_count; i++) {
        CHECK(next->files[begin + i].number == job->inputs[i].number);
    }
    manifest_replace(next, begin, job->input_count, job->has_table ? &job->table.file : NULL);
}

void store_compact_taken(struct store *store)
{
    struct store_compact *job = &store->compact;
    CHECK(job->state == COMPACT_READY);
    for (uint32_t i = 0; i < job->input_count; i++) {
        struct shelf_file *file = shelf_find(&store->shelf, job->inputs[i].number);
        CHECK(file->state == SHELF_SEALED);
        file->state = SHELF_RETIRED;
        file->was_sealed = true;
        if (file->file.is_table) continue;
        file->size = log_segment_find(&store->log, file->file.number)->size;
        file->handle = log_forget(&store->log, file->file.number);
    }
    if (job->has_table) {
        job->output->state = SHELF_SEALED;
        /* Deletes that were kept for want of knowing better are not looked at again and again. */
        job->output->deletes_are_exact = job->checks_deletes || job->keeps_deletes;
        hint_reader_memory(&job->reader, &job->table.hint);
        job->is_open = true;
    }
    job->state = COMPACT_SWITCH;
}

static bool in_run(const struct store_compact *job, uint32_t number)
{
    for (uint32_t i = 0; i < job->input_count; i++) {
        if (job->inputs[i].number == number) return true;
    }
    return false;
}

/* Lets the key of a put that the table has point there, if it still points into the run. The run has one put at
 * most that the keydir points at, and that is the one. */
static void key_switch(struct store *store, const struct hint_entry *entry)
{
    struct store_compact *job = &store->compact;
    const uint64_t size = align_up(EFFECT_HEADER_SIZE + entry->key.size + entry->value_size, 8);
    const struct keydir_entry *found = keydir_find(store->keys, entry->key);
    if (found != NULL) {
        const struct place from = keydir_info(found).place;
        const struct place to = {.file = job->output->file.number, .offset = entry->offset};
        if (in_run(job, from.file)) {
            const bool is_moved = keydir_move(store->keys, entry->key, from, to);
            CHECK(is_moved);
            shelf_live_take(shelf_find(&store->shelf, from.file), size);
            return;
        }
    }
    shelf_live_take(job->output, size); /* It was copied in vain. */
}

static void job_end(struct store *store)
{
    struct store_compact *job = &store->compact;
    uint32_t numbers[COMPACT_RUN_MAX] = {0};
    uint64_t freed = 0;
    bool is_later = true;
    for (uint32_t i = 0; i < job->input_count; i++) numbers[i] = job->inputs[i].number;
    shelf_replace(&store->shelf, numbers, job->input_count, job->output);
    for (uint32_t i = 0; i < job->input_count; i++) {
        struct shelf_file *file = shelf_find(&store->shelf, job->inputs[i].number);
        freed += file->file.used;
        damage_repaired(&store->damage, file->file.number);
        store_file_retire(store, file);
    }
    /* What a later file deletes may be gone from here now. */
    const uint64_t first_index = job->inputs[0].first_index;
    for (uint32_t i = store->shelf.order_count; i > 0 && is_later; i--) {
        struct shelf_file *file = store->shelf.order[i - 1];
        is_later = file->file.first_index > first_index && file != job->output;
        if (is_later) file->deletes_are_exact = false;
    }
    if (job->has_table) freed -= job->table.file.used < freed ? job->table.file.used : freed;
    job->bytes_freed += freed;
    job->jobs++;
    job->looked_count = UINT64_MAX; /* There may be more to do. */
    job_reset(job);
}

static void switch_step(struct store *store)
{
    struct store_compact *job = &store->compact;
    struct hint_entry entry;
    for (uint32_t i = 0; i < COMPACT_STEP_ENTRIES; i++) {
        const enum err err = job->has_table ? hint_reader_next(&job->reader, &entry)
                                            : ERR_NOT_FOUND;
        if (err == ERR_NOT_FOUND) {
            job_end(store);
            return;
        }
        CHECK(err == OK); /* It was made in memory. */
        if (entry.kind == EFFECT_PUT) key_switch(store, &entry);
    }
}

/* ---- turns ---------------------------------------------------------------------------------------- */

/* Bytes per second: what is configured, as much as the log takes in, and more when space runs away. */
static void credit_grow(struct store *store, uint64_t now_ms)
{
    struct store_compact *job = &store->compact;
    const uint64_t written = store->log.bytes_written;
    const uint64_t rate = store->config.compaction_rate;
    const uint64_t passed_ms = now_ms > job->credit_ms ? now_ms - job->credit_ms : 0;
    const uint64_t ms = passed_ms < 1000 ? passed_ms : 1000;
    uint64_t more = rate / 1000 * ms + 3 * (written - job->log_written);
    if (job->is_urgent) more *= 4;
    const int64_t limit = (int64_t)(rate / 8 + COMPACT_SPAN_SIZE);
    job->credit += (int64_t)more;
    if (job->credit > limit) job->credit = limit;
    job->credit_ms = now_ms;
    job->log_written = written;
}

static bool is_limited(const struct store *store)
{
    const struct store_compact *job = &store->compact;
    return job->credit < 0 && store->config.compaction_rate > 0;
}

/* The base has to reach what was decided upon: when little is written, it does not by itself. */
static void roll_when_due(struct store *store)
{
    struct store_compact *job = &store->compact;
    const struct log_segment *active = store->log.active;
    if (job->wait_ms == UINT64_MAX) job->wait_ms = job->now_ms;
    if (store->manifest.base_index >= job->decided_index) return;
    if (!job->is_forced && job->now_ms < job->wait_ms + COMPACT_ROLL_MS) return;
    if (active == NULL || active->file.first_index > job->decided_index) return;
    log_roll(&store->log);
}

void store_compact_turn(struct store *store, uint64_t now_ms)
{
    struct store_compact *job = &store->compact;
    job->now_ms = now_ms;
    credit_grow(store, now_ms);
    if (job->retry_ms == UINT64_MAX) job->retry_ms = now_ms + COMPACT_RETRY_MS;
    if (job->op_kind != COMPACT_OP_NONE) {
        if (!job->op_is_done) return;
        const enum err err = store_compact_result(store);
        if (err != OK) job_fail(store, err);
        if (err != OK || job->op_kind != COMPACT_OP_NONE) return;
    }
    if (job->state == COMPACT_IDLE && now_ms >= look_due(store)) look(store);
    if (job->state == COMPACT_IDLE) return;
    if (job->state == COMPACT_READY) {
        roll_when_due(store);
    } else if (job->state == COMPACT_SWITCH) {
        switch_step(store);
    } else if (!is_limited(store) && now_ms >= job->mend_ms) {
        const enum err err = store_compact_work(store);
        if (err != OK) job_fail(store, err);
    }
}

uint64_t store_compact_deadline(const struct store *store)
{
    const struct store_compact *job = &store->compact;
    if (job->op_kind != COMPACT_OP_NONE) return job->op_is_done ? 0 : UINT64_MAX;
    if (job->state == COMPACT_IDLE) return look_due(store);
    if (job->state == COMPACT_SWITCH) return 0;
    if (job->state == COMPACT_READY) {
        if (store->manifest.base_index >= job->decided_index)
            return UINT64_MAX; /* A manifest is due. */
        if (job->wait_ms == UINT64_MAX) return 0;
        const struct log_segment *active = store->log.active;
        if (active == NULL || active->file.first_index > job->decided_index) return UINT64_MAX;
        if (log_flushing(&store->log))
            return UINT64_MAX; /* It cannot be rolled before that is done. */
        return job->is_forced ? 0 : job->wait_ms + COMPACT_ROLL_MS;
    }
    if (!is_limited(store)) return job->mend_ms;
    const uint64_t rate = store->config.compaction_rate;
    return job->credit_ms + 1 + (uint64_t)-job->credit * 1000 / rate;
}
