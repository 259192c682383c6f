/* core_rates.c - what happened in the last second. */
#include "node/core_parts.h"

#define WINDOW_MS 1000u

void core_tick_rates(struct core *core)
{
    struct core_rates *rates = &core->rates;
    const struct core_stats *stats = &core->stats;
    const uint64_t passed = core->now_ms - rates->at_ms;
    if (passed < WINDOW_MS) return;
    const bool is_first = rates->at_ms == 0;
    if (!is_first) {
        rates->commands_s = (stats->commands_total - rates->commands) * 1000 / passed;
        rates->bytes_in_s = (stats->bytes_in_total - rates->bytes_in) * 1000 / passed;
        rates->bytes_out_s = (stats->bytes_out_total - rates->bytes_out) * 1000 / passed;
    }
    rates->at_ms = core->now_ms;
    rates->commands = stats->commands_total;
    rates->bytes_in = stats->bytes_in_total;
    rates->bytes_out = stats->bytes_out_total;
}
