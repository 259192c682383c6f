#include "client/ctl_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "node/identity.h"

#define NAME_SIZE 512u
#define LOCK_NAME "LOCK"

static int folder_of(void *context)
{
    return ((const struct ctl_files *)context)->folder;
}

/* ---- one file -------------------------------------------------------------------------------- */

static enum err files_open(void *context, const char *name, bool writable, disk_file *file)
{
    *file = openat(folder_of(context), name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    return *file >= 0 ? OK : err_of_errno(errno);
}

static void files_close(void *context, disk_file file)
{
    (void)context;
    (void)close(file);
}

static enum err files_size(void *context, disk_file file, uint64_t *size)
{
    struct stat status;
    (void)context;
    if (fstat(file, &status) != 0) return err_of_errno(errno);
    *size = (uint64_t)status.st_size;
    return S_ISDIR(status.st_mode) ? ERR_NOT_FOUND : OK;
}

static enum err files_read(void *context, disk_file file, uint64_t offset, void *data,
                           uint64_t size)
{
    uint8_t *at = data;
    (void)context;
    while (size > 0) {
        const ssize_t got = pread(file, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ERR_IO;
        if (got == 0) return ERR_CORRUPT;
        at += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return OK;
}

static enum err write_all(int file, uint64_t offset, struct slice data)
{
    while (data.size > 0) {
        const ssize_t put = pwrite(file, data.data, data.size, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return err_of_errno(errno);
        data = slice_of(data.data + put, data.size - (uint64_t)put);
        offset += (uint64_t)put;
    }
    return OK;
}

static enum err files_write_sync(void *context, disk_file file, uint64_t offset, struct slice data)
{
    (void)context;
    const enum err err = write_all(file, offset, data);
    if (err != OK) return err;
    return fdatasync(file) == 0 ? OK : err_of_errno(errno);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Makes the entries of the folder that @name is in durable. */
static enum err sync_folder(int folder, const char *name)
{
    char path[NAME_SIZE];
    const char *slash = strrchr(name, '/');
    const int size = slash != NULL && slash != name ? (int)(slash - name) : 1;
    (void)snprintf(path, sizeof path, "%.*s", size, slash != NULL ? name : ".");
    const int opened = openat(folder, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) return err_of_errno(errno);
    const enum err err = fsync(opened) == 0 ? OK : err_of_errno(errno);
    (void)close(opened);
    return err;
}

static bool exists(int folder, const char *name)
{
    struct stat status;
    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A file under the name NAME.tmp, with @size bytes reserved and @data at its start, synced. */
static enum err make_temporary(int folder, const char *name, uint64_t size, struct slice data,
                               char temporary[NAME_SIZE], int *file)
{
    if (snprintf(temporary, NAME_SIZE, "%s.tmp", name) >= (int)NAME_SIZE) return ERR_INVALID;
    *file = openat(folder, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*file < 0) return err_of_errno(errno);
    enum err err = OK;
    if (size > 0) {
        const int code = posix_fallocate(*file, 0, (off_t)size);
        if (code == EOPNOTSUPP || code == EINVAL) {
            err = ftruncate(*file, (off_t)size) == 0 ? OK : err_of_errno(errno);
        } else if (code != 0) {
            err = err_of_errno(code);
        }
    }
    if (err == OK) err = write_all(*file, 0, data);
    if (err == OK && fsync(*file) != 0) err = err_of_errno(errno);
    if (err == OK) return OK;
    (void)close(*file);
    (void)unlinkat(folder, temporary, 0);
    return err;
}

static enum err files_create(void *context, const char *name, uint64_t size, struct slice data,
                             disk_file *file)
{
    char temporary[NAME_SIZE];
    const int folder = folder_of(context);
    *file = -1;
    if (exists(folder, name)) return ERR_EXISTS;
    enum err err = make_temporary(folder, name, size, data, temporary, file);
    if (err != OK) return err;
    err = renameat(folder, temporary, folder, name) == 0 ? OK : err_of_errno(errno);
    if (err == OK) err = sync_folder(folder, name);
    if (err == OK) return OK;
    (void)close(*file);
    *file = -1;
    return err;
}

static enum err files_replace(void *context, const char *name, struct slice data)
{
    char temporary[NAME_SIZE];
    const int folder = folder_of(context);
    int file = -1;
    enum err err = make_temporary(folder, name, 0, data, temporary, &file);
    if (err != OK) return err;
    (void)close(file);
    err = renameat(folder, temporary, folder, name) == 0 ? OK : err_of_errno(errno);
    return err == OK ? sync_folder(folder, name) : err;
}

static enum err files_rename(void *context, const char *from, const char *to)
{
    const int folder = folder_of(context);
    if (renameat(folder, from, folder, to) != 0) return err_of_errno(errno);
    const enum err err = sync_folder(folder, to);
    return err == OK ? sync_folder(folder, from) : err;
}

static enum err files_remove(void *context, const char *name)
{
    return unlinkat(folder_of(context), name, 0) == 0 ? OK : err_of_errno(errno);
}

static enum err files_make_folder(void *context, const char *name)
{
    const int folder = folder_of(context);
    if (mkdirat(folder, name, 0700) != 0) return errno == EEXIST ? OK : err_of_errno(errno);
    return sync_folder(folder, name);
}

/* Opens the folder @name in @folder to read its entries; closedir() closes it. NULL on an error. */
static enum err open_stream(int folder, const char *name, DIR **stream)
{
    const int opened = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *stream = opened >= 0 ? fdopendir(opened) : NULL;
    if (*stream != NULL) return OK;
    const enum err err = err_of_errno(errno);
    if (opened >= 0) (void)close(opened);
    return err;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err files_list(void *context, const char *name, struct buf *names)
{
    struct buf found = {0};
    uint32_t count = 0;
    DIR *stream = NULL;
    const enum err opened = open_stream(folder_of(context), name, &stream);
    if (stream == NULL) return opened;
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        struct stat status;
        if (fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!S_ISREG(status.st_mode)) continue;
        buf_append(&found, entry->d_name, strlen(entry->d_name) + 1);
        count++;
    }
    (void)closedir(stream);
    char **list = calloc(count > 0 ? count : 1, sizeof *list);
    char *at = (char *)found.data;
    for (uint32_t i = 0; list != NULL && i < count; i++, at += strlen(at) + 1) list[i] = at;
    if (list != NULL) qsort(list, count, sizeof *list, by_name);
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        buf_append(names, list[i], strlen(list[i]) + 1);
    }
    const enum err err = list != NULL ? OK : ERR_IO;
    free(list);
    buf_close(&found);
    return err;
}

static enum err files_space(void *context, uint64_t *available)
{
    struct statvfs status;
    const int opened = openat(folder_of(context), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) return err_of_errno(errno);
    const enum err err = fstatvfs(opened, &status) == 0 ? OK : err_of_errno(errno);
    (void)close(opened);
    if (err == OK) *available = (uint64_t)status.f_bavail * (uint64_t)status.f_frsize;
    return err;
}

/* ---- submitted operations -------------------------------------------------------------------- */

static void run(void *context, struct disk_op *op)
{
    struct stat status;
    switch (op->kind) {
    case DISK_WRITE:
        op->result = write_all(op->file, op->offset, op->data);
        if (op->result == OK && op->sync && fdatasync(op->file) != 0)
            op->result = err_of_errno(errno);
        break;
    case DISK_CREATE:
        op->result = files_create(context, op->name, op->size, op->data, &op->file);
        break;
    case DISK_REPLACE: op->result = files_replace(context, op->name, op->data); break;
    case DISK_READ:
        op->result = files_read(context, op->file, op->offset, op->into, op->size);
        break;
    case DISK_REMOVE: op->result = files_remove(context, op->name); break;
    case DISK_TRIM:
        op->result = OK;
        if (fstat(op->file, &status) != 0) {
            op->result = err_of_errno(errno);
        } else if ((uint64_t)status.st_size > op->size &&
                   (ftruncate(op->file, (off_t)op->size) != 0 || fsync(op->file) != 0)) {
            op->result = err_of_errno(errno);
        }
        break;
    }
    op->done(op);
}

static void files_submit(void *context, struct disk_op *op)
{
    struct ctl_files *files = context;
    op->next = NULL;
    if (files->first == NULL) files->first = op;
    if (files->last != NULL) files->last->next = op;
    files->last = op;
}

static void files_wait(void *context, struct disk_op *op)
{
    struct ctl_files *files = context;
    struct disk_op *next = NULL;
    while (next != op && files->first != NULL) {
        next = files->first;
        files->first = next->next;
        if (files->first == NULL) files->last = NULL;
        run(context, next);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static void init(struct ctl_files *files, int folder)
{
    *files = (struct ctl_files){.folder = folder, .lock = -1};
    files->disk = (struct disk){
        .context = files,
        .open = files_open,
        .close = files_close,
        .size = files_size,
        .read = files_read,
        .read_now = files_read,
        .read_medium = files_read,
        .write_sync = files_write_sync,
        .create = files_create,
        .replace = files_replace,
        .rename = files_rename,
        .remove = files_remove,
        .make_folder = files_make_folder,
        .list = files_list,
        .space = files_space,
        .submit = files_submit,
        .wait = files_wait,
    };
}

void ctl_files_here(struct ctl_files *files)
{
    init(files, AT_FDCWD);
}

static enum err look(int folder, bool *is_restoring, bool *is_empty)
{
    DIR *stream = NULL;
    *is_restoring = false;
    *is_empty = true;
    const enum err err = open_stream(folder, ".", &stream);
    if (stream == NULL) return err;
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        const char *name = entry->d_name;
        if (strcmp(name, IDENTITY_RESTORING_FILE) == 0) *is_restoring = true;
        const bool counts = strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
                            strcmp(name, LOCK_NAME) != 0 && strcmp(name, "lost+found") != 0 &&
                            strncmp(name, IDENTITY_RESTORING_FILE,
                                    strlen(IDENTITY_RESTORING_FILE)) != 0; /* .tmp, too */
        if (counts) *is_empty = false;
    }
    (void)closedir(stream);
    return OK;
}

static enum err refuse(struct ctl_files *files, enum err err, char *message, const char *path,
                       const char *what)
{
    (void)snprintf(message, 512, "%s %.300s: %s", what, path, err_name(err));
    ctl_files_close(files);
    return err;
}

enum err ctl_files_open(struct ctl_files *files, const char *path, bool *is_restoring,
                        bool *is_empty, char *message)
{
    struct stat status;
    init(files, -1);
    if (mkdir(path, 0700) == 0) {
        const enum err err = sync_folder(AT_FDCWD, path);
        if (err != OK) return refuse(files, err, message, path, "cannot make");
    } else if (errno != EEXIST) {
        const enum err err = err_of_errno(errno);
        (void)refuse(files, err, message, path, "cannot make");
        if (err == ERR_NOT_FOUND) {
            (void)snprintf(message, 512, "cannot make %.300s: the folder above it does not exist",
                           path);
        }
        return err;
    }
    files->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->folder < 0) return refuse(files, err_of_errno(errno), message, path, "cannot open");
    const enum err err = look(files->folder, is_restoring, is_empty);
    if (err != OK) return refuse(files, err, message, path, "cannot read");
    if (!*is_empty && !*is_restoring) return OK; /* The caller refuses: nothing is touched. */
    if (fstat(files->folder, &status) != 0 || status.st_uid != geteuid()) {
        return refuse(files, ERR_PERMISSION, message, path, "somebody else owns");
    }
    if ((status.st_mode & 077) != 0 && fchmod(files->folder, 0700) != 0) {
        return refuse(files, err_of_errno(errno), message, path, "cannot close to others");
    }
    files->lock = openat(files->folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (files->lock < 0) return refuse(files, err_of_errno(errno), message, path, "cannot lock");
    if (flock(files->lock, LOCK_EX | LOCK_NB) != 0) {
        return refuse(files, ERR_LOCKED, message, path, "another process uses");
    }
    return OK;
}

void ctl_files_close(struct ctl_files *files)
{
    if (files->lock >= 0) (void)close(files->lock);
    if (files->folder >= 0) (void)close(files->folder);
    files->lock = -1;
    files->folder = -1;
}
