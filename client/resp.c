#include "client/resp.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

/* ---- requests -------------------------------------------------------------------------------- */

#define ARGS_CAPACITY_MIN 16u
#define ARGS_CAPACITY_KEPT 1024u /* more is given back after the request that needed it */
#define INLINE_CAPACITY_KEPT 4096u
#define NUMBER_SIZE_MAX 20u /* "-9223372036854775808" */

void resp_parser_init(struct resp_parser *parser)
{
    *parser = (struct resp_parser){.args_expected = -1, .bulk_expected = -1};
}

void resp_parser_close(struct resp_parser *parser)
{
    mem_free(parser->arg_list);
    mem_free(parser->args);
    buf_close(&parser->inline_copy);
    resp_parser_init(parser);
}

void resp_parser_next(struct resp_parser *parser)
{
    if (parser->arg_capacity > ARGS_CAPACITY_KEPT) {
        mem_free(parser->arg_list);
        mem_free(parser->args);
        parser->arg_list = NULL;
        parser->args = NULL;
        parser->arg_capacity = 0;
    }
    parser->inline_copy.size = 0;
    buf_trim(&parser->inline_copy, INLINE_CAPACITY_KEPT);
    parser->base = NULL;
    parser->arg_count = 0;
    parser->position = 0;
    parser->args_expected = -1;
    parser->bulk_expected = -1;
    parser->bulk_total = 0;
    parser->is_inline = false;
    parser->too_big = false;
    parser->restart = false;
    parser->drop_bytes = 0;
    parser->error[0] = 0;
}

static enum resp_status bad(struct resp_parser *parser, const char *what)
{
    (void)snprintf(parser->error, sizeof parser->error, "ERR Protocol error: %s", what);
    return RESP_BAD;
}

static void args_reserve(struct resp_parser *parser)
{
    if (parser->arg_count < parser->arg_capacity) return;
    uint64_t capacity = parser->arg_capacity * 2;
    if (capacity < ARGS_CAPACITY_MIN) capacity = ARGS_CAPACITY_MIN;
    parser->arg_list = mem_resize(parser->arg_list, capacity * sizeof *parser->arg_list);
    parser->args = mem_resize(parser->args, capacity * sizeof *parser->args);
    parser->arg_capacity = capacity;
}

static void args_add(struct resp_parser *parser, uint64_t offset, uint64_t size)
{
    args_reserve(parser);
    parser->arg_list[parser->arg_count++] = (struct resp_arg){.offset = offset, .size = size};
    parser->bulk_total += size;
}

/* The request is whole. Only now do the places become pointers: the caller's buffer may have moved
 * between the pieces. */
static enum resp_status finish(struct resp_parser *parser, const uint8_t *base)
{
    if (parser->too_big) {
        parser->arg_count = 0;
        return RESP_OK;
    }
    if (parser->base == base) return RESP_OK; /* Asked for again, and nothing has moved. */
    parser->base = base;
    for (uint32_t i = 0; i < parser->arg_count; i++) {
        const struct resp_arg *arg = &parser->arg_list[i];
        parser->args[i] = slice_of(base + arg->offset, arg->size);
    }
    return RESP_OK;
}

/* ---- inline requests ------------------------------------------------------------------------- */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

/* Takes one escape sequence of a double-quoted string; @at is behind the backslash. */
static const uint8_t *unescape(const uint8_t *at, const uint8_t *end, uint8_t *out)
{
    if (*at == 'x' && end - at >= 3 && hex_value(at[1]) >= 0 && hex_value(at[2]) >= 0) {
        *out = (uint8_t)(hex_value(at[1]) * 16 + hex_value(at[2]));
        return at + 3;
    }
    switch (*at) {
    case 'n': *out = '\n'; break;
    case 'r': *out = '\r'; break;
    case 't': *out = '\t'; break;
    case 'b': *out = '\b'; break;
    case 'a': *out = '\a'; break;
    default: *out = *at;
    }
    return at + 1;
}

/* Copies one quoted part, @at is behind its opening @quote. Gives the place behind the closing quote,
 * or NULL: it is missing, or is followed by something else than a space. */
