/* kv_tools.h - what the tests of the client library share. */
#ifndef KV_TESTS_CLIENT_KV_TOOLS_H
#define KV_TESTS_CLIENT_KV_TOOLS_H

#include <time.h>

#include "client/kv.h"
#include "tests/client/fake_server.h"
#include "tests/test.h"

/* The reply to KV.GET: value "v", revision 7, no expiry. */
#define FOUND "*3\r\n$1\r\nv\r\n:7\r\n:-1\r\n"

/* A reply to KV.STATUS; all arguments are texts. */
#define STATUS(role, term, committed, applied)                                                     \
    "%9\r\n+name\r\n+x\r\n+role\r\n+" role "\r\n+term\r\n:" term "\r\n+committed\r\n:" committed   \
    "\r\n+applied\r\n:" applied                                                                    \
    "\r\n+keys\r\n:12\r\n+version\r\n+0.1.0\r\n+health\r\n+ok\r\n+cluster\r\n+token\r\n"

static inline int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline struct kv *connect_to(const char *nodes, int64_t timeout_ms)
{
    struct kv_options options;
    struct kv *kv = NULL;
    kv_options_init(&options);
    options.nodes = nodes;
    options.timeout_ms = timeout_ms;
    options.connect_timeout_ms = 300;
    EXPECT_EQ(kv_connect(&options, &kv), KV_OK);
    return kv;
}

static inline void expect_log(struct fake *fake, const char *want)
{
    static char log[1 << 20];
    fake_log(fake, log, sizeof log);
    EXPECT_TEXT(log, want);
}

static inline enum kv_err set(struct kv *kv, const char *key, const char *value)
{
    return kv_set(kv, kv_text(key), kv_text(value), NULL, NULL);
}

static inline enum kv_err get(struct kv *kv, const char *key, struct kv_value *value)
{
    return kv_get(kv, kv_text(key), value);
}

static inline void add(struct kv_pipeline *pipeline, unsigned flags, const char *name,
                       const char *key)
{
    const struct kv_bytes args[] = {kv_text(name), kv_text(key)};
    EXPECT_EQ(kv_pipeline_add(pipeline, flags, args, 2), KV_OK);
}

#endif
