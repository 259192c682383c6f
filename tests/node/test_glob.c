#include "node/glob.h"

#include "tests/test.h"

static bool matches(const char *pattern, const char *text)
{
    return glob_match(slice_text(pattern), slice_text(text));
}

TEST(glob, stars_and_marks)
{
    EXPECT_FALSE(matches("*", "")); /* As in Redis. */
    EXPECT_FALSE(matches("a*", ""));
    EXPECT_TRUE(matches("a*", "a"));
    EXPECT_TRUE(matches("*", "anything"));
    EXPECT_TRUE(matches("a*c", "abbbc"));
    EXPECT_FALSE(matches("a*c", "abbbd"));
    EXPECT_TRUE(matches("h?llo", "hello"));
    EXPECT_FALSE(matches("h?llo", "hllo"));
    EXPECT_TRUE(matches("**a**", "bab"));
    EXPECT_FALSE(matches("", "a"));
    EXPECT_TRUE(matches("", ""));
    EXPECT_TRUE(matches("a*b*c", "axxbyyc"));
    EXPECT_FALSE(matches("a*b*c", "axxcyyb"));
}

TEST(glob, sets)
{
    EXPECT_TRUE(matches("h[ae]llo", "hallo"));
    EXPECT_FALSE(matches("h[ae]llo", "hillo"));
    EXPECT_TRUE(matches("h[^e]llo", "hallo"));
    EXPECT_FALSE(matches("h[^e]llo", "hello"));
    EXPECT_TRUE(matches("h[a-b]llo", "hbllo"));
    EXPECT_TRUE(matches("h[b-a]llo", "hallo"));
    EXPECT_FALSE(matches("h[a-b]llo", "hcllo"));
    EXPECT_TRUE(matches("[\\]]", "]"));
    EXPECT_TRUE(matches("[a-]", "_")); /* From a to ], and not closed: as in Redis. */
    EXPECT_FALSE(matches("[a-]", "-"));
    EXPECT_TRUE(matches("[a-]b]", "b"));
    EXPECT_TRUE(
        matches("[ab", "a")); /* a set that is not closed ends with the pattern, as in Redis */
    EXPECT_FALSE(matches("[ab", "c"));
    EXPECT_FALSE(matches("[", "a"));
}

TEST(glob, escapes)
{
    EXPECT_TRUE(matches("a\\*b", "a*b"));
    EXPECT_FALSE(matches("a\\*b", "axb"));
    EXPECT_TRUE(matches("a\\", "a\\"));
    EXPECT_TRUE(matches("\\[x\\]", "[x]"));
}

/* What a pattern means, said in another way: row by row, which of its elements have been matched so far. */
static bool means(const char *pattern, const char *text)
{
    static const struct {
        char name;
        const char *pattern;
    } elements[] = {{'a', "a"},    {'b', "b"},     {'?', "?"},
                    {'s', "[^a]"}, {'r', "[b-d]"}, {'e', "\\*"}};
    bool now[32] = {true};
    const size_t size = strlen(pattern);
    for (size_t i = 0; i < size && now[i]; i++) now[i + 1] = pattern[i] == '*';
    for (; *text != 0; text++) {
        bool next[32] = {false};
        for (size_t i = 0; i < size; i++) {
            bool fits = false;
            for (size_t k = 0; k < sizeof elements / sizeof elements[0]; k++) {
                const char one[2] = {*text, 0};
                if (elements[k].name == pattern[i]) fits = matches(elements[k].pattern, one);
            }
            if (now[i] && fits) next[i + 1] = true;
            if (pattern[i] == '*' && (now[i] || now[i + 1] || next[i])) next[i + 1] = true;
        }
        memcpy(now, next, sizeof now);
    }
    return now[size];
}

