/* fuzz_wire.c - what a hostile member may send: raw bytes, framed bytes, and well-formed messages with any
 * numbers, to one replica that keeps its state from message to message.
 *
 * The input is a list of steps, each an operation and its arguments:
 *
 *   0  u8 ms                          time passes, one turn
 *   1  u16 size, bytes                bytes on the link of node 2, which is made anew when it breaks
 *   2  u8 type, u8 from, u16 size, bytes      a frame with a right checksum and this body; of the types from
 *                                     FORWARD on only those for a damaged log, and 74: one of them made of the bytes
 *   3  u8 type, u8 from, 12 small numbers     a message made of them, with up to 8 entries
 *   4                                 a command is submitted
 *   5                                 a read is asked for
 *
 * A member may lie, but what contradicts a committed entry ends the process on purpose: such messages are
 * left out here, tests/raft/test_guard_messages.c has them. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "node/shard.h"
#include "raft/replica_state.h"
#include "storage/manifest.h"
#include "tests/sim/sim_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLUSTER UINT64_C(7)
#define STEPS_MAX 400u

struct target {
    struct sim_disk disk;
    struct peers peers;
    struct store *store;
    struct replica *replica;
    struct link link; /* of node 2 */
    struct buf body;
    struct shard shard;      /* as far as answers for a damaged log need it */
    struct sim_disk damaged; /* the disk of a node with a damaged log */
    uint8_t piece;           /* bytes of the fragments in which frames come; 0: whole */
    uint8_t turn_at;         /* what happens between them */
    uint32_t serial;
    uint64_t now;
    struct message_entry parts[APPEND_ENTRIES_MAX];
};

static void open_state(struct target *target)
{
    char message[512];
    const struct store_config store_config = {
        .disk = &target->disk.disk,
        .folder = "shard-0000",
        .cluster_id = CLUSTER,
        .node_id = 1,
        .segment_size = 64u * KIB,
        .retention_size = 64u * KIB,
        .tail_size = 64u * KIB,
    };
    const struct replica_config config = {
        .id = 1,
        .address = "host1:1",
        .election_timeout_ms = 100,
        .heartbeat_ms = 20,
        .random_seed = 9,
        .guards = GUARD_ALL,
    };
    CHECK(store_open(&store_config, &target->store, message, sizeof message) == OK);
    if (store_blank(target->store)) {
        static const struct replica_member voters[] = {
            {1, "host1:1", true}, {2, "host2:1", true}, {3, "host3:1", true}};
        target->body.size = 0;
        replica_encode_bootstrap(voters, 3, 0, &target->body);
        CHECK(store_bootstrap(target->store, buf_slice(&target->body)) == OK);
    }
    CHECK(replica_create(&config, target->store, &target->peers, target->now, &target->replica,
                         message) == OK);
}

static void close_state(struct target *target)
{
    replica_destroy(target->replica);
    store_close(target->store);
}

static struct peer_identity identity_of(uint64_t id)
{
    struct peer_identity identity = {.node_id = id, .directory_id = id, .incarnation = 1};
    snprintf(identity.name, sizeof identity.name, "node%u", (unsigned)id);
    return identity;
}

/* A link of node 2 after its handshake. */
static void open_link(struct target *target)
{
    struct peers other;
    struct wire_frame frame;
    char message[256];
    const struct peer_identity self = identity_of(2);
    peers_init(&other, &self, CLUSTER, 0);
    CHECK(peers_add(&other, 1, "node1", "host1:1") == OK);
    peer_up(&other, &other.list[0]);
    link_close(&target->link);
    link_init(&target->link);
    link_feed(&target->link, buf_slice(&other.list[0].out));
    CHECK(link_next(&target->peers, &target->link, target->now, &frame, message) == ERR_MORE);
    peers_close(&other);
}

static bool contradicts(const struct target *target, uint64_t index, uint64_t term)
{
    const uint64_t local = index > 0 ? store_term_at(target->store, index) : 0;
    return index <= replica_committed(target->replica) && local != 0 && local != term;
}

/* Would the replica end the process, as it should? */
static bool is_contradiction(struct target *target, const struct wire_frame *frame)
{
    struct message message;
    if (frame->type != WIRE_APPEND) return false;
    if (message_decode(frame->type, frame->body, &message) != OK) return false;
    if (message_entries(&message, 0, target->parts) != OK) return false;
    if (message.term < replica_term(target->replica)) return false;
    if (contradicts(target, message.prev_index, message.prev_term)) return true;
    for (uint32_t i = 0; i < message.count; i++) {
        if (contradicts(target, message.prev_index + 1 + i, target->parts[i].term)) return true;
    }
    return false;
}

