/* core_client.c - client connections: bytes to commands, where a command runs, replies to bytes. */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_face.h"
#include "node/cmd_push.h"
#include "node/cmd_txn.h"
#include "node/core_parts.h"
#include "node/push.h"
#include "node/router.h"
#include "node/txn.h"
#include "node/stream.h"
#include "node/subcommand.h"
#include "node/warm.h"
#include "storage/base/check.h"

#define TURN_COMMANDS_MAX 512u /* of one session in one turn, so that none starves the others, */
#define TURN_COMMANDS_MIN 16u  /* and as few when many have very many */
#define TURN_SERVED_MAX                                                                            \
    2048u /* small commands of all, a millisecond or two: those behind go on in the next turn */
#define ARGS_PER_COMMAND 2u       /* arguments that cost as much as a small command, */
#define SIZE_PER_COMMAND 1024u    /* and bytes of a request or a reply */
#define TURN_SENT_SIZE (2u * MIB) /* bytes of replies given to sockets in one turn, and one reply */
#define INPUT_PAUSE_SIZE                                                                           \
    (256u * KIB) /* unread input at which reading stops while the session waits */
#define OUTPUT_PAUSE_SIZE (1u * MIB) /* replies not taken by the socket at which commands stop */
#define FORWARD_COUNT_MAX 2048u
#define BULK_SLACK (64u * KIB)

enum dispatch {
    DISPATCH_DONE,  /* Answered or on its way: consume it. */
    DISPATCH_LATER, /* Not now: the session stays ready and tries again when something changed. */
    DISPATCH_EXEC,  /* Consume it; what the transaction holds is the next command. */
};

/* ---- where a command runs ---------------------------------------------------------------------------- */

/* There is no leader to ask: the command waits, up to the option park. */
static enum dispatch park(struct core *core, struct session *session)
{
    if (session->parked_ms == 0) {
        session->parked_ms = core->now_ms;
        core->stats.parked_total++;
    }
    if (core->now_ms - session->parked_ms < core->config->park_ms) return DISPATCH_LATER;
    if (session->forward_count > 0) return DISPATCH_LATER; /* Those before it are answered first. */
    core->stats.errors_total++;
    core_reply_error(
        session,
        "CLUSTERDOWN no leader is known: the command was not carried out, try again later");
    return DISPATCH_DONE;
}

static enum dispatch go_remote(struct core *core, struct session *session,
                               const struct command *command, const struct slice *args,
                               uint32_t count, struct slice request)
{
    const struct peer *leader = core_leader_peer(core);
    if (leader == NULL) return park(core, session);
    if (session->wait_count > 0) return DISPATCH_LATER; /* First what was begun here. */
    session->parked_ms = 0;
    if (core_sends_away(session, leader)) {
        if (session->forward_count > 0) return DISPATCH_LATER;
        core_reply_elsewhere(session, command, args, count, leader);
        return DISPATCH_DONE;
    }
    if (session->forward_count >= FORWARD_COUNT_MAX) return DISPATCH_LATER;
    if (request.size > FORWARD_SIZE_MAX) {
        if (session->forward_count > 0) return DISPATCH_LATER;
        core_reply_error(
            session,
            "TOOBIG the command is too long to travel to the leader: it was not carried out");
        return DISPATCH_DONE;
    }
    if (session->forwarded.size - session->forwarded_start + request.size >
        FORWARD_QUEUE_SIZE_MAX) {
        return DISPATCH_LATER;
    }
    struct buf encoded = {0};
    if (request.data[0] != '*') { /* An inline command travels as an array. */
        resp_put_command(&encoded, args, count);
        request = buf_slice(&encoded);
    }
    const bool is_write = cmd_kv_txn_may_write(command, args, count);
    const bool taken = router_forward(core, session, leader->identity.node_id, request, command,
                                      is_write);
    buf_close(&encoded);
    return taken ? DISPATCH_DONE : DISPATCH_LATER;
}

