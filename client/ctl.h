/* ctl.h - what the sources of kvctl share: the command table, its arguments, output as text and as JSON.
 *
 * kvctl talks to a cluster through libkvclient and kv.h only; the commands that work on files use the storage code of
 * the server. Text is for people and may change; JSON is for programs and only grows. */
#ifndef KV_CLIENT_CTL_H
#define KV_CLIENT_CTL_H

#include <stdbool.h>

#include "client/kv.h"

enum ctl_exit {
    CTL_DONE = 0,
    CTL_REFUSED = 1,   /* refused or not found */
    CTL_USAGE = 2,     /* the command line makes no sense */
    CTL_NO_ANSWER = 3, /* no leader or no answer */
    CTL_UNKNOWN = 4,   /* a write that may have happened */
};

struct ctl {
    const char *nodes; /* NULL: the environment, then the defaults */
    int64_t timeout_ms;
    bool json;
    bool colour;   /* standard output is a terminal that wants it */
    bool in_shell; /* further commands follow on standard input */
    struct kv *kv; /* NULL: not connected yet */
};

enum ctl_option {
    CTL_TTL,
    CTL_IF_ABSENT,
    CTL_IF_REVISION,
    CTL_PREFIX,
    CTL_FROM,
    CTL_TO,
    CTL_LIMIT,
    CTL_KEYS,
    CTL_REVERSE,
    CTL_RAW,
    CTL_FILE,
    CTL_NODE,
    CTL_DATA,
    CTL_NAME,
    CTL_CLUSTER,
    CTL_TOKEN,
    CTL_PEER,
    CTL_VALUES,
    CTL_REV,
    CTL_COUNT,
    CTL_PREV,
    CTL_WAIT,
    CTL_OPTION_COUNT,
};

#define CTL_WORDS_MAX 1024u

/* The arguments behind a command's name. All texts have a zero byte behind them. */
struct ctl_args {
    struct kv_bytes words[CTL_WORDS_MAX];
    size_t count;
    struct kv_bytes
        options[CTL_OPTION_COUNT]; /* data NULL: not given; "" for those without a value */
};

struct ctl_command {
    const char *name;
    const char *second; /* second word of the name, or NULL */
    const char *usage;  /* its arguments */
    const char *summary;
    size_t words_min;
    size_t words_max;
    unsigned options; /* bit n: enum ctl_option n is known */
    enum ctl_exit (*run)(struct ctl *ctl, const struct ctl_args *args);
    bool offline; /* needs no connection */
};

/* kvctl.c */
const struct ctl_command *ctl_command_at(size_t at); /* NULL past the end */
const char *ctl_option_name(enum ctl_option option);
enum ctl_exit ctl_run_line(struct ctl *ctl, struct kv_bytes *words, size_t count);
enum ctl_exit ctl_connect(struct ctl *ctl); /* if it is not connected; complains */
void ctl_help(const char *name);            /* of one command; NULL: of all */

