/* resp.h - the Redis protocol, RESP2 and RESP3, both directions. Fed bytes, no input or output of its own.
 *
 * Source: the Redis protocol specification (https://redis.io/docs/latest/develop/reference/protocol-spec/).
 * Requests are arrays of bulk strings, or inline commands. Not thread-safe; everything is re-entrant. */
#ifndef KV_CLIENT_RESP_H
#define KV_CLIENT_RESP_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

enum resp_status {
    RESP_OK,   /* one whole request or reply */
    RESP_MORE, /* a valid beginning: call again with more bytes behind the same ones */
    RESP_BAD,  /* framing is lost: answer the error, then close */
    RESP_DROP, /* requests only: an argument is longer than bulk_max (but not than 512 MiB, which is RESP_BAD).
                * Drop the first `position` bytes of the input, then go on with what follows: call again, the
                * parser knows where it is. The request ends with RESP_OK, arg_count 0 and too_big true. */
};

/* ---- requests: the server's side ------------------------------------------------------------- */

struct resp_limits {
    uint64_t args_max; /* count */
    uint64_t bulk_max; /* bytes of one argument: a request with a longer one is read and dropped */
    uint64_t inline_max; /* bytes of an inline command */
};

/* The state of one connection's request parser. Keeps where it was, so that a big request that arrives in
 * many pieces is not read again from the start. */
struct resp_parser {
    struct resp_arg {
        uint64_t offset; /* from the start of the bytes of this request */
        uint64_t size;
    } * arg_list;
    uint64_t arg_capacity;
    struct slice *args;  /* valid after RESP_OK: borrow from the bytes given to resp_parse */
    const uint8_t *base; /* what args point into; NULL: not yet */
    uint32_t arg_count;
    uint64_t position;      /* bytes of this request read so far; after RESP_OK: all it takes */
    int64_t args_expected;  /* -1: the header is not read yet */
    int64_t bulk_expected;  /* -1: the length of the next argument is not read yet */
    uint64_t bulk_total;    /* bytes of all arguments so far */
    struct buf inline_copy; /* unescaped inline arguments */
    bool is_inline;
    bool too_big;        /* with RESP_OK: the request was dropped, see RESP_DROP */
    bool restart;        /* RESP_DROP was given: the next data begins behind what was dropped */
    uint64_t drop_bytes; /* of the argument being dropped, still to come */
    char error
        [128]; /* after RESP_BAD: Redis' text, e.g. "ERR Protocol error: invalid bulk length" */
};

void resp_parser_init(struct resp_parser *parser);
void resp_parser_close(struct resp_parser *parser);
/* @data is the start of the request, each time with all its bytes so far. After RESP_OK use args, then call
 * resp_parser_next() and go on behind position. An array may be asked for again before that, with the same bytes,
 * which costs nothing when they are at the same address. Empty requests (an empty line, "*0") give RESP_OK with
 * arg_count 0. Texts, limits and quirks are Redis 7's: "too big mbulk count string", "too big bulk count
 * string", "invalid multibulk length", "expected '$', got 'x'", "invalid bulk length", "too big inline
 * request", "unbalanced quotes in request". Two differences: the outcome never depends on how the bytes were
 * cut into pieces (Redis lets a long line pass that comes in one piece), and a zero byte in a line is a byte
 * like any other (Redis waits for ever). */
enum resp_status resp_parse(struct resp_parser *parser, const struct resp_limits *limits,
                            struct slice data);
void resp_parser_next(struct resp_parser *parser);

/* ---- replies: writing. @protocol is 2 or 3 --------------------------------------------------- */

