#include "storage/recover.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/log_index.h"
#include "storage/recover_walk.h"

struct recover {
    struct log *log;
    const struct log_config *config;
    const struct recover_start *start;
    struct buf *message;
    struct disk *disk;
    struct recover_file *files; /* unsealed, ordered by number */
    uint32_t count;
    uint32_t capacity;
    struct recover_file *last; /* the newest with a group that counts; NULL: none */
    struct buf bytes;          /* one file */
    uint32_t load_number;      /* as in start, or higher */
    struct damage_fault fault; /* of the newest refusal */
    struct buf notes;          /* what was forgiven, for the message */

    /* Replay. */
    struct hash128 chain;
    uint64_t physical; /* last index as the records say, void ones included */
    bool is_placed;    /* physical is known */
    uint64_t floor;    /* nothing at or below it can be cut */
};

/* ---- messages -------------------------------------------------------------------------------- */

static enum err refuse(struct recover *recover, enum err err, uint32_t number, uint64_t offset,
                       const char *what)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, recover->config->folder, number);
    recover->message->size = 0;
    damage_fault_set(&recover->fault, DAMAGE_LOG, name, offset, what);
    damage_fault_set(recover->start->fault, DAMAGE_LOG, name, offset, what);
    buf_printf(recover->message, "%s: offset %llu: %s; %s", name, (unsigned long long)offset, what,
               err_advice(err));
    return err;
}

/* ---- one unsealed file ----------------------------------------------------------------------- */

/* Checks whose file this is. */
static enum err check_header(struct recover *recover, uint32_t number, struct slice block,
                             struct segment_header *header)
{
    const enum err err = segment_header_decode(block, header);
    if (err == ERR_NEWER) return refuse(recover, err, number, 0, "the format is newer");
    if (err != OK) return refuse(recover, err, number, 0, "the header of the file is damaged");
    if (header->cluster_id != recover->config->cluster_id) {
        return refuse(recover, ERR_FOREIGN, number, 0, "belongs to another cluster");
    }
    if (header->shard != recover->config->shard) {
        return refuse(recover, ERR_FOREIGN, number, 0, "belongs to another shard");
    }
    if (header->is_table) return refuse(recover, ERR_CORRUPT, number, 0, "is a table, no segment");
    return OK;
}

static enum err read_file(struct recover *recover, struct recover_file *file)
{
    struct disk *disk = recover->disk;
    const uint32_t number = file->number;
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, recover->config->folder, number);
    enum err err = disk->open(disk->context, name, true, &file->handle);
    if (err != OK) {
        file->handle = -1;
        return refuse(recover, err, number, 0, "cannot be opened");
    }
    uint64_t size = 0;
    err = disk->size(disk->context, file->handle, &size);
    if (err != OK) return refuse(recover, err, number, 0, "cannot be read");
    if (size < SEGMENT_BLOCK_SIZE) {
        return refuse(recover, ERR_CORRUPT, number, size, "the file was cut off");
    }
    struct buf *bytes = &recover->bytes;
    bytes->size = 0;
    /* After a failed sync the cache may say what the disk does not hold. */
    err = disk->read_medium(disk->context, file->handle, 0, buf_extend(bytes, SEGMENT_BLOCK_SIZE),
                            SEGMENT_BLOCK_SIZE);
    if (err != OK) return refuse(recover, err, number, 0, "cannot be read");
    err = check_header(recover, number, buf_slice(bytes), &file->header);
    if (err != OK) return err;
    /* The vote says whose directory this is. So a file of another node was received, with a MANIFEST. */
    if (file->header.node_id != recover->config->node_id && recover->start->sealed_count == 0) {
        return refuse(recover, ERR_CORRUPT, number, 0,
                      "was received from another node, and the MANIFEST that named it is missing");
    }
    if (file->header.node_id != recover->config->node_id) {
        return refuse(recover, ERR_FOREIGN, number, 0, "belongs to another node");
    }
    if (file->header.number != number) {
        return refuse(recover, ERR_CORRUPT, number, 0, "is another file under this name");
    }
    /* Files get their full size when they are made, so a crash never leaves a shorter one. */
    if (size < file->header.size) {
        return refuse(recover, ERR_CORRUPT, number, size, "the file was cut off");
    }
    const uint64_t more = file->header.size - SEGMENT_BLOCK_SIZE;
    err = disk->read_medium(disk->context, file->handle, SEGMENT_BLOCK_SIZE,
                            buf_extend(bytes, more), more);
    if (err != OK) return refuse(recover, err, number, SEGMENT_BLOCK_SIZE, "cannot be read");
    recover_walk(file, buf_slice(bytes));
    return OK;
}

