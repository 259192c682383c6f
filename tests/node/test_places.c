/* Effects of long entries, found by their numbers. */
#include "node/places.h"

#include <stdio.h>

#include "tests/test.h"

/* An entry of @count puts, whose values are their numbers. */
static void make(struct buf *body, uint32_t count)
{
    body->size = 0;
    buf_u32(body, count);
    buf_u32(body, 0);
    for (uint32_t i = 0; i < count; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", i);
        effect_encode(
            &(struct effect){.kind = EFFECT_PUT, .key = slice_text("k"), .value = slice_text(text)},
            body);
    }
}

static uint64_t expect_number(struct places *places, uint64_t index, const struct buf *body,
                              uint32_t ordinal)
{
    struct effect effect;
    int64_t number = -1;
    uint64_t steps = 0;
    EXPECT_EQ(places_effect(places, index, buf_slice(body), ordinal, &effect, &steps), OK);
    EXPECT_TRUE(slice_int64(effect.value, &number));
    EXPECT_EQ(number, ordinal);
    return steps;
}

TEST(places, each_effect_is_found_in_any_order)
{
    static struct places places;
    struct buf bodies[PLACES_ENTRIES + 2] = {{0}};
    for (uint32_t i = 0; i < PLACES_ENTRIES + 2; i++) make(&bodies[i], 1 + i * 130);
    uint64_t random = 1;
    for (uint32_t round = 0; round < 20000; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint32_t i = (uint32_t)(random >> 33) % (PLACES_ENTRIES + 2);
        const uint32_t ordinal = (uint32_t)(random >> 40) % (1 + i * 130);
        (void)expect_number(&places, 100 + i, &bodies[i], ordinal);
    }
    for (uint32_t i = 0; i < PLACES_ENTRIES + 2; i++) buf_close(&bodies[i]);
}

TEST(places, looking_for_all_takes_no_square)
{
    static struct places places;
    struct buf body = {0};
    struct buf other = {0};
    make(&body, BATCH_EFFECTS_MAX);
    make(&other, 1000);
    uint64_t steps = 0;
    for (uint32_t i = 0; i < BATCH_EFFECTS_MAX; i++) {
        steps += expect_number(&places, 7, &body, (i * 32771u) % BATCH_EFFECTS_MAX);
        steps += expect_number(&places, 8, &other, i % 1000);
    }
    /* Half of 64 each, and once the way through the whole. */
    EXPECT_TRUE(steps < 2ull * BATCH_EFFECTS_MAX * PLACES_STEP);
    buf_close(&body);
    buf_close(&other);
}

TEST(places, what_is_not_there_is_said)
{
    static struct places places;
    struct buf body = {0};
    struct effect effect;
    uint64_t steps = 0;
    make(&body, 200);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_EQ(places_effect(&places, 7, buf_slice(&body), 200, &effect, &steps), ERR_NOT_FOUND);
        EXPECT_EQ(places_effect(&places, 7, buf_slice(&body), 65535, &effect, &steps),
                  ERR_NOT_FOUND);
        (void)expect_number(&places, 7, &body, 199);
    }
    for (uint64_t size = 0; size < body.size; size += 97) {
        EXPECT_TRUE(places_effect(&places, 9 + size, slice_of(body.data, size), 199, &effect,
                                  &steps) != OK);
    }
    buf_close(&body);
}
