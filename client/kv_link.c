#include "client/kv_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT_DEFAULT "6379"
#define PORT_SIZE 6u /* "65535" and its zero byte */

int64_t kv_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool port_parse(const char *text, char *port)
{
    uint32_t number = 0;
    const size_t size = strlen(text);
    if (size == 0 || size >= PORT_SIZE) return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        number = number * 10 + (uint32_t)(text[i] - '0');
    }
    if (number == 0 || number > 65535) return false;
    memcpy(port, text, size + 1);
    return true;
}

bool kv_address_parse(const char *address, char *host, char *port)
{
    const char *begin = address;
    const char *end = NULL;
    const char *colon = NULL;
    if (strlen(address) >= KV_ADDRESS_SIZE) return false;
    if (*address == '[') {
        begin = address + 1;
        end = strchr(begin, ']');
        if (end == NULL) return false;
        if (end[1] == ':') {
            colon = end + 1;
        } else if (end[1] != 0) {
            return false;
        }
    } else {
        colon = strchr(address, ':');
        end = colon != NULL ? colon : address + strlen(address);
        if (colon != NULL && strchr(colon + 1, ':') != NULL) return false; /* v6 wants brackets */
    }
    if (end == begin) return false;
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = 0;
    return port_parse(colon != NULL ? colon + 1 : PORT_DEFAULT, port);
}

enum kv_link_status kv_link_wait(const struct kv_link *link, short events, int64_t deadline_ms)
{
    while (true) {
        struct pollfd slot = {.fd = link->fd, .events = events};
        const int64_t left = deadline_ms - kv_now_ms();
        const int wait = left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
        const int ready = poll(&slot, 1, wait);
        if (ready > 0)
            return KV_LINK_OK; /* An error is ready too: the next read or write tells it. */
        if (ready == 0 && left <= wait) return KV_LINK_TIMEOUT;
        if (ready < 0 && errno != EINTR && errno != EAGAIN) return KV_LINK_TIMEOUT;
    }
}

static enum kv_link_status verdict_of(int error)
{
    if (error == 0) return KV_LINK_OK;
    if (error == EINPROGRESS || error == EINTR) return KV_LINK_TIMEOUT;
    return error == ECONNREFUSED ? KV_LINK_NOBODY : KV_LINK_LOST;
}

enum kv_link_status kv_link_dial(struct kv_link *link, const struct sockaddr *target,
                                 socklen_t size, int *error)
{
    const int one = 1;
    link->fd = socket(target->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0) {
        *error = errno;
        return KV_LINK_LOST;
    }
    /* Commands are small and answered at once: waiting for more bytes to send would only cost time. */
    (void)setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(link->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    *error = connect(link->fd, target, size) == 0 ? 0 : errno;
    return verdict_of(*error);
}

enum kv_link_status kv_link_dialled(const struct kv_link *link, int *error)
{
    socklen_t size = sizeof *error;
    *error = 0;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, error, &size) != 0) *error = errno;
    return verdict_of(*error);
}

static enum kv_link_status connect_to(struct kv_link *link, const struct addrinfo *target,
                                      int64_t deadline_ms, int *error)
{
    const enum kv_link_status status = kv_link_dial(link, target->ai_addr, target->ai_addrlen,
                                                    error);
    if (status != KV_LINK_TIMEOUT) return status;
    if (kv_link_wait(link, POLLOUT, deadline_ms) != KV_LINK_OK) {
        *error = ETIMEDOUT;
        return KV_LINK_TIMEOUT;
    }
    return kv_link_dialled(link, error);
}

bool kv_link_numeric(const char *host, const char *port, struct addrinfo **found)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    return getaddrinfo(host, port, &hints, found) == 0;
}

/* A number is taken as it is; only a name goes to the resolver. */
static int look_up(const char *host, const char *port, struct addrinfo **found)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    return kv_link_numeric(host, port, found) ? 0 : getaddrinfo(host, port, &hints, found);
}

enum kv_link_status kv_link_open(struct kv_link *link, const char *address, int64_t deadline_ms,
                                 char *why)
{
    char host[KV_ADDRESS_SIZE];
    char port[PORT_SIZE];
    struct addrinfo *found = NULL;
    enum kv_link_status status = KV_LINK_NOBODY;
    int error = 0;
    link->fd = -1;
    if (!kv_address_parse(address, host, port)) {
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s is not host:port", address);
        return KV_LINK_NOBODY;
    }
    const int missed = look_up(host, port, &found);
    if (missed != 0) {
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s: %s", address, gai_strerror(missed));
        return KV_LINK_NOBODY;
    }
    for (const struct addrinfo *target = found; target != NULL; target = target->ai_next) {
        status = connect_to(link, target, deadline_ms, &error);
        if (status == KV_LINK_OK) break;
        kv_link_close(link);
        if (status == KV_LINK_TIMEOUT) break;
    }
    freeaddrinfo(found);
    if (status == KV_LINK_OK) {
        (void)snprintf(link->address, sizeof link->address, "%s", address);
    } else {
        char text[128];
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s: %s", address,
                       strerror_r(error, text, sizeof text));
    }
    return status;
}

void kv_link_close(struct kv_link *link)
{
    if (link->fd >= 0) (void)close(link->fd);
    link->fd = -1;
    link->address[0] = 0;
}

bool kv_link_alive(const struct kv_link *link)
{
    char byte;
    return recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}
