#include "tests/raft/cluster.h"

static void check_node(struct cluster *cluster, uint32_t place)
{
    struct node *node = &cluster->nodes[place];
    struct replica *replica = node->replica;
    replica_check(replica);
    store_check(node->store);
    if (replica_role(replica) == REPLICA_LEADER) {
        const uint64_t term = replica_term(replica);
        EXPECT_LT(term, CLUSTER_TERMS_MAX);
        if (cluster->leader_of[term] == 0) cluster->leader_of[term] = cluster_id(place);
        EXPECT_EQ(cluster->leader_of[term], cluster_id(place)); /* one leader in a term */
    }
    if (replica_installing(replica)) return;
    /* State machine safety: what one has committed at an index, all have there. */
    while (node->checked < store_applied_index(node->store)) {
        struct buf record = {0};
        uint32_t count = 0;
        const uint64_t index = node->checked + 1;
        const enum err err = store_read(node->store, index, index, 1, &record, &count);
        node->checked = index;
        if (err == ERR_NOT_FOUND) continue; /* below the base */
        EXPECT_EQ(err, OK);
        const uint64_t hash = hash64(record.data, record.size);
        buf_close(&record);
        EXPECT_LT(index, CLUSTER_ENTRIES_MAX);
        if (cluster->hashes[index] == 0) cluster->hashes[index] = hash;
        EXPECT_EQ(cluster->hashes[index], hash);
        if (index > cluster->committed) cluster->committed = index;
    }
}

/* ---- life ------------------------------------------------------------------------------------------ */

static void node_open(struct cluster *cluster, uint32_t place)
{
    struct node *node = &cluster->nodes[place];
    char message[512];
    const struct store_config store_config = {
        .disk = &node->disk.disk,
        .folder = "shard-0000",
        .cluster_id = CLUSTER_ID,
        .node_id = cluster_id(place),
        .hash_seed = 5,
        .random_seed = prng_next(&cluster->prng),
        .segment_size = cluster->segment_size,
        .retention_size = cluster->retention_size,
        .tail_size = 64u * KIB,
        .scrub_rate = cluster->scrub_rate,
    };
    const struct replica_config replica_config = {
        .id = cluster_id(place),
        .address = node->peers.self.peer_address,
        .election_timeout_ms = CLUSTER_ELECTION_MS,
        .heartbeat_ms = CLUSTER_HEARTBEAT_MS,
        .random_seed = (uint32_t)prng_next(&cluster->prng),
        .guards = node->guards,
        .has_lost = node->has_lost,
    };
    if (store_open(&store_config, &node->store, message, sizeof message) != OK) {
        fail_msg("node %u: %s", place, message);
    }
    if (node->is_voter && store_blank(node->store)) {
        struct replica_member voters[CLUSTER_NODES_MAX];
        char addresses[CLUSTER_NODES_MAX][32];
        struct buf record = {0};
        uint32_t count = 0;
        for (uint32_t i = 0; i < cluster->count; i++) {
            if (!cluster->nodes[i].is_voter) continue;
            snprintf(addresses[i], sizeof addresses[i], "host%u:7000", i);
            voters[count++] = (struct replica_member){cluster_id(i), addresses[i], true};
        }
        replica_encode_bootstrap(voters, count, 0, &record);
        EXPECT_EQ(store_bootstrap(node->store, buf_slice(&record)), OK);
        buf_close(&record);
    }
    const enum err err = replica_create(&replica_config, node->store, &node->peers, cluster->now,
                                        &node->replica, message);
    if (err != OK) fail_msg("node %u: %s", place, message);
    node->checked = store_base(node->store).index;
}

void cluster_connect(struct cluster *cluster, uint32_t from, uint32_t to)
{
    struct node *a = &cluster->nodes[from];
    struct node *b = &cluster->nodes[to];
    struct link *link = &b->links[from];
    struct wire_frame frame;
    char message[256];
    struct peer *peer = peers_find(&a->peers, cluster_id(to));
    link_close(link);
    link_init(link);
    peer_up(&a->peers, peer);
    link_feed(link, buf_slice(&peer->out));
    peer->out_start = peer->out.size;
    EXPECT_EQ(link_next(&b->peers, link, cluster->now, &frame, message), ERR_MORE);
    EXPECT_EQ(peer_feed(&a->peers, peer, buf_slice(&link->out), message), OK);
    link->out.size = 0;
    EXPECT_TRUE(peer->is_connected);
}

