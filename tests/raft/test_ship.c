/* The receiver of a base against whatever may come; transfers as a whole are in test_replica.c. */
#include "tests/raft/cluster.h"
#include "storage/segment.h"
#include "storage/store_ship.h"
#include "storage/store_space.h"

/* Two nodes that hold a base; node 2 of three is blank and only its store and queues are used. */
struct pair {
    struct cluster *cluster;
    struct node *source;
    struct node *target;
    struct ship_in in;
    struct ship_out out;
};

static void pair_make(struct pair *pair, uint64_t scrub_rate)
{
    struct buf manifest = {0};
    memset(pair, 0, sizeof *pair);
    pair->cluster = cluster_make(3, 3, 50);
    pair->cluster->scrub_rate = scrub_rate;
    cluster_up(pair->cluster, 0);
    cluster_up(pair->cluster, 1);
    const uint32_t leader = cluster_elect(pair->cluster);
    cluster_write(pair->cluster, leader, 300, 3000);
    cluster_run(pair->cluster, 200);
    cluster_up(pair->cluster, 2);
    pair->source = &pair->cluster->nodes[leader];
    pair->target = &pair->cluster->nodes[2];
    store_ship_manifest(pair->source->store, &manifest);
    EXPECT_EQ(store_install_begin(pair->target->store, buf_slice(&manifest)), OK);
    buf_close(&manifest);
    ship_begin(&pair->in, pair->source->peers.self.node_id, 100, 1000, 0);
}

static void pair_open(struct pair *pair)
{
    pair_make(pair, 0);
}

static void pair_close(struct pair *pair)
{
    ship_send_close(&pair->out, pair->source->store);
    store_install_abort(pair->target->store);
    cluster_end(pair->cluster);
}

static enum ship_state turn(struct pair *pair, uint64_t leader, uint64_t now)
{
    return ship_turn(&pair->in, pair->target->store, &pair->target->peers, leader, now);
}

/* Takes the next frame of @type from @from's queue to @to; false when there is none. */
static bool take(struct node *from, uint64_t to, uint8_t type, struct buf *body)
{
    struct peer *peer = peers_find(&from->peers, to);
    while (peer_queued(peer) > 0) {
        struct wire_frame frame;
        uint64_t size = 0;
        const struct slice queue = slice_of(peer->out.data + peer->out_start, peer_queued(peer));
        EXPECT_EQ(wire_decode(queue, &frame, &size), OK);
        peer->out_start += size;
        if (frame.type != type) continue;
        body->size = 0;
        buf_append(body, frame.body.data, frame.body.size);
        return true;
    }
    return false;
}

/* The source sends what it may; its disk is quick. */
static void send(struct pair *pair, uint64_t now)
{
    for (uint32_t i = 0; i < 100; i++) {
        ship_send(&pair->out, pair->source->store, &pair->source->peers, now);
        if (!sim_disk_step(&pair->source->disk)) return;
    }
}

static uint64_t source_id(const struct pair *pair)
{
    return pair->source->peers.self.node_id;
}

TEST(ship, a_base_arrives_in_pieces_and_whole)
{
    struct pair pair;
    struct buf body = {0};
    pair_open(&pair);
    uint32_t chunks = 0;
    uint64_t now = 0;
    while (turn(&pair, 0, ++now) == SHIP_BUSY && now < 5000) {
        while (take(pair.target, source_id(&pair), WIRE_SHIP_WANT, &body)) {
            EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, buf_slice(&body)), OK);
        }
        send(&pair, now);
        while (take(pair.source, 3, WIRE_SHIP_CHUNK, &body)) {
            EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, buf_slice(&body), now), OK);
            chunks++;
        }
        (void)sim_disk_step(&pair.target->disk);
    }
    EXPECT_EQ(turn(&pair, 0, now), SHIP_COMPLETE);
    EXPECT_LT(3, chunks);
    EXPECT_EQ(store_install_finish(pair.target->store), OK);
    buf_close(&body);
    pair_close(&pair);
}

TEST(ship, damaged_repeated_and_foreign_chunks_are_not_taken)
{
    struct pair pair;
    struct buf body = {0};
    pair_open(&pair);
    EXPECT_EQ(turn(&pair, 0, 1), SHIP_BUSY);
    EXPECT_TRUE(take(pair.target, source_id(&pair), WIRE_SHIP_WANT, &body));
    EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, buf_slice(&body)), OK);
    send(&pair, 1);
    EXPECT_TRUE(take(pair.source, 3, WIRE_SHIP_CHUNK, &body));
    for (uint64_t size = 0; size <= 24; size++) {
        EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, slice_of(body.data, size), 2),
                  ERR_CORRUPT);
    }
    body.data[30] ^= 4;
    EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, buf_slice(&body), 2), ERR_CORRUPT);
    body.data[30] ^= 4;
    body.data[0] ^= 1; /* another file */
    EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, buf_slice(&body), 2), ERR_AGAIN);
    body.data[0] ^= 1;
    EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, buf_slice(&body), 2), OK);
    EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, buf_slice(&body), 3), ERR_AGAIN);
    EXPECT_EQ(pair.in.progress_ms, 2);
    buf_close(&body);
    pair_close(&pair);
}

