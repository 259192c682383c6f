/* arrival.h - one file of a base on its way from a peer to the disk.
 *
 * Bytes come in order and are verified as they come (hint_build.h); pieces are written in the background while the next
 * ones gather; the last piece is synced, and then the file's hint is written, which says that the file is complete.
 * Nothing here waits for the disk but arrival_wait() and arrival_close().
 *
 *   begin -> take ... (turn) ... take: the last byte, verified -> turn ... -> done */
#ifndef KV_STORAGE_ARRIVAL_H
#define KV_STORAGE_ARRIVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "storage/disk.h"
#include "storage/hint_build.h"

#define ARRIVAL_NAME_SIZE 192u
#define ARRIVAL_BUFFER_SIZE (1u * MIB) /* what may gather before nothing more should be asked for */

enum arrival_state {
    ARRIVAL_IDLE, /* No file. */
    ARRIVAL_CREATING,
    ARRIVAL_WRITING, /* Bytes come and are written. */
    ARRIVAL_HINTING, /* All of it is synced; the hint is being written. */
    ARRIVAL_DONE,
};

struct arrival {
    struct disk *disk; /* keeps */
    enum arrival_state state;
    struct log_file described; /* What the manifest says about it. */
    struct hint_build build;
    disk_file file;
    struct buf gathered;    /* Taken, not submitted yet. */
    struct buf writing;     /* Under way. */
    uint64_t gather_offset; /* In the file, of @gathered. */
    bool is_whole;          /* The last byte was taken and the file verified. */
    bool is_pending;        /* @op is under way. */
    struct disk_op op;
    char log_name[ARRIVAL_NAME_SIZE];
    char hint_name[ARRIVAL_NAME_SIZE];
};

/* @arrival is all zero or closed. Names are copied; whatever has them is removed. */
void arrival_begin(struct arrival *arrival, const struct hint_source *source, const char *log_name,
                   const char *hint_name);
/* The next bytes of the file, not beyond its end. ERR_CORRUPT ERR_FOREIGN ERR_NEWER: they are not what the manifest
 * names: close it. */
enum err arrival_take(struct arrival *arrival, struct slice data);
/* Enough has gathered: the disk should take some of it before more is asked for. */
bool arrival_full(const struct arrival *arrival);
/* Looks at what the disk has done and gives it more to do. ERR_NOSPACE, ERR_IO and others: it failed: close it. */
enum err arrival_turn(struct arrival *arrival);
/* Turns until nothing is left to do for what was taken so far, waiting for the disk. Errors as arrival_turn. */
enum err arrival_wait(struct arrival *arrival);
/* Waits for the operation under way. Leaves the files as they are. */
void arrival_close(struct arrival *arrival);

#endif
