/* kv_internal.h - what the sources of libkvclient share. Not installed, not exported.
 *
 * A call is a batch of commands. kv_batch knows bytes and one connection; kv_judge knows what an answer or its absence
 * means and what may be repeated; kv_nodes knows where to ask. Both clients stand on these: kv_execute() waits, the
 * asynchronous one (kv_engine.h) does not. The public calls build commands and read replies. Nothing here aborts. */
#ifndef KV_CLIENT_KV_INTERNAL_H
#define KV_CLIENT_KV_INTERNAL_H

#include "client/kv_batch.h"

#define KV_NODES_MAX 64u

/* ---- kv_nodes.c: where to ask ---------------------------------------------------------------- */

struct kv_nodes {
    char list[KV_NODES_MAX]
             [KV_ADDRESS_SIZE]; /* given ones first, then those that the cluster named */
    uint32_t count;
    uint32_t next; /* where the next try to connect begins, modulo count */
};
/* KV_OK or KV_ERR_INVALID with @message (KV_MESSAGE_SIZE) filled. */
enum kv_err kv_nodes_parse(struct kv_nodes *nodes, const char *list, char *message);
void kv_nodes_add(struct kv_nodes *nodes, const char *address, size_t size);
/* The node at @address is asked next; it is added when it is new. */
void kv_nodes_prefer(struct kv_nodes *nodes, const char *address, size_t size);
/* Takes the addresses out of the reply to KV.MEMBERS. */
void kv_nodes_members(struct kv_nodes *nodes, const struct kv_reply *reply);
/* The address in the reply to KV.LEADER, empty when nobody leads; false: the node does not know the question. */
bool kv_leader_address(const struct kv_reply *reply, char *address);
/* What is said on a new connection, then (with @questions) KV.LEADER and KV.MEMBERS; false: no memory. */
#define KV_GREETING_COUNT 3u
bool kv_greeting_add(struct kv_batch *batch);
bool kv_questions_add(struct kv_batch *batch);

/* ---- kv_judge.c: what an answer means -------------------------------------------------------- */

/* One try of a part of a batch at one node. */
struct kv_attempt {
    struct kv_batch *batch;
    size_t first; /* items before it are settled */
    size_t end;   /* items from it on were not tried yet */
    enum kv_link_status status;
    const char *address;    /* of the node that was asked */
    struct kv_nodes *nodes; /* learns whom the node named; NULL: nobody else is asked */
    char *message;          /* KV_MESSAGE_SIZE: about the first item that failed */
    bool moved;             /* it named another node */
    bool leave;             /* another node may know better */
};
bool kv_begins(struct slice text, const char *code); /* the error's first word is @code */
/* The error of a node that wants a password, or does not let us in: it is not going to change its mind. */
bool kv_unwelcome(struct slice text);
/* Judges the items from first to end; gives the first one that may be run again, or end. */
size_t kv_attempt_settle(struct kv_attempt *attempt);
/* The item will not be tried again: @err, unless an earlier try may have happened. */
void kv_item_give_up(struct kv_item *item, enum kv_err err);
bool kv_item_repeats(const struct kv_item *item); /* may be repeated although it was sent */
enum kv_err kv_batch_first_failure(const struct kv_batch *batch);
const char *kv_link_words(enum kv_link_status status);

/* ---- kv_once.c: exactly once ----------------------------------------------------------------- */

/* Every write under way has a slot: a client id of its own on the server, so that no window limits how many there are
 * or in which order they come. Ids and sequences have one width, so that a repeated list is stamped in place. */
#define KV_ONCE_SLOTS 256u
#define KV_ONCE_ID_SIZE 36u
#define KV_ONCE_SEQUENCE_SIZE 16u
struct kv_once {
    bool on;
    char id[KV_ONCE_ID_SIZE + 1]; /* the last three are the slot */
    uint64_t sequence;
};
bool kv_once_init(struct kv_once *once, bool on); /* false: the system gives no random numbers */
uint32_t kv_once_slot(const struct kv_batch *batch, size_t at); /* as it was stamped */
void kv_once_stamp(struct kv_once *once, struct kv_batch *batch, size_t at, uint32_t slot);

/* ---- kv_cursor.c: ordered scans -------------------------------------------------------------- */

struct kv_cursor {
    const struct kv_allocator *allocator;
    struct kv_buffer from;
    struct kv_buffer to; /* empty: to the end */
    uint64_t left;       /* entries still wanted */
    uint64_t page_count; /* entries to ask for */
    uint64_t asked;      /* of the page that is under way */
    bool reverse;
    bool keys_only;
    uint64_t revision; /* of all pages; 0: the first one tells */
    bool ended;        /* there is no other page */
};
/* False: no memory; kv_cursor_close() is due all the same. */
bool kv_cursor_init(struct kv_cursor *cursor, const struct kv_allocator *allocator,
                    const struct kv_scan_options *options);
