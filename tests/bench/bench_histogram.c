#include "tests/bench/bench_histogram.h"

/* Values below BENCH_HISTOGRAM_STEPS have a range each. Above, the highest bit chooses the power and the next
 * BENCH_HISTOGRAM_BITS bits the step within it. */
static uint32_t range_of(uint64_t ns)
{
    if (ns < BENCH_HISTOGRAM_STEPS) return (uint32_t)ns;
    const uint32_t high = 63u - (uint32_t)__builtin_clzll(ns);
    const uint32_t power = high - BENCH_HISTOGRAM_BITS;
    const uint32_t step = (uint32_t)(ns >> power) & (BENCH_HISTOGRAM_STEPS - 1);
    const uint32_t range = (power + 1) * BENCH_HISTOGRAM_STEPS + step;
    const uint32_t last = BENCH_HISTOGRAM_POWERS * BENCH_HISTOGRAM_STEPS - 1;
    return range < last ? range : last;
}

static uint64_t range_end(uint32_t range)
{
    if (range < BENCH_HISTOGRAM_STEPS) return range;
    const uint32_t power = range / BENCH_HISTOGRAM_STEPS - 1;
    const uint64_t step = range % BENCH_HISTOGRAM_STEPS + BENCH_HISTOGRAM_STEPS;
    return ((step + 1) << power) - 1;
}

void bench_histogram_add(struct bench_histogram *histogram, uint64_t ns)
{
    histogram->counts[range_of(ns)]++;
    histogram->total++;
    histogram->sum_ns += ns;
    if (ns > histogram->max_ns) histogram->max_ns = ns;
}

uint64_t bench_histogram_quantile(const struct bench_histogram *histogram, double quantile)
{
    if (histogram->total == 0) return 0;
    /* Rounded up: of two values the median is the first, and one of a thousand is the 0.999 quantile. */
    const double exact = quantile * (double)histogram->total;
    uint64_t wanted = (uint64_t)exact;
    if ((double)wanted < exact || wanted == 0) wanted++;
    uint64_t seen = 0;
    for (uint32_t range = 0; range < BENCH_HISTOGRAM_POWERS * BENCH_HISTOGRAM_STEPS; range++) {
        seen += histogram->counts[range];
        if (seen < wanted) continue;
        const uint64_t end = range_end(range);
        return end < histogram->max_ns ? end : histogram->max_ns;
    }
    return histogram->max_ns;
}

double bench_histogram_mean(const struct bench_histogram *histogram)
{
    if (histogram->total == 0) return 0;
    return (double)histogram->sum_ns / (double)histogram->total;
}
