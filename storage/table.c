#include "storage/table.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/hint_build.h"

#define PAYLOAD_HEADER_SIZE 8u
#define PAYLOAD_START (GROUP_HEADER_SIZE + RECORD_HEADER_SIZE) /* in the image of a group */

STATIC_CHECK((PAYLOAD_START + PAYLOAD_HEADER_SIZE + TABLE_ITEM_HEADER_SIZE) % 8 == 0,
             "effects lie at multiples of eight");
STATIC_CHECK(RECORD_HEADER_SIZE + PAYLOAD_HEADER_SIZE + TABLE_ITEM_HEADER_SIZE +
                     EFFECT_HEADER_SIZE + KEY_SIZE_MAX + VALUE_SIZE_MAX + 8 <=
                 RECORD_SIZE_MAX,
             "any effect fits in a table");

/* ---- names ---------------------------------------------------------------------------------------- */

static void end_replace(char name[SEGMENT_NAME_SIZE])
{
    memcpy(name + strlen(name) - 4, ".tab", 4);
}

void table_name(char name[SEGMENT_NAME_SIZE], const char *folder, uint32_t number)
{
    segment_name(name, folder, number);
    end_replace(name);
}

uint32_t table_number(const char *name)
{
    char as_segment[32];
    const uint64_t size = strlen(name);
    if (size < 5 || size >= sizeof as_segment || strcmp(name + size - 4, ".tab") != 0) return 0;
    memcpy(as_segment, name, size + 1);
    memcpy(as_segment + size - 4, ".log", 4);
    return segment_number(as_segment);
}

void table_file_name(char name[SEGMENT_NAME_SIZE], const char *folder, const struct log_file *file)
{
    segment_name(name, folder, file->number);
    if (file->is_table) end_replace(name);
}

/* ---- writing -------------------------------------------------------------------------------------- */

static struct hash128 chain_seed(const struct table *table)
{
    uint8_t identity[24];
    put_u64(identity, table->cluster_id);
    put_u64(identity + 8, table->shard);
    put_u64(identity + 16, table->file.file_id);
    return hash128(identity, sizeof identity);
}

static void group_begin(struct table *table)
{
    table->image.size = 0;
    table->item_count = 0;
    buf_trim(&table->image, 2 * TABLE_GROUP_SIZE);
    (void)buf_extend(&table->image, PAYLOAD_START + PAYLOAD_HEADER_SIZE);
}

void table_init(struct table *table, uint64_t cluster_id, uint64_t node_id, uint16_t shard,
                const struct log_file *file)
{
    CHECK(file->number > 0);
    CHECK(file->first_index <= file->last_index);
    *table = (struct table){
        .cluster_id = cluster_id,
        .node_id = node_id,
        .shard = shard,
        .file = *file,
    };
    table->file.is_table = true;
    table->file.used = SEGMENT_BLOCK_SIZE;
    table->file.seed = chain_seed(table);
    table->file.chain = table->file.seed;
    hint_init(&table->hint, file->file_id);
    group_begin(table);
}

void table_close(struct table *table)
{
    buf_close(&table->image);
    hint_close(&table->hint);
    *table = (struct table){0};
}

void table_header(const struct table *table, uint64_t size, uint8_t *block)
{
    const struct segment_header header = {
        .number = table->file.number,
        .cluster_id = table->cluster_id,
        .node_id = table->node_id,
        .file_id = table->file.file_id,
        .size = align_up(size, SEGMENT_BLOCK_SIZE),
        .shard = table->shard,
        .is_table = true,
    };
    segment_header_encode(&header, block);
}

bool table_has_room(const struct table *table, uint64_t size)
{
    if (table->item_count == 0) return true;
    return table->image.size + TABLE_ITEM_HEADER_SIZE + size <= TABLE_GROUP_SIZE;
}

void table_add(struct table *table, uint64_t revision, const struct effect *effect,
               struct slice bytes)
{
    CHECK(table_has_room(table, bytes.size));
    CHECK(bytes.size % 8 == 0);
    CHECK(revision_index(revision) >= table->file.first_index);
    CHECK(revision_index(revision) <= table->file.last_index);
    buf_u64(&table->image, revision);
    const uint64_t offset = table->file.used + table->image.size;
    CHECK(offset <= UINT32_MAX);
    buf_append(&table->image, bytes.data, bytes.size);
    table->item_count++;
    hint_build_effect(&table->hint, revision, (uint32_t)offset, effect);
}

struct slice table_seal(struct table *table, uint64_t *offset)
{
    CHECK(table->item_count > 0);
    uint8_t *at = table->image.data;
    put_u32(at + PAYLOAD_START, table->item_count);
    put_u32(at + PAYLOAD_START + 4, 0);
    const struct record record = {
        .index = table->file.last_index,
        .type = RECORD_TABLE,
        .shard = table->shard,
        .payload = slice_of(NULL, table->image.size - PAYLOAD_START),
    };
    const uint64_t size = record_seal(at + GROUP_HEADER_SIZE, &record);
    CHECK(GROUP_HEADER_SIZE + size == table->image.size); /* Items need no padding. */
    struct segment_group group = {
        .count = 1,
        .offset = (uint32_t)table->file.used,
        .first_index = table->file.first_index,
        .last_index = table->file.last_index,
        .link = table->file.chain.low,
    };
    table->file.chain = segment_group_seal(&table->image, &group, table->file.file_id);
    *offset = table->file.used;
    table->file.used += table->image.size;
    CHECK(table->file.used <= UINT32_MAX);
    return buf_slice(&table->image);
}

void table_next(struct table *table)
{
    group_begin(table);
}

/* ---- reading -------------------------------------------------------------------------------------- */

void table_walk_open(struct table_walk *walk, struct slice payload)
{
    *walk = (struct table_walk){.payload = payload};
    if (payload.size < PAYLOAD_HEADER_SIZE || get_u32(payload.data + 4) != 0) {
        walk->payload.size = 0; /* The first step says so. */
        walk->count = 1;
        return;
    }
    walk->count = get_u32(payload.data);
    walk->position = PAYLOAD_HEADER_SIZE;
}

enum err table_walk_next(struct table_walk *walk, struct table_item *item)
{
    const uint64_t rest = walk->payload.size - walk->position;
    if (walk->count == 0) return rest == 0 ? ERR_NOT_FOUND : ERR_CORRUPT;
    if (rest < TABLE_ITEM_HEADER_SIZE) return ERR_CORRUPT;
    const uint8_t *at = walk->payload.data + walk->position;
    item->revision = get_u64(at);
    item->offset = (uint32_t)(walk->position + TABLE_ITEM_HEADER_SIZE);
    uint64_t size = 0;
    const struct slice bytes = slice_of(at + TABLE_ITEM_HEADER_SIZE, rest - TABLE_ITEM_HEADER_SIZE);
    const enum err err = effect_decode_trusted(bytes, &item->effect, &size);
    if (err != OK) return err;
    walk->position += TABLE_ITEM_HEADER_SIZE + size;
    walk->count--;
    return OK;
}
