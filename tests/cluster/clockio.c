/* clockio.c - a preloaded library: the process has a wall clock that jumps, and clocks that run too fast or too slow.
 *
 * The test writes a `struct order` into the file named by CLOCKIO_ORDER, which is mapped here: the wall clock jumps at
 * that moment. The rate of both clocks is read once: a rate that changed would itself be a jump. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ll

struct order {
    _Atomic int64_t ahead_ns; /* of the wall clock */
    _Atomic int64_t asked;    /* how often somebody wanted to know the time */
    int64_t rate;             /* of both clocks, in thousandths */
};

typedef int clock_function(clockid_t, struct timespec *);

static struct order *order;
static clock_function *next;
static int64_t rate = 1000;
static int64_t wall_first, steady_first;

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec time;
    (void)next(clock, &time);
    return time.tv_sec * SECOND_NS + time.tv_nsec;
}

__attribute__((constructor)) static void clockio_open(void)
{
    const char *file = getenv("CLOCKIO_ORDER");
    *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    if (file == NULL || next == NULL) return;
    const int opened = open(file, O_RDWR | O_CLOEXEC);
    if (opened < 0) return;
    void *map = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
    (void)close(opened);
    if (map == MAP_FAILED) return;
    wall_first = nanoseconds(CLOCK_REALTIME);
    steady_first = nanoseconds(CLOCK_MONOTONIC);
    rate = ((const struct order *)map)->rate;
    order = map;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    const int result = next(clock, time);
    if (result != 0 || order == NULL) return result;
    const int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    const int is_steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
                          clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
    if (!is_wall && !is_steady) return result;
    (void)atomic_fetch_add(&order->asked, 1);
    const int64_t first = is_wall ? wall_first : steady_first;
    int64_t now = time->tv_sec * SECOND_NS + time->tv_nsec;
    now = first + (now - first) / 1000 * rate;
    if (is_wall) now += atomic_load(&order->ahead_ns);
    if (now < 0) now = 0; /* No kernel sets a clock to before 1970. */
    time->tv_sec = now / SECOND_NS;
    time->tv_nsec = now % SECOND_NS;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
