#include "storage/segment.h"

#include "storage/base/check.h"

#define SEGMENT_MAGIC UINT64_C(0x313030474553564b) /* "KVSEG001" */
#define FOOTER_MAGIC UINT64_C(0x444e45505247564b)  /* "KVGRPEND" */
#define GROUP_MAGIC 0x5247564bu                    /* "KVGR" */
#define CHECKED_SIZE 56u                           /* of either header, before its checksum */
#define NUMBER_DIGITS 8u
#define ROTTEN_BITS_MAX                                                                            \
    4u /* of 96 that are known; whoever writes values knows 64 of them, so more would be a risk */
#define KIND_SEGMENT 1u
#define KIND_TABLE 2u

STATIC_CHECK(CHECKED_SIZE + 8 == GROUP_HEADER_SIZE, "the checksum ends the header of a group");
STATIC_CHECK(GROUP_HEADER_SIZE <= SECTOR_SIZE, "a group header is written wholly or not at all");
STATIC_CHECK(SEGMENT_BLOCK_SIZE % SECTOR_SIZE == 0, "a block is made of sectors");

void segment_name(char name[SEGMENT_NAME_SIZE], const char *folder, uint32_t number)
{
    const uint64_t folder_size = strlen(folder);
    CHECK(folder_size + 16 < SEGMENT_NAME_SIZE);
    memcpy(name, folder, folder_size);
    char *at = name + folder_size;
    *at++ = '/';
    uint32_t digits = NUMBER_DIGITS;
    for (uint64_t limit = 100000000; number >= limit; limit *= 10) digits++;
    uint32_t rest = number;
    for (uint32_t i = digits; i > 0; i--) {
        at[i - 1] = (char)('0' + rest % 10);
        rest /= 10;
    }
    memcpy(at + digits, ".log", 5);
}

