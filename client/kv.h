/* kv.h - libkvclient, the client of a FlashKV cluster: this header is all a program includes. Here are the calls that
 * wait for their result; kv_pool.h has handles for many threads, kv_async.h a client for a program with an event loop.
 *
 *     struct kv_options options;
 *     struct kv *kv = NULL;
 *     struct kv_value value;
 *     kv_options_init(&options);
 *     options.nodes = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003";
 *     enum kv_err err = kv_connect(&options, &kv);
 *     if (err == KV_OK) err = kv_set(kv, kv_text("greeting"), kv_text("hello"), NULL, NULL);
 *     if (err == KV_OK) err = kv_get(kv, kv_text("greeting"), &value);
 *     if (err != KV_OK) fprintf(stderr, "%s: %s\n", kv_err_name(err), kv_message(kv));
 *     kv_close(kv);
 *
 * Nodes. Any one reachable node is enough: it names the others, and the library talks to the leader and follows it
 * when it moves. Losing a node costs a pause, not an error, as long as the deadline leaves time.
 *
 * Deadline. Every call ends after options.timeout_ms at the latest, by the monotonic clock. Only looking up a host
 * name can take longer: the system's resolver knows no deadline; numeric addresses need none.
 *
 * Never twice. The library repeats a call only when that is harmless: a read, or a write that certainly did not happen
 * (nothing was sent, or a node turned it down: no leader, moved, overloaded). A write that was sent and
 * got no answer is not repeated, it is KV_ERR_UNKNOWN: read before writing again.
 *
 * Exactly once. With options.once every write carries an id (KV.ONCE) under which the cluster remembers its answer:
 * then writes are repeated too, through any fault, up to the deadline, and still happen once.
 *
 * Ownership. Arguments are borrowed until the call returns. What a call gives (values, replies, texts) belongs to
 * the handle it came from and is valid until the next call with that handle, or with that pipeline or scan.
 * Every text or value given has a zero byte behind its last byte, which its size does not count.
 *
 * Threads. A handle, with its pipelines and scans, is for one thread at a time. Different handles are independent.
 *
 * Memory. The library never ends the process: without memory a call returns KV_ERR_NOMEM, and then it did not
 * happen. (When memory runs out while the big answer of a sent write arrives, that is KV_ERR_UNKNOWN.)
 *
 * Versions. The library's soname changes when a program has to be compiled again. Structs that a program fills in may
 * grow at their end without that: struct_size tells how much of one the program knows. */
#ifndef KV_CLIENT_KV_H
#define KV_CLIENT_KV_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define KV_API __attribute__((visibility("default")))
#else
#define KV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- results --------------------------------------------------------------------------------- */

enum kv_err {
    KV_OK = 0,
    KV_ERR_NOT_FOUND, /* There is no such key; the scan is at its end. */
    KV_ERR_CONDITION, /* The call's condition (if absent, if present, if revision) does not hold: nothing changed. */
    KV_ERR_INVALID, /* The arguments make no sense: nothing was sent. */
    KV_ERR_FAILED,  /* The server answered with an error, kv_message() has it: nothing changed. */
    KV_ERR_REFUSED, /* No node took it up to the deadline (no leader, overloaded, nobody listens): it did not happen. */
    KV_ERR_TIMEOUT, /* The deadline passed with nothing sent, or without the answer to a read: nothing changed. */
    KV_ERR_UNKNOWN, /* A write was sent and its outcome is not known: it may have happened, or still happen. */
    KV_ERR_NOMEM, /* No memory: it did not happen. */
    KV_ERR_CANCELLED, /* Asynchronous calls: cancelled before it was sent, or it was a read. It did not happen. */
    KV_ERR_COMPACTED, /* The revision that was asked for is not kept any more. */
};

/* A stable short name such as "not_found"; never NULL. */
KV_API const char *kv_err_name(enum kv_err err);
/* The version of the library, such as "0.1.0". */
KV_API const char *kv_version(void);

/* Bytes borrowed from the caller. */
struct kv_bytes {
    const void *data;
    size_t size; /* bytes */
};
static inline struct kv_bytes kv_bytes_of(const void *data, size_t size)
{
    struct kv_bytes bytes;
    bytes.data = data;
    bytes.size = size;
    return bytes;
}
static inline struct kv_bytes kv_text(const char *text)
{
    return kv_bytes_of(text, strlen(text));
}

