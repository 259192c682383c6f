/* core_session.c - clients come and go. What they ask: core_client.c. */
#include <stdio.h>

#include "node/core_parts.h"
#include "node/push.h"
#include "node/router.h"
#include "node/txn.h"
#include "storage/base/check.h"

void core_mark_ready(struct core *core, struct session *session)
{
    if (list_empty(&session->ready)) list_append(&core->ready, &session->ready);
}

void core_mark_dirty(struct core *core, struct session *session)
{
    if (session_is_proxy(session)) return;
    if (list_empty(&session->dirty)) list_append(&core->dirty, &session->dirty);
}

void core_track_waits(struct core *core, struct session *session)
{
    if (session->wait_count > 0 && list_empty(&session->waiting)) {
        list_append(&core->waiting, &session->waiting);
    }
}

struct session *core_find_session(struct core *core, uint64_t id)
{
    struct session *session = core->session_table[id % CORE_TABLE_SIZE];
    while (session != NULL && session->id != id) session = session->table_next;
    return session;
}

static void forget(struct core *core, struct session *session)
{
    struct session **at = &core->session_table[session->id % CORE_TABLE_SIZE];
    while (*at != session) at = &(*at)->table_next;
    *at = session->table_next;
    core->session_count--;
    core->held_size -= session->held_counted;
    router_session_closed(core, session);
    txn_drop(core, session);
    push_drop(core, session);
    session_destroy(session);
}

void core_close_session(struct core *core, struct session *session)
{
    core->net->client_close(core->net->context, session->connection);
    forget(core, session);
}

struct session *core_client_open(struct core *core, void *connection, enum core_face face,
                                 const char *address)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    static const char stopping[] = "-ERR the server is stopping\r\n";
    const bool is_full = core->session_count >= core_connections_max(core);
    if (regain_active(&core->shard.regain)) {
        char line[512] = "-LOADING ";
        regain_describe(&core->shard, line + 9, sizeof line - 11);
        const uint64_t size = strlen(line);
        (void)snprintf(line + size, sizeof line - size, "\r\n");
        core->stats.connections_refused++;
        (void)core->net->client_send(core->net->context, connection, (const uint8_t *)line,
                                     strlen(line));
        return NULL;
    }
    if (is_full || core->stage >= CORE_CLOSING) {
        const char *text = is_full ? full : stopping;
        core->stats.connections_refused++;
        (void)core->net->client_send(core->net->context, connection, (const uint8_t *)text,
                                     strlen(text));
        return NULL;
    }
    struct session *session = session_create(core->next_session_id++, connection, core->now_ms);
    session->face = (uint8_t)face;
    (void)snprintf(session->address, sizeof session->address, "%s", address);
    list_append(&core->sessions, &session->all);
    struct session **chain = &core->session_table[session->id % CORE_TABLE_SIZE];
    session->table_next = *chain;
    *chain = session;
    core->session_count++;
    core->stats.connections_total++;
    return session;
}

void core_client_bytes(struct core *core, struct session *session, const uint8_t *data,
                       uint64_t size)
{
    core->stats.bytes_in_total += size;
    session->active_ms = core->now_ms;
    if (session->closing) return; /* Nothing after QUIT or a protocol error is read. */
    buf_append(&session->in, data, size);
    core_mark_ready(core, session);
}

void core_client_writable(struct core *core, struct session *session)
{
    session->clogged = false;
    core_mark_dirty(core, session);
    core_mark_ready(core, session);
}

void core_client_eof(struct core *core, struct session *session)
{
    session->is_eof = true;
    core_mark_ready(core, session);
    core_mark_dirty(core, session);
}

void core_client_closed(struct core *core, struct session *session)
{
    forget(core, session);
}
