/* snapshot.h - receiving the base of another replica: its manifest, then its sealed files.
 *
 * The files gather in `<folder>/incoming/`, named by their file id, and do not disturb what is there.
 * Each one is verified while it arrives, synced, and then gets its hint (arrival.h). Then one replaced
 * MANIFEST makes them the replica's state: that is the step at which old becomes new. Everything behind
 * it (moving the files to their final names, removing the old ones) is tidying, which snapshot_settle()
 * and snapshot_clean() do at the next start; they may be interrupted at any point.
 *
 *   begin, (want, chunk) ..., commit
 *
 * Sealed files never change, and a hint in incoming/ tells that its file is complete. So what was received
 * is good for every later manifest that names the same files: after an abort, a restart, or when the
 * sender has sealed more in the meantime. It is removed when another manifest comes that does not
 * name it, or by snapshot_forget(). */
#ifndef KV_STORAGE_SNAPSHOT_H
#define KV_STORAGE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/arrival.h"
#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/disk.h"
#include "storage/manifest.h"

struct snapshot {
    struct disk *disk;  /* keeps */
    const char *folder; /* of the replica; keeps */
    uint64_t cluster_id;
    uint16_t shard;
    bool active;
    bool has_leftovers;       /* incoming/ may hold files although nothing is being received */
    struct manifest manifest; /* As sent: the numbers of its files are the sender's. */
    uint64_t *received;       /* Bytes of each file; used + 1 when it is complete and verified. */
    uint32_t next;            /* No file before this one is wanted. */
    struct arrival arrival;   /* files[next] while it is being received. */
};

void snapshot_init(struct snapshot *snapshot, struct disk *disk, const char *folder,
                   uint64_t cluster_id, uint16_t shard);
void snapshot_close(struct snapshot *snapshot); /* leaves the disk as it is */

/* Begins to receive what @manifest names, or goes on with it.
 *   ERR_INVALID                        its base is not above @above_index; nothing changed
 *   ERR_CORRUPT ERR_FOREIGN ERR_NEWER  the manifest is refused; nothing changed
 *   ERR_NOSPACE                        what is missing would not fit on the disk; nothing changed
 *   ERR_IO and others                  the folder could not be made */
enum err snapshot_begin(struct snapshot *snapshot, struct slice manifest, uint64_t above_index);
/* Would snapshot_begin() find room for what is missing of @manifest? ERR_NOSPACE: not even when what else was received
 * is removed. ERR_EXISTS: a file is where its folder ought to be. Errors as there; makes the folder. */
enum err snapshot_fits(struct snapshot *snapshot, struct slice manifest);
/* Bytes of the files that are here, and of all of them; zeros while nothing is being received. */
void snapshot_progress(const struct snapshot *snapshot, uint64_t *here, uint64_t *all);
/* What is wanted next: a file from @offset on, @size bytes up to its end. False: nothing for now while
 * snapshot_busy(); else everything is here, or nothing was begun. */
bool snapshot_want(const struct snapshot *snapshot, uint64_t *file_id, uint64_t *offset,
                   uint64_t *size);
/* The last byte of a file was taken, and the disk is not through with it. */
bool snapshot_busy(const struct snapshot *snapshot);
/* The disk has not kept up: what snapshot_want() names should not be asked for yet. */
bool snapshot_full(const struct snapshot *snapshot);
bool snapshot_complete(const struct snapshot *snapshot); /* begun, and every file is here */
/* Takes the beginning of what snapshot_want() named, up to all of it. Only memory: snapshot_turn() writes.
 *   ERR_INVALID  another piece: ignored
 *   ERR_CORRUPT  and ERR_FOREIGN, ERR_NEWER: the file is not what the manifest names; it was dropped and
 *                is wanted again from its start */
enum err snapshot_chunk(struct snapshot *snapshot, uint64_t file_id, uint64_t offset,
                        struct slice data);
/* Lets the disk go on with what was taken. ERR_NOSPACE, ERR_IO: the file under way was dropped and is wanted again from
 * its start. Call it every turn. */
enum err snapshot_turn(struct snapshot *snapshot);
/* The same, waiting until everything taken so far is written. */
enum err snapshot_wait(struct snapshot *snapshot);
/* Ends receiving. Complete files are kept for a later begin. */
void snapshot_abort(struct snapshot *snapshot);
/* Removes what is kept, unless something is being received: the replica does without a base. */
void snapshot_forget(struct snapshot *snapshot);
/* Makes what was received the state: @number is the manifest's, file i gets @numbers[i] (growing, above
 * all numbers in use). Everything must be here. */
enum err snapshot_commit(struct snapshot *snapshot, uint64_t number, const uint32_t *numbers);

/* At a start, @manifest is the one on the disk: gives received files their final names. */
enum err snapshot_settle(struct snapshot *snapshot, const struct manifest *manifest);
/* At the end of a successful start: removes segments and hints of ours that the manifest has made obsolete,
 * and files in the making that a crash left (if the disk lists them). Other names are left alone.
 * Nothing may be under way. */
void snapshot_clean(struct snapshot *snapshot, const struct manifest *manifest);

#endif
