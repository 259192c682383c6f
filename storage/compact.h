/* compact.h - what is worth compacting: a choice from figures alone, without any I/O.
 *
 * The files stand in the order of the manifest. Garbage of a file is what a table of its survivors would not
 * have: dead effects, the room that records and groups took, and deletes that are perhaps not needed.
 * A run of neighbours is chosen when all files together are more than COMPACT_BOUND times what
 * they would be without garbage; it begins with the file that has the greatest share, and grows over neighbours
 * so that tables do not get small. Files of which nothing is left go at any time: that costs nothing.
 *
 * A delete matters as long as an older file holds a put of its key. To find out, the hints of all older files are
 * read; that is worth it when the deletes are COMPACT_DELETES_WORTH of those hints or more. */
#ifndef KV_STORAGE_COMPACT_H
#define KV_STORAGE_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

#define COMPACT_RUN_MAX 64u       /* files of one run */
#define COMPACT_DELETES_WORTH 32u /* one part in so many */

struct compact_file {
    uint64_t used;
    uint64_t hint_size;
    uint64_t items;   /* effects in it */
    uint64_t live;    /* bytes of effects that matter */
    uint64_t deletes; /* bytes of deletes and flushes, which may matter */
    bool deletes_are_exact;
    bool is_table;
    bool is_wanted;  /* to be written again whatever it holds */
    bool is_blocked; /* cannot be read now */
};

struct compact_limits {
    uint64_t target_size; /* of a table; also the garbage that is left alone */
    bool is_forced;       /* Everything with garbage is worth it. */
};

struct compact_run {
    uint32_t begin;
    uint32_t count;
    bool checks_deletes; /* The hints of older files are to be read. */
};

struct compact_figures {
    uint64_t used;
    uint64_t garbage;
    bool is_over; /* the bound */
};

/* Bytes that compacting file @position alone would give back, about. */
uint64_t compact_garbage(const struct compact_file *files, uint32_t position);
struct compact_figures compact_figures(const struct compact_file *files, uint32_t count);
/* False: nothing is worth it. */
bool compact_choose(const struct compact_file *files, uint32_t count,
                    const struct compact_limits *limits, struct compact_run *run);

#endif
