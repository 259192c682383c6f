/* kvctl dump of hints, manifests, votes, identities, peers, quarantines and backups. */
#include "client/ctl_dump.h"

#include <stdio.h>

#include "client/ctl.h"
#include "node/identity.h"
#include "storage/backup.h"
#include "storage/ballot.h"
#include "storage/base/hash.h"
#include "storage/effect.h"
#include "storage/expected.h"
#include "storage/hint.h"
#include "storage/manifest.h"
#include "storage/quarantine.h"

#define SMALL_SIZE_MAX (64u * KIB)
#define CHECKSUM_SIZE 8u
#define BALLOT_CHECKED_SIZE 56u /* of a copy, before its checksum */
#define VOTE_MAGIC UINT64_C(0x313045544f56564b)

/* ---- hints ----------------------------------------------------------------------------------- */

/* What the header says the hint belongs to. */
static void hint_owner(const uint8_t *header, struct hint_segment *segment)
{
    *segment = (struct hint_segment){
        .cluster_id = get_u64(header + 24),
        .file_id = get_u64(header + 32),
        .used_size = get_u64(header + 40),
        .chain_end = {.low = get_u64(header + 48), .high = get_u64(header + 56)},
    };
}

/* Behind a damaged chunk: where its size, if it can be one, says that the next begins. */
static bool skip_chunk(struct hint_reader *reader, struct slice bytes)
{
    reader->chunk_count = 0;
    const uint64_t rest = bytes.size - reader->offset;
    if (rest < 16) return false;
    const uint64_t size = get_u32(bytes.data + reader->offset + 8);
    if (size < 16 || size > rest) return false;
    reader->offset += size;
    return true;
}

static void put_entries(struct ctl_dump *dump, struct hint_reader *reader, struct slice bytes)
{
    uint64_t entries = 0;
    while (reader->chunk_count > 0 || reader->offset < bytes.size) {
        struct hint_entry entry;
        const bool is_new = reader->chunk_count == 0;
        const uint64_t chunk = reader->offset;
        const enum err err = hint_reader_next(reader, &entry);
        if (err == OK) {
            if (is_new) {
                ctl_dump_begin(dump, 0, chunk, "chunk");
                ctl_dump_number(dump, "bytes", reader->offset - chunk);
                ctl_dump_number(dump, "entries", (uint64_t)reader->chunk_count + 1);
                ctl_dump_end(dump);
            }
            entries++;
            ctl_dump_change(dump, &(struct ctl_dump_change){.offset = entry.offset,
                                                            .kind = entry.kind,
                                                            .flags = entry.flags,
                                                            .revision = entry.revision,
                                                            .expiry_ms = entry.expiry_ms,
                                                            .value_size = entry.value_size,
                                                            .key = entry.key,
                                                            .value = entry.value.size > 0
                                                                         ? entry.value
                                                                         : (struct slice){0}});
            continue;
        }
        /* Either the chunk was not taken, or an entry in it is none: then the next chunk is known. */
        ctl_dump_damage(dump, chunk, 0,
                        is_new ? "this chunk is damaged" : "an entry before here is damaged");
        reader->chunk_count = 0;
        if (reader->offset == chunk && is_new && !skip_chunk(reader, bytes)) {
            ctl_dump_damage(dump, chunk, bytes.size - chunk,
                            "where the next chunk begins is not known");
            break;
        }
    }
    ctl_dump_begin(dump, 0, bytes.size, "end");
    ctl_dump_number(dump, "entries", entries);
    ctl_dump_number(dump, "damaged", dump->bad_count);
    ctl_dump_end(dump);
}

void ctl_dump_hint(struct ctl_dump *dump)
{
    struct buf bytes = {0};
    struct hint_reader reader;
    struct hint_segment segment;
    if (dump->size < HINT_HEADER_SIZE) {
        ctl_dump_damage(dump, 0, dump->size, "shorter than the header of a hint");
        return;
    }
    /* Its file is below 4 GiB, and so is a hint of it, which is read as a whole. */
    if (dump->size > UINT32_MAX) {
        ctl_dump_damage(dump, 0, dump->size, "it has a size that it cannot have");
        return;
    }
    ctl_dump_read(dump, 0, buf_extend(&bytes, dump->size), dump->size);
    hint_owner(bytes.data, &segment);
    const uint64_t count = get_u64(bytes.data + 64);
    enum err err = hint_reader_begin(&reader, &segment, dump->size, buf_slice(&bytes));
    if (err != OK && get_u64(bytes.data) == hash64(bytes.data + 8, HINT_HEADER_SIZE - 8) &&
        get_u64(bytes.data + 72) != dump->size) {
        ctl_dump_damage(dump, 72, 0, "it has not the size that its header says");
        reader.entry_count = count;
        err = OK;
    }
    if (err != OK) {
        ctl_dump_damage(dump, 0, HINT_HEADER_SIZE,
                        err == ERR_NEWER ? "the format is not that of this program"
                                         : "the header is damaged, without which chunks cannot be "
                                           "told");
        hint_reader_close(&reader);
        buf_close(&bytes);
        return;
    }
    ctl_dump_begin(dump, 0, 0, "hint");
    ctl_dump_hex(dump, "file_id", segment.file_id);
    ctl_dump_hex(dump, "cluster", segment.cluster_id);
    ctl_dump_number(dump, "used", segment.used_size);
    ctl_dump_hex(dump, "chain", segment.chain_end.low);
    ctl_dump_number(dump, "entries", count);
    ctl_dump_end(dump);
    put_entries(dump, &reader, buf_slice(&bytes));
    hint_reader_close(&reader);
    buf_close(&bytes);
}

