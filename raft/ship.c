#include "raft/ship.h"

#include "storage/base/hash.h"

#define WANT_SIZE 24u
#define CHUNK_HEADER_SIZE 24u

STATIC_CHECK(SHIP_CHUNK_SIZE + CHUNK_HEADER_SIZE + WIRE_HEADER_SIZE <= PEER_WHOLE_SIZE_MAX,
             "a chunk travels whole");

/* ---- receiving ----------------------------------------------------------------------------------- */

void ship_begin(struct ship_in *in, uint64_t source, uint64_t retry_ms, uint64_t give_up_ms,
                uint64_t now_ms)
{
    CHECK(source != 0);
    CHECK(retry_ms > 0);
    *in = (struct ship_in){
        .is_active = true,
        .source = source,
        .asked = source,
        .progress_ms = now_ms,
        .retry_ms = retry_ms,
        .give_up_ms = give_up_ms,
    };
}

static void ask(struct ship_in *in, struct peers *peers, uint64_t file_id, uint64_t offset,
                uint64_t end, uint64_t now_ms)
{
    struct peer *peer = peers_find(peers, in->asked);
    uint8_t body[WANT_SIZE];
    CHECK(end > offset);
    CHECK(end - offset <= SHIP_WINDOW_SIZE);
    put_u64(body, file_id);
    put_u64(body + 8, offset);
    put_u32(body + 16, (uint32_t)(end - offset));
    put_u32(body + 20, 0);
    in->file_id = file_id;
    in->asked_end = end;
    in->asked_ms = now_ms;
    if (peer != NULL) (void)peer_send(peers, peer, WIRE_SHIP_WANT, slice_of(body, sizeof body));
}

enum ship_state ship_turn(struct ship_in *in, struct store *store, struct peers *peers,
                          uint64_t leader, uint64_t now_ms)
{
    uint64_t file_id = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    if (!in->is_active) return SHIP_IDLE;
    if (store_install_turn(store) != OK) in->is_lost = true;
    if (in->is_lost) return SHIP_LOST;
    if (store_install_busy(store) || store_install_full(store)) {
        /* Our own disk holds things up, not the source. */
        in->progress_ms = now_ms;
        return SHIP_BUSY;
    }
    if (!store_install_want(store, &file_id, &offset, &size)) return SHIP_COMPLETE;
    if (now_ms >= in->progress_ms + in->give_up_ms) return SHIP_LOST;

    CHECK(size > 0);
    const uint64_t file_end = offset + size;
    const uint64_t window_end = offset + (size < SHIP_WINDOW_SIZE ? size : SHIP_WINDOW_SIZE);
    const bool is_new = in->file_id != file_id || in->asked_end <= offset;
    if (is_new) {
        ask(in, peers, file_id, offset, window_end, now_ms);
    } else if (now_ms >= in->asked_ms + in->retry_ms && now_ms >= in->progress_ms + in->retry_ms) {
        /* The source may have fallen, and who leads now may hold the same files. */
        const bool is_silent = now_ms >= in->progress_ms + 4 * in->retry_ms;
        if (is_silent && leader != 0) in->asked = in->asked == leader ? in->source : leader;
        ask(in, peers, file_id, offset, window_end, now_ms);
    } else if (in->asked_end - offset <= SHIP_WINDOW_SIZE / 2 && in->asked_end < file_end) {
        ask(in, peers, file_id, in->asked_end, window_end, now_ms);
    }
    return SHIP_BUSY;
}

enum err ship_chunk(struct ship_in *in, struct store *store, struct slice body, uint64_t now_ms)
{
    struct reader reader = reader_of(body);
    uint64_t wanted_id = 0;
    uint64_t wanted_offset = 0;
    uint64_t wanted_size = 0;
    const uint64_t file_id = reader_u64(&reader);
    const uint64_t offset = reader_u64(&reader);
    const uint64_t checksum = reader_u64(&reader);
    if (reader.bad || reader.at == reader.end) return ERR_CORRUPT;
    const struct slice data = slice_of(reader.at, (uint64_t)(reader.end - reader.at));
    if (data.size > SHIP_CHUNK_SIZE || hash64(data.data, data.size) != checksum) return ERR_CORRUPT;
    if (!in->is_active) return ERR_AGAIN;
    if (!store_install_want(store, &wanted_id, &wanted_offset, &wanted_size)) return ERR_AGAIN;
    /* Chunks come twice after a retry, and late ones of another install: only the next one
     * counts. */
    if (file_id != wanted_id || offset != wanted_offset) return ERR_AGAIN;
    if (data.size > wanted_size) return ERR_CORRUPT;
    const enum err err = store_install_chunk(store, file_id, offset, data);
    if (err != OK) {
        in->is_lost = true;
        return ERR_AGAIN;
    }
    in->progress_ms = now_ms;
    return OK;
}

