#include "node/router.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_lock.h"
#include "node/cmd_txn.h"
#include "node/txn.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"

#define RETRY_MS 10u
#define PATIENCE_ELECTIONS 5u         /* election timeouts that the leader may take for an answer */
#define CREDIT_STEP_SIZE (256u * KIB) /* what makes a credit worth a frame */
#define FRAME_SIZE_MAX                                                                             \
    (256u * KIB)                /* requests or replies in one frame, but for a single bigger one */
#define REPLIES_COUNT_MAX 2048u /* in one frame */
#define REPLY_HEAD_SIZE 5u
#define PATIENCE_MS_PER_MIB                                                                        \
    1000u /* more of it for big requests: they travel, and are written, for a while */
#define UNCERTAIN_TEXT                                                                             \
    "UNCERTAIN the connection to the leader was lost, the write may or may not have happened"
#define TRY_AGAIN_TEXT                                                                             \
    "TRYAGAIN the connection to the leader was lost: this read was not repeated, since a write "   \
    "behind it may have happened"

STATIC_CHECK(FRAME_SIZE_MAX + REPLIES_COUNT_MAX * REPLY_HEAD_SIZE + 1024 <= PEER_WHOLE_SIZE_MAX,
             "but for single big ones, requests and replies travel in whole frames");

enum reply_status { REPLY_DONE = 0, REPLY_MOVED = 1 };

/* What is answered without the leader, and the names that stand for it in a session's input: no client means them. */
static const struct known {
    const char *name;
    const char *text;
} known_answers[] = {
    [SESSION_ASK] = {"", ""},
    [SESSION_UNCERTAIN] = {"\r\nUNCERTAIN", UNCERTAIN_TEXT},
    [SESSION_TRY_AGAIN] = {"\r\nTRYAGAIN", TRY_AGAIN_TEXT},
    [SESSION_TOO_BIG] = {"\r\nTOOBIG", ROUTER_TOO_BIG_TEXT},
};
#define KNOWN_COUNT ((uint32_t)(sizeof known_answers / sizeof known_answers[0]))

const char *router_known_answer(struct slice name)
{
    if (name.size == 0 || name.data[0] != '\r') return NULL;
    for (uint32_t i = SESSION_ASK + 1; i < KNOWN_COUNT; i++) {
        if (slice_equal(name, slice_text(known_answers[i].name))) return known_answers[i].text;
    }
    return NULL;
}

static void release_held(struct core *core);

/* ---- origin: sending ----------------------------------------------------------------------------------- */

/* Is a big request of @session, the last that was sent, just leaving for its leader? */
static bool is_leaving(struct core *core, const struct session *session)
{
    struct peer *peer = peers_find(&core->peers, session->forward_node);
    return peer != NULL && fragment_token(peer_lane(peer, WIRE_FORWARD)) == session->id;
}

/* Takes that request back: the leader never sees it. */
static bool recall(struct core *core, const struct session *session)
{
    if (!is_leaving(core, session)) return false;
    peer_lane_drop(&core->peers, peers_find(&core->peers, session->forward_node), WIRE_FORWARD);
    return true;
}

static void begin_epoch(struct core *core, struct session *session, uint64_t node)
{
    (void)recall(core, session);
    /* The former leader keeps a proxy for the session until it is told, or loses us. */
    if (session->forward_node != node) router_session_closed(core, session);
    session->forward_node = node;
    session->forward_losses = core->forward_losses;
    session->forward_lost_ms = 0;
    session->retry_ms = 0;
    session->forward_epoch++;
    session->forward_number = 0;
    session->forward_answered = 0;
    session->forward_bytes = 0;
    session->forward_credit = 0;
}

