/* sim - random runs of whole clusters in virtual time, one per seed.
 *
 *   sim --seed N --seeds COUNT [--time MS] [--nodes N] [--clients N] [--twice] [-v]
 *
 * Each seed runs in a process of its own, so that a failed CHECK is one failed seed and not the end. Prints each
 * failure with the command that repeats it, then a line of figures, then "N passed, N failed". */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/base/check.h"
#include "tests/sim/sim_run.h"

#define SEED_SECONDS_MAX 120u
#define TWICE_SEEDS                                                                                \
    5u /* of such long runs the first ones are done twice, to see that they do not differ */
#define FIGURES_SEEDS_MIN                                                                          \
    50u /* from so many seeds on, everything must have happened at least once */

/* What the process of one seed leaves for the one that started it. */
struct outcome {
    uint64_t now;
    uint64_t trace;
    struct sim_counts counts;
    char failure[512];
};

struct arguments {
    uint64_t seed;
    uint64_t seeds;
    struct sim_options options;
    bool twice;
};

static bool number_of(const char *text, uint64_t *number)
{
    char *end = NULL;
    *number = strtoull(text, &end, 10);
    return end != text && *end == 0;
}

static bool arguments_read(int argc, char **argv, struct arguments *arguments)
{
    *arguments = (struct arguments){.seed = 1, .seeds = 1, .options = {.time_ms = 12000}};
    for (int i = 1; i < argc; i++) {
        uint64_t number = 0;
        if (strcmp(argv[i], "-v") == 0) {
            arguments->options.verbose = 1;
            continue;
        }
        if (strcmp(argv[i], "--twice") == 0) {
            arguments->twice = true;
            continue;
        }
        if (i + 1 == argc || !number_of(argv[i + 1], &number)) return false;
        if (strcmp(argv[i], "--seed") == 0) {
            arguments->seed = number;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            arguments->seeds = number;
        } else if (strcmp(argv[i], "--time") == 0) {
            arguments->options.time_ms = number;
        } else if (strcmp(argv[i], "--nodes") == 0 && number <= SIM_NODES_MAX) {
            arguments->options.nodes = (uint32_t)number;
        } else if (strcmp(argv[i], "--clients") == 0 && number <= SIM_CLIENT_LIMIT) {
            arguments->options.clients = (uint32_t)number;
        } else {
            return false;
        }
        i++;
    }
    return true;
}

static void run_once(const struct arguments *arguments, uint64_t seed, struct outcome *outcome)
{
    struct sim_options options = arguments->options;
    options.seed = seed;
    struct sim *sim = sim_create(&options);
    (void)sim_run(sim);
    outcome->now = sim->now;
    outcome->trace = sim->trace;
    outcome->counts = sim->counts;
    memcpy(outcome->failure, sim->failure, sizeof outcome->failure);
    sim_destroy(sim);
}

static void run_seed(const struct arguments *arguments, uint64_t seed, struct outcome *outcome)
{
    run_once(arguments, seed, outcome);
    const bool twice = arguments->twice || (arguments->seeds >= FIGURES_SEEDS_MIN &&
                                            seed - arguments->seed < TWICE_SEEDS);
    if (!twice || outcome->failure[0] != 0) return;
    const uint64_t trace = outcome->trace;
    run_once(arguments, seed, outcome);
    if (outcome->trace == trace) return;
    (void)snprintf(outcome->failure, sizeof outcome->failure,
                   "two runs of one seed differ: %016" PRIx64 " and %016" PRIx64, trace,
                   outcome->trace);
}

static void add_counts(struct sim_counts *sum, const struct sim_counts *counts)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)counts;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
}

