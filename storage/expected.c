#include "storage/expected.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"

#define EXPECTED_VERSION 1u
#define FILES_AT 40u

STATIC_CHECK(FILES_AT + EXPECTED_FILES * 16 == EXPECTED_CHECKED_SIZE, "the files fill the copy");

/* ---- bytes ------------------------------------------------------------------------------------------- */

void expected_encode(const struct expected_note *note, uint64_t cluster_id, uint64_t node_id,
                     uint8_t *copy)
{
    memset(copy, 0, EXPECTED_COPY_SIZE);
    put_u64(copy, EXPECTED_MAGIC);
    put_u32(copy + 8, EXPECTED_VERSION);
    put_u64(copy + 16, note->version);
    put_u64(copy + 24, cluster_id);
    put_u64(copy + 32, node_id);
    for (uint32_t i = 0; i < EXPECTED_FILES; i++) {
        uint8_t *at = copy + FILES_AT + (uint64_t)i * 16;
        put_u32(at, note->files[i].number);
        put_u64(at + 8, note->files[i].file_id);
    }
    put_u64(copy + EXPECTED_CHECKED_SIZE, hash64(copy, EXPECTED_CHECKED_SIZE));
}

/* The checksum comes before the version: a flipped bit must read as damage, not as a newer format. */
static enum err copy_decode(const uint8_t *copy, uint64_t cluster_id, uint64_t node_id,
                            struct expected_note *note)
{
    if (get_u64(copy) != EXPECTED_MAGIC) return ERR_NOT_FOUND;
    if (get_u64(copy + EXPECTED_CHECKED_SIZE) != hash64(copy, EXPECTED_CHECKED_SIZE))
        return ERR_NOT_FOUND;
    if (get_u32(copy + 8) != EXPECTED_VERSION) return ERR_NEWER;
    if (get_u64(copy + 24) != cluster_id || get_u64(copy + 32) != node_id) return ERR_FOREIGN;
    note->version = get_u64(copy + 16);
    for (uint32_t i = 0; i < EXPECTED_FILES; i++) {
        const uint8_t *at = copy + FILES_AT + (uint64_t)i * 16;
        note->files[i] = (struct expected_file){.number = get_u32(at), .file_id = get_u64(at + 8)};
    }
    return OK;
}

enum err expected_pick(struct slice file, uint64_t cluster_id, uint64_t node_id,
                       struct expected_note *note)
{
    bool is_found = false;
    *note = (struct expected_note){0};
    for (uint64_t at = 0; at + EXPECTED_COPY_SIZE <= file.size; at += EXPECTED_COPY_SIZE) {
        struct expected_note one = {0};
        const enum err err = copy_decode(file.data + at, cluster_id, node_id, &one);
        if (err == ERR_FOREIGN || err == ERR_NEWER) return err;
        if (err != OK || (is_found && one.version <= note->version)) continue;
        *note = one;
        is_found = true;
    }
    return is_found ? OK : ERR_NOT_FOUND;
}

/* ---- the file ---------------------------------------------------------------------------------------- */

void expected_init(struct expected *expected, struct disk *disk, const char *folder,
                   uint64_t cluster_id, uint64_t node_id)
{
    *expected = (struct expected){
        .disk = disk, .file = -1, .cluster_id = cluster_id, .node_id = node_id};
    const int size = snprintf(expected->name, sizeof expected->name, "%s/" EXPECTED_NAME, folder);
    CHECK(size > 0 && size < (int)sizeof expected->name);
}

void expected_close(struct expected *expected)
{
    CHECK(!expected->is_pending);
    if (expected->file >= 0) expected->disk->close(expected->disk->context, expected->file);
    expected->file = -1;
}

