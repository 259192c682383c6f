/* kvctl's shell: lines are commands. On a terminal with editing, history and completion through libedit, else
 * plain lines, so that a file of commands can be piped in. */
#include "client/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef KV_LIBEDIT
#include <editline/readline.h>
#include <sys/stat.h>
#endif

static void shell_help(void)
{
    (void)puts("Commands:");
    for (size_t i = 0; ctl_command_at(i) != NULL; i++) {
        const struct ctl_command *command = ctl_command_at(i);
        if (command->run == ctl_shell || strcmp(command->name, "help") == 0) continue;
        char line[256];
        (void)snprintf(line, sizeof line, "%s%s%s %s", command->name,
                       command->second != NULL ? " " : "",
                       command->second != NULL ? command->second : "", command->usage);
        (void)fputs("  ", stdout);
        ctl_put_wrapped(line, 2, 6);
    }
    (void)puts("  help [COMMAND]\n  exit\n"
               "Words with spaces stand in quotes; \"\\x00\" is any byte.");
}

/* Runs one line; *@over: it was "exit". */
static enum ctl_exit run_line(struct ctl *ctl, const char *line, bool *over)
{
    static struct kv_bytes words[CTL_WORDS_MAX];
    char *memory = NULL;
    enum ctl_exit exit = CTL_DONE;
    const struct ctl before = *ctl;
    const int count = ctl_split(line, words, &memory);
    const char *first = count > 0 ? words[0].data : "";
    if (count < 0) {
        exit = ctl_complain(ctl, CTL_USAGE, "usage", "a quote is not closed");
    } else if (strcmp(first, "exit") == 0 || strcmp(first, "quit") == 0) {
        *over = true;
    } else if (strcmp(first, "help") == 0 || strcmp(first, "?") == 0) {
        if (count > 1) {
            ctl_help(words[1].data);
        } else {
            shell_help();
        }
    } else if (strcmp(first, "shell") == 0) {
        exit = ctl_complain(ctl, CTL_USAGE, "usage", "this is the shell");
    } else if (count > 0 && first[0] != '#') {
        kv_set_timeout(ctl->kv, ctl->timeout_ms);
        exit = ctl_run_line(ctl, words, (size_t)count);
    }
    /* Options of a line are for that line; --nodes would be for the next connection, which there is none of. */
    ctl->json = before.json;
    ctl->timeout_ms = before.timeout_ms;
    ctl->nodes = before.nodes;
    free(memory);
    return exit;
}

/* The result is that of the first line that failed: a script that goes wrong must not look fine. */
static enum ctl_exit run_plain(struct ctl *ctl)
{
    enum ctl_exit result = CTL_DONE;
    char *line = NULL;
    size_t capacity = 0;
    bool over = false;
    while (!over) {
        const ssize_t size = getline(&line, &capacity, stdin);
        if (size < 0) break;
        const enum ctl_exit exit = run_line(ctl, line, &over);
        if (result == CTL_DONE) result = exit;
    }
    free(line);
    return result;
}

#ifdef KV_LIBEDIT

#define HISTORY_LINES 1000
#define COMPLETIONS_MAX 200u
#define COMPLETION_TIMEOUT_MS 300

static struct ctl *completing; /* readline's callbacks take no argument of ours */
static char *found[COMPLETIONS_MAX];
static size_t found_count;

static void offer(const char *text, const char *candidate)
{
    if (found_count == COMPLETIONS_MAX || strncmp(text, candidate, strlen(text)) != 0) return;
    for (size_t i = 0; i < found_count; i++) {
        if (strcmp(found[i], candidate) == 0) return;
    }
    char *copy = strdup(candidate);
    if (copy != NULL) found[found_count++] = copy;
}

/* Keys that begin with @text; those that would need quotes are left out. */
static void offer_keys(const char *text)
{
    const struct kv_scan_options options = {
        .prefix = kv_text(text), .limit = COMPLETIONS_MAX, .keys_only = 1};
    struct kv_scan *scan = NULL;
    struct kv_entry entry;
    kv_set_timeout(completing->kv, COMPLETION_TIMEOUT_MS);
    enum kv_err err = kv_scan_open(completing->kv, &options, &scan);
    while (err == KV_OK && (err = kv_scan_next(scan, &entry)) == KV_OK) {
        bool plain = entry.key_size > 0;
        for (size_t i = 0; i < entry.key_size; i++) {
            const char byte = entry.key[i];
            plain = plain && byte > ' ' && byte < 127 && byte != '"' && byte != '\'';
        }
        if (plain) offer(text, entry.key);
    }
    kv_scan_close(scan);
    kv_set_timeout(completing->kv, completing->timeout_ms);
}

