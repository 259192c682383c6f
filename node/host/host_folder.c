#include "node/host/host_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "node/host/host_log.h"

#define LOCK_NAME "LOCK"
/* A process that was just killed keeps its locks until the kernel has taken all of it apart: a second. */
#define LOCK_TRIES 50u
#define LOCK_PAUSE_US 20000u
#define IDENTITY_NAME "identity" /* what the core puts into every data directory */
#define NFS_MAGIC 0x6969
#define SMB_MAGIC 0x517b
#define CIFS_MAGIC 0xff534d42u
#define SMB2_MAGIC 0xfe534d42u

#define SAY(...) (void)snprintf(message, HOST_FOLDER_MESSAGE_SIZE, __VA_ARGS__)

/* Makes @path and lets its name survive a power cut. */
static enum err make(const char *path, char *message)
{
    if (mkdir(path, 0700) != 0) {
        const int code = errno;
        if (code == EEXIST) return OK;
        SAY("data: cannot make %s: %s", path, strerror(code));
        return err_of_errno(code);
    }
    const int made = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int above = made >= 0 ? openat(made, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    enum err err = OK;
    if (above < 0 || fsync(above) != 0) {
        /* A folder above that we may pass but not read cannot be synced; nothing depends on it yet. */
        err = errno == EACCES || errno == EINVAL ? OK : err_of_errno(errno);
        if (err != OK) SAY("data: cannot make %s: %s", path, strerror(errno));
    }
    if (above >= 0) (void)close(above);
    if (made >= 0) (void)close(made);
    return err;
}

/* What is in the folder, but for the LOCK and what every new file system holds. */
static enum err look(int folder, bool *is_empty, bool *is_ours)
{
    const int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
    *is_empty = true;
    *is_ours = false;
    if (stream == NULL) {
        const enum err err = err_of_errno(errno);
        if (copy >= 0) (void)close(copy);
        return err;
    }
    errno = 0;
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        const char *name = entry->d_name;
        if (strcmp(name, LOCK_NAME) == 0 || strcmp(name, IDENTITY_NAME) == 0) *is_ours = true;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (strcmp(name, "lost+found") == 0) continue;
        *is_empty = false;
    }
    const enum err err = errno == 0 ? OK : ERR_IO;
    (void)closedir(stream);
    return err;
}

static enum err check_owner(int folder, const char *path, char *message)
{
    struct stat status;
    bool is_empty;
    bool is_ours;
    if (fstat(folder, &status) != 0 || look(folder, &is_empty, &is_ours) != OK) {
        SAY("data: cannot read %s: %s", path, strerror(errno));
        return ERR_IO;
    }
    if (status.st_uid != geteuid()) {
        SAY("data: %s belongs to user %u, this process runs as user %u: start it as that user, or "
            "chown -R it",
            path, (unsigned)status.st_uid, (unsigned)geteuid());
        return ERR_PERMISSION;
    }
    if (!is_empty && !is_ours) {
        SAY("data: %s is not empty and is no data directory of kvnode: choose another", path);
        return ERR_FOREIGN;
    }
    if ((status.st_mode & 077) == 0) return OK;
    /* An empty folder made by hand or by a container's start is simply closed to others. */
    if (is_empty && fchmod(folder, 0700) == 0) return OK;
    SAY("data: others may enter %s (mode %04o), and could have changed it: look, then chmod 700 it",
        path, (unsigned)status.st_mode & 07777u);
    return ERR_PERMISSION;
}

static enum err take_lock(int folder, const char *path, int *lock, char *message)
{
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    const int opened = openat(folder, LOCK_NAME, flags, 0600);
    if (opened < 0) {
        const int code = errno;
        SAY("data: cannot write to %s: %s", path, strerror(code));
        return err_of_errno(code);
    }
    int code = flock(opened, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    for (uint32_t i = 0; code == EWOULDBLOCK && i < LOCK_TRIES; i++) {
        (void)usleep(LOCK_PAUSE_US);
        code = flock(opened, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    }
    if (code != 0) {
        (void)close(opened);
        if (code == EWOULDBLOCK) {
            SAY("data: %s is in use by another process: each node needs a data directory of its "
                "own",
                path);
            return ERR_LOCKED;
        }
        SAY("data: cannot lock %s: %s", path, strerror(code));
        return ERR_IO;
    }
    *lock = opened;
    return OK;
}

void host_folder_warn(int folder, const char *path)
{
    struct statfs status;
    if (fstatfs(folder, &status) != 0) return;
    if (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC) {
        host_log_printf(
            2, "data: %s is in memory: nothing in it survives a restart of this machine", path);
    } else if (status.f_type == NFS_MAGIC || status.f_type == SMB_MAGIC ||
               (uint32_t)status.f_type == CIFS_MAGIC || (uint32_t)status.f_type == SMB2_MAGIC) {
        host_log_printf(
            2,
            "data: %s is on a network file system, whose locks and syncs may not hold: use a local "
            "disk",
            path);
    } else if (status.f_type == OVERLAYFS_SUPER_MAGIC) {
        host_log_printf(
            2, "data: %s is in the layers of a container and goes with it: put it on a volume",
            path);
    }
}

enum err host_folder_open(const char *path, int *folder, int *lock, char *message)
{
    *folder = -1;
    *lock = -1;
    enum err err = make(path, message);
    if (err != OK) return err;
    const int opened = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) {
        const int code = errno;
        SAY("data: cannot open %s: %s", path, strerror(code));
        return err_of_errno(code);
    }
    err = check_owner(opened, path, message);
    if (err == OK) err = take_lock(opened, path, lock, message);
    if (err != OK) {
        (void)close(opened);
        return err;
    }
    *folder = opened;
    return OK;
}
