/* reserved.h - keys that are the server's own: replicated, kept and hashed like any, but no client can name or see
 * them. They outlive a FLUSH, since the leader puts them again behind it (node/eval_reserved.h). */
#ifndef KV_STORAGE_RESERVED_H
#define KV_STORAGE_RESERVED_H

#include "storage/base/bytes.h"

#define RESERVED_PREFIX "\0kv\0"
#define RESERVED_PREFIX_SIZE 4u

/* One FLUSH must be able to keep all of them: whoever adds one looks at these first. */
#define RESERVED_COUNT_MAX 20000u
#define RESERVED_SIZE_MAX (6u * 1024u * 1024u) /* of their values as stored */

static inline bool reserved_key(struct slice key)
{
    return key.size >= RESERVED_PREFIX_SIZE && key.data[0] == 0 &&
           memcmp(key.data, RESERVED_PREFIX, RESERVED_PREFIX_SIZE) == 0;
}

#endif
