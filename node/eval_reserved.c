/* eval_reserved.c - see eval_reserved.h. */
#include "node/eval_reserved.h"

#include "node/shard.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/reserved.h"

void eval_reserved_key(struct buf *key, const char *family, struct slice name)
{
    buf_append(key, RESERVED_PREFIX, RESERVED_PREFIX_SIZE);
    buf_text(key, family);
    buf_append(key, name.data, name.size);
}

bool eval_reserved_room(const struct eval *eval, bool is_new, uint64_t size)
{
    const struct keydir_reserved used = keydir_reserved(store_keys(eval->shard->store));
    return (!is_new || used.count < RESERVED_COUNT_MAX) && used.size + size <= RESERVED_SIZE_MAX;
}

uint64_t eval_reserved_count(const struct eval *eval)
{
    return keydir_reserved(store_keys(eval->shard->store)).count +
           eval->shard->batches.reserved_count;
}

/* One of them, as it is now: u64 expiry, key, value. */
static bool gather(struct eval *eval, struct slice key, struct buf *kept)
{
    struct slice value;
    struct item item = eval_find(eval, key);
    if (!item.exists) return true;
    if (!eval_value(eval, &item, &value)) return false;
    buf_u64(kept, item.expiry_ms);
    buf_sized(kept, key);
    buf_sized(kept, value);
    return true;
}

/* The keys, applied and in flight; one may come several times. */
static void list_keys(const struct eval *eval, struct buf *keys)
{
    struct keydir_cursor cursor;
    const struct slice first = slice_of(RESERVED_PREFIX, RESERVED_PREFIX_SIZE);
    const struct keydir *keydir = store_keys(eval->shard->store);
    batches_reserved(&eval->shard->batches, keys);
    if (keydir_reserved(keydir).count == 0) return;
    const struct keydir_entry *entry = keydir_seek(keydir, first, &cursor);
    for (; entry != NULL; entry = keydir_next(&cursor)) {
        const struct slice key = keydir_info(entry).key;
        if (!reserved_key(key)) return;
        buf_sized(keys, key);
    }
}

/* What is on its way may be more than the bounds; once it is applied there is one of each. False. */
static bool refuse(struct eval *eval)
{
    eval_error(eval, "TRYAGAIN too much is on its way that a flush has to keep: nothing was "
                     "changed");
    return false;
}

bool eval_reserved_gather(struct eval *eval, struct buf *kept)
{
    struct buf keys = {0};
    bool ok = eval_reserved_count(eval) < COMMAND_EFFECTS_MAX;
    if (!ok) return refuse(eval);
    list_keys(eval, &keys);
    struct reader reader = reader_of(buf_slice(&keys));
    while (reader.at != reader.end && (ok || (eval->waits && eval_wants_more(eval)))) {
        ok = gather(eval, reader_sized(&reader), kept) && ok;
    }
    buf_close(&keys);
    if (!ok) return false;
    if (kept->size > COMMAND_SIZE_MAX - MIB) return refuse(eval);
    return kept->size == 0 || eval_fits_disk(eval, kept->size);
}

void eval_reserved_restore(struct eval *eval, struct slice kept)
{
    struct reader reader = reader_of(kept);
    while (reader.at != reader.end) {
        const uint64_t expiry_ms = reader_u64(&reader);
        const struct slice key = reader_sized(&reader);
        const struct slice value = reader_sized(&reader);
        const struct item item = eval_find(eval, key);
        if (!item.exists) eval_put(eval, key, value, expiry_ms, &item);
    }
    CHECK(!reader.bad);
}
