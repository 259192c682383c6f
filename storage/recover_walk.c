#include "storage/recover_walk.h"

/* The next valid group header of this file from @offset on; 0: there is none. */
static uint64_t find_group(const struct recover_file *file, struct slice bytes, uint64_t offset,
                           struct segment_group *group)
{
    for (; offset + SEGMENT_BLOCK_SIZE <= bytes.size; offset += SEGMENT_BLOCK_SIZE) {
        const struct slice rest = slice_of(bytes.data + offset, bytes.size - offset);
        const enum err err = segment_group_decode(rest, file->header.file_id, bytes.size, offset,
                                                  group);
        if (err == OK) return offset;
    }
    return 0;
}

/* The first block of this file from @offset on in which something was written; 0: there is none. With @headers only
 * blocks count that begin like a group. */
static uint64_t find_written(const struct recover_file *file, struct slice bytes, uint64_t offset,
                             bool headers)
{
    for (; offset + SEGMENT_BLOCK_SIZE <= bytes.size; offset += SEGMENT_BLOCK_SIZE) {
        const struct slice block = slice_of(bytes.data + offset, SEGMENT_BLOCK_SIZE);
        const bool is_written = headers
                                    ? segment_group_resembles(block, file->header.file_id, offset)
                                    : !segment_is_zero(block.data, block.size);
        if (is_written) return offset;
    }
    return 0;
}

/* Decides what the bytes from file->end on are. @header: a valid group header is there, but its
 * group does not count. */
static void judge_rest(struct recover_file *file, struct slice bytes,
                       const struct segment_group *header)
{
    const uint64_t end = file->end;
    if (end + SEGMENT_BLOCK_SIZE > bytes.size) return;
    const uint8_t *at = bytes.data + end;
    uint64_t size = bytes.size - end;
    while (size >= SECTOR_SIZE && segment_is_zero(at + size - SECTOR_SIZE, SECTOR_SIZE)) {
        size -= SECTOR_SIZE;
    }
    while (size > 0 && at[size - 1] == 0) size--;
    file->rest_size = size;
    if (size == 0) return;

    struct segment_group behind;
    const uint64_t proof = find_group(file, bytes, end + SEGMENT_BLOCK_SIZE, &behind);
    if (proof > 0) {
        file->rest = REST_DAMAGED;
        file->proof_offset = proof;
        file->proof_index = behind.durable_index;
        return;
    }
    /* One group is under way at a time, and nothing is written behind one that was cut: what lies behind this one
     * proves as much when it rotted itself. Without a header nobody knows where this one ends, so that what looks like
     * a group has to be there. */
    const uint64_t behind_at = end + (header != NULL ? align_up(header->used, SEGMENT_BLOCK_SIZE)
                                                     : SEGMENT_BLOCK_SIZE);
    file->proof_offset = find_written(file, bytes, behind_at, header == NULL);
    if (file->proof_offset > 0) {
        file->rest = REST_FOLLOWED;
        return;
    }
    if (header == NULL) {
        file->rest = segment_is_zero(at, SECTOR_SIZE) ? REST_TORN : REST_SUSPECT;
        return;
    }
    /* A sound header in the first group of a file says what came before it, sound group or not. */
    file->rest_has_link = true;
    file->rest_link = header->link;
    const bool follows = file->groups == 0 || header->link == file->last_chain;
    const uint64_t extent = align_up(header->used, SECTOR_SIZE);
    file->rest = follows && segment_has_zero_sector(at, extent) ? REST_TORN : REST_SUSPECT;
}

/* Walks the groups of a file that is in memory as a whole. */
void recover_walk(struct recover_file *file, struct slice bytes)
{
    file->end = SEGMENT_BLOCK_SIZE;
    for (;;) {
        struct segment_group group;
        const struct slice rest = slice_of(bytes.data + file->end, bytes.size - file->end);
        enum err err = segment_group_decode(rest, file->header.file_id, bytes.size, file->end,
                                            &group);
        if (err != OK) {
            judge_rest(file, bytes, NULL);
            return;
        }
        struct hash128 chain;
        err = segment_group_verify(rest, &group, &chain);
        if (err != OK || (file->groups > 0 && group.link != file->last_chain)) {
            judge_rest(file, bytes, &group);
            return;
        }
        if (file->groups == 0) file->first_link = group.link;
        file->groups++;
        file->last_offset = file->end;
        file->last_link = group.link;
        file->last_chain = chain.low;
        file->last_index = group.last_index;
        file->last_is_mark = group.count == 0;
        file->end += align_up(group.used, SEGMENT_BLOCK_SIZE);
    }
}
