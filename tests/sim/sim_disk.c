#include "tests/sim/sim_disk.h"

#include <string.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define BLOCK_SIZE 4096u
#define CHANGE_NAME_MAX (SIM_DISK_NAME_MAX - 4) /* room for ".tmp" */

/* One change of the disk: an operation of either kind, in one form. */
enum change_kind {
    CHANGE_WRITE,
    CHANGE_CREATE,
    CHANGE_REPLACE,
    CHANGE_RENAME,
    CHANGE_REMOVE,
    CHANGE_TRIM,
};
struct change {
    enum change_kind kind;
    struct sim_file *file; /* of a write or trim */
    const char *name;
    const char *to; /* of a rename */
    uint64_t offset;
    uint64_t size; /* of a create or trim */
    struct slice data;
    bool sync;
};

/* ---- changes -------------------------------------------------------------------------------------- */

static struct sim_file *change_made(struct sim_image *image, const struct change *change,
                                    const char *name)
{
    struct sim_file *file = sim_image_add(image, name);
    const uint64_t size = change->data.size > change->size ? change->data.size : change->size;
    sim_image_grow(file, size);
    file->size = size;
    sim_image_write(file, 0, change->data, NULL);
    sim_image_synced(file);
    return file;
}

/* Does all of @change to @image. Returns the file that it made, if any. */
static struct sim_file *change_do(struct sim_image *image, const struct change *change)
{
    struct sim_file *file = change->file;
    switch (change->kind) {
    case CHANGE_WRITE:
        sim_image_write(file, change->offset, change->data, NULL);
        if (change->sync) sim_image_synced(file);
        return NULL;
    case CHANGE_CREATE:
    case CHANGE_REPLACE:
        file = sim_image_find(image, change->name);
        if (file != NULL) file->is_linked = false;
        file = change_made(image, change, change->name);
        sim_image_folder_synced(image, change->name);
        sim_image_sweep(image);
        return file;
    case CHANGE_RENAME:
        sim_image_link(image, sim_image_find(image, change->name), change->to);
        sim_image_sweep(image);
        return NULL;
    case CHANGE_REMOVE:
        file = sim_image_find(image, change->name);
        file->is_linked = false;
        file->is_removing = true;
        return NULL;
    case CHANGE_TRIM:
        if (change->size >= file->size)
            return NULL; /* Nothing is cut, and nothing synced either. */
        sim_image_cut(file, change->size);
        sim_image_synced(file);
        return NULL;
    }
    UNREACHABLE();
}

/* Some sectors of a write that was under way: none, a beginning, or any. */
static void change_tear_write(struct sim_disk *disk, struct sim_file *file,
                              const struct change *change)
{
    const uint64_t first = change->offset / SIM_DISK_SECTOR_SIZE;
    const uint64_t end = align_up(change->offset + change->data.size, SIM_DISK_SECTOR_SIZE);
    const uint64_t count = end / SIM_DISK_SECTOR_SIZE - first;
    uint8_t *keep = mem_zero(count + 1);
    const bool in_order = prng_below(&disk->prng, 3) == 0;
    const uint64_t kept = prng_below(&disk->prng, count + 1);
    for (uint64_t i = 0; i < count; i++) {
        keep[i] = in_order ? i < kept : prng_below(&disk->prng, count) < kept;
    }
    sim_image_write(file, change->offset, change->data, keep);
    mem_free(keep);
}

/* Leaves in @image what a crash leaves of a change that was under way. */
static void change_tear(struct sim_disk *disk, struct sim_image *image, const struct change *change)
{
    const uint64_t choice = prng_below(&disk->prng, 4);
    if (choice == 0) return;
    if (change->kind == CHANGE_WRITE || change->kind == CHANGE_TRIM) {
        struct change twin = *change;
        twin.file = change->file->twin;
        if (twin.file == NULL) return; /* No name leads to this file: it is gone anyway. */
        if (choice == 1 || change->kind == CHANGE_TRIM) {
            change_do(image, &twin);
            return;
        }
        disk->torn_count++;
        change_tear_write(disk, twin.file, &twin);
        return;
    }
    if (choice > 1 || change->kind == CHANGE_RENAME || change->kind == CHANGE_REMOVE) {
        if (change->kind == CHANGE_REMOVE && sim_image_find(image, change->name) == NULL) return;
        change_do(image, change);
        return;
    }
    /* The temporary file was made, wholly or in part, but not yet renamed. */
    char name[SIM_DISK_NAME_MAX + 1];
    const uint64_t size = strlen(change->name);
    memcpy(name, change->name, size);
    memcpy(name + size, ".tmp", sizeof ".tmp");
    disk->torn_count++;
    struct sim_file *file = sim_image_find(image, name);
    if (file != NULL) file->is_linked = false;
    struct change part = *change;
    if (prng_below(&disk->prng, 2) == 0) {
        part.data.size = prng_below(&disk->prng, part.data.size + 1);
    }
    change_made(image, &part, name);
    sim_image_sweep(image);
}

