/* families.h - the functions of all commands, one for each row of the table in command.c, family by family. What a
 * function may use is in command.h. */
#ifndef KV_NODE_FAMILIES_H
#define KV_NODE_FAMILIES_H

struct eval;

void cmd_get(struct eval *eval);
void cmd_set(struct eval *eval);
void cmd_setex(struct eval *eval);
void cmd_psetex(struct eval *eval);
void cmd_setnx(struct eval *eval);
void cmd_getset(struct eval *eval);
void cmd_getdel(struct eval *eval);
void cmd_mget(struct eval *eval);
void cmd_mset(struct eval *eval);
void cmd_append(struct eval *eval);
void cmd_strlen(struct eval *eval);
void cmd_incr(struct eval *eval);
void cmd_decr(struct eval *eval);
void cmd_incrby(struct eval *eval);
void cmd_decrby(struct eval *eval);

void cmd_del(struct eval *eval);
void cmd_exists(struct eval *eval);
void cmd_type(struct eval *eval);
void cmd_expire(struct eval *eval);
void cmd_pexpire(struct eval *eval);
void cmd_expireat(struct eval *eval);
void cmd_pexpireat(struct eval *eval);
void cmd_ttl(struct eval *eval);
void cmd_pttl(struct eval *eval);
void cmd_persist(struct eval *eval);
void cmd_dbsize(struct eval *eval);
void cmd_scan(struct eval *eval);
void cmd_keys(struct eval *eval);
void cmd_flushall(struct eval *eval);

void cmd_ping(struct eval *eval);
void cmd_echo(struct eval *eval);
void cmd_auth(struct eval *eval);
void cmd_hello(struct eval *eval);
void cmd_select(struct eval *eval);
void cmd_quit(struct eval *eval);
void cmd_reset(struct eval *eval);
void cmd_client(struct eval *eval);
void cmd_command(struct eval *eval);

void cmd_info(struct eval *eval);
void cmd_config(struct eval *eval);
void cmd_time(struct eval *eval);
void cmd_role(struct eval *eval);

void cmd_cluster(struct eval *eval);
void cmd_readonly(struct eval *eval);

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
