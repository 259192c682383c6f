#include "storage/effect.h"

#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/compress.h"

STATIC_CHECK(EFFECT_HEADER_SIZE % 8 == 0, "effects begin aligned");
STATIC_CHECK(EFFECT_BODY_HEADER_SIZE % 8 == 0, "the first effect begins aligned");

#define FLAGS_KNOWN (EFFECT_FLAG_EXPIRED | EFFECT_FLAG_LZ4 | EFFECT_FLAG_JOINED)

/* Which parts each kind has is checked on both sides, before encoding and after decoding. */
static bool shape_valid(uint8_t kind, uint64_t key_size, uint64_t value_size)
{
    if (key_size > KEY_SIZE_MAX || value_size > VALUE_SIZE_MAX) return false;
    if (kind == EFFECT_FLUSH) return key_size == 0 && value_size == 0;
    if (!effect_is_change(kind)) return key_size == 0 && value_size == EFFECT_NUMBERS_SIZE;
    if (key_size == 0) return false;
    return kind == EFFECT_PUT || value_size == 0;
}

/* Only a put is packed, and then its value says so itself. */
static bool packing_valid(uint8_t kind, uint8_t flags, struct slice value)
{
    if ((flags & EFFECT_FLAG_LZ4) == 0) return true;
    return kind == EFFECT_PUT && compress_valid(value);
}

static bool kind_known(uint8_t kind)
{
    return kind >= EFFECT_PUT && kind <= EFFECT_CHECK;
}

uint64_t effect_size(const struct effect *effect)
{
    return align_up(EFFECT_HEADER_SIZE + effect->key.size + effect->value.size, 8);
}

void effect_finish(const struct effect *effect, uint8_t *at)
{
    CHECK(kind_known(effect->kind));
    CHECK((effect->flags & ~FLAGS_KNOWN) == 0);
    CHECK(shape_valid(effect->kind, effect->key.size, effect->value.size));
    CHECK(packing_valid(effect->kind, effect->flags, effect->value));

    const uint64_t used = EFFECT_HEADER_SIZE + effect->key.size + effect->value.size;
    at[4] = effect->kind;
    at[5] = effect->flags;
    put_u16(at + 6, 0);
    put_u32(at + 8, (uint32_t)effect->key.size);
    put_u32(at + 12, (uint32_t)effect->value.size);
    put_u64(at + 16, effect->expiry_ms);
    put_u64(at + 24, effect->previous_revision);
    memset(at + used, 0, effect_size(effect) - used);
    put_u32(at, (uint32_t)hash64(at + 4, used - 4));
}

void effect_encode(const struct effect *effect, struct buf *out)
{
    uint8_t *at = buf_extend(out, effect_size(effect));
    uint8_t *tail = at + EFFECT_HEADER_SIZE;
    if (effect->key.size > 0) memcpy(tail, effect->key.data, effect->key.size);
    tail += effect->key.size;
    if (effect->value.size > 0) memcpy(tail, effect->value.data, effect->value.size);
    effect_finish(effect, at);
}

struct effect effect_head(struct slice bytes)
{
    const uint8_t *at = bytes.data;
    CHECK(bytes.size >= EFFECT_HEADER_SIZE);
    const uint64_t key_size = get_u32(at + 8);
    CHECK(bytes.size >= EFFECT_HEADER_SIZE + key_size);
    return (struct effect){.kind = at[4],
                           .flags = at[5],
                           .expiry_ms = get_u64(at + 16),
                           .previous_revision = get_u64(at + 24),
                           .key = slice_of(at + EFFECT_HEADER_SIZE, key_size),
                           .value = {.size = get_u32(at + 12)}};
}

