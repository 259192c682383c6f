#include "node/stream.h"

#include <inttypes.h>
#include <stdio.h>

#include "client/slot.h"
#include "node/cmd_face.h"
#include "node/cmd_key.h"
#include "node/glob.h"
#include "node/stream_parts.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/reserved.h"

#define OUT_PAUSE_SIZE (512u * KIB) /* bytes that wait for the client at which a stream pauses */
#define LOOK_AHEAD_MAX 256u         /* elements whose values are asked for at once */
#define GLOB_UNIT 256u /* steps of comparing a key with a pattern that count as a key */
#define RESTARTS_MAX 5u

enum stream_result stream_error(struct eval *eval, const char *text)
{
    eval->core->stats.errors_total++;
    eval_error(eval, text);
    return STREAM_DONE;
}

enum stream_result stream_compacted(struct stream *stream, struct eval *eval)
{
    char text[128];
    (void)snprintf(text, sizeof text,
                   "COMPACTED revision %" PRIu64 " is not kept any more: the oldest is %" PRIu64,
                   stream->revision, store_oldest_revision(eval->shard->store));
    return stream_error(eval, text);
}

/* ---- what is asked for --------------------------------------------------------------------------------- */

static bool parse_range(struct stream *stream, struct eval *eval)
{
    for (uint32_t i = 3; i < eval->count; i++) {
        const struct slice arg = eval->args[i];
        const bool has_more = i + 1 < eval->count;
        if (slice_equal_fold(arg, "limit") && has_more) {
            if (!eval_uint(eval, ++i, &stream->limit)) return false;
            if (stream->limit == 0) stream->limit = UINT64_MAX;
        } else if (slice_equal_fold(arg, "at") && has_more) {
            if (!eval_uint(eval, ++i, &stream->at)) return false;
            stream->has_at = true;
        } else if (slice_equal_fold(arg, "reverse")) {
            stream->is_reverse = true;
        } else if (slice_equal_fold(arg, "keys")) {
            stream->keys_only = true;
        } else if (slice_equal_fold(arg, "count")) {
            stream->count_only = true;
        } else if (slice_equal_fold(arg, "revision")) {
            stream->tells_revision = true;
        } else {
            eval_syntax_error(eval);
            return false;
        }
    }
    if (stream->count_only && stream->keys_only) {
        eval_syntax_error(eval);
        return false;
    }
    buf_append(&stream->from, eval->args[1].data, eval->args[1].size);
    buf_append(&stream->to, eval->args[2].data, eval->args[2].size);
    return true;
}

static bool parse_key(struct stream *stream, struct eval *eval)
{
    const struct slice key = eval->args[1];
    if (!eval_key_fits(eval, key)) return false;
    buf_append(&stream->from, key.data, key.size);
    buf_append(&stream->to, key.data, key.size);
    buf_u8(&stream->to, 0); /* The smallest key behind it. */
    if (eval->count == 2) return true;
    const bool is_history = stream->kind == STREAM_HISTORY;
    if (eval->count != 4 || !slice_equal_fold(eval->args[2], is_history ? "count" : "at")) {
        eval_syntax_error(eval);
        return false;
    }
    if (!eval_uint(eval, 3, is_history ? &stream->limit : &stream->at)) return false;
    if (stream->limit == 0) stream->limit = UINT64_MAX;
    stream->has_at = !is_history;
    return true;
}

/* CLUSTER COUNTKEYSINSLOT slot | GETKEYSINSLOT slot count */
static bool parse_slot(struct stream *stream, struct eval *eval)
{
    int64_t slot = 0;
    int64_t limit = 0;
    const bool has_limit = eval->count > 3;
    stream->kind = STREAM_KEYS;
    stream->keys_only = true;
    stream->is_every = true;
    stream->has_slot = true;
    stream->count_only = !has_limit;
    if (!slice_int64(eval->args[2], &slot) || (has_limit && !slice_int64(eval->args[3], &limit))) {
        eval_error(eval, "ERR value is not an integer or out of range");
        return false;
    }
    if (slot < 0 || slot >= SLOT_COUNT || limit < 0) {
        eval_error(eval, has_limit ? "ERR Invalid slot or number of keys" : "ERR Invalid slot");
        return false;
    }
    stream->slot = (uint32_t)slot;
    if (has_limit) stream->limit = (uint64_t)limit;
    return true;
}

