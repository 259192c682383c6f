/* Change feeds of the asynchronous client: what is told, going on at another node, the end. */
#include "tests/client/async_tools.h"

/* Everything that a feed told, one line each. */
struct story {
    struct kv_feed *feed;
    char text[4096];
    uint32_t count;
    uint32_t ended;
    enum kv_err err;
    uint64_t oldest;
    bool pause_at_events;
    bool close_at_events;
};

static void append(struct story *story, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct story *story, const char *format, ...)
{
    const size_t size = strlen(story->text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(story->text + size, sizeof story->text - size, format, args);
    va_end(args);
}

static void heard(void *context, const struct kv_feed_news *news)
{
    static const char *const states[] = {"started", "events", "progress", "ended"};
    static const char *const kinds[] = {"put", "deleted", "expired", "flushed", "expiry"};
    struct story *story = context;
    EXPECT_FALSE(world_now->calling);
    EXPECT_EQ(story->ended, 0);
    append(story, "%s %d", states[news->state], (int)news->revision);
    for (size_t i = 0; i < news->count; i++) {
        const struct kv_event *event = &news->events[i];
        if (event->expiry_ms >= 0) append(story, " until %d", (int)event->expiry_ms);
        append(story, " [%s %s %s %d %s]", kinds[event->kind],
               event->key != NULL ? event->key : "-",
               event->value.data != NULL ? event->value.data : "-", (int)event->value.revision,
               event->previous.data != NULL ? event->previous.data : "-");
    }
    append(story, "\n");
    story->count++;
    if (news->state == KV_FEED_EVENTS && story->pause_at_events) kv_feed_pause(story->feed);
    if (news->state == KV_FEED_EVENTS && story->close_at_events) kv_feed_close(story->feed);
    if (news->state != KV_FEED_ENDED) return;
    story->ended++;
    story->err = news->err;
    story->oldest = news->oldest_revision;
    EXPECT_TRUE(news->message[0] != 0);
}

static void open_feed(struct world *world, const struct kv_feed_options *options,
                      struct story *story)
{
    *story = (struct story){.count = 0};
    CALL(kv_feed_open(world->async, options, heard, story, &story->feed));
}

#define WATCHED "*2\r\n:1\r\n:100\r\n"
#define PUT_A ">4\r\n+kv.watch\r\n:1\r\n:110\r\n*1\r\n*4\r\n+put\r\n$1\r\na\r\n$1\r\n1\r\n:110\r\n"
#define DELETE_B ">4\r\n+kv.watch\r\n:1\r\n:120\r\n*1\r\n*4\r\n+delete\r\n$1\r\nb\r\n_\r\n:120\r\n"

TEST(kv_feed, changes_are_told_a_transaction_at_a_time)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    const struct kv_feed_options options = {.prefix = kv_text("a"), .previous = 1};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY,
              WATCHED ">4\r\n+kv.watch\r\n:1\r\n:113\r\n*3\r\n"
                      "*5\r\n+put\r\n$1\r\na\r\n$1\r\n1\r\n:111\r\n$3\r\nold\r\n"
                      "*6\r\n+delete\r\n$1\r\nb\r\n_\r\n:112\r\n_\r\n:-1\r\n"
                      "*5\r\n+expired\r\n$1\r\nc\r\n_\r\n:113\r\n$1\r\nx\r\n"
                      ">3\r\n+kv.progress\r\n:1\r\n:115\r\n"
                      ">4\r\n+kv.watch\r\n:1\r\n:116\r\n*2\r\n*4\r\n+flush\r\n_\r\n_\r\n:115\r\n"
                      "*6\r\n+expire-change\r\n$1\r\nd\r\n_\r\n:116\r\n_\r\n:77\r\n"
                      ">2\r\n+other\r\n:1\r\n"
                      ">3\r\n+message\r\n:1\r\n:9\r\n");
    world_open(&world, fake.address, 1000);
    open_feed(&world, &options, &story);
    world_run(&world, &story.count, 4);
    EXPECT_TEXT(story.text, "started 100\n"
                            "events 113 [put a 1 111 old] [deleted b - 112 -] [expired c - 113 x]\n"
                            "progress 115\n"
                            "events 116 [flushed - - 115 -] until 77 [expiry d - 116 -]\n");
    expect_log(&fake, "KV.WATCH PREFIX a PREV PROGRESS 2000\n");
    kv_feed_close(story.feed);
    EXPECT_EQ(story.ended, 0);
    world_run(&world, &story.ended, 1);
    EXPECT_EQ(story.err, KV_ERR_CANCELLED);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_feed, arrays_instead_of_pushes_are_understood)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    const struct kv_feed_options options = {.key = kv_text("a"), .from_revision = 5};
    fake_start(&fake);
    fake_step(&fake, FAKE_BYTES,
              WATCHED "*4\r\n$8\r\nkv.watch\r\n:1\r\n:110\r\n*1\r\n*4\r\n$3\r\nput\r\n$1\r\na\r\n$"
                      "0\r\n\r\n:110\r\n"
                      "*3\r\n$11\r\nkv.progress\r\n:1\r\n:115\r\n");
    world_open(&world, fake.address, 1000);
    open_feed(&world, &options, &story);
    world_run(&world, &story.count, 3);
    EXPECT_TEXT(story.text, "started 5\nevents 110 [put a  110 -]\nprogress 115\n");
    expect_log(&fake, "KV.WATCH KEY a FROM 5 PROGRESS 2000\n");
    world_close(&world); /* The feed ends with its client. */
    EXPECT_EQ(story.ended, 1);
    EXPECT_EQ(story.err, KV_ERR_CANCELLED);
    fake_stop(&fake);
}