static enum dispatch go_local(struct core *core, struct session *session,
                              const struct command *command, const struct slice *args,
                              uint32_t count)
{
    if (session->forward_count > 0) return DISPATCH_LATER; /* First what is still elsewhere. */
    struct eval eval = {.core = core,
                        .shard = &core->shard,
                        .session = session,
                        .command = command,
                        .args = args,
                        .count = count,
                        .out = &session->out,
                        .protocol = session->protocol,
                        .now_ms = core->shard.clock_ms,
                        .gone_ms = core->shard.clock_ms};
    command->function(&eval);
    if (eval.is_later) return DISPATCH_LATER;
    session_add_wait(session, (struct session_wait){0});
    return DISPATCH_DONE;
}

/* A read that needs no leader but for the index that must be applied here. */
static enum dispatch go_here(struct core *core, struct session *session,
                             const struct command *command, const struct slice *args,
                             uint32_t count)
{
    if (session->forward_count > 0 || session->wait_count > 0) return DISPATCH_LATER;
    /* One that comes back with its values has waited for this already. */
    if (session->fetch == NULL) {
        const enum readindex_state state = core_read_state(core, session);
        if (state == READINDEX_WAITS) return DISPATCH_LATER;
        if (state == READINDEX_FAILED) {
            core->stats.errors_total++;
            core_reply_error(session,
                             "CLUSTERDOWN no leader is known, or this node lags: the command "
                             "was not carried out, try again later");
            return DISPATCH_DONE;
        }
    }
    const bool is_done = shard_evaluate_local(&core->shard, session, command, args, count, true);
    return is_done ? DISPATCH_DONE : DISPATCH_LATER;
}

/* A request of another node that we cannot carry out: it goes back, and so does everything behind it. */
static enum dispatch send_back(struct session *proxy)
{
    proxy->moved = true;
    session_add_wait(proxy, (struct session_wait){.moved = true});
    return DISPATCH_DONE;
}

static enum dispatch carry_out(struct core *core, struct session *session,
                               const struct command *command, const struct slice *args,
                               uint32_t count, struct slice request)
{
    struct shard *shard = &core->shard;
    if ((command->flags & CMD_TOPOLOGY) != 0 &&
        core_wants_leader(core, session, command, args, count)) {
        return park(core, session); /* A map without a leader would send clients nowhere. */
    }
    if (cmd_cluster_walks(session, command, args, count)) {
        const bool is_done = stream_run(core, session, command, args, count);
        return is_done ? DISPATCH_DONE : DISPATCH_LATER;
    }
    if ((command->flags & CMD_LOCAL) != 0) return go_local(core, session, command, args, count);
    const bool is_stream = (command->flags & CMD_STREAM) != 0 && !session_is_proxy(session);
    /* Without AT the newest value is asked for, as GET does. */
    const bool is_point = command->function == cmd_kv_get && count == 2;
    if (is_stream && !is_point) {
        const bool is_done = stream_run(core, session, command, args, count);
        return is_done ? DISPATCH_DONE : DISPATCH_LATER;
    }
    const bool local_read = core->config->reads == CONFIG_READS_LOCAL &&
                            (command->flags & CMD_READ) != 0 &&
                            (command->flags & CMD_LEADER) == 0 && !session_is_proxy(session) &&
                            !replica_installing(shard->replica) &&
                            !recovery_quarantined(&shard->recovery);
    if (local_read && !shard_ready(shard)) {
        if (session->forward_count > 0) return DISPATCH_LATER;
        const bool is_done = shard_evaluate_local(shard, session, command, args, count, false);
        return is_done ? DISPATCH_DONE : DISPATCH_LATER;
    }
    if (!shard_ready(shard) && core_reads_here(session, command)) {
        return go_here(core, session, command, args, count);
    }
    if (!shard_ready(shard)) {
        if (session_is_proxy(session)) return send_back(session);
        session->applied_batch = 0;
        return go_remote(core, session, command, args, count, request);
    }
    if (session->forward_count > 0) return DISPATCH_LATER;
    if (!core_prepare(core, session, command, args, count)) return DISPATCH_LATER;
    if ((command->flags & CMD_WRITE) != 0 && shard_is_full(shard)) return DISPATCH_LATER;
    const uint64_t end = session_end(session);
    if (!shard_evaluate(shard, session, command, args, count)) return DISPATCH_LATER;
    if (command->function == cmd_exec_parts) {
        const struct buf *out = &session->out;
        const uint64_t begin = end - session->out_base;
        session_note_exec(session, slice_of(out->data + begin, out->size - begin),
                          session_last_wait(session));
    }
    session->parked_ms = 0;
    session->indexed_size = 0;
    return DISPATCH_DONE;
}

