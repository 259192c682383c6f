/* wire.h - peer frames: the versioned, bounded, checksummed codec of everything that nodes say to each other.
 *
 * A frame is a header of 56 bytes and a body (little-endian):
 *
 *    0  u32 magic "KVP1"      4  u16 version (3)      6  u8 type       7  u8 flags
 *    8  u32 body size        12  u16 shard           14  u16 zero
 *   16  u64 cluster id       24  u64 from (node id)  32  u64 to       40  u64 incarnation of the sender
 *   48  u64 checksum: XXH3-64 of the body, seeded with XXH3-64 of bytes 0 .. 48
 *
 * Bodies are described at the encode functions of their owners (docs/peer-protocol.md has all of them).
 * Decoding allocates nothing: bodies borrow from the input. */
#ifndef KV_RAFT_WIRE_H
#define KV_RAFT_WIRE_H

#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

#define WIRE_HEADER_SIZE 56u
#define WIRE_MAGIC 0x3150564Bu
#define WIRE_VERSION 3u

enum wire_type {
    /* Handshake, see peer.h. */
    WIRE_HELLO = 1,
    WIRE_WELCOME = 2,
    WIRE_REFUSE = 3,
    /* Raft messages, see replica.h. */
    WIRE_APPEND = 16,
    WIRE_APPEND_RESULT = 17,
    WIRE_VOTE = 18,
    WIRE_VOTE_RESULT = 19,
    WIRE_INSTALL = 20,
    WIRE_TIMEOUT_NOW = 21,
    /* Linearizable reads, see readgate.h. */
    WIRE_PROBE = 32,
    WIRE_PROBE_RESULT = 33,
    /* Snapshot files, see ship.h. */
    WIRE_SHIP_WANT = 48,
    WIRE_SHIP_CHUNK = 49,
    WIRE_SHIP_NONE = 50,
    /* Commands forwarded to the leader, see node/router.h. */
    WIRE_FORWARD = 64,
    WIRE_FORWARD_REPLY = 65,
    WIRE_FORWARD_CLOSE = 66,
    WIRE_FORWARD_CREDIT = 67,
    /* Comparing and repairing, see node/audit.h and node/mend.h. */
    WIRE_CHECK_ASK = 68,
    WIRE_CHECK_TELL = 69,
    WIRE_VALUE_WANT = 70,
    WIRE_VALUE_GIVE = 71,
    WIRE_RECORDS_WANT = 72,
    WIRE_RECORDS_GIVE = 73,
    /* A message to subscribers, see node/pubsub.h. */
    WIRE_PUBLISH = 80,
    /* What a linearizable read must have applied, see node/readindex.h. */
    WIRE_READ_ASK = 84,
    WIRE_READ_TELL = 85,
    /* A piece of a frame that is too big to travel whole, see fragment.h. */
    WIRE_FRAGMENT = 76,
};
enum wire_flag {
    WIRE_FLAG_NOSPACE =
        1, /* The sender's disk is full: the leader refuses writes when a majority says so. */
    WIRE_FLAG_RECOVERING =
        2, /* The sender has lost entries that it may have acknowledged, see storage/quarantine.h. */
    WIRE_FLAG_DAMAGED = 4, /* It cannot read parts of its files: another one should lead. */
};

struct wire_frame {
    uint8_t type;
    uint8_t flags;
    uint8_t part; /* of a FRAGMENT: the type of the frame that is not complete yet */
    uint16_t shard;
    uint64_t cluster_id;
    uint64_t from;
    uint64_t to;
    uint64_t incarnation;
    struct slice body; /* Borrows. */
    struct buf
        *owner; /* Of the body if it came in fragments: who wants may take its memory; else NULL. */
};

/* Begins a frame at the end of @out and returns where; append the body to @out, then call wire_end. */
uint64_t wire_begin(struct buf *out, const struct wire_frame *frame);
/* The type of the frame that begins at @frame. */
uint8_t wire_type(const uint8_t *frame);
/* Completes size and checksum of the frame begun at @start. */
void wire_end(struct buf *out, uint64_t start);
/* Both in one, with @frame->body. */
void wire_encode(struct buf *out, const struct wire_frame *frame);

/* Reads the frame at the start of @bytes; @size receives all it takes.
 *   ERR_MORE     incomplete; feed more
 *   ERR_CORRUPT  magic, size over PEER_WHOLE_SIZE_MAX, or checksum: framing is lost, close the link
 *   ERR_NEWER    another version: close the link */
enum err wire_decode(struct slice bytes, struct wire_frame *frame, uint64_t *size);

#endif
