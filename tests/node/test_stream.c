/* KV.RANGE, KEYS, KV.GET AT and KV.HISTORY against a model: random writes, any revision that is kept, small windows. */
#include "node/core_parts.h"
#include "storage/base/prng.h"
#include "storage/store_inner.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define KEYS 48u
#define SHOTS_MAX 400u

/* What a range over everything was at one revision, as the node told it then. */
struct shot {
    uint64_t revision;
    struct buf all;
    char *values[KEYS];
};

struct world {
    struct fixture fixture;
    struct prng prng;
    char *values[KEYS]; /* NULL: absent */
    struct shot shots[SHOTS_MAX];
    uint32_t shot_count;
    uint64_t next_value;
    uint64_t told;
    uint64_t refused;
};

static uint64_t below(struct world *world, uint64_t bound)
{
    return prng_below(&world->prng, bound);
}

static struct store *store_of(struct world *world)
{
    return core_store(world->fixture.core);
}

/* Words separated by spaces; "-" is an empty one. */
static void put_words(struct buf *out, const char *words)
{
    struct slice args[16];
    uint32_t count = 0;
    for (const char *at = words; *at != 0;) {
        const char *end = strchr(at, ' ');
        const uint64_t size = end == NULL ? strlen(at) : (uint64_t)(end - at);
        args[count++] = size == 1 && *at == '-' ? slice_of("", 0) : slice_of(at, size);
        at += size + (end != NULL);
    }
    resp_put_command(out, args, count);
}

static bool is_whole(const struct buf *out)
{
    uint64_t at = 0;
    uint64_t left = 1;
    while (left > 0) {
        const uint8_t *end = at < out->size ? memchr(out->data + at, '\n', out->size - at) : NULL;
        if (end == NULL) return false;
        const char type = (char)out->data[at];
        const long long number = strtoll((const char *)out->data + at + 1, NULL, 10);
        at = (uint64_t)(end - out->data) + 1;
        left--;
        if (type == '*' && number > 0) left += (uint64_t)number;
        if (type == '$' && number >= 0) at += (uint64_t)number + 2;
        if (at > out->size) return false;
    }
    CHECK(at == out->size);
    return true;
}

/* Asks on connection @at and waits until the whole reply is here. */
static struct slice ask_raw(struct world *world, int at, struct slice request)
{
    struct fixture *fixture = &world->fixture;
    struct fixture_client *client = fixture_client(fixture, at);
    client->out.size = 0;
    core_client_bytes(fixture->core, client->session, request.data, request.size);
    for (int i = 0; i < 100000 && !is_whole(&client->out); i++) fixture_run(fixture, 1);
    CHECK(is_whole(&client->out));
    return buf_slice(&client->out);
}

static struct slice ask(struct world *world, int at, const char *words)
{
    struct buf request = {0};
    put_words(&request, words);
    const struct slice reply = ask_raw(world, at, buf_slice(&request));
    buf_close(&request);
    return reply;
}

static void value_text(struct world *world, char **value)
{
    static const uint64_t sizes[] = {3, 30, 62, 64, 100, 300, 2000, 9000};
    const uint64_t size = below(world, sizes[below(world, 8)]) + 2;
    char *text = malloc(size + 24);
    CHECK(text != NULL);
    const int head = snprintf(text, 24, "%llu:", (unsigned long long)world->next_value++);
    const bool is_plain = below(world, 2) == 0;
    for (uint64_t i = 0; i < size; i++) {
        text[(uint64_t)head + i] = (char)('a' + (is_plain ? i / 50 % 26 : below(world, 26)));
    }
    text[(uint64_t)head + size] = 0;
    free(*value);
    *value = text;
}

static void drop_value(struct world *world, uint64_t key)
{
    free(world->values[key]);
    world->values[key] = NULL;
}

