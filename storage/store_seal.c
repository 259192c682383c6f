#include <stdio.h>

#include "storage/base/check.h"
#include "storage/hint_build.h"
#include "storage/store_inner.h"

static void store_seal_done(struct disk_op *op)
{
    struct store_seal *seal = op->owner;
    CHECK(seal->state != STORE_SEAL_IDLE);
    seal->is_done = true;
}

static void submit(struct store *store, enum store_seal_state state, struct slice data)
{
    struct store_seal *seal = &store->seal;
    CHECK(seal->state == STORE_SEAL_IDLE);
    seal->state = state;
    seal->is_done = false;
    seal->op = (struct disk_op){
        .kind = DISK_REPLACE,
        .lane = DISK_LANE_BACKGROUND,
        .file = -1,
        .name = seal->name,
        .data = data,
        .done = store_seal_done,
        .owner = seal,
    };
    store->config.disk->submit(store->config.disk->context, &seal->op);
}

/* ---- choosing ------------------------------------------------------------------------------------- */

/* Position of the oldest segment that is not sealed; segments_count: there is none. */
static uint32_t unsealed_first(const struct store *store)
{
    uint32_t low = 0;
    uint32_t high = store->log.segments_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (store->log.segments[middle]->state == LOG_SEGMENT_SEALED) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool sealable(const struct store *store, const struct log_segment *segment)
{
    if (segment->state != LOG_SEGMENT_FULL) return false;
    return segment->file.last_index <= store->applied_index;
}

/* ---- the two steps -------------------------------------------------------------------------------- */

static bool hint_written(const struct store *store, uint32_t number)
{
    for (uint32_t i = 0; i < store->growth_count; i++) {
        if (store->growths[i].number == number) return store->growths[i].is_written;
    }
    return false;
}

static void hint_submit(struct store *store, const struct log_segment *segment)
{
    struct store_growth *growth = store_growth(store, segment);
    const struct hint_segment bytes = hint_build_segment(store->config.cluster_id, &segment->file);
    const struct slice data = hint_finish(&growth->hint, &bytes);
    growth->hint_size = data.size;
    store->seal.bytes_written += data.size;
    growth->items = growth->hint.entry_count;
    store->seal.number = segment->file.number;
    hint_name(store->seal.name, store->config.folder, segment->file.number);
    submit(store, STORE_SEAL_HINT, data);
}

/* The manifest with all sealable segments whose hints are written: those before @end. */
static void manifest_submit(struct store *store, uint32_t begin, uint32_t end)
{
    struct store_seal *seal = &store->seal;
    seal->begin = begin;
    seal->end = end;
    uint64_t index = store->manifest.base_index;
    if (end > begin) index = store->log.segments[end - 1]->file.last_index;
    struct manifest *next = &seal->next;
    manifest_copy(next, &store->manifest);
    next->cluster_id = store->config.cluster_id;
    next->shard = store->config.shard;
    next->number = store->manifest.number + 1;
    next->has_state_hash = true;
    next->base_index = index;
    next->base_term = store_term_at(store, index);
    for (uint32_t i = begin; i < end; i++) {
        const struct log_segment *segment = store->log.segments[i];
        const struct store_growth *growth = store_growth(store, segment);
        if (growth->stamp_ms > next->stamp_ms) next->stamp_ms = growth->stamp_ms;
        if (segment->file.first_index <= segment->file.last_index) {
            next->state_hash = growth->state_hash;
        }
        manifest_add(next, &segment->file);
    }
    seal->has_table = store_compact_ready(store, index);
    if (seal->has_table) store_compact_edit(store, next);
    struct slice change;
    const bool known = store_change_at(store, index, &next->change_index, &change);
    CHECK(known);             /* Entry 1 is a configuration, and the base carries one on. */
    struct buf payload = {0}; /* @change may be the bytes that are replaced here */
    buf_append(&payload, change.data, change.size);
    buf_close(&next->change);
    next->change = payload;

    seal->bytes.size = 0;
    manifest_encode(next, &seal->bytes);
    seal->bytes_written += seal->bytes.size;
    (void)snprintf(seal->name, sizeof seal->name, "%s/" MANIFEST_NAME, store->config.folder);
    submit(store, STORE_SEAL_MANIFEST, buf_slice(&seal->bytes));
}

static bool manifest_fits(const struct store *store)
{
    const uint64_t files = (uint64_t)store->manifest.file_count + 64;
    return files * MANIFEST_FILE_SIZE + (uint64_t)store->manifest.change.size < MANIFEST_SIZE_MAX;
}

struct step {
    enum store_seal_state state; /* IDLE: there is nothing to do */
    uint32_t begin;              /* Position of the oldest segment that is not sealed. */
    uint32_t position;           /* Of the segment whose hint, or up to which a manifest, is due. */
};

/* What comes next. Segments are sealed in order: hint, then manifest. A base below index 2 is never made
 * (libraft cannot send a snapshot at index 1 to a blank server), so then several segments go into
 * one manifest. */
static struct step step_next(const struct store *store)
{
    struct step step = {.state = STORE_SEAL_IDLE, .begin = unsealed_first(store)};
    if (!manifest_fits(store)) return step;
    for (uint32_t i = step.begin; i < store->log.segments_count; i++) {
        const struct log_segment *segment = store->log.segments[i];
        if (!sealable(store, segment)) return step;
        step.position = i;
        step.state = STORE_SEAL_HINT;
        if (!hint_written(store, segment->file.number)) return step;
        step.state = STORE_SEAL_MANIFEST;
        if (segment->file.last_index >= 2) return step;
        step.state = STORE_SEAL_IDLE;
    }
    return step;
}

static void seal_start(struct store *store)
{
    const struct step step = step_next(store);
    if (step.state == STORE_SEAL_HINT) hint_submit(store, store->log.segments[step.position]);
    if (step.state == STORE_SEAL_MANIFEST) manifest_submit(store, step.begin, step.position + 1);
    if (step.state != STORE_SEAL_IDLE) return;
    if (store_compact_ready(store, store->manifest.base_index)) {
        manifest_submit(store, step.begin, step.begin);
    }
}

/* ---- results -------------------------------------------------------------------------------------- */

uint32_t store_seal_window(const struct store *store, uint64_t size_max, uint64_t *window_size)
{
    uint64_t size = 0;
    *window_size = 0;
    uint32_t number = UINT32_MAX;
    for (uint32_t i = store->manifest.file_count; i > 0; i--) {
        const struct log_file *file = &store->manifest.files[i - 1];
        const bool is_newest = i == store->manifest.file_count;
        size += file->used;
        /* Compaction was here: entries cannot be read any more. */
        if (file->is_table) break;
        if (!is_newest && file->last_index + 1 != file[1].first_index) break;
        /* The newest sealed file stays in any case: its last entry's term is what a peer at the base is asked for. */
        if (size > size_max && !is_newest) break;
        number = file->number;
        *window_size = size;
    }
    return number;
}

/* What the log keeps whole; the rest of the retention is for values that compaction replaced. */
static uint32_t window(const struct store *store)
{
    uint64_t size = 0;
    return store_seal_window(store, store->config.retention_size - store_held_max(store), &size);
}

static void retention_apply(struct store *store)
{
    const uint32_t number = window(store);
    uint64_t first = store->manifest.base_index + 1;
    if (number != UINT32_MAX) first = log_segment_find(&store->log, number)->file.first_index;
    if (store->hold_index < first) first = store->hold_index;
    /* Entries of a damaged file cannot be given to anybody, and it can be repaired once nobody asks for them. */
    for (uint32_t i = 0; i + 1 < store->manifest.file_count; i++) {
        const struct log_file *file = &store->manifest.files[i];
        if (file->last_index < first || !damage_has(&store->damage, file->number)) continue;
        first = file->last_index + 1;
    }
    if (first > store->log.first_index) log_drop_prefix(&store->log, first);
}

/* What was kept for a peer goes with the next base. While little is written that may be far away, so it is made. */
static void roll_when_released(struct store *store)
{
    const struct log_segment *active = store->log.active;
    const uint32_t number = window(store);
    const bool is_kept = number != UINT32_MAX && store->hold_index == UINT64_MAX &&
                         log_segment_find(&store->log, number)->file.first_index >
                             store->log.first_index;
    store->is_released = is_kept;
    if (!is_kept || active == NULL || active->file.first_index > store->applied_index) return;
    log_roll(&store->log);
}

static void manifest_taken(struct store *store)
{
    struct store_seal *seal = &store->seal;
    const bool is_newer_base = seal->next.base_index > store->manifest.base_index;
    for (uint32_t i = seal->begin; i < seal->end; i++) {
        const struct log_segment *segment = store->log.segments[i];
        log_seal(&store->log, segment->file.number);
        store_file_sealed(store, segment);
        store_growth_drop(store, segment->file.number);
    }
    manifest_close(&store->manifest);
    store->manifest = seal->next;
    seal->next = (struct manifest){0};
    buf_close(&seal->bytes);
    seal->count++;
    if (seal->has_table) store_compact_taken(store);
    seal->has_table = false;
    /* A file whose entries were all cut seals without moving the base. Raft is told of bases only, and
     * asks for every entry that was there at the last one. */
    if (is_newer_base) retention_apply(store);
    /* A replica that seals by itself has caught up: what it once received of a base is of no use. */
    snapshot_forget(&store->incoming);
}

/* @is_there: on the disk. */
static void hint_taken(struct store *store, bool is_there)
{
    for (uint32_t i = 0; i < store->growth_count; i++) {
        struct store_growth *growth = &store->growths[i];
        if (growth->number != store->seal.number) continue;
        growth->is_written = true;
        if (!is_there) growth->hint_size = 0;
        hint_close(&growth->hint);
    }
}

/* Looks at the result of the operation that is complete. */
static void seal_result(struct store *store)
{
    struct store_seal *seal = &store->seal;
    CHECK(seal->is_done);
    const enum store_seal_state state = seal->state;
    seal->state = STORE_SEAL_IDLE;
    seal->is_done = false;
    /* A hint is a help, not a need: when files would go once the base has grown, it grows without. The next start
     * makes the hint. */
    if (seal->op.result == ERR_NOSPACE && state == STORE_SEAL_HINT &&
        store->compact.state == COMPACT_READY) {
        hint_taken(store, false);
        return;
    }
    if (seal->op.result == ERR_NOSPACE) {
        /* Nothing depends on the base growing now. Until there is room the log just gets longer. */
        seal->is_refused = true;
        seal->retry_ms = UINT64_MAX;
        manifest_close(&seal->next);
        /* With this manifest files would go: a little of the reserve is well spent for it. */
        if (seal->has_table) seal->is_refused = !reserve_spend(&store->log.reserve);
        seal->has_table = false;
        return;
    }
    if (seal->op.result != OK) {
        fatal(EXIT_DISK, "%s: cannot be written: %s", seal->name, err_name(seal->op.result));
    }
    seal->is_refused = false;
    if (state == STORE_SEAL_HINT) hint_taken(store, true);
    if (state == STORE_SEAL_MANIFEST) manifest_taken(store);
}

void store_seal_settle(struct store *store)
{
    struct store_seal *seal = &store->seal;
    if (seal->state == STORE_SEAL_IDLE) return;
    if (!seal->is_done) store->config.disk->wait(store->config.disk->context, &seal->op);
    seal_result(store);
}

void store_seal_turn(struct store *store, uint64_t now_ms)
{
    struct store_seal *seal = &store->seal;
    if (store->is_released) roll_when_released(store);
    if (seal->state != STORE_SEAL_IDLE && !seal->is_done) return;
    if (seal->is_done) seal_result(store);
    if (seal->is_refused && seal->retry_ms == UINT64_MAX) seal->retry_ms = now_ms + STORE_RETRY_MS;
    if (seal->is_refused && now_ms < seal->retry_ms) return;
    seal_start(store);
}

bool store_seal_upto(struct store *store, uint64_t index)
{
    struct log *log = &store->log;
    CHECK(index <= store->applied_index);
    if (store->manifest.base_index >= index) return true;
    if (log->active != NULL && log->active->file.first_index <= index) log_roll(log);
    return false;
}

uint64_t store_seal_deadline(const struct store *store)
{
    const struct store_seal *seal = &store->seal;
    if (seal->is_done) return 0;
    if (seal->state != STORE_SEAL_IDLE) return UINT64_MAX; /* Its completion wakes us. */
    const bool is_idle = step_next(store).state == STORE_SEAL_IDLE;
    if (is_idle && !store_compact_ready(store, store->manifest.base_index)) return UINT64_MAX;
    if (seal->is_refused) return seal->retry_ms == UINT64_MAX ? 0 : seal->retry_ms;
    return 0;
}
