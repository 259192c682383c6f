/* replica.h - our member of one Raft group: drives libraft's raft_step() and nothing else of it.
 *
 * Only replica*.c call the library; guard.{h,c} holds the checks of incoming messages
 * and the workarounds for the library's known faults. Results are numbers that the owner reads after
 * replica_turn(): role, term, leader, committed, applied. Nothing calls back.
 *
 * Order of work for every event (docs/architecture.md): ballot durable, then log, then messages.
 * Messages go into the queues of struct peers. Times are monotonic milliseconds. Not thread-safe. */
#ifndef KV_RAFT_REPLICA_H
#define KV_RAFT_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/peer.h"
#include "storage/store.h"

struct replica;

enum replica_role { REPLICA_FOLLOWER, REPLICA_CANDIDATE, REPLICA_LEADER };

#define REPLICA_STALL_SILENT_MS 1000u
#define REPLICA_STALL_FATAL_MS 20000u

#define GUARD_ALL (~(uint32_t)0)

struct replica_config {
    uint64_t id;
    const char *address;          /* our peer address; copied */
    uint64_t election_timeout_ms; /* at least twice the heartbeat: CHECK */
    uint64_t heartbeat_ms;
    uint64_t ship_rate; /* bytes of files a second that are sent to peers; 0: no limit */
    uint32_t random_seed;
    bool
        has_lost; /* entries that it may have acknowledged: it elects nobody until replica_recovered() */
    bool is_pair;    /* the group has two voters */
    uint32_t guards; /* GUARD_ALL; a test switches one bit (1u << n for Wn) off to see the fault */
    uint16_t shard;
};

/* A member of the group as its newest configuration says. */
struct replica_member {
    uint64_t id;
    const char *address; /* borrowed until the next call */
    bool is_voter;
};

/* Once per process, before the first replica: does the library own memory as we believe (it changed
 * upstream without a new version)? ERR_NEWER: it does not; refuse to start. From then on the library
 * allocates through mem.h, so that it never sees a failed allocation. */
enum err replica_self_test(void);

/* The first entry of a new group: a RECORD_CHANGE of term 1 with these voters in this order. */
void replica_encode_bootstrap(const struct replica_member *voters, uint32_t count, uint16_t shard,
                              struct buf *record);

/* @store is open and @peers lives as long as the replica; both are borrowed until destroy. Starts the
 * library from what the store holds. ERR_CORRUPT: the library refused it; @message (256 bytes) says why. */
enum err replica_create(const struct replica_config *config, struct store *store,
                        struct peers *peers, uint64_t now_ms, struct replica **replica,
                        char *message);
void replica_destroy(struct replica *replica);

/* A frame of type 16 .. 50 from a handshaken peer, or a fragment of one. Invalid content is counted
 * and dropped; it never harms.
 * ERR_CORRUPT: the peer sends nonsense: close its link. */
enum err replica_receive(struct replica *replica, const struct wire_frame *frame, uint64_t now_ms);

/* Proposes one command entry. @record holds RECORD_HEADER_SIZE free bytes, then the payload; it is sealed in
 * place with index, term and @stamp_ms, and copied into the log; or, if it @is_given and large, the log takes its
 * memory and @record is empty afterwards. @index receives its place.
 *   ERR_NOT_LEADER  nothing happened      ERR_FULL  too much is uncommitted: later
 * Disk space is the caller's question: replica_nospace(). */
enum err replica_submit(struct replica *replica, struct buf *record, bool is_given,
                        uint64_t stamp_ms, uint64_t now_ms, uint64_t *index);

/* The end of a turn: reports what became durable, fires timers, applies what is committed and persisted,
 * runs snapshot shipping and read rounds, starts the next log write. Call it every turn.
 * ERR_CORRUPT or ERR_IO: the log could not be read back: the node must stop serving this shard.
 * ERR_AGAIN: a received snapshot became the state on disk: destroy this replica, close and open the
 * store, create it again (also after an install that had to be given up). */
