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
        [KV_ERR_CANCELLED] = "cancelled",
        [KV_ERR_COMPACTED] = "compacted",
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

void *kv_resize_with_libc(void *context, void *pointer, size_t size)
{
    (void)context;
    if (size == 0) {
        free(pointer);
        return NULL;
    }
    return realloc(pointer, size);
}

/* Everything up to reply_size_max and allocator was there from the beginning. */
#define OPTIONS_SIZE_MIN offsetof(struct kv_options, once)

void kv_options_init_sized(struct kv_options *options, size_t struct_size)
{
    const struct kv_options defaults = {.struct_size = struct_size,
                                        .nodes = "127.0.0.1:6379",
                                        .timeout_ms = TIMEOUT_DEFAULT_MS,
                                        .connect_timeout_ms = CONNECT_TIMEOUT_DEFAULT_MS,
                                        .reply_size_max = REPLY_SIZE_DEFAULT};
    memcpy(options, &defaults, struct_size < sizeof defaults ? struct_size : sizeof defaults);
}

bool kv_options_take(const struct kv_options *options, struct kv_options *taken)
{
    const size_t size = options->struct_size;
    kv_options_init(taken);
    taken->allocator.resize = kv_resize_with_libc;
    if (size < OPTIONS_SIZE_MIN) return false;
    memcpy(taken, options, size < sizeof *taken ? size : sizeof *taken);
    taken->struct_size = sizeof *taken;
    if (taken->timeout_ms < 1) taken->timeout_ms = 1;
    if (taken->connect_timeout_ms < 1) taken->connect_timeout_ms = 1;
    if (taken->reply_size_max == 0) taken->reply_size_max = REPLY_SIZE_DEFAULT;
    if (taken->allocator.resize == NULL) taken->allocator.resize = kv_resize_with_libc;
    return true;
}

static struct kv *create(const struct kv_options *options)
{
    const struct kv_allocator allocator = options->allocator;
    struct kv *kv = allocator.resize(allocator.context, NULL, sizeof *kv);
    if (kv == NULL) return NULL;
    *kv = (struct kv){
        .allocator = allocator,
        .timeout_ms = options->timeout_ms,
        .connect_timeout_ms = options->connect_timeout_ms,
        .reply_size_max = options->reply_size_max,
        .link = {.fd = -1},
    };
    kv->random = ((uint64_t)(uintptr_t)kv ^ (uint64_t)kv_now_ms()) | 1;
    kv_batch_init(&kv->call, &kv->allocator);
    kv_batch_init(&kv->probe, &kv->allocator);
    return kv;
}

enum kv_err kv_handle_create(const struct kv_options *options, struct kv **kv)
{
    struct kv_options taken;
    const bool known = kv_options_take(options, &taken);
    *kv = create(&taken);
    if (*kv == NULL) return KV_ERR_NOMEM;
    if (!known) return kv_say(*kv, KV_ERR_INVALID, "kv_options_init() was not called");
    if (!kv_once_init(&(*kv)->once, taken.once != 0)) {
        return kv_say(*kv, KV_ERR_INVALID, "the system gives no random numbers");
    }
    return kv_nodes_parse(&(*kv)->nodes, taken.nodes, (*kv)->message);
}

enum kv_err kv_connect(const struct kv_options *options, struct kv **kv)
{
    enum kv_err err = kv_handle_create(options, kv);
    if (*kv != NULL && err == KV_OK) {
        err = kv_ensure_link(*kv, kv_now_ms() + (*kv)->timeout_ms, true);
    }
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
    kv->nodes.count = 0;
    kv->nodes.next = 0;
    kv_nodes_add(&kv->nodes, kept, strlen(kept));
    return KV_OK;
}

/* ---- connections ----------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

uint64_t kv_random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A little longer at each try, with some chance in it so that clients do not come back in step. */
int64_t kv_backoff_ms(uint64_t *state, uint32_t try)
{
    int64_t wait = (int64_t)BACKOFF_FIRST_MS << (try < 5 ? try : 5);
    if (wait > BACKOFF_MAX_MS) wait = BACKOFF_MAX_MS;
    return wait / 2 + (int64_t)(kv_random_next(state) % (uint64_t)wait);
}

static void pause_before(struct kv *kv, uint32_t try, int64_t deadline_ms)
{
    const int64_t until = earlier(kv_now_ms() + kv_backoff_ms(&kv->random, try), deadline_ms);
    const struct kv_link nowhere = {.fd = -1};
    (void)kv_link_wait(&nowhere, 0, until);
}

static bool add_greeting(struct kv_batch *batch)
{
    kv_batch_clear(batch);
    return kv_greeting_add(batch);
}