bool router_forward(struct core *core, struct session *session, uint64_t node, struct slice request,
                    const struct command *command, bool is_write)
{
    if (session->forward_count > 0 && session->forward_node != node) {
        return false; /* First the answers of the former leader, or its loss. */
    }
    if (session->forward_count == 0) {
        /* As long as nothing broke the leader still knows the session of the last epoch. */
        if (session->forward_node != node || session->forward_losses != core->forward_losses) {
            begin_epoch(core, session, node);
        }
        session->forward_lost_ms = 0;
        CHECK(list_empty(&session->waiting));
        list_append(&core->forwarding, &session->waiting);
    }
    struct session_forward *forward = session_add_forward(session, request, is_write, SESSION_ASK);
    forward->is_watch = command->function == cmd_watch;
    forward->is_exec = command->function == cmd_exec_parts;
    forward->is_patient = (command->flags & CMD_BLOCKS) != 0;
    forward->is_again = command->function == cmd_kv_lock;
    core->stats.forwarded_total++;
    return true;
}

static struct session_forward *forward_at(struct session *session, uint32_t at)
{
    return &session->forwards[(session->forward_first + at) & (session->forward_capacity - 1)];
}

/* The first requests of @session that are not sent yet: how many fit into a frame, but one in any case. */
static uint32_t sendable(struct session *session, uint64_t *offset, uint64_t *size)
{
    const uint32_t first = session->forward_count - session->forward_unsent;
    uint32_t count = 0;
    *offset = session->forwarded_start;
    *size = 0;
    for (uint32_t i = 0; i < first; i++) *offset += forward_at(session, i)->size;
    while (count < session->forward_unsent) {
        const struct session_forward *forward = forward_at(session, first + count);
        if (forward->answer != SESSION_ASK) break; /* It gets its answer here. */
        if (count > 0 && *size + forward->size > FRAME_SIZE_MAX) break;
        *size += forward->size;
        count++;
    }
    return count;
}

static void write_forward(const struct session *session, uint32_t count, struct buf *out)
{
    buf_u64(out, session->id);
    buf_u32(out, session->forward_epoch);
    buf_u64(out, session->forward_number);
    buf_u32(out, count);
    buf_u8(out, session->protocol);
}

/* A request that is too big for a whole frame. Its bytes are fetched when they leave; until it is answered they stay
 * where they are. */
static bool send_big(struct core *core, const struct session *session, struct peer *peer,
                     uint64_t size)
{
    struct buf head = {0};
    write_forward(session, 1, &head);
    const bool is_sent = peer_send_asked(&core->peers, peer, WIRE_FORWARD, buf_slice(&head), size,
                                         session->id);
    buf_close(&head);
    return is_sent;
}

static bool send_small(struct core *core, const struct session *session, struct peer *peer,
                       uint32_t count, struct slice requests)
{
    uint64_t start = 0;
    struct buf *out = peer_frame_begin(&core->peers, peer, WIRE_FORWARD, &start);
    if (out == NULL) return false;
    write_forward(session, count, out);
    buf_append(out, requests.data, requests.size);
    CHECK(peer_frame_end(peer, start));
    return true;
}

/* One frame of requests that are not sent yet. False: none can leave now. */
static bool send_some(struct core *core, struct session *session, struct peer *peer)
{
    uint64_t offset = 0;
    uint64_t size = 0;
    struct fragment_lane *lane = peer_lane(peer, WIRE_FORWARD);
    const uint32_t count = sendable(session, &offset, &size);
    const bool is_big = size > FRAME_SIZE_MAX;
    if (count == 0) { /* A frame without a request would be an error. */
        session->forward_unsent--;
        return true;
    }
    /* What a session sends stays in order; what other sessions send may pass a big request. */
    if (fragment_token(lane) == session->id || (is_big && fragment_lane_busy(lane))) return false;
    const bool is_sent = is_big ? send_big(core, session, peer, size)
                                : send_small(core, session, peer, count,
                                             slice_of(session->forwarded.data + offset, size));
    if (!is_sent)
        return false; /* Not connected or its queue is full: a later turn, or router_lost. */
    if (session->forward_count == session->forward_unsent) session->forward_moved_ms = core->now_ms;
    session->forward_unsent -= count;
    session->forward_number += count;
    return true;
}

