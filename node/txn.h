/* txn.h - transactions of a connection: what MULTI queued and WATCH noted, on the node that the client talks to.
 *
 * Nothing here depends on the cluster: commands are queued where the client is, and EXEC sends all of them, with the
 * watched keys, as one internal command to the leader (cmd_txn.c), which carries out all of it in one entry or nothing.
 *
 *   exec  name (one of TXN_EXEC_*)   a key, for MOVED   count of watched keys   {key  token}...   commands
 *         command: count of its arguments, the arguments;  or 0 and a reply, for what was answered where it was queued
 *
 * A token (TXN_TOKEN_SIZE bytes) says what the key was when it was watched: its revision, and the term and count of
 * changes of the leader that answered. As long as that one leads its counting tells whether the key was touched since
 * (batch.h); otherwise the key is unchanged if it still has the same revision. What cannot be known counts as changed:
 * a key that did not exist under another leader. */
#ifndef KV_NODE_TXN_H
#define KV_NODE_TXN_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

struct core;
struct command;
struct eval;
struct session;

/* No client means these names. */
#define TXN_EXEC_READ "\r\nexec.r"  /* changes nothing */
#define TXN_EXEC_WALK "\r\nexec.a"  /* changes nothing and looks at all keys */
#define TXN_EXEC_WRITE "\r\nexec.w" /* may write */

/* What stands behind EXEC when PUBLISH was among the commands: channel and message of each. They go out once the
 * transaction is committed, or not at all. */
#define TXN_PUBLISH "\r\npublish"

#define TXN_COMMANDS_MAX 16384u  /* queued in one transaction, */
#define TXN_ARGS_MAX 100000u     /* all their arguments, */
#define TXN_SIZE_MAX (16u * MIB) /* and bytes, those of watched keys included */
#define TXN_SMALL_SIZE                                                                             \
    (64u * KIB) /* always; more than that only while all together are within bounds */
#define TXN_WATCHES_MAX 10000u
#define TXN_TOKEN_SIZE 24u

struct txn_token {
    uint64_t revision; /* 0: it did not exist; 1: not known yet */
    uint64_t term;     /* 0: none whose count means anything */
    uint64_t count;
};
void txn_token_put(const struct txn_token *token, uint8_t *bytes);
struct txn_token txn_token_get(const uint8_t *bytes);

struct txn; /* of a session; NULL: neither MULTI nor WATCH */

bool txn_is_open(const struct session *session); /* between MULTI and EXEC */
bool txn_is_broken(const struct session *session);
uint32_t txn_count(const struct session *session); /* commands queued */
uint32_t txn_watches(const struct session *session);
void txn_open(struct session *session);
/* A command was refused: EXEC will be, too. Nothing happens outside of a transaction. */
void txn_break(struct session *session);
/* The transaction ends, and no key is watched any more. */
void txn_drop(struct core *core, struct session *session);

/* Queues a command. NULL, or the error that it is refused with. */
const char *txn_queue(struct core *core, struct session *session, const struct command *command,
                      const struct slice *args, uint32_t count);
/* Why no more keys can be watched; NULL: they can. */
const char *txn_watch_refusal(const struct core *core, const struct session *session,
                              const struct slice *args, uint32_t count);
void txn_watch(struct core *core, struct session *session, struct slice key,
               const struct txn_token *token);
/* The leader answered the WATCH @request. False: nonsense. An error is no nonsense, the client gets it. */
bool txn_watched(struct core *core, struct session *session, struct slice request,
                 struct slice reply, struct buf *out);
/* The internal commands that EXEC stands for. Commands about the connection and this node are carried out now. */
void txn_request(struct core *core, struct session *session, struct buf *out);

#endif
