#include "storage/snapshot.h"

#include <stdio.h>

#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/hint_build.h"
#include "storage/segment.h"
#include "storage/table.h"

#define INCOMING "incoming"
#define NAME_SIZE 192u /* "<folder>/incoming/<file id>.log" and more */

static void incoming_folder(char name[NAME_SIZE], const char *folder)
{
    (void)snprintf(name, NAME_SIZE, "%s/" INCOMING, folder);
}

static void incoming_name(char name[NAME_SIZE], const char *folder, uint64_t file_id,
                          const char *kind)
{
    (void)snprintf(name, NAME_SIZE, "%s/" INCOMING "/%016llx.%s", folder,
                   (unsigned long long)file_id, kind);
}

/* Bytes of @name without the end that a disk gives to files in the making. A power cut can leave such a
 * file behind, and a disk may list it. */
static uint64_t stem_size(const char *name)
{
    const uint64_t size = strlen(name);
    const bool temporary = size > 4 && strcmp(name + size - 4, ".tmp") == 0;
    return temporary ? size - 4 : size;
}

/* The file id in @name, without folder, if incoming_name() made it. */
static bool incoming_id(const char *name, uint64_t *file_id)
{
    if (stem_size(name) != 20) return false;
    if (memcmp(name + 16, ".log", 4) != 0 && memcmp(name + 16, ".idx", 4) != 0) return false;
    *file_id = 0;
    for (uint32_t i = 0; i < 16; i++) {
        const bool digit = name[i] >= '0' && name[i] <= '9';
        const bool letter = name[i] >= 'a' && name[i] <= 'f';
        if (!digit && !letter) return false;
        *file_id = *file_id << 4 | (uint64_t)(digit ? name[i] - '0' : name[i] - 'a' + 10);
    }
    return true;
}

/* Not being able to remove a file of ours is harmless: the next start tries again. */
static void file_remove(struct disk *disk, const char *name)
{
    const enum err err = disk->remove(disk->context, name);
    (void)err;
}

void snapshot_init(struct snapshot *snapshot, struct disk *disk, const char *folder,
                   uint64_t cluster_id, uint16_t shard)
{
    CHECK(strlen(folder) <= NAME_SIZE_MAX);
    *snapshot = (struct snapshot){
        .disk = disk,
        .folder = folder,
        .cluster_id = cluster_id,
        .shard = shard,
    };
}

static void plan_close(struct snapshot *snapshot)
{
    manifest_close(&snapshot->manifest);
    mem_free(snapshot->received);
    snapshot->received = NULL;
    snapshot->active = false;
}

void snapshot_close(struct snapshot *snapshot)
{
    arrival_close(&snapshot->arrival);
    plan_close(snapshot);
}

static void file_drop(const struct snapshot *snapshot, uint64_t file_id)
{
    char name[NAME_SIZE];
    incoming_name(name, snapshot->folder, file_id, "log");
    file_remove(snapshot->disk, name);
    incoming_name(name, snapshot->folder, file_id, "idx");
    file_remove(snapshot->disk, name);
}

/* Removes from incoming/ what @manifest does not name, or of which nothing was @received. */
static void incoming_sweep(struct snapshot *snapshot, const struct manifest *manifest,
                           const uint64_t *received)
{
    struct disk *disk = snapshot->disk;
    char folder[NAME_SIZE];
    struct buf names = {0};
    incoming_folder(folder, snapshot->folder);
    if (disk->list(disk->context, folder, &names) != OK) names.size = 0;
    for (uint64_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
        const char *file = (const char *)names.data + at;
        uint64_t file_id;
        if (!incoming_id(file, &file_id)) continue;
        const struct log_file *wanted = manifest_find(manifest, file_id);
        const bool temporary = file[stem_size(file)] != 0;
        if (wanted != NULL && !temporary) {
            if (received[wanted - manifest->files] > 0) continue;
        }
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof name, "%.120s/%.60s", folder, file);
        file_remove(disk, name);
    }
    buf_close(&names);
    snapshot->has_leftovers = false;
}

