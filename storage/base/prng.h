/* prng.h - the only randomness of the core: seeded by the host, so that a run can be repeated.
 * Algorithm: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
#ifndef KV_BASE_PRNG_H
#define KV_BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t state;
};

static inline struct prng prng_seed(uint64_t seed)
{
    return (struct prng){.state = seed};
}

static inline uint64_t prng_next(struct prng *prng)
{
    uint64_t z = (prng->state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* A number in [0, @bound); 0 when @bound is 0. The bias of the remainder is harmless here. */
static inline uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    return bound > 0 ? prng_next(prng) % bound : 0;
}

#endif
