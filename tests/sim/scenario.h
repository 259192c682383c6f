/* scenario.h - what the scenarios share: a cluster that serves, keys written and read through it, a good end. */
#ifndef KV_TESTS_SIM_SCENARIO_H
#define KV_TESTS_SIM_SCENARIO_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_run.h"
#include "tests/test.h"

#define NOBODY UINT32_MAX

/* A cluster of @nodes in which the first @started run and one of them leads. */
static inline struct sim *scenario_begin(uint32_t nodes, uint32_t started, uint64_t seed)
{
    const struct sim_options options = {
        .seed = seed, .nodes = nodes, .clients = 1, .verbose = getenv("VERBOSE") != NULL};
    struct sim *sim = sim_create(&options);
    for (uint32_t i = 0; i < nodes; i++) {
        /* Clocks that run alike, unless the scenario says otherwise: bounds can be tight then. */
        sim->nodes[i].mono_drift_ppm = 0;
        if (i < started) EXPECT_TRUE(sim_start(sim, i));
    }
    EXPECT_TRUE(sim_wait_leader(sim, 5000));
    return sim;
}

static inline void scenario_healthy(const struct sim *sim)
{
    if (sim->has_failed) fprintf(stderr, "scenario: %s\n", sim->failure);
    EXPECT_FALSE(sim->has_failed);
}

/* Everybody comes to the same state; then it is over. */
static inline void scenario_end(struct sim *sim)
{
    sim_run_converge(sim);
    scenario_healthy(sim);
    sim_destroy(sim);
}

/* Asks any node but @except until the answer is none of refusals or uncertainties; at most ten seconds. */
static inline const char *scenario_ask(struct sim *sim, uint32_t except, const char *line)
{
    const char *answer = "";
    for (uint32_t i = 0; i < 100 && !sim->has_failed; i++) {
        const uint32_t node = i % sim->node_count;
        if (node == except) continue;
        answer = sim_ask(sim, node, 1000, line);
        if (answer[0] != 0 && answer[0] != '-') return answer;
        sim_run_for(sim, 50);
    }
    return answer;
}

static inline void scenario_set(struct sim *sim, uint32_t except, const char *key, uint64_t value)
{
    char line[64];
    (void)snprintf(line, sizeof line, "SET %s %llu", key, (unsigned long long)value);
    EXPECT_TEXT(scenario_ask(sim, except, line), "+OK\r\n");
}

/* The number that @key holds, read through any node but @except; UINT64_MAX: nothing. */
static inline uint64_t scenario_get(struct sim *sim, uint32_t except, const char *key)
{
    char line[64];
    (void)snprintf(line, sizeof line, "GET %s", key);
    const char *answer = scenario_ask(sim, except, line);
    const char *text = strchr(answer, '\n');
    return answer[0] == '$' && answer[1] != '-' && text != NULL ? strtoull(text, NULL, 10)
                                                                : UINT64_MAX;
}

/* Letters and digits that no packing makes smaller by much. */
static inline void scenario_noise(char *to, uint32_t size, uint64_t seed)
{
    struct prng prng = prng_seed(seed);
    for (uint32_t i = 0; i < size; i++) to[i] = (char)('0' + (int)prng_below(&prng, 43));
}

/* Writes @count values of 6000 bytes, enough to fill segments and to make the log be dropped. */
static inline void scenario_fill(struct sim *sim, uint32_t count)
{
    static char line[6100];
    for (uint32_t i = 0; i < count; i++) {
        const int size = snprintf(line, sizeof line, "SET fill%u ", i % 7);
        scenario_noise(line + size, 6000, i);
        line[size + 6000] = 0;
        EXPECT_TEXT(scenario_ask(sim, NOBODY, line), "+OK\r\n");
    }
}

/* Cuts @node off from all others, in the ways asked for. */
static inline void scenario_isolate(struct sim *sim, uint32_t node, bool out, bool in)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (i == node) continue;
        if (out) sim_net_block(sim, node, i);
        if (in) sim_net_block(sim, i, node);
    }
}

#endif