/* ---- which files there are ------------------------------------------------------------------- */

static void add_file(struct recover *recover, uint32_t number)
{
    recover->files = log_index_grow(recover->files, recover->count, &recover->capacity,
                                    sizeof *recover->files);
    uint32_t at = recover->count++;
    for (; at > 0 && recover->files[at - 1].number > number; at--) {
        recover->files[at] = recover->files[at - 1];
    }
    recover->files[at] = (struct recover_file){.number = number, .handle = -1};
}

static enum err list_files(struct recover *recover)
{
    struct disk *disk = recover->disk;
    const struct recover_start *start = recover->start;
    struct buf names = {0};
    enum err err = disk->make_folder(disk->context, recover->config->folder);
    if (err == OK) err = disk->list(disk->context, recover->config->folder, &names);
    if (err != OK) {
        buf_printf(recover->message, "%s: cannot be read: %s", recover->config->folder,
                   err_name(err));
    }
    const uint32_t sealed = start->sealed_count > 0 ? start->sealed[start->sealed_count - 1].number
                                                    : 0;
    uint32_t highest = start->number_min > sealed + 1 ? start->number_min - 1 : sealed;
    for (uint64_t at = 0; err == OK && at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        const uint32_t number = segment_number(name);
        if (number > highest) highest = number;
        if (number > sealed) add_file(recover, number);
    }
    buf_close(&names);
    if (highest >= UINT32_MAX - 1) {
        return refuse(recover, ERR_CORRUPT, highest, 0, "no higher number is left");
    }
    recover->log->number_next = highest + 1;
    return err;
}

/* A sealed file that cannot be read or verified is damaged, and known to be so: it costs nobody the start, since the
 * keys in it are known and its entries are committed. */
static bool forgive(struct recover *recover, enum err err, uint32_t number)
{
    if (recover->start->damage == NULL || (err != ERR_CORRUPT && err != ERR_IO)) return false;
    const struct damage_fault *fault = &recover->fault;
    (void)damage_note(recover->start->damage, number, fault->offset, SEGMENT_BLOCK_SIZE);
    recover->message->size = 0;
    buf_append(recover->message, recover->notes.data, recover->notes.size);
    if (recover->message->size > 0) buf_text(recover->message, "; ");
    buf_printf(recover->message, "%s: offset %llu: %s; it is repaired from the other members",
               fault->file, (unsigned long long)fault->offset, fault->what);
    recover->notes.size = 0;
    buf_append(&recover->notes, recover->message->data, recover->message->size);
    damage_fault_set(recover->start->fault, DAMAGE_NONE, "", 0, "");
    return true;
}

static enum err look_at_sealed(struct recover *recover, const struct log_file *sealed)
{
    struct disk *disk = recover->disk;
    const uint32_t number = sealed->number;
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, recover->config->folder, number);
    disk_file handle = -1;
    enum err err = disk->open(disk->context, name, false, &handle);
    if (err == ERR_NOT_FOUND) {
        return refuse(recover, ERR_CORRUPT, number, 0, "a sealed file is missing");
    }
    if (err != OK) return refuse(recover, err, number, 0, "cannot be opened");
    uint64_t size = 0;
    err = disk->size(disk->context, handle, &size);
    if (err != OK || size < SEGMENT_BLOCK_SIZE) size = 0;
    /* From here on the log owns the handle. */
    (void)log_load_segment(recover->log, sealed, size < sealed->used ? sealed->used : size, handle,
                           LOG_SEGMENT_SEALED);
    if (err != OK) return refuse(recover, err, number, 0, "cannot be read");
    if (size < sealed->used || sealed->used < SEGMENT_BLOCK_SIZE) {
        return refuse(recover, ERR_CORRUPT, number, size, "a sealed file was cut off");
    }
    uint8_t block[SEGMENT_BLOCK_SIZE];
    err = disk->read(disk->context, handle, 0, block, sizeof block);
    if (err != OK) return refuse(recover, err, number, 0, "cannot be read");
    struct segment_header header;
    err = check_header(recover, number, slice_of(block, sizeof block), &header);
    if (err != OK) return err;
    /* Its number and node may be those of the node that it came from. */
    if (header.file_id != sealed->file_id) {
        return refuse(recover, ERR_CORRUPT, number, 0, "is another file than the manifest says");
    }
    return OK;
}

