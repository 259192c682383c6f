#include "node/push.h"

#include <stdio.h>

#include "node/cmd_push.h"
#include "node/core_parts.h"
#include "node/feed.h"
#include "node/pubsub.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

struct push *push_of(struct session *session)
{
    CHECK(!session_is_proxy(session));
    if (session->push != NULL) return session->push;
    struct push *push = mem_zero(sizeof *push);
    push->session = session;
    list_init(&push->watches);
    list_init(&push->channels);
    list_init(&push->patterns);
    list_init(&push->holding);
    session->push = push;
    return push;
}

bool push_is_used(const struct session *session)
{
    const struct push *push = session->push;
    return push != NULL && push->watch_count + push->channel_count + push->pattern_count > 0;
}

uint32_t push_subscriptions(const struct session *session)
{
    const struct push *push = session->push;
    return push == NULL ? 0 : push->channel_count + push->pattern_count;
}

const char *push_refusal(const struct session *session, const struct command *command, char *text)
{
    if (session->protocol != 2 || !push_is_used(session)) return NULL;
    const bool is_about_it = command->function == cmd_subscribe ||
                             command->function == cmd_unsubscribe ||
                             command->function == cmd_psubscribe ||
                             command->function == cmd_punsubscribe ||
                             command->function == cmd_kv_watch ||
                             command->function == cmd_kv_unwatch || command->function == cmd_ping ||
                             command->function == cmd_quit || command->function == cmd_reset;
    if (is_about_it) return NULL;
    (void)snprintf(text, 192,
                   "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
                   "RESET are allowed in this context",
                   command->name);
    return text;
}

/* A reply is leaving piece by piece: nothing may come between them. */
static bool is_busy(const struct push *push)
{
    return push->session->stream != NULL || push->held.size > 0;
}

struct buf *push_begin(struct core *core, struct push *push)
{
    if (!is_busy(push)) return &push->session->out;
    if (list_empty(&push->holding)) list_append(&core->holding, &push->holding);
    return &push->held;
}

void push_end(struct core *core, struct push *push)
{
    struct session *session = push->session;
    if (list_empty(&push->holding)) {
        session_add_wait(session, (struct session_wait){0});
        core_track_waits(core, session);
        core_mark_dirty(core, session);
    } else if (push->held.size > core->config->output_limit_size) {
        push->is_over = true;
    }
}

void push_turn(struct core *core)
{
    for (struct list *at = core->holding.next, *next; at != &core->holding; at = next) {
        next = at->next;
        struct push *push = LIST_ITEM(at, struct push, holding);
        struct session *session = push->session;
        if (push->is_over) {
            core->stats.output_limit_closed++;
            core_log(core, CONFIG_WARN,
                     "client %s does not read its messages: closed at output-limit",
                     session->address);
            core_close_session(core, session);
            continue;
        }
        if (session->stream != NULL) continue;
        buf_append(&session->out, push->held.data, push->held.size);
        buf_close(&push->held);
        list_remove(&push->holding);
        push_end(core, push);
    }
}

void push_drop(struct core *core, struct session *session)
{
    struct push *push = session->push;
    if (push == NULL) return;
    feed_drop_all(core, push);
    pubsub_drop_all(core, push);
    list_remove(&push->holding);
    buf_close(&push->held);
    mem_free(push);
    session->push = NULL;
}
