/* recover.h - start-up of the log: what of the bytes on disk is the log?
 *
 * Reads every file, decides by the table in docs/data-file.md, and changes the disk only after it
 * has decided that all is well:
 *
 *   nothing but zeros behind the last group    clean end; the segment goes on if the last group is
 *                                              a mark
 *   a group that misses its header or whole    torn, never acknowledged: the file ends before it,
 *   sectors (they are zero), and behind it     the log goes on in a new file; reported
 *   no group header, valid or rotten, nor
 *   anything else where its end is known
 *   anything else                              refused: damage, or a loss of synced data
 *
 * The last group, unless a mark follows it, may be only in the page cache (after a failed sync the
 * kernel forgets the error, not the page). So it is written again, to fresh blocks of a new file
 * that links to the group before it; the old copy then counts no more. */
#ifndef KV_STORAGE_RECOVER_H
#define KV_STORAGE_RECOVER_H

#include "storage/damage.h"
#include "storage/log.h"

struct recover_start {
    const struct log_file *sealed; /* the segments of the manifest, ordered by number; borrows */
    uint32_t sealed_count;
    uint32_t
        load_number; /* entries of sealed files from this number on are loaded for peers, and these
                           * files are verified as a whole; UINT32_MAX: none */
    uint32_t number_min; /* new files get numbers from here on at least */
    uint64_t base_index; /* last_index of the newest sealed file; 0 when there is none */
    uint64_t base_term;
    struct damage_fault *fault; /* receives what a refusal is about; may be NULL */
    /* Receives what of the sealed files is damaged, which refuses nothing then: the keys are known.
     * Entries are readable from behind the newest such file on. May be NULL. */
    struct damage *damage;
};

/* Opens the log of config->folder, which is made if it is not there. On OK everything that was
 * found is durable. @message (an empty buf) receives one line without an end of line: what was cut,
 * or why it is refused: file, offset, what is wrong, what to do. On an error @log is closed and
 * nothing is kept.
 *   ERR_CORRUPT ERR_FOREIGN ERR_NEWER ERR_IO ERR_NOSPACE ERR_READ_ONLY ERR_PERMISSION */
enum err recover_log(struct log *log, const struct log_config *config,
                     const struct recover_start *start, struct buf *message);

#endif