static struct change change_of_op(const struct sim_disk *disk, const struct disk_op *op)
{
    struct change change = {.name = op->name, .data = op->data, .offset = op->offset};
    change.sync = op->sync;
    switch (op->kind) {
    case DISK_WRITE:
    case DISK_TRIM:
        change.kind = op->kind == DISK_WRITE ? CHANGE_WRITE : CHANGE_TRIM;
        change.size = op->kind == DISK_TRIM ? op->size : 0;
        CHECK(op->file >= 0 && (uint32_t)op->file < disk->handle_count);
        CHECK(disk->handles[op->file].file != NULL); /* Closed while an operation was under way. */
        CHECK(disk->handles[op->file].is_writable);
        change.file = disk->handles[op->file].file;
        break;
    case DISK_CREATE:
        change.kind = CHANGE_CREATE;
        change.size = op->size;
        break;
    case DISK_REPLACE: change.kind = CHANGE_REPLACE; break;
    case DISK_REMOVE: change.kind = CHANGE_REMOVE; break;
    default: UNREACHABLE();
    }
    return change;
}

/* ---- stop and crash ------------------------------------------------------------------------------- */

/* Loses unsynced sectors and removals of @file, each on its own, with @chance of 16. */
static void lose_unsynced(struct sim_disk *disk, struct sim_file *file, uint64_t chance)
{
    for (uint32_t i = file->dirty_count; i > 0; i--) {
        const struct sim_sector *sector = &file->dirty[i - 1];
        const uint64_t start = sector->number * SIM_DISK_SECTOR_SIZE;
        if (prng_below(&disk->prng, 16) >= chance || start >= file->capacity) continue;
        memcpy(file->data + start, sector->old, SIM_DISK_SECTOR_SIZE);
        disk->lost_count++;
    }
    if (file->size != file->size_durable && prng_below(&disk->prng, 16) < chance) {
        CHECK(file->size_durable <= file->size); /* What shortens a file also syncs it. */
        sim_image_cut(file, file->size_durable);
    }
    if (file->is_removing && prng_below(&disk->prng, 16) < chance) file->is_linked = true;
}

static void stop_with(struct sim_disk *disk, bool power, const struct change *under_way)
{
    CHECK(!disk->is_stopped);
    disk->is_stopped = true;
    disk->stop_in = 0;
    sim_image_copy(&disk->image, &disk->survivors);
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) {
        const struct disk_op *op = disk->lanes[i].first;
        if (op == NULL || op->kind == DISK_READ) continue;
        const struct change change = change_of_op(disk, op);
        change_tear(disk, &disk->survivors, &change);
    }
    if (under_way != NULL) change_tear(disk, &disk->survivors, under_way);

    /* Most crashes mix; some lose all that can be lost, some nothing. */
    static const uint8_t chances[] = {0, 2, 8, 8, 14, 16};
    const uint64_t chance = power ? chances[prng_below(&disk->prng, sizeof chances)] : 0;
    for (struct sim_file *file = disk->survivors.files; file != NULL; file = file->next) {
        lose_unsynced(disk, file, chance);
        file->is_removing = false;
        sim_image_synced(file);
    }
    /* An undone removal must not give two files one name: the newer one was synced, so it stays. */
    for (struct sim_file *file = disk->survivors.files; file != NULL; file = file->next) {
        for (struct sim_file *old = disk->survivors.files; old != file; old = old->next) {
            if (file->is_linked && strcmp(old->name, file->name) == 0) old->is_linked = false;
        }
    }
    sim_image_sweep(&disk->survivors);
}