/* ---- files with one checksum at the end -------------------------------------------------------- */

/* Reads a file as a whole. When its checksum is wrong that is said, and a right one is put there, so that what can be
 * read is shown. False: it is too short or too long. */
static bool read_small(struct ctl_dump *dump, uint64_t size_min, uint64_t size_max,
                       struct buf *bytes)
{
    if (dump->size < size_min || dump->size > size_max) {
        ctl_dump_damage(dump, 0, dump->size, "it has a size that it cannot have");
        return false;
    }
    ctl_dump_read(dump, 0, buf_extend(bytes, dump->size), dump->size);
    const uint64_t covered = dump->size - CHECKSUM_SIZE;
    if (get_u64(bytes->data + covered) == hash64(bytes->data, covered)) return true;
    ctl_dump_damage(dump, 0, dump->size, "its checksum is wrong: what follows need not be true");
    put_u64(bytes->data + covered, hash64(bytes->data, covered));
    return true;
}

static void put_manifest(struct ctl_dump *dump, const struct manifest *manifest)
{
    ctl_dump_begin(dump, 0, 0, "manifest");
    ctl_dump_number(dump, "number", manifest->number);
    ctl_dump_hex(dump, "cluster", manifest->cluster_id);
    ctl_dump_number(dump, "shard", manifest->shard);
    ctl_dump_number(dump, "base_index", manifest->base_index);
    ctl_dump_number(dump, "base_term", manifest->base_term);
    ctl_dump_time(dump, "stamp", manifest->stamp_ms);
    ctl_dump_number(dump, "change_index", manifest->change_index);
    if (manifest->has_state_hash) ctl_dump_hex(dump, "state_hash", manifest->state_hash);
    ctl_dump_number(dump, "files", manifest->file_count);
    ctl_dump_number(dump, "bytes", manifest_files_size(manifest));
    ctl_dump_end(dump);
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct log_file *file = &manifest->files[i];
        ctl_dump_begin(dump, 1, MANIFEST_HEADER_SIZE + (uint64_t)i * MANIFEST_FILE_SIZE,
                       file->is_table ? "table" : "segment");
        ctl_dump_number(dump, "number", file->number);
        ctl_dump_hex(dump, "file_id", file->file_id);
        ctl_dump_number(dump, "first_index", file->first_index);
        ctl_dump_number(dump, "last_index", file->last_index);
        ctl_dump_number(dump, "used", file->used);
        ctl_dump_hex(dump, "seed", file->seed.low);
        ctl_dump_hex(dump, "chain", file->chain.low);
        ctl_dump_end(dump);
    }
    ctl_dump_members(dump,
                     MANIFEST_HEADER_SIZE + (uint64_t)manifest->file_count * MANIFEST_FILE_SIZE,
                     buf_slice(&manifest->change));
}

void ctl_dump_manifest(struct ctl_dump *dump)
{
    struct buf bytes = {0};
    struct manifest manifest = {0};
    const char *wrong = NULL;
    if (read_small(dump, MANIFEST_HEADER_SIZE, MANIFEST_SIZE_MAX, &bytes)) {
        if (manifest_decode(buf_slice(&bytes), &manifest, &wrong) == OK) {
            put_manifest(dump, &manifest);
            manifest_close(&manifest);
        } else {
            ctl_dump_damage(dump, 0, 0, wrong);
        }
    }
    buf_close(&bytes);
}