static void receive(struct target *target, const struct wire_frame *frame)
{
    if (is_contradiction(target, frame)) return;
    const enum err err = replica_receive(target->replica, frame, target->now);
    CHECK(err == OK || err == ERR_CORRUPT);
    replica_check(target->replica);
}

static void turn(struct target *target, uint64_t ms)
{
    target->now += ms;
    sim_disk_turn(&target->disk, target->now);
    const enum err err = replica_turn(target->replica, target->now);
    if (err == OK) {
        replica_check(target->replica);
        store_check(target->store);
    } else {
        /* ERR_CORRUPT: a command that no honest leader makes; the node stops serving. */
        CHECK(err == ERR_AGAIN || err == ERR_CORRUPT);
        close_state(target);
        if (err == ERR_CORRUPT) {
            peers_close(&target->peers);
            sim_disk_crash(&target->disk);
            sim_disk_wipe(&target->disk);
            const struct peer_identity self = identity_of(1);
            peers_init(&target->peers, &self, CLUSTER, 0);
            CHECK(peers_add(&target->peers, 2, "node2", "host2:1") == OK);
            CHECK(peers_add(&target->peers, 3, "node3", "host3:1") == OK);
        }
        open_state(target);
        if (err == ERR_CORRUPT) open_link(target);
    }
    for (uint32_t i = 0; i < target->peers.count; i++) {
        target->peers.list[i].is_connected = true;
        target->peers.list[i].out_start = target->peers.list[i].out.size;
    }
}

/* ---- a damaged log --------------------------------------------------------------------------------------- */

#define DAMAGED_RECORDS 4u

static void damaged_record(uint64_t index, uint64_t term, struct buf *out)
{
    const struct record record = {.index = index, .term = term, .type = RECORD_BARRIER};
    record_encode(&record, out);
}

/* A log of two groups, 1 .. 4 and a mark, of which the first one is damaged. */
static void open_damaged(struct target *target)
{
    const struct segment_header header = {
        .number = 1, .cluster_id = CLUSTER, .node_id = 1, .file_id = 5, .size = 16384};
    const struct repair_config config = {
        .disk = &target->damaged.disk, .folder = "shard-0000", .cluster_id = CLUSTER, .node_id = 1};
    uint8_t identity[16] = {0};
    struct buf file = {0};
    struct buf image = {0};
    put_u64(identity, CLUSTER);
    sim_disk_init(&target->damaged, 2);
    segment_header_encode(&header, buf_extend(&file, SEGMENT_BLOCK_SIZE));
    struct segment_group group = {.count = DAMAGED_RECORDS,
                                  .offset = 4096,
                                  .first_index = 1,
                                  .last_index = DAMAGED_RECORDS,
                                  .link = hash128(identity, sizeof identity).low};
    (void)buf_extend(&image, GROUP_HEADER_SIZE);
    for (uint64_t i = 1; i <= DAMAGED_RECORDS; i++) damaged_record(i, 1, &image);
    const struct hash128 chain = segment_group_seal(&image, &group, 5);
    memset(image.data, 0xee, 400);
    buf_append(&file, image.data, image.size);
    image.size = 0;
    (void)buf_extend(&image, GROUP_HEADER_SIZE);
    group = (struct segment_group){.offset = 8192,
                                   .first_index = DAMAGED_RECORDS + 1,
                                   .last_index = DAMAGED_RECORDS,
                                   .durable_index = DAMAGED_RECORDS,
                                   .link = chain.low};
    (void)segment_group_seal(&image, &group, 5);
    buf_append(&file, image.data, image.size);
    memset(buf_extend(&file, 4096), 0, 4096);
    CHECK(config.disk->make_folder(config.disk->context, config.folder) == OK);
    sim_disk_put(&target->damaged, "shard-0000/00000001.log", buf_slice(&file));
    CHECK(repair_open(&target->shard.regain.repair, &config) == OK);
    buf_close(&file);
    buf_close(&image);
}

static void close_damaged(struct target *target)
{
    if (!regain_active(&target->shard.regain)) return;
    regain_close(&target->shard.regain);
    sim_disk_close(&target->damaged);
}

