#include "storage/hint.h"

#include <stdio.h>

#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/effect.h"

#define MAGIC UINT64_C(0x31544e4948564b46) /* "FKVHINT1" */
#define VERSION 1u
#define CHUNK_HEADER_SIZE 16u
#define ENTRY_HEADER_SIZE 32u
#define ENTRY_SIZE_MAX (ENTRY_HEADER_SIZE + KEY_SIZE_MAX + VALUE_INLINE_MAX)
#define CHUNK_SIZE_MAX (CHUNK_HEADER_SIZE + HINT_CHUNK_SIZE + ENTRY_SIZE_MAX)
STATIC_CHECK(CHUNK_SIZE_MAX <= HINT_PIECE_SIZE, "a chunk fits in a piece");

/* A chunk that a disk delivers from another place or another file fails its checksum. */
static uint64_t chunk_hash(uint64_t file_id, uint64_t offset, const uint8_t *chunk, uint64_t size)
{
    return hash64_seeded(chunk + 8, size - 8, file_id ^ offset << 32 ^ offset);
}

/* As in the keydir: a packed value is never inline. */
static bool value_inline(const struct hint_entry *entry)
{
    return entry->kind == EFFECT_PUT && entry->value_size <= VALUE_INLINE_MAX &&
           (entry->flags & EFFECT_FLAG_LZ4) == 0;
}

void hint_name(char name[HINT_NAME_SIZE], const char *folder, uint32_t number)
{
    (void)snprintf(name, HINT_NAME_SIZE, "%s/%08u.idx", folder, number);
}

uint32_t hint_number(const char *name)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < 8; i++) {
        if (name[i] < '0' || name[i] > '9') return 0;
        number = 10 * number + (uint64_t)(name[i] - '0');
    }
    return strcmp(name + 8, ".idx") == 0 ? (uint32_t)number : 0;
}

void hint_init(struct hint *hint, uint64_t file_id)
{
    *hint = (struct hint){.file_id = file_id, .chunk_start = HINT_HEADER_SIZE};
    memset(buf_extend(&hint->bytes, HINT_HEADER_SIZE), 0, HINT_HEADER_SIZE);
}

void hint_close(struct hint *hint)
{
    buf_close(&hint->bytes);
    *hint = (struct hint){0};
}

void hint_expect(struct hint *hint, uint64_t source_size)
{
    hint->source_size = source_size;
}

/* Of each effect a hint holds at most as many bytes as the file does, so the largest has some for its chunks beside. */
static void chunk_begin(struct hint *hint)
{
    const uint64_t chunks = hint->source_size / HINT_CHUNK_SIZE + 1;
    const uint64_t most = HINT_HEADER_SIZE + hint->source_size + chunks * CHUNK_HEADER_SIZE;
    const bool is_large = hint->bytes.size >= HINT_LARGE_SIZE;
    if (is_large && hint->bytes.capacity < most) {
        (void)buf_reserve_exact(&hint->bytes, most - hint->bytes.size);
    }
    (void)buf_extend(&hint->bytes, CHUNK_HEADER_SIZE);
}

static void chunk_seal(struct hint *hint)
{
    if (hint->chunk_count == 0) return;
    uint8_t *chunk = hint->bytes.data + hint->chunk_start;
    const uint64_t size = hint->bytes.size - hint->chunk_start;
    CHECK(size <= CHUNK_SIZE_MAX);
    put_u32(chunk + 8, (uint32_t)size);
    put_u32(chunk + 12, hint->chunk_count);
    put_u64(chunk, chunk_hash(hint->file_id, hint->chunk_start, chunk, size));
    hint->chunk_start = hint->bytes.size;
    hint->chunk_count = 0;
}

void hint_add(struct hint *hint, const struct hint_entry *entry)
{
    CHECK(entry->key.size <= KEY_SIZE_MAX);
    if (hint->chunk_count == 0) chunk_begin(hint);
    uint8_t *at = buf_extend(&hint->bytes, ENTRY_HEADER_SIZE);
    at[0] = entry->kind;
    at[1] = entry->flags;
    put_u16(at + 2, 0);
    put_u32(at + 4, (uint32_t)entry->key.size);
    put_u32(at + 8, entry->value_size);
    put_u32(at + 12, entry->offset);
    put_u64(at + 16, entry->revision);
    put_u64(at + 24, entry->expiry_ms);
    buf_append(&hint->bytes, entry->key.data, entry->key.size);
    if (value_inline(entry)) {
        CHECK(entry->value.size == entry->value_size);
        buf_append(&hint->bytes, entry->value.data, entry->value.size);
    }
    hint->chunk_count++;
    hint->entry_count++;
    if (hint->bytes.size - hint->chunk_start >= HINT_CHUNK_SIZE) chunk_seal(hint);
}

