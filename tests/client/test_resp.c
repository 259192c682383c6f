/* The protocol: requests as the server reads them, replies as both sides do. Expected texts are those of a
 * Redis 7.0.15 server given the same bytes. */
#include "client/resp.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/mem.h"
#include "tests/test.h"

static const struct resp_limits test_limits = {
    .args_max = 131072, .bulk_max = 8u * 1024 * 1024, .inline_max = 64u * 1024};

/* ---- requests -------------------------------------------------------------------------------- */

static void show_bytes(struct buf *out, struct slice bytes)
{
    for (uint64_t i = 0; i < bytes.size; i++) {
        const uint8_t byte = bytes.data[i];
        if (byte >= ' ' && byte < 127) {
            buf_u8(out, byte);
        } else {
            buf_printf(out, "\\%02x", byte);
        }
    }
}

/* A connection: what has come and is not consumed, in a block of exactly that size, so that the
 * sanitizer sees every read behind its end and a buffer that moves between the pieces. */
struct wire {
    struct resp_parser parser;
    uint8_t *data;
    uint64_t size;
    bool bad;
    struct buf shown; /* "[SET|k|v][]<too big>" and so on */
};

static void wire_consume(struct wire *wire, uint64_t size)
{
    EXPECT_TRUE(size <= wire->size);
    uint8_t *rest = malloc(wire->size - size + 1);
    memcpy(rest, wire->data + size, wire->size - size);
    free(wire->data);
    wire->data = rest;
    wire->size -= size;
}

static void wire_show_request(struct wire *wire)
{
    const struct resp_parser *parser = &wire->parser;
    buf_text(&wire->shown, parser->too_big ? "<too big" : "[");
    for (uint32_t i = 0; i < parser->arg_count; i++) {
        if (i > 0) buf_text(&wire->shown, "|");
        show_bytes(&wire->shown, parser->args[i]);
    }
    buf_text(&wire->shown, parser->too_big ? ">" : "]");
}

static void wire_feed(struct wire *wire, const struct resp_limits *limits, struct slice piece)
{
    uint8_t *grown = malloc(wire->size + piece.size);
    if (wire->size > 0) memcpy(grown, wire->data, wire->size);
    if (piece.size > 0) memcpy(grown + wire->size, piece.data, piece.size);
    free(wire->data);
    wire->data = grown;
    wire->size += piece.size;
    while (!wire->bad) {
        const enum resp_status status = resp_parse(&wire->parser, limits,
                                                   slice_of(wire->data, wire->size));
        if (status == RESP_MORE) return;
        if (status == RESP_BAD) {
            wire->bad = true;
            buf_printf(&wire->shown, "!%s", wire->parser.error);
            return;
        }
        const uint64_t position = wire->parser.position;
        EXPECT_TRUE(position > 0);
        if (status == RESP_OK) {
            wire_show_request(wire);
            resp_parser_next(&wire->parser);
        }
        wire_consume(wire, position);
    }
}

static void wire_close(struct wire *wire)
{
    resp_parser_close(&wire->parser);
    buf_close(&wire->shown);
    free(wire->data);
}

/* Feeds @input cut at @cuts (ascending, @cut_count) and expects @want. */
static void expect_cut(struct slice input, const struct resp_limits *limits, const uint64_t *cuts,
                       uint32_t cut_count, const char *want)
{
    struct wire wire = {0};
    uint64_t from = 0;
    resp_parser_init(&wire.parser);
    for (uint32_t i = 0; i <= cut_count; i++) {
        const uint64_t to = i < cut_count ? cuts[i] : input.size;
        wire_feed(&wire, limits, slice_of(input.data + from, to - from));
        from = to;
    }
    buf_u8(&wire.shown, 0);
    EXPECT_TEXT((const char *)wire.shown.data, want);
    wire_close(&wire);
}

static void expect_requests_of(struct slice input, const struct resp_limits *limits,
                               const char *want)
{
    uint64_t *each = malloc((input.size + 1) * sizeof *each);
    expect_cut(input, limits, NULL, 0, want);
    for (uint64_t cut = 0; cut <= input.size; cut++) expect_cut(input, limits, &cut, 1, want);
    for (uint64_t i = 0; i < input.size; i++) each[i] = i;
    expect_cut(input, limits, each, (uint32_t)input.size, want);
    free(each);
}

