/* feed.h - change feeds (KV.WATCH): what was applied, told to a client in order, complete, none of it twice.
 *
 * A feed is a place in this node's own log. Every applied entry is looked at once for each feed: in memory when it is
 * new, else read in the background, so a client that reads slowly, or begins far back, costs the disk some reads and
 * no memory: nothing is prepared while FEED_PAUSE_SIZE bytes wait for it. What one command or transaction did leaves
 * as one message. Nothing keeps files for a feed: when retention overtakes it, it ends with COMPACTED.
 *
 *   ["kv.watch", id, revision, [[kind, key, value, revision, previous, expiry] ...]]
 *   ["kv.progress", id, revision]     everything up to there was told
 *   ["kv.closed", id, code, text, oldest revision to begin from]     the last one of this feed
 *
 * kind: put, delete, expired, expire-change or flush (without a key). A feed that begins FROM the revision of any
 * message, on any node, goes on behind it. */
#ifndef KV_NODE_FEED_H
#define KV_NODE_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "node/places.h"
#include "node/push.h"
#include "storage/base/limits.h"
#include "storage/store_past.h"

#define FEED_TURN_UNITS                                                                            \
    3000 /* for all feeds in one turn: effects or KiB that are looked at or told */
#define FEED_PAUSE_SIZE (256u * KIB)
#define FEED_READERS_MAX 16u /* that read from the disk at a time */
#define FEED_MAKERS_MAX 4u   /* that hold a half-made message of more than */
#define FEED_HALF_SIZE (16u * KIB)
#define FEED_SESSION_MAX 100u
#define FEED_MAX 10000u
#define FEED_PROGRESS_MIN_MS 10u
#define FEED_PROGRESS_MAX_MS 86400000u

struct feed;
struct feeds {
    struct list all;  /* every feed, by all, */
    struct list busy; /* those that are behind, by busy: whose turn is next comes first */
    uint32_t count;
    uint32_t readers; /* of them have bytes from the disk */
    uint32_t makers;  /* of them hold a long message that is not whole yet */
    uint64_t seen;    /* applied index that busy knows of */
    struct places places;
    uint64_t messages, effects, compacted, disk_reads;
};

/* What a client asks for. */
struct feed_want {
    bool is_prefix;
    bool is_key;
    struct slice from; /* or the prefix, or the key */
    struct slice to;   /* of a range; empty: the end */
    bool has_previous;
    uint64_t progress_ms; /* 0: no marks */
    uint64_t revision;    /* changes with a greater one are told */
};

void feeds_init(struct feeds *feeds);
/* Its id. The caller kept within the bounds above and found revision not too old. */
uint64_t feed_open(struct core *core, struct push *push, const struct feed_want *want);
/* False: there is no such feed. */
bool feed_close(struct core *core, struct push *push, uint64_t id);
void feed_drop_all(struct core *core, struct push *push);
/* The smallest revision that a feed can begin from: all behind it is kept. */
uint64_t feed_oldest(const struct core *core);
/* Once a turn. */
void feeds_turn(struct core *core);
/* Now and then: progress marks. */
void feeds_tick(struct core *core);

#endif