enum err ship_none(struct ship_in *in, uint64_t from, struct slice body)
{
    struct reader reader = reader_of(body);
    const uint64_t file_id = reader_u64(&reader);
    (void)reader_u64(&reader);
    if (reader.bad || reader.at != reader.end) return ERR_CORRUPT;
    if (!in->is_active || file_id != in->file_id) return ERR_AGAIN;
    /* The source has a newer base by now; without it the rest of this one cannot be had. */
    if (from == in->source) in->is_lost = true;
    return OK;
}

uint64_t ship_deadline(const struct ship_in *in)
{
    if (!in->is_active) return UINT64_MAX;
    const uint64_t last_ms = in->asked_ms > in->progress_ms ? in->asked_ms : in->progress_ms;
    const uint64_t give_up_ms = in->progress_ms + in->give_up_ms;
    return last_ms + in->retry_ms < give_up_ms ? last_ms + in->retry_ms : give_up_ms;
}

/* ---- sending ------------------------------------------------------------------------------------- */

enum err ship_ask(struct ship_out *out, struct peers *peers, uint64_t from, struct slice body)
{
    struct reader reader = reader_of(body);
    const uint64_t file_id = reader_u64(&reader);
    const uint64_t offset = reader_u64(&reader);
    const uint64_t size = reader_u32(&reader);
    const uint32_t zero = reader_u32(&reader);
    if (reader.bad || reader.at != reader.end || zero != 0) return ERR_CORRUPT;
    if (size == 0 || size > SHIP_WINDOW_SIZE || offset > UINT64_MAX / 2) return ERR_CORRUPT;
    const struct peer *peer = peers_find(peers, from);
    if (peer == NULL) return ERR_CORRUPT;
    const uint64_t place = (uint64_t)(peer - peers->list);
    const struct ship_want want = {.file_id = file_id, .offset = offset, .end = offset + size};
    const uint32_t count = out->list[place].count;
    for (uint32_t i = 0; i < count; i++) {
        const struct ship_want *other = &out->list[place].wants[i];
        if (other->file_id == file_id && other->end == want.end) return OK; /* asked again */
    }
    if (count == SHIP_WANTS_MAX) return OK;
    out->list[place].wants[count] = want;
    out->list[place].count = count + 1;
    return OK;
}

static void send_none(struct peers *peers, struct peer *peer, const struct ship_want *want)
{
    uint8_t body[16];
    put_u64(body, want->file_id);
    put_u64(body + 8, want->offset);
    (void)peer_send(peers, peer, WIRE_SHIP_NONE, slice_of(body, sizeof body));
}

/* False when it could not be queued. */
static bool send_chunk(struct peers *peers, struct peer *peer, const struct ship_want *want,
                       struct slice data)
{
    uint64_t start = 0;
    struct buf *out = peer_frame_begin(peers, peer, WIRE_SHIP_CHUNK, &start);
    if (out == NULL) return false;
    buf_u64(out, want->file_id);
    buf_u64(out, want->offset);
    buf_u64(out, hash64(data.data, data.size));
    buf_append(out, data.data, data.size);
    (void)peer_frame_end(peer, start); /* A chunk travels whole. */
    return true;
}

static void want_done(struct ship_out *out, uint32_t place)
{
    struct ship_want *want = &out->list[place].wants[0];
    out->list[place].count--;
    memmove(want, want + 1, out->list[place].count * sizeof *want);
}

