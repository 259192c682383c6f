/* syntax.h - the arguments of a command, read out of the syntax that its row of the command table names.
 *
 * A syntax is the command's name and then words: UPPER CASE is typed as it stands, lower case stands for a value,
 * [..] may be left out, a | b are alternatives, (..) keeps alternatives together, .. ...] may be repeated, and what
 * follows a comma is for people. COMMAND DOCS makes of it what redis-cli shows as hints. */
#ifndef KV_NODE_SYNTAX_H
#define KV_NODE_SYNTAX_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

#define SYNTAX_NODES_MAX (96u)

enum syntax_kind { SYNTAX_VALUE, SYNTAX_TOKEN, SYNTAX_ONEOF, SYNTAX_BLOCK };

/* Places of nodes are those in the list; 0, the root, stands for none. */
struct syntax_node {
    struct slice name;  /* of a value */
    struct slice token; /* before a value, or alone */
    enum syntax_kind kind;
    bool is_optional;
    bool is_multiple;
    uint8_t parent;
    uint8_t first; /* of its children */
    uint8_t next;  /* beside it */
};

struct syntax {
    struct syntax_node nodes[SYNTAX_NODES_MAX]; /* nodes[0] is a block: all arguments in order */
    uint32_t count;
};

/* False: the text is not a syntax, which is a mistake in the command table. The nodes borrow from @text. */
bool syntax_parse(const char *text, struct syntax *syntax);
uint32_t syntax_children(const struct syntax *syntax, uint32_t at);
/* The node after @at, parents before their children; 0: it was the last. */
uint32_t syntax_next(const struct syntax *syntax, uint32_t at);
/* What COMMAND DOCS calls its type. */
const char *syntax_type(const struct syntax_node *node);

#endif