void sim_disk_stop(struct sim_disk *disk, bool power)
{
    if (!disk->is_stopped) stop_with(disk, power, NULL);
}

void sim_disk_stop_after(struct sim_disk *disk, uint64_t changes)
{
    disk->stop_in = changes;
}

bool sim_disk_stopped(const struct sim_disk *disk)
{
    return disk->is_stopped;
}

void sim_disk_crash(struct sim_disk *disk)
{
    sim_disk_stop(disk, true);
    sim_image_close(&disk->image);
    disk->image = disk->survivors;
    disk->survivors = (struct sim_image){0};
    disk->is_stopped = false;
    disk->handle_count = 0;
    memset(disk->lanes, 0, sizeof disk->lanes);
}

/* Counts a change that is about to happen. @is_op: it stands in a lane, where the stop finds it. */
static void change_count(struct sim_disk *disk, const struct change *change, bool is_op)
{
    const uint64_t fields[] = {disk->hash, (uint64_t)change->kind, change->offset, change->size,
                               hash64(change->data.data, change->data.size)};
    disk->hash = hash64(fields, sizeof fields);
    disk->change_count++;
    if (disk->stop_in == 0 || disk->is_stopped) return;
    disk->stop_in--;
    if (disk->stop_in == 0) stop_with(disk, true, is_op ? NULL : change);
}

/* ---- struct disk: synchronous --------------------------------------------------------------------- */

static disk_file handle_add(struct sim_disk *disk, struct sim_file *file, bool writable)
{
    if (disk->handle_count == disk->handle_capacity) {
        disk->handle_capacity = disk->handle_capacity * 2 + 16;
        disk->handles = mem_resize(disk->handles, disk->handle_capacity * sizeof *disk->handles);
    }
    disk->handles[disk->handle_count] = (struct sim_handle){file, writable};
    file->open_count++;
    return (disk_file)disk->handle_count++;
}

static struct sim_file *handle_file(const struct sim_disk *disk, disk_file file)
{
    CHECK(file >= 0 && (uint32_t)file < disk->handle_count);
    CHECK(disk->handles[file].file != NULL); /* Used after close. */
    return disk->handles[file].file;
}

static enum err do_open(void *context, const char *name, bool writable, disk_file *file)
{
    struct sim_disk *disk = context;
    struct sim_file *found = sim_image_find(&disk->image, name);
    if (found == NULL) return ERR_NOT_FOUND;
    *file = handle_add(disk, found, writable);
    return OK;
}

static void do_close(void *context, disk_file file)
{
    struct sim_disk *disk = context;
    struct sim_file *found = handle_file(disk, file);
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) {
        for (const struct disk_op *op = disk->lanes[i].first; op != NULL; op = op->next) {
            CHECK(op->kind != DISK_WRITE || op->file != file); /* Closed under its write. */
        }
    }
    disk->handles[file].file = NULL;
    found->open_count--;
    sim_image_sweep(&disk->image);
}

static enum err do_size(void *context, disk_file file, uint64_t *size)
{
    *size = handle_file(context, file)->size;
    return OK;
}

static bool is_unreadable(const struct sim_disk *disk, const struct sim_file *file, uint64_t offset,
                          uint64_t size)
{
    if (disk->read_error[0] == 0 || strcmp(disk->read_error, file->name) != 0) return false;
    if (offset + size <= disk->read_error_start) return false;
    return disk->read_error_end == 0 || offset < disk->read_error_end;
}

static enum err do_read(void *context, disk_file file, uint64_t offset, void *data, uint64_t size)
{
    const struct sim_disk *disk = context;
    const struct sim_file *found = handle_file(disk, file);
    if (is_unreadable(disk, found, offset, size)) return ERR_IO;
    if (size > found->size || offset > found->size - size) return ERR_CORRUPT;
    if (size > 0) memcpy(data, found->data + offset, size);
    return OK;
}

static enum err do_read_now(void *context, disk_file file, uint64_t offset, void *data,
                            uint64_t size)
{
    struct sim_disk *disk = context;
    if (disk->cold_percent > 0 && prng_below(&disk->prng, 100) < disk->cold_percent) {
        return ERR_AGAIN;
    }
    return do_read(context, file, offset, data, size);
}

