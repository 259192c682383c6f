/* locks.h - the clients that wait for a lock at the leader, in the order in which they came.
 *
 * A lock is an ordinary key (cmd_lock.c); what is here is the leader's memory only. The first that waits for a key is
 * woken when the key is changed, and asks again; the others when they become the first. Whoever leads next is asked
 * anew: then the order is that in which the sessions come to it. */
#ifndef KV_NODE_LOCKS_H
#define KV_NODE_LOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/list.h"

#define LOCKS_WAITS_MAX 4096u /* clients that wait at a time */
#define LOCKS_BUCKETS 256u

struct core;
struct session;

struct locks {
    struct list all;                    /* struct lock_wait, in the order of their arrival */
    struct list buckets[LOCKS_BUCKETS]; /* the same, by hash of the key */
    uint32_t count;
    uint64_t change_count; /* of the batches, when the waits were last looked at */
    uint64_t deadline_ms;  /* Not before then has one of them waited long enough. */
};

struct lock_wait {
    struct list all;
    struct list bucket;
    struct locks *locks;
    struct session *session;
    struct buf name;
    uint64_t until_ms;
    uint64_t since; /* change_count of the batches when it last looked at the key */
    bool is_first;  /* of those that wait for this key */
    bool is_woken;
};

void locks_init(struct locks *locks);
/* Nobody waits any more: leadership is lost, or will be. Their sessions go on. */
void locks_drop(struct core *core);
/* Before sessions run: wakes whoever may have its lock now, or has waited long enough. */
void locks_turn(struct core *core);
uint64_t locks_deadline(const struct core *core);

/* Does anybody wait for @name? */
bool locks_waited(const struct locks *locks, struct slice name);
/* The head command of @session waits (again). False: too many do. */
bool locks_wait(struct core *core, struct session *session, struct slice name, uint64_t until_ms);
/* The session sleeps: there is no use in running it. */
bool locks_sleeps(const struct session *session);
/* The command is answered, or the session gone. NULL is allowed. */
void locks_leave(struct lock_wait *wait);

#endif
