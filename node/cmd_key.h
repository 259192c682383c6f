/* cmd_key.h - commands on keys as such: existence, names (cmd_key.c), expiry (cmd_expiry.c), all keys (cmd_walk.c),
 * insight (cmd_object.c) and waiting for followers (cmd_wait.c). Semantics and texts are those of Redis 7. */
#ifndef KV_NODE_CMD_KEY_H
#define KV_NODE_CMD_KEY_H

struct eval;

void cmd_del(struct eval *eval);
void cmd_delex(struct eval *eval);
void cmd_delifeq(struct eval *eval);
void cmd_exists(struct eval *eval); /* and TOUCH */
void cmd_type(struct eval *eval);
void cmd_rename(struct eval *eval);
void cmd_renamenx(struct eval *eval);
void cmd_copy(struct eval *eval);
void cmd_move(struct eval *eval);
void cmd_swapdb(struct eval *eval);

void cmd_expire(struct eval *eval);
void cmd_pexpire(struct eval *eval);
void cmd_expireat(struct eval *eval);
void cmd_pexpireat(struct eval *eval);
void cmd_ttl(struct eval *eval);
void cmd_pttl(struct eval *eval);
void cmd_expiretime(struct eval *eval);
void cmd_pexpiretime(struct eval *eval);
void cmd_persist(struct eval *eval);

void cmd_dbsize(struct eval *eval);
void cmd_randomkey(struct eval *eval);
void cmd_scan(struct eval *eval);
void cmd_keys(struct eval *eval);
void cmd_flushall(struct eval *eval);

void cmd_object(struct eval *eval);
void cmd_memory(struct eval *eval);

void cmd_wait(struct eval *eval);
void cmd_waitaof(struct eval *eval);

#endif