static enum err open_sealed(struct recover *recover, const struct log_file *sealed)
{
    const enum err err = look_at_sealed(recover, sealed);
    if (err == OK || !forgive(recover, err, sealed->number)) return err;
    if (log_segment_find(recover->log, sealed->number) == NULL) {
        (void)log_load_segment(recover->log, sealed, sealed->used, -1, LOG_SEGMENT_SEALED);
    }
    return OK;
}

/* ---- what counts ----------------------------------------------------------------------------- */

static enum err refuse_rest(struct recover *recover, const struct recover_file *file)
{
    if (file->rest == REST_SUSPECT) {
        return refuse(recover, ERR_CORRUPT, file->number, file->end,
                      "the last group is complete and wrong, so it may have been acknowledged and "
                      "damaged later");
    }
    struct buf what = {0};
    if (file->rest == REST_FOLLOWED) {
        buf_printf(
            &what,
            "damaged, although the log went on behind it, at %llu, where it is damaged as well",
            (unsigned long long)file->proof_offset);
    } else {
        buf_printf(
            &what,
            "damaged, although the group at %llu proves that it was durable up to index %llu",
            (unsigned long long)file->proof_offset, (unsigned long long)file->proof_index);
    }
    buf_u8(&what, 0);
    const enum err err = refuse(recover, ERR_CORRUPT, file->number, file->end,
                                (const char *)what.data);
    buf_close(&what);
    return err;
}

/* Follows the links from file to file. A file whose first group links to the group before the last
 * one of the file before replaces that last group: see the header of this module. */
static enum err link_files(struct recover *recover)
{
    uint64_t chain = recover->chain.low;
    struct recover_file *before = NULL;
    const struct recover_file *broken = NULL;
    for (uint32_t i = 0; i < recover->count; i++) {
        struct recover_file *file = &recover->files[i];
        if (file->groups == 0) {
            /* Its first group may be the damaged one: then what follows cannot link to it. */
            if (file->rest != REST_CLEAN) broken = file;
            continue;
        }
        if (file->first_link != chain) {
            const bool replaces = before != NULL && !before->last_is_mark &&
                                  file->first_link == before->last_link;
            if (before != NULL && before->rest != REST_CLEAN) broken = before;
            if (!replaces && broken != NULL) {
                return refuse(recover, ERR_CORRUPT, broken->number, broken->end,
                              "damaged, although a later file goes on behind it");
            }
            if (!replaces) {
                return refuse(recover, ERR_CORRUPT, file->number, SEGMENT_BLOCK_SIZE,
                              "does not go on where the file before it ends");
            }
            before->end = before->last_offset;
            before->groups--;
        }
        chain = file->last_chain;
        before = file;
        broken = NULL;
    }
    recover->last = before;
    return OK;
}

static void report_torn(struct recover *recover, const struct recover_file *file, uint64_t index)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, recover->config->folder, file->number);
    if (recover->message->size > 0) buf_text(recover->message, "; ");
    buf_printf(recover->message,
               "torn tail: %llu bytes after index %llu in %s were never acknowledged and are cut",
               (unsigned long long)file->rest_size, (unsigned long long)index, name);
}

