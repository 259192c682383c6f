#include "tests/sim/check_past.h"

#include <inttypes.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/compress.h"
#include "storage/keydir.h"
#include "storage/reserved.h"
#include "tests/sim/sim.h"

void check_past_close(struct check_past *past)
{
    buf_close(&past->changes);
    buf_close(&past->stamps);
}

static uint64_t value_hash(const struct effect *effect)
{
    struct buf raw = {0};
    struct slice value = effect->value;
    if ((effect->flags & EFFECT_FLAG_LZ4) != 0) {
        CHECK(compress_unpack(value, &raw) == OK);
        value = buf_slice(&raw);
    }
    const uint64_t hash = hash64(value.data, value.size);
    buf_close(&raw);
    return hash;
}

void check_past_entry(struct check_past *past, const struct record *record)
{
    struct effect_walk walk;
    struct effect effect;
    if (past->last == 0 && record->index == 1) buf_u64(&past->stamps, 0);
    if (record->index != past->last + 1) past->has_gap = true;
    if (past->has_gap) return;
    past->last = record->index;
    buf_u64(&past->stamps, record->stamp_ms);
    if (record->type != RECORD_COMMAND) return;
    effect_walk_open(&walk, record->payload);
    while (effect_walk_next(&walk, &effect) == OK) {
        if (!effect_is_change(effect.kind)) continue;
        buf_u64(&past->changes, revision_of(record->index, walk.ordinal));
        buf_u64(&past->changes, value_hash(&effect));
        effect.value = (struct slice){0};
        effect.flags &= (uint8_t)~EFFECT_FLAG_LZ4;
        effect_encode(&effect, &past->changes);
    }
}

uint64_t check_past_pick(struct sim *sim)
{
    const struct check_past *past = &sim->past;
    if (past->told_count == 0) return 0;
    const uint32_t kept = past->told_count < CHECK_PAST_TOLD_MAX ? past->told_count
                                                                 : CHECK_PAST_TOLD_MAX;
    return past->told[sim_below(sim, kept)];
}

/* The keys at @revision; a value is the hash of one. */
static struct keydir *model_at(const struct check_past *past, uint64_t revision)
{
    struct keydir *keys = keydir_create(1);
    uint64_t at = 0;
    while (at < past->changes.size) {
        struct effect effect;
        uint64_t size = 0;
        const uint8_t *head = past->changes.data + at;
        const struct slice rest = slice_of(head + 16, past->changes.size - at - 16);
        if (get_u64(head) > revision) break;
        CHECK(effect_decode_trusted(rest, &effect, &size) == OK);
        if (effect.kind == EFFECT_PUT) {
            keydir_put(keys, effect.key, slice_of(head + 8, 8), 0, get_u64(head), effect.expiry_ms,
                       (struct place){.file = 1}, NULL);
        } else if (effect.kind == EFFECT_DELETE) {
            (void)keydir_remove(keys, effect.key, NULL); /* The sweeper may come second. */
        } else if (effect.kind == EFFECT_FLUSH) {
            keydir_clear(keys);
        } else {
            (void)keydir_expire(keys, effect.key, get_u64(head), effect.expiry_ms);
        }
        at += 16 + size;
    }
    return keys;
}

/* "*12\r\n", ":12\r\n" or "$12\r\n". */
static bool take_head(struct slice *rest, char type, int64_t *number)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;
    if (end == NULL || rest->data[0] != (uint8_t)type) return false;
    const uint64_t size = (uint64_t)(end - rest->data) + 1;
    if (size < 4 || !slice_int64(slice_of(rest->data + 1, size - 3), number)) return false;
    *rest = slice_of(rest->data + size, rest->size - size);
    return true;
}

static bool take_bulk(struct slice *rest, struct slice *bytes)
{
    int64_t size = 0;
    if (!take_head(rest, '$', &size) || size < 0 || (uint64_t)size + 2 > rest->size) return false;
    *bytes = slice_of(rest->data, (uint64_t)size);
    *rest = slice_of(rest->data + size + 2, rest->size - (uint64_t)size - 2);
    return true;
}

/* One element of the reply against one key of the model. */
static bool is_same(struct slice *rest, const struct keydir_info *info, struct slice *key)
{
    int64_t number = 0;
    struct slice value;
    if (!take_head(rest, '*', &number) || number != 3) return false;
    if (!take_bulk(rest, key) || !take_bulk(rest, &value)) return false;
    if (!take_head(rest, ':', &number)) return false;
    return slice_equal(*key, info->key) && (uint64_t)number == info->revision &&
           hash64(value.data, value.size) == get_u64(info->inline_value.data);
}

static void compare(struct sim *sim, uint64_t revision, int64_t count, struct slice rest)
{
    struct keydir_cursor cursor;
    struct keydir *keys = model_at(&sim->past, revision);
    const uint64_t stamp_ms = get_u64(sim->past.stamps.data + 8 * revision_index(revision));
    const struct keydir_entry *entry = keydir_seek(keys, (struct slice){0}, &cursor);
    int64_t found = 0;
    for (; entry != NULL && !sim->has_failed; entry = keydir_next(&cursor)) {
        const struct keydir_info info = keydir_info(entry);
        struct slice key = {0};
        if (info.expiry_ms != 0 && info.expiry_ms <= stamp_ms) continue;
        if (reserved_key(info.key)) continue; /* Nobody sees those. */
        if (found++ < count && is_same(&rest, &info, &key)) continue;
        sim_fail(sim,
                 "a range at revision %" PRIu64 " of %lld keys: number %lld should be %.*s of "
                 "%" PRIu64 " and is %.*s",
                 revision, (long long)count, (long long)found, (int)info.key.size,
                 (const char *)info.key.data, info.revision, (int)key.size, (const char *)key.data);
    }
    if (found != count) {
        sim_fail(sim, "a range at revision %" PRIu64 " has %lld keys instead of %lld", revision,
                 (long long)count, (long long)found);
    }
    keydir_destroy(keys);
}

bool check_past_range(struct sim *sim, uint64_t revision, struct slice reply)
{
    struct check_past *past = &sim->past;
    int64_t count = 0;
    int64_t told = (int64_t)revision;
    if (!take_head(&reply, '*', &count)) return false;
    if (revision == 0) {
        if (count != 2 || !take_head(&reply, ':', &told)) return false;
        if (!take_head(&reply, '*', &count)) return false;
        past->told[past->told_count++ % CHECK_PAST_TOLD_MAX] = (uint64_t)told;
    }
    if (past->has_gap || revision_index((uint64_t)told) > past->last) return true;
    sim->counts.ranges++;
    compare(sim, (uint64_t)told, count, reply);
    return true;
}
