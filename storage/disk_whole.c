#include "storage/disk.h"

enum err disk_read_whole(struct disk *disk, const char *name, uint64_t size_max, struct buf *bytes)
{
    disk_file file = -1;
    uint64_t size = 0;
    enum err err = disk->open(disk->context, name, false, &file);
    if (err != OK) return err;
    err = disk->size(disk->context, file, &size);
    if (err == OK && size > size_max) err = ERR_CORRUPT;
    if (err == OK) err = disk->read(disk->context, file, 0, buf_extend(bytes, size), size);
    disk->close(disk->context, file);
    return err;
}