void cluster_up(struct cluster *cluster, uint32_t place)
{
    struct node *node = &cluster->nodes[place];
    struct peer_identity self = {.node_id = cluster_id(place),
                                 .directory_id = 100 + place,
                                 .incarnation = ++node->incarnation};
    CHECK(!node->is_up);
    snprintf(self.name, sizeof self.name, "node%u", place);
    snprintf(self.peer_address, sizeof self.peer_address, "host%u:7000", place);
    peers_init(&node->peers, &self, CLUSTER_ID, CLUSTER_TOKEN);
    for (uint32_t i = 0; i < cluster->count; i++) {
        char address[32];
        snprintf(address, sizeof address, "host%u:7000", i);
        link_init(&node->links[i]);
        if (i == place) continue;
        EXPECT_EQ(peers_add(&node->peers, cluster_id(i), "peer", address), OK);
    }
    node->peers.self_recovering = node->has_lost;
    node_open(cluster, place);
    node->is_up = true;
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (i == place || !cluster->nodes[i].is_up) continue;
        cluster_connect(cluster, place, i);
        cluster_connect(cluster, i, place);
    }
}

static void node_close(struct node *node)
{
    replica_destroy(node->replica);
    store_close(node->store);
    node->replica = NULL;
    node->store = NULL;
}

void cluster_down(struct cluster *cluster, uint32_t place, bool power)
{
    struct node *node = &cluster->nodes[place];
    CHECK(node->is_up);
    if (power) sim_disk_stop(&node->disk, true);
    node_close(node);
    if (power) sim_disk_crash(&node->disk);
    peers_close(&node->peers);
    node->is_up = false;
    node->is_frozen = false;
    for (uint32_t i = 0; i < cluster->count; i++) {
        link_close(&node->links[i]);
        link_close(&cluster->nodes[i].links[place]);
        if (!cluster->nodes[i].is_up) continue;
        peer_down(peers_find(&cluster->nodes[i].peers, cluster_id(place)));
    }
    struct packet **at = &cluster->packets;
    while (*at != NULL) {
        struct packet *packet = *at;
        if (packet->from != place && packet->to != place) {
            at = &packet->next;
            continue;
        }
        *at = packet->next;
        buf_close(&packet->bytes);
        mem_free(packet);
    }
}

struct cluster *cluster_make(uint32_t count, uint32_t voters, uint64_t seed)
{
    struct cluster *cluster = mem_zero(sizeof *cluster);
    EXPECT_EQ(replica_self_test(), OK);
    cluster->count = count;
    cluster->now = 1000;
    cluster->prng = prng_seed(seed);
    cluster->delay_min = 1;
    cluster->delay_max = 2;
    cluster->segment_size = 64u * KIB;
    cluster->retention_size = 256u * KIB;
    for (uint32_t i = 0; i < count; i++) {
        struct node *node = &cluster->nodes[i];
        sim_disk_init(&node->disk, prng_next(&cluster->prng));
        node->disk.latency_min = 1;
        node->disk.latency_max = 3;
        node->guards = GUARD_ALL;
        node->is_voter = i < voters;
    }
    return cluster;
}

struct cluster *cluster_start(uint32_t count, uint32_t voters, uint64_t seed)
{
    struct cluster *cluster = cluster_make(count, voters, seed);
    for (uint32_t i = 0; i < count; i++) cluster_up(cluster, i);
    return cluster;
}

void cluster_end(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (cluster->nodes[i].is_up) cluster_down(cluster, i, false);
        sim_disk_close(&cluster->nodes[i].disk);
    }
    CHECK(cluster->packets == NULL);
    mem_free(cluster);
}

/* ---- frames ---------------------------------------------------------------------------------------- */

static void packet_queue(struct cluster *cluster, uint32_t from, uint32_t to, struct slice bytes,
                         uint64_t due)
{
    struct packet *packet = mem_zero(sizeof *packet);
    *packet = (struct packet){.due = due, .order = cluster->order++, .from = from, .to = to};
    buf_append(&packet->bytes, bytes.data, bytes.size);
    struct packet **at = &cluster->packets;
    while (*at != NULL && (*at)->due <= due) at = &(*at)->next;
    packet->next = *at;
    *at = packet;
}

static uint64_t packet_due(struct cluster *cluster)
{
    const uint64_t spread = cluster->delay_max - cluster->delay_min + 1;
    return cluster->now + cluster->delay_min + prng_below(&cluster->prng, spread);
}

/* Bytes of the frame at the start of @queue, or of all fragments of one: they are lost together or not at all. */
static uint64_t packet_size(struct cluster *cluster, struct slice queue, struct wire_frame *first)
{
    uint64_t total = 0;
    uint64_t left = 0;
    do {
        struct wire_frame frame;
        uint64_t size = 0;
        EXPECT_EQ(wire_decode(slice_of(queue.data + total, queue.size - total), &frame, &size), OK);
        if (total == 0) *first = frame;
        cluster->seen[frame.type]++;
        total += size;
        if (frame.type != WIRE_FRAGMENT) return total;
        const uint64_t end = get_u32(frame.body.data + 8) + frame.body.size - FRAGMENT_HEAD_SIZE;
        left = get_u32(frame.body.data + 4) - end;
    } while (left > 0 && total < queue.size);
    return left > 0 ? 0 : total;
}

