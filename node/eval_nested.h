/* eval_nested.h - commands within commands: transactions and whatever else carries out several commands at one moment.
 *
 * Each part is evaluated like any other command, against the same view, which shows it what the parts before it did.
 * All effects go into the open batch, hence into one entry, behind a savepoint: when a part has to wait for a value, or
 * all together change too much, everything since the savepoint is undone, so nobody ever sees a piece of it. */
#ifndef KV_NODE_EVAL_NESTED_H
#define KV_NODE_EVAL_NESTED_H

#include "node/command.h"

/* A savepoint: the effects and whatever else evaluation counted. */
struct eval_mark {
    struct batches_mark batches;
    uint64_t batch;
    bool wrote;
    uint64_t expired_count, value_raw_size, value_stored_size, packed_count;
};
void eval_mark(struct eval *eval, struct eval_mark *mark);
/* Undoes all effects since the mark, those of expired keys too. Replies are the caller's. */
void eval_rollback(struct eval *eval, const struct eval_mark *mark);
/* Evaluates the command @args as a part of @eval and appends its reply to @out; an error of the command is a reply
 * like any other, and so is that it is unknown, has too few arguments or is not for transactions. It goes to the
 * leader's view (or the applied keys if @eval does), all its effects into the same entry. The caller marked before the
 * first part. False: eval->waits or eval->overflows, in which case everything must be undone; it may go on with further
 * parts while eval_wants_more(), so that all values are fetched together. */
bool eval_nested(struct eval *eval, const struct slice *args, uint32_t count, struct buf *out);
/* Why @command with these arguments cannot be a part of a transaction; NULL: it can. @command may be NULL. */
const char *eval_unfit(const struct command *command, const struct slice *args, uint32_t count,
                       char *text, uint64_t size);
/* Looks at all keys: only in a transaction that writes nothing. */
bool eval_walks(const struct command *command);
/* It is about to look at @keys more keys in a walk. False: within a transaction, which has one turn for all of it, that
 * is too much (an error was replied). */
#define EVAL_WALK_KEYS_MAX 10000u /* about a millisecond */
bool eval_may_walk(struct eval *eval, uint64_t keys);
/* The same for digests of @size bytes. */
bool eval_may_digest(struct eval *eval, uint64_t size);
void eval_error_overflow(struct eval *eval); /* after the rollback */

#endif