static void offer_members(const char *text)
{
    struct kv_cluster cluster;
    kv_set_timeout(completing->kv, COMPLETION_TIMEOUT_MS);
    if (kv_members(completing->kv, &cluster) == KV_OK) {
        for (size_t i = 0; i < cluster.node_count; i++) offer(text, cluster.nodes[i].name);
    }
    kv_set_timeout(completing->kv, completing->timeout_ms);
}

static void offer_names(const char *text)
{
    for (size_t i = 0; ctl_command_at(i) != NULL; i++) {
        if (ctl_command_at(i)->run != ctl_shell) offer(text, ctl_command_at(i)->name);
    }
    offer(text, "help");
    offer(text, "exit");
}

/* Second and later words of the command @name. */
static void offer_arguments(const char *text, const char *name, const char *second)
{
    for (size_t i = 0; ctl_command_at(i) != NULL; i++) {
        const struct ctl_command *command = ctl_command_at(i);
        if (strcmp(command->name, name) != 0) continue;
        if (command->second != NULL && second[0] == 0) offer(text, command->second);
        for (unsigned option = 0; option < CTL_OPTION_COUNT; option++) {
            if (text[0] == '-' && (command->options >> option & 1) != 0) {
                offer(text, ctl_option_name((enum ctl_option)option));
            }
        }
        if (text[0] != '-' && strncmp(command->usage, "KEY", 3) == 0) offer_keys(text);
        const bool takes_member = command->run == ctl_disk || command->run == ctl_compact ||
                                  (command->run == ctl_leader_transfer &&
                                   strcmp(second, "transfer") == 0);
        if (takes_member && text[0] != '-') offer_members(text);
    }
    if (strcmp(name, "help") == 0) offer_names(text);
}

static char *next_found(const char *text, int state)
{
    static size_t at;
    (void)text;
    if (state == 0) at = 0;
    return at < found_count ? found[at++] : NULL; /* readline frees it */
}

static char **complete(const char *text, int start, int end)
{
    char name[32] = "";
    char second[32] = "";
    (void)end;
    found_count = 0;
    if (start == 0) {
        offer_names(text);
    } else {
        char before[256];
        (void)snprintf(before, sizeof before, "%.*s", start, rl_line_buffer);
        (void)sscanf(before, "%31s %31s", name, second);
        offer_arguments(text, name, second);
    }
    rl_attempted_completion_over = 1; /* no names of files */
    return found_count > 0 ? rl_completion_matches(text, next_found) : NULL;
}

static bool history_path(char *path, size_t size)
{
    const char *home = getenv("HOME");
    if (home == NULL || home[0] == 0) return false;
    return snprintf(path, size, "%s/.kvctl_history", home) < (int)size;
}

static enum ctl_exit run_terminal(struct ctl *ctl)
{
    char path[1024];
    bool over = false;
    const bool remember = history_path(path, sizeof path);
    completing = ctl;
    (void)rl_initialize();
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(HISTORY_LINES);
    if (remember) (void)read_history(path);
    (void)printf("kvctl %s, connected to %s; \"help\" lists the commands\n", kv_version(),
                 kv_address(ctl->kv));
    while (!over) {
        char *line = readline("kv> ");
        if (line == NULL) {
            (void)fputc('\n', stdout);
            break;
        }
        /* As in other shells a line that begins with a space is not kept: it may hold a secret. */
        if (line[0] != 0 && line[0] != ' ') (void)add_history(line);
        (void)run_line(ctl, line, &over);
        free(line);
    }
    if (remember) {
        const mode_t mask = umask(0077); /* Values may be secrets, too. */
        (void)write_history(path);
        (void)umask(mask);
    }
    return CTL_DONE;
}

#else

static enum ctl_exit run_terminal(struct ctl *ctl)
{
    return run_plain(ctl);
}

#endif

enum ctl_exit ctl_shell(struct ctl *ctl, const struct ctl_args *args)
{
    (void)args;
    ctl->in_shell = true;
    return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 ? run_terminal(ctl)
                                                                   : run_plain(ctl);
}
