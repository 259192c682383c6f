/* prepare.h - large values of a command that is about to be evaluated, made ready in slices.
 *
 * To pack 64 MiB takes a tenth of a second, to copy them into fresh memory a third of that, in which nobody else
 * would be served. So before a command that sets large values is evaluated, they are packed some blocks a turn,
 * and the largest are laid out as their entry will hold them, while the command waits at the head of its
 * connection. Evaluation then finds the bytes here. */
#ifndef KV_NODE_PREPARE_H
#define KV_NODE_PREPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/limits.h"

#define PREPARE_ABOVE (1u * MIB)      /* smaller values are packed and copied when they are put */
#define PREPARE_BUILD_SIZE (4u * MIB) /* as stored: a larger one is laid out */
#define PREPARE_SLICE_SIZE (2u * MIB) /* packed in one turn, for all sessions together */

struct prepare; /* The large values of one command. */

struct prepare_rules {
    uint64_t pack_above; /* Size above which values are packed; 0: none. */
    uint32_t
        value_arg; /* The argument that becomes the value of the key args[1], and the only one; 0: none. */
};

/* A value that was prepared. */
struct prepare_value {
    bool is_packed;
    struct slice stored; /* What to store. */
    struct buf *built;   /* Laid out for batches_add_built(), which may take it; NULL: not. */
};

/* Prepares some of the values among @args, the same in every call for this command; *@prepare is NULL at first.
 * @budget: bytes that may still be packed in this turn. True: all is done. */
bool prepare_values(struct prepare **prepare, const struct prepare_rules *rules,
                    const struct slice *args, uint32_t count, uint64_t *budget);
/* True when @value, which is one of the @args, was prepared. */
bool prepare_find(const struct prepare *prepare, const struct slice *args, struct slice value,
                  struct prepare_value *found);
/* A value is laid out: the open batch should be empty. */
bool prepare_is_built(const struct prepare *prepare);
/* The command is carried out or goes elsewhere. NULL is allowed. */
void prepare_end(struct prepare *prepare);

#endif
