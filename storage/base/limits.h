/* limits.h - every bound of the system in one place, and the relations between them.
 * Sizes are bytes, counts are items. Reaching one is an ordinary, tested outcome. */
#ifndef KV_BASE_LIMITS_H
#define KV_BASE_LIMITS_H

#include "storage/base/check.h"

#define KIB (1024u)
#define MIB (1024u * 1024u)

/* What a client may ask. */
#define KEY_SIZE_MAX (64u * KIB)
#define VALUE_SIZE_MAX (64u * MIB) /* ceiling of the option max-value */
#define VALUE_INLINE_MAX (63u)     /* values up to this size live in the keydir itself */
#define COMMAND_ARGS_MAX (131072u)
#define COMMAND_INLINE_SIZE_MAX (64u * KIB)
#define BATCH_EFFECTS_MAX (65535u)   /* a revision has 16 bits for the place within an entry */
#define BATCH_SIZE_SOFT (1u * MIB)   /* a batch is closed when it reaches this */
#define BATCH_SIZE_MAX (68u * MIB)   /* effects of one entry */
#define COMMAND_SIZE_MAX (15u * MIB) /* effects of one command that makes more than one */
#define COMMAND_EFFECTS_MAX (32768u)
#define SESSION_PIPELINE_MAX (16384u) /* commands of one connection that wait for their reply */

/* Records, groups, segments. */
#define RECORD_SIZE_MAX (69u * MIB)
#define GROUP_SIZE_USUAL (24u * MIB) /* records gather up to this; a larger one is a group alone */
#define GROUP_SIZE_MAX (70u * MIB)
#define SEGMENT_BLOCK_SIZE (4096u)
#define SEGMENT_SIZE_DEFAULT (32u * MIB)
#define TAIL_SIZE_DEFAULT (64u * MIB)
#define LOG_TAKE_SIZE                                                                              \
    (4u * MIB) /* memory of a larger record is taken by the log instead of copied */
#define UNCOMMITTED_ENTRIES_MAX (2048u) /* the leader stops proposing beyond this */

/* Between peers. */
#define PEERS_MAX (15u)
#define PEER_FRAME_SIZE_MAX (76u * MIB)  /* one frame, also when it travels in fragments */
#define PEER_WHOLE_SIZE_MAX (288u * KIB) /* a bigger frame travels in fragments */
#define PEER_QUEUE_SIZE_MAX (64u * MIB)  /* beyond it frames to this peer are dropped */
#define APPEND_SIZE_MAX                                                                            \
    (256u * KIB) /* entries in one AppendEntries frame; a bigger one has its own */
#define APPEND_ENTRIES_MAX (4096u)
#define SHIP_CHUNK_SIZE (256u * KIB)
#define FORWARD_SIZE_MAX (70u * MIB)       /* one command that travels to the leader */
#define FORWARD_QUEUE_SIZE_MAX (72u * MIB) /* unanswered commands of one connection on their way */
#define FORWARD_REPLY_SIZE_MAX (72u * MIB) /* one reply that travels back */
#define REQUEST_SIZE_MAX (80u * MIB)       /* one command, all its arguments */
#define NAME_SIZE_MAX (63u)
#define ADDRESS_SIZE_MAX (255u)

/* Messages between clients. */
#define PUBLISH_SIZE_MAX (256u * KIB) /* name of the channel and message */
#define PUBLISH_QUEUE_SIZE (4u * MIB) /* queued to a peer, beyond which messages are dropped */
#define PUBSUB_CHANNEL_SIZE_MAX (4096u)
#define PATTERN_SIZE_MAX (1024u) /* of channels and of keys: comparing takes pattern x text steps */
#define PUBSUB_SESSION_MAX (10000u) /* subscriptions of one connection, */
#define PUBSUB_MAX (1000000u)       /* of all, */
#define PUBSUB_PATTERNS_MAX (4096u) /* and different patterns: each message is compared with all */

STATIC_CHECK(BATCH_SIZE_MAX + 2 * KEY_SIZE_MAX + 4096 <= RECORD_SIZE_MAX,
             "an entry fits in a record");
STATIC_CHECK(VALUE_SIZE_MAX + KEY_SIZE_MAX + 2 * BATCH_SIZE_SOFT <= BATCH_SIZE_MAX,
             "a put of the biggest value fits in an entry that others share");
STATIC_CHECK(COMMAND_SIZE_MAX + 2 * BATCH_SIZE_SOFT <= BATCH_SIZE_MAX,
             "so does a command of many effects");
STATIC_CHECK(RECORD_SIZE_MAX + SEGMENT_BLOCK_SIZE <= GROUP_SIZE_MAX, "a record fits in a group");
STATIC_CHECK(GROUP_SIZE_USUAL + 2 * SEGMENT_BLOCK_SIZE <= SEGMENT_SIZE_DEFAULT,
             "a usual group fits in a segment; a larger one gets a larger segment");
STATIC_CHECK(RECORD_SIZE_MAX + 4096 <= PEER_FRAME_SIZE_MAX, "a record fits in a peer frame");
STATIC_CHECK(FORWARD_QUEUE_SIZE_MAX + 4096 <= PEER_FRAME_SIZE_MAX,
             "what is sent again fits in a frame");
STATIC_CHECK(FORWARD_SIZE_MAX <= FORWARD_QUEUE_SIZE_MAX, "one command fits in the queue");
STATIC_CHECK(FORWARD_REPLY_SIZE_MAX + 4096 <= PEER_FRAME_SIZE_MAX, "a reply fits in a frame");
STATIC_CHECK(VALUE_SIZE_MAX + KEY_SIZE_MAX + 4096 <= FORWARD_SIZE_MAX, "any SET can travel");
STATIC_CHECK(PUBLISH_SIZE_MAX + 4096 <= PEER_WHOLE_SIZE_MAX, "a message travels whole");

#endif
