#include "tests/sim/check_past.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/resp.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/compress.h"
#include "storage/keydir.h"
#include "storage/reserved.h"
#include "storage/store.h"
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

bool check_past_change_at(const struct check_past *past, uint64_t offset,
                          struct check_past_change *change)
{
    uint64_t size = 0;
    if (offset >= past->changes.size) return false;
    const uint8_t *at = past->changes.data + offset;
    const struct slice rest = slice_of(at + 16, past->changes.size - offset - 16);
    change->revision = get_u64(at);
    change->value = get_u64(at + 8);
    CHECK(effect_decode_trusted(rest, &change->effect, &size) == OK);
    change->size = 16 + size;
    return true;
}

const char *check_past_kind_of(const struct effect *effect)
{
    if (effect->kind == EFFECT_PUT) return "put";
    if (effect->kind == EFFECT_EXPIRE_AT) return "expire-change";
    if (effect->kind == EFFECT_FLUSH) return "flush";
    return (effect->flags & EFFECT_FLAG_EXPIRED) != 0 ? "expired" : "delete";
}

/* ---- questions ------------------------------------------------------------------------------------------ */

/* A revision that some range was told at, or one of the newest changes, also in the middle of a transaction. */
static uint64_t pick_revision(struct sim *sim)
{
    const struct check_past *past = &sim->past;
    const uint64_t recent = past->last < 300 ? past->last : 300;
    if (past->told_count > 0 && sim_chance(sim, 500)) {
        const uint32_t kept = past->told_count < CHECK_PAST_TOLD_MAX ? past->told_count
                                                                     : CHECK_PAST_TOLD_MAX;
        return past->told[sim_below(sim, kept)];
    }
    if (recent < 2) return 0;
    const uint64_t back = sim_below(sim, 1 + sim_below(sim, recent - 1)); /* more often a little */
    return revision_of(past->last - 1 - back, (uint32_t)sim_below(sim, 3));
}

static void ask_range(struct sim *sim, struct check_past_question *question, char words[128])
{
    static const struct {
        const char *from;
        const char *to;
    } ranges[] = {{"", ""}, {"b", "d"}, {"", "b"}, {"o", ""}};
    const uint64_t at = sim_chance(sim, 500) ? 0 : sim_below(sim, sizeof ranges / sizeof ranges[0]);
    question->from = ranges[at].from;
    question->to = ranges[at].to;
    question->is_reverse = sim_chance(sim, 300);
    if (sim_chance(sim, 300)) question->limit = 1 + sim_below(sim, 20);
    int size = snprintf(words, 128, "KV.RANGE %s %s%s", *question->from == 0 ? "?" : question->from,
                        *question->to == 0 ? "?" : question->to,
                        question->is_reverse ? " REVERSE" : "");
    if (question->limit != UINT64_MAX) {
        size += snprintf(words + size, 128 - (size_t)size, " LIMIT %" PRIu64, question->limit);
    }
    if (question->revision == 0) {
        (void)snprintf(words + size, 128 - (size_t)size, " REVISION");
    } else {
        (void)snprintf(words + size, 128 - (size_t)size, " AT %" PRIu64, question->revision);
    }
}

void check_past_ask(struct sim *sim, uint32_t node, const char *key,
                    struct check_past_question *question, char words[128])
{
    const uint64_t revision = pick_revision(sim);
    *question = (struct check_past_question){
        .limit = UINT64_MAX, .floor = sim->log.last, .node = node, .life = sim->nodes[node].life};
    (void)snprintf(question->key, sizeof question->key, "%s", key);
    if (sim_chance(sim, 400)) {
        question->revision = sim_chance(sim, 500) ? revision : 0;
        ask_range(sim, question, words);
    } else if (revision != 0 && sim_chance(sim, 500)) {
        question->kind = CHECK_PAST_KEY;
        question->revision = revision;
        (void)snprintf(words, 128, "KV.GET %s AT %" PRIu64, key, revision);
    } else {
        question->kind = CHECK_PAST_HISTORY;
        if (sim_chance(sim, 500)) question->limit = 1 + sim_below(sim, 5);
        const int size = snprintf(words, 128, "KV.HISTORY %s", key);
        if (question->limit == UINT64_MAX) return;
        (void)snprintf(words + size, 128 - (size_t)size, " COUNT %" PRIu64, question->limit);
    }
}

/* ---- ranges --------------------------------------------------------------------------------------------- */

