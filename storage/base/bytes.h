/* bytes.h - borrowed bytes (slice), owned bytes (buf), little-endian integers. */
#ifndef KV_BASE_BYTES_H
#define KV_BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; valid as long as their owner says. */
struct slice {
    const uint8_t *data;
    uint64_t size;
};

static inline struct slice slice_of(const void *data, uint64_t size)
{
    return (struct slice){.data = data, .size = size};
}
static inline struct slice slice_text(const char *text)
{
    return slice_of(text, strlen(text));
}
bool slice_equal(struct slice a, struct slice b);
/* Byte-wise order, a prefix before the longer: negative, zero or positive. */
int slice_compare(struct slice a, struct slice b);
/* Equal to @text when ASCII letters are folded. */
bool slice_equal_fold(struct slice a, const char *text);
/* Strict decimal: optional '-', no '+', no space, no leading zero, within int64. False: not one. */
bool slice_int64(struct slice text, int64_t *value);

/* Owned bytes that grow by doubling. All zero is a valid empty buf. */
struct buf {
    uint8_t *data;
    uint64_t size;
    uint64_t capacity;
};

void buf_close(struct buf *buf);                      /* frees; the buf is empty afterwards */
uint8_t *buf_reserve(struct buf *buf, uint64_t more); /* room for @more bytes behind size */
/* The same for a size that is known to be the last one: no more memory than that is asked for. */
uint8_t *buf_reserve_exact(struct buf *buf, uint64_t more);
uint8_t *buf_extend(struct buf *buf, uint64_t more); /* as reserve, and size grows by @more */
void buf_append(struct buf *buf, const void *data, uint64_t size);
void buf_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_shift(struct buf *buf, uint64_t size); /* drops the first @size bytes */
void buf_trim(struct buf *buf, uint64_t keep);  /* empty and over @keep: gives memory back */
static inline struct slice buf_slice(const struct buf *buf)
{
    return slice_of(buf->data, buf->size);
}

static inline uint64_t align_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Little-endian put and get at any alignment. */
static inline void put_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}
static inline void put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}
static inline void put_u64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}
static inline uint16_t get_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}
static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}
static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "a big-endian port needs byte swaps here");

/* A bounded reader: past the end every get gives zero and @bad is set, checked once at the end. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};
static inline struct reader reader_of(struct slice slice)
{
    /* Nothing may be a null pointer, to which not even zero may be added. */
    if (slice.size == 0) slice.data = (const uint8_t *)"";
    return (struct reader){.at = slice.data, .end = slice.data + slice.size, .bad = false};
}
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
struct slice reader_bytes(struct reader *reader, uint64_t size); /* borrows from the input */
struct slice reader_sized(struct reader *reader);                /* u32 size, then the bytes */
void buf_u8(struct buf *buf, uint8_t value);
void buf_u16(struct buf *buf, uint16_t value);
void buf_u32(struct buf *buf, uint32_t value);
void buf_u64(struct buf *buf, uint64_t value);
void buf_sized(struct buf *buf, struct slice bytes); /* u32 size, then the bytes */

#endif
