/* cmd_lock.c - KV.LOCK, KV.RENEW, KV.UNLOCK.
 *
 * A lock is an ordinary key: its value is the owner, its expiry the end of the lock unless it is renewed. Who gets a
 * lock gets a token, from one counter for all locks: each token is larger than all before it, so that whatever the lock
 * protects can refuse an owner of the past. The counter is a key of the server's own, changed in the same entry.
 */
#include <inttypes.h>
#include <stdio.h>

#include "node/cmd_lock.h"
#include "node/core_parts.h"
#include "node/eval_reserved.h"
#include "storage/base/limits.h"

#define OWNER_SIZE_MAX 1024u
#define TTL_MS_MAX (365ull * 24 * 3600 * 1000)
#define WAIT_MS_MAX (24ull * 3600 * 1000)

static bool read_ttl(struct eval *eval, uint32_t at, uint64_t *expiry_ms)
{
    int64_t ttl = 0;
    if (!eval_int(eval, at, &ttl)) return false;
    if (ttl < 1 || (uint64_t)ttl > TTL_MS_MAX) {
        eval_error(eval, "ERR the time to live of a lock is 1 to 31536000000 milliseconds");
        return false;
    }
    *expiry_ms = eval->now_ms + (uint64_t)ttl;
    return true;
}

static bool owner_fits(struct eval *eval, uint32_t at)
{
    const uint64_t size = eval->args[at].size;
    if (size > 0 && size <= OWNER_SIZE_MAX) return true;
    eval_error(eval, "ERR the owner of a lock has 1 to 1024 bytes");
    return false;
}

/* Is the key there, and whose is it? False: not known yet, or an error was replied. */
static bool find_owner(struct eval *eval, struct slice owner, struct item *item, bool *is_own)
{
    struct slice value;
    *item = eval_find(eval, eval->args[1]);
    *is_own = false;
    if (!item->exists) return true;
    uint64_t size = 0;
    if (!eval_value_size(eval, item, &size)) return false;
    if (size != owner.size) return true;
    if (!eval_value(eval, item, &value)) return false;
    *is_own = slice_equal(value, owner);
    return true;
}

/* The next token. False: as find_owner. */
static bool take_token(struct eval *eval, int64_t *token)
{
    char text[24];
    struct buf key = {0};
    struct slice value;
    *token = 0;
    eval_reserved_key(&key, "token", (struct slice){0});
    struct item item = eval_find(eval, buf_slice(&key));
    bool ok = !item.exists || eval_value(eval, &item, &value);
    if (ok) {
        const bool is_sound = !item.exists ||
                              (slice_int64(value, token) && *token >= 0 && *token < INT64_MAX);
        if (is_sound) {
            *token += 1;
            (void)snprintf(text, sizeof text, "%" PRId64, *token);
            eval_put(eval, buf_slice(&key), slice_text(text), 0, &item);
        } else { /* A token from a new beginning would be smaller than those before. */
            eval_error(eval, "ERR the counter of tokens is no number: no lock was given");
            ok = false;
        }
    }
    buf_close(&key);
    return ok;
}

/* The lock is another's, or others came first. */
static void wait_or_give_up(struct eval *eval, int64_t wait_ms)
{
    struct session *session = eval->session;
    struct core *core = eval->core;
    const bool is_over = session->lock != NULL ? core->now_ms >= session->lock->until_ms
                                               : wait_ms == 0 || eval->whole != NULL;
    if (is_over) {
        resp_put_null(eval->out, eval->protocol);
    } else if (locks_wait(core, session, eval->args[1], core->now_ms + (uint64_t)wait_ms)) {
        eval->waits = true;
    } else {
        eval_error(eval, "TRYAGAIN too many clients wait for locks");
    }
}

static bool read_wait(struct eval *eval, int64_t *wait_ms)
{
    *wait_ms = 0;
    if (eval->count == 4) return true;
    if (eval->count != 6 || !slice_equal_fold(eval->args[4], "wait")) {
        eval_syntax_error(eval);
        return false;
    }
    if (!eval_int(eval, 5, wait_ms)) return false;
    if (*wait_ms >= 0 && (uint64_t)*wait_ms <= WAIT_MS_MAX) return true;
    eval_error(eval, "ERR WAIT takes 0 to 86400000 milliseconds");
    return false;
}

void cmd_kv_lock(struct eval *eval)
{
    struct item item;
    uint64_t expiry_ms = 0;
    int64_t wait_ms = 0;
    int64_t token = 0;
    bool is_own = false;
    const struct slice owner = eval->args[3];
    if (!read_ttl(eval, 2, &expiry_ms) || !owner_fits(eval, 3) || !read_wait(eval, &wait_ms)) {
        return;
    }
    if (!find_owner(eval, owner, &item, &is_own)) return;
    const struct lock_wait *wait = eval->session->lock;
    const bool is_turn = wait != NULL ? wait->is_first
                                      : !locks_waited(&eval->core->locks, eval->args[1]);
    /* Its owner may ask again, for it may not know that it is the owner: the answer was lost. */
    if (!is_own && (item.exists || !is_turn)) {
        wait_or_give_up(eval, wait_ms);
        return;
    }
    if (!take_token(eval, &token)) return;
    eval_put(eval, eval->args[1], owner, expiry_ms, &item);
    resp_put_int(eval->out, token);
}

void cmd_kv_renew(struct eval *eval)
{
    struct item item;
    uint64_t expiry_ms = 0;
    bool is_own = false;
    if (!read_ttl(eval, 2, &expiry_ms) || !owner_fits(eval, 3)) return;
    if (!find_owner(eval, eval->args[3], &item, &is_own)) return;
    if (is_own) eval_expire(eval, eval->args[1], expiry_ms, &item);
    resp_put_int(eval->out, is_own ? 1 : 0);
}

void cmd_kv_unlock(struct eval *eval)
{
    struct item item;
    bool is_own = false;
    if (!owner_fits(eval, 2)) return;
    if (!find_owner(eval, eval->args[2], &item, &is_own)) return;
    if (is_own) eval_delete(eval, eval->args[1], &item);
    resp_put_int(eval->out, is_own ? 1 : 0);
}
