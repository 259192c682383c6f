/* reserve.h - disk space that is kept for the day when there is none left.
 *
 * File `<folder>/reserve`: preallocated, its bytes mean nothing. A log whose disk is full goes on with
 * it: deletes, elections and what was under way still need a segment. So the reserve is given up when
 * the log would stand still, but for a rest; and a piece of it when a small file must be saved, as at
 * each start. It is made again when there is space. Until then the disk counts as full, although the
 * log still has room.
 *
 * Operations go through DISK_LANE_BACKGROUND, one at a time: what is submitted after
 * reserve_release() finds the space free. */
#ifndef KV_STORAGE_RESERVE_H
#define KV_STORAGE_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/disk.h"

#define RESERVE_NAME "reserve"
#define RESERVE_NAME_SIZE 160u
#define RESERVE_RETRY_MS 1000u    /* between looks whether there is space again */
#define RESERVE_PIECE (8u * KIB)  /* what reserve_spend() gives back at once */
#define RESERVE_REST (128u * KIB) /* what reserve_release() keeps for that */

struct reserve {
    struct disk *disk;
    disk_file file; /* of the cut that is submitted */
    uint64_t size;  /* wanted, more than the rest; 0: none is kept */
    uint64_t held;  /* bytes of the file; 0: there is none */
    bool is_short;  /* it was given up, or could not be made: the disk is full */
    bool is_pending;
    uint64_t retry_ms; /* of the next attempt; UINT64_MAX: reserve_turn() sets the time */
    struct disk_op op;
    char name[RESERVE_NAME_SIZE];
};

/* Keeps @disk. */
void reserve_init(struct reserve *reserve, struct disk *disk, const char *folder, uint64_t size);
/* Takes over what an earlier start left, before anything is written. Errors: those of the disk. */
enum err reserve_open(struct reserve *reserve);
/* Makes the reserve, when @is_allowed and there is space for it. Once a turn. */
void reserve_turn(struct reserve *reserve, bool is_allowed, uint64_t now_ms);
uint64_t reserve_deadline(const struct reserve *reserve, bool is_allowed);
/* Gives the space back. False: there is none to give, or an operation is under way. */
bool reserve_release(struct reserve *reserve);
/* The log may count on it: it is there and was not given up. */
bool reserve_whole(const struct reserve *reserve);
/* Gives a small piece back and returns when it is free: for a file that must be replaced. False: as
 * above. At start and for rare files only, since it waits for the disk. */
bool reserve_spend(struct reserve *reserve);
/* Waits for the operation under way. */
void reserve_settle(struct reserve *reserve);

#endif
