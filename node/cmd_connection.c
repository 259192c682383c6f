/* cmd_connection.c - commands about the connection itself; answered by the node that the client talks to. */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_face.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/push.h"
#include "node/txn.h"
#include "node/version.h"

void cmd_ping(struct eval *eval)
{
    if (eval->count > 2) {
        eval_error(eval, "ERR wrong number of arguments for 'ping' command");
    } else if (eval->protocol == 2 && push_is_used(eval->session)) {
        resp_put_array(eval->out, 2); /* It looks like a message. */
        resp_put_text(eval->out, "pong");
        resp_put_bulk(eval->out, eval->count == 2 ? eval->args[1] : slice_of("", 0));
    } else if (eval->count == 2) {
        resp_put_bulk(eval->out, eval->args[1]);
    } else {
        resp_put_simple(eval->out, "PONG");
    }
}

void cmd_echo(struct eval *eval)
{
    resp_put_bulk(eval->out, eval->args[1]);
}

/* ---- HELLO, AUTH ------------------------------------------------------------------------------------------ */

/* This version knows one user, default, without a password: exactly what Redis does out of the box. */
static bool user_is_default(struct eval *eval, struct slice user)
{
    if (slice_equal(user, slice_text("default"))) return true;
    eval_error(eval, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

void cmd_auth(struct eval *eval)
{
    if (eval->count > 3) {
        eval_syntax_error(eval);
    } else if (eval->count == 2) {
        eval_error(eval, "ERR AUTH <password> called without any password configured for the "
                         "default user. Are you "
                         "sure your configuration is correct?");
    } else if (user_is_default(eval, eval->args[1])) {
        eval_ok(eval);
    }
}

static void reply_hello(struct eval *eval)
{
    struct core *core = eval->core;
    struct session *session = eval->session;
    const bool is_cluster = session->face == CORE_FACE_CLUSTER;
    const bool leads = replica_role(core->shard.replica) == REPLICA_LEADER;
    resp_put_map(eval->out, 7, session->protocol);
    resp_put_text(eval->out, "server");
    resp_put_text(eval->out, "redis");
    resp_put_text(eval->out, "version");
    resp_put_text(eval->out, KV_REDIS_VERSION);
    resp_put_text(eval->out, "proto");
    resp_put_int(eval->out, session->protocol);
    resp_put_text(eval->out, "id");
    resp_put_int(eval->out, (int64_t)session->id);
    resp_put_text(eval->out, "mode");
    resp_put_text(eval->out, is_cluster ? "cluster" : "standalone");
    resp_put_text(eval->out, "role");
    /* On the standalone face every node takes every write: clients must not look for another master. */
    resp_put_text(eval->out, !is_cluster || leads ? "master" : "replica");
    resp_put_text(eval->out, "modules");
    resp_put_array(eval->out, 0);
}

void cmd_hello(struct eval *eval)
{
    int64_t version = eval->session->protocol;
    char name[sizeof eval->session->name];
    bool has_name = false;
    if (eval->count > 1) {
        if (!slice_int64(eval->args[1], &version)) {
            eval_error(eval, "ERR Protocol version is not an integer or out of range");
            return;
        }
        if (version != 2 && version != 3) {
            eval_error(eval, "NOPROTO unsupported protocol version");
            return;
        }
        const struct push *push = eval->session->push;
        if (push != NULL && push->watch_count > 0 && version != eval->session->protocol) {
            /* A message that is being made could not be read in either. */
            eval_error(eval, "ERR the protocol stays as it is while the connection has watches");
            return;
        }
    }
    for (uint32_t i = 2; i < eval->count; i++) {
        const uint32_t more = eval->count - i - 1;
        if (slice_equal_fold(eval->args[i], "auth") && more >= 2) {
            if (!user_is_default(eval, eval->args[i + 1])) return;
            i += 2;
        } else if (slice_equal_fold(eval->args[i], "setname") && more >= 1) {
            if (!cmd_client_text(eval, eval->args[i + 1], name, sizeof name, "Client names"))
                return;
            has_name = true;
            i += 1;
        } else {
            char text[96];
            (void)snprintf(text, sizeof text, "ERR Syntax error in HELLO option '%.*s'",
                           eval->args[i].size < 32 ? (int)eval->args[i].size : 32,
                           (const char *)eval->args[i].data);
            eval_error(eval, text);
            return;
        }
    }
    if (has_name) memcpy(eval->session->name, name, sizeof name);
    eval->session->protocol = (uint8_t)version;
    reply_hello(eval);
}

void cmd_select(struct eval *eval)
{
    int64_t index = 0;
    if (!eval_int(eval, 1, &index)) return;
    if (index == 0) {
        eval_ok(eval);
    } else if (eval->session->face == CORE_FACE_CLUSTER) {
        eval_error(eval, "ERR SELECT is not allowed in cluster mode");
    } else {
        eval_error(eval, "ERR DB index is out of range");
    }
}

void cmd_quit(struct eval *eval)
{
    eval_ok(eval);
    eval->session->closing = true;
}

void cmd_reset(struct eval *eval)
{
    txn_drop(eval->core, eval->session);
    push_drop(eval->core, eval->session);
    eval->session->protocol = 2;
    eval->session->name[0] = 0;
    eval->session->is_readonly = false;
    eval->session->redirects = false;
    eval->session->mute = SESSION_REPLIES;
    resp_put_simple(eval->out, "RESET");
}