/* ---- handle ---------------------------------------------------------------------------------- */

struct kv;

/* Replaces malloc, realloc and free. As realloc; frees and gives NULL for size 0; NULL when there is no memory. */
struct kv_allocator {
    void *(*resize)(void *context, void *pointer, size_t size);
    void *context;
};

struct kv_options {
    size_t struct_size; /* kv_options_init() fills it in */
    const char *nodes;  /* "host:port,host:port,…"; an IPv6 address in brackets; at most 64 */
    int64_t timeout_ms; /* of every call; default 5000 */
    int64_t connect_timeout_ms;    /* of one try to connect to one node; default 1000 */
    size_t reply_size_max;         /* bytes of all replies of one call; default 512 MiB */
    struct kv_allocator allocator; /* resize NULL: that of the C library */
    int once; /* not 0: every write happens exactly once, see above; default 0 */
};

/* What kv_options_init() calls; for programs in other languages. */
KV_API void kv_options_init_sized(struct kv_options *options, size_t struct_size);
/* The defaults; nodes is "127.0.0.1:6379". */
static inline void kv_options_init(struct kv_options *options)
{
    kv_options_init_sized(options, sizeof *options);
}

/* Connects to one of the nodes and looks for the leader.
 *   KV_ERR_INVALID  options.nodes is malformed, or the options were not initialised.
 *   KV_ERR_REFUSED  on every node nobody listens; this is known at once, without waiting for the deadline.
 *   KV_ERR_TIMEOUT  no node answered.
 *   KV_ERR_FAILED   a node answered, but does not want us.
 *   KV_ERR_NOMEM
 * Gives *@kv in every case but KV_ERR_NOMEM (then it is NULL), so that kv_message() can be asked; after REFUSED and
 * TIMEOUT it may be used all the same, each call tries to connect again. End it with kv_close(). */
KV_API enum kv_err kv_connect(const struct kv_options *options, struct kv **kv);
KV_API void kv_close(struct kv *kv); /* NULL is allowed; pipelines and scans must be ended before */

/* What went wrong in the last call that did not return KV_OK: one line for people. A server's error begins with its
 * code, such as "NOSPACE". Never NULL. */
KV_API const char *kv_message(const struct kv *kv);
/* The address of the node that the handle talks to, "host:port"; empty when there is none at the moment. */
KV_API const char *kv_address(const struct kv *kv);
/* From now on every call goes to the node at @address and to no other, whoever leads: for commands that are about this
 * one node. KV_ERR_INVALID: malformed, or longer than an address can be. */
KV_API enum kv_err kv_stay(struct kv *kv, const char *address);
/* The deadline of the calls that follow, in milliseconds from their start; below 1 is taken as 1. */
KV_API void kv_set_timeout(struct kv *kv, int64_t timeout_ms);

/* ---- keys and values ------------------------------------------------------------------------- */

struct kv_value {
    const char *data;  /* NULL: no value */
    size_t size;       /* bytes */
    uint64_t revision; /* of the last change of the key: a number that only grows */
    int64_t ttl_ms;    /* milliseconds until it expires; -1: never */
};

/* The newest committed value. KV_ERR_NOT_FOUND when the key does not exist. */
KV_API enum kv_err kv_get(struct kv *kv, struct kv_bytes key, struct kv_value *value);

enum kv_set_flags {
    KV_SET_IF_ABSENT = 1,   /* only when the key does not exist */
    KV_SET_IF_PRESENT = 2,  /* only when it exists */
    KV_SET_IF_REVISION = 4, /* only when its revision is if_revision; 0: it does not exist */
    KV_SET_KEEP_TTL =
        8, /* the expiry stays what it is; without this and without ttl_ms it never expires */
};

struct kv_set_options {
    size_t struct_size; /* of this struct; 0: up to if_revision */
    unsigned flags;     /* of enum kv_set_flags; at most one KV_SET_IF_* */
    int64_t
        ttl_ms; /* milliseconds until the key expires; 0: never; not together with KV_SET_KEEP_TTL */
    uint64_t if_revision;
};

/* Sets @key. @options NULL: no condition, never expires. With @previous not NULL it also gives the value before,
 * data NULL when there was none (not together with KV_SET_IF_REVISION; only data and size are filled).
 * KV_ERR_CONDITION when the condition does not hold; @previous is filled then, too. */
