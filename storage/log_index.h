/* log_index.h - which entry is where, which term is whose: the tables of the log in memory.
 *
 * Part of log.c, in a file of its own: functions on struct log that touch no disk. Slots say where
 * in a segment an entry is, runs where a term begins, changes repeat the configurations. */
#ifndef KV_STORAGE_LOG_INDEX_H
#define KV_STORAGE_LOG_INDEX_H

#include "storage/log.h"

struct log_run {
    uint64_t first_index;
    uint64_t term;
};

struct log_change {
    uint64_t index;
    struct buf payload;
};

struct log_image {
    struct buf bytes;       /* GROUP_HEADER_SIZE free bytes, then records */
    uint32_t records;       /* a RECORD_CUT included */
    struct log_slot *slots; /* of the entries; offsets within the image */
    uint32_t slots_count;
    uint32_t slots_capacity;
    uint64_t first_index; /* of slots[0] */
};

/* Room for one more item in an array that doubles: returns the array, at its new address. */
void *log_index_grow(void *items, uint32_t count, uint32_t *capacity, uint64_t item_size);

struct log_image *log_index_image_create(uint64_t first_index);
void log_index_image_destroy(struct log_image *image);
/* Index of the last submitted entry that still counts: pending entries come directly after it. */
static inline uint64_t log_index_submitted(const struct log *log)
{
    return log->cut_index > 0 ? log->cut_index - 1 : log->written_index;
}

/* Term and configuration of the entry last_index + 1, which the log then has. */
void log_index_note(struct log *log, const struct record *record);
void log_index_add_slot(struct log_segment *segment, uint64_t index, uint32_t offset,
                        uint32_t size);
/* Forgets the entries from @index on in slots of segments, runs and changes. */
void log_index_cut(struct log *log, uint64_t index);
/* The segment and slot of a submitted entry. NULL: it has none. */
struct log_segment *log_index_find(const struct log *log, uint64_t index, struct log_slot *slot);
/* A pending entry's bytes; data is NULL when it is not pending. */
struct slice log_index_pending(const struct log *log, uint64_t index);
void log_index_close(struct log *log);
void log_index_check(const struct log *log);

/* Where the record of a submitted entry is, for who reads it in the background: its bytes if they are in memory (until
 * the next call of any log function), else a span of its file in which it and neighbours of it up to @other (behind or
 * before it) lie, of LOG_READ_SIZE or as long as the record itself. ERR_NOT_FOUND as log_entry. ERR_IO: the file was
 * gone when this start looked. */
struct log_located {
    struct place place; /* of the record */
    uint64_t size;
    struct slice memory; /* data NULL: it is not there */
    disk_file handle;
    uint64_t span_offset;
    uint64_t span_size;
};
enum err log_locate(const struct log *log, uint64_t index, uint64_t other,
                    struct log_located *located);

/* ---- for recover.c: fills a log that is not open yet ----------------------------------------- */

void log_init(struct log *log, const struct log_config *config);
/* Lists a file behind the others; takes the handle. */
struct log_segment *log_load_segment(struct log *log, const struct log_file *file, uint64_t size,
                                     disk_file handle, enum log_segment_state state);
/* A record that was read in @segment, the newest. Index and term were checked. */
void log_load_entry(struct log *log, struct log_segment *segment, uint32_t offset,
                    const struct record *record, uint64_t size);
void log_load_cut(struct log *log, uint64_t index);
/* What the next start must find, as of now. */
void log_expect(const struct log *log, struct expected_file files[EXPECTED_FILES]);

#endif
