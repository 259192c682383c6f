/* cmd_txn.h - transactions: MULTI, WATCH and KV.TXN. See txn.h for what happens before EXEC. */
#ifndef KV_NODE_CMD_TXN_H
#define KV_NODE_CMD_TXN_H

struct eval;

void cmd_multi(struct eval *eval);
void cmd_discard(struct eval *eval);
void cmd_unwatch(struct eval *eval);
/* For a client: notes what the keys are. For another node: the term and the count of changes, then their revisions. */
void cmd_watch(struct eval *eval);
/* EXEC has no function: the node that the client talks to makes cmd_exec_parts of it (core_client.c). */
void cmd_exec(struct eval *eval);
void cmd_exec_parts(struct eval *eval);
void cmd_kv_txn(struct eval *eval);

#endif
