#include "node/host/host_log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A message, each byte of it escaped at worst, and what stands around it. */
#define OUTPUT_SIZE (6 * HOST_LOG_LINE_MAX + 128)

static _Atomic int level_now = 1;
static bool is_json;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void host_log_setup(int level, bool json)
{
    is_json = json;
    host_log_level(level);
}

void host_log_level(int level)
{
    atomic_store_explicit(&level_now, level, memory_order_relaxed);
}

static void write_all(const char *text, size_t size)
{
    while (size > 0) {
        const ssize_t written = write(STDERR_FILENO, text, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; /* Nobody reads the log: that must not stop the node. */
        text += written;
        size -= (size_t)written;
    }
}

/* Control bytes never reach a terminal; in JSON quotes and backslashes are escaped too. */
static size_t escape(char *to, const char *text, bool json)
{
    size_t size = 0;
    for (size_t i = 0; text[i] != 0 && i < HOST_LOG_LINE_MAX; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) {
            size += (size_t)snprintf(to + size, 7, json ? "\\u%04x" : "\\x%02x", (unsigned)c);
            continue;
        }
        if (json && (c == '"' || c == '\\')) to[size++] = '\\';
        to[size++] = (char)c;
    }
    return size;
}

static void output(int level, const char *line)
{
    char text[OUTPUT_SIZE];
    char stamp[32];
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &parts) == NULL ||
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
        stamp[0] = 0;
    }
    const unsigned ms = (unsigned)(now.tv_nsec / 1000000);
    size_t size = (size_t)snprintf(
        text, 96,
        is_json ? "{\"time\":\"%s.%03uZ\",\"level\":\"%s\",\"message\":\"" : "%s.%03uZ %-5s ",
        stamp, ms, level_names[level]);
    size += escape(text + size, line, is_json);
    const char *end = is_json ? "\"}\n" : "\n";
    memcpy(text + size, end, strlen(end));
    write_all(text, size + strlen(end));
}

void host_log_line(int level, const char *line)
{
    if (level < 0 || level > 3) level = 3;
    if (level < atomic_load_explicit(&level_now, memory_order_relaxed)) return;
    output(level, line);
}

void host_log_printf(int level, const char *format, ...)
{
    char line[HOST_LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    host_log_line(level, line);
}

void host_log_always(const char *format, ...)
{
    char line[HOST_LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    output(1, line);
}
