/* host_net.h - struct net on libuv: clients and incoming peers here, outgoing peers in host_peer.h.
 *
 * What arrives is read into one shared buffer and given to the core at once, so an idle connection costs no
 * buffer. Core functions that end a connection are never called from within a call of the core: what
 * breaks while the core sends is reported in host_net_turn().
 *
 * Closing is gentle, so that the last reply (an error, usually) arrives even when the client has sent more
 * than we read: everything accepted is sent, then the end, then what still comes is thrown away until the
 * client closes too. All of that ends after HOST_LINGER_MS. */
#ifndef KV_HOST_HOST_NET_H
#define KV_HOST_HOST_NET_H

#include <uv.h>

#include "node/config.h"
#include "node/core.h"
#include "node/host/host_listen.h"
#include "node/host/host_peer.h"
#include "node/host/host_stream.h"
#include "node/net.h"
#include "storage/base/list.h"

#define HOST_READ_SIZE (256u * KIB)       /* the shared buffer; peers use all of it */
#define HOST_READ_CLIENT_SIZE (64u * KIB) /* clients this much, so that one cannot fill a turn */
#define HOST_COPY_CLIENT_SIZE (64u * KIB) /* of what a client's socket did not take */
#define HOST_COPY_PEER_SIZE (128u * KIB)
#define HOST_LINGER_MS 1000u
/* Of all clients, and of all peers, in one turn: a connection that comes after that is read once, and little of it, so
 * that each gets on. */
#define HOST_TURN_SIZE (1u * MIB)
#define HOST_READ_LATE_SIZE (4u * KIB)

enum host_face { HOST_FACE_CLIENT, HOST_FACE_CLUSTER, HOST_FACE_LINK, HOST_FACE_COUNT };

/* One incoming connection. */
struct host_connection {
    struct host_stream stream; /* first */
    struct host_net *net;
    enum host_face face;
    void *session;  /* struct session or struct link of the core; NULL: the core is done with it */
    bool is_paused; /* the core wants no more bytes for now */
    bool is_lingering;  /* we have sent the end */
    uint64_t linger_ms; /* when it is closed at the latest */
    struct list all;    /* of net->open, then of net->closing, which is ordered by linger_ms */
    struct list broken; /* of net->broken */
    uint64_t read_turn; /* in which it was read last */
};

struct host_net {
    struct net net; /* what the core is given */
    uv_loop_t *loop;
    struct config *config; /* NULL until host_net_listen */
    struct core *core;     /* NULL until host_net_start */
    struct host_listener listeners[HOST_FACE_COUNT];
    struct list open;
    struct list closing;
    struct list broken;
    uint32_t closing_count;
    uint32_t closing_max; /* beyond it connections are closed at once */
    uv_timer_t linger_timer;
    uint8_t *read_buffer;
    uint64_t turn;              /* counts them */
    uint64_t read_clients_left; /* HOST_TURN_SIZE, what of it is left in this turn */
    uint64_t read_peers_left;
    struct host_peers peers;
};

void host_net_init(struct host_net *net, uv_loop_t *loop, uint64_t seed);
/* Opens the listeners of @config and writes chosen ports into it. Errors as host_listener_open. */
enum err host_net_listen(struct host_net *net, struct config *config, char *message);
/* From here on connections reach @core (keeps). @closing_max: handles that closing connections may hold. */
void host_net_start(struct host_net *net, struct core *core, uint32_t closing_max);
/* After each core_turn(). True: something was reported to the core, which wants another turn. */
bool host_net_turn(struct host_net *net);
/* Whether everything accepted from the core was handed to the sockets. */
bool host_net_flushed(const struct host_net *net);
/* Closes every handle without telling the core; the loop has to run until they are gone, then free. */
void host_net_close(struct host_net *net);
void host_net_free(struct host_net *net);

#endif