static void put_members(struct ctl_dump *dump, const struct identity *identity)
{
    ctl_dump_begin(dump, 0, 0, "identity");
    ctl_dump_bytes(dump, "name", slice_text(identity->name), NAME_SIZE_MAX);
    ctl_dump_hex(dump, "cluster", identity->cluster_id);
    ctl_dump_hex(dump, "storage", identity->storage_id);
    ctl_dump_hex(dump, "node", identity->node_id);
    ctl_dump_hex(dump, "directory", identity->directory_id);
    ctl_dump_number(dump, "incarnation", identity->incarnation);
    ctl_dump_hex(dump, "start", identity->start_id);
    ctl_dump_number(dump, "accepted", identity->is_accepted ? 1 : 0);
    ctl_dump_number(dump, "begun", identity->is_begun ? 1 : 0);
    if (identity->is_unfinished) ctl_dump_text(dump, "state", "recovery-unfinished");
    if (identity->is_outdated) ctl_dump_text(dump, "state", "outdated");
    ctl_dump_end(dump);
    for (uint32_t i = 0; i < identity->past_count; i++) {
        ctl_dump_begin(dump, 1, 0, "start");
        ctl_dump_number(dump, "incarnation", identity->incarnation - 1 - i);
        ctl_dump_hex(dump, "id", identity->past[i]);
        ctl_dump_end(dump);
    }
    for (uint32_t i = 0; i < identity->member_count; i++) {
        const struct identity_member *member = &identity->members[i];
        ctl_dump_begin(dump, 1, 0, "member");
        ctl_dump_hex(dump, "id", member->id);
        ctl_dump_bytes(dump, "name", slice_text(member->name), NAME_SIZE_MAX);
        ctl_dump_bytes(dump, "address", slice_text(member->address), ADDRESS_SIZE_MAX);
        ctl_dump_end(dump);
    }
}

void ctl_dump_identity(struct ctl_dump *dump)
{
    struct buf bytes = {0};
    struct identity identity;
    if (read_small(dump, 24, SMALL_SIZE_MAX, &bytes)) {
        const enum err err = identity_decode(buf_slice(&bytes), &identity);
        if (err == OK) {
            put_members(dump, &identity);
        } else {
            ctl_dump_damage(dump, 0, 0,
                            err == ERR_NEWER ? "the format is newer than this program"
                                             : "its fields contradict each other");
        }
    }
    buf_close(&bytes);
}

void ctl_dump_peers(struct ctl_dump *dump)
{
    struct buf bytes = {0};
    struct peer_identity row = {0};
    enum err err = ERR_NOT_FOUND;
    if (read_small(dump, 24, SMALL_SIZE_MAX, &bytes)) {
        for (uint32_t i = 0; (err = identity_decode_peer(buf_slice(&bytes), i, &row)) == OK; i++) {
            const uint64_t row_size = get_u32(bytes.data + 8) == 1 ? 24 : 32;
            ctl_dump_begin(dump, 0, 16 + i * row_size, "peer");
            ctl_dump_hex(dump, "node", row.node_id);
            ctl_dump_hex(dump, "directory", row.directory_id);
            ctl_dump_number(dump, "incarnation", row.incarnation);
            ctl_dump_hex(dump, "start", row.start_id);
            ctl_dump_end(dump);
        }
    }
    if (err != ERR_NOT_FOUND) {
        ctl_dump_damage(dump, 0, 0,
                        err == ERR_NEWER ? "the format is newer than this program"
                                         : "its fields contradict each other");
    }
    buf_close(&bytes);
}

void ctl_dump_quarantine(struct ctl_dump *dump)
{
    struct buf bytes = {0};
    struct quarantine quarantine = {0};
    if (read_small(dump, 72, QUARANTINE_FILE_MAX, &bytes)) {
        const uint64_t cluster_id = get_u64(bytes.data + 16);
        const uint64_t node_id = get_u64(bytes.data + 24);
        const enum err err = quarantine_decode(buf_slice(&bytes), cluster_id, node_id, &quarantine);
        if (err == OK) {
            ctl_dump_begin(dump, 0, 0, "quarantine");
            ctl_dump_hex(dump, "cluster", cluster_id);
            ctl_dump_hex(dump, "node", node_id);
            ctl_dump_number(dump, "incarnation", quarantine.incarnation);
            ctl_dump_time(dump, "since", quarantine.since_ms);
            ctl_dump_text(dump, "stage",
                          quarantine.stage == QUARANTINE_EMPTYING ? "emptying" : "recovering");
            ctl_dump_number(dump, "aside", quarantine.aside);
            ctl_dump_bytes(dump, "damaged", slice_text(quarantine.fault.file), DAMAGE_NAME_SIZE);
            ctl_dump_number(dump, "at", quarantine.fault.offset);
            ctl_dump_bytes(dump, "what", slice_text(quarantine.fault.what), DAMAGE_WHAT_SIZE);
            ctl_dump_end(dump);
        } else {
            ctl_dump_damage(dump, 0, 0,
                            err == ERR_NEWER ? "the format is newer than this program"
                                             : "its fields contradict each other");
        }
    }
    buf_close(&bytes);
}

/* ---- votes ----------------------------------------------------------------------------------- */

