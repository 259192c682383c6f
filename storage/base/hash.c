#include "storage/base/hash.h"

#include "storage/base/bytes.h"
#include "storage/base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash64(const void *data, uint64_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t hash64_seeded(const void *data, uint64_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

struct hash128 hash128(const void *data, uint64_t size)
{
    const XXH128_hash_t hash = XXH3_128bits(data, size);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

/* XXH3 wants its state aligned more strictly than memory is given out. */
#define STATE_ALIGNMENT 64u

STATIC_CHECK(sizeof(XXH3_state_t) + STATE_ALIGNMENT <= sizeof(struct hash_stream),
             "the state fits, wherever it begins");

static uint64_t skip_of(const struct hash_stream *stream)
{
    return align_up((uintptr_t)stream->room, STATE_ALIGNMENT) - (uintptr_t)stream->room;
}

static XXH3_state_t *state_of(struct hash_stream *stream)
{
    return (XXH3_state_t *)(void *)(stream->room + skip_of(stream));
}

void hash_stream_init(struct hash_stream *stream)
{
    CHECK(XXH3_64bits_reset(state_of(stream)) == XXH_OK);
}

void hash_stream_add(struct hash_stream *stream, const void *data, uint64_t size)
{
    CHECK(XXH3_64bits_update(state_of(stream), data, size) == XXH_OK);
}

uint64_t hash_stream_end(const struct hash_stream *stream)
{
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)(stream->room + skip_of(stream)));
}
