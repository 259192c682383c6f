#include "storage/base/check.h"
#include "storage/log_index.h"

/* A read-ahead buffer that grew for one large record is given back with the next small one. */
#define WINDOW_KEEP_SIZE (4u * LOG_READ_SIZE)

struct slice log_memory(const struct log *log, struct place place, uint64_t size)
{
    return tail_find(&log->tail, place.file, place.offset, size);
}

static enum err file_read(struct log *log, const struct log_segment *segment, uint64_t offset,
                          void *data, uint64_t size)
{
    if (offset > segment->file.used || size > segment->file.used - offset) return ERR_CORRUPT;
    if (segment->handle < 0) return ERR_IO; /* It was gone when this start looked. */
    struct disk *disk = log->config.disk;
    return disk->read(disk->context, segment->handle, offset, data, size);
}

/* What came from the disk must be the record that was written there. */
static enum err verify(const struct log *log, uint64_t index, struct slice bytes)
{
    struct record record;
    uint64_t size = 0;
    const enum err err = record_decode(bytes, &record, &size);
    if (err == ERR_MORE) return ERR_CORRUPT;
    if (err != OK) return err;
    if (size != bytes.size || record.index != index) return ERR_CORRUPT;
    if (record.term != log_term_at(log, index)) return ERR_CORRUPT;
    return OK;
}

/* Up to here the file holds what it will always hold; a group under way is behind it. */
static uint64_t written_end(const struct log *log, const struct log_segment *segment)
{
    const bool under_way = log->write_pending && segment == log->active;
    return under_way ? log->write_op.offset : segment->file.used;
}

/* Makes the window hold the record in @slot, and what follows it while it is at it. */
static enum err window_fill(struct log *log, const struct log_segment *segment,
                            struct log_slot slot, struct slice *bytes)
{
    struct buf *window = &log->window;
    const uint64_t end = log->window_offset + window->size;
    if (log->window_file != segment->file.number || slot.offset < log->window_offset ||
        slot.offset + (uint64_t)slot.size > end) {
        uint64_t size = written_end(log, segment) - slot.offset;
        if (size > LOG_READ_SIZE) size = LOG_READ_SIZE;
        if (size < slot.size) size = slot.size;
        window->size = 0;
        if (size <= LOG_READ_SIZE) buf_trim(window, WINDOW_KEEP_SIZE);
        log->window_file = segment->file.number;
        log->window_offset = slot.offset;
        const enum err err = file_read(log, segment, slot.offset, buf_reserve(window, size), size);
        if (err != OK) return err;
        window->size = size;
    }
    *bytes = slice_of(window->data + (slot.offset - log->window_offset), slot.size);
    return OK;
}

enum err log_entry(struct log *log, uint64_t index, struct place *place, struct slice *bytes)
{
    if (index < log->first_index || index > log->last_index) return ERR_NOT_FOUND;
    *place = (struct place){0};
    if (index > log_index_submitted(log)) {
        *bytes = log_index_pending(log, index);
        CHECK(bytes->data != NULL);
        return OK;
    }
    struct log_slot slot;
    const struct log_segment *segment = log_index_find(log, index, &slot);
    CHECK(segment != NULL);
    *place = (struct place){.file = segment->file.number, .offset = slot.offset};
    *bytes = log_memory(log, *place, slot.size);
    if (bytes->data != NULL) return OK;
    enum err err = window_fill(log, segment, slot, bytes);
    if (err == OK) err = verify(log, index, *bytes);
    return err;
}

/* Reads neighbours on the disk from @index to at most @last in one go, up to @room bytes or one
 * record. */
static enum err read_run(struct log *log, uint64_t index, uint64_t last, uint64_t room,
                         struct buf *out, uint32_t *count)
{
    struct log_slot slot;
    const struct log_segment *segment = log_index_find(log, index, &slot);
    CHECK(segment != NULL);
    const uint64_t start = slot.offset;
    const uint64_t out_start = out->size;
    uint64_t size = slot.size;
    uint32_t records = 1;
    while (index + records <= last && index + records <= segment->file.last_index) {
        slot = segment->slots[index + records - segment->slots_first];
        if (slot.offset != start + size || size + slot.size > room) break;
        size += slot.size;
        records++;
    }
    uint8_t *at = buf_extend(out, size);
    enum err err = file_read(log, segment, start, at, size);
    for (uint64_t done = 0; err == OK && done < size;) {
        slot = segment->slots[index + *count - segment->slots_first];
        err = verify(log, index + *count, slice_of(at + done, slot.size));
        if (err != OK) break;
        done += slot.size;
        out->size = out_start + done;
        (*count)++;
    }
    if (*count == 0) out->size = out_start;
    return err;
}

