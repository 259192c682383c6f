#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/store_inner.h"

#define BURY_STEPS 3u /* of keydir_bury() in one turn */

/* ---- life ----------------------------------------------------------------------------------------- */

/* Frees everything but log and ballot, which a failed start leaves closed. */
static void destroy(struct store *store)
{
    snapshot_close(&store->incoming);
    while (store->growth_count > 0) store_growth_drop(store, store->growths[0].number);
    mem_free(store->growths);
    manifest_close(&store->manifest);
    manifest_close(&store->seal.next);
    buf_close(&store->seal.bytes);
    buf_close(&store->scratch);
    witness_close(&store->witness);
    damage_close(&store->damage);
    mend_close(&store->mend);
    buf_close(&store->unpacked);
    keydir_destroy(store->keys);
    store_files_close(store);
    mem_free(store);
}

static void message_copy(const struct buf *from, char *message, uint64_t size)
{
    const uint64_t fits = from->size < size ? from->size : size - 1;
    if (fits > 0) memcpy(message, from->data, fits);
    message[fits] = 0;
}

enum err store_open(const struct store_config *config, struct store **out, char *message,
                    uint64_t message_size)
{
    CHECK(message_size >= 512);
    CHECK(strlen(config->folder) <= NAME_SIZE_MAX);
    struct store *store = mem_zero(sizeof *store);
    store->hold_index = UINT64_MAX;
    list_init(&store->reads);
    list_init(&store->pasts);
    list_init(&store->chunks);
    store->config = *config;
    store->keys = keydir_create(config->hash_seed);
    snapshot_init(&store->incoming, config->disk, config->folder, config->cluster_id,
                  config->shard);
    struct buf line = {0};
    const enum err err = store_load(store, &line);
    message_copy(&line, message, message_size);
    buf_close(&line);
    if (err != OK) {
        destroy(store);
        return err;
    }
    *out = store;
    return OK;
}

void store_close(struct store *store)
{
    store_seal_settle(store);
    store_reads_settle(store);
    store_pasts_close(store);
    store_compact_abandon(store);
    store_scrub_close(store);
    store_tidy_settle(store);
    log_close(&store->log);
    ballot_close(&store->ballot);
    destroy(store);
}

bool store_blank(const struct store *store)
{
    if (store->log.last_index > 0) return false;
    return store->ballot.ballot.term <= 1 && store->ballot.ballot.voted_for == 0;
}

enum err store_bootstrap(struct store *store, struct slice record)
{
    CHECK(store_blank(store));
    /* The ballot first: a log without its term would be refused by the next start. */
    const enum err err = ballot_save(&store->ballot, 1, 0);
    if (err != OK) return err;
    store_append(store, record);
    CHECK(store_term_at(store, 1) == 1);
    return store_flush_wait(store);
}

uint64_t store_cluster_id(const struct store *store)
{
    return store->config.cluster_id;
}

/* ---- ballot --------------------------------------------------------------------------------------- */

uint64_t store_term(const struct store *store)
{
    return store->ballot.ballot.term;
}

uint64_t store_voted_for(const struct store *store)
{
    return store->ballot.ballot.voted_for;
}

void store_save_ballot(struct store *store, uint64_t term, uint64_t voted_for)
{
    CHECK(term >= store_term(store));
    const enum err err = ballot_save(&store->ballot, term, voted_for);
    if (err != OK) {
        fatal(EXIT_DISK, "%s/vote: cannot be saved: %s", store->config.folder, err_name(err));
    }
}

/* ---- log ------------------------------------------------------------------------------------------ */

uint64_t store_first_index(const struct store *store)
{
    return store->log.first_index;
}

uint64_t store_last_index(const struct store *store)
{
    return store->log.last_index;
}

uint64_t store_persisted_index(const struct store *store)
{
    return store->log.persisted_index;
}

uint64_t store_term_at(const struct store *store, uint64_t index)
{
    if (index == 0) return 0;
    const uint64_t term = log_term_at(&store->log, index);
    if (term == 0 && index == store->manifest.base_index) return store->manifest.base_term;
    return term;
}

