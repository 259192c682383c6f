/* guard.h - every check of incoming messages, and every workaround for the library's known
 * faults.
 *
 * libraft 0.22.1 as packaged has its own assertions compiled out and believes what it is told.
 * Nothing from a peer reaches raft_step() before the functions below have seen it; each names
 * the failure that it prevents. They only decide: replica_*.c act. Each belongs to a bit of
 * replica_config.guards (bit n for Wn), which only tests switch off, to see the failure. W10
 * lives in the store too: store_persisted_index() is exact by itself. */
#ifndef KV_RAFT_GUARD_H
#define KV_RAFT_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/message.h"
#include "storage/base/limits.h"
#include "storage/store.h"

#define GUARD_MEMBERS_MAX (PEERS_MAX + 1u)
/* Elections come once a second at most: this jump stands for half a year of nothing but
 * elections. The library prints terms and indexes into 64 bytes at its start, so they must also
 * stay printable. */
#define GUARD_TERM_JUMP_MAX (UINT64_C(1) << 24)
#define GUARD_INDEX_MAX (UINT64_C(1) << 47)

/* Bits beyond W20. */
enum guard_bit {
    GUARD_SELF_SYNC = 21, /* Rule B: a sole voter shows nobody an entry before its own sync. */
    GUARD_ENVELOPE = 22,  /* Rule D: numbers that no honest peer sends. */
    GUARD_HELD = 23,      /* A follower whose base was overtaken is heard. */
    GUARD_LOSS = 24,      /* Who has lost what it may have acknowledged elects nobody. */
    GUARD_REFUSED = 25,   /* Nor does who runs on an older copy of its data directory. */
};

/* ---- configurations ------------------------------------------------------------------------------ */

/* Roles, in the library's numbers. */
enum guard_role { GUARD_STANDBY = 0, GUARD_VOTER = 1, GUARD_SPARE = 2, GUARD_NO_MEMBER = 3 };

struct guard_member {
    uint64_t id;
    const char *address; /* borrows from the decoded bytes, ends with a zero byte */
    uint8_t role;
};
struct guard_configuration {
    uint32_t count;
    struct guard_member members[GUARD_MEMBERS_MAX];
};

/* Payload of a RECORD_CHANGE: u8 format (1), u64 count, then each u64 id, address with its zero
 * byte, u8 role; zeros up to a multiple of 8. The library's own decoder reads past the end and
 * loops on counts that it is told, so only bytes that passed this one reach it. ERR_CORRUPT: not
 * a configuration that could ever be right (ids and addresses unique, at least one voter). */
enum err guard_decode_configuration(struct slice bytes, struct guard_configuration *configuration);
void guard_encode_configuration(const struct guard_configuration *configuration, struct buf *out);
enum guard_role guard_role(const struct guard_configuration *configuration, uint64_t id);
/* @id is a voter and there is no other. */
bool guard_sole_voter(const struct guard_configuration *configuration, uint64_t id);
/* @to is @from with exactly one member added, removed or given another role, the rest in its
 * order. */
bool guard_one_change(const struct guard_configuration *from, const struct guard_configuration *to);

/* ---- what the checks know ------------------------------------------------------------------------ */

struct guard_view {
    uint32_t bits;
    uint64_t self;
    uint64_t term;
    uint64_t leader; /* as the library knows it, 0 unknown */
    uint64_t committed;
    uint64_t last;
    bool is_leader;
    bool is_candidate;
    bool is_installing;
    bool is_sole_voter; /* by the newest configuration */
    bool has_lost;      /* this replica may have acknowledged entries that it has no more; */
    bool is_pair;       /* the group has two voters, so the other one has them all */
    bool is_refused;    /* another node knows of promises that this one has forgotten */
};
static inline bool guard_on(const struct guard_view *view, uint32_t bit)
{
    return (view->bits >> bit & 1u) != 0;
}

/* ---- received messages --------------------------------------------------------------------------- */

/* W8 and rules C and D: may this message be handed to the library at all?
 *   ERR_CORRUPT  no honest peer sends this: close its link
 *   ERR_AGAIN    drop it: harmless, but the library would mishandle it in this state (W9, W12, W20) */
