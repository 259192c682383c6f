/* kvctl's commands about keys. */
#include "client/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/limits.h"

static bool given(const struct ctl_args *args, enum ctl_option option)
{
    return args->options[option].data != NULL;
}

/* An object on a line of its own that says no more than that it is done. */
static void put_done(const struct ctl *ctl)
{
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_true("ok");
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        (void)puts("OK");
    }
}

/* The option --rev. False: it is no revision. */
static bool revision_of(const struct ctl_args *args, uint64_t *revision)
{
    int64_t number = 0;
    if (!given(args, CTL_REV)) return true;
    if (!ctl_number(args->options[CTL_REV], 1, INT64_MAX, &number)) return false;
    *revision = (uint64_t)number;
    return true;
}

/* What @key was at a revision. */
static enum kv_err get_at(struct ctl *ctl, struct kv_bytes key, struct kv_bytes revision,
                          struct kv_value *value)
{
    const struct kv_bytes words[] = {kv_text("KV.GET"), key, kv_text("AT"), revision};
    const struct kv_reply *reply = NULL;
    const enum kv_err err = kv_command(ctl->kv, KV_READ, words, 4, &reply);
    if (err != KV_OK) return err;
    if (reply->type != KV_ARRAY || reply->count < 3) return KV_ERR_NOT_FOUND;
    *value = (struct kv_value){.data = reply->items[0].data,
                               .size = reply->items[0].size,
                               .revision = (uint64_t)reply->items[1].integer,
                               .ttl_ms = reply->items[2].integer};
    return KV_OK;
}

enum ctl_exit ctl_get(struct ctl *ctl, const struct ctl_args *args)
{
    struct kv_value value;
    uint64_t revision = 0;
    if (!revision_of(args, &revision)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--rev takes a revision, 1 or more");
    }
    const enum kv_err err = revision != 0
                                ? get_at(ctl, args->words[0], args->options[CTL_REV], &value)
                                : kv_get(ctl->kv, args->words[0], &value);
    if (err == KV_ERR_NOT_FOUND && revision != 0) {
        return ctl_complain(ctl, CTL_REFUSED, "not_found",
                            "the key did not exist at that revision");
    }
    if (err != KV_OK) return ctl_failed(ctl, err);
    const struct kv_bytes bytes = kv_bytes_of(value.data, value.size);
    if (given(args, CTL_RAW)) {
        (void)fwrite(value.data, 1, value.size, stdout);
    } else if (ctl->json) {
        ctl_json_begin();
        ctl_json_bytes("key", args->words[0]);
        ctl_json_bytes("value", bytes);
        ctl_json_uint("revision", value.revision);
        ctl_json_int("ttl_ms", value.ttl_ms);
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        ctl_put_text(bytes, false);
        (void)fputc('\n', stdout);
    }
    return CTL_DONE;
}

/* All of @file, for the caller to free. NULL: no memory, or more than any value may have. */
static char *read_all(FILE *file, size_t *size)
{
    size_t capacity = 64u * KIB;
    char *bytes = malloc(capacity);
    *size = 0;
    while (bytes != NULL && *size <= VALUE_SIZE_MAX) {
        const size_t got = fread(bytes + *size, 1, capacity - *size, file);
        if (got == 0) return bytes;
        *size += got;
        if (*size < capacity) continue;
        char *grown = realloc(bytes, capacity * 2);
        if (grown == NULL) break;
        bytes = grown;
        capacity *= 2;
    }
    free(bytes);
    return NULL;
}

