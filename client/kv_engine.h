/* kv_engine.h - the asynchronous client from within. Not installed, not exported.
 *
 * An operation (kv_op) is a batch of commands and where it stands; a connection (kv_conn) is a queue of commands that
 * were given to one node, answered in order. kv_turn() is the only place where things move on: it lets time pass,
 * gives pending operations to the connection, sends, and at its end calls back. Everything else only notes what
 * happened and asks for a turn, so that no callback comes from inside a call of the program.
 *
 * kv_async_uv.c is the only source that knows libuv. */
#ifndef KV_CLIENT_KV_ENGINE_H
#define KV_CLIENT_KV_ENGINE_H

#include <netdb.h>

#include "client/kv_internal.h"

/* ---- operations ------------------------------------------------------------------------------ */

enum kv_op_state {
    KV_OP_PENDING, /* waits for a connection */
    KV_OP_WAITING, /* was turned down, waits before it is tried again */
    KV_OP_SENT,    /* is in the queue of a connection */
    KV_OP_DONE,    /* waits to be called back */
};

enum kv_op_kind {
    KV_OP_GET,
    KV_OP_SET,
    KV_OP_DEL,
    KV_OP_INCR,
    KV_OP_TTL,
    KV_OP_COMMAND,
    KV_OP_TXN,
    KV_OP_BATCH,
    KV_OP_PAGE,     /* of a scan */
    KV_OP_GREETING, /* our own: said on a new connection, and where the leader is */
    KV_OP_WATCH,    /* our own: begins a feed */
};

struct kv_op {
    struct kv_async *async;
    struct kv_op *next; /* in the one list that it is in */
    struct kv_op *previous;
    enum kv_op_state state;
    enum kv_op_kind kind;
    struct kv_batch batch;
    size_t first;      /* items before it are settled */
    size_t unanswered; /* of this try */
    uint32_t try;
    int64_t deadline_ms;
    int64_t try_until_ms; /* then another node is asked */
    int64_t ready_ms;     /* of KV_OP_WAITING */
    int64_t begin_ms;     /* of this try */
    int64_t refused_ms;   /* how long the last node took to say that nobody leads */
    int64_t timeout_ms;
    size_t heap_at; /* its place among those that time will wake */
    int64_t wake_ms;
    struct kv_conn *conn; /* of KV_OP_SENT */
    uint64_t entry;       /* its first command in the queue of conn */
    uint64_t entry_end;
    enum kv_link_status status;
    uint64_t id;
    uint32_t once_count; /* writes with a slot */
    bool has_slots;
    bool is_ours; /* not of the program: no id, its memory is the owner's */
    bool want_previous;
    struct kv_set_options set;
    struct kv_async_scan *scan;
    kv_done *done;
    void *context;
    char message[KV_MESSAGE_SIZE];
};

struct kv_op_list {
    struct kv_op *first;
    struct kv_op *last;
};

/* ---- connections ----------------------------------------------------------------------------- */

enum kv_conn_state {
    KV_CONN_RESOLVING,
    KV_CONN_DIALING,
    KV_CONN_GREETING,
    KV_CONN_READY,
    KV_CONN_CLOSED,
};

/* One command in the queue of a connection. */
struct kv_sent {
    struct kv_op *op; /* NULL: nobody waits for its answer any more */
    uint32_t item;
    bool loaded;  /* its bytes are in out, or were */
    uint64_t end; /* of its bytes in all that the connection sends */
};

struct kv_conn {
    struct kv_async *async;
    struct kv_conn *next;
    struct kv_link link;
    char address[KV_ADDRESS_SIZE];
    enum kv_conn_state state;
    bool leaving; /* takes nothing more; closed when nobody waits for an answer */
    bool deaf;    /* the peer takes no more, but what it said before may still be there */
    struct kv_feed *feed;
    struct addrinfo *found; /* addresses to try, target is the one at hand */
    struct addrinfo *target;
    bool found_is_loops; /* the loop's resolver made it */
    int64_t until_ms;    /* for connecting and greeting */
    int64_t heard_ms;    /* when something came last */
    struct kv_buffer out;
    size_t out_done;    /* bytes of out that the system took */
    uint64_t out_total; /* bytes that were ever loaded */
    struct kv_buffer in;
    struct resp_scan scan;
    struct kv_sent *queue; /* a ring: places taken_count … put_count - 1, modulo capacity */
    size_t queue_capacity;
    uint64_t taken_count;
    uint64_t load_count; /* entries before it are loaded or void */
    uint64_t sent_count; /* entries before it are with the system */
    uint64_t put_count;
    size_t live_count; /* entries with an op */
    struct kv_op greeting;
    void *watch;  /* of the loop */
    short events; /* of poll(), without one */
    void *lookup;
    bool is_unwelcome; /* the node does not want us */
    char why[KV_MESSAGE_SIZE];
};

/* ---- the client ------------------------------------------------------------------------------ */

struct kv_async {
    struct kv_allocator allocator;
    struct kv_options options;
    struct kv_nodes nodes;
    struct kv_once once;
    uint32_t once_free[KV_ONCE_SLOTS];
    uint32_t once_free_count;
    uint64_t random;

    struct kv_op_list pending;
    struct kv_op_list waiting;
    struct kv_op_list done;
    struct kv_op **heap; /* by wake_ms */
    size_t heap_count;
    size_t heap_capacity;
    struct kv_op **table; /* by the lower half of an id, less one */
    uint32_t *generations;
    size_t table_capacity;
    size_t generation_capacity;
    size_t table_count; /* places that were ever used */
    size_t op_count;    /* operations of the program under way */
    struct kv_op *spare;
    uint32_t spare_count;
    uint32_t *places; /* of the table that are free */
    size_t place_capacity;
    size_t place_count;

    struct kv_conn *conns;
    struct kv_conn *main;   /* operations go here */
    struct kv_conn *dialed; /* the next main one, when it is greeted */
    struct kv_conn *asked;  /* whose answer about the leader is awaited */
    struct kv_op question;
    uint32_t dial_failures; /* without a success */
    int64_t dial_ready_ms;  /* not before */
    int64_t leader_check_ms;
    char avoid[KV_ADDRESS_SIZE]; /* a leader that could be dialled but did not answer */
    int64_t avoid_until_ms;
    char why[KV_MESSAGE_SIZE]; /* the last node could not be reached */

    struct kv_feed *feeds;
    struct kv_async_scan *scans;
    struct kv_entry *entries; /* of the page that is told */
    size_t entry_capacity;

    void *loop;       /* kv_async_uv.c; NULL: kv_loop_run() */
    bool turn_is_due; /* the rest is for kv_loop_run() */
    bool is_over;
    int64_t timer_ms;
    bool closing;
    void (*closed)(void *context);
    void *closed_context;
};

#define KV_NEVER INT64_MAX

#endif
