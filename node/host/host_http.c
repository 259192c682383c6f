#include "node/host/host_http.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

struct http_connection {
    struct host_stream stream; /* first */
    struct host_http *http;
    uint64_t deadline_ms;
    struct list all;
    struct buf out;     /* the whole response */
    uint64_t sent_size; /* of out */
    bool is_answered;
    bool is_ended;    /* the end was sent; what still comes is thrown away */
    bool is_deserted; /* the client has sent its end */
    uint32_t in_size;
    uint8_t in[HOST_HTTP_REQUEST_MAX];
};

/* ---- requests ------------------------------------------------------------------------------------------- */

/* The end of the head: behind the first empty line. 0: it is not there yet. Bare line feeds count as line ends. */
static uint64_t head_end(struct slice input)
{
    for (uint64_t i = 0; i + 1 < input.size; i++) {
        if (input.data[i] != '\n') continue;
        if (input.data[i + 1] == '\n') return i + 2;
        if (input.data[i + 1] == '\r' && i + 2 < input.size && input.data[i + 2] == '\n') {
            return i + 3;
        }
    }
    return 0;
}

/* The text up to the next @end in @rest; *@rest becomes what follows. False: there is none. */
static bool cut(struct slice *rest, uint8_t end, struct slice *part)
{
    const uint8_t *at = rest->size > 0 ? memchr(rest->data, end, rest->size) : NULL;
    if (at == NULL) return false;
    *part = slice_of(rest->data, (uint64_t)(at - rest->data));
    *rest = slice_of(at + 1, rest->size - part->size - 1);
    return true;
}

static bool is_method(struct slice text)
{
    if (text.size == 0 || text.size > 16) return false;
    for (uint64_t i = 0; i < text.size; i++) {
        if (text.data[i] < 'A' || text.data[i] > 'Z') return false;
    }
    return true;
}

/* @line: "GET /path?query HTTP/1.1", without its end. */
static enum err parse_line(struct slice line, struct host_http_request *request)
{
    struct slice method;
    struct slice target;
    if (line.size > 0 && line.data[line.size - 1] == '\r') line.size--;
    if (!cut(&line, ' ', &method) || !cut(&line, ' ', &target)) return ERR_INVALID;
    if (!is_method(method)) return ERR_INVALID;
    if (!slice_equal(line, slice_text("HTTP/1.1")) && !slice_equal(line, slice_text("HTTP/1.0"))) {
        return ERR_INVALID;
    }
    if (!slice_equal(method, slice_text("GET"))) return ERR_AGAIN;
    if (target.size == 0 || target.data[0] != '/') return ERR_INVALID;
    const uint8_t *query = memchr(target.data, '?', target.size);
    if (query != NULL) target.size = (uint64_t)(query - target.data);
    if (target.size > HOST_HTTP_PATH_MAX) return ERR_TOO_BIG;
    for (uint64_t i = 0; i < target.size; i++) {
        if (target.data[i] <= 0x20 || target.data[i] >= 0x7f) return ERR_INVALID;
    }
    memcpy(request->path, target.data, target.size);
    request->path[target.size] = 0;
    return OK;
}

enum err host_http_parse(struct slice input, struct host_http_request *request)
{
    struct slice line;
    request->path[0] = 0;
    if (input.size > HOST_HTTP_REQUEST_MAX) return ERR_TOO_BIG;
    /* What cannot become a method is refused at once: some other protocol knocks at this port. */
    for (uint64_t i = 0; i < input.size && input.data[i] != ' '; i++) {
        if (!is_method(slice_of(input.data, i + 1))) return ERR_INVALID;
    }
    if (head_end(input) == 0) return input.size < HOST_HTTP_REQUEST_MAX ? ERR_MORE : ERR_TOO_BIG;
    if (!cut(&input, '\n', &line)) return ERR_INVALID;
    return parse_line(line, request);
}

/* ---- connections ---------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct http_connection *connection = handle->data;
    buf_close(&connection->out);
    mem_free(connection);
}

static void close_now(struct http_connection *connection)
{
    if (uv_is_closing((const uv_handle_t *)&connection->stream.tcp)) return;
    list_remove(&connection->all);
    connection->http->count--;
    uv_close((uv_handle_t *)&connection->stream.tcp, on_closed);
}

static void arm(struct host_http *http);

static void on_timer(uv_timer_t *timer)
{
    struct host_http *http = timer->data;
    while (!list_empty(&http->connections)) {
        struct http_connection *first = LIST_ITEM(http->connections.next, struct http_connection,
                                                  all);
        if (first->deadline_ms > uv_now(http->loop)) break;
        close_now(first);
    }
    arm(http);
}

static void arm(struct host_http *http)
{
    if (list_empty(&http->connections)) return;
    const struct http_connection *first = LIST_ITEM(http->connections.next, struct http_connection,
                                                    all);
    const uint64_t now = uv_now(http->loop);
    const uint64_t left = first->deadline_ms > now ? first->deadline_ms - now : 0;
    (void)uv_timer_start(&http->timer, on_timer, left, 0);
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 431: return "Request Header Fields Too Large";
    case 503: return "Service Unavailable";
    default: return "Internal Server Error";
    }
}

static void send_more(struct http_connection *connection)
{
    struct host_stream *stream = &connection->stream;
    const struct buf *out = &connection->out;
    connection->sent_size += host_stream_send(stream, out->data + connection->sent_size,
                                              out->size - connection->sent_size, 65536);
    if (stream->is_broken) {
        close_now(connection);
        return;
    }
    if (connection->sent_size < out->size || host_stream_is_writing(stream)) return;
    if (connection->is_deserted) {
        close_now(connection);
        return;
    }
    connection->is_ended = true; /* The client closes, or the time runs out. */
    host_stream_finish(stream);
}