static enum ctl_exit set_from_file(struct ctl *ctl, const struct ctl_args *args,
                                   const struct kv_set_options *options)
{
    size_t size = 0;
    const char *name = args->options[CTL_FILE].data;
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "rbe");
    if (file == NULL) {
        return ctl_complain(ctl, CTL_USAGE, "file", "%s: %s", name, strerror(errno));
    }
    errno = 0;
    char *bytes = read_all(file, &size);
    const bool is_bad = ferror(file) != 0;
    const int error = errno;
    if (file != stdin) (void)fclose(file);
    if (bytes == NULL || is_bad) {
        free(bytes);
        return ctl_complain(ctl, CTL_USAGE, "file", "%s: %s", name,
                            is_bad ? strerror(error) : "longer than a value may be, 64 MiB");
    }
    const enum kv_err err = kv_set(ctl->kv, args->words[0], kv_bytes_of(bytes, size), options,
                                   NULL);
    free(bytes);
    if (err != KV_OK) return ctl_failed(ctl, err);
    put_done(ctl);
    return CTL_DONE;
}

enum ctl_exit ctl_set(struct ctl *ctl, const struct ctl_args *args)
{
    struct kv_set_options options = {0};
    int64_t number = 0;
    if ((args->count == 2) == given(args, CTL_FILE)) {
        return ctl_complain(ctl, CTL_USAGE, "usage",
                            "set takes a key and a value, or a key and --file");
    }
    if (given(args, CTL_TTL) &&
        !ctl_number(args->options[CTL_TTL], 1, INT64_MAX, &options.ttl_ms)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--ttl takes milliseconds, 1 or more");
    }
    if (given(args, CTL_IF_ABSENT)) options.flags |= KV_SET_IF_ABSENT;
    if (given(args, CTL_IF_REVISION)) {
        options.flags |= KV_SET_IF_REVISION;
        if (!ctl_number(args->options[CTL_IF_REVISION], 0, INT64_MAX, &number)) {
            return ctl_complain(ctl, CTL_USAGE, "usage",
                                "--if-revision takes the revision that get shows; 0: the key "
                                "does not exist");
        }
        options.if_revision = (uint64_t)number;
    }
    if (given(args, CTL_IF_ABSENT) && given(args, CTL_IF_REVISION)) {
        return ctl_complain(ctl, CTL_USAGE, "usage",
                            "--if-absent and --if-revision exclude each other");
    }
    if (given(args, CTL_FILE)) return set_from_file(ctl, args, &options);
    const enum kv_err err = kv_set(ctl->kv, args->words[0], args->words[1], &options, NULL);
    if (err != KV_OK) return ctl_failed(ctl, err);
    put_done(ctl);
    return CTL_DONE;
}

enum ctl_exit ctl_del(struct ctl *ctl, const struct ctl_args *args)
{
    uint64_t deleted = 0;
    const enum kv_err err = kv_del(ctl->kv, args->words, args->count, &deleted);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_uint("deleted", deleted);
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        (void)printf("%" PRIu64 " deleted\n", deleted);
    }
    return deleted > 0 ? CTL_DONE : CTL_REFUSED;
}

enum ctl_exit ctl_incr(struct ctl *ctl, const struct ctl_args *args)
{
    int64_t by = 1;
    int64_t value = 0;
    if (args->count > 1 && !ctl_number(args->words[1], INT64_MIN, INT64_MAX, &by)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "incr takes a whole number of 64 bits");
    }
    const enum kv_err err = kv_incr(ctl->kv, args->words[0], by, &value);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_bytes("key", args->words[0]);
        ctl_json_int("value", value);
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        (void)printf("%" PRId64 "\n", value);
    }
    return CTL_DONE;
}

enum ctl_exit ctl_ttl(struct ctl *ctl, const struct ctl_args *args)
{
    int64_t ttl_ms = 0;
    const enum kv_err err = kv_ttl(ctl->kv, args->words[0], &ttl_ms);
    if (err != KV_OK) return ctl_failed(ctl, err);
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_bytes("key", args->words[0]);
        ctl_json_int("ttl_ms", ttl_ms);
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else if (ttl_ms < 0) {
        (void)puts("never expires");
    } else {
        (void)printf("%" PRId64 " ms\n", ttl_ms);
    }
    return CTL_DONE;
}

