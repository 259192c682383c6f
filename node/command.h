/* command.h - the command table and what a command's function may use.
 *
 * A command is one row of the table (command_table.c) and one function (cmd_*.c). The function reads keys and adds
 * effects through eval_* and writes its reply; it never waits. What it read and wrote decides when the reply may
 * leave, which eval tracks by itself. */
#ifndef KV_NODE_COMMAND_H
#define KV_NODE_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "client/resp.h"
#include "node/batch.h"
#include "node/families.h"
#include "node/session.h"
#include "storage/keydir.h"

struct core;
struct shard;

enum command_flag {
    CMD_LOCAL = 1,     /* Answered by the node that the client talks to; no keys, no leader. */
    CMD_READ = 2,      /* Linearizable read: confirmed by a read round. */
    CMD_WRITE = 4,     /* May add effects. */
    CMD_APPLIED = 8,   /* Looks at all applied keys: waits until all before it is applied. */
    CMD_FREES = 16,    /* A write that is still taken when the disk is full. */
    CMD_FAST = 32,     /* For COMMAND INFO: constant or logarithmic time. */
    CMD_EXPIRY = 128,  /* A write that adds no key: still taken when the index is full. */
    CMD_TOPOLOGY = 64, /* Local, but waits for a leader to be known: it becomes clients' map. */
    CMD_HERE = 256, /* A read that any node answers from its own applied keys (node/readindex.h). */
    CMD_ALONE = 512,   /* Not as a part of a transaction. */
    CMD_LEADER = 1024, /* A read that means nothing on a node that does not lead. */
    CMD_STREAM = 2048, /* CMD_HERE in slices (stream.h); the function is for who cannot wait. */
    CMD_BLOCKS = 4096, /* May wait for long; whoever forwarded it is patient. */
    CMD_PARTS = 8192,  /* Its first argument says which of several it is (subcommand.h). */
};

struct eval {
    struct core *core;
    struct shard *shard;
    struct session *session;
    const struct command *command;
    const struct slice *args; /* args[0] is the name */
    uint32_t count;
    struct buf *out;
    int protocol;
    uint64_t now_ms; /* The replicated clock, milliseconds since the epoch; never goes back. */
    uint64_t
        gone_ms; /* Keys with an expiry up to it are gone: now_ms, or by the log (readindex.h). */
    /* What it touched. */
    uint64_t batch;  /* Newest batch that it saw or wrote; 0: none. */
    bool is_local;   /* Reads of this node's applied state alone (option reads = local). */
    bool is_applied; /* Looks at the applied state only (CMD_APPLIED), but may note what expired. */
    bool wrote;
    bool is_free; /* The reply speaks of no key and promises nothing: it leaves at once. */
    bool
        is_later; /* Local commands: no answer yet and nothing was written; asked again in a later turn. */
    bool damaged; /* A value could not be read from the disk. */
    bool waits; /* A value is not here yet: nothing was changed or replied, evaluate again later. */
    /* Commands within commands, see eval_nested.h. */
    const struct eval *whole; /* The command of which this one is a part; NULL: none. */
    const struct eval_mark
        *root;                  /* Where the effects of the outermost one begin; NULL: no parts. */
    const struct command *part; /* The last one that was evaluated. */
    bool
        overflows; /* The parts change more than one command may: undo them, eval_error_overflow. */
};

struct command {
    const char *name; /* lower case */
    int8_t arity;     /* Redis': positive exact, negative minimum, the name included */
    uint16_t flags;
    int8_t key_first; /* Positions of keys among the arguments; 0: none */
    int8_t key_last;
    int8_t key_step;
    void (*function)(struct eval *eval);
    const char *group;
    const char *since;
    const char *complexity;
    const char *summary;
    const char *syntax;
};

/* NULL when there is no such command. Names fold case. */
const struct command *command_find(struct slice name);
/* The same, and quick when it is @guess once more, as it is for most who send many: NULL is no guess. */
const struct command *command_find_again(struct slice name, const struct command *guess);
const struct command *command_at(uint32_t at); /* NULL past the end */
uint32_t command_count(void);
bool command_arity_fits(const struct command *command, uint32_t count);

/* ---- keys, as evaluation sees them ------------------------------------------------------------------ */

