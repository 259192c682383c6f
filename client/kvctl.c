/* kvctl - the admin CLI: reads the command line, finds the command in its table and runs it. */
#include "client/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TIMEOUT_MAX_MS 86400000
#define HELP_INDENT 30

/* Tried one by one, and only a FlashKV node is taken: something else may listen there. */
static const char *const default_nodes[] = {"127.0.0.1:6379", "127.0.0.1:7001", "127.0.0.1:7002",
                                            "127.0.0.1:7003"};

#define BIT(option) (1u << (option))

static enum ctl_exit help(struct ctl *ctl, const struct ctl_args *args);

static const struct ctl_command commands[] = {
    {"status", NULL, "", "every node: role, term, indexes, lag, keys, disk, health", 0, 0, 0,
     ctl_status, false},
    {"get", NULL, "KEY [--raw] [--rev R]",
     "the value of a key, or what it was at a revision; --raw: its bytes and nothing else", 1, 1,
     BIT(CTL_RAW) | BIT(CTL_REV), ctl_get, false},
    {"history", NULL, "KEY [--count N]", "what became of a key, the newest change first", 1, 1,
     BIT(CTL_COUNT), ctl_history, false},
    {"set", NULL, "KEY {VALUE | --file FILE} [--ttl MS] [--if-absent | --if-revision R]",
     "set a key, to a file's bytes too; FILE - is the standard input", 1, 2,
     BIT(CTL_FILE) | BIT(CTL_TTL) | BIT(CTL_IF_ABSENT) | BIT(CTL_IF_REVISION), ctl_set, false},
    {"del", NULL, "KEY...", "delete keys, in one step", 1, CTL_WORDS_MAX, 0, ctl_del, false},
    {"incr", NULL, "KEY [N]", "add N (1) to the number that a key holds", 1, 2, 0, ctl_incr, false},
    {"ttl", NULL, "KEY", "the time until a key expires", 1, 1, 0, ctl_ttl, false},
    {"scan", NULL, "[--prefix P] [--from K] [--to K] [--limit N] [--reverse] [--keys] [--rev R]",
     "keys in order with their values, all of one moment; --to is not included", 0, 0,
     BIT(CTL_PREFIX) | BIT(CTL_FROM) | BIT(CTL_TO) | BIT(CTL_LIMIT) | BIT(CTL_REVERSE) |
         BIT(CTL_KEYS) | BIT(CTL_REV),
     ctl_scan, false},
    {"txn", NULL, "",
     "conditions and commands from the standard input, carried out at one moment: sections if, "
     "then, else, and end at last; see docs/operations.md",
     0, 0, 0, ctl_txn, false},
    {"watch", NULL, "[PREFIX] [--from REV] [--prev] [--limit N]",
     "every change of the keys that begin so, as it happens, or from a revision on; 0: from the "
     "oldest change that is kept; --prev: with the value before",
     0, 1, BIT(CTL_FROM) | BIT(CTL_PREV) | BIT(CTL_LIMIT), ctl_watch, false},
    {"lock", NULL, "NAME [--ttl MS] [--wait MS] -- COMMAND...",
     "run a command while holding a lock, which is renewed; the command ends when the lock is lost",
     2, CTL_WORDS_MAX, BIT(CTL_TTL) | BIT(CTL_WAIT), ctl_lock, false},
    {"elect", NULL, "NAME [--ttl MS] [--wait MS] -- COMMAND...",
     "the same again and again: whenever elected, until the command ends by itself", 2,
     CTL_WORDS_MAX, BIT(CTL_TTL) | BIT(CTL_WAIT), ctl_elect, false},
    {"leader", NULL, "[SHARD]", "name and client address of the leader", 0, 1, 0, ctl_leader,
     false},
    {"leader", "transfer", "NAME", "hand the leadership over to a member", 1, 1, 0,
     ctl_leader_transfer, false},
    {"member", "list", "", "the members of the cluster", 0, 0, 0, ctl_member_list, false},
    {"check", NULL, "", "compare what the nodes hold, every key counted anew; 1 if they differ", 0,
     0, 0, ctl_check, false},
    {"disk", NULL, "[NAME]", "the files of each node: what lives in them, and what is garbage", 0,
     1, 0, ctl_disk, false},
    {"compact", NULL, "[NAME]", "let each node give back all space that it can, and wait for it", 0,
     1, 0, ctl_compact, false},
    {"backup", "save", "FILE [--node NAME]",
     "all data at one moment into a file, while the cluster runs; from a follower if there is one",
     1, 1, BIT(CTL_NODE), ctl_backup_save, false},
    {"backup", "verify", "FILE", "check every byte of a backup; say what it holds", 1, 1, 0,
     ctl_backup_verify, true},
    {"backup", "restore",
     "FILE --data DIR --name NAME [--cluster NAME=PEER,...] [--cluster-token T] [--peer ADDRESS]",
     "make the data directory of one node of a new cluster", 1, 1,
     BIT(CTL_DATA) | BIT(CTL_NAME) | BIT(CTL_CLUSTER) | BIT(CTL_TOKEN) | BIT(CTL_PEER),
     ctl_backup_restore, true},
    {"dump", NULL, "FILE... [--values]",
     "files of a data directory, or a backup, in readable form, also damaged ones", 1,
     CTL_WORDS_MAX, BIT(CTL_VALUES), ctl_dump, true},
    {"help", NULL, "[COMMAND]", "this text, or about one command", 0, 1, 0, help, true},
    {"shell", NULL, "", "type commands; with history and completion on a terminal", 0, 0, 0,
     ctl_shell, false},
};

