/* The reading side of the protocol. The client library has it too, so nothing here aborts or calls more
 * than libc: a failed allocation is a result. */
#include "client/resp.h"

#include <locale.h>
#include <stdlib.h>

#define LINE_SIZE_MAX 65536u /* bytes of a line: longer texts come as bulk strings */
#define LINE_NUMBER_MAX 128u /* bytes of the text of a double */
#define CAPACITY_MIN 16u

/* The head of one element: what it is, where its bytes are and where the next element begins. */
struct head {
    uint64_t end; /* offset behind the element; of an aggregate behind its head */
    bool is_aggregate;
    struct resp_node node;
};

/* The text between the type byte at @at and CR LF. */
static enum resp_status read_line(struct slice data, uint64_t at, struct slice *line)
{
    const uint8_t *start = data.data + at + 1;
    const uint64_t have = data.size - at - 1;
    const uint64_t reach = have <= LINE_SIZE_MAX ? have : LINE_SIZE_MAX + 1;
    const uint8_t *end = reach > 0 ? memchr(start, '\r', reach) : NULL;
    const uint64_t size = end != NULL ? (uint64_t)(end - start) : reach;
    if (size > LINE_SIZE_MAX) return RESP_BAD;
    if (size > 0 && memchr(start, '\n', size) != NULL) return RESP_BAD;
    if (end == NULL || size + 1 == have) return RESP_MORE;
    if (end[1] != '\n') return RESP_BAD;
    *line = slice_of(start, size);
    return RESP_OK;
}

static bool digits_only(struct slice text)
{
    for (uint64_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
    }
    return text.size > 0;
}

static bool read_integer(struct slice text, int64_t *value)
{
    uint64_t magnitude = 0;
    uint64_t first = 0;
    if (text.size > 0 && (text.data[0] == '-' || text.data[0] == '+')) first = 1;
    const bool negative = first == 1 && text.data[0] == '-';
    if (text.size == first || text.size > 21) return false;
    for (uint64_t i = first; i < text.size; i++) {
        const uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9) return false;
        if (__builtin_mul_overflow(magnitude, 10, &magnitude)) return false;
        if (__builtin_add_overflow(magnitude, digit, &magnitude)) return false;
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) return false;
    *value = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

/* Independent of the program's locale: a library must not read "1.5" differently in a German shell. */
static bool read_double(struct slice text, double *number)
{
    char copy[LINE_NUMBER_MAX + 1];
    char *end = NULL;
    if (text.size == 0 || text.size > LINE_NUMBER_MAX) return false;
    for (uint64_t i = 0; i < text.size; i++) {
        /* strtod also knows spaces, hexadecimal numbers and "nan(...)": only these bytes are asked. */
        if (text.data[i] == 0 || strchr("0123456789+-.eEinfatyINFATY", text.data[i]) == NULL) {
            return false;
        }
        copy[i] = (char)text.data[i];
    }
    copy[text.size] = 0;
    /* The locale "C" is a constant of the C library: nothing is allocated and nothing is to be freed. */
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) return false;
    *number = strtod_l(copy, &end, plain);
    freelocale(plain);
    return *end == 0;
}

static enum resp_status read_bulk(struct slice data, struct slice line, struct head *head)
{
    int64_t size = 0;
    if (!read_integer(line, &size)) return RESP_BAD;
    if (size == -1 && head->node.kind == RESP_BULK) {
        head->node.kind = RESP_NULL;
        return RESP_OK;
    }
    if (size < 0 || size > (int64_t)RESP_BULK_MAX) return RESP_BAD;
    const uint64_t have = data.size - head->end;
    const uint8_t *start = data.data + head->end;
    if (have > (uint64_t)size && start[size] != '\r') return RESP_BAD;
    if (have < (uint64_t)size + 2) return RESP_MORE;
    if (start[size + 1] != '\n') return RESP_BAD;
    head->end += (uint64_t)size + 2;
    head->node.text = slice_of(start, (uint64_t)size);
    if (head->node.kind == RESP_VERBATIM) { /* "txt:" and the like stand before the text. */
        if (size < 4 || start[3] != ':') return RESP_BAD;
        head->node.text = slice_of(start + 4, (uint64_t)size - 4);
    }
    return RESP_OK;
}

static enum resp_status read_aggregate(struct slice line, struct head *head)
{
    int64_t count = 0;
    if (!read_integer(line, &count)) return RESP_BAD;
    if (count == -1 && head->node.kind == RESP_ARRAY) {
        head->node.kind = RESP_NULL;
        return RESP_OK;
    }
    if (count < 0 || count > (int64_t)RESP_NODES_MAX) return RESP_BAD;
    head->node.count = (uint64_t)count;
    head->is_aggregate = true;
    return RESP_OK;
}

static enum resp_status read_scalar(struct slice line, struct resp_node *node)
{
    bool good = true;
    struct slice digits = line;
    node->text = line;
    switch (node->kind) {
    case RESP_INT: good = read_integer(line, &node->integer); break;
    case RESP_NULL: good = line.size == 0; break;
    case RESP_BOOL:
        good = line.size == 1 && (line.data[0] == 't' || line.data[0] == 'f');
        node->integer = good && line.data[0] == 't';
        break;
    case RESP_DOUBLE: good = read_double(line, &node->number); break;
    case RESP_BIG:
        if (line.size > 0 && (line.data[0] == '-' || line.data[0] == '+')) {
            digits = slice_of(line.data + 1, line.size - 1);
        }
        good = digits_only(digits);
        break;
    default: break;
    }
    return good ? RESP_OK : RESP_BAD;
}

