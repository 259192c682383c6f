/* store_compact.h - one compaction under way. Only store*.c include it.
 *
 * A job writes one table in the place of a run of neighbouring sealed files, out of the window that is kept for
 * lagging peers. All work of the processor happens in slices, all work of the disk in the bulk lane:
 *
 *   DELETES, OLDER   which deletes of the run still hide something in older files? (only when worth it)
 *   DECIDE, COPY     the hints of the run say what there is, the keydir says what of it lives; the bytes of those
 *                    effects are read, verified and packed into groups
 *   FINISH           the table gets its hint and its final size
 *   READY            it waits until the base has reached the index at which the last decision was made: then
 *                    whatever killed an effect is in the files of the same manifest
 *   SWITCH           the manifest names the table; the keydir is told, key by key. Only then the old files go
 *
 * A crash before the manifest leaves a table that nobody names, after it old files that nobody names: the next start
 * removes either. An effect that dies after it was decided upon is copied in vain, no more: what killed it comes
 * later in the order of entries. */
#ifndef KV_STORAGE_STORE_COMPACT_H
#define KV_STORAGE_STORE_COMPACT_H

#include "storage/compact.h"
#include "storage/hint.h"
#include "storage/keyset.h"
#include "storage/manifest.h"
#include "storage/shelf.h"
#include "storage/table.h"

#define COMPACT_STEP_ENTRIES 256u      /* looked at in one turn */
#define COMPACT_STEP_SIZE (256u * KIB) /* verified and copied in one turn */
#define COMPACT_SPAN_SIZE (1u * MIB)   /* read at once, but for a larger effect */
#define COMPACT_GAP_SIZE (64u * KIB)   /* dead bytes that are read rather than skipped */
#define COMPACT_RETRY_MS 1000u         /* after a job was given up */
#define COMPACT_LOOK_MS 1000u          /* between looks for something to do while keys change */
#define COMPACT_ROLL_MS 500u           /* how long a finished job waits before it rolls the log */

enum compact_state {
    COMPACT_IDLE,
    COMPACT_DELETES,
    COMPACT_OLDER,
    COMPACT_DECIDE,
    COMPACT_COPY,
    COMPACT_FINISH,
    COMPACT_READY,
    COMPACT_SWITCH,
};

enum compact_op {
    COMPACT_OP_NONE,
    COMPACT_OP_PIECE, /* of a hint */
    COMPACT_OP_SPAN,  /* of a file */
    COMPACT_OP_CREATE,
    COMPACT_OP_GROUP,
    COMPACT_OP_HINT,
    COMPACT_OP_TRIM,
};

/* An effect to be kept. */
struct compact_item {
    uint32_t offset; /* in its file */
    uint32_t size;
    uint8_t kind;
    bool is_merged; /* @revision and @expiry_ms are those of a later change of the expiry */
    uint8_t flags;
    uint32_t key_at; /* in keys */
    uint32_t key_size;
    uint32_t value_size; /* of the value that stands behind the key there; 0: the hint has none */
    uint64_t revision;
    uint64_t expiry_ms;
    uint64_t own_revision; /* as they are in the file */
    uint64_t own_expiry_ms;
};

struct store_compact {
    enum compact_state state;
    enum compact_op op_kind;
    bool op_is_done;
    struct disk_op op;
    char name[HINT_NAME_SIZE];

    /* The run. */
    struct log_file inputs[COMPACT_RUN_MAX];
    uint32_t input_count;
    struct log_file *older; /* files before the run, when their hints are wanted */
    uint32_t older_count;
    bool is_oldest; /* There are none. */
    bool checks_deletes;
    bool
        keeps_deletes; /* A hint of an older file is damaged: it cannot be told which are needed. */
    struct keyset deletes; /* of the run; marked: an older file holds the key */
    uint64_t decided_index;

    /* The hint that is being read. */
    uint32_t at; /* position in inputs or older */
    bool is_open;
    struct hint_reader reader;
    struct buf piece;

    /* Effects on their way from inputs[at]. */
    struct buf items;   /* struct compact_item */
    uint64_t item_at;   /* next to be copied */
    bool is_closed;     /* The next effect does not belong to this span: it is the last of items. */
    bool ends_file;     /* They are the last of inputs[at]. */
    struct buf span;    /* bytes of the file from the first item on, with the word before it */
    uint64_t span_size; /* wanted */
    struct buf keys;    /* of the items, small values behind them */
    struct buf patched; /* an effect with another expiry */

    struct table table; /* valid when has_table */
    bool has_table;
    struct shelf_file *output; /* NULL: not made yet */
    uint64_t output_deletes;
    uint8_t block[SEGMENT_BLOCK_SIZE];

    /* When to go on. */
    uint64_t looked_ms;    /* when a run was looked for last, */
    uint64_t looked_count; /* how many manifests had been written then, */
    uint64_t looked_index; /* and what was applied */
    uint64_t now_ms;       /* of the last turn */
    uint64_t retry_ms;     /* after a failure; 0: none. UINT64_MAX: as soon as the time is known */
    uint64_t mend_ms;      /* an effect is asked from others: not before */
    uint64_t wait_ms;      /* since when it is ready; UINT64_MAX: the time is not known */
    int64_t credit;        /* bytes that may be read and written now */
    uint64_t credit_ms;
    uint64_t log_written; /* as of credit_ms */
    bool is_forced;       /* store_compact() was called and is not done */
    bool is_urgent;       /* space runs away */

    /* Figures since the start. */
    uint64_t jobs;
    uint64_t given_up;
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t bytes_freed;
};

struct store;

/* ---- store_compact_job.c ------------------------------------------------------------------------- */

/* Goes on with the work of the processor until an operation is under way, the slice is over or the job waits. ERR_...:
 * it cannot go on. */
enum err store_compact_work(struct store *store);
/* Looks at the result of the operation that is complete. */
enum err store_compact_result(struct store *store);

/* Item @at of those on their way. */
struct compact_item store_compact_item(const struct store_compact *job, uint64_t at);
struct slice store_compact_key(const struct store_compact *job, const struct compact_item *item);
/* The effect of @item as it goes into the table. ERR_CORRUPT: the file does not hold it. */
enum err store_compact_bytes(struct store_compact *job, const struct compact_item *item,
                             struct slice *bytes, struct effect *effect);

/* ---- store_mend.c -------------------------------------------------------------------------------- */

/* The effect of @item, which the file does not hold, from what is known of it and from others. Items before @end
 * may be asked for as well. ERR_AGAIN: it is on its way.  ERR_NOT_FOUND: it does not matter any more.
 * ERR_CORRUPT: nobody has it. */
enum err store_mend_item(struct store *store, const struct compact_item *item, uint64_t end,
                         struct slice *bytes, struct effect *effect);
void store_mend_failed(struct store *store);
void store_mend_turn(struct store *store, uint64_t now_ms);
uint64_t store_mend_deadline(const struct store *store);

/* ---- store_compact.c ----------------------------------------------------------------------------- */

/* Bytes that compacting everything that may be compacted would give back, about. */
uint64_t store_compact_garbage(struct store *store);
void store_compact_turn(struct store *store, uint64_t now_ms);
uint64_t store_compact_deadline(const struct store *store);
/* The job ends without a result; waits for its operation. */
void store_compact_abandon(struct store *store);
/* May the next manifest, of a base at @index, have the table in the place of its run? */
bool store_compact_ready(const struct store *store, uint64_t index);
/* Lets @next have it. */
void store_compact_edit(const struct store *store, struct manifest *next);
/* A manifest with the table is on disk. */
void store_compact_taken(struct store *store);

#endif
