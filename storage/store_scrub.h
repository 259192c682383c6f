/* store_scrub.h - sealed files are read and verified, one after the other, over and over, at a bounded rate.
 *
 * Bits rot where nobody looks; found late, they meet a second failure. Every group, record and effect of a
 * segment or table is verified as when it was received, and its hint is compared with what the file says: a bad
 * hint is written anew, a bad file is noted as damaged (damage.h) and then repaired. Part of store_inner.h. */
#ifndef KV_STORAGE_STORE_SCRUB_H
#define KV_STORAGE_STORE_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/disk.h"
#include "storage/hint_build.h"

struct store;

enum scrub_state {
    SCRUB_IDLE, /* between two files */
    SCRUB_FILE, /* its bytes are read */
    SCRUB_HINT, /* those of its hint */
    SCRUB_WRITE /* a hint is written anew */
};

struct store_scrub {
    enum scrub_state state;
    bool is_busy; /* an operation is under way */
    bool is_done;
    struct disk_op op;
    char name[HINT_NAME_SIZE];
    struct log_file file;
    struct hint_build build;
    struct buf piece;
    uint64_t offset;   /* of the next piece, in the file or the hint */
    uint32_t number;   /* files up to this one were looked at in this pass */
    uint32_t doubtful; /* this one is looked at next, without a pause; 0: none */
    uint64_t next_ms;  /* not before */
    uint64_t pass_bytes;
    /* Since the start. */
    uint64_t bytes;
    uint64_t passes; /* complete ones */
    uint64_t hints;  /* written anew */
};

void store_scrub_turn(struct store *store, uint64_t now_ms);
uint64_t store_scrub_deadline(const struct store *store);
/* Waits for what is under way and gives everything back. */
void store_scrub_close(struct store *store);

#endif
