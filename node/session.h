/* session.h - one client connection: bytes in, replies out in the order of the requests.
 *
 * A reply's bytes are made when its command is evaluated, but they may leave only when what they
 * promise holds: the batch they wait for is applied, and a read round that began after the command arrived has
 * confirmed our leadership. Each such reply is a wait; waits are released strictly in order. A session runs
 * its commands either here (we lead) or at the leader (forwarded), never both at once: it changes over only
 * when nothing is outstanding.
 *
 * A proxy session is the leader's side of a session of another node: its requests come in FORWARD frames and
 * its replies go back in FORWARD_REPLY frames (node/router.h). */
#ifndef KV_NODE_SESSION_H
#define KV_NODE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "client/resp.h"
#include "node/pubsub.h"
#include "node/readindex.h"
#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "storage/base/list.h"

/* A reply that may not leave yet. */
struct session_wait {
    uint64_t end;   /* Stream position behind the reply's last byte. */
    uint64_t batch; /* Batch that must be applied; 0: none. */
    uint64_t read;  /* Read round that must be confirmed; 0: none. */
    bool wrote;     /* It put something into that batch: lost leadership makes it UNCERTAIN. */
    bool moved;     /* Proxy only: not executed here, the origin must take it elsewhere. */
};

enum session_answer {
    SESSION_ASK,       /* The leader's. */
    SESSION_UNCERTAIN, /* A write that was sent, then the connection broke. */
    SESSION_TRY_AGAIN, /* A read that was sent before such a write: asked again it could see that write. */
    SESSION_TOO_BIG, /* A command whose argument is longer than any value may be. */
};

/* A request that was forwarded and not answered yet. */
struct session_forward {
    uint64_t size; /* Of its bytes in forwarded. */
    bool is_write;
    bool is_watch;   /* A WATCH: what the leader replies is for this node (node/txn.h). */
    bool is_exec;    /* What the leader replies decides what is published. */
    bool is_again;   /* A write that is asked again when its answer is lost (KV.LOCK). */
    bool is_patient; /* A command that may wait for long (CMD_BLOCKS). */
    bool is_mute;    /* CLIENT REPLY: the client is not told what the leader replies. */
    uint8_t answer;  /* enum session_answer: what it gets in its turn instead of being sent. */
};

/* WAIT at the head of a connection. */
struct session_acks {
    bool is_begun;
    uint64_t batch;    /* Everything that it wrote before is applied once this is. */
    uint64_t index;    /* What followers must have; 0: not known yet. */
    uint64_t until_ms; /* Answered then at the latest. */
};

/* CLIENT REPLY */
enum session_mute {
    SESSION_REPLIES,
    SESSION_SKIPS_NEXT, /* not the next one, */
    SESSION_SKIPS_THIS, /* which is being carried out */
    SESSION_MUTE,
};

struct session {
    struct list all;            /* In core.sessions, or the proxies of a peer. */
    struct list ready;          /* In core.ready while it has something to do. */
    struct list dirty;          /* In core.dirty while replies can leave. */
    struct list waiting;        /* In core.waiting while waits is not empty, or core.forwarding. */
    struct list hog;            /* In core.hogs while it holds much of what clients sent. */
    struct session *table_next; /* Chain of core.session_table or core.proxy_table. */
    uint64_t id;
    void *connection; /* The host's; NULL for a proxy. */
    char address[64]; /* Of the client, as text. */
    char name[64];    /* CLIENT SETNAME */
    char library[64]; /* CLIENT SETINFO */
    char library_version[32];
    uint8_t protocol; /* 2 or 3 */
    uint8_t face;     /* enum core_face */
    uint8_t mute;     /* enum session_mute */
    bool is_readonly; /* READONLY: a node that does not lead reads for it. */
    bool redirects;   /* CLIENT CAPA redirect: it would rather be sent to the leader. */
    bool closing;     /* Close once everything is sent; no more commands. */
    bool is_eof;      /* The client sends nothing more: close once all is answered. */
    bool clogged;     /* The socket took less than offered. */
    bool paused;      /* We asked the host to stop reading. */
    uint64_t opened_ms;
    uint64_t active_ms;          /* Last byte in or out. */
    const struct command *guess; /* What came last, for command_find_again(). */
    uint64_t command_count;
    const char *last_command; /* Its name; NULL: none yet. */

    struct push *push; /* What it is told unasked (node/push.h); NULL: nothing */
    struct txn *txn;   /* MULTI and WATCH (node/txn.h); NULL: neither */

    /* In. */
    struct buf in;
    uint64_t in_start;     /* Where the next request begins. */
    uint64_t held_counted; /* Bytes of commands that it has in core.held_size. */
    uint64_t begun_ms;     /* Since when an incomplete request waits; 0: none. */
    struct resp_parser parser;

