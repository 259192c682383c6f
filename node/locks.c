/* locks.c - see locks.h. */
#include "node/locks.h"

#include "node/core_parts.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

static struct list *bucket_of(struct locks *locks, struct slice name)
{
    return &locks->buckets[hash64(name.data, name.size) % LOCKS_BUCKETS];
}

void locks_init(struct locks *locks)
{
    *locks = (struct locks){.deadline_ms = UINT64_MAX};
    list_init(&locks->all);
    for (uint32_t i = 0; i < LOCKS_BUCKETS; i++) list_init(&locks->buckets[i]);
}

/* The first that waits for @name; NULL: nobody does. */
static struct lock_wait *first_of(struct list *bucket, struct slice name)
{
    for (struct list *at = bucket->next; at != bucket; at = at->next) {
        struct lock_wait *wait = LIST_ITEM(at, struct lock_wait, bucket);
        if (slice_equal(buf_slice(&wait->name), name)) return wait;
    }
    return NULL;
}

bool locks_waited(const struct locks *locks, struct slice name)
{
    if (locks->count == 0) return false;
    const uint64_t at = hash64(name.data, name.size) % LOCKS_BUCKETS;
    const struct list *bucket = &locks->buckets[at];
    for (const struct list *item = bucket->next; item != bucket; item = item->next) {
        const struct lock_wait *wait = LIST_ITEM(item, const struct lock_wait, bucket);
        if (slice_equal(buf_slice(&wait->name), name)) return true;
    }
    return false;
}

bool locks_wait(struct core *core, struct session *session, struct slice name, uint64_t until_ms)
{
    struct locks *locks = &core->locks;
    struct lock_wait *wait = session->lock;
    if (wait == NULL) {
        if (locks->count >= LOCKS_WAITS_MAX) return false;
        struct list *bucket = bucket_of(locks, name);
        wait = mem_zero(sizeof *wait);
        wait->locks = locks;
        wait->session = session;
        wait->until_ms = until_ms;
        wait->is_first = first_of(bucket, name) == NULL;
        buf_append(&wait->name, name.data, name.size);
        list_append(&locks->all, &wait->all);
        list_append(bucket, &wait->bucket);
        locks->count++;
        if (until_ms < locks->deadline_ms) locks->deadline_ms = until_ms;
        session->lock = wait;
    }
    wait->is_woken = false;
    wait->since = core->shard.batches.change_count;
    return true;
}

bool locks_sleeps(const struct session *session)
{
    return session->lock != NULL && !session->lock->is_woken;
}

void locks_leave(struct lock_wait *wait)
{
    if (wait == NULL) return;
    struct locks *locks = wait->locks;
    struct list *bucket = bucket_of(locks, buf_slice(&wait->name));
    list_remove(&wait->all);
    list_remove(&wait->bucket);
    CHECK(locks->count > 0);
    locks->count--;
    if (wait->is_first) {
        struct lock_wait *next = first_of(bucket, buf_slice(&wait->name));
        if (next != NULL) {
            next->is_first = true;
            next->since = 0; /* It has not looked at the key as the first. */
            locks->change_count = 0;
        }
    }
    buf_close(&wait->name);
    mem_free(wait);
}

static void wake(struct core *core, struct lock_wait *wait)
{
    if (wait->is_woken) return;
    wait->is_woken = true;
    core_mark_ready(core, wait->session);
}

void locks_drop(struct core *core)
{
    struct locks *locks = &core->locks;
    while (!list_empty(&locks->all)) {
        struct lock_wait *wait = LIST_ITEM(locks->all.next, struct lock_wait, all);
        struct session *session = wait->session;
        core_mark_ready(core, session);
        session->lock = NULL;
        locks_leave(wait);
    }
}

void locks_turn(struct core *core)
{
    struct locks *locks = &core->locks;
    const struct batches *batches = &core->shard.batches;
    if (locks->count == 0) return;
    if (!shard_ready(&core->shard)) {
        locks_drop(core);
        return;
    }
    if (locks->change_count == batches->change_count && core->now_ms < locks->deadline_ms) return;
    locks->change_count = batches->change_count;
    locks->deadline_ms = UINT64_MAX;
    for (struct list *at = locks->all.next; at != &locks->all; at = at->next) {
        struct lock_wait *wait = LIST_ITEM(at, struct lock_wait, all);
        const bool is_over = core->now_ms >= wait->until_ms;
        const bool is_changed = wait->is_first && (wait->since == 0 ||
                                                   batches_touched(batches, buf_slice(&wait->name),
                                                                   wait->since, true));
        if (is_over || is_changed) {
            wake(core, wait);
        } else if (wait->until_ms < locks->deadline_ms) {
            locks->deadline_ms = wait->until_ms;
        }
    }
}

uint64_t locks_deadline(const struct core *core)
{
    const struct locks *locks = &core->locks;
    if (locks->count == 0) return UINT64_MAX;
    if (locks->change_count != core->shard.batches.change_count) return core->now_ms;
    return locks->deadline_ms;
}