/* The requests of @session that are not sent yet, as far as there is room. */
static void send_unsent(struct core *core, struct session *session)
{
    struct peer *peer = peers_find(&core->peers, session->forward_node);
    if (peer == NULL) return;
    while (session->forward_unsent > 0 && peer_queued(peer) < CORE_FORWARD_SHARE_SIZE) {
        if (!send_some(core, session, peer)) return;
    }
}

/* What is not asked of the leader (any more) is answered when it is its turn. */
static void answer_own(struct core *core, struct session *session)
{
    struct session_forward *forward = session_first_forward(session);
    while (forward != NULL && forward->answer != SESSION_ASK) {
        const bool is_uncertain = forward->answer == SESSION_UNCERTAIN;
        if (!forward->is_mute) resp_put_error(&session->out, known_answers[forward->answer].text);
        session_add_wait(session, (struct session_wait){0});
        session_drop_forward(session);
        if (is_uncertain) core->stats.uncertain_total++;
        core_mark_dirty(core, session);
        forward = session_first_forward(session);
    }
    if (session->forward_count == 0 && !list_empty(&session->waiting)) {
        list_remove(&session->waiting);
        core_mark_ready(core, session);
    }
}

/* Puts the requests not answered yet back in front of the input, in their order. */
static void take_back(struct core *core, struct session *session)
{
    struct buf in = {0};
    (void)recall(core, session);
    /* CLIENT REPLY SKIP concerns the first of them, if any. */
    const struct session_forward *first = session_first_forward(session);
    if (first != NULL && first->is_mute && session->mute == SESSION_REPLIES) {
        session->mute = SESSION_SKIPS_NEXT;
    }
    while (session->forward_count > 0) {
        const struct session_forward *forward = session_first_forward(session);
        if (forward->answer == SESSION_ASK) {
            buf_append(&in, session->forwarded.data + session->forwarded_start, forward->size);
        } else {
            /* Its answer may not overtake those of the requests before it, which are yet to be carried out. */
            const struct slice name = slice_text(known_answers[forward->answer].name);
            resp_put_command(&in, &name, 1);
            if (forward->answer == SESSION_UNCERTAIN) core->stats.uncertain_total++;
        }
        session_drop_forward(session);
    }
    session_unread(session, &in);
    session->begun_ms = 0;
    list_remove(&session->waiting);
    core_mark_ready(core, session);
}

/* The requests not answered yet go to whoever leads now, in a new epoch, or back into the input if we lead. */
static void send_again(struct core *core, struct session *session)
{
    const struct peer *leader = core_leader_peer(core);
    if (shard_ready(&core->shard)) {
        /* In the middle of an argument that is dropped the parser may not begin anew: the rest of the argument would
         * be read as commands. Its end comes, or router_tick() gives up. */
        if (!session->parser.too_big) take_back(core, session);
        return;
    }
    if (leader == NULL) return;
    begin_epoch(core, session, leader->identity.node_id);
    session->forward_unsent = session->forward_count;
    send_unsent(core, session);
}

void router_flush(struct core *core)
{
    if (core->replies_held) release_held(core);
    for (struct list *at = core->forwarding.next, *next; at != &core->forwarding; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, waiting);
        if (session->retry_ms != 0) {
            if (core->now_ms >= session->retry_ms) send_again(core, session);
        } else if (session->forward_unsent > 0) {
            send_unsent(core, session);
        }
    }
}

/* ---- origin: answers and losses ---------------------------------------------------------------------------- */

/* The reply to the first request of @session: the client's, unless it is for us. False: nonsense. */
static bool take_reply(struct core *core, struct session *session, struct slice reply)
{
    const struct session_forward *forward = session_first_forward(session);
    bool ok = true;
    const uint64_t end = session_end(session);
    if (forward->is_watch) {
        const struct slice request = slice_of(session->forwarded.data + session->forwarded_start,
                                              forward->size);
        ok = txn_watched(core, session, request, reply, &session->out);
    } else {
        buf_append(&session->out, reply.data, reply.size);
    }
    if (forward->is_exec) session_note_exec(session, reply, NULL);
    if (forward->is_mute) session_drop_replies(session, end, 0);
    return ok;
}

