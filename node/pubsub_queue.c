/* pubsub_queue.c - messages on their way to the clients of this node.
 *
 * A message is told at once when that is little work. Otherwise (thousands of subscribers, patterns that are slow to
 * compare) it waits in a queue, in the order in which messages came, and so much of it is told in each turn. Whoever
 * published it waits for its answer, what other nodes publish is dropped when the queue is full, and notifications are
 * not made before it is empty: so neither a turn nor the queue is ever long. */
#include "node/pubsub_parts.h"

#include "node/glob.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define HEAD_SIZE 8u
#define STEPS_PER_DELIVERY 256u /* of comparing a pattern, which take about as long */
#define TURN_WORK_MIN 512u      /* deliveries in a turn however much it has done already */

struct message {
    struct list link; /* In pubsub.queue; alone: it is told at once. */
    uint64_t number;
    uint64_t session; /* Who waits for its answer; 0: nobody. */
    uint64_t serial;  /* Of the newest subscription that it is for. */
    uint64_t count;   /* Clients that got it. */
    bool is_begun;
    struct slice channel;
    struct slice text;
    struct buf bytes; /* Both, when it had to wait. */
};

/* ---- where the first message is ---------------------------------------------------------------------------- */

static void tell_channel(struct pubsub *pubsub, struct channel *channel)
{
    pubsub->telling = channel;
    pubsub->next_subscriber = channel != NULL ? channel->subscribers.next : NULL;
}

static void begin(struct pubsub *pubsub, struct message *message)
{
    message->is_begun = true;
    pubsub->next_pattern = pubsub->patterns.next;
    tell_channel(pubsub, pubsub_find(pubsub, message->channel, false));
}

void pubsub_pass_channel(struct pubsub *pubsub, const struct channel *channel)
{
    if (pubsub->telling == channel) tell_channel(pubsub, NULL);
    if (pubsub->next_pattern == &channel->link) pubsub->next_pattern = channel->link.next;
}

void pubsub_pass_subscription(struct pubsub *pubsub, const struct subscription *one)
{
    if (pubsub->next_subscriber == &one->of_channel) {
        pubsub->next_subscriber = one->of_channel.next;
    }
}

/* ---- telling ------------------------------------------------------------------------------------------------- */

static void tell_one(struct core *core, struct push *push, const struct message *message)
{
    const struct channel *channel = core->pubsub.telling;
    struct buf *out = push_begin(core, push);
    resp_put_push(out, channel->is_pattern ? 4 : 3, push->session->protocol);
    resp_put_text(out, channel->is_pattern ? "pmessage" : "message");
    if (channel->is_pattern) resp_put_bulk(out, buf_slice(&channel->name));
    resp_put_bulk(out, message->channel);
    resp_put_bulk(out, message->text);
    push_end(core, push);
}

/* Goes on with the subscribers of one channel or pattern. False: @left is used up. */
static bool deliver(struct core *core, struct message *message, int64_t *left)
{
    struct pubsub *pubsub = &core->pubsub;
    while (pubsub->next_subscriber != &pubsub->telling->subscribers) {
        const struct subscription *one = LIST_ITEM(pubsub->next_subscriber, struct subscription,
                                                   of_channel);
        if (*left <= 0) return false;
        pubsub->next_subscriber = one->of_channel.next;
        --*left;
        if (one->push->session->closing || one->serial > message->serial) continue;
        tell_one(core, one->push, message);
        *left -= (int64_t)(message->text.size / KIB);
        message->count++;
        pubsub->delivered++;
    }
    return true;
}

/* Goes on with @message. False: @left is used up. */
static bool tell_some(struct core *core, struct message *message, int64_t *left)
{
    struct pubsub *pubsub = &core->pubsub;
    uint64_t steps = 0;
    if (!message->is_begun) begin(pubsub, message);
    for (;;) {
        if (pubsub->telling != NULL) {
            if (!deliver(core, message, left)) return false;
            tell_channel(pubsub, NULL);
        }
        if (pubsub->next_pattern == &pubsub->patterns) return true;
        if (*left <= 0) return false;
        struct channel *pattern = LIST_ITEM(pubsub->next_pattern, struct channel, link);
        pubsub->next_pattern = pattern->link.next;
        if (glob_match_counting(buf_slice(&pattern->name), message->channel, &steps)) {
            tell_channel(pubsub, pattern);
        }
        *left -= (int64_t)(steps / STEPS_PER_DELIVERY);
        steps %= STEPS_PER_DELIVERY;
    }
}

static int64_t work_left(const struct core *core)
{
    return (int64_t)CORE_TURN_WORK_MAX - (int64_t)core->turn_work;
}

static void append(struct pubsub *pubsub, const struct message *message)
{
    struct message *copy = mem_alloc(sizeof *copy);
    *copy = *message;
    list_init(&copy->link);
    (void)buf_reserve(&copy->bytes, message->channel.size + message->text.size + 1);
    buf_append(&copy->bytes, message->channel.data, message->channel.size);
    buf_append(&copy->bytes, message->text.data, message->text.size);
    copy->channel = slice_of(copy->bytes.data, message->channel.size);
    copy->text = slice_of(copy->bytes.data + message->channel.size, message->text.size);
    list_append(&pubsub->queue, &copy->link);
    pubsub->queue_size += sizeof *copy + copy->bytes.size;
}

