/* fuzz_router.c - a leading node that is fed, in any order and cut anywhere, bytes of clients and the bodies of
 * FORWARD, FORWARD_REPLY, FORWARD_CLOSE, READ_ASK and READ_TELL frames of other nodes. Nothing may crash, every
 * invariant holds after every step (core_check), and a client that says PING on a fresh connection is answered at the
 * end. */
#include "node/router.h"
#include "tests/node/core_fixture.h"

#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_frame(struct fixture *fixture, uint8_t type, struct slice body)
{
    const struct wire_frame frame = {.type = type,
                                     .from = body.size > 0 ? body.data[0] % 3u + 1u : 1u,
                                     .incarnation = body.size > 1 ? body.data[1] % 2u : 0u,
                                     .body = body};
    const bool is_read = type == WIRE_READ_ASK || type == WIRE_READ_TELL;
    const enum err err = is_read ? readindex_receive(fixture->core, &frame)
                                 : router_receive(fixture->core, &frame);
    CHECK(err == OK || err == ERR_CORRUPT);
}

/* A FORWARD whose head is right, so that the rest reaches the evaluation. */
static void take_commands(struct fixture *fixture, struct slice bytes)
{
    struct buf body = {0};
    buf_u64(&body, 7);
    buf_u32(&body, bytes.size > 0 ? bytes.data[0] : 1u);
    buf_u64(&body, 0);
    buf_u32(&body, 1);
    buf_u8(&body, 2);
    buf_append(&body, bytes.data, bytes.size);
    take_frame(fixture, WIRE_FORWARD, buf_slice(&body));
    buf_close(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fixture fixture;
    struct reader reader = reader_of(slice_of(data, size));
    fixture_open_sized(&fixture, MIB);
    for (int i = 0; i < STEPS_MAX && reader.at < reader.end; i++) {
        const uint8_t what = reader_u8(&reader);
        const uint64_t left = (uint64_t)(reader.end - reader.at);
        const uint64_t want = reader_u8(&reader);
        const struct slice bytes = reader_bytes(&reader, want + 1 < left ? want
                                                         : left > 0      ? left - 1
                                                                         : 0);
        switch (what % 8) {
        case 0: {
            const struct fixture_client *client = fixture_client(&fixture, what / 8 % 4);
            core_client_bytes(fixture.core, client->session, bytes.data, bytes.size);
            break;
        }
        case 1: take_frame(&fixture, WIRE_FORWARD, bytes); break;
        case 2: take_frame(&fixture, WIRE_FORWARD_REPLY, bytes); break;
        case 3: take_frame(&fixture, WIRE_FORWARD_CLOSE, bytes); break;
        case 4: take_commands(&fixture, bytes); break;
        case 5: take_frame(&fixture, WIRE_READ_ASK, bytes); break;
        case 6: take_frame(&fixture, WIRE_READ_TELL, bytes); break;
        default: fixture_run(&fixture, want);
        }
        core_check(fixture.core);
    }
    fixture_run(&fixture, 10);
    CHECK(strcmp(fixture_ask(&fixture, 7, "PING\r\n", 6), "+PONG\r\n") == 0);
    fixture_close(&fixture);
    return 0;
}
