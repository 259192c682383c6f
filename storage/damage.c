#include "storage/damage.h"

#include <stdio.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

void damage_fault_set(struct damage_fault *fault, enum damage_kind kind, const char *file,
                      uint64_t offset, const char *what)
{
    if (fault == NULL) return;
    *fault = (struct damage_fault){.kind = kind, .offset = offset};
    (void)snprintf(fault->file, sizeof fault->file, "%s", file);
    (void)snprintf(fault->what, sizeof fault->what, "%s", what);
}

void damage_close(struct damage *damage)
{
    mem_free(damage->spots);
    *damage = (struct damage){0};
}

static uint64_t end_of(const struct damage_spot *spot)
{
    return spot->size > UINT64_MAX - spot->offset ? UINT64_MAX : spot->offset + spot->size;
}

static void drop(struct damage *damage, uint32_t first, uint32_t count)
{
    if (count == 0)
        return; /* There may be no list at all, and not even nothing is moved from no place. */
    memmove(damage->spots + first, damage->spots + first + count,
            (damage->count - first - count) * sizeof *damage->spots);
    damage->count -= count;
}

/* The spots of @file: where they begin, and how many. */
static uint32_t range_of(const struct damage *damage, uint32_t file, uint32_t *count)
{
    uint32_t first = 0;
    while (first < damage->count && damage->spots[first].file < file) first++;
    *count = 0;
    while (first + *count < damage->count && damage->spots[first + *count].file == file) ++*count;
    return first;
}

/* Where a list that is full of single spots has no room, one spot stands for all of a file. */
static void join(struct damage *damage, uint32_t file)
{
    uint32_t count = 0;
    const uint32_t first = range_of(damage, file, &count);
    if (count < 2) return;
    damage->spots[first].size = UINT64_MAX;
    drop(damage, first + 1, count - 1);
}

static void insert(struct damage *damage, uint32_t at, struct damage_spot spot)
{
    if (damage->count == damage->capacity) {
        damage->capacity = damage->capacity < 8 ? 8 : 2 * damage->capacity;
        damage->spots = mem_resize(damage->spots, damage->capacity * sizeof *damage->spots);
    }
    memmove(damage->spots + at + 1, damage->spots + at,
            (damage->count - at) * sizeof *damage->spots);
    damage->spots[at] = spot;
    damage->count++;
}

bool damage_note(struct damage *damage, uint32_t file, uint64_t offset, uint64_t size)
{
    uint32_t count = 0;
    struct damage_spot spot = {.file = file, .offset = offset, .size = size};
    CHECK(file > 0);
    CHECK(size > 0);
    uint32_t at = range_of(damage, file, &count);
    const uint32_t end = at + count;
    while (at < end && end_of(&damage->spots[at]) < offset) at++;
    if (at < end && damage->spots[at].offset <= offset &&
        end_of(&damage->spots[at]) >= end_of(&spot)) {
        return false;
    }
    /* Everything that it touches becomes one. */
    uint32_t joined = 0;
    while (at + joined < end && damage->spots[at + joined].offset <= end_of(&spot)) {
        const struct damage_spot *other = &damage->spots[at + joined];
        const uint64_t until = end_of(other) > end_of(&spot) ? end_of(other) : end_of(&spot);
        if (other->offset < spot.offset) spot.offset = other->offset;
        spot.size = until == UINT64_MAX ? UINT64_MAX : until - spot.offset;
        joined++;
    }
    drop(damage, at, joined);
    insert(damage, at, spot);
    /* What touches a spot that is known is no other finding. */
    damage->found_count += joined == 0;
    if (damage->count > DAMAGE_SPOTS_MAX) join(damage, file);
    return true;
}

void damage_repaired(struct damage *damage, uint32_t file)
{
    uint32_t count = 0;
    const uint32_t first = range_of(damage, file, &count);
    if (count == 0) return;
    drop(damage, first, count);
    damage->repaired_count += count;
}

bool damage_has(const struct damage *damage, uint32_t file)
{
    uint32_t count = 0;
    (void)range_of(damage, file, &count);
    return count > 0;
}

bool damage_covers(const struct damage *damage, uint32_t file, uint64_t offset, uint64_t size)
{
    uint32_t count = 0;
    const uint32_t first = range_of(damage, file, &count);
    for (uint32_t i = first; i < first + count; i++) {
        const struct damage_spot *spot = &damage->spots[i];
        if (spot->offset < offset + size && end_of(spot) > offset) return true;
    }
    return false;
}
