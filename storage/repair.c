#include "storage/repair.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/log_index.h"
#include "storage/manifest.h"
#include "storage/segment.h"

#define HARVEST REPAIR_SOURCES /* the place of the sound records in the damaged group itself */
#define ENTRIES_MAX 1000000u   /* in one group; more is no group of ours */
#define NAME_SIZE (SEGMENT_NAME_SIZE + 16u)

struct repair_file {
    uint32_t number;
    struct segment_header header;
    struct buf bytes;
    bool is_changed;
};

/* A damaged group. */
struct gap {
    uint32_t file; /* place in files */
    uint64_t offset;
    uint64_t room; /* bytes up to what follows in the file, or up to its end: */
    bool is_tail;
    bool has_header; /* @group is what its header says; else what follows from its neighbours */
    struct segment_group group;
    bool is_linked; /* group.link is right; else it is the chain of the gap before */
    bool has_proof;
    uint64_t proof; /* what the group behind it links to */
    bool has_footer;
    struct hash128 footer;
    struct hash128 chain; /* once it is rebuilt */
};

struct piece {
    uint64_t offset; /* in the bytes of its source */
    uint64_t size;   /* 0: it is not here */
};

/* What one source has of the gap in hand. */
struct source {
    struct buf bytes;
    struct piece *pieces; /* by index - first */
    uint64_t next;        /* index to ask for */
};

struct found {
    const uint8_t *at;
    uint64_t size;
};

struct repair {
    struct repair_config config;
    struct repair_file *files;
    uint32_t file_count;
    uint32_t file_capacity;
    struct gap *gaps;
    uint32_t gap_count;
    uint32_t gap_capacity;
    uint32_t gap_at;
    struct source sources[REPAIR_SOURCES + 1];
    struct piece cut; /* a RECORD_CUT in the gap in hand, in the bytes of HARVEST */
    bool is_new;      /* something came since the last attempt */
    uint64_t base_index;
    struct hash128 base_chain;
    uint32_t base_number;
    /* Sound records of the log, by index - found_first. */
    struct found *found;
    uint64_t found_first;
    uint64_t found_count;
    uint64_t found_capacity;
};

/* ---- reading ----------------------------------------------------------------------------------------- */

static enum err read_manifest(struct repair *repair)
{
    const struct repair_config *config = &repair->config;
    char name[NAME_SIZE];
    struct buf bytes = {0};
    struct manifest manifest = {0};
    uint8_t identity[16];
    put_u64(identity, config->cluster_id);
    put_u64(identity + 8, config->shard);
    repair->base_chain = hash128(identity, sizeof identity);
    (void)snprintf(name, sizeof name, "%.100s/" MANIFEST_NAME, config->folder);
    disk_file file = -1;
    uint64_t size = 0;
    enum err err = config->disk->open(config->disk->context, name, false, &file);
    if (err == ERR_NOT_FOUND) return OK;
    if (err != OK) return err;
    err = config->disk->size(config->disk->context, file, &size);
    if (err == OK && size > MANIFEST_SIZE_MAX) err = ERR_CORRUPT;
    if (err == OK) {
        err = config->disk->read(config->disk->context, file, 0, buf_extend(&bytes, size), size);
    }
    config->disk->close(config->disk->context, file);
    const char *wrong = NULL;
    if (err == OK) err = manifest_decode(buf_slice(&bytes), &manifest, &wrong);
    const struct log_file *newest = err == OK ? manifest_last(&manifest) : NULL;
    if (newest != NULL) {
        repair->base_number = newest->number;
        repair->base_chain = newest->chain;
        repair->base_index = manifest.base_index;
    }
    manifest_close(&manifest);
    buf_close(&bytes);
    return err;
}

/* The whole file as the disk has it. A block that it refuses to read counts as damaged. */
static enum err read_blocks(struct disk *disk, disk_file file, uint8_t *at, uint64_t size)
{
    if (disk->read_medium(disk->context, file, 0, at, size) == OK) return OK;
    for (uint64_t done = 0; done < size; done += SEGMENT_BLOCK_SIZE) {
        const enum err err = disk->read_medium(disk->context, file, done, at + done,
                                               SEGMENT_BLOCK_SIZE);
        if (err != OK && done == 0) return err;
        if (err != OK) memset(at + done, 0xff, SEGMENT_BLOCK_SIZE);
    }
    return OK;
}

