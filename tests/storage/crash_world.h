/* crash_world.h - a store with small files on a virtual disk, and the judge of what a start makes of it.
 *
 * What an entry holds follows from its index and term alone, so the history of a store is a list of terms.
 * The world remembers two histories (one as it is, one as it was before the last cut), how much of it was
 * acknowledged, and the votes that were given. After whatever happened to the disk world_judge() opens
 * the store and says which of four things it is:
 *
 *   RIGHT    every acknowledged entry is there, nothing is there that was never written, the keys and all their values
 *            are what follows from the log
 *   REFUSED  the start says in one line which file is wrong
 *   DAMAGED  as RIGHT, but some value or entry is answered with an error
 *   WRONG    anything else: the one thing that must never be */
#ifndef KV_TESTS_STORAGE_CRASH_WORLD_H
#define KV_TESTS_STORAGE_CRASH_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/store.h"
#include "tests/sim/sim_disk.h"

#define WORLD_FOLDER "shard-0000"
#define WORLD_KEYS 12u
#define WORLD_ENTRIES_MAX 6000u
#define WORLD_SEGMENT_SIZE (16u * 1024u)
#define WORLD_CLUSTER 0xc1u
#define WORLD_NODE 0x101u
#define WORLD_SEED 42u

struct world_history {
    uint64_t last;
    uint32_t term[WORLD_ENTRIES_MAX + 1]; /* [index] */
};

struct world_ballot {
    uint64_t term;
    uint64_t vote;
};

struct world {
    struct sim_disk disk;
    struct store_config config;
    struct store *store; /* NULL: closed */
    uint64_t now_ms;
    struct world_history now;
    struct world_history old; /* before the last cut */
    uint64_t durable;         /* index up to which entries were acknowledged as they are in @now */
    struct world_ballot ballot; /* acknowledged */
    struct world_ballot voting; /* being saved, or the same */
    uint32_t patience;          /* turns after which world_idle() gives up quietly; 0: it fails */
    bool compacts;              /* world_small() leaves a table too */
    bool packs;                 /* some values are packed */
    uint64_t value_scale;       /* values are up to so many times as large; 0 is 1 */
    char message[1024];         /* of the last start */
    char wrong[256];            /* why the last verdict was not RIGHT */
};

enum world_verdict { WORLD_RIGHT, WORLD_REFUSED, WORLD_DAMAGED, WORLD_WRONG };
const char *world_verdict_name(enum world_verdict verdict);

/* Of very many cases of one kind every so many is tried: @usual, more with sanitizers, and 1, which is all of
 * them, when KV_TEST_LONG is set in the environment. */
uint64_t world_stride(uint64_t usual);
bool world_long(void);

/* ---- life ------------------------------------------------------------------------------------------ */

/* The store is not open yet. A world is too big for the stack. */
void world_init(struct world *world, uint64_t seed);
void world_end(struct world *world); /* closes the store too */
enum err world_open(struct world *world);
/* As the process ends in the ordinary way. */
void world_close(struct world *world);
/* As kill -9: what was written stays. @power: as a power cut, what was not synced may go. */
void world_crash(struct world *world, bool power);

/* ---- doing ----------------------------------------------------------------------------------------- */

/* Each returns false when the disk has stopped meanwhile, or failed: the rest of a script makes no sense then. */
bool world_bootstrap(struct world *world);
bool world_vote(struct world *world, uint64_t term, uint64_t vote);
/* One synced group of @count entries. Not applied yet. */
bool world_group(struct world *world, uint32_t count);
/* Cuts from @index on, in a new term, and syncs one entry in place of what went. */
bool world_cut(struct world *world, uint64_t index);
bool world_apply(struct world *world);
/* Turns until the store has nothing more to do: marks, spares, seals, whatever comes of them. */
bool world_idle(struct world *world);
/* Takes note of what the store calls durable. Called by all of the above. */
bool world_note(struct world *world);

/* A life that leaves one of everything behind: sealed files with their hints, within and beyond the window for lagging
 * peers, a full file that is not sealed, a cut, an active file, a spare, a vote given twice. Open at the end; its last
 * group is not followed by a mark. */
bool world_small(struct world *world);

/* The beginning of world_small(): what a node has that then lags. */
bool world_lagging(struct world *world);
/* Receives the base of @source, which runs on a sound disk, in pieces of @piece bytes, and closes the store. Until then
 * the history is @world's own; afterwards it is what the base holds. */
bool world_install(struct world *world, struct world *source, uint64_t piece);

/* The bytes of entry @index of @term. */
void world_record(const struct world *world, uint64_t index, uint64_t term, struct buf *out);

/* ---- judging --------------------------------------------------------------------------------------- */

/* Opens the store and judges it. Unless it is refused it stays open. */
enum world_verdict world_judge(struct world *world);
/* The same of the store that was opened just now. */
enum world_verdict world_judge_store(struct world *world);
/* What was found is the history from now on, as after a real start. Only after RIGHT. */
void world_adopt(struct world *world);
/* Judges, fails the test unless it is RIGHT, adopts, writes on, restarts, and judges again. @why is printed. */
void world_expect_right(struct world *world, const char *why);
/* All keys of the open store, one line each, as text: for comparing with what is kept in a file. */
void world_dump(struct world *world, struct buf *out);

#endif
