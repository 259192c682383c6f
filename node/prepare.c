#include "node/prepare.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"

struct prepared {
    uint32_t arg;
    bool is_done;
    struct compress pack; /* Its out is empty when the value stays as it is. */
};

struct prepare {
    uint32_t count;
    struct prepared *values;
};

static struct prepare *prepare_create(const struct slice *args, uint32_t count, uint32_t large)
{
    struct prepare *prepare = mem_zero(sizeof *prepare);
    prepare->values = mem_zero(large * sizeof *prepare->values);
    for (uint32_t i = 1; i < count; i++) {
        if (args[i].size <= PREPARE_ABOVE) continue;
        prepare->values[prepare->count++] = (struct prepared){.arg = i,
                                                              .pack = {.raw_size = args[i].size}};
    }
    CHECK(prepare->count == large);
    return prepare;
}

bool prepare_values(struct prepare **of, const struct slice *args, uint32_t count, uint64_t *budget)
{
    if (*of == NULL) {
        uint32_t large = 0;
        for (uint32_t i = 1; i < count; i++) large += args[i].size > PREPARE_ABOVE;
        if (large == 0) return true;
        *of = prepare_create(args, count, large);
    }
    struct prepare *prepare = *of;
    for (uint32_t i = 0; i < prepare->count; i++) {
        struct prepared *value = &prepare->values[i];
        CHECK(value->arg < count);
        if (value->is_done) continue;
        if (*budget == 0) return false;
        const uint64_t before = value->pack.position;
        const enum err err = compress_step(&value->pack, args[value->arg], *budget);
        value->is_done = err != ERR_MORE;
        /* One that is given up was looked at as far as the budget went, at most. */
        const uint64_t done = err == ERR_INVALID ? *budget : value->pack.position - before;
        *budget = done < *budget ? *budget - done : 0;
        if (!value->is_done) return false;
    }
    return true;
}

bool prepare_find(const struct prepare *prepare, const struct slice *args, struct slice value,
                  struct slice *packed)
{
    for (uint32_t i = 0; prepare != NULL && i < prepare->count; i++) {
        const struct prepared *prepared = &prepare->values[i];
        const struct slice arg = args[prepared->arg];
        if (arg.data != value.data || arg.size != value.size) continue;
        CHECK(prepared->is_done);
        *packed = buf_slice(&prepared->pack.out);
        return true;
    }
    return false;
}

void prepare_end(struct prepare *prepare)
{
    if (prepare == NULL) return;
    for (uint32_t i = 0; i < prepare->count; i++) compress_close(&prepare->values[i].pack);
    mem_free(prepare->values);
    mem_free(prepare);
}
