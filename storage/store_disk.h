/* store_disk.h - what a store says of the state of its disk, beside store_nospace(). */
#ifndef KV_STORAGE_STORE_DISK_H
#define KV_STORAGE_STORE_DISK_H

#include "storage/latency.h"
#include "storage/store.h"

/* Bytes of log that can still be written without new space. */
uint64_t store_room(const struct store *store);
/* See log_fits(). */
bool store_fits(const struct store *store, uint64_t size);
/* The disk owes us the next segment: entries wait for it, and it does not say that it is full. */
bool store_starved(const struct store *store);
/* How long the writes of the log took, each with its sync. */
const struct latency *store_write_latency(const struct store *store);
/* Gives back a little of the reserve, for a small file that found the disk full. False: there is
 * none. Waits for the disk. */
bool store_spend_reserve(struct store *store);

#endif
