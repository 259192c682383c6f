/* kvctl dump of segments and tables: groups, records, effects; behind a damage it goes on with the next sound group. */
#include "client/ctl_dump.h"

#include <stdio.h>

#include "client/ctl.h"
#include "raft/guard.h"
#include "storage/base/hash.h"
#include "storage/compress.h"
#include "storage/effect.h"
#include "storage/segment.h"
#include "storage/table.h"

#define KEY_SHOWN 128u
#define VALUE_SHOWN 64u
#define LOOK_SIZE (64u * SEGMENT_BLOCK_SIZE) /* read at once while a sound group is looked for */

struct walk {
    struct ctl_dump *dump;
    uint64_t file_id; /* 0: the header is damaged, and any will do */
    bool has_header;
    uint64_t offset;
    bool has_chain; /* of the group before: */
    uint64_t chain;
    struct buf bytes;
    uint64_t groups;
    uint64_t end; /* behind the last sound group */
};

/* ---- effects --------------------------------------------------------------------------------- */

static const char *change_name(uint8_t kind)
{
    static const char *const names[] = {"?",     "put",     "delete", "expire-at",
                                        "flush", "present", "check"};
    return kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}

static void put_value(struct ctl_dump *dump, const struct ctl_dump_change *change)
{
    struct buf raw = {0};
    struct slice value = change->value;
    if ((change->flags & EFFECT_FLAG_LZ4) != 0 && compress_valid(value)) {
        ctl_dump_number(dump, "raw_bytes", compress_raw_size(value));
        if (dump->values && compress_unpack(value, &raw) == OK) value = buf_slice(&raw);
    }
    if (dump->values) ctl_dump_bytes(dump, "value", value, VALUE_SHOWN);
    buf_close(&raw);
}

void ctl_dump_change(struct ctl_dump *dump, const struct ctl_dump_change *change)
{
    ctl_dump_begin(dump, 2, change->offset, change_name(change->kind));
    if (change->key.size > 0) ctl_dump_bytes(dump, "key", change->key, KEY_SHOWN);
    if (change->key.size > KEY_SHOWN) ctl_dump_number(dump, "key_bytes", change->key.size);
    ctl_dump_number(dump, "revision", change->revision);
    if (change->kind == EFFECT_PUT) ctl_dump_number(dump, "bytes", change->value_size);
    if (change->expiry_ms != 0) ctl_dump_time(dump, "expires", change->expiry_ms);
    if ((change->flags & EFFECT_FLAG_EXPIRED) != 0) ctl_dump_text(dump, "why", "expired");
    if ((change->flags & EFFECT_FLAG_LZ4) != 0) ctl_dump_text(dump, "packed", "lz4");
    if (change->kind == EFFECT_PUT && change->value.data != NULL) put_value(dump, change);
    ctl_dump_end(dump);
}

/* PRESENT and CHECK: two numbers in place of a value. */
static void put_numbers(struct ctl_dump *dump, uint64_t offset, const struct effect *effect)
{
    const bool is_present = effect->kind == EFFECT_PRESENT;
    ctl_dump_begin(dump, 2, offset, change_name(effect->kind));
    if (effect->value.size == 16) {
        const uint64_t first = get_u64(effect->value.data);
        const uint64_t second = get_u64(effect->value.data + 8);
        if (is_present) {
            ctl_dump_hex(dump, "node", first);
            ctl_dump_number(dump, "incarnation", second);
        } else {
            ctl_dump_number(dump, "index", first);
            ctl_dump_hex(dump, "state_hash", second);
        }
    }
    ctl_dump_end(dump);
}

static void put_effect(struct ctl_dump *dump, uint64_t offset, uint64_t revision,
                       const struct effect *effect)
{
    if (!effect_is_change(effect->kind)) {
        put_numbers(dump, offset, effect);
        return;
    }
    ctl_dump_change(dump, &(struct ctl_dump_change){.offset = offset,
                                                    .kind = effect->kind,
                                                    .flags = effect->flags,
                                                    .revision = revision,
                                                    .expiry_ms = effect->expiry_ms,
                                                    .value_size = effect->value.size,
                                                    .key = effect->key,
                                                    .value = effect->value});
}

/* ---- records --------------------------------------------------------------------------------- */

void ctl_dump_members(struct ctl_dump *dump, uint64_t offset, struct slice payload)
{
    static const char *const roles[] = {"stand-by", "voter", "spare"};
    struct guard_configuration configuration;
    if (guard_decode_configuration(payload, &configuration) != OK) {
        ctl_dump_damage(dump, offset, payload.size, "this is no configuration");
        return;
    }
    for (uint32_t i = 0; i < configuration.count; i++) {
        const struct guard_member *member = &configuration.members[i];
        ctl_dump_begin(dump, 2, offset, "member");
        ctl_dump_hex(dump, "id", member->id);
        ctl_dump_bytes(dump, "address", slice_text(member->address), ADDRESS_SIZE_MAX);
        ctl_dump_text(dump, "role", member->role < 3 ? roles[member->role] : "?");
        ctl_dump_end(dump);
    }
}