struct item {
    bool exists;
    uint64_t expiry_ms; /* 0: never */
    uint64_t revision;  /* Of the applied state; 0 when only in flight or absent. */
    uint64_t previous;  /* What an effect names as the revision before it (effect.h). */
    struct slice value; /* As stored; valid when has_value, else eval_value finds it. */
    bool has_value;
    bool is_packed;           /* As stored it is packed: eval_value unpacks it. */
    uint64_t batch;           /* In which its value is on its way; 0: the keydir has it. */
    uint64_t flight;          /* Batch of its newest change; 0: it is applied. */
    uint64_t flight_revision; /* Of that change; 0: not known before its entry has an index. */
    uint32_t flight_ordinal;  /* Its place in that entry. */
    const struct keydir_entry *entry;
};

/* Looks a key up. An expired one is deleted by an effect and reported as absent. */
struct item eval_find(struct eval *eval, struct slice key);
/* A walk over the applied keys met one that the clock says is gone: notes it, so that it stays gone. */
void eval_note_expired(struct eval *eval, const struct keydir_info *info);
/* The item's value. False: the disk gives damaged bytes (an error was replied), or it is not here yet (eval.waits; more
 * values may be asked for, so that all of them are fetched together, but nothing may be replied or changed). Borrowed
 * until the next eval_*. */
bool eval_value(struct eval *eval, struct item *item, struct slice *value);
/* Whether a command that waits may ask for more values. */
bool eval_wants_more(const struct eval *eval);
/* The same without a reply: ERR_AGAIN it is on its way, ERR_CORRUPT, ERR_IO. */
enum err eval_entry_try(struct eval *eval, const struct keydir_entry *entry, struct slice *value);
/* Milliseconds until @expiry_ms; -1: never. A key that the log does not yet say is gone has 0 at least. */
int64_t eval_ttl(const struct eval *eval, uint64_t expiry_ms);
/* Its size. Otherwise the same. */
bool eval_value_size(struct eval *eval, struct item *item, uint64_t *size);
/* The value of an entry that a walk over the applied keys met. Otherwise the same. */
bool eval_entry_value(struct eval *eval, const struct keydir_entry *entry, struct slice *value);

/* Its revision, also of a change that is on its way; 0: it does not exist. Otherwise as eval_value; within a
 * transaction an error is replied for a key that this very transaction changed. */
bool eval_revision(struct eval *eval, const struct item *item, uint64_t *revision);

/* Room for effects: false when one command may not make so many bytes or effects (an error was replied). */
bool eval_room(struct eval *eval, uint64_t effects, uint64_t bytes);
void eval_put(struct eval *eval, struct slice key, struct slice value, uint64_t expiry_ms,
              const struct item *before);
/* The value is made of @parts, one behind the other; one without data is so many zeros. They may borrow from what
 * eval_value gave. False: not in this turn (eval.waits), or there is no space (an error was replied). */
bool eval_put_parts(struct eval *eval, struct slice key, const struct slice *parts, uint32_t count,
                    uint64_t expiry_ms, const struct item *before);
void eval_delete(struct eval *eval, struct slice key, const struct item *before);
void eval_expire(struct eval *eval, struct slice key, uint64_t expiry_ms,
                 const struct item *before);
/* The server's own keys (storage/reserved.h) stay. False: not now (eval.waits), or an error was replied. */
bool eval_flush(struct eval *eval) __attribute__((warn_unused_result));

/* Key and value sizes; false when refused (an error was replied). */
bool eval_key_fits(struct eval *eval, struct slice key);
bool eval_value_fits(struct eval *eval, uint64_t size);
/* A pattern that is compared with many keys: its size. */
bool eval_pattern_fits(struct eval *eval, struct slice pattern);
/* So many bytes of effects, if they need a file of their own; false: no space (an error was replied). */
bool eval_fits_disk(struct eval *eval, uint64_t size);

/* Replies with @value, which eval_value gave, as a bulk string: without a copy if it is large and was fetched.
 * Places in out from before mean nothing afterwards. */
void eval_reply(struct eval *eval, struct slice value);

/* ---- replies ------------------------------------------------------------------------------------------ */

void eval_ok(struct eval *eval);
void eval_error(struct eval *eval, const char *text); /* with its prefix, e.g. "ERR syntax error" */
void eval_syntax_error(struct eval *eval);
/* An integer argument; on failure "ERR value is not an integer or out of range" is replied. */
bool eval_int(struct eval *eval, uint32_t at, int64_t *value);
/* The same for 0 and above, else "ERR value is out of range, must be positive". */
bool eval_uint(struct eval *eval, uint32_t at, uint64_t *value);
/* A name and what belongs to it, as in a map. */
void eval_field(struct eval *eval, const char *name, const char *value);
void eval_field_int(struct eval *eval, const char *name, uint64_t value);

#endif