TEST(ship, a_silent_source_is_asked_again_then_the_leader_then_given_up)
{
    struct pair pair;
    struct buf body = {0};
    pair_open(&pair);
    const uint64_t other = source_id(&pair) == 1 ? 2 : 1;
    uint32_t asked_source = 0;
    uint32_t asked_other = 0;
    uint64_t now = 0;
    while (now < 5000 && turn(&pair, other, now) == SHIP_BUSY) {
        while (take(pair.target, source_id(&pair), WIRE_SHIP_WANT, &body)) asked_source++;
        while (take(pair.target, other, WIRE_SHIP_WANT, &body)) asked_other++;
        EXPECT_LT(now, ship_deadline(&pair.in));
        now++;
    }
    EXPECT_EQ(now, 1000);
    EXPECT_LE(4, asked_source);
    EXPECT_LE(1, asked_other);
    EXPECT_LE(asked_source + asked_other, 11);
    EXPECT_EQ(turn(&pair, other, now), SHIP_LOST);
    buf_close(&body);
    pair_close(&pair);
}

TEST(ship, a_source_without_the_file_says_so)
{
    struct pair pair;
    struct buf body = {0};
    uint8_t want[24];
    pair_open(&pair);
    EXPECT_EQ(turn(&pair, 0, 1), SHIP_BUSY);
    memset(want, 0, sizeof want);
    put_u64(want, 0xabcdef);
    put_u32(want + 16, 100);
    EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, slice_of(want, sizeof want)), OK);
    send(&pair, 1);
    EXPECT_TRUE(take(pair.source, 3, WIRE_SHIP_NONE, &body));
    EXPECT_EQ(get_u64(body.data), 0xabcdef);
    EXPECT_EQ(ship_none(&pair.in, source_id(&pair), buf_slice(&body)), ERR_AGAIN); /* not ours */
    put_u64(body.data, pair.in.file_id);
    EXPECT_EQ(ship_none(&pair.in, source_id(&pair), slice_of(body.data, 15)), ERR_CORRUPT);
    EXPECT_EQ(turn(&pair, 0, 2), SHIP_BUSY);
    EXPECT_EQ(ship_none(&pair.in, source_id(&pair), buf_slice(&body)), OK);
    EXPECT_EQ(turn(&pair, 0, 3), SHIP_LOST);
    buf_close(&body);
    pair_close(&pair);
}

TEST(ship, requests_are_bounded)
{
    struct pair pair;
    uint8_t want[24];
    pair_open(&pair);
    memset(want, 0, sizeof want);
    put_u32(want + 16, SHIP_WINDOW_SIZE + 1);
    EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, slice_of(want, 24)), ERR_CORRUPT);
    put_u32(want + 16, 0);
    EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, slice_of(want, 24)), ERR_CORRUPT);
    put_u32(want + 16, 100);
    put_u64(want + 8, UINT64_MAX);
    EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, slice_of(want, 24)), ERR_CORRUPT);
    EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 99, slice_of(want, 24)), ERR_CORRUPT);
    for (uint64_t i = 0; i < 100; i++) {
        put_u64(want + 8, 1000 * i);
        EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, slice_of(want, 24)), OK);
    }
    const uint64_t place = (uint64_t)(peers_find(&pair.source->peers, 3) - pair.source->peers.list);
    EXPECT_EQ(pair.out.list[place].count, SHIP_WANTS_MAX);
    /* Nothing is read from the disk for a queue that is long enough. */
    struct peer *peer = peers_find(&pair.source->peers, 3);
    memset(buf_extend(&peer->out, SHIP_QUEUE_SIZE + 1), 0, SHIP_QUEUE_SIZE + 1);
    send(&pair, 1);
    EXPECT_EQ(pair.out.list[place].count, SHIP_WANTS_MAX);
    peer->out_start = peer->out.size;
    send(&pair, 1);
    EXPECT_EQ(pair.out.list[place].count, 0);
    peer->out_start = peer->out.size;
    pair_close(&pair);
}

TEST(ship, the_rate_bounds_what_is_sent)
{
    struct pair pair;
    struct buf body = {0};
    pair_open(&pair);
    pair.out.rate = 2 * SHIP_CHUNK_SIZE;
    uint64_t bytes = 0;
    uint64_t now = 0;
    enum ship_state state = SHIP_BUSY;
    while ((state = turn(&pair, 0, now)) == SHIP_BUSY && now < 60000) {
        while (take(pair.target, source_id(&pair), WIRE_SHIP_WANT, &body)) {
            EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, buf_slice(&body)), OK);
        }
        send(&pair, now);
        const uint64_t deadline = ship_send_deadline(&pair.out);
        if (deadline != UINT64_MAX) EXPECT_LT(now, deadline);
        while (take(pair.source, 3, WIRE_SHIP_CHUNK, &body)) {
            EXPECT_EQ(ship_chunk(&pair.in, pair.target->store, buf_slice(&body), now), OK);
            bytes += body.size - 24;
        }
        /* A second's worth may have gathered before. */
        EXPECT_LE(bytes, pair.out.rate + pair.out.rate * now / 1000);
        EXPECT_EQ(bytes, pair.out.sent);
        (void)sim_disk_step(&pair.target->disk);
        now += 10;
    }
    EXPECT_EQ(state, SHIP_COMPLETE);
    EXPECT_LT(1000, now);
    buf_close(&body);
    pair_close(&pair);
}