/* ---- transactions --------------------------------------------------------------------------------------- */

/* Commands that a transaction of the client concerns: all while one is open, and EXEC and WATCH. */
static bool is_for_transaction(const struct session *session, const struct command *command)
{
    if (session_is_proxy(session)) return false;
    return txn_is_open(session) || command->function == cmd_exec || command->function == cmd_watch;
}

static void break_with(struct core *core, struct session *session, const char *text)
{
    core->stats.errors_total++;
    txn_break(session);
    core_reply_error(session, text);
}

/* A web page can make a browser send POST requests to this port, with commands in their body: nothing behind such a
 * request line, or behind a Host header, is read. */
static bool is_http(struct slice name)
{
    return slice_equal_fold(name, "post") || slice_equal_fold(name, "host:");
}

/* No such command, or too few arguments for it. */
static enum dispatch refuse(struct core *core, struct session *session,
                            const struct command *command, const struct slice *args, uint32_t count)
{
    char text[160];
    if (session->forward_count > 0) return DISPATCH_LATER;
    if (command == NULL && is_http(args[0])) {
        core->stats.protocol_errors_total++;
        core_reply_error(session, "ERR this port takes the Redis protocol, not HTTP");
        session->closing = true;
        return DISPATCH_DONE;
    }
    if (command == NULL) {
        txn_break(session);
        core_unknown_command(core, session, args, count);
        return DISPATCH_DONE;
    }
    const bool is_exec = command->function == cmd_exec;
    (void)snprintf(text, sizeof text, "%s wrong number of arguments for '%s' command",
                   is_exec ? "EXECABORT Transaction discarded because of:" : "ERR", command->name);
    break_with(core, session, text);
    if (is_exec) txn_drop(core, session);
    return DISPATCH_DONE;
}

static enum dispatch queue(struct core *core, struct session *session,
                           const struct command *command, const struct slice *args, uint32_t count)
{
    char text[160];
    const bool is_local = (command->flags & CMD_LOCAL) != 0;
    const struct peer *leader = core_leader_peer(core);
    if (!is_local && !shard_ready(&core->shard) && leader != NULL &&
        core_sends_away(session, leader)) {
        txn_break(session);
        core_reply_elsewhere(session, command, args, count, leader);
        return DISPATCH_DONE;
    }
    const char *refusal = NULL;
    if ((command->flags & CMD_ALONE) != 0) {
        (void)snprintf(text, sizeof text, "ERR '%s' is not allowed inside a transaction",
                       command->name);
        refusal = text;
    }
    if (refusal == NULL && !is_local && shard_ready(&core->shard)) {
        refusal = shard_refusal(&core->shard, command->flags);
    }
    if (refusal == NULL) refusal = txn_queue(core, session, command, args, count);
    if (refusal != NULL) {
        break_with(core, session, refusal);
        return DISPATCH_DONE;
    }
    resp_put_simple(&session->out, "QUEUED");
    session_add_wait(session, (struct session_wait){0});
    return DISPATCH_DONE;
}

