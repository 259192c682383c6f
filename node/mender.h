/* mender.h - values that a disk does not give back, asked from the other nodes and given to them.
 *
 * Compaction of a damaged file asks the store for them (storage/mend.h); here each goes to one connected node after the
 * other until one has the key at that very revision. No leader is needed, and every node may have another
 * damaged place. Nobody having it, after all that are connected were asked, is an answer as well.
 *
 *   VALUE_WANT   0 u64 revision    8 key (u32 size, bytes)
 *   VALUE_GIVE   0 u64 revision    8 u8 1: here, 0: not   9 u8 1: packed   10 6 zeros
 *               16 key (u32 size, bytes), stored value (u32 size, bytes) */
#ifndef KV_NODE_MENDER_H
#define KV_NODE_MENDER_H

#include "raft/wire.h"
#include "storage/base/limits.h"
#include "storage/store_value.h"

struct shard;

#define MENDER_ASKS_MAX 256u /* questions of others that wait; more are dropped, they ask again */

struct mender_ask {
    uint64_t from; /* node id */
    uint64_t revision;
    struct buf key;
};

struct mender {
    uint64_t piece_ms; /* when the last fragment of an answer arrived */
    struct mender_ask asks[MENDER_ASKS_MAX];
    uint32_t ask_count;
    bool is_reading; /* the value for asks[0] */
    bool is_held;    /* all who ask have enough on their way to them */
    struct store_read read;
    uint64_t given_total; /* values given to others */
    uint64_t taken_total; /* values that others gave */
};

void mender_close(struct mender *mender);
/* The store was closed or is about to be. */
void mender_void(struct mender *mender);
/* A VALUE_WANT or VALUE_GIVE. ERR_CORRUPT: malformed. */
enum err mender_receive(struct shard *shard, const struct wire_frame *frame);
/* A fragment of a file, value or records arrived. */
void mender_note_piece(struct mender *mender, uint64_t now_ms);
/* Once a turn. */
void mender_turn(struct shard *shard, uint64_t now_ms);
uint64_t mender_deadline(const struct shard *shard);

#endif
