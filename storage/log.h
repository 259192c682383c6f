/* log.h - the replicated log of one replica: append, flush, cut, read.
 *
 * Appended records gather in the image of a group (segment.h). log_flush() writes one image with one sync; while it
 * is under way the next one gathers. An entry is durable when its group is. Conflicting entries are cut by a
 * RECORD_CUT in the next group: nothing on disk is rewritten. A full segment is followed by the spare, which is always
 * made one ahead. Older segments stay: they are the database.
 *
 *   persisted <= last    pending entries: (written, last]    first <= last + 1
 *
 * A cut can leave void entries at the end of older segments: what counts is `last_index` of a segment. Opened by
 * recover_log(). A failed write ends the process (fatal, EXIT_DISK). */
#ifndef KV_STORAGE_LOG_H
#define KV_STORAGE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/prng.h"
#include "storage/disk.h"
#include "storage/expected.h"
#include "storage/keydir.h" /* struct place */
#include "storage/latency.h"
#include "storage/record.h"
#include "storage/reserve.h"
#include "storage/segment.h"
#include "storage/tail.h"

#define LOG_MARK_DELAY_MS 10u      /* idle time before a durable mark */
#define LOG_NOSPACE_RETRY_MS 1000u /* between attempts to make a segment on a full disk */
#define LOG_READ_SIZE (256u * KIB) /* read at once from the disk by log_entry() */

struct log_config {
    struct disk *disk;  /* keeps, until log_close */
    const char *folder; /* keeps */
    uint16_t shard;
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t random_seed;
    uint64_t segment_size; /* a multiple of SEGMENT_BLOCK_SIZE */
    uint64_t tail_size;
    uint64_t reserve_size; /* kept for a full disk, see reserve.h; 0: nothing */
};

/* What a manifest says about a sealed file, and log_describe() about any other. */
struct log_file {
    uint32_t number;
    uint64_t file_id;
    uint64_t first_index; /* last_index + 1 when no entry in the file counts any more */
    uint64_t last_index;  /* of the log up to the end of this file, void entries left out */
    uint64_t used;        /* bytes up to the end of the last group */
    struct hash128 seed;  /* chain before the first group */
    struct hash128 chain; /* chain of the last group */
    bool is_table;        /* what compaction left of the entries first .. last: see table.h */
};

enum log_segment_state {
    LOG_SEGMENT_ACTIVE, /* Groups are being added: the newest one only. */
    LOG_SEGMENT_FULL,   /* Never written again; all of it is durable. Waits to be sealed. */
    LOG_SEGMENT_SEALED, /* Listed in the manifest. */
};

struct log_slot {
    uint32_t offset;
    uint32_t size;
};

struct log_segment {
    struct log_file file;
    enum log_segment_state state;
    uint64_t size;        /* allocated bytes */
    disk_file handle;     /* open as long as the segment is listed */
    uint64_t slots_first; /* index of slots[0]; entries of the file below it cannot be looked up */
    struct log_slot *slots;
    uint32_t slots_count; /* slots_first + slots_count == last_index + 1 */
    uint32_t slots_capacity;
};

struct log_run; /* Entries of one term. These three: log_index.h. */
struct log_change;
struct log_image; /* A group that is not submitted yet. */

/* Read the numbers; change nothing. */
struct log {
    struct log_config config;
    struct prng prng;
    uint64_t first_index;     /* oldest entry that can be read; last_index + 1: none */
    uint64_t last_index;      /* base index when there are no entries */
    uint64_t persisted_index; /* everything up to it is durable as it now is */
    uint64_t prefix_index;    /* an index before first whose term is known, or 0 */
    uint64_t prefix_term;
    uint64_t last_stamp_ms;  /* highest stamp of any record ever appended or loaded */
    bool nospace;            /* the next segment cannot be made: the disk is full */
    bool stopped;            /* log_stop() was called */
    uint64_t groups_written; /* completed, marks included */
    uint64_t bytes_written;  /* completed */
    struct latency writes;   /* of groups: write and sync */

    struct log_segment **segments; /* ordered by number */
    uint32_t segments_count;
    uint32_t segments_capacity;
    struct log_segment *active; /* the newest in the list, or NULL: none is open for writing */
    struct log_segment *spare;  /* not listed yet, or NULL */
    struct disk_op spare_op;
    bool spare_pending;     /* It is being made, named among what is expected, or let go of. */
    bool is_spare_expected; /* The next start must find it: it can be used. */
    bool is_spare_unwanted; /* It goes once it is not expected any more. */
    struct expected expected;
    char spare_name[SEGMENT_NAME_SIZE];
    uint8_t *spare_block;
    uint64_t spare_retry_ms; /* UINT64_MAX: a full disk refused, log_turn() sets the time */
    struct reserve reserve;
    uint32_t number_next;

    struct log_image **images; /* pending, oldest first */
    uint32_t images_count;
    uint32_t images_capacity;
    uint64_t written_index; /* last index of all submitted groups, as a reader of them sees it */
    uint64_t cut_index;   /* of the RECORD_CUT that is pending, 0: none. Comes first in images[0] */
    struct hash128 chain; /* of the last submitted group */
    struct disk_op write_op;
    bool write_pending;
    uint64_t write_index; /* persisted when the write under way is complete; cuts lower it */
    bool write_mark;
    bool is_roll_wanted; /* log_roll() was called while a write was under way */
    bool unmarked;       /* the newest durable group is not followed by another one */
    uint64_t mark_ms;    /* when to mark it; UINT64_MAX: idle time has not begun */
    struct tail tail;

