#include "storage/log.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/log_index.h"

/* ---- pending images -------------------------------------------------------------------------- */

static uint64_t image_size_max(const struct log *log)
{
    const uint64_t room = log->config.segment_size - SEGMENT_BLOCK_SIZE;
    return room < GROUP_SIZE_USUAL ? room : GROUP_SIZE_USUAL;
}

static uint64_t image_size(const struct log_image *image)
{
    return segment_group_size(image->bytes.size - GROUP_HEADER_SIZE);
}

/* A new image behind the others. */
static struct log_image *image_add(struct log *log)
{
    log->images = log_index_grow(log->images, log->images_count, &log->images_capacity,
                                 sizeof *log->images);
    struct log_image *image = log_index_image_create(log->last_index + 1);
    log->images[log->images_count++] = image;
    return image;
}

/* The image that takes @size more bytes; the last one, unless that would make its group
 * too large. */
static struct log_image *image_for(struct log *log, uint64_t size)
{
    if (log->images_count > 0) {
        struct log_image *last = log->images[log->images_count - 1];
        const uint64_t total = last->bytes.size - GROUP_HEADER_SIZE + size;
        if (segment_group_size(total) <= image_size_max(log)) return last;
    }
    return image_add(log);
}

/* Lists the record that comes to lie at the end of @image. */
static void image_list(struct log *log, struct log_image *image, struct slice bytes)
{
    struct record record;
    uint64_t size = 0;
    const enum err err = record_decode_trusted(bytes, &record, &size);
    CHECK(err == OK);
    CHECK(size == bytes.size);
    CHECK(record.index == log->last_index + 1);
    CHECK(record.type != RECORD_CUT);
    CHECK(record.term >= log_term_at(log, log->last_index));

    image->slots = log_index_grow(image->slots, image->slots_count, &image->slots_capacity,
                                  sizeof *image->slots);
    image->slots[image->slots_count++] = (struct log_slot){.offset = (uint32_t)image->bytes.size,
                                                           .size = (uint32_t)size};
    image->records++;
    log_index_note(log, &record);
}

void log_append(struct log *log, struct slice bytes)
{
    struct log_image *image = image_for(log, bytes.size);
    image_list(log, image, bytes);
    buf_append(&image->bytes, bytes.data, bytes.size);
}

void log_append_from(struct log *log, struct slice bytes, struct buf *owner)
{
    const bool is_there = bytes.data >= owner->data && bytes.data < owner->data + owner->size;
    if (bytes.size < LOG_TAKE_SIZE || !is_there) {
        log_append(log, bytes);
        return;
    }
    struct log_image *image = image_add(log);
    image_list(log, image, bytes);
    /* To copy so much into fresh memory takes many times as long as to move it within its own. */
    const uint64_t room = segment_group_size(bytes.size);
    const uint64_t offset = (uint64_t)(bytes.data - owner->data);
    if (owner->capacity < room) (void)buf_reserve(owner, room - owner->size);
    memmove(owner->data + GROUP_HEADER_SIZE, owner->data + offset, bytes.size);
    owner->data = mem_resize(owner->data, room);
    owner->capacity = room;
    owner->size = GROUP_HEADER_SIZE + bytes.size;
    buf_close(&image->bytes);
    image->bytes = *owner;
    *owner = (struct buf){0};
}

static void drop_last_image(struct log *log)
{
    log_index_image_destroy(log->images[--log->images_count]);
}

/* Takes pending entries from @index on, of which none was submitted, out of their images. */
static void cut_pending(struct log *log, uint64_t index)
{
    while (log->images_count > 0) {
        struct log_image *image = log->images[log->images_count - 1];
        if (image->first_index + image->slots_count <= index) break;
        const uint64_t keep = index > image->first_index ? index - image->first_index : 0;
        const uint32_t records = image->slots_count - (uint32_t)keep;
        image->bytes.size = image->slots[keep].offset;
        image->slots_count = (uint32_t)keep;
        image->records -= records;
        if (image->records > 0) break;
        drop_last_image(log);
    }
}

