#include "client/kv_internal.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef KV_VERSION
#define KV_VERSION "0.1.0"
#endif

#define TIMEOUT_DEFAULT_MS 5000
#define CONNECT_TIMEOUT_DEFAULT_MS 1000
#define REPLY_SIZE_DEFAULT (512u * 1024u * 1024u)
#define LEADER_CHECK_MS 5000        /* how often to look whether the leader moved */
#define LEADER_CHECK_SOON_MS 500    /* while there is none, or it cannot be reached */
#define LEADER_CHECK_NEVER_MS 60000 /* the node does not know the question */
#define AVOID_MS 30000 /* a leader's address that swallows what is sent is left alone */
#define BACKOFF_FIRST_MS 10
#define BACKOFF_MAX_MS 200
#define MARGIN_MAX_MS 50
#define READ_TRY_MIN_MS                                                                            \
    100 /* a read waits at least so long for a node before it asks another one */

/* ---- names and messages ---------------------------------------------------------------------- */

const char *kv_err_name(enum kv_err err)
{
    static const char *const names[] = {
        [KV_OK] = "ok",
        [KV_ERR_NOT_FOUND] = "not_found",
        [KV_ERR_CONDITION] = "condition",
        [KV_ERR_INVALID] = "invalid",
        [KV_ERR_FAILED] = "failed",
        [KV_ERR_REFUSED] = "refused",
        [KV_ERR_TIMEOUT] = "timeout",
        [KV_ERR_UNKNOWN] = "unknown",
        [KV_ERR_NOMEM] = "no_memory",
    };
    return (size_t)err < sizeof names / sizeof names[0] ? names[err] : "no_such_error";
}

const char *kv_version(void)
{
    return KV_VERSION;
}

enum kv_err kv_say(struct kv *kv, enum kv_err err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(kv->message, sizeof kv->message, format, args);
    va_end(args);
    return err;
}

const char *kv_message(const struct kv *kv)
{
    return kv != NULL ? kv->message : "no memory";
}

const char *kv_address(const struct kv *kv)
{
    return kv->link.fd >= 0 ? kv->link.address : "";
}

