/* pubsub.c - channels, patterns and who listens to them; messages are in pubsub_queue.c. */
#include "node/pubsub_parts.h"

#include "node/glob.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define LIST_STEPS_MAX (32u * MIB) /* of comparing a pattern with all channels */

void pubsub_init(struct pubsub *pubsub, uint32_t events)
{
    list_init(&pubsub->patterns);
    list_init(&pubsub->queue);
    pubsub->events = events;
}

void pubsub_close(struct core *core)
{
    store_records_close(core->shard.store, &core->pubsub.records);
    pubsub_drop_queue(&core->pubsub);
}

/* ---- who listens ------------------------------------------------------------------------------------------- */

static struct channel **bucket_of(struct pubsub *pubsub, struct slice name)
{
    return &pubsub->buckets[hash64(name.data, name.size) % PUBSUB_BUCKETS];
}

struct channel *pubsub_find(const struct pubsub *pubsub, struct slice name, bool is_pattern)
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
    pubsub_pass_channel(pubsub, channel);
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
        pubsub_find(pubsub, name, true) == NULL) {
        return "TRYAGAIN this node has 4096 different patterns, which is the most it takes";
    }
    return NULL;
}

bool pubsub_add(struct core *core, struct push *push, struct slice name, bool is_pattern)
{
    struct pubsub *pubsub = &core->pubsub;
    struct channel *channel = pubsub_find(pubsub, name, is_pattern);
    if (channel != NULL && find_own(push, channel) != NULL) return false;
    if (channel == NULL) channel = make(pubsub, name, is_pattern);
    struct subscription *one = mem_zero(sizeof *one);
    list_init(&one->of_channel);
    list_init(&one->of_session);
    one->channel = channel;
    one->push = push;
    one->serial = ++pubsub->serial;
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
    pubsub_pass_subscription(pubsub, one);
    list_remove(&one->of_channel);
    list_remove(&one->of_session);
    *(channel->is_pattern ? &push->pattern_count : &push->channel_count) -= 1;
    pubsub->subscription_count--;
    if (--channel->count == 0) drop(pubsub, channel);
    mem_free(one);
}

bool pubsub_remove(struct core *core, struct push *push, struct slice name, bool is_pattern)
{
    const struct channel *channel = pubsub_find(&core->pubsub, name, is_pattern);
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

/* ---- what there is ------------------------------------------------------------------------------------------- */

uint64_t pubsub_listeners(const struct core *core, struct slice channel)
{
    const struct channel *named = pubsub_find(&core->pubsub, channel, false);
    return named == NULL ? 0 : named->count;
}

bool pubsub_list(const struct core *core, struct slice pattern, uint64_t *count, struct buf *out)
{
    uint64_t steps = 0;
    *count = 0;
    for (uint32_t i = 0; i < PUBSUB_BUCKETS && steps <= LIST_STEPS_MAX; i++) {
        const struct channel *channel = core->pubsub.buckets[i];
        for (; channel != NULL && steps <= LIST_STEPS_MAX; channel = channel->next) {
            if (channel->is_pattern) continue;
            if (pattern.size > 0 &&
                !glob_match_counting(pattern, buf_slice(&channel->name), &steps)) {
                continue;
            }
            resp_put_bulk(out, buf_slice(&channel->name));
            *count += 1;
        }
    }
    return steps <= LIST_STEPS_MAX;
}
