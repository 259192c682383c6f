/* Tests of values that are packed, on a slow disk or large: whatever their state, commands see the value itself. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#include "node/core_parts.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/store_value.h"

#define LARGE (3u * MIB)
/* These are laid out and given to the log: the first is packed, and still larger than that takes. */
#define HUGE_MIXED (7u * MIB)
#define HUGE_NOISE (6u * MIB)

static void make_mixed(struct buf *value, uint64_t size)
{
    struct prng prng = prng_seed(size);
    uint8_t *at = buf_extend(value, size);
    for (uint64_t i = 0; i < size; i++) {
        at[i] = i % 64 < 48 ? (uint8_t)prng_next(&prng) : (uint8_t) "0123456789abcdef"[i % 16];
    }
}

/* A value of @size bytes: packed well, or not at all. */
static void make_value(struct buf *value, uint64_t size, bool is_random)
{
    struct prng prng = prng_seed(size);
    uint8_t *at = buf_extend(value, size);
    for (uint64_t i = 0; i < size; i++) {
        at[i] = is_random ? (uint8_t)prng_next(&prng)
                          : (uint8_t)("some text, "[i % 11] + (int)(i / 5000 % 3));
    }
}

static const char *set(struct fixture *f, const char *key, struct slice value)
{
    return fixture_ask_args(f, 0, 3, (struct slice[]){slice_text("SET"), slice_text(key), value});
}

static void expect_bulk(const struct buf *out, uint64_t at, struct slice value)
{
    char head[32];
    const int size = snprintf(head, sizeof head, "$%llu\r\n", (unsigned long long)value.size);
    EXPECT_LE(at + (uint64_t)size + value.size + 2, out->size);
    EXPECT_BYTES(out->data + at, head, (size_t)size);
    EXPECT_BYTES(out->data + at + size, value.data, value.size);
}

static void expect_get(struct fixture *f, const char *key, struct slice value)
{
    (void)fixture_ask_args(f, 0, 2, (struct slice[]){slice_text("GET"), slice_text(key)});
    expect_bulk(&f->clients[0].out, 0, value);
}

static struct keydir_info info_of(struct fixture *f, const char *key)
{
    const struct keydir_entry *entry = keydir_find(store_keys(core_store(f->core)),
                                                   slice_text(key));
    EXPECT_TRUE(entry != NULL);
    return keydir_info(entry);
}

/* A start keeps the newest file in memory: this makes it another one. */
static void roll(struct fixture *f)
{
    struct buf value = {0};
    make_value(&value, 60000, true);
    for (uint32_t i = 0; i < 8; i++) EXPECT_TEXT(set(f, "filler", buf_slice(&value)), "+OK\r\n");
    buf_close(&value);
}

TEST(values, above_the_threshold_they_are_packed_if_that_saves_enough)
{
    struct fixture f;
    fixture_open(&f);
    const struct {
        uint64_t size;
        bool is_random;
        bool is_packed;
    } cases[] = {{60, false, false},     {KIB - 1, false, false}, {KIB, false, false},
                 {KIB + 1, false, true}, {KIB + 1, true, false},  {70000, true, false},
                 {70000, false, true},   {MIB, false, true},      {MIB + 1, false, true},
                 {MIB + 1, true, false}, {LARGE, false, true},    {LARGE, true, false}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf value = {0};
        make_value(&value, cases[i].size, cases[i].is_random);
        EXPECT_TEXT(set(&f, "k", buf_slice(&value)), "+OK\r\n");
        const struct keydir_info info = info_of(&f, "k");
        EXPECT_EQ(info.is_compressed, cases[i].is_packed);
        if (cases[i].is_packed) EXPECT_LT(info.value_size, cases[i].size * 88 / 100 + 1);
        if (!cases[i].is_packed) EXPECT_EQ(info.value_size, cases[i].size);
        expect_get(&f, "k", buf_slice(&value));
        char expected[32];
        (void)snprintf(expected, sizeof expected, ":%llu\r\n", (unsigned long long)cases[i].size);
        EXPECT_TEXT(fixture_say(&f, "STRLEN k"), expected);
        buf_close(&value);
    }
    EXPECT_TEXT(fixture_say(&f, "SET k v"), "+OK\r\n");
    EXPECT_TEXT(fixture_say(&f, "GET k"), "$1\r\nv\r\n");
    fixture_close(&f);
}