KV_API enum kv_err kv_set(struct kv *kv, struct kv_bytes key, struct kv_bytes value,
                          const struct kv_set_options *options, struct kv_value *previous);

/* Deletes @count keys in one step. *@deleted (may be NULL): how many existed. */
KV_API enum kv_err kv_del(struct kv *kv, const struct kv_bytes *keys, size_t count,
                          uint64_t *deleted);

/* Adds @by to the decimal number that the key holds (0 when it does not exist). *@value (may be NULL): the sum.
 * KV_ERR_FAILED when it holds something else, or the sum does not fit. */
KV_API enum kv_err kv_incr(struct kv *kv, struct kv_bytes key, int64_t by, int64_t *value);

/* Milliseconds until @key expires; -1: never. */
KV_API enum kv_err kv_ttl(struct kv *kv, struct kv_bytes key, int64_t *ttl_ms);

/* ---- ordered scan ---------------------------------------------------------------------------- */

struct kv_scan;

struct kv_scan_options {
    size_t struct_size;     /* of this struct; 0: up to keys_only */
    struct kv_bytes prefix; /* only keys that begin with it; empty: all */
    struct kv_bytes from;   /* first key, included; empty: from the start */
    struct kv_bytes to;     /* end, not included; empty: to the end */
    uint64_t limit;         /* at most so many keys; 0: all */
    int reverse;            /* not 0: from the greatest key down */
    int keys_only;          /* not 0: without values */
    uint64_t revision;      /* what the keys were then; 0: now */
};

struct kv_entry {
    const char *key;
    size_t key_size;
    struct kv_value
        value; /* data NULL with keys_only, and ttl_ms always -1: a scan does not ask for it */
};

/* Begins a scan in the byte order of keys; @options NULL: everything. Keys come in pages, all of one moment: that of
 * the first page, or of options.revision. Other calls with @kv may come between. A scan that takes so long that the
 * cluster does not keep that moment any more (option retention) ends with KV_ERR_COMPACTED. */
KV_API enum kv_err kv_scan_open(struct kv *kv, const struct kv_scan_options *options,
                                struct kv_scan **scan);
/* The next key; KV_ERR_NOT_FOUND at the end. After another error it may be called again and goes on where it was. */
KV_API enum kv_err kv_scan_next(struct kv_scan *scan, struct kv_entry *entry);
KV_API void kv_scan_close(struct kv_scan *scan); /* NULL is allowed */

/* ---- any command ----------------------------------------------------------------------------- */

enum kv_type {
    KV_NIL,
    KV_STRING, /* data, size: also simple strings, verbatim texts and big numbers */
    KV_ERROR,  /* data, size: the server's words */
    KV_INTEGER,
    KV_DOUBLE,
    KV_BOOL,  /* integer is 0 or 1 */
    KV_ARRAY, /* items */
    KV_MAP,   /* items: key, value, key, value, …; count counts both */
    KV_SET,   /* items */
};

struct kv_reply {
    enum kv_type type;
    int64_t integer;
    double number;
    const char *data;
    size_t size;                  /* bytes of data */
    const struct kv_reply *items; /* the elements lie one behind the other */
    size_t count;                 /* of items */
};

enum kv_command_flags {
    KV_WRITE = 0,    /* never repeated once it was sent */
    KV_READ = 1,     /* changes nothing: may be repeated */
    KV_NOT_ONCE = 2, /* with options.once: without an id, for what KV.ONCE does not take */
};

/* Runs one command, such as {"STRLEN", "k"}. *@reply (may be NULL): the reply, also a KV_ERROR, when there is one.
 * KV_ERR_INVALID for commands that change the state of the connection (HELLO, RESET, QUIT, MULTI, EXEC, DISCARD,
 * WATCH, UNWATCH, SUBSCRIBE and its like, MONITOR, CLIENT REPLY): connections are the library's own. */
KV_API enum kv_err kv_command(struct kv *kv, unsigned flags, const struct kv_bytes *args,
                              size_t count, const struct kv_reply **reply);

/* Several commands in one go: sent together, taken in order, answered in order. Not a transaction. */
struct kv_pipeline;