static enum dispatch exec(struct core *core, struct session *session)
{
    if (!txn_is_open(session)) {
        core->stats.errors_total++;
        core_reply_error(session, "ERR EXEC without MULTI");
    } else if (txn_is_broken(session)) {
        core->stats.errors_total++;
        core_reply_error(session, "EXECABORT Transaction discarded because of previous errors.");
        txn_drop(core, session);
    } else if (txn_count(session) == 0 && txn_watches(session) == 0) {
        resp_put_array(&session->out, 0);
        session_add_wait(session, (struct session_wait){0});
        txn_drop(core, session);
    } else {
        return DISPATCH_EXEC;
    }
    return DISPATCH_DONE;
}

static enum dispatch in_transaction(struct core *core, struct session *session,
                                    const struct command *command, const struct slice *args,
                                    uint32_t count, struct slice request)
{
    /* Whether a key is watched, or a transaction open, is known once what came before is answered. */
    if (session->forward_count > 0) return DISPATCH_LATER;
    if (command->function == cmd_exec) return exec(core, session);
    if (command->function == cmd_watch) {
        const char *refusal = txn_watch_refusal(core, session, args, count);
        if (refusal == NULL) return carry_out(core, session, command, args, count, request);
        core->stats.errors_total++;
        core_reply_error(session, refusal);
        return DISPATCH_DONE;
    }
    const bool is_at_once = command->function == cmd_multi || command->function == cmd_discard ||
                            command->function == cmd_reset || command->function == cmd_quit;
    return is_at_once ? go_local(core, session, command, args, count)
                      : queue(core, session, command, args, count);
}

static enum dispatch dispatch(struct core *core, struct session *session, const struct slice *args,
                              uint32_t count, struct slice request)
{
    char text[192];
    const struct command *command = command_find_again(args[0], session->guess);
    session->guess = command;
    if (session_is_proxy(session) && session->moved) return send_back(session);
    const char *known = router_known_answer(args[0]);
    if (known != NULL) {
        if (session->forward_count > 0) return DISPATCH_LATER;
        core_reply_error(session, known);
        return DISPATCH_DONE;
    }
    if (command == NULL || !command_arity_fits(command, count)) {
        return refuse(core, session, command, args, count);
    }
    if (command->name[0] != '\r') session->last_command = command->name;
    const char *unfit = subcommand_refusal(command, args, count, text, sizeof text);
    if (unfit != NULL) {
        if (session->forward_count > 0) return DISPATCH_LATER;
        break_with(core, session, unfit);
        return DISPATCH_DONE;
    }
    const char *refusal = push_refusal(session, command, text);
    if (refusal != NULL) {
        core->stats.errors_total++;
        core_reply_error(session, refusal);
        return DISPATCH_DONE;
    }
    if (is_for_transaction(session, command)) {
        return in_transaction(core, session, command, args, count, request);
    }
    return carry_out(core, session, command, args, count, request);
}

/* What was replied since is for nobody: CLIENT REPLY. */
static void drop_replies(struct session *session, uint64_t end, uint32_t waits, uint32_t forwards)
{
    session_drop_replies(session, end, waits);
    if (session->forward_count > forwards) session_last_forward(session)->is_mute = true;
}

/* What it is told of its subscriptions is no reply. */
static bool is_about_subscriptions(struct slice name)
{
    const struct command *command = command_find(name);
    return command != NULL &&
           (command->function == cmd_subscribe || command->function == cmd_psubscribe ||
            command->function == cmd_unsubscribe || command->function == cmd_punsubscribe);
}