static enum err take_replies(struct core *core, const struct wire_frame *frame)
{
    struct reader reader = reader_of(frame->body);
    struct session *session = core_find_session(core, reader_u64(&reader));
    const uint32_t epoch = reader_u32(&reader);
    const uint64_t number = reader_u64(&reader);
    const uint32_t count = reader_u32(&reader);
    if (reader.bad) return ERR_CORRUPT;
    if (session == NULL || epoch != session->forward_epoch) return OK;
    if (frame->from != session->forward_node || session->retry_ms != 0) return OK;
    if (number != session->forward_answered) return ERR_CORRUPT;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t status = reader_u8(&reader);
        const struct slice reply = reader_sized(&reader);
        if (reader.bad || status > REPLY_MOVED) return ERR_CORRUPT;
        const uint32_t leaving = is_leaving(core, session) ? 1 : 0;
        if (session->forward_count <= session->forward_unsent + leaving) {
            return ERR_CORRUPT; /* None was sent, or not all of it. */
        }
        if (status == REPLY_MOVED) { /* Neither this one nor any behind it was carried out. */
            (void)recall(core, session);
            session->retry_ms = core->now_ms + RETRY_MS;
            session->forward_losses = core->forward_losses - 1;
            session->forward_unsent = session->forward_count;
            core_mark_dirty(core, session); /* Replies before it in the frame. */
            return OK;
        }
        if (!take_reply(core, session, reply)) return ERR_CORRUPT;
        session_add_wait(session, (struct session_wait){0});
        session_drop_forward(session);
        session->forward_answered++;
        session->forward_moved_ms = core->now_ms;
        core->forward_heard_ms = core->now_ms;
        session->forward_bytes += reply.size;
        answer_own(core, session);
    }
    core_mark_dirty(core, session);
    core_mark_ready(core, session);
    return OK;
}

/* What was sent and not answered: nobody knows of the writes. A read is asked again, unless a write was sent behind
 * it: that write may have happened, and commands of one connection take effect in their order. */
static void lose(struct core *core, struct session *session)
{
    if (recall(core, session)) session->forward_unsent++; /* The last that began to leave. */
    const uint32_t sent = session->forward_count - session->forward_unsent;
    bool is_before_write = false;
    for (uint32_t i = sent; i > 0; i--) {
        struct session_forward *forward = forward_at(session, i - 1);
        if (forward->answer != SESSION_ASK) continue;
        if (forward->is_write && (!forward->is_again || is_before_write)) {
            forward->answer = SESSION_UNCERTAIN;
            is_before_write = true;
        } else if (is_before_write) {
            forward->answer = SESSION_TRY_AGAIN;
        }
    }
    session->forward_epoch++; /* Answers that are still under way do not count any more, */
    session->forward_losses = core->forward_losses - 1; /* nor what that node remembers. */
    session->forward_unsent = session->forward_count;
    session->retry_ms = core->now_ms + 1;
    session->forward_lost_ms = 0;
    answer_own(core, session);
}

void router_lost(struct core *core, uint64_t node)
{
    core->forward_losses++;
    for (struct list *at = core->forwarding.next, *next; at != &core->forwarding; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, waiting);
        if (session->forward_node == node && session->retry_ms == 0) lose(core, session);
    }
}

