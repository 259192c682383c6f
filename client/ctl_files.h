/* ctl_files.h - struct disk over plain system calls, for the commands of kvctl that work on files. No threads: what
 * was submitted is done, in order, when somebody waits for it. A handle is the number of the open file. */
#ifndef KV_CLIENT_CTL_FILES_H
#define KV_CLIENT_CTL_FILES_H

#include "storage/disk.h"

struct ctl_files {
    struct disk disk;
    int folder;            /* names are relative to it; AT_FDCWD: the working directory */
    int lock;              /* of a data directory; -1: none */
    struct disk_op *first; /* submitted and not done, oldest first */
    struct disk_op *last;
};

/* Names are paths. Nothing to close. */
void ctl_files_here(struct ctl_files *files);
/* Opens or makes the data directory @path and locks it as a node does. @is_empty: but for LOCK, RESTORING and what
 * every new file system holds. On an error nothing stays open and @message (512 bytes) says why.
 *   ERR_LOCKED ERR_PERMISSION ERR_NOT_FOUND and other errors of the disk */
enum err ctl_files_open(struct ctl_files *files, const char *path, bool *is_restoring,
                        bool *is_empty, char *message);
void ctl_files_close(struct ctl_files *files);

#endif
