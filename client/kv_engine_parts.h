/* kv_engine_parts.h - what the sources of the asynchronous client call of each other. Not installed, not exported. */
#ifndef KV_CLIENT_KV_ENGINE_PARTS_H
#define KV_CLIENT_KV_ENGINE_PARTS_H

#include "client/kv_engine.h"

/* kv_engine.c */
void kv_turn(struct kv_async *async);
struct kv_op *kv_op_create(struct kv_async *async, enum kv_op_kind kind); /* NULL: no memory */
void kv_op_discard(struct kv_op *op);                                     /* was never started */
enum kv_err kv_op_start(struct kv_op *op, const struct kv_callback *then);
void kv_op_init_ours(struct kv_op *op, struct kv_async *async, enum kv_op_kind kind);
/* The queue of its connection was answered, or lost: judges, then ends or repeats it. */
void kv_op_settle(struct kv_op *op, enum kv_link_status status);
/* Ends it now with @err, as far as it is not known better. */
void kv_op_abandon(struct kv_op *op, enum kv_err err, const char *message);
void kv_engine_abandon_all(struct kv_async *async);
void kv_engine_free(struct kv_async *async);
void kv_op_clear(struct kv_op *op); /* gives its memory back */

/* kv_heap.c */
bool kv_heap_reserve(struct kv_async *async, size_t count);
void kv_heap_set(struct kv_async *async, struct kv_op *op, int64_t wake_ms);
void kv_heap_remove(struct kv_async *async, struct kv_op *op);

/* kv_async.c */
struct kv_async *
kv_engine_create(const struct kv_options *options); /* without nodes and loop; NULL: no memory */
void kv_op_tell(struct kv_op *op);                  /* calls back */

/* kv_conn.c */
struct kv_conn *kv_conn_create(struct kv_async *async, const char *address, int64_t until_ms,
                               struct kv_feed *feed); /* NULL: no memory */
void kv_conn_begin(struct kv_conn *conn);             /* dials; may be closed when it returns */
/* Puts the commands of @op from first on into the queue; false: no memory. */
bool kv_conn_put(struct kv_conn *conn, struct kv_op *op);
void kv_conn_forget(struct kv_op *op); /* nobody waits for its answers any more */
void kv_conn_flush(struct kv_conn *conn);
void kv_conn_event(struct kv_conn *conn, bool readable, bool writable, bool failed);
void kv_conn_resolved(struct kv_conn *conn, struct addrinfo *found, const char *why);
/* It is of no use any more: its operations are settled with @status. */
void kv_conn_close(struct kv_conn *conn, enum kv_link_status status);
void kv_conn_leave(struct kv_conn *conn); /* takes nothing more */
void kv_conn_watch(struct kv_conn *conn); /* tells the loop what it waits for */
void kv_conn_go_on(struct kv_conn *conn); /* reads on what lies there since a feed was paused */
void kv_conn_free(struct kv_conn *conn);

/* kv_route.c: which node */
void kv_route_ensure(struct kv_async *async);   /* a connection, or one under way */
void kv_route_greeted(struct kv_conn *conn);    /* its greeting is answered */
void kv_route_answered(struct kv_async *async); /* the question about the leader is */
void kv_route_ask(struct kv_async *async);      /* whether the leader moved, when it is time */
void kv_route_lost(struct kv_conn *conn, enum kv_link_status status); /* it is closed */

/* kv_feed.c */
void kv_feed_greeted(struct kv_feed *feed);
void kv_feed_watched(struct kv_feed *feed, struct kv_op *op);
void kv_feed_message(struct kv_feed *feed, struct slice bytes);
void kv_feed_lost(struct kv_feed *feed, enum kv_link_status status);
int64_t kv_feed_wake_ms(const struct kv_feed *feed);
void kv_feed_time(struct kv_feed *feed, int64_t now);
bool kv_feed_is_paused(const struct kv_feed *feed);
void kv_feeds_tell(struct kv_async *async);
void kv_feeds_end(struct kv_async *async);
struct kv_feed *kv_feed_next(const struct kv_feed *feed);

/* kv_async_scan.c */
enum kv_err kv_scan_page(struct kv_op *op, struct kv_result *result);
void kv_scan_told(struct kv_async_scan *scan);

/* kv_loop.c: what the engine wants of the loop, whichever it is */
void kv_loop_wake(struct kv_async *async); /* a turn soon */
void kv_loop_timer(struct kv_async *async, int64_t at_ms);
bool kv_loop_watch(struct kv_conn *conn, bool readable, bool writable);
void kv_loop_unwatch(struct kv_conn *conn);
bool kv_loop_resolve(struct kv_conn *conn, const char *host, const char *port);
void kv_loop_unresolve(struct kv_conn *conn);
void kv_loop_resolved_free(struct kv_async *async, struct addrinfo *found);
void kv_loop_close(struct kv_async *async); /* kv_engine_free() when all is closed */
/* Runs a client without a loop of the program until @until_ms, or until *@stop. */
void kv_loop_run(struct kv_async *async, int64_t until_ms, const bool *stop);

/* kv_async_uv.c: the program's loop */
bool kv_uv_is_linked(void);
enum kv_err kv_uv_open(struct kv_async *async, struct uv_loop_s *loop);
void kv_uv_wake(struct kv_async *async);
void kv_uv_timer(struct kv_async *async, int64_t at_ms);
bool kv_uv_watch(struct kv_conn *conn, bool readable, bool writable);
void kv_uv_unwatch(struct kv_conn *conn);
bool kv_uv_resolve(struct kv_conn *conn, const char *host, const char *port);
void kv_uv_unresolve(struct kv_conn *conn);
void kv_uv_resolved_free(struct addrinfo *found);
void kv_uv_close(struct kv_async *async);

#endif
