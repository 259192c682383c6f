#include "node/host/host_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

#define PEER_UNSENT_SIZE (128u * 1024u) /* of bytes that the kernel takes before it can send them */
#define TRY_SIZE_MAX                                                                               \
    (1u << 20) /* of one attempt: a huge reply must not hold up everybody else's turn */

int host_stream_init(struct host_stream *stream, uv_loop_t *loop,
                     void (*written)(struct host_stream *stream))
{
    stream->copy = NULL;
    stream->is_clogged = false;
    stream->is_broken = false;
    stream->written = written;
    return uv_tcp_init(loop, &stream->tcp);
}

static void on_write(uv_write_t *write, int status)
{
    struct host_stream *stream = write->data;
    mem_free(stream->copy);
    stream->copy = NULL;
    if (uv_is_closing((const uv_handle_t *)&stream->tcp)) return;
    if (status < 0) stream->is_broken = true;
    stream->written(stream);
}

static uv_buf_t buffer_of(const uint8_t *data, uint64_t size)
{
    char *base;
    memcpy(&base, &data,
           sizeof base); /* libuv's buffers are not const; it only reads from this one */
    return uv_buf_init(base, (unsigned)size);
}

uint64_t host_stream_send(struct host_stream *stream, const uint8_t *data, uint64_t size,
                          uint64_t copy_max)
{
    uv_stream_t *socket = (uv_stream_t *)&stream->tcp;
    if (stream->is_broken || size == 0) return size;
    if (host_stream_is_writing(stream)) {
        stream->is_clogged = true;
        return 0;
    }
    uv_buf_t buffer = buffer_of(data, size < TRY_SIZE_MAX ? size : TRY_SIZE_MAX);
    const int taken = uv_try_write(socket, &buffer, 1);
    if (taken < 0 && taken != UV_EAGAIN) {
        stream->is_broken = true;
        return size;
    }
    const uint64_t sent = taken > 0 ? (uint64_t)taken : 0;
    if (sent == size) return size;
    const uint64_t rest = size - sent < copy_max ? size - sent : copy_max;
    stream->copy = mem_copy(data + sent, (size_t)rest);
    stream->write.data = stream;
    buffer = buffer_of(stream->copy, rest);
    if (uv_write(&stream->write, socket, &buffer, 1, on_write) != 0) {
        mem_free(stream->copy);
        stream->copy = NULL;
        stream->is_broken = true;
        return size;
    }
    stream->is_clogged = sent + rest < size;
    return sent + rest;
}

void host_stream_options(struct host_stream *stream, unsigned keepalive_s, unsigned give_up_ms)
{
    int file;
    /* None of these is needed for being right; a socket that refuses one is used without it. */
    (void)uv_tcp_nodelay(&stream->tcp, 1);
    (void)uv_tcp_keepalive(&stream->tcp, 1, keepalive_s);
    if (give_up_ms == 0 || uv_fileno((const uv_handle_t *)&stream->tcp, &file) != 0) return;
    (void)setsockopt(file, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up_ms, sizeof give_up_ms);
    /* What the network cannot take yet stays with us, so that a heartbeat waits for little on a slow one. */
    (void)setsockopt(file, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(unsigned){PEER_UNSENT_SIZE},
                     sizeof(unsigned));
}

void host_stream_finish(struct host_stream *stream)
{
    int file;
    CHECK(!host_stream_is_writing(stream));
    if (uv_fileno((const uv_handle_t *)&stream->tcp, &file) == 0) (void)shutdown(file, SHUT_WR);
}
