/* Large commands: what all connections may hold together, and what is not done twice. */
#include "tests/test.h"

#include "node/core_parts.h"
#include "tests/node/core_fixture.h"

#define PIECE_SIZE (64u * KIB)

struct sender {
    struct buf command;
    uint64_t sent;
};

static void sender_open(struct sender *sender, uint32_t number, uint64_t size)
{
    *sender = (struct sender){0};
    buf_printf(&sender->command, "*3\r\n$3\r\nSET\r\n$2\r\nk%u\r\n$%llu\r\n", number,
               (unsigned long long)size);
    uint8_t *at = buf_extend(&sender->command, size);
    for (uint64_t i = 0; i < size; i++) at[i] = (uint8_t)(i * 2654435761u >> 13);
    buf_text(&sender->command, "\r\n");
}

/* What a socket gives when it is read. False: all was sent, or it is not read. */
static bool send_piece(struct fixture *f, int client, struct sender *sender)
{
    struct fixture_client *to = fixture_client(f, client);
    const uint64_t left = sender->command.size - sender->sent;
    const uint64_t size = left < PIECE_SIZE ? left : PIECE_SIZE;
    if (size == 0 || to->is_paused) return false;
    core_client_bytes(f->core, to->session, sender->command.data + sender->sent, size);
    sender->sent += size;
    return true;
}

TEST(large, all_clients_together_hold_a_bounded_amount_and_all_get_through)
{
    struct fixture f;
    struct sender senders[8];
    const uint64_t size = 3 * MIB;
    uint64_t most = 0;
    uint32_t paused = 0;
    fixture_open(&f);
    f.config.max_inflight_size = 4 * MIB;
    for (uint32_t i = 0; i < 7; i++) sender_open(&senders[i], i, size);
    for (uint32_t round = 0; round < 5000; round++) {
        bool any = false;
        for (uint32_t i = 0; i < 7; i++) {
            if (send_piece(&f, (int)i, &senders[i])) any = true;
            if (fixture_client(&f, (int)i)->is_paused) paused++;
        }
        fixture_run(&f, any ? 1 : 60);
        if (f.core->held_size > most) most = f.core->held_size;
        /* Small commands are not concerned. */
        if (round % 100 == 0) EXPECT_TEXT(fixture_ask(&f, 7, "PING\r\n", 6), "+PONG\r\n");
    }
    EXPECT_TRUE(paused > 0);
    EXPECT_TRUE(most <= f.config.max_inflight_size + size + 8 * (256 * KIB + PIECE_SIZE));
    EXPECT_EQ(f.core->held_size, 0);
    for (uint32_t i = 0; i < 7; i++) {
        const struct fixture_client *client = fixture_client(&f, (int)i);
        EXPECT_EQ(client->out.size, 5);
        EXPECT_TRUE(memcmp(client->out.data, "+OK\r\n", 5) == 0);
        EXPECT_FALSE(client->is_paused);
        buf_close(&senders[i].command);
    }
    fixture_close(&f);
}

TEST(large, a_command_above_the_bound_passes_alone)
{
    struct fixture f;
    struct sender sender;
    fixture_open(&f);
    f.config.max_inflight_size = MIB;
    sender_open(&sender, 1, 7 * MIB);
    for (uint32_t round = 0; round < 2000 && sender.sent < sender.command.size; round++) {
        (void)send_piece(&f, 1, &sender);
        fixture_run(&f, 1);
    }
    EXPECT_EQ(sender.sent, sender.command.size);
    fixture_run(&f, 200);
    EXPECT_EQ(fixture_client(&f, 1)->out.size, 5);
    EXPECT_EQ(f.core->held_size, 0);
    buf_close(&sender.command);
    fixture_close(&f);
}

TEST(large, who_holds_a_lot_and_goes_away_makes_room)
{
    struct fixture f;
    struct sender senders[3];
    fixture_open(&f);
    f.config.max_inflight_size = MIB;
    for (uint32_t i = 0; i < 3; i++) {
        sender_open(&senders[i], i, 2 * MIB);
        for (uint32_t piece = 0; piece < 10; piece++) {
            (void)send_piece(&f, (int)i, &senders[i]);
            fixture_run(&f, 1);
        }
    }
    EXPECT_FALSE(fixture_client(&f, 0)->is_paused); /* The first may go on, and stops. */
    EXPECT_TRUE(fixture_client(&f, 2)->is_paused);
    for (uint32_t i = 0; i < 2; i++) {
        core_client_closed(f.core, fixture_client(&f, (int)i)->session);
        f.clients[i].session = NULL;
        fixture_run(&f, 60);
    }
    EXPECT_FALSE(fixture_client(&f, 2)->is_paused);
    while (send_piece(&f, 2, &senders[2])) fixture_run(&f, 1);
    fixture_run(&f, 200);
    EXPECT_EQ(fixture_client(&f, 2)->out.size, 5);
    for (uint32_t i = 0; i < 3; i++) buf_close(&senders[i].command);
    fixture_close(&f);
}

