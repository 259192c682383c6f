#include "tests/sim/check_space.h"

#include "storage/store_space.h"
#include "tests/sim/sim.h"

#define FILES_MAX 64u       /* small files that are left alone, */
#define FILE_OVERHEAD 8192u /* each with its header and a last block of hardly anything */

struct figures {
    uint64_t used;
    uint64_t largest; /* of a file */
    uint64_t files;
    uint64_t live;
};

static void add(void *context, const struct store_file *file)
{
    struct figures *figures = context;
    figures->used += file->size + file->hint_size;
    figures->files++;
    if (file->size > figures->largest) figures->largest = file->size;
}

static struct figures figures_of(const struct sim_node *node)
{
    struct figures figures = {0};
    struct store *store = core_store(node->core);
    struct keydir_cursor cursor;
    store_files(store, add, &figures);
    const struct keydir_entry *entry = keydir_seek(store_keys(store), (struct slice){0}, &cursor);
    for (; entry != NULL; entry = keydir_next(&cursor)) {
        const struct keydir_info info = keydir_info(entry);
        figures.live += keydir_size_on_disk(&info);
    }
    return figures;
}

static uint64_t bound_of(const struct sim_node *node, const struct figures *figures)
{
    uint64_t segment = node->config.segment_size;
    if (figures->largest > segment) segment = figures->largest;
    /* Values that are larger than a segment make single files larger, and those of the others no fewer. */
    const uint64_t files = FILES_MAX + 8 * figures->live / node->config.segment_size;
    /* What is needed is values and overhead, and compaction sets in at one and a half times that. */
    return 2 * figures->live + node->config.retention_size + 3 * segment +
           files * FILE_OVERHEAD * 3 / 2;
}

bool check_space_bounded(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct figures figures = figures_of(&sim->nodes[i]);
        if (figures.used > bound_of(&sim->nodes[i], &figures)) return false;
    }
    return true;
}

static void note_file(void *context, const struct store_file *file)
{
    sim_note(context, "  %08u %s state %u: size %llu used %llu hint %llu live %llu%s%s",
             file->number, file->is_table ? "table" : "log", (unsigned)file->state,
             (unsigned long long)file->size, (unsigned long long)file->used,
             (unsigned long long)file->hint_size, (unsigned long long)file->live,
             file->is_in_window ? " in window" : "", file->is_damaged ? " damaged" : "");
}

static void note_all(struct sim *sim, const struct sim_node *node)
{
    const struct store_compaction jobs = store_compaction(core_store(node->core));
    sim_note(sim, "  compaction: %s, %llu jobs, %llu given up, garbage %llu",
             jobs.is_running ? "running" : "idle", (unsigned long long)jobs.jobs,
             (unsigned long long)jobs.given_up, (unsigned long long)jobs.garbage);
    store_files(core_store(node->core), note_file, sim);
}

void check_space_fail(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct figures figures = figures_of(&sim->nodes[i]);
        const uint64_t bound = bound_of(&sim->nodes[i], &figures);
        sim_note(sim, "n%u: %llu bytes in %llu files, %llu live, bound %llu", i + 1,
                 (unsigned long long)figures.used, (unsigned long long)figures.files,
                 (unsigned long long)figures.live, (unsigned long long)bound);
        if (figures.used <= bound) continue;
        note_all(sim, &sim->nodes[i]);
        sim_fail(sim, "n%u takes %llu bytes in %llu files for %llu that live: at most %llu", i + 1,
                 (unsigned long long)figures.used, (unsigned long long)figures.files,
                 (unsigned long long)figures.live, (unsigned long long)bound);
    }
}
