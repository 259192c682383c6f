#include "node/host/host_net.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "node/host/host_log.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define KEEPALIVE_S 60u

static struct host_connection *connection_of(struct host_stream *stream)
{
    return (struct host_connection *)(void *)stream;
}

/* ---- closing -------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void close_now(struct host_connection *connection)
{
    struct host_net *net = connection->net;
    if (uv_is_closing((const uv_handle_t *)&connection->stream.tcp)) return;
    if (connection->linger_ms != 0) net->closing_count--;
    list_remove(&connection->all);
    list_remove(&connection->broken);
    uv_close((uv_handle_t *)&connection->stream.tcp, on_closed);
}

/* Tells the core that the connection is gone, unless it knows. */
static void report_closed(struct host_connection *connection)
{
    void *session = connection->session;
    connection->session = NULL;
    if (session == NULL) return;
    if (connection->face == HOST_FACE_LINK) {
        core_link_closed(connection->net->core, session);
    } else {
        core_client_closed(connection->net->core, session);
    }
}

static void arm_linger(struct host_net *net);

static void on_linger(uv_timer_t *timer)
{
    struct host_net *net = timer->data;
    const uint64_t now = uv_now(net->loop);
    while (!list_empty(&net->closing)) {
        struct host_connection *first = LIST_ITEM(net->closing.next, struct host_connection, all);
        if (first->linger_ms > now) break;
        close_now(first);
    }
    arm_linger(net);
}

static void arm_linger(struct host_net *net)
{
    if (list_empty(&net->closing)) return;
    const struct host_connection *first = LIST_ITEM(net->closing.next, struct host_connection, all);
    const uint64_t now = uv_now(net->loop);
    const uint64_t left = first->linger_ms > now ? first->linger_ms - now : 0;
    (void)uv_timer_start(&net->linger_timer, on_linger, left, 0);
}

static void start_reading(struct host_connection *connection);

static void send_end(struct host_connection *connection)
{
    connection->is_lingering = true;
    host_stream_finish(&connection->stream);
    if (!connection->is_paused) return;
    connection->is_paused = false; /* What comes is thrown away, but its end has to be seen. */
    start_reading(connection);
}

/* The core is done with it: what was accepted is sent, then it goes. */
static void close_gently(struct host_connection *connection)
{
    struct host_net *net = connection->net;
    connection->session = NULL;
    if (connection->stream.is_broken || net->closing_count >= net->closing_max) {
        close_now(connection);
        return;
    }
    const bool first = list_empty(&net->closing);
    connection->linger_ms = uv_now(net->loop) + HOST_LINGER_MS;
    net->closing_count++;
    list_remove(&connection->all);
    list_append(&net->closing, &connection->all);
    if (first) arm_linger(net);
    if (!host_stream_is_writing(&connection->stream)) send_end(connection);
}

/* ---- bytes in ------------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct host_connection *connection = handle->data;
    const bool is_link = connection->face == HOST_FACE_LINK;
    struct host_net *net = connection->net;
    const uint64_t left = is_link ? net->read_peers_left : net->read_clients_left;
    unsigned size = is_link ? HOST_READ_SIZE : HOST_READ_CLIENT_SIZE;
    if (left == 0) size = connection->read_turn == net->turn ? 0 : HOST_READ_LATE_SIZE;
    connection->read_turn = net->turn;
    (void)suggested;
    *buffer = uv_buf_init((char *)net->read_buffer, size);
}

static void note_read(struct host_connection *connection, uint64_t size)
{
    struct host_net *net = connection->net;
    uint64_t *left = connection->face == HOST_FACE_LINK ? &net->read_peers_left
                                                        : &net->read_clients_left;
    *left -= size < *left ? size : *left;
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct host_connection *connection = stream->data;
    struct host_net *net = connection->net;
    if (size == UV_ENOBUFS) return; /* on_alloc(): more of it in the next turn. */
    if (size > 0) note_read(connection, (uint64_t)size);
    if (size == UV_EOF && connection->session != NULL && connection->face != HOST_FACE_LINK) {
        core_client_eof(net->core, connection->session);
        return;
    }
    if (size < 0) {
        report_closed(connection);
        close_now(connection);
        return;
    }
    if (size == 0 || connection->session == NULL) return;
    const uint8_t *data = (const uint8_t *)buffer->base;
    if (connection->face == HOST_FACE_LINK) {
        core_link_bytes(net->core, connection->session, data, (uint64_t)size);
    } else {
        core_client_bytes(net->core, connection->session, data, (uint64_t)size);
    }
}

