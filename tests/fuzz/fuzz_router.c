/* fuzz_router.c - a leading node that is fed, in any order and cut anywhere, bytes of clients and the bodies of
 * FORWARD, FORWARD_REPLY, FORWARD_CLOSE, READ_ASK, READ_TELL and PUBLISH frames of other nodes, and of those with which
 * nodes compare their states and repair their files. Nothing may crash, every invariant holds after every step
 * (core_check), and a client that says PING on a fresh connection is answered at the end. */
#include "node/core_parts.h"
#include "node/router.h"
#include "storage/compress.h"
#include "storage/mend.h"
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
    enum err err = OK;
    if (type == WIRE_PUBLISH) {
        err = pubsub_receive(fixture->core, &frame);
    } else {
        err = is_read ? readindex_receive(fixture->core, &frame)
                      : router_receive(fixture->core, &frame);
    }
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

#define FIRST_OF_OTHERS 240u /* operations from here on are the frames below */

/* Of node 2, which is known but not connected. */
static void take_other(struct fixture *fixture, uint8_t what, struct slice body)
{
    static const uint8_t types[] = {WIRE_CHECK_ASK, WIRE_CHECK_TELL, WIRE_VALUE_WANT,
                                    WIRE_VALUE_GIVE};
    struct shard *shard = &fixture->core->shard;
    const struct wire_frame frame = {.type = types[what % 4], .from = 2, .body = body};
    const enum err err = what % 4 < 2 ? audit_receive(shard, &frame, fixture->now_ms)
                                      : mender_receive(shard, &frame);
    CHECK(err == OK || err == ERR_CORRUPT);
}

/* What a VALUE_GIVE has of the value that is asked for: u8 size of the key, the key, u8 packed or not, the value. */
static void take_value(struct fixture *fixture, struct slice bytes)
{
    struct buf body = {0};
    const struct mend_want *want = NULL;
    struct reader reader = reader_of(bytes);
    const uint64_t key_size = reader_u8(&reader) % 4 + 1u;
    const struct slice key = reader_bytes(&reader, key_size);
    const uint8_t is_packed = reader_u8(&reader);
    if (reader.bad) return;
    (void)mend_ask(store_mend(fixture->core->shard.store), key, 7, &want);
    buf_u64(&body, 7);
    buf_u8(&body, 1);
    buf_u8(&body, is_packed);
    buf_u16(&body, 0);
    buf_u32(&body, 0);
    buf_sized(&body, key);
    buf_sized(&body, slice_of(reader.at, (uint64_t)(reader.end - reader.at)));
    take_other(fixture, 3, buf_slice(&body));
    CHECK(want == NULL || want->state != MEND_HERE || !want->is_compressed ||
          compress_valid(buf_slice(&want->stored)));
    buf_close(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fixture fixture;
    struct reader reader = reader_of(slice_of(data, size));
    fixture_open_sized(&fixture, MIB);
    fixture.core->pubsub.events = UINT32_MAX; /* Every change is told on channels. */
    CHECK(peers_add(&fixture.core->peers, 2, "other", "host:1") == OK);
    for (int i = 0; i < STEPS_MAX && reader.at < reader.end; i++) {
        const uint8_t what = reader_u8(&reader);
        const uint64_t left = (uint64_t)(reader.end - reader.at);
        const uint64_t want = reader_u8(&reader);
        const struct slice bytes = reader_bytes(&reader, want + 1 < left ? want
                                                         : left > 0      ? left - 1
                                                                         : 0);
        if (what >= FIRST_OF_OTHERS) {
            if (what % 5 == 4) take_value(&fixture, bytes);
            if (what % 5 < 4) take_other(&fixture, what % 5, bytes);
            core_check(fixture.core);
            continue;
        }
        switch (what % 8) {
        case 0: {
            const struct fixture_client *client = fixture_client(&fixture, what / 8 % 4);
            core_client_bytes(fixture.core, client->session, bytes.data, bytes.size);
            break;
        }
        case 1: take_frame(&fixture, WIRE_FORWARD, bytes); break;
        case 2: take_frame(&fixture, WIRE_FORWARD_REPLY, bytes); break;
        case 3: take_frame(&fixture, what & 8 ? WIRE_PUBLISH : WIRE_FORWARD_CLOSE, bytes); break;
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