void kv_set_timeout(struct kv *kv, int64_t timeout_ms)
{
    kv->timeout_ms = timeout_ms < 1 ? 1 : timeout_ms;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void *resize_with_libc(void *context, void *pointer, size_t size)
{
    (void)context;
    if (size == 0) {
        free(pointer);
        return NULL;
    }
    return realloc(pointer, size);
}

void kv_options_init(struct kv_options *options)
{
    *options = (struct kv_options){.nodes = "127.0.0.1:6379",
                                   .timeout_ms = TIMEOUT_DEFAULT_MS,
                                   .connect_timeout_ms = CONNECT_TIMEOUT_DEFAULT_MS,
                                   .reply_size_max = REPLY_SIZE_DEFAULT};
}

void kv_add_node(struct kv *kv, const char *address, size_t size)
{
    char *slot = kv->nodes[kv->node_count < KV_NODES_MAX ? kv->node_count : 0];
    if (size == 0 || size >= KV_ADDRESS_SIZE || kv->node_count == KV_NODES_MAX) return;
    for (uint32_t i = 0; i < kv->node_count; i++) {
        if (strlen(kv->nodes[i]) == size && memcmp(kv->nodes[i], address, size) == 0) return;
    }
    memcpy(slot, address, size);
    slot[size] = 0;
    kv->node_count++;
}

static enum kv_err add_nodes(struct kv *kv, const char *list)
{
    char host[KV_ADDRESS_SIZE];
    char port[8];
    const char *at = list != NULL ? list : "";
    while (*at != 0) {
        const size_t size = strcspn(at, ", ");
        const uint32_t before = kv->node_count;
        kv_add_node(kv, at, size);
        if (size > 0 && kv->node_count > before &&
            !kv_address_parse(kv->nodes[before], host, port)) {
            return kv_say(kv, KV_ERR_INVALID, "%s is not host:port", kv->nodes[before]);
        }
        if (size >= KV_ADDRESS_SIZE) {
            return kv_say(kv, KV_ERR_INVALID, "a node's address is too long");
        }
        at += size;
        at += strspn(at, ", ");
    }
    if (kv->node_count == 0) return kv_say(kv, KV_ERR_INVALID, "no node is given");
    return KV_OK;
}

static struct kv *create(const struct kv_options *options)
{
    struct kv_allocator allocator = options->allocator;
    if (allocator.resize == NULL) allocator.resize = resize_with_libc;
    struct kv *kv = allocator.resize(allocator.context, NULL, sizeof *kv);
    if (kv == NULL) return NULL;
    *kv = (struct kv){
        .allocator = allocator,
        .timeout_ms = options->timeout_ms < 1 ? 1 : options->timeout_ms,
        .connect_timeout_ms = options->connect_timeout_ms < 1 ? 1 : options->connect_timeout_ms,
        .reply_size_max = options->reply_size_max > 0 ? options->reply_size_max
                                                      : REPLY_SIZE_DEFAULT,
        .link = {.fd = -1},
    };
    kv->random = ((uint64_t)(uintptr_t)kv ^ (uint64_t)kv_now_ms()) | 1;
    kv_batch_init(&kv->call, &kv->allocator);
    kv_batch_init(&kv->probe, &kv->allocator);
    return kv;
}

enum kv_err kv_connect(const struct kv_options *options, struct kv **kv)
{
    *kv = create(options);
    if (*kv == NULL) return KV_ERR_NOMEM;
    enum kv_err err = add_nodes(*kv, options->nodes);
    if (err == KV_OK) err = kv_ensure_link(*kv, kv_now_ms() + (*kv)->timeout_ms, true);
    if (err == KV_ERR_NOMEM) {
        kv_close(*kv);
        *kv = NULL;
    }
    return err;
}

void kv_close(struct kv *kv)
{
    if (kv == NULL) return;
    const struct kv_allocator allocator = kv->allocator;
    kv_link_close(&kv->link);
    kv_batch_close(&kv->call);
    kv_batch_close(&kv->probe);
    if (kv->overview != NULL) (void)allocator.resize(allocator.context, kv->overview, 0);
    (void)allocator.resize(allocator.context, kv, 0);
}

enum kv_err kv_stay(struct kv *kv, const char *address)
{
    char kept[KV_ADDRESS_SIZE]; /* it may be one that the handle gave */
    char host[KV_ADDRESS_SIZE];
    char port[8];
    if (!kv_address_parse(address, host, port)) {
        return kv_say(kv, KV_ERR_INVALID, "%s is not host:port", address);
    }
    (void)snprintf(kept, sizeof kept, "%s", address);
    kv_link_close(&kv->link);
    kv->stays = true;
    kv->node_count = 0;
    kv->node_next = 0;
    kv_add_node(kv, kept, strlen(kept));
    return KV_OK;
}

/* ---- connections ----------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Waits a little longer at each try, with some chance in it so that clients do not come back in step. */
static void pause_before(struct kv *kv, uint32_t try, int64_t deadline_ms)
{
    int64_t wait = (int64_t)BACKOFF_FIRST_MS << (try < 5 ? try : 5);
    if (wait > BACKOFF_MAX_MS) wait = BACKOFF_MAX_MS;
    kv->random ^= kv->random << 13;
    kv->random ^= kv->random >> 7;
    kv->random ^= kv->random << 17;
    wait = wait / 2 + (int64_t)(kv->random % (uint64_t)wait);
    const int64_t until = earlier(kv_now_ms() + wait, deadline_ms);
    const struct kv_link nowhere = {.fd = -1};
    (void)kv_link_wait(&nowhere, 0, until);
}

static bool begins(struct slice text, const char *code)
{
    const size_t size = strlen(code);
    return text.size >= size && memcmp(text.data, code, size) == 0 &&
           (text.size == size || text.data[size] == ' ');
}

static enum kv_err add_words(struct kv_batch *batch, const char *const *words, size_t count)
{
    struct kv_bytes args[4];
    for (size_t i = 0; i < count; i++) args[i] = kv_text(words[i]);
    return kv_batch_add(batch, true, args, count);
}

static bool add_greeting(struct kv_batch *batch)
{
    static const char *const hello[] = {"HELLO", "3"};
    static const char *const name[] = {"CLIENT", "SETINFO", "LIB-NAME", "kvclient"};
    static const char *const version[] = {"CLIENT", "SETINFO", "LIB-VER", KV_VERSION};
    kv_batch_clear(batch);
    return add_words(batch, hello, 2) == KV_OK && add_words(batch, name, 4) == KV_OK &&
           add_words(batch, version, 4) == KV_OK;
}

static bool add_questions(struct kv_batch *batch)
{
    static const char *const leader[] = {"KV.LEADER"};
    static const char *const members[] = {"KV.MEMBERS"};
    return add_words(batch, leader, 1) == KV_OK && add_words(batch, members, 1) == KV_OK;
}

static const char *link_words(enum kv_link_status status)
{
    switch (status) {
    case KV_LINK_TIMEOUT: return "no answer in time";
    case KV_LINK_NOMEM: return "no memory for the reply";
    case KV_LINK_TOO_BIG: return "the reply is too big";
    default: return "the connection broke";
    }
}

/* Runs kv->probe on @link. A node that does not want us says so in its first reply, and closes. */
static enum kv_link_status run_probe(struct kv *kv, struct kv_link *link, int64_t deadline_ms,
                                     char *why)
{
    char address[KV_ADDRESS_SIZE];
    struct slice text = {0};
    memcpy(address, link->address, sizeof address);
    if (!kv_batch_prepare(&kv->probe)) return KV_LINK_NOMEM;
    const enum kv_link_status status = kv_batch_run(&kv->probe, link, 0, kv->reply_size_max,
                                                    deadline_ms);
    if (status == KV_LINK_OK) return KV_LINK_OK;
    if (kv->probe.items[0].answered && kv_batch_error(&kv->probe, 0, &text)) {
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s: %.*s", address,
                       (int)earlier(200, (int64_t)text.size), (const char *)text.data);
    } else {
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s: %s", address, link_words(status));
    }
    return status;
}

