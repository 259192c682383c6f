#include "node/session.h"

#include "tests/test.h"

static int connection;

static void reply(struct session *session, const char *text, struct session_wait wait)
{
    resp_put_simple(&session->out, text);
    session_add_wait(session, wait);
    session_check(session);
}

static struct slice free_bytes(const struct session *session)
{
    return slice_of(session->out.data + (session->sent - session->out_base),
                    session->released - session->sent);
}

TEST(session, replies_leave_in_order_when_what_they_promise_holds)
{
    struct session *session = session_create(1, &connection, 0);
    reply(session, "a", (struct session_wait){0});
    EXPECT_EQ(session->released - SESSION_STREAM_START, 4);
    reply(session, "b", (struct session_wait){.batch = 5, .wrote = true});
    reply(session, "c", (struct session_wait){.read = 2});
    reply(session, "d", (struct session_wait){0});
    EXPECT_EQ(session->released - SESSION_STREAM_START, 4);
    EXPECT_FALSE(session_release(session, 4, 9)); /* b waits, so do those behind it */
    EXPECT_TRUE(session_release(session, 5, 1));
    EXPECT_EQ(session->released - SESSION_STREAM_START, 8);
    EXPECT_TRUE(session_release(session, 5, 2));
    EXPECT_EQ(session->released - SESSION_STREAM_START, 16);
    EXPECT_TRUE(slice_equal(free_bytes(session), slice_text("+a\r\n+b\r\n+c\r\n+d\r\n")));
    session_sent(session, 16);
    session_check(session);
    session_destroy(session);
}

TEST(session, lost_leadership_tells_unknown_from_not_done)
{
    struct session *session = session_create(1, &connection, 0);
    reply(session, "applied", (struct session_wait){.batch = 1, .wrote = true});
    reply(session, "proposed", (struct session_wait){.batch = 2, .wrote = true});
    reply(session, "read", (struct session_wait){.read = 8});
    reply(session, "open", (struct session_wait){.batch = 3, .wrote = true});
    session_fail_waits(session, 1, 7, 3);
    (void)session_release(session, UINT64_MAX, UINT64_MAX);
    session_check(session);
    const struct slice text = free_bytes(session);
    char copy[1024] = "";
    memcpy(copy, text.data, text.size);
    const char *applied = strstr(copy, "+applied\r\n");
    const char *uncertain = strstr(copy, "-UNCERTAIN ");
    const char *down = strstr(copy, "-CLUSTERDOWN ");
    EXPECT_TRUE(applied == copy);
    EXPECT_TRUE(uncertain != NULL && down != NULL && uncertain < down);
    EXPECT_TRUE(strstr(down + 1, "-CLUSTERDOWN ") != NULL); /* the open batch was never proposed */
    EXPECT_TRUE(strstr(uncertain + 1, "-UNCERTAIN ") == NULL);
    session_destroy(session);
}

/* The origin repeats a moved request and everything behind it: no proposed write may be among that. */
TEST(session, nothing_in_front_of_a_proposed_write_is_moved)
{
    struct session *proxy = session_create(1, NULL, 0);
    reply(proxy, "read", (struct session_wait){.read = 8});
    reply(proxy, "proposed", (struct session_wait){.batch = 2, .wrote = true});
    reply(proxy, "read", (struct session_wait){.read = 8});
    reply(proxy, "open", (struct session_wait){.batch = 3, .wrote = true});
    session_fail_waits(proxy, 1, 7, 3);
    session_check(proxy);
    EXPECT_EQ(proxy->wait_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct session_wait *wait = session_first_wait(proxy) + i;
        EXPECT_EQ(wait->moved, i >= 2);
    }
    EXPECT_TRUE(proxy->moved);
    session_destroy(proxy);
}

TEST(session, many_waits_wrap_around)
{
    struct session *session = session_create(1, &connection, 0);
    uint64_t batch = 1;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 7 + round; i++)
            reply(session, "x", (struct session_wait){.batch = batch + (uint64_t)i});
        (void)session_release(session, batch + 3, 0);
        session_sent(session, session->released - session->sent);
        session_check(session);
        batch += 4;
    }
    (void)session_release(session, UINT64_MAX, 0);
    EXPECT_EQ(session->wait_count, 0);
    session_destroy(session);
}

TEST(session, forwards_keep_their_bytes_in_order)
{
    struct session *session = session_create(1, &connection, 0);
    for (int round = 0; round < 20; round++) {
        session_add_forward(session, slice_text("aaaa"), true, SESSION_ASK);
        session_add_forward(session, slice_text("bb"), false, SESSION_ASK);
        session_check(session);
        EXPECT_EQ(session_first_forward(session)->size, round % 2 == 0 ? 4 : 2);
        session_drop_forward(session);
        session_check(session);
        const uint8_t first = session->forwarded.data[session->forwarded_start];
        EXPECT_EQ(first, round % 2 == 0 ? 'b' : 'a');
        if (round % 2 == 1) continue;
    }
    while (session->forward_count > 0) session_drop_forward(session);
    EXPECT_EQ(session->forwarded.size - session->forwarded_start, 0);
    session_check(session);
    session_destroy(session);
}

TEST(session, input_is_consumed_without_losing_what_follows)
{
    struct session *session = session_create(1, &connection, 0);
    for (int i = 0; i < 100000; i++) buf_append(&session->in, "0123456789", 10);
    for (int i = 0; i < 99999; i++) session_consume(session, 10);
    EXPECT_EQ(session_input(session), 10);
    EXPECT_BYTES(session->in.data + session->in_start, "0123456789", 10);
    session_consume(session, 10);
    EXPECT_EQ(session->in.size, 0);
    session_destroy(session);
}