static void pump(struct node *node, struct peer *peer)
{
    struct fragment_piece piece;
    while (peer_pump(&node->peers, peer, &piece)) replica_give(node->replica, peer, &piece);
}

/* A slow connection: a stream of bytes in order, cut anywhere. */
static void collect_slowly(struct cluster *cluster, uint32_t from)
{
    struct node *node = &cluster->nodes[from];
    for (uint32_t i = 0; i < node->peers.count; i++) {
        struct peer *peer = &node->peers.list[i];
        const uint32_t to = (uint32_t)peer->identity.node_id - 1;
        for (uint64_t left = cluster->rate; left > 0;) {
            pump(node, peer);
            uint64_t size = peer_queued(peer);
            if (size == 0) break;
            if (size > left) size = left;
            packet_queue(cluster, from, to, slice_of(peer->out.data + peer->out_start, size),
                         cluster->now + cluster->delay_min);
            peer->out_start += size;
            left -= size;
        }
    }
}

/* Lets everything that waits in lanes into the queue. */
static void fill(struct cluster *cluster, uint32_t from, struct peer *peer, struct buf *all)
{
    all->size = 0;
    do {
        pump(&cluster->nodes[from], peer);
        buf_append(all, peer->out.data + peer->out_start, peer_queued(peer));
        peer->out_start = peer->out.size;
    } while (peer_lanes_busy(peer));
}

void cluster_collect(struct cluster *cluster, uint32_t from)
{
    struct node *node = &cluster->nodes[from];
    struct buf all = {0};
    if (cluster->rate > 0) {
        collect_slowly(cluster, from);
        return;
    }
    for (uint32_t i = 0; i < node->peers.count; i++) {
        struct peer *peer = &node->peers.list[i];
        const uint32_t to = (uint32_t)peer->identity.node_id - 1;
        if (peer_queued(peer) == 0 && !peer_lanes_busy(peer)) continue;
        fill(cluster, from, peer, &all);
        for (uint64_t at = 0; at < all.size;) {
            struct wire_frame frame;
            const struct slice rest = slice_of(all.data + at, all.size - at);
            const uint64_t size = packet_size(cluster, rest, &frame);
            CHECK(size > 0);
            const bool is_lost = cluster->cut[from][to] ||
                                 prng_below(&cluster->prng, 100) < cluster->drop_percent ||
                                 (cluster->filter != NULL &&
                                  !cluster->filter(cluster, from, to, &frame));
            const struct slice bytes = slice_of(rest.data, size);
            if (!is_lost) packet_queue(cluster, from, to, bytes, packet_due(cluster));
            /* A frame in fragments has a number: a stream does not repeat it. */
            if (!is_lost && frame.type != WIRE_FRAGMENT &&
                prng_below(&cluster->prng, 100) < cluster->repeat_percent) {
                packet_queue(cluster, from, to, bytes, packet_due(cluster) + 20);
            }
            at += size;
        }
    }
    buf_close(&all);
}

enum err cluster_deliver(struct cluster *cluster, uint32_t from, uint32_t to, struct slice bytes)
{
    struct node *node = &cluster->nodes[to];
    struct wire_frame frame;
    char message[256];
    struct link *link = &node->links[from];
    enum err result = OK;
    link_feed(link, bytes);
    for (;;) {
        const enum err next = link_next(&node->peers, link, cluster->now, &frame, message);
        if (next == ERR_MORE) return result;
        if (next != OK) fail_msg("node %u: %s", to, message);
        const enum err err = replica_receive(node->replica, &frame, cluster->now);
        if (err != OK) cluster->last_error = err;
        if (err != OK) result = err;
    }
}

void cluster_turn(struct cluster *cluster, uint32_t place)
{
    struct node *node = &cluster->nodes[place];
    sim_disk_turn(&node->disk, cluster->now);
    const enum err err = replica_turn(node->replica, cluster->now);
    if (err == ERR_AGAIN) {
        const struct replica_stats stats = replica_stats(node->replica);
        cluster->installs += stats.snapshots_installed;
        node_close(node);
        node_open(cluster, place);
        node->restarts++;
    } else {
        EXPECT_EQ(err, OK);
        check_node(cluster, place);
    }
    cluster_collect(cluster, place);
}