TEST(values, none_are_packed_when_the_option_says_so)
{
    struct fixture f;
    struct buf value = {0};
    fixture_open(&f);
    f.config.compress_above_size = 0;
    make_value(&value, LARGE, false);
    EXPECT_TEXT(set(&f, "k", buf_slice(&value)), "+OK\r\n");
    EXPECT_FALSE(info_of(&f, "k").is_compressed);
    expect_get(&f, "k", buf_slice(&value));
    buf_close(&value);
    fixture_close(&f);
}

/* Commands that are sent together see each other's values although none is applied yet. */
TEST(values, packed_values_in_flight_are_seen_as_they_are)
{
    struct fixture f;
    struct buf value = {0};
    struct buf in = {0};
    const uint64_t sizes[] = {5000, LARGE, HUGE_MIXED, HUGE_NOISE};
    fixture_open(&f);
    for (uint32_t i = 0; i < 4; i++) {
        value.size = 0;
        in.size = 0;
        if (sizes[i] == HUGE_MIXED) make_mixed(&value, sizes[i]);
        if (sizes[i] != HUGE_MIXED) make_value(&value, sizes[i], sizes[i] == HUGE_NOISE);
        resp_put_command(
            &in, (struct slice[]){slice_text("SET"), slice_text("k"), buf_slice(&value)}, 3);
        resp_put_command(&in, (struct slice[]){slice_text("STRLEN"), slice_text("k")}, 2);
        resp_put_command(
            &in, (struct slice[]){slice_text("APPEND"), slice_text("k"), slice_text("!")}, 3);
        resp_put_command(&in, (struct slice[]){slice_text("GET"), slice_text("k")}, 2);
        resp_put_command(
            &in, (struct slice[]){slice_text("EXPIRE"), slice_text("k"), slice_text("100")}, 3);
        resp_put_command(&in, (struct slice[]){slice_text("GETDEL"), slice_text("k")}, 2);
        resp_put_command(&in, (struct slice[]){slice_text("GET"), slice_text("k")}, 2);
        (void)fixture_ask(&f, 0, in.data, in.size);
        const struct buf *out = &f.clients[0].out;
        char head[64];
        const int size = snprintf(head, sizeof head, "+OK\r\n:%llu\r\n:%llu\r\n",
                                  (unsigned long long)sizes[i], (unsigned long long)sizes[i] + 1);
        EXPECT_BYTES(out->data, head, (size_t)size);
        buf_text(&value, "!");
        expect_bulk(out, (uint64_t)size, buf_slice(&value));
        EXPECT_BYTES(out->data + out->size - 5, "$-1\r\n", 5);
    }
    buf_close(&in);
    buf_close(&value);
    fixture_close(&f);
}

/* ---- a disk that takes its time ------------------------------------------------------------------------ */

static void begin_cold(struct fixture *f)
{
    fixture_open_sized(f, 64 * KIB);
    f->disk.cold_percent = 100;
}

/* Of key k only the disk has the value. */
static void open_cold(struct fixture *f, struct buf *value)
{
    begin_cold(f);
    make_value(value, 5000, true);
    EXPECT_TEXT(set(f, "k", buf_slice(value)), "+OK\r\n");
    roll(f);
    fixture_restart(f);
}

