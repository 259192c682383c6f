#include "node/mender.h"

#include "node/core_parts.h"
#include "storage/base/check.h"
#include "storage/compress.h"

#define RETRY_MS 1000u
#define HELD_MS 20u /* before it is looked again whether what is on its way has left */
#define GIVE_QUEUE_MAX (4u * MIB) /* in a peer's queue, before more is given to it */

void mender_close(struct mender *mender)
{
    mender_void(mender);
    for (uint32_t i = 0; i < mender->ask_count; i++) buf_close(&mender->asks[i].key);
    mender->ask_count = 0;
}

void mender_void(struct mender *mender)
{
    /* Closing the store waited for the read. */
    if (mender->is_reading) store_read_close(&mender->read);
    mender->is_reading = false;
}

/* ---- asking ------------------------------------------------------------------------------------------ */

static bool ask(struct shard *shard, struct mend_want *want, uint32_t place, uint64_t now_ms)
{
    struct buf body = {0};
    struct peer *peer = &shard->peers->list[place];
    buf_u64(&body, want->revision);
    buf_sized(&body, buf_slice(&want->key));
    const bool is_sent = peer_send(shard->peers, peer, WIRE_VALUE_WANT, buf_slice(&body));
    buf_close(&body);
    if (!is_sent) return false;
    want->asked_last = place;
    want->asked_ms = now_ms;
    return true;
}

/* Asks the next node that has not said no. */
static void ask_next(struct shard *shard, struct mend_want *want, uint64_t now_ms)
{
    const uint32_t count = shard->peers->count;
    bool is_open = count == 0;
    uint32_t connected = 0;
    for (uint32_t i = 1; i <= count; i++) {
        const uint32_t place = (want->asked_last + i) % count;
        if (!shard->peers->list[place].is_connected) continue;
        connected++;
        if ((want->none_mask >> place & 1u) != 0) continue;
        is_open = true;
        if (ask(shard, want, place, now_ms)) return;
    }
    /* All that are there were asked; the file is tried again later, perhaps with others. */
    if (count == 0 || (connected > 0 && !is_open)) want->state = MEND_NOWHERE;
}

static void ask_all(struct shard *shard, uint64_t now_ms)
{
    struct mend *mend = store_mend(shard->store);
    for (uint32_t i = 0; i < mend->count; i++) {
        struct mend_want *want = &mend->wants[i];
        if (want->state != MEND_OPEN) continue;
        const bool is_asked = want->asked_ms > 0 && (want->none_mask >> want->asked_last & 1u) == 0;
        /* While pieces of a large value come, who is asked has much to send. */
        const uint64_t piece_ms = shard->mender.piece_ms;
        const uint64_t heard_ms = piece_ms > want->asked_ms ? piece_ms : want->asked_ms;
        if (is_asked && now_ms - heard_ms < RETRY_MS) continue;
        ask_next(shard, want, now_ms);
    }
}

static enum err take(struct shard *shard, uint64_t from, struct slice body)
{
    struct reader reader = reader_of(body);
    const uint64_t revision = reader_u64(&reader);
    const uint8_t is_here = reader_u8(&reader);
    const uint8_t is_packed = reader_u8(&reader);
    const uint32_t zeros = reader_u32(&reader) | reader_u16(&reader);
    const struct slice key = reader_sized(&reader);
    const struct slice stored = reader_sized(&reader);
    if (reader.bad || reader.at != reader.end || zeros != 0) return ERR_CORRUPT;
    if (is_here > 1 || is_packed > 1) return ERR_CORRUPT;
    if (is_packed == 1 && !compress_valid(stored)) return ERR_CORRUPT;
    const struct peer *peer = peers_find(shard->peers, from);
    struct mend *mend = store_mend(shard->store);
    struct mend_want *want = mend_find(mend, key, revision);
    if (peer == NULL || want == NULL || want->state != MEND_OPEN) return OK;
    if (is_here == 0) {
        want->none_mask |= 1u << (peer - shard->peers->list);
        return OK;
    }
    mend_give(mend, want, stored, is_packed == 1);
    shard->mender.taken_total++;
    return OK;
}

/* ---- giving ------------------------------------------------------------------------------------------ */