static void expect_requests(const char *input, const char *want)
{
    expect_requests_of(slice_text(input), &test_limits, want);
}

TEST(resp, requests_at_every_split_point)
{
    expect_requests("*1\r\n$4\r\nPING\r\n", "[PING]");
    expect_requests("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
                    "[SET|k|][GET|k]");
    expect_requests("*2\r\n$3\r\nGET\r\n$6\r\n\r\n$1\r\n\r\n", "[GET|\\0d\\0a$1\\0d\\0a]");
    expect_requests("*3\r\n$11\r\nabcdefghijk\r\n$10\r\n0123456789\r\n$1\r\nx\r\n*0\r\nPING\r\n",
                    "[abcdefghijk|0123456789|x][][PING]");
}

TEST(resp, empty_requests_are_whole)
{
    expect_requests("*0\r\n", "[]");
    expect_requests("*-1\r\n*-10\r\n\r\n\n", "[][][][]");
}

TEST(resp, line_ends_are_as_lenient_as_redis)
{
    /* Only the CR is looked for; what follows an argument is skipped unseen. */
    expect_requests("*1\rx$4\ryPINGzz*1\r\n$4\r\nPING\r\n", "[PING][PING]");
}

TEST(resp, malformed_counts)
{
    const char *want = "!ERR Protocol error: invalid multibulk length";
    expect_requests("*\r\n", want);
    expect_requests("*x\r\n", want);
    expect_requests("*+1\r\n", want);
    expect_requests("*01\r\n", want);
    expect_requests("*-0\r\n", want);
    expect_requests("* 1\r\n", want);
    expect_requests("*1 \r\n", want);
    expect_requests("*2147483648\r\n", want);
    expect_requests("*9223372036854775808\r\n", want);
    expect_requests("*100000000000000000000000\r\n", want);
    expect_requests("*131073\r\n", want);
    expect_requests("*131072\r\n", "");
    expect_requests("*1x34567\r\n", want);
}

TEST(resp, malformed_sizes)
{
    const char *want = "!ERR Protocol error: invalid bulk length";
    expect_requests("*1\r\n$\r\n", want);
    expect_requests("*1\r\n$-1\r\n", want);
    expect_requests("*1\r\n$x\r\n", want);
    expect_requests("*1\r\n$1x\r\n", want);
    expect_requests("*1\r\n$03\r\n", want);
    expect_requests("*1\r\n$536870913\r\n", want);
    expect_requests("*1\r\n$9223372036854775807\r\n", want);
    expect_requests("*2\r\n$1\r\na\r\n$18446744073709551616\r\n", want);
}

TEST(resp, wrong_type_of_argument_is_named)
{
    expect_requests("*1\r\n:1\r\n", "!ERR Protocol error: expected '$', got ':'");
    expect_requests("*1\r\nGET\r\n", "!ERR Protocol error: expected '$', got 'G'");
    expect_requests("*1\r\n\r\n", "!ERR Protocol error: expected '$', got ' '");
    expect_requests("*1\r\n\n\r\n", "!ERR Protocol error: expected '$', got ' '");
    expect_requests("*2\r\n$4\r\nPING\r\n*1\r\n", "!ERR Protocol error: expected '$', got '*'");
}

/* @head, then @count times 'x', then @tail. */
static struct buf padded(const char *head, uint64_t count, const char *tail)
{
    struct buf out = {0};
    buf_text(&out, head);
    memset(buf_extend(&out, count), 'x', count);
    buf_text(&out, tail);
    return out;
}

static void expect_padded(const char *head, uint64_t count, const char *tail, const char *want)
{
    struct buf input = padded(head, count, tail);
    uint64_t cuts[2] = {1, input.size - 1};
    expect_cut(buf_slice(&input), &test_limits, NULL, 0, want);
    expect_cut(buf_slice(&input), &test_limits, cuts, 2, want);
    buf_close(&input);
}

