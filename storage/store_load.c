#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/hint_build.h"
#include "storage/recover.h"
#include "storage/store_inner.h"
#include "storage/table.h"

/* What a start collects. */
struct load {
    struct store *store;
    struct buf *message;
    struct buf rebuilt; /* u32 positions in the manifest: files whose hint must be written again */
};

static void refuse(struct load *load, enum err err, const char *file, uint64_t offset,
                   const char *wrong)
{
    load->message->size = 0;
    damage_fault_set(load->store->config.fault, DAMAGE_STATE, file, offset, wrong);
    buf_printf(load->message, "%s: offset %llu: %s; %s", file, (unsigned long long)offset, wrong,
               err_advice(err));
}

/* ---- manifest ------------------------------------------------------------------------------------- */

static enum err manifest_bytes(struct disk *disk, const char *name, struct buf *bytes)
{
    disk_file file;
    enum err err = disk->open(disk->context, name, false, &file);
    if (err != OK) return err;
    uint64_t size = 0;
    err = disk->size(disk->context, file, &size);
    if (err == OK && size > MANIFEST_SIZE_MAX) err = ERR_CORRUPT;
    if (err == OK) err = disk->read(disk->context, file, 0, buf_extend(bytes, size), size);
    disk->close(disk->context, file);
    return err;
}

static enum err load_manifest(struct load *load)
{
    struct store *store = load->store;
    char name[STORE_NAME_SIZE];
    (void)snprintf(name, sizeof name, "%s/" MANIFEST_NAME, store->config.folder);
    struct buf bytes = {0};
    const char *wrong = "it cannot be read";
    enum err err = manifest_bytes(store->config.disk, name, &bytes);
    if (err == ERR_NOT_FOUND) return OK; /* nothing was sealed yet */
    if (err == OK) err = manifest_decode(buf_slice(&bytes), &store->manifest, &wrong);
    buf_close(&bytes);
    if (err == OK && store->manifest.cluster_id != store->config.cluster_id) {
        wrong = "it belongs to another cluster";
        err = ERR_FOREIGN;
    }
    if (err == OK && store->manifest.shard != store->config.shard) {
        wrong = "it belongs to another shard";
        err = ERR_FOREIGN;
    }
    if (err != OK) {
        refuse(load, err, name, 0, wrong);
        return err;
    }
    err = snapshot_settle(&store->incoming, &store->manifest);
    if (err != OK) refuse(load, err, name, 0, "a file it names cannot be moved to its place");
    return err;
}

/* ---- keys ----------------------------------------------------------------------------------------- */

/* Opens a table and puts every sealed file on the shelf. Segments are opened with the log. */
static enum err load_file(struct load *load, const struct log_file *file)
{
    struct store *store = load->store;
    struct disk *disk = store->config.disk;
    struct shelf_file *shelved = shelf_add(&store->shelf, file);
    shelved->state = SHELF_SEALED;
    if (!file->is_table) return OK;
    char name[SEGMENT_NAME_SIZE];
    table_name(name, store->config.folder, file->number);
    const char *wrong = "a table is missing";
    enum err err = disk->open(disk->context, name, false, &shelved->handle);
    if (err == ERR_NOT_FOUND) err = ERR_CORRUPT;
    if (err == OK) {
        const struct hint_source source = {
            .disk = disk,
            .handle = shelved->handle,
            .cluster_id = store->config.cluster_id,
            .shard = store->config.shard,
            .file = file,
        };
        err = hint_build_check(&source, &shelved->size, &wrong);
    }
    /* Its hint may say what is in it; without that, making the hint will refuse the start. */
    if (err == ERR_CORRUPT || err == ERR_IO) {
        (void)damage_note(&store->damage, file->number, 0, SEGMENT_BLOCK_SIZE);
        return OK;
    }
    if (err == ERR_HANDLES) wrong = "it cannot be opened";
    if (err != OK) refuse(load, err, name, 0, wrong);
    return err;
}

