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

/* ---- COMMAND -------------------------------------------------------------------------------------------------- */

static void put_flags(struct eval *eval, const struct command *command)
{
    const char *flags[7];
    uint32_t count = 0;
    if ((command->flags & CMD_WRITE) != 0) flags[count++] = "write";
    if ((command->flags & CMD_WRITE) != 0 && (command->flags & (CMD_FREES | CMD_EXPIRY)) == 0)
        flags[count++] = "denyoom";
    if ((command->flags & CMD_READ) != 0) flags[count++] = "readonly";
    if ((command->flags & CMD_LOCAL) != 0) flags[count++] = "loading";
    if ((command->flags & CMD_LOCAL) != 0) flags[count++] = "stale";
    if ((command->flags & CMD_FAST) != 0) flags[count++] = "fast";
    /* Cluster clients look for the channels, where they would otherwise miss a key. */
    if (strcmp(command->group, "pubsub") == 0) flags[count++] = "pubsub";
    resp_put_set(eval->out, count, eval->protocol);
    for (uint32_t i = 0; i < count; i++) resp_put_simple(eval->out, flags[i]);
}

static void put_command(struct eval *eval, const struct command *command)
{
    if (command == NULL) {
        resp_put_null_array(eval->out, eval->protocol);
        return;
    }
    char category[64];
    resp_put_array(eval->out, 10);
    resp_put_text(eval->out, command->name);
    resp_put_int(eval->out, command->arity);
    put_flags(eval, command);
    resp_put_int(eval->out, command->key_first);
    resp_put_int(eval->out, command->key_last);
    resp_put_int(eval->out, command->key_step);
    (void)snprintf(category, sizeof category, "@%s", command->group);
    resp_put_set(eval->out, 1, eval->protocol);
    resp_put_simple(eval->out, category);
    resp_put_array(eval->out, 0); /* tips */
    resp_put_array(eval->out, 0); /* key specifications */
    resp_put_array(eval->out, 0); /* subcommands */
}

static void put_docs(struct eval *eval, const struct command *command)
{
    resp_put_text(eval->out, command->name);
    resp_put_map(eval->out, 5, eval->protocol);
    resp_put_text(eval->out, "summary");
    resp_put_text(eval->out, command->summary);
    resp_put_text(eval->out, "since");
    resp_put_text(eval->out, command->since);
    resp_put_text(eval->out, "group");
    resp_put_text(eval->out, command->group);
    resp_put_text(eval->out, "complexity");
    resp_put_text(eval->out, command->complexity);
    resp_put_text(eval->out, "syntax");
    resp_put_text(eval->out, command->syntax);
}

static void command_docs(struct eval *eval)
{
    uint32_t found = 0;
    if (eval->count == 2) {
        resp_put_map(eval->out, command_count(), eval->protocol);
        for (uint32_t i = 0; i < command_count(); i++) put_docs(eval, command_at(i));
        return;
    }
    for (uint32_t i = 2; i < eval->count; i++) found += command_find(eval->args[i]) != NULL;
    resp_put_map(eval->out, found, eval->protocol);
    for (uint32_t i = 2; i < eval->count; i++) {
        const struct command *command = command_find(eval->args[i]);
        if (command != NULL) put_docs(eval, command);
    }
}

static void command_getkeys(struct eval *eval)
{
    const struct command *command = eval->count > 2 ? command_find(eval->args[2]) : NULL;
    const int64_t count = (int64_t)eval->count - 2;
    if (command == NULL) {
        eval_error(eval, "ERR Invalid command specified");
    } else if (!command_arity_fits(command, (uint32_t)count)) {
        eval_error(eval, "ERR Invalid number of arguments specified for command");
    } else if (command->key_first == 0) {
        eval_error(eval, "ERR The command has no key arguments");
    } else {
        const int64_t last = command->key_last < 0 ? count + command->key_last : command->key_last;
        resp_put_array(eval->out, (uint64_t)((last - command->key_first) / command->key_step + 1));
        for (int64_t at = command->key_first; at <= last; at += command->key_step) {
            resp_put_bulk(eval->out, eval->args[at + 2]);
        }
    }
}

void cmd_command(struct eval *eval)
{
    if (eval->count == 1) {
        resp_put_array(eval->out, command_count());
        for (uint32_t i = 0; i < command_count(); i++) put_command(eval, command_at(i));
    } else if (slice_equal_fold(eval->args[1], "count")) {
        resp_put_int(eval->out, command_count());
    } else if (slice_equal_fold(eval->args[1], "docs")) {
        command_docs(eval);
    } else if (slice_equal_fold(eval->args[1], "list")) {
        resp_put_array(eval->out, command_count());
        for (uint32_t i = 0; i < command_count(); i++)
            resp_put_text(eval->out, command_at(i)->name);
    } else if (slice_equal_fold(eval->args[1], "info")) {
        const uint32_t all = eval->count == 2 ? command_count() : eval->count - 2;
        resp_put_array(eval->out, all);
        for (uint32_t i = 0; i < all; i++) {
            put_command(eval, eval->count == 2 ? command_at(i) : command_find(eval->args[i + 2]));
        }
    } else if (slice_equal_fold(eval->args[1], "getkeys")) {
        command_getkeys(eval);
    } else {
        const struct slice sub = eval->args[1];
        char text[128];
        (void)snprintf(text, sizeof text, "ERR unknown subcommand '%.*s'. Try COMMAND HELP.",
                       sub.size < 64 ? (int)sub.size : 64, (const char *)sub.data);
        eval_error(eval, text);
    }
}