/* Carries out a command, whose reply the client may not want (CLIENT REPLY). */
static enum dispatch run_command(struct core *core, struct session *session,
                                 const struct slice *args, uint32_t count, struct slice request)
{
    const uint64_t end = session_end(session);
    const uint32_t waits = session->wait_count;
    const uint32_t forwards = session->forward_count;
    const bool skips = session->mute == SESSION_SKIPS_NEXT;
    if (session->mute == SESSION_REPLIES) return dispatch(core, session, args, count, request);
    if (skips) session->mute = SESSION_SKIPS_THIS;
    const enum dispatch result = dispatch(core, session, args, count, request);
    if (session->mute == SESSION_REPLIES) return result; /* CLIENT REPLY ON says so itself. */
    if (!is_about_subscriptions(args[0])) drop_replies(session, end, waits, forwards);
    if (skips && session->mute == SESSION_SKIPS_THIS) {
        session->mute = result == DISPATCH_DONE ? SESSION_REPLIES : SESSION_SKIPS_NEXT;
    }
    return result;
}

/* ---- input -------------------------------------------------------------------------------------------- */

static struct resp_limits limits_of(const struct core *core)
{
    const uint64_t max = core->config->max_value_size;
    return (struct resp_limits){.args_max = COMMAND_ARGS_MAX,
                                .bulk_max = (max > KEY_SIZE_MAX ? max : KEY_SIZE_MAX) + BULK_SLACK,
                                .inline_max = COMMAND_INLINE_SIZE_MAX};
}

static bool may_run(const struct session *session)
{
    if (session->closing) return false;
    if (session->wait_count >= SESSION_PIPELINE_MAX) return false;
    /* The origin tells how much of its replies the client has taken: a slow client is felt here too. */
    if (session_is_proxy(session)) {
        const uint64_t waiting = session_end(session) - session->sent;
        return session->answered_bytes + waiting < session->credit + OUTPUT_PAUSE_SIZE;
    }
    return session_end(session) - session->sent < OUTPUT_PAUSE_SIZE;
}

/* An argument was longer than any value may be: it was read and dropped, the connection stays in step. */
static void too_big(struct core *core, struct session *session)
{
    const uint64_t end = session_end(session);
    const uint32_t waits = session->wait_count;
    const uint32_t forwards = session->forward_count;
    core->stats.errors_total++;
    txn_break(session);
    if (session->forward_count > 0) {
        (void)session_add_forward(session, (struct slice){0}, false, SESSION_TOO_BIG);
    } else {
        core_reply_error(session, ROUTER_TOO_BIG_TEXT);
    }
    if (session->mute != SESSION_REPLIES) drop_replies(session, end, waits, forwards);
    if (session->mute == SESSION_SKIPS_NEXT) session->mute = SESSION_REPLIES;
}

/* Requests the memory that the next commands will need: of @session, and of those in @work behind it. */
static void look_ahead(struct core *core, const struct session *session, const struct list *work)
{
    struct warm warm = {0};
    const struct list *next = work->next;
    core->warm_left = WARM_MAX - 1; /* beside the command that is to run now */
    if (!shard_ready(&core->shard)) return;
    for (uint32_t i = 0; i < WARM_MAX; i++) {
        if (!warm_look(&warm, session_input_bytes(session))) break;
        if (next == work) break;
        session = LIST_ITEM(next, const struct session, ready);
        next = next->next;
    }
    warm_fetch(&warm, core->shard.store);
}

/* ---- what is on its way to other nodes' clients ------------------------------------------------------------- */

/* The bytes of replies in @size that make others wait. */
static uint64_t share_of(uint64_t size)
{
    return size < CORE_REPLY_SHARE_SIZE ? size : CORE_REPLY_SHARE_SIZE;
}

static void add_load(struct core *core, const struct session *session, uint64_t size)
{
    if (!session_is_proxy(session)) return;
    const struct peer *peer = peers_find(&core->peers, session->origin_node);
    if (peer == NULL) return;
    core->proxy_load[peer - core->peers.list] += share_of(size);
    core->proxy_held[peer - core->peers.list] += size;
}

