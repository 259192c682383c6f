/* store_inner.h - what the parts of the store share. Only store*.c include it; others use store.h.
 *
 *   store.c        life, ballot, log, figures, checks
 *   store_load.c   start-up: manifest, keys of the sealed files, log
 *   store_apply.c  effects into the keydir
 *   store_value.c  values out of it (store_value.h)
 *   store_seal.c   full segments become part of the base; retention
 *   store_ship.c   the base to and from other replicas
 *   store_files.c  the files by number: reading, accounting
 *   store_compact.c store_compact_job.c  tables in the place of older files
 *   store_tidy.c   removes what is retired, trims what is sealed
 *   store_space.c  figures, pins */
#ifndef KV_STORAGE_STORE_INNER_H
#define KV_STORAGE_STORE_INNER_H

#include "storage/ballot.h"
#include "storage/damage.h"
#include "storage/effect.h"
#include "storage/hint.h"
#include "storage/log.h"
#include "storage/manifest.h"
#include "storage/mend.h"
#include "storage/shelf.h"
#include "storage/snapshot.h"
#include "storage/store.h"
#include "storage/store_scrub.h"
#include "storage/store_compact.h"
#include "storage/store_past.h"
#include "storage/store_space.h"
#include "storage/store_value.h"
#include "storage/witness.h"

#define STORE_RETRY_MS 1000u /* between attempts to seal on a full disk */
#define STORE_NAME_SIZE 192u

/* The hint of an unsealed segment grows while its entries are applied, so that sealing reads nothing. */
struct store_growth {
    uint32_t number;     /* of the segment */
    bool is_written;     /* The hint is on disk; its memory is given back. */
    uint64_t stamp_ms;   /* highest stamp up to the last entry applied from it */
    uint64_t state_hash; /* of the keys after that entry */
    uint64_t hint_size;  /* valid when it is written */
    uint64_t items;
    struct hint hint;
};

enum store_seal_state {
    STORE_SEAL_IDLE,
    STORE_SEAL_HINT,     /* A hint is being written. */
    STORE_SEAL_MANIFEST, /* The next manifest is being written. */
};

struct store_seal {
    enum store_seal_state state;
    bool is_done; /* The operation is complete; store_turn() looks at its result. */
    uint64_t
        retry_ms; /* A full disk refused: not before. UINT64_MAX: as soon as the time is known. */
    bool is_refused; /* A full disk refused. */
    struct disk_op op;
    char name[STORE_NAME_SIZE];
    uint32_t number; /* of the segment whose hint is written */
    uint32_t begin;  /* positions in the log of the segments that the manifest adds */
    uint32_t end;
    bool has_table;         /* It has the table of the compaction that is ready. */
    struct manifest next;   /* that is being written */
    struct buf bytes;       /* of it */
    uint64_t count;         /* manifests written */
    uint64_t bytes_written; /* hints and manifests */
};

/* Retired files are removed, sealed ones trimmed, one after the other in the background. */
struct store_tidy {
    bool is_busy;
    bool is_done;
    struct disk_op op;
    char name[STORE_NAME_SIZE];
    uint32_t number;   /* of the file; 0: none */
    bool is_hint_gone; /* of the file that is being removed */
    uint64_t retired;  /* count of retirements */
    disk_file opened;  /* for a trim; -1: none */
    uint32_t chores;   /* files to be trimmed or removed */
    uint32_t
        held; /* retired files that wait for the log to forget what died before they were retired */
    uint64_t held_size;
    uint64_t looked_index; /* the first entry of the log when they were looked at last */
    bool has_held;         /* there was one, so the log leaves room for them */
};

/* Manifests whose files somebody reads, oldest first. */
struct store_pin {
    uint64_t id;
    uint64_t retired; /* count of retirements when it was made */
};
struct store_pins {
    struct store_pin list[STORE_PINS_MAX];
    uint32_t count;
    uint64_t last_id;
};

