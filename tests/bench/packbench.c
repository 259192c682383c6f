/* packbench.c - what packing and unpacking a value costs, in processor time, by size and by how random it is. Prints a
 * Markdown table. A value that does not get smaller costs the attempt alone. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "storage/base/prng.h"
#include "storage/compress.h"

#define POOL_SIZE (16u * 1024u * 1024u)
#define ROUNDS 7u

static uint8_t pool[POOL_SIZE];

static double cpu_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* As kvbench makes them: that part of each 64 bytes is random, the others repeat. */
static void fill(uint32_t percent)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct prng prng = prng_seed(percent);
    for (uint32_t i = 0; i < POOL_SIZE; i++) {
        const bool is_random = i % 64 * 100 < percent * 64;
        pool[i] = (uint8_t)letters[is_random ? prng_below(&prng, 64) : i % 64];
    }
}

/* Of several rounds over the pool the least disturbed one counts. */
static void measure(uint32_t percent, uint64_t size)
{
    struct buf packed = {0};
    struct buf value = {0};
    double pack_us = 1e12;
    double unpack_us = 1e12;
    uint64_t stored = 0;
    const uint64_t count = POOL_SIZE / size;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        double pack = 0;
        double unpack = 0;
        stored = 0;
        for (uint64_t i = 0; i < count; i++) {
            const double begin = cpu_us();
            packed.size = 0;
            const bool is_packed = compress_pack(slice_of(pool + i * size, size), &packed);
            const double middle = cpu_us();
            value.size = 0;
            if (is_packed && compress_unpack(buf_slice(&packed), &value) != OK) exit(1);
            pack += middle - begin;
            unpack += cpu_us() - middle;
            stored += is_packed ? packed.size : size;
        }
        if (pack < pack_us) pack_us = pack;
        if (unpack < unpack_us) unpack_us = unpack;
    }
    printf("| %u %% | %llu | %.2f | %.2f | %.0f %% |\n", percent, (unsigned long long)size,
           pack_us / (double)count, unpack_us / (double)count,
           (double)stored * 100 / (double)(count * size));
    buf_close(&packed);
    buf_close(&value);
}

int main(void)
{
    static const uint32_t percents[] = {100, 50, 15};
    static const uint64_t sizes[] = {2048, 4096, 16384, 65536, 262144, 1048576};
    puts("| random | bytes | packing, µs | unpacking, µs | stored |");
    puts("| --- | ---: | ---: | ---: | ---: |");
    for (uint32_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        fill(percents[i]);
        for (uint32_t at = 0; at < sizeof sizes / sizeof sizes[0]; at++) {
            measure(percents[i], sizes[at]);
        }
    }
    return 0;
}