/* To a node that has a state, or to one that repairs its log. */
static void receive_records(struct target *target, const struct wire_frame *frame)
{
    struct shard *shard = &target->shard;
    shard->peers = &target->peers;
    shard->store = target->store;
    shard->replica = target->replica;
    const enum err err = regain_receive(shard, frame, target->now);
    CHECK(err == OK || err == ERR_CORRUPT);
    struct repair *repair = shard->regain.repair;
    if (repair != NULL && repair_try(repair) == OK) {
        CHECK(repair_write(repair) == OK);
        close_damaged(target);
    }
}

static void framed(struct target *target, uint8_t type, uint64_t from, struct slice body);

/* A question or an answer that is almost right: u8 what, 3 small numbers, u8 state, u8 which records. */
static void composed_records(struct target *target, uint64_t from, struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    const uint8_t what = reader_u8(&reader);
    const uint64_t first = reader_u8(&reader);
    const uint64_t last = reader_u8(&reader);
    const uint64_t next = reader_u8(&reader);
    const uint8_t state = reader_u8(&reader);
    const uint8_t which = reader_u8(&reader);
    struct buf body = {0};
    if ((what & 2) != 0 && !regain_active(&target->shard.regain)) open_damaged(target);
    if ((what & 4) != 0) close_damaged(target);
    buf_u64(&body, first);
    buf_u64(&body, last);
    if ((what & 1) != 0) {
        buf_u64(&body, next);
        buf_u64(&body, state);
        for (uint64_t i = 0; i < 2u * DAMAGED_RECORDS; i++) {
            if ((which >> i & 1) == 0) continue;
            damaged_record(1 + i, (what & 8) != 0 ? 2 : 1, &body);
        }
    }
    framed(target, (what & 1) != 0 ? WIRE_RECORDS_GIVE : WIRE_RECORDS_WANT, from, buf_slice(&body));
    buf_close(&body);
}

static void raw_bytes(struct target *target, struct slice bytes)
{
    struct wire_frame frame;
    char message[256];
    enum err err = OK;
    link_feed(&target->link, bytes);
    for (uint32_t i = 0; i < 1000 && err == OK; i++) {
        err = link_next(&target->peers, &target->link, target->now, &frame, message);
        if (err != OK) break;
        if (frame.type == WIRE_RECORDS_WANT || frame.type == WIRE_RECORDS_GIVE) {
            receive_records(target, &frame);
        } else if (frame.type < WIRE_FORWARD || frame.type == WIRE_FRAGMENT) {
            receive(target, &frame);
        }
    }
    if (err != OK && err != ERR_MORE) open_link(target);
}

/* One FRAGMENT of node 2. */
static void fragment(struct target *target, uint32_t type, uint32_t size, uint32_t offset,
                     uint32_t serial, struct slice data)
{
    struct buf body = {0};
    struct buf bytes = {0};
    buf_u32(&body, type);
    buf_u32(&body, size);
    buf_u32(&body, offset);
    buf_u32(&body, serial);
    buf_append(&body, data.data, data.size);
    const struct wire_frame frame = {.type = WIRE_FRAGMENT,
                                     .cluster_id = CLUSTER,
                                     .from = 2,
                                     .to = 1,
                                     .incarnation = 1,
                                     .body = buf_slice(&body)};
    wire_encode(&bytes, &frame);
    raw_bytes(target, buf_slice(&bytes));
    buf_close(&bytes);
    buf_close(&body);
}

/* @body in pieces of @piece bytes; at the one numbered @turn_at something else happens: a turn of a heartbeat or two,
 * or an end. */
static void in_fragments(struct target *target, uint8_t type, struct slice body)
{
    uint32_t count = 0;
    struct buf copy = {0}; /* A turn may use target->body. */
    buf_append(&copy, body.data, body.size);
    body = buf_slice(&copy);
    target->serial++;
    for (uint64_t at = 0; at < body.size; count++) {
        const uint64_t left = body.size - at;
        const uint64_t size = left < target->piece ? left : target->piece;
        if (count == target->turn_at % 8) {
            if ((target->turn_at & 8) != 0) turn(target, (target->turn_at & 16) != 0 ? 60 : 500);
            if ((target->turn_at & 32) != 0) {
                fragment(target, type, 0, 0, target->serial, slice_of("", 0));
                break;
            }
            if ((target->turn_at & 64) != 0) break; /* Never ends; the next one is refused. */
        }
        fragment(target, type, (uint32_t)body.size, (uint32_t)at, target->serial,
                 slice_of(body.data + at, size));
        at += size;
    }
    buf_close(&copy);
}

