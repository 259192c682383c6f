#include "node/host/host_peer.h"

#include "node/config.h"
#include "node/core.h"
#include "node/host/host_log.h"
#include "node/host/host_net.h"
#include "node/host/host_stream.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define KEEPALIVE_S 10u

/* One attempt, and the connection that comes of it. */
struct host_dial {
    struct host_stream stream; /* first */
    uv_connect_t connect;
    struct host_peer *peer; /* NULL: given up, only its closing is awaited */
};

struct host_resolve {
    uv_getaddrinfo_t request;
    struct host_peers *peers;
    struct host_peer *peer; /* NULL: nobody waits for it any more */
};

static void dial(struct host_peer *peer);

/* ---- ending --------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void drop_dial(struct host_peer *peer)
{
    struct host_dial *gone = peer->dial;
    peer->dial = NULL;
    if (gone == NULL) return;
    gone->peer = NULL;
    uv_close((uv_handle_t *)&gone->stream.tcp, on_closed);
}

static void drop_resolve(struct host_peer *peer)
{
    struct host_resolve *gone = peer->resolve;
    peer->resolve = NULL;
    if (gone == NULL) return;
    gone->peer = NULL;
    (void)uv_cancel((uv_req_t *)&gone->request); /* Its callback comes in any case. */
}

static void on_pause_over(uv_timer_t *timer)
{
    dial(timer->data);
}

/* Ends what there is and waits a while before the next attempt. */
static void pause_then_dial(struct host_peer *peer)
{
    struct host_net *net = peer->net;
    drop_dial(peer);
    drop_resolve(peer);
    if (peer->is_up) {
        peer->is_up = false;
        if (uv_now(net->loop) - peer->up_ms >= HOST_GOOD_MS) peer->pause_ms = HOST_PAUSE_MIN_MS;
        core_peer_down(net->core, peer->id);
    }
    const uint64_t half = peer->pause_ms / 2;
    const uint64_t pause = half + prng_below(&net->peers.prng, peer->pause_ms + 1);
    peer->pause_ms *= 2;
    if (peer->pause_ms > HOST_PAUSE_MAX_MS) peer->pause_ms = HOST_PAUSE_MAX_MS;
    (void)uv_timer_start(&peer->timer, on_pause_over, pause, 0);
}

static void on_attempt_over(uv_timer_t *timer)
{
    pause_then_dial(timer->data);
}

/* ---- bytes ---------------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    const struct host_dial *connection = handle->data;
    (void)suggested;
    *buffer = uv_buf_init((char *)connection->peer->net->read_buffer, HOST_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    const struct host_dial *connection = stream->data;
    struct host_peer *peer = connection->peer;
    if (peer == NULL || size == 0) return;
    if (connection->stream.is_broken) return; /* The core has given it up already. */
    if (size < 0) {
        pause_then_dial(peer);
        return;
    }
    core_peer_bytes(peer->net->core, peer->id, (const uint8_t *)buffer->base, (uint64_t)size);
}

static void on_written(struct host_stream *stream)
{
    const struct host_dial *connection = (const struct host_dial *)(const void *)stream;
    struct host_peer *peer = connection->peer;
    if (peer == NULL || stream->is_broken || !stream->is_clogged) return;
    stream->is_clogged = false;
    core_peer_writable(peer->net->core, peer->id);
}

uint64_t host_peers_send(struct host_peers *peers, uint64_t id, const uint8_t *data, uint64_t size)
{
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        const struct host_peer *peer = &peers->list[i];
        if (peer->id != id || !peer->is_up) continue;
        return host_stream_send(&peer->dial->stream, data, size, HOST_COPY_PEER_SIZE);
    }
    return 0;
}

void host_peers_break(struct host_peers *peers, uint64_t id)
{
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        const struct host_peer *peer = &peers->list[i];
        if (peer->id == id && peer->is_up) peer->dial->stream.is_broken = true;
    }
}

/* ---- dialling ------------------------------------------------------------------------------------------- */

/* Dialling a port of our own machine that nobody listens on may pick that very port as ours, and TCP then
 * connects the socket to itself, which keeps the other node from listening there. */
static bool is_own_end(const struct host_dial *attempt)
{
    struct sockaddr_storage near = {0};
    struct sockaddr_storage far = {0};
    int near_size = (int)sizeof near;
    int far_size = (int)sizeof far;
    const uv_tcp_t *tcp = &attempt->stream.tcp;
    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&near, &near_size) != 0) return false;
    if (uv_tcp_getpeername(tcp, (struct sockaddr *)&far, &far_size) != 0) return false;
    return near_size == far_size && memcmp(&near, &far, (size_t)near_size) == 0;
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct host_dial *attempt = connect->data;
    struct host_peer *peer = attempt->peer;
    if (peer == NULL) return;
    if (status == 0 && is_own_end(attempt)) status = UV_ECONNREFUSED;
    if (status < 0) {
        host_log_printf(0, "dialling %s: %s", peer->address, uv_strerror(status));
        pause_then_dial(peer);
        return;
    }
    (void)uv_timer_stop(&peer->timer);
    host_stream_options(&attempt->stream, KEEPALIVE_S, HOST_PEER_GIVE_UP_MS);
    peer->is_up = true;
    peer->up_ms = uv_now(peer->net->loop);
    (void)uv_read_start((uv_stream_t *)&attempt->stream.tcp, on_alloc, on_read);
    core_peer_up(peer->net->core, peer->id);
}

