#include "raft/message.h"

#include "storage/base/limits.h"
#include "storage/record.h"

#define AT_COUNT 32u

static void zeros(struct buf *out, uint64_t count)
{
    memset(buf_extend(out, count), 0, count);
}

static void encode_append(const struct message *message, struct buf *out)
{
    buf_u64(out, message->prev_index);
    buf_u64(out, message->prev_term);
    buf_u64(out, message->commit);
    buf_u32(out, message->count);
    buf_u8(out, message->version);
    zeros(out, 3);
    buf_append(out, message->records.data, message->records.size);
}

static void encode_append_result(const struct message *message, struct buf *out)
{
    buf_u64(out, message->rejected);
    buf_u64(out, message->last_index);
    buf_u64(out, message->conflict_term);
    buf_u64(out, message->held_index);
    buf_u16(out, message->features);
    buf_u16(out, message->capacity);
    buf_u8(out, message->version);
    zeros(out, 3);
}

static void encode_vote(const struct message *message, struct buf *out)
{
    buf_u64(out, message->candidate);
    buf_u64(out, message->last_index);
    buf_u64(out, message->last_term);
    buf_u8(out, message->version);
    buf_u8(out, message->disrupt_leader);
    buf_u8(out, message->pre_vote);
    zeros(out, 5);
}

static void encode_vote_result(const struct message *message, struct buf *out)
{
    buf_u16(out, message->features);
    buf_u16(out, message->capacity);
    buf_u8(out, message->version);
    buf_u8(out, message->granted);
    buf_u8(out, message->pre_vote);
    zeros(out, 1);
}

static void encode_install(const struct message *message, struct buf *out)
{
    buf_u64(out, message->last_index);
    buf_u64(out, message->last_term);
    buf_u64(out, message->change_index);
    buf_u8(out, message->version);
    zeros(out, 7);
    buf_sized(out, message->change);
    buf_sized(out, message->manifest);
}

static void encode_timeout_now(const struct message *message, struct buf *out)
{
    buf_u64(out, message->last_index);
    buf_u64(out, message->last_term);
    buf_u8(out, message->version);
    zeros(out, 7);
}

void message_encode(const struct message *message, struct buf *out)
{
    buf_u64(out, message->term);
    switch (message->type) {
    case WIRE_APPEND: encode_append(message, out); return;
    case WIRE_APPEND_RESULT: encode_append_result(message, out); return;
    case WIRE_VOTE: encode_vote(message, out); return;
    case WIRE_VOTE_RESULT: encode_vote_result(message, out); return;
    case WIRE_INSTALL: encode_install(message, out); return;
    case WIRE_TIMEOUT_NOW: encode_timeout_now(message, out); return;
    default: UNREACHABLE();
    }
}

void message_set_count(struct buf *out, uint64_t start, uint32_t count)
{
    CHECK(out->size >= start + MESSAGE_APPEND_SIZE);
    put_u32(out->data + start + AT_COUNT, count);
}

/* Bytes that are zero in this version: whoever sets them means something we do not know. */
static void expect_zeros(struct reader *reader, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (reader_u8(reader) != 0) reader->bad = true;
    }
}

static bool read_bool(struct reader *reader)
{
    const uint8_t value = reader_u8(reader);
    if (value > 1) reader->bad = true;
    return value == 1;
}

static void decode_append(struct reader *reader, struct message *message)
{
    message->prev_index = reader_u64(reader);
    message->prev_term = reader_u64(reader);
    message->commit = reader_u64(reader);
    message->count = reader_u32(reader);
    message->version = reader_u8(reader);
    expect_zeros(reader, 3);
    if (reader->bad) return;
    message->records = reader_bytes(reader, (uint64_t)(reader->end - reader->at));
}

static void decode_append_result(struct reader *reader, struct message *message)
{
    message->rejected = reader_u64(reader);
    message->last_index = reader_u64(reader);
    message->conflict_term = reader_u64(reader);
    message->held_index = reader_u64(reader);
    message->features = reader_u16(reader);
    message->capacity = reader_u16(reader);
    message->version = reader_u8(reader);
    expect_zeros(reader, 3);
}

static void decode_vote(struct reader *reader, struct message *message)
{
    message->candidate = reader_u64(reader);
    message->last_index = reader_u64(reader);
    message->last_term = reader_u64(reader);
    message->version = reader_u8(reader);
    message->disrupt_leader = read_bool(reader);
    message->pre_vote = read_bool(reader);
    expect_zeros(reader, 5);
}

static void decode_vote_result(struct reader *reader, struct message *message)
{
    message->features = reader_u16(reader);
    message->capacity = reader_u16(reader);
    message->version = reader_u8(reader);
    message->granted = read_bool(reader);
    message->pre_vote = read_bool(reader);
    expect_zeros(reader, 1);
}

static void decode_install(struct reader *reader, struct message *message)
{
    message->last_index = reader_u64(reader);
    message->last_term = reader_u64(reader);
    message->change_index = reader_u64(reader);
    message->version = reader_u8(reader);
    expect_zeros(reader, 7);
    message->change = reader_sized(reader);
    message->manifest = reader_sized(reader);
}

static void decode_timeout_now(struct reader *reader, struct message *message)
{
    message->last_index = reader_u64(reader);
    message->last_term = reader_u64(reader);
    message->version = reader_u8(reader);
    expect_zeros(reader, 7);
}

enum err message_decode(uint8_t type, struct slice body, struct message *message)
{
    struct reader reader = reader_of(body);
    memset(message, 0, sizeof *message);
    message->type = type;
    message->term = reader_u64(&reader);
    switch (type) {
    case WIRE_APPEND: decode_append(&reader, message); break;
    case WIRE_APPEND_RESULT: decode_append_result(&reader, message); break;
    case WIRE_VOTE: decode_vote(&reader, message); break;
    case WIRE_VOTE_RESULT: decode_vote_result(&reader, message); break;
    case WIRE_INSTALL: decode_install(&reader, message); break;
    case WIRE_TIMEOUT_NOW: decode_timeout_now(&reader, message); break;
    default: return ERR_NEWER;
    }
    if (reader.bad || reader.at != reader.end) return ERR_CORRUPT;
    return OK;
}

enum err message_entries(const struct message *message, uint16_t shard,
                         struct message_entry *entries)
{
    struct slice rest = message->records;
    uint64_t term = message->prev_term > 0 ? message->prev_term : 1;
    CHECK(message->type == WIRE_APPEND);
    if (message->count > APPEND_ENTRIES_MAX) return ERR_CORRUPT;
    for (uint32_t i = 0; i < message->count; i++) {
        struct record record;
        uint64_t size = 0;
        if (record_decode(rest, &record, &size) != OK) return ERR_CORRUPT;
        if (record.index != message->prev_index + 1 + i) return ERR_CORRUPT;
        /* The library keeps terms in a run-length list and believes whatever it is told: a term
         * that decreases or is zero would corrupt that list silently. */
        if (record.term < term || record.term > message->term) return ERR_CORRUPT;
        if (record.type > RECORD_CHANGE || record.shard != shard) return ERR_CORRUPT;
        term = record.term;
        entries[i] = (struct message_entry){
            .term = record.term,
            .type = record.type,
            .record = slice_of(rest.data, size),
            .payload = record.payload,
        };
        rest = slice_of(rest.data + size, rest.size - size);
    }
    return rest.size == 0 ? OK : ERR_CORRUPT;
}