void log_cut(struct log *log, uint64_t index)
{
    CHECK(index > 0);
    CHECK(index >= log->first_index);
    CHECK(index <= log->last_index + 1);
    const bool submitted = index <= log_index_submitted(log);
    if (!submitted) cut_pending(log, index);
    log_index_cut(log, index);
    log->last_index = index - 1;
    if (log->persisted_index >= index) log->persisted_index = index - 1;
    if (log->write_index >= index) log->write_index = index - 1;
    if (!submitted) return;

    /* Entries that were submitted become void: the next group says so before it says
     * anything else. */
    while (log->images_count > 0) drop_last_image(log);
    const struct record cut = {
        .index = index,
        .term = log_term_at(log, index - 1),
        .stamp_ms = log->last_stamp_ms,
        .type = RECORD_CUT,
        .shard = log->config.shard,
    };
    struct log_image *image = image_for(log, RECORD_HEADER_SIZE);
    record_encode(&cut, &image->bytes);
    image->records = 1;
    log->cut_index = index;
}

uint64_t log_pending_size(const struct log *log)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < log->images_count; i++) size += log->images[i]->bytes.size;
    return size;
}

/* A spare is ready when it has a handle and is expected; until then it is only planned. */
static bool spare_ready(const struct log *log)
{
    return log->spare != NULL && log->spare->handle >= 0 && log->is_spare_expected;
}

bool log_nospace(const struct log *log)
{
    return log->nospace || log->reserve.is_short;
}

uint64_t log_room(const struct log *log)
{
    const uint64_t usual = log->config.segment_size - SEGMENT_BLOCK_SIZE;
    const uint64_t pending = log_pending_size(log) +
                             log->images_count * (uint64_t)SEGMENT_BLOCK_SIZE;
    const uint64_t reserved = reserve_whole(&log->reserve) ? log->reserve.held - RESERVE_REST : 0;
    uint64_t room = reserved / log->config.segment_size * usual;
    if (log->active != NULL) room += log->active->size - log->active->file.used;
    if (spare_ready(log)) room += log->spare->size - SEGMENT_BLOCK_SIZE;
    return room > pending ? room - pending : 0;
}

bool log_fits(const struct log *log, uint64_t size)
{
    struct disk *disk = log->config.disk;
    uint64_t available = 0;
    const uint64_t group = segment_group_size(size);
    const uint64_t need = log_pending_size(log) + log->images_count * (uint64_t)SEGMENT_BLOCK_SIZE +
                          group;
    if (group <= log->config.segment_size - SEGMENT_BLOCK_SIZE) return true;
    if (log->active != NULL && log->active->size - log->active->file.used >= need) return true;
    if (spare_ready(log) && log->spare->size - SEGMENT_BLOCK_SIZE >= need) return true;
    if (disk->space(disk->context, &available) != OK) return true;
    /* The spare makes way for the larger file, and another spare is to follow. */
    if (spare_ready(log)) available += log->spare->size;
    return available >= need + SEGMENT_BLOCK_SIZE + log->config.segment_size;
}

bool log_starved(const struct log *log)
{
    return log->images_count > 0 && !log->write_pending && !log->nospace && !log->stopped;
}

/* ---- the spare ------------------------------------------------------------------------------- */

uint32_t log_take_number(struct log *log)
{
    CHECK(log->number_next < UINT32_MAX);
    return log->number_next++;
}

uint64_t log_take_id(struct log *log)
{
    return prng_next(&log->prng);
}

void log_expect(const struct log *log, struct expected_file files[EXPECTED_FILES])
{
    const struct log_segment *newest = log->segments_count > 0
                                           ? log->segments[log->segments_count - 1]
                                           : NULL;
    const struct log_segment *spare = log->spare;
    memset(files, 0, EXPECTED_FILES * sizeof *files);
    /* For sealed ones the manifest vouches. */
    if (newest != NULL && newest->state != LOG_SEGMENT_SEALED) {
        files[0] = (struct expected_file){newest->file.number, newest->file.file_id};
    }
    if (spare != NULL && spare->handle >= 0) {
        files[1] = (struct expected_file){spare->file.number, spare->file.file_id};
    }
}

