#include "storage/log_index.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"

void *log_index_grow(void *items, uint32_t count, uint32_t *capacity, uint64_t item_size)
{
    CHECK(count <= *capacity);
    if (count < *capacity) return items;
    CHECK(*capacity <= UINT32_MAX / 2);
    *capacity = *capacity > 0 ? *capacity * 2 : 8;
    return mem_resize(items, *capacity * item_size);
}

struct log_image *log_index_image_create(uint64_t first_index)
{
    struct log_image *image = mem_zero(sizeof *image);
    image->first_index = first_index;
    (void)buf_extend(&image->bytes, GROUP_HEADER_SIZE);
    return image;
}

void log_index_image_destroy(struct log_image *image)
{
    buf_close(&image->bytes);
    mem_free(image->slots);
    mem_free(image);
}

void log_index_note(struct log *log, const struct record *record)
{
    CHECK(record->index == log->last_index + 1);
    if (log->runs_count == 0 || log->runs[log->runs_count - 1].term != record->term) {
        log->runs = log_index_grow(log->runs, log->runs_count, &log->runs_capacity,
                                   sizeof *log->runs);
        log->runs[log->runs_count++] = (struct log_run){.first_index = record->index,
                                                        .term = record->term};
    }
    if (record->type == RECORD_CHANGE) {
        log->changes = log_index_grow(log->changes, log->changes_count, &log->changes_capacity,
                                      sizeof *log->changes);
        struct log_change *change = &log->changes[log->changes_count++];
        *change = (struct log_change){.index = record->index};
        buf_append(&change->payload, record->payload.data, record->payload.size);
    }
    if (record->stamp_ms > log->last_stamp_ms) log->last_stamp_ms = record->stamp_ms;
    log->last_index = record->index;
}

void log_index_add_slot(struct log_segment *segment, uint64_t index, uint32_t offset, uint32_t size)
{
    CHECK(segment->slots_first + segment->slots_count == index);
    segment->slots = log_index_grow(segment->slots, segment->slots_count, &segment->slots_capacity,
                                    sizeof *segment->slots);
    segment->slots[segment->slots_count++] = (struct log_slot){.offset = offset, .size = size};
    segment->file.last_index = index;
}

static void cut_segment(struct log_segment *segment, uint64_t index)
{
    CHECK(segment->state != LOG_SEGMENT_SEALED);
    if (index <= segment->slots_first) {
        segment->slots_first = index;
        segment->slots_count = 0;
    } else {
        segment->slots_count = (uint32_t)(index - segment->slots_first);
    }
    if (index < segment->file.first_index) segment->file.first_index = index;
    segment->file.last_index = index - 1;
}

void log_index_cut(struct log *log, uint64_t index)
{
    for (uint32_t i = log->segments_count; i > 0; i--) {
        struct log_segment *segment = log->segments[i - 1];
        if (segment->file.last_index < index && segment->file.first_index <= index) break;
        cut_segment(segment, index);
    }
    while (log->runs_count > 0 && log->runs[log->runs_count - 1].first_index >= index) {
        log->runs_count--;
    }
    while (log->changes_count > 0 && log->changes[log->changes_count - 1].index >= index) {
        buf_close(&log->changes[--log->changes_count].payload);
    }
}

struct log_segment *log_index_find(const struct log *log, uint64_t index, struct log_slot *slot)
{
    /* last_index never falls from one segment to the next, and a segment in which no entry counts
     * has the last_index of the one before: so the first that reaches @index is the one that has
     * it. */
    uint32_t low = 0;
    uint32_t high = log->segments_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (log->segments[middle]->file.last_index < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == log->segments_count) return NULL;
    struct log_segment *segment = log->segments[low];
    if (index < segment->slots_first) return NULL;
    CHECK(index - segment->slots_first < segment->slots_count);
    *slot = segment->slots[index - segment->slots_first];
    return segment;
}

struct slice log_index_pending(const struct log *log, uint64_t index)
{
    for (uint32_t i = log->images_count; i > 0; i--) {
        const struct log_image *image = log->images[i - 1];
        if (index < image->first_index) continue;
        if (index - image->first_index >= image->slots_count) break;
        const struct log_slot slot = image->slots[index - image->first_index];
        return slice_of(image->bytes.data + slot.offset, slot.size);
    }
    return (struct slice){0};
}