TEST(values, all_commands_wait_for_values_that_are_not_cached)
{
    struct fixture f;
    struct buf text = {0};
    struct buf noise = {0};
    begin_cold(&f);
    make_value(&text, 5000, false);
    make_value(&noise, 300, true);
    EXPECT_TEXT(set(&f, "text", buf_slice(&text)), "+OK\r\n");
    EXPECT_TEXT(set(&f, "noise", buf_slice(&noise)), "+OK\r\n");
    EXPECT_TEXT(set(&f, "other", buf_slice(&text)), "+OK\r\n");
    EXPECT_TEXT(
        fixture_say(
            &f, "SET number 00000000000000000000000000000000000000000000000000000000000000000007"),
        "+OK\r\n");
    roll(&f);
    fixture_restart(&f);
    const uint64_t before = f.core->shard.fetches.count;
    expect_get(&f, "text", buf_slice(&text));
    EXPECT_EQ(f.core->shard.fetches.count, before + 1);
    expect_get(&f, "noise", buf_slice(&noise));
    EXPECT_TEXT(fixture_say(&f, "STRLEN text"), ":5000\r\n");
    EXPECT_TEXT(fixture_say(&f, "STRLEN noise"), ":300\r\n");
    EXPECT_TEXT(fixture_say(&f, "INCR number"), "-ERR value is not an integer or out of range\r\n");
    (void)fixture_say(&f, "KV.GET text");
    expect_bulk(&f.clients[0].out, 4, buf_slice(&text));
    (void)fixture_say(&f, "MGET noise none text noise");
    EXPECT_BYTES(f.clients[0].out.data, "*4\r\n", 4);
    expect_bulk(&f.clients[0].out, 4, buf_slice(&noise));
    expect_bulk(&f.clients[0].out, 4 + 306 + 2 + 5, buf_slice(&text));
    (void)fixture_say(&f, "KV.RANGE n o LIMIT 1");
    expect_bulk(&f.clients[0].out, 4 + 4 + 11, buf_slice(&noise));
    EXPECT_TEXT(fixture_say(&f, "APPEND noise x"), ":301\r\n");
    (void)fixture_say(&f, "SET other new GET");
    expect_bulk(&f.clients[0].out, 0, buf_slice(&text));
    EXPECT_TEXT(fixture_say(&f, "GET other"), "$3\r\nnew\r\n");
    (void)fixture_say(&f, "GETDEL text");
    expect_bulk(&f.clients[0].out, 0, buf_slice(&text));
    EXPECT_TEXT(fixture_say(&f, "GET text"), "$-1\r\n");
    EXPECT_EQ(f.core->shard.fetches.size, 0);
    buf_close(&text);
    buf_close(&noise);
    fixture_close(&f);
}

TEST(values, others_are_served_while_a_client_waits_for_the_disk)
{
    struct fixture f;
    struct buf value = {0};
    open_cold(&f, &value);
    EXPECT_TEXT(fixture_say(&f, "SET n 1"), "+OK\r\n");
    fixture_run(&f, 100);
    /* Only the read lane is slow: nothing else is submitted meanwhile. */
    f.disk.latency_min = 500;
    f.disk.latency_max = 500;
    const struct fixture_client *slow = fixture_client(&f, 1);
    fixture_put(&f, 1, "GET k\r\nGET n\r\n");
    fixture_run(&f, 20);
    EXPECT_EQ(slow->out.size, 0);
    EXPECT_TEXT(fixture_say(&f, "GET n"), "$1\r\n1\r\n");
    EXPECT_TEXT(fixture_say(&f, "EXISTS k"), ":1\r\n");
    EXPECT_EQ(slow->out.size, 0);
    fixture_run(&f, 600);
    /* Its answers come in their order. */
    expect_bulk(&slow->out, 0, buf_slice(&value));
    EXPECT_BYTES(slow->out.data + slow->out.size - 7, "$1\r\n1\r\n", 7);
    buf_close(&value);
    fixture_close(&f);
}

TEST(values, a_key_that_changes_while_it_is_read_is_answered_as_it_is_then)
{
    struct fixture f;
    struct buf value = {0};
    open_cold(&f, &value);
    const struct fixture_client *slow = fixture_client(&f, 1);
    fixture_put(&f, 1, "GET k\r\n");
    core_turn(f.core, f.now_ms, f.wall_ms);
    EXPECT_EQ(f.core->shard.fetches.size > 0, true);
    EXPECT_TEXT(fixture_say(&f, "SET k new"), "+OK\r\n");
    fixture_run(&f, 50);
    const bool is_old = slow->out.size > 100;
    if (is_old) expect_bulk(&slow->out, 0, buf_slice(&value));
    if (!is_old) EXPECT_BYTES(slow->out.data, "$3\r\nnew\r\n", 9);
    EXPECT_EQ(f.core->shard.fetches.size, 0);
    buf_close(&value);
    fixture_close(&f);
}