/* Nobody can be asked for longer than `park`: the reads that wait to be sent again are answered so. */
static void give_up(struct core *core, struct session *session)
{
    while (session->forward_count > 0) {
        /* It may have happened when it was asked before. */
        struct session_forward *first = session_first_forward(session);
        if (first->is_again && first->answer == SESSION_ASK) first->answer = SESSION_UNCERTAIN;
        answer_own(core, session);
        if (session->forward_count == 0) break;
        if (!session_first_forward(session)->is_mute) {
            resp_put_error(&session->out,
                           "CLUSTERDOWN no leader is known: the command was not carried out, try "
                           "again later");
        }
        session_add_wait(session, (struct session_wait){0});
        session_drop_forward(session);
        core->stats.errors_total++;
    }
    answer_own(core, session);
    core_mark_dirty(core, session);
    core_mark_ready(core, session);
    if (session->forward_count == 0) list_remove(&session->waiting);
}

/* The leader speaks to us and yet does not answer: what we send does not reach it, although the connection looks whole
 * (a proxy or a firewall between us may do that). A client that does not read its replies holds up only itself. */
static bool is_unheard(const struct core *core, struct session *session)
{
    const uint64_t size = session->forwarded.size - session->forwarded_start;
    const uint64_t patience_ms = (uint64_t)PATIENCE_ELECTIONS * core->config->election_timeout_ms +
                                 size / MIB * PATIENCE_MS_PER_MIB;
    if (session->forward_count == session->forward_unsent) return false;
    if (session_first_forward(session)->is_patient) return false;
    if (session_end(session) != session->sent) return false;
    /* One that answers others of our clients hears us: it has much to do. */
    return core->now_ms - session->forward_moved_ms >= patience_ms &&
           core->now_ms - core->forward_heard_ms >= patience_ms;
}

void router_tick(struct core *core)
{
    const uint64_t leader = core_leader_id(core);
    for (struct list *at = core->forwarding.next, *next; at != &core->forwarding; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, waiting);
        router_credit(core, session); /* Once more if the queue was full when it was due. */
        if (session->retry_ms != 0) {
            if (core->now_ms >= session->retry_ms + core->config->park_ms) give_up(core, session);
        } else if (leader == session->forward_node) {
            session->forward_lost_ms = 0;
            if (is_unheard(core, session)) core->net->peer_close(core->net->context, leader);
        } else if (session->forward_lost_ms == 0) {
            session->forward_lost_ms = core->now_ms;
        } else if (core->now_ms - session->forward_lost_ms >= core->config->election_timeout_ms) {
            lose(core, session); /* The former leader had time to answer what it could. */
        }
    }
}

void router_session_closed(struct core *core, struct session *session)
{
    if (session->forward_epoch == 0) return;
    (void)recall(core, session);
    struct peer *peer = peers_find(&core->peers, session->forward_node);
    if (peer == NULL || !peer->is_connected) return;
    uint8_t body[8];
    put_u64(body, session->id);
    (void)peer_send(&core->peers, peer, WIRE_FORWARD_CLOSE, slice_of(body, sizeof body));
}

void router_credit(struct core *core, struct session *session)
{
    uint8_t body[20];
    const uint64_t waiting = session_end(session) - session->sent;
    if (session->forward_bytes < waiting + session->forward_credit + CREDIT_STEP_SIZE) return;
    struct peer *peer = peers_find(&core->peers, session->forward_node);
    if (peer == NULL) return;
    const uint64_t credit = session->forward_bytes - waiting;
    put_u64(body, session->id);
    put_u32(body + 8, session->forward_epoch);
    put_u64(body + 12, credit);
    if (peer_send(&core->peers, peer, WIRE_FORWARD_CREDIT, slice_of(body, sizeof body))) {
        session->forward_credit = credit;
    }
}

/* ---- leader: proxies ---------------------------------------------------------------------------------------- */

static struct session **proxy_chain(struct core *core, uint64_t node, uint64_t session)
{
    return &core->proxy_table[(node * 31 + session) % CORE_TABLE_SIZE];
}

static struct session *proxy_find(struct core *core, uint64_t node, uint64_t id)
{
    struct session *proxy = *proxy_chain(core, node, id);
    while (proxy != NULL && (proxy->origin_node != node || proxy->origin_session != id)) {
        proxy = proxy->table_next;
    }
    return proxy;
}

