#include "node/glob.h"

#include <string.h>

#include "storage/base/mem.h"

#define PLAIN_STEPS_MAX 512u /* of looking for a piece of a pattern place by place */

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
        } else if (at + 2 < pattern.size && pattern.data[at + 1] == '-') {
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

/* How many elements there are from @at up to the next star or the end, which is *@end. */
static uint64_t count_elements(struct slice pattern, uint64_t at, uint64_t *end)
{
    uint64_t count = 0;
    while (at < pattern.size && pattern.data[at] != '*') {
        (void)match_one(pattern, at, 0, &at); /* Only where the next one begins. */
        count++;
    }
    *end = at;
    return count;
}

/* Do the elements from @at to before @end match the bytes from @read on? There are that many. */
static bool match_here(struct slice pattern, uint64_t at, uint64_t end, struct slice text,
                       uint64_t read, uint64_t *steps)
{
    const uint64_t begin = at;
    bool found = true;
    while (at < end && found) found = match_one(pattern, at, text.data[read++], &at);
    *steps += at - begin;
    return found;
}

/* Which elements match a byte, as bits: made when the byte is met first. */
struct masks {
    struct slice pattern;
    uint64_t at, end;
    uint64_t words; /* of bits */
    uint64_t *bits; /* words for each byte, then those of the state */
    bool known[256];
};

static const uint64_t *mask_of(struct masks *masks, uint8_t byte, uint64_t *steps)
{
    uint64_t *bits = masks->bits + byte * masks->words;
    if (masks->known[byte]) return bits;
    masks->known[byte] = true;
    memset(bits, 0, masks->words * sizeof *bits);
    uint64_t bit = 0;
    for (uint64_t at = masks->at; at < masks->end; bit++) {
        if (match_one(masks->pattern, at, byte, &at)) bits[bit / 64] |= 1ull << (bit % 64);
    }
    *steps += masks->end - masks->at;
    return bits;
}

/* Looks for all places at once: bit n of the state says that the first n + 1 elements match the last bytes. So each
 * byte of the text costs a 64th of the number of elements, whatever the pattern. */
static bool find_parallel(struct slice pattern, uint64_t at, uint64_t end, uint64_t count,
                          struct slice text, uint64_t *read, uint64_t *steps)
{
    struct masks masks = {.pattern = pattern, .at = at, .end = end, .words = (count + 63) / 64};
    const uint64_t last = count - 1;
    masks.bits = mem_alloc(257 * masks.words * sizeof *masks.bits);
    uint64_t *state = masks.bits + 256 * masks.words;
    memset(state, 0, masks.words * sizeof *state);
    bool found = false;
    while (!found && *read < text.size) {
        const uint64_t *mask = mask_of(&masks, text.data[*read], steps);
        uint64_t carry = 1; /* A match may begin at each byte. */
        for (uint64_t i = 0; i < masks.words; i++) {
            const uint64_t shifted = (state[i] << 1) | carry;
            carry = state[i] >> 63;
            state[i] = shifted & mask[i];
        }
        *steps += masks.words;
        *read += 1;
        found = (state[last / 64] >> (last % 64) & 1) != 0;
    }
    mem_free(masks.bits);
    return found;
}

/* Finds the first place at or behind *@read where the @count elements match; *@read goes behind it. */
static bool find(struct slice pattern, uint64_t at, uint64_t end, uint64_t count, struct slice text,
                 uint64_t *read, uint64_t *steps)
{
    const uint64_t before = *steps;
    for (; *read + count <= text.size; *read += 1) {
        if (*steps - before > PLAIN_STEPS_MAX) {
            return find_parallel(pattern, at, end, count, text, read, steps);
        }
        if (match_here(pattern, at, end, text, *read, steps)) {
            *read += count;
            return true;
        }
    }
    return false;
}

/* What stands before the first star is where the text begins, what stands behind the last one is where it ends, and
 * what stands between two of them is best found as early as possible. */
bool glob_match_counting(struct slice pattern, struct slice text, uint64_t *steps)
{
    uint64_t end = 0;
    if (text.size == 0) return pattern.size == 0; /* As in Redis, where * does not match it. */
    uint64_t read = count_elements(pattern, 0, &end);
    *steps += 1 + end;
    if (read > text.size || (end == pattern.size && read != text.size)) return false;
    if (!match_here(pattern, 0, end, text, 0, steps)) return false;
    while (end < pattern.size) {
        uint64_t at = end;
        while (at < pattern.size && pattern.data[at] == '*') at++;
        if (at == pattern.size) return true;
        const uint64_t count = count_elements(pattern, at, &end);
        *steps += end - at;
        if (count > text.size - read) return false;
        if (end == pattern.size) {
            return match_here(pattern, at, end, text, text.size - count, steps);
        }
        if (!find(pattern, at, end, count, text, &read, steps)) return false;
    }
    return true;
}

bool glob_match(struct slice pattern, struct slice text)
{
    uint64_t steps = 0;
    return glob_match_counting(pattern, text, &steps);
}