static const struct {
    const char *name;
    bool value; /* a value follows */
} options[CTL_OPTION_COUNT] = {
    [CTL_TTL] = {"--ttl", true},
    [CTL_IF_ABSENT] = {"--if-absent", false},
    [CTL_IF_REVISION] = {"--if-revision", true},
    [CTL_PREFIX] = {"--prefix", true},
    [CTL_FROM] = {"--from", true},
    [CTL_TO] = {"--to", true},
    [CTL_LIMIT] = {"--limit", true},
    [CTL_KEYS] = {"--keys", false},
    [CTL_REVERSE] = {"--reverse", false},
    [CTL_RAW] = {"--raw", false},
    [CTL_FILE] = {"--file", true},
    [CTL_NODE] = {"--node", true},
    [CTL_DATA] = {"--data", true},
    [CTL_NAME] = {"--name", true},
    [CTL_CLUSTER] = {"--cluster", true},
    [CTL_TOKEN] = {"--cluster-token", true},
    [CTL_PEER] = {"--peer", true},
    [CTL_VALUES] = {"--values", false},
    [CTL_REV] = {"--rev", true},
    [CTL_COUNT] = {"--count", true},
    [CTL_PREV] = {"--prev", false},
    [CTL_WAIT] = {"--wait", true},
};

const struct ctl_command *ctl_command_at(size_t at)
{
    return at < sizeof commands / sizeof commands[0] ? &commands[at] : NULL;
}

const char *ctl_option_name(enum ctl_option option)
{
    return options[option].name;
}

/* ---- help ------------------------------------------------------------------------------------ */

static void put_usage(const struct ctl_command *command)
{
    char left[256];
    (void)snprintf(left, sizeof left, "%s%s%s %s", command->name,
                   command->second != NULL ? " " : "",
                   command->second != NULL ? command->second : "", command->usage);
    if (strlen(left) > HELP_INDENT - 4) {
        (void)fputs("  ", stdout);
        ctl_put_wrapped(left, 2, HELP_INDENT / 5);
        (void)printf("%*s", HELP_INDENT, "");
    } else {
        (void)printf("  %-*s", HELP_INDENT - 2, left);
    }
    ctl_put_wrapped(command->summary, HELP_INDENT, HELP_INDENT);
}

