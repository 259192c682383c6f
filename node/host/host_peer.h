/* host_peer.h - our outgoing connections: one to every other member, dialled again for as long as it is one.
 *
 * An attempt gets HOST_DIAL_MS. Between attempts there is a pause that doubles from HOST_PAUSE_MIN_MS to
 * HOST_PAUSE_MAX_MS, give or take a random part, and begins anew once a connection lasted HOST_GOOD_MS. Names are
 * looked up on libuv's threads, which nothing else uses. */
#ifndef KV_HOST_HOST_PEER_H
#define KV_HOST_HOST_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "storage/base/limits.h"
#include "storage/base/prng.h"

#define HOST_PAUSE_MIN_MS 50u
#define HOST_PAUSE_MAX_MS 1000u
#define HOST_DIAL_MS 2000u
#define HOST_GOOD_MS 5000u
#define HOST_PEER_GIVE_UP_MS 10000u /* sent bytes unacknowledged for so long: the link is dead */

struct host_net;
struct host_dial;
struct host_resolve;

struct host_peer {
    struct host_net *net;
    uint64_t id; /* 0: the place is free */
    char address[ADDRESS_SIZE_MAX + 1];
    uv_timer_t timer;             /* the end of the pause, or of the attempt */
    struct host_dial *dial;       /* the attempt or the connection; NULL: none */
    struct host_resolve *resolve; /* the look-up under way; NULL: none */
    bool is_up;                   /* the core was told so */
    uint64_t pause_ms;            /* the next pause, before its random part */
    uint64_t up_ms;               /* when it came up */
};

struct host_peers {
    struct host_peer list[PEERS_MAX];
    struct prng prng;
    uint32_t lookup_count; /* under way, also of peers that are gone */
};

void host_peers_init(struct host_peers *peers, struct host_net *net, uint64_t seed);
/* Follows the core's list of members, and reports connections that broke. True: something was reported. */
bool host_peers_turn(struct host_peers *peers);
bool host_peers_flushed(const struct host_peers *peers);
uint64_t host_peers_send(struct host_peers *peers, uint64_t id, const uint8_t *data, uint64_t size);
/* Ends the connection; the core is told in the next turn, and the peer dialled again after a pause. */
void host_peers_break(struct host_peers *peers, uint64_t id);
/* Closes every handle without telling the core. A look-up that cannot be cancelled stays in lookup_count. */
void host_peers_close(struct host_peers *peers);

#endif
