/* stream.h - reads that take more than one turn: ranges, histories, values of old revisions.
 *
 * Such a command stays at the head of its connection while it is carried out, on the node that was asked, from that
 * node's own applied keys (node/readindex.h). It sees one revision, however long it takes (storage/store_past.h). It
 * works in slices, whose sum in one turn is bounded for all connections together, and its reply leaves while it is
 * made: first a range is counted, then its elements follow as fast as the client takes them. So neither the size of a
 * range nor a slow client costs memory.
 *
 * Whoever reads a range in pages asks for the next one at the revision of the first, from the key behind the last. The
 * view of a page is kept for some seconds for that, so that it need not be made from the log again.
 *
 * What is asked for can go while it is being told (a client so slow that retention and compaction overtake it, a base
 * that is received, FLUSHALL). Once elements have left, the reply goes on as long as its header says: in the place of
 * the first element that is missing stands the error COMPACTED, in those of the others null. When the disk does not
 * give a value, which another node can, the connection is closed. */
#ifndef KV_NODE_STREAM_H
#define KV_NODE_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

struct command;
struct core;
struct session;
struct stream;

/* What the walks of all connections may cost in one turn: one for each key, effect or KiB that is looked at or sent. */
#define STREAM_TURN_UNITS 3000
#define STREAM_SLICE_MIN 100 /* of it, for one connection at least */

#define STREAM_PARKED_MAX 8u
#define STREAM_PARKED_MS 5000u

/* Goes on with the head command of @session. True: it is answered. */
bool stream_run(struct core *core, struct session *session, const struct command *command,
                const struct slice *args, uint32_t count);
/* The command is over, or its client gone. NULL is allowed. */
void stream_end(struct stream *stream);
/* Lets go of pages that nobody went on with; @is_all: of all. */
void stream_tick(struct core *core, bool is_all);

#endif
