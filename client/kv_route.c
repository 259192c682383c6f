/* Which node operations go to: any that answers, and then the leader, which is the shorter way. */
#include "client/kv_engine_parts.h"

#include <stdio.h>

#define LEADER_CHECK_MS 5000        /* how often to look whether the leader moved */
#define LEADER_CHECK_SOON_MS 500    /* while there is none, or it cannot be reached */
#define LEADER_CHECK_NEVER_MS 60000 /* the node does not know the question */
#define AVOID_MS 30000 /* a leader's address that swallows what is sent is left alone */

static void begin(struct kv_async *async, const char *address, int64_t now)
{
    async->dialed = kv_conn_create(async, address, now + async->options.connect_timeout_ms, NULL);
    if (async->dialed != NULL) {
        kv_conn_begin(async->dialed);
        return;
    }
    (void)snprintf(async->why, sizeof async->why, "no memory for a connection");
    async->dial_ready_ms = now + kv_backoff_ms(&async->random, async->dial_failures++);
}

void kv_route_ensure(struct kv_async *async)
{
    /* A node that refuses at once makes room for the next one: each is tried once in a turn at most. */
    for (uint32_t i = 0; i < async->nodes.count; i++) {
        const int64_t now = kv_now_ms();
        if (async->main != NULL || async->dialed != NULL || now < async->dial_ready_ms) return;
        begin(async, async->nodes.list[async->nodes.next % async->nodes.count], now);
    }
}

/* The answers to kv_questions_add() stand in @batch from @at on: goes to the leader, if it is another node. It is only
 * the shorter way, the node at hand forwards as well: operations do not wait for it. */
static void follow_leader(struct kv_conn *conn, struct kv_batch *batch, size_t at, bool is_leader)
{
    struct kv_async *async = conn->async;
    char leader[KV_ADDRESS_SIZE];
    const int64_t now = kv_now_ms();
    const bool knows = kv_leader_address(kv_batch_reply(batch, at), leader);
    kv_nodes_members(&async->nodes, kv_batch_reply(batch, at + 1));
    async->leader_check_ms = now + (knows ? LEADER_CHECK_MS : LEADER_CHECK_NEVER_MS);
    if (knows && leader[0] == 0) async->leader_check_ms = now + LEADER_CHECK_SOON_MS;
    if (leader[0] == 0 || strcmp(leader, conn->address) == 0 || async->dialed != NULL) return;
    if (strcmp(leader, async->avoid) == 0 && now < async->avoid_until_ms) return;
    if (is_leader) { /* It was called the leader and names another one: soon they will agree. */
        async->leader_check_ms = now + LEADER_CHECK_SOON_MS;
        return;
    }
    begin(async, leader, now);
}

/* Nobody will let us in: it makes no sense to wait for another answer. */
static void give_up(struct kv_async *async, const char *why)
{
    while (async->pending.first != NULL) {
        kv_op_abandon(async->pending.first, KV_ERR_FAILED, why);
    }
}

void kv_route_greeted(struct kv_conn *conn)
{
    struct kv_async *async = conn->async;
    struct slice text = {0};
    if (conn->state != KV_CONN_GREETING) return;
    if (kv_batch_error(&conn->greeting.batch, 0, &text) && kv_unwelcome(text)) {
        kv_conn_close(conn, KV_LINK_LOST);
        return;
    }
    conn->state = KV_CONN_READY;
    if (conn->feed != NULL) {
        kv_nodes_members(&async->nodes,
                         kv_batch_reply(&conn->greeting.batch, KV_GREETING_COUNT + 1));
        kv_feed_greeted(conn->feed);
        return;
    }
    const bool is_leader = async->main != NULL; /* Else there was nobody to call it so. */
    struct kv_conn *old = async->main;
    async->main = conn;
    async->dialed = NULL;
    async->dial_failures = 0;
    async->why[0] = 0;
    if (old != NULL) kv_conn_leave(old);
    async->main = conn;
    follow_leader(conn, &conn->greeting.batch, KV_GREETING_COUNT, is_leader);
    kv_op_clear(&conn->greeting);
}

void kv_route_ask(struct kv_async *async)
{
    struct kv_op *question = &async->question;
    if (async->asked != NULL || kv_now_ms() < async->leader_check_ms) return;
    kv_op_clear(question);
    kv_op_init_ours(question, async, KV_OP_GREETING);
    async->leader_check_ms = kv_now_ms() + LEADER_CHECK_SOON_MS;
    if (!kv_questions_add(&question->batch) || !kv_batch_prepare_size(&question->batch, 1024)) {
        return;
    }
    if (kv_conn_put(async->main, question)) async->asked = async->main;
}

void kv_route_answered(struct kv_async *async)
{
    struct kv_conn *conn = async->asked;
    async->asked = NULL;
    for (size_t i = 0; i < async->question.batch.count; i++) {
        if (!async->question.batch.items[i].answered) return;
    }
    if (conn == async->main) follow_leader(conn, &async->question.batch, 0, false);
}

void kv_route_lost(struct kv_conn *conn, enum kv_link_status status)
{
    struct kv_async *async = conn->async;
    const int64_t now = kv_now_ms();
    if (async->asked == conn) async->asked = NULL;
    if (async->main == conn) {
        async->main = NULL;
        async->nodes.next++;
    }
    if (async->dialed != conn) return;
    async->dialed = NULL;
    if (async->main != NULL) { /* It was to be a shorter way. */
        async->leader_check_ms = now + LEADER_CHECK_SOON_MS;
        if (status != KV_LINK_TIMEOUT) return;
        memcpy(async->avoid, conn->address, sizeof async->avoid);
        async->avoid_until_ms = now + AVOID_MS;
        return;
    }
    memcpy(async->why, conn->why, sizeof async->why);
    async->nodes.next++;
    async->dial_failures++;
    async->dial_ready_ms = now;
    if (async->dial_failures % async->nodes.count == 0) {
        const uint32_t round = async->dial_failures / async->nodes.count;
        async->dial_ready_ms = now + kv_backoff_ms(&async->random, round - 1);
    }
    if (conn->is_unwelcome) give_up(async, conn->why);
}
