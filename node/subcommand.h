/* subcommand.h - the commands that are several: CLIENT, CLUSTER, COMMAND, CONFIG, MEMORY, OBJECT, PUBSUB, SCRIPT and
 * SENTINEL, part by part. What is not in the table is refused before the command's function sees it, also while it is
 * queued in a transaction; HELP and COMMAND tell what is in it. */
#ifndef KV_NODE_SUBCOMMAND_H
#define KV_NODE_SUBCOMMAND_H

#include "node/command.h"

enum subcommand_flag {
    SUBCOMMAND_ADMIN = 1, /* For COMMAND INFO: of those who look after a server. */
    SUBCOMMAND_KEY = 2,   /* The argument behind its name is a key. */
    SUBCOMMAND_REFUSED =
        4, /* Known so that it can be refused in words that help; listed nowhere. */
};

struct subcommand {
    const char *container; /* lower case, as the name of its command */
    const char *name;      /* lower case */
    int8_t arity;          /* as in the command table: both names included */
    uint8_t flags;
    const char *since;
    const char
        *tips; /* Redis' words for proxies and clients, separated by a space each; or empty */
    const char *syntax; /* begins with its own name */
    const char *summary;
};

bool subcommand_has(const struct command *command);
/* The ones of @command in the order of their names, refused ones too: NULL past the end. */
const struct subcommand *subcommand_at(const struct command *command, uint32_t at);
/* NULL: @command has no such one, or has none at all. */
const struct subcommand *subcommand_find(const struct command *command, struct slice name);
/* Why there is none that @args means, in Redis' words; NULL: there is, or the command has none at all. The command's
 * own arity fits. */
const char *subcommand_refusal(const struct command *command, const struct slice *args,
                               uint32_t count, char *text, uint64_t size);
/* HELP: one line for each, and what it does. */
void subcommand_help(struct eval *eval);

#endif
