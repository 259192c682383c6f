/* replica_state.h - what the parts of the replica share. For replica*.c, and for tests that need
 * to see the library's state or to propose a change of membership, which has no public call in
 * this version.
 *
 *   replica.c          the public functions, the turn
 *   replica_start.c    self test, first entry, from the disk into the library
 *   replica_step.c     one raft_step() and everything its update asks for, in fixed order
 *   replica_send.c     messages out        replica_receive.c  messages in
 *   replica_hold.c     what is kept for peers that receive a base */
#ifndef KV_RAFT_REPLICA_STATE_H
#define KV_RAFT_REPLICA_STATE_H

#include <raft.h>

#include "raft/guard.h"
#include "raft/message.h"
#include "raft/readgate.h"
#include "raft/replica.h"
#include "raft/ship.h"
#include "storage/base/hash.h"

/* Entries whose sizes the leader remembers: all that it proposed and that are not committed. */
#define REPLICA_RING_COUNT (2u * UNCOMMITTED_ENTRIES_MAX)
#define REPLICA_UNCOMMITTED_SIZE_MAX (64u * MIB)
/* Appends with entries to a peer with more than this in its queue are dropped: the library
 * repeats. */
#define REPLICA_APPEND_QUEUE_SIZE_MAX (8u * MIB)
/* A group of one large entry may take longer on a slow disk that works: a millisecond more for each of these. */
#define REPLICA_STALL_SIZE_PER_MS (32u * KIB)
/* Of the time between two turns only so much counts as a stall: a process that was stopped, or a machine
 * that slept, finds old writes complete a moment later. */
#define REPLICA_STALL_STEP_MS 500u
#define REPLICA_APPLY_WORK 2048u /* effects applied at once, about a millisecond */

STATIC_CHECK(UNCOMMITTED_ENTRIES_MAX + 2 <= REPLICA_RING_COUNT, "the ring holds what is proposed");

/* Election timeouts that a node with damaged files lets pass before it stands for election itself. */
#define REPLICA_RELUCTANT_FACTOR 5u

/* What an event was made of, for the update that comes back. */
struct replica_source {
    const struct message *message;     /* received, or NULL */
    const struct raft_entry *entries;  /* handed to the library, or NULL */
    const struct message_entry *parts; /* the records behind entries */
    bool owns_batch;                   /* entries came from a peer: free their token */
    bool is_stale;                     /* the message's term is an older one */
    bool votes_anyway;                 /* W13: step with a configuration of ourselves as voter */
};

/* The last append to a peer. */
struct replica_sent {
    uint64_t term;
    uint8_t version; /* of the message, as the library gave it */
    uint64_t end;
    uint64_t commit;
    uint64_t ms;
};

/* Entries that travel to a peer by themselves, in fragments. While it has not acknowledged anything the library
 * gives the same entry out again with every heartbeat: they are not sent twice. */
struct replica_big {
    uint64_t term;
    uint64_t first; /* indexes of those that were sent, */
    uint64_t last;
    uint32_t link;  /* over this connection */
    uint64_t ms;    /* when the last piece left */
    bool is_hashed; /* the one under way comes from the disk: it is verified as it leaves */
    struct hash_stream hash;
    uint64_t checksum; /* as the record's header says */
};

/* What is kept for a peer that was offered a base, see replica_hold.c. */
struct replica_hold {
    uint64_t index;    /* of the base, then of what the peer has acknowledged; 0: nothing is held */
    uint64_t ms;       /* last sign of progress */
    uint64_t pin;      /* keeps the files that it was offered */
    uint64_t offered;  /* the base of the last offer; 0: none since the peer had one */
    uint64_t offer_ms; /* when that was */
    uint64_t awaited;  /* the base at which the library believes the peer to be at work */
    bool is_vain;      /* nothing came of it: nothing is held until the peer begins */
};

struct replica {
    struct raft raft;
    struct replica_config config;
    char address[ADDRESS_SIZE_MAX + 1];
    struct store *store;
    struct peers *peers;
    uint64_t now_ms;
    enum err ended; /* not OK: this replica does nothing any more, replica_turn() returns it */

    uint64_t committed;  /* monotone, unlike the library's */
    uint64_t configured; /* changes up to here were told to the library as committed */
    uint64_t contact_ms; /* last append or install of a current leader */
    bool has_contact;
    uint64_t leader; /* sender of the last valid append or install, */
    uint64_t
        leader_term; /* whose term this was: the library forgets no leader when a term passes */
    uint64_t fired_ms;
    uint64_t timer_ms;
    bool is_installing;
    bool is_sole_voter; /* by the newest configuration */
    uint64_t told_to;   /* what we hold was told to this peer, in this term */
    uint64_t told_term;
    uint64_t told_held;
    bool barrier_wanted;
    uint64_t regressed_term; /* leader of this term: a voter holds less than it acknowledged */
    uint64_t apply_left;     /* Of REPLICA_APPLY_WORK, for the next call of replica_turn(). */
    uint64_t start_ms;