static void put_command(struct ctl_dump *dump, uint64_t offset, const struct record *record)
{
    struct effect_walk walk;
    struct effect effect;
    enum err err;
    effect_walk_open(&walk, record->payload);
    while ((err = effect_walk_next(&walk, &effect)) == OK) {
        put_effect(dump, offset + walk.offset, revision_of(record->index, walk.ordinal), &effect);
    }
    if (err == ERR_NOT_FOUND) return;
    ctl_dump_damage(dump, offset + walk.position, 0,
                    err == ERR_NEWER ? "an effect of a newer format"
                                     : "an effect that no program of ours wrote");
}

static void put_table(struct ctl_dump *dump, uint64_t offset, const struct record *record)
{
    struct table_walk walk;
    struct table_item item;
    enum err err;
    table_walk_open(&walk, record->payload);
    while ((err = table_walk_next(&walk, &item)) == OK) {
        put_effect(dump, offset + item.offset, item.revision, &item.effect);
    }
    if (err == ERR_NOT_FOUND) return;
    ctl_dump_damage(dump, offset + walk.position, 0,
                    err == ERR_NEWER ? "an item of a newer format"
                                     : "an item that no program of ours wrote");
}

static void put_record(struct ctl_dump *dump, uint64_t offset, const struct record *record)
{
    const char *name = "?";
    switch (record->type) {
    case RECORD_COMMAND: name = "command"; break;
    case RECORD_BARRIER: name = "barrier"; break;
    case RECORD_CHANGE: name = "change"; break;
    case RECORD_CUT: name = "cut"; break;
    case RECORD_TABLE: name = "items"; break;
    default: break;
    }
    ctl_dump_begin(dump, 1, offset, name);
    ctl_dump_number(dump, "index", record->index);
    if (record->type != RECORD_TABLE) ctl_dump_number(dump, "term", record->term);
    if (record->stamp_ms > 0) ctl_dump_time(dump, "stamp", record->stamp_ms);
    ctl_dump_number(dump, "bytes", record_size(record->payload.size));
    if (record->shard != 0) ctl_dump_number(dump, "shard", record->shard);
    ctl_dump_end(dump);
    const uint64_t body = offset + RECORD_HEADER_SIZE;
    if (record->type == RECORD_COMMAND) put_command(dump, body, record);
    if (record->type == RECORD_TABLE) put_table(dump, body, record);
    if (record->type == RECORD_CHANGE) ctl_dump_members(dump, body, record->payload);
}

/* The records of the group in walk->bytes, of which the first @used bytes count. Those of a damaged group have
 * checksums of their own: the ones before the first bad one are shown. */
