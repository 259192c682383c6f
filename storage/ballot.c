#include "storage/ballot.h"

#include "storage/base/check.h"
#include "storage/base/hash.h"

#define BALLOT_MAGIC UINT64_C(0x313045544f56564b) /* "KVVOTE01" */
#define BALLOT_VERSION 1u
#define CHECKED_SIZE 56u
#define ADVICE ADVICE_DAMAGED

void ballot_encode(const struct ballot *ballot, uint64_t cluster_id, uint64_t node_id,
                   uint8_t *copy)
{
    CHECK(ballot->version > 0);
    memset(copy, 0, BALLOT_COPY_SIZE);
    put_u64(copy, BALLOT_MAGIC);
    put_u32(copy + 8, BALLOT_VERSION);
    put_u64(copy + 16, ballot->version);
    put_u64(copy + 24, ballot->term);
    put_u64(copy + 32, ballot->voted_for);
    put_u64(copy + 40, cluster_id);
    put_u64(copy + 48, node_id);
    put_u64(copy + 56, hash64(copy, CHECKED_SIZE));
}

static enum err copy_decode(const uint8_t *copy, uint64_t cluster_id, uint64_t node_id,
                            struct ballot *ballot)
{
    if (get_u64(copy) != BALLOT_MAGIC) return ERR_CORRUPT;
    if (get_u64(copy + 56) != hash64(copy, CHECKED_SIZE)) return ERR_CORRUPT;
    if (get_u32(copy + 8) != BALLOT_VERSION) return ERR_NEWER;
    if (get_u64(copy + 40) != cluster_id || get_u64(copy + 48) != node_id) return ERR_FOREIGN;
    *ballot = (struct ballot){
        .version = get_u64(copy + 16),
        .term = get_u64(copy + 24),
        .voted_for = get_u64(copy + 32),
    };
    return ballot->version > 0 ? OK : ERR_CORRUPT;
}

static bool is_same(const struct ballot *a, const struct ballot *b)
{
    return a->version == b->version && a->term == b->term && a->voted_for == b->voted_for;
}

enum err ballot_pick(struct slice file, uint64_t cluster_id, uint64_t node_id,
                     struct ballot *ballot, uint32_t *repair)
{
    struct ballot found[BALLOT_COPIES] = {{0}};
    uint32_t good = 0;
    for (uint32_t i = 0; i < BALLOT_COPIES; i++) {
        const uint64_t offset = (uint64_t)i * BALLOT_COPY_SIZE;
        if (file.size < offset + BALLOT_COPY_SIZE) continue;
        const enum err err = copy_decode(file.data + offset, cluster_id, node_id, &found[i]);
        /* A sound copy of somebody else, or of a newer program, is no damage that the other makes
         * up for. */
        if (err == ERR_FOREIGN || err == ERR_NEWER) return err;
        if (err == OK) good++;
    }
    if (good == 0) return ERR_CORRUPT;
    if (good == 2 && found[0].version == found[1].version && !is_same(&found[0], &found[1])) {
        return ERR_CORRUPT;
    }
    const struct ballot *newest = found[1].version > found[0].version ? &found[1] : &found[0];
    const struct ballot *other = newest == &found[0] ? &found[1] : &found[0];
    /* Terms never fall and a vote is never changed within a term. */
    if (good == 2 && other->term > newest->term) return ERR_CORRUPT;
    *ballot = *newest;
    *repair = is_same(newest, other) ? BALLOT_COPIES : (uint32_t)(other - found);
    return OK;
}

static enum err write_copy(struct ballot_file *file, const struct ballot *ballot, uint32_t number)
{
    uint8_t copy[BALLOT_COPY_SIZE];
    ballot_encode(ballot, file->cluster_id, file->node_id, copy);
    return file->disk->write_sync(file->disk->context, file->file,
                                  (uint64_t)number * BALLOT_COPY_SIZE, slice_of(copy, sizeof copy));
}