/* Everything but the checksum: the bounds are checked for trusted bytes too, it costs next to nothing. */
static enum err decode(struct slice bytes, bool verify, struct effect *effect, uint64_t *size)
{
    if (bytes.size < EFFECT_HEADER_SIZE) return ERR_CORRUPT;
    const uint8_t *at = bytes.data;
    const uint64_t key_size = get_u32(at + 8);
    const uint64_t value_size = get_u32(at + 12);
    if (key_size > KEY_SIZE_MAX || value_size > VALUE_SIZE_MAX) return ERR_CORRUPT;
    const uint64_t used = EFFECT_HEADER_SIZE + key_size + value_size;
    const uint64_t total = align_up(used, 8);
    if (bytes.size < total) return ERR_CORRUPT;
    if (verify && get_u32(at) != (uint32_t)hash64(at + 4, used - 4)) return ERR_CORRUPT;
    if (!kind_known(at[4])) return ERR_NEWER;
    if ((at[5] & ~FLAGS_KNOWN) != 0) return ERR_NEWER;
    if (!shape_valid(at[4], key_size, value_size)) return ERR_CORRUPT;
    const struct slice value = slice_of(at + EFFECT_HEADER_SIZE + key_size, value_size);
    if (!packing_valid(at[4], at[5], value)) return ERR_CORRUPT;
    if (get_u16(at + 6) != 0) return ERR_CORRUPT;
    for (uint64_t i = used; i < total; i++) {
        if (at[i] != 0) return ERR_CORRUPT;
    }

    *effect = (struct effect){
        .kind = at[4],
        .flags = at[5],
        .expiry_ms = get_u64(at + 16),
        .previous_revision = get_u64(at + 24),
        .key = slice_of(at + EFFECT_HEADER_SIZE, key_size),
        .value = value,
    };
    *size = total;
    return OK;
}

enum err effect_decode(struct slice bytes, struct effect *effect, uint64_t *size)
{
    return decode(bytes, true, effect, size);
}

enum err effect_decode_trusted(struct slice bytes, struct effect *effect, uint64_t *size)
{
    return decode(bytes, false, effect, size);
}

void effect_encode_numbers(uint8_t kind, uint64_t first, uint64_t second, struct buf *out)
{
    uint8_t numbers[EFFECT_NUMBERS_SIZE];
    CHECK(!effect_is_change(kind));
    put_u64(numbers, first);
    put_u64(numbers + 8, second);
    buf_u32(out, 1);
    buf_u32(out, 0);
    effect_encode(&(struct effect){.kind = kind, .value = slice_of(numbers, sizeof numbers)}, out);
}

void effect_walk_open(struct effect_walk *walk, struct slice payload)
{
    *walk = (struct effect_walk){.body = payload, .position = EFFECT_BODY_HEADER_SIZE};
    if (payload.size >= EFFECT_BODY_HEADER_SIZE) walk->count = get_u32(payload.data);
    walk->ordinal = UINT32_MAX; /* the first one is one more: 0 */
}

enum err effect_walk_next(struct effect_walk *walk, struct effect *effect)
{
    if (walk->body.size < EFFECT_BODY_HEADER_SIZE) return ERR_CORRUPT;
    if (get_u32(walk->body.data + 4) != 0) return ERR_CORRUPT;
    if (walk->count > BATCH_EFFECTS_MAX) return ERR_CORRUPT;
    if (walk->ordinal + 1 == walk->count) {
        return walk->position == walk->body.size ? ERR_NOT_FOUND : ERR_CORRUPT;
    }
    const uint8_t *at = walk->body.data + walk->position;
    uint64_t size = 0;
    const enum err err = effect_decode_trusted(slice_of(at, walk->body.size - walk->position),
                                               effect, &size);
    if (err != OK) return err;
    walk->offset = (uint32_t)walk->position;
    walk->position += size;
    walk->ordinal++;
    return OK;
}

const char *effect_word(const struct effect *effect)
{
    switch (effect->kind) {
    case EFFECT_PUT: return "put";
    case EFFECT_EXPIRE_AT: return "expire-change";
    case EFFECT_FLUSH: return "flush";
    default: return (effect->flags & EFFECT_FLAG_EXPIRED) != 0 ? "expired" : "delete";
    }
}
