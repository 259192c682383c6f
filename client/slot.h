/* slot.h - the hash slot of a key, as Redis Cluster numbers them.
 *
 * Source: the Redis cluster specification (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/):
 * CRC-16/XMODEM of the key modulo 16384. When the key holds "{tag}" with a tag that is not empty only the
 * tag counts, so that keys with the same tag share a slot. */
#ifndef KV_CLIENT_SLOT_H
#define KV_CLIENT_SLOT_H

#include <stdint.h>

#include "storage/base/bytes.h"

#define SLOT_COUNT 16384u

uint32_t slot_of_key(struct slice key); /* below SLOT_COUNT */

#endif
