#include "raft/wire.h"

#include "storage/base/hash.h"
#include "storage/base/limits.h"

/* Places in the header, see the table in wire.h. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_TYPE = 6,
    AT_FLAGS = 7,
    AT_BODY_SIZE = 8,
    AT_SHARD = 12,
    AT_ZERO = 14,
    AT_CLUSTER = 16,
    AT_FROM = 24,
    AT_TO = 32,
    AT_INCARNATION = 40,
    AT_CHECKSUM = 48,
};
STATIC_CHECK(AT_CHECKSUM + 8 == WIRE_HEADER_SIZE, "the checksum ends the header");

/* The body's checksum is seeded with the header's, so that neither can be exchanged alone. */
static uint64_t checksum_of(const uint8_t *header, uint64_t body_size)
{
    const uint64_t seed = hash64(header, AT_CHECKSUM);
    return hash64_seeded(header + WIRE_HEADER_SIZE, body_size, seed);
}

uint64_t wire_begin(struct buf *out, const struct wire_frame *frame)
{
    const uint64_t start = out->size;
    uint8_t *at = buf_extend(out, WIRE_HEADER_SIZE);
    put_u32(at + AT_MAGIC, WIRE_MAGIC);
    put_u16(at + AT_VERSION, WIRE_VERSION);
    at[AT_TYPE] = frame->type;
    at[AT_FLAGS] = frame->flags;
    put_u32(at + AT_BODY_SIZE, 0);
    put_u16(at + AT_SHARD, frame->shard);
    put_u16(at + AT_ZERO, 0);
    put_u64(at + AT_CLUSTER, frame->cluster_id);
    put_u64(at + AT_FROM, frame->from);
    put_u64(at + AT_TO, frame->to);
    put_u64(at + AT_INCARNATION, frame->incarnation);
    put_u64(at + AT_CHECKSUM, 0);
    return start;
}

uint8_t wire_type(const uint8_t *frame)
{
    return frame[AT_TYPE];
}

void wire_end(struct buf *out, uint64_t start)
{
    CHECK(out->size >= start + WIRE_HEADER_SIZE);
    const uint64_t body_size = out->size - start - WIRE_HEADER_SIZE;
    CHECK(body_size <= PEER_WHOLE_SIZE_MAX - WIRE_HEADER_SIZE);
    uint8_t *at = out->data + start;
    put_u32(at + AT_BODY_SIZE, (uint32_t)body_size);
    put_u64(at + AT_CHECKSUM, checksum_of(at, body_size));
}

void wire_encode(struct buf *out, const struct wire_frame *frame)
{
    const uint64_t start = wire_begin(out, frame);
    buf_append(out, frame->body.data, frame->body.size);
    wire_end(out, start);
}

enum err wire_decode(struct slice bytes, struct wire_frame *frame, uint64_t *size)
{
    /* Garbage is refused as soon as its first bytes are here: waiting for a whole header of a
     * stranger who speaks another protocol would keep the connection open for nothing. */
    if (bytes.size >= 4 && get_u32(bytes.data) != WIRE_MAGIC) return ERR_CORRUPT;
    if (bytes.size >= 6 && get_u16(bytes.data + AT_VERSION) != WIRE_VERSION) return ERR_NEWER;
    if (bytes.size < WIRE_HEADER_SIZE) return ERR_MORE;

    const uint8_t *at = bytes.data;
    const uint64_t body_size = get_u32(at + AT_BODY_SIZE);
    if (body_size > PEER_WHOLE_SIZE_MAX - WIRE_HEADER_SIZE) return ERR_CORRUPT;
    if (get_u16(at + AT_ZERO) != 0) return ERR_CORRUPT;
    if (bytes.size - WIRE_HEADER_SIZE < body_size) return ERR_MORE;
    if (get_u64(at + AT_CHECKSUM) != checksum_of(at, body_size)) return ERR_CORRUPT;

    *frame = (struct wire_frame){
        .type = at[AT_TYPE],
        .flags = at[AT_FLAGS],
        .shard = get_u16(at + AT_SHARD),
        .cluster_id = get_u64(at + AT_CLUSTER),
        .from = get_u64(at + AT_FROM),
        .to = get_u64(at + AT_TO),
        .incarnation = get_u64(at + AT_INCARNATION),
        .body = slice_of(at + WIRE_HEADER_SIZE, body_size),
    };
    *size = WIRE_HEADER_SIZE + body_size;
    return OK;
}
