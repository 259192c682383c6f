#include "raft/fragment.h"

#include "storage/base/check.h"

#define LANE_KEEP_SIZE (64u * KIB)
#define PART_KEEP_SIZE MIB

STATIC_CHECK(WIRE_HEADER_SIZE + FRAGMENT_HEAD_SIZE + FRAGMENT_SIZE <= PEER_WHOLE_SIZE_MAX,
             "a fragment travels whole");

/* Stands before the bytes of an item in the queue. */
struct item {
    uint64_t stored; /* bytes of the queue behind this */
    uint64_t rest;   /* bytes of the body that are elsewhere */
    uint64_t token;
    bool is_whole;
};

enum fragment_class fragment_class(uint8_t type)
{
    if (type >= WIRE_APPEND && type < WIRE_PROBE) return FRAGMENT_RAFT;
    if (type >= WIRE_SHIP_WANT && type < WIRE_FORWARD) return FRAGMENT_FILES;
    if (type == WIRE_FORWARD_REPLY) return FRAGMENT_REPLY;
    if (type >= WIRE_FORWARD && type <= WIRE_FORWARD_CREDIT) return FRAGMENT_REQUEST;
    if (type > WIRE_FORWARD_CREDIT && type < WIRE_FRAGMENT) return FRAGMENT_FILES;
    return FRAGMENT_CLASS_COUNT;
}

/* ---- out ------------------------------------------------------------------------------------------------ */

void fragment_lane_close(struct fragment_lane *lane)
{
    buf_close(&lane->queue);
    *lane = (struct fragment_lane){0};
}

static struct item item_at(const struct fragment_lane *lane, uint64_t at)
{
    struct item item;
    CHECK(at + sizeof item <= lane->queue.size);
    memcpy(&item, lane->queue.data + at, sizeof item);
    return item;
}

uint64_t fragment_item_begin(struct fragment_lane *lane, uint64_t token)
{
    const struct item item = {.token = token};
    buf_append(&lane->queue, &item, sizeof item);
    return lane->queue.size;
}

/* Bytes of @item that travel. */
static uint64_t item_size(const struct item *item)
{
    return item->is_whole ? item->stored : item->stored - WIRE_HEADER_SIZE + item->rest;
}

void fragment_item_end(struct fragment_lane *lane, uint64_t start, bool is_whole, uint64_t rest)
{
    struct item item = item_at(lane, start - sizeof item);
    item.stored = lane->queue.size - start;
    item.rest = rest;
    item.is_whole = is_whole;
    CHECK(item.stored >= WIRE_HEADER_SIZE);
    CHECK(item_size(&item) <= PEER_FRAME_SIZE_MAX);
    memcpy(lane->queue.data + start - sizeof item, &item, sizeof item);
    lane->waiting += item_size(&item);
    lane->count++;
}

void fragment_item_cancel(struct fragment_lane *lane, uint64_t start)
{
    CHECK(start >= sizeof(struct item));
    lane->queue.size = start - sizeof(struct item);
}

bool fragment_next(const struct fragment_lane *lane, struct fragment_piece *piece)
{
    if (lane->count == 0) return false;
    const struct item item = item_at(lane, lane->start);
    const uint8_t *frame = lane->queue.data + lane->start + sizeof item;
    *piece = (struct fragment_piece){.is_whole = item.is_whole,
                                     .type = wire_type(frame),
                                     .token = item.token,
                                     .size = item.stored,
                                     .data = slice_of(frame, item.stored)};
    if (item.is_whole) return true;
    const uint64_t here = item.stored - WIRE_HEADER_SIZE;
    const uint64_t left = here + item.rest - lane->sent;
    piece->body_size = (uint32_t)(here + item.rest);
    piece->offset = (uint32_t)lane->sent;
    piece->is_asked = lane->sent >= here && item.rest > 0;
    piece->size = left < FRAGMENT_SIZE ? left : FRAGMENT_SIZE;
    if (piece->is_asked) {
        piece->rest_offset = lane->sent - here;
        piece->data = (struct slice){0};
        return true;
    }
    /* What is here of a body goes by itself: a fragment is never made from two places. */
    if (piece->size > here - lane->sent) piece->size = here - lane->sent;
    piece->data = slice_of(frame + WIRE_HEADER_SIZE + lane->sent, piece->size);
    return true;
}