static void proxy_drop(struct core *core, struct session *proxy)
{
    struct peer *peer = peers_find(&core->peers, proxy->origin_node);
    if (peer != NULL && fragment_token(peer_lane(peer, WIRE_FORWARD_REPLY)) == proxy->id) {
        peer_lane_drop(&core->peers, peer, WIRE_FORWARD_REPLY); /* Nobody waits for it. */
    }
    struct session **at = proxy_chain(core, proxy->origin_node, proxy->origin_session);
    while (*at != proxy) at = &(*at)->table_next;
    *at = proxy->table_next;
    core->proxy_count--;
    session_destroy(proxy);
}

void router_drop_proxies(struct core *core, uint64_t node)
{
    for (struct list *at = core->proxies.next, *next; at != &core->proxies; at = next) {
        next = at->next;
        struct session *proxy = LIST_ITEM(at, struct session, all);
        if (proxy->origin_node == node) proxy_drop(core, proxy);
    }
}

static struct session *proxy_make(struct core *core, uint64_t node, uint64_t id, uint32_t epoch)
{
    struct session *proxy = session_create(core->next_session_id++, NULL, core->now_ms);
    struct session **chain = proxy_chain(core, node, id);
    proxy->origin_node = node;
    proxy->origin_session = id;
    proxy->origin_epoch = epoch;
    proxy->table_next = *chain;
    *chain = proxy;
    list_append(&core->proxies, &proxy->all);
    core->proxy_count++;
    return proxy;
}

static enum err take_requests(struct core *core, const struct wire_frame *frame)
{
    struct reader reader = reader_of(frame->body);
    const uint64_t id = reader_u64(&reader);
    const uint32_t epoch = reader_u32(&reader);
    const uint64_t number = reader_u64(&reader);
    const uint32_t count = reader_u32(&reader);
    const uint8_t protocol = reader_u8(&reader);
    if (reader.bad || (protocol != 2 && protocol != 3) || count == 0) return ERR_CORRUPT;
    struct session *proxy = proxy_find(core, frame->from, id);
    const bool is_reborn = proxy != NULL && proxy->origin_incarnation != frame->incarnation;
    if (is_reborn || (proxy != NULL && proxy->origin_epoch != epoch)) {
        /* Overtaken by a newer epoch of the same process: nobody waits for it. */
        if (!is_reborn && epoch < proxy->origin_epoch) return OK;
        proxy_drop(core, proxy);
        proxy = NULL;
    }
    if (proxy == NULL) {
        if (number != 0)
            return OK; /* Its beginning was lost with a connection: the origin knows. */
        proxy = proxy_make(core, frame->from, id, epoch);
        proxy->origin_incarnation = frame->incarnation;
    }
    if (number != proxy->forward_number) return ERR_CORRUPT;
    proxy->forward_number += count;
    proxy->protocol = protocol;
    core->stats.forwarded_in_total += count;
    buf_append(&proxy->in, reader.at, (uint64_t)(reader.end - reader.at));
    core_mark_ready(core, proxy);
    return OK;
}

static enum err take_close(struct core *core, const struct wire_frame *frame)
{
    if (frame->body.size != 8) return ERR_CORRUPT;
    struct session *proxy = proxy_find(core, frame->from, get_u64(frame->body.data));
    if (proxy != NULL) proxy_drop(core, proxy);
    return OK;
}

static enum err take_credit(struct core *core, const struct wire_frame *frame)
{
    if (frame->body.size != 20) return ERR_CORRUPT;
    struct session *proxy = proxy_find(core, frame->from, get_u64(frame->body.data));
    if (proxy == NULL || proxy->origin_epoch != get_u32(frame->body.data + 8)) return OK;
    const uint64_t credit = get_u64(frame->body.data + 12);
    if (credit > proxy->answered_bytes) return ERR_CORRUPT;
    if (credit > proxy->credit) proxy->credit = credit;
    core_mark_ready(core, proxy);
    return OK;
}