struct hint_mark hint_mark(const struct hint *hint)
{
    return (struct hint_mark){
        .size = hint->bytes.size,
        .chunk_start = hint->chunk_start,
        .entry_count = hint->entry_count,
        .chunk_count = hint->chunk_count,
    };
}

void hint_rollback(struct hint *hint, const struct hint_mark *mark)
{
    CHECK(mark->size <= hint->bytes.size);
    CHECK(mark->chunk_start <= mark->size);
    hint->bytes.size = mark->size;
    hint->chunk_start = mark->chunk_start; /* A chunk that was sealed since is open again. */
    hint->entry_count = mark->entry_count;
    hint->chunk_count = mark->chunk_count;
}

struct slice hint_finish(struct hint *hint, const struct hint_segment *segment)
{
    CHECK(hint->file_id == segment->file_id);
    chunk_seal(hint);
    uint8_t *at = hint->bytes.data;
    put_u64(at + 8, MAGIC);
    put_u32(at + 16, VERSION);
    put_u32(at + 20, VALUE_INLINE_MAX);
    put_u64(at + 24, segment->cluster_id);
    put_u64(at + 32, segment->file_id);
    put_u64(at + 40, segment->used_size);
    put_u64(at + 48, segment->chain_end.low);
    put_u64(at + 56, segment->chain_end.high);
    put_u64(at + 64, hint->entry_count);
    put_u64(at + 72, hint->bytes.size);
    put_u64(at, hash64(at + 8, HINT_HEADER_SIZE - 8));
    return buf_slice(&hint->bytes);
}

static enum err header_check(struct hint_reader *reader, const uint8_t *at,
                             const struct hint_segment *segment)
{
    if (get_u64(at) != hash64(at + 8, HINT_HEADER_SIZE - 8)) return ERR_CORRUPT;
    if (get_u64(at + 8) != MAGIC) return ERR_CORRUPT;
    if (get_u32(at + 16) != VERSION) return ERR_NEWER;
    if (get_u32(at + 20) != VALUE_INLINE_MAX) return ERR_NEWER;
    if (get_u64(at + 24) != segment->cluster_id) return ERR_FOREIGN;
    if (get_u64(at + 32) != segment->file_id) return ERR_FOREIGN;
    if (get_u64(at + 40) != segment->used_size) return ERR_FOREIGN;
    const struct hash128 end = {.low = get_u64(at + 48), .high = get_u64(at + 56)};
    if (!hash128_equal(end, segment->chain_end)) return ERR_FOREIGN;
    if (get_u64(at + 72) != reader->file_size) return ERR_CORRUPT;
    reader->entry_count = get_u64(at + 64);
    return OK;
}

static enum err header_read(struct hint_reader *reader, const struct hint_segment *segment)
{
    uint8_t at[HINT_HEADER_SIZE];
    enum err err = reader->disk->size(reader->disk->context, reader->file, &reader->file_size);
    if (err != OK) return err;
    err = reader->disk->read(reader->disk->context, reader->file, 0, at, sizeof at);
    if (err != OK) return err;
    return header_check(reader, at, segment);
}

enum err hint_reader_open(struct hint_reader *reader, struct disk *disk, const char *name,
                          const struct hint_segment *segment)
{
    *reader = (struct hint_reader){
        .disk = disk,
        .file = -1,
        .file_id = segment->file_id,
        .offset = HINT_HEADER_SIZE,
    };
    enum err err = disk->open(disk->context, name, false, &reader->file);
    if (err != OK) return err;
    err = header_read(reader, segment);
    if (err != OK) hint_reader_close(reader);
    return err;
}

void hint_reader_memory(struct hint_reader *reader, const struct hint *hint)
{
    CHECK(hint->chunk_count == 0);
    *reader = (struct hint_reader){
        .memory = buf_slice(&hint->bytes),
        .file = -1,
        .file_id = hint->file_id,
        .file_size = hint->bytes.size,
        .offset = HINT_HEADER_SIZE,
        .entry_count = hint->entry_count,
    };
}

enum err hint_reader_begin(struct hint_reader *reader, const struct hint_segment *segment,
                           uint64_t file_size, struct slice piece)
{
    *reader = (struct hint_reader){
        .memory = piece,
        .file = -1,
        .file_id = segment->file_id,
        .file_size = file_size,
        .offset = HINT_HEADER_SIZE,
    };
    if (piece.size < HINT_HEADER_SIZE) return ERR_CORRUPT;
    return header_check(reader, piece.data, segment);
}