static void framed(struct target *target, uint8_t type, uint64_t from, struct slice body)
{
    if (target->piece > 0 && from == 2 && body.size > 0) {
        in_fragments(target, type, body);
        return;
    }
    /* Through the link when it is node 2's, for the way that all frames take. */
    struct wire_frame frame = {
        .type = type, .cluster_id = CLUSTER, .from = from, .to = 1, .incarnation = 1, .body = body};
    if (from != 2 && type >= WIRE_FORWARD) {
        receive_records(target, &frame);
        return;
    }
    if (from != 2) {
        receive(target, &frame);
        return;
    }
    struct buf bytes = {0};
    wire_encode(&bytes, &frame);
    raw_bytes(target, buf_slice(&bytes));
    buf_close(&bytes);
}

/* Entries behind @prev_index, their terms and types from the low bits of @choice. */
static void add_records(struct message *message, uint32_t choice, struct buf *records)
{
    uint64_t term = message->prev_term > 0 ? message->prev_term : 1;
    for (uint32_t i = 0; i < message->count; i++) {
        struct buf payload = {0};
        const uint32_t bits = choice >> (4 * i);
        struct record record = {.index = message->prev_index + 1 + i, .type = RECORD_COMMAND};
        if ((bits & 1) != 0) term++;
        if ((bits & 2) != 0) record.type = (bits & 4) != 0 ? RECORD_CHANGE : RECORD_BARRIER;
        if (record.type == RECORD_COMMAND) buf_u64(&payload, 0);
        if (record.type == RECORD_CHANGE) {
            const struct guard_configuration configuration = {
                .count = 2 + (bits >> 3 & 1),
                .members = {{1, "host1:1", GUARD_VOTER},
                            {2, "host2:1", (bits & 8) != 0 ? GUARD_VOTER : GUARD_STANDBY},
                            {3, "host3:1", GUARD_VOTER}},
            };
            guard_encode_configuration(&configuration, &payload);
        }
        record.term = term;
        record.payload = buf_slice(&payload);
        if (record.index - 1 < UINT64_C(1) << 47) record_encode(&record, records);
        buf_close(&payload);
    }
}

/* A manifest that agrees with the message, so that the install begins. */
static void add_manifest(struct message *message, struct buf *change, struct buf *bytes)
{
    struct manifest manifest = {
        .cluster_id = CLUSTER,
        .number = 1,
        .base_index = message->last_index,
        .base_term = message->last_term,
        .change_index = message->change_index,
        .has_state_hash = true,
    };
    const struct guard_configuration configuration = {
        .count = 2, .members = {{1, "host1:1", GUARD_VOTER}, {2, "host2:1", GUARD_VOTER}}};
    const struct log_file file = {
        .number = 1,
        .file_id = 5,
        .first_index = 1,
        .last_index = message->last_index,
        .used = 8192,
    };
    /* The encoder insists on what could be true. */
    if (message->last_index < 2 || message->last_index > UINT64_C(1) << 47) return;
    if (message->last_term == 0 || message->change_index == 0) return;
    if (message->change_index > message->last_index) return;
    guard_encode_configuration(&configuration, &manifest.change);
    manifest_add(&manifest, &file);
    manifest_encode(&manifest, bytes);
    buf_append(change, manifest.change.data, manifest.change.size);
    manifest_close(&manifest);
    message->change = buf_slice(change);
    message->manifest = buf_slice(bytes);
}

/* Small numbers near what the replica knows; 255 and 254 are far away. */
static uint64_t number(uint8_t byte, uint64_t near)
{
    if (byte == 255) return UINT64_MAX;
    if (byte == 254) return UINT64_C(1) << 40;
    if (byte >= 128) return near + (byte - 128u);
    return byte < near ? near - byte : 0;
}