TEST(values, a_client_may_leave_while_its_value_is_read)
{
    struct fixture f;
    struct buf value = {0};
    open_cold(&f, &value);
    f.disk.latency_min = 100;
    f.disk.latency_max = 100;
    struct fixture_client *client = fixture_client(&f, 1);
    fixture_put(&f, 1, "GET k\r\n");
    fixture_run(&f, 10);
    core_client_closed(f.core, client->session);
    client->session = NULL;
    EXPECT_EQ(f.core->shard.fetches.size > 0, true);
    fixture_run(&f, 200);
    EXPECT_EQ(f.core->shard.fetches.size, 0);
    /* And so may the whole node. */
    fixture_put(&f, 2, "GET k\r\n");
    fixture_run(&f, 1);
    buf_close(&value);
    fixture_close(&f);
}

/* F10: what the disk does not give back is an error for the one key, never an invented value. */
TEST(values, f10_a_value_that_cannot_be_read_is_an_error_for_its_key_alone)
{
    struct fixture f;
    struct buf value = {0};
    char file[64];
    begin_cold(&f);
    make_value(&value, 5000, true);
    EXPECT_TEXT(set(&f, "k", buf_slice(&value)), "+OK\r\n");
    const struct keydir_info info = info_of(&f, "k");
    (void)snprintf(file, sizeof file, "shard-0000/%08u.log", info.place.file);
    roll(&f);
    EXPECT_TEXT(set(&f, "other", buf_slice(&value)), "+OK\r\n");
    fixture_restart(&f);
    for (uint32_t cold = 0; cold <= 100; cold += 100) {
        f.disk.cold_percent = cold;
        memcpy(f.disk.read_error, file, strlen(file) + 1);
        EXPECT_BYTES(fixture_say(&f, "GET k"), "-ERR the value could not be read", 32);
        EXPECT_BYTES(fixture_say(&f, "MGET other k"), "-ERR the value could not be read", 32);
        EXPECT_BYTES(fixture_say(&f, "KV.RANGE k l"), "-ERR the value could not be read", 32);
        EXPECT_BYTES(fixture_say(&f, "APPEND k x"), "-ERR the value could not be read", 32);
        expect_get(&f, "other", buf_slice(&value));
        f.disk.read_error[0] = 0;
        sim_disk_flip(&f.disk, file, 8 * info.place.offset + 8 * 1000);
        EXPECT_BYTES(fixture_say(&f, "GET k"), "-ERR the value could not be read", 32);
        sim_disk_flip(&f.disk, file, 8 * info.place.offset + 8 * 1000);
        expect_get(&f, "k", buf_slice(&value));
    }
    EXPECT_EQ(core_failed(f.core), 0);
    buf_close(&value);
    fixture_close(&f);
}

TEST(values, many_cold_values_are_read_in_bounded_steps)
{
    struct fixture f;
    struct buf value = {0};
    struct buf in = {0};
    const uint32_t count = 40;
    begin_cold(&f);
    make_value(&value, 500000, true);
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%02u", i);
        EXPECT_TEXT(set(&f, key, buf_slice(&value)), "+OK\r\n");
    }
    roll(&f);
    fixture_restart(&f);
    buf_printf(&in, "*%u\r\n$4\r\nMGET\r\n", count + 1);
    for (uint32_t i = 0; i < count; i++) buf_printf(&in, "$3\r\nk%02u\r\n", i);
    struct fixture_client *client = fixture_client(&f, 0);
    client->out.size = 0;
    core_client_bytes(f.core, client->session, in.data, in.size);
    uint64_t ahead = 0;
    for (uint32_t i = 0; i < 400 && client->out.size == 0; i++) {
        const uint64_t before = f.core->shard.fetches.count;
        fixture_run(&f, 1);
        const uint64_t begun = (f.core->shard.fetches.count - before) * 500000;
        if (begun > ahead) ahead = begun;
    }
    EXPECT_LT(0, ahead);
    EXPECT_LE(ahead, FETCH_AHEAD_SIZE);
    fixture_run(&f, 20);
    EXPECT_EQ(client->out.size, 5 + count * (9 + 500000 + 2));
    for (uint32_t i = 0; i < count; i++) {
        expect_bulk(&client->out, 5 + i * (9 + 500000 + 2), buf_slice(&value));
    }
    /* More than one client may have unread is refused, not gathered. */
    f.config.output_limit_size = 5 * MIB;
    EXPECT_BYTES(fixture_ask(&f, 0, in.data, in.size), "-TOOBIG", 7);
    EXPECT_EQ(f.core->shard.fetches.size, 0);
    buf_close(&in);
    buf_close(&value);
    fixture_close(&f);
}

