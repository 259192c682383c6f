#include "storage/slab.h"

#include <stddef.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define CHUNK_UNITS (SLAB_CHUNK_SIZE / SLAB_UNIT)
#define NUMBERS_MIN 16u
#define LARGES_MAX (UINT32_MAX - SLAB_LARGE_FIRST)
#define FULL_REGIONS (SLAB_REGIONS_MAX / 8 * 7)

/* The free chunks of a region are linked through themselves. */
struct link {
    struct link *next;
};

struct slab_region {
    struct list list;
    uint8_t *chunks; /* The first one, aligned to its size. */
    struct link *free;
    uint32_t number;
    uint32_t count; /* Chunks. */
    uint32_t fresh; /* Chunks never used so far: the last ones. */
    uint32_t used;
};

/* At the start of every chunk in use. So no slot has the reference 0. */
struct chunk {
    struct list list; /* In partial when it has room, else by itself. */
    struct slab_region *region;
    uint16_t size; /* Of a slot, in bytes. */
    uint16_t used; /* Slots. */
    uint16_t end;  /* Where the slots begin that were never used so far. */
    uint16_t free; /* The first free slot before, in units from the chunk's start; 0: none. */
};

STATIC_CHECK(SLAB_CHUNK_SIZE <= UINT16_MAX, "offsets within a chunk fit in 16 bits");
STATIC_CHECK(sizeof(struct chunk) % SLAB_UNIT == 0, "the slots of a chunk are aligned");
STATIC_CHECK((uint64_t)SLAB_REGIONS_MAX *SLAB_REGION_UNITS < UINT32_MAX, "references have 32 bits");

/* Bytes to allocate for a region of @count chunks: its header, and one chunk more for what is lost
 * before the first one by alignment. */
static uint64_t region_size(uint32_t count)
{
    return sizeof(struct slab_region) + (count + 1ull) * SLAB_CHUNK_SIZE;
}

void slab_init(struct slab *slab)
{
    *slab = (struct slab){.region_chunks = SLAB_REGION_CHUNKS_MIN};
    for (uint32_t i = 0; i < SLAB_SMALL_MAX / SLAB_UNIT; i++) list_init(&slab->partial[i]);
    list_init(&slab->regions);
}

static bool large_is_free(const uint64_t *large)
{
    return ((uintptr_t)large & 1) != 0;
}

bool slab_close_some(struct slab *slab, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!list_empty(&slab->regions)) {
            struct slab_region *region = LIST_ITEM(slab->regions.next, struct slab_region, list);
            list_remove(&region->list);
            slab->memory -= region_size(region->count);
            mem_free(region);
        } else if (slab->large_count > 0) {
            uint64_t *large = slab->larges[--slab->large_count];
            if (!large_is_free(large)) mem_free(large);
        } else {
            mem_free(slab->bases);
            mem_free(slab->larges);
            slab_init(slab);
            return false;
        }
    }
    return true;
}

void slab_close(struct slab *slab)
{
    while (slab_close_some(slab, UINT32_MAX)) {}
}

static void list_move(struct list *to, struct list *from)
{
    list_init(to);
    if (list_empty(from)) return;
    to->next = from->next;
    to->prev = from->prev;
    to->next->prev = to;
    to->prev->next = to;
    list_init(from);
}

void slab_move(struct slab *to, struct slab *from)
{
    *to = *from;
    for (uint32_t i = 0; i < SLAB_SMALL_MAX / SLAB_UNIT; i++) {
        list_move(&to->partial[i], &from->partial[i]);
    }
    list_move(&to->regions, &from->regions);
    slab_init(from);
}

bool slab_full(const struct slab *slab)
{
    return slab->base_count >= FULL_REGIONS || slab->large_count >= LARGES_MAX / 8 * 7;
}

/* ---- regions --------------------------------------------------------------------------------- */

/* The array of numbered pointers, with room for one more than @count. */
static void *numbers_grow(struct slab *slab, void *array, uint32_t count, uint32_t *capacity)
{
    if (count < *capacity) return array;
    const uint32_t more = *capacity == 0 ? NUMBERS_MIN : *capacity;
    slab->memory += more * sizeof(void *);
    *capacity += more;
    return mem_resize(array, *capacity * sizeof(void *));
}

static uint32_t region_number(struct slab *slab)
{
    uint32_t number = slab->base_free;
    while (number < slab->base_count && slab->bases[number] != NULL) number++;
    slab->base_free = number + 1;
    if (number < slab->base_count) return number;
    if (number == SLAB_REGIONS_MAX) fatal(EXIT_BUG, "the index of keys is full");
    slab->bases = numbers_grow(slab, slab->bases, slab->base_count, &slab->base_capacity);
    return slab->base_count++;
}

