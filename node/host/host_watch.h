/* host_watch.h - a disk that answers nothing any more must not keep the process for ever.
 *
 * A thread of its own looks at what is under way: one mark for the calls that the loop's thread makes,
 * one for the log's lane. When one of them is not over after HOST_WATCH_LIMIT_MS the disk counts
 * as gone: all connections are shut and the process ends with EXIT_DISK. The loop itself may be what
 * hangs, and a thread inside a hung call cannot even be killed: the kernel keeps the process, and its
 * open connections, until the call returns. So the connections are shut first, and peers and clients
 * see the end at once.
 *
 * Time counts in steps: a process that was stopped, or a machine that slept, is not blamed for it. */
#ifndef KV_HOST_HOST_WATCH_H
#define KV_HOST_HOST_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#define HOST_WATCH_LIMIT_MS 20000u

enum host_watch_place {
    HOST_WATCH_LOOP, /* a synchronous call of the core */
    HOST_WATCH_LOG,  /* an operation of the log's lane */
    HOST_WATCH_COUNT,
};

struct host_watch_mark {
    _Atomic uint64_t sequence;  /* odd: something is under way */
    _Atomic(const char *) what; /* a constant text */
    uint64_t seen;              /* the watcher's: sequence at the last look */
    uint64_t age_ms;            /* the watcher's: how long it has been the same */
};

struct host_watch {
    struct host_watch_mark marks[HOST_WATCH_COUNT];
    const char *path; /* of the data directory, for the message */
    uint64_t limit_ms;
    uv_thread_t thread;
    uv_mutex_t mutex; /* guards is_ending */
    uv_cond_t ending;
    bool is_ending;
    bool is_running;
};

/* Keeps @path. False: no thread could be made. */
bool host_watch_start(struct host_watch *watch, const char *path);
void host_watch_stop(struct host_watch *watch);

/* Around each call, on the thread of that place. @what: "a read", "a write of the log". */
void host_watch_begin(struct host_watch *watch, enum host_watch_place place, const char *what);
void host_watch_end(struct host_watch *watch, enum host_watch_place place);

/* Peers and clients see the end of this process now, whatever keeps it. */
void host_watch_shut_connections(void);

#endif