void ctl_help(const char *name)
{
    if (name == NULL) {
        (void)puts(
            "usage: kvctl [--nodes HOST:PORT,...] [-o text|json] [--timeout MS] COMMAND ...\n"
            "\n"
            "Commands:");
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (name == NULL || strcmp(commands[i].name, name) == 0) put_usage(&commands[i]);
    }
    if (name != NULL) return;
    (void)puts(
        "\n"
        "Options:\n"
        "  --nodes HOST:PORT,...       any nodes of the cluster, one is enough; default: the\n"
        "                              environment's KVCTL_NODES, then 127.0.0.1:6379 and\n"
        "                              127.0.0.1:7001 to 7003\n"
        "  -o text|json                output for people or for programs\n"
        "  --timeout MS                the longest that a command may take; default 5000\n"
        "  --help, --version\n"
        "  --                          what follows is no option\n"
        "\n"
        "Exit codes: 0 done, 1 refused or not found, 2 usage, 3 no leader or no answer,\n"
        "4 outcome unknown: a write that may have happened.");
}

static enum ctl_exit help(struct ctl *ctl, const struct ctl_args *args)
{
    const char *name = args->count > 0 ? args->words[0].data : NULL;
    for (size_t i = 0; name != NULL && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0) break;
        if (i + 1 < sizeof commands / sizeof commands[0]) continue;
        return ctl_complain(ctl, CTL_USAGE, "usage", "there is no command '%s'; try help", name);
    }
    ctl_help(name);
    return CTL_DONE;
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* An option begins with "-"; "-5" is a number and "-" a word. */
static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != 0 && !(word[1] >= '0' && word[1] <= '9');
}

static enum ctl_exit set_global(struct ctl *ctl, const char *name, const char *value)
{
    if (strcmp(name, "--nodes") == 0) {
        ctl->nodes = value;
    } else if (strcmp(name, "--timeout") == 0) {
        if (!ctl_number(kv_text(value), 1, TIMEOUT_MAX_MS, &ctl->timeout_ms)) {
            return ctl_complain(ctl, CTL_USAGE, "usage", "--timeout takes milliseconds, 1 to %d",
                                TIMEOUT_MAX_MS);
        }
    } else if (strcmp(value, "json") == 0 || strcmp(value, "text") == 0) {
        ctl->json = value[0] == 'j';
    } else {
        return ctl_complain(ctl, CTL_USAGE, "usage", "-o takes text or json");
    }
    return CTL_DONE;
}

static bool is_global(const char *name)
{
    return strcmp(name, "--nodes") == 0 || strcmp(name, "--timeout") == 0 ||
           strcmp(name, "-o") == 0 || strcmp(name, "--output") == 0;
}

/* One option at *@at; "--name=value" works, too. */
static enum ctl_exit take_option(struct ctl *ctl, struct ctl_args *args,
                                 const struct kv_bytes *words, size_t count, size_t *at)
{
    char name[32];
    const char *word = words[*at].data;
    const char *equals = strchr(word, '=');
    const size_t size = equals != NULL ? (size_t)(equals - word) : strlen(word);
    size_t option = 0;
    (void)snprintf(name, sizeof name, "%.*s", (int)size, word);
    while (option < CTL_OPTION_COUNT && strcmp(options[option].name, name) != 0) option++;
    const bool global = is_global(name);
    if (!global && option == CTL_OPTION_COUNT) {
        return ctl_complain(ctl, CTL_USAGE, "usage",
                            "there is no option %s; put -- before words that begin with -", word);
    }
    struct kv_bytes value = kv_text("");
    if (global || options[option].value) {
        if (equals != NULL) {
            value = kv_text(equals + 1);
        } else if (*at + 1 < count) {
            value = words[++*at];
        } else {
            return ctl_complain(ctl, CTL_USAGE, "usage", "%s needs a value", name);
        }
    } else if (equals != NULL) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "%s takes no value", name);
    }
    if (global) return set_global(ctl, name, value.data);
    args->options[option] = value;
    return CTL_DONE;
}

