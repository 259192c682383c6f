/* message.h - bodies of the frames of type 16 .. 21: Raft's messages, coded field by field.
 *
 * All numbers little-endian; the byte `version` is the library's, for the message it belongs to.
 *
 *   APPEND         0 u64 term    8 u64 previous index   16 u64 previous term   24 u64 commit index
 *                 32 u32 count  36 u8 version  37 zeros          40 whole records, verbatim (record.h)
 *   APPEND_RESULT  0 u64 term    8 u64 rejected index   16 u64 last index      24 u64 conflict term
 *                 32 u64 held index   40 u16 features, u16 capacity, u8 version, zeros up to 48
 *   VOTE           0 u64 term    8 u64 candidate        16 u64 last index      24 u64 last term
 *                 32 u8 version, u8 disrupt leader, u8 pre-vote, zeros up to 40
 *   VOTE_RESULT    0 u64 term    8 u16 features, u16 capacity, u8 version, u8 granted, u8 pre-vote, zero
 *   INSTALL        0 u64 term    8 u64 last index       16 u64 last term       24 u64 index of the change
 *                 32 u8 version, zeros  40 change (u32 size, bytes), manifest (u32 size, bytes)
 *   TIMEOUT_NOW    0 u64 term    8 u64 last index       16 u64 last term       24 u8 version, zeros up to 32
 *
 * The library's structs are never copied as they are: they hold padding and fields that were never set. */
#ifndef KV_RAFT_MESSAGE_H
#define KV_RAFT_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/wire.h"

#define MESSAGE_APPEND_SIZE 40u /* of an APPEND without its records */

struct message {
    uint8_t type; /* enum wire_type */
    uint8_t version;
    uint64_t term;
    uint64_t prev_index; /* APPEND */
    uint64_t prev_term;
    uint64_t commit;
    uint32_t count;
    struct slice records;   /* APPEND: @count whole records; borrows */
    uint64_t rejected;      /* APPEND_RESULT: 0 is success */
    uint64_t conflict_term; /* APPEND_RESULT, rejected: the sender's term at last_index, or 0 */
    uint64_t held_index;    /* APPEND_RESULT, rejected: committed and durable at the sender */
    uint64_t last_index;    /* all but APPEND and VOTE_RESULT */
    uint64_t last_term;     /* VOTE, INSTALL, TIMEOUT_NOW */
    uint16_t features;      /* both results */
    uint16_t capacity;
    uint64_t candidate; /* VOTE */
    bool disrupt_leader;
    bool pre_vote; /* VOTE, VOTE_RESULT */
    bool granted;
    uint64_t change_index; /* INSTALL */
    struct slice change;   /* INSTALL: the configuration; borrows */
    struct slice manifest; /* INSTALL; borrows */
};

/* One record of an APPEND. */
struct message_entry {
    uint64_t term;
    uint8_t type; /* RECORD_COMMAND, RECORD_BARRIER or RECORD_CHANGE */
    struct slice record;
    struct slice payload;
};

/* Appends the body of @message to @out. */
void message_encode(const struct message *message, struct buf *out);
/* The count of an APPEND whose records were appended behind the body at @start of @out. */
void message_set_count(struct buf *out, uint64_t start, uint32_t count);

/* Reads the body of a frame of @type. Structure only; what the numbers mean is checked in guard.h.
 * ERR_CORRUPT: malformed.  ERR_NEWER: not a Raft message that this program knows. */
enum err message_decode(uint8_t type, struct slice body, struct message *message);
/* Takes the records of an APPEND apart into @entries (room for APPEND_ENTRIES_MAX) and verifies
 * checksum, index, term, type and shard of each. ERR_CORRUPT: one is wrong. */
enum err message_entries(const struct message *message, uint16_t shard,
                         struct message_entry *entries);

#endif