static bool parse(struct stream *stream, struct eval *eval)
{
    const struct slice first = eval->args[1];
    if (eval->command->function == cmd_cluster) return parse_slot(stream, eval);
    if (eval->command->function == cmd_kv_range) return parse_range(stream, eval);
    if (eval->command->function == cmd_keys) {
        if (!eval_pattern_fits(eval, first)) return false;
        stream->kind = STREAM_KEYS;
        stream->keys_only = true;
        stream->is_every = first.size == 1 && first.data[0] == '*';
        buf_append(&stream->pattern, first.data, first.size);
        return true;
    }
    stream->kind = eval->command->function == cmd_kv_get ? STREAM_POINT : STREAM_HISTORY;
    return parse_key(stream, eval);
}

/* ---- waiting -------------------------------------------------------------------------------------------- */

static enum stream_result wait_for_state(struct stream *stream, struct eval *eval)
{
    struct core *core = eval->core;
    struct session *session = eval->session;
    const struct store *store = eval->shard->store;
    const bool is_local = core->config->reads == CONFIG_READS_LOCAL &&
                          !replica_installing(eval->shard->replica) &&
                          !recovery_quarantined(&eval->shard->recovery);
    if (session->forward_count > 0 || session->wait_count > 0) return STREAM_MORE;
    const enum readindex_state state = is_local ? READINDEX_OK
                                                : readindex_ready(core, &session->reads);
    if (state == READINDEX_WAITS) return STREAM_MORE;
    if (state == READINDEX_FAILED) {
        return stream_error(eval, "CLUSTERDOWN no leader is known, or this node lags: the command "
                                  "was not carried out, try again later");
    }
    const uint64_t newest = store_newest_revision(store);
    stream->revision = stream->has_at ? stream->at : newest;
    if (stream->revision > newest) {
        char text[128];
        (void)snprintf(text, sizeof text,
                       "ERR revision %" PRIu64 " lies ahead: the newest is %" PRIu64,
                       stream->revision, newest);
        return stream_error(eval, text);
    }
    stream->stage = stream->kind == STREAM_HISTORY ? STREAM_LOG : STREAM_OPEN;
    stream->next = store_applied_index(store);
    stream->since_ms = core->now_ms;
    return STREAM_AGAIN;
}

/* Is @parked the page before what @stream asks for? */
static bool goes_on(const struct stream *stream, const struct stream *parked)
{
    const struct past *past = &parked->view->past;
    const struct buf *from = stream->is_reverse ? &stream->to : &stream->from;
    const struct buf *end = stream->is_reverse ? &stream->from : &stream->to;
    const struct slice parked_end = stream->is_reverse ? past->from : past->to;
    if (parked->view->store == NULL || parked->view->state != STORE_PAST_READY) return false;
    return stream->has_at && stream->at == parked->revision &&
           stream->is_reverse == parked->is_reverse && stream->keys_only == parked->keys_only &&
           !stream->count_only && slice_equal(buf_slice(from), buf_slice(&past->at)) &&
           slice_equal(buf_slice(end), parked_end);
}

/* The view of the page before, if it is still there. */
static struct store_past *take_parked(struct stream *stream)
{
    struct core *core = stream->core;
    for (uint32_t i = 0; i < STREAM_PARKED_MAX; i++) {
        struct stream *parked = core->parked[i];
        if (parked == NULL || !goes_on(stream, parked)) continue;
        struct store_past *view = parked->view;
        past_narrow(&view->past, buf_slice(&stream->from), buf_slice(&stream->to));
        parked->view = NULL;
        core->parked[i] = NULL;
        stream_end(parked);
        return view;
    }
    return NULL;
}

