#include "tests/storage/golden_pack.h"

#include <stdio.h>

static bool is_zero(const uint8_t *at, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        if (at[i] != 0) return false;
    }
    return true;
}

static void pack_file(struct slice file, struct buf *out)
{
    const uint64_t count_at = out->size;
    uint32_t count = 0;
    buf_u32(out, 0);
    for (uint64_t at = 0; at < file.size; at += SIM_DISK_SECTOR_SIZE) {
        const uint64_t rest = file.size - at;
        const uint64_t size = rest < SIM_DISK_SECTOR_SIZE ? rest : SIM_DISK_SECTOR_SIZE;
        if (is_zero(file.data + at, size)) continue;
        buf_u64(out, at);
        buf_sized(out, slice_of(file.data + at, size));
        count++;
    }
    put_u32(out->data + count_at, count);
}

void golden_pack(const struct sim_disk *disk, struct buf *out)
{
    struct buf names = {0};
    sim_disk_names(disk, &names);
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        const struct slice file = sim_disk_file(disk, name);
        at += strlen(name) + 1;
        buf_sized(out, slice_text(name));
        buf_u64(out, file.size);
        pack_file(file, out);
    }
    buf_close(&names);
}

bool golden_unpack(struct slice pack, struct sim_disk *disk)
{
    struct reader reader = reader_of(pack);
    while (!reader.bad && reader.at < reader.end) {
        char name[SIM_DISK_NAME_MAX + 1] = {0};
        const struct slice text = reader_sized(&reader);
        const uint64_t size = reader_u64(&reader);
        if (reader.bad || text.size > SIM_DISK_NAME_MAX || size > 1u << 20) return false;
        memcpy(name, text.data, text.size);
        struct buf bytes = {0};
        if (size > 0) memset(buf_extend(&bytes, size), 0, size);
        for (uint32_t runs = reader_u32(&reader); runs > 0 && !reader.bad; runs--) {
            const uint64_t offset = reader_u64(&reader);
            const struct slice run = reader_sized(&reader);
            if (run.size > size || offset > size - run.size) reader.bad = true;
            if (!reader.bad) memcpy(bytes.data + offset, run.data, run.size);
        }
        if (!reader.bad) sim_disk_put(disk, name, buf_slice(&bytes));
        buf_close(&bytes);
    }
    return !reader.bad;
}

bool golden_read(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    char part[4096];
    for (size_t got = sizeof part; got == sizeof part;) {
        got = fread(part, 1, sizeof part, file);
        buf_append(out, part, got);
    }
    const bool good = ferror(file) == 0;
    return fclose(file) == 0 && good;
}

bool golden_write(const char *path, struct slice bytes)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL) return false;
    const bool good = fwrite(bytes.data, 1, bytes.size, file) == bytes.size;
    return fclose(file) == 0 && good;
}
