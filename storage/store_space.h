/* store_space.h - where the space goes: files, what lives in them, compaction, and files that must stay.
 *
 * Part of store.h, for status, commands, shipping and backup. */
#ifndef KV_STORAGE_STORE_SPACE_H
#define KV_STORAGE_STORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/store.h"

/* ---- compaction ---------------------------------------------------------------------------------- */

struct store_compaction {
    bool is_running; /* a run of files is being compacted */
    bool is_forced;  /* store_compact() was called and is not done */
    uint64_t jobs;   /* since the start, and the next five too */
    uint64_t given_up;
    uint64_t bytes_read;
    uint64_t bytes_written; /* to tables and their hints */
    uint64_t bytes_freed;
    uint64_t total_written; /* to all files: log, hints, tables, manifests */
    uint64_t user_written;  /* keys and values in the effects that were applied */
    uint64_t live;          /* bytes of effects in force, in all files */
    uint64_t garbage;       /* what compacting could give back now, about */
};
struct store_compaction store_compaction(struct store *store);
/* Bytes written for each byte of the user's, as "1.62". */
void store_amplification(const struct store_compaction *figures, char text[24]);
/* Compacts all that has garbage and may be compacted, whatever the rules say; goes on in the background. */
void store_compact(struct store *store);

/* ---- files --------------------------------------------------------------------------------------- */

enum store_file_state {
    STORE_FILE_ACTIVE,  /* being written, or not sealed yet */
    STORE_FILE_SEALED,  /* in the manifest */
    STORE_FILE_MAKING,  /* a table that is not complete */
    STORE_FILE_RETIRED, /* goes when nobody needs it any more */
    STORE_FILE_SPARE,   /* made ahead, empty */
};

struct store_file {
    uint32_t number;
    uint64_t file_id;
    bool is_table;
    enum store_file_state state;
    uint64_t size; /* allocated */
    uint64_t used;
    uint64_t hint_size; /* 0: it has none yet */
    uint64_t live;
    uint64_t first_index; /* last + 1: no entries */
    uint64_t last_index;
    bool is_in_window; /* Its entries can be read one by one. */
    bool is_damaged;
};
/* Calls @visit for every file, in the order of entries. */
void store_files(struct store *store, void (*visit)(void *context, const struct store_file *file),
                 void *context);

/* ---- pins ---------------------------------------------------------------------------------------- */

/* The files of the present manifest stay readable by id (store_ship_read()) until the pin is given back, or until what
 * is kept for pins alone is more than the larger of the retention and a quarter of what lives: then the oldest pin
 * is void and its reader gets ERR_NOT_FOUND. Returns the pin, never 0; 0 when STORE_PINS_MAX are out. */
#define STORE_PINS_MAX 64u
uint64_t store_pin(struct store *store);
/* A pin that is void or 0 is ignored. */
void store_unpin(struct store *store, uint64_t pin);
bool store_pinned(const struct store *store, uint64_t pin); /* it is not void */

/* Options that may change while the store is open. */
struct store_rates {
    uint64_t retention_size, compaction_rate, scrub_rate; /* as in struct store_config */
};
void store_set_rates(struct store *store, const struct store_rates *rates);

#endif