/* Reads the element at @at; of an aggregate only its head. */
static enum resp_status read_head(struct slice data, uint64_t at, struct head *head)
{
    struct slice line;
    *head = (struct head){.end = at};
    if (at >= data.size) return RESP_MORE;
    const uint8_t kind = data.data[at];
    if (kind == 0 || strchr("+-:$*_#,(!=%~>|", kind) == NULL) return RESP_BAD;
    const enum resp_status status = read_line(data, at, &line);
    if (status != RESP_OK) return status;
    head->node.kind = (enum resp_kind)kind;
    head->node.span = 1;
    head->end = at + 1 + line.size + 2;
    switch (head->node.kind) {
    case RESP_BULK:
    case RESP_BULK_ERROR:
    case RESP_VERBATIM: return read_bulk(data, line, head);
    case RESP_ARRAY:
    case RESP_MAP:
    case RESP_SET:
    case RESP_PUSH:
    case RESP_ATTRIBUTE: return read_aggregate(line, head);
    default: return read_scalar(line, &head->node);
    }
}

/* ---- whole replies --------------------------------------------------------------------------- */

static bool open_is_attribute(const struct resp_scan *scan)
{
    return (scan->attribute_mask >> (scan->depth - 1) & 1u) != 0;
}

static bool scan_open(struct resp_scan *scan, const struct resp_node *node)
{
    if (scan->depth == RESP_DEPTH_MAX) return false;
    const bool pairs = node->kind == RESP_MAP || node->kind == RESP_ATTRIBUTE;
    const uint32_t bit = 1u << scan->depth;
    scan->attribute_mask &= ~bit;
    if (node->kind == RESP_ATTRIBUTE) scan->attribute_mask |= bit;
    scan->left[scan->depth++] = pairs ? 2 * node->count : node->count;
    return true;
}

static bool node_append(struct resp_reply *reply, const struct resp_node *node)
{
    if (reply->count == reply->capacity) {
        const uint32_t capacity = reply->capacity < CAPACITY_MIN ? CAPACITY_MIN
                                                                 : reply->capacity * 2;
        const uint64_t size = capacity * sizeof *reply->nodes;
        struct resp_node *nodes = reply->resize != NULL
                                      ? reply->resize(reply->resize_context, reply->nodes, size)
                                      : realloc(reply->nodes, size);
        if (nodes == NULL) {
            reply->no_memory = true;
            return false;
        }
        reply->nodes = nodes;
        reply->capacity = capacity;
    }
    reply->nodes[reply->count++] = *node;
    return true;
}

/* An aggregate is complete: gives it its span; an attribute disappears with all that is in it. */
static void node_close(struct resp_reply *reply, uint32_t opened_at, bool is_attribute)
{
    if (is_attribute) {
        reply->count = opened_at;
    } else {
        reply->nodes[opened_at].span = reply->count - opened_at;
    }
}

/* Reads on until the reply is whole. With @reply (and @scan at the start) its nodes are kept. */
static enum resp_status scan_on(struct resp_scan *scan, struct slice data, struct resp_reply *reply)
{
    uint32_t opened_at[RESP_DEPTH_MAX] = {0};
    while (true) {
        struct head head;
        const enum resp_status status = read_head(data, scan->position, &head);
        if (status != RESP_OK) return status;
        if (scan->nodes == RESP_NODES_MAX) return RESP_BAD;
        if (reply != NULL && !node_append(reply, &head.node)) return RESP_BAD;
        scan->position = head.end;
        scan->nodes++;
        bool whole = true; /* the element just read counts as one of those its parent waits for */
        if (head.is_aggregate) {
            if (!scan_open(scan, &head.node)) return RESP_BAD;
            if (reply != NULL) opened_at[scan->depth - 1] = reply->count - 1;
            whole = false;
        }
        while (true) {
            if (whole && scan->depth == 0) return RESP_OK;
            if (whole) scan->left[scan->depth - 1]--;
            if (scan->depth == 0 || scan->left[scan->depth - 1] > 0) break;
            const bool is_attribute = open_is_attribute(scan);
            scan->depth--;
            if (reply != NULL) node_close(reply, opened_at[scan->depth], is_attribute);
            whole = !is_attribute; /* An attribute stands before an element and is none itself. */
        }
    }
}

enum resp_status resp_scan(struct resp_scan *scan, struct slice data)
{
    return scan_on(scan, data, NULL);
}

enum resp_status resp_skip(struct slice data, uint64_t *size)
{
    struct resp_scan scan = {0};
    const enum resp_status status = scan_on(&scan, data, NULL);
    if (status == RESP_OK) *size = scan.position;
    return status;
}

enum resp_status resp_read(struct resp_reply *reply, struct slice data)
{
    struct resp_scan scan = {0};
    reply->count = 0;
    reply->size = 0;
    reply->no_memory = false;
    const enum resp_status status = scan_on(&scan, data, reply);
    if (status == RESP_OK) reply->size = scan.position;
    return status;
}

void resp_reply_close(struct resp_reply *reply)
{
    if (reply->resize != NULL && reply->nodes != NULL) {
        (void)reply->resize(reply->resize_context, reply->nodes, 0);
    } else if (reply->resize == NULL) {
        free(reply->nodes);
    }
    *reply = (struct resp_reply){.resize = reply->resize, .resize_context = reply->resize_context};
}