    struct log_run *runs;
    uint32_t runs_count;
    uint32_t runs_capacity;
    struct log_change *changes;
    uint32_t changes_count;
    uint32_t changes_capacity;
    struct buf window; /* read ahead from the disk: @window_file from @window_offset on */
    uint32_t window_file;
    uint64_t window_offset;
};

/* ---- writing --------------------------------------------------------------------------------- */

/* Appends one whole record (verified by the caller; index last + 1, its term not below the last one's; never a
 * RECORD_CUT). Copies it. Bounded by the caller: see log_pending_size(). One that does not fit in a segment of the
 * usual size gets a larger one. */
void log_append(struct log *log, struct slice record);
/* The same, but memory of a record from LOG_TAKE_SIZE on is taken: if it lies in @owner, which is empty then. */
void log_append_from(struct log *log, struct slice record, struct buf *owner);
/* Drops the entries from @index on; first <= @index <= last + 1, and above every sealed entry. */
void log_cut(struct log *log, uint64_t index);
/* Starts writing what is pending, unless a write is under way or no segment has room yet. */
void log_flush(struct log *log);
uint64_t log_flushing(const struct log *log); /* bytes of the write under way; 0: none is */
/* Returns after all that was appended is durable. ERR_NOSPACE: it is not, the disk is full. */
enum err log_flush_wait(struct log *log);
uint64_t log_pending_size(const struct log *log); /* bytes appended and not submitted */
/* The disk is full: the next segment cannot be made, or the reserve had to be given up. */
bool log_nospace(const struct log *log);
/* Bytes of groups that can still be written without new space, after what is pending. */
uint64_t log_room(const struct log *log);
/* Would a record of @size bytes find its place, and without the reserve if it needs a file of its own? */
bool log_fits(const struct log *log, uint64_t size);
/* Entries wait for the next segment, which the disk owes us: it does not say that it is full. */
bool log_starved(const struct log *log);
/* Makes the spare, writes a durable mark when idle, retries what a full disk refused. Once a turn. */
void log_turn(struct log *log, uint64_t now_ms);
/* now_ms at which log_turn wants to run; UINT64_MAX: not */
uint64_t log_deadline(const struct log *log);
/* The next group goes to a new segment: the active one becomes full and can be sealed, at once or, while a write is
 * under way, before the next one. */
void log_roll(struct log *log);
/* Waits for all operations, after which the log never writes again: what is pending stays in memory. */
void log_stop(struct log *log);
uint32_t log_take_number(struct log *log); /* for a new file, above all others */
uint64_t log_take_id(struct log *log);     /* a random file id */
/* Flushes, writes a last mark, waits, frees. Pending entries are lost if the disk is full. */
void log_close(struct log *log);

/* ---- reading --------------------------------------------------------------------------------- */

/* The term of @index: of an entry, or of prefix_index. 0 when unknown. */
uint64_t log_term_at(const struct log *log, uint64_t index);
/* The newest RECORD_CHANGE at or before @index that is known. @payload: until the next append, cut or drop. */
bool log_change_at(const struct log *log, uint64_t index, uint64_t *change_index,
                   struct slice *payload);
/* The bytes of the record of entry @index, and where it is on disk (place.file is 0 while it is not submitted).
 * @bytes: until the next call of any log function. From disk it is verified.
 *   ERR_NOT_FOUND  before first or past last    ERR_CORRUPT, ERR_IO  the disk does not give it */
enum err log_entry(struct log *log, uint64_t index, struct place *place, struct slice *bytes);
/* Appends to @out the records first .. last, verbatim: at least one, then as many as fit into @size_max. Errors as
 * log_entry; @out and @count then hold what was read before it. */
enum err log_read(struct log *log, uint64_t first, uint64_t last, uint64_t size_max,
                  struct buf *out, uint32_t *count);
/* The size of the record of entry @index; 0: it cannot be read. */
uint64_t log_entry_size(const struct log *log, uint64_t index);
/* Appends @size of its bytes from @offset on to @out, from memory (@in_memory) or, not verified, from the disk. */
enum err log_piece(struct log *log, uint64_t index, uint64_t offset, uint64_t size, struct buf *out,
                   bool *in_memory);
/* Bytes of a file that are still in memory, else data is NULL. Until the next flush. */
struct slice log_memory(const struct log *log, struct place place, uint64_t size);

/* ---- segments -------------------------------------------------------------------------------- */

/* All but the spare are log->segments[0 .. segments_count), ordered by number. NULL: none. */
struct log_segment *log_segment_find(const struct log *log, uint32_t number);
/* A full segment is now in the manifest; in order of numbers. */
void log_seal(struct log *log, uint32_t number);
/* A sealed segment of which no entry can be looked up leaves the list. Gives its handle. */
disk_file log_forget(struct log *log, uint32_t number);
/* Entries before @first_index (all sealed) cannot be looked up any more; their files stay. */
void log_drop_prefix(struct log *log, uint64_t first_index);

void log_check(const struct log *log);

#endif
