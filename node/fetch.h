/* fetch.h - values that the next command of a session needs and that cannot be had at once.
 *
 * A command is evaluated in one go. When it meets a value that is on the disk and not in memory, or one so large
 * that unpacking it would hold up everybody, the evaluation is given up before it changed anything; the values
 * that it asked for are read in the background and unpacked in slices, and then it is evaluated anew. What it sees
 * is therefore of one moment, the last one, and other sessions go on meanwhile. A value is known by its place,
 * whose bytes never change: when the key was changed in between, or its value was moved, another place is asked
 * for.
 *
 * The session keeps its fetch until the command is carried out; commands behind it wait, as they must. */
#ifndef KV_NODE_FETCH_H
#define KV_NODE_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/limits.h"
#include "storage/base/list.h"
#include "storage/store.h"

#define FETCH_UNPACK_NOW_MAX (1u * MIB) /* a larger value is never unpacked in one go, */
#define FETCH_COPY_NOW_MAX (4u * MIB)   /* nor one larger than this copied */
#define FETCH_COUNT_MAX 4096u           /* values under way for one command, */
#define FETCH_AHEAD_SIZE (8u * MIB)     /* and their bytes, but for a single larger one */
#define FETCH_TOTAL_SIZE (256u * MIB)   /* of all commands together, before another one begins */
#define FETCH_SLICE_SIZE (2u * MIB)     /* unpacked in one turn, for all commands together */

struct fetch; /* The values of one command. */

/* All fetches of a shard. */
struct fetches {
    struct list active;  /* struct fetch: some value is missing. */
    struct list orphans; /* Nobody wants them any more, but a read is still under way. */
    uint64_t epoch; /* Grows when the store is opened again: places of an older one mean nothing. */
    uint64_t size;  /* Bytes of all values asked for and kept. */
    uint64_t count; /* Values read in the background so far. */
    bool more;      /* The last turn left something to unpack. */
};

void fetches_init(struct fetches *fetches);
/* Every session is gone and the store is closed. */
void fetches_close(struct fetches *fetches);
/* The store was closed: nothing that was read counts any more. */
void fetches_void(struct fetches *fetches);
/* Once a turn, before sessions run: takes what was read, unpacks some more. */
void fetches_turn(struct fetches *fetches);

/* The value of @entry, unpacked, for the command to which *@fetch (NULL at first) belongs; @kept_max bounds what a
 * command may gather. Borrowed until fetch_end.
 *   ERR_AGAIN    it is on its way, or will be: evaluate again when fetch_waits() says no
 *   ERR_TOO_BIG  the command asks for more than @kept_max bytes
 *   ERR_CORRUPT ERR_IO  the disk does not give it */
enum err fetch_value(struct fetches *fetches, struct fetch **fetch, struct store *store,
                     const struct keydir_entry *entry, uint64_t kept_max, struct slice *value);
/* The value of @entry if it was fetched before and is here, as fetch_value gives it. */
bool fetch_has(const struct fetches *fetches, const struct fetch *fetch,
               const struct keydir_entry *entry, struct slice *value);
/* Gives away the memory in which @value lies, if it was fetched for this command and is large: @bytes (empty) takes it,
 * @value begins at @offset, at least FETCH_FRONT_SIZE. It cannot be asked for again. */
#define FETCH_FRONT_SIZE 33u
bool fetch_take(struct fetch *fetch, struct slice value, struct buf *bytes, uint64_t *offset);
/* Nothing more will be begun before something of it is here. */
bool fetch_is_full(const struct fetch *fetch);
/* Something that was asked for is not here yet. */
bool fetch_waits(const struct fetch *fetch);
/* The command is carried out, or nobody waits for it any more. NULL is allowed. */
void fetch_end(struct fetch *fetch);

#endif
