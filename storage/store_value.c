#include "storage/store_value.h"

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/compress.h"
#include "storage/store_inner.h"

#define WARM_VALUE_SIZE 384u

#define REPLY_END_SIZE 8u

/* The put that a key's entry speaks of. */
struct wanted {
    struct slice key;
    uint32_t value_size;
    bool is_compressed;
};

/* The stored value in the effect at @bytes, if that is the put which is @wanted. */
static enum err value_of(struct slice bytes, const struct wanted *wanted, bool verify,
                         struct slice *stored)
{
    struct effect effect;
    uint64_t size = 0;
    const enum err err = verify ? effect_decode(bytes, &effect, &size)
                                : effect_decode_trusted(bytes, &effect, &size);
    if (err != OK) return ERR_CORRUPT;
    if (effect.kind != EFFECT_PUT || size != bytes.size) return ERR_CORRUPT;
    if (effect.value.size != wanted->value_size) return ERR_CORRUPT;
    if (((effect.flags & EFFECT_FLAG_LZ4) != 0) != wanted->is_compressed) return ERR_CORRUPT;
    if (!slice_equal(effect.key, wanted->key)) return ERR_CORRUPT;
    *stored = effect.value;
    return OK;
}

static struct wanted wanted_of(const struct keydir_info *info)
{
    return (struct wanted){
        .key = info->key, .value_size = info->value_size, .is_compressed = info->is_compressed};
}

/* The open file in which @place lies. ERR_CORRUPT: no file that we know reaches so far. */
static enum err file_of(struct store *store, struct place place, uint64_t size, disk_file *file)
{
    uint64_t used = 0;
    if (store_file_handle(store, place.file, file, &used) != OK) return ERR_CORRUPT;
    if (place.offset > used || size > used - place.offset) return ERR_CORRUPT;
    return OK;
}

/* From the entry or from memory. ERR_AGAIN: it has to be read; the store's scratch has room for its @size. */
static enum err from_memory(struct store *store, const struct keydir_info *info,
                            struct slice *stored, uint64_t *size)
{
    *stored = info->inline_value;
    if (info->is_inline) return OK;
    const struct wanted wanted = wanted_of(info);
    *size = keydir_size_on_disk(info);
    const struct slice memory = log_memory(&store->log, info->place, *size);
    if (memory.data == NULL) return ERR_AGAIN;
    store->tail_hits++;
    return value_of(memory, &wanted, false, stored);
}

static enum err from_disk(struct store *store, const struct keydir_info *info, uint64_t size,
                          bool may_wait, struct slice *stored)
{
    disk_file file = -1;
    struct disk *disk = store->config.disk;
    enum err err = file_of(store, info->place, size, &file);
    if (err != OK) store_note_damage(store, info->place.file, info->place.offset, size);
    if (err != OK) return err;
    store->scratch.size = 0;
    buf_trim(&store->scratch, MIB);
    uint8_t *at = buf_extend(&store->scratch, size);
    err = may_wait ? disk->read(disk->context, file, info->place.offset, at, size)
                   : disk->read_now(disk->context, file, info->place.offset, at, size);
    if (err == ERR_AGAIN) return err;
    store->tail_misses++;
    const struct wanted wanted = wanted_of(info);
    if (err == OK) err = value_of(slice_of(at, size), &wanted, true, stored);
    if (err != OK) store_note_damage(store, info->place.file, info->place.offset, size);
    return err == OK || err == ERR_IO ? err : ERR_CORRUPT;
}

enum err store_value_now(struct store *store, const struct keydir_entry *entry,
                         struct slice *stored)
{
    uint64_t size = 0;
    const struct keydir_info info = keydir_info(entry);
    const enum err err = from_memory(store, &info, stored, &size);
    if (err != ERR_AGAIN || size > STORE_READ_NOW_MAX) return err;
    return from_disk(store, &info, size, false, stored);
}