TEST(values, large_values_are_packed_and_unpacked_over_several_turns)
{
    struct fixture f;
    struct buf value = {0};
    struct buf in = {0};
    fixture_open(&f);
    make_value(&value, 8 * MIB, false);
    resp_put_command(&in, (struct slice[]){slice_text("SET"), slice_text("k"), buf_slice(&value)},
                     3);
    struct fixture_client *client = fixture_client(&f, 0);
    core_client_bytes(f.core, client->session, in.data, in.size);
    core_turn(f.core, f.now_ms, f.wall_ms);
    EXPECT_TRUE(core_deadline(f.core) <= f.now_ms); /* It wants to go on at once, */
    EXPECT_TRUE(client->session->prepare != NULL);  /* and has not done it all. */
    EXPECT_TEXT(fixture_ask(&f, 1, "PING\r\n", 6), "+PONG\r\n");
    fixture_run(&f, 20);
    EXPECT_BYTES(client->out.data, "+OK\r\n", 5);
    EXPECT_TRUE(client->session->prepare == NULL);
    EXPECT_TRUE(info_of(&f, "k").is_compressed);
    client->out.size = 0;
    fixture_put(&f, 0, "GET k\r\n");
    uint32_t turns = 0;
    while (client->out.size == 0 && turns < 100) {
        fixture_run(&f, 1);
        turns++;
    }
    EXPECT_LT(3, turns);
    fixture_run(&f, 20);
    expect_bulk(&client->out, 0, buf_slice(&value));
    buf_close(&in);
    buf_close(&value);
    fixture_close(&f);
}

/* Values of every size around those at which they are handled in another way, in front of and behind other commands. */
TEST(values, none_is_lost_or_changed_where_the_handling_changes)
{
    struct fixture f;
    struct buf value = {0};
    struct buf in = {0};
    const uint64_t around[] = {KIB, STORE_READ_NOW_MAX - 40, 256 * KIB, MIB, 4 * MIB, 8 * MIB - 1};
    fixture_open(&f);
    for (uint32_t cold = 0; cold <= 100; cold += 100) {
        f.disk.cold_percent = cold;
        for (uint32_t i = 0; i < 2 * sizeof around / sizeof around[0]; i++) {
            for (uint64_t size = around[i / 2] - 1; size <= around[i / 2] + 1; size++) {
                value.size = 0;
                in.size = 0;
                make_value(&value, size, i % 2 == 0);
                const struct slice key = slice_text(i % 3 == 0 ? "k" : "another key");
                resp_put_command(&in, (struct slice[]){slice_text("INCR"), slice_text("n")}, 2);
                resp_put_command(&in, (struct slice[]){slice_text("SET"), key, buf_slice(&value)},
                                 3);
                resp_put_command(&in, (struct slice[]){slice_text("STRLEN"), key}, 2);
                resp_put_command(&in, (struct slice[]){slice_text("GET"), key}, 2);
                resp_put_command(&in, (struct slice[]){slice_text("KV.GET"), key}, 2);
                resp_put_command(&in, (struct slice[]){slice_text("PING")}, 1);
                (void)fixture_ask(&f, 0, in.data, in.size);
                char head[64];
                const struct buf *out = &f.clients[0].out;
                const char *colon = strstr((const char *)out->data, "+OK");
                EXPECT_TRUE(colon != NULL);
                const uint64_t at = (uint64_t)((const uint8_t *)colon - out->data);
                const int head_size = snprintf(head, sizeof head, "+OK\r\n:%llu\r\n",
                                               (unsigned long long)size);
                EXPECT_BYTES(out->data + at, head, (size_t)head_size);
                expect_bulk(out, at + (uint64_t)head_size, buf_slice(&value));
                const int bulk_size = snprintf(head, sizeof head, "$%llu\r\n",
                                               (unsigned long long)size);
                const uint64_t array = at + (uint64_t)head_size + (uint64_t)bulk_size + size + 2;
                EXPECT_BYTES(out->data + array, "*3\r\n", 4);
                expect_bulk(out, array + 4, buf_slice(&value));
                EXPECT_BYTES(out->data + out->size - 7, "+PONG\r\n", 7);
            }
        }
    }
    EXPECT_EQ(f.core->shard.fetches.size, 0);
    buf_close(&in);
    buf_close(&value);
    fixture_close(&f);
}

