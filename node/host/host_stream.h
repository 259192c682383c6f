/* host_stream.h - the sending half of a TCP connection, shared by clients, peers and HTTP.
 *
 * Sending tries the socket at once; what it does not take is copied, up to a bound, and sent when there is
 * room. While such a copy is under way nothing more is accepted. An error while sending is not reported
 * from within the send but marks the stream as broken: the owner looks at it when no core function is on the stack. */
#ifndef KV_HOST_HOST_STREAM_H
#define KV_HOST_HOST_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

/* First member of its owner's struct. */
struct host_stream {
    uv_tcp_t tcp;
    uv_write_t write;
    uint8_t *copy;   /* under way; NULL: none */
    bool is_clogged; /* something was not accepted: the owner is to be told when there is room */
    bool is_broken;  /* sending failed; everything further is accepted and dropped */
    /* The copy was sent (or dropped, when the stream broke). Not called for a stream being closed. */
    void (*written)(struct host_stream *stream);
};

/* Gives libuv's error, or 0. */
int host_stream_init(struct host_stream *stream, uv_loop_t *loop,
                     void (*written)(struct host_stream *stream));
/* Accepts up to what the socket takes plus @copy_max bytes; returns how much that was. */
uint64_t host_stream_send(struct host_stream *stream, const uint8_t *data, uint64_t size,
                          uint64_t copy_max);
static inline bool host_stream_is_writing(const struct host_stream *stream)
{
    return stream->copy != NULL;
}
/* No delay, keepalive after @keepalive_s seconds; @give_up_ms: how long sent bytes may stay unacknowledged
 * before the connection is dead (0: the system's choice). */
void host_stream_options(struct host_stream *stream, unsigned keepalive_s, unsigned give_up_ms);
/* Tells the other side that nothing more comes; it may still be read from. */
void host_stream_finish(struct host_stream *stream);

#endif
