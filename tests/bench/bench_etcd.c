/* etcd's v3 API: gRPC over HTTP/2 without TLS. Only Put and Range are needed, so their messages are coded here:
 * a message is a byte 0, its length in four bytes, and the protocol buffer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"

#ifdef KV_NGHTTP2
#include <nghttp2/nghttp2.h>

#define MESSAGE_HEAD 5u
#define REQUEST_ROOM 64u /* a message without its value */

/* A request and the HTTP/2 stream that carries it. */
struct stream {
    uint64_t sent_ns;
    enum bench_operation kind;
    uint32_t size;     /* of the message */
    uint32_t sent;     /* bytes of it that are on their way */
    uint32_t received; /* bytes of the answer */
    int grpc_status;   /* -1: did not come yet */
    bool bad_http;     /* :status was not 200 */
    uint8_t *message;
    struct stream *next_free;
};

struct bench_etcd {
    nghttp2_session *session;
    struct bench *bench;
    struct stream *streams;
    uint8_t *messages;
    struct stream *free;
    char authority[300];
};

bool bench_etcd_available(void)
{
    return true;
}

/* ---- what the library calls --------------------------------------------------------------------------------- */

static ssize_t read_message(nghttp2_session *session, int32_t stream_id, uint8_t *data, size_t size,
                            uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)session, (void)stream_id, (void)context;
    struct stream *stream = source->ptr;
    size_t count = stream->size - stream->sent;
    if (count > size) count = size;
    memcpy(data, stream->message + stream->sent, count);
    stream->sent += (uint32_t)count;
    if (stream->sent == stream->size) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)count;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags;
    struct bench_conn *conn = context;
    struct bench *bench = conn->etcd->bench;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL) return 0;
    if (name_size == 7 && memcmp(name, ":status", 7) == 0) {
        stream->bad_http = value_size != 3 || memcmp(value, "200", 3) != 0;
    } else if (name_size == 11 && memcmp(name, "grpc-status", 11) == 0) {
        stream->grpc_status = value_size == 1 && value[0] == '0' ? 0 : 1;
    } else if (name_size == 12 && memcmp(name, "grpc-message", 12) == 0 && value_size > 0 &&
               bench->first_error[0] == '\0') {
        snprintf(bench->first_error, BENCH_ERROR_SIZE, "%.*s", (int)value_size,
                 (const char *)value);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags, (void)data, (void)context;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    if (stream != NULL) stream->received += (uint32_t)size;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *context)
{
    static const char failed[] = "the request ended without success";
    struct bench_conn *conn = context;
    struct bench *bench = conn->etcd->bench;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    if (stream == NULL) return 0;
    enum bench_outcome outcome = BENCH_SUCCESS;
    if (error_code != NGHTTP2_NO_ERROR || stream->grpc_status != 0 || stream->bad_http) {
        outcome = BENCH_ERROR;
    } else if (stream->kind == BENCH_GET && stream->received < bench->options.value_size) {
        outcome = BENCH_MISS; /* The answer has no room for a value: the key was not found. */
    }
    bench_complete(bench, conn, stream->sent_ns, outcome, failed, sizeof failed - 1);
    stream->next_free = conn->etcd->free;
    conn->etcd->free = stream;
    return 0;
}

/* ---- the calls ------------------------------------------------------------------------------------------------ */

static void open_session(struct bench_conn *conn)
{
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) bench_die("out of memory");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    if (nghttp2_session_client_new(&conn->etcd->session, callbacks, conn) != 0) {
        bench_die("out of memory");
    }
    nghttp2_session_callbacks_del(callbacks);
    /* Wide windows: flow control never holds an answer back. */
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 16u * 1024u * 1024u},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    int status = nghttp2_submit_settings(conn->etcd->session, NGHTTP2_FLAG_NONE, settings, 2);
    if (status == 0) {
        status = nghttp2_session_set_local_window_size(conn->etcd->session, NGHTTP2_FLAG_NONE, 0,
                                                       1 << 30);
    }
    if (status != 0) bench_die("HTTP/2: %s", nghttp2_strerror(status));
}

void bench_etcd_open_conn(struct bench *bench, struct bench_conn *conn)
{
    struct bench_etcd *etcd = calloc(1, sizeof *etcd);
    const size_t room = REQUEST_ROOM + bench->options.value_size;
    if (etcd == NULL) bench_die("out of memory");
    etcd->bench = bench;
    etcd->streams = calloc(conn->inflight_max, sizeof *etcd->streams);
    etcd->messages = malloc(conn->inflight_max * room);
    if (etcd->streams == NULL || etcd->messages == NULL) bench_die("out of memory");
    for (uint32_t i = 0; i < conn->inflight_max; i++) {
        etcd->streams[i].message = etcd->messages + i * room;
        etcd->streams[i].next_free = etcd->free;
        etcd->free = &etcd->streams[i];
    }
    const uint32_t at = (uint32_t)(conn - bench->conns) % bench->options.target_count;
    const struct bench_target *target = &bench->options.targets[at];
    snprintf(etcd->authority, sizeof etcd->authority, "%s:%s", target->host, target->port);
    conn->etcd = etcd;
    open_session(conn);
}