static enum err refuse(const struct ballot_file *file, enum err err, struct buf *message)
{
    switch (err) {
    case ERR_FOREIGN:
        buf_printf(message, "%s: belongs to another cluster or node: check the data directory",
                   file->name);
        break;
    case ERR_NEWER:
        buf_printf(message, "%s: written by a newer version: start that version", file->name);
        break;
    case ERR_CORRUPT:
        buf_printf(
            message,
            "%s: offset 0: both copies of term and vote are damaged, so this node could vote "
            "twice: " ADVICE,
            file->name);
        break;
    default:
        buf_printf(message, "%s: cannot read or repair term and vote: %s", file->name,
                   err_name(err));
        break;
    }
    return err;
}

static enum err load(struct ballot_file *file, uint32_t *repair)
{
    struct disk *disk = file->disk;
    uint8_t bytes[BALLOT_FILE_SIZE];
    uint64_t size = 0;
    enum err err = disk->size(disk->context, file->file, &size);
    if (err != OK) return err;
    if (size > BALLOT_FILE_SIZE) size = BALLOT_FILE_SIZE;
    /* An unreadable copy is a damaged one: each is read on its own. */
    memset(bytes, 0, sizeof bytes);
    for (uint64_t offset = 0; offset + BALLOT_COPY_SIZE <= size; offset += BALLOT_COPY_SIZE) {
        err = disk->read(disk->context, file->file, offset, bytes + offset, BALLOT_COPY_SIZE);
        if (err != OK) memset(bytes + offset, 0, BALLOT_COPY_SIZE);
    }
    return ballot_pick(slice_of(bytes, size), file->cluster_id, file->node_id, &file->ballot,
                       repair);
}

enum err ballot_open(struct ballot_file *file, struct disk *disk, const char *folder,
                     uint64_t cluster_id, uint64_t node_id, struct buf *message)
{
    const uint64_t folder_size = strlen(folder);
    CHECK(folder_size + 6 < BALLOT_NAME_SIZE);
    *file = (struct ballot_file){
        .disk = disk, .file = -1, .cluster_id = cluster_id, .node_id = node_id};
    memcpy(file->name, folder, folder_size);
    memcpy(file->name + folder_size, "/vote", 6);

    enum err err = disk->open(disk->context, file->name, true, &file->file);
    if (err == ERR_NOT_FOUND) {
        file->file = -1;
        return OK;
    }
    if (err != OK) return refuse(file, err, message);
    uint32_t repair = BALLOT_COPIES;
    err = load(file, &repair);
    if (err == OK && repair < BALLOT_COPIES) err = write_copy(file, &file->ballot, repair);
    if (err != OK) {
        ballot_close(file);
        return refuse(file, err, message);
    }
    return OK;
}

enum err ballot_against_log(const struct ballot_file *file, uint64_t last_term, struct buf *message)
{
    if (file->ballot.term >= last_term) return OK;
    if (file->file < 0) {
        buf_printf(message, "%s: missing, but the log has entries, so this node could vote twice: ",
                   file->name);
    } else {
        buf_printf(message,
                   "%s: offset 0: term %llu is older than term %llu of the log, so this node could "
                   "vote twice: ",
                   file->name, (unsigned long long)file->ballot.term,
                   (unsigned long long)last_term);
    }
    buf_text(message, ADVICE);
    return ERR_CORRUPT;
}

enum err ballot_save(struct ballot_file *file, uint64_t term, uint64_t voted_for)
{
    CHECK(term >= file->ballot.term);
    const struct ballot ballot = {
        .version = file->ballot.version + 1, .term = term, .voted_for = voted_for};
    enum err err;
    if (file->file >= 0) {
        err = write_copy(file, &ballot, 0);
        if (err == OK) err = write_copy(file, &ballot, 1);
    } else {
        /* The first save: the file appears whole or not at all. Its blocks are there from now on,
         * so a vote never meets a full disk. */
        uint8_t bytes[BALLOT_FILE_SIZE];
        ballot_encode(&ballot, file->cluster_id, file->node_id, bytes);
        memcpy(bytes + BALLOT_COPY_SIZE, bytes, BALLOT_COPY_SIZE);
        err = file->disk->create(file->disk->context, file->name, BALLOT_FILE_SIZE,
                                 slice_of(bytes, sizeof bytes), &file->file);
        if (err != OK) file->file = -1;
    }
    if (err == OK) file->ballot = ballot;
    return err;
}

void ballot_close(struct ballot_file *file)
{
    if (file->file >= 0) file->disk->close(file->disk->context, file->file);
    file->file = -1;
}
