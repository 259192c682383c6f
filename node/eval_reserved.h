/* eval_reserved.h - the server's own keys (storage/reserved.h), as commands use them.
 *
 * They are read and written with eval_find, eval_value and eval_put like any key. Their number and their bytes are
 * bounded, so that a FLUSH can keep them: it puts them again behind itself, in the same entry. */
#ifndef KV_NODE_EVAL_RESERVED_H
#define KV_NODE_EVAL_RESERVED_H

#include "node/command.h"

/* Appends the prefix, @family and @name: a whole key. */
void eval_reserved_key(struct buf *key, const char *family, struct slice name);
/* Room for a value of @size bytes, and for one more key if it @is_new; without a reply. */
bool eval_reserved_room(const struct eval *eval, bool is_new, uint64_t size);
/* How many there are, with those on their way. */
uint64_t eval_reserved_count(const struct eval *eval);
/* Before a FLUSH: what is to be put again behind it. False: not now (eval.waits), or an error was replied. */
bool eval_reserved_gather(struct eval *eval, struct buf *kept);
void eval_reserved_restore(struct eval *eval, struct slice kept); /* behind it */

#endif