/* One write, or several in one entry, which MSET is. */
static void write_some(struct world *world)
{
    char line[12000];
    const uint64_t key = below(world, KEYS);
    const uint64_t what = below(world, 100);
    if (what < 60) {
        value_text(world, &world->values[key]);
        (void)snprintf(line, sizeof line, "SET k%02u %s", (unsigned)key, world->values[key]);
    } else if (what < 70) {
        const uint64_t other = (key + 1) % KEYS;
        value_text(world, &world->values[key]);
        value_text(world, &world->values[other]);
        if (strlen(world->values[key]) + strlen(world->values[other]) > 11000) {
            value_text(world, &world->values[other]);
        }
        (void)snprintf(line, sizeof line, "MSET k%02u %.5000s k%02u %.5000s", (unsigned)key,
                       world->values[key], (unsigned)other, world->values[other]);
        if (strlen(world->values[key]) > 5000) world->values[key][5000] = 0;
        if (strlen(world->values[other]) > 5000) world->values[other][5000] = 0;
    } else if (what < 88) {
        drop_value(world, key);
        (void)snprintf(line, sizeof line, "DEL k%02u", (unsigned)key);
    } else {
        /* Changes the revision, and nothing that is seen here. */
        (void)snprintf(line, sizeof line, "PEXPIRE k%02u 100000000", (unsigned)key);
    }
    const struct slice reply = ask(world, 0, line);
    CHECK(reply.data[0] != '-');
}

static void shoot(struct world *world)
{
    if (world->shot_count == SHOTS_MAX) return;
    struct shot *shot = &world->shots[world->shot_count++];
    const struct slice all = ask(world, 0, "KV.RANGE - -");
    shot->revision = store_newest_revision(store_of(world));
    buf_append(&shot->all, all.data, all.size);
    for (uint32_t i = 0; i < KEYS; i++) {
        shot->values[i] = world->values[i] != NULL ? strdup(world->values[i]) : NULL;
    }
}

/* What the model says that the range is, without revisions. */
static void expect_range(const struct shot *shot, const char *words, struct slice reply)
{
    struct buf expected = {0};
    uint64_t count = 0;
    for (uint32_t i = 0; i < KEYS; i++) count += shot->values[i] != NULL;
    if (strstr(words, "COUNT") != NULL) {
        buf_printf(&expected, ":%llu\r\n", (unsigned long long)count);
    } else {
        buf_printf(&expected, "*%llu\r\n", (unsigned long long)count);
        for (uint32_t i = 0; i < KEYS; i++) {
            const uint32_t key = strstr(words, "REVERSE") != NULL ? KEYS - 1 - i : i;
            if (shot->values[key] != NULL) buf_printf(&expected, "$3\r\nk%02u\r\n", key);
        }
    }
    if (!slice_equal(buf_slice(&expected), reply)) {
        fprintf(stderr, "%s at %llu: %.*s\nexpected: %.*s\n", words,
                (unsigned long long)shot->revision, (int)reply.size, (const char *)reply.data,
                (int)expected.size, (const char *)expected.data);
    }
    EXPECT_TRUE(slice_equal(buf_slice(&expected), reply));
    buf_close(&expected);
}

/* Asks for @shot in some way. */
static void look_back(struct world *world, const struct shot *shot)
{
    static const char *const forms[] = {"", " KEYS", " KEYS REVERSE", " COUNT"};
    char line[128];
    const char *form = forms[below(world, 4)];
    const bool is_kept = shot->revision >= store_oldest_revision(store_of(world));
    (void)snprintf(line, sizeof line, "KV.RANGE - -%s AT %llu", form,
                   (unsigned long long)shot->revision);
    const struct slice reply = ask(world, 1, line);
    const bool is_refused = reply.size > 10 && memcmp(reply.data, "-COMPACTED", 10) == 0;
    world->told += !is_refused;
    world->refused += is_refused;
    if (!is_kept) {
        EXPECT_TRUE(is_refused);
        return;
    }
    if (is_refused) { /* It may have gone meanwhile. */
        EXPECT_TRUE(shot->revision < store_oldest_revision(store_of(world)));
    } else if (form[0] == 0) {
        if (!slice_equal(reply, buf_slice(&shot->all))) {
            fprintf(stderr, "revision %llu\n%.2000s\nexpected\n%.2000s\n",
                    (unsigned long long)shot->revision, (const char *)reply.data,
                    (const char *)shot->all.data);
        }
        EXPECT_TRUE(slice_equal(reply, buf_slice(&shot->all)));
    } else {
        expect_range(shot, line, reply);
    }
}

/* One key at a revision, and a part of the range with a limit. */
static void look_at_one(struct world *world, const struct shot *shot)
{
    char line[128];
    const uint64_t key = below(world, KEYS);
    if (shot->revision < store_oldest_revision(store_of(world))) return;
    (void)snprintf(line, sizeof line, "KV.GET k%02u AT %llu", (unsigned)key,
                   (unsigned long long)shot->revision);
    const struct slice reply = ask(world, 2, line);
    if (reply.data[0] == '-') {
        EXPECT_TRUE(shot->revision < store_oldest_revision(store_of(world)));
        return;
    }
    const char *value = shot->values[key];
    if (value == NULL) {
        EXPECT_TRUE(slice_equal(reply, slice_text("*-1\r\n")));
        return;
    }
    char head[64];
    const int size = snprintf(head, sizeof head, "*3\r\n$%zu\r\n", strlen(value));
    EXPECT_TRUE(reply.size > (uint64_t)size + strlen(value));
    EXPECT_EQ(memcmp(reply.data, head, (size_t)size), 0);
    EXPECT_EQ(memcmp(reply.data + size, value, strlen(value)), 0);
}