void snapshot_forget(struct snapshot *snapshot)
{
    if (snapshot->active || !snapshot->has_leftovers) return;
    CHECK(snapshot->manifest.file_count == 0);
    incoming_sweep(snapshot, &snapshot->manifest, snapshot->received);
}

void snapshot_abort(struct snapshot *snapshot)
{
    if (!snapshot->active) return;
    snapshot_close(snapshot);
    snapshot->has_leftovers = true;
}

/* ---- begin ---------------------------------------------------------------------------------------- */

/* The same bytes with the same valid entries: what was received of one is good for the other. */
static bool file_same(const struct log_file *a, const struct log_file *b)
{
    return a->file_id == b->file_id && a->first_index == b->first_index &&
           a->last_index == b->last_index && a->used == b->used && a->is_table == b->is_table &&
           hash128_equal(a->seed, b->seed) && hash128_equal(a->chain, b->chain);
}

/* Is @file in incoming/ as a whole? Its hint was written when it had been verified and synced. */
static bool file_kept(const struct snapshot *snapshot, const struct log_file *file)
{
    struct disk *disk = snapshot->disk;
    char name[NAME_SIZE];
    const struct hint_segment segment = hint_build_segment(snapshot->cluster_id, file);
    struct hint_reader reader;
    incoming_name(name, snapshot->folder, file->file_id, "idx");
    if (hint_reader_open(&reader, disk, name, &segment) != OK) return false;
    hint_reader_close(&reader);
    disk_file handle;
    uint64_t size = 0;
    incoming_name(name, snapshot->folder, file->file_id, "log");
    if (disk->open(disk->context, name, false, &handle) != OK) return false;
    const enum err err = disk->size(disk->context, handle, &size);
    disk->close(disk->context, handle);
    return err == OK && size >= file->used;
}

/* The first file of @manifest that is not complete; its count: all are. */
static uint32_t wanted_first(const struct manifest *manifest, const uint64_t *received, uint32_t i)
{
    while (i < manifest->file_count && received[i] > manifest->files[i].used) i++;
    return i;
}

/* How much of each file of @manifest is here already. Sealed files keep their order in later manifests, so one
 * pass over both finds what they share up to where something was compacted; files behind that are found if
 * they are complete. The file under way goes on if it is the next one again. */
static uint64_t *received_before(const struct snapshot *snapshot, const struct manifest *manifest)
{
    uint64_t *received = mem_zero(manifest->file_count * sizeof *received);
    const uint32_t old_count = snapshot->active ? snapshot->manifest.file_count : 0;
    for (uint32_t i = 0; i < manifest->file_count && i < old_count; i++) {
        const struct log_file *file = &manifest->files[i];
        if (!file_same(file, &snapshot->manifest.files[i])) break;
        if (snapshot->received[i] > file->used) received[i] = file->used + 1;
    }
    const bool is_arriving = snapshot->arrival.state != ARRIVAL_IDLE;
    const struct log_file *arriving = is_arriving ? &snapshot->arrival.described : NULL;
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct log_file *file = &manifest->files[i];
        if (is_arriving && file->file_id == arriving->file_id) continue;
        if (received[i] == 0 && file_kept(snapshot, file)) received[i] = file->used + 1;
    }
    const uint32_t next = wanted_first(manifest, received, 0);
    if (is_arriving && next < manifest->file_count && file_same(&manifest->files[next], arriving)) {
        received[next] = snapshot->received[snapshot->next];
    }
    return received;
}

