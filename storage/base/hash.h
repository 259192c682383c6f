/* hash.h - the checksum of everything on disk and between peers, the chain of groups, the hash of keys.
 *
 * All are XXH3 (Yann Collet, https://xxhash.com, package libxxhash-dev): faster than CRC-32C on these
 * sizes and with 64 bits far less likely to miss a change. Not cryptographic: they find accidents. */
#ifndef KV_BASE_HASH_H
#define KV_BASE_HASH_H

#include <stdbool.h>
#include <stdint.h>

struct hash128 {
    uint64_t low;
    uint64_t high;
};

uint64_t hash64(const void *data, uint64_t size);
uint64_t hash64_seeded(const void *data, uint64_t size, uint64_t seed);
struct hash128 hash128(const void *data, uint64_t size);
static inline bool hash128_equal(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

/* hash64 of bytes that come in pieces. Never moved between init and end. */
struct hash_stream {
    uint8_t room[704];
};
void hash_stream_init(struct hash_stream *stream);
void hash_stream_add(struct hash_stream *stream, const void *data, uint64_t size);
uint64_t hash_stream_end(const struct hash_stream *stream);

#endif
