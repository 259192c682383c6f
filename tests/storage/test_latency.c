#include "tests/test.h"

#include "storage/latency.h"

TEST(latency, each_time_is_counted_in_the_first_bucket_that_takes_it)
{
    struct latency latency = {0};
    uint64_t counted = 0;
    for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
        if (i > 0) EXPECT_TRUE(latency_bound_us(i) > latency_bound_us(i - 1));
        latency_add(&latency, latency_bound_us(i));
        EXPECT_EQ(latency.counts[i], 1);
    }
    latency_add(&latency, 0);
    EXPECT_EQ(latency.counts[0], 2);
    latency_add(&latency, latency_bound_us(0) + 1);
    EXPECT_EQ(latency.counts[1], 2);
    const uint64_t last = latency_bound_us(LATENCY_BUCKETS - 1);
    latency_add(&latency, last + 1);
    for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) counted += latency.counts[i];
    EXPECT_EQ(counted, LATENCY_BUCKETS + 2);
    EXPECT_EQ(latency.count, LATENCY_BUCKETS + 3);
    EXPECT_EQ(latency.max_us, last + 1);
    EXPECT_TRUE(latency.sum_us > last * 2);
}

TEST(latency, those_above_a_bound_are_counted)
{
    struct latency latency = {0};
    EXPECT_EQ(latency_above(&latency, 10000), 0);
    latency_add(&latency, 10000);
    latency_add(&latency, 10001);
    latency_add(&latency, 4000000);
    latency_add(&latency, UINT64_C(1) << 40); /* in no bucket */
    EXPECT_EQ(latency_above(&latency, 10000), 3);
    EXPECT_EQ(latency_above(&latency, 100), 4);
    EXPECT_EQ(latency_above(&latency, 5000000), 1);
}
