/* saver.h - the backups that clients are fetching from this node: KV.BACKUP.
 *
 * A backup is the base of this node, once that reaches an index: the manifest, and the sealed files that it names. They
 * never change, so they are read in pieces through the bulk lane of the disk while everything goes on; while the client
 * fetches them they are kept. One that nobody asked anything of for SAVER_IDLE_MS ends by itself. */
#ifndef KV_NODE_SAVER_H
#define KV_NODE_SAVER_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "storage/manifest.h"
#include "storage/store.h"
#include "storage/store_ship.h"

#define SAVER_BACKUPS_MAX 4u
#define SAVER_IDLE_MS 60000u
#define SAVER_SEAL_MS 20000u /* until the base must reach the wanted index */
#define SAVER_READ_SIZE_MAX (1u * MIB)

enum saver_state {
    SAVER_FREE,
    SAVER_SEALING, /* The base does not reach the index yet. */
    SAVER_OPEN,
};

struct saver_backup {
    enum saver_state state;
    uint64_t id;
    uint64_t owner; /* The session that began it and waits, */
    uint64_t index; /* for the base to reach this. */
    uint64_t begun_ms;
    uint64_t used_ms;
    struct buf bytes; /* Of the manifest. */
    struct manifest manifest;
    uint64_t pin;             /* Of the store: it keeps the files. */
    struct store_piece piece; /* Being read, or read and not fetched: its number is not 0. */
    uint64_t file_id;         /* Of it. */
    uint64_t offset;
    uint64_t size;
    uint64_t read_ms; /* Since when nobody fetched it; 0: it is not there yet. */
};

struct saver {
    struct saver_backup backups[SAVER_BACKUPS_MAX];
    uint64_t next_id;
    uint64_t begun_count; /* Figures. */
    uint64_t read_size;
};

/* @seed: where the ids of backups begin: those of an earlier process are unknown. */
void saver_init(struct saver *saver, uint64_t seed);
/* Waits for what is under way. */
void saver_close(struct saver *saver, struct store *store);

/* Session @owner wants the base of @store once it reaches @index. ERR_AGAIN: call it again, the same, next turn.
 *   ERR_FULL     too many backups are being fetched
 *   ERR_INVALID  this node has no such entry and does not get it, or cannot seal (a full disk) */
enum err saver_begin(struct saver *saver, struct store *store, uint64_t owner, uint64_t index,
                     uint64_t now_ms, const struct saver_backup **backup);
/* A piece of a file. ERR_AGAIN: call again next turn, with the same arguments. @data is valid until the next call.
 *   ERR_NOT_FOUND  no such backup (any more), or no such file in it, or nothing of it at @offset
 *   ERR_IO ERR_CORRUPT  the disk does not give it */
enum err saver_read(struct saver *saver, struct store *store, uint64_t id, uint64_t file_id,
                    uint64_t offset, uint64_t size, uint64_t now_ms, struct slice *data);
/* ERR_NOT_FOUND: it has ended already. */
enum err saver_end(struct saver *saver, struct store *store, uint64_t id);
bool saver_active(const struct saver *saver); /* saver_tick() has something to look at */
/* Ends what nobody uses any more. Every now and then. */
void saver_tick(struct saver *saver, struct store *store, uint64_t now_ms);

#endif
