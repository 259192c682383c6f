/* differ.c - makes one node's keys differ from those of the others, as a bug of ours would: nothing on its disk is
 * damaged.
 *
 *   differ FILE KEY
 *
 * FILE is a segment of a stopped node that is not sealed yet. In every group the last bit of each value of KEY is
 * turned over, and whatever vouches for it is made anew: the effect's checksum, the record's, the group's, and the
 * chain of all groups behind it. Prints how many values it changed; exit code 1 if none. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "storage/base/bytes.h"
#include "storage/effect.h"
#include "storage/record.h"
#include "storage/segment.h"

static bool read_file(const char *path, struct buf *bytes)
{
    FILE *file = fopen(path, "rb");
    size_t got = 1;
    if (file == NULL) return false;
    while (got > 0) {
        uint8_t piece[4096];
        got = fread(piece, 1, sizeof piece, file);
        if (got > 0) buf_append(bytes, piece, got);
    }
    const bool is_read = ferror(file) == 0;
    return fclose(file) == 0 && is_read;
}

static bool write_file(const char *path, const struct buf *bytes)
{
    FILE *file = fopen(path, "r+b");
    if (file == NULL) return false;
    const bool is_written = fwrite(bytes->data, 1, bytes->size, file) == bytes->size;
    return fclose(file) == 0 && is_written;
}

/* Changes the record at @at, whose whole payload is there; the number of values changed. */
static uint32_t change_record(uint8_t *at, const struct record *record, struct slice key)
{
    struct effect_walk walk;
    struct effect effect;
    uint32_t changed = 0;
    if (record->type != RECORD_COMMAND) return 0;
    effect_walk_open(&walk, record->payload);
    while (effect_walk_next(&walk, &effect) == OK) {
        if (effect.kind != EFFECT_PUT || effect.value.size == 0) continue;
        if (effect.key.size != key.size || memcmp(effect.key.data, key.data, key.size) != 0) {
            continue;
        }
        uint8_t *place = at + RECORD_HEADER_SIZE + walk.offset;
        place[EFFECT_HEADER_SIZE + key.size + effect.value.size - 1] ^= 1;
        effect_finish(&effect, place);
        changed++;
    }
    if (changed > 0) (void)record_seal(at, record);
    return changed;
}

/* Changes the groups of the file, one after the other. */
static uint32_t change_groups(struct buf *file, struct slice key)
{
    struct segment_header header;
    struct segment_group group;
    struct hash128 chain;
    struct hash128 before = {0};
    uint32_t changed = 0;
    uint64_t offset = SEGMENT_BLOCK_SIZE;
    if (segment_header_decode(buf_slice(file), &header) != OK) return 0;
    while (offset < file->size) {
        const struct slice bytes = slice_of(file->data + offset, file->size - offset);
        if (segment_group_decode(bytes, header.file_id, file->size, offset, &group) != OK) break;
        if (segment_group_verify(bytes, &group, &chain) != OK) break;
        struct buf image = {0};
        const uint64_t end = group.used - GROUP_FOOTER_SIZE;
        buf_append(&image, bytes.data, end);
        uint64_t position = GROUP_HEADER_SIZE;
        while (position < end) {
            struct record record;
            uint64_t size = 0;
            uint8_t *at = image.data + position;
            if (record_decode(slice_of(at, end - position), &record, &size) != OK) return 0;
            changed += change_record(at, &record, key);
            position += size;
        }
        if (offset > SEGMENT_BLOCK_SIZE) group.link = before.low;
        before = segment_group_seal(&image, &group, header.file_id);
        memcpy(file->data + offset, image.data, image.size);
        offset += image.size;
        buf_close(&image);
    }
    return changed;
}

int main(int count, char **arguments)
{
    struct buf file = {0};
    if (count != 3 || !read_file(arguments[1], &file)) {
        fprintf(stderr, "usage: differ FILE KEY\n");
        return 2;
    }
    const struct slice key = slice_of((const uint8_t *)arguments[2], strlen(arguments[2]));
    const uint32_t changed = change_groups(&file, key);
    const bool is_written = changed > 0 && write_file(arguments[1], &file);
    buf_close(&file);
    printf("%u\n", changed);
    return is_written ? 0 : 1;
}
