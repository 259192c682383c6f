/* disk.h - the one interface through which the core touches files.
 *
 * A node binds it to the operating system (node/host/host_disk.c), the simulator to virtual disks
 * (tests/sim/sim_disk.c). Names are relative to the data directory and use '/'.
 *
 * Calls that return an enum err are synchronous: they are used at start-up, for the rare ballot, and
 * for short reads. Everything frequent goes through submit(): operations of one lane run one after the other,
 * in the order of their submission; lanes are independent of each other.
 *
 * Durability: what write_sync, create, replace, and a completed DISK_WRITE (with sync), DISK_CREATE,
 * DISK_REPLACE or DISK_TRIM did survives a power cut. remove and DISK_REMOVE are durable after the next
 * successful replace or create in the same folder. */
#ifndef KV_STORAGE_DISK_H
#define KV_STORAGE_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

/* A file handle, from 0; -1 is none. */
typedef int disk_file;

enum disk_lane {
    DISK_LANE_LOG,        /* Group writes and their syncs: nothing else may delay them. */
    DISK_LANE_BACKGROUND, /* Segments made ahead, hint files, manifests, received files. */
    DISK_LANE_BULK, /* Compaction, scrub, backup: large, may be slow, gives way to the others. */
    DISK_LANE_READ, /* Values that a client waits for. */
    DISK_LANE_COUNT,
};

enum disk_op_kind {
    DISK_WRITE, /* Writes @data at @offset of @file, then syncs it (fdatasync) if @sync. */
    DISK_CREATE, /* Makes @name with @size preallocated, never pre-zeroed bytes and @data at its start:
                   * written beside it, synced, renamed into place, folder synced. @file receives the
                   * handle. ERR_EXISTS when the name is taken; on any error nothing of it remains. */
    DISK_REPLACE, /* @name becomes @data in one step: write new, sync, rename, sync of the folder. */
    DISK_READ, /* @size bytes at @offset of @file into @into, as read() does and with its errors. When
                * @file is -1, of the file @name, which is opened for that: ERR_NOT_FOUND is possible. */
    DISK_REMOVE, /* The name @name goes, as remove() does; who has the file open keeps it. */
    DISK_TRIM,   /* @file ends after @size bytes; what was reserved behind is given back, synced.
                   * A file that is not longer stays as it is. */
};

/* One operation. The submitter embeds it; it keeps it, @data, @name and @into alive, and @file open,
 * until done. */
struct disk_op {
    enum disk_op_kind kind;
    enum disk_lane lane;
    disk_file file;
    bool sync;
    const char *name;
    uint64_t offset;
    uint64_t size;
    struct slice data;
    void *into;
    enum err result;     /* Valid when done is called; NOSPACE: try later. And so is: */
    uint64_t elapsed_us; /* how long the disk took, without what waited before it. */
    void (*done)(struct disk_op *op); /* Only records; on the loop's thread, between turns. */
    void *owner;                      /* The submitter's. */
    struct disk_op *next;             /* The disk's while the operation is under way. */
};

struct disk {
    void *context;

    /* @writable: also for write. The file must exist: ERR_NOT_FOUND otherwise. */
    enum err (*open)(void *context, const char *name, bool writable, disk_file *file);
    void (*close)(void *context, disk_file file);
    enum err (*size)(void *context, disk_file file, uint64_t *size);
    /* All @size bytes or an error: ERR_CORRUPT when the file ends before, ERR_IO when the disk fails. */
    enum err (*read)(void *context, disk_file file, uint64_t offset, void *data, uint64_t size);
    /* The same if it need not wait for the disk, because the bytes are cached: else ERR_AGAIN. */
    enum err (*read_now)(void *context, disk_file file, uint64_t offset, void *data, uint64_t size);
    /* As read, but what the disk itself holds and not what a cache says: after a failed sync they
     * differ. Where a file system cannot do that, as near as it gets. */
    enum err (*read_medium)(void *context, disk_file file, uint64_t offset, void *data,
                            uint64_t size);
    /* Writes and syncs before it returns. */
    enum err (*write_sync)(void *context, disk_file file, uint64_t offset, struct slice data);
    /* As DISK_CREATE and DISK_REPLACE, at once. */
    enum err (*create)(void *context, const char *name, uint64_t size, struct slice data,
                       disk_file *file);
    enum err (*replace)(void *context, const char *name, struct slice data);
    /* Moves a closed file, replacing @to; durable when it returns. */
    enum err (*rename)(void *context, const char *from, const char *to);
    enum err (*remove)(void *context, const char *name);      /* ERR_NOT_FOUND is possible */
    enum err (*make_folder)(void *context, const char *name); /* OK if it is there already */
    /* Names of the plain files in @folder, each ended by a zero byte, appended to @names in byte order. */
    enum err (*list)(void *context, const char *folder, struct buf *names);
    /* Bytes that can still be written to this file system. */
    enum err (*space)(void *context, uint64_t *available);

    void (*submit)(void *context, struct disk_op *op);
    /* Returns after @op and all before it in its lane are complete and their done was called. */
    void (*wait)(void *context, struct disk_op *op);
};

/* disk_whole.c: appends a whole file of at most @size_max bytes to @bytes, without waiting for other operations.
 *   ERR_NOT_FOUND  there is none    ERR_CORRUPT  it is longer    ERR_IO */
enum err disk_read_whole(struct disk *disk, const char *name, uint64_t size_max, struct buf *bytes);

#endif
