#include "node/pubsub.h"

#include "node/core_parts.h"
#include "node/glob.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define HEAD_SIZE 8u
#define STEPS_PER_DELIVERY 256u /* of comparing a pattern, which take about as long */

/* A channel or a pattern that somebody listens to. */
struct channel {
    struct channel *next; /* Chain of its bucket. */
    struct list link;     /* A pattern: in pubsub.patterns. */
    struct list subscribers;
    uint32_t count;
    bool is_pattern;
    struct buf name;
};

struct subscription {
    struct list of_channel;
    struct list of_session;
    struct channel *channel;
    struct push *push;
};

void pubsub_init(struct pubsub *pubsub, uint32_t events)
{
    list_init(&pubsub->patterns);
    pubsub->events = events;
}

void pubsub_close(struct core *core)
{
    store_records_close(core->shard.store, &core->pubsub.records);
}

/* ---- who listens ------------------------------------------------------------------------------------------- */

static struct channel **bucket_of(struct pubsub *pubsub, struct slice name)
{
    return &pubsub->buckets[hash64(name.data, name.size) % PUBSUB_BUCKETS];
}

static struct channel *find(const struct pubsub *pubsub, struct slice name, bool is_pattern)
{
    struct channel *channel = pubsub->buckets[hash64(name.data, name.size) % PUBSUB_BUCKETS];
    while (channel != NULL) {
        if (channel->is_pattern == is_pattern && slice_equal(buf_slice(&channel->name), name)) {
            break;
        }
        channel = channel->next;
    }
    return channel;
}

static struct channel *make(struct pubsub *pubsub, struct slice name, bool is_pattern)
{
    struct channel *channel = mem_zero(sizeof *channel);
    struct channel **bucket = bucket_of(pubsub, name);
    list_init(&channel->link);
    list_init(&channel->subscribers);
    channel->is_pattern = is_pattern;
    (void)buf_reserve(&channel->name, name.size + 1); /* Also the empty name is one. */
    buf_append(&channel->name, name.data, name.size);
    channel->next = *bucket;
    *bucket = channel;
    if (is_pattern) list_append(&pubsub->patterns, &channel->link);
    *(is_pattern ? &pubsub->pattern_count : &pubsub->channel_count) += 1;
    return channel;
}

static void drop(struct pubsub *pubsub, struct channel *channel)
{
    struct channel **at = bucket_of(pubsub, buf_slice(&channel->name));
    while (*at != channel) at = &(*at)->next;
    *at = channel->next;
    list_remove(&channel->link);
    *(channel->is_pattern ? &pubsub->pattern_count : &pubsub->channel_count) -= 1;
    buf_close(&channel->name);
    mem_free(channel);
}

/* Looks where there are fewer: at the channel's subscribers, or at what the client listens to. */
static struct subscription *find_own(const struct push *push, const struct channel *channel)
{
    const bool is_pattern = channel->is_pattern;
    const struct list *own = is_pattern ? &push->patterns : &push->channels;
    if ((is_pattern ? push->pattern_count : push->channel_count) < channel->count) {
        for (struct list *at = own->next; at != own; at = at->next) {
            struct subscription *one = LIST_ITEM(at, struct subscription, of_session);
            if (one->channel == channel) return one;
        }
        return NULL;
    }
    const struct list *all = &channel->subscribers;
    for (struct list *at = all->next; at != all; at = at->next) {
        struct subscription *one = LIST_ITEM(at, struct subscription, of_channel);
        if (one->push == push) return one;
    }
    return NULL;
}

const char *pubsub_refusal(const struct core *core, const struct push *push, struct slice name,
                           bool is_pattern)
{
    const struct pubsub *pubsub = &core->pubsub;
    if (name.size > (is_pattern ? PATTERN_SIZE_MAX : PUBSUB_CHANNEL_SIZE_MAX)) {
        return "TOOBIG the name of a channel has at most 4096 bytes, a pattern 1024";
    }
    if (push->channel_count + push->pattern_count >= PUBSUB_SESSION_MAX) {
        return "TOOBIG a connection has at most 10000 subscriptions";
    }
    if (pubsub->subscription_count >= PUBSUB_MAX) {
        return "TRYAGAIN this node has 1000000 subscriptions, which is the most it takes";
    }
    if (is_pattern && pubsub->pattern_count >= PUBSUB_PATTERNS_MAX &&
        find(pubsub, name, true) == NULL) {
        return "TRYAGAIN this node has 4096 different patterns, which is the most it takes";
    }
    return NULL;
}

bool pubsub_add(struct core *core, struct push *push, struct slice name, bool is_pattern)
{
    struct pubsub *pubsub = &core->pubsub;
    struct channel *channel = find(pubsub, name, is_pattern);
    if (channel != NULL && find_own(push, channel) != NULL) return false;
    if (channel == NULL) channel = make(pubsub, name, is_pattern);
    struct subscription *one = mem_zero(sizeof *one);
    list_init(&one->of_channel);
    list_init(&one->of_session);
    one->channel = channel;
    one->push = push;
    list_append(&channel->subscribers, &one->of_channel);
    list_append(is_pattern ? &push->patterns : &push->channels, &one->of_session);
    channel->count++;
    pubsub->subscription_count++;
    *(is_pattern ? &push->pattern_count : &push->channel_count) += 1;
    return true;
}

static void end(struct core *core, struct subscription *one)
{
    struct pubsub *pubsub = &core->pubsub;
    struct channel *channel = one->channel;
    struct push *push = one->push;
    list_remove(&one->of_channel);
    list_remove(&one->of_session);
    *(channel->is_pattern ? &push->pattern_count : &push->channel_count) -= 1;
    pubsub->subscription_count--;
    if (--channel->count == 0) drop(pubsub, channel);
    mem_free(one);
}

