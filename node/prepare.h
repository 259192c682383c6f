/* prepare.h - large values of a command that is about to be evaluated, packed in slices.
 *
 * To pack 64 MiB takes a tenth of a second, in which nobody else would be served. So before a command that sets large
 * values is evaluated, they are packed some blocks a turn, while it waits at the head of its connection. Evaluation
 * then finds the packed bytes here. */
#ifndef KV_NODE_PREPARE_H
#define KV_NODE_PREPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/limits.h"

#define PREPARE_ABOVE (1u * MIB)      /* smaller values are packed when they are put */
#define PREPARE_SLICE_SIZE (2u * MIB) /* packed in one turn, for all sessions together */

struct prepare; /* The large values of one command. */

/* Packs some of the values among @args, the same in every call for this command; *@prepare is NULL at first.
 * @budget: bytes that may still be packed in this turn. True: all is done. */
bool prepare_values(struct prepare **prepare, const struct slice *args, uint32_t count,
                    uint64_t *budget);
/* The value @value, which is one of the @args: true when it was prepared. Then @packed is what to store, or empty when
 * packing does not save enough. */
bool prepare_find(const struct prepare *prepare, const struct slice *args, struct slice value,
                  struct slice *packed);
/* The command is carried out or goes elsewhere. NULL is allowed. */
void prepare_end(struct prepare *prepare);

#endif