/* Judges everything behind the last group that counts. */
static enum err judge(struct recover *recover)
{
    const struct recover_file *last = recover->last;
    const uint64_t index = last != NULL ? last->last_index : recover->start->base_index;
    for (uint32_t i = 0; i < recover->count; i++) {
        const struct recover_file *file = &recover->files[i];
        if (last != NULL && file->number < last->number) continue;
        if (file->rest == REST_CLEAN) continue;
        if (file->rest != REST_TORN) return refuse_rest(recover, file);
        if (file != last && file->rest_has_link) {
            /* This group was written after the last one was durable, or was to replace it. */
            const uint64_t chain = last != NULL ? last->last_chain : recover->chain.low;
            const bool replaces = last != NULL && !last->last_is_mark &&
                                  file->rest_link == last->last_link;
            if (file->rest_link != chain && !replaces) {
                return refuse(recover, ERR_CORRUPT, file->number, SEGMENT_BLOCK_SIZE,
                              "does not go on where the file before it ends");
            }
        }
        report_torn(recover, file, index);
    }
    return OK;
}

/* ---- replay ---------------------------------------------------------------------------------- */

/* One record, in the order of the disk. @segment: NULL for the group that is written again. Returns
 * what is wrong, or NULL. */
static const char *replay(struct recover *recover, struct log_segment *segment,
                          const struct record *record, struct slice bytes, uint32_t offset)
{
    struct log *log = recover->log;
    if (record->shard != recover->config->shard) return "an entry of another shard";
    if (record->type == RECORD_TABLE) return "a record that belongs into a table";
    if (record->index <= recover->floor) return "an index that is too low";
    /* The first record behind a sealed file may be void, its cut follows: then there is a gap
     * before it. Or it follows the last entry that counts, although void ones stand in between,
     * because a start found them void already. Links vouch that nothing is missing. */
    if (!recover->is_placed) {
        if (record->index <= log->last_index) return "an index that goes back";
        recover->physical = record->index - 1;
        recover->is_placed = true;
    }

    if (record->type == RECORD_CUT) {
        if (record->index > recover->physical + 1) return "a cut behind the end";
        recover->physical = record->index - 1;
        if (record->index > log->last_index + 1) return NULL;
        if (segment == NULL) {
            log_cut(log, record->index);
        } else if (record->index <= log->last_index) {
            log_load_cut(log, record->index);
        }
        return NULL;
    }
    if (record->index != recover->physical + 1) return "an index out of order";
    recover->physical = record->index;
    if (record->index != log->last_index + 1) return NULL; /* Void: a cut comes. */
    if (record->term < log_term_at(log, log->last_index)) return "a term that goes back";
    if (record->term == 0) return "an entry without a term";
    if (segment == NULL) {
        log_append(log, bytes);
    } else {
        log_load_entry(log, segment, offset, record, bytes.size);
    }
    return NULL;
}

/* Reads the records of @handle from @from up to @end, verifying everything. */
static enum err replay_file(struct recover *recover, struct log_segment *segment, uint32_t number,
                            disk_file handle, uint64_t file_id, uint64_t size, uint64_t from,
                            uint64_t end)
{
    struct segment_scan scan;
    segment_scan_open(&scan, recover->disk, handle, file_id, size, end, recover->chain);
    scan.offset = from;
    enum err err;
    for (;;) {
        struct record record;
        struct slice bytes;
        uint32_t offset = 0;
        err = segment_scan_next(&scan, &record, &bytes, &offset);
        if (err == ERR_NOT_FOUND) {
            err = OK;
            break;
        }
        if (err != OK) {
            (void)refuse(recover, err, number, scan.offset, "a group is damaged");
            break;
        }
        const char *wrong = replay(recover, segment, &record, bytes, offset);
        if (wrong != NULL) {
            err = refuse(recover, ERR_CORRUPT, number, offset, wrong);
            break;
        }
    }
    recover->chain = scan.chain;
    segment_scan_close(&scan);
    return err;
}

/* Entries of a sealed file, up to the last one that counts. */
static enum err load_sealed_entries(struct recover *recover, const struct log_file *file)
{
    struct log *log = recover->log;
    struct log_segment *segment = log_segment_find(log, file->number);
    CHECK(segment != NULL);
    segment->state = LOG_SEGMENT_FULL; /* Until it is loaded: cuts in it are replayed. */
    segment->slots_first = log->last_index + 1;
    segment->file.first_index = log->last_index + 1;
    segment->file.last_index = log->last_index;
    recover->chain = file->seed;
    const enum err err = replay_file(recover, segment, file->number, segment->handle, file->file_id,
                                     segment->size, SEGMENT_BLOCK_SIZE, file->used);
    if (err != OK) return err;
    if (!hash128_equal(recover->chain, file->chain) || log->last_index < file->last_index) {
        return refuse(recover, ERR_CORRUPT, file->number, file->used,
                      "a sealed file does not hold what the manifest says");
    }
    if (log->last_index > file->last_index) log_load_cut(log, file->last_index + 1);
    recover->is_placed = false;
    return OK;
}

