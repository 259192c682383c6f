/* bench_histogram.h - latencies in nanoseconds, kept as counts of ranges.
 *
 * A range is 1/128 of a power of two, so a quantile is never more than 0.8 % above the true one, whatever the
 * size of the latencies. Adding is a shift and an increment. */
#ifndef KV_TESTS_BENCH_HISTOGRAM_H
#define KV_TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>

#define BENCH_HISTOGRAM_BITS 7u
#define BENCH_HISTOGRAM_STEPS (1u << BENCH_HISTOGRAM_BITS)
#define BENCH_HISTOGRAM_POWERS 36u /* up to 2^42 ns, more than an hour; longer ones count as that */

struct bench_histogram {
    uint64_t counts[BENCH_HISTOGRAM_POWERS * BENCH_HISTOGRAM_STEPS];
    uint64_t total;
    uint64_t sum_ns;
    uint64_t max_ns;
};

void bench_histogram_add(struct bench_histogram *histogram, uint64_t ns);
/* The smallest value known to be at least as large as @quantile (0 to 1) of all; 0 when there are none. */
uint64_t bench_histogram_quantile(const struct bench_histogram *histogram, double quantile);
double bench_histogram_mean(const struct bench_histogram *histogram);

#endif