bool pubsub_remove(struct core *core, struct push *push, struct slice name, bool is_pattern)
{
    const struct channel *channel = find(&core->pubsub, name, is_pattern);
    struct subscription *one = channel == NULL ? NULL : find_own(push, channel);
    if (one == NULL) return false;
    end(core, one);
    return true;
}

struct slice pubsub_first(const struct push *push, bool is_pattern)
{
    const struct list *own = is_pattern ? &push->patterns : &push->channels;
    if (list_empty(own)) return (struct slice){0};
    return buf_slice(&LIST_ITEM(own->next, struct subscription, of_session)->channel->name);
}

void pubsub_drop_all(struct core *core, struct push *push)
{
    struct list *const all[] = {&push->channels, &push->patterns};
    for (uint32_t i = 0; i < 2; i++) {
        while (!list_empty(all[i])) {
            end(core, LIST_ITEM(all[i]->next, struct subscription, of_session));
        }
    }
}

/* ---- messages ------------------------------------------------------------------------------------------------ */

static uint64_t deliver(struct core *core, struct channel *channel, struct slice name,
                        struct slice message)
{
    uint64_t count = 0;
    const struct list *all = &channel->subscribers;
    for (struct list *at = all->next; at != all; at = at->next) {
        struct push *push = LIST_ITEM(at, struct subscription, of_channel)->push;
        if (push->session->closing) continue;
        struct buf *out = push_begin(core, push);
        resp_put_push(out, channel->is_pattern ? 4 : 3, push->session->protocol);
        resp_put_text(out, channel->is_pattern ? "pmessage" : "message");
        if (channel->is_pattern) resp_put_bulk(out, buf_slice(&channel->name));
        resp_put_bulk(out, name);
        resp_put_bulk(out, message);
        push_end(core, push);
        count++;
    }
    return count;
}

uint64_t pubsub_tell(struct core *core, struct slice channel, struct slice message)
{
    struct pubsub *pubsub = &core->pubsub;
    uint64_t count = 0;
    if (pubsub->subscription_count == 0) return 0;
    struct channel *named = find(pubsub, channel, false);
    if (named != NULL) count += deliver(core, named, channel, message);
    for (struct list *at = pubsub->patterns.next; at != &pubsub->patterns; at = at->next) {
        struct channel *pattern = LIST_ITEM(at, struct channel, link);
        core->turn_work += pattern->name.size * channel.size / STEPS_PER_DELIVERY;
        if (!glob_match(buf_slice(&pattern->name), channel)) continue;
        count += deliver(core, pattern, channel, message);
    }
    pubsub->delivered += count;
    core->turn_work += count * (1 + message.size / KIB);
    return count;
}

uint64_t pubsub_publish(struct core *core, struct slice channel, struct slice message)
{
    struct pubsub *pubsub = &core->pubsub;
    CHECK(channel.size + message.size <= PUBLISH_SIZE_MAX);
    pubsub->published++;
    for (uint32_t i = 0; i < core->peers.count; i++) {
        struct peer *peer = &core->peers.list[i];
        uint64_t start = 0;
        struct buf *body = NULL;
        /* What the nodes have to agree on goes first. */
        if (peer->is_connected && peer_queued(peer) < PUBLISH_QUEUE_SIZE) {
            body = peer_frame_begin(&core->peers, peer, WIRE_PUBLISH, &start);
        }
        if (body == NULL) {
            pubsub->dropped++;
            continue;
        }
        buf_u32(body, (uint32_t)channel.size);
        buf_u32(body, (uint32_t)message.size);
        buf_append(body, channel.data, channel.size);
        buf_append(body, message.data, message.size);
        (void)peer_frame_end(peer, start); /* It is small: it is not dropped any more. */
    }
    return pubsub_tell(core, channel, message);
}

enum err pubsub_receive(struct core *core, const struct wire_frame *frame)
{
    const struct slice body = frame->body;
    if (body.size < HEAD_SIZE || body.size > HEAD_SIZE + PUBLISH_SIZE_MAX) return ERR_CORRUPT;
    const uint64_t channel_size = get_u32(body.data);
    const uint64_t message_size = get_u32(body.data + 4);
    if (channel_size > PUBSUB_CHANNEL_SIZE_MAX) return ERR_CORRUPT;
    if (channel_size + message_size != body.size - HEAD_SIZE) return ERR_CORRUPT;
    const uint8_t *at = body.data + HEAD_SIZE;
    core->pubsub.taken++;
    (void)pubsub_tell(core, slice_of(at, channel_size),
                      slice_of(at + channel_size, message_size)); /* Nobody may listen. */
    return OK;
}

/* ---- what there is ------------------------------------------------------------------------------------------- */

uint64_t pubsub_listeners(const struct core *core, struct slice channel)
{
    const struct channel *named = find(&core->pubsub, channel, false);
    return named == NULL ? 0 : named->count;
}

uint64_t pubsub_list(const struct core *core, struct slice pattern, struct buf *out)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < PUBSUB_BUCKETS; i++) {
        const struct channel *channel = core->pubsub.buckets[i];
        for (; channel != NULL; channel = channel->next) {
            if (channel->is_pattern) continue;
            if (pattern.size > 0 && !glob_match(pattern, buf_slice(&channel->name))) continue;
            resp_put_bulk(out, buf_slice(&channel->name));
            count++;
        }
    }
    return count;
}
