/* shard.h - one shard's pipeline: evaluate, propose, apply, release replies.
 *
 * Owns the store and the replica. Five numbers hold every turn: replies released <= applied <= min(committed,
 * persisted), and max(committed, persisted) <= last. */
#ifndef KV_NODE_SHARD_H
#define KV_NODE_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "node/audit.h"
#include "node/batch.h"
#include "node/clock.h"
#include "node/command.h"
#include "node/config.h"
#include "node/fetch.h"
#include "node/mender.h"
#include "node/prepare.h"
#include "node/recovery.h"
#include "node/regain.h"
#include "raft/peer.h"
#include "raft/replica.h"
#include "storage/disk.h"
#include "storage/store.h"

struct shard {
    struct core *core;
    const struct config *config;
    struct disk *disk;
    struct peers *peers;
    uint64_t storage_id; /* What the files of the log carry, see identity.h. */
    uint64_t random;     /* For the seeds of store and replica: grows with each use. */
    struct recovery recovery;
    struct regain regain;
    struct audit audit;
    struct mender mender;
    uint32_t member_count; /* first members, ourselves included */
    struct store *store;   /* NULL while being opened again */
    struct replica *replica;
    struct batches batches;
    struct fetches fetches;
    struct buf packed;     /* The value that was packed last, */
    struct buf unpacked;   /* and the one that was unpacked last. */
    uint64_t digest_left;  /* Bytes of which it may still make digests. */
    uint64_t value_left;   /* Bytes of values that the command may still read or unpack. */
    uint64_t walk_left;    /* Keys that the transaction being evaluated may still look at. */
    uint64_t pack_left;    /* Bytes of values that may still be packed in this turn, */
    int64_t stream_left;   /* What walks may still cost in this turn (node/stream.h), */
    uint64_t prepare_left; /* and of those that sessions prepare. */

    bool was_ready; /* Evaluated commands in term. */
    uint64_t term;
    uint64_t leaderless_ms; /* Since when no leader is known; 0: one is. */
    struct clock clock;
    uint64_t clock_ms;         /* The replicated clock in this turn. */
    uint64_t sweep_ms;         /* Next run of the expiry sweeper. */
    uint64_t swept_asked;      /* Commands evaluated before its last run, */
    uint64_t asked_ms;         /* and when their number was last seen to grow. */
    struct replica_stats past; /* Of replicas before this one. */
    bool said_full;            /* The log says that the disk is full, */
    bool said_index;           /* and that the index is. */
    uint64_t said_leader;      /* The node that leads according to the log, 0 at first, */
    uint64_t said_term;        /* and its term. */
    uint64_t no_room_ms;       /* When it was last said that a base has no room here; 0: never. */
    uint64_t no_room_count;    /* Offers of a base refused for that, as last seen. */
    uint64_t stalled_ms;       /* How long the disk has hung, as last seen; 0: it does not. */
    uint64_t stall_count;
    uint64_t full_ms;     /* Not before: the next attempt to hand over because of a full disk. */
    bool transfer_wanted; /* Evaluation stopped; hand over once nothing is in flight. */
    uint64_t transfer_target;
    uint64_t large_number;      /* Of the batch that waited a turn because it is large. */
    uint64_t transfer_until_ms; /* Give up then. */
    bool lost; /* Set by shard_begin: leadership was lost: resolve replies, then batches_drop. */
    uint64_t retired_seen; /* What sessions were last released for. */
    uint64_t confirmed_seen;

    uint64_t value_raw_size, value_stored_size,
        packed_count;   /* Of values put by this node as leader. */
    uint64_t oom_count; /* commands refused because of max-index-memory */
    uint64_t expired_count, write_count, read_count, uncertain_count, batch_count, effect_count;
};

/* Any number. */
uint64_t shard_random(struct shard *shard);
/* Opens the store, bootstraps it when blank, and starts the replica. @is_begun: it must not be blank; what it has
 * promised would be forgotten (ERR_CORRUPT). ERR_AGAIN: there is no store yet, the log is being repaired (regain.h). */
enum err shard_open(struct shard *shard, const struct replica_member *members, uint32_t count,
                    bool is_begun, uint64_t now_ms, char *message);
/* The store as it is on the disk, for recovery.c; @fault as in store_config. */
enum err shard_open_store(struct shard *shard, struct damage_fault *fault, char *message);
void shard_close(struct shard *shard);
/* Counted on when the replica is started again. */
struct replica_stats shard_stats(const struct shard *shard);

/* The beginning of a turn: completions, timers, applying. Sets what changed; handles a reopened store. */
enum err shard_begin(struct shard *shard, uint64_t now_ms, uint64_t wall_ms, char *message);
/* Commands may be evaluated here and now. */
bool shard_ready(const struct shard *shard);
/* The open batch or what is in flight is at its limit: no more writes this turn. */
bool shard_is_full(const struct shard *shard);
/* The index takes what max-index-memory allows: commands that may add keys are refused. */
bool shard_index_full(const struct shard *shard);
/* False: the command is refused now, for a key that is too long, a full disk or a full index (an error was replied). */
bool shard_admits(struct eval *eval);
/* Why commands with these flags are refused now; NULL: they are not. */
const char *shard_refusal(struct shard *shard, uint32_t flags);
/* Evaluates one request for @session: its reply and wait are added. False: not now (see session.applied_batch
 * and session.fetch). */
bool shard_evaluate(struct shard *shard, struct session *session, const struct command *command,
                    const struct slice *args, uint32_t count);
/* The same for a read of this node's own state, whoever leads: it waits for values only, possibly old. Unless
 * @is_indexed: then what is applied here is new enough (node/readindex.h). */
bool shard_evaluate_local(struct shard *shard, struct session *session,
                          const struct command *command, const struct slice *args, uint32_t count,
                          bool is_indexed);
/* How long ago the key expired that has waited longest to be deleted; 0: there is none. */
uint64_t shard_expiry_lag(const struct shard *shard);
/* Leader: lets the log say what the clock says: after the batch that is returned (0: it does already) an entry is
 * applied whose stamp is at or above the expiry of every key that is gone now. Looks at most at @keys_max keys. */
uint64_t shard_log_expiry(struct shard *shard, uint32_t keys_max);
/* Asks to hand leadership over (to @target, 0: any) as soon as nothing is in flight; evaluation stops until then. */
void shard_want_transfer(struct shard *shard, uint64_t target, uint64_t now_ms);
/* The end of a turn: sweeps, proposes the open batch, starts the log write and the read round. */
enum err shard_end(struct shard *shard, uint64_t now_ms, char *message);
uint64_t shard_deadline(const struct shard *shard, uint64_t now_ms);
void shard_check(const struct shard *shard);

#endif