enum err expected_open(struct expected *expected)
{
    struct disk *disk = expected->disk;
    uint8_t bytes[EXPECTED_COPIES * EXPECTED_COPY_SIZE] = {0};
    uint64_t size = 0;
    enum err err = disk->open(disk->context, expected->name, true, &expected->file);
    if (err != OK) expected->file = -1;
    if (err == ERR_NOT_FOUND) return OK;
    if (err == OK) err = disk->size(disk->context, expected->file, &size);
    if (err != OK) return err;
    /* One that was cut off cannot be written in place: it is made anew. */
    if (size < sizeof bytes) expected_close(expected);
    if (size < sizeof bytes) return OK;
    /* After a failed sync the cache may say what the disk does not hold. A copy that cannot be read is damaged. */
    for (uint64_t at = 0; at < sizeof bytes; at += EXPECTED_COPY_SIZE) {
        err = disk->read_medium(disk->context, expected->file, at, bytes + at, EXPECTED_COPY_SIZE);
        if (err != OK) memset(bytes + at, 0, EXPECTED_COPY_SIZE);
    }
    err = expected_pick(slice_of(bytes, sizeof bytes), expected->cluster_id, expected->node_id,
                        &expected->note);
    return err == ERR_NOT_FOUND ? OK : err;
}

bool expected_is(const struct expected *expected, const struct expected_file *files)
{
    if (expected->file < 0 || expected->note.version == 0) return false;
    for (uint32_t i = 0; i < EXPECTED_FILES; i++) {
        if (expected->note.files[i].number != files[i].number) return false;
        if (expected->note.files[i].file_id != files[i].file_id) return false;
    }
    return true;
}

static void encode_next(struct expected *expected, const struct expected_file *files)
{
    CHECK(!expected->is_pending);
    expected->note.version++;
    memcpy(expected->note.files, files, sizeof expected->note.files);
    expected_encode(&expected->note, expected->cluster_id, expected->node_id, expected->copy);
}

static uint64_t offset_of(const struct expected *expected)
{
    return expected->note.version % EXPECTED_COPIES * EXPECTED_COPY_SIZE;
}

/* The file appears whole or not at all. */
static enum err make(struct expected *expected, const struct expected_file *files)
{
    struct disk *disk = expected->disk;
    uint8_t bytes[EXPECTED_COPIES * EXPECTED_COPY_SIZE];
    for (uint32_t i = 0; i < EXPECTED_COPIES; i++) {
        encode_next(expected, files);
        memcpy(bytes + offset_of(expected), expected->copy, EXPECTED_COPY_SIZE);
    }
    enum err err = disk->remove(disk->context, expected->name); /* One that was cut off. */
    if (err != OK && err != ERR_NOT_FOUND) return err;
    err = disk->create(disk->context, expected->name, sizeof bytes, slice_of(bytes, sizeof bytes),
                       &expected->file);
    if (err != OK) expected->file = -1;
    return err;
}

enum err expected_save(struct expected *expected, const struct expected_file *files)
{
    struct disk *disk = expected->disk;
    enum err err = OK;
    if (expected->file < 0) return make(expected, files);
    for (uint32_t i = 0; err == OK && i < EXPECTED_COPIES; i++) {
        encode_next(expected, files);
        err = disk->write_sync(disk->context, expected->file, offset_of(expected),
                               slice_of(expected->copy, EXPECTED_COPY_SIZE));
    }
    return err;
}

void expected_submit(struct expected *expected, const struct expected_file *files,
                     void (*done)(struct disk_op *op), void *owner)
{
    CHECK(expected->file >= 0);
    encode_next(expected, files);
    expected->is_pending = true;
    expected->op = (struct disk_op){
        .kind = DISK_WRITE,
        .lane = DISK_LANE_BACKGROUND,
        .file = expected->file,
        .sync = true,
        .offset = offset_of(expected),
        .data = slice_of(expected->copy, EXPECTED_COPY_SIZE),
        .done = done,
        .owner = owner,
    };
    expected->disk->submit(expected->disk->context, &expected->op);
}

enum err expected_written(struct expected *expected)
{
    const enum err err = expected->op.result;
    CHECK(expected->is_pending);
    expected->is_pending = false;
    /* Blocks that are there can be refused all the same, where a file system copies on write. The next attempt goes to
     * the same copy: the other one is whole. */
    if (err == ERR_NOSPACE) expected->note.version--;
    if (err != OK && err != ERR_NOSPACE) {
        fatal(EXIT_DISK, "%s: cannot be written: %s", expected->name, err_name(err));
    }
    return err;
}