static void write_head(struct buf *out, uint8_t type, uint32_t size, uint32_t offset,
                       uint32_t number)
{
    uint8_t *at = buf_extend(out, FRAGMENT_HEAD_SIZE);
    put_u32(at, type); /* The type and three zeros. */
    put_u32(at + 4, size);
    put_u32(at + 8, offset);
    put_u32(at + 12, number);
}

void fragment_write(struct fragment_lane *lane, const struct fragment_piece *piece,
                    struct slice data, struct buf *out)
{
    CHECK(!piece->is_whole);
    CHECK(data.size == piece->size);
    if (piece->offset == 0) lane->number++;
    write_head(out, piece->type, piece->body_size, piece->offset, lane->number);
    buf_append(out, data.data, data.size);
}

static void reset(struct fragment_lane *lane)
{
    lane->queue.size = 0;
    lane->start = 0;
    lane->sent = 0;
    lane->waiting = 0;
    lane->count = 0;
    buf_trim(&lane->queue, LANE_KEEP_SIZE);
}

void fragment_taken(struct fragment_lane *lane, const struct fragment_piece *piece)
{
    const struct item item = item_at(lane, lane->start);
    CHECK(lane->waiting >= piece->size);
    lane->waiting -= piece->size;
    lane->sent += piece->size;
    if (lane->sent < item_size(&item)) return;
    lane->start += sizeof item + item.stored;
    lane->sent = 0;
    lane->count--;
    if (lane->count == 0) {
        CHECK(lane->waiting == 0);
        reset(lane);
    } else if (lane->start > lane->queue.size / 2) {
        buf_shift(&lane->queue, lane->start);
        lane->start = 0;
    }
}

uint64_t fragment_token(const struct fragment_lane *lane)
{
    return lane->count > 0 ? item_at(lane, lane->start).token : 0;
}

bool fragment_lane_drop(struct fragment_lane *lane, struct buf *out)
{
    struct fragment_piece piece = {0};
    const bool is_begun = fragment_next(lane, &piece) && !piece.is_whole && lane->sent > 0;
    if (is_begun) write_head(out, piece.type, 0, 0, lane->number);
    reset(lane);
    return is_begun;
}

/* ---- in ------------------------------------------------------------------------------------------------- */

void fragment_part_close(struct fragment_part *part)
{
    buf_close(&part->body);
    *part = (struct fragment_part){0};
}

static void part_reset(struct fragment_part *part)
{
    part->body.size = 0;
    part->size = 0;
    buf_trim(&part->body, PART_KEEP_SIZE);
}

enum err fragment_take(struct fragment_part *parts, struct wire_frame *frame)
{
    struct reader reader = reader_of(frame->body);
    const uint32_t type = reader_u32(
        &reader); /* The zeros behind it would make it a larger number. */
    const uint64_t size = reader_u32(&reader);
    const uint64_t offset = reader_u32(&reader);
    const uint32_t number = reader_u32(&reader);
    if (reader.bad || type > UINT8_MAX) return ERR_CORRUPT;
    const enum fragment_class class = fragment_class((uint8_t)type);
    if (class == FRAGMENT_CLASS_COUNT) return ERR_CORRUPT;
    const struct slice data = slice_of(reader.at, (uint64_t)(reader.end - reader.at));
    struct fragment_part *part = &parts[class];
    const bool is_same = part->size > 0 && part->type == type && part->number == number;
    frame->part = (uint8_t)type;
    if (data.size == 0) { /* Given up. */
        if (!is_same || size != 0 || offset != 0) return ERR_CORRUPT;
        part_reset(part);
        return ERR_MORE;
    }
    if (offset == 0) {
        if (part->size > 0) return ERR_CORRUPT;
        if (size > PEER_FRAME_SIZE_MAX - WIRE_HEADER_SIZE) return ERR_CORRUPT;
        part->size = size;
        part->type = (uint8_t)type;
        part->number = number;
    } else if (!is_same || part->size != size || part->body.size != offset) {
        return ERR_CORRUPT;
    }
    if (data.size > part->size - part->body.size) return ERR_CORRUPT;
    buf_append(&part->body, data.data, data.size);
    frame->body = buf_slice(&part->body);
    if (part->body.size < part->size) return ERR_MORE;
    frame->type = (uint8_t)type;
    frame->part = 0;
    frame->owner = &part->body;
    part->is_done = true;
    return OK;
}

void fragment_release(struct fragment_part *parts)
{
    for (uint32_t i = 0; i < FRAGMENT_CLASS_COUNT; i++) {
        if (!parts[i].is_done) continue;
        parts[i].is_done = false;
        part_reset(&parts[i]);
    }
}