static void measure_loads(struct core *core)
{
    for (uint32_t i = 0; i < core->peers.count; i++) {
        core->proxy_load[i] = peer_queued(&core->peers.list[i]);
        core->proxy_held[i] = 0;
    }
    for (const struct list *at = core->proxies.next; at != &core->proxies; at = at->next) {
        const struct session *proxy = LIST_ITEM(at, const struct session, all);
        add_load(core, proxy, session_end(proxy) - proxy->sent);
    }
}

/* Hundreds of clients of one follower, each with a moderate share, are more than one connection holds. */
static bool is_loaded(struct core *core, const struct session *session)
{
    if (!session_is_proxy(session)) return false;
    const struct peer *peer = peers_find(&core->peers, session->origin_node);
    if (peer == NULL) return false;
    return core->proxy_load[peer - core->peers.list] >= CORE_FORWARD_SHARE_SIZE ||
           core->proxy_held[peer - core->peers.list] >= CORE_REPLIES_SIZE_MAX;
}

/* The transaction ends with EXEC: what it was becomes a command like any other. */
static void become_exec(struct core *core, struct session *session)
{
    struct buf request = {0};
    session->exec = (struct pubsub_exec){0};
    txn_request(core, session, &request);
    txn_drop(core, session);
    session_unread(session, &request);
}

/* What comes is no command: the reason is the last thing that is answered. */
static void break_off(struct core *core, struct session *session, enum resp_status status)
{
    core->stats.protocol_errors_total++;
    if (session->forward_count > 0) return; /* Its turn has not come yet. */
    core_reply_error(session, status == RESP_BAD ? session->parser.error
                                                 : "ERR Protocol error: the command is too long");
    session->closing = true;
    core_mark_dirty(core, session);
}

/* Runs what the session's input holds, at most @commands_max; @work has those whose turn is next. True: it has more
 * that could run at once. */
static bool run_session(struct core *core, struct session *session, const struct list *work,
                        uint32_t commands_max)
{
    const struct resp_limits limits = limits_of(core);
    struct resp_parser *parser = &session->parser;
    if (locks_sleeps(session)) return false;
    if (fetch_waits(session->fetch)) {
        core_mark_ready(core, session);
        return false;
    }
    for (uint32_t i = 0; i < commands_max; i++) {
        if (session_input(session) == 0) session->begun_ms = 0;
        if (!may_run(session) || session_input(session) == 0) return false;
        if (is_loaded(core, session)) {
            core_mark_ready(core, session);
            return false;
        }
        const uint64_t end = session_end(session);
        if (core->warm_left == 0) {
            look_ahead(core, session, work);
        } else {
            core->warm_left--;
        }
        const struct slice input = session_input_bytes(session);
        const enum resp_status status = resp_parse(parser, &limits, input);
        if (status == RESP_MORE) {
            if (session->begun_ms == 0) session->begun_ms = core->now_ms;
            if (input.size <= REQUEST_SIZE_MAX) return false;
        }
        if (status == RESP_DROP) {
            session_consume(session, parser->position);
            continue;
        }
        if (status == RESP_BAD || status == RESP_MORE) {
            break_off(core, session, status);
            return false;
        }
        const uint64_t size = parser->position;
        enum dispatch result = DISPATCH_DONE;
        if (parser->too_big) {
            too_big(core, session);
        } else if (parser->arg_count > 0) {
            result = run_command(core, session, parser->args, parser->arg_count,
                                 slice_of(input.data, size));
        }
        if (result == DISPATCH_LATER) {
            /* An array stays parsed: one with very many arguments may come back many times. */
            if (parser->is_inline) resp_parser_next(parser);
            core_mark_ready(core, session);
            return false;
        }
        session->begun_ms = 0;
        add_load(core, session, session_end(session) - end);
        session->command_count++;
        core->stats.commands_total++;
        core->turn_served += 1 + parser->arg_count / ARGS_PER_COMMAND +
                             (size + session_end(session) - end) / SIZE_PER_COMMAND;
        session_consume(session, size);
        resp_parser_next(parser);
        if (result == DISPATCH_EXEC) become_exec(core, session);
        /* Who has had its turn to read goes behind those that wait for theirs. */
        if (size > INPUT_PAUSE_SIZE) list_remove(&session->hog);
        if (core->turn_work >= CORE_TURN_WORK_MAX || core->turn_served >= TURN_SERVED_MAX) break;
    }
    core_mark_ready(core, session);
    return true;
}

