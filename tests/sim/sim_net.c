#include "tests/sim/sim_net.h"

#include <stdio.h>
#include <string.h>

#include "raft/wire.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "tests/sim/sim.h"

#define REDIAL_MIN (20u * SIM_MS)
#define REDIAL_MAX (250u * SIM_MS)
#define LOST_LATE_MAX (2500u * SIM_MS) /* a half-open connection is noticed by then */

static uint32_t target_of(const struct sim_conn *conn, uint32_t end)
{
    return conn->number << 1 | end;
}

static bool end_is_node(const struct sim_conn *conn, uint32_t end)
{
    return end == 1 || conn->kind == SIM_CONN_PEER;
}

static struct sim_node *end_node(struct sim *sim, const struct sim_conn *conn, uint32_t end)
{
    return &sim->nodes[end == 1 ? conn->to : conn->from];
}

static void pipe_clear(struct sim_pipe *pipe)
{
    pipe->data.size = 0;
    pipe->start = 0;
    pipe->chunk_first = 0;
    pipe->chunk_count = 0;
    pipe->frame.size = 0;
    pipe->late.size = 0;
}

static void pipe_close(struct sim_pipe *pipe)
{
    buf_close(&pipe->data);
    buf_close(&pipe->frame);
    buf_close(&pipe->late);
    mem_free(pipe->chunks);
}

static struct sim_conn *conn_new(struct sim *sim, enum sim_conn_kind kind, uint32_t from,
                                 uint32_t to)
{
    for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
        struct sim_conn *conn = &sim->net.conns[i];
        if (conn->kind != SIM_CONN_FREE) continue;
        conn->kind = kind;
        conn->number = i;
        conn->generation++;
        conn->from = from;
        conn->to = to;
        conn->is_open[0] = true;
        conn->is_open[1] = true;
        conn->is_paused = false;
        conn->is_reset = false;
        conn->is_broken = false;
        conn->handle = NULL;
        for (uint32_t end = 0; end < 2; end++) {
            struct sim_pipe *pipe = &conn->pipes[end];
            pipe_clear(pipe);
            pipe->due_last = sim->now;
            pipe->is_scheduled = false;
            pipe->is_clogged = false;
            pipe->is_ending = false;
        }
        return conn;
    }
    return NULL;
}

static void conn_free_if_done(struct sim_conn *conn)
{
    if (conn->is_open[0] || conn->is_open[1]) return;
    conn->kind = SIM_CONN_FREE;
    conn->handle = NULL;
}

static uint64_t delay_of(struct sim *sim)
{
    const struct sim_net *net = &sim->net;
    uint64_t delay = net->delay_min + sim_below(sim, net->delay_max - net->delay_min + 1);
    if (sim_chance(sim, 5)) delay += sim_below(sim, net->delay_rare + 1);
    return delay;
}

static void pipe_schedule_in(struct sim *sim, struct sim_conn *conn, uint32_t end, uint64_t wait)
{
    struct sim_pipe *pipe = &conn->pipes[end];
    const bool is_empty = pipe->chunk_first == pipe->chunk_count;
    if (pipe->is_scheduled || (is_empty && !pipe->is_ending)) return;
    if (conn->is_reset) return; /* Each end learns of it at a time of its own. */
    uint64_t due = is_empty ? sim->now + delay_of(sim) : pipe->chunks[pipe->chunk_first].due;
    if (due < sim->now + wait) due = sim->now + wait;
    pipe->is_scheduled = true;
    sim_schedule(sim, due, SIM_EVENT_ARRIVE, target_of(conn, end), conn->generation);
}

static void pipe_schedule(struct sim *sim, struct sim_conn *conn, uint32_t end)
{
    pipe_schedule_in(sim, conn, end, 0);
}

static void pipe_add_chunk(struct sim *sim, struct sim_pipe *pipe, uint64_t size)
{
    if (pipe->chunk_first == pipe->chunk_count) {
        pipe->chunk_first = 0;
        pipe->chunk_count = 0;
    }
    if (pipe->chunk_count == pipe->chunk_capacity) {
        pipe->chunk_capacity = pipe->chunk_capacity * 2 + 16;
        pipe->chunks = mem_resize(pipe->chunks, pipe->chunk_capacity * sizeof *pipe->chunks);
    }
    uint64_t due = sim->now + delay_of(sim);
    if (due < pipe->due_last) due = pipe->due_last;
    pipe->due_last = due;
    pipe->chunks[pipe->chunk_count++] = (struct sim_chunk){due, size};
}

