/* quarantine.h - `<folder>/QUARANTINE`: this replica has lost something that it may have acknowledged.
 *
 * The file is written, durably, before anything else is done about the loss, and removed when the replica is whole
 * again. As long as it is there the replica neither votes nor stands for election nor serves (raft/guard.h);
 * whatever happens meanwhile, a start finds the file and goes on with the recovery (node/recovery.h).
 *
 *    0  u64 magic              8  u32 format version (1)     12  u32 size of everything
 *   16  u64 cluster id        24  u64 node id                32  u64 incarnation: of the start that noticed the loss
 *   40  u64 wall clock then, ms                              48  u32 stage   52  u32 number of the folder aside-N
 *   56  u64 offset of the damage in its file
 *   64  texts (u32 size, bytes): file, what is wrong
 *       u64 checksum: XXH3-64 over everything before it
 *
 * Everything but the vote is set aside into `<folder>/aside-N/`, and the state comes from the other members. What was
 * set aside is removed when that is done, unless the operator wants to keep it. */
#ifndef KV_STORAGE_QUARANTINE_H
#define KV_STORAGE_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/damage.h"
#include "storage/disk.h"

#define QUARANTINE_FILE_MAX 1024u

enum quarantine_stage {
    QUARANTINE_NONE = 0,
    QUARANTINE_EMPTYING = 1,   /* Files are being set aside: go on with that first. */
    QUARANTINE_RECOVERING = 2, /* The folder holds nothing but what came since. */
};

struct quarantine {
    enum quarantine_stage stage; /* NONE: there is no quarantine */
    uint64_t incarnation;
    uint64_t since_ms; /* wall clock */
    uint32_t aside;    /* number of the folder */
    struct damage_fault fault;
};

/* Reads the file. A damaged one means a quarantine of which nothing is known: it is taken as noticed by this start,
 * @incarnation, with the log as it is. Errors of the disk; ERR_FOREIGN, ERR_NEWER. @message (512 bytes): one line. */
enum err quarantine_load(struct quarantine *quarantine, struct disk *disk, const char *folder,
                         uint64_t cluster_id, uint64_t node_id, uint64_t incarnation,
                         char *message);
/* Writes it; durable when it returns. Errors of the disk. */
enum err quarantine_save(const struct quarantine *quarantine, struct disk *disk, const char *folder,
                         uint64_t cluster_id, uint64_t node_id);
/* Chooses a folder that is not in use, for a quarantine that begins. */
enum err quarantine_choose(struct quarantine *quarantine, struct disk *disk, const char *folder);
/* Moves everything of the replica but the vote aside. May be interrupted and repeated. */
enum err quarantine_empty(const struct quarantine *quarantine, struct disk *disk,
                          const char *folder);
/* Removes what was set aside, at most @count files, unless @keep; true when nothing is left to remove. */
bool quarantine_discard(const struct quarantine *quarantine, struct disk *disk, const char *folder,
                        uint32_t count);
/* The end: removes the file. */
enum err quarantine_lift(struct quarantine *quarantine, struct disk *disk, const char *folder);

void quarantine_encode(const struct quarantine *quarantine, uint64_t cluster_id, uint64_t node_id,
                       struct buf *out);
/* ERR_CORRUPT ERR_FOREIGN ERR_NEWER. */
enum err quarantine_decode(struct slice bytes, uint64_t cluster_id, uint64_t node_id,
                           struct quarantine *quarantine);

#endif
