/* sim_value.h - what clients write: values that say which write made them. See sim_client.h. */
#ifndef KV_TESTS_SIM_SIM_VALUE_H
#define KV_TESTS_SIM_SIM_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "tests/sim/check_linear.h"

struct sim;

enum sim_key_kind {
    SIM_KEY_REGISTER,
    SIM_KEY_COUNTER,
    SIM_KEY_TEXT, /* appended to */
    SIM_KEY_EXPIRING,
    SIM_KEY_BIG, /* a register with long values, to fill segments */
    SIM_KEY_KINDS,
};

/* Letters that no packing makes smaller by much. */
void sim_value_noise(uint64_t seed, uint64_t size, struct buf *out);
/* The whole text of value @id. */
void sim_value_text(uint64_t id, bool is_big, struct buf *out);
/* What a value that was read stands for. False: nobody wrote such a thing. */
bool sim_value_read(const struct sim *sim, enum sim_key_kind kind, struct slice text,
                    struct check_value *value);
/* The id of the write that made this value: of the last one for a text. 0: its writes have none. */
uint64_t sim_value_id(enum sim_key_kind kind, struct slice value);

#endif
