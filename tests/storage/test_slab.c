#include "tests/test.h"

#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/slab.h"

enum { PIECES = 4000 };

struct piece {
    uint32_t ref; /* 0: none. */
    uint64_t size;
    uint8_t mark;
};

static void piece_make(struct slab *slab, struct piece *piece, uint64_t size, uint8_t mark)
{
    *piece = (struct piece){.ref = slab_alloc(slab, size), .size = size, .mark = mark};
    EXPECT_NE(piece->ref, 0);
    EXPECT_EQ((uintptr_t)slab_at(slab, piece->ref) % SLAB_UNIT, 0);
    memset(slab_at(slab, piece->ref), mark, size);
}

static void piece_end(struct slab *slab, struct piece *piece)
{
    const uint8_t *bytes = slab_at(slab, piece->ref);
    for (uint64_t i = 0; i < piece->size; i++) EXPECT_EQ(bytes[i], piece->mark);
    slab_free(slab, piece->ref, piece->size);
    piece->ref = 0;
}

TEST(slab, pieces_do_not_overlap_and_all_memory_comes_back)
{
    static struct piece piece[PIECES];
    struct prng prng = prng_seed(1);
    const uint64_t used = mem_used();
    struct slab slab;
    slab_init(&slab);
    EXPECT_FALSE(slab_full(&slab));
    for (uint32_t step = 0; step < 60000; step++) {
        struct piece *one = &piece[prng_below(&prng, PIECES)];
        const bool rising = step / 15000 % 2 == 0;
        if (one->ref != 0 && prng_below(&prng, 10) < (rising ? 3 : 9)) {
            piece_end(&slab, one);
        } else if (one->ref == 0 && prng_below(&prng, 10) < (rising ? 9 : 1)) {
            const uint64_t units = 1 + prng_below(&prng, prng_below(&prng, 8) == 0 ? 200 : 9);
            piece_make(&slab, one, units * SLAB_UNIT, (uint8_t)step);
        }
        if (step % 1000 == 0) slab_check(&slab);
    }
    for (uint32_t i = 0; i < PIECES; i++) {
        if (piece[i].ref != 0) piece_end(&slab, &piece[i]);
    }
    slab_check(&slab);
    EXPECT_EQ(slab.used, 0);
    /* The spare region, and the tables of numbers. */
    EXPECT_LE(slab.memory, (SLAB_REGION_CHUNKS_MAX + 1 + PIECES / 256) * SLAB_CHUNK_SIZE);
    slab_close(&slab);
    EXPECT_EQ(slab.memory, 0);
    EXPECT_EQ(mem_used(), used);
}

TEST(slab, close_frees_what_was_handed_out)
{
    const uint64_t used = mem_used();
    struct slab slab;
    struct piece piece;
    slab_init(&slab);
    for (uint64_t i = 0; i < 5000; i++) {
        piece_make(&slab, &piece, SLAB_UNIT * (1 + i % 100), 1);
    }
    slab_check(&slab);
    slab_close(&slab);
    EXPECT_EQ(mem_used(), used);
}

/* A change of sizes reuses the chunks of the old ones. */
TEST(slab, memory_does_not_depend_on_sizes_of_the_past)
{
    static struct piece piece[PIECES];
    struct slab slab;
    uint64_t first = 0;
    slab_init(&slab);
    for (uint64_t size = 16; size <= 128; size += 8) {
        const uint64_t count = PIECES * 16 / size;
        for (uint64_t i = 0; i < count; i++) piece_make(&slab, &piece[i], size, (uint8_t)i);
        if (first == 0) first = slab.memory;
        EXPECT_LE(slab.memory, first + first / 4 + 2 * SLAB_REGION_CHUNKS_MAX * SLAB_CHUNK_SIZE);
        EXPECT_LE(slab.used, slab.memory);
        for (uint64_t i = 0; i < count; i++) piece_end(&slab, &piece[i]);
        slab_check(&slab);
    }
    slab_close(&slab);
}
