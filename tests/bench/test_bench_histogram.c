#include <stdint.h>

#include "tests/bench/bench_histogram.h"
#include "tests/test.h"

static struct bench_histogram histogram;

static void reset(void)
{
    histogram = (struct bench_histogram){0};
}

TEST(bench_histogram, is_zero_when_empty)
{
    reset();
    EXPECT_EQ(bench_histogram_quantile(&histogram, 0.5), 0);
    EXPECT_TRUE(bench_histogram_mean(&histogram) == 0);
}

TEST(bench_histogram, small_values_are_exact)
{
    reset();
    for (uint64_t ns = 1; ns <= 100; ns++) bench_histogram_add(&histogram, ns);
    EXPECT_EQ(bench_histogram_quantile(&histogram, 0.5), 50);
    EXPECT_EQ(bench_histogram_quantile(&histogram, 0.99), 99);
    EXPECT_EQ(bench_histogram_quantile(&histogram, 0.999), 100);
    EXPECT_EQ(bench_histogram_quantile(&histogram, 0), 1);
    EXPECT_EQ(bench_histogram_quantile(&histogram, 1), 100);
    EXPECT_TRUE(bench_histogram_mean(&histogram) == 50.5);
}

TEST(bench_histogram, quantile_is_never_below_and_at_most_one_step_above)
{
    /* Around every power of two, where the ranges change their width. */
    for (uint32_t power = 3; power < 42; power++) {
        for (int64_t offset = -2; offset <= 2; offset++) {
            const uint64_t ns = (UINT64_C(1) << power) + (uint64_t)offset;
            reset();
            bench_histogram_add(&histogram, ns);
            bench_histogram_add(&histogram, UINT64_C(1) << 43);
            const uint64_t median = bench_histogram_quantile(&histogram, 0.5);
            EXPECT_TRUE(median >= ns);
            EXPECT_TRUE(median - ns <= ns / BENCH_HISTOGRAM_STEPS);
        }
    }
}

TEST(bench_histogram, one_slow_request_of_a_thousand_shows_beyond_p999_only)
{
    reset();
    for (uint32_t i = 0; i < 999; i++) bench_histogram_add(&histogram, 100000);
    bench_histogram_add(&histogram, 50000000);
    EXPECT_TRUE(bench_histogram_quantile(&histogram, 0.999) < 101000);
    EXPECT_EQ(bench_histogram_quantile(&histogram, 0.9999), 50000000);
}

TEST(bench_histogram, enormous_values_do_not_leave_the_table)
{
    reset();
    bench_histogram_add(&histogram, UINT64_MAX);
    EXPECT_EQ(histogram.total, 1);
    EXPECT_EQ(histogram.max_ns, UINT64_MAX);
    EXPECT_TRUE(bench_histogram_quantile(&histogram, 0.5) > UINT64_C(1) << 41);
}
