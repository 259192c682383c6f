/* kv_internal.h - what the sources of libkvclient share. Not installed, not exported.
 *
 * A call is a batch of commands. kv_batch knows bytes and one connection; kv_execute() knows nodes, deadlines and what
 * may be repeated; the public calls only build commands and read replies. Nothing here aborts. */
#ifndef KV_CLIENT_KV_INTERNAL_H
#define KV_CLIENT_KV_INTERNAL_H

#include <stdbool.h>

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
void kv_link_close(struct kv_link *link);
/* False when the peer has closed, or has sent what nobody asked for. */
bool kv_link_alive(const struct kv_link *link);
/* Waits for @events of poll(). KV_LINK_OK or KV_LINK_TIMEOUT. */
enum kv_link_status kv_link_wait(const struct kv_link *link, short events, int64_t deadline_ms);

/* ---- kv_batch.c: commands and their replies -------------------------------------------------- */

struct kv_item {
    size_t begin; /* of the command in out */
    size_t end;
    bool read;          /* changes nothing */
    bool answered;      /* reply_begin and reply_size are valid */
    bool sent;          /* every byte of the command was given to the system */
    enum kv_err err;    /* of kv_execute() */
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
/* Room for the replies to writes, so that memory cannot run out between sending one and knowing its result. */
bool kv_batch_prepare(struct kv_batch *batch);
/* Sends the commands from @first on and takes their replies until all are there. Sets sent and answered. */
enum kv_link_status kv_batch_run(struct kv_batch *batch, struct kv_link *link, size_t first,
                                 size_t size_max, int64_t deadline_ms);
/* The text of the error that answers command @at; false when the answer is none. Borrows until the next call. */
bool kv_batch_error(struct kv_batch *batch, size_t at, struct slice *text);
/* The reply to command @at, NULL when memory is short. Valid until the next call with @batch. */
const struct kv_reply *kv_batch_reply(struct kv_batch *batch, size_t at);

/* ---- kv.c: the handle ------------------------------------------------------------------------ */

struct kv_overview; /* kv_status.c */

struct kv {
    struct kv_allocator allocator;
    int64_t timeout_ms;
    int64_t connect_timeout_ms;
    size_t reply_size_max;
    char nodes[KV_NODES_MAX]
              [KV_ADDRESS_SIZE]; /* given ones first, then those that the cluster named */
    uint32_t node_count;
    uint32_t node_next; /* where the next try to connect begins */
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
void kv_add_node(struct kv *kv, const char *address, size_t size);
/* A connection to the leader if there is one, else to any node. */
enum kv_err kv_ensure_link(struct kv *kv, int64_t deadline_ms, bool give_up_at_once);
/* Greets on a new connection: protocol 3, our name. */
enum kv_link_status kv_greet(struct kv *kv, struct kv_link *link, int64_t deadline_ms, char *why);
/* Runs the batch; each item gets its err. Gives that of the first item that failed. */
enum kv_err kv_execute(struct kv *kv, struct kv_batch *batch);
/* Runs one command in kv->call; @reply may be NULL. */
enum kv_err kv_call(struct kv *kv, bool read, const struct kv_bytes *args, size_t count,
                    const struct kv_reply **reply);
/* The server's answer makes no sense. */
enum kv_err kv_strange(struct kv *kv, bool read);
bool kv_reply_uint(const struct kv_reply *reply, uint64_t *value); /* an integer or its digits */

#endif
