#include "storage/reserve.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/limits.h"

void reserve_init(struct reserve *reserve, struct disk *disk, const char *folder, uint64_t size)
{
    *reserve = (struct reserve){.disk = disk, .size = size};
    const int length = snprintf(reserve->name, sizeof reserve->name, "%s/" RESERVE_NAME, folder);
    CHECK(length > 0 && length < (int)sizeof reserve->name);
}

/* One that was used up in pieces, or made with another option, is made anew. */
static bool is_useful(const struct reserve *reserve, uint64_t size)
{
    return size >= reserve->size / 2 && size <= reserve->size;
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
    if (reserve->size > 0 && is_useful(reserve, size)) {
        reserve->held = size;
        return OK;
    }
    return disk->remove(disk->context, reserve->name);
}

static void reserve_done(struct disk_op *op)
{
    struct reserve *reserve = op->owner;
    CHECK(reserve->is_pending);
    reserve->is_pending = false;
    reserve->retry_ms = UINT64_MAX;
    if (op->kind == DISK_CREATE && op->result == OK) {
        reserve->disk->close(reserve->disk->context, op->file);
        reserve->held = reserve->size;
        reserve->is_short = false;
        return;
    }
    if (op->kind == DISK_CREATE && op->result == ERR_NOSPACE) {
        reserve->is_short = true;
        return;
    }
    if (op->kind == DISK_REMOVE && op->result == ERR_NOT_FOUND) return;
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
        .file = -1,
        .name = reserve->name,
        .size = reserve->size,
        .data = slice_of("", 0),
        .done = reserve_done,
        .owner = reserve,
    };
    reserve->disk->submit(reserve->disk->context, &reserve->op);
}

static bool is_wanted(const struct reserve *reserve)
{
    return reserve->size > 0 && reserve->held == 0 && !reserve->is_pending;
}

void reserve_turn(struct reserve *reserve, bool is_allowed, uint64_t now_ms)
{
    struct disk *disk = reserve->disk;
    uint64_t available = 0;
    if (!is_wanted(reserve) || !is_allowed) return;
    if (reserve->retry_ms == UINT64_MAX) reserve->retry_ms = now_ms + RESERVE_RETRY_MS;
    if (now_ms < reserve->retry_ms) return;
    /* Looking first: an attempt would take all that is left, if only for a moment. */
    if (disk->space(disk->context, &available) == OK && available < reserve->size) {
        reserve->is_short = true;
        reserve->retry_ms = now_ms + RESERVE_RETRY_MS;
        return;
    }
    submit(reserve, DISK_CREATE);
}

uint64_t reserve_deadline(const struct reserve *reserve, bool is_allowed)
{
    if (!is_wanted(reserve) || !is_allowed) return UINT64_MAX;
    return reserve->retry_ms == UINT64_MAX ? 0 : reserve->retry_ms;
}

bool reserve_release(struct reserve *reserve)
{
    if (reserve->held == 0 || reserve->is_pending) return false;
    reserve->held = 0;
    reserve->is_short = true;
    submit(reserve, DISK_REMOVE);
    return true;
}

bool reserve_spend(struct reserve *reserve)
{
    struct disk *disk = reserve->disk;
    disk_file file = -1;
    if (reserve->held <= RESERVE_PIECE || reserve->is_pending) return false;
    if (disk->open(disk->context, reserve->name, true, &file) != OK) return false;
    reserve->held -= RESERVE_PIECE;
    submit(reserve, DISK_TRIM);
    reserve->op.file = file;
    reserve->op.size = reserve->held;
    reserve_settle(reserve);
    disk->close(disk->context, file);
    return true;
}

void reserve_settle(struct reserve *reserve)
{
    if (reserve->is_pending) reserve->disk->wait(reserve->disk->context, &reserve->op);
    CHECK(!reserve->is_pending);
}
