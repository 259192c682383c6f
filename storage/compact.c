#include "storage/compact.h"

#include "storage/base/check.h"

#define FILE_OVERHEAD 8192u /* header and the last block of a file of hardly anything */
#define SHARE_MIN 8u        /* A file is no victim when less than one part in so many is garbage. */
#define SHARE_NEIGHBOUR 4u  /* A neighbour is taken along when it has at least this, or is small. */

/* Sum of the hints of the files before @position. */
static uint64_t hints_before(const struct compact_file *files, uint32_t position)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < position; i++) size += files[i].hint_size;
    return size;
}

/* What is not garbage, given the size of all older hints. */
static uint64_t need_of(const struct compact_file *file, uint64_t older_hints)
{
    const bool is_checkable = file->deletes * COMPACT_DELETES_WORTH >= older_hints;
    uint64_t need = file->live;
    if (older_hints > 0 && (!is_checkable || file->deletes_are_exact)) need += file->deletes;
    /* A table has a word beside each item, and groups. */
    if (need > 0 && file->is_table) need += file->items * 8 + file->used / 256;
    if (need > 0) need += FILE_OVERHEAD;
    return need < file->used ? need : file->used;
}

uint64_t compact_garbage(const struct compact_file *files, uint32_t position)
{
    const uint64_t need = need_of(&files[position], hints_before(files, position));
    return files[position].used - need;
}

/* The bound is one and a half times what is needed. */
static bool is_over(uint64_t used, uint64_t garbage)
{
    return garbage * 3 > used;
}

struct compact_figures compact_figures(const struct compact_file *files, uint32_t count)
{
    struct compact_figures figures = {0};
    uint64_t older_hints = 0;
    for (uint32_t i = 0; i < count; i++) {
        figures.used += files[i].used;
        figures.garbage += files[i].used - need_of(&files[i], older_hints);
        older_hints += files[i].hint_size;
    }
    figures.is_over = is_over(figures.used, figures.garbage);
    return figures;
}

/* Is the share of garbage in @a greater than in @b? */
static bool is_worse(uint64_t a_garbage, uint64_t a_used, uint64_t b_garbage, uint64_t b_used)
{
    return (double)a_garbage * (double)b_used > (double)b_garbage * (double)a_used;
}

/* The file to begin with; @count: there is none. */
static uint32_t victim_of(const struct compact_file *files, uint32_t count,
                          const struct compact_limits *limits)
{
    const struct compact_figures all = compact_figures(files, count);
    const bool is_due = limits->is_forced || (all.is_over && all.garbage >= limits->target_size);
    uint64_t older_hints = 0;
    uint32_t best = count;
    uint64_t best_garbage = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct compact_file *file = &files[i];
        const uint64_t garbage = file->used - need_of(file, older_hints);
        older_hints += file->hint_size;
        if (file->is_blocked) continue;
        if (file->is_wanted || garbage == file->used) return i;
        if (!is_due || garbage < file->used / SHARE_MIN || garbage <= FILE_OVERHEAD) continue;
        if (best < count && !is_worse(garbage, file->used, best_garbage, files[best].used))
            continue;
        best = i;
        best_garbage = garbage;
    }
    return best;
}

/* Too many small files, as many short-lived segments leave them: the smallest two neighbours. */
static uint32_t smallest_pair(const struct compact_file *files, uint32_t count,
                              const struct compact_limits *limits)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < count; i++) used += files[i].used;
    if (count < 16 + 4 * (used / limits->target_size)) return count;
    uint32_t best = count;
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (files[i].is_blocked || files[i + 1].is_blocked) continue;
        const uint64_t size = files[i].used + files[i + 1].used;
        if (best < count && size >= files[best].used + files[best + 1].used) continue;
        best = i;
    }
    return best;
}

/* Is it worth taking @position along? */
static bool is_companion(const struct compact_file *files, uint32_t position, uint64_t out,
                         const struct compact_limits *limits)
{
    const struct compact_file *file = &files[position];
    if (file->is_blocked) return false;
    const uint64_t garbage = compact_garbage(files, position);
    if (out + file->used - garbage > limits->target_size) return false;
    return garbage >= file->used / SHARE_NEIGHBOUR || file->used < limits->target_size / 8;
}

static void run_grow(const struct compact_file *files, uint32_t count,
                     const struct compact_limits *limits, struct compact_run *run)
{
    uint64_t out = 0;
    for (uint32_t i = run->begin; i < run->begin + run->count; i++) {
        out += files[i].used - compact_garbage(files, i);
    }
    while (run->count < COMPACT_RUN_MAX) {
        const uint32_t end = run->begin + run->count;
        const bool left = run->begin > 0 && is_companion(files, run->begin - 1, out, limits);
        const bool right = end < count && is_companion(files, end, out, limits);
        if (!left && !right) return;
        bool takes_left = left;
        if (left && right) {
            takes_left = !is_worse(compact_garbage(files, end), files[end].used,
                                   compact_garbage(files, run->begin - 1),
                                   files[run->begin - 1].used);
        }
        const uint32_t taken = takes_left ? run->begin - 1 : end;
        if (takes_left) run->begin--;
        run->count++;
        out += files[taken].used - compact_garbage(files, taken);
    }
}

bool compact_choose(const struct compact_file *files, uint32_t count,
                    const struct compact_limits *limits, struct compact_run *run)
{
    CHECK(limits->target_size > 0);
    *run = (struct compact_run){.count = 1};
    run->begin = victim_of(files, count, limits);
    if (run->begin == count) {
        run->begin = smallest_pair(files, count, limits);
        run->count = 2;
    }
    if (run->begin == count) return false;
    run_grow(files, count, limits, run);
    const uint64_t older_hints = hints_before(files, run->begin);
    uint64_t deletes = 0;
    for (uint32_t i = run->begin; i < run->begin + run->count; i++) deletes += files[i].deletes;
    run->checks_deletes = deletes > 0 && older_hints > 0 &&
                          deletes * COMPACT_DELETES_WORTH >= older_hints;
    return true;
}
