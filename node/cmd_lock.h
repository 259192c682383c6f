/* cmd_lock.h - locks with fencing tokens, commands that are carried out once, and the scripts of lock libraries. */
#ifndef KV_NODE_CMD_LOCK_H
#define KV_NODE_CMD_LOCK_H

#include <stdbool.h>

struct command;
struct eval;

void cmd_kv_lock(struct eval *eval);
void cmd_kv_renew(struct eval *eval);
void cmd_kv_unlock(struct eval *eval);

void cmd_kv_once(struct eval *eval);

void cmd_eval(struct eval *eval);
void cmd_eval_ro(struct eval *eval);
void cmd_evalsha(struct eval *eval);
void cmd_evalsha_ro(struct eval *eval);
/* One of these four: its keys begin behind its third argument. */
bool cmd_is_script(const struct command *command);
void cmd_script(struct eval *eval);

#endif