static enum err read_file(struct repair *repair, struct repair_file *file)
{
    const struct repair_config *config = &repair->config;
    struct disk *disk = config->disk;
    char name[SEGMENT_NAME_SIZE];
    disk_file handle = -1;
    uint64_t size = 0;
    uint64_t total = 0;
    segment_name(name, config->folder, file->number);
    enum err err = disk->open(disk->context, name, false, &handle);
    if (err != OK) return err;
    for (uint32_t i = 0; i < repair->file_count; i++) total += repair->files[i].bytes.size;
    err = disk->size(disk->context, handle, &size);
    if (err == OK && (size < SEGMENT_BLOCK_SIZE || size % SEGMENT_BLOCK_SIZE != 0)) {
        err = ERR_NOT_FOUND;
    }
    if (err == OK && size > REPAIR_SIZE_MAX - total) err = ERR_NOT_FOUND;
    if (err == OK) err = read_blocks(disk, handle, buf_extend(&file->bytes, size), size);
    disk->close(disk->context, handle);
    if (err == OK && segment_header_decode(buf_slice(&file->bytes), &file->header) != OK) {
        err = ERR_NOT_FOUND;
    }
    if (err != OK) return err;
    const struct segment_header *header = &file->header;
    const bool is_ours = header->cluster_id == config->cluster_id &&
                         header->node_id == config->node_id && header->shard == config->shard &&
                         header->number == file->number && !header->is_table;
    return is_ours && header->size == size ? OK : ERR_NOT_FOUND;
}

static enum err read_files(struct repair *repair)
{
    struct disk *disk = repair->config.disk;
    struct buf names = {0};
    enum err err = disk->list(disk->context, repair->config.folder, &names);
    for (uint64_t at = 0; err == OK && at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        const uint32_t number = segment_number(name);
        if (number <= repair->base_number) continue;
        repair->files = log_index_grow(repair->files, repair->file_count, &repair->file_capacity,
                                       sizeof *repair->files);
        uint32_t place = repair->file_count++;
        for (; place > 0 && repair->files[place - 1].number > number; place--) {
            repair->files[place] = repair->files[place - 1];
        }
        repair->files[place] = (struct repair_file){.number = number};
    }
    buf_close(&names);
    for (uint32_t i = 0; err == OK && i < repair->file_count; i++) {
        err = read_file(repair, &repair->files[i]);
    }
    return err;
}

/* ---- what is sound ----------------------------------------------------------------------------------- */

static void note_record(struct repair *repair, uint64_t index, const uint8_t *at, uint64_t size)
{
    if (index < repair->found_first) return;
    const uint64_t place = index - repair->found_first;
    if (place >= REPAIR_SIZE_MAX / RECORD_HEADER_SIZE) return;
    if (place >= repair->found_capacity) {
        repair->found_capacity = 2 * place + 64;
        repair->found = mem_resize(repair->found, repair->found_capacity * sizeof *repair->found);
    }
    while (repair->found_count <= place) repair->found[repair->found_count++] = (struct found){0};
    repair->found[place] = (struct found){.at = at, .size = size};
}