struct store {
    struct store_config config;
    struct keydir *keys;
    struct ballot_file ballot;
    struct log log;
    struct manifest manifest; /* As on disk; base_index 0: there is none. */
    uint64_t applied_index;
    struct witness witness; /* what the state was, for as many entries as it remembers */
    struct damage damage;   /* of sealed files */
    struct mend mend;       /* what others are asked for */
    struct store_scrub scrub;
    uint64_t rolled_base; /* the log was rolled for the sake of a damaged file at this base */
    uint64_t unblock_ms;  /* when files that could not be repaired are tried again; 0: none */
    uint64_t stamp_ms;    /* Highest of all entries applied. */
    struct store_growth *growths; /* Of unsealed segments, ordered by number. */
    uint32_t growth_count;
    uint32_t growth_capacity;
    struct store_seal seal;
    struct shelf shelf; /* all files but the spare */
    struct store_compact compact;
    struct store_tidy tidy;
    struct store_pins pins;
    uint64_t user_written;   /* bytes of keys and values in the effects that were applied */
    bool is_burying;         /* what a flush removed is still being freed */
    uint64_t flush_revision; /* of the newest flush: older effects do not matter */
    struct snapshot incoming;
    uint64_t hold_index;    /* See store_hold(). */
    bool is_released;       /* Nothing is held any more, and files that were kept are to go. */
    bool is_replaced;       /* A received base is the state on disk: only closing makes sense. */
    struct buf scratch;     /* The put that was read last, for a value. */
    struct buf unpacked;    /* The value that store_value() unpacked. */
    struct list reads;      /* struct store_read under way, by link. */
    struct list pasts;      /* struct past of views (store_past.h), by link, */
    uint32_t past_count;    /* so many, */
    uint64_t past_size_max; /* and what the undo map of each may take; 0: its share. */
    uint64_t past_passes;   /* times that the log was gone through for one, */
    uint64_t past_lookups;  /* and the files for values */
    struct list chunks;     /* struct store_chunk: parts of files read for them. */
    uint64_t
        removed_index; /* Changes up to it may have been of values that are gone from the disk. */
    uint64_t tail_hits;
    uint64_t tail_misses;
};

/* ---- store_load.c -------------------------------------------------------------------------------- */
/* Fills what store_open() has set up. @message: empty buf, receives what store_open() promises. */
enum err store_load(struct store *store, struct buf *message);

/* ---- store_apply.c ------------------------------------------------------------------------------- */

/* One effect of @file into the keydir. */
void store_apply_entry(struct store *store, struct shelf_file *file,
                       const struct hint_entry *entry);
/* The growth of segment @number; made when it is not there. */
struct store_growth *store_growth(struct store *store, const struct log_segment *segment);
void store_growth_drop(struct store *store, uint32_t number);

/* ---- store_value.c ------------------------------------------------------------------------------- */

/* A value is being read from file @number: it has to stay open. */
bool store_is_read(const struct store *store, uint32_t number);
/* Waits for all values that are being read. */
void store_reads_settle(struct store *store);

/* ---- store_past.c -------------------------------------------------------------------------------- */

/* The effect of @entry is about to be applied. */
void store_pasts_note(struct store *store, const struct hint_entry *entry);
void store_pasts_check(const struct store *store);
/* Part of file @number is being read. */
bool store_chunks_has(const struct store *store, uint32_t number);
void store_pasts_turn(struct store *store);
/* Views mean nothing from now on; waits for what is being read. */
void store_pasts_close(struct store *store);

/* ---- store_files.c ------------------------------------------------------------------------------- */

/* A file of the manifest, or one that left it and is not gone yet; NULL: none has this id. */
const struct log_file *store_file_of_id(const struct store *store, uint64_t file_id);
/* ERR_NOT_FOUND: no such file. */
enum err store_file_handle(struct store *store, uint32_t number, disk_file *handle, uint64_t *used);
/* Between these two a file on the shelf stays open, even when it is retired. For submitted reads. */
void store_file_acquire(struct store *store, uint32_t number);
void store_file_release(struct store *store, uint32_t number);
/* The segment from which entry @index is being applied, which is put on the shelf when it is not there. */
struct shelf_file *store_file_growing(struct store *store, uint32_t number, uint64_t index);
/* The file is of no use any more: it is removed once nobody reads it. */
void store_file_retire(struct store *store, struct shelf_file *file);
/* The part of the retention that is for retired files with old values; 0 before there is any. */
uint64_t store_held_max(const struct store *store);
/* ---- store_space.c ------------------------------------------------------------------------------- */

bool store_file_pinned(const struct store *store, const struct shelf_file *file);
/* Lets go of the oldest pins while they keep too much. */
void store_pins_limit(struct store *store);

/* ---- store_tidy.c -------------------------------------------------------------------------------- */

void store_tidy_turn(struct store *store);
uint64_t store_tidy_deadline(struct store *store);
void store_tidy_settle(struct store *store);
/* Closes what the shelf has open, and the shelf. */
void store_files_close(struct store *store);
/* It is in the manifest now. */
void store_file_sealed(struct store *store, const struct log_segment *segment);

/* ---- store_seal.c -------------------------------------------------------------------------------- */

void store_seal_turn(struct store *store, uint64_t now_ms);
uint64_t store_seal_deadline(const struct store *store);
/* Waits for the operation under way; its result is taken into account. */
void store_seal_settle(struct store *store);
/* Number of the oldest of the sealed segments that are kept readable entry by entry in @size_max bytes; UINT32_MAX:
 * none is. @window_size receives what they take. */
uint32_t store_seal_window(const struct store *store, uint64_t size_max, uint64_t *window_size);

#endif