uint32_t segment_number(const char *name)
{
    uint64_t number = 0;
    uint32_t digits = 0;
    while (name[digits] >= '0' && name[digits] <= '9' && digits < 10) {
        number = number * 10 + (uint64_t)(name[digits] - '0');
        digits++;
    }
    if (digits < NUMBER_DIGITS || strcmp(name + digits, ".log") != 0) return 0;
    if (digits > NUMBER_DIGITS && name[0] == '0') return 0;
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

void segment_header_encode(const struct segment_header *header, uint8_t *block)
{
    CHECK(header->number > 0);
    CHECK(header->size % SEGMENT_BLOCK_SIZE == 0);
    CHECK(header->size <= UINT32_MAX);
    memset(block, 0, SEGMENT_BLOCK_SIZE);
    put_u64(block, SEGMENT_MAGIC);
    put_u32(block + 8, header->is_table ? SEGMENT_VERSION_TABLE : SEGMENT_VERSION);
    put_u32(block + 12, header->number);
    put_u64(block + 16, header->cluster_id);
    put_u64(block + 24, header->node_id);
    put_u64(block + 32, header->file_id);
    put_u64(block + 40, header->size);
    put_u16(block + 48, header->shard);
    if (header->is_table) put_u16(block + 50, KIND_TABLE);
    put_u64(block + 56, hash64(block, CHECKED_SIZE));
}

enum err segment_header_decode(struct slice block, struct segment_header *header)
{
    if (block.size < SEGMENT_BLOCK_SIZE) return ERR_CORRUPT;
    const uint8_t *at = block.data;
    if (get_u64(at) != SEGMENT_MAGIC) return ERR_CORRUPT;
    if (get_u64(at + 56) != hash64(at, CHECKED_SIZE)) return ERR_CORRUPT;
    const uint32_t version = get_u32(at + 8);
    if (version == 0 || version > SEGMENT_VERSION_TABLE) return ERR_NEWER;
    const uint16_t kind = version == SEGMENT_VERSION ? KIND_SEGMENT : get_u16(at + 50);
    if (kind != KIND_SEGMENT && kind != KIND_TABLE) return ERR_NEWER;
    *header = (struct segment_header){
        .number = get_u32(at + 12),
        .cluster_id = get_u64(at + 16),
        .node_id = get_u64(at + 24),
        .file_id = get_u64(at + 32),
        .size = get_u64(at + 40),
        .shard = get_u16(at + 48),
        .is_table = kind == KIND_TABLE,
    };
    if (header->size % SEGMENT_BLOCK_SIZE != 0) return ERR_CORRUPT;
    if (header->size > UINT32_MAX) return ERR_CORRUPT;
    return OK;
}

struct hash128 segment_group_seal(struct buf *image, struct segment_group *group, uint64_t file_id)
{
    CHECK(image->size >= GROUP_HEADER_SIZE);
    CHECK(group->offset % SEGMENT_BLOCK_SIZE == 0);
    const uint64_t hashed = image->size;
    const uint64_t total = segment_group_size(hashed - GROUP_HEADER_SIZE);
    CHECK(total <= UINT32_MAX);
    group->used = (uint32_t)(hashed + GROUP_FOOTER_SIZE);
    (void)buf_extend(image, total - hashed);

    uint8_t *at = image->data;
    put_u32(at, GROUP_MAGIC);
    put_u32(at + 4, group->used);
    put_u32(at + 8, group->count);
    put_u32(at + 12, group->offset);
    put_u64(at + 16, group->first_index);
    put_u64(at + 24, group->last_index);
    put_u64(at + 32, group->durable_index);
    put_u32(at + 40, (uint32_t)file_id);
    put_u32(at + 44, 0);
    put_u64(at + 48, group->link);
    put_u64(at + 56, hash64(at, CHECKED_SIZE));

    const struct hash128 chain = hash128(at, hashed);
    put_u64(at + hashed, chain.low);
    put_u64(at + hashed + 8, chain.high);
    put_u64(at + hashed + 16, FOOTER_MAGIC);
    memset(at + group->used, 0, total - group->used);
    return chain;
}

enum err segment_group_decode(struct slice bytes, uint64_t file_id, uint64_t file_size,
                              uint64_t offset, struct segment_group *group)
{
    if (bytes.size < GROUP_HEADER_SIZE) return ERR_CORRUPT;
    const uint8_t *at = bytes.data;
    if (get_u32(at) != GROUP_MAGIC) return ERR_CORRUPT;
    if (get_u64(at + 56) != hash64(at, CHECKED_SIZE)) return ERR_CORRUPT;
    *group = (struct segment_group){
        .used = get_u32(at + 4),
        .count = get_u32(at + 8),
        .offset = get_u32(at + 12),
        .first_index = get_u64(at + 16),
        .last_index = get_u64(at + 24),
        .durable_index = get_u64(at + 32),
        .link = get_u64(at + 48),
    };
    if (group->offset != offset || get_u32(at + 40) != (uint32_t)file_id) return ERR_CORRUPT;
    if (group->used < GROUP_HEADER_SIZE + GROUP_FOOTER_SIZE) return ERR_CORRUPT;
    if (offset > file_size || file_size - offset < align_up(group->used, SEGMENT_BLOCK_SIZE)) {
        return ERR_CORRUPT;
    }
    return OK;
}

static uint32_t count_bits(uint32_t word)
{
    uint32_t count = 0;
    for (; word != 0; word &= word - 1) count++;
    return count;
}

bool segment_group_resembles(struct slice bytes, uint64_t file_id, uint64_t offset)
{
    if (bytes.size < GROUP_HEADER_SIZE) return false;
    const uint8_t *at = bytes.data;
    const uint32_t different = count_bits(get_u32(at) ^ GROUP_MAGIC) +
                               count_bits(get_u32(at + 12) ^ (uint32_t)offset) +
                               count_bits(get_u32(at + 40) ^ (uint32_t)file_id);
    return different <= ROTTEN_BITS_MAX;
}

enum err segment_group_verify(struct slice bytes, const struct segment_group *group,
                              struct hash128 *chain)
{
    if (bytes.size < group->used) return ERR_CORRUPT;
    const uint64_t hashed = group->used - GROUP_FOOTER_SIZE;
    const uint8_t *footer = bytes.data + hashed;
    if (get_u64(footer + 16) != FOOTER_MAGIC) return ERR_CORRUPT;
    const struct hash128 found = hash128(bytes.data, hashed);
    const struct hash128 written = {.low = get_u64(footer), .high = get_u64(footer + 8)};
    if (!hash128_equal(found, written)) return ERR_CORRUPT;
    *chain = found;
    return OK;
}

bool segment_is_zero(const uint8_t *at, uint64_t size)
{
    return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

bool segment_has_zero_sector(const uint8_t *at, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += SECTOR_SIZE) {
        if (segment_is_zero(at + i, SECTOR_SIZE)) return true;
    }
    return false;
}

void segment_scan_open(struct segment_scan *scan, struct disk *disk, disk_file file,
                       uint64_t file_id, uint64_t file_size, uint64_t end, struct hash128 chain)
{
    *scan = (struct segment_scan){
        .disk = disk,
        .file = file,
        .file_id = file_id,
        .file_size = file_size,
        .end = end,
        .offset = SEGMENT_BLOCK_SIZE,
        .chain = chain,
    };
}

/* Reads the group at scan->offset and verifies it as a whole. */
static enum err scan_group(struct segment_scan *scan)
{
    if (scan->end - scan->offset < SEGMENT_BLOCK_SIZE) return ERR_CORRUPT;
    struct buf *bytes = &scan->bytes;
    bytes->size = 0;
    enum err err = scan->disk->read(scan->disk->context, scan->file, scan->offset,
                                    buf_extend(bytes, SEGMENT_BLOCK_SIZE), SEGMENT_BLOCK_SIZE);
    if (err != OK) return err;
    err = segment_group_decode(buf_slice(bytes), scan->file_id, scan->file_size, scan->offset,
                               &scan->group);
    if (err != OK) return err;
    const uint64_t total = align_up(scan->group.used, SEGMENT_BLOCK_SIZE);
    if (total > scan->end - scan->offset) return ERR_CORRUPT;
    if (total > SEGMENT_BLOCK_SIZE) {
        const uint64_t more = total - SEGMENT_BLOCK_SIZE;
        err = scan->disk->read(scan->disk->context, scan->file, scan->offset + SEGMENT_BLOCK_SIZE,
                               buf_extend(bytes, more), more);
        if (err != OK) return err;
    }
    if (scan->group.link != scan->chain.low) return ERR_CORRUPT;
    err = segment_group_verify(buf_slice(bytes), &scan->group, &scan->chain);
    if (err != OK) return err;
    scan->position = GROUP_HEADER_SIZE;
    scan->records_left = scan->group.count;
    return OK;
}

enum err segment_scan_next(struct segment_scan *scan, struct record *record, struct slice *bytes,
                           uint32_t *offset)
{
    /* @position is 0 before the first group; a group is left when its records are used up. */
    while (scan->records_left == 0) {
        if (scan->position > 0) {
            if (scan->position != scan->group.used - GROUP_FOOTER_SIZE) return ERR_CORRUPT;
            scan->offset += align_up(scan->group.used, SEGMENT_BLOCK_SIZE);
            scan->position = 0;
        }
        if (scan->offset >= scan->end) return ERR_NOT_FOUND;
        const enum err err = scan_group(scan);
        if (err != OK) return err;
    }
    const uint64_t end = scan->group.used - GROUP_FOOTER_SIZE;
    const struct slice rest = slice_of(scan->bytes.data + scan->position, end - scan->position);
    uint64_t size = 0;
    const enum err err = record_decode(rest, record, &size);
    if (err != OK) return err == ERR_MORE ? ERR_CORRUPT : err;
    *bytes = slice_of(rest.data, size);
    *offset = (uint32_t)(scan->offset + scan->position);
    scan->position += size;
    scan->records_left--;
    return OK;
}

void segment_scan_close(struct segment_scan *scan)
{
    buf_close(&scan->bytes);
}
