#include "storage/backup.h"

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/hint_build.h"
#include "storage/keydir.h"

#define HEADER_MAGIC UINT64_C(0x50554b434142564b)  /* "KVBACKUP" */
#define TRAILER_MAGIC UINT64_C(0x444e45504b42564b) /* "KVBKPEND" */
#define PIECE_MAGIC 0x5042564bu                    /* "KVBP" */
#define CHECKED_SIZE 56u       /* of header and trailer, before their checksum */
#define PIECE_CHECKED_SIZE 24u /* of a piece's header, before its checksum */
#define NONE UINT32_MAX

STATIC_CHECK(CHECKED_SIZE + 8 == BACKUP_HEADER_SIZE, "the checksum ends the header");
STATIC_CHECK(CHECKED_SIZE + 8 == BACKUP_TRAILER_SIZE, "the checksum ends the trailer");
STATIC_CHECK(PIECE_CHECKED_SIZE + 8 == BACKUP_PIECE_HEADER_SIZE, "the checksum ends the header");

/* ---- the view ------------------------------------------------------------------------------------- */

static enum err view_size(void *context, disk_file handle, uint64_t *size)
{
    const struct backup *backup = context;
    if (handle < 0 || (uint32_t)handle >= backup->file_count) return ERR_NOT_FOUND;
    *size = backup->files[handle].size;
    return OK;
}

static enum err view_read(void *context, disk_file handle, uint64_t offset, void *data,
                          uint64_t size)
{
    uint64_t at;
    return backup_read(context, handle, offset, data, size, &at);
}

void backup_init(struct backup *backup, struct disk *disk, disk_file file)
{
    *backup = (struct backup){.disk = disk, .file = file, .cached = NONE};
    backup->view = (struct disk){.context = backup, .size = view_size, .read = view_read};
}

void backup_close(struct backup *backup)
{
    mem_free(backup->pieces);
    mem_free(backup->files);
    buf_close(&backup->cache);
    backup->pieces = NULL;
    backup->files = NULL;
    backup->piece_count = 0;
    backup->file_count = 0;
}

/* ---- pieces ---------------------------------------------------------------------------------------- */

static void piece_header(uint64_t file_id, const struct backup_piece *piece, uint8_t *header)
{
    put_u32(header, PIECE_MAGIC);
    put_u32(header + 4, piece->size);
    put_u64(header + 8, file_id);
    put_u64(header + 16, piece->offset);
    put_u64(header + 24, piece->checksum);
}

static uint64_t piece_checksum(const uint8_t *header, const void *data, uint64_t size)
{
    return hash64_seeded(data, size, hash64(header, PIECE_CHECKED_SIZE));
}

static void *grow(void *list, uint32_t count, uint32_t *capacity, uint64_t size)
{
    if (count < *capacity) return list;
    CHECK(*capacity < UINT32_MAX / 4);
    *capacity = *capacity < 16 ? 16 : 2 * *capacity;
    return mem_resize(list, *capacity * size);
}

/* Takes one more piece into the lists. False: it does not go on with the file before it, and begins none. */
static bool piece_add(struct backup *backup, uint64_t file_id, const struct backup_piece *piece)
{
    struct backup_file *last = NULL;
    if (backup->file_count > 0) last = &backup->files[backup->file_count - 1];
    if (piece->offset == 0) {
        backup->files = grow(backup->files, backup->file_count, &backup->file_capacity,
                             sizeof *backup->files);
        last = &backup->files[backup->file_count++];
        *last = (struct backup_file){.file_id = file_id, .piece_first = backup->piece_count};
    }
    if (last == NULL || last->file_id != file_id || last->size != piece->offset) return false;
    backup->pieces = grow(backup->pieces, backup->piece_count, &backup->piece_capacity,
                          sizeof *backup->pieces);
    backup->pieces[backup->piece_count++] = *piece;
    last->piece_count++;
    last->size += piece->size;
    backup->data_size += piece->size;
    return true;
}