static void world_open(struct world *world, uint64_t seed, uint64_t retention)
{
    *world = (struct world){.prng = prng_seed(seed), .next_value = 1};
    fixture_open_sized(&world->fixture, 64 * KIB);
    fixture_stop(&world->fixture);
    world->fixture.config.retention_size = retention;
    world->fixture.config.compaction_rate = 64 * MIB;
    world->fixture.config.compress_above_size = 100;
    world->fixture.disk.latency_min = 20;
    world->fixture.disk.latency_max = 900;
    world->fixture.disk.cold_percent = 50;
    fixture_start(&world->fixture);
}

static void world_close(struct world *world)
{
    fixture_close(&world->fixture);
    for (uint32_t i = 0; i < KEYS; i++) free(world->values[i]);
    for (uint32_t i = 0; i < world->shot_count; i++) {
        buf_close(&world->shots[i].all);
        for (uint32_t k = 0; k < KEYS; k++) free(world->shots[i].values[k]);
    }
}

static void run(uint64_t seed, uint64_t retention, uint64_t undo_size, uint32_t writes)
{
    static struct world world;
    world_open(&world, seed, retention);
    store_of(&world)->past_size_max = undo_size;
    for (uint32_t i = 0; i < writes; i++) {
        write_some(&world);
        if (below(&world, 8) == 0) shoot(&world);
        if (world.shot_count == 0 || below(&world, 6) != 0) continue;
        const uint64_t recent = world.shot_count < 30 ? world.shot_count : 30;
        const uint64_t at = world.shot_count - 1 - below(&world, recent);
        look_back(&world, &world.shots[at]);
        look_at_one(&world, &world.shots[at]);
    }
    for (uint32_t i = 0; i < world.shot_count; i += 7) look_back(&world, &world.shots[i]);
    EXPECT_TRUE(world.told > 5);
    EXPECT_TRUE(store_of(&world)->past_lookups > 0);
    if (undo_size > 0) EXPECT_TRUE(store_of(&world)->past_passes > 2 * world.told);
    if (retention < MIB) EXPECT_TRUE(world.refused > 0);
    world_close(&world);
}

TEST(stream, any_revision_that_is_kept_is_told_as_it_was)
{
    for (uint64_t seed = 1; seed <= 2; seed++) run(seed, 64 * MIB, 0, 200);
}

TEST(stream, so_it_is_when_compaction_removes_what_is_old)
{
    for (uint64_t seed = 11; seed <= 12; seed++) run(seed, 192 * KIB, 0, 500);
}

TEST(stream, a_small_memory_of_changes_takes_several_passes)
{
    for (uint64_t seed = 21; seed <= 22; seed++) run(seed, 64 * MIB, 2 * KIB, 120);
}

/* As after a full disk, or when they were damaged: they are made again later. */
TEST(stream, what_the_log_has_is_told_without_hints)
{
    static struct world world;
    world_open(&world, 31, 64 * MIB);
    for (uint32_t i = 0; i < 200; i++) {
        write_some(&world);
        if (below(&world, 8) == 0) shoot(&world);
    }
    uint32_t sealed = 0;
    const struct shelf *shelf = &store_of(&world)->shelf;
    for (uint32_t i = 0; i < shelf->count; i++) {
        if (shelf->files[i]->state != SHELF_SEALED) continue;
        shelf->files[i]->hint_size = 0;
        sealed++;
    }
    EXPECT_TRUE(sealed > 2);
    for (uint32_t i = 0; i < world.shot_count; i++) {
        look_back(&world, &world.shots[i]);
        look_at_one(&world, &world.shots[i]);
    }
    EXPECT_EQ(world.refused, 0);
    world_close(&world);
}

