/* audit.h - are the keys in memory the same on every node, and what they should be?
 *
 * Every key adds to a state hash that each change keeps up to date (storage/keydir.h). Two things are looked at, at
 * intervals and when asked (KV.CHECK):
 *
 *   - The leader asks every node for its hash at one index. When some differ, it proposes a CHECK with the hash of the
 *     majority: who applies it and had another one takes itself out (recovery_enter()).
 *   - Each node computes the hash of what it has anew, in slices: memory that changed by itself is found without
 *     anybody's help.
 *
 *   CHECK_ASK    0 u64 round    8 u64 index   16 u8 1: after counting everything anew, 7 zeros
 *   CHECK_TELL   0 u64 round    8 u64 index   16 u64 state hash   24 u8 1: known   25 u8 recount: 0 none, 1 right,
 *               2 wrong         26 6 zeros */
#ifndef KV_NODE_AUDIT_H
#define KV_NODE_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/wire.h"
#include "storage/base/limits.h"

struct shard;

enum audit_recount { AUDIT_UNCOUNTED = 0, AUDIT_RIGHT = 1, AUDIT_WRONG = 2 };

struct audit_answer {
    uint64_t node_id;
    bool is_asked;
    bool is_here;
    bool is_known; /* it remembers what it had at that index */
    uint64_t hash;
    uint8_t recount; /* enum audit_recount */
};

struct audit_round {
    uint64_t number; /* 0: there was none */
    uint64_t index;
    uint64_t started_ms;
    uint64_t counts; /* our own complete recounts then */
    bool is_running;
    bool is_full; /* with a recount on every node */
    struct audit_answer answers[PEERS_MAX + 1];
    uint32_t count;
    /* When it is over. */
    bool has_majority;
    uint64_t hash;       /* of the majority */
    uint32_t different;  /* nodes with another one, or with a wrong recount */
    uint32_t unanswered; /* nodes that said nothing, or do not remember */
};

struct audit {
    struct audit_round round; /* as leader: the newest */
    uint64_t next_ms;
    uint64_t last_index;
    struct {
        bool is_open;
        uint64_t round;
        uint64_t index;
        bool is_full;
        uint64_t counts; /* complete recounts then: another one is wanted */
        uint64_t ms;
    } asked[PEERS_MAX]; /* by whom, as in struct peers */

    bool is_counting;
    bool is_urgent; /* somebody waits for it */
    uint64_t count_ms;
    uint8_t counted; /* enum audit_recount, of the last complete one */
    uint64_t counted_ms;
    uint64_t counts;     /* complete ones */
    uint64_t check_seen; /* entry of the newest CHECK looked at */
    uint64_t rounds_total, differences_total;
};

/* The keys are others now: what was begun is void. */
void audit_void(struct audit *audit);
/* A round with a recount on every node; we lead. False: one is running already. */
bool audit_begin(struct shard *shard, bool is_full, uint64_t now_ms);
/* A CHECK_ASK or CHECK_TELL. ERR_CORRUPT: malformed. */
enum err audit_receive(struct shard *shard, const struct wire_frame *frame, uint64_t now_ms);
/* Once a turn. */
void audit_turn(struct shard *shard, uint64_t now_ms);
uint64_t audit_deadline(const struct shard *shard);

#endif
