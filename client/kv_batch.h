/* kv_batch.h - memory that may run out, one connection, commands with their replies. Not installed, not exported. */
#ifndef KV_CLIENT_KV_BATCH_H
#define KV_CLIENT_KV_BATCH_H

#include <stdbool.h>
#include <sys/socket.h>

#include "client/kv.h"
#include "client/resp.h"

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

struct addrinfo;

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
/* The addresses of a host given as a number, without asking anybody; false: it is a name. For freeaddrinfo(). */
bool kv_link_numeric(const char *host, const char *port, struct addrinfo **found);
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
/* Makes the batch hold this one reply, for kv_batch_reply(); false: no memory. */
bool kv_batch_hold(struct kv_batch *batch, struct slice reply);
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

#endif