void hint_reader_feed(struct hint_reader *reader, struct slice piece)
{
    CHECK(reader->disk == NULL);
    reader->memory = piece;
    reader->memory_offset = reader->offset;
}

void hint_reader_close(struct hint_reader *reader)
{
    if (reader->file >= 0) reader->disk->close(reader->disk->context, reader->file);
    buf_close(&reader->chunk);
    reader->file = -1;
}

static enum err reader_get(struct hint_reader *reader, void *data, uint64_t size)
{
    if (reader->disk != NULL) {
        return reader->disk->read(reader->disk->context, reader->file, reader->offset, data, size);
    }
    CHECK(reader->offset >= reader->memory_offset);
    const uint64_t at = reader->offset - reader->memory_offset;
    if (at > reader->memory.size || size > reader->memory.size - at) return ERR_AGAIN;
    memcpy(data, reader->memory.data + at, size);
    return OK;
}

/* Reads and verifies the next chunk. ERR_NOT_FOUND: the file ends here, as its header says. */
static enum err chunk_read(struct hint_reader *reader)
{
    if (reader->offset == reader->file_size) {
        return reader->entry_count == 0 ? ERR_NOT_FOUND : ERR_CORRUPT;
    }
    uint8_t header[CHUNK_HEADER_SIZE];
    const uint64_t rest = reader->file_size - reader->offset;
    if (rest < sizeof header) return ERR_CORRUPT;
    enum err err = reader_get(reader, header, sizeof header);
    if (err != OK) return err;
    const uint64_t size = get_u32(header + 8);
    if (size < CHUNK_HEADER_SIZE + ENTRY_HEADER_SIZE) return ERR_CORRUPT;
    if (size > CHUNK_SIZE_MAX || size > rest) return ERR_CORRUPT;

    reader->chunk.size = 0;
    uint8_t *chunk = buf_extend(&reader->chunk, size);
    err = reader_get(reader, chunk, size);
    if (err != OK) return err;
    if (get_u64(chunk) != chunk_hash(reader->file_id, reader->offset, chunk, size)) {
        return ERR_CORRUPT;
    }
    reader->chunk_count = get_u32(chunk + 12);
    if (reader->chunk_count == 0 || reader->chunk_count > reader->entry_count) return ERR_CORRUPT;
    reader->entries = reader_of(slice_of(chunk + CHUNK_HEADER_SIZE, size - CHUNK_HEADER_SIZE));
    reader->offset += size;
    return OK;
}

enum err hint_reader_next(struct hint_reader *reader, struct hint_entry *entry)
{
    if (reader->chunk_count == 0) {
        const enum err err = chunk_read(reader);
        if (err != OK) return err;
    }
    struct reader *at = &reader->entries;
    *entry = (struct hint_entry){.kind = reader_u8(at)};
    entry->flags = reader_u8(at);
    const uint16_t zero = reader_u16(at);
    const uint32_t key_size = reader_u32(at);
    entry->value_size = reader_u32(at);
    entry->offset = reader_u32(at);
    entry->revision = reader_u64(at);
    entry->expiry_ms = reader_u64(at);
    entry->key = reader_bytes(at, key_size);
    if (value_inline(entry)) {
        entry->value = reader_bytes(at, entry->value_size);
    }
    if (at->bad || zero != 0 || entry->offset % 8 != 0) return ERR_CORRUPT;
    if (entry->kind < EFFECT_PUT || entry->kind > EFFECT_FLUSH) return ERR_CORRUPT;
    if (key_size > KEY_SIZE_MAX || entry->value_size > VALUE_SIZE_MAX) return ERR_CORRUPT;
    if ((key_size == 0) != (entry->kind == EFFECT_FLUSH)) return ERR_CORRUPT;
    reader->chunk_count--;
    reader->entry_count--;
    if (reader->chunk_count == 0 && at->at != at->end) return ERR_CORRUPT;
    return OK;
}

enum err hint_reader_some(struct hint_reader *reader, struct hint_entry *entries, uint32_t max,
                          uint32_t *count)
{
    CHECK(max > 0);
    *count = 0;
    do {
        const enum err err = hint_reader_next(reader, &entries[*count]);
        if (err != OK) return err;
        ++*count;
    } while (*count < max && reader->chunk_count > 0); /* They borrow from one chunk. */
    return OK;
}