/* What the log has is told after a start as before it; what compaction left out before is not. */
static void start_again(uint64_t seed, uint64_t retention, uint32_t writes)
{
    static struct world world;
    world_open(&world, seed, retention);
    for (uint32_t i = 0; i < writes; i++) {
        write_some(&world);
        if (below(&world, 8) == 0) shoot(&world);
    }
    shoot(&world);
    fixture_restart(&world.fixture);
    const struct shot *last = &world.shots[world.shot_count - 1];
    EXPECT_TRUE(slice_equal(ask(&world, 0, "KV.RANGE - -"), buf_slice(&last->all)));
    world.told = 0;
    for (uint32_t i = 0; i < world.shot_count; i++) {
        look_back(&world, &world.shots[i]);
        look_at_one(&world, &world.shots[i]);
    }
    if (retention > MIB) EXPECT_EQ(world.told, world.shot_count);
    if (retention < MIB) EXPECT_TRUE(world.told < world.shot_count);
    world_close(&world);
}

TEST(stream, a_start_knows_what_the_log_tells)
{
    start_again(51, 64 * MIB, 120);
    start_again(52, 128 * KIB, 400);
}

/* The range is told as it was when it was asked for, however slowly it is read and whatever changes meanwhile. */
static void read_slowly(uint64_t seed, uint64_t undo_size, const char *form)
{
    static struct world world;
    char line[64];
    struct buf request = {0};
    world_open(&world, seed, 64 * MIB);
    store_of(&world)->past_size_max = undo_size;
    for (uint32_t i = 0; i < 200; i++) write_some(&world);
    (void)snprintf(line, sizeof line, "KV.RANGE - -%s", form);
    const struct slice now = ask(&world, 0, line);
    struct buf expected = {0};
    buf_append(&expected, now.data, now.size);
    struct fixture_client *slow = fixture_client(&world.fixture, 3);
    slow->take_max = 700;
    put_words(&request, line);
    core_client_bytes(world.fixture.core, slow->session, request.data, request.size);
    buf_close(&request);
    fixture_run(&world.fixture, 3);
    for (uint32_t i = 0; i < 300; i++) {
        write_some(&world);
        core_client_writable(world.fixture.core, slow->session);
    }
    for (uint32_t i = 0; i < 20000 && !is_whole(&slow->out); i++) {
        core_client_writable(world.fixture.core, slow->session);
        fixture_run(&world.fixture, 1);
    }
    EXPECT_TRUE(slice_equal(buf_slice(&slow->out), buf_slice(&expected)));
    buf_close(&expected);
    world_close(&world);
}

TEST(stream, a_slow_client_sees_one_moment)
{
    read_slowly(31, 0, "");
    read_slowly(32, 0, " REVERSE");
    read_slowly(33, 5 * KIB, "");
    read_slowly(34, 5 * KIB, " REVERSE");
}

/* What was there before is told by nothing any more; the reply has as many elements as it said. */
TEST(stream, a_range_that_meets_a_flush_in_the_middle_ends_with_an_error)
{
    static struct world world;
    char line[6000];
    struct buf request = {0};
    struct buf expected = {0};
    world_open(&world, 35, 64 * MIB);
    for (uint32_t i = 0; i < 300; i++) {
        const int size = snprintf(line, sizeof line, "SET big%03u ", i);
        memset(line + size, 'x', 5000);
        line[size + 5000] = 0;
        (void)ask(&world, 0, line);
    }
    const struct slice now = ask(&world, 0, "KV.RANGE - -");
    buf_append(&expected, now.data, now.size);
    struct fixture_client *slow = fixture_client(&world.fixture, 3);
    slow->take_max = 700;
    put_words(&request, "KV.RANGE - -");
    core_client_bytes(world.fixture.core, slow->session, request.data, request.size);
    for (uint32_t i = 0; i < 2000 && slow->out.size < 100000; i++) {
        core_client_writable(world.fixture.core, slow->session);
        fixture_run(&world.fixture, 1);
    }
    EXPECT_LE(100000, slow->out.size);
    (void)ask(&world, 0, "FLUSHALL");
    fixture_put(&world.fixture, 3, "PING\r\n");
    for (uint32_t i = 0; i < 20000; i++) {
        if (memcmp(slow->out.data + slow->out.size - 7, "+PONG\r\n", 7) == 0) break;
        core_client_writable(world.fixture.core, slow->session);
        fixture_run(&world.fixture, 1);
    }
    EXPECT_FALSE(slow->is_closed);
    struct resp_reply reply = {0};
    const struct slice told = slice_of(slow->out.data, slow->out.size - 7);
    EXPECT_EQ(resp_read(&reply, told), RESP_OK);
    EXPECT_EQ(reply.nodes[0].count, 300);
    const struct resp_node *row = reply.nodes + 1;
    uint64_t rows = 0;
    for (; row->kind == RESP_ARRAY; row += row->span) rows++;
    EXPECT_TRUE(rows > 10 && rows < 290);
    EXPECT_EQ(row->kind, RESP_ERROR);
    EXPECT_TRUE(memcmp(row->text.data, "COMPACTED revision ", 19) == 0);
    /* What was told before is what was there. */
    EXPECT_BYTES(slow->out.data, expected.data, (uint64_t)(row->text.data - 1 - slow->out.data));
    uint64_t nulls = 0;
    for (row++; row < reply.nodes + reply.count; row++) nulls += row->kind == RESP_NULL;
    EXPECT_EQ(rows + 1 + nulls, 300);
    resp_reply_close(&reply);
    EXPECT_TEXT(fixture_say_as(&world.fixture, 4, "KV.RANGE a z"), "*0\r\n");
    buf_close(&request);
    buf_close(&expected);
    world_close(&world);
}

