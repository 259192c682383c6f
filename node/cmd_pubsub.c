/* cmd_pubsub.c - SUBSCRIBE and its kin; answered by the node that the client talks to. */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_push.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/pubsub.h"
#include "node/subcommand.h"

/* ["subscribe", name or nil, subscriptions] */
static void confirm(struct eval *eval, const char *what, struct slice name)
{
    resp_put_push(eval->out, 3, eval->protocol);
    resp_put_text(eval->out, what);
    if (name.data != NULL) {
        resp_put_bulk(eval->out, name);
    } else {
        resp_put_null(eval->out, eval->protocol);
    }
    resp_put_int(eval->out, push_subscriptions(eval->session));
}

static bool is_client(struct eval *eval)
{
    if (!session_is_proxy(eval->session)) return true;
    eval_error(eval, "ERR this is for the node that the client talks to");
    return false;
}

static void subscribe(struct eval *eval, bool is_pattern)
{
    if (!is_client(eval)) return;
    for (uint32_t i = 1; i < eval->count; i++) {
        const struct slice name = eval->args[i];
        struct push *push = push_of(eval->session);
        const char *refusal = pubsub_refusal(eval->core, push, name, is_pattern);
        if (refusal != NULL) {
            eval_error(eval, refusal);
            return;
        }
        (void)pubsub_add(eval->core, push, name, is_pattern); /* Twice is confirmed twice. */
        confirm(eval, is_pattern ? "psubscribe" : "subscribe", name);
    }
}

static void unsubscribe(struct eval *eval, bool is_pattern)
{
    const char *what = is_pattern ? "punsubscribe" : "unsubscribe";
    if (!is_client(eval)) return;
    struct push *push = push_of(eval->session);
    for (uint32_t i = 1; i < eval->count; i++) {
        (void)pubsub_remove(eval->core, push, eval->args[i], is_pattern); /* It may not be there. */
        confirm(eval, what, eval->args[i]);
    }
    if (eval->count > 1) return;
    if (pubsub_first(push, is_pattern).data == NULL) confirm(eval, what, (struct slice){0});
    while (pubsub_first(push, is_pattern).data != NULL) {
        struct buf name = {0};
        const struct slice first = pubsub_first(push, is_pattern);
        (void)buf_reserve(&name, first.size + 1);
        buf_append(&name, first.data, first.size);
        (void)pubsub_remove(eval->core, push, buf_slice(&name), is_pattern);
        confirm(eval, what, buf_slice(&name));
        buf_close(&name);
    }
}

void cmd_subscribe(struct eval *eval)
{
    subscribe(eval, false);
}

void cmd_psubscribe(struct eval *eval)
{
    subscribe(eval, true);
}

void cmd_unsubscribe(struct eval *eval)
{
    unsubscribe(eval, false);
}

void cmd_punsubscribe(struct eval *eval)
{
    unsubscribe(eval, true);
}

bool cmd_publish_fits(struct eval *eval)
{
    const uint64_t size = eval->args[1].size;
    if (size <= PUBSUB_CHANNEL_SIZE_MAX && size + eval->args[2].size <= PUBLISH_SIZE_MAX) {
        return true;
    }
    eval_error(eval, "TOOBIG the name of a channel has at most 4096 bytes, and a message with "
                     "it 262144");
    return false;
}

void cmd_publish(struct eval *eval)
{
    const struct pubsub_wait *wait = &eval->session->publish;
    uint64_t count = wait->count;
    if (!is_client(eval) || !cmd_publish_fits(eval)) return;
    const bool is_first = wait->number == 0 && !pubsub_is_full(eval->core);
    if (wait->is_told || (is_first && pubsub_publish(eval->core, eval->session, eval->args[1],
                                                     eval->args[2], &count))) {
        resp_put_int(eval->out, (int64_t)count);
    } else {
        eval->is_later = true;
    }
}

/* The transaction is committed, and whoever waited for it was told so, or it is known that it did not happen. */
static bool is_decided(const struct eval *eval)
{
    const struct pubsub_exec *exec = &eval->session->exec;
    return !exec->is_done ||
           (exec->batch <= eval->shard->retired_seen && exec->read <= eval->shard->confirmed_seen);
}

void cmd_publish_all(struct eval *eval)
{
    uint32_t *next = &eval->session->publish.next;
    uint64_t count = 0;
    if (!is_client(eval)) return;
    if (!is_decided(eval)) {
        eval->is_later = true;
        return;
    }
    if (!eval->session->exec.is_done) return;
    for (; 2 * *next + 2 < eval->count; *next += 1) {
        const struct slice *message = eval->args + 1 + 2 * *next;
        if (pubsub_is_full(eval->core) || eval->core->turn_work >= CORE_TURN_WORK_MAX) {
            eval->core->more = true;
            eval->is_later = true;
            return;
        }
        (void)pubsub_publish(eval->core, NULL, message[0], message[1], &count); /* In its time. */
    }
}

static void channels(struct eval *eval)
{
    struct buf list = {0};
    const bool is_all = eval->count == 2;
    const struct slice pattern = is_all ? slice_of("", 0) : eval->args[2];
    uint64_t count = 0;
    if (eval_pattern_fits(eval, pattern)) {
        if (pubsub_list(eval->core, pattern, &count, &list)) {
            resp_put_array(eval->out, count);
            buf_append(eval->out, list.data, list.size);
        } else {
            eval_error(eval, "TOOBIG to compare all channels with this pattern takes too long");
        }
    }
    buf_close(&list);
}

void cmd_pubsub(struct eval *eval)
{
    const struct slice sub = eval->args[1];
    const bool is_shard = slice_equal_fold(sub, "shardnumsub");
    if (slice_equal_fold(sub, "help")) {
        subcommand_help(eval);
    } else if (slice_equal_fold(sub, "numpat")) {
        resp_put_int(eval->out, eval->core->pubsub.pattern_count);
    } else if (slice_equal_fold(sub, "numsub") || is_shard) {
        resp_put_array(eval->out, 2 * (eval->count - 2));
        for (uint32_t i = 2; i < eval->count; i++) {
            const uint64_t listeners = is_shard ? 0 : pubsub_listeners(eval->core, eval->args[i]);
            resp_put_bulk(eval->out, eval->args[i]);
            resp_put_int(eval->out, (int64_t)listeners);
        }
    } else if (eval->count > 3) {
        char text[160];
        (void)snprintf(text, sizeof text,
                       "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try "
                       "PUBSUB HELP.",
                       (int)sub.size, (const char *)sub.data);
        eval_error(eval, text);
    } else if (slice_equal_fold(sub, "shardchannels")) {
        resp_put_array(eval->out, 0); /* There are none. */
    } else {
        channels(eval);
    }
}
