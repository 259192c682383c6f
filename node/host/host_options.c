#include "node/host/host_options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/manual.h"
#include "node/version.h"

#define FILE_SIZE_MAX (256u * KIB)
#define NAME_ROOM 64u
#define HELP_INDENT 30u
#define HELP_WIDTH 80u

#define SAY(...) (void)snprintf(message, HOST_OPTIONS_MESSAGE_SIZE, __VA_ARGS__)

/* ---- the file ------------------------------------------------------------------------------------------- */

static enum err read_file(const char *path, struct buf *text, char *message)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        SAY("config: cannot open %s: %s", path, strerror(errno));
        return ERR_INVALID;
    }
    enum err err = OK;
    for (;;) {
        uint8_t *room = buf_reserve(text, 4096);
        const ssize_t got = read(file, room, 4096);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) break;
        text->size += got > 0 ? (uint64_t)got : 0;
        if (got > 0 && text->size <= FILE_SIZE_MAX) continue;
        err = ERR_INVALID;
        SAY("config: cannot read %s: %s", path, got < 0 ? strerror(errno) : "it is too long");
        break;
    }
    (void)close(file);
    return err;
}

static enum err load_file(struct config *config, const char *path, char *message)
{
    struct buf text = {0};
    char reason[CONFIG_MESSAGE_SIZE];
    enum err err = read_file(path, &text, message);
    if (err == OK) {
        err = config_set_file(config, buf_slice(&text), reason);
        if (err != OK) SAY("%s: %s", path, reason);
    }
    buf_close(&text);
    return err;
}

/* ---- the environment ------------------------------------------------------------------------------------ */