static const uint8_t *take_quoted(const uint8_t *at, const uint8_t *end, uint8_t quote,
                                  struct buf *out)
{
    while (at < end && *at != quote) {
        uint8_t byte = *at++;
        if (byte == '\\' && at < end && quote == '"') {
            at = unescape(at, end, &byte);
        } else if (byte == '\\' && at < end && *at == '\'') {
            byte = *at++; /* The only escape within single quotes. */
        }
        *buf_extend(out, 1) = byte;
    }
    if (at == end) return NULL;
    at++;
    return at == end || is_space(*at) ? at : NULL;
}

/* Copies one word. A quote may open in its middle; vertical tab and form feed separate words only
 * where one could begin. Both are Redis' rules. */
static const uint8_t *take_word(const uint8_t *at, const uint8_t *end, struct buf *out)
{
    while (at < end && *at != ' ' && *at != '\t' && *at != '\r' && *at != '\n') {
        if (*at == '"' || *at == '\'') return take_quoted(at + 1, end, *at, out);
        *buf_extend(out, 1) = *at++;
    }
    return at;
}

static enum resp_status parse_inline(struct resp_parser *parser, const struct resp_limits *limits,
                                     struct slice data)
{
    const uint64_t reach = data.size <= limits->inline_max ? data.size : limits->inline_max + 1;
    const uint8_t *newline = memchr(data.data, '\n', reach);
    if (newline == NULL) {
        return data.size > limits->inline_max ? bad(parser, "too big inline request") : RESP_MORE;
    }
    const uint8_t *at = data.data;
    const uint8_t *end = newline > at && newline[-1] == '\r' ? newline - 1 : newline;
    struct buf *copy = &parser->inline_copy;
    /* A word never gets longer by unescaping, so the copy does not move while it is written. */
    (void)buf_reserve(copy, (uint64_t)(end - at) + 1);
    parser->is_inline = true;
    while (true) {
        while (at < end && is_space(*at)) at++;
        if (at == end) break;
        if (parser->arg_count >= limits->args_max) return bad(parser, "invalid multibulk length");
        const uint64_t offset = copy->size;
        at = take_word(at, end, copy);
        if (at == NULL) return bad(parser, "unbalanced quotes in request");
        args_add(parser, offset, copy->size - offset);
        if (copy->size - offset > limits->bulk_max) parser->too_big = true;
    }
    parser->position = (uint64_t)(newline - data.data) + 1;
    return finish(parser, copy->data);
}

/* ---- arrays of bulk strings ------------------------------------------------------------------ */

/* The line at position, which begins with a type byte: its size without the line's end. As in Redis
 * the byte behind CR is awaited but not looked at. */
static enum resp_status find_line(const struct resp_parser *parser,
                                  const struct resp_limits *limits, struct slice data,
                                  uint64_t *size)
{
    const uint8_t *line = data.data + parser->position;
    const uint64_t have = data.size - parser->position;
    const uint64_t reach = have <= limits->inline_max ? have : limits->inline_max + 1;
    const uint8_t *end = reach > 0 ? memchr(line, '\r', reach) : NULL;
    if (end == NULL) return have > limits->inline_max ? RESP_BAD : RESP_MORE;
    *size = (uint64_t)(end - line);
    return *size + 2 <= have ? RESP_OK : RESP_MORE;
}

/* Redis' strict decimal numbers, with the short way for the usual one to four digits. */
static bool parse_number(const uint8_t *text, uint64_t size, int64_t *value)
{
    if (size == 0 || size > NUMBER_SIZE_MAX) return false;
    if (size > 4 || text[0] < '1') return slice_int64(slice_of(text, size), value);
    int64_t number = 0;
    for (uint64_t i = 0; i < size; i++) {
        const uint8_t digit = (uint8_t)(text[i] - '0');
        if (digit > 9) return false;
        number = number * 10 + digit;
    }
    *value = number;
    return true;
}