/* Runs kv->probe on @link. A node that does not want us says so in its first reply, and closes. */
static enum kv_link_status run_probe(struct kv *kv, struct kv_link *link, int64_t deadline_ms,
                                     char *why)
{
    char address[KV_ADDRESS_SIZE];
    struct slice text = {0};
    memcpy(address, link->address, sizeof address);
    if (!kv_batch_prepare(&kv->probe)) return KV_LINK_NOMEM;
    const enum kv_link_status status = kv_batch_run(&kv->probe, link, 0, kv->probe.count,
                                                    kv->reply_size_max, deadline_ms);
    if (status == KV_LINK_OK) return KV_LINK_OK;
    if (kv->probe.items[0].answered && kv_batch_error(&kv->probe, 0, &text)) {
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s: %.*s", address,
                       (int)earlier(200, (int64_t)text.size), (const char *)text.data);
    } else {
        (void)snprintf(why, KV_MESSAGE_SIZE, "%s: %s", address, kv_link_words(status));
    }
    return status;
}

enum kv_link_status kv_greet(struct kv *kv, struct kv_link *link, int64_t deadline_ms, char *why)
{
    if (!add_greeting(&kv->probe)) return KV_LINK_NOMEM;
    return run_probe(kv, link, deadline_ms, why);
}

/* kv->probe holds the answers to kv_questions_add() from item @at on: goes to the leader, if it is another node that
 * can be reached. It is only the shorter way: the node at hand forwards as well. */
static enum kv_link_status follow_leader(struct kv *kv, size_t at, int64_t deadline_ms)
{
    char leader[KV_ADDRESS_SIZE];
    char why[KV_MESSAGE_SIZE];
    struct kv_link link;
    const bool knows = kv_leader_address(kv_batch_reply(&kv->probe, at), leader);
    const int64_t now = kv_now_ms();
    if (kv->stays) {
        kv->leader_check_ms = INT64_MAX;
        return KV_LINK_OK;
    }
    kv_nodes_members(&kv->nodes, kv_batch_reply(&kv->probe, at + 1));
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
           kv_unwelcome(*text);
}

