#include "node/feed.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/core_parts.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"

#define WAY_STEPS_MAX                                                                              \
    64u /* changes of the expiry between a value and what became of it that are read one by one */
#define ROW_ITEMS 6u
#define STEPS_PER_UNIT 16 /* effects that are passed over on the way to one, as one that is told */

/* A large value that is unpacked over several turns. */
struct unpacking {
    uint64_t revision; /* whose; 0: none */
    bool is_done;
    struct compress_undo undo;
};

struct feed {
    struct list all;  /* In feeds.all. */
    struct list busy; /* In feeds.busy while it is behind. */
    struct list own;  /* In push.watches. */
    struct push *push;
    uint64_t id;
    bool is_prefix;
    bool is_key;
    struct buf from;
    struct buf to;
    bool has_previous;
    uint64_t progress_ms;
    uint64_t spoke_ms; /* Last message. */
    /* Where it is. */
    uint64_t told;     /* Changes up to this revision are told, or of no interest. */
    uint64_t next;     /* Entry to look at next, */
    uint64_t position; /* in it, as in effect_walk; */
    uint32_t ordinal;  /* of the next effect; 0: the entry was not begun. */
    struct store_records records;
    struct store_records before; /* For values before changes. */
    bool is_reader;              /* Counted in feeds.readers. */
    /* The message that is being made: the events of one command so far. */
    struct buf rows;
    uint32_t row_count;
    uint64_t row_revision;     /* of the last of them */
    struct unpacking value;    /* For the next row, */
    struct unpacking previous; /* and the value before. */
    /* The way back from a change to the put before it, over changes of the expiry, each of which may have to be read
     * in the background: how far it was gone. */
    uint64_t way_from; /* revision of the change */
    uint64_t way_at;   /* revision to look at next; 0: there is none */
    uint32_t way_steps;
    /* A value before whose entry is not kept any more: the key as it was, from where it lies now. */
    struct store_past *view;
    struct buf view_from; /* the key, */
    struct buf view_to;   /* and the next one */
    struct fetch *fetch;
    /* Where the message's first event is, as position and ordinal: there it begins anew after it had to give up what
     * there was of it. */
    uint64_t row_position;
    uint32_t row_ordinal;
    bool is_maker;    /* Counted in feeds.makers. */
    bool wants_maker; /* The message is long, and as many as may be were in the making. */
};

/* What came of a slice. */
enum outcome {
    OUTCOME_IDLE,  /* There is nothing more to tell. */
    OUTCOME_MORE,  /* The slice is over. */
    OUTCOME_WAITS, /* For the disk or the client. */
    OUTCOME_OVER,  /* The feed is gone. */
};