static void log_expected_done(struct disk_op *op)
{
    struct log *log = op->owner;
    struct disk *disk = log->config.disk;
    CHECK(log->spare_pending);
    log->spare_pending = false;
    if (expected_written(&log->expected) == ERR_NOSPACE) {
        log->nospace = true;
        log->spare_retry_ms = UINT64_MAX;
        return;
    }
    log->nospace = false;
    log->is_spare_expected = log->spare->handle >= 0;
    if (!log->is_spare_unwanted) return;
    log->is_spare_unwanted = false;
    (void)disk->remove(disk->context,
                       log->spare_name); /* If it stays, the next start removes it. */
}

/* The spare can be used, or is removed, once what is expected says so. */
static void spare_expect(struct log *log)
{
    struct expected_file files[EXPECTED_FILES];
    log_expect(log, files);
    log->spare_pending = true;
    expected_submit(&log->expected, files, log_expected_done, log);
}

/* It holds nothing. */
static void spare_discard(struct log *log)
{
    struct disk *disk = log->config.disk;
    CHECK(spare_ready(log));
    segment_name(log->spare_name, log->config.folder, log->spare->file.number);
    disk->close(disk->context, log->spare->handle);
    log->spare->handle = -1;
    log->is_spare_expected = false;
    log->is_spare_unwanted = true;
    spare_expect(log);
}

static void log_spare_done(struct disk_op *op)
{
    struct log *log = op->owner;
    CHECK(log->spare_pending);
    log->spare_pending = false;
    if (op->result == ERR_EXISTS)
        return; /* A foreign file has this name: the next number is tried. */
    if (op->result == ERR_NOSPACE) {
        log->nospace = true;
        log->spare_retry_ms = UINT64_MAX;
        mem_free(log->spare);
        log->spare = NULL;
        return;
    }
    if (op->result != OK) {
        fatal(EXIT_DISK, "%s: cannot make the next segment: %s", log->spare_name,
              err_name(op->result));
    }
    log->nospace = false;
    log->spare->handle = op->file;
    spare_expect(log);
}

static void spare_request(struct log *log)
{
    CHECK(!log->spare_pending);
    CHECK(!spare_ready(log));
    if (log->is_spare_unwanted || (log->spare != NULL && log->spare->handle >= 0)) {
        spare_expect(log);
        return;
    }
    if (log->spare == NULL) log->spare = mem_alloc(sizeof *log->spare);
    uint64_t size = log->config.segment_size;
    for (uint32_t i = 0; i < log->images_count; i++) {
        const uint64_t need = SEGMENT_BLOCK_SIZE + image_size(log->images[i]);
        if (need > size) size = need;
    }
    *log->spare = (struct log_segment){
        .file = {.number = log_take_number(log),
                 .file_id = prng_next(&log->prng),
                 .used = SEGMENT_BLOCK_SIZE},
        .state = LOG_SEGMENT_ACTIVE,
        .size = size,
        .handle = -1,
    };
    const struct segment_header header = {
        .number = log->spare->file.number,
        .cluster_id = log->config.cluster_id,
        .node_id = log->config.node_id,
        .file_id = log->spare->file.file_id,
        .size = size,
        .shard = log->config.shard,
    };
    segment_header_encode(&header, log->spare_block);
    segment_name(log->spare_name, log->config.folder, header.number);
    log->spare_op = (struct disk_op){
        .kind = DISK_CREATE,
        .lane = DISK_LANE_BACKGROUND,
        .file = -1,
        .name = log->spare_name,
        .size = size,
        .data = slice_of(log->spare_block, SEGMENT_BLOCK_SIZE),
        .done = log_spare_done,
        .owner = log,
    };
    log->spare_pending = true;
    log->config.disk->submit(log->config.disk->context, &log->spare_op);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void log_write_done(struct disk_op *op)
{
    struct log *log = op->owner;
    CHECK(log->write_pending);
    if (op->result != OK) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(name, log->config.folder, log->active->file.number);
        fatal(EXIT_DISK, "%s: offset %llu: cannot write the log: %s", name,
              (unsigned long long)op->offset, err_name(op->result));
    }
    CHECK(log->write_index >= log->persisted_index);
    log->write_pending = false;
    log->persisted_index = log->write_index;
    log->groups_written++;
    log->bytes_written += op->data.size;
    latency_add(&log->writes, op->elapsed_us);
    log->unmarked = !log->write_mark;
    log->mark_ms = UINT64_MAX;
}