/* One of two copies, of which @checked bytes come before the checksum. False: it is not there. */
static bool read_copy(struct ctl_dump *dump, uint64_t offset, uint8_t *copy, uint64_t checked,
                      uint64_t magic)
{
    if (dump->size < offset + checked + CHECKSUM_SIZE) {
        ctl_dump_damage(dump, offset, 0, "this copy is missing");
        return false;
    }
    ctl_dump_read(dump, offset, copy, checked + CHECKSUM_SIZE);
    if (get_u64(copy) != magic || get_u64(copy + checked) != hash64(copy, checked)) {
        ctl_dump_damage(dump, offset, checked + CHECKSUM_SIZE,
                        "this copy is damaged: what follows need not be true");
    }
    return true;
}

void ctl_dump_vote(struct ctl_dump *dump)
{
    for (uint32_t i = 0; i < BALLOT_COPIES; i++) {
        const uint64_t offset = (uint64_t)i * BALLOT_COPY_SIZE;
        uint8_t copy[BALLOT_CHECKED_SIZE + CHECKSUM_SIZE];
        if (!read_copy(dump, offset, copy, BALLOT_CHECKED_SIZE, VOTE_MAGIC)) continue;
        ctl_dump_begin(dump, 0, offset, "vote");
        ctl_dump_number(dump, "save", get_u64(copy + 16));
        ctl_dump_number(dump, "term", get_u64(copy + 24));
        ctl_dump_hex(dump, "voted_for", get_u64(copy + 32));
        ctl_dump_hex(dump, "cluster", get_u64(copy + 40));
        ctl_dump_hex(dump, "node", get_u64(copy + 48));
        ctl_dump_end(dump);
    }
}

void ctl_dump_expected(struct ctl_dump *dump)
{
    for (uint32_t i = 0; i < EXPECTED_COPIES; i++) {
        const uint64_t offset = (uint64_t)i * EXPECTED_COPY_SIZE;
        uint8_t copy[EXPECTED_CHECKED_SIZE + CHECKSUM_SIZE];
        if (!read_copy(dump, offset, copy, EXPECTED_CHECKED_SIZE, EXPECTED_MAGIC)) continue;
        ctl_dump_begin(dump, 0, offset, "expected");
        ctl_dump_number(dump, "save", get_u64(copy + 16));
        ctl_dump_hex(dump, "cluster", get_u64(copy + 24));
        ctl_dump_hex(dump, "node", get_u64(copy + 32));
        ctl_dump_number(dump, "newest", get_u32(copy + 40));
        ctl_dump_hex(dump, "newest_id", get_u64(copy + 48));
        ctl_dump_number(dump, "spare", get_u32(copy + 56));
        ctl_dump_hex(dump, "spare_id", get_u64(copy + 64));
        ctl_dump_end(dump);
    }
}

/* ---- backups --------------------------------------------------------------------------------- */

void ctl_dump_backup(struct ctl_dump *dump)
{
    struct backup backup;
    struct manifest manifest = {0};
    const char *wrong = NULL;
    uint64_t at = 0;
    backup_init(&backup, dump->disk, dump->file);
    const enum err err = backup_load(&backup, dump->size, &wrong, &at);
    if (err != OK) ctl_dump_damage(dump, at, 0, wrong);
    ctl_dump_begin(dump, 0, 0, "backup");
    ctl_dump_hex(dump, "id", backup.header.backup_id);
    ctl_dump_hex(dump, "cluster", backup.header.cluster_id);
    ctl_dump_hex(dump, "storage", backup.header.storage_id);
    ctl_dump_hex(dump, "node", backup.header.node_id);
    ctl_dump_time(dump, "made", backup.header.made_ms);
    ctl_dump_number(dump, "index", backup.base_index);
    ctl_dump_number(dump, "pieces", backup.piece_count);
    ctl_dump_number(dump, "bytes", backup.data_size);
    ctl_dump_end(dump);
    for (uint32_t i = 0; i < backup.file_count; i++) {
        const struct backup_file *file = &backup.files[i];
        const struct backup_piece *first = &backup.pieces[file->piece_first];
        ctl_dump_begin(dump, 0, first->place,
                       file->file_id == BACKUP_MANIFEST ? "manifest" : "file");
        ctl_dump_hex(dump, "file_id", file->file_id);
        ctl_dump_number(dump, "bytes", file->size);
        ctl_dump_number(dump, "pieces", file->piece_count);
        ctl_dump_end(dump);
    }
    if (err == OK) {
        if (backup_manifest(&backup, &manifest, &wrong, &at) == OK) {
            put_manifest(dump, &manifest);
            manifest_close(&manifest);
        } else {
            ctl_dump_damage(dump, at, 0, wrong);
        }
    }
    backup_close(&backup);
}
