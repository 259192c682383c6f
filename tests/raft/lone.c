#include "tests/raft/lone.h"

static struct buf taken;

static void welcome(struct lone *lone)
{
    lone->replica = lone->node->replica;
    for (uint32_t i = 0; i < lone->node->peers.count; i++) {
        lone->node->peers.list[i].is_connected = true;
    }
}

void lone_open(struct lone *lone, uint64_t bits_off)
{
    lone->cluster = cluster_make(3, 3, 77);
    lone->node = &lone->cluster->nodes[0];
    lone->node->guards = (uint32_t)(GUARD_ALL & ~bits_off);
    cluster_up(lone->cluster, 0);
    welcome(lone);
}

void lone_close(struct lone *lone)
{
    cluster_end(lone->cluster);
    buf_close(&taken);
}

void lone_restart(struct lone *lone)
{
    cluster_down(lone->cluster, 0, true);
    cluster_up(lone->cluster, 0);
    welcome(lone);
}

void lone_run(struct lone *lone, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        const uint64_t now = ++lone->cluster->now;
        sim_disk_turn(&lone->node->disk, now);
        EXPECT_EQ(replica_turn(lone->replica, now), OK);
    }
}

void lone_sync(struct lone *lone)
{
    EXPECT_EQ(store_flush_wait(lone->node->store), OK);
    EXPECT_EQ(replica_turn(lone->replica, lone->cluster->now), OK);
}

static void vote_for_it(struct lone *lone, uint64_t from)
{
    struct message vote;
    if (!lone_take(lone, from, WIRE_VOTE, &vote)) return;
    EXPECT_EQ(lone_give(lone, from,
                        &(struct message){.type = WIRE_VOTE_RESULT,
                                          .version = 2,
                                          .term = vote.term,
                                          .granted = true,
                                          .pre_vote = vote.pre_vote}),
              OK);
}

void lone_lead(struct lone *lone)
{
    for (uint32_t i = 0; i < 5000; i++) {
        if (replica_role(lone->replica) == REPLICA_LEADER) break;
        lone_run(lone, 1);
        vote_for_it(lone, 2);
    }
    EXPECT_EQ(replica_role(lone->replica), REPLICA_LEADER);
    lone_sync(lone);
}

enum err lone_give(struct lone *lone, uint64_t from, const struct message *message)
{
    struct buf body = {0};
    message_encode(message, &body);
    const struct wire_frame frame = {
        .type = message->type, .from = from, .to = 1, .body = buf_slice(&body)};
    const enum err err = replica_receive(lone->replica, &frame, lone->cluster->now);
    buf_close(&body);
    return err;
}

enum err lone_append(struct lone *lone, uint64_t from, uint64_t term, uint64_t prev_index,
                     uint64_t prev_term, uint64_t commit, const struct lone_entry *entries,
                     uint32_t count)
{
    struct buf records = {0};
    struct buf payload = {0};
    for (uint32_t i = 0; i < count; i++) {
        payload.size = 0;
        if (entries[i].change != NULL) guard_encode_configuration(entries[i].change, &payload);
        if (entries[i].type == RECORD_COMMAND) buf_u64(&payload, 0); /* no effects */
        record_encode(&(struct record){.index = prev_index + 1 + i,
                                       .term = entries[i].term,
                                       .type = entries[i].type,
                                       .payload = buf_slice(&payload)},
                      &records);
    }
    const struct message message = {
        .type = WIRE_APPEND,
        .term = term,
        .prev_index = prev_index,
        .prev_term = prev_term,
        .commit = commit,
        .count = count,
        .records = buf_slice(&records),
    };
    const enum err err = lone_give(lone, from, &message);
    buf_close(&records);
    buf_close(&payload);
    return err;
}

enum err lone_answer(struct lone *lone, uint64_t from, uint64_t rejected, uint64_t last_index)
{
    return lone_give(lone, from,
                     &(struct message){.type = WIRE_APPEND_RESULT,
                                       .version = 2,
                                       .term = replica_term(lone->replica),
                                       .rejected = rejected,
                                       .last_index = last_index});
}

bool lone_take(struct lone *lone, uint64_t to, uint8_t type, struct message *message)
{
    struct peer *peer = peers_find(&lone->node->peers, to);
    bool is_found = false;
    taken.size = 0;
    if (peer_queued(peer) == 0) return false;
    buf_append(&taken, peer->out.data + peer->out_start, peer_queued(peer));
    peer->out_start = peer->out.size;
    struct slice rest = buf_slice(&taken);
    while (rest.size > 0) {
        struct wire_frame frame;
        uint64_t size = 0;
        EXPECT_EQ(wire_decode(rest, &frame, &size), OK);
        if (frame.type == type) {
            EXPECT_EQ(message_decode(type, frame.body, message), OK);
            is_found = true;
        }
        rest = slice_of(rest.data + size, rest.size - size);
    }
    return is_found;
}

void lone_drop(struct lone *lone)
{
    struct message ignored;
    (void)lone_take(lone, 2, 0, &ignored);
    (void)lone_take(lone, 3, 0, &ignored);
}

void lone_configuration(struct guard_configuration *configuration, const enum guard_role *roles,
                        uint32_t count)
{
    static const char *const addresses[] = {"host0:7000", "host1:7000", "host2:7000", "host3:7000"};
    CHECK(count <= 4);
    configuration->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (roles[i] == GUARD_NO_MEMBER) continue;
        configuration->members[configuration->count++] = (struct guard_member){
            cluster_id(i), addresses[i], (uint8_t)roles[i]};
    }
}
