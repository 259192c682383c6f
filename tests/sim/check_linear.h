/* check_linear.h - is the history of one key what a single register could have answered?
 *
 * The search is the one of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with the memory of
 * Lowe (Testing for Linearizability, 2017): it takes the next operation that may come first, tries it against the
 * state, goes back when it gets stuck, and never visits a (set of operations, state) twice.
 *
 * An operation whose outcome is unknown may take effect at any time after it was asked, or never. A value with an
 * expiry may vanish at any time, once: what must not happen is that it comes back. */
#ifndef KV_TESTS_SIM_CHECK_LINEAR_H
#define KV_TESTS_SIM_CHECK_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

#define CHECK_LINEAR_OPS_MAX 256u

enum check_kind {
    CHECK_KIND_GET,
    CHECK_KIND_SET,
    CHECK_KIND_SET_NEW,      /* only if it is not there */
    CHECK_KIND_SET_EXISTING, /* only if it is there */
    CHECK_KIND_SET_GET,      /* answers the old value */
    CHECK_KIND_DELETE,       /* answers 0 or 1 */
    CHECK_KIND_INCREMENT,    /* answers the new number */
    CHECK_KIND_APPEND,       /* answers the new size */
    CHECK_KIND_GET_DELETE,   /* answers the old value */
    CHECK_KIND_EXPIRE,       /* answers 1 when it is there; from then on it may vanish */
    CHECK_KIND_PERSIST,      /* answers 1 when it is there and could have vanished */
    CHECK_KIND_FLUSH,        /* a delete that answers nothing */
};

/* A value as the checker sees it: numbers that stand for its bytes. */
struct check_value {
    bool exists;
    bool expires;
    uint64_t content; /* number of a counter, hash of what was appended, id of a value */
    uint64_t size;    /* of what was appended */
};

struct check_op {
    enum check_kind kind;
    bool is_known; /* answered; else it may have happened, may yet, or never */
    uint64_t id;   /* of the value that it writes, unique in the run; 0: none */
    uint32_t client;
    uint32_t before;   /* op of the same pipeline that came before, or UINT32_MAX */
    uint64_t asked;    /* a clock that never shows a time twice */
    uint64_t answered; /* UINT64_MAX: never */
    struct check_value argument;
    struct check_value reply; /* of get and set-get */
    int64_t number;           /* other replies; 1 when a conditional set was done */
};

enum check_verdict { CHECK_LINEAR, CHECK_NOT_LINEAR, CHECK_UNDECIDED };

/* Of what is appended: append(hash(a), b) == hash(a + b). */
uint64_t check_linear_hash(uint64_t hash, struct slice text);

/* @ops is the whole history of one key that begins absent. Undecided: too long a history or search. */
enum check_verdict check_linear(const struct check_op *ops, uint32_t count);

#endif