/* A page ended at its limit: its view waits for the next one, in the place of the oldest if need be. */
static bool park(struct stream *stream)
{
    struct core *core = stream->core;
    uint32_t at = 0;
    const bool is_page = stream->kind == STREAM_RANGE && stream->view != NULL &&
                         !stream->count_only && stream->limit != UINT64_MAX &&
                         stream->count == stream->limit && stream->done == stream->count;
    if (!is_page || (!stream->has_at && !stream->tells_revision)) return false;
    if (stream->view->state != STORE_PAST_READY) return false;
    for (uint32_t i = 0; i < STREAM_PARKED_MAX && core->parked[at] != NULL; i++) {
        if (core->parked[i] == NULL || core->parked[i]->parked_ms < core->parked[at]->parked_ms) {
            at = i;
        }
    }
    stream_end(core->parked[at]);
    core->parked[at] = stream;
    core->stream_count--;
    stream->is_parked = true;
    stream->parked_ms = core->now_ms;
    return true;
}

void stream_tick(struct core *core, bool is_all)
{
    for (uint32_t i = 0; i < STREAM_PARKED_MAX; i++) {
        struct stream *parked = core->parked[i];
        if (parked == NULL) continue;
        const bool is_lost = parked->view->store == NULL;
        if (!is_all && !is_lost && core->now_ms - parked->parked_ms < STREAM_PARKED_MS) continue;
        core->parked[i] = NULL;
        stream_end(parked);
    }
}

static enum stream_result open_view(struct stream *stream, struct eval *eval)
{
    struct store *store = eval->shard->store;
    const uint64_t oldest = store_oldest_revision(store);
    if (stream->revision < oldest) return stream_compacted(stream, eval);
    const bool wants_values = !stream->keys_only && !stream->count_only;
    stream->view = take_parked(stream);
    if (stream->view == NULL) {
        stream->view = store_past_open(store, stream->revision, buf_slice(&stream->from),
                                       buf_slice(&stream->to), stream->is_reverse, wants_values);
    }
    if (stream->view == NULL) {
        stream_tick(eval->core, true);
        if (eval->core->now_ms - stream->since_ms < eval->core->config->park_ms) return STREAM_MORE;
        char text[128];
        (void)snprintf(text, sizeof text,
                       "TRYAGAIN %u ranges or old revisions are being read on this node, which is "
                       "the most it takes",
                       STORE_PASTS_MAX);
        return stream_error(eval, text);
    }
    const bool is_range = stream->kind == STREAM_RANGE;
    stream->stage = is_range ? STREAM_COUNT : STREAM_ELEMENTS;
    stream->view->past.is_last = !is_range || stream->count_only;
    return STREAM_AGAIN;
}

/* The elements that are missing of what the header says: the first one is the error, the others are null. */
static enum stream_result put_rest(struct stream *stream, struct eval *eval, int64_t *budget)
{
    struct session *session = eval->session;
    for (; stream->done < stream->count; stream->done++) {
        if (*budget <= 0 || session_end(session) - session->sent >= OUT_PAUSE_SIZE) {
            return STREAM_MORE;
        }
        resp_put_null(eval->out, eval->protocol);
        --*budget;
    }
    return STREAM_DONE;
}

/* Elements have left, and the others are gone. */
static enum stream_result break_off(struct stream *stream, struct eval *eval)
{
    core_log(eval->core, CONFIG_WARN,
             "client %s: the range at revision %" PRIu64
             " cannot be told to its end: what it needs is not kept any more (a slow client, or a "
             "flush)",
             eval->session->address, stream->revision);
    store_past_close(stream->view);
    stream->view = NULL;
    stream->is_blocked = false;
    stream->stage = STREAM_REST;
    (void)stream_compacted(stream, eval);
    stream->done++;
    return STREAM_AGAIN;
}