/* ---- what all connections hold ------------------------------------------------------------------------------ */

/* Bytes of commands that were taken from the socket and are not answered, or not even whole. */
static uint64_t held_by(const struct session *session)
{
    return session_input(session) + session->forwarded.size - session->forwarded_start;
}

static void count_held(struct core *core, struct session *session)
{
    const uint64_t held = held_by(session);
    core->held_size += held - session->held_counted;
    session->held_counted = held;
    if (held <= INPUT_PAUSE_SIZE) {
        list_remove(&session->hog);
    } else if (list_empty(&session->hog)) {
        list_append(&core->hogs, &session->hog);
    }
}

/* All connections together hold more than they may: those that hold much stop reading. One of them goes on, the first,
 * or nobody could ever finish a command; so a single command may be larger than the bound. */
static bool is_over(const struct core *core, const struct session *session)
{
    return core->held_size > core->config->max_inflight_size && !list_empty(&session->hog) &&
           core->hogs.next != &session->hog;
}

/* A session that waits with a lot of input stops reading from its socket: the sender feels it. */
static void regulate(struct core *core, struct session *session)
{
    if (session_is_proxy(session)) return;
    count_held(core, session);
    const bool blocked = !list_empty(&session->ready) || !may_run(session) || session->lock != NULL;
    const bool pause = (blocked && session_input(session) >= INPUT_PAUSE_SIZE) ||
                       is_over(core, session);
    if (pause == session->paused) return;
    if (!pause && session_input(session) > INPUT_PAUSE_SIZE / 2 && blocked) return;
    session->paused = pause;
    if (pause) core->stats.paused_total++;
    core->net->client_pause(core->net->context, session->connection, pause);
}

/* Those who wait for others to hold less. */
static void regulate_hogs(struct core *core)
{
    for (struct list *at = core->hogs.next, *next; at != &core->hogs; at = next) {
        next = at->next;
        regulate(core, LIST_ITEM(at, struct session, hog));
    }
}

/* How many commands each may run so that all have their turn, whoever sent thousands. */
static uint32_t share_of_each(const struct list *work)
{
    uint32_t count = 1;
    const struct list *at = work->next->next;
    for (; at != work && count < TURN_SERVED_MAX / TURN_COMMANDS_MIN; at = at->next) count++;
    const uint32_t share = TURN_SERVED_MAX / count;
    return share < TURN_COMMANDS_MAX ? share : TURN_COMMANDS_MAX;
}

/* Who did not come to it in this turn is first in the next one. */
static void put_off(struct core *core, struct list *work)
{
    if (list_empty(work)) return;
    core->more = true;
    work->prev->next = core->ready.next;
    core->ready.next->prev = work->prev;
    core->ready.next = work->next;
    work->next->prev = &core->ready;
}

void core_serve_clients(struct core *core)
{
    struct list work;
    if (core->stage >= CORE_CLOSING || list_empty(&core->ready)) return;
    /* The list is taken over as a whole: sessions that become ready meanwhile wait for the next turn. */
    list_init(&work);
    work.next = core->ready.next;
    work.prev = core->ready.prev;
    work.next->prev = &work;
    work.prev->next = &work;
    list_init(&core->ready);
    core->warm_left = 0;
    core->turn_served = 0;
    if (core->proxy_count > 0) measure_loads(core);
    const uint32_t commands_max = share_of_each(&work);
    while (!list_empty(&work) && core->turn_served < TURN_SERVED_MAX) {
        struct session *session = LIST_ITEM(work.next, struct session, ready);
        list_remove(&session->ready);
        const uint64_t end = session_end(session);
        if (run_session(core, session, &work, commands_max)) core->more = true;
        core_track_waits(core, session);
        if (session_is_proxy(session)) {
            /* Replies that wait for nothing leave at once. */
            router_release(core, session, core->shard.retired_seen, core->shard.confirmed_seen);
        } else if (session_end(session) != end || session->is_eof) {
            core_mark_dirty(core, session);
        }
        regulate(core, session);
    }
    put_off(core, &work);
    regulate_hogs(core);
}