/* True when the seed passed. */
static bool try_seed(const struct arguments *arguments, uint64_t seed, struct outcome *outcome,
                     struct sim_counts *sum)
{
    int status = 0;
    memset(outcome, 0, sizeof *outcome);
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    if (child == 0) {
        (void)alarm(SEED_SECONDS_MAX); /* A turn that never ends would otherwise stop everything. */
        run_seed(arguments, seed, outcome);
        exit(outcome->failure[0] != 0);
    }
    if (waitpid(child, &status, 0) != child) return false;
    add_counts(sum, &outcome->counts);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && outcome->failure[0] == 0) return true;
    if (outcome->failure[0] == 0) {
        (void)snprintf(outcome->failure, sizeof outcome->failure, "the process ended with %s %d",
                       WIFSIGNALED(status) ? "signal" : "code",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    printf("seed %" PRIu64 " failed at %" PRIu64 " ms: %s\n", seed, outcome->now / SIM_MS,
           outcome->failure);
    printf("  repeat it: sim --seed %" PRIu64 " --time %" PRIu64, seed, arguments->options.time_ms);
    if (arguments->options.nodes > 0) printf(" --nodes %u", arguments->options.nodes);
    if (arguments->options.clients > 0) printf(" --clients %u", arguments->options.clients);
    printf(" -v\n");
    return false;
}

static void print_counts(const struct sim_counts *c)
{
    printf("%" PRIu64 " ok, %" PRIu64 " refused, %" PRIu64 " unknown operations on %" PRIu64
           " keys; %" PRIu64 " entries, %" PRIu64 " leaders, %" PRIu64 " faults: %" PRIu64
           " crashes (%" PRIu64 " without power), %" PRIu64 " stops, %" PRIu64 " freezes, %" PRIu64
           " partitions, %" PRIu64 " resets, %" PRIu64 " frames spoilt, %" PRIu64
           " full disks, %" PRIu64 " clock jumps, %" PRIu64 " bits rotten (%" PRIu64
           " refusals, %" PRIu64 " quarantines, %" PRIu64 " for good, %" PRIu64
           " groups lost, %" PRIu64 " wrong disks, %" PRIu64 " runs mended, %" PRIu64
           " logs repaired, %" PRIu64 " runs without a last copy, %" PRIu64
           " values unreadable), %" PRIu64 " fragments; %" PRIu64 " torn writes, %" PRIu64
           " sectors lost, %" PRIu64 " torn tails cut, %" PRIu64 " seals, %" PRIu64
           " compactions, %" PRIu64 " cuts, %" PRIu64 " installs (%" PRIu64 " given up); %" PRIu64
           " turns; %" PRIu64 " transfers, %" PRIu64 " not done, %" PRIu64
           " reads of all accounts; %" PRIu64 " ranges, %" PRIu64 " keys at a revision, %" PRIu64
           " histories, %" PRIu64 " not kept any more; %" PRIu64 " messages with %" PRIu64
           " changes to %" PRIu64 " feeds, %" PRIu64 " values before looked up, %" PRIu64
           " overtaken by retention; %" PRIu64 " sequences once, %" PRIu64 " repeats, %" PRIu64
           " locks taken, %" PRIu64 " flushes\n",
           c->ops_ok, c->ops_failed, c->ops_unknown, c->keys_checked, c->entries, c->elections,
           c->faults, c->crashes, c->power_cuts, c->stops, c->freezes, c->partitions, c->resets,
           c->frames_changed, c->disk_full, c->jumps, c->rots, c->refusals, c->quarantines,
           c->decays, c->losses, c->strangers, c->mended, c->repairs, c->last_copies, c->unreadable,
           c->fragments, c->torn_writes, c->lost_sectors, c->torn_tails, c->seals, c->compactions,
           c->cuts, c->installs, c->reopens - c->installs, c->turns, c->transfers, c->transfers_not,
           c->bank_reads, c->ranges, c->past_keys, c->histories, c->ranges_gone, c->feed_messages,
           c->feed_changes, c->feed_resumes, c->feed_previous, c->feeds_gone, c->once_sequences,
           c->once_repeats, c->locks, c->flushes);
}

/* Long runs in which something never happened did not test it. */
static bool all_happened(const struct sim_counts *c)
{
    const uint64_t floors[] = {
        c->crashes,     c->power_cuts,    c->stops,          c->freezes,      c->partitions,
        c->resets,      c->disk_full,     c->jumps,          c->torn_writes,  c->lost_sectors,
        c->torn_tails,  c->seals,         c->cuts,           c->installs,     c->frames_changed,
        c->ops_unknown, c->refusals,      c->compactions,    c->decays,       c->losses,
        c->strangers,   c->mended,        c->repairs,        c->last_copies,  c->fragments,
        c->transfers,   c->transfers_not, c->bank_reads,     c->ranges,       c->past_keys,
        c->histories,   c->ranges_gone,   c->feed_messages,  c->feed_changes, c->feed_resumes,
        c->feeds_gone,  c->feed_previous, c->once_sequences, c->once_repeats, c->locks,
        c->flushes};
    for (size_t i = 0; i < sizeof floors / sizeof floors[0]; i++) {
        if (floors[i] == 0) return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct sim_counts sum = {0};
    uint64_t failed = 0;
    if (!arguments_read(argc, argv, &arguments)) {
        fprintf(stderr, "usage: sim --seed N --seeds COUNT [--time MS] [--nodes N] [--clients N] "
                        "[--twice] [-v]\n");
        return 2;
    }
    struct outcome *outcome = mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcome == MAP_FAILED) return 2;
    for (uint64_t i = 0; i < arguments.seeds; i++) {
        if (!try_seed(&arguments, arguments.seed + i, outcome, &sum)) failed++;
    }
    print_counts(&sum);
    const bool is_typical = arguments.options.nodes == 0 && arguments.seeds >= FIGURES_SEEDS_MIN;
    if (is_typical && !all_happened(&sum)) {
        printf("something never happened in all these runs: they do not count\n");
        failed = arguments.seeds;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", arguments.seeds - failed, failed);
    return failed > 0;
}
