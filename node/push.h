/* push.h - messages to a client that no command asked for: change feeds (feed.h) and subscriptions (pubsub.h).
 *
 * They leave between replies, in RESP3 as pushes, in RESP2 as arrays; a RESP2 connection that gets any takes only the
 * commands about them, as in Redis, or nobody could tell a message from a reply. */
#ifndef KV_NODE_PUSH_H
#define KV_NODE_PUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/list.h"

struct command;
struct core;
struct session;

/* What a client wants to be told. */
struct push {
    struct session *session;
    struct list watches; /* struct feed, by own */
    uint32_t watch_count;
    uint64_t last_watch;  /* id of the newest */
    struct list channels; /* struct subscription, by of_session, */
    struct list patterns; /* likewise */
    uint32_t channel_count;
    uint32_t pattern_count;
    struct buf
        held; /* Messages that wait for the end of a reply that leaves in slices (stream.h), */
    struct list holding; /* in core.holding then. */
    bool is_over;        /* They are too many: the connection is closed. */
};

/* Makes it when the session has none. */
struct push *push_of(struct session *session);
/* The client is told something. */
bool push_is_used(const struct session *session);
/* Channels and patterns, as Redis counts them. */
uint32_t push_subscriptions(const struct session *session);
/* The error that @command is refused with on this connection now; NULL: none. @text has 192 bytes. */
const char *push_refusal(const struct session *session, const struct command *command, char *text);
/* One message: begin, append it to the result, end. */
struct buf *push_begin(struct core *core, struct push *push);
void push_end(struct core *core, struct push *push);
/* Once a turn: what was held leaves. */
void push_turn(struct core *core);
/* Nobody is told anything any more. */
void push_drop(struct core *core, struct session *session);

#endif
