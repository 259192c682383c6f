#include "node/warm.h"

#include "client/resp.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "tests/test.h"

static void add_command(struct buf *input, uint32_t count, const char *const *words)
{
    struct slice args[16];
    for (uint32_t i = 0; i < count; i++) args[i] = slice_text(words[i]);
    resp_put_command(input, args, count);
}

static bool key_is(const struct warm *warm, uint32_t at, const char *text)
{
    return slice_equal(warm->keys[at], slice_text(text));
}

TEST(warm, finds_the_keys_of_a_pipeline_and_which_are_read)
{
    struct buf input = {0};
    struct warm warm = {0};
    add_command(&input, 2, (const char *[]){"GET", "one"});
    add_command(&input, 3, (const char *[]){"SET", "two", "value"});
    add_command(&input, 5, (const char *[]){"SET", "three", "value", "EX", "5"});
    EXPECT_TRUE(warm_look(&warm, buf_slice(&input)));
    EXPECT_EQ(warm.count, 3);
    EXPECT_TRUE(key_is(&warm, 0, "one"));
    EXPECT_TRUE(key_is(&warm, 1, "two"));
    EXPECT_TRUE(key_is(&warm, 2, "three"));
    EXPECT_TRUE(warm.reads[0]);
    EXPECT_FALSE(warm.reads[1]);
    EXPECT_FALSE(warm.reads[2]);
    /* The next client's come behind them. */
    EXPECT_TRUE(warm_look(&warm, buf_slice(&input)));
    EXPECT_EQ(warm.count, 6);
    EXPECT_TRUE(key_is(&warm, 3, "one"));
    buf_close(&input);
}

TEST(warm, takes_whole_requests_only)
{
    struct buf input = {0};
    add_command(&input, 2, (const char *[]){"GET", "one"});
    const uint64_t first = input.size;
    add_command(&input, 3, (const char *[]){"SET", "two", "value"});
    for (uint64_t size = 0; size <= input.size; size++) {
        struct warm warm = {0};
        /* A copy of exactly so many bytes, so that the sanitizer sees a look beyond them. */
        uint8_t *copy = mem_copy(input.data, size > 0 ? size : 1);
        EXPECT_TRUE(warm_look(&warm, slice_of(copy, size)));
        EXPECT_EQ(warm.count, size < first ? 0 : size < input.size ? 1 : 2);
        mem_free(copy);
    }
    buf_close(&input);
}

TEST(warm, stops_when_it_has_enough)
{
    struct buf input = {0};
    struct warm warm = {0};
    for (uint32_t i = 0; i < WARM_MAX; i++) {
        add_command(&input, 2, (const char *[]){"GET", i < WARM_MAX - 1 ? "first" : "last"});
    }
    EXPECT_FALSE(warm_look(&warm, buf_slice(&input)));
    EXPECT_EQ(warm.count, WARM_MAX);
    EXPECT_TRUE(key_is(&warm, WARM_MAX - 1, "last"));
    EXPECT_FALSE(warm_look(&warm, buf_slice(&input)));
    EXPECT_EQ(warm.count, WARM_MAX);
    buf_close(&input);
}

TEST(warm, passes_over_what_is_unusual)
{
    static const char *const unusual[] = {
        "",
        "GET one\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*\r\n$3\r\nGET\r\n",
        "*2\r\n$-1\r\n$3\r\none\r\n",
        "*2\r\n$3\r\nGET\r\n$\r\n\r\n",
        "*2\r\n:3\r\nGET\r\n$3\r\none\r\n",
        "*2\n$3\nGET\n$3\none\n",
        "*2\r\n$3\r\nGET\r\n$99999999999999999999999999\r\none\r\n",
        "*2\r\n$3\r\nGET\r\n$18446744073709551615\r\none\r\n",
        "*99999999999999999999\r\n$3\r\nGET\r\n$3\r\none\r\n",
        "*9\r\n$3\r\nDEL\r\n$1\r\na\r\n",
    };
    for (uint32_t i = 0; i < sizeof unusual / sizeof unusual[0]; i++) {
        struct warm warm = {0};
        EXPECT_TRUE(warm_look(&warm, slice_text(unusual[i])));
        EXPECT_EQ(warm.count, 0);
    }
}

TEST(warm, damaged_input_is_never_read_beyond_its_end)
{
    struct buf input = {0};
    struct prng prng = prng_seed(1);
    add_command(&input, 2, (const char *[]){"GET", "one"});
    add_command(&input, 3, (const char *[]){"SET", "two", "value"});
    for (uint32_t i = 0; i < 20000; i++) {
        struct warm warm = {0};
        const uint64_t size = 1 + prng_below(&prng, input.size);
        uint8_t *copy = mem_copy(input.data, size);
        for (uint64_t k = prng_below(&prng, 4); k > 0; k--) {
            copy[prng_below(&prng, size)] = (uint8_t) "*$0123456789\r\n\xff"[prng_below(&prng, 15)];
        }
        EXPECT_TRUE(warm_look(&warm, slice_of(copy, size)));
        for (uint32_t k = 0; k < warm.count; k++) {
            EXPECT_TRUE(warm.keys[k].data >= copy);
            EXPECT_TRUE(warm.keys[k].data + warm.keys[k].size <= copy + size);
        }
        mem_free(copy);
    }
    buf_close(&input);
}