enum kv_link_status kv_greet(struct kv *kv, struct kv_link *link, int64_t deadline_ms, char *why)
{
    if (!add_greeting(&kv->probe)) return KV_LINK_NOMEM;
    return run_probe(kv, link, deadline_ms, why);
}

/* The reply to KV.LEADER, item @at of the probe: the address, empty when there is no leader. False: the node does not
 * know the question. */
static bool read_leader(struct kv *kv, size_t at, char *address)
{
    const struct kv_reply *reply = kv_batch_reply(&kv->probe, at);
    address[0] = 0;
    if (reply == NULL || reply->type == KV_NIL) return true;
    if (reply->type != KV_ARRAY || reply->count < 2) return false;
    const struct kv_reply *client = &reply->items[1];
    if (client->type == KV_STRING && client->size < KV_ADDRESS_SIZE) {
        memcpy(address, client->data, client->size + 1);
    }
    return true;
}

static void read_members(struct kv *kv, size_t at)
{
    const struct kv_reply *reply = kv_batch_reply(&kv->probe, at);
    if (reply == NULL || reply->type != KV_ARRAY) return;
    for (size_t i = 0; i < reply->count; i++) {
        const struct kv_reply *member = &reply->items[i];
        if (member->type != KV_ARRAY || member->count < 4) continue;
        const struct kv_reply *client = &member->items[3];
        if (client->type == KV_STRING) kv_add_node(kv, client->data, client->size);
    }
}

/* kv->probe holds the answers to add_questions() from item @at on: goes to the leader, if it is another node that can
 * be reached. It is only the shorter way: the node at hand forwards as well. */
static enum kv_link_status follow_leader(struct kv *kv, size_t at, int64_t deadline_ms)
{
    char leader[KV_ADDRESS_SIZE];
    char why[KV_MESSAGE_SIZE];
    struct kv_link link;
    const bool knows = read_leader(kv, at, leader);
    const int64_t now = kv_now_ms();
    if (kv->stays) {
        kv->leader_check_ms = INT64_MAX;
        return KV_LINK_OK;
    }
    read_members(kv, at + 1);
    kv->leader_check_ms = now + (knows ? LEADER_CHECK_MS : LEADER_CHECK_NEVER_MS);
    if (knows && leader[0] == 0) kv->leader_check_ms = now + LEADER_CHECK_SOON_MS;
    if (leader[0] == 0 || strcmp(leader, kv->link.address) == 0) return KV_LINK_OK;
    if (strcmp(leader, kv->avoid) == 0 && now < kv->avoid_until_ms) return KV_LINK_OK;
    /* A quarter of what is left: an address that swallows packets must not eat the whole deadline. */
    const int64_t until = earlier(now + kv->connect_timeout_ms, now + (deadline_ms - now) / 4);
    enum kv_link_status status = kv_link_open(&link, leader, until, why);
    if (status == KV_LINK_OK) status = kv_greet(kv, &link, until, why);
    if (status == KV_LINK_OK) {
        kv_link_close(&kv->link);
        kv->link = link;
        return KV_LINK_OK;
    }
    kv_link_close(&link);
    kv->leader_check_ms = now + LEADER_CHECK_SOON_MS;
    if (status == KV_LINK_TIMEOUT) { /* Each try would cost the callers this wait again. */
        memcpy(kv->avoid, leader, sizeof kv->avoid);
        kv->avoid_until_ms = kv_now_ms() + AVOID_MS;
    }
    return status == KV_LINK_NOMEM ? status : KV_LINK_OK;
}