static bool has_room(const struct log_segment *segment, uint64_t size)
{
    return segment->size - segment->file.used >= size;
}

/* Lists the spare as the new active segment. */
static void spare_adopt(struct log *log)
{
    struct log_segment *segment = log->spare;
    log->spare = NULL;
    log->is_spare_expected = false;
    if (log->active != NULL) log->active->state = LOG_SEGMENT_FULL;
    const uint64_t last = log_index_submitted(log);
    segment->file.first_index = last + 1;
    segment->file.last_index = last;
    segment->file.seed = log->chain;
    segment->file.chain = log->chain;
    segment->slots_first = last + 1;
    log->segments = log_index_grow(log->segments, log->segments_count, &log->segments_capacity,
                                   sizeof *log->segments);
    log->segments[log->segments_count++] = segment;
    log->active = segment;
}

/* Sees to an active segment with room for a group of @size. False: not yet. The disk is full and
 * @may_spend: with the space that was kept for this. */
static bool make_room(struct log *log, uint64_t size, bool may_spend)
{
    if (log->is_roll_wanted) log_roll(log);
    if (log->active != NULL && has_room(log->active, size)) return true;
    /* Made before a record came that is larger than a whole segment. */
    if (spare_ready(log) && !has_room(log->spare, size)) spare_discard(log);
    if (!spare_ready(log)) {
        if (log->spare_pending) return false;
        if (!log->nospace || (may_spend && reserve_release(&log->reserve))) spare_request(log);
        return false;
    }
    spare_adopt(log);
    return true;
}

/* Gives @bytes, an image with @records records, to the disk as the next group. Takes the bytes. */
static void submit(struct log *log, struct buf *bytes, uint32_t records, uint64_t first_index,
                   uint64_t last_index)
{
    struct log_segment *segment = log->active;
    CHECK(!log->write_pending);
    CHECK(segment->state == LOG_SEGMENT_ACTIVE);
    struct segment_group group = {
        .count = records,
        .offset = (uint32_t)segment->file.used,
        .first_index = first_index,
        .last_index = last_index,
        .durable_index = log->persisted_index,
        .link = log->chain.low,
    };
    log->chain = segment_group_seal(bytes, &group, segment->file.file_id);
    const struct slice data = tail_add(&log->tail, segment->file.number, group.offset, bytes);
    CHECK(has_room(segment, data.size));
    segment->file.used += data.size;
    segment->file.chain = log->chain;
    log->written_index = last_index;
    log->write_index = last_index;
    log->write_mark = records == 0;
    log->write_pending = true;
    log->write_op = (struct disk_op){
        .kind = DISK_WRITE,
        .lane = DISK_LANE_LOG,
        .file = segment->handle,
        .sync = true,
        .offset = group.offset,
        .data = data,
        .done = log_write_done,
        .owner = log,
    };
    log->config.disk->submit(log->config.disk->context, &log->write_op);
}

void log_flush(struct log *log)
{
    if (log->write_pending || log->stopped || log->images_count == 0) return;
    struct log_image *image = log->images[0];
    if (!make_room(log, image_size(image), true)) return;

    struct log_segment *segment = log->active;
    const uint32_t base = (uint32_t)segment->file.used;
    for (uint32_t i = 0; i < image->slots_count; i++) {
        log_index_add_slot(segment, image->first_index + i, base + image->slots[i].offset,
                           image->slots[i].size);
    }
    log->cut_index = 0;
    log->images_count--;
    memmove(log->images, log->images + 1, log->images_count * sizeof *log->images);
    submit(log, &image->bytes, image->records, image->first_index,
           image->first_index + image->slots_count - 1);
    log_index_image_destroy(image);
}

uint64_t log_flushing(const struct log *log)
{
    return log->write_pending ? log->write_op.data.size : 0;
}

static void wait_write(struct log *log)
{
    struct disk *disk = log->config.disk;
    if (log->write_pending) disk->wait(disk->context, &log->write_op);
    CHECK(!log->write_pending);
}

