#include "storage/record.h"

#include "storage/base/hash.h"
#include "storage/base/limits.h"

STATIC_CHECK(RECORD_HEADER_SIZE % 8 == 0, "a payload begins aligned, and so does the next record");

/* A revision has 48 bits for the index (effect.h), so no entry may have a larger one. */
#define INDEX_END (UINT64_C(1) << 48)

static bool type_known(uint8_t type)
{
    return type == RECORD_COMMAND || type == RECORD_BARRIER || type == RECORD_CHANGE ||
           type == RECORD_CUT || type == RECORD_TABLE;
}

uint64_t record_seal(uint8_t *at, const struct record *record)
{
    const uint64_t size = record_size(record->payload.size);
    CHECK(size <= RECORD_SIZE_MAX);
    CHECK(record->index > 0);
    CHECK(record->index < INDEX_END);
    CHECK(type_known(record->type));

    put_u32(at + 8, (uint32_t)size);
    put_u32(at + 12, (uint32_t)record->payload.size);
    put_u64(at + 16, record->index);
    put_u64(at + 24, record->term);
    put_u64(at + 32, record->stamp_ms);
    at[40] = record->type;
    at[41] = RECORD_VERSION;
    put_u16(at + 42, record->shard);
    put_u32(at + 44, 0);
    const uint64_t used = RECORD_HEADER_SIZE + record->payload.size;
    memset(at + used, 0, size - used);
    put_u64(at, hash64(at + 8, size - 8));
    return size;
}

void record_encode(const struct record *record, struct buf *out)
{
    const uint64_t size = record_size(record->payload.size);
    CHECK(size <= RECORD_SIZE_MAX);
    uint8_t *at = buf_extend(out, size);
    if (record->payload.size > 0) {
        memcpy(at + RECORD_HEADER_SIZE, record->payload.data, record->payload.size);
    }
    CHECK(record_seal(at, record) == size);
}

/* Everything but the checksum: the bounds are checked for trusted bytes too, it costs next to nothing. */
static enum err decode(struct slice bytes, bool verify, struct record *record, uint64_t *size)
{
    if (bytes.size < RECORD_HEADER_SIZE) return ERR_MORE;
    const uint8_t *at = bytes.data;
    const uint64_t total = get_u32(at + 8);
    const uint64_t payload_size = get_u32(at + 12);
    if (total > RECORD_SIZE_MAX) return ERR_CORRUPT;
    if (total != record_size(payload_size)) return ERR_CORRUPT;
    if (bytes.size < total) return ERR_MORE;
    if (verify && get_u64(at) != hash64(at + 8, total - 8)) return ERR_CORRUPT;
    if (at[41] != RECORD_VERSION) return ERR_NEWER;
    if (!type_known(at[40])) return ERR_NEWER;
    if (get_u32(at + 44) != 0) return ERR_CORRUPT;
    for (uint64_t i = RECORD_HEADER_SIZE + payload_size; i < total; i++) {
        if (at[i] != 0) return ERR_CORRUPT;
    }
    const uint64_t index = get_u64(at + 16);
    if (index == 0 || index >= INDEX_END) return ERR_CORRUPT;

    *record = (struct record){
        .index = index,
        .term = get_u64(at + 24),
        .stamp_ms = get_u64(at + 32),
        .type = at[40],
        .shard = get_u16(at + 42),
        .payload = slice_of(at + RECORD_HEADER_SIZE, payload_size),
    };
    *size = total;
    return OK;
}

enum err record_decode(struct slice bytes, struct record *record, uint64_t *size)
{
    return decode(bytes, true, record, size);
}

enum err record_decode_trusted(struct slice bytes, struct record *record, uint64_t *size)
{
    return decode(bytes, false, record, size);
}
