/* latency.h - how long something took, as a histogram.
 *
 * The buckets are those of LATENCY_BOUNDS_US; what took longer than the last bound is counted in
 * the total only. */
#ifndef KV_STORAGE_LATENCY_H
#define KV_STORAGE_LATENCY_H

#include <stdint.h>

#define LATENCY_BUCKETS 14u

struct latency {
    uint64_t counts[LATENCY_BUCKETS]; /* not cumulative */
    uint64_t count;
    uint64_t sum_us;
    uint64_t max_us;
};

/* The upper bound of a bucket, itself included. */
uint64_t latency_bound_us(uint32_t bucket);
/* How many took longer than @bound_us, which is one of the bounds. */
uint64_t latency_above(const struct latency *latency, uint64_t bound_us);
void latency_add(struct latency *latency, uint64_t us);

#endif
