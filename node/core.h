/* core.h - the node as one single-threaded state machine without I/O.
 *
 * Bytes, completions and the time go in as arguments; everything the core wants done leaves through struct
 * disk and struct net. libuv drives it in production, the simulator drives the same code in tests.
 * Handlers only take the bytes; core_turn() parses, evaluates, proposes, applies and replies, at most one log
 * write at a time. Call core_turn() once after every group of events, and at core_deadline() at the latest.
 *
 * @now_ms is monotonic, @wall_ms is milliseconds since the epoch (it may jump; expiry copes with it). */
#ifndef KV_NODE_CORE_H
#define KV_NODE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "node/config.h"
#include "node/net.h"
#include "storage/disk.h"

struct core;
struct session;
struct link;

enum core_face {
    CORE_FACE_CLIENT,  /* standalone and Sentinel clients: any node takes any command */
    CORE_FACE_CLUSTER, /* Redis Cluster clients: MOVED instead of forwarding */
};

/* ---- life ---------------------------------------------------------------------------------------- */

/* @config, @disk and @net are borrowed until destroy; CONFIG SET changes @config. @seed: all randomness. */
struct core *core_create(struct config *config, struct disk *disk, struct net *net, uint64_t seed);
/* Opens the data directory (identity, store) or makes it at the first start, and starts the replica.
 * On an error @message (at least 512 bytes) holds one line for the operator, *@exit_code the code to end with. */
enum err core_start(struct core *core, uint64_t now_ms, uint64_t wall_ms, char *message,
                    int *exit_code);
void core_destroy(struct core *core);

/* Begins the graceful stop: hand leadership over, go on forwarding and sending away for `drain`, finish
 * what was accepted. Clients that connect meanwhile are served too: one that was refused might not look elsewhere. */
void core_stop(struct core *core, uint64_t now_ms);
bool core_stopped(
    const struct core *core); /* all done (or `drain` is over): destroy it and exit 0 */
/* Non-zero: the core cannot go on (damage found while running): log line was given, exit with this code. */
int core_failed(const struct core *core);

/* ---- the members to dial ---------------------------------------------------------------------------- */

uint32_t core_peer_count(const struct core *core);
/* Id and address of member @at; the strings live as long as the core. */
void core_peer_get(const struct core *core, uint32_t at, uint64_t *node_id, const char **address);

void core_peer_up(struct core *core, uint64_t node_id);
void core_peer_down(struct core *core, uint64_t node_id);
void core_peer_bytes(struct core *core, uint64_t node_id, const uint8_t *data, uint64_t size);
void core_peer_writable(struct core *core, uint64_t node_id);

/* ---- incoming peers ---------------------------------------------------------------------------------- */

struct link *core_link_open(struct core *core, void *connection); /* NULL: refused, close it */
void core_link_bytes(struct core *core, struct link *link, const uint8_t *data, uint64_t size);
void core_link_closed(struct core *core, struct link *link);

/* ---- clients ------------------------------------------------------------------------------------------ */

/* @address: of the client, for CLIENT LIST. NULL: over max-connections or stopping; an error was sent,
 * close it. */
struct session *core_client_open(struct core *core, void *connection, enum core_face face,
                                 const char *address);
void core_client_bytes(struct core *core, struct session *session, const uint8_t *data,
                       uint64_t size);
void core_client_writable(struct core *core, struct session *session);
/* The client sends nothing more (a half-closed connection): what it asked is answered, then it is closed. */
void core_client_eof(struct core *core, struct session *session);
void core_client_closed(struct core *core, struct session *session);

/* ---- time ---------------------------------------------------------------------------------------------- */

void core_turn(struct core *core, uint64_t now_ms, uint64_t wall_ms);
uint64_t core_deadline(const struct core *core); /* monotonic; UINT64_MAX: nothing to wait for */

/* ---- insight, for the host's HTTP port, tests and the simulator ------------------------------------------ */

struct store;
struct replica;
struct store *core_store(struct core *core); /* NULL before start, while being reopened, repaired */
struct replica *core_replica(struct core *core); /* likewise */
/* True while linearizable commands are served here or by a leader we can reach; else @reason (64 bytes). */
bool core_serving(const struct core *core, char *reason);
/* This node has lost something and recovers it from the others. */
bool core_quarantined(const struct core *core);
/* Another node takes its data directory for an older copy or a wrong one: it elects nobody. */
bool core_refused(const struct core *core);
/* It has no store and no replica yet: its log is being rebuilt from the records of the others. */
bool core_repairing(const struct core *core);
/* How many client connections the machine has room for; more than that are refused whatever max-connections says. */
void core_set_room(struct core *core, uint64_t connections);
/* The options that may change while the node runs become those of @fresh. */
void core_reload(struct core *core, const struct config *fresh);
/* Answers GET @path of the HTTP port: appends the body, names its type, returns the status. */
int core_http(struct core *core, const char *path, struct buf *body, const char **type);
/* The host's processor was busy for @us with a round of its loop: input, turn and output. */
void core_note_busy(struct core *core, uint64_t us);
void core_check(const struct core *core);

#endif
