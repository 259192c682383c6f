/* cmd_txn.h - transactions: MULTI, WATCH and KV.TXN. See txn.h for what happens before EXEC. */
#ifndef KV_NODE_CMD_TXN_H
#define KV_NODE_CMD_TXN_H

#include <stdbool.h>
#include <stdint.h>

struct command;
struct eval;
struct slice;

void cmd_multi(struct eval *eval);
void cmd_discard(struct eval *eval);
void cmd_unwatch(struct eval *eval);
/* For a client: notes what the keys are. For another node: the term and the count of changes, then their revisions. */
void cmd_watch(struct eval *eval);
/* EXEC has no function: the node that the client talks to makes cmd_exec_parts of it (core_client.c). */
void cmd_exec(struct eval *eval);
void cmd_exec_parts(struct eval *eval);
void cmd_kv_txn(struct eval *eval);
/* False: it changes nothing (a KV.TXN: whatever its conditions say), so it may be repeated like any read. */
bool cmd_kv_txn_may_write(const struct command *command, const struct slice *args, uint32_t count);

/* ---- several commands among the arguments of one: each is the count of its arguments, then these ----------- */

struct cmd_part {
    const struct slice *args;
    uint32_t count; /* 0: args[0] is a reply that is known already */
};
/* Those from argument @first to before @end, @count of them. */
struct cmd_parts {
    uint32_t first, end, count;
};
/* The part at *@at, which goes on to the next one. False: nonsense. */
bool cmd_parts_next(const struct eval *eval, const struct cmd_parts *parts, uint32_t *at,
                    struct cmd_part *part);
/* Why a part would be refused now for want of room, hence the whole is; NULL: none. */
const char *cmd_parts_refusal(struct eval *eval, const struct cmd_parts *parts);
/* Carries them out, at one moment or not at all, and appends the array of their replies. When that cannot be, an
 * error stands in out from @begin on, or nothing: the whole is evaluated anew. */
void cmd_parts_run(struct eval *eval, const struct cmd_parts *parts, uint64_t begin);

#endif
