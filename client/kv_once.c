/* Exactly once: a write that carries an id may be sent again, since the cluster remembers what it answered. */
#include "client/kv_internal.h"

#include <sys/random.h>

/* All sequences have 16 digits. */
#define SEQUENCE_FIRST 1000000000000000u
#define ID_RANDOM_SIZE 32u

static void put_digits(uint8_t *out, size_t count, uint64_t number)
{
    for (size_t i = count; i > 0; i--) {
        out[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

bool kv_once_init(struct kv_once *once, bool on)
{
    uint8_t bytes[ID_RANDOM_SIZE / 2];
    *once = (struct kv_once){.on = on, .sequence = SEQUENCE_FIRST};
    if (!on) return true;
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++) {
        once->id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        once->id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    once->id[ID_RANDOM_SIZE] = '.';
    return true;
}

uint32_t kv_once_slot(const struct kv_batch *batch, size_t at)
{
    const uint8_t *id = batch->out.data + batch->items[at].stamp;
    uint32_t slot = 0;
    for (size_t i = ID_RANDOM_SIZE + 1; i < KV_ONCE_ID_SIZE; i++) slot = slot * 10 + id[i] - '0';
    return slot;
}

void kv_once_stamp(struct kv_once *once, struct kv_batch *batch, size_t at, uint32_t slot)
{
    struct kv_item *item = &batch->items[at];
    uint8_t *id = batch->out.data + item->stamp;
    memcpy(id, once->id, ID_RANDOM_SIZE + 1);
    put_digits(id + ID_RANDOM_SIZE + 1, KV_ONCE_ID_SIZE - ID_RANDOM_SIZE - 1, slot);
    /* Behind the id: CR LF, "$16", CR LF. */
    put_digits(id + KV_ONCE_ID_SIZE + 7, KV_ONCE_SEQUENCE_SIZE, once->sequence++);
    item->doubt = false;
}