static enum resp_status read_count(struct resp_parser *parser, const struct resp_limits *limits,
                                   struct slice data)
{
    uint64_t size = 0;
    int64_t count = 0;
    const enum resp_status status = find_line(parser, limits, data, &size);
    if (status == RESP_BAD) return bad(parser, "too big mbulk count string");
    if (status != RESP_OK) return status;
    if (!parse_number(data.data + parser->position + 1, size - 1, &count) || count > INT32_MAX ||
        (count > 0 && (uint64_t)count > limits->args_max)) {
        return bad(parser, "invalid multibulk length");
    }
    parser->position += size + 2;
    parser->args_expected = count > 0 ? count : 0;
    return RESP_OK;
}

static enum resp_status read_bulk_size(struct resp_parser *parser, const struct resp_limits *limits,
                                       struct slice data)
{
    uint64_t size = 0;
    int64_t bulk = 0;
    const enum resp_status status = find_line(parser, limits, data, &size);
    if (status == RESP_BAD) return bad(parser, "too big bulk count string");
    if (status != RESP_OK) return status;
    const uint8_t *line = data.data + parser->position;
    if (line[0] != '$') {
        char text[32];
        const char shown = (char)(line[0] == '\r' || line[0] == '\n' ? ' ' : line[0]);
        (void)snprintf(text, sizeof text, "expected '$', got '%c'", shown);
        return bad(parser, text);
    }
    if (!parse_number(line + 1, size - 1, &bulk) || bulk < 0 || bulk > (int64_t)RESP_BULK_MAX) {
        return bad(parser, "invalid bulk length");
    }
    parser->position += size + 2;
    parser->bulk_expected = bulk;
    return RESP_OK;
}

/* The request will be answered with an error: nothing of it is kept. Reads on from position, tells the
 * caller to drop what was read, and stops where the request ends. */
static enum resp_status drop_request(struct resp_parser *parser, const struct resp_limits *limits,
                                     struct slice data)
{
    while (true) {
        const uint64_t have = data.size - parser->position;
        const uint64_t dropped = parser->drop_bytes < have ? parser->drop_bytes : have;
        parser->position += dropped;
        parser->drop_bytes -= dropped;
        if (parser->drop_bytes > 0) break;
        if (parser->bulk_expected >= 0) { /* The argument is over. */
            parser->arg_count++;
            parser->bulk_expected = -1;
        }
        if (parser->arg_count == parser->args_expected) return finish(parser, data.data);
        const enum resp_status status = read_bulk_size(parser, limits, data);
        if (status == RESP_BAD) return status;
        if (status == RESP_MORE) break;
        parser->drop_bytes = (uint64_t)parser->bulk_expected + 2;
    }
    if (parser->position == 0) return RESP_MORE;
    parser->restart = true;
    return RESP_DROP;
}

static enum resp_status read_args(struct resp_parser *parser, const struct resp_limits *limits,
                                  struct slice data)
{
    while (parser->arg_count < parser->args_expected) {
        if (parser->bulk_expected < 0) {
            const enum resp_status status = read_bulk_size(parser, limits, data);
            if (status != RESP_OK) return status;
            if ((uint64_t)parser->bulk_expected > limits->bulk_max) {
                parser->too_big = true;
                parser->drop_bytes = (uint64_t)parser->bulk_expected + 2;
                return drop_request(parser, limits, data);
            }
        }
        const uint64_t size = (uint64_t)parser->bulk_expected;
        if (data.size - parser->position < size + 2) return RESP_MORE;
        args_add(parser, parser->position, size);
        parser->position += size +
                            2; /* As in Redis the CR LF behind an argument is not looked at. */
        parser->bulk_expected = -1;
    }
    return finish(parser, data.data);
}

enum resp_status resp_parse(struct resp_parser *parser, const struct resp_limits *limits,
                            struct slice data)
{
    if (parser->restart) {
        parser->restart = false;
        parser->position = 0;
    }
    CHECK(data.size >= parser->position);
    if (parser->too_big) return drop_request(parser, limits, data);
    if (parser->args_expected < 0) {
        if (data.size == 0) return RESP_MORE;
        if (data.data[0] != '*') return parse_inline(parser, limits, data);
        const enum resp_status status = read_count(parser, limits, data);
        if (status != RESP_OK) return status;
    }
    return read_args(parser, limits, data);
}

