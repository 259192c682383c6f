/* faultio.c - a preloaded library that lets disk calls of a process fail, be cut short, be slow, or be its last.
 *
 * The test writes a `struct order` into the file named by FAULTIO_ORDER, which is mapped here: it can change its mind
 * while the process runs. Calls on regular files below FAULTIO_PATH are counted; the one that brings `countdown`
 * to zero is hit. Only a test loads this, so nothing in the product knows of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* fdatasync() is what the log is synced with, fsync() what new files and folders are. */
enum call {
    CALL_WRITE = 1,
    CALL_SYNC = 2,
    CALL_NAME = 4,
    CALL_SPACE = 8,
    CALL_SYNC_NEW = 16,
    CALL_READ = 32
};
enum action {
    ACTION_ERROR,
    ACTION_SHORT,
    ACTION_EXIT_BEFORE,
    ACTION_EXIT_AFTER,
    ACTION_ERROR_EVER,
    ACTION_EXIT_PART, /* half of what was to be written is, then the process ends */
    ACTION_DELAY, /* each of the calls takes `error` milliseconds longer, until the order is taken back */
    ACTION_INTERRUPT /* every second one of the calls only says EINTR */
};

struct order {
    _Atomic int64_t countdown; /* calls until the hit; 0 or less: none */
    uint32_t calls;            /* set of enum call that are counted */
    uint32_t action;
    int32_t error; /* errno */
    uint32_t pad;
    _Atomic int64_t seen; /* calls counted so far */
    _Atomic int64_t hits;
    char name[64]; /* only files whose path ends so; empty: all */
};

static struct order *order;
static char path_prefix[1024];

__attribute__((constructor)) static void faultio_open(void)
{
    const char *file = getenv("FAULTIO_ORDER");
    const char *path = getenv("FAULTIO_PATH");
    if (file == NULL || path == NULL || strlen(path) >= sizeof path_prefix) return;
    const int opened = open(file, O_RDWR | O_CLOEXEC);
    if (opened < 0) return;
    void *map = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
    (void)close(opened);
    if (map == MAP_FAILED) return;
    strcpy(path_prefix, path);
    order = map;
}

static bool is_ours(int file)
{
    char link[64];
    char path[2048];
    struct stat status;
    if (order == NULL || fstat(file, &status) != 0) return false;
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return false;
    path[size] = 0;
    const size_t end = strnlen(order->name, sizeof order->name);
    if (end > (size_t)size || memcmp(path + size - end, order->name, end) != 0) return false;
    return strncmp(path, path_prefix, strlen(path_prefix)) == 0;
}

/* True when this call is the one; exits here when it is to be the last and not made. */
static bool hit(enum call call)
{
    if ((order->calls & call) == 0) return false;
    (void)atomic_fetch_add(&order->seen, 1);
    if (order->action == ACTION_DELAY && atomic_load(&order->countdown) > 0) {
        (void)atomic_fetch_add(&order->hits, 1);
        (void)usleep((useconds_t)order->error * 1000);
        return true;
    }
    if (order->action == ACTION_INTERRUPT) {
        return atomic_load(&order->countdown) > 0 && atomic_fetch_add(&order->hits, 1) % 2 == 0;
    }
    if (order->action == ACTION_ERROR_EVER && atomic_load(&order->countdown) == 0 &&
        atomic_load(&order->hits) > 0) {
        return true;
    }
    if (atomic_load(&order->countdown) <= 0) return false;
    if (atomic_fetch_sub(&order->countdown, 1) != 1) return false;
    (void)atomic_fetch_add(&order->hits, 1);
    if (order->action == ACTION_EXIT_BEFORE) _exit(113);
    return true;
}

static void after(bool is_hit)
{
    if (!is_hit) return;
    if (order->action == ACTION_EXIT_AFTER || order->action == ACTION_EXIT_PART) _exit(113);
}

static bool is_cut(bool is_hit)
{
    return is_hit && (order->action == ACTION_SHORT || order->action == ACTION_EXIT_PART);
}

static bool fails(bool is_hit)
{
    const uint32_t action = order->action;
    if (!is_hit) return false;
    if (action != ACTION_ERROR && action != ACTION_ERROR_EVER && action != ACTION_INTERRUPT)
        return false;
    errno = action == ACTION_INTERRUPT ? EINTR : order->error;
    return true;
}

#define NEXT(type, name, ...)                                                                      \
    static type (*next)(__VA_ARGS__);                                                              \
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, name)