/* What is needed is gone, or cannot be read. */
static enum stream_result give_up(struct stream *stream, struct eval *eval, enum err err)
{
    if (stream->has_begun && err == ERR_NOT_FOUND) return break_off(stream, eval);
    if (stream->has_begun) {
        /* Another node can tell it: whoever asked is to go there. */
        core_log(eval->core, CONFIG_WARN,
                 "client %s: the range at revision %" PRIu64
                 " cannot be told to its end, the connection is closed: the disk does not give it",
                 eval->session->address, stream->revision);
        eval->session->closing = true;
        return STREAM_DONE;
    }
    if (err != ERR_NOT_FOUND) {
        return stream_error(eval, "ERR the value could not be read from the disk of this node: it "
                                  "is damaged; see the node's log");
    }
    if (stream->has_at && stream->revision >= store_oldest_revision(eval->shard->store)) {
        /* Such as the hint of an old file that was damaged: it is kept, but not to be found at the moment. */
        return stream_error(eval, "TRYAGAIN what tells this revision is being made anew on this "
                                  "node: ask again, or another node");
    }
    if (stream->has_at) return stream_compacted(stream, eval);
    if (stream->restarts++ == RESTARTS_MAX) {
        return stream_error(eval, "TRYAGAIN the keys changed too fast to be read at one revision");
    }
    store_past_close(stream->view);
    stream->view = NULL;
    stream->gathered.size = 0;
    stream->count = 0;
    stream->done = 0;
    stream->stage = STREAM_WAIT;
    return STREAM_AGAIN;
}

/* ---- the walk --------------------------------------------------------------------------------------------- */

/* Not before the first element is at hand: what fails until then is an ordinary error. */
static void put_header(struct stream *stream, struct eval *eval)
{
    if (stream->has_begun) return;
    stream->has_begun = true;
    if (stream->tells_revision) {
        resp_put_array(eval->out, 2);
        resp_put_int(eval->out, (int64_t)stream->revision);
    }
    if (stream->count_only) {
        resp_put_int(eval->out, (int64_t)stream->count);
    } else {
        resp_put_array(eval->out, stream->count);
    }
}

/* One element goes out. False: not now, its value is on its way. */
static enum err put_element(struct stream *stream, struct eval *eval,
                            const struct keydir_entry *entry, int64_t *budget)
{
    const struct keydir_info info = keydir_info(entry);
    struct slice value;
    if (stream->kind == STREAM_KEYS) {
        const struct slice pattern = buf_slice(&stream->pattern);
        uint64_t steps = 0;
        const bool fits = stream->is_every || glob_match_counting(pattern, info.key, &steps);
        *budget -= (int64_t)(steps / GLOB_UNIT);
        if (!fits) return OK;
        if (stream->has_slot && slot_of_key(info.key) != stream->slot) return OK;
        if (!stream->count_only) resp_put_bulk(&stream->gathered, info.key);
        stream->done++;
        return OK;
    }
    if (stream->keys_only) {
        put_header(stream, eval);
        resp_put_bulk(eval->out, info.key);
        stream->done++;
        return OK;
    }
    const enum err err = eval_entry_try(eval, entry, &value);
    if (err != OK) return err;
    *budget -= (int64_t)(value.size / KIB) + (info.is_inline ? 0 : 4);
    if (stream->kind == STREAM_RANGE) put_header(stream, eval);
    resp_put_array(eval->out, 3);
    if (stream->kind == STREAM_RANGE) resp_put_bulk(eval->out, info.key);
    eval_reply(eval, value);
    resp_put_int(eval->out, (int64_t)info.revision);
    if (stream->kind == STREAM_POINT) {
        const uint64_t now_ms = stream->view->past.stamp_ms;
        resp_put_int(eval->out, info.expiry_ms == 0 ? -1 : (int64_t)(info.expiry_ms - now_ms));
    }
    stream->done++;
    return OK;
}

/* Asks for the values of elements from @entry on, so that they are read together. */
static void ask_ahead(struct stream *stream, struct eval *eval, struct past_walk *walk,
                      int64_t *budget)
{
    const struct keydir_entry *entry = NULL;
    for (uint32_t i = 0; i < LOOK_AHEAD_MAX && !fetch_is_full(eval->session->fetch); i++) {
        const enum past_step step = past_next(&stream->view->past, walk, &entry);
        if (step == PAST_EDGE || step == PAST_END) return;
        --*budget;
        struct slice value;
        if (step == PAST_KEY && i < stream->count - stream->done &&
            !reserved_key(keydir_info(entry).key)) {
            (void)eval_entry_try(eval, entry, &value);
        }
    }
}

/* The value of the next element is not here. True: it was not asked for yet either, the next fetch may begin. @err:
 * ERR_TOO_BIG when the fetch holds so much already that it takes no more; this value is none of that. */