static enum kv_err try_node(struct kv *kv, const char *address, int64_t deadline_ms, bool *nobody)
{
    char why[KV_MESSAGE_SIZE] = "";
    struct slice text = {0};
    const int64_t until = earlier(deadline_ms, kv_now_ms() + kv->connect_timeout_ms);
    if (!add_greeting(&kv->probe) || !kv_questions_add(&kv->probe)) {
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
    if (!kv_questions_add(&kv->probe)) return kv_say(kv, KV_ERR_NOMEM, "no memory");
    enum kv_link_status status = run_probe(kv, &kv->link, until, why);
    if (status == KV_LINK_OK) status = follow_leader(kv, 0, deadline_ms);
    return status == KV_LINK_NOMEM ? kv_say(kv, KV_ERR_NOMEM, "no memory") : KV_OK;
}

enum kv_err kv_ensure_link(struct kv *kv, int64_t deadline_ms, bool give_up_at_once)
{
    if (kv->nodes.count == 0) return kv_say(kv, KV_ERR_INVALID, "no node is given");
    /* A connection that was closed while nobody looked must be noticed before a write goes into it. */
    if (kv->link.fd >= 0 && !kv_link_alive(&kv->link)) kv_link_close(&kv->link);
    if (kv->link.fd >= 0 && kv_now_ms() >= kv->leader_check_ms) {
        const enum kv_err err = check_leader(kv, deadline_ms);
        if (err != KV_OK) return err;
    }
    for (uint32_t try = 0; kv->link.fd < 0; try++) {
        bool nobody_at_all = true;
        const uint32_t count = kv->nodes.count; /* a node that is tried may name new ones */
        for (uint32_t i = 0; i < count; i++) {
            bool nobody = false;
            const uint32_t at = kv->nodes.next % count;
            const enum kv_err err = try_node(kv, kv->nodes.list[at], deadline_ms, &nobody);
            if (err != KV_ERR_TIMEOUT) return err;
            nobody_at_all = nobody_at_all && nobody;
            kv->nodes.next = (at + 1) % count;
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
struct running {
    struct kv *kv;
    struct kv_attempt attempt;
    int64_t deadline_ms;
    int64_t refused_ms; /* how long the last node took to say that nobody leads */
    uint32_t try;
    char address[KV_ADDRESS_SIZE]; /* of the node that was asked */
};

/* No connection: what was turned down before keeps its reason. */
static void give_up(const struct running *running, enum kv_err err)
{
    struct kv_batch *batch = running->attempt.batch;
    for (size_t i = running->attempt.first; i < batch->count; i++) {
        struct kv_item *item = &batch->items[i];
        if (item->err == KV_OK || item->err == KV_ERR_TIMEOUT) kv_item_give_up(item, err);
    }
}

/* What may be asked again leaves time for another node: one that is stopped keeps its connections open and says
 * nothing. */
static int64_t run_deadline(const struct running *running)
{
    const int64_t now = kv_now_ms();
    int64_t wait = (running->deadline_ms - now) / 2;
    for (size_t i = running->attempt.first; i < running->attempt.end; i++) {
        if (!kv_item_repeats(&running->attempt.batch->items[i])) return running->deadline_ms;
    }
    if (running->kv->nodes.count < 2) return running->deadline_ms;
    if (wait < READ_TRY_MIN_MS) wait = READ_TRY_MIN_MS;
    /* Nodes without a leader answer after so long: who waits less hears "no answer" instead of the reason. */
    if (wait < running->refused_ms + running->refused_ms / 4) {
        wait = running->refused_ms + running->refused_ms / 4;
    }
    return earlier(running->deadline_ms, now + wait);
}

/* Nothing is sent so late that its answer can hardly come in time: that would only turn "did not happen" into
 * "unknown". */
static int64_t margin_ms(const struct kv *kv)
{
    return earlier(kv->timeout_ms / 10, MARGIN_MAX_MS);
}

/* A connection, and time enough to use it; false: it is over. */
static bool get_ready(struct running *running)
{
    struct kv *kv = running->kv;
    char kept[KV_MESSAGE_SIZE];
    memcpy(kept, kv->message, sizeof kept);
    const enum kv_err err = kv_ensure_link(kv, running->deadline_ms, false);
    if (err != KV_OK) {
        give_up(running, err);
        /* What a node said weighs more than that another one does not listen. */
        if (kv_batch_first_failure(running->attempt.batch) != err || running->refused_ms > 0)
            memcpy(kv->message, kept, sizeof kept);
        return false;
    }
    if (running->deadline_ms - kv_now_ms() < running->refused_ms) {
        /* The nodes wait that long for a leader: asked now, the answer would come too late. */
        give_up(running, KV_ERR_TIMEOUT);
        memcpy(kv->message, kept, sizeof kept);
        return false;
    }
    if (kv_now_ms() <= running->deadline_ms - margin_ms(kv)) return true;
    if (running->try == 0) (void)kv_say(kv, KV_ERR_TIMEOUT, "too little time was left to send it");
    give_up(running, KV_ERR_TIMEOUT);
    return false;
}

/* Runs the items from first up to end until they are settled; false: the time is over. */
static bool run_part(struct running *running)
{
    struct kv *kv = running->kv;
    struct kv_attempt *attempt = &running->attempt;
    attempt->address = running->address;
    for (running->try = 0; attempt->first < attempt->end; running->try++) {
        if (!get_ready(running)) return false;
        const int64_t begin_ms = kv_now_ms();
        attempt->moved = false;
        attempt->leave = false;
        memcpy(running->address, kv->link.address, sizeof running->address);
        attempt->status = kv_batch_run(attempt->batch, &kv->link, attempt->first, attempt->end,
                                       kv->reply_size_max, run_deadline(running));
        if (attempt->status != KV_LINK_OK) kv->nodes.next++;
        attempt->first = kv_attempt_settle(attempt);
        if (attempt->leave && !attempt->moved) running->refused_ms = kv_now_ms() - begin_ms;
        if (attempt->leave) {
            kv_link_close(&kv->link);
            if (!attempt->moved) kv->nodes.next++;
        }
        if (attempt->first == attempt->end) break;
        if (kv_now_ms() >= running->deadline_ms) return false;
        const bool at_once = running->try == 0 && (attempt->moved || attempt->status != KV_LINK_OK);
        if (!at_once) pause_before(kv, running->try, running->deadline_ms);
    }
    return true;
}

/* As many items as may be under way together: each write that is to happen exactly once needs a slot. */
static size_t part_end(struct running *running)
{
    struct kv_batch *batch = running->attempt.batch;
    uint32_t slot = 0;
    size_t at = running->attempt.first;
    for (; at < batch->count; at++) {
        if (batch->items[at].stamp == 0) continue;
        if (slot == KV_ONCE_SLOTS) break;
        kv_once_stamp(&running->kv->once, batch, at, slot++);
    }
    return at;
}

enum kv_err kv_execute(struct kv *kv, struct kv_batch *batch)
{
    struct running running = {
        .kv = kv,
        .attempt = {.batch = batch, .nodes = kv->stays ? NULL : &kv->nodes, .message = kv->message},
        .deadline_ms = kv_now_ms() + kv->timeout_ms,
    };
    if (batch->count == 0) return KV_OK;
    batch->in.size = 0;
    for (size_t i = 0; i < batch->count; i++) {
        batch->items[i].err = KV_OK;
        batch->items[i].answered = false;
        batch->items[i].doubt = false;
    }
    if (!kv_batch_prepare(batch)) {
        give_up(&running, KV_ERR_NOMEM);
        return kv_say(kv, KV_ERR_NOMEM, "no memory");
    }
    while (running.attempt.first < batch->count) {
        running.attempt.end = part_end(&running);
        if (!run_part(&running)) break;
    }
    /* What the time did not suffice for. */
    if (running.attempt.first < batch->count) give_up(&running, KV_ERR_TIMEOUT);
    return kv_batch_first_failure(batch);
}
