#include "storage/tail.h"

#include "storage/base/prng.h"
#include "tests/test.h"

static void add(struct tail *tail, uint32_t file, uint32_t offset, uint64_t size, uint8_t fill)
{
    struct buf bytes = {0};
    memset(buf_extend(&bytes, size), fill, size);
    const struct slice kept = tail_add(tail, file, offset, &bytes);
    EXPECT_EQ(bytes.capacity, 0);
    EXPECT_EQ(kept.size, size);
    tail_check(tail);
}

TEST(tail, finds_what_is_inside_an_image_and_nothing_else)
{
    struct tail tail;
    tail_init(&tail, 1 << 20);
    EXPECT_TRUE(tail_find(&tail, 1, 0, 1).data == NULL);
    add(&tail, 2, 4096, 4096, 'a');
    add(&tail, 2, 8192, 8192, 'b');
    add(&tail, 3, 4096, 4096, 'c');
    EXPECT_EQ(tail_find(&tail, 2, 4096, 4096).data[0], 'a');
    EXPECT_EQ(tail_find(&tail, 2, 8191, 1).data[0], 'a');
    EXPECT_EQ(tail_find(&tail, 2, 9000, 100).data[0], 'b');
    EXPECT_EQ(tail_find(&tail, 3, 8191, 1).data[0], 'c');
    EXPECT_TRUE(tail_find(&tail, 2, 8191, 2).data == NULL); /* over two images */
    EXPECT_TRUE(tail_find(&tail, 2, 16383, 2).data == NULL);
    EXPECT_TRUE(tail_find(&tail, 2, 20000, 1).data == NULL);
    EXPECT_TRUE(tail_find(&tail, 2, 4095, 1).data == NULL);
    EXPECT_TRUE(tail_find(&tail, 1, 4096, 1).data == NULL);
    EXPECT_TRUE(tail_find(&tail, 4, 4096, 1).data == NULL);
    tail_close(&tail);
}

TEST(tail, evicts_the_oldest_and_always_keeps_the_newest)
{
    struct tail tail;
    struct prng prng = prng_seed(1);
    tail_init(&tail, 64 * 1024);
    uint32_t offsets[1001];
    uint32_t sizes[1001];
    uint32_t offset = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        offsets[i] = offset;
        sizes[i] = 1 + (uint32_t)prng_below(&prng, i % 100 == 0 ? 200000 : 9000);
        add(&tail, 1, offset, sizes[i], (uint8_t)i);
        offset += sizes[i] + i % 3;
        /* What is there is a run up to the newest, and right. */
        bool is_gone = false;
        for (uint32_t j = i + 1; j > 0; j--) {
            const struct slice found = tail_find(&tail, 1, offsets[j - 1], sizes[j - 1]);
            if (found.data == NULL) is_gone = true;
            if (j == i + 1) EXPECT_FALSE(is_gone);
            if (found.data != NULL) EXPECT_FALSE(is_gone);
            if (found.data != NULL) EXPECT_EQ(found.data[sizes[j - 1] - 1], (uint8_t)(j - 1));
        }
    }
    EXPECT_TRUE(tail.count < 100);
    tail_close(&tail);
    EXPECT_EQ(tail.size, 0);
}
