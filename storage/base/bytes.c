#include "storage/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

int slice_compare(struct slice a, struct slice b)
{
    const uint64_t common = a.size < b.size ? a.size : b.size;
    const int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    if (order != 0) return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

static uint8_t fold(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

bool slice_equal_fold(struct slice a, const char *text)
{
    for (uint64_t i = 0; i < a.size; i++) {
        if (text[i] == 0 || fold(a.data[i]) != fold((uint8_t)text[i])) return false;
    }
    return text[a.size] == 0;
}

bool slice_int64(struct slice text, int64_t *value)
{
    uint64_t magnitude = 0;
    if (text.size == 0 || text.size > 20) return false;
    const bool negative = text.data[0] == '-';
    const uint64_t first = negative ? 1 : 0;
    if (text.size == first) return false;
    if (text.data[first] == '0' && (text.size > first + 1 || negative)) return false;
    for (uint64_t i = first; i < text.size; i++) {
        const uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9) return false;
        if (__builtin_mul_overflow(magnitude, 10, &magnitude)) return false;
        if (__builtin_add_overflow(magnitude, digit, &magnitude)) return false;
    }
    const uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    if (magnitude > limit) return false;
    *value = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

void buf_close(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){0};
}

uint8_t *buf_reserve(struct buf *buf, uint64_t more)
{
    const uint64_t need = buf->size + more;
    CHECK(need >= more);
    if (need > buf->capacity) {
        uint64_t capacity = buf->capacity < 64 ? 64 : buf->capacity;
        while (capacity < need) capacity *= 2;
        buf->data = mem_resize(buf->data, capacity);
        buf->capacity = capacity;
    }
    return buf->data + buf->size;
}

uint8_t *buf_reserve_exact(struct buf *buf, uint64_t more)
{
    const uint64_t need = buf->size + more;
    CHECK(need >= more);
    if (need > buf->capacity) {
        buf->data = mem_resize(buf->data, need);
        buf->capacity = need;
    }
    return buf->data + buf->size;
}

uint8_t *buf_extend(struct buf *buf, uint64_t more)
{
    uint8_t *at = buf_reserve(buf, more);
    buf->size += more;
    return at;
}

void buf_append(struct buf *buf, const void *data, uint64_t size)
{
    if (size > 0) memcpy(buf_extend(buf, size), data, size);
}

void buf_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_list again;
    CHECK(format != NULL);
    va_start(args, format);
    va_copy(again, args);
    const int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(size >= 0);
    (void)vsnprintf((char *)buf_reserve(buf, (uint64_t)size + 1), (size_t)size + 1, format, again);
    va_end(again);
    buf->size += (uint64_t)size;
}

void buf_shift(struct buf *buf, uint64_t size)
{
    CHECK(size <= buf->size);
    if (size == 0) return;
    if (size < buf->size) memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
}

void buf_trim(struct buf *buf, uint64_t keep)
{
    if (buf->size == 0 && buf->capacity > keep) buf_close(buf);
}

static const uint8_t *take(struct reader *reader, uint64_t size)
{
    if (reader->bad || (uint64_t)(reader->end - reader->at) < size) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at += size;
    return at;
}

uint8_t reader_u8(struct reader *reader)
{
    const uint8_t *at = take(reader, 1);
    return at != NULL ? *at : 0;
}

uint16_t reader_u16(struct reader *reader)
{
    const uint8_t *at = take(reader, 2);
    return at != NULL ? get_u16(at) : 0;
}

uint32_t reader_u32(struct reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at != NULL ? get_u32(at) : 0;
}

uint64_t reader_u64(struct reader *reader)
{
    const uint8_t *at = take(reader, 8);
    return at != NULL ? get_u64(at) : 0;
}

struct slice reader_bytes(struct reader *reader, uint64_t size)
{
    const uint8_t *at = take(reader, size);
    return at != NULL ? slice_of(at, size) : (struct slice){0};
}

struct slice reader_sized(struct reader *reader)
{
    return reader_bytes(reader, reader_u32(reader));
}

void buf_u8(struct buf *buf, uint8_t value)
{
    *buf_extend(buf, 1) = value;
}

void buf_u16(struct buf *buf, uint16_t value)
{
    put_u16(buf_extend(buf, 2), value);
}

void buf_u32(struct buf *buf, uint32_t value)
{
    put_u32(buf_extend(buf, 4), value);
}

void buf_u64(struct buf *buf, uint64_t value)
{
    put_u64(buf_extend(buf, 8), value);
}

void buf_sized(struct buf *buf, struct slice bytes)
{
    buf_u32(buf, (uint32_t)bytes.size);
    buf_append(buf, bytes.data, bytes.size);
}