static struct slab_region *region_create(struct slab *slab)
{
    const uint32_t count = slab->region_chunks - 1;
    const uint64_t size = region_size(count);
    struct slab_region *region = mem_alloc(size);
    const uintptr_t first = align_up((uintptr_t)(region + 1), SLAB_CHUNK_SIZE);
    *region = (struct slab_region){.number = region_number(slab), .count = count, .fresh = count};
    region->chunks = (uint8_t *)region + (first - (uintptr_t)region);
    CHECK(first + (uint64_t)count * SLAB_CHUNK_SIZE <= (uintptr_t)region + size);
    slab->bases[region->number] = region->chunks;
    list_init(&region->list);
    list_append(slab->regions.next, &region->list); /* Before the first: it has room. */
    slab->memory += size;
    if (slab->region_chunks < SLAB_REGION_CHUNKS_MAX) slab->region_chunks *= 2;
    return region;
}

static void region_free(struct slab *slab, struct slab_region *region)
{
    list_remove(&region->list);
    slab->memory -= region_size(region->count);
    slab->bases[region->number] = NULL;
    if (region->number < slab->base_free) slab->base_free = region->number;
    mem_free(region);
}

static struct chunk *chunk_take(struct slab *slab, uint16_t size)
{
    struct slab_region *region = LIST_ITEM(slab->regions.next, struct slab_region, list);
    struct chunk *chunk = NULL;
    if (list_empty(&slab->regions) || region->used == region->count) region = region_create(slab);
    if (region == slab->spare) slab->spare = NULL;
    if (region->free != NULL) {
        chunk = (void *)region->free;
        region->free = region->free->next;
    } else {
        CHECK(region->fresh > 0);
        chunk = (void *)(region->chunks +
                         (region->count - region->fresh) * (uint64_t)SLAB_CHUNK_SIZE);
        region->fresh--;
    }
    region->used++;
    if (region->used == region->count) {
        list_remove(&region->list);
        list_append(&slab->regions, &region->list);
    }
    *chunk = (struct chunk){.region = region, .size = size, .end = sizeof *chunk};
    list_init(&chunk->list);
    list_append(&slab->partial[size / SLAB_UNIT - 1], &chunk->list);
    return chunk;
}

static void chunk_give(struct slab *slab, struct chunk *chunk)
{
    struct slab_region *region = chunk->region;
    struct link *link = (void *)chunk;
    list_remove(&chunk->list);
    link->next = region->free;
    region->free = link;
    if (region->used == region->count) {
        list_remove(&region->list);
        list_append(slab->regions.next, &region->list);
    }
    region->used--;
    if (region->used > 0) return;
    if (slab->spare != NULL) region_free(slab, slab->spare);
    slab->spare = region;
}

/* ---- use ------------------------------------------------------------------------------------- */

static uint32_t alloc_large(struct slab *slab, uint64_t size)
{
    const uint32_t number = slab->large_free;
    if (number == slab->large_count) {
        if (number == LARGES_MAX) fatal(EXIT_BUG, "the index of keys is full");
        slab->larges = numbers_grow(slab, slab->larges, slab->large_count, &slab->large_capacity);
        slab->large_free = ++slab->large_count;
    } else {
        slab->large_free = (uint32_t)((uintptr_t)slab->larges[number] >> 1);
    }
    slab->larges[number] = mem_alloc(size);
    slab->memory += size;
    return SLAB_LARGE_FIRST + number;
}

static void free_large(struct slab *slab, uint32_t number, uint64_t size)
{
    CHECK(number < slab->large_count);
    CHECK(!large_is_free(slab->larges[number]));
    slab->memory -= size;
    mem_free(slab->larges[number]);
    slab->larges[number] = (uint64_t *)((uintptr_t)slab->large_free << 1 | 1);
    slab->large_free = number;
}

static bool chunk_full(const struct chunk *chunk)
{
    return chunk->free == 0 && chunk->end + chunk->size > (int)SLAB_CHUNK_SIZE;
}

/* Where the slot at @unit of @chunk, which is free, holds the next free one. */
static uint16_t *slot_next(const struct chunk *chunk, uint32_t unit)
{
    return (void *)((uint8_t *)(uintptr_t)chunk + (uint64_t)unit * SLAB_UNIT);
}

