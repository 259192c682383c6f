/* glob.h - Redis' patterns: * ? [abc] [^a] [a-z] and \ before a character.
 *
 * Nothing is tried twice: whatever the input, it takes at most (256 x pattern + pattern x text / 64) steps of about a
 * nanosecond, and usually no more than the pattern is long. */
#ifndef KV_NODE_GLOB_H
#define KV_NODE_GLOB_H

#include <stdbool.h>

#include "storage/base/bytes.h"

bool glob_match(struct slice pattern, struct slice text);
/* The same, and adds to @steps what it took. */
bool glob_match_counting(struct slice pattern, struct slice text, uint64_t *steps);

#endif
