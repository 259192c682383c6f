/* cmd_client.c - CLIENT: the connections of this node, and what one wants to be different for it. */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_face.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/push.h"
#include "node/subcommand.h"
#include "node/txn.h"
#include "storage/base/check.h"

#define USER "default" /* the only one */

/* ---- names ---------------------------------------------------------------------------------------------- */

static bool is_printable(struct slice text)
{
    for (uint64_t i = 0; i < text.size; i++) {
        if (text.data[i] < '!' || text.data[i] > '~') return false;
    }
    return true;
}

bool cmd_client_text(struct eval *eval, struct slice value, char *text, uint64_t size,
                     const char *what)
{
    char error[128];
    if (!is_printable(value)) {
        (void)snprintf(error, sizeof error,
                       "ERR %s cannot contain spaces, newlines or special characters.", what);
        eval_error(eval, error);
        return false;
    }
    (void)snprintf(text, size, "%.*s", value.size < size ? (int)value.size : (int)size - 1,
                   (const char *)value.data);
    return true;
}

static void client_setname(struct eval *eval)
{
    struct session *session = eval->session;
    if (cmd_client_text(eval, eval->args[2], session->name, sizeof session->name, "Client names"))
        eval_ok(eval);
}

static void client_getname(struct eval *eval)
{
    if (eval->session->name[0] != 0) {
        resp_put_text(eval->out, eval->session->name);
    } else {
        resp_put_null(eval->out, eval->protocol);
    }
}

/* Attributes that we do not know are taken too: clients send new ones from time to time. */
static void client_setinfo(struct eval *eval)
{
    struct session *session = eval->session;
    char *text = NULL;
    uint64_t size = 0;
    if (slice_equal_fold(eval->args[2], "lib-name")) {
        text = session->library;
        size = sizeof session->library;
    } else if (slice_equal_fold(eval->args[2], "lib-ver")) {
        text = session->library_version;
        size = sizeof session->library_version;
    }
    const char *what = text == session->library ? "lib-name" : "lib-ver";
    if (text == NULL || cmd_client_text(eval, eval->args[3], text, size, what)) eval_ok(eval);
}

/* ---- LIST, INFO, KILL -------------------------------------------------------------------------------------- */

/* Which connections are meant. */
struct chosen {
    const struct slice *ids; /* NULL: any */
    uint32_t id_count;
    struct slice address, listener; /* data NULL: any */
    const char *type;               /* NULL: any */
    bool skips_self;
};

static const char *listener_of(const struct core *core, const struct session *session)
{
    const bool is_cluster = session->face == CORE_FACE_CLUSTER;
    return is_cluster ? core->config->advertise_cluster_client : core->config->advertise_client;
}

static bool is_chosen(const struct core *core, const struct session *session,
                      const struct chosen *chosen)
{
    bool found = chosen->ids == NULL;
    for (uint32_t i = 0; i < chosen->id_count && !found; i++) {
        int64_t id = 0;
        found = slice_int64(chosen->ids[i], &id) && (uint64_t)id == session->id;
    }
    if (chosen->type != NULL &&
        strcmp(chosen->type, push_is_used(session) ? "pubsub" : "normal") != 0) {
        return false;
    }
    if (chosen->address.data != NULL &&
        !slice_equal(chosen->address, slice_text(session->address))) {
        return false;
    }
    if (chosen->listener.data != NULL &&
        !slice_equal(chosen->listener, slice_text(listener_of(core, session)))) {
        return false;
    }
    return found;
}

static void describe(const struct core *core, const struct session *session, struct buf *out)
{
    const struct push *push = session->push;
    const bool is_multi = txn_is_open(session);
    const bool is_told = push_is_used(session);
    const bool is_plain = !is_multi && !is_told && !session->is_readonly;
    buf_printf(out,
               "id=%" PRIu64 " addr=%s laddr=%s fd=0 name=%s age=%" PRIu64 " idle=%" PRIu64
               " flags=%s%s%s%s db=0 sub=%u psub=%u ssub=0 multi=%d qbuf=%" PRIu64
               " qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 "
               "omem=%" PRIu64 " tot-mem=%" PRIu64
               " events=r cmd=%s user=%s redir=-1 resp=%u lib-name=%s lib-ver=%s\n",
               session->id, session->address, listener_of(core, session), session->name,
               (core->now_ms - session->opened_ms) / 1000,
               (core->now_ms - session->active_ms) / 1000, is_told ? "P" : "", is_multi ? "x" : "",
               session->is_readonly ? "r" : "", is_plain ? "N" : "",
               push == NULL ? 0 : push->channel_count, push == NULL ? 0 : push->pattern_count,
               is_multi ? (int)txn_count(session) : -1, session_input(session),
               session_end(session) - session->sent, session->in.capacity + session->out.capacity,
               session->last_command != NULL ? session->last_command : "NULL", USER,
               session->protocol, session->library, session->library_version);
}

