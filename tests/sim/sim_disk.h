/* sim_disk.h - struct disk in memory: what a power cut leaves behind is chosen from a seed.
 *
 * A file is a row of 512-byte sectors. A sector is written whole or not at all, as real disks promise;
 * everything larger may be torn: a sector that was written but not synced is kept or lost on its own.
 * Preallocated bytes that were never written read as zeros.
 *
 * Calls that return an enum err take effect at once. Submitted operations wait in their lane and complete
 * in order: sim_disk_turn() completes those whose virtual time has come, sim_disk_step() the next
 * one at once. Only then their effect is visible. The first of each lane counts as under way.
 *
 * A crash has two parts, so that the dying process can be torn down in the ordinary way:
 *
 *   sim_disk_stop(disk, true);   decides what survives; the process goes on upon a ghost of the disk
 *   store_close(store);          writes what it likes, nothing of it matters
 *   sim_disk_crash(disk);        the survivors become the disk; handles and operations are gone
 *
 * sim_disk_stop_after(disk, n) makes the stop happen by itself at the n-th change from now (n = 1 is
 * the next one), with that change under way: none, some or all of it survives. An exhaustive test
 * repeats a script for n = 1, 2, ... until sim_disk_stopped() stays false. What is acknowledged after the
 * stop does not count. */
#ifndef KV_TESTS_SIM_DISK_H
#define KV_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/prng.h"
#include "storage/disk.h"
#include "tests/sim/sim_image.h"

struct sim_handle {
    struct sim_file *file; /* NULL: closed */
    bool is_writable;
};

struct sim_lane {
    struct disk_op *first; /* under way */
    struct disk_op *last;
    uint64_t due; /* of the first */
};

struct sim_disk {
    struct disk disk; /* what the core is given */
    struct prng prng;
    struct sim_image image;
    struct sim_image survivors; /* after a stop */
    bool is_stopped;
    uint64_t stop_in; /* changes until the stop by itself; 0: never */
    struct sim_handle *handles;
    uint32_t handle_count;
    uint32_t handle_capacity;
    struct sim_lane lanes[DISK_LANE_COUNT];
    uint64_t now; /* of the last sim_disk_turn(), in whatever unit the caller counts */

    /* Free to set at any time. */
    uint64_t capacity;      /* bytes; UINT64_MAX from the start. Counts whole blocks of 4096 */
    uint64_t latency_min;   /* of a submitted operation, in the unit of now */
    uint64_t latency_max;   /* not below latency_min */
    uint64_t stalled_until; /* no submitted operation completes before */
    bool log_goes_on;       /* the stall is not one of the log's lane */
    uint32_t cold_percent;  /* reads of cached bytes that find them not cached; 0 from the start */
    char read_error[SIM_DISK_NAME_MAX + 1]; /* reads of this file give ERR_IO; empty: none */
    uint64_t read_error_start;              /* but only those that touch bytes from here on, */
    uint64_t read_error_end;                /* and before here; 0: up to the end of the file */

    /* Figures. */
    uint64_t change_count; /* changes of the disk so far */
    uint64_t torn_count;   /* operations under way of which a crash kept a part */
    uint64_t lost_count;   /* synced never, lost at a crash: sectors */
    uint64_t full_count;   /* ERR_NOSPACE given */
    uint64_t hash;         /* of all changes in their order, to compare two runs */
};

void sim_disk_init(struct sim_disk *disk, uint64_t seed);
void sim_disk_close(struct sim_disk *disk);

/* ---- submitted operations ------------------------------------------------------------------------- */

/* Completes the next operation under way (the earliest, then the lower lane). False: there is none. */
bool sim_disk_step(struct sim_disk *disk);
/* Sets the time and completes everything that is due. True: something was. */
bool sim_disk_turn(struct sim_disk *disk, uint64_t now);
uint64_t sim_disk_deadline(const struct sim_disk *disk); /* UINT64_MAX: nothing is under way */
/* Completes everything submitted. */
void sim_disk_settle(struct sim_disk *disk);

/* ---- crashes ------------------------------------------------------------------------------------------ */

/* @power: unsynced sectors may be lost. Otherwise only the process dies: what was written stays, and
 * only operations under way are torn. */
void sim_disk_stop(struct sim_disk *disk, bool power);
void sim_disk_stop_after(struct sim_disk *disk, uint64_t changes);
bool sim_disk_stopped(const struct sim_disk *disk);
/* Stops with a loss of power if that did not happen yet. */
void sim_disk_crash(struct sim_disk *disk);

/* ---- what a test may do behind the program's back ------------------------------------------------------- */

/* The content of a file as it is now, borrowed until the next change. Size 0 when there is none. */
struct slice sim_disk_file(const struct sim_disk *disk, const char *name);
bool sim_disk_exists(const struct sim_disk *disk, const char *name);
/* Inverts one bit; @bit counts from the lowest of the first byte. CHECKs that the file is that long. */
void sim_disk_flip(struct sim_disk *disk, const char *name, uint64_t bit);
/* Overwrites a part of a file, durably, whatever the program believes. CHECKs that the file is that long. */
void sim_disk_spoil(struct sim_disk *disk, const char *name, uint64_t offset, struct slice data);
/* Cuts or extends (with zeros) a file. */
void sim_disk_truncate(struct sim_disk *disk, const char *name, uint64_t size);
/* Makes or overwrites a whole file, durably. */
void sim_disk_put(struct sim_disk *disk, const char *name, struct slice data);
/* Removes a file, durably. False: there is none. */
bool sim_disk_drop(struct sim_disk *disk, const char *name);
/* Removes everything, as a replaced disk. No file may be open: crash first. */
void sim_disk_wipe(struct sim_disk *disk);
/* Names of all files of all folders, each ended by a zero byte, in byte order. */
void sim_disk_names(const struct sim_disk *disk, struct buf *names);
uint64_t sim_disk_used(const struct sim_disk *disk); /* bytes, in whole blocks */

/* A copy of everything, unsynced state included, and the way back. No file may be open at restore. */
void sim_disk_save(const struct sim_disk *disk,
                   struct sim_image *image); /* fills; sim_image_close */
void sim_disk_restore(struct sim_disk *disk, const struct sim_image *image);

#endif