    /* Out: out.data[0] is stream position out_base; up to `released` may leave. */
    struct buf out;
    uint64_t out_base;
    uint64_t sent; /* Up to here the host took them. */
    uint64_t released;
    struct session_wait *waits; /* A ring. */
    uint32_t wait_capacity;
    uint32_t wait_first;
    uint32_t wait_count;
    uint64_t
        applied_batch; /* The head command waits until this batch is applied (CMD_APPLIED); 0: not. */
    struct fetch *fetch;      /* Values that the head command needs (node/fetch.h); NULL: none. */
    bool wants_alone;         /* The head command wants to find the open batch empty. */
    struct prepare *prepare;  /* Its own values, being packed (node/prepare.h); NULL: none. */
    struct lock_wait *lock;   /* The head command waits for a lock (node/locks.h); NULL: not. */
    struct session_acks acks; /* The head command waits for followers. */
    struct pubsub_exec exec;
    struct pubsub_wait publish;  /* The head command waits until its message is told. */
    struct readindex_wait reads; /* The head command waits for what it must see of the log. */
    uint64_t indexed; /* What was applied here when the last such wait was over: it will do for */
    uint64_t indexed_size; /* so many bytes of input, which had come before it began. */
    struct stream *stream; /* The head command is carried out in slices (node/stream.h); NULL. */
    uint64_t parked_ms;    /* Since when the head command waits for a leader; 0: not. */

    /* Forwarding, the origin's side. */
    struct buf forwarded;             /* Bytes of the requests not answered yet, in order, */
    uint64_t forwarded_start;         /* from here on. */
    struct session_forward *forwards; /* A ring, as waits. */
    uint32_t forward_capacity;
    uint32_t forward_first;
    uint32_t forward_count;
    uint32_t forward_unsent;   /* The last so many of them are not sent yet. */
    uint32_t forward_epoch;    /* Grows with every retry: answers to an older one are ignored. */
    uint64_t forward_number;   /* Of the next request to send in this epoch. */
    uint64_t forward_answered; /* Number of the next answer expected in this epoch. */
    uint64_t forward_node;     /* Where they went. */
    uint64_t forward_moved_ms; /* When the first of them was sent, or the last answer came. */
    uint64_t forward_lost_ms;  /* That node is not the leader any more since then; 0: it is. */
    uint64_t forward_losses;   /* core.forward_losses when this epoch began. */
    uint64_t forward_bytes;    /* Replies received in this epoch. */
    uint64_t forward_credit;   /* Of those, what the leader was told that the client has taken. */
    uint64_t retry_ms;         /* Not before then are they sent again; 0: at once. */

    /* Proxy: where from. */
    uint64_t origin_node;
    uint64_t origin_session;
    uint32_t origin_epoch;
    uint64_t origin_incarnation;
    uint64_t answered;       /* Replies of this epoch already sent back, */
    uint64_t answered_bytes; /* their bytes, */
    uint64_t credit;         /* and how many of those the client has taken. */
    bool moved; /* A request of this epoch was not executed: neither are the following ones. */
};

/* Where the stream of replies begins: what stands before a value that is taken as a whole is counted as sent. */
#define SESSION_STREAM_START (1u * MIB)
struct session *session_create(uint64_t id, void *connection, uint64_t now_ms);
void session_destroy(struct session *session); /* unlinks it everywhere */

/* Stream position behind the last byte made so far. */
static inline uint64_t session_end(const struct session *session)
{
    return session->out_base + session->out.size;
}
static inline uint64_t session_input(const struct session *session)
{
    return session->in.size - session->in_start;
}
/* The input that is not consumed yet. Never NULL, also when there is none. */
static inline struct slice session_input_bytes(const struct session *session)
{
    const uint64_t size = session_input(session);
    if (size == 0) return slice_of("", 0);
    return slice_of(session->in.data + session->in_start, size);
}
static inline bool session_is_proxy(const struct session *session)
{
    return session->connection == NULL;
}

/* Appends a bulk string to out: the @size bytes at @offset of @bytes (taken, empty afterwards). They stay where
 * they are and become out, if what is there fits in front of them. False: it does not, nothing happened. Places in
 * out from before mean nothing afterwards. */
bool session_take_bulk(struct session *session, struct buf *bytes, uint64_t offset, uint64_t size);
/* Forgets replies that did not leave: those behind position @end, with their waits, down to @wait_count. */
void session_drop_replies(struct session *session, uint64_t end, uint32_t wait_count);
/* The reply whose bytes were just appended to out waits for @wait (end is filled in). */
void session_add_wait(struct session *session, struct session_wait wait);
const struct session_wait *session_first_wait(const struct session *session);
const struct session_wait *session_last_wait(const struct session *session);
/* EXEC was answered: an array, or nothing happened. @wait: what that waits for; NULL: nothing. */
void session_note_exec(struct session *session, struct slice reply,
                       const struct session_wait *wait);
/* Releases waits that hold, in order. True when any bytes became free. */
bool session_release(struct session *session, uint64_t retired_batch, uint64_t confirmed_read);
/* Leadership is lost: replies whose conditions do not hold yet are replaced: those that wrote into a proposed
 * batch (number below @open_batch) by UNCERTAIN, the others by CLUSTERDOWN, or for a proxy by moved. */
void session_fail_waits(struct session *session, uint64_t retired_batch, uint64_t confirmed_read,
                        uint64_t open_batch);

/* Remembers a request that goes to another node. The result is valid until the next call. */
struct session_forward *session_add_forward(struct session *session, struct slice request,
                                            bool is_write, enum session_answer answer);
struct session_forward *session_first_forward(struct session *session);
struct session_forward *session_last_forward(struct session *session); /* there is one */
void session_drop_forward(struct session *session);                    /* the first */
/* Consumes @size bytes of input: the head command, whose values are not needed any more. */
void session_consume(struct session *session, uint64_t size);
/* Puts @requests (taken, empty afterwards) in front of the input. */
void session_unread(struct session *session, struct buf *requests);
/* The host took @size more bytes of what is released. */
void session_sent(struct session *session, uint64_t size);
void session_check(const struct session *session);

#endif
