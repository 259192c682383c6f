/* Key slots. The expected numbers are those that CLUSTER KEYSLOT of a Redis 7.0.15 server gives. */
#include "client/slot.h"

#include "tests/test.h"

static void expect_slot(const char *key, uint32_t slot)
{
    EXPECT_EQ(slot_of_key(slice_text(key)), slot);
}

TEST(slot, keys_without_tag)
{
    expect_slot("", 0);
    expect_slot("123456789", 12739);
    expect_slot("foo", 12182);
    expect_slot("user:1000", 1649);
    expect_slot("a", 15495);
    expect_slot("The quick brown fox jumps over the lazy dog", 12488);
}

TEST(slot, bytes_that_are_no_text)
{
    EXPECT_EQ(slot_of_key(slice_of("\0\xff\x80{", 4)), 6919);
}

TEST(slot, only_the_tag_counts)
{
    expect_slot("{user1000}.following", 3443);
    expect_slot("{user1000}.followers", 3443);
    expect_slot("user1000", 3443);
    expect_slot("foo{bar}{zap}", 5061);
    expect_slot("bar", 5061);
    expect_slot("a{b}", 3300);
    expect_slot("foo{{bar}}zap", 4015);
}

TEST(slot, empty_and_open_tags_do_not_count)
{
    expect_slot("foo{}{bar}", 8363);
    expect_slot("{}", 15257);
    expect_slot("{}a", 10875);
    expect_slot("a{b", 13340);
    expect_slot("}a{", 11710);
    expect_slot("a}b{c}", 7365);
    expect_slot("{", 4092);
}

TEST(slot, every_slot_is_in_range)
{
    for (uint32_t i = 0; i < 65536; i++) {
        const uint8_t key[2] = {(uint8_t)i, (uint8_t)(i >> 8)};
        EXPECT_LT(slot_of_key(slice_of(key, 2)), SLOT_COUNT);
    }
}
