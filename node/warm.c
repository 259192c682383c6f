#include "node/warm.h"

#include "storage/base/limits.h"

#define WORDS_MAX 8u /* Longer commands are rare and do not come in hundreds. */

/* Takes "<type><digits>\r\n" off the start of @input. False: it does not begin so, or not all of it is there. */
static bool take_count(struct slice *input, uint8_t type, uint64_t *count)
{
    uint64_t at = 1;
    uint64_t value = 0;
    if (input->size < 4 || input->data[0] != type) return false;
    while (at < input->size && input->data[at] >= '0' && input->data[at] <= '9') {
        value = value * 10 + (uint64_t)(input->data[at] - '0');
        if (value > VALUE_SIZE_MAX) return false;
        at++;
    }
    if (at == 1 || input->size - at < 2) return false;
    if (input->data[at] != '\r' || input->data[at + 1] != '\n') return false;
    *input = slice_of(input->data + at + 2, input->size - at - 2);
    *count = value;
    return true;
}

static bool take_word(struct slice *input, struct slice *word)
{
    uint64_t size;
    if (!take_count(input, '$', &size)) return false;
    if (input->size < size + 2) return false;
    *word = slice_of(input->data, size);
    *input = slice_of(input->data + size + 2, input->size - size - 2);
    return true;
}

bool warm_look(struct warm *warm, struct slice input)
{
    while (warm->count < WARM_MAX) {
        uint64_t words;
        struct slice key = {0};
        struct slice word;
        if (!take_count(&input, '*', &words)) return true;
        if (words < 2 || words > WORDS_MAX) return true;
        for (uint64_t i = 0; i < words; i++) {
            if (!take_word(&input, &word)) return true;
            if (i == 1) key = word;
        }
        if (key.size > KEY_SIZE_MAX) return true;
        warm->keys[warm->count] = key;
        warm->reads[warm->count] = words == 2; /* GET and its like: a name and a key. */
        warm->count++;
    }
    return false;
}

void warm_fetch(const struct warm *warm, struct store *store)
{
    if (warm->count < 2) return; /* There is nothing to overlap with. */
    store_warm(store, warm->keys, warm->reads, warm->count);
}