static void start_reading(struct host_connection *connection)
{
    (void)uv_read_start((uv_stream_t *)&connection->stream.tcp, on_alloc, on_read);
}

/* ---- the interface -------------------------------------------------------------------------------------- */

static void note_broken(struct host_connection *connection)
{
    if (!connection->stream.is_broken || !list_empty(&connection->broken)) return;
    list_append(&connection->net->broken, &connection->broken);
}

static uint64_t net_send(void *context, void *pointer, const uint8_t *data, uint64_t size)
{
    struct host_connection *connection = pointer;
    const bool is_link = connection->face == HOST_FACE_LINK;
    (void)context;
    const uint64_t taken = host_stream_send(&connection->stream, data, size,
                                            is_link ? HOST_COPY_PEER_SIZE : HOST_COPY_CLIENT_SIZE);
    note_broken(connection);
    return taken;
}

static void net_pause(void *context, void *pointer, bool paused)
{
    struct host_connection *connection = pointer;
    (void)context;
    if (connection->is_paused == paused) return;
    connection->is_paused = paused;
    if (paused) {
        (void)uv_read_stop((uv_stream_t *)&connection->stream.tcp);
    } else {
        start_reading(connection);
    }
}

static void net_close(void *context, void *pointer)
{
    (void)context;
    close_gently(pointer);
}

static uint64_t net_peer_send(void *context, uint64_t node_id, const uint8_t *data, uint64_t size)
{
    struct host_net *net = context;
    return host_peers_send(&net->peers, node_id, data, size);
}

static void net_peer_close(void *context, uint64_t node_id)
{
    struct host_net *net = context;
    host_peers_break(&net->peers, node_id);
}

static void net_log(void *context, int level, const char *line)
{
    (void)context;
    host_log_line(level, line);
}

static void net_process(void *context, struct net_process *process)
{
    (void)context;
    struct rusage usage;
    size_t resident = 0;
    *process = (struct net_process){.id = (uint64_t)getpid()};
    if (uv_resident_set_memory(&resident) == 0) process->resident_size = resident;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return;
    process->user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec;
    process->system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000 +
                         (uint64_t)usage.ru_stime.tv_usec;
}

static void net_log_level(void *context, int level)
{
    struct host_net *net = context;
    net->config->log_level = (enum config_log_level)level;
    host_log_level(level);
}

static void on_written(struct host_stream *stream)
{
    struct host_connection *connection = connection_of(stream);
    if (stream->is_broken) {
        note_broken(connection);
        if (connection->session == NULL) close_now(connection);
        return;
    }
    if (connection->session == NULL) {
        if (connection->linger_ms != 0 && !connection->is_lingering) send_end(connection);
        return;
    }
    if (!stream->is_clogged) return;
    stream->is_clogged = false;
    if (connection->face != HOST_FACE_LINK) {
        core_client_writable(connection->net->core, connection->session);
    }
}

/* ---- accepting ------------------------------------------------------------------------------------------ */

/* "address:port" of the other side. */
static void name_of(const struct host_connection *connection, char *text, size_t size)
{
    struct sockaddr_storage address;
    char host[64] = "?";
    int address_size = (int)sizeof address;
    unsigned port = 0;
    if (uv_tcp_getpeername(&connection->stream.tcp, (struct sockaddr *)&address, &address_size) !=
        0) {
        (void)snprintf(text, size, "?");
        return;
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        (void)uv_ip6_name(v6, host, sizeof host);
        port = ntohs(v6->sin6_port);
        (void)snprintf(text, size, "[%s]:%u", host, port);
        return;
    }
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    (void)uv_ip4_name(v4, host, sizeof host);
    port = ntohs(v4->sin_port);
    (void)snprintf(text, size, "%s:%u", host, port);
}

static void accept_one(struct host_listener *listener)
{
    struct host_net *net = listener->owner;
    struct host_connection *connection = mem_zero(sizeof *connection);
    char address[96];
    connection->net = net;
    connection->face = (enum host_face)(listener - net->listeners);
    list_init(&connection->all);
    list_init(&connection->broken);
    if (host_stream_init(&connection->stream, net->loop, on_written) != 0) {
        mem_free(connection);
        listener->is_waiting =
            true; /* libuv waits for us to take it: try again in the next turn. */
        return;
    }
    connection->stream.tcp.data = connection;
    const bool is_link = connection->face == HOST_FACE_LINK;
    if (uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&connection->stream.tcp) != 0) {
        close_now(connection);
        return;
    }
    host_stream_options(&connection->stream, KEEPALIVE_S, is_link ? HOST_PEER_GIVE_UP_MS : 0);
    list_append(&net->open, &connection->all);
    if (is_link) {
        connection->session = core_link_open(net->core, connection);
    } else {
        const enum core_face face = connection->face == HOST_FACE_CLUSTER ? CORE_FACE_CLUSTER
                                                                          : CORE_FACE_CLIENT;
        name_of(connection, address, sizeof address);
        connection->session = core_client_open(net->core, connection, face, address);
    }
    start_reading(connection);
    if (connection->session == NULL) close_gently(connection);
}

