/* host_options.h - where a node's options come from: a file, the environment, the command line.
 *
 * The command line beats the environment, which beats the file. Everything can be read again while
 * running (SIGHUP); the caller decides what of it may change then. */
#ifndef KV_HOST_HOST_OPTIONS_H
#define KV_HOST_HOST_OPTIONS_H

#include "node/config.h"

#define HOST_OPTIONS_MESSAGE_SIZE 2048u

enum host_wish { HOST_WISH_RUN, HOST_WISH_HELP, HOST_WISH_VERSION, HOST_WISH_COMMANDS };

struct host_options {
    int argc;
    char **argv; /* keeps */
    enum host_wish wish;
};

/* Fills @config from every source. ERR_INVALID: @message (HOST_OPTIONS_MESSAGE_SIZE) is one line for the
 * operator. When @options->wish is not HOST_WISH_RUN afterwards only that is to be done. */
enum err host_options_load(struct host_options *options, struct config *config, char *message);

/* --help and --version, to standard output. */
void host_options_help(void);
void host_options_version(void);
void host_options_commands(void); /* docs/commands.md */

#endif
