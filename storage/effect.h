/* effect.h - what a write did: the body of a command entry is a sequence of effects.
 *
 * An entry holds effects (PUT k 6), never commands (INCR k), so applying is a table update that cannot
 * fail and cannot differ between nodes. Layout (little-endian, each effect padded with zeros to 8):
 *
 *   body     0  u32 count of effects       4  u32 zero
 *   effect   0  u32 checksum: low half of XXH3-64 over bytes 4 .. 32 + key + value
 *            4  u8  kind                   5  u8  flags          6  u16 zero
 *            8  u32 key size              12  u32 value size
 *           16  u64 expiry, milliseconds since the epoch, 0 is never
 *           24  u64 revision that the key had before; 0 when it did not exist; 1 to 65,535: it was made by an effect of
 *               the same entry, whose place there is one less
 *           32  key, value
 *
 * The checksum is the effect's own, so that one value can be read from the disk alone. */
#ifndef KV_STORAGE_EFFECT_H
#define KV_STORAGE_EFFECT_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/reserved.h"

#define EFFECT_HEADER_SIZE 32u
#define EFFECT_BODY_HEADER_SIZE 8u
#define EFFECT_NUMBERS_SIZE 16u /* value of a PRESENT or CHECK */

enum effect_kind {
    EFFECT_PUT = 1,       /* Key gets value and expiry. */
    EFFECT_DELETE = 2,    /* Key is gone. */
    EFFECT_EXPIRE_AT = 3, /* Key keeps its value and gets this expiry (0: never). */
    EFFECT_FLUSH = 4,     /* Every key is gone. No key. */
    /* These change no key; neither hints nor tables keep them. No key; two numbers (u64) as value. */
    EFFECT_PRESENT = 5, /* Node id, incarnation: the leader knew of this start when it proposed. */
    EFFECT_CHECK = 6,   /* Index, state hash that the keys of most nodes had there. */
};
enum effect_flag {
    EFFECT_FLAG_EXPIRED = 1, /* A delete that the sweeper or a read of an expired key made. */
    EFFECT_FLAG_LZ4 =
        2, /* A put whose value is packed: see compress.h. Decided once, on the leader. */
    EFFECT_FLAG_JOINED =
        4, /* The same command or transaction made it and the effect before it in the entry. */
};

struct effect {
    uint8_t kind;
    uint8_t flags;
    uint64_t expiry_ms;
    uint64_t previous_revision;
    struct slice key; /* Borrows from the decoded bytes. */
    struct slice value;
};

/* Bytes that @effect takes, padding included. */
uint64_t effect_size(const struct effect *effect);
/* Appends @effect to @out. */
void effect_encode(const struct effect *effect, struct buf *out);
/* The same in place: key and value of @effect already lie where they belong in the effect_size() bytes at @at. */
void effect_finish(const struct effect *effect, uint8_t *at);
/* Reads the effect at the start of @bytes, verifies its checksum and every bound; @size receives what
 * it takes. ERR_CORRUPT: damaged or not an effect. ERR_NEWER: a kind or flag that this program does not
 * know. Keys have 1 .. KEY_SIZE_MAX bytes, but for a flush; only a put has a value; a packed one has the
 * form that compress_valid() asks for. */
enum err effect_decode(struct slice bytes, struct effect *effect, uint64_t *size);
/* The same without the checksum, for bytes that a record's checksum just vouched for. */
enum err effect_decode_trusted(struct slice bytes, struct effect *effect, uint64_t *size);

/* Does this kind change keys? */
static inline bool effect_is_change(uint8_t kind)
{
    return kind <= EFFECT_FLUSH;
}
/* Keys that begin so are the servers' own: no client can name them, and none is told of them. */
static inline bool effect_is_internal(const struct effect *effect)
{
    return reserved_key(effect->key);
}
/* What a change is called when clients are told of it: put, delete, expired, expire-change, flush. */
const char *effect_word(const struct effect *effect);
/* Appends a whole body with one PRESENT or CHECK. */
void effect_encode_numbers(uint8_t kind, uint64_t first, uint64_t second, struct buf *out);

/* The beginning of an effect that was encoded here, header and key; of the value only its size is known (data is
 * NULL). */
struct effect effect_head(struct slice bytes);

/* Goes through the effects of a command's payload, which is the body described above. */
struct effect_walk {
    struct slice body;
    uint64_t position; /* Of the next effect in it. */
    uint32_t count;
    uint32_t ordinal; /* Of the effect read last. */
    uint32_t offset;  /* Of the effect read last: bytes from the start of the body. */
};
void effect_walk_open(struct effect_walk *walk, struct slice payload);
/* The next effect, trusted: the record's checksum vouched for it. ERR_NOT_FOUND: that was the last.
 * ERR_CORRUPT, ERR_NEWER: this is no body of effects that this program could have written. */
enum err effect_walk_next(struct effect_walk *walk, struct effect *effect);

/* Revision: the entry's Raft index and the effect's place in it, as one growing number. Opaque to clients. */
static inline uint64_t revision_of(uint64_t index, uint32_t ordinal)
{
    return index << 16 | ordinal;
}
static inline uint64_t revision_index(uint64_t revision)
{
    return revision >> 16;
}

#endif
