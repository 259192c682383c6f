#include "node/host/host_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "node/host/host_folder.h"
#include "node/host/host_log.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define PATH_SIZE 256u /* names of ours, relative to the data directory */
#define TEMPORARY ".tmp"
#define DIRECT_BLOCK 4096u /* the largest alignment that a disk asks for */
#define DIRECT_PIECE 1048576u
#define OPEN_FLAGS                                                                                 \
    (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) /* a pipe in a file's place must not block */

static enum err result_of(int code)
{
    return code == 0 ? OK : err_of_errno(errno);
}

/* Names come from our own code, never from a peer. */
static void check_name(const char *name)
{
    CHECK(name[0] != 0 && name[0] != '/');
    CHECK(strlen(name) + sizeof TEMPORARY <= PATH_SIZE);
    CHECK(strstr(name, "..") == NULL);
}

/* ---- single steps --------------------------------------------------------------------------------------- */

static enum err write_all(int file, uint64_t offset, struct slice data)
{
    while (data.size > 0) {
        const ssize_t written = pwrite(file, data.data, data.size, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return err_of_errno(errno);
        if (written == 0) return ERR_IO;
        data = slice_of(data.data + written, data.size - (uint64_t)written);
        offset += (uint64_t)written;
    }
    return OK;
}

/* Only being interrupted is no failure: after any other error nobody knows what the disk holds. */
static enum err sync_all(int file)
{
    int code;
    do {
        code = fsync(file);
    } while (code != 0 && errno == EINTR);
    return result_of(code);
}

static enum err sync_data(int file)
{
    int code;
    do {
        code = fdatasync(file);
    } while (code != 0 && errno == EINTR);
    return result_of(code);
}

/* Opens the folder that holds @name; the caller closes it. */
static int open_parent(const struct host_disk *disk, const char *name)
{
    char folder[PATH_SIZE];
    const char *slash = strrchr(name, '/');
    const size_t size = slash != NULL ? (size_t)(slash - name) : 0;
    memcpy(folder, name, size);
    folder[size] = 0;
    return openat(disk->folder, size > 0 ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What happened to the names in the folder of @name survives a power cut from here on. */
static enum err sync_parent(const struct host_disk *disk, const char *name)
{
    const int folder = open_parent(disk, name);
    if (folder < 0) return err_of_errno(errno);
    const enum err err = sync_all(folder);
    (void)close(folder);
    return err;
}

/* Reserves @size bytes without writing them: they read as zeros even after a crash, and a later write to
 * them cannot meet a full disk. */
static enum err reserve(struct host_disk *disk, int file, uint64_t size)
{
    if (size == 0) return OK;
    int code;
    do {
        code = fallocate(file, 0, 0, (off_t)size);
    } while (code != 0 && errno == EINTR);
    if (code == 0) return OK;
    if (errno != EOPNOTSUPP) return err_of_errno(errno);
    if (!atomic_exchange(&disk->is_sparse_warned, true)) {
        host_log_line(2, "this file system cannot reserve space (fallocate): a full disk may be "
                         "noticed only in the middle of a write, and then ends the process");
    }
    return result_of(ftruncate(file, (off_t)size));
}

/* Makes the temporary file of @name with these contents, synced. */
static enum err write_temporary(struct host_disk *disk, const char *temporary, uint64_t size,
                                struct slice data, int *file)
{
    *file = -1;
    if (unlinkat(disk->folder, temporary, 0) != 0 && errno != ENOENT) return err_of_errno(errno);
    const int opened = openat(disk->folder, temporary, O_RDWR | O_CREAT | O_EXCL | OPEN_FLAGS,
                              0600);
    if (opened < 0) return err_of_errno(errno);
    enum err err = reserve(disk, opened, size);
    if (err == OK) err = write_all(opened, 0, data);
    if (err == OK) err = sync_all(opened);
    if (err == OK) {
        *file = opened;
        return OK;
    }
    (void)close(opened);
    (void)unlinkat(disk->folder, temporary, 0);
    return err;
}

static void temporary_name(const char *name, char *temporary)
{
    check_name(name);
    const size_t size = strlen(name);
    memcpy(temporary, name, size);
    memcpy(temporary + size, TEMPORARY, sizeof TEMPORARY);
}

/* Gives @temporary its name, unless the name is taken. */
static enum err rename_new(const struct host_disk *disk, const char *temporary, const char *name)
{
    if (renameat2(disk->folder, temporary, disk->folder, name, RENAME_NOREPLACE) == 0) return OK;
    if (errno != EINVAL && errno != ENOSYS) return err_of_errno(errno);
    /* Some file systems do not know the flag. We are the only writer here: looking first is enough. */
    if (faccessat(disk->folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) return ERR_EXISTS;
    return result_of(renameat(disk->folder, temporary, disk->folder, name));
}

/* ---- the interface -------------------------------------------------------------------------------------- */

static enum err disk_open(void *context, const char *name, bool writable, disk_file *file)
{
    struct host_disk *disk = context;
    struct stat status;
    *file = -1;
    check_name(name);
    const int opened = openat(disk->folder, name, (writable ? O_RDWR : O_RDONLY) | OPEN_FLAGS);
    if (opened < 0) return err_of_errno(errno);
    if (fstat(opened, &status) != 0 || !S_ISREG(status.st_mode)) {
        (void)close(opened);
        return ERR_IO;
    }
    atomic_fetch_add(&disk->open_files, 1);
    *file = opened;
    return OK;
}

static void disk_close(void *context, disk_file file)
{
    struct host_disk *disk = context;
    CHECK(file >= 0);
    CHECK(atomic_fetch_sub(&disk->open_files, 1) > 0);
    /* Everything that matters was synced before; an error of close() says nothing about it. */
    (void)close(file);
}

static enum err disk_size(void *context, disk_file file, uint64_t *size)
{
    struct stat status;
    (void)context;
    if (fstat(file, &status) != 0) return err_of_errno(errno);
    *size = (uint64_t)status.st_size;
    return OK;
}

static enum err disk_read(void *context, disk_file file, uint64_t offset, void *data, uint64_t size)
{
    uint8_t *to = data;
    (void)context;
    while (size > 0) {
        const ssize_t got = pread(file, to, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ERR_IO;
        if (got == 0) return ERR_CORRUPT;
        to += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return OK;
}

static enum err disk_read_now(void *context, disk_file file, uint64_t offset, void *data,
                              uint64_t size)
{
    (void)context;
    struct iovec part = {.iov_base = data, .iov_len = size};
    const ssize_t got = preadv2(file, &part, 1, (off_t)offset, RWF_NOWAIT);
    if (got >= 0 && (uint64_t)got == size) return OK;
    if (got < 0 && errno == EIO) return ERR_IO;
    /* Not or not wholly in the cache, the end of the file, or a file system that cannot say: the lane finds out. */
    return ERR_AGAIN;
}

/* One aligned piece past the cache; *got may be short at the end of the file. False: this file system, or
 * this file's offset, does not know how. */
static bool read_direct(int file, uint64_t offset, uint8_t *piece, uint64_t size, uint64_t *got)
{
    *got = 0;
    while (*got < size) {
        const ssize_t done = pread(file, piece + *got, size - *got, (off_t)(offset + *got));
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        *got += (uint64_t)done;
        /* A short read is the end of the file, and what follows it would not be aligned. */
        if (done == 0 || *got % DIRECT_BLOCK != 0) break;
    }
    return true;
}

static enum err read_pieces(int file, uint64_t offset, uint8_t *to, uint64_t size, uint8_t *piece)
{
    while (size > 0) {
        const uint64_t skip = offset % DIRECT_BLOCK;
        const uint64_t wanted = size < DIRECT_PIECE - skip ? size : DIRECT_PIECE - skip;
        uint64_t got = 0;
        if (!read_direct(file, offset - skip, piece, align_up(skip + wanted, DIRECT_BLOCK), &got)) {
            return errno == EINVAL ? ERR_INVALID : ERR_IO;
        }
        if (got < skip + wanted) return ERR_CORRUPT;
        memcpy(to, piece + skip, wanted);
        to += wanted;
        offset += wanted;
        size -= wanted;
    }
    return OK;
}

/* The open file becomes a direct one for these reads: nobody else uses it meanwhile. */
static enum err disk_read_medium(void *context, disk_file file, uint64_t offset, void *data,
                                 uint64_t size)
{
    void *piece = NULL;
    enum err err = ERR_INVALID;
    const int flags = fcntl(file, F_GETFL);
    if (flags >= 0 && fcntl(file, F_SETFL, flags | O_DIRECT) == 0) {
        if (posix_memalign(&piece, DIRECT_BLOCK, DIRECT_PIECE) == 0) {
            err = read_pieces(file, offset, data, size, piece);
        }
        free(piece);
        (void)fcntl(file, F_SETFL, flags);
    }
    if (err != ERR_INVALID) return err;
    /* Only clean pages are dropped, so those that wait to be written go to the disk first. */
    if (fdatasync(file) != 0 && errno != EINVAL && errno != EROFS) return ERR_IO;
    (void)posix_fadvise(file, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
    return disk_read(context, file, offset, data, size);
}

static enum err disk_write_sync(void *context, disk_file file, uint64_t offset, struct slice data)
{
    (void)context;
    const enum err err = write_all(file, offset, data);
    return err != OK ? err : sync_data(file);
}

static enum err disk_create(void *context, const char *name, uint64_t size, struct slice data,
                            disk_file *file)
{
    struct host_disk *disk = context;
    char temporary[PATH_SIZE];
    int opened;
    *file = -1;
    temporary_name(name, temporary);
    enum err err = write_temporary(disk, temporary, size, data, &opened);
    if (err != OK) return err;
    err = rename_new(disk, temporary, name);
    if (err != OK) (void)unlinkat(disk->folder, temporary, 0);
    if (err == OK) {
        err = sync_parent(disk, name);
        if (err != OK) (void)unlinkat(disk->folder, name, 0);
    }
    if (err != OK) {
        (void)close(opened);
        return err;
    }
    atomic_fetch_add(&disk->open_files, 1);
    *file = opened;
    return OK;
}

static enum err disk_replace(void *context, const char *name, struct slice data)
{
    struct host_disk *disk = context;
    char temporary[PATH_SIZE];
    int opened;
    temporary_name(name, temporary);
    /* First, since a new name that is there and could not be synced would be neither done nor undone. */
    const int folder = open_parent(disk, name);
    if (folder < 0) return err_of_errno(errno);
    enum err err = write_temporary(disk, temporary, 0, data, &opened);
    if (err == OK) {
        (void)close(opened);
        err = result_of(renameat(disk->folder, temporary, disk->folder, name));
        if (err == OK) {
            err = sync_all(folder);
        } else {
            (void)unlinkat(disk->folder, temporary, 0);
        }
    }
    (void)close(folder);
    return err;
}

static enum err disk_rename(void *context, const char *from, const char *to)
{
    const struct host_disk *disk = context;
    check_name(from);
    check_name(to);
    if (renameat(disk->folder, from, disk->folder, to) != 0) return err_of_errno(errno);
    const enum err err = sync_parent(disk, to);
    return err != OK ? err : sync_parent(disk, from);
}

static enum err disk_remove(void *context, const char *name)
{
    const struct host_disk *disk = context;
    check_name(name);
    return result_of(unlinkat(disk->folder, name, 0));
}

static enum err disk_make_folder(void *context, const char *name)
{
    const struct host_disk *disk = context;
    struct stat status;
    check_name(name);
    if (mkdirat(disk->folder, name, 0700) == 0) return sync_parent(disk, name);
    if (errno != EEXIST) return err_of_errno(errno);
    if (fstatat(disk->folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return err_of_errno(errno);
    return S_ISDIR(status.st_mode) ? OK : ERR_EXISTS;
}

static bool is_plain(int folder, const struct dirent *entry)
{
    struct stat status;
    if (entry->d_type != DT_UNKNOWN) return entry->d_type == DT_REG;
    return fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(status.st_mode);
}

static bool is_temporary(const char *name)
{
    const size_t size = strlen(name);
    const size_t end = sizeof TEMPORARY - 1;
    return size > end && strcmp(name + size - end, TEMPORARY) == 0;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;
    return strcmp(*left, *right);
}

/* Sorts the texts in @unsorted, each ended by a zero byte, into @names. */
static void sort_names(const struct buf *unsorted, uint64_t count, struct buf *names)
{
    const char **list = mem_alloc((size_t)count * sizeof *list);
    const char *at = (const char *)unsorted->data;
    for (uint64_t i = 0; i < count; i++) {
        list[i] = at;
        at += strlen(at) + 1;
    }
    qsort(list, (size_t)count, sizeof *list, compare_names);
    for (uint64_t i = 0; i < count; i++) buf_append(names, list[i], strlen(list[i]) + 1);
    mem_free(list);
}

static enum err disk_list(void *context, const char *folder, struct buf *names)
{
    const struct host_disk *disk = context;
    const int opened = openat(disk->folder, folder[0] != 0 ? folder : ".",
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) return err_of_errno(errno);
    DIR *stream = fdopendir(opened);
    if (stream == NULL) {
        (void)close(opened);
        return ERR_IO;
    }
    struct buf unsorted = {0};
    uint64_t count = 0;
    errno = 0;
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        if (!is_plain(opened, entry) || is_temporary(entry->d_name)) continue;
        buf_append(&unsorted, entry->d_name, strlen(entry->d_name) + 1);
        count++;
        errno = 0;
    }
    const enum err err = errno == 0 ? OK : ERR_IO;
    if (err == OK) sort_names(&unsorted, count, names);
    buf_close(&unsorted);
    (void)closedir(stream);
    return err;
}

static enum err disk_space(void *context, uint64_t *available)
{
    const struct host_disk *disk = context;
    struct statvfs status;
    if (fstatvfs(disk->folder, &status) != 0) return err_of_errno(errno);
    *available = (uint64_t)status.f_bavail * status.f_frsize;
    return OK;
}

/* ---- the loop's own calls, watched ---------------------------------------------------------------------- */

static void begin(void *context, const char *what)
{
    struct host_disk *disk = context;
    host_watch_begin(&disk->watch, HOST_WATCH_LOOP, what);
}

static enum err end(void *context, enum err err)
{
    struct host_disk *disk = context;
    host_watch_end(&disk->watch, HOST_WATCH_LOOP);
    return err;
}

static enum err loop_open(void *context, const char *name, bool writable, disk_file *file)
{
    begin(context, "opening a file");
    return end(context, disk_open(context, name, writable, file));
}

static enum err loop_size(void *context, disk_file file, uint64_t *size)
{
    begin(context, "a look at a file's size");
    return end(context, disk_size(context, file, size));
}

static enum err loop_read(void *context, disk_file file, uint64_t offset, void *data, uint64_t size)
{
    begin(context, "a read");
    return end(context, disk_read(context, file, offset, data, size));
}

static enum err loop_read_medium(void *context, disk_file file, uint64_t offset, void *data,
                                 uint64_t size)
{
    begin(context, "a read past the cache");
    return end(context, disk_read_medium(context, file, offset, data, size));
}

static enum err loop_write_sync(void *context, disk_file file, uint64_t offset, struct slice data)
{
    begin(context, "a synced write of a small file, such as term and vote");
    return end(context, disk_write_sync(context, file, offset, data));
}

static enum err loop_create(void *context, const char *name, uint64_t size, struct slice data,
                            disk_file *file)
{
    begin(context, "the making of a file");
    return end(context, disk_create(context, name, size, data, file));
}

static enum err loop_replace(void *context, const char *name, struct slice data)
{
    begin(context, "the replacing of a small file");
    return end(context, disk_replace(context, name, data));
}

static enum err loop_rename(void *context, const char *from, const char *to)
{
    begin(context, "the renaming of a file");
    return end(context, disk_rename(context, from, to));
}

static enum err loop_remove(void *context, const char *name)
{
    begin(context, "the removal of a file");
    return end(context, disk_remove(context, name));
}

static enum err loop_make_folder(void *context, const char *name)
{
    begin(context, "the making of a folder");
    return end(context, disk_make_folder(context, name));
}

static enum err loop_list(void *context, const char *folder, struct buf *names)
{
    begin(context, "the listing of a folder");
    return end(context, disk_list(context, folder, names));
}

static enum err loop_space(void *context, uint64_t *available)
{
    begin(context, "a look at the free space");
    return end(context, disk_space(context, available));
}

/* ---- lanes ---------------------------------------------------------------------------------------------- */

/* Cuts a file to its used size. What fallocate() reserved behind the end, where a file system may do so,
 * goes with it: ftruncate() to a smaller size frees all blocks behind. */
static enum err trim(int file, uint64_t size)
{
    struct stat status;
    if (fstat(file, &status) != 0) return err_of_errno(errno);
    if ((uint64_t)status.st_size <= size) return OK;
    int code;
    do {
        code = ftruncate(file, (off_t)size);
    } while (code != 0 && errno == EINTR);
    return code != 0 ? err_of_errno(errno) : sync_all(file);
}

static enum err read_op(struct host_disk *disk, const struct disk_op *op)
{
    disk_file file = op->file;
    if (file < 0) {
        const enum err err = disk_open(disk, op->name, false, &file);
        if (err != OK) return err;
    }
    const enum err err = disk_read(disk, file, op->offset, op->into, op->size);
    if (op->file < 0) disk_close(disk, file);
    return err;
}

static enum err run_op(struct host_disk *disk, struct disk_op *op)
{
    enum err err = ERR_INVALID;
    switch (op->kind) {
    case DISK_WRITE:
        err = write_all(op->file, op->offset, op->data);
        if (err == OK && op->sync) err = sync_data(op->file);
        return err;
    case DISK_CREATE: return disk_create(disk, op->name, op->size, op->data, &op->file);
    case DISK_REPLACE: return disk_replace(disk, op->name, op->data);
    case DISK_READ: return read_op(disk, op);
    case DISK_REMOVE: return disk_remove(disk, op->name);
    case DISK_TRIM: return trim(op->file, op->size);
    }
    UNREACHABLE();
}

/* The disk serves the bulk lane's thread after everybody else, where its scheduler knows priorities. */
static void give_way(void)
{
    const int lowest_best_effort = 2 << 13 | 7; /* IOPRIO_CLASS_BE, the last of its levels */
    const int this_thread = 1;                  /* IOPRIO_WHO_PROCESS, which means a thread */
    /* Only a wish: the lane is slow by the rate of who uses it. */
    (void)syscall(SYS_ioprio_set, this_thread, 0, lowest_best_effort);
}

/* While no more files can be opened, what needs one is refused as on a full disk: its submitter tries again. */
static enum err without_handles(enum err err)
{
    if (err != ERR_HANDLES) return err;
    host_log_line(
        2, "no more files can be opened: raise the limit of open files (ulimit -n, LimitNOFILE of "
           "systemd); until then writes may be refused");
    return ERR_NOSPACE;
}

static void lane_main(void *argument)
{
    struct host_lane *lane = argument;
    struct host_disk *disk = lane->owner;
    const bool is_log = lane == &disk->lanes[DISK_LANE_LOG];
    if (lane == &disk->lanes[DISK_LANE_BULK]) give_way();
    uv_mutex_lock(&disk->mutex);
    for (;;) {
        while (lane->first == NULL && !disk->is_ending) uv_cond_wait(&lane->work, &disk->mutex);
        struct disk_op *op = lane->first;
        if (op == NULL) break;
        lane->first = op->next;
        uv_mutex_unlock(&disk->mutex);
        if (is_log) host_watch_begin(&disk->watch, HOST_WATCH_LOG, "a write of the log");
        const uint64_t started = uv_hrtime();
        const enum err err = without_handles(run_op(disk, op));
        const uint64_t elapsed = uv_hrtime() - started;
        if (is_log) host_watch_end(&disk->watch, HOST_WATCH_LOG);
        uv_mutex_lock(&disk->mutex);
        op->result = err;
        op->elapsed_us = elapsed / 1000;
        op->next = NULL;
        if (lane->complete == NULL) {
            lane->complete = op;
        } else {
            lane->complete_last->next = op;
        }
        lane->complete_last = op;
        uv_cond_signal(&lane->ready);
        /* Under the mutex: host_disk_close() must not close the handle in between. */
        (void)uv_async_send(&disk->async);
    }
    uv_mutex_unlock(&disk->mutex);
}

static void disk_submit(void *context, struct disk_op *op)
{
    struct host_disk *disk = context;
    CHECK(op->lane < DISK_LANE_COUNT);
    CHECK(op->done != NULL);
    struct host_lane *lane = &disk->lanes[op->lane];
    op->next = NULL;
    uv_mutex_lock(&disk->mutex);
    if (lane->first == NULL) {
        lane->first = op;
    } else {
        lane->last->next = op;
    }
    lane->last = op;
    lane->open_count++;
    uv_cond_signal(&lane->work);
    uv_mutex_unlock(&disk->mutex);
}

/* Reports what is complete in @lane. True: @awaited was among it. */
static bool lane_report(struct host_lane *lane, const struct disk_op *awaited)
{
    bool found = false;
    uv_mutex_lock(&lane->owner->mutex);
    struct disk_op *op = lane->complete;
    lane->complete = NULL;
    for (const struct disk_op *each = op; each != NULL; each = each->next) lane->open_count--;
    uv_mutex_unlock(&lane->owner->mutex);
    while (op != NULL) {
        struct disk_op *next = op->next; /* done may submit the operation again */
        if (op == awaited) found = true;
        op->done(op);
        op = next;
    }
    return found;
}

static void disk_wait(void *context, struct disk_op *op)
{
    struct host_disk *disk = context;
    struct host_lane *lane = &disk->lanes[op->lane];
    while (!lane_report(lane, op)) {
        uv_mutex_lock(&disk->mutex);
        CHECK(lane->open_count > 0);
        begin(disk, "what the loop waits for");
        while (lane->complete == NULL) uv_cond_wait(&lane->ready, &disk->mutex);
        (void)end(disk, OK);
        uv_mutex_unlock(&disk->mutex);
    }
}

static void on_async(uv_async_t *async)
{
    struct host_disk *disk = async->data;
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) (void)lane_report(&disk->lanes[i], NULL);
}

/* What a crash left half made: nothing refers to it, and preallocated it may be large. */
static void sweep_temporaries(int parent, const char *name)
{
    const int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *listing = folder >= 0 ? fdopendir(folder) : NULL;
    if (listing == NULL) {
        if (folder >= 0) close(folder);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) {
        if (is_temporary(entry->d_name)) (void)unlinkat(folder, entry->d_name, 0);
    }
    closedir(listing);
}

static void sweep(const struct host_disk *disk)
{
    sweep_temporaries(disk->folder, ".");
    sweep_temporaries(disk->folder, "shard-0000");
    sweep_temporaries(disk->folder, "shard-0000/incoming");
}

enum err host_disk_open(struct host_disk *disk, const char *path, char *message)
{
    *disk = (struct host_disk){
        .disk =
            {
                .context = disk,
                .open = loop_open,
                .close = disk_close,
                .size = loop_size,
                .read = loop_read,
                .read_medium = loop_read_medium,
                .read_now = disk_read_now,
                .write_sync = loop_write_sync,
                .create = loop_create,
                .replace = loop_replace,
                .rename = loop_rename,
                .remove = loop_remove,
                .make_folder = loop_make_folder,
                .list = loop_list,
                .space = loop_space,
                .submit = disk_submit,
                .wait = disk_wait,
            },
    };
    disk->path = path;
    const enum err err = host_folder_open(path, &disk->folder, &disk->lock, message);
    if (err == OK) sweep(disk);
    return err;
}

enum err host_disk_start(struct host_disk *disk, uv_loop_t *loop)
{
    CHECK(!disk->is_running);
    if (uv_mutex_init(&disk->mutex) != 0) return ERR_IO;
    if (uv_async_init(loop, &disk->async, on_async) != 0) return ERR_IO;
    disk->async.data = disk;
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) {
        struct host_lane *lane = &disk->lanes[i];
        *lane = (struct host_lane){.owner = disk};
        if (uv_cond_init(&lane->work) != 0 || uv_cond_init(&lane->ready) != 0) return ERR_IO;
        if (uv_thread_create(&lane->thread, lane_main, lane) != 0) return ERR_IO;
    }
    disk->is_running = true;
    return host_watch_start(&disk->watch, disk->path) ? OK : ERR_IO;
}

static void stop_lanes(struct host_disk *disk)
{
    uv_mutex_lock(&disk->mutex);
    disk->is_ending = true;
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) uv_cond_signal(&disk->lanes[i].work);
    uv_mutex_unlock(&disk->mutex);
    for (uint32_t i = 0; i < DISK_LANE_COUNT; i++) {
        (void)uv_thread_join(&disk->lanes[i].thread);
        (void)lane_report(&disk->lanes[i], NULL);
        uv_cond_destroy(&disk->lanes[i].work);
        uv_cond_destroy(&disk->lanes[i].ready);
    }
    uv_close((uv_handle_t *)&disk->async, NULL);
    uv_mutex_destroy(&disk->mutex);
    disk->is_running = false;
}

void host_disk_close(struct host_disk *disk)
{
    if (disk->is_running) stop_lanes(disk);
    host_watch_stop(&disk->watch); /* The last operations may hang as well. */
    if (disk->lock >= 0) (void)close(disk->lock);
    if (disk->folder >= 0) (void)close(disk->folder);
    disk->lock = -1;
    disk->folder = -1;
}
