/* fragment.h - frames that are too big to travel whole: cut into fragments here, put together there.
 *
 * A big frame must not hold up what else two nodes have to say to each other, so its body travels in FRAGMENT
 * frames, between which others pass. Frames belong to classes. Within FRAGMENT_RAFT nothing overtakes: a heartbeat
 * ahead of the entries before it would be refused, so what follows a big frame waits in the same lane. In the other
 * classes small frames pass, and a sender that needs an order waits until its big frame has left.
 *
 *   FRAGMENT   0 u8 type of the frame   1 zeros     4 u32 size of its whole body   8 u32 offset of these bytes
 *             12 u32 number: the same in all fragments of a frame       16 bytes of the body
 *
 * A fragment without bytes, with size and offset 0, gives up the frame: what came of it is dropped. On each side
 * one frame per class and connection is under way at a time, which bounds the memory. */
#ifndef KV_RAFT_FRAGMENT_H
#define KV_RAFT_FRAGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/wire.h"
#include "storage/base/limits.h"

#define FRAGMENT_HEAD_SIZE 16u
#define FRAGMENT_SIZE (128u * KIB) /* bytes of the body in one fragment */

enum fragment_class {
    FRAGMENT_RAFT,    /* 16 .. 31, in order */
    FRAGMENT_FILES,   /* 48 .. 63 and 68 .. 75: files, values and records for repair */
    FRAGMENT_REQUEST, /* FORWARD, FORWARD_CLOSE, FORWARD_CREDIT */
    FRAGMENT_REPLY,   /* FORWARD_REPLY */
    FRAGMENT_CLASS_COUNT,
};
/* FRAGMENT_CLASS_COUNT: frames of this type are always small. */
enum fragment_class fragment_class(uint8_t type);

/* ---- out ------------------------------------------------------------------------------------------------ */

/* What waits to be sent, first in first out: whole frames, bodies to cut, and bodies of which only the beginning
 * lies here: their owner is asked for the rest piece by piece, so that nobody copies all of it at once. */
struct fragment_lane {
    struct buf queue;
    uint64_t start;   /* of the first item */
    uint64_t sent;    /* bytes of its body that have left */
    uint64_t waiting; /* bytes of all items that have not left, those not here yet included */
    uint32_t count;   /* items */
    uint32_t number;  /* of the last body that was begun */
};

/* The next bytes to send. */
struct fragment_piece {
    bool is_whole; /* @data is a frame as it is */
    bool is_asked; /* @data is not here: @size bytes at @rest_offset of what @token stands for */
    uint8_t type;
    uint32_t body_size;
    uint32_t offset;
    struct slice data; /* borrows until the lane is used again */
    uint64_t size;
    uint64_t rest_offset;
    uint64_t token;
};

void fragment_lane_close(struct fragment_lane *lane);
static inline bool fragment_lane_busy(const struct fragment_lane *lane)
{
    return lane->count > 0;
}
/* Begins an item in the lane's queue and returns where a frame (wire_begin) is to begin. */
uint64_t fragment_item_begin(struct fragment_lane *lane, uint64_t token);
/* The frame begun at @start ends with the queue. @is_whole: as it is; else its body is cut. @rest: bytes of the body
 * behind those that are here. */
void fragment_item_end(struct fragment_lane *lane, uint64_t start, bool is_whole, uint64_t rest);
void fragment_item_cancel(struct fragment_lane *lane, uint64_t start);
/* False: there is nothing. */
bool fragment_next(const struct fragment_lane *lane, struct fragment_piece *piece);
/* Appends the body of a FRAGMENT to @out; with @data in place of piece->data when that was asked for. */
void fragment_write(struct fragment_lane *lane, const struct fragment_piece *piece,
                    struct slice data, struct buf *out);
/* @piece has left. */
void fragment_taken(struct fragment_lane *lane, const struct fragment_piece *piece);
/* What the first item stands for, 0 when there is none. */
uint64_t fragment_token(const struct fragment_lane *lane);
/* Drops everything. True: the first item had begun to leave, and the body of a FRAGMENT that gives it up was
 * appended to @out. */
bool fragment_lane_drop(struct fragment_lane *lane, struct buf *out);

/* ---- in ------------------------------------------------------------------------------------------------- */

struct fragment_part {
    struct buf body; /* what came so far */
    uint64_t size;   /* of the whole body; 0: none is under way */
    uint32_t number;
    uint8_t type;
    bool is_done; /* given to the reader, who is done with it when the next frame is asked for */
};

void fragment_part_close(struct fragment_part *part);
/* Takes the FRAGMENT in @frame, for @parts of each class. OK: @frame is the whole one now. ERR_MORE: it is not
 * complete; frame->part is its type and frame->body what is here of it (nothing when it was given up).
 * ERR_CORRUPT: not the fragment that comes next. */
enum err fragment_take(struct fragment_part *parts, struct wire_frame *frame);
/* The reader is done with the frame that fragment_take gave. */
void fragment_release(struct fragment_part *parts);

#endif