void kv_cursor_close(struct kv_cursor *cursor);
/* Adds the command for the next page; as kv_batch_add(). */
enum kv_err kv_cursor_ask(struct kv_cursor *cursor, struct kv_batch *batch);
/* The list of entries in a reply, whose revision is taken from now on; or a KV_ERROR: the range ended before its end,
 * since its revision is not kept any more. */
const struct kv_reply *kv_cursor_page(struct kv_cursor *cursor, const struct kv_reply *reply);
/* Goes behind the page that came (@size bytes). KV_ERR_FAILED: it makes no sense. KV_ERR_NOMEM: ask again. */
enum kv_err kv_cursor_take(struct kv_cursor *cursor, const struct kv_reply *page, size_t size);
bool kv_cursor_entry(const struct kv_cursor *cursor, const struct kv_reply *item,
                     struct kv_entry *entry); /* false: it is none */

/* ---- kv.c: the handle ------------------------------------------------------------------------ */

struct kv_overview; /* kv_status.c */

struct kv {
    struct kv_allocator allocator;
    int64_t timeout_ms;
    int64_t connect_timeout_ms;
    size_t reply_size_max;
    struct kv_nodes nodes;
    struct kv_once once;
    struct kv_link link;
    int64_t leader_check_ms;     /* when to look where the leader is */
    bool stays;                  /* kv_stay(): nobody else is asked */
    char avoid[KV_ADDRESS_SIZE]; /* a leader that could be dialled but did not answer */
    int64_t avoid_until_ms;
    uint64_t random;
    struct kv_batch call;  /* the public call under way */
    struct kv_batch probe; /* greetings and questions of our own */
    struct kv_overview *overview;
    char message[KV_MESSAGE_SIZE];
};

enum kv_err kv_say(struct kv *kv, enum kv_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4))); /* gives @err */
/* A handle that is not connected yet. Gives *@kv in every case but KV_ERR_NOMEM, as kv_connect(). */
enum kv_err kv_handle_create(const struct kv_options *options, struct kv **kv);
/* Fills in what a program built with an older header does not know; false: @options were never initialised. */
bool kv_options_take(const struct kv_options *options, struct kv_options *taken);
void *kv_resize_with_libc(void *context, void *pointer, size_t size);
uint64_t kv_random_next(uint64_t *state); /* for waits, not for secrets */
int64_t kv_backoff_ms(uint64_t *state, uint32_t try);
/* A connection to the leader if there is one, else to any node. */
enum kv_err kv_ensure_link(struct kv *kv, int64_t deadline_ms, bool give_up_at_once);
/* Greets on a new connection: protocol 3, our name. */
enum kv_link_status kv_greet(struct kv *kv, struct kv_link *link, int64_t deadline_ms, char *why);
/* Runs the batch; each item gets its err. Gives that of the first item that failed. */
enum kv_err kv_execute(struct kv *kv, struct kv_batch *batch);
/* Runs one command in kv->call; @reply may be NULL. A write is exactly once if the handle is. */
enum kv_err kv_write(struct kv *kv, const struct kv_bytes *args, size_t count,
                     const struct kv_reply **reply);
/* The same without that, and for reads. */
enum kv_err kv_call(struct kv *kv, bool read, const struct kv_bytes *args, size_t count,
                    const struct kv_reply **reply);
/* The server's answer makes no sense. */
enum kv_err kv_strange(struct kv *kv, bool read);
bool kv_reply_uint(const struct kv_reply *reply, uint64_t *value); /* an integer or its digits */

/* ---- kv_words.c: commands and answers that both clients know --------------------------------- */

#define KV_SET_ARGS_MAX 10u
struct kv_set_words {
    struct kv_bytes args[KV_SET_ARGS_MAX];
    size_t count;
    char ttl[24];
    char revision[24];
};
/* False: the options exclude each other. @words must not be moved. */
bool kv_set_words(struct kv_set_words *words, struct kv_bytes key, struct kv_bytes value,
                  const struct kv_set_options *options, bool previous);
/* The answer to that. KV_ERR_CONDITION with @why; KV_ERR_INVALID: it makes no sense. @previous may be NULL. */
enum kv_err kv_set_read(const struct kv_reply *reply, const struct kv_set_options *options,
                        struct kv_value *previous, const char **why);
/* The answer to KV.GET: KV_ERR_NOT_FOUND, or KV_ERR_INVALID: it makes no sense. */
enum kv_err kv_value_read(const struct kv_reply *reply, struct kv_value *value);
/* The words of KV.TXN, with all that they need, in *@args, to be given back. KV_ERR_INVALID: a kind or comparison that
 * does not exist, or a command without words. */
enum kv_err kv_txn_words(const struct kv_allocator *allocator, const struct kv_txn *txn,
                         struct kv_bytes **args, size_t *count);
/* The answer to that; false: it makes no sense. */
bool kv_txn_read(const struct kv_reply *reply, int64_t *held, const struct kv_reply **replies);
/* Commands after which a connection is no longer what the library takes it for. */
bool kv_changes_connection(const struct kv_bytes *args, size_t count);

#endif