/* The keys at @revision; a value is the hash of one. */
static struct keydir *model_at(const struct check_past *past, uint64_t revision)
{
    struct keydir *keys = keydir_create(1);
    struct check_past_change change;
    for (uint64_t at = 0; check_past_change_at(past, at, &change); at += change.size) {
        const struct effect *effect = &change.effect;
        if (change.revision > revision) break;
        if (effect->kind == EFFECT_PUT) {
            keydir_put(keys, effect->key, slice_of(past->changes.data + at + 8, 8), 0,
                       change.revision, effect->expiry_ms, (struct place){.file = 1}, NULL);
        } else if (effect->kind == EFFECT_DELETE) {
            (void)keydir_remove(keys, effect->key, NULL); /* The sweeper may come second. */
        } else if (effect->kind == EFFECT_FLUSH) {
            keydir_clear(keys);
        } else {
            (void)keydir_expire(keys, effect->key, change.revision, effect->expiry_ms);
        }
    }
    return keys;
}

static uint64_t stamp_of(const struct check_past *past, uint64_t revision)
{
    return get_u64(past->stamps.data + 8 * revision_index(revision));
}

static bool is_in_range(const struct check_past_question *question, struct slice key)
{
    if (reserved_key(key)) return false; /* Nobody sees those. */
    if (slice_compare(key, slice_text(question->from)) < 0) return false;
    return *question->to == 0 || slice_compare(key, slice_text(question->to)) < 0;
}

/* [key, value, revision] against one key of the model. */
static bool is_same(const struct resp_node *row, const struct keydir_info *info)
{
    return slice_equal(row[1].text, info->key) &&
           hash64(row[2].text.data, row[2].text.size) == get_u64(info->inline_value.data) &&
           (uint64_t)row[3].integer == info->revision;
}

/* Are all elements of @list arrays of @count? */
static bool is_table(const struct resp_node *list, uint64_t count)
{
    const struct resp_node *row = list + 1;
    if (list->kind != RESP_ARRAY) return false;
    for (uint64_t i = 0; i < list->count; i++, row += row->span) {
        if (row->kind != RESP_ARRAY || row->count != count) return false;
    }
    return true;
}

/* A list that ends with an error and nulls: what the range was is not kept any more. */
static bool is_broken_off(const struct resp_node *list)
{
    const struct resp_node *row = list + 1;
    uint32_t errors = 0;
    if (list->kind != RESP_ARRAY) return false;
    for (uint64_t i = 0; i < list->count; i++, row += row->span) {
        if (errors > 0 && row->kind != RESP_NULL) return false;
        errors += row->kind == RESP_ERROR;
    }
    return errors == 1;
}

static void check_range(struct sim *sim, const struct check_past_question *question,
                        uint64_t revision, const struct resp_node *list)
{
    struct keydir_cursor cursor;
    struct keydir *keys = model_at(&sim->past, revision);
    const uint64_t stamp_ms = stamp_of(&sim->past, revision);
    const bool is_reverse = question->is_reverse;
    const struct resp_node *row = list + 1;
    uint64_t found = 0;
    const struct keydir_entry *entry = is_reverse
                                           ? keydir_seek_last(keys, (struct slice){0}, &cursor)
                                           : keydir_seek(keys, (struct slice){0}, &cursor);
    for (; entry != NULL && found < question->limit && !sim->has_failed;
         entry = is_reverse ? keydir_previous(&cursor) : keydir_next(&cursor)) {
        const struct keydir_info info = keydir_info(entry);
        if (info.expiry_ms != 0 && info.expiry_ms <= stamp_ms) continue;
        if (!is_in_range(question, info.key)) continue;
        const bool is_there = found++ < list->count;
        if (is_there && is_same(row, &info)) {
            row += row->span;
            continue;
        }
        const struct slice key = is_there ? row[1].text : (struct slice){0};
        sim_fail(sim,
                 "a range at revision %" PRIu64 " of %" PRIu64 " keys: number %" PRIu64
                 " should be %.*s of %" PRIu64 " and is %.*s",
                 revision, (uint64_t)list->count, found, (int)info.key.size,
                 (const char *)info.key.data, info.revision, (int)key.size, (const char *)key.data);
    }
    if (found != list->count) {
        sim_fail(sim, "a range at revision %" PRIu64 " has %" PRIu64 " keys instead of %" PRIu64,
                 revision, (uint64_t)list->count, found);
    }
    keydir_destroy(keys);
}

