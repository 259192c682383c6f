/* host_disk.h - struct disk over the files of one data directory.
 *
 * Each lane has a thread of its own: a slow hint file never delays a group of the log, and no
 * name look-up ever stands before a sync. Threads only run operations; done is called on the loop's thread.
 *
 * Every file is opened relative to the directory, never through a symbolic link, with mode 0600. A file is made or
 * replaced under the temporary name NAME.tmp, which list() hides. A temporary file left by a crash is
 * replaced by the next attempt at the same name. */
#ifndef KV_HOST_HOST_DISK_H
#define KV_HOST_HOST_DISK_H

#include <stdatomic.h>

#include <uv.h>

#include "node/host/host_watch.h"
#include "storage/disk.h"

struct host_lane {
    struct host_disk *owner;
    uv_thread_t thread;
    uv_cond_t work;        /* an operation was queued, or the end was called */
    uv_cond_t ready;       /* an operation is complete */
    struct disk_op *first; /* queued, oldest first */
    struct disk_op *last;
    struct disk_op *complete; /* to be reported, oldest first */
    struct disk_op *complete_last;
    uint64_t open_count; /* submitted and not yet reported */
};

struct host_disk {
    struct disk disk;              /* what the core is given */
    const char *path;              /* of the data directory; kept */
    int folder;                    /* the data directory */
    int lock;                      /* holds the lock; -1: none */
    _Atomic uint64_t open_files;   /* given out and not closed */
    bool is_running;               /* the threads exist */
    bool is_ending;                /* threads leave once their queue is empty */
    _Atomic bool is_sparse_warned; /* the file system cannot reserve space: said once */
    uv_mutex_t mutex;              /* guards the lanes and is_ending */
    uv_async_t async;
    struct host_watch watch;
    struct host_lane lanes[DISK_LANE_COUNT];
};

/* Opens the data directory @path as host_folder_open() does, with its errors and its @message (512 bytes). */
enum err host_disk_open(struct host_disk *disk, const char *path, char *message);
/* Starts the lanes; completions are reported by @loop. */
enum err host_disk_start(struct host_disk *disk, uv_loop_t *loop);
/* Finishes what was submitted (reporting it), ends the threads, gives up the lock. If started the loop has to run once
 * more before it is closed. */
void host_disk_close(struct host_disk *disk);

#endif
