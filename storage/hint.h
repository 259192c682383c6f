/* hint.h - what a sealed segment did to the keydir, without its values, so that a start reads little.
 *
 * `<folder>/<number>.idx` repeats every effect of the valid entries of one sealed segment, in order.
 * It is a cache: when it is missing, damaged or made for other bytes, the segment itself is scanned
 * and the hint is written again. Layout (little-endian):
 *
 *   header   0  u64 checksum: XXH3-64 over bytes 8 .. 80
 *            8  u64 magic              16  u32 format version (1)     20  u32 largest inline value
 *           24  u64 cluster id         32  u64 file id of the segment
 *           40  u64 used bytes of the segment        48  u128 its chain end
 *           64  u64 count of entries                 72  u64 size of this file
 *   chunks   0  u64 checksum: XXH3-64 over the rest of the chunk, seeded by file id and the chunk's offset
 *            8  u32 size of the chunk  12  u32 count of entries, at least 1
 *   entry    0  u8 kind   1  u8 flags   2  u16 zero   4  u32 key size   8  u32 value size
 *           12  u32 offset of the effect in the segment   16  u64 revision   24  u64 expiry
 *           32  key, then the value of a put if it is inline
 *
 * A chunk holds whole entries and is verified before any of them is used, so a reader needs the memory
 * of one chunk. Going back to the segment after some chunks were used is harmless: the effects
 * of a segment, done again from its first to its last, end in the same keydir. */
#ifndef KV_STORAGE_HINT_H
#define KV_STORAGE_HINT_H

#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/disk.h"

#define HINT_HEADER_SIZE 80u
#define HINT_NAME_SIZE 192u
#define HINT_CHUNK_SIZE (64u * 1024u)   /* a chunk is closed when it reaches this */
#define HINT_LARGE_SIZE (1024u * 1024u) /* what may be copied while it grows */
#define HINT_PIECE_SIZE (512u * 1024u)  /* any chunk fits in it */

/* One effect without its value, unless that is small. */
struct hint_entry {
    uint8_t kind; /* enum effect_kind */
    uint8_t flags;
    uint32_t offset; /* Of the effect in the segment. */
    uint32_t value_size;
    uint64_t revision;
    uint64_t expiry_ms;
    struct slice key;
    struct slice value; /* Adding: ignored unless inline. Reading: empty unless inline. */
};

/* The bytes of the segment that a hint belongs to. */
struct hint_segment {
    uint64_t cluster_id;
    uint64_t file_id;
    uint64_t used_size;
    struct hash128 chain_end;
};

/* A hint in the making. */
struct hint {
    uint64_t file_id;
    struct buf bytes;     /* The file's; header and open chunk are completed by hint_finish. */
    uint64_t chunk_start; /* Of the open chunk; bytes.size when none is open. */
    uint32_t chunk_count; /* Entries in the open chunk. */
    uint64_t entry_count;
    uint64_t source_size; /* hint_expect(); 0: not known. */
};

/* Writes `<folder>/<number>.idx` into @name. */
void hint_name(char name[HINT_NAME_SIZE], const char *folder, uint32_t number);
/* The number in the file name @name (without folder); 0 when it is not a hint's. */
uint32_t hint_number(const char *name);

void hint_init(struct hint *hint, uint64_t file_id);
void hint_close(struct hint *hint);
/* The file that it is of will not have more than @source_size bytes. Once a hint is large, memory for all of it is
 * taken at once, which the system provides page by page: to grow from 16 to 32 MiB by copying takes 6 ms. */
void hint_expect(struct hint *hint, uint64_t source_size);
void hint_add(struct hint *hint, const struct hint_entry *entry);
/* Takes back everything that was added after @mark was taken. */
struct hint_mark {
    uint64_t size;
    uint64_t chunk_start;
    uint64_t entry_count;
    uint32_t chunk_count;
};
struct hint_mark hint_mark(const struct hint *hint);
void hint_rollback(struct hint *hint, const struct hint_mark *mark);
/* Completes the file's bytes; nothing can be added afterwards. Borrowed from @hint. */
struct slice hint_finish(struct hint *hint, const struct hint_segment *segment);

/* Reads one hint file, chunk by chunk. */
struct hint_reader {
    struct disk *disk;      /* NULL: from memory */
    struct slice memory;    /* Then the bytes of the file, or some of them, */
    uint64_t memory_offset; /* from here on. */
    disk_file file;
    uint64_t file_id;
    uint64_t file_size;
    uint64_t offset; /* Of the next chunk. */
    uint64_t entry_count;
    struct buf chunk;
    struct reader entries; /* The rest of the current chunk. */
    uint32_t chunk_count;  /* Entries left in it. */
};

/* Opens @name if it is the hint of exactly @segment. ERR_NOT_FOUND, or ERR_CORRUPT, ERR_FOREIGN,
 * ERR_NEWER, ERR_IO: there is no usable hint. Nothing is left open on an error. */
enum err hint_reader_open(struct hint_reader *reader, struct disk *disk, const char *name,
                          const struct hint_segment *segment);
/* The same from the finished @hint, which is borrowed until close. */
void hint_reader_memory(struct hint_reader *reader, const struct hint *hint);
/* The same in pieces that the caller reads, at most HINT_PIECE_SIZE each: the first one begins at offset 0 and
 * holds the header at least. @file_size: of the hint. hint_reader_next() gives ERR_AGAIN when it needs more: a piece
 * that begins at reader->offset and is as large as the file allows, which hint_reader_feed() takes. Pieces
 * are borrowed until the next one. */
enum err hint_reader_begin(struct hint_reader *reader, const struct hint_segment *segment,
                           uint64_t file_size, struct slice piece);
void hint_reader_feed(struct hint_reader *reader, struct slice piece);
void hint_reader_close(struct hint_reader *reader);
/* The next entry, borrowed until the next call. ERR_NOT_FOUND: that was all, and it was complete.
 * ERR_CORRUPT, ERR_IO: go back to the segment. */
enum err hint_reader_next(struct hint_reader *reader, struct hint_entry *entry);
/* The next entries, at least one and at most @max, with the same results; @count tells how many. All of them are
 * borrowed until the next call. */
enum err hint_reader_some(struct hint_reader *reader, struct hint_entry *entries, uint32_t max,
                          uint32_t *count);

#endif