/* A node that wants a password, or does not let us in, is not going to change its mind. */
static bool unwelcome(struct kv *kv, struct slice *text)
{
    return kv->probe.items[0].answered && kv_batch_error(&kv->probe, 0, text) &&
           (begins(*text, "NOAUTH") || begins(*text, "NOPERM") || begins(*text, "WRONGPASS") ||
            begins(*text, "DENIED"));
}

static enum kv_err try_node(struct kv *kv, const char *address, int64_t deadline_ms, bool *nobody)
{
    char why[KV_MESSAGE_SIZE] = "";
    struct slice text = {0};
    const int64_t until = earlier(deadline_ms, kv_now_ms() + kv->connect_timeout_ms);
    if (!add_greeting(&kv->probe) || !add_questions(&kv->probe)) {
        return kv_say(kv, KV_ERR_NOMEM, "no memory");
    }
    enum kv_link_status status = kv_link_open(&kv->link, address, until, why);
    *nobody = status == KV_LINK_NOBODY;
    if (status == KV_LINK_OK) {
        status = run_probe(kv, &kv->link, until, why);
        if (unwelcome(kv, &text)) {
            const int size = (int)earlier(300, (int64_t)text.size);
            kv_link_close(&kv->link);
            return kv_say(kv, KV_ERR_FAILED, "%.*s", size, (const char *)text.data);
        }
    }
    if (status == KV_LINK_OK) status = follow_leader(kv, 3, deadline_ms);
    if (status == KV_LINK_OK) return KV_OK;
    kv_link_close(&kv->link);
    if (status == KV_LINK_NOMEM) return kv_say(kv, KV_ERR_NOMEM, "no memory");
    return kv_say(kv, KV_ERR_TIMEOUT, "no node can be reached; %s", why);
}

/* Asks the node at hand where the leader is. When it does not answer it is left. */
static enum kv_err check_leader(struct kv *kv, int64_t deadline_ms)
{
    char why[KV_MESSAGE_SIZE];
    const int64_t until = earlier(deadline_ms, kv_now_ms() + kv->connect_timeout_ms);
    kv_batch_clear(&kv->probe);
    if (!add_questions(&kv->probe)) return kv_say(kv, KV_ERR_NOMEM, "no memory");
    enum kv_link_status status = run_probe(kv, &kv->link, until, why);
    if (status == KV_LINK_OK) status = follow_leader(kv, 0, deadline_ms);
    return status == KV_LINK_NOMEM ? kv_say(kv, KV_ERR_NOMEM, "no memory") : KV_OK;
}

enum kv_err kv_ensure_link(struct kv *kv, int64_t deadline_ms, bool give_up_at_once)
{
    if (kv->node_count == 0) return kv_say(kv, KV_ERR_INVALID, "no node is given");
    /* A connection that was closed while nobody looked must be noticed before a write goes into it. */
    if (kv->link.fd >= 0 && !kv_link_alive(&kv->link)) kv_link_close(&kv->link);
    if (kv->link.fd >= 0 && kv_now_ms() >= kv->leader_check_ms) {
        const enum kv_err err = check_leader(kv, deadline_ms);
        if (err != KV_OK) return err;
    }
    for (uint32_t try = 0; kv->link.fd < 0; try++) {
        bool nobody_at_all = true;
        const uint32_t count = kv->node_count; /* a node that is tried may name new ones */
        for (uint32_t i = 0; i < count; i++) {
            bool nobody = false;
            const uint32_t at = kv->node_next % count;
            const enum kv_err err = try_node(kv, kv->nodes[at], deadline_ms, &nobody);
            if (err != KV_ERR_TIMEOUT) return err;
            nobody_at_all = nobody_at_all && nobody;
            kv->node_next = (at + 1) % count;
            if (kv_now_ms() >= deadline_ms) return KV_ERR_TIMEOUT;
        }
        if (give_up_at_once && nobody_at_all) return KV_ERR_REFUSED;
        pause_before(kv, try, deadline_ms);
        if (kv_now_ms() >= deadline_ms) return KV_ERR_TIMEOUT;
    }
    return KV_OK;
}