static enum err space_check(const struct snapshot *snapshot, const struct manifest *manifest,
                            const uint64_t *received)
{
    uint64_t available = 0;
    const enum err err = snapshot->disk->space(snapshot->disk->context, &available);
    if (err != OK) return err;
    uint64_t wanted = MIB; /* for the manifest and some hints */
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        /* A file that was begun has its full size already. */
        if (received[i] == 0) wanted += manifest->files[i].used;
    }
    return wanted <= available ? OK : ERR_NOSPACE;
}

static enum err incoming_make(const struct snapshot *snapshot)
{
    struct disk *disk = snapshot->disk;
    char name[NAME_SIZE];
    incoming_folder(name, snapshot->folder);
    const enum err err = disk->make_folder(disk->context, snapshot->folder);
    return err == OK ? disk->make_folder(disk->context, name) : err;
}

enum err snapshot_fits(struct snapshot *snapshot, struct slice bytes)
{
    struct manifest manifest = {0};
    const char *wrong = NULL;
    enum err err = manifest_decode(bytes, &manifest, &wrong);
    if (err != OK) return err;
    uint64_t *received = received_before(snapshot, &manifest);
    err = space_check(snapshot, &manifest, received);
    if (err == ERR_NOSPACE && !snapshot->active && snapshot->has_leftovers) {
        /* What came of an earlier base, and is no part of this one, may be what takes the room. */
        incoming_sweep(snapshot, &manifest, received);
        snapshot->has_leftovers = true;
        err = space_check(snapshot, &manifest, received);
    }
    mem_free(received);
    manifest_close(&manifest);
    return err == OK ? incoming_make(snapshot) : err;
}

static void state_replace(struct snapshot *snapshot, struct manifest *manifest, uint64_t *received)
{
    const uint32_t next = wanted_first(manifest, received, 0);
    if (next == manifest->file_count || received[next] == 0) arrival_close(&snapshot->arrival);
    plan_close(snapshot);
    snapshot->manifest = *manifest;
    *manifest = (struct manifest){0};
    snapshot->received = received;
    snapshot->next = next;
    snapshot->active = true;
    incoming_sweep(snapshot, &snapshot->manifest, snapshot->received);
}

enum err snapshot_begin(struct snapshot *snapshot, struct slice bytes, uint64_t above_index)
{
    struct manifest manifest = {0};
    uint64_t *received = NULL;
    const char *wrong = NULL;
    enum err err = manifest_decode(bytes, &manifest, &wrong);
    if (err != OK) return err;
    err = ERR_FOREIGN;
    if (manifest.cluster_id != snapshot->cluster_id) goto cleanup;
    if (manifest.shard != snapshot->shard) goto cleanup;
    err = ERR_INVALID;
    if (manifest.base_index <= above_index) goto cleanup;
    err = ERR_CORRUPT;
    /* Two files of one id would be written over each other. */
    if (!manifest_unique(&manifest, true)) goto cleanup;
    received = received_before(snapshot, &manifest);
    err = space_check(snapshot, &manifest, received);
    if (err != OK) goto cleanup;
    err = incoming_make(snapshot);
    if (err != OK) goto cleanup;
    state_replace(snapshot, &manifest, received);
    return OK;
cleanup:
    mem_free(received);
    manifest_close(&manifest);
    return err;
}

/* ---- pieces --------------------------------------------------------------------------------------- */

static uint32_t file_wanted(const struct snapshot *snapshot)
{
    return wanted_first(&snapshot->manifest, snapshot->received, snapshot->next);
}

bool snapshot_want(const struct snapshot *snapshot, uint64_t *file_id, uint64_t *offset,
                   uint64_t *size)
{
    if (!snapshot->active || snapshot_busy(snapshot)) return false;
    const uint32_t i = file_wanted(snapshot);
    if (i == snapshot->manifest.file_count) return false;
    const struct log_file *file = &snapshot->manifest.files[i];
    CHECK(file->used > snapshot->received[i]);
    *file_id = file->file_id;
    *offset = snapshot->received[i];
    *size = file->used - snapshot->received[i];
    return true;
}