static bool take_range(struct sim *sim, const struct check_past_question *question,
                       const struct resp_node *reply)
{
    struct check_past *past = &sim->past;
    uint64_t revision = question->revision;
    if (revision == 0) {
        if (reply->kind != RESP_ARRAY || reply->count != 2) return false;
        revision = (uint64_t)reply[1].integer;
        reply += 2;
        past->told[past->told_count++ % CHECK_PAST_TOLD_MAX] = revision;
        if (revision_index(revision) < question->floor && !sim->is_taken) {
            sim_fail(sim, "a range of now is of entry %" PRIu64 ": %" PRIu64 " was committed",
                     revision_index(revision), question->floor);
        }
    }
    if (is_broken_off(reply)) {
        sim->counts.ranges_gone++;
        return true;
    }
    if (!is_table(reply, 3)) return false;
    if (past->has_gap || revision_index(revision) > past->last) return true;
    sim->counts.ranges++;
    check_range(sim, question, revision, reply);
    return true;
}

/* ---- single keys ---------------------------------------------------------------------------------------- */

static bool concerns(const struct check_past_change *change, const char *key)
{
    return change->effect.kind == EFFECT_FLUSH || slice_equal(change->effect.key, slice_text(key));
}

/* nil, or [value, revision, milliseconds left] */
static bool take_key(struct sim *sim, const struct check_past_question *question,
                     const struct resp_node *reply)
{
    const struct check_past *past = &sim->past;
    const uint64_t revision = question->revision;
    struct check_past_change change;
    struct check_past_change state = {.revision = 0}; /* 0: it does not exist */
    const bool is_nil = reply->kind == RESP_NULL;
    if (!is_nil && (reply->kind != RESP_ARRAY || reply->count != 3)) return false;
    if (past->has_gap || revision_index(revision) > past->last) return true;
    for (uint64_t at = 0; check_past_change_at(past, at, &change); at += change.size) {
        const uint8_t kind = change.effect.kind;
        if (change.revision > revision) break;
        if (!concerns(&change, question->key)) continue;
        if (kind == EFFECT_DELETE || kind == EFFECT_FLUSH) state.revision = 0;
        if (kind == EFFECT_EXPIRE_AT && state.revision != 0) {
            state.revision = change.revision;
            state.effect.expiry_ms = change.effect.expiry_ms;
        }
        if (kind == EFFECT_PUT) state = change;
    }
    const uint64_t stamp_ms = stamp_of(past, revision);
    const uint64_t expiry_ms = state.effect.expiry_ms;
    if (expiry_ms != 0 && expiry_ms <= stamp_ms) state.revision = 0;
    const int64_t left = expiry_ms == 0 ? -1 : (int64_t)(expiry_ms - stamp_ms);
    const bool is_right = is_nil || state.revision == 0
                              ? is_nil && state.revision == 0
                              : hash64(reply[1].text.data, reply[1].text.size) == state.value &&
                                    (uint64_t)reply[2].integer == state.revision &&
                                    reply[3].integer == left;
    sim->counts.past_keys++;
    if (!is_right) {
        sim_fail(sim,
                 "%s at revision %" PRIu64 " is that of %" PRIu64 " with %" PRId64
                 " ms left: it should be that of %" PRIu64 " with %" PRId64,
                 question->key, revision, is_nil ? 0 : (uint64_t)reply[2].integer,
                 is_nil ? 0 : reply[3].integer, state.revision, left);
    }
    return true;
}

/* The index below which the asked node keeps nothing; 0: it is not the one that was asked any more. */
static uint64_t first_kept(const struct sim *sim, const struct check_past_question *question)
{
    const struct sim_node *node = &sim->nodes[question->node];
    if (node->core == NULL || core_store(node->core) == NULL) return 0;
    return node->life == question->life ? store_first_index(core_store(node->core)) : 0;
}

/* [revision, kind, value, expiry]. Of a key whose changes are not kept any more the present is told, as if it had been
 * put when it changed last. */