/* Puts @data under way in one piece or several. */
static void pipe_push(struct sim *sim, struct sim_pipe *pipe, struct slice data)
{
    uint64_t rest = data.size;
    if (rest == 0) return;
    if (pipe->start > 0 && pipe->start == pipe->data.size) {
        pipe->data.size = 0;
        pipe->start = 0;
    }
    buf_append(&pipe->data, data.data, data.size);
    if (sim_chance(sim, sim->net.cut_share)) {
        static const uint32_t scales[] = {1, 8, 60, 500, 5000};
        const uint32_t scale = scales[sim_below(sim, sizeof scales / sizeof scales[0])];
        for (uint32_t i = 0; i < 6 && rest > 1; i++) {
            uint64_t size = 1 + sim_below(sim, scale);
            if (size >= rest) size = rest - 1;
            pipe_add_chunk(sim, pipe, size);
            rest -= size;
        }
    }
    pipe_add_chunk(sim, pipe, rest);
}

/* One whole frame between peers meets its fate. */
static void pipe_push_frame(struct sim *sim, struct sim_pipe *pipe, struct slice frame)
{
    struct sim_net *net = &sim->net;
    const uint8_t type = frame.data[6];
    sim->counts.fragments += type == WIRE_FRAGMENT ? 1 : 0;
    const bool may_suffer = type >= WIRE_APPEND && type < WIRE_FORWARD;
    if (may_suffer && sim_chance(sim, net->drop_share)) {
        net->frames_changed++;
        return;
    }
    if (may_suffer && pipe->late.size == 0 && sim_chance(sim, net->swap_share)) {
        buf_append(&pipe->late, frame.data, frame.size);
        net->frames_changed++;
        return;
    }
    pipe_push(sim, pipe, frame);
    if (may_suffer && sim_chance(sim, net->repeat_share)) {
        pipe_push(sim, pipe, frame);
        net->frames_changed++;
    }
    if (pipe->late.size > 0 && sim_chance(sim, 500)) {
        pipe_push(sim, pipe, buf_slice(&pipe->late));
        pipe->late.size = 0;
    }
}

static void pipe_push_peer(struct sim *sim, struct sim_pipe *pipe, struct slice data)
{
    buf_append(&pipe->frame, data.data, data.size);
    uint64_t at = 0;
    while (pipe->frame.size - at >= WIRE_HEADER_SIZE) {
        const uint8_t *start = pipe->frame.data + at;
        const uint64_t size = WIRE_HEADER_SIZE + (uint64_t)get_u32(start + 8);
        CHECK(get_u32(start) == WIRE_MAGIC); /* What a node sends is framed. */
        if (pipe->frame.size - at < size) break;
        pipe_push_frame(sim, pipe, slice_of(start, size));
        at += size;
    }
    if (at > 0) buf_shift(&pipe->frame, at);
}

uint64_t sim_net_send(struct sim *sim, struct sim_conn *conn, uint32_t end, const uint8_t *data,
                      uint64_t size)
{
    struct sim_pipe *pipe = &conn->pipes[end];
    CHECK(conn->kind != SIM_CONN_FREE);
    CHECK(conn->is_open[end]);
    if (conn->is_reset || !conn->is_open[1 - end]) return size; /* Nobody will read it. */
    const uint64_t used = pipe->data.size - pipe->start;
    const uint64_t room = used < sim->net.window ? sim->net.window - used : 0;
    const uint64_t taken = size < room ? size : room;
    if (conn->kind == SIM_CONN_PEER && end == 0) {
        pipe_push_peer(sim, pipe, slice_of(data, taken));
    } else {
        pipe_push(sim, pipe, slice_of(data, taken));
    }
    if (taken < size) pipe->is_clogged = true;
    pipe_schedule(sim, conn, end);
    return taken;
}

static void redial(struct sim *sim, uint32_t from, uint32_t to)
{
    const uint64_t pause = REDIAL_MIN + sim_below(sim, REDIAL_MAX - REDIAL_MIN);
    sim_schedule(sim, sim->now + pause, SIM_EVENT_DIAL, from * SIM_NODES_MAX + to,
                 sim->nodes[from].life);
}

void sim_net_end(struct sim *sim, struct sim_conn *conn, uint32_t end)
{
    CHECK(conn->is_open[end]);
    conn->is_open[end] = false;
    conn->pipes[end].is_ending = true;
    if (end == 0 && conn->kind == SIM_CONN_PEER) {
        if (sim->net.dialled[conn->from][conn->to] == conn) {
            sim->net.dialled[conn->from][conn->to] = NULL;
        }
        redial(sim, conn->from, conn->to);
    }
    pipe_schedule(sim, conn, end);
    conn_free_if_done(conn);
}

