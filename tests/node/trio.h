/* trio.h - three nodes in one process over byte streams that a test can cut, swallow and hold, each end on its own. */
#ifndef KV_TESTS_NODE_TRIO_H
#define KV_TESTS_NODE_TRIO_H

#include "node/router.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define NODES 3

#define DIALS_MAX 64

/* The acceptor's end of a connection: the dialler's may be gone. */
struct far_end {
    struct link *link; /* NULL: closed */
    struct buf back;
};

/* The connections that one node dialled to another one, the newest of them last. */
struct pipe {
    bool is_up; /* as the dialler sees it */
    uint32_t dials;
    struct far_end ends[DIALS_MAX];
    bool is_held;      /* it is not dialled again */
    bool is_swallowed; /* what the dialler sends reaches nobody, and nobody notices */
    uint64_t rate;     /* bytes that it takes in a millisecond; 0: all */
    uint64_t room;     /* of those, what it still takes in this one */
    struct buf there;
};

struct member {
    struct trio *trio;
    struct config config;
    struct sim_disk disk;
    struct net net;
    struct core *core;
    struct fixture_client client;
    bool is_frozen;   /* the process does not run */
    uint64_t replies; /* FORWARD_REPLY frames that it sent */
    struct pipe to[NODES];
};

struct trio {
    struct member members[NODES];
    uint64_t now_ms;
    uint64_t closes; /* times that a core broke its own connection */
};

static inline struct pipe *pipe_of(struct member *from, uint64_t node_id)
{
    for (int to = 0; to < NODES; to++) {
        struct core *core = from->trio->members[to].core;
        if (core != NULL && core->identity.node_id == node_id) return &from->to[to];
    }
    return NULL;
}

static inline uint64_t trio_peer_send(void *context, uint64_t id, const uint8_t *data,
                                      uint64_t size)
{
    struct pipe *pipe = pipe_of(context, id);
    if (pipe == NULL || !pipe->is_up) return 0;
    struct wire_frame frame;
    uint64_t frame_size = 0;
    if (pipe->rate > 0) {
        if (size > pipe->room) size = pipe->room;
        pipe->room -= size;
    }
    for (uint64_t at = 0; at < size && pipe->rate == 0; at += frame_size) {
        CHECK(wire_decode(slice_of(data + at, size - at), &frame, &frame_size) == OK);
        if (frame.type == WIRE_FORWARD_REPLY) ((struct member *)context)->replies++;
    }
    if (!pipe->is_swallowed) buf_append(&pipe->there, data, size);
    return size;
}

static inline struct far_end *newest(struct pipe *pipe)
{
    CHECK(pipe->dials > 0);
    return &pipe->ends[pipe->dials - 1];
}

/* The dialler's end breaks. */
static inline void cut_near(struct trio *trio, int from, int to)
{
    struct pipe *pipe = &trio->members[from].to[to];
    if (!pipe->is_up) return;
    pipe->is_up = false;
    pipe->there.size = 0;
    core_peer_down(trio->members[from].core, trio->members[to].core->identity.node_id);
}

/* The acceptor's end breaks. */
static inline void cut_far(struct trio *trio, int from, int to)
{
    struct far_end *end = newest(&trio->members[from].to[to]);
    struct link *link = end->link;
    end->link = NULL;
    if (link != NULL) core_link_closed(trio->members[to].core, link);
}

static inline void trio_peer_close(void *context, uint64_t id)
{
    struct member *member = context;
    struct pipe *pipe = pipe_of(member, id);
    if (pipe == NULL || !pipe->is_up) return;
    member->trio->closes++;
    pipe->is_up = false;
    pipe->is_swallowed = false;
    pipe->there.size = 0;
    core_peer_down(member->core, id);
}

static inline uint64_t trio_link_send(void *context, void *connection, const uint8_t *data,
                                      uint64_t size)
{
    (void)context;
    buf_append(&((struct far_end *)connection)->back, data, size);
    return size;
}

static inline void trio_link_close(void *context, void *connection)
{
    (void)context;
    ((struct far_end *)connection)->link = NULL;
}

static inline void dial(struct trio *trio, int from, int to)
{
    struct pipe *pipe = &trio->members[from].to[to];
    if (pipe->is_up || pipe->is_held || trio->members[to].is_frozen) return;
    pipe->there.size = 0;
    pipe->is_up = true;
    CHECK(pipe->dials < DIALS_MAX);
    struct far_end *end = &pipe->ends[pipe->dials++];
    end->link = core_link_open(trio->members[to].core, end);
    core_peer_up(trio->members[from].core, trio->members[to].core->identity.node_id);
}

static inline void carry(struct trio *trio, int from, int to)
{
    struct pipe *pipe = &trio->members[from].to[to];
    struct buf bytes = {0};
    if (!pipe->is_up) return;
    struct far_end *end = newest(pipe);
    if (end->link != NULL && pipe->there.size > 0 && !trio->members[to].is_frozen) {
        buf_append(&bytes, pipe->there.data, pipe->there.size);
        pipe->there.size = 0;
        core_link_bytes(trio->members[to].core, end->link, bytes.data, bytes.size);
    }
    bytes.size = 0;
    if (end->back.size > 0 && !trio->members[from].is_frozen) {
        buf_append(&bytes, end->back.data, end->back.size);
        end->back.size = 0;
        core_peer_bytes(trio->members[from].core, trio->members[to].core->identity.node_id,
                        bytes.data, bytes.size);
    }
    buf_close(&bytes);
}

