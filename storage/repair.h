/* repair.h - damaged groups of the unsealed log, rebuilt byte for byte from records that other nodes hold.
 *
 * A start refuses the log when a group is wrong that must once have been durable. Nothing but that group is lost then,
 * and its entries are on other nodes, in the very bytes in which they were here. From them and from what stands around
 * it the group is made again: its offset and file id are known, its link is the chain of the group before, its indexes
 * lie between those of its neighbours, and the log was durable up to the entry before its first one. Whether all of
 * that is right says the link of the group behind it (or its own footer): it was written by this node and holds the
 * chain, so nobody has to be believed, and no leader is needed. Where that does not come out even, nothing is changed.
 *
 * Only then the file is replaced, by one with the rebuilt groups, in one step; what the damaged groups held is kept
 * beside it (`<name>.damaged`) until a start has succeeded. Single-threaded; reads all unsealed files into memory. */
#ifndef KV_STORAGE_REPAIR_H
#define KV_STORAGE_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/limits.h"
#include "storage/disk.h"

#define REPAIR_SIZE_MAX (1024u * MIB) /* of all unsealed files; more are not looked at */
#define REPAIR_SOURCES (PEERS_MAX + 1u)

struct repair;

struct repair_config {
    struct disk *disk;  /* keeps */
    const char *folder; /* keeps */
    uint64_t cluster_id;
    uint64_t node_id;
    uint16_t shard;
};

/* Where the next damaged group is. */
struct repair_spot {
    uint32_t file;
    uint64_t offset;
    uint64_t first_index; /* of the entries in it; none: first = last + 1 */
    uint64_t last_index;
    uint32_t groups_left; /* this one included */
};

/* Looks at the unsealed files of the log; changes nothing.
 *   OK             groups are damaged, and all of them may be rebuilt
 *   ERR_NOT_FOUND  nothing is damaged that this could help with
 *   others         the disk, or files of somebody else */
enum err repair_open(struct repair **repair, const struct repair_config *config);
void repair_close(struct repair *repair);

/* The group that is being rebuilt. False: all of them are. */
bool repair_spot(const struct repair *repair, struct repair_spot *spot);
/* What to ask @source (0 .. PEERS_MAX - 1) for. False: it was asked for everything. */
bool repair_wants(const struct repair *repair, uint32_t source, uint64_t *first, uint64_t *last);
/* Its answer: @records in the order of their indexes, all between first and @next; it has nothing else there.
 * ERR_CORRUPT: that is not what it is. */
enum err repair_give(struct repair *repair, uint32_t source, uint64_t next, struct slice records);
/* Everybody is to be asked again. */
void repair_again(struct repair *repair);
/* Rebuilds what can be rebuilt with what is here. OK: all groups are; ERR_AGAIN: not yet. */
enum err repair_try(struct repair *repair);
/* Replaces the files. Errors of the disk; may be repeated after a crash, by a new start. */
enum err repair_write(struct repair *repair);
/* Removes what repair_write() kept; errors do not matter. */
void repair_clean(const struct repair_config *config);

/* For another node that repairs itself: appends sound records of this log between @first and @last, in the order of
 * their indexes, about @size_max bytes or one record. Returns the index to go on from; @last + 1: that is all. */
uint64_t repair_read(const struct repair *repair, uint64_t first, uint64_t last, uint64_t size_max,
                     struct buf *out);

#endif