/* ---- output ------------------------------------------------------------------------------------------- */

static void flush_session(struct core *core, struct session *session)
{
    const uint64_t size = session->released - session->sent;
    if (size > 0 && !session->clogged) {
        const uint64_t sent = core->net->client_send(
            core->net->context, session->connection,
            session->out.data + (session->sent - session->out_base), size);
        core->stats.bytes_out_total += sent;
        session->active_ms = core->now_ms;
        session->clogged = sent < size;
        session_sent(session, sent);
        if (sent > 0 && session_input(session) > 0) {
            core_mark_ready(core, session);
            core->more = true;
        }
        router_credit(core, session);
    }
    const bool is_done = session->closing || (session->is_eof && list_empty(&session->ready));
    if (is_done && session->sent == session_end(session) && session->forward_count == 0) {
        core_close_session(core, session);
        return;
    }
    const uint64_t limit = core->config->output_limit_size + core->config->max_value_size;
    if (session_end(session) - session->sent > limit) {
        core->stats.output_limit_closed++;
        core_log(core, CONFIG_WARN, "client %s does not read its replies: closed at output-limit",
                 session->address);
        core_close_session(core, session);
    }
}

void core_flush_clients(struct core *core)
{
    const uint64_t end = core->stats.bytes_out_total + TURN_SENT_SIZE;
    while (!list_empty(&core->dirty)) {
        if (core->stats.bytes_out_total >= end) {
            core->more = true; /* Those that are left are the first in the next turn. */
            return;
        }
        struct session *session = LIST_ITEM(core->dirty.next, struct session, dirty);
        list_remove(&session->dirty);
        flush_session(core, session);
    }
}

/* ---- timeouts ------------------------------------------------------------------------------------------ */

static bool is_overdue(const struct core *core, const struct session *session)
{
    const struct config *config = core->config;
    const uint64_t now = core->now_ms;
    if (session->begun_ms != 0 && !session->paused && list_empty(&session->ready) &&
        now - session->begun_ms >= config->handshake_timeout_ms &&
        now - session->active_ms >= config->handshake_timeout_ms) {
        return true; /* A command was begun and no more of it came. */
    }
    if (push_is_used(session)) return false; /* It waits to be told something. */
    if (config->idle_timeout_ms == 0 || session->wait_count > 0 || session->forward_count > 0 ||
        session->acks.is_begun || session->lock != NULL) {
        return false;
    }
    return now - session->active_ms >= config->idle_timeout_ms;
}

/* It waits for followers, perhaps for ever, and its client has gone. */
static bool is_forsaken(struct session *session)
{
    if (!session->is_eof) return false;
    if (session->acks.is_begun || session->lock != NULL) return true;
    const struct session_forward *forward = session_first_forward(session);
    return forward != NULL && forward->is_patient;
}

void core_tick_clients(struct core *core)
{
    const bool is_led = shard_ready(&core->shard) || core_leader_peer(core) != NULL;
    for (struct list *at = core->sessions.next, *next; at != &core->sessions; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, all);
        regulate(core, session);
        /* What a connection waited for the last leader does not count when the next one is lost. */
        if (is_led) session->parked_ms = 0;
        if (is_overdue(core, session) || is_forsaken(session)) {
            core->stats.idle_closed++;
            core_close_session(core, session);
        }
    }
}
