/* golden_pack.h - the files of a virtual disk as one small file, for keeping.
 *
 * Per file: u32 size of the name, the name, u64 size of the file, u32 count of runs, then per run u64 offset,
 * u32 size and the bytes. A run is whole sectors that are not all zeros; everything else is zeros. Little-
 * endian. */
#ifndef KV_TESTS_STORAGE_GOLDEN_PACK_H
#define KV_TESTS_STORAGE_GOLDEN_PACK_H

#include <stdbool.h>

#include "tests/sim/sim_disk.h"

/* Appends all files of @disk to @out. */
void golden_pack(const struct sim_disk *disk, struct buf *out);
/* Puts the files of @pack onto @disk, whose folder WORLD_FOLDER must exist. False: it is no pack. */
bool golden_unpack(struct slice pack, struct sim_disk *disk);
/* The whole file at @path. False: it cannot be read. */
bool golden_read(const char *path, struct buf *out);
bool golden_write(const char *path, struct slice bytes);

#endif
