/* Many operations at once on an event loop: writes a few hundred keys, then reads them back page by page.
 *
 *     cc loop.c $(pkg-config --cflags --libs kvclient libuv) -o loop
 *     ./loop 127.0.0.1:7001 */
#include <stdio.h>
#include <string.h>

#include <uv.h>

#include "client/kv.h"

#define KEYS 300

struct program {
    struct kv_async *async;
    struct kv_async_scan *scan;
    size_t written;
    size_t found;
    int failed;
};

/* Everything that was started ends here or there: this is the last that happens. */
static void finish(struct program *program, const struct kv_result *result)
{
    if (result != NULL) {
        fprintf(stderr, "%s: %s\n", kv_err_name(result->err), result->message);
        program->failed = 1;
    }
    kv_async_close(program->async, NULL, NULL);
}

static void page_came(void *context, const struct kv_result *result)
{
    struct program *program = context;
    const struct kv_callback then = {.done = page_came, .context = program};
    if (result->err == KV_ERR_NOT_FOUND) { /* the end of the scan */
        printf("%zu keys written, %zu found\n", program->written, program->found);
        program->failed = program->found != KEYS;
        finish(program, NULL);
        return;
    }
    if (result->err != KV_OK) {
        if (result->err != KV_ERR_CANCELLED) finish(program, result);
        return;
    }
    program->found += result->count;
    if (kv_async_scan_next(program->scan, &then) != KV_OK) finish(program, result);
}

static void read_all(struct program *program)
{
    const struct kv_scan_options options = {.prefix = kv_text("loop/"), .keys_only = 1};
    const struct kv_callback then = {
        .done = page_came, .context = program, .timeout_ms = 2000}; /* of each page */
    if (kv_async_scan_open(program->async, &options, &program->scan) != KV_OK ||
        kv_async_scan_next(program->scan, &then) != KV_OK) {
        fprintf(stderr, "no memory\n");
        program->failed = 1;
        finish(program, NULL);
    }
}

static void was_written(void *context, const struct kv_result *result)
{
    struct program *program = context;
    if (result->err == KV_OK) {
        if (++program->written == KEYS) read_all(program);
    } else if (result->err != KV_ERR_CANCELLED && !program->failed) {
        finish(program, result);
    }
}

int main(int argc, char **argv)
{
    struct program program = {.written = 0};
    const struct kv_callback then = {.done = was_written, .context = &program};
    struct kv_options options;
    kv_options_init(&options);
    if (argc > 1) options.nodes = argv[1];
    enum kv_err err = kv_async_create(&options, uv_default_loop(), &program.async);
    /* All of them are under way together, in few packets. */
    for (int i = 0; err == KV_OK && i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "loop/%03d", i);
        err = kv_async_set(program.async, kv_text(key), kv_text("value"), NULL, 0, &then);
    }
    if (err != KV_OK) {
        fprintf(stderr, "%s\n", kv_err_name(err));
        return 1;
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    uv_loop_close(uv_default_loop());
    return program.failed;
}