/* Pages at the revision of the first one, while keys change: together they are the range at that revision. */
static void read_pages(uint64_t seed, bool is_reverse, bool is_kept)
{
    static struct world world;
    char line[128];
    char bound[8] = "-";
    struct buf pages = {0};
    struct buf expected = {0};
    world_open(&world, seed, 64 * MIB);
    for (uint32_t i = 0; i < 200; i++) write_some(&world);
    (void)snprintf(line, sizeof line, "KV.RANGE - - KEYS%s", is_reverse ? " REVERSE" : "");
    const struct slice all = ask(&world, 0, line);
    const uint8_t *start = (const uint8_t *)memchr(all.data, '\n', all.size) + 1;
    buf_append(&expected, start, all.size - (uint64_t)(start - all.data));
    const unsigned long long revision = store_newest_revision(store_of(&world));
    const uint64_t passes = store_of(&world)->past_passes;
    for (uint32_t page = 0; page < 30; page++) {
        struct buf request = {0};
        struct slice args[9] = {slice_text("KV.RANGE"), slice_text(""),      slice_text(""),
                                slice_text("KEYS"),     slice_text("LIMIT"), slice_text("4"),
                                slice_text("AT"),       slice_text(line),    slice_text("REVERSE")};
        (void)snprintf(line, sizeof line, "%llu", revision);
        args[7] = slice_text(line);
        if (bound[0] != '-') args[is_reverse ? 2 : 1] = slice_of(bound, is_reverse ? 3 : 4);
        resp_put_command(&request, args, is_reverse ? 9 : 8);
        const struct slice reply = ask_raw(&world, 1, buf_slice(&request));
        buf_close(&request);
        const uint8_t *keys = (const uint8_t *)memchr(reply.data, '\n', reply.size) + 1;
        const uint64_t size = reply.size - (uint64_t)(keys - reply.data);
        buf_append(&pages, keys, size);
        if (size < 4 * 9) break;
        /* The key behind the last one is that and a zero byte. */
        memcpy(bound, keys + size - 5, 3);
        bound[3] = 0;
        if (!is_kept) fixture_run(&world.fixture, STREAM_PARKED_MS + 100);
        for (uint32_t i = 0; i < 5; i++) write_some(&world);
    }
    EXPECT_TRUE(slice_equal(buf_slice(&pages), buf_slice(&expected)));
    if (is_kept) EXPECT_TRUE(store_of(&world)->past_passes <= passes + 1);
    if (!is_kept) EXPECT_TRUE(store_of(&world)->past_passes > passes + 1);
    buf_close(&pages);
    buf_close(&expected);
    world_close(&world);
}

TEST(stream, pages_at_one_revision_make_one_range)
{
    read_pages(41, false, true);
    read_pages(42, true, true);
    read_pages(43, false, false);
    read_pages(44, true, false);
}

static const char *say(struct fixture *fixture, const char *line)
{
    const char *answer = fixture_say(fixture, line);
    for (int i = 0; i < 300 && answer[0] == 0; i++) {
        fixture_run(fixture, 1);
        answer = (const char *)fixture->clients[0].out.data;
        buf_u8(&fixture->clients[0].out, 0);
        fixture->clients[0].out.size--;
    }
    return answer;
}

static unsigned long long newest(struct fixture *fixture)
{
    return store_newest_revision(core_store(fixture->core));
}