/* Sends what was read for the oldest want. */
static void send_read(struct ship_out *out, uint32_t place, struct store *store,
                      struct peers *peers)
{
    struct slice data;
    struct peer *peer = &peers->list[place];
    struct ship_want *want = &out->list[place].wants[0];
    const uint64_t asked = out->list[place].piece.op.size;
    const enum err err = store_piece_take(store, &out->list[place].piece, &data);
    out->list[place].is_reading = false;
    if (err != OK) {
        /* The receiver turns to somebody else. */
        send_none(peers, peer, want);
        want_done(out, place);
        return;
    }
    const bool is_sent = send_chunk(peers, peer, want, data);
    if (is_sent) out->sent += data.size;
    if (is_sent) out->allowance -= data.size < out->allowance ? data.size : out->allowance;
    want->offset += data.size;
    if (!is_sent || data.size < asked || want->offset >= want->end) want_done(out, place);
}

/* A file is sent from its beginning. When it was before, the peer begins anew: perhaps what was sent last is not what
 * it should be. (What it had completed may be gone as well, so that is not always the same file.) */
static void note_begun(struct ship_out *out, uint32_t place, struct store *store, uint64_t file_id)
{
    uint64_t *begun = out->list[place].begun;
    uint32_t count = out->list[place].begun_count;
    uint32_t at = 0;
    while (at < count && begun[at] != file_id) at++;
    if (at < count) {
        store_ship_doubt(store, begun[count - 1]);
        count = 0;
    }
    if (count == SHIP_BEGUN_MAX) count--;
    begun[count++] = file_id;
    out->list[place].begun_count = count;
}

/* Begins to read the next chunk for a peer. */
static void read_next(struct ship_out *out, uint32_t place, struct store *store,
                      struct peers *peers)
{
    while (out->list[place].count > 0) {
        const struct ship_want *want = &out->list[place].wants[0];
        const uint64_t left = want->end - want->offset;
        const enum err err = store_piece_begin(store, &out->list[place].piece, want->file_id,
                                               want->offset,
                                               left < SHIP_CHUNK_SIZE ? left : SHIP_CHUNK_SIZE);
        if (err == OK) {
            if (want->offset == 0) note_begun(out, place, store, want->file_id);
            out->list[place].is_reading = true;
            return;
        }
        send_none(peers, &peers->list[place], want);
        want_done(out, place);
    }
}

static bool may_send(const struct ship_out *out)
{
    return out->rate == 0 || out->allowance >= SHIP_CHUNK_SIZE;
}

static void allow(struct ship_out *out, uint64_t now_ms)
{
    const uint64_t passed = now_ms > out->allow_ms ? now_ms - out->allow_ms : 0;
    /* A second's worth at most, and room for one chunk at any rate. */
    const uint64_t most = out->rate > SHIP_CHUNK_SIZE ? out->rate : SHIP_CHUNK_SIZE;
    const uint64_t more = passed > 1000 ? out->rate : out->rate * passed / 1000;
    if (more == 0) return;
    out->allow_ms = now_ms;
    out->allowance = out->allowance + more < most ? out->allowance + more : most;
}

void ship_send(struct ship_out *out, struct store *store, struct peers *peers, uint64_t now_ms)
{
    allow(out, now_ms);
    for (uint32_t i = 0; i < peers->count; i++) {
        if (peer_queued(&peers->list[i]) > SHIP_QUEUE_SIZE) continue;
        if (out->list[i].is_reading && out->list[i].piece.is_done && may_send(out)) {
            send_read(out, i, store, peers);
        }
        if (!out->list[i].is_reading) read_next(out, i, store, peers);
    }
}

uint64_t ship_send_deadline(const struct ship_out *out)
{
    if (may_send(out)) return UINT64_MAX; /* Reads and queues wake us. */
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        if (!out->list[i].is_reading || !out->list[i].piece.is_done) continue;
        const uint64_t missing = SHIP_CHUNK_SIZE - out->allowance;
        return out->allow_ms + 1 + missing * 1000 / out->rate;
    }
    return UINT64_MAX;
}

void ship_send_close(struct ship_out *out, struct store *store)
{
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        store_piece_close(store, &out->list[i].piece);
        out->list[i].is_reading = false;
    }
}
