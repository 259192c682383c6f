/* peer.h - the other nodes: who they are, the queue of frames to each, and incoming links. No
 * sockets.
 *
 * Every node dials every other one. A connection carries the dialler's frames only, but for the
 * answer to its HELLO; so between two nodes there are two connections, each in its own order.
 *
 *   dialler:   HELLO {cluster token hash, addresses, directory id, incarnation, start ids, what it has promised}
 *   acceptor:  WELCOME {the same of itself}   or   REFUSE {text, kind}, then it closes
 *
 * The handshake refuses another cluster, another token, an unknown or wrong node id, our own id,
 * a newer version, and a node whose data directory is not the one seen before under this id, is an older copy of it
 * (handshake.h says how that is told), or a copy that was started while the other one was in use: text says which. */
#ifndef KV_RAFT_PEER_H
#define KV_RAFT_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/fragment.h"
#include "raft/wire.h"
#include "storage/base/limits.h"

/* Starts before the present one whose ids a node knows. */
#define PEER_STARTS_MAX 16u

/* What a node tells about itself. */
struct peer_identity {
    uint64_t node_id;
    uint64_t directory_id; /* random, made with the data directory */
    uint64_t incarnation;  /* grows by one with each start, persisted before networking */
    uint64_t start_id;     /* random, made with each incarnation */
    char name[NAME_SIZE_MAX + 1];
    char peer_address[ADDRESS_SIZE_MAX + 1];
    char client_address[ADDRESS_SIZE_MAX + 1];
    char cluster_client_address[ADDRESS_SIZE_MAX + 1]; /* empty: off */
    char http_address[ADDRESS_SIZE_MAX + 1];           /* empty: off */
};

/* What a node has promised, as its disk has it. */
struct peer_promise {
    uint64_t term; /* 0: not known, its log is being repaired */
    uint64_t vote; /* in that term; 0: none */
    uint64_t last_index;
};

/* What we know that another node has promised: whoever announces less has forgotten it. */
struct peer_memory {
    uint64_t term;      /* highest that it spoke of as its own */
    uint64_t vote_term; /* highest in which we know its vote, */
    uint64_t vote;      /* and whose it was; 0: not known */
    uint64_t ack_term;  /* the newest term that we led, */
    uint64_t ack_index; /* and what it acknowledged to us then */
    uint64_t base_term; /* in which it was offered a base, which may end before that */
};

struct peer {
    struct peer_identity
        identity; /* id, name, peer address from the membership; the rest from its HELLO or WELCOME */
    bool is_known;     /* it has introduced itself since our start */
    bool is_connected; /* our outgoing connection is up and welcomed */
    bool nospace;      /* as its last frame said, likewise: */
    bool recovering;   /* it has lost entries that it may have acknowledged */
    bool damaged;      /* it cannot read parts of its files */
    bool refuses;      /* it takes our data directory for an older copy, or another one */
    char refusal
        [256]; /* why it does not talk to us, in its own words; empty: it does, or was never met */
    struct peer_memory memory;
    uint64_t heard_ms;  /* monotonic time of its last valid frame; 0 never */
    struct buf in;      /* bytes from the acceptor of our outgoing connection, incomplete frame */
    struct buf out;     /* frames not yet taken by the socket */
    uint64_t out_start; /* bytes of out already taken */
    struct fragment_lane lanes[FRAGMENT_CLASS_COUNT]; /* frames that are not in out yet */
    struct fragment_lane *open_lane; /* where the frame that is being made goes; NULL: out */
    uint32_t lane_next;              /* whose turn it is */
    uint32_t link_count;             /* grows each time our connection comes up */
    uint64_t dropped_count;          /* frames dropped since the link was down or the queue full */
    uint64_t sent_count;
    uint64_t received_count;
};

struct peers {
    struct peer_identity self;
    uint64_t cluster_id;
    uint64_t token_hash;
    bool self_nospace; /* goes into the flags of every frame, and so do */
    bool self_recovering;
    bool self_damaged;
    bool
        self_refused; /* somebody takes our directory for an older copy: we elect nobody (guard.h) */
    struct peer_promise self_promise;    /* goes into HELLO and WELCOME, and so do */
    uint64_t self_past[PEER_STARTS_MAX]; /* ids of the starts before this one, the newest first */
    uint32_t self_past_count;
    struct peer list[PEERS_MAX];
    uint32_t count;
};