static enum ctl_exit read_args(struct ctl *ctl, struct ctl_args *args, const struct kv_bytes *words,
                               size_t count)
{
    bool options_over = false;
    for (size_t i = 0; i < count; i++) {
        const char *word = words[i].data != NULL ? words[i].data : "";
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = true;
        } else if (!options_over && is_option(word)) {
            const enum ctl_exit exit = take_option(ctl, args, words, count, &i);
            if (exit != CTL_DONE) return exit;
        } else if (args->count == CTL_WORDS_MAX) {
            return ctl_complain(ctl, CTL_USAGE, "usage", "more than %u words", CTL_WORDS_MAX);
        } else {
            args->words[args->count++] = words[i];
        }
    }
    return CTL_DONE;
}

/* The longest name that fits; *@taken: its words. */
static const struct ctl_command *find_command(const struct ctl_args *args, size_t *taken)
{
    const struct ctl_command *found = NULL;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct ctl_command *command = &commands[i];
        if (strcmp(args->words[0].data, command->name) != 0) continue;
        if (command->second == NULL) {
            if (found == NULL) found = command;
            *taken = found->second == NULL ? 1 : *taken;
        } else if (args->count > 1 && strcmp(args->words[1].data, command->second) == 0) {
            found = command;
            *taken = 2;
        }
    }
    return found;
}

static enum ctl_exit check_args(const struct ctl *ctl, const struct ctl_command *command,
                                const struct ctl_args *args)
{
    for (size_t i = 0; i < CTL_OPTION_COUNT; i++) {
        if (args->options[i].data == NULL || (command->options & BIT(i)) != 0) continue;
        return ctl_complain(ctl, CTL_USAGE, "usage", "%s knows no option %s", command->name,
                            options[i].name);
    }
    if (args->count >= command->words_min && args->count <= command->words_max) return CTL_DONE;
    return ctl_complain(ctl, CTL_USAGE, "usage", "usage: kvctl %s%s%s%s%s", command->name,
                        command->second != NULL ? " " : "",
                        command->second != NULL ? command->second : "",
                        command->usage[0] != 0 ? " " : "", command->usage);
}

/* ---- running --------------------------------------------------------------------------------- */

static enum kv_err connect_to(struct ctl *ctl, const char *nodes)
{
    struct kv_options settings;
    kv_options_init(&settings);
    settings.nodes = nodes;
    settings.timeout_ms = ctl->timeout_ms;
    kv_close(ctl->kv);
    return kv_connect(&settings, &ctl->kv);
}

/* Nobody said where the cluster is: the first of the usual places where a FlashKV node answers. */
static enum kv_err connect_to_defaults(struct ctl *ctl)
{
    const size_t count = sizeof default_nodes / sizeof default_nodes[0];
    enum kv_err err = KV_ERR_REFUSED;
    for (size_t i = 0; i < count && err != KV_OK; i++) {
        const char *name = NULL;
        const char *client = NULL;
        err = connect_to(ctl, default_nodes[i]);
        if (err != KV_OK) continue;
        err = kv_leader(ctl->kv, &name, &client);
        if (err == KV_ERR_NOT_FOUND) err = KV_OK; /* It knows the question. */
    }
    return err;
}

enum ctl_exit ctl_connect(struct ctl *ctl)
{
    const char *environment = getenv("KVCTL_NODES");
    const char *nodes = ctl->nodes;
    if (ctl->kv != NULL) return CTL_DONE;
    if (nodes == NULL && environment != NULL && environment[0] != 0) nodes = environment;
    const enum kv_err err = nodes != NULL ? connect_to(ctl, nodes) : connect_to_defaults(ctl);
    if (err == KV_OK) return CTL_DONE;
    enum ctl_exit exit;
    if (nodes != NULL) {
        exit = ctl_failed(ctl, err);
    } else {
        exit = ctl_complain(ctl, CTL_NO_ANSWER, kv_err_name(err),
                            "no FlashKV node answers on 127.0.0.1:6379 or 7001 to 7003; say where "
                            "with --nodes HOST:PORT");
    }
    kv_close(ctl->kv);
    ctl->kv = NULL;
    return exit;
}

