/* What an answer, or its absence, says about a command: did it happen, and may it be sent again? The one place where
 * that is decided, for the synchronous and the asynchronous client. */
#include "client/kv_internal.h"

#include <stdio.h>

#define MESSAGE_TEXT_MAX 400u /* bytes of a server's words in a message */

const char *kv_link_words(enum kv_link_status status)
{
    switch (status) {
    case KV_LINK_TIMEOUT: return "no answer in time";
    case KV_LINK_NOMEM: return "no memory for the reply";
    case KV_LINK_TOO_BIG: return "the reply is too big";
    default: return "the connection broke";
    }
}

bool kv_begins(struct slice text, const char *code)
{
    const size_t size = strlen(code);
    return text.size >= size && memcmp(text.data, code, size) == 0 &&
           (text.size == size || text.data[size] == ' ');
}

bool kv_unwelcome(struct slice text)
{
    return kv_begins(text, "NOAUTH") || kv_begins(text, "NOPERM") || kv_begins(text, "WRONGPASS") ||
           kv_begins(text, "DENIED");
}

bool kv_item_repeats(const struct kv_item *item)
{
    return item->read || item->stamp > 0;
}

/* "MOVED 1234 host:port": that node is next. */
static void follow_move(struct kv_attempt *attempt, struct slice text)
{
    const uint8_t *end = text.data + text.size;
    const uint8_t *at = memchr(text.data + 6, ' ', text.size - 6);
    if (at == NULL || ++at == end || attempt->nodes == NULL) return;
    kv_nodes_prefer(attempt->nodes, (const char *)at, (size_t)(end - at));
    attempt->moved = true;
}

/* The server's error @text: what it says about the command. */
static enum kv_err judge_error(struct kv_attempt *attempt, const struct kv_item *item,
                               struct slice text)
{
    if (kv_begins(text, "MOVED") && text.size > 6) {
        follow_move(attempt, text);
        attempt->leave = true;
        return KV_ERR_REFUSED;
    }
    if (kv_begins(text, "TRYAGAIN")) return KV_ERR_REFUSED;
    if (kv_begins(text, "CLUSTERDOWN") || kv_begins(text, "LOADING") ||
        kv_begins(text, "MASTERDOWN") || kv_begins(text, "READONLY")) {
        attempt->leave = true;
        return KV_ERR_REFUSED;
    }
    if (kv_begins(text, "UNCERTAIN")) return item->read ? KV_ERR_TIMEOUT : KV_ERR_UNKNOWN;
    if (kv_begins(text, "COMPACTED")) return KV_ERR_COMPACTED;
    return KV_ERR_FAILED;
}

static enum kv_err judge_silence(const struct kv_attempt *attempt, const struct kv_item *item)
{
    if (item->sent && !item->read) return KV_ERR_UNKNOWN;
    if (attempt->status == KV_LINK_NOMEM) return KV_ERR_NOMEM;
    if (attempt->status == KV_LINK_TOO_BIG) return KV_ERR_FAILED;
    return KV_ERR_TIMEOUT;
}

void kv_item_give_up(struct kv_item *item, enum kv_err err)
{
    item->err = item->doubt ? KV_ERR_UNKNOWN : err;
}

/* Fills in the item's err; the message is that of the first item that failed for good. */
static void judge(struct kv_attempt *attempt, size_t at, bool speak)
{
    struct kv_item *item = &attempt->batch->items[at];
    struct slice text = {0};
    if (!item->answered) {
        kv_item_give_up(item, judge_silence(attempt, item));
        if (item->err == KV_ERR_UNKNOWN) item->doubt = true;
        if (!speak) return;
        (void)snprintf(attempt->message, KV_MESSAGE_SIZE, "%s: %s%s", attempt->address,
                       kv_link_words(attempt->status),
                       item->err == KV_ERR_UNKNOWN ? "; the write may have happened" : "");
        return;
    }
    item->err = KV_OK;
    if (!kv_batch_error(attempt->batch, at, &text)) return;
    item->err = judge_error(attempt, item, text);
    if (item->err == KV_ERR_UNKNOWN) item->doubt = true;
    if (item->err == KV_ERR_REFUSED) kv_item_give_up(item, item->err);
    if (speak) {
        (void)snprintf(attempt->message, KV_MESSAGE_SIZE, "%.*s",
                       (int)(text.size < MESSAGE_TEXT_MAX ? text.size : MESSAGE_TEXT_MAX),
                       (const char *)text.data);
    }
}

/* Whether the item may be run again, now that it is judged. */
static bool may_repeat(const struct kv_attempt *attempt, const struct kv_item *item)
{
    if (item->err == KV_ERR_REFUSED || item->err == KV_ERR_TIMEOUT) return true;
    if (item->err != KV_ERR_UNKNOWN || item->stamp == 0) return false;
    /* What did not fit will not fit the next time. */
    return item->answered ||
           (attempt->status != KV_LINK_NOMEM && attempt->status != KV_LINK_TOO_BIG);
}

/* Only a tail is repeated, so that commands take effect in their order. And nothing is repeated behind a write whose
 * outcome is unknown: that write might still happen, after the repeated one. */
size_t kv_attempt_settle(struct kv_attempt *attempt)
{
    bool quiet = true;
    bool unknown = false;
    size_t again = attempt->first;
    for (size_t i = attempt->first; i < attempt->end; i++) {
        const struct kv_item *item = &attempt->batch->items[i];
        judge(attempt, i, quiet);
        if (item->err != KV_OK) quiet = false;
        if (may_repeat(attempt, item)) continue;
        if (item->err == KV_ERR_UNKNOWN) unknown = true;
        again = i + 1;
    }
    return unknown ? attempt->end : again;
}

enum kv_err kv_batch_first_failure(const struct kv_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].err != KV_OK) return batch->items[i].err;
    }
    return KV_OK;
}
