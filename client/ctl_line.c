#include "client/ctl.h"

#include <errno.h>
#include <stdlib.h>

bool ctl_number(struct kv_bytes text, int64_t least, int64_t most, int64_t *value)
{
    const char *digits = text.data;
    char *end = NULL;
    if (text.size == 0 || strlen(digits) != text.size) return false;
    const char first = digits[0] == '-' ? digits[1] : digits[0];
    if (first < '0' || first > '9') return false; /* strtoll also takes spaces and "+" */
    errno = 0;
    const long long number = strtoll(digits, &end, 10);
    if (errno != 0 || *end != 0 || number < least || number > most) return false;
    *value = number;
    return true;
}

static bool is_space(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

/* Takes one escape of a double-quoted text, @at is behind the backslash. */
static const char *unescape(const char *at, char *out)
{
    static const char names[] = "nrtba";
    static const char bytes[] = "\n\r\t\b\a";
    const char *name = strchr(names, *at);
    if (*at == 'x' && hex_value(at[1]) >= 0 && hex_value(at[2]) >= 0) {
        *out = (char)(hex_value(at[1]) * 16 + hex_value(at[2]));
        return at + 3;
    }
    *out = name != NULL ? bytes[name - names] : *at;
    return at + 1;
}

/* Copies one word to @out; gives where it ends, or NULL: its quote is not closed. */
static const char *take_word(const char *at, char *out, size_t *size)
{
    while (*at != 0 && !is_space(*at)) {
        const char quote = *at == '"' || *at == '\'' ? *at++ : 0;
        if (quote == 0) {
            out[(*size)++] = *at++;
            continue;
        }
        while (*at != 0 && *at != quote) {
            char byte = *at++;
            if (byte == '\\' && quote == '"' && *at != 0) at = unescape(at, &byte);
            if (byte == '\\' && quote == '\'' && *at == '\'') byte = *at++;
            out[(*size)++] = byte;
        }
        if (*at != quote) return NULL;
        at++;
    }
    return at;
}

int ctl_split_columns(const char *line, struct kv_bytes *words, size_t *columns, char **memory)
{
    int count = 0;
    const char *at = line;
    /* Each word ends with a zero byte in place of the space behind it, so the line's size is enough. */
    char *out = malloc(strlen(line) + 2);
    *memory = out;
    columns[0] = 1;
    if (out == NULL) return -1;
    while (true) {
        size_t size = 0;
        while (is_space(*at)) at++;
        if (*at == 0) return count;
        const size_t column = (size_t)(at - line) + 1;
        if (count < (int)CTL_WORDS_MAX) at = take_word(at, out, &size);
        if (at == NULL || count == (int)CTL_WORDS_MAX) {
            columns[0] = column;
            return -1;
        }
        columns[count] = column;
        out[size] = 0;
        words[count++] = kv_bytes_of(out, size);
        out += size + 1;
    }
}

int ctl_split(const char *line, struct kv_bytes *words, char **memory)
{
    static size_t columns[CTL_WORDS_MAX];
    return ctl_split_columns(line, words, columns, memory);
}

/* ---- replies --------------------------------------------------------------------------------- */

const struct kv_reply *ctl_field(const struct kv_reply *map, const char *name)
{
    static const struct kv_reply nil = {.type = KV_NIL};
    if (map->type != KV_MAP && map->type != KV_ARRAY) return &nil;
    for (size_t i = 0; i + 1 < map->count; i += 2) {
        const struct kv_reply *key = &map->items[i];
        if (key->type == KV_STRING && strcmp(key->data, name) == 0) return key + 1;
    }
    return &nil;
}

uint64_t ctl_field_number(const struct kv_reply *map, const char *name)
{
    const struct kv_reply *value = ctl_field(map, name);
    return value->type == KV_INTEGER && value->integer > 0 ? (uint64_t)value->integer : 0;
}

const char *ctl_field_text(const struct kv_reply *map, const char *name)
{
    const struct kv_reply *value = ctl_field(map, name);
    return value->type == KV_STRING ? value->data : "";
}
