#include "storage/store_disk.h"

#include "storage/store_inner.h"

uint64_t store_room(const struct store *store)
{
    return log_room(&store->log);
}

bool store_fits(const struct store *store, uint64_t size)
{
    return log_fits(&store->log, size);
}

bool store_starved(const struct store *store)
{
    return log_starved(&store->log);
}

const struct latency *store_write_latency(const struct store *store)
{
    return &store->log.writes;
}

bool store_spend_reserve(struct store *store)
{
    return reserve_spend(&store->log.reserve);
}