enum err replica_turn(struct replica *replica, uint64_t now_ms);
uint64_t
replica_deadline(const struct replica *replica); /* when replica_turn wants to run at the latest */

/* Gives the piece of an entry that peer_pump() asks for, of type WIRE_APPEND. */
void replica_give(struct replica *replica, struct peer *peer, const struct fragment_piece *piece);

enum replica_role replica_role(const struct replica *replica);
uint64_t replica_term(const struct replica *replica);
uint64_t
replica_leader(const struct replica *replica); /* node id, 0 unknown; ourselves when leader */
uint64_t replica_committed(const struct replica *replica); /* never goes back */
/* Leader of this term, and an entry of this term is committed and applied: may evaluate and read. */
bool replica_ready(const struct replica *replica);
bool replica_installing(const struct replica *replica); /* receiving a snapshot: serves nobody */
/* A majority of voters said that their disk is full, or ours is. */
bool replica_nospace(const struct replica *replica);
/* How long the disk has been at one write of the log, or has owed it the next segment; 0: it is not. From
 * REPLICA_STALL_SILENT_MS on a leader says nothing more, so that another one takes over, and nobody campaigns
 * or votes. After REPLICA_STALL_FATAL_MS the disk counts as gone: replica_turn() returns ERR_IO. */
uint64_t replica_stalled_ms(const struct replica *replica);
/* The voter to hand over to when only our disk is full: a majority, without us, has room. 0: none. */
uint64_t replica_roomier(const struct replica *replica);
uint32_t replica_members(const struct replica *replica, struct replica_member *members,
                         uint32_t max);
uint64_t replica_match(const struct replica *replica,
                       uint64_t id); /* leader: acknowledged index; else 0 */

/* Linearizable reads. A read that arrives now waits until replica_read_confirmed() >= the number that
 * replica_read_request() returns; numbers grow for ever within one replica. Leader only: 0 otherwise. A
 * change of leadership or term voids all waiting numbers: compare the term. */
uint64_t replica_read_request(struct replica *replica);
uint64_t replica_read_confirmed(const struct replica *replica);
/* Leader: @id is told now how far the log is committed, if it was not told yet. */
void replica_tell_committed(struct replica *replica, uint64_t id);
/* As in struct replica_config. */
void replica_set_ship_rate(struct replica *replica, uint64_t rate);

/* What was lost is here again, see replica_config.has_lost. */
void replica_recovered(struct replica *replica);
/* Leader: a voter holds less than it acknowledged, so that the library ignores what it says. Only another term
 * brings it back in: hand leadership over, or start this replica again with replica_restart(). */
bool replica_has_regressed(const struct replica *replica);
/* replica_turn() will ask for a new start from the disk. */
void replica_restart(struct replica *replica);

/* Hands leadership to @id (0: the voter that is furthest). Proposals are refused with ERR_NOT_LEADER while
 * replica_transferring(). The caller watches role and gives up by itself after an election timeout.
 * ERR_NOT_LEADER, ERR_NOT_FOUND (no other voter), ERR_AGAIN (no entry of this term committed yet). */
enum err replica_transfer(struct replica *replica, uint64_t id, uint64_t now_ms);
bool replica_transferring(const struct replica *replica);

struct replica_stats {
    uint64_t elections_won, steps_down, entries_submitted, append_sent, append_received,
        rejected_frames;
    uint64_t read_rounds, snapshots_sent, snapshots_installed, snapshots_abandoned;
    enum err snapshot_refusal;  /* why, the last time: NOSPACE, EXISTS */
    uint64_t snapshots_refused; /* offers of a base for which there is no room */
    uint64_t shipped_size;      /* bytes of files sent to peers */
};
struct replica_stats replica_stats(const struct replica *replica);
/* @past and @stats together: a node counts on when its replica is started again. */
struct replica_stats replica_stats_sum(const struct replica_stats *past,
                                       const struct replica_stats *stats);
void replica_check(
    const struct replica *replica); /* every invariant; for tests and the simulator */

#endif
