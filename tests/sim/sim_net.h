/* sim_net.h - struct net in virtual time: byte streams that are cut, delayed, stalled, reset, refused.
 *
 * A connection has two ends: 0 dialled, 1 accepted. Each end writes into its own pipe. What is written is cut
 * into chunks of any size from one byte up, which arrive in order, each after a delay of its own: a stream
 * never reorders or repeats, exactly like TCP. What goes wrong is: nothing arrives for a while (a partition, a
 * frozen process), the rest never arrives (a reset), or one end does not know yet that the other is gone.
 *
 * On top of that, frames between peers can be dropped, repeated, swapped or held back one by one, which
 * TCP never does: the consensus protocol has to survive it all the same. Handshakes and forwarded
 * commands are spared, since those rely on the stream. */
#ifndef KV_TESTS_SIM_NET_H
#define KV_TESTS_SIM_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "node/net.h"
#include "storage/base/bytes.h"

#define SIM_NODES_MAX 5u
#define SIM_CLIENTS_MAX 8u
#define SIM_CONNS_MAX 256u

struct sim;
struct sim_node;

struct sim_chunk {
    uint64_t due; /* microseconds */
    uint64_t size;
};

/* One direction of a connection. */
struct sim_pipe {
    struct buf data; /* under way; from @start on */
    uint64_t start;
    struct sim_chunk *chunks; /* from @chunk_first on */
    uint32_t chunk_first;
    uint32_t chunk_count; /* end of the used ones */
    uint32_t chunk_capacity;
    uint64_t due_last;
    bool is_scheduled; /* an event for the first chunk is on its way */
    bool is_clogged;   /* took less than was offered */
    bool is_ending;    /* the writer closed: the reader sees the end after the last byte */
    struct buf frame;  /* between peers: an incomplete frame */
    struct buf late;   /* a whole frame that is held back */
};

enum sim_conn_kind { SIM_CONN_FREE, SIM_CONN_PEER, SIM_CONN_CLIENT };

struct sim_conn {
    enum sim_conn_kind kind;
    uint32_t number;     /* its place in the table */
    uint32_t generation; /* grows with each use of the place */
    uint32_t from;       /* node or client that dialled */
    uint32_t to;         /* node */
    bool is_open[2];     /* this end has not closed and has not been told of the end */
    bool is_paused;      /* end 1 does not read */
    bool is_reset;       /* whatever is written is lost */
    bool is_broken;      /* the core at end 0 has given it up */
    void *handle;        /* the core's session or link */
    struct sim_pipe pipes[2];
};

struct sim_net {
    struct sim_conn conns[SIM_CONNS_MAX];
    bool is_blocked[SIM_NODES_MAX][SIM_NODES_MAX]; /* nothing passes from, to */
    struct sim_conn *dialled[SIM_NODES_MAX][SIM_NODES_MAX];

    /* Microseconds and shares of 1000; free to set at any time. */
    uint64_t delay_min;
    uint64_t delay_max;
    uint64_t delay_rare;   /* now and then a chunk takes up to this */
    uint64_t window;       /* bytes under way in one pipe */
    uint32_t cut_share;    /* of writes that are cut into small chunks */
    uint32_t drop_share;   /* of frames */
    uint32_t repeat_share; /* of frames */
    uint32_t swap_share;   /* of frames */
    uint64_t bytes_delivered;
    uint64_t frames_changed;
    uint64_t resets;
    uint64_t dials;
};

void sim_net_init(struct sim *sim);
void sim_net_close(struct sim *sim);
/* The interface for @node. */
struct net sim_net_of(struct sim_node *node);

/* ---- connections ----------------------------------------------------------------------------------- */

/* Connects a client at once. NULL: the node is down, frozen or refuses. */
struct sim_conn *sim_net_dial_client(struct sim *sim, uint32_t client, uint32_t node);
/* The node that came up dials all others, now and again after each loss. */
void sim_net_dial_peers(struct sim *sim, uint32_t node);
/* Bytes accepted, less than @size when the pipe is full. */
uint64_t sim_net_send(struct sim *sim, struct sim_conn *conn, uint32_t end, const uint8_t *data,
                      uint64_t size);
/* @end closes: the other sees the end after the bytes that are under way. */
void sim_net_end(struct sim *sim, struct sim_conn *conn, uint32_t end);

/* ---- events, dispatched by sim.c ---------------------------------------------------------------------- */

void sim_net_arrive(struct sim *sim, struct sim_conn *conn,
                    uint32_t end); /* chunk written by @end */
void sim_net_lost(struct sim *sim, struct sim_conn *conn,
                  uint32_t end); /* @end learns of a reset */
void sim_net_dial(struct sim *sim, uint32_t from, uint32_t to);

/* ---- faults --------------------------------------------------------------------------------------------- */

/* What is under way is lost; the ends learn of it each at its own time. */
void sim_net_reset(struct sim *sim, struct sim_conn *conn);
/* Connections of a process that died. With @power the others do not hear of it for a while. */
void sim_net_node_down(struct sim *sim, uint32_t node, bool power);
void sim_net_block(struct sim *sim, uint32_t from, uint32_t to);
void sim_net_heal(struct sim *sim);
/* Delivery goes on where it waited: after a thaw, a heal, a pause. */
void sim_net_kick(struct sim *sim);

#endif
