/* damage.h - what is known to be wrong with the files of a replica.
 *
 * Two things that have the word in common. A *fault* is why a start cannot go on: which part of the state is
 * lost decides whether the replica may be rebuilt from the others (node/recovery.h). A *spot* is a range of a sealed
 * file that cannot be read or verified, while the log and the index are whole: the replica goes on and the
 * file is repaired. Spots are found at a start, by the scrub, and by reads of values; they live in memory and
 * are found again after a restart. */
#ifndef KV_STORAGE_DAMAGE_H
#define KV_STORAGE_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/err.h"

#define DAMAGE_SPOTS_MAX 1024u /* of all files; more of one file are joined */
#define DAMAGE_NAME_SIZE 192u
#define DAMAGE_WHAT_SIZE 160u

enum damage_kind {
    DAMAGE_NONE,
    DAMAGE_BALLOT, /* Term or vote: what was promised to others is not known. */
    DAMAGE_STATE,  /* The manifest, or a sealed file that cannot be done without. */
    DAMAGE_LOG,    /* Entries that may have been acknowledged. */
};

/* Why a start was refused. */
struct damage_fault {
    enum damage_kind kind;
    char file[DAMAGE_NAME_SIZE]; /* with its folder */
    uint64_t offset;
    char what[DAMAGE_WHAT_SIZE];
};
void damage_fault_set(struct damage_fault *fault, enum damage_kind kind, const char *file,
                      uint64_t offset, const char *what);

struct damage_spot {
    uint32_t file; /* number of the segment or table */
    uint64_t offset;
    uint64_t size; /* UINT64_MAX: up to its end */
};

/* All zero is a valid empty one. */
struct damage {
    struct damage_spot *spots; /* by file, then offset; they do not touch */
    uint32_t count;
    uint32_t capacity;
    uint64_t
        found_count; /* since the start, repaired ones included; what touches a known spot is part of it */
    uint64_t repaired_count;
};

void damage_close(struct damage *damage);
/* True when it was not known yet. */
bool damage_note(struct damage *damage, uint32_t file, uint64_t offset, uint64_t size);
/* The file was replaced by a whole one, or dropped. */
void damage_repaired(struct damage *damage, uint32_t file);
bool damage_has(const struct damage *damage, uint32_t file);
/* Is any of this range damaged? */
bool damage_covers(const struct damage *damage, uint32_t file, uint64_t offset, uint64_t size);

#endif