TEST(resp, lines_without_end_are_refused)
{
    expect_padded("*", 65536, "", "!ERR Protocol error: too big mbulk count string");
    expect_padded("*", 65536, "\r\n", "!ERR Protocol error: too big mbulk count string");
    expect_padded("*", 65535, "", "");
    expect_padded("*", 65535, "\r\n", "!ERR Protocol error: invalid multibulk length");
    expect_padded("*1\r\n$", 65536, "", "!ERR Protocol error: too big bulk count string");
    expect_padded("*1\r\n$", 65535, "\r\n", "!ERR Protocol error: invalid bulk length");
    expect_padded("", 65537, "", "!ERR Protocol error: too big inline request");
    expect_padded("", 65537, "\n", "!ERR Protocol error: too big inline request");
    expect_padded("", 65536, "", "");
}

TEST(resp, longest_inline_request_is_taken)
{
    struct buf input = padded("", 65536, "\n");
    struct resp_parser parser;
    resp_parser_init(&parser);
    EXPECT_EQ(resp_parse(&parser, &test_limits, buf_slice(&input)), RESP_OK);
    EXPECT_EQ(parser.arg_count, 1);
    EXPECT_EQ(parser.args[0].size, 65536);
    EXPECT_EQ(parser.position, 65537);
    EXPECT_TRUE(parser.is_inline);
    resp_parser_close(&parser);
    buf_close(&input);
}

TEST(resp, inline_requests_are_split_as_redis_does)
{
    expect_requests("PING\r\n", "[PING]");
    expect_requests("  SET \t k\v  v \n", "[SET|k\\0b|v]");
    expect_requests("\v\f a\r\n", "[a]");
    expect_requests("a\rb\n", "[a|b]");
    expect_requests("SET k \"a b\"\r\n", "[SET|k|a b]");
    expect_requests("x pre\"a b\"\r\n", "[x|prea b]");
    expect_requests("x \"\" ''\r\n", "[x||]");
    expect_requests("x \"\\x41\\n\\r\\t\\b\\a\\q\\\"\\\\\"\r\n", "[x|A\\0a\\0d\\09\\08\\07q\"\\]");
    expect_requests("x \"\\x4\" \"\\xzz\"\r\n", "[x|x4|xzz]");
    expect_requests("x 'a\\'b\\n' it\\'s' \r\n", "[x|a'b\\n|it\\s]");
}

TEST(resp, unbalanced_quotes_are_refused)
{
    const char *want = "!ERR Protocol error: unbalanced quotes in request";
    expect_requests("\"\r\n", want);
    expect_requests("x \"abc\r\n", want);
    expect_requests("x 'abc\r\n", want);
    expect_requests("x \"a\"b\r\n", want);
    expect_requests("x 'a'b\r\n", want);
    expect_requests("x \"a\\\r\n", want);
    expect_requests("x \"a\\\"\r\n", want);
    expect_requests("x 'a\\'\r\n", want);
}

TEST(resp, zero_bytes_are_ordinary)
{
    expect_requests_of(slice_of("a\0b c\n", 6), &test_limits, "[a\\00b|c]");
    expect_requests_of(slice_of("*1\r\n$3\r\n\0\0\0\r\n", 13), &test_limits, "[\\00\\00\\00]");
    expect_requests_of(slice_of("*\0\r\n", 4), &test_limits,
                       "!ERR Protocol error: invalid multibulk length");
}

TEST(resp, too_long_arguments_are_dropped_and_the_next_request_is_read)
{
    const struct resp_limits small = {.args_max = 8, .bulk_max = 5, .inline_max = 40};
    expect_requests_of(
        slice_text("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\n123456\r\n*1\r\n$4\r\nPING\r\n"), &small,
        "<too big>[PING]");
    expect_requests_of(
        slice_text("*3\r\n$9\r\n*1\r\n$1\r\nx\r\n$6\r\n123456\r\n$1\r\ny\r\nPING\r\n"), &small,
        "<too big>[PING]");
    expect_requests_of(slice_text("*1\r\n$6\r\nabcdef\r\n"), &small, "<too big>");
    expect_requests_of(slice_text("*2\r\n$6\r\nabcdef\r\n:1\r\n"), &small,
                       "!ERR Protocol error: expected '$', got ':'");
    expect_requests_of(slice_text("*2\r\n$6\r\nabcdef\r\n$-1\r\n"), &small,
                       "!ERR Protocol error: invalid bulk length");
    expect_requests_of(slice_text("SET k 123456\nPING\n"), &small, "<too big>[PING]");
}