/* A value of which only the log has the bytes is answered once its entry is applied; until then conditions and expiry
 * work on the key alone. */
TEST(values, a_value_that_was_given_to_the_log_is_still_a_key)
{
    struct fixture f;
    struct buf value = {0};
    struct buf in = {0};
    fixture_open(&f);
    make_value(&value, HUGE_NOISE, true);
    f.disk.latency_min = 30;
    f.disk.latency_max = 30;
    resp_put_command(&in, (struct slice[]){slice_text("SET"), slice_text("k"), buf_slice(&value)},
                     3);
    struct fixture_client *client = fixture_client(&f, 0);
    core_client_bytes(f.core, client->session, in.data, in.size);
    for (uint32_t i = 0; i < 20 && f.core->shard.batches.flying_count == 0; i++) fixture_run(&f, 1);
    EXPECT_EQ(f.core->shard.batches.flying_count, 1);
    EXPECT_LT(HUGE_NOISE, f.core->shard.batches.flying_size);
    static const char more[] =
        "SET k v NX\r\nEXISTS k\r\nEXPIRE k 100\r\nSTRLEN k\r\nTTL k\r\nDEL k\r\nGET k\r\n";
    struct fixture_client *other = fixture_client(&f, 1);
    core_client_bytes(f.core, other->session, (const uint8_t *)more, sizeof more - 1);
    fixture_run(&f, 300);
    EXPECT_BYTES(client->out.data, "+OK\r\n", 5);
    buf_u8(&other->out, 0);
    EXPECT_TEXT((const char *)other->out.data,
                "$-1\r\n:1\r\n:1\r\n:6291456\r\n:100\r\n:1\r\n$-1\r\n");
    buf_close(&in);
    buf_close(&value);
    fixture_close(&f);
}

TEST(values, large_values_survive_a_start)
{
    struct fixture f;
    struct buf noise = {0};
    struct buf mixed = {0};
    fixture_open(&f);
    make_value(&noise, HUGE_NOISE, true);
    make_mixed(&mixed, HUGE_MIXED);
    EXPECT_TEXT(set(&f, "noise", buf_slice(&noise)), "+OK\r\n");
    EXPECT_TEXT(set(&f, "mixed", buf_slice(&mixed)), "+OK\r\n");
    EXPECT_TRUE(info_of(&f, "mixed").is_compressed);
    EXPECT_LT(4 * MIB, info_of(&f, "mixed").value_size);
    fixture_power_cut(&f);
    expect_get(&f, "noise", buf_slice(&noise));
    expect_get(&f, "mixed", buf_slice(&mixed));
    buf_close(&noise);
    buf_close(&mixed);
    fixture_close(&f);
}

TEST(values, large_values_grow_by_append)
{
    struct fixture f;
    struct buf value = {0};
    struct buf in = {0};
    const uint64_t sizes[] = {4 * MIB - 3, 4 * MIB + 1, 6 * MIB};
    fixture_open(&f);
    for (uint32_t i = 0; i < 6; i++) {
        value.size = 0;
        in.size = 0;
        make_value(&value, sizes[i / 2], i % 2 == 0);
        EXPECT_TEXT(set(&f, "k", buf_slice(&value)), "+OK\r\n");
        /* With something else in the batch that is open. */
        resp_put_command(
            &in, (struct slice[]){slice_text("SET"), slice_text("other"), slice_text("v")}, 3);
        resp_put_command(
            &in, (struct slice[]){slice_text("APPEND"), slice_text("k"), slice_text("12345")}, 3);
        resp_put_command(
            &in, (struct slice[]){slice_text("SET"), slice_text("other"), slice_text("w")}, 3);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "+OK\r\n:%llu\r\n+OK\r\n",
                       (unsigned long long)value.size + 5);
        EXPECT_TEXT(fixture_ask(&f, 0, in.data, in.size), expected);
        buf_text(&value, "12345");
        expect_get(&f, "k", buf_slice(&value));
        EXPECT_TEXT(fixture_say(&f, "GET other"), "$1\r\nw\r\n");
    }
    buf_close(&in);
    buf_close(&value);
    fixture_close(&f);
}