/* ---- the core's side -------------------------------------------------------------------------------- */

static uint32_t number_of_id(const struct sim_node *node, uint64_t node_id)
{
    for (uint32_t i = 0; i < core_peer_count(node->core); i++) {
        uint64_t id = 0;
        const char *address = NULL;
        core_peer_get(node->core, i, &id, &address);
        if (id == node_id) return (uint32_t)(address[1] - '1'); /* "n1:1" is node 0. */
    }
    return UINT32_MAX;
}

static uint64_t id_of_number(const struct sim_node *node, uint32_t number)
{
    for (uint32_t i = 0; i < core_peer_count(node->core); i++) {
        uint64_t id = 0;
        const char *address = NULL;
        core_peer_get(node->core, i, &id, &address);
        if ((uint32_t)(address[1] - '1') == number) return id;
    }
    return 0;
}

/* What a process says when its disk has stopped for good was never said. */
static bool is_mute(const struct sim_node *node)
{
    return node->is_dying || sim_disk_stopped(&node->disk);
}

static uint64_t do_conn_send(void *context, void *connection, const uint8_t *data, uint64_t size)
{
    struct sim_node *node = context;
    if (is_mute(node)) return size;
    return sim_net_send(node->sim, connection, 1, data, size);
}

static void do_pause(void *context, void *connection, bool paused)
{
    const struct sim_node *node = context;
    struct sim_conn *conn = connection;
    if (node->is_dying) return;
    conn->is_paused = paused;
    if (!paused) pipe_schedule(node->sim, conn, 0);
}

static void do_conn_close(void *context, void *connection)
{
    const struct sim_node *node = context;
    struct sim_conn *conn = connection;
    if (node->is_dying) return;
    conn->handle = NULL;
    sim_net_end(node->sim, conn, 1);
}

static struct sim_conn *dialled(const struct sim_node *node, uint64_t node_id)
{
    if (node->is_dying) return NULL;
    const uint32_t to = number_of_id(node, node_id);
    CHECK(to < SIM_NODES_MAX);
    return node->sim->net.dialled[node->number][to];
}

static uint64_t do_peer_send(void *context, uint64_t node_id, const uint8_t *data, uint64_t size)
{
    struct sim_node *node = context;
    struct sim_conn *conn = dialled(node, node_id);
    if (conn == NULL) return 0;
    if (conn->is_broken || is_mute(node)) return size;
    return sim_net_send(node->sim, conn, 0, data, size);
}

static void do_peer_close(void *context, uint64_t node_id)
{
    struct sim_node *node = context;
    struct sim_conn *conn = dialled(node, node_id);
    if (conn == NULL || conn->is_broken) return;
    /* As the host: the core is told that the connection is down, but not within this call. */
    conn->is_broken = true;
    sim_schedule(node->sim, node->sim->now, SIM_EVENT_LOST, target_of(conn, 0), conn->generation);
}

static void do_log(void *context, int level, const char *line)
{
    struct sim_node *node = context;
    if (strstr(line, "torn tail") != NULL) node->sim->counts.torn_tails++;
    if (strstr(line, "state reopened") != NULL) {
        /* An install, or one that was given up: the state begins again at its base, as after a start. */
        node->sim->counts.reopens++;
        node->durable.is_reopened = true;
    }
    sim_note(node->sim, "n%u log %d: %s", node->number + 1, level, line);
}

struct net sim_net_of(struct sim_node *node)
{
    return (struct net){.context = node,
                        .client_send = do_conn_send,
                        .client_pause = do_pause,
                        .client_close = do_conn_close,
                        .peer_send = do_peer_send,
                        .peer_close = do_peer_close,
                        .link_send = do_conn_send,
                        .link_close = do_conn_close,
                        .log = do_log};
}

/* ---- what the ends see ------------------------------------------------------------------------------ */

static void give_bytes(struct sim *sim, struct sim_conn *conn, uint32_t end, struct slice bytes)
{
    if (!end_is_node(conn, end)) {
        sim_client_bytes(sim, conn->from, bytes);
        return;
    }
    struct sim_node *node = end_node(sim, conn, end);
    if (conn->kind == SIM_CONN_CLIENT) {
        core_client_bytes(node->core, conn->handle, bytes.data, bytes.size);
    } else if (end == 1) {
        core_link_bytes(node->core, conn->handle, bytes.data, bytes.size);
    } else if (!conn->is_broken) {
        core_peer_bytes(node->core, id_of_number(node, conn->to), bytes.data, bytes.size);
    }
    sim_wake(sim, node->number);
}