static void put_list(struct eval *eval, const struct chosen *chosen)
{
    struct buf text = {0};
    const struct list *all = &eval->core->sessions;
    for (const struct list *at = all->next; at != all; at = at->next) {
        const struct session *session = LIST_ITEM(at, const struct session, all);
        if (is_chosen(eval->core, session, chosen)) describe(eval->core, session, &text);
    }
    resp_put_verbatim(eval->out, buf_slice(&text), eval->protocol);
    buf_close(&text);
}

static void client_info(struct eval *eval)
{
    struct buf text = {0};
    describe(eval->core, eval->session, &text);
    resp_put_verbatim(eval->out, buf_slice(&text), eval->protocol);
    buf_close(&text);
}

static bool parse_type(struct eval *eval, struct slice name, struct chosen *chosen)
{
    /* Other nodes are no clients, so there are no masters and replicas among them. */
    static const char *const types[] = {"normal", "pubsub", "master", "replica", "slave"};
    bool found = false;
    for (uint32_t i = 0; i < sizeof types / sizeof types[0] && !found; i++) {
        found = slice_equal_fold(name, types[i]);
        chosen->type = types[i];
    }
    if (found) return true;
    char text[96];
    (void)snprintf(text, sizeof text, "ERR Unknown client type '%.*s'",
                   name.size < 32 ? (int)name.size : 32, (const char *)name.data);
    eval_error(eval, text);
    return false;
}

static bool parse_ids(struct eval *eval, uint32_t first, uint32_t count, struct chosen *chosen,
                      const char *error)
{
    for (uint32_t i = first; i < first + count; i++) {
        int64_t id = 0;
        if (slice_int64(eval->args[i], &id) && id > 0) continue;
        eval_error(eval, error);
        return false;
    }
    chosen->ids = &eval->args[first];
    chosen->id_count = count;
    return true;
}

static void client_list(struct eval *eval)
{
    struct chosen chosen = {0};
    if (eval->count == 4 && slice_equal_fold(eval->args[2], "type")) {
        if (!parse_type(eval, eval->args[3], &chosen)) return;
    } else if (eval->count >= 4 && slice_equal_fold(eval->args[2], "id")) {
        if (!parse_ids(eval, 3, eval->count - 3, &chosen, "ERR Invalid client ID")) return;
    } else if (eval->count != 2) {
        eval_syntax_error(eval);
        return;
    }
    put_list(eval, &chosen);
}

/* The filters of KILL: name, value, ... */
static bool parse_filters(struct eval *eval, struct chosen *chosen)
{
    chosen->skips_self = true;
    if (eval->count % 2 != 0) {
        eval_syntax_error(eval);
        return false;
    }
    for (uint32_t i = 2; i < eval->count; i += 2) {
        const struct slice name = eval->args[i];
        const struct slice value = eval->args[i + 1];
        if (slice_equal_fold(name, "id")) {
            if (!parse_ids(eval, i + 1, 1, chosen, "ERR client-id should be greater than 0"))
                return false;
        } else if (slice_equal_fold(name, "type")) {
            if (!parse_type(eval, value, chosen)) return false;
        } else if (slice_equal_fold(name, "addr")) {
            chosen->address = value;
        } else if (slice_equal_fold(name, "laddr")) {
            chosen->listener = value;
        } else if (slice_equal_fold(name, "user")) {
            if (slice_equal(value, slice_text(USER))) continue;
            char text[96];
            (void)snprintf(text, sizeof text, "ERR No such user '%.*s'",
                           value.size < 32 ? (int)value.size : 32, (const char *)value.data);
            eval_error(eval, text);
            return false;
        } else if (slice_equal_fold(name, "skipme") && slice_equal_fold(value, "yes")) {
            chosen->skips_self = true;
        } else if (slice_equal_fold(name, "skipme") && slice_equal_fold(value, "no")) {
            chosen->skips_self = false;
        } else {
            eval_syntax_error(eval);
            return false;
        }
    }
    return true;
}