#define WRAP_PWRITE(name)                                                                          \
    ssize_t name(int file, const void *data, size_t size, off_t offset)                            \
    {                                                                                              \
        NEXT(ssize_t, #name, int, const void *, size_t, off_t);                                    \
        const bool is_hit = is_ours(file) && hit(CALL_WRITE);                                      \
        if (fails(is_hit)) return -1;                                                              \
        if (is_cut(is_hit) && size > 1) size /= 2;                                                 \
        const ssize_t result = next(file, data, size, offset);                                     \
        after(is_hit);                                                                             \
        return result;                                                                             \
    }
WRAP_PWRITE(pwrite)
WRAP_PWRITE(pwrite64)

#define WRAP_PWRITEV(name)                                                                         \
    ssize_t name(int file, const struct iovec *parts, int count, off_t offset)                     \
    {                                                                                              \
        NEXT(ssize_t, #name, int, const struct iovec *, int, off_t);                               \
        const bool is_hit = is_ours(file) && hit(CALL_WRITE);                                      \
        if (fails(is_hit)) return -1;                                                              \
        if (is_cut(is_hit) && count > 1) count /= 2;                                               \
        const ssize_t result = next(file, parts, count, offset);                                   \
        after(is_hit);                                                                             \
        return result;                                                                             \
    }
WRAP_PWRITEV(pwritev)
WRAP_PWRITEV(pwritev64)

#define WRAP_PREAD(name)                                                                           \
    ssize_t name(int file, void *data, size_t size, off_t offset)                                  \
    {                                                                                              \
        NEXT(ssize_t, #name, int, void *, size_t, off_t);                                          \
        const bool is_hit = is_ours(file) && hit(CALL_READ);                                       \
        if (fails(is_hit)) return -1;                                                              \
        if (is_hit && order->action == ACTION_SHORT && size > 1) size /= 2;                        \
        return next(file, data, size, offset);                                                     \
    }
WRAP_PREAD(pread)
WRAP_PREAD(pread64)

/* A read that may not wait: while reads are ordered to go wrong, nothing of these files is in the cache. */
#define WRAP_PREADV2(name)                                                                         \
    ssize_t name(int file, const struct iovec *parts, int count, off_t offset, int flags)          \
    {                                                                                              \
        NEXT(ssize_t, #name, int, const struct iovec *, int, off_t, int);                          \
        const bool is_armed = order != NULL && (order->calls & CALL_READ) != 0;                    \
        if ((flags & RWF_NOWAIT) != 0 && is_armed && is_ours(file)) {                              \
            errno = EAGAIN;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return next(file, parts, count, offset, flags);                                            \
    }
WRAP_PREADV2(preadv2)
WRAP_PREADV2(preadv64v2)

ssize_t write(int file, const void *data, size_t size)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    const bool is_hit = is_ours(file) && hit(CALL_WRITE);
    if (fails(is_hit)) return -1;
    if (is_cut(is_hit) && size > 1) size /= 2;
    const ssize_t result = next(file, data, size);
    after(is_hit);
    return result;
}

#define WRAP_SYNC(name, call)                                                                      \
    int name(int file)                                                                             \
    {                                                                                              \
        NEXT(int, #name, int);                                                                     \
        const bool is_hit = is_ours(file) && hit(call);                                            \
        if (fails(is_hit)) return -1;                                                              \
        const int result = next(file);                                                             \
        after(is_hit);                                                                             \
        return result;                                                                             \
    }
WRAP_SYNC(fsync, CALL_SYNC_NEW)
WRAP_SYNC(fdatasync, CALL_SYNC)

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    NEXT(int, "renameat", int, const char *, int, const char *);
    const bool is_hit = is_ours(to_folder) && hit(CALL_NAME);
    if (fails(is_hit)) return -1;
    const int result = next(from_folder, from, to_folder, to);
    after(is_hit);
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
    const bool is_hit = is_ours(to_folder) && hit(CALL_NAME);
    if (fails(is_hit)) return -1;
    const int result = next(from_folder, from, to_folder, to, flags);
    after(is_hit);
    return result;
}

int unlinkat(int folder, const char *name, int flags)
{
    NEXT(int, "unlinkat", int, const char *, int);
    const bool is_hit = is_ours(folder) && hit(CALL_NAME);
    if (fails(is_hit)) return -1;
    const int result = next(folder, name, flags);
    after(is_hit);
    return result;
}

#define WRAP_FALLOCATE(name)                                                                       \
    int name(int file, int mode, off_t offset, off_t size)                                         \
    {                                                                                              \
        NEXT(int, #name, int, int, off_t, off_t);                                                  \
        const bool is_hit = is_ours(file) && hit(CALL_SPACE);                                      \
        if (fails(is_hit)) return -1;                                                              \
        const int result = next(file, mode, offset, size);                                         \
        after(is_hit);                                                                             \
        return result;                                                                             \
    }
WRAP_FALLOCATE(fallocate)
WRAP_FALLOCATE(fallocate64)

#define WRAP_FTRUNCATE(name)                                                                       \
    int name(int file, off_t size)                                                                 \
    {                                                                                              \
        NEXT(int, #name, int, off_t);                                                              \
        const bool is_hit = is_ours(file) && hit(CALL_SPACE);                                      \
        if (fails(is_hit)) return -1;                                                              \
        const int result = next(file, size);                                                       \
        after(is_hit);                                                                             \
        return result;                                                                             \
    }
WRAP_FTRUNCATE(ftruncate)
WRAP_FTRUNCATE(ftruncate64)
