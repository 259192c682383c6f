/* A small configuration store: writes a few settings in one go, changes one only if nobody else did, lists them.
 *
 *     cc config.c $(pkg-config --cflags --libs kvclient) -o config
 *     ./config 127.0.0.1:7001 */
#include <inttypes.h>
#include <stdio.h>

#include "client/kv.h"

/* All settings in one round trip. */
static enum kv_err write_all(struct kv *kv)
{
    static const char *const settings[][2] = {
        {"config/color", "blue"}, {"config/limit", "100"}, {"config/owner", "me"}};
    struct kv_pipeline *pipeline = NULL;
    enum kv_err err = kv_pipeline_create(kv, &pipeline);
    for (size_t i = 0; err == KV_OK && i < sizeof settings / sizeof settings[0]; i++) {
        const struct kv_bytes args[] = {kv_text("SET"), kv_text(settings[i][0]),
                                        kv_text(settings[i][1])};
        err = kv_pipeline_add(pipeline, KV_WRITE, args, 3);
    }
    if (err == KV_OK) err = kv_pipeline_execute(pipeline);
    kv_pipeline_destroy(pipeline);
    return err;
}

/* Read, decide, write: the revision says whether somebody came in between. */
static enum kv_err change_color(struct kv *kv, const char *color)
{
    const struct kv_bytes key = kv_text("config/color");
    struct kv_set_options options = {.flags = KV_SET_IF_REVISION};
    enum kv_err err = KV_ERR_CONDITION;
    for (int try = 0; try < 10 && err == KV_ERR_CONDITION; try++) {
        struct kv_value value;
        err = kv_get(kv, key, &value);
        if (err != KV_OK) return err;
        options.if_revision = value.revision;
        err = kv_set(kv, key, kv_text(color), &options, NULL);
    }
    return err;
}

static enum kv_err list(struct kv *kv)
{
    const struct kv_scan_options options = {.prefix = kv_text("config/")};
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    enum kv_err err = kv_scan_open(kv, &options, &scan);
    while (err == KV_OK) {
        err = kv_scan_next(scan, &entry);
        if (err == KV_OK)
            printf("%s = %s (revision %" PRIu64 ")\n", entry.key, entry.value.data,
                   entry.value.revision);
    }
    kv_scan_close(scan);
    return err == KV_ERR_NOT_FOUND ? KV_OK : err; /* the end */
}

int main(int argc, char **argv)
{
    struct kv_options options;
    struct kv *kv = NULL;
    kv_options_init(&options);
    if (argc > 1) options.nodes = argv[1];
    enum kv_err err = kv_connect(&options, &kv);
    if (err == KV_OK) err = write_all(kv);
    if (err == KV_OK) err = change_color(kv, "green");
    if (err == KV_OK) err = list(kv);
    if (err != KV_OK) fprintf(stderr, "%s: %s\n", kv_err_name(err), kv_message(kv));
    kv_close(kv);
    return err == KV_OK ? 0 : 1;
}
