/* handshake.h - how two nodes make sure of each other before anything else is said.
 *
 * Body of HELLO and WELCOME, after the frame's header, which names cluster, sender and incarnation:
 *
 *    0  u64 token hash       8  u64 directory id
 *   16  five texts, each u32 size and bytes: name, peer, client, cluster-client and http address
 *
 * Body of REFUSE: a text (u32 size and bytes) for the log of the other side. */
#ifndef KV_RAFT_HANDSHAKE_H
#define KV_RAFT_HANDSHAKE_H

#include "raft/peer.h"

#define HANDSHAKE_FRAME_SIZE_MAX (WIRE_HEADER_SIZE + 4u * KIB)

/* A frame of @type from ourselves to node @to, without a body. */
struct wire_frame handshake_frame(const struct peers *peers, uint64_t to, uint8_t type);
/* Takes over what the flags of a frame say about its sender. */
void handshake_flags(struct peer *peer, uint8_t flags);
/* Appends our HELLO or WELCOME to @out. */
void handshake_write(const struct peers *peers, uint64_t to, uint8_t type, struct buf *out);
/* Checks a HELLO or WELCOME and takes over what it says about its sender.
 *   ERR_CORRUPT  the body is malformed
 *   ERR_FOREIGN  a node that we must not talk to: @message (256 bytes) says why */
enum err handshake_read(struct peers *peers, const struct wire_frame *frame, char *message);
/* Appends a REFUSE with @text to @out. */
void handshake_refuse(const struct peers *peers, uint64_t to, const char *text, struct buf *out);
/* The text of a received REFUSE, printable, as @message (256 bytes). */
void handshake_refusal(const struct wire_frame *frame, char *message);

#endif