/* Would @size more bytes for a new or longer file fit? Counts the refusals. */
static bool space_for(struct sim_disk *disk, uint64_t size)
{
    const uint64_t used = sim_image_used(&disk->image);
    const uint64_t wanted = align_up(size, BLOCK_SIZE);
    if (used <= disk->capacity && wanted <= disk->capacity - used) return true;
    disk->full_count++;
    return false;
}

static enum err change_refuse(struct sim_disk *disk, const struct change *change)
{
    const uint64_t size = change->data.size > change->size ? change->data.size : change->size;
    const uint64_t end = change->offset + change->data.size;
    switch (change->kind) {
    case CHANGE_WRITE:
        if (end <= change->file->size) return OK;
        return space_for(disk, end - change->file->size) ? OK : ERR_NOSPACE;
    case CHANGE_CREATE:
        if (sim_image_find(&disk->image, change->name) != NULL) return ERR_EXISTS;
        /* fall through */
    case CHANGE_REPLACE:
        CHECK(strlen(change->name) <= CHANGE_NAME_MAX);
        if (!sim_image_has_folder(&disk->image, change->name,
                                  sim_image_folder_size(change->name))) {
            return ERR_NOT_FOUND;
        }
        return space_for(disk, size) ? OK : ERR_NOSPACE;
    case CHANGE_RENAME:
        if (!sim_image_has_folder(&disk->image, change->to, sim_image_folder_size(change->to)))
            return ERR_NOT_FOUND;
        /* fall through */
    case CHANGE_REMOVE:
        return sim_image_find(&disk->image, change->name) != NULL ? OK : ERR_NOT_FOUND;
    case CHANGE_TRIM: return OK;
    }
    UNREACHABLE();
}

static enum err change_run(struct sim_disk *disk, const struct change *change, bool is_op,
                           struct sim_file **made)
{
    const enum err err = change_refuse(disk, change);
    if (err != OK) return err;
    change_count(disk, change, is_op);
    struct sim_file *file = change_do(&disk->image, change);
    if (made != NULL) *made = file;
    return OK;
}

static enum err do_write_sync(void *context, disk_file file, uint64_t offset, struct slice data)
{
    struct sim_disk *disk = context;
    struct change change = {.kind = CHANGE_WRITE, .offset = offset, .data = data, .sync = true};
    change.file = handle_file(disk, file);
    CHECK(disk->handles[file].is_writable);
    return change_run(disk, &change, false, NULL);
}

static enum err do_create(void *context, const char *name, uint64_t size, struct slice data,
                          disk_file *file)
{
    struct sim_disk *disk = context;
    struct sim_file *made = NULL;
    const struct change change = {.kind = CHANGE_CREATE, .name = name, .size = size, .data = data};
    const enum err err = change_run(disk, &change, false, &made);
    if (err == OK) *file = handle_add(disk, made, true);
    return err;
}

static enum err do_replace(void *context, const char *name, struct slice data)
{
    const struct change change = {.kind = CHANGE_REPLACE, .name = name, .data = data};
    return change_run(context, &change, false, NULL);
}

static enum err do_rename(void *context, const char *from, const char *to)
{
    const struct change change = {.kind = CHANGE_RENAME, .name = from, .to = to};
    return change_run(context, &change, false, NULL);
}

static enum err do_remove(void *context, const char *name)
{
    const struct change change = {.kind = CHANGE_REMOVE, .name = name};
    return change_run(context, &change, false, NULL);
}

static enum err do_make_folder(void *context, const char *name)
{
    struct sim_disk *disk = context;
    const uint64_t size = strlen(name);
    CHECK(size <= SIM_DISK_NAME_MAX);
    if (sim_image_has_folder(&disk->image, name, size)) return OK;
    if (!sim_image_has_folder(&disk->image, name, sim_image_folder_size(name)))
        return ERR_NOT_FOUND;
    struct sim_folder *folder = mem_zero(sizeof *folder);
    memcpy(folder->name, name, size + 1);
    folder->next = disk->image.folders;
    disk->image.folders = folder;
    return OK;
}

static enum err do_list(void *context, const char *folder, struct buf *names)
{
    const struct sim_disk *disk = context;
    if (!sim_image_has_folder(&disk->image, folder, strlen(folder))) return ERR_NOT_FOUND;
    sim_image_names(&disk->image, folder, names);
    return OK;
}

