/* glob.h - Redis' patterns: * ? [abc] [^a] [a-z] and \ before a character.
 *
 * Iterative, with one point to go back to (the last star): at most pattern x text steps, whatever the input. */
#ifndef KV_NODE_GLOB_H
#define KV_NODE_GLOB_H

#include <stdbool.h>

#include "storage/base/bytes.h"

bool glob_match(struct slice pattern, struct slice text);

#endif
