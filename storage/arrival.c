#include "storage/arrival.h"

#include <stdio.h>

#include "storage/base/check.h"

static void arrival_op_done(struct disk_op *op)
{
    struct arrival *arrival = op->owner;
    CHECK(arrival->is_pending);
    arrival->is_pending = false;
}

static void submit(struct arrival *arrival, struct disk_op op)
{
    CHECK(!arrival->is_pending);
    op.lane = DISK_LANE_BULK;
    op.done = arrival_op_done;
    op.owner = arrival;
    arrival->op = op;
    arrival->is_pending = true;
    arrival->disk->submit(arrival->disk->context, &arrival->op);
}

/* What is left of an earlier attempt is worth nothing; whether it could be removed shows when the file is made. */
static void leftover_remove(struct disk *disk, const char *name)
{
    const enum err err = disk->remove(disk->context, name);
    (void)err;
}

void arrival_begin(struct arrival *arrival, const struct hint_source *source, const char *log_name,
                   const char *hint_name)
{
    CHECK(arrival->state == ARRIVAL_IDLE);
    *arrival = (struct arrival){
        .disk = source->disk,
        .state = ARRIVAL_CREATING,
        .described = *source->file,
        .file = -1,
    };
    (void)snprintf(arrival->log_name, sizeof arrival->log_name, "%s", log_name);
    (void)snprintf(arrival->hint_name, sizeof arrival->hint_name, "%s", hint_name);
    hint_build_open(&arrival->build, source);
    /* The hint above all: it would say that this file is complete. Making the file syncs the folder, and so makes that
     * durable. */
    leftover_remove(arrival->disk, arrival->hint_name);
    leftover_remove(arrival->disk, arrival->log_name);
    submit(arrival, (struct disk_op){.kind = DISK_CREATE,
                                     .file = -1,
                                     .name = arrival->log_name,
                                     .size = source->file->used});
}

static uint64_t taken(const struct arrival *arrival)
{
    return arrival->gather_offset + arrival->gathered.size;
}

enum err arrival_take(struct arrival *arrival, struct slice data)
{
    CHECK(arrival->state == ARRIVAL_CREATING || arrival->state == ARRIVAL_WRITING);
    CHECK(data.size <= arrival->described.used - taken(arrival));
    enum err err = hint_build_feed(&arrival->build, data);
    if (err != OK) return err;
    buf_append(&arrival->gathered, data.data, data.size);
    if (taken(arrival) < arrival->described.used) return OK;
    err = hint_build_finish(&arrival->build);
    arrival->is_whole = err == OK;
    return err;
}

bool arrival_full(const struct arrival *arrival)
{
    return arrival->gathered.size >= ARRIVAL_BUFFER_SIZE;
}

/* Gives everything that has gathered to the disk. The last piece is synced, and with it all of the file. */
static void write_gathered(struct arrival *arrival)
{
    const struct buf empty = arrival->writing;
    arrival->writing = arrival->gathered;
    arrival->gathered = empty;
    arrival->gathered.size = 0;
    const uint64_t offset = arrival->gather_offset;
    arrival->gather_offset += arrival->writing.size;
    submit(arrival, (struct disk_op){.kind = DISK_WRITE,
                                     .file = arrival->file,
                                     .sync = arrival->is_whole,
                                     .offset = offset,
                                     .data = buf_slice(&arrival->writing)});
}

enum err arrival_turn(struct arrival *arrival)
{
    if (arrival->state == ARRIVAL_IDLE || arrival->state == ARRIVAL_DONE) return OK;
    if (arrival->is_pending) return OK;
    if (arrival->op.result != OK) return arrival->op.result;
    if (arrival->state == ARRIVAL_CREATING) {
        arrival->file = arrival->op.file;
        arrival->state = ARRIVAL_WRITING;
    }
    if (arrival->state == ARRIVAL_HINTING) {
        arrival->state = ARRIVAL_DONE;
        return OK;
    }
    if (arrival->gathered.size > 0) {
        write_gathered(arrival);
        return OK;
    }
    if (!arrival->is_whole) return OK;
    arrival->state = ARRIVAL_HINTING;
    submit(arrival, (struct disk_op){.kind = DISK_REPLACE,
                                     .file = -1,
                                     .name = arrival->hint_name,
                                     .data = buf_slice(&arrival->build.hint.bytes)});
    return OK;
}

enum err arrival_wait(struct arrival *arrival)
{
    enum err err;
    while ((err = arrival_turn(arrival)) == OK && arrival->is_pending) {
        arrival->disk->wait(arrival->disk->context, &arrival->op);
    }
    return err;
}

void arrival_close(struct arrival *arrival)
{
    if (arrival->state == ARRIVAL_IDLE) return;
    struct disk *disk = arrival->disk;
    if (arrival->is_pending) disk->wait(disk->context, &arrival->op);
    if (arrival->state == ARRIVAL_CREATING && arrival->op.result == OK) {
        arrival->file = arrival->op.file;
    }
    if (arrival->file >= 0) disk->close(disk->context, arrival->file);
    hint_build_close(&arrival->build);
    buf_close(&arrival->gathered);
    buf_close(&arrival->writing);
    *arrival = (struct arrival){0};
}
