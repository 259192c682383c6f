/* net.h - the one interface through which the core touches connections. The host binds it to libuv
 * (node/host/host_net.c), the simulator to virtual byte streams (tests/sim/sim_net.c).
 *
 * Connections are named by the host's own pointer, given to the core when they open and back by it here.
 * Sending takes a copy of what it accepts. When it accepts less than was offered the connection is clogged
 * and the host calls core_client_writable() or core_peer_writable() once there is room. */
#ifndef KV_NODE_NET_H
#define KV_NODE_NET_H

#include <stdbool.h>
#include <stdint.h>

/* What the system says of this process. */
struct net_process {
    uint64_t id;
    uint64_t resident_size;      /* bytes; 0: not known */
    uint64_t user_us, system_us; /* of processor time */
};

struct net {
    void *context;
    /* Clients. */
    uint64_t (*client_send)(void *context, void *connection, const uint8_t *data, uint64_t size);
    void (*client_pause)(void *context, void *connection, bool paused); /* stop or go on reading */
    /* Closes after what was accepted is sent; core_client_closed() is not called for it any more. */
    void (*client_close)(void *context, void *connection);
    /* Our outgoing connection to the member with this id; the host dials it again and again. */
    uint64_t (*peer_send)(void *context, uint64_t node_id, const uint8_t *data, uint64_t size);
    void (*peer_close)(void *context, uint64_t node_id); /* the host dials again after a pause */
    /* Incoming connections of peers. */
    uint64_t (*link_send)(void *context, void *connection, const uint8_t *data, uint64_t size);
    void (*link_close)(void *context, void *connection);
    /* A line for the operator: "debug" .. "error" is 0 .. 3. */
    void (*log)(void *context, int level, const char *line);
    /* From now on lines below this level are left out; NULL: the level stays. */
    void (*log_level)(void *context, int level);
    /* NULL: nobody knows. */
    void (*process)(void *context, struct net_process *process);
};

#endif