static void put_entry(const struct ctl *ctl, const struct kv_entry *entry)
{
    const struct kv_bytes key = kv_bytes_of(entry->key, entry->key_size);
    const struct kv_bytes value = kv_bytes_of(entry->value.data, entry->value.size);
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_bytes("key", key);
        if (value.data != NULL) {
            ctl_json_bytes("value", value);
            ctl_json_uint("revision", entry->value.revision);
        }
        ctl_json_end();
    } else {
        ctl_put_text(key, true);
        if (value.data != NULL) {
            (void)fputc('\t', stdout);
            ctl_put_text(value, true);
        }
    }
    (void)fputc('\n', stdout);
}

enum ctl_exit ctl_scan(struct ctl *ctl, const struct ctl_args *args)
{
    struct kv_scan_options options = {.struct_size = sizeof options,
                                      .prefix = args->options[CTL_PREFIX],
                                      .from = args->options[CTL_FROM],
                                      .to = args->options[CTL_TO],
                                      .reverse = given(args, CTL_REVERSE),
                                      .keys_only = given(args, CTL_KEYS)};
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    int64_t limit = 0;
    if (given(args, CTL_LIMIT) && !ctl_number(args->options[CTL_LIMIT], 1, INT64_MAX, &limit)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--limit takes a number, 1 or more");
    }
    options.limit = (uint64_t)limit;
    if (!revision_of(args, &options.revision)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--rev takes a revision, 1 or more");
    }
    enum kv_err err = kv_scan_open(ctl->kv, &options, &scan);
    while (err == KV_OK) {
        err = kv_scan_next(scan, &entry);
        if (err == KV_OK) put_entry(ctl, &entry);
        if (ferror(stdout)) break; /* Nobody reads any more. */
    }
    kv_scan_close(scan);
    /* A scan that finds nothing is done: there was nothing to be found. */
    return err == KV_OK || err == KV_ERR_NOT_FOUND ? CTL_DONE : ctl_failed(ctl, err);
}

/* Revision, what it was, value or nil, expiry. */
static bool put_change(const struct ctl *ctl, const struct kv_reply *row)
{
    if (row->type != KV_ARRAY || row->count < 4 || row->items[1].type != KV_STRING) return false;
    const struct kv_reply *value = &row->items[2];
    const int64_t expiry_ms = row->items[3].integer;
    const bool has_value = value->type == KV_STRING;
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_uint("revision", (uint64_t)row->items[0].integer);
        ctl_json_text("kind", row->items[1].data);
        if (has_value) ctl_json_bytes("value", kv_bytes_of(value->data, value->size));
        if (expiry_ms >= 0) ctl_json_int("expires_at_ms", expiry_ms);
        ctl_json_end();
    } else {
        (void)printf("%" PRId64 "\t%s", row->items[0].integer, row->items[1].data);
        if (has_value) (void)fputc('\t', stdout);
        if (has_value) ctl_put_text(kv_bytes_of(value->data, value->size), true);
        if (expiry_ms >= 0) (void)printf("\texpires at %" PRId64 " ms", expiry_ms);
    }
    (void)fputc('\n', stdout);
    return true;
}

enum ctl_exit ctl_history(struct ctl *ctl, const struct ctl_args *args)
{
    const struct kv_bytes words[] = {kv_text("KV.HISTORY"), args->words[0], kv_text("COUNT"),
                                     args->options[CTL_COUNT]};
    const struct kv_reply *reply = NULL;
    int64_t count = 0;
    if (given(args, CTL_COUNT) && !ctl_number(args->options[CTL_COUNT], 1, INT64_MAX, &count)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--count takes a number, 1 or more");
    }
    const enum kv_err err = kv_command(ctl->kv, KV_READ, words, count > 0 ? 4 : 2, &reply);
    if (err != KV_OK) return ctl_failed(ctl, err);
    for (size_t i = 0; i < reply->count; i++) {
        if (!put_change(ctl, &reply->items[i])) {
            return ctl_complain(ctl, CTL_REFUSED, "failed", "the answer is not a history");
        }
    }
    if (reply->count > 0) return CTL_DONE;
    return ctl_complain(ctl, CTL_REFUSED, "not_found", "nothing is known of this key");
}