static void forget(struct pubsub *pubsub, struct message *message)
{
    list_remove(&message->link);
    pubsub->queue_size -= sizeof *message + message->bytes.size;
    buf_close(&message->bytes);
    mem_free(message);
}

void pubsub_drop_queue(struct pubsub *pubsub)
{
    while (!list_empty(&pubsub->queue)) {
        forget(pubsub, LIST_ITEM(pubsub->queue.next, struct message, link));
    }
}

/* True: all was told. False: the rest follows. */
static bool tell(struct core *core, struct message *message)
{
    struct pubsub *pubsub = &core->pubsub;
    if (pubsub->subscription_count == 0 && list_empty(&pubsub->queue)) return true;
    message->number = ++pubsub->last_number;
    message->serial = pubsub->serial;
    if (list_empty(&pubsub->queue)) {
        int64_t left = work_left(core);
        const int64_t given = left;
        const bool is_told = tell_some(core, message, &left);
        core->turn_work += (uint64_t)(given - left);
        if (is_told) return true;
    }
    append(pubsub, message);
    core->more = true;
    return false;
}

void pubsub_tell(struct core *core, struct slice channel, struct slice text)
{
    struct message message = {.channel = channel, .text = text};
    (void)tell(core, &message); /* Nobody waits for it. */
}

static void answer(struct core *core, const struct message *message)
{
    struct session *session = message->session == 0 ? NULL
                                                    : core_find_session(core, message->session);
    if (session == NULL || session->publish.number != message->number) return;
    session->publish.is_told = true;
    session->publish.count = message->count;
    core_mark_ready(core, session);
}

void pubsub_work(struct core *core)
{
    struct pubsub *pubsub = &core->pubsub;
    int64_t left = work_left(core);
    if (list_empty(&pubsub->queue)) return;
    if (left < TURN_WORK_MIN) left = TURN_WORK_MIN;
    const int64_t given = left;
    while (!list_empty(&pubsub->queue)) {
        struct message *message = LIST_ITEM(pubsub->queue.next, struct message, link);
        if (left <= 0 || !tell_some(core, message, &left)) break;
        answer(core, message);
        forget(pubsub, message);
    }
    core->turn_work += (uint64_t)(given - left);
    core->more = true; /* The rest, or who waited for an answer. */
}

/* ---- across nodes --------------------------------------------------------------------------------------------- */

uint64_t pubsub_receivers(const struct core *core, struct slice channel, uint64_t steps_max,
                          uint64_t *steps)
{
    const struct pubsub *pubsub = &core->pubsub;
    const struct list *patterns = &pubsub->patterns;
    uint64_t count = pubsub_listeners(core, channel);
    for (const struct list *at = patterns->next; at != patterns && *steps < steps_max;
         at = at->next) {
        const struct channel *pattern = LIST_ITEM(at, const struct channel, link);
        if (glob_match_counting(buf_slice(&pattern->name), channel, steps)) {
            count += pattern->count;
        }
    }
    return count;
}

bool pubsub_is_full(const struct core *core)
{
    return core->pubsub.queue_size >= PUBLISH_QUEUE_SIZE;
}

static void send_to_others(struct core *core, struct slice channel, struct slice text)
{
    for (uint32_t i = 0; i < core->peers.count; i++) {
        struct peer *peer = &core->peers.list[i];
        uint64_t start = 0;
        struct buf *body = NULL;
        /* What the nodes have to agree on goes first. */
        if (peer->is_connected && peer_queued(peer) < PUBLISH_QUEUE_SIZE) {
            body = peer_frame_begin(&core->peers, peer, WIRE_PUBLISH, &start);
        }
        if (body == NULL) {
            core->pubsub.dropped++;
            continue;
        }
        buf_u32(body, (uint32_t)channel.size);
        buf_u32(body, (uint32_t)text.size);
        buf_append(body, channel.data, channel.size);
        buf_append(body, text.data, text.size);
        (void)peer_frame_end(peer, start); /* It is small: it is not dropped any more. */
    }
}

bool pubsub_publish(struct core *core, struct session *session, struct slice channel,
                    struct slice text, uint64_t *count)
{
    struct message message = {
        .channel = channel, .text = text, .session = session != NULL ? session->id : 0};
    CHECK(channel.size + text.size <= PUBLISH_SIZE_MAX);
    core->pubsub.published++;
    core->turn_work += 1 + text.size / KIB;
    send_to_others(core, channel, text);
    const bool is_told = tell(core, &message);
    *count = message.count;
    if (!is_told && session != NULL) session->publish.number = message.number;
    return is_told;
}

enum err pubsub_receive(struct core *core, const struct wire_frame *frame)
{
    const struct slice body = frame->body;
    if (body.size < HEAD_SIZE || body.size > HEAD_SIZE + PUBLISH_SIZE_MAX) return ERR_CORRUPT;
    const uint64_t channel_size = get_u32(body.data);
    const uint64_t text_size = get_u32(body.data + 4);
    if (channel_size > PUBSUB_CHANNEL_SIZE_MAX) return ERR_CORRUPT;
    if (channel_size + text_size != body.size - HEAD_SIZE) return ERR_CORRUPT;
    const uint8_t *at = body.data + HEAD_SIZE;
    if (pubsub_is_full(core)) {
        core->pubsub.dropped++; /* This node tells its clients more slowly than others publish. */
        return OK;
    }
    core->pubsub.taken++;
    pubsub_tell(core, slice_of(at, channel_size), slice_of(at + channel_size, text_size));
    return OK;
}