static void wait_spare(struct log *log)
{
    struct disk *disk = log->config.disk;
    while (log->spare_pending) {
        const bool is_made = log->expected.is_pending;
        disk->wait(disk->context, is_made ? &log->expected.op : &log->spare_op);
    }
}

enum err log_flush_wait(struct log *log)
{
    CHECK(!log->stopped);
    for (;;) {
        wait_write(log);
        if (log->images_count == 0) return OK;
        log_flush(log);
        if (log->write_pending) continue;
        /* No segment has room. On a full disk one more attempt is worth it: space may be back, or
         * the reserve was given up for it. */
        reserve_settle(&log->reserve);
        if (!log->spare_pending) spare_request(log);
        wait_spare(log);
        if (log->nospace && !reserve_whole(&log->reserve)) return ERR_NOSPACE;
    }
}

/* Tells a later start that the newest group is durable. False: no segment has room yet. */
static bool write_mark(struct log *log)
{
    CHECK(log->images_count == 0);
    if (!make_room(log, segment_group_size(0), false)) return false;
    struct buf bytes = {0};
    (void)buf_extend(&bytes, GROUP_HEADER_SIZE);
    submit(log, &bytes, 0, log->last_index + 1, log->last_index);
    return true;
}

/* ---- turns ----------------------------------------------------------------------------------- */

static bool is_idle_unmarked(const struct log *log)
{
    return log->unmarked && !log->write_pending && log->images_count == 0;
}

void log_turn(struct log *log, uint64_t now_ms)
{
    if (log->stopped) return;
    if (!spare_ready(log) && !log->spare_pending) {
        if (log->nospace && log->spare_retry_ms == UINT64_MAX) {
            log->spare_retry_ms = now_ms + LOG_NOSPACE_RETRY_MS;
        }
        if (!log->nospace || now_ms >= log->spare_retry_ms) spare_request(log);
    }
    reserve_turn(&log->reserve, spare_ready(log), now_ms);
    if (!is_idle_unmarked(log)) {
        log->mark_ms = UINT64_MAX;
    } else if (log->mark_ms == UINT64_MAX) {
        log->mark_ms = now_ms + LOG_MARK_DELAY_MS;
    } else if (now_ms >= log->mark_ms) {
        (void)write_mark(log);
    }
}

uint64_t log_deadline(const struct log *log)
{
    uint64_t deadline = UINT64_MAX;
    if (log->stopped) return deadline;
    if (!spare_ready(log) && !log->spare_pending) {
        if (!log->nospace || log->spare_retry_ms == UINT64_MAX) return 0;
        deadline = log->spare_retry_ms;
    }
    const uint64_t reserve = reserve_deadline(&log->reserve, spare_ready(log));
    if (reserve < deadline) deadline = reserve;
    if (!is_idle_unmarked(log)) return deadline;
    if (log->mark_ms == UINT64_MAX) return 0;
    const bool room = log->active != NULL && has_room(log->active, segment_group_size(0));
    if (!room && !spare_ready(log)) return deadline; /* The spare's completion wakes us. */
    return log->mark_ms < deadline ? log->mark_ms : deadline;
}

void log_roll(struct log *log)
{
    log->is_roll_wanted = log->write_pending && log->active != NULL;
    if (log->write_pending || log->active == NULL) return;
    log->active->state = LOG_SEGMENT_FULL;
    log->active = NULL;
}

void log_stop(struct log *log)
{
    wait_write(log);
    wait_spare(log);
    reserve_settle(&log->reserve);
    log->stopped = true;
}

/* ---- life ------------------------------------------------------------------------------------ */

void log_init(struct log *log, const struct log_config *config)
{
    CHECK(config->segment_size % SEGMENT_BLOCK_SIZE == 0);
    CHECK(config->segment_size >= 4 * SEGMENT_BLOCK_SIZE);
    CHECK(config->segment_size <= UINT32_MAX - GROUP_SIZE_MAX);
    *log = (struct log){
        .config = *config,
        .prng = prng_seed(config->random_seed),
        .first_index = 1,
        .number_next = 1,
        .mark_ms = UINT64_MAX,
        .spare_block = mem_alloc(SEGMENT_BLOCK_SIZE),
    };
    expected_init(&log->expected, config->disk, config->folder, config->cluster_id,
                  config->node_id);
    reserve_init(&log->reserve, config->disk, config->folder, config->reserve_size);
    tail_init(&log->tail, config->tail_size);
}

