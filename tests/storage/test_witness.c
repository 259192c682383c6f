#include "storage/witness.h"

#include "tests/test.h"

static struct effect numbers(uint8_t kind, uint64_t first, uint64_t second, uint8_t *bytes)
{
    put_u64(bytes, first);
    put_u64(bytes + 8, second);
    return (struct effect){.kind = kind, .value = slice_of(bytes, EFFECT_NUMBERS_SIZE)};
}

TEST(witness, remembers_the_newest_hashes_only)
{
    struct witness witness;
    uint64_t hash = 0;
    witness_init(&witness, 10, 100);
    EXPECT_TRUE(witness_hash(&witness, 10, &hash));
    EXPECT_EQ(hash, 100);
    EXPECT_FALSE(witness_hash(&witness, 9, &hash));
    EXPECT_FALSE(witness_hash(&witness, 11, &hash));
    for (uint64_t i = 11; i < 11 + WITNESS_COUNT; i++) witness_applied(&witness, i, 3 * i);
    EXPECT_FALSE(witness_hash(&witness, 10, &hash));
    EXPECT_TRUE(witness_hash(&witness, 11, &hash));
    EXPECT_EQ(hash, 33);
    EXPECT_TRUE(witness_hash(&witness, 10 + WITNESS_COUNT, &hash));
    witness_close(&witness);
}

TEST(witness, knows_the_newest_start_of_each_node)
{
    struct witness witness;
    uint8_t bytes[EFFECT_NUMBERS_SIZE];
    witness_init(&witness, 0, 0);
    struct effect effect = numbers(EFFECT_PRESENT, 7, 3, bytes);
    witness_effect(&witness, 1, &effect);
    effect = numbers(EFFECT_PRESENT, 8, 9, bytes);
    witness_effect(&witness, 2, &effect);
    effect = numbers(EFFECT_PRESENT, 7, 2, bytes);
    witness_effect(&witness, 3, &effect);
    EXPECT_EQ(witness_present(&witness, 7), 3);
    EXPECT_EQ(witness_present(&witness, 8), 9);
    EXPECT_EQ(witness_present(&witness, 9), 0);
    witness_close(&witness);
}

TEST(witness, a_check_is_compared_with_what_was_here_at_its_index)
{
    struct witness witness;
    uint8_t bytes[EFFECT_NUMBERS_SIZE];
    witness_init(&witness, 4, 44);
    witness_applied(&witness, 5, 55);
    struct effect effect = numbers(EFFECT_CHECK, 5, 56, bytes);
    witness_effect(&witness, 6, &effect);
    EXPECT_TRUE(witness.check.is_known);
    EXPECT_EQ(witness.check.own_hash, 55);
    EXPECT_EQ(witness.check.hash, 56);
    EXPECT_EQ(witness.check.entry_index, 6);
    effect = numbers(EFFECT_CHECK, 3, 56, bytes);
    witness_effect(&witness, 7, &effect);
    EXPECT_FALSE(witness.check.is_known);
    witness_close(&witness);
}