TEST(glob, any_pattern_means_the_same_in_two_ways)
{
    static const char elements[] = "aab**?sre";
    static const char letters[] = "aaabbcd*";
    uint64_t random = 1;
    uint32_t count = 0;
    for (uint32_t round = 0; round < 200000; round++) {
        char plan[16] = "";
        char text[16] = "";
        struct buf pattern = {0};
        const uint32_t plan_size = (uint32_t)(random >> 40) % 12;
        const uint32_t text_size = 1 + (uint32_t)(random >> 50) % 14;
        for (uint32_t i = 0; i < plan_size; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            plan[i] = elements[(random >> 33) % (sizeof elements - 1)];
            if (plan[i] == 's') {
                buf_text(&pattern, "[^a]");
            } else if (plan[i] == 'r') {
                buf_text(&pattern, "[b-d]");
            } else if (plan[i] == 'e') {
                buf_text(&pattern, "\\*");
            } else {
                buf_u8(&pattern, (uint8_t)plan[i]);
            }
        }
        for (uint32_t i = 0; i < text_size; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[i] = letters[(random >> 33) % (sizeof letters - 1)];
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        const bool found = glob_match(buf_slice(&pattern), slice_text(text));
        count += found;
        if (found != means(plan, text)) EXPECT_TEXT(plan, text);
        buf_close(&pattern);
    }
    EXPECT_TRUE(count > 10000);
}

/* Long ones are looked for in another way (all places at once): the same must come of it. */
TEST(glob, long_pieces_are_found_where_they_are)
{
    struct buf pattern = {0};
    struct buf text = {0};
    for (uint32_t size = 1; size < 200; size++) {
        for (uint32_t at = 0; at < 3; at++) {
            pattern.size = 0;
            text.size = 0;
            buf_u8(&pattern, '*');
            memset(buf_extend(&pattern, size), 'a', size);
            buf_text(&pattern, "[b-c]?*e*");
            memset(buf_extend(&text, 3000), 'a', 3000);
            buf_text(&text, "bx");
            memset(buf_extend(&text, 100), 'd', 100);
            if (at == 1) text.data[3000 - size] = 'd'; /* One a is missing. */
            EXPECT_FALSE(glob_match(buf_slice(&pattern), buf_slice(&text)));
            buf_u8(&text, 'e');
            EXPECT_EQ(glob_match(buf_slice(&pattern), buf_slice(&text)), at != 1);
            text.data[3000] = at == 2 ? 'd' : 'c';
            EXPECT_EQ(glob_match(buf_slice(&pattern), buf_slice(&text)), at == 0);
        }
    }
    buf_close(&pattern);
    buf_close(&text);
}

static uint64_t steps_of(const char *unit, const char *end, uint64_t size, const char *letters,
                         uint64_t text_size)
{
    struct buf pattern = {0};
    struct buf text = {0};
    uint64_t steps = 0;
    buf_u8(&pattern, '*');
    while (pattern.size + strlen(unit) <= size) buf_text(&pattern, unit);
    buf_text(&pattern, end);
    while (text.size < text_size) buf_text(&text, letters);
    EXPECT_FALSE(glob_match_counting(buf_slice(&pattern), buf_slice(&text), &steps));
    buf_close(&pattern);
    buf_close(&text);
    return steps;
}

/* A matcher that goes back would take pattern x text steps, 4 million here, or never come back. */
TEST(glob, hostile_patterns_take_bounded_time)
{
    EXPECT_TRUE(steps_of("a*", "b", 1000, "a", 4096) < 10000);
    EXPECT_TRUE(steps_of("a", "b*", 1000, "a", 4096) < 100000);
    EXPECT_TRUE(steps_of("a", "?*b", 1000, "a", 4096) < 10000);
    EXPECT_TRUE(steps_of("?", "x*", 1000, "abcdefghij", 4096) < 100000);
    EXPECT_TRUE(steps_of("[a-z]", "1*", 1000, "abcdefghijklmnopqrstuvwxyz", 4096) < 100000);
    EXPECT_TRUE(steps_of("aaaaaaaaaaaaaaab*", "c*", 1000, "aaaaaaaaaaaaaab", 4096) < 100000);
}
