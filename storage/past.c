#include "storage/past.h"

#include "storage/base/check.h"
#include "storage/base/limits.h"

#define UNKNOWN_SIZE (VALUE_INLINE_MAX + 1) /* of a value that is not known yet: not inline */

static void set(struct buf *to, struct slice bytes)
{
    to->size = 0;
    buf_append(to, bytes.data, bytes.size);
}

void past_open(struct past *past, uint64_t revision, struct slice from, struct slice to,
               bool is_reverse)
{
    *past = (struct past){.revision = revision,
                          .from = from,
                          .to = to,
                          .is_reverse = is_reverse,
                          .size_max = UINT64_MAX,
                          .undo = keydir_create(revision)};
    list_init(&past->link);
    past_rewind(past);
    set(&past->low, from);
}

void past_close(struct past *past)
{
    list_remove(&past->link);
    past_settle(past);
    keydir_destroy(past->undo);
    past->undo = NULL;
    buf_close(&past->low);
    buf_close(&past->high);
    buf_close(&past->at);
}

/* The key directly behind @key. */
static void set_behind(struct buf *to, struct slice key)
{
    set(to, key);
    buf_u8(to, 0);
}

static bool in_window(const struct past *past, struct slice key)
{
    if (slice_compare(key, buf_slice(&past->low)) < 0) return false;
    return !past->has_high || slice_compare(key, buf_slice(&past->high)) < 0;
}

static bool in_range(const struct past *past, struct slice key)
{
    if (slice_compare(key, past->from) < 0) return false;
    return past->to.size == 0 || slice_compare(key, past->to) < 0;
}

static bool is_passed(const struct past *past, struct slice key)
{
    const int order = slice_compare(key, buf_slice(&past->at));
    return past->is_reverse ? past->has_at && order >= 0 : order < 0;
}

/* ---- the bound ------------------------------------------------------------------------------------- */

static void drop(struct past *past, const struct keydir_entry *entry)
{
    const struct keydir_info info = keydir_info(entry);
    if (info.revision != 0 && info.place.file == 0) past->wanting--;
    if (past->puts != NULL) (void)keydir_remove(past->puts, info.key, NULL);
    if (past->moves != NULL) (void)keydir_remove(past->moves, info.key, NULL);
    const bool is_gone = keydir_remove(past->undo, info.key, NULL);
    CHECK(is_gone);
}

/* What was passed goes; who comes back finds the window begin where the walk is. */
static void drop_passed(struct past *past)
{
    struct keydir_cursor cursor;
    const struct keydir_entry *entry = NULL;
    for (;;) {
        entry = past->is_reverse ? keydir_seek_last(past->undo, (struct slice){0}, &cursor)
                                 : keydir_seek(past->undo, (struct slice){0}, &cursor);
        if (entry == NULL || !is_passed(past, keydir_info(entry).key)) break;
        drop(past, entry);
    }
    if (past->is_reverse && past->has_at) {
        set(&past->high, buf_slice(&past->at));
        past->has_high = true;
    } else if (!past->is_reverse) {
        set(&past->low, buf_slice(&past->at));
    }
}

/* What lies farthest ahead goes. */
static void drop_far(struct past *past, uint64_t size)
{
    struct keydir_cursor cursor;
    while (keydir_used(past->undo) > size && keydir_count(past->undo) > 1) {
        const struct keydir_entry *entry = past->is_reverse
                                               ? keydir_seek(past->undo, (struct slice){0}, &cursor)
                                               : keydir_seek_last(past->undo, (struct slice){0},
                                                                  &cursor);
        const struct slice key = keydir_info(entry).key;
        if (past->is_reverse) {
            set_behind(&past->low, key);
        } else {
            set(&past->high, key);
            past->has_high = true;
        }
        drop(past, entry);
    }
    past->lost_count++;
}

static void limit(struct past *past)
{
    if (keydir_used(past->undo) <= past->size_max) return;
    drop_passed(past);
    if (keydir_used(past->undo) > past->size_max / 2) drop_far(past, past->size_max / 2);
}

/* ---- changes --------------------------------------------------------------------------------------- */

/* Only the first change after the revision says what was before. */
static bool is_news(const struct past *past, struct slice key)
{
    if (!in_range(past, key) || !in_window(past, key)) return false;
    if (past->is_last && is_passed(past, key)) return false;
    return keydir_find(past->undo, key) == NULL;
}

static void add_absent(struct past *past, struct slice key)
{
    keydir_put(past->undo, key, (struct slice){0}, 0, 0, 0, (struct place){0}, NULL);
}

void past_note(struct past *past, struct slice key, const struct keydir_entry *before)
{
    if (!is_news(past, key)) return;
    if (before == NULL) {
        add_absent(past, key);
    } else {
        const struct keydir_info info = keydir_info(before);
        const struct slice value = info.is_inline ? info.inline_value
                                                  : slice_of(NULL, info.value_size);
        CHECK(info.revision <= past->revision);
        keydir_put(past->undo, key, value, info.is_compressed ? KEYDIR_COMPRESSED : 0,
                   info.revision, info.expiry_ms, info.place, NULL);
    }
    limit(past);
}

