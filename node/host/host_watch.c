#include "node/host/host_watch.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "storage/base/check.h"

#define LOOK_MS 250u
#define STEP_MS 500u /* of the time between two looks only so much counts */

void host_watch_shut_connections(void)
{
    DIR *files = opendir("/proc/self/fd");
    if (files == NULL) {
        for (int file = 3; file < 4096; file++) (void)shutdown(file, SHUT_RDWR);
        return;
    }
    /* For what is no connection this does nothing. */
    for (const struct dirent *entry = readdir(files); entry != NULL; entry = readdir(files)) {
        const long file = strtol(entry->d_name, NULL, 10); /* "." and ".." are 0 */
        if (file > 2) (void)shutdown((int)file, SHUT_RDWR);
    }
    (void)closedir(files);
}

void host_watch_begin(struct host_watch *watch, enum host_watch_place place, const char *what)
{
    struct host_watch_mark *mark = &watch->marks[place];
    atomic_store_explicit(&mark->what, what, memory_order_relaxed);
    atomic_fetch_add_explicit(&mark->sequence, 1, memory_order_release);
}

void host_watch_end(struct host_watch *watch, enum host_watch_place place)
{
    atomic_fetch_add_explicit(&watch->marks[place].sequence, 1, memory_order_release);
}

static void look(struct host_watch *watch, uint64_t passed_ms)
{
    for (uint32_t i = 0; i < HOST_WATCH_COUNT; i++) {
        struct host_watch_mark *mark = &watch->marks[i];
        const uint64_t sequence = atomic_load_explicit(&mark->sequence, memory_order_acquire);
        const bool is_same = sequence % 2 == 1 && sequence == mark->seen;
        mark->seen = sequence;
        mark->age_ms = is_same ? mark->age_ms + (passed_ms < STEP_MS ? passed_ms : STEP_MS) : 0;
        if (mark->age_ms < watch->limit_ms) continue;
        host_watch_shut_connections();
        fatal(EXIT_DISK,
              "data: %s: the disk has not completed %s for %u seconds: it counts as lost",
              watch->path, atomic_load(&mark->what), (unsigned)(watch->limit_ms / 1000));
    }
}

static void watch_main(void *argument)
{
    struct host_watch *watch = argument;
    uint64_t before = uv_hrtime();
    uv_mutex_lock(&watch->mutex);
    while (!watch->is_ending) {
        (void)uv_cond_timedwait(&watch->ending, &watch->mutex, (uint64_t)LOOK_MS * 1000000);
        const uint64_t now = uv_hrtime();
        look(watch, (now - before) / 1000000);
        before = now;
    }
    uv_mutex_unlock(&watch->mutex);
}

bool host_watch_start(struct host_watch *watch, const char *path)
{
    CHECK(!watch->is_running);
    watch->path = path;
    watch->is_ending = false;
    if (watch->limit_ms == 0) watch->limit_ms = HOST_WATCH_LIMIT_MS;
    if (uv_mutex_init(&watch->mutex) != 0 || uv_cond_init(&watch->ending) != 0) return false;
    if (uv_thread_create(&watch->thread, watch_main, watch) != 0) return false;
    watch->is_running = true;
    return true;
}

void host_watch_stop(struct host_watch *watch)
{
    if (!watch->is_running) return;
    uv_mutex_lock(&watch->mutex);
    watch->is_ending = true;
    uv_cond_signal(&watch->ending);
    uv_mutex_unlock(&watch->mutex);
    (void)uv_thread_join(&watch->thread);
    uv_cond_destroy(&watch->ending);
    uv_mutex_destroy(&watch->mutex);
    watch->is_running = false;
}
