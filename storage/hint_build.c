#include "storage/hint_build.h"

#include "storage/base/limits.h"
#include "storage/segment.h"
#include "storage/table.h"

#define READ_SIZE (1u * MIB)

struct hint_segment hint_build_segment(uint64_t cluster_id, const struct log_file *file)
{
    return (struct hint_segment){
        .cluster_id = cluster_id,
        .file_id = file->file_id,
        .used_size = file->used,
        .chain_end = file->chain,
    };
}

void hint_build_effect(struct hint *hint, uint64_t revision, uint32_t offset,
                       const struct effect *effect)
{
    const struct hint_entry entry = {
        .kind = effect->kind,
        .flags = effect->flags,
        .offset = offset,
        .value_size = (uint32_t)effect->value.size,
        .revision = revision,
        .expiry_ms = effect->expiry_ms,
        .key = effect->key,
        .value = effect->value,
    };
    hint_add(hint, &entry);
}

/* ---- what the records say ------------------------------------------------------------------------- */

static enum err wrong(struct hint_build *build, enum err err, const char *what)
{
    build->wrong = what;
    return err;
}

/* Entries from @index on are void. */
static void cut(struct hint_build *build, uint64_t index)
{
    if (index >= build->first_index + build->count) return;
    const uint64_t keep = index > build->first_index ? index - build->first_index : 0;
    struct hint_mark mark;
    memcpy(&mark, build->marks.data + keep * sizeof mark, sizeof mark);
    hint_rollback(&build->hint, &mark);
    build->marks.size = keep * sizeof mark;
    build->count = keep;
}

static enum err entry_add(struct hint_build *build, const struct record *record, uint32_t offset)
{
    if (build->count == 0) build->first_index = record->index;
    if (record->index != build->first_index + build->count) {
        return wrong(build, ERR_CORRUPT, "an entry does not follow the one before");
    }
    const struct hint_mark mark = hint_mark(&build->hint);
    buf_append(&build->marks, &mark, sizeof mark);
    build->count++;
    if (record->type != RECORD_COMMAND) return OK;

    struct effect_walk walk;
    struct effect effect;
    effect_walk_open(&walk, record->payload);
    enum err err;
    while ((err = effect_walk_next(&walk, &effect)) == OK) {
        if (!effect_is_change(effect.kind)) continue;
        const uint32_t at = offset + RECORD_HEADER_SIZE + walk.offset;
        hint_build_effect(&build->hint, revision_of(record->index, walk.ordinal), at, &effect);
    }
    if (err == ERR_NOT_FOUND) return OK;
    return wrong(build, err, "an entry holds an effect that cannot be read");
}

/* What a table holds of one record: each item says itself to which entry it belonged. */
static enum err items_add(struct hint_build *build, const struct record *record, uint32_t offset)
{
    struct table_walk walk;
    struct table_item item;
    table_walk_open(&walk, record->payload);
    enum err err;
    while ((err = table_walk_next(&walk, &item)) == OK) {
        const uint64_t index = revision_index(item.revision);
        if (index < build->file.first_index || index > build->file.last_index) {
            return wrong(build, ERR_CORRUPT,
                         "an item is of an entry that the manifest does not name");
        }
        const uint32_t at = offset + RECORD_HEADER_SIZE + item.offset;
        hint_build_effect(&build->hint, item.revision, at, &item.effect);
    }
    return err == ERR_NOT_FOUND ? OK : wrong(build, err, "an item cannot be read");
}

static enum err record_add(struct hint_build *build, const struct record *record, uint32_t offset)
{
    if ((record->type == RECORD_TABLE) != build->file.is_table) {
        return wrong(build, ERR_CORRUPT, "a record has no place in a file of this kind");
    }
    if (build->file.is_table) return items_add(build, record, offset);
    if (record->type != RECORD_CUT) return entry_add(build, record, offset);
    cut(build, record->index);
    return OK;
}

/* ---- the bytes in their order --------------------------------------------------------------------- */

static enum err header_check(const struct hint_source *source, struct slice block,
                             const char **what)
{
    struct segment_header header;
    *what = "its header cannot be read";
    const enum err err = segment_header_decode(block, &header);
    if (err != OK) return err;
    *what = "it belongs to another cluster";
    if (header.cluster_id != source->cluster_id) return ERR_FOREIGN;
    *what = "it belongs to another shard";
    if (header.shard != source->shard) return ERR_FOREIGN;
    *what = "it is not the file that the manifest names";
    if (header.file_id != source->file->file_id) return ERR_CORRUPT;
    if (header.is_table != source->file->is_table) return ERR_CORRUPT;
    return OK;
}

void hint_build_open(struct hint_build *build, const struct hint_source *source)
{
    *build = (struct hint_build){
        .cluster_id = source->cluster_id,
        .shard = source->shard,
        .file = *source->file,
        .chain = source->file->seed,
    };
    hint_init(&build->hint, source->file->file_id);
    hint_expect(&build->hint, source->file->used);
}

void hint_build_close(struct hint_build *build)
{
    hint_close(&build->hint);
    buf_close(&build->bytes);
    buf_close(&build->marks);
    *build = (struct hint_build){0};
}

