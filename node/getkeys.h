/* getkeys.h - where the keys are among the arguments of any command, those of scripts, KV.TXN and KV.ONCE too. */
#ifndef KV_NODE_GETKEYS_H
#define KV_NODE_GETKEYS_H

#include "node/command.h"

struct getkeys_key {
    struct slice key;              /* borrowed */
    const struct command *command; /* whose key it is; NULL: a condition looks at it */
    bool is_other; /* where it writes to, of a command that takes from one key to another */
};

/* Its keys are not at fixed places among its arguments. */
bool getkeys_moves(const struct command *command);
/* They stand behind a count of them, the third argument. */
bool getkeys_counts(const struct command *command);
/* Appends one struct getkeys_key for each. NULL, or why that cannot be said, in Redis' words. */
const char *getkeys_find(const struct slice *args, uint32_t count, struct buf *keys);

#endif