static enum err do_space(void *context, uint64_t *available)
{
    const struct sim_disk *disk = context;
    const uint64_t used = sim_image_used(&disk->image);
    *available = used < disk->capacity ? disk->capacity - used : 0;
    return OK;
}

/* ---- struct disk: submitted ----------------------------------------------------------------------- */

static void lane_begin(struct sim_disk *disk, struct sim_lane *lane)
{
    CHECK(disk->latency_min <= disk->latency_max);
    const uint64_t more = prng_below(&disk->prng, disk->latency_max - disk->latency_min + 1);
    lane->due = disk->now + disk->latency_min + more;
}

static void do_submit(void *context, struct disk_op *op)
{
    struct sim_disk *disk = context;
    CHECK(op->lane < DISK_LANE_COUNT);
    struct sim_lane *lane = &disk->lanes[op->lane];
    op->next = NULL;
    if (lane->first == NULL) {
        lane->first = op;
        lane->last = op;
        lane_begin(disk, lane);
        return;
    }
    lane->last->next = op;
    lane->last = op;
}

static enum err read_op(struct sim_disk *disk, const struct disk_op *op)
{
    disk_file file = op->file;
    if (file < 0) {
        const enum err err = do_open(disk, op->name, false, &file);
        if (err != OK) return err;
    }
    const enum err err = do_read(disk, file, op->offset, op->into, op->size);
    if (op->file < 0) do_close(disk, file);
    return err;
}

/* Completes the first operation of @lane. */
static void lane_complete(struct sim_disk *disk, struct sim_lane *lane)
{
    struct disk_op *op = lane->first;
    struct sim_file *made = NULL;
    if (op->kind == DISK_READ) {
        op->result = read_op(disk, op);
    } else {
        const struct change change = change_of_op(disk, op);
        op->result = change_run(disk, &change, true, &made);
    }
    if (op->kind == DISK_CREATE) {
        op->file = op->result == OK ? handle_add(disk, made, true) : -1;
    }
    lane->first = op->next;
    op->next = NULL;
    if (lane->first == NULL) {
        lane->last = NULL;
    } else {
        lane_begin(disk, lane);
    }
    if (op->done != NULL) op->done(op);
}

static void do_wait(void *context, struct disk_op *op)
{
    struct sim_disk *disk = context;
    struct sim_lane *lane = &disk->lanes[op->lane];
    const struct disk_op *at = lane->first;
    while (at != NULL && at != op) at = at->next;
    if (at == NULL) return; /* It is complete already. */
    bool done = false;
    while (!done) {
        done = lane->first == op;
        lane_complete(disk, lane);
    }
}

static uint64_t lane_due(const struct sim_disk *disk, uint32_t number)
{
    const uint64_t due = disk->lanes[number].due;
    if (number == DISK_LANE_LOG && disk->log_goes_on) return due;
    return due > disk->stalled_until ? due : disk->stalled_until;
}

static struct sim_lane *lane_next(struct sim_disk *disk)
{
    struct sim_lane *best = NULL;
    uint64_t earliest = 0;
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) {
        struct sim_lane *lane = &disk->lanes[i];
        /* Of those that a stall holds back together, what would have been first stays first. */
        if (lane->first == NULL) continue;
        const uint64_t due = lane_due(disk, i);
        if (best != NULL && (due > earliest || (due == earliest && lane->due >= best->due)))
            continue;
        best = lane;
        earliest = due;
    }
    return best;
}

bool sim_disk_step(struct sim_disk *disk)
{
    struct sim_lane *lane = lane_next(disk);
    if (lane == NULL) return false;
    lane_complete(disk, lane);
    return true;
}

uint64_t sim_disk_deadline(const struct sim_disk *disk)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) {
        const struct sim_lane *lane = &disk->lanes[i];
        if (lane->first == NULL) continue;
        const uint64_t due = lane_due(disk, i);
        if (due < deadline) deadline = due;
    }
    return deadline;
}

bool sim_disk_turn(struct sim_disk *disk, uint64_t now)
{
    bool any = false;
    disk->now = now;
    while (sim_disk_deadline(disk) <= now) {
        lane_complete(disk, lane_next(disk));
        any = true;
    }
    return any;
}

void sim_disk_settle(struct sim_disk *disk)
{
    while (sim_disk_step(disk)) {}
}

