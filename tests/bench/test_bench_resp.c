#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/test.h"

/* A generator that is measuring, with one connection and no socket: requests stay in out, replies are given. */
struct fixture {
    struct bench bench;
    struct bench_conn conn;
    uint8_t pool[BENCH_POOL_SIZE + 3];
};

static struct fixture *open_fixture(enum bench_operation operation)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    EXPECT_TRUE(fixture != NULL);
    struct bench *bench = &fixture->bench;
    bench->options = (struct bench_options){
        .operation = operation, .pipeline = 8, .value_size = 3, .keys = 7};
    bench->pool = fixture->pool;
    memset(bench->pool, 'v', sizeof fixture->pool);
    bench->random = 1;
    bench->phase = BENCH_MEASURE;
    bench_resp_open(bench);
    bench_resp_open_conn(bench, &fixture->conn);
    return fixture;
}

static void close_fixture(struct fixture *fixture)
{
    free(fixture->conn.queue);
    free(fixture->conn.out.data);
    free(fixture);
}

static void ask(struct fixture *fixture, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bench_resp_issue(&fixture->bench, &fixture->conn);
        fixture->conn.inflight++;
        fixture->bench.inflight++;
    }
}

static size_t take(struct fixture *fixture, const char *replies)
{
    return bench_resp_take(&fixture->bench, &fixture->conn, (const uint8_t *)replies,
                           strlen(replies));
}

TEST(bench_resp, fill_sets_every_key_in_order)
{
    struct fixture *fixture = open_fixture(BENCH_FILL);
    ask(fixture, 2);
    static const char expected[] = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$3\r\nvvv\r\n"
                                   "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\nvvv\r\n";
    EXPECT_EQ(fixture->conn.out.size, sizeof expected - 1);
    EXPECT_TRUE(memcmp(fixture->conn.out.data, expected, sizeof expected - 1) == 0);
    close_fixture(fixture);
}

TEST(bench_resp, only_ok_is_a_successful_set)
{
    struct fixture *fixture = open_fixture(BENCH_SET);
    ask(fixture, 5);
    take(fixture, "+OK\r\n-CLUSTERDOWN no leader\r\n$-1\r\n:1\r\n+QUEUED\r\n");
    EXPECT_EQ(fixture->bench.successes, 1);
    EXPECT_EQ(fixture->bench.errors, 4);
    EXPECT_EQ(fixture->bench.latencies.total, 1);
    EXPECT_EQ(fixture->conn.inflight, 0);
    EXPECT_TRUE(strcmp(fixture->bench.first_error, "-CLUSTERDOWN no leader") == 0);
    close_fixture(fixture);
}

TEST(bench_resp, get_wants_a_value_of_the_right_size)
{
    struct fixture *fixture = open_fixture(BENCH_GET);
    ask(fixture, 6);
    take(fixture, "$3\r\nabc\r\n$-1\r\n_\r\n$4\r\nabcd\r\n$0\r\n\r\n-ERR no\r\n");
    EXPECT_EQ(fixture->bench.successes, 1);
    EXPECT_EQ(fixture->bench.misses, 2);
    EXPECT_EQ(fixture->bench.errors, 3);
    EXPECT_EQ(fixture->bench.completed, 6);
    close_fixture(fixture);
}

TEST(bench_resp, any_split_of_the_replies_gives_the_same)
{
    static const char replies[] = "$3\r\na\nb\r\n$-1\r\n-ERR x\r\n$3\r\nxyz\r\n";
    const size_t size = sizeof replies - 1;
    for (size_t split = 0; split <= size; split++) {
        struct fixture *fixture = open_fixture(BENCH_GET);
        ask(fixture, 4);
        const uint8_t *data = (const uint8_t *)replies;
        const size_t used = bench_resp_take(&fixture->bench, &fixture->conn, data, split);
        EXPECT_TRUE(used <= split);
        const size_t rest = bench_resp_take(&fixture->bench, &fixture->conn, data + used,
                                            size - used);
        EXPECT_EQ(used + rest, size);
        EXPECT_EQ(fixture->bench.successes, 2);
        EXPECT_EQ(fixture->bench.misses, 1);
        EXPECT_EQ(fixture->bench.errors, 1);
        close_fixture(fixture);
    }
}

TEST(bench_resp, warm_up_is_not_counted)
{
    struct fixture *fixture = open_fixture(BENCH_SET);
    fixture->bench.phase = BENCH_WARMUP;
    ask(fixture, 1);
    take(fixture, "+OK\r\n");
    EXPECT_EQ(fixture->bench.completed, 0);
    EXPECT_EQ(fixture->bench.latencies.total, 0);
    EXPECT_EQ(fixture->conn.inflight, 0);
    close_fixture(fixture);
}

TEST(bench_resp, random_keys_reach_the_whole_range_and_not_beyond)
{
    struct fixture *fixture = open_fixture(BENCH_GET);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t key;
        EXPECT_EQ(bench_pick(&fixture->bench, &key), BENCH_GET);
        EXPECT_TRUE(key < 7);
        seen |= 1u << key;
    }
    EXPECT_EQ(seen, 0x7f);
    close_fixture(fixture);
}
