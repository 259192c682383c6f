#include "node/fetch.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"
#include "storage/store_value.h"

#define CHECKSUM_SPEEDUP 4u /* verifying bytes is so much faster than unpacking them */

struct fetched {
    struct store_read read;
    struct compress_undo undo;
    struct slice value; /* Once it is ready. */
    uint64_t size;      /* Counted in fetch.kept_size. */
    bool is_taken;      /* What was read is verified. */
    bool is_ready;
    enum err result;
};

struct fetch {
    struct list link; /* In fetches.active or fetches.orphans, or in none: all is here. */
    struct fetches *owner;
    uint64_t epoch;
    struct fetched **values; /* A table by place, closed hashing; NULL: free. */
    uint32_t count;
    uint32_t capacity; /* A power of two, at least twice the count. */
    uint32_t missing;
    uint64_t missing_size;
    uint64_t kept_size;
};

void fetches_init(struct fetches *fetches)
{
    *fetches = (struct fetches){.epoch = 1};
    list_init(&fetches->active);
    list_init(&fetches->orphans);
}

static void fetched_free(struct fetched *value)
{
    store_read_close(&value->read);
    buf_close(&value->undo.out);
    mem_free(value);
}

static void fetch_free(struct fetch *fetch)
{
    list_remove(&fetch->link);
    for (uint32_t i = 0; i < fetch->capacity; i++) {
        if (fetch->values[i] != NULL) fetched_free(fetch->values[i]);
    }
    fetch->owner->size -= fetch->kept_size;
    mem_free(fetch->values);
    mem_free(fetch);
}

static bool has_read_under_way(const struct fetch *fetch)
{
    for (uint32_t i = 0; fetch->missing > 0 && i < fetch->capacity; i++) {
        if (fetch->values[i] != NULL && !fetch->values[i]->read.is_done) return true;
    }
    return false;
}

static void free_orphans(struct fetches *fetches)
{
    for (struct list *at = fetches->orphans.next, *next; at != &fetches->orphans; at = next) {
        next = at->next;
        struct fetch *fetch = LIST_ITEM(at, struct fetch, link);
        if (!has_read_under_way(fetch)) fetch_free(fetch);
    }
}

void fetches_close(struct fetches *fetches)
{
    free_orphans(fetches);
    CHECK(list_empty(&fetches->orphans));
    CHECK(list_empty(&fetches->active));
    CHECK(fetches->size == 0);
}

void fetches_void(struct fetches *fetches)
{
    fetches->epoch++;
    while (!list_empty(&fetches->active)) {
        struct fetch *fetch = LIST_ITEM(fetches->active.next, struct fetch, link);
        fetch->missing = 0; /* What was read is dropped by the next evaluation. */
        list_remove(&fetch->link);
    }
}

/* ---- the turn ---------------------------------------------------------------------------------------- */

static void finish(struct fetch *fetch, struct fetched *value, enum err result)
{
    value->is_ready = true;
    value->result = result;
    fetch->missing--;
    fetch->missing_size -= value->size;
}

/* Takes what was read for @value, and unpacks some of it. Returns what that cost of the budget. */
static uint64_t advance(struct fetch *fetch, struct fetched *value, uint64_t budget)
{
    struct slice stored = {0};
    if (value->is_ready || !value->read.is_done || budget == 0) return 0;
    const uint64_t cost = value->is_taken ? 0 : value->read.bytes.size / CHECKSUM_SPEEDUP;
    const enum err err = store_read_value(&value->read, &stored);
    if (err != OK || !value->read.is_compressed) {
        value->value = stored;
        finish(fetch, value, err);
        return cost;
    }
    if (!value->is_taken) {
        /* From now on it takes as much as is unpacked. */
        const uint64_t raw_size = compress_raw_size(stored);
        value->is_taken = true;
        (void)buf_extend(&value->undo.out, FETCH_FRONT_SIZE);
        value->size += raw_size;
        fetch->missing_size += raw_size;
        fetch->kept_size += raw_size;
        fetch->owner->size += raw_size;
    }
    const uint64_t before = value->undo.out.size;
    const enum err unpacked = compress_undo_step(&value->undo, stored, budget);
    if (unpacked != ERR_MORE) {
        const struct buf *out = &value->undo.out;
        value->value = slice_of(out->data + value->undo.base, out->size - value->undo.base);
        finish(fetch, value, unpacked);
    }
    return cost + value->undo.out.size - before;
}

void fetches_turn(struct fetches *fetches)
{
    uint64_t budget = FETCH_SLICE_SIZE;
    fetches->more = false;
    if (!list_empty(&fetches->orphans)) free_orphans(fetches);
    for (struct list *at = fetches->active.next, *next; at != &fetches->active; at = next) {
        next = at->next;
        struct fetch *fetch = LIST_ITEM(at, struct fetch, link);
        for (uint32_t i = 0; i < fetch->capacity && fetch->missing > 0; i++) {
            if (fetch->values[i] == NULL) continue;
            const uint64_t done = advance(fetch, fetch->values[i], budget);
            budget = done < budget ? budget - done : 0;
        }
        if (fetch->missing == 0) list_remove(&fetch->link);
        if (fetch->missing > 0 && budget == 0) fetches->more = true;
    }
}

/* ---- one command ------------------------------------------------------------------------------------- */

