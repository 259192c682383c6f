/* Counts up, and shows what to do when the outcome of a write is not known.
 *
 *     cc counter.c $(pkg-config --cflags --libs kvclient) -o counter
 *     ./counter 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 visits */
#include <inttypes.h>
#include <stdio.h>

#include "client/kv.h"

static int complain(const struct kv *kv, enum kv_err err)
{
    fprintf(stderr, "%s: %s\n", kv_err_name(err), kv_message(kv));
    return 1;
}

int main(int argc, char **argv)
{
    struct kv_options options;
    struct kv *kv = NULL;
    int64_t count = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: counter NODES KEY\n");
        return 2;
    }
    kv_options_init(&options);
    options.nodes = argv[1];
    options.timeout_ms = 3000;
    enum kv_err err = kv_connect(&options, &kv);
    if (err == KV_OK) err = kv_incr(kv, kv_text(argv[2]), 1, &count);
    switch (err) {
    case KV_OK: printf("%s is %" PRId64 "\n", argv[2], count); break;
    case KV_ERR_UNKNOWN:
        /* The library did not try again: that could count twice. Whether it counted, only reading can tell, and only
         * when nobody else counts at the same time. */
        fprintf(stderr, "it may have been counted: %s\n", kv_message(kv));
        break;
    default: (void)complain(kv, err);
    }
    kv_close(kv);
    return err == KV_OK ? 0 : 1;
}