void resp_put_simple(struct buf *out, const char *text); /* +OK */
void resp_put_error(struct buf *out, const char *text);  /* -ERR ...; CR and LF become spaces */
void resp_put_int(struct buf *out, int64_t value);       /* :1 */
void resp_put_bulk(struct buf *out, struct slice bytes); /* $2 ok */
void resp_put_text(struct buf *out, const char *text);   /* as bulk */
void resp_put_null(struct buf *out, int protocol);       /* $-1 or _ */
void resp_put_null_array(struct buf *out, int protocol); /* *-1 or _ */
void resp_put_array(struct buf *out, uint64_t count);    /* *n, then n elements */
void resp_put_map(struct buf *out, uint64_t pairs, int protocol);         /* *2n or %n */
void resp_put_set(struct buf *out, uint64_t count, int protocol);         /* *n or ~n */
void resp_put_push(struct buf *out, uint64_t count, int protocol);        /* *n or >n */
void resp_put_verbatim(struct buf *out, struct slice text, int protocol); /* bulk or =n txt: */

/* ---- requests: the client's side ------------------------------------------------------------- */

void resp_put_command(struct buf *out, const struct slice *args, uint32_t count);

/* ---- replies: reading ------------------------------------------------------------------------ */

/* This part (resp_read.c) is in the client library too: it calls nothing but libc and never aborts. */

enum resp_kind {
    RESP_SIMPLE = '+',
    RESP_ERROR = '-',
    RESP_INT = ':',
    RESP_BULK = '$',
    RESP_ARRAY = '*',
    RESP_NULL = '_',
    RESP_BOOL = '#',
    RESP_DOUBLE = ',',
    RESP_BIG = '(',
    RESP_BULK_ERROR = '!',
    RESP_VERBATIM = '=',
    RESP_MAP = '%',
    RESP_SET = '~',
    RESP_PUSH = '>',
    RESP_ATTRIBUTE =
        '|', /* never in a reply: attributes are read and left out, as the protocol allows */
};

/* One element of a reply, flat: an aggregate is followed by its elements (a map by twice its count). */
struct resp_node {
    enum resp_kind kind;
    uint64_t count;    /* of an aggregate */
    int64_t integer;   /* of :, and 0 or 1 of # */
    double number;     /* of , */
    struct slice text; /* of + - $ ( ! = and the digits of , and : ; borrows from the input */
    uint32_t span;     /* nodes that this one takes, itself and all within */
};
struct resp_reply {
    struct resp_node *nodes;
    uint32_t count;
    uint32_t capacity;
    uint64_t size; /* bytes of the reply */
    /* Memory for the nodes: as realloc, and frees for size 0. NULL: realloc and free of libc. When it gives
     * NULL, resp_read returns RESP_BAD with no_memory set. */
    void *(*resize)(void *context, void *pointer, uint64_t size);
    void *resize_context;
    bool no_memory;
};
#define RESP_DEPTH_MAX 32u
#define RESP_NODES_MAX (4u * 1024u * 1024u)
#define RESP_BULK_MAX (512u * 1024u * 1024u)

/* Reads one whole reply from the start of @data. RESP2 nulls ($-1, *-1) become RESP_NULL. Bounds: depth, nodes. */
enum resp_status resp_read(struct resp_reply *reply, struct slice data);
void resp_reply_close(struct resp_reply *reply); /* keeps resize */
/* Bytes of the whole reply at the start of @data without building it; RESP_MORE, RESP_BAD as above. */
enum resp_status resp_skip(struct slice data, uint64_t *size);

/* The same for a reply that arrives in pieces: goes on where it was, so that a long array is looked at once.
 * All zero to begin with; after RESP_OK position is the size of the reply, and the scan is zeroed for the next. */
struct resp_scan {
    uint64_t position;             /* bytes of the elements read so far */
    uint64_t nodes;                /* elements read so far */
    uint32_t depth;                /* aggregates that are open */
    uint64_t left[RESP_DEPTH_MAX]; /* elements that each of them still waits for */
    uint32_t attribute_mask;       /* bit n: the aggregate at depth n is an attribute */
};
enum resp_status resp_scan(struct resp_scan *scan, struct slice data);

#endif
