/* Any bytes, both directions: never a read outside the input, and the outcome does not depend on how the
 * bytes were cut. The first input byte chooses the direction, the second the cuts. */
#include "client/resp.h"

#include <stdlib.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small limits, so that short inputs reach them. */
static const struct resp_limits fuzz_limits = {.args_max = 16, .bulk_max = 24, .inline_max = 64};

/* Writes what the parser gave into @out, so that two runs can be compared. */
static void note_request(const struct resp_parser *parser, struct buf *out)
{
    buf_u8(out, parser->too_big ? 'T' : 'R');
    buf_u32(out, parser->arg_count);
    CHECK(parser->arg_count <= fuzz_limits.args_max);
    if (parser->too_big) CHECK(parser->arg_count == 0);
    for (uint32_t i = 0; i < parser->arg_count; i++) {
        CHECK(parser->args[i].size <= fuzz_limits.bulk_max);
        buf_sized(out, parser->args[i]);
    }
}

/* Takes every whole request from @input; gives the bytes that were not consumed. False: framing is lost. */
static bool drain(struct resp_parser *parser, struct buf *input, struct buf *out)
{
    while (true) {
        /* A copy of exact size, so that the sanitizer guards its end. */
        uint8_t *copy = mem_copy(input->data, input->size);
        const enum resp_status status = resp_parse(parser, &fuzz_limits,
                                                   slice_of(copy, input->size));
        if (status == RESP_OK) note_request(parser, out);
        mem_free(copy);
        if (status == RESP_MORE) {
            CHECK(parser->position <= input->size);
            return true;
        }
        if (status == RESP_BAD) {
            CHECK(parser->error[0] != 0);
            buf_text(out, parser->error);
            return false;
        }
        CHECK(parser->position > 0);
        buf_shift(input, parser->position);
        if (status == RESP_OK) resp_parser_next(parser);
    }
}

static void run_requests(struct slice input, struct prng *cuts, struct buf *out)
{
    struct resp_parser parser;
    struct buf pending = {0};
    uint64_t at = 0;
    bool good = true;
    resp_parser_init(&parser);
    while (good && at < input.size) {
        uint64_t piece = input.size - at;
        if (cuts != NULL) piece = 1 + prng_below(cuts, piece < 9 ? piece : 9);
        buf_append(&pending, input.data + at, piece);
        at += piece;
        good = drain(&parser, &pending, out);
    }
    resp_parser_close(&parser);
    buf_close(&pending);
}

static void fuzz_requests(struct slice input, uint64_t seed)
{
    struct buf whole = {0};
    struct buf pieces = {0};
    struct prng cuts = prng_seed(seed);
    run_requests(input, NULL, &whole);
    run_requests(input, &cuts, &pieces);
    CHECK(slice_equal(buf_slice(&whole), buf_slice(&pieces)));
    buf_close(&whole);
    buf_close(&pieces);
}

static void check_nodes(const struct resp_reply *reply, struct slice input)
{
    CHECK(reply->count > 0);
    CHECK(reply->nodes[0].span == reply->count);
    for (uint32_t i = 0; i < reply->count; i++) {
        const struct resp_node *node = &reply->nodes[i];
        CHECK(node->kind != RESP_ATTRIBUTE);
        CHECK(node->span >= 1 && node->span <= reply->count - i);
        CHECK(node->count < node->span || node->count == 0);
        if (node->text.size == 0) continue;
        CHECK(node->text.data >= input.data);
        CHECK(node->text.data + node->text.size <= input.data + reply->size);
    }
}

static void fuzz_replies(struct slice input, uint64_t seed)
{
    struct resp_reply reply = {0};
    struct resp_scan scan = {0};
    struct prng cuts = prng_seed(seed);
    uint64_t skipped = 0;
    const enum resp_status whole = resp_read(&reply, input);
    CHECK(resp_skip(input, &skipped) == whole);
    if (whole == RESP_OK) {
        CHECK(skipped == reply.size);
        check_nodes(&reply, input);
    }
    enum resp_status status = RESP_MORE;
    for (uint64_t have = 0; status == RESP_MORE && have < input.size;) {
        const uint64_t rest = input.size - have;
        have += 1 + prng_below(&cuts, rest < 9 ? rest : 9);
        uint8_t *copy = mem_copy(input.data, have);
        status = resp_scan(&scan, slice_of(copy, have));
        mem_free(copy);
    }
    CHECK(status == whole);
    if (whole == RESP_OK) CHECK(scan.position == reply.size);
    resp_reply_close(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    uint8_t *copy = mem_copy(data + 2, size - 2);
    const struct slice input = slice_of(copy, size - 2);
    if (data[0] % 2 == 0) {
        fuzz_requests(input, data[1]);
    } else {
        fuzz_replies(input, data[1]);
    }
    mem_free(copy);
    return 0;
}
