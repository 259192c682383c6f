/* main.c - kvnode: reads the options, then runs the node, or recovers one by force. */
#include <stdio.h>
#include <unistd.h>

#include "node/host/host_loop.h"
#include "node/host/host_options.h"
#include "node/host/host_recover.h"
#include "storage/base/check.h"

int main(int argc, char **argv)
{
    static struct config config;
    static struct host_options options;
    char message[HOST_OPTIONS_MESSAGE_SIZE] = "";
    if (host_recover_wanted(argc, argv)) return host_recover_run(argc, argv);
    options.argc = argc;
    options.argv = argv;
    if (host_options_load(&options, &config, message) != OK) {
        fprintf(stderr, "kvnode: %s\n", message);
        return EXIT_BAD_CONFIG;
    }
    if (options.wish == HOST_WISH_HELP) {
        host_options_help();
        return 0;
    }
    if (options.wish == HOST_WISH_VERSION) {
        host_options_version();
        return 0;
    }
    if (options.wish == HOST_WISH_COMMANDS) {
        host_options_commands();
        return 0;
    }
    const int code = host_loop_run(&options, &config);
    /* A node that failed leaves at once: no destructor of a library may wait for a thread. */
    if (code != 0) _exit(code);
    return 0;
}