/* ---- running a batch ------------------------------------------------------------------------- */

/* One kv_execute() under way. */
struct attempt {
    struct kv *kv;
    struct kv_batch *batch;
    size_t first;                  /* items before it are settled */
    enum kv_link_status status;    /* of the run */
    char address[KV_ADDRESS_SIZE]; /* of the node that was asked */
    bool moved;                    /* it named another node */
    bool leave;                    /* another node may know better */
};

/* "MOVED 1234 host:port": that node is next. */
static void follow_move(struct attempt *attempt, struct slice text)
{
    struct kv *kv = attempt->kv;
    const uint8_t *end = text.data + text.size;
    const uint8_t *at = memchr(text.data + 6, ' ', text.size - 6);
    if (at == NULL || ++at == end || kv->stays) return;
    kv_add_node(kv, (const char *)at, (size_t)(end - at));
    for (uint32_t i = 0; i < kv->node_count; i++) {
        const bool same = strlen(kv->nodes[i]) == (size_t)(end - at) &&
                          memcmp(kv->nodes[i], at, (size_t)(end - at)) == 0;
        if (same) kv->node_next = i;
    }
    attempt->moved = true;
}

/* The server's error @text: what it says about the command. */
static enum kv_err judge_error(struct attempt *attempt, bool read, struct slice text)
{
    if (begins(text, "MOVED") && text.size > 6) {
        follow_move(attempt, text);
        attempt->leave = true;
        return KV_ERR_REFUSED;
    }
    if (begins(text, "TRYAGAIN")) return KV_ERR_REFUSED;
    if (begins(text, "CLUSTERDOWN") || begins(text, "LOADING") || begins(text, "MASTERDOWN") ||
        begins(text, "READONLY")) {
        attempt->leave = true;
        return KV_ERR_REFUSED;
    }
    if (begins(text, "UNCERTAIN")) return read ? KV_ERR_TIMEOUT : KV_ERR_UNKNOWN;
    return KV_ERR_FAILED;
}

static enum kv_err judge_silence(const struct attempt *attempt, const struct kv_item *item)
{
    if (item->sent && !item->read) return KV_ERR_UNKNOWN;
    if (attempt->status == KV_LINK_NOMEM) return KV_ERR_NOMEM;
    if (attempt->status == KV_LINK_TOO_BIG) return KV_ERR_FAILED;
    return KV_ERR_TIMEOUT;
}

/* Fills in the item's err; the message is that of the first item that failed for good. */
static void judge(struct attempt *attempt, size_t at, bool speak)
{
    struct kv_item *item = &attempt->batch->items[at];
    struct kv *kv = attempt->kv;
    struct slice text = {0};
    if (!item->answered) {
        item->err = judge_silence(attempt, item);
        if (!speak) return;
        (void)kv_say(kv, item->err, "%s: %s%s", attempt->address, link_words(attempt->status),
                     item->err == KV_ERR_UNKNOWN ? "; the write may have happened" : "");
        return;
    }
    item->err = KV_OK;
    if (!kv_batch_error(attempt->batch, at, &text)) return;
    item->err = judge_error(attempt, item->read, text);
    if (speak) {
        (void)kv_say(kv, item->err, "%.*s", (int)earlier((int64_t)text.size, 400),
                     (const char *)text.data);
    }
}

/* Judges the items from first on; gives the first one that may be run again, or count.
 *
 * Only a tail is repeated, so that commands take effect in their order. And nothing is repeated behind a write whose
 * outcome is unknown: that write might still happen, after the repeated one. */
static size_t settle(struct attempt *attempt)
{
    struct kv_batch *batch = attempt->batch;
    bool quiet = true;
    bool unknown = false;
    size_t again = attempt->first;
    for (size_t i = attempt->first; i < batch->count; i++) {
        judge(attempt, i, quiet);
        const enum kv_err err = batch->items[i].err;
        if (err != KV_OK) quiet = false;
        if (err == KV_ERR_UNKNOWN) unknown = true;
        if (err != KV_ERR_REFUSED && err != KV_ERR_TIMEOUT) again = i + 1;
    }
    return unknown ? batch->count : again;
}