bool snapshot_busy(const struct snapshot *snapshot)
{
    return snapshot->arrival.is_whole;
}

bool snapshot_full(const struct snapshot *snapshot)
{
    return arrival_full(&snapshot->arrival);
}

bool snapshot_complete(const struct snapshot *snapshot)
{
    return snapshot->active && file_wanted(snapshot) == snapshot->manifest.file_count;
}

void snapshot_progress(const struct snapshot *snapshot, uint64_t *here, uint64_t *all)
{
    *here = 0;
    *all = 0;
    if (!snapshot->active) return;
    for (uint32_t i = 0; i < snapshot->manifest.file_count; i++) {
        const uint64_t used = snapshot->manifest.files[i].used;
        const uint64_t received = snapshot->received[i];
        *here += received < used ? received : used;
        *all += used;
    }
}

static void file_begin(struct snapshot *snapshot, uint32_t i)
{
    char log_name[NAME_SIZE];
    char hint[NAME_SIZE];
    const struct log_file *file = &snapshot->manifest.files[i];
    const struct hint_source source = {
        .disk = snapshot->disk,
        .cluster_id = snapshot->cluster_id,
        .shard = snapshot->shard,
        .file = file,
    };
    incoming_name(log_name, snapshot->folder, file->file_id, "log");
    incoming_name(hint, snapshot->folder, file->file_id, "idx");
    arrival_begin(&snapshot->arrival, &source, log_name, hint);
    snapshot->next = i;
}

/* The file under way is worth nothing. */
static void file_give_up(struct snapshot *snapshot)
{
    const uint64_t file_id = snapshot->arrival.described.file_id;
    arrival_close(&snapshot->arrival);
    snapshot->received[snapshot->next] = 0;
    file_drop(snapshot, file_id);
}

enum err snapshot_chunk(struct snapshot *snapshot, uint64_t file_id, uint64_t offset,
                        struct slice data)
{
    uint64_t wanted_id;
    uint64_t wanted_offset;
    uint64_t wanted_size;
    if (!snapshot_want(snapshot, &wanted_id, &wanted_offset, &wanted_size)) return ERR_INVALID;
    if (file_id != wanted_id || offset != wanted_offset) return ERR_INVALID;
    if (data.size == 0 || data.size > wanted_size) return ERR_INVALID;

    if (snapshot->arrival.state == ARRIVAL_IDLE) file_begin(snapshot, file_wanted(snapshot));
    const enum err err = arrival_take(&snapshot->arrival, data);
    if (err != OK) {
        file_give_up(snapshot);
        return err;
    }
    snapshot->received[snapshot->next] += data.size;
    return OK;
}

/* What the disk did with the file under way. */
static enum err settle(struct snapshot *snapshot, enum err err)
{
    if (err != OK) {
        file_give_up(snapshot);
        return err == ERR_NOSPACE ? ERR_NOSPACE : ERR_IO;
    }
    if (snapshot->arrival.state != ARRIVAL_DONE) return OK;
    arrival_close(&snapshot->arrival);
    snapshot->received[snapshot->next]++;
    return OK;
}

enum err snapshot_turn(struct snapshot *snapshot)
{
    return settle(snapshot, arrival_turn(&snapshot->arrival));
}

enum err snapshot_wait(struct snapshot *snapshot)
{
    return settle(snapshot, arrival_wait(&snapshot->arrival));
}

/* ---- commit --------------------------------------------------------------------------------------- */

enum err snapshot_commit(struct snapshot *snapshot, uint64_t number, const uint32_t *numbers)
{
    CHECK(snapshot_complete(snapshot));
    struct manifest manifest = {0};
    manifest_copy(&manifest, &snapshot->manifest);
    manifest.number = number;
    for (uint32_t i = 0; i < manifest.file_count; i++) manifest.files[i].number = numbers[i];
    struct buf bytes = {0};
    manifest_encode(&manifest, &bytes);
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof name, "%s/" MANIFEST_NAME, snapshot->folder);
    const enum err err = snapshot->disk->replace(snapshot->disk->context, name, buf_slice(&bytes));
    buf_close(&bytes);
    manifest_close(&manifest);
    if (err == OK) snapshot_close(snapshot); /* The files belong to the manifest now. */
    return err;
}

