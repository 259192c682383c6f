/* mend.h - values that this replica's disk does not give back and that another replica has.
 *
 * Compaction meets effects that it can neither read nor verify although they are in force. Changes other than puts, and
 * small values, it makes anew from the hint and the keydir; for the rest it asks here, by key and revision: what
 * every replica that has applied the same entries holds in the same bytes. node/mender.h asks the others. */
#ifndef KV_STORAGE_MEND_H
#define KV_STORAGE_MEND_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

#define MEND_WANTS_MAX 64u

enum mend_state {
    MEND_OPEN,    /* asked for, or waiting for room */
    MEND_HERE,    /* the stored value is here */
    MEND_NOWHERE, /* nobody who could be asked has it */
};

struct mend_want {
    struct buf key;
    uint64_t revision; /* of the key, as the keydir has it */
    enum mend_state state;
    struct buf stored; /* as in the put */
    bool is_compressed;
    uint64_t asked_ms;   /* by whoever asks: see node/mender.h */
    uint32_t asked_last; /* place of the peer that was asked */
    uint32_t none_mask;  /* peers that do not have it */
};

struct mend {
    struct mend_want wants[MEND_WANTS_MAX];
    uint32_t count;
    uint64_t given_total; /* values that came from others */
};

/* All zero is a valid empty one. */
void mend_close(struct mend *mend);
/* The state of a value; asks for it when that was not done yet. HERE: @want is it, until mend_forget(). */
enum mend_state mend_ask(struct mend *mend, struct slice key, uint64_t revision,
                         const struct mend_want **want);
/* NULL: nobody asked for that (any more). */
struct mend_want *mend_find(struct mend *mend, struct slice key, uint64_t revision);
void mend_give(struct mend *mend, struct mend_want *want, struct slice stored, bool is_compressed);
/* This one is not needed any more. */
void mend_drop(struct mend *mend, struct slice key, uint64_t revision);
/* None of it is needed any more. */
void mend_forget(struct mend *mend);

#endif
