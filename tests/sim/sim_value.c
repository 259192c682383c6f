#include "tests/sim/sim_value.h"

#include <inttypes.h>

#include "storage/base/hash.h"
#include "tests/sim/sim.h"

#define VALUE_SIZE_BIG 6000u

void sim_value_noise(uint64_t seed, uint64_t size, struct buf *out)
{
    struct prng prng = prng_seed(seed);
    uint8_t *at = buf_extend(out, size);
    uint64_t random = 0;
    for (uint64_t i = 0; i < size; i++, random /= 26) {
        if (i % 12 == 0) random = prng_next(&prng);
        at[i] = (uint8_t)('a' + random % 26);
    }
}

void sim_value_text(uint64_t id, bool is_big, struct buf *out)
{
    const uint64_t random = hash64(&id, sizeof id);
    uint64_t size = random % 40;
    if (random >> 32 & 1) size = random % 400;
    if ((random >> 33 & 7) == 0) size = random % 3000;
    if (is_big) size = VALUE_SIZE_BIG / 2 + random % (VALUE_SIZE_BIG / 2);
    buf_printf(out, "v%" PRIu64 ":", id);
    if ((random >> 36 & 1) != 0) {
        sim_value_noise(random, size, out);
        return;
    }
    uint8_t *at = buf_extend(out, size);
    for (uint64_t i = 0; i < size; i++) at[i] = (uint8_t)('a' + (random + i) % 26);
}

bool sim_value_read(const struct sim *sim, enum sim_key_kind kind, struct slice text,
                    struct check_value *value)
{
    *value = (struct check_value){.exists = true};
    if (kind == SIM_KEY_COUNTER) {
        int64_t number = 0;
        if (!slice_int64(text, &number)) return false;
        value->content = (uint64_t)number;
        return true;
    }
    if (kind == SIM_KEY_TEXT) {
        value->content = check_linear_hash(0, text);
        value->size = text.size;
        return true;
    }
    uint64_t id = 0;
    if (text.size < 3 || text.data[0] != 'v') return false;
    for (uint64_t i = 1; i < text.size && i < 20 && text.data[i] != ':'; i++) {
        id = id * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (id >= sim->clients.next_value) return false;
    struct buf expected = {0};
    sim_value_text(id, kind == SIM_KEY_BIG, &expected);
    const bool same = slice_equal(text, buf_slice(&expected));
    buf_close(&expected);
    value->content = id;
    return same;
}

uint64_t sim_value_id(enum sim_key_kind kind, struct slice value)
{
    uint64_t at = 1;
    uint64_t id = 0;
    if (kind == SIM_KEY_COUNTER) return 0;
    if (kind == SIM_KEY_TEXT) {
        /* Pieces are "17," or "17,v17:abc": the digits before the last comma. */
        at = value.size;
        while (at > 0 && value.data[at - 1] != ',') at--;
        if (at > 0) at--;
        while (at > 0 && value.data[at - 1] >= '0' && value.data[at - 1] <= '9') at--;
    }
    for (; at < value.size && value.data[at] >= '0' && value.data[at] <= '9'; at++) {
        id = id * 10 + (uint64_t)(value.data[at] - '0');
    }
    return id;
}