/* The youngest client goes. */
static void give_way(struct host_listener *listener)
{
    struct host_net *net = listener->owner;
    for (struct list *at = net->open.prev; at != &net->open; at = at->prev) {
        struct host_connection *connection = LIST_ITEM(at, struct host_connection, all);
        if (connection->face == HOST_FACE_LINK) continue;
        report_closed(connection);
        close_now(connection);
        return;
    }
}

/* ---- life ----------------------------------------------------------------------------------------------- */

void host_net_init(struct host_net *net, uv_loop_t *loop, uint64_t seed)
{
    *net = (struct host_net){
        .net =
            {
                .context = net,
                .client_send = net_send,
                .client_pause = net_pause,
                .client_close = net_close,
                .peer_send = net_peer_send,
                .peer_close = net_peer_close,
                .link_send = net_send,
                .link_close = net_close,
                .log = net_log,
                .log_level = net_log_level,
                .process = net_process,
            },
        .loop = loop,
    };
    list_init(&net->open);
    list_init(&net->closing);
    list_init(&net->broken);
    net->read_buffer = mem_alloc(HOST_READ_SIZE);
    CHECK(uv_timer_init(loop, &net->linger_timer) == 0);
    net->linger_timer.data = net;
    for (uint32_t i = 0; i < HOST_FACE_COUNT; i++) {
        net->listeners[i].accept = accept_one;
        net->listeners[i].give_way = give_way;
        net->listeners[i].owner = net;
    }
    host_peers_init(&net->peers, net, seed);
}

enum err host_net_listen(struct host_net *net, struct config *config, char *message)
{
    struct host_listener *listeners = net->listeners;
    net->config = config;
    enum err err = host_listener_open(&listeners[HOST_FACE_CLIENT], net->loop, "client",
                                      &config->client, message);
    if (err != OK) return err;
    err = host_listener_open(&listeners[HOST_FACE_CLUSTER], net->loop, "cluster-client",
                             &config->cluster_client, message);
    if (err != OK) return err;
    return host_listener_open(&listeners[HOST_FACE_LINK], net->loop, "peer", &config->peer,
                              message);
}

void host_net_start(struct host_net *net, struct core *core, uint32_t closing_max)
{
    net->core = core;
    net->closing_max = closing_max;
}

bool host_net_turn(struct host_net *net)
{
    bool reported = host_peers_turn(&net->peers);
    net->turn++;
    net->read_clients_left = HOST_TURN_SIZE;
    net->read_peers_left = HOST_TURN_SIZE;
    while (!list_empty(&net->broken)) {
        struct host_connection *connection = LIST_ITEM(net->broken.next, struct host_connection,
                                                       broken);
        list_remove(&connection->broken);
        report_closed(connection);
        close_now(connection);
        reported = true;
    }
    for (uint32_t i = 0; i < HOST_FACE_COUNT; i++) host_listener_turn(&net->listeners[i]);
    return reported;
}

bool host_net_flushed(const struct host_net *net)
{
    for (const struct list *at = net->closing.next; at != &net->closing; at = at->next) {
        const struct host_connection *connection = LIST_ITEM(at, const struct host_connection, all);
        if (host_stream_is_writing(&connection->stream)) return false;
    }
    return host_peers_flushed(&net->peers);
}

void host_net_close(struct host_net *net)
{
    for (uint32_t i = 0; i < HOST_FACE_COUNT; i++) host_listener_close(&net->listeners[i]);
    while (!list_empty(&net->open)) {
        close_now(LIST_ITEM(net->open.next, struct host_connection, all));
    }
    while (!list_empty(&net->closing)) {
        close_now(LIST_ITEM(net->closing.next, struct host_connection, all));
    }
    uv_close((uv_handle_t *)&net->linger_timer, NULL);
    host_peers_close(&net->peers);
}

void host_net_free(struct host_net *net)
{
    mem_free(net->read_buffer);
    net->read_buffer = NULL;
}