void cluster_tick(struct cluster *cluster)
{
    cluster->now++;
    struct packet **at = &cluster->packets;
    while (*at != NULL && (*at)->due <= cluster->now) {
        struct packet *packet = *at;
        if (cluster->nodes[packet->to].is_frozen) {
            at = &packet->next;
            continue;
        }
        *at = packet->next;
        if (!cluster->cut[packet->from][packet->to]) {
            (void)cluster_deliver(cluster, packet->from, packet->to, buf_slice(&packet->bytes));
        }
        buf_close(&packet->bytes);
        mem_free(packet);
        at = &cluster->packets;
    }
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (cluster->nodes[i].is_up && !cluster->nodes[i].is_frozen) cluster_turn(cluster, i);
    }
}

void cluster_run(struct cluster *cluster, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) cluster_tick(cluster);
}

/* ---- what tests do --------------------------------------------------------------------------------- */

uint32_t cluster_leader(const struct cluster *cluster)
{
    uint32_t best = cluster->count;
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct node *node = &cluster->nodes[i];
        if (!node->is_up || replica_role(node->replica) != REPLICA_LEADER) continue;
        if (best < cluster->count &&
            replica_term(cluster->nodes[best].replica) > replica_term(node->replica)) {
            continue;
        }
        best = i;
    }
    return best;
}

bool cluster_has_ready(const struct cluster *cluster)
{
    const uint32_t leader = cluster_leader(cluster);
    return leader < cluster->count && replica_ready(cluster->nodes[leader].replica);
}

uint32_t cluster_elect(struct cluster *cluster)
{
    for (uint32_t i = 0; i < 10000 && !cluster_has_ready(cluster); i++) cluster_tick(cluster);
    EXPECT_TRUE(cluster_has_ready(cluster));
    return cluster_leader(cluster);
}

enum err cluster_submit(struct cluster *cluster, uint32_t place, uint64_t size, uint64_t *index)
{
    struct buf record = {0};
    char key[16];
    uint8_t *value = mem_zero(size + 8);
    put_u64(value, prng_next(&cluster->prng));
    snprintf(key, sizeof key, "key%u", (unsigned)prng_below(&cluster->prng, 20));
    const struct effect effect = {
        .kind = EFFECT_PUT, .key = slice_text(key), .value = slice_of(value, size + 8)};
    memset(buf_extend(&record, RECORD_HEADER_SIZE), 0, RECORD_HEADER_SIZE);
    buf_u32(&record, 1);
    buf_u32(&record, 0);
    effect_encode(&effect, &record);
    const enum err err = replica_submit(cluster->nodes[place].replica, &record, false, cluster->now,
                                        cluster->now, index);
    buf_close(&record);
    mem_free(value);
    return err;
}

void cluster_write(struct cluster *cluster, uint32_t leader, uint32_t count, uint64_t size)
{
    uint64_t index = 0;
    for (uint32_t i = 0; i < count; i++) {
        EXPECT_EQ(cluster_submit(cluster, leader, size, &index), OK);
        if (i % 8 == 7) cluster_tick(cluster);
    }
    for (uint32_t i = 0; i < 5000; i++) {
        if (store_applied_index(cluster->nodes[leader].store) >= index) break;
        cluster_tick(cluster);
    }
    EXPECT_LE(index, store_applied_index(cluster->nodes[leader].store));
}

bool cluster_converge(struct cluster *cluster, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        bool is_same = cluster_has_ready(cluster);
        const uint32_t leader = cluster_leader(cluster);
        for (uint32_t n = 0; is_same && n < cluster->count; n++) {
            const struct node *node = &cluster->nodes[n];
            if (!node->is_up) continue;
            is_same = store_applied_index(node->store) ==
                      store_last_index(cluster->nodes[leader].store);
        }
        if (is_same) return true;
        cluster_tick(cluster);
    }
    return false;
}

void cluster_isolate(struct cluster *cluster, uint32_t place, bool is_cut)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        cluster->cut[place][i] = is_cut;
        cluster->cut[i][place] = is_cut;
    }
}

enum err cluster_change(struct cluster *cluster, uint32_t place, uint32_t other,
                        enum guard_role role)
{
    struct guard_configuration next = {0};
    struct guard_configuration now;
    char address[32];
    bool is_found = false;
    snprintf(address, sizeof address, "host%u:7000", other);
    replica_newest_members(cluster->nodes[place].replica, &now);
    for (uint32_t i = 0; i < now.count; i++) {
        struct guard_member member = now.members[i];
        if (member.id == cluster_id(other)) {
            is_found = true;
            if (role == GUARD_NO_MEMBER) continue;
            member.role = (uint8_t)role;
        }
        next.members[next.count++] = member;
    }
    if (!is_found) {
        next.members[next.count++] = (struct guard_member){cluster_id(other), address,
                                                           (uint8_t)role};
    }
    return replica_submit_change(cluster->nodes[place].replica, &next, cluster->now);
}