static void client_kill(struct eval *eval)
{
    struct core *core = eval->core;
    struct chosen chosen = {0};
    const bool is_old = eval->count == 3; /* CLIENT KILL address */
    int64_t killed = 0;
    if (is_old) {
        chosen.address = eval->args[2];
    } else if (!parse_filters(eval, &chosen)) {
        return;
    }
    for (struct list *at = core->sessions.next, *next; at != &core->sessions; at = next) {
        next = at->next;
        struct session *session = LIST_ITEM(at, struct session, all);
        if (!is_chosen(core, session, &chosen)) continue;
        if (session == eval->session && chosen.skips_self) continue;
        killed++;
        if (session == eval->session) {
            session->closing = true; /* once it has the answer */
        } else {
            core_close_session(core, session);
        }
    }
    if (!is_old) {
        resp_put_int(eval->out, killed);
    } else if (killed > 0) {
        eval_ok(eval);
    } else {
        eval_error(eval, "ERR No such client");
    }
}

/* ---- what a connection wants ---------------------------------------------------------------------------------- */

static void client_reply(struct eval *eval)
{
    struct session *session = eval->session;
    const struct slice how = eval->args[2];
    if (slice_equal_fold(how, "on")) {
        session->mute = SESSION_REPLIES;
        eval_ok(eval);
    } else if (slice_equal_fold(how, "off")) {
        session->mute = SESSION_MUTE;
    } else if (slice_equal_fold(how, "skip")) {
        if (session->mute != SESSION_MUTE) session->mute = SESSION_SKIPS_NEXT;
    } else {
        eval_syntax_error(eval);
    }
}

/* Nothing is ever evicted here, and reads leave no trace. */
static void client_switch(struct eval *eval)
{
    if (slice_equal_fold(eval->args[2], "on") || slice_equal_fold(eval->args[2], "off")) {
        eval_ok(eval);
    } else {
        eval_syntax_error(eval);
    }
}

/* Capabilities that we do not know are taken too, as Valkey does. */
static void client_capa(struct eval *eval)
{
    for (uint32_t i = 2; i < eval->count; i++) {
        if (slice_equal_fold(eval->args[i], "redirect")) eval->session->redirects = true;
    }
    eval_ok(eval);
}

static void client_tracking(struct eval *eval)
{
    if (slice_equal_fold(eval->args[2], "off")) {
        eval_ok(eval);
    } else if (slice_equal_fold(eval->args[2], "on")) {
        eval_error(eval, "ERR client side caching is not supported: use KV.WATCH");
    } else {
        eval_syntax_error(eval);
    }
}

static void client_trackinginfo(struct eval *eval)
{
    resp_put_map(eval->out, 3, eval->protocol);
    resp_put_text(eval->out, "flags");
    resp_put_set(eval->out, 1, eval->protocol);
    resp_put_text(eval->out, "off");
    resp_put_text(eval->out, "redirect");
    resp_put_int(eval->out, -1);
    resp_put_text(eval->out, "prefixes");
    resp_put_array(eval->out, 0);
}

static void client_id(struct eval *eval)
{
    resp_put_int(eval->out, (int64_t)eval->session->id);
}

static void client_getredir(struct eval *eval)
{
    resp_put_int(eval->out, -1);
}

static const struct {
    const char *name;
    void (*function)(struct eval *eval);
} subcommands[] = {
    {"capa", client_capa},
    {"getname", client_getname},
    {"getredir", client_getredir},
    {"help", subcommand_help},
    {"id", client_id},
    {"info", client_info},
    {"kill", client_kill},
    {"list", client_list},
    {"no-evict", client_switch},
    {"no-touch", client_switch},
    {"reply", client_reply},
    {"setinfo", client_setinfo},
    {"setname", client_setname},
    {"tracking", client_tracking},
    {"trackinginfo", client_trackinginfo},
};

/* The table of subcommands has let it through: it is one of these. */
void cmd_client(struct eval *eval)
{
    uint32_t at = 0;
    while (!slice_equal_fold(eval->args[1], subcommands[at].name)) {
        at++;
        CHECK(at < sizeof subcommands / sizeof subcommands[0]);
    }
    subcommands[at].function(eval);
}
