/* stream_history.c - KV.HISTORY: what became of one key, read from the log, backwards. */
#include <inttypes.h>

#include "node/stream_parts.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/compress.h"

#define UNIT_SIZE (16u * KIB)

/* A row: revision, what it was, the value or nil, when it expires (milliseconds since the epoch) or -1. */
static void put_row(struct eval *eval, struct buf *out, uint64_t revision, const char *kind,
                    const struct slice *value, uint64_t expiry_ms)
{
    resp_put_array(out, 4);
    resp_put_int(out, (int64_t)revision);
    resp_put_text(out, kind);
    if (value != NULL) {
        resp_put_bulk(out, *value);
    } else {
        resp_put_null(out, eval->protocol);
    }
    resp_put_int(out, expiry_ms == 0 ? -1 : (int64_t)expiry_ms);
}

static bool is_too_long(const struct stream *stream, const struct eval *eval)
{
    return stream->gathered.size > eval->shard->config->output_limit_size;
}

static enum err put_effect(struct eval *eval, struct buf *out, const struct effect *effect,
                           uint64_t revision)
{
    struct shard *shard = eval->shard;
    struct slice value = effect->value;
    const bool is_put = effect->kind == EFFECT_PUT;
    if (is_put && (effect->flags & EFFECT_FLAG_LZ4) != 0) {
        shard->unpacked.size = 0;
        if (compress_unpack(effect->value, &shard->unpacked) != OK) return ERR_CORRUPT;
        value = buf_slice(&shard->unpacked);
    }
    const uint64_t expiry_ms = effect->kind == EFFECT_DELETE ? 0 : effect->expiry_ms;
    put_row(eval, out, revision, effect_word(effect), is_put ? &value : NULL, expiry_ms);
    return OK;
}

/* A change of the key in an entry, as struct effect_walk counts. */
struct change_at {
    uint64_t position;
    uint32_t ordinal;
};

/* Where the entry changes the key, the oldest first, but for what was told before. */
static enum err find_changes(const struct stream *stream, struct slice payload, struct buf *places)
{
    struct effect_walk walk;
    struct effect effect;
    enum err err = OK;
    effect_walk_open(&walk, payload);
    for (;;) {
        struct change_at at = {.position = walk.position};
        err = effect_walk_next(&walk, &effect);
        if (err != OK || (stream->has_below && walk.ordinal >= stream->below)) break;
        at.ordinal = walk.ordinal;
        if (!effect_is_change(effect.kind)) continue;
        const bool is_key = effect.kind == EFFECT_FLUSH ||
                            slice_equal(effect.key, buf_slice(&stream->from));
        if (is_key) buf_append(places, &at, sizeof at);
    }
    return err == OK || err == ERR_NOT_FOUND ? OK : ERR_CORRUPT;
}

/* The rows of one entry, the newest first: one may change a key thousands of times. @previous: what the oldest of them
 * says the key had before; UINT64_MAX when there is none. ERR_MORE: the budget is used up. */
static enum err entry_rows(struct stream *stream, struct eval *eval, const struct record *record,
                           uint64_t *previous, int64_t *budget)
{
    struct buf places = {0};
    enum err err = find_changes(stream, record->payload, &places);
    *previous = UINT64_MAX;
    for (uint64_t left = places.size / sizeof(struct change_at); err == OK && left > 0; left--) {
        struct change_at at;
        struct effect_walk walk;
        struct effect effect;
        if (stream->done == stream->limit || is_too_long(stream, eval)) break;
        if (*budget <= 0) {
            err = ERR_MORE;
            break;
        }
        memcpy(&at, places.data + (left - 1) * sizeof at, sizeof at);
        effect_walk_open(&walk, record->payload);
        walk.position = at.position;
        walk.ordinal = at.ordinal - 1;
        const uint64_t size = stream->gathered.size;
        err = effect_walk_next(&walk, &effect);
        if (err == OK) {
            err = put_effect(eval, &stream->gathered, &effect,
                             revision_of(record->index, at.ordinal));
        }
        if (err != OK) break;
        stream->done++;
        stream->below = at.ordinal;
        stream->has_below = true;
        *previous = effect.kind == EFFECT_FLUSH ? 0 : effect.previous_revision;
        *budget -= 1 + (int64_t)((stream->gathered.size - size) / KIB);
    }
    buf_close(&places);
    if (err != ERR_MORE) stream->has_below = false;
    return err;
}

/* What the present says: where the newest change is, or, when that is not kept any more, what it was. */
static enum err look_at_present(struct stream *stream, struct eval *eval)
{
    struct store *store = eval->shard->store;
    const struct keydir_entry *entry = keydir_find(store_keys(store), buf_slice(&stream->from));
    struct slice value;
    if (entry == NULL) return OK;
    const struct keydir_info info = keydir_info(entry);
    if (revision_index(info.revision) >= store_first_index(store)) {
        if (revision_index(info.revision) < stream->next) {
            stream->next = revision_index(info.revision);
        }
        return OK;
    }
    const enum err err = eval_entry_try(eval, entry, &value);
    if (err != OK) return err;
    put_row(eval, &stream->gathered, info.revision, "put", &value, info.expiry_ms);
    stream->done++;
    stream->next = 0;
    return OK;
}

static enum stream_result finish(struct stream *stream, struct eval *eval)
{
    resp_put_array(eval->out, stream->done);
    buf_append(eval->out, stream->gathered.data, stream->gathered.size);
    return STREAM_DONE;
}

static enum stream_result fail(struct eval *eval)
{
    return stream_error(eval, "ERR the history could not be read from the disk of this node: it is "
                              "damaged; see the node's log");
}

enum stream_result stream_history(struct stream *stream, struct eval *eval, int64_t *budget)
{
    struct store *store = eval->shard->store;
    if (stream->epoch != eval->shard->fetches.epoch) {
        stream->epoch = eval->shard->fetches.epoch;
        stream->records = (struct store_records){0};
        stream->gathered.size = 0;
        stream->done = 0;
        stream->next = store_applied_index(store);
        stream->is_log_opened = false;
        stream->has_below = false;
    }
    if (!stream->is_log_opened) {
        const enum err err = look_at_present(stream, eval);
        if (err == ERR_AGAIN) return STREAM_MORE;
        if (err != OK) return fail(eval);
        stream->is_log_opened = true;
    }
    while (*budget > 0) {
        struct record record;
        struct place place;
        uint64_t previous = UINT64_MAX;
        const uint64_t first = store_first_index(store);
        if (stream->done >= stream->limit || stream->next < first) return finish(stream, eval);
        enum err err = store_records_read(store, &stream->records, stream->next, first, &record,
                                          &place);
        if (err == ERR_AGAIN) return STREAM_MORE;
        if (err == ERR_NOT_FOUND) return finish(stream, eval); /* Retention was faster. */
        if (err == OK && record.type == RECORD_COMMAND) {
            err = entry_rows(stream, eval, &record, &previous, budget);
            *budget -= record.payload.size > 0 ? (int64_t)get_u32(record.payload.data) : 0;
        }
        if (err == ERR_MORE) return STREAM_MORE;
        if (err != OK) return fail(eval);
        *budget -= 1 + (int64_t)(record.payload.size / UNIT_SIZE);
        if (is_too_long(stream, eval)) {
            return stream_error(eval, "TOOBIG the reply would be longer than output-limit: ask "
                                      "with COUNT");
        }
        const bool has_jump = previous != UINT64_MAX && revision_index(previous) > 0;
        stream->next = has_jump ? revision_index(previous) : stream->next - 1;
    }
    return STREAM_MORE;
}
