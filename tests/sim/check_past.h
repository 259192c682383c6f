/* check_past.h - is what a node tells of a revision what the committed log makes of it?
 *
 * Keeps every committed change in the order of the log. A range that was told at a revision must be, key by key, value
 * by value and revision by revision, what the changes up to there leave; keys whose expiry is not above the stamp of
 * the entry of that revision are gone. */
#ifndef KV_TESTS_SIM_CHECK_PAST_H
#define KV_TESTS_SIM_CHECK_PAST_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/effect.h"
#include "storage/record.h"

struct sim;

#define CHECK_PAST_TOLD_MAX 5u

struct check_past {
    struct buf
        changes; /* u64 revision, u64 hash of the value, then the effect without its value, encoded */
    struct buf stamps; /* u64, by index */
    uint64_t last;     /* index of the newest entry; all before it are here */
    bool
        has_gap; /* One was never seen, because everybody had it in a base: nothing can be held against it. */
    uint64_t told[CHECK_PAST_TOLD_MAX]; /* revisions that some range was told at */
    uint32_t told_count;
};

void check_past_close(struct check_past *past);
/* A committed entry, each one once. */
void check_past_entry(struct check_past *past, const struct record *record);
/* A revision to ask for again; 0: none yet. */
uint64_t check_past_pick(struct sim *sim);
/* @reply answers KV.RANGE "" "" [AT @revision] [REVISION] in the protocol's version 2. @revision 0: it tells which.
 * False: it has another shape. Fails the run when it is not what was. */
bool check_past_range(struct sim *sim, uint64_t revision, struct slice reply);

#endif
