/* host_listen.h - a listening socket, and accepting a bounded number of connections in each turn.
 *
 * What is not accepted in this turn stays with libuv, which then stops looking at the socket until
 * host_listener_turn() goes on. When the process has no file handle left, libuv uses a spare one to accept
 * and drop whoever waits; existing connections do not notice. Another thread can take that handle in the
 * moment in which it is free, and from then on libuv would ask the kernel for ever. Therefore each listener
 * has a spare of its own, and when that is lost as well one connection has to go. */
#ifndef KV_HOST_HOST_LISTEN_H
#define KV_HOST_HOST_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "node/config.h"

#define HOST_ACCEPT_MAX 64u /* connections of one listener in one turn */

struct host_listener {
    uv_tcp_t tcp;
    bool is_open;
    bool is_waiting; /* a connection waits for the next turn */
    uint32_t budget; /* accepts left in this turn */
    int spare; /* a file handle for want of others; -1: given up, taken again in the next turn */
    /* Takes one waiting connection by uv_accept(). */
    void (*accept)(struct host_listener *listener);
    /* Closes a connection of anybody's, so that a handle is free. NULL: has none. */
    void (*give_way)(struct host_listener *listener);
    void *owner;
};

/* Listens on @address, the value of option @option; a port of 0 is replaced by the one chosen. An address
 * that is off leaves the listener closed. Nobody is accepted before the first host_listener_turn().
 * @message (512 bytes) is one line for the operator: ERR_IN_USE, ERR_PERMISSION, ERR_INVALID (no such
 * address), ERR_IO. */
enum err host_listener_open(struct host_listener *listener, uv_loop_t *loop, const char *option,
                            struct config_address *address, char *message);
void host_listener_turn(struct host_listener *listener);
void host_listener_close(struct host_listener *listener);

#endif