static void composed(struct target *target, uint8_t type, uint64_t from, struct reader *reader)
{
    uint8_t raw[12];
    struct buf records = {0};
    for (uint32_t i = 0; i < 12; i++) raw[i] = reader_u8(reader);
    const uint64_t last = store_last_index(target->store);
    const uint64_t term = replica_term(target->replica);
    struct message message = {
        .type = (uint8_t)(WIRE_APPEND + type % 6),
        .version = 2,
        .term = number(raw[0], term),
        .prev_index = number(raw[1], last),
        .commit = number(raw[2], last),
        .count = raw[3] % 8,
        .rejected = number(raw[4], last),
        .last_index = number(raw[5], last),
        .last_term = number(raw[6], term),
        .candidate = (raw[7] & 1) != 0 ? from : raw[7],
        .disrupt_leader = (raw[7] & 2) != 0,
        .pre_vote = (raw[7] & 4) != 0,
        .granted = (raw[7] & 8) != 0,
        .conflict_term = number(raw[6], term),
        .held_index = number(raw[8], last),
        .change_index = number(raw[8], last),
    };
    message.prev_term = (raw[7] & 16) != 0 ? store_term_at(target->store, message.prev_index)
                                           : number(raw[6], term);
    add_records(&message, (uint32_t)raw[9] | (uint32_t)raw[10] << 8 | (uint32_t)raw[11] << 16,
                &records);
    message.records = buf_slice(&records);
    struct buf change = {0};
    struct buf manifest = {0};
    if (message.type == WIRE_INSTALL) add_manifest(&message, &change, &manifest);
    target->body.size = 0;
    message_encode(&message, &target->body);
    framed(target, message.type, from, buf_slice(&target->body));
    buf_close(&records);
    buf_close(&change);
    buf_close(&manifest);
}

static void submit(struct target *target)
{
    struct buf record = {0};
    uint64_t index = 0;
    memset(buf_extend(&record, RECORD_HEADER_SIZE), 0, RECORD_HEADER_SIZE);
    buf_u64(&record, 0);
    const enum err err = replica_submit(target->replica, &record, false, 5, target->now, &index);
    CHECK(err == OK || err == ERR_NOT_LEADER || err == ERR_FULL);
    buf_close(&record);
}

static void step(struct target *target, struct reader *reader)
{
    switch (reader_u8(reader) % 8) {
    case 0: turn(target, reader_u8(reader)); break;
    case 1: raw_bytes(target, reader_bytes(reader, reader_u16(reader))); break;
    case 2: {
        const uint8_t type = reader_u8(reader);
        const uint64_t from = reader_u8(reader) % 4;
        const uint64_t size = reader_u16(reader);
        const struct slice bytes = reader_bytes(reader, size);
        if (type == 74) composed_records(target, from, bytes);
        if (type < WIRE_APPEND ||
            (type >= WIRE_FORWARD && type != WIRE_RECORDS_WANT && type != WIRE_RECORDS_GIVE)) {
            break;
        }
        framed(target, type, from, bytes);
        break;
    }
    case 3: {
        const uint8_t type = reader_u8(reader);
        composed(target, type, reader_u8(reader) % 4, reader);
        break;
    }
    case 4: submit(target); break;
    case 6: { /* From here on frames come in fragments, or whole again. */
        target->piece = reader_u8(reader);
        target->turn_at = reader_u8(reader);
        break;
    }
    case 7: {
        const uint32_t type = reader_u16(reader);
        const uint32_t size = reader_u16(reader);
        const uint32_t offset = reader_u16(reader);
        const uint32_t serial = reader_u8(reader);
        fragment(target, type, size, offset, serial, reader_bytes(reader, reader_u8(reader)));
        break;
    }
    default: (void)replica_read_request(target->replica); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct target target;
    struct reader reader = reader_of(slice_of(data, size));
    const struct peer_identity self = identity_of(1);
    CHECK(replica_self_test() == OK);
    memset(&target, 0, sizeof target);
    target.now = 1000;
    sim_disk_init(&target.disk, 1);
    peers_init(&target.peers, &self, CLUSTER, 0);
    CHECK(peers_add(&target.peers, 2, "node2", "host2:1") == OK);
    CHECK(peers_add(&target.peers, 3, "node3", "host3:1") == OK);
    open_state(&target);
    open_link(&target);
    turn(&target, 0);
    for (uint32_t i = 0; i < STEPS_MAX && reader.at < reader.end && !reader.bad; i++) {
        step(&target, &reader);
    }
    turn(&target, 200);
    close_damaged(&target);
    link_close(&target.link);
    close_state(&target);
    peers_close(&target.peers);
    sim_disk_close(&target.disk);
    buf_close(&target.body);
    return 0;
}