static void put_records(struct walk *walk, const struct segment_group *group, bool is_sound)
{
    uint64_t at = GROUP_HEADER_SIZE;
    const uint64_t end = group->used - GROUP_FOOTER_SIZE;
    for (uint32_t i = 0; i < group->count; i++) {
        struct record record;
        uint64_t size = 0;
        const struct slice rest = slice_of(walk->bytes.data + at, end - at);
        const enum err err = record_decode(rest, &record, &size);
        if (err != OK) {
            if (is_sound || i > 0) {
                ctl_dump_damage(walk->dump, walk->offset + at, end - at,
                                err == ERR_NEWER ? "a record of a newer format"
                                                 : "a record whose checksum or sizes are wrong");
            }
            return;
        }
        put_record(walk->dump, walk->offset + at, &record);
        at += size;
    }
    if (at != end) {
        ctl_dump_damage(walk->dump, walk->offset + at, end - at, "more bytes than records");
    }
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* A sound group header in the bytes at @at, which lie at @offset. */
static bool is_header(const struct walk *walk, const uint8_t *at, uint64_t offset,
                      struct segment_group *group)
{
    const uint64_t file_id = walk->has_header ? walk->file_id : get_u32(at + 40);
    return segment_group_decode(slice_of(at, GROUP_HEADER_SIZE), file_id, walk->dump->size, offset,
                                group) == OK;
}

static void put_group(struct walk *walk, const struct segment_group *group)
{
    struct ctl_dump *dump = walk->dump;
    struct hash128 chain;
    walk->bytes.size = 0;
    ctl_dump_read(dump, walk->offset, buf_extend(&walk->bytes, group->used), group->used);
    const bool is_sound = segment_group_verify(buf_slice(&walk->bytes), group, &chain) == OK;
    ctl_dump_begin(dump, 0, walk->offset, group->count == 0 ? "mark" : "group");
    if (group->count > 0) {
        ctl_dump_number(dump, "records", group->count);
        ctl_dump_number(dump, "first_index", group->first_index);
    }
    ctl_dump_number(dump, "last_index", group->last_index);
    ctl_dump_number(dump, "durable_index", group->durable_index);
    ctl_dump_number(dump, "bytes", group->used);
    ctl_dump_hex(dump, "link", group->link);
    if (is_sound) ctl_dump_hex(dump, "chain", chain.low);
    ctl_dump_end(dump);
    if (!is_sound) {
        ctl_dump_damage(dump, walk->offset, group->used,
                        "the bytes of this group are not those that were written, or its end is "
                        "missing");
    }
    if (walk->has_chain && group->link != walk->chain) {
        ctl_dump_damage(dump, walk->offset, 0, "this group does not link to the one before it");
    }
    put_records(walk, group, is_sound);
    walk->has_chain = is_sound;
    walk->chain = is_sound ? chain.low : 0;
    walk->groups++;
    walk->offset += align_up(group->used, SEGMENT_BLOCK_SIZE);
    walk->end = walk->offset;
}

/* No group at walk->offset: goes on with the next sound header, or to the end. */
static void find_group(struct walk *walk)
{
    struct ctl_dump *dump = walk->dump;
    const uint64_t start = walk->offset;
    uint64_t last = start; /* behind the last byte that is not zero */
    bool is_found = false;
    while (!is_found && dump->size - walk->offset >= GROUP_HEADER_SIZE) {
        const uint64_t rest = dump->size - walk->offset;
        const uint64_t size = rest < LOOK_SIZE ? rest : LOOK_SIZE;
        struct segment_group group;
        walk->bytes.size = 0;
        uint8_t *data = buf_extend(&walk->bytes, size);
        ctl_dump_read(dump, walk->offset, data, size);
        uint64_t at = 0;
        for (; at + GROUP_HEADER_SIZE <= size; at += SEGMENT_BLOCK_SIZE) {
            is_found = is_header(walk, data + at, walk->offset + at, &group);
            if (is_found) break;
            const uint64_t left = size - at;
            const uint64_t block = left < SEGMENT_BLOCK_SIZE ? left : SEGMENT_BLOCK_SIZE;
            for (uint64_t i = 0; i < block; i++) {
                if (data[at + i] != 0) last = walk->offset + at + i + 1;
            }
        }
        walk->offset += is_found ? at : size;
    }
    walk->has_chain = false;
    if (is_found) {
        ctl_dump_damage(dump, start, walk->offset - start,
                        "no group here, although a sound one follows behind these bytes");
        return;
    }
    walk->offset = dump->size;
    if (last > start) {
        ctl_dump_damage(dump, start, last - start,
                        "no group here: torn, and never acknowledged, or damaged");
    }
    ctl_dump_begin(dump, 0, last, "free");
    ctl_dump_number(dump, "bytes", dump->size - last);
    ctl_dump_end(dump);
}

static void put_header(struct walk *walk)
{
    struct ctl_dump *dump = walk->dump;
    struct segment_header header;
    uint8_t block[SEGMENT_BLOCK_SIZE];
    if (dump->size < sizeof block) {
        ctl_dump_damage(dump, 0, dump->size, "shorter than the header of a segment");
        return;
    }
    ctl_dump_read(dump, 0, block, sizeof block);
    const enum err err = segment_header_decode(slice_of(block, sizeof block), &header);
    if (err != OK) {
        ctl_dump_damage(dump, 0, sizeof block,
                        err == ERR_NEWER ? "the format is newer than this program"
                                         : "the header is damaged: whose file it is, is not known");
        return;
    }
    walk->has_header = true;
    walk->file_id = header.file_id;
    ctl_dump_begin(dump, 0, 0, header.is_table ? "table" : "segment");
    ctl_dump_number(dump, "number", header.number);
    ctl_dump_hex(dump, "file_id", header.file_id);
    ctl_dump_hex(dump, "cluster", header.cluster_id);
    ctl_dump_hex(dump, "node", header.node_id);
    ctl_dump_number(dump, "shard", header.shard);
    ctl_dump_number(dump, "size", header.size);
    ctl_dump_end(dump);
    /* A sealed file gives back what it does not use; a table may be larger than what it was made for. */
    for (uint32_t i = 64; i < sizeof block; i++) {
        if (block[i] == 0) continue;
        ctl_dump_damage(dump, i, 0, "the rest of the first block is not zeros");
        break;
    }
}

void ctl_dump_log(struct ctl_dump *dump)
{
    struct walk walk = {.dump = dump, .offset = SEGMENT_BLOCK_SIZE, .end = SEGMENT_BLOCK_SIZE};
    put_header(&walk);
    while (walk.offset < dump->size) {
        struct segment_group group;
        uint8_t header[GROUP_HEADER_SIZE];
        const bool has_room = dump->size - walk.offset >= sizeof header;
        if (has_room) ctl_dump_read(dump, walk.offset, header, sizeof header);
        if (has_room && is_header(&walk, header, walk.offset, &group)) {
            put_group(&walk, &group);
        } else if (has_room) {
            find_group(&walk);
        } else {
            ctl_dump_damage(dump, walk.offset, dump->size - walk.offset, "the file was cut off");
            walk.offset = dump->size;
        }
    }
    ctl_dump_begin(dump, 0, walk.end, "end");
    ctl_dump_number(dump, "groups", walk.groups);
    ctl_dump_number(dump, "damaged", dump->bad_count);
    ctl_dump_end(dump);
    buf_close(&walk.bytes);
}