/* The records of a sound group. */
static void note_records(struct repair *repair, const uint8_t *at,
                         const struct segment_group *group)
{
    uint64_t offset = GROUP_HEADER_SIZE;
    const uint64_t end = group->used - GROUP_FOOTER_SIZE;
    while (offset < end) {
        struct record record;
        uint64_t size = 0;
        if (record_decode(slice_of(at + offset, end - offset), &record, &size) != OK) return;
        if (record.type != RECORD_CUT) {
            note_record(repair, record.index, at + offset, size);
        } else if (record.index >= repair->found_first &&
                   record.index - repair->found_first < repair->found_count) {
            repair->found_count = record.index - repair->found_first;
        }
        offset += size;
    }
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

/* Where the walk is: what the last group was, sound or not. */
struct walk {
    struct repair *repair;
    bool is_known; /* the chain; else it is that of the last gap */
    uint64_t chain;
    uint64_t link;       /* of the last group */
    bool is_mark;        /* and whether it was one */
    uint64_t last_index; /* of the log, as it says */
    struct gap *open;    /* the last group is this gap, without proof yet */
    bool is_bad;
};

/* The first group behind @offset with a sound header; the size of the file: none. */
static uint64_t next_header(const struct repair_file *file, uint64_t offset)
{
    const struct buf *bytes = &file->bytes;
    struct segment_group group;
    for (; offset < bytes->size; offset += SEGMENT_BLOCK_SIZE) {
        const struct slice rest = slice_of(bytes->data + offset, bytes->size - offset);
        if (segment_group_decode(rest, file->header.file_id, bytes->size, offset, &group) == OK) {
            return offset;
        }
    }
    return bytes->size;
}

static struct gap *add_gap(struct walk *walk, uint32_t file, uint64_t offset, uint64_t room)
{
    struct repair *repair = walk->repair;
    repair->gaps = log_index_grow(repair->gaps, repair->gap_count, &repair->gap_capacity,
                                  sizeof *repair->gaps);
    struct gap *gap = &repair->gaps[repair->gap_count++];
    *gap = (struct gap){.file = file, .offset = offset, .room = room};
    return gap;
}

/* The header of a group that is there, sound or not, says what came before it. */
static void join(struct walk *walk, const struct segment_group *group, bool is_first)
{
    struct gap *open = walk->open;
    const bool replaces = is_first && !walk->is_mark && group->link == walk->link;
    const bool passes = group->link == walk->chain || replaces;
    if (open != NULL && open->is_tail && walk->is_known && passes) {
        /* What came behind the end of the older file was never counted on: it is not damaged, but torn. */
        walk->repair->gap_count--;
        open = NULL;
    } else if (open != NULL) {
        open->has_proof = true;
        open->proof = group->link;
        if (!open->has_header) {
            open->group.last_index = group->first_index - 1;
            walk->is_bad |= group->first_index < open->group.first_index;
        }
    } else {
        walk->is_bad |= !passes; /* Sound or not, it belongs elsewhere. */
    }
    walk->open = NULL;
}

/* A group with a sound header. */
static void step(struct walk *walk, uint32_t number, uint64_t offset,
                 const struct segment_group *group, bool is_first)
{
    struct repair *repair = walk->repair;
    const struct repair_file *file = &repair->files[number];
    const uint8_t *at = file->bytes.data + offset;
    const uint64_t total = align_up(group->used, SEGMENT_BLOCK_SIZE);
    const uint8_t *footer = at + group->used - GROUP_FOOTER_SIZE;
    struct hash128 chain;
    const bool is_sound = segment_group_verify(slice_of(at, total), group, &chain) == OK;
    join(walk, group, is_first);
    walk->last_index = group->last_index;
    walk->link = group->link;
    walk->is_mark = group->count == 0;
    walk->is_known = is_sound;
    if (is_sound) {
        walk->chain = chain.low;
        note_records(repair, at, group);
        return;
    }
    const bool is_tail = next_header(file, offset + SEGMENT_BLOCK_SIZE) == file->bytes.size;
    struct gap *gap = add_gap(walk, number, offset, total);
    gap->has_header = true;
    gap->is_linked = true;
    gap->group = *group;
    gap->is_tail = is_tail;
    gap->footer = (struct hash128){.low = get_u64(footer), .high = get_u64(footer + 8)};
    gap->has_footer = !is_tail || !segment_has_zero_sector(at, align_up(group->used, SECTOR_SIZE));
    walk->open = gap;
    if (is_tail) {
        /* Whether it counts, the next file says; what the chain was before it is needed for that. */
        walk->is_known = true;
        walk->chain = group->link;
    }
}

/* No header where a group should begin. @end: of what is damaged. */
static void step_over(struct walk *walk, uint32_t number, uint64_t offset, uint64_t end)
{
    struct repair_file *file = &walk->repair->files[number];
    const bool is_tail = end == file->bytes.size;
    const bool is_linked = walk->is_known;
    /* Two in a row: nothing says where one ends. With a header, its footer has to vouch for the first one. */
    if (walk->open != NULL && !walk->open->has_header) walk->is_bad = true;
    struct gap *gap = add_gap(walk, number, offset, end - offset);
    gap->is_tail = is_tail;
    gap->is_linked = is_linked;
    gap->group = (struct segment_group){
        .offset = (uint32_t)offset,
        .first_index = walk->last_index + 1,
        .last_index = walk->last_index,
        .durable_index = walk->last_index,
        .link = walk->chain,
    };
    walk->open = gap;
    if (!is_tail) walk->is_known = false;
}

static void walk_file(struct walk *walk, uint32_t number)
{
    const struct repair_file *file = &walk->repair->files[number];
    const struct buf *bytes = &file->bytes;
    bool is_first = true;
    uint64_t offset = SEGMENT_BLOCK_SIZE;
    while (offset < bytes->size && !walk->is_bad) {
        struct segment_group group;
        const struct slice rest = slice_of(bytes->data + offset, bytes->size - offset);
        if (segment_group_decode(rest, file->header.file_id, bytes->size, offset, &group) == OK) {
            step(walk, number, offset, &group, is_first);
            offset += align_up(group.used, SEGMENT_BLOCK_SIZE);
        } else {
            const uint64_t end = next_header(file, offset + SEGMENT_BLOCK_SIZE);
            if (end == bytes->size && segment_is_zero(rest.data, rest.size)) return;
            step_over(walk, number, offset, end);
            offset = end;
        }
        is_first = false;
    }
}

/* The last gap has nothing behind it: it counts if its own footer can vouch for it, as recover.c has it. */
static void settle_tail(struct walk *walk)
{
    struct gap *open = walk->open;
    if (open == NULL || open->has_proof) return;
    if (open->is_tail && open->has_header && open->has_footer) return;
    walk->repair->gap_count--;
}

static enum err look(struct repair *repair)
{
    struct walk walk = {
        .repair = repair,
        .is_known = true,
        .chain = repair->base_chain.low,
        .is_mark = true,
        .last_index = repair->base_index,
    };
    for (uint32_t i = 0; i < repair->file_count && !walk.is_bad; i++) walk_file(&walk, i);
    settle_tail(&walk);
    if (walk.is_bad || repair->gap_count == 0) return ERR_NOT_FOUND;
    for (uint32_t i = 0; i < repair->gap_count; i++) {
        const struct gap *gap = &repair->gaps[i];
        const struct segment_group *group = &gap->group;
        if (group->first_index == 0 || group->last_index + 1 < group->first_index) {
            return ERR_NOT_FOUND;
        }
        if (group->last_index + 1 - group->first_index > ENTRIES_MAX) return ERR_NOT_FOUND;
        if (!gap->has_proof && !gap->has_footer) return ERR_NOT_FOUND;
        if (!gap->is_linked && i == 0) return ERR_NOT_FOUND;
    }
    return OK;
}

/* ---- sources ----------------------------------------------------------------------------------------- */

static uint64_t count_of(const struct gap *gap)
{
    return gap->group.last_index + 1 - gap->group.first_index;
}

static void close_sources(struct repair *repair)
{
    for (uint32_t i = 0; i <= REPAIR_SOURCES; i++) {
        buf_close(&repair->sources[i].bytes);
        mem_free(repair->sources[i].pieces);
        repair->sources[i] = (struct source){0};
    }
    repair->cut = (struct piece){0};
}

static void keep(struct source *source, const struct gap *gap, uint64_t index, struct slice bytes)
{
    if (source->pieces == NULL) {
        source->pieces = mem_zero((count_of(gap) + 1) * sizeof *source->pieces);
    }
    source->pieces[index - gap->group.first_index] = (struct piece){.offset = source->bytes.size,
                                                                    .size = bytes.size};
    buf_append(&source->bytes, bytes.data, bytes.size);
}

/* The next record in the damaged group, from *@offset on, of which the own checksum is right. False: no more. */
static bool next_sound(const struct repair *repair, const struct gap *gap, uint64_t *offset,
                       struct record *record, struct slice *bytes)
{
    const uint8_t *at = repair->files[gap->file].bytes.data + gap->offset;
    for (; *offset + RECORD_HEADER_SIZE <= gap->room; *offset += 8) {
        uint64_t size = 0;
        const struct slice rest = slice_of(at + *offset, gap->room - *offset);
        if (record_decode(rest, record, &size) != OK) continue;
        *bytes = slice_of(at + *offset, size);
        *offset += size;
        return true;
    }
    return false;
}

/* Others may have lost the rest of them. */
static void offer_sound(struct repair *repair, const struct gap *gap)
{
    uint64_t offset = GROUP_HEADER_SIZE;
    struct record record;
    struct slice bytes;
    while (next_sound(repair, gap, &offset, &record, &bytes)) {
        if (record.type == RECORD_CUT || record.index < gap->group.first_index) continue;
        if (record.index > gap->group.last_index || record.index < repair->found_first) continue;
        const uint64_t place = record.index - repair->found_first;
        const bool is_known = place < repair->found_count && repair->found[place].size > 0;
        if (!is_known) note_record(repair, record.index, bytes.data, bytes.size);
    }
}

static void harvest(struct repair *repair, const struct gap *gap)
{
    struct source *source = &repair->sources[HARVEST];
    uint64_t offset = GROUP_HEADER_SIZE;
    struct record record;
    struct slice bytes;
    while (next_sound(repair, gap, &offset, &record, &bytes)) {
        if (record.type == RECORD_CUT && record.index == gap->group.first_index) {
            repair->cut = (struct piece){.offset = source->bytes.size, .size = bytes.size};
            buf_append(&source->bytes, bytes.data, bytes.size);
        } else if (record.type != RECORD_CUT && record.index >= gap->group.first_index &&
                   record.index <= gap->group.last_index) {
            keep(source, gap, record.index, bytes);
        }
    }
}

void repair_again(struct repair *repair)
{
    close_sources(repair);
    if (repair->gap_at == repair->gap_count) return;
    const struct gap *gap = &repair->gaps[repair->gap_at];
    for (uint32_t i = 0; i <= REPAIR_SOURCES; i++) {
        repair->sources[i].next = gap->group.first_index;
    }
    harvest(repair, gap);
    repair->is_new = true;
}

bool repair_spot(const struct repair *repair, struct repair_spot *spot)
{
    if (repair->gap_at == repair->gap_count) return false;
    const struct gap *gap = &repair->gaps[repair->gap_at];
    *spot = (struct repair_spot){
        .file = repair->files[gap->file].number,
        .offset = gap->offset,
        .first_index = gap->group.first_index,
        .last_index = gap->group.last_index,
        .groups_left = repair->gap_count - repair->gap_at,
    };
    return true;
}

bool repair_wants(const struct repair *repair, uint32_t source, uint64_t *first, uint64_t *last)
{
    CHECK(source < PEERS_MAX);
    if (repair->gap_at == repair->gap_count) return false;
    *first = repair->sources[source].next;
    *last = repair->gaps[repair->gap_at].group.last_index;
    return *first <= *last;
}

enum err repair_give(struct repair *repair, uint32_t source, uint64_t next, struct slice records)
{
    uint64_t index = 0;
    uint64_t last = 0;
    if (!repair_wants(repair, source, &index, &last)) return OK;
    if (next <= index || next > last + 1) return ERR_CORRUPT;
    const struct gap *gap = &repair->gaps[repair->gap_at];
    while (records.size > 0) {
        struct record record;
        uint64_t size = 0;
        if (record_decode(records, &record, &size) != OK) return ERR_CORRUPT;
        if (record.index < index || record.index >= next) return ERR_CORRUPT;
        if (record.type == RECORD_CUT || record.type == RECORD_TABLE) return ERR_CORRUPT;
        keep(&repair->sources[source], gap, record.index, slice_of(records.data, size));
        records = slice_of(records.data + size, records.size - size);
        index = record.index + 1;
    }
    repair->sources[source].next = next;
    repair->is_new = true;
    return OK;
}

/* ---- rebuilding -------------------------------------------------------------------------------------- */

/* The record of the entry at @place in the gap: of @preferred, or of anybody. */
static struct slice record_of(const struct repair *repair, uint32_t preferred, uint64_t place)
{
    for (uint32_t i = 0; i <= REPAIR_SOURCES + 1; i++) {
        const struct source *source = &repair->sources[i == 0 ? preferred : i - 1];
        if (source->pieces == NULL || source->pieces[place].size == 0) continue;
        return slice_of(source->bytes.data + source->pieces[place].offset,
                        source->pieces[place].size);
    }
    return (struct slice){0};
}

/* Is it what stood there? */
static bool is_right(const struct gap *gap, const struct segment_group *group, struct hash128 chain)
{
    const uint64_t total = align_up(group->used, SEGMENT_BLOCK_SIZE);
    if (gap->has_header && group->used != gap->group.used) return false;
    if (total > gap->room || (!gap->is_tail && total != gap->room)) return false;
    if (gap->has_proof) return chain.low == gap->proof;
    return gap->has_footer && hash128_equal(chain, gap->footer);
}

static bool build(struct repair *repair, struct gap *gap, uint32_t preferred, bool with_cut,
                  struct buf *image)
{
    const uint64_t count = count_of(gap);
    struct segment_group group = gap->group;
    image->size = 0;
    (void)buf_extend(image, GROUP_HEADER_SIZE);
    if (with_cut) {
        const struct source *source = &repair->sources[HARVEST];
        if (repair->cut.size == 0) return false;
        buf_append(image, source->bytes.data + repair->cut.offset, repair->cut.size);
    }
    for (uint64_t i = 0; i < count; i++) {
        const struct slice record = record_of(repair, preferred, i);
        if (record.size == 0) return false;
        if (image->size + record.size + GROUP_FOOTER_SIZE > gap->room) return false;
        buf_append(image, record.data, record.size);
    }
    if (image->size + GROUP_FOOTER_SIZE > gap->room) return false;
    group.count = (uint32_t)count + (with_cut ? 1 : 0);
    if (gap->has_header && group.count != gap->group.count) return false;
    if (!gap->is_linked) group.link = repair->gaps[repair->gap_at - 1].chain.low;
    const struct hash128 chain = segment_group_seal(image, &group,
                                                    repair->files[gap->file].header.file_id);
    if (!is_right(gap, &group, chain)) return false;
    gap->chain = chain;
    gap->group = group;
    return true;
}

/* Puts the rebuilt group in its place. */
static void put(struct repair *repair, struct gap *gap, const struct buf *image)
{
    struct repair_file *file = &repair->files[gap->file];
    uint8_t *at = file->bytes.data + gap->offset;
    memcpy(at, image->data, image->size);
    /* What stood behind the last group of a file that another one follows was nothing. */
    if (gap->is_tail && gap->has_proof) memset(at + image->size, 0, gap->room - image->size);
    file->is_changed = true;
    note_records(repair, at, &gap->group);
}

/* Is there a record for every entry? */
static bool is_complete(const struct repair *repair, const struct gap *gap)
{
    const uint64_t count = count_of(gap);
    for (uint64_t i = 0; i < count; i++) {
        if (record_of(repair, 0, i).size == 0) return false;
    }
    return true;
}

enum err repair_try(struct repair *repair)
{
    struct buf image = {0};
    while (repair->gap_at < repair->gap_count && repair->is_new) {
        struct gap *gap = &repair->gaps[repair->gap_at];
        bool is_built = false;
        repair->is_new = false;
        if (!is_complete(repair, gap)) break;
        for (uint32_t i = 0; i <= 2 * REPAIR_SOURCES + 1 && !is_built; i++) {
            const uint32_t source = i / 2;
            const bool is_useful = i < 2 || repair->sources[source].pieces != NULL;
            if (is_useful) is_built = build(repair, gap, source, i % 2 == 1, &image);
        }
        if (!is_built) break;
        put(repair, gap, &image);
        repair->gap_at++;
        repair_again(repair);
    }
    buf_close(&image);
    return repair->gap_at == repair->gap_count ? OK : ERR_AGAIN;
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static void damaged_name(char name[NAME_SIZE], const char *folder, uint32_t number)
{
    char file[SEGMENT_NAME_SIZE];
    segment_name(file, folder, number);
    (void)snprintf(name, NAME_SIZE, "%s.damaged", file);
}

/* What lies in the damaged places of the file, for whoever wants to look at it: not worth a refusal. */
static void keep_damaged(const struct repair *repair, uint32_t place)
{
    struct disk *disk = repair->config.disk;
    const struct repair_file *file = &repair->files[place];
    char name[NAME_SIZE];
    struct buf bytes = {0};
    disk_file handle = -1;
    segment_name(name, repair->config.folder, file->number);
    if (disk->open(disk->context, name, false, &handle) != OK) return;
    for (uint32_t i = 0; i < repair->gap_count; i++) {
        const struct gap *gap = &repair->gaps[i];
        if (gap->file != place) continue;
        const uint64_t size = align_up(gap->group.used, SEGMENT_BLOCK_SIZE);
        const uint64_t start = bytes.size;
        uint8_t *at = buf_extend(&bytes, size);
        if (disk->read_medium(disk->context, handle, gap->offset, at, size) != OK) {
            bytes.size = start;
        }
    }
    disk->close(disk->context, handle);
    damaged_name(name, repair->config.folder, file->number);
    const enum err err = disk->replace(disk->context, name, buf_slice(&bytes));
    (void)err;
    buf_close(&bytes);
}

enum err repair_write(struct repair *repair)
{
    struct disk *disk = repair->config.disk;
    enum err err = OK;
    CHECK(repair->gap_at == repair->gap_count);
    for (uint32_t i = 0; err == OK && i < repair->file_count; i++) {
        const struct repair_file *file = &repair->files[i];
        char name[SEGMENT_NAME_SIZE];
        if (!file->is_changed) continue;
        keep_damaged(repair, i);
        segment_name(name, repair->config.folder, file->number);
        err = disk->replace(disk->context, name, buf_slice(&file->bytes));
    }
    return err;
}

void repair_clean(const struct repair_config *config)
{
    struct disk *disk = config->disk;
    struct buf names = {0};
    if (disk->list(disk->context, config->folder, &names) != OK) names.size = 0;
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        const uint64_t size = strlen(name);
        at += size + 1;
        if (size < 12 || strcmp(name + size - 12, ".log.damaged") != 0) continue;
        char path[NAME_SIZE];
        (void)snprintf(path, sizeof path, "%.80s/%.80s", config->folder, name);
        const enum err err = disk->remove(disk->context, path);
        (void)err;
    }
    buf_close(&names);
}

/* ---- for others -------------------------------------------------------------------------------------- */

uint64_t repair_read(const struct repair *repair, uint64_t first, uint64_t last, uint64_t size_max,
                     struct buf *out)
{
    const uint64_t start = out->size;
    if (repair->found_count == 0) return last + 1;
    uint64_t index = first > repair->found_first ? first : repair->found_first;
    for (; index <= last && index - repair->found_first < repair->found_count; index++) {
        const struct found *found = &repair->found[index - repair->found_first];
        if (found->size == 0) continue;
        if (out->size > start && out->size - start + found->size > size_max) return index;
        buf_append(out, found->at, found->size);
    }
    return last + 1;
}

/* ---- life -------------------------------------------------------------------------------------------- */

enum err repair_open(struct repair **repair, const struct repair_config *config)
{
    struct repair *made = mem_zero(sizeof *made);
    made->config = *config;
    enum err err = read_manifest(made);
    made->found_first = made->base_index + 1;
    if (err == OK) err = read_files(made);
    if (err == OK) err = look(made);
    if (err != OK) {
        repair_close(made);
        return err;
    }
    /* Of two copies of an entry the newer one may count, so it comes first. */
    for (uint32_t i = made->gap_count; i > 0; i--) offer_sound(made, &made->gaps[i - 1]);
    repair_again(made);
    *repair = made;
    return OK;
}

void repair_close(struct repair *repair)
{
    if (repair == NULL) return;
    close_sources(repair);
    for (uint32_t i = 0; i < repair->file_count; i++) buf_close(&repair->files[i].bytes);
    mem_free(repair->files);
    mem_free(repair->gaps);
    mem_free(repair->found);
    mem_free(repair);
}
