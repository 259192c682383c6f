#include "storage/quarantine.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"

#define QUARANTINE_MAGIC UINT64_C(0x314e415241555156) /* "VQUARAN1" */
#define QUARANTINE_VERSION 1u
#define HEADER_SIZE 64u
#define NAME_SIZE 192u
#define ASIDE_MAX 10000u

static void file_name(char name[NAME_SIZE], const char *folder)
{
    CHECK(strlen(folder) <= NAME_SIZE_MAX);
    (void)snprintf(name, NAME_SIZE, "%s/QUARANTINE", folder);
}

static void aside_name(char name[NAME_SIZE], const char *folder, uint32_t number)
{
    (void)snprintf(name, NAME_SIZE, "%s/aside-%u", folder, number);
}

/* ---- bytes ------------------------------------------------------------------------------------------ */

void quarantine_encode(const struct quarantine *quarantine, uint64_t cluster_id, uint64_t node_id,
                       struct buf *out)
{
    const uint64_t start = out->size;
    CHECK(quarantine->stage == QUARANTINE_EMPTYING || quarantine->stage == QUARANTINE_RECOVERING);
    buf_u64(out, QUARANTINE_MAGIC);
    buf_u32(out, QUARANTINE_VERSION);
    buf_u32(out, 0);
    buf_u64(out, cluster_id);
    buf_u64(out, node_id);
    buf_u64(out, quarantine->incarnation);
    buf_u64(out, quarantine->since_ms);
    buf_u32(out, (uint32_t)quarantine->stage);
    buf_u32(out, quarantine->aside);
    buf_u64(out, quarantine->fault.offset);
    buf_sized(out, slice_text(quarantine->fault.file));
    buf_sized(out, slice_text(quarantine->fault.what));
    put_u32(out->data + start + 12, (uint32_t)(out->size - start + 8));
    buf_u64(out, hash64(out->data + start, out->size - start));
    CHECK(out->size - start <= QUARANTINE_FILE_MAX);
}

static bool read_text(struct reader *reader, char *to, uint64_t to_size)
{
    const struct slice text = reader_sized(reader);
    if (reader->bad || text.size >= to_size) return false;
    for (uint64_t i = 0; i < text.size; i++) {
        if (text.data[i] < 0x20 || text.data[i] > 0x7e) return false;
    }
    if (text.size > 0) memcpy(to, text.data, text.size);
    to[text.size] = 0;
    return true;
}

enum err quarantine_decode(struct slice bytes, uint64_t cluster_id, uint64_t node_id,
                           struct quarantine *quarantine)
{
    struct quarantine read = {0};
    if (bytes.size < HEADER_SIZE + 16 || bytes.size > QUARANTINE_FILE_MAX) return ERR_CORRUPT;
    if (get_u64(bytes.data) != QUARANTINE_MAGIC) return ERR_CORRUPT;
    const uint64_t checked = bytes.size - 8;
    if (get_u64(bytes.data + checked) != hash64(bytes.data, checked)) return ERR_CORRUPT;
    if (get_u32(bytes.data + 8) != QUARANTINE_VERSION) return ERR_NEWER;
    struct reader reader = reader_of(slice_of(bytes.data, checked));
    (void)reader_bytes(&reader, 12);
    if (reader_u32(&reader) != bytes.size) return ERR_CORRUPT;
    const uint64_t cluster = reader_u64(&reader);
    const uint64_t node = reader_u64(&reader);
    if (cluster != cluster_id || node != node_id) return ERR_FOREIGN;
    read.incarnation = reader_u64(&reader);
    read.since_ms = reader_u64(&reader);
    const uint32_t stage = reader_u32(&reader);
    read.aside = reader_u32(&reader);
    read.fault.offset = reader_u64(&reader);
    if (stage != QUARANTINE_EMPTYING && stage != QUARANTINE_RECOVERING) return ERR_CORRUPT;
    read.stage = (enum quarantine_stage)stage;
    if (read.aside == 0 || read.aside > ASIDE_MAX) return ERR_CORRUPT;
    if (!read_text(&reader, read.fault.file, sizeof read.fault.file)) return ERR_CORRUPT;
    if (!read_text(&reader, read.fault.what, sizeof read.fault.what)) return ERR_CORRUPT;
    if (reader.bad || reader.at != reader.end) return ERR_CORRUPT;
    *quarantine = read;
    return OK;
}

/* ---- the file --------------------------------------------------------------------------------------- */

