#include "storage/latency.h"

#include "storage/base/check.h"

static const uint64_t bounds_us[LATENCY_BUCKETS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 5000000,
};

uint64_t latency_bound_us(uint32_t bucket)
{
    CHECK(bucket < LATENCY_BUCKETS);
    return bounds_us[bucket];
}

uint64_t latency_above(const struct latency *latency, uint64_t bound_us)
{
    uint64_t count = latency->count;
    for (uint32_t i = 0; i < LATENCY_BUCKETS && bounds_us[i] <= bound_us; i++) {
        count -= latency->counts[i];
    }
    return count;
}

void latency_add(struct latency *latency, uint64_t us)
{
    uint32_t bucket = 0;
    while (bucket < LATENCY_BUCKETS && us > bounds_us[bucket]) bucket++;
    if (bucket < LATENCY_BUCKETS) latency->counts[bucket]++;
    latency->count++;
    latency->sum_us += us;
    if (us > latency->max_us) latency->max_us = us;
}
