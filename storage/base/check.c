#include "storage/base/check.h"

#include <execinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What the operator does, whatever it was that the disk did not do. */
#define DISK_ADVICE "; look at the disk, then start this node again: it verifies what is there"

static void write_line(const char *text, size_t size)
{
    while (size > 0) {
        const ssize_t written = write(STDERR_FILENO, text, size);
        if (written <= 0) return;
        text += written;
        size -= (size_t)written;
    }
}

_Noreturn void check_failed(const char *file, int line, const char *function, const char *condition)
{
    char text[512];
    void *stack[32];
    const int size = snprintf(text, sizeof text, "kvnode: bug: %s:%d: %s: check failed: %s\n", file,
                              line, function, condition);
    if (size > 0) write_line(text, size < (int)sizeof text ? (size_t)size : sizeof text - 1);
    const int depth = backtrace(stack, (int)(sizeof stack / sizeof stack[0]));
    backtrace_symbols_fd(stack, depth, STDERR_FILENO);
    _exit(EXIT_BUG);
}

_Noreturn void fatal(int code, const char *format, ...)
{
    char text[1024];
    va_list args;
    int size = snprintf(text, sizeof text, "kvnode: fatal: ");
    va_start(args, format);
    size += vsnprintf(text + size, sizeof text - (size_t)size - 1, format, args);
    va_end(args);
    if (size > (int)sizeof text - 2) size = (int)sizeof text - 2;
    if (code == EXIT_DISK && (size_t)size + sizeof DISK_ADVICE < sizeof text) {
        memcpy(text + size, DISK_ADVICE, sizeof DISK_ADVICE - 1);
        size += (int)sizeof DISK_ADVICE - 1;
    }
    text[size] = '\n';
    write_line(text, (size_t)size + 1);
    _exit(code);
}