static enum err note(struct shard *shard, uint64_t from, struct slice body)
{
    struct mender *mender = &shard->mender;
    struct reader reader = reader_of(body);
    const uint64_t revision = reader_u64(&reader);
    const struct slice key = reader_sized(&reader);
    if (reader.bad || reader.at != reader.end) return ERR_CORRUPT;
    if (key.size == 0 || key.size > KEY_SIZE_MAX) return ERR_CORRUPT;
    for (uint32_t i = 0; i < mender->ask_count; i++) {
        const struct mender_ask *other = &mender->asks[i];
        if (other->from != from || other->revision != revision) continue;
        if (slice_equal(buf_slice(&other->key), key)) return OK; /* It is asked again. */
    }
    if (mender->ask_count == MENDER_ASKS_MAX) return OK;
    struct mender_ask *one = &mender->asks[mender->ask_count++];
    *one = (struct mender_ask){.from = from, .revision = revision};
    buf_append(&one->key, key.data, key.size);
    return OK;
}

/* Answers the oldest question. */
static void give(struct shard *shard, bool is_here, bool is_packed, struct slice stored)
{
    struct mender *mender = &shard->mender;
    struct mender_ask *one = &mender->asks[0];
    struct peer *peer = peers_find(shard->peers, one->from);
    struct buf body = {0};
    buf_u64(&body, one->revision);
    buf_u8(&body, is_here ? 1 : 0);
    buf_u8(&body, is_packed ? 1 : 0);
    buf_u16(&body, 0);
    buf_u32(&body, 0);
    buf_sized(&body, buf_slice(&one->key));
    buf_sized(&body, stored);
    bool is_sent = false;
    if (peer != NULL) {
        is_sent = peer_send(shard->peers, peer, WIRE_VALUE_GIVE, buf_slice(&body));
    }
    buf_close(&body);
    buf_close(&one->key);
    mender->ask_count--;
    memmove(one, one + 1, mender->ask_count * sizeof *one);
    mender->given_total += is_here && is_sent ? 1 : 0;
}

/* Has the node that asked so much on its way to it that another answer would be lost or wait for long? */
static bool is_busy(struct shard *shard, const struct mender_ask *one)
{
    struct peer *peer = peers_find(shard->peers, one->from);
    if (peer == NULL || !peer->is_connected) return false;
    return peer_queued(peer) > GIVE_QUEUE_MAX || peer_is_sending_big(peer, WIRE_VALUE_GIVE);
}

/* The oldest question that may be answered now becomes the first one. False: there is none. */
static bool choose(struct shard *shard)
{
    struct mender *mender = &shard->mender;
    for (uint32_t i = 0; i < mender->ask_count; i++) {
        if (is_busy(shard, &mender->asks[i])) continue;
        const struct mender_ask one = mender->asks[i];
        memmove(&mender->asks[1], &mender->asks[0], i * sizeof one);
        mender->asks[0] = one;
        return true;
    }
    mender->is_held = true;
    return false;
}

/* True: a question is answered. */
static bool answer(struct shard *shard)
{
    struct mender *mender = &shard->mender;
    const struct mender_ask *one = &mender->asks[0];
    struct slice stored = {0};
    if (mender->is_reading) {
        if (!mender->read.is_done) return false;
        if (is_busy(shard, one)) {
            mender->is_held = true;
            return false;
        }
        const enum err err = store_read_value(&mender->read, &stored);
        give(shard, err == OK, mender->read.is_compressed, stored);
        store_read_close(&mender->read);
        mender->is_reading = false;
        return true;
    }
    if (!choose(shard)) return false;
    const struct keydir_entry *entry = keydir_find(store_keys(shard->store), buf_slice(&one->key));
    if (entry == NULL || keydir_info(entry).revision != one->revision) {
        give(shard, false, false, stored);
        return true;
    }
    const enum err err = store_value_now(shard->store, entry, &stored);
    if (err == ERR_AGAIN) {
        store_read_begin(shard->store, entry, &mender->read);
        mender->is_reading = true;
        return false;
    }
    give(shard, err == OK, keydir_info(entry).is_compressed, stored);
    return true;
}

/* ---- all together ------------------------------------------------------------------------------------ */

enum err mender_receive(struct shard *shard, const struct wire_frame *frame)
{
    if (frame->type == WIRE_VALUE_WANT) return note(shard, frame->from, frame->body);
    return take(shard, frame->from, frame->body);
}

void mender_note_piece(struct mender *mender, uint64_t now_ms)
{
    mender->piece_ms = now_ms;
}

void mender_turn(struct shard *shard, uint64_t now_ms)
{
    uint64_t budget = 64;
    shard->mender.is_held = false;
    ask_all(shard, now_ms);
    while (shard->mender.ask_count > 0 && budget > 0 && answer(shard)) budget--;
}

uint64_t mender_deadline(const struct shard *shard)
{
    const struct mender *mender = &shard->mender;
    if (mender->ask_count > 0 && (!mender->is_reading || mender->read.is_done)) {
        return shard->core->now_ms + (mender->is_held ? HELD_MS : 1);
    }
    return UINT64_MAX;
}
