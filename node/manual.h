/* manual.h - what the command table does not say of a command: what it guarantees, which errors it may give, where
 * it is not as in Redis, and which commands of Redis there are not. docs/commands.md is made of it, and
 * COMMAND DOCS answers the same words. */
#ifndef KV_NODE_MANUAL_H
#define KV_NODE_MANUAL_H

#include "node/command.h"

/* A sentence. */
const char *manual_guarantee(const struct command *command);
/* Sentences, or NULL: it is as in Redis 7.2, or Redis does not have it. */
const char *manual_differs(const struct command *command);
/* The prefixes of errors, beside ERR, separated by a space each; empty: none. */
const char *manual_errors(const struct command *command);
/* Who began with it: "Redis", "Valkey" or "FlashKV". */
const char *manual_origin(const struct command *command);

/* A family of commands of Redis that are not here. */
struct manual_family {
    const char *title;
    const char *reason; /* goes behind the error */
    const char *names;  /* lower case, separated by a space each */
};
const struct manual_family *manual_family_at(uint32_t at); /* NULL past the end */
/* Why a command of Redis is not here; NULL: it is none. Asked only when command_find knew nothing. */
const char *manual_missing(struct slice name);

/* The whole of docs/commands.md; in manual_page.c. */
void manual_page(struct buf *out);

#endif