enum err quarantine_load(struct quarantine *quarantine, struct disk *disk, const char *folder,
                         uint64_t cluster_id, uint64_t node_id, uint64_t incarnation, char *message)
{
    char name[NAME_SIZE];
    struct buf bytes = {0};
    *quarantine = (struct quarantine){0};
    file_name(name, folder);
    enum err err = disk_read_whole(disk, name, QUARANTINE_FILE_MAX, &bytes);
    if (err == OK) err = quarantine_decode(buf_slice(&bytes), cluster_id, node_id, quarantine);
    buf_close(&bytes);
    if (err == ERR_NOT_FOUND) return OK;
    if (err == ERR_CORRUPT || err == ERR_IO) {
        /* That there was a loss is certain; how far its recovery had come does not matter, since the log that is
         * here is judged anew. */
        quarantine->stage = QUARANTINE_RECOVERING;
        quarantine->incarnation = incarnation;
        damage_fault_set(&quarantine->fault, DAMAGE_STATE, name, 0,
                         "a quarantine of which nothing more is known: its file is damaged");
        err = quarantine_choose(quarantine, disk, folder);
        if (err == OK) err = quarantine_save(quarantine, disk, folder, cluster_id, node_id);
    }
    if (err != OK) (void)snprintf(message, 512, "%s: %s", name, err_name(err));
    return err;
}

enum err quarantine_save(const struct quarantine *quarantine, struct disk *disk, const char *folder,
                         uint64_t cluster_id, uint64_t node_id)
{
    char name[NAME_SIZE];
    struct buf bytes = {0};
    file_name(name, folder);
    quarantine_encode(quarantine, cluster_id, node_id, &bytes);
    const enum err err = disk->replace(disk->context, name, buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}

/* ---- setting aside ---------------------------------------------------------------------------------- */

enum err quarantine_choose(struct quarantine *quarantine, struct disk *disk, const char *folder)
{
    for (uint32_t number = 1; number <= ASIDE_MAX; number++) {
        char name[NAME_SIZE];
        struct buf names = {0};
        aside_name(name, folder, number);
        const enum err err = disk->list(disk->context, name, &names);
        const bool is_free = err == ERR_NOT_FOUND || (err == OK && names.size == 0);
        buf_close(&names);
        if (is_free) {
            quarantine->aside = number;
            return OK;
        }
        if (err != OK) return err;
    }
    return ERR_FULL;
}

enum err quarantine_empty(const struct quarantine *quarantine, struct disk *disk,
                          const char *folder)
{
    char aside[NAME_SIZE];
    struct buf names = {0};
    aside_name(aside, folder, quarantine->aside);
    enum err err = disk->make_folder(disk->context, aside);
    if (err == OK) err = disk->list(disk->context, folder, &names);
    for (uint64_t at = 0; err == OK && at < names.size;) {
        const char *file = (const char *)names.data + at;
        at += strlen(file) + 1;
        if (strcmp(file, "vote") == 0 || strcmp(file, "QUARANTINE") == 0) continue;
        char from[NAME_SIZE];
        char to[NAME_SIZE];
        (void)snprintf(from, sizeof from, "%s/%.100s", folder, file);
        (void)snprintf(to, sizeof to, "%.90s/%.100s", aside, file);
        err = disk->rename(disk->context, from, to);
    }
    buf_close(&names);
    return err;
}

bool quarantine_discard(const struct quarantine *quarantine, struct disk *disk, const char *folder,
                        uint32_t count)
{
    char aside[NAME_SIZE];
    struct buf names = {0};
    aside_name(aside, folder, quarantine->aside);
    if (disk->list(disk->context, aside, &names) != OK) names.size = 0;
    uint64_t at = 0;
    for (; at < names.size && count > 0; count--) {
        char name[NAME_SIZE];
        const char *file = (const char *)names.data + at;
        (void)snprintf(name, sizeof name, "%.90s/%.100s", aside, file);
        /* What cannot be removed stays: it is in nobody's way. */
        if (disk->remove(disk->context, name) != OK) at = names.size;
        if (at < names.size) at += strlen(file) + 1;
    }
    const bool is_done = at >= names.size;
    buf_close(&names);
    return is_done;
}

enum err quarantine_lift(struct quarantine *quarantine, struct disk *disk, const char *folder)
{
    char name[NAME_SIZE];
    file_name(name, folder);
    const enum err err = disk->remove(disk->context, name);
    if (err != OK && err != ERR_NOT_FOUND) return err;
    *quarantine = (struct quarantine){0};
    return OK;
}