TEST(ship, a_slow_disk_of_the_receiver_holds_up_what_it_asks_for)
{
    struct pair pair;
    struct buf body = {0};
    pair_open(&pair);
    uint64_t wanted = 0;
    uint64_t taken = 0;
    for (uint64_t now = 1; now < 900; now++) {
        EXPECT_EQ(turn(&pair, 0, now), SHIP_BUSY);
        while (take(pair.target, source_id(&pair), WIRE_SHIP_WANT, &body)) {
            wanted += get_u32(body.data + 16);
            EXPECT_EQ(ship_ask(&pair.out, &pair.source->peers, 3, buf_slice(&body)), OK);
        }
        send(&pair, now);
        while (take(pair.source, 3, WIRE_SHIP_CHUNK, &body)) {
            const enum err err = ship_chunk(&pair.in, pair.target->store, buf_slice(&body), now);
            EXPECT_TRUE(err == OK || err == ERR_AGAIN);
            if (err == OK) taken += body.size - 24;
        }
    }
    /* The disk of the receiver did nothing at all: one file waits for it, and no other was asked for. */
    EXPECT_TRUE(store_install_busy(pair.target->store));
    EXPECT_EQ(taken, wanted);
    sim_disk_settle(&pair.target->disk);
    for (uint64_t now = 900; now < 910; now++) {
        (void)turn(&pair, 0, now);
        sim_disk_settle(&pair.target->disk);
    }
    EXPECT_FALSE(store_install_busy(pair.target->store));
    EXPECT_TRUE(take(pair.target, source_id(&pair), WIRE_SHIP_WANT, &body));
    buf_close(&body);
    pair_close(&pair);
}

/* ---- F07: a base that rotted unnoticed ------------------------------------------------------------- */

struct sealed {
    struct store_file first;
    struct store_file second;
    struct store_file newest;
    uint32_t count;
};

static void note_sealed(void *context, const struct store_file *file)
{
    struct sealed *sealed = context;
    if (file->state != STORE_FILE_SEALED) return;
    if (sealed->count == 0) sealed->first = *file;
    if (sealed->count == 1) sealed->second = *file;
    sealed->newest = *file;
    sealed->count++;
}

static void source_turn(struct pair *pair, uint64_t *now)
{
    store_turn(pair->source->store, ++*now);
    (void)sim_disk_step(&pair->source->disk);
}

/* The scrub has looked at everything and rests for seconds: nothing else finds what rots in @file now. */
static void rot(struct pair *pair, const struct store_file *file, uint64_t *now)
{
    char name[SEGMENT_NAME_SIZE];
    const uint64_t passes = store_stats(pair->source->store).scrub_passes;
    while (store_stats(pair->source->store).scrub_passes == passes) source_turn(pair, now);
    segment_name(name, "shard-0000", file->number);
    sim_disk_flip(&pair->source->disk, name, 8 * (SEGMENT_BLOCK_SIZE + 300));
}

/* The peer asks for the beginning of a file, and the source has a while for its own files. */
static void ask_for(struct pair *pair, const struct store_file *file, uint64_t *now)
{
    uint8_t want[24] = {0};
    put_u64(want, file->file_id);
    put_u32(want + 16, 100);
    EXPECT_EQ(ship_ask(&pair->out, &pair->source->peers, 3, slice_of(want, sizeof want)), OK);
    send(pair, *now);
    for (uint32_t i = 0; i < 200; i++) source_turn(pair, now);
}

TEST(ship, f07_a_file_at_which_the_peer_begins_anew_is_looked_at)
{
    struct pair pair;
    struct sealed sealed = {0};
    pair_make(&pair, 1024u * MIB);
    const struct damage *damage = store_damage(pair.source->store);
    uint64_t now = pair.cluster->now;
    store_files(pair.source->store, note_sealed, &sealed);
    EXPECT_LT(3, sealed.count);
    /* One that was complete is wanted again as well, since the peer did not keep it. */
    rot(&pair, &sealed.second, &now);
    ask_for(&pair, &sealed.first, &now);
    ask_for(&pair, &sealed.second, &now);
    EXPECT_EQ(damage->found_count, 0);
    ask_for(&pair, &sealed.first, &now);
    EXPECT_EQ(damage->found_count, 1);
    /* And one that is wanted over and over. */
    rot(&pair, &sealed.newest, &now);
    ask_for(&pair, &sealed.newest, &now);
    EXPECT_EQ(damage->found_count, 1);
    ask_for(&pair, &sealed.newest, &now);
    EXPECT_EQ(damage->found_count, 2);
    pair_close(&pair);
}
