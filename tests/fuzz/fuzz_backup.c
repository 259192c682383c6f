/* fuzz_backup.c - any bytes as a backup: read, verified, and what it says of its files is kept. */
#include <stddef.h>
#include <stdint.h>

#include "storage/backup.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err bytes_read(void *context, disk_file file, uint64_t offset, void *to, uint64_t size)
{
    const struct slice *bytes = context;
    (void)file;
    if (offset > bytes->size || size > bytes->size - offset) return ERR_CORRUPT;
    memcpy(to, bytes->data + offset, size);
    return OK;
}

static void check_backup(struct slice bytes)
{
    struct disk disk = {.context = &bytes, .read = bytes_read};
    struct backup backup;
    struct backup_facts facts;
    const char *wrong = NULL;
    uint64_t file = 0;
    uint64_t at = 0;
    backup_init(&backup, &disk, 0);
    enum err err = backup_load(&backup, bytes.size, &wrong, &at);
    CHECK(wrong != NULL);
    CHECK(at <= bytes.size);
    if (err == OK) {
        CHECK(backup.size == bytes.size);
        uint64_t pieces = 0;
        for (uint32_t i = 0; i < backup.file_count; i++) pieces += backup.files[i].piece_count;
        CHECK(pieces == backup.piece_count);
        err = backup_verify(&backup, &facts, &wrong, &file, &at);
        CHECK(wrong != NULL);
    }
    backup_close(&backup);
}

/* Makes the checksums right, so that what is behind them is reached. */
static void mend(struct buf *bytes)
{
    uint8_t *data = bytes->data;
    const uint64_t end = bytes->size - BACKUP_TRAILER_SIZE;
    uint64_t chain = hash64(data, 56);
    uint64_t count = 0;
    uint64_t total = 0;
    put_u64(data + 56, chain);
    for (uint64_t at = BACKUP_HEADER_SIZE; at + BACKUP_PIECE_HEADER_SIZE <= end;) {
        const uint64_t size = get_u32(data + at + 4);
        const uint64_t rest = end - at - BACKUP_PIECE_HEADER_SIZE;
        if (size == 0 || align_up(size, 8) > rest) break;
        const uint8_t *piece = data + at + BACKUP_PIECE_HEADER_SIZE;
        put_u64(data + at + 24, hash64_seeded(piece, size, hash64(data + at, 24)));
        chain = hash64_seeded(data + at, BACKUP_PIECE_HEADER_SIZE, chain);
        at += BACKUP_PIECE_HEADER_SIZE + align_up(size, 8);
        count++;
        total += size;
    }
    put_u64(data + end + 8, count);
    put_u64(data + end + 16, total);
    put_u64(data + end + 40, bytes->size);
    put_u64(data + end + 48, chain);
    put_u64(data + end + 56, hash64(data + end, 56));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_backup(slice_of(data, size));
    if (size < BACKUP_HEADER_SIZE + BACKUP_TRAILER_SIZE) return 0;
    struct buf copy = {0};
    buf_append(&copy, data, size);
    mend(&copy);
    check_backup(buf_slice(&copy));
    buf_close(&copy);
    return 0;
}
