/* families.h - the functions of all commands, one for each row of the table in command.c, family by family. What a
 * function may use is in command.h. */
#ifndef KV_NODE_FAMILIES_H
#define KV_NODE_FAMILIES_H

struct eval;

void cmd_ping(struct eval *eval);
void cmd_echo(struct eval *eval);
void cmd_auth(struct eval *eval);
void cmd_hello(struct eval *eval);
void cmd_select(struct eval *eval);
void cmd_quit(struct eval *eval);
void cmd_reset(struct eval *eval);
void cmd_command(struct eval *eval);

void cmd_info(struct eval *eval);
void cmd_config(struct eval *eval);
void cmd_time(struct eval *eval);
void cmd_role(struct eval *eval);

void cmd_kv_backup(struct eval *eval);
void cmd_kv_get(struct eval *eval);
void cmd_kv_history(struct eval *eval);
void cmd_kv_index(struct eval *eval);
void cmd_kv_range(struct eval *eval);
void cmd_kv_status(struct eval *eval);
void cmd_kv_disk(struct eval *eval);
void cmd_kv_compact(struct eval *eval);
void cmd_kv_members(struct eval *eval);
void cmd_kv_leader(struct eval *eval);
void cmd_kv_check(struct eval *eval);
void cmd_kv_transfer(struct eval *eval);

#endif