TEST(large, a_command_that_waits_is_not_parsed_again)
{
    struct fixture f;
    struct buf command = {0};
    const uint32_t pairs = 20000;
    fixture_open(&f);
    f.config.max_inflight_size = MIB;
    f.config.compress_above_size = 0;
    f.disk.stalled_until = f.now_ms + 700;
    struct sender first;
    sender_open(&first, 1, 2 * MIB);
    while (send_piece(&f, 1, &first)) fixture_run(&f, 1);
    fixture_run(&f, 5);
    buf_printf(&command, "*%u\r\n$4\r\nMSET\r\n", 2 * pairs + 1);
    for (uint32_t i = 0; i < pairs; i++) buf_printf(&command, "$5\r\n%05u\r\n$1\r\nv\r\n", i);
    struct fixture_client *client = fixture_client(&f, 2);
    core_client_bytes(f.core, client->session, command.data, command.size);
    fixture_run(&f, 3);
    const struct resp_parser *parser = &client->session->parser;
    EXPECT_EQ(client->out.size, 0); /* It waits until the entry before it is on the disk, */
    EXPECT_EQ(parser->arg_count, 2 * pairs + 1); /* and stays taken apart. */
    const struct slice *args = parser->args;
    const uint8_t *base = parser->base;
    EXPECT_TRUE(base != NULL);
    fixture_run(&f, 50);
    EXPECT_TRUE(parser->args == args);
    EXPECT_TRUE(parser->base == base);
    core_client_bytes(f.core, client->session, command.data, command.size); /* It may move. */
    fixture_run(&f, 50);
    EXPECT_EQ(parser->arg_count, 2 * pairs + 1);
    f.disk.stalled_until = 0;
    fixture_run(&f, 1000);
    EXPECT_EQ(client->out.size, 10);
    EXPECT_TRUE(memcmp(client->out.data, "+OK\r\n+OK\r\n", 10) == 0);
    EXPECT_TEXT(fixture_say(&f, "GET 19999"), "$1\r\nv\r\n");
    buf_close(&command);
    buf_close(&first.command);
    fixture_close(&f);
}

/* F11. It would stand in the log before every delete, and wait for space that only deletes can make. */
TEST(large, a_value_for_which_the_disk_has_no_room_is_refused_and_deletes_go_on)
{
    struct fixture f;
    struct sender sender;
    uint64_t free_size = 0;
    fixture_open_sized(&f, MIB);
    fixture_run(&f, 3000);
    EXPECT_TEXT(fixture_ask(&f, 0, "SET a 1\r\n", 9), "+OK\r\n");
    CHECK(f.disk.disk.space(f.disk.disk.context, &free_size) == OK);
    f.disk.capacity -= free_size - 2 * MIB;
    for (uint32_t i = 0; i < 2; i++) {
        sender_open(&sender, i, 5 * MIB);
        for (uint32_t round = 0; round < 500; round++) {
            (void)send_piece(&f, 1, &sender);
            fixture_run(&f, 1);
        }
        struct buf *out = &fixture_client(&f, 1)->out;
        buf_u8(out, 0);
        if (i == 0) EXPECT_TRUE(strstr((char *)out->data, "NOSPACE") != NULL);
        if (i == 1) EXPECT_TEXT((char *)out->data, "+OK\r\n");
        out->size = 0;
        buf_close(&sender.command);
        EXPECT_TEXT(fixture_ask(&f, 0, "SET b 2\r\n", 9), "+OK\r\n");
        EXPECT_TEXT(fixture_ask(&f, 0, "DEL a\r\n", 7), i == 0 ? ":1\r\n" : ":0\r\n");
        f.disk.capacity += 8 * MIB;
    }
    fixture_close(&f);
}

/* The same for one that APPEND makes. */
TEST(large, a_value_that_append_makes_too_large_for_the_disk_is_refused)
{
    struct fixture f;
    struct sender sender;
    uint64_t free_size = 0;
    fixture_open_sized(&f, MIB);
    fixture_run(&f, 3000);
    sender_open(&sender, 1, 5 * MIB);
    for (uint32_t round = 0; round < 500; round++) {
        (void)send_piece(&f, 1, &sender);
        fixture_run(&f, 1);
    }
    buf_close(&sender.command);
    fixture_client(&f, 1)->out.size = 0;
    CHECK(f.disk.disk.space(f.disk.disk.context, &free_size) == OK);
    f.disk.capacity -= free_size - 2 * MIB;
    EXPECT_TRUE(strstr(fixture_ask(&f, 1, "APPEND k1 x\r\n", 13), "NOSPACE") != NULL);
    EXPECT_TEXT(fixture_ask(&f, 1, "STRLEN k1\r\n", 11), ":5242880\r\n");
    EXPECT_TEXT(fixture_ask(&f, 1, "DEL k1\r\n", 8), ":1\r\n");
    fixture_close(&f);
}
