/* check_past.h - is what a node tells of a revision what the committed log makes of it?
 *
 * Keeps every committed change in the order of the log, and makes questions about the past: ranges and single keys at a
 * revision, and what became of a key. A state that was told must be, key by key, value by value and revision by
 * revision, what the changes up to there leave; keys whose expiry is not above the stamp of the entry of that revision
 * are gone. A history must name the changes of its key one by one, the newest first, and leave out only what the node
 * does not keep any more. Whatever asks for the newest sees everything that was committed when it was asked. */
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

struct check_past_change {
    uint64_t revision;
    uint64_t value; /* hash */
    struct effect effect;
    uint64_t size; /* in check_past.changes */
};

enum check_past_kind { CHECK_PAST_RANGE, CHECK_PAST_KEY, CHECK_PAST_HISTORY };

/* What is asked, and what was known by then. */
struct check_past_question {
    enum check_past_kind kind;
    uint64_t revision; /* 0: the newest */
    uint64_t limit;    /* elements; UINT64_MAX: all */
    const char *from;  /* of a range */
    const char *to;    /* empty: the end */
    bool is_reverse;
    char key[24];
    uint64_t floor; /* index: this much was committed */
    uint32_t node;
    uint64_t life; /* of the node */
};

void check_past_close(struct check_past *past);
/* A committed entry, each one once. */
void check_past_entry(struct check_past *past, const struct record *record);
/* The change at @offset of check_past.changes. False: nothing more is known to be committed. */
bool check_past_change_at(const struct check_past *past, uint64_t offset,
                          struct check_past_change *change);
/* As KV.WATCH and KV.HISTORY call it. */
const char *check_past_kind_of(const struct effect *effect);

/* Makes a question for @node, about @key if it is about one. @words: the command, where "?" is an empty argument. */
void check_past_ask(struct sim *sim, uint32_t node, const char *key,
                    struct check_past_question *question, char words[128]);
/* @reply answers it in the protocol's version 2. False: it has another shape. Fails the run when it is not what was. */
bool check_past_reply(struct sim *sim, const struct check_past_question *question,
                      struct slice reply);
/* The answer was COMPACTED. */
void check_past_gone(struct sim *sim, const struct check_past_question *question,
                     struct slice text);

#endif
