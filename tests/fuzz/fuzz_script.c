/* fuzz_script.c - any arguments for EVAL, EVALSHA, their read-only forms and SCRIPT, alone, within KV.TXN and KV.ONCE
 * and as a question to COMMAND GETKEYS: each gets one whole reply, every invariant holds afterwards, and a form that
 * only reads changes nothing. */
#include "node/core_parts.h"
#include "tests/node/core_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARGS_MAX 16u
#define COMMANDS_MAX 24

/* One script for each thing that scripts do here (node/cmd_script.c). */
static const char *const shas[] = {
    "c3f8721cbb97f72bc19e972846bd7aaf91901658", "a4e8783852e6b949f9ef3a97212805108459a890",
    "1cac51482acf5858da00f6d685d68f886cd6b6b2", "96da70f7716f27d278a5218544df37fd8b0a5e4c",
    "aed6f382e410db8ba7926d4e5e9aab410bf2a78a", "862f31bf38e9b63ce28d6e9e5143551bb34ef981",
    "e950836ed1e694540c503ef9972b8de518044d3b", "b6b55c439e02c6f52ffb8be7ec8c0d0ac816ea79",
    "ceb2b2062e40c51a2b3963fd078bc71f11bdc65c", "78d2ca48a6dc9ef6892059792a3a0c5237733d64",
    "eb0c00d98f6f33b4262419a509002884540f30be", "5a22d7e8431313862816d4416b5e46dd70fc340d",
    "9470c810040e272ee6c579d8d4331aaf6332a7b1", "66e1084c2d842a7e8c271925aae90219fac4e129",
    "0000000000000000000000000000000000000000"};

static const char *const names[] = {"EVALSHA", "EVALSHA_RO", "EVAL",    "EVAL_RO",
                                    "LOAD",    "EXISTS",     "EVALSHA", "EVALSHA"};

static void send_words(struct fixture *fixture, const struct slice *words, uint32_t count)
{
    struct buf request = {0};
    uint64_t size = 0;
    struct fixture_client *client = fixture_client(fixture, 0);
    resp_put_command(&request, words, count);
    client->out.size = 0;
    core_client_bytes(fixture->core, client->session, request.data, request.size);
    fixture_run(fixture, 3);
    core_check(fixture->core);
    CHECK(resp_skip(buf_slice(&client->out), &size) == RESP_OK);
    CHECK(size == client->out.size);
    buf_close(&request);
}

/* u8 how, u8 which script, u8 how many arguments, each with u8 size: the count of keys is one of them. */
static void run_one(struct fixture *fixture, struct reader *reader)
{
    char count_text[8];
    struct slice words[ARGS_MAX + 8];
    uint32_t count = 0;
    const uint8_t how = reader_u8(reader);
    const uint8_t which = reader_u8(reader);
    const uint32_t args = reader_u8(reader) % ARGS_MAX;
    const char *name = names[how % 8];
    const bool is_script = how % 8 == 4 || how % 8 == 5;
    const bool is_within = !is_script && (how & 8) != 0;
    (void)snprintf(count_text, sizeof count_text, "%u", args + 2);
    if (is_within && (how & 16) != 0) {
        words[count++] = slice_text("KV.ONCE");
        words[count++] = slice_text("c");
        words[count++] = slice_text("1");
    } else if (is_within && (how & 32) != 0) {
        words[count++] = slice_text("KV.TXN");
        words[count++] = slice_text("THEN");
        words[count++] = slice_text("1");
        words[count++] = slice_text(count_text);
    } else if (is_within) {
        words[count++] = slice_text("COMMAND");
        words[count++] = slice_text("GETKEYS");
    }
    if (is_script) words[count++] = slice_text("SCRIPT");
    words[count++] = slice_text(name);
    words[count++] = slice_text(shas[which % (sizeof shas / sizeof shas[0])]);
    for (uint32_t i = 0; i < args; i++) {
        const uint64_t left = (uint64_t)(reader->end - reader->at);
        const uint64_t size = reader_u8(reader);
        words[count++] = reader_bytes(reader, size < left ? size : left > 0 ? left - 1 : 0);
    }
    const uint64_t before = fixture->core->shard.effect_count;
    send_words(fixture, words, count);
    const bool reads = how % 8 == 1 || how % 8 == 3 || is_script;
    if (reads && !is_within) CHECK(fixture->core->shard.effect_count == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fixture fixture;
    struct reader reader = reader_of(slice_of(data, size));
    fixture_open_sized(&fixture, MIB);
    for (int i = 0; i < COMMANDS_MAX && reader.at < reader.end; i++) run_one(&fixture, &reader);
    CHECK(strcmp(fixture_ask(&fixture, 7, "PING\r\n", 6), "+PONG\r\n") == 0);
    fixture_close(&fixture);
    return 0;
}
