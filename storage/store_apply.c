#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/store_inner.h"

/* ---- growing hints -------------------------------------------------------------------------------- */

struct store_growth *store_growth(struct store *store, const struct log_segment *segment)
{
    const struct log_file *file = &segment->file;
    /* Entries are applied in order, so the one that is looked for is nearly always the last. */
    uint32_t at = store->growth_count;
    while (at > 0 && store->growths[at - 1].number > file->number) at--;
    if (at > 0 && store->growths[at - 1].number == file->number) return &store->growths[at - 1];

    if (store->growth_count == store->growth_capacity) {
        store->growth_capacity = store->growth_capacity < 4 ? 4 : 2 * store->growth_capacity;
        store->growths = mem_resize(store->growths,
                                    store->growth_capacity * sizeof *store->growths);
    }
    struct store_growth *growth = &store->growths[at];
    memmove(growth + 1, growth, (store->growth_count - at) * sizeof *growth);
    store->growth_count++;
    *growth = (struct store_growth){.number = file->number, .stamp_ms = store->stamp_ms};
    hint_init(&growth->hint, file->file_id);
    hint_expect(&growth->hint, segment->size);
    return growth;
}

void store_growth_drop(struct store *store, uint32_t number)
{
    for (uint32_t i = 0; i < store->growth_count; i++) {
        struct store_growth *growth = &store->growths[i];
        if (growth->number != number) continue;
        hint_close(&growth->hint);
        store->growth_count--;
        memmove(growth, growth + 1, (store->growth_count - i) * sizeof *growth);
        return;
    }
}

/* ---- applying ------------------------------------------------------------------------------------- */

static uint64_t entry_size(const struct hint_entry *entry)
{
    return align_up(EFFECT_HEADER_SIZE + entry->key.size + entry->value_size, 8);
}

void store_apply_entry(struct store *store, struct shelf_file *file, const struct hint_entry *entry)
{
    struct keydir *keys = store->keys;
    struct keydir_dead dead;
    if (!list_empty(&store->pasts)) store_pasts_note(store, entry);
    switch (entry->kind) {
    case EFFECT_PUT: {
        const struct place place = {.file = file->file.number, .offset = entry->offset};
        /* The bytes of a value that is not inline are not needed, and a hint does not have them. */
        const struct slice value = slice_of(entry->value.data, entry->value_size);
        const bool is_packed = (entry->flags & EFFECT_FLAG_LZ4) != 0;
        keydir_put(keys, entry->key, value, is_packed ? KEYDIR_COMPRESSED : 0, entry->revision,
                   entry->expiry_ms, place, &dead);
        shelf_live_add(file, entry_size(entry));
        shelf_dead(&store->shelf, &dead, entry->key.size);
        return;
    }
    case EFFECT_DELETE:
        /* The key may be gone already: the sweeper's delete can follow another one. */
        (void)keydir_remove(keys, entry->key, &dead);
        file->deletes += entry_size(entry);
        shelf_dead(&store->shelf, &dead, entry->key.size);
        return;
    case EFFECT_EXPIRE_AT: {
        const struct keydir_entry *before = keydir_find(keys, entry->key);
        if (before == NULL) return;
        const struct keydir_info info = keydir_info(before);
        shelf_expiry(&store->shelf, file, &info);
        (void)keydir_expire(keys, entry->key, entry->revision, entry->expiry_ms);
        return;
    }
    case EFFECT_FLUSH:
        keydir_clear(keys);
        shelf_flush(&store->shelf);
        file->deletes += entry_size(entry);
        store->flush_revision = entry->revision;
        return;
    default: UNREACHABLE(); /* Decoding knows no other kind. */
    }
}

/* The next effect that changes a key; others are noted on the way. */
static enum err next_change(struct store *store, struct effect_walk *walk, uint64_t index,
                            struct effect *effect)
{
    for (;;) {
        const enum err err = effect_walk_next(walk, effect);
        if (err != OK || effect_is_change(effect->kind)) return err;
        witness_effect(&store->witness, index, effect);
    }
}

