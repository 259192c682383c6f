/* fuzz_reserved.c - any bytes as what the log says of a client of KV.ONCE or of the counter of fencing tokens. Whatever
 * they are, each command gets one whole reply of its protocol, the same command under the same sequence gets the same
 * one, and a flush keeps both. The first input byte chooses which of the two it is. */
#include "node/core_parts.h"
#include "node/eval_reserved.h"
#include "storage/base/hash.h"
#include "tests/node/core_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Puts a key as a command of this node would. */
static void plant(struct fixture *fixture, struct slice key, struct slice value)
{
    struct core *core = fixture->core;
    const struct slice args[] = {slice_text("SET")};
    struct buf out = {0};
    struct eval eval = {.core = core,
                        .shard = &core->shard,
                        .session = fixture_client(fixture, 0)->session,
                        .command = command_find(args[0]),
                        .args = args,
                        .count = 1,
                        .out = &out,
                        .protocol = 2,
                        .now_ms = core->shard.clock_ms,
                        .gone_ms = core->shard.clock_ms};
    const struct item before = eval_find(&eval, key);
    eval_put(&eval, key, value, 0, &before);
    CHECK(out.size == 0);
    fixture_run(fixture, 5);
    buf_close(&out);
}

static void say(struct fixture *fixture, int at, const char *line, struct buf *reply)
{
    struct fixture_client *client = fixture_client(fixture, at);
    uint64_t size = 0;
    client->out.size = 0;
    core_client_bytes(fixture->core, client->session, (const uint8_t *)line, strlen(line));
    fixture_run(fixture, 5);
    core_check(fixture->core);
    CHECK(resp_skip(buf_slice(&client->out), &size) == RESP_OK);
    CHECK(size == client->out.size);
    CHECK(at == 1 || (client->out.data[0] != '_' && client->out.data[0] != '%'));
    reply->size = 0;
    buf_append(reply, client->out.data, client->out.size);
}

/* An answer is given again only to the command that it was given to: HASH in the input stands for that of the first
 * one below, as it is kept. */
static void put_hash(uint8_t *bytes, uint64_t size)
{
    const uint64_t hash = hash64_seeded("k", 1, hash64_seeded("GET", 3, 2));
    for (uint64_t i = 0; i + 4 <= size; i++) {
        if (memcmp(bytes + i, "HASH", 4) == 0) put_u32(bytes + i, (uint32_t)hash);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const lines[] = {
        "KV.ONCE c 1 GET k\r\n",
        "KV.ONCE c 2 INCR n\r\n",
        "KV.ONCE c 7 KV.TXN IF 1 ABSENT k THEN 1 2 GET k ELSE 1 2 DEL k\r\n",
        "KV.ONCE c 9223372036854775807 SET k v\r\n",
        "KV.LOCK l 1000 me\r\n",
        "FLUSHALL\r\n",
    };
    struct fixture fixture;
    struct buf key = {0};
    struct buf record = {0};
    struct buf first = {0};
    struct buf again = {0};
    if (size == 0) return 0;
    fixture_open_sized(&fixture, MIB);
    eval_reserved_key(&key, data[0] % 4 == 0 ? "token" : "once:",
                      data[0] % 4 == 0 ? slice_text("") : slice_text("c"));
    buf_append(&record, data + 1, size - 1);
    put_hash(record.data, record.size);
    plant(&fixture, buf_slice(&key), buf_slice(&record));
    say(&fixture, 1, "HELLO 3\r\n", &first);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            const char *line = lines[i];
            say(&fixture, 0, line, &first);
            say(&fixture, 0, line, &again);
            const bool is_once = strncmp(line, "KV.ONCE", 7) == 0;
            if (is_once) CHECK(slice_equal(buf_slice(&first), buf_slice(&again)));
            say(&fixture, 1, line, &again);
        }
    }
    buf_close(&key);
    buf_close(&record);
    buf_close(&first);
    buf_close(&again);
    fixture_close(&fixture);
    return 0;
}