TEST(stream, a_history_tells_every_change_the_newest_first)
{
    struct fixture fixture;
    char line[128];
    char expected[1024];
    fixture_open(&fixture);
    EXPECT_TEXT(say(&fixture, "KV.HISTORY k"), "*0\r\n");
    EXPECT_TEXT(say(&fixture, "SET k 1"), "+OK\r\n");
    const unsigned long long first = newest(&fixture) & ~0xffffull;
    EXPECT_TEXT(say(&fixture, "PEXPIREAT k 1700009999999"), ":1\r\n");
    EXPECT_TEXT(say(&fixture, "SET other 1"), "+OK\r\n");
    EXPECT_TEXT(say(&fixture, "MSET k 2 x 1 k 3"), "+OK\r\n");
    EXPECT_TEXT(say(&fixture, "DEL k"), ":1\r\n");
    EXPECT_TEXT(say(&fixture, "SET k 4 PX 5"), "+OK\r\n");
    fixture_run(&fixture, 300);
    EXPECT_TEXT(say(&fixture, "GET k"), "$-1\r\n");
    (void)snprintf(expected, sizeof expected,
                   "*7\r\n"
                   "*4\r\n:%llu\r\n$7\r\nexpired\r\n$-1\r\n:-1\r\n"
                   "*4\r\n:%llu\r\n$3\r\nput\r\n$1\r\n4\r\n",
                   first + (6ull << 16), first + (5ull << 16));
    const char *answer = say(&fixture, "KV.HISTORY k");
    EXPECT_EQ(strncmp(answer, expected, strlen(expected)), 0);
    answer = strstr(answer, "$6\r\ndelete");
    (void)snprintf(expected, sizeof expected,
                   "$6\r\ndelete\r\n$-1\r\n:-1\r\n"
                   "*4\r\n:%llu\r\n$3\r\nput\r\n$1\r\n3\r\n:-1\r\n"
                   "*4\r\n:%llu\r\n$3\r\nput\r\n$1\r\n2\r\n:-1\r\n"
                   "*4\r\n:%llu\r\n$13\r\nexpire-change\r\n$-1\r\n:1700009999999\r\n"
                   "*4\r\n:%llu\r\n$3\r\nput\r\n$1\r\n1\r\n:-1\r\n",
                   first + (3ull << 16) + 2, first + (3ull << 16), first + (1ull << 16), first);
    EXPECT_TEXT(answer, expected);
    answer = say(&fixture, "KV.HISTORY k COUNT 1");
    EXPECT_EQ(strncmp(answer, "*1\r\n", 4), 0);
    /* In the middle of an entry. */
    (void)snprintf(line, sizeof line, "KV.GET k AT %llu", first + (3ull << 16) + 1);
    EXPECT_EQ(strncmp(say(&fixture, line), "*3\r\n$1\r\n2\r\n", 11), 0);
    (void)snprintf(line, sizeof line, "KV.GET k AT %llu", first + (3ull << 16) + 2);
    EXPECT_EQ(strncmp(say(&fixture, line), "*3\r\n$1\r\n3\r\n", 11), 0);
    (void)snprintf(line, sizeof line, "KV.GET k AT %llu", first + (4ull << 16));
    EXPECT_TEXT(say(&fixture, line), "*-1\r\n");
    fixture_close(&fixture);
}

/* Values that together are longer than any other reply may be; they are unpacked in the background. */
TEST(stream, large_values_of_a_range_need_not_fit_in_memory_together)
{
    struct fixture fixture;
    struct buf line = {0};
    struct resp_reply reply = {0};
    fixture_open(&fixture);
    fixture.config.output_limit_size = MIB;
    for (uint32_t i = 0; i < 5; i++) {
        line.size = 0;
        buf_printf(&line, "*3\r\n$3\r\nSET\r\n$4\r\nbig%u\r\n$3000000\r\n", i);
        memset(buf_extend(&line, 3000000), 'v', 3000000);
        buf_text(&line, "\r\n");
        (void)fixture_ask(&fixture, 0, line.data, line.size);
        fixture_run(&fixture, 100);
    }
    (void)fixture_ask(&fixture, 0, "SET small 1\r\n", 13);
    static const char *const forms[] = {"KV.RANGE \"\" \"\"\r\n", "KV.RANGE \"\" \"\" REVERSE\r\n"};
    for (uint32_t i = 0; i < 2; i++) {
        (void)fixture_ask(&fixture, 0, forms[i], strlen(forms[i]));
        fixture_run(&fixture, 300);
        EXPECT_EQ(resp_read(&reply, buf_slice(&fixture_client(&fixture, 0)->out)), RESP_OK);
        EXPECT_EQ(reply.nodes[0].count, 6);
        EXPECT_FALSE(fixture_client(&fixture, 0)->is_closed);
    }
    resp_reply_close(&reply);
    buf_close(&line);
    fixture_close(&fixture);
}