static void dial_address(struct host_peer *peer, const struct sockaddr *address)
{
    struct host_dial *attempt = mem_zero(sizeof *attempt);
    if (host_stream_init(&attempt->stream, peer->net->loop, on_written) != 0) {
        mem_free(attempt);
        pause_then_dial(peer);
        return;
    }
    attempt->stream.tcp.data = attempt;
    attempt->connect.data = attempt;
    attempt->peer = peer;
    peer->dial = attempt;
    if (uv_tcp_connect(&attempt->connect, &attempt->stream.tcp, address, on_connect) != 0) {
        pause_then_dial(peer);
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct host_resolve *resolve = request->data;
    struct host_peer *peer = resolve->peer;
    resolve->peers->lookup_count--;
    if (peer != NULL) {
        peer->resolve = NULL;
        if (status == 0 && found != NULL) {
            dial_address(peer, found->ai_addr);
        } else {
            host_log_printf(0, "looking up %s: %s", peer->address, uv_strerror(status));
            pause_then_dial(peer);
        }
    }
    uv_freeaddrinfo(found);
    mem_free(resolve);
}

static void look_up(struct host_peer *peer, const struct config_address *address)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct buf port = {0};
    struct host_resolve *resolve = mem_zero(sizeof *resolve);
    resolve->peers = &peer->net->peers;
    resolve->peer = peer;
    resolve->request.data = resolve;
    buf_printf(&port, "%u", (unsigned)address->port);
    buf_u8(&port, 0);
    const int code = uv_getaddrinfo(peer->net->loop, &resolve->request, on_resolved, address->host,
                                    (const char *)port.data, &hints);
    buf_close(&port);
    if (code != 0) {
        mem_free(resolve);
        pause_then_dial(peer);
        return;
    }
    peer->resolve = resolve;
    resolve->peers->lookup_count++;
}

static void dial(struct host_peer *peer)
{
    struct config_address address;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    CHECK(peer->dial == NULL);
    CHECK(peer->resolve == NULL);
    if (!config_parse_address(peer->address, &address)) {
        host_log_printf(3, "peer address '%s' is not host:port: never dialled", peer->address);
        return;
    }
    (void)uv_timer_start(&peer->timer, on_attempt_over, HOST_DIAL_MS, 0);
    if (uv_ip4_addr(address.host, address.port, &v4) == 0) {
        dial_address(peer, (const struct sockaddr *)&v4);
    } else if (uv_ip6_addr(address.host, address.port, &v6) == 0) {
        dial_address(peer, (const struct sockaddr *)&v6);
    } else {
        look_up(peer, &address);
    }
}

/* ---- the list of members -------------------------------------------------------------------------------- */

static bool is_member(const struct core *core, const struct host_peer *peer)
{
    for (uint32_t i = 0; i < core_peer_count(core); i++) {
        uint64_t id;
        const char *address;
        core_peer_get(core, i, &id, &address);
        if (id == peer->id) return strcmp(address, peer->address) == 0;
    }
    return false;
}

static void forget(struct host_peer *peer)
{
    drop_dial(peer);
    drop_resolve(peer);
    (void)uv_timer_stop(&peer->timer);
    if (peer->is_up) core_peer_down(peer->net->core, peer->id);
    peer->is_up = false;
    peer->id = 0;
}

static void add(struct host_peers *peers, uint64_t id, const char *address)
{
    struct host_peer *place = NULL;
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        if (peers->list[i].id == id) return;
        if (peers->list[i].id == 0 && place == NULL) place = &peers->list[i];
    }
    CHECK(place != NULL);
    place->id = id;
    memcpy(place->address, address, strlen(address) + 1);
    place->pause_ms = HOST_PAUSE_MIN_MS;
    dial(place);
}

bool host_peers_turn(struct host_peers *peers)
{
    struct core *core = peers->list[0].net->core;
    bool reported = false;
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        struct host_peer *peer = &peers->list[i];
        if (peer->id == 0) continue;
        if (!is_member(core, peer)) {
            forget(peer);
            reported = true;
        } else if (peer->is_up && peer->dial->stream.is_broken) {
            pause_then_dial(peer);
            reported = true;
        }
    }
    for (uint32_t i = 0; i < core_peer_count(core); i++) {
        uint64_t id;
        const char *address;
        core_peer_get(core, i, &id, &address);
        add(peers, id, address);
    }
    return reported;
}

bool host_peers_flushed(const struct host_peers *peers)
{
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        const struct host_peer *peer = &peers->list[i];
        if (peer->is_up && host_stream_is_writing(&peer->dial->stream)) return false;
    }
    return true;
}

void host_peers_init(struct host_peers *peers, struct host_net *net, uint64_t seed)
{
    *peers = (struct host_peers){.prng = prng_seed(seed)};
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        struct host_peer *peer = &peers->list[i];
        peer->net = net;
        CHECK(uv_timer_init(net->loop, &peer->timer) == 0);
        peer->timer.data = peer;
    }
}

void host_peers_close(struct host_peers *peers)
{
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        struct host_peer *peer = &peers->list[i];
        drop_dial(peer);
        drop_resolve(peer);
        peer->is_up = false;
        uv_close((uv_handle_t *)&peer->timer, NULL);
    }
}
