/* identity.h - who this data directory belongs to: DIR/identity, and DIR/peers for what the others said.
 *
 *   identity   0 u64 magic        8 u32 format version (3)         12 u32 size of all
 *             16 u64 cluster id  24 u64 node id         32 u64 directory id  40 u64 incarnation
 *             48 u32 flags       52 u32 count of first members       56 u64 storage id (version 1: none)
 *             each member {u64 id, sized name, sized address}, then our sized name,
 *             u32 count of starts (1 to 17; version 1 and 2: none), u32 zero, their u64 ids, the newest first,
 *             and u64 XXH3-64 of all before
 *   peers      the same frame, of version 2, with {u64 node id, u64 directory id, u64 incarnation, u64 start id}
 *             each (version 1: without start id)
 *
 * The ids of cluster and nodes come from the token, the names and the peer addresses of the first
 * members, so that they agree without talking. The directory id is random, made with the directory, and so
 * is the start id, made for each start: with the incarnation, which counts starts, they let the others refuse a wiped,
 * restored or cloned directory (raft/peer.h). A start is the next one only when a peer has accepted the one before;
 * else it is announced again under the same numbers. So a copy that everybody refuses stays what it is, however
 * often it is started.
 *
 * The cluster id is what nodes tell each other; the storage id is what the files of the log carry. They are the same
 * but in a cluster that was restored from a backup or recovered by force: its cluster id is new, so that nodes of the
 * old one are strangers, while its files stay what they are. */
#ifndef KV_NODE_IDENTITY_H
#define KV_NODE_IDENTITY_H

#include <stdint.h>

#include "node/config.h"
#include "raft/peer.h"
#include "storage/disk.h"

#define IDENTITY_FILE "identity"
#define IDENTITY_PEERS_FILE "peers"
#define IDENTITY_RESTORING_FILE                                                                    \
    "RESTORING" /* see restore.h: no node starts on a new directory with it */

struct identity_member {
    uint64_t id;
    char name[NAME_SIZE_MAX + 1];
    char address[ADDRESS_SIZE_MAX + 1];
};

struct identity {
    uint64_t cluster_id;
    uint64_t storage_id;
    uint64_t node_id;
    uint64_t directory_id;
    uint64_t incarnation;
    uint64_t start_id;              /* of this start; 0: there was none yet that had one */
    uint64_t past[PEER_STARTS_MAX]; /* of the starts before it, the newest first */
    uint32_t past_count;
    char name[NAME_SIZE_MAX + 1];
    struct identity_member
        members[PEERS_MAX + 1]; /* the first members, ourselves included, sorted by name */
    uint32_t member_count;
    bool is_new;   /* made by this start */
    bool is_begun; /* the shard's folder held a log: without one this node has lost its promises */
    bool
        is_outdated; /* a peer remembers more of this node than this directory does: it elects nobody */
    bool is_accepted; /* a peer knows this start, so that the next one is another */
    bool
        is_unfinished; /* a recovery by force was interrupted: it has to be run again before anything else */
};

/* Fills @identity for the member config->name of a cluster that begins with the members of @config. @origin: 0, or
 * what makes the ids other than those of an earlier cluster of the same token, names and addresses.
 * ERR_INVALID: our name is not among the members; @message (512 bytes): one line. */
enum err identity_make(const struct config *config, uint64_t origin, uint64_t random,
                       struct identity *identity, char *message);
/* Reads the whole file @bytes. ERR_CORRUPT, ERR_NEWER. The incarnation is that of the last start. */
enum err identity_decode(struct slice bytes, struct identity *identity);
/* Row @at of the file `peers`: ERR_NOT_FOUND past the end; ERR_CORRUPT, ERR_NEWER. */
enum err identity_decode_peer(struct slice bytes, uint32_t at, struct peer_identity *peer);
/* Reads DIR/identity and changes nothing. ERR_NOT_FOUND; @message (512 bytes) for all other errors. */
enum err identity_read(struct disk *disk, struct identity *identity, char *message);

/* Reads DIR/identity, or makes it from @config in an empty directory; incarnation and start id are this start's.
 * Those of an old directory are not on the disk yet: identity_save() once the rest of the directory was read and
 * found sound, and before any peer hears of it.
 *   ERR_INVALID  the configuration does not fit (our name is not in `cluster`)
 *   ERR_FOREIGN ERR_NEWER ERR_CORRUPT and errors of the disk; @message (512 bytes): one line. */
enum err identity_open(const struct config *config, struct disk *disk, uint64_t random,
                       struct identity *identity, char *message);
/* The next start: another incarnation and start id, which nobody has accepted. Not saved. */
void identity_renew(struct identity *identity, uint64_t random);
/* Writes it; durable when it returns. Errors of the disk. */
enum err identity_save(struct disk *disk, const struct identity *identity);
/* Notes, durably, that the log exists from now on. */
enum err identity_begin(struct disk *disk, struct identity *identity);
/* What is known of the others: fills directory_id, incarnation and start_id of @peers. A missing file is fine. */
enum err identity_load_peers(struct disk *disk, struct peers *peers, char *message);
/* Writes it; durable when it returns. Errors of the disk. */
enum err identity_save_peers(struct disk *disk, const struct peers *peers);

#endif