TEST(kv_feed, goes_on_behind_the_last_change_when_its_node_fails)
{
    const char *failures[] = {NULL, "garbage\r\n",
                              ">5\r\n+kv.closed\r\n:1\r\n+CLUSTERDOWN\r\n+x\r\n:0\r\n"};
    for (size_t i = 0; i < 3; i++) {
        struct fake fake = {0};
        struct world world;
        struct story story;
        const struct kv_feed_options options = {.from = kv_text("a"), .to = kv_text("c")};
        fake_start(&fake);
        fake_step(&fake, FAKE_CLOSE, NULL); /* Before anything was promised. */
        fake_step(&fake, FAKE_REPLY, "-CLUSTERDOWN no leader\r\n");
        fake_step(&fake, FAKE_REPLY, WATCHED PUT_A);
        fake_step(&fake, FAKE_REPLY, "*2\r\n:1\r\n:999\r\n" PUT_A DELETE_B);
        world_open(&world, fake.address, 1000);
        open_feed(&world, &options, &story);
        world_run(&world, &story.count, 2);
        if (failures[i] == NULL) fake_hang_up(&fake);
        if (failures[i] != NULL) fake_tell(&fake, failures[i]);
        world_run(&world, &story.count, 4);
        world_idle(&world, 20);
        /* The change that came again is told once. */
        EXPECT_TEXT(story.text, "started 100\nevents 110 [put a 1 110 -]\n"
                                "started 110\nevents 120 [deleted b - 120 -]\n");
        expect_log(&fake, "KV.WATCH RANGE a c PROGRESS 2000\nKV.WATCH RANGE a c PROGRESS 2000\n"
                          "KV.WATCH RANGE a c PROGRESS 2000\n"
                          "KV.WATCH RANGE a c FROM 110 PROGRESS 2000\n");
        world_close(&world);
        fake_stop(&fake);
    }
}

TEST(kv_feed, a_silent_node_is_left)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    const struct kv_feed_options options = {.progress_ms = 50};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, WATCHED);
    fake_step(&fake, FAKE_REPLY, WATCHED PUT_A);
    world_open(&world, fake.address, 1000);
    const int64_t begun = now_ms();
    open_feed(&world, &options, &story);
    world_run(&world, &story.count, 3);
    EXPECT_TRUE(now_ms() - begun >= 150);
    EXPECT_TEXT(story.text, "started 100\nstarted 100\nevents 110 [put a 1 110 -]\n");
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_feed, ends_when_nobody_serves_it_for_too_long)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    const struct kv_feed_options options = {.silence_ms = 200};
    fake_start(&fake);
    fake_stop(&fake);
    world_open(&world, fake.address, 1000);
    const int64_t begun = now_ms();
    open_feed(&world, &options, &story);
    world_run(&world, &story.ended, 1);
    EXPECT_EQ(story.err, KV_ERR_TIMEOUT);
    EXPECT_TRUE(now_ms() - begun >= 200);
    EXPECT_TRUE(now_ms() - begun < 2000);
    world_close(&world);
}