/* When each row was looked for in the whole entry this took seconds, in one turn. */
TEST(stream, a_history_of_thousands_of_changes_in_one_entry)
{
    const uint32_t count = 30000;
    struct fixture fixture;
    struct buf line = {0};
    struct resp_reply reply = {0};
    fixture_open(&fixture);
    (void)fixture_say(&fixture, "SET k before");
    buf_printf(&line, "*%u\r\n$4\r\nMSET\r\n", 2 * count + 1);
    for (uint32_t i = 0; i < count; i++) buf_printf(&line, "$1\r\nk\r\n$5\r\n%05u\r\n", i);
    (void)fixture_ask(&fixture, 0, line.data, line.size);
    const uint64_t turns = fixture.core->stats.turns_total;
    (void)fixture_ask(&fixture, 0, "KV.HISTORY k\r\n", 14);
    for (int i = 0; i < 100 && fixture_client(&fixture, 0)->out.size == 0; i++) {
        fixture_run(&fixture, 1);
    }
    EXPECT_LT(turns + 5, fixture.core->stats.turns_total);
    EXPECT_EQ(resp_read(&reply, buf_slice(&fixture_client(&fixture, 0)->out)), RESP_OK);
    EXPECT_EQ(reply.nodes[0].count, count + 1);
    const struct resp_node *row = &reply.nodes[1];
    for (uint32_t i = count; i-- > 0; row += row->span) {
        char text[16];
        (void)snprintf(text, sizeof text, "%05u", i);
        EXPECT_TRUE(slice_equal(row[3].text, slice_text(text)));
    }
    EXPECT_TRUE(slice_equal(row[3].text, slice_text("before")));
    EXPECT_TRUE(strncmp(fixture_say(&fixture, "KV.HISTORY k COUNT 2"), "*2\r\n*4\r\n", 8) == 0);
    resp_reply_close(&reply);
    buf_close(&line);
    fixture_close(&fixture);
}

TEST(stream, a_flush_ends_what_is_kept)
{
    struct fixture fixture;
    char line[128];
    char expected[128];
    fixture_open(&fixture);
    EXPECT_TEXT(say(&fixture, "SET k 1"), "+OK\r\n");
    const unsigned long long before = newest(&fixture);
    EXPECT_TEXT(say(&fixture, "FLUSHALL"), "+OK\r\n");
    const unsigned long long flush = newest(&fixture) & ~0xffffull;
    EXPECT_TEXT(say(&fixture, "SET k 2"), "+OK\r\n");
    (void)snprintf(line, sizeof line, "KV.RANGE a z AT %llu", before);
    (void)snprintf(expected, sizeof expected,
                   "-COMPACTED revision %llu is not kept any more: the oldest is %llu\r\n", before,
                   flush);
    EXPECT_TEXT(say(&fixture, line), expected);
    (void)snprintf(line, sizeof line, "KV.RANGE a z AT %llu", flush);
    EXPECT_TEXT(say(&fixture, line), "*0\r\n");
    (void)snprintf(line, sizeof line, "KV.RANGE a z AT %llu", newest(&fixture) + 1);
    EXPECT_EQ(strncmp(say(&fixture, line), "-ERR revision ", 14), 0);
    fixture_close(&fixture);
}

TEST(stream, options_are_checked)
{
    static const char *const wrong[] = {
        "KV.RANGE a b LIMIT",
        "KV.RANGE a b LIMIT -1",
        "KV.RANGE a b KEYS COUNT",
        "KV.RANGE a b AT",
        "KV.RANGE a b AT x",
        "KV.RANGE a b NONSENSE",
        "KV.GET k AT",
        "KV.GET k REV 7",
        "KV.GET k AT -7",
        "KV.HISTORY k COUNT",
        "KV.HISTORY k COUNT -1",
        "KV.HISTORY k 1 2 3",
        "KV.RANGE a b AT 99999999999999999999",
    };
    struct fixture fixture;
    fixture_open(&fixture);
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        EXPECT_EQ(strncmp(say(&fixture, wrong[i]), "-ERR ", 5), 0);
    }
    EXPECT_TEXT(say(&fixture, "SET k 1"), "+OK\r\n");
    EXPECT_TEXT(say(&fixture, "KV.RANGE z a"), "*0\r\n");
    EXPECT_TEXT(say(&fixture, "KV.RANGE a z LIMIT 0 COUNT"), ":1\r\n");
    EXPECT_EQ(strncmp(say(&fixture, "KV.RANGE a z KEYS REVISION"), "*2\r\n:", 5), 0);
    EXPECT_TEXT(say(&fixture, "KEYS *"), "*1\r\n$1\r\nk\r\n");
    EXPECT_TEXT(say(&fixture, "KEYS x*"), "*0\r\n");
    fixture_close(&fixture);
}

