#include "client/slot.h"

/* The checksum of a byte that holds only these four bits: two look-ups a byte instead of a table of 256. */
static const uint16_t crc_of_nibble[16] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
    0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
};

static uint16_t crc16(struct slice bytes)
{
    uint32_t crc = 0;
    for (uint64_t i = 0; i < bytes.size; i++) {
        const uint32_t byte = bytes.data[i];
        crc = (crc << 4 & 0xffff) ^ crc_of_nibble[(crc >> 12) ^ (byte >> 4)];
        crc = (crc << 4 & 0xffff) ^ crc_of_nibble[(crc >> 12) ^ (byte & 15)];
    }
    return (uint16_t)crc;
}

/* What is hashed of @key: the tag between the first '{' and the next '}', when it is not empty. */
static struct slice hashed_part(struct slice key)
{
    const uint8_t *open = key.size > 0 ? memchr(key.data, '{', key.size) : NULL;
    if (open == NULL) return key;
    const uint8_t *tag = open + 1;
    const uint64_t rest = key.size - (uint64_t)(tag - key.data);
    const uint8_t *close = rest > 0 ? memchr(tag, '}', rest) : NULL;
    return close != NULL && close > tag ? slice_of(tag, (uint64_t)(close - tag)) : key;
}

uint32_t slot_of_key(struct slice key)
{
    return crc16(hashed_part(key)) % SLOT_COUNT;
}