bool store_change_at(const struct store *store, uint64_t index, uint64_t *change_index,
                     struct slice *payload)
{
    /* The log has loaded everything from some entry on, so a change it knows of is the newest. */
    if (log_change_at(&store->log, index, change_index, payload)) return true;
    const struct manifest *base = &store->manifest;
    if (base->base_index == 0 || base->change_index > index) return false;
    *change_index = base->change_index;
    *payload = buf_slice(&base->change);
    return true;
}

uint64_t store_last_stamp(const struct store *store)
{
    const uint64_t logged = store->log.last_stamp_ms;
    return logged > store->stamp_ms ? logged : store->stamp_ms;
}

void store_append(struct store *store, struct slice record)
{
    CHECK(!store->log.stopped);
    log_append(&store->log, record);
}

void store_append_from(struct store *store, struct slice record, struct buf *owner)
{
    CHECK(!store->log.stopped);
    log_append_from(&store->log, record, owner);
}

void store_cut(struct store *store, uint64_t index)
{
    CHECK(!store->log.stopped);
    CHECK(index > store->applied_index);
    log_cut(&store->log, index);
}

void store_flush(struct store *store)
{
    log_flush(&store->log);
}

uint64_t store_flushing(const struct store *store)
{
    return log_flushing(&store->log);
}

enum err store_flush_wait(struct store *store)
{
    return log_flush_wait(&store->log);
}

void store_note_entry(struct store *store, uint64_t index)
{
    const struct shelf_file *file = shelf_of_index(&store->shelf, index);
    if (file != NULL) store_note_damage(store, file->file.number, 0, UINT64_MAX);
}

enum err store_read(struct store *store, uint64_t first, uint64_t last, uint64_t size_max,
                    struct buf *out, uint32_t *count)
{
    const enum err err = log_read(&store->log, first, last, size_max, out, count);
    if (err == ERR_CORRUPT || err == ERR_IO) store_note_entry(store, first + *count);
    return err;
}

uint64_t store_entry_size(const struct store *store, uint64_t index)
{
    return log_entry_size(&store->log, index);
}

enum err store_piece(struct store *store, uint64_t index, uint64_t offset, uint64_t size,
                     struct buf *out, bool *in_memory)
{
    return log_piece(&store->log, index, offset, size, out, in_memory);
}

/* ---- state ---------------------------------------------------------------------------------------- */

uint64_t store_applied_index(const struct store *store)
{
    return store->applied_index;
}

uint64_t store_applied_stamp(const struct store *store)
{
    return store->stamp_ms;
}

struct keydir *store_keys(struct store *store)
{
    return store->keys;
}

void store_turn(struct store *store, uint64_t now_ms)
{
    if (store->log.stopped) return;
    log_turn(&store->log, now_ms);
    if (log_nospace(&store->log)) snapshot_forget(&store->incoming);
    store_seal_turn(store, now_ms);
    store_mend_turn(store, now_ms);
    store_compact_turn(store, now_ms);
    store_scrub_turn(store, now_ms);
    store_tidy_turn(store);
    store_pasts_turn(store);
    store->is_burying = keydir_bury(store->keys, BURY_STEPS);
}

uint64_t store_deadline(struct store *store)
{
    if (store->log.stopped) return UINT64_MAX;
    if (store->is_burying) return 0; /* What a FLUSH left is given back a little in each turn. */
    const uint64_t log = log_deadline(&store->log);
    const uint64_t seal = store_seal_deadline(store);
    const uint64_t compact = store_compact_deadline(store);
    const uint64_t tidy = store_tidy_deadline(store);
    const uint64_t mend = store_mend_deadline(store);
    uint64_t first = log < seal ? log : seal;
    const uint64_t scrub = store_scrub_deadline(store);
    if (mend < first) first = mend;
    if (scrub < first) first = scrub;
    const uint64_t second = compact < tidy ? compact : tidy;
    return first < second ? first : second;
}

bool store_nospace(const struct store *store)
{
    return log_nospace(&store->log);
}

