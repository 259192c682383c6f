#include "node/glob.h"

#include "tests/test.h"

static bool matches(const char *pattern, const char *text)
{
    return glob_match(slice_text(pattern), slice_text(text));
}

TEST(glob, stars_and_marks)
{
    EXPECT_TRUE(matches("*", ""));
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

TEST(glob, many_stars_take_bounded_time)
{
    char pattern[1024];
    char text[4096];
    for (size_t i = 0; i + 2 < sizeof pattern; i += 2) memcpy(pattern + i, "a*", 2);
    memcpy(pattern + sizeof pattern - 2, "b", 2);
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    EXPECT_FALSE(matches(pattern, text)); /* A backtracking matcher would not come back. */
}
