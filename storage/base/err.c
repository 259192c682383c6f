#include "storage/base/err.h"

#include <errno.h>

const char *err_name(enum err err)
{
    switch (err) {
    case OK: return "ok";
    case ERR_NOT_FOUND: return "not found";
    case ERR_EXISTS: return "exists already";
    case ERR_INVALID: return "invalid";
    case ERR_TOO_BIG: return "too big";
    case ERR_FULL: return "queue full";
    case ERR_AGAIN: return "not possible now";
    case ERR_MORE: return "incomplete";
    case ERR_CORRUPT: return "damaged";
    case ERR_FOREIGN: return "belongs to another cluster or node";
    case ERR_NEWER: return "written by a newer version";
    case ERR_LOCKED: return "in use by another process";
    case ERR_NOSPACE: return "no space left on the disk";
    case ERR_READ_ONLY: return "read-only file system";
    case ERR_PERMISSION: return "permission denied";
    case ERR_IO: return "disk input/output error";
    case ERR_NOT_LEADER: return "not the leader";
    case ERR_UNCERTAIN: return "outcome unknown";
    case ERR_CLOSED: return "closed";
    case ERR_IN_USE: return "address in use";
    case ERR_HANDLES: return "too many open files";
    }
    return "unknown error";
}

enum err err_of_errno(int code)
{
    switch (code) {
    case ENOENT:
    case ENOTDIR: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT: return ERR_NOSPACE;
    case EROFS: return ERR_READ_ONLY;
    case EACCES:
    case EPERM: return ERR_PERMISSION;
    case EMFILE:
    case ENFILE: return ERR_HANDLES;
    default: return ERR_IO;
    }
}

const char *err_advice(enum err err)
{
    switch (err) {
    case ERR_FOREIGN: return "nothing was changed: check which data directory this is";
    case ERR_NEWER: return "nothing was changed: start the newer version that wrote it";
    case ERR_CORRUPT: return ADVICE_DAMAGED;
    case ERR_HANDLES:
        return "nothing was changed: this process may not open enough files, and needs one for "
               "each "
               "data file and connection: raise the limit (ulimit -n, LimitNOFILE)";
    case ERR_NOSPACE: return "free space on this file system and start again";
    default: return err_name(err);
    }
}