static bool is_row(const struct resp_node *row, const struct check_past_change *change,
                   uint64_t value, bool is_present)
{
    const struct effect *effect = &change->effect;
    const bool has_value = is_present || effect->kind == EFFECT_PUT;
    const int64_t expiry = effect->expiry_ms == 0 || effect->kind == EFFECT_DELETE
                               ? -1
                               : (int64_t)effect->expiry_ms;
    const char *kind = is_present ? "put" : check_past_kind_of(effect);
    if ((uint64_t)row[1].integer != change->revision || row[4].integer != expiry) return false;
    if (!slice_equal(row[2].text, slice_text(kind))) return false;
    if (!has_value) return row[3].kind == RESP_NULL;
    return row[3].kind == RESP_BULK && hash64(row[3].text.data, row[3].text.size) == value;
}

static void fail_history(struct sim *sim, const struct check_past_question *question,
                         uint64_t revision, const char *what)
{
    sim_fail(sim, "the history of %s by n%u: revision %" PRIu64 ".%" PRIu64 " %s", question->key,
             question->node + 1, revision >> 16, revision & 0xffff, what);
}

/* Walks the changes of the key from the newest to the oldest beside the rows. */
static void check_history(struct sim *sim, const struct check_past_question *question,
                          const struct resp_node *list, const struct buf *offsets)
{
    const uint64_t first = first_kept(sim, question);
    const struct resp_node *row = list + 1;
    uint64_t told = 0;
    struct check_past_change change;
    for (uint64_t at = offsets->size; at > 0 && told < question->limit; at -= 16) {
        const uint8_t *item = offsets->data + at - 16;
        CHECK(check_past_change_at(&sim->past, get_u64(item), &change));
        const uint64_t index = revision_index(change.revision);
        if (told < list->count && (uint64_t)row[1].integer == change.revision) {
            const bool is_gone = list->count == 1 && (first == 0 || index < first);
            if (!is_row(row, &change, get_u64(item + 8), false) &&
                !(is_gone && is_row(row, &change, get_u64(item + 8), true))) {
                fail_history(sim, question, change.revision, "is told otherwise than it was");
                return;
            }
            row += row->span;
            told++;
        } else if (told == 0 && list->count > 0 && index > question->floor) {
            continue; /* It came later. */
        } else if (told < list->count) {
            fail_history(sim, question, change.revision, "is left out");
            return;
        } else if (first != 0 && index >= first && (told > 0 || index <= question->floor)) {
            fail_history(sim, question, change.revision, "is left out, and it is kept");
            return;
        }
    }
    if (told != list->count) {
        fail_history(sim, question, (uint64_t)row[1].integer, "is none of its changes");
    }
}

static bool take_history(struct sim *sim, const struct check_past_question *question,
                         const struct resp_node *reply)
{
    const struct check_past *past = &sim->past;
    struct buf offsets = {0}; /* of each change: u64 offset, u64 hash of the value then */
    struct check_past_change change;
    uint64_t value = 0;
    if (!is_table(reply, 4)) return false;
    if (past->has_gap || sim->is_taken) return true;
    if (reply->count > 0 && revision_index((uint64_t)reply[2].integer) > past->last) return true;
    for (uint64_t at = 0; check_past_change_at(past, at, &change); at += change.size) {
        if (!concerns(&change, question->key)) continue;
        if (change.effect.kind == EFFECT_PUT) value = change.value;
        buf_u64(&offsets, at);
        buf_u64(&offsets, value);
    }
    sim->counts.histories += reply->count > 0;
    check_history(sim, question, reply, &offsets);
    buf_close(&offsets);
    return true;
}

bool check_past_reply(struct sim *sim, const struct check_past_question *question,
                      struct slice reply)
{
    struct resp_reply read = {0};
    bool fits = resp_read(&read, reply) == RESP_OK;
    if (fits && question->kind == CHECK_PAST_RANGE) fits = take_range(sim, question, read.nodes);
    if (fits && question->kind == CHECK_PAST_KEY) fits = take_key(sim, question, read.nodes);
    if (fits && question->kind == CHECK_PAST_HISTORY) {
        fits = take_history(sim, question, read.nodes);
    }
    resp_reply_close(&read);
    return fits;
}

void check_past_gone(struct sim *sim, const struct check_past_question *question, struct slice text)
{
    char line[256];
    (void)snprintf(line, sizeof line, "%.*s", (int)text.size, (const char *)text.data);
    const uint64_t oldest = strtoull(strrchr(line, ' ') + 1, NULL, 10);
    if (question->revision == 0 || oldest <= question->revision) {
        sim_fail(sim,
                 "revision %" PRIu64 " is refused, and the oldest one that is kept is %" PRIu64,
                 question->revision, oldest);
    }
    sim->counts.ranges_gone++;
}
