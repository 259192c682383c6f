/* identity.h - who this data directory belongs to: DIR/identity, and DIR/peers for what the others said.
 *
 *   identity   0 u64 magic        8 u32 format version  12 u32 size of all
 *             16 u64 cluster id  24 u64 node id         32 u64 directory id  40 u64 incarnation
 *             48 u32 1 when the log was begun           52 u32 count of first members,
 *             each {u64 id, sized name, sized address}, then our sized name,
 *             and u64 XXH3-64 of all before
 *   peers      the same frame with {u64 node id, u64 directory id, u64 incarnation}
 *
 * The ids of cluster and nodes come from the token, the names and the peer addresses of the first
 * members, so that they agree without talking. The directory id is random, made with the directory;
 * together with the incarnation, which grows with every start, it lets the others refuse a wiped,
 * restored or cloned directory (raft/peer.h). */
#ifndef KV_NODE_IDENTITY_H
#define KV_NODE_IDENTITY_H

#include <stdint.h>

#include "node/config.h"
#include "raft/peer.h"
#include "storage/disk.h"

struct identity_member {
    uint64_t id;
    char name[NAME_SIZE_MAX + 1];
    char address[ADDRESS_SIZE_MAX + 1];
};

struct identity {
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t directory_id;
    uint64_t incarnation;
    char name[NAME_SIZE_MAX + 1];
    struct identity_member
        members[PEERS_MAX + 1]; /* the first members, ourselves included, sorted by name */
    uint32_t member_count;
    bool is_new;   /* made by this start */
    bool is_begun; /* the shard's folder held a log: without one this node has lost its promises */
};

/* Reads DIR/identity, or makes it from @config in an empty directory; the incarnation is this start's. That of an old
 * directory is not on the disk yet: identity_save() once the rest of the directory was read and found sound, and before
 * any peer hears of it.
 *   ERR_INVALID  the configuration does not fit (our name is not in `cluster`)
 *   ERR_FOREIGN ERR_NEWER ERR_CORRUPT and errors of the disk; @message (512 bytes): one line. */
enum err identity_open(const struct config *config, struct disk *disk, uint64_t random,
                       struct identity *identity, char *message);
/* Writes it; durable when it returns. Errors of the disk. */
enum err identity_save(struct disk *disk, const struct identity *identity);
/* Notes, durably, that the log exists from now on. */
enum err identity_begin(struct disk *disk, struct identity *identity);
/* What is known of the others: fills directory_id and incarnation of @peers. A missing file is fine. */
enum err identity_load_peers(struct disk *disk, struct peers *peers, char *message);
/* Writes it; durable when it returns. Errors of the disk. */
enum err identity_save_peers(struct disk *disk, const struct peers *peers);

#endif