static uint8_t *put_varint(uint8_t *at, uint32_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static void build_message(struct bench *bench, struct stream *stream, uint32_t key)
{
    uint8_t *at = stream->message + MESSAGE_HEAD;
    *at++ = 1 << 3 | 2; /* key, in both requests */
    at = put_varint(at, BENCH_KEY_SIZE);
    memcpy(at, "key:", 4);
    bench_digits(at + 4, key);
    at += BENCH_KEY_SIZE;
    /* A RangeRequest with the key alone is a linearizable read of it: serializable is false unless set. */
    if (stream->kind == BENCH_SET) {
        *at++ = 2 << 3 | 2; /* PutRequest.value */
        at = put_varint(at, bench->options.value_size);
        memcpy(at, bench_value(bench), bench->options.value_size);
        at += bench->options.value_size;
    }
    const uint32_t size = (uint32_t)(at - stream->message) - MESSAGE_HEAD;
    stream->message[0] = 0;
    for (uint32_t i = 0; i < 4; i++) stream->message[1 + i] = (uint8_t)(size >> (24 - 8 * i));
    stream->size = MESSAGE_HEAD + size;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

void bench_etcd_issue(struct bench *bench, struct bench_conn *conn)
{
    struct stream *stream = conn->etcd->free;
    uint32_t key;
    conn->etcd->free = stream->next_free;
    stream->kind = bench_pick(bench, &key);
    stream->sent_ns = bench->now_ns;
    stream->sent = stream->received = 0;
    stream->grpc_status = -1;
    stream->bad_http = false;
    build_message(bench, stream, key);
    const nghttp2_nv headers[] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path",
               stream->kind == BENCH_SET ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range"),
        header(":authority", conn->etcd->authority),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
        header("user-agent", "kvbench"),
    };
    const nghttp2_data_provider body = {{.ptr = stream}, read_message};
    const int32_t id = nghttp2_submit_request(conn->etcd->session, NULL, headers,
                                              sizeof headers / sizeof headers[0], &body, stream);
    if (id < 0) bench_die("HTTP/2: %s", nghttp2_strerror(id));
}

void bench_etcd_flush(struct bench_conn *conn)
{
    for (;;) {
        const uint8_t *data;
        const ssize_t size = nghttp2_session_mem_send(conn->etcd->session, &data);
        if (size < 0) bench_die("HTTP/2: %s", nghttp2_strerror((int)size));
        if (size == 0) return;
        bench_bytes_put(&conn->out, data, (size_t)size);
    }
}

void bench_etcd_take(struct bench *bench, struct bench_conn *conn, const uint8_t *data, size_t size)
{
    const ssize_t used = nghttp2_session_mem_recv(conn->etcd->session, data, size);
    if (used < 0) bench_die("HTTP/2: %s", nghttp2_strerror((int)used));
    if (!nghttp2_session_want_read(conn->etcd->session)) {
        bench_die("the server ended the connection%s%s", bench->first_error[0] ? " after: " : "",
                  bench->first_error);
    }
}

void bench_etcd_close_conn(struct bench_conn *conn)
{
    nghttp2_session_del(conn->etcd->session);
    free(conn->etcd->messages);
    free(conn->etcd->streams);
    free(conn->etcd);
    conn->etcd = NULL;
}

#else /* Without libnghttp2 only Redis servers can be measured; the options refuse etcd before any of this is called. */

bool bench_etcd_available(void)
{
    return false;
}

static _Noreturn void refuse(void)
{
    bench_die("built without libnghttp2: --protocol etcd is not available");
}

void bench_etcd_open_conn(struct bench *bench, struct bench_conn *conn)
{
    (void)bench, (void)conn;
    refuse();
}

void bench_etcd_issue(struct bench *bench, struct bench_conn *conn)
{
    (void)bench, (void)conn;
    refuse();
}

void bench_etcd_take(struct bench *bench, struct bench_conn *conn, const uint8_t *data, size_t size)
{
    (void)bench, (void)conn, (void)data, (void)size;
    refuse();
}

void bench_etcd_flush(struct bench_conn *conn)
{
    (void)conn;
    refuse();
}

void bench_etcd_close_conn(struct bench_conn *conn)
{
    (void)conn;
    refuse();
}

#endif