uint32_t slab_alloc(struct slab *slab, uint64_t size)
{
    CHECK(size > 0);
    CHECK(size % SLAB_UNIT == 0);
    slab->used += size;
    if (size > SLAB_SMALL_MAX) return alloc_large(slab, size);
    struct list *partial = &slab->partial[size / SLAB_UNIT - 1];
    struct chunk *chunk = list_empty(partial) ? chunk_take(slab, (uint16_t)size)
                                              : LIST_ITEM(partial->next, struct chunk, list);
    uint32_t unit = chunk->free;
    if (unit != 0) {
        chunk->free = *slot_next(chunk, unit);
    } else {
        unit = chunk->end / SLAB_UNIT;
        chunk->end = (uint16_t)(chunk->end + size);
    }
    chunk->used++;
    if (chunk_full(chunk)) list_remove(&chunk->list);
    const struct slab_region *region = chunk->region;
    const uint64_t before = (uint64_t)((const uint8_t *)chunk - region->chunks) / SLAB_UNIT;
    return region->number * SLAB_REGION_UNITS + (uint32_t)before + unit;
}

void slab_free(struct slab *slab, uint32_t ref, uint64_t size)
{
    CHECK(size <= slab->used);
    slab->used -= size;
    if (ref >= SLAB_LARGE_FIRST) {
        CHECK(size > SLAB_SMALL_MAX);
        free_large(slab, ref - SLAB_LARGE_FIRST, size);
        return;
    }
    const uint32_t unit = ref % CHUNK_UNITS;
    struct chunk *chunk = slab_at(slab, ref - unit);
    CHECK(chunk->size == size);
    CHECK(chunk->used > 0);
    if (chunk_full(chunk)) list_append(&slab->partial[size / SLAB_UNIT - 1], &chunk->list);
    *slot_next(chunk, unit) = chunk->free;
    chunk->free = (uint16_t)unit;
    chunk->used--;
    if (chunk->used == 0) chunk_give(slab, chunk);
}

/* ---- check ----------------------------------------------------------------------------------- */

static uint64_t check_regions(const struct slab *slab)
{
    bool full = false;
    uint64_t memory = 0;
    uint32_t count = 0;
    for (const struct list *at = slab->regions.next; at != &slab->regions; at = at->next) {
        const struct slab_region *region = LIST_ITEM(at, struct slab_region, list);
        CHECK(region->used <= region->count);
        if (full) CHECK(region->used == region->count);
        full = region->used == region->count;
        CHECK((region->used == 0) == (region == slab->spare));
        CHECK(region->number < slab->base_count);
        CHECK(slab->bases[region->number] == region->chunks);
        uint32_t free = region->fresh;
        for (const struct link *link = region->free; link != NULL; link = link->next) free++;
        CHECK(free + region->used == region->count);
        memory += region_size(region->count);
        count++;
    }
    for (uint32_t i = 0; i < slab->base_count; i++) {
        if (slab->bases[i] == NULL) CHECK(i >= slab->base_free);
        count -= slab->bases[i] != NULL;
    }
    CHECK(count == 0);
    return memory;
}

static uint32_t check_larges(const struct slab *slab)
{
    uint32_t count = 0;
    uint32_t free = 0;
    for (uint32_t i = 0; i < slab->large_count; i++) {
        if (!large_is_free(slab->larges[i])) count++;
    }
    for (uint32_t i = slab->large_free; i < slab->large_count; free++) {
        CHECK(large_is_free(slab->larges[i]));
        i = (uint32_t)((uintptr_t)slab->larges[i] >> 1);
    }
    CHECK(count + free == slab->large_count);
    return count;
}

void slab_check(const struct slab *slab)
{
    uint64_t memory = check_regions(slab);
    memory += ((uint64_t)slab->base_capacity + slab->large_capacity) * sizeof(void *);
    for (uint32_t i = 0; i < SLAB_SMALL_MAX / SLAB_UNIT; i++) {
        const struct list *partial = &slab->partial[i];
        for (const struct list *at = partial->next; at != partial; at = at->next) {
            const struct chunk *chunk = LIST_ITEM(at, struct chunk, list);
            CHECK(chunk->size == (i + 1) * SLAB_UNIT);
            CHECK(!chunk_full(chunk));
            CHECK(chunk->used > 0);
            uint32_t slots = chunk->used;
            for (uint32_t unit = chunk->free; unit != 0; unit = *slot_next(chunk, unit)) slots++;
            CHECK(sizeof *chunk + slots * chunk->size == chunk->end);
        }
    }
    CHECK(memory <= slab->memory);
    if (check_larges(slab) == 0) CHECK(memory == slab->memory);
    CHECK(slab->used <= slab->memory);
}