static inline void trio_run(struct trio *trio, uint64_t ms)
{
    const uint64_t end = trio->now_ms + ms;
    while (trio->now_ms < end) {
        trio->now_ms++;
        for (int from = 0; from < NODES; from++) {
            for (int to = 0; to < NODES; to++) {
                trio->members[from].to[to].room = trio->members[from].to[to].rate;
                if (from == to || trio->members[from].is_frozen) continue;
                if (trio->now_ms % 20 == 0) dial(trio, from, to);
            }
        }
        for (int from = 0; from < NODES; from++) {
            for (int to = 0; to < NODES; to++) {
                if (from != to) carry(trio, from, to);
            }
        }
        for (int at = 0; at < NODES; at++) {
            struct member *member = &trio->members[at];
            if (member->is_frozen) continue;
            (void)sim_disk_turn(&member->disk, trio->now_ms);
            core_turn(member->core, trio->now_ms, 1700000000000 + trio->now_ms);
            core_check(member->core);
        }
    }
}

/* Node 0 leads at first; after it node 1, whose patience is the shorter one. */
static inline void trio_open(struct trio *trio)
{
    static const char *const names[NODES] = {"a", "b", "c"};
    static const char *const timeouts[NODES] = {"200", "1000", "3000"};
    char message[512] = "";
    int code = 0;
    *trio = (struct trio){.now_ms = 1000};
    for (int at = 0; at < NODES; at++) {
        struct member *member = &trio->members[at];
        member->trio = trio;
        member->client.take_max = UINT64_MAX;
        sim_disk_init(&member->disk, (uint64_t)at + 1);
        config_defaults(&member->config, names[at]);
        CHECK(config_set(&member->config, "cluster",
                         "a=127.0.0.1:7101,b=127.0.0.1:7102,c=127.0.0.1:7103", message) == OK);
        CHECK(config_set(&member->config, "heartbeat", "50", message) == OK);
        CHECK(config_set(&member->config, "election-timeout", timeouts[at], message) == OK);
        CHECK(config_set(&member->config, "segment-size", "1mb", message) == OK);
        CHECK(config_set(&member->config, "max-value", "64kb", message) == OK);
        CHECK(config_finish(&member->config, message) == OK);
        member->net = (struct net){.context = member,
                                   .client_send = fixture_send,
                                   .client_pause = fixture_pause,
                                   .client_close = fixture_close_client,
                                   .peer_send = trio_peer_send,
                                   .peer_close = trio_peer_close,
                                   .link_send = trio_link_send,
                                   .link_close = trio_link_close,
                                   .log = fixture_log};
        member->core = core_create(&member->config, &member->disk.disk, &member->net,
                                   (uint64_t)at + 1);
        CHECK(core_start(member->core, trio->now_ms, 1700000000000, message, &code) == OK);
    }
    for (int i = 0; i < 100 && !core_serving(trio->members[1].core, NULL); i++) trio_run(trio, 50);
    trio_run(trio, 200);
    CHECK(shard_ready(&trio->members[0].core->shard));
    CHECK(core_serving(trio->members[1].core, NULL));
}

static inline void trio_close(struct trio *trio)
{
    for (int at = 0; at < NODES; at++) {
        struct member *member = &trio->members[at];
        core_destroy(member->core);
        sim_disk_close(&member->disk);
        buf_close(&member->client.out);
        for (int to = 0; to < NODES; to++) {
            buf_close(&member->to[to].there);
            for (uint32_t i = 0; i < DIALS_MAX; i++) buf_close(&member->to[to].ends[i].back);
        }
    }
}

static inline void say_bytes(struct trio *trio, int at, const void *bytes, uint64_t size)
{
    struct member *member = &trio->members[at];
    if (member->client.session == NULL) {
        member->client.session = core_client_open(member->core, &member->client, CORE_FACE_CLIENT,
                                                  "127.0.0.1:1");
    }
    core_client_bytes(member->core, member->client.session, bytes, size);
}

static inline void say(struct trio *trio, int at, const char *text)
{
    say_bytes(trio, at, text, strlen(text));
}

/* Everything that the client of @at was answered since the last time. */
static inline const char *heard(struct trio *trio, int at)
{
    struct buf *out = &trio->members[at].client.out;
    buf_u8(out, 0);
    out->size = 0;
    return (const char *)out->data;
}

/* What the client of @at is answered within @ms. */
static inline const char *trio_ask(struct trio *trio, int at, const char *text, uint64_t ms)
{
    say(trio, at, text);
    trio_run(trio, ms);
    return heard(trio, at);
}

/* Node 0 stops, and the connections between it and the others break. */
static inline void trio_stop_first(struct trio *trio)
{
    trio->members[0].is_frozen = true;
    for (int to = 1; to < NODES; to++) {
        cut_near(trio, 0, to);
        cut_far(trio, 0, to);
        cut_near(trio, to, 0);
        cut_far(trio, to, 0);
    }
}

/* Once node 0 has got @count commands of node 1 its end of the connection breaks: what it answers is lost, and node 1
 * sees a whole connection until it is dialled again. */
static inline void trio_lose_answers(struct trio *trio, uint64_t count)
{
    for (int i = 0; i < 20 && trio->members[0].core->stats.forwarded_in_total < count; i++) {
        trio_run(trio, 1);
    }
    cut_near(trio, 0, 1);
    trio->members[0].to[1].is_held = true;
    trio_run(trio, 60);
    trio->members[0].to[1].is_held = false;
    trio_run(trio, 300);
}

/* Node 1 has become the leader. */
static inline bool trio_second_leads(struct trio *trio)
{
    for (int i = 0; i < 600 && !shard_ready(&trio->members[1].core->shard); i++) trio_run(trio, 20);
    return shard_ready(&trio->members[1].core->shard);
}

#endif