void peers_init(struct peers *peers, const struct peer_identity *self, uint64_t cluster_id,
                uint64_t token_hash);
void peers_close(struct peers *peers);
/* Adds a member. ERR_EXISTS, ERR_FULL. */
enum err peers_add(struct peers *peers, uint64_t node_id, const char *name,
                   const char *peer_address);
struct peer *peers_find(struct peers *peers, uint64_t node_id); /* NULL: not one of the others */

/* Begins a frame in the peer's queue and returns the buf to append the body to, or NULL when it is dropped (not
 * connected, or more than PEER_QUEUE_SIZE_MAX queued). Then peer_frame_end; one frame at a time. A body that is too
 * big to travel whole is moved to the lane of its class. */
struct buf *peer_frame_begin(struct peers *peers, struct peer *peer, uint8_t type, uint64_t *start);
/* False: it was dropped after all, since another big frame of its class (not Raft's) is on its way. */
bool peer_frame_end(struct peer *peer, uint64_t start);
/* Instead of peer_frame_end: nothing of the frame is sent. */
void peer_frame_cancel(struct peer *peer, uint64_t start);
/* Bytes that wait for the socket, without those in lanes. */
uint64_t peer_queued(const struct peer *peer);
/* Whole frame; false when dropped. */
bool peer_send(struct peers *peers, struct peer *peer, uint8_t type, struct slice body);

/* The lane of frames of @type, which must have one. */
struct fragment_lane *peer_lane(struct peer *peer, uint8_t type);
/* As peer_frame_begin for a body that is known to be big, so that it is made where it stays. The lane must not be
 * busy. @token: what the frame is for, see fragment_token. */
struct buf *peer_big_begin(struct peers *peers, struct peer *peer, uint8_t type, uint64_t token,
                           uint64_t *start);
/* A frame whose body begins with @head; the other @rest bytes are asked for when it is their turn. False: dropped. */
bool peer_send_asked(struct peers *peers, struct peer *peer, uint8_t type, struct slice head,
                     uint64_t rest, uint64_t token);
/* Gives up what is in the lane of @type. */
void peer_lane_drop(struct peers *peers, struct peer *peer, uint8_t type);
/* Moves what waits in lanes to the queue, in turns, while that is short. True: it is the turn of @piece, which is
 * asked for: peer_give it (or drop the lane), then call again. */
bool peer_pump(struct peers *peers, struct peer *peer, struct fragment_piece *piece);
void peer_give(struct peers *peers, struct peer *peer, const struct fragment_piece *piece,
               struct slice data);
bool peer_lanes_busy(const struct peer *peer);
/* A big frame of the class of @type is on its way: another one would be dropped. */
bool peer_is_sending_big(struct peer *peer, uint8_t type);

/* The outgoing connection came up: queues HELLO first (allowed before is_connected). */
void peer_up(struct peers *peers, struct peer *peer);
/* It went down: what was queued is dropped. */
void peer_down(struct peer *peer);
/* Bytes from the acceptor: WELCOME makes is_connected true. Any error: close and dial again
 * later; @message (256 bytes) says why, e.g. the text of a REFUSE, which stays in peer->refusal.
 * ERR_FOREIGN: refused by the other side, or by us. */
enum err peer_feed(struct peers *peers, struct peer *peer, struct slice bytes, char *message);

/* An incoming connection. */
struct link {
    struct buf in;
    uint64_t in_start;
    struct buf out; /* the WELCOME or REFUSE to send; the owner sends and empties it */
    uint64_t from;  /* node id, 0 until the handshake is done */
    bool refused;   /* close once out is sent */
    struct fragment_part parts[FRAGMENT_CLASS_COUNT];
};
void link_init(struct link *link);
void link_close(struct link *link);
void link_feed(struct link *link, struct slice bytes); /* copies */
/* The next valid frame after the handshake (which it handles itself). The frame borrows until
 * the next link_feed or link_next. A frame that comes in fragments is given when it is complete; before that each
 * fragment is given as WIRE_FRAGMENT, with the frame's type in @part and what is here of its body: a sign of
 * life. ERR_MORE: none now. ERR_CORRUPT ERR_NEWER ERR_FOREIGN: send out, then close;
 * @message (256 bytes) says why. Frames whose cluster, from, to or shard do not fit the
 * link are an error too. */
enum err link_next(struct peers *peers, struct link *link, uint64_t now_ms,
                   struct wire_frame *frame, char *message);

#endif