/* Reads and verifies the data of piece @at into the cache. */
static enum err piece_load(struct backup *backup, const struct backup_file *file, uint32_t at)
{
    const struct backup_piece *piece = &backup->pieces[at];
    uint8_t header[BACKUP_PIECE_HEADER_SIZE];
    if (backup->cached == at) return OK;
    backup->cached = NONE;
    backup->cache.size = 0;
    const uint64_t stored = align_up(piece->size, 8);
    uint8_t *data = buf_extend(&backup->cache, stored);
    const enum err err = backup->disk->read(backup->disk->context, backup->file, piece->place, data,
                                            stored);
    if (err != OK) return err;
    piece_header(file->file_id, piece, header);
    if (piece_checksum(header, data, piece->size) != piece->checksum) return ERR_CORRUPT;
    for (uint64_t i = piece->size; i < stored; i++) {
        if (data[i] != 0) return ERR_CORRUPT;
    }
    backup->cached = at;
    return OK;
}

/* The piece of @file that holds @offset, which is in the file. */
static uint32_t piece_find(const struct backup *backup, const struct backup_file *file,
                           uint64_t offset)
{
    uint32_t low = file->piece_first;
    uint32_t high = file->piece_first + file->piece_count;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (backup->pieces[middle].offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

enum err backup_read(struct backup *backup, disk_file handle, uint64_t offset, void *data,
                     uint64_t size, uint64_t *at)
{
    uint8_t *to = data;
    *at = 0;
    if (handle < 0 || (uint32_t)handle >= backup->file_count) return ERR_NOT_FOUND;
    const struct backup_file *file = &backup->files[handle];
    if (offset > file->size || size > file->size - offset) return ERR_CORRUPT;
    while (size > 0) {
        const uint32_t found = piece_find(backup, file, offset);
        const struct backup_piece *piece = &backup->pieces[found];
        *at = piece->place;
        const enum err err = piece_load(backup, file, found);
        if (err != OK) return err;
        const uint64_t skip = offset - piece->offset;
        const uint64_t part = piece->size - skip < size ? piece->size - skip : size;
        memcpy(to, backup->cache.data + skip, part);
        to += part;
        offset += part;
        size -= part;
    }
    return OK;
}

disk_file backup_handle(const struct backup *backup, uint64_t file_id)
{
    for (uint32_t i = backup->file_count; i > 0; i--) {
        if (backup->files[i - 1].file_id == file_id) return (disk_file)(i - 1);
    }
    return -1;
}

uint64_t backup_file_size(const struct backup *backup, uint64_t file_id)
{
    const disk_file handle = backup_handle(backup, file_id);
    return handle < 0 ? 0 : backup->files[handle].size;
}

/* ---- writing --------------------------------------------------------------------------------------- */

void backup_put_header(struct backup *backup, const struct backup_header *header, struct buf *out)
{
    CHECK(backup->size == 0);
    uint8_t *at = buf_extend(out, BACKUP_HEADER_SIZE);
    put_u64(at, HEADER_MAGIC);
    put_u32(at + 8, BACKUP_VERSION);
    put_u32(at + 12, 0);
    put_u64(at + 16, header->backup_id);
    put_u64(at + 24, header->storage_id);
    put_u64(at + 32, header->cluster_id);
    put_u64(at + 40, header->node_id);
    put_u64(at + 48, header->made_ms);
    backup->chain = hash64(at, CHECKED_SIZE);
    put_u64(at + 56, backup->chain);
    backup->header = *header;
    backup->size = BACKUP_HEADER_SIZE;
}

void backup_put_piece(struct backup *backup, uint64_t file_id, uint64_t offset, struct slice data,
                      struct buf *out)
{
    CHECK(backup->size >= BACKUP_HEADER_SIZE);
    CHECK(data.size > 0);
    CHECK(data.size <= BACKUP_PIECE_SIZE_MAX);
    struct backup_piece piece = {.place = backup->size + BACKUP_PIECE_HEADER_SIZE,
                                 .offset = offset,
                                 .size = (uint32_t)data.size};
    uint8_t header[BACKUP_PIECE_HEADER_SIZE];
    piece_header(file_id, &piece, header);
    piece.checksum = piece_checksum(header, data.data, data.size);
    piece_header(file_id, &piece, header);
    backup->chain = hash64_seeded(header, sizeof header, backup->chain);
    const bool is_in_order = piece_add(backup, file_id, &piece);
    CHECK(is_in_order);

    const uint64_t start = out->size;
    buf_append(out, header, sizeof header);
    buf_append(out, data.data, data.size);
    while ((out->size - start) % 8 != 0) buf_u8(out, 0);
    backup->size += out->size - start;
}

void backup_put_end(struct backup *backup, const struct manifest *manifest, struct buf *out)
{
    struct buf bytes = {0};
    manifest_encode(manifest, &bytes);
    for (uint64_t at = 0; at < bytes.size;) {
        const uint64_t left = bytes.size - at;
        const uint64_t size = left < BACKUP_PIECE_SIZE_MAX ? left : BACKUP_PIECE_SIZE_MAX;
        backup_put_piece(backup, BACKUP_MANIFEST, at, slice_of(bytes.data + at, size), out);
        at += size;
    }
    buf_close(&bytes);
    backup->size += BACKUP_TRAILER_SIZE;
    uint8_t *at = buf_extend(out, BACKUP_TRAILER_SIZE);
    put_u64(at, TRAILER_MAGIC);
    put_u64(at + 8, backup->piece_count);
    put_u64(at + 16, backup->data_size);
    put_u64(at + 24, manifest->base_index);
    put_u64(at + 32, manifest->stamp_ms);
    put_u64(at + 40, backup->size);
    put_u64(at + 48, backup->chain);
    put_u64(at + 56, hash64(at, CHECKED_SIZE));
}

/* ---- reading --------------------------------------------------------------------------------------- */

static enum err header_load(struct backup *backup, const char **wrong)
{
    uint8_t bytes[BACKUP_HEADER_SIZE];
    *wrong = "the header cannot be read";
    const enum err err = backup->disk->read(backup->disk->context, backup->file, 0, bytes,
                                            sizeof bytes);
    if (err != OK) return err;
    *wrong = "this is no backup";
    if (get_u64(bytes) != HEADER_MAGIC) return ERR_CORRUPT;
    *wrong = "the header is damaged";
    backup->chain = hash64(bytes, CHECKED_SIZE);
    if (get_u64(bytes + 56) != backup->chain) return ERR_CORRUPT;
    *wrong = "its format is newer than this program";
    if (get_u32(bytes + 8) != BACKUP_VERSION) return ERR_NEWER;
    backup->header = (struct backup_header){
        .backup_id = get_u64(bytes + 16),
        .storage_id = get_u64(bytes + 24),
        .cluster_id = get_u64(bytes + 32),
        .node_id = get_u64(bytes + 40),
        .made_ms = get_u64(bytes + 48),
    };
    return OK;
}

/* The pieces' headers, up to @end. */
static enum err pieces_load(struct backup *backup, uint64_t end, const char **wrong, uint64_t *at)
{
    uint64_t place = BACKUP_HEADER_SIZE;
    while (place < end) {
        uint8_t header[BACKUP_PIECE_HEADER_SIZE];
        *at = place;
        *wrong = "it ends inside the header of a piece";
        if (end - place < sizeof header) return ERR_CORRUPT;
        *wrong = "the header of a piece cannot be read";
        const enum err err = backup->disk->read(backup->disk->context, backup->file, place, header,
                                                sizeof header);
        if (err != OK) return err;
        const uint64_t file_id = get_u64(header + 8);
        const struct backup_piece piece = {.place = place + sizeof header,
                                           .offset = get_u64(header + 16),
                                           .checksum = get_u64(header + 24),
                                           .size = get_u32(header + 4)};
        *wrong = "the header of a piece is damaged";
        if (get_u32(header) != PIECE_MAGIC) return ERR_CORRUPT;
        if (piece.size == 0 || piece.size > BACKUP_PIECE_SIZE_MAX) return ERR_CORRUPT;
        if (align_up(piece.size, 8) > end - piece.place) return ERR_CORRUPT;
        if (!piece_add(backup, file_id, &piece)) return ERR_CORRUPT;
        backup->chain = hash64_seeded(header, sizeof header, backup->chain);
        place = piece.place + align_up(piece.size, 8);
    }
    return OK;
}

enum err backup_load(struct backup *backup, uint64_t size, const char **wrong, uint64_t *at)
{
    uint8_t trailer[BACKUP_TRAILER_SIZE];
    CHECK(backup->size == 0);
    *at = 0;
    *wrong = "it is shorter than any backup";
    if (size < BACKUP_HEADER_SIZE + BACKUP_TRAILER_SIZE) return ERR_CORRUPT;
    enum err err = header_load(backup, wrong);
    if (err != OK) return err;
    const uint64_t end = size - BACKUP_TRAILER_SIZE;
    *at = end;
    *wrong = "the trailer cannot be read";
    err = backup->disk->read(backup->disk->context, backup->file, end, trailer, sizeof trailer);
    if (err != OK) return err;
    *wrong = "it was cut off, or never finished: there is no trailer";
    if (get_u64(trailer) != TRAILER_MAGIC) return ERR_CORRUPT;
    *wrong = "the trailer is damaged";
    if (get_u64(trailer + 56) != hash64(trailer, CHECKED_SIZE)) return ERR_CORRUPT;
    *wrong = "it has not the size that its trailer says";
    if (get_u64(trailer + 40) != size) return ERR_CORRUPT;
    err = pieces_load(backup, end, wrong, at);
    if (err != OK) return err;
    *at = end;
    *wrong = "its pieces are not those that the trailer counts";
    if (get_u64(trailer + 8) != backup->piece_count) return ERR_CORRUPT;
    if (get_u64(trailer + 16) != backup->data_size) return ERR_CORRUPT;
    *wrong = "the header of a piece is damaged";
    if (get_u64(trailer + 48) != backup->chain) return ERR_CORRUPT;
    backup->base_index = get_u64(trailer + 24);
    backup->stamp_ms = get_u64(trailer + 32);
    backup->size = size;
    return OK;
}

enum err backup_manifest(struct backup *backup, struct manifest *manifest, const char **wrong,
                         uint64_t *at)
{
    struct buf bytes = {0};
    const disk_file handle = backup_handle(backup, BACKUP_MANIFEST);
    *at = 0;
    *wrong = "it holds no manifest";
    if (handle < 0) return ERR_CORRUPT;
    const uint64_t size = backup->files[handle].size;
    *wrong = "its manifest is too large";
    if (size > MANIFEST_SIZE_MAX) return ERR_CORRUPT;
    *wrong = "its manifest is damaged";
    enum err err = backup_read(backup, handle, 0, buf_extend(&bytes, size), size, at);
    if (err == OK) err = manifest_decode(buf_slice(&bytes), manifest, wrong);
    buf_close(&bytes);
    if (err != OK) return err;
    *wrong = "its manifest is of a version that no backup has";
    if (!manifest->has_state_hash) err = ERR_CORRUPT;
    if (err == OK) *wrong = "its manifest is not the one that header and trailer speak of";
    if (manifest->cluster_id != backup->header.storage_id) err = ERR_CORRUPT;
    if (manifest->base_index != backup->base_index) err = ERR_CORRUPT;
    if (manifest->stamp_ms != backup->stamp_ms) err = ERR_CORRUPT;
    if (err != OK) manifest_close(manifest);
    return err;
}

/* Verifies file @at of the manifest and gives its hint. */
static enum err file_hint(struct backup *backup, const struct manifest *manifest, uint32_t at,
                          struct hint *hint, const char **wrong, uint64_t *offset)
{
    const struct log_file *file = &manifest->files[at];
    const struct hint_source source = {
        .disk = &backup->view,
        .handle = backup_handle(backup, file->file_id),
        .cluster_id = manifest->cluster_id,
        .shard = manifest->shard,
        .file = file,
    };
    *offset = 0;
    *wrong = "a file that the manifest names is not in it";
    if (source.handle < 0) return ERR_CORRUPT;
    *wrong = "a file is shorter or longer than the manifest says";
    if (backup_file_size(backup, file->file_id) != file->used) return ERR_CORRUPT;
    return hint_build(hint, &source, wrong, offset);
}

enum err backup_verify_file(struct backup *backup, const struct manifest *manifest, uint32_t at,
                            const char **wrong, uint64_t *offset)
{
    struct hint hint;
    const enum err err = file_hint(backup, manifest, at, &hint, wrong, offset);
    if (err == OK) hint_close(&hint);
    return err;
}

/* Every piece that the manifest does not need: nothing in a backup may be damaged unnoticed. */
static enum err rest_verify(struct backup *backup, const struct manifest *manifest, uint64_t *at)
{
    for (uint32_t i = 0; i < backup->file_count; i++) {
        const struct backup_file *file = &backup->files[i];
        const bool counts = backup_handle(backup, file->file_id) == (disk_file)i;
        if (counts && manifest_find(manifest, file->file_id) != NULL) continue;
        for (uint32_t piece = 0; piece < file->piece_count; piece++) {
            const uint32_t found = file->piece_first + piece;
            *at = backup->pieces[found].place;
            const enum err err = piece_load(backup, file, found);
            if (err != OK) return err;
        }
    }
    return OK;
}

/* What the effects of a file do to the keys, in their order. */
static enum err keys_apply(struct keydir *keys, uint32_t number, const struct hint *hint)
{
    struct hint_reader reader;
    struct hint_entry entry;
    enum err err;
    hint_reader_memory(&reader, hint);
    while ((err = hint_reader_next(&reader, &entry)) == OK) {
        const struct place place = {.file = number, .offset = entry.offset};
        const struct slice value = slice_of(entry.value.data, entry.value_size);
        const uint32_t flags = (entry.flags & EFFECT_FLAG_LZ4) != 0 ? KEYDIR_COMPRESSED : 0;
        switch (entry.kind) {
        case EFFECT_PUT:
            keydir_put(keys, entry.key, value, flags, entry.revision, entry.expiry_ms, place, NULL);
            break;
        case EFFECT_DELETE:
            (void)keydir_remove(keys, entry.key, NULL);
            break; /* or was not there */
        case EFFECT_EXPIRE_AT:
            (void)keydir_expire(keys, entry.key, entry.revision, entry.expiry_ms);
            break;
        default: /* A flush: a hint has no other kinds. */
            keydir_clear(keys);
            (void)keydir_bury(keys, UINT32_MAX);
            break;
        }
    }
    hint_reader_close(&reader);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Files one after the other: what each did to the keys. */
static enum err keys_verify(struct backup *backup, const struct manifest *manifest,
                            struct keydir *keys, const char **wrong, uint64_t *file,
                            uint64_t *offset)
{
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        struct hint hint;
        *file = manifest->files[i].file_id;
        enum err err = file_hint(backup, manifest, i, &hint, wrong, offset);
        if (err != OK) return err;
        *wrong = "its effects cannot be carried out";
        err = keys_apply(keys, manifest->files[i].number, &hint);
        hint_close(&hint);
        if (err != OK) return err;
    }
    *file = 0;
    *offset = 0;
    *wrong = "the keys in its files are not those that its manifest vouches for";
    if (manifest->state_hash != keydir_hash(keys)) return ERR_CORRUPT;
    return OK;
}

enum err backup_verify(struct backup *backup, struct backup_facts *facts, const char **wrong,
                       uint64_t *file, uint64_t *offset)
{
    struct manifest manifest = {0};
    *file = 0;
    enum err err = backup_manifest(backup, &manifest, wrong, offset);
    if (err != OK) return err;
    struct keydir *keys = keydir_create(manifest.cluster_id);
    keydir_bulk_begin(keys); /* Nothing is looked at in order. */
    err = keys_verify(backup, &manifest, keys, wrong, file, offset);
    if (err == OK) {
        *file = 0;
        *wrong = "a piece is damaged";
        err = rest_verify(backup, &manifest, offset);
    }
    *facts = (struct backup_facts){
        .index = manifest.base_index,
        .revision = revision_of(manifest.base_index, UINT16_MAX),
        .stamp_ms = manifest.stamp_ms,
        .keys = keydir_count(keys),
        .files_size = manifest_files_size(&manifest),
        .files = manifest.file_count,
    };
    keydir_destroy(keys);
    manifest_close(&manifest);
    return err;
}
