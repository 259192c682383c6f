/* backup.h - a backup in one file: the base of a replica, manifest and sealed files, in checksummed pieces.
 *
 *   header, 64 bytes
 *      0  u64 magic "KVBACKUP"   8  u32 format version (1)   12  u32 zero
 *     16  u64 backup id         24  u64 storage id          32  u64 cluster id
 *     40  u64 node id: whose files these are                 48  u64 when it was made, ms since the epoch
 *     56  u64 checksum: XXH3-64 of bytes 0 .. 56
 *   pieces, one behind the other
 *      0  u32 magic "KVBP"       4  u32 size of the data, 1 .. 1 MiB
 *      8  u64 file id, of the manifest 0                     16  u64 offset in that file
 *     24  u64 checksum: XXH3-64 of the data, seeded with XXH3-64 of bytes 0 .. 24
 *     32  data, zeros up to a multiple of 8
 *   trailer, 64 bytes
 *      0  u64 magic "KVBKPEND"   8  u64 count of pieces      16  u64 bytes of data in them
 *     24  u64 base index        32  u64 highest stamp        40  u64 size of this file
 *     48  u64 chain: starts as the header's checksum; with each piece it becomes the XXH3-64 of the piece's
 *         first 32 bytes, seeded with itself
 *     56  u64 checksum: XXH3-64 of bytes 0 .. 56
 *
 * The pieces of a file stand together, in order, from its beginning. A file that was begun again counts as it was
 * written last; files that the manifest does not name are left over from a save that was interrupted and had to begin
 * anew. The manifest comes last. So a file is whole only if its trailer is there, and every byte of it is covered.
 *
 * One struct serves writing and reading: it knows where each piece lies, so that what was written can be verified
 * before the next file is fetched. All reading goes through struct disk. */
#ifndef KV_STORAGE_BACKUP_H
#define KV_STORAGE_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/disk.h"
#include "storage/manifest.h"

#define BACKUP_VERSION 1u
#define BACKUP_HEADER_SIZE 64u
#define BACKUP_PIECE_HEADER_SIZE 32u
#define BACKUP_PIECE_SIZE_MAX (1024u * 1024u)
#define BACKUP_TRAILER_SIZE 64u
#define BACKUP_MANIFEST 0u /* the file id under which the manifest is kept */

struct backup_header {
    uint64_t backup_id;
    uint64_t storage_id;
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t made_ms;
};

struct backup_piece {
    uint64_t place;  /* of its data in the backup */
    uint64_t offset; /* in its file */
    uint64_t checksum;
    uint32_t size;
};

struct backup_file {
    uint64_t file_id;
    uint64_t size; /* as far as it is here */
    uint32_t piece_first;
    uint32_t piece_count;
};

struct backup {
    struct disk view;  /* The files in it: only read and size, by handle: see backup_handle(). */
    struct disk *disk; /* keeps */
    disk_file file;    /* of the backup; the caller's */
    struct backup_header header;
    uint64_t base_index; /* of the trailer */
    uint64_t stamp_ms;
    uint64_t size; /* of the backup so far */
    uint64_t chain;
    uint64_t data_size;
    struct backup_piece *pieces;
    uint32_t piece_count;
    uint32_t piece_capacity;
    struct backup_file *files; /* One of an id may come again: the last one counts. */
    uint32_t file_count;
    uint32_t file_capacity;
    struct buf cache; /* The data of piece @cached, verified. */
    uint32_t cached;  /* UINT32_MAX: none */
};

/* @file is open for reading (and for writing by the caller, who writes what the functions below append). */
void backup_init(struct backup *backup, struct disk *disk, disk_file file);
void backup_close(struct backup *backup);

/* ---- writing: each appends to @out the bytes that come next in the file ------------------------------ */

void backup_put_header(struct backup *backup, const struct backup_header *header, struct buf *out);
/* @data has 1 .. BACKUP_PIECE_SIZE_MAX bytes. @offset is 0, or where the piece before of the same file ended. */
void backup_put_piece(struct backup *backup, uint64_t file_id, uint64_t offset, struct slice data,
                      struct buf *out);
/* The manifest in its pieces, and the trailer. */
void backup_put_end(struct backup *backup, const struct manifest *manifest, struct buf *out);

/* ---- reading ------------------------------------------------------------------------------------------ */

/* Reads header, trailer and the header of each piece of a file of @size bytes. @wrong says what is wrong, @at where.
 *   ERR_CORRUPT ERR_NEWER ERR_IO */
enum err backup_load(struct backup *backup, uint64_t size, const char **wrong, uint64_t *at);
/* What is here of a file: 0 when nothing is. */
uint64_t backup_file_size(const struct backup *backup, uint64_t file_id);
/* Its handle in backup->view; -1 when nothing is here. */
disk_file backup_handle(const struct backup *backup, uint64_t file_id);
/* Reads and verifies. ERR_CORRUPT: it ends before, or a piece is damaged: @at says where in the backup. */
enum err backup_read(struct backup *backup, disk_file handle, uint64_t offset, void *data,
                     uint64_t size, uint64_t *at);
/* The manifest of a whole backup, into the empty @manifest. As backup_load(). */
enum err backup_manifest(struct backup *backup, struct manifest *manifest, const char **wrong,
                         uint64_t *at);
/* Verifies one file that @manifest names, as a receiver of the base would: header, chain, entries, effects. */
enum err backup_verify_file(struct backup *backup, const struct manifest *manifest, uint32_t at,
                            const char **wrong, uint64_t *offset);

struct backup_facts {
    uint64_t index;
    uint64_t revision; /* Every key's is at most this; every later one is greater. */
    uint64_t stamp_ms;
    uint64_t keys;
    uint64_t files_size;
    uint32_t files;
};
/* Verifies everything in a loaded backup, the keys that follow from it included. @file: which one is damaged, 0: the
 * backup itself or its manifest; @offset in it. */
enum err backup_verify(struct backup *backup, struct backup_facts *facts, const char **wrong,
                       uint64_t *file, uint64_t *offset);

#endif
