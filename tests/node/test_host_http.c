#include "tests/test.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/host/host_http.h"
#include "storage/base/limits.h"

/* ---- the parser ------------------------------------------------------------------------------------------- */

static void expect(const char *input, enum err expected, const char *path)
{
    struct host_http_request request;
    const enum err err = host_http_parse(slice_text(input), &request);
    if (err != expected) EXPECT_TEXT(input, "parsed as expected");
    if (err == OK) EXPECT_TEXT(request.path, path);
}

TEST(host_http, requests)
{
    expect("GET / HTTP/1.1\r\n\r\n", OK, "/");
    expect("GET /metrics HTTP/1.0\r\nHost: a\r\n\r\n", OK, "/metrics");
    expect("GET /a/b?c=d&e=/f HTTP/1.1\n\n", OK, "/a/b");
    expect("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n", OK, "/a");
    expect("HEAD / HTTP/1.1\r\n\r\n", ERR_AGAIN, "");
    expect("POST / HTTP/1.1\r\n\r\n", ERR_AGAIN, "");
    expect("GET / HTTP/2.0\r\n\r\n", ERR_INVALID, "");
    expect("GET  / HTTP/1.1\r\n\r\n", ERR_INVALID, "");
    expect("GET / HTTP/1.1 \r\n\r\n", ERR_INVALID, "");
    expect("GET /\r\n\r\n", ERR_INVALID, "");
    expect("GET http://a/ HTTP/1.1\r\n\r\n", ERR_INVALID, "");
    expect("GET /a\tb HTTP/1.1\r\n\r\n", ERR_INVALID, "");
    expect("GET /\x80 HTTP/1.1\r\n\r\n", ERR_INVALID, "");
    expect("\r\n\r\n", ERR_INVALID, "");
    expect("*1\r\n$4\r\nPING\r\n", ERR_INVALID, "");
    expect("get", ERR_INVALID, "");
    expect("\x16\x03\x01", ERR_INVALID, ""); /* the greeting of TLS */
    expect("VERYLONGMETHODNAMEINDEED", ERR_INVALID, "");
}

TEST(host_http, every_beginning_of_a_request_asks_for_more)
{
    const char *text = "GET /status HTTP/1.1\r\nHost: a\r\n\r\n";
    struct host_http_request request;
    for (uint64_t size = 0; size < strlen(text); size++) {
        EXPECT_EQ(host_http_parse(slice_of(text, size), &request), ERR_MORE);
    }
}

TEST(host_http, limits)
{
    struct host_http_request request;
    static char text[HOST_HTTP_REQUEST_MAX + 1];
    memset(text, 'a', sizeof text);
    memcpy(text, "GET / HTTP/1.1\r\n", 16);
    EXPECT_EQ(host_http_parse(slice_of(text, sizeof text - 2), &request), ERR_MORE);
    EXPECT_EQ(host_http_parse(slice_of(text, sizeof text - 1), &request), ERR_TOO_BIG);
    EXPECT_EQ(host_http_parse(slice_of(text, sizeof text), &request), ERR_TOO_BIG);
    memcpy(text, "GET /aaaaaaaaaaa", 16);
    memcpy(text + 4 + HOST_HTTP_PATH_MAX, " HTTP/1.1\n\n", 11);
    EXPECT_EQ(host_http_parse(slice_of(text, 15 + HOST_HTTP_PATH_MAX), &request), OK);
    EXPECT_EQ(strlen(request.path), HOST_HTTP_PATH_MAX);
    memcpy(text + 5 + HOST_HTTP_PATH_MAX, " HTTP/1.1\n\n", 11);
    text[4 + HOST_HTTP_PATH_MAX] = 'a';
    EXPECT_EQ(host_http_parse(slice_of(text, 16 + HOST_HTTP_PATH_MAX), &request), ERR_TOO_BIG);
}

/* ---- the server ------------------------------------------------------------------------------------------- */

struct fixture {
    uv_loop_t loop;
    struct host_http http;
    struct config_address address;
};

static char message[512];

static int answer(void *context, const char *path, struct buf *body, const char **type)
{
    (void)context;
    if (strcmp(path, "/big") == 0) {
        memset(buf_extend(body, 8 * MIB), 'b', 8 * MIB);
        *type = "text/html";
        return 200;
    }
    if (strcmp(path, "/down") == 0) return 503;
    if (strcmp(path, "/") != 0) return 404;
    buf_text(body, "hello\n");
    return 200;
}

static void start(struct fixture *fixture)
{
    EXPECT_EQ(uv_loop_init(&fixture->loop), 0);
    host_http_init(&fixture->http, &fixture->loop);
    fixture->http.answer = answer;
    EXPECT_TRUE(config_parse_address("127.0.0.1:0", &fixture->address));
    EXPECT_EQ(host_http_listen(&fixture->http, &fixture->address, message), OK);
    EXPECT_NE(fixture->address.port, 0);
}

static void stop(struct fixture *fixture)
{
    host_http_close(&fixture->http);
    (void)uv_run(&fixture->loop, UV_RUN_DEFAULT);
    EXPECT_EQ(fixture->http.count, 0);
    EXPECT_EQ(uv_loop_close(&fixture->loop), 0);
}