/* The records of a group whose chain was verified. */
static enum err group_add(struct hint_build *build, struct slice bytes,
                          const struct segment_group *group)
{
    const uint64_t end = group->used - GROUP_FOOTER_SIZE;
    uint64_t position = GROUP_HEADER_SIZE;
    for (uint32_t i = 0; i < group->count; i++) {
        struct record record;
        uint64_t size = 0;
        const struct slice rest = slice_of(bytes.data + position, end - position);
        enum err err = record_decode(rest, &record, &size);
        if (err == ERR_MORE) err = ERR_CORRUPT;
        if (err != OK) return wrong(build, err, "a group of records is damaged");
        err = record_add(build, &record, (uint32_t)(build->offset + position));
        if (err != OK) return err;
        position += size;
    }
    if (position != end) return wrong(build, ERR_CORRUPT, "a group of records is damaged");
    return OK;
}

/* What begins at @bytes: the header of the file or a group. @taken: its size. ERR_MORE: not all of it
 * is here. */
static enum err part_add(struct hint_build *build, struct slice bytes, uint64_t *taken)
{
    if (bytes.size < SEGMENT_BLOCK_SIZE) return ERR_MORE;
    if (build->offset == 0) {
        const struct hint_source source = {
            .cluster_id = build->cluster_id, .shard = build->shard, .file = &build->file};
        *taken = SEGMENT_BLOCK_SIZE;
        return header_check(&source, slice_of(bytes.data, SEGMENT_BLOCK_SIZE), &build->wrong);
    }
    struct segment_group group;
    enum err err = segment_group_decode(bytes, build->file.file_id, build->file.used, build->offset,
                                        &group);
    if (err != OK) return wrong(build, err, "a group of records is damaged");
    *taken = align_up(group.used, SEGMENT_BLOCK_SIZE);
    if (bytes.size < *taken) return ERR_MORE;
    err = group.link == build->chain.low ? OK : ERR_CORRUPT;
    if (err == OK) err = segment_group_verify(bytes, &group, &build->chain);
    if (err != OK) return wrong(build, err, "a group of records is damaged");
    return group_add(build, bytes, &group);
}

enum err hint_build_feed(struct hint_build *build, struct slice data)
{
    struct buf *bytes = &build->bytes;
    buf_append(bytes, data.data, data.size);
    uint64_t done = 0;
    uint64_t taken = 0;
    enum err err;
    while ((err = part_add(build, slice_of(bytes->data + done, bytes->size - done), &taken)) ==
           OK) {
        done += taken;
        build->offset += taken;
    }
    if (err != ERR_MORE) return err;
    if (done > 0) memmove(bytes->data, bytes->data + done, bytes->size - done);
    bytes->size -= done;
    if (bytes->size == 0) buf_trim(bytes, READ_SIZE);
    return OK;
}

enum err hint_build_finish(struct hint_build *build)
{
    const struct log_file *file = &build->file;
    if (build->bytes.size > 0 || build->offset != file->used) {
        return wrong(build, ERR_CORRUPT, "a group of records is damaged");
    }
    if (!hash128_equal(build->chain, file->chain)) {
        return wrong(build, ERR_CORRUPT, "its last group is not the one that the manifest names");
    }
    if (!file->is_table) {
        cut(build, file->last_index + 1);
        bool same = build->count == file->last_index + 1 - file->first_index;
        if (build->count > 0 && build->first_index != file->first_index) same = false;
        if (!same) {
            return wrong(build, ERR_CORRUPT, "its entries are not those that the manifest names");
        }
    }
    const struct hint_segment segment = hint_build_segment(build->cluster_id, file);
    (void)hint_finish(&build->hint, &segment);
    return OK;
}

/* ---- a file on the disk --------------------------------------------------------------------------- */

enum err hint_build_check(const struct hint_source *source, uint64_t *size, const char **what)
{
    uint8_t block[SEGMENT_BLOCK_SIZE];
    struct disk *disk = source->disk;
    *what = "its header cannot be read";
    enum err err = disk->read(disk->context, source->handle, 0, block, sizeof block);
    if (err == OK) err = header_check(source, slice_of(block, sizeof block), what);
    if (err != OK) return err;
    *what = "its size cannot be read";
    err = disk->size(disk->context, source->handle, size);
    if (err != OK) return err;
    *what = "it is shorter than the manifest says";
    return *size < source->file->used ? ERR_CORRUPT : OK;
}

static enum err feed_all(struct hint_build *build, const struct hint_source *source)
{
    struct disk *disk = source->disk;
    struct buf piece = {0};
    enum err err = OK;
    for (uint64_t at = 0; err == OK && at < source->file->used; at += piece.size) {
        const uint64_t left = source->file->used - at;
        piece.size = 0;
        uint8_t *into = buf_extend(&piece, left < READ_SIZE ? left : READ_SIZE);
        build->wrong = "it cannot be read";
        err = disk->read(disk->context, source->handle, at, into, piece.size);
        if (err == ERR_CORRUPT) build->wrong = "its bytes here are not those that were saved";
        if (err == OK) err = hint_build_feed(build, buf_slice(&piece));
    }
    buf_close(&piece);
    return err == OK ? hint_build_finish(build) : err;
}

enum err hint_build(struct hint *hint, const struct hint_source *source, const char **what,
                    uint64_t *offset)
{
    uint64_t size = 0;
    *offset = 0;
    enum err err = hint_build_check(source, &size, what);
    if (err != OK) return err;
    struct hint_build build;
    hint_build_open(&build, source);
    err = feed_all(&build, source);
    *what = build.wrong;
    *offset = build.offset;
    if (err == OK) {
        *hint = build.hint;
        build.hint = (struct hint){0};
    }
    hint_build_close(&build);
    return err;
}
