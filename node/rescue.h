/* rescue.h - kvnode recover --force: one node goes on alone, as a new cluster, when a majority is lost for good.
 *
 * Nothing that this node holds is lost. What it does not hold may be: writes that the others had acknowledged. What it
 * holds and nobody acknowledged becomes true. The cluster gets a new id, so that other nodes of the old one are
 * strangers if they come back; its only voter is this node, by an entry in a term above all that it knows.
 *
 * Order on the disk: the identity with the new id and the mark "unfinished", with which no node starts; the entry; the
 * identity without the mark. Interrupted, it is run again. */
#ifndef KV_NODE_RESCUE_H
#define KV_NODE_RESCUE_H

#include <stdint.h>

#include "node/identity.h"
#include "storage/store.h"

#define RESCUE_MESSAGE_SIZE 512u

struct rescue {
    struct disk *disk;
    struct identity identity;
    struct store *store;
    /* What there is. */
    uint64_t last_index;
    uint64_t last_term;
    uint64_t base_index;
    uint64_t stamp_ms; /* of the newest entry */
    uint32_t members;  /* of the old cluster, by the newest configuration; 0: not known */
    uint32_t voters;
    bool is_repeated;                 /* an earlier run was interrupted */
    char notice[RESCUE_MESSAGE_SIZE]; /* what the start cut off; empty: nothing */
};

/* Opens the directory as a start would: a torn end is settled, nothing else is changed. @random: for file ids.
 *   ERR_INVALID    it is in quarantine, or was removed from its cluster: it does not have what it had
 *   ERR_NOT_FOUND  there is no node in it, or one that never held anything
 *   ERR_CORRUPT and others: what a start would refuse
 * @message (RESCUE_MESSAGE_SIZE) is one line after every error. */
enum err rescue_open(struct rescue *rescue, struct disk *disk, uint64_t random, char *message);
/* Does it; durable when it returns OK. @random: for the new cluster id. */
enum err rescue_run(struct rescue *rescue, uint64_t random, char *message);
void rescue_close(struct rescue *rescue);

#endif
