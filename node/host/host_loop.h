/* host_loop.h - the node on libuv: events in, one core_turn() per iteration of the loop, signals, the end.
 *
 * The loop sleeps until something happens or core_deadline() has come; it never spins. Start-up goes from what
 * changes nothing (ports) to what does (the data directory), and nobody is served before all of it succeeded. */
#ifndef KV_HOST_HOST_LOOP_H
#define KV_HOST_HOST_LOOP_H

#include "node/host/host_options.h"

/* Runs a node with @config (of @options, which are read again at SIGHUP) until it has ended. Returns the exit code;
 * what went wrong was logged in one line. */
int host_loop_run(struct host_options *options, struct config *config);

#endif
