#include "node/glob.h"

/* Matches the set that begins behind '[' at @at with @byte. @next receives the place behind it. */
static bool match_set(struct slice pattern, uint64_t at, uint8_t byte, uint64_t *next)
{
    bool negate = false;
    bool found = false;
    if (at < pattern.size && pattern.data[at] == '^') {
        negate = true;
        at++;
    }
    while (at < pattern.size && pattern.data[at] != ']') {
        if (pattern.data[at] == '\\' && at + 1 < pattern.size) {
            at++;
            found |= pattern.data[at] == byte;
        } else if (at + 2 < pattern.size && pattern.data[at + 1] == '-' &&
                   pattern.data[at + 2] != ']') {
            uint8_t low = pattern.data[at];
            uint8_t high = pattern.data[at + 2];
            if (low > high) {
                const uint8_t swap = low;
                low = high;
                high = swap;
            }
            found |= byte >= low && byte <= high;
            at += 2;
        } else {
            found |= pattern.data[at] == byte;
        }
        at++;
    }
    *next = at < pattern.size ? at + 1 : at; /* A set that is not closed ends with the pattern. */
    return found != negate;
}

/* Matches one element of the pattern (not a star) with @byte. */
static bool match_one(struct slice pattern, uint64_t at, uint8_t byte, uint64_t *next)
{
    const uint8_t element = pattern.data[at];
    if (element == '[') return match_set(pattern, at + 1, byte, next);
    if (element == '\\' && at + 1 < pattern.size) {
        *next = at + 2;
        return pattern.data[at + 1] == byte;
    }
    *next = at + 1;
    return element == '?' || element == byte;
}

bool glob_match(struct slice pattern, struct slice text)
{
    uint64_t at = 0;
    uint64_t read = 0;
    uint64_t star_at = UINT64_MAX; /* behind the last star, */
    uint64_t star_read = 0;        /* which so far took the text up to here */
    while (read < text.size) {
        uint64_t next = 0;
        if (at < pattern.size && pattern.data[at] == '*') {
            star_at = ++at;
            star_read = read;
        } else if (at < pattern.size && match_one(pattern, at, text.data[read], &next)) {
            at = next;
            read++;
        } else if (star_at != UINT64_MAX) {
            at = star_at;
            read = ++star_read;
        } else {
            return false;
        }
    }
    while (at < pattern.size && pattern.data[at] == '*') at++;
    return at == pattern.size;
}
