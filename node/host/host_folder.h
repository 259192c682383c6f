/* host_folder.h - the data directory as the operating system sees it: made if missing, ours alone, locked.
 *
 * What the files in it mean is the core's business. */
#ifndef KV_HOST_HOST_FOLDER_H
#define KV_HOST_HOST_FOLDER_H

#include "storage/base/err.h"

#define HOST_FOLDER_MESSAGE_SIZE 512u

/* Opens or makes @path (mode 0700), checks who owns it and who may enter, and locks it through the file LOCK in it. The
 * lock ends with the process, however it ends. Gives two open files, for the caller to close. On an error
 * nothing is left open, both are -1, and @message (HOST_FOLDER_MESSAGE_SIZE) is one line for the operator:
 *   ERR_LOCKED      another process uses it
 *   ERR_PERMISSION  it belongs to someone else, or others may enter
 *   ERR_FOREIGN     it holds other things and was never a data directory of ours; nothing was changed
 *   ERR_NOT_FOUND   the folder above it is missing, or it is no directory
 *   ERR_READ_ONLY, ERR_NOSPACE, ERR_IO */
enum err host_folder_open(const char *path, int *folder, int *lock, char *message);

/* Logs a warning when @folder lies where data does not last: in memory, on a network file system,
 * in a container's own layers. */
void host_folder_warn(int folder, const char *path);

#endif