enum err store_value(struct store *store, const struct keydir_entry *entry, struct slice *value)
{
    uint64_t size = 0;
    const struct keydir_info info = keydir_info(entry);
    enum err err = from_memory(store, &info, value, &size);
    if (err == ERR_AGAIN) err = from_disk(store, &info, size, true, value);
    if (err != OK || !info.is_compressed) return err;
    store->unpacked.size = 0;
    buf_trim(&store->unpacked, MIB);
    err = compress_unpack(*value, &store->unpacked);
    *value = buf_slice(&store->unpacked);
    return err;
}

/* ---- in the background ----------------------------------------------------------------------------- */

static void store_read_done(struct disk_op *op)
{
    struct store_read *read = op->owner;
    read->is_done = true;
    list_remove(&read->link);
}

void store_read_begin(struct store *store, const struct keydir_entry *entry,
                      struct store_read *read)
{
    const struct keydir_info info = keydir_info(entry);
    const uint64_t size = keydir_size_on_disk(&info);
    CHECK(!info.is_inline);
    *read = (struct store_read){
        .place = info.place, .value_size = info.value_size, .is_compressed = info.is_compressed};
    buf_append(&read->key, info.key.data, info.key.size);
    list_init(&read->link);
    read->op = (struct disk_op){.kind = DISK_READ,
                                .lane = DISK_LANE_READ,
                                .file = -1,
                                .offset = info.place.offset,
                                .size = size,
                                .done = store_read_done,
                                .owner = read};
    store->tail_misses++;
    const enum err err = file_of(store, info.place, size, &read->op.file);
    if (err != OK) {
        read->op.result = err;
        read->is_done = true;
        return;
    }
    /* What is read can become a reply, which has an end of its own. */
    (void)buf_reserve_exact(&read->bytes, size + REPLY_END_SIZE);
    read->op.into = buf_extend(&read->bytes, size);
    list_append(&store->reads, &read->link);
    store->config.disk->submit(store->config.disk->context, &read->op);
}

enum err store_read_value(struct store_read *read, struct slice *stored)
{
    CHECK(read->is_done);
    if (read->op.result != OK) return read->op.result == ERR_IO ? ERR_IO : ERR_CORRUPT;
    const struct wanted wanted = {.key = buf_slice(&read->key),
                                  .value_size = read->value_size,
                                  .is_compressed = read->is_compressed};
    const enum err err = value_of(buf_slice(&read->bytes), &wanted, !read->is_verified, stored);
    read->is_verified = err == OK;
    return err;
}

void store_read_close(struct store_read *read)
{
    CHECK(read->is_done || read->bytes.size == 0);
    buf_close(&read->key);
    buf_close(&read->bytes);
    *read = (struct store_read){0};
}

void store_reads_settle(struct store *store)
{
    struct disk *disk = store->config.disk;
    while (!list_empty(&store->reads)) {
        struct store_read *read = LIST_ITEM(store->reads.next, struct store_read, link);
        disk->wait(disk->context, &read->op);
        CHECK(read->is_done);
    }
}

bool store_is_read(const struct store *store, uint32_t number)
{
    if (store_chunks_has(store, number)) return true;
    for (const struct list *at = store->reads.next; at != &store->reads; at = at->next) {
        if (LIST_ITEM(at, const struct store_read, link)->place.file == number) return true;
    }
    return false;
}

/* ---- looking ahead ---------------------------------------------------------------------------------- */

void store_warm(struct store *store, const struct slice *keys, const bool *values, uint32_t count)
{
    keydir_warm(store->keys, keys, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!values[i]) continue;
        const struct keydir_entry *entry = keydir_find(store->keys, keys[i]);
        if (entry == NULL) continue;
        const struct keydir_info info = keydir_info(entry);
        if (info.is_inline) continue;
        const struct slice memory = log_memory(&store->log, info.place, keydir_size_on_disk(&info));
        /* The processor goes on by itself with what follows in a longer value. */
        for (uint64_t at = 0; at < memory.size && at < WARM_VALUE_SIZE; at += 64) {
            __builtin_prefetch(memory.data + at);
        }
    }
}