enum err log_read(struct log *log, uint64_t first, uint64_t last, uint64_t size_max,
                  struct buf *out, uint32_t *count)
{
    *count = 0;
    if (first < log->first_index || first > log->last_index) return ERR_NOT_FOUND;
    if (last > log->last_index) last = log->last_index;
    const uint64_t start = out->size;
    for (uint64_t index = first; index <= last;) {
        const uint64_t taken = out->size - start;
        const uint64_t room = size_max > taken ? size_max - taken : 0;
        struct slice bytes = {0};
        struct log_slot slot;
        if (index > log_index_submitted(log)) {
            bytes = log_index_pending(log, index);
        } else {
            const struct log_segment *segment = log_index_find(log, index, &slot);
            CHECK(segment != NULL);
            bytes = tail_find(&log->tail, segment->file.number, slot.offset, slot.size);
            if (bytes.data == NULL) bytes.size = slot.size;
        }
        if (bytes.size > room && *count > 0) break;
        uint32_t records = 0;
        if (bytes.data != NULL) {
            buf_append(out, bytes.data, bytes.size);
            records = 1;
        } else {
            const enum err err = read_run(log, index, last, room, out, &records);
            if (err != OK) {
                *count += records;
                return err;
            }
        }
        *count += records;
        index += records;
    }
    return OK;
}

uint64_t log_entry_size(const struct log *log, uint64_t index)
{
    struct log_slot slot;
    if (index < log->first_index || index > log->last_index) return 0;
    if (index > log_index_submitted(log)) return log_index_pending(log, index).size;
    const struct log_segment *segment = log_index_find(log, index, &slot);
    CHECK(segment != NULL);
    return slot.size;
}

enum err log_piece(struct log *log, uint64_t index, uint64_t offset, uint64_t size, struct buf *out,
                   bool *in_memory)
{
    struct log_slot slot;
    if (index < log->first_index || index > log->last_index) return ERR_NOT_FOUND;
    CHECK(offset + size <= log_entry_size(log, index));
    *in_memory = true;
    if (index > log_index_submitted(log)) {
        buf_append(out, log_index_pending(log, index).data + offset, size);
        return OK;
    }
    const struct log_segment *segment = log_index_find(log, index, &slot);
    const struct slice bytes = tail_find(&log->tail, segment->file.number, slot.offset, slot.size);
    if (bytes.data != NULL) {
        buf_append(out, bytes.data + offset, size);
        return OK;
    }
    *in_memory = false;
    uint8_t *at = buf_extend(out, size);
    const enum err err = file_read(log, segment, slot.offset + offset, at, size);
    if (err != OK) out->size -= size;
    return err;
}

/* The slots of @segment from @index on towards @other, as long as they lie within LOG_READ_SIZE. */
static void span_of(const struct log_segment *segment, uint64_t index, uint64_t other,
                    struct log_located *located)
{
    uint64_t begin = located->place.offset;
    uint64_t end = begin + located->size;
    const uint64_t first = segment->slots_first;
    while (index != other) {
        index = other > index ? index + 1 : index - 1;
        if (index < first || index >= first + segment->slots_count) break;
        const struct log_slot slot = segment->slots[index - first];
        const uint64_t low = slot.offset < begin ? slot.offset : begin;
        const uint64_t slot_end = slot.offset + (uint64_t)slot.size;
        const uint64_t high = slot_end > end ? slot_end : end;
        if (high - low > LOG_READ_SIZE) break;
        begin = low;
        end = high;
    }
    located->span_offset = begin;
    located->span_size = end - begin;
}

enum err log_locate(const struct log *log, uint64_t index, uint64_t other,
                    struct log_located *located)
{
    struct log_slot slot;
    if (index < log->first_index || index > log_index_submitted(log)) return ERR_NOT_FOUND;
    const struct log_segment *segment = log_index_find(log, index, &slot);
    if (segment == NULL) return ERR_NOT_FOUND;
    *located = (struct log_located){
        .place = {.file = segment->file.number, .offset = slot.offset},
        .size = slot.size,
        .handle = segment->handle,
    };
    located->memory = log_memory(log, located->place, slot.size);
    if (located->memory.data != NULL) return OK;
    if (segment->handle < 0) return ERR_IO;
    span_of(segment, index, other, located);
    return OK;
}
