/* ship.h - the files of a base from a peer that has them to one that needs them, in checksummed
 * pieces.
 *
 *   WANT   0 u64 file id    8 u64 offset   16 u32 size, u32 zero
 *   CHUNK  0 u64 file id    8 u64 offset   16 u64 checksum of the data (XXH3-64)   24 data
 *   NONE   0 u64 file id    8 u64 offset: the sender has no such file (any more)
 *
 * The receiver asks for a window of SHIP_WINDOW_SIZE at a time and for the next one when half of
 * it is here, unless its disk lags behind; the store says what is wanted, so a transfer that was
 * cut goes on where it stopped. The sender reads in the background, one chunk a peer at a time,
 * keeps the queue to the receiver below SHIP_QUEUE_SIZE, and sends no more than a set rate to all
 * peers together, so that neither Raft's messages nor clients are delayed much. */
#ifndef KV_RAFT_SHIP_H
#define KV_RAFT_SHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/peer.h"
#include "storage/store_ship.h"

#define SHIP_WINDOW_SIZE (4u * SHIP_CHUNK_SIZE)
#define SHIP_QUEUE_SIZE (1u * MIB)
#define SHIP_WANTS_MAX 4u /* of one peer; more are ignored, the peer asks again */
#define SHIP_BEGUN_MAX 16u

enum ship_state {
    SHIP_IDLE,
    SHIP_BUSY,
    SHIP_COMPLETE, /* everything is here: store_install_finish() */
    SHIP_LOST,     /* the source is gone or silent: give up */
};

/* Receiving. */
struct ship_in {
    bool is_active;
    bool is_lost;
    uint64_t source;  /* asked first */
    uint64_t asked;   /* asked now */
    uint64_t file_id; /* what was asked for: bytes up to asked_end of this file */
    uint64_t asked_end;
    uint64_t asked_ms;
    uint64_t progress_ms; /* when the last useful chunk came */
    uint64_t retry_ms;
    uint64_t give_up_ms;
};

void ship_begin(struct ship_in *in, uint64_t source, uint64_t retry_ms, uint64_t give_up_ms,
                uint64_t now_ms);
/* Lets the disk go on and asks for what is wanted now. @leader: asked instead when the source stays
 * silent, 0 unknown. */
enum ship_state ship_turn(struct ship_in *in, struct store *store, struct peers *peers,
                          uint64_t leader, uint64_t now_ms);
/* A CHUNK or NONE from @from. ERR_CORRUPT: malformed: close the link.  ERR_AGAIN: not wanted,
 * dropped. */
enum err ship_chunk(struct ship_in *in, struct store *store, struct slice body, uint64_t now_ms);
enum err ship_none(struct ship_in *in, uint64_t from, struct slice body);
uint64_t ship_deadline(const struct ship_in *in); /* UINT64_MAX: none */

/* Sending. */
struct ship_want {
    uint64_t file_id;
    uint64_t offset;
    uint64_t end;
};
struct ship_out {
    uint64_t rate;      /* bytes a second, 0: as fast as it goes */
    uint64_t allowance; /* bytes that may be sent now, while there is a rate */
    uint64_t allow_ms;  /* when it was last raised */
    uint64_t sent;      /* bytes of files sent so far */
    struct {
        struct ship_want wants[SHIP_WANTS_MAX];
        uint32_t count;
        bool is_reading; /* @piece is of wants[0] */
        /* Ids of the files whose first bytes were sent since the peer began anew: the earliest, and the last one. */
        uint64_t begun[SHIP_BEGUN_MAX];
        uint32_t begun_count;
        struct store_piece piece;
    } list[PEERS_MAX]; /* as in struct peers */
};

/* A WANT from @from. ERR_CORRUPT: malformed. */
enum err ship_ask(struct ship_out *out, struct peers *peers, uint64_t from, struct slice body);
/* Sends what was asked for and read, as far as queues and rate allow. */
void ship_send(struct ship_out *out, struct store *store, struct peers *peers, uint64_t now_ms);
/* When the rate allows more; UINT64_MAX: nothing waits for that. */
uint64_t ship_send_deadline(const struct ship_out *out);
/* Waits for reads under way. */
void ship_send_close(struct ship_out *out, struct store *store);

#endif