static void give_room(struct sim *sim, struct sim_conn *conn, uint32_t end)
{
    if (!end_is_node(conn, end)) return; /* Clients ask little and are never clogged. */
    struct sim_node *node = end_node(sim, conn, end);
    if (conn->kind == SIM_CONN_CLIENT) {
        core_client_writable(node->core, conn->handle);
    } else if (end == 0) {
        core_peer_writable(node->core, id_of_number(node, conn->to));
    }
    sim_wake(sim, node->number);
}

void sim_net_lost(struct sim *sim, struct sim_conn *conn, uint32_t end)
{
    if (!conn->is_open[end]) return;
    if (!end_is_node(conn, end)) {
        conn->is_open[end] = false;
        sim_client_lost(sim, conn->from);
    } else {
        struct sim_node *node = end_node(sim, conn, end);
        if (sim_node_frozen(node)) {
            sim_schedule(sim, node->frozen_until + 1, SIM_EVENT_LOST, target_of(conn, end),
                         conn->generation);
            return;
        }
        void *handle = conn->handle;
        conn->is_open[end] = false;
        if (conn->kind == SIM_CONN_CLIENT) {
            core_client_closed(node->core, handle);
        } else if (end == 1) {
            core_link_closed(node->core, handle);
        } else {
            sim->net.dialled[conn->from][conn->to] = NULL;
            redial(sim, conn->from, conn->to);
            core_peer_down(node->core, id_of_number(node, conn->to));
        }
        sim_wake(sim, node->number);
    }
    conn->pipes[end].is_ending = true;
    pipe_schedule(sim, conn, end);
    conn_free_if_done(conn);
}

void sim_net_arrive(struct sim *sim, struct sim_conn *conn, uint32_t end)
{
    struct sim_pipe *pipe = &conn->pipes[end];
    const uint32_t reader = 1 - end;
    const uint32_t generation = conn->generation;
    pipe->is_scheduled = false;
    if (!conn->is_open[reader]) {
        pipe_clear(pipe);
        return;
    }
    if (conn->kind == SIM_CONN_PEER) {
        const uint32_t writer_node = end == 0 ? conn->from : conn->to;
        const uint32_t reader_node = end == 0 ? conn->to : conn->from;
        if (sim->net.is_blocked[writer_node][reader_node]) return;
    }
    if (end_is_node(conn, reader) && sim_node_frozen(end_node(sim, conn, reader))) return;
    if (pipe->chunk_first == pipe->chunk_count) {
        if (pipe->is_ending) sim_net_lost(sim, conn, reader);
        return;
    }
    if (reader == 1 && conn->is_paused) return;
    const uint64_t size = pipe->chunks[pipe->chunk_first++].size;
    uint8_t *bytes = mem_copy(pipe->data.data + pipe->start, size);
    pipe->start += size;
    sim->net.bytes_delivered += size;
    sim_trace(sim, hash64(bytes, size));
    give_bytes(sim, conn, reader, slice_of(bytes, size));
    mem_free(bytes);
    if (conn->generation != generation || conn->kind == SIM_CONN_FREE) return;
    if (pipe->is_clogged && conn->is_open[end]) {
        pipe->is_clogged = false;
        give_room(sim, conn, end);
    }
    pipe_schedule(sim, conn, end);
}

/* ---- dialling --------------------------------------------------------------------------------------- */

struct sim_conn *sim_net_dial_client(struct sim *sim, uint32_t client, uint32_t node)
{
    struct sim_node *target = &sim->nodes[node];
    char address[32];
    if (target->core == NULL || sim_node_frozen(target)) return NULL;
    struct sim_conn *conn = conn_new(sim, SIM_CONN_CLIENT, client, node);
    if (conn == NULL) return NULL;
    (void)snprintf(address, sizeof address, "client-%u", client);
    sim->net.dials++;
    conn->handle = core_client_open(target->core, conn, CORE_FACE_CLIENT, address);
    sim_wake(sim, node);
    if (conn->handle != NULL) return conn;
    sim_net_end(sim, conn, 1);
    sim_net_end(sim, conn, 0);
    return NULL;
}

void sim_net_dial_peers(struct sim *sim, uint32_t node)
{
    for (uint32_t to = 0; to < sim->node_count; to++) {
        if (to != node) redial(sim, node, to);
    }
}