enum err router_receive(struct core *core, const struct wire_frame *frame)
{
    switch (frame->type) {
    case WIRE_FORWARD: return take_requests(core, frame);
    case WIRE_FORWARD_REPLY: return take_replies(core, frame);
    case WIRE_FORWARD_CLOSE: return take_close(core, frame);
    case WIRE_FORWARD_CREDIT: return take_credit(core, frame);
    default: return ERR_CORRUPT;
    }
}

/* How many of the first waits of @proxy hold, as many as fit into a frame, but one in any case. */
static uint32_t releasable(const struct session *proxy, uint64_t retired, uint64_t confirmed)
{
    uint32_t count = 0;
    while (count < proxy->wait_count && count < REPLIES_COUNT_MAX) {
        const uint32_t at = (proxy->wait_first + count) & (proxy->wait_capacity - 1);
        const struct session_wait *wait = &proxy->waits[at];
        if (wait->batch > retired || wait->read > confirmed) break;
        if (count > 0 && wait->end - proxy->released > FRAME_SIZE_MAX) break;
        count++;
    }
    return count;
}

static void write_replies(const struct session *proxy, uint32_t count, struct buf *out)
{
    buf_u64(out, proxy->origin_session);
    buf_u32(out, proxy->origin_epoch);
    buf_u64(out, proxy->answered);
    buf_u32(out, count);
}

/* The first reply of @proxy is on its way, or nobody waits for it. */
static void drop_reply(struct core *core, struct session *proxy)
{
    const uint64_t end = session_first_wait(proxy)->end;
    proxy->answered++;
    proxy->answered_bytes += end - proxy->released;
    proxy->released = end;
    proxy->wait_first = (proxy->wait_first + 1) & (proxy->wait_capacity - 1);
    proxy->wait_count--;
    session_sent(proxy, proxy->released - proxy->sent);
    if (session_input(proxy) > 0 && list_empty(&proxy->ready)) {
        core_mark_ready(core, proxy); /* It may have stopped for the bytes that just left. */
        core->more = true;
    }
}

/* A reply that is too big for a whole frame: its bytes are fetched when they leave, and stay until then. */
static bool send_big_reply(struct core *core, const struct session *proxy, struct peer *peer)
{
    struct buf head = {0};
    const struct session_wait *wait = session_first_wait(proxy);
    const uint64_t size = wait->end - proxy->released;
    write_replies(proxy, 1, &head);
    buf_u8(&head, wait->moved ? REPLY_MOVED : REPLY_DONE);
    buf_u32(&head, (uint32_t)size);
    const bool is_sent = peer_send_asked(&core->peers, peer, WIRE_FORWARD_REPLY, buf_slice(&head),
                                         size, proxy->id);
    buf_close(&head);
    return is_sent;
}

static bool send_small_replies(struct core *core, struct session *proxy, struct peer *peer,
                               uint32_t count)
{
    uint64_t start = 0;
    struct buf *out = peer_frame_begin(&core->peers, peer, WIRE_FORWARD_REPLY, &start);
    if (out == NULL) return false;
    write_replies(proxy, count, out);
    for (uint32_t i = 0; i < count; i++) {
        const struct session_wait *wait = session_first_wait(proxy);
        const uint64_t size = wait->end - proxy->released;
        buf_u8(out, wait->moved ? REPLY_MOVED : REPLY_DONE);
        /* That of a moved one is empty; the proxy may have no memory for replies at all then. */
        struct slice reply = slice_of("", 0);
        if (size > 0) {
            reply = slice_of(proxy->out.data + (proxy->released - proxy->out_base), size);
        }
        buf_sized(out, reply);
        drop_reply(core, proxy);
    }
    CHECK(peer_frame_end(peer, start));
    return true;
}