/* The effects of one sealed file in their order. OK: all of them. */
static enum err apply_hint(struct store *store, struct hint_reader *reader, uint32_t number)
{
    struct shelf_file *file = shelf_find(&store->shelf, number);
    struct hint_entry entries[KEYDIR_WARM_MAX];
    struct slice keys[KEYDIR_WARM_MAX];
    uint32_t count = 0;
    enum err err;
    while ((err = hint_reader_some(reader, entries, KEYDIR_WARM_MAX, &count)) == OK) {
        for (uint32_t i = 0; i < count; i++) keys[i] = entries[i].key;
        keydir_warm(store->keys, keys, count);
        for (uint32_t i = 0; i < count; i++) store_apply_entry(store, file, &entries[i]);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Makes the hint of a sealed file from the file. */
static enum err build_hint(struct load *load, const struct log_file *file, struct hint *hint)
{
    const struct store_config *config = &load->store->config;
    char name[SEGMENT_NAME_SIZE];
    table_file_name(name, config->folder, file);
    struct hint_source source = {
        .disk = config->disk,
        .cluster_id = config->cluster_id,
        .shard = config->shard,
        .file = file,
    };
    enum err err = config->disk->open(config->disk->context, name, false, &source.handle);
    if (err == ERR_NOT_FOUND) err = ERR_CORRUPT;
    if (err != OK) {
        refuse(load, err, name, 0, "the manifest names this file, and it cannot be opened");
        return err;
    }
    const char *wrong = NULL;
    uint64_t offset = 0;
    err = hint_build(hint, &source, &wrong, &offset);
    config->disk->close(config->disk->context, source.handle);
    if (err != OK) refuse(load, err, name, offset, wrong);
    return err;
}

static enum err load_keys_of(struct load *load, uint32_t position)
{
    struct store *store = load->store;
    const struct log_file *file = &store->manifest.files[position];
    const struct hint_segment segment = hint_build_segment(store->config.cluster_id, file);
    char name[HINT_NAME_SIZE];
    hint_name(name, store->config.folder, file->number);
    struct hint_reader reader;
    enum err err = hint_reader_open(&reader, store->config.disk, name, &segment);
    if (err == OK) {
        struct shelf_file *shelved = shelf_find(&store->shelf, file->number);
        shelved->items = reader.entry_count;
        shelved->hint_size = reader.file_size;
        err = apply_hint(store, &reader, file->number);
        hint_reader_close(&reader);
    }
    if (err == OK) return OK;

    /* Whatever is wrong with the hint, the segment knows better. Effects that were applied already are
     * applied once more, which ends in the same keys (hint.h). */
    struct hint hint;
    err = build_hint(load, file, &hint);
    if (err != OK) return err;
    hint_reader_memory(&reader, &hint);
    struct shelf_file *shelved = shelf_find(&store->shelf, file->number);
    shelved->items = reader.entry_count;
    shelved->hint_size = reader.file_size;
    err = apply_hint(store, &reader, file->number);
    hint_reader_close(&reader);
    hint_close(&hint);
    CHECK(err == OK); /* It was made just now. */
    buf_u32(&load->rebuilt, position);
    return OK;
}

/* Hints are written again only when the start has succeeded: one that refuses changes nothing. They are
 * a help, not a need, so errors do not matter here. */
static void write_hints(struct load *load)
{
    struct store *store = load->store;
    struct disk *disk = store->config.disk;
    struct buf unheard = {0};
    struct load again = {.store = store, .message = &unheard};
    struct reader reader = reader_of(buf_slice(&load->rebuilt));
    while (reader.at < reader.end) {
        const struct log_file *file = &store->manifest.files[reader_u32(&reader)];
        struct hint hint;
        if (build_hint(&again, file, &hint) != OK) continue;
        char name[HINT_NAME_SIZE];
        hint_name(name, store->config.folder, file->number);
        const enum err err = disk->replace(disk->context, name, buf_slice(&hint.bytes));
        (void)err;
        hint_close(&hint);
    }
    buf_close(&unheard);
}

/* The files together must make the keys that the manifest vouches for. */
static enum err check_hash(struct load *load)
{
    struct store *store = load->store;
    const uint64_t hash = keydir_hash(store->keys);
    if (store->manifest.base_index == 0) return OK;
    if (store->manifest.has_state_hash && store->manifest.state_hash != hash) {
        char name[STORE_NAME_SIZE];
        (void)snprintf(name, sizeof name, "%s/" MANIFEST_NAME, store->config.folder);
        refuse(load, ERR_CORRUPT, name, 0,
               "the keys in the files are not those that it vouches for");
        return ERR_CORRUPT;
    }
    store->manifest.has_state_hash = true;
    store->manifest.state_hash = hash;
    return OK;
}

/* ---- log ------------------------------------------------------------------------------------------ */

static enum err load_log(struct load *load)
{
    struct store *store = load->store;
    const struct store_config *config = &store->config;
    const struct log_config log_config = {
        .disk = config->disk,
        .folder = config->folder,
        .shard = config->shard,
        .cluster_id = config->cluster_id,
        .node_id = config->node_id,
        .random_seed = config->random_seed,
        .segment_size = config->segment_size,
        .tail_size = config->tail_size,
        .reserve_size = config->reserve_size,
    };
    struct buf segments = {0}; /* struct log_file */
    uint32_t highest = 0;
    uint64_t window_size = 0;
    for (uint32_t i = 0; i < store->manifest.file_count; i++) {
        const struct log_file *file = &store->manifest.files[i];
        if (file->number > highest) highest = file->number;
        if (!file->is_table) buf_append(&segments, file, sizeof *file);
    }
    const struct recover_start start = {
        .sealed = (const struct log_file *)(const void *)segments.data,
        .sealed_count = (uint32_t)(segments.size / sizeof(struct log_file)),
        .number_min = highest + 1,
        .load_number = store_seal_window(store, store->config.retention_size, &window_size),
        .base_index = store->manifest.base_index,
        .base_term = store->manifest.base_term,
        .fault = config->fault,
        .damage = &store->damage,
    };
    const enum err err = recover_log(&store->log, &log_config, &start, load->message);
    buf_close(&segments);
    return err;
}

static enum err load_ballot(struct load *load)
{
    struct store *store = load->store;
    const struct store_config *config = &store->config;
    const enum err err = ballot_open(&store->ballot, config->disk, config->folder,
                                     config->cluster_id, config->node_id, load->message);
    if (err != OK) damage_fault_set(config->fault, DAMAGE_BALLOT, "vote", 0, err_name(err));
    return err;
}

static enum err load_all(struct load *load)
{
    struct store *store = load->store;
    enum err err = load_manifest(load);
    for (uint32_t i = 0; err == OK && i < store->manifest.file_count; i++) {
        err = load_file(load, &store->manifest.files[i]);
    }
    keydir_bulk_begin(store->keys);
    for (uint32_t i = 0; err == OK && i < store->manifest.file_count; i++) {
        err = load_keys_of(load, i);
    }
    keydir_bulk_end(store->keys);
    if (err == OK) err = check_hash(load);
    if (err != OK) return err;
    store->applied_index = store->manifest.base_index;
    witness_init(&store->witness, store->applied_index, keydir_hash(store->keys));
    store->stamp_ms = store->manifest.stamp_ms;
    for (uint32_t i = 0; i < store->manifest.file_count; i++) {
        /* What compaction left out is gone, and when it died is not known any more: up to the base, in any case. */
        if (store->manifest.files[i].is_table) store->removed_index = store->manifest.base_index;
    }

    err = load_ballot(load);
    if (err != OK) return err;
    err = load_log(load);
    if (err != OK) {
        ballot_close(&store->ballot);
        return err;
    }
    struct buf wrong = {0};
    err = ballot_against_log(&store->ballot, store_term_at(store, store->log.last_index), &wrong);
    if (err != OK) {
        load->message->size = 0;
        damage_fault_set(store->config.fault, DAMAGE_BALLOT, "vote", 0, "it is older than the log");
        buf_append(load->message, wrong.data, wrong.size);
        log_stop(&store->log);
        log_close(&store->log);
        ballot_close(&store->ballot);
    }
    buf_close(&wrong);
    return err;
}

/* A crash came before the sealed file had given back what it did not use. */
static void trim_later(struct store *store)
{
    for (uint32_t i = 0; i < store->log.segments_count; i++) {
        const struct log_segment *segment = store->log.segments[i];
        if (segment->state != LOG_SEGMENT_SEALED || segment->size <= segment->file.used) continue;
        struct shelf_file *file = shelf_find(&store->shelf, segment->file.number);
        file->wants_trim = true;
        file->is_read_only = true;
        store->tidy.chores++;
    }
}

enum err store_load(struct store *store, struct buf *message)
{
    struct load load = {.store = store, .message = message};
    const enum err err = load_all(&load);
    if (err == OK) {
        write_hints(&load);
        snapshot_clean(&store->incoming, &store->manifest);
        trim_later(store);
    }
    buf_close(&load.rebuilt);
    return err;
}