void sim_net_dial(struct sim *sim, uint32_t from, uint32_t to)
{
    struct sim_net *net = &sim->net;
    struct sim_node *dialler = &sim->nodes[from];
    struct sim_node *target = &sim->nodes[to];
    if (net->dialled[from][to] != NULL || dialler->core == NULL) return;
    const bool is_reachable = target->core != NULL && !sim_node_frozen(target) &&
                              !sim_node_frozen(dialler) && !net->is_blocked[from][to] &&
                              !net->is_blocked[to][from] && id_of_number(dialler, to) != 0;
    struct sim_conn *conn = is_reachable ? conn_new(sim, SIM_CONN_PEER, from, to) : NULL;
    if (conn == NULL) {
        redial(sim, from, to);
        return;
    }
    net->dials++;
    conn->handle = core_link_open(target->core, conn);
    sim_wake(sim, to);
    if (conn->handle == NULL) {
        conn->is_open[1] = false;
        sim_net_end(sim, conn, 0);
        return;
    }
    net->dialled[from][to] = conn;
    core_peer_up(dialler->core, id_of_number(dialler, to));
    sim_wake(sim, from);
}

/* ---- faults ----------------------------------------------------------------------------------------- */

static void lose(struct sim *sim, struct sim_conn *conn, uint32_t end, uint64_t within)
{
    if (!conn->is_open[end]) return;
    sim_schedule(sim, sim->now + 1 + sim_below(sim, within), SIM_EVENT_LOST, target_of(conn, end),
                 conn->generation);
}

void sim_net_reset(struct sim *sim, struct sim_conn *conn)
{
    conn->is_reset = true;
    sim->net.resets++;
    pipe_clear(&conn->pipes[0]);
    pipe_clear(&conn->pipes[1]);
    const uint32_t first = (uint32_t)sim_below(sim, 2);
    lose(sim, conn, first, 5 * SIM_MS);
    lose(sim, conn, 1 - first, sim_chance(sim, 300) ? LOST_LATE_MAX : 5 * SIM_MS);
}

void sim_net_node_down(struct sim *sim, uint32_t node, bool power)
{
    for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
        struct sim_conn *conn = &sim->net.conns[i];
        if (conn->kind == SIM_CONN_FREE) continue;
        for (uint32_t end = 0; end < 2; end++) {
            if (!end_is_node(conn, end) || end_node(sim, conn, end)->number != node) continue;
            conn->is_open[end] = false;
            if (conn->kind == SIM_CONN_PEER && end == 0 &&
                sim->net.dialled[node][conn->to] == conn) {
                sim->net.dialled[node][conn->to] = NULL;
            }
            conn->pipes[end].is_ending = true;
            /* A killed process leaves its socket buffers to the kernel, a dark machine does not. */
            if (power || sim_chance(sim, 300)) {
                conn->is_reset = true;
                pipe_clear(&conn->pipes[0]);
                pipe_clear(&conn->pipes[1]);
                lose(sim, conn, 1 - end, power ? LOST_LATE_MAX : 5 * SIM_MS);
            } else {
                pipe_schedule(sim, conn, end);
            }
        }
        conn_free_if_done(conn);
    }
}

void sim_net_block(struct sim *sim, uint32_t from, uint32_t to)
{
    sim->net.is_blocked[from][to] = true;
    for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
        struct sim_conn *conn = &sim->net.conns[i];
        if (conn->kind != SIM_CONN_PEER || !sim_chance(sim, 300)) continue;
        const bool is_hit = (conn->from == from && conn->to == to) ||
                            (conn->from == to && conn->to == from);
        if (is_hit) sim_net_reset(sim, conn);
    }
}

void sim_net_kick(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
        struct sim_conn *conn = &sim->net.conns[i];
        if (conn->kind == SIM_CONN_FREE) continue;
        /* Which of the connections is read first is anybody's guess. */
        pipe_schedule_in(sim, conn, 0, sim_below(sim, 2 * SIM_MS));
        pipe_schedule_in(sim, conn, 1, sim_below(sim, 2 * SIM_MS));
    }
}

void sim_net_heal(struct sim *sim)
{
    memset(sim->net.is_blocked, 0, sizeof sim->net.is_blocked);
    sim_net_kick(sim);
}

/* ---- life ------------------------------------------------------------------------------------------- */

void sim_net_init(struct sim *sim)
{
    struct sim_net *net = &sim->net;
    memset(net, 0, sizeof *net);
    net->delay_min = 100;
    net->delay_max = 1000;
    net->delay_rare = 20 * SIM_MS;
    net->window = 256 * 1024;
    net->cut_share = 100;
}

void sim_net_close(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
        pipe_close(&sim->net.conns[i].pipes[0]);
        pipe_close(&sim->net.conns[i].pipes[1]);
    }
}