uint64_t log_term_at(const struct log *log, uint64_t index)
{
    if (index == 0) return 0;
    if (index == log->prefix_index) return log->prefix_term;
    if (index < log->first_index || index > log->last_index) return 0;
    uint32_t low = 0; /* the last run that begins at or before @index */
    uint32_t high = log->runs_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (log->runs[middle].first_index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    CHECK(low > 0);
    return log->runs[low - 1].term;
}

bool log_change_at(const struct log *log, uint64_t index, uint64_t *change_index,
                   struct slice *payload)
{
    for (uint32_t i = log->changes_count; i > 0; i--) {
        const struct log_change *change = &log->changes[i - 1];
        if (change->index > index) continue;
        *change_index = change->index;
        *payload = buf_slice(&change->payload);
        return true;
    }
    return false;
}

struct log_segment *log_segment_find(const struct log *log, uint32_t number)
{
    uint32_t low = 0;
    uint32_t high = log->segments_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (log->segments[middle]->file.number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == log->segments_count || log->segments[low]->file.number != number) return NULL;
    return log->segments[low];
}

void log_drop_prefix(struct log *log, uint64_t first_index)
{
    if (first_index <= log->first_index) return;
    CHECK(first_index <= log->last_index + 1);
    log->prefix_term = log_term_at(log, first_index - 1);
    log->prefix_index = first_index - 1;
    log->first_index = first_index;
    for (uint32_t i = 0; i < log->segments_count; i++) {
        struct log_segment *segment = log->segments[i];
        if (segment->file.last_index >= first_index) break;
        if (segment->state != LOG_SEGMENT_SEALED) continue;
        mem_free(segment->slots);
        segment->slots = NULL;
        segment->slots_count = 0;
        segment->slots_capacity = 0;
        segment->slots_first = segment->file.last_index + 1;
    }
    uint32_t drop = 0;
    while (drop + 1 < log->runs_count && log->runs[drop + 1].first_index <= first_index) drop++;
    if (first_index > log->last_index) drop = log->runs_count;
    log->runs_count -= drop;
    if (drop > 0) memmove(log->runs, log->runs + drop, log->runs_count * sizeof *log->runs);
    /* The newest change before the first entry is still in force there. */
    drop = 0;
    while (drop + 1 < log->changes_count && log->changes[drop + 1].index < first_index) {
        buf_close(&log->changes[drop++].payload);
    }
    log->changes_count -= drop;
    if (drop > 0) {
        memmove(log->changes, log->changes + drop, log->changes_count * sizeof *log->changes);
    }
}

void log_index_close(struct log *log)
{
    for (uint32_t i = 0; i < log->changes_count; i++) buf_close(&log->changes[i].payload);
    for (uint32_t i = 0; i < log->images_count; i++) log_index_image_destroy(log->images[i]);
    mem_free(log->changes);
    mem_free(log->images);
    mem_free(log->runs);
}

static void check_segment(const struct log *log, uint32_t position)
{
    const struct log_segment *segment = log->segments[position];
    const struct log_file *file = &segment->file;
    CHECK(segment->slots_first + segment->slots_count == file->last_index + 1);
    CHECK(segment->slots_count <= segment->slots_capacity);
    CHECK(file->first_index <= file->last_index + 1);
    CHECK(file->used >= SEGMENT_BLOCK_SIZE);
    CHECK(file->used <= segment->size);
    if (segment->state == LOG_SEGMENT_ACTIVE) CHECK(segment == log->active);
    if (segment->slots_count > 0) {
        const struct log_slot last = segment->slots[segment->slots_count - 1];
        CHECK(last.offset + (uint64_t)last.size < file->used);
    }
    if (position == 0) return;
    const struct log_segment *before = log->segments[position - 1];
    CHECK(before->file.number < file->number);
    CHECK(before->file.last_index <= file->last_index);
    CHECK(before->file.last_index < file->first_index);
    CHECK(before->state >= segment->state);
    /* Entries that can be looked up have no gap. */
    if (file->last_index >= log->first_index && before->file.last_index >= log->first_index) {
        CHECK(before->file.last_index + 1 == segment->slots_first);
    }
}

void log_index_check(const struct log *log)
{
    for (uint32_t i = 0; i < log->segments_count; i++) check_segment(log, i);
    uint64_t next = log_index_submitted(log) + 1;
    for (uint32_t i = 0; i < log->images_count; i++) {
        const struct log_image *image = log->images[i];
        CHECK(image->first_index == next);
        CHECK(image->records == image->slots_count + (i == 0 && log->cut_index > 0 ? 1 : 0));
        next += image->slots_count;
    }
    CHECK(next == log->last_index + 1);
    for (uint32_t i = 1; i < log->runs_count; i++) {
        CHECK(log->runs[i - 1].first_index < log->runs[i].first_index);
        CHECK(log->runs[i - 1].term < log->runs[i].term);
    }
    if (log->first_index <= log->last_index) {
        CHECK(log->runs_count > 0);
        CHECK(log->runs[0].first_index <= log->first_index);
        CHECK(log->runs[log->runs_count - 1].first_index <= log->last_index);
    }
    if (log->changes_count > 0) {
        CHECK(log->changes[log->changes_count - 1].index <= log->last_index);
    }
}