/* Sends the first @count replies of @proxy in one frame. False: a big reply is just leaving, and these wait for it. */
static bool send_replies(struct core *core, struct session *proxy, uint32_t count)
{
    struct peer *peer = peers_find(&core->peers, proxy->origin_node);
    const uint32_t last = (proxy->wait_first + count - 1) & (proxy->wait_capacity - 1);
    const bool is_big = proxy->waits[last].end - proxy->released > FRAME_SIZE_MAX;
    bool is_sent = false;
    /* The process that asked is gone: the one that runs there now numbers its sessions and epochs from 1 as well, and
     * would take the replies for those of another client. */
    if (peer != NULL && peer->identity.incarnation != proxy->origin_incarnation) peer = NULL;
    if (peer != NULL) {
        struct fragment_lane *lane = peer_lane(peer, WIRE_FORWARD_REPLY);
        if (fragment_token(lane) == proxy->id || (is_big && fragment_lane_busy(lane))) return false;
        is_sent = is_big ? send_big_reply(core, proxy, peer)
                         : send_small_replies(core, proxy, peer, count);
        if (is_big && is_sent) return false; /* It leaves piece by piece. */
        if (!is_sent && peer->is_connected) {
            /* Its queue is full. A reply may not be skipped: break the connection, the origin then knows. */
            core->net->peer_close(core->net->context, proxy->origin_node);
        }
    }
    for (uint32_t i = 0; i < count && !is_sent; i++) drop_reply(core, proxy);
    return true;
}

void router_release(struct core *core, struct session *proxy, uint64_t retired, uint64_t confirmed)
{
    for (;;) {
        const uint32_t count = releasable(proxy, retired, confirmed);
        if (count == 0) return;
        if (send_replies(core, proxy, count)) continue;
        core->replies_held = true;
        return;
    }
}

/* Replies that waited for a big one to leave. What held once holds for ever, so the numbers of then will do. */
static void release_held(struct core *core)
{
    core->replies_held = false;
    for (struct list *at = core->waiting.next, *next; at != &core->waiting; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, waiting);
        if (!session_is_proxy(session)) continue;
        router_release(core, session, core->shard.retired_seen, core->shard.confirmed_seen);
        if (session->wait_count == 0) list_remove(&session->waiting);
    }
}

/* ---- pieces of big requests and replies --------------------------------------------------------------------- */

/* The bytes of the request of @session that is just leaving: the last of those that are sent. */
static struct slice leaving_request(struct session *session)
{
    const uint32_t sent = session->forward_count - session->forward_unsent;
    uint64_t offset = session->forwarded_start;
    CHECK(sent > 0);
    for (uint32_t i = 0; i + 1 < sent; i++) offset += forward_at(session, i)->size;
    return slice_of(session->forwarded.data + offset, forward_at(session, sent - 1)->size);
}

static struct session *proxy_of(struct core *core, uint64_t id)
{
    for (struct list *at = core->proxies.next; at != &core->proxies; at = at->next) {
        struct session *proxy = LIST_ITEM(at, struct session, all);
        if (proxy->id == id) return proxy;
    }
    return NULL;
}

void router_give(struct core *core, struct peer *peer, const struct fragment_piece *piece)
{
    const bool is_reply = piece->type == WIRE_FORWARD_REPLY;
    struct session *session = is_reply ? proxy_of(core, piece->token)
                                       : core_find_session(core, piece->token);
    CHECK(session != NULL); /* Whoever drops a session or a proxy drops what leaves for it. */
    const struct slice bytes = is_reply
                                   ? slice_of(session->out.data +
                                                  (session->released - session->out_base),
                                              session_first_wait(session)->end - session->released)
                                   : leaving_request(session);
    const uint64_t end = piece->rest_offset + piece->size;
    CHECK(end <= bytes.size);
    peer_give(&core->peers, peer, piece, slice_of(bytes.data + piece->rest_offset, piece->size));
    if (!is_reply) {
        session->forward_moved_ms =
            core->now_ms; /* While it leaves nobody is late with an answer. */
    } else if (end == bytes.size) {
        drop_reply(core, session);
        core->replies_held = true; /* What waits behind it may go. */
        core->more = true;
    }
}