/* ---- life and the test's own hand ----------------------------------------------------------------- */

void sim_disk_init(struct sim_disk *disk, uint64_t seed)
{
    *disk = (struct sim_disk){.prng = prng_seed(seed), .capacity = UINT64_MAX};
    disk->disk = (struct disk){.context = disk,
                               .open = do_open,
                               .close = do_close,
                               .size = do_size,
                               .read = do_read,
                               .read_medium = do_read,
                               .read_now = do_read_now,
                               .write_sync = do_write_sync,
                               .create = do_create,
                               .replace = do_replace,
                               .rename = do_rename,
                               .remove = do_remove,
                               .make_folder = do_make_folder,
                               .list = do_list,
                               .space = do_space,
                               .submit = do_submit,
                               .wait = do_wait};
}

void sim_disk_close(struct sim_disk *disk)
{
    sim_image_close(&disk->image);
    sim_image_close(&disk->survivors);
    mem_free(disk->handles);
    *disk = (struct sim_disk){0};
}

struct slice sim_disk_file(const struct sim_disk *disk, const char *name)
{
    const struct sim_file *file = sim_image_find(&disk->image, name);
    return file == NULL ? slice_of("", 0) : slice_of(file->data, file->size);
}

bool sim_disk_exists(const struct sim_disk *disk, const char *name)
{
    return sim_image_find(&disk->image, name) != NULL;
}

void sim_disk_flip(struct sim_disk *disk, const char *name, uint64_t bit)
{
    struct sim_file *file = sim_image_find(&disk->image, name);
    CHECK(file != NULL);
    CHECK(bit / 8 < file->size);
    file->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    if (bit / 8 >= file->used) file->used = bit / 8 + 1;
    for (uint32_t i = 0; i < file->dirty_count; i++) {
        if (file->dirty[i].number != bit / 8 / SIM_DISK_SECTOR_SIZE) continue;
        file->dirty[i].old[bit / 8 % SIM_DISK_SECTOR_SIZE] ^= (uint8_t)(1u << (bit % 8));
    }
}

void sim_disk_spoil(struct sim_disk *disk, const char *name, uint64_t offset, struct slice data)
{
    struct sim_file *file = sim_image_find(&disk->image, name);
    CHECK(file != NULL);
    CHECK(offset <= file->size && data.size <= file->size - offset);
    memmove(file->data + offset, data.data, data.size);
    if (offset + data.size > file->used) file->used = offset + data.size;
}

void sim_disk_truncate(struct sim_disk *disk, const char *name, uint64_t size)
{
    struct sim_file *file = sim_image_find(&disk->image, name);
    CHECK(file != NULL);
    sim_image_grow(file, size);
    if (size < file->size) sim_image_cut(file, size);
    file->size = size;
    sim_image_synced(file);
}

void sim_disk_put(struct sim_disk *disk, const char *name, struct slice data)
{
    const struct change change = {.kind = CHANGE_REPLACE, .name = name, .data = data};
    change_do(&disk->image, &change);
}

bool sim_disk_drop(struct sim_disk *disk, const char *name)
{
    struct sim_file *file = sim_image_find(&disk->image, name);
    if (file == NULL) return false;
    file->is_linked = false;
    sim_image_sweep(&disk->image);
    return true;
}

static void check_closed(const struct sim_disk *disk)
{
    for (uint32_t i = 0; i < disk->handle_count; i++) CHECK(disk->handles[i].file == NULL);
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) CHECK(disk->lanes[i].first == NULL);
    CHECK(!disk->is_stopped);
}

void sim_disk_wipe(struct sim_disk *disk)
{
    check_closed(disk);
    sim_image_close(&disk->image);
}

void sim_disk_names(const struct sim_disk *disk, struct buf *names)
{
    sim_image_names(&disk->image, NULL, names);
}

uint64_t sim_disk_used(const struct sim_disk *disk)
{
    return sim_image_used(&disk->image);
}

void sim_disk_save(const struct sim_disk *disk, struct sim_image *image)
{
    sim_image_copy(&disk->image, image);
}

void sim_disk_restore(struct sim_disk *disk, const struct sim_image *image)
{
    check_closed(disk);
    sim_image_close(&disk->image);
    sim_image_copy(image, &disk->image);
}