static struct fetch *fetch_create(struct fetches *fetches)
{
    struct fetch *fetch = mem_zero(sizeof *fetch);
    fetch->owner = fetches;
    fetch->epoch = fetches->epoch;
    list_init(&fetch->link);
    return fetch;
}

/* Where the value at @place is in the table, or would be. */
static uint32_t slot_of(const struct fetch *fetch, struct place place)
{
    const uint64_t mixed = ((uint64_t)place.file << 32 | place.offset) * 0x9e3779b97f4a7c15u;
    uint32_t slot = (uint32_t)(mixed >> 32) & (fetch->capacity - 1);
    for (;;) {
        const struct fetched *value = fetch->values[slot];
        if (value == NULL) return slot;
        if (value->read.place.file == place.file && value->read.place.offset == place.offset) {
            return slot;
        }
        slot = (slot + 1) & (fetch->capacity - 1);
    }
}

static struct fetched *find(const struct fetch *fetch, struct place place)
{
    return fetch->count > 0 ? fetch->values[slot_of(fetch, place)] : NULL;
}

static void grow(struct fetch *fetch)
{
    struct fetched **old = fetch->values;
    const uint32_t old_capacity = fetch->capacity;
    fetch->capacity = old_capacity > 0 ? 2 * old_capacity : 4;
    fetch->values = mem_zero(fetch->capacity * sizeof(struct fetched *));
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i] != NULL) fetch->values[slot_of(fetch, old[i]->read.place)] = old[i];
    }
    mem_free(old);
}

static struct fetched *begin(struct fetch *fetch, struct store *store,
                             const struct keydir_entry *entry, uint64_t size)
{
    struct fetches *fetches = fetch->owner;
    struct fetched *value = mem_zero(sizeof *value);
    if (2 * (fetch->count + 1) > fetch->capacity) grow(fetch);
    fetch->values[slot_of(fetch, keydir_info(entry).place)] = value;
    fetch->count++;
    value->size = size;
    fetch->missing++;
    fetch->missing_size += size;
    fetch->kept_size += size;
    fetches->size += size;
    fetches->count++;
    if (list_empty(&fetch->link)) list_append(&fetches->active, &fetch->link);
    store_read_begin(store, entry, &value->read);
    return value;
}

bool fetch_has(const struct fetches *fetches, const struct fetch *fetch,
               const struct keydir_entry *entry, struct slice *value)
{
    if (fetch == NULL || fetch->epoch != fetches->epoch) return false;
    const struct fetched *found = find(fetch, keydir_info(entry).place);
    if (found == NULL || !found->is_ready || found->result != OK) return false;
    *value = found->value;
    return true;
}

bool fetch_take(struct fetch *fetch, struct slice value, struct buf *bytes, uint64_t *offset)
{
    if (fetch == NULL || value.size <= FETCH_UNPACK_NOW_MAX) return false;
    for (uint32_t i = 0; i < fetch->capacity; i++) {
        struct fetched *found = fetch->values[i];
        if (found == NULL || !found->is_ready || found->value.data != value.data) continue;
        struct buf *owner = found->read.is_compressed ? &found->undo.out : &found->read.bytes;
        *offset = (uint64_t)(value.data - owner->data);
        *bytes = *owner;
        *owner = (struct buf){0};
        found->value = (struct slice){0};
        return true;
    }
    return false;
}

bool fetch_is_full(const struct fetch *fetch)
{
    return fetch == NULL || fetch->missing >= FETCH_COUNT_MAX ||
           fetch->missing_size >= FETCH_AHEAD_SIZE;
}

enum err fetch_value(struct fetches *fetches, struct fetch **of, struct store *store,
                     const struct keydir_entry *entry, uint64_t kept_max, struct slice *value)
{
    const struct keydir_info info = keydir_info(entry);
    const uint64_t size = keydir_size_on_disk(&info);
    if (*of != NULL && (*of)->epoch != fetches->epoch) {
        fetch_end(*of);
        *of = NULL;
    }
    const bool is_begun = *of != NULL && (*of)->count > 0;
    if (!is_begun && fetches->size > 0 && fetches->size + size > FETCH_TOTAL_SIZE) return ERR_AGAIN;
    if (*of == NULL) *of = fetch_create(fetches);
    struct fetch *fetch = *of;
    struct fetched *found = find(fetch, info.place);
    if (found == NULL && is_begun) {
        if (fetch->kept_size > kept_max) return ERR_TOO_BIG;
        const bool is_far = fetch->missing >= FETCH_COUNT_MAX ||
                            fetch->missing_size + size > FETCH_AHEAD_SIZE;
        if (is_far && fetch->missing > 0) return ERR_AGAIN;
    }
    if (found == NULL) found = begin(fetch, store, entry, size);
    if (!found->is_ready) return ERR_AGAIN;
    *value = found->value;
    if (found->result != OK) {
        store_note_damage(store, info.place.file, info.place.offset, keydir_size_on_disk(&info));
    }
    return found->result;
}

bool fetch_waits(const struct fetch *fetch)
{
    return fetch != NULL && fetch->missing > 0;
}

void fetch_end(struct fetch *fetch)
{
    if (fetch == NULL) return;
    list_remove(&fetch->link);
    if (has_read_under_way(fetch)) {
        list_append(&fetch->owner->orphans, &fetch->link);
    } else {
        fetch_free(fetch);
    }
}