/* ctl_data.c, ctl_watch.c, ctl_lock.c, ctl_cluster.c, ctl_shell.c, ctl_backup.c, ctl_restore.c */
enum ctl_exit ctl_get(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_set(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_del(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_incr(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_ttl(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_scan(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_history(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_txn(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_watch(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_lock(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_elect(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_status(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_leader(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_leader_transfer(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_member_list(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_shell(struct ctl *ctl, const struct ctl_args *args);

enum ctl_exit ctl_backup_save(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_backup_verify(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_backup_restore(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_dump(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_disk(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_compact(struct ctl *ctl, const struct ctl_args *args);
enum ctl_exit ctl_check(struct ctl *ctl, const struct ctl_args *args);

/* ctl_line.c */
/* Cuts a line into words, with quotes and escapes as redis-cli knows them. Gives their number, or -1: a quote is not
 * closed, or there are too many. *@memory holds them and is for the caller to free. */
int ctl_split(const char *line, struct kv_bytes *words, char **memory);
/* The same, with the place of each word in the line, from 1; columns[0] is that of the mistake when there is one. */
int ctl_split_columns(const char *line, struct kv_bytes *words, size_t *columns, char **memory);
bool ctl_number(struct kv_bytes text, int64_t least, int64_t most, int64_t *value);

/* ctl_line.c: the value of @name in a map, or in the same as a flat array; a nil when it is missing. */
const struct kv_reply *ctl_field(const struct kv_reply *map, const char *name);
uint64_t ctl_field_number(const struct kv_reply *map, const char *name);  /* 0: missing, or none */
const char *ctl_field_text(const struct kv_reply *map, const char *name); /* "": missing, or none */

/* ---- ctl_output.c ---------------------------------------------------------------------------- */

enum ctl_exit ctl_exit_of(enum kv_err err);
/* One line on standard error, or the error object. Gives @exit. */
enum ctl_exit ctl_complain(const struct ctl *ctl, enum ctl_exit exit, const char *code,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));
enum ctl_exit ctl_failed(const struct ctl *ctl, enum kv_err err); /* what the library says */

/* A value as it is when it is readable text, else with escapes. With @one_line line ends are escaped, too. */
void ctl_put_text(struct kv_bytes bytes, bool one_line);

/* Words for people, in lines of at most 80 columns and a line end; @column of the first one is taken already, the
 * others begin @indent columns in. */
void ctl_put_wrapped(const char *text, size_t column, size_t indent);

/* "1.5 MiB". */
#define CTL_SIZE_TEXT 24u
const char *ctl_size_text(uint64_t bytes, char text[CTL_SIZE_TEXT]);
/* How far a long work is, on standard error: on a terminal one line that changes, else a line now and then. */
struct ctl_progress {
    const char *what; /* "saving" */
    int64_t begin_ms;
    int64_t shown_ms;
    bool is_terminal;
    bool is_silent;
    bool is_shown;
};
void ctl_progress_begin(struct ctl_progress *progress, const struct ctl *ctl, const char *what);
void ctl_progress_show(struct ctl_progress *progress, uint64_t done, uint64_t total);
void ctl_progress_end(struct ctl_progress *progress); /* before anything else is printed */

/* A JSON object on standard output: begin, fields, end. */
void ctl_json_begin(void);
void ctl_json_end(void);
void ctl_json_bytes(const char *name,
                    struct kv_bytes bytes); /* NAME, or NAME_base64 when it is not UTF-8 */
void ctl_json_text(const char *name, const char *text);
void ctl_json_uint(const char *name, uint64_t number);
void ctl_json_int(const char *name, int64_t number);
/* @text as a number, if it is digits with a point between them; else null. */
void ctl_json_decimal(const char *name, const char *text);
void ctl_json_true(const char *name);
void ctl_json_bool(const char *name, bool value);
void ctl_json_list_begin(const char *name); /* objects may follow */
void ctl_json_list_end(void);

/* Columns as wide as their longest cell. The first row is the head. */
#define CTL_COLUMNS_MAX 12u
#define CTL_ROWS_MAX 80u
#define CTL_CELL_SIZE 288u
enum ctl_colour { CTL_PLAIN, CTL_BOLD, CTL_GREEN, CTL_YELLOW, CTL_RED };
struct ctl_table {
    size_t columns;
    size_t rows;
    unsigned right; /* bit n: column n is flush right */
    struct ctl_cell {
        enum ctl_colour colour;
        char text[CTL_CELL_SIZE];
    } cells[CTL_ROWS_MAX][CTL_COLUMNS_MAX];
};
void ctl_table_head(struct ctl_table *table, const char *const *names, size_t columns);
void ctl_table_row(struct ctl_table *table);
/* Sets the cell of the last row. */
void ctl_table_cell(struct ctl_table *table, size_t column, enum ctl_colour colour,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
void ctl_table_print(const struct ctl_table *table, bool colour);

#endif
