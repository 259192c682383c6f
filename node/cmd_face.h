/* cmd_face.h - the commands with which clients find their way: cmd_client.c, cmd_cluster.c, cmd_sentinel.c. */
#ifndef KV_NODE_CMD_FACE_H
#define KV_NODE_CMD_FACE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"

struct command;
struct core;
struct eval;
struct session;

void cmd_client(struct eval *eval);
/* A name or another text of the client, which may hold no spaces (an error was replied), into @text. */
bool cmd_client_text(struct eval *eval, struct slice value, char *text, uint64_t size,
                     const char *what);
void cmd_cluster(struct eval *eval);
void cmd_readonly(struct eval *eval);
void cmd_readwrite(struct eval *eval);
void cmd_asking(struct eval *eval);
void cmd_sentinel(struct eval *eval);

/* CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT look at all keys, in slices (stream.h). */
bool cmd_cluster_walks(const struct session *session, const struct command *command,
                       const struct slice *args, uint32_t count);
/* Once a turn: tells who listens to +switch-master when another node leads. */
void cmd_sentinel_turn(struct core *core);

#endif
