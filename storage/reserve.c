#include "storage/reserve.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"

void reserve_init(struct reserve *reserve, struct disk *disk, const char *folder, uint64_t size)
{
    CHECK(size == 0 || size > RESERVE_REST);
    *reserve = (struct reserve){.disk = disk, .file = -1, .size = size};
    const int length = snprintf(reserve->name, sizeof reserve->name, "%s/" RESERVE_NAME, folder);
    CHECK(length > 0 && length < (int)sizeof reserve->name);
}

bool reserve_whole(const struct reserve *reserve)
{
    return reserve->held > RESERVE_REST;
}

enum err reserve_open(struct reserve *reserve)
{
    struct disk *disk = reserve->disk;
    disk_file file = -1;
    uint64_t size = 0;
    enum err err = disk->open(disk->context, reserve->name, false, &file);
    if (err == ERR_NOT_FOUND) return OK;
    if (err != OK) return err;
    err = disk->size(disk->context, file, &size);
    disk->close(disk->context, file);
    if (err != OK) return err;
    /* One that was made with another option is made anew; of a whole one, pieces may be gone. */
    const bool is_whole = size + RESERVE_REST >= reserve->size && size <= reserve->size;
    if (reserve->size > 0 && (is_whole || (size > 0 && size <= RESERVE_REST))) {
        reserve->held = size;
        return OK;
    }
    return disk->remove(disk->context, reserve->name);
}

static void submit(struct reserve *reserve, enum disk_op_kind kind);

static void reserve_done(struct disk_op *op)
{
    struct reserve *reserve = op->owner;
    struct disk *disk = reserve->disk;
    CHECK(reserve->is_pending);
    reserve->is_pending = false;
    reserve->retry_ms = UINT64_MAX;
    if (op->kind == DISK_TRIM) {
        disk->close(disk->context, op->file);
    } else if (op->kind == DISK_REMOVE && (op->result == OK || op->result == ERR_NOT_FOUND)) {
        submit(reserve, DISK_CREATE);
        return;
    } else if (op->kind == DISK_CREATE && op->result == OK) {
        disk->close(disk->context, op->file);
        reserve->held = reserve->size;
        reserve->is_short = false;
    } else if (op->kind == DISK_CREATE && op->result == ERR_NOSPACE) {
        reserve->is_short = true;
        return;
    }
    if (op->result != OK) {
        fatal(EXIT_DISK, "%s: the space kept for a full disk cannot be %s: %s", reserve->name,
              op->kind == DISK_CREATE ? "reserved" : "given back", err_name(op->result));
    }
}

static void submit(struct reserve *reserve, enum disk_op_kind kind)
{
    CHECK(!reserve->is_pending);
    reserve->is_pending = true;
    reserve->op = (struct disk_op){
        .kind = kind,
        .lane = DISK_LANE_BACKGROUND,
        .file = reserve->file,
        .name = reserve->name,
        .size = kind == DISK_TRIM ? reserve->held : reserve->size,
        .data = slice_of("", 0),
        .done = reserve_done,
        .owner = reserve,
    };
    reserve->disk->submit(reserve->disk->context, &reserve->op);
}

static bool is_wanted(const struct reserve *reserve)
{
    return reserve->size > 0 && !reserve_whole(reserve) && !reserve->is_pending;
}

void reserve_turn(struct reserve *reserve, bool is_allowed, uint64_t now_ms)
{
    struct disk *disk = reserve->disk;
    uint64_t available = 0;
    if (!is_wanted(reserve) || !is_allowed) return;
    /* What is left of an earlier life was not enough. */
    if (reserve->held > 0) reserve->is_short = true;
    if (reserve->retry_ms == UINT64_MAX) reserve->retry_ms = now_ms + RESERVE_RETRY_MS;
    if (now_ms < reserve->retry_ms) return;
    /* Looking first: an attempt would take all that is left, if only for a moment. */
    if (disk->space(disk->context, &available) == OK && available < reserve->size) {
        reserve->is_short = true;
        reserve->retry_ms = now_ms + RESERVE_RETRY_MS;
        return;
    }
    reserve->held = 0;
    submit(reserve,
           DISK_REMOVE); /* A rest, or what could not be opened, makes way for a whole one. */
}

uint64_t reserve_deadline(const struct reserve *reserve, bool is_allowed)
{
    if (!is_wanted(reserve) || !is_allowed) return UINT64_MAX;
    return reserve->retry_ms == UINT64_MAX ? 0 : reserve->retry_ms;
}

/* Shortens the file to @size. */
static bool cut(struct reserve *reserve, uint64_t size)
{
    struct disk *disk = reserve->disk;
    const enum err err = disk->open(disk->context, reserve->name, true, &reserve->file);
    reserve->held = err == OK ? size : 0; /* Then it is of no use now. */
    if (err != OK) return false;
    submit(reserve, DISK_TRIM);
    reserve->file = -1;
    return true;
}

bool reserve_release(struct reserve *reserve)
{
    if (!reserve_whole(reserve) || reserve->is_pending) return false;
    reserve->is_short = true;
    return cut(reserve, RESERVE_REST);
}

bool reserve_spend(struct reserve *reserve)
{
    if (reserve->held <= RESERVE_PIECE || reserve->is_pending) return false;
    if (!cut(reserve, reserve->held - RESERVE_PIECE)) return false;
    reserve_settle(reserve);
    return true;
}

void reserve_settle(struct reserve *reserve)
{
    while (reserve->is_pending) reserve->disk->wait(reserve->disk->context, &reserve->op);
}
