/* cmd_feed.c - KV.WATCH and KV.UNWATCH; answered by the node that the client talks to. */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_push.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/feed.h"

struct request {
    struct feed_want want;
    bool has_from;
};

static bool parse_number(struct eval *eval, uint32_t at, uint64_t least, uint64_t most,
                         uint64_t *number)
{
    char text[96];
    int64_t value = 0;
    if (!eval_int(eval, at, &value)) return false;
    if (value < 0 || (uint64_t)value < least || (uint64_t)value > most) {
        (void)snprintf(text, sizeof text, "ERR PROGRESS takes %u to %u milliseconds",
                       FEED_PROGRESS_MIN_MS, FEED_PROGRESS_MAX_MS);
        eval_error(eval, most == INT64_MAX ? "ERR value is out of range, must be positive" : text);
        return false;
    }
    *number = (uint64_t)value;
    return true;
}

static bool parse_range(struct eval *eval, struct feed_want *want, uint32_t *at)
{
    const struct slice what = eval->args[1];
    want->is_prefix = slice_equal_fold(what, "prefix");
    want->is_key = slice_equal_fold(what, "key");
    const bool is_range = slice_equal_fold(what, "range");
    *at = is_range ? 4 : 3;
    if ((!want->is_prefix && !want->is_key && !is_range) || eval->count < *at) {
        eval_syntax_error(eval);
        return false;
    }
    want->from = eval->args[2];
    if (is_range) want->to = eval->args[3];
    if (want->is_key) return eval_key_fits(eval, want->from);
    if (want->from.size <= KEY_SIZE_MAX && want->to.size <= KEY_SIZE_MAX) return true;
    eval_error(eval, "TOOBIG a key has at most 65536 bytes");
    return false;
}

static bool parse(struct eval *eval, struct request *request)
{
    struct feed_want *want = &request->want;
    uint32_t at = 0;
    if (!parse_range(eval, want, &at)) return false;
    for (; at < eval->count; at++) {
        const struct slice word = eval->args[at];
        const bool has_more = at + 1 < eval->count;
        if (slice_equal_fold(word, "from") && has_more) {
            if (!parse_number(eval, ++at, 0, INT64_MAX, &want->revision)) return false;
            request->has_from = true;
        } else if (slice_equal_fold(word, "prev")) {
            want->has_previous = true;
        } else if (slice_equal_fold(word, "progress") && has_more) {
            if (!parse_number(eval, ++at, FEED_PROGRESS_MIN_MS, FEED_PROGRESS_MAX_MS,
                              &want->progress_ms)) {
                return false;
            }
        } else {
            eval_syntax_error(eval);
            return false;
        }
    }
    return true;
}

/* Where it begins. False: not now, or never (an error was replied). */
static bool settle(struct eval *eval, struct request *request)
{
    struct core *core = eval->core;
    struct feed_want *want = &request->want;
    const struct store *store = core->shard.store;
    char text[160];
    /* Whoever names a revision that this node knows needs no leader. */
    if (!request->has_from || want->revision > store_newest_revision(store)) {
        const enum readindex_state state = readindex_ready(core, &eval->session->reads);
        eval->is_later = state == READINDEX_WAITS;
        if (eval->is_later) return false;
        if (state == READINDEX_FAILED) {
            eval_error(eval, "CLUSTERDOWN no leader is known, or this node lags: the command was "
                             "not carried out, try again later");
            return false;
        }
    }
    const uint64_t newest = store_newest_revision(store);
    if (!request->has_from) want->revision = newest;
    if (want->revision > newest) {
        (void)snprintf(text, sizeof text,
                       "ERR revision %" PRIu64 " lies ahead: the newest is %" PRIu64,
                       want->revision, newest);
        eval_error(eval, text);
        return false;
    }
    if (want->revision < feed_oldest(core)) {
        (void)snprintf(text, sizeof text,
                       "COMPACTED revision %" PRIu64
                       " is not kept any more: the oldest is %" PRIu64,
                       want->revision, feed_oldest(core));
        eval_error(eval, text);
        return false;
    }
    return true;
}

void cmd_kv_watch(struct eval *eval)
{
    struct session *session = eval->session;
    struct core *core = eval->core;
    struct request request = {.has_from = false};
    if (session_is_proxy(session)) {
        eval_error(eval, "ERR this is for the node that the client talks to");
        return;
    }
    if (session->wait_count > 0) { /* First what was asked before. */
        eval->is_later = true;
        return;
    }
    if (!parse(eval, &request)) return;
    if (session->push != NULL && session->push->watch_count >= FEED_SESSION_MAX) {
        eval_error(eval, "TOOBIG a connection has at most 100 watches");
        return;
    }
    if (core->feeds.count >= FEED_MAX) {
        eval_error(eval, "TRYAGAIN this node has 10000 watches, which is the most it takes");
        return;
    }
    if (!settle(eval, &request)) return;
    const uint64_t id = feed_open(core, push_of(session), &request.want);
    resp_put_array(eval->out, 2);
    resp_put_int(eval->out, (int64_t)id);
    resp_put_int(eval->out, (int64_t)request.want.revision);
}

void cmd_kv_unwatch(struct eval *eval)
{
    struct push *push = eval->session->push;
    int64_t id = 0;
    if (!eval_int(eval, 1, &id)) return;
    if (id < 1 || push == NULL || !feed_close(eval->core, push, (uint64_t)id)) {
        eval_error(eval, "ERR there is no such watch on this connection");
        return;
    }
    eval_ok(eval);
}
