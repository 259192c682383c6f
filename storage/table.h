/* table.h - what compaction leaves of older files: their live effects, packed, each with its revision.
 *
 * A table is `<folder>/<number, 8 digits>.tab` and has the form of a segment (segment.h): the same first
 * block, in version 2 with kind 2, then chained groups of records, so that everything that reads,
 * verifies or ships segments does so with tables. Its records have type RECORD_TABLE, the index of
 * the last entry that the table stands for, and this payload (little-endian):
 *
 *    0  u32 count of items     4  u32 zero
 *    8  items:  0  u64 revision of the effect   8  the effect (effect.h), padded with zeros to 8
 *
 * Items stand in the order in which they must be applied; their revisions belong to entries of the
 * table's range. A put may carry the revision and the expiry of a later change of the expiry.
 * The link of the first group is the XXH3-128 of (cluster id, shard, file id), each as u64. */
#ifndef KV_STORAGE_TABLE_H
#define KV_STORAGE_TABLE_H

#include "storage/effect.h"
#include "storage/hint.h"
#include "storage/log.h"

#define TABLE_GROUP_SIZE                                                                           \
    (1u * MIB) /* Items are added to a group up to here; a larger one stands alone. */
#define TABLE_ITEM_HEADER_SIZE 8u

/* Writes `<folder>/<number>.tab` into @name. */
void table_name(char name[SEGMENT_NAME_SIZE], const char *folder, uint32_t number);
/* The number in the file name @name (without folder); 0 when it is not a table's. */
uint32_t table_number(const char *name);
/* The name of @file, segment or table. */
void table_file_name(char name[SEGMENT_NAME_SIZE], const char *folder, const struct log_file *file);

/* ---- writing ------------------------------------------------------------------------------------- */

/* A table in the making. */
struct table {
    uint64_t cluster_id;
    uint64_t node_id;
    uint16_t shard;
    struct log_file file; /* used and chain grow with every group */
    struct buf image;     /* the group that gathers */
    uint32_t item_count;  /* in it */
    struct hint hint;
};

/* @file: number, file_id, first_index and last_index count. */
void table_init(struct table *table, uint64_t cluster_id, uint64_t node_id, uint16_t shard,
                const struct log_file *file);
void table_close(struct table *table);
/* Fills the SEGMENT_BLOCK_SIZE bytes at @block: the first block of a table of about @size bytes. */
void table_header(const struct table *table, uint64_t size, uint8_t *block);
/* Is there room for another effect of @size bytes in the group? */
bool table_has_room(const struct table *table, uint64_t size);
/* Adds one whole effect, whose checksum was verified. There is room: CHECK. */
void table_add(struct table *table, uint64_t revision, const struct effect *effect,
               struct slice bytes);
/* Completes the group: its bytes, to be written at @offset, stay valid until table_next(). Not empty: CHECK. */
struct slice table_seal(struct table *table, uint64_t *offset);
/* The group is written: begins the next one. */
void table_next(struct table *table);

/* ---- reading ------------------------------------------------------------------------------------- */

struct table_item {
    uint64_t revision;
    struct effect effect; /* borrows from the payload */
    uint32_t offset;      /* of the effect, from the start of the payload */
};

/* Goes through the items of a table's record, trusted: the record's checksum vouched for it. */
struct table_walk {
    struct slice payload;
    uint64_t position;
    uint32_t count; /* left */
};
void table_walk_open(struct table_walk *walk, struct slice payload);
/* ERR_NOT_FOUND: that was all. ERR_CORRUPT, ERR_NEWER: no program of ours wrote this. */
enum err table_walk_next(struct table_walk *walk, struct table_item *item);

#endif