void store_hold(struct store *store, uint64_t index)
{
    const bool is_over = index == UINT64_MAX && store->hold_index != UINT64_MAX;
    store->hold_index = index;
    if (is_over) store->is_released = true;
}

struct store_base store_base(const struct store *store)
{
    return (struct store_base){
        .index = store->manifest.base_index,
        .term = store->manifest.base_term,
        .change_index = store->manifest.change_index,
        .change = buf_slice(&store->manifest.change),
    };
}

/* ---- damage, comparisons -------------------------------------------------------------------------- */

void store_note_damage(struct store *store, uint32_t file, uint64_t offset, uint64_t size)
{
    for (uint32_t i = 0; i < store->manifest.file_count; i++) {
        if (store->manifest.files[i].number != file) continue;
        if (damage_note(&store->damage, file, offset, size)) {
            store->compact.looked_count = UINT64_MAX; /* It is to be compacted. */
        }
        return;
    }
}

const struct damage *store_damage(const struct store *store)
{
    return &store->damage;
}

bool store_hash_at(const struct store *store, uint64_t index, uint64_t *hash)
{
    return witness_hash(&store->witness, index, hash);
}

uint64_t store_present(const struct store *store, uint64_t node_id)
{
    return witness_present(&store->witness, node_id);
}

struct witness_check store_checked(const struct store *store)
{
    return store->witness.check;
}

/* ---- figures -------------------------------------------------------------------------------------- */

struct store_stats store_stats(const struct store *store)
{
    const struct log *log = &store->log;
    struct store_stats stats = {
        .segments = log->segments_count,
        .bytes_written = log->bytes_written,
        .groups_written = log->groups_written,
        .syncs = log->groups_written,
        .tail_hits = store->tail_hits,
        .tail_misses = store->tail_misses,
        .seals = store->seal.count,
        .compactions = store->compact.jobs,
        .scrub_bytes = store->scrub.bytes,
        .scrub_passes = store->scrub.passes,
        .scrub_hints = store->scrub.hints,
    };
    for (uint32_t i = 0; i < log->segments_count; i++) stats.disk_size += log->segments[i]->size;
    for (uint32_t i = 0; i < store->shelf.count; i++) {
        const struct shelf_file *file = store->shelf.files[i];
        stats.disk_size += file->size + file->hint_size;
        if (file->handle >= 0) stats.segments++;
    }
    if (log->spare != NULL) {
        stats.segments++;
        stats.disk_size += log->spare->size;
    }
    return stats;
}

void store_check(const struct store *store)
{
    const struct log *log = &store->log;
    const struct manifest *base = &store->manifest;
    log_check(log);
    shelf_check(&store->shelf);
    keydir_check(store->keys);
    store_pasts_check(store);
    CHECK(store->applied_index <= log->persisted_index);
    CHECK(base->base_index <= store->applied_index);
    CHECK(log->first_index <= base->base_index + 1);
    CHECK(base->stamp_ms <= store->stamp_ms);

    /* The sealed segments are those of the manifest, number by number. */
    uint32_t position = 0;
    for (uint32_t i = 0; i < log->segments_count; i++) {
        const struct log_segment *segment = log->segments[i];
        while (position < base->file_count && base->files[position].is_table) position++;
        const bool sealed = segment->state == LOG_SEGMENT_SEALED;
        CHECK(sealed == (position < base->file_count));
        if (!sealed) continue;
        const struct log_file *file = &base->files[position++];
        CHECK(segment->file.number == file->number);
        CHECK(segment->file.file_id == file->file_id);
        CHECK(segment->file.last_index == file->last_index);
        CHECK(segment->file.used == file->used);
    }

    /* Every growing hint belongs to an unsealed segment. */
    for (uint32_t i = 0; i < store->growth_count; i++) {
        const struct log_segment *segment = log_segment_find(log, store->growths[i].number);
        CHECK(segment != NULL);
        CHECK(segment->state != LOG_SEGMENT_SEALED);
        if (i > 0) CHECK(store->growths[i - 1].number < store->growths[i].number);
    }
    if (store->seal.is_done) CHECK(store->seal.state != STORE_SEAL_IDLE);
}
