/* driver.c - hiredis, as clients.py starts it:
 *   driver hiredis check|load standalone PORT,... [SECONDS] */
#include <hiredis/hiredis.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static redisContext *context;

static void fail(const char *what, const char *why)
{
    (void)fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* The reply must be the text, a number as its digits, "(nil)", or for an error begin with it. */
static void expect(const char *what, redisReply *reply, const char *want)
{
    char number[32];
    const char *got = number;
    if (reply == NULL) fail(what, context->errstr);
    switch (reply->type) {
    case REDIS_REPLY_INTEGER: (void)snprintf(number, sizeof number, "%lld", reply->integer); break;
    case REDIS_REPLY_NIL: got = "(nil)"; break;
    case REDIS_REPLY_ARRAY:
        (void)snprintf(number, sizeof number, "array %d", (int)reply->elements);
        break;
    default: got = reply->str;
    }
    const int different = reply->type == REDIS_REPLY_ERROR ? strncmp(got, want, strlen(want))
                                                           : strcmp(got, want);
    if (different != 0) fail(what, got);
    freeReplyObject(reply);
}

#define EXPECT(want, ...) expect(#__VA_ARGS__, redisCommand(context, __VA_ARGS__), want)

static void expect_next(const char *what, const char *want)
{
    redisReply *reply = NULL;
    if (redisGetReply(context, (void **)&reply) != REDIS_OK) fail(what, context->errstr);
    expect(what, reply, want);
}

static void check(int port)
{
    static const char bytes[] = {0, (char)255, 13, 10, (char)128};
    char text[32];
    EXPECT("OK", "SET {c}k v");
    EXPECT("v", "GET {c}k");
    EXPECT("(nil)", "GET {c}nothing");
    EXPECT("(nil)", "SET {c}k w NX");
    EXPECT("OK", "SET {c}bytes %b", bytes, sizeof bytes);
    redisReply *reply = redisCommand(context, "GET {c}bytes");
    if (reply == NULL || reply->len != sizeof bytes || memcmp(reply->str, bytes, sizeof bytes) != 0)
        fail("bytes", "differ");
    freeReplyObject(reply);
    EXPECT("42", "INCRBY {c}n 42");
    EXPECT("43", "INCR {c}n");
    EXPECT("OK", "MSET {c}a 1 {c}b 2");
    EXPECT("array 3", "MGET {c}a {c}b {c}c");
    EXPECT("1", "GETDEL {c}a");
    EXPECT("1", "EXPIRE {c}b 100");
    EXPECT("100", "TTL {c}b");
    EXPECT("ERR unknown command", "LPUSH {c}list x");
    for (int i = 0; i < 200; i++) {
        (void)redisAppendCommand(context, "SET {c}p:%d %d", i, i);
        (void)redisAppendCommand(context, "GET {c}p:%d", i);
    }
    for (int i = 0; i < 200; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        expect_next("pipelined SET", "OK");
        expect_next("pipelined GET", text);
    }
    EXPECT("OK", "MULTI");
    EXPECT("QUEUED", "SET {c}t 1");
    EXPECT("QUEUED", "INCR {c}t");
    EXPECT("array 2", "EXEC");
    EXPECT("2", "GET {c}t");
    redisContext *other = redisConnect("127.0.0.1", port);
    EXPECT("OK", "WATCH {c}t");
    freeReplyObject(redisCommand(other, "SET {c}t changed"));
    EXPECT("OK", "MULTI");
    EXPECT("QUEUED", "SET {c}t lost");
    EXPECT("(nil)", "EXEC");
    EXPECT("changed", "GET {c}t");
    EXPECT("array 3", "SUBSCRIBE news");
    freeReplyObject(redisCommand(other, "PUBLISH news hello"));
    expect_next("message", "array 3");
    redisFree(other);
}

static long now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void load(double seconds)
{
    const long end = now_ms() + (long)(seconds * 1000);
    long longest = 0;
    int failed = 0;
    int last = -1;
    int i = 0;
    char error[160] = "";
    for (; now_ms() < end; i++) {
        const long begin = now_ms();
        redisReply *reply = redisCommand(context, "SET load:hiredis:standalone %d", i);
        if (reply != NULL && reply->type == REDIS_REPLY_STATUS) {
            last = i;
        } else {
            failed++;
            (void)snprintf(error, sizeof error, "%s", reply != NULL ? reply->str : context->errstr);
        }
        freeReplyObject(reply);
        if (now_ms() - begin > longest) longest = now_ms() - begin;
        if (i == 0) (void)puts("running");
        if (i == 0) (void)fflush(stdout);
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    (void)printf("{\"operations\": %d, \"failed\": %d, \"longest_ms\": %ld, ", i, failed, longest);
    (void)printf("\"last\": %d, \"errors\": [\"%s\"]}\n", last, error);
}

int main(int count, char **args)
{
    if (count < 5) return 2;
    const int port = (int)strtol(args[4], NULL, 10); /* the first */
    context = redisConnect("127.0.0.1", port);
    if (context == NULL) fail("connect", "no memory");
    if (context->err != 0) fail("connect", context->errstr);
    if (strcmp(args[2], "check") == 0) {
        check(port);
        (void)puts("ok");
    } else {
        load(strtod(args[5], NULL));
    }
    redisFree(context);
    return 0;
}
