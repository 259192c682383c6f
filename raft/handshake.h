/* handshake.h - how two nodes make sure of each other before anything else is said.
 *
 * Body of HELLO and WELCOME, after the frame's header, which names cluster, sender and incarnation:
 *
 *    0  u64 token hash       8  u64 directory id        16  u64 start id
 *   24  u64 term (0: not known now)    32  u64 voted for    40  u64 last index of its log
 *   48  u32 count of past starts (0 to 16)                  52  u32 zero
 *   56  their u64 start ids, the newest first
 *    .  five texts, each u32 size and bytes: name, peer, client, cluster-client and http address
 *
 * Body of REFUSE: a text (u32 size and bytes) for the log of the other side, u32 kind: 1, its data directory is an
 * older copy or another one; 0, anything else.
 *
 * An older copy of a data directory has forgotten votes and acknowledgements. It is known by
 *
 *   - an incarnation below the one last seen, or the same with another start id;
 *   - a larger one, when the start last seen is not among its past ones;
 *   - in a HELLO: a term, vote or log that is behind what its node has said to us (struct peer_memory, which ends with
 *     our process). Frames and HELLOs of a node come over connections that it dials, one after the other, so a HELLO
 *     is never older than what was heard before it. A WELCOME comes over another one, and may be. */
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
 *   ERR_FOREIGN  a node that we must not talk to: @message (256 bytes) says why; @is_outdated: it is its directory */
enum err handshake_read(struct peers *peers, const struct wire_frame *frame, char *message,
                        bool *is_outdated);
/* Appends a REFUSE with @text to @out. */
void handshake_refuse(const struct peers *peers, uint64_t to, const char *text, bool is_outdated,
                      struct buf *out);
/* The text of a received REFUSE, printable, as @message (256 bytes). True: it is about our directory. */
bool handshake_refusal(const struct wire_frame *frame, char *message);

#endif