KV_API enum kv_err kv_pipeline_create(struct kv *kv, struct kv_pipeline **pipeline);
KV_API void kv_pipeline_destroy(struct kv_pipeline *pipeline); /* NULL is allowed */
/* Appends a command. After kv_pipeline_execute() the first one begins a new list. */
KV_API enum kv_err kv_pipeline_add(struct kv_pipeline *pipeline, unsigned flags,
                                   const struct kv_bytes *args, size_t count);
/* Runs the list. KV_OK when every command got its reply and none was an error; else the result of the first command
 * that failed, and kv_message() is about that one. Commands that were turned down are repeated only when no
 * command behind them took effect, so that their order stays; none is repeated behind one that is UNKNOWN. */
KV_API enum kv_err kv_pipeline_execute(struct kv_pipeline *pipeline);
KV_API size_t kv_pipeline_count(const struct kv_pipeline *pipeline);
/* The result of command @at (from 0) of the list that was run, as kv_command() gives it. */
KV_API enum kv_err kv_pipeline_result(struct kv_pipeline *pipeline, size_t at,
                                      const struct kv_reply **reply);

/* ---- transaction ----------------------------------------------------------------------------- */

enum kv_condition_kind {
    KV_IF_VALUE,    /* the key's value compared with value */
    KV_IF_REVISION, /* its revision compared with revision; 0: there is no such key */
    KV_IF_EXISTS,
    KV_IF_ABSENT,
};

enum kv_comparison { KV_EQUAL, KV_NOT_EQUAL, KV_LESS, KV_GREATER };

struct kv_condition {
    enum kv_condition_kind kind;
    enum kv_comparison comparison;
    struct kv_bytes key;
    struct kv_bytes value;
    uint64_t revision;
};

/* The words of one command, such as {"SET", "k", "v"}. */
struct kv_words {
    unsigned flags; /* of enum kv_command_flags; in a transaction without meaning */
    const struct kv_bytes *args;
    size_t count;
};

struct kv_txn {
    size_t struct_size; /* of this struct; 0: up to otherwise_count */
    const struct kv_condition *conditions;
    size_t condition_count;
    const struct kv_words *then; /* run when all conditions hold */
    size_t then_count;
    const struct kv_words *otherwise; /* else */
    size_t otherwise_count;
};

/* All of it happens at one moment, or nothing does. *@held (may be NULL): whether the conditions held, 1 or 0.
 * *@replies (may be NULL): a KV_ARRAY of the replies of the commands that were run; one may be a KV_ERROR. */
KV_API enum kv_err kv_txn(struct kv *kv, const struct kv_txn *txn, int *held,
                          const struct kv_reply **replies);

/* ---- cluster --------------------------------------------------------------------------------- */

struct kv_node {
    const char *name;
    const char *id;     /* 16 hexadecimal digits */
    const char *peer;   /* address for other nodes */
    const char *client; /* address for clients */
    const char *
        role; /* of a member: "voter" or "learner"; of a status: "leader", "follower", "learner", "down" */
    /* Of a status only; zero or empty for a node that is down. */
    uint64_t term;
    uint64_t committed; /* log index up to which the cluster has agreed, as this node knows it */
    uint64_t applied;   /* log index up to which this node's state is */
    uint64_t
        lag; /* entries that the leader had committed and this node had not applied 150 ms later */
    uint64_t keys;       /* count */
    uint64_t disk_bytes; /* bytes of the data directory */
    const char *version;
    const char *health; /* "ok", or what is wrong */
};

struct kv_cluster {
    const char *cluster; /* its token */
    const char *leader;  /* name; empty when there is none */
    const struct kv_node *nodes;
    size_t node_count;
};

/* Asks every node for its status; those that do not answer are "down". */
KV_API enum kv_err kv_status(struct kv *kv, struct kv_cluster *cluster);
/* The members as the node knows them that the handle talks to. */
KV_API enum kv_err kv_members(struct kv *kv, struct kv_cluster *cluster);
/* Name and client address of the leader; KV_ERR_NOT_FOUND when there is none. */
KV_API enum kv_err kv_leader(struct kv *kv, const char **name, const char **client);
/* Hands the leadership over to the member @name. */
KV_API enum kv_err kv_leader_transfer(struct kv *kv, const char *name);

#ifdef __cplusplus
}
#endif

#include "client/kv_async.h"
#include "client/kv_pool.h"

#endif