static int open_client(const struct fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(fixture->address.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_TRUE(client >= 0);
    EXPECT_EQ(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    return client;
}

static void turn(struct fixture *fixture)
{
    host_http_turn(&fixture->http);
    (void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

/* Reads up to the end; running the loop meanwhile. */
static uint64_t read_all(struct fixture *fixture, int client, struct buf *reply)
{
    for (uint32_t i = 0; i < 200000; i++) {
        turn(fixture);
        uint8_t *room = buf_reserve(reply, 65536);
        const ssize_t got = recv(client, room, 65536, MSG_DONTWAIT);
        if (got == 0) break;
        if (got > 0) reply->size += (uint64_t)got;
    }
    buf_u8(reply, 0);
    return reply->size - 1;
}

static void expect_reply(const char *request, const char *status, const char *part)
{
    struct fixture fixture;
    struct buf reply = {0};
    start(&fixture);
    const int client = open_client(&fixture);
    for (size_t i = 0; i < strlen(request); i++) { /* byte by byte */
        EXPECT_EQ(send(client, request + i, 1, MSG_NOSIGNAL), 1);
        if (i % 5 == 0) turn(&fixture);
    }
    (void)read_all(&fixture, client, &reply);
    const char *text = (const char *)reply.data;
    if (strncmp(text, status, strlen(status)) != 0) EXPECT_TEXT(text, status);
    if (strstr(text, part) == NULL) EXPECT_TEXT(text, part);
    buf_close(&reply);
    close(client);
    stop(&fixture);
}

TEST(host_http, answers)
{
    expect_reply("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello\n");
    expect_reply("GET /x HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "Not Found\n");
    expect_reply("GET /down HTTP/1.1\r\n\r\n", "HTTP/1.1 503 ", "Content-Length: 20\r\n");
    expect_reply("PUT / HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ", "Allow: GET\r\n");
    expect_reply("hello", "HTTP/1.1 400 ", "Bad Request");
}

TEST(host_http, big_answer_arrives_whole_although_the_client_is_slow)
{
    struct fixture fixture;
    struct buf reply = {0};
    start(&fixture);
    const int client = open_client(&fixture);
    EXPECT_EQ(send(client, "GET /big HTTP/1.1\r\n\r\n", 21, MSG_NOSIGNAL), 21);
    EXPECT_EQ(shutdown(client, SHUT_WR), 0); /* only the client's own half ends */
    for (uint32_t i = 0; i < 1000; i++) turn(&fixture);
    EXPECT_TRUE(read_all(&fixture, client, &reply) > 8 * MIB);
    EXPECT_TRUE(strstr((const char *)reply.data, "Content-Length: 8388608\r\n") != NULL);
    EXPECT_EQ(reply.data[reply.size - 2], 'b');
    buf_close(&reply);
    close(client);
    stop(&fixture);
}

TEST(host_http, too_many_connections_are_closed_and_others_still_served)
{
    struct fixture fixture;
    struct buf reply = {0};
    int clients[HOST_HTTP_CONNECTIONS_MAX + 1];
    char byte;
    start(&fixture);
    for (uint32_t i = 0; i <= HOST_HTTP_CONNECTIONS_MAX; i++) clients[i] = open_client(&fixture);
    for (uint32_t i = 0; i < 20; i++) turn(&fixture);
    EXPECT_EQ(fixture.http.count, HOST_HTTP_CONNECTIONS_MAX);
    EXPECT_EQ(recv(clients[HOST_HTTP_CONNECTIONS_MAX], &byte, 1, 0), 0);
    EXPECT_EQ(send(clients[0], "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    EXPECT_TRUE(read_all(&fixture, clients[0], &reply) > 0);
    buf_close(&reply);
    for (uint32_t i = 0; i <= HOST_HTTP_CONNECTIONS_MAX; i++) close(clients[i]);
    for (uint32_t i = 0; i < 20; i++) turn(&fixture);
    EXPECT_EQ(fixture.http.count, 0);
    stop(&fixture);
}

TEST(host_http, silent_client_is_closed_in_time)
{
    struct fixture fixture;
    start(&fixture);
    const int client = open_client(&fixture);
    for (uint32_t i = 0; i < 5; i++) turn(&fixture);
    EXPECT_EQ(fixture.http.count, 1);
    const uint64_t before = uv_now(&fixture.loop);
    (void)uv_run(&fixture.loop, UV_RUN_ONCE); /* sleeps until the deadline */
    EXPECT_EQ(fixture.http.count, 0);
    EXPECT_LE(uv_now(&fixture.loop) - before, HOST_HTTP_TIMEOUT_MS + 500);
    close(client);
    stop(&fixture);
}

TEST(host_http, port_in_use_is_one_clear_line)
{
    struct fixture fixture;
    struct host_http second;
    start(&fixture);
    host_http_init(&second, &fixture.loop);
    EXPECT_EQ(host_http_listen(&second, &fixture.address, message), ERR_IN_USE);
    EXPECT_TRUE(strstr(message, "http: 127.0.0.1:") == message);
    EXPECT_TRUE(strstr(message, "is in use by another program") != NULL);
    host_http_close(&second);
    stop(&fixture);
}
