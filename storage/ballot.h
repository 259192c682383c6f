/* ballot.h - the promise a replica must never forget: its term and its vote.
 *
 * File `<folder>/vote`: two copies, 4 KiB each, made with the first save. A save writes copy 0,
 * syncs, writes copy 1, syncs, and only then anybody acts on it. So one bad copy is harmless: the
 * good one is what was acted on last, or a newer one that nobody saw. Two bad copies are not: the
 * replica could vote twice, so it must not start. Layout of a copy (little-endian):
 *
 *    0  u64 magic      8  u32 format version   12  u32 zero
 *   16  u64 version   24  u64 term             32  u64 voted for
 *   40  u64 cluster id   48  u64 node id       56  u64 checksum: XXH3-64 over bytes 0 .. 56 */
#ifndef KV_STORAGE_BALLOT_H
#define KV_STORAGE_BALLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/disk.h"

#define BALLOT_COPY_SIZE 4096u
#define BALLOT_COPIES 2u
#define BALLOT_FILE_SIZE (BALLOT_COPIES * BALLOT_COPY_SIZE)
#define BALLOT_NAME_SIZE 160u

struct ballot {
    uint64_t
        version; /* Grows by one per save, from 1. The larger valid copy wins. 0: never saved. */
    uint64_t term;
    uint64_t voted_for; /* Replica id, or 0 when no vote was cast in this term. */
};

/* Fills the BALLOT_COPY_SIZE bytes at @copy. */
void ballot_encode(const struct ballot *ballot, uint64_t cluster_id, uint64_t node_id,
                   uint8_t *copy);
/* Picks the newest valid copy. @repair: the copy that is bad or older and must be written again
 * before anything else happens; BALLOT_COPIES: none.
 *   ERR_CORRUPT  no valid copy, or two of one version that differ
 *   ERR_FOREIGN  of another cluster or node    ERR_NEWER  a format this program does not know */
enum err ballot_pick(struct slice file, uint64_t cluster_id, uint64_t node_id,
                     struct ballot *ballot, uint32_t *repair);

struct ballot_file {
    struct ballot ballot; /* As last saved. */
    struct disk *disk;
    disk_file file; /* -1 until the first save. */
    char name[BALLOT_NAME_SIZE];
    uint64_t cluster_id;
    uint64_t node_id;
};

/* Reads the vote of @folder, repairs a lagging copy. An absent file is a replica that never voted.
 * ERR_CORRUPT, ERR_FOREIGN, ERR_NEWER, ERR_IO: @message (an empty buf) says what to do; nothing is
 * kept. */
enum err ballot_open(struct ballot_file *file, struct disk *disk, const char *folder,
                     uint64_t cluster_id, uint64_t node_id, struct buf *message);
/* Call when the log is open: a vote older than the log (@last_term, 0 when there are no entries)
 * was lost or replaced. ERR_CORRUPT and @message then; close the file yourself. */
enum err ballot_against_log(const struct ballot_file *file, uint64_t last_term,
                            struct buf *message);
/* Both copies are synced when it returns OK; on any error the caller ends the process. */
enum err ballot_save(struct ballot_file *file, uint64_t term, uint64_t voted_for);
void ballot_close(struct ballot_file *file);

#endif
