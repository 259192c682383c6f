/* segment.h - one file of groups: its name, its header, the groups of records in it, and a scan.
 *
 * A segment is `<folder>/<number, 8 digits>.log`, made ahead with its full size preallocated, never
 * zeroed and never used again. Layout (little-endian):
 *
 *   block 0, written when the file is made, never again
 *      0  u64 magic            8  u32 format version    12  u32 number
 *     16  u64 cluster id      24  u64 node id (of the writer)
 *     32  u64 file id         40  u64 size of the file  48  u16 shard, zeros to 56
 *     50  u16 kind: only in version 2, which tables have (table.h); a segment has version 1
 *     56  u64 checksum: XXH3-64 over bytes 0 .. 56      zeros to 4096
 *
 *   then groups, each from a block boundary on
 *      0  u32 magic            4  u32 used size: header, records and footer, without padding
 *      8  u32 count of records 12  u32 offset of the group in the file
 *     16  u64 first index     24  u64 last index: of the log when this group has been read
 *     32  u64 durable index: what was known to be durable when the group was written
 *     40  u32 low half of the file id    44  u32 zero
 *     48  u64 link: low half of the chain of the group before, in this file or an older one
 *     56  u64 checksum: XXH3-64 over bytes 0 .. 56
 *     64  records (record.h), one behind the other
 *     ..  u64 chain low, u64 chain high: XXH3-128 over header and records; u64 magic
 *         zeros to the next block boundary
 *
 * A group is written by one write with one sync, and only after the sync of the group before
 * returned. So a valid group header proves that every group before it was durable. A group without
 * records is a durable mark: it says this about the group before when nothing else follows. The
 * first group of a file links to the last group of the file before: the file's own header is too
 * old to know it. */
#ifndef KV_STORAGE_SEGMENT_H
#define KV_STORAGE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/disk.h"
#include "storage/record.h"

#define SEGMENT_VERSION 1u
#define SEGMENT_VERSION_TABLE 2u
#define SEGMENT_NAME_SIZE 160u
#define GROUP_HEADER_SIZE 64u
#define GROUP_FOOTER_SIZE 24u
#define SECTOR_SIZE 512u /* What a disk writes wholly or not at all. */

struct segment_header {
    uint32_t number;
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t file_id;
    uint64_t size;
    uint16_t shard;
    bool is_table;
};

struct segment_group {
    uint32_t used;
    uint32_t count;
    uint32_t offset;
    uint64_t first_index;
    uint64_t last_index;
    uint64_t durable_index;
    uint64_t link;
};

/* Writes `<folder>/<number>.log` into @name. */
void segment_name(char name[SEGMENT_NAME_SIZE], const char *folder, uint32_t number);
/* The number in the file name @name (without folder); 0 when it is not a segment's. */
uint32_t segment_number(const char *name);

/* Fills the SEGMENT_BLOCK_SIZE bytes at @block. */
void segment_header_encode(const struct segment_header *header, uint8_t *block);
/* ERR_CORRUPT: not a segment or damaged. ERR_NEWER: a format this program does not know. */
enum err segment_header_decode(struct slice block, struct segment_header *header);

/* Bytes that a group with @records_size bytes of records takes in the file. */
static inline uint64_t segment_group_size(uint64_t records_size)
{
    return align_up(GROUP_HEADER_SIZE + records_size + GROUP_FOOTER_SIZE, SEGMENT_BLOCK_SIZE);
}
/* Completes a group in @image, which holds GROUP_HEADER_SIZE free bytes and the records: writes
 * header, footer and padding, sets group->used. Returns its chain. */
struct hash128 segment_group_seal(struct buf *image, struct segment_group *group, uint64_t file_id);
/* Reads a group's header at the start of @bytes. ERR_CORRUPT unless it is one, was written to this
 * file at @offset, and is intact; the records are not looked at, but the group fits
 * in @file_size. */
enum err segment_group_decode(struct slice bytes, uint64_t file_id, uint64_t file_size,
                              uint64_t offset, struct segment_group *group);
/* Does a group begin here whose header rotted? Its magic, offset and file id are there but for some bits: chance
 * does not do that. ERR_CORRUPT from segment_group_decode() is the caller's to know. */
bool segment_group_resembles(struct slice bytes, uint64_t file_id, uint64_t offset);
/* Verifies footer and chain of a whole group at the start of @bytes. ERR_CORRUPT: damaged. */
enum err segment_group_verify(struct slice bytes, const struct segment_group *group,
                              struct hash128 *chain);

bool segment_is_zero(const uint8_t *at, uint64_t size);
/* Is a sector all zeros, as one that never reached the disk? @size: of whole sectors. */
bool segment_has_zero_sector(const uint8_t *at, uint64_t size);

/* Reads all records of a file in order, verifying header, groups, links and records. Memory: one
 * group. */
struct segment_scan {
    struct disk *disk;
    disk_file file;
    uint64_t file_id;
    uint64_t file_size;
    uint64_t end;         /* Groups from here on are not read. */
    uint64_t offset;      /* Of the group that comes next. */
    struct hash128 chain; /* Of the last group read. */
    struct segment_group group;
    struct buf bytes;  /* The group that is being read. */
    uint64_t position; /* Of the next record in it. */
    uint64_t records_left;
};
/* @end: used bytes. @chain: of the group before the first one. Borrows until segment_scan_close. */
void segment_scan_open(struct segment_scan *scan, struct disk *disk, disk_file file,
                       uint64_t file_id, uint64_t file_size, uint64_t end, struct hash128 chain);
/* The next record, RECORD_CUT included. @bytes: the whole of it, borrowed until the next call.
 * @offset: its place in the file. ERR_NOT_FOUND: end reached; scan->chain is the chain's end.
 * ERR_CORRUPT, ERR_NEWER, ERR_IO: scan->offset names the group. */
enum err segment_scan_next(struct segment_scan *scan, struct record *record, struct slice *bytes,
                           uint32_t *offset);
void segment_scan_close(struct segment_scan *scan);

#endif