static enum err load_sealed(struct recover *recover)
{
    const struct recover_start *start = recover->start;
    struct log *log = recover->log;
    for (uint32_t i = 0; i < start->sealed_count; i++) {
        const struct log_file *file = &start->sealed[i];
        enum err err = open_sealed(recover, file);
        if (err == OK && file->number >= recover->load_number) {
            const bool is_damaged = start->damage != NULL &&
                                    damage_has(start->damage, file->number);
            if (!is_damaged) err = load_sealed_entries(recover, file);
            if (is_damaged || (err != OK && forgive(recover, err, file->number))) {
                recover->load_number = file->number + 1;
                return ERR_AGAIN; /* From the start, without the entries up to here. */
            }
        }
        if (err != OK) return err;
    }
    for (uint32_t i = 0; i < log->segments_count; i++) {
        log->segments[i]->state = LOG_SEGMENT_SEALED;
    }
    if (start->sealed_count == 0) return OK;
    const struct log_file *newest = &start->sealed[start->sealed_count - 1];
    recover->chain = newest->chain;
    if (newest->last_index != start->base_index || log->last_index != start->base_index ||
        log_term_at(log, start->base_index) != start->base_term) {
        return refuse(recover, ERR_CORRUPT, newest->number, newest->used,
                      "the base is not where the manifest says");
    }
    return OK;
}

static enum err load_unsealed(struct recover *recover)
{
    struct log *log = recover->log;
    for (uint32_t i = 0; i < recover->count; i++) {
        struct recover_file *file = &recover->files[i];
        if (file->groups == 0) continue;
        const bool moves = file == recover->last && !file->last_is_mark;
        const uint64_t end = moves ? file->last_offset : file->end;
        struct log_segment *segment = NULL;
        if (end > SEGMENT_BLOCK_SIZE) {
            const struct log_file described = {
                .number = file->number,
                .file_id = file->header.file_id,
                .first_index = log->last_index + 1,
                .last_index = log->last_index,
                .used = end,
                .seed = recover->chain,
            };
            segment = log_load_segment(log, &described, file->header.size, file->handle,
                                       LOG_SEGMENT_FULL);
            const enum err err = replay_file(recover, segment, file->number, file->handle,
                                             file->header.file_id, file->header.size,
                                             SEGMENT_BLOCK_SIZE, end);
            file->handle = -1; /* The log's now; a group that moves is read through the same one. */
            if (err != OK) return err;
            segment->file.chain = recover->chain;
        }
        log->chain = recover->chain;
        log->written_index = recover->is_placed ? recover->physical : log->last_index;
        if (!moves) continue;
        const disk_file handle = segment != NULL ? segment->handle : file->handle;
        const enum err err = replay_file(recover, NULL, file->number, handle, file->header.file_id,
                                         file->header.size, file->last_offset, file->end);
        if (err != OK) return err;
    }
    /* Void entries whose cut did not reach the disk before the crash. */
    if (log_index_submitted(log) > log->last_index) log_cut(log, log->last_index + 1);
    return OK;
}

/* ---- what is changed ------------------------------------------------------------------------- */

/* Writes the last mark again where it is: it may be only in the page cache, and what comes next
 * would not be reached without it. Nothing that was acknowledged is in its block, and the bytes are
 * the same. */
static enum err rewrite_mark(struct recover *recover)
{
    const struct recover_file *last = recover->last;
    struct log *log = recover->log;
    struct log_segment *segment = log_segment_find(log, last->number);
    CHECK(segment != NULL);
    struct disk *disk = recover->disk;
    uint8_t block[SEGMENT_BLOCK_SIZE];
    enum err err = disk->read_medium(disk->context, segment->handle, last->last_offset, block,
                                     sizeof block);
    if (err == OK) {
        err = disk->write_sync(disk->context, segment->handle, last->last_offset,
                               slice_of(block, sizeof block));
    }
    if (err != OK) {
        return refuse(recover, err, last->number, last->last_offset, "cannot be written");
    }
    if (last->rest == REST_CLEAN && log->segments[log->segments_count - 1] == segment) {
        segment->state = LOG_SEGMENT_ACTIVE;
        log->active = segment;
    }
    return OK;
}