TEST(resp, a_dropped_argument_takes_no_memory)
{
    const struct resp_limits small = {.args_max = 8, .bulk_max = 1000, .inline_max = 64};
    struct resp_parser parser;
    uint8_t block[4096];
    uint64_t left = RESP_BULK_MAX + 2;
    memset(block, 'x', sizeof block);
    resp_parser_init(&parser);
    EXPECT_EQ(resp_parse(&parser, &small, slice_text("*1\r\n$536870912\r\n")), RESP_DROP);
    EXPECT_EQ(parser.position, 16);
    const uint64_t used = mem_used();
    while (left > sizeof block) {
        EXPECT_EQ(resp_parse(&parser, &small, slice_of(block, sizeof block)), RESP_DROP);
        EXPECT_EQ(parser.position, sizeof block);
        left -= sizeof block;
    }
    EXPECT_EQ(resp_parse(&parser, &small, slice_of(NULL, 0)), RESP_MORE);
    EXPECT_EQ(resp_parse(&parser, &small, slice_of(block, sizeof block)), RESP_OK);
    EXPECT_EQ(parser.position, left);
    EXPECT_TRUE(parser.too_big);
    EXPECT_EQ(parser.arg_count, 0);
    EXPECT_EQ(mem_used(), used);
    resp_parser_close(&parser);
}

TEST(resp, most_arguments_arrive_and_their_memory_is_given_back)
{
    struct buf input = {0};
    struct resp_parser parser;
    resp_put_array(&input, test_limits.args_max);
    for (uint64_t i = 0; i < test_limits.args_max; i++) resp_put_text(&input, "a");
    const uint64_t used = mem_used();
    resp_parser_init(&parser);
    /* Announcing many costs nothing before they come. */
    EXPECT_EQ(resp_parse(&parser, &test_limits, slice_of(input.data, 9)), RESP_MORE);
    EXPECT_EQ(mem_used(), used);
    EXPECT_EQ(resp_parse(&parser, &test_limits, buf_slice(&input)), RESP_OK);
    EXPECT_EQ(parser.arg_count, test_limits.args_max);
    EXPECT_EQ(parser.bulk_total, test_limits.args_max);
    resp_parser_next(&parser);
    EXPECT_EQ(mem_used(), used);
    resp_parser_close(&parser);
    buf_close(&input);
}