/* ---- replies: writing ------------------------------------------------------------------------ */

#define HEAD_SIZE_MAX (1 + NUMBER_SIZE_MAX + 2)

/* Writes @kind, @value and CR LF; gives the size. */
static uint64_t write_head(uint8_t *out, char kind, int64_t value)
{
    uint8_t digits[NUMBER_SIZE_MAX];
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint64_t count = 0;
    uint64_t size = 0;
    out[size++] = (uint8_t)kind;
    if (value < 0) out[size++] = '-';
    do {
        digits[count++] = (uint8_t)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude > 0);
    while (count > 0) out[size++] = digits[--count];
    out[size++] = '\r';
    out[size++] = '\n';
    return size;
}

static void put_head(struct buf *out, char kind, int64_t value)
{
    uint8_t *at = buf_reserve(out, HEAD_SIZE_MAX);
    out->size += write_head(at, kind, value);
}

/* A line of text; CR and LF within would end it early, so they become spaces. */
static void put_line(struct buf *out, char kind, const char *text)
{
    const uint64_t size = strlen(text);
    uint8_t *at = buf_extend(out, size + 3);
    *at++ = (uint8_t)kind;
    for (uint64_t i = 0; i < size; i++) {
        *at++ = (uint8_t)(text[i] == '\r' || text[i] == '\n' ? ' ' : text[i]);
    }
    *at++ = '\r';
    *at = '\n';
}

void resp_put_simple(struct buf *out, const char *text)
{
    put_line(out, '+', text);
}

void resp_put_error(struct buf *out, const char *text)
{
    put_line(out, '-', text);
}

void resp_put_int(struct buf *out, int64_t value)
{
    put_head(out, ':', value);
}

void resp_put_bulk(struct buf *out, struct slice bytes)
{
    uint8_t *at = buf_reserve(out, HEAD_SIZE_MAX + bytes.size + 2);
    at += write_head(at, '$', (int64_t)bytes.size);
    if (bytes.size > 0) memcpy(at, bytes.data, bytes.size);
    at += bytes.size;
    *at++ = '\r';
    *at++ = '\n';
    out->size = (uint64_t)(at - out->data);
}

void resp_put_text(struct buf *out, const char *text)
{
    resp_put_bulk(out, slice_text(text));
}

void resp_put_null(struct buf *out, int protocol)
{
    buf_text(out, protocol >= 3 ? "_\r\n" : "$-1\r\n");
}

void resp_put_null_array(struct buf *out, int protocol)
{
    buf_text(out, protocol >= 3 ? "_\r\n" : "*-1\r\n");
}

void resp_put_array(struct buf *out, uint64_t count)
{
    put_head(out, '*', (int64_t)count);
}

void resp_put_map(struct buf *out, uint64_t pairs, int protocol)
{
    if (protocol >= 3) {
        put_head(out, '%', (int64_t)pairs);
    } else {
        put_head(out, '*', (int64_t)(2 * pairs));
    }
}

void resp_put_set(struct buf *out, uint64_t count, int protocol)
{
    put_head(out, protocol >= 3 ? '~' : '*', (int64_t)count);
}

void resp_put_push(struct buf *out, uint64_t count, int protocol)
{
    put_head(out, protocol >= 3 ? '>' : '*', (int64_t)count);
}

void resp_put_verbatim(struct buf *out, struct slice text, int protocol)
{
    if (protocol < 3) {
        resp_put_bulk(out, text);
        return;
    }
    put_head(out, '=', (int64_t)text.size + 4);
    buf_text(out, "txt:");
    buf_append(out, text.data, text.size);
    buf_text(out, "\r\n");
}

/* ---- requests: writing ----------------------------------------------------------------------- */

void resp_put_command(struct buf *out, const struct slice *args, uint32_t count)
{
    resp_put_array(out, count);
    for (uint32_t i = 0; i < count; i++) resp_put_bulk(out, args[i]);
}
