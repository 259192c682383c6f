/* version.h - what this program calls itself, and which Redis it answers as.
 *
 * Clients choose commands by the Redis version: beyond 7.2 some probe for things that we do not have. */
#ifndef KV_NODE_VERSION_H
#define KV_NODE_VERSION_H

#ifndef KV_VERSION
#define KV_VERSION "0.1.0"
#endif
#define KV_REDIS_VERSION "7.2.4"

#endif
