/* fuzz_dump.c - any bytes as a file of a data directory or a backup, to kvctl dump: it must say something and end. The
 * first byte chooses the kind of file, the others are the file. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/ctl_dump.h"
#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err bytes_read(void *context, disk_file file, uint64_t offset, void *to, uint64_t size)
{
    const struct slice *bytes = context;
    (void)file;
    if (offset > bytes->size || size > bytes->size - offset) return ERR_CORRUPT;
    memcpy(to, bytes->data + offset, size);
    return OK;
}

static void dump(struct slice bytes, const char *name)
{
    struct disk disk = {.context = &bytes, .read = bytes_read};
    for (int i = 0; i < 2; i++) {
        struct ctl_dump dump = {
            .disk = &disk, .size = bytes.size, .path = name, .json = i == 1, .values = true};
        ctl_dump_file(&dump, name);
    }
}

/* Makes the checksum of a record's header right, where it can be one. */
static void mend_records(uint8_t *group, uint64_t size)
{
    uint64_t at = GROUP_HEADER_SIZE;
    while (at + RECORD_HEADER_SIZE <= size) {
        const uint64_t record = get_u32(group + at + 8);
        if (record < RECORD_HEADER_SIZE || record > size - at) return;
        put_u64(group + at, hash64(group + at + 8, record - 8));
        at += record;
    }
}

/* Makes the checksums of a segment right, so that what is behind them is reached. */
static void mend_segment(struct buf *bytes)
{
    if (bytes->size < SEGMENT_BLOCK_SIZE) return;
    put_u64(bytes->data + 56, hash64(bytes->data, 56));
    for (uint64_t at = SEGMENT_BLOCK_SIZE; at + GROUP_HEADER_SIZE <= bytes->size;
         at += SEGMENT_BLOCK_SIZE) {
        uint8_t *group = bytes->data + at;
        const uint64_t used = get_u32(group + 4);
        if (memcmp(group, "KVGR", 4) != 0) continue;
        if (used < GROUP_HEADER_SIZE + GROUP_FOOTER_SIZE || used > bytes->size - at) continue;
        put_u32(group + 40, get_u32(bytes->data + 32));
        put_u64(group + 56, hash64(group, 56));
        mend_records(group, used - GROUP_FOOTER_SIZE);
        const struct hash128 chain = hash128(group, used - GROUP_FOOTER_SIZE);
        put_u64(group + used - GROUP_FOOTER_SIZE, chain.low);
        put_u64(group + used - GROUP_FOOTER_SIZE + 8, chain.high);
    }
}

static void mend_hint(struct buf *bytes)
{
    if (bytes->size < 80) return;
    put_u64(bytes->data + 72, bytes->size);
    put_u64(bytes->data, hash64(bytes->data + 8, 72));
    const uint64_t file_id = get_u64(bytes->data + 32);
    for (uint64_t at = 80; at + 16 <= bytes->size;) {
        const uint64_t size = get_u32(bytes->data + at + 8);
        if (size < 16 || size > bytes->size - at) return;
        put_u64(bytes->data + at,
                hash64_seeded(bytes->data + at + 8, size - 8, file_id ^ (at << 32) ^ at));
        at += size;
    }
}

static void mend_small(struct buf *bytes)
{
    if (bytes->size < 24) return;
    put_u32(bytes->data + 12, (uint32_t)bytes->size);
    put_u64(bytes->data + bytes->size - 8, hash64(bytes->data, bytes->size - 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *name;
        void (*mend)(struct buf *bytes);
    } kinds[] = {{"00000001.log", mend_segment},
                 {"00000001.tab", mend_segment},
                 {"00000001.idx", mend_hint},
                 {"MANIFEST", mend_small},
                 {"identity", mend_small},
                 {"peers", mend_small},
                 {"QUARANTINE", mend_small},
                 {"vote", NULL},
                 {"a.backup", NULL},
                 {"unknown", NULL}};
    static FILE *nowhere;
    if (size == 0) return 0;
    if (nowhere == NULL) nowhere = fopen("/dev/null", "w");
    CHECK(nowhere != NULL);
    FILE *kept = stdout;
    stdout = nowhere;
    const uint32_t kind = data[0] % (sizeof kinds / sizeof kinds[0]);
    dump(slice_of(data + 1, size - 1), kinds[kind].name);
    if (kinds[kind].mend != NULL) {
        struct buf copy = {0};
        buf_append(&copy, data + 1, size - 1);
        kinds[kind].mend(&copy);
        dump(buf_slice(&copy), kinds[kind].name);
        buf_close(&copy);
    }
    stdout = kept;
    return 0;
}