static void expect_end(const char *answer, enum kv_err err, uint64_t oldest)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    const struct kv_feed_options options = {.from_revision = 3};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, answer);
    world_open(&world, fake.address, 1000);
    open_feed(&world, &options, &story);
    world_run(&world, &story.ended, 1);
    EXPECT_EQ(story.err, err);
    EXPECT_EQ(story.oldest, oldest);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_feed, what_cannot_go_on_ends_with_its_reason)
{
    expect_end("-COMPACTED revision 3 is not kept any more: the oldest is 42\r\n", KV_ERR_COMPACTED,
               42);
    expect_end(WATCHED ">5\r\n+kv.closed\r\n:1\r\n+COMPACTED\r\n+too slow\r\n:77\r\n",
               KV_ERR_COMPACTED, 77);
    expect_end(WATCHED ">4\r\n+kv.closed\r\n:1\r\n+COMPACTED\r\n+the oldest is 9\r\n",
               KV_ERR_COMPACTED, 9);
    expect_end(WATCHED ">5\r\n+kv.closed\r\n:1\r\n+TOOBIG\r\n+x\r\n:7\r\n", KV_ERR_FAILED, 0);
    expect_end("-ERR unknown command 'KV.WATCH'\r\n", KV_ERR_FAILED, 0);
    expect_end("+OK\r\n", KV_ERR_FAILED, 0);
    expect_end(WATCHED ">1\r\n+kv.watch\r\n", KV_ERR_FAILED, 0);
    expect_end(WATCHED ">4\r\n+kv.watch\r\n:1\r\n:101\r\n:1\r\n", KV_ERR_FAILED, 0);
    expect_end(WATCHED ">4\r\n+kv.watch\r\n:1\r\n:101\r\n*1\r\n*1\r\n+put\r\n", KV_ERR_FAILED, 0);
    expect_end(WATCHED ">4\r\n+kv.watch\r\n:1\r\n:101\r\n*1\r\n*4\r\n+what\r\n+k\r\n_\r\n:1\r\n",
               KV_ERR_FAILED, 0);
    expect_end(WATCHED ">4\r\n+kv.watch\r\n:1\r\n:101\r\n*1\r\n*4\r\n+put\r\n_\r\n_\r\n:1\r\n",
               KV_ERR_FAILED, 0);
    expect_end(WATCHED ">2\r\n:1\r\n:2\r\n", KV_ERR_FAILED, 0);
}

TEST(kv_feed, options_that_exclude_each_other_open_nothing)
{
    struct fake fake = {0};
    struct world world;
    struct kv_feed *feed = NULL;
    const struct kv_feed_options wrong[] = {
        {.key = kv_text("a"), .prefix = kv_text("b")},
        {.key = kv_text("a"), .to = kv_text("b")},
        {.progress_ms = -1},
        {.silence_ms = -1},
    };
    fake_start(&fake);
    world_open(&world, fake.address, 1000);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        EXPECT_EQ(kv_feed_open(world.async, &wrong[i], heard, NULL, &feed), KV_ERR_INVALID);
        EXPECT_TRUE(feed == NULL);
    }
    EXPECT_EQ(kv_feed_open(world.async, NULL, NULL, NULL, &feed), KV_ERR_INVALID);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_feed, paused_it_tells_nothing_until_it_goes_on)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    const struct kv_feed_options options = {.progress_ms = 50};
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, WATCHED PUT_A DELETE_B);
    world_open(&world, fake.address, 1000);
    open_feed(&world, &options, &story);
    story.pause_at_events = true;
    world_run(&world, &story.count, 2);
    world_idle(&world, 400); /* The node is not blamed for the silence. */
    EXPECT_TEXT(story.text, "started 100\nevents 110 [put a 1 110 -]\n");
    story.pause_at_events = false;
    kv_feed_resume(story.feed);
    EXPECT_EQ(story.count, 2);
    world_run(&world, &story.count, 3);
    EXPECT_TEXT(story.text, "started 100\nevents 110 [put a 1 110 -]\n"
                            "events 120 [deleted b - 120 -]\n");
    EXPECT_EQ(fake_accepted(&fake), 1);
    world_close(&world);
    fake_stop(&fake);
}

