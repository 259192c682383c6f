/* Effects that compaction wants to keep and cannot read. */
#include "storage/base/check.h"
#include "storage/compress.h"
#include "storage/store_inner.h"
#include "storage/table.h"

#define POLL_MS 5u
#define UNBLOCK_MS 10000u
#define HINT_FAILURES 2u /* One may have been a bad moment of the disk. */

struct mend *store_mend(struct store *store)
{
    return &store->mend;
}

/* Does the put of @item still matter, and as what? */
static bool is_needed(const struct store *store, const struct compact_item *item, struct slice key,
                      struct keydir_info *info)
{
    const struct store_compact *job = &store->compact;
    const struct keydir_entry *found = keydir_find(store->keys, key);
    if (found == NULL) return false;
    *info = keydir_info(found);
    return info->place.file == job->inputs[job->at].number && info->place.offset == item->offset;
}

/* While one is waited for, those behind it may come as well. */
static void ask_ahead(struct store *store, uint64_t end)
{
    struct store_compact *job = &store->compact;
    for (uint64_t i = job->item_at; i < end && store->mend.count < MEND_WANTS_MAX; i++) {
        struct keydir_info info;
        struct slice bytes;
        struct effect effect;
        const struct mend_want *want = NULL;
        const struct compact_item item = store_compact_item(job, i);
        if (item.kind != EFFECT_PUT) continue;
        const struct slice key = store_compact_key(job, &item);
        if (!is_needed(store, &item, key, &info) || info.is_inline) continue;
        if (store_compact_bytes(job, &item, &bytes, &effect) == OK) continue;
        (void)mend_ask(&store->mend, key, info.revision, &want);
    }
}

static enum err value_from(struct store *store, const struct keydir_info *info, struct slice *value)
{
    const struct mend_want *want = NULL;
    *value = info->inline_value;
    if (info->is_inline) return OK;
    switch (mend_ask(&store->mend, info->key, info->revision, &want)) {
    case MEND_OPEN: return ERR_AGAIN;
    case MEND_NOWHERE: return ERR_CORRUPT;
    case MEND_HERE: break;
    }
    *value = buf_slice(&want->stored);
    if (value->size != info->value_size || want->is_compressed != info->is_compressed) {
        return ERR_CORRUPT;
    }
    return !want->is_compressed || compress_valid(*value) ? OK : ERR_CORRUPT;
}

enum err store_mend_item(struct store *store, const struct compact_item *item, uint64_t end,
                         struct slice *bytes, struct effect *effect)
{
    struct store_compact *job = &store->compact;
    struct keydir_info info = {0};
    const struct slice key = store_compact_key(job, item);
    *effect = (struct effect){
        .kind = item->kind, .flags = item->flags, .expiry_ms = item->expiry_ms, .key = key};
    if (item->kind == EFFECT_PUT) {
        if (!is_needed(store, item, key, &info)) return ERR_NOT_FOUND;
        const enum err err = value_from(store, &info, &effect->value);
        if (err == ERR_AGAIN) {
            ask_ahead(store, end);
            job->mend_ms = job->now_ms + POLL_MS;
        }
        if (err != OK) return err;
        effect->flags = info.is_compressed ? EFFECT_FLAG_LZ4 : 0;
    }
    if (effect_size(effect) != item->size) return ERR_CORRUPT;
    job->patched.size = 0;
    buf_trim(&job->patched, COMPACT_SPAN_SIZE);
    effect_encode(effect, &job->patched);
    *bytes = buf_slice(&job->patched);
    if (item->kind == EFFECT_PUT) mend_drop(&store->mend, info.key, info.revision);
    return OK;
}

void store_mend_failed(struct store *store)
{
    mend_forget(&store->mend);
    store->unblock_ms = store->compact.now_ms + UNBLOCK_MS;
}

/* A damaged file in the log's window is repaired when the base has moved on, see retention_apply(). */
static void roll_for_damage(struct store *store)
{
    const struct manifest *manifest = &store->manifest;
    const struct log_segment *active = store->log.active;
    if (store->damage.count == 0 || active == NULL) return;
    if (store->rolled_base == manifest->base_index || active->file.used <= SEGMENT_BLOCK_SIZE)
        return;
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct log_file *file = &manifest->files[i];
        if (file->last_index < store->log.first_index) continue;
        if (!damage_has(&store->damage, file->number)) continue;
        log_roll(&store->log);
        if (store->log.active != active) store->rolled_base = manifest->base_index;
        return;
    }
}

bool store_lost(struct store *store, struct damage_fault *fault)
{
    for (uint32_t i = 0; i < store->damage.count; i++) {
        const struct damage_spot *spot = &store->damage.spots[i];
        const struct shelf_file *file = shelf_find(&store->shelf, spot->file);
        char name[SEGMENT_NAME_SIZE];
        if (file == NULL || file->state != SHELF_SEALED) continue;
        if (file->hint_size > 0 && file->hint_failures < HINT_FAILURES) continue;
        table_file_name(name, store->config.folder, &file->file);
        damage_fault_set(fault, DAMAGE_STATE, name, spot->offset,
                         "damaged, and so is the hint that says what was in it");
        return true;
    }
    return false;
}

/* Another node may have come back that has what was missing. */
void store_mend_turn(struct store *store, uint64_t now_ms)
{
    roll_for_damage(store);
    if (store->unblock_ms == 0 || now_ms < store->unblock_ms) return;
    store->unblock_ms = 0;
    for (uint32_t i = 0; i < store->shelf.count; i++) store->shelf.files[i]->is_blocked = false;
    store->compact.looked_count = UINT64_MAX;
}

uint64_t store_mend_deadline(const struct store *store)
{
    return store->unblock_ms > 0 ? store->unblock_ms : UINT64_MAX;
}
