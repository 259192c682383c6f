/* pubsub_parts.h - the inside of channels and messages, shared by pubsub.c and pubsub_queue.c only. */
#ifndef KV_NODE_PUBSUB_PARTS_H
#define KV_NODE_PUBSUB_PARTS_H

#include "node/core_parts.h"
#include "node/pubsub.h"

/* A channel or a pattern that somebody listens to. */
struct channel {
    struct channel *next; /* Chain of its bucket. */
    struct list link;     /* A pattern: in pubsub.patterns. */
    struct list subscribers;
    uint32_t count;
    bool is_pattern;
    struct buf name;
};

struct subscription {
    struct list of_channel;
    struct list of_session;
    struct channel *channel;
    struct push *push;
    uint64_t serial; /* Grows with each: what was published before is not for it. */
};

/* NULL: nobody listens to it. */
struct channel *pubsub_find(const struct pubsub *pubsub, struct slice name, bool is_pattern);
/* Before one of them goes: whoever is just telling a message goes on behind it. */
void pubsub_pass_channel(struct pubsub *pubsub, const struct channel *channel);
void pubsub_pass_subscription(struct pubsub *pubsub, const struct subscription *one);
void pubsub_drop_queue(struct pubsub *pubsub);

#endif
