/* cmd_string.h - commands on string values: reading and cutting (cmd_string.c), setting (cmd_set.c), counting
 * (cmd_count.c). Semantics and texts are those of Redis 7. */
#ifndef KV_NODE_CMD_STRING_H
#define KV_NODE_CMD_STRING_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

struct eval;
struct item;

void cmd_get(struct eval *eval);
void cmd_getdel(struct eval *eval);
void cmd_mget(struct eval *eval);
void cmd_strlen(struct eval *eval);
void cmd_digest(struct eval *eval);
void cmd_getrange(struct eval *eval);
void cmd_setrange(struct eval *eval);
void cmd_append(struct eval *eval);
/* Replies with the value, or null. False: it is not here (see eval_value). */
bool cmd_reply_value(struct eval *eval, struct item *item);

void cmd_set(struct eval *eval);
void cmd_setex(struct eval *eval);
void cmd_psetex(struct eval *eval);
void cmd_setnx(struct eval *eval);
void cmd_getset(struct eval *eval);
void cmd_getex(struct eval *eval);
void cmd_mset(struct eval *eval);
void cmd_msetnx(struct eval *eval);

void cmd_incr(struct eval *eval);
void cmd_decr(struct eval *eval);
void cmd_incrby(struct eval *eval);
void cmd_decrby(struct eval *eval);
void cmd_incrbyfloat(struct eval *eval);

/* A condition on the present value of a key, for SET and DELEX. */
struct cmd_condition {
    enum { CMD_IF_NONE, CMD_IF_EQ, CMD_IF_NE, CMD_IF_DIGEST_EQ, CMD_IF_DIGEST_NE } kind;
    struct slice wanted;
};
/* The condition that @word names; false: none. */
bool cmd_condition_named(struct cmd_condition *condition, struct slice word);
/* False: what it compares with is no digest (an error was replied). */
bool cmd_condition_valid(struct eval *eval, const struct cmd_condition *condition);
/* Whether it holds; a key that is not there has another value than any. False: the value is not here. */
bool cmd_condition_check(struct eval *eval, struct item *item,
                         const struct cmd_condition *condition, bool *holds);

#endif
