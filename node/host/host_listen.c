#include "node/host/host_listen.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/host/host_log.h"
#include "storage/base/check.h"

#define BACKLOG 1024
#define MESSAGE_SIZE 512u
/* A process that was just killed keeps its ports until the kernel has taken all of it apart. */
#define WAIT_MS 3000u
#define WAIT_STEP_MS 20u

static void take_spare(struct host_listener *listener)
{
    if (listener->spare < 0) listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void drop_spare(struct host_listener *listener)
{
    if (listener->spare >= 0) (void)close(listener->spare);
    listener->spare = -1;
}

/* No handle is left, and libuv's spare one is lost: it asks and calls us until the kernel says that nobody
 * waits, and the kernel says so only while a handle is free. So one is free when we return. */
static void refuse_all(struct host_listener *listener)
{
    struct pollfd socket = {.events = POLLIN};
    int accepted = 0;
    if (listener->spare >= 0) {
        drop_spare(listener);
    } else if (listener->give_way != NULL) {
        listener->give_way(listener);
    } else {
        (void)usleep(
            1000); /* Whoever holds one for a moment needs the processor to be done with it. */
    }
    if (uv_fileno((uv_handle_t *)&listener->tcp, &socket.fd) != 0) return;
    while (accepted >= 0 && poll(&socket, 1, 0) > 0) {
        accepted = accept4(socket.fd, NULL, NULL, SOCK_CLOEXEC);
        if (accepted >= 0) (void)close(accepted);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    struct host_listener *listener = server->data;
    if (status == UV_EMFILE || status == UV_ENFILE) refuse_all(listener);
    if (status < 0) return; /* It was gone before we came. */
    if (listener->budget == 0) {
        listener->is_waiting = true;
        return;
    }
    listener->budget--;
    listener->accept(listener);
}

void host_listener_turn(struct host_listener *listener)
{
    if (!listener->is_open) return;
    listener->budget = HOST_ACCEPT_MAX;
    take_spare(listener);
    if (!listener->is_waiting) return;
    listener->is_waiting = false;
    listener->budget--;
    listener->accept(listener);
}

static int try_bind(struct host_listener *listener, uv_loop_t *loop, const struct sockaddr *address)
{
    int code = uv_tcp_init(loop, &listener->tcp);
    if (code != 0) return code;
    listener->tcp.data = listener;
    code = uv_tcp_bind(&listener->tcp, address, 0);
    if (code == 0) code = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    if (code == 0) return 0;
    uv_close((uv_handle_t *)&listener->tcp, NULL);
    (void)uv_run(loop,
                 UV_RUN_NOWAIT); /* Completes the closing, so that the handle can be used again. */
    return code;
}

/* Binds to the first address that @address stands for and that works. */
static int bind_any(struct host_listener *listener, uv_loop_t *loop,
                    const struct config_address *address)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", (unsigned)address->port);
    const bool all = strcmp(address->host, "::") == 0;
    if (getaddrinfo(address->host, port, &hints, &found) != 0) return UV_EADDRNOTAVAIL;
    int code = UV_EADDRNOTAVAIL;
    for (const struct addrinfo *at = found; at != NULL && code != 0; at = at->ai_next) {
        code = try_bind(listener, loop, at->ai_addr);
    }
    freeaddrinfo(found);
    /* A machine without IPv6 has no "all addresses" of that kind. */
    if (all && (code == UV_EAFNOSUPPORT || code == UV_EADDRNOTAVAIL || code == UV_EINVAL)) {
        struct sockaddr_in any;
        if (uv_ip4_addr("0.0.0.0", address->port, &any) != 0) return code;
        code = try_bind(listener, loop, (const struct sockaddr *)&any);
    }
    return code;
}

static enum err explain(int code, const char *option, const struct config_address *address,
                        char *message)
{
    const char *host = address->host;
    const unsigned port = address->port;
    const char *open = strchr(host, ':') != NULL ? "[" : "";
    const char *close = open[0] != 0 ? "]" : "";
    switch (code) {
    case UV_EADDRINUSE:
        (void)snprintf(
            message, MESSAGE_SIZE,
            "%s: %s%s%s:%u is in use by another program: stop it, or choose another port", option,
            open, host, close, port);
        return ERR_IN_USE;
    case UV_EACCES:
    case UV_EPERM:
        (void)snprintf(message, MESSAGE_SIZE,
                       "%s: this process may not listen on %s%s%s:%u: choose a port above 1023",
                       option, open, host, close, port);
        return ERR_PERMISSION;
    case UV_EADDRNOTAVAIL:
        (void)snprintf(message, MESSAGE_SIZE,
                       "%s: '%s' is no address of this machine: give one that is, or :%u for all",
                       option, host, port);
        return ERR_INVALID;
    default:
        (void)snprintf(message, MESSAGE_SIZE, "%s: cannot listen on %s%s%s:%u: %s", option, open,
                       host, close, port, uv_strerror(code));
        return ERR_IO;
    }
}

enum err host_listener_open(struct host_listener *listener, uv_loop_t *loop, const char *option,
                            struct config_address *address, char *message)
{
    CHECK(!listener->is_open);
    CHECK(listener->accept != NULL);
    if (address->host[0] == 0) return OK;
    int code = bind_any(listener, loop, address);
    if (code == UV_EADDRINUSE) {
        host_log_printf(2,
                        "%s: port %u is in use, perhaps by the process before this one: waiting up "
                        "to %u s for it",
                        option, (unsigned)address->port, WAIT_MS / 1000);
    }
    for (uint32_t i = 0; code == UV_EADDRINUSE && i < WAIT_MS / WAIT_STEP_MS; i++) {
        uv_sleep(WAIT_STEP_MS);
        code = bind_any(listener, loop, address);
    }
    if (code != 0) return explain(code, option, address, message);
    struct sockaddr_storage bound;
    int size = (int)sizeof bound;
    if (uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&bound, &size) == 0) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&bound;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&bound;
        address->port = ntohs(bound.ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
    }
    listener->is_open = true;
    listener->spare = -1;
    take_spare(listener);
    listener->budget = 0; /* until the first host_listener_turn() */
    return OK;
}

void host_listener_close(struct host_listener *listener)
{
    if (!listener->is_open) return;
    listener->is_open = false;
    drop_spare(listener);
    uv_close((uv_handle_t *)&listener->tcp, NULL);
}