TEST(kv_feed, closed_by_its_own_callback)
{
    struct fake fake = {0};
    struct world world;
    struct story story;
    struct seen seen;
    fake_start(&fake);
    fake_step(&fake, FAKE_REPLY, WATCHED PUT_A DELETE_B);
    world_open(&world, fake.address, 1000);
    open_feed(&world, NULL, &story);
    story.close_at_events = true;
    world_run(&world, &story.ended, 1);
    EXPECT_TEXT(story.text, "started 100\nevents 110 [put a 1 110 -]\nended 110\n");
    /* Operations have another connection. */
    const struct kv_callback then = into(&seen);
    CALL(kv_async_incr(world.async, kv_text("k"), 1, &then));
    world_wait(&world, &seen);
    world_close(&world);
    fake_stop(&fake);
}

/* ---- without a loop -------------------------------------------------------------------------- */

TEST(kv_watch, waits_for_each_change_and_goes_on_after_a_fault)
{
    struct fake fake = {0};
    struct kv_watch *watch = NULL;
    const struct kv_feed_news *news = NULL;
    const struct kv_feed_options options = {.prefix = kv_text("a"), .progress_ms = 50};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    fake_step(&fake, FAKE_REPLY, WATCHED PUT_A DELETE_B);
    fake_step(&fake, FAKE_REPLY, "*2\r\n:1\r\n:120\r\n>3\r\n+kv.progress\r\n:1\r\n:130\r\n");
    EXPECT_EQ(kv_watch_open(kv, &options, &watch), KV_OK);
    kv_close(kv); /* It is independent of the handle. */
    EXPECT_EQ(kv_watch_next(watch, 1000, &news), KV_OK);
    EXPECT_EQ(news->state, KV_FEED_STARTED);
    EXPECT_EQ(news->revision, 100);
    EXPECT_EQ(kv_watch_next(watch, 1000, &news), KV_OK);
    EXPECT_EQ(news->state, KV_FEED_EVENTS);
    EXPECT_TEXT(news->events[0].key, "a");
    (void)usleep(300000); /* The program has other things to do: that is no silence of the node. */
    EXPECT_EQ(kv_watch_next(watch, 1000, &news), KV_OK);
    EXPECT_EQ(news->events[0].kind, KV_EVENT_DELETED);
    EXPECT_EQ(news->revision, 120);
    const int64_t begun = now_ms();
    EXPECT_EQ(kv_watch_next(watch, 20, &news), KV_ERR_TIMEOUT);
    EXPECT_TRUE(news == NULL);
    EXPECT_TRUE(now_ms() - begun >= 20);
    fake_hang_up(&fake);
    EXPECT_EQ(kv_watch_next(watch, 1000, &news), KV_OK);
    EXPECT_EQ(news->state, KV_FEED_STARTED);
    EXPECT_EQ(kv_watch_next(watch, 1000, &news), KV_OK);
    EXPECT_EQ(news->state, KV_FEED_PROGRESS);
    EXPECT_EQ(news->revision, 130);
    expect_log(&fake, "KV.WATCH PREFIX a PROGRESS 50\nKV.WATCH PREFIX a FROM 120 PROGRESS 50\n");
    kv_watch_close(watch);
    kv_watch_close(NULL);
    fake_stop(&fake);
}

TEST(kv_watch, ends_with_its_reason_and_stays_ended)
{
    struct fake fake = {0};
    struct kv_watch *watch = NULL;
    const struct kv_feed_news *news = NULL;
    const struct kv_feed_options wrong = {.prefix = kv_text("a"), .key = kv_text("b")};
    fake_start(&fake);
    struct kv *kv = connect_to(fake.address, 1000);
    EXPECT_EQ(kv_watch_open(kv, &wrong, &watch), KV_ERR_INVALID);
    EXPECT_TRUE(watch == NULL);
    fake_step(&fake, FAKE_REPLY,
              "-COMPACTED revision 3 is not kept any more: the oldest is 42\r\n");
    EXPECT_EQ(kv_watch_open(kv, NULL, &watch), KV_OK);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(kv_watch_next(watch, 1000, &news), KV_ERR_COMPACTED);
        EXPECT_EQ(news->state, KV_FEED_ENDED);
        EXPECT_EQ(news->oldest_revision, 42);
        EXPECT_TRUE(strstr(news->message, "not kept") != NULL);
    }
    kv_watch_close(watch);
    EXPECT_EQ(kv_watch_open(kv, NULL, &watch), KV_OK); /* Closed before it ran. */
    kv_watch_close(watch);
    kv_close(kv);
    fake_stop(&fake);
}
