/* host_http.h - a small HTTP/1.1 server for health checks, metrics and the status page.
 *
 * GET only, one request on a connection, no body in, everything bounded: HOST_HTTP_REQUEST_MAX bytes of request,
 * HOST_HTTP_CONNECTIONS_MAX connections, HOST_HTTP_TIMEOUT_MS from the first byte in to the last byte out.
 * What is answered comes from one function; this module knows no page. */
#ifndef KV_HOST_HOST_HTTP_H
#define KV_HOST_HOST_HTTP_H

#include <uv.h>

#include "node/host/host_listen.h"
#include "node/host/host_stream.h"
#include "storage/base/bytes.h"
#include "storage/base/list.h"

#define HOST_HTTP_REQUEST_MAX 8192u
#define HOST_HTTP_PATH_MAX 255u
#define HOST_HTTP_CONNECTIONS_MAX 64u
#define HOST_HTTP_TIMEOUT_MS 5000u

/* ---- requests: no input or output ----------------------------------------------------------------------- */

struct host_http_request {
    char path[HOST_HTTP_PATH_MAX + 1]; /* without the query; begins with '/' */
};

/* Reads the head of a request. Returns
 *   OK           it is whole and asks for @request->path
 *   ERR_MORE     a valid beginning
 *   ERR_INVALID  not HTTP/1.0 or 1.1: answer 400
 *   ERR_AGAIN    whole, but not a GET: answer 405
 *   ERR_TOO_BIG  longer than HOST_HTTP_REQUEST_MAX, or its path is too long: answer 431 */
enum err host_http_parse(struct slice input, struct host_http_request *request);

/* ---- the server ----------------------------------------------------------------------------------------- */

struct host_http {
    uv_loop_t *loop;
    struct host_listener listener;
    struct list connections; /* oldest first, which is also the order of their deadlines */
    uint32_t count;
    uint32_t count_max;
    uv_timer_t timer;
    /* Fills @body (empty) and @type with what @path shows; returns the HTTP status, 404 for no such page. */
    int (*answer)(void *context, const char *path, struct buf *body, const char **type);
    void *context;
};

void host_http_init(struct host_http *http, uv_loop_t *loop);
/* Errors as host_listener_open. Nobody is served before answer is set and host_http_turn was called. */
enum err host_http_listen(struct host_http *http, struct config_address *address, char *message);
void host_http_turn(struct host_http *http); /* after each turn: accepts who waits */
void host_http_close(struct host_http *http);

#endif
