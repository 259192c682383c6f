/* Moves money between two accounts, all or nothing: read both, and write both only if neither changed meanwhile.
 *
 *     cc transfer.c $(pkg-config --cflags --libs kvclient) -o transfer
 *     ./transfer 127.0.0.1:7001 alice bob */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/kv.h"

struct account {
    int64_t balance;
    uint64_t revision; /* 0: there is no such account yet */
};

static enum kv_err read_account(struct kv *kv, const char *name, struct account *account)
{
    struct kv_value value;
    const enum kv_err err = kv_get(kv, kv_text(name), &value);
    *account = (struct account){.balance = 100}; /* what a new one begins with */
    if (err == KV_ERR_NOT_FOUND) return KV_OK;
    if (err != KV_OK) return err;
    account->balance = strtoll(value.data, NULL, 10);
    account->revision = value.revision;
    return KV_OK;
}

/* *@done: the accounts were as they had been read. */
static enum kv_err move(struct kv *kv, const char *from, const char *to, int64_t amount, int *done)
{
    struct account a;
    struct account b;
    char balances[2][24];
    enum kv_err err = read_account(kv, from, &a);
    if (err == KV_OK) err = read_account(kv, to, &b);
    if (err != KV_OK) return err;
    snprintf(balances[0], sizeof balances[0], "%" PRId64, a.balance - amount);
    snprintf(balances[1], sizeof balances[1], "%" PRId64, b.balance + amount);
    const struct kv_condition unchanged[] = {
        {.kind = KV_IF_REVISION, .key = kv_text(from), .revision = a.revision},
        {.kind = KV_IF_REVISION, .key = kv_text(to), .revision = b.revision},
    };
    const struct kv_bytes set_a[] = {kv_text("SET"), kv_text(from), kv_text(balances[0])};
    const struct kv_bytes set_b[] = {kv_text("SET"), kv_text(to), kv_text(balances[1])};
    const struct kv_words both[] = {{.args = set_a, .count = 3}, {.args = set_b, .count = 3}};
    const struct kv_txn txn = {
        .conditions = unchanged, .condition_count = 2, .then = both, .then_count = 2};
    return kv_txn(kv, &txn, done, NULL);
}

int main(int argc, char **argv)
{
    struct kv_options options;
    struct kv *kv = NULL;
    struct account a = {0};
    struct account b = {0};
    int done = 0;
    if (argc != 4) {
        fprintf(stderr, "usage: transfer NODES FROM TO\n");
        return 2;
    }
    kv_options_init(&options);
    options.nodes = argv[1];
    enum kv_err err = kv_connect(&options, &kv);
    for (int try = 0; err == KV_OK && !done && try < 100; try++) {
        err = move(kv, argv[2], argv[3], 10, &done);
    }
    if (err == KV_OK) err = read_account(kv, argv[2], &a);
    if (err == KV_OK) err = read_account(kv, argv[3], &b);
    if (err == KV_OK) {
        printf("%s has %" PRId64 ", %s has %" PRId64 "\n", argv[2], a.balance, argv[3], b.balance);
    } else {
        fprintf(stderr, "%s: %s\n", kv_err_name(err), kv_message(kv));
    }
    kv_close(kv);
    return err == KV_OK && done && a.balance + b.balance == 200 ? 0 : 1;
}
