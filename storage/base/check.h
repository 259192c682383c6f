/* check.h - assertions that stay on in release builds, and the two ways for a process to end.
 *
 * CHECK is for our own mistakes only. Input from disk, network or client is validated, never
 * CHECKed. One condition per CHECK; an implication is written `if (a) CHECK(b);`. */
#ifndef KV_BASE_CHECK_H
#define KV_BASE_CHECK_H

enum {
    EXIT_BAD_CONFIG = 1, /* An option, an address or the file of options is wrong. */
    EXIT_BAD_DATA = 2,   /* The data directory is damaged, foreign, locked or newer. */
    EXIT_DISK = 3,       /* The disk failed while running. */
    EXIT_BUG = 70,       /* One of our own checks failed. */
};

/* Prints file, line, function, @condition and a stack, then ends the process with EXIT_BUG. */
_Noreturn void check_failed(const char *file, int line, const char *function,
                            const char *condition);

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #condition))
#define STATIC_CHECK(condition, message) _Static_assert(condition, message)
#define UNREACHABLE() check_failed(__FILE__, __LINE__, __func__, "this line is never reached")

/* The ground is gone (failed sync, no memory, corrupt ballot): one line with write(2), no clean-up,
 * no reply to anybody, exit with @code. The line of EXIT_DISK ends with what the operator does. */
_Noreturn void fatal(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
