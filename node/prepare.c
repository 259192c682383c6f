#include "node/prepare.h"

#include "node/batch.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"

#define COPY_SPEEDUP 2u /* copying is so much faster than packing, in memory that has to be made */

enum prepare_step { PREPARE_PACK, PREPARE_COPY, PREPARE_DONE };

struct prepared {
    uint32_t arg;
    enum prepare_step step;
    bool is_packed;
    bool is_laid_out;
    struct compress
        pack; /* out: what comes before the value if it is laid out, then the stored value. */
    uint64_t copied;
};

struct prepare {
    uint32_t count;
    struct prepared *values;
};

static void value_begin(struct prepared *value, const struct prepare_rules *rules,
                        const struct slice *args)
{
    const struct slice raw = args[value->arg];
    value->pack.raw_size = raw.size;
    value->is_laid_out = rules->value_arg == value->arg;
    if (value->is_laid_out) {
        (void)buf_extend(&value->pack.out, BATCH_BUILT_SIZE);
        buf_append(&value->pack.out, args[1].data, args[1].size);
    }
    value->pack.base = value->pack.out.size;
    value->step = rules->pack_above > 0 && raw.size > rules->pack_above ? PREPARE_PACK
                                                                        : PREPARE_COPY;
}

static struct prepare *prepare_create(const struct prepare_rules *rules, const struct slice *args,
                                      uint32_t count, uint32_t large)
{
    struct prepare *prepare = mem_zero(sizeof *prepare);
    prepare->values = mem_zero(large * sizeof *prepare->values);
    for (uint32_t i = 1; i < count; i++) {
        if (args[i].size <= PREPARE_ABOVE) continue;
        prepare->values[prepare->count].arg = i;
        value_begin(&prepare->values[prepare->count++], rules, args);
    }
    CHECK(prepare->count == large);
    return prepare;
}

/* Returns what it took of the budget. */
static uint64_t advance(struct prepared *value, struct slice raw, uint64_t budget)
{
    if (value->step == PREPARE_PACK) {
        const uint64_t before = value->pack.position;
        const enum err err = compress_step(&value->pack, raw, budget);
        if (err == OK) value->step = PREPARE_DONE;
        if (err == ERR_INVALID) value->step = PREPARE_COPY;
        value->is_packed = err == OK;
        return value->pack.position - before;
    }
    if (!value->is_laid_out || raw.size <= PREPARE_BUILD_SIZE) {
        value->step = PREPARE_DONE;
        return 0;
    }
    const uint64_t left = raw.size - value->copied;
    const uint64_t size = left < budget * COPY_SPEEDUP ? left : budget * COPY_SPEEDUP;
    if (value->copied == 0) (void)buf_reserve_exact(&value->pack.out, raw.size + 8);
    buf_append(&value->pack.out, raw.data + value->copied, size);
    value->copied += size;
    if (value->copied == raw.size) value->step = PREPARE_DONE;
    return size / COPY_SPEEDUP;
}

bool prepare_values(struct prepare **of, const struct prepare_rules *rules,
                    const struct slice *args, uint32_t count, uint64_t *budget)
{
    if (*of == NULL) {
        uint32_t large = 0;
        for (uint32_t i = 1; i < count; i++) large += args[i].size > PREPARE_ABOVE;
        if (large == 0) return true;
        *of = prepare_create(rules, args, count, large);
    }
    struct prepare *prepare = *of;
    for (uint32_t i = 0; i < prepare->count; i++) {
        struct prepared *value = &prepare->values[i];
        CHECK(value->arg < count);
        while (value->step != PREPARE_DONE) {
            if (*budget == 0) return false;
            const uint64_t done = advance(value, args[value->arg], *budget);
            *budget = done < *budget ? *budget - done : 0;
        }
    }
    return true;
}

/* What of it is stored. */
static struct slice stored_of(const struct prepared *value, struct slice raw)
{
    const struct buf *out = &value->pack.out;
    if (!value->is_packed && value->copied == 0) return raw;
    return slice_of(out->data + value->pack.base, out->size - value->pack.base);
}

static bool is_built(const struct prepared *value)
{
    return value->is_laid_out && value->pack.out.size - value->pack.base > PREPARE_BUILD_SIZE;
}

bool prepare_find(const struct prepare *prepare, const struct slice *args, struct slice value,
                  struct prepare_value *found)
{
    for (uint32_t i = 0; prepare != NULL && i < prepare->count; i++) {
        struct prepared *prepared = &prepare->values[i];
        const struct slice arg = args[prepared->arg];
        if (arg.data != value.data || arg.size != value.size) continue;
        CHECK(prepared->step == PREPARE_DONE);
        *found = (struct prepare_value){.is_packed = prepared->is_packed,
                                        .stored = stored_of(prepared, arg),
                                        .built = is_built(prepared) ? &prepared->pack.out : NULL};
        return true;
    }
    return false;
}

bool prepare_is_built(const struct prepare *prepare)
{
    return prepare != NULL && prepare->count == 1 && is_built(&prepare->values[0]);
}

void prepare_end(struct prepare *prepare)
{
    if (prepare == NULL) return;
    for (uint32_t i = 0; i < prepare->count; i++) compress_close(&prepare->values[i].pack);
    mem_free(prepare->values);
    mem_free(prepare);
}