static void segment_close(struct log *log, struct log_segment *segment)
{
    struct disk *disk = log->config.disk;
    if (segment->handle >= 0) disk->close(disk->context, segment->handle);
    mem_free(segment->slots);
    mem_free(segment);
}

void log_close(struct log *log)
{
    if (!log->stopped) {
        (void)log_flush_wait(log); /* What a full disk refuses was never reported as persisted. */
        if (is_idle_unmarked(log)) (void)write_mark(log);
        log_stop(log);
    }
    if (log->spare != NULL) segment_close(log, log->spare);
    expected_close(&log->expected);
    for (uint32_t i = 0; i < log->segments_count; i++) segment_close(log, log->segments[i]);
    mem_free(log->segments);
    mem_free(log->spare_block);
    tail_close(&log->tail);
    buf_close(&log->window);
    log_index_close(log);
    *log = (struct log){.stopped = true};
}

void log_seal(struct log *log, uint32_t number)
{
    struct log_segment *segment = log_segment_find(log, number);
    CHECK(segment != NULL);
    CHECK(segment->state == LOG_SEGMENT_FULL);
    CHECK(segment->file.last_index <= log->persisted_index);
    segment->state = LOG_SEGMENT_SEALED;
}

disk_file log_forget(struct log *log, uint32_t number)
{
    struct log_segment *segment = log_segment_find(log, number);
    CHECK(segment != NULL);
    CHECK(segment->state == LOG_SEGMENT_SEALED);
    CHECK(segment->file.last_index < log->first_index);
    const disk_file handle = segment->handle;
    segment->handle = -1;
    uint32_t at = 0;
    while (log->segments[at] != segment) at++;
    log->segments_count--;
    memmove(&log->segments[at], &log->segments[at + 1],
            (log->segments_count - at) * sizeof *log->segments);
    segment_close(log, segment);
    return handle;
}

struct log_segment *log_load_segment(struct log *log, const struct log_file *file, uint64_t size,
                                     disk_file handle, enum log_segment_state state)
{
    CHECK(log->active == NULL);
    struct log_segment *segment = mem_alloc(sizeof *segment);
    *segment = (struct log_segment){
        .file = *file,
        .state = state,
        .size = size,
        .handle = handle,
        .slots_first = file->last_index + 1,
    };
    log->segments = log_index_grow(log->segments, log->segments_count, &log->segments_capacity,
                                   sizeof *log->segments);
    log->segments[log->segments_count++] = segment;
    return segment;
}

void log_load_entry(struct log *log, struct log_segment *segment, uint32_t offset,
                    const struct record *record, uint64_t size)
{
    log_index_note(log, record);
    log_index_add_slot(segment, record->index, offset, (uint32_t)size);
}

void log_load_cut(struct log *log, uint64_t index)
{
    CHECK(log->images_count == 0);
    CHECK(index <= log->last_index);
    log_index_cut(log, index);
    log->last_index = index - 1;
}

void log_check(const struct log *log)
{
    CHECK(log->persisted_index <= log->last_index);
    CHECK(log->first_index <= log->last_index + 1);
    CHECK(log->prefix_index < log->first_index);
    if (log->cut_index > 0) CHECK(log->images_count > 0);
    if (log->cut_index > 0) CHECK(log->cut_index <= log->written_index);
    if (log->write_pending) CHECK(log->active != NULL);
    if (log->write_pending) CHECK(log->write_index <= log->last_index);
    if (log->write_pending) CHECK(log->write_index >= log->persisted_index);
    if (!log->write_pending) CHECK(log->persisted_index == log_index_submitted(log));
    if (log->active != NULL) CHECK(log->active == log->segments[log->segments_count - 1]);
    if (log->spare_pending) CHECK(log->spare != NULL);
    if (log->expected.is_pending || log->is_spare_unwanted) CHECK(log->spare_pending);
    CHECK(log->reserve.held <= log->reserve.size);
    log_index_check(log);
    tail_check(&log->tail);
}
