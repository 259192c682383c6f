/* manifest.h - the base of a replica: which sealed files hold the state up to which Raft index.
 *
 * The file `<folder>/MANIFEST` is the Raft snapshot of a replica, and its bytes are what a peer needs to
 * ask for the snapshot's files. It is only ever replaced as a whole (DISK_REPLACE), so a crash leaves
 * the old one or the new one. No previous copy is kept: one would help only against rot, and an older
 * base beside files that were meanwhile sealed, installed or removed is a guess. A damaged manifest
 * is refused and the replica is restored from its peers. Layout (little-endian):
 *
 *    0  u64 magic                    8  u32 format version (2)      12  u32 size of everything
 *   16  u64 cluster id              24  u16 shard, u16 zero         28  u32 count of files
 *   32  u64 manifest number         40  u64 base index              48  u64 base term
 *   56  u64 highest stamp           64  u64 change index            72  u32 change size, u32 zero
 *   80  u64 state hash: keydir_hash() of the keys at the base index
 *   88  files, 72 bytes each:  0 u32 number, u32 kind (1 segment, 2 table)   8 u64 file id   16 u64 first index
 *         24 u64 last index   32 u64 used bytes   40 u128 chain before its first group
 *         56 u128 chain of its last group
 *       change payload, zeros up to a multiple of 8
 *       u64 checksum: XXH3-64 over everything before it
 *
 * Files stand in the order of the entries that they hold or stand for; those ranges do not overlap, but there
 * may be gaps: entries of which nothing was left to keep. Segments have growing numbers; the last file
 * is one. Version 1 had no state hash (its files began at 80) and no tables (the kind was zero). */
#ifndef KV_STORAGE_MANIFEST_H
#define KV_STORAGE_MANIFEST_H

#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/log.h"

#define MANIFEST_NAME "MANIFEST"
#define MANIFEST_VERSION 2u
#define MANIFEST_HEADER_SIZE 88u
#define MANIFEST_FILE_SIZE 72u
#define MANIFEST_SIZE_MAX (16u * 1024u * 1024u) /* over 200 000 files; fits in a peer frame */

struct manifest {
    uint64_t cluster_id;
    uint16_t shard;
    uint64_t number; /* Grows by one with every manifest of this replica. */
    uint64_t base_index;
    uint64_t base_term;
    uint64_t stamp_ms; /* Highest of all entries up to the base. */
    uint64_t change_index;
    bool has_state_hash;    /* False: it was read from version 1. */
    uint64_t state_hash;    /* Of the keys at the base index. */
    struct buf change;      /* Configuration as committed at the base index. */
    struct log_file *files; /* Their numbers are local: another node has others. */
    uint32_t file_count;
    uint32_t file_capacity;
};

/* All zero is a valid empty manifest. */
void manifest_close(struct manifest *manifest);
void manifest_copy(struct manifest *to,
                   const struct manifest *from); /* @to is empty or closed first */
void manifest_add(struct manifest *manifest, const struct log_file *file);
/* Sum of the used sizes. */
uint64_t manifest_files_size(const struct manifest *manifest);
/* NULL: none has this id. */
const struct log_file *manifest_find(const struct manifest *manifest, uint64_t file_id);

/* No two files have the same number, or id. */
bool manifest_unique(const struct manifest *manifest, bool of_ids);
/* Takes the @count files from position @begin on out; @table, unless NULL, comes in their place. */
void manifest_replace(struct manifest *manifest, uint32_t begin, uint32_t count,
                      const struct log_file *table);
/* The newest segment: the last file. */
static inline const struct log_file *manifest_last(const struct manifest *manifest)
{
    return manifest->file_count > 0 ? &manifest->files[manifest->file_count - 1] : NULL;
}

/* Appends the whole manifest to @out, in the newest version. */
void manifest_encode(const struct manifest *manifest, struct buf *out);
/* Verifies and reads @bytes, which must be a manifest and nothing more, into the empty @manifest.
 *   ERR_CORRUPT  damaged, or its numbers contradict each other
 *   ERR_NEWER    a format that this program does not know
 * On an error @manifest stays empty and @wrong names what is wrong. */
enum err manifest_decode(struct slice bytes, struct manifest *manifest, const char **wrong);

#endif
