/* warm.h - looks ahead in what clients sent, so that the cache misses of many commands overlap.
 *
 * To run a command is to look for its key in the keydir, and for a read to find the value in the newest part of the
 * log: three to eight cache misses, each of which waits for the one before. A turn runs hundreds of commands. So before
 * it runs the next few, a glance at the input finds their keys, and the memory of all of them is requested together.
 *
 * It is only a hint. Nothing depends on what it finds: input of an unusual form is passed over, and the parser, which
 * reads the same bytes again, is the one that judges them. */
#ifndef KV_NODE_WARM_H
#define KV_NODE_WARM_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/keydir.h"
#include "storage/store.h"

#define WARM_MAX KEYDIR_WARM_MAX

/* The keys of the next commands; they borrow from the clients' input. All zero to begin with. */
struct warm {
    uint32_t count;
    struct slice keys[WARM_MAX];
    bool reads[WARM_MAX]; /* The value will be read too, as far as the form of the command tells. */
};

/* Adds the first keys of the whole requests that @input (borrows until warm_fetch) begins with, up to one of an unusual
 * form. False when there is no room for more. */
bool warm_look(struct warm *warm, struct slice input);
/* Begins to load what was found. Changes nothing in @store. */
void warm_fetch(const struct warm *warm, struct store *store);

#endif