/* It waits for room, and is told the limit when there is none for as long as `park`. */
TEST(stream, a_range_waits_for_one_of_the_views_and_hears_how_many_there_are)
{
    struct fixture fixture;
    struct store_past *views[STORE_PASTS_MAX];
    fixture_open(&fixture);
    EXPECT_TEXT(fixture_say(&fixture, "SET k v"), "+OK\r\n");
    struct store *store = core_store(fixture.core);
    for (uint32_t i = 0; i < STORE_PASTS_MAX; i++) {
        views[i] = store_past_open(store, store_newest_revision(store), (struct slice){0},
                                   (struct slice){0}, false, false);
        EXPECT_TRUE(views[i] != NULL);
    }
    EXPECT_TEXT(fixture_say(&fixture, "KV.RANGE a z KEYS"), "");
    fixture_run(&fixture, fixture.config.park_ms + 100);
    EXPECT_TEXT(fixture_got(&fixture, 0), "-TRYAGAIN 48 ranges or old revisions are being read on "
                                          "this node, which is the most it takes\r\n");
    EXPECT_TEXT(fixture_say(&fixture, "KV.RANGE a z KEYS"), "");
    store_past_close(views[7]);
    fixture_run(&fixture, 10);
    EXPECT_TEXT(fixture_got(&fixture, 0), "*1\r\n$1\r\nk\r\n");
    for (uint32_t i = 0; i < STORE_PASTS_MAX; i++) {
        if (i != 7) store_past_close(views[i]);
    }
    fixture_close(&fixture);
}

static char last_warning[256];

static void note_warning(void *context, int level, const char *line)
{
    (void)context;
    if (level == CONFIG_WARN) (void)snprintf(last_warning, sizeof last_warning, "%s", line);
}

static void set_random(struct fixture *fixture, struct prng *prng, uint32_t key)
{
    struct buf line = {0};
    buf_printf(&line, "*3\r\n$3\r\nSET\r\n$5\r\n%05u\r\n$9000\r\n", key);
    for (uint32_t i = 0; i < 9000; i++) buf_u8(&line, (uint8_t)('a' + prng_below(prng, 26)));
    buf_text(&line, "\r\n");
    EXPECT_TEXT(fixture_ask(fixture, 0, line.data, line.size), "+OK\r\n");
    fixture_run(fixture, 5);
    buf_close(&line);
}

/* Files are kept for a view no longer than there is room in `retention`. That is no damage. */
TEST(stream, files_that_a_slow_reader_would_need_and_are_gone_are_not_damaged)
{
    struct fixture fixture;
    struct prng prng = prng_seed(3);
    fixture_open_sized(&fixture, 64 * KIB);
    fixture.config.retention_size = 128 * KIB;
    fixture.config.compaction_rate = 64 * MIB;
    fixture_stop(&fixture);
    fixture_start(&fixture);
    for (uint32_t i = 0; i < 200; i++) set_random(&fixture, &prng, i);
    struct fixture_client *slow = fixture_client(&fixture, 3);
    slow->take_max = 0;
    fixture.net.log = note_warning;
    last_warning[0] = 0;
    const char *line = "KV.RANGE \"\" \"\"\r\n";
    core_client_bytes(fixture.core, slow->session, (const uint8_t *)line, strlen(line));
    fixture_run(&fixture, 20);
    for (uint32_t i = 0; i < 800; i++) set_random(&fixture, &prng, i % 200);
    slow->take_max = UINT64_MAX;
    for (uint32_t i = 0; i < 1000 && last_warning[0] == 0; i++) {
        core_client_writable(fixture.core, slow->session);
        fixture_run(&fixture, 1);
    }
    EXPECT_TRUE(strstr(last_warning, "what it needs is not kept any more") != NULL);
    EXPECT_EQ(store_damage(core_store(fixture.core))->count, 0);
    fixture_close(&fixture);
}