static uint64_t spare_size(const struct log *log)
{
    uint64_t size = log->config.segment_size;
    for (uint32_t i = 0; i < log->images_count; i++) {
        const uint64_t records = log->images[i]->bytes.size - GROUP_HEADER_SIZE;
        const uint64_t need = SEGMENT_BLOCK_SIZE + segment_group_size(records);
        if (need > size) size = need;
    }
    return size;
}

/* A file that was made ahead and never written is the spare again. */
static void reuse_spare(struct recover *recover)
{
    struct log *log = recover->log;
    for (uint32_t i = 0; i < recover->count; i++) {
        struct recover_file *file = &recover->files[i];
        const bool unused = file->handle >= 0 && file->groups == 0 &&
                            file->end == SEGMENT_BLOCK_SIZE && file->rest == REST_CLEAN &&
                            file->last_offset == 0;
        if (!unused || file->header.size < spare_size(log)) continue;
        if (recover->last != NULL && file->number < recover->last->number) continue;
        log->spare = mem_alloc(sizeof *log->spare);
        *log->spare = (struct log_segment){
            .file = {.number = file->number,
                     .file_id = file->header.file_id,
                     .used = SEGMENT_BLOCK_SIZE},
            .state = LOG_SEGMENT_ACTIVE,
            .size = file->header.size,
            .handle = file->handle,
        };
        file->handle = -1;
        log->is_spare_expected = true; /* Before the start is over. */
        return;
    }
}

/* Files without a group that counts are of no use to anybody. */
static enum err remove_useless(struct recover *recover)
{
    struct disk *disk = recover->disk;
    for (uint32_t i = 0; i < recover->count; i++) {
        struct recover_file *file = &recover->files[i];
        if (file->handle < 0) continue;
        disk->close(disk->context, file->handle);
        file->handle = -1;
        char name[SEGMENT_NAME_SIZE];
        segment_name(name, recover->config->folder, file->number);
        const enum err err = disk->remove(disk->context, name);
        if (err != OK && err != ERR_NOT_FOUND) {
            return refuse(recover, err, file->number, 0, "cannot be removed");
        }
    }
    return OK;
}

/* From here on the next start must find the files of this one. */
static enum err save_expected(struct recover *recover)
{
    struct log *log = recover->log;
    struct expected_file files[EXPECTED_FILES];
    log_expect(log, files);
    if (expected_is(&log->expected, files)) return OK;
    enum err err = expected_save(&log->expected, files);
    if (err == ERR_NOSPACE && reserve_spend(&log->reserve)) {
        err = expected_save(&log->expected, files);
    }
    if (err != OK) {
        recover->message->size = 0;
        buf_printf(recover->message, "%s: cannot be written: %s", log->expected.name,
                   err_name(err));
    }
    return err;
}

static enum err settle(struct recover *recover)
{
    struct log *log = recover->log;
    enum err err = OK;
    if (recover->last != NULL && recover->last->last_is_mark) err = rewrite_mark(recover);
    if (err != OK) return err;
    reuse_spare(recover);
    if (log->expected.file < 0) err = save_expected(recover);
    if (err != OK) return err;
    log->persisted_index = log_index_submitted(log);
    log->write_index = log->persisted_index;
    if (log_flush_wait(log) == ERR_NOSPACE) {
        recover->message->size = 0;
        buf_printf(recover->message,
                   "%s: no space for a new segment, and the end of the log must be written again: "
                   "free %llu bytes",
                   recover->config->folder, (unsigned long long)spare_size(log));
        return ERR_NOSPACE;
    }
    err = save_expected(recover);
    return err == OK ? remove_useless(recover) : err;
}

/* ---- all together ---------------------------------------------------------------------------- */

/* What is not there and not sealed may have held entries that were acknowledged: of the newest file nothing else tells
 * that it ever was. */