static bool begins_fetch(struct session *session, bool has_sent, enum err err)
{
    if (session->fetch == NULL || fetch_waits(session->fetch)) return false;
    if (err != ERR_TOO_BIG && (err != ERR_AGAIN || !has_sent)) return false;
    fetch_end(session->fetch); /* What it held was sent. */
    session->fetch = NULL;
    return true;
}

/* The elements of one window. DONE: no more elements. AGAIN: the window is over. MORE: the slice is, or a value is on
 * its way. */
static enum stream_result walk_window(struct stream *stream, struct eval *eval, int64_t *budget,
                                      enum err *err)
{
    struct past *past = &stream->view->past;
    struct session *session = eval->session;
    struct past_walk walk;
    bool has_sent = false;
    const struct keydir_entry *entry = NULL;
    past_begin(past, store_keys(eval->shard->store), &walk);
    while (--*budget >= 0) {
        const bool is_counting = stream->stage == STREAM_COUNT;
        if (!is_counting && session_end(session) - session->sent >= OUT_PAUSE_SIZE) break;
        if (stream->kind == STREAM_RANGE && !is_counting && stream->done == stream->count) {
            return STREAM_DONE;
        }
        if (stream->kind == STREAM_KEYS && stream->done == stream->limit) return STREAM_DONE;
        const enum past_step step = past_next(past, &walk, &entry);
        if (step == PAST_END) return STREAM_DONE;
        if (step == PAST_EDGE) {
            past_pass_window(past);
            return STREAM_AGAIN;
        }
        const struct slice key = keydir_info(entry).key;
        if (reserved_key(key)) {
            past_pass(past, key);
            continue;
        }
        if (step == PAST_KEY && is_counting) {
            past_pass(past, key);
            if (++stream->count == stream->limit) return STREAM_DONE;
            continue;
        }
        if (step == PAST_KEY) {
            *err = put_element(stream, eval, entry, budget);
            if (begins_fetch(session, has_sent, *err)) {
                *err = put_element(stream, eval, entry, budget);
            }
            if (*err == ERR_AGAIN) ask_ahead(stream, eval, &walk, budget);
            if (*err == ERR_CORRUPT && !store_past_keeps(stream->view, entry)) *err = ERR_NOT_FOUND;
            if (*err != OK) return STREAM_MORE;
            has_sent = true;
        }
        past_pass(past, key);
    }
    return STREAM_MORE;
}

/* A stage is over. */
static enum stream_result next_stage(struct stream *stream, struct eval *eval)
{
    if (stream->stage == STREAM_COUNT) {
        if (stream->count_only || stream->count == 0) {
            put_header(stream, eval);
            return STREAM_DONE;
        }
        stream->stage = STREAM_ELEMENTS;
        past_rewind(&stream->view->past);
        stream->view->past.is_last = true;
        return STREAM_AGAIN;
    }
    if (stream->kind == STREAM_KEYS && stream->count_only) {
        resp_put_int(eval->out, (int64_t)stream->done);
    } else if (stream->kind == STREAM_KEYS) {
        resp_put_array(eval->out, stream->done);
        buf_append(eval->out, stream->gathered.data, stream->gathered.size);
    } else if (stream->kind == STREAM_POINT) {
        if (stream->done == 0) resp_put_null_array(eval->out, eval->protocol);
    } else if (stream->done < stream->count) {
        core_log(eval->core, CONFIG_ERROR,
                 "a range at revision %" PRIu64 " had %" PRIu64 " keys, and %" PRIu64
                 " when it was sent",
                 stream->revision, stream->count, stream->done);
        eval->session->closing = true;
    }
    return STREAM_DONE;
}

static enum stream_result walk(struct stream *stream, struct eval *eval, int64_t *budget)
{
    enum err err = store_past_step(stream->view, budget);
    if (err == ERR_AGAIN) return STREAM_MORE;
    if (err != OK) return give_up(stream, eval, err);
    const enum stream_result result = walk_window(stream, eval, budget, &err);
    if (err != OK && err != ERR_AGAIN) return give_up(stream, eval, err);
    stream->is_blocked = err == ERR_AGAIN;
    if (stream->gathered.size > eval->shard->config->output_limit_size) {
        return stream_error(eval, "TOOBIG the reply would be longer than output-limit: use SCAN");
    }
    if (result == STREAM_DONE) return next_stage(stream, eval);
    return result;
}