TEST(resp, small_requests_allocate_nothing_once_warm)
{
    struct resp_parser parser;
    const struct slice get = slice_text("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
    const struct slice inline_get = slice_text("GET \"key\"\r\n");
    resp_parser_init(&parser);
    uint64_t used = 0;
    uint8_t *places[2] = {0};
    for (uint32_t i = 0; i < 100; i++) {
        EXPECT_EQ(resp_parse(&parser, &test_limits, get), RESP_OK);
        resp_parser_next(&parser);
        EXPECT_EQ(resp_parse(&parser, &test_limits, inline_get), RESP_OK);
        resp_parser_next(&parser);
        if (i == 0) {
            used = mem_used();
            places[0] = (uint8_t *)parser.arg_list;
            places[1] = parser.inline_copy.data;
        }
        EXPECT_EQ(mem_used(), used);
        EXPECT_TRUE(places[0] == (uint8_t *)parser.arg_list);
        EXPECT_TRUE(places[1] == parser.inline_copy.data);
    }
    resp_parser_close(&parser);
}

TEST(resp, commands_come_back_as_they_were_put)
{
    struct buf out = {0};
    const struct slice args[3] = {slice_text("SET"), slice_of("\0\r\n", 3), slice_of(NULL, 0)};
    resp_put_command(&out, args, 3);
    expect_requests_of(buf_slice(&out), &test_limits, "[SET|\\00\\0d\\0a|]");
    buf_close(&out);
}

/* ---- replies: writing ------------------------------------------------------------------------ */

static void expect_written(struct buf *out, const char *want)
{
    buf_u8(out, 0);
    EXPECT_TEXT((const char *)out->data, want);
    buf_close(out);
}

TEST(resp, replies_in_protocol_2)
{
    struct buf out = {0};
    resp_put_simple(&out, "OK");
    resp_put_error(&out, "ERR a\r\nb");
    resp_put_int(&out, 0);
    resp_put_int(&out, INT64_MIN);
    resp_put_int(&out, INT64_MAX);
    resp_put_bulk(&out, slice_of("a\nb", 3));
    resp_put_text(&out, "");
    resp_put_null(&out, 2);
    resp_put_null_array(&out, 2);
    resp_put_array(&out, 0);
    resp_put_map(&out, 2, 2);
    resp_put_set(&out, 3, 2);
    resp_put_push(&out, 4, 2);
    resp_put_verbatim(&out, slice_text("x"), 2);
    expect_written(&out, "+OK\r\n-ERR a  b\r\n:0\r\n:-9223372036854775808\r\n"
                         ":9223372036854775807\r\n$3\r\na\nb\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n"
                         "*4\r\n*3\r\n*4\r\n$1\r\nx\r\n");
}

TEST(resp, replies_in_protocol_3)
{
    struct buf out = {0};
    resp_put_null(&out, 3);
    resp_put_null_array(&out, 3);
    resp_put_map(&out, 2, 3);
    resp_put_set(&out, 3, 3);
    resp_put_push(&out, 4, 3);
    resp_put_verbatim(&out, slice_text("x"), 3);
    expect_written(&out, "_\r\n_\r\n%2\r\n~3\r\n>4\r\n=5\r\ntxt:x\r\n");
}

/* ---- replies: reading ------------------------------------------------------------------------ */

static void show_reply(const struct resp_reply *reply, struct buf *out)
{
    for (uint32_t i = 0; i < reply->count; i++) {
        const struct resp_node *node = &reply->nodes[i];
        buf_printf(out, "%c", (int)node->kind);
        switch (node->kind) {
        case RESP_ARRAY:
        case RESP_MAP:
        case RESP_SET:
        case RESP_PUSH:
            buf_printf(out, "%llu/%u", (unsigned long long)node->count, node->span);
            break;
        case RESP_INT:
        case RESP_BOOL: buf_printf(out, "%lld", (long long)node->integer); break;
        case RESP_DOUBLE: buf_printf(out, "%g", node->number); break;
        default: show_bytes(out, node->text);
        }
        buf_text(out, " ");
    }
}

/* Every proper beginning asks for more; the whole gives @want whatever stands behind it. */
static void expect_reply(const char *input, const char *want)
{
    struct resp_reply reply = {0};
    struct resp_scan scan = {0};
    struct buf shown = {0};
    const uint64_t size = strlen(input);
    for (uint64_t have = 0; have <= size; have++) {
        uint8_t *copy = malloc(have + 1);
        uint64_t skipped = 0;
        memcpy(copy, input, have);
        const enum resp_status status = have < size ? RESP_MORE : RESP_OK;
        /* One byte less than allocated, so that slices of no bytes have a place as well. */
        EXPECT_EQ(resp_read(&reply, slice_of(copy, have)), status);
        EXPECT_EQ(resp_skip(slice_of(copy, have), &skipped), status);
        EXPECT_EQ(resp_scan(&scan, slice_of(copy, have)), status);
        if (have == size) {
            EXPECT_EQ(reply.size, size);
            EXPECT_EQ(skipped, size);
            EXPECT_EQ(scan.position, size);
            show_reply(&reply, &shown);
            buf_u8(&shown, 0);
            EXPECT_TEXT((const char *)shown.data, want);
        }
        free(copy);
    }
    resp_reply_close(&reply);
    buf_close(&shown);
}

/* @input is refused as soon as its last byte is there. */
static void expect_refused(const char *input)
{
    struct resp_reply reply = {0};
    uint64_t size = 0;
    EXPECT_EQ(resp_read(&reply, slice_of(input, strlen(input) - 1)), RESP_MORE);
    EXPECT_EQ(resp_read(&reply, slice_text(input)), RESP_BAD);
    EXPECT_FALSE(reply.no_memory);
    EXPECT_EQ(resp_skip(slice_text(input), &size), RESP_BAD);
    resp_reply_close(&reply);
}

TEST(resp, replies_of_every_type_are_read)
{
    expect_reply("+OK\r\n", "+OK ");
    expect_reply("+\r\n", "+ ");
    expect_reply("-ERR x\r\n", "-ERR x ");
    expect_reply(":-9223372036854775808\r\n", ":-9223372036854775808 ");
    expect_reply(":+5\r\n", ":5 ");
    expect_reply("$0\r\n\r\n", "$ ");
    expect_reply("$4\r\na\r\nb\r\n", "$a\\0d\\0ab ");
    expect_reply("$-1\r\n", "_ ");
    expect_reply("*-1\r\n", "_ ");
    expect_reply("_\r\n", "_ ");
    expect_reply("#t\r\n", "#1 ");
    expect_reply("#f\r\n", "#0 ");
    expect_reply(",1.5\r\n", ",1.5 ");
    expect_reply(",-inf\r\n", ",-inf ");
    expect_reply(",inf\r\n", ",inf ");
    expect_reply(",nan\r\n", ",nan ");
    expect_reply(",1e10\r\n", ",1e+10 ");
    expect_reply("(-3492890328409238509324850943850943825024385\r\n",
                 "(-3492890328409238509324850943850943825024385 ");
    expect_reply("!5\r\nERR x\r\n", "!ERR x ");
    expect_reply("=7\r\ntxt:abc\r\n", "=abc ");
    expect_reply("=4\r\nmkd:\r\n", "= ");
}

TEST(resp, aggregates_know_how_many_nodes_they_take)
{
    expect_reply("*0\r\n", "*0/1 ");
    expect_reply("%0\r\n", "%0/1 ");
    expect_reply("*2\r\n$1\r\na\r\n:1\r\n", "*2/3 $a :1 ");
    expect_reply("*2\r\n*2\r\n:1\r\n*0\r\n%1\r\n+k\r\n~1\r\n_\r\n",
                 "*2/8 *2/3 :1 *0/1 %1/4 +k ~1/2 _ ");
    expect_reply(">2\r\n+message\r\n#t\r\n", ">2/3 +message #1 ");
}

TEST(resp, attributes_are_left_out)
{
    expect_reply("|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n", "$v ");
    expect_reply("*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:7\r\n|0\r\n:8\r\n", "*2/3 :7 :8 ");
    expect_reply("|1\r\n|1\r\n+x\r\n+y\r\n+a\r\n+b\r\n*0\r\n", "*0/1 ");
}

TEST(resp, malformed_replies_are_refused_at_once)
{
    expect_refused("x");
    expect_refused("*1\r\n\r");
    expect_refused("+a\rb");
    expect_refused("+a\n");
    expect_refused(":\r\n");
    expect_refused(":1x\r\n");
    expect_refused(":9223372036854775808\r\n");
    expect_refused(":-\r\n");
    expect_refused("$-2\r\n");
    expect_refused("$536870913\r\n");
    expect_refused("$1\r\nab");
    expect_refused("$1\r\na\rx");
    expect_refused("$?\r\n");
    expect_refused("!-1\r\n");
    expect_refused("=3\r\nabc\r\n");
    expect_refused("=4\r\nabcd\r\n");
    expect_refused("*-2\r\n");
    expect_refused("%-1\r\n");
    expect_refused("~-1\r\n");
    expect_refused("*4194305\r\n");
    expect_refused("*99999999999999999999\r\n");
    expect_refused("#x\r\n");
    expect_refused("#tt\r\n");
    expect_refused("_x\r\n");
    expect_refused(",\r\n");
    expect_refused(",1.5x\r\n");
    expect_refused(",0x10\r\n");
    expect_refused(", 1\r\n");
    expect_refused(",1e\r\n");
    expect_refused("(\r\n");
    expect_refused("(-\r\n");
    expect_refused("(1.5\r\n");
}

TEST(resp, a_line_without_end_is_refused)
{
    struct buf input = padded("+", 65537, "");
    uint64_t size = 0;
    EXPECT_EQ(resp_skip(slice_of(input.data, 65537), &size), RESP_MORE);
    EXPECT_EQ(resp_skip(buf_slice(&input), &size), RESP_BAD);
    buf_close(&input);
}

TEST(resp, depth_is_bounded)
{
    struct buf input = {0};
    struct resp_reply reply = {0};
    uint64_t size = 0;
    for (uint32_t i = 0; i < RESP_DEPTH_MAX; i++) buf_text(&input, "*1\r\n");
    buf_text(&input, ":1\r\n");
    EXPECT_EQ(resp_read(&reply, buf_slice(&input)), RESP_OK);
    EXPECT_EQ(reply.count, RESP_DEPTH_MAX + 1);
    EXPECT_EQ(reply.nodes[0].span, RESP_DEPTH_MAX + 1);
    input.size = 0;
    for (uint32_t i = 0; i <= RESP_DEPTH_MAX; i++) buf_text(&input, "*1\r\n");
    buf_text(&input, ":1\r\n");
    EXPECT_EQ(resp_read(&reply, buf_slice(&input)), RESP_BAD);
    EXPECT_EQ(resp_skip(buf_slice(&input), &size), RESP_BAD);
    resp_reply_close(&reply);
    buf_close(&input);
}

TEST(resp, nodes_are_bounded_even_when_each_count_is_small)
{
    struct buf input = {0};
    uint64_t size = 0;
    resp_put_array(&input, 3);
    for (uint32_t i = 0; i < 3; i++) {
        const uint64_t count = RESP_NODES_MAX / 2;
        resp_put_array(&input, count);
        uint8_t *at = buf_extend(&input, 3 * count);
        for (uint64_t j = 0; j < count; j++) memcpy(at + 3 * j, "_\r\n", 3);
    }
    EXPECT_EQ(resp_skip(buf_slice(&input), &size), RESP_BAD);
    buf_close(&input);
}

static void *refuse_memory(void *context, void *pointer, uint64_t size)
{
    uint32_t *left = context;
    if (size == 0) {
        free(pointer);
        return NULL;
    }
    if (*left == 0) return NULL;
    *left -= 1;
    return realloc(pointer, size);
}

TEST(resp, reading_reports_that_memory_ran_out)
{
    struct buf input = {0};
    resp_put_array(&input, 100);
    for (uint32_t i = 0; i < 100; i++) resp_put_int(&input, i);
    for (uint32_t granted = 0; granted < 4; granted++) {
        uint32_t left = granted;
        struct resp_reply reply = {.resize = refuse_memory, .resize_context = &left};
        const enum resp_status status = resp_read(&reply, buf_slice(&input));
        EXPECT_EQ(status, granted < 4 ? RESP_BAD : RESP_OK);
        EXPECT_TRUE(reply.no_memory);
        resp_reply_close(&reply);
    }
    uint32_t left = 4;
    struct resp_reply reply = {.resize = refuse_memory, .resize_context = &left};
    EXPECT_EQ(resp_read(&reply, buf_slice(&input)), RESP_OK);
    EXPECT_EQ(reply.count, 101);
    resp_reply_close(&reply);
    EXPECT_TRUE(reply.resize == refuse_memory);
    buf_close(&input);
}

TEST(resp, what_is_written_is_read)
{
    struct buf out = {0};
    struct resp_reply reply = {0};
    struct buf shown = {0};
    resp_put_array(&out, 6);
    buf_text(&out, ",-2.5e-07\r\n#t\r\n"); /* Of these two kinds no command answers. */
    resp_put_map(&out, 1, 3);
    resp_put_text(&out, "k");
    resp_put_null(&out, 3);
    resp_put_verbatim(&out, slice_text("# Server"), 3);
    resp_put_int(&out, -1);
    resp_put_error(&out, "MOVED 1 a:1");
    EXPECT_EQ(resp_read(&reply, buf_slice(&out)), RESP_OK);
    show_reply(&reply, &shown);
    buf_u8(&shown, 0);
    EXPECT_TEXT((const char *)shown.data,
                "*6/9 ,-2.5e-07 #1 %1/3 $k _ =# Server :-1 -MOVED 1 a:1 ");
    buf_close(&shown);
    buf_close(&out);
    resp_reply_close(&reply);
}
