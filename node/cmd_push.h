/* cmd_push.h - the commands about change feeds (cmd_feed.c) and subscriptions (cmd_pubsub.c). */
#ifndef KV_NODE_CMD_PUSH_H
#define KV_NODE_CMD_PUSH_H

#include <stdbool.h>

struct eval;

void cmd_kv_watch(struct eval *eval);
void cmd_kv_unwatch(struct eval *eval);
void cmd_subscribe(struct eval *eval);
void cmd_unsubscribe(struct eval *eval);
void cmd_psubscribe(struct eval *eval);
void cmd_punsubscribe(struct eval *eval);
void cmd_publish(struct eval *eval);
void cmd_pubsub(struct eval *eval);
/* The arguments of PUBLISH are not too long; else an error is replied. */
bool cmd_publish_fits(struct eval *eval);
/* What the transaction before it was to publish (node/txn.h). No reply. */
void cmd_publish_all(struct eval *eval);

#endif
