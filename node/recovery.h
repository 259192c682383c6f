/* recovery.h - what a node does about damage of its own, and a leader about that of others.
 *
 * A start that finds that something is gone which this node may have acknowledged (part of the log, or of the state
 * that stands for it) is a *quarantine*: it is noted on the disk (storage/quarantine.h), all files but the vote are set
 * aside, and the replica starts empty, electing nobody (raft/guard.h). Every frame says so. A leader that reads it
 *
 *   - hands leadership over, or starts its replica again, when its library remembers acknowledgements that are void;
 *   - proposes a PRESENT with that node's incarnation. Whoever has applied it holds everything up to it, and with it
 *     everything that it can ever have acknowledged before: its quarantine is over.
 *
 * A node whose vote is not sound, or that has nobody to recover from, refuses to start instead. */
#ifndef KV_NODE_RECOVERY_H
#define KV_NODE_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/limits.h"
#include "storage/quarantine.h"

struct shard;

struct recovery {
    struct quarantine quarantine; /* stage NONE: none */
    bool is_lifted;               /* over; what was set aside is being removed, the file last */
    bool is_running;      /* The start is over: what is lost from now on needs a new incarnation. */
    uint64_t reread_ms;   /* no other new start of the state because of damage before */
    uint64_t lost_ms;     /* since when the state could be given up; 0: it cannot, or need not */
    uint64_t lost_ask_ms; /* when the others are asked again whether they are sound */
    uint64_t tidy_ms;     /* when the next of it goes */
    uint64_t entered_count; /* since the start of the process */
    struct {
        uint64_t term; /* in which a PRESENT was proposed for this peer, */
        uint64_t incarnation;
        uint64_t ms;
    } present[PEERS_MAX];
    uint64_t handover_ms; /* no other attempt before */
};

/* This node is in quarantine: it serves nothing of its own. */
static inline bool recovery_quarantined(const struct recovery *recovery)
{
    return recovery->quarantine.stage != QUARANTINE_NONE && !recovery->is_lifted;
}

/* Reads whether a quarantine is under way. Errors of the disk; @message (512 bytes): one line. */
enum err recovery_load(struct shard *shard, char *message);
/* Opens the store; what is damaged beyond doing without it begins a quarantine, if @may_recover, unless others may
 * have what the log lacks: ERR_AGAIN, see regain.h. Other errors as store_open(). */
enum err recovery_open_store(struct shard *shard, bool may_recover, char *message);
/* This node's state, as it runs, turned out to be wrong: a quarantine begins, under a new incarnation, so that nobody
 * counts on anything that was acknowledged before. The shard is opened again in the next turn. */
void recovery_enter(struct shard *shard, const struct damage_fault *fault, uint64_t now_ms);
/* Once a turn, when the replica had its own. */
void recovery_turn(struct shard *shard, uint64_t now_ms);
uint64_t recovery_deadline(const struct shard *shard);
/* One line for people: where, what, how far; empty when all is well. */
void recovery_describe(const struct shard *shard, char *text, uint64_t size);

#endif
