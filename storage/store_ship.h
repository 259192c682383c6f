/* store_ship.h - the base of a replica to and from other replicas: a manifest, and the sealed files that it names.
 *
 * Nothing here waits for the disk in a turn: pieces are read and written in the background (bulk lane). */
#ifndef KV_STORAGE_STORE_SHIP_H
#define KV_STORAGE_STORE_SHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/disk.h"
#include "storage/store.h"

/* ---- sending ------------------------------------------------------------------------------------- */

/* The manifest as bytes, which is all that a peer needs to ask for the base's files. */
void store_ship_manifest(struct store *store, struct buf *out);
/* Somebody who received this file begins it anew, perhaps because what came was wrong: the scrub looks at it next. */
void store_ship_doubt(struct store *store, uint64_t file_id);
/* One piece of a sealed file on its way from the disk. The owner embeds it, all zero, and keeps it until it is
 * done; the file stays as long. Not verified: the receiver verifies the file. */
struct store_piece {
    struct disk_op op;
    uint32_t number; /* of the file; 0: none */
    bool is_done;
    struct buf bytes; /* Kept for the next piece. */
};
/* Begins to read up to @size bytes of the file @file_id from @offset on. ERR_NOT_FOUND: there is no such file, or it
 * ends before. */
enum err store_piece_begin(struct store *store, struct store_piece *piece, uint64_t file_id,
                           uint64_t offset, uint64_t size);
/* What was read, once it is done; borrowed until the next begin. ERR_CORRUPT, ERR_IO. */
enum err store_piece_take(struct store *store, struct store_piece *piece, struct slice *bytes);
/* Waits for what is under way, and frees. */
void store_piece_close(struct store *store, struct store_piece *piece);

/* ---- receiving ----------------------------------------------------------------------------------- */

/* Receiving a base. The old state stays on disk and in memory until finish. One at a time; begin again
 * goes on: files that were received and that the new manifest names too are not wanted again, not even
 * after an abort or a restart; others are dropped.
 *   ERR_CORRUPT ERR_FOREIGN ERR_NEWER: the manifest is refused    ERR_NOSPACE: try later
 *   ERR_INVALID: its base is not above what is applied here       ERR_IO: the disk failed */
enum err store_install_begin(struct store *store, struct slice manifest);
/* Is there room for it? ERR_NOSPACE: no, not even without what an earlier attempt left, which is removed then, unless
 * the manifest names it. ERR_EXISTS: a file has the name of its folder. Other errors as begin. */
enum err store_install_fits(struct store *store, struct slice manifest);
/* Bytes that are here, and of the whole base; zeros while nothing is being received. */
void store_install_progress(const struct store *store, uint64_t *here, uint64_t *all);
/* What is wanted next: a file from @offset on, @size bytes up to its end. False: nothing for now while
 * store_install_busy(), else everything is here. */
bool store_install_want(const struct store *store, uint64_t *file_id, uint64_t *offset,
                        uint64_t *size);
bool store_install_busy(const struct store *store); /* a whole file is being written */
/* The disk lags behind what was taken: do not ask for more now. */
bool store_install_full(const struct store *store);
/* Takes the beginning of what is wanted; only memory.
 *   ERR_INVALID  it is something else: ignored
 *   ERR_CORRUPT  (FOREIGN, NEWER) the file is not what the manifest names; it was dropped and is wanted again */
enum err store_install_chunk(struct store *store, uint64_t file_id, uint64_t offset,
                             struct slice data);
/* Writes what was taken, in the background. Every turn. ERR_NOSPACE, ERR_IO: the file under way was dropped. */
enum err store_install_turn(struct store *store);
enum err store_install_wait(struct store *store); /* the same, until it is written */
/* Makes the received base the state on disk in one step. (Every file was verified as it came.)
 * ERR_AGAIN: pieces are missing, nothing changed. Otherwise nothing is written any more and the caller
 * must close this store and open it again: on OK the base is what it then finds, on ERR_NOSPACE it
 * finds the old state and what was received is lost. */
enum err store_install_finish(struct store *store);
/* Ends receiving; complete files are kept until the next begin, or until this replica seals by itself. */
void store_install_abort(struct store *store);

#endif
