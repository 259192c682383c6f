/* fuzz_main.c - runs a fuzz target where libFuzzer is not at hand: as an ordinary test.
 *
 * Arguments are files or folders of kept inputs. Each is given to the target as it is and then in a few
 * hundred seeded mutations; without any input the mutations begin with nothing. The seed is fixed, so a
 * failure repeats. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "storage/base/prng.h"

#define INPUT_SIZE_MAX 65536u
#define MUTATIONS 400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t input[INPUT_SIZE_MAX];
static uint64_t run_count;

/* A copy of exactly @size bytes, so that a sanitizer sees a read past the end. */
static void run_once(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) exit(2);
    if (size > 0) memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    run_count++;
}

static size_t mutate(struct prng *prng, uint8_t *data, size_t size)
{
    const uint64_t count = 1 + prng_below(prng, 8);
    for (uint64_t i = 0; i < count; i++) {
        const size_t at = (size_t)prng_below(prng, size + 1);
        switch (prng_below(prng, 5)) {
        case 0: /* insert */
            if (size == INPUT_SIZE_MAX) break;
            memmove(data + at + 1, data + at, size - at);
            data[at] = (uint8_t)prng_next(prng);
            size++;
            break;
        case 1: /* remove */
            if (at == size) break;
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
            break;
        case 2: /* end here */
            if (prng_below(prng, 8) == 0) size = at;
            break;
        case 3: /* flip a bit */
            if (at < size) data[at] = (uint8_t)(data[at] ^ (1u << prng_below(prng, 8)));
            break;
        default: /* a byte that means something in many formats */
            if (at < size) data[at] = (uint8_t) "\r\n:*$09-\xff"[prng_below(prng, 10)];
            break;
        }
    }
    return size;
}

static void run_mutated(const uint8_t *data, size_t size)
{
    static uint8_t work[INPUT_SIZE_MAX];
    struct prng prng = prng_seed(size + 1);
    run_once(data, size);
    size_t work_size = 0;
    for (uint32_t i = 0; i < MUTATIONS; i++) {
        if (i % 16 == 0) { /* Drift for a while, then begin again with the kept input. */
            memcpy(work, data, size);
            work_size = size;
        }
        work_size = mutate(&prng, work, work_size);
        run_once(work, work_size);
    }
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 2;
    }
    const size_t size = fread(input, 1, sizeof input, file);
    fclose(file);
    run_mutated(input, size);
    return 0;
}

static int run_folder(const char *path)
{
    struct dirent **names = NULL;
    int result = 0;
    const int count = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char file[4096];
        struct stat status;
        const int size = snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (size > 0 && size < (int)sizeof file && stat(file, &status) == 0 &&
            S_ISREG(status.st_mode) && run_file(file) != 0) {
            result = 2;
        }
        free(names[i]);
    }
    free(names);
    return result;
}

int main(int argc, char **argv)
{
    int result = 0;
    run_mutated(input, 0);
    for (int i = 1; i < argc; i++) {
        struct stat status;
        if (stat(argv[i], &status) != 0) continue; /* a target without kept inputs */
        const int failed = S_ISDIR(status.st_mode) ? run_folder(argv[i]) : run_file(argv[i]);
        if (failed != 0) result = failed;
    }
    printf("%llu inputs\n", (unsigned long long)run_count);
    return result;
}
