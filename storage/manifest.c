#include "storage/manifest.h"

#include <stdlib.h>

#include "storage/base/limits.h"
#include "storage/base/mem.h"

#define MAGIC UINT64_C(0x3145534142564b46) /* "FKVBASE1" */
#define CHECKSUM_SIZE 8u
#define HEADER_SIZE_V1 80u
#define KIND_SEGMENT 1u
#define KIND_TABLE 2u
#define INDEX_END (UINT64_C(1) << 48) /* A revision has 48 bits for the index (effect.h). */

STATIC_CHECK(MANIFEST_SIZE_MAX + 4096 <= PEER_FRAME_SIZE_MAX, "a manifest fits in a peer frame");

void manifest_close(struct manifest *manifest)
{
    buf_close(&manifest->change);
    mem_free(manifest->files);
    *manifest = (struct manifest){0};
}

void manifest_copy(struct manifest *to, const struct manifest *from)
{
    manifest_close(to);
    *to = *from;
    to->change = (struct buf){0};
    buf_append(&to->change, from->change.data, from->change.size);
    to->files = NULL;
    to->file_capacity = 0;
    if (from->file_count > 0) {
        to->files = mem_copy(from->files, from->file_count * sizeof *from->files);
        to->file_capacity = from->file_count;
    }
}

void manifest_add(struct manifest *manifest, const struct log_file *file)
{
    if (manifest->file_count == manifest->file_capacity) {
        const uint32_t capacity = manifest->file_capacity < 8 ? 8 : 2 * manifest->file_capacity;
        manifest->files = mem_resize(manifest->files, capacity * sizeof *manifest->files);
        manifest->file_capacity = capacity;
    }
    manifest->files[manifest->file_count++] = *file;
}

void manifest_replace(struct manifest *manifest, uint32_t begin, uint32_t count,
                      const struct log_file *table)
{
    CHECK(count > 0);
    CHECK(begin + count < manifest->file_count); /* The last one is never replaced. */
    struct log_file *at = &manifest->files[begin];
    const uint32_t behind = manifest->file_count - begin - count;
    const uint32_t kept = table != NULL ? 1 : 0;
    if (table != NULL) *at = *table;
    memmove(at + kept, at + count, behind * sizeof *at);
    manifest->file_count -= count - kept;
}

uint64_t manifest_files_size(const struct manifest *manifest)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < manifest->file_count; i++) size += manifest->files[i].used;
    return size;
}

const struct log_file *manifest_find(const struct manifest *manifest, uint64_t file_id)
{
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        if (manifest->files[i].file_id == file_id) return &manifest->files[i];
    }
    return NULL;
}

static uint64_t encoded_size(uint64_t header_size, uint64_t file_count, uint64_t change_size)
{
    return header_size + file_count * MANIFEST_FILE_SIZE + align_up(change_size, 8) + CHECKSUM_SIZE;
}

static int id_compare(const void *a, const void *b)
{
    uint64_t x;
    uint64_t y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

bool manifest_unique(const struct manifest *manifest, bool of_ids)
{
    uint64_t *list = mem_alloc(manifest->file_count * sizeof *list);
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        list[i] = of_ids ? manifest->files[i].file_id : manifest->files[i].number;
    }
    qsort(list, manifest->file_count, sizeof *list, id_compare);
    bool unique = true;
    for (uint32_t i = 1; i < manifest->file_count; i++) unique = unique && list[i] != list[i - 1];
    mem_free(list);
    return unique;
}

static const char *file_contradiction(const struct log_file *file)
{
    if (file->number == 0) return "a file has no number";
    if (file->first_index == 0) return "a file begins before the first entry";
    if (file->last_index >= INDEX_END) return "a file ends too far behind";
    if (file->last_index + 1 < file->first_index) return "a file ends before it begins";
    if (file->is_table && file->last_index < file->first_index) return "a table is of no entries";
    if (file->used > UINT32_MAX) return "a file is too long";
    if (file->used < SEGMENT_BLOCK_SIZE) return "a file is shorter than its header";
    if (file->used % SEGMENT_BLOCK_SIZE != 0) return "a file ends inside a block";
    return NULL;
}

/* What must hold between the numbers of a manifest, before encoding and after decoding. NULL: it does. */
static const char *contradiction(const struct manifest *manifest)
{
    if (manifest->base_index < 2) return "the base index is below 2";
    if (manifest->base_index >= INDEX_END) return "the base index is too large";
    if (manifest->base_term == 0) return "the base has no term";
    if (manifest->change_index == 0) return "there is no configuration";
    if (manifest->change_index > manifest->base_index)
        return "the configuration is not in the base";
    if (manifest->file_count == 0) return "there are no files";
    uint64_t last_index = 0;
    uint32_t segment_number = 0;
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct log_file *file = &manifest->files[i];
        const char *wrong = file_contradiction(file);
        if (wrong != NULL) return wrong;
        if (file->first_index <= last_index) return "the files do not follow each other";
        last_index = file->last_index;
        if (file->is_table) continue;
        if (file->number <= segment_number) return "the files are out of order";
        segment_number = file->number;
    }
    if (manifest_last(manifest)->is_table) return "the last file is no segment";
    if (last_index != manifest->base_index) return "the last file does not end at the base index";
    /* Two files of one number would have one hint. */
    if (!manifest_unique(manifest, false)) return "two files have one number";
    return NULL;
}

