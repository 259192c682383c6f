/* kv_internal.h - what the sources of libkvclient share. Not installed, not exported.
 *
 * A call is a batch of commands. kv_batch knows bytes and one connection; kv_judge knows what an answer or its absence
 * means and what may be repeated; kv_nodes knows where to ask. Both clients stand on these: kv_execute() waits, the
 * asynchronous one (kv_engine.h) does not. The public calls only build commands and read replies. Nothing here aborts. */
#ifndef KV_CLIENT_KV_INTERNAL_H
#define KV_CLIENT_KV_INTERNAL_H

#include <stdbool.h>
#include <sys/socket.h>

#include "client/kv.h"
#include "client/resp.h"

#define KV_NODES_MAX 64u
#define KV_ADDRESS_SIZE 264u /* "host:port" and its zero byte */
#define KV_MESSAGE_SIZE 512u
#define KV_TEXT(literal) kv_bytes_of(literal, sizeof(literal) - 1)

int64_t kv_now_ms(void); /* monotonic */

/* ---- kv_buffer.c: memory that may run out ---------------------------------------------------- */

struct kv_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};
bool kv_buffer_reserve(const struct kv_allocator *allocator, struct kv_buffer *buffer, size_t more);
void kv_buffer_close(const struct kv_allocator *allocator, struct kv_buffer *buffer);
/* Makes room for @count items of @size bytes in *@list. */
bool kv_list_reserve(const struct kv_allocator *allocator, void **list, size_t *capacity,
                     size_t count, size_t size);

/* ---- kv_link.c: one connection --------------------------------------------------------------- */

struct kv_link {
    int fd; /* -1: closed */
    char address[KV_ADDRESS_SIZE];
};

enum kv_link_status {
    KV_LINK_OK,
    KV_LINK_NOBODY,  /* nobody listens there, or there is no such host */
    KV_LINK_LOST,    /* the connection broke, or what came is not the protocol */
    KV_LINK_TIMEOUT, /* the deadline passed */
    KV_LINK_NOMEM,   /* no memory for the replies */
    KV_LINK_TOO_BIG, /* the replies are larger than reply_size_max */
};

/* Takes "host:port", "host" or "[v6]:port" apart; false: malformed. @host has KV_ADDRESS_SIZE bytes. */
bool kv_address_parse(const char *address, char *host, char *port);
/* Connects; @why (KV_MESSAGE_SIZE) is filled when that fails. */
enum kv_link_status kv_link_open(struct kv_link *link, const char *address, int64_t deadline_ms,
                                 char *why);
/* The first half of that, without waiting. KV_LINK_TIMEOUT: under way, ask kv_link_dialled() once it is writable. */
enum kv_link_status kv_link_dial(struct kv_link *link, const struct sockaddr *target,
                                 socklen_t size, int *error);
enum kv_link_status kv_link_dialled(const struct kv_link *link, int *error);
void kv_link_close(struct kv_link *link);
/* False when the peer has closed, or has sent what nobody asked for. */
bool kv_link_alive(const struct kv_link *link);
/* Waits for @events of poll(). KV_LINK_OK or KV_LINK_TIMEOUT. */
enum kv_link_status kv_link_wait(const struct kv_link *link, short events, int64_t deadline_ms);

/* ---- kv_batch.c: commands and their replies -------------------------------------------------- */

struct kv_item {
    size_t begin; /* of the command in out */
    size_t end;
    size_t stamp;       /* where in out the id of KV.ONCE is; 0: it is not wrapped in one */
    bool read;          /* changes nothing */
    bool answered;      /* reply_begin and reply_size are valid */
    bool sent;          /* every byte of the command was given to the system */
    bool doubt;         /* an earlier try of it may have happened */
    enum kv_err err;    /* once it is judged */
    size_t reply_begin; /* in `in` */
    size_t reply_size;
};

struct kv_batch {
    const struct kv_allocator *allocator;
    struct kv_buffer out;
    struct kv_buffer in;
    struct kv_item *items;
    size_t count;
    size_t capacity;
    struct resp_reply flat; /* the reply that was read last */
    bool cut;               /* its texts have zero bytes behind them, where the CR was */
    struct kv_reply *replies;
    size_t reply_capacity;
};

void kv_batch_init(struct kv_batch *batch, const struct kv_allocator *allocator);
void kv_batch_close(struct kv_batch *batch);
void kv_batch_clear(struct kv_batch *batch);
/* KV_ERR_INVALID: no argument, too many, or too long. */
enum kv_err kv_batch_add(struct kv_batch *batch, bool read, const struct kv_bytes *args,
                         size_t count);
/* The same for a write as KV.ONCE: with a client id and a sequence that kv_once_stamp() fills in. */
enum kv_err kv_batch_add_once(struct kv_batch *batch, const struct kv_bytes *args, size_t count);
/* Room for @size bytes of replies, so that memory cannot run out between sending a write and knowing its result. */
bool kv_batch_prepare_size(struct kv_batch *batch, size_t size);
bool kv_batch_prepare(struct kv_batch *batch); /* for a batch that is run by kv_batch_run() */
/* Sends the commands from @first up to @end and takes their replies until all are there. Sets sent and answered. */
enum kv_link_status kv_batch_run(struct kv_batch *batch, struct kv_link *link, size_t first,
                                 size_t end, size_t size_max, int64_t deadline_ms);
/* The text of the error that answers command @at; false when the answer is none. Borrows until the next call. */
bool kv_batch_error(struct kv_batch *batch, size_t at, struct slice *text);
/* The reply to command @at, NULL when memory is short. Valid until the next call with @batch. */
const struct kv_reply *kv_batch_reply(struct kv_batch *batch, size_t at);

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
    bool ended; /* there is no other page */
};
/* False: no memory; kv_cursor_close() is due all the same. */
bool kv_cursor_init(struct kv_cursor *cursor, const struct kv_allocator *allocator,
                    const struct kv_scan_options *options);
void kv_cursor_close(struct kv_cursor *cursor);
/* Adds the command for the next page; as kv_batch_add(). */
enum kv_err kv_cursor_ask(struct kv_cursor *cursor, struct kv_batch *batch);
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

#endif
