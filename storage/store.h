/* store.h - the durable state of one replica: ballot, log, keys. The header that other folders include.
 *
 * The log is the database. Entries are appended to segment files (segment.h) in checksummed, chained
 * groups; applying an entry makes the keydir point at the values inside it. When a segment is full and
 * everything in it is applied, it is sealed: its hint file (hint.h) and a new manifest (manifest.h) are
 * written. The manifest is the Raft snapshot ("base"): it names the sealed files up to an index.
 *
 * Numbers, checked every turn:  applied <= min(committed, persisted) <= last,  base.index <= applied.
 *
 * Not thread-safe. All disk access goes through struct disk. A failed write or sync of the log or the
 * ballot ends the process (fatal, EXIT_DISK). A full disk does not: see store_nospace(). */
#ifndef KV_STORAGE_STORE_H
#define KV_STORAGE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/damage.h"
#include "storage/disk.h"
#include "storage/keydir.h"
#include "storage/mend.h"
#include "storage/record.h"
#include "storage/witness.h"

struct store;

struct store_config {
    struct disk *disk;  /* keeps, until store_close */
    const char *folder; /* "shard-0000"; keeps */
    uint16_t shard;
    uint64_t cluster_id; /* in all files: the storage id of node/identity.h */
    uint64_t node_id;
    uint64_t hash_seed;      /* of the keydir; the same on all nodes of a cluster */
    uint64_t random_seed;    /* for the ids of new files */
    uint64_t segment_size;   /* bytes, multiple of 4096 */
    uint64_t retention_size; /* bytes of sealed log kept readable for lagging peers */
    uint64_t
        compaction_rate; /* bytes a second that compaction reads and writes at least; 0: it does not run */
    uint64_t tail_size;         /* bytes of newest groups kept in memory */
    uint64_t scrub_rate;        /* bytes of sealed files verified each second; 0: none */
    struct damage_fault *fault; /* what a refusal because of damage is about; may be NULL */
    uint64_t reserve_size;      /* bytes kept for a full disk (reserve.h); 0: none */
};

/* ---- life ---------------------------------------------------------------------------------------- */

/* Opens the folder of a replica, verifies and recovers what is in it by the decision table of
 * docs/data-file.md: a torn, never acknowledged tail is cut logically and reported; anything else that
 * is wrong is refused and nothing that counts on the disk is changed (received files may have got their
 * names, a lagging copy of the vote may be repaired). An empty or absent folder is a blank replica.
 *   ERR_CORRUPT ERR_FOREIGN ERR_NEWER ERR_IO ERR_NOSPACE ERR_READ_ONLY ERR_PERMISSION
 * @message (at least 512 bytes) receives one line: file, offset, what is wrong, what to do; on success
 * what was cut, or an empty string. */
enum err store_open(const struct store_config *config, struct store **store, char *message,
                    uint64_t message_size);
/* Waits for operations under way. Writes a final durable mark if the log is whole. */
void store_close(struct store *store);

/* First start of an initial member: term 1, no vote, entry 1 (a RECORD_CHANGE of term 1), all durable
 * when it returns OK. The store must be blank. ERR_NOSPACE: try again when there is space. */
enum err store_bootstrap(struct store *store, struct slice record);
/* No entry, no base, no vote and no term above 1: nothing that a bootstrap could contradict. (One that a
 * crash interrupted leaves term 1 and nothing else, and can be done again.) */
bool store_blank(const struct store *store);

uint64_t store_cluster_id(const struct store *store); /* of the configuration */

/* ---- ballot -------------------------------------------------------------------------------------- */

uint64_t store_term(const struct store *store);      /* as last saved; 0 when never */
uint64_t store_voted_for(const struct store *store); /* replica id, 0 when none */
/* Both copies are synced when it returns. Fatal on a disk error. */
void store_save_ballot(struct store *store, uint64_t term, uint64_t voted_for);

/* ---- log ----------------------------------------------------------------------------------------- */

/* The oldest entry that can be read, last + 1: none; the last one, the base index when the log is empty, 0 when
 * blank; that up to which all entries are durable as they now are. */
uint64_t store_first_index(const struct store *store);
uint64_t store_last_index(const struct store *store);
uint64_t store_persisted_index(const struct store *store);
/* The term of entry @index; also of the base index. 0 when unknown. */
uint64_t store_term_at(const struct store *store, uint64_t index);
/* The newest RECORD_CHANGE at or before @index: its payload (borrowed until the next append, cut or
 * turn) and index. False when there is none at all. Knows the base's configuration too. */
bool store_change_at(const struct store *store, uint64_t index, uint64_t *change_index,
                     struct slice *payload);
/* Highest stamp of any entry appended or applied. */
uint64_t store_last_stamp(const struct store *store);

/* Appends one whole record (its index must be last + 1, it was verified by the caller). Copies it.
 * Only memory: store_flush() makes it durable. */
void store_append(struct store *store, struct slice record);
/* The same; if @record lies in @owner and is large, its memory is taken: @owner is empty then. */
void store_append_from(struct store *store, struct slice record, struct buf *owner);
/* Drops all entries from @index on (never at or below applied: CHECK). Logged by a RECORD_CUT. */
void store_cut(struct store *store, uint64_t index);
/* Starts writing what was appended, if no write is under way and a segment is ready. */
void store_flush(struct store *store);
uint64_t store_flushing(const struct store *store); /* bytes of the group write under way, or 0 */
/* Returns after everything appended is durable. For changes of membership and stopping.
 * ERR_NOSPACE: it is not, the next segment cannot be made. */