/* ---- turns ------------------------------------------------------------------------------------------------- */

static struct stream *stream_begin(struct eval *eval)
{
    struct stream *stream = mem_zero(sizeof *stream);
    stream->core = eval->core;
    stream->limit = UINT64_MAX;
    stream->count = 0;
    eval->core->stream_count++;
    if (parse(stream, eval)) return stream;
    eval->core->stats.errors_total++;
    stream_end(stream);
    return NULL;
}

void stream_end(struct stream *stream)
{
    if (stream == NULL) return;
    struct store *store = stream->core->shard.store;
    if (!stream->is_parked) stream->core->stream_count--;
    store_past_close(stream->view);
    /* What was asked of a store that was closed is gone with it. */
    const bool is_same = stream->epoch == stream->core->shard.fetches.epoch;
    store_records_close(is_same ? store : NULL, &stream->records);
    buf_close(&stream->from);
    buf_close(&stream->to);
    buf_close(&stream->pattern);
    buf_close(&stream->gathered);
    mem_free(stream);
}

static bool is_waiting(const struct stream *stream, const struct session *session)
{
    if (stream->stage == STREAM_WAIT || stream->stage == STREAM_OPEN) return true;
    if (stream->view != NULL && store_past_waits(stream->view)) return true;
    if (store_records_waits(&stream->records) || fetch_waits(session->fetch)) return true;
    if (stream->is_blocked) return true;
    return session_end(session) - session->sent >= OUT_PAUSE_SIZE;
}

static enum stream_result slice(struct stream *stream, struct eval *eval, int64_t *budget)
{
    enum stream_result result = STREAM_AGAIN;
    while (result == STREAM_AGAIN && *budget > 0) {
        switch (stream->stage) {
        case STREAM_WAIT: result = wait_for_state(stream, eval); break;
        case STREAM_OPEN: result = open_view(stream, eval); break;
        case STREAM_COUNT:
        case STREAM_ELEMENTS: result = walk(stream, eval, budget); break;
        case STREAM_REST: result = put_rest(stream, eval, budget); break;
        case STREAM_LOG: result = stream_history(stream, eval, budget); break;
        }
    }
    return result;
}

bool stream_run(struct core *core, struct session *session, const struct command *command,
                const struct slice *args, uint32_t count)
{
    struct shard *shard = &core->shard;
    struct eval eval = {.core = core,
                        .shard = shard,
                        .session = session,
                        .command = command,
                        .args = args,
                        .count = count,
                        .out = &session->out,
                        .protocol = session->protocol,
                        .is_local = true,
                        .now_ms = shard->clock_ms,
                        .gone_ms = shard->clock_ms};
    if (session->forward_count > 0) return false; /* First what is still elsewhere. */
    if (session->stream == NULL) session->stream = stream_begin(&eval);
    struct stream *stream = session->stream;
    if (stream == NULL) {
        session_add_wait(session, (struct session_wait){0});
        return true;
    }
    shard->value_left = UINT64_MAX; /* It has a budget of its own. */
    int64_t budget = STREAM_TURN_UNITS / core->stream_count;
    if (budget < STREAM_SLICE_MIN) budget = STREAM_SLICE_MIN;
    if (budget > shard->stream_left) budget = shard->stream_left;
    const int64_t given = budget;
    const uint64_t before = session_end(session);
    const enum stream_result result = slice(stream, &eval, &budget);
    shard->stream_left -= given - budget;
    if (session_end(session) != before || result == STREAM_DONE) {
        session_add_wait(session, (struct session_wait){0});
    }
    if (result == STREAM_DONE) shard->read_count++;
    if (result == STREAM_DONE && !session->closing && park(stream)) session->stream = NULL;
    if (result != STREAM_DONE && !is_waiting(stream, session)) core->more = true;
    return result == STREAM_DONE;
}