/* ---- start ---------------------------------------------------------------------------------------- */

static bool file_exists(struct disk *disk, const char *name)
{
    disk_file file;
    if (disk->open(disk->context, name, false, &file) != OK) return false;
    disk->close(disk->context, file);
    return true;
}

enum err snapshot_settle(struct snapshot *snapshot, const struct manifest *manifest)
{
    struct disk *disk = snapshot->disk;
    const char *folder = snapshot->folder;
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct log_file *file = &manifest->files[i];
        char segment[SEGMENT_NAME_SIZE];
        char hint[HINT_NAME_SIZE];
        char from[NAME_SIZE];
        table_file_name(segment, folder, file);
        incoming_name(from, folder, file->file_id, "log");
        if (file_exists(disk, segment) || !file_exists(disk, from)) continue;
        /* The hint first: the segment's own name tells that both are in place. */
        char from_hint[NAME_SIZE];
        incoming_name(from_hint, folder, file->file_id, "idx");
        hint_name(hint, folder, file->number);
        enum err err = disk->rename(disk->context, from_hint, hint);
        if (err != OK && err != ERR_NOT_FOUND) return err;
        err = disk->rename(disk->context, from, segment);
        if (err != OK) return err;
    }
    return OK;
}

static const struct log_file *file_of_number(const struct manifest *manifest, uint32_t number)
{
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        if (manifest->files[i].number == number) return &manifest->files[i];
    }
    return NULL;
}

static bool is_listed(const struct buf *names, const char *name)
{
    for (uint64_t at = 0; at < names->size; at += strlen((char *)names->data + at) + 1) {
        if (strcmp((const char *)names->data + at, name) == 0) return true;
    }
    return false;
}

/* A segment, table or hint that the manifest has replaced or never named, or a file in the making that a crash
 * left. @names: of everything in the folder. */
static bool obsolete(const struct manifest *manifest, const struct buf *names, const char *name)
{
    char stem[64];
    const uint64_t size = stem_size(name);
    if (size >= sizeof stem) return false;
    memcpy(stem, name, size);
    stem[size] = 0;
    const uint32_t table = table_number(stem);
    const uint32_t segment = segment_number(stem);
    const uint32_t hint = hint_number(stem);
    const uint32_t number = table > 0 ? table : segment > 0 ? segment : hint;
    if (number == 0) return false;
    if (name[size] != 0) return true;
    const struct log_file *file = file_of_number(manifest, number);
    if (table > 0) return file == NULL || !file->is_table;
    /* Above the newest sealed segment are those of the log: recover.c knows about them. */
    const struct log_file *newest = manifest_last(manifest);
    const uint32_t highest = newest != NULL ? newest->number : 0;
    if (segment > 0) return number < highest && (file == NULL || file->is_table);
    if (file != NULL) return false;
    char owner[SEGMENT_NAME_SIZE];
    segment_name(owner, "", number);
    return number < highest || !is_listed(names, owner + 1);
}

void snapshot_clean(struct snapshot *snapshot, const struct manifest *manifest)
{
    struct disk *disk = snapshot->disk;
    struct buf names = {0};
    if (disk->list(disk->context, snapshot->folder, &names) != OK) names.size = 0;
    for (uint64_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
        const char *file = (const char *)names.data + at;
        if (!obsolete(manifest, &names, file)) continue;
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof name, "%.120s/%.60s", snapshot->folder, file);
        file_remove(disk, name);
    }
    buf_close(&names);
    snapshot->has_leftovers = true; /* perhaps: looking is left to who wants to know */
}
