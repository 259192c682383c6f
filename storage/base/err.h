/* err.h - the server's only error type.
 *
 * A function that can fail returns an enum err; OK is zero. Codes of other libraries are translated
 * where they enter: those of libc and libuv in node/host/ and client/ctl_*, those of libraft in raft/. */
#ifndef KV_BASE_ERR_H
#define KV_BASE_ERR_H

enum err {
    OK = 0,
    ERR_NOT_FOUND,  /* No such key, file, index or peer. */
    ERR_EXISTS,     /* The thing to be created is there already. */
    ERR_INVALID,    /* Bad input: refused, nothing changed. */
    ERR_TOO_BIG,    /* Over a limit of limits.h or of the configuration. */
    ERR_FULL,       /* A bounded queue is full: try again in a later turn. */
    ERR_AGAIN,      /* Not possible in this state; a later turn may differ. */
    ERR_MORE,       /* The input is a valid beginning; feed more bytes. */
    ERR_CORRUPT,    /* Checksum, chain or structure is wrong: damage, never cut silently. */
    ERR_FOREIGN,    /* Belongs to another cluster, node or shard. */
    ERR_NEWER,      /* Written in a format newer than this program knows. */
    ERR_LOCKED,     /* The data directory is in use by another process. */
    ERR_NOSPACE,    /* The disk is full. */
    ERR_READ_ONLY,  /* The file system is read-only. */
    ERR_PERMISSION, /* The operating system forbids it. */
    ERR_IO,         /* The disk failed. After a failed write or sync the process must end. */
    ERR_NOT_LEADER, /* Refused before anything was proposed: safe to repeat elsewhere. */
    ERR_UNCERTAIN,  /* Proposed, and the outcome is not known: never repeat silently. */
    ERR_CLOSED,     /* The connection or file is closed. */
    ERR_IN_USE,     /* Address already in use. */
    ERR_HANDLES,    /* No more files may be opened: says nothing about the disk or what is on it. */
};

/* The name of @err in lower case words, for log lines. Never NULL. */
const char *err_name(enum err err);

/* The meaning of @code, an errno of a file operation. */
enum err err_of_errno(int code);

/* What the operator does about damage; every refusal to start because of it ends so. */
#define ADVICE_DAMAGED                                                                             \
    "nothing was changed: keep a copy of the data directory; other members go on without "         \
    "this node, see \"A damaged node\" in docs/operations.md"

/* The advice that belongs to a refusal because of @err. Never NULL. */
const char *err_advice(enum err err);

#endif
