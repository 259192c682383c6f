/* router.h - commands travel to the leader and replies back.
 *
 *   FORWARD        u64 session  u32 epoch  u64 number of the first request  u32 count  u8 protocol  requests (RESP)
 *   FORWARD_REPLY  u64 session  u32 epoch  u64 number of the first reply    u32 count  {u8 status  u32 size  reply}...
 *   FORWARD_CLOSE  u64 session
 *   FORWARD_CREDIT u64 session  u32 epoch  u64 bytes of this epoch's replies that the client has taken
 *
 * The origin numbers a session's requests from 0 within an epoch; the leader answers in order. Status 1 says that the
 * request was not executed, and so were none behind it of that epoch: the origin begins a new epoch and sends them
 * again, in order, to whoever leads then. When a connection breaks, writes that were sent and not answered are
 * UNCERTAIN; reads are sent again. Answers to an old epoch are ignored. */
#ifndef KV_NODE_ROUTER_H
#define KV_NODE_ROUTER_H

#include "node/core_parts.h"

#define ROUTER_TOO_BIG_TEXT                                                                        \
    "TOOBIG an argument is longer than a value may be (max-value): the command was not carried "   \
    "out"

/* A request that never came from a client: it stands in a session's input in the place of a command whose answer is
 * known already, so that the answer leaves in its turn. The error text, or NULL: @name is an ordinary command. */
const char *router_known_answer(struct slice name);

/* Sends @request of @session, which is @command and may change something or not, to the leader @node (queued until
 * router_flush). False: not now. */
bool router_forward(struct core *core, struct session *session, uint64_t node, struct slice request,
                    const struct command *command, bool is_write);
/* Sends what was queued, and what is due to be sent again. */
void router_flush(struct core *core);
/* After bytes left to @session's client: lets the leader go on when it waits for that. */
void router_credit(struct core *core, struct session *session);
/* Frames 64 .. 67. ERR_CORRUPT: nonsense, close the link. */
enum err router_receive(struct core *core, const struct wire_frame *frame);
/* A connection to or from @node broke: resolves what was outstanding there. */
void router_lost(struct core *core, uint64_t node);
/* @node's own connection to us closed: its proxies are gone. */
void router_drop_proxies(struct core *core, uint64_t node);
/* Replies of proxies that may leave. */
void router_release(struct core *core, struct session *proxy, uint64_t retired, uint64_t confirmed);
/* Gives the piece of a request or a reply that peer_pump() asks for. */
void router_give(struct core *core, struct peer *peer, const struct fragment_piece *piece);
/* Looks at forwards whose node does not lead any more. */
void router_tick(struct core *core);
/* The client went away. */
void router_session_closed(struct core *core, struct session *session);

#endif
