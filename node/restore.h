/* restore.h - a data directory for a node of a new cluster, from a backup (storage/backup.h).
 *
 * The files of the backup become the base of the new node as they are: they are received as from another replica, each
 * verified as a whole. Then one entry is appended: the members of the new cluster, in a term that no old leader
 * had. Every node of the new cluster restores the same backup with the same members and so has the very same log;
 * its cluster id follows from the backup and the members. The revisions go on behind those of the backup.
 *
 * While it works there is DIR/RESTORING; such a directory is refused by a node, and emptied by the next restore. The
 * last step is the file `identity`. */
#ifndef KV_NODE_RESTORE_H
#define KV_NODE_RESTORE_H

#include <stdint.h>

#include "node/config.h"
#include "node/identity.h"
#include "storage/backup.h"
#include "storage/store.h"
#include "storage/store_ship.h"

#define RESTORE_MESSAGE_SIZE 512u

struct restore {
    struct disk *disk;
    struct backup *backup;
    struct manifest manifest;
    struct identity identity;
    struct store *store;
    struct store_config store_config;
    uint64_t done_size; /* bytes of files that are in place */
    uint64_t file_size; /* of all */
    struct buf piece;
};

/* @disk: the new directory, empty or left by a restore that was interrupted. @backup is loaded. @config: name,
 * cluster_token, members or advertise_peer, segment_size. All are borrowed until restore_close(). @random: any number
 * that no other directory has.
 *   ERR_EXISTS   the directory holds a node already
 *   ERR_INVALID  the members do not fit, or the backup is of another shard
 *   ERR_NOSPACE  there is not enough room; nothing is left but RESTORING
 *   ERR_CORRUPT ERR_NEWER ERR_IO and other errors of the disk
 * @message (RESTORE_MESSAGE_SIZE) is one line after every error. */
enum err restore_begin(struct restore *restore, struct disk *disk, struct backup *backup,
                       const struct config *config, uint64_t random, char *message);
/* Moves one piece. ERR_NOT_FOUND: everything is here. */
enum err restore_step(struct restore *restore, char *message);
/* The base becomes the state, the new members are appended, the identity is written. */
enum err restore_finish(struct restore *restore, char *message);
/* After any of them. What is unfinished stays for the next restore to empty. */
void restore_close(struct restore *restore);

/* One entry that makes @members the configuration: index and term are those of the next entry and a new term, which is
 * saved as @store's first. Durable when it returns OK. Also for a recovery by force (node/rescue.h).
 *   ERR_NOSPACE ERR_INVALID (the members are no configuration) */
enum err restore_members(struct store *store, const struct identity_member *members,
                         uint32_t count);

#endif
