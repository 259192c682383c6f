/* past.h - the keys from @from to @to as they were at one revision, while the present goes on.
 *
 * A view is the present keys, corrected by an undo map: for each key that was touched after the revision, what it was
 * before that. Whoever changes a key tells the view before (past_note). So a view costs memory only for keys that
 * change while it is looked at; and that has a bound: when the map grows beyond it, the view gives up what lies
 * farthest ahead. It is then complete only in a window of keys, and who walks out of it has to make the view anew from
 * there (past_restart), from the log.
 *
 * The map is a keydir of its own: an entry is what the key was. Revision 0: it was not there. Place 0: it was there,
 * but where its value lies is yet to be found out (past_wants, past_offer).
 *
 * Knows nothing of files: storage/store_past.h does. */
#ifndef KV_STORAGE_PAST_H
#define KV_STORAGE_PAST_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/list.h"
#include "storage/effect.h"
#include "storage/hint.h"
#include "storage/keydir.h"

struct past {
    struct list link;  /* In the store's list. */
    uint64_t revision; /* Changes up to it are in the view. */
    uint64_t stamp_ms; /* Time there: keys with an expiry up to it are gone. */
    struct slice from; /* The range, borrowed: inclusive, */
    struct slice to;   /* exclusive; empty: the end. */
    bool is_reverse;   /* It is walked from the end. */
    bool is_last;      /* Nobody comes back to keys that were passed. */
    struct keydir *undo;
    struct keydir *
        puts; /* Of keys whose place is not known: the newest put seen that is older; NULL: none, */
    struct keydir *moves; /* and those whose revision is a change of the expiry alone. */
    uint64_t wanting;     /* Entries of undo of which the place is not known, */
    uint64_t wanted_max;  /* and a revision that is not below that of any of them. */
    uint64_t size_max;    /* Of the undo map. */
    struct buf low;       /* The window, inclusive, */
    struct buf high;      /* exclusive, */
    bool has_high;        /* if it has an end. */
    struct buf at; /* Where the walk is: the next key is at or behind it; in reverse, before it. */
    bool has_at;   /* Reverse: else it begins at the very end. */
    uint64_t lost_count; /* Times that the window became smaller. */
};

/* @from and @to stay as they are until past_close. The undo map is empty: that is the view when nothing was changed
 * since @revision. */
void past_open(struct past *past, uint64_t revision, struct slice from, struct slice to,
               bool is_reverse);
void past_close(struct past *past);

/* ---- changes ------------------------------------------------------------------------------------- */

/* @key is about to be changed, and is @before now (NULL: it does not exist). */
void past_note(struct past *past, struct slice key, const struct keydir_entry *before);
/* The same from the log, in the order of the log: effect @effect of revision @revision changed a key. */
void past_note_effect(struct past *past, const struct effect *effect, uint64_t revision);
/* Some entries do not know their place. Is that of @key one of them? */
bool past_wants(const struct past *past, struct slice key);
/* The effect @entry lies at @place. Files come from the newest to the oldest, the effects of each in their order. */
void past_offer(struct past *past, const struct hint_entry *entry, struct place place);
/* No more of them come. */
void past_settle(struct past *past);

/* ---- the walk ------------------------------------------------------------------------------------ */

enum past_step {
    PAST_KEY,  /* The next key: @item. */
    PAST_SKIP, /* One that was not there, or not yet: go on. */
    PAST_EDGE, /* The window ends here: past_restart, and all of it from the log again. */
    PAST_END,
};

struct past_walk {
    struct keydir_cursor live_cursor;
    struct keydir_cursor undo_cursor;
    const struct keydir_entry *live; /* The next of each, NULL: none. */
    const struct keydir_entry *undo;
};

/* From where the view is. Void after any change of the keys or the view. */
void past_begin(const struct past *past, const struct keydir *keys, struct past_walk *walk);
enum past_step past_next(const struct past *past, struct past_walk *walk,
                         const struct keydir_entry **item);
/* Everything up to @key, inclusive, was dealt with. */
void past_pass(struct past *past, struct slice key);
/* After an edge: everything in the window was dealt with. */
void past_pass_window(struct past *past);
/* The range is [@from, @to) from now on: what was walked so far is no part of it any more. */
void past_narrow(struct past *past, struct slice from, struct slice to);
/* Back to the beginning of the range. */
void past_rewind(struct past *past);
/* The window does not hold the place where the walk is. */
bool past_is_outside(const struct past *past);
/* The undo map is empty again, the window begins where the walk is. */
void past_restart(struct past *past);

void past_check(const struct past *past);

#endif