/* KVNODE_MAX_VALUE for max-value. */
static const char *from_environment(const char *option)
{
    char name[NAME_ROOM] = "KVNODE_";
    size_t size = strlen(name);
    for (size_t i = 0; option[i] != 0 && size + 1 < sizeof name; i++) {
        const char c = option[i];
        name[size++] = c == '-' ? '_' : (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
    name[size] = 0;
    return getenv(name);
}

/* Variables that begin like ours but name no option are left alone: systems that start containers set some, such as
 * KVNODE_PORT for a service called kvnode. */
static enum err load_environment(struct config *config, char *message)
{
    const struct config_option *option = config_option(0);
    for (uint32_t at = 0; option != NULL; option = config_option(++at)) {
        char reason[CONFIG_MESSAGE_SIZE];
        const char *value = from_environment(option->name);
        if (value == NULL) continue;
        if (config_set(config, option->name, value, reason) == OK) continue;
        SAY("environment: %s", reason);
        return ERR_INVALID;
    }
    return OK;
}

/* ---- the command line ----------------------------------------------------------------------------------- */

struct argument {
    char name[NAME_ROOM];
    const char *value;
};

static bool is_known(const char *name)
{
    const struct config_option *option = config_option(0);
    if (strcmp(name, "config") == 0) return true;
    for (uint32_t at = 0; option != NULL; option = config_option(++at)) {
        if (strcmp(name, option->name) == 0) return true;
    }
    return false;
}

/* Takes "--name value" or "--name=value" at *@at. */
static enum err next_argument(const struct host_options *options, int *at,
                              struct argument *argument, char *message)
{
    const char *text = options->argv[*at];
    if (strncmp(text, "--", 2) != 0 || text[2] == 0) {
        SAY("'%.64s' is no option: options are --NAME VALUE; kvnode --help lists all", text);
        return ERR_INVALID;
    }
    const char *equals = strchr(text, '=');
    const size_t size = equals != NULL ? (size_t)(equals - text) - 2 : strlen(text) - 2;
    const size_t kept = size < NAME_ROOM ? size : NAME_ROOM - 1; /* longer than any: unknown */
    memcpy(argument->name, text + 2, kept);
    argument->name[kept] = 0;
    (*at)++;
    if (equals != NULL) {
        argument->value = equals + 1;
        return OK;
    }
    if (*at == options->argc) {
        argument->value = "";
        if (!is_known(argument->name)) return OK; /* That is what will be complained of. */
        SAY("--%s needs a value", argument->name);
        return ERR_INVALID;
    }
    argument->value = options->argv[(*at)++];
    return OK;
}

/* Looks for what does not name an option of the node: the file, --help, --version. */
static enum err find_special(struct host_options *options, const char **file, char *message)
{
    *file = getenv("KVNODE_CONFIG");
    options->wish = HOST_WISH_RUN;
    for (int at = 1; at < options->argc;) {
        struct argument argument;
        const char *text = options->argv[at];
        if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) {
            options->wish = HOST_WISH_HELP;
            return OK;
        }
        if (strcmp(text, "--version") == 0) {
            options->wish = HOST_WISH_VERSION;
            return OK;
        }
        if (strcmp(text, "--commands") == 0) {
            options->wish = HOST_WISH_COMMANDS;
            return OK;
        }
        const enum err err = next_argument(options, &at, &argument, message);
        if (err != OK) return err;
        if (strcmp(argument.name, "config") == 0) *file = argument.value;
    }
    return OK;
}

static enum err load_arguments(const struct host_options *options, struct config *config,
                               char *message)
{
    for (int at = 1; at < options->argc;) {
        struct argument argument;
        char reason[CONFIG_MESSAGE_SIZE];
        enum err err = next_argument(options, &at, &argument, message);
        if (err != OK) return err;
        if (strcmp(argument.name, "config") == 0) continue;
        err = config_set(config, argument.name, argument.value, reason);
        if (err == OK) continue;
        SAY("%s", reason);
        return err;
    }
    return OK;
}

enum err host_options_load(struct host_options *options, struct config *config, char *message)
{
    char host[256] = "";
    const char *file;
    if (gethostname(host, sizeof host - 1) != 0) host[0] = 0;
    config_defaults(config, host);
    enum err err = find_special(options, &file, message);
    if (err != OK || options->wish != HOST_WISH_RUN) return err;
    if (file != NULL) err = load_file(config, file, message);
    if (err == OK) err = load_environment(config, message);
    if (err == OK) err = load_arguments(options, config, message);
    if (err == OK) err = config_finish(config, message);
    return err;
}

/* ---- help ----------------------------------------------------------------------------------------------- */

/* Words in lines of at most 80 columns, all of them so far in. */
static void put_wrapped(const char *text)
{
    size_t column = HELP_INDENT;
    while (*text != 0) {
        const size_t size = strcspn(text, " ");
        if (column > HELP_INDENT && column + 1 + size > HELP_WIDTH) {
            printf("\n%*s", (int)HELP_INDENT, "");
            column = HELP_INDENT;
        }
        printf("%s%.*s", column > HELP_INDENT ? " " : "", (int)size, text);
        column += size + (column > HELP_INDENT);
        text += size + strspn(text + size, " ");
    }
    printf("\n");
}

void host_options_help(void)
{
    printf("kvnode %s - a node of a replicated key-value cluster\n\n"
           "usage: kvnode [--config FILE] [--OPTION VALUE ...]\n"
           "       kvnode recover --force --data DIR    when a majority is lost for good\n\n"
           "Each option is also a line `option = value` of FILE and an environment variable,\n"
           "as KVNODE_MAX_VALUE for max-value. The command line beats the environment, which\n"
           "beats the file. Without any option a node is a working cluster of one, on this\n"
           "machine only.\n\n",
           KV_VERSION);
    const struct config_option *option = config_option(0);
    for (uint32_t at = 0; option != NULL; option = config_option(++at)) {
        char line[512];
        printf("  --%-25s ", option->name);
        put_wrapped(option->description);
        (void)snprintf(line, sizeof line, "takes %s; default: %s", option->values,
                       option->fallback);
        printf("%*s", (int)HELP_INDENT, "");
        put_wrapped(line);
    }
    printf("\n  --%-25s %s\n  --%-25s %s\n  --%-25s %s\n  --%-25s %s\n", "config FILE",
           "reads options from FILE", "commands", "docs/commands.md: what clients can ask", "help",
           "this text", "version", "the version");
    printf("\nSIGTERM, SIGINT: hands leadership over, finishes what was accepted, exits; a\n"
           "second signal exits at once. SIGHUP: reads the options again.\n"
           "Exit codes: 0 clean, 1 bad configuration, 2 damaged or foreign data directory,\n"
           "3 disk failure while running, 70 bug.\n");
}

void host_options_commands(void)
{
    struct buf page = {0};
    manual_page(&page);
    (void)fwrite(page.data, 1, page.size, stdout);
    buf_close(&page);
}

void host_options_version(void)
{
    printf("kvnode %s (answers as Redis %s)\n", KV_VERSION, KV_REDIS_VERSION);
}
