/* regain.h - a node whose log is damaged gets the lost records from any other node, before anything is given up.
 *
 * A start that finds damage among the groups of unsealed segments (storage/repair.h) goes no further: the node has no
 * store and no replica yet. It does not vote, campaign, serve or acknowledge; it only talks to the other nodes, leader
 * or not, asks them for the records of one damaged group after the other, and answers the same question from what is
 * sound in its own log. So nodes that are damaged in different places repair each other. When all groups are rebuilt
 * the files are replaced and the start begins anew; nothing was lost then, and the node has all its rights.
 *
 * What nobody has cannot be regained. While somebody leads, the node then begins a quarantine, as for any other loss;
 * otherwise a quarantine would help nobody, and it stays as it is until somebody comes who has it, or who leads.
 *
 *   RECORDS_WANT   0 u64 first index   8 u64 last index
 *   RECORDS_GIVE   0 u64 first index   8 u64 last index, as asked   16 u64 index to go on from: what lies before and
 *                 is not here, the sender does not have   24 u8 state of the sender (enum regain_state)   25 7 zeros
 *                 32 records, one behind the other, verbatim */
#ifndef KV_NODE_REGAIN_H
#define KV_NODE_REGAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/wire.h"
#include "storage/base/limits.h"
#include "storage/damage.h"
#include "storage/repair.h"

struct shard;

enum regain_state {
    REGAIN_ALONE = 0,       /* sound, and knows no leader */
    REGAIN_LED = 1,         /* sound, and knows one */
    REGAIN_REPAIRING = 2,   /* as we are */
    REGAIN_QUARANTINED = 3, /* has lost what it had */
    REGAIN_UNKNOWN,         /* Not sent: it has not said anything yet. */
};

struct regain_peer {
    bool is_waiting; /* for its answer */
    uint64_t asked_ms;
    enum regain_state state;
    uint64_t state_ms;
};

struct regain {
    struct repair *repair; /* NULL: nothing is being repaired */
    struct damage_fault fault;
    uint32_t tries;
    uint32_t rounds; /* times that everybody was asked for the group in hand */
    uint64_t since_ms;
    uint64_t round_ms;
    uint64_t progress_ms;
    bool is_hopeless_said;
    uint32_t unwritten; /* groups that are rebuilt and for which a full disk had no room */
    uint64_t write_ms;  /* then: not before */
    struct regain_peer peers[PEERS_MAX];
    uint64_t repaired_total; /* groups, since the start of the process */
    uint64_t given_total;    /* answers with records, to others */
};

static inline bool regain_active(const struct regain *regain)
{
    return regain->repair != NULL;
}

/* @fault refused the start. True: it can perhaps be repaired, and that has begun. */
bool regain_begin(struct shard *shard, const struct damage_fault *fault, uint64_t now_ms);
void regain_close(struct regain *regain);
/* A RECORDS_WANT, to any node, or a RECORDS_GIVE. ERR_CORRUPT: malformed. */
enum err regain_receive(struct shard *shard, const struct wire_frame *frame, uint64_t now_ms);
/* A fragment of a large answer of node @from arrived: it is at work, however long that takes. */
void regain_note_piece(struct shard *shard, uint64_t from, uint64_t now_ms);
/* Once a turn while it is active. OK: it is over; the start begins anew. ERR_AGAIN: not yet. */
enum err regain_turn(struct shard *shard, uint64_t now_ms);
/* After a start that succeeded: what was kept of the damaged groups goes. */
void regain_clean(struct shard *shard);
/* One line for people. */
void regain_describe(const struct shard *shard, char *text, uint64_t size);

#endif
