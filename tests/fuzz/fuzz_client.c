/* Any bytes from a node to the asynchronous client: operations, or a change feed. Every callback comes exactly once,
 * what is told is within its bounds, and everything can be closed. The first input byte chooses what is under way and
 * whether the greeting is answered properly, the second how the bytes are cut. */
#include "client/kv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "storage/base/check.h"
#include "storage/base/prng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPERATIONS 4u
#define CONNECTIONS_MAX 4u
#define TURNS 6

static int listener = -1;
static char address[64];

struct run {
    uint32_t done[OPERATIONS];
    uint32_t ended;
    uint64_t sum; /* of the bytes that were told, so that a sanitizer sees them read */
    bool closed;
};

static void listen_once(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof name;
    if (listener >= 0) return;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK(bind(listener, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(listen(listener, 64) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&name, &size) == 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(name.sin_port));
}

static void read_all(struct run *run, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) run->sum += (uint8_t)data[i];
    if (data != NULL) CHECK(data[size] == 0);
}

static void read_reply(struct run *run, const struct kv_reply *reply)
{
    read_all(run, reply->data, reply->size);
    for (size_t i = 0; i < reply->count; i++) {
        read_all(run, reply->items[i].data, reply->items[i].size);
    }
}

struct slot {
    struct run *run;
    uint32_t at;
};

static void done(void *context, const struct kv_result *result)
{
    const struct slot *slot = context;
    struct run *run = slot->run;
    run->done[slot->at]++;
    CHECK(result->message != NULL);
    if (result->reply != NULL) read_reply(run, result->reply);
    read_all(run, result->value.data, result->value.size);
    for (size_t i = 0; result->entries != NULL && i < result->count; i++) {
        read_all(run, result->entries[i].key, result->entries[i].key_size);
        read_all(run, result->entries[i].value.data, result->entries[i].value.size);
    }
    for (size_t i = 0; result->entries == NULL && i < result->count; i++) {
        const struct kv_reply *reply = NULL;
        (void)kv_result_at(result, i, &reply);
        if (reply != NULL) read_reply(run, reply);
    }
}

static void heard(void *context, const struct kv_feed_news *news)
{
    struct run *run = context;
    CHECK(run->ended == 0);
    CHECK(news->message != NULL);
    if (news->state == KV_FEED_ENDED) run->ended++;
    for (size_t i = 0; i < news->count; i++) {
        const struct kv_event *event = &news->events[i];
        read_all(run, event->key, event->key_size);
        read_all(run, event->value.data, event->value.size);
        read_all(run, event->previous.data, event->previous.size);
    }
}

static void closed(void *context)
{
    ((struct run *)context)->closed = true;
}

static void start_operations(struct kv_async *async, struct slot *slots)
{
    struct kv_callback then = {.done = done, .context = &slots[0]};
    struct kv_async_scan *scan = NULL;
    const struct kv_bytes word = kv_text("A");
    const struct kv_words words[] = {{KV_READ, &word, 1}, {KV_WRITE, &word, 1}};
    CHECK(kv_async_get(async, kv_text("k"), &then) == KV_OK);
    then.context = &slots[1];
    CHECK(kv_async_incr(async, kv_text("k"), 1, &then) == KV_OK);
    then.context = &slots[2];
    CHECK(kv_async_batch(async, words, 2, &then) == KV_OK);
    then.context = &slots[3];
    CHECK(kv_async_scan_open(async, NULL, &scan) == KV_OK);
    CHECK(kv_async_scan_next(scan, &then) == KV_OK);
}

/* The node: answers each connection with the same bytes. */
struct node {
    int fds[CONNECTIONS_MAX];
    uint32_t count;
    const uint8_t *data;
    size_t size;
    bool greets;
    bool feeds;
    struct prng cuts;
};

static void node_turn(struct node *node, uv_loop_t *loop)
{
    static const char greeting[] = "%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n_\r\n*0\r\n";
    static const char watched[] = "*2\r\n:1\r\n:100\r\n";
    const int fd = accept(listener, NULL, NULL);
    size_t at = 0;
    if (fd < 0) return;
    if (node->count == CONNECTIONS_MAX) {
        (void)close(fd);
        return;
    }
    node->fds[node->count++] = fd;
    /* First the client must ask: an answer before the question ends the connection. */
    for (int i = 0; i < TURNS; i++) (void)uv_run(loop, UV_RUN_NOWAIT);
    if (node->greets) (void)send(fd, greeting, sizeof greeting - 1, MSG_NOSIGNAL);
    for (int i = 0; i < TURNS; i++) (void)uv_run(loop, UV_RUN_NOWAIT);
    if (node->greets && node->feeds) (void)send(fd, watched, sizeof watched - 1, MSG_NOSIGNAL);
    while (at < node->size) {
        size_t piece = node->size - at;
        if (prng_below(&node->cuts, 2) == 0) piece = (size_t)prng_below(&node->cuts, piece) + 1;
        if (send(fd, node->data + at, piece, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) break;
        at += piece;
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
    (void)shutdown(fd, SHUT_WR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {.ended = 0};
    struct slot slots[OPERATIONS];
    struct kv_options options;
    struct kv_async *async = NULL;
    struct kv_feed *feed = NULL;
    uv_loop_t loop;
    if (size < 2 || size > 16384) return 0;
    listen_once();
    struct node node = {.data = data + 2,
                        .size = size - 2,
                        .greets = (data[0] & 1) != 0,
                        .feeds = (data[0] & 2) != 0,
                        .cuts = prng_seed(data[1])};
    kv_options_init(&options);
    options.nodes = address;
    options.once = (data[0] & 4) != 0;
    options.reply_size_max = 1 << 20;
    CHECK(uv_loop_init(&loop) == 0);
    CHECK(kv_async_create(&options, &loop, &async) == KV_OK);
    for (uint32_t i = 0; i < OPERATIONS; i++) slots[i] = (struct slot){&run, i};
    if (node.feeds) CHECK(kv_feed_open(async, NULL, heard, &run, &feed) == KV_OK);
    if (!node.feeds) start_operations(async, slots);
    for (int i = 0; i < TURNS; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        node_turn(&node, &loop);
    }
    kv_async_close(async, closed, &run);
    while (!run.closed) (void)uv_run(&loop, UV_RUN_NOWAIT);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    for (uint32_t i = 0; i < OPERATIONS; i++) CHECK(run.done[i] == (node.feeds ? 0 : 1));
    CHECK(run.ended == (node.feeds ? 1 : 0));
    for (uint32_t i = 0; i < node.count; i++) (void)close(node.fds[i]);
    for (int fd = accept(listener, NULL, NULL); fd >= 0; fd = accept(listener, NULL, NULL)) {
        (void)close(fd);
    }
    return 0;
}