void past_note_effect(struct past *past, const struct effect *effect, uint64_t revision)
{
    uint64_t before = effect->previous_revision;
    if (revision <= past->revision || effect->kind > EFFECT_EXPIRE_AT) return;
    if (!is_news(past, effect->key)) return;
    /* An effect of the same entry is named by its place there alone. */
    if (before != 0 && revision_index(before) == 0) {
        before = revision_of(revision_index(revision), (uint32_t)before - 1);
    }
    const bool is_expired = effect->kind == EFFECT_DELETE &&
                            (effect->flags & EFFECT_FLAG_EXPIRED) != 0 && effect->expiry_ms != 0 &&
                            effect->expiry_ms <= past->stamp_ms;
    if (before == 0 || before > past->revision || is_expired) {
        add_absent(past, effect->key);
    } else {
        keydir_put(past->undo, effect->key, slice_of(NULL, UNKNOWN_SIZE), 0, before, 0,
                   (struct place){0}, NULL);
        past->wanting++;
        if (before > past->wanted_max) past->wanted_max = before;
    }
    limit(past);
}

bool past_wants(const struct past *past, struct slice key)
{
    const struct keydir_entry *found = keydir_find(past->undo, key);
    if (found == NULL) return false;
    const struct keydir_info info = keydir_info(found);
    return info.revision != 0 && info.place.file == 0;
}

static const struct keydir_entry *find_aside(const struct keydir *aside, struct slice key)
{
    return aside != NULL ? keydir_find(aside, key) : NULL;
}

/* The key was @put at revision @revision, and had the expiry @expiry_ms. */
static void settle(struct past *past, const struct keydir_info *put, uint64_t revision,
                   uint64_t expiry_ms)
{
    if (past_wants(past, put->key)) past->wanting--;
    const struct slice value = put->is_inline ? put->inline_value : slice_of(NULL, put->value_size);
    keydir_put(past->undo, put->key, value, put->is_compressed ? KEYDIR_COMPRESSED : 0, revision,
               expiry_ms, put->place, NULL);
}

/* A put older than the revision that is looked for: its value counts if that revision was a change of the expiry. */
static void offer_put(struct past *past, const struct hint_entry *entry, struct place place,
                      uint64_t revision)
{
    if (past->puts == NULL) past->puts = keydir_create(past->revision);
    const struct keydir_entry *former = keydir_find(past->puts, entry->key);
    /* What a newer file has is newer, and within a file what comes later. */
    if (former != NULL && keydir_info(former).place.file != place.file) return;
    const bool is_packed = (entry->flags & EFFECT_FLAG_LZ4) != 0;
    keydir_put(past->puts, entry->key, slice_of(entry->value.data, entry->value_size),
               is_packed ? KEYDIR_COMPRESSED : 0, entry->revision, 0, place, NULL);
    const struct keydir_entry *move = find_aside(past->moves, entry->key);
    if (move == NULL) return;
    const struct keydir_info put = keydir_info(keydir_find(past->puts, entry->key));
    settle(past, &put, revision, keydir_info(move).expiry_ms);
}

static void offer_move(struct past *past, const struct hint_entry *entry)
{
    if (past->moves == NULL) past->moves = keydir_create(past->revision);
    keydir_put(past->moves, entry->key, (struct slice){0}, 0, entry->revision, entry->expiry_ms,
               (struct place){0}, NULL);
    const struct keydir_entry *found = find_aside(past->puts, entry->key);
    if (found == NULL) return;
    const struct keydir_info put = keydir_info(found);
    settle(past, &put, entry->revision, entry->expiry_ms);
}

void past_offer(struct past *past, const struct hint_entry *entry, struct place place)
{
    const struct keydir_entry *found = NULL;
    if (entry->kind != EFFECT_PUT && entry->kind != EFFECT_EXPIRE_AT) return;
    found = keydir_find(past->undo, entry->key);
    if (found == NULL) return;
    const struct keydir_info info = keydir_info(found);
    if (info.revision == 0 || entry->revision > info.revision) return;
    const bool is_moved = find_aside(past->moves, entry->key) != NULL;
    if (info.place.file != 0 && !is_moved) return;
    if (entry->kind == EFFECT_EXPIRE_AT) {
        if (entry->revision == info.revision) offer_move(past, entry);
    } else if (entry->revision < info.revision) {
        offer_put(past, entry, place, info.revision);
    } else if (info.place.file == 0) {
        const bool is_packed = (entry->flags & EFFECT_FLAG_LZ4) != 0;
        past->wanting--;
        keydir_put(past->undo, entry->key, slice_of(entry->value.data, entry->value_size),
                   is_packed ? KEYDIR_COMPRESSED : 0, entry->revision, entry->expiry_ms, place,
                   NULL);
    }
}