void feeds_init(struct feeds *feeds)
{
    list_init(&feeds->all);
    list_init(&feeds->busy);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

uint64_t feed_oldest(const struct core *core)
{
    const uint64_t first = store_first_index(core->shard.store);
    return first <= 1 ? 0 : revision_of(first, 0) - 1;
}

/* The entry with the first change behind @revision. The first entry of all has number 1. */
static uint64_t entry_behind(uint64_t revision)
{
    const uint64_t index = revision_index(revision + 1);
    return index > 0 ? index : 1;
}

uint64_t feed_open(struct core *core, struct push *push, const struct feed_want *want)
{
    struct feed *feed = mem_zero(sizeof *feed);
    CHECK(push->watch_count < FEED_SESSION_MAX);
    list_init(&feed->all);
    list_init(&feed->busy);
    list_init(&feed->own);
    feed->push = push;
    feed->id = ++push->last_watch;
    feed->is_prefix = want->is_prefix;
    feed->is_key = want->is_key;
    buf_append(&feed->from, want->from.data, want->from.size);
    buf_append(&feed->to, want->to.data, want->to.size);
    feed->has_previous = want->has_previous;
    feed->progress_ms = want->progress_ms;
    feed->spoke_ms = core->now_ms;
    feed->told = want->revision;
    feed->next = entry_behind(want->revision);
    if (feed->next == 0) feed->next = 1; /* There is no entry 0. */
    list_append(&core->feeds.all, &feed->all);
    list_append(&core->feeds.busy, &feed->busy);
    list_append(&push->watches, &feed->own);
    core->feeds.count++;
    push->watch_count++;
    core->more = true;
    return feed->id;
}

static void set_reader(struct core *core, struct feed *feed, bool is_reader)
{
    if (feed->is_reader == is_reader) return;
    feed->is_reader = is_reader;
    if (is_reader) {
        core->feeds.readers++;
    } else {
        core->feeds.readers--;
        store_records_close(core->shard.store, &feed->records);
        store_records_close(core->shard.store, &feed->before);
    }
}

static void forget(struct unpacking *unpacking)
{
    buf_close(&unpacking->undo.out);
    *unpacking = (struct unpacking){0};
}

static void close_view(struct feed *feed)
{
    if (feed->view != NULL) store_past_close(feed->view);
    feed->view = NULL;
    fetch_end(feed->fetch);
    feed->fetch = NULL;
    feed->view_from.size = 0;
    feed->view_to.size = 0;
}

/* Long messages that are not whole yet are what takes memory: a few at a time. False: not now. */
static bool become_maker(struct core *core, struct feed *feed)
{
    if (feed->is_maker) return true;
    feed->wants_maker = core->feeds.makers >= FEED_MAKERS_MAX;
    if (feed->wants_maker) return false;
    feed->is_maker = true;
    core->feeds.makers++;
    return true;
}

static void stop_making(struct core *core, struct feed *feed)
{
    if (!feed->is_maker) return;
    feed->is_maker = false;
    core->feeds.makers--;
    core->more = true; /* Another may. */
}

/* Forgets what there is of a message; it is made anew from its first event. */
static void begin_anew(struct core *core, struct feed *feed)
{
    if (feed->row_count > 0) {
        feed->position = feed->row_position;
        feed->ordinal = feed->row_ordinal;
    }
    feed->row_count = 0;
    buf_close(&feed->rows);
    close_view(feed);
    forget(&feed->value);
    forget(&feed->previous);
    stop_making(core, feed);
}

static void feed_free(struct core *core, struct feed *feed)
{
    close_view(feed);
    buf_close(&feed->view_from);
    buf_close(&feed->view_to);
    forget(&feed->value);
    forget(&feed->previous);
    set_reader(core, feed, false);
    stop_making(core, feed);
    list_remove(&feed->all);
    list_remove(&feed->busy);
    list_remove(&feed->own);
    core->feeds.count--;
    feed->push->watch_count--;
    buf_close(&feed->from);
    buf_close(&feed->to);
    buf_close(&feed->rows);
    mem_free(feed);
}

bool feed_close(struct core *core, struct push *push, uint64_t id)
{
    for (struct list *at = push->watches.next; at != &push->watches; at = at->next) {
        struct feed *feed = LIST_ITEM(at, struct feed, own);
        if (feed->id != id) continue;
        feed_free(core, feed);
        return true;
    }
    return false;
}

void feed_drop_all(struct core *core, struct push *push)
{
    while (!list_empty(&push->watches)) {
        feed_free(core, LIST_ITEM(push->watches.next, struct feed, own));
    }
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

static struct buf *begin(struct core *core, const struct feed *feed, uint32_t items,
                         const char *name)
{
    struct buf *out = push_begin(core, feed->push);
    resp_put_push(out, items, feed->push->session->protocol);
    resp_put_text(out, name);
    resp_put_int(out, (int64_t)feed->id);
    return out;
}

static void end(struct core *core, struct feed *feed)
{
    push_end(core, feed->push);
    feed->spoke_ms = core->now_ms;
}

static enum outcome close_with(struct core *core, struct feed *feed, const char *code,
                               const char *text, uint64_t oldest)
{
    struct buf *out = begin(core, feed, 5, "kv.closed");
    resp_put_text(out, code);
    resp_put_text(out, text);
    resp_put_int(out, (int64_t)oldest);
    end(core, feed);
    feed_free(core, feed);
    return OUTCOME_OVER;
}

static enum outcome close_compacted(struct core *core, struct feed *feed)
{
    char text[128];
    const uint64_t oldest = feed_oldest(core);
    (void)snprintf(text, sizeof text,
                   "revision %" PRIu64 " is not kept any more: the oldest is %" PRIu64, feed->told,
                   oldest);
    core->feeds.compacted++;
    return close_with(core, feed, "COMPACTED", text, oldest);
}

static void tell_rows(struct core *core, struct feed *feed)
{
    struct buf *out = begin(core, feed, 4, "kv.watch");
    resp_put_int(out, (int64_t)feed->row_revision);
    resp_put_array(out, feed->row_count);
    buf_append(out, feed->rows.data, feed->rows.size);
    end(core, feed);
    core->feeds.messages++;
    core->feeds.effects += feed->row_count;
    feed->told = feed->row_revision;
    feed->row_count = 0;
    feed->rows.size = 0;
    buf_trim(&feed->rows, 64 * KIB);
    stop_making(core, feed);
}

/* ---- events ------------------------------------------------------------------------------------------------ */

static bool is_wanted(const struct feed *feed, const struct effect *effect)
{
    const struct slice key = effect->key;
    const struct slice from = buf_slice(&feed->from);
    if (!effect_is_change(effect->kind)) return false;
    if (effect->kind == EFFECT_FLUSH) return true;
    if (effect_is_internal(effect)) return false;
    if (feed->is_key) return slice_equal(key, from);
    if (feed->is_prefix) {
        return key.size >= from.size && slice_equal(slice_of(key.data, from.size), from);
    }
    if (slice_compare(key, from) < 0) return false;
    return feed->to.size == 0 || slice_compare(key, buf_slice(&feed->to)) < 0;
}

/* The value of the put @effect, which is @revision, unpacked; borrowed until the next one. ERR_MORE: it is large, go on
 * in the next slice. */
static enum err value_of(struct core *core, struct unpacking *unpacking,
                         const struct effect *effect, uint64_t revision, struct slice *value,
                         int64_t *budget)
{
    struct shard *shard = &core->shard;
    struct compress_undo *undo = &unpacking->undo;
    *value = effect->value;
    if ((effect->flags & EFFECT_FLAG_LZ4) == 0) return OK;
    if (compress_raw_size(effect->value) <= FETCH_UNPACK_NOW_MAX) {
        shard->unpacked.size = 0;
        const enum err err = compress_unpack(effect->value, &shard->unpacked);
        *value = buf_slice(&shard->unpacked);
        return err;
    }
    if (unpacking->revision != revision) forget(unpacking);
    unpacking->revision = revision;
    if (!unpacking->is_done) {
        *budget -= (int64_t)(FETCH_SLICE_SIZE / KIB);
        const enum err err = compress_undo_step(undo, effect->value, FETCH_SLICE_SIZE);
        if (err != OK) return err;
        unpacking->is_done = true;
    }
    *value = slice_of(undo->out.data + undo->base, undo->out.size - undo->base);
    return OK;
}

/* The value of the only key of the view. ERR_NOT_FOUND: it was not there. */
static enum err value_in_view(struct core *core, struct feed *feed, struct slice *value)
{
    struct shard *shard = &core->shard;
    struct past_walk walk;
    const struct keydir_entry *entry = NULL;
    enum past_step step = PAST_SKIP;
    past_begin(&feed->view->past, store_keys(shard->store), &walk);
    while (step == PAST_SKIP) step = past_next(&feed->view->past, &walk, &entry);
    if (step != PAST_KEY) return ERR_NOT_FOUND;
    const struct keydir_info info = keydir_info(entry);
    if (info.is_inline && !info.is_compressed) {
        *value = info.inline_value;
        return OK;
    }
    if (info.is_inline) {
        shard->unpacked.size = 0;
        const enum err err = compress_unpack(info.inline_value, &shard->unpacked);
        *value = buf_slice(&shard->unpacked);
        return err;
    }
    const enum err err = fetch_value(&shard->fetches, &feed->fetch, shard->store, entry,
                                     VALUE_SIZE_MAX + KIB, value);
    return err == ERR_CORRUPT && !store_past_keeps(feed->view, entry) ? ERR_NOT_FOUND : err;
}

/* What @key was before @revision, although the entry that made it so is not in the log any more. */
static enum err previous_in_files(struct core *core, struct feed *feed, struct slice key,
                                  uint64_t revision, struct slice *value, int64_t *budget)
{
    struct store *store = core->shard.store;
    if (feed->view == NULL) {
        if (revision - 1 < store_oldest_revision(store)) return ERR_NOT_FOUND;
        buf_append(&feed->view_from, key.data, key.size);
        buf_append(&feed->view_to, key.data, key.size);
        buf_u8(&feed->view_to, 0);
        feed->view = store_past_open(store, revision - 1, buf_slice(&feed->view_from),
                                     buf_slice(&feed->view_to), false, true);
        if (feed->view == NULL) {
            close_view(feed);
            return ERR_AGAIN; /* There are too many at this moment. */
        }
    }
    if (fetch_waits(feed->fetch)) return ERR_AGAIN;
    enum err err = store_past_step(feed->view, budget);
    if (err == ERR_AGAIN && !store_past_waits(feed->view)) return ERR_MORE;
    if (err == OK) err = value_in_view(core, feed, value);
    return err;
}

/* The revision that an effect of @revision names as the one before: small numbers are places in its own entry. */
static uint64_t revision_before(const struct effect *effect, uint64_t revision)
{
    const uint64_t previous = effect->previous_revision;
    if (previous == 0 || previous > BATCH_EFFECTS_MAX) return previous;
    return revision_of(revision_index(revision), (uint32_t)previous - 1);
}

/* The entry @index for previous_of(). */
static enum err read_before(struct core *core, struct feed *feed, uint64_t index,
                            struct record *record)
{
    struct store *store = core->shard.store;
    struct place place;
    if (!store_records_near(store, index)) {
        if (!feed->is_reader && core->feeds.readers >= FEED_READERS_MAX) return ERR_AGAIN;
        set_reader(core, feed, true);
        core->feeds.disk_reads++;
    }
    const enum err err = store_records_read(store, &feed->before, index, index, record, &place);
    return err == OK && record->type != RECORD_COMMAND ? ERR_CORRUPT : err;
}

/* What the key held before: the put that the effect names, or that the change of the expiry names which it names.
 * ERR_NOT_FOUND: nothing, or it is not kept any more. ERR_AGAIN: it is being read. */
static enum err previous_of(struct core *core, struct feed *feed, struct slice payload,
                            const struct effect *effect, uint64_t revision, struct slice *value,
                            int64_t *budget)
{
    if (effect->kind == EFFECT_FLUSH) return ERR_NOT_FOUND;
    if (feed->way_from != revision) {
        feed->way_from = revision;
        feed->way_at = revision_before(effect, revision);
        feed->way_steps = 0;
    }
    while (feed->way_at != 0) {
        struct effect before;
        struct record record = {.payload = payload, .type = RECORD_COMMAND};
        const uint64_t at = feed->way_at;
        const uint64_t index = revision_index(at);
        enum err err = OK;
        if (index < store_first_index(core->shard.store) || feed->way_steps == WAY_STEPS_MAX) {
            return previous_in_files(core, feed, effect->key, revision, value, budget);
        }
        if (index != revision_index(revision)) err = read_before(core, feed, index, &record);
        uint64_t steps = 0;
        if (err == OK) {
            err = places_effect(&core->feeds.places, index, record.payload, (uint32_t)(at & 0xffff),
                                &before, &steps);
        }
        *budget -= 1 + (int64_t)(steps / STEPS_PER_UNIT);
        if (err != OK) return err;
        if (before.kind == EFFECT_PUT) {
            return value_of(core, &feed->previous, &before, at, value, budget);
        }
        if (before.kind != EFFECT_EXPIRE_AT) break;
        feed->way_at = revision_before(&before, at);
        feed->way_steps++;
    }
    return ERR_NOT_FOUND;
}

/* One row of the message. ERR_AGAIN, ERR_MORE: not now, nothing happened. */
static enum err put_row(struct core *core, struct feed *feed, struct slice payload,
                        const struct effect *effect, uint64_t revision, int64_t *budget)
{
    struct buf *rows = &feed->rows;
    const int protocol = feed->push->session->protocol;
    const uint64_t begin_size = rows->size;
    struct slice value = {0};
    enum err err = OK;
    if (feed->has_previous) {
        /* Before anything is copied: it may have to be waited for. */
        err = previous_of(core, feed, payload, effect, revision, &value, budget);
        if (err != OK && err != ERR_NOT_FOUND) return err;
        err = OK;
    }
    resp_put_array(rows, ROW_ITEMS);
    resp_put_text(rows, effect_word(effect));
    if (effect->kind == EFFECT_FLUSH) {
        resp_put_null(rows, protocol);
    } else {
        resp_put_bulk(rows, effect->key);
    }
    if (effect->kind == EFFECT_PUT) {
        err = value_of(core, &feed->value, effect, revision, &value, budget);
        if (err == OK) resp_put_bulk(rows, value);
    } else {
        resp_put_null(rows, protocol);
    }
    resp_put_int(rows, (int64_t)revision);
    if (err == OK && feed->has_previous) {
        err = previous_of(core, feed, payload, effect, revision, &value, budget);
        if (err == OK) resp_put_bulk(rows, value);
    }
    if (err == ERR_NOT_FOUND || !feed->has_previous) resp_put_null(rows, protocol);
    if (err != OK && err != ERR_NOT_FOUND) {
        rows->size = begin_size;
        return err;
    }
    const bool has_expiry = effect->kind == EFFECT_PUT || effect->kind == EFFECT_EXPIRE_AT;
    resp_put_int(rows, has_expiry && effect->expiry_ms != 0 ? (int64_t)effect->expiry_ms : -1);
    close_view(feed);
    if (feed->value.revision != 0) forget(&feed->value);
    if (feed->previous.revision != 0) forget(&feed->previous);
    if (feed->row_count++ == 0) {
        feed->row_position = feed->position;
        feed->row_ordinal = feed->ordinal;
    }
    feed->row_revision = revision;
    *budget -= (int64_t)((rows->size - begin_size) / KIB);
    return OK;
}

static bool is_client_full(const struct feed *feed)
{
    const struct session *session = feed->push->session;
    return session->closing || session->stream != NULL || feed->push->held.size > 0 ||
           session_end(session) - session->sent >= FEED_PAUSE_SIZE;
}

static bool is_too_big(const struct core *core, const struct feed *feed)
{
    const struct config *config = core->config;
    return feed->rows.size >
           config->output_limit_size + config->max_value_size - 2ull * FEED_PAUSE_SIZE;
}

/* Goes on in the entry @record. OK: it is done. ERR_MORE: the slice is over, or the client has enough. ERR_TOO_BIG: a
 * message would be longer than one may be. */
static enum err tell_entry(struct core *core, struct feed *feed, const struct record *record,
                           int64_t *budget)
{
    struct effect_walk walk;
    struct effect effect;
    enum err err = OK;
    effect_walk_open(&walk, record->payload);
    if (feed->ordinal > 0) {
        walk.position = feed->position;
        walk.ordinal = feed->ordinal - 1;
    }
    for (;;) {
        feed->position = walk.position;
        feed->ordinal = walk.ordinal + 1;
        err = effect_walk_next(&walk, &effect);
        if (err == ERR_NOT_FOUND) break;
        if (err != OK) return err;
        if (feed->row_count > 0 && (effect.flags & EFFECT_FLAG_JOINED) == 0) {
            tell_rows(core, feed);
            if (is_client_full(feed)) return ERR_MORE;
        }
        if (--*budget < 0) return ERR_MORE;
        const uint64_t revision = revision_of(record->index, walk.ordinal);
        if (revision <= feed->told || !is_wanted(feed, &effect)) continue;
        err = put_row(core, feed, record->payload, &effect, revision, budget);
        if (err != OK) return err;
        if (is_too_big(core, feed)) return ERR_TOO_BIG;
    }
    if (feed->row_count > 0) tell_rows(core, feed);
    return OK;
}

/* ---- turns ------------------------------------------------------------------------------------------------- */

static enum outcome fail(struct core *core, struct feed *feed, enum err err)
{
    if (err == ERR_NOT_FOUND) return close_compacted(core, feed);
    if (err == ERR_TOO_BIG) {
        return close_with(core, feed, "TOOBIG",
                          "a transaction has more changes than output-limit lets one message hold",
                          feed->told);
    }
    return close_with(core, feed, "ERR",
                      "the log could not be read from the disk of this node: it is damaged; go on "
                      "at another node",
                      feed->told);
}

/* The entry that is next. ERR_AGAIN: it is being read, or others read already. */
static enum err read_next(struct core *core, struct feed *feed, struct record *record)
{
    struct store *store = core->shard.store;
    struct place place;
    if (!store_records_near(store, feed->next) && !feed->is_reader) {
        if (feed->next < store_first_index(store)) return ERR_NOT_FOUND;
        if (core->feeds.readers >= FEED_READERS_MAX) return ERR_AGAIN;
        set_reader(core, feed, true);
    }
    if (feed->is_reader) core->feeds.disk_reads++;
    return store_records_read(store, &feed->records, feed->next, store_applied_index(store), record,
                              &place);
}

/* The slice is over. False: the message was begun and is too long to be kept as well. */
static bool may_hold(struct core *core, struct feed *feed)
{
    if (feed->rows.size <= FEED_HALF_SIZE || become_maker(core, feed)) return true;
    begin_anew(core, feed);
    set_reader(core, feed, false); /* Others need it in order to become whole. */
    return false;
}

static enum outcome run(struct core *core, struct feed *feed, int64_t *budget)
{
    const uint64_t applied = store_applied_index(core->shard.store);
    while (feed->next <= applied) {
        struct record record;
        if (is_client_full(feed)) {
            /* Its memory is for those who go on. */
            close_view(feed);
            if (feed->is_maker) begin_anew(core, feed);
            if (!store_records_waits(&feed->records)) set_reader(core, feed, false);
            return OUTCOME_WAITS;
        }
        if (feed->wants_maker && !become_maker(core, feed)) return OUTCOME_WAITS;
        if (*budget <= 0) return OUTCOME_MORE;
        enum err err = read_next(core, feed, &record);
        if (err == OK && record.type == RECORD_COMMAND) {
            err = tell_entry(core, feed, &record, budget);
        }
        if ((err == ERR_AGAIN || err == ERR_MORE) && !may_hold(core, feed)) return OUTCOME_WAITS;
        if (err == ERR_AGAIN) return OUTCOME_WAITS;
        if (err == ERR_MORE) continue;
        if (err != OK) return fail(core, feed, err);
        --*budget;
        const uint64_t end_revision = revision_of(feed->next, BATCH_EFFECTS_MAX);
        if (end_revision > feed->told) feed->told = end_revision;
        feed->next++;
        feed->ordinal = 0;
        stop_making(core, feed);
    }
    set_reader(core, feed, false);
    return OUTCOME_IDLE;
}

void feeds_turn(struct core *core)
{
    struct feeds *feeds = &core->feeds;
    const uint64_t applied = store_applied_index(core->shard.store);
    int64_t budget = FEED_TURN_UNITS;
    uint32_t count = 0;
    if (applied != feeds->seen) {
        feeds->seen = applied;
        for (struct list *at = feeds->all.next; at != &feeds->all; at = at->next) {
            struct feed *feed = LIST_ITEM(at, struct feed, all);
            if (list_empty(&feed->busy)) list_append(&feeds->busy, &feed->busy);
        }
    }
    for (const struct list *at = feeds->busy.next; at != &feeds->busy; at = at->next) count++;
    for (; count > 0 && budget > 0; count--) {
        struct feed *feed = LIST_ITEM(feeds->busy.next, struct feed, busy);
        list_remove(&feed->busy);
        const enum outcome outcome = run(core, feed, &budget);
        if (outcome == OUTCOME_IDLE || outcome == OUTCOME_OVER) continue;
        /* What is half made is finished first, in the next turn. */
        const bool is_first = outcome == OUTCOME_MORE && feed->is_maker;
        list_append(is_first ? feeds->busy.next : &feeds->busy, &feed->busy);
        if (outcome == OUTCOME_MORE) core->more = true;
    }
    if (count > 0) core->more = true;
}

void feeds_tick(struct core *core)
{
    const struct list *all = &core->feeds.all;
    for (struct list *at = all->next; at != all; at = at->next) {
        struct feed *feed = LIST_ITEM(at, struct feed, all);
        if (feed->progress_ms == 0 || core->now_ms - feed->spoke_ms < feed->progress_ms) continue;
        if (is_client_full(feed)) continue;
        struct buf *out = begin(core, feed, 3, "kv.progress");
        resp_put_int(out, (int64_t)feed->told);
        end(core, feed);
    }
}
