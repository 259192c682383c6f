/* batch.h - the effects of one Raft entry while it is on its way, and the view over all such entries.
 *
 * Commands are evaluated at once, against the applied keys and the effects still in flight: the newest
 * effect of a key in flight hides what the keydir says. A batch gathers while a log write is under way;
 * then it is proposed as one entry. It is retired when the entry is applied, or dropped when leadership is lost.
 *
 * Batches are numbered from 1 without end; the number, not the Raft index, is what replies wait for, since an
 * open batch has no index yet. */
#ifndef KV_NODE_BATCH_H
#define KV_NODE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/list.h"
#include "storage/effect.h"
#include "storage/record.h"

struct batch_node; /* One effect in flight, in the view's table. */

struct batch {
    struct list link; /* In batches.flying, oldest first. */
    uint64_t number;
    uint64_t index;    /* Raft index once proposed, else 0. */
    struct buf record; /* RECORD_HEADER_SIZE bytes, the body's header, the effects. */
    struct buf stub;   /* Of a record that may be given away: what is before the value. */
    bool is_stub;      /* It was given away: record is the stub. */
    uint64_t size;     /* Of the record, once proposed. */
    uint32_t effect_count;
    struct batch_node *nodes; /* Its effects in the view, newest first. */
};

struct batches {
    struct batch *open; /* Gathers; never NULL. Its number is one above the newest proposed. */
    struct list flying; /* Proposed, not yet applied. */
    uint64_t flying_count;
    uint64_t flying_size;    /* Bytes of their records. */
    uint64_t retired_number; /* All batches up to it are applied. */
    struct batch *spare;     /* One retired batch, kept for its buffer. */
    /* The view: a chained hash table, newest effect of a key first. */
    struct batch_node **buckets;
    uint32_t bucket_count; /* A power of two. */
    uint32_t node_count;
    uint32_t reserved_count; /* Of them, changes of the server's own keys (storage/reserved.h). */
    struct batch_node *free_nodes;
    uint64_t flush_number; /* Batch of the newest FLUSH in flight; 0: none. */
    uint64_t era;          /* Grows with every FLUSH: effects of an older one are hidden. */
    /* When keys were changed last, for those who watch them: changes are counted without end. */
    uint64_t change_count;
    uint64_t flush_change; /* The newest FLUSH. */
    uint64_t *touched;     /* By hash of the key, BATCH_TOUCHED_COUNT of them. */
};

#define BATCH_TOUCHED_COUNT 16384u

/* What the view knows of a key. */
struct batch_hit {
    bool is_flying; /* The rest is valid only then; else the keydir decides (unless hidden). */
    bool is_hidden; /* Not flying, but a FLUSH in flight removed whatever the keydir has. */
    bool exists;
    bool
        is_expiry_only; /* The newest effects only change the expiry: the value is in the keydir. */
    bool is_packed;     /* The value is as stored: packed. */
    bool is_absent;     /* The value is in the log only: wait for the batch. */
    struct slice value; /* Borrows until the next batch_add. */
    uint64_t expiry_ms;
    uint64_t number;  /* Batch to wait for: also set when hidden. */
    uint64_t index;   /* Of its entry; 0: it has none yet. */
    uint32_t ordinal; /* Place of the newest effect in that entry. */
};

/* A place in the open batch to go back to. */
struct batches_mark {
    uint64_t number;
    uint64_t size;
    uint32_t effect_count;
    uint64_t flush_number;
    uint64_t era;
    uint64_t flush_change;
};

void batches_init(struct batches *batches);
void batches_close(struct batches *batches);

/* Looks @key up among the effects in flight. */
struct batch_hit batches_find(const struct batches *batches, struct slice key);

/* Adds an effect to the open batch; the caller kept within BATCH_SIZE_MAX and BATCH_EFFECTS_MAX (CHECK). */
void batches_add(struct batches *batches, const struct effect *effect);
/* The same for a large value of which a copy would take long: @built (takes) holds BATCH_BUILT_SIZE free bytes, then
 * key and value as in @effect. Nothing else is in the open batch. */
#define BATCH_BUILT_SIZE (RECORD_HEADER_SIZE + EFFECT_BODY_HEADER_SIZE + EFFECT_HEADER_SIZE)
void batches_add_built(struct batches *batches, const struct effect *effect, struct buf *built);
/* What was added to the open batch since the mark, in the same turn and copied, not built, is undone. */
struct batches_mark batches_mark(const struct batches *batches);
void batches_rollback(struct batches *batches, const struct batches_mark *mark);
/* False: @key is certainly what it was when change_count was @since. True: it was changed since then, or another key
 * was. @existed: it did exist then, so that a FLUSH changed it. */
bool batches_touched(const struct batches *batches, struct slice key, uint64_t since, bool existed);
static inline bool batches_open_empty(const struct batches *batches)
{
    return batches->open->effect_count == 0;
}
static inline uint64_t batches_open_size(const struct batches *batches)
{
    return batches->open->record.size;
}
/* Appends the server's own keys in flight, each behind its u32 size; one may come several times. Those that a FLUSH hid
 * are among them. */
void batches_reserved(const struct batches *batches, struct buf *keys);
/* Completes the body's header; the record is ready to be proposed. @is_given: it holds one large value and nothing
 * else; the log may take its memory. */
struct buf *batches_seal(struct batches *batches, bool *is_given);
/* The open batch became entry @index: it flies, a new one opens. */
void batches_launch(struct batches *batches, uint64_t index);
/* Retires every batch with an index up to @applied. Returns true when any was. */
bool batches_retire(struct batches *batches, uint64_t applied);
/* Leadership is lost: forgets everything in flight, the open batch included. Afterwards retired_number is the number
 * of the last dropped batch, so that nobody waits for ever: resolve the waiting replies before. */
void batches_drop(struct batches *batches);
void batches_check(const struct batches *batches);

#endif