static void on_written(struct host_stream *stream)
{
    struct http_connection *connection = (struct http_connection *)(void *)stream;
    stream->is_clogged = false;
    send_more(connection);
}

static void respond(struct http_connection *connection, int status, const char *type,
                    struct slice body)
{
    struct buf *out = &connection->out;
    connection->is_answered = true;
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %llu\r\n%s"
               "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
               "Connection: close\r\n\r\n",
               status, reason_of(status), type, (unsigned long long)body.size,
               status == 405 ? "Allow: GET\r\n" : "");
    buf_append(out, body.data, body.size);
    send_more(connection);
}

static void answer(struct http_connection *connection, const char *path)
{
    struct host_http *http = connection->http;
    struct buf body = {0};
    const char *type = "text/plain; charset=utf-8";
    const int status = http->answer(http->context, path, &body, &type);
    if (body.size == 0) buf_printf(&body, "%s\n", reason_of(status));
    respond(connection, status, type, buf_slice(&body));
    buf_close(&body);
}

static void refuse(struct http_connection *connection, int status)
{
    struct buf body = {0};
    buf_printf(&body, "%s\n", reason_of(status));
    respond(connection, status, "text/plain; charset=utf-8", buf_slice(&body));
    buf_close(&body);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct http_connection *connection = handle->data;
    (void)suggested;
    /* What comes behind the request is thrown away; the room is used again for that. */
    if (connection->is_answered) connection->in_size = 0;
    *buffer = uv_buf_init((char *)connection->in + connection->in_size,
                          (unsigned)(sizeof connection->in - connection->in_size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct http_connection *connection = stream->data;
    struct host_http_request request;
    (void)buffer;
    if (size < 0) {
        /* A client that only ended its own half still gets its answer. */
        (void)uv_read_stop(stream);
        connection->is_deserted = true;
        if (!connection->is_answered || connection->is_ended) close_now(connection);
        return;
    }
    if (size == 0 || connection->is_answered) return;
    connection->in_size += (uint32_t)size;
    switch (host_http_parse(slice_of(connection->in, connection->in_size), &request)) {
    case OK: answer(connection, request.path); return;
    case ERR_MORE: return;
    case ERR_AGAIN: refuse(connection, 405); return;
    case ERR_TOO_BIG: refuse(connection, 431); return;
    default: refuse(connection, 400); return;
    }
}

static void accept_one(struct host_listener *listener)
{
    struct host_http *http = listener->owner;
    struct http_connection *connection = mem_zero(sizeof *connection);
    connection->http = http;
    list_init(&connection->all);
    if (host_stream_init(&connection->stream, http->loop, on_written) != 0) {
        mem_free(connection);
        listener->is_waiting = true;
        return;
    }
    connection->stream.tcp.data = connection;
    const bool was_empty = list_empty(&http->connections);
    list_append(&http->connections, &connection->all);
    http->count++;
    connection->deadline_ms = uv_now(http->loop) + HOST_HTTP_TIMEOUT_MS;
    if (was_empty) arm(http);
    const int code = uv_accept((uv_stream_t *)&listener->tcp,
                               (uv_stream_t *)&connection->stream.tcp);
    if (code != 0 || http->count > http->count_max) {
        close_now(connection);
        return;
    }
    (void)uv_read_start((uv_stream_t *)&connection->stream.tcp, on_alloc, on_read);
}

/* ---- life ----------------------------------------------------------------------------------------------- */

void host_http_init(struct host_http *http, uv_loop_t *loop)
{
    *http = (struct host_http){.loop = loop, .count_max = HOST_HTTP_CONNECTIONS_MAX};
    list_init(&http->connections);
    http->listener.accept = accept_one;
    http->listener.owner = http;
    CHECK(uv_timer_init(loop, &http->timer) == 0);
    http->timer.data = http;
}

enum err host_http_listen(struct host_http *http, struct config_address *address, char *message)
{
    return host_listener_open(&http->listener, http->loop, "http", address, message);
}

void host_http_turn(struct host_http *http)
{
    host_listener_turn(&http->listener);
}

void host_http_close(struct host_http *http)
{
    host_listener_close(&http->listener);
    while (!list_empty(&http->connections)) {
        close_now(LIST_ITEM(http->connections.next, struct http_connection, all));
    }
    uv_close((uv_handle_t *)&http->timer, NULL);
}
