#include "storage/base/sha1.h"

#define BLOCK_SIZE 64u

static uint32_t rotate(uint32_t value, uint32_t count)
{
    return value << count | value >> (32 - count);
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void mix(uint32_t state[5], const uint8_t *block)
{
    static const uint32_t constants[4] = {0x5A827999u, 0x6ED9EBA1u, 0x8F1BBCDCu, 0xCA62C1D6u};
    uint32_t words[80];
    uint32_t a = state[0];
    uint32_t b = state[1];
    uint32_t c = state[2];
    uint32_t d = state[3];
    uint32_t e = state[4];
    for (uint32_t i = 0; i < 16; i++) words[i] = big_endian(block + (size_t)i * 4);
    for (uint32_t i = 16; i < 80; i++) {
        words[i] = rotate(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
    }
    for (uint32_t i = 0; i < 80; i++) {
        uint32_t f = b ^ c ^ d;
        if (i < 20) f = (b & c) | (~b & d);
        if (i >= 40 && i < 60) f = (b & c) | (b & d) | (c & d);
        const uint32_t next = rotate(a, 5) + f + e + constants[i / 20] + words[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void sha1_text(struct slice bytes, char text[SHA1_TEXT_SIZE + 1])
{
    uint32_t state[5] = {0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u, 0xC3D2E1F0u};
    uint8_t last[2 * BLOCK_SIZE] = {0};
    const uint64_t whole = bytes.size / BLOCK_SIZE * BLOCK_SIZE;
    const uint64_t rest = bytes.size - whole;
    const uint64_t end = rest + 9 <= BLOCK_SIZE ? BLOCK_SIZE : 2 * BLOCK_SIZE;
    const uint64_t bits = bytes.size * 8;
    for (uint64_t at = 0; at < whole; at += BLOCK_SIZE) mix(state, bytes.data + at);
    if (rest > 0) memcpy(last, bytes.data + whole, rest);
    last[rest] = 0x80;
    for (uint32_t i = 0; i < 8; i++) last[end - 1 - i] = (uint8_t)(bits >> (8 * i));
    for (uint64_t at = 0; at < end; at += BLOCK_SIZE) mix(state, last + at);
    for (uint32_t i = 0; i < SHA1_TEXT_SIZE; i++) {
        text[i] = "0123456789abcdef"[state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    }
    text[SHA1_TEXT_SIZE] = 0;
}