void manifest_encode(const struct manifest *manifest, struct buf *out)
{
    CHECK(contradiction(manifest) == NULL);
    CHECK(manifest->has_state_hash);
    const uint64_t size = encoded_size(MANIFEST_HEADER_SIZE, manifest->file_count,
                                       manifest->change.size);
    CHECK(size <= MANIFEST_SIZE_MAX);
    const uint64_t start = out->size;
    buf_u64(out, MAGIC);
    buf_u32(out, MANIFEST_VERSION);
    buf_u32(out, (uint32_t)size);
    buf_u64(out, manifest->cluster_id);
    buf_u16(out, manifest->shard);
    buf_u16(out, 0);
    buf_u32(out, manifest->file_count);
    buf_u64(out, manifest->number);
    buf_u64(out, manifest->base_index);
    buf_u64(out, manifest->base_term);
    buf_u64(out, manifest->stamp_ms);
    buf_u64(out, manifest->change_index);
    buf_u32(out, (uint32_t)manifest->change.size);
    buf_u32(out, 0);
    buf_u64(out, manifest->state_hash);
    CHECK(out->size - start == MANIFEST_HEADER_SIZE);
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct log_file *file = &manifest->files[i];
        buf_u32(out, file->number);
        buf_u32(out, file->is_table ? KIND_TABLE : KIND_SEGMENT);
        buf_u64(out, file->file_id);
        buf_u64(out, file->first_index);
        buf_u64(out, file->last_index);
        buf_u64(out, file->used);
        buf_u64(out, file->seed.low);
        buf_u64(out, file->seed.high);
        buf_u64(out, file->chain.low);
        buf_u64(out, file->chain.high);
    }
    buf_append(out, manifest->change.data, manifest->change.size);
    while ((out->size - start) % 8 != 0) buf_u8(out, 0);
    buf_u64(out, hash64(out->data + start, out->size - start));
    CHECK(out->size - start == size);
}

/* False: it is of a kind that there is not. */
static bool decode_file(struct reader *reader, struct manifest *manifest)
{
    struct log_file file = {.number = reader_u32(reader)};
    const uint32_t kind = reader_u32(reader);
    file.is_table = kind == KIND_TABLE;
    file.file_id = reader_u64(reader);
    file.first_index = reader_u64(reader);
    file.last_index = reader_u64(reader);
    file.used = reader_u64(reader);
    file.seed.low = reader_u64(reader);
    file.seed.high = reader_u64(reader);
    file.chain.low = reader_u64(reader);
    file.chain.high = reader_u64(reader);
    manifest_add(manifest, &file);
    if (!manifest->has_state_hash) return kind == 0; /* Version 1 had segments only. */
    return kind == KIND_SEGMENT || kind == KIND_TABLE;
}

/* The caller has verified size and checksum. */
static const char *decode_verified(struct reader *reader, uint32_t version,
                                   struct manifest *manifest)
{
    manifest->cluster_id = reader_u64(reader);
    manifest->shard = reader_u16(reader);
    (void)reader_u16(reader);
    const uint64_t file_count = reader_u32(reader);
    manifest->number = reader_u64(reader);
    manifest->base_index = reader_u64(reader);
    manifest->base_term = reader_u64(reader);
    manifest->stamp_ms = reader_u64(reader);
    manifest->change_index = reader_u64(reader);
    const uint64_t change_size = reader_u32(reader);
    (void)reader_u32(reader);
    const uint64_t rest = (uint64_t)(reader->end - reader->at) + HEADER_SIZE_V1;
    manifest->has_state_hash = version > 1;
    const uint64_t header_size = version > 1 ? MANIFEST_HEADER_SIZE : HEADER_SIZE_V1;
    if (encoded_size(header_size, file_count, change_size) != rest)
        return "its counts do not give its size";
    if (version > 1) manifest->state_hash = reader_u64(reader);
    for (uint64_t i = 0; i < file_count; i++) {
        if (!decode_file(reader, manifest)) return "a file is neither segment nor table";
    }
    const struct slice change = reader_bytes(reader, change_size);
    if (reader->bad) return "it ends early";
    buf_append(&manifest->change, change.data, change.size);
    return contradiction(manifest);
}

enum err manifest_decode(struct slice bytes, struct manifest *manifest, const char **wrong)
{
    CHECK(manifest->files == NULL);
    *wrong = "it is shorter than a manifest";
    if (bytes.size < HEADER_SIZE_V1 + CHECKSUM_SIZE) return ERR_CORRUPT;
    *wrong = "it is longer than a manifest can be";
    if (bytes.size > MANIFEST_SIZE_MAX) return ERR_CORRUPT;
    struct reader reader = reader_of(bytes);
    *wrong = "it does not begin like a manifest";
    if (reader_u64(&reader) != MAGIC) return ERR_CORRUPT;
    /* The checksum comes before the version: a flipped bit must read as damage, not as a newer format. */
    *wrong = "its checksum is wrong";
    const uint64_t covered = bytes.size - CHECKSUM_SIZE;
    if (get_u64(bytes.data + covered) != hash64(bytes.data, covered)) return ERR_CORRUPT;
    *wrong = "its format is newer than this program";
    const uint32_t version = reader_u32(&reader);
    if (version == 0 || version > MANIFEST_VERSION) return ERR_NEWER;
    *wrong = "its size is wrong";
    if (reader_u32(&reader) != bytes.size) return ERR_CORRUPT;

    *wrong = decode_verified(&reader, version, manifest);
    if (*wrong != NULL) {
        manifest_close(manifest);
        return ERR_CORRUPT;
    }
    return OK;
}