static bool has_parts(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0 && commands[i].second != NULL) return true;
    }
    return false;
}

/* "backup" alone, or "backup make": says which second words there are. */
static enum ctl_exit complain_of_part(const struct ctl *ctl, const struct ctl_args *args)
{
    const char *name = args->words[0].data;
    char parts[128] = "";
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const size_t size = strlen(parts);
        if (strcmp(commands[i].name, name) != 0) continue;
        (void)snprintf(parts + size, sizeof parts - size, "%s%s", size > 0 ? ", " : "",
                       commands[i].second);
    }
    return ctl_complain(ctl, CTL_USAGE, "usage", "%s needs one of: %s; try help %s", name, parts,
                        name);
}

static enum ctl_exit run_command(struct ctl *ctl, struct ctl_args *args)
{
    size_t taken = 0;
    if (args->count == 0) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "a command is missing; try --help");
    }
    const struct ctl_command *command = find_command(args, &taken);
    if (command == NULL && has_parts(args->words[0].data)) {
        return complain_of_part(ctl, args);
    }
    if (command == NULL) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "there is no command '%s%s%s'; try --help",
                            (const char *)args->words[0].data, args->count > 1 ? " " : "",
                            args->count > 1 ? (const char *)args->words[1].data : "");
    }
    args->count -= taken;
    memmove(args->words, args->words + taken, args->count * sizeof args->words[0]);
    enum ctl_exit exit = check_args(ctl, command, args);
    if (exit == CTL_DONE && !command->offline) exit = ctl_connect(ctl);
    if (exit == CTL_DONE) exit = command->run(ctl, args);
    return exit;
}

enum ctl_exit ctl_run_line(struct ctl *ctl, struct kv_bytes *words, size_t count)
{
    struct ctl_args *args = calloc(1, sizeof *args);
    if (args == NULL) return ctl_complain(ctl, CTL_REFUSED, "no_memory", "no memory");
    enum ctl_exit exit = read_args(ctl, args, words, count);
    if (exit == CTL_DONE) exit = run_command(ctl, args);
    free(args);
    /* Output that could not be written was not shown: a full disk must not look like success. */
    if (fflush(stdout) != 0 && exit == CTL_DONE) {
        exit = ctl_complain(ctl, CTL_REFUSED, "output", "the output could not be written");
    }
    return exit;
}

static bool wants_colour(void)
{
    const char *terminal = getenv("TERM");
    const char *none = getenv("NO_COLOR");
    if (none != NULL && none[0] != 0) return false;
    return isatty(STDOUT_FILENO) == 1 && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

/* --help and --version stand anywhere before "--". Gives false when there was neither. */
static bool answer_questions(int argc, char **argv)
{
    const char *command = NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--version") == 0) {
            (void)printf("kvctl %s\n", kv_version());
            return true;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            ctl_help(command);
            return true;
        }
        for (size_t j = 0; j < sizeof commands / sizeof commands[0] && command == NULL; j++) {
            if (strcmp(argv[i], commands[j].name) == 0) command = argv[i];
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.timeout_ms = 5000, .colour = wants_colour()};
    const size_t count = argc > 1 ? (size_t)argc - 1 : 0;
    if (answer_questions(argc, argv)) return fflush(stdout) == 0 ? CTL_DONE : CTL_REFUSED;
    struct kv_bytes *words = calloc(count + 1, sizeof *words);
    if (words == NULL) return CTL_REFUSED;
    for (size_t i = 0; i < count; i++) words[i] = kv_text(argv[i + 1]);
    const enum ctl_exit exit = ctl_run_line(&ctl, words, count);
    kv_close(ctl.kv);
    free(words);
    return (int)exit;
}