enum err store_flush_wait(struct store *store);
/* Appends to @out whole records from @first on, verbatim: at least one if it exists, then as many as
 * fit into @size_max. @count receives how many. From memory when recent, else from disk.
 *   ERR_NOT_FOUND  before the first index or past the last
 *   ERR_CORRUPT, ERR_IO  the disk no longer gives what was written */
enum err store_read(struct store *store, uint64_t first, uint64_t last, uint64_t size_max,
                    struct buf *out, uint32_t *count);
/* A record too big to be read at once: its size (0: it is not here), and pieces, not verified unless @in_memory. */
uint64_t store_entry_size(const struct store *store, uint64_t index);
enum err store_piece(struct store *store, uint64_t index, uint64_t offset, uint64_t size,
                     struct buf *out, bool *in_memory);

/* ---- state --------------------------------------------------------------------------------------- */

uint64_t store_applied_index(const struct store *store);
uint64_t store_applied_stamp(const struct store *store); /* the highest of them: time by the log */
/* Applies the entries up to @index, one after the other. They must be persisted.
 * ERR_CORRUPT or ERR_IO: an entry could not be read back; the node must stop serving. */
enum err store_apply(struct store *store, uint64_t index);
/* The same in slices: as much as is worth *@work effects, from which it is taken off; an entry counts as one more, and
 * as one for each 4 KiB. An entry takes place as a whole: one that is worth more is left for later, or applied all
 * the same and alone if @at_least_one. */
enum err store_apply_some(struct store *store, uint64_t index, bool at_least_one, uint64_t *work);

struct keydir *store_keys(struct store *store);
/* The value of @entry, unpacked; waits for the disk if it must (the node reads through store_value.h, which does
 * not). Borrowed until the next call of any function of this store. ERR_CORRUPT, ERR_IO: damage. */
enum err store_value(struct store *store, const struct keydir_entry *entry, struct slice *value);
/* Begins to load what looking up each of @keys will read, and its value too where @values says so and it is in
 * memory. As many keys as keydir_warm takes. Changes nothing. */
void store_warm(struct store *store, const struct slice *keys, const bool *values, uint32_t count);

/* Applies retention, seals what can be sealed, makes the next segment ahead, writes a durable mark when
 * idle, retries what a full disk refused. Call once a turn. */
void store_turn(struct store *store, uint64_t now_ms);
/* now_ms at which store_turn wants to run; UINT64_MAX: not */
uint64_t store_deadline(struct store *store);

/* True while the next segment cannot be made because the disk is full, or the reserve had to be given
 * up: the caller refuses writes that are not deletes. Clears by itself when there is space.
 * More of the disk's state: store_disk.h. */
bool store_nospace(const struct store *store);

/* ---- base (the Raft snapshot) -------------------------------------------------------------------- */

struct store_base {
    uint64_t index; /* 0: none yet */
    uint64_t term;
    uint64_t change_index; /* Raft index of the configuration below */
    struct slice change;   /* the configuration committed at index; borrowed until the next turn */
};
struct store_base store_base(const struct store *store);
/* Wants the base to reach the entry @index, which is applied: the segment that holds it is closed early and
 * sealed. True: it does. Else call again every turn; a full disk can keep it from coming true. */
bool store_seal_upto(struct store *store, uint64_t index);

/* Entries from @index on stay readable whatever retention says, as long as they are now: a peer that
 * installs a base needs what follows it. UINT64_MAX: no such wish. It costs memory only, no file is
 * ever kept for it. */
void store_hold(struct store *store, uint64_t index);

/* ---- damage, comparisons -------------------------------------------------------------------------- */

/* A range of a sealed file cannot be read or verified: it is remembered, and the file will be repaired. Files
 * that are not sealed, or gone, are none of its business. */
void store_note_damage(struct store *store, uint32_t file, uint64_t offset, uint64_t size);
/* The same for the file with the entry at @index. */
void store_note_entry(struct store *store, uint64_t index);
const struct damage *store_damage(const struct store *store);
/* Is a sealed file damaged beyond repair: neither it nor its hint says what was in it? A restart would be refused. */
bool store_lost(struct store *store, struct damage_fault *fault);
/* Values that have to come from others, for node/mender.h. */
struct mend *store_mend(struct store *store);
/* The state hash after entry @index; false when that is not remembered or not reached. */
bool store_hash_at(const struct store *store, uint64_t index, uint64_t *hash);
/* See witness.h. */
uint64_t store_present(const struct store *store, uint64_t node_id);
struct witness_check store_checked(const struct store *store);

/* ---- figures ------------------------------------------------------------------------------------- */

struct store_stats {
    uint64_t segments;      /* files, sealed ones included */
    uint64_t disk_size;     /* bytes allocated in the folder */
    uint64_t bytes_written; /* to segments since the start */
    uint64_t groups_written;
    uint64_t syncs;       /* completed group writes */
    uint64_t tail_hits;   /* values read from memory */
    uint64_t tail_misses; /* values read from disk */
    uint64_t seals;
    uint64_t compactions;  /* runs of files */
    uint64_t scrub_bytes;  /* read to be verified */
    uint64_t scrub_passes; /* over all sealed files */
    uint64_t scrub_hints;  /* hints that were wrong and are written anew */
};
struct store_stats store_stats(const struct store *store);

/* Verifies the invariants above and those of the parts. For tests and the simulator: every turn. */
void store_check(const struct store *store);

#endif
