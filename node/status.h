/* status.h - the state of this node for people and monitors: KV.STATUS and the HTTP port. */
#ifndef KV_NODE_STATUS_H
#define KV_NODE_STATUS_H

#include "node/core_parts.h"

struct status {
    const char *name;
    char id[20];
    const char *role;   /* leader, follower, learner */
    const char *leader; /* name; empty when unknown */
    uint64_t term, committed, applied, last, keys, disk_size;
    const char *version;
    char health[400]; /* ok, or the reason why not */
    const char *client;
    const char *peer;
    const char *cluster;
};

void status_of(struct core *core, struct status *status);
/* core_http() of core.h. */
int status_http(struct core *core, const char *path, struct buf *body, const char **type);

#endif
