/* check_feed.c - holds what feeds tell against the committed log. See sim_feed.h. */
#include <inttypes.h>
#include <string.h>

#include "storage/base/hash.h"
#include "storage/effect.h"
#include "tests/sim/sim.h"

static bool is_in_range(const struct sim_feed_client *client, const struct effect *effect)
{
    if (effect->kind == EFFECT_FLUSH) return true;
    if (effect_is_internal(effect)) return false;
    if (slice_compare(effect->key, slice_text(client->from)) < 0) return false;
    return client->to[0] == 0 || slice_compare(effect->key, slice_text(client->to)) < 0;
}

/* The next change of the range behind the position; @client->offset is there then. */
static bool seek(const struct sim *sim, struct sim_feed_client *client,
                 struct check_past_change *change)
{
    while (check_past_change_at(&sim->past, client->offset, change)) {
        if (change->revision > client->position && is_in_range(client, &change->effect)) {
            return true;
        }
        client->offset += change->size;
    }
    return false;
}

/* What is known of the log ends before: nothing can be said. */
static bool is_unknown(const struct sim *sim, uint64_t revision)
{
    return sim->past.has_gap && revision_index(revision) > sim->past.last;
}

/* The hash of what the key held before @change, if there was anything. */
static bool before(const struct sim *sim, const struct check_past_change *change, uint64_t *value)
{
    struct check_past_change other = {.revision = 0};
    uint64_t wanted = change->effect.previous_revision;
    uint64_t index = revision_index(change->revision);
    while (wanted != 0) {
        if (wanted <= 65535) {
            wanted = revision_of(index, (uint32_t)wanted - 1);
        }
        index = revision_index(wanted);
        uint64_t offset = 0;
        while (check_past_change_at(&sim->past, offset, &other) && other.revision < wanted)
            offset += other.size;
        if (other.revision != wanted) return false;
        *value = other.value;
        if (other.effect.kind == EFFECT_PUT) return true;
        if (other.effect.kind != EFFECT_EXPIRE_AT) return false;
        wanted = other.effect.previous_revision;
    }
    return false;
}

/* A value before that was told is the one that the log names. None may be told when it is not kept any more. */
static bool previous_fits(struct sim *sim, const struct resp_node *told,
                          const struct check_past_change *change)
{
    uint64_t value = 0;
    if (told->kind == RESP_NULL) return true;
    if (change->effect.kind == EFFECT_FLUSH || change->effect.previous_revision == 0) return false;
    if (prng_below(&sim->feeds.prng, 4) != 0) return true; /* It takes long to look up. */
    sim->feeds.previous++;
    return before(sim, change, &value) && hash64(told->text.data, told->text.size) == value;
}

/* [kind, key, value, revision, previous, expiry] */
static bool fits(const struct resp_node *row, const struct check_past_change *change)
{
    const struct effect *effect = &change->effect;
    const bool has_key = effect->kind != EFFECT_FLUSH;
    const bool is_put = effect->kind == EFFECT_PUT;
    const int64_t expiry = effect->expiry_ms == 0 || effect->kind == EFFECT_DELETE
                               ? -1
                               : (int64_t)effect->expiry_ms;
    if (row->kind != RESP_ARRAY || row->count != 6) return false;
    if (!slice_equal(row[1].text, slice_text(check_past_kind_of(effect)))) return false;
    if (has_key ? !slice_equal(row[2].text, effect->key) : row[2].kind != RESP_NULL) return false;
    if (is_put && hash64(row[3].text.data, row[3].text.size) != change->value) return false;
    if (!is_put && row[3].kind != RESP_NULL) return false;
    return row[4].integer == (int64_t)change->revision && row[6].integer == expiry;
}

static void fail(struct sim *sim, const struct sim_feed_client *client, uint64_t revision,
                 const char *what, uint64_t expected)
{
    sim_fail(sim,
             "a feed of n%u at %" PRIu64 ".%" PRIu64 ", message %" PRIu64 ".%" PRIu64
             ": %s (the log: %" PRIu64 ".%" PRIu64 ")",
             client->node + 1, client->position >> 16, client->position & 0xffff, revision >> 16,
             revision & 0xffff, what, expected >> 16, expected & 0xffff);
}

void check_feed_events(struct sim *sim, struct sim_feed_client *client, uint64_t revision,
                       const struct resp_node *rows)
{
    struct check_past_change change;
    const struct resp_node *row = rows + 1;
    if (revision <= client->position) {
        fail(sim, client, revision, "it was told before", 0);
        return;
    }
    if (is_unknown(sim, revision)) {
        client->position = revision;
        return;
    }
    for (uint64_t i = 0; i < rows->count; i++) {
        const bool is_there = seek(sim, client, &change);
        if (!is_there || !fits(row, &change)) {
            fail(sim, client, revision, "another change comes next",
                 is_there ? change.revision : 0);
            return;
        }
        if (!previous_fits(sim, &row[5], &change)) {
            fail(sim, client, revision, "another value was there before", change.revision);
            return;
        }
        client->position = change.revision;
        client->offset += change.size;
        row += row->span;
        /* The rest of what the command did, if it is of interest, must be in this message. */
        struct check_past_change next;
        uint64_t offset = client->offset;
        bool is_more = false;
        while (check_past_change_at(&sim->past, offset, &next) &&
               (next.effect.flags & EFFECT_FLAG_JOINED) != 0 && !is_more) {
            is_more = is_in_range(client, &next.effect);
            offset += next.size;
        }
        if (is_more != (i + 1 < rows->count)) {
            fail(sim, client, revision, "it is not what one command did", change.revision);
            return;
        }
    }
    if (rows->count == 0 || client->position != revision) {
        fail(sim, client, revision, "its revision is not that of its last change",
             client->position);
    }
}

void check_feed_mark(struct sim *sim, struct sim_feed_client *client, uint64_t revision)
{
    struct check_past_change change;
    if (revision < client->position) {
        fail(sim, client, revision, "a mark goes back", 0);
        return;
    }
    if (!is_unknown(sim, revision)) {
        if (revision_index(revision) > sim->past.last) {
            fail(sim, client, revision, "a mark is ahead of what is committed", 0);
        }
        if (seek(sim, client, &change) && change.revision <= revision) {
            fail(sim, client, revision, "a mark passes a change that was not told",
                 change.revision);
        }
    }
    client->position = revision;
}