static enum err check_expected(struct recover *recover)
{
    const struct recover_start *start = recover->start;
    const uint32_t sealed = start->sealed_count > 0 ? start->sealed[start->sealed_count - 1].number
                                                    : 0;
    struct expected *expected = &recover->log->expected;
    const enum err err = expected_open(expected);
    if (err != OK) {
        recover->message->size = 0;
        buf_printf(recover->message, "%s: offset 0: %s; %s", expected->name,
                   err == ERR_FOREIGN ? "belongs to another cluster or node" : err_name(err),
                   err_advice(err));
        return err;
    }
    for (uint32_t i = 0; i < EXPECTED_FILES; i++) {
        const struct expected_file *file = &expected->note.files[i];
        uint32_t at = 0;
        while (at < recover->count && recover->files[at].number != file->number) at++;
        if (file->number <= sealed) continue;
        if (at == recover->count) {
            return refuse(recover, ERR_CORRUPT, file->number, 0,
                          "is missing, and the log may have gone on in it");
        }
        if (recover->files[at].header.file_id != file->file_id) {
            return refuse(recover, ERR_CORRUPT, file->number, 0, "is another file under this name");
        }
    }
    return OK;
}

static void prepare_log(struct recover *recover)
{
    const struct recover_start *start = recover->start;
    struct log *log = recover->log;
    /* Every log begins with a link that no other cluster or shard has. */
    uint8_t identity[16];
    put_u64(identity, recover->config->cluster_id);
    put_u64(identity + 8, recover->config->shard);
    recover->chain = hash128(identity, sizeof identity);

    uint64_t last = start->base_index;
    for (uint32_t i = 0; i < start->sealed_count; i++) {
        if (start->sealed[i].number < recover->load_number) continue;
        last = start->sealed[i].first_index - 1;
        break;
    }
    log->last_index = last;
    log->first_index = last + 1;
    log->prefix_index = last == start->base_index ? last : 0;
    log->prefix_term = last == start->base_index ? start->base_term : 0;
    recover->floor = last;
}

static enum err run(struct recover *recover)
{
    const struct recover_start *start = recover->start;
    struct log *log = recover->log;
    enum err err = list_files(recover);
    if (err == OK) {
        err = reserve_open(&log->reserve);
        if (err != OK) {
            buf_printf(recover->message, "%s: cannot be opened: %s", log->reserve.name,
                       err_name(err));
        }
    }
    for (uint32_t i = 0; err == OK && i < recover->count; i++) {
        err = read_file(recover, &recover->files[i]);
    }
    if (err == OK) err = check_expected(recover);
    if (err != OK) return err;
    prepare_log(recover);
    err = load_sealed(recover);
    if (err != OK) return err;
    log->chain = recover->chain;
    log->written_index = log->last_index;
    recover->floor = start->base_index;
    err = link_files(recover);
    if (err == OK) err = judge(recover);
    if (err == OK) err = load_unsealed(recover);
    if (err == OK) err = settle(recover);
    return err;
}

/* One attempt; ERR_AGAIN: with a higher load_number. */
static enum err attempt(struct recover *recover)
{
    const struct log_config *config = recover->config;
    log_init(recover->log, config);
    const enum err err = run(recover);
    for (uint32_t i = 0; i < recover->count; i++) {
        if (recover->files[i].handle < 0) continue;
        config->disk->close(config->disk->context, recover->files[i].handle);
    }
    mem_free(recover->files);
    recover->files = NULL;
    buf_close(&recover->bytes);
    if (err != OK) {
        recover->log->stopped = true; /* Nothing more is written. */
        log_close(recover->log);
    }
    return err;
}

enum err recover_log(struct log *log, const struct log_config *config,
                     const struct recover_start *start, struct buf *message)
{
    CHECK(message->size == 0);
    uint32_t load_number = start->load_number;
    struct buf notes = {0};
    enum err err;
    do {
        struct recover recover = {
            .log = log,
            .config = config,
            .start = start,
            .message = message,
            .disk = config->disk,
            .load_number = load_number,
            .notes = notes,
        };
        err = attempt(&recover);
        load_number = recover.load_number;
        notes = recover.notes;
    } while (err == ERR_AGAIN);
    buf_close(&notes);
    if (err == OK) log_check(log);
    return err;
}