void past_settle(struct past *past)
{
    keydir_destroy(past->puts);
    keydir_destroy(past->moves);
    past->puts = NULL;
    past->moves = NULL;
}

/* ---- the walk -------------------------------------------------------------------------------------- */

void past_begin(const struct past *past, const struct keydir *keys, struct past_walk *walk)
{
    const struct slice at = buf_slice(&past->at);
    *walk = (struct past_walk){0};
    if (!past->is_reverse) {
        walk->live = keydir_seek(keys, at, &walk->live_cursor);
        walk->undo = keydir_seek(past->undo, at, &walk->undo_cursor);
    } else if (!past->has_at || at.size > 0) {
        walk->live = keydir_seek_last(keys, at, &walk->live_cursor);
        walk->undo = keydir_seek_last(past->undo, at, &walk->undo_cursor);
    }
}

static const struct keydir_entry *follow(const struct past *past, struct keydir_cursor *cursor)
{
    return past->is_reverse ? keydir_previous(cursor) : keydir_next(cursor);
}

/* Takes what comes next of the two; what was undone counts for a key that has both. */
static const struct keydir_entry *take(const struct past *past, struct past_walk *walk)
{
    int order = 0; /* below 0: the undo map's comes first */
    if (walk->live == NULL) {
        order = -1;
    } else if (walk->undo == NULL) {
        order = 1;
    } else {
        order = slice_compare(keydir_info(walk->undo).key, keydir_info(walk->live).key);
        if (past->is_reverse) order = -order;
    }
    const struct keydir_entry *taken = order <= 0 ? walk->undo : walk->live;
    if (order <= 0) walk->undo = follow(past, &walk->undo_cursor);
    if (order >= 0) walk->live = follow(past, &walk->live_cursor);
    return taken;
}

enum past_step past_next(const struct past *past, struct past_walk *walk,
                         const struct keydir_entry **item)
{
    const bool has_edge = past->is_reverse ? slice_compare(buf_slice(&past->low), past->from) > 0
                                           : past->has_high;
    if (walk->live == NULL && walk->undo == NULL) return has_edge ? PAST_EDGE : PAST_END;
    const struct keydir_entry *taken = take(past, walk);
    const struct keydir_info info = keydir_info(taken);
    if (!in_window(past, info.key)) return has_edge ? PAST_EDGE : PAST_END;
    if (!in_range(past, info.key)) return has_edge ? PAST_EDGE : PAST_END;
    *item = taken;
    if (info.revision == 0) return PAST_SKIP;
    return info.expiry_ms != 0 && info.expiry_ms <= past->stamp_ms ? PAST_SKIP : PAST_KEY;
}

void past_pass(struct past *past, struct slice key)
{
    if (past->is_reverse) {
        set(&past->at, key);
        past->has_at = true;
    } else {
        set_behind(&past->at, key);
    }
}

void past_pass_window(struct past *past)
{
    set(&past->at, buf_slice(past->is_reverse ? &past->low : &past->high));
    past->has_at = past->is_reverse;
}

void past_narrow(struct past *past, struct slice from, struct slice to)
{
    drop_passed(past);
    past->from = from;
    past->to = to;
    past->is_last = false;
}

void past_rewind(struct past *past)
{
    set(&past->at, past->is_reverse ? past->to : past->from);
    past->has_at = past->is_reverse && past->to.size > 0;
}

bool past_is_outside(const struct past *past)
{
    const struct slice at = buf_slice(&past->at);
    const struct slice low = buf_slice(&past->low);
    const struct slice high = buf_slice(&past->high);
    if (!past->is_reverse) {
        return slice_compare(at, low) < 0 || (past->has_high && slice_compare(at, high) >= 0);
    }
    if (past->has_high && (!past->has_at || slice_compare(at, high) > 0)) return true;
    return past->has_at && slice_compare(low, past->from) > 0 && slice_compare(at, low) <= 0;
}

void past_restart(struct past *past)
{
    keydir_clear(past->undo);
    past_settle(past);
    past->wanting = 0;
    past->wanted_max = 0;
    past->has_high = false;
    if (past->is_reverse) {
        set(&past->low, past->from);
        past->has_high = past->has_at;
        if (past->has_at) set(&past->high, buf_slice(&past->at));
    } else {
        set(&past->low, buf_slice(&past->at));
    }
}

void past_check(const struct past *past)
{
    struct keydir_cursor cursor;
    uint64_t wanting = 0;
    const struct keydir_entry *entry = keydir_seek(past->undo, (struct slice){0}, &cursor);
    for (; entry != NULL; entry = keydir_next(&cursor)) {
        const struct keydir_info info = keydir_info(entry);
        CHECK(in_window(past, info.key));
        CHECK(in_range(past, info.key));
        CHECK(info.revision <= past->revision);
        wanting += info.revision != 0 && info.place.file == 0;
    }
    CHECK(wanting == past->wanting);
}
