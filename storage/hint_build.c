#include "storage/hint_build.h"

#include "storage/base/limits.h"
#include "storage/segment.h"
#include "storage/table.h"

/* The state of a build. Entries of the segment may be void: cut by a later record of the same file, or
 * by one in a later file. So the hint's state before each entry is kept, to go back to. */
struct build {
    struct hint *hint;
    const struct log_file *file;
    uint64_t first_index; /* Of the entry that the first mark belongs to. */
    uint64_t count;       /* Entries that stand now. */
    struct buf marks;     /* struct hint_mark before each of them. */
    const char *wrong;
};

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

/* Entries from @index on are void. */
static void cut(struct build *build, uint64_t index)
{
    if (index >= build->first_index + build->count) return;
    const uint64_t keep = index > build->first_index ? index - build->first_index : 0;
    struct hint_mark mark;
    memcpy(&mark, build->marks.data + keep * sizeof mark, sizeof mark);
    hint_rollback(build->hint, &mark);
    build->marks.size = keep * sizeof mark;
    build->count = keep;
}

static enum err entry_add(struct build *build, const struct record *record, uint32_t offset)
{
    build->wrong = "an entry does not follow the one before";
    if (build->count == 0) build->first_index = record->index;
    if (record->index != build->first_index + build->count) return ERR_CORRUPT;
    const struct hint_mark mark = hint_mark(build->hint);
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
        hint_build_effect(build->hint, revision_of(record->index, walk.ordinal), at, &effect);
    }
    build->wrong = "an entry holds an effect that cannot be read";
    return err == ERR_NOT_FOUND ? OK : err;
}

/* What a table holds of one record: each item says itself to which entry it belonged. */
static enum err items_add(struct build *build, const struct record *record, uint32_t offset)
{
    struct table_walk walk;
    struct table_item item;
    build->wrong = "an item cannot be read";
    table_walk_open(&walk, record->payload);
    enum err err;
    while ((err = table_walk_next(&walk, &item)) == OK) {
        const uint64_t index = revision_index(item.revision);
        build->wrong = "an item is of an entry that the manifest does not name";
        if (index < build->file->first_index || index > build->file->last_index) return ERR_CORRUPT;
        const uint32_t at = offset + RECORD_HEADER_SIZE + item.offset;
        hint_build_effect(build->hint, item.revision, at, &item.effect);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err header_check(const struct hint_source *source, const char **wrong)
{
    uint8_t block[SEGMENT_BLOCK_SIZE];
    struct segment_header header;
    *wrong = "its header cannot be read";
    enum err err = source->disk->read(source->disk->context, source->handle, 0, block,
                                      sizeof block);
    if (err != OK) return err;
    err = segment_header_decode(slice_of(block, sizeof block), &header);
    if (err != OK) return err;
    *wrong = "it belongs to another cluster";
    if (header.cluster_id != source->cluster_id) return ERR_FOREIGN;
    *wrong = "it belongs to another shard";
    if (header.shard != source->shard) return ERR_FOREIGN;
    *wrong = "it is not the file that the manifest names";
    if (header.file_id != source->file->file_id) return ERR_FOREIGN;
    if (header.is_table != source->file->is_table) return ERR_CORRUPT;
    return OK;
}

static enum err scan_all(struct build *build, struct segment_scan *scan)
{
    struct record record;
    struct slice bytes;
    uint32_t offset;
    enum err err;
    while ((err = segment_scan_next(scan, &record, &bytes, &offset)) == OK) {
        build->wrong = "a record has no place in a file of this kind";
        if ((record.type == RECORD_TABLE) != build->file->is_table) return ERR_CORRUPT;
        if (build->file->is_table) {
            err = items_add(build, &record, offset);
            if (err != OK) return err;
            continue;
        }
        if (record.type == RECORD_CUT) {
            cut(build, record.index);
            continue;
        }
        err = entry_add(build, &record, offset);
        if (err != OK) return err;
    }
    build->wrong = "a group of records is damaged";
    if (err != ERR_NOT_FOUND) return err;
    build->wrong = "its last group is not the one that the manifest names";
    if (!hash128_equal(scan->chain, build->file->chain)) return ERR_CORRUPT;
    if (build->file->is_table) return OK;
    cut(build, build->file->last_index + 1);
    build->wrong = "its entries are not those that the manifest names";
    if (build->count != build->file->last_index + 1 - build->file->first_index) return ERR_CORRUPT;
    if (build->count > 0 && build->first_index != build->file->first_index) return ERR_CORRUPT;
    return OK;
}

enum err hint_build_check(const struct hint_source *source, uint64_t *size, const char **wrong)
{
    struct disk *disk = source->disk;
    enum err err = header_check(source, wrong);
    if (err != OK) return err;
    *wrong = "its size cannot be read";
    err = disk->size(disk->context, source->handle, size);
    if (err != OK) return err;
    *wrong = "it is shorter than the manifest says";
    return *size < source->file->used ? ERR_CORRUPT : OK;
}

enum err hint_build(struct hint *hint, const struct hint_source *source, const char **wrong,
                    uint64_t *offset)
{
    struct disk *disk = source->disk;
    const struct log_file *file = source->file;
    *offset = 0;
    uint64_t size = 0;
    enum err err = hint_build_check(source, &size, wrong);
    if (err != OK) return err;

    hint_init(hint, file->file_id);
    struct build build = {.hint = hint, .file = file};
    struct segment_scan scan;
    segment_scan_open(&scan, disk, source->handle, file->file_id, size, file->used, file->seed);
    err = scan_all(&build, &scan);
    *offset = scan.offset;
    *wrong = build.wrong;
    segment_scan_close(&scan);
    buf_close(&build.marks);
    if (err != OK) {
        hint_close(hint);
        return err;
    }
    const struct hint_segment segment = hint_build_segment(source->cluster_id, file);
    (void)hint_finish(hint, &segment);
    return OK;
}
