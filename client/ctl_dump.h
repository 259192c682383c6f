/* ctl_dump.h - what the sources of kvctl dump share: where the bytes come from, and lines of named values.
 *
 * A line is a thing at an offset: "@4160 command index=10 term=2 ...", or one JSON object with the same names. Nothing
 * that is read is trusted: every form of bytes ends in lines, some of them saying what is wrong and where. */
#ifndef KV_CLIENT_CTL_DUMP_H
#define KV_CLIENT_CTL_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/disk.h"

struct ctl_dump {
    struct disk *disk;
    disk_file file;
    uint64_t size; /* of the file */
    const char *path;
    bool json;
    bool values;        /* with the beginning of each value */
    uint64_t bad_count; /* damages found */
};

/* Dumps the file that @dump speaks of; @name, without folders, helps where the bytes do not say what it is. */
void ctl_dump_file(struct ctl_dump *dump, const char *name);

/* ---- ctl_dump.c: lines ----------------------------------------------------------------------- */

void ctl_dump_begin(struct ctl_dump *dump, unsigned depth, uint64_t offset, const char *kind);
void ctl_dump_number(struct ctl_dump *dump, const char *name, uint64_t number);
void ctl_dump_hex(struct ctl_dump *dump, const char *name, uint64_t number);   /* ids: 16 digits */
void ctl_dump_text(struct ctl_dump *dump, const char *name, const char *text); /* of ours */
void ctl_dump_bytes(struct ctl_dump *dump, const char *name, struct slice bytes, uint64_t most);
void ctl_dump_time(struct ctl_dump *dump, const char *name, uint64_t ms);
void ctl_dump_end(struct ctl_dump *dump);
/* A line of its own: something is wrong. */
void ctl_dump_damage(struct ctl_dump *dump, uint64_t offset, uint64_t size, const char *what);
/* Reads; what cannot be read is zeros and a damage. */
void ctl_dump_read(struct ctl_dump *dump, uint64_t offset, void *data, uint64_t size);

/* ---- the kinds of files ---------------------------------------------------------------------- */

/* ctl_dump_log.c: segments and tables */
void ctl_dump_log(struct ctl_dump *dump);
/* The members that @payload names, a line each. */
void ctl_dump_members(struct ctl_dump *dump, uint64_t offset, struct slice payload);
/* One change of a key, as logs, tables and hints have them; its value follows where it is known. */
struct ctl_dump_change {
    uint64_t offset;
    uint8_t kind; /* enum effect_kind */
    uint8_t flags;
    uint64_t revision;
    uint64_t expiry_ms;
    uint64_t value_size;
    struct slice key;
    struct slice value; /* data NULL: not here */
};
void ctl_dump_change(struct ctl_dump *dump, const struct ctl_dump_change *change);
/* ctl_dump_small.c: all the others */
void ctl_dump_hint(struct ctl_dump *dump);
void ctl_dump_manifest(struct ctl_dump *dump);
void ctl_dump_vote(struct ctl_dump *dump);
void ctl_dump_expected(struct ctl_dump *dump);
void ctl_dump_identity(struct ctl_dump *dump);
void ctl_dump_peers(struct ctl_dump *dump);
void ctl_dump_quarantine(struct ctl_dump *dump);
void ctl_dump_backup(struct ctl_dump *dump);

#endif