enum err guard_message(const struct guard_view *view, uint64_t from, const struct message *message);
/* Every change among @entries is a configuration. */
enum err guard_entries(const struct message_entry *entries, uint32_t count);

/* W1: how many of @entries the library may see in one step. */
uint32_t guard_w01_segment(const struct guard_view *view, const struct message_entry *entries,
                           uint32_t count);
/* W1: does a segment that begins with @first prove the pending change at @uncommitted to be
 * committed? @local_prev_term, @local_next_term: our terms at @prev_index and behind it, 0 when
 * unknown. */
bool guard_w01_proves(const struct guard_view *view, const struct message *message,
                      const struct message_entry *first, uint64_t uncommitted,
                      uint64_t local_prev_term, uint64_t local_next_term);
/* W2: must the part of @message that is committed here be cut off before the step? */
bool guard_w02_clips(const struct guard_view *view, const struct message *message);
/* W15 on the leader: corrects a rejection in place. @match: what the peer acknowledged. */
bool guard_w15_settles(const struct guard_view *view, uint64_t match, struct message *message);
/* Is what a rejection says to be held an acknowledgement beyond @match? */
bool guard_held_counts(const struct guard_view *view, uint64_t match,
                       const struct message *message);
/* Must an install be answered with what is held here before it is taken? @told: what the sender of @message was
 * told of it in its term already. */
bool guard_held_first(const struct guard_view *view, const struct message *message, uint64_t held,
                      uint64_t told);
/* W19: the place from which a follower whose entry at @hint conflicts asks the leader to try
 * again, where @term is that of the leader's entry there; on the leader, with the follower's
 * term at its hint. */
uint64_t guard_w19_hint(const struct guard_view *view, const struct store *store, uint64_t hint,
                        uint64_t lowest, uint64_t term);
/* W16: must a vote request be taken as one that may disturb a leader? */
bool guard_w16_disrupts(const struct guard_view *view, uint64_t silent_ms, uint64_t election_ms);
/* May this replica stand for election, or be asked to? */
bool guard_loss_elects(const struct guard_view *view);
/* May it vote? */
bool guard_loss_votes(const struct guard_view *view);
/* W13: must a vote request be answered as if we were a voter? */
bool guard_w13_votes(const struct guard_view *view, enum guard_role role);

/* ---- sent messages ------------------------------------------------------------------------------- */

/* W3: the last index of an answer to a message whose term was @stale. */
uint64_t guard_w03_last_index(const struct guard_view *view, bool is_stale, uint64_t last_index);
/* W4: the term of a vote result. */
uint64_t guard_w04_term(const struct guard_view *view, const struct message *result);
/* W18, rule B: must everything be on disk before the messages of this update leave? */
bool guard_w18_waits(const struct guard_view *view, bool has_change);
bool guard_rule_b_waits(const struct guard_view *view, uint64_t end, uint64_t persisted);

/* ---- start, timers, own actions ------------------------------------------------------------------ */

/* W5: must a new term be saved before the start? */
bool guard_w05_new_term(uint32_t bits, const struct guard_configuration *newest, uint64_t self);
/* W6: when the timer fires next. */
uint64_t guard_w06_timer(const struct guard_view *view, uint64_t timeout_ms, uint64_t fired_ms,
                         uint64_t heartbeat_ms);
/* W7, rule A: must a barrier be proposed; may a change be proposed? */
bool guard_w07_barrier(const struct guard_view *view, uint64_t last_term);
bool guard_w07_may_change(const struct guard_view *view, uint64_t committed_term);
/* W10: may @persisted be reported? */
bool guard_w10_reports(const struct guard_view *view, uint64_t persisted, uint64_t last_stored);
/* W11, W17: may the library be told of a snapshot at @index? */
bool guard_w11_snapshot(const struct guard_view *view, uint64_t index, uint64_t known,
                        uint64_t applied, uint64_t last_stored);
/* W12: must a new term be saved before the timer fires? */
bool guard_w12_new_term(const struct guard_view *view, bool is_due, uint64_t last_stored);
/* W14: may a leader propose @next? */
bool guard_w14_may_propose(const struct guard_view *view, const struct guard_configuration *next);

#endif
