/* store_past.h - reading what was: entries of the log in the background, and the keys at a revision.
 *
 * Whole entries stay readable as long as `retention` keeps them, and the newest value of each key for ever. From the
 * oldest revision that is kept on everything can be told: what a key was before a change, each entry names (the
 * revision that the key had before), and where the value of that revision lies the hints of the files say.
 *
 * All work comes in slices: a budget of units, one for an effect or key that is looked at, is handed in and counted
 * down. Nothing here waits for the disk; ERR_AGAIN asks to be called again in a later turn. */
#ifndef KV_STORAGE_STORE_PAST_H
#define KV_STORAGE_STORE_PAST_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/past.h"
#include "storage/record.h"
#include "storage/store.h"

#define STORE_PASTS_MAX 48u                    /* views at a time, */
#define STORE_PASTS_SIZE (64u * 1024u * 1024u) /* and memory of their undo maps together */

/* Revisions from this one on can be asked for. It only grows: with what retention drops, with what compaction removed,
 * with a flush, and with a start or an installed base that has tables. */
uint64_t store_oldest_revision(const struct store *store);
/* The revision of the state as it is now. */
uint64_t store_newest_revision(const struct store *store);

/* ---- entries of the log ---------------------------------------------------------------------------- */

/* Bytes of a file on their way. */
struct store_chunk;

/* Reads applied entries one after the other, in either direction. All zero to begin with; it stays where it is while a
 * chunk is its own, and is without one when the store was closed. */
struct store_records {
    struct store_chunk *chunk;
};
/* The entry @index, and where it lies; @other: the entry up to which the caller will go on, behind or before it.
 * Borrowed until the next call of any function of this store.
 *   ERR_AGAIN      it is being read      ERR_NOT_FOUND  it is not kept, or not applied yet
 *   ERR_CORRUPT, ERR_IO  the disk does not give it */
enum err store_records_read(struct store *store, struct store_records *records, uint64_t index,
                            uint64_t other, struct record *record, struct place *place);
/* It was asked for, and has not come. */
bool store_records_waits(const struct store_records *records);
/* The entry is in memory: it can be had at once. */
bool store_records_near(const struct store *store, uint64_t index);
void store_records_close(struct store *store, struct store_records *records);

/* ---- the keys at a revision -------------------------------------------------------------------------- */

enum store_past_state {
    STORE_PAST_SCAN,    /* The log from the revision on tells what was changed since. */
    STORE_PAST_RESOLVE, /* Where the values lie is looked up in the files. */
    STORE_PAST_READY,
    STORE_PAST_LOST, /* What it needs is gone. */
};

struct store_past {
    struct past past;    /* First; borrowed for the walk. */
    struct store *store; /* NULL: it was closed, the view means nothing any more. */
    enum store_past_state state;
    enum err why;      /* LOST: the error. */
    bool wants_values; /* Else only keys are asked for. */
    uint64_t pin;
    uint64_t next;      /* Entry of the log to look at next. */
    uint32_t effect_at; /* Effects of it that were dealt with. */
    struct store_records records;
    struct buf files; /* struct store_past_file: those to look at, the newest last. */
    struct store_chunk *chunk;
    struct hint_reader reader;
    bool is_open; /* The reader has the hint of the last of files. */
};

/* @revision lies between the oldest and the newest. @from and @to stay as they are until it is closed. NULL: there are
 * too many already. */
struct store_past *store_past_open(struct store *store, uint64_t revision, struct slice from,
                                   struct slice to, bool is_reverse, bool wants_values);
/* Goes on until the view is complete where its walk is: OK. Call it again after past_pass_window() and past_rewind().
 *   ERR_AGAIN      the budget is used up, or something is being read (store_past_waits)
 *   ERR_NOT_FOUND  what it needs is not kept any more, or the store was closed
 *   ERR_CORRUPT, ERR_IO  the disk does not give it */
enum err store_past_step(struct store_past *view, int64_t *budget);
/* The file with the value of @entry, which the walk gave, is still there. False: it was given back for want of room:
 * views keep no more than `retention` from being removed. */
bool store_past_keeps(const struct store_past *view, const struct keydir_entry *entry);
bool store_past_waits(const struct store_past *view);
void store_past_close(struct store_past *view);

#endif