static enum err apply_command(struct store *store, struct shelf_file *file,
                              const struct record *record, struct place place)
{
    const struct log_segment *segment = log_segment_find(&store->log, place.file);
    CHECK(segment != NULL);
    struct store_growth *growth = store_growth(store, segment);
    struct effect_walk walk;
    struct effect effect;

    /* All effects are read before the first is applied: an entry takes place wholly or not at all. */
    effect_walk_open(&walk, record->payload);
    enum err err;
    do {
        err = effect_walk_next(&walk, &effect);
    } while (err == OK);
    if (err != ERR_NOT_FOUND) return err;

    effect_walk_open(&walk, record->payload);
    uint32_t count = 0;
    do {
        struct hint_entry entries[KEYDIR_WARM_MAX];
        struct slice keys[KEYDIR_WARM_MAX];
        for (count = 0; count < KEYDIR_WARM_MAX; count++) {
            if (next_change(store, &walk, record->index, &effect) != OK) break;
            entries[count] = (struct hint_entry){
                .kind = effect.kind,
                .flags = effect.flags,
                .offset = place.offset + RECORD_HEADER_SIZE + walk.offset,
                .value_size = (uint32_t)effect.value.size,
                .revision = revision_of(record->index, walk.ordinal),
                .expiry_ms = effect.expiry_ms,
                .key = effect.key,
                .value = effect.value,
            };
            keys[count] = effect.key;
        }
        keydir_warm(store->keys, keys, count);
        for (uint32_t i = 0; i < count; i++) {
            store_apply_entry(store, file, &entries[i]);
            hint_add(&growth->hint, &entries[i]);
            store->user_written += entries[i].key.size + entries[i].value_size;
        }
    } while (count == KEYDIR_WARM_MAX);
    return OK;
}

/* What it costs to apply @record, in effects. */
static uint64_t work_of(const struct record *record)
{
    struct effect_walk walk = {0};
    if (record->type == RECORD_COMMAND) effect_walk_open(&walk, record->payload);
    return 1 + walk.count + record->payload.size / (4 * KIB);
}

static enum err apply_entry(struct store *store, const struct record *record, struct place place)
{
    struct shelf_file *file = store_file_growing(store, place.file, record->index);
    if (record->type == RECORD_COMMAND) {
        const enum err err = apply_command(store, file, record, place);
        if (err != OK) return err;
    }
    store->applied_index = record->index;
    witness_applied(&store->witness, record->index, keydir_hash(store->keys));
    if (record->stamp_ms > store->stamp_ms) store->stamp_ms = record->stamp_ms;
    struct store_growth *growth = store_growth(store, log_segment_find(&store->log, place.file));
    growth->stamp_ms = store->stamp_ms;
    growth->state_hash = keydir_hash(store->keys);
    return OK;
}

enum err store_apply_some(struct store *store, uint64_t index, bool at_least_one, uint64_t *work)
{
    CHECK(!store->is_replaced);
    CHECK(index <= store->log.persisted_index);
    bool is_forced = at_least_one;
    while (store->applied_index < index && (is_forced || *work > 0)) {
        const uint64_t next = store->applied_index + 1;
        struct place place;
        struct slice bytes;
        enum err err = log_entry(&store->log, next, &place, &bytes);
        if (err != OK) return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
        CHECK(place.file > 0);
        struct record record;
        uint64_t size = 0;
        err = record_decode_trusted(bytes, &record, &size);
        if (err != OK) return err;
        CHECK(record.index == next);
        const uint64_t more = work_of(&record);
        if (more > *work && !is_forced) return OK;
        err = apply_entry(store, &record, place);
        if (err != OK) return err;
        is_forced = false;
        *work -= more < *work ? more : *work;
    }
    return OK;
}

enum err store_apply(struct store *store, uint64_t index)
{
    uint64_t work = UINT64_MAX;
    return store_apply_some(store, index, false, &work);
}