    bool is_writing;         /* a group write is under way, */
    bool is_starved;         /* or waits for a segment, */
    uint64_t writing_ms;     /* for so long, */
    uint64_t write_grace_ms; /* and for so long more because of its size, */
    uint64_t write_from;     /* with this persisted index, */
    uint64_t write_watch_ms; /* as of then */

    uint64_t lead_from; /* leader: first index whose size is in the ring */
    uint64_t uncommitted_size;
    uint32_t sizes[REPLICA_RING_COUNT];
    struct replica_sent sent[PEERS_MAX];  /* as in struct peers */
    struct replica_hold holds[PEERS_MAX]; /* likewise */
    struct replica_big bigs[PEERS_MAX];   /* likewise */
    uint64_t
        part_ms; /* last time that a piece of a leader's message was taken for a sign of life */
    uint64_t transfer_to; /* 0: none */
    uint64_t transfer_ms;
    bool transfer_begun; /* the library knows */

    struct readgate gate;
    struct ship_in ship_in;
    struct ship_out ship_out;
    struct buf *owner; /* of the records in this call, if their memory may be taken; else NULL */
    struct buf scratch;
    struct buf piece;    /* of an entry that is on its way to a peer */
    struct buf manifest; /* of the install that was just received */
    struct raft_entry entries[APPEND_ENTRIES_MAX];
    struct message_entry parts[APPEND_ENTRIES_MAX];
    struct replica_stats stats;
};

/* replica_start.c */
enum err replica_start(struct replica *replica, char *message);
/* Builds the library's form of a configuration that the guard accepted, with the library's
 * memory. */
void replica_configuration(const struct guard_configuration *from, struct raft_configuration *to);

/* replica_step.c */
struct guard_view replica_view(const struct replica *replica);
void replica_newest_members(const struct replica *replica, struct guard_configuration *members);
bool replica_is_stalled(const struct replica *replica);
/* One event and all that follows from it, but for what replica_settle does. Benign refusals of
 * the library are returned as its code; 0 is success. A failure that is none ends the replica. */
int replica_step(struct replica *replica, struct raft_event *event,
                 const struct replica_source *source);
/* After every step or group of steps: tells the library about committed changes, proposes the
 * barrier. */
void replica_settle(struct replica *replica);
/* Proposes the sealed @record of @type. The library's code. */
int replica_propose(struct replica *replica, uint8_t type, struct slice record);
/* Tells the library that the change at @index is committed. */
void replica_configure(struct replica *replica, uint64_t index);
void replica_report_persisted(struct replica *replica);
void replica_fire_timer(struct replica *replica);
void replica_report_base(struct replica *replica);

/* Proposes another configuration. ERR_NOT_LEADER; ERR_AGAIN: one is pending, or none of this
 * term is committed; ERR_INVALID: more than one difference, or it takes our own vote away
 * (transfer first). */
enum err replica_submit_change(struct replica *replica,
                               const struct guard_configuration *configuration, uint64_t now_ms);

/* replica_send.c */
void replica_send(struct replica *replica, const struct raft_message *message,
                  const struct replica_source *source);
/* The entries on their way to all peers are those of a leadership that is over. */
void replica_drop_bigs(struct replica *replica);
void replica_send_probes(struct replica *replica);
/* Committed and durable here: what a leader of our term has as well. */
uint64_t replica_held(const struct replica *replica);
/* Answers an install that is not taken (now): @rejected 0 only keeps the contact. */
void replica_send_refusal(struct replica *replica, uint64_t to, uint64_t rejected);

/* replica_hold.c */
/* May @peer be offered a base now? One that takes none is not asked all the time. */
bool replica_hold_may_offer(struct replica *replica, const struct peer *peer);
void replica_hold_offered(struct replica *replica, const struct peer *peer, uint64_t base);
/* @peer asks for pieces of what it was offered: it is at work. */
void replica_hold_asked(struct replica *replica, const struct peer *peer);
/* @peer rejected entries of ours. True: it was offered a base, does not have it and is not at work at it; nothing is
 * kept for it any more. */
bool replica_hold_rejected(struct replica *replica, const struct peer *peer,
                           const struct message *message);
void replica_hold_turn(struct replica *replica);

#endif
