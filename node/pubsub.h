/* pubsub.h - channels, patterns and who listens to them; keyspace notifications.
 *
 * Fire and forget: a message goes to who is subscribed at this moment, here and on the nodes that are connected. It is
 * not in the log. When the connection to a node is broken or has much to send it is dropped there.
 *
 *   PUBLISH   0 u32 size of the channel   4 u32 size of the message   8 channel, message
 *
 * Keyspace notifications are made on each node from the entries that it applies, for its own clients; they are what
 * the effects tell, so every put is "set". Whoever needs all of them, in order, asks for a feed (feed.h). */
#ifndef KV_NODE_PUBSUB_H
#define KV_NODE_PUBSUB_H

#include <stdbool.h>
#include <stdint.h>

#include "node/push.h"
#include "raft/wire.h"
#include "storage/store_past.h"

#define PUBSUB_BUCKETS 4096u

struct channel;
struct session;

/* PUBLISH at the head of a connection. */
struct pubsub_wait {
    uint64_t number; /* Of its message, which is being told to many; 0: not. */
    bool is_told;    /* It was, */
    uint64_t count;  /* to so many clients. */
    uint32_t next;   /* Of several messages those before it went out (TXN_PUBLISH). */
};

/* What came of the last EXEC: what it was to publish waits for that. */
struct pubsub_exec {
    bool is_done;   /* It answered what its commands did, once */
    uint64_t batch; /* this batch is applied */
    uint64_t read;  /* and this read round is confirmed. */
};

struct pubsub {
    struct channel *buckets[PUBSUB_BUCKETS]; /* by name; chains */
    struct list patterns;                    /* struct channel, the oldest first */
    uint32_t channel_count;
    uint32_t pattern_count; /* different ones */
    uint64_t subscription_count;
    uint64_t serial; /* of the newest subscription */
    uint32_t events; /* notify-keyspace-events: enum config_event */
    /* Messages that are not told yet, or not to all, and where the first of them is. */
    struct list queue; /* struct message */
    uint64_t queue_size;
    uint64_t last_number;
    struct channel *telling;      /* whose subscribers are told; NULL: a pattern is next */
    struct list *next_subscriber; /* of it */
    struct list *next_pattern;    /* to compare with */
    /* Where notifications are in the log. */
    struct store_records records;
    uint64_t next;     /* entry to look at next; 0: the next one that is applied */
    uint64_t position; /* in it, as in effect_walk; */
    uint32_t ordinal;  /* 0: at its beginning */
    uint64_t published, delivered, dropped, taken, missed;
};

void pubsub_init(struct pubsub *pubsub, uint32_t events);
void pubsub_close(struct core *core);

/* False: it is there already. */
bool pubsub_add(struct core *core, struct push *push, struct slice name, bool is_pattern);
/* Why no more can be added; NULL: they can. */
const char *pubsub_refusal(const struct core *core, const struct push *push, struct slice name,
                           bool is_pattern);
bool pubsub_remove(struct core *core, struct push *push, struct slice name, bool is_pattern);
/* The name of the first one, borrowed; data is NULL when there is none. */
struct slice pubsub_first(const struct push *push, bool is_pattern);
void pubsub_drop_all(struct core *core, struct push *push);

/* To the clients of this node: at once, or as far as a turn allows and then in the order of the messages. */
void pubsub_tell(struct core *core, struct slice channel, struct slice text);
/* To those of all nodes. True: it was told here, to @count clients. False: that is going on; session.publish of
 * @session will have the number of clients (NULL: nobody wants to know). @channel and @text together have at most
 * PUBLISH_SIZE_MAX bytes. */
bool pubsub_publish(struct core *core, struct session *session, struct slice channel,
                    struct slice text, uint64_t *count);
/* How many clients of this node would get it now. Beyond @steps_max of comparing it with patterns, which @steps counts,
 * only those who listen to the channel itself. */
uint64_t pubsub_receivers(const struct core *core, struct slice channel, uint64_t steps_max,
                          uint64_t *steps);
/* So much waits to be told that clients wait before they publish more. */
bool pubsub_is_full(const struct core *core);
/* Frame 80. ERR_CORRUPT: malformed. */
enum err pubsub_receive(struct core *core, const struct wire_frame *frame);

/* Once a turn: tells what waits, then makes notifications of what was applied. */
void pubsub_turn(struct core *core);
/* Tells what waits, as far as the turn allows. */
void pubsub_work(struct core *core);

/* Subscribers of a channel, without those to patterns. */
uint64_t pubsub_listeners(const struct core *core, struct slice channel);
/* The @count channels that match, in an order of no meaning, as bulk strings; an empty pattern: all. False: to compare
 * them with this pattern would take too long. */
bool pubsub_list(const struct core *core, struct slice pattern, uint64_t *count, struct buf *out);

#endif