static enum kv_err first_failure(const struct kv_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].err != KV_OK) return batch->items[i].err;
    }
    return KV_OK;
}

/* No connection: what was turned down before keeps its reason. */
static void give_up(struct attempt *attempt, enum kv_err err)
{
    for (size_t i = attempt->first; i < attempt->batch->count; i++) {
        struct kv_item *item = &attempt->batch->items[i];
        if (item->err == KV_OK || item->err == KV_ERR_TIMEOUT) item->err = err;
    }
}

/* Reads leave time for another node: one that is stopped keeps its connections open and says nothing. */
static int64_t run_deadline(const struct attempt *attempt, int64_t deadline_ms)
{
    const int64_t now = kv_now_ms();
    int64_t wait = (deadline_ms - now) / 2;
    for (size_t i = attempt->first; i < attempt->batch->count; i++) {
        if (!attempt->batch->items[i].read) return deadline_ms;
    }
    if (attempt->kv->node_count < 2) return deadline_ms;
    if (wait < READ_TRY_MIN_MS) wait = READ_TRY_MIN_MS;
    return earlier(deadline_ms, now + wait);
}

/* Nothing is sent so late that its answer can hardly come in time: that would only turn "did not happen" into
 * "unknown". */
static int64_t margin_ms(const struct kv *kv)
{
    return earlier(kv->timeout_ms / 10, MARGIN_MAX_MS);
}

enum kv_err kv_execute(struct kv *kv, struct kv_batch *batch)
{
    struct attempt attempt = {.kv = kv, .batch = batch};
    const int64_t deadline_ms = kv_now_ms() + kv->timeout_ms;
    int64_t refused_ms = 0; /* how long the last node took to say that nobody leads */
    if (batch->count == 0) return KV_OK;
    batch->in.size = 0;
    for (size_t i = 0; i < batch->count; i++) {
        batch->items[i].err = KV_OK;
        batch->items[i].answered = false;
    }
    if (!kv_batch_prepare(batch)) {
        give_up(&attempt, KV_ERR_NOMEM);
        return kv_say(kv, KV_ERR_NOMEM, "no memory");
    }
    for (uint32_t try = 0; attempt.first < batch->count; try++) {
        char kept[KV_MESSAGE_SIZE];
        memcpy(kept, kv->message, sizeof kept);
        const enum kv_err err = kv_ensure_link(kv, deadline_ms, false);
        if (err != KV_OK) {
            give_up(&attempt, err);
            /* What a node said weighs more than that another one does not listen. */
            if (first_failure(batch) != err || refused_ms > 0)
                memcpy(kv->message, kept, sizeof kept);
            break;
        }
        if (deadline_ms - kv_now_ms() < refused_ms) {
            /* The nodes wait that long for a leader: asked now, the answer would come too late. */
            give_up(&attempt, KV_ERR_TIMEOUT);
            memcpy(kv->message, kept, sizeof kept);
            break;
        }
        if (kv_now_ms() > deadline_ms - margin_ms(kv)) {
            if (try == 0) (void)kv_say(kv, KV_ERR_TIMEOUT, "too little time was left to send it");
            give_up(&attempt, KV_ERR_TIMEOUT);
            break;
        }
        const int64_t begin_ms = kv_now_ms();
        attempt.moved = false;
        attempt.leave = false;
        memcpy(attempt.address, kv->link.address, sizeof attempt.address);
        attempt.status = kv_batch_run(batch, &kv->link, attempt.first, kv->reply_size_max,
                                      run_deadline(&attempt, deadline_ms));
        if (attempt.status != KV_LINK_OK) kv->node_next++;
        attempt.first = settle(&attempt);
        if (attempt.leave && !attempt.moved) refused_ms = kv_now_ms() - begin_ms;
        if (attempt.leave) {
            kv_link_close(&kv->link);
            if (!attempt.moved) kv->node_next++;
        }
        if (attempt.first == batch->count || kv_now_ms() >= deadline_ms) break;
        const bool at_once = try == 0 && (attempt.moved || attempt.status != KV_LINK_OK);
        if (!at_once) pause_before(kv, try, deadline_ms);
    }
    return first_failure(batch);
}
